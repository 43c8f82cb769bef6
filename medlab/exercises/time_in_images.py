"""Exercises of notebook 24: flow from a cine, a fair split, a lag, CNN and GRU, weights, starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
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
        "mean": "you take the mean over a part's pixels. Flow is the sum over them of velocity "
        "times area.",
        "picture": "you take a mean over the whole picture. Flow is the sum, over a part's pixels, "
        "of velocity times area.",
        "no area": "you summed velocities and left out the area of a pixel.",
        "mm": "your flow is a hundred times too large: a pixel's area is in mm², and 100 mm² are "
        "1 cm².",
        "cm": "your flow is ten times too large: 1 cm is 10 mm, and 1 cm² is 100 mm².",
        "minute": "that is what flows in a minute: velocities are a second's, and so is flow.",
        "square": "a pixel is {rows} mm high and {columns} mm wide. You took it for a square.",
        "side": "you used one side of a pixel. Its area is height times width.",
        "sign": "your flow has the other sign. Velocity is positive to the feet, and so is flow.",
        "absolute": "you lost the direction: flow to the head is negative.",
        "feet": "you left out what flows to the head. It counts, and is negative.",
        "swapped": "the rows are exchanged: first the fluid in front (mask 1), then that behind.",
        "together": "both rows hold the flow of front and back together.",
        "more": "your parts hold more than they should: 1 is the fluid in front, 2 that behind, "
        "and 3 to 6 are cord, tonsils and vessels.",
        "from zero": "you counted parts from 0. 0 is all the rest; 1 is the fluid in front, 2 that "
        "behind.",
        "first mask": "you used the mask of one frame for all. Here they differ.",
        "other": "of the first frame I expected {expected} ml/s in front, and got {got}.",
    },
    "time_in_images.2": {
        "right": "all frames of a patient stand on one side.",
        "format": "I expected two lists of positions of frames; got {got}.",
        "names": "those are patients: their names, or their numbers in a list of names. I expected "
        "positions of frames, of which a patient has several.",
        "both sides": "{name} has frames on both sides. Draw patients, then take their frames.",
        "lost": "{count} frames stand on neither side.",
        "twice": "some frames come twice.",
        "swapped": "the first list should hold the share to learn from; the two are exchanged.",
        "share": "of {patients} patients with frames of unequal number I expected {want} to learn "
        "from, a share of {share:g}; got {got}.",
        "varies": "the number of patients to learn from changes from call to call. I expected "
        "{want} each time, a share of {share:g} of {patients}: count patients, not frames, and "
        "draw without replacement.",
        "fixed": "no chance is at work: your patients are the first or the last ones. Shuffle the "
        "names.",
    },
    "time_in_images.3": {
        "right": "positive if the second curve follows, negative if it goes ahead.",
        "sign": "your sign is the other one. If b is a curve that comes later than a, the lag is "
        "positive.",
        "unsigned": "you lost the sign: a curve that goes ahead has a negative lag.",
        "frames": "that is the lag in frames. Multiply by frame_ms.",
        "seconds": "that is the lag in seconds. frame_ms is in ms, and the lag should be.",
        "share": "that is the lag as a share of the beat. Multiply the shift by frame_ms.",
        "wrapped": "a curve that goes ahead by one frame follows, with you, by T − 1 frames. Count "
        "shifts from −T/2 to T/2.",
        "behind": "a curve that follows by one frame goes ahead, with you, by T − 1 frames. Count "
        "shifts from −T/2 to T/2.",
        "half": "you wrap half a beat the wrong way. Of shifts 0 … T − 1, those above T/2 should "
        "lose a whole T, and those below it stay.",
        "offset": "you return the position in a list of shifts that begins with −T/2, not the "
        "shift itself.",
        "only later": "you try no negative shifts. The curve may also go ahead.",
        "edge": "of an odd number of frames your shifts leave out the last, (T − 1)/2: a range "
        "does not hold its end.",
        "floor": "of an odd number of frames your shifts begin at −(T + 1)/2, since -T // 2 rounds "
        "down: write -(T // 2). That shift is (T − 1)/2 once more, under another name.",
        "sixteen": "you take every curve for one of 16 frames. Take T from the curve.",
        "peaks": "you compared where the two are highest, or lowest. One noisy frame moves that; "
        "the correlation uses all frames.",
        "harmonic": "that is the angle between first harmonics. I expected the whole shift at "
        "which r is largest.",
        "linear": "what is shifted out at one end has to come in at the other: the heart beats on. "
        "torch.roll does that.",
        "mean": "what is shifted out at one end is lost, and the means were left in, so the shift "
        "that keeps most frames or fewest may win. With torch.roll nothing is lost, and means "
        "change nothing.",
        "lowest": "you took the shift at which the curves are least alike: r should be largest.",
        "absolute": "you took the largest size of r. A curve upside down is not alike: r itself "
        "should be largest.",
        "other": "of a curve and the same {shift} frames later, {ms:g} ms a frame, I expected "
        "{expected:g} ms, and got {got:g}.",
    },
    "time_in_images.4": {
        "right": "each frame through one encoder, each patient's frames in their order.",
        "class": "I expected a class of networks, `class Film(nn.Module)`; a call of yours gives "
        "{got}.",
        "parts": "`self.{name}` should have weights of the sizes {want}, and has {got}.",
        "kind": "`self.gru` should be an `nn.GRU`; it is {got}.",
        "one way": "your GRU reads forwards only: bidirectional=True.",
        "inputs": "each frame becomes 2·width maps of 4 × 4 cells, so with a width of 4 the GRU "
        "takes {want} numbers a frame; yours takes {got}.",
        "hidden": "a state should have {want} numbers, as `hidden` says; yours has {got}.",
        "states": "there is a state of {hidden} numbers in each direction, so the classifier takes "
        "{want}; yours takes {got}.",
        "each frame": "you answer each frame, {got}. Take the mean of the states over frames, for "
        "logits of shape {expected}.",
        "over patients": "you took the mean over patients, and have an answer a frame, {got}. The "
        "mean is over frames, axis 1 of (N, T, 2·hidden).",
        "shape": "I expected logits of shape {expected}; got {got}.",
        "mixed": "patients, channels or frames are mixed. In (N, C, T, H, W) the frame is not "
        "beside the patient: exchange C and T before you fold N and T into one axis. `.view` and "
        "`.reshape` never exchange axes, they only cut anew.",
        "time first": "you fold patients and frames in one order and unfold them in the other: "
        "frames of one patient land in another. Keep to (N, T).",
        "patients": "your GRU reads from patient to patient. Build it with batch_first=True: "
        "then it takes (N, T, F).",
        "raw": "your frames pass no `self.standardise`.",
        "last": "you took the state of one frame alone. The network takes the mean over frames.",
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
        "exchanged": "the pair is exchanged: first the pooled features, then the weights.",
        "shape": "I expected weights of shape {expected}, as the scores; got {got}.",
        "divided": "the weights are right. They sum to 1 already, so the sum over slices is the "
        "weighted mean: divide no more.",
        "each": "the weights are right. Add up the weighted features over slices.",
        "pooled": "the weights are right, and the pooled features are not: each slice's features "
        "times its weight, added up over slices, {expected}.",
        "absent": "slices that are not there have weight. Their score should count as −∞.",
        "inverted": "you hid the slices that are there, and what is absent has all the weight. "
        "Mask `~there`.",
        "nan": "your weights are NaN: a score reached softmax as +∞. Absent slices need −∞.",
        "not one": "the absent have no weight, and the rest no longer sum to 1: leave the absent "
        "out of the sum below the line too.",
        "zero": "you set scores of absent slices to 0, and exp(0) = 1: they take part.",
        "filled": "slices that are not there get weight, most where other scores lie far below 0: "
        "their score is a number of yours. It should be −∞.",
        "columns": "your weights sum to 1 over stacks. They belong to the slices of one stack.",
        "whole": "your weights sum to 1 over all stacks together; they should in each.",
        "no exp": "you divided the scores by their sum. Take exp of each first.",
        "sum": "your weights of a stack sum to {sum:.3f}. Divide exp of each score by their sum.",
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
        "size": "labels come in again at the other end of T frames. You take the remainder by "
        "{size}, the length of another axis.",
        "distance": "you took the distance of label and start. A frame before the start comes in "
        "at the end: take the remainder by T.",
        "label": "the cines are right. Of cine {k}, which begins with frame {start}, the label "
        "{label} should become {expected}; got {got}.",
        "cines back": "your cine i should begin with what was its frame starts[i]. It begins with "
        "another: torch.roll by k moves frame 0 to place k.",
        "one start": "all cines have one start. Each has its own.",
        "ends": "what comes before the start has to follow after the end of the cine. With you, "
        "those places are empty, or show one frame again and again.",
        "space": "you rolled along rows or columns: hearts leave the picture on one side and come "
        "in on the other. Time is axis 2 of (N, C, T, H, W), and axis 1 of one cine.",
        "channels": "you rolled along channels. Time is axis 2 of (N, C, T, H, W), and axis 1 of "
        "one cine.",
        "cines mixed": "you rolled along patients: cine {k} is another patient's. Time is axis 2 "
        "of (N, C, T, H, W).",
        "unrolled": "the cines stay as they were.",
        "other": "the frames of cine {k} come in another order than I expected.",
    },
}


def material(count: int = 150) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Stacks of simulated chest CT for attention pooling, their slices' features beside them.

    Half of the stacks, of 8 to 16 slices 10 mm apart, hold a nodule of 14 to 24 mm. Stack k does
    not depend on how many there are.

    Args:
        count: stacks.

    Returns:
        Features (count, 16, 6), 0 where a stack has no slice: by how much its two best spots are
        brighter than everything on a ring of 2, 3 and 4 pixels; which slices are there, and which
        of them show the nodule, both (count, 16); a box around it in these, (count, 4): x0, y0,
        x1, y1 in pixels; the stacks in HU, (slices, 64, 64) each.
    """
    features = torch.zeros(count, 16, 6)
    there, nodule = torch.zeros(2, count, 16).bool()
    box = torch.zeros(count, 4)
    stacks = []
    for k in progress(range(count), desc="simulating"):
        rng = np.random.default_rng(k)
        slices, mm = int(rng.integers(8, 17)), rng.uniform(14, 24) * (rng.random() < 0.7)
        shape = (slices, 64, 64)
        body = ct.chest_ct_volume(k, shape=shape, spacing=(10, 5, 5), nodule_mm=mm)
        noise = torch.from_numpy(rng.normal(0, 20, shape)).float()
        stacks.append(body.hu.float() + noise)
        features[k, :slices] = torch.cat([_spots(stacks[-1], r) for r in (2, 3, 4)], 1)
        there[k, :slices] = True
        if body.nodule is not None:
            away = (torch.arange(slices) - body.nodule[0]).abs() * 10
            # Its disc is so wide that it covers the centre of a pixel of 5 mm
            nodule[k, :slices] = away**2 < mm**2 / 4 - 12.5
            row, column, half = *body.nodule[1:], mm / 10 + 1  # pixels of 5 mm, and one around
            box[k] = torch.tensor([column - half, row - half, column + half, row + half]) + 0.5
    return features, there, nodule, box, stacks


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


