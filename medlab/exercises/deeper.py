"""Checks of deeper networks."""

from __future__ import annotations

import copy
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter
from torch.overrides import TorchFunctionMode

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near
from medlab.models import ResNet

MESSAGES = {
    "deeper.1": {
        "right": "that is backpropagation through the whole stack, and with the shortcut each "
        "layer hands on what it received, unchanged, plus its own part.",
        "length": "you returned {got} norms for {layers} layers; I expected {want}: one for x, and "
        "one after each layer.",
        "vectors": "these are vectors, and their norms were asked for: take .norm() of each.",
        "reversed": "your norms come in the order of the way back. The list begins with x.",
        "squared": "you returned squared norms: take the root of the sum of squares.",
        "no mask": "ReLU passes the gradient only where its input was positive, and you pass all "
        "of it.",
        "mask of h": "with a shortcut, h = h + ReLU(z) can be positive where z is not. The mask is "
        "z > 0, with z what goes into ReLU.",
        "not transposed": "forward z = W h; the gradient of h collects over the outputs, so W has "
        "to be transposed on the way back.",
        "no shortcut": "without shortcut you are right; with it, h reaches the next layer on two "
        "ways, and the gradients of both add up. You kept only the one through W.",
        "always shortcut": "you add the shortcut's gradient also where residual is False.",
        "forward": "the way back has its shortcut, and the way forward has none: where residual, "
        "h = h + ReLU(W h).",
        "all masked": "you masked the sum. The ReLU stands on one of the two ways only: what comes "
        "back over the shortcut passes untouched.",
        "mask late": "you multiply by W transposed and mask afterwards. On the way back ReLU comes "
        "first, since it came last on the way forward: W.T @ (y_bar * (z > 0)).",
        "mask of input": "you mask with the layer's input, h > 0. ReLU gets z = W h, so the mask "
        "is z > 0.",
        "times relu": "you multiply the gradient by ReLU(z). Its derivative is asked for, 1 where "
        "z > 0 and 0 elsewhere.",
        "walked": "on the way back the last layer comes first, and each W goes with its own z: "
        "walk through both in reversed order.",
        "norms of h": "these are the norms of h, on the way forward. Asked for are those of the "
        "gradients, which come back from y_bar.",
        "autograd": "this is to be done by hand: your code asked PyTorch for the gradient.",
        "other": "residual={residual}: the norm at place {place} should be {expected:.4g}, and "
        "yours is {got:.4g}. Keep every z on the way forward.",
    },
    "deeper.2": {
        "right": "both modes, to the last digits of nn.BatchNorm2d: the batch's own statistics in "
        "training, the remembered ones in evaluation.",
        "library": "the values come from PyTorch's own batch normalisation. Here it is to be "
        "written: means, variances and a root.",
        "broadcast": "shapes do not fit: {error} Mean and variance run over (0, 2, 3), so that one "
        "number a channel is left, and beside an image it stands as mu[:, None, None].",
        "triple": "I expected three results, `return y, mean, var`; got {got}.",
        "shape": "{name} has the shape {got}, and I expected {want}.",
        "exchanged": "you returned the remembered variance before the remembered mean: "
        "`return y, mean, var`.",
        "per image": "you took mean or variance of each image by itself. The batch's statistics "
        "run over images, rows and columns; one number for each channel.",
        "one for all": "you took one mean and one variance over everything. Each channel has its "
        "own.",
        "batch only": "you took mean and variance over the images alone, for each place. A channel "
        "looks for the same everywhere: rows and columns count too.",
        "unbiased": "you normalised with the unbiased variance, divided by n − 1. Normalising "
        "divides by n; n − 1 is for the remembered one.",
        "no root": "you divided by the variance. Divide by its root.",
        "eps": "ε stands under the root: sqrt(var + eps).",
        "no eps": "ε is missing, or is a number of your own: eps={eps:g} was given, and it stands "
        "under the root.",
        "no beta": "β is missing: the last step is γ x̂ + β.",
        "no gamma": "γ is missing: the last step is γ x̂ + β.",
        "no affine": "γ and β are missing: the last step is γ x̂ + β.",
        "remembered": "in training you normalised with the remembered statistics. They are for "
        "evaluation.",
        "moved": "in training you normalised with the memory, after moving it. The memory is for "
        "evaluation: normalise with the batch's own mean and variance.",
        "eval batch": "in evaluation you normalised with the batch's own statistics: a patient's "
        "answer would depend on who else is in the batch. Take mean and var as given.",
        "eval updated": "in evaluation {name} has changed. Nothing is learnt there: return it as "
        "given.",
        "not updated": "in training {name} stays what it was. It moves a part of the way, "
        "momentum, to that of the batch.",
        "momentum": "in {name} the two weights are exchanged: the new one counts momentum, the old "
        "one 1 − momentum.",
        "own momentum": "{name} moved a part 0.1 of the way, and momentum={momentum:g} was given.",
        "replaced": "{name} was replaced by the batch's. It moves a part of the way only.",
        "biased": "your remembered variance is n/(n − 1) too small: PyTorch remembers the unbiased "
        "one, since it estimates that of all images.",
        "n": "in the remembered variance your n is {counted}. It counts all values of a channel, "
        "n = B H W.",
        "twice": "your remembered variance is n/(n − 1) too large: x.var divides by n − 1 already, "
        "unless correction=0 is given.",
        "other": "{mode}: {name} should be {expected:.4g} in its first different place, and yours "
        "is {got:.4g}.",
    },
    "deeper.3": {
        "right": "a residual block. With the same weights it gives what models.ResNet gives.",
        "class": "I expected the class Block, and got {kind}.",
        "names": "your block has no layer {name}. The names are those of the drawing: conv1, "
        "norm1, conv2, norm2 and shortcut.",
        "size": "Block({inputs}, {outputs}, stride={stride}): {name} turns maps of {image} into "
        "{got}, and {want} were asked for. conv1 and the shortcut take the stride, conv2 none; "
        "what is 3×3 has padding=1.",
        "late stride": "conv2 has a stride. It belongs to conv1, and to the shortcut.",
        "channels": "conv2 or norm2 has the wrong number of channels: from conv1 on there are "
        "`outputs` of them.",
        "bias": "{name} has a bias. Normalisation takes the mean away and brings β: bias=False.",
        "not identity": "where shape in and shape out agree, the shortcut hands x on unchanged, "
        "nn.Identity(). Yours has weights there.",
        "no projection": "Block({inputs}, {outputs}, stride={stride}): x and f(x) have different "
        "shapes, and your shortcut has no 1×1 convolution to mend that.",
        "kernel": "the shortcut's convolution has a kernel of {got}. It only mixes channels and "
        "drops pixels: 1×1.",
        "no norm": "the shortcut's convolution is not normalised: a BatchNorm2d belongs behind it.",
        "no sum": "that is f(x) alone, a plain block. The shortcut is not added.",
        "relu first": "you bend f(x) before the sum. Then a block can only add, never take away: "
        "ReLU comes after the sum.",
        "no last relu": "the last ReLU is missing, the one after the sum.",
        "no first relu": "between norm1 and conv2 there is no ReLU, and without it the two "
        "convolutions are one.",
        "no second norm": "norm2 is not used, or only after the sum: f ends with it.",
        "raw": "your shortcut is a layer of its own, and the sum takes x itself or another input. "
        "Both ways start from x.",
        "other": "all layers are right, and the output is not. Follow the drawing: "
        "norm2(conv2(ReLU(norm1(conv1(x))))), plus the shortcut of x, then ReLU.",
    },
    "deeper.4": {
        "right": "with the weights of models.ResNet it gives the same logits, {layers} weight "
        "layers deep.",
        "module": "I expected a module, such as nn.Sequential(…); got {kind}.",
        "shared": "one block object stands in your network several times, and shares its weights. "
        "Call B anew for each.",
        "count": "for blocks={blocks} you have {got} blocks, and I expected {want}: one for each "
        "that a stage has.",
        "stages": "for blocks={blocks} your stages, told by their widths, have {got} blocks. Use "
        "`blocks`, and double the channels in the first block of a stage.",
        "channels": "for blocks={blocks} and width={width} your blocks turn {got} channels into "
        "each other, and I expected {want}: they double where a stage begins, but for the first.",
        "first stride": "your first stage halves the image already. It keeps the resolution; each "
        "later one halves it.",
        "every stride": "every block of a stage halves the image. Only the first of it does.",
        "no stride": "no block has a stride: the image stays as large as it was, and so does the "
        "cost of each stage. Channels double where sides halve.",
        "strides": "your blocks have the strides {got}, and I expected {want}.",
        "stem": "before the first block the image needs a 3×3 convolution to `width` channels with "
        "padding 1 and no bias, BatchNorm2d, ReLU.",
        "stem size": "the first block gets maps of {got} for images of {want}. In front of it "
        "nothing changes the size: stride 1, padding 1, no pooling.",
        "stem relu": "everything is right but the ReLU between the first convolution's "
        "normalisation and the first block.",
        "head": "for blocks={blocks} and width={width} the last block is followed by the average "
        "over all places and one linear layer from {want} channels to {classes} classes.",
        "head bias": "the last linear layer has no bias. No normalisation follows it, so it needs "
        "one.",
        "no flatten": "the linear layer gets an average of the shape {got}, with two axes too "
        "many: nn.Flatten() belongs before it.",
        "no average": "your network takes some image sizes only. Average over rows and columns, so "
        "that {want} numbers are left whatever the size.",
        "maximum": "you take the maximum over all places. Here it is the average.",
        "shape": "for images {images} your logits have the shape {got}, and I expected {want}.",
        "softmax": "you return probabilities. The loss wants logits.",
        "other": "with the weights of models.ResNet yours gives other logits. Is there a layer "
        "twice, a padding missing, or a ReLU too many?",
    },
    "deeper.5": {
        "right": "statistics and scales stay, all else learns. medlab.fit leaves alone what is in "
        "evaluation mode.",
        "nothing": "no layer has changed. Go through model.modules(), and look for BatchNorm.",
        "no eval": "the scales no longer learn, but the layers are in training mode: they still "
        "take each batch's statistics, and remember them. `.eval()` stops that.",
        "no grad": "the statistics stay, but γ and β still learn: requires_grad_(False).",
        "all eval": "other layers are in evaluation mode too, {name} for one; with a Dropout that "
        "is another network. Call .eval() on the batch normalisation layers only.",
        "all grad": "{name} no longer learns. Only what batch normalisation learns is frozen.",
        "some": "{name} is not frozen. Normalisation sits inside blocks, and has other shapes: "
        "go through all of model.modules().",
        "some grad": "γ or β of {name} still learns, and that of others does not.",
        "changed": "{name} has other numbers than before. Freeze, and change nothing.",
    },
}


