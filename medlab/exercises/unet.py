"""Checks of U-Net: sizes, the way up, the whole network, its loss and its memory."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number
from medlab.losses import soft_dice
from medlab.models import UNet

MESSAGES = {
    "unet.1": {
        "right": "572 pixels give 388 at depth 4, as in the paper's figure, and of 16 sides in a "
        "row near it 15 give nothing. Padded convolutions leave only the halvings to mind.",
        "half": "for {n} pixels at depth {depth} I expected {want}, and got {got}: you took off 2 "
        "pixels a level. A level has two convolutions, and a 3×3 window costs one pixel at *both* "
        "ends: 4 in all.",
        "padded": "you gave back {got}, the side that came in. That is right for padded "
        "convolutions; those of 2015 cost 2 pixels each.",
        "odd": "for {n} pixels at depth {depth} a halving meets an odd side; I expected 0, and "
        "got {got}. Pooling would drop the last row, and what comes up would lie beside its "
        "bridge.",
        "too strict": "for {n} pixels at depth {depth} I expected {want}, and got 0. Only a side "
        "that is about to be halved must be even, and its block comes first: 572 becomes 568, and "
        "568 is halved. n need not be a multiple of 2^depth, the bottom may be odd, and at depth 0 "
        "nothing is halved.",
        "bottom": "for {n} pixels at depth {depth} I expected {want}, and got {got}: there are two "
        "convolutions at the bottom too, below the last halving.",
        "way up": "for {n} pixels at depth {depth} I expected {want}, and got {got}: on the way up "
        "each doubling is followed by two convolutions.",
        "below zero": "for {n} pixels at depth {depth} nothing is left, and you returned {got}. "
        "Return 0 there.",
        "other": "for {n} pixels at depth {depth} I expected {want}, and got {got}. Print the "
        "side after each step; for 572 at depth 4 the bottom has 32 and then 28.",
    },
    "unet.2": {
        "right": "each pixel paints the whole kernel, and what overlaps adds up: the loops of "
        "notebook 03's backward pass, now on the way forward.",
        "overwritten": "where two copies overlap, y holds the last one only. Add up with `+=`.",
        "no step": "y has the right size, but the copy of x[i, j] begins at y[i, j]. Copies start "
        "s apart: at y[s·i, s·j].",
        "flipped": "your kernel is turned by 180°. Here each pixel paints w as it stands.",
        "exchanged": "rows and columns of the kernel are exchanged.",
        "no stride": "you returned shape {got}, and I expected {want}: neighbouring pixels paint "
        "{s} places apart, not 1.",
        "tiles": "you returned shape {got}, s times the input. The last copy is as large as the "
        "kernel, {k}, not as the stride: {want}.",
        "one more": "you returned shape {got}, and I expected {want}: between H pixels there are "
        "H − 1 steps of s.",
        "square": "you returned shape {got}, and I expected {want}: rows and columns have sizes of "
        "their own.",
        "shape": "you returned shape {got} for an input of {image}, a kernel of {kernel} and "
        "stride {s}; I expected {want}: (H − 1)·s + k.",
        "does not fit": "your code stopped with {kind}: {error}. Does every copy fit into y? "
        "Along each axis y must be (n − 1)·s + k long.",
        "mean": "you divided where copies overlap. They add up, and that is what makes the "
        "chequered pattern.",
        "other": "for an input of {image}, a kernel of {kernel} and stride {s}, y{place} should be "
        "{expected:.4g}, and yours is {got:.4g}.",
    },
    "unet.3": {
        "right": "the same number of parameters as medlab.models.UNet at three sizes, and with its "
        "weights the same answer for every pixel.",
        "no network": "I expected a class whose objects are nn.Module; calling it gave {got}.",
        "unfinished": "still `...`: {names}. The rest holds {got:,} of {want:,} parameters.",
        "in a list": "I find {got:,} parameters, and expected {want:,}: the layers of "
        "{names} are in a Python list, where they are not seen. Put them in an nn.ModuleList.",
        "too deep": "I find {got:,} parameters, and expected {want:,}: that is a network of depth "
        "{depth} + 1. `depth` counts the halvings.",
        "too shallow": "I find {got:,} parameters, and expected {want:,}: that is a network of "
        "depth {depth} − 1. `depth` counts the halvings, so there are depth + 1 blocks down.",
        "no bridges": "I find {got:,} parameters, and expected {want:,}: your merging blocks take "
        "in half of the channels. The bridge is put *beside* what comes up, neither left out nor "
        "added to it.",
        "not halved": "I find {got:,} parameters, and expected {want:,}: your steps up keep all "
        "maps. Each turns 2c maps into c, which with the bridge's c make 2c for its block.",
        "parameters": "I find {got:,} parameters for {arguments}, and expected {want:,}. "
        "`medlab.models.summary(net, (1, 32, 32))` lists them by layer.",
        "names": "the number of parameters is right, but I do not find `down`, `up`, `merge` and "
        "`classifier`, each in the order in which the image meets them, so that I could put in "
        "known weights. The first that differs is {name}.",
        "bottom": "the number of parameters is right, but `down` lacks its last block: the bottom "
        "is part of it, with no name of its own.",
        "forward": "every part is in its place. Now `forward`: it is still `...`, or returns "
        "nothing.",
        "does not fit": "your code stopped with {kind}: {error} A bridge must be as large as what "
        "comes up. Keep the maps *before* they are halved, but not those of the bottom, and take "
        "the bridge kept last first.",
        "shape": "for {image} you returned {got}, and I expected {want}: a logit for each class "
        "and pixel.",
        "order": "all parts are there, and the two halves change places: put the bridge first, "
        "torch.cat([bridge, x], 1). Trained from scratch yours would do as well; with weights "
        "from elsewhere it would not.",
        "average": "you halve by averages. The frame asks for the maximum: F.max_pool2d(x, 2).",
        "cut bridges": "the bridges carry nothing: I changed them, and your answer stayed. What "
        "you keep on the way down must be the maps that you cat on the way up.",
        "probabilities": "you returned probabilities. The network gives logits; the softmax is in "
        "the loss.",
        "relu": "you returned no negative number: is there a ReLU behind the classifier?",
        "other": "with the weights of medlab.models.UNet your answer differs from it by up to "
        "{gap:.3g}. Is each part called once, in the order of the figure?",
    },
    "unet.4": {
        "right": "the same number as medlab.losses.soft_dice, and the same gradient, for pictures "
        "and volumes.",
        "not a loss": "that is the overlap. A loss is small where the network is right: 1 − it.",
        "background": "you averaged over all K classes. The background is no structure: leave "
        "class 0 out of this mean.",
        "per image": "you formed a ratio for each image and averaged those. Sum over the batch "
        "first: an image without the structure would otherwise count as much as any.",
        "no one": "the 1 is missing above and below, which keeps 0/0 away.",
        "one once": "the 1 stands above *and* below, so that a structure that nobody sees costs "
        "nothing.",
        "half": "the factor 2 is missing: perfect overlap would cost a half.",
        "hard": "you took the class with the highest probability. That is the metric; it has no "
        "gradient. Take the probabilities themselves.",
        "sigmoid": "you took a sigmoid of each logit. The classes exclude each other: softmax.",
        "softmax axis": "your probabilities do not add up to 1 over the classes: the softmax runs "
        "over axis 1.",
        "logits": "you used the logits themselves. Turn them into probabilities first.",
        "squares": "you squared the probabilities below, as Milletari et al. did. A good loss, "
        "and not the one asked for.",
        "pooled": "you summed over the structures before dividing, so that the largest decides. "
        "One ratio for each structure, then their mean.",
        "sum": "you added the structures up. Their mean keeps the loss between 0 and 1.",
        "share of K": "you divided the sum over the structures by K. They are K − 1, without the "
        "background.",
        "volumes": "right for pictures, but volumes have one axis more: sum over axis 0 and "
        "*every* axis behind 1.",
        "shape": "I expected one number, and got shape {got}.",
        "no gradient": "the number is right, but no gradient leads back to the logits. Did you "
        "leave PyTorch, or detach?",
        "other": "for logits of shape {shape} I expected {want:.4f}, and got {got:.4f}.",
    },
    "unet.5": {
        "right": "each level halves the sides and doubles the channels: in a picture a level costs "
        "half of the one above, in a volume a quarter. The bottom, passed once, costs half of "
        "that again.",
        "two everywhere": "for {told} I expected {want:,}, and got {got:,}: every level but the "
        "bottom is passed twice, down and up, and has four convolutions.",
        "four everywhere": "for {told} I expected {want:,}, and got {got:,}: the bottom is passed "
        "once, and has two convolutions.",
        "one axis": "for {told} I expected {want:,}, and got {got:,}. *Every* side is halved from "
        "level to level, however many there are.",
        "same channels": "for {told} I expected {want:,}, and got {got:,}: channels double from "
        "level to level.",
        "one image": "for {told} I expected {want:,}, and got {got:,}: you counted the places, "
        "and not the channels at each.",
        "no bottom": "for {told} I expected {want:,}, and got {got:,}: the level below the last "
        "halving is missing.",
        "first level": "for {told} I expected {want:,}, and got {got:,}: that is the first level "
        "alone.",
        "two sides": "for {told} I expected {want:,}, and got {got:,}: a volume has three sides, "
        "and you used two.",
        "other": "for {told} I expected {want:,}, and got {got:,}. Print what each level gives: "
        "the first gives {first:,}.",
    },
}


def _shape(answer: Any) -> tuple[int, ...]:
    near(answer, 0)  # says so if it holds anything but numbers
    return tuple(np.shape(answer.detach() if torch.is_tensor(answer) else answer))


# ------------------------------------------------------------------------ 1: sizes


def _side(n: int, depth: int, *, cost: int = 4, bottom: int = 4, up: int = 4) -> int:
    """Side of the unpadded U-Net's output, 0 if none; with other costs of a level, a wrong one."""
    for _ in range(depth):
        n -= cost
        if n % 2:
            return 0
        n //= 2
    n -= bottom
    for _ in range(depth):
        n = 2 * n - up
    return max(n, 0)


