"""Checks of cnn, fed with right, untouched and typically wrong answers."""

import copy
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medlab import metrics
from medlab.exercises import check, material

# ------------------------------------------------------------------------------ 05.1


class Listed(nn.Module):
    def __init__(self, pixels, hidden, classes, modules=nn.ModuleList, **options):
        super().__init__()
        sides = [pixels, *hidden, classes]
        pairs = itertools.pairwise(sides)
        self.layers = modules(nn.Linear(a, b, **options) for a, b in pairs)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def stacked(pixels, hidden, classes, *, last=(), between=nn.ReLU, first=(nn.Flatten,)):
    layers, sides = [make() for make in first], [pixels, *hidden]
    for a, b in itertools.pairwise(sides):
        layers += [nn.Linear(a, b), between()]
    return nn.Sequential(*layers, nn.Linear(sides[-1], classes), *[make() for make in last])


class NoSuper(nn.Module):
    def __init__(self, pixels, hidden, classes):
        self.line = nn.Linear(pixels, classes)


class NoSuperList(nn.Module):
    def __init__(self, pixels, hidden, classes):
        self.layers = [nn.Linear(pixels, classes)]

    def forward(self, x):
        return self.layers[0](x)


class Half(nn.Module):
    def __init__(self, pixels, hidden, classes):
        super().__init__()
        self.line = nn.Linear(pixels, classes)

    def forward(self, x): ...


class Untouched(nn.Module):
    def __init__(self, pixels, hidden, classes): ...

    def forward(self, x): ...


def soft(*a):
    return stacked(*a, last=[lambda: nn.Softmax(1)])


def he(w):
    return math.sqrt(2 / w[0].numel())


SIMPLE = [
    ("cnn.1", Listed, "✓"),
    ("cnn.1", stacked, "✓"),
    ("cnn.1", Untouched, "○"),
    ("cnn.1", NoSuper, "super().__init__()"),
    ("cnn.1", NoSuperList, "super().__init__()"),
    ("cnn.1", Half, "returned None"),
    ("cnn.1", lambda p, h, c: stacked(p, [h[0], *h[1:]], c), "out of range (with hidden=[])"),
    ("cnn.1", lambda *a: lambda x: x, "got function"),
    ("cnn.1", lambda *a: Listed(*a, modules=list), "plain list, where nn.Module does not look"),
    ("cnn.1", lambda *a: Listed(*a, modules=lambda g: dict(enumerate(g))), "stopped with"),
    ("cnn.1", lambda *a: Listed(*a, bias=False), "have no bias"),
    ("cnn.1", lambda p, h, c: stacked(p, [9], c), "expected 205, for 20 pixels"),
    ("cnn.1", lambda p, h, c: stacked(p, h[::-1], c), "parameters are registered and I expected"),
    ("cnn.1", lambda *a: stacked(*a, first=[]), "x.flatten(1)"),
    ("cnn.1", lambda *a: stacked(*a, first=[lambda: nn.Flatten(0)]), "x.flatten(1)"),
    ("cnn.1", lambda *a: stacked(*a, between=nn.Identity), "still a line"),
    ("cnn.1", lambda *a: stacked(*a, last=[nn.ReLU]), "none is ever negative"),
    ("cnn.1", soft, "outputs sum to 1"),
    ("cnn.1", lambda *a: stacked(*a, between=nn.Tanh), "not what Linear, ReLU"),
    ("cnn.1", lambda *a: stacked(*a, last=[lambda: nn.Unflatten(1, (3, 1))]), "got (4, 3, 1)"),
    ("cnn.1", 3, "expected a function"),
    ("cnn.2", lambda w, order: w[:, order], "✓"),
    ("cnn.2", lambda w, order: nn.Parameter(w)[:, order], "✓"),
    ("cnn.2", lambda w, order: w.numpy()[:, order.numpy()], "✓"),
    ("cnn.2", lambda w, order: torch.stack([w[:, j] for j in order], 1), "✓"),
    ("cnn.2", lambda w, order: ..., "○"),
    ("cnn.2", lambda w, order: w[:, order.argsort()], "inverse permutation"),
    ("cnn.2", lambda w, order: w, "these are the old weights"),
    ("cnn.2", lambda w, order: w[torch.arange(len(w)).roll(1)], "Pixels are the columns"),
    ("cnn.2", lambda w, order: w[:, order].T, "expected shape (5, 9)"),
    ("cnn.2", lambda w, order: w.copy_(w[:, order]), "changed the weights that I passed in"),
    ("cnn.2", lambda w, order: 2 * w[:, order], "outputs differ by up to"),
    ("cnn.2", lambda w, order: w[order], "stopped with IndexError"),
    ("cnn.2", lambda w, order: 3.0, "expected shape"),
    ("cnn.2", lambda w, order: None, "○"),
    ("cnn.3", he, "✓"),
    ("cnn.3", lambda w: torch.tensor(he(w)), "✓"),
    ("cnn.3", lambda w: np.float64(he(w)), "✓"),
    ("cnn.3", lambda w: nn.init.kaiming_normal_(torch.empty(400, *w.shape[1:])).std(), "expected"),
    ("cnn.3", lambda w: ..., "○"),
    ("cnn.3", lambda w: 2 / w[0].numel(), "the variance 2 / fan_in"),
    ("cnn.3", lambda w: 1 / math.sqrt(w[0].numel()), "factor 2 is missing"),
    ("cnn.3", lambda w: math.sqrt(2 / (w[0].numel() + w[:, 0].numel())), "Glorot"),
    ("cnn.3", lambda w: math.sqrt(2 / w[:, 0].numel()), "counted outputs"),
    ("cnn.3", lambda w: math.sqrt(2 / len(w)), "counted outputs"),
    ("cnn.3", lambda w: math.sqrt(2 / w.shape[1]), "counted the channels only"),
    ("cnn.3", lambda w: math.sqrt(2 / (w[0, 0].numel() if w.ndim > 2 else w.shape[1])), "all 8"),
    ("cnn.3", lambda w: math.sqrt(2 / w.numel()), "all weights of the layer"),
    ("cnn.3", lambda w: 1 / math.sqrt(3 * w[0].numel()), "PyTorch's default"),
    ("cnn.3", lambda w: w.std(), "you measured"),
    ("cnn.3", lambda w: w.numpy().std(), "you measured"),
    ("cnn.3", lambda w: 0.2, "shape (16, 8, 3, 3) I expected 0.1667 and got 0.2"),
    ("cnn.3", lambda w: w, "expected a number"),
    ("cnn.3", 0.2, "expected a function"),
]


