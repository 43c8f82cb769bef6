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


def narrow(X, k, steps, *, zero=True, relu=False, layer="last", rate=0.01, held=None):
    first, last = nn.Linear(X.shape[1], k, bias=False), nn.Linear(k, X.shape[1], bias=False)
    net = nn.Sequential(first, nn.ReLU(), last) if relu else nn.Sequential(first, last)
    adam = torch.optim.Adam((net if held is None else net[held]).parameters(), lr=rate)
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
        rest = {"odd": 0, "one side": height % step}.get(how, height % step or width % step)
        if rest:
            break
        places = {"once": height * width // step, "square": (height // step) ** 2}
        count = places.get(how, (height // step) * (width // step)) or 1
        if values % count == 0 or (how == "rounded" and values > count):
            found.append((depth, values // count))
    return found


# ------------------------------------------------------------------------ 4: what one number hears


def needed(errors, alarm, contrast, pixels, *, least=0, whole=torch.ceil):
    found = whole((alarm - errors) * pixels / contrast**2)
    return found if least is None else found.clamp(min=least)


def counted_up(errors, alarm, contrast, pixels):
    """One pixel more until the alarm is reached."""
    counts = []
    for error in errors.tolist():
        squares, count = error * pixels, 0
        while squares + count * contrast**2 < alarm * pixels:
            count += 1
        counts.append(count)
    return counts


# ------------------------------------------------------------------------ 5: the bound


def bound(x, encode, decode, noise, spread, how=""):
    mean, log_var = encode(x)
    deviation = {"log": log_var, "no draw": 0}
    deviation |= dict.fromkeys(("variance", "log sigma"), log_var.exp())
    code = mean + deviation.get(how, (log_var / 2).exp()) * noise
    if how == "detached":
        code = code.detach()
    if how == "random":
        code = mean + (log_var / 2).exp() * torch.randn_like(mean)
    fit = (decode(code) - x).square().flatten(1).sum(1) / (2 * spread**2)
    price = {
        "log sigma": (2 * log_var).exp() - 1 - 2 * log_var, "kl exp": 0 * log_var - 1,
        "kl root": (log_var / 2).exp() - 1 - log_var, "kl log": log_var.exp() - 1 + log_var,
        "kl half": log_var.exp() - 1 - log_var / 2,
        "kl halves": (log_var / 2).exp() - 1 - log_var / 2,
    }.get(how, log_var.exp() - 1 - log_var)  # fmt: skip
    kl = (mean**2 + price).sum(1) / 2
    n = noise.shape[1]
    each = {
        "no kl": fit, "kl only": kl, "kl sign": fit - kl, "kl mean": fit + kl / n,
        "kl sum": fit + kl.sum(),
        "both means": fit / x[0].numel() + kl / n, "negative": -fit - kl,
        "spread once": fit * spread + kl, "kl twice": fit + 2 * kl, "pixels": fit / x[0].numel() + kl,
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


ONE, TWO, THREE, FOUR, FIVE = (f"autoencoders.{k}" for k in range(1, 6))
CASES = [
    (ONE, narrow, "✓"),
    (ONE, by_hand, "✓"),
    (ONE, lambda *t: narrow(*t, layer="first"), "that of the first layer's weights"),
    (ONE, lambda *t: narrow(*t).T, "or of the last's, transposed"),
    (ONE, lambda X, k, steps: narrow(X, k, 0), "no better than one drawn at random"),
    (ONE, lambda X, k, steps: narrow(X, k, 60), "goes down and does not arrive"),
    (ONE, lambda *t: narrow(*t, relu=True), "goes down and does not arrive"),
    (ONE, lambda *t: narrow(*t, zero=False), "that were set to 0 before"),
    (ONE, lambda *t: narrow(*t, held=1), "does not arrive. Does Adam hold both layers"),
    (ONE, lambda *t: narrow(*t, held=0), "Does Adam hold both layers?"),
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
    (THREE, lambda *t: [*designs(*t), *[(6, t[2] / 2)] * (t[1] == 128)], "depth 6 is in your list"),
    (THREE, told(designs, "one side"), "cannot be halved so often"),
    (THREE, told(designs, "rounded"), "cannot be shared out evenly"),
    (THREE, told(designs, "square"), "not square"),
    (THREE, told(designs, "once"), "divided the pixels by 2^depth once"),
    (THREE, told(designs, "short"), "a depth is missing"),
    (THREE, lambda *t: [(d, c + 1) for d, c in designs(*t)], "values I expected [(3, 1)"),
    (FOUR, needed, "✓"),
    (FOUR, lambda *t: [int(v) for v in needed(*t)], "✓"),
    (FOUR, counted_up, "✓"),
    (FOUR, lambda *t: needed(*t).numpy()[:, None], "✓"),
    (FOUR, lambda *t: "many", "I expected one whole number for each of 6"),
    (FOUR, lambda *t: needed(*t)[1:], "I expected one whole number for each of 6"),
    (FOUR, lambda *t: needed(*t).median(), "that is one number"),
    (FOUR, lambda e, a, c, n: needed(e, a, c, 1), "you left the number of pixels out"),
    (FOUR, lambda e, a, c, n: ((a - e) / c**2).clamp(min=0), "left the number of pixels out"),
    (FOUR, lambda e, a, c, n: needed(e, a, c**0.5, n), "you did not square it"),
    (FOUR, lambda e, a, c, n: ((a**0.5 - e**0.5) ** 2 * n / c**2).ceil(), "subtracted roots"),
    (FOUR, lambda e, a, c, n: ((a**0.5 - e**0.5) * n / c).ceil(), "subtracted roots"),
    (FOUR, lambda e, a, c, n: ((a**0.5 - e**0.5) * n / c**2).ceil().clamp(min=0), "subtracted roo"),
    (FOUR, lambda e, a, c, n: needed(e, a**2, c, n), "squared `alarm`"),
    (FOUR, lambda *t: needed(*t, least=None).abs(), "`abs` makes some"),
    (FOUR, lambda e, a, c, n: ((e - a) * n / c**2).ceil(), "the wrong way round"),
    (FOUR, lambda *t: needed(*t, least=None), "needs 0 pixels, not fewer"),
    (FOUR, lambda *t: needed(*t, least=1), "needs none: 0, not 1"),
    (FOUR, lambda *t: needed(*t, whole=torch.floor), "you rounded down"),
    (FOUR, lambda *t: needed(*t, whole=torch.round), "rounded to the nearest"),
    (FOUR, lambda *t: needed(*t, whole=lambda v: v.floor() + 1), "reaching it is enough"),
    (FOUR, lambda *t: needed(*t, whole=lambda v: v), "round up to a whole number"),
    (FOUR, lambda e, a, c, n: needed(e**2, a, c, n), "expected 799, and got 0"),
    (FOUR, lambda *t: needed(*t) + 2, "a contrast of 64 HU and 1024 pixels I expected"),
    (FIVE, bound, "✓"),
    (FIVE, by_distributions, "✓"),
    (FIVE, lambda *t: bound(*t)[None], "✓"),
    (FIVE, told(bound, "shape"), "I expected one number, the mean"),
    (FIVE, lambda x, encode, *t: bound(x, lambda x: (encode(x)[0], encode(x)[1].log()), *t),
        "is a logarithm already"),
    (FIVE, told(bound, "random"), "differs from call to call"),
    (FIVE, told(bound, "no draw"), "you decode the mean"),
    (FIVE, told(bound, "variance"), "drew with the variance"),
    (FIVE, told(bound, "log"), "drew with log_var itself"),
    (FIVE, told(bound, "log sigma"), "you read log_var as log σ"),
    (FIVE, told(bound, "kl exp"), "log_var stands where the variance belongs"),
    (FIVE, told(bound, "kl root"), "the standard deviation stands where the variance belongs"),
    (FIVE, told(bound, "kl log"), "its last term is"),
    (FIVE, told(bound, "no kl"), "the divergence from the prior is missing"),
    (FIVE, told(bound, "kl only"), "the reconstruction is missing"),
    (FIVE, told(bound, "kl sign"), "it is a price"),
    (FIVE, told(bound, "kl mean"), "averaged the divergence over the code"),
    (FIVE, told(bound, "kl sum"), "added up the divergence over the images"),
    (FIVE, told(bound, "kl half"), "log_var / 2 stands where"),
    (FIVE, told(bound, "kl halves"), "made of σ and log σ"),
    (FIVE, told(bound, "both means"), "Within an image both are sums"),
    (FIVE, told(bound, "negative"), "that is the bound itself"),
    (FIVE, told(bound, "spread once"), "The spread is squared"),
    (FIVE, told(bound, "kl twice"), "mind the ½"),
    (FIVE, told(bound, "pixels"), "averaged the squared error over pixels"),
    (FIVE, told(bound, "spread"), "not divided by 2 · spread²"),
    (FIVE, told(bound, "half"), "and the 2 is missing"),
    (FIVE, told(bound, "sum"), "you added up the images"),
    (FIVE, told(bound, "item"), "no gradient reaches the encoder and the decoder"),
    (FIVE, told(bound, "detached"), "no gradient reaches mean by way of the draw"),
    (FIVE, lambda *t: bound(*t) + 1, "I expected"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {ONE: narrow, TWO: angles, THREE: designs, FOUR: needed}


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
# the plane of X, and so do the first layer's weights at the end; no side is as long as 2^12; whole
# numbers divide without a rest; a square does not know its sign.
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
    "autoencoders.5: squares = (decode(code) - x).square().flatten(1).sum(1) → squares = (x - decode(code)).square().flatten(1).sum(1)",
]


def test_no_changed_solution_is_called_right():
    assert ticked("21_autoencoders", "autoencoders", seconds=20) == EQUIVALENT
