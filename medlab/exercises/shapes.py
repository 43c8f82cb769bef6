"""Checks of layers and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medlab.exercises import (
    Verdict,
    Wrong,
    as_array,
    call,
    exercise,
    first_match,
    near,
    number,
    shape_or_type,
)

MESSAGES = {
    "shapes.1": {
        "right": "the ReLU lets through what was above 0, and then shapes leave one order of the "
        "factors.",
        "three": "I expected three tensors, (X_bar, W_bar, b_bar), and got {got}.",
        "shape": "{name} has shape {got}. A gradient has the shape of its tensor: {want}.",
        "no relu": "{name} is right for a layer without ReLU. Where z was 0 or below, nothing "
        "comes back.",
        "relu of gradient": "{name}: you set negative *gradients* to 0. The ReLU stops them where "
        "z, what went in, was 0 or below.",
        "mean": "{name} is a mean over the images. L holds the sum: each image's part is added.",
        "no bias": "{name}: you left the bias out of z when you asked where the ReLU is on.",
        "at zero": "{name} is right but where z is exactly 0. There the ReLU's slope counts as 0: "
        "z > 0, not z ≥ 0.",
        "times h": "{name}: you multiplied by h. The slope of a ReLU is 1 where it is on.",
        "other": "{name}{at} should be {expected:.4g}, and I got {found:.4g}.",
    },
    "shapes.2": {
        "right": "a unit is dead if no image of all, and no place in any, turns it on.",
        "range": "I expected a share, from 0 to 1, and got {got:.4g}.",
        "zeros": "for h of shape {given} you returned the share of zeros, {got:.3f}. A unit that "
        "is silent for one image may answer to the next: dead is silent for *every* image.",
        "ever": "for h of shape {given} I expected {expected:.3f} and got {got:.3f}: you counted "
        "units that are silent at least once.",
        "alive": "that is the share of units that live.",
        "per image": "for h of shape {given} you counted over units within an image. Look at one "
        "unit over all images.",
        "places": "for h of shape {given} you took each place of a map for a unit of its own. A "
        "channel has one kernel for all places: it lives if any place answers.",
        "sums": "a unit whose values add up to a small number need not be dead: compare with 0, "
        "value by value.",
        "other": "for h of shape {given} I expected {expected:.3f} and got {got:.3f}.",
    },
    "shapes.3": {
        "right": "from the last layer to the first, each stride widens the range.",
        "form": "I expected (smallest, largest), or all sizes, and got {got}.",
        "one": "for {told} your two sizes are the same. A stride of s leaves up to s − 1 pixels "
        "over: s sizes give the same output.",
        "order": "for {told} I expected {expected} and got {got}. The last layer comes first on "
        "the way back: take the layers in reverse.",
        "last only": "for {told} I expected {expected} and got {got}. The pixels left over are s "
        "− 1 in *each* layer, and those of later layers count s-fold in the earlier ones.",
        "padding": "for {told} I expected {expected} and got {got}. Padding is part of what the "
        "windows read: take 2p *off* the input.",
        "padding once": "for {told} I expected {expected} and got {got}. Padding lies on both "
        "sides: 2p.",
        "no padding": "for {told} I expected {expected} and got {got}: the padding is missing.",
        "edge": "for {told} I expected {expected} and got {got}. m windows have m − 1 steps of s, "
        "and the last one needs k pixels more.",
        "much": "for {told} I expected {expected} and got {got}. With s pixels left over another "
        "window would fit: at most s − 1.",
        "swapped": "the smallest size comes first.",
        "other": "for {told} I expected {expected} and got {got}.",
    },
    "shapes.4": {
        "right": "each convolution without padding takes 2, each pool halves and rounds down.",
        "padded": "for {height} × {width} I expected {expected} and got {got:g}. These "
        "convolutions have no padding: each takes 2 rows and 2 columns.",
        "channels": "for {height} × {width} I expected {expected} and got {got:g}: you counted "
        "the positions of one map. Flatten also lines up the 32 channels.",
        "first channels": "for {height} × {width} I expected {expected} and got {got:g}: 16 is the "
        "first convolution's number of channels. Flatten sees the last one's.",
        "square": "for {height} × {width} I expected {expected} and got {got:g}. The image is not "
        "square: rows and columns shrink each for itself.",
        "not rounded": "for {height} × {width} I expected {expected} and got {got:g}. A pool "
        "rounds down at each step: use //.",
        "one pool": "for {height} × {width} I expected {expected} and got {got:g}. There are two "
        "pools; the second halves again.",
        "rounded up": "for {height} × {width} I expected {expected} and got {got:g}. You rounded "
        "up in the first pool: a row left over is in no window, so round down.",
        "late": "for {height} × {width} I expected {expected} and got {got:g}. Order matters: the "
        "second convolution takes 2 from maps that have already been halved. (Or did you round up "
        "in the second pool, which comes to the same?)",
        "one pixel": "for {height} × {width} I expected {expected} and got {got:g}. Two mistakes "
        "come to this: pools that round up, though a row left over is in no window, and "
        "convolutions that take one row, though a 3 × 3 kernel without padding takes two.",
        "other": "for {height} × {width} I expected {expected} and got {got:g}.",
    },
    "shapes.6": {
        "right": "any network passes this test or fails it, whatever is in it.",
        "form": "I expected true or false for each of {n} × {n} pairs, and got {got}.",
        "turned": "row n is the score of patient n, column m the image of patient m: yours is the "
        "other way round.",
        "inverted": "true and false are exchanged.",
        "strangers": "you left out the diagonal: image n should move score n, and if it does not, "
        "that is worth knowing too.",
        "alone": "you gave the network one image at a time. In a batch of one there is nobody to "
        "be mixed up with: give it all images, one of them changed.",
        "left": "you changed image m and left it so. Each time, all other images are as they were: "
        "start from a fresh copy.",
        "one class": "you looked at one of the {k} scores of a patient. Any of them may move.",
        "every class": "you asked that *all* scores of a patient move. One is enough.",
        "blind": "you made an image brighter or gave it more contrast. A network that normalises "
        "each image does not see that: put another image in its place.",
        "other": "for a network that {kind} I expected {expected} at {at} and got {found}.",
    },
    "shapes.7": {
        "right": "whatever a module holds as Parameter, module or buffer is trained, moved or "
        "saved with it; anything else is left behind.",
        "class": "I expected a class that inherits from nn.Module, and got {got}.",
        "no super": "your __init__ does not begin with super().__init__(): nn.Module then has "
        "nothing to register layers with.",
        "list": "the module knows {got} of its {want} weights and biases. Layers in a Python list "
        "are hidden from it: use nn.ModuleList or nn.Sequential.",
        "trained": "mean and spread are parameters, so the optimiser would change them. Use "
        "register_buffer.",
        "left": "after `.to(…)` the weights are on the new device and mean or spread are not. Use "
        "register_buffer.",
        "not saved": "mean or spread are missing from the state_dict: whoever loads the weights "
        "would standardise by something else.",
        "sizes": "for sizes {sizes} I expected weights {want}, and got {got}.",
        "shape": "for x of shape {given} you returned {got}; I expected {want}.",
        "last relu": "a ReLU stands after the last layer: scores below 0 are lost.",
        "no relu": "no ReLU stands between your layers: together they are one linear layer.",
        "not standardised": "you did not standardise x, (x − mean)/spread, before the first layer.",
        "other": "the layers are registered, and the output differs: {expected:.4g} expected, "
        "{found:.4g} found.",
    },
    "shapes.5": {
        "right": "the fixed part is the network, what grows is the images.",
        "number": "I expected a whole number of images, and got {got:g}.",
        "no parameters": "for {told} I expected {expected} and got {got:g}: parameters, gradients "
        "and the two means take memory as well, whatever the batch.",
        "parameters once": "for {told} I expected {expected} and got {got:g}. Each parameter is "
        "held four times.",
        "parameters each": "for {told} I expected {expected} and got {got:g}. Images share the "
        "parameters: they count once, not for each image.",
        "bytes": "for {told} I expected {expected} and got {got:g}. The budget is in bytes, and a "
        "number takes four.",
        "no input": "for {told} I expected {expected} and got {got:g}. The image itself is held "
        "too.",
        "last": "for {told} I expected {expected} and got {got:g}. *Every* layer's output is held "
        "until the backward pass.",
        "rounded": "for {told} I expected {expected} and got {got:g}. A batch that is one number "
        "too large does not fit: round down.",
        "other": "for {told} I expected {expected} and got {got:g}.",
    },
}


def _tensor(got: Any) -> Tensor:
    """What the learner returned as a float64 tensor; `Wrong` if it holds no numbers."""
    near(got, 0)
    return torch.from_numpy(as_array(got))


def _everywhere(got: list, wrong: dict[str, Callable], cases: tuple) -> str:
    """The first diagnosis that explains the learner's answers to *all* cases, else "other"."""

    def explains(rule: Callable) -> bool:
        return all(near(g, rule(*case), rel=1e-9) for g, case in zip(got, cases, strict=True))

    return next((key for key, rule in wrong.items() if explains(rule)), "other")


