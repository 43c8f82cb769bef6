"""Notebook 02's checks, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlab.exercises import check
from medlab.exercises.convolution import MESSAGES


def conv(x, w, b):
    return F.conv2d(x[None], w, b)[0]


def by_loops(x, w, b):
    k = w.shape[-1]
    y = np.zeros((len(w), x.shape[1] - k + 1, x.shape[2] - k + 1))
    for o, i, j in np.ndindex(*y.shape):
        y[o, i, j] = (w[o] * x[:, i : i + k, j : j + k]).sum() + b[o]
    return y


def faulty(x, w, b):
    k = w.shape[-1]
    y = torch.zeros(len(w), x.shape[1] - k + 1, x.shape[2] - k + 1)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            y[:, i, j] = (w[:, 0] * x[0, i : i + k, j : j + k]).sum((1, 2)) + b
    return y


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


def size(n, k, s, p, d):
    return (n + 2 * p - d * (k - 1) - 1) // s + 1


def grad(y_bar, w):
    return F.conv_transpose2d(y_bar[None], w)[0]


def grad_by_autograd(y_bar, w):
    k = w.shape[-1]
    x = torch.zeros(w.shape[1], *(n + k - 1 for n in y_bar.shape[1:]), requires_grad=True)
    F.conv2d(x[None], w)[0].backward(y_bar)
    return x.grad


def framed(y_bar, w, frame=None, turn=True):
    k = w.shape[-1]
    w = w.flip(2, 3) if turn else w
    around = [k - 1 if frame is None else frame] * 4
    return F.conv2d(F.pad(y_bar, around)[None], w.transpose(0, 1))[0]


def scattered(y_bar, w):
    k = w.shape[-1]
    x_bar = torch.zeros(w.shape[1], *(n + k - 1 for n in y_bar.shape[1:]))
    for o, i, j in np.ndindex(*y_bar.shape):
        x_bar[:, i : i + k, j : j + k] += w[o] * y_bar[o, i, j]
    return x_bar


def gathered(y_bar, w):
    k = w.shape[-1]
    frame = np.pad(y_bar.numpy(), ((0, 0), (k - 1, k - 1), (k - 1, k - 1)))
    windows = np.lib.stride_tricks.sliding_window_view(frame, (k, k), axis=(1, 2))
    return np.einsum("ocab,oijab->cij", w.numpy()[:, :, ::-1, ::-1], windows)


def roles_kept(y_bar, w):
    return F.conv2d(F.pad(y_bar, [w.shape[-1] - 1] * 4)[None], w.flip(2, 3))[0]


def wrong_axes_turned(y_bar, w):
    return framed(y_bar, w.flip(0, 1), turn=False)


def border_left_out(y_bar, w):
    x_bar = grad(y_bar, w)
    x_bar[:, -1] = 0
    return x_bar


def field(layers):
    r, jump = 1, 1
    for k, s, d in layers:
        r, jump = r + (k - 1) * d * jump, jump * s
    return r


def field_backwards(layers):
    r = 1
    for k, s, d in reversed(layers):
        r = (r - 1) * s + d * (k - 1) + 1
    return r


def own_stride(layers):
    r, jump = 1, 1
    for k, s, d in layers:
        jump *= s
        r += (k - 1) * d * jump
    return r


def last_stride(layers):
    r, before = 1, 1
    for k, s, d in layers:
        r, before = r + (k - 1) * d * before, s
    return r


PRAISE = ("47 pixels, each of them read, at 4.5", "at 45.0 multiply-adds a pixel")
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
CASES = [
    ("convolution.1", conv, "✓"),
    ("convolution.1", by_loops, "✓"),
    ("convolution.1", lambda x, w, b: conv(x.double(), w.double(), b.double()), "✓"),
    ("convolution.1", lambda x, w, b: conv(x, w, b).requires_grad_(), "✓"),
    ("convolution.1", by_einsum, "✓"),
    ("convolution.1", lambda x, w, b: conv(x, w, b).tolist(), "✓"),
    ("convolution.1", lambda x, w, b: sum_over_all(x, w, b), "you added over o as well"),
    ("convolution.1", last_left_out, "y[0, 0, 6] should be"),
    ("convolution.1", lambda x, w, b: conv(x, w, b) > 0, "y[0, 0, 0] should be"),
    ("convolution.1", lambda x, w, b: conv(x, w, b) * math.nan, "and yours is nan"),
    ("convolution.1", faulty, "first input channel only"),
    ("convolution.1", lambda x, w, b: conv(x[:1], w[:, :1], None), "first input channel only"),
    (
        "convolution.1",
        lambda x, w, b: conv(x, w, None) / len(x) + b[:, None, None],
        "averaged over the",
    ),
    ("convolution.1", lambda x, w, b: conv(x, w, None), "bias is missing"),
    ("convolution.1", bias_each_time, "once for every input channel"),
    ("convolution.1", lambda x, w, b: conv(x, w.flip(2, 3), b), "turned by 180°"),
    (
        "convolution.1",
        lambda x, w, b: conv(x.sum(0)[None], w[:, :1], b),
        "kernel of the first input",
    ),
    ("convolution.1", per_channel, "picture for each pair of output and input"),
    (
        "convolution.1",
        lambda x, w, b: per_channel(x, w, b).transpose(0, 1),
        "picture for each pair",
    ),
    ("convolution.1", lambda x, w, b: conv(x, w, b).sum(0), "output channels are added up"),
    ("convolution.1", short, "from 0 to H − k inclusive"),
    (
        "convolution.1",
        lambda x, w, b: F.conv2d(x[None], w, b, padding="same")[0],
        "the size of the input",
    ),
    ("convolution.1", lambda x, w, b: conv(x, w, b)[None], "I expected (O, H − k + 1, W − k + 1)"),
    ("convolution.1", lambda x, w, b: 2 * conv(x, w, b), "y[0, 0, 0] should be"),
    ("convolution.1", lambda x, w, b: 0.0, "I expected (O"),
    ("convolution.1", lambda x, w, b: "conv", "expected a number"),
    ("convolution.2", size, "✓"),
    ("convolution.2", lambda *c: torch.tensor(size(*c)), "✓"),
    ("convolution.2", lambda *c: np.float64(size(*c)), "✓"),
    ("convolution.2", lambda n, k, s, p, d: math.floor((n + 2 * p - d * (k - 1) - 1) / s) + 1, "✓"),
    ("convolution.2", lambda n, k, s, p, d: len(range(-p, n + p - d * (k - 1), s)), "✓"),
    ("convolution.2", lambda n, k, s, p, d: (n + 2 * p - k) // s + 1, "left the dilation out"),
    ("convolution.2", lambda n, k, s, p, d: (n + 2 * p - d * k) // s + 1, "does not span d·k"),
    ("convolution.2", lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1, "padded one side"),
    ("convolution.2", lambda n, k, s, p, d: (n - d * (k - 1) - 1) // s + 1, "left the padding out"),
    ("convolution.2", lambda *c: size(*c) - 1, "start at 0 counts"),
    (
        "convolution.2",
        lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s + 1,
        "one pixel too far",
    ),
    ("convolution.2", lambda n, k, s, p, d: n + 2 * p - d * (k - 1), "left the stride out"),
    ("convolution.2", lambda *c: math.nan, "expected 5 and got nan"),
    ("convolution.2", lambda *c: math.inf, "expected 5 and got inf"),
    (
        "convolution.2",
        lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) / s + 1,
        "outputs? A window",
    ),
    ("convolution.2", lambda n, k, s, p, d: (n + 2 * p - k) / s + 1, "outputs? A window"),
    (
        "convolution.2",
        lambda n, k, s, p, d: math.ceil((n + 2 * p - d * (k - 1) - 1) / s) + 1,
        "you rounded up",
    ),
    (
        "convolution.2",
        lambda n, k, s, p, d: round((n + 2 * p - d * (k - 1) - 1) / s + 1),
        "nearest whole",
    ),
    (
        "convolution.2",
        lambda n, k, s, p, d: (n + 2 * p) // s - d * (k - 1),
        "before you took the span",
    ),
    ("convolution.2", lambda *c: 5, "d = 1 I expected 4 and got 5"),
    ("convolution.2", lambda n, *c: n, "d = 1 I expected 5 and got 7"),
    ("convolution.2", lambda *c: c, "expected a number"),
    ("convolution.3", SOBEL, "✓"),
    ("convolution.3", torch.tensor(SOBEL) / 8, "✓"),
    ("convolution.3", torch.tensor(SOBEL)[None, None], "✓"),
    ("convolution.3", np.tile([-1.0, 0, 1], (3, 1)), "✓"),
    ("convolution.3", [[-1, -1, 2]] * 3, "✓"),
    ("convolution.3", [[-0.333, -0.333, 0.666]] * 3, "✓"),
    ("convolution.3", [[-1, 1, 0]] * 3, "✓"),
    ("convolution.3", torch.tensor([[-1.0, 0, 1]] * 3, requires_grad=True), "✓"),
    ("convolution.3", [[1, 1, 1]] * 3, "even tissue of 100 HU answers 900"),
    ("convolution.3", [[-1, 0, 2]] * 3, "even tissue of 100 HU answers 300"),
    ("convolution.3", [[0, 1, 0], [1, -4, 1], [0, 1, 0]], "answers at horizontal edges too"),
    ("convolution.3", [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], "answers at horizontal edges too"),
    ("convolution.3", np.transpose(SOBEL), "Rows and columns are exchanged"),
    ("convolution.3", [[1, 0, -1]] * 3, "that should be positive"),
    ("convolution.3", [[1, -2, 1]] * 3, "that should be positive"),
    ("convolution.3", [[0, 0, 0], [-1, 0, 1], [0, 0, 0]], "gives only 0.71 times"),
    ("convolution.3", [[0, 0, 0], [-1, 0, 1], [-1, 0, 1]], "gives only 1.00 times"),
    ("convolution.3", np.zeros((3, 3)), "answers no edge at all"),
    ("convolution.3", [[-1, 0, 1]], "got shape (1, 3)"),
    ("convolution.3", [[math.nan, 0, 1]] * 3, "infinite or missing"),
    ("convolution.3", "Sobel", "expected a number"),
    ("convolution.3", [[-1, 0], [1, 0, 1]], "expected a number"),
    ("convolution.4", grad, "✓"),
    ("convolution.4", framed, "✓"),
    ("convolution.4", grad_by_autograd, "✓"),
    ("convolution.4", lambda y, w: grad(y, w).numpy(), "✓"),
    ("convolution.4", scattered, "✓"),
    ("convolution.4", gathered, "✓"),
    ("convolution.4", roles_kept, "to have 2 channels"),
    ("convolution.4", roles_kept, "exchange the first two axes of w"),
    ("convolution.4", wrong_axes_turned, "along its last two axes"),
    ("convolution.4", lambda y, w: border_left_out(y, w), "the gradient at [0, 7, 0] should be"),
    ("convolution.4", lambda y, w: framed(y, w, turn=False), "slid the kernel as it is"),
    ("convolution.4", lambda y, w: framed(y, w, frame=0), "act through few outputs"),
    ("convolution.4", lambda y, w: framed(y, w, frame=w.shape[-1] // 2), "must be k − 1 wide"),
    ("convolution.4", lambda y, w: grad(y, w)[:, 1:-1, 1:-1], "must be k − 1 wide"),
    (
        "convolution.4",
        lambda y, w: grad(y, w).sum(0, keepdim=True).expand(len(y), -1, -1),
        "3 channels, as many as the layer has outputs",
    ),
    ("convolution.4", lambda y, w: grad(y[:1], w[:1]), "first output channel only"),
    ("convolution.4", lambda y, w: grad(y, w) / len(y), "averaged over the output channels"),
    (
        "convolution.4",
        lambda y, w: grad(y, w)[None],
        "you returned shape (1, 1, 8, 10); the gradient",
    ),
    ("convolution.4", lambda y, w: -grad(y, w), "the gradient at [0, 0, 0] should be"),
    ("convolution.4", lambda y, w: 0.0, "the gradient has the shape"),
    ("convolution.4", lambda y, w: "x", "expected a number"),
    ("convolution.5", field, "✓"),
    ("convolution.5", field_backwards, "✓"),
    ("convolution.5", lambda layers: torch.tensor(float(field(layers))), "✓"),
    (
        "convolution.5",
        lambda layers: 1 + sum((k - 1) * d for k, s, d in layers),
        "left the strides out",
    ),
    ("convolution.5", lambda layers: 1 + sum(k - 1 for k, s, d in layers), "left the strides out"),
    ("convolution.5", own_stride, "own stride widen"),
    (
        "convolution.5",
        lambda layers: field([(k, s, 1) for k, s, d in layers]),
        "left the dilation out",
    ),
    ("convolution.5", lambda layers: sum(k * d for k, s, d in layers), "added whole kernels"),
    ("convolution.5", lambda layers: sum(k for k, s, d in layers), "added whole kernels"),
    ("convolution.5", lambda layers: field(layers) - 1, "started from 0"),
    (
        "convolution.5",
        lambda layers: math.prod(k for k, s, d in layers),
        "multiplied the kernels' sides",
    ),
    ("convolution.5", last_stride, "for the next layer only"),
    ("convolution.5", lambda layers: 3, "[(3, 1, 1), (3, 1, 1)] I expected 5 pixels and got 3"),
    ("convolution.5", lambda layers: layers, "expected a number"),
    ("convolution.6", [(3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 2), (3, 1, 2)], PRAISE[0]),
    ("convolution.6", [(3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 1, 8), (3, 1, 8)], PRAISE[1]),
    ("convolution.6", ((4, 4, 1), [3, 1, 1], (3, 1, 2), (3, 1, 3)), "✓"),
    ("convolution.6", np.array([(3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 2), (3, 1, 2)]), "✓"),
    ("convolution.6", [(3, 1, 1)] * 4, "one output sees 9 pixels"),
    ("convolution.6", [(3, 1, 1)] * 23, "at 207 multiply-adds"),
    ("convolution.6", [(46, 1, 1)], "at 2116 multiply-adds"),
    ("convolution.6", [(3, 1, 23)], "47 pixels wide, but of those in a row only 3 are read"),
    ("convolution.6", [(3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 4)], "only 45 are read"),
    ("convolution.6", [(3, 2, 1)] * 5, "32 pixels apart"),
    ("convolution.6", [(46, 8, 1)], "8 pixels apart"),
    ("convolution.6", [(9, 10**6, 1), (9, 1, 10**6)], "multiply-adds for each input pixel"),
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
    assert said.startswith("✓" if reply in ("✓", *PRAISE) else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args): ...

    def broken(*args):
        return args[9]

    def prints(*args):
        print(end="")

    untouched = {"convolution.3": ..., "convolution.6": [(..., ..., ...)]}.get(id, stub)
    check(id, untouched)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if untouched is stub:
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out
        check(id, prints)
        assert "your function returned None" in capsys.readouterr().out
        check(id, 3)
        assert "expected a function" in capsys.readouterr().out


def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(capsys):
    def hasty(x, w, b):
        y = conv(x, w, b)
        x.zero_(), w.zero_(), b.zero_()
        return y

    check("convolution.1", hasty)
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    for id, answer, _ in CASES:
        check(id, answer)
    said = capsys.readouterr().out
    for id, table in MESSAGES.items():
        for key, text in table.items():
            first = max(text.split("{")[0], text.rsplit("}")[-1], key=len)
            assert first.strip() in said, f"no test hears {id} {key!r}"
