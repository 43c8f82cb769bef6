"""Exercises of notebook 30: averaged weights, a round, who gains, leaks, masks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from medlab import metrics
from medlab.cohort import Cohort, to_float
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near, numbers

MESSAGES = {
    "federated.1": {
        "right": "every entry is weighted by images, and counters are left as they are.",
        "format": "I expected a dictionary with the entries {names}; got {got}.",
        "entry": "entry {name!r} should be a tensor of shape {shape}; got {got}.",
        "changed": "{name!r} of a hospital's state has changed. Make new tensors: the hospital "
        "goes on with its own.",
        "counter": "{name!r} is a counter, a whole number: take it from the first state "
        "({expected}); got {got}.",
        "plain": "{name!r} is the plain mean. A hospital with more images counts for more.",
        "sum": "{name!r} is a weighted sum that nobody divided by the number of all images.",
        "inverse": "in {name!r} a hospital with *fewer* images counts for more.",
        "first": "{name!r} is that of the first hospital alone.",
        "last": "{name!r} is that of the last hospital alone.",
        "largest": "{name!r} is that of the largest hospital alone.",
        "hospitals": "{name!r} is divided by the number of hospitals, and the weights are images: "
        "divide by the number of all images.",
        "zero": "{name!r} is 0 throughout. Does `//` round the weights down?",
        "other": "of {name!r} I expected {expected:.4f} first, and got {got:.4f}.",
    },
    "federated.2": {
        "right": "all start from the server's weights, and the server learns only the average.",
        "format": "I expected the averaged state, a dictionary of tensors; got {got}.",
        "calls": "`learn` was called {got} times for {sites} hospitals.",
        "data": "hospital {site} learnt from other images or labels than its own.",
        "chain": "hospital {site} did not start from the server's weights, but from what another "
        "hospital had learnt. Everyone gets a fresh copy.",
        "start": "hospital {site} did not start from the server's weights.",
        "server": "the server's own model has changed. Let each hospital learn on a deep copy.",
        "still": "the average is what the server sent out: take each state *after* `learn`.",
        "alias": "every state is that of hospital {site}, the last. `state_dict()` shows the "
        "model's own tensors: a model that learns again changes them all.",
        "last": "that is the state of the last hospital alone.",
        "plain": "hospitals count alike. Weight them by their number of images.",
        "labels": "hospitals are weighted by their ill patients, not by their images.",
        "other": "entry {name!r} differs from the average of the hospitals' states by up to "
        "{far:.1e}.",
    },
    "federated.3": {
        "right": "each hospital judged by its own paired interval.",
        "format": 'I expected "gains", "loses" or "open" for each of {names}; got {got}.',
        "overlap": "of {name} you compared two intervals. Both networks met the same patients: "
        "subtract first, then take the interval of the difference.",
        "reversed": '"gains" is where the *federation* has the higher AUC: federated − alone.',
        "point": "{name}'s interval holds 0, and you decided all the same. The sign of the mean is "
        "no proof.",
        "seeds": "{name}: you judged by how the seeds differ. Average them for every resample, "
        "then take the interval over resamples.",
        "single": "{name}: take the mean over seeds first. One seed, or all pooled together, mixes "
        "the luck of a seed with that of the patients.",
        "error": "{name}: the standard deviation over resamples *is* the standard error. Do not "
        "divide it by the root of their number: more resamples are no more patients.",
        "narrow": "{name}: an interval of 95 % leaves 2.5 % out at *either* end.",
        "other": '{name} {expected}, by the interval {low:.3f} to {high:.3f}; you said "{got}".',
    },
    "federated.4": {
        "right": "rate and label never mattered: every unit that moved holds the whole image.",
        "format": "I expected one image of {size} numbers; got {got}.",
        "nan": "your image holds NaN or infinite values: a unit that did not fire has δ = 0. Leave "
        "it out – or does your choice of a unit forget negative changes, or positive ones?",
        "negative": "that is the image's negative: the changes of weights and biases both keep "
        "their sign, after − before.",
        "no bias": "that is a multiple of the image. Divide by the change of the unit's bias.",
        "weights": "you divided weights by biases. Divide their *changes*.",
        "rows": "you added up units before you divided. Where their δ cancel, nothing is left.",
        "rounding": "off by up to {far:.2g}: a unit whose bias hardly moved has mostly rounding in "
        "it. Trust the one that moved most.",
        "changed": "your function changed its arguments. Make new tensors.",
        "other": "your image differs from the true one by up to {far:.2g}.",
    },
    "federated.5": {
        "right": "each message is noise, and together they are the sum.",
        "format": "I expected messages of shape {shape}; got {got}.",
        "open": "the message of hospital {site} is its update, unmasked.",
        "sum": "the messages add up to something else than the updates, by up to {far:.2g}. Of a "
        "pair, one adds the mask and the other takes it away.",
        "number": "a mask of one number shifts the update and hides nothing of its shape. Draw one "
        "for every weight.",
        "one mask": "all masks are multiples of one another: two messages give it away.",
        "pairs": "hospitals {a} and {b} share no mask. Every pair draws its own.",
        "uneven": "the masks do not have mean 0: draw them from a normal distribution.",
        "twice": "every pair has two masks, of a standard deviation of {got:.3g} together instead "
        "of {spread:g}. Do your loops meet each pair twice?",
        "centred": "this is noise less its mean. To take the mean away one must know all the "
        "noise, and can then unmask every hospital. Let each pair draw a mask of its own.",
        "small": "the masks have a standard deviation of {got:.3g}, where {spread:g} was asked "
        "for.",
        "other rng": "the same state of `rng` gave other masks.",
        "same": "two states of `rng` gave the same masks.",
        "changed": "your function changed the updates. Make new tensors.",
    },
}


def material() -> SimpleNamespace:
    """Finished answers of the exercises, and what the notebook uses without reading it."""
    answers = {"average": average, "fed_round": fed_round, "who_gains": who_gains}
    answers |= {"recover": recover, "masked": masked}
    tools = {"with_sites": with_sites, "judge": judge, "table": table, "quarters": quarters}
    tools |= {"learn": learn, "change": change, "nearest": nearest}
    return SimpleNamespace(**answers, **tools)


def with_sites(cohort: Cohort) -> Cohort:
    """A cohort with sites; where it names none, six groups of patients by brightness stand in."""
    if cohort.sites is not None:
        return cohort
    print(
        f"{cohort.card.name} names no hospitals. Six groups of its patients, from dark images "
        "to\nbright ones, stand in for them."
    )
    count = len(cohort)
    patients = np.arange(count) if cohort.patients is None else cohort.patients
    who = np.unique(patients, return_inverse=True)[1]
    level = to_float(cohort.images).mean((1, 2, 3)).numpy()
    level = (np.bincount(who, level) / np.bincount(who))[who]
    sixth = np.searchsorted(np.quantile(level, np.arange(1, 6) / 6), level)
    return replace(cohort, sites=np.array([f"group {k + 1}" for k in range(6)])[sixth])


def judge(exams: list[tuple], draws: int = 400) -> Callable[[list[nn.Module]], np.ndarray]:
    """A function of networks, one a hospital, that gives their AUC there (hospitals, 1 + draws).

    Args:
        exams: (images, labels, patients or None) of each hospital.
        draws: resamples of the patients; the first column is the AUC itself.
    """
    counts = [
        np.concatenate([np.ones((1, len(y)), int), *metrics.resamples(y, groups=patients, n=draws)])
        for _, y, patients in exams
    ]

    @torch.no_grad()
    def judged(models: list[nn.Module]) -> np.ndarray:
        rows = []
        for model, (images, labels, _), drawn in zip(models, exams, counts, strict=True):
            z = model.eval()(images)
            scores = z[:, 1] - z[:, 0]
            rows.append(metrics.resampled_values(metrics.auc, labels, scores, drawn))
        return np.stack(rows)

    return judged


def table(results: dict[str, np.ndarray], sites: list[str]) -> None:
    """Print AUCs at each hospital and their mean: the mean over seeds ± half of a 95 % interval.

    Args:
        results: name of a plan → (seeds, hospitals, 1 + draws), as `judge` gives them.
        sites: names of the hospitals, in their order.
    """
    print(f"{'':9}", *[f"{name:>9}" for name in [*sites, "mean"]])
    for plan, values in results.items():
        auc = values.mean(0)
        auc = np.concatenate([auc, auc.mean(0, keepdims=True)])
        low, high = np.nanpercentile(auc[:, 1:], [2.5, 97.5], axis=1)
        cells = zip(auc[:, 0], (high - low) / 2, strict=True)
        print(f"{plan:9}", *[f"{value:.2f}±{half:.2f}" for value, half in cells])


def quarters(data: dict[str, tuple[Tensor, Tensor]]) -> tuple[dict, dict]:
    """A small linear problem a hospital: A (N, 5) of 1 and four brightnesses, b (N,) of ±1.

    The brightnesses are those of the images' quarters, less their mean over all hospitals and
    divided by their spread.
    """
    levels = {k: nn.functional.adaptive_avg_pool2d(x, 2).flatten(1) for k, (x, _) in data.items()}
    stack = torch.cat(list(levels.values()))
    mean, spread = stack.mean(0), stack.std(0)
    A = {
        k: nn.functional.pad((level - mean) / spread, (1, 0), value=1.0).double()
        for k, level in levels.items()
    }
    return A, {k: 2 * y.double() - 1 for k, (_, y) in data.items()}


def learn(
    model: nn.Module, images: Tensor, labels: Tensor, lr: float, rng: torch.Generator
) -> None:
    """Train a network in place: one pass through the images, plain descent in batches of 32."""
    descent = torch.optim.SGD(model.parameters(), lr)
    model.train()
    for batch in torch.randperm(len(labels), generator=rng).split(32):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        descent.zero_grad()
        loss.backward()
        descent.step()


def change(images: Tensor, labels: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """How a first layer's weights (256, pixels) and biases (256,) change in one step.

    The network has two linear layers with a ReLU between them, and weights of a seed; the step is
    plain descent at a rate of 0.1 on all images together, in double precision.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(images[0].numel(), 256), nn.Linear(256, 2)
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last).double()
    loss = nn.functional.cross_entropy(model(images.double()), labels)
    weights, biases = torch.autograd.grad(loss, [first.weight, first.bias])
    return -0.1 * weights, -0.1 * biases


