"""Checks of measuring a segmentation: overlap, surfaces, distances, empty masks, agreement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt
from scipy.stats import t as student
from torch import Tensor

from medlab.exercises import Verdict, Wrong, call, exercise, first_match, near, number

MESSAGES = {
    "measuring.1": {
        "right": "Dice counts the shared pixels twice, IoU counts them once on both sides; where "
        "there is nothing to find and nothing was found, neither says anything.",
        "two numbers": "I expected two numbers, Dice and IoU; got {got}.",
        "exchanged": "these are the right numbers in the other order: first Dice, then IoU.",
        "half": "your Dice is {got:.4g}, half of what I expected. The shared pixels are in both "
        "sizes, so they count twice above the line too.",
        "twice": "your IoU is {got:.4g}: you divided by |A| + |B|, which counts the shared pixels "
        "twice. The union is |A| + |B| − |A ∩ B|.",
        "doubled": "your IoU is {got:.4g}. The factor 2 belongs to Dice alone.",
        "found": "you divided the shared pixels by those of the prediction alone: that is the "
        "precision, and a single pixel in the right place gets 1.",
        "truth": "you divided the shared pixels by those of the truth alone: that is the "
        "sensitivity, and an outline around the whole image gets 1.",
        "background": "you counted pixels that are background in both. There are so many of them "
        "that any outline scores well; count the structure's pixels only.",
        "neither": "where neither mask holds a pixel you returned {got}. There was nothing to "
        "find, so there is nothing to judge: return float('nan') twice.",
        "one alone": "where one mask is empty and the other is not, I expected 0 and 0, and got "
        "{got}. A structure missed, or invented, is as wrong as can be.",
        "other": "for |A| = {a}, |B| = {b} and {shared} shared pixels I expected {want}, and got "
        "{got}.",
    },
    "measuring.2": {
        "right": "a pixel with an outside neighbour above, below, left or right; and beyond the "
        "image all is outside, so an organ that the image cuts off has surface there.",
        "shape": "you returned shape {got} for a mask of {want}. If you framed the mask, cut the "
        "frame off again.",
        "interior": "you returned the interior: what is left is what you were to take away.",
        "outer": "you returned the pixels just outside the structure. Its surface are pixels *of* "
        "the structure.",
        "diagonal": "you count diagonal neighbours too. Here a pixel has four, those across an "
        "edge.",
        "border": "where the structure reaches the image's border you found no surface. Beyond the "
        "image all counts as outside.",
        "wrapped": "your neighbours wrap around: to the left of column 0 you read the last column. "
        "Frame the mask with background first.",
        "all four": "you kept pixels with *all four* neighbours outside. One is enough.",
        "one axis": "you looked at two of the four neighbours only.",
        "whole": "you returned the whole structure.",
        "background": "you marked background as well. A surface pixel is itself in the structure: "
        "`mask & …`.",
        "other": "of {count} pixels yours differ, the first at row {row}, column {column}, where "
        "I expected {want}.",
    },
    "measuring.3": {
        "right": "both ways, the percentile of each, the larger of the two; and a structure that "
        "is missed is infinitely far away.",
        "one way": "you went {way} only. Then whatever the other has elsewhere costs nothing.",
        "mean": "you averaged the two ways. Take the larger one.",
        "smaller": "you took the smaller of the two ways. The larger one tells of the worst.",
        "pooled": "you put the distances of both ways together and took one percentile. MedPy does "
        "so, and a long outline then outvotes a short one; here each way has its own percentile, "
        "and the larger counts.",
        "maximum": "you took the maximum whatever q is. Take the percentile q of each way.",
        "all pairs": "you took the percentile over all pairs of points. For each point only the "
        "nearest one of the other outline counts.",
        "farthest": "you looked for the farthest point of the other outline. A point's distance to "
        "an outline is that to its nearest point: `amin`.",
        "squared": "these are squared distances: take the root.",
        "city": "you added up the absolute differences. The distance is the straight line's.",
        "neither": "for no points on either side you returned {got}. Nothing to judge is "
        "float('nan').",
        "missed": "where one side has no points you returned {got}. Anything finite, and NaN too, "
        "can make a miss look better than an outline that is far off: return float('inf').",
        "other": "for {a} and {b} points and q = {q} I expected {want:.4g} mm, and got {got:.4g}.",
    },
    "measuring.4": {
        "right": "in millimetres, both outlines, and nothing for a structure that was missed.",
        "pixels": "you still measure in pixels: at a spacing of {spacing} mm I expected "
        "{want:.4g}, and got {got:.4g}. `distance_transform_edt` takes `sampling`.",
        "reversed": "your spacing belongs to the other axis: rows first, then columns.",
        "forgets": "what the prediction leaves out still costs nothing: I expected {want:.4g}, and "
        "got {got:.4g}. Ask of the truth's pixels too how far the prediction is.",
        "truth only": "what the prediction adds costs nothing now: I expected {want:.4g}, and got "
        "{got:.4g}. Ask of both outlines.",
        "two means": "you averaged the two shares. Count the pixels of both outlines together, so "
        "that a long outline counts more than a short one.",
        "strict": "a distance of just the tolerance is within it: `<=`.",
        "missed": "where only {side} is empty I expected 0, and got {got}. The transform measures "
        "to the nearest zero; where there is none, its numbers mean nothing.",
        "other": "at a spacing of {spacing} mm and a tolerance of {tolerance} mm I expected "
        "{want:.4g}, and got {got:.4g}.",
    },
    "measuring.5": {
        "right": "no miss and no invention ever improves it, what was never there does not count, "
        "and it stays finite while few are missed.",
        "undefined": "of {values} your score is NaN. NaN marks images in which there was nothing "
        "to find; they are to be left out, not to spread.",
        "between": "of {values} your score is NaN. To interpolate between two inf gives NaN: cap "
        "the misses first, or take the median.",
        "infinite": "of {values} your score is {got}. One miss then hides everything else: keep it "
        "finite while fewer than half are missed.",
        "range": "of {values} your score is {got:.4g}. A summary lies between the smallest and the "
        "largest of its values.",
        "absent": "one more image in which there was nothing to find (NaN) moved your score from "
        "{before:.4g} to {after:.4g}. It tells nothing about the outlines.",
        "miss pays": "missing a structure improved your score: of {values} it was {before:.4g}, "
        "and of {changed} {after:.4g}.",
        "invention pays": "inventing a structure improved your score: of {values} it was "
        "{before:.4g}, and of {changed} {after:.4g}.",
        "error pays": "a larger distance improved your score: of {values} it was {before:.4g}, and "
        "of {changed} {after:.4g}.",
        "blind": "of {values} and of {changed} your score is the same, {before:.4g}. Worse "
        "outlines, or two misses in three, must show.",
    },
    "measuring.6": {
        "right": "the axes turn with the kidney, they are in millimetres, and 1000 mm³ are 1 ml.",
        "unit": "your volume is {got:.4g}, a thousand times {want:.4g}: mm³, not ml.",
        "pixels": "you measured in pixels: I expected {want:.4g} ml, and got {got:.4g}. Multiply "
        "positions by the spacing before you take their covariance.",
        "reversed": "your spacing belongs to the other axis: rows first, then columns.",
        "half axes": "you took half axes, 2√λ: the volume comes out an eighth. L, W and T are "
        "whole lengths, 4√λ.",
        "no root": "you took the variances for lengths. An axis is 4√λ.",
        "upright": "you measured along rows and columns, and this kidney lies askew. Take the "
        "eigenvalues of the covariance, not its diagonal.",
        "box": "you measured the box around the outline, and this kidney lies askew. Take the "
        "axes from the covariance.",
        "short": "you took the short axis of the longitudinal view for L. `eigvalsh` sorts from "
        "small to large.",
        "longitudinal": "you took two axes from the longitudinal view, and one from the "
        "transverse. Width and thickness both belong to the transverse one.",
        "transverse": "you took L from the transverse view. It is the long axis of the "
        "longitudinal one.",
        "no sixth": "you took the box L·W·T. An ellipsoid fills π/6 of it.",
        "ball": "your volume is {got:.4g} ml, eight times {want:.4g}: 4/3·π belongs to half axes. "
        "With whole lengths the factor is π/6.",
        "extent": "you added spacing²/12, a pixel's own extent, to the variances, as some programs "
        "do. Here the covariance is that of the pixels' positions alone.",
        "other": "I expected {want:.4g} ml, and got {got:.4g}.",
    },
    "measuring.7": {
        "right": "the mean difference is what you could correct; the limits are what you could "
        "not, the spread of single patients.",
        "three numbers": "I expected three numbers, bias, low and high; got {got}.",
        "sign": "your bias is {got:.4g}: that is exact − measured. Take measured − exact, so that "
        "a method that reads too low has a bias below 0.",
        "absolute": "you took absolute differences. Errors to both sides cancel in a bias, and "
        "that is what it is for.",
        "median": "you took the median. Bland and Altman's bias is the mean of the differences.",
        "relative": "you divided the differences by the volumes. Here they stay as they are, in "
        "the unit of the volumes: measured − exact.",
        "first": "your first number is a limit. The order is bias, low, high.",
        "bias": "I expected a bias of {want:.4g}, and got {got:.4g}.",
        "population": "your limits are those of a spread divided by n. It is estimated from these "
        "patients, whose mean you took out first: divide by n − 1 (NumPy: ddof=1).",
        "error of the mean": "you divided by √n: that is how sure you are of the *bias*. The "
        "limits say where single patients lie.",
        "one": "your limits lie one standard deviation away. 95 % lie within 1.96.",
        "two": "your limits lie two standard deviations away: take 1.96.",
        "student": "you took a factor of Student's t. With √(1 + 1/n) it makes the interval for "
        "the next patient, which is wider; the limits of agreement take 1.96.",
        "spread of values": "you took the spread of the volumes. The patients differ by much more "
        "than the methods: take that of the differences.",
        "percentiles": "you took percentiles of the differences. That is another definition; here "
        "the limits are bias ± 1.96 s.",
        "order": "the limits stand in the other order: low, then high.",
        "around zero": "your limits lie around 0. They lie around the bias.",
        "other": "I expected limits of {want}, and got {got}.",
    },
}


def _same(got: Any, want: Any) -> bool:
    """As `near`, and NaN equals NaN."""
    got, want = (np.asarray(v.detach() if torch.is_tensor(v) else v, float) for v in (got, want))
    return got.shape == want.shape and np.allclose(got, want, rtol=1e-3, atol=1e-6, equal_nan=True)


def _numbers(got: Any, count: int, key: str) -> list[float]:
    """So many numbers, from a tuple, list, array, tensor or series."""
    row = getattr(got, "ndim", None) == 1
    if not row and not isinstance(got, (tuple, list)):
        raise Wrong(key, got=f"one {type(got).__name__}")
    if any(isinstance(value, (tuple, list)) or np.ndim(value) for value in got):
        raise Wrong(key, got="a list within a list: return them flat")
    if len(got) != count:
        raise Wrong(key, got=f"{len(got)} of them")
    return [number(value) for value in got]


def _told(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in np.asarray(values, float)) + "]"


# ------------------------------------------------------------------------------ overlap


def _masks(size: tuple[int, ...], truth: int, found: int, shared: int) -> tuple[Tensor, Tensor]:
    """Masks of so many pixels, spread at random."""
    order = torch.randperm(math.prod(size), generator=torch.Generator().manual_seed(truth))
    a, b = (torch.zeros(math.prod(size), dtype=torch.bool) for _ in range(2))
    a[order[:truth]] = True
    b[order[truth - shared : truth - shared + found]] = True
    return a.reshape(size), b.reshape(size)


OVERLAPS = [  # size, |A|, |B|, |A ∩ B|
    ((7, 9), 20, 12, 8),
    ((5, 4), 6, 9, 1),
    ((3, 4, 5), 11, 30, 7),
    ((6, 5), 7, 7, 7),
    ((4, 6), 5, 0, 0),
    ((4, 6), 0, 7, 0),
    ((2, 3), 3, 2, 0),
    ((4, 5), 0, 0, 0),
]


@exercise("measuring.1", MESSAGES["measuring.1"])
def overlap(answer) -> Verdict:
    for size, a, b, shared in OVERLAPS:
        truth, found = _masks(size, a, b, shared)
        try:
            got = _numbers(call(answer, truth.clone(), found.clone()), 2, "two numbers")
        except Wrong as fault:
            single = fault.key == "two numbers" and fault.values["got"].startswith("one ")
            if a + b == 0 and (single or fault.key == "raised"):
                said = fault.values["got"] if single else _error(fault)
                raise Wrong("neither", got=said) from None
            raise
        if a + b == 0:
            if not _same(got, [math.nan, math.nan]):
                return "neither", {"got": _told(got)}
            continue
        either = a + b - shared
        want = [2 * shared / (a + b), shared / either]
        if near(got, want):
            continue
        if a == 0 or b == 0:
            return "one alone", {"got": _told(got)}
        agree = (truth == found).sum().item()
        if near(got, want[::-1]):
            return "exchanged"
        for value, right, wrong in (
            (got[0], want[0], {"half": shared / (a + b)}),
            (got[1], want[1], {"twice": shared / (a + b), "doubled": 2 * shared / either}),
        ):
            known = {"found": shared / b, "truth": shared / a, "background": agree / truth.numel()}
            if not near(value, right) and (key := first_match(value, wrong | known)) != "other":
                return key, {"got": value}
        told = {"a": a, "b": b, "shared": shared, "want": _told(want), "got": _told(got)}
        return "other", told
    return "right"


# ------------------------------------------------------------------------------ surfaces


def _drawn(rows: str) -> Tensor:
    return torch.tensor([[c == "#" for c in row] for row in rows.split()])


PICTURES = [
    _drawn(
        """####.......
           #####...##.
           ######.####
           ##..##.####
           ##.####.##.
           #######....
           .####..#...
           ..........#
           ...####..##"""
    ),
    _drawn("##### ##### ##### #####"),
    _drawn(".##.###."),
    _drawn("...... ..#... ......"),
]
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def _wrong_surfaces(mask: np.ndarray) -> dict[str, np.ndarray]:
    def neighbours(frame: np.ndarray) -> list[np.ndarray]:
        return [frame[:-2, 1:-1], frame[2:, 1:-1], frame[1:-1, :-2], frame[1:-1, 2:]]

    up, down, left, right = neighbours(np.pad(mask, 1))
    around = [np.roll(mask, step, axis) for axis in (0, 1) for step in (1, -1)]
    edge = mask & ~binary_erosion(mask, CROSS)
    return {
        "whole": mask,
        "interior": mask & ~edge,
        "outer": binary_dilation(mask, CROSS) & ~mask,
        "diagonal": mask & ~binary_erosion(mask, np.ones((3, 3))),
        "border": mask & ~binary_erosion(mask, CROSS, border_value=1),
        "wrapped": mask & ~np.all(around, 0),
        "all four": mask & ~(up | down | left | right),
        "one axis": mask & ~(up & down),
        "background": ~mask | edge,
    }


