"""Exercises of notebook 23: LSTM, GRU, gradients through time, a bias, a memory, padding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, combinations, permutations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near, number

MESSAGES = {
    "recurrent.1": {
        "right": "that is nn.LSTM, and each of its steps nn.LSTMCell.",
        "shape": "I expected all states, a tensor of shape {expected}; got {got}.",
        "time first": "the states are right, and their steps stand first: stack along dimension 1.",
        "last": "the last state is right. Return those of all steps, {expected}.",
        "pair": "you return two things, as nn.LSTM does. Return h of all steps alone.",
        "frozen": "h does not travel: each step has to begin with the h of the one before.",
        "early": "you keep h before the step changes it: the first that counts is h₁.",
        "cell": "you return c. What the layer gives is h = o ⊙ tanh(c).",
        "o c": "the tanh is missing in h = o ⊙ tanh(c).",
        "no output gate": "h is o ⊙ tanh(c); the output gate is missing.",
        "old c": "h takes the old c. Renew c first: h = o ⊙ tanh(c) with the new one.",
        "new only": "the old c is lost: c = f ⊙ c + i ⊙ g, from step to step.",
        "ungated": "what is new enters whole: c = f ⊙ c + i ⊙ g.",
        "no forget": "the old c stays whole: c = f ⊙ c + i ⊙ g.",
        "g gated": "g is no gate: it goes through a tanh, not through a sigmoid.",
        "bare g": "g goes through a tanh.",
        "no sigmoid": "i, f and o are gates: send their sums through a sigmoid.",
        "twice": "your gates go through a sigmoid twice. Once will do.",
        "transposed": "each part of V is turned round: h @ V.T, as in the step above, not h @ V.",
        "no first bias": "the first bias, b, does not reach your answer.",
        "no second bias": "the second bias, d, does not reach your answer.",
        "order": "you took the parts in the order {order}. PyTorch stacks i, f, g, o.",
        "other": "of curve 0 I expected {expected} after {steps} steps, and got {got}.",
    },
    "recurrent.2": {
        "right": "that is nn.GRU, and each of its steps nn.GRUCell.",
        "shape": "I expected all states, a tensor of shape {expected}; got {got}.",
        "time first": "the states are right, and their steps stand first: stack along dimension 1.",
        "last": "the last state is right. Return those of all steps, {expected}.",
        "pair": "you return two things, as nn.GRU does. Return the states of all steps alone.",
        "frozen": "the state does not travel: each step has to begin with the h of the one before.",
        "early": "you keep h before the step changes it: the first that counts is h₁.",
        "paper": "that is the paper's form, the reset gate before the product. PyTorch multiplies "
        "after it: r ⊙ (V_n h + d_n).",
        "bias outside": "your second bias d_n stands outside the reset gate. It belongs within: "
        "r ⊙ (V_n h + d_n).",
        "no d_n": "d_n is left out: the reset gate multiplies V_n h + d_n.",
        "inside": "your reset gate multiplies what comes from x, too. It acts on V_n h + d_n only.",
        "no reset": "the reset gate does not reach your answer: it multiplies V_n h + d_n.",
        "inverted": "your update gate is turned round: where u is 1, the old state stays.",
        "no tanh": "the new content n goes through a tanh.",
        "no sigmoid": "r and u are gates: send their sums through a sigmoid.",
        "twice": "your gates go through a sigmoid twice. Once will do.",
        "new alone": "you return n. The new state mixes it with the old one, by the update gate.",
        "mix": "the old state and n share the new one, u ⊙ h + (1 − u) ⊙ n: one share is wrong.",
        "transposed": "each part of V is turned round: h @ V.T, as in the steps above, not h @ V.",
        "no first bias": "the first bias, b, does not reach your answer.",
        "no second bias": "the second bias, d, does not reach your answer.",
        "order": "you took the parts in the order {order}. PyTorch stacks reset, update, new.",
        "other": "of curve 0 I expected {expected} after {steps} steps, and got {got}.",
    },
    "recurrent.3": {
        "right": "as autograd has it: sums over the steps for V and b, a product for h₀.",
        "format": "I expected three tensors, for V, b and h₀, of shapes {expected}; got {got}.",
        "no transpose": "the way back is Vᵀ z̄; you used V.",
        "outer": "your gradient of V is transposed: rows belong to z̄, columns to h_{{t−1}}.",
        "last step": "only the last step is in your gradients. V and b serve at each: add up.",
        "first step": "only the first step is in your gradients: add to the sums at each step.",
        "mean": "you averaged over the steps. V and b serve at each, so the summands add up.",
        "no tanh": "the slope of the tanh is missing: z̄ = (1 − h²) ⊙ h̄.",
        "slope": "the slope of the tanh at step t is 1 − h_t², with the state that it gave.",
        "no square": "the slope of the tanh is 1 − h_t²; you left out the square.",
        "tanh twice": "hs are states already, h = tanh(z): the slope is 1 − h², no tanh again.",
        "same": "you used the same gradient at every step. It has to travel: h̄ of step t − 1 is "
        "Vᵀ z̄ of step t.",
        "late state": "in the sum stands h_{{t−1}}, the state that V multiplied, not h_t.",
        "h in the sum": "in the sums stands z̄, behind the slope of the tanh, not h̄.",
        "h on the way": "what goes on with Vᵀ is z̄, behind the slope of the tanh, not h̄.",
        "moved on": "your sums take h̄ of step t − 1. Add z̄ of step t before Vᵀ takes it on.",
        "slope last": "Vᵀ comes before the slope in yours. First z̄ = (1 − h²) ⊙ h̄, then Vᵀ z̄.",
        "forwards": "you went from t = 1 to T. The gradient starts at T: go backwards.",
        "one back": "those of V and b are right. Yours of h₀ lacks the last step back, Vᵀ z̄₁.",
        "short": "a step is missing at one end: t goes from T down to 1, both included.",
        "long": "one step too many: t goes from T down to 1, and no tanh of yours gave h₀.",
        "some": "right: {right}. Wrong: {wrong}.",
    },
    "recurrent.4": {
        "right": "half over 50 steps needs a bias of 4.27: the gate stands at 0.986.",
        "gate": "you return f itself. The bias is where the sigmoid is f.",
        "sign": "your sign is turned: the sigmoid of your bias is 1 − f.",
        "power": "f^T = kept, so f is the T-th root, kept ** (1 / steps).",
        "divided": "the gate multiplies at each step, so kept is f^T: a root, not a quotient.",
        "no log": "you return the odds, f / (1 − f). The bias is their logarithm.",
        "no odds": "you return log f. The sigmoid is turned round by log(f / (1 − f)).",
        "spread": "you divide the logit of kept by the steps. First the root, f, then its logit.",
        "base": "log to the base {base:g}: the sigmoid is built on e.",
        "other": "to keep {kept:g} over {steps} steps I expected {expected:.4f}; got {got:.4f}.",
    },
    "recurrent.5": {
        "right": "your cell holds the value, with a mean error of {error:.4f}.",
        "format": "I expected the nn.LSTMCell(2, 1) itself, with its weights; got {got}.",
        "random": "weights that PyTorch drew are still in {where}, so your cell does something "
        "else each time: set all four, the state's weights and the second bias too.",
        "order": "with gates stacked as {order} it would work. PyTorch's order is i, f, g, o.",
        "never opens": "at a mark the input gate lets {share:.0%} enter. It has to be open there: "
        "its sum well above 0.",
        "leaks": "values without a mark enter too: of one never marked, {got:.3f} is in c. "
        "Shut the input gate firmly where the mark is 0.",
        "forgets": "right after the mark the value is there, and {steps} steps later {share:.0%} "
        "of it. Open the forget gate further.",
        "adds": "a second mark adds to what is there. The forget gate has to shut at a mark.",
        "constant": "c is {got:.3f} where 0 was marked: a bias of g enters.",
        "scale": "c is {slope:.2f} times the marked value: g should be tanh(v), with weight 1.",
        "other": "the mean error is {error:.3f}; it has to be below {limit}.",
    },
    "recurrent.6": {
        "right": "a curve gets the same answer alone, in company, and however long the padding.",
        "shape": "I expected what head gives, {expected}; got {got}.",
        "padding matters": "what stands in the padding reaches your answer: I changed the one, "
        "and the other changed.",
        "by value": "you took zeros for padding. A measured 0 is an image too: go by lengths.",
        "last column": "you read the last column: for a short curve that lies in the padding.",
        "backward": "the backward direction ends at the first image: its last output stands at "
        "step 0. At the last valid step it has seen one image.",
        "step 0": "the forward direction has seen one image at step 0. Its last output stands at "
        "the last valid step.",
        "mixed": "the last states stand in (directions, N, H): `torch.cat([*last], 1)`. A reshape "
        "mixes the curves.",
        "mean": "your mean divides by {columns} columns. Divide by the number of valid steps.",
        "sum": "you add up the valid steps: a mean divides by their number.",
        "all of them": "`outputs[:, lengths - 1]` takes all these steps of every curve. Take one "
        "of each: index the curves, too.",
        "width": "head wants {expected} numbers of each curve: the last output of each direction, "
        "then the mean.",
        "one way": "this GRU has one direction: its last state has one row. Of outputs, the first "
        "`gru.hidden_size` columns are forward, and what is left backward: here nothing.",
        "padded": "the GRU ran through the padding, and the backward direction starts there: give "
        "it the packed batch.",
        "off": "you picked a step beside the last valid one: counted from 0, it is lengths − 1.",
        "order": "the answers are right and stand in another order than the batch.",
        "turned": "head expects forward, backward, mean, in this order.",
        "unsorted": "the curves of a batch come in any order: `enforce_sorted=False`.",
        "batch first": "curves are (N, T, D): `batch_first=True`, for packing and unpacking.",
        "other": "of curve {k}, of {length} images, I expected {expected:.4f}, and got {got:.4f}.",
    },
}


# --- 1 and 2: LSTM and GRU ---

_LSTM = (
    "frozen", "cell", "early", "o c", "no output gate", "old c", "new only", "ungated",
    "no forget", "g gated", "bare g", "no sigmoid", "twice", "bare gates", "transposed",
    "no first bias", "no second bias",
)  # fmt: skip
_GRU = (
    "frozen", "new alone", "early", "paper", "bias outside", "no d_n", "inside", "no reset",
    "inverted", "no tanh", "n gated", "no sigmoid", "twice", "bare gates", "n whole", "old lost",
    "old whole", "transposed", "no first bias", "no second bias",
)  # fmt: skip
_CALLED = {"n gated": "no tanh", "bare gates": "no sigmoid"} | dict.fromkeys(
    ("n whole", "old lost", "old whole"), "mix"
)


def _spoilt(weights: tuple, how: tuple) -> tuple[Tensor, ...]:
    """Weights as an answer takes them that forgets a bias, or multiplies by V the wrong way."""
    W, V, b, d = weights
    if "transposed" in how:
        V = V.unflatten(0, (-1, V.shape[1])).transpose(1, 2).flatten(0, 1)
    return W, V, b * ("no first bias" not in how), d * ("no second bias" not in how)


def _squash(z: Tensor, how: tuple) -> Tensor:
    """A gate of its sum."""
    if "bare gates" in how:
        return z
    gate = torch.tanh(z) if "no sigmoid" in how else torch.sigmoid(z)
    return torch.sigmoid(gate) if "twice" in how else gate


def _lstm(x: Tensor, weights: tuple, how: tuple = (), order: tuple = (0, 1, 2, 3)) -> Tensor:
    """nn.LSTM with mistakes; `order` says where i, f, g, o are looked for."""
    W, V, b, d = _spoilt(weights, how)
    h = c = torch.zeros(len(x), V.shape[1])
    states, cells = [h], [c]
    for t in range(x.shape[1]):
        parts = (x[:, t] @ W.T + b + h * ("frozen" not in how) @ V.T + d).chunk(4, 1)
        i, f, g, o = (parts[k] for k in order)
        i, f, o = (_squash(gate, how) for gate in (i, f, o))
        g = torch.sigmoid(g) if "g gated" in how else g if "bare g" in how else torch.tanh(g)
        kept = c if "no forget" in how else f * c * ("new only" not in how)
        c = kept + (g if "ungated" in how else i * g)
        shown = cells[-1] if "old c" in how else c
        h = shown if "o c" in how else torch.tanh(shown)
        h = h if "no output gate" in how else o * h
        states.append(h)
        cells.append(c)
    given = cells if "cell" in how else states
    return torch.stack(given[:-1] if "early" in how else given[1:], 1)


def _gru(x: Tensor, weights: tuple, how: tuple = (), order: tuple = (0, 1, 2)) -> Tensor:
    """nn.GRU with mistakes; `order` says where reset, update, new are looked for."""
    W, V, b, d = _spoilt(weights, how)
    h, states = torch.zeros(len(x), V.shape[1]), []
    bend = torch.sigmoid if "n gated" in how else torch.tanh
    at, bias = V.chunk(3)[order[2]], d.chunk(3)[order[2]]
    for t in range(x.shape[1]):
        states.append(h)
        h = h * ("frozen" not in how)
        from_x, from_h = (x[:, t] @ W.T + b).chunk(3, 1), (h @ V.T + d).chunk(3, 1)
        (r_x, u_x, n_x), (r_h, u_h, n_h) = ([part[k] for k in order] for part in (from_x, from_h))
        r, u = _squash(r_x + r_h, how), _squash(u_x + u_h, how)
        r = torch.ones_like(r) if "no reset" in how else r
        inner = n_x + r * n_h
        inner = n_x + (r * h) @ at.T + bias if "paper" in how else inner
        inner = n_x + r * (h @ at.T) + bias if "bias outside" in how else inner
        inner = n_x + r * (h @ at.T) if "no d_n" in how else inner
        inner = r * (n_x + n_h) if "inside" in how else inner
        n = inner if "no tanh" in how else bend(inner)
        u = 1 - u if "inverted" in how else u
        old, new = u * h * ("old lost" not in how), n if "n whole" in how else (1 - u) * n
        old = h if "old whole" in how else old
        h = n if "new alone" in how else old + new
    states.append(h)
    return torch.stack(states[:-1] if "early" in how else states[1:], 1)


def _tensor(answer: Any) -> Any:
    """An array, or states that stand in a list or tuple, as one tensor; the rest as it is."""
    if isinstance(answer, list | tuple):
        shapes = {p.shape if torch.is_tensor(p) else () for p in answer}
        if len(shapes) == 1 and len(shapes.pop()) == 2:
            return torch.stack(tuple(answer), 1)
    return torch.as_tensor(answer) if isinstance(answer, np.ndarray) else answer


def _layer(answer: Any, kind: type, by_hand: Any, ways: tuple, names: tuple) -> Verdict:
    """Judges a layer written by hand against PyTorch's."""
    for seed, (n, steps, d, size) in enumerate(((4, 3, 2, 3), (2, 6, 3, 5), (1, 1, 1, 1))):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer = kind(d, size, batch_first=True).requires_grad_(False)
            x = torch.randn(n, steps, d)
        for p in layer.parameters():
            p.mul_(2)
        weights = tuple(layer.parameters())
        want = layer(x)[0]
        got = _tensor(call(answer, x.clone(), *(p.clone() for p in weights)))
        if isinstance(got, tuple) and len(got) == 2:
            return "pair"
        if not torch.is_tensor(got) or got.shape != want.shape:
            for key, some in (("last", want[:, -1]), ("time first", want.transpose(0, 1))):
                if torch.is_tensor(got) and _same(got, some):
                    return key, {"expected": tuple(want.shape)}
            shape = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
            return "shape", {"expected": tuple(want.shape), "got": shape}
        if _same(got, want):
            continue
        one, two = list(combinations(ways, 1)), combinations(ways, 2)
        right, *orders = permutations(range(len(names)))
        for how, order in chain(
            product(one, [right]),
            product([()], orders),
            product(two, [right]),
            product(one, orders),
        ):
            if near(got, by_hand(x, weights, how, order), rel=1e-3, absolute=1e-4):
                if order == right:
                    return _CALLED.get(how[0], how[0])
                return "order", {"order": ", ".join(names[order.index(k)] for k in right)}
        told = ([round(v, 3) for v in part[0, -1].tolist()] for part in (want, got))
        return "other", {"steps": steps, **dict(zip(("expected", "got"), told, strict=True))}
    return "right"


