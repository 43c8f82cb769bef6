"""Checks of the capstone: slices, lungs, candidates, Brock's model, calibration, categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab import metrics
from medlab.dicom import Volume
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number
from medlab.metrics import Froc

TABLE = {
    "intercept": -6.7892, "age": 0.0287, "female": 0.6011, "family": 0.2961, "emphysema": 0.2953,
    "size": -5.3854, "part_solid": 0.3770, "non_solid": -0.1276, "upper": 0.6581,
    "count": -0.0824, "spiculated": 0.7729,
}  # fmt: skip
# Offsets in mm, x, y, z: a cube of 16 points, 2 mm apart, and the three planes through its middle.
_STEP = 2.0 * torch.arange(16) - 15
_CUBE = torch.stack(torch.meshgrid(_STEP, _STEP, _STEP, indexing="ij"), -1).flip(-1)
_B, _A = torch.meshgrid(_STEP, _STEP, indexing="ij")
_PLANES = torch.stack([
    torch.stack(p, -1) for p in ((_A, _B, 0 * _A), (_A, 0 * _A, _B), (0 * _A, _A, _B))
])  # fmt: skip
ORDER = ("1", "2", "3", "4A", "4B")

MESSAGES = {
    "capstone.1": {
        "right": "the patient's own coordinates order the slices, and their distance is measured.",
        "pair": "return two things: the volume (D, H, W) and the distance in mm; I got {got}.",
        "shape": "I expected a volume of shape {want}, and got {got}.",
        "given order": "these are the slices in the order of the files. Archives shuffle them: "
        "sort by position.",
        "number": "you sorted by number. A scanner may count from the head or from the feet: the "
        "position, in mm, does not lie.",
        "from the head": "your first slice is the one nearest to the head. Positions grow towards "
        "the head, and the volume begins at the feet.",
        "stored": "these are stored values. HU = slope · stored + intercept.",
        "no slope": "you added the intercept and forgot the slope.",
        "no intercept": "you multiplied by the slope and forgot the intercept.",
        "one rescale": "you used one slice's slope and intercept for all. Each file has its own.",
        "overflow": "whole numbers of 16 bits ran over. Make them floats before you multiply.",
        "thickness": "{got:g} mm is the thickness that the files name. The distance is that of "
        "the positions: {want:g} mm.",
        "gap": "a slice was missing or out of its place, and you returned a volume all the same. "
        "Compare the largest distance with the smallest, and raise a ValueError.",
        "strict": "distances that differ by 0.06 mm are all right: refuse from 0.1 mm on.",
        "sign": "a distance is positive: {want:g} mm, and not {got:g}.",
        "distance": "the volume is right; the distance of neighbouring slices is {want:g} mm, and "
        "yours {got:g}.",
        "other": "slice {k} of your volume differs from what I expected.",
    },
    "capstone.2": {
        "right": "two lungs, the one that is cut at the top of the scan too, and neither the room "
        "nor the bowel.",
        "mask": "return a Boolean mask of shape {want}; I got {got}.",
        "tissue": "label 0 is what is no air. It never belongs to the lungs.",
        "room": "the air around the patient is in your mask. What touches a side of a slice is no "
        "lung.",
        "ends": "you dropped what touches the first or the last slice. A scan may begin inside the "
        "lung: only the four sides of a slice count.",
        "one side": "air that touches only one of the four sides is the room, too. You looked at "
        "some sides and not at all.",
        "small": "pockets of less than 200 ml are in your mask: bowel, or windpipe.",
        "strict": "a part of just 200 ml is large enough.",
        "voxels": "you compared a number of voxels with 200. Multiply by the volume of one, "
        "`voxel_ml`.",
        "empty": "your mask is empty. A voxel has `voxel_ml` ml, and the limit is 200 of them.",
        "largest": "you kept the largest part. The two lungs may be one part, or two.",
        "labels": "these are labels. I asked for a Boolean mask.",
        "other": "your mask has {got} voxels, and I expected {want}.",
    },
    "capstone.3": {
        "right": "the best score stays, and only what *stayed* removes its neighbours.",
        "list": "return the positions of those that stay, best first, as a list; I got {got}.",
        "worst": "the lowest score chose first. The best one does.",
        "given order": "you went through them in the order in which they stand. Best score first.",
        "chain": "a candidate that had been removed removed another. Compare with those that "
        "stayed.",
        "strict": "two that are just `apart` from each other both stay: remove what is *nearer*.",
        "nothing": "you removed nothing. What is nearer than `apart` to a better one goes.",
        "squared": "you compared a squared distance with `apart`.",
        "plane": "you measured within the slice only. Candidates above each other are far apart, "
        "too.",
        "blocks": "you compared coordinate by coordinate. Distance is the root of the sum of "
        "squares.",
        "sorted": "these are the right ones in another order. Best score first.",
        "none": "of no candidates none stays: I expected an empty list, and got {got}.",
        "other": "I expected {want}, and got {got}.",
    },
    "capstone.4": {
        "right": "the log-odds of the published table, and from them a probability.",
        "shape": "I expected {want} probabilities, one a nodule, and got {got}.",
        "log-odds": "these are log-odds. The probability is 1 / (1 + exp(−x)).",
        "odds": "these are odds, exp(x). The probability is odds / (1 + odds).",
        "twice": "you subtracted the 4 mm twice. The term is (d/10)^−0.5 − 1.58113883, and that "
        "number *is* (4/10)^−0.5.",
        "centimetres": "d is in mm: it is divided by 10 before the root.",
        "linear": "size enters as (d/10)^−0.5, not as d itself.",
        "root": "the exponent is −0.5: the root stands below the line.",
        "age": "age counts from 62 years.",
        "number": "the number of nodules counts from 4.",
        "kinds": "kind 1 is part-solid (+0.3770), kind 2 ground glass (−0.1276), kind 0 adds "
        "nothing.",
        "no kind": "the kind is missing: +0.3770 for part-solid, −0.1276 for ground glass.",
        "no place": "upper lobe or spiculation is missing.",
        "no patient": "the patient's own terms are missing: sex, family, emphysema.",
        "other": "for nodule {k}, counted from 0, I expected {want:.4f}, and got {got:.4f}.",
    },
    "capstone.5": {
        "right": "with this shift the mean probability is the share of the population, and the "
        "order of the patients is what it was.",
        "ratio": "you took the difference of two log-odds of means. The mean of sigmoids is not "
        "the sigmoid of a mean: search for b.",
        "mean logit": "you moved the mean of the log-odds to that of the share. It is the mean "
        "*probability* that is to fit.",
        "no weights": "you forgot the weights: in the sample there are far more cancers than in "
        "the population.",
        "sign": "that shift has the wrong sign.",
        "probability": "you added a number to the probabilities. b is added to the log-odds.",
        "sum": "you did not divide by the sum of the weights.",
        "coarse": "b = {got:.4f} is near {want:.4f}; halve your interval more often (1e-4 is "
        "asked for).",
        "other": "with b = {got:.3f} the weighted mean is {mean:.4f}, and not {share:.4f}.",
    },
    "capstone.6": {
        "right": "pairs that are likely to be one of each count most, and a tie is half won.",
        "self": "you paired nodules with themselves. A pair has two different ones.",
        "ties": "a tie is half won.",
        "reverse": "you counted the pairs the other way round: won if the cancer has the higher "
        "risk.",
        "plain": "your weight is the same whichever of the two is the cancer. A pair counts with q "
        "of the first times 1 − q of the second.",
        "once": "you took each pair once. It counts both ways: either of the two may be the "
        "cancer.",
        "sum": "divide what is won by the weight of all pairs.",
        "rounded": "you made cancers of all q above a half. They are weights.",
        "other": "I expected {want:.4f}, and got {got:.4f}.",
    },
    "capstone.7": {
        "right": "the most suspicious nodule decides, each kind has its own limits, and a limit "
        "belongs to the class above.",
        "name": "I expected one of 1, 2, 3, 4A and 4B, and got {got!r}.",
        "none": "without a nodule the category is 1; I got {got!r}.",
        "strict": "a solid nodule of {d:g} mm is {want}, and not {got}: at a limit the higher "
        "category begins.",
        "haze": "ground glass has one limit: 30 mm. At {d:g} mm it is {want}, and not {got}.",
        "total": "a part-solid nodule is judged by its solid part from 6 mm in all: {d:g} mm with "
        "a solid part of {solid:g} mm is {want}, and not {got}.",
        "small": "a part-solid nodule below 6 mm in all is 2: {d:g} mm with a solid part of "
        "{solid:g} mm is no {got}.",
        "last": "the nodule that stood last decided. Take the highest category of all.",
        "first": "the nodule that stood first decided. Take the highest category of all.",
        "least": "the least suspicious nodule decided. Take the highest category of all.",
        "largest": "the largest nodule decided. A smaller one of another kind may stand higher.",
        "other": "for {nodules} I expected {want}, and got {got}.",
    },
    "capstone.8": {
        "right": "each draw is divided by its own people and its own cancers.",
        "form": "return two triples, (value, low, high) of the recalls and of the cancers; I got "
        "{got}.",
        "share": "recalls are per 1,000 people.",
        "caught": "the cancers caught are those of the people called, divided by all expected.",
        "everybody": "you took the share of the people who are called. Each counts with its q.",
        "people": "you counted the people with a cancer. Each counts with its q.",
        "fixed": "you divided the cancers of a draw by those of the whole cohort. Each draw has "
        "its own.",
        "swapped": "the recalls come first, then the cancers.",
        "percentiles": "the values are right, the ends are not: the 2.5th and 97.5th percentile "
        "over the draws.",
        "mean": "the value is that of the cohort as it is, not the mean over the draws.",
        "other": "of {what} I expected {want}, and got {got}.",
    },
    "capstone.9": {
        "right": "what is gained and what it costs, at the exchange rate of the threshold.",
        "shape": "I expected {want} values, one a threshold, and got {got}.",
        "strict": "who has just that risk is called: `>=`.",
        "rate": "a false recall costs t / (1 − t); you took t, or its inverse.",
        "no price": "you forgot the price of those called for nothing.",
        "called": "divide by all people, not by those called.",
        "sum": "divide by the number of people.",
        "own": "you used each one's risk as the threshold's price.",
        "other": "at t = {t:g} I expected {want:.5f}, and got {got:.5f}.",
    },
}


# ------------------------------------------------------------------ the course's own versions


def material() -> SimpleNamespace:
    """The functions of the milestones, so that the pipeline runs whoever has skipped one."""
    return SimpleNamespace(
        order=order, keep=keep, merge=merge, brock=brock, shift=shift, expected_auc=expected_auc,
        category=category, workload=workload, benefit=benefit, froc=froc, sample=sample,
        hits=hits, facts=facts, gained=gained, PLANES=_PLANES, CUBE=_CUBE,
    )  # fmt: skip


def sample(volume: Volume, places: Any, offsets: Tensor) -> Tensor:
    """HU (M, …) at places (M, 3) plus each of the offsets (…, 3): x, y, z in mm, trilinear.

    For a volume whose axes are those of the patient.
    """
    at = torch.as_tensor(np.array(places)).float().view(-1, *[1] * (offsets.ndim - 1), 3)
    steps, first = (torch.tensor(v).float() for v in (volume.spacing[::-1], volume.origin))
    size = torch.tensor(volume.voxels.shape[::-1])
    grid = (2 * (at + offsets - first) / steps + 1) / size - 1  # -1 … 1 between outer edges
    grid = grid.reshape(1, len(at), offsets[..., 0].numel(), 1, 3)
    voxels = volume.voxels[None, None]
    found = functional.grid_sample(voxels, grid, align_corners=False, padding_mode="border")
    return found.view(len(at), *offsets.shape[:-1])


def froc(nodules: Any, marks: Any, patients: Sequence, least: float = 6.0) -> Froc:
    """`metrics.froc` of marks in space, for patients and nodules from `least` mm on.

    Args:
        nodules: table of `patient` and `diameter`, indexed by the nodules' numbers.
        marks: table of `patient`, `score` and `nodule`, the number of what a mark hits; −1 for
            nothing. Marks on smaller nodules are neither hits nor false alarms.
        patients: one scan each.
        least: smallest diameter that counts, mm.
    """
    large = nodules.index[(nodules.diameter >= least) & nodules.patient.isin(patients)]
    counts = (marks.nodule < 0) | marks.nodule.isin(large)
    marks = marks[counts & marks.patient.isin(patients)]

    def boxes(numbers: Any) -> Tensor:  # on a line, far apart, so that none hits another
        place = 10.0 * torch.tensor(np.array(numbers), dtype=torch.float64)[:, None]
        return place + torch.tensor([-1.0, 0, 1, 2])

    found = boxes(marks.nodule), torch.tensor(np.array(marks.score, float))
    none = torch.zeros(0, 4), torch.zeros(0)
    empty = len(patients) - 1  # all marks are told of the first scan: only their number counts
    return metrics.froc([boxes(large), *[none[0]] * empty], [found, *[none] * empty])


def gained(
    nodules: Any, marks: Any, new: Any, old: Any, patients: Sequence, rate: float = 1.0
) -> tuple[float, float, float]:
    """Sensitivity by the scores `new` above that by `old`, at `rate` false alarms a scan.

    With the ends of its 95 % interval: both thresholds stay, and patients are drawn, so that the
    two are compared on the same ones. Tables, patients and size limit as in `froc`.
    """
    large = nodules[(nodules.diameter >= 6) & nodules.patient.isin(patients)]
    own = np.array(patients)[:, None] == large.patient.to_numpy()  # whose nodule

    def found(scores: Any) -> np.ndarray:
        curve = froc(nodules, marks.assign(score=scores), patients)
        level = curve.thresholds[curve.false_positives <= rate][-1]
        return large.index.isin(marks.nodule[np.asarray(scores) >= float(level)])

    gains = own @ (found(new).astype(float) - found(old))
    draws = np.concatenate(list(metrics.resamples(gains)))
    drawn = draws @ gains / (draws @ own.sum(1)).clip(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(gains.sum() / own.sum()), float(low), float(high)


def hits(places: np.ndarray, nodules: Any) -> np.ndarray:
    """Number of the nodule that each place (M, 3) lies in, or within 5 mm of its centre; else −1.

    Args:
        places: mm, as the nodules' centres.
        nodules: table of one patient's `centre` (3) and `diameter`, mm, indexed by number.
    """
    away = np.full((len(places), len(nodules) + 1), np.inf)  # the last column: no nodule
    for j, (centre, d) in enumerate(zip(nodules.centre, nodules.diameter, strict=True)):
        away[:, j] = np.linalg.norm(places - centre, axis=1)
        away[away[:, j] > max(d / 2, 5), j] = np.inf
    number = np.append(nodules.index, -1)[away.argmin(1)]
    return np.where(np.isfinite(away.min(1)), number, -1)


def facts(header: Any) -> dict[str, float]:
    """What Brock's model asks of a patient, by a DICOM header: without an age 62; else absent."""
    age, sex = (str(header.get(key) or "") for key in ("PatientAge", "PatientSex"))
    years = float(age[:3]) if age.endswith("Y") else 62.0
    absent = dict.fromkeys(("family", "emphysema", "count"), 0.0)
    return {"age": years, "female": float(sex == "F")} | absent