@pytest.mark.parametrize(("id", "answer", "reply"), SIMPLE)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said[0] == (reply if reply in "✓○" else "✗")


# ------------------------------------------------------------------------------ the bug hunt


class Net(nn.Module):
    """The script's network, its faults switched on and off."""

    def __init__(self, size, channels=1, classes=2, *, lib=F, flat="computed", padding=0):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 8, 3), nn.Conv2d(8, 16, 3)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(16)
        self.drop = nn.Dropout(0.5)
        if padding:
            self.conv1.padding = self.conv2.padding = (1, 1)
        side = size // 4 if padding else ((size - 2) // 2 - 2) // 2
        fixed = {"as found": 16 * 8 * 8, "for 32": 16 * 6 * 6}
        numbers = flat(size) if callable(flat) else fixed.get(flat, 16 * side**2)
        self.fc1 = nn.Linear(numbers, 32)
        if flat == "lazy":
            self.fc1 = nn.LazyLinear(32)
        self.fc2 = nn.Linear(32, classes)
        self.lib, self.flat = lib, flat

    def forward(self, x):
        lib = self.lib or no_such_name  # noqa: F821
        x = lib.max_pool2d(lib.relu(self.norm1(self.conv1(x))), 2)
        x = lib.max_pool2d(lib.relu(self.norm2(self.conv2(x))), 2)
        x = x.reshape(-1, 16 * 8 * 8) if self.flat == "reshape" else x.flatten(1)
        fc1 = nn.Linear(x.shape[1], 32) if self.flat == "fresh" else self.fc1
        return self.fc2(F.relu(fc1(self.drop(x))))


class Reshaped(Net):
    def __init__(self, size, channels=1, classes=2):
        super().__init__(size, channels, classes, flat="reshape")
        self.fc1 = nn.Linear(1024, 32)


class AveragedAway(Net):
    def __init__(self, size, channels=1, classes=2):
        super().__init__(size, channels, classes, flat=lambda size: 16)

    def forward(self, x):
        x = F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return self.fc2(F.relu(self.fc1(x.mean((2, 3)))))