@exercise("recurrent.1", MESSAGES["recurrent.1"])
def lstm(answer) -> Verdict:
    return _layer(answer, nn.LSTM, _lstm, _LSTM, tuple("ifgo"))


@exercise("recurrent.2", MESSAGES["recurrent.2"])
def gru(answer) -> Verdict:
    return _layer(answer, nn.GRU, _gru, _GRU, ("reset", "update", "new"))


def _same(got: Any, want: Any) -> bool:
    return near(got, want, rel=1e-6, absolute=1e-6)


# --- 3: gradients through time ---

_BACK = (
    "no transpose", "outer", "last step", "first step", "mean", "no tanh", "slope", "no square",
    "tanh twice", "same", "late state", "h in the sum", "h on the way", "forwards", "short",
    "late start", "long", "one back", "moved on", "slope last",
)  # fmt: skip


def _back(hs: Tensor, V: Tensor, h_bar: Tensor, how: tuple = ()) -> list[Tensor]:
    """Gradients of V, b and h₀, with mistakes."""
    V_bar, b_bar, last = torch.zeros_like(V), torch.zeros_like(h_bar), len(hs) - 1
    first = z_bar = h_bar
    steps = list(range(last, -1 if "long" in how else 0, -1))
    steps = steps[:: -1 if "forwards" in how else 1]
    steps = steps[1 if "late start" in how else 0 : -1 if "short" in how else None]
    for t in steps:
        h_bar = first if "same" in how else h_bar
        state = hs[t - 1] if "slope" in how else hs[t]
        state = torch.tanh(state) if "tanh twice" in how else state
        slope = 1 - (state if "no square" in how else state**2)
        h_bar = V.T @ h_bar if "slope last" in how else h_bar
        z_bar = h_bar if "no tanh" in how else h_bar * slope
        along = h_bar if "h on the way" in how else z_bar
        moved = V @ along if "no transpose" in how else V.T @ along
        moved = along if "slope last" in how else moved
        summand = h_bar if "h in the sum" in how else z_bar
        summand = moved if "moved on" in how else summand
        added = torch.outer(summand, hs[t if "late state" in how else t - 1])
        added = added.T if "outer" in how else added
        old, new = "first step" not in how, "last step" not in how or t == last
        V_bar, b_bar = V_bar * old + added * new, b_bar * old + summand * new
        h_bar = moved
    share = last if "mean" in how else 1
    return [V_bar / share, b_bar / share, z_bar if "one back" in how else h_bar]