@exercise("measuring.2", MESSAGES["measuring.2"])
def surface(answer) -> Verdict:
    for picture in PICTURES:
        mask = picture.numpy()
        want = mask & ~binary_erosion(mask, CROSS)
        got = call(answer, picture.clone())
        if near(got, want):
            continue
        if np.shape(got) != mask.shape:
            return "shape", {"got": tuple(np.shape(got)), "want": mask.shape}
        turned = _wrong_surfaces(mask.T)["one axis"].T
        key = "one axis" if near(got, turned) else first_match(got, _wrong_surfaces(mask))
        differ = np.argwhere(np.asarray(got, float) != want)
        row, column = differ[0].tolist()
        told = {"count": len(differ), "row": row, "column": column}
        return key, {**told, "want": "a surface pixel" if want[row, column] else "none"}
    return "right"


# ------------------------------------------------------------------------------ distances


def _points(count: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(count, 2, generator=rng) * torch.tensor([9.0, 5.0])).round(decimals=1)


def _wrong_distances(a: Tensor, b: Tensor, q: float) -> dict[str, float]:
    apart, city = torch.cdist(a, b), torch.cdist(a, b, p=1)

    def ways(distances: Tensor) -> list[float]:
        return [torch.quantile(distances.amin(k), q / 100).item() for k in (1, 0)]

    there, back = ways(apart)
    return {
        "right": max(there, back),
        "from a to b": there,
        "from b to a": back,
        "mean": (there + back) / 2,
        "smaller": min(there, back),
        "pooled": torch.quantile(torch.cat([apart.amin(1), apart.amin(0)]), q / 100).item(),
        "maximum": max(apart.amin(1).max().item(), apart.amin(0).max().item()),
        "all pairs": torch.quantile(apart, q / 100).item(),
        "farthest": max(torch.quantile(apart.amax(k), q / 100).item() for k in (1, 0)),
        "farthest there": max(torch.quantile(apart.amax(1), q / 100).item(), back),
        "farthest back": max(there, torch.quantile(apart.amax(0), q / 100).item()),
        "squared": max(ways(apart**2)),
        "city": max(ways(city)),
    }


