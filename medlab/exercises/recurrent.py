"""Exercises of notebook 23: LSTM, GRU, gradients through time, a bias, a memory, padding."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near, number

MESSAGES = {
    "recurrent.1": {
        "right": "that is nn.LSTM, and each of its steps nn.LSTMCell.",
        "shape": "I expected all states, a tensor of shape {expected}; got {got}.",
        "order": "you took the parts in the order {order}. PyTorch stacks i, f, g, o.",
        "cell": "you return c, or h = o ⊙ c. What the layer gives is h = o ⊙ tanh(c).",
        "frozen": "the state does not travel: each step has to begin with the h of the one before.",
        "new only": "the old c is lost: c = f ⊙ c + i ⊙ g, from step to step.",
        "ungated": "what is new enters whole: c = f ⊙ c + i ⊙ g.",
        "no forget": "the old c stays whole: c = f ⊙ c + i ⊙ g.",
        "no output gate": "h is o ⊙ tanh(c); the output gate is missing.",
        "g gated": "g is no gate: it goes through a tanh, not through a sigmoid.",
        "no sigmoid": "i, f and o are gates: send their sums through a sigmoid.",
        "no first bias": "the first bias, b, does not reach your answer.",
        "no second bias": "the second bias, d, does not reach your answer.",
        "last": "the last state is right. Return those of all steps, {expected}.",
        "other": "of curve 0 I expected {expected} after {steps} steps, and got {got}.",
    },
    "recurrent.2": {
        "right": "that is nn.GRU, and each of its steps nn.GRUCell.",
        "shape": "I expected all states, a tensor of shape {expected}; got {got}.",
        "paper": "that is the paper's form, the reset gate before the product. PyTorch multiplies "
        "after it: r ⊙ (V_n h + d_n).",
        "bias outside": "your second bias d_n stands outside the reset gate. It belongs within: "
        "r ⊙ (V_n h + d_n).",
        "no second bias": "the second bias, d, does not reach your answer.",
        "no first bias": "the first bias, b, does not reach your answer.",
        "inverted": "your update gate is turned round: where u is 1, the old state stays.",
        "order": "you took the parts in the order {order}. PyTorch stacks reset, update, new.",
        "no reset": "the reset gate does not reach your answer: it multiplies V_n h + d_n.",
        "no tanh": "the new content n goes through a tanh.",
        "new alone": "you return n. The new state mixes it with the old one, by the update gate.",
        "no sigmoid": "r and u are gates: send their sums through a sigmoid.",
        "frozen": "the state does not travel: each step has to begin with the h of the one before.",
        "last": "the last state is right. Return those of all steps, {expected}.",
        "other": "of curve 0 I expected {expected} after {steps} steps, and got {got}.",
    },
    "recurrent.3": {
        "right": "as autograd has it: sums over the steps for the weights, a product of Jacobians "
        "for h₀.",
        "format": "I expected four tensors, for W, V, b and h₀, of shapes {expected}; got {got}.",
        "no transpose": "the way back is Vᵀ z̄; you used V.",
        "outer": "your gradient of V is transposed: rows belong to z̄, columns to h_{{t−1}}.",
        "last step": "only one step is in your gradients. The weights serve at each: add up.",
        "no tanh": "the slope of the tanh is missing: z̄ = (1 − h²) ⊙ h̄.",
        "slope": "the slope of the tanh at step t is 1 − h_t², with the state that it gave.",
        "same": "you used the same gradient at every step. It has to travel: h̄ of step t − 1 is "
        "Vᵀ z̄ of step t.",
        "late state": "in the sum stands h_{{t−1}}, the state that V multiplied, not h_t.",
        "x": "the gradient of W is wrong: x_t is xs[t − 1], since xs begins with x₁.",
        "one back": "those of the weights are right. Yours of h₀ lacks the last step back, Vᵀ z̄₁.",
        "short": "a step is missing at one end: t goes from T down to 1, both included.",
        "some": "right: {right}. Wrong: {wrong}.",
    },
    "recurrent.4": {
        "right": "half over 50 steps needs a bias of 4.27: the gate stands at 0.986.",
        "gate": "you return f itself. The bias is where the sigmoid is f.",
        "sign": "your sign is turned: the sigmoid of your bias is 1 − f.",
        "power": "f^T = kept, so f is the T-th root, kept ** (1 / steps).",
        "divided": "the gate multiplies at each step, so kept is f^T: a root, not a quotient.",
        "no odds": "you return log f. The sigmoid is turned round by log(f / (1 − f)).",
        "base": "log to the base {base:g}: the sigmoid is built on e.",
        "other": "to keep {kept:g} over {steps} steps I expected {expected:.4f}; got {got:.4f}.",
    },
    "recurrent.5": {
        "right": "your cell holds the value, with a mean error of {error:.4f}.",
        "format": "I expected the nn.LSTMCell(2, 1) itself, with its weights; got {got}.",
        "random": "weights that PyTorch drew are still in {where}, so your cell does something "
        "else each time: set all four, the state's weights and the second bias too.",
        "order": "with gates stacked as {order} it would work. PyTorch's order is i, f, g, o.",
        "never opens": "at a mark hardly anything enters. The input gate has to be open there: "
        "its sum well above 0.",
        "leaks": "values without a mark enter too: of one never marked, {got:.3f} is in c. "
        "Shut the input gate firmly where the mark is 0.",
        "forgets": "right after the mark the value is there, and {steps} steps later {share:.0%} "
        "of it. Open the forget gate further.",
        "adds": "a second mark adds to what is there. The forget gate has to shut at a mark.",
        "constant": "c is {got:.3f} where 0 was marked: a bias of g enters.",
        "scale": "c is {slope:.2f} times the marked value: g should be tanh(v), with weight 1, and "
        "the input gate fully open at a mark.",
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
        "mean": "your mean divides by {columns} columns. Divide by the number of valid steps.",
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

_SEVERAL = ((4, 3, 2, 3), (2, 6, 3, 5), (1, 1, 1, 1))  # N, T, D, H


def _lstm(x: Tensor, weights: tuple, how: str = "", order: tuple = (0, 1, 2, 3)) -> Tensor:
    """nn.LSTM with a mistake; `order` says where i, f, g, o are looked for."""
    W, V, b, d = weights
    b, d = b * (how != "no first bias"), d * (how != "no second bias")
    h = c = torch.zeros(len(x), V.shape[1])
    squash = torch.tanh if how == "no sigmoid" else torch.sigmoid
    states = []
    for t in range(x.shape[1]):
        parts = (x[:, t] @ W.T + b + h * (how != "frozen") @ V.T + d).chunk(4, 1)
        i, f, g, o = (parts[k] for k in order)
        i, f, o = squash(i), squash(f), squash(o)
        g = torch.sigmoid(g) if how == "g gated" else torch.tanh(g)
        i = torch.ones_like(i) if how == "ungated" else i
        f = torch.ones_like(f) if how == "no forget" else f
        c = i * g + f * c * (how != "new only")
        o = torch.ones_like(o) if how == "no output gate" else o
        h = o * torch.tanh(c)
        states.append({"cell": c, "o c": o * c}.get(how, h))
    return torch.stack(states, 1)


def _gru(x: Tensor, weights: tuple, how: str = "", order: tuple = (0, 1, 2)) -> Tensor:
    """nn.GRU with a mistake; `order` says where reset, update, new are looked for."""
    W, V, b, d = weights
    b, d = b * (how != "no first bias"), d * (how != "no second bias")
    h, states = torch.zeros(len(x), V.shape[1]), []
    squash = torch.tanh if how == "no sigmoid" else torch.sigmoid
    for t in range(x.shape[1]):
        h = h * (how != "frozen")
        from_x, from_h = (x[:, t] @ W.T + b).chunk(3, 1), (h @ V.T + d).chunk(3, 1)
        (r_x, u_x, n_x), (r_h, u_h, n_h) = ([part[k] for k in order] for part in (from_x, from_h))
        r, u = squash(r_x + r_h), squash(u_x + u_h)
        r = torch.ones_like(r) if how == "no reset" else r
        at, bias = V.chunk(3)[order[2]], d.chunk(3)[order[2]]
        within = {"paper": (r * h) @ at.T + bias, "bias outside": r * (h @ at.T) + bias}
        n = n_x + within.get(how, r * n_h)
        n = n if how == "no tanh" else torch.tanh(n)
        h = {"new alone": n, "inverted": (1 - u) * h + u * n}.get(how, u * h + (1 - u) * n)
        states.append(h)
    return torch.stack(states, 1)


def _layer(answer: Any, kind: type, by_hand: Any, ways: tuple, names: tuple) -> Verdict:
    """Judges a layer written by hand against PyTorch's."""
    for seed, (n, steps, d, size) in enumerate(_SEVERAL):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer = kind(d, size, batch_first=True).requires_grad_(False)
            x = torch.randn(n, steps, d)
        for p in layer.parameters():
            p.mul_(2)
        weights = tuple(layer.parameters())
        want = layer(x)[0]
        got = call(answer, x.clone(), *(p.clone() for p in weights))
        got = torch.stack(got, 1) if isinstance(got, list) and len(got) == steps else got
        if not torch.is_tensor(got) or got.shape != want.shape:
            if torch.is_tensor(got) and near(got, want[:, -1], rel=0, absolute=1e-5):
                return "last", {"expected": tuple(want.shape)}
            shape = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
            return "shape", {"expected": tuple(want.shape), "got": shape}
        if near(got, want, rel=0, absolute=1e-6):
            continue
        for how in ways:
            if near(got, by_hand(x, weights, how), rel=0, absolute=1e-5):
                return "cell" if how == "o c" else how
        for order in list(permutations(range(len(names))))[1:]:
            if near(got, by_hand(x, weights, order=order), rel=0, absolute=1e-5):
                said = [names[order.index(k)] for k in range(len(names))]
                return "order", {"order": ", ".join(said)}
        told = ([round(v, 3) for v in part[0, -1].tolist()] for part in (want, got))
        return "other", {"steps": steps, **dict(zip(("expected", "got"), told, strict=True))}
    return "right"


