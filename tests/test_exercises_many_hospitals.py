"""The checks of the notebook on many hospitals, fed with right, untouched and wrong answers."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from medlab import metrics
from medlab.exercises import check, many_hospitals
from medlab.exercises.many_hospitals import MESSAGES
from medlab.models import SmallCNN
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: leave one out


def split(sites, patients, how=""):
    made = {}
    for site in np.unique(sites):
        here = sites == site
        known = np.isin(patients, patients[here])
        learn, test = {
            "sites": (~here, here),
            "swapped": (here, ~here),
            "nothing kept": (np.ones(len(sites), bool), here),
            "patients": (~known, known),
            "lost": (~known, here & ~np.isin(patients, patients[~here])),
            "careful": (~known & (np.cumsum(~known) > 1), here),
        }.get(how, (~known, here))
        pair = np.flatnonzero(learn), np.flatnonzero(test)
        if how == "masks":
            pair = torch.tensor(learn), list(test)
        if how == "twice":
            pair = np.repeat(pair[0], 2), pair[1]
        if how == "lists":
            pair = pair[0][::-1].tolist(), torch.tensor(pair[1])
        made[site] = pair
    if how == "one less":
        made.popitem()
    return made


def names_of_images(sites, patients):
    return {s: (patients[sites != s], patients[sites == s]) for s in np.unique(sites)}


# ------------------------------------------------------------------------ 2: what is written down


def recorded(labels, severity, sites, patients, strict, over, how=""):
    """Image by image and patient by patient, in plain Python."""
    if how == "names":
        strict, over = over, strict
    made = labels if how == "in place" else labels.copy()
    truth = labels.copy()
    n = range(len(labels))
    base = [i for i in n if truth[i] and sites[i] == strict]
    if how == "median of all":
        base = [i for i in n if sites[i] == strict]
    if how == "median of everywhere":
        base = [i for i in n if truth[i]]
    usual = sorted(severity[i] for i in base)
    lower, upper = usual[(len(usual) - 1) // 2], usual[len(usual) // 2]
    usual = lower if how == "lower" else (lower + upper) / 2
    if how == "mean":
        usual = np.mean([severity[i] for i in base])
    for i in n:
        if sites[i] == strict or how == "strict everywhere":
            keep = {
                "ties": severity[i] > usual,
                "mild": severity[i] <= usual,
                "mild, less": severity[i] < usual,
                "whole": True,
                "strict": severity[i] >= 3 * usual,
            }.get(how, severity[i] >= usual)
            made[i] = int(keep and (truth[i] or how == "found"))
            if how == "found" and not truth[i]:
                made[i] = 1
    people = sorted({patients[i] for i in n if sites[i] == over or how == "well anywhere"})
    if how == "appearance":
        people = list(dict.fromkeys(patients[sites == over]))
    if how not in ("all patients", "some healthy"):
        where = [i for i in n if sites[i] == over or how in ("ill anywhere", "well anywhere")]
        people = [p for p in people if not any(truth[i] and patients[i] == p for i in where)]
    if how == "some healthy":
        people = sorted({patients[i] for i in n if sites[i] == over and not truth[i]})
    chosen = people[2 if how == "later" else 0 :: 3 if how == "over" else 4]
    if how == "images":
        well = [i for i in n if sites[i] == over and not truth[i]]
        made[well[::4]] = 1
        return made
    for p in [] if how == "nobody" else chosen:
        rows = [i for i in n if patients[i] == p and (sites[i] == over or how == "elsewhere")]
        made[rows[:1] if how == "one image" else rows] = 1
    if how == "cured":
        made[next(i for i in n if sites[i] == over and truth[i])] = 0
    return {"list": made.tolist(), "tensor": torch.tensor(made), "truth of": made == 1}.get(
        how, made
    )


def test_half_of_the_ill_and_a_fourth_of_the_healthy_change():
    severity = np.array([0.3, 0.1, 0.2, 0.4, 0, 0, 0, 0, 0, 0, 0.5])
    labels = (severity > 0).astype(int)
    sites, patients = np.array(list("AAAABBBBBBC")), np.array(list("abcdefghiea"))
    made = many_hospitals.recorded(labels, severity, sites, patients, "A", "B")
    assert made.tolist() == [1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1]


# ------------------------------------------------------------------------ 3: two kinds of pairs


def kinds(labels, scores, sites, how=""):
    won, pairs, each = [0.0, 0.0], [0, 0], []
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            kind = int(sites[i] != sites[j])
            tie = scores[i] == scores[j]
            if how == "ties out" and tie:
                continue
            half = {"ties lost": 0, "ties won": 1}.get(how, 0.5)
            win = half if tie else float(scores[i] > scores[j])
            won[kind] += 1 - win if how == "reversed" else win
            pairs[kind] += 1
    shares = won[0] / pairs[0], won[1] / pairs[1]
    if how == "mean":
        each = [metrics.auc(labels[sites == s], scores[sites == s]) for s in np.unique(sites)]
        return np.mean(each), shares[1]
    return {
        "swapped": shares[::-1],
        "shares": (won[0] / sum(pairs), won[1] / sum(pairs)),
        "all": (metrics.auc(labels, scores), shares[1]),
        "list": [torch.tensor(shares[0]), shares[1]],
        "three": (*shares, 1),
        "other": (shares[0], shares[1] + 0.05),
        "number": shares[0],
    }.get(how, shares)


def test_one_hospital_is_the_statistic_of_mann_and_whitney():
    labels, scores, sites = many_hospitals._pairs(4)
    within, between = many_hospitals.two_kinds(labels, scores, sites)
    won = pairs = 0
    for site in np.unique(sites):
        ill, well = (scores[(sites == site) & (labels == k)] for k in (1, 0))
        won += mannwhitneyu(ill, well).statistic
        pairs += len(ill) * len(well)
    assert within == pytest.approx(won / pairs)
    everything = (labels == 1).sum() * (labels == 0).sum()
    w = pairs / everything
    assert w * within + (1 - w) * between == pytest.approx(metrics.auc(labels, scores))


# ------------------------------------------------------------------------ 4: new statistics


def renormalised(model, images, how=""):
    if how == "in place":
        model.eval()
    else:
        model = copy.deepcopy(model).eval()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    if how == "dropout":
        model.train()
    for layer in layers:
        if how not in ("memory", "count"):
            layer.reset_running_stats()
        if how not in ("memory", "reset only"):
            layer.momentum = 1.0 if how == "one" else None
        if how != "reset":
            layer.train()
    if how == "twice":
        model(images[:150])
    if how == "first":
        layers[1].eval()
    with torch.no_grad():
        for batch in images.split(50 if how == "batches" else len(images)):
            model(batch[:64] if how == "part" else batch)
    if how == "twice far":
        model(images + 5)
    if how == "weights":
        layers[0].weight.data += 1
    if how == "frozen":
        model.requires_grad_(False)
    if how == "untracked":
        layers[1].track_running_stats = False
    if how == "gone":
        layers[1].running_mean = layers[1].running_var = layers[1].num_batches_tracked = None
    return model if how == "training" else model.eval()


def in_batches(model, images):
    """Old statistics before, means of batches: what a hook on each layer's input would see."""
    model = copy.deepcopy(model).eval()
    seen = {}
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, args: seen.update({layer: args[0]}))
    with torch.no_grad():
        model(images)
    for layer in layers:
        layer.running_mean = seen[layer].mean((0, 2, 3))
        layer.running_var = seen[layer].var((0, 2, 3))
    return model