class Block(nn.Module):
    """ReLU(shortcut(x) + f(x)), in the names of the exercise."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            convolve = nn.Conv2d(inputs, outputs, 1, bias=False)
            every = nn.MaxPool2d(1, stride)  # as in models.ResNet, and for its reason
            self.shortcut = nn.Sequential(every, convolve, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        f = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (self.shortcut(x) + f).relu()


def material() -> type[nn.Module]:
    """The block that exercise 4 builds with, so that nobody needs exercise 3 for it."""
    return Block


def _random(*shapes: tuple[int, ...], seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


def _shape(answer: Any) -> tuple[int, ...]:
    near(answer, 0)  # says so if it holds anything but numbers
    return tuple(torch.as_tensor(answer).shape)


# ------------------------------------------------------------------------------------ 1


WAYS_BACK = (
    *("reversed", "squared", "no mask", "mask of h", "not transposed", "no shortcut"),
    *("always shortcut", "forward", "all masked", "mask late", "mask of input", "times relu"),
    *("walked", "walked/list", "walked/z", "walked/w", "norms of h", "not transposed/late"),
)


def _norms(weights: list[Tensor], x: Tensor, y_bar: Tensor, residual: bool, fault="") -> list:
    shortcut = (residual or fault == "always shortcut") and fault != "no shortcut"
    h, states, sizes = x, [], [x.norm()]
    for w in weights:
        z, before = w @ h, h
        h = h * (residual and fault != "forward") + z.relu()
        states.append((z, h, before))
        sizes.append(h.norm())
    if fault == "norms of h":
        return sizes
    order = weights if fault in ("walked", "walked/list", "walked/w") else weights[::-1]
    kept = states if fault in ("walked", "walked/list", "walked/z") else states[::-1]
    norms = [y_bar.norm()]
    for w, (z, h, before) in zip(order, kept, strict=True):
        mask = {"mask of h": h, "mask of input": before}.get(fault, z) > 0
        slope = z.relu() if fault == "times relu" else mask
        late = fault in ("mask late", "not transposed/late")  # the second: J for J transposed
        z_bar = y_bar if late or fault == "no mask" else y_bar * slope
        around = z_bar if fault == "all masked" else y_bar
        through = (w if fault.startswith("not transposed") else w.T) @ z_bar
        y_bar = (through * mask if late else through) + around * shortcut
        norms.append(y_bar.norm())
    ordered = norms if fault in ("reversed", "walked/list") else norms[::-1]
    return [n**2 if fault == "squared" else n for n in ordered]


def _is_vector(value: Any) -> bool:
    return isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0


@exercise("deeper.1", MESSAGES["deeper.1"])
def send_back(answer) -> Verdict:
    for n, layers, residual in ((4, 3, False), (4, 3, True), (6, 5, True), (5, 1, False)):
        x, y_bar, *weights = _random((n,), (n,), *[(n, n)] * layers, seed=n + layers)
        want = torch.stack(_norms(weights, x, y_bar, residual))
        given = [w.clone() for w in weights], x.clone(), y_bar.clone()
        try:
            with torch.no_grad():
                got = call(answer, *given, residual)
        except Wrong as fault:
            if "require grad" in str(fault.values.get("error", "")):
                raise Wrong("autograd") from fault
            raise
        try:
            got = [float(v) for v in got]
        except (TypeError, ValueError, RuntimeError):
            if isinstance(got, list | tuple) and any(v is ... for v in got):
                raise NotAttempted from None
            several = isinstance(got, list | tuple) or getattr(got, "ndim", 0) > 1
            if several and any(map(_is_vector, got)):
                raise Wrong("vectors") from None
            raise Wrong("length", got="no list of", layers=layers, want=layers + 1) from None
        if near(got, want, absolute=1e-4):
            continue
        if len(got) != layers + 1:
            return "length", {"got": len(got), "layers": layers, "want": layers + 1}
        wrong = {
            fault: torch.stack(_norms(weights, x, y_bar, residual, fault)) for fault in WAYS_BACK
        }
        place = next(i for i, v in enumerate(got) if not near(v, want[i], absolute=1e-4))
        told = {"residual": residual, "place": place, "expected": want[place].item()}
        key = first_match(got, wrong, absolute=1e-4).partition("/")[0]  # one mistake, three forms
        return key, {**told, "got": got[place]}
    return "right"


# ------------------------------------------------------------------------------------ 2


class _Listening(TorchFunctionMode):
    """Remembers which of PyTorch's functions ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def _normalise(x, gamma, beta, mean, var, momentum, eps, *, fault: str = "", training=True):
    """y as asked for, or with a fault."""
    axes = {"per image": (2, 3), "one for all": (0, 1, 2, 3), "batch only": (0,)}
    over = axes.get(fault, (0, 2, 3))
    mu = x.mean((2, 3) if fault == "per image/mean" else over, keepdim=True)
    spread = x.var(over, correction=int(fault == "unbiased"), keepdim=True)
    if fault == "per image/var":
        spread = x.var((2, 3), correction=0, keepdim=True)
    old, old_spread = mean[:, None, None], var[:, None, None]
    if fault == "remembered" or (not training and fault != "eval batch"):
        mu, spread = old, old_spread
    elif fault in ("moved", "moved/biased"):
        batch = x.var((0, 2, 3), correction=int(fault == "moved"), keepdim=True)
        mu = (1 - momentum) * old + momentum * mu
        spread = (1 - momentum) * old_spread + momentum * batch
    scale = spread.sqrt() + eps if fault == "eps" else (spread + eps).sqrt()
    if fault in ("no root", "no eps"):
        scale = spread + eps if fault == "no root" else spread.sqrt()
    scaled = (x - mu) / scale
    if fault not in ("no affine", "no gamma"):
        scaled = gamma[:, None, None] * scaled
    return scaled if fault in ("no affine", "no beta") else scaled + beta[:, None, None]


