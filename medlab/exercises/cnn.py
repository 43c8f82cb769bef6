"""Checks of building a CNN."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.exercises import (
    Verdict,
    Wrong,
    as_array,
    call,
    exercise,
    first_match,
    near,
    numbers,
    shape_or_type,
)

# What can go wrong in building any module; {want} and {got} count registered numbers.
BUILDING = {
    "object": "I expected the class itself, not an object made from it: leave the brackets away.",
    "not a module": "I built it and got {kind}. Let the class inherit from nn.Module.",
    "no super": "nn.Module keeps its books in dictionaries that super().__init__() makes. Call it "
    "first in __init__.",
    "list": "layers stand in a plain list or dictionary, where nn.Module does not look: {got} of "
    "{want} numbers are registered. Put them into nn.ModuleList or nn.Sequential.",
    "in forward": "two calls with the same images differ, in evaluation mode: a layer is made anew "
    "in forward, so that it is never trained. Make it in __init__.",
    "missing": "{got} numbers are registered, and I expected {want}.",
}
MESSAGES = {
    "cnn.1": {
        **BUILDING,
        "right": "everything is registered, so it is trained, saved and moved with the network, "
        "and it still computes the same.",
        "offset": "`offset` is still a plain tensor, which no optimiser finds. Wrap it in "
        "nn.Parameter.",
        "buffer": "`offset` is a buffer now: it is saved, and not trained. It should be an "
        "nn.Parameter.",
        "start": "`offset` starts at 0 in the colleague's class, and not in yours, so that it "
        "computes something else. Keep torch.zeros(classes).",
        "frozen": "a number that is to be learnt does not ask for gradients.",
        "two biases": "the last layer has a bias of its own beside `offset`: the same number "
        "twice. Keep bias=False, as it was.",
        "unused": "`offset` is registered and not added any more.",
        "shape": "for 4 images and 3 classes I expected scores of shape (4, 3), and got {got}.",
        "other": "all is registered, and it computes something else than before. Change only what "
        "hides numbers from nn.Module.",
    },
    "cnn.2": {
        "right": "locality took away the factor size²/k², and sharing another size².",
        "three": "I expected three numbers: fully connected, local, shared. I got {got}.",
        "reversed": "the three numbers are right, in the wrong order: fully connected comes first.",
        "bias": "{which}: you counted biases too. I asked for weights only.",
        "size": "{which}: an image of that size has size² places, not `size`.",
        "kernel": "{which}: a window has k² pixels, not k.",
        "channels": "{which}: every output also sums over the channels of the image.",
        "outputs": "{which}: that is for one map; {outputs} come out.",
        "border": "{which}: you left out the weights that meet the zeros of the padding. Count a "
        "whole window at each place.",
        "shared": "local: that is the shared count. Without sharing each place of each map has "
        "weights of its own.",
        "other": "{which}: for size={size}, channels={channels}, outputs={outputs}, k={k} I "
        "expected {want:,} and got {got:,.0f}.",
    },
    "cnn.3": {
        **BUILDING,
        "right": "this is the network that most of the course trains, and you wrote it.",
        "calls": "I saw {got} {what} at work, and the drawing has {want}.",
        "order": "in a block the convolution comes first, then the normalisation.",
        "channels": "the channels run {got}, and should run {want}.",
        "kernel": "the kernels should be 3×3, with a stride of 1.",
        "padding": "the maps shrink at the convolutions: padding=1 keeps their size.",
        "bias": "your convolutions have biases, which the normalisation takes off again: "
        "bias=False.",
        "fixed size": "images of {size} pixels stop with: {error}. The mean over all places "
        "leaves one number for each channel, whatever the size of the image.",
        "shape": "for 4 images and {classes} classes I expected logits of shape (4, {classes}), "
        "and got {got}.",
        "no relu": "there is no ReLU in it: convolutions in a row are one convolution, with more "
        "parameters.",
        "relu late": "ReLU comes last in a block, after the normalisation.",
        "first relu": "one of the blocks lacks its ReLU.",
        "no pool": "nothing is pooled.",
        "one pool": "only one of the two poolings is there, or it stands at the wrong place.",
        "pools": "there is a third pooling. The drawing has two.",
        "average": "you pool by averages, and the drawing by maxima.",
        "max head": "at the end you take the largest value over all places; I asked for the mean.",
        "sum head": "at the end you take the sum over all places; I asked for the mean.",
        "eight": "your mean covers 8×8 places: right for images of 32 pixels, and for no larger "
        "ones.",
        "softmax": "the outputs sum to 1: there is a softmax at the end. Return the logits.",
        "relu at the end": "the logits passed a ReLU: none is ever negative. The last layer stays "
        "bare.",
        "other": "all layers are there, and the logits are not those of the drawing. Compare the "
        "order, and what stands between the layers.",
    },
    "cnn.4": {
        "right": "the network on permuted pixels is the same network with its columns permuted.",
        "inverse": "you applied the inverse permutation. New pixel j is old pixel order[j], so new "
        "column j is old column order[j].",
        "unchanged": "these are the old weights. Each column belongs to a pixel and must follow "
        "it.",
        "rows": "you permuted rows, which are hidden units. Pixels are the columns of a matrix "
        "outputs × inputs.",
        "shape": "I expected shape {want}, outputs × inputs, and got {got}.",
        "in place": "you changed the weights that I passed in. Return new ones.",
        "other": "with your weights the outputs differ by up to {error:.2g}.",
    },
    "cnn.5": {
        "right": "you looked into a network without touching a line of it, and left no trace.",
        "left": "your hook is still there, so that it runs at each later call and keeps its "
        "tensors alive. Call handle.remove().",
        "calls": "the model should run once; it ran {got} times.",
        "wrapped": "I expected the tensor that the layer put out, and got {got}.",
        "graph": "what you return still hangs on its graph of gradients. Keep output.detach().",
        "input": "that is what went *into* the layer. A hook gets (module, inputs, output).",
        "model": "that is what the whole model returned, not the layer.",
        "direct": "you gave the images to the layer itself. It should see what reaches it when the "
        "model runs.",
        "replaced": "what your hook returned took the place of the layer's output, and the model "
        "now answers differently. A hook that only listens returns nothing.",
        "other": "that is not what the layer put out.",
    },
    "cnn.6": {
        "right": "each layer by its own fan-in, biases at 0, and the normalisation left alone.",
        "not a module": "I expected the model back, and got {kind}.",
        "variance": "{layer}: its standard deviation is 2 / fan_in. That is the variance He asks "
        "for; take the square root.",
        "bound": "{layer}: its standard deviation is √(6 / fan_in). That is the bound of a uniform "
        "draw with He's variance, √3 times larger.",
        "xavier": "{layer}: the factor 2 is missing: that is right without an activation function, "
        "but ReLU halves E[x²].",
        "average": "{layer}: you used the mean of inputs and outputs, as Glorot and Bengio do to "
        "please both directions. I asked for fan_in alone.",
        "fan out": "{layer}: you counted outputs. Each output sums over its *inputs*.",
        "no kernel": "{layer}: each output sums over k² pixels of every channel; you counted the "
        "channels only.",
        "no channels": "{layer}: you counted the k² pixels of one channel; each output sums over "
        "all channels.",
        "all": "{layer}: you counted all weights of the layer. One output uses weight[0] only.",
        "default": "{layer}: these are still PyTorch's weights. Go through model.modules(), which "
        "also finds layers inside of layers.",
        "constant": "{layer}: all its weights are equal. Then its units are, and stay so for ever.",
        "mean": "{layer}: its weights have the mean {got:.2g}, not 0.",
        "bias": "{layer}: its bias is not 0.",
        "norm": "a batch normalisation starts with scale 1 and offset 0, and yours does not.",
        "other": "{layer}: I expected a standard deviation of {expected:.4f} and got {got:.4f}.",
    },
}


# ----------------------------------------------------------------------------- building a module


def _built(answer, *sizes: int) -> nn.Module:
    """The learner's network, in evaluation mode."""
    if isinstance(answer, nn.Module):
        raise Wrong("object")
    try:
        model = call(answer, *sizes)
    except Wrong as wrong:
        raise _without_books(wrong) from None
    if not isinstance(model, nn.Module):
        raise Wrong("not a module", kind=f"a {type(model).__name__}")
    if "_modules" not in vars(model):
        raise Wrong("no super")
    return model.eval()


