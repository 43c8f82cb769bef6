"""Exercises of notebook 24: flow from a cine, a fair split, a lag, CNN and GRU, weights, starts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.errors import progress
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number
from medlab.models import CNNGRU
from medlab.simulate import ct

MESSAGES = {
    "time_in_images.1": {
        "right": "cm/s times cm² is ml/s, summed over the pixels of a part.",
        "shape": "I expected a row for the fluid in front and one for the fluid behind, a number a "
        "frame, {expected}; got {got}.",
        "mean": "you return the mean velocity. Flow is the sum over pixels of velocity times area.",
        "no area": "you summed velocities and left out the area of a pixel.",
        "mm": "your flow is a hundred times too large: a pixel's area is in mm², and 100 mm² are "
        "1 cm².",
        "cm": "your flow is ten times too large: 1 cm is 10 mm, and 1 cm² is 100 mm².",
        "square": "a pixel is {rows} mm high and {columns} mm wide. You took it for a square.",
        "sign": "your flow has the other sign. Velocity is positive to the feet, and so is flow.",
        "absolute": "you lost the direction: flow to the head is negative.",
        "swapped": "the rows are exchanged: first the fluid in front (mask 1), then that behind.",
        "together": "both rows hold the flow of front and back together.",
        "more": "your parts hold more than they should: 1 is the fluid in front, 2 that behind, "
        "and 3 to 6 are cord, tonsils and vessels.",
        "first mask": "you used the mask of one frame for all. Here they differ.",
        "other": "of the first frame I expected {expected} ml/s in front, and got {got}.",
    },
    "time_in_images.2": {
        "right": "all frames of a patient stand on one side.",
        "format": "I expected two lists of positions of frames; got {got}.",
        "both sides": "{name} has frames on both sides. Draw patients, then take their frames.",
        "lost": "{count} frames stand on neither side.",
        "twice": "some frames come twice.",
        "swapped": "the first list should hold the share to learn from; the two are exchanged.",
        "share": "of {patients} patients with frames of unequal number I expected {want} to learn "
        "from, a share of {share:g}; got {got}.",
        "fixed": "no chance is at work: two calls take the same patients. Shuffle the names first.",
    },
    "time_in_images.3": {
        "right": "positive if the second curve follows, negative if it goes ahead.",
        "sign": "your sign is the other one. If b is a curve that comes later than a, the lag is "
        "positive.",
        "frames": "that is the lag in frames. Multiply by frame_ms.",
        "wrapped": "of a curve that goes ahead you say it follows by nearly a whole beat: {got:g} "
        "ms. Count shifts from −T/2 to T/2.",
        "peaks": "you compared where the two are highest. One noisy frame moves that; the "
        "correlation uses all frames.",
        "linear": "what is shifted out at one end has to come in at the other: the heart beats on. "
        "torch.roll does that.",
        "lowest": "you took the shift at which the curves are least alike.",
        "unsigned": "you lost the sign.",
        "offset": "you return the position in your list of shifts, not the shift itself.",
        "other": "of a curve and the same {shift} frames later, {ms:g} ms a frame, I expected "
        "{expected:g} ms, and got {got:g}.",
    },
    "time_in_images.4": {
        "right": "each frame through one encoder, each patient's frames in their order.",
        "class": "I expected a class of networks, `class Film(nn.Module)`; a call of yours gives "
        "{got}.",
        "parts": "`self.{name}` should have weights of the sizes {want}, and has {got}.",
        "shape": "I expected logits of shape {expected}; got {got}.",
        "mixed": "patients, channels or frames are mixed. In (N, C, T, H, W) the frame is not "
        "beside the patient: exchange C and T before you fold N and T into one axis. `.view` and "
        "`.reshape` never exchange axes, they only cut anew.",
        "time first": "you unfolded to (T, N) what was folded as (N, T): frames of one patient "
        "land in another.",
        "patients": "your GRU reads from patient to patient. Build it with batch_first=True: "
        "then it takes (N, T, F).",
        "raw": "your frames pass no `self.standardise`.",
        "last": "you took the state of the last frame. The network takes the mean over frames.",
        "ends": "you took the last state of either direction. The network takes the mean over "
        "frames.",
        "sum": "you took the sum over frames: average them.",
        "max": "you took the maximum over frames: average them.",
        "reversed": "your frames come in reverse.",
        "softmax": "those are probabilities. I expected logits.",
        "other": "your logits and those of the network differ by up to {gap:.2g}.",
    },
    "time_in_images.5": {
        "right": "weights above 0 that sum to 1, and none where there is no slice.",
        "format": "I expected a pair, the pooled features and the weights; got {got}.",
        "shape": "I expected weights of shape {expected}, as the scores; got {got}.",
        "divided": "the weights are right. They sum to 1 already, so the sum over slices is the "
        "weighted mean: divide no more.",
        "each": "the weights are right. Add up the weighted features over slices.",
        "pooled": "the weights are right, and the pooled features are not: each slice's features "
        "times its weight, added up over slices, {expected}.",
        "absent": "slices that are not there have weight. Their score should count as −∞.",
        "not one": "the absent have no weight, and the rest no longer sum to 1: leave the absent "
        "out of the sum below the line too.",
        "zero": "you set scores of absent slices to 0, and exp(0) = 1: they take part.",
        "overflow": "large scores give {got}: exp(1000) is too large for a float. Subtract the "
        "largest score of the slices that are there first; the weights stay the same.",
        "columns": "your weights sum to 1 over stacks. They belong to the slices of one stack.",
        "whole": "your weights sum to 1 over all stacks together; they should in each.",
        "no exp": "you divided the scores by their sum. Take exp of each first.",
        "equal": "every slice has the same weight: that is the mean.",
        "one": "one slice has all the weight: that is the maximum.",
        "other": "of the scores {scores} I expected {expected}, and got {got}.",
    },
    "time_in_images.6": {
        "right": "frames and label start anew together.",
        "format": "I expected a pair, cines {expected} and labels; got {got}.",
        "labels": "the cines start anew, and the labels stay: they now name other frames.",
        "labels back": "labels move the wrong way. If a cine starts with what was frame 3, frame 5 "
        "becomes frame 2.",
        "outside": "some labels lie outside of 0 … T − 1: take the remainder by T.",
        "cines back": "your cine i should begin with what was its frame starts[i]. It begins with "
        "another: torch.roll by k moves frame 0 to place k.",
        "one start": "all cines have one start. Each has its own.",
        "space": "you rolled along rows or columns: hearts leave the picture on one side and come "
        "in on the other. Time is axis 2 of (N, C, T, H, W).",
        "unrolled": "the labels are right, and the cines stay as they were.",
        "other": "the frames of cine {k} come in another order than I expected.",
    },
}


def material(count: int = 150) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Stacks of simulated chest CT for attention pooling, their slices' features beside them.

    Half of the stacks, of 8 to 16 slices 10 mm apart, hold a nodule of 14 to 24 mm. Stack k does
    not depend on how many there are.

    Args:
        count: stacks.

    Returns:
        Features (count, 16, 6), 0 where a stack has no slice: by how much its two best spots are
        brighter than everything on a ring of 2, 3 and 4 pixels; which slices are there, and which
        of them show the nodule, both (count, 16); the stacks in HU, (slices, 64, 64) each.
    """
    features = torch.zeros(count, 16, 6)
    there, nodule = torch.zeros(2, count, 16).bool()
    stacks = []
    for k in progress(range(count), desc="simulating"):
        rng = np.random.default_rng(k)
        slices, mm = int(rng.integers(8, 17)), rng.uniform(14, 24) * (rng.random() < 0.7)
        shape = (slices, 64, 64)
        body = ct.chest_ct_volume(k, shape=shape, spacing=(10, 5, 5), nodule_mm=mm, photons=None)
        noise = torch.from_numpy(rng.normal(0, 20, shape)).float()
        stacks.append(body.hu.float() + noise)
        features[k, :slices] = torch.cat([_spots(stacks[-1], r) for r in (2, 3, 4)], 1)
        there[k, :slices] = True
        if body.nodule is not None:
            away = (torch.arange(slices) - body.nodule[0]).abs() * 10
            nodule[k, :slices] = away < mm / 2
    return features, there, nodule, stacks