IN_BOTH_MODES = "no root", "eps", "no eps", "no beta", "no gamma", "no affine"
IN_TRAINING = (
    *("per image", "per image/mean", "per image/var", "one for all", "batch only", "unbiased"),
    *("remembered", "moved", "moved/biased"),
)


@exercise("deeper.2", MESSAGES["deeper.2"])
def batch_norm(answer) -> Verdict:
    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((3, 4, 5, 2), {"momentum": 0.1, "eps": 0.3}),
        ((2, 3, 1, 4), {"momentum": 0.3, "eps": 1e-5}),
        ((4, 2, 3, 3), {}),  # the defaults
    ]
    for size, options in cases:
        channels = size[1]
        x, shift, gamma, beta, mean, var = _random(size, *[(channels,)] * 5, seed=channels)
        x, var = (3 * x + 5 * shift[:, None, None]) / 2, var.exp()
        for training in (True, False):
            layer = nn.BatchNorm2d(channels, **options).train(training)
            with torch.no_grad():
                for name, value in (("weight", gamma), ("bias", beta)):
                    getattr(layer, name).copy_(value)
                layer.running_mean.copy_(mean)  # type: ignore[union-attr]
                layer.running_var.copy_(var)  # type: ignore[union-attr]
                want = layer(x), layer.running_mean, layer.running_var
            inputs = (v.clone() for v in (x, gamma, beta, mean, var))
            try:
                with _Listening() as heard:
                    got = call(answer, *inputs, training=training, **options)
            except Wrong as fault:
                error = str(fault.values.get("error", ""))
                if "must match the size of tensor" in error or "broadcast" in error:
                    raise Wrong("broadcast", error=error.rstrip(".") + ".") from fault
                raise
            if any("batch_norm" in name for name in heard.names):
                return "library"
            if not isinstance(got, tuple | list) or len(got) != 3:
                told = type(got).__name__
                return "triple", {"got": f"{len(got)}" if isinstance(got, tuple | list) else told}
            if any(part is ... for part in got):
                raise NotAttempted
            if any(part is None for part in got):
                raise Wrong("returned nothing")
            names = ("y", "the remembered mean", "the remembered variance")
            for name, part, right in zip(names, got, want, strict=True):
                if not near(part, right, absolute=1e-4):
                    if name != "y" and near(got[1], want[2]) and near(got[2], want[1]):
                        return "exchanged"
                    state = x, gamma, beta, mean, var, layer.momentum, layer.eps
                    return _fault(name, part, right, state, training)
    return "right"


