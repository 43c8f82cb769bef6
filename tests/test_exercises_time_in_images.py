"""Checks of notebook 24: right answers in several forms, each named mistake, mutants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from medlab.exercises import check, material
from medlab.exercises.time_in_images import MESSAGES
from medlab.models import CNNGRU, Standardise
from tests.learners import hasty, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

ID = "time_in_images."

# ------------------------------------------------------------------------------ 1: flow


def flow(velocity, masks, spacing):
    area = spacing[0] * spacing[1] / 100
    return torch.stack([(velocity * (masks == k)).sum((1, 2)) * area for k in (1, 2)])


def flow_in_loops(velocity, masks, spacing):
    rows = [[0.0] * len(velocity) for _ in range(2)]
    for t, i, j in itertools.product(*map(range, velocity.shape)):
        if masks[t, i, j] in (1, 2):
            here = velocity[t, i, j].item() * spacing[0] / 10 * spacing[1] / 10
            rows[masks[t, i, j] - 1][t] += here
    return rows


def mean_speed(velocity, masks, spacing):
    rows = [[v[m == k].mean() for v, m in zip(velocity, masks, strict=True)] for k in (1, 2)]
    return torch.tensor(rows)


def above(velocity, masks, spacing):
    return flow(velocity, torch.where(masks > 1, 2, masks), spacing)


def with_cord_in_front(velocity, masks, spacing):
    area = spacing[0] * spacing[1] / 100
    return torch.stack([(velocity * (masks >= k)).sum((1, 2)) * area for k in (1, 2)])


def of_union(velocity, masks, spacing):
    return flow(velocity, torch.where((masks == 1) | (masks == 2), 1, 0), spacing)[:1].repeat(2, 1)


def from_zero(velocity, masks, spacing):
    return flow(velocity, masks.int() + 1, spacing)


def over_picture(velocity, masks, spacing):
    return torch.stack([(velocity * (masks == k)).mean((1, 2)) for k in (1, 2)])


def of_first_mask(velocity, masks, spacing):
    return flow(velocity, masks[:1].expand_as(masks), spacing)


# ------------------------------------------------------------------------------ 2: a split


def split(patients, share):
    names = np.random.permutation(np.unique(patients))
    learn = np.isin(patients, names[: round(share * len(names))])
    return np.flatnonzero(learn), np.flatnonzero(~learn)


def split_by_dict(patients, share):
    names = sorted(set(patients.tolist()))
    order = torch.randperm(len(names)).tolist()
    learn = {names[k] for k in order[: int(share * len(names))]}
    return tuple([i for i, p in enumerate(patients) if (p in learn) == side] for side in (1, 0))


def split_masks(patients, share):
    learn, _ = split(patients, share)
    return np.isin(np.arange(len(patients)), learn), ~np.isin(np.arange(len(patients)), learn)


def frames_at_random(patients, share):
    order = torch.randperm(len(patients))
    return order[: round(share * len(order))], order[round(share * len(order)) :]


def first_patients(patients, share):
    names = np.unique(patients)
    learn = np.isin(patients, names[: round(share * len(names))])
    return np.flatnonzero(learn), np.flatnonzero(~learn)


def one_lost(patients, share):
    learn, judge = split(patients, share)
    return learn[:-1], judge


def one_twice(patients, share):
    learn, judge = split(patients, share)
    return np.append(learn, learn[:1]), judge


def seeded(patients, share):
    names = np.random.default_rng(3).permutation(np.unique(patients))
    learn = np.isin(patients, names[: round(share * len(names))])
    return np.flatnonzero(learn), np.flatnonzero(~learn)


def drawn_again(patients, share):
    names = np.unique(patients)
    learn = np.isin(patients, np.random.choice(names, round(share * len(names))))
    return np.flatnonzero(learn), np.flatnonzero(~learn)


def by_coin(patients, share):
    names = np.unique(patients)
    learn = np.isin(patients, names[np.random.rand(len(names)) < share])
    return np.flatnonzero(learn), np.flatnonzero(~learn)


def until_enough_frames(patients, share):
    learn = np.zeros(len(patients), bool)
    for name in np.random.permutation(np.unique(patients)):
        if learn.mean() < share:
            learn |= patients == name
    return np.flatnonzero(learn), np.flatnonzero(~learn)


def last_to_come(patients, share):
    names = list(dict.fromkeys(patients))
    learn = np.isin(patients, names[len(names) - round(share * len(names)) :])
    return np.flatnonzero(learn), np.flatnonzero(~learn)


def numbers_of_patients(patients, share):
    order = np.random.permutation(len(np.unique(patients)))
    return order[: round(share * len(order))], order[round(share * len(order)) :]


def two_patients(patients, share):
    return split(patients, 2 / len(np.unique(patients)))


# ------------------------------------------------------------------------------ 3: a lag


def lag(a, b, frame_ms):
    n = len(a)
    shifts = range(-(n // 2), (n + 1) // 2)
    return max(shifts, key=lambda s: float((a.roll(s) * b).sum())) * frame_ms


def lag_by_fourier(a, b, frame_ms):
    a, b = a.numpy(), b.numpy()
    r = np.fft.irfft(np.fft.rfft(b) * np.fft.rfft(a).conj(), len(a))
    s = int(r.argmax())
    return np.float32((s - len(a) if s >= len(a) / 2 else s) * frame_ms)


def lag_by_distance(a, b, frame_ms):
    n, y = len(a), b - b.mean()
    x = (a - a.mean()) / a.std() * b.std()
    gaps = {s: sum((x[(t - s) % n] - y[t]) ** 2 for t in range(n)) for s in range(n)}
    s = min(gaps, key=gaps.get)
    return frame_ms * (s - n if s > n / 2 else s)


def moved(change):
    """The answer whose shift is another, by (shift, frames, shift in 0 … T − 1)."""

    def answer(a, b, frame_ms):
        n, s = len(a), round(lag(a, b, 1))
        return change(s, n, s % n) * frame_ms

    return answer


def tried(shifts, likeness=lambda a, b, s: (a.roll(s) * b).sum(), sign=1):
    """The answer that tries these shifts of T frames, and takes the one most alike."""

    def answer(a, b, frame_ms):
        return sign * max(shifts(len(a)), key=lambda s: float(likeness(a, b, s))) * frame_ms

    return answer


def place_in(shifts):
    """The answer that returns where in the list of shifts the best one stands."""

    def answer(a, b, frame_ms):
        return torch.stack([(a.roll(s) * b).sum() for s in shifts(len(a))]).argmax().item()

    return answer


def halves(n):
    return range(-(n // 2), (n + 1) // 2)


def cut(a, b, s):
    n = len(a)
    return (a[: n - s] * b[s:]).sum() if s >= 0 else (a[-s:] * b[:s]).sum()


def cut_mean(a, b, s):
    return cut(a - a.mean(), b - b.mean(), s) / (len(a) - abs(s))


def of_harmonics(a, b, frame_ms):
    one, other = (np.fft.fft(curve.numpy())[1] for curve in (a, b))
    return np.angle(one * other.conj()) / (2 * np.pi) * len(a) * frame_ms


def lag_wrapped(a, b, frame_ms):
    return (lag(a, b, 1) % len(a)) * frame_ms


def lag_without_wrap(a, b, frame_ms):
    x, y = (a - a.mean()).numpy(), (b - b.mean()).numpy()
    r = np.correlate(y, x, "full")
    shifts = np.arange(-len(a) + 1, len(a))
    near = (shifts >= -(len(a) // 2)) & (shifts < (len(a) + 1) // 2)
    return float(shifts[near][r[near].argmax()] * frame_ms)


# ------------------------------------------------------------------------------ 4: a network


class Film(nn.Module):
    reads = "right"

    def __init__(self, channels, classes, width, hidden):
        super().__init__()

        def block(inputs, outputs):
            layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            return layer, nn.BatchNorm2d(outputs), nn.ReLU()

        self.classifier = nn.Linear(2 * hidden, classes)
        self.features = nn.Sequential(
            *block(channels, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            nn.AdaptiveAvgPool2d(4),
        )
        self.gru = nn.GRU(32 * width, hidden, batch_first=True, bidirectional=True)
        self.standardise = Standardise(channels)

    def forward(self, cines):
        (n, c, t, *size), how = cines.shape, self.reads
        ready = cines if how == "raw" else self.standardise(cines)
        frames = ready.transpose(1, 2).flatten(0, 1)
        if how == "mixed":
            frames = ready.reshape(n * t, c, *size)
        if how == "folded":
            frames = ready.permute(2, 0, 1, 3, 4).flatten(0, 1)
        found = self.features(frames).flatten(1)
        found = (
            found.view(t, n, -1).transpose(0, 1) if how == "time first" else found.view(n, t, -1)
        )
        if how == "reversed":
            found = found.flip(1)
        if how == "patients":
            return self.classifier(self.gru(found.transpose(0, 1))[0].mean(0))
        states, last = self.gru(found)
        pooled = {
            "last": states[:, -1],
            "ends": torch.cat([last[0], last[1]], 1),
            "sum": states.sum(1),
            "max": states.amax(1),
            "first": states[:, 0],
            "half": (states[:, 0] + states[:, -1]) / 2,
            "each frame": states,
            "over patients": states.mean(0),
        }.get(how, states.mean(1))
        logits = self.classifier(pooled)
        return {"softmax": logits.softmax(1), "shape": logits[0]}.get(how, logits)


def film(how, **parts):
    return type("Film", (Film,), {"reads": how, **parts})


class InLoops(Film):
    def forward(self, cines):
        x, rows = self.standardise(cines), []
        for one in x:
            found = torch.stack([self.features(one[:, t][None])[0].flatten() for t in range(6)])
            rows.append(self.classifier(self.gru(found[None])[0][0].mean(0)))
        return torch.stack(rows)


def with_part(name, part):
    """A class whose part `name` is another."""

    class Other(Film):
        def __init__(self, channels, classes, width, hidden):
            super().__init__(channels, classes, width, hidden)
            setattr(self, name, part(width, hidden, classes))

    return Other


def encoder(end=nn.AdaptiveAvgPool2d, order="cnr", **options):
    """Features of two channels in which something is another; `order` of conv, norm, ReLU."""

    def block(inputs, outputs):
        parts = {
            "c": nn.Conv2d(inputs, outputs, 3, **({"padding": 1, "bias": False} | options)),
            "n": nn.BatchNorm2d(outputs),
            "r": nn.ReLU(),
        }
        return [parts[name] for name in order]

    return with_part(
        "features",
        lambda w, h, k: nn.Sequential(*block(2, w), nn.MaxPool2d(2), *block(w, 2 * w), end(4)),
    )


def two_ways(kind, inputs=lambda w: 32 * w, **options):
    ways = {"batch_first": True, "bidirectional": True} | options
    return lambda w, hidden, k: kind(inputs(w), hidden, **ways)


class Frameless(nn.Module):
    def __init__(self, channels, classes, width, hidden):
        super().__init__()
        self.features = nn.Sequential()
        self.gru = ...
        self.classifier = ...

    def forward(self, cines): ...


class Untouched(nn.Module):
    def __init__(self, channels, classes, width, hidden): ...

    def forward(self, cines): ...


# ------------------------------------------------------------------------------ 5: attention


def attend(h, scores, there, how=""):
    scores = scores.masked_fill(~there, -torch.inf)
    a = scores.softmax(1)
    return torch.einsum("ns,nsf->nf", a, h), a


def by_numpy(h, scores, there):
    pooled, weights = [], []
    for row, x, ok in zip(scores.numpy(), h.numpy(), there.numpy(), strict=True):
        parts = np.exp(np.where(ok, row - row[ok].max(), -np.inf))
        weights.append(parts / parts.sum())
        pooled.append(weights[-1] @ x)
    return np.stack(pooled), np.stack(weights)


def weighing(change):
    """An answer to exercise 5 whose weights are those of `change`."""

    def answer(h, scores, there):
        a = change(scores, there)
        return (a[..., None] * h).sum(1), a

    return answer


def hidden(scores, there):
    return scores.masked_fill(~there, -torch.inf)


def plain_exp(scores, there):
    parts = scores.exp() * there
    return parts / parts.sum(1, keepdim=True)


def exp_then_hide(scores, there):
    parts = (scores - hidden(scores, there).amax(1, keepdim=True)).exp() * there
    return parts / parts.sum(1, keepdim=True)


def pooling(change):
    def answer(h, scores, there):
        pooled, a = attend(h, scores, there)
        return change(pooled, a, h, there), a

    return answer


# ------------------------------------------------------------------------------ 6: a start


def rolled(cines, labels, starts):
    moved = [c.roll(-int(s), 1) for c, s in zip(cines, starts, strict=True)]
    return torch.stack(moved), (labels - starts) % cines.shape[2]


def rolled_by_index(cines, labels, starts):
    frames = cines.shape[2]
    moved = np.empty_like(cines.numpy())
    for i, t in itertools.product(range(len(cines)), range(frames)):
        moved[i, :, t] = cines[i, :, (t + starts[i]) % frames]
    return [moved, [int(x - s) % frames for x, s in zip(labels, starts, strict=True)]]


def rolling(axis=1, sign=-1, names=lambda x, s: (x - s) % 7):
    def answer(cines, labels, starts):
        pairs = zip(cines, starts.tolist(), strict=True)
        return torch.stack([c.roll(sign * s, axis) for c, s in pairs]), names(labels, starts)

    return answer


def by_clamping(cines, labels, starts):
    at = (starts[:, None] + torch.arange(7)).clamp(max=6)
    return torch.stack([c[:, k] for c, k in zip(cines, at, strict=True)]), (labels - starts) % 7


def with_empty_ends(cines, labels, starts):
    moved = torch.zeros_like(cines)
    for i, s in enumerate(starts.tolist()):
        moved[i, :, : 7 - s] = cines[i, :, s:]
    return moved, (labels - starts) % 7


CASES = [
    (1, flow, "✓"),
    (1, flow_in_loops, "✓"),
    (1, lambda *t: flow(*t).numpy(), "✓"),
    (1, lambda *t: list(flow(*t)), "✓"),
    (1, lambda *t: flow(*t).T, "a row for the fluid in front"),
    (1, lambda *t: flow(*t)[0], "a row for the fluid in front"),
    (1, mean_speed, "you take the mean over a part's pixels"),
    (1, lambda v, m, s: mean_speed(v, m, s) * s[0] * s[1] / 100, "the mean over a part's pixels"),
    (1, lambda v, m, s: mean_speed(v, m, s) * s[0] * s[1], "the mean over a part's pixels"),
    (1, lambda v, m, s: flow(v, m, (10, 10)), "left out the area"),
    (1, lambda *t: 100 * flow(*t), "a hundred times too large"),
    (1, lambda *t: 10 * flow(*t), "ten times too large"),
    (1, lambda v, m, s: flow(v, m, (s[0], s[0])), "You took it for a square"),
    (1, lambda v, m, s: flow(v, m, (s[1], s[1])), "You took it for a square"),
    (1, lambda *t: -flow(*t), "has the other sign"),
    (1, lambda *t: flow(*t).abs(), "you lost the direction"),
    (1, lambda v, m, s: flow(v.abs(), m, s), "you lost the direction"),
    (1, lambda *t: flow(*t).flip(0), "the rows are exchanged"),
    (1, lambda *t: flow(*t).sum(0).expand(2, -1), "front and back together"),
    (1, with_cord_in_front, "hold more than they should"),
    (1, above, "I expected"),
    (1, of_first_mask, "mask of one frame for all"),
    (1, of_union, "front and back together"),
    (1, from_zero, "you counted parts from 0"),
    (1, over_picture, "a mean over the whole picture"),
    (1, lambda v, m, s: over_picture(v, m, s) * s[0] * s[1] / 100, "over the whole picture"),
    (1, lambda v, m, s: flow(v.clamp(min=0), m, s), "you left out what flows to the head"),
    (1, lambda *t: 60 * flow(*t), "what flows in a minute"),
    (1, lambda v, m, s: flow(v, m, (s[0], 10)), "one side of a pixel"),
    (1, lambda v, m, s: flow(v, m, (100, s[1])), "one side of a pixel"),
    (1, lambda *t: -100 * flow(*t), "has the other sign"),
    (1, lambda *t: 100 * flow(*t).flip(0), "the rows are exchanged"),
    (1, lambda v, m, s: -flow(v, m, (10, 10)).flip(0), "the rows are exchanged"),
    (1, lambda *t: 3 * flow(*t), "ml/s in front, and got"),
    (1, lambda *t: "much", "I expected a number here"),
    (1, lambda *t: [[1.0, 2], [3]], "a list of unequal parts"),
    (2, split, "✓"),
    (2, split_by_dict, "✓"),
    (2, split_masks, "✓"),
    (2, lambda *t: [torch.from_numpy(part) for part in split(*t)], "✓"),
    (2, lambda *t: split(*t)[0], "I expected two lists of positions"),
    (2, seeded, "✓"),
    (2, lambda p, share: (p, p), "those are patients: their names"),
    (2, numbers_of_patients, "or their numbers in a list of names"),
    (2, lambda p, share: (p == "P1", [0.5]), "I expected two lists of positions"),
    (2, drawn_again, "changes from call to call. I expected 7 each time"),
    (2, by_coin, "changes from call to call"),
    (2, until_enough_frames, "count patients, not frames"),
    (2, last_to_come, "your patients are the first or the last ones"),
    (2, lambda p, share: ([0], [999]), "the position 999"),
    (2, frames_at_random, "has frames on both sides"),
    (2, one_lost, "1 frames stand on neither side"),
    (2, one_twice, "some frames come twice"),
    (2, lambda *t: split(*t)[::-1], "the two are exchanged"),
    (2, two_patients, "I expected 7 to learn from"),
    (2, first_patients, "no chance is at work"),
    (3, lag, "✓"),
    (3, lag_by_fourier, "✓"),
    (3, lambda *t: torch.tensor([lag(*t)]), "✓"),
    (3, lambda a, b, ms: lag(b, a, ms), "your sign is the other one"),
    (3, lambda a, b, ms: lag(a, b, 1), "the lag in frames"),
    (3, lag_by_distance, "✓"),
    (3, tried(lambda n: range(-(n // 2), n // 2 + 1)), "✓"),
    (3, tried(lambda n: range((n - 1) // 2, -(n // 2) - 1, -1)), "✓"),
    (3, tried(halves, lambda a, b, s: (a.roll(-s) * b).sum()), "your sign is the other one"),
    (3, tried(halves, lambda a, b, s: (a.roll(-s) * b).sum(), sign=1e-3), "your sign is the other"),
    (3, moved(lambda s, n, r: -r), "your sign is the other one"),
    (3, moved(lambda s, n, r: -s % n), "your sign is the other one"),
    (3, lambda a, b, ms: lag(a, b, ms) / 1000, "the lag in seconds"),
    (3, lambda a, b, ms: lag(a, b, 1) / len(a), "a share of the beat"),
    (3, lambda a, b, ms: lag_wrapped(a, b, 1), "follows, with you, by T − 1 frames"),
    (3, lag_wrapped, "follows, with you, by T − 1 frames"),
    (3, tried(lambda n: range(-n + 1, 1)), "goes ahead, with you, by T − 1 frames"),
    (3, moved(lambda s, n, r: r - n // 2), "half a beat the wrong way"),
    (3, moved(lambda s, n, r: r - n if r < n / 2 else r), "half a beat the wrong way"),
    (3, moved(lambda s, n, r: r - n // 2 if r > n / 2 else r), "half a beat the wrong way"),
    (3, tried(lambda n: range(n // 2 + 1)), "you try no negative shifts"),
    (3, tried(lambda n: range((n + 1) // 2)), "you try no negative shifts"),
    (3, tried(lambda n: range(-(n // 2), n // 2)), "leave out the last, (T − 1)/2"),
    (3, tried(lambda n: range(-n // 2, n // 2 + 1)), "since -T // 2 rounds down"),
    (3, tried(lambda n: range(-n // 2, n // 2)), "since -T // 2 rounds down"),
    (3, place_in(lambda n: range(-n // 2, n // 2)), "the position in a list of shifts"),
    (3, place_in(lambda n: range(-n // 2, n // 2 + 1)), "the position in a list of shifts"),
    (3, place_in(halves), "the position in a list of shifts"),
    (3, tried(lambda n: range(-8, 8)), "for one of 16 frames"),
    (3, of_harmonics, "the angle between first harmonics"),
    (3, tried(halves, cut), "and the means were left in"),
    (3, tried(lambda n: range(1 - n, n), cut), "and the means were left in"),
    (3, tried(halves, cut_mean), "has to come in at the other"),
    (3, tried(halves, lambda a, b, s: cut(a, b, s) / (len(a) - abs(s))), "means were left in"),
    (3, tried(halves, lambda a, b, s: (a.roll(s) * b).sum().abs()), "the largest size of r"),
    (3, lambda a, b, ms: (b.argmin() - a.argmin()) * ms, "where the two are highest, or lowest"),
    (3, lambda a, b, ms: (b.argmax() - a.argmax()) * ms, "where the two are highest"),
    (3, lag_without_wrap, "has to come in at the other"),
    (3, lambda a, b, ms: lag(a, -b, ms), "at which the curves are least alike"),
    (3, lambda *t: abs(lag(*t)), "you lost the sign"),
    (3, lambda a, b, ms: lag(a, b, ms) + len(a) // 2 * ms, "the position in a list of shifts"),
    (3, lambda *t: 7.0, "I expected 100 ms, and got 7"),
    (3, lambda *t: "late", "I expected a number here"),
    (4, Film, "✓"),
    (4, CNNGRU, "✓"),
    (4, InLoops, "✓"),
    (4, film("mixed"), "patients, channels or frames are mixed"),
    (4, film("time first"), "frames of one patient land in another"),
    (4, film("patients"), "reads from patient to patient"),
    (4, film("raw"), "pass no `self.standardise`"),
    (4, film("last"), "the state of one frame alone"),
    (4, film("ends"), "the last state of either direction"),
    (4, film("sum"), "the sum over frames"),
    (4, film("max"), "the maximum over frames"),
    (4, film("reversed"), "your frames come in reverse"),
    (4, film("softmax"), "those are probabilities"),
    (4, film("shape"), "I expected logits of shape (4, 3)"),
    (4, film("first"), "the state of one frame alone"),
    (4, film("half"), "your logits and those of the network differ"),
    (4, film("folded"), "frames of one patient land in another"),
    (4, film("each frame"), "you answer each frame, (4, 6, 3)"),
    (4, film("over patients"), "you took the mean over patients"),
    (4, encoder(), "✓"),
    (4, encoder(bias=True), "`self.features` should have weights of the sizes"),
    (4, encoder(padding=0), "your logits and those of the network differ"),
    (4, encoder(end=nn.AdaptiveMaxPool2d), "your logits and those of the network differ"),
    (4, encoder(order="cn"), "your logits and those of the network differ"),
    (4, encoder(order="cr"), "`self.features` should have weights of the sizes"),
    (4, with_part("gru", two_ways(nn.GRU, bidirectional=False)), "reads forwards only"),
    (4, with_part("gru", two_ways(nn.LSTM)), "should be an `nn.GRU`; it is LSTM"),
    (4, with_part("gru", two_ways(nn.GRU, lambda w: 2 * w)), "takes 128 numbers a frame; yours"),
    (4, with_part("gru", lambda w, h, k: nn.GRU(32 * w, 2 * h)), "a state should have 5 numbers"),
    (4, with_part("gru", two_ways(nn.GRU, num_layers=2)), "should have weights of the sizes"),
    (4, with_part("classifier", lambda w, h, k: nn.Linear(h, k)), "the classifier takes 10; yours"),
    (4, with_part("classifier", lambda w, h, k: nn.Linear(2 * h, 2)), "`self.classifier` should"),
    (4, lambda *t: 5, "I expected a class of networks"),
    (5, attend, "✓"),
    (5, by_numpy, "✓"),
    (5, lambda *t: list(attend(*t)), "✓"),
    (5, lambda *t: attend(*t)[1], "I expected a pair, the pooled"),
    (5, lambda *t: (attend(*t)[0], attend(*t)[1].T), "I expected weights of shape (3, 4)"),
    (5, weighing(lambda s, t: s.softmax(1)), "slices that are not there have weight"),
    (5, weighing(lambda s, t: hidden(s, ~t).softmax(1)), "Mask `~there`"),
    (5, weighing(lambda s, t: s.masked_fill(t, -1e9).softmax(1)), "you hid the slices that are"),
    (5, weighing(lambda s, t: s.masked_fill(~t, torch.inf).softmax(1)), "are NaN: a score"),
    (5, weighing(lambda s, t: s.softmax(1) * t), "the rest no longer sum to 1"),
    (5, weighing(lambda s, t: (s * t).softmax(1)), "and exp(0) = 1"),
    (5, weighing(lambda s, t: hidden(s, t).softmax(0)), "sum to 1 over stacks"),
    (5, weighing(lambda s, t: hidden(s, t).flatten().softmax(0).view(3, 4)), "all stacks together"),
    (5, weighing(lambda s, t: s * t / (s * t).sum(1, keepdim=True)), "Take exp of each first"),
    (5, weighing(lambda s, t: t / t.sum(1, keepdim=True)), "that is the mean"),
    (
        5,
        weighing(lambda s, t: (s == hidden(s, t).amax(1, keepdim=True)).float()),
        "that is the maximum",
    ),
    (5, weighing(lambda s, t: hidden(2 * s, t).softmax(1)), "of the scores [0.2, 0.7]"),
    (5, weighing(plain_exp), "✓"),
    (5, weighing(exp_then_hide), "✓"),
    (5, weighing(lambda s, t: s.masked_fill(~t, -1e9).softmax(1)), "✓"),
    (5, weighing(lambda s, t: s.masked_fill(~t, -100).softmax(1)), "their score is a number"),
    (5, weighing(lambda s, t: s.masked_fill(~t, -10).softmax(1)), "their score is a number"),
    (5, weighing(lambda s, t: s.exp() * t), "your weights of a stack sum to"),
    (5, weighing(lambda s, t: s.sigmoid() * t), "your weights of a stack sum to"),
    (5, weighing(lambda s, t: hidden(s, t).softmax(1) / 2), "your weights of a stack sum to 0.500"),
    (5, lambda *t: attend(*t)[::-1], "the pair is exchanged"),
    (5, pooling(lambda p, a, h, t: p / 4), "divide no more"),
    (5, pooling(lambda p, a, h, t: p / t.sum(1, keepdim=True)), "divide no more"),
    (5, pooling(lambda p, a, h, t: a[..., None] * h), "Add up the weighted features"),
    (5, pooling(lambda p, a, h, t: h.mean(1)), "and the pooled features are not"),
    (6, rolled, "✓"),
    (6, rolled_by_index, "✓"),
    (6, lambda *t: rolled(*t)[0], "I expected a pair, cines (4, 2, 7, 8, 9)"),
    (6, lambda *t: (rolled(*t)[0][:, :1], t[1]), "I expected a pair, cines (4, 2, 7, 8, 9)"),
    (6, rolling(names=lambda x, s: x), "and the labels stay"),
    (6, rolling(names=lambda x, s: (x + s) % 7), "labels move the wrong way"),
    (6, rolling(names=lambda x, s: x - s), "take the remainder by T"),
    (6, rolling(names=lambda x, s: x + s), "labels move the wrong way"),
    (6, rolling(names=lambda x, s: (s - x) % 7), "labels move the wrong way"),
    (6, rolling(names=lambda x, s: (x - s) % 4), "the remainder by 4, the length of another axis"),
    (6, rolling(names=lambda x, s: (x - s) % 2), "the remainder by 2, the length of another axis"),
    (6, rolling(names=lambda x, s: (x - s).abs()), "the distance of label and start"),
    (6, rolling(names=lambda x, s: (x - s + 1) % 7), "the label 2 should become 6; got 0"),
    (6, rolling(axis=0), "you rolled along channels"),
    (6, rolling(axis=0, sign=1), "you rolled along channels"),
    (6, lambda c, x, s: (c.roll(-1, 0), (x - s) % 7), "cine 0 is another patient's"),
    (6, by_clamping, "show one frame again and again"),
    (6, with_empty_ends, "those places are empty"),
    (6, rolling(sign=1, names=lambda x, s: (x + s) % 7), "should begin with what was its frame"),
    (6, lambda c, x, s: (c.roll(-3, 2), (x - 3) % 7), "all cines have one start"),
    (6, rolling(axis=2), "you rolled along rows or columns"),
    (6, rolling(axis=3), "you rolled along rows or columns"),
    (6, lambda c, x, s: (c, (x - s) % 7), "the cines stay as they were"),
    (6, lambda c, x, s: (c.flip(2), x), "the frames of cine 0 come in another order"),
]


def of(k):
    return f"{ID}{k}"


@pytest.mark.parametrize(("k", "answer", "said"), CASES)
def test_answers(k, answer, said, capsys):
    check(of(k), answer)
    out = " ".join(capsys.readouterr().out.split())
    assert said in out
    assert out.startswith(f"✓ {of(k)}:" if said == "✓" else f"✗ {of(k)}:")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


@pytest.mark.parametrize(
    ("k", "answer"),
    [
        (1, lambda *t: [..., ...]),
        (2, lambda *t: (..., ...)),
        (4, Untouched),
        (4, Frameless),
        (5, lambda *t: (..., ...)),
        (6, lambda *t: (..., ...)),
    ],
)
def test_unfinished_answers_are_not_attempted(k, answer, capsys):
    check(of(k), answer)
    assert f"○ {of(k)} not attempted yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("k", "answer"), [(1, flow), (2, split), (3, lag), (5, attend), (6, rolled)]
)
def test_functions_that_change_their_arguments_spoil_nothing(k, answer, capsys):
    given = {2: lambda p, share: split(p.copy(), share)}
    check(of(k), given.get(k, hasty(answer)))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, [(of(k), *rest) for k, *rest in CASES], capsys) == []


def test_the_stacks_show_their_nodules():
    features, there, nodule, box, stacks = material("time_in_images", count=12)
    assert features.shape == (12, 16, 6)
    assert there.sum(1).tolist() == [len(stack) for stack in stacks]
    assert not (nodule & ~there).any() and nodule.any() and not nodule.any(1).all()
    assert (features[~there] == 0).all()
    # The box lies around what is brighter than lung, and nodules are 14 to 24 mm in it.
    for k in nodule.any(1).nonzero()[:, 0].tolist():
        x0, y0, x1, y1 = box[k]
        assert 3.8 <= x1 - x0 <= 11.6 and x1 - x0 == pytest.approx((y1 - y0).item())
        row, column = int((y0 + y1) / 2), int((x0 + x1) / 2)
        assert (stacks[k][nodule[k, : len(stacks[k])], row, column] > -150).all()
    fewer = material("time_in_images", count=3)
    assert torch.equal(fewer[0], features[:3])
    # The best spot of the ring of 3 pixels is brighter in slices with a nodule.
    spot = features[..., 2]
    ranks = (spot[nodule][:, None] > spot[there & ~nodule]).float().mean()
    assert ranks > 0.85


FEATURES = "self.features = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(4))"

# Shifts beyond half a cycle repeat what came before, and the first of equals is taken; the mean
# over frames is the sum divided by their number; axes are named in either order;
# a ReLU and the maximum of four may change places.
EQUIVALENT = [
    "time_in_images.1: rows.append((velocity * inside).sum((1, 2)) * area) → rows.append((velocity * inside).sum((2, 1)) * area)",
    "time_in_images.3: for s in range(-(T // 2), (T + 1) // 2): → for s in range(-(T // 2), (T + 1) // 1):",
    "time_in_images.3: for s in range(-(T // 2), (T + 1) // 2): → for s in range(-(T // 2), (T + 1) // 2 + 1):",
    "time_in_images.3: for s in range(-(T // 2), (T + 1) // 2): → for s in range(-(T // 2), (T + 2) // 2):",
    "time_in_images.3: for s in range(-(T // 2), (T + 1) // 2): → for s in range(-(T // 2), T + 1):",
    "time_in_images.3: r[s] = (a.roll(s) * b).sum() → r[s] = (a.roll(s) * b).mean()",
    f"time_in_images.4: {FEATURES} → {FEATURES.replace('nn.ReLU(), nn.MaxPool2d(2)', 'nn.MaxPool2d(2), nn.ReLU()')}",
    "time_in_images.4: x = x.transpose(1, 2).flatten(0, 1) → x = x.transpose(2, 1).flatten(0, 1)",
]


def test_no_changed_solution_is_called_right():
    cells = ("setup", "imports")
    assert ticked("24_time_in_images", "time_in_images", cells=cells) == EQUIVALENT