@exercise("unet.1", MESSAGES["unet.1"])
def output_side(answer) -> Verdict:
    settings = [(572, 4), (28, 1), (31, 1), (62, 2), (21, 0), (10, 1)]
    settings += [(n, depth) for depth in (0, 1, 2, 3) for n in range(1, 130)]
    costs = {
        "half": {"cost": 2, "bottom": 2, "up": 2},
        "bottom": {"bottom": 0},
        "way up": {"up": 0},
    }
    first = settings[:6]
    wrong = {name: [_side(*one, **cost) for one in first] for name, cost in costs.items()}
    wrong["padded"] = [n for n, _ in first]
    # A mistake is told by all of these: on one of them two mistakes may give the same side
    known = first_match([number(call(answer, *one)) for one in first], wrong)
    for n, depth in settings:
        want, got = _side(n, depth), number(call(answer, n, depth))
        if got == want:
            continue
        told = {"n": n, "depth": depth, "want": want, "got": f"{got:g}"}
        if got < 0 and want == 0:
            return "below zero", told
        if known == "other" and 0 in (got, want):
            known = "odd" if got else "too strict"
        return known, told
    return "right"


# ------------------------------------------------------------------------ 2: transposed convolution


# What PyTorch and NumPy say where a part of an array is too short for what is to go there
MISFIT = ("must match", "broadcast", "out of bounds")


