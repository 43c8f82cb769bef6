"""Exercises of notebook 23: a GRU's step, gradients through time, a bias, a memory, padding."""

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
        "right": "that is nn.GRUCell and, step after step, nn.GRU.",
        "shape": "I expected the new state, a tensor of shape {expected}; got {got}.",
        "paper": "that is the paper's form, the reset gate before the product. PyTorch multiplies "
        "after it: r ⊙ (V_n h + d_n).",
        "bias outside": "your second bias d_n stands outside the reset gate. It belongs within: "
        "r ⊙ (V_n h + d_n).",
        "no second bias": "the second bias, d, does not reach your answer.",
        "no first bias": "the first bias, b, does not reach your answer.",
        "inverted": "your update gate works the other way round: where u is 1, the old state stays.",
        "order": "you took the parts in the order {order}. PyTorch stacks reset, update, new.",
        "no reset": "the reset gate does not reach your answer: it multiplies V_n h + d_n.",
        "no tanh": "the new content n goes through a tanh.",
        "new alone": "you return n. The new state mixes it with the old one, by the update gate.",
        "no sigmoid": "r and u are gates: send their sums through a sigmoid.",
        "other": "for x {x} and h {h} I expected a state that begins with {expected}, and got "
        "{got}.",
    },
    "recurrent.2": {
        "right": "as autograd has it: one sum over the steps for V, one product of Jacobians for "
        "h₀.",
        "format": "I expected two tensors, {expected} for V and then {start} for h₀; got {got}.",
        "swapped": "both are right and come in another order: that of V first.",
        "no transpose": "the way back is Vᵀ z̄; you used V.",
        "outer": "your gradient of V is transposed: rows belong to z̄, columns to h_{{t−1}}.",
        "last step": "only one step is in your gradient of V. It serves at each of them: add up.",
        "no tanh": "the slope of the tanh is missing: z̄ = (1 − h²) ⊙ h̄.",
        "slope": "the slope of the tanh at step t is 1 − h_t², with the state that it gave.",
        "same": "you used the same gradient at every step. It has to travel: h̄ of step t − 1 is "
        "Vᵀ z̄ of step t.",
        "late state": "in the sum stands h_{{t−1}}, the state that V multiplied, not h_t.",
        "one back": "that of V is right. Yours of h₀ lacks the last step back, Vᵀ z̄₁.",
        "short": "a step is missing at one end: t goes from T down to 1, both included.",
        "start": "that of V is right, and that of h₀ is not.",
        "other": "of a curve of {steps} steps I expected {expected} for h₀, and got {got}.",
    },
    "recurrent.3": {
        "right": "half over 50 steps needs a bias of 4.27: the gate stands at 0.986.",
        "gate": "you return f itself. The bias is where the sigmoid is f.",
        "sign": "your sign is turned: the sigmoid of your bias is 1 − f.",
        "power": "f^T = kept, so f is the T-th root, kept ** (1 / steps).",
        "divided": "the gate multiplies at each step, so kept is f^T: a root, not a quotient.",
        "no odds": "you return log f. The sigmoid is turned round by log(f / (1 − f)).",
        "base": "log to the base {base:g}: the sigmoid is built on e.",
        "other": "to keep {kept:g} over {steps} steps I expected {expected:.4f}, and got {got:.4f}.",
    },
    "recurrent.4": {
        "right": "your cell holds the value, with a mean error of {error:.4f}.",
        "format": "I expected the nn.LSTMCell(2, 1) itself, with its weights; got {got}.",
        "random": "weights that PyTorch drew are still in {where}, so your cell does something "
        "else each time: set all four, the state's weights and the second bias too.",
        "order": "with gates stacked as {order} it would work. PyTorch's order is i, f, g, o.",
        "never opens": "at a mark hardly anything enters. The input gate has to be open there: "
        "its sum well above 0.",
        "leaks": "values without a mark enter too: of one that was never marked, {got:.3f} is in c. "
        "Shut the input gate firmly where the mark is 0.",
        "forgets": "right after the mark the value is there, and {steps} steps later {share:.0%} "
        "of it. Open the forget gate further.",
        "adds": "a second mark adds to what is there. The forget gate has to shut at a mark.",
        "constant": "c is {got:.3f} where 0 was marked: a bias of g enters.",
        "scale": "c is {slope:.2f} times the marked value: g should be tanh(v), with weight 1.",
        "other": "the mean error is {error:.3f}; it has to be below {limit}.",
    },
    "recurrent.5": {
        "right": "a curve gets the same answer alone, in company, and however long the padding.",
        "shape": "I expected what head gives, {expected}; got {got}.",
        "padding matters": "I changed what stands in the padding, and your answers changed. A GRU "
        "that reads backwards starts there: pack, or it is too late.",
        "last column": "you read the last column: for a short curve that lies in the padding.",
        "mean": "your mean divides by {columns} columns. Divide by the number of valid steps.",
        "padded": "the GRU ran through the padding, and the backward direction starts there: give "
        "it the packed batch.",
        "off": "you picked a step beside the last valid one: counted from 0, it is lengths − 1.",
        "no last": "of `last` your answer shows nothing; head expects last first, then mean.",
        "order": "the answers are right and stand in another order than the batch.",
        "turned": "head expects last first, then mean.",
        "unsorted": "the curves of a batch come in any order: `enforce_sorted=False`.",
        "batch first": "curves are (N, T, D): `batch_first=True`, for packing and unpacking.",
        "other": "of curve {k}, of {length} images, I expected {expected:.4f}, and got {got:.4f}.",
    },
}