def nearest(images: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Of what was found (M, 1, H, W), the nearest to each image (N, 1, H, W), and its PSNR in dB.

    Args:
        images: true images of values from 0 to 1.
        found: candidates, such as rows of a layer's change.
    """
    psnr = torch.stack([metrics.psnr(x.expand_as(found), found, data_range=1.0) for x in images])
    return found[psnr.argmax(1)], psnr.max(1).values


# ------------------------------------------------------------------------------------ 1


def average(states: list[dict[str, Tensor]], images: Any) -> dict[str, Tensor]:
    """The mean of state dictionaries, weighted by images; counters are those of the first."""
    total = sum(images)
    return {
        name: sum(n / total * state[name] for n, state in zip(images, states, strict=True))
        if first.is_floating_point()
        else first.clone()
        for name, first in states[0].items()
    }


def _states(seed: int, count: int) -> list[dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    return [
        {
            "0.weight": torch.randn(2, 3, generator=rng),
            "1.running_var": torch.rand(2, generator=rng) + 0.5,
            "1.num_batches_tracked": torch.tensor(7 + 5 * k),
            "2.bias": torch.randn(4, generator=rng) - 2 * k,
        }
        for k in range(count)
    ]


@exercise("federated.1", MESSAGES["federated.1"])
def averages(answer) -> Verdict:
    for seed, images in ((1, [20, 60, 45]), (0, [30, 10]), (2, [8])):
        states = _states(seed, len(images))
        given = copy.deepcopy(states)
        got = call(answer, given, list(images))
        names = list(states[0])
        if not isinstance(got, dict) or set(got) != set(names):
            told = ", ".join(map(str, got)) if isinstance(got, dict) else type(got).__name__
            return "format", {"names": ", ".join(names), "got": told or "an empty one"}
        if ... in [value for value in got.values() if not torch.is_tensor(value)]:
            raise NotAttempted
        for before, after in zip(states, given, strict=True):
            for name in names:
                if not torch.equal(before[name], after[name]):
                    return "changed", {"name": name}
        for name in names:
            verdict = _entry_fault(name, got[name], states, images)
            if verdict != "right":
                return verdict
    return "right"


def _entry_fault(name: str, got: Any, states: list, images: list[int]) -> Verdict:
    want = average(states, images)[name]
    if not torch.is_tensor(got) or got.shape != want.shape:
        told = f"shape {tuple(got.shape)}" if torch.is_tensor(got) else type(got).__name__
        return "entry", {"name": name, "shape": tuple(want.shape), "got": told}
    if not want.is_floating_point():
        if got.is_floating_point() or not torch.equal(got, want):
            return "counter", {"name": name, "expected": want.item(), "got": f"{got.item():g}"}
        return "right"
    if near(got, want, absolute=1e-5):
        return "right"
    stack = torch.stack([state[name] for state in states])
    n = torch.tensor(images).float().view(-1, *[1] * (stack.ndim - 1))
    wrong = {
        "plain": stack.mean(0),
        "sum": (n * stack).sum(0),
        "hospitals": (n * stack).mean(0),
        "inverse": (stack / n).sum(0) / (1 / n).sum(),
        "largest": stack[int(np.argmax(images))],
        "first": stack[0],
        "last": stack[-1],
        "zero": 0 * want,
    }
    key = next((key for key, value in wrong.items() if near(got, value, absolute=1e-5)), "other")
    first = want.flatten()[0].item(), got.flatten()[0].item()
    return key, {"name": name, "expected": first[0], "got": first[1]}


# ------------------------------------------------------------------------------------ 2


def fed_round(server: nn.Module, sites: list, learn: Callable) -> dict[str, Tensor]:
    """The average of what each hospital makes of the server's weights in one round."""
    states = []
    for images, labels in sites:
        model = copy.deepcopy(server)
        learn(model, images, labels)
        states.append(model.state_dict())
    return average(states, [len(labels) for _, labels in sites])


class _Learn:
    """A hospital's training: one step, after which it remembers what it was given."""

    def __init__(self) -> None:
        self.starts: list[dict] = []
        self.data: list[tuple[Tensor, Tensor]] = []
        self.ends: list[dict] = []

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.starts.append(copy.deepcopy(model.state_dict()))
        self.data.append((images, labels))
        model.train()
        loss = nn.functional.cross_entropy(model(images), labels)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), grads, strict=True):
                p.data -= 0.5 * g
        self.ends.append(copy.deepcopy(model.state_dict()))