def _without_books(wrong: Wrong) -> Wrong:
    return Wrong("no super") if "__init__() call" in str(wrong.values.get("error")) else wrong


def _registered(model: nn.Module, images: Tensor, got: Tensor, want: int) -> int:
    """How many numbers are registered; `Wrong` if layers hide, or are made anew at each call."""
    count = sum(p.numel() for p in model.parameters())
    if count < want and any(_hides(v) for k, v in vars(model).items() if k != "_modules"):
        raise Wrong("list", got=count, want=want)
    if not near(call(model, images), got, absolute=1e-5):
        raise Wrong("in forward")
    return count


def _hides(value) -> bool:
    plain = isinstance(value, (list, tuple, dict, set))
    values = value.values() if isinstance(value, dict) else value
    return plain and any(isinstance(v, nn.Module) or _hides(v) for v in values)


def _images(channels: int, height: int, width: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(4, channels, height, width, generator=rng)


def _draw(model: nn.Module) -> None:
    """Other numbers for all that is learnt or kept, so that none is 0 or 1 by its start."""
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            spread = 1.5 * max(p[0].numel(), 4) ** -0.5 if p.ndim else 1.0
            p.copy_(torch.randn(p.shape, generator=rng) * spread)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.get_buffer("running_mean").uniform_(-0.5, 0.5, generator=rng)
                layer.get_buffer("running_var").uniform_(0.5, 1.5, generator=rng)


@exercise("cnn.1", MESSAGES["cnn.1"])
def grader(answer) -> Verdict:
    sizes = [12, 64, 32, 3]
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    want = sum(a * b for a, b in shapes) + sum(sizes[1:])
    model, images = _built(answer, 12, 3), _images(1, 3, 4)
    got = call(model, images)
    # The last layer's own bias does as well, and starts within ±1/√32
    own = [p.detach().abs().max() for p in model.parameters() if p.numel() == 3]
    if not all(start <= 32**-0.5 for start in own):
        return "start"
    count = _registered(model, images, got, want - 3)
    if count == want - 3:
        return "buffer" if any(b.numel() == 3 for b in model.buffers()) else "offset"
    if count != want:
        return "two biases" if count == want + 3 else "missing", {"got": count, "want": want}
    if not all(p.requires_grad for p in model.parameters()):
        return "frozen"
    if as_array(got).shape != (4, 3):
        return "shape", {"got": shape_or_type(got)}
    _draw(model)
    flat = [p.squeeze() for p in model.parameters()]
    matrices = {tuple(p.shape): p for p in flat if p.ndim == 2}
    vectors = {len(p): p for p in flat if p.ndim == 1}
    if sorted(matrices) != sorted(shapes) or sorted(vectors) != sorted(sizes[1:]):
        return "other"
    x = images.flatten(1)
    for shape in shapes[:2]:
        x = F.linear(x, matrices[shape], vectors[shape[0]]).relu()
    bare = x @ matrices[3, 32].T
    got = call(model, images)
    if near(got, bare + vectors[3], absolute=1e-5):
        return "right"
    return "unused" if near(got, bare, absolute=1e-5) else "other"


# ----------------------------------------------------------------------------- what it costs

KINDS = ("fully connected", "local", "shared")


@exercise("cnn.2", MESSAGES["cnn.2"])
def weights(answer) -> Verdict:
    for size, channels, outputs, k in ((32, 1, 8, 3), (7, 3, 4, 5)):
        got = _three(call(answer, size, channels, outputs, k))
        want = _weights(size**2, channels, outputs, k**2)
        if near(got, want):
            continue
        if near(got, want[::-1]):
            return "reversed"
        own = outputs * size**2
        wrong = {
            "bias": [want[0] + own, want[1] + own, want[2] + outputs],
            "size": _weights(size, channels, outputs, k**2),
            "kernel": _weights(size**2, channels, outputs, k),
            "channels": _weights(size**2, 1, outputs, k**2),
            "outputs": _weights(size**2, channels, 1, k**2),
            "border": [0, outputs * channels * _inside(size, k) ** 2, 0],
            "shared": [0, want[2], 0],
        }
        place = next(i for i in range(3) if not near(got[i], want[i]))
        told: dict[str, Any] = {"size": size, "channels": channels, "outputs": outputs, "k": k}
        told |= {"which": KINDS[place], "want": want[place], "got": float(got[place])}
        return first_match(got[place], {key: row[place] for key, row in wrong.items()}), told
    return "right"


def _three(got) -> Tensor:
    try:
        found = numbers(got).flatten()
    except Wrong:
        found = torch.zeros(0)
    if len(found) != 3:
        raise Wrong("three", got=shape_or_type(got))
    return found


def _weights(places: int, channels: int, outputs: int, window: int) -> list[int]:
    each = channels * outputs
    return [each * places**2, each * places * window, each * window]


def _inside(size: int, k: int) -> int:
    """Pixels in reach of all places of one axis, without those of the padding."""
    return sum(abs(i - j) <= k // 2 for i in range(size) for j in range(size))


# ----------------------------------------------------------------------------- the network

LAYERS = {nn.Conv2d: "c", nn.BatchNorm2d: "n", nn.Linear: "l"}
NAMES = {"c": "2-D convolutions", "n": "2-D batch normalisations", "l": "linear layers"}


@exercise("cnn.3", MESSAGES["cnn.3"])
def network(answer) -> Verdict:
    for channels, classes, width, height, wide in ((1, 3, 4, 40, 36), (3, 2, 5, 36, 47)):
        verdict = _judged(answer, channels, classes, width, (height, wide))
        if verdict != "right":
            return verdict
    return "right"


def _judged(answer, channels: int, classes: int, width: int, size: tuple[int, int]) -> Verdict:
    sides = [channels, width, 2 * width, 2 * width, 4 * width, 4 * width]
    want = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(sides))
    want += (4 * width + 1) * classes
    model, images = _built(answer, channels, classes, width), _images(channels, *size)
    seen: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, *_: seen.append(module))
        for module in model.modules()
        if type(module) in LAYERS
    ]
    try:
        got = call(model, images)
    except Wrong as fault:
        error = str(fault.values.get("error"))
        if "mat1 and mat2" in error or "invalid for input of size" in error:
            return "fixed size", {"size": f"{size[0]}×{size[1]}", "error": error}
        raise
    for handle in handles:
        handle.remove()
    count = _registered(model, images, got, want)
    if verdict := _layers(seen, sides):
        return verdict
    if count != want:
        return "missing", {"got": count, "want": want}
    if not torch.is_tensor(got) or tuple(got.shape) != (4, classes):
        return "shape", {"got": shape_or_type(got), "classes": classes}
    _draw(model)
    got = call(model, images)
    if near(got, _logits(seen, images), absolute=1e-4):
        return "right"
    wrong: dict[str, dict[str, Any]] = {
        "no relu": {"relus": ()},
        "relu late": {"late": True},
        "no pool": {"pools": ()},
        "one pool": {"pools": (0,)},
        "one pool ": {"pools": (2,)},
        "pools": {"pools": (0, 2, 4)},
        "average": {"pool": F.avg_pool2d},
        "max head": {"head": lambda maps: maps.amax((2, 3))},
        "sum head": {"head": lambda maps: maps.sum((2, 3))},
        "eight": {"head": lambda maps: F.avg_pool2d(maps, 8)[:, :, 0, 0]},
        "softmax": {"tail": lambda z: z.softmax(1)},
        "relu at the end": {"tail": torch.relu},
    }
    for k in range(5):
        wrong["first relu" + k * " "] = {"relus": {0, 1, 2, 3, 4} - {k}}
    return next(
        (
            key.strip()
            for key, options in wrong.items()
            if near(got, _logits(seen, images, **options), absolute=1e-4)
        ),
        "other",
    )


