"""Convolution's checks, fed with right, untouched and typically wrong answers."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlab.exercises import check
from medlab.exercises.convolution import MESSAGES
from tests.learners import broken, gap, hasty, prints, stub, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: the sum, in loops


def loops(x, w, read=lambda i, j, a, b: (i + a, j + b), rows=None, columns=None):
    """The right sum; with another `read`, or another number of places, a wrong one."""
    rows = x.shape[0] - w.shape[0] + 1 if rows is None else rows
    columns = x.shape[1] - w.shape[1] + 1 if columns is None else columns
    y = torch.zeros(rows, columns)
    for i, j in np.ndindex(rows, columns):
        for a, b in np.ndindex(*w.shape):
            y[i, j] += w[a, b] * x[read(i, j, a, b)]
    return y


def by_library(x, w):
    return F.conv2d(x[None, None], w[None, None])[0, 0]


def by_slices(x, w):
    k, m = w.shape
    return [
        [float((w * x[i : i + k, j : j + m]).sum()) for j in range(x.shape[1] - m + 1)]
        for i in range(x.shape[0] - k + 1)
    ]


def overwriting(x, w):
    y = by_library(x, w) * 0
    for i, j in np.ndindex(*y.shape):
        for a, b in np.ndindex(*w.shape):
            y[i, j] = w[a, b] * x[i + a, j + b]
    return y


def returning_early(x, w):
    y = by_library(x, w) * 0
    for i, j in np.ndindex(*y.shape):
        y[i, j] = (w * x[i : i + w.shape[0], j : j + w.shape[1]]).sum()
        return y


def first_row_only(x, w):
    y = by_library(x, w)
    y[1:] = 0
    return y


# ------------------------------------------------------------------------ 2: halving


SETTINGS = [(2, 0, 1), (3, 1, 1), (3, 3, 3), (4, 1, 1), (5, 2, 1)]


def halving(n=32):
    spans = range(1, 6), range(4), range(1, 4)
    x = torch.zeros(1, 1, n)
    found = []
    for k, p, d in itertools.product(*spans):
        if n + 2 * p > d * (k - 1):
            y = F.conv1d(x, torch.ones(1, 1, k), stride=2, padding=p, dilation=d)
            found += [(k, p, d)] * (y.shape[-1] == n // 2)
    return found


@pytest.mark.parametrize("n", [16, 32, 64])
def test_the_settings_are_those_whose_gradient_reaches_every_pixel(n):
    kept = []
    for k, p, d in halving(n):
        x = torch.ones(1, 1, n, requires_grad=True)
        F.conv1d(x, torch.ones(1, 1, k), stride=2, padding=p, dilation=d).sum().backward()
        kept += [(k, p, d)] * bool((x.grad > 0).all())
    assert kept == SETTINGS


# ------------------------------------------------------------------------ 3: the layer to mend


def conv(x, w, b):
    return F.conv2d(x[None], w, b)[0]


def by_loops(x, w, b):
    k = w.shape[-1]
    y = np.zeros((len(w), x.shape[1] - k + 1, x.shape[2] - k + 1))
    for o, i, j in np.ndindex(*y.shape):
        y[o, i, j] = (w[o] * x[:, i : i + k, j : j + k]).sum() + b[o]
    return y


def as_given(x, w, b, channels_mended=False):
    k, size = w.shape[-1], x.shape[1] - w.shape[-1] + 1
    y = torch.zeros(len(w), size, size)
    for i in range(size):
        for j in range(size):
            window = x[:, i : i + k, j : j + k]
            if channels_mended:
                y[:, i, j] = (w * window).sum((1, 2, 3)) + b
            else:
                y[:, i, j] = (w[:, 0] * window[0]).sum((1, 2)) + b
    return y


def half_mended(x, w, b):
    return conv(x[:1].expand(len(x), -1, -1), w, b)


def per_channel(x, w, b):
    return torch.stack([conv(x[c : c + 1], w[:, c : c + 1], b) for c in range(len(x))], 1)


def bias_each_time(x, w, b):
    return per_channel(x, w, b).sum(1)


def by_einsum(x, w, b):
    k = w.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x.numpy(), (k, k), axis=(1, 2))
    return np.einsum("ocab,cijab->oij", w.numpy(), windows) + b.numpy()[:, None, None]


def sum_over_all(x, w, b):
    return conv(x, w, None).sum(0) + b[:, None, None]


def last_left_out(x, w, b):
    y = conv(x, w, b)
    y[:, :, -1] = 0
    return y


def short(x, w, b):
    return conv(x, w, b)[:, :-1, :-1]


# ------------------------------------------------------------------------ 4: the way back


def backward(x, w, y_bar, *, add=True, turn=False):
    w_bar, x_bar = torch.zeros_like(w), torch.zeros_like(x)
    kernel = w.flip(0, 1) if turn else w
    for i, j in np.ndindex(*y_bar.shape):
        rows, columns = slice(i, i + w.shape[0]), slice(j, j + w.shape[1])
        w_bar += y_bar[i, j] * x[rows, columns]
        kept = x_bar[rows, columns] if add else 0
        x_bar[rows, columns] = kept + y_bar[i, j] * kernel
    return w_bar, x_bar


def by_autograd(x, w, y_bar):
    x.requires_grad_(), w.requires_grad_()
    by_library(x, w).backward(y_bar)
    return w.grad, x.grad


def by_formulas(x, w, y_bar):
    frame = [w.shape[1] - 1, w.shape[1] - 1, w.shape[0] - 1, w.shape[0] - 1]
    return [by_library(x, y_bar).tolist(), by_library(F.pad(y_bar, frame), w.flip(0, 1)).numpy()]


def not_turned(x, w, y_bar):
    frame = [w.shape[1] - 1, w.shape[1] - 1, w.shape[0] - 1, w.shape[0] - 1]
    return by_library(x, y_bar), by_library(F.pad(y_bar, frame), w)


def no_frame(x, w, y_bar):
    return by_library(x, y_bar), y_bar


def w_overwritten(x, w, y_bar):
    (i, j), (k, m) = (n - 1 for n in y_bar.shape), w.shape
    return y_bar[-1, -1] * x[i : i + k, j : j + m], backward(x, w, y_bar)[1]


def border_left_out(x, w, y_bar):
    w_bar, x_bar = backward(x, w, y_bar)
    x_bar[-1] = 0
    return w_bar, x_bar


# ------------------------------------------------------------------------ 5: descent


def descend(x, target, k, lr, steps, *, scale=2.0, count=None, kept=0.0, start=None):
    w = torch.zeros(k, k) if start is None else start
    w_bar = torch.zeros(k, k)
    for _ in range(steps):
        y_bar = scale * (by_library(x, w) - target) / (count or target.numel())
        w_bar = kept * w_bar + by_library(x, y_bar)
        w = w - lr * w_bar
    return w


def with_autograd(x, target, k, lr, steps, clear=True):
    layer = torch.nn.Conv2d(1, 1, k, bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.SGD(layer.parameters(), lr=lr)
    for _ in range(steps):
        if clear:
            optimiser.zero_grad()
        F.mse_loss(layer(x[None])[0], target).backward()
        optimiser.step()
    return layer.weight


def solved(x, target, k, lr, steps):
    windows = F.unfold(x[None, None], k)[0].T
    return torch.linalg.lstsq(windows, target.reshape(-1, 1)).solution.reshape(k, k)


PRAISE = ("47 pixels, each of them read, at 4.5", "read, at 2.0")
CASES = [
    ("convolution.1", loops, "✓"),
    ("convolution.1", by_library, "✓"),
    ("convolution.1", by_slices, "✓"),
    ("convolution.1", lambda x, w: by_library(x, w).double().numpy(), "✓"),
    ("convolution.1", lambda x, w: by_library(x, w.requires_grad_()), "✓"),
    (
        "convolution.1",
        lambda x, w: loops(x, w, lambda i, j, a, b: (a, b)),
        "wherever the window stands",
    ),
    ("convolution.1", lambda x, w: loops(x, w, lambda i, j, a, b: (i, j)), "and no neighbour"),
    (
        "convolution.1",
        lambda x, w: loops(x, w, lambda i, j, a, b: (i - a, j - b)),
        "you read x[i − a",
    ),
    ("convolution.1", lambda x, w: by_library(x, w.flip(0, 1)), "turned by 180°"),
    ("convolution.1", lambda x, w: loops(x, w, lambda i, j, a, b: (i + b, j + a)), "are exchanged"),
    (
        "convolution.1",
        lambda x, w: loops(x, w, lambda i, j, a, b: (j + a, i + b)),
        "stopped with Index",
    ),
    ("convolution.1", lambda x, w: loops(x, w, lambda i, j, a, b: (i + a, b)), "y[0, 1] should be"),
    ("convolution.1", lambda x, w: loops(x, w, lambda i, j, a, b: (a, j + b)), "y[1, 0] should be"),
    ("convolution.1", overwriting, "holds its last product only"),
    (
        "convolution.1",
        lambda x, w: by_library(x, w) / w.numel(),
        "divided by the number of weights",
    ),
    ("convolution.1", returning_early, "indented so far"),
    ("convolution.1", first_row_only, "indented so far"),
    ("convolution.1", lambda x, w: by_library(x, w)[:-1, :-1], "from 0 to H − 3 inclusive"),
    ("convolution.1", lambda x, w: F.pad(by_library(x, w), [1] * 4), "the size of the input"),
    ("convolution.1", lambda x, w: loops(x, w, columns=x.shape[0] - 2), "sizes of their own"),
    ("convolution.1", lambda x, w: by_library(x, w).T, "sizes of their own"),
    (
        "convolution.1",
        lambda x, w: by_library(x, w)[None],
        "you returned shape (1, 4, 7) for an image",
    ),
    (
        "convolution.1",
        lambda x, w: loops(x, w[:, :3], columns=x.shape[1] - 2),
        "of (3, 1); I expected",
    ),
    ("convolution.1", lambda x, w: 2 * by_library(x, w), "y[0, 0] should be"),
    ("convolution.1", lambda x, w: -by_library(x, w), "y[0, 0] should be"),
    ("convolution.1", lambda x, w: by_library(x, w).abs(), "y[0, 0] should be"),
    ("convolution.1", lambda x, w: by_library(x, w) * math.nan, "and yours is nan"),
    ("convolution.1", lambda x, w: by_library(x, w) + 1, "y[0, 0] should be"),
    ("convolution.1", lambda x, w: 0.0, "you returned shape ()"),
    ("convolution.1", lambda x, w: "y", "expected a number"),
    ("convolution.2", SETTINGS, "✓"),
    ("convolution.2", SETTINGS[::-1], "✓"),
    ("convolution.2", set(SETTINGS), "✓"),
    ("convolution.2", [list(at) for at in SETTINGS], "✓"),
    ("convolution.2", np.array(SETTINGS), "✓"),
    ("convolution.2", torch.tensor(SETTINGS), "✓"),
    ("convolution.2", torch.tensor(SETTINGS).double(), "✓"),
    ("convolution.2", SETTINGS + SETTINGS[:1], "✓"),
    ("convolution.2", halving(), "7 of them leave pixels unread"),
    ("convolution.2", [(k, d, p) for k, p, d in SETTINGS], "come in another"),
    ("convolution.2", [(p, k, d) for k, p, d in SETTINGS], "come in another"),
    ("convolution.2", [(k, d, p) for k, p, d in halving()], "come in another"),
    ("convolution.2", [*SETTINGS, (6, 2, 1)], "(6, 2, 1) lies outside"),
    ("convolution.2", [*SETTINGS, (3, 0, 1)], "(3, 0, 1) and stride 2, 32 pixels give 15"),
    ("convolution.2", [*SETTINGS, (3, 2, 2)], "(3, 2, 2) gives 16 outputs, but 16 of the 32"),
    (
        "convolution.2",
        [*SETTINGS, (2, 1, 3)],
        "but 2 of the 32 pixels are read by no window, the first of them pixel 0",
    ),
    ("convolution.2", [(2, 0, 1)], "A window may read padding"),
    ("convolution.2", [at for at in SETTINGS if at[2] == 1], "four of five"),
    ("convolution.2", [at for at in SETTINGS if at[0] % 2], "2 missing"),
    ("convolution.2", SETTINGS[:-1], "1 missing"),
    ("convolution.2", [], "your list is empty"),
    ("convolution.2", [(3, 2, 1, 1)], "three whole numbers each"),
    ("convolution.2", [3, 1, 1], "three whole numbers each"),
    ("convolution.2", [(2.5, 0, 1)], "three whole numbers each"),
    ("convolution.2", 5, "three whole numbers each"),
    ("convolution.2", "all", "three whole numbers each"),
    ("convolution.3", conv, "✓"),
    ("convolution.3", by_loops, "✓"),
    ("convolution.3", lambda x, w, b: conv(x.double(), w.double(), b.double()), "✓"),
    ("convolution.3", lambda x, w, b: conv(x, w, b).requires_grad_(), "✓"),
    ("convolution.3", by_einsum, "✓"),
    ("convolution.3", lambda x, w, b: conv(x, w, b).tolist(), "✓"),
    ("convolution.3", as_given, "rows and columns have sizes of"),
    ("convolution.3", lambda x, w, b: as_given(x, w, b, True), "rows and columns have sizes of"),
    (
        "convolution.3",
        lambda x, w, b: conv(x, w, b).transpose(1, 2),
        "rows and columns have sizes of",
    ),
    ("convolution.3", lambda x, w, b: conv(x[:1], w[:, :1], b), "first input channel only"),
    ("convolution.3", lambda x, w, b: conv(x[:1], w[:, :1], None), "first input channel only"),
    ("convolution.3", half_mended, "let all of them read channel 0"),
    ("convolution.3", lambda x, w, b: sum_over_all(x, w, b), "you added over o as well"),
    ("convolution.3", last_left_out, "y[0, 0, 6] should be"),
    ("convolution.3", lambda x, w, b: conv(x, w, b) > 0, "y[0, 0, 0] should be"),
    ("convolution.3", lambda x, w, b: conv(x, w, b) * math.nan, "and yours is nan"),
    (
        "convolution.3",
        lambda x, w, b: conv(x, w, None) / len(x) + b[:, None, None],
        "averaged over the",
    ),
    ("convolution.3", lambda x, w, b: conv(x, w, None), "bias is missing"),
    ("convolution.3", bias_each_time, "once for every input channel"),
    ("convolution.3", lambda x, w, b: conv(x, w, w[0].numel() * b), "once for every weight"),
    ("convolution.3", lambda x, w, b: conv(x, w.flip(2, 3), b), "turned by 180°"),
    (
        "convolution.3",
        lambda x, w, b: conv(x.sum(0)[None], w[:, :1], b),
        "kernel of the first input",
    ),
    ("convolution.3", lambda x, w, b: conv(x.flip(0), w, b), "y[0, 0, 0] should be"),
    ("convolution.3", per_channel, "picture for each pair of output and input"),
    (
        "convolution.3",
        lambda x, w, b: per_channel(x, w, b).transpose(0, 1),
        "picture for each pair",
    ),
    ("convolution.3", lambda x, w, b: conv(x, w, b).sum(0), "output channels are added up"),
    ("convolution.3", short, "from 0 to H − k inclusive"),
    (
        "convolution.3",
        lambda x, w, b: F.conv2d(x[None], w, b, padding="same")[0],
        "the size of the input",
    ),
    ("convolution.3", lambda x, w, b: conv(x, w, b)[None], "I expected (O, H − k + 1, W − k + 1)"),
    ("convolution.3", lambda x, w, b: 2 * conv(x, w, b), "y[0, 0, 0] should be"),
    ("convolution.3", lambda x, w, b: 0.0, "I expected (O"),
    ("convolution.3", lambda x, w, b: "conv", "expected a number"),
    ("convolution.4", backward, "✓"),
    ("convolution.4", by_autograd, "✓"),
    ("convolution.4", by_formulas, "✓"),
    ("convolution.4", lambda *t: [part.double() for part in backward(*t)], "✓"),
    ("convolution.4", lambda *t: backward(*t)[0], "got one Tensor"),
    ("convolution.4", lambda *t: (*backward(*t), 0), "got 3"),
    ("convolution.4", lambda *t: {"w": 1}, "got one dict"),
    ("convolution.4", lambda *t: backward(*t)[::-1], "in the other order"),
    ("convolution.4", lambda *t: (backward(*t)[0], None), "returned None"),
    (
        "convolution.4",
        lambda *t: (backward(*t)[0][:2], backward(*t)[1]),
        "one entry for each weight, (3, 3)",
    ),
    ("convolution.4", no_frame, "x_bar has the shape (3, 6)"),
    ("convolution.4", w_overwritten, "what the last output sent back"),
    ("convolution.4", lambda *t: backward(*t, add=False), "what the last window sent back"),
    (
        "convolution.4",
        lambda x, w, y_bar: (backward(x, w, y_bar)[0] / y_bar.numel(), backward(x, w, y_bar)[1]),
        "averaged w_bar over the outputs",
    ),
    (
        "convolution.4",
        lambda x, w, y_bar: backward(x, w, torch.ones_like(y_bar)),
        "adds up the pixels alone",
    ),
    (
        "convolution.4",
        lambda x, w, y_bar: (backward(x, w, y_bar)[0], backward(x, w, torch.ones_like(y_bar))[1]),
        "adds up the weights alone",
    ),
    (
        "convolution.4",
        lambda *t: (backward(*t)[0].flip(0, 1), backward(*t)[1]),
        "w_bar is turned by 180°",
    ),
    ("convolution.4", not_turned, "the wrong way round"),
    ("convolution.4", lambda *t: backward(*t, turn=True), "the wrong way round"),
    ("convolution.4", lambda *t: (-backward(*t)[0], backward(*t)[1]), "w_bar has the wrong sign"),
    ("convolution.4", lambda *t: (backward(*t)[0], -backward(*t)[1]), "x_bar has the wrong sign"),
    ("convolution.4", border_left_out, "x_bar[4, 0] should be"),
    ("convolution.4", lambda x, w, y_bar: backward(x.abs(), w, y_bar), "w_bar[0, 0] should be"),
    ("convolution.4", lambda x, w, y_bar: backward(x, w.abs(), y_bar), "w_bar is right; x_bar"),
    ("convolution.4", lambda x, w, y_bar: backward(x, w, y_bar.abs()), "w_bar[0, 0] should be"),
    (
        "convolution.4",
        lambda x, w, y_bar: backward(x, w, by_library(x, w)),
        "w_bar[0, 0] should be",
    ),
    ("convolution.4", lambda *t: (2 * backward(*t)[0], backward(*t)[1]), "w_bar[0, 0] should be"),
    ("convolution.4", lambda *t: (w_bar := backward(*t)[0], w_bar), "x_bar has the shape (3, 3)"),
    ("convolution.4", lambda *t: ("w", "x"), "expected a number"),
    ("convolution.5", descend, "✓"),
    ("convolution.5", with_autograd, "✓"),
    ("convolution.5", lambda *t: descend(*t).tolist(), "✓"),
    ("convolution.5", lambda *t: descend(*t).double().numpy(), "✓"),
    ("convolution.5", lambda *t: descend(*t, scale=1), "half as long"),
    ("convolution.5", lambda *t: descend(*t, count=1), "70 times as long"),
    ("convolution.5", lambda *t: descend(*t, count=t[0].numel()), "the 108 pixels of the input"),
    ("convolution.5", lambda *t: descend(*t, scale=-2), "you climb"),
    (
        "convolution.5",
        lambda x, target, k, lr, steps: descend(x, target, k, 1, steps),
        "does not reach your step",
    ),
    ("convolution.5", lambda *t: descend(*t, kept=1), "still in the sum"),
    ("convolution.5", lambda *t: with_autograd(*t, clear=False), "still in the sum"),
    ("convolution.5", lambda x, t, k, lr, steps: descend(x, t, k, lr, steps + 1), "3 instead of 2"),
    ("convolution.5", lambda x, t, k, lr, steps: descend(x, t, k, lr, 2), "2 instead of 3"),
    ("convolution.5", lambda x, t, k, lr, steps: descend(x, t, k, lr, steps - 1), "1 instead of 2"),
    ("convolution.5", lambda x, t, k, *rest: torch.zeros(k, k), "your kernel is still 0"),
    ("convolution.5", lambda x, t, k, lr, steps: descend(x, t, k, lr, 500), "fits best"),
    ("convolution.5", lambda x, t, k, lr, steps: descend(x, t, k, lr, steps + 5), "after 2 steps"),
    ("convolution.5", solved, "fits best"),
    ("convolution.5", lambda *t: descend(*t).flip(0, 1), "turned by 180°"),
    ("convolution.5", lambda *t: descend(*t).T, "w[0, 1] should be"),
    (
        "convolution.5",
        lambda x, t, k, *r: descend(x, t, k, *r, start=torch.randn(k, k)),
        "different kernels",
    ),
    (
        "convolution.5",
        lambda x, t, k, *r: descend(x, t, k, *r, start=torch.ones(k, k)),
        "w[0, 0] should be",
    ),
    ("convolution.5", lambda *t: descend(*t)[0], "you returned shape (3,)"),
    ("convolution.5", lambda x, *t: by_library(x, descend(x, *t)), "expected a kernel of (3, 3)"),
    ("convolution.5", lambda *t: 0.0, "you returned shape ()"),
    ("convolution.5", lambda *t: "w", "expected a number"),
    ("convolution.6", [(4, 4, 1), (2, 1, 1), (2, 1, 2), (2, 1, 4), (2, 1, 4)], PRAISE[1]),
    ("convolution.6", [(3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 2), (3, 1, 2)], PRAISE[0]),
    (
        "convolution.6",
        [(3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 1, 8), (3, 1, 8)],
        "at 45.0 multiply-adds for",
    ),
    ("convolution.6", ((4, 4, 1), [3, 1, 1], (3, 1, 2), (3, 1, 3)), "✓"),
    ("convolution.6", np.array([(3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 2), (3, 1, 2)]), "✓"),
    ("convolution.6", [(3, 1, 1)] * 4, "one output sees 9 pixels"),
    ("convolution.6", [(3, 1, 1)] * 23, "at 207.0 multiply-adds"),
    ("convolution.6", [(46, 1, 1)], "at 2116.0 multiply-adds"),
    ("convolution.6", [(3, 1, 23)], "47 pixels wide, but of those in a row only 3 are read"),
    ("convolution.6", [(3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 4)], "only 45 are read"),
    ("convolution.6", [(3, 2, 1)] * 5, "32 pixels apart"),
    ("convolution.6", [(8, 8, 1), (6, 1, 1)], "8 pixels apart"),
    ("convolution.6", [(9, 10**6, 1), (9, 1, 10**6)], "only 81 are read: a stride longer"),
    ("convolution.6", [(2, 3, 1), (12, 1, 1), (3, 1, 1), (4, 1, 1)], "a stride longer"),
    ("convolution.6", [(3, 1, 1), (3, 1, 10**5)], "only 9 are read: a dilated kernel"),
    ("convolution.1", lambda x, w: by_library(x, w).trunc(), "should be"),
    ("convolution.3", lambda x, w, b: conv(x, w, b).trunc(), "should be"),
    ("convolution.4", lambda *a: tuple(part.trunc() for part in backward(*a)), "should be"),
    ("convolution.6", [(3, 1), (3, 1)], "list of (k, s, d)"),
    ("convolution.6", [(3, 1, 0)] * 30, "list of (k, s, d)"),
    ("convolution.6", [(3.5, 1, 1)] * 30, "list of (k, s, d)"),
    ("convolution.6", 46, "list of (k, s, d)"),
    ("convolution.6", [(math.inf, 1, 1)], "list of (k, s, d)"),
    ("convolution.6", [], "list of (k, s, d)"),
    ("convolution.6", "layers", "list of (k, s, d)"),
]


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply in ("✓", PRAISE[0], PRAISE[1]) else "✗")


def sends_nothing(x, w, y_bar):
    w_bar, x_bar = torch.zeros_like(w), torch.zeros_like(x)
    for _ in np.ndindex(*y_bar.shape):
        ...
    return w_bar, x_bar


def test_the_frame_of_exercise_4_is_not_attempted(capsys):
    check("convolution.4", sends_nothing)
    assert capsys.readouterr().out.startswith("○ convolution.4")
    check("convolution.4", lambda x, w, y_bar: (w * 0, x))
    assert capsys.readouterr().out.startswith("✗ convolution.4")


UNTOUCHED = {"convolution.2": ..., "convolution.6": [(..., ..., ...)]}


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    untouched = UNTOUCHED.get(id, stub)
    check(id, untouched)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if untouched is stub:
        check(id, gap)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out
        check(id, prints)
        assert "your function returned None" in capsys.readouterr().out
        check(id, 3)
        assert "expected a function" in capsys.readouterr().out


def test_half_an_answer_is_not_attempted(capsys):
    check("convolution.4", lambda x, w, y_bar: (w, ...))
    check("convolution.2", [(3, 1, 1), ...])
    assert capsys.readouterr().out.count("not attempted yet") == 2


RIGHT = {"convolution.1": loops, "convolution.3": conv, "convolution.4": backward}
RIGHT |= {"convolution.5": descend}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# Of exercises 2 and 6 many answers are right; kernels are square, and sums know no order.
EQUIVALENT = [
    "convolution.3: k = w.shape[-1] → k = w.shape[-2]",
    "convolution.3: y = torch.zeros(len(w), x.shape[1] - k + 1, x.shape[2] - k + 1) → "
    "y = torch.ones(len(w), x.shape[1] - k + 1, x.shape[2] - k + 1)",
    "convolution.3: y[:, i, j] = (w * x[:, i:i + k, j:j + k]).sum((1, 2, 3)) + b → "
    "y[:, i, j] = (w * x[:, i:i + k, j:j + k]).sum((2, 1, 3)) + b",
]


def test_a_changed_solution_is_not_ticked():
    without = ("convolution.2", "convolution.6")
    assert ticked("03_convolution", "convolution", without=without) == EQUIVALENT