@exercise("unet.2", MESSAGES["unet.2"])
def enlarge(answer) -> Verdict:
    rng = torch.Generator().manual_seed(2)
    cases = (((3, 5), (3, 3), 2), ((4, 2), (2, 2), 2), ((3, 4), (2, 4), 3), ((2, 3), (3, 2), 1))
    for image, kernel, s in cases:
        x = torch.randint(-9, 10, image, generator=rng).float() / 2
        w = torch.randint(1, 10, kernel, generator=rng) * torch.randn(kernel, generator=rng).sign()
        want = _transposed(x, w, s)
        try:
            got = call(answer, x.clone(), w.clone(), s)
        except Wrong as fault:
            if any(word in str(fault.values.get("error")) for word in MISFIT):
                raise Wrong("does not fit", **fault.values) from fault
            raise
        if near(got, want, absolute=1e-4):
            continue
        told: dict[str, Any] = {"image": image, "kernel": kernel, "s": s, "k": kernel}
        (rows, columns), shape = want.shape, _shape(got)
        if shape != want.shape:
            spans = list(zip(image, kernel, strict=True))
            known = {
                tuple(n - 1 + k for n, k in spans): "no stride",
                tuple(n * s for n in image): "tiles",
                tuple(n * s + k for n, k in spans): "one more",
                (rows, rows): "square",
                (columns, columns): "square",
                (columns, rows): "square",
            }
            return known.get(shape, "shape"), {**told, "got": shape, "want": tuple(want.shape)}
        close = _transposed(x, w, 1)  # in the upper left corner of what the stride asks for
        wrong = {
            "overwritten": _painted(x, w, s),
            "no step": F.pad(close, (0, columns - close.shape[1], 0, rows - close.shape[0])),
            "flipped": _transposed(x, w.flip(0, 1), s),
            "mean": want / _transposed(torch.ones(image), torch.ones(kernel), s).clamp_min(1),
        }
        if kernel[0] == kernel[1]:
            wrong["exchanged"] = _transposed(x, w.T, s)
        values = torch.as_tensor(np.asarray(got.detach() if torch.is_tensor(got) else got, float))
        place = tuple((~torch.isclose(values, want.double(), rtol=1e-3)).nonzero()[0].tolist())
        told |= {"place": list(place), "got": values[place].item(), "expected": want[place].item()}
        return first_match(got, wrong, absolute=1e-4), told
    return "right"


