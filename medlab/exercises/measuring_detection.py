"""Checks of measuring detection: who found what, average precision, LUNA's score, sizes, gains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medlab.exercises import Verdict, Wrong, call, exercise, first_match, near, number
from medlab.metrics import centre_hits
from medlab.models import box_iou

MESSAGES = {
    "measuring_detection.1": {
        "right": "the best score chooses first, a lesion that is taken is gone, and a second box "
        "on it is a false alarm.",
        "list": "I expected one whole number for each of the {want} found boxes, and got {got}.",
        "kept": "you let a lesion be claimed twice. Once a box has it, it is out of the table.",
        "given order": "you went through the boxes in the order in which they stand. The best "
        "score chooses first.",
        "worst first": "you let the lowest score choose first.",
        "first choice": "a box whose best lesion was taken got nothing. It may still claim another "
        "one, if that overlaps enough.",
        "strict": "an overlap of just `least` is enough: `>=`.",
        "any": "you let boxes claim lesions that they overlap less than `least`, which was "
        "{least}.",
        "first fit": "a box took a lesion that overlaps enough, though not the one that it "
        "overlaps most of those left. The boxes choose, not the lesions in their order.",
        "overlap": "you let the larger overlap decide who gets a lesion. The best score chooses "
        "first, even where another box fits better.",
        "best sum": "you found the pairs with the largest overlap in total. Here the scores decide "
        "who chooses, whatever that costs the others.",
        "ties": "of two boxes with equal scores the one that stands first chooses first. "
        "`argsort` keeps their order with `stable=True`.",
        "sorted": "these are the right claims in the order of the scores. Return them in the order "
        "of the boxes.",
        "nothing": "of {boxes} boxes and {lesions} lesions I expected {want}, and got {got}.",
        "other": "for the scores {scores} I expected {want}, and got {got}.",
    },
    "measuring_detection.2": {
        "right": "precision never counts for less than what a later threshold reaches, and recalls "
        "that are never reached count as 0.",
        "raw": "you did not raise precision: at each recall the highest precision at that recall "
        "*or beyond* counts.",
        "reached": "you averaged over the recalls that were reached. The others count as 0; else "
        "a finder that shows its one best box is perfect.",
        "found lesions": "you divided by the lesions found. Recall is the share of all {lesions}, "
        "so that a miss costs.",
        "steps": "you averaged the precision at each hit. That is another convention "
        "(scikit-learn's); here the recalls 0, 0.01 … 1 count.",
        "found hits": "you averaged the precision at the hits that were found, as scikit-learn "
        "does. A lesion that was missed would cost nothing; here the recalls 0, 0.01 … 1 count.",
        "trapezoid": "you took the area under the curve, by straight lines between its points. "
        "Here precision is raised, and the recalls 0, 0.01 … 1 count alike.",
        "area": "you took the area under the raised curve. That is another convention; here the "
        "recalls 0, 0.01 … 1 count alike.",
        "eleven": "you took the recalls 0, 0.1 … 1, as was done before 2010. Here it is 0.01.",
        "hundred": "you took a hundred recalls, or divided by a hundred. With both ends there are "
        "101.",
        "beyond": "at a recall that is just reached, its own precision counts too: `>=`.",
        "lowest": "you took the lowest precision at that recall or beyond. It is raised, to the "
        "highest.",
        "before": "you took the highest precision at that recall or *before*. That lets a late "
        "flood of false alarms go unpunished.",
        "order": "the boxes are sorted already, best first; you counted from the other end.",
        "empty": "with no box at all I expected 0, and got {got}.",
        "other": "for hits {hits} and {lesions} lesions I expected {want:.4f}, and got {got:.4f}.",
    },
    "measuring_detection.3": {
        "right": "all lesions count, found or not, and false alarms count by the scan.",
        "found": "you left the lesions without a hit out. Each is a miss at every threshold; a "
        "finder that shows one box alone would be perfect otherwise.",
        "infinite": "at the threshold −inf even a missed lesion counts as found. That is no score; "
        "leave it out.",
        "strict": "a box at the threshold counts: `>=`.",
        "doubles": "you counted further boxes on a lesion that is hit as false alarms. LUNA16 "
        "counts them as neither.",
        "not the best": "of several boxes on one lesion the best score counts; you took another.",
        "slices": "you divided by the slices. All slices of a patient are one scan: "
        "`len(set(patients))`.",
        "empty scans": "you divided by the scans with a lesion. The others were read too, and "
        "their false alarms cost as much.",
        "per scan": "you did not divide the false alarms by the scans.",
        "one scan": "the false alarms are to be divided by the scans, not multiplied.",
        "centre": "a box hits if its centre lies within the lesion's radius: ask "
        "`metrics.centre_hits`. Overlap, or the lesion's frame, is another rule.",
        "boxes": "you counted the boxes that hit. Several may hit one lesion; sensitivity is the "
        "share of the *lesions* that are hit.",
        "single": "you averaged the scores of single patients or slices. One threshold holds for "
        "all: collect the lesions and alarms of all, and draw one curve.",
        "tied": "equal scores are one threshold: they enter together, as one point. One by one, "
        "your curve depends on the order in which they happen to stand.",
        "ascending": "`np.interp` wants x ascending, and does not complain. Yours descends: go "
        "from the highest score down.",
        "start": "your curve does not start at (0, 0). Above all scores there is neither hit nor "
        "alarm, and a straight line leads from there.",
        "step": "between two points you took the one before, or let equal scores enter one by "
        "one. Equal scores are one point, and straight lines join the points.",
        "logarithm": "you drew straight lines on the logarithmic axis. LUNA interpolates on the "
        "plain one; only the picture is logarithmic.",
        "alarms only": "you looked at thresholds of false alarms alone. Hits between two alarms "
        "belong to the curve too: take every score.",
        "lesions only": "you looked at the scores of lesions alone. Between two of them alarms "
        "come in, and sensitivity stays as it is: take every score.",
        "rates": "you averaged over other rates. They are 1/8, 1/4, 1/2, 1, 2, 4 and 8.",
        "area": "you took the area under the curve. LUNA's score is a mean at seven rates.",
        "sum": "you added the seven sensitivities. Take their mean.",
        "nothing": "where no lesion was hit I expected 0, and got {got}.",
        "silent": "without a single false alarm I expected {want:.4g}, and got {got}.",
        "other": "for {lesions} lesions, {alarms} false alarms and {scans} scans I expected "
        "{want:.4f}, and got {got:.4f}.",
    },
    "measuring_detection.5": {
        "right": "one nodule, one count; found if any of its slices shows it; and the lower edge "
        "of a class belongs to it.",
        "pairs": "I expected {want} pairs (found, of), one a class; got {got}.",
        "cuts": "you counted cuts. A nodule in three slices is one nodule.",
        "all": "you called a nodule found only if every one of its cuts was. One is enough: "
        "somebody then looks.",
        "first": "you judged a nodule by one of its cuts. Any of them may be the one that is hit.",
        "diameter": "you took two nodules of equal diameter for one, though they are in different "
        "patients.",
        "patient": "you counted patients. Some have several nodules.",
        "upper": "a nodule of just {edge:g} mm belongs to the class that begins there: "
        "edge ≤ d < next edge.",
        "both": "you counted a nodule of just {edge:g} mm in two classes. It belongs to the one "
        "that begins there: edge ≤ d < next edge.",
        "no nodule": "where a class holds no nodule, it has its pair all the same, (0, 0): I "
        "expected {want}, and got {got}.",
        "last edge": "every class ends before its upper edge, the last one too (`np.histogram` "
        "closes that). A nodule of {edge:g} mm or more is in none: I expected {want}, and got "
        "{got}.",
        "share": "you returned shares. Return both counts: 1 of 2 and 50 of 100 are not alike.",
        "missed": "your second number is that of the missed. I expected found, and of how many.",
        "swapped": "your numbers stand in the other order: found, then of how many.",
        "other": "I expected {want}, and got {got}.",
    },
    "measuring_detection.4": {
        "right": "both finders meet the same patients in every draw, so what makes a draw hard "
        "for both cancels.",
        "three": "I expected three numbers: gain, low, high; got {got}.",
        "nested": "I expected three numbers: unpack the two percentiles, as in `low, high = …`.",
        "sign": "your gain is before − after. Take after − before, so that better is above 0.",
        "mean": "your gain is the mean over the draws. It is the difference on the patients as "
        "they are; the draws say how far it moves.",
        "unpaired": "your two finders met different patients: each draw must weigh both, or the "
        "luck of the draw is taken for a difference.",
        "ends": "you subtracted the ends of two intervals, one of each finder. Subtract in each "
        "draw, then take the percentiles of the differences.",
        "order": "your ends stand in the other order: low, then high.",
        "ninety": "your ends leave out 5 % at each side. A 95 % interval leaves out 2.5 %.",
        "fraction": "`np.percentile` counts in per cent, 2.5 and 97.5. You gave it fractions, and "
        "it took the smallest draws.",
        "fixed": "your interval has no width. `weights=row` says how often each was drawn.",
        "normal": "you took ± 1.96 standard deviations. Here the ends are percentiles of the "
        "draws.",
        "reach": "you took the smallest and the largest draw, and more draws would widen that. "
        "Take percentiles.",
        "other": "I expected {want}, and got {got}.",
    },
}


def _told(values: Any) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in np.asarray(values, float).ravel()) + "]"


def _row(got: Any, count: int, key: str, want: Any) -> list[float]:
    """So many numbers, from a tuple, list, array or tensor."""
    row = isinstance(got, (np.ndarray, Tensor)) and got.ndim == 1
    if not row and not isinstance(got, (tuple, list)):
        raise Wrong(key, want=want, got=f"one {type(got).__name__}")
    if any(isinstance(value, (list, tuple)) or np.ndim(value) for value in got):
        raise Wrong(key, want=want, got="a list within a list")
    if len(got) != count:
        raise Wrong(key, want=want, got=f"{len(got)} of them")
    return [number(value) for value in got]


def _first(got: Any, wrong: dict[str, Any]) -> str:
    """As `first_match`, with no tolerance to speak of."""
    return first_match(got, wrong, rel=1e-6, absolute=1e-9)


def _among(got: float, values: Sequence[float], want: float) -> bool:
    """True if the answer is one of these values, which is not the right one."""
    return any(near(got, v, rel=1e-5) and not near(v, want, rel=1e-5) for v in values)


# ------------------------------------------------------------------------------ claims


def _claims(
    overlap: np.ndarray,
    order: Sequence[int],
    least: float,
    *,
    remove: bool = True,
    strict: bool = False,
    give_up: bool = False,
    first: bool = False,
) -> list[int]:
    """Claims of found boxes (D,) that choose in an order from a table (D, M); −1: none."""
    claims, taken = [-1] * len(overlap), set()
    for i in order:
        enough = [k for k, v in enumerate(overlap[i]) if (v > least if strict else v >= least)]
        free = [k for k in enough if not (remove and k in taken)]
        if give_up:
            free = [k for k in free if k == int(overlap[i].argmax())]
        if free:
            claims[i] = free[0] if first else max(free, key=lambda k: (overlap[i][k], -k))
            taken.add(claims[i])
    return claims


def _by_overlap(overlap: np.ndarray, least: float, *, in_turn: bool) -> list[int]:
    """The largest overlap left has its way, of all lesions or of each lesion in turn."""
    left, claims = overlap.astype(float), [-1] * len(overlap)
    for k in range(left.shape[1]):
        column = left[:, k] if in_turn else left.max(1)
        i = int(column.argmax())
        if column[i] >= least:
            claims[i] = k if in_turn else int(left[i].argmax())
            left[:, claims[i]] = left[i] = -1
    return claims


def _best_sum(overlap: np.ndarray, least: float) -> list[int]:
    claims = [-1] * len(overlap)
    for i, k in zip(*linear_sum_assignment(-overlap), strict=True):
        if overlap[i, k] >= least:
            claims[i] = int(k)
    return claims


TABLES = [  # overlaps, scores, least
    (  # every misreading makes other claims
        [
            [0.6, 0.1, 0.4],
            [0.4, 0.8, 0.0],
            [0.1, 0.8, 0.1],
            [0.6, 0.8, 0.4],
            [0.1, 0.9, 0.5],
            [0.7, 0.9, 0.9],
        ],
        [0.7, 0.7, 0.8, 0.6, 0.5, 0.9],
        0.4,
    ),
    ([[0.7, 0.0], [0.6, 0.0], [0.0, 0.2]], [0.5, 0.9, 0.8], 0.5),
    (
        [[0.3, 0.6, 0.1], [0.1, 0.5, 0.4], [0.2, 0.9, 0.0], [0.3, 0.25, 0.2]],
        [0.2, 0.9, 0.6, 3],
        0.3,
    ),
    ([[0.8, 0.4], [0.75, 0.5], [0.4, 0.0], [0.0, 0.45]], [0.9, 0.95, 0.1, 0.1], 0.4),
    ([[0.5, 0.0], [0.6, 0.0], [0.7, 0.0], [0.0, 0.5]], [0.7, 0.7, -0.2, -1.0], 0.5),
    ([[0.4, 0.6, 0.5], [0.2, 0.6, 0.1]], [0.9, 0.8], 0.25),
    ([[0.1, 0.3]], [0.5], 0.1),
]
NOTHING = [(2, 0), (0, 3), (0, 0)]


@exercise("measuring_detection.1", MESSAGES["measuring_detection.1"])
def claims(answer) -> Verdict:
    for table, scores, least in TABLES:
        overlap, s = np.array(table), np.array(scores)
        order = np.argsort(-s, kind="stable").tolist()
        want = _claims(overlap, order, least)
        given = torch.tensor(table), torch.tensor(scores, dtype=torch.float32), least
        got = _row(call(answer, *given), len(want), "list", len(want))
        if near(got, want):
            continue
        wrong = {
            "kept": _claims(overlap, order, least, remove=False),
            "given order": _claims(overlap, range(len(s)), least),
            "worst first": _claims(overlap, order[::-1], least),
            "strict": _claims(overlap, order, least, strict=True),
            "any": _claims(overlap, order, -1.0),
            "first choice": _claims(overlap, order, least, give_up=True),
            "first fit": _claims(overlap, order, least, first=True),
            "best sum": _best_sum(overlap, least),
            "ties": _claims(overlap, np.argsort(s, kind="stable")[::-1].tolist(), least),
            "sorted": [want[i] for i in order],
        }
        key = _first(got, wrong)
        best = [_by_overlap(overlap, least, in_turn=each) for each in (True, False)]
        if key == "other" and got in best:
            key = "overlap"
        told = {"scores": _told(scores), "want": _told(want), "got": _told(got), "least": least}
        return key, told
    for boxes, lesions in NOTHING:
        want = [-1] * boxes
        try:
            empty = torch.zeros(boxes, lesions), torch.rand(boxes)
            got = _row(call(answer, *empty, 0.5), boxes, "list", boxes)
            said = _told(got)
        except Wrong as fault:
            if fault.key != "raised":
                raise
            got, said = [math.nan] * max(1, boxes), f"an error: {fault.values['error']}"
        if not near(got, want):
            told = {"boxes": boxes, "lesions": lesions, "want": _told(want), "got": said}
            return "nothing", told
    return "right"


# ------------------------------------------------------------------------------ precision, recall


def _mean_precision(
    hits: np.ndarray,
    lesions: int,
    grid: np.ndarray,
    *,
    raised: bool = True,
    lowest: bool = False,
    reached: bool = False,
    before: bool = False,
    strict: bool = False,
) -> float:
    running = np.cumsum(hits)
    precision, recall = running / np.arange(1, len(hits) + 1), running / lesions
    found = []
    for at in grid:
        there = recall > at if strict else recall >= at
        if before:
            there = recall <= at
        some = precision[there]
        if len(some):
            found.append(some.min() if lowest else some.max() if raised else some[0])
        elif not reached:
            found.append(0.0)
    return float(np.mean(found)) if found else 0.0


def _under(hits: np.ndarray, lesions: int) -> dict[str, list[float]]:
    """Means of the precision at the hits, and areas under the curve, raised and as it is."""
    running = np.cumsum(hits)
    precision, recall = running / np.arange(1, len(hits) + 1), running / lesions
    raised = np.maximum.accumulate(precision[::-1])[::-1]
    at_hits = (precision * hits).sum()
    trapezoids = [trapezoid(values, recall) for values in (precision, raised)]
    for first in (0, 1):  # from a point at recall 0
        trapezoids.append(trapezoid(np.append(first, precision), np.append(0, recall)))
    return {
        "steps": [at_hits / lesions],
        "found hits": [at_hits / max(1, hits.sum())],
        "area": [(raised * hits).sum() / lesions],
        "trapezoid": trapezoids,
    }


HITS = [  # of boxes, best first, and how many lesions there are
    ("1001101000", 7),
    ("0110", 3),
    ("0010110100000010", 9),
    ("111", 3),
    ("000", 3),
]
GRID = np.linspace(0, 1, 101)


@exercise("measuring_detection.2", MESSAGES["measuring_detection.2"])
def mean_precision(answer) -> Verdict:
    for text, lesions in HITS:
        hits = np.array([c == "1" for c in text])
        want = _mean_precision(hits, lesions, GRID)
        got = number(call(answer, torch.tensor(hits), lesions))
        if near(got, want, rel=1e-5):
            continue
        single = {
            "raw": _mean_precision(hits, lesions, GRID, raised=False),
            "reached": _mean_precision(hits, lesions, GRID, reached=True),
            "found lesions": _mean_precision(hits, max(1, int(hits.sum())), GRID),
            "eleven": _mean_precision(hits, lesions, np.linspace(0, 1, 11)),
            "hundred": _mean_precision(hits, lesions, GRID[:-1]),
            "beyond": _mean_precision(hits, lesions, GRID, strict=True),
            "before": _mean_precision(hits, lesions, GRID, before=True),
            "order": _mean_precision(hits[::-1], lesions, GRID),
            "lowest": _mean_precision(hits, lesions, GRID, lowest=True),
        }
        wrong = {key: [value] for key, value in single.items()} | _under(hits, lesions)
        key = next((k for k, values in wrong.items() if _among(got, values, want)), "other")
        return key, {"hits": text, "lesions": lesions, "want": want, "got": got}
    try:
        got = number(call(answer, torch.zeros(0, dtype=torch.bool), 3))
    except Wrong as fault:
        if fault.key != "raised":
            raise
        return "empty", {"got": f"an error: {fault.values['error']}"}
    return "right" if near(got, 0) else ("empty", {"got": f"{got:g}"})


# ------------------------------------------------------------------------------ LUNA's score

RATES = 2.0 ** np.arange(-3, 4)


def _luna(
    best: np.ndarray,
    alarms: np.ndarray,
    scans: float,
    *,
    start: bool = True,
    infinite: bool = False,
    strict: bool = False,
    levels: np.ndarray | None = None,
    step: bool = False,
    log: bool = False,
    rates: np.ndarray = RATES,
    end=np.mean,
) -> float:
    every = np.concatenate([best, alarms]) if levels is None else levels
    every = np.unique(every if infinite else every[np.isfinite(every)])[::-1]
    above = (lambda v, t: v > t) if strict else (lambda v, t: v >= t)
    x = np.array([above(alarms, t).sum() / scans for t in every])
    y = np.array([above(best, t).mean() for t in every])
    if start or not len(every):
        x, y = np.append(0.0, x), np.append(0.0, y)
    if step:
        found = np.array([y[x <= rate].max(initial=0.0) for rate in rates])
    elif log:
        with np.errstate(divide="ignore"):
            found = np.interp(np.log(rates), np.log(x + 1e-12), y)
    else:
        found = np.interp(rates, x, y)
    return float(end(found))


def _one_by_one(
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    scans: float,
    lesions: int | None = None,
    *,
    start: bool = True,
) -> float:
    """As `_luna`, but each score is a point: of equal ones the first part's alarms come first."""
    hit = np.concatenate([np.arange(len(a) + len(b)) >= len(a) for b, a in parts])
    scores = np.concatenate([np.append(a, b) for b, a in parts])
    order = np.argsort(-scores, kind="stable")[: np.isfinite(scores).sum()]
    x, y = np.cumsum(~hit[order]) / scans, np.cumsum(hit[order]) / (lesions or hit.sum())
    if start or not len(x):
        x, y = np.append(0.0, x), np.append(0.0, y)
    return float(np.interp(RATES, x, y).mean())