def _spots(slices: Tensor, radius: int) -> Tensor:
    """By how much the two best spots exceed the brightest of 8 points around them, (slices, 2)."""
    soft = F.avg_pool2d(((slices + 1000) / 1100).clamp(0, 1)[:, None], 3, 1, 1)
    ring = [(math.sin(turn), math.cos(turn)) for turn in (k * math.pi / 4 for k in range(8))]
    shifts = [(round(radius * y), round(radius * x)) for y, x in ring]
    around = torch.stack([soft.roll(shift, (2, 3)) for shift in shifts])
    return (soft - around.amax(0)).flatten(1).topk(2).values


def _tensor(answer: Any) -> Tensor:
    """The answer as float64; `Wrong` if it holds no numbers, NotAttempted if it holds `...`."""
    if isinstance(answer, (list, tuple)):
        if any(part is ... for part in answer):
            raise NotAttempted
        try:
            return torch.stack([_tensor(part) for part in answer])
        except RuntimeError:
            raise Wrong("not a number", kind="a list of unequal parts") from None
    try:
        return torch.as_tensor(np.asarray(answer.detach() if torch.is_tensor(answer) else answer))
    except (TypeError, ValueError):
        raise Wrong("not a number", kind=type(answer).__name__) from None


# --- 1: flow ---


