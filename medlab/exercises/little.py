"""Checks of learning from few patients."""

from __future__ import annotations

import copy
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near

MESSAGES = {
    "little.1": {
        "right": "whole patients, half of them ill, each size inside the next, another choice with "
        "each generator.",
        "list": "I expected a list of positions for each of the {want} sizes; got {got}.",
        "positions": "for k={k} I expected positions of images, whole numbers from 0 to {most}; "
        "got {got}.",
        "twice": "for k={k} a position stands twice. Draw without replacement, and give each image "
        "of a drawn patient once.",
        "images": "for k={k} you drew {got} images. k counts patients, and a patient brings all of "
        "theirs.",
        "torn": "for k={k} some images of {patient} are in and some are not. A patient brings all "
        "of theirs.",
        "each": "for k={k} there are k patients of each class. Together they are k.",
        "count": "for k={k} there are {got} patients.",
        "balance": "for k={k} there are {ill} ill and {healthy} healthy patients, and half should "
        "be ill.",
        "nested": "the patients of k={less} are not all among those of k={k}. Draw one order, and "
        "take the first of it for every size.",
        "same": "two generators gave the same patients. Shuffle with `rng`.",
        "other rng": "the same generator state gave two choices. Draw from `rng` and nothing else.",
        "often": "patients with many images are drawn too often: in {share:.0%} of draws, where a "
        "fair draw takes them in {fair:.0%}. Shuffle patients, each named once.",
        "unfair": "{patient} is drawn in {share:.0%} of draws, where a fair draw takes each in "
        "{fair:.0%}. Shuffle all patients of a class.",
    },
    "little.2": {
        "right": "paired, and the two reasons for doubt kept apart.",
        "triple": "I expected three numbers, `return mean, draws, patients`; got {got}.",
        "mean": "the mean gain should be {expected:.4f}, and yours is {got:.4f}.",
        "sign": "your gain has the wrong sign: it is a − b.",
        "unpaired": "you took the spread of a and of b by themselves and added their squares. Both "
        "saw the same patients: subtract first, and what they share drops out.",
        "axes": "rows are draws of training patients, columns resamples of the test patients. You "
        "took them the other way round.",
        "all": "one spread over all R × B numbers mixes the two reasons. Average over one axis, "
        "then take the spread over the other.",
        "inside": "you took spreads within each row or column and averaged those. Average first: "
        "what remains is the other reason's.",
        "no root": "that is the spread of one draw. Your gain is a mean of R of them: for its "
        "standard error divide by √R.",
        "biased": "a spread of few draws is divided by R − 1, not R: ddof=1.",
        "root B": "do not divide the spread over test patients by √B: resamples are no new "
        "patients, and more of them do not make the test set larger.",
        "variance": "that is a variance: take its root.",
        "other": "the standard error over {what} should be {expected:.5f}, and yours is {got:.5f}.",
    },
    "little.3": {
        "right": "what is frozen stays as it is, what learns trains, and a layer thawed later "
        "trains again.",
        "nothing": "the model that was given is in evaluation mode as before. Start with "
        "model.train(), and change that model, not a copy.",
        "thawed": "layer {name} of the network tried here is frozen, and after your function in "
        "training mode: it would take each batch's statistics and remember them.",
        "all eval": "layer {name} of the network tried here learns, and after your function it is "
        "in evaluation mode.",
        "dropout": "layer {name} of the network tried here holds no weights, and you left it in "
        "evaluation mode. Only frozen normalisation goes there.",
        "stuck": "layer {name} of the network tried here was frozen, then set free, and stays in "
        "evaluation mode: start from model.train() each time.",
        "grad": "{name} has another requires_grad than before. Only modes change here.",
        "changed": "{name} has other numbers than before. Only modes change here.",
    },
    "little.4": {
        "right": "two speeds, both falling to 0, and the same weights as ours after {steps} steps.",
        "model": "I expected the model back, `return model`; got {kind}.",
        "still": "no weight has moved.",
        "head": "the head has not moved. Its name begins with `classifier.`",
        "body": "{name} has not moved: all but the head learns at lr / slower.",
        "exchanged": "you exchanged the two rates: the head is new and has the whole way to go.",
        "times": "you multiplied. The body is slower: lr / slower.",
        "one rate": "head and body learn at one rate. Two groups of weights, each with its `lr`.",
        "sum": "gradients of all steps pile up: `zero_grad` belongs in each.",
        "no fall": "the rates do not fall: the scheduler has a step of its own, in each step.",
        "slow fall": "the rates do not end at 0: LinearLR(descent, 1, 0, steps).",
        "eval": "the network learnt in evaluation mode: start with model.train().",
        "softmax": "`cross_entropy` takes logits: no softmax before it.",
        "plain": "that is another optimiser than AdamW as it comes.",
        "all images": "you took all images in each step. Draw 16 of them with `rng`.",
        "steps": "you made {got} steps, and {want} were asked for.",
        "batch": "your batches have {got} images, and I expected 16.",
        "other rng": "two runs from the same state gave two results: draw with `rng` alone.",
        "other": "after {steps} steps your weights differ from ours by up to {far:.1e}. One batch "
        "drawn a step, zero_grad, backward, descent.step(), fall.step().",
    },
    "little.5": {
        "right": "every layer keeps its numbers, in random places.",
        "model": "I expected a model like the one given; got {kind}.",
        "original": "{name} of the model that was given has changed. Shuffle a copy.",
        "still": "{name} is as it was.",
        "numbers": "{name} has other numbers. The same ones, in other places.",
        "rows": "in {name} whole rows have changed places: each kernel is still itself. Shuffle "
        "all numbers of a tensor.",
        "columns": "in {name} numbers have moved within their row only.",
        "buffers": "{name} is a memory, not a weight, and has changed.",
        "other rng": "two runs from the same state gave two results: draw with `rng` alone.",
        "same": "two states of `rng` gave the same result.",
    },
}

