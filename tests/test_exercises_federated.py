"""The checks of federated learning, fed with right, untouched and typically wrong answers."""

import copy
from dataclasses import replace
from functools import partial
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from sklearn.metrics import roc_auc_score
from torch import nn

import medlab
from medlab.exercises import check, material
from medlab.exercises.federated import MESSAGES
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

done = material("federated")

# ------------------------------------------------------------------------ 1: averages


def mean(states, images, *, weights=None, counter=None, total=None):
    weights = images if weights is None else weights(images)
    total = sum(weights) if total is None else total(weights)
    found = {}
    for name, first in states[0].items():
        if first.is_floating_point():
            found[name] = sum(w * s[name] for w, s in zip(weights, states, strict=True)) / total
        else:
            found[name] = first if counter is None else counter([s[name] for s in states])
    return found


def by_stack(states, images):
    n = np.array(images) / np.sum(images)
    return {
        k: torch.tensor(np.tensordot(n, np.stack([s[k].numpy() for s in states]), 1))
        if v.is_floating_point()
        else v.clone()
        for k, v in states[0].items()
    }


def in_place(states, images):
    found = states[0]
    for name, value in found.items():
        if value.is_floating_point():
            value *= images[0] / sum(images)
            for n, state in zip(images[1:], states[1:], strict=True):
                value += n / sum(images) * state[name]
    return found


def renamed(states, images, change):
    return {**done.average(states, images), "2.bias": change}


# ------------------------------------------------------------------------ 2: rounds


def trained(server, sites, learn, *, weights=len, early=False, model=None):
    states, images = [], []
    shared = copy.deepcopy(server)
    for x, y in sites:
        local = copy.deepcopy(server) if model is None else model(server, shared)
        if early:
            states.append(copy.deepcopy(local.state_dict()))
        learn(local, x, y)
        if not early:
            states.append(local.state_dict())
        images.append(weights(y))
    return done.average(states, images)


def chained(server, sites, learn):
    local, states = copy.deepcopy(server), []
    for x, y in sites:
        learn(local, x, y)
        states.append(copy.deepcopy(local.state_dict()))
    return done.average(states, [len(y) for _, y in sites])


def aliased(server, sites, learn, last=False):
    local, start, states = copy.deepcopy(server), copy.deepcopy(server.state_dict()), []
    for x, y in sites:
        local.load_state_dict(start)
        learn(local, x, y)
        states.append(local.state_dict())
    return states[-1] if last else done.average(states, [len(y) for _, y in sites])


def reset(server, sites, learn):
    """One network for all, set back each time: right, as states are copied."""
    local, states = copy.deepcopy(server), []
    for x, y in sites:
        local.load_state_dict(server.state_dict())
        learn(local, x, y)
        states.append(copy.deepcopy(local.state_dict()))
    local.load_state_dict(done.average(states, [len(y) for _, y in sites]))
    return local


def loads(server, sites, learn):
    server.load_state_dict(done.fed_round(server, sites, learn))
    return server.state_dict()


def fresh(server, shared):
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def crossed(server, sites, learn):
    return done.fed_round(server, [sites[0], *[(x, 1 - y) for x, y in sites[1:]]], learn)


def offset(server, sites, learn):
    return {k: v + 0.25 for k, v in done.fed_round(server, sites, learn).items()}


# ------------------------------------------------------------------------ 3: gains


def word(low, high):
    return "gains" if low > 0 else "loses" if high < 0 else "open"


def judged(federated, alone, *, of=lambda d: d.mean(0), at=(2.5, 97.5)):
    return {k: word(*np.percentile(of(federated[k] - alone[k]), at)) for k in federated}


def normal(federated, alone):
    found = {}
    for name in federated:
        d = (federated[name] - alone[name]).mean(0)
        found[name] = word(*(d.mean() + np.array([-1.96, 1.96]) * d.std()))
    return found


def narrow_sd(federated, alone):
    found = {}
    for name in federated:
        d = (federated[name] - alone[name]).mean(0)
        found[name] = word(*(d.mean() + np.array([-1.96, 1.96]) * d.std() / len(d) ** 0.5))
    return found


def overlap(federated, alone):
    found = {}
    for name in federated:
        a, b = (np.percentile(t[name].mean(0), [2.5, 97.5]) for t in (federated, alone))
        found[name] = word(a[0] - b[1], a[1] - b[0])
    return found


def ends_apart(federated, alone):
    ends = {
        k: [np.percentile(t[k].mean(0), (2.5, 97.5)) for t in (federated, alone)] for k in alone
    }
    return {k: word(*(a - b)) for k, (a, b) in ends.items()}


def seed_by_seed(federated, alone):
    gains = {k: federated[k] - alone[k] for k in alone}
    return {k: word(*np.percentile(d, (2.5, 97.5), axis=1).mean(1)) for k, d in gains.items()}