@exercise("recurrent.1", MESSAGES["recurrent.1"])
def lstm(answer) -> Verdict:
    ways = (
        "cell", "o c", "frozen", "new only", "ungated", "no forget", "no output gate",
        "g gated", "no sigmoid", "no first bias", "no second bias",
    )  # fmt: skip
    return _layer(answer, nn.LSTM, _lstm, ways, tuple("ifgo"))


@exercise("recurrent.2", MESSAGES["recurrent.2"])
def gru(answer) -> Verdict:
    ways = (
        "paper", "bias outside", "inverted", "no second bias", "no first bias", "no reset",
        "no tanh", "new alone", "no sigmoid", "frozen",
    )  # fmt: skip
    return _layer(answer, nn.GRU, _gru, ways, ("reset", "update", "new"))


# --- 3: gradients through time ---


def _back(xs: Tensor, hs: Tensor, V: Tensor, h_bar: Tensor, how: str = "") -> list[Tensor]:
    """Gradients of W, V, b and h₀, with a mistake."""
    size, last = len(h_bar), len(xs)
    W_bar, V_bar, b_bar = torch.zeros(size, xs.shape[1]), torch.zeros_like(V), torch.zeros(size)
    first = h_bar
    for t in range(last, 0, -1):
        slope = {"no tanh": 1 + 0 * hs[t], "slope": 1 - hs[t - 1] ** 2}.get(how, 1 - hs[t] ** 2)
        z_bar = (first if how == "same" else h_bar) * slope
        added = z_bar * (how != "last step" or t == last)
        state = hs[t] if how == "late state" else hs[t - 1]
        V_bar += torch.outer(state, added) if how == "outer" else torch.outer(added, state)
        W_bar += torch.outer(added, xs[t - 1])
        b_bar += added
        h_bar = V @ z_bar if how == "no transpose" else V.T @ z_bar
    return [W_bar, V_bar, b_bar, z_bar if how == "one back" else h_bar]


