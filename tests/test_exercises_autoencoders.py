"""Checks of the autoencoders: right answers in several forms, each named mistake, mutants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from torch import nn

from medlab.exercises import check
from medlab.exercises.autoencoders import MESSAGES, _bases, _designs
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: a linear one


def narrow(X, k, steps, *, zero=True, relu=False, layer="last", rate=0.01):
    first, last = nn.Linear(X.shape[1], k, bias=False), nn.Linear(k, X.shape[1], bias=False)
    net = nn.Sequential(first, nn.ReLU(), last) if relu else nn.Sequential(first, last)
    adam = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(steps):
        loss = (net(X) - X).square().mean()
        if zero:
            adam.zero_grad()
        loss.backward()
        adam.step()
    return (last if layer == "last" else first).weight.detach()


def by_hand(X, k, steps):
    """Matrices and plain gradient descent."""
    rng = torch.Generator().manual_seed(0)
    a, b = (0.3 * torch.randn(s, generator=rng) for s in ((X.shape[1], k), (k, X.shape[1])))
    for _ in range(steps):
        wrong = X @ a @ b - X
        a, b = a - 0.02 * X.T @ wrong @ b.T / len(X), b - 0.02 * (X @ a).T @ wrong / len(X)
    return b.T.numpy()


# ------------------------------------------------------------------------ 2: angles


def angles(a, b):
    cosines = torch.linalg.svdvals(torch.linalg.qr(a).Q.T @ torch.linalg.qr(b).Q)
    return cosines.clamp(max=1).arccos().rad2deg()


def cosines(a, b):
    return torch.linalg.svdvals(torch.linalg.qr(a).Q.T @ torch.linalg.qr(b).Q)


def degrees(values):
    return values.clamp(max=1).arccos().rad2deg()


def unit(x):
    return x / x.norm(dim=0)


# ------------------------------------------------------------------------ 3: designs


def designs(height, width, values, how=""):
    found = []
    for depth in range(0 if how == "depth 0" else 1, 3 if how == "short" else 10):
        step = 2**depth
        if (height % step or width % step) and how != "odd":
            break
        places = {"once": height * width // step, "square": (height // step) ** 2}
        count = places.get(how, (height // step) * (width // step)) or 1
        if values % count == 0 or (how == "rounded" and values > count):
            found.append((depth, values // count))
    return found


# ------------------------------------------------------------------------ 4: decibels


def decibels(truth, output, dark, bright, *, span=None, clip=(True, True), pool=False):
    t, o = (x.clamp(dark, bright) if c else x for x, c in zip((truth, output), clip, strict=True))
    error = (t - o).square().flatten(1).mean(1)
    error = error.mean() if pool else error
    return 10 * ((span or bright - dark) ** 2 / error).log10()


def own_range(truth, output, dark, bright):
    return decibels(truth, output, dark, bright, span=(truth.max() - truth.min()).item())


def in_numpy(truth, output, dark, bright):
    pairs = zip(truth.numpy().clip(dark, bright), output.numpy().clip(dark, bright), strict=True)
    return [20 * np.log10((bright - dark) / np.sqrt(np.mean((t - o) ** 2))) for t, o in pairs]


# ------------------------------------------------------------------------ 5: a report


def report(denoise, val, test, strengths, *, choose="val", measure="val", how=""):
    parts = {"val": val, "test": test}
    level = (parts[measure][0] - parts[measure][1]).std()
    noisy, clean, _ = parts[choose]
    cost = [(denoise(noisy, s * level) - clean).square().mean().item() for s in strengths]
    best = strengths[int(np.argmax(cost) if how == "worst" else np.argmin(cost))]
    noisy, clean, patients = test
    used = {"level": best, "test level": best * (test[0] - test[1]).std()}.get(how, best * level)
    each = (denoise(noisy, used) - clean).square().flatten(1).mean(1)
    names = list(dict.fromkeys(patients)) if how == "order" else np.unique(patients)
    mine = [each[torch.tensor(patients == p)].mean().sqrt() for p in names]
    answers = {
        "slices": each.sqrt(),
        "one": [each.mean().sqrt()],
        "squares": [v**2 for v in mine],
        "roots": [each[torch.tensor(patients == p)].sqrt().mean() for p in names],
        "other": [v + 1 for v in mine],
        "short": mine[1:],
        "dict": dict(zip(names, mine, strict=True)),
    }
    return (best * level if how == "strength" else best), answers.get(how, mine)


# ------------------------------------------------------------------------ 6: the bound


def bound(x, encode, decode, noise, spread, how=""):
    mean, log_var = encode(x)
    deviation = {"variance": log_var.exp(), "log": log_var, "no draw": 0}
    code = mean + deviation.get(how, (log_var / 2).exp()) * noise
    if how == "detached":
        code = code.detach()
    if how == "random":
        code = mean + (log_var / 2).exp() * torch.randn_like(mean)
    fit = (decode(code) - x).square().flatten(1).sum(1) / (2 * spread**2)
    kl = (mean**2 + log_var.exp() - 1 - log_var).sum(1) / 2
    n = noise.shape[1]
    each = {
        "no kl": fit, "kl only": kl, "kl sign": fit - kl, "kl mean": fit + kl / n,
        "kl twice": fit + 2 * kl, "pixels": fit / x[0].numel() + kl,
        "spread": fit * 2 * spread**2 + kl, "half": 2 * fit + kl,
    }.get(how, fit + kl)  # fmt: skip
    total = each.sum() if how == "sum" else each.mean()
    return total.item() if how == "item" else each if how == "shape" else total


def by_distributions(x, encode, decode, noise, spread):
    mean, log_var = encode(x)
    q = torch.distributions.Normal(mean, log_var.exp().sqrt())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum()
    pixels = torch.distributions.Normal(decode(q.loc + q.scale * noise), spread)
    constant = pixels.scale.log() + np.log(2 * np.pi) / 2
    return (kl - (pixels.log_prob(x) + constant).sum()) / len(x)


def told(function, how):
    return lambda *args: function(*args, how=how)


ONE, TWO, THREE, FOUR, FIVE, SIX = (f"autoencoders.{k}" for k in range(1, 7))
CASES = [
    (ONE, narrow, "✓"),
    (ONE, by_hand, "✓"),
    (ONE, lambda *t: narrow(*t, layer="first"), "that of the first layer's weights"),
    (ONE, lambda X, k, steps: narrow(X, k, 0), "no better than one drawn at random"),
    (ONE, lambda X, k, steps: narrow(X, k, 60), "goes down and does not arrive"),
    (ONE, lambda *t: narrow(*t, relu=True), "goes down and does not arrive"),
    (ONE, lambda *t: narrow(*t, zero=False), "that were set to 0 before"),
    (ONE, lambda X, k, steps: narrow(X, k, 1200), "with 0 steps I expected"),
    (ONE, lambda X, k, steps: torch.linalg.svd(X).Vh[:k].T, "with 0 steps I expected"),
    (ONE, lambda *t: narrow(*t)[:, :1], "the weights of the last layer, of shape (9, 2)"),
    (ONE, lambda *t: "weights", "the weights of the last layer"),
    (TWO, angles, "✓"),
    (TWO, lambda a, b: np.rad2deg(subspace_angles(a.numpy(), b.numpy())), "✓"),
    (TWO, lambda a, b: angles(a, b).flip(0).tolist(), "✓"),
    (TWO, lambda a, b: list(angles(b, a)), "✓"),
    (TWO, lambda a, b: cosines(a, b).arccos().rad2deg() * (1 if len(a) < 12 else torch.nan),
     "clamp it to 1"),
    (TWO, lambda a, b: degrees(torch.linalg.svdvals(a.T @ b)), "no orthonormal bases"),
    (TWO, lambda a, b: degrees(torch.linalg.svdvals(unit(a).T @ unit(b))), "left them oblique"),
    (TWO, lambda a, b: degrees(torch.linalg.svdvals(torch.linalg.qr(a).Q.T @ b)), "only one of"),
    (TWO, lambda a, b: degrees(torch.linalg.svdvals(a.T @ torch.linalg.qr(b).Q)), "only one of"),
    (TWO, cosines, "Take the arccosine"),
    (TWO, lambda a, b: angles(a, b).deg2rad(), "these are radians"),
    (TWO, lambda a, b: 90 - angles(a, b), "arcsine of the cosines"),
    (TWO, lambda a, b: degrees((unit(a) * unit(b)).sum(0)), "compared columns one by one"),
    (TWO, lambda a, b: angles(a, b).max(), "columns I expected 2 angles"),
    (TWO, lambda a, b: "none", "columns I expected 2 angles"),
    (TWO, lambda a, b: angles(a, b) + 1, "columns in 7 dimensions I expected"),
    (THREE, designs, "✓"),
    (THREE, lambda *t: np.array(designs(*t)), "✓"),
    (THREE, lambda *t: [list(pair) for pair in designs(*t)][::-1], "✓"),
    (THREE, lambda *t: torch.tensor(designs(*t)), "✓"),
    (THREE, lambda *t: 3, "I expected a list of pairs"),
    (THREE, lambda *t: [depth for depth, _ in designs(*t)], "I expected a list of pairs"),
    (THREE, lambda *t: [pair[::-1] for pair in designs(*t)], "I asked for (depth, code)"),
    (THREE, told(designs, "depth 0"), "depth 0 halves nothing"),
    (THREE, told(designs, "odd"), "cannot be halved so often"),
    (THREE, told(designs, "rounded"), "cannot be shared out evenly"),
    (THREE, told(designs, "square"), "not square"),
    (THREE, told(designs, "once"), "divided the pixels by 2^depth once"),
    (THREE, told(designs, "short"), "a depth is missing"),
    (THREE, lambda *t: [(d, c + 1) for d, c in designs(*t)], "values I expected [(3, 1)"),
    (FOUR, decibels, "✓"),
    (FOUR, in_numpy, "✓"),
    (FOUR, lambda *t: decibels(*t)[:, None], "✓"),
    (FOUR, lambda *t: decibels(*t).mean(), "these are the right decibels, averaged"),
    (FOUR, lambda *t: decibels(*t, pool=True), "averaged the error over all images"),
    (FOUR, lambda *t: "good", "I expected one number for each of 4"),
    (FOUR, lambda *t: decibels(*t)[1:], "I expected one number for each of 4"),
    (FOUR, lambda *t: decibels(*t, clip=(False, False)), "you did not clip"),
    (FOUR, lambda *t: decibels(*t, clip=(True, False)), "clipped one of the two"),
    (FOUR, lambda *t: decibels(*t, clip=(False, True)), "clipped one of the two"),
    (FOUR, own_range, "the brightest minus the darkest"),
    (FOUR, lambda t, o, d, b: decibels(t, o, d, b, span=b), "HU begin below 0"),
    (FOUR, lambda *t: 2 * decibels(*t), "or took 10 for 20"),
    (FOUR, lambda *t: decibels(*t) * np.log(10), "the natural logarithm"),
    (FOUR, lambda t, o, d, b: 20 * ((b - d) / (t.clamp(d, b) - o.clamp(d, b)).abs().flatten(
        1).mean(1)).log10(), "averaged absolute errors"),
    (FOUR, lambda *t: -decibels(*t), "upside down"),
    (FOUR, lambda *t: decibels(*t) + 3, "of image 0 I expected"),
    (FIVE, report, "✓"),
    (FIVE, told(report, "dict"), "✓"),
    (FIVE, lambda *t: [torch.tensor(v) for v in report(*t)], "✓"),
    (FIVE, lambda *t: report(*t)[1], "I expected (strength, errors)"),
    (FIVE, lambda *t: 3, "I expected (strength, errors)"),
    (FIVE, told(report, "short"), "I expected (strength, errors)"),
    (FIVE, lambda *t: report(*t, choose="test", measure="test"), "does best on the *test*"),
    (FIVE, lambda *t: report(*t, choose="test"), "does best on the *test*"),
    (FIVE, lambda *t: report(*t, measure="test"), "needs no filter"),
    (FIVE, told(report, "test level"), "needs no filter"),
    (FIVE, told(report, "level"), "applied without the noise level"),
    (FIVE, told(report, "worst"), "with the largest error"),
    (FIVE, lambda *t: (3.5, report(*t)[1]), "is not the best one"),
    (FIVE, told(report, "strength"), "as it stands in `strengths`"),
    (FIVE, told(report, "slices"), "your errors are one a slice"),
    (FIVE, told(report, "order"), "in another order"),
    (FIVE, told(report, "squares"), "these are mean squares"),
    (FIVE, told(report, "roots"), "averaged the roots of slices"),
    (FIVE, told(report, "one"), "one number for all patients"),
    (FIVE, told(report, "other"), "is right; of the errors I expected"),
    (SIX, bound, "✓"),
    (SIX, by_distributions, "✓"),
    (SIX, lambda *t: bound(*t)[None], "✓"),
    (SIX, told(bound, "shape"), "I expected one number, the mean"),
    (SIX, lambda x, encode, *t: bound(x, lambda x: (encode(x)[0], encode(x)[1].log()), *t),
        "is a logarithm already"),
    (SIX, told(bound, "random"), "differs from call to call"),
    (SIX, told(bound, "no draw"), "you decode the mean"),
    (SIX, told(bound, "variance"), "drew with the variance"),
    (SIX, told(bound, "log"), "drew with log_var itself"),
    (SIX, told(bound, "no kl"), "the divergence from the prior is missing"),
    (SIX, told(bound, "kl only"), "the reconstruction is missing"),
    (SIX, told(bound, "kl sign"), "it is a price"),
    (SIX, told(bound, "kl mean"), "averaged the divergence over the code"),
    (SIX, told(bound, "kl twice"), "mind the ½"),
    (SIX, told(bound, "pixels"), "averaged the squared error over pixels"),
    (SIX, told(bound, "spread"), "not divided by 2 · spread²"),
    (SIX, told(bound, "half"), "and the 2 is missing"),
    (SIX, told(bound, "sum"), "you added up the images"),
    (SIX, told(bound, "item"), "no gradient reaches the encoder and the decoder"),
    (SIX, told(bound, "detached"), "no gradient reaches mean by way of the draw"),
    (SIX, lambda *t: bound(*t) + 1, "I expected"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {ONE: narrow, TWO: angles, THREE: designs, FOUR: decibels}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_angles_by_hand_are_scipys():
    for a, b in _bases():
        want = np.sort(np.rad2deg(subspace_angles(a.numpy(), b.numpy())))
        np.testing.assert_allclose(np.sort(angles(a, b)), want, atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 64, 64), (96, 128, 48), (7, 8, 5), (16, 16, 1)])
def test_designs_hold_what_an_autoencoder_makes(shape):
    from medlab.models import Autoencoder

    height, width, values = shape
    for depth, code in _designs(*shape):
        model = Autoencoder(1, code, 2, depth=depth).eval()
        assert model.encode(torch.rand(1, 1, height, width)).numel() == values


# Of what is centred a bias learns nothing, and any rate or sum that arrives has arrived; −X lies in
# the plane of X; no side is as long as 2^12; whole numbers divide without a rest; a square does not
# know its sign; a sum is a multiple of a mean.
EQUIVALENT = [
    "autoencoders.1: adam = torch.optim.Adam(net.parameters(), lr=0.01) → adam = torch.optim.Adam(net.parameters(), lr=1.01)",
    "autoencoders.1: first = nn.Linear(X.shape[1], k, bias=False) → first = nn.Linear(X.shape[1], k)",
    "autoencoders.1: first = nn.Linear(X.shape[1], k, bias=False) → first = nn.Linear(X.shape[1], k, bias=True)",
    "autoencoders.1: for _ in range(steps): → for _ in range(1, steps):",
    "autoencoders.1: for _ in range(steps): → for _ in range(steps + 1):",
    "autoencoders.1: for _ in range(steps): → for _ in range(steps - 1):",
    "autoencoders.1: last = nn.Linear(k, X.shape[1], bias=False) → last = nn.Linear(k, X.shape[1])",
    "autoencoders.1: last = nn.Linear(k, X.shape[1], bias=False) → last = nn.Linear(k, X.shape[1], bias=True)",
    "autoencoders.1: loss = (net(X) - X).square().mean() → loss = (X - net(X)).square().mean()",
    "autoencoders.1: loss = (net(X) - X).square().mean() → loss = (net(X) + X).square().mean()",
    "autoencoders.1: loss = (net(X) - X).square().mean() → loss = (net(X) - X).square().sum()",
    "autoencoders.3: for depth in range(1, 13): → for depth in range(1, 12):",
    "autoencoders.3: for depth in range(1, 13): → for depth in range(1, 14):",
    "autoencoders.3: found.append((depth, values // places)) → found.append((depth, values / places))",
    "autoencoders.3: places = height // step * (width // step) → places = height / step * (width // step)",
    "autoencoders.3: places = height // step * (width // step) → places = height // step * (width / step)",
    "autoencoders.4: error = (shown - wanted).square().flatten(1).mean(1) → error = (wanted - shown).square().flatten(1).mean(1)",
    "autoencoders.4: return 10 * torch.log10((bright - dark) ** 2 / error) → return 10 * torch.log10((dark - bright) ** 2 / error)",
    "autoencoders.5: costs = [(denoise(noisy, s * level) - clean).square().mean() for s in strengths] → costs = [(clean - denoise(noisy, s * level)).square().mean() for s in strengths]",
    "autoencoders.5: costs = [(denoise(noisy, s * level) - clean).square().mean() for s in strengths] → costs = [(denoise(noisy, s * level) - clean).square().sum() for s in strengths]",
    "autoencoders.5: level = (noisy - clean).std() → level = (clean - noisy).std()",
    "autoencoders.5: squares = (denoise(noisy, best * level) - clean).square().flatten(1).mean(1) → squares = (clean - denoise(noisy, best * level)).square().flatten(1).mean(1)",
    "autoencoders.5: squares = (denoise(noisy, best * level) - clean).square().flatten(1).mean(1) → squares = (denoise(noisy, best * level) - clean).square().flatten(2).mean(1)",
    "autoencoders.6: squares = (decode(code) - x).square().flatten(1).sum(1) → squares = (x - decode(code)).square().flatten(1).sum(1)",
]


def test_no_changed_solution_is_called_right():
    assert ticked("21_autoencoders", "autoencoders") == EQUIVALENT