def _transposed(x: Tensor, w: Tensor, s: int) -> Tensor:
    return F.conv_transpose2d(x[None, None], w[None, None], stride=s)[0, 0]


def _painted(x: Tensor, w: Tensor, s: int) -> Tensor:
    """The copies laid over each other, the last one on top."""
    y = torch.zeros_like(_transposed(x, w, s))
    for i, j in np.ndindex(*x.shape):
        y[s * i : s * i + w.shape[0], s * j : s * j + w.shape[1]] = x[i, j] * w
    return y


# ------------------------------------------------------------------------ 3: the network


@exercise("unet.3", MESSAGES["unet.3"])
def network(answer) -> Verdict:
    for image, arguments in (
        ((2, 1, 16, 24), (1, 4, 4, 3)),
        ((1, 3, 12, 8), (3, 2, 6, 2)),
        ((2, 2, 6, 10), (2, 5, 4, 1)),
    ):
        net = call(answer, *arguments)
        if not isinstance(net, nn.Module):
            raise Wrong("no network", got=type(net).__name__)
        want = _known(*arguments)
        if left := [f"`{name}`" for name, part in vars(net).items() if part is ...]:
            if (got := _count(net)) == 0:
                raise NotAttempted
            raise Wrong("unfinished", names=", ".join(left), got=got, want=_count(want))
        if (fault := _parameters(net, arguments)) is not None:
            return fault
        if (name := _take_over(net, want)) is not None:
            own_bottom = name == f"down.{arguments[-1]}.0.weight"
            return ("bottom", {}) if own_bottom else ("names", {"name": name})
        x = torch.randn(image, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            expected = want(x)
            try:
                got = call(net.eval(), x.clone())
            except NotAttempted:
                return "forward"
            except Wrong as stopped:
                if stopped.key == "returned nothing":
                    return "forward"
                if "Sizes of tensors must match" in str(stopped.values.get("error")):
                    raise Wrong("does not fit", **stopped.values) from stopped
                raise
        if near(got, expected, absolute=1e-4):
            continue
        if (shape := _shape(got)) != tuple(expected.shape):
            return "shape", {"image": image, "got": shape, "want": tuple(expected.shape)}
        return _misbuilt(want, x, torch.as_tensor(got), expected)
    return "right"


def _known(in_channels: int, num_classes: int, width: int, depth: int) -> UNet:
    """A U-Net in evaluation mode whose weights and running averages are random numbers."""
    model = UNet(in_channels, num_classes, width, depth=depth).eval()
    rng = torch.Generator().manual_seed(width)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not name.startswith("standardise"):
            noise = torch.randn(value.shape, generator=rng)
            value.copy_(1 + noise.abs() if "running_var" in name else value + 0.3 * noise)
    return model


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _parameters(net: nn.Module, arguments: tuple[int, int, int, int]) -> Verdict | None:
    """What a wrong number of parameters says, or None if it is right."""
    inputs, classes, width, depth = arguments
    got, want = _count(net), _count(UNet(inputs, classes, width, depth=depth))
    if got == want:
        return None
    halves = sum(9 * (width * 2**level) ** 2 for level in range(depth))
    doubles = sum(17 * c**2 + c for c in (width * 2**level for level in range(depth)))
    known = {
        _count(UNet(inputs, classes, width, depth=depth + 1)): "too deep",
        want - halves: "no bridges",
        want + doubles: "not halved",  # 2c maps from below beside the bridge's c
    }
    if depth > 1:
        known[_count(UNet(inputs, classes, width, depth=depth - 1))] = "too shallow"
    unseen = [
        f"`{name}`"
        for name, part in vars(net).items()
        if isinstance(part, list | tuple) and any(isinstance(one, nn.Module) for one in part)
    ]
    fault = "in a list" if unseen else known.get(got, "parameters")
    return fault, {
        "got": got,
        "want": want,
        "depth": depth,
        "arguments": f"in_channels, num_classes, width, depth = {arguments}",
        "names": ", ".join(unseen),
    }


def _take_over(net: nn.Module, known: UNet) -> str | None:
    """Put known weights into a network; the name of the first that has no place there, or None."""
    state = {k: v for k, v in known.state_dict().items() if not k.startswith("standardise")}
    own = {k: v for k, v in net.state_dict().items() if not k.startswith("standardise")}
    for name, value in state.items():
        if name not in own or own[name].shape != value.shape:
            return name
    net.load_state_dict(state, strict=False)
    return None


def _misbuilt(known: UNet, x: Tensor, got: Tensor, expected: Tensor) -> Verdict:
    def passed(
        join: Callable[[Tensor, Tensor], list[Tensor]] = lambda bridge, up: [bridge, up],
        pool: Callable[..., Tensor] = F.max_pool2d,
    ) -> Tensor:
        """The way of an image through the known network, one thing done otherwise."""
        maps, bridges = x, []
        for level, convolve in enumerate(known.down):
            maps = convolve(maps if level == 0 else pool(maps, 2))
            bridges.append(maps)
        bridges.pop()
        for enlarge, convolve in zip(known.up, known.merge, strict=True):
            maps = convolve(torch.cat(join(bridges.pop(), enlarge(maps)), dim=1))
        return known.classifier(maps)

    with torch.no_grad():
        wrong = {
            "order": passed(lambda bridge, up: [up, bridge]),
            "average": passed(pool=F.avg_pool2d),
            "cut bridges": passed(lambda bridge, up: [0 * bridge, up]),
            "probabilities": expected.softmax(1),
            "relu": expected.relu(),
        }
    key = first_match(got, wrong | {"cut bridges ": passed(lambda _, up: [up, up])}, absolute=1e-4)
    return key.strip(), {"gap": (got - expected).abs().max().item()}


# ------------------------------------------------------------------------ 4: the Dice loss


@exercise("unet.4", MESSAGES["unet.4"])
def dice_loss(answer) -> Verdict:
    rng = torch.Generator().manual_seed(4)
    for shape, lacking in (((3, 4, 5, 7), 1), ((2, 3, 3, 4, 2), 1), ((2, 4, 6, 3), 2)):
        logits = 2 * torch.randn(shape, generator=rng)
        masks = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=rng)
        masks[:lacking].clamp_(max=shape[1] - 2)  # not every image holds the last structure
        masks[:, 0] = 0
        free = logits.clone().requires_grad_()
        want = soft_dice(free, masks)
        (slope,) = torch.autograd.grad(want, free)
        own = logits.clone().requires_grad_()
        got = call(answer, own, masks.clone())
        if _shape(got) != ():
            return "shape", {"got": _shape(got)}
        if not near(got, want, rel=1e-5):
            key = first_match(got, _wrong_losses(logits, masks), rel=1e-5)
            return key, {"shape": shape, "want": want.item(), "got": number(got)}
        if not (torch.is_tensor(got) and got.requires_grad):
            return "no gradient"
        (own_slope,) = torch.autograd.grad(got, own, allow_unused=True)
        if own_slope is None or not near(own_slope, slope, absolute=1e-6):
            return "no gradient"
    return "right"


