"""Checks of building a CNN."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medlab import metrics
from medlab.errors import MedlabError
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near, number

SCRIPT = ("Net", "train_epoch", "evaluate", "experiment")
CULPRIT = {
    "innocent": "{name} is innocent of this symptom. Read the message or the figure again: which "
    "part computes what looks wrong there?",
    "not in the script": "I expected one of {names}, the part that you mended, without quotes and "
    "without calling it; I got {kind}.",
    "older": "this is an older {name} than the one that stands now. Run `culprit = {name}` again.",
}
MESSAGES = {
    "cnn.1": {
        "right": "every layer is registered, so it is trained, saved and moved with the network. "
        "With hidden=[] it is the line itself.",
        "no super": "nn.Module keeps its books in dictionaries that super().__init__() makes. Call "
        "it first in __init__.",
        "not a module": "I built it and got {kind}. Let the class inherit from nn.Module.",
        "list": "your layers stand in a plain list, where nn.Module does not look: only {got} of "
        "{want} parameters are registered. Put them into nn.ModuleList or nn.Sequential.",
        "missing": "{got} parameters are registered and I expected {want}, for {pixels} pixels, "
        "hidden={hidden} and {classes} classes.",
        "no bias": "your layers have no bias. Leave nn.Linear's default on.",
        "flatten": "images arrive as (N, C, H, W). Flatten all axes but the first: x.flatten(1).",
        "shape": "for 4 images and 3 classes I expected logits of shape (4, 3), and got {got}.",
        "linear": "between its layers your network has no ReLU. A matrix times a matrix is one "
        "matrix: it is still a line, with more parameters.",
        "relu at the end": "the logits passed a ReLU: none is ever negative, and a network that is "
        "sure of class 0 cannot say so. The last layer stays bare.",
        "softmax": "your outputs sum to 1: there is a softmax at the end. Return the logits; the "
        "loss contains the softmax.",
        "other": "with hidden={hidden} the logits are not what Linear, ReLU, …, Linear give.",
    },
    "cnn.2": {
        "right": "the network on permuted pixels is the same network with its columns permuted.",
        "inverse": "you applied the inverse permutation. New pixel j is old pixel order[j], so new "
        "column j is old column order[j].",
        "unchanged": "these are the old weights. Each column belongs to a pixel and must follow "
        "it.",
        "rows": "you permuted rows, which are hidden units. Pixels are the columns of a matrix "
        "outputs × inputs.",
        "transposed": "I expected shape {want}, outputs × inputs, and got {got}.",
        "in place": "you changed the weights that I passed in. Return new ones.",
        "other": "with your weights the outputs differ by up to {error:.2g}.",
    },
    "cnn.3": {
        "right": "√(2 / fan_in), where fan_in is how many products each output adds up.",
        "variance": "that is the variance 2 / fan_in. I asked for its square root.",
        "xavier": "the factor 2 is missing: that is right without an activation, but ReLU halves "
        "E[x²].",
        "average": "you used the mean of inputs and outputs, as Glorot and Bengio do to please "
        "both directions. I asked for fan_in alone.",
        "fan out": "you counted outputs. Each output sums over its *inputs*: weight.shape[1].",
        "no kernel": "for a convolution each output sums over k² pixels of every channel; you "
        "counted the channels only.",
        "no channels": "you counted the k² pixels of one channel; each output sums over all "
        "{channels} channels.",
        "all": "you counted all weights of the layer. One output uses weight[0] only.",
        "default": "that is PyTorch's default, 1 / √(3 fan_in).",
        "measured": "you measured the weights I passed in. I asked what their standard deviation "
        "should be, which their shape alone decides.",
        "other": "for a weight of shape {shape} I expected {expected:.4f} and got {got:.4f}.",
    },
    "cnn.4": {
        **CULPRIT,
        "right": "it runs past that line. Python looks a name up when a line runs, not when it is "
        "written, so nothing complained until the first image came.",
        "still": "it still stops: {error}. Which name is it, and where would it come from?",
        "wrong module": "now {error}. The functions meant here, relu and max_pool2d, live in "
        "torch.nn.functional.",
        "layer": "now a convolution gets a layer instead of a tensor. nn.ReLU and nn.MaxPool2d "
        "are made first, then called: nn.ReLU()(x). The functions relu and max_pool2d live in "
        "torch.nn.functional.",
        "stopped": "now {error}. What did you change besides the name that was missing?",
        "no activation": "it runs on, but negative numbers reach the first linear layer: you "
        "removed the ReLU together with the error. Without it the network computes less.",
        "no pooling": "it runs on, but nothing is pooled any more: {got} numbers per image reach "
        "the first linear layer. Keep the lines and supply the missing name.",
    },
    "cnn.5": {
        **CULPRIT,
        "right": "the number follows from the size of the images, whatever they are.{note}",
        "still": "for images of {size} pixels it still stops: {error}.",
        "hard-coded": "{first} pixels work, {size} pixels stop with: {error}. You replaced one "
        "fixed number by another. Compute it from `size`, or let the network find it "
        "(nn.LazyLinear, or pooling to a fixed size).",
        "formula": "{first} pixels work, {size} pixels stop with: {error}. Your number follows the "
        "size, but not at every size. Without padding a 3×3 convolution takes 2 off; a pooling "
        "halves and rounds down; and then both once more, in this order.",
        "batch": "16 images went in and {got} rows came out: a reshape to a fixed width mixed "
        "patients. The first axis must stay N: x.flatten(1).",
        "shape": "for 16 images and 3 classes I expected (16, 3), and got {got}.",
        "fresh layer": "two calls with the same images differ in evaluation mode: a layer is made "
        "anew in forward, so that it is never trained. Make it in __init__.",
    },
    "cnn.6": {
        **CULPRIT,
        "right": "the floor is gone: on a network of mine the step is now the right one, to the "
        "last digit that counts.",
        "still": "the step is still that of softmax inside softmax. Who takes the exponentials, "
        "and how often?",
        "probabilities": "the step is that of the mean of −p: nn.NLLLoss wants log-probabilities "
        "and does not take the logarithm itself.",
        "logits": "the step is that of the mean of −z: nn.NLLLoss wants log-probabilities, and raw "
        "logits have no bound below. The loss would fall for ever.",
        "sigmoid": "the step is that of a sigmoid on each output. The classes exclude each other: "
        "use one softmax over them, inside nn.CrossEntropyLoss.",
        "sum": "the loss is summed over the batch. Then the step grows with the number of images; "
        "take the mean.",
        "accumulate": "old gradients are added to the new ones: zero_grad() has been lost.",
        "no step": "the weights did not change: is optimiser.step() still there?",
        "other": "on a small linear network the step is not that of cross-entropy on its logits.",
    },
    "cnn.7": {
        **CULPRIT,
        "right": "the same patient now gets the same score, whenever asked and in whatever "
        "company, and the training is unharmed.",
        "still": "asked twice about the same patients, {name} still gives different scores.",
        "company": "repeated calls agree, but a patient's score depends on who else is in the "
        "batch: batch normalisation still runs in training mode. model.eval() reaches every layer.",
        "chance": "batch normalisation rests, but dropout still throws dice. model.eval() reaches "
        "every layer.",
        "seeded": "the scores repeat because you seeded the dice, which are still thrown: each "
        "patient is judged by a network with holes. Switch dropout off.",
        "never back": "the scores are right, but nothing calls model.train() again: after the "
        "first evaluation the network trains without dropout and with frozen normalisation.",
        "handed back": "while it trains and scores, all is well; but then it hands the network "
        "back in training mode, and whoever asks next gets dice again. End in evaluation mode, or "
        "let evaluate see to it.",
        "other": "the scores are not the network's probabilities of class 1 in evaluation mode, "
        "one for each patient.",
    },
    "cnn.8": {
        **CULPRIT,
        "right": "the report is an honest one now.{note}",
        "best test": "I scripted a network whose test AUC peaks at {got:.1f}, and that is what you "
        "report. The choice must not see the test set.",
        "validation": "you chose by validation, and then report the validation AUC itself, "
        "{got:.1f}. A score that was used to choose flatters: report the test AUC of the chosen "
        "epoch.",
        "training": "you chose the epoch by its score on the training set, which prefers the one "
        "that over-fits most. Choose on validation.",
        "last": "that is the test AUC of the last epoch. If nothing is chosen any more, that is "
        "honest, but I asked for the best epoch. If you kept its weights: were they loaded again, "
        "and were they copied? state_dict() hands out the tensors themselves, which training goes "
        "on changing. Keep copy.deepcopy(model.state_dict()).",
        "worst": "you chose the epoch with the lowest validation AUC.",
        "mean": "you averaged over epochs. Report one: the epoch that validation chose.",
        "other": "with validation AUCs {val} and test AUCs {test} I expected {expected:.1f} and "
        "got {got:.3f}.",
    },
}


def _first(got, wrong: dict) -> str:
    return next((key for key, value in wrong.items() if near(got, value)), "other")


# ----------------------------------------------------------------------------- 05.1 to 05.3


@exercise("cnn.1", MESSAGES["cnn.1"])
def mlp(answer) -> Verdict:
    for pixels, hidden, classes in ((20, [7, 5], 3), (12, [], 3), (30, [8], 3)):
        if fault := _mlp_fault(answer, pixels, hidden, classes):
            return fault
    return "right"


def _mlp_fault(answer, pixels: int, hidden: list[int], classes: int) -> Verdict | None:
    try:
        model = call(answer, pixels, list(hidden), classes)
    except Wrong as wrong:
        if "__init__() call" in str(wrong.values.get("error", "")):
            return "no super"
        if wrong.key == "raised":
            wrong.values["error"] = f"{wrong.values['error']} (with hidden={hidden})"
        raise
    if not isinstance(model, nn.Module):
        return "not a module", {"kind": type(model).__name__}
    if "_modules" not in vars(model):
        return "no super"
    sides = [pixels, *hidden, classes]
    pairs = list(zip(sides[1:], sides[:-1], strict=True))
    weights, biases = sum(a * b for a, b in pairs), sum(sides[1:])
    images = torch.randn(4, 1, 2, pixels // 2, generator=torch.Generator().manual_seed(1))
    try:
        got = call(model, images)
    except Wrong as wrong:
        others = images.flatten(1), images[:1]  # flattened already; x.flatten() suits one image
        if wrong.key == "raised" and any(_works(model, x) for x in others):
            return "flatten"
        raise
    count = sum(p.numel() for p in model.parameters())
    told: dict[str, Any] = {"got": count, "want": weights + biases}
    told |= {"pixels": pixels, "hidden": hidden, "classes": classes}
    if count != weights + biases:
        if any(_hidden_modules(v) for k, v in vars(model).items() if k != "_modules"):
            return "list", told
        return ("no bias" if count == weights else "missing"), told
    if not torch.is_tensor(got) or tuple(got.shape) != (4, classes):
        return "shape", {"got": tuple(getattr(got, "shape", ()))}
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    if sorted(tuple(m.shape) for m in matrices) != sorted(pairs):
        return "missing", told
    x = images.flatten(1)
    for k, pair in enumerate(pairs):
        place = next(i for i, m in enumerate(matrices) if tuple(m.shape) == pair)
        z = x @ matrices.pop(place).T + vectors.pop(place)
        x = z.relu() if k < len(hidden) else z
    if near(got, x, absolute=1e-5):
        return None
    if near(got, x.relu(), absolute=1e-5):
        return "relu at the end"
    if near(got, x.softmax(1), absolute=1e-5):
        return "softmax"
    middle = model((images[:1] + images[1:2]) / 2)
    return ("linear" if near(middle, (got[:1] + got[1:2]) / 2, absolute=1e-5) else "other"), told


def _works(model: Callable, x: Tensor) -> bool:
    try:
        return torch.is_tensor(call(model, x))
    except Wrong:
        return False


def _hidden_modules(value) -> bool:
    values = value.values() if isinstance(value, dict) else value
    plain = isinstance(value, (list, tuple, dict, set))
    return plain and any(isinstance(v, nn.Module) for v in values)


@exercise("cnn.2", MESSAGES["cnn.2"])
def permute_weights(answer) -> Verdict:
    rng = torch.Generator().manual_seed(3)
    for outputs, pixels in ((5, 9), (8, 8)):
        weight = torch.randn(outputs, pixels, generator=rng)
        order = torch.randperm(pixels, generator=rng).roll(1)
        while torch.equal(order[order], torch.arange(pixels)):
            order = torch.randperm(pixels, generator=rng)
        given = weight.clone()
        got = call(answer, given, order.clone())
        if not torch.equal(given, weight):
            return "in place"
        if not near(torch.tensor(_shape(got)), torch.tensor(weight.shape)):
            return "transposed", {"want": tuple(weight.shape), "got": _shape(got)}
        if near(got, weight[:, order]):
            continue
        wrong = {"inverse": weight[:, order.argsort()], "unchanged": weight}
        if outputs == pixels:
            wrong |= {"rows": weight[order], "transposed": weight[:, order].T}
        elif near(torch.as_tensor(got).sum(0), weight.sum(0)):
            wrong |= {"rows": got}
        x = torch.randn(20, pixels, generator=rng)
        moved = torch.as_tensor(got).detach().to(x.dtype)
        error = (x[:, order] @ moved.T - x @ weight.T).abs().max().item()
        told = {"error": error, "want": tuple(weight.shape), "got": _shape(got)}
        return _first(got, wrong), told
    return "right"


def _shape(value) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


@exercise("cnn.3", MESSAGES["cnn.3"])
def he_std(answer) -> Verdict:
    rng = torch.Generator().manual_seed(0)
    for shape in ((30, 50), (16, 8, 3, 3), (6, 10, 5, 5)):
        weight = torch.randn(shape, generator=rng) * 0.123
        fan, area = weight[0].numel(), math.prod(shape[2:])
        out, expected = shape[0] * area, math.sqrt(2 / fan)
        got = number(call(answer, weight))
        if near(got, expected):
            continue
        wrong = {
            "variance": 2 / fan,
            "xavier": math.sqrt(1 / fan),
            "average": math.sqrt(2 / (fan + out)),
            "fan out": math.sqrt(2 / out),
            "no kernel": math.sqrt(2 / shape[1]),
            "no channels": math.sqrt(2 / area),
            "all": math.sqrt(2 / weight.numel()),
            "default": 1 / math.sqrt(3 * fan),
            "measured": weight.std().item(),
        }
        wrong |= {"fan out ": math.sqrt(2 / shape[0]), "measured ": weight.std(correction=0).item()}
        told = {"shape": shape, "expected": expected, "got": got, "channels": shape[1]}
        return _first(got, wrong).strip(), told
    return "right"


# ----------------------------------------------------------------------------- the bug hunt


def material(*, version: int) -> tuple[type[nn.Module], Callable, Callable, Callable]:
    """The colleague's script with its first `version` faults mended, 1 to 5: its four parts."""
    if version not in range(1, 6):
        raise MedlabError(f"the script has versions 1 to 5, and not {version!r}")
    net = _FixedNet if version == 1 else _Net
    modes = version >= 4
    train_epoch = _train_softmax if version < 3 else _train_in_mode if modes else _train
    evaluate = _evaluate_in_mode if modes else _evaluate

    def experiment(model, train, val, test, epochs):
        """Train, and return the AUC that the paper will report."""
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        best, reported = -1.0, 0.0
        for _ in range(epochs):
            train_epoch(model, optimiser, *train)
            X, y = test if version < 5 else val
            score = metrics.auc(y, evaluate(model, X))
            if score > best:
                best, reported = score, score
                if version == 5:
                    state = copy.deepcopy(model.state_dict())
        if version == 5:
            model.load_state_dict(state)
            reported = metrics.auc(test[1], evaluate(model, test[0]))
        return reported

    return net, train_epoch, evaluate, experiment