def _far(a: dict, b: dict) -> tuple[float, str]:
    return max((float((a[k] - b[k]).abs().max()), k) for k in a if a[k].is_floating_point())


@exercise("federated.2", MESSAGES["federated.2"])
def rounds(answer) -> Verdict:
    for seed, sizes in ((0, (12, 5, 8)), (1, (4, 9))):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2026 + seed)  # a seed of nobody who starts a network of his own
            server = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
            sites = [
                (torch.randn(n, 3) + k, (torch.arange(n) < 2 + k).long())
                for k, n in enumerate(sizes)
            ]
        before = copy.deepcopy(server.state_dict())
        learn = _Learn()
        got = call(answer, server, list(sites), learn)
        got = got.state_dict() if isinstance(got, nn.Module) else got
        verdict = _round_fault(got, before, server.state_dict(), sites, learn)
        if verdict != "right":
            return verdict
    return "right"


def _round_fault(got: Any, before: dict, after: dict, sites: list, learn: _Learn) -> Verdict:
    if not isinstance(got, dict) or set(got) != set(before):
        return "format", {"got": type(got).__name__}
    if any(
        not torch.is_tensor(value) or value.shape != before[k].shape for k, value in got.items()
    ):
        return "format", {"got": "other entries than the server's"}
    if len(learn.starts) != len(sites):
        return "calls", {"got": len(learn.starts), "sites": len(sites)}
    for k, (seen, own) in enumerate(zip(learn.data, sites, strict=True)):
        if not all(
            a.shape == b.shape and torch.equal(a, b) for a, b in zip(seen, own, strict=True)
        ):
            return "data", {"site": k + 1}
        if _far(learn.starts[k], before)[0] > 1e-6:
            chained = any(_far(learn.starts[k], end)[0] < 1e-6 for end in learn.ends[:k])
            return "chain" if chained else "start", {"site": k + 1}
    if _far(after, before)[0] > 1e-7:
        return "server"
    counts = [len(labels) for _, labels in sites]
    want = average(learn.ends, counts)
    if _far(got, want)[0] < 1e-5:
        return "right"
    wrong = {
        "still": before,
        "alias": average([learn.ends[-1]] * len(sites), counts),
        "plain": average(learn.ends, [1] * len(sites)),
        "labels": average(learn.ends, [int(labels.sum()) for _, labels in sites]),
    }
    key = next((key for key, state in wrong.items() if _far(got, state)[0] < 1e-5), "other")
    if key == "alias" and all(torch.equal(got[k], learn.ends[-1][k]) for k in got):
        key = "last"
    far, name = _far(got, want)
    return key, {"site": len(sites), "far": far, "name": name}