@exercise("recurrent.3", MESSAGES["recurrent.3"])
def through_time(answer) -> Verdict:
    for seed, (steps, size) in enumerate(((4, 3), (7, 2), (1, 2))):
        rng = torch.Generator().manual_seed(seed)
        sums, h_bar = torch.randn(steps, size, generator=rng), torch.randn(size, generator=rng)
        drawn = ((size, size), (size,), (size,))
        V, b, start = given = [torch.randn(s, generator=rng).requires_grad_() for s in drawn]
        states = [start]
        for one in sums:
            states.append(torch.tanh(one + V @ states[-1] + b))
        want = list(torch.autograd.grad(states[-1] @ h_bar, given))
        hs, V = torch.stack(states).detach(), V.detach()
        got = call(answer, hs.clone(), V.clone(), h_bar.clone())
        got = list(got) if isinstance(got, tuple | list) else [got]
        if any(part is ... for part in got):
            raise NotAttempted
        shapes = [tuple(p.shape) if torch.is_tensor(p) else np.shape(p) for p in got]
        if shapes != list(drawn):
            said = [", ".join(map(str, some)) for some in (drawn, shapes)]
            return "format", {"expected": said[0], "got": said[1]}
        fits = _equal(got, want)
        if all(fits):
            continue
        for how in chain(combinations(_BACK, 1), combinations(_BACK, 2)):
            if all(_equal(got, _back(hs, V, h_bar, how))):
                return "short" if how[0] == "late start" else how[0]
        names = ("V", "b", "h₀")
        told = [[n for n, fit in zip(names, fits, strict=True) if fit is w] for w in (True, False)]
        right, wrong = (", ".join(part) or "none" for part in told)
        return "some", {"right": right, "wrong": wrong}
    return "right"