class _Net(nn.Module):
    def __init__(self, size, channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, kernel_size=3)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, kernel_size=3)
        self.norm2 = nn.BatchNorm2d(16)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(16 * self.side(size) ** 2, 32)
        self.fc2 = nn.Linear(32, classes)

    def side(self, size):
        return ((size - 2) // 2 - 2) // 2  # 3×3 without padding takes 2, pooling halves

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.norm1(self.conv1(x))), 2)
        x = functional.max_pool2d(functional.relu(self.norm2(self.conv2(x))), 2)
        x = functional.relu(self.fc1(self.drop(x.flatten(1))))
        return self.fc2(x)


class _FixedNet(_Net):
    def side(self, size):
        return 8


def _train(model, optimiser, X, y, head=nn.Identity()):  # noqa: B008
    for batch in torch.randperm(len(X)).split(32):
        loss = nn.CrossEntropyLoss()(head(model(X[batch])), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def _train_softmax(model, optimiser, X, y):
    return _train(model, optimiser, X, y, nn.Softmax(dim=1))


def _train_in_mode(model, optimiser, X, y):
    return _train(model.train(), optimiser, X, y)


@torch.no_grad()
def _evaluate(model, X):
    return model(X).softmax(dim=1)[:, 1]


def _evaluate_in_mode(model, X):
    return _evaluate(model.eval(), X)


# ------------------------------------------------------------------------------ its five faults


def _named(culprit, script, *expected: str) -> str:
    """Name of the part that a learner accuses, which has to stand in the script as it is now."""
    for name, part in zip(SCRIPT, script, strict=True):
        if culprit is part:
            if name not in expected:
                raise Wrong("innocent", name=name)
            return name
    called = getattr(culprit, "__qualname__", f"an object of type {type(culprit).__name__}")
    if called in SCRIPT:
        raise Wrong("older", name=called)
    raise Wrong("not in the script", names=", ".join(SCRIPT), kind=called)


def _net(culprit, size: int, channels: int, classes: int) -> nn.Module:
    model = call(culprit, size, channels, classes)
    if not isinstance(model, nn.Module):
        kind = f"a Net that makes an object of type {type(model).__name__}"
        raise Wrong("not in the script", names=", ".join(SCRIPT), kind=kind)
    return model.eval()


def _tail(culprit) -> nn.Module:
    """What the learner's Net ends in, so that whoever moved the softmax there is judged with it."""
    try:
        got = call(_net(culprit, 32, 1, 2), _pictures(32, 1))
    except (Wrong, NotAttempted):  # a Net that does not run is another exercise's business
        return nn.Identity()
    if _shape(got) != (16, 2):
        return nn.Identity()
    if near(got.exp().sum(1), torch.ones(16)):
        return nn.LogSoftmax(dim=1)
    return nn.Softmax(dim=1) if near(got.sum(1), torch.ones(16)) else nn.Identity()


def _pictures(size: int, channels: int) -> Tensor:
    return torch.rand(16, channels, size, size, generator=torch.Generator().manual_seed(0))


def _failure(model: nn.Module, size: int, channels: int) -> str:
    """What a forward pass stops with; "" if it does not."""
    try:
        call(model, _pictures(size, channels))
    except Wrong as wrong:
        if wrong.key != "raised":
            raise
        return f"{wrong.values['kind']}: {wrong.values['error']}"
    return ""


@exercise("cnn.4", MESSAGES["cnn.4"])
def missing_import(culprit, *, script) -> Verdict:
    _named(culprit, script, "Net")
    model = _net(culprit, 32, 1, 2)
    seen = _reaching_lines(model)
    error = _failure(model, 32, 1)
    if error.startswith("NameError") or (error and not seen):
        kinds = {"NameError": "still", "AttributeError": "wrong module"}
        other = "layer" if re.search(r"TypeError: conv2d.*(ReLU|MaxPool)", error) else "stopped"
        return kinds.get(error.split(":")[0], other), {"error": error}
    if seen and (seen[0] < 0).any():
        return "no activation"
    if seen and seen[0].shape[1:].numel() >= 2000:
        return "no pooling", {"got": seen[0].shape[1:].numel()}
    return "right"


@exercise("cnn.5", MESSAGES["cnn.5"])
def flatten_size(culprit, *, script) -> Verdict:
    _named(culprit, script, "Net")
    first = None
    for size, channels in ((32, 1), (28, 1), (48, 3), (33, 1), (30, 1), (31, 1)):
        model = _net(culprit, size, channels, 3)
        if error := _failure(model, size, channels):
            told = {"size": size, "error": error, "first": first}
            if first is None:
                return "still", told
            fixed = _widths(model) == _widths(_net(culprit, 3 * size, channels, 3))
            return ("hard-coded" if fixed else "formula"), told
        images = _pictures(size, channels)
        got, again = model(images), model(images)
        if not torch.is_tensor(got) or tuple(got.shape) != (16, 3):
            rows = len(got) if torch.is_tensor(got) and got.ndim else 16
            return ("batch", {"got": rows}) if rows != 16 else ("shape", {"got": _shape(got)})
        if not near(got, again, absolute=1e-5):
            return "fresh layer"
        first = size
        seen = _reaching_lines(model)
        model(images)
    left = seen[0].shape[1:].numel() if seen else 100
    few = f" (Only {left} numbers an image are left for the linear layers: that runs, but learns "
    few += "little. Pool less, or the next symptoms will be hard to see.)"
    return "right", {"note": few if left < 100 else ""}


def _reaching_lines(model: nn.Module) -> list[Tensor]:
    """A list that fills with what reaches the linear layers, in the order of the calls."""
    seen: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    return seen


def _widths(model: nn.Module) -> list[int]:
    return [m.in_features for m in model.modules() if isinstance(m, nn.Linear)]


@exercise("cnn.6", MESSAGES["cnn.6"])
def softmax_twice(culprit, *, script) -> Verdict:
    _named(culprit, script, "train_epoch")
    rng = torch.Generator().manual_seed(5)
    X, y = torch.randn(12, 1, 2, 3, generator=rng), torch.randint(0, 2, (12,), generator=rng)
    start = torch.randn(2, 6, generator=rng)  # two classes, so that a binary loss is right too

    def step(loss: Callable[[Tensor], Tensor]) -> Tensor:
        weight = start.clone().requires_grad_()
        return -torch.autograd.grad(loss(X.flatten(1) @ weight.T), weight)[0]

    line, tail = nn.Linear(6, 2, bias=False), _tail(script[0])
    model = nn.Sequential(nn.Flatten(), line, tail)
    line.weight.data.copy_(start)
    line.weight.grad = torch.ones(2, 6)
    call(culprit, model, torch.optim.SGD(model.parameters(), lr=1.0), X, y)
    got = line.weight.detach() - start
    right = step(lambda z: functional.cross_entropy(z, y))
    if near(got, right, absolute=1e-5):
        return "right"
    rows = torch.arange(12)
    once = functional.one_hot(y, 2).float()
    wrong = {
        "still": step(lambda z: functional.cross_entropy(z.softmax(1), y)),
        "probabilities": step(lambda z: -z.softmax(1)[rows, y].mean()),
        "logits": step(lambda z: -z[rows, y].mean()),
        "sigmoid": step(lambda z: functional.binary_cross_entropy_with_logits(z, once)),
        "sigmoid ": step(lambda z: functional.cross_entropy(z.sigmoid(), y)),
        "sum": 12 * right,
        "accumulate": right - 1,
        "no step": torch.zeros(2, 6),
    }
    return _first(got, wrong).strip()


@exercise("cnn.7", MESSAGES["cnn.7"])
def evaluation_mode(culprit, *, script) -> Verdict:
    name = _named(culprit, script, "evaluate", "train_epoch", "experiment")
    net, train_epoch, evaluate, experiment = script
    tail = _tail(net)
    model, X, y = _judge(tail)
    want = _probability(model.eval(), X)
    first, second = (call(evaluate, model.train(), X) for _ in range(2))
    if not near(first, want, absolute=1e-5):
        # Whoever sets the mode around the call, in `experiment`, has mended it too.
        quiet = call(evaluate, _judge(tail)[0].eval(), X)
        if near(quiet, want, absolute=1e-5) and _modes_hold(after := _trained(experiment, tail)):
            return "handed back" if after.training else "right"
        if name != "evaluate":
            return "innocent", {"name": name}
        return _why_not(evaluate, first, second, want, tail)
    call(train_epoch, model, torch.optim.SGD(model.parameters(), lr=1e-3), X, y)
    return "right" if model.seen[-1] or _modes_hold(_trained(experiment, tail)) else "never back"


class _Judge(nn.Module):
    """Dropout and batch normalisation; notes in which mode each forward pass ran."""

    def __init__(self, tail: nn.Module):
        super().__init__()
        self.norm, self.drop, self.line = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(36, 2)
        self.tail = tail
        self.seen: list[bool] = []
        self.graded: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.training)
        self.graded.append(torch.is_grad_enabled())
        return self.tail(self.line(self.drop(self.norm(x).flatten(1))))