@exercise("measuring.3", MESSAGES["measuring.3"])
def far(answer) -> Verdict:
    sets = [(9, 14, 95), (17, 6, 50), (5, 8, 100), (1, 6, 25), (7, 7, 80)]
    got, known, told = [], [], []
    for m, n, q in sets:
        a, b = _points(m, seed=m), _points(n, seed=100 + n) + torch.tensor([2.0, -3.0])
        got.append(number(call(answer, a.clone(), b.clone(), q)))
        known.append(_wrong_distances(a.double(), b.double(), q))
        if not near(got[-1], known[-1]["right"]):
            told.append({"a": m, "b": n, "q": q, "want": known[-1]["right"], "got": got[-1]})
    # A mistake is told by all sets: on one of them two mistakes may give the same number
    key = first_match(got, {key: [values[key] for values in known] for key in known[0]})
    if key.startswith("from"):
        return "one way", {"way": key}
    if key.startswith("farthest"):
        return "farthest"
    if key != "right":
        return key, told[0]
    none = torch.zeros(0, 2)
    for a, b in ((_points(4, 1), none), (none, _points(3, 2)), (none, none)):
        neither = not len(a) and not len(b)
        key = "neither" if neither else "missed"
        alone = number(_told_if_raised(answer, key, a, b, 95))
        if not _same(alone, math.nan if neither else math.inf):
            return key, {"got": f"{alone:g}"}
    return "right"