def _equal(some: list, others: list[Tensor]) -> list[bool]:
    return [near(a, b, rel=1e-4, absolute=1e-5) for a, b in zip(some, others, strict=True)]


# --- 4: a bias ---


@exercise("recurrent.4", MESSAGES["recurrent.4"])
def forget_bias(answer) -> Verdict:
    for steps, kept in ((8, 0.9), (50, 0.5), (200, 0.05), (1, 0.25), (3, 0.001)):
        f = kept ** (1 / steps)
        expected, got = math.log(f / (1 - f)), number(call(answer, steps, kept))
        if math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-4):
            continue
        known: dict[str, Any] = {
            "gate": f,
            "sign": -expected,
            "no log": f / (1 - f),
            "no odds": math.log(f),
            "power": _logit(kept**steps),
            "divided": _logit(kept / steps),
            "spread": _logit(kept) / steps,
        }
        for key, wrong in known.items():
            if math.isclose(got, wrong, rel_tol=1e-3, abs_tol=1e-6):
                return key
        if math.isclose(got, _logit(1 - (1 - kept) / steps), rel_tol=1e-3):
            return "divided"
        for base in (2.0, 10.0):
            if math.isclose(got, expected / math.log(base), rel_tol=1e-3):
                return "base", {"base": base}
        return "other", {"kept": kept, "steps": steps, "expected": expected, "got": got}
    return "right"