def _fault(name: str, got: Any, right: Tensor, state: tuple, training: bool) -> Verdict:
    x, _, _, mean, var, momentum, eps = state
    old = {"the remembered mean": mean, "the remembered variance": var}.get(name)
    wrong: dict[str, Tensor] = {}
    if old is None:
        faults = (*IN_BOTH_MODES, *(IN_TRAINING if training else ("eval batch",)))
        wrong = {fault: _normalise(*state, fault=fault, training=training) for fault in faults}
    elif training:
        over, biased = (0, 2, 3), x.var((0, 2, 3), correction=0)
        new = x.mean(over) if old is mean else x.var(over)
        wrong = {
            "not updated": old,
            "momentum": momentum * old + (1 - momentum) * new,
            "replaced": new,
            "own momentum": 0.9 * old + 0.1 * new,
        }
        if old is var:
            images, n = len(x), x.numel() / len(var)
            given = {"biased": 1, "twice": (n / (n - 1)) ** 2}
            for counted, k in (("the number of images", images), ("that of one map", n / images)):
                given[f"n/{counted}"] = k / (k - 1)
            for key, factor in given.items():
                wrong[key] = (1 - momentum) * old + momentum * biased * factor
    elif _shape(got) == tuple(right.shape):
        return "eval updated", {"name": name}
    if _shape(got) != tuple(right.shape):
        return "shape", {"name": name, "got": _shape(got), "want": tuple(right.shape)}
    key, _, counted = first_match(got, wrong, absolute=1e-4).partition("/")
    flat, want = torch.as_tensor(got).double().flatten(), right.double().flatten()
    at = int((~torch.isclose(flat, want, rtol=1e-3, atol=1e-4)).nonzero()[0])
    mode = "in training" if training else "in evaluation"
    told = {"mode": mode, "name": name, "momentum": momentum, "eps": eps, "counted": counted}
    return key, {**told, "expected": want[at].item(), "got": flat[at].item()}


