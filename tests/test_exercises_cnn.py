"""Checks of cnn, fed with right, untouched and typically wrong answers."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medlab.exercises import check
from medlab.exercises.cnn import MESSAGES
from medlab.models import SmallCNN, feature_maps
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------------ a colleague's class


class Grader(nn.Module):
    def __init__(self, pixels, classes, **how):
        super().__init__()
        hold = how.get("hold", nn.ModuleList)
        self.layers = hold([nn.Linear(pixels, 64), nn.Linear(64, how.get("second", 32))])
        self.offset = how.get("offset", nn.Parameter)(torch.zeros(how.get("shape", (classes,))))
        self.last = nn.Linear(how.get("second", 32), classes, bias=how.get("bias", False))
        self.act, self.flat = how.get("act", torch.relu), how.get("flat", 1)

    def forward(self, x):
        x = x.flatten(self.flat)
        for layer in self.layers:
            x = self.act(layer(x))
        return self.last(x) + self.offset


def grader(**how):
    return lambda pixels, classes: Grader(pixels, classes, **how)


class ByBias(nn.Sequential):
    """The offset is the last layer's own bias: the same numbers."""

    def __init__(self, pixels, classes):
        sizes = [pixels, 64, 32]
        layers = [nn.Flatten()]
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        super().__init__(*layers, nn.Linear(32, classes))


class Lazy(Grader):
    def __init__(self, pixels, classes):
        super().__init__(pixels, classes)
        self.last = nn.LazyLinear(classes, bias=False)


class AsFound(nn.Module):
    def __init__(self, pixels, classes):
        self.layers = [nn.Linear(pixels, 64), nn.Linear(64, 32)]
        self.offset = torch.zeros(classes)
        self.classes = classes

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x).relu()
        return nn.Linear(32, self.classes, bias=False)(x) + self.offset


class NoSuper(AsFound):
    def __init__(self, pixels, classes):
        self.layers = nn.ModuleList([nn.Linear(pixels, 64), nn.Linear(64, 32)])


class LateSuper(AsFound):
    def __init__(self, pixels, classes):
        self.last = nn.Linear(32, classes, bias=False)
        super(AsFound, self).__init__()


class Fresh(Grader):
    """The last layer is made anew in `forward`; another of its size is registered."""

    def forward(self, x):
        self.last.reset_parameters()
        return super().forward(x)


class InForward(Grader):
    def __init__(self, pixels, classes):
        super().__init__(pixels, classes)
        del self.last

    def forward(self, x):
        x = self.layers[1](self.layers[0](x.flatten(1)).relu()).relu()
        return nn.Linear(32, 3, bias=False)(x) + self.offset


class WithBuffer(Grader):
    def __init__(self, pixels, classes):
        super().__init__(pixels, classes)
        del self.offset
        self.register_buffer("offset", torch.zeros(classes))


class Unused(Grader):
    def forward(self, x):
        return super().forward(x) - self.offset


def frozen(p, **options):
    return nn.Parameter(p, requires_grad=False)


class Stub(nn.Module):
    def __init__(self, *sizes): ...

    def forward(self, x): ...


# ------------------------------------------------------------------------------ what it costs


def counts(size, channels, outputs, k):
    full = channels * size**2 * outputs * size**2
    return full, channels * k**2 * outputs * size**2, channels * k**2 * outputs


def but(place, change):
    """Three counts with one of them changed: change(size, channels, outputs, k, its value)."""

    def answer(*sizes):
        row = list(counts(*sizes))
        row[place] = change(*sizes, row[place])
        return row

    return answer


