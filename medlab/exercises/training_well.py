"""Checks of training well, the six runs of its bug hunt and the runs that were resumed."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.errors import MedlabError
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number
from medlab.models import SmallCNN

BUGS = {
    "labels": "labels of other images",
    "mode": "no evaluation mode",
    "zero": "no zero_grad",
    "leak": "validation patients in training",
    "rate": "learning rate too high",
    "softmax": "softmax before the loss",
    "step": "no optimiser.step",
}
RUNS = dict(zip("ABCDEF", ("labels", "mode", "zero", "leak", "rate", "softmax"), strict=True))
ITEMS = {
    "optimiser": "the optimiser's m, v and t",
    "step": "the schedule's step",
    "draws": "the generator's state",
    "buffers": "the model's buffers",
}
RESUMED = dict(zip("ABCD", ("optimiser", "step", "draws", "buffers"), strict=True))
FORMAT = {
    "not listed": "{run}: choose one of {items}; I got {got!r}.",
    "letters": "I expected one answer for each of {letters}.",
    "no dictionary": "I expected a dictionary {{'A': …, 'B': …}}, and got {kind}.",
}
MESSAGES = {
    "training_well.1": {
        **FORMAT,
        "right": "six runs, six bugs, and no code was read. The softmax one is the most expensive: "
        "it learns, so nobody looks for it.",
        "labels": "{run}: with labels of other images nothing connects picture and answer: not "
        "even one batch is learnt, and the best that is left is to answer with the share of the "
        "ill. Which run is that?",
        "mode": "{run}: without evaluation mode the curves look healthy, and one patient gets "
        "another score in other company. Look at 'asked twice'.",
        "zero": "{run}: without zero_grad each step goes along the sum of all gradients so far, "
        "and the loss climbs on and on. Which curve runs away?",
        "leak": "{run}: patients who were trained on validate too well. Their AUC lies above that "
        "of new patients. Is that so here?",
        "rate": "{run}: if the rate is too high and nothing else is wrong, a hundredth of it "
        "learns quickly. Does it here?",
        "softmax": "{run}: a softmax inside the loss caps the probabilities that it sees: for two "
        "classes no loss below 0.31 exists. Which batch ends there?",
        "step": "{run}: without a step no weight moves: one batch keeps its loss to the last "
        "digit. Does it here?",
    },
    "training_well.2": {
        "right": "five repairs, and each step is the right one to the last digit that counts.",
        "softmax": "{more}the loss still gets probabilities. F.cross_entropy takes logits.",
        "labels": "{more}images and labels still part ways: pick both by the same positions.",
        "zero": "{more}gradients still pile up: zero_grad belongs into every step.",
        "mode": "{more}validation still runs in training mode: it depends on the batch, and what "
        "batch normalisation sees there it remembers. Call model.eval() before it.",
        "back": "{more}evaluation mode is never left again: after the first epoch batch "
        "normalisation is frozen. Call model.train() at the start of every epoch.",
        "rarely": "gradients are cleared once an epoch, and pile up within it. Clear them in every "
        "step.",
        "frozen": "the network is in evaluation mode while it trains: batch normalisation does "
        "nothing. Call model.train() at the start of every epoch.",
        "unshuffled": "images and labels agree now, and nothing is shuffled any more. Keep the "
        "order that rng draws.",
        "unchanged": "the weights do not change. Is zero_grad between backward and step?",
        "training loss": "the network is trained as it should, and what you return is not the "
        "validation loss after each epoch.",
        "epochs": "I asked for {want} epochs and expected as many losses; got {got}.",
        "other": "the losses are not those of the mended script: for epoch 1 I expected "
        "{expected:.4f} and got {got:.4f}. Mend what is broken and leave the rest.",
    },
    "training_well.3": {
        "right": "one step at each rate, the loss before it, and an end where numbers end.",
        "one rate": "every step is taken at the same rate. Set group['lr'] in each group of "
        "optimiser.param_groups before the step.",
        "first group": "only the first group of parameters gets the rate. Set it in every group of "
        "optimiser.param_groups.",
        "late": "each step is taken at the rate of the step before. Set the rate first.",
        "after": "you noted the loss after the step. Note the one that the step itself saw: it is "
        "there already.",
        "length": "for {want} rates I expected {want} losses and got {got}.",
        "beyond": "a loss that is not finite ends the test: I expected {want} losses, all finite, "
        "and got {got}.",
        "numbers": "the list holds tensors with their graphs, which cost memory. Note loss.item().",
        "draws": "the batches are not those that torch.randint(len(images), (batch_size,), "
        "generator=rng) draws, one call for each rate.",
        "labels": "the images are drawn and the labels are not: pick both by the same positions.",
        "softmax": "you gave probabilities to the loss. It takes logits; the softmax is inside.",
        "sum": "you took the sum of the losses of a batch. Take their mean, the default.",
        "kept": "gradients pile up. Call optimiser.zero_grad() in every step.",
        "unchanged": "every loss is that of the first weights. In each step: zero_grad, "
        "backward, step; and do not go back to the start between two rates.",
        "mode": "the model was in evaluation mode. Call model.train() first.",
        "no list": "I expected a list of losses, one number for each rate; got {kind}.",
        "other": "at rate {rate:g} I expected a loss of {expected:.4f} and got {got:.4f}.",
    },
    "training_well.4": {
        "right": "a ramp, then a half wave that ends just above 0.",
        "zero start": "the first step has the rate 0 and is wasted: the ramp reaches its peak in "
        "step warm − 1, so use (t + 1) / warm.",
        "late cosine": "at t = warm the ramp has ended: there the cosine begins, so compare with "
        "<, not with ≤.",
        "degrees": "your cosine reads the angle in degrees. np.cos and math.cos take radians: π is "
        "half a turn.",
        "no warm-up": "there is no warm-up in it.",
        "no decay": "the rate stays at its peak. After the warm-up comes a cosine.",
        "whole cosine": "your cosine starts at step 0, so that the rate jumps where the ramp ends. "
        "Count its steps from `warm`: (t − warm) / (steps − warm).",
        "long cosine": "your cosine starts at the end of the ramp and is too long: it has steps − "
        "warm steps, not `steps`.",
        "last is zero": "your last step has the rate 0 and is wasted. Divide by steps − warm, not "
        "by one less.",
        "full wave": "the cosine comes back up: over its steps the angle runs from 0 to π, not to "
        "2π.",
        "negative": "the rate falls below 0: a cosine runs from 1 to −1, so take half of "
        "(1 + cos).",
        "quarter wave": "that is a quarter of a wave. Half of (1 + cos), with an angle from 0 to "
        "π, leaves the peak and reaches 0 without a corner.",
        "linear": "your rate falls along a straight line, and I asked for a cosine.",
        "upside down": "it climbs where it should fall: 1 + cos, not 1 − cos.",
        "product": "you multiply ramp and cosine over the whole run. First the one, then the "
        "other.",
        "no peak": "the shape is right and the peak is missing.",
        "other": "for steps={steps}, peak={peak:g}, warm={warm} at t={t} I expected {expected:.5f} "
        "and got {got:.5f}.",
    },
    "training_well.5": {
        **FORMAT,
        "right": "four symptoms, four causes. C is the one that nobody notices without comparing "
        "bits.",
        "optimiser": "{run}: without Adam's m and v the counter t starts again too, and the first "
        "step is η·sign(g) in every weight: a kick. Which run shows a kick?",
        "step": "{run}: a schedule that starts again repeats its warm-up, so the rate is small "
        "where it was large. Which run crawls first and is restless at the end?",
        "draws": "{run}: without the state of the generator the run sees other batches, equally "
        "good ones. Which run is fine, and yet not the same?",
        "buffers": "{run}: the running means of batch normalisation are no parameters; they are "
        "used in evaluation mode only. Which run trains well and evaluates badly?",
    },
    "training_well.6": {
        "right": "saved, killed, resumed: the same bits as never stopped.",
        "no pair": "I expected your two functions, (state, restore).",
        "no dictionary": "state returned {kind}; I expected a dictionary.",
        "unsafe": "torch.load(…, weights_only=True) refuses your file: {error}. Store numbers, "
        "tensors and state_dict()s, not the objects themselves.",
        "weights": "after restoring the weights are those of a new run.",
        "buffers": "the weights are back and the running means of batch normalisation are not. "
        "model.state_dict() holds both.",
        "optimiser": "the optimiser's memory is lost: its state_dict() holds Adam's m, v and t.",
        "draws": "the generator starts anew: keep draws.get_state(), and set_state it.",
        "step": "run['step'] is lost, and the schedule starts again.",
        "replaced": "after restoring run['{item}'] is a {kind}: what was kept goes into the object "
        "that is there, by load_state_dict or set_state, and not in its place.",
        "moved": "saving changed the run that was saved.",
        "bits": "everything seems to be back, and five steps later the weights differ.",
    },
    "training_well.7": {
        "right": "warmed up, nothing left in the queue at either end, and steps by seconds.",
        "cold": "your clock runs while the device warms up. Take `warm` steps before it starts.",
        "late start": "when your clock starts, the warm-up still stands in the queue. Wait first.",
        "no wait": "you read the clock while the steps still stand in the queue: that is how fast "
        "they can be asked for. Wait first.",
        "seconds": "those are seconds a step. I asked for steps a second.",
        "total": "that is the time of all steps. I asked for steps a second.",
        "repeats": "you took {got} steps and I asked for {want}: `warm` and then `repeats`.",
        "all steps": "you divide all steps by the time of the timed ones: the warm-up does not "
        "count.",
        "other": "for a device that takes half a second a step I expected {expected:.3f} and got "
        "{got:.3f}.",
    },
    "training_well.8": {
        "right": "2 over the largest curvature, found without the Hessian: this works for a "
        "network of any size.",
        "one": "you returned 1/λ_max. There the steepest direction is solved in one step; up to "
        "twice that rate it still shrinks, from side to side.",
        "eigenvalue": "you returned the largest eigenvalue, not the rate: take 2 divided by it.",
        "inverse": "you divided the largest eigenvalue by 2: it is the other way round. The more "
        "curved, the smaller the rate.",
        "grows": "your vector grows with every product, and what you divide by is no eigenvalue. "
        "Divide it by its norm before each product.",
        "once": "that is one product with the vector that was given. It turns it a little towards "
        "the steepest direction: go on with what came out.",
        "direction": "you normalised after the last product too, and lost the eigenvalue: it is "
        "the factor by which a product lengthens a vector of length 1.",
        "other": "for a Hessian with eigenvalues {eigenvalues} I expected {expected:.4g} and got "
        "{got:.4g}.",
    },
}


def material(*, part: str) -> Any:
    """What the page works on and does not show.

    Args:
        part: "runs", the six broken scripts by letter, each called as script(train, val, *,
            rate=1.0, epochs=12) with pairs (images, labels) and a factor of its learning rate,
            which returns (predict, history); "range_test" and "per_second", as exercises 3 and 7
            ask for them; or "resumed", a function of (features, labels) that returns the runs of
            exercise 5.

    Raises:
        MedlabError: another part.
    """
    if part == "runs":
        return {letter: _script(fault) for letter, fault in RUNS.items()}
    parts = {"range_test": _range_test, "resumed": _resumed, "per_second": _per_second}
    if part not in parts:
        raise MedlabError(f"the parts are {', '.join(['runs', *parts])}, and not {part!r}")
    return parts[part]


# ------------------------------------------------------------------------------- six broken runs


def _script(fault: str) -> Callable:
    def script(train, val, *, rate=1.0, epochs=12):
        """Train and return (predict, history): logits of images, and the losses by epoch."""
        torch.manual_seed(0)
        (images, labels), draws = train, torch.Generator().manual_seed(0)
        if fault == "leak":
            images, labels = torch.cat([images, val[0]]), torch.cat([labels, val[1]])
        model = SmallCNN(images.shape[1], int(labels.max()) + 1, width=6)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.5  # a short run: forget old means faster
        lr = rate * (2.0 if fault == "rate" else 0.02)
        optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

        def predict(images):
            model.train(fault == "mode")
            with torch.no_grad():
                return torch.cat([head(model(part)) for part in images.split(32)])

        def head(z):
            return z.softmax(1) if fault == "softmax" else z

        history: dict[str, list[float]] = {"train": [], "val": []}
        for epoch in range(epochs):
            model.train()
            optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
            order = torch.randperm(len(images), generator=draws)
            other = torch.randperm(len(images), generator=draws) if fault == "labels" else order
            total = 0.0
            for part, target in zip(order.split(16), other.split(16), strict=True):
                loss = F.cross_entropy(head(model(images[part])), labels[target])
                if fault != "zero":
                    optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item() * len(part)
            history["train"].append(total / len(images))
            history["val"].append(F.cross_entropy(predict(val[0]), val[1]).item())
        return predict, history

    return script


def _matched(answer, truth: Mapping[str, str], words: Mapping[str, str]) -> Verdict:
    """A diagnosis of a dictionary that gives each letter one of some words."""
    if not isinstance(answer, dict):
        raise Wrong("no dictionary", kind=type(answer).__name__)
    if any(value is ... for value in answer.values()):
        raise NotAttempted
    if set(answer) != set(truth):
        return "letters", {"letters": f"{', '.join(list(truth)[:-1])} and {list(truth)[-1]}"}
    keys = {word: key for key, word in words.items()}
    for letter, fault in truth.items():
        got = answer[letter]
        told = {"run": letter, "items": ", ".join(words.values()), "got": got}
        if not isinstance(got, str) or got not in keys:
            return "not listed", told
        if keys[got] != fault:
            return keys[got], told
    return "right"


@exercise("training_well.1", MESSAGES["training_well.1"])
def bugs(answer) -> Verdict:
    return _matched(answer, RUNS, BUGS)


# ----------------------------------------------------------------------------- a script to mend

PLANTED = ("softmax", "labels", "zero", "mode", "back")


def _small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def _patients(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=draws) + 1, torch.randint(3, (n,), generator=draws)


def _run(model, optimiser, train, val, epochs, rng, *, faults=()) -> list[float]:
    """The script of exercise 2 with some of its faults."""
    losses = []
    model.train()
    for _ in range(epochs):
        if "back" not in faults:
            model.train("frozen" not in faults)
        if "rarely" in faults:
            optimiser.zero_grad()
        order = torch.randperm(len(train[0]), generator=rng)
        if "unshuffled" in faults:
            order = torch.arange(len(order))
        y = train[1] if "labels" in faults else train[1][order]
        for x, target in zip(train[0][order].split(16), y.split(16), strict=True):
            z = model(x)
            loss = F.cross_entropy(z.softmax(1) if "softmax" in faults else z, target)
            if not {"zero", "rarely"} & set(faults):
                optimiser.zero_grad()
            loss.backward()
            if "unchanged" in faults:
                optimiser.zero_grad()
            optimiser.step()
        if "mode" not in faults:
            model.eval()
        with torch.no_grad():
            losses.append(F.cross_entropy(model(val[0]), val[1]).item())
    return losses


def _fresh() -> tuple:
    model = _small()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    rng = torch.Generator().manual_seed(1)
    return model, optimiser, _patients(41), _patients(12, 1), 3, rng


@exercise("training_well.2", MESSAGES["training_well.2"])
def mended(answer) -> Verdict:
    given = _fresh()
    got = [number(loss) for loss in _list(call(answer, *given), "other losses")]
    if len(got) != 3:
        return "epochs", {"want": 3, "got": len(got)}
    for faults in _combinations():
        again = _fresh()
        losses = _run(*again, faults=faults)
        if near(got, losses, rel=1e-4):
            if not faults:
                return "right"
            more = "more than one bug is left. First, " if len(faults) > 1 else ""
            return faults[0], {"more": more}
    again = _fresh()
    expected = _run(*again)
    if _same(given[0], again[0]):
        return "training loss"
    if _same(given[0], _small()):
        return "unchanged"
    return "other", {"expected": expected[0], "got": got[0]}


def _combinations() -> Iterator[tuple[str, ...]]:
    """Faults that may be left, fewest first. Without evaluation mode it is never left either."""
    for count in range(len(PLANTED)):
        for faults in itertools.combinations(PLANTED, count):
            if not {"mode", "back"} <= set(faults):
                yield faults
        if count == 0:
            yield from (("unshuffled",), ("unchanged",), ("rarely",), ("frozen",))


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(near(a, b, rel=1e-4) for a, b in pairs)


def _list(got, what: str = "") -> list:
    """The entries of a list, tuple, array or tensor of one axis."""
    if isinstance(got, (np.ndarray, Tensor)) and got.ndim == 1:
        got = list(got)
    if not isinstance(got, (list, tuple)):
        if what:
            raise Wrong("epochs", want=3, got=f"a {type(got).__name__}")
        raise Wrong("no list", kind=type(got).__name__)
    return list(got)


# ------------------------------------------------------------------------------ the range test


def _range_test(model, optimiser, images, labels, rates, batch_size, rng, how="") -> list[float]:
    """Exercise 3 as it is asked for, or with the mistake `how`."""
    model.train(how != "mode")
    losses: list[float] = []
    for place, rate in enumerate(rates):
        for group in optimiser.param_groups[: 1 if how == "first group" else None]:
            if how == "late":
                group["lr"] = rates[max(0, place - 1)] if place else group["lr"]
            elif how != "one rate":
                group["lr"] = rate
        batch = torch.randint(len(images), (batch_size,), generator=rng)
        target = labels[:batch_size] if how == "labels" else labels[batch]
        z = model(images[batch])
        reduction = "sum" if how == "sum" else "mean"
        loss = F.cross_entropy(z.softmax(1) if how == "softmax" else z, target, reduction=reduction)
        if not math.isfinite(loss.item()):
            break
        if how != "kept":
            optimiser.zero_grad()
        loss.backward()
        if how == "unchanged":
            optimiser.zero_grad()
        optimiser.step()
        if how == "after":
            with torch.no_grad():
                loss = F.cross_entropy(model(images[batch]), target)
        losses.append(loss.item())
    return losses


RANGE_MISTAKES = (
    *("one rate", "first group", "late", "after", "labels", "kept", "unchanged", "mode"),
    *("softmax", "sum"),
)


class _Fragile(nn.Module):
    """A model whose loss is infinite from its fourth batch on."""

    def __init__(self):
        super().__init__()
        self.body, self.seen = _small(), 0

    def forward(self, x):
        self.seen += 1
        return self.body(x) * (math.nan if self.seen > 3 else 1)


def _searched(function: Callable, model: nn.Module | None = None, **how) -> Any:
    model = _small() if model is None else model
    model.eval()
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.SGD([{"params": weights}, {"params": others}], lr=0.05)
    images, labels = _patients(23)
    rng = torch.Generator().manual_seed(2)
    rates = [0.05 * 1.7**k for k in range(7)]
    return function(model, optimiser, images, labels, rates, 5, rng, **how), rates


@exercise("training_well.3", MESSAGES["training_well.3"])
def range_test(answer) -> Verdict:
    raw, rates = _searched(lambda *given: call(answer, *given))
    entries = _list(raw)
    got = [number(entry) for entry in entries]
    want, _ = _searched(_range_test)
    if len(got) != len(rates):
        return "length", {"want": len(rates), "got": len(got)}
    if not near(got, want, rel=1e-4):
        for how in RANGE_MISTAKES:
            wrong, _ = _searched(_range_test, how=how)
            if near(got, wrong, rel=1e-4):
                return how
        k = next(k for k in range(len(got)) if not near(got[k], want[k], rel=1e-4))
        told = {"rate": rates[k], "expected": want[k], "got": got[k]}
        return ("draws" if k == 0 else "other"), told
    if any(torch.is_tensor(entry) and entry.requires_grad for entry in entries):
        return "numbers"
    raw, _ = _searched(lambda *given: call(answer, *given), _Fragile())
    ended = [number(entry) for entry in _list(raw)]
    if len(ended) != 3 or not np.isfinite(ended).all():
        return "beyond", {"want": 3, "got": len(ended)}
    return "right"


# -------------------------------------------------------------------------------- the schedule


def _schedule(t: int, steps: int, peak: float, warm: int) -> float:
    if t < warm:
        return peak * (t + 1) / warm
    return peak * (1 + math.cos(math.pi * (t - warm) / (steps - warm))) / 2


def _wrong_schedules(t: int, steps: int, peak: float, warm: int) -> dict[str, float]:
    ramp, early = (t + 1) / warm, t < warm
    share = (t - warm) / (steps - warm)
    cosine = (1 + math.cos(math.pi * share)) / 2
    whole = (1 + math.cos(math.pi * t / steps)) / 2
    later = {
        "no decay": 1.0,
        "whole cosine": whole,
        "long cosine": (1 + math.cos(math.pi * (t - warm) / steps)) / 2,
        "last is zero": (1 + math.cos(math.pi * (t - warm) / (steps - warm - 1))) / 2,
        "full wave": (1 + math.cos(2 * math.pi * share)) / 2,
        "negative": math.cos(math.pi * share),
        "quarter wave": math.cos(math.pi * share / 2),
        "linear": 1 - share,
        "upside down": (1 - math.cos(math.pi * share)) / 2,
        "degrees": (1 + math.cos(180 * share)) / 2,
        "late cosine": ramp if t == warm else cosine,
    }
    wrong = {name: ramp if early else value for name, value in later.items()}
    wrong |= {"zero start": t / warm if early else cosine}
    wrong |= {"no warm-up": 1.0 if early else cosine, "no warm-up ": whole}
    wrong |= {"product": min(1.0, ramp) * whole}
    return {name: peak * value for name, value in wrong.items()} | {
        "no peak": ramp if early else cosine
    }


@exercise("training_well.4", MESSAGES["training_well.4"])
def rate(answer) -> Verdict:
    for steps, peak, warm in ((20, 0.4, 4), (13, 0.03, 5)):
        got = [number(call(answer, t, steps, peak, warm)) for t in range(steps)]
        want = [_schedule(t, steps, peak, warm) for t in range(steps)]
        if near(got, want, rel=1e-5, absolute=1e-9):
            continue
        wrong = [_wrong_schedules(t, steps, peak, warm) for t in range(steps)]
        columns = {name: [each[name] for each in wrong] for name in wrong[0]}
        key = first_match(got, columns, rel=1e-5, absolute=1e-9).strip()
        t = next(t for t in range(steps) if not near(got[t], want[t], rel=1e-5, absolute=1e-9))
        told = {"steps": steps, "peak": peak, "warm": warm, "t": t}
        return key, {**told, "expected": want[t], "got": got[t]}
    return "right"


# ------------------------------------------------------------------------------ stop and resume


def _start(inputs: int, classes: int, seed: int = 0) -> dict[str, Any]:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, classes))
    draws = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters())
    return {"model": model, "optimiser": optimiser, "draws": draws, "step": 0}


def _go_on(run: dict[str, Any], X: Tensor, y: Tensor, steps: int, total: int) -> list[float]:
    """Steps on, by a warm-up and a cosine; the loss of all images after each."""
    model, optimiser, seen = run["model"].train(), run["optimiser"], []
    for _ in range(steps):
        optimiser.param_groups[0]["lr"] = _schedule(run["step"], total, 0.1, 3 * total // 10)
        batch = torch.randint(len(X), (min(256, len(X)),), generator=run["draws"])
        optimiser.zero_grad()
        F.cross_entropy(model(X[batch]), y[batch]).backward()
        optimiser.step()
        run["step"] += 1
        with torch.no_grad():
            seen.append(F.cross_entropy(copy.deepcopy(model)(X), y).item())
    return seen


def _state(run: dict[str, Any]) -> dict[str, Any]:
    model = run["model"]
    return copy.deepcopy(
        {
            "weights": dict(model.named_parameters()),
            "buffers": dict(model.named_buffers()),
            "optimiser": run["optimiser"].state_dict(),
            "draws": run["draws"].get_state(),
            "step": run["step"],
        }
    )


def _restore(run: dict[str, Any], saved: Mapping[str, Any]) -> None:
    saved = copy.deepcopy(saved)  # since an optimiser goes on in the tensors that it is given
    run["model"].load_state_dict({**saved["weights"], **saved["buffers"]})
    run["optimiser"].load_state_dict(saved["optimiser"])
    run["draws"].set_state(saved["draws"])
    run["step"] = saved["step"]


def _weights(run: Mapping[str, Any]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run["model"].parameters()])


def _resumed(X: Tensor, y: Tensor) -> dict[str, dict[str, Any]]:
    """Losses of steps 100 to 199, and more, of a run never stopped and of four that were resumed.

    Of each: "loss", "same bits" as never stopped, and "on loading", its loss in evaluation mode.
    """
    inputs, classes = X.shape[1], int(y.max()) + 1
    whole = _start(inputs, classes)
    _go_on(whole, X, y, 100, 200)
    saved, runs = _state(whole), {"never stopped": whole}
    for letter, lost in RESUMED.items():
        run = _start(inputs, classes)
        _restore(run, saved | {lost: _state(run)[lost]})  # a lost item is as at the start
        runs[letter] = run
    found = {}
    for name, run in runs.items():
        with torch.no_grad():
            on_loading = F.cross_entropy(run["model"].eval()(X), y).item()
        losses = _go_on(run, X, y, 100, 200)
        same = torch.equal(_weights(run), _weights(whole))
        found[name] = {"loss": losses, "same bits": same, "on loading": on_loading}
    return found


@exercise("training_well.5", MESSAGES["training_well.5"])
def missing(answer) -> Verdict:
    return _matched(answer, RESUMED, ITEMS)


@exercise("training_well.6", MESSAGES["training_well.6"])
def checkpoint(answer) -> Verdict:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return "no pair"
    state, restore = answer
    X, y = _patients(30)
    first = _start(4, 3)
    _go_on(first, X, y, 5, 12)
    kept = _state(first)
    saved = call(state, first)
    if not isinstance(saved, dict):
        return "no dictionary", {"kind": type(saved).__name__}
    if _difference(kept, _state(first)):
        return "moved"
    file = io.BytesIO()
    try:
        torch.save(saved, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    except (pickle.PicklingError, pickle.UnpicklingError, TypeError, AttributeError) as error:
        return "unsafe", {"error": str(error).splitlines()[0].split(".")[0]}
    second = _start(4, 3, seed=1)
    try:
        back = call(restore, second, saved)
    except Wrong as wrong:
        if wrong.key != "returned nothing":
            raise
        back = None
    if isinstance(back, dict) and isinstance(back.get("model"), nn.Module):
        second = back
    kinds = {"model": nn.Module, "optimiser": torch.optim.Optimizer, "draws": torch.Generator}
    for item, kind in kinds.items():
        if not isinstance(second.get(item), kind):
            return "replaced", {"item": item, "kind": type(second.get(item)).__name__}
    lost = _difference(kept, _state(second))
    if lost:
        return lost
    for run in (first, second):
        _go_on(run, X, y, 5, 12)
    return "right" if torch.equal(_weights(first), _weights(second)) else "bits"


def _difference(one: dict, other: dict) -> str:
    """The first item in which two states differ, or nothing."""
    return next((key for key in one if not _alike(one[key], other[key])), "")


def _alike(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_alike, a, b))
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


# --------------------------------------------------------------------------- what a step takes


def _per_second(step, wait, clock, warm, repeats, how="") -> float:
    """Exercise 7 as it is asked for, or with the mistake `how`."""
    if how == "cold":
        wait()
        begin = clock()
    for _ in range(warm):
        step()
    if how != "cold":
        if how != "late start":
            wait()
        begin = clock()
    for _ in range(repeats):
        step()
    if how != "no wait":
        wait()
    seconds = clock() - begin
    return {
        "seconds": seconds / repeats,
        "total": seconds,
        "all steps": (warm + repeats) / seconds,
    }.get(how, repeats / seconds)


TIMING_MISTAKES = ("cold", "late start", "no wait", "seconds", "total", "all steps")


class _Device:
    """A device that works through a queue, and whose first steps take long."""

    def __init__(self):
        self.now, self.queue, self.steps = 10.0, 0.0, 0

    def step(self) -> None:
        self.steps += 1
        self.now += 0.01
        self.queue += 8.0 if self.steps <= 2 else 0.49

    def wait(self) -> None:
        self.now, self.queue = self.now + self.queue, 0.0

    def clock(self) -> float:
        return self.now


@exercise("training_well.7", MESSAGES["training_well.7"])
def per_second(answer) -> Verdict:
    for warm, repeats in ((3, 20), (2, 7)):
        device = _Device()
        given = warm, repeats
        got = number(call(answer, device.step, device.wait, device.clock, *given))
        if device.steps != warm + repeats:
            return "repeats", {"got": device.steps, "want": warm + repeats}
        wrong = {}
        for how in ("", *TIMING_MISTAKES):
            other = _Device()
            wrong[how] = _per_second(other.step, other.wait, other.clock, *given, how)
        expected = wrong.pop("")
        if not near(got, expected):
            key = first_match(got, wrong).strip()
            return key, {"expected": expected, "got": got}
    return "right"


# ------------------------------------------------------------------------------ the largest rate


@exercise("training_well.8", MESSAGES["training_well.8"])
def largest_rate(answer) -> Verdict:
    draws = torch.Generator().manual_seed(2)
    for eigenvalues in ((0.7, 2.0, 8.0), (3.0, 1.0, 0.2), (0.1, 0.5, 0.04)):
        turn = torch.linalg.qr(torch.randn(3, 3, generator=draws, dtype=torch.float64)).Q
        hessian = turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T
        start = torch.randn(3, generator=draws, dtype=torch.float64)
        high, steps = max(eigenvalues), 40
        got = number(call(answer, _times(hessian), start.clone(), steps))
        if near(got, 2 / high):
            continue
        first = hessian @ start
        grown = torch.linalg.matrix_power(hessian, steps) @ start
        wrong = {
            "one": 1 / high,
            "eigenvalue": high,
            "inverse": high / 2,
            "direction": 2.0,
            "once": 2 / (first.norm() / start.norm()),
            "once ": 2 / first.norm(),
            "grows": 2 / grown.norm(),
            "grows ": 2 * start.norm() / grown.norm(),
        }
        key = first_match(got, wrong, absolute=0.0).strip()
        return key, {"eigenvalues": eigenvalues, "expected": 2 / high, "got": got}
    return "right"


def _times(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda vector: matrix @ vector
