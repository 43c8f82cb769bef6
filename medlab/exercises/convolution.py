"""Checks of convolution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near

MESSAGES = {
    "convolution.1": {
        "right": "every output reads its own window: where the window is, plus where in it.",
        "corner": "every output is the same number, {got:.4g}: you read x[a, b], the upper left "
        "corner, wherever the window stands. Add the offset: x[i + a, j + b].",
        "factor": "y[i, j] is x[i, j] times the sum of the weights: you read x[i, j] for every "
        "weight, and no neighbour. Add the place in the window: x[i + a, j + b].",
        "minus": "you read x[i − a, j − b]. Below 0 Python counts from the other end, so the first "
        "outputs read the far side of the image. The window extends to x[i + a, j + b].",
        "flipped": "your kernel is turned by 180°: that is the convolution of mathematics. Here "
        "w[a, b] meets x[i + a, j + b].",
        "exchanged": "rows and columns of the kernel are exchanged: w[a, b], with a downwards, "
        "meets x[i + a, j + b].",
        "overwritten": "each output holds its last product only. `=` overwrites what was there; "
        "add up with `+=`.",
        "mean": "you divided by the number of weights. The sum is not averaged; a scale is the "
        "weights' business.",
        "early": "all rows of your output but the first are 0. Is `return` indented so far that "
        "it ends the loops early?",
        "one short": "you returned shape {got}, and I expected {want}: a window of 3 rows has "
        "H − 3 + 1 places, from 0 to H − 3 inclusive.",
        "padded": "you returned shape {got}, the size of the input. Only places where the whole "
        "window fits count: {want}.",
        "square": "you returned shape {got} for an image of {image} and a kernel of {kernel}; I "
        "expected {want}. Rows and columns have sizes of their own.",
        "shape": "you returned shape {got} for an image of {image} and a kernel of {kernel}; I "
        "expected {want}, one output for each place at which the window fits.",
        "other": "for an image of {image} and a kernel of {kernel}, y{place} should be "
        "{expected:.4g}, and yours is {got:.4g}.",
    },
    "convolution.2": {
        "right": "five settings. Four are compact windows; (3, 3, 3) shows that a dilated window "
        "can read every pixel too, if its dilation is odd and its padding enough.",
        "format": "I expected a list of (k, p, d), three whole numbers each; got {got}.",
        "empty": "your list is empty, and five settings exist. Print the outputs and the pixels "
        "read for one that you know, such as (3, 1, 1).",
        "order": "I read each as (k, p, d), kernel, padding, dilation; yours come in another "
        "order.",
        "range": "{setting} lies outside of 1 ≤ k ≤ 5, 0 ≤ p ≤ 3, 1 ≤ d ≤ 3.",
        "halving": "these are all that halve, and {unread} of them leave pixels unread: with "
        "(1, 0, 1) every second one. Collect what all windows read, and keep the settings that "
        "miss none of the 32.",
        "size": "with k, p, d = {setting} and stride 2, 32 pixels give {outputs} outputs, not 16.",
        "unread": "{setting} gives 16 outputs, but {count} of the 32 pixels are read by no window, "
        "the first of them pixel {first}.",
        "strict": "only (2, 0, 1)? A window may read padding as well: ask that the 32 pixels are "
        "among those read, not that nothing else is.",
        "dilated": "four of five. Either you left dilation out, or you forgot that the first "
        "window starts at −p, outside of the image.",
        "missing": "all of yours are right, and the list is not whole yet: {count} missing. Let "
        "the computer try all 60 settings, with every k, p and d.",
    },
    "convolution.3": {
        "right": "each output channel adds up over all input channels, on images of any shape. A "
        "test on one square grey image could not have found either fault.",
        "square": "you returned shape {got}, and I expected {want}: rows and columns have sizes of "
        "their own, H − k + 1 and W − k + 1.",
        "first channel": "the sizes are right; you read the first input channel only. That is "
        "right for one channel and blind to the rest: sum over c as well.",
        "half": "you use the kernels of all channels now, and let all of them read channel 0. "
        "w[o, c] meets x[c].",
        "mean": "you averaged over the input channels. The layer adds them up; a scale is the "
        "weights' business.",
        "no bias": "the sum is right and the bias is missing: add b[o] once to every output of "
        "channel o.",
        "bias per channel": "the bias came in once for every input channel. It belongs to the "
        "output: add it once, after the sum over channels.",
        "bias per weight": "the bias came in once for every weight. Add it after the sum.",
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
        "other": "for an input {x} and weights {w}, y{place} should be {expected:.4g}, and yours "
        "is {got:.4g}.",
    },
    "convolution.4": {
        "right": "each product sends ȳ back twice: times the pixel to its weight, times the weight "
        "to its pixel. That is all that backpropagation through this layer does.",
        "pair": "I expected two results, `return w_bar, x_bar`; got {got}.",
        "exchanged": "your two results come in the other order: first w_bar, then x_bar.",
        "w shape": "w_bar has the shape {got}; it has one entry for each weight, {want}.",
        "x shape": "x_bar has the shape {got}; it has one entry for each pixel of the input, "
        "{want}, those at the border included.",
        "w overwritten": "w_bar holds what the last output sent back. A weight acts through every "
        "output: add up with `+=`.",
        "x overwritten": "x_bar holds what the last window sent back to each pixel. Windows "
        "overlap, and a pixel acts through several outputs: add up with `+=`.",
        "w mean": "you averaged w_bar over the outputs. By the chain rule their contributions add "
        "up; a mean in the loss is in ȳ already.",
        "w no y_bar": "w_bar adds up the pixels alone. Each counts as much as its output matters: "
        "multiply by y_bar[i, j].",
        "x no y_bar": "x_bar adds up the weights alone. Each counts as much as its output matters: "
        "multiply by y_bar[i, j].",
        "w turned": "w_bar is turned by 180°: y_bar[i, j] · x[i + a, j + b] belongs to "
        "w_bar[a, b].",
        "x turned": "x_bar comes from a kernel that is the wrong way round: x[m, n] meets "
        "ȳ[m − a, n − b] through w[a, b]. In the loops, x_bar[i + a, j + b] gets "
        "y_bar[i, j] · w[a, b].",
        "w sign": "w_bar has the wrong sign everywhere: it is the gradient, not the step downhill.",
        "x sign": "x_bar has the wrong sign everywhere: it is the gradient, not the step downhill.",
        "w other": "w_bar{place} should be {expected:.4g}, and yours is {got:.4g}. Through which "
        "outputs does this weight act, and with which pixel each time?",
        "x other": "w_bar is right; x_bar{place} should be {expected:.4g}, and yours is {got:.4g}. "
        "Through which outputs does this pixel act, and with which weight each time?",
    },
    "convolution.5": {
        "right": "that is gradient descent: predict, compare, send back, step. Networks with "
        "millions of weights are trained by the same four lines.",
        "shape": "you returned shape {got}, and I expected a kernel of {want}.",
        "random": "two calls with the same input gave different kernels. Start from zeros, and "
        "take all outputs in each step.",
        "nothing": "your kernel is still 0 after {steps} steps. Does the new w reach the next "
        "turn of the loop?",
        "uphill": "you climb: the loss grows. The gradient points uphill, so subtract it.",
        "no factor": "your steps are half as long as they should be: the derivative of a square "
        "is *twice* the difference.",
        "sum": "your steps are {outputs} times as long as they should be: the loss is the *mean* "
        "over the {outputs} outputs, so divide by their number.",
        "inputs": "you divided by the {inputs} pixels of the input. The loss is the mean over the "
        "{outputs} outputs.",
        "no lr": "the learning rate does not reach your step: w ← w − lr · w_bar.",
        "accumulated": "the first step is right and later ones are too long: the gradients of all "
        "earlier steps are still in the sum. Set the gradient to zero before each step.",
        "more": "you made one step more than asked: {more} instead of {steps}.",
        "fewer": "you made one step fewer than asked: {fewer} instead of {steps}.",
        "solved": "you returned the kernel that fits best. I asked where the descent stands after "
        "the steps that I give, which is {steps} here.",
        "flipped": "your kernel is turned by 180° against what descent on F.conv2d gives.",
        "other": "after {steps} steps with lr = {lr}, w{place} should be {expected:.4f}, and "
        "yours is {got:.4f}. I start from zeros and descend on the mean squared error.",
    },
    "convolution.6": {
        "right": "{pixels} pixels, each of them read, at {cost:.1f} multiply-adds a pixel. Plain "
        "3×3 layers need 23 layers and 207 for the 46; the least we know is 2.0.",
        "no layers": "I expected a list of (k, s, d), three whole numbers of 1 or more each; got "
        "{got}.",
        "small": "one output sees {pixels} pixels, and 46 are asked for (I read each layer as "
        "kernel, stride, dilation). Which change reaches farthest for its price: a layer more, a "
        "stride early on, or a dilation?",
        "holes": "the field is {pixels} pixels wide, but of those in a row only {read} are read: a "
        "dilated kernel steps over pixels that nothing before it has gathered. Let dilations grow "
        "gradually.",
        "gaps": "the field is {pixels} pixels wide, but of those in a row only {read} are read: a "
        "stride longer than its kernel leaves pixels out between two windows.",
        "coarse": "neighbouring outputs lie {jump} pixels apart, and 4 are allowed. Reach the rest "
        "by dilation.",
        "costly": "that sees {pixels} pixels at {cost:.1f} multiply-adds for each input pixel, and "
        "5 are allowed. Early strides make all later layers cheaper.",
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


def _whole(*shapes: tuple[int, ...], seed: int) -> list[Tensor]:
    """Random whole numbers of both signs, so that a message can name what a learner recomputes."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(-9, 10, shape, generator=rng).float() for shape in shapes]