# --- 1: a GRU's step ---


def _gru(x: Tensor, h: Tensor, weights: tuple, how: str = "", order: tuple = (0, 1, 2)) -> Tensor:
    """PyTorch's step with a mistake; `order` says where reset, update, new are looked for."""
    W, V, b, d = weights
    b, d = b * (how != "no first bias"), d * (how != "no second bias")
    from_x, from_h, plain = x @ W.T + b, h @ V.T + d, h @ V.T
    (r_x, u_x, n_x), (r_h, u_h, n_h) = (
        [part.chunk(3, -1)[k] for k in order] for part in (from_x, from_h)
    )
    squash = (lambda a: a) if how == "no sigmoid" else torch.sigmoid
    r, u = squash(r_x + r_h), squash(u_x + u_h)
    r = torch.ones_like(r) if how == "no reset" else r
    if how == "paper":
        k = order[2]
        n_h = (r * h) @ V.chunk(3)[k].T + d.chunk(3)[k]
    elif how == "bias outside":
        n_h = r * plain.chunk(3, -1)[order[2]] + d.chunk(3)[order[2]]
    else:
        n_h = r * n_h
    n = n_x + n_h if how == "no tanh" else torch.tanh(n_x + n_h)
    if how == "new alone":
        return n
    return (1 - u) * h + u * n if how == "inverted" else u * h + (1 - u) * n


@exercise("recurrent.1", MESSAGES["recurrent.1"])
def gru_step(answer) -> Verdict:
    names = ("reset", "update", "new")
    for seed, (n, d, size) in enumerate(((1, 1, 1), (4, 2, 3), (5, 3, 2))):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cell = nn.GRUCell(d, size).requires_grad_(False)
            x, h = torch.randn(n, d), torch.randn(n, size)
        for p in cell.parameters():
            p.mul_(2)
        weights = tuple(p.clone() for p in cell.parameters())
        want = cell(x, h)
        got = call(answer, x.clone(), h.clone(), *(p.clone() for p in weights))
        if not torch.is_tensor(got) or got.shape != want.shape:
            shape = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
            return "shape", {"expected": tuple(want.shape), "got": shape}
        if near(got, want, rel=0, absolute=1e-6):
            continue
        for how in (
            "paper", "bias outside", "inverted", "no second bias", "no first bias", "no reset",
            "no tanh", "new alone", "no sigmoid",
        ):  # fmt: skip
            if near(got, _gru(x, h, weights, how), rel=0, absolute=1e-5):
                return how
        for order in list(permutations(range(3)))[1:]:
            if near(got, _gru(x, h, weights, order=order), rel=0, absolute=1e-5):
                said = [names[order.index(k)] for k in range(3)]
                return "order", {"order": ", ".join(said)}
        told = {"x": x[0], "h": h[0], "expected": want[0, :1], "got": got[0, :1]}
        return "other", {key: [round(v, 3) for v in part.tolist()] for key, part in told.items()}
    return "right"