class NoRelu(Net):
    def forward(self, x):
        x = F.max_pool2d(self.norm1(self.conv1(x)), 2)
        x = F.max_pool2d(self.norm2(self.conv2(x)), 2)
        return self.fc2(self.fc1(x.flatten(1)))


class NoPool(Net):
    def forward(self, x):
        x = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())).relu()
        return self.fc2(self.fc1(x.flatten(1)))


def net(**options):
    return lambda size, channels=1, classes=2: Net(size, channels, classes, **options)


def epoch(loss, *, mode=None, zero=True, step=True):
    def train_epoch(model, optimiser, X, y):
        if mode is not None:
            model.train(mode)
        for batch in torch.randperm(len(X)).split(32):
            value = loss(model(X[batch]), y[batch])
            if zero:
                optimiser.zero_grad()
            value.backward()
            if step:
                optimiser.step()
        return value.item()

    return train_epoch


def train_epoch(model, optimiser, X, y):
    return epoch(lambda z, t: nn.CrossEntropyLoss()(z.softmax(1), t))(model, optimiser, X, y)


@torch.no_grad()
def evaluate(model, X):
    return model(X).softmax(1)[:, 1]


@torch.no_grad()
def evaluate_well(model, X):
    mode = model.training
    model.eval()
    scores = model(X).softmax(1)[:, 1]
    model.train(mode)
    return scores


@torch.no_grad()
def evaluate_and_stay(model, X):
    model.eval()
    return model(X).softmax(1)[:, 1]


def experiment(model, train, val, test, epochs):
    optimiser, best = torch.optim.Adam(model.parameters()), 0.0
    for _ in range(epochs):
        train_epoch(model, optimiser, *train)
        best = max(best, metrics.auc(test[1], evaluate(model, test[0])))
    return best


def experiment_handing_back(model, *parts):
    report = experiment_with_modes(model, *parts)
    model.train()
    return report


def experiment_with_modes(model, train, val, test, epochs):
    optimiser, rows = torch.optim.Adam(model.parameters()), []
    for _ in range(epochs):
        model.train()
        train_epoch(model, optimiser, *train)
        model.eval()
        rows.append([metrics.auc(part[1], evaluate(model, part[0])) for part in (val, test)])
    return max(rows)[1]


SCRIPT = [net(lib=None, flat="as found"), train_epoch, evaluate, experiment]


def script(**parts):
    names = ("net", "train_epoch", "evaluate", "experiment")
    return [parts.get(name, old) for name, old in zip(names, SCRIPT, strict=True)]


def say(id, culprit, capsys, **parts):
    """What the check says; `culprit` names a part of the script, or is what the learner passed."""
    parts = script(**parts)
    names = ("net", "train_epoch", "evaluate", "experiment")
    if isinstance(culprit, str) and culprit in names:
        culprit = parts[names.index(culprit)]
    check(id, culprit, script=parts)
    return capsys.readouterr().out


@pytest.mark.parametrize("id", ["cnn.4", "cnn.5", "cnn.6", "cnn.7", "cnn.8"])
def test_untouched_wrong_typed_and_innocent(id, capsys):
    assert say(id, ..., capsys).startswith(f"○ {id} not attempted")
    accused = {
        "nobody": "type str",
        3: "type int",
        nn.Flatten(): "type Flatten",
        nn.Dropout: "Drop",
    }
    for wrong, told in (accused | {Net.forward: "Net.forward"}).items():
        said = say(id, wrong, capsys)
        assert "the part that you mended, without quotes" in said and told in said, said
    assert "an older Net than the one that stands now" in say(id, Net, capsys)
    innocent = "experiment" if id != "cnn.8" else "evaluate"
    assert f"{innocent} is innocent" in say(id, innocent, capsys)
    right = {"cnn.6": "train_epoch", "cnn.7": "evaluate", "cnn.8": "experiment"}.get(id, "net")
    assert say(id, right, capsys).startswith("✗"), "the script as it was found"


def raises(*_args, **_options):
    raise KeyError("oops")


@pytest.mark.parametrize(
    ("id", "part"),
    [
        ("cnn.4", "net"),
        ("cnn.5", "net"),
        ("cnn.6", "train_epoch"),
        ("cnn.7", "evaluate"),
        ("cnn.8", "experiment"),
    ],
)
def test_a_part_that_raises_is_told(id, part, capsys):
    assert "stopped with KeyError: 'oops'" in say(id, part, capsys, **{part: raises})