def _told_if_raised(answer: Any, key: str, *args, **more: str) -> Any:
    """The answer's result; an error, which empty inputs provoke, is told under a key."""
    try:
        return call(answer, *args)
    except Wrong as wrong:
        if wrong.key != "raised":
            raise
        raise Wrong(key, got=_error(wrong), **more) from None


def _error(wrong: Wrong) -> str:
    """What was raised, as a part of a sentence."""
    return f"an error, {str(wrong.values['error']).rstrip('.')}"


# ------------------------------------------------------------------------------ tolerance


def _outlines() -> tuple[np.ndarray, np.ndarray]:
    """Two outlines of which each has a part far from the other, of unequal length."""
    truth, found = np.zeros((14, 12), bool), np.zeros((14, 12), bool)
    truth[2:7, 2:7] = True
    truth[10:12, 2:9] = True
    found[3:7, 3:9] = True
    found[1:3, 10] = True
    return truth & ~binary_erosion(truth, CROSS), found & ~binary_erosion(found, CROSS)


@exercise("measuring.4", MESSAGES["measuring.4"])
def within(answer) -> Verdict:
    truth, found = _outlines()
    for a, b, spacing, tolerance in (
        (truth, found, (2.0, 0.5), 1.1),
        (found, truth, (2.0, 0.5), 1.1),
        (truth.T, found.T, (0.4, 1.5), 1.6),
        (truth, found, (1.0, 0.5), 1.0),
        (truth, truth, (3.0, 1.0), 0.0),
    ):
        got = number(call(answer, a.copy(), b.copy(), spacing, tolerance))

        def ways(scale: Any, a: np.ndarray = a, b: np.ndarray = b) -> list[np.ndarray]:
            to = [distance_transform_edt(~edge, sampling=scale) for edge in (b, a)]
            return [to[0][a], to[1][b]]

        both = ways(spacing)
        want = float((np.concatenate(both) <= tolerance).mean())
        if near(got, want):
            continue
        wrong = {
            "forgets": (both[1] <= tolerance).mean(),
            "truth only": (both[0] <= tolerance).mean(),
            "two means": np.mean([(way <= tolerance).mean() for way in both]),
            "strict": (np.concatenate(both) < tolerance).mean(),
            "reversed": (np.concatenate(ways(spacing[::-1])) <= tolerance).mean(),
        }
        key = first_match(got, wrong)
        pixels = ways(None)
        for way in (*pixels, np.concatenate(pixels)):
            if key == "other" and near(got, (way <= tolerance).mean()):
                key = "pixels"
        return key, {"spacing": spacing, "tolerance": tolerance, "want": want, "got": got}
    none = np.zeros_like(truth)
    for a, b, side in (
        (truth, none, "`found` (a miss)"),
        (none, found, "`truth` (an invention)"),
    ):
        result = _told_if_raised(answer, "missed", a.copy(), b.copy(), (1.0, 1.0), 30.0, side=side)
        if not near(got := number(result), 0):
            return "missed", {"side": side, "got": f"{got:.4g}"}
    return "right"


