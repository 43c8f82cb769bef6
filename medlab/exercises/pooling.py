"""Checks of pooling and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medlab.exercises import Verdict, Wrong, call, exercise, first_match, near, number

MESSAGES = {
    "pooling.1": {
        "right": "floor, ceiling, padding and the window that is dropped: you count as PyTorch "
        "does.",
        "no one": "for {told} I expected {expected} and got {got}. The quotient counts the steps "
        "between windows; the first window needs a + 1.",
        "no padding": "for {told} I expected {expected} and got {got}: the padding is missing.",
        "padding once": "for {told} I expected {expected} and got {got}. Padding lies on both "
        "sides: 2p.",
        "not dropped": "for {told} I expected {expected} and got {got}. With ceil, a window that "
        "would start in the padding on the right, (n′ − 1)·s ≥ n + p, is dropped.",
        "not quite dropped": "for {told} I expected {expected} and got {got}. A window that starts "
        "at n + p exactly stands in the padding already: ≥, not >.",
        "dropped early": "for {told} I expected {expected} and got {got}. Starts are counted from "
        "the padding on the left, so the padding on the right begins at n + p, not at n.",
        "always one more": "for {told} I expected {expected} and got {got}. Where the quotient is "
        "whole, there is nothing to round up, with or without ceil.",
        "always floor": "for {told} I expected {expected} and got {got}: you round down even when "
        "ceil is True.",
        "always ceil": "for {told} I expected {expected} and got {got}: you round up even when "
        "ceil is False.",
        "not whole": "for {told} I expected {expected} and got {got}: a number of windows is "
        "whole. Use // to round down.",
        "no kernel": "for {told} I expected {expected} and got {got}. n/s ignores the kernel: "
        "windows must fit whole.",
        "other": "for {told} I expected {expected} and got {got}.",
    },
    "pooling.2": {
        "right": "each window sends its gradient to its winner, and a pixel that wins twice gets "
        "both.",
        "shape": "you returned shape {got}. A gradient has the shape of its tensor: {want}.",
        "overwritten": "right, until windows overlap (k = {k}, s = {s}): a pixel that wins in two "
        "windows gets the sum. Use += instead of =.",
        "average": "you spread ȳ evenly over the window. That is average pooling's gradient.",
        "everyone": "every pixel of a window got all of ȳ. Only the winner changes the maximum.",
        "ties": "right, except at ties: with equal maxima in one window each of them got all of "
        "ȳ, so more came out than went in. Take the first only.",
        "shared": "right, except at ties: you shared ȳ among equal maxima, as amax does. Here the "
        "first in reading order gets all, as in max_pool2d.",
        "last": "right, except at ties: you took the last maximum of the window (is there a ≥?). "
        "Take the first in reading order.",
        "corner": "ȳ went to the first pixel of each window, whoever won.",
        "value": "you multiplied ȳ by the winner's value. The slope of the maximum is 1, however "
        "large it is.",
        "minimum": "ȳ went to the smallest pixel of each window.",
        "stride": "your windows stand one pixel apart. Window (i, j) starts at (s·i, s·j), with "
        "s = {s} here.",
        "offset": "you found the winner within its window and left ȳ at that place in the image's "
        "corner. Add where the window starts: (s·i, s·j).",
        "ones": "you marked the winners with 1. Each passes on the ȳ of its own window.",
        "other": "for a {height} × {width} image, k = {k}, s = {s}, my gradient differs from "
        "yours at {at}: expected {expected:.4g}, got {got:.4g}.",
    },
    "pooling.3": {
        "right": "visible at {seen:.0%} of the positions, with a CNR of {cnr:.0f} on average.",
        "shape": "I gave you {given} and expected {want} back; I got {got}.",
        "diluted": "the calcification's CNR is {cnr:.1f}. You average it with its 63 neighbours: "
        "signal / 64, noise / 8, hence a CNR eight times lower.",
        "flickers": "it is visible at {seen:.0%} of the positions only: where your sampling skips "
        "it, it is gone.",
        "dark": "you kept what is dark. Calcifications are bright: they stop X-rays.",
        "constant": "your background has no noise left, or is not finite: the answer does not "
        "depend on the image as it should.",
        "weak": "visible (CNR ≥ 5) at {seen:.0%} of the positions; CNR {cnr:.1f} on average. I "
        "asked for 95 %. Averaging dilutes a point, skipping pixels loses it, and the middle of a "
        "window does not notice it.",
    },
    "pooling.4": {
        "right": "at its worst position the point keeps {kept:.2f} of its height, and "
        "{stripes:.2f} of the stripes pass. One way: blur as little as the stripes need, then let "
        "the maximum keep the point. The price: fine detail, and noise that the maximum lifts.",
        "shape": "I gave you {given} and expected {want} back; I got {got}.",
        "constant": "your answer does not follow the brightness of the image.",
        "not finite": "your answer holds nan or infinity.",
        "flickers": "at some positions the point is gone (kept {kept:.2f}, where at best it keeps "
        "{best:.2f}); {stripes:.3f} of the stripes pass. A stride without anything before it skips "
        "pixels.",
        "stripes": "the point keeps {kept:.2f} of its height, well done, but {stripes:.2f} of the "
        "stripes pass. The maximum follows their crests. Take them away *before* it.",
        "diluted": "the stripes are gone ({stripes:.3f} pass), but so is the point: at its worst "
        "position it keeps {kept:.3f} of its height. Smooth over fewer pixels.",
        "neither": "the point keeps {kept:.3f} of its height and {stripes:.2f} of the stripes "
        "pass. I asked for at least {least:.1f} and at most {most:.1f}.",
    },
    "pooling.5": {
        "right": "kernels are small whatever the image; the linear layer pays for every pixel.",
        "no bias": "the biases are missing: one for each output channel and each class.",
        "bias per input": "you counted one bias for each input of a layer. It has one per output.",
        "one bias": "you counted a single bias for each layer. It has one per output channel, and "
        "one per class.",
        "one channel": "each output channel has a kernel for *every* input channel: C′·C·k², not "
        "C′·k².",
        "k once": "a kernel has k × k weights: you counted k.",
        "pooled": "you gave the linear layer one number per channel. Here the maps are flattened: "
        "C·side² features.",
        "side once": "the last maps have side × side positions: you counted side.",
        "no linear": "the linear layer at the end is missing.",
        "no convolutions": "the convolutions are missing.",
        "other": "for channels {channels}, k = {k}, side = {side}, classes = {classes} I expected "
        "{expected:,} and got {got:,.6g}.",
    },
    "pooling.6": {
        "right": "each convolution without padding takes 2, each pool halves and rounds down.",
        "padded": "for {height} × {width} I expected {expected} and got {got:g}. These "
        "convolutions have no padding: each takes 2 rows and 2 columns.",
        "channels": "for {height} × {width} I expected {expected} and got {got:g}: you counted "
        "the positions of one map. Flatten also lines up the 32 channels.",
        "first channels": "for {height} × {width} I expected {expected} and got {got:g}: 16 is the "
        "first convolution's number of channels. Flatten sees the last one's.",
        "square": "for {height} × {width} I expected {expected} and got {got:g}. The image is not "
        "square: rows and columns shrink each for itself.",
        "not rounded": "for {height} × {width} I expected {expected} and got {got:g}. A pool "
        "rounds down at each step: use //.",
        "one pool": "for {height} × {width} I expected {expected} and got {got:g}. There are two "
        "pools; the second halves again.",
        "late": "for {height} × {width} I expected {expected} and got {got:g}. Order matters: the "
        "second convolution takes 2 from maps that have already been halved.",
        "one pixel": "for {height} × {width} I expected {expected} and got {got:g}. A 3 × 3 kernel "
        "without padding takes two rows, one on each side.",
        "other": "for {height} × {width} I expected {expected} and got {got:g}.",
    },
    "pooling.7": {
        "right": "one row a patient, whatever the sizes, and no patient in another's row.",
        "flat": "you returned one row for the whole batch, shape {got}. That is flatten(0): it "
        "mixes all patients and works only for a batch of one.",
        "rows": "for {given} you returned {got}: {rows} rows for {n} patients. The patients must "
        "stay on the first axis: start from maps.shape[0] and let −1 be the rest.",
        "mixed": "the shape is right and the patients are not: row {row} changes when only "
        "patient {other}'s image does. A reshape after a transpose pours numbers across patients.",
        "order": "every row belongs to its own patient, but not in nn.Flatten's order (channel by "
        "channel, row by row). A layer trained on one order is scrambled by the other.",
        "pooled": "for {given} you returned {got}: that is a global pooling. I asked for all "
        "C·H·W values.",
        "shape": "for {given} I expected {want} and got {got}.",
        "other": "the values changed on the way: I only asked for another shape.",
    },
}


def _tensor(got: Any) -> Tensor:
    """What the learner returned as a float64 tensor; `Wrong` if it holds no numbers."""
    if torch.is_tensor(got):
        return got.detach().double()
    try:
        return torch.from_numpy(np.array(got, dtype=float))
    except (TypeError, ValueError):
        raise Wrong("not a number", kind=type(got).__name__) from None


def _everywhere(got: list, wrong: dict[str, Callable], cases: tuple) -> str:
    """The first diagnosis that explains the learner's answers to *all* cases, else "other"."""

    def explains(rule: Callable) -> bool:
        return all(near(g, rule(*case), rel=1e-9) for g, case in zip(got, cases, strict=True))

    return next((key for key, rule in wrong.items() if explains(rule)), "other")


