"""Exercises of notebook 24: flow from a cine, a fair split, a lag, CNN and GRU, weights, starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number
from medlab.models import CNNGRU

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
        "shape": "I expected logits of shape {expected}; got {got}.",
        "mixed": "patients, channels or frames are mixed. In (N, C, T, H, W) the frame is not "
        "beside the patient: exchange C and T before you fold N and T into one axis. `.view` and "
        "`.reshape` never exchange axes, they only cut anew.",
        "time first": "you unfolded to (T, N) what was folded as (N, T): frames of one patient "
        "land in another.",
        "patients": "your GRU reads from patient to patient. It was built with batch_first=True: "
        "it takes (N, T, F).",
        "raw": "your frames pass no `net.standardise`.",
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
        "shape": "I expected weights of shape {expected}, as the scores; got {got}.",
        "absent": "slices that are not there have weight. Their score should count as −∞.",
        "not one": "the absent have no weight, and the rest no longer sum to 1: leave the absent "
        "out of the sum below the line too.",
        "zero": "you set scores of absent slices to 0, and exp(0) = 1: they take part.",
        "overflow": "large scores give {got}: exp(1000) is too large for a float. Subtract the "
        "largest score of the row first; the weights stay the same.",
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


def _later(frames: int, shift: int, seed: int) -> tuple[Tensor, Tensor]:
    """A noisy curve with a broad top, and another like it some frames later."""
    rng = torch.Generator().manual_seed(seed)
    t = 2 * torch.pi * torch.arange(frames) / frames
    clean = torch.cos(t - 1) + 0.35 * torch.cos(2 * t + 0.7 * seed)
    a = clean + 0.25 * torch.randn(frames, generator=rng) + 0.4
    b = 0.6 * clean.roll(shift) + 0.15 * torch.randn(frames, generator=rng) - 1.3
    return a, b


@exercise("time_in_images.3", MESSAGES["time_in_images.3"])
def lag(answer) -> Verdict:
    rows = []
    for frames, ms, seed in (
        (16, 50.0, 0),
        (13, 62.5, 1),
        (16, 41.0, 2),
        (20, 40.0, 3),
        (12, 70, 4),
    ):
        for shift in (2, -3, 1, -1):
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
def reads(answer) -> Verdict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = CNNGRU(2, 3, width=4, hidden=5).eval()
        cines = 2 * torch.randn(4, 2, 6, 8, 9) + torch.arange(6.0)[:, None, None]
        net.standardise.fit(cines)
        for part in net.parameters():
            part.data *= 1.5
    with torch.no_grad():
        want = net(cines)
        got = call(answer, net, cines.clone())
        got = _tensor(got).float()
        if got.shape != want.shape:
            return "shape", {"expected": tuple(want.shape), "got": tuple(got.shape)}
        if near(got, want, absolute=1e-4):
            return "right"
        frames = net.standardise(cines).transpose(1, 2)
        found = net.features(frames.flatten(0, 1)).flatten(1).unflatten(0, frames.shape[:2])
        mixed = net.standardise(cines).reshape(24, 2, 8, 9)
        mixed = net.features(mixed).flatten(1).unflatten(0, (4, 6))
        raw = net.features(cines.transpose(1, 2).flatten(0, 1)).flatten(1).unflatten(0, (4, 6))
        cut = net.features(frames.flatten(0, 1)).flatten(1).unflatten(0, (6, 4)).transpose(0, 1)
        over = net.gru(found.transpose(0, 1))[0].transpose(0, 1)
        states, last = net.gru(found)
        known = {
            "mixed": net.classifier(net.gru(mixed)[0].mean(1)),
            "time first": net.classifier(net.gru(cut)[0].mean(1)),
            "patients": net.classifier(over.mean(1)),
            "raw": net.classifier(net.gru(raw)[0].mean(1)),
            "last": net.classifier(states[:, -1]),
            "ends": net.classifier(last.transpose(0, 1).flatten(1)),
            "sum": net.classifier(states.sum(1)),
            "max": net.classifier(states.amax(1)),
            "reversed": net.classifier(net.gru(found.flip(1))[0].mean(1)),
            "softmax": want.softmax(1),
        }
    key = first_match(got, known, absolute=1e-4)
    return key, {"gap": (got - want).abs().max().item()}


# --- 5: weights ---


@exercise("time_in_images.5", MESSAGES["time_in_images.5"])
def weights(answer) -> Verdict:
    scores = torch.tensor([[1.0, -2, 0.5, 3], [0.2, 0.7, -1.5, 0], [-3, -1, -2, -4]])
    there = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    want = scores.masked_fill(~there, -torch.inf).softmax(1)
    got = _tensor(call(answer, scores.clone(), there.clone())).float()
    if got.shape != want.shape:
        return "shape", {"expected": tuple(want.shape), "got": tuple(got.shape)}
    if not near(got, want, absolute=1e-5):
        flat = scores.masked_fill(~there, -torch.inf).flatten().softmax(0).view_as(scores)
        row = there.float()
        known = {
            "absent": scores.softmax(1),
            "not one": scores.softmax(1) * there,
            "zero": (scores * there).softmax(1),
            "columns": scores.masked_fill(~there, -torch.inf).softmax(0),
            "whole": flat,
            "no exp": scores * there / (scores * there).sum(1, keepdim=True),
            "equal": row / row.sum(1, keepdim=True),
            "one": (want == want.amax(1, keepdim=True)).float(),
        }
        key = first_match(got, known, absolute=1e-4)
        told = {"scores": scores[1, :2].tolist(), "got": _rounded(got[1]), "expected": None}
        return key, told | {"expected": _rounded(want[1])}
    big = 1000 * scores
    sharp = big.masked_fill(~there, -torch.inf).softmax(1)
    got = _tensor(call(answer, big.clone(), there.clone())).float()
    if not near(got, sharp, absolute=1e-4):
        return "overflow", {"got": _rounded(got[0])}
    return "right"


def _rounded(row: Tensor) -> list[float]:
    return [round(value, 3) for value in row.tolist()]


# --- 6: another start ---


@exercise("time_in_images.6", MESSAGES["time_in_images.6"])
def rolled(answer) -> Verdict:
    cines = torch.rand(4, 2, 7, 7, 7, generator=torch.Generator().manual_seed(0))
    labels, starts = torch.tensor([2, 6, 0, 5]), torch.tensor([3, 0, 4, 5])
    got = call(answer, cines.clone(), labels.clone(), starts.clone())
    shape = {"expected": tuple(cines.shape)}
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return "format", shape | {"got": type(got).__name__}
    moved, named = _tensor(got[0]).float(), _tensor(got[1]).double()
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