def _probability(model: _Judge, X: Tensor) -> Tensor:
    """Of class 1, in the mode in which the model is, whatever it ends in."""
    with torch.no_grad():
        got = model(X)
        return (got if isinstance(model.tail, nn.Softmax) else got.softmax(1))[:, 1]


def _judge(tail: nn.Module) -> tuple[_Judge, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(2)
    model, X = _Judge(tail), torch.randn(12, 1, 6, 6, generator=rng)
    model.line.weight.data.copy_(torch.randn(2, 36, generator=rng))
    model.line.bias.data.zero_()
    model.norm.get_buffer("running_mean").fill_(0.4)
    model.norm.get_buffer("running_var").fill_(3.0)
    return model, X, torch.arange(12) % 2


def _trained(experiment: Callable, tail: nn.Module) -> _Judge:
    model, X, y = _judge(tail)
    call(experiment, model, (X, y), (X, y), (X, y), 3)
    return model


def _modes_hold(model: _Judge) -> bool:
    """Was it trained in training mode and scored in evaluation mode, epoch after epoch?"""
    return len(set(model.seen)) == 2 and model.seen == model.graded


def _why_not(evaluate, first, second, want, tail) -> Verdict:
    told = {"name": "evaluate"}
    if _shape(first) != _shape(want):
        return "other"
    if not near(first, second, absolute=1e-5):
        model, X, _ = _judge(tail)
        model.drop.p = 0.0
        rests = near(call(evaluate, model.train(), X), want, absolute=1e-5)
        return ("chance" if rests else "still"), told
    model, X, _ = _judge(tail)
    model.drop.p = 0.0
    if near(first, _probability(model.train(), X), absolute=1e-5):
        return "company"
    states = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            call(evaluate, model.train(), X)
            states.append(torch.get_rng_state())
    return "seeded" if torch.equal(*states) else "other"


# AUCs by epoch. What each wrong choice would report is a number of its own.
PLANS = (
    {
        "train": [0.5, 0.6, 0.8, 0.9, 0.7],
        "val": [0.5, 0.7, 0.9, 0.6, 0.8],
        "test": [0.6, 1.0, 0.7, 0.8, 0.3],
    },
    {
        "train": [0.9, 0.5, 0.8, 0.7, 0.6],
        "val": [0.6, 0.8, 0.7, 0.3, 0.5],
        "test": [0.9, 0.4, 1.0, 0.6, 0.2],
    },
)


@exercise("cnn.8", MESSAGES["cnn.8"])
def chosen_on_test(culprit, *, script) -> Verdict:
    _named(culprit, script, "experiment")
    tail = _tail(script[0])
    for auc in PLANS:
        model = _Puppet(auc, tail)
        got = number(call(culprit, model, *map(_scripted, range(3)), 5))
        val, test = auc["val"], auc["test"]
        expected = test[val.index(max(val))]
        if near(got, expected):
            continue
        wrong = {
            "best test": max(test),
            "validation": max(val),
            "training": test[auc["train"].index(max(auc["train"]))],
            "last": test[-1],
            "worst": test[val.index(min(val))],
            "mean": sum(test) / len(test),
        }
        return _first(got, wrong), {"val": val, "test": test, "expected": expected, "got": got}
    often = f" (You opened the test set {model.opened} times; once, at the end, is enough.)"
    return "right", {"note": often if model.opened > 1 else ""}


def _scripted(which: int) -> tuple[Tensor, Tensor]:
    """20 patients of training, validation or test; the picture says who it is and from where."""
    X = torch.zeros(20, 1, 16, 16)
    X[:, 0, 0, 0], X[:, 0, 0, 1] = which, torch.arange(20)
    return X, torch.arange(20) % 2


class _Puppet(nn.Module):
    """A network whose AUC on each set is written down beforehand, epoch by epoch.

    The sick score 0; m of the 10 healthy score −1 and the others +1, so that the AUC is m / 10. The
    epoch is a buffer: it is saved and loaded with the weights.
    """

    epoch: Tensor

    def __init__(self, auc: dict[str, list[float]], tail: nn.Module):
        super().__init__()
        self.tail = tail
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("epoch", torch.zeros(1))
        self.plan = torch.tensor([auc[name] for name in ("train", "val", "test")])
        self.opened = 0

    def forward(self, x: Tensor) -> Tensor:
        which, who = x[:, 0, 0, 0].long(), x[:, 0, 0, 1].long()
        if torch.is_grad_enabled():  # training meets its first patient once an epoch
            self.epoch += int(((which == 0) & (who == 0)).any())
        self.opened += int(((which == 2) & (who == 0)).any())
        now = int(self.epoch.clamp(1, self.plan.shape[1])) - 1
        below = (10 * self.plan[which, now]).round()
        score = torch.where(who % 2 == 1, 0.0, torch.where(who // 2 < below, -1.0, 1.0))
        logits = torch.stack([torch.zeros_like(score), score], 1)
        return self.tail(logits + 0 * self.weight)
