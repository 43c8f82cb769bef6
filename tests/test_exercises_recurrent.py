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
    return layer(x)[0]


def lstm(x, W, V, b, d, how="", order=(0, 1, 2, 3)):
    h = c = torch.zeros(len(x), V.shape[1])
    gate, states = (torch.tanh if how == "no sigmoid" else torch.sigmoid), []
    for t in range(x.shape[1]):
        h = 0 * h if how == "frozen" else h
        parts = (x[:, t] @ W.T + b + h @ V.T + d).chunk(4, 1)
        i, f, g, o = (parts[k] for k in order)
        new = torch.sigmoid(g) if how == "g gated" else torch.tanh(g)
        new = new if how == "ungated" else gate(i) * new
        c = 0 * c if how == "new only" else c
        c = c + new if how == "no forget" else gate(f) * c + new
        h = torch.tanh(c) if how == "no output gate" else gate(o) * torch.tanh(c)
        states.append({"c": c, "o c": gate(o) * c}.get(how, h))
    return torch.stack(states, 1)


# ------------------------------------------------------------------------ 2: GRU


def gru(x, W, V, b, d, how="", order=(0, 1, 2)):
    h, states = torch.zeros(len(x), V.shape[1]), []
    gate = torch.tanh if how == "no sigmoid" else torch.sigmoid
    rows = [k * V.shape[1] + torch.arange(V.shape[1]) for k in order]
    (W_r, W_u, W_n), (V_r, V_u, V_n), (b_r, b_u, b_n), (d_r, d_u, d_n) = (
        [part[row] for row in rows] for part in (W, V, b, d)
    )
    for t in range(x.shape[1]):
        h = 0 * h if how == "frozen" else h
        now = x[:, t]
        r = gate(now @ W_r.T + b_r + h @ V_r.T + d_r)
        u = gate(now @ W_u.T + b_u + h @ V_u.T + d_u)
        r = 1 if how == "no reset" else r
        inner = r * (h @ V_n.T + d_n)
        inner = (r * h) @ V_n.T + d_n if how == "paper" else inner
        inner = r * (h @ V_n.T) + d_n if how == "bias outside" else inner
        n = now @ W_n.T + b_n + inner
        n = n if how == "no tanh" else torch.tanh(n)
        u = 1 - u if how == "inverted" else u
        h = n if how == "new alone" else u * h + (1 - u) * n
        states.append(h)
    return torch.stack(states, 1)


def shifted(layer):
    return lambda *t: layer(*t) + 0.01


# ------------------------------------------------------------------------ 3: through time


def through(xs, hs, V, h_bar, how=""):
    steps = list(range(len(xs), 0, -1))
    steps = {"no first": steps[:-1], "no last": steps[1:]}.get(how, steps)
    W_bar, V_bar, b_bar, start = torch.zeros(len(V), xs.shape[1]), 0 * V, 0 * h_bar, h_bar
    z_bar = 0 * h_bar
    for t in steps:
        h_bar = start if how == "same" else h_bar
        slope = {"no tanh": 1, "slope": 1 - hs[t - 1] ** 2}.get(how, 1 - hs[t] ** 2)
        z_bar = h_bar * slope
        keep = 0 if how == "last step" and t < len(xs) else 1
        term = torch.outer(z_bar, hs[t] if how == "late" else hs[t - 1])
        V_bar = V_bar + keep * (term.T if how == "outer" else term)
        W_bar = W_bar + keep * torch.outer(z_bar, xs[t - 2] if how == "x" else xs[t - 1])
        b_bar = b_bar + keep * z_bar
        h_bar = (V if how == "no transpose" else V.T) @ z_bar
    return W_bar, V_bar, b_bar, z_bar if how == "one back" else h_bar


def by_autograd(xs, hs, V, h_bar):
    """From the weights that fit the states: what W x + b was is known from hs."""
    given = (
        torch.atanh(hs[1:].double().clamp(-1 + 1e-12, 1 - 1e-12)) - hs[:-1].double() @ V.double().T
    )
    V, start = V.double().requires_grad_(), hs[0].double().requires_grad_()
    sums = given.requires_grad_()
    h = start
    for t in range(len(xs)):
        h = torch.tanh(sums[t] + V @ h)
    V_bar, start_bar, z_bar = torch.autograd.grad(h @ h_bar.double(), (V, start, sums))
    return (z_bar.T @ xs.double(), V_bar, z_bar.sum(0), start_bar)