@exercise("time_in_images.1", MESSAGES["time_in_images.1"])
def flow(answer) -> Verdict:
    rng = torch.Generator().manual_seed(0)
    velocity = 3 * torch.randn(5, 8, 9, generator=rng) + 0.5
    masks = torch.randint(0, 7, (5, 8, 9), generator=rng).byte()
    masks[:, 0, :4], masks[:, 1, :2] = 1, 2
    rows, columns = 2.0, 1.25
    got = _tensor(call(answer, velocity.clone(), masks.clone(), (rows, columns))).double()
    inside = torch.stack([masks == k for k in (1, 2)])
    total = (velocity * inside).sum((2, 3)).double()
    area = rows * columns / 100
    want = total * area
    if near(got, want):
        return "right"
    if got.shape != want.shape:
        return "shape", {"expected": tuple(want.shape), "got": tuple(got.shape)}
    first = torch.stack([masks[:1] == k for k in (1, 2)])
    above = torch.stack([masks >= k for k in (1, 2)])
    known = {
        "mean": total / inside.sum((2, 3)),
        "no area": total,
        "mm": want * 100,
        "cm": want * 10,
        "sign": -want,
        "absolute": (velocity.abs() * inside).sum((2, 3)) * area,
        "swapped": want.flip(0),
        "together": want.sum(0).expand(2, -1),
        "first mask": (velocity * first).sum((2, 3)) * area,
        "more": (velocity * above).sum((2, 3)) * area,
    }
    key = first_match(got, known)
    if key == "other" and near(got, want.abs()):
        key = "absolute"
    squares = (total * side**2 / 100 for side in (rows, columns))
    if key == "other" and any(near(got, square) for square in squares):
        return "square", {"rows": rows, "columns": columns}
    return key, {"expected": f"{want[0, 0]:.3f}", "got": f"{got[0, 0]:.3f}"}


# --- 2: a split ---


@exercise("time_in_images.2", MESSAGES["time_in_images.2"])
def split(answer) -> Verdict:
    rng = np.random.default_rng(0)
    for count, share in ((10, 0.7), (8, 0.25)):
        names = np.array([f"P{k}" for k in rng.permutation(count)])
        patients = np.repeat(names, rng.integers(1, 9, count))
        rng.shuffle(patients)
        learnt = []
        for seed in range(6):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                np.random.seed(seed)
                parts = _positions(call(answer, patients.copy(), share), len(patients))
            (learn, judge), everything = parts, np.concatenate(parts)
            if len(set(everything)) < len(everything):
                return "twice"
            if lost := len(patients) - len(everything):
                return "lost", {"count": lost}
            one, other = (set(patients[part]) for part in (learn, judge))
            if one & other:
                return "both sides", {"name": min(one & other)}
            want = share * count
            if abs(len(one) - want) >= 1:
                told = {"patients": count, "want": f"{want:g}", "share": share, "got": len(one)}
                return "swapped" if abs(len(other) - want) < 1 else "share", told
            learnt.append(frozenset(one))
        if len(set(learnt)) == 1:
            return "fixed"
    return "right"


