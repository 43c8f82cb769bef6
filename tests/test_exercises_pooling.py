"""Checks of pooling, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medlab.exercises.pooling import MESSAGES
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked


def pool(x, k, s, reduce, *, side=None, step=None, shape=None):
    shape = shape or [(n - k) // s + 1 for n in x.shape]
    side, step = side or k, step or s
    y = torch.zeros(*shape)
    for i, j in np.ndindex(*shape):
        window = x[step * i : step * i + side, step * j : step * j + side]
        y[i, j] = reduce(window) if window.numel() else 0
    return y


def counted(rule):
    return lambda x, k, s, reduce: pool(x, k, s, reduce, shape=[rule(n, k, s) for n in x.shape])


def unfolded(x, k, s, reduce):
    return reduce(x.unfold(0, k, s).unfold(1, k, s), (2, 3))


def in_lists(x, k, s, reduce):
    return [[v.item() for v in row] for row in pool(x, k, s, reduce)]


def backward(x, y_bar, k, s, choose=lambda w: int(w.flatten().argmax()), add=True):
    x_bar = torch.zeros_like(x)
    for i, j in np.ndindex(*y_bar.shape):
        window = x[s * i : s * i + k, s * j : s * j + k]
        a, b = divmod(choose(window), k)
        x_bar[s * i + a, s * j + b] = y_bar[i, j] + (x_bar[s * i + a, s * j + b] if add else 0)
    return x_bar


def first(window):
    return int((window.flatten() == window.max()).nonzero()[0])


def last(window):
    return int((window.flatten() == window.max()).nonzero()[-1])


def right_backward(x, y_bar, k, s):
    return backward(x, y_bar, k, s, first)


def autograd_backward(x, y_bar, k, s):
    x = x.clone().requires_grad_()
    y = F.max_pool2d(x[None, None], k, s)[0, 0]
    return torch.autograd.grad((y * y_bar).sum(), x)[0].numpy()


def spread(x, y_bar, k, s, share):
    x_bar = torch.zeros_like(x)
    for i, j in np.ndindex(*y_bar.shape):
        at = (slice(s * i, s * i + k), slice(s * j, s * j + k))
        x_bar[at] += share(x[at]) * y_bar[i, j]
    return x_bar


def cornered(x, y_bar, k, s):
    """The winner's place within its window taken for its place in the image."""
    x_bar = torch.zeros_like(x)
    for i, j in np.ndindex(*y_bar.shape):
        x_bar[divmod(first(x[s * i : s * i + k, s * j : s * j + k]), k)] += y_bar[i, j]
    return x_bar


def equal(window):
    return (window == window.max()).float()


def triangle(x, s):
    t = (s - torch.arange(1 - s, s).abs()) / s**2
    return F.conv2d(x, (t[:, None] * t)[None, None], stride=s, padding=s - 1)


def tent(x):
    return F.conv2d(x, torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]) / 16, padding=1)


def sideways(x):
    return F.conv2d(x, torch.tensor([[[[0.25, 0.5, 0.25]]]]), padding=(0, 1))


def conv_mean(x, k, *, groups=True, times=1.0, **options):
    c = x.shape[1]
    kernel = torch.full((c, 1 if groups else c, k, k), times / k**2)
    return F.conv2d(x, kernel, groups=c if groups else 1, **{"stride": k, **options})


def folded(f_new, s, *, signs=(1, -1), low=0.0, high=0.5, by=None):
    by = s if by is None else by
    found = {round((m + sign * f_new) / by, 9) for m in range(s + 1) for sign in signs}
    return sorted(f for f in found if low <= f <= high)


def repeated(f_new, s):
    both = [(m + sign * f_new) / s for m in range(s + 1) for sign in (1, -1)]
    return sorted(f for f in both if 0 <= f <= 0.5)


def in_steps(f_new, s):
    f = np.linspace(0, 0.5, 3001)  # finds what falls on its grid
    return f[abs(abs(f * s - np.round(f * s)) - f_new) < 1e-9]