def _equal(some: list[Tensor], others: list[Tensor]) -> list[bool]:
    return [near(a, b, rel=1e-4, absolute=1e-5) for a, b in zip(some, others, strict=True)]


@exercise("recurrent.3", MESSAGES["recurrent.3"])
def through_time(answer) -> Verdict:
    for seed, (steps, d, size) in enumerate(((1, 3, 2), (4, 2, 3), (7, 1, 2))):
        rng = torch.Generator().manual_seed(seed)
        xs, h_bar = torch.randn(steps, d, generator=rng), torch.randn(size, generator=rng)
        drawn = ((size, d), (size, size), (size,), (size,))
        given = [torch.randn(shape, generator=rng).requires_grad_() for shape in drawn]
        W, V, b, start = given
        states = [start]
        for x in xs:
            states.append(torch.tanh(W @ x + V @ states[-1] + b))
        want = list(torch.autograd.grad(states[-1] @ h_bar, given))
        hs, V = torch.stack(states).detach(), V.detach()
        got = call(answer, xs.clone(), hs.clone(), V.clone(), h_bar.clone())
        got = list(got) if isinstance(got, tuple | list) else [got]
        if any(part is ... for part in got):
            raise NotAttempted
        shapes = [tuple(getattr(part, "shape", ())) for part in got]
        if shapes != [tuple(part.shape) for part in want]:
            said = [", ".join(map(str, some)) for some in (drawn, shapes)]
            return "format", {"expected": said[0], "got": said[1]}
        fits = _equal(got, want)
        if all(fits):
            continue
        for how in (
            "no transpose", "outer", "last step", "no tanh", "slope", "same", "late state",
            "one back",
        ):  # fmt: skip
            if all(_equal(got, _back(xs, hs, V, h_bar, how))):
                return how
        if fits[1:] == [True] * 3:
            return "x"
        none = [torch.zeros_like(part) for part in (W, V, b)]
        for part in (slice(1, None), slice(0, -1)):  # one end of the curve is left out
            ends = hs[1:] if part.start else hs[:-1]
            guess = _back(xs[part], ends, V, h_bar) if steps > 1 else none
            if all(_equal(got[:3], guess[:3])):
                return "short"
        names = ("W", "V", "b", "h₀")
        told = [[n for n, fit in zip(names, fits, strict=True) if fit is w] for w in (True, False)]
        right, wrong = (", ".join(part) or "none" for part in told)
        return "some", {"right": right, "wrong": wrong}
    return "right"