def _positions(answer: Any, length: int) -> list[np.ndarray]:
    """Two lists of positions below a length, from what the learner returned."""
    told = f"{type(answer).__name__}"
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("format", got=told)
    if any(part is ... for part in answer):
        raise NotAttempted
    parts = [np.asarray(part) for part in answer]
    parts = [np.flatnonzero(p) if p.dtype == bool and p.shape == (length,) else p for p in parts]
    for part in parts:
        numbers = part.dtype.kind in "iu" or part.size == 0
        if part.ndim != 1 or not numbers or (part.size and not 0 <= part.min() <= part.max()):
            raise Wrong("format", got=f"{told} of {part.dtype} {part.shape}")
        if part.size and part.max() >= length:
            raise Wrong("format", got=f"the position {part.max()} of {length} frames")
    return [part.astype(int) for part in parts]


# --- 3: a lag ---

# Frames, ms between them, seed, and lags in frames, up to the largest that is unambiguous
_LAGS = (
    (16, 50.0, 0, (2, -3, 7, -7)),
    (13, 62.5, 1, (1, -1, 6, -6)),
    (16, 41.0, 2, (3, -2)),
    (20, 40.0, 3, (-1, 9, -9)),
    (12, 70.0, 4, (0, 2, 5, -5)),
)


def _later(frames: int, shift: int, seed: int) -> tuple[Tensor, Tensor]:
    """A noisy curve with a broad top, and another like it some frames later."""
    rng = torch.Generator().manual_seed(seed)
    t = 2 * torch.pi * torch.arange(frames) / frames
    clean = torch.cos(t - 1) + 0.35 * torch.cos(2 * t + 0.7 * seed)
    a = clean + 0.12 * torch.randn(frames, generator=rng) + 0.4
    b = 0.6 * clean.roll(shift) + 0.08 * torch.randn(frames, generator=rng) - 1.3
    return a, b