def _simplest(got: Any, guesses: dict[tuple[str, ...], Any], **tolerance: float) -> str:
    """Of the guesses that match, the first mistake of the one with the fewest; else "other"."""
    for names in sorted(guesses, key=lambda names: sum(map(bool, names))):
        if near(got, guesses[names], **tolerance):
            return next(filter(None, names), "other").partition("/")[0]
    return "other"


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
    parts = {
        "": inside,
        "swapped": inside.flip(0),
        "together": inside.sum(0).expand_as(inside),
        "more": torch.stack([masks >= k for k in (1, 2)]),
        "from zero": torch.stack([masks == k for k in (0, 1)]),
        "first mask": torch.stack([masks[:1] == k for k in (1, 2)]).expand_as(inside),
    }
    signs = {"": velocity, "sign": -velocity, "absolute": velocity.abs()}
    signs |= {"feet": velocity.clamp(min=0)}
    pixels = masks[0].numel()
    factors = {"": area, "mm": area * 100, "cm": area * 10, "no area": 1, "minute": area * 60}
    factors |= {"square": rows**2 / 100, "square/2": columns**2 / 100}
    factors |= {"side": rows / 10, "side/2": columns / 10, "side/3": rows, "side/4": columns}
    factors |= {"picture": 1 / pixels, "picture/2": area / pixels}
    guesses: dict[tuple[str, ...], Tensor] = {}
    for part, mask in parts.items():
        sums = {sign: (v * mask).sum((2, 3)).double() for sign, v in signs.items()}
        sums["absolute/2"] = sums[""].abs()
        for sign, sum_ in sums.items():
            guesses |= {(part, sign, unit): sum_ * factor for unit, factor in factors.items()}
            for k, factor in enumerate((1, area, area * 100)):
                guesses[part, sign, f"mean/{k}"] = sum_ / mask.sum((2, 3)) * factor
    told = {"expected": f"{want[0, 0]:.3f}", "got": f"{got[0, 0]:.3f}"}
    return _simplest(got, guesses), told | {"rows": rows, "columns": columns}