def _wrong_losses(logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
    classes = logits.shape[1]
    g = F.one_hot(masks, classes).movedim(-1, 1).float()
    every = [0, *range(2, logits.ndim)]

    def overlap(
        p: Tensor, *, axes: list[int] = every, above: float = 1, below: float = 1, times: float = 2
    ) -> Tensor:
        return (times * (p * g).sum(axes) + above) / ((p + g).sum(axes) + below)

    p = logits.softmax(1)
    hard = F.one_hot(logits.argmax(1), classes).movedim(-1, 1).float()
    right = overlap(p)[1:]
    both, sizes = (p * g).sum(every)[1:].sum(), (p + g).sum(every)[1:].sum()
    squares = (p**2 + g**2).sum(every)
    return {
        "not a loss": right.mean(),
        "background": 1 - overlap(p).mean(),
        "per image": 1 - overlap(p, axes=every[1:])[:, 1:].mean(),
        "no one": 1 - overlap(p, above=0, below=0)[1:].mean(),
        "one once": 1 - overlap(p, above=0)[1:].mean(),
        "half": 1 - overlap(p, times=1)[1:].mean(),
        "hard": 1 - overlap(hard)[1:].mean(),
        "sigmoid": 1 - overlap(logits.sigmoid())[1:].mean(),
        "softmax axis": 1 - overlap(logits.softmax(-1))[1:].mean(),
        "logits": 1 - overlap(logits)[1:].mean(),
        "squares": 1 - ((2 * (p * g).sum(every) + 1) / (squares + 1))[1:].mean(),
        "pooled": 1 - (2 * both + 1) / (sizes + 1),
        "sum": 1 - right.sum(),
        "share of K": 1 - right.sum() / classes,
        "volumes": 1 - overlap(p, axes=[0, 2, 3])[1:].mean(),
    }


# ------------------------------------------------------------------------ 5: memory


def _values(
    size: tuple[int, ...],
    width: int,
    depth: int,
    *,
    layers: tuple[int, int] = (4, 2),
    grow: int = 2,
) -> int:
    """Numbers that the 3×3 convolutions give for one image; with other options, a wrong count."""
    return sum(
        layers[level == depth] * width * grow**level * prod(side // 2**level for side in size)
        for level in range(depth + 1)
    )


@exercise("unet.5", MESSAGES["unet.5"])
def feature_values(answer) -> Verdict:
    settings: tuple[tuple[tuple[int, ...], int, int], ...] = (
        ((96, 64), 8, 3),
        ((40, 56, 48), 4, 3),
        ((8, 12), 3, 2),
        ((6, 10, 4), 5, 1),
        ((7, 9), 2, 0),
    )
    for size, width, depth in settings:
        want = _values(size, width, depth)
        got = number(call(answer, size, width, depth))
        if got == want:
            continue
        one_axis = sum(
            (4 if level < depth else 2) * width * 2**level * prod(size) // 2**level
            for level in range(depth + 1)
        )
        wrong = {
            "two everywhere": _values(size, width, depth, layers=(2, 2)),
            "four everywhere": _values(size, width, depth, layers=(4, 4)),
            "one axis": one_axis,
            "same channels": _values(size, width, depth, grow=1),
            "one image": _values(size, 1, depth, grow=1),
            "no bottom": _values(size, width, depth, layers=(4, 0)),
            "first level": 4 * width * prod(size),
            "two sides": _values(size[:2], width, depth),
        }
        told = {"told": f"size {size}, width {width}, depth {depth}", "want": want}
        told |= {"first": (4 if depth else 2) * width * prod(size)}
        return first_match(got, wrong, rel=0, absolute=0.5), {**told, "got": got}
    return "right"
