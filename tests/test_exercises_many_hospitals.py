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


# ------------------------------------------------------------------------ 2: claims


def claims(values, how=""):
    """With loops and sorted lists, the quantiles of which are read off by hand."""
    seeds = [row[0] for row in values]
    if how == "resample":
        seeds = [row[1] for row in values]
    share = 0.05 if how == "ninety" else 0.025

    def ends(drawn):
        drawn = sorted(drawn)
        place = share * (len(drawn) - 1)
        k, part = int(place), place % 1
        turned = drawn[::-1]
        return [x[k] + part * (x[k + 1] - x[k]) for x in (drawn, turned)]

    rows = [list(row[1:]) for row in values]
    centres = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    if how == "median":
        centres = [sorted(column)[1] for column in zip(*rows, strict=True)]
    low, high = ends(centres)
    if how == "together":
        low, high = ends([x for row in rows for x in row])
    if how == "ends":
        low, high = np.mean([ends(row) for row in rows], axis=0)
    up, down = all(x > 0 for x in seeds), all(x < 0 for x in seeds)
    above, below = low > 0, high < 0
    if how == "zero":
        up, down = all(x >= 0 for x in seeds), all(x <= 0 for x in seeds)
        above, below = low >= 0, high <= 0
    if how == "each":
        each = [ends(row) for row in rows]
        above, below = all(e[0] > 0 for e in each), all(e[1] < 0 for e in each)
    right = (up and above) or (down and below)
    return {
        "seeds": up or down,
        "interval": above or below,
        "either": up or down or above or below,
        "gains": up and above,
        "opposite": not right,
        "always": True,
        "number": float(right),
        "numpy": np.bool_(right),
        "tensor": torch.tensor(right),
        "two": (up, above),
        "mean": sum(seeds) / 3,
    }.get(how, right)


def test_a_claim_needs_every_seed_and_the_interval():
    effects = many_hospitals._effects()
    found = [many_hospitals.claimed(values) for values in effects]
    half = [True, *[False] * 4, *[True] * 3, False, True, *[False] * 3]
    assert found == half * 2
    assert found == [claims(values) for values in effects]


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
    assert many_hospitals.told(made, "+") == "+0.30 (+0.30 to +0.30) *"


def test_a_star_is_given_to_signed_claims():
    for values in many_hospitals._effects():
        assert many_hospitals.told(values, "+").endswith("*") == claims(values)
        assert "*" not in many_hospitals.told(values)


def test_rows_are_parted_by_patient_and_by_seed():
    patients = np.repeat(np.arange(20), 3)[np.random.default_rng(1).permutation(60)]
    rows = np.flatnonzero(patients != 4)
    learn, rest = many_hospitals.parted(rows, patients, seed=2, n=25)
    assert len(learn) == 25
    assert not set(patients[learn]) & set(patients[rest])
    cut = patients == patients[learn[-1]]  # the patient whose images are divided does not validate
    assert set(learn) | set(rest) | set(np.flatnonzero(cut)) == set(rows)
    assert len(set(patients[learn])) == 9
    other, _ = many_hospitals.parted(rows, patients, seed=3, n=25)
    assert set(patients[other]) != set(patients[learn])


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
    ("many_hospitals.2", claims, "✓"),
    *cases(
        "many_hospitals.2",
        claims,
        {
            "number": "✓",
            "numpy": "✓",
            "tensor": "✓",
            "two": "I expected True or False; got tuple",
            "mean": "I expected True or False; got float",
            "opposite": "True where nothing may be claimed",
            "seeds": "you asked the seeds only",
            "interval": "you asked the interval only",
            "either": "one of the two was enough",
            "gains": "you claim gains only",
            "each": "of every seed",
            "ends": "you averaged the ends",
            "together": "of all rows together",
            "ninety": "holds 90 %",
            "zero": "0 has no sign",
            "always": "seeds [0.12, -0.01, 0.09]",
            "median": "I expected False; got True",
            "resample": "I expected True; got False",
        },
    ),
    ("many_hospitals.2", lambda v: v[:, 0] > 0, "got ndarray"),
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


RIGHT = {"many_hospitals.1": split, "many_hospitals.2": claims, "many_hospitals.3": kinds}
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


# One resample more or less, fewer or more quantiles are good enough, or the same numbers
EQUIVALENT = [
    "many_hospitals.2: low, high = np.quantile(values[:, 1:].mean(axis=0), [0.025, 0.975]) → low, high = np.quantile(values[:, 0:].mean(axis=0), [0.025, 0.975])",
    "many_hospitals.2: low, high = np.quantile(values[:, 1:].mean(axis=0), [0.025, 0.975]) → low, high = np.quantile(values[:, 1:-1].mean(axis=0), [0.025, 0.975])",
    "many_hospitals.2: low, high = np.quantile(values[:, 1:].mean(axis=0), [0.025, 0.975]) → low, high = np.quantile(values[:, 1:].sum(axis=0), [0.025, 0.975])",
    "many_hospitals.2: low, high = np.quantile(values[:, 1:].mean(axis=0), [0.025, 0.975]) → low, high = np.quantile(values[:, :].mean(axis=0), [0.025, 0.975])",
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