# --- 2: gradients through time ---


def _back(hs: Tensor, V: Tensor, h_bar: Tensor, how: str = "") -> tuple[Tensor, Tensor]:
    """Gradients of V and h₀, with a mistake."""
    V_bar, last = torch.zeros_like(V), len(hs) - 1
    first = h_bar
    for t in range(last, 0, -1):
        slope = {"no tanh": 1 + 0 * hs[t], "slope": 1 - hs[t - 1] ** 2}.get(how, 1 - hs[t] ** 2)
        z_bar = (first if how == "same" else h_bar) * slope
        state = hs[t] if how == "late state" else hs[t - 1]
        term = torch.outer(state, z_bar) if how == "outer" else torch.outer(z_bar, state)
        V_bar = V_bar + term * (how != "last step" or t == last)
        h_bar = V @ z_bar if how == "no transpose" else V.T @ z_bar
    return V_bar, z_bar if how == "one back" else h_bar


@exercise("recurrent.2", MESSAGES["recurrent.2"])
def through_time(answer) -> Verdict:
    for seed, (steps, size) in enumerate(((1, 2), (4, 3), (7, 2))):
        rng = torch.Generator().manual_seed(seed)
        x, V = torch.randn(steps, size, generator=rng), torch.randn(size, size, generator=rng)
        start, h_bar = torch.randn(2, size, generator=rng)
        V, start = V.requires_grad_(), (start / 2).requires_grad_()
        states = [start]
        for one in x:
            states.append(torch.tanh(one + V @ states[-1]))
        want = torch.autograd.grad(states[-1] @ h_bar, (V, start))
        hs, V = torch.stack(states).detach(), V.detach()
        got = call(answer, hs.clone(), V.clone(), h_bar.clone())
        got = list(got) if isinstance(got, tuple | list) else [got]
        if any(part is ... for part in got):
            raise NotAttempted
        shapes = [tuple(getattr(part, "shape", ())) for part in got]
        shape = (size, size)
        if shapes == [(size,), shape] and near(got[0], want[1]) and near(got[1], want[0]):
            return "swapped"
        if shapes != [shape, (size,)]:
            said = " and ".join(map(str, shapes))
            return "format", {"expected": shape, "start": (size,), "got": said}
        fits = [near(a, b, rel=1e-4, absolute=1e-5) for a, b in zip(got, want, strict=True)]
        if all(fits):
            continue
        for how in (
            "no transpose", "outer", "last step", "no tanh", "slope", "same", "late state",
            "one back",
        ):  # fmt: skip
            guess = _back(hs, V, h_bar, how)
            if all(near(a, b, rel=1e-4, absolute=1e-5) for a, b in zip(got, guess, strict=True)):
                return how
        for part, last in ((hs[1:], h_bar), (hs[:-1], h_bar)):
            guess = _back(part, V, last) if len(part) > 1 else (torch.zeros(shape), h_bar)
            if near(got[0], guess[0], rel=1e-4, absolute=1e-5):
                return "short"
        if fits[0]:
            return "start"
        told = [[round(v, 3) for v in part.tolist()] for part in (want[1], got[1])]
        return "other", {"steps": steps, "expected": told[0], "got": told[1]}
    return "right"


# --- 3: a bias ---


@exercise("recurrent.3", MESSAGES["recurrent.3"])
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


# --- 4: a memory ---

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
    """Mean error over curves of up to 60 steps with one mark, two marks or three."""
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
    return sum(errors) / len(errors)


def _drawn(seed: int) -> nn.LSTMCell:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.LSTMCell(2, 1)