def order(slices: Sequence[dict]) -> tuple[np.ndarray, float]:
    """(D, H, W) HU from feet to head, and the distance of slices in mm."""
    ordered = sorted(slices, key=lambda s: s["position"])
    hu = [s["slope"] * np.asarray(s["stored"], float) + s["intercept"] for s in ordered]
    gaps = np.diff([s["position"] for s in ordered])
    if np.ptp(gaps) > 0.1:
        raise ValueError(f"distances from {gaps.min():.2f} to {gaps.max():.2f} mm")
    return np.stack(hu), float(gaps.mean())


def keep(labels: np.ndarray, voxel_ml: float) -> np.ndarray:
    """Parts of air (D, H, W) of 200 ml or more that touch no side of a slice."""
    sides = [labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]]
    room = np.unique(np.concatenate([side.ravel() for side in sides]))
    ml = np.bincount(labels.ravel()) * voxel_ml
    return np.isin(labels, np.setdiff1d(np.flatnonzero(ml >= 200), np.append(room, 0)))


def merge(places: np.ndarray, scores: np.ndarray, apart: float) -> list[int]:
    """Positions of the candidates (M, 3) mm that stay, best first: no two nearer than `apart`."""
    kept: list[int] = []
    for i in np.argsort(-np.asarray(scores), kind="stable").tolist():
        if all(np.linalg.norm(places[i] - places[k]) >= apart for k in kept):
            kept.append(i)
    return kept