@exercise("shapes.1", MESSAGES["shapes.1"])
def layer_backward(answer) -> Verdict:
    rng = torch.Generator().manual_seed(51)
    for n, d, k in ((7, 5, 3), (4, 2, 6)):
        X, W, b, H_bar = (torch.randn(s, generator=rng) for s in ((n, d), (k, d), (k,), (n, k)))
        b = b * 2  # so that it decides where the ReLU is on
        X[0], b[0] = 0, 0  # z is 0 at one place
        got = call(answer, X.clone(), W.clone(), b.clone(), H_bar.clone())
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            shown = f"{len(got)} values" if isinstance(got, (tuple, list)) else type(got).__name__
            return "three", {"got": shown}
        z = X @ W.T + b
        gates = {
            "right": H_bar * (z > 0),
            "no relu": H_bar,
            "relu of gradient": H_bar.clamp(min=0),
            "no bias": H_bar * (z - b > 0),
            "at zero": H_bar * (z >= 0),
            "times h": H_bar * z.clamp(min=0),
            "mean": H_bar * (z > 0) / n,
        }
        back = {key: (gate @ W, gate.T @ X, gate.sum(0)) for key, gate in gates.items()}
        for at, name in enumerate(("X_bar", "W_bar", "b_bar")):
            want, mine = back["right"][at], _tensor(got[at])
            if near(mine, want, absolute=1e-5):
                continue
            if mine.shape != want.shape:
                return "shape", {"name": name, "got": tuple(mine.shape), "want": tuple(want.shape)}
            wrong = {key: one[at] for key, one in back.items() if key != "right"}
            key = first_match(mine, wrong, absolute=1e-5)
            return key, {"name": name} | _worst(mine, want)
    return "right"