def _logit(p: float) -> float:
    return math.log(p / (1 - p)) if 0 < p < 1 else math.nan


# --- 5: a memory ---

_LIMIT = 0.02
_GATES = "ifgo"


def _run(cell: nn.LSTMCell, values: Tensor, marks: Tensor) -> Tensor:
    """c after each step, (T, N), of curves (T, N)."""
    state, seen = (torch.zeros(values.shape[1], 1),) * 2, []
    for step in torch.stack([values, marks], 2):
        state = cell(step, state)
        seen.append(state[1][:, 0])
    return torch.stack(seen)


def _held(cell: nn.LSTMCell) -> float:
    """Mean error over curves of one length with one mark to three; the worst of four lengths."""
    errors = []
    for seed, steps in enumerate((2, 9, 30, 60)):
        rng = torch.Generator().manual_seed(seed)
        values = 0.8 * torch.rand(steps, 40, generator=rng) - 0.4
        marks = torch.zeros(steps, 40)
        for several in (1, 2, 3):
            columns = slice(0, 40, several)
            at = torch.randint(0, steps, (len(range(40)[columns]),), generator=rng)
            marks[at, torch.arange(40)[columns]] = 1
        last = (marks * torch.arange(1, steps + 1)[:, None]).argmax(0)
        wanted = values[last, torch.arange(40)]
        errors.append((_run(cell, values, marks)[-1] - wanted).abs().mean().item())
    return max(errors)