def brock(diameter: Any, kind: Any, spiculated: Any, upper: Any, facts: dict) -> np.ndarray:
    """Probabilities by the full Brock model with spiculation (McWilliams et al. 2013)."""
    return _sigmoid(_log_odds(diameter, kind, spiculated, upper, facts))


def _log_odds(
    diameter: Any,
    kind: Any,
    spiculated: Any,
    upper: Any,
    facts: dict,
    size: Callable = lambda d: (d / 10) ** -0.5 - 1.58113883,
    **changed: float,
) -> np.ndarray:
    b, kind = TABLE | changed, np.asarray(kind)
    x = b["intercept"] + b["age"] * (facts["age"] - 62) + b["count"] * (facts["count"] - 4)
    x = x + sum(b[name] * facts[name] for name in ("female", "family", "emphysema"))
    x = x + b["size"] * size(np.asarray(diameter, float))
    x = x + b["part_solid"] * (kind == 1) + b["non_solid"] * (kind == 2)
    return x + b["upper"] * np.asarray(upper) + b["spiculated"] * np.asarray(spiculated)


def _sigmoid(x: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def shift(odds: np.ndarray, weights: np.ndarray, share: float) -> float:
    """b with which the weighted mean of sigmoid(odds + b) is `share`."""
    low, high = -30.0, 30.0
    for _ in range(60):
        b = (low + high) / 2
        if np.average(_sigmoid(odds + b), weights=weights) < share:
            low = b
        else:
            high = b
    return b


def category(nodules: Sequence[tuple]) -> str:
    """The highest category of (kind, diameter, solid part), mm: Lung-RADS v2022, at baseline."""
    found = ["1"]
    for kind, diameter, solid in nodules:
        if kind == 2:
            found.append("3" if diameter >= 30 else "2")
        elif kind == 1:
            step = np.searchsorted([6, 8], solid, "right")
            found.append("2" if diameter < 6 else ("3", "4A", "4B")[step])
        else:
            found.append(("2", "3", "4A", "4B")[np.searchsorted([6, 8, 15], diameter, "right")])
    return max(found, key=ORDER.index)


def expected_auc(p: np.ndarray, q: np.ndarray) -> float:
    """AUC of risks p (M,) for outcomes with probabilities q (M,), over all pairs in expectation."""
    pairs = q[:, None] * (1 - q) * ~np.eye(len(q), dtype=bool)
    wins = (p[:, None] > p) + 0.5 * (p[:, None] == p)
    return float((pairs * wins).sum() / pairs.sum())


def workload(call: np.ndarray, q: np.ndarray, draws: np.ndarray) -> tuple[tuple, tuple]:
    """Recalls per 1,000 and the share of expected cancers caught, each (value, low, high)."""
    recalls = 1000 * draws @ call / draws.sum(1)
    caught = draws @ (call * q) / (draws @ q)
    values = 1000 * np.mean(call), (call * q).sum() / q.sum()
    ends = (np.percentile(drawn, [2.5, 97.5]).tolist() for drawn in (recalls, caught))
    return tuple((float(v), *e) for v, e in zip(values, ends, strict=True))  # type: ignore[return-value]


def benefit(risk: np.ndarray, q: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Expected net benefit per person of calling those with a risk of t or more."""
    t = np.asarray(thresholds, float)[:, None]
    return ((np.asarray(risk) >= t) * (q - (1 - q) * t / (1 - t))).mean(1)


# ------------------------------------------------------------------------------------ checks


def _slices() -> list[dict]:
    rng = np.random.default_rng(1)
    numbers = (9, 2, 5, 7, 4)
    z = (-31.5, -24.0, -29.0, -26.5, -34.0)
    rows = []
    for k, (n, at) in enumerate(zip(numbers, z, strict=True)):
        stored = rng.integers(200, 30000, (3, 4)).astype(np.int16)
        rows.append({"position": at, "number": n, "thickness": 3.2, "stored": stored})
        rows[-1] |= {"slope": (1.0, 2.0, 0.5, 4.0, 1.5)[k], "intercept": -1024.0 + 8 * k}
    return rows


@exercise("capstone.1", MESSAGES["capstone.1"])
def _check_order(answer: Any) -> Verdict:
    slices = _slices()
    got = call(answer, [row | {"stored": row["stored"].copy()} for row in slices])
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Wrong("pair", got=type(got).__name__)
    if any(part is ... for part in got):
        raise NotAttempted
    want, distance = order(slices)
    try:
        hu = torch.as_tensor(np.asarray(got[0], float)).numpy()
    except (TypeError, ValueError):
        raise Wrong("pair", got=type(got[0]).__name__) from None
    if hu.shape != want.shape:
        raise Wrong("shape", want=want.shape, got=hu.shape)
    if not near(hu, want, rel=1e-5):
        return _wrong_order(slices, hu, want)
    apart = number(got[1])
    if near(apart, distance):
        return _judged_gaps(answer, slices)
    key = "thickness" if near(apart, 3.2) else "sign" if near(apart, -distance) else "distance"
    return key, {"got": apart, "want": distance}


def _judged_gaps(answer: Callable, slices: list[dict]) -> Verdict:
    """Two slices are missing in turn, or distances differ by 0.3, 0.15 or 0.14 mm; or by 0.06."""

    def spaced(*gaps: float) -> list[dict]:
        places = dict(
            zip(sorted(s["position"] for s in slices), np.cumsum([0, *gaps]), strict=True)
        )
        return [s | {"position": float(places[s["position"]])} for s in slices]

    refused = [slices[:2] + slices[3:], slices[:3] + slices[4:]]
    refused += [spaced(2.5, 2.65, 2.35, 2.5), spaced(2.5, 2.55, 2.6, 2.65)]
    refused += [spaced(5.05, 5.0, 5.05, 5.14)]
    if not all(_refuses(answer, one) for one in refused):
        return "gap"
    return "strict" if _refuses(answer, spaced(2.5, 2.53, 2.47, 2.5)) else "right"


def _refuses(answer: Callable, slices: list[dict]) -> bool:
    try:
        call(answer, slices)
    except Wrong as wrong:
        return isinstance(wrong.__cause__, ValueError)
    return False


def _wrong_order(slices: list[dict], hu: np.ndarray, want: np.ndarray) -> Verdict:
    by = sorted(slices, key=lambda s: s["position"])

    def scaled(rows: list[dict], slope: Any = None, intercept: Any = None) -> np.ndarray:
        return np.stack([
            (r["slope"] if slope is None else slope) * r["stored"].astype(float)
            + (r["intercept"] if intercept is None else intercept)
            for r in rows
        ])  # fmt: skip

    numbered = sorted(slices, key=lambda s: s["number"])
    with np.errstate(over="ignore"):
        short = [np.int16(r["slope"]) * r["stored"] + np.int16(r["intercept"]) for r in by]
    wrong: dict[str, Any] = {
        "given order": scaled(slices),
        "number": scaled(numbered),
        "from the head": want[::-1],
        "stored": scaled(by, 1, 0),
        "no slope": scaled(by, 1),
        "no intercept": scaled(by, None, 0),
        "one rescale": scaled(by, by[0]["slope"], by[0]["intercept"]),
        "overflow": np.stack(short),
    }
    wrong |= {f"one rescale {k}": scaled(by, r["slope"], r["intercept"]) for k, r in enumerate(by)}
    wrong |= {"number down": scaled(numbered[::-1]), "given back": scaled(slices[::-1])}
    key = first_match(hu, wrong, rel=1e-5)
    key = {"number down": "number", "given back": "given order"}.get(key, key)
    if key.startswith("one rescale"):
        key = "one rescale"
    k = int(np.argmax(np.abs(hu - want).max((1, 2)) > 1e-3))
    return key, {"k": k}


def _airs() -> list[tuple[np.ndarray, float]]:
    """Labelled air: 1 the room, 2 and 3 lungs, 4 and 6 bowel; 5 touches one side alone."""
    labels = np.zeros((10, 26, 30), int)
    labels[:, :2], labels[:, -1], labels[:, :, :2], labels[:, :, -1] = 1, 1, 1, 1
    labels[1:, 6:14, 4:11] = 2  # reaches the last slice: 504 voxels
    labels[:5, 6:16, 16:24] = 3  # begins on the first slice: 400
    labels[2:8, 17:22, 6:16] = 4  # 300
    labels[2:4, 18:21, 20:24] = 6  # 24
    found = [(labels, 0.625), (labels, 0.5)]  # of the second lung 250 ml, and just 200
    found.append((labels, 0.49875))  # 199.5 ml
    for axis, end in ((1, 1), (1, -1), (2, 1), (2, -1)):
        for touched in (slice(None), slice(1), slice(-1, None), None):
            one = np.where(labels == 1, 0, labels)
            edge = np.moveaxis(one, axis, 0)[::end]
            edge[1:3, :, 4:22] = 8 if touched is None else 5
            if touched is not None:
                edge[0, touched, 4:22] = 5
            found.append((one, 0.625))
    whole = np.select([np.isin(labels, (2, 3)), labels == 1], [1, 9], labels)
    inner = whole.copy()
    inner[[0, -1]] = 0
    return [(inner, 0.5), (whole, 0.25), *found]  # the lungs as one part first


@exercise("capstone.2", MESSAGES["capstone.2"])
def _check_keep(answer: Any) -> Verdict:
    for k, (labels, ml) in enumerate(_airs()):
        got = call(answer, labels.copy(), ml)
        try:
            mask = np.asarray(got)
        except (TypeError, ValueError, RuntimeError):
            raise Wrong("mask", want=labels.shape, got=type(got).__name__) from None
        if mask.shape != labels.shape:
            raise Wrong("mask", want=labels.shape, got=f"one of shape {mask.shape}")
        want = keep(labels, ml)
        if set(np.unique(mask).tolist()) - {0, 1}:
            raise Wrong("labels")
        mask = mask.astype(bool)
        if not np.array_equal(mask, want):
            return _wrong_lungs(mask, labels, k), {"got": mask.sum(), "want": want.sum()}
    return "right"


def _wrong_lungs(mask: np.ndarray, labels: np.ndarray, k: int) -> str:
    had = set(np.unique(labels[mask]).tolist())
    if not np.array_equal(mask, np.isin(labels, list(had))):
        return "other"
    whole = 9 in labels
    for key, found in (
        ("empty", k == 0 and not had),
        ("tissue", 0 in had),
        ("room", 9 in had if whole else 1 in had),
        ("one side", 5 in had),
        ("small", 6 in had),
        ("voxels", 4 in had),
        ("ends", not had & {1, 2, 3}),
        ("largest", k == 2 and had == {2}),
        ("strict", k == 3 and had == {2}),
    ):
        if found:
            return key
    return "other"


def _marks() -> list[tuple[np.ndarray, np.ndarray, float]]:
    row = np.array(
        [[0, 0, 0], [6, 0, 0], [12, 0, 0], [40.0, 3, 1], [0, 0, 30], [43, 7, 1], [1, 1, 31]]
    )
    rows = [(row, np.array([0.7, 0.8, 0.75, 0.2, 0.5, 0.9, 0.1]), 8.0)]
    chain = np.array([[0, 0, 0], [0, 6, 0], [0, 12.0, 0], [6, 6, 30]])
    rows.append((chain, np.array([0.9, 0.8, 0.3, 0.1]), 8.0))
    rows.append((np.array([[0, 0, 0], [5, 5, 5.0], [9, 0, 0]]), np.array([3.0, 2, 1]), 7.0))
    just = np.array([[0, 0, 0], [3, 4, 0], [-2, 0, 0], [1, 6, 6.0], [0.5, 0.5, 0.25]])
    rows.append((just, np.array([0.3, 0.2, 0.1, 0.05, 0.01]), 5.0))
    near_one = np.array([[0, 0, 0], [0.5, 0.5, 0.0], [0.6, 0.6, 0.6]])
    rows.append((near_one, np.array([0.3, 0.6, 0.2]), 0.8))
    return rows


@exercise("capstone.3", MESSAGES["capstone.3"])
def _check_merge(answer: Any) -> Verdict:
    for places, scores, apart in _marks():
        got = call(answer, places.copy(), scores.copy(), apart)
        try:
            kept = [int(i) for i in np.asarray(got).ravel().tolist()]
        except (TypeError, ValueError):
            raise Wrong("list", got=type(got).__name__) from None
        want = merge(places, scores, apart)
        if kept != want or np.asarray(got).dtype == bool:
            return _wrong_merge(places, scores, apart, kept), {"want": want, "got": kept}
    empty = call(answer, np.zeros((0, 3)), np.zeros(0), 5.0)
    return "right" if len(empty) == 0 else ("none", {"got": empty})


def _wrong_merge(places: np.ndarray, scores: np.ndarray, apart: float, kept: list[int]) -> str:
    def rule(order: Sequence[int], nearer: Callable, chain: bool = False) -> list[int]:
        found: list[int] = []
        for n, i in enumerate(order):
            rivals = order[:n] if chain else found
            if not any(nearer(places[i] - places[k]) for k in rivals):
                found.append(int(i))
        return found

    best = np.argsort(-scores, kind="stable").tolist()
    near_by = lambda d: np.linalg.norm(d) < apart  # noqa: E731
    wrong = {
        "worst": rule(best[::-1], near_by),
        "given order": rule(range(len(scores)), near_by),
        "chain": rule(best, near_by, chain=True),
        "strict": rule(best, lambda d: np.linalg.norm(d) <= apart),
        "nothing": best,
        "squared": rule(best, lambda d: (d**2).sum() < apart),
        "plane": rule(best, lambda d: np.hypot(d[0], d[1]) < apart),
        "blocks": rule(best, lambda d: np.abs(d).max() < apart),
        "city": rule(best, lambda d: np.abs(d).sum() < apart),
    }
    want = merge(places, scores, apart)
    for key, value in wrong.items():
        if kept == value and value != want:
            return "blocks" if key == "city" else key
    return "sorted" if sorted(kept) == sorted(want) else "other"


def _nodules() -> tuple[tuple[Any, Any, Any, Any], dict]:
    rows = ([7.3, 12.0, 21.5, 4.4, 9.1], [0, 1, 2, 0, 1], [0, 1, 0, 0, 0], [1, 0, 0, 0, 1])
    facts = {"age": 71.0, "female": 1.0, "family": 1.0, "emphysema": 0.0, "count": 3.0}
    a, b, c, d = map(np.array, rows)
    return (a, b, c, d), facts


@exercise("capstone.4", MESSAGES["capstone.4"])
def _check_brock(answer: Any) -> Verdict:
    (rows, facts), alone = _nodules(), {"female": 0.0, "family": 0.0, "emphysema": 1.0}
    for told in (facts, facts | alone | {"age": 55.0, "count": 6.0}):
        got = call(answer, *[row.copy() for row in rows], dict(told))
        want = brock(*rows, told)
        p = np.asarray(got.detach() if torch.is_tensor(got) else got)
        if p.shape != want.shape:
            raise Wrong("shape", want=len(want), got=f"shape {p.shape}")
        if not near(p, want, rel=1e-4):
            k = int(np.argmax(np.abs(p - want)))
            return _wrong_brock(p, rows, told), {"k": k, "want": want[k], "got": number(p[k])}
    return "right"


def _wrong_brock(p: np.ndarray, rows: tuple[Any, Any, Any, Any], facts: dict) -> str:
    x = _log_odds(*rows, facts)
    size = TABLE["size"]
    d, kind, spiculated, upper = rows
    changed = {
        "twice": {"size": lambda d: np.abs(d - 4 + 1e-9) / 10},
        "centimetres": {"size": lambda d: d**-0.5 - 1.58113883},
        "linear": {"size": lambda d: d / 10 - 0.4},
        "root": {"size": lambda d: (d / 10) ** 0.5 - 1.58113883},
    }
    wrong = {"log-odds": x, "odds": np.exp(x)}
    wrong |= {key: _sigmoid(_log_odds(*rows, facts, **c)) for key, c in changed.items()}  # type: ignore[arg-type]
    with np.errstate(invalid="ignore", divide="ignore"):
        twice = ((d - 4) / 10) ** -0.5 - 1.58113883
        wrong["twice"] = _sigmoid(x - size * ((d / 10) ** -0.5 - 1.58113883) + size * twice)
    wrong["root positive"] = _sigmoid(
        _log_odds(*rows, facts, size=lambda d: (d / 10) ** 0.5 - 0.4**0.5)
    )
    wrong["age"] = _sigmoid(x + 62 * TABLE["age"])
    wrong["number"] = _sigmoid(x + 4 * TABLE["count"])
    for taken in ((0, 2, 1), (0, 0, 1), (0, 1, 1), (1, 2, 0)):  # as which kind 0, 1, 2 are taken
        mistaken = np.array(taken)[kind]
        wrong[f"kinds {taken}"] = _sigmoid(_log_odds(d, mistaken, spiculated, upper, facts))
    wrong["no kind"] = _sigmoid(_log_odds(d, 0 * kind, spiculated, upper, facts))
    for key, (s, u) in {"a": (0, upper), "b": (spiculated, 0), "c": (0, 0)}.items():
        wrong[f"no place {key}"] = _sigmoid(_log_odds(d, kind, s, u, facts))
    for names in (("female",), ("family",), ("emphysema",), ("female", "family", "emphysema")):
        less = facts | dict.fromkeys(names, 0.0)
        wrong[f"no patient {names}"] = _sigmoid(_log_odds(*rows, less))
    key = next(
        (
            k
            for k, v in wrong.items()
            if near(p, v, rel=1e-4) and not near(v, _sigmoid(x), rel=1e-4)
        ),
        "other",
    )
    for name in ("no place", "no patient", "root", "kinds"):
        key = name if key.startswith(name) else key
    return key


def _odds() -> list[tuple[np.ndarray, np.ndarray, float]]:
    rng = np.random.default_rng(3)
    odds = np.append(rng.normal(0.5, 2.0, 14), rng.normal(-2.5, 1.5, 12))
    weights = np.append(np.ones(14), np.full(12, 14.5))
    return [(odds, weights, 0.06), (-odds[:9] * 1.7, weights[5:14] + np.arange(9), 0.41)]


@exercise("capstone.5", MESSAGES["capstone.5"])
def _check_shift(answer: Any) -> Verdict:
    for odds, weights, share in _odds():
        got = number(call(answer, odds.copy(), weights.copy(), share))
        want = shift(odds, weights, share)
        if abs(got - want) < 2e-3:
            continue
        logit = np.log(share / (1 - share))
        mean = np.average(_sigmoid(odds), weights=weights)
        plain = {
            "no weights": shift(odds, np.ones_like(odds), share),
            "ratio": logit - np.log(mean / (1 - mean)),
            "ratio, plain": logit - np.log(_sigmoid(odds).mean() / (1 - _sigmoid(odds).mean())),
            "mean logit": logit - np.average(odds, weights=weights),
            "mean logit, plain": logit - odds.mean(),
            "sign": -want,
            "probability": share - mean,
            "sum": _sum_shift(odds, weights, share),
        }
        key = next((k for k, v in plain.items() if abs(got - v) < 2e-3), "other").split(",")[0]
        if key == "other" and abs(got - want) < 0.1:
            key = "coarse"
        mean = np.average(_sigmoid(odds + got), weights=weights)
        return key, {"got": got, "want": want, "mean": mean, "share": share}
    return "right"


def _sum_shift(odds: np.ndarray, weights: np.ndarray, share: float) -> float:
    return shift(odds, weights, share / weights.mean())


CASES: list[tuple[tuple, ...]] = [
    (),
    ((0, 5.9, 0),), ((0, 6.0, 0),), ((0, 7.9, 0),), ((0, 8.0, 0),), ((0, 14.9, 0),),
    ((0, 15.0, 0),),
    ((2, 5.0, 0),), ((2, 12.0, 0),), ((2, 29.9, 0),), ((2, 30.0, 0),),
    ((1, 5.9, 5.5),), ((1, 5.0, 2.0),), ((1, 6.0, 3.0),), ((1, 20.0, 5.9),), ((1, 20.0, 6.0),),
    ((1, 9.0, 7.9),), ((1, 9.0, 8.0),), ((1, 25.0, 11.0),),
    ((0, 9.0, 0), (0, 16.0, 0), (0, 4.0, 0), (0, 7.0, 0)), ((2, 28.0, 0), (0, 7.0, 0)),
    ((1, 26.0, 3.0), (0, 8.5, 0)),
    ((0, 4.0, 0), (0, 16.0, 0), (2, 31.0, 0)),
]  # fmt: skip


@exercise("capstone.7", MESSAGES["capstone.7"])
def _check_category(answer: Any) -> Verdict:
    for nodules in CASES:
        got, want = str(call(answer, list(nodules))), category(nodules)
        if got == want:
            continue
        if got not in ORDER:
            raise Wrong("name", got=got)
        if not nodules:
            return "none", {"got": got}
        values = {"want": want, "got": got, "nodules": list(nodules)}
        if len(nodules) == 1:
            kind, d, solid = nodules[0]
            key = ("strict", "total", "haze")[kind]
            if kind == 0 and d not in (6.0, 8.0, 15.0):
                key = "other"
            if kind == 1 and d < 6:
                key = "small"
            return key, values | {"d": d, "solid": solid}
        deciding = {
            "largest": max(nodules, key=lambda n: n[1]),
            "last": nodules[-1],
            "first": nodules[0],
            "least": min(nodules, key=lambda n: category([n])),
        }
        return next((k for k, n in deciding.items() if got == category([n])), "other"), values
    return "right"


def _people() -> tuple[np.ndarray, np.ndarray]:
    p = np.array([0.3, 0.1, 0.1, 0.7, 0.02, 0.3, 0.05])
    return p, np.array([0.2, 0.4, 0.02, 0.6, 0.01, 0.05, 0.3])


@exercise("capstone.6", MESSAGES["capstone.6"])
def _check_auc(answer: Any) -> Verdict:
    for p, q in (_people(), (np.array([0.2, 0.2, 0.9, 0.4]), np.array([0.9, 0.1, 0.3, 0.8]))):
        got, want = number(call(answer, p.copy(), q.copy())), expected_auc(p, q)
        if near(got, want, rel=1e-4):
            continue
        pairs = q[:, None] * (1 - q)
        other = pairs * ~np.eye(len(q), dtype=bool)
        more, tie = p[:, None] > p, p[:, None] == p
        hard = (q > 0.5)[:, None] & ~(q > 0.5)
        wrong = {
            "self": (pairs * (more + 0.5 * tie)).sum() / pairs.sum(),
            "self, won": (pairs * (more + 1.0 * tie)).sum() / pairs.sum(),
            "self, lost": (pairs * more).sum() / pairs.sum(),
            "ties": (other * more).sum() / other.sum(),
            "ties, won": (other * (more | tie)).sum() / other.sum(),
            "ties, left": (other * more).sum() / (other * ~tie).sum(),
            "reverse": 1 - want,
            "plain": ((more + 0.5 * tie) * (other > 0)).sum() / (other > 0).sum(),
            "once": (np.triu(other) * (more + 0.5 * tie)).sum() / np.triu(other).sum(),
            "sum": (other * (more + 0.5 * tie)).sum(),
            "sum, mean": (other * (more + 0.5 * tie)).sum() / (other > 0).sum(),
            "rounded": (hard * (more + 0.5 * tie)).sum() / hard.sum(),
        }
        key = first_match(got, wrong, rel=1e-4).split(",")[0]
        return key, {"want": want, "got": got}
    return "right"


@exercise("capstone.8", MESSAGES["capstone.8"])
def _check_workload(answer: Any) -> Verdict:
    _, q = _people()
    q[2] = 0.0
    calls = np.array([True, False, True, True, False, False, True])
    draws = np.random.default_rng(4).multinomial(7, np.full(7, 1 / 7), 300)
    draws[:, 3] += 1  # a draw may have other people than the cohort: 8
    got = call(answer, calls.copy(), q.copy(), draws.copy())
    try:
        found = np.array([[float(v) for v in part] for part in got])
    except (TypeError, ValueError):
        raise Wrong("form", got=type(got).__name__) from None
    if found.shape != (2, 3):
        raise Wrong("form", got=f"numbers of shape {found.shape}")
    want = np.array(workload(calls, q, draws))
    if near(found, want, rel=1e-4):
        return "right"
    whole = 1000 * draws @ calls / len(q), draws @ (calls * q) / q.sum()
    fixed = [np.percentile(part, [2.5, 97.5]) for part in whole]
    mean = [
        (1000 * draws @ calls / draws.sum(1)).mean(),
        (draws @ (calls * q) / (draws @ q)).mean(),
    ]
    for key, same in (
        ("swapped", near(found[::-1], want)),
        ("share", near(found[0] * 1000, want[0])),
        ("everybody", near(found[1, 0], calls.mean())),
        ("people", near(found[1, 0], calls[q > 0].mean())),
        ("caught", near(found[1, 0], (calls * q).sum() / calls.sum())),
        ("caught", near(found[1, 0], (calls * q).mean())),
        ("mean", near(found[0, 0], mean[0]) or near(found[1, 0], mean[1])),
        ("fixed", near(found[0, 1:], fixed[0]) or near(found[1, 1:], fixed[1])),
        ("percentiles", near(found[:, 0], want[:, 0])),
    ):
        if same:
            return key
    what = int(near(found[0], want[0], rel=1e-4))
    values = {"what": ("the recalls", "the cancers")[what]}
    told = {"want": want[what].round(3).tolist(), "got": found[what].round(3).tolist()}
    return "other", values | told


@exercise("capstone.9", MESSAGES["capstone.9"])
def _check_benefit(answer: Any) -> Verdict:
    risk, q = _people()
    t = np.array([0.01, 0.05, 0.1, 0.2, 0.3])
    got = np.asarray(call(answer, risk.copy(), q.copy(), t.copy()), float)
    want = benefit(risk, q, t)
    if got.shape != want.shape:
        raise Wrong("shape", want=len(t), got=f"shape {got.shape}")
    if near(got, want, rel=1e-4):
        return "right"
    u, called = t[:, None], risk >= t[:, None]
    gain, lost = (called * q).sum(1), (called * (1 - q)).sum(1)
    strict = risk > u
    wrong = {
        "strict": (strict * (q - (1 - q) * u / (1 - u))).mean(1),
        "rate": (gain - lost * t) / len(q),
        "rate, inverse": (gain - lost * (1 - t) / t) / len(q),
        "no price": gain / len(q),
        "called": (gain - lost * t / (1 - t)) / called.sum(1).clip(1),
        "sum": gain - lost * t / (1 - t),
        "own": (called * (q - (1 - q) * risk / (1 - risk))).mean(1),
    }
    key = first_match(got, wrong, rel=1e-4).split(",")[0]
    k = int(np.argmax(np.abs(got - want)))
    return key, {"t": t[k], "want": want[k], "got": got[k]}