def _steps(room: int, s: int, ceil: bool) -> int:
    return -(-room // s) if ceil else room // s


def _dropped(count: int, s: int, ceil: bool, end: int) -> int:
    """A count of windows without the last one if, with ceil, that starts at `end` or later."""
    return count - 1 if ceil and (count - 1) * s >= end else count


def _kept(n: int, k: int, s: int, p: int, ceil: bool, end: int) -> int:
    return _dropped(_steps(n + 2 * p - k, s, ceil) + 1, s, ceil, end)


SIZES: dict[str, Callable] = {
    "not dropped": lambda n, k, s, p, ceil: _steps(n + 2 * p - k, s, ceil) + 1,
    "not quite dropped": lambda n, k, s, p, ceil: _kept(n, k, s, p, ceil, n + p + 1),
    "dropped early": lambda n, k, s, p, ceil: _kept(n, k, s, p, ceil, n),
    "always one more": lambda n, k, s, p, ceil: (n + 2 * p - k) // s + 1 + ceil,
    "always one more, but dropped": lambda n, k, s, p, ceil: _dropped(
        (n + 2 * p - k) // s + 1 + ceil, s, ceil, n + p
    ),
    "no one": lambda n, k, s, p, ceil: _steps(n + 2 * p - k, s, ceil),
    "no padding": lambda n, k, s, p, ceil: _steps(n - k, s, ceil) + 1,
    "padding once": lambda n, k, s, p, ceil: _steps(n + p - k, s, ceil) + 1,
    "always floor": lambda n, k, s, p, ceil: _steps(n + 2 * p - k, s, False) + 1,
    "always ceil": lambda n, k, s, p, ceil: _pooled_size(n, k, s, p, True),
    "not whole": lambda n, k, s, p, ceil: (n + 2 * p - k) / s + 1,
    "no kernel": lambda n, k, s, p, ceil: _steps(n, s, ceil),
}


def _pooled_size(n: int, k: int, s: int, p: int, ceil: bool) -> int:
    layer = nn.MaxPool1d(k, stride=s, padding=p, ceil_mode=ceil)
    return layer(torch.zeros(1, 1, n)).shape[-1]


@exercise("pooling.1", MESSAGES["pooling.1"])
def out_size(answer) -> Verdict:
    cases = (
        (12, 2, 2, 0, False),
        (65, 3, 2, 1, False),
        (13, 2, 2, 0, False),
        (13, 2, 2, 0, True),
        (11, 3, 2, 0, True),
        (15, 5, 3, 2, True),
        (3, 2, 2, 1, True),
        (6, 3, 4, 1, True),
        (10, 4, 1, 2, False),
        (16, 4, 3, 2, True),
    )
    expected = [_pooled_size(*case) for case in cases]
    got = [number(call(answer, *case)) for case in cases]
    at = next((i for i, want in enumerate(expected) if got[i] != want), None)
    if at is None:
        return "right"
    told = "n = {}, k = {}, s = {}, p = {}, ceil = {}".format(*cases[at])
    key = _everywhere(got, SIZES, cases).split(",")[0]
    return key, {"told": told, "expected": expected[at], "got": f"{got[at]:g}"}


def _scattered(x: Tensor, y_bar: Tensor, k: int, s: int, share, *, add: bool = True) -> Tensor:
    """Gradient that gives window (i, j)'s pixels `share(window)` · ȳ[i, j]."""
    x_bar = torch.zeros_like(x)
    for i, j in np.ndindex(*y_bar.shape):
        at = (slice(s * i, s * i + k), slice(s * j, s * j + k))
        given = share(x[at]) * y_bar[i, j]
        if add:
            x_bar[at] += given
        else:
            x_bar[at] = torch.where(share(x[at]) != 0, given, x_bar[at])
    return x_bar


def _one(window: Tensor, at: int) -> Tensor:
    mark = torch.zeros(window.numel(), dtype=window.dtype)
    mark[at] = 1
    return mark.view(window.shape)


def _shares() -> dict[str, Any]:
    """What each pixel of a window gets of ȳ, rightly and in the usual wrong ways."""

    def equal(w):
        return (w == w.max()).to(w.dtype)

    def first(w):
        return _one(w, int((w == w.max()).flatten().nonzero()[0]))

    return {
        "right": first,
        "ties": equal,
        "shared": lambda w: equal(w) / equal(w).sum(),
        "last": lambda w: _one(w, int((w == w.max()).flatten().nonzero()[-1])),
        "average": lambda w: torch.full_like(w, 1 / w.numel()),
        "everyone": torch.ones_like,
        "corner": lambda w: _one(w, 0),
        "value": lambda w: first(w) * w.max(),
        "minimum": lambda w: _one(w, int(w.flatten().argmin())),
    }


@exercise("pooling.2", MESSAGES["pooling.2"])
def maxpool_backward(answer) -> Verdict:
    rng = torch.Generator().manual_seed(32)
    plain = torch.randn(6, 8, generator=rng)
    odd = torch.randn(7, 9, generator=rng)
    tied = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 2], [3, 1, 0, 5], [1, 3, 5, 0]])
    for x, k, s in ((plain, 2, 2), (odd, 3, 2), (odd, 2, 3), (tied, 2, 2)):
        height, width = x.shape
        y_bar = torch.randn((height - k) // s + 1, (width - k) // s + 1, generator=rng)
        leaf = x.clone().requires_grad_()
        (want,) = torch.autograd.grad(
            (functional.max_pool2d(leaf[None, None], k, s)[0, 0] * y_bar).sum(), leaf
        )
        got = _tensor(call(answer, x.clone(), y_bar.clone(), k, s))
        if near(got, want):
            continue
        told: dict[str, Any] = {"height": height, "width": width, "k": k, "s": s}
        if got.shape != want.shape:
            return "shape", {"got": tuple(got.shape), "want": tuple(want.shape)}
        shares = _shares()
        winner = shares.pop("right")
        wrong = {key: _scattered(x, y_bar, k, s, share) for key, share in shares.items()}
        wrong["overwritten"] = _scattered(x, y_bar, k, s, winner, add=False)
        if s > 1:
            wrong["stride"] = _scattered(x, y_bar, k, 1, winner)
        wrong["offset"] = torch.zeros_like(x)
        for i, j in np.ndindex(*y_bar.shape):
            window = x[s * i : s * i + k, s * j : s * j + k]
            wrong["offset"][:k, :k] += winner(window) * y_bar[i, j]
        wrong["ones"] = _scattered(x, torch.ones_like(y_bar), k, s, winner)
        key = first_match(got, wrong)
        worst = (got - want).abs().argmax()
        at = divmod(int(worst), width)
        told |= {"at": at, "expected": want.flatten()[worst].item()}
        return key, told | {"got": got.flatten()[worst].item()}
    return "right"


HEIGHT, VISIBLE = 8.0, 5.0


@exercise("pooling.3", MESSAGES["pooling.3"])
def keep(answer) -> Verdict:
    rng = torch.Generator().manual_seed(33)
    noise = torch.randn(64, 1, 64, 64, generator=rng)
    lesion = torch.zeros_like(noise)
    phase = torch.arange(64)  # every place within one window, one for each image
    lesion[phase, 0, 24 + phase // 8, 32 + phase % 8] = HEIGHT
    background, shown = (_tensor(call(answer, x.clone())) for x in (noise, noise + lesion))
    told = {"given": (64, 1, 64, 64), "want": (64, 1, 8, 8), "got": tuple(shown.shape)}
    if shown.shape != (64, 1, 8, 8) or background.shape != shown.shape:
        return "shape", told
    spread = background.std()
    if not (torch.isfinite(shown).all() and spread > 1e-9):
        return "constant"
    where = (shown - background).abs().flatten(1).argmax(1, keepdim=True)  # the lesion's cell
    cnr = (shown.flatten(1).gather(1, where)[:, 0] - background.mean()) / spread
    found = {"seen": (cnr >= VISIBLE).double().mean().item(), "cnr": cnr.mean().item()}
    if found["seen"] >= 0.95:
        return "right", found
    if near(background, -functional.max_pool2d(-noise, 8)) or near(
        background, functional.max_pool2d(-noise, 8)
    ):
        return "dark"
    average = functional.avg_pool2d(noise, 8).double().flatten()
    if torch.stack([background.flatten(), average]).corrcoef()[0, 1] > 0.99:
        return "diluted", found
    return ("flickers" if (cnr >= VISIBLE).any() and cnr.median() < 2 else "weak"), found


LEAST, MOST = 0.2, 0.1
FREQUENCY = 3.4 / 7  # cycles a pixel: the grid of the notebook


@exercise("pooling.4", MESSAGES["pooling.4"])
def mine(answer) -> Verdict:
    size = 48
    point = torch.zeros(16, 1, size, size)  # every place within one window of 4 × 4
    phase = torch.arange(16)
    point[phase, 0, 20 + phase // 4, 24 + phase % 4] = 1.0
    columns = torch.arange(140)  # two whole periods of the alias
    stripes = torch.cos(2 * math.pi * FREQUENCY * columns).expand(1, 1, 40, 140).clone()

    def run(x: Tensor) -> Tensor:
        got = _tensor(call(answer, x.clone()))
        want = (*x.shape[:2], x.shape[2] // 4, x.shape[3] // 4)
        if tuple(got.shape) != want:
            raise Wrong("shape", given=tuple(x.shape), want=want, got=tuple(got.shape))
        if not torch.isfinite(got).all():
            raise Wrong("not finite")
        return got

    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # off the padded rim
    flat = torch.ones(1, 1, size, size)
    gain = (run(flat)[inner] - run(0 * flat)[inner]).mean().item()
    if abs(gain) < 1e-6:
        return "constant"
    each = (run(point) - run(0 * point))[inner].flatten(1).amax(1) / gain
    waves = (run(stripes) - run(0 * stripes))[inner]
    passed = (waves.std() / abs(gain) / stripes.std()).item()
    told = {"kept": each.min().item(), "best": each.max().item(), "stripes": passed}
    told |= {"least": LEAST, "most": MOST}
    kept, clean = told["kept"] >= LEAST, passed <= MOST
    if kept and clean:
        return "right", told
    if not kept and told["best"] >= 4 * max(told["kept"], 1e-3) and told["best"] >= LEAST:
        return "flickers", told
    return ("stripes" if kept else "diluted" if clean else "neither"), told


@exercise("pooling.5", MESSAGES["pooling.5"])
def parameters(answer) -> Verdict:
    for channels, k, side, classes in (([1, 8, 12], 3, 5, 2), ([3, 10], 5, 7, 4)):
        pairs = list(pairwise(channels))
        layers: list[nn.Module] = [nn.Conv2d(before, after, k) for before, after in pairs]
        layers.append(nn.Linear(channels[-1] * side**2, classes))
        expected = sum(p.numel() for layer in layers for p in layer.parameters())
        got = number(call(answer, list(channels), k, side, classes))
        if near(got, expected, rel=1e-9):
            continue
        last = channels[-1]
        weights = sum(a * b * k**2 for a, b in pairs)
        biases = sum(b for _, b in pairs)
        linear = classes * (last * side**2 + 1)
        wrong = {
            "no bias": weights + classes * last * side**2,
            "bias per input": weights + sum(a for a, _ in pairs) + (classes + 1) * last * side**2,
            "one bias": weights + classes * last * side**2 + len(layers),
            "one channel": sum(b * (k**2 + 1) for _, b in pairs) + linear,
            "k once": sum(b * (a * k + 1) for a, b in pairs) + linear,
            "pooled": weights + biases + classes * (last + 1),
            "side once": weights + biases + classes * (last * side + 1),
            "no linear": weights + biases,
            "no convolutions": linear,
        }
        partial = {  # the same with some of the biases forgotten
            "no bias": (weights + linear, weights + biases + linear - classes),
            "no linear": (weights,),
        }
        key = next((name for name, value in wrong.items() if got == value), "other")
        if key == "other":
            key = next((name for name, some in partial.items() if got in some), key)
        told = {"channels": channels, "k": k, "side": side, "classes": classes}
        return key, told | {"expected": expected, "got": got}
    return "right"


def _walked(n: int) -> int:
    return ((n - 2) // 2 - 2) // 2


FEATURES: dict[str, Callable] = {
    "padded": lambda h, w: 32 * (h // 4) * (w // 4),
    "channels": lambda h, w: _walked(h) * _walked(w),
    "first channels": lambda h, w: 16 * _walked(h) * _walked(w),
    "square": lambda h, w: 32 * _walked(h) ** 2,
    "square, by columns": lambda h, w: 32 * _walked(w) ** 2,
    "not rounded": lambda h, w: 32 * ((h - 6) / 4) * ((w - 6) / 4),
    "not rounded, until the end": lambda h, w: 32 * (h - 6) * (w - 6) // 16,
    "one pool": lambda h, w: 32 * ((h - 4) // 2) * ((w - 4) // 2),
    "one pool, the first": lambda h, w: 32 * ((h - 2) // 2 - 2) * ((w - 2) // 2 - 2),
    "late": lambda h, w: 32 * ((h - 4) // 4) * ((w - 4) // 4),
    "one pixel": lambda h, w: 32 * (((h - 1) // 2 - 1) // 2) * (((w - 1) // 2 - 1) // 2),
}


@exercise("pooling.6", MESSAGES["pooling.6"])
def flat_features(answer) -> Verdict:
    stack = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
    )
    cases = ((64, 64), (101, 76), (50, 83), (29, 49))
    expected = [stack(torch.zeros(1, 1, *case)).shape[1] for case in cases]
    got = [number(call(answer, *case)) for case in cases]
    at = next((i for i, want in enumerate(expected) if got[i] != want), None)
    if at is None:
        return "right"
    told = {"height": cases[at][0], "width": cases[at][1]}
    key = _everywhere(got, FEATURES, cases).split(",")[0]
    return key, told | {"expected": expected[at], "got": got[at]}


@exercise("pooling.7", MESSAGES["pooling.7"])
def to_rows(answer) -> Verdict:
    rng = torch.Generator().manual_seed(37)
    for shape in ((4, 3, 6, 5), (6, 2, 3, 7), (1, 4, 3, 2)):
        maps = torch.randn(shape, generator=rng)
        n, features = shape[0], math.prod(shape[1:])
        got, want = _tensor(call(answer, maps.clone())), nn.Flatten()(maps)
        if near(got, want):
            continue
        told: dict[str, Any] = {"given": shape, "got": tuple(got.shape), "n": n}
        told |= {"want": (n, features), "rows": got.shape[0] if got.ndim else 1}
        if got.shape in ((n * features,), (1, n * features)) and n > 1:
            return "flat", told
        if got.shape == (n, shape[1]):
            return "pooled", told
        if got.numel() == n * features and got.ndim == 2 and got.shape[0] != n:
            return "rows", told
        if got.shape != want.shape:
            return "shape", told
        for other in range(n):
            changed = maps.clone()
            changed[other] += 1
            moved = (_tensor(call(answer, changed)) - got).abs().amax(1) > 0
            stray = [row for row in range(n) if moved[row] and row != other]
            if stray:
                return "mixed", {"row": stray[0], "other": other}
        same = near(got.sort(1).values, want.sort(1).values)
        return ("order" if same else "other"), told
    return "right"
