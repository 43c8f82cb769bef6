"""The checks of recurrent networks, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from medlab.exercises import check
from medlab.exercises.recurrent import MESSAGES
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: LSTM


def of_library(kind, x, W, V, b, d):
    layer = kind(x.shape[2], V.shape[1], batch_first=True)
    for p, value in zip(layer.parameters(), (W, V, b, d), strict=True):
        p.data = value
    return layer(x)


def lstm(x, W, V, b, d, how="", order=(0, 1, 2, 3)):
    """The layer with mistakes, those in `how` that stand between commas."""
    how = how.split(", ")
    size = V.shape[1]
    h = c = x.new_zeros(len(x), size)
    gate = torch.tanh if "no sigmoid" in how else torch.sigmoid
    gate = (lambda z: z) if "bare gates" in how else gate
    gate = (lambda z: z.sigmoid().sigmoid()) if "twice" in how else gate
    states = []
    for t in range(x.shape[1]):
        start = h
        h = 0 * h if "frozen" in how else h
        sums = []
        for k in order:
            rows = slice(k * size, (k + 1) * size)
            at = V[rows] if "transposed" in how else V[rows].T
            sums.append(x[:, t] @ W[rows].T + b[rows] + h @ at + d[rows])
        i, f, g, o = sums
        new = torch.sigmoid(g) if "g gated" in how else g if "bare g" in how else torch.tanh(g)
        new = new if "ungated" in how else gate(i) * new
        before = c
        c = 0 * c if "new only" in how else c
        c = c + new if "no forget" in how else gate(f) * c + new
        h = c if "o c" in how else torch.tanh(before if "old c" in how else c)
        h = h if "no output gate" in how else gate(o) * h
        states.append(start if "early" in how else c if "cell" in how else h)
    return torch.stack(states, 1)


# ------------------------------------------------------------------------ 2: GRU


def in_one_product(x, W, V, b, d):
    """In double precision, curve by curve, r and u from one product of [x, h]."""
    W, V, b, d = W.double(), V.double(), b.double(), d.double()
    size = V.shape[1]
    both, bias = torch.cat([W, V], 1)[: 2 * size], (b + d)[: 2 * size]
    found = []
    for curve in x.double():
        h, states = torch.zeros(size, dtype=torch.float64), []
        for now in curve:
            r, u = torch.sigmoid(both @ torch.cat([now, h]) + bias).chunk(2)
            n = torch.tanh(
                W[2 * size :] @ now + b[2 * size :] + r * (V[2 * size :] @ h + d[2 * size :])
            )
            h = n + u * (h - n)
            states.append(h)
        found.append(torch.stack(states))
    return torch.stack(found).numpy()


def gru(x, W, V, b, d, how="", order=(0, 1, 2)):
    """The layer with mistakes, those in `how` that stand between commas."""
    how = how.split(", ")
    h, states = torch.zeros(len(x), V.shape[1]), []
    gate = torch.tanh if "no sigmoid" in how else torch.sigmoid
    gate = (lambda z: z) if "bare gates" in how else gate
    gate = (lambda z: z.sigmoid().sigmoid()) if "twice" in how else gate
    rows = [k * V.shape[1] + torch.arange(V.shape[1]) for k in order]
    (W_r, W_u, W_n), (V_r, V_u, V_n), (b_r, b_u, b_n), (d_r, d_u, d_n) = (
        [part[row] for row in rows] for part in (W, V, b, d)
    )
    if "transposed" in how:
        V_r, V_u, V_n = V_r.T, V_u.T, V_n.T
    for t in range(x.shape[1]):
        if "early" in how:
            states.append(h)
        h = 0 * h if "frozen" in how else h
        now = x[:, t]
        r = gate(now @ W_r.T + b_r + h @ V_r.T + d_r)
        u = gate(now @ W_u.T + b_u + h @ V_u.T + d_u)
        r = 1 if "no reset" in how else r
        inner = r * (h @ V_n.T + d_n)
        inner = (r * h) @ V_n.T + d_n if "paper" in how else inner
        inner = r * (h @ V_n.T) + d_n if "bias outside" in how else inner
        inner = r * (h @ V_n.T) if "no d_n" in how else inner
        n = now @ W_n.T + b_n + inner
        n = r * (now @ W_n.T + b_n + h @ V_n.T + d_n) if "inside" in how else n
        n = n if "no tanh" in how else torch.tanh(n)
        n = torch.sigmoid(torch.atanh(n)) if "n gated" in how else n
        u = 1 - u if "inverted" in how else u
        old = 0 if "old lost" in how else h if "old whole" in how else u * h
        h = n if "new alone" in how else old + (n if "n whole" in how else (1 - u) * n)
        if "early" not in how:
            states.append(h)
    return torch.stack(states, 1)


# ------------------------------------------------------------------------ 3: through time


def through(hs, V, h_bar, how=""):
    """The way back with mistakes, those in `how` that stand between commas."""
    how = how.split(", ")
    steps = list(range(len(hs) - 1, 0, -1))
    steps = steps[:-1] if "no first" in how else steps[1:] if "no last" in how else steps
    steps = range(len(hs) - 1, -1, -1) if "long" in how else steps
    V_bar, b_bar, start = 0 * V, 0 * h_bar, h_bar
    z_bar = 0 * h_bar
    for t in reversed(steps) if "forwards" in how else steps:
        h_bar = start if "same" in how else h_bar
        h = hs[t - 1] if "slope" in how else hs[t]
        h = h.tanh() if "tanh twice" in how else h
        slope = 1 if "no tanh" in how else 1 - h if "no square" in how else 1 - h * h
        h_bar = V.T @ h_bar if "slope last" in how else h_bar
        z_bar = h_bar * slope
        part = V.T @ z_bar if "moved on" in how else h_bar if "h in the sum" in how else z_bar
        term = torch.outer(part, hs[t] if "late" in how else hs[t - 1])
        term = term.T if "outer" in how else term
        if "first step" in how:
            V_bar, b_bar = term, part
        elif "last step" not in how or t == len(hs) - 1:
            V_bar, b_bar = V_bar + term, b_bar + part
        h_bar = (V if "no transpose" in how else V.T) @ (h_bar if "h on the way" in how else z_bar)
        h_bar = z_bar if "slope last" in how else h_bar
    n = len(hs) - 1 if "mean" in how else 1
    return V_bar / n, b_bar / n, z_bar if "one back" in how else h_bar


def by_autograd(hs, V, h_bar):
    """From the sums that fit the states: what W x + b was is known from hs."""
    given = (
        torch.atanh(hs[1:].double().clamp(-1 + 1e-12, 1 - 1e-12)) - hs[:-1].double() @ V.double().T
    )
    V, start = V.double().requires_grad_(), hs[0].double().requires_grad_()
    b = torch.zeros_like(start).requires_grad_()
    h = start
    for z in given:
        h = torch.tanh(z + V @ h + b)
    return torch.autograd.grad(h @ h_bar.double(), (V, b, start))


# ------------------------------------------------------------------------ 4: a bias


def odds(steps, kept):
    return math.exp(bias(steps, kept))


def bias(steps, kept, how=""):
    f = {"power": kept**steps, "divided": kept / steps}.get(how, kept ** (1 / steps))
    return math.log(f / (1 - f))


# ------------------------------------------------------------------------ 5: a memory


def holder(cell, opened=10.0, shut=10.0, order="ifgo", how=""):
    place = {name: order.index(name) for name in "ifgo"}
    with torch.no_grad():
        for p in cell.parameters():
            if how != "state left" or p is not cell.weight_hh:
                p.zero_()
        cell.weight_ih[place["i"], 1], cell.bias_ih[place["i"]] = 2 * opened, -opened
        cell.weight_ih[place["f"], 1], cell.bias_ih[place["f"]] = -2 * shut, shut
        cell.weight_ih[place["g"], 0] = 2 if how == "scale" else 1
        if how == "adds":
            cell.weight_ih[place["f"], 1] = 0
        if how == "leaks":
            cell.bias_ih[place["i"]], cell.weight_ih[place["i"], 1] = -3, 13
        if how == "closed":
            cell.weight_ih[place["i"], 1] = 0
        if how == "half open":
            cell.bias_ih[place["i"]] = -2 * opened
        if how == "no content":
            cell.weight_ih[place["g"], 0] = 0
        if how == "constant":
            cell.bias_ih[place["g"]] = 0.2
        if how == "small":  # an old value that holds on a little, and enters a little late
            cell.weight_ih[place["f"], 1] = -12
    return cell


def by_another_bias(cell):
    holder(cell)
    cell.bias_hh.data, cell.bias_ih.data = cell.bias_ih.data, cell.bias_hh.data
    return cell


def any_output(cell):
    """The output gate stays as PyTorch drew it: c does not know of it."""
    drawn = [p.detach().clone() for p in cell.parameters()]
    holder(cell)
    cell.weight_ih.data[3], cell.bias_ih.data[3] = drawn[0][3], drawn[2][3]
    return cell


def new_cell(cell):
    other = nn.LSTMCell(2, 1)
    other.load_state_dict(holder(cell).state_dict())
    return other


def disturbed(cell):
    """What is held opens the input gate, so that later values enter."""
    holder(cell).weight_hh.data[0] = 60
    return cell


# ------------------------------------------------------------------------ 6: padding


def read(gru, head, x, lengths, how=""):
    """The mended function with mistakes, those in `how` that stand between commas."""
    how = how.split(", ")
    size, rows = gru.hidden_size, torch.arange(len(x))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    outputs = gru(x)[0] if "padded" in how else outputs
    size = outputs.shape[2] // 2 if "half" in how else size
    size = outputs.chunk(2, 2)[0].shape[2] if "chunked" in how else size
    valid = torch.arange(outputs.shape[1]) < lengths[:, None]
    mean = (outputs * valid[..., None]).sum(1) / lengths[:, None]
    mean = outputs.mean(1) if "mean" in how else mean
    mean = mean * lengths[:, None] if "sum" in how else mean
    mean = outputs.sum(1) / x.shape[1] if "all columns" in how else mean
    at, end = lengths - 1, 0 * lengths
    at = lengths - 2 if "off" in how else at
    at = end if "step 0" in how else at
    end = lengths - 1 if "backward" in how else end
    if "last column" in how:
        at = end = 0 * lengths - 1
    last = torch.cat([outputs[rows, at, :size], outputs[rows, end, size:]], 1)
    if "halves" in how:
        last = torch.cat([last[:, size:], last[:, :size]], 1)
    return head(torch.cat([mean, last] if "turned" in how else [last, mean], 1))


def unmended(gru, head, x, lengths):
    outputs, _ = gru(x)
    return head(torch.cat([outputs[:, -1], outputs.mean(1)], 1))


def unpacked_state(gru, head, x, lengths):
    outputs, last = gru(x)
    return head(torch.cat([*last, outputs.sum(1) / lengths[:, None]], 1))


def reshaped_state(gru, head, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    inside, last = gru(packed)
    outputs, _ = pad_packed_sequence(inside, batch_first=True)
    return head(torch.cat([last.reshape(len(x), -1), outputs.sum(1) / lengths[:, None]], 1))


def forwards_only(gru, head, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    inside, last = gru(packed)
    outputs, _ = pad_packed_sequence(inside, batch_first=True)
    return head(torch.cat([last[0], outputs.sum(1) / lengths[:, None]], 1))


def two_of(last):
    forward, backward = last
    return forward, backward


def from_two_states(gru, head, x, lengths, two):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    inside, last = gru(packed)
    outputs, _ = pad_packed_sequence(inside, batch_first=True)
    return head(torch.cat([*two(last), outputs.sum(1) / lengths[:, None]], 1))


def from_the_state(gru, head, x, lengths):
    return from_two_states(gru, head, x, lengths, tuple)


def one_by_one(gru, head, x, lengths):
    found = []
    for curve, n in zip(x, lengths.tolist(), strict=True):
        outputs, last = gru(curve[None, :n])
        found.append(head(torch.cat([*last[:, 0], outputs[0].mean(0)])))
    return torch.stack(found)


def masked_by_value(gru, head, x, lengths):
    return read(gru, head, x, (x != 0).any(2).sum(1))


def mean_by_value(gru, head, x, lengths, masked=True):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    inside, last = gru(packed)
    outputs, _ = pad_packed_sequence(inside, batch_first=True)
    valid = (x[:, : outputs.shape[1]] != 0).any(2)[..., None]
    mean = (outputs * valid if masked else outputs).sum(1) / valid.sum(1)
    return head(torch.cat([*last, mean], 1))


def all_last_steps(gru, head, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    return head(torch.cat([outputs[:, lengths - 1], outputs.sum(1) / lengths[:, None]], 1))


def sorted_batch(gru, head, x, lengths):
    order = lengths.argsort(descending=True)
    return read(gru, head, x[order], lengths[order])


def must_be_sorted(gru, head, x, lengths):
    pack_padded_sequence(x, lengths, batch_first=True)
    return read(gru, head, x, lengths)


def batch_second(gru, head, x, lengths):
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    return head(outputs[torch.arange(len(x)), lengths - 1])


def unpacked_second(gru, head, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return head(pad_packed_sequence(gru(packed)[0])[0][torch.arange(len(x)), lengths - 1])


def after_the_last(gru, head, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    return head(outputs[torch.arange(len(x)), lengths])


CASES = [
    ("recurrent.1", lstm, "✓"),
    ("recurrent.1", lambda *t: of_library(nn.LSTM, *t)[0], "✓"),
    ("recurrent.1", lambda *t: list(lstm(*t).unbind(1)), "✓"),
    ("recurrent.1", lambda *t: lstm(*(part.double() for part in t)).numpy(), "✓"),
    ("recurrent.1", lambda *t: of_library(nn.LSTM, *t), "you return two things"),
    ("recurrent.1", lambda *t: lstm(*t).transpose(0, 1), "stack along dimension 1"),
    ("recurrent.1", lambda *t: lstm(*t)[:, -1], "the last state is right"),
    ("recurrent.1", lambda *t: lstm(*t)[:1], "I expected all states"),
    ("recurrent.1", lambda *t: lstm(*t, order=(0, 1, 3, 2)), "in the order i, f, o, g"),
    ("recurrent.1", lambda *t: lstm(*t, order=(1, 0, 2, 3)), "in the order f, i, g, o"),
    ("recurrent.1", lambda *t: lstm(*t, order=(3, 0, 1, 2)), "in the order f, g, o, i"),
    ("recurrent.1", lambda *t: lstm(*t, "o c", order=(0, 1, 3, 2)), "in the order i, f, o, g"),
    ("recurrent.1", lambda *t: lstm(*t, "cell"), "you return c"),
    ("recurrent.1", lambda *t: lstm(*t, "o c"), "the tanh is missing in h"),
    ("recurrent.1", lambda *t: lstm(*t, "frozen"), "begin with the h of the one before"),
    ("recurrent.1", lambda *t: lstm(*t, "frozen, new only"), "begin with the h of the one before"),
    ("recurrent.1", lambda *t: lstm(*t, "early"), "before the step changes it"),
    ("recurrent.1", lambda *t: lstm(*t, "new only"), "the old c is lost"),
    ("recurrent.1", lambda *t: lstm(*t, "ungated"), "what is new enters whole"),
    ("recurrent.1", lambda *t: lstm(*t, "no forget"), "the old c stays whole"),
    ("recurrent.1", lambda *t: lstm(*t, "no output gate"), "the output gate is missing"),
    ("recurrent.1", lambda *t: lstm(*t, "g gated"), "g is no gate"),
    ("recurrent.1", lambda *t: lstm(*t, "bare g"), "g goes through a tanh"),
    ("recurrent.1", lambda *t: lstm(*t, "no sigmoid"), "send their sums through a sigmoid"),
    ("recurrent.1", lambda *t: lstm(*t, "bare gates"), "send their sums through a sigmoid"),
    ("recurrent.1", lambda *t: lstm(*t, "old c"), "h takes the old c"),
    ("recurrent.1", lambda *t: lstm(*t, "twice"), "through a sigmoid twice"),
    ("recurrent.1", lambda *t: lstm(*t, "transposed"), "each part of V is turned round"),
    ("recurrent.1", lambda x, W, V, b, d: lstm(x, W, V, b, 0 * d), "second bias, d, does not"),
    ("recurrent.1", lambda x, W, V, b, d: lstm(x, W, V, 0 * b, d), "first bias, b, does not"),
    ("recurrent.1", lambda *t: lstm(*t) + 0.01, "of curve 0 I expected"),
    ("recurrent.2", gru, "✓"),
    ("recurrent.2", lambda *t: of_library(nn.GRU, *t)[0], "✓"),
    ("recurrent.2", lambda *t: list(gru(*t).unbind(1)), "✓"),
    ("recurrent.2", lambda *t: tuple(gru(*t).unbind(1)), "✓"),
    ("recurrent.2", in_one_product, "✓"),
    ("recurrent.2", lambda *t: of_library(nn.GRU, *t), "you return two things"),
    ("recurrent.2", lambda *t: gru(*t)[:1], "I expected all states"),
    ("recurrent.2", lambda *t: 3.0, "got float"),
    ("recurrent.2", lambda *t: [], "got list"),
    ("recurrent.2", lambda *t: gru(*t).transpose(0, 1), "stack along dimension 1"),
    ("recurrent.2", lambda *t: gru(*t)[:, -1], "the last state is right"),
    ("recurrent.2", lambda *t: gru(*t, "frozen"), "begin with the h of the one before"),
    ("recurrent.2", lambda *t: gru(*t, "early"), "before the step changes it"),
    ("recurrent.2", lambda *t: gru(*t, "paper"), "that is the paper's form"),
    ("recurrent.2", lambda *t: gru(*t, "paper, inverted"), "that is the paper's form"),
    ("recurrent.2", lambda *t: gru(*t, "paper, transposed"), "that is the paper's form"),
    ("recurrent.2", lambda *t: gru(*t, "bias outside"), "stands outside the reset gate"),
    ("recurrent.2", lambda *t: gru(*t, "no d_n"), "d_n is left out"),
    ("recurrent.2", lambda *t: gru(*t, "twice"), "through a sigmoid twice"),
    ("recurrent.2", lambda *t: gru(*t, "inside"), "multiplies what comes from x, too"),
    ("recurrent.2", lambda *t: gru(*t, "no reset"), "it multiplies V_n h + d_n"),
    ("recurrent.2", lambda *t: gru(*t, "inverted"), "is turned round: where u is 1"),
    ("recurrent.2", lambda *t: gru(*t, "no tanh"), "n goes through a tanh"),
    ("recurrent.2", lambda *t: gru(*t, "n gated"), "n goes through a tanh"),
    ("recurrent.2", lambda *t: gru(*t, "no sigmoid"), "r and u are gates"),
    ("recurrent.2", lambda *t: gru(*t, "bare gates"), "r and u are gates"),
    ("recurrent.2", lambda *t: gru(*t, "new alone"), "you return n."),
    ("recurrent.2", lambda *t: gru(*t, "n whole"), "one share is wrong"),
    ("recurrent.2", lambda *t: gru(*t, "old lost"), "one share is wrong"),
    ("recurrent.2", lambda *t: gru(*t, "old whole"), "one share is wrong"),
    ("recurrent.2", lambda *t: gru(*t, "transposed"), "each part of V is turned round"),
    ("recurrent.2", lambda x, W, V, b, d: gru(x, W, V, b, 0 * d), "second bias, d, does not"),
    ("recurrent.2", lambda x, W, V, b, d: gru(x, W, V, 0 * b, d), "first bias, b, does not"),
    ("recurrent.2", lambda *t: gru(*t, order=(1, 0, 2)), "in the order update, reset, new"),
    ("recurrent.2", lambda *t: gru(*t, order=(1, 2, 0)), "in the order new, reset, update"),
    ("recurrent.2", lambda *t: gru(*t, "paper", order=(1, 0, 2)), "order update, reset, new"),
    ("recurrent.2", lambda *t: gru(*t) + 0.01, "of curve 0 I expected"),
    ("recurrent.3", through, "✓"),
    ("recurrent.3", by_autograd, "✓"),
    ("recurrent.3", lambda *t: list(through(*t)), "✓"),
    ("recurrent.3", lambda *t: [part.numpy() for part in through(*t)], "✓"),
    ("recurrent.3", lambda *t: [part.tolist() for part in through(*t)], "✓"),
    ("recurrent.3", lambda *t: through(*t)[::-1], "I expected three tensors, for V, b and h₀"),
    ("recurrent.3", lambda *t: through(*t)[0], "I expected three tensors"),
    ("recurrent.3", lambda *t: (1, 2, 3), "I expected three tensors"),
    ("recurrent.3", lambda *t: through(*t, "no transpose"), "the way back is Vᵀ z̄"),
    ("recurrent.3", lambda *t: through(*t, "outer"), "your gradient of V is transposed"),
    ("recurrent.3", lambda *t: through(*t, "last step"), "only the last step is in"),
    ("recurrent.3", lambda *t: through(*t, "first step"), "only the first step is in"),
    ("recurrent.3", lambda *t: through(*t, "mean"), "you averaged over the steps"),
    ("recurrent.3", lambda *t: through(*t, "no tanh"), "the slope of the tanh is missing"),
    ("recurrent.3", lambda *t: through(*t, "slope"), "with the state that it gave"),
    ("recurrent.3", lambda *t: through(*t, "no square"), "you left out the square"),
    ("recurrent.3", lambda *t: through(*t, "tanh twice"), "no tanh again"),
    ("recurrent.3", lambda *t: through(*t, "same"), "the same gradient at every step"),
    ("recurrent.3", lambda *t: through(*t, "late"), "the state that V multiplied, not h_t"),
    ("recurrent.3", lambda *t: through(*t, "h in the sum"), "in the sums stands z̄"),
    ("recurrent.3", lambda *t: through(*t, "h on the way"), "what goes on with Vᵀ is z̄"),
    ("recurrent.3", lambda *t: through(*t, "moved on"), "before Vᵀ takes it on"),
    ("recurrent.3", lambda *t: through(*t, "slope last"), "Vᵀ comes before the slope"),
    ("recurrent.3", lambda *t: through(*t, "forwards"), "The gradient starts at T"),
    ("recurrent.3", lambda *t: through(*t, "one back"), "lacks the last step back"),
    ("recurrent.3", lambda *t: through(*t, "no first"), "a step is missing at one end"),
    ("recurrent.3", lambda *t: through(*t, "no last"), "a step is missing at one end"),
    ("recurrent.3", lambda *t: through(*t, "long"), "one step too many"),
    ("recurrent.3", lambda *t: through(*t, "outer, one back"), "of V is transposed"),
    ("recurrent.3", lambda *t: through(*t, "no tanh, late"), "the slope of the tanh is missing"),
    ("recurrent.3", lambda *t: (*through(*t)[:2], 2 * through(*t)[2]), "right: V, b. Wrong: h₀."),
    ("recurrent.3", lambda *t: [-p for p in through(*t)], "Wrong: V, b, h₀."),
    ("recurrent.4", bias, "✓"),
    ("recurrent.4", lambda *t: torch.tensor(bias(*t)), "✓"),
    ("recurrent.4", lambda steps, kept: torch.logit(torch.tensor(kept) ** (1 / steps)), "✓"),
    ("recurrent.4", lambda steps, kept: kept ** (1 / steps), "you return f itself"),
    ("recurrent.4", odds, "you return the odds"),
    ("recurrent.4", lambda *t: -bias(*t), "your sign is turned"),
    ("recurrent.4", lambda *t: bias(*t, "power"), "T-th root"),
    ("recurrent.4", lambda *t: bias(*t, "divided"), "a root, not a quotient"),
    ("recurrent.4", lambda steps, kept: bias(1, 1 - (1 - kept) / steps), "not a quotient"),
    ("recurrent.4", lambda steps, kept: math.log(kept) / steps, "you return log f"),
    ("recurrent.4", lambda *t: bias(*t) / math.log(10), "log to the base 10"),
    ("recurrent.4", lambda *t: bias(*t) / math.log(2), "log to the base 2"),
    ("recurrent.4", lambda steps, kept: bias(1, kept) / steps, "you divide the logit of kept"),
    ("recurrent.4", lambda *t: 0, "to keep 0.9 over 8 steps I expected"),
    ("recurrent.4", lambda *t: 4.2687, "to keep 0.9 over 8 steps I expected"),
    ("recurrent.5", holder, "✓"),
    ("recurrent.5", by_another_bias, "✓"),
    ("recurrent.5", new_cell, "✓"),
    ("recurrent.5", any_output, "✓"),
    ("recurrent.5", lambda cell: holder(cell, 14, 30), "✓"),
    ("recurrent.5", lambda cell: holder(cell).weight_ih, "I expected the nn.LSTMCell(2, 1)"),
    ("recurrent.5", lambda cell: nn.LSTMCell(3, 1), "I expected the nn.LSTMCell(2, 1)"),
    ("recurrent.5", lambda cell: holder(cell, how="state left"), "drew are still in weight_hh"),
    ("recurrent.5", lambda cell: holder(cell, order="ifog"), "gates stacked as i, f, o, g"),
    ("recurrent.5", lambda cell: holder(cell, order="figo"), "gates stacked as f, i, g, o"),
    ("recurrent.5", lambda cell: holder(cell, order="gifo"), "gates stacked as g, i, f, o"),
    ("recurrent.5", lambda cell: holder(cell, how="closed"), "the input gate lets 0% enter"),
    ("recurrent.5", lambda cell: holder(cell, how="half open"), "the input gate lets 50% enter"),
    ("recurrent.5", lambda cell: holder(cell, how="no content"), "c is 0.00 times the marked"),
    ("recurrent.5", lambda cell: holder(cell, how="leaks"), "values without a mark enter too"),
    ("recurrent.5", lambda cell: holder(cell, shut=4.0), "Open the forget gate further"),
    ("recurrent.5", lambda cell: holder(cell, how="adds"), "a second mark adds"),
    ("recurrent.5", lambda cell: holder(cell, how="constant"), "a bias of g enters"),
    ("recurrent.5", lambda cell: holder(cell, how="scale"), "times the marked value"),
    ("recurrent.5", disturbed, "it has to be below 0.02"),
    ("recurrent.6", read, "✓"),
    ("recurrent.6", from_the_state, "✓"),
    ("recurrent.6", one_by_one, "✓"),
    ("recurrent.6", lambda *t: read(*t)[:, 0], "✓"),
    ("recurrent.6", lambda gru, head, x, lengths: x, "I expected what head gives"),
    ("recurrent.6", lambda *t: read(*t, "last column"), "you read the last column"),
    ("recurrent.6", lambda *t: read(*t, "backward"), "ends at the first image"),
    ("recurrent.6", lambda *t: read(*t, "step 0"), "has seen one image at step 0"),
    ("recurrent.6", lambda *t: read(*t, "mean"), "your mean divides by 5 columns"),
    ("recurrent.6", lambda *t: read(*t, "all columns"), "your mean divides by 8 columns"),
    ("recurrent.6", lambda *t: read(*t, "sum"), "you add up the valid steps"),
    ("recurrent.6", lambda *t: read(*t, "padded"), "the GRU ran through the padding"),
    ("recurrent.6", lambda *t: read(*t, "padded, backward"), "the GRU ran through the padding"),
    ("recurrent.6", lambda *t: read(*t, "backward, mean"), "ends at the first image"),
    ("recurrent.6", lambda *t: read(*t, "last column, all columns"), "you read the last column"),
    ("recurrent.6", unmended, "you read the last column"),
    ("recurrent.6", unpacked_state, "you read the last column"),
    ("recurrent.6", reshaped_state, "A reshape mixes the curves"),
    ("recurrent.6", forwards_only, "head wants 12 numbers"),
    ("recurrent.6", lambda *t: read(*t, "half"), "has one direction"),
    ("recurrent.6", lambda *t: read(*t, "chunked"), "has one direction"),
    ("recurrent.6", lambda *t: from_two_states(*t, lambda h: (h[0], h[1])), "has one direction"),
    ("recurrent.6", lambda *t: from_two_states(*t, lambda h: (h[-2], h[-1])), "has one direction"),
    ("recurrent.6", lambda *t: from_two_states(*t, two_of), "has one direction"),
    ("recurrent.6", lambda *t: read(*t, "off"), "beside the last valid one"),
    ("recurrent.6", lambda *t: read(*t, "turned"), "head expects forward, backward, mean"),
    ("recurrent.6", lambda *t: read(*t, "halves"), "head expects forward, backward, mean"),
    ("recurrent.6", lambda *t: read(*t).numpy(), "✓"),
    ("recurrent.6", masked_by_value, "you took zeros for padding"),
    ("recurrent.6", mean_by_value, "you took zeros for padding"),
    ("recurrent.6", lambda *t: mean_by_value(*t, masked=False), "you took zeros for padding"),
    ("recurrent.6", all_last_steps, "index the curves, too"),
    ("recurrent.6", lambda g, h, x, n: read(g, h, x, n) + x[:, -1:, 0], "stands in the padding"),
    ("recurrent.6", after_the_last, "beside the last valid one"),
    ("recurrent.6", unpacked_second, "`batch_first=True`, for packing"),
    ("recurrent.6", sorted_batch, "in another order than the batch"),
    ("recurrent.6", must_be_sorted, "`enforce_sorted=False`"),
    ("recurrent.6", batch_second, "`batch_first=True`, for packing"),
    ("recurrent.6", lambda *t: 2 * read(*t), "I expected"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_unfinished_answers_are_not_attempted(capsys):
    check("recurrent.3", lambda hs, V, h_bar: (..., ..., ...))
    check("recurrent.5", lambda cell: cell)
    assert capsys.readouterr().out.count("not attempted yet") == 2


RIGHT = {"recurrent.1": lstm, "recurrent.2": gru, "recurrent.3": through, "recurrent.6": read}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_the_memory_is_told_its_error(capsys):
    check("recurrent.5", holder)
    error = float(capsys.readouterr().out.rstrip(".\n").split()[-1])
    values = np.linspace(-0.4, 0.4, 801)
    assert error == pytest.approx(np.abs(np.tanh(values) - values).mean(), abs=2e-3)


# Gates that open and shut a little more or less firmly
FIRM = ("bias_ih[0] = -10", "bias_ih[1] = 10", "weight_ih[0, 1] = 20", "weight_ih[1, 1] = -20")


def test_no_changed_solution_is_called_right():
    names = ticked("23_recurrent_networks", "recurrent")
    assert [name.split(" → ")[0] for name in names] == [
        f"recurrent.5: cell.{line}" for line in FIRM for _ in ("one more", "one less")
    ]