def _drawn(seed: int) -> nn.LSTMCell:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.LSTMCell(2, 1)


@exercise("recurrent.5", MESSAGES["recurrent.5"])
def holder(answer) -> Verdict:
    cells = []
    for seed in (0, 1):
        before = _drawn(seed)
        cell = call(answer, _drawn(seed))
        if not isinstance(cell, nn.LSTMCell) or cell.weight_ih.shape != (4, 2):
            return "format", {"got": type(cell).__name__}
        if all(
            torch.equal(*pair) for pair in zip(cell.parameters(), before.parameters(), strict=True)
        ):
            raise NotAttempted
        cells.append(cell.requires_grad_(False))
    error = max(map(_held, cells))
    if error < _LIMIT:
        return "right", {"error": error}
    for (name, one), other in zip(cells[0].named_parameters(), cells[1].parameters(), strict=True):
        if not torch.equal(one, other):
            return "random", {"where": name}
    cell = cells[0]
    for order in list(permutations(range(4)))[1:]:
        restacked = _drawn(0).requires_grad_(False)
        for part, mine in zip(restacked.parameters(), cell.parameters(), strict=True):
            part.copy_(mine[list(order)])
        if _held(restacked) < _LIMIT:
            return "order", {"order": ", ".join(_GATES[order.index(k)] for k in range(4))}
    zero, start = torch.zeros(60, 1), torch.zeros(60, 1)
    start[0] = 1
    offset = _run(cell, zero, start)
    if offset[0].abs() > 0.01:
        return "constant", {"got": offset[0].item()}
    kept = _run(cell, 0.4 * start, start)
    at_mark = cell.weight_ih[0] @ torch.tensor([0.4, 1]) + cell.bias_ih[0] + cell.bias_hh[0]
    if (share := torch.sigmoid(at_mark).item()) < 0.97:
        return "never opens", {"share": share}
    if abs(kept[0].item() / 0.4 - 1) > 0.08:
        return "scale", {"slope": kept[0].item() / 0.4}
    leaked = _run(cell, 0.4 * start.flip(0), zero)[-1].item()
    if abs(leaked) > 0.005:
        return "leaks", {"got": leaked}
    if kept[-1] / kept[0] < 0.95:
        return "forgets", {"steps": 59, "share": (kept[-1] / kept[0]).item()}
    twice = start + start.roll(1, 0)
    if (_run(cell, 0.2 * twice, twice)[1] - 0.2).abs() > 0.02:
        return "adds"
    return "other", {"error": error, "limit": _LIMIT}


