"""Checks of pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.exercises import Verdict, Wrong, as_array, call, exercise, first_match, near

MESSAGES = {
    "pooling.1": {
        "right": "windows that tile, overlap or leave gaps, and whatever the window is reduced to.",
        "no last": "for {told} you returned shape {got}; I expected {want}. ⌊(n − k)/s⌋ counts the "
        "steps between windows; the first window needs a + 1.",
        "one more": "for {told} you returned shape {got}; I expected {want}. A window that would "
        "hang over the edge is left out: round down.",
        "square": "for {told} you returned shape {got}; I expected {want}. Rows and columns are "
        "counted each for themselves.",
        "transposed": "rows and columns of your result are exchanged: y[i, j] comes from the "
        "window at row s·i, column s·j.",
        "shape": "for {told} you returned {got}; I expected shape {want}.",
        "by k": "your windows stand k = {k} pixels apart. Window (i, j) starts at (s·i, s·j), "
        "with s = {s} here.",
        "by one": "your windows stand one pixel apart. Window (i, j) starts at (s·i, s·j), with "
        "s = {s} here.",
        "side": "your windows are s × s pixels large. A window has k × k, here k = {k}, and its "
        "place counts in s = {s}.",
        "axes": "your numbers run across windows: with tiles of shape (H′, W′, k, k), the last two "
        "axes are those of one window.",
        "own": "you took the {name} of each window. Here `reduce` asks for something else: call "
        "it.",
        "other": "for {told} y{at} should be {expected:.4g}, and I got {found:.4g}.",
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
        "right": "one kernel for each channel, k pixels apart, weights 1/k².",
        "mixed": "your output mixes the channels: each one got all of them. Let `groups` keep "
        "them apart: as many groups as channels, and a kernel of shape (C, 1, k, k).",
        "one channel": "you returned shape {got} for {given}: all channels in one map. I expected "
        "{want}, one map for each channel.",
        "no stride": "you returned shape {got} for {given}: your windows stand one pixel apart. I "
        "expected {want}; k pixels apart is `stride=k`.",
        "padded": "you returned shape {got} for {given}. I expected {want}: nothing is padded, and "
        "a window that does not fit is left out.",
        "sum": "your answer is k² times too large: the weights are 1/k², so that they add up to 1.",
        "side": "your answer is k times too large: a window has k² pixels, and you divided by k.",
        "shape": "you returned {got} for {given}; I expected shape {want}.",
        "other": "for {given} and k = {k}, y{at} should be {expected:.4g}, and I got {found:.4g}.",
    },
    "pooling.4": {
        "right": "every m folds two frequencies onto f′, and each lies in a strip of its own.",
        "form": "I expected the frequencies as a list of numbers, and got {got}.",
        "survivor": "you returned f′/s alone, the wave that survives. The others are those that "
        "come back as an alias.",
        "plus": "for {told} you have the m + f′ and not the m − f′: the bars of |fs − m| hide two "
        "signs.",
        "minus": "for {told} you have the m − f′ and not the m + f′: the bars of |fs − m| hide two "
        "signs.",
        "new": "your frequencies are in cycles a *new* pixel. An old pixel is s times as small: "
        "divide by s = {s}.",
        "beyond": "for {told} your list holds {stray:.4g}. A picture has waves from 0 to ½ cycles "
        "a pixel.",
        "twice": "for {told} your list holds a frequency twice. Each once: f′ = 0 and f′ = ½ give "
        "the same wave from two sides.",
        "order": "the right frequencies, in another order: smallest first.",
        "missing": "for {told} I expected {expected}, and your list lacks {lacking:.4g}.",
        "other": "for {told} I expected {expected}, and {stray:.4g} cycles a pixel come back as "
        "{alias:.4g}.",
    },
    "pooling.5": {
        "right": "at its worst position the point keeps {kept:.2f} of its height, and "
        "{stripes:.2f} of the stripes pass. One way: blur as little as the stripes need, then let "
        "the maximum keep the point. The price: fine detail, and noise that the maximum lifts.",
        "shape": "I gave you {given} and expected {want} back; I got {got}.",
        "constant": "your answer does not follow the brightness of the image.",
        "not finite": "your answer holds nan or infinity.",
        "moved": "the point is seen, but not where it lies: your answer's rows or columns are not "
        "in the order of the image's.",
        "flickers": "at some positions the point is gone (kept {kept:.2f}, where at best it keeps "
        "{best:.2f}); {stripes:.3f} of the stripes pass. What your stride jumps over, nothing "
        "before it has brought within its reach: either nothing is there, or it reaches less far "
        "than the stride of 4.",
        "stripes": "the point keeps {kept:.2f} of its height, well done, but {stripes:.2f} of the "
        "stripes pass. The maximum follows their crests. Take them away *before* it.",
        "diluted": "the stripes are gone ({stripes:.3f} pass), but so is the point: at its worst "
        "position it keeps {kept:.3f} of its height. Smooth over fewer pixels.",
        "neither": "the point keeps {kept:.3f} of its height and {stripes:.2f} of the stripes "
        "pass. I asked for at least {least:.1f} and at most {most:.1f}.",
    },
    "pooling.6": {
        "right": "sum and mean may change places, so a score's evidence has a place.",
        "scores": "you returned the scores themselves, {got}. I asked for a map of scores, one at "
        "each place, {want}.",
        "no bias": "the bias is missing. The mean of a constant is the constant: every place gets "
        "the whole bias.",
        "bias shared": "you spread the bias over the places. The mean of a constant is the "
        "constant: every place gets the whole bias.",
        "bias axis": "the bias went to the columns of the map: (K,) meets the *last* axis. Reshape "
        "it to (K, 1, 1).",
        "turned": "you used the weights as (C, K). Row k of `weight` belongs to class k.",
        "last": "you returned {got}: the classes come second, {want}.",
        "clipped": "you set what is below 0 to 0. Evidence may speak against a class.",
        "summed": "your map is H·W times too small: its sum, not its mean, is the score.",
        "shape": "for maps of {given} and {k} classes you returned {got}; I expected shape {want}.",
        "other": "at {at} I expected {expected:.4g} and got {found:.4g}.",
    },
}

CELL = (16, 32)  # of exercise 5: where the window of 4 × 4 with the point begins


def _tensor(got: Any) -> Tensor:
    """What the learner returned as a float64 tensor; `Wrong` if it holds no numbers."""
    near(got, 0)
    return torch.from_numpy(as_array(got))


def _worst(got: Tensor, want: Tensor) -> dict[str, Any]:
    """Where two tensors differ most, and by what."""
    at = int((got - want).abs().nan_to_num(nan=torch.inf).argmax())
    place = tuple(int(k) for k in np.unravel_index(at, want.shape))
    return {
        "at": f"[{', '.join(map(str, place))}]",
        "expected": want.flatten()[at].item(),
        "found": got.flatten()[at].item(),
    }


REDUCE: dict[str, Callable] = {"maximum": torch.amax, "mean": torch.mean, "minimum": torch.amin}


def _pooled(x: Tensor, side: int, step: int, shape: tuple[int, ...], reduce: Callable) -> Tensor:
    """Windows of side × side, `step` pixels apart, `shape` of them; cut at the edge."""
    y = torch.zeros(shape)
    for i, j in np.ndindex(*shape):
        window = x[step * i : step * i + side, step * j : step * j + side]
        y[i, j] = reduce(window) if window.numel() else torch.nan
    return y


@exercise("pooling.1", MESSAGES["pooling.1"])
def pool(answer) -> Verdict:
    rng = torch.Generator().manual_seed(31)
    cases = (
        ((10, 6), 2, 3, "minimum"),
        ((8, 11), 3, 2, "maximum"),
        ((6, 9), 2, 2, "mean"),
        ((5, 8), 3, 1, "mean"),
    )
    for size, k, s, name in cases:
        x = torch.randn(size, generator=rng)
        shape = tuple((n - k) // s + 1 for n in size)
        want = _pooled(x, k, s, shape, REDUCE[name])
        got = _tensor(call(answer, x.clone(), k, s, REDUCE[name]))
        if near(got, want):
            continue
        told: dict[str, Any] = {"told": f"{size[0]} × {size[1]} pixels, k = {k}, s = {s}"}
        told |= {"got": tuple(got.shape), "want": shape, "k": k, "s": s}
        if near(got, want.T):
            return "transposed"
        if tuple(got.shape) != shape:
            sizes = {
                "no last": tuple(m - 1 for m in shape),
                "one more": tuple(-(-(n - k) // s) + 1 for n in size),
                "square": (shape[0], shape[0]),
                "square, by columns": (shape[1], shape[1]),
            }
            key = next((key for key, one in sizes.items() if one == tuple(got.shape)), "shape")
            return key.split(",")[0], told
        wrong = {
            "by k": _pooled(x, k, k, shape, REDUCE[name]),
            "by one": _pooled(x, k, 1, shape, REDUCE[name]),
            "side": _pooled(x, s, s, shape, REDUCE[name]),
        }
        for other, rule in REDUCE.items():
            if near(got, _pooled(x, k, s, shape, rule)):
                return "own", {"name": other}
        tiles = x.unfold(0, k, s).unfold(1, k, s)  # (H', W', k, k)
        if near(got, REDUCE[name](tiles, (1, 3))) or near(got, REDUCE[name](tiles, (1, 2))):
            return "axes"
        return first_match(got, wrong), told | _worst(got, want)
    return "right"


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


@exercise("pooling.3", MESSAGES["pooling.3"])
def average(answer) -> Verdict:
    rng = torch.Generator().manual_seed(33)
    for given, k in (((2, 3, 6, 8), 2), ((1, 2, 10, 7), 3), ((3, 1, 8, 9), 4)):
        x = torch.randn(given, generator=rng)
        want = functional.avg_pool2d(x, k)
        got = _tensor(call(answer, x.clone(), k))
        if near(got, want, absolute=1e-5):
            continue
        channels = given[1]
        told: dict[str, Any] = {"given": given, "k": k}
        told |= {"got": tuple(got.shape), "want": tuple(want.shape)}
        if got.shape != want.shape:
            if got.shape[-2:] == functional.avg_pool2d(x, k, 1).shape[-2:]:
                return "no stride", told
            if got.shape == (given[0], 1, *want.shape[2:]):
                return "one channel", told
            return ("padded" if got.shape[:2] == want.shape[:2] else "shape"), told
        together = want.sum(1, keepdim=True).expand_as(want)
        for times in (1, 1 / channels, k, k**2):
            if channels > 1 and near(got, together * times, absolute=1e-5):
                return "mixed"
        wrong = {"sum": want * k**2, "side": want * k}
        return first_match(got, wrong, absolute=1e-5), told | _worst(got, want)
    return "right"


def _alias(f: float, s: int) -> float:
    return abs(f * s - round(f * s))


@exercise("pooling.4", MESSAGES["pooling.4"])
def sources(answer) -> Verdict:
    for f_new, s in ((0.1, 4), (0.2, 3), (0.37, 5), (0.3, 2), (0.0, 4), (0.5, 3), (0.45, 1)):
        folds = [(m + sign * f_new) / s for m in range(s + 1) for sign in (1, -1)]
        want = sorted({round(f, 9) for f in folds if 0 <= f <= 0.5})
        got = call(answer, f_new, s)
        if isinstance(got, set | frozenset):
            got = sorted(got)
        found = as_array(got)
        told: dict[str, Any] = {"told": f"f′ = {f_new}, s = {s}", "s": s}
        told["expected"] = ", ".join(f"{f:.4g}" for f in want)
        if found.ndim != 1 or not np.isfinite(found).all():
            return "form", {"got": type(got).__name__ if found.ndim else f"{found:.4g}"}
        if near(found, want):
            continue
        inside = found[(found > -1e-6) & (found < 0.5 + 1e-6)]
        once = np.unique(inside.round(6))
        if near(found, [f_new / s]):
            return "survivor"
        if near(np.unique((inside / s).round(6)), want) or near(found / s, want):
            return "new", told
        if near(once, want):
            stray = [f for f in found if not -1e-6 < f < 0.5 + 1e-6]
            if stray:
                return "beyond", told | {"stray": stray[0]}
            return ("twice" if len(found) > len(once) else "order"), told
        signs = {"plus": 1, "minus": -1}
        for key, sign in signs.items():
            half = sorted({round(f, 9) for f in folds[(1 - sign) // 2 :: 2] if 0 <= f <= 0.5})
            if near(once, half):
                return key, told
        strays = [f for f in found if abs(_alias(f, s) - f_new) > 1e-4]
        if strays:
            return "other", told | {"stray": strays[0], "alias": _alias(strays[0], s)}
        lacking = [f for f in want if not np.isclose(found, f, atol=1e-6).any()]
        return "missing", told | {"lacking": lacking[0]}
    return "right"


LEAST, MOST = 0.2, 0.1
FREQUENCY = 3.4 / 7  # cycles a pixel: the grid of the notebook


@exercise("pooling.5", MESSAGES["pooling.5"])
def mine(answer) -> Verdict:
    size = (48, 56)
    point = torch.zeros(16, 1, *size)  # every place within one window of 4 × 4
    phase = torch.arange(16)
    point[phase, 0, CELL[0] + phase // 4, CELL[1] + phase % 4] = 1.0
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
    flat = torch.ones(1, 1, *size)
    gain = (run(flat)[inner] - run(0 * flat)[inner]).mean().item()
    if abs(gain) < 1e-6:
        return "constant"
    risen = (run(point) - run(0 * point))[:, 0] / gain
    i, j = (start // 4 for start in CELL)
    each = risen[:, i - 1 : i + 2, j - 1 : j + 2].amax((1, 2))  # its cell or a neighbour
    waves = (run(stripes) - run(0 * stripes))[inner]
    passed = (waves.std() / abs(gain) / stripes.std()).item()
    told = {"kept": each.min().item(), "best": each.max().item(), "stripes": passed}
    told |= {"least": LEAST, "most": MOST}
    kept, clean = told["kept"] >= LEAST, passed <= MOST
    if kept and clean:
        return "right", told
    if not kept and risen.amax((1, 2)).min() >= LEAST:
        return "moved"
    if not kept and told["best"] >= 4 * max(told["kept"], 1e-3) and told["best"] >= MOST:
        return "flickers", told
    return ("stripes" if kept else "diluted" if clean else "neither"), told


@exercise("pooling.6", MESSAGES["pooling.6"])
def evidence(answer) -> Verdict:
    rng = torch.Generator().manual_seed(36)
    # As many classes as columns, as channels, and as neither: no axis fits by accident alone
    for given, k in (((2, 3, 4, 5), 2), ((2, 4, 3, 2), 2), ((3, 3, 2, 4), 3)):
        n, c, height, width = given
        maps = torch.randn(given, generator=rng)
        weight, bias = torch.randn(k, c, generator=rng), 1 + torch.rand(k, generator=rng)
        bare = torch.einsum("kc,nchw->nkhw", weight, maps)
        want = bare + bias[:, None, None]
        got = _tensor(call(answer, maps.clone(), weight.clone(), bias.clone()))
        if near(got, want, absolute=1e-5):
            continue
        told: dict[str, Any] = {"given": given, "k": k, "got": tuple(got.shape)}
        told["want"] = tuple(want.shape)
        if got.shape == (n, k):
            return "scores", told
        if near(got, want.permute(0, 2, 3, 1), absolute=1e-5):
            return "last", told
        if got.shape != want.shape:
            return "shape", told
        wrong = {
            "no bias": bare,
            "bias shared": bare + bias[:, None, None] / (height * width),
            "clipped": want.clamp(min=0),
            "summed": want / (height * width),
        }
        if width == k:
            wrong["bias axis"] = bare + bias
        if c == k:
            turned = torch.einsum("ck,nchw->nkhw", weight, maps)
            wrong["turned"] = turned + bias[:, None, None]
        return first_match(got, wrong, absolute=1e-5), told | _worst(got, want)
    return "right"