def by_seeds(federated, alone):
    means = {k: (federated[k] - alone[k]).mean(1) for k in federated}
    return {k: word(d.min(), d.max()) for k, d in means.items()}


def by_error_of_seeds(federated, alone):
    found = {}
    for name in federated:
        d = (federated[name] - alone[name]).mean(1)
        found[name] = word(*(d.mean() + np.array([-1.96, 1.96]) * d.std(ddof=1) / len(d) ** 0.5))
    return found


# ------------------------------------------------------------------------ 4: recovery


def last_unit(W0, b0, W1, b1):
    """What a loop that overwrites its answer returns."""
    k = (b1 != b0).nonzero()[-1].item()
    return (W1 - W0)[k] / (b1 - b0)[k]


def row(W0, b0, W1, b1, *, unit=lambda s: s.abs().argmax(), over=None):
    dW, db = W1 - W0, b1 - b0
    k = unit(db)
    return dW[k] / (db if over is None else over(db))[k]


def least_squares(W0, b0, W1, b1):
    dW, db = W1 - W0, b1 - b0
    return (db[:, None] * dW).sum(0) / (db**2).sum()


def spoiled(W0, b0, W1, b1):
    W1 -= W0
    b1 -= b0
    return W1[b1.abs().argmax()] / b1[b1.abs().argmax()]


def all_rows(W0, b0, W1, b1):
    moved = (b1 - b0).abs() > 0
    return ((W1 - W0)[moved] / (b1 - b0)[moved, None]).mean(0)


# ------------------------------------------------------------------------ 5: masks


def hidden(updates, spread, rng, *, sign=-1, shape=None, draw=torch.randn, pairs=None, one=False):
    count, size = updates.shape
    messages, mask = updates.clone(), None
    for i, j in combinations(range(count), 2) if pairs is None else pairs(count):
        if mask is None or not one:
            mask = spread * draw(size if shape is None else shape, generator=rng)
        messages[i] += mask
        messages[j] += sign * mask
    return messages


def ring(count):
    return [(i, (i + 1) % count) for i in range(count)]


def last_only(updates, spread, rng):
    """The first message stays open."""
    return torch.cat([updates[:1], done.masked(updates[1:], spread, rng)])


def unseeded(updates, spread, rng):
    return done.masked(updates, spread, torch.Generator().manual_seed(torch.seed() % 2**31))


def always(updates, spread, rng):
    return done.masked(updates, spread, torch.Generator().manual_seed(1))


def less_its_mean(updates, spread, rng):
    noise = spread * torch.randn(updates.shape, generator=rng)
    return updates + noise - noise.mean(0)


def masked_in_place(updates, spread, rng):
    updates.copy_(done.masked(updates, spread, rng))
    return updates