def scored(maps, weight, bias):
    return torch.einsum("kc,nchw->nkhw", weight, maps) + bias[:, None, None]


def by_linear(maps, weight, bias):
    return F.linear(maps.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2).numpy()


CASES = [
    ("pooling.1", pool, "✓"),
    ("pooling.1", unfolded, "✓"),
    ("pooling.1", in_lists, "✓"),
    ("pooling.1", lambda *a: pool(*a).numpy(), "✓"),
    ("pooling.1", counted(lambda n, k, s: (n - k) // s), "the first window needs a + 1"),
    ("pooling.1", counted(lambda n, k, s: -(-(n - k) // s) + 1), "round down"),
    (
        "pooling.1",
        lambda x, k, s, r: pool(x, k, s, r, shape=[(x.shape[0] - k) // s + 1] * 2),
        "each for themselves",
    ),
    (
        "pooling.1",
        lambda x, k, s, r: pool(x, k, s, r, shape=[(x.shape[1] - k) // s + 1] * 2),
        "each for themselves",
    ),
    ("pooling.1", lambda *a: pool(*a).T, "rows and columns of your result are exchanged"),
    ("pooling.1", lambda *a: pool(*a).flatten(), "you returned (6,); I expected shape (3, 2)"),
    (
        "pooling.1",
        lambda x, k, s, r: r(x.unfold(0, k, s).unfold(1, k, s), (1, 3)),
        "your numbers run across windows",
    ),
    ("pooling.1", lambda x, k, s, r: pool(x, k, s, r, step=k), "stand k = 2 pixels apart"),
    ("pooling.1", lambda x, k, s, r: pool(x, k, s, r, step=1), "stand one pixel apart"),
    ("pooling.1", lambda x, k, s, r: pool(x, k, s, r, side=s), "your windows are s × s pixels"),
    ("pooling.1", lambda x, k, s, r: pool(x, k, s, torch.amax), "you took the maximum"),
    ("pooling.1", lambda x, k, s, r: pool(x, k, s, torch.mean), "you took the mean"),
    ("pooling.1", lambda *a: -pool(*a), "pixels, k = 2, s = 3 y["),
    ("pooling.1", lambda *a: "small", "expected a number"),
    ("pooling.2", right_backward, "✓"),
    ("pooling.2", autograd_backward, "✓"),
    ("pooling.2", lambda *a: right_backward(*a).double(), "✓"),
    ("pooling.2", lambda x, g, k, s: g, "shape of its tensor: (6, 8)"),
    ("pooling.2", lambda x, g, k, s: backward(x, g, k, s, first, add=False), "Use += instead of ="),
    (
        "pooling.2",
        lambda *a: spread(*a, lambda w: torch.ones_like(w) / w.numel()),
        "average pooling",
    ),
    ("pooling.2", lambda *a: spread(*a, torch.ones_like), "every pixel of a window got all"),
    ("pooling.2", lambda *a: spread(*a, equal), "each of them got all"),
    ("pooling.2", lambda *a: spread(*a, lambda w: equal(w) / equal(w).sum()), "as amax does"),
    ("pooling.2", lambda *a: backward(*a, last), "the last maximum"),
    ("pooling.2", lambda *a: backward(*a, lambda w: 0), "went to the first pixel of each window"),
    ("pooling.2", lambda *a: spread(*a, lambda w: equal(w) * w.max()), "by the winner's value"),
    ("pooling.2", lambda *a: backward(*a, lambda w: int(w.argmin())), "went to the smallest pixel"),
    ("pooling.2", lambda x, g, k, s: backward(x, g, k, 1, first), "stand one pixel apart"),
    ("pooling.2", lambda *a: cornered(*a), "Add where the window starts"),
    (
        "pooling.2",
        lambda x, g, k, s: backward(x, torch.ones_like(g), k, s, first),
        "marked the winners",
    ),
    ("pooling.2", lambda x, g, k, s: torch.zeros_like(x), "my gradient differs from yours at"),
    ("pooling.2", lambda x, g, k, s: "up", "expected a number"),
    ("pooling.3", conv_mean, "✓"),
    ("pooling.3", lambda x, k: conv_mean(x, k).numpy().tolist(), "✓"),
    ("pooling.3", lambda x, k: conv_mean(x, k, groups=False), "mixes the channels"),
    (
        "pooling.3",
        lambda x, k: conv_mean(x, k, groups=False, times=1 / x.shape[1]),
        "mixes the channels",
    ),
    ("pooling.3", lambda x, k: conv_mean(x, k)[:, :1], "all channels in one map"),
    ("pooling.3", lambda x, k: conv_mean(x, k, stride=1), "`stride=k`"),
    ("pooling.3", lambda x, k: conv_mean(x, k, padding=1), "nothing is padded"),
    ("pooling.3", lambda x, k: conv_mean(x, k, times=k * k), "k² times too large"),
    ("pooling.3", lambda x, k: conv_mean(x, k, times=k), "divided by k"),
    ("pooling.3", lambda x, k: conv_mean(x, k)[0], "you returned (3, 3, 4) for (2, 3, 6, 8)"),
    ("pooling.3", lambda x, k: F.max_pool2d(x, k), "and k = 2, y["),
    ("pooling.3", lambda x, k: "mean", "expected a number"),
    ("pooling.4", folded, "✓"),
    ("pooling.4", in_steps, "✓"),
    ("pooling.4", lambda f, s: set(folded(f, s)), "✓"),
    ("pooling.4", lambda f, s: torch.tensor(folded(f, s)), "✓"),
    ("pooling.4", lambda f, s: tuple(round(v, 6) for v in folded(f, s)), "✓"),
    ("pooling.4", lambda f, s: [f / s], "the wave that survives"),
    ("pooling.4", lambda f, s: f / s, "expected the frequencies as a list of numbers, and got 0.0"),
    ("pooling.4", lambda f, s: folded(f, s, signs=(1,)), "not the m − f′"),
    ("pooling.4", lambda f, s: folded(f, s, signs=(-1,)), "not the m + f′"),
    ("pooling.4", lambda f, s: folded(f, s, by=1, high=s / 2), "divide by s = 4"),
    ("pooling.4", lambda f, s: folded(f, s, high=1), "your list holds 0.525"),
    ("pooling.4", lambda f, s: folded(f, s, low=-1), "your list holds -0.025"),
    ("pooling.4", repeated, "holds a frequency twice"),
    ("pooling.4", lambda f, s: folded(f, s)[::-1], "in another order"),
    ("pooling.4", lambda f, s: folded(f, s)[:-1], "your list lacks 0.475"),
    ("pooling.4", lambda f, s: [0.3], "0.3 cycles a pixel come back as 0.2"),
    ("pooling.4", lambda f, s: [], "your list lacks 0.025"),
    ("pooling.4", lambda f, s: ["low"], "a list of numbers, and got list"),
    ("pooling.4", lambda f, s: (v for v in folded(f, s)), "a list of numbers, and got generator"),
    ("pooling.5", lambda x: F.max_pool2d(tent(x), 4), "✓"),
    ("pooling.5", lambda x: F.max_pool2d(sideways(x), 4).numpy(), "✓"),
    ("pooling.5", lambda x: 7 * F.max_pool2d(tent(x), 4) + 3, "✓"),
    ("pooling.5", lambda x: F.max_pool2d(F.avg_pool2d(x, 2, 1), 4, ceil_mode=True), "✓"),
    ("pooling.5", lambda x: F.max_pool2d(F.avg_pool2d(x, 2), 2), "✓"),
    ("pooling.5", lambda x: F.max_pool2d(x, 4), "The maximum follows their crests"),
    ("pooling.5", lambda x: F.max_pool2d(x, 4) + F.avg_pool2d(x, 4), "follows their crests"),
    ("pooling.5", lambda x: F.avg_pool2d(x, 4), "so is the point"),
    ("pooling.5", lambda x: 9 * F.avg_pool2d(x, 4), "so is the point"),
    ("pooling.5", lambda x: triangle(x, 4), "so is the point"),
    ("pooling.5", lambda x: 20 * triangle(x, 4), "so is the point"),
    ("pooling.5", lambda x: x[..., ::4, ::4], "at some positions the point is gone"),
    ("pooling.5", lambda x: x, "expected (1, 1, 12, 14) back"),
    ("pooling.5", lambda x: 0 * x[..., ::4, ::4], "does not follow the brightness"),
    ("pooling.5", lambda x: x[..., ::4, ::4] / 0, "nan or infinity"),
    ("pooling.5", lambda x: -F.max_pool2d(-x, 4), "at least 0.2 and at most"),
    ("pooling.5", lambda x: ["a"], "expected a number"),
    ("pooling.5", lambda x: tent(x)[..., ::4, ::4], "reaches less far than the stride"),
    ("pooling.5", lambda x: F.max_pool2d(tent(x), 4).flip(3), "but not where it lies"),
    ("pooling.5", lambda x: F.max_pool2d(tent(x), 4).mT, "expected (1, 1, 12, 14) back"),
    ("pooling.6", scored, "✓"),
    ("pooling.6", by_linear, "✓"),
    ("pooling.6", lambda m, w, b: F.conv2d(m, w[:, :, None, None], b), "✓"),
    ("pooling.6", lambda m, w, b: scored(m, w, b).mean((2, 3)), "the scores themselves, (2, 2)"),
    ("pooling.6", lambda m, w, b: scored(m, w, 0 * b), "the bias is missing"),
    (
        "pooling.6",
        lambda m, w, b: scored(m, w, b / math.prod(m.shape[2:])),
        "you spread the bias over the places",
    ),
    (
        "pooling.6",
        lambda m, w, b: scored(m, w, 0 * b) + (b if m.shape[3] == len(b) else b[:, None, None]),
        "the bias went to the columns",
    ),
    (
        "pooling.6",
        lambda m, w, b: scored(m, w.T if len(w) == w.shape[1] else w, b),
        "Row k of `weight`",
    ),
    ("pooling.6", lambda m, w, b: scored(m, w, b).movedim(1, 3), "the classes come second"),
    ("pooling.6", lambda m, w, b: scored(m, w, b).relu(), "Evidence may speak against"),
    (
        "pooling.6",
        lambda m, w, b: scored(m, w, b) / math.prod(m.shape[2:]),
        "its sum, not its mean",
    ),
    ("pooling.6", lambda m, w, b: m, "I expected shape (2, 2, 4, 5)"),
    ("pooling.6", lambda m, w, b: -scored(m, w, b), "I expected"),
    ("pooling.6", lambda m, w, b: "map", "expected a number"),
]

EQUIVALENT = [
    "pooling.3: kernel = torch.full((channels, 1, k, k), 1 / k ** 2, dtype=x.dtype) "
    "→ kernel = torch.full((channels, 1, k, k), 1 / k ** 2)",
    "pooling.4: for f in ((m - f_new) / s, (m + f_new) / s): "
    "→ for f in ((m + f_new) / s, (m - f_new) / s):",
    "pooling.4: for m in range(s): → for m in range(s + 1):",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_a_changed_solution_is_not_ticked():
    # An open design has many right answers
    assert ticked("04_pooling", "pooling", without=["pooling.5"]) == EQUIVALENT


def test_the_stripes_of_exercise_5_are_those_of_a_real_grid():
    from medlab.exercises import pooling

    assert math.isclose(pooling.FREQUENCY * 7, 3.4)  # 7 pixels a mm, 34 lines a cm
    assert math.isclose(140 * pooling.FREQUENCY, round(140 * pooling.FREQUENCY))