def _descending(best: np.ndarray, alarms: np.ndarray, scans: float) -> Iterator[float]:
    """What `np.interp` makes of a curve from its end, all rates at once or one at a time."""
    every = np.unique(np.concatenate([best[np.isfinite(best)], alarms]))
    x, y = ([(v >= t).sum() / n for t in every] for v, n in ((alarms, scans), (best, len(best))))
    for curve in ((x, y), ([0, *x], [0, *y]), ([*x, 0], [*y, 0])):
        yield float(np.interp(RATES, *curve).mean())
        yield float(np.mean([np.interp(rate, *curve) for rate in RATES]))


def _under_froc(best: np.ndarray, alarms: np.ndarray, scans: float) -> float:
    every = np.unique(np.concatenate([best[np.isfinite(best)], alarms]))[::-1]
    x = np.append(0.0, [(alarms >= t).sum() / scans for t in every])
    y = np.append(0.0, [(best >= t).mean() for t in every])
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


MINUS = -math.inf
MARKS = [  # best score of each lesion, scores of false alarms, scans, scans with a lesion
    (  # every misreading has another score here
        [0.4, MINUS, 0.65, 0.8, 0.85, 0.9, 0.9, 0.25],
        [0.35, 0.7, 0.35, 0.25, 0.9, 0.6, 0.25, 0.9, 0.45, 0.25, 0.5],
        5,
        4,
    ),
    ([2.0, MINUS, 1.0, 1.0, -3.0, MINUS, 0.5], [1.5, 1.0, 0.7, 0.7, -2.0, 0.0, 0.1, -4.0], 2, 2),
    ([0.6, 0.35, MINUS], [0.8, 0.75, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05] * 2, 1, 1),
    ([0.2, 0.9, 0.5, 0.5], [0.7, 0.5, 0.3], 5, 2),
]
ENDS = [
    ("nothing", ([MINUS, MINUS], [0.5, 0.2], 2, 1)),
    ("nothing", ([MINUS], [], 2, 1)),
    ("silent", ([0.3, MINUS], [], 2, 1)),
]