CASES = [
    ("federated.1", mean, "✓"),
    ("federated.1", by_stack, "✓"),
    ("federated.1", lambda s, n: list(mean(s, n)), "got list"),
    ("federated.1", lambda s, n: {"0.weight": s[0]["0.weight"]}, "got 0.weight"),
    ("federated.1", partial(renamed, change=torch.zeros(3)), "should be a tensor of shape (4,)"),
    ("federated.1", partial(renamed, change=0.5), "got float"),
    ("federated.1", in_place, "hospital's state has changed"),
    *[
        ("federated.1", partial(mean, counter=counter), "is a counter, a whole number")
        for counter in (max, sum, lambda c: c[-1], lambda c: torch.stack(c).float().mean())
    ],
    ("federated.1", partial(mean, weights=lambda n: [1] * len(n)), "is the plain mean"),
    ("federated.1", partial(mean, total=lambda w: 1), "nobody divided"),
    ("federated.1", partial(mean, total=len), "divided by the number of hospitals"),
    ("federated.1", partial(mean, weights=lambda n: [1 / k for k in n]), "with *fewer* images"),
    ("federated.1", partial(mean, weights=lambda n: [k == max(n) for k in n]), "of the largest"),
    ("federated.1", partial(mean, weights=lambda n: [1] + [0] * (len(n) - 1)), "of the first"),
    ("federated.1", partial(mean, weights=lambda n: [0] * (len(n) - 1) + [1]), "of the last"),
    (
        "federated.1",
        partial(mean, weights=lambda n: [k // sum(n) for k in n], total=lambda w: 1),
        "is 0 throughout",
    ),
    ("federated.1", partial(mean, weights=lambda n: [k**2 for k in n]), "I expected"),
    ("federated.2", trained, "✓"),
    ("federated.2", reset, "✓"),
    ("federated.2", lambda *a: [done.fed_round(*a)], "got list"),
    (
        "federated.2",
        lambda *a: {k: v[:1] if v.ndim else v for k, v in done.fed_round(*a).items()},
        "other entries",
    ),
    ("federated.2", lambda s, sites, learn: trained(s, sites[:1], learn), "called 1 times for 3"),
    ("federated.2", crossed, "hospital 2 learnt from other images"),
    ("federated.2", chained, "hospital 2 did not start from the server's weights, but"),
    (
        "federated.2",
        partial(trained, model=fresh),
        "hospital 1 did not start from the server's weights.",
    ),
    ("federated.2", partial(trained, model=lambda server, shared: server), "but from what another"),
    ("federated.2", loads, "server's own model has changed"),
    ("federated.2", partial(trained, early=True), "*after* `learn`"),
    ("federated.2", aliased, "every state is that of hospital 3"),
    ("federated.2", partial(aliased, last=True), "state of the last hospital alone"),
    ("federated.2", partial(trained, weights=lambda y: 1), "hospitals count alike"),
    ("federated.2", partial(trained, weights=lambda y: int(y.sum())), "ill patients"),
    ("federated.2", offset, "differs from the average"),
    ("federated.3", judged, "✓"),
    ("federated.3", normal, "✓"),
    ("federated.3", lambda f, a: "gains", "got str"),
    ("federated.3", lambda f, a: dict.fromkeys(f, "yes"), "got 'yes'"),
    ("federated.3", overlap, "you compared two intervals"),
    ("federated.3", ends_apart, "you compared two intervals"),
    ("federated.3", seed_by_seed, "the mean over seeds first"),
    ("federated.3", partial(judged, at=(0, 100)), "leaves 2.5 % out"),
    ("federated.3", lambda f, a: judged(a, f), "federated − alone"),
    ("federated.3", partial(judged, of=np.mean), "The sign of the mean"),
    ("federated.3", by_error_of_seeds, "judged by how the seeds differ"),
    ("federated.3", by_seeds, "judged by how the seeds differ"),
    ("federated.3", partial(judged, of=lambda d: d[0]), "the mean over seeds first"),
    ("federated.3", partial(judged, of=np.ravel), "the mean over seeds first"),
    ("federated.3", partial(judged, of=lambda d: np.median(d, 0)), "Gill gains"),
    ("federated.3", partial(judged, at=(5, 95)), "leaves 2.5 % out"),
    ("federated.3", narrow_sd, "*is* the standard error"),
    ("federated.3", lambda f, a: dict.fromkeys(f, "gains"), "by the interval"),
    ("federated.4", row, "✓"),
    ("federated.4", least_squares, "✓"),
    ("federated.4", lambda *a: row(*a)[None].double().tolist()[0], "✓"),
    ("federated.4", lambda *a: a[0], "I expected one image of 9 numbers"),
    ("federated.4", lambda W0, b0, W1, b1: (W1 - W0)[0] / (b1 - b0)[0], "NaN or infinite"),
    ("federated.4", partial(row, unit=lambda s: s.argmax()), "forget negative changes"),
    ("federated.4", partial(row, unit=lambda s: s.argmin()), "forget negative changes"),
    ("federated.4", partial(row, unit=lambda s: (s != 0).nonzero()[0].item()), "hardly moved"),
    ("federated.4", last_unit, "hardly moved"),
    ("federated.4", lambda *a: -row(*a), "the image's negative"),
    ("federated.4", partial(row, over=lambda s: torch.full_like(s, 0.1)), "multiple of the image"),
    ("federated.4", lambda W0, b0, W1, b1: W1[0] / b1[0], "Divide their *changes*"),
    ("federated.4", lambda W0, b0, W1, b1: (W1 - W0).sum(0) / (b1 - b0).sum(), "added up units"),
    ("federated.4", all_rows, "mostly rounding in it"),
    ("federated.4", spoiled, "changed its arguments"),
    ("federated.4", lambda W0, b0, W1, b1: torch.zeros(W0.shape[1]), "differs from the true one"),
    ("federated.5", hidden, "✓"),
    ("federated.5", lambda *a: list(hidden(*a)), "✓"),
    ("federated.5", lambda *a: hidden(*a).sum(0), "messages of shape (6, 2000)"),
    ("federated.5", last_only, "hospital 1 is its update"),
    ("federated.5", partial(hidden, sign=1), "add up to something else"),
    ("federated.5", partial(hidden, shape=1), "a mask of one number"),
    ("federated.5", partial(hidden, one=True), "multiples of one another"),
    ("federated.5", partial(hidden, pairs=ring), "hospitals 1 and 3 share no mask"),
    ("federated.5", partial(hidden, draw=torch.rand), "do not have mean 0"),
    ("federated.5", less_its_mean, "this is noise less its mean"),
    ("federated.5", lambda u, s, r: hidden(u, s / 2, r), "where 10 was asked for"),
    ("federated.5", partial(hidden, pairs=lambda n: permutations(range(n), 2)), "two masks"),
    ("federated.5", unseeded, "the same state of `rng`"),
    ("federated.5", always, "two states of `rng`"),
    ("federated.5", masked_in_place, "changed the updates"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {"federated.3": judged, "federated.4": row}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_that_change_their_arguments_afterwards(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert "your code stopped" not in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# The same numbers, other names for them, or an interval of 94 or 96 %
EQUIVALENT = [
    "federated.2: states, images = ([], []) → images, states = ([], [])",
    "federated.3: gain = (federated[name] - alone[name]).mean(0) → gain = (federated[name] - alone[name]).sum(0)",
    "federated.3: if high < 0: → if high <= 0:",
    "federated.3: if low > 0: → if low >= 0:",
    "federated.3: low, high = np.percentile(gain, [2.5, 97.5]) → low, high = np.percentile(gain, [1.5, 97.5])",
    "federated.3: low, high = np.percentile(gain, [2.5, 97.5]) → low, high = np.percentile(gain, [2.5, 96.5])",
    "federated.3: low, high = np.percentile(gain, [2.5, 97.5]) → low, high = np.percentile(gain, [2.5, 98.5])",
    "federated.3: low, high = np.percentile(gain, [2.5, 97.5]) → low, high = np.percentile(gain, [3.5, 97.5])",
    "federated.5: for i in range(len(updates)): → for i in range(1, len(updates)):",
    "federated.5: for j in range(i): → for j in range(i + 1):",
]


def test_no_changed_solution_is_called_right():
    assert ticked("30_federated_learning", "federated") == EQUIVALENT


def test_a_change_of_weights_is_autograds_step():
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(3, 1, 4, 4, generator=rng), torch.tensor([0, 1, 1])
    dW, db = done.change(images[:1], labels[:1])
    moved = db.abs() > 0
    assert torch.allclose((dW[moved] / db[moved, None]).float(), images[0].view(1, -1))


def test_a_pass_meets_every_image_once():
    rng, seen = torch.Generator().manual_seed(0), []
    model = nn.Linear(1, 2, bias=False).eval()
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten()))
    start = model.weight.detach().clone()
    images, labels = torch.arange(40.0)[:, None] / 40, torch.arange(40) % 2
    done.learn(model, images, labels, 0.1, rng)
    assert [len(batch) for batch in seen] == [32, 8]
    assert torch.equal(torch.cat(seen).sort().values, images.flatten())
    assert model.training
    weight = start
    for x in seen:  # the gradient of the cross-entropy in closed form: (p − y) x
        p = (x[:, None] @ weight.T).softmax(1)
        y = nn.functional.one_hot(labels[(x * 40).round().long()], 2)
        weight = weight - 0.1 * (p - y).T @ x[:, None] / len(x)
    assert torch.allclose(model.weight, weight, atol=1e-6)


def test_the_nearest_is_scikit_images():
    rng = torch.Generator().manual_seed(0)
    images, found = torch.rand(3, 1, 5, 5, generator=rng), torch.rand(4, 1, 5, 5, generator=rng)
    near, psnr = done.nearest(images, found)
    for image, row, value in zip(images, near, psnr, strict=True):
        every = [peak_signal_noise_ratio(image.numpy(), f.numpy(), data_range=1.0) for f in found]
        assert torch.equal(row, found[int(np.argmax(every))])
        assert value.item() == pytest.approx(max(every), rel=1e-5)


def test_judge_gives_the_auc_and_its_resamples():
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(40, 2, generator=rng), torch.arange(40) % 2
    patients = np.arange(40) // 2
    judged = done.judge([(images, labels, patients), (images, labels, None)], draws=50)
    table = judged([nn.Identity(), nn.Identity()])
    scores = (images[:, 1] - images[:, 0]).numpy()
    assert table.shape == (2, 51)
    assert table[0, 0] == pytest.approx(roc_auc_score(labels.numpy(), scores))
    assert not np.allclose(table[0, 1:], table[1, 1:])  # patients are drawn, not images


def test_stand_ins_keep_patients_whole():
    cohort = replace(medlab.load("chest_xray", n=60, size=32), sites=None)
    found = done.with_sites(cohort)
    level = {p: cohort.images[cohort.patients == p].float().mean() for p in set(cohort.patients)}
    site = {p: set(found.sites[cohort.patients == p]) for p in level}
    assert all(len(names) == 1 for names in site.values())
    order = [min(site[p]) for p in sorted(level, key=level.get)]
    assert len(set(order)) == 6
    assert order[0] == "group 1"
    assert order[-1] == "group 6"