def _layers(seen: list[nn.Module], sides: list[int]) -> Verdict | None:
    """What is wrong with the layers that were called, in the order of the calls."""
    kinds = "".join(LAYERS[type(module)] for module in seen)
    for kind, want in (("c", 5), ("n", 5), ("l", 1)):
        if kinds.count(kind) != want:
            return "calls", {"got": kinds.count(kind), "what": NAMES[kind], "want": want}
    if kinds != 5 * "cn" + "l":
        return "order"
    convolutions = [module for module in seen if isinstance(module, nn.Conv2d)]
    run = [convolutions[0].in_channels, *(c.out_channels for c in convolutions)]
    if run != sides:
        told = [" → ".join(map(str, values)) for values in (run, sides)]
        return "channels", {"got": told[0], "want": told[1]}
    if any(c.kernel_size != (3, 3) or c.stride != (1, 1) for c in convolutions):
        return "kernel"
    if any(c.padding not in ((1, 1), "same") for c in convolutions):
        return "padding"
    return "bias" if any(c.bias is not None for c in convolutions) else None


def _logits(
    layers: list[nn.Module],
    x: Tensor,
    *,
    relus=(0, 1, 2, 3, 4),
    pools=(0, 2),
    pool: Callable = F.max_pool2d,
    late: bool = False,
    head: Callable = lambda maps: maps.mean((2, 3)),
    tail: Callable = lambda z: z,
) -> Tensor:
    """The drawing of exercise 3 with the learner's layers, or one of its misreadings."""
    with torch.no_grad():
        for k in range(5):
            x = layers[2 * k](x)
            x = x.relu() if late else x
            x = layers[2 * k + 1](x)
            x = x.relu() if k in relus and not late else x
            x = pool(x, 2) if k in pools else x
        return tail(layers[-1](head(x)))