@exercise("recurrent.4", MESSAGES["recurrent.4"])
def holder(answer) -> Verdict:
    cells = []
    for seed in (0, 1):
        before = _drawn(seed)
        cell = call(answer, _drawn(seed))
        if not isinstance(cell, nn.LSTMCell) or cell.weight_ih.shape != (4, 2):
            return "format", {"got": type(cell).__name__}
        if all(torch.equal(*pair) for pair in zip(cell.parameters(), before.parameters())):
            raise NotAttempted
        cells.append(cell.requires_grad_(False))
    for (name, one), other in zip(cells[0].named_parameters(), cells[1].parameters(), strict=True):
        if not torch.equal(one, other):
            return "random", {"where": name}
    cell = cells[0]
    error = _held(cell)
    if error < _LIMIT:
        return "right", {"error": error}
    for order in list(permutations(range(4)))[1:]:
        other = _drawn(0).requires_grad_(False)
        for part, mine in zip(other.parameters(), cell.parameters(), strict=True):
            part.copy_(mine[list(order)])
        if _held(other) < _LIMIT:
            return "order", {"order": ", ".join(_GATES[order.index(k)] for k in range(4))}
    zero, one = torch.zeros(60, 1), torch.zeros(60, 1)
    one[0] = 1
    offset = _run(cell, zero, one)
    if offset[0].abs() > 0.01:
        return "constant", {"got": offset[0].item()}
    kept = _run(cell, 0.4 * one, one)
    if kept[0].abs() < 0.1:
        return "never opens"
    if abs(kept[0].item() / 0.4 - 1) > 0.08:
        return "scale", {"slope": kept[0].item() / 0.4}
    leaked = _run(cell, 0.4 * one.flip(0), zero)[-1].item()
    if abs(leaked) > 0.005:
        return "leaks", {"got": leaked}
    if kept[-1] / kept[0] < 0.95:
        return "forgets", {"steps": 59, "share": (kept[-1] / kept[0]).item()}
    twice = one + one.roll(1, 0)
    if (_run(cell, 0.2 * twice, twice)[1] - 0.2).abs() > 0.02:
        return "adds"
    return "other", {"error": error, "limit": _LIMIT}


# --- 5: padding ---


def _alone(gru: nn.GRU, head: nn.Linear, curves: list[Tensor]) -> Tensor:
    """What each curve gets without any padding."""
    outputs = [gru(curve[None])[0][0] for curve in curves]
    return torch.stack([head(torch.cat([one[-1], one.mean(0)])) for one in outputs])


def _wrong_ways(gru: nn.GRU, head: nn.Linear, x: Tensor, curves: list[Tensor]) -> dict[str, Tensor]:
    """Answers of typical mistakes."""
    lengths = torch.tensor([len(curve) for curve in curves])
    rows, columns = torch.arange(len(x)), x.shape[1]
    clean = pad_sequence([gru(curve[None])[0][0] for curve in curves], batch_first=True)
    padded = gru(x)[0]
    valid = (torch.arange(columns) < lengths[:, None])[..., None]
    mean = clean.sum(1) / lengths[:, None]
    over_all = clean.sum(1) / clean.shape[1]
    at_end, shown = clean[rows, lengths - 1], padded * valid
    masked = shown.sum(1) / lengths[:, None]
    pairs = {
        "last column": [(clean[:, -1], mean), (padded[:, -1], masked), (clean[:, -1], over_all)],
        "mean": [(at_end, over_all), (at_end, clean.sum(1) / columns)],
        "padded": [(padded[rows, lengths - 1], masked)],
        "off": [(clean[rows, lengths - 2], mean), (clean[rows, 0], mean)],
        "no last": [(mean, mean)],
        "turned": [(mean, at_end)],
    }
    return {
        f"{key} {k}": head(torch.cat(pair, 1))
        for key, several in pairs.items()
        for k, pair in enumerate(several)
    }


@exercise("recurrent.5", MESSAGES["recurrent.5"])
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
                if "batch" in said and "lengths" in said:
                    return "batch first"
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
        for key, wrong in _wrong_ways(gru, head, x, curves).items():
            if near(got, wrong, rel=1e-4, absolute=1e-5):
                key = key.rpartition(" ")[0]
                return key, {"columns": x.shape[1]} if key == "mean" else {}
        if near(got.flatten().sort().values, want.flatten().sort().values):
            return "order"
        k = int((got - want).abs().flatten().argmax())
        told = {"expected": want[k].item(), "got": got[k].item()}
        return "other", {"k": k, "length": sizes[k], **told}
    return "right"