# ------------------------------------------------------------------------------------ 1


def draw(patients: np.ndarray, labels: Any, sizes: tuple[int, ...], rng: np.random.Generator):
    """Rows of all images of k patients, half of them ill, for each k; smaller sets inside larger.

    Args:
        patients: (N,) patient of each image.
        labels: (N,) 0 or 1, the same for all images of a patient.
        sizes: even numbers of patients.
        rng: of the draw.

    Returns:
        One int64 array of rows a size, in rising order.
    """
    labels = np.asarray(labels)
    ill, healthy = (rng.permutation(np.unique(patients[labels == c])) for c in (1, 0))
    chosen = (np.concatenate([ill[: k // 2], healthy[: k // 2]]) for k in sizes)
    return [np.flatnonzero(np.isin(patients, names)) for names in chosen]


def _people(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Names and labels of 24 patients, 14 of them ill; every third of either class has 6 images."""
    rng = np.random.default_rng(seed)
    names = rng.permutation([f"P{k:02d}" for k in rng.choice(100, 24, replace=False)])
    many = np.where(np.arange(24) % 3 == 0, 6, 1)
    who = rng.permutation(np.repeat(np.arange(24), many))
    return names[who], (who < 14).astype(np.int64)


def _rows(got: Any, k: int, count: int) -> np.ndarray:
    array = np.asarray(got.numpy() if torch.is_tensor(got) else got)
    if array.dtype == bool and array.shape == (count,):
        return np.flatnonzero(array)
    told = f"{array.dtype} of shape {array.shape}"
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise Wrong("positions", k=k, most=count - 1, got=told)
    if len(array) and (array.min() < 0 or array.max() >= count):
        raise Wrong("positions", k=k, most=count - 1, got=f"{array.min()} to {array.max()}")
    if len(np.unique(array)) < len(array):
        raise Wrong("twice", k=k)
    return np.sort(array)


def _drawn(answer: Any, people: tuple, sizes: tuple[int, ...], seed: int) -> list[np.ndarray]:
    patients, labels = people
    given = patients.copy(), labels.copy(), sizes
    got = call(answer, *given, np.random.default_rng(seed))
    if not isinstance(got, list | tuple) or len(got) != len(sizes):
        what = f"{len(got)} of them" if isinstance(got, list | tuple) else type(got).__name__
        raise Wrong("list", want=len(sizes), got=what)
    if any(part is ... for part in got):
        raise NotAttempted
    return [_rows(part, k, len(patients)) for part, k in zip(got, sizes, strict=True)]


def _whole(rows: np.ndarray, people: tuple, k: int) -> set[str]:
    """The patients drawn, if they are k, whole, and half of them ill."""
    patients, labels = people
    names = set(patients[rows].tolist())
    ill = len(set(patients[rows][labels[rows] == 1].tolist()))
    torn = sorted(names & set(np.delete(patients, rows).tolist()))
    if torn and len(rows) in (k, 2 * k):
        raise Wrong("images", k=k, got=len(rows))
    if torn:
        raise Wrong("torn", k=k, patient=torn[0])
    if (ill, len(names)) == (k, 2 * k):
        raise Wrong("each", k=k)
    if len(names) != k:
        raise Wrong("count", k=k, got=len(names))
    if ill != k // 2:
        raise Wrong("balance", k=k, ill=ill, healthy=k - ill)
    return names


@exercise("little.1", MESSAGES["little.1"])
def drawing(answer) -> Verdict:
    for seed, sizes in ((0, (4, 10, 14)), (1, (12, 6))):
        people = _people(seed)
        found = {
            k: _whole(rows, people, k)
            for k, rows in zip(sizes, _drawn(answer, people, sizes, seed), strict=True)
        }
        order = sorted(sizes)
        for less, k in pairwise(order):
            if not found[less] <= found[k]:
                return "nested", {"less": less, "k": k}
    patients, labels = people = _people(2)
    again = [_drawn(answer, people, (8,), seed)[0].tolist() for seed in (5, 5, 6, 7)]
    if again[0] != again[1]:
        return "other rng"
    if again[0] == again[2] == again[3]:
        return "same"
    return _fair(answer, patients, labels)


def _fair(answer: Any, patients: np.ndarray, labels: np.ndarray) -> Verdict:
    """Whether each patient of a class is drawn equally often."""
    draws, k = 400, 8
    sets = [
        np.unique(patients[_drawn(answer, (patients, labels), (k,), seed)[0]])
        for seed in range(draws)
    ]
    for c in (1, 0):
        names, images = np.unique(patients[labels == c], return_counts=True)
        share = np.array([sum(name in s for s in sets) for name in names]) / draws
        fair = k / 2 / len(names)
        many = images > 1
        if (excess := share[many].mean()) > fair + 0.08:
            return "often", {"share": excess, "fair": fair}
        # Five standard errors
        far = int(np.abs(share - fair).argmax())
        if abs(share[far] - fair) > 5 * (fair * (1 - fair) / draws) ** 0.5:
            return "unfair", {"patient": names[far], "share": share[far], "fair": fair}
    return "right"


# ------------------------------------------------------------------------------------ 2


def gain(a: Any, b: Any) -> tuple[float, float, float]:
    """Mean of a − b, and its standard errors for other training and other test patients.

    Args:
        a: (R, B) score of the network of draw r on resample b of the test patients.
        b: the same of another recipe, on the same draws and resamples; or 0.
    """
    d = np.asarray(a, float) - np.asarray(b, float)
    return d.mean(), d.mean(1).std(ddof=1) / len(d) ** 0.5, d.mean(0).std(ddof=1)


def _tables(draws: int, columns: int, seed: int, lift: float) -> tuple[np.ndarray, np.ndarray]:
    """Two tables that share a good deal of both spreads."""
    normal = np.random.default_rng(seed).standard_normal
    common = 0.04 * normal((draws, 1)) + 0.03 * normal((1, columns))
    a, b = (
        0.02 * normal((draws, 1)) + 0.01 * normal((1, columns)) + 0.004 * normal((draws, columns))
        for _ in range(2)
    )
    return 0.8 + lift + common + a, 0.8 + common + b


@exercise("little.2", MESSAGES["little.2"])
def gains(answer) -> Verdict:
    for draws, columns, lift in ((5, 60, 0.03), (4, 300, -0.05)):
        a, b = _tables(draws, columns, draws + 10, lift)
        got = call(answer, a.copy(), b.copy())
        if isinstance(got, list | tuple) and any(part is ... for part in got):
            raise NotAttempted
        if torch.is_tensor(got) or isinstance(got, np.ndarray):
            got = list(got) if got.ndim == 1 else got
        if not isinstance(got, list | tuple) or len(got) != 3:
            told = str(len(got)) if isinstance(got, list | tuple) else type(got).__name__
            return "triple", {"got": told}
        verdict = _gain_fault(got, a, b)
        if verdict != "right":
            return verdict
    return "right"


def _gain_fault(got: Any, a: np.ndarray, b: np.ndarray) -> Verdict:
    want, d = gain(a, b), a - b
    if not near(got[0], want[0], absolute=1e-6):
        if near(got[0], -want[0], absolute=1e-6):
            return "sign"
        near(got[0], 0)
        return "mean", {"expected": want[0], "got": float(np.mean(np.asarray(got[0], float)))}
    n, B = d.shape
    columns, rows = d.mean(0).std(ddof=1), d.mean(1).std(ddof=1)
    apart = [np.hypot(p, q) for p, q in zip(gain(a, 0)[1:], gain(b, 0)[1:], strict=True)]
    alone = np.hypot(a.mean(1).std(ddof=1), b.mean(1).std(ddof=1))
    inside = [d.std(axis, ddof=1).mean() for axis in (0, 1)]
    root = n**0.5
    draws = {
        "unpaired": [apart[0], alone],
        "axes": [columns, columns / root, columns / B**0.5],
        "all": [d.std(ddof=1), d.std(), d.std(ddof=1) / root],
        "inside": [
            v / divisor
            for v in (*inside, d.std(0).mean(), d.std(1).mean())
            for divisor in (1, root)
        ],
        "no root": [rows],
        "biased": [d.mean(1).std() / root, d.mean(1).std()],
        "variance": [rows**2, rows**2 / n, want[1] ** 2],
    }
    patients = {
        "unpaired": [apart[1]],
        "axes": [rows, want[1]],
        "all": [d.std(ddof=1), d.std()],
        "inside": [*inside, d.std(1).mean()],
        "root B": [columns / B**0.5, d.mean(0).std() / B**0.5],
        "variance": [columns**2],
    }
    # With B resamples, B and B − 1 are all the same
    for place, what, wrong, rel in (
        (1, "draws of training patients", draws, 1e-3),
        (2, "test patients", patients, 1e-2),
    ):
        if near(got[place], want[place], rel=rel, absolute=1e-7):
            continue
        each = {f"{key} {i}": v for key, values in wrong.items() for i, v in enumerate(values)}
        key = first_match(got[place], each, rel=1e-3, absolute=1e-7).rsplit(" ", 1)[0]
        value = float(np.mean(np.asarray(got[place], float)))
        return key, {"what": what, "expected": want[place], "got": value}
    return "right"


# ------------------------------------------------------------------------------------ 3


def training_mode(model: nn.Module) -> None:
    """Training mode, but for normalisation whose scale does not learn."""
    model.train()
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and not layer.weight.requires_grad:
            layer.eval()


def _network() -> nn.Sequential:
    """Nested, with three kinds of normalisation, one of each frozen."""
    with torch.random.fork_rng(devices=[]):
        block = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.2))
        body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), block)
        last = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        head = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
        others = nn.ModuleList([nn.BatchNorm1d(3), nn.BatchNorm3d(2), nn.BatchNorm3d(2)])
    for frozen in (body, others[0], others[1]):
        frozen.requires_grad_(False)
    cast(Tensor, body[1].running_mean).fill_(0.5)  # so that a reset shows
    return nn.Sequential(body, last, nn.Dropout(0.1), head, others)


@exercise("little.3", MESSAGES["little.3"])
def modes(answer) -> Verdict:
    model = _network().eval()
    _same_modes(answer, model, ())
    cast(nn.Sequential, model[0])[3].requires_grad_(True)
    _same_modes(answer, model, ("0.3.1",))
    model[1].requires_grad_(False)
    _same_modes(answer, model, ("0.3.1",))
    return "right"


def _same_modes(answer: Any, model: nn.Module, freed: tuple[str, ...]) -> None:
    """Run an answer on a model, and say what is not as it should be."""
    before = copy.deepcopy(model)
    (result,) = call(lambda model: [answer(model)], model)
    if result is ...:
        raise NotAttempted
    state, old = model.state_dict(), before.state_dict()
    for name in old:
        if not torch.equal(state[name], old[name]):
            raise Wrong("changed", name=name)
    learns = dict(before.named_parameters())
    for name, p in model.named_parameters():
        if p.requires_grad != learns[name].requires_grad:
            raise Wrong("grad", name=name)
    asked = copy.deepcopy(before)
    training_mode(asked)
    want = dict(asked.named_modules())
    # In other layers the mode changes nothing
    layers = {n: m for n, m in model.named_modules() if isinstance(m, _BatchNorm | nn.Dropout)}
    if not any(layer.training for layer in layers.values()):
        raise Wrong("nothing")
    for name, layer in layers.items():
        if layer.training == want[name].training:
            continue
        told = f"{name} ({type(layer).__name__})"
        if layer.training:
            raise Wrong("thawed", name=told)
        if name in freed:
            raise Wrong("stuck", name=told)
        raise Wrong("dropout" if isinstance(layer, nn.Dropout) else "all eval", name=told)


# ------------------------------------------------------------------------------------ 4


class _Small(nn.Module):
    """A body, a weight outside of it, and a head, in the names of SmallCNN."""

    def __init__(self, log: list) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            layers = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3)
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(4, 3)
        self.offset = nn.Parameter(torch.ones(4))
        self.log = log

    def forward(self, images: Tensor) -> Tensor:
        self.log.append(len(images))
        return self.classifier(self.features(images).mean((2, 3)) + self.offset)


def fine_tune(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    lr: float,
    slower: float,
    steps: int,
    rng: torch.Generator,
    fault: str = "",
) -> nn.Module:
    """Train with AdamW, the body slower than the head, both rates falling in a line to 0.

    Args:
        model: with a head `classifier`.
        images: float32 (N, C, H, W).
        labels: int64 (N,).
        lr: of the head at the first step.
        slower: factor by which all else learns more slowly.
        steps: each of 16 images, drawn with replacement.
        rng: of the draws.
        fault: a mistake to make.
    """
    rates = {"exchanged": (lr / slower, lr), "times": (lr, lr * slower), "one rate": (lr, lr)}
    head, body = rates.get(fault, (lr, lr / slower))
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if n.startswith("classifier.") == first], "lr": rate}
        for first, rate in ((True, head), (False, body))
    ]
    kind = torch.optim.Adam if fault == "plain" else torch.optim.AdamW
    descent = kind(groups)
    end = {"no fall": 1.0, "slow fall": 1 / 3}.get(fault, 0.0)
    fall = torch.optim.lr_scheduler.LinearLR(descent, 1, end, steps)
    model.train(fault != "eval")
    for _ in range(steps):
        batch = torch.randint(len(images), (16,), generator=rng)
        if fault == "all images":
            batch = torch.arange(len(images))
        logits = model(images[batch])
        loss = F.cross_entropy(logits.softmax(1) if fault == "softmax" else logits, labels[batch])
        if fault != "sum":
            descent.zero_grad()
        loss.backward()
        descent.step()
        fall.step()
    return model


FAULTS = "exchanged", "times", "one rate", "sum", "no fall", "slow fall", "eval", "softmax", "plain"


@exercise("little.4", MESSAGES["little.4"])
def tuning(answer) -> Verdict:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn((70, 1, 6, 7), generator=rng)
    labels = torch.randint(3, (70,), generator=rng)
    images += labels[:, None, None, None]
    for lr, slower, steps in ((0.02, 4, 7), (0.01, 10, 5)):

        def run(function, lr=lr, slower=slower, steps=steps, **how):
            log: list[int] = []
            draws = torch.Generator().manual_seed(steps)
            given = _Small(log).eval(), images.clone(), labels.clone()
            return function(*given, lr, slower, steps, draws, **how), log

        with torch.enable_grad():
            (got, log), (again, _) = (run(lambda *a: call(answer, *a)) for _ in range(2))
            right, _ = run(fine_tune)
            verdict = _tuned(got, again, right, log, run, steps)
        if verdict != "right":
            return verdict
    return "right", {"steps": steps}


def _state(model: nn.Module) -> list[Tensor]:
    return [v.detach().float() for v in model.state_dict().values()]


def _alike(model: nn.Module, other: nn.Module) -> bool:
    pairs = zip(_state(model), _state(other), strict=True)
    return all(torch.allclose(p, q, atol=1e-5) for p, q in pairs)


def _tuned(got: Any, again: Any, right: nn.Module, log: list, run: Any, steps: int) -> Verdict:
    if not isinstance(got, _Small):
        return "model", {"kind": type(got).__name__}
    if _alike(got, right):
        return "right"
    if not _alike(got, again):
        return "other rng"
    start = dict(_Small([]).named_parameters())
    stayed = [n for n, p in got.named_parameters() if torch.equal(p, start[n])]
    if len(stayed) == len(start):
        return "still"
    if any(name.startswith("classifier.") for name in stayed):
        return "head"
    if stayed:
        return "body", {"name": stayed[0]}
    if len(log) != steps:
        return "steps", {"got": len(log), "want": steps}
    if set(log) == {70}:
        return "all images"
    if set(log) != {16}:
        return "batch", {"got": max(log, key=lambda n: n != 16)}
    for fault in FAULTS:
        if _alike(got, run(fine_tune, fault=fault)[0]):
            return fault
    far = max((p - q).abs().max().item() for p, q in zip(_state(got), _state(right), strict=True))
    return "other", {"steps": steps, "far": far}


# ------------------------------------------------------------------------------------ 5


def shuffled(model: nn.Module, rng: torch.Generator) -> nn.Module:
    """A copy whose weights stand in random places, each within its own tensor."""
    model = copy.deepcopy(model)
    for p in model.parameters():
        p.data = p.data.flatten()[torch.randperm(p.numel(), generator=rng)].view_as(p)
    return model


@exercise("little.5", MESSAGES["little.5"])
def shuffling(answer) -> Verdict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        body = nn.Sequential(nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.Conv2d(9, 8, 3))
        model = nn.Sequential(body, nn.Linear(8, 10))
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.uniform_()
    before = copy.deepcopy(model.state_dict())
    made = [call(answer, model, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            return "original", {"name": name}
    for one in made:
        if not isinstance(one, nn.Module) or list(one.state_dict()) != list(before):
            return "model", {"kind": type(one).__name__}
    weights = dict(model.named_parameters())
    first, again, other = (one.state_dict() for one in made)
    for name, old in before.items():
        if name in weights:
            verdict = _places(first[name], old)
            if verdict != "right":
                return verdict, {"name": name}
        elif not torch.equal(first[name], old):
            return "buffers", {"name": name}
    if any(not torch.equal(first[name], again[name]) for name in weights):
        return "other rng"
    return "same" if all(torch.equal(first[n], other[n]) for n in weights) else "right"


def _places(new: Tensor, old: Tensor) -> str:
    """How the numbers of a tensor have moved."""
    if torch.equal(new, old):
        return "still"
    if new.shape != old.shape or not torch.equal(*(v.flatten().sort()[0] for v in (new, old))):
        return "numbers"
    if old.ndim < 2:
        return "right"
    rows, were = new.flatten(1), old.flatten(1)
    if torch.equal(rows.sort(1)[0], were.sort(1)[0]):
        return "columns"
    if {tuple(row) for row in rows.sort(1)[0].tolist()} == {
        tuple(row) for row in were.sort(1)[0].tolist()
    }:
        return "rows"
    return "right"


def material() -> SimpleNamespace:
    """Finished answers of the exercises, so that nobody needs their own for what follows."""
    own = draw, gain, training_mode, fine_tune, shuffled
    return SimpleNamespace(**{function.__name__: function for function in own})