# ------------------------------------------------------------------------------------ 3


def _shake(model: nn.Module, seed: int = 0) -> None:
    """All weights and statistics drawn anew, so that no layer can be left out unnoticed."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=rng) / max(1, value[0].numel()) ** 0.5
            value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise)


def _parts(block: Any) -> dict[str, nn.Module]:
    names = ("conv1", "norm1", "conv2", "norm2", "shortcut")
    if any(getattr(block, name, None) is ... for name in names):
        raise NotAttempted
    parts = {}
    for name in names:
        part = getattr(block, name, None)
        if not isinstance(part, nn.Module):
            raise Wrong("names", name=name)
        parts[name] = part
    return parts


def _variants(block: Block, x: Tensor) -> dict[str, Tensor]:
    """What a block gives that is wired wrongly."""
    first = block.norm1(block.conv1(x))
    f = block.norm2(block.conv2(first.relu()))
    way = block.shortcut(x)
    variants = {
        "no sum": f.relu(),
        "relu first": way + f.relu(),
        "no last relu": way + f,
        "no first relu": (way + block.norm2(block.conv2(first))).relu(),
        "no second norm": (way + block.conv2(first.relu())).relu(),
        "second norm last": block.norm2(way + block.conv2(first.relu())).relu(),
    }
    if first.shape == way.shape:
        variants["raw"] = (first + f).relu()
    return variants


@exercise("deeper.3", MESSAGES["deeper.3"])
def block(answer) -> Verdict:
    if not isinstance(answer, type) or not issubclass(answer, nn.Module):
        return "class", {"kind": type(answer).__name__}
    for inputs, outputs, stride in ((3, 3, 1), (3, 6, 2), (4, 2, 1), (2, 2, 2)):
        with torch.random.fork_rng(devices=[]):
            given = (inputs, outputs) if stride == 1 else (inputs, outputs, stride)
            made, right = call(answer, *given), Block(*given)
        told: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "stride": stride}
        parts = _parts(made)
        _shake(right.eval())
        for name in ("conv1", "conv2"):
            if getattr(parts[name], "bias", None) is not None:
                return "bias", {"name": name}
        if getattr(parts["conv2"], "stride", (1, 1)) != (1, 1):
            return "late stride"
        layers = _layers(parts["shortcut"])
        convolutions = [part for part in layers if isinstance(part, nn.Conv2d)]
        if isinstance(right.shortcut, nn.Identity):
            if layers:
                return "not identity"
        elif not convolutions:
            return "no projection", told
        elif convolutions[0].kernel_size != (1, 1):
            return "kernel", {"got": "×".join(map(str, convolutions[0].kernel_size))}
        elif convolutions[0].bias is not None:
            return "bias", {"name": "the shortcut's convolution"}
        elif not any(isinstance(part, nn.BatchNorm2d) for part in layers):
            return "no norm"
        try:
            for name in ("conv1", "norm1", "conv2", "norm2"):
                parts[name].load_state_dict(getattr(right, name).state_dict())
            for part, like in zip(layers, _layers(right.shortcut), strict=True):
                part.load_state_dict(like.state_dict())
        except (RuntimeError, ValueError):
            return "channels"
        (x,) = _random((2, inputs, 7, 10), seed=outputs)
        want = right(x)
        try:
            got = call(made.eval(), x.clone())
        except Wrong as fault:
            if sizes := _misfit(parts, right, x):
                raise Wrong("size", **told, **sizes) from fault
            raise
        if near(got, want, absolute=1e-4):
            continue
        if _shape(got) != tuple(want.shape):
            whole = _sizes("the block", x, got, want)
            return "size", {**told, **(_misfit(parts, right, x) or whole)}
        key = first_match(got, _variants(right, x), absolute=1e-4)
        return "no second norm" if key == "second norm last" else key
    return "right"


def _sizes(name: str, *maps: Any) -> dict[str, str]:
    sides = ("×".join(map(str, _shape(v)[2:])) for v in maps)
    return {"name": name, **dict(zip(("image", "got", "want"), sides, strict=True))}


def _misfit(parts: dict[str, nn.Module], right: Block, x: Tensor) -> dict[str, str]:
    """The first part whose maps have another size than they should, and both sizes."""
    for name, given in (("conv1", x), ("conv2", right.conv1(x)), ("shortcut", x)):
        got, want = call(parts[name], given), getattr(right, name)(given)
        if _shape(got) != tuple(want.shape):
            return _sizes(name, given, got, want)
    return {}


def _layers(module: nn.Module) -> list[nn.Module]:
    """Those with weights of their own."""
    return [part for part in module.modules() if list(part.parameters(recurse=False))]


# ------------------------------------------------------------------------------------ 4


def _filled(model: nn.Module, state: list[Tensor]) -> bool:
    """Put tensors into a model in their order; False if they do not fit."""
    own = list(model.state_dict().values())
    if [v.shape for v in own] != [v.shape for v in state]:
        return False
    for value, given in zip(own, state, strict=True):
        value.copy_(given)
    return True


@exercise("deeper.4", MESSAGES["deeper.4"])
def resnet(answer) -> Verdict:
    for blocks, width, classes in (((2, 1, 3), 4, 3), ((1, 2), 3, 2), ((1,), 2, 5)):
        with torch.random.fork_rng(devices=[]):
            made = call(answer, blocks, width, classes)
            right = ResNet(1, classes, width, blocks)
        if not isinstance(made, nn.Module):
            return "module", {"kind": type(made).__name__}
        _shake(right.features[1:])
        _shake(right.classifier)
        row = list(made) if isinstance(made, nn.Sequential) else []
        if len({id(m) for m in row if hasattr(m, "conv1")}) < sum(hasattr(m, "conv1") for m in row):
            return "shared"
        features = width * 2 ** (len(blocks) - 1)
        if any(isinstance(p, UninitializedParameter) for p in made.parameters()):
            with torch.random.fork_rng(devices=[]):
                _logits(made.eval(), torch.zeros(3, 1, 8, 12), features)
        plan = [
            cast(nn.Conv2d, m.conv1)
            for m in made.modules()
            if hasattr(m, "conv1") and hasattr(m, "conv2")
        ]
        want = [
            (width * 2 ** (s - (s > 0 and not k)), width * 2**s, 2 if s and not k else 1)
            for s, count in enumerate(blocks)
            for k in range(count)
        ]
        got = [(layer.in_channels, layer.out_channels, layer.stride[0]) for layer in plan]
        widths = [(out, len(list(same))) for out, same in groupby(out for _, out, _ in got)]
        counts = tuple(count for _, count in widths)
        doubled = [out for out, _ in widths] == [width * 2**s for s in range(len(blocks))]
        if doubled and counts != blocks:
            return "stages", {"blocks": blocks, "got": counts}
        if len(got) != len(want):
            return "count", {"blocks": blocks, "got": len(got), "want": len(want)}
        ways, asked = ([f"{a}→{b}" for a, b, _ in each] for each in (got, want))
        if ways != asked:
            told = {"got": ", ".join(ways), "want": ", ".join(asked)}
            return "channels", {"blocks": blocks, "width": width, **told}
        strides, steps = ([stride for _, _, stride in each] for each in (got, want))
        if strides != steps:
            return _strides(strides, steps, blocks)
        state = [v for n, v in right.state_dict().items() if not n.startswith("features.0.")]
        if not _filled(made, state):
            own = [tuple(v.shape) for v in made.state_dict().values()]
            stem = [tuple(v.shape) for v in state[:6]]
            if own == [tuple(v.shape) for v in state[:-1]]:
                return "head bias"
            here = {"blocks": blocks, "width": width, "want": features, "classes": classes}
            return ("head", here) if own[:6] == stem else "stem"
        made.eval(), right.eval()
        verdict = _compare(made, right, features, classes)
        if verdict != "right":
            return verdict
    return "right", {"layers": 2 * sum((2, 1, 3)) + 2}


def _strides(got: list[int], want: list[int], blocks: tuple[int, ...]) -> Verdict:
    if set(got) == {1}:
        return "no stride"
    if got[0] == 2 and got[1:] == want[1:]:
        return "first stride"
    every = [2 if stage else 1 for stage, count in enumerate(blocks) for _ in range(count)]
    if got in (every, [2] * len(got)):
        return "every stride"
    return "strides", {"got": got, "want": want}


def _logits(made: nn.Module, x: Tensor, features: int) -> Any:
    """What a network gives; where it stops, or shrinks the image at once, `Wrong` says why."""
    seen: dict[str, tuple[int, ...]] = {}

    def look(module, inputs):
        name = "linear" if isinstance(module, nn.Linear) else "block"
        if inputs:
            seen.setdefault(name, tuple(inputs[0].shape))

    kinds = [m for m in made.modules() if hasattr(m, "conv1") or isinstance(m, nn.Linear)]
    hooks = [module.register_forward_pre_hook(look) for module in kinds]
    got, failure = None, None
    try:
        got = call(made, x.clone())
    except Wrong as error:
        failure = error
    finally:
        for hook in hooks:
            hook.remove()
    if seen.get("block", x.shape)[2:] != tuple(x.shape[2:]):
        sides = ("×".join(map(str, v[2:])) for v in (seen["block"], x.shape))
        raise Wrong("stem size", got=next(sides), want=next(sides)) from failure
    if failure:
        pooled = seen.get("linear", ())
        if pooled[1:] == (features, 1, 1):
            raise Wrong("no flatten", got=pooled) from failure
        small = "too small" in str(failure.values.get("error", ""))
        if failure.key == "raised" and (len(pooled) == 4 or small or x.shape[2:] != (8, 12)):
            raise Wrong("no average", want=features) from failure
        raise failure
    return got


def _compare(made: nn.Module, right: ResNet, features: int, classes: int) -> Verdict:
    for size in ((8, 12), (16, 9)):
        (x,) = _random((3, 1, *size), seed=size[0])
        got = _logits(made, x, features)
        want = right(x)
        if near(got, want, absolute=1e-4):
            continue
        if _shape(got) != (3, classes):
            return "shape", {"images": tuple(x.shape), "got": _shape(got), "want": (3, classes)}
        maps = right.features(x)
        stem = right.features[2](right.features[1](right.features[0](x)))  # without its ReLU
        wrong = {
            "softmax": want.softmax(1),
            "maximum": right.classifier(maps.amax((2, 3))),
            "stem relu": right.classifier(right.features[4:](stem).mean((2, 3))),
        }
        return first_match(got, wrong, absolute=1e-4)
    return "right"


# ------------------------------------------------------------------------------------ 5


@exercise("deeper.5", MESSAGES["deeper.5"])
def freeze(answer) -> Verdict:
    with torch.random.fork_rng(devices=[]):
        head = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 2))
        # The model is not called; the last two normalise without a batch, and so stay as they are
        head.extend([nn.BatchNorm3d(2), nn.LayerNorm(2), nn.GroupNorm(1, 2)])
        model = nn.Sequential(ResNet(1, 3, 2, (1, 2)), head).train()
    _shake(model)  # numbers that a reset would change
    before = copy.deepcopy(model.state_dict())
    (result,) = call(lambda model: [answer(model)], model)
    if result is ...:
        raise NotAttempted
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            return "changed", {"name": name}
    layers = dict(model.named_modules())
    norms = {name: layer for name, layer in layers.items() if isinstance(layer, _BatchNorm)}
    others = {name: layer for name, layer in layers.items() if name not in norms}
    still = [name for name, layer in norms.items() if layer.training]
    learns = [
        name for name, layer in norms.items() if any(p.requires_grad for p in layer.parameters())
    ]
    if others_fixed := [
        f"{name}.{kind}"
        for name, layer in others.items()
        for kind, p in layer.named_parameters(recurse=False)
        if not p.requires_grad
    ]:
        return "all grad", {"name": others_fixed[0]}
    if others_eval := [name for name, layer in others.items() if name and not layer.training]:
        return "all eval", {"name": others_eval[-1]}
    if not model.training:
        return "all eval", {"name": "the model itself"}
    if len(still) == len(learns) == len(norms):
        return "nothing"
    if len(still) == len(norms):
        return "no eval"
    if still:
        return "some", {"name": still[-1]}
    if len(learns) == len(norms):
        return "no grad"
    return ("some grad", {"name": learns[0]}) if learns else "right"