def border(size, channels, outputs, k, _):
    """Counted by convolving ones: how many pixels of the image each window holds."""
    hits = F.conv2d(torch.ones(1, 1, size, size), torch.ones(1, 1, k, k), padding=k // 2)
    return int(hits.sum()) * channels * outputs


# ------------------------------------------------------------------------------ the network


class Net(nn.Module):
    """Exercise 3, with a switch for each mistake."""

    def __init__(self, channels, classes, width, **how):
        super().__init__()
        w = width
        sides = how.get("sides", lambda c, w: [c, w, 2 * w, 2 * w, 4 * w, 4 * w])(channels, w)
        conv = {"kernel_size": 3, "padding": 1, "bias": False} | how.get("conv", {})
        hold, layers = how.get("hold", nn.Sequential), []
        for k, (a, b) in enumerate(itertools.pairwise(sides)):
            block = [nn.Conv2d(a, b, **conv), how.get("norm", nn.BatchNorm2d)(b), nn.ReLU()]
            if k in how.get("bare", ()):
                block[2] = nn.Identity()
            layers += [block[i] for i in how.get("order", (0, 1, 2))]
            layers += [how.get("pool", nn.MaxPool2d)(2)] if k in how.get("pools", (0, 2)) else []
        layers += how.get("more", [])
        self.features = hold(layers) if hold in (nn.ModuleList, list) else hold(*layers)
        self.last = nn.Linear(sides[-1] * how.get("places", 1), classes)
        self.how = how

    def forward(self, x):
        for layer in self.features:
            x = layer(x)
        head = self.how.get("head", lambda maps: maps.mean((2, 3)))
        return self.how.get("tail", lambda z: z)(self.last(head(x)))


def net(**how):
    return lambda channels, classes, width: Net(channels, classes, width, **how)


class Functional(nn.Module):
    """By names and functions, each layer under its own."""

    def __init__(self, channels, classes, width):
        super().__init__()
        sides = [channels, width, 2 * width, 2 * width, 4 * width, 4 * width]
        for k, (a, b) in enumerate(itertools.pairwise(sides)):
            setattr(self, f"conv{k}", nn.Conv2d(a, b, 3, padding="same", bias=False))
            setattr(self, f"norm{k}", nn.BatchNorm2d(b))
        self.line = nn.Linear(4 * width, classes)

    def forward(self, x):
        for k in range(5):
            x = F.relu(getattr(self, f"norm{k}")(getattr(self, f"conv{k}")(x)))
            x = F.max_pool2d(x, 2) if k in (0, 2) else x
        return self.line(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Anew(Net):
    def forward(self, x):
        return nn.Linear(3, 3).to(x)(x.mean((2, 3)).repeat(1, 3)[:, :3]) + super().forward(x)


# ------------------------------------------------------------------------------ looking at it


def hooked(
    *, take="output", remove=True, runs=1, cut=True, wrap=lambda x: x, say=lambda output: None
):
    def listen(model, layer, images):
        kept = []

        def hook(module, inputs, output):
            kept.append(inputs[0] if take == "input" else output)
            return say(output)

        handle = layer.register_forward_hook(hook)
        for _ in range(runs):
            result = model(images)
        if remove:
            handle.remove()
        found = result if take == "model" else kept[-1]
        return wrap(found.detach() if cut else found)

    return listen


def by_feature_maps(model, layer, images):
    name = next(name for name, module in model.named_modules() if module is layer)
    return feature_maps(model, images)[name]


def direct(model, layer, images):
    model(images)
    return layer(images.flatten(1)).detach()


def without_grad(model, layer, images):
    with torch.no_grad():
        return hooked(cut=False)(model, layer, images)


def rule(w):
    return math.sqrt(2 / w[0].numel())


def he(
    spread=rule,
    *,
    draw=lambda w, std: nn.init.normal_(w, std=std),
    kinds=(nn.Conv2d, nn.Linear),
    find=nn.Module.modules,
    bias=0.0,
    norm=None,
):
    def start(model):
        for layer in find(model):
            if isinstance(layer, kinds):
                draw(layer.weight, spread(layer.weight))
                if layer.bias is not None and bias is not None:
                    nn.init.constant_(layer.bias, bias)
            elif norm and isinstance(layer, nn.BatchNorm2d):
                nn.init.constant_(layer.weight, norm)
        return model

    return start


CASES = [
    ("cnn.1", Grader, "✓"),
    ("cnn.1", ByBias, "✓"),
    ("cnn.1", Lazy, "✓"),
    ("cnn.1", grader(hold=lambda layers: nn.Sequential(*layers)), "✓"),
    ("cnn.1", grader(shape=(1, 3)), "✓"),
    ("cnn.1", AsFound, "super().__init__() makes"),
    ("cnn.1", NoSuper, "super().__init__() makes"),
    ("cnn.1", LateSuper, "super().__init__() makes"),
    ("cnn.1", grader(hold=list), "stand in a plain list"),
    ("cnn.1", grader(hold=lambda layers: [layers]), "stopped with TypeError"),
    ("cnn.1", InForward, "made anew in forward"),
    ("cnn.1", Fresh, "made anew in forward"),
    ("cnn.1", grader(offset=lambda zeros: zeros), "still a plain tensor"),
    ("cnn.1", WithBuffer, "`offset` is a buffer now"),
    (
        "cnn.1",
        grader(offset=lambda zeros: nn.Parameter(zeros + 1)),
        "starts at 0 in the colleague's",
    ),
    (
        "cnn.1",
        grader(offset=lambda zeros: nn.Parameter(zeros / 0)),
        "starts at 0 in the colleague's",
    ),
    ("cnn.1", grader(offset=frozen), "does not ask for gradients"),
    ("cnn.1", grader(bias=True), "the same number twice"),
    ("cnn.1", Unused, "not added any more"),
    ("cnn.1", grader(second=30), "numbers are registered, and I expected"),
    ("cnn.1", grader(act=torch.tanh), "something else than before"),
    ("cnn.1", grader(act=lambda x: x), "something else than before"),
    ("cnn.1", lambda p, c: nn.Sequential(Grader(p, c), nn.Unflatten(1, (3, 1))), "(4, 3, 1)"),
    ("cnn.1", Grader(12, 3), "the class itself"),
    ("cnn.1", lambda p, c: torch.relu, "inherit from nn.Module"),
    ("cnn.2", counts, "✓"),
    ("cnn.2", lambda *a: list(counts(*a)), "✓"),
    ("cnn.2", lambda *a: np.array(counts(*a)), "✓"),
    ("cnn.2", lambda *a: torch.tensor(counts(*a)), "✓"),
    ("cnn.2", lambda *a: tuple(map(float, counts(*a))), "✓"),
    ("cnn.2", lambda *a: counts(*a)[::-1], "fully connected comes first"),
    ("cnn.2", lambda *a: counts(*a)[:2], "I expected three numbers"),
    ("cnn.2", lambda *a: "many", "I expected three numbers"),
    ("cnn.2", lambda *a: dict(enumerate(counts(*a))), "I expected three numbers"),
    ("cnn.2", but(0, lambda s, c, o, k, n: n + o * s**2), "fully connected: you counted biases"),
    ("cnn.2", but(1, lambda s, c, o, k, n: n + o * s**2), "local: you counted biases"),
    ("cnn.2", but(2, lambda s, c, o, k, n: n + o), "shared: you counted biases"),
    ("cnn.2", but(0, lambda s, c, o, k, n: c * s * o * s), "fully connected: an image of that"),
    ("cnn.2", but(1, lambda s, c, o, k, n: n // s), "local: an image of that size"),
    ("cnn.2", but(1, lambda s, c, o, k, n: n // k), "local: a window has k²"),
    ("cnn.2", but(2, lambda s, c, o, k, n: n // k), "shared: a window has k²"),
    ("cnn.2", lambda s, c, o, k: counts(s, 1, o, k), "fully connected: every output also sums"),
    ("cnn.2", lambda s, c, o, k: counts(s, c, 1, k), "fully connected: that is for one map"),
    ("cnn.2", but(1, border), "local: you left out the weights that meet"),
    ("cnn.2", but(1, lambda s, c, o, k, n: c * o * k**2), "local: that is the shared count"),
    ("cnn.2", but(0, lambda s, c, o, k, n: 2 * n), "I expected 8,388,608 and got 16,777,216"),
    ("cnn.3", Net, "✓"),
    ("cnn.3", net(hold=nn.ModuleList), "✓"),
    ("cnn.3", net(head=lambda maps: F.adaptive_avg_pool2d(maps, 1)[:, :, 0, 0]), "✓"),
    ("cnn.3", Functional, "✓"),
    ("cnn.3", SmallCNN, "✓"),
    ("cnn.3", Net(1, 2, 8), "the class itself"),
    ("cnn.3", lambda *a: nn.ReLU, "got a type"),
    ("cnn.3", NoSuper, "stopped with TypeError"),
    ("cnn.3", lambda c, k, w: NoSuper(c, k), "super().__init__() makes"),
    ("cnn.3", net(hold=list), "stand in a plain list"),
    ("cnn.3", Anew, "made anew in forward"),
    ("cnn.3", net(more=[nn.PReLU()]), "numbers are registered, and I expected"),
    ("cnn.3", net(norm=nn.Identity), "0 2-D batch normalisations at work, and the drawing has 5"),
    ("cnn.3", net(more=[nn.Conv2d(16, 16, 1)]), "I saw 6 2-D convolutions"),
    ("cnn.3", net(order=(1, 0, 2), sides=lambda c, w: [c] * 6), "convolution comes first"),
    ("cnn.3", net(sides=lambda c, w: [c, w, w, 2 * w, 2 * w, 4 * w]), "1 → 4 → 4 → 8 → 8 → 16"),
    ("cnn.3", net(conv={"kernel_size": 5, "padding": 2}), "should be 3×3"),
    ("cnn.3", net(conv={"stride": 2}, pools=()), "stride of 1"),
    ("cnn.3", net(conv={"padding": 0}, pools=(0,)), "the maps shrink"),
    ("cnn.3", net(conv={"bias": True}), "convolutions have biases"),
    ("cnn.3", net(places=64, head=lambda maps: maps.flatten(1)), "images of 40×36 pixels stop"),
    (
        "cnn.3",
        net(places=64, head=lambda maps: maps.view(-1, 16 * 64)),
        "images of 40×36 pixels stop",
    ),
    ("cnn.3", net(head=lambda maps: F.avg_pool2d(maps, 8).flatten(1)), "covers 8×8 places"),
    ("cnn.3", net(head=lambda maps: maps.mean((0, 2, 3))), "expected logits of shape (4, 3)"),
    ("cnn.3", net(bare=(0, 1, 2, 3, 4)), "there is no ReLU in it"),
    ("cnn.3", net(order=(0, 2, 1)), "ReLU comes last in a block"),
    ("cnn.3", net(bare=(3,)), "lacks its ReLU"),
    ("cnn.3", net(pools=()), "nothing is pooled"),
    ("cnn.3", net(pools=(0,)), "only one of the two poolings"),
    ("cnn.3", net(pools=(2,)), "only one of the two poolings"),
    ("cnn.3", net(pools=(0, 2, 4)), "a third pooling"),
    ("cnn.3", net(pool=nn.AvgPool2d), "the drawing by maxima"),
    ("cnn.3", net(head=lambda maps: maps.amax((2, 3))), "the largest value over all places"),
    ("cnn.3", net(head=lambda maps: maps.sum((2, 3))), "the sum over all places"),
    ("cnn.3", net(tail=lambda z: z.softmax(1)), "a softmax at the end"),
    ("cnn.3", net(tail=torch.relu), "The last layer stays bare"),
    ("cnn.3", net(tail=torch.tanh), "not those of the drawing"),
    ("cnn.3", net(more=[nn.Dropout(0.5)]), "✓"),
    ("cnn.4", lambda w, order: w[:, order], "✓"),
    ("cnn.4", lambda w, order: nn.Parameter(w)[:, order], "✓"),
    ("cnn.4", lambda w, order: w.numpy()[:, order.numpy()], "✓"),
    ("cnn.4", lambda w, order: torch.stack([w[:, j] for j in order], 1), "✓"),
    ("cnn.4", lambda w, order: [[float(row[j]) for j in order] for row in w], "✓"),
    ("cnn.4", lambda w, order: w[:, order.argsort()], "inverse permutation"),
    ("cnn.4", lambda w, order: w, "these are the old weights"),
    ("cnn.4", lambda w, order: w[torch.arange(len(w)).roll(1)], "Pixels are the columns"),
    ("cnn.4", lambda w, order: w[:, order].T, "expected shape (5, 9)"),
    ("cnn.4", lambda w, order: w.copy_(w[:, order]), "changed the weights that I passed in"),
    ("cnn.4", lambda w, order: 2 * w[:, order], "outputs differ by up to"),
    ("cnn.4", lambda w, order: w[order], "stopped with IndexError"),
    ("cnn.4", lambda w, order: "w", "and got str"),
    ("cnn.5", hooked(), "✓"),
    ("cnn.5", without_grad, "✓"),
    ("cnn.5", by_feature_maps, "✓"),
    ("cnn.5", hooked(wrap=lambda x: x.numpy()), "✓"),
    ("cnn.5", hooked(remove=False), "your hook is still there"),
    ("cnn.5", hooked(runs=2), "it ran 2 times"),
    ("cnn.5", hooked(say=lambda output: 2 * output), "the model now answers differently"),
    ("cnn.5", hooked(say=lambda output: output.detach()), "✓"),
    ("cnn.5", lambda model, layer, images: layer(images.flatten(1)), "it ran 0 times"),
    ("cnn.5", hooked(wrap=lambda x: [x]), "put out, and got a list with one"),
    ("cnn.5", hooked(wrap=lambda x: [x], cut=False), "put out, and got a list with one"),
    ("cnn.5", hooked(wrap=lambda x: x[:3]), "put out, and got shape (3, 6)"),
    ("cnn.5", hooked(wrap=lambda x: {"output": x}), "put out, and got dict"),
    ("cnn.5", hooked(cut=False), "its graph of gradients"),
    ("cnn.5", hooked(take="input"), "what went *into* the layer"),
    ("cnn.5", hooked(take="model"), "what the whole model returned"),
    ("cnn.5", direct, "the images to the layer itself"),
    ("cnn.5", hooked(wrap=lambda x: 2 * x), "not what the layer put out"),
    ("cnn.6", he(), "✓"),
    ("cnn.6", he(draw=lambda w, std: nn.init.uniform_(w, -(3**0.5) * std, 3**0.5 * std)), "✓"),
    ("cnn.6", he(draw=lambda w, std: nn.init.kaiming_normal_(w, nonlinearity="relu")), "✓"),
    ("cnn.6", he(draw=lambda w, std: nn.init.kaiming_uniform_(w, nonlinearity="relu")), "✓"),
    ("cnn.6", he(lambda w: 2 / w[0].numel()), "take the square root"),
    ("cnn.6", he(lambda w: math.sqrt(6 / w[0].numel())), "√3 times larger"),
    ("cnn.6", he(lambda w: 1 / math.sqrt(w[0].numel())), "factor 2 is missing"),
    ("cnn.6", he(lambda w: math.sqrt(2 / (w[0].numel() + w[:, 0].numel()))), "Glorot"),
    ("cnn.6", he(lambda w: math.sqrt(2 / w[:, 0].numel())), "counted outputs"),
    ("cnn.6", he(lambda w: math.sqrt(2 / len(w))), "counted outputs"),
    ("cnn.6", he(lambda w: math.sqrt(2 / w.shape[1])), "counted the channels only"),
    ("cnn.6", he(lambda w: math.sqrt(2 / w[0, 0].numel())), "one channel"),
    ("cnn.6", he(lambda w: math.sqrt(2 / w.numel())), "all weights of the layer"),
    ("cnn.6", lambda model: model, "Conv2d(16, 60, kernel_size=(3, 3), stride=(1, 1), bias=False)"),
    ("cnn.6", he(kinds=nn.Conv2d), "Linear(in_features=200"),
    ("cnn.6", he(find=nn.Module.children), "still PyTorch's weights"),
    ("cnn.6", he(draw=lambda w, std: nn.init.constant_(w, std)), "all its weights are equal"),
    ("cnn.6", he(draw=lambda w, std: nn.init.normal_(w, std, std)), "not 0."),
    ("cnn.6", he(lambda w: 0.4), "I expected a standard deviation of 0.1179 and got 0.4"),
    ("cnn.6", he(bias=0.1), "its bias is not 0"),
    ("cnn.6", he(bias=None), "its bias is not 0"),
    ("cnn.6", he(norm=0.5), "scale 1 and offset 0"),
    ("cnn.6", lambda model: list(model.parameters()), "model back, and got list"),
]
# Every output has the same fan-in
EQUIVALENT = [
    "cnn.3: return self.classifier(maps.mean(dim=(2, 3))) "
    "→ return self.classifier(maps.mean(dim=(3, 2)))",
    "cnn.6: fan_in = layer.weight[0].numel() → fan_in = layer.weight[1].numel()",
    "cnn.6: if isinstance(layer, (nn.Linear, nn.Conv2d)): "
    "→ if isinstance(layer, (nn.Conv2d, nn.Linear)):",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", [f"cnn.{k}" for k in range(2, 7) if k != 3])
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


@pytest.mark.parametrize("id", ["cnn.1", "cnn.3"])
def test_an_untouched_class_is_not_attempted(id, capsys):
    for untouched in (Stub, ...):
        check(id, untouched)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_a_changed_solution_is_not_ticked():
    assert ticked("08_building_a_cnn", "cnn") == EQUIVALENT