@exercise("time_in_images.3", MESSAGES["time_in_images.3"])
def lag(answer) -> Verdict:
    rows = []
    for frames, ms, seed, shifts in _LAGS:
        for shift in shifts:
            a, b = _later(frames, shift, seed)
            got = number(call(answer, a.clone(), b.clone(), ms))
            rows.append((a, b, frames, ms, got))
    wanted = [_best(a, b) * ms for a, b, _, ms, _ in rows]
    wrong = [k for k, row in enumerate(rows) if not near(row[4], wanted[k], absolute=1e-3)]
    if not wrong:
        return "right"

    def all_like(guess) -> bool:
        return all(near(row[4], guess(k, *row[:4]), absolute=1e-3) for k, row in enumerate(rows))

    known = {
        "sign": lambda k, a, b, n, ms: -wanted[k],
        "frames": lambda k, a, b, n, ms: wanted[k] / ms,
        "wrapped": lambda k, a, b, n, ms: wanted[k] % (n * ms),
        "unsigned": lambda k, a, b, n, ms: abs(wanted[k]),
        "peaks": lambda k, a, b, n, ms: (b.argmax() - a.argmax()) * ms,
        "lowest": lambda k, a, b, n, ms: _best(a, -b) * ms,
        "linear": lambda k, a, b, n, ms: _best(a, b, wrap=False) * ms,
        "offset": lambda k, a, b, n, ms: wanted[k] + (n // 2) * ms,
    }
    ahead = next((row[4] for row, want in zip(rows, wanted, strict=True) if want < 0), 0.0)
    for key, guess in known.items():
        if all_like(guess):
            return key, {"got": ahead}
    _, _, _, ms, got = rows[wrong[0]]
    want = wanted[wrong[0]]
    return "other", {"shift": round(want / ms), "ms": ms, "expected": want, "got": got}


def _best(a: Tensor, b: Tensor, *, wrap: bool = True) -> int:
    """The shift of most likeness, −T/2 … T/2, of b against a; positive if b comes later."""
    n = len(a)
    shifts = range(-(n // 2), (n + 1) // 2)
    x, y = a - a.mean(), b - b.mean()
    if wrap:
        return max(shifts, key=lambda s: float((x.roll(s) * y).sum()))
    return max(
        shifts,
        key=lambda s: float((x[max(0, -s) : n - max(0, s)] * y[max(0, s) : n - max(0, -s)]).sum()),
    )


# --- 4: CNN and GRU ---


@exercise("time_in_images.4", MESSAGES["time_in_images.4"])
def film(answer) -> Verdict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = CNNGRU(2, 3, width=4, hidden=5).eval()
        cines = 2 * torch.randn(4, 2, 6, 12, 19) + torch.arange(6.0)[:, None, None]
        own = call(answer, 2, 3, 4, 5)
    net.standardise.fit(cines)
    for part in net.parameters():
        part.data *= 1.5
    if not isinstance(own, nn.Module):
        raise Wrong("class", got=type(own).__name__)
    _copy(net, own)
    with torch.no_grad():
        want = net(cines)
        got = _tensor(call(own.eval(), cines.clone())).float()
        if got.shape != want.shape:
            return "shape", {"expected": tuple(want.shape), "got": tuple(got.shape)}
        if near(got, want, absolute=1e-4):
            return "right"
        known = _misread(net, cines)
    key = first_match(got, known, absolute=1e-4)
    return key, {"gap": (got - want).abs().max().item()}


def _copy(net: nn.Module, own: nn.Module) -> None:
    """Weights of `net` into the learner's, part by part; `Wrong` if the parts differ."""
    ours, theirs = net.state_dict(), own.state_dict()
    for name in ("standardise", "features", "gru", "classifier"):
        wanted = {k: v for k, v in ours.items() if k.startswith(f"{name}.")}
        given = [v for k, v in theirs.items() if k.startswith(f"{name}.")]
        if [v.shape for v in given] != [v.shape for v in wanted.values()]:
            sizes = [[tuple(v.shape) for v in part if v.ndim] for part in (wanted.values(), given)]
            raise Wrong("parts", name=name, want=sizes[0], got=sizes[1])
        for value, weight in zip(given, wanted.values(), strict=True):
            value.copy_(weight)


def _misread(net: CNNGRU, cines: Tensor) -> dict[str, Tensor]:
    """Logits of the network with one mistake each."""
    n, c, t, *size = cines.shape

    def states_of(frames: Tensor, cut: tuple[int, int] = (n, t)) -> Tensor:
        return net.features(frames).flatten(1).unflatten(0, cut)

    def logits(found: Tensor) -> Tensor:
        return net.classifier(net.gru(found)[0].mean(1))

    ready = net.standardise(cines)
    frames = ready.transpose(1, 2).flatten(0, 1)
    found = states_of(frames)
    states, last = net.gru(found)
    return {
        "mixed": logits(states_of(ready.reshape(n * t, c, *size))),
        "time first": logits(states_of(frames, (t, n)).transpose(0, 1)),
        "patients": net.classifier(net.gru(found.transpose(0, 1))[0].transpose(0, 1).mean(1)),
        "raw": logits(states_of(cines.transpose(1, 2).flatten(0, 1))),
        "last": net.classifier(states[:, -1]),
        "ends": net.classifier(last.transpose(0, 1).flatten(1)),
        "sum": net.classifier(states.sum(1)),
        "max": net.classifier(states.amax(1)),
        "reversed": logits(found.flip(1)),
        "softmax": net(cines).softmax(1),
    }


# --- 5: weights ---


@exercise("time_in_images.5", MESSAGES["time_in_images.5"])
def attend(answer) -> Verdict:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, 2, generator=rng)
    scores = torch.tensor([[1.0, -2, 0.5, 3], [0.2, 0.7, -1.5, 0], [-3, -1, -2, -4]])
    there = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    pooled, got = _two(call(answer, features.clone(), scores.clone(), there.clone()))
    hidden = scores.masked_fill(~there, -torch.inf)
    want = hidden.softmax(1)
    if got.shape != want.shape:
        return "shape", {"expected": tuple(want.shape), "got": tuple(got.shape)}
    if not near(got, want, absolute=1e-5):
        row, kept = there.float(), scores * there
        known = {
            "absent": scores.softmax(1),
            "not one": scores.softmax(1) * there,
            "zero": kept.softmax(1),
            "columns": hidden.softmax(0).nan_to_num(),
            "whole": hidden.flatten().softmax(0).view_as(scores),
            "no exp": kept / kept.sum(1, keepdim=True),
            "equal": row / row.sum(1, keepdim=True),
            "one": (want == want.amax(1, keepdim=True)).float(),
        }
        told = {"scores": _rounded(scores[1, :2]), "got": _rounded(got[1])}
        return first_match(got.nan_to_num(), known, absolute=1e-4), told | {
            "expected": _rounded(want[1])
        }
    mean = (want[..., None] * features).sum(1)
    if not near(pooled, mean, absolute=1e-5):
        sides = {
            "divided": mean / 4,
            "divided by own": mean / there.sum(1, keepdim=True),
            "each": want[..., None] * features,
        }
        key = first_match(pooled, sides, absolute=1e-5)
        return {"other": "pooled", "divided by own": "divided"}.get(key, key), {
            "expected": tuple(mean.shape)
        }
    big = 1000 * scores
    sharp = big.masked_fill(~there, -torch.inf).softmax(1)
    _, got = _two(call(answer, features.clone(), big.clone(), there.clone()))
    return "right" if near(got, sharp, absolute=1e-4) else ("overflow", {"got": _rounded(got[0])})


def _two(answer: Any, **told: Any) -> tuple[Tensor, Tensor]:
    """The pair of tensors that was asked for; `told` are further values of the message."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("format", got=type(answer).__name__, **told)
    if any(part is ... for part in answer):
        raise NotAttempted
    return _tensor(answer[0]).float(), _tensor(answer[1]).float()


def _rounded(row: Tensor) -> list[float]:
    return [round(value, 3) for value in row.tolist()]


# --- 6: another start ---


@exercise("time_in_images.6", MESSAGES["time_in_images.6"])
def rolled(answer) -> Verdict:
    cines = torch.rand(4, 2, 7, 8, 9, generator=torch.Generator().manual_seed(0))
    labels, starts = torch.tensor([2, 6, 0, 5]), torch.tensor([3, 0, 4, 5])
    shape = {"expected": tuple(cines.shape)}
    moved, named = _two(call(answer, cines.clone(), labels.clone(), starts.clone()), **shape)
    if moved.shape != cines.shape or named.shape != labels.shape:
        return "format", shape | {"got": f"{tuple(moved.shape)} and {tuple(named.shape)}"}
    right = torch.stack([c.roll(-s, 1) for c, s in zip(cines, starts.tolist(), strict=True)])
    back = torch.stack([c.roll(s, 1) for c, s in zip(cines, starts.tolist(), strict=True)])
    spaces = [
        torch.stack([c.roll(sign * s, axis) for c, s in zip(cines, starts.tolist(), strict=True)])
        for axis in (2, 3)
        for sign in (1, -1)
    ]
    want = (labels - starts) % 7
    sound = near(named, want)
    if near(moved, right):
        if sound:
            return "right"
        if near(named, labels):
            return "labels"
        outside = (named < 0).any() or (named > 6).any()
        return "outside" if outside else "labels back"
    if any(near(moved, one) for one in spaces):
        return "space"
    if near(moved, back):
        return "cines back"
    if near(moved, cines):
        return "unrolled"
    if any(near(moved, cines.roll(-s, 2)) or near(moved, cines.roll(s, 2)) for s in range(1, 7)):
        return "one start"
    wrong = [k for k in range(4) if not near(moved[k], right[k])]
    return "other", {"k": wrong[0]}