# --- 6: padding ---


def _last(gru: nn.GRU, outputs: Tensor) -> Tensor:
    """Last output of each direction, from those (T, H) or (T, 2H) of one curve."""
    return torch.cat([outputs[-1, : gru.hidden_size], outputs[0, gru.hidden_size :]])


def _alone(gru: nn.GRU, head: nn.Linear, curves: list[Tensor]) -> Tensor:
    """What each curve gets without any padding."""
    outputs = [gru(curve[None])[0][0] for curve in curves]
    return torch.stack([head(torch.cat([_last(gru, one), one.mean(0)])) for one in outputs])


def _wrong_ways(
    gru: nn.GRU, head: nn.Linear, x: Tensor, curves: list[Tensor]
) -> Iterator[tuple[str, dict[str, int], Tensor]]:
    """Typical mistakes: key, values of its sentence, and the answers that it gives."""
    lengths = torch.tensor([len(curve) for curve in curves])
    rows, size = torch.arange(len(x)), gru.hidden_size
    each = [gru(curve[None])[0][0] for curve in curves]
    clean, padded = pad_sequence(each, batch_first=True), gru(x)[0]
    seen = [curve[: max(1, int((curve != 0).any(1).sum()))] for curve in curves]
    yield "by value", {}, _alone(gru, head, seen)
    right = torch.stack([_last(gru, one) for one in each]), clean.sum(1) / lengths[:, None]
    halves = [right[0][:, size:], right[0][:, :size], right[1]]
    for k in range(1, 1 if gru.bidirectional else size):
        parted = torch.stack([torch.cat([one[-1, :k], one[0, k:]]) for one in each])
        yield "one way", {}, head(torch.cat([parted, right[1]], 1))
    for parts in (right[::-1], halves):
        yield "turned", {}, head(torch.cat(parts, 1))
    for outputs in (clean, padded):
        valid = (torch.arange(outputs.shape[1]) < lengths[:, None])[..., None]
        forward, backward = outputs[..., :size], outputs[:, 0, size:]
        at = {"": lengths - 1, "last column": lengths * 0 - 1, "step 0": lengths * 0}
        at["off"] = lengths - 2
        lasts = [(key, torch.cat([forward[rows, t], backward], 1)) for key, t in at.items()]
        lasts += [("last column", outputs[:, -1]), ("backward", outputs[rows, lengths - 1])]
        if outputs is padded:
            lasts.append(("off", torch.cat([forward[rows, lengths], backward], 1)))
        elif backward.shape[1]:
            both = torch.stack([lasts[0][1][:, :size], backward])
            lasts.append(("mixed", both.reshape(len(x), -1)))
        inside = (outputs * valid).sum(1)
        means = [("", 0, inside / lengths[:, None]), ("sum", 0, inside)]
        means += [("mean", n, outputs.sum(1) / n) for n in (outputs.shape[1], x.shape[1])]
        means.append(("", 0, outputs.sum(1) / lengths[:, None]))
        measured = torch.tensor([len(curve) for curve in seen])[:, None]
        nonzero = (x[:, : outputs.shape[1]] != 0).any(2)[..., None]
        means += [("by value", 0, (outputs * m).sum(1) / measured) for m in (nonzero, valid)]
        for (end, last), (kind, n, mean) in product(lasts, means):
            key = end or kind
            if outputs is padded and key != "last column":
                key = "padded"
            yield key, {"columns": n}, head(torch.cat([last, mean], 1))