# ------------------------------------------------------------------------------------ 3


def who_gains(federated: dict, alone: dict) -> dict[str, str]:
    """Each hospital "gains", "loses" or is "open", by the 95 % interval of the mean difference.

    Args:
        federated: hospital → (seeds, resamples) AUC.
        alone: the same of the hospital's own network, on the same seeds and resamples.
    """
    found = {}
    for name in federated:
        low, high = np.percentile((federated[name] - alone[name]).mean(0), [2.5, 97.5])
        found[name] = "gains" if low > 0 else "loses" if high < 0 else "open"
    return found


def _tables(seed: int) -> tuple[dict, dict]:
    """Fifteen hospitals, each of which tells one mistake."""
    rng = np.random.default_rng(seed)
    # (mean gain, spread of the difference over patients, common spread, spread of the seeds)
    kinds = {
        "Quay": (0.03, 0.006, 0.05, 0.001),
        "Moor": (-0.03, 0.006, 0.05, 0.001),
        "Ford": (0.02, 0.02, 0.01, 0.001),
        "Dale": (-0.015, 0.02, 0.01, 0.001),
        "Glen": (0.03, 0.008, 0.01, 0.05),
        "Cove": (0.02, 0.0114, 0.001, 0.001),
        "Isle": (-0.02, 0.0114, 0.001, 0.001),
        "Holm": (-0.04, 0.008, 0.01, 0.06),
        # the ends of two intervals differ far less than the difference is wide
        "Lynn": (0.02, 0.02, 0.05, 0.001),
        "Kirk": (-0.02, 0.02, 0.05, 0.001),
        "Reed": (0.02, 0.0085, 0.01, 0.001),  # no interval holds all resamples
        "Weir": (0.009, 0.004, 0.01, 0.0),  # each seed alone is open
        "Nook": (0.001, 0.02, 0.01, 0.001),  # nearly 0, but not by the root of 400
        "Gill": (0.02, 0.007, 0.02, 0.12),  # the median of the seeds lies lower
        "Mere": (0.02, 0.008, 0.01, 0.017),  # one seed is below 0, their error is small
    }
    fed, own = {}, {}
    patients = ndtri((np.arange(400) + 0.5) / 400)  # a normal sample without luck
    seeds = np.array([-1.3, 0.0, 1.6, -0.3])[: 3 + seed, None]
    for name in map(str, rng.permutation(list(kinds))):
        gain, spread, common, luck = kinds[name]
        noise = 0.004 * rng.standard_normal((len(seeds), 400))
        own[name] = 0.8 + common * rng.standard_normal((1, 400)) - (noise - noise.mean(0))
        fed[name] = own[name] + gain + spread * rng.permutation(patients)
        fed[name] += luck * (seeds - seeds.mean()) + noise - noise.mean(0)
    return fed, own