@pytest.mark.parametrize(
    ("part", "reply"),
    [
        (net(flat="as found"), "✓"),
        (net(), "✓"),
        (Net, "✓"),
        (net(flat="lazy"), "✓"),
        (net(flat="as found", padding=1), "✓"),
        (net(lib=None, flat="as found"), "NameError: name 'no_such_name' is not defined"),
        (net(lib=nn, flat="as found"), "live in torch.nn.functional"),
        (net(lib=SimpleNamespace(relu=nn.ReLU, max_pool2d=nn.MaxPool2d)), "nn.ReLU()(x)"),
        (net(lib=SimpleNamespace(relu=F.relu, max_pool2d=F.max_pool3d)), "What did you change"),
        (NoRelu, "removed the ReLU"),
        (NoPool, "nothing is pooled any more: 12544"),
        (lambda *a: "net", "object of type str"),
    ],
)
def test_the_missing_import(part, reply, capsys):
    said = say("cnn.4", "net", capsys, net=part)
    assert reply in said, said


@pytest.mark.parametrize(
    ("part", "reply"),
    [
        (Net, "whatever they are.\n"),
        (net(flat="lazy"), "whatever they are.\n"),
        (net(padding=1), "✓"),
        (AveragedAway, "Only 16 numbers an image are left"),
        (net(flat="as found"), "images of 32 pixels it still stops: RuntimeError"),
        (net(lib=None), "it still stops: NameError"),
        (net(flat="for 32"), "one fixed number by another"),
        (net(flat=lambda size: 16 * (size // 4 - 2) ** 2), "halves and rounds down"),
        (net(flat=lambda size: 16 * ((size - 6) // 4 + (size == 30)) ** 2), "33 pixels work, 30"),
        (net(flat=lambda size: 16 * ((size - 6) // 4) ** 2), "✓"),
        (net(flat="as found", padding=1), "32 pixels work, 28 pixels stop"),
        (Reshaped, "16 images went in and 9 rows came out"),
        (net(flat="fresh"), "never trained"),
        (
            lambda s, c, k: nn.Sequential(nn.Flatten(), nn.LazyLinear(2)),
            "expected (16, 3)",
        ),
        (lambda s, c, k: "net", "object of type str"),
    ],
)
def test_the_flatten_size(part, reply, capsys):
    said = say("cnn.5", "net", capsys, net=part)
    assert reply in said, said


class Logs(Net):
    def forward(self, x):
        return super().forward(x).log_softmax(1)


class Shares(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


@torch.no_grad()
def second_column(model, X):
    model.eval()
    return model(X)[:, 1]


def nll(p, y):
    return nn.NLLLoss()(p.log(), y)


@pytest.mark.parametrize(
    ("id", "culprit", "parts", "reply"),
    [
        ("cnn.6", "train_epoch", {"net": Logs, "train_epoch": epoch(nn.NLLLoss())}, "✓"),
        ("cnn.6", "train_epoch", {"net": Logs, "train_epoch": epoch(nn.CrossEntropyLoss())}, "✓"),
        ("cnn.6", "train_epoch", {"net": Shares, "train_epoch": epoch(nll)}, "✓"),
        (
            "cnn.6",
            "train_epoch",
            {"net": Shares, "train_epoch": epoch(nn.CrossEntropyLoss())},
            "softmax inside softmax",
        ),
        (
            "cnn.7",
            "evaluate",
            {"net": Shares, "evaluate": evaluate_well},
            "probabilities of class 1",
        ),
        (
            "cnn.7",
            "evaluate",
            {"net": Shares, "evaluate": second_column, "train_epoch": epoch(nll, mode=True)},
            "✓",
        ),
        (
            "cnn.7",
            "evaluate",
            {"net": Logs, "evaluate": evaluate_well, "train_epoch": epoch(nn.NLLLoss())},
            "✓",
        ),
    ],
)
def test_whoever_moved_the_softmax_into_the_network(id, culprit, parts, reply, capsys):
    said = say(id, culprit, capsys, **parts)
    assert reply in said, said


def log_softmax(z, y):
    return nn.NLLLoss()(z.log_softmax(1), y)


def binary(z, y):
    return F.binary_cross_entropy_with_logits(z, F.one_hot(y, z.shape[1]).float())


@pytest.mark.parametrize(
    ("part", "reply"),
    [
        (epoch(nn.CrossEntropyLoss()), "✓"),
        (epoch(nn.CrossEntropyLoss(), mode=True), "✓"),
        (epoch(log_softmax), "✓"),
        (epoch(lambda z, y: nn.NLLLoss()(z.softmax(1).log(), y)), "✓"),
        (epoch(lambda z, y: nn.CrossEntropyLoss()(z.log_softmax(1), y)), "✓"),
        (epoch(lambda z, y: nn.BCELoss()(z.softmax(1)[:, 1], y.float())), "✓"),
        (train_epoch, "softmax inside softmax"),
        (epoch(lambda z, y: nn.NLLLoss()(z.softmax(1), y)), "mean of −p"),
        (epoch(nn.NLLLoss()), "mean of −z"),
        (epoch(lambda z, y: nn.CrossEntropyLoss()(z.sigmoid(), y)), "exclude each other"),
        (epoch(binary), "exclude each other"),
        (epoch(nn.CrossEntropyLoss(reduction="sum")), "summed over the batch"),
        (epoch(nn.CrossEntropyLoss(), zero=False), "zero_grad() has been lost"),
        (epoch(nn.CrossEntropyLoss(), step=False), "weights did not change"),
        (epoch(nn.MultiMarginLoss()), "not that of cross-entropy"),
        (lambda *a: None, "○"),
    ],
)
def test_softmax_twice(part, reply, capsys):
    said = say("cnn.6", "train_epoch", capsys, train_epoch=part)
    assert reply in said, said


@torch.no_grad()
def only_dropout(model, X):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model(X).softmax(1)[:, 1]


@torch.no_grad()
def only_norm(model, X):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model(X).softmax(1)[:, 1]


def seeded(model, X):
    torch.manual_seed(0)
    return evaluate(model, X)


def class_zero(model, X):
    return 1 - evaluate_well(model, X)


WELL = epoch(nn.CrossEntropyLoss(), mode=True)


@pytest.mark.parametrize(
    ("culprit", "parts", "reply"),
    [
        ("evaluate", {"evaluate": evaluate_well}, "✓"),
        ("evaluate", {"evaluate": evaluate_and_stay, "train_epoch": WELL}, "✓"),
        ("train_epoch", {"evaluate": evaluate_and_stay, "train_epoch": WELL}, "✓"),
        ("experiment", {"experiment": experiment_with_modes}, "✓"),
        ("evaluate", {"experiment": experiment_with_modes}, "✓"),
        ("experiment", {"experiment": experiment_handing_back}, "back in training mode"),
        ("train_epoch", {"evaluate": class_zero, "train_epoch": WELL}, "train_epoch is innocent"),
        (
            "evaluate",
            {"evaluate": evaluate_and_stay, "experiment": experiment_with_modes},
            "✓",
        ),
        ("evaluate", {"evaluate": lambda model, X: evaluate_well(model, X).numpy()}, "✓"),
        ("evaluate", {"evaluate": evaluate_and_stay}, "nothing calls model.train() again"),
        ("evaluate", {}, "evaluate still gives different scores"),
        ("evaluate", {"evaluate": only_dropout}, "who else is in the batch"),
        ("evaluate", {"evaluate": only_norm}, "dropout still throws dice"),
        ("evaluate", {"evaluate": seeded}, "network with holes"),
        ("evaluate", {"evaluate": class_zero}, "in evaluation mode"),
        ("evaluate", {"evaluate": lambda model, X: evaluate_well(model, X)[:3]}, "one for each"),
        ("train_epoch", {"train_epoch": WELL}, "train_epoch is innocent"),
        ("net", {}, "net is innocent"),
    ],
)
def test_evaluation_mode(culprit, parts, reply, capsys):
    said = say("cnn.7", culprit, capsys, **parts)
    assert reply.lower() in said.lower(), said


def chooser(choose, *, rows=("val", "test"), keep=None):
    """An experiment that keeps all AUCs and lets `choose` report one of them."""

    def run(model, train, val, test, epochs):
        parts = {"train": train, "val": val, "test": test}
        optimiser, seen = torch.optim.Adam(model.parameters()), []
        for _ in range(epochs):
            train_epoch(model, optimiser, *train)
            seen.append({k: metrics.auc(p[1], evaluate(model, p[0])) for k, p in parts.items()})
        return choose(seen)

    return run


def keeps(copied):
    """An experiment that keeps the best weights and opens the test set once, at the end."""

    def run(model, train, val, test, epochs):
        optimiser, best, state = torch.optim.Adam(model.parameters()), 0.0, None
        for _ in range(epochs):
            train_epoch(model, optimiser, *train)
            score = metrics.auc(val[1], evaluate(model, val[0]))
            if score > best:
                best, state = score, copied(model.state_dict())
        model.load_state_dict(state)
        return metrics.auc(test[1], evaluate(model, test[0]))

    return run


def keeps_model(model, train, val, test, epochs):
    optimiser, best, kept = torch.optim.Adam(model.parameters()), 0.0, None
    for _ in range(epochs):
        train_epoch(model, optimiser, *train)
        score = metrics.auc(val[1], evaluate(model, val[0]))
        if score > best:
            best, kept = score, copy.deepcopy(model)
    return metrics.auc(test[1], evaluate(kept, test[0]))


def keeps_in_half_batches(model, train, val, test, epochs):
    """Two steps an epoch, and scores that carry a gradient."""
    optimiser, rows = torch.optim.Adam(model.parameters()), []
    for _ in range(epochs):
        for batch in torch.randperm(20).split(10):
            train_epoch(model, optimiser, train[0][batch], train[1][batch])
        scores = [metrics.auc(y, model(X).softmax(1)[:, 1].detach()) for X, y in (val, test)]
        rows.append(scores)
    return max(rows)[1]


def by_loss(model, train, val, test, epochs):
    optimiser, rows = torch.optim.Adam(model.parameters()), []
    for _ in range(epochs):
        train_epoch(model, optimiser, *train)
        p, y = evaluate(model, val[0]), val[1]
        loss = -torch.where(y == 1, p, 1 - p).log().mean().item()
        rows.append((loss, metrics.auc(test[1], evaluate(model, test[0]))))
    return min(rows)[1]


@pytest.mark.parametrize(
    ("part", "reply"),
    [
        (keeps(copy.deepcopy), "✓"),
        (keeps(lambda state: {k: v.clone() for k, v in state.items()}), "honest one now.\n"),
        (keeps_model, "✓"),
        (by_loss, "✓"),
        (keeps_in_half_batches, "✓"),
        (
            chooser(lambda rows: max(rows, key=lambda r: r["val"])["test"]),
            "opened the test set 5 times",
        ),
        (experiment_with_modes, "✓"),
        (keeps(lambda state: state), "hands out the tensors themselves"),
        (experiment, "must not see the test set"),
        (chooser(lambda rows: max(r["test"] for r in rows)), "must not see the test set"),
        (chooser(lambda rows: max(r["val"] for r in rows)), "A score that was used to choose"),
        (chooser(lambda rows: max(rows, key=lambda r: r["train"])["test"]), "over-fits most"),
        (chooser(lambda rows: rows[-1]["test"]), "AUC of the last epoch"),
        (chooser(lambda rows: min(rows, key=lambda r: r["val"])["test"]), "lowest validation AUC"),
        (chooser(lambda rows: sum(r["test"] for r in rows) / 5), "averaged over epochs"),
        (lambda *a: 0.7, "I expected 0.4 and got 0.700"),
        (lambda *a: 0.55, "got 0.550"),
        (chooser(lambda rows: rows), "expected a number"),
        (lambda *a: None, "○"),
    ],
)
def test_the_test_set_used_to_choose(part, reply, capsys):
    said = say("cnn.8", "experiment", capsys, experiment=part)
    assert reply in said, said


# Exercise → place of the part with its fault in the script, and the version that has it mended.
FAULTS = {"cnn.4": (0, 1), "cnn.5": (0, 2), "cnn.6": (1, 3), "cnn.7": (2, 4), "cnn.8": (3, 5)}


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("id", FAULTS)
def test_each_version_of_the_script_has_the_faults_left_that_it_should(id, version, capsys):
    script = list(material("cnn", version=version))
    place, mended = FAULTS[id]
    check(id, script[place], script=script)
    said = capsys.readouterr().out
    assert said.startswith("✓" if version >= mended else "✗"), said
