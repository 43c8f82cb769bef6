"""Checks of pooling, fed with right, untouched and typically wrong answers."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlab.exercises import check
from medlab.exercises.pooling import MESSAGES
from tests.learners import unheard


def rounded(room, s, up):
    return -(-room // s) if up else room // s


def out_size(n, k, s, p, ceil):
    count = rounded(n + 2 * p - k, s, ceil) + 1
    return count - 1 if ceil and (count - 1) * s >= n + p else count


def kept(n, k, s, p, ceil, end, always=False):
    """Windows that start before `end`; rounded up by adding one to the floor if `always`."""
    count = rounded(n + 2 * p - k, s, ceil and not always) + 1 + (ceil and always)
    return count - 1 if ceil and (count - 1) * s >= end else count


def real_size(n, k, s, p, ceil):
    """Right for floor, through a real layer."""
    return len(F.max_pool1d(torch.zeros(1, n), k, s, p, ceil_mode=ceil)[0])


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


def middle(x):
    return x.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4).median(4).values


def equal(window):
    return (window == window.max()).float()


def triangle(x, s):
    t = (s - torch.arange(1 - s, s).abs()) / s**2
    return F.conv2d(x, (t[:, None] * t)[None, None], stride=s, padding=s - 1)


def tent(x):
    return F.conv2d(x, torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]) / 16, padding=1)


def sideways(x):
    return F.conv2d(x, torch.tensor([[[[0.25, 0.5, 0.25]]]]), padding=(0, 1))


def parameters(channels, k, side, classes):
    kernels = sum(b * (a * k * k + 1) for a, b in pairwise(channels))
    return kernels + classes * (channels[-1] * side * side + 1)


def parts(c, k, side, m):
    pairs = list(pairwise(c))
    return sum(a * b * k * k for a, b in pairs), sum(b for _, b in pairs), m * c[-1] * side**2, m


def features(height, width):
    return 32 * (((height - 2) // 2 - 2) // 2) * (((width - 2) // 2 - 2) // 2)


def through_layers(height, width):
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.MaxPool2d(2))
    )
    return torch.tensor(net(torch.zeros(1, 1, height, width)).flatten().shape[0])


CASES = [
    ("pooling.1", out_size, "✓"),
    ("pooling.1", real_size, "✓"),
    ("pooling.1", lambda *a: torch.tensor(out_size(*a)), "✓"),
    ("pooling.1", lambda *a: float(out_size(*a)), "✓"),
    ("pooling.1", lambda n, k, s, p, c: rounded(n + 2 * p - k, s, c), "needs a + 1"),
    ("pooling.1", lambda n, k, s, p, c: rounded(n - k, s, c) + 1, "padding is missing"),
    ("pooling.1", lambda n, k, s, p, c: rounded(n + p - k, s, c) + 1, "Padding lies on both"),
    ("pooling.1", lambda n, k, s, p, c: rounded(n + 2 * p - k, s, c) + 1, "is dropped"),
    ("pooling.1", lambda *a: kept(*a, a[0] + a[3] + 1), "≥, not >"),
    ("pooling.1", lambda *a: kept(*a, a[0]), "begins at n + p, not at n"),
    ("pooling.1", lambda n, k, s, p, c: (n + 2 * p - k) // s + 1 + c, "nothing to round up"),
    ("pooling.1", lambda *a: kept(*a, a[0] + a[3], always=True), "nothing to round up"),
    ("pooling.1", lambda n, k, s, p, c: (n + 2 * p - k) // s + 1, "even when ceil is True"),
    ("pooling.1", lambda n, k, s, p, c: out_size(n, k, s, p, True), "even when ceil is False"),
    ("pooling.1", lambda n, k, s, p, c: (n + 2 * p - k) / s + 1, "windows is whole"),
    ("pooling.1", lambda n, k, s, p, c: rounded(n, s, c), "n/s ignores the kernel"),
    ("pooling.1", lambda n, k, s, p, c: 6, "I expected 33 and got 6."),
    ("pooling.1", lambda *a: "six", "expected a number"),
    ("pooling.1", 6, "expected a function"),
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
    ("pooling.3", lambda x: F.max_pool2d(x, 8), "✓"),
    ("pooling.3", lambda x: F.max_pool2d(F.max_pool2d(F.max_pool2d(x, 2), 2), 2).numpy(), "✓"),
    ("pooling.3", lambda x: F.adaptive_max_pool2d(x, 8), "✓"),
    ("pooling.3", lambda x: x.reshape(-1, 1, 8, 8, 8, 8).amax((3, 5)), "✓"),
    ("pooling.3", lambda x: (10 * x).unfold(2, 8, 8).unfold(3, 8, 8).flatten(4).logsumexp(4), "✓"),
    ("pooling.3", lambda x: 5 - 3 * -F.max_pool2d(x, 8), "✓"),
    ("pooling.3", lambda x: F.max_pool2d(x, 9, 8, 4), "✓"),
    ("pooling.3", lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 9, 8), "✓"),
    ("pooling.3", middle, "the middle of a window does not notice it"),
    ("pooling.3", lambda x: F.interpolate(x, size=8, mode="bilinear"), "I asked for 95 %"),
    ("pooling.3", lambda x: F.interpolate(x, size=8), "where your sampling skips it"),
    ("pooling.3", lambda x: F.max_pool2d(x, 4), "I gave you (64, 1, 64, 64)"),
    ("pooling.3", lambda x: F.max_pool2d(x, 8)[:, 0], "expected (64, 1, 8, 8)"),
    ("pooling.3", lambda x: F.avg_pool2d(x, 8), "CNR eight times lower"),
    ("pooling.3", lambda x: F.avg_pool2d(x, 8) * 64, "CNR eight times lower"),
    ("pooling.3", lambda x: x[..., ::8, ::8], "where your sampling skips it"),
    ("pooling.3", lambda x: -F.max_pool2d(-x, 8), "you kept what is dark"),
    ("pooling.3", lambda x: F.max_pool2d(-x, 8), "you kept what is dark"),
    ("pooling.3", lambda x: torch.zeros(64, 1, 8, 8), "no noise left"),
    ("pooling.3", lambda x: torch.full((64, 1, 8, 8), float("nan")), "no noise left"),
    ("pooling.3", lambda x: F.max_pool2d(F.avg_pool2d(x, 2), 4), "I asked for 95 %"),
    ("pooling.3", lambda x: torch.ones(3), "expected (64, 1, 8, 8)"),
    ("pooling.3", lambda x: "all", "expected a number"),
    ("pooling.4", lambda x: F.max_pool2d(tent(x), 4), "✓"),
    ("pooling.4", lambda x: F.max_pool2d(sideways(x), 4).numpy(), "✓"),
    ("pooling.4", lambda x: 7 * F.max_pool2d(tent(x), 4) + 3, "✓"),
    ("pooling.4", lambda x: F.max_pool2d(F.avg_pool2d(x, 2, 1), 4, ceil_mode=True), "✓"),
    ("pooling.4", lambda x: F.max_pool2d(F.avg_pool2d(x, 2), 2), "✓"),
    ("pooling.4", lambda x: F.max_pool2d(x, 4), "The maximum follows their crests"),
    ("pooling.4", lambda x: F.max_pool2d(x, 4) + F.avg_pool2d(x, 4), "follows their crests"),
    ("pooling.4", lambda x: F.avg_pool2d(x, 4), "so is the point"),
    ("pooling.4", lambda x: 9 * F.avg_pool2d(x, 4), "so is the point"),
    ("pooling.4", lambda x: triangle(x, 4), "so is the point"),
    ("pooling.4", lambda x: 20 * triangle(x, 4), "so is the point"),
    ("pooling.4", lambda x: x[..., ::4, ::4], "at some positions the point is gone"),
    ("pooling.4", lambda x: x, "expected (1, 1, 12, 12) back"),
    ("pooling.4", lambda x: 0 * x[..., ::4, ::4], "does not follow the brightness"),
    ("pooling.4", lambda x: x[..., ::4, ::4] / 0, "nan or infinity"),
    ("pooling.4", lambda x: -F.max_pool2d(-x, 4), "at least 0.2 and at most"),
    ("pooling.4", lambda x: ["a"], "expected a number"),
    ("pooling.5", parameters, "✓"),
    ("pooling.5", lambda *a: torch.tensor(parameters(*a)), "✓"),
    ("pooling.5", lambda *a: np.float64(parameters(*a)), "✓"),
    ("pooling.5", lambda *a: parts(*a)[0] + parts(*a)[2], "biases are missing"),
    ("pooling.5", lambda *a: sum(parts(*a)[:3]), "biases are missing"),
    (
        "pooling.5",
        lambda c, k, side, m: (
            sum(a * (b * k * k + 1) for a, b in pairwise(c)) + c[-1] * side**2 * (m + 1)
        ),
        "one bias for each input",
    ),
    (
        "pooling.5",
        lambda *a: parts(*a)[0] + parts(*a)[2] + len(a[0]),
        "a single bias for each layer",
    ),
    (
        "pooling.5",
        lambda c, k, side, m: sum(b * (k * k + 1) for b in c[1:]) + m * (c[-1] * side**2 + 1),
        "for *every* input channel",
    ),
    (
        "pooling.5",
        lambda c, k, side, m: (
            sum(b * (a * k + 1) for a, b in pairwise(c)) + m * (c[-1] * side**2 + 1)
        ),
        "has k × k weights",
    ),
    ("pooling.5", lambda c, k, side, m: parameters(c, k, 1, m), "one number per channel"),
    ("pooling.5", lambda c, k, side, m: parameters(c, k, side**0.5, m), "side × side positions"),
    ("pooling.5", lambda *a: sum(parts(*a)[:2]), "linear layer at the end is missing"),
    ("pooling.5", lambda *a: parts(*a)[0], "linear layer at the end is missing"),
    ("pooling.5", lambda *a: sum(parts(*a)[2:]), "convolutions are missing"),
    ("pooling.5", lambda *a: 1500, "I expected 1,558 and got 1,500"),
    ("pooling.5", lambda *a: "many", "expected a number"),
    ("pooling.6", features, "✓"),
    ("pooling.6", through_layers, "✓"),
    ("pooling.6", lambda h, w: 32 * (h // 4) * (w // 4), "have no padding"),
    ("pooling.6", lambda h, w: features(h, w) // 32, "lines up the 32 channels"),
    ("pooling.6", lambda h, w: features(h, w) // 2, "first convolution's number"),
    ("pooling.6", lambda h, w: features(h, h), "not square"),
    ("pooling.6", lambda h, w: features(w, w), "not square"),
    ("pooling.6", lambda h, w: 32 * ((h - 6) / 4) * ((w - 6) / 4), "rounds down at each step"),
    ("pooling.6", lambda h, w: int(32 * ((h - 6) / 4) * ((w - 6) / 4)), "rounds down at each step"),
    ("pooling.6", lambda h, w: 32 * ((h - 4) // 2) * ((w - 4) // 2), "the second halves again"),
    ("pooling.6", lambda h, w: 32 * ((h - 4) // 4) * ((w - 4) // 4), "Order matters"),
    (
        "pooling.6",
        lambda h, w: 32 * (((h - 1) // 2 - 1) // 2) * (((w - 1) // 2 - 1) // 2),
        "takes two rows",
    ),
    ("pooling.6", lambda h, w: 6272, "for 101 × 76 I expected 12512 and got 6272"),
    ("pooling.6", lambda h, w: "flat", "expected a number"),
    ("pooling.7", lambda m: m.reshape(m.shape[0], -1), "✓"),
    ("pooling.7", lambda m: m.view(len(m), -1), "✓"),
    ("pooling.7", lambda m: m.flatten(1).numpy(), "✓"),
    ("pooling.7", lambda m: torch.stack([one.flatten() for one in m]), "✓"),
    ("pooling.7", lambda m: m.flatten(), "That is flatten(0)"),
    ("pooling.7", lambda m: m.reshape(1, -1), "That is flatten(0)"),
    ("pooling.7", lambda m: m.reshape(-1, 45), "8 rows for 4 patients"),
    ("pooling.7", lambda m: m.reshape(-1, m.shape[1]), "120 rows for 4 patients"),
    ("pooling.7", lambda m: m.transpose(0, 1).reshape(len(m), -1), "pours numbers across patients"),
    ("pooling.7", lambda m: m.reshape(-1, len(m)).T, "pours numbers across patients"),
    ("pooling.7", lambda m: m.permute(0, 2, 3, 1).reshape(len(m), -1), "not in nn.Flatten's order"),
    ("pooling.7", lambda m: m.mean((2, 3)), "that is a global pooling"),
    ("pooling.7", lambda m: m, "for (4, 3, 6, 5) I expected (4, 90)"),
    ("pooling.7", lambda m: 2 * m.flatten(1), "the values changed on the way"),
    ("pooling.7", lambda m: m.squeeze().flatten(1), "for (1, 4, 3, 2) you returned (4, 6): 4 rows"),
    ("pooling.7", lambda m: "rows", "expected a number"),
]


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args): ...

    def broken(*args):
        return args[9]

    check(id, stub)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    check(id, broken)
    assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_out_size_is_right_wherever_pytorch_has_an_answer():
    """The solution printed in the notebook, against real layers."""
    for n in range(3, 14):
        for k in range(1, 4):
            for s in range(1, 5):
                for p in range(k // 2 + 1):
                    for ceil in (False, True):
                        want = F.max_pool1d(torch.zeros(1, n), k, s, p, ceil_mode=ceil).shape[1]
                        assert out_size(n, k, s, p, ceil) == want, (n, k, s, p, ceil)


def test_the_stripes_of_exercise_4_are_those_of_a_real_grid():
    from medlab.exercises import pooling

    assert math.isclose(pooling.FREQUENCY * 7, 3.4)  # 7 pixels a mm, 34 lines a cm
    assert math.isclose(140 * pooling.FREQUENCY, round(140 * pooling.FREQUENCY))