def _worst(got: Tensor, want: Tensor) -> dict[str, Any]:
    """Where two tensors differ most, and by what."""
    at = int((got - want).abs().nan_to_num(nan=torch.inf).argmax())
    place = np.unravel_index(at, want.shape)
    return {
        "at": f"[{', '.join(str(int(k)) for k in place)}]",
        "expected": want.flatten()[at].item(),
        "found": got.flatten()[at].item(),
    }


@exercise("shapes.2", MESSAGES["shapes.2"])
def dead(answer) -> Verdict:
    rng = torch.Generator().manual_seed(52)
    for given, none in (((40, 10), 3), ((12, 8, 4, 5), 2)):
        h = (torch.randn(given, generator=rng) - 0.3).clamp(min=0)
        order = torch.randperm(given[1], generator=rng)
        h[:, order[:none]] = 0
        # On once, at one place, and hardly: this unit lives
        faint = h[:, order[none]].clone().zero_()
        faint[(-1,) * faint.ndim] = 1e-4
        h[:, order[none]] = faint
        expected, got = none / given[1], number(call(answer, h.clone()))
        if near(got, expected):
            continue
        told = {"given": given, "expected": expected, "got": got}
        others = tuple(a for a in range(h.ndim) if a != 1)
        rules: dict[str, Tensor | float] = {}
        if h.ndim > 2:
            rules["places"] = (h == 0).all(0).float().mean()
        rules |= {
            "zeros": (h == 0).float().mean(),
            "ever": (h == 0).sum(others).bool().float().mean(),
            "alive": 1 - expected,
            "per image": (h == 0).all(1).float().mean(),
            "sums": (h.mean(others) < 1e-3).float().mean(),
        }
        if not 0 <= got <= 1:
            return "range", {"got": got}
        return first_match(got, rules), told
    return "right"