def _verdict(low: Any, high: Any) -> str:
    return "gains" if low > 0 else "loses" if high < 0 else "open"


@exercise("federated.3", MESSAGES["federated.3"])
def gains(answer) -> Verdict:
    for seed in (0, 1):
        fed, own = _tables(seed)
        got = call(
            answer, {k: v.copy() for k, v in fed.items()}, {k: v.copy() for k, v in own.items()}
        )
        told = {"names": ", ".join(fed), "got": type(got).__name__}
        if not isinstance(got, dict) or set(got) != set(fed):
            return "format", told
        if ... in got.values():
            raise NotAttempted
        for value in got.values():
            if str(value) not in ("gains", "loses", "open"):
                return "format", told | {"got": repr(value)}
        said = {name: str(value) for name, value in got.items()}
        if said != who_gains(fed, own):
            return _reading_fault(said, fed, own)
    return "right"


def _reading_fault(said: dict[str, str], fed: dict, own: dict) -> Verdict:
    """The rule that explains what was said of every hospital, or else the first hospital missed."""
    right = who_gains(fed, own)
    turned = {"gains": "loses", "loses": "gains", "open": "open"}
    rules: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "overlap": _apart,
        "overlap of ends": lambda a, b: _ends(a.mean(0)) - _ends(b.mean(0)),
        "point": lambda a, b: ((a - b).mean(),) * 2,
        "error": lambda a, b: _wald((a - b).mean(0)),
        "seeds": lambda a, b: (lambda means: (means.min(), means.max()))((a - b).mean(1)),
        "seeds by their error": lambda a, b: _wald((a - b).mean(1)),
        "single": lambda a, b: _ends((a - b)[0]),
        "single pooled": lambda a, b: _ends(a - b),
        "single ends": lambda a, b: np.mean([_ends(one) for one in a - b], 0),
        "narrow": lambda a, b: np.percentile((a - b).mean(0), [5, 95]),
        "narrow or wide": lambda a, b: np.percentile((a - b).mean(0), [0, 100]),
    }
    names = [name for name in said if said[name] != right[name]]
    if said == {name: turned[word] for name, word in right.items()}:
        return "reversed"
    low, high = _ends((fed[names[0]] - own[names[0]]).mean(0))
    values = {"name": names[0], "expected": right[names[0]], "got": said[names[0]]}
    values |= {"low": low, "high": high}
    for key, rule in rules.items():
        if said == {name: _verdict(*rule(fed[name], own[name])) for name in said}:
            return key.split()[0], values
    return "other", values