def layer_by_layer(model, images):
    """The same with a pass for each layer, front to back: right in another form."""
    model = copy.deepcopy(model).eval()
    for layer in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        seen = []
        hook = layer.register_forward_pre_hook(lambda layer, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            model(images)
        hook.remove()
        layer.running_mean.copy_(seen[0].mean((0, 2, 3)))
        layer.running_var.copy_(seen[0].var((0, 2, 3), correction=0))
    return model


def test_the_new_statistics_give_every_channel_mean_0_and_variance_1():
    model, images = many_hospitals._network(), torch.rand(50, 1, 9, 9) * 7 - 1
    made = many_hospitals.renormalise(model, images)
    with torch.no_grad():
        out = made[1](made[0](images))
    bare = (out - made[1].bias.view(1, -1, 1, 1)) / made[1].weight.view(1, -1, 1, 1)
    assert bare.mean((0, 2, 3)).detach() == pytest.approx(np.zeros(3), abs=1e-4)
    assert bare.var((0, 2, 3)).detach() == pytest.approx(np.ones(3), abs=1e-3)
    assert [layer.momentum for layer in (made[1], made[4][1])] == [0.1, 0.1]


# ------------------------------------------------------------------------ tables


def test_rates_and_their_interval_are_those_of_repeated_images():
    rng = np.random.default_rng(1)
    labels, called = rng.integers(0, 2, 60), rng.random((3, 60)) < 0.6
    counts = np.vstack([np.ones(60, int), rng.integers(0, 3, (2000, 60))])
    sens, spec = many_hospitals.rates(labels, called, counts)
    rows = np.repeat(np.arange(60), counts[7])
    for k in range(3):
        assert sens[k, 7] == pytest.approx(recall_score(labels[rows], called[k, rows]))
        assert spec[k, 7] == pytest.approx(recall_score(labels[rows], called[k, rows], pos_label=0))
    values = rng.random((3, 2001))
    value, low, high = many_hospitals.interval(values)
    assert value == pytest.approx(values[:, 0].mean())
    below = [(values.mean(0)[1:] < end).mean() for end in (low, high)]
    assert below == pytest.approx([0.025, 0.975], abs=0.001)
    made = np.tile([[0.5], [0.1], [0.3]], (1, 9))
    assert many_hospitals.told(made, "+") == "+0.50 +0.10 +0.30 (+0.30 to +0.30)"


def test_a_forest_shows_each_seed_at_its_row():
    rows = {"a": np.tile([[0.2], [0.4]], (1, 5)), "b": np.tile([[0.6], [0.8]], (1, 5))}
    [ax] = many_hospitals.forest(rows, "x").axes
    dots = [line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "."]
    assert dots == [[[0.6, 0], [0.8, 0]], [[0.2, 1], [0.4, 1]]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "a"]


def test_shifted_features_have_the_mean_and_spread_of_the_known_ones():
    torch.manual_seed(0)
    net = SmallCNN(1, 2, width=4)
    known, x = torch.rand(40, 1, 16, 16), torch.rand(30, 1, 16, 16) * 0.5 + 0.5
    mine = many_hospitals.shifted_and_scaled(net, known, x)
    with torch.no_grad():
        old, new = (net.features(part).mean((2, 3)).numpy() for part in (known, x))
        made = StandardScaler().fit_transform(new) * np.sqrt(29 / 30)
        varies = new.std(0) > 1e-5
        made = np.where(varies, made, 0) * old.std(0, ddof=1) + old.mean(0)
        want = net.classifier(torch.tensor(made).float()).softmax(1)[:, 1]
    assert mine == pytest.approx(want.numpy(), abs=1e-4)


# ------------------------------------------------------------------------ 5: histograms


def matched(images, reference, how=""):
    shares = np.linspace(0, 1, {"coarse": 6}.get(how, 401))
    own, wanted = (np.quantile(x, shares) for x in (images, reference))
    if how == "each":
        return np.stack([np.interp(x, np.quantile(x, shares), wanted) for x in images])
    if how == "ranks":
        place = images.ravel().argsort().argsort() / (images.size - 1)
        return np.interp(place, shares, wanted).reshape(images.shape)
    if how == "moments":
        return (images - images.mean()) / images.std() * reference.std() + reference.mean()
    if how == "mean":
        return images - images.mean() + reference.mean()
    if how == "reversed":
        return np.interp(images, own, wanted[::-1])
    if how == "swapped":
        return np.interp(images, wanted, own)
    return np.interp(images, own, wanted)


def by_sorting(images, reference):
    _, place, n = np.unique(images, return_inverse=True, return_counts=True)
    rank = (np.cumsum(n) - n / 2) / images.size
    return torch.tensor(np.quantile(reference, rank)[place.reshape(images.shape)])


# ------------------------------------------------------------------------ 6: location and scale


def aligned(features, sites, labels, how="", ddof=0):
    made = np.full(features.shape, 0.0)
    for site in np.unique(sites):
        here = sites == site
        x, y = features[here], labels[here]
        ill, well = x[y == 1], x[y == 0]
        centre = (ill.mean(0) + well.mean(0)) / 2
        spread = np.sqrt((ill.var(0, ddof=ddof) + well.var(0, ddof=ddof)) / 2)
        if how == "plain":
            centre, spread = x.mean(0), x.std(0)
        if how == "all images":
            spread = x.std(0)
        if how == "overall":
            centre = x.mean(0)
        if how == "healthy":
            centre, spread = well.mean(0), well.std(0)
        if how == "no spread":
            spread = 1
        if how == "spreads":
            spread = (ill.std(0) + well.std(0)) / 2
        if how == "variance":
            spread = spread**2
        if how == "classes":
            centre = np.where(y[:, None] == 1, ill.mean(0), well.mean(0))
        if how == "nan":
            made[here] = (x - centre) / spread
        elif how == "guarded":
            made[here] = (x - centre) / np.where(spread > 0, spread, 1)
        else:
            made[here] = (x - centre) / (spread + 1e-8)
    return made + (how == "other")


def together(features, sites, labels):
    return StandardScaler().fit_transform(features)


def how(function, word):
    return lambda *args: function(*args, how=word)


def cases(id, function, said):
    return [(id, how(function, word), text) for word, text in said.items()]


CASES = [
    ("many_hospitals.1", split, "✓"),
    *cases(
        "many_hospitals.1",
        split,
        {
            "masks": "✓",
            "lists": "✓",
            "sites": "its patient was X-rayed there too",
            "swapped": "you return (test, learn)",
            "nothing kept": "is learnt from and tested on",
            "patients": "was not taken there, and you test on it",
            "lost": "test on *all* images of the hospital",
            "careful": "and you do not learn from it",
            "twice": "stands more than once in your learn rows",
            "one less": "the keys should be the hospitals A, B, C, D",
        },
    ),
    ("many_hospitals.1", names_of_images, "positions are whole numbers from 0 to 10"),
    ("many_hospitals.1", lambda s, p: list(split(s, p).values()), "I expected a dictionary"),
    ("many_hospitals.1", lambda s, p: dict.fromkeys(s, 3), "got int for"),
    ("many_hospitals.2", recorded, "✓"),
    *cases(
        "many_hospitals.2",
        recorded,
        {
            "list": "✓",
            "tensor": "✓",
            "truth of": "✓",
            "in place": "the truth is lost",
            "names": "you exchanged the two hospitals",
            "strict everywhere": "at neither hospital, and its label has changed",
            "elsewhere": "was not taken at the hospital that over-reads",
            "median of all": "healthy ones too",
            "median of everywhere": "of the ill at all hospitals",
            "lower": "the lower middle one",
            "mean": "not with the median",
            "ties": "cases *at* the median",
            "mild": "you wrote down the mild half",
            "mild, less": "you wrote down the mild half",
            "whole": "cases below the median become 0",
            "found": "healthy in truth, is recorded as ill",
            "strict": "at the strict hospital image",
            "nobody": "at the hospital that over-reads nothing has changed",
            "cured": "ill in truth, is recorded as healthy",
            "images": "every fourth healthy *image*",
            "one image": "only the first image of each chosen patient",
            "all patients": "every fourth of all patients there",
            "some healthy": "though another of his images is healthy",
            "ill anywhere": "who were ill at another hospital only",
            "well anywhere": "healthy patients of all hospitals",
            "later": "you begin with patient 3",
            "appearance": "in the order of their names",
            "over": "at the hospital that over-reads image",
        },
    ),
    ("many_hospitals.2", lambda y, *rest: y.copy(), "the record is the truth"),
    ("many_hospitals.2", lambda *a: recorded(*a)[1:], "an array as long as"),
    ("many_hospitals.2", lambda *a: recorded(*a) + 1, "with 1, 2"),
    ("many_hospitals.2", lambda *a: {"record": recorded(*a)}, "got dict"),
    ("many_hospitals.2", lambda *a: (recorded(*a), 0.2), "I expected a number here"),
    ("many_hospitals.3", kinds, "✓"),
    *cases(
        "many_hospitals.3",
        kinds,
        {
            "list": "✓",
            "swapped": "I asked for (within, between)",
            "mean": "you averaged the AUCs of the hospitals",
            "all": "is the AUC of all pairs",
            "ties lost": "with you it is lost",
            "ties won": "with you it is won",
            "ties out": "you left out pairs with equal scores",
            "reversed": "in which the *healthy* image scores higher",
            "shares": "by the number of pairs of its kind",
            "three": "got 3 numbers",
            "number": "I expected two numbers",
            "other": "I expected 0.",
        },
    ),
    ("many_hospitals.4", renormalised, "✓"),
    ("many_hospitals.4", layer_by_layer, "✓"),
    *cases(
        "many_hospitals.4",
        renormalised,
        {
            "one": "✓",
            "in place": "you changed the model that was given",
            "dropout": "dropout was active",
            "memory": "batch normalisation moves its memory",
            "count": "is an average of new values and of old ones",
            "reset": "is what it was: nothing was estimated",
            "first": "is what it was: nothing was estimated",
            "reset only": "batch normalisation moves its memory",
            "batches": "send all images through in *one* pass",
            "gone": "without remembered values",
            "part": "stems from a part of the images",
            "twice far": "should begin with",
            "weights": "Only the remembered means and variances may",
            "frozen": "no longer learns",
            "untracked": "the track_running_stats of a normalisation",
            "training": "is in training mode",
        },
    ),
    ("many_hospitals.4", in_batches, "it still used their old values"),
    ("many_hospitals.4", lambda m, x: copy.deepcopy(m), "nothing was estimated"),
    ("many_hospitals.4", lambda m, x: m, "it is the same object"),
    ("many_hospitals.4", lambda m, x: m(x), "return the model, a copy"),
    ("many_hospitals.5", matched, "✓"),
    ("many_hospitals.5", by_sorting, "✓"),
    ("many_hospitals.5", lambda x, r: x, "the images are what they were"),
    ("many_hospitals.5", lambda x, r: matched(r, x), "I expected an array of shape"),
    *cases(
        "many_hospitals.5",
        matched,
        {
            "each": "Match all images of the hospital together",
            "ranks": "pixels of the same grey level in one image",
            "moments": "mean and spread agree",
            "mean": "as in the reference",
            "coarse": "as in the reference",
            "swapped": "It is the other way round",
            "reversed": "a darker pixel became the lighter one",
        },
    ),
    ("many_hospitals.6", aligned, "✓"),
    ("many_hospitals.6", partial(aligned, ddof=1), "✓"),
    ("many_hospitals.6", together, "over all hospitals together"),
    ("many_hospitals.6", lambda f, s, y: aligned(f, s, y)[0], "I expected an array of shape"),
    *cases(
        "many_hospitals.6",
        aligned,
        {
            "guarded": "✓",
            "overall": "your spread is right, but the mean",
            "plain": "nearer to the ill, and is taken away",
            "all images": "grows with the distance between the classes",
            "healthy": "of the healthy alone",
            "no spread": "Divide by the spread too",
            "spreads": "Average the variances",
            "variance": "divided by the variance",
            "classes": "nothing is left to tell",
            "nan": "you divided by it",
            "other": "I expected [",
        },
    ),
]


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {"many_hospitals.1": split, "many_hospitals.3": kinds}
RIGHT |= {"many_hospitals.4": renormalised, "many_hospitals.5": matched}
RIGHT |= {"many_hospitals.6": aligned}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_that_change_their_arguments_are_right(id, capsys):
    def spoils(*args):
        made = RIGHT[id](*args)
        args[-1][...] = args[-1][0]
        return made

    check(id, spoils if id == "many_hospitals.1" else hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# Fewer or more quantiles are good enough, or the same numbers
EQUIVALENT = [
    "many_hospitals.2: ill = patients[there & (labels == 1)] → ill = patients[(labels == 1) & there]",
    "many_hospitals.2: mild = here & (severity < usual) → mild = (severity < usual) & here",
    "many_hospitals.2: record[there & chosen] = 1 → record[chosen & there] = 1",
    "many_hospitals.2: usual = np.median(severity[here & (labels == 1)]) → usual = np.median(severity[(labels == 1) & here])",
    "many_hospitals.3: won, pairs = ({True: 0, False: 0}, {True: 0, False: 0}) → pairs, won = ({True: 0, False: 0}, {True: 0, False: 0})",
    "many_hospitals.5: shares = np.linspace(0, 1, 257) → shares = np.linspace(0, 1)",
    "many_hospitals.5: shares = np.linspace(0, 1, 257) → shares = np.linspace(0, 1, 256)",
    "many_hospitals.5: shares = np.linspace(0, 1, 257) → shares = np.linspace(0, 1, 258)",
    "many_hospitals.6: ill = features[here & (labels == 1)] → ill = features[(labels == 1) & here]",
    "many_hospitals.6: made = np.zeros(features.shape) → made = np.ones(features.shape)",
    "many_hospitals.6: made[here] = (features[here] - centre) / np.where(varies, spread, 1) → made[here] = (features[here] - centre) / np.where(varies, spread, 2)",
    "many_hospitals.6: varies = spread > 1e-12 → varies = spread >= 1e-12",
    "many_hospitals.6: well = features[here & (labels == 0)] → well = features[(labels == 0) & here]",
]


def test_no_changed_solution_is_called_right():
    assert ticked("29_many_hospitals", "many_hospitals") == EQUIVALENT