def _forward(n: int, layers: list) -> int:
    for k, s, p in layers:
        n = (n + 2 * p - k) // s + 1
    return n


def _back(
    m: int, layers: list, *, left: int = 1, sides: int = 2, steps: int = 1, kernel: int = 1
) -> tuple[int, int]:
    """Smallest and largest input; each option is a mistake in its part of the formula."""
    low = high = m
    for k, s, p in reversed(layers):
        low = (low - steps) * s + kernel * k - sides * p
        high = (high - steps) * s + kernel * k - sides * p + (s - left)
    return low, high


@exercise("shapes.3", MESSAGES["shapes.3"])
def input_sizes(answer) -> Verdict:
    cases: tuple[tuple[int, list[tuple[int, int, int]]], ...] = (
        (5, [(5, 3, 1)]),
        (6, [(7, 2, 3), (3, 1, 0), (2, 2, 0)]),
        (4, [(2, 3, 0), (5, 2, 1), (3, 1, 1)]),
    )
    for m, layers in cases:
        want = _back(m, layers)
        got = call(answer, m, list(layers))
        if isinstance(got, (range, set, frozenset, Iterator)):
            got = sorted(got)
        found = as_array(got)
        if found.ndim != 1 or not found.size or not np.isfinite(found).all():
            return "form", {"got": type(got).__name__}
        exactly: dict[str, float] = {"rel": 0.0, "absolute": 1e-6}
        if near(found, want, **exactly) or near(found, range(want[0], want[1] + 1), **exactly):
            continue
        ends = (found[0], found[-1])
        shown = ", ".join(f"{v:g}" for v in ends)
        told: dict[str, Any] = {"told": f"m = {m} and layers {layers}", "got": f"({shown})"}
        told["expected"] = want
        low = want[0]
        wrong = {
            "swapped": [want[::-1]],
            "one": [(low, low), (want[1], want[1])],
            "order": [_back(m, layers[::-1])],
            "last only": [(low, low + layers[0][1] - 1), (low, low + layers[-1][1] - 1)],
            "padding": [_back(m, layers, sides=-2)],
            "padding once": [_back(m, layers, sides=1)],
            "no padding": [_back(m, layers, sides=0)],
            "edge": [_back(m, layers, steps=0), _back(m, layers, kernel=0)],
            "much": [_back(m, layers, left=0)],
        }
        if len(layers) == 1:  # the first case: there is no order to mistake
            del wrong["order"], wrong["last only"]
        keys = (key for key, some in wrong.items() if any(near(ends, w, **exactly) for w in some))
        return next(keys, "other"), told
    return "right"