def _random(*shapes: tuple[int, ...], seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


def _slide(x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x[None, None], w[None, None])[0, 0]


@exercise("convolution.1", MESSAGES["convolution.1"])
def slide(answer) -> Verdict:
    for image, kernel in (((6, 9), (3, 3)), ((5, 4), (2, 3)), ((4, 8), (3, 1)), ((2, 2), (2, 2))):
        x, w = _whole(image, kernel, seed=sum(image))
        w = w / 4 if kernel == (2, 2) else w  # so that whole numbers are not enough
        want = _slide(x, w)
        got = call(answer, x.clone(), w.clone())
        if near(got, want, absolute=1e-4):
            continue
        told: dict[str, Any] = {"image": image, "kernel": kernel}
        shape, (rows, columns) = _shape(got), want.shape
        if shape != want.shape:
            known: dict[tuple[int, ...], str] = {
                (rows - 1, columns - 1): "one short",
                image: "padded",
                (rows, rows): "square",
                (columns, columns): "square",
                (columns, rows): "square",
            }
            key = known.get(shape, "shape")
            if key == "one short" and kernel != (3, 3):
                key = "shape"  # the message speaks of three rows
            return key, {**told, "got": shape, "want": tuple(want.shape)}
        i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        steps = list(np.ndindex(*kernel))
        wrong = {
            "corner": torch.full_like(want, (w * x[: kernel[0], : kernel[1]]).sum().item()),
            "factor": x[:rows, :columns] * w.sum(),
            "minus": sum(w[a, b] * x[i - a, j - b] for a, b in steps),
            "flipped": _slide(x, w.flip(0, 1)),
            "overwritten": w[-1, -1] * x[kernel[0] - 1 :, kernel[1] - 1 :],
            "mean": want / w.numel(),
        }
        if kernel[0] == kernel[1]:
            wrong["exchanged"] = _slide(x, w.T)
        key = first_match(got, wrong, absolute=1e-4)
        if key == "other" and rows > 1 and not _tensor(got)[1:].any():
            key = "early"
        return key, {**told, **_first_fault(got, want)}
    return "right"


Setting = tuple[int, int, int]
RANGES = (range(1, 6), range(4), range(1, 4))  # k, p, d


def _outputs(setting: Setting, n: int = 32) -> int:
    k, p, d = setting
    return (n + 2 * p - d * (k - 1) - 1) // 2 + 1


def _unread(setting: Setting, n: int = 32) -> list[int]:
    k, p, d = setting
    read = {2 * i + d * a - p for i in range(_outputs(setting, n)) for a in range(k)}
    return sorted(set(range(n)) - read)


@exercise("convolution.2", MESSAGES["convolution.2"])
def settings(answer) -> Verdict:
    halving = {at for at in itertools.product(*RANGES) if _outputs(at) == 16}
    wanted = {at for at in halving if not _unread(at)}
    got = set(_triples(answer, key="format"))
    if got == wanted:
        return "right"
    if not got:
        return "empty"
    for order in itertools.permutations(range(3)):
        if {tuple(at[i] for i in order) for at in got} in (wanted, halving) and got != halving:
            return "order"
    if got == halving:
        return "halving", {"unread": len(halving - wanted)}
    for at in sorted(got - wanted):
        if any(v not in span for v, span in zip(at, RANGES, strict=True)):
            return "range", {"setting": at}
        if at not in halving:
            return "size", {"setting": at, "outputs": _outputs(at)}
        unread = _unread(at)
        return "unread", {"setting": at, "count": len(unread), "first": unread[0]}
    if got == {(2, 0, 1)}:
        return "strict"
    if wanted - got == {(3, 3, 3)}:
        return "dilated"
    return "missing", {"count": len(wanted - got)}


@exercise("convolution.3", MESSAGES["convolution.3"])
def conv(answer) -> Verdict:
    for channels, outputs, k in ((3, 4, 3), (1, 2, 3), (2, 5, 2)):
        x, w, b = _whole((channels, 7, 9), (outputs, channels, k, k), (outputs,), seed=channels + k)
        w = w / 4 if k == 2 else w  # so that whole numbers are not enough
        want = F.conv2d(x[None], w, b)[0]
        got = call(answer, x.clone(), w.clone(), b.clone())
        if near(got, want, absolute=1e-4):
            continue
        told: dict[str, Any] = {"got": _shape(got), "want": tuple(want.shape)}
        if told["got"] != told["want"]:
            rows, columns = want.shape[1:]
            known: dict[tuple[int, ...], str] = {
                (outputs, rows, rows): "square",
                (outputs, columns, columns): "square",
                (outputs, columns, rows): "square",
                (outputs, channels, rows, columns): "per channel",
                (channels, outputs, rows, columns): "per channel",
                (rows, columns): "summed outputs",
                (outputs, rows - 1, columns - 1): "one row short",
                (outputs, *x.shape[1:]): "padded",
            }
            return known.get(told["got"], "shape"), told
        bias, bare = b[:, None, None], F.conv2d(x[None], w)[0]
        alone = F.conv2d(x[None, :1], w[:, :1])[0]
        half = F.conv2d(x[None, :1], w.sum(1, keepdim=True))[0]
        turned = F.conv2d(x[None], w.flip(2, 3))[0]
        wrong = {
            "first channel": alone + bias,
            "half": half + bias,
            "mean": bare / channels + bias,
            "no bias": bare,
            "bias per channel": bare + channels * bias,
            "bias per weight": bare + channels * k * k * bias,
            "flipped": turned + bias,
            "shared kernel": F.conv2d(x.sum(0)[None, None], w[:, :1])[0] + bias,
            "all outputs": bare.sum(0) + bias,
        }
        key = first_match(got, wrong, absolute=1e-4)
        if key == "other":
            wrong = {"first channel": alone, "mean": bare / channels, "flipped": turned}
            key = first_match(got, wrong, absolute=1e-4)
        return key, {"x": tuple(x.shape), "w": tuple(w.shape), **_first_fault(got, want)}
    return "right"


@exercise("convolution.4", MESSAGES["convolution.4"])
def backward(answer) -> Verdict:
    for image, kernel in (((5, 8), (3, 3)), ((7, 4), (2, 2)), ((4, 6), (2, 3))):
        rows, columns = (n - k + 1 for n, k in zip(image, kernel, strict=True))
        x, w, y_bar = _whole(image, kernel, (rows, columns), seed=rows)
        y_bar = y_bar / 4 if kernel == (2, 3) else y_bar  # so that whole numbers are not enough
        got = call(answer, x.clone(), w.clone(), y_bar.clone())
        several = isinstance(got, tuple | list)
        if not several or len(got) != 2:
            return "pair", {"got": len(got) if several else f"one {type(got).__name__}"}
        if any(part is ... for part in got):
            raise NotAttempted
        if any(part is None for part in got):
            raise Wrong("returned nothing")
        w_bar, x_bar = _slide(x, y_bar), _full(y_bar, w)
        if all(near(part, torch.zeros(_shape(part))) for part in got):
            raise NotAttempted  # the frame is there, and nothing was sent yet
        w_shape, x_shape = map(_shape, got)
        if (w_shape, x_shape) == (image, kernel):
            return "exchanged"
        if w_shape != kernel:
            return "w shape", {"got": w_shape, "want": kernel}
        if x_shape != image:
            return "x shape", {"got": x_shape, "want": image}
        ones, outputs = torch.ones_like(y_bar), y_bar.numel()
        overwritten = torch.zeros_like(x)
        for i, j in np.ndindex(rows, columns):
            overwritten[i : i + kernel[0], j : j + kernel[1]] = y_bar[i, j] * w
        if not near(got[0], w_bar, absolute=1e-4):
            wrong = {
                "overwritten": y_bar[-1, -1] * x[rows - 1 :, columns - 1 :],
                "mean": w_bar / outputs,
                "no y_bar": _slide(x, ones),
                "turned": w_bar.flip(0, 1),
                "sign": -w_bar,
            }
            key = first_match(got[0], wrong, absolute=1e-4)
            return f"w {key}", _first_fault(got[0], w_bar)
        if not near(got[1], x_bar, absolute=1e-4):
            wrong = {
                "overwritten": overwritten,
                "no y_bar": _full(ones, w),
                "turned": _full(y_bar, w.flip(0, 1)),
                "sign": -x_bar,
            }
            key = first_match(got[1], wrong, absolute=1e-4)
            return f"x {key}", _first_fault(got[1], x_bar)
    return "right"


def _full(y_bar: Tensor, w: Tensor) -> Tensor:
    return F.conv_transpose2d(y_bar[None, None], w[None, None])[0, 0]


@exercise("convolution.5", MESSAGES["convolution.5"])
def descend(answer) -> Verdict:
    for k, lr, steps in ((3, 0.3, 2), (2, 0.2, 3), (3, 0.1, 12)):
        x, hidden, noise = _random((9, 12), (k, k), (10 - k, 13 - k), seed=k)
        target = _slide(x, hidden) + 0.3 * noise
        want = _descent(x, target, k, lr, steps)

        def run(x=x, target=target, k=k, lr=lr, steps=steps):
            got = call(answer, x.clone(), target.clone(), k, lr, steps)
            return _tensor(got).reshape(k, k) if _shape(got) == (1, 1, k, k) else got

        got = run()
        if near(got, want, absolute=1e-4):
            continue
        if (shape := _shape(got)) != (k, k):
            return "shape", {"got": shape, "want": (k, k)}
        inputs, outputs = x.numel(), target.numel()
        windows = F.unfold(x[None, None], k)[0].T
        wrong = {
            "nothing": torch.zeros(k, k),
            "uphill": _descent(x, target, k, -lr, steps),
            "no factor": _descent(x, target, k, lr / 2, steps),
            "sum": _descent(x, target, k, lr * outputs, steps),
            "inputs": _descent(x, target, k, lr * outputs / inputs, steps),
            "no lr": _descent(x, target, k, 1.0, steps),
            "accumulated": _descent(x, target, k, lr, steps, kept=1.0),
            "more": _descent(x, target, k, lr, steps + 1),
            "fewer": _descent(x, target, k, lr, steps - 1),
            "solved": torch.linalg.lstsq(windows, target.reshape(-1, 1)).solution.reshape(k, k),
            "flipped": want.flip(0, 1),
        }
        key = first_match(got, wrong, absolute=1e-4)
        if key == "other" and not near(got, _tensor(run())):
            key = "random"
        told = {"steps": steps, "more": steps + 1, "fewer": steps - 1, "lr": lr}
        told |= {"inputs": inputs, "outputs": outputs}
        return key, {**told, **_first_fault(got, want)}
    return "right"


def _descent(x: Tensor, target: Tensor, k: int, lr: float, steps: int, kept: float = 0.0) -> Tensor:
    """Kernel after so many steps from zeros; `kept` is the part of the old gradient that stays."""
    w, w_bar = torch.zeros(k, k), torch.zeros(k, k)
    for _ in range(steps):
        w_bar = kept * w_bar + _slide(x, 2 * (_slide(x, w) - target) / target.numel())
        w = w - lr * w_bar
    return w


Layers = Sequence[tuple[int, int, int]]


def _field(layers: Layers) -> tuple[int, int]:
    """Side of the receptive field, and jump, in input pixels."""
    field, jump = 1, 1
    for k, s, d in layers:
        field, jump = field + (k - 1) * d * jump, jump * s
    return field, jump


LEAST_FIELD, LARGEST_JUMP, LARGEST_COST = 46, 4, 5


@exercise("convolution.6", MESSAGES["convolution.6"])
def stack(answer) -> Verdict:
    layers = _triples(answer, key="no layers")
    if not layers or any(v < 1 for layer in layers for v in layer):
        raise Wrong("no layers", got=repr(answer)[:60])
    pixels, jump = _field(layers)
    reads, step, cost = {0}, 1, Fraction(0)
    if pixels < 100_000:
        for k, s, d in layers:
            reads = {at + a * d * step for at in reads for a in range(k)}
            step *= s
            cost += Fraction(k * k, step * step)
    else:  # no field of that size is asked for, and counting its pixels would take long
        cost = Fraction(sum(k * k for k, _, _ in layers))
    read = len(reads) if pixels < 100_000 else math.prod(k for k, _, _ in layers)
    told = {"pixels": pixels, "jump": jump, "cost": float(cost), "read": read}
    if pixels < LEAST_FIELD:
        return "small", told
    if read < pixels:
        return ("gaps" if any(s > k for k, s, _ in layers) else "holes"), told
    if cost > LARGEST_COST:
        return "costly", told
    if jump > LARGEST_JUMP:
        return "coarse", told
    return "right", told


def _triples(answer: Any, *, key: str) -> list[tuple[int, int, int]]:
    """The answer as a list of three whole numbers each; `Wrong` with that key if it is none."""
    fault = Wrong(key, got=repr(answer)[:60])
    try:
        rows = [tuple(row) for row in answer]
        triples = [(int(a), int(b), int(c)) for a, b, c in rows]
    except (TypeError, ValueError, OverflowError):
        raise fault from None
    if triples != rows:
        raise fault
    return triples
