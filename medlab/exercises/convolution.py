"""Checks of convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.exercises import Verdict, Wrong, call, exercise, first_match, near, number

MESSAGES = {
    "convolution.1": {
        "right": "each output channel adds up over all input channels. A test on one channel could "
        "not have found the fault: try a layer on several before you trust it.",
        "first channel": "you read the first input channel only. That is right for one channel and "
        "blind to the rest: sum over c as well.",
        "mean": "you averaged over the input channels. The layer adds them up; a scale is the "
        "weights' business.",
        "no bias": "the sum is right and the bias is missing: add b[o] once to every output of "
        "channel o.",
        "bias per channel": "the bias came in once for every input channel. It belongs to the "
        "output: add it once, after the sum over channels.",
        "flipped": "your kernel is turned by 180°: that is the convolution of mathematics. Here "
        "w[o, c, a, b] meets x[c, i + a, j + b].",
        "shared kernel": "you used the kernel of the first input channel for all of them. Each "
        "input channel has its own: w[o, c].",
        "per channel": "you returned shape {got}, a picture for each pair of output and input "
        "channel. Sum over the input channels.",
        "summed outputs": "you returned shape {got}: the output channels are added up. Each has "
        "its own kernels and stays by itself.",
        "one row short": "you returned shape {got}, and I expected {want}: the window has H − k + "
        "1 places, from 0 to H − k inclusive.",
        "padded": "you returned shape {got}, the size of the input. Without padding the window has "
        "H − k + 1 places: {want}.",
        "shape": "you returned shape {got}, and I expected (O, H − k + 1, W − k + 1) = {want}.",
        "all outputs": "every output channel holds the same sum: you added over o as well. Each "
        "output has its own kernels, w[o]: sum over c, a and b only.",
        "other": "for an input {x} and weights {w}, y{place} should be {expected:.4f}, and yours "
        "is {got:.4f}.",
    },
    "convolution.2": {
        "right": "count the places at which the window can start. Every layer of every network in "
        "this course keeps to that line.",
        "no dilation": "you left the dilation out. With n = {n}, k = {k}, s = {s}, p = {p}, d = "
        "{d} the window spans d(k − 1) + 1 = {span} pixels: expected {expected}, got {got:g}.",
        "span dk": "a dilated window does not span d·k pixels: behind the last weight nothing "
        "follows. It spans d(k − 1) + 1.",
        "one side": "you padded one side. Padding p adds p pixels at either end, 2p in all.",
        "no padding": "you left the padding out.",
        "no first": "your results are one too small: the start at 0 counts as well. Add 1.",
        "too far": "your last start is one pixel too far. The window spans d(k − 1) + 1 pixels, "
        "the one it starts on included.",
        "no stride": "you left the stride out: divide the last possible start by s.",
        "fraction": "{got:g} outputs? A window that would stick out does not count: round down "
        "with //.",
        "rounded up": "you rounded up. For n = {n}, k = {k}, s = {s} the last window would read "
        "pixels that do not exist: round down.",
        "rounded": "you rounded to the nearest whole number. The last window must fit entirely: "
        "round down.",
        "early rounding": "you divided n + 2p by s before you took the span off. First find the "
        "last possible start, then divide.",
        "other": "for n = {n}, k = {k}, s = {s}, p = {p}, d = {d} I expected {expected} and got "
        "{got:g}.",
    },
    "convolution.3": {
        "right": "a step of 1 HU gives {ratio:.2f} times what independent noise of 1 HU gives. "
        "Every row subtracts its left from its right, and three rows share the noise.",
        "even tissue": "even tissue of 100 HU answers {got:.4g}. The nine weights must add up "
        "to 0.",
        "horizontal": "it answers at horizontal edges too: {got:.3g} for a step of 1 HU from one "
        "row to the next. Each *row* of weights must add up to 0 by itself.",
        "transposed": "your kernel finds horizontal edges and no vertical ones. Rows and columns "
        "are exchanged: transpose it.",
        "negative": "it answers {got:.3g} where bone lies on the right of softer tissue; that "
        "should be positive. Subtract the left from the right.",
        "noise": "it finds the right edges, but a step of 1 HU gives only {ratio:.2f} times what "
        "independent noise of 1 HU gives. Let all three rows take part, so that noise averages "
        "out.",
        "nothing": "it answers no edge at all: all weights are 0.",
        "shape": "I expected a 3×3 table of numbers, and got shape {got}.",
    },
    "convolution.4": {
        "right": "frame, turn, swap the channels' roles, slide. That is all that "
        "`F.conv_transpose2d` does; notebook 17 uses it to make pictures larger.",
        "not turned": "you slid the kernel as it is. x[m, n] meets ȳ[m − a, n − b]: minus signs, "
        "so turn the kernel by 180°, along its last two axes: rows and columns.",
        "no frame": "you returned shape {got} for an input of {want}. Pixels near the border act "
        "through few outputs, and still they act: frame ȳ with k − 1 zeros on each side.",
        "same": "you returned shape {got} for an input of {want}. The frame must be k − 1 wide, "
        "not k // 2, so that each overlap counts.",
        "outputs": "you returned {got} channels, as many as the layer has outputs. The gradient "
        "has the shape of the input, {want}: exchange the first two axes of w.",
        "roles": "your code stopped with {kind}: {error}. ȳ has {outputs} channels and the input "
        "had {channels}: exchange the first two axes of w.",
        "first output": "you used the first output channel only. An input pixel acts through all "
        "of them: sum over o.",
        "mean": "you averaged over the output channels. By the chain rule their contributions add "
        "up.",
        "shape": "you returned shape {got}; the gradient has the shape of the input, {want}.",
        "other": "the gradient at {place} should be {expected:.4f}, and yours is {got:.4f}.",
    },
    "convolution.5": {
        "right": "each layer adds (k − 1)·d steps, and a step is as long as all strides before it "
        "have made it.",
        "no jump": "you left the strides out. After a stride of 2 neighbouring outputs lie 2 input "
        "pixels apart, so every later kernel reaches twice as far. For {layers} I expected "
        "{expected}, got {got:g}.",
        "own stride": "you let a layer's own stride widen its own window. It only spreads the "
        "*outputs*: add (k − 1)·d·j first, then multiply j by s.",
        "no dilation": "you left the dilation out: a kernel reaches over (k − 1)·d steps.",
        "whole kernels": "you added whole kernels, k·d a layer. Neighbouring windows share pixels: "
        "a kernel adds k − 1 steps to what one output sees already.",
        "no first": "you started from 0. Before any layer an output is a pixel and sees 1.",
        "product": "you multiplied the kernels' sides. Fields add up, since windows overlap.",
        "last stride only": "you took each stride for the next layer only. Strides multiply: after "
        "two of 2 a step is 4 pixels long.",
        "other": "for {layers} I expected {expected} pixels and got {got:g}.",
    },
    "convolution.6": {
        "right": "{pixels} pixels, each of them read, at {cost:.1f} multiply-adds a pixel. Layers "
        "of 3×3 without stride or dilation need 23 layers and 207 for the 46.",
        "no layers": "I expected a list of (k, s, d), three whole numbers of 1 or more each; got "
        "{got}.",
        "small": "one output sees {pixels} pixels, and 46 are asked for. Which change reaches "
        "farthest for its price: a layer more, a stride early on, or a dilation?",
        "holes": "the field is {pixels} pixels wide, but of those in a row only {read} are read: a "
        "dilated kernel steps over pixels that nothing before it has gathered. Let dilations grow "
        "gradually.",
        "coarse": "neighbouring outputs lie {jump} pixels apart, and 4 are allowed. Reach the rest "
        "by dilation.",
        "costly": "that sees {pixels} pixels at {cost:.0f} multiply-adds for each input pixel, and "
        "50 are allowed. Early strides make all later layers cheaper.",
    },
}


def _shape(answer: Any) -> tuple[int, ...]:
    near(answer, 0)  # says so if it holds anything but numbers
    return tuple(np.shape(answer.detach() if torch.is_tensor(answer) else answer))


def _tensor(answer: Any) -> Tensor:
    return torch.as_tensor(
        np.asarray(answer.detach().cpu() if torch.is_tensor(answer) else answer, float)
    )


def _first_fault(got: Any, want: Tensor) -> dict[str, Any]:
    """The first place where the two differ, and both values there."""
    got, right = _tensor(got).numpy(), want.double().numpy()
    place = tuple(np.argwhere(~np.isclose(got, right, rtol=1e-3, atol=1e-4))[0].tolist())
    return {"place": list(place), "expected": right[place].item(), "got": got[place].item()}


def _random(*shapes: tuple[int, ...], seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


@exercise("convolution.1", MESSAGES["convolution.1"])
def conv(answer) -> Verdict:
    for channels, outputs, k in ((3, 4, 3), (1, 2, 3), (2, 5, 2)):
        x, w, b = _random(
            (channels, 7, 9), (outputs, channels, k, k), (outputs,), seed=channels + k
        )
        want = F.conv2d(x[None], w, b)[0]
        got = call(answer, x.clone(), w.clone(), b.clone())
        if near(got, want, absolute=1e-4):
            continue
        told: dict[str, Any] = {"got": _shape(got), "want": tuple(want.shape)}
        if told["got"] != told["want"]:
            rows, columns = want.shape[1:]
            known: dict[tuple[int, ...], str] = {
                (outputs, channels, rows, columns): "per channel",
                (channels, outputs, rows, columns): "per channel",
                (rows, columns): "summed outputs",
                (outputs, rows - 1, columns - 1): "one row short",
                (outputs, *x.shape[1:]): "padded",
            }
            return known.get(told["got"], "shape"), told
        bias, bare = b[:, None, None], F.conv2d(x[None], w)[0]
        alone = F.conv2d(x[None, :1], w[:, :1])[0]
        turned = F.conv2d(x[None], w.flip(2, 3))[0]
        wrong = {
            "first channel": alone + bias,
            "mean": bare / channels + bias,
            "no bias": bare,
            "bias per channel": bare + channels * bias,
            "flipped": turned + bias,
            "shared kernel": F.conv2d(x.sum(0)[None, None], w[:, :1])[0] + bias,
            "all outputs": bare.sum(0) + bias,
        }
        key = first_match(got, wrong)
        if key == "other":
            wrong = {"first channel": alone, "mean": bare / channels, "flipped": turned}
            key = first_match(got, wrong)
        return key, {"x": tuple(x.shape), "w": tuple(w.shape), **_first_fault(got, want)}
    return "right"


Sizes = Callable[[int, int, int, int, int], float]
SIZES = (
    (7, 3, 1, 0, 1),
    (7, 3, 2, 1, 1),
    (8, 3, 2, 0, 1),
    (28, 5, 1, 2, 1),
    (64, 3, 2, 1, 2),
    (128, 7, 4, 3, 3),
    (33, 4, 3, 5, 2),
    (21, 2, 5, 0, 7),
    (22, 3, 3, 0, 1),
)


@exercise("convolution.2", MESSAGES["convolution.2"])
def output_size(answer) -> Verdict:
    def right(n, k, s, p, d):
        return (n + 2 * p - d * (k - 1) - 1) // s + 1

    wrong: dict[str, Sizes] = {
        "no dilation": lambda n, k, s, p, d: (n + 2 * p - k) // s + 1,
        "span dk": lambda n, k, s, p, d: (n + 2 * p - d * k) // s + 1,
        "one side": lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1,
        "no padding": lambda n, k, s, p, d: (n - d * (k - 1) - 1) // s + 1,
        "no first": lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) // s,
        "too far": lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s + 1,
        "no stride": lambda n, k, s, p, d: n + 2 * p - d * (k - 1),
        "fraction": lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) / s + 1,
        "rounded up": lambda n, k, s, p, d: -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1,
        "rounded": lambda n, k, s, p, d: round((n + 2 * p - d * (k - 1) - 1) / s + 1),
        "early rounding": lambda n, k, s, p, d: (n + 2 * p) // s - d * (k - 1),
    }
    got = [number(call(answer, *case)) for case in SIZES]
    wanted = [right(*case) for case in SIZES]
    if got == wanted:
        return "right"
    key = next((key for key, f in wrong.items() if got == [f(*case) for case in SIZES]), "other")
    broken = [i for i, value in enumerate(got) if np.isfinite(value) and value % 1]
    if key == "other" and broken:
        key = "fraction"
    first = next(i for i, value in enumerate(got) if value != wanted[i])
    if key == "fraction":
        first = broken[0]
    n, k, s, p, d = SIZES[first]
    told = {"n": n, "k": k, "s": s, "p": p, "d": d, "span": d * (k - 1) + 1}
    return key, {**told, "expected": wanted[first], "got": got[first]}


LEAST_STEP = 1.1


@exercise("convolution.3", MESSAGES["convolution.3"])
def bone_edges(answer) -> Verdict:
    shape = _shape(answer)
    if shape not in ((3, 3), (1, 1, 3, 3)):  # the second is how F.conv2d wants it
        return "shape", {"got": shape}
    w = _tensor(answer).reshape(3, 3).numpy()
    size = np.abs(w).sum()
    if size == 0:
        return "nothing"
    if not np.isfinite(size):
        return "shape", {"got": "infinite or missing numbers"}
    small = 1e-3 * size  # 1/3 may be written as 0.333
    if abs(w.sum()) > small:
        return "even tissue", {"got": 100 * w.sum()}
    # A step of 1 between two columns: those of the kernel that lie on its bright, right side add up
    columns, rows = w.sum(0), w.sum(1)
    steps = np.array([columns[2], columns[1:].sum()])
    lying = np.array([rows[2], rows[1:].sum()])
    if np.abs(lying).max() > small:
        transposed = np.abs(steps).max() <= small
        return "transposed" if transposed else "horizontal", {"got": lying[np.abs(lying).argmax()]}
    if steps.min() < -small or steps.max() <= small:
        return "negative", {"got": steps.min()}
    ratio = steps.max() / np.sqrt((w**2).sum())
    return ("right" if ratio >= LEAST_STEP else "noise"), {"ratio": ratio}


@exercise("convolution.4", MESSAGES["convolution.4"])
def grad_input(answer) -> Verdict:
    for channels, outputs, k in ((1, 1, 3), (2, 3, 3), (3, 2, 2), (4, 5, 5)):
        y_bar, w = _random((outputs, 6, 8), (outputs, channels, k, k), seed=channels)
        want = F.conv_transpose2d(y_bar[None], w)[0]
        try:
            got = call(answer, y_bar.clone(), w.clone())
        except Wrong as fault:
            # F.conv2d's own words where w still has outputs first
            if f"to have {channels} channels, but got {outputs}" in str(fault.values.get("error")):
                raise Wrong("roles", outputs=outputs, channels=channels, **fault.values) from None
            raise
        if near(got, want, absolute=1e-4):
            continue
        told: dict[str, Any] = {"got": _shape(got), "want": tuple(want.shape)}
        if told["got"] != told["want"]:
            same = (channels, 6 + 2 * (k // 2) - k + 1, 8 + 2 * (k // 2) - k + 1)
            known = {
                (channels, 6 - k + 1, 8 - k + 1): "no frame",
                (channels, 6, 8): "same",
                same: "same",
                (outputs, *want.shape[1:]): "outputs",
            }
            key = known.get(told["got"], "shape")
            return key, {**told, "got": outputs} if key == "outputs" else told
        wrong = {
            "not turned": F.conv_transpose2d(y_bar[None], w.flip(2, 3))[0],
            "first output": F.conv_transpose2d(y_bar[None, :1], w[:1])[0],
            "mean": want / outputs,
        }
        return first_match(got, wrong), _first_fault(got, want)
    return "right"


Layers = Sequence[tuple[int, int, int]]
STACKS: tuple[Layers, ...] = (
    [(3, 1, 1)],
    [(3, 1, 1), (3, 1, 1)],
    [(5, 2, 1), (3, 1, 1)],
    [(7, 2, 1), (3, 2, 1), (3, 2, 2), (1, 1, 1), (4, 1, 3)],
    [(2, 2, 1), (2, 2, 1), (2, 2, 1), (3, 1, 4)],
)


def _field(layers: Layers) -> tuple[int, int]:
    """Side of the receptive field, and jump, in input pixels."""
    field, jump = 1, 1
    for k, s, d in layers:
        field, jump = field + (k - 1) * d * jump, jump * s
    return field, jump


@exercise("convolution.5", MESSAGES["convolution.5"])
def receptive_field(answer) -> Verdict:
    got = [number(call(answer, list(layers))) for layers in STACKS]
    wanted = [_field(layers)[0] for layers in STACKS]
    if got == wanted:
        return "right"

    def last_stride(layers: Layers) -> int:
        steps = [1, *(s for _, s, _ in layers)]
        return 1 + sum((k - 1) * d * j for (k, _, d), j in zip(layers, steps, strict=False))

    wrong: dict[str, Callable[[Layers], int]] = {
        "no jump": lambda layers: 1 + sum((k - 1) * d for k, _, d in layers),
        "own stride": _own_stride,
        "no dilation": lambda layers: _field([(k, s, 1) for k, s, _ in layers])[0],
        "whole kernels": lambda layers: sum(k * d for k, _, d in layers),
        "no first": lambda layers: _field(layers)[0] - 1,
        "product": lambda layers: int(np.prod([k for k, _, _ in layers])),
        "last stride only": last_stride,
    }
    also: dict[str, Callable[[Layers], int]] = {
        "whole kernels": lambda layers: sum(k for k, _, _ in layers),
        "no jump": lambda layers: 1 + sum(k - 1 for k, _, _ in layers),
        "own stride": lambda layers: _own_stride(layers) - 1,
        "product": lambda layers: int(np.prod([(k - 1) * d + 1 for k, _, d in layers])),
    }
    key = "other"
    for table in (wrong, also):
        for name, f in table.items():
            if key == "other" and got == [f(layers) for layers in STACKS]:
                key = name
    first = next(i for i, value in enumerate(got) if value != wanted[i])
    return key, {"layers": STACKS[first], "expected": wanted[first], "got": got[first]}


def _own_stride(layers: Layers) -> int:
    field, jump = 1, 1
    for k, s, d in layers:
        jump *= s
        field += (k - 1) * d * jump
    return field


LEAST_FIELD, LARGEST_JUMP, LARGEST_COST = 46, 4, 50


@exercise("convolution.6", MESSAGES["convolution.6"])
def stack(answer) -> Verdict:
    layers = _layers(answer)
    pixels, jump = _field(layers)
    reads, step, cost = {0}, 1, Fraction(0)
    if pixels < 100_000:
        for k, s, d in layers:
            reads = {at + a * d * step for at in reads for a in range(k)}
            step *= s
            cost += Fraction(k * k, step * step)
    else:  # no field of that size is asked for, and counting its pixels would take long
        cost = Fraction(sum(k * k for k, _, _ in layers))
        reads = set()
    told = {"pixels": pixels, "jump": jump, "cost": float(cost), "read": len(reads)}
    if pixels < LEAST_FIELD:
        return "small", told
    if cost > LARGEST_COST:
        return "costly", told
    if len(reads) < pixels:
        return "holes", told
    if jump > LARGEST_JUMP:
        return "coarse", told
    return "right", told


def _layers(answer) -> list[tuple[int, int, int]]:
    fault = Wrong("no layers", got=repr(answer)[:60])
    try:
        rows = [tuple(layer) for layer in answer]
        layers = [(int(k), int(s), int(d)) for k, s, d in rows]
    except (TypeError, ValueError, OverflowError):
        raise fault from None
    if not layers or any(v < 1 for layer in layers for v in layer) or layers != rows:
        raise fault
    return layers