def _walked(n: int) -> int:
    return ((n - 2) // 2 - 2) // 2


FEATURES: dict[str, Callable] = {
    "padded": lambda h, w: 32 * (h // 4) * (w // 4),
    "channels": lambda h, w: _walked(h) * _walked(w),
    "first channels": lambda h, w: 16 * _walked(h) * _walked(w),
    "square": lambda h, w: 32 * _walked(h) ** 2,
    "square, by columns": lambda h, w: 32 * _walked(w) ** 2,
    "not rounded": lambda h, w: 32 * ((h - 6) / 4) * ((w - 6) / 4),
    "not rounded, until the end": lambda h, w: 32 * (h - 6) * (w - 6) // 16,
    "rounded up": lambda h, w: 32 * (((h - 1) // 2 - 2) // 2) * (((w - 1) // 2 - 2) // 2),
    "one pool": lambda h, w: 32 * ((h - 4) // 2) * ((w - 4) // 2),
    "one pool, the first": lambda h, w: 32 * ((h - 2) // 2 - 2) * ((w - 2) // 2 - 2),
    "late": lambda h, w: 32 * ((h - 4) // 4) * ((w - 4) // 4),
    "one pixel": lambda h, w: 32 * (((h - 1) // 2 - 1) // 2) * (((w - 1) // 2 - 1) // 2),
}


@exercise("shapes.4", MESSAGES["shapes.4"])
def flat_features(answer) -> Verdict:
    stack = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
    )
    cases = ((64, 64), (101, 76), (50, 83), (29, 49))
    expected = [stack(torch.zeros(1, 1, *case)).shape[1] for case in cases]
    got = [number(call(answer, *case)) for case in cases]
    at = next((i for i, want in enumerate(expected) if got[i] != want), None)
    if at is None:
        return "right"
    told = {"height": cases[at][0], "width": cases[at][1]}
    key = _everywhere(got, FEATURES, cases).split(",")[0]
    return key, told | {"expected": expected[at], "got": got[at]}


Score = Callable[[Tensor], Tensor]
BLIND = "normalises each image"


def _scorers(n: int, rng: torch.Generator) -> dict[str, tuple[Score, Tensor]]:
    """Networks (N, 1, 4, 4) → (N, 3), each with the matrix of which image moves which score."""
    w = torch.randn(16, 3, generator=rng)

    def alone(x: Tensor) -> Tensor:
        return x.flatten(1) @ w

    def mixes(x: Tensor, k: int) -> Tensor:
        z = alone(x)
        z[:, k] += z[:, k].roll(1)
        return z

    def normalised(x: Tensor) -> Tensor:
        x = x.flatten(1).double()
        z = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) @ w.double()
        return z.detach().round(decimals=4) + (z - z.detach())  # rounding errors are no answer

    def pairs(n: int) -> Tensor:
        pair = torch.arange(n) // 2
        return pair[:, None] == pair

    own = torch.eye(n, dtype=torch.bool)
    after = own | own.roll(1, 0)
    return {
        "keeps patients apart": (alone, own),
        "hands each score to the next patient": (lambda x: alone(x).roll(1, 0), own.roll(1, 0)),
        "adds up the patients 0 and 1, 2 and 3, …": (
            lambda x: pairs(len(x)).float() @ alone(x),
            pairs(n),
        ),
        "mixes the first class": (lambda x: mixes(x, 0), after),
        "mixes the last class": (lambda x: mixes(x, 2), after),
        "takes the softmax over the batch": (
            lambda x: alone(x / 4).softmax(0),
            torch.ones(n, n).bool(),
        ),
        BLIND: (normalised, own),
    }


@exercise("shapes.6", MESSAGES["shapes.6"])
def who(answer) -> Verdict:
    rng = torch.Generator().manual_seed(55)
    n = 6
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for kind, (model, want) in _scorers(n, rng).items():
        raw = call(answer, model, torch.randn(n, 1, 4, 4, generator=rng))
        found = as_array(raw)
        if found.shape != (n, n) or not np.isin(found, (0, 1)).all():
            told = "other values" if found.shape == (n, n) else shape_or_type(raw)
            return "form", {"n": n, "got": told}
        seen[kind] = torch.from_numpy(found).bool(), want
    if all(torch.equal(got, want) for got, want in seen.values()):
        return "right"
    own = torch.eye(n, dtype=torch.bool)

    def each(rule: Callable[[Tensor], Tensor]) -> bool:
        return all(torch.equal(got, rule(want)) for got, want in seen.values())

    if each(lambda want: want.T):
        return "turned"
    if each(lambda want: ~want):
        return "inverted"
    if each(lambda want: want & ~own):
        return "strangers"
    if not any((got & ~own).any() for got, _ in seen.values()):
        return "alone"
    if each(lambda want: want.long().cumsum(1).bool()):
        return "left"
    wrong = {kind for kind, (got, want) in seen.items() if not torch.equal(got, want)}
    if wrong == {"mixes the first class", "mixes the last class"}:
        return "every class"
    if wrong in ({"mixes the first class"}, {"mixes the last class"}):
        return "one class", {"k": 3}
    if wrong == {BLIND}:
        return "blind"
    kind, (got, want) = next(item for item in seen.items() if not torch.equal(*item[1]))
    i, j = (got != want).nonzero()[0].tolist()
    values = {"expected": bool(want[i, j]), "found": bool(got[i, j])}
    return "other", {"kind": kind, "at": f"[{i}, {j}]"} | values


@exercise("shapes.7", MESSAGES["shapes.7"])
def net(answer) -> Verdict:
    if not (isinstance(answer, type) and issubclass(answer, nn.Module)):
        return "class", {"got": getattr(answer, "__name__", type(answer).__name__)}
    rng = torch.Generator().manual_seed(56)
    sizes, mean = [5, 7, 4, 3], torch.randn(5, generator=rng)
    spread, x = 1 + torch.rand(5, generator=rng), 3 * torch.randn(9, 5, generator=rng)
    try:
        model = call(answer, list(sizes), mean.clone(), spread.clone())
    except Wrong as told:
        if "Module.__init__" in str(told.values.get("error")):
            return "no super"
        raise
    call(model, x.clone())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shapes = sorted(tuple(p.shape) for p in trained.values())
    want = sorted([(b, a) for a, b in pairwise(sizes)] + [(b,) for b in sizes[1:]])
    if (5,) in shapes:  # no layer has five outputs
        return "trained"
    if len(shapes) < len(want):
        return "list", {"got": len(shapes), "want": len(want)}
    if shapes != want:
        return "sizes", {"sizes": sizes, "want": want, "got": shapes}
    # Mean and spread as two buffers, as one of both, or as parameters that are frozen
    frozen = [p for p in model.parameters() if not p.requires_grad]
    if sum(v.numel() for v in (*model.buffers(), *frozen)) < 10:
        return "left"
    if sum(v.numel() for name, v in model.state_dict().items() if name not in trained) < 10:
        return "not saved"
    # Weights of its own, so that no score depends on what the learner happened to draw
    with torch.no_grad():
        for p in trained.values():
            p.copy_(torch.randn(p.shape, generator=rng))
    found = _tensor(call(model, x.clone()))
    if tuple(found.shape) != (9, 3):
        return "shape", {"given": (9, 5), "got": tuple(found.shape), "want": (9, 3)}
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    linear.sort(key=lambda layer: sizes.index(layer.in_features))

    def run(h: Tensor, *, between: bool = True, last: bool = False) -> Tensor:
        for layer in linear[:-1]:
            h = layer(h).relu() if between else layer(h)
        h = linear[-1](h)
        return h.relu() if last else h

    z = (x - mean) / spread
    wrong = {
        "last relu": run(z, last=True),
        "no relu": run(z, between=False),
        "not standardised": run(x),
    }
    expected = run(z)
    if near(found, expected, absolute=1e-5):
        return "right"
    return first_match(found, wrong, absolute=1e-5), _worst(found, expected.detach())


@exercise("shapes.5", MESSAGES["shapes.5"])
def largest_batch(answer) -> Verdict:
    small = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    small.append(nn.Linear(4 * 7 * 5, 150))
    for net, size, budget in (
        (small, (1, 16, 12), 1_000_000),
        (nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU()), (3, 20, 30), 5_000_003),
    ):
        image = torch.zeros(size)
        outputs, x = [], image[None]
        for layer in net:
            x = layer(x)
            outputs.append(x.numel())
        held = sum(p.numel() for p in net.parameters())
        each, room = image.numel() + sum(outputs), budget // 4
        expected = (room - 4 * held) // each
        got = number(call(answer, net, image.clone(), budget))
        if got == expected:
            continue
        told = {"told": f"an image {size} and {budget:,} bytes", "expected": expected, "got": got}
        wrong = {
            "rounded": -(-(room - 4 * held) // each),
            "no parameters": room // each,
            "parameters once": (room - held) // each,
            "parameters each": room // (each + 4 * held),
            "bytes": (budget - 4 * held) // each,
            "no input": (room - 4 * held) // sum(outputs),
            "last": (room - 4 * held) // outputs[-1],
        }
        if got != int(got):
            return "number", {"got": got}
        return next((key for key, value in wrong.items() if got == value), "other"), told
    return "right"