# --- 2: a split ---


@exercise("time_in_images.2", MESSAGES["time_in_images.2"])
def split(answer) -> Verdict:
    rng = np.random.default_rng(0)
    orderly = True
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
            if sorted(everything) == list(range(count)):
                return "names"
            if len(set(everything)) < len(everything):
                return "twice"
            if lost := len(patients) - len(everything):
                return "lost", {"count": lost}
            one, other = (set(patients[part]) for part in (learn, judge))
            if one & other:
                return "both sides", {"name": min(one & other)}
            learnt.append(frozenset(one))
        want, sizes = share * count, [len(one) for one in learnt]
        told = {"patients": count, "want": f"{want:g}", "share": share, "got": sizes[0]}
        if any(abs(size - want) >= 1 for size in sizes):
            if all(abs(count - size - want) < 1 for size in sizes):
                return "swapped", told
            return "share" if len(set(sizes)) == 1 else "varies", told
        orders = (np.unique(names), np.array(list(dict.fromkeys(patients))))
        ends = [part for order in orders for part in (order[: sizes[0]], order[-sizes[0] :])]
        orderly &= set(learnt) <= set(map(frozenset, ends))
    return "fixed" if orderly else "right"


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
        if part.dtype.kind in "US":
            raise Wrong("names")
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
    b = 0.6 * clean.roll(shift) + 0.08 * torch.randn(frames, generator=rng) + (-1.3) ** seed
    return a, b