def _doubles(best: Sequence[float]) -> list[float]:
    """Scores of second boxes on lesions that are hit: on the first, and on every second one."""
    return [b - 0.15 for k, b in enumerate(best) if k % 2 == 0 and b > MINUS]


def _scans(
    best: Sequence[float], alarms: Sequence[float], scans: int, ill: int
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]], np.ndarray]:
    """Boxes of each slice, and its patient: one to three slices a patient, in a mixed order.

    Lesions lie in the first `ill` patients, alarms in all, doubles before the best. Every second
    hit hardly overlaps; the first alarm overlaps a lesion, and its centre lies within the frame.
    """
    slices = sorted((i, scan) for scan in range(scans) for i in range((scan + 1) % 3 + 1))
    truth: dict[tuple[int, int], list] = {key: [] for key in slices}
    boxes: dict[tuple[int, int], list] = {key: [] for key in slices}
    for k, b in enumerate(best):
        scan, x = k % ill, 20.0 * k
        key = (k // ill) % ((scan + 1) % 3 + 1), scan
        truth[key].append([x, 0, x + 8, 6])
        if b > MINUS:
            double, hit = [x + 1, 1, x + 3, 8, b - 0.15], [x + 1, 1, x + 9, 7, b]
            boxes[key] += [[x + 3, 2, x + 5, 4, b]] if k % 2 else [double, hit]
    for k, a in enumerate(alarms):
        scan = (k + 1) % scans
        key = (k // scans) % ((scan + 1) % 3 + 1), scan
        if k == 0:
            boxes[0, 0].append([3, 2.5, 11, 8.5, a])
        else:
            boxes[key].append([900, 30.0 * k, 906, 30.0 * k + 6, a])
    found = [torch.tensor(rows).reshape(-1, 5) for rows in boxes.values()]
    return (
        [torch.tensor(rows).reshape(-1, 4) for rows in truth.values()],
        [(rows[:, :4], rows[:, 4]) for rows in found],
        np.array([f"P{scan}" for _, scan in slices]),
    )


def _collected(
    truth: Sequence[Tensor], found: Sequence[tuple[Tensor, Tensor]], rule: Callable = centre_hits
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best score of each lesion, scores of the false alarms, and of all boxes that hit."""
    best, alarms, hits = [], [], []
    for lesions, (boxes, scores) in zip(truth, found, strict=True):
        near = rule(lesions, boxes)
        alarms += scores[~near.any(1)].tolist()
        hits += scores[near.any(1)].tolist()
        best += [max(scores[column].tolist(), default=MINUS) for column in near.T]
    return np.array(best), np.array(alarms), np.array(hits)


def _in_frame(lesions: Tensor, boxes: Tensor) -> Tensor:
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    return ((centre >= lesions[:, :2]) & (centre <= lesions[:, 2:])).all(2)


def _other_rules(truth: Any, found: Any, patients: np.ndarray) -> dict[str, list[float]]:
    """Wrong scores that need the boxes: other rules of hitting, and averages over parts."""
    scans = len(set(patients))
    best, alarms, hits = _collected(truth, found)
    rules: list[Callable] = [
        lambda lesions, boxes, least=least: box_iou(boxes, lesions) >= least
        for least in (1e-9, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
    ]
    marks = [_collected(truth, found, rule)[:2] for rule in [*rules, _in_frame]]
    levels = [None, np.concatenate([best, alarms])]
    shares = [_luna(hits, alarms, scans, levels=each) for each in levels]
    shares += [share * len(hits) / len(best) for share in shares]
    single = []
    for names in (patients, np.arange(len(patients))):
        places = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
        parts = [_collected([truth[i] for i in p], [found[i] for i in p])[:2] for p in places]
        scores = [_luna(*part, 1) for part in parts if len(part[0])]
        single += [float(np.mean(scores)), sum(scores) / len(parts)]
    none = np.empty(0)
    apart = [(none, alarms), (best, none)]
    listed = []  # the boxes as they come: in a slice of `_scans` those that hit stand first
    for lesions, pair in zip(truth, found, strict=True):
        _, wrong, right = _collected([lesions], [pair])
        listed += [(right, none), (none, wrong)]
    orders = [[(none, alarms), (hits, none)], [(hits, none), (none, alarms)], listed]
    for order, start in itertools.product(orders, (True, False)):
        shares.append(_one_by_one(order, scans, len(best), start=start))
    return {
        "tied": [_one_by_one(p, scans) for p in (apart, apart[::-1], parts, parts[::-1])],
        "centre": [_luna(*mark, scans) for mark in marks],
        "boxes": shares,
        "single": single,
    }


def _wrong_scores(
    first: Sequence[float], second: Sequence[float], scans: int, ill: int
) -> dict[str, list[float]]:
    """What each misreading makes of one of `MARKS`."""
    best, alarms = np.array(first), np.array(second)
    truth, found, patients = _scans(first, second, scans, ill)
    single = {
        "infinite": _luna(best, alarms, scans, infinite=True),
        "found": _luna(best[np.isfinite(best)], alarms, scans),
        "doubles": _luna(best, np.append(alarms, _doubles(first)), scans),
        "not the best": _luna(best - 0.15 * (np.arange(len(best)) % 2 == 0), alarms, scans),
        "slices": _luna(best, alarms, len(truth)),
        "empty scans": _luna(best, alarms, ill),
        "strict": _luna(best, alarms, scans, strict=True),
        "per scan": _luna(best, alarms, 1),
        "one scan": _luna(best, alarms, 1 / scans),
        "start": _luna(best, alarms, scans, start=False),
        "step": _luna(best, alarms, scans, step=True),
        "logarithm": _luna(best, alarms, scans, log=True),
        "alarms only": _luna(best, alarms, scans, levels=alarms),
        "lesions only": _luna(best, alarms, scans, levels=best),
        "area": _under_froc(best, alarms, scans),
        "sum": _luna(best, alarms, scans, end=np.sum),
    }
    rates = (np.arange(1.0, 9), RATES[:-1], RATES[1:], np.arange(9.0), np.arange(1.0, 8))
    return {
        **{key: [value] for key, value in single.items()},
        "ascending": list(_descending(best, alarms, scans)),
        "rates": [_luna(best, alarms, scans, rates=values) for values in rates],
        **_other_rules(truth, found, patients),
    }


@exercise("measuring_detection.3", MESSAGES["measuring_detection.3"])
def luna(answer) -> Verdict:
    for case in MARKS:
        lesions, alarms, scans, _ = case
        want = _luna(np.array(lesions), np.array(alarms), scans)
        got = number(call(answer, *_scans(*case)))
        if near(got, want, rel=1e-5):
            continue
        wrong = _wrong_scores(*case)
        key = next((k for k, values in wrong.items() if _among(got, values, want)), "other")
        told = {"lesions": len(lesions), "alarms": len(alarms), "scans": scans}
        return key, told | {"want": want, "got": got}
    for key, case in ENDS:
        want = float(np.isfinite(case[0]).mean())
        try:
            got = number(call(answer, *_scans(*case)))
        except Wrong as fault:
            if fault.key != "raised":
                raise
            return key, {"want": want, "got": f"an error: {fault.values['error']}"}
        if not near(got, want):
            return key, {"want": want, "got": f"{got:.4g}"}
    return "right"


# ------------------------------------------------------------------------------ sizes


def _inside(d: float, low: float, high: float) -> bool:
    return low <= d < high


def _by_size(
    names: Any, diameters: Any, hit: Any, edges: Any, *, join=any, inside=_inside
) -> list[list[int]]:
    nodules: dict[Any, list[bool]] = {}
    for name, d, h in zip(names, diameters, hit, strict=True):
        nodules.setdefault((name, d), []).append(bool(h))
    rows = []
    for low, high in itertools.pairwise(edges):
        found = [join(hits) for (_, d), hits in nodules.items() if inside(d, low, high)]
        rows.append([sum(found), len(found)])
    return rows


EDGES = [3, 6, 10, 31]
CUTS = [  # patient, diameter in mm, whether the cut was hit
    ("P2", 6.0, 0), ("P2", 6.0, 1), ("P2", 6.0, 0), ("P1", 4.5, 1), ("P1", 10.0, 0),
    ("P4", 8.25, 0), ("P4", 8.25, 1),
    ("P1", 10.0, 0), ("P3", 4.5, 0), ("P3", 4.5, 0), ("P5", 25.0, 1), ("P4", 8.25, 1),
    ("P4", 8.25, 1), ("P4", 7.0, 0), ("P5", 25.0, 0), ("P6", 3.0, 0), ("P6", 5.5, 1),
    ("P6", 5.5, 0), ("P7", 30.0, 1), ("P3", 9.5, 0), ("P8", 6.5, 0), ("P3", 12.5, 1),
    ("P1", 14.5, 1), ("P9", 2.5, 1), ("P8", 6.5, 1), ("P4", 8.25, 0),
    ("P8", 6.5, 0), ("P7", 30.0, 0), ("P7", 30.0, 1),
]  # fmt: skip


RARE = [  # what an answer that is right otherwise may not have thought of
    ("no nodule", [cut for cut in CUTS if not EDGES[1] <= cut[1] < EDGES[2]]),
    ("last edge", [*CUTS, ("P4", float(EDGES[-1]), 1), ("P6", EDGES[-1] + 3.5, 0)]),
]


def _rare_sizes(answer: Any) -> Verdict:
    for key, cuts in RARE:
        given = [np.array(column) for column in zip(*cuts, strict=True)]
        want = _by_size(given[0], given[1], given[2], EDGES)
        told: dict[str, Any] = {"want": want, "edge": EDGES[-1]}
        try:
            got = call(answer, given[0], given[1], given[2].astype(bool), list(EDGES))
        except Wrong as fault:
            if fault.key != "raised":
                raise
            return key, told | {"got": f"an error: {fault.values['error']}"}
        shape = _shape(got)
        if shape != np.shape(want):
            return key, told | {"got": _kind(got, shape)}
        rows = _counts(got)
        if not near(rows, want):
            return key, told | {"got": rows}
    return "right"


def _shape(got: Any) -> tuple[int, ...]:
    """Empty for what is no table: one thing, a dictionary, rows of several lengths."""
    try:
        return () if isinstance(got, dict) else np.shape(got)
    except ValueError:
        return ()


def _kind(got: Any, shape: tuple[int, ...]) -> str:
    return f"shape {shape}" if shape else type(got).__name__


def _counts(got: Any) -> list[list[float]]:
    """Rows of a table of numbers, whole ones as such."""
    rows = got if isinstance(got, (list, tuple)) else np.asarray(got)
    each = [[number(value) for value in row] for row in rows]
    return [[int(v) if v % 1 == 0 else v for v in row] for row in each]


@exercise("measuring_detection.5", MESSAGES["measuring_detection.5"])
def sizes(answer) -> Verdict:
    names, diameters, hit = (list(column) for column in zip(*CUTS, strict=True))
    given = np.array(names), np.array(diameters), np.array(hit, bool)
    got = call(answer, *(value.copy() for value in given), list(EDGES))
    want = _by_size(*given, EDGES)
    shape = _shape(got)
    count = len(want)
    if shape == (count,):
        share = [found / of for found, of in want]
        if near(got, share):
            return "share"
    if shape != (count, 2):
        return "pairs", {"want": count, "got": _kind(got, shape)}
    rows = _counts(got)
    if near(rows, want):
        return _rare_sizes(answer)
    each = list(range(len(names)))
    seen: dict[Any, bool] = {}
    for name, d, h in CUTS:
        seen.setdefault((name, d), bool(h))
    last = {(name, d): bool(h) for name, d, h in CUTS}
    wrong = {
        "cuts": _by_size(each, diameters, hit, EDGES),
        "all": _by_size(*given, EDGES, join=all),
        "upper": _by_size(*given, EDGES, inside=lambda d, low, high: low < d <= high),
        "both": _by_size(*given, EDGES, inside=lambda d, low, high: low <= d <= high),
        "diameter": _by_size([0] * len(names), diameters, hit, EDGES),
        "missed": [[found, of - found] for found, of in want],
        "swapped": [row[::-1] for row in want],
    }
    for kept in (seen, last):
        once = _by_size([n for n, _ in kept], [d for _, d in kept], list(kept.values()), EDGES)
        if near(rows, once):
            return "first"
    people = []
    for low, high in itertools.pairwise(EDGES):
        inside = [low <= d < high for d in diameters]
        all_of = {n for n, i in zip(names, inside, strict=True) if i}
        some = {n for n, i, h in zip(names, inside, hit, strict=True) if i and h}
        people.append([len(some), len(all_of)])
    wrong["patient"] = people
    told = {"want": want, "got": rows}
    return _first(rows, wrong), told | {"edge": EDGES[1]}


# ------------------------------------------------------------------------------ gains

DRAWS = np.random.default_rng(3).multinomial(9, np.full(9, 1 / 9), size=40)  # of nine patients
QUALITY = {  # of each patient, for two finders; the gain has both signs in the draws
    "before": np.array([0.1, 0.5, 0.2, 0.4, 0.3, 0.9, 0.2, 0.0, 0.6]),
    "after": np.array([0.3, 0.9, 0.1, 0.7, 0.7, 0.5, 0.1, 0.4, 0.9]),
}


def score(found: str, weights: Any = None) -> float:
    """A score that is no mean of its patients', as LUNA's is none."""
    times = np.ones(9) if weights is None else np.asarray(weights, float)
    return float((times @ QUALITY[found] ** 2 / times.sum()) ** 0.5)


@exercise("measuring_detection.4", MESSAGES["measuring_detection.4"])
def gain(answer) -> Verdict:
    returned = call(answer, score, "before", "after", DRAWS.copy())
    if isinstance(returned, (tuple, list)) and [_shape(v) for v in returned] == [(), (2,)]:
        return "nested"
    got = _row(returned, 3, "three", 3)
    many_a, many_b = (np.array([score(f, row) for row in DRAWS]) for f in QUALITY)
    difference, apart = score("after") - score("before"), many_b - many_a
    ends: np.ndarray = np.percentile(apart, [2.5, 97.5])
    want = [difference, *ends]
    if near(got, want, rel=1e-5):
        return "right"
    told = {"want": _told(want), "got": _told(got)}
    value, low, high = got
    if not near(value, difference, rel=1e-5):
        return _first(value, {"sign": -difference, "mean": apart.mean()}), told
    one, other = (np.percentile(many, [2.5, 97.5]) for many in (many_a, many_b))
    reach = apart.std() * 1.96
    wrong = {
        "order": ends[::-1],
        "ends": other - one,
        "far ends": other - one[::-1],
        "ninety": np.percentile(apart, [5, 95]),
        "fraction": np.percentile(apart, [0.025, 0.975]),
        "fixed": [difference, difference],
        "reach": [apart.min(), apart.max()],
    }
    middles = np.array([value, apart.mean()])
    if any(near([low, high], [m - reach, m + reach], absolute=0.02 * reach) for m in middles):
        return "normal", told
    key = _first([low, high], wrong)
    key = "ends" if key == "far ends" else key
    shuffled = [many_b[::-1] - many_a, many_b - many_a[::-1], np.roll(many_b, 1) - many_a]
    shuffled += [many_b - np.roll(many_a, 1), (many_b[:, None] - many_a).ravel()]
    shuffled += [np.sort(many_b) - np.sort(many_a), np.sort(many_b)[::-1] - np.sort(many_a)]
    shuffled += [many_b - score("before"), score("after") - many_a]  # one of them not weighted
    if key == "other" and any(
        near([low, high], np.percentile(values, [2.5, 97.5]), rel=1e-4) for values in shuffled
    ):
        return "unpaired", told
    return key, told