def _apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Ends of the gap between the intervals of two tables, of one sign where they are apart."""
    (a0, a1), (b0, b1) = (_ends(table.mean(0)) for table in (a, b))
    return a0 - b1, a1 - b0


def _ends(values: np.ndarray) -> np.ndarray:
    return np.percentile(values, [2.5, 97.5])


def _wald(values: np.ndarray) -> np.ndarray:
    return values.mean() + np.array([-1.96, 1.96]) * values.std() / len(values) ** 0.5


# ------------------------------------------------------------------------------------ 4


def recover(W0: Tensor, b0: Tensor, W1: Tensor, b1: Tensor) -> Tensor:
    """The one image from which a linear layer learnt: the row of the unit that moved most."""
    dW, db = W1 - W0, b1 - b0
    k = db.abs().argmax()
    return dW[k] / db[k]


def _steps() -> list[tuple[Tensor, ...]]:
    """(W0, b0, W1, b1, x) before and after a step: silent units, all signs, δ that add up to 0."""
    found: list[tuple[Tensor, ...]] = []
    for seed, units, delta in (
        (0, 6, [0.0, 0.5, -0.2, 0.0, 2e-7, 0.1]),
        (1, 4, [0.3, 0.0, 0.1, 0.02]),
        (2, 2, [0.4, -0.4]),
        (3, 5, [0.7, 0.1, -0.5, 0.0, -2e-7]),
        (4, 5, [2e-7, 0.0, 0.3, 0.0, -0.6]),
        (5, 3, [-0.4, 0.0, -0.1]),
    ):
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(9 + seed, generator=rng)
        W = torch.randn(units, 9 + seed, generator=rng) / 3
        b = torch.randn(units, generator=rng) / 3
        d = 0.3 * torch.tensor(delta)
        found.append((W, b, W - d[:, None] * x, b - d, x))
    return found


@exercise("federated.4", MESSAGES["federated.4"])
def recoveries(answer) -> Verdict:
    for *state, x in _steps():
        given = [t.clone() for t in state]
        got = numbers(call(answer, *given)).double()
        if any(not torch.equal(a, b) for a, b in zip(given, state, strict=True)):
            return "changed"
        if got.numel() != x.numel():
            return "format", {"size": x.numel(), "got": f"shape {tuple(got.shape)}"}
        verdict = _image_fault(got.flatten(), x.double(), [t.double() for t in state])
        if verdict != "right":
            return verdict
    return "right"


def _image_fault(got: Tensor, x: Tensor, state: list[Tensor]) -> Verdict:
    W0, b0, W1, b1 = state
    silent = (b1 == b0).any()
    if not got.isfinite().all():
        return "nan" if silent else "rows"
    far = float((got - x).abs().max())
    if far < 2e-3:
        return "right"
    if near(got, -x, absolute=2e-3):
        return "negative"
    ratios = [W / b[:, None] for W, b in ((W0, b0), (W1, b1))]
    if any(near(got, row) for r in ratios for row in (*r, r.mean(0))):
        return "weights"
    alike = float(nn.functional.cosine_similarity(got, x, dim=0))
    if abs(alike) > 0.9999:
        return "no bias"
    if not silent:
        return "rows"
    quotients = ((W1 - W0)[b1 != b0] / (b1 - b0)[b1 != b0, None]).unbind()
    rounded = alike > 0.5 or any(near(got, row, absolute=1e-3, rel=1e-3) for row in quotients)
    return ("rounding" if rounded else "other"), {"far": far}


# ------------------------------------------------------------------------------------ 5


def masked(updates: Tensor, spread: float, rng: torch.Generator) -> Tensor:
    """Messages (K, D) that hide the updates (K, D) of K hospitals and keep their sum."""
    messages = updates.clone()
    for i, j in combinations(range(len(updates)), 2):
        mask = spread * torch.randn(updates.shape[1], generator=rng)
        messages[i] += mask
        messages[j] -= mask
    return messages


@exercise("federated.5", MESSAGES["federated.5"])
def masks(answer) -> Verdict:
    for sites, spread, seed in ((6, 10.0, 0), (5, 3.0, 1), (3, 40.0, 2)):
        updates = torch.randn(sites, 2000, generator=torch.Generator().manual_seed(seed))
        first, again, other = (_messages(answer, updates, spread, s) for s in (5, 5, 6))
        verdict = _mask_fault(first, updates.double(), spread)
        if verdict != "right":
            return verdict
        if not torch.equal(first, again):
            return "other rng"
        if torch.equal(first, other):
            return "same"
    return "right"


def _messages(answer: Any, updates: Tensor, spread: float, seed: int) -> Tensor:
    given = updates.clone()
    got = call(answer, given, spread, torch.Generator().manual_seed(seed))
    if isinstance(got, list | tuple) and all(map(torch.is_tensor, got)) and got:
        shapes = {tuple(part.shape) for part in got}
        got = torch.stack(list(got)) if len(shapes) == 1 else got[0]
    got = numbers(got)
    if got.shape != updates.shape:
        raise Wrong("format", shape=tuple(updates.shape), got=tuple(got.shape))
    if not torch.equal(given, updates) and not torch.equal(given, got.to(given.dtype)):
        raise Wrong("changed")
    if not torch.equal(given, updates):
        raise Wrong("changed")
    return got.double()


def _mask_fault(messages: Tensor, updates: Tensor, spread: float) -> Verdict:
    noise, count = messages - updates, len(updates)
    for k, row in enumerate(noise):
        if row.abs().max() < 1e-6:
            return "open", {"site": k + 1}
    if (far := float(noise.sum(0).abs().max())) > 1e-3 * spread:
        return "sum", {"far": far}
    if (noise.std(1) < 1e-3 * spread).any():
        return "number"
    values = torch.linalg.svdvals(noise)
    if count > 2 and values[1] < 1e-3 * values[0]:
        return "one mask"
    if (noise.mean(1).abs() > 0.2 * noise.std(1)).any():
        return "uneven"
    together = torch.corrcoef(noise)
    for a, b in combinations(range(count), 2):
        if together[a, b] > -0.5 / (count - 1):
            return "pairs", {"a": a + 1, "b": b + 1}
    got = float((noise.square().mean() / (count - 1)).sqrt())
    if 1.35 * spread < got < 1.48 * spread:
        return "twice", {"got": got, "spread": spread}
    if abs(got * count**0.5 / spread - 1) < 0.04:
        return "centred"
    if not 0.85 * spread < got < 1.15 * spread:
        return "small", {"got": got, "spread": spread}
    return "right"