@exercise("time_in_images.3", MESSAGES["time_in_images.3"])
def lag(answer) -> Verdict:
    curves, got = [], []
    for frames, ms, seed, shifts in _LAGS:
        for shift in shifts:
            a, b = _later(frames, shift, seed)
            got.append(number(call(answer, a.clone(), b.clone(), ms)))
            curves.append((a, b, ms))
    guesses = [_lags(*three) for three in curves]
    want = [guess["", "", "", ""] for guess in guesses]
    if near(got, want):
        return "right"
    key = _simplest(got, {names: [guess[names] for guess in guesses] for names in guesses[0]})
    k = next(k for k, row in enumerate(zip(got, want, strict=True)) if not near(*row))
    ms = curves[k][2]
    return key, {"shift": round(want[k] / ms), "ms": ms, "expected": want[k], "got": got[k]}


def _lags(a: Tensor, b: Tensor, ms: float) -> dict[tuple[str, ...], float]:
    """What each chain of mistakes calls the lag: in the shift, its sign, its range, its unit."""
    n = len(a)
    x, y = a - a.mean(), b - b.mean()
    half, short, all_ = range(-(n // 2), (n + 1) // 2), range(-(n // 2), n // 2), range(1 - n, n)
    waves = (torch.fft.fft(curve)[1] for curve in (x, y))
    harmonic = next(waves) * next(waves).conj()
    shifts = {
        "": _best(_circular, x, y, half),
        "lowest": _best(_circular, x, -y, half),
        "absolute": _best(lambda *three: abs(_circular(*three)), x, y, half),
        "absolute/2": _best(lambda *three: abs(_circular(*three)), a, b, half),
        "only later": _best(_circular, x, y, range((n + 1) // 2)),
        "only later/2": _best(_circular, x, y, range(n // 2 + 1)),
        "edge": _best(_circular, x, y, short),
        "floor": _best(_circular, x, y, range(-n // 2, n // 2)),
        "sixteen": _best(_circular, x, y, range(-8, 8)),
        "harmonic": harmonic.angle().item() * n / (2 * math.pi),
        "peaks": (b.argmax() - a.argmax()).item(),
        "peaks/2": (b.argmin() - a.argmin()).item(),
    }
    for name, one, other in (("linear", x, y), ("mean", a, b)):
        shifts[name] = _best(_linear, one, other, half)
        shifts[f"{name}/2"] = _best(_linear, one, other, all_)
        shifts[f"{name}/3"] = _best(lambda *three: _linear(*three, mean=True), one, other, half)
    signs = {"": 1, "sign": -1}
    ranges = {
        "": lambda s: s,
        "unsigned": abs,
        "wrapped": lambda s: s % n,
        "behind": lambda s: -(-s % n),
        "offset": lambda s: s + n // 2,
        "offset/2": lambda s: (s + (n + 1) // 2) % n,
        "half": lambda s: s % n - n // 2,
        "half/2": lambda s: s % n - n * (s % n < n / 2),
        "half/3": lambda s: s % n - n // 2 * (s % n > n / 2),
        "centred": lambda s: (s + n // 2) % n - n // 2,
    }
    units = {"": ms, "frames": 1, "seconds": ms / 1000, "share": 1 / n}
    return {
        names: ranges[names[2]](shifts[names[0]] * signs[names[1]]) * units[names[3]]
        for names in itertools.product(shifts, signs, ranges, units)
    }


def _best(likeness: Callable[..., float], a: Tensor, b: Tensor, shifts: range) -> int:
    """The first of the shifts at which b is most like a, moved so far."""
    return max(shifts, key=lambda s: likeness(a, b, s))


def _circular(a: Tensor, b: Tensor, s: int) -> float:
    return float((a.roll(s) * b).sum())


def _linear(a: Tensor, b: Tensor, s: int, *, mean: bool = False) -> float:
    n = len(a)
    both = a[max(0, -s) : n - max(0, s)] * b[max(0, s) : n - max(0, -s)]
    return float(both.mean() if mean else both.sum())


# --- 4: CNN and GRU ---


@exercise("time_in_images.4", MESSAGES["time_in_images.4"])
def film(answer) -> Verdict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = CNNGRU(2, 3, width=4, hidden=5).eval()
        for layer in (net.features[1], net.features[5]):
            for value in layer.state_dict().values():
                if value.ndim:
                    value.uniform_(0.5, 1.5)  # else a normalisation would change nothing
        cines = 2 * torch.randn(4, 2, 6, 12, 19) + torch.arange(6.0)[:, None, None]
        own = call(answer, 2, 3, 4, 5)
    net.standardise.fit(cines)
    for part in net.parameters():
        part.data *= 1.5
    if not isinstance(own, nn.Module):
        raise Wrong("class", got=type(own).__name__)
    if any(vars(own).get(name) is ... for name in ("features", "gru", "classifier")):
        raise NotAttempted
    if fault := _parts(net, own):
        return fault
    _copy(net, own)
    with torch.no_grad():
        want = net(cines)
        got = _tensor(call(own.eval(), cines.clone())).float()
        if got.shape != want.shape:
            shapes = {"over patients": (6, 3), "each frame": (4, 6, 3)}
            key = next((key for key, shape in shapes.items() if got.shape == shape), "shape")
            return key, {"expected": tuple(want.shape), "got": tuple(got.shape)}
        if near(got, want, absolute=1e-4):
            return "right"
        known = _misread(net, cines)
    key = first_match(got, known, absolute=1e-4)
    return key.partition("/")[0], {"gap": (got - want).abs().max().item()}


def _parts(net: CNNGRU, own: nn.Module) -> Verdict | None:
    """What is wrong with the parts, if their sizes are not those of `net`; else None."""
    gru, classifier = (getattr(own, name, None) for name in ("gru", "classifier"))
    if isinstance(gru, nn.Module) and not isinstance(gru, nn.GRU):
        return "kind", {"got": type(gru).__name__}
    if isinstance(gru, nn.GRU):
        if gru.input_size != net.gru.input_size:
            return "inputs", {"want": net.gru.input_size, "got": gru.input_size}
        if gru.hidden_size != net.gru.hidden_size:
            return "hidden", {"want": net.gru.hidden_size, "got": gru.hidden_size}
        if not gru.bidirectional:
            return "one way"
    want, got = net.classifier.in_features, getattr(classifier, "in_features", None)
    if got not in (None, want):
        return "states", {"hidden": net.gru.hidden_size, "want": want, "got": got}
    return None


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
        "time first/2": logits(states_of(ready.permute(2, 0, 1, 3, 4).flatten(0, 1))),
        "patients": net.classifier(net.gru(found.transpose(0, 1))[0].transpose(0, 1).mean(1)),
        "raw": logits(states_of(cines.transpose(1, 2).flatten(0, 1))),
        "last": net.classifier(states[:, -1]),
        "last/2": net.classifier(states[:, 0]),
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
        key = "exchanged" if pooled.shape == want.shape and got.shape == (3, 2) else "shape"
        return key, {"expected": tuple(want.shape), "got": tuple(got.shape)}
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
        weights, sums = got.nan_to_num(), got.sum(1)
        # The last stack is full: with all its slices hidden, its weights are NaN or equal
        if not weights[:2][there[:2]].any() and weights[~there].any():
            return "inverted"
        key = first_match(weights, known, absolute=1e-4)
        if key == "other" and got.isnan().any():
            return "nan"
        off = next((k for k in range(3) if not near(sums[k], 1.0)), None)
        if key == "other" and off is not None:
            return "sum", {"sum": sums[off].item()}
        if key == "other" and got[~there].any():
            return "filled"
        told = {"scores": _rounded(scores[1, :2]), "got": _rounded(got[1])}
        return key, told | {"expected": _rounded(want[1])}
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
    # There a number in place of −∞ has weight; exp by hand gives 0/0, and nobody asked for more
    low = scores - 3000
    _, got = _two(call(answer, features.clone(), low.clone(), there.clone()))
    far = low.masked_fill(~there, -torch.inf).softmax(1)
    return "right" if near(got, far, absolute=1e-4) or got.isnan().any() else "filled"


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
    pairs = list(zip(cines, starts.tolist(), strict=True))

    def along(axis: int, sign: int = -1) -> Tensor:
        return torch.stack([cine.roll(sign * start, axis) for cine, start in pairs])

    right, want = along(1), (labels - starts) % 7
    if near(moved, right):
        if near(named, want):
            return "right"
        known = {
            "labels": labels,
            "labels back": labels + starts,
            "labels back/2": (labels + starts) % 7,
            "labels back/3": (starts - labels) % 7,
            "labels back/4": starts - labels,
            "outside": labels - starts,
            "distance": (labels - starts).abs(),
        }
        sizes = {f"size/{size}": (labels - starts) % size for size in (4, 2, 8, 9)}
        key, _, size = first_match(named, known | sizes).partition("/")
        k = next(k for k in range(4) if not near(named[k], want[k]))
        told = {"k": k, "start": starts[k].item(), "label": labels[k].item(), "size": size}
        told |= {"expected": want[k].item(), "got": round(named[k].item(), 3)}
        return "label" if key == "other" else key, told
    later = starts[:, None] + torch.arange(7)
    clamped = torch.stack([cine[:, at.clamp(max=6)] for cine, at in zip(cines, later, strict=True)])
    inside = (later < 7).float()[:, None, :, None, None]
    known = {
        "unrolled": cines,
        "cines back": along(1, 1),
        "ends": clamped,
        "ends/2": clamped * inside,
        **{f"space/{axis}{sign}": along(axis, sign) for axis in (2, 3) for sign in (1, -1)},
        **{f"channels/{sign}": along(0, sign) for sign in (1, -1)},
        **{f"one start/{s}": cines.roll(s, 2) for s in range(1, 7)},
        **{f"cines mixed/{s}": cines.roll(s, 0) for s in range(1, 4)},
    }
    key = first_match(moved, known).partition("/")[0]
    return key, {"k": next(k for k in range(4) if not near(moved[k], right[k]))}