# ------------------------------------------------------------------------------ empty masks

WORST = 60.0  # mm
DISTANCES = [
    [2.0, 4.0, 9.0],
    [5.0, 3.5, math.nan, 8.0, 1.5],
    [1.0, 2.0, math.nan, 30.0, 4.0, math.nan, 7.5],
    [6.0, 2.5, math.inf, 12.0, math.nan, 3.0, 55.0],
]


@exercise("measuring.5", MESSAGES["measuring.5"])
def summary(answer) -> Verdict:
    def score(values: Sequence[float]) -> float:
        got = number(call(answer, np.array(values), WORST))
        if math.isnan(got):
            capped = number(call(answer, np.minimum(values, WORST), WORST))
            raise Wrong("undefined" if math.isnan(capped) else "between", values=_told(values))
        held = [v for v in values if not math.isnan(v)]
        missed = sum(map(math.isinf, held))
        if 2 * missed < len(held) and math.isinf(got):
            raise Wrong("infinite", values=_told(values), got=got)
        if not min(held) - 1e-9 <= got <= max(held) + 1e-9:
            raise Wrong("range", values=_told(values), got=got)
        return got

    for values in DISTANCES:
        before = score(values)
        if not near(after := score([*values, math.nan]), before):
            return "absent", {"before": before, "after": after}
        for place, value in enumerate(values):
            key = "invention pays" if math.isnan(value) else "miss pays"
            steps = [(key, math.inf)]
            if math.isfinite(value):
                steps += [("error pays", min(value * by, WORST)) for by in (1.3, 5)]
            for told, worse in steps:
                changed = [*values[:place], worse, *values[place + 1 :]]
                if (after := score(changed)) < before - 1e-9:
                    words = {"values": _told(values), "changed": _told(changed)}
                    return told, {**words, "before": before, "after": after}
    first = DISTANCES[0]
    for changed in ([2 * v for v in first], [first[0], math.inf, math.inf]):
        if not score(changed) > score(first) + 1e-9:
            words = {"values": _told(first), "changed": _told(changed)}
            return "blind", {**words, "before": score(first)}
    return "right"