# --- 4: a bias ---


@exercise("recurrent.4", MESSAGES["recurrent.4"])
def forget_bias(answer) -> Verdict:
    for steps, kept in ((50, 0.5), (8, 0.9), (200, 0.05), (1, 0.25), (3, 0.001)):
        f = kept ** (1 / steps)
        expected, got = math.log(f / (1 - f)), number(call(answer, steps, kept))
        if math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-4):
            continue
        known: dict[str, Any] = {
            "gate": f,
            "sign": -expected,
            "no odds": math.log(f),
            "power": _logit(kept**steps),
            "divided": _logit(kept / steps),
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
    if kept[0].abs() < 0.1:
        return "never opens"
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


def _wrong_ways(gru: nn.GRU, head: nn.Linear, x: Tensor, curves: list[Tensor]) -> dict[str, Tensor]:
    """Answers of typical mistakes, "name number" each."""
    lengths = torch.tensor([len(curve) for curve in curves])
    rows, size = torch.arange(len(x)), gru.hidden_size
    each = [gru(curve[None])[0][0] for curve in curves]
    clean, padded = pad_sequence(each, batch_first=True), gru(x)[0]
    valid = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
    mean, masked = clean.sum(1) / lengths[:, None], (padded * valid).sum(1) / lengths[:, None]
    last = torch.stack([_last(gru, one) for one in each])
    late = torch.cat([padded[rows, lengths - 1, :size], padded[:, 0, size:]], 1)
    before = torch.cat([clean[rows, lengths - 2, :size], clean[:, 0, size:]], 1)
    ends = clean[rows, lengths - 1]
    pairs = {
        "last column": [
            (clean[:, -1], mean),
            (padded[:, -1], masked),
            (clean[:, -1], clean.mean(1)),
        ],
        "backward": [(ends, mean)],
        "step 0": [(clean[:, 0], mean)],
        "mean": [(last, clean.mean(1)), (last, clean.sum(1) / x.shape[1])],
        "padded": [(late, masked), (padded[rows, lengths - 1], masked)],
        "off": [(before, mean)],
        "turned": [(mean, last), (torch.cat([last[:, size:], last[:, :size]], 1), mean)],
    }
    seen = [curve[: max(1, int((curve != 0).any(1).sum()))] for curve in curves]
    return {"by value 0": _alone(gru, head, seen)} | {
        f"{key} {k}": head(torch.cat(pair, 1))
        for key, several in pairs.items()
        for k, pair in enumerate(several)
    }


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
                if "exceeds dimension" in said or f"with size {len(sizes)}" in said:
                    return "batch first"
                if f"index {max(sizes)} is out of bounds" in said:
                    return "off"
                raise
            if not torch.is_tensor(got) or got.numel() != len(want):
                shape = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
                return "shape", {"expected": tuple(want.shape), "got": shape}
            results.append(got.detach().reshape(want.shape))
        got = results[0]
        if near(got, want, rel=1e-4, absolute=1e-5):
            if near(results[1], want, rel=1e-4, absolute=1e-5):
                continue
            return "padding matters"
        for key, guess in _wrong_ways(gru, head, x, curves).items():
            if near(got, guess, rel=1e-4, absolute=1e-5):
                key = key.rpartition(" ")[0]
                return key, {"columns": x.shape[1]} if key == "mean" else {}
        if near(got.flatten().sort().values, want.flatten().sort().values):
            return "order"
        k = int((got - want).abs().flatten().argmax())
        told = {"expected": want[k].item(), "got": got[k].item()}
        return "other", {"k": k, "length": sizes[k], **told}
    return "right"