@exercise("recurrent.6", MESSAGES["recurrent.6"])
def read(answer) -> Verdict:
    for seed, sizes in enumerate(((3, 5, 2), (6,), (1, 4, 4, 2, 7), (2, 3, 3))):
        both = seed != 3
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            gru = nn.GRU(2, 3, batch_first=True, bidirectional=both).requires_grad_(False)
            head = nn.Linear(12 if both else 6, 1).requires_grad_(False)
            curves = [torch.randn(n, 2) for n in sizes]
            rubbish = torch.randn(len(sizes), max(sizes) + 3, 2)
        curves[0][-1] = 0  # a measured zero
        want, lengths = _alone(gru, head, curves), torch.tensor(sizes)
        x = torch.cat([pad_sequence(curves, batch_first=True), torch.zeros(len(sizes), 3, 2)], 1)
        filled = torch.where((torch.arange(x.shape[1]) < lengths[:, None])[..., None], x, rubbish)
        results = []
        for batch in (x, filled):
            try:
                got = call(answer, gru, head, batch.clone(), lengths.clone())
            except Wrong as wrong:
                said = str(wrong.__cause__)
                if "enforce_sorted" in said:
                    return "unsorted"
                if not both and ("with size 1" in said or "to unpack" in said):
                    return "one way"
                if "exceeds dimension" in said or f"with size {len(sizes)}" in said:
                    return "batch first"
                if f"index {max(sizes)} is out of bounds" in said:
                    return "off"
                if "same number of dimensions" in said:
                    return "all of them"
                if f"and {head.in_features}x1)" in said:
                    return "width", {"expected": head.in_features}
                raise
            got = torch.as_tensor(got) if isinstance(got, np.ndarray) else got
            if not torch.is_tensor(got) or got.numel() != len(want):
                shape = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
                return "shape", {"expected": tuple(want.shape), "got": shape}
            results.append(got.detach().reshape(want.shape))
        got = results[0]
        if near(got, want, rel=1e-4, absolute=1e-5):
            if near(results[1], want, rel=1e-4, absolute=1e-5):
                continue
            return "padding matters"
        for key, values, guess in _wrong_ways(gru, head, x, curves):
            if key and near(got, guess, rel=1e-4, absolute=1e-5):
                return key, values
        if near(got.flatten().sort().values, want.flatten().sort().values):
            return "order"
        k = int((got - want).abs().flatten().argmax())
        told = {"expected": want[k].item(), "got": got[k].item()}
        return "other", {"k": k, "length": sizes[k], **told}
    return "right"