# ------------------------------------------------------------------------------ volume


def _ellipse(half: tuple[float, float], turned: float, spacing: tuple[float, float]) -> np.ndarray:
    """A filled ellipse of half axes in mm, its long one turned out of the columns' direction."""
    grid = np.indices((70, 90)).T * np.array(spacing)
    place = (grid - grid.mean((0, 1))) @ [
        [math.cos(turned), math.sin(turned)],
        [-math.sin(turned), math.cos(turned)],
    ]
    return (((place / half[::-1]) ** 2).sum(-1) <= 1).T


def _axes(mask: np.ndarray, spacing: Any, ddof: int) -> np.ndarray:
    """Variances along the short and the long axis, then along rows and columns, in mm²."""
    cov = np.cov(np.argwhere(mask).T * np.reshape(spacing, (2, 1)), ddof=ddof)
    return np.concatenate([np.linalg.eigvalsh(cov), np.diag(cov)])


@exercise("measuring.6", MESSAGES["measuring.6"])
def ellipsoid(answer) -> Verdict:
    for spacing in ((1.0, 1.0), (1.4, 0.7)):
        views = _ellipse((27, 12), 0.6, spacing), _ellipse((16, 9), -0.4, spacing)
        got = number(call(answer, views[0].copy(), views[1].copy(), spacing))
        tables = [_wrong_volumes(views, spacing, ddof) for ddof in (1, 0)]
        if any(near(got, table["right"], rel=1e-5) for table in tables):
            continue
        keys = [first_match(got, table, rel=1e-5) for table in tables]
        key = next((key for key in keys if key != "other"), "other")
        return key.strip(), {"want": tables[0]["right"], "got": got}
    return "right"