# ------------------------------------------------------------------------ 4: a bias


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
    size, rows = gru.hidden_size, torch.arange(len(x))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    outputs = gru(x)[0] if how == "padded" else outputs
    valid = torch.arange(outputs.shape[1]) < lengths[:, None]
    mean = (outputs * valid[..., None]).sum(1) / lengths[:, None]
    mean = outputs.mean(1) if how == "mean" else mean
    at = {"off": lengths - 2, "step 0": 0 * lengths, "last column": 0 * lengths - 1}
    forward = outputs[rows, at.get(how, lengths - 1), :size]
    end = {"backward": lengths - 1, "last column": 0 * lengths - 1}.get(how, 0 * lengths)
    last = torch.cat([forward, outputs[rows, end, size:]], 1)
    return head(torch.cat([mean, last] if how == "turned" else [last, mean], 1))


def from_the_state(gru, head, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    inside, last = gru(packed)
    outputs, _ = pad_packed_sequence(inside, batch_first=True)
    return head(torch.cat([*last, outputs.sum(1) / lengths[:, None]], 1))


def one_by_one(gru, head, x, lengths):
    found = []
    for curve, n in zip(x, lengths.tolist(), strict=True):
        outputs, last = gru(curve[None, :n])
        found.append(head(torch.cat([*last[:, 0], outputs[0].mean(0)])))
    return torch.stack(found)


def masked_by_value(gru, head, x, lengths):
    return read(gru, head, x, (x != 0).any(2).sum(1))


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
    ("recurrent.1", lambda *t: of_library(nn.LSTM, *t), "✓"),
    ("recurrent.1", lambda *t: list(lstm(*t).unbind(1)), "✓"),
    ("recurrent.1", lambda *t: lstm(*t).transpose(0, 1), "I expected all states, a tensor"),
    ("recurrent.1", lambda *t: 3.0, "got float"),
    ("recurrent.1", lambda *t: lstm(*t, order=(0, 1, 3, 2)), "in the order i, f, o, g"),
    ("recurrent.1", lambda *t: lstm(*t, order=(1, 0, 2, 3)), "in the order f, i, g, o"),
    ("recurrent.1", lambda *t: lstm(*t, order=(3, 0, 1, 2)), "in the order f, g, o, i"),
    ("recurrent.1", lambda *t: lstm(*t, "c"), "you return c"),
    ("recurrent.1", lambda *t: lstm(*t, "o c"), "you return c"),
    ("recurrent.1", lambda *t: lstm(*t, "frozen"), "begin with the h of the one before"),
    ("recurrent.1", lambda *t: lstm(*t, "new only"), "the old c is lost"),
    ("recurrent.1", lambda *t: lstm(*t, "ungated"), "what is new enters whole"),
    ("recurrent.1", lambda *t: lstm(*t, "no forget"), "the old c stays whole"),
    ("recurrent.1", lambda *t: lstm(*t, "no output gate"), "the output gate is missing"),
    ("recurrent.1", lambda *t: lstm(*t, "g gated"), "g is no gate"),
    ("recurrent.1", lambda *t: lstm(*t, "no sigmoid"), "send their sums through a sigmoid"),
    ("recurrent.1", lambda x, W, V, b, d: lstm(x, W, V, b, 0 * d), "second bias, d, does not"),
    ("recurrent.1", lambda x, W, V, b, d: lstm(x, W, V, 0 * b, d), "first bias, b, does not"),
    ("recurrent.1", lambda *t: lstm(*t)[:, -1], "the last state is right"),
    ("recurrent.1", shifted(lstm), "of curve 0 I expected"),
    ("recurrent.2", gru, "✓"),
    ("recurrent.2", lambda *t: of_library(nn.GRU, *t), "✓"),
    ("recurrent.2", lambda *t: tuple(gru(*t).unbind(1)), "got tuple"),
    ("recurrent.2", lambda *t: gru(*t)[:1], "I expected all states"),
    ("recurrent.2", lambda *t: gru(*t, "paper"), "that is the paper's form"),
    ("recurrent.2", lambda *t: gru(*t, "bias outside"), "stands outside the reset gate"),
    ("recurrent.2", lambda x, W, V, b, d: gru(x, W, V, b, 0 * d), "second bias, d, does not"),
    ("recurrent.2", lambda x, W, V, b, d: gru(x, W, V, 0 * b, d), "first bias, b, does not"),
    ("recurrent.2", lambda *t: gru(*t, "inverted"), "is turned round"),
    ("recurrent.2", lambda *t: gru(*t, order=(1, 0, 2)), "in the order update, reset, new"),
    ("recurrent.2", lambda *t: gru(*t, order=(1, 2, 0)), "in the order new, reset, update"),
    ("recurrent.2", lambda *t: gru(*t, "no reset"), "it multiplies V_n h + d_n"),
    ("recurrent.2", lambda *t: gru(*t, "no tanh"), "n goes through a tanh"),
    ("recurrent.2", lambda *t: gru(*t, "new alone"), "you return n."),
    ("recurrent.2", lambda *t: gru(*t, "no sigmoid"), "r and u are gates"),
    ("recurrent.2", lambda *t: gru(*t, "frozen"), "begin with the h of the one before"),
    ("recurrent.2", lambda *t: gru(*t)[:, -1], "the last state is right"),
    ("recurrent.2", shifted(gru), "of curve 0 I expected"),
    ("recurrent.3", through, "✓"),
    ("recurrent.3", by_autograd, "✓"),
    ("recurrent.3", lambda *t: list(through(*t)), "✓"),
    ("recurrent.3", lambda *t: through(*t)[1:3], "I expected four tensors"),
    ("recurrent.3", lambda *t: through(*t)[0], "I expected four tensors"),
    ("recurrent.3", lambda *t: (1, 2, 3, 4), "I expected four tensors"),
    ("recurrent.3", lambda *t: through(*t, "no transpose"), "the way back is Vᵀ z̄"),
    ("recurrent.3", lambda *t: through(*t, "outer"), "your gradient of V is transposed"),
    ("recurrent.3", lambda *t: through(*t, "last step"), "only one step is in your gradients"),
    ("recurrent.3", lambda *t: through(*t, "no tanh"), "the slope of the tanh is missing"),
    ("recurrent.3", lambda *t: through(*t, "slope"), "with the state that it gave"),
    ("recurrent.3", lambda *t: through(*t, "same"), "the same gradient at every step"),
    ("recurrent.3", lambda *t: through(*t, "late"), "the state that V multiplied, not h_t"),
    ("recurrent.3", lambda *t: through(*t, "x"), "x_t is xs[t − 1]"),
    ("recurrent.3", lambda *t: through(*t, "one back"), "lacks the last step back"),
    ("recurrent.3", lambda *t: through(*t, "no first"), "a step is missing at one end"),
    ("recurrent.3", lambda *t: through(*t, "no last"), "a step is missing at one end"),
    (
        "recurrent.3",
        lambda *t: (*through(*t)[:2], *[2 * p for p in through(*t)[2:]]),
        "right: W, V.",
    ),
    ("recurrent.3", lambda *t: [-p for p in through(*t)], "Wrong: W, V, b, h₀."),
    ("recurrent.4", bias, "✓"),
    ("recurrent.4", lambda *t: torch.tensor(bias(*t)), "✓"),
    ("recurrent.4", lambda steps, kept: torch.logit(torch.tensor(kept) ** (1 / steps)), "✓"),
    ("recurrent.4", lambda steps, kept: kept ** (1 / steps), "you return f itself"),
    ("recurrent.4", lambda *t: -bias(*t), "your sign is turned"),
    ("recurrent.4", lambda *t: bias(*t, "power"), "T-th root"),
    ("recurrent.4", lambda *t: bias(*t, "divided"), "a root, not a quotient"),
    ("recurrent.4", lambda steps, kept: bias(1, 1 - (1 - kept) / steps), "not a quotient"),
    ("recurrent.4", lambda steps, kept: math.log(kept) / steps, "you return log f"),
    ("recurrent.4", lambda *t: bias(*t) / math.log(10), "log to the base 10"),
    ("recurrent.4", lambda *t: bias(*t) / math.log(2), "log to the base 2"),
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
    ("recurrent.5", lambda cell: holder(cell, how="closed"), "hardly anything enters"),
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
    ("recurrent.6", lambda *t: read(*t, "mean"), "Divide by the number of valid steps"),
    ("recurrent.6", lambda *t: read(*t, "padded"), "the GRU ran through the padding"),
    ("recurrent.6", lambda *t: read(*t, "off"), "beside the last valid one"),
    ("recurrent.6", lambda *t: read(*t, "turned"), "head expects forward, backward, mean"),
    ("recurrent.6", masked_by_value, "you took zeros for padding"),
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
    check("recurrent.3", lambda xs, hs, V, h_bar: (..., ..., ..., ...))
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