# ----------------------------------------------------------------------------- looking at it


@exercise("cnn.4", MESSAGES["cnn.4"])
def permute_weights(answer) -> Verdict:
    rng = torch.Generator().manual_seed(3)
    for outputs, pixels in ((5, 9), (8, 8)):
        weight = torch.randn(outputs, pixels, generator=rng)
        order = torch.randperm(pixels, generator=rng)
        while torch.equal(order[order], torch.arange(pixels)):
            order = torch.randperm(pixels, generator=rng)
        given = weight.clone()
        answered = call(answer, given, order.clone())
        if not torch.equal(given, weight):
            return "in place"
        got = torch.from_numpy(as_array(answered)).float()
        if got.shape != weight.shape:
            return "shape", {"want": tuple(weight.shape), "got": shape_or_type(answered)}
        if near(got, weight[:, order]):
            continue
        wrong = {"inverse": weight[:, order.argsort()], "unchanged": weight}
        if near(got.sum(0), weight.sum(0)):
            wrong |= {"rows": got}
        x = torch.randn(20, pixels, generator=rng)
        error = (x[:, order] @ got.T - x @ weight.T).abs().max().item()
        return first_match(got, wrong), {"error": error}
    return "right"


class _Watched(nn.Module):
    """A network that counts how often it runs and keeps what it answered last."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.last, self.runs = nn.Linear(6, 2), 0
        self.answer = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.last(self.inner(x.flatten(1)))

    def __call__(self, x: Tensor) -> Tensor:
        said = super().__call__(x)  # by way of the hooks, which may change it
        self.answer = said.detach()
        return said


@exercise("cnn.5", MESSAGES["cnn.5"])
def listen(answer) -> Verdict:
    for name in ("inner.0", "inner.1", "last"):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = _Watched().eval()
        layer, x = model.get_submodule(name), _images(1, 2, 3)
        got = call(answer, model, layer, x)
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            return "left"
        if model.runs != 1:
            return "calls", {"got": model.runs}
        if isinstance(got, (list, tuple)) and len(got) == 1:
            return "wrapped", {"got": f"a {type(got).__name__} with one thing in it"}
        with torch.no_grad():
            flat = x.flatten(1)
            first = model.inner[0](flat)
            inputs = {"inner.0": flat, "inner.1": first, "last": first.tanh()}
            outputs = {"inner.0": first, "inner.1": first.tanh(), "last": model.last(first.tanh())}
            direct = layer(flat)
        if as_array(got).shape != tuple(outputs[name].shape):
            short = near(as_array(got), outputs["last"])
            return "model" if short else "wrapped", {"got": shape_or_type(got)}
        if torch.is_tensor(got) and got.requires_grad:
            return "graph"
        if not near(got, outputs[name]):
            wrong = {"input": inputs[name], "model": outputs["last"], "direct": direct}
            return first_match(got, wrong)
        if not near(model.answer, outputs["last"]):
            return "replaced"
    return "right"


@exercise("cnn.6", MESSAGES["cnn.6"])
def start(answer) -> Verdict:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Conv2d(16, 60, 3, bias=False), nn.Conv2d(60, 15, 5))
        model = nn.Sequential(inner, nn.BatchNorm2d(15), nn.Linear(200, 90), nn.Linear(90, 140))
        back = call(answer, model)
    if not isinstance(back, nn.Module):
        return "not a module", {"kind": type(back).__name__}
    for layer in back.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            verdict = _first_weights(layer, layer.weight.detach())
            if verdict != "right":
                return verdict
        elif isinstance(layer, nn.BatchNorm2d) and not (
            near(layer.weight, torch.ones(15)) and near(layer.bias, torch.zeros(15))
        ):
            return "norm"
    return "right"


def _first_weights(layer: nn.Module, weight: Tensor) -> Verdict:
    """What is wrong with the first weights of a layer; about 1 % of their spread is chance."""
    told: dict[str, Any] = {"layer": str(layer)}
    fan, area = weight[0].numel(), math.prod(weight.shape[2:])
    out, expected = len(weight) * area, math.sqrt(2 / fan)
    got, mean = weight.std().item(), weight.mean().item()
    if got < 1e-6:
        return "constant", told
    if abs(mean) > 0.1 * got:
        return "mean", told | {"got": mean}
    if not near(got, expected, rel=0.05):
        wrong = {
            "default": 1 / math.sqrt(3 * fan),
            "variance": 2 / fan,
            "bound": math.sqrt(6 / fan),
            "xavier": math.sqrt(1 / fan),
            "average": math.sqrt(2 / (fan + out)),
            "fan out": math.sqrt(2 / out),
            "fan out ": math.sqrt(2 / len(weight)),
            "no kernel": math.sqrt(2 / weight.shape[1]),
            "no channels": math.sqrt(2 / area),
            "all": math.sqrt(2 / weight.numel()),
        }
        key = first_match(got, wrong, rel=0.05).strip()
        return key, told | {"expected": expected, "got": got}
    bias = layer.bias
    return (
        ("bias", told) if bias is not None and not near(bias, torch.zeros(len(weight))) else "right"
    )