def _wrong_volumes(views: Sequence[np.ndarray], spacing: Any, ddof: int) -> dict[str, float]:
    """Volumes in ml as the message of each key has them; variances divided by n − `ddof`."""

    def axes(scale: Any) -> list[np.ndarray]:
        return [_axes(mask, scale, ddof) for mask in views]

    def formula(*variances: float) -> float:
        return math.pi / 6 / 1000 * 64 * math.sqrt(math.prod(variances))

    (short, long, *upright), (thin, wide, *across) = axes(spacing)
    right = formula(long, thin, wide)
    boxes = [(np.ptp(np.argwhere(m), axis=0) + 1) * np.array(spacing) for m in views]
    # A pixel's own extent, along rows and columns
    full = [
        np.linalg.eigvalsh(
            np.cov(np.argwhere(mask).T * np.reshape(spacing, (2, 1)), ddof=ddof)
            + np.diag(np.square(spacing)) / 12
        )
        for mask in views
    ]
    wrong = {
        "right": right,
        "unit": right * 1000,
        "half axes": right / 8,
        "ball": right * 8,
        "no root": math.pi / 6 / 1000 * 64 * long * thin * wide,
        "upright": formula(max(upright), *across),
        "box": math.pi / 6 / 1000 * boxes[0].max() * boxes[1].prod(),
        "short": formula(short, thin, wide),
        "longitudinal": formula(long, short, thin),
        "longitudinal ": formula(long, short, wide),
        "transverse": formula(wide, thin, wide),
        "no sixth": right * 6 / math.pi,
        "extent": formula(full[0][1], *full[1]),
    }
    for key, scale in (("pixels", (1.0, 1.0)), ("reversed", spacing[::-1])):
        (_, far_, *_), (thin_, wide_, *_) = axes(scale)
        wrong[key] = formula(far_, thin_, wide_)
    return wrong


# ------------------------------------------------------------------------------ agreement

EXACT = [112.0, 145.0, 163.0, 171.0, 188.0, 194.0, 207.0, 233.0]
DIFFERENCES = [-9.0, 4.0, -21.0, -2.0, -14.0, -30.0, 6.0, -17.0]


@exercise("measuring.7", MESSAGES["measuring.7"])
def agreement(answer) -> Verdict:
    for count in (8, 5):
        exact, d = np.array(EXACT[:count]), np.array(DIFFERENCES[:count])
        got = call(answer, exact + d, exact.copy())
        bias, *limits = _numbers(got, 3, "three numbers")
        if not near(bias, d.mean()):
            wrong = {"sign": -d.mean(), "absolute": np.abs(d).mean(), "median": np.median(d)}
            wrong |= {"first": d.mean() - 1.96 * d.std(ddof=1)}
            key = first_match(bias, wrong)
            shares = [(d / size).mean() for size in (exact, exact + d, exact + d / 2)]
            if key == "other" and any(near(bias, k * v) for v in shares for k in (1, 100)):
                key = "relative"
            return "bias" if key == "other" else key, {"got": bias, "want": d.mean()}

        def around(spread: float, centre: float = d.mean()) -> list[float]:
            return [centre - spread, centre + spread]

        sd, factor = d.std(ddof=1), student.ppf(0.975, count - 1)
        if near(limits, want := around(1.96 * sd), rel=1e-4):
            continue
        wrong = {
            "population": around(1.96 * d.std()),
            "error of the mean": around(1.96 * sd / math.sqrt(count)),
            "one": around(sd),
            "two": around(2 * sd),
            "student": around(factor * sd),
            "student ": around(factor * math.sqrt(1 + 1 / count) * sd),
            "spread of values": around(1.96 * exact.std(ddof=1)),
            "percentiles": np.percentile(d, [2.5, 97.5]).tolist(),
            "order": want[::-1],
            "around zero": around(1.96 * sd, 0.0),
        }
        key = first_match(limits, wrong, rel=1e-4).strip()
        if near(limits, around(1.96 * (exact + d).std(ddof=1))):
            key = "spread of values"
        return key, {"want": _told(want), "got": _told(limits)}
    return "right"
