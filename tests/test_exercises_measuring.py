"""Checks of measuring: right answers in several forms, each named mistake, and mutants."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt
from scipy.stats import t as student
from skimage.measure import regionprops

from medlab.exercises import check
from medlab.exercises.measuring import CROSS, MESSAGES
from tests.learners import hasty, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

NAN, INF = math.nan, math.inf

# ------------------------------------------------------------------------------ right answers


def overlap(truth, found):
    shared = (truth & found).sum().item()
    sizes = truth.sum().item() + found.sum().item()
    if sizes == 0:
        return NAN, NAN
    return 2 * shared / sizes, shared / (sizes - shared)


def overlap_in_tensors(truth, found):
    both, either = (truth & found).sum(), (truth | found).sum()
    return torch.stack([2 * both / (truth.sum() + found.sum()), both / either])  # 0 / 0 is NaN


def parts(change):
    """An answer to exercise 1 from (|A|, |B|, |A ∩ B|, pixels that agree, all pixels)."""

    def answer(truth, found):
        a, b, shared = truth.sum().item(), found.sum().item(), (truth & found).sum().item()
        if not a + b:
            return NAN, NAN
        if not (a and b):
            return 0.0, 0.0
        return change(a, b, shared, (truth == found).sum().item(), truth.numel())

    return answer


def surface(mask):
    framed = F.pad(mask, (1, 1, 1, 1))
    up, down = framed[:-2, 1:-1], framed[2:, 1:-1]
    left, right = framed[1:-1, :-2], framed[1:-1, 2:]
    return mask & ~(up & down & left & right)


def in_scipy(change):
    return lambda mask: change(mask.numpy())


def in_loops(mask):
    rows, columns = mask.shape
    found = [[0] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            around = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
            outside = [
                not (0 <= r < rows and 0 <= c < columns) or not mask[r, c] for r, c in around
            ]
            found[i][j] = int(bool(mask[i, j]) and any(outside))
    return found


def rolled(mask):
    around = [mask.roll(step, axis) for axis in (0, 1) for step in (1, -1)]
    return mask & ~torch.stack(around).all(0)


def lonely(mask):
    framed = F.pad(mask, (1, 1, 1, 1))
    up, down = framed[:-2, 1:-1], framed[2:, 1:-1]
    left, right = framed[1:-1, :-2], framed[1:-1, 2:]
    return mask & ~(up | down | left | right)


def upright(mask):
    framed = F.pad(mask, (0, 0, 1, 1))
    return mask & ~(framed[:-2] & framed[2:])


def far(a, b, q, *, join=max, reach=None):
    if len(a) == 0 and len(b) == 0:
        return NAN
    if len(a) == 0 or len(b) == 0:
        return INF
    apart = torch.cdist(a, b) if reach is None else reach(a, b)
    there = torch.quantile(apart.amin(1), q / 100)
    back = torch.quantile(apart.amin(0), q / 100)
    return join(there, back)


def nearest(change):
    """An answer to exercise 3 from the matrix of distances and q; empty sides as they should be."""

    def answer(a, b, q):
        if len(a) and len(b):
            return change(torch.cdist(a, b), q)
        return NAN if len(a) == len(b) else INF

    return answer


def farthest(there, back):
    """Exercise 3 with another choice of the other outline's point in either direction."""

    def change(apart, q):
        ways = getattr(apart, there)(1), getattr(apart, back)(0)
        return max(torch.quantile(way, q / 100) for way in ways)

    return nearest(change)


def no_points(a, b, q):
    if len(a) != len(b) and not (len(a) and len(b)):
        raise ValueError("of non-zero size.")
    return far(a, b, q)


def empty(neither, one):
    def answer(a, b, q):
        if len(a) and len(b):
            return far(a, b, q)
        return neither if len(a) == len(b) else one

    return answer


def far_in_numpy(a, b, q):
    with np.errstate(all="ignore"):
        if not len(a) or not len(b):
            return np.float64(NAN if len(a) == len(b) else INF)
        apart = np.linalg.norm(a.numpy()[:, None] - b.numpy(), axis=-1)
        return np.array([max(np.percentile(apart.min(k), q) for k in (0, 1))])


def within(truth, found, spacing, tolerance):
    if not (truth.any() and found.any()):
        return 0.0
    to_truth = distance_transform_edt(~truth, sampling=spacing)
    to_found = distance_transform_edt(~found, sampling=spacing)
    distances = np.concatenate([to_truth[found], to_found[truth]])
    return (distances <= tolerance).mean()


def shares(change, *, scale=lambda spacing: spacing, missed=0.0):
    """An answer to exercise 4 from the distances truth → found and back."""

    def answer(truth, found, spacing, tolerance):
        if not (truth.any() and found.any()):
            return missed
        to_truth, to_found = (
            distance_transform_edt(~edge, sampling=scale(spacing)) for edge in (truth, found)
        )
        return change(to_found[truth], to_truth[found], tolerance)

    return answer


def share(there, back, tolerance):
    return (np.concatenate([there, back]) <= tolerance).mean()


def given_function(truth, found, spacing, tolerance):
    to_truth = distance_transform_edt(~truth)
    return (to_truth[found] <= tolerance).mean()


def replaced(hd, worst):
    judged = hd[~np.isnan(hd)]
    return np.minimum(judged, worst).mean()


def ellipsoid(longitudinal, transverse, spacing):
    axes = []
    for mask in (longitudinal, transverse):
        places = np.argwhere(mask) * np.array(spacing)
        axes.append(4 * np.sqrt(np.linalg.eigvalsh(np.cov(places.T))))
    return np.pi / 6 * axes[0][1] * axes[1][0] * axes[1][1] / 1000


def by_regions(longitudinal, transverse, spacing):
    one, two = (
        regionprops(mask.astype(int), spacing=spacing)[0] for mask in (longitudinal, transverse)
    )
    axes = one.axis_major_length, two.axis_major_length, two.axis_minor_length
    return math.pi / 6 * math.prod(axes) / 1000


def volume(change, *, lengths=lambda cov: 4 * np.sqrt(np.linalg.eigvalsh(cov)), scale=None):
    """An answer to exercise 6 from the (short, long) axes of the two views."""

    def answer(longitudinal, transverse, spacing):
        unit = scale(spacing) if scale else np.array(spacing)
        axes = [lengths(np.cov((np.argwhere(m) * unit).T)) for m in (longitudinal, transverse)]
        return change(*axes[0], *axes[1])

    return answer


def formula(short, long, thin, wide):
    return np.pi / 6 * long * thin * wide / 1000


def with_extent(ddof):
    """Exercise 6 with a pixel's own variance, a twelfth of its size squared, along each axis."""

    def answer(longitudinal, transverse, spacing):
        axes = []
        for mask in (longitudinal, transverse):
            cov = np.cov((np.argwhere(mask) * spacing).T, ddof=ddof)
            axes += [4 * np.sqrt(np.linalg.eigvalsh(cov + np.diag(np.square(spacing)) / 12))]
        return formula(*axes[0], *axes[1])

    return answer


def by_box(longitudinal, transverse, spacing):
    one, two = ((np.ptp(np.argwhere(m), 0) + 1) * spacing for m in (longitudinal, transverse))
    return np.pi / 6 * one.max() * two.prod() / 1000


def agreement(measured, exact):
    d = measured - exact
    bias, s = d.mean(), d.std(ddof=1)
    return bias, bias - 1.96 * s, bias + 1.96 * s


def percentiles(measured, exact):
    d = measured - exact
    return d.mean(), *np.percentile(d, [2.5, 97.5])


def limits(change):
    """An answer to exercise 6 from bias, standard deviation and n."""

    def answer(measured, exact):
        d = measured - exact
        return change(d.mean(), d.std(ddof=1), len(d))

    return answer


# ------------------------------------------------------------------------------ what is said

CASES = [
    ("measuring.1", overlap, "✓"),
    ("measuring.1", overlap_in_tensors, "✓"),
    ("measuring.1", lambda *m: list(overlap(*m)), "✓"),
    ("measuring.1", lambda *m: np.array(overlap(*m)), "✓"),
    ("measuring.1", lambda *m: pd.Series(overlap(*m), ["Dice", "IoU"]), "✓"),
    ("measuring.1", lambda *m: overlap(*m)[0], "got one float"),
    ("measuring.1", lambda *m: [overlap(*m)], "a list within a list: return them flat"),
    ("measuring.1", lambda *m: (0.5, ((1, 2), (3,))), "a list within a list: return them flat"),
    ("measuring.1", lambda *m: "ab", "got one str"),
    ("measuring.1", lambda *m: (*overlap(*m), 1), "got 3 of them"),
    ("measuring.1", lambda *m: overlap(*m)[::-1], "in the other order"),
    ("measuring.1", parts(lambda a, b, s, *_: (s / (a + b), s / (a + b - s))), "half of what"),
    ("measuring.1", parts(lambda a, b, s, *_: (2 * s / (a + b), s / (a + b))), "pixels twice"),
    (
        "measuring.1",
        parts(lambda a, b, s, *_: (2 * s / (a + b), 2 * s / (a + b - s))),
        "belongs to Dice alone",
    ),
    ("measuring.1", parts(lambda a, b, s, *_: (s / b, s / (a + b - s))), "the precision"),
    ("measuring.1", parts(lambda a, b, s, *_: (2 * s / (a + b), s / a)), "the sensitivity"),
    ("measuring.1", parts(lambda a, b, s, same, n: (same / n, same / n)), "background in both"),
    ("measuring.1", parts(lambda a, b, s, *_: (1.5 * s / (a + b), s / (a + b - s))), "expected ["),
    (
        "measuring.1",
        lambda t, f: overlap(t, f) if t.any() or f.any() else (1.0, 1.0),
        "neither mask holds a pixel you returned [1, 1]",
    ),
    (
        "measuring.1",
        lambda t, f: (2 * (t & f).sum().item() / (t.sum() + f.sum()).item(), 0) and overlap(t, f),
        "you returned an error, division by zero. There was nothing",
    ),
    (
        "measuring.1",
        lambda t, f: overlap(t, f) if t.any() or f.any() else NAN,
        "neither mask holds a pixel you returned one float. There was nothing",
    ),
    (
        "measuring.1",
        lambda t, f: overlap(t, f) if t.any() and f.any() else (NAN, NAN),
        "got [nan, nan]. A structure missed",
    ),
    ("measuring.2", surface, "✓"),
    ("measuring.2", in_scipy(lambda m: m ^ binary_erosion(m)), "✓"),
    ("measuring.2", in_loops, "✓"),
    ("measuring.2", lambda m: surface(m).float(), "✓"),
    ("measuring.2", lambda m: F.pad(surface(m), (1, 1, 1, 1)), "cut the frame off again"),
    ("measuring.2", in_scipy(binary_erosion), "the interior"),
    ("measuring.2", in_scipy(lambda m: binary_dilation(m, CROSS) & ~m), "just outside"),
    ("measuring.2", in_scipy(lambda m: m & ~binary_erosion(m, np.ones((3, 3)))), "across an edge"),
    ("measuring.2", in_scipy(lambda m: m & ~binary_erosion(m, CROSS, border_value=1)), "no surfac"),
    ("measuring.2", rolled, "wrap around"),
    ("measuring.2", lonely, "*all four*"),
    ("measuring.2", upright, "two of the four"),
    ("measuring.2", lambda m: upright(m.T).T, "two of the four"),
    ("measuring.2", lambda m: m, "the whole structure"),
    ("measuring.2", in_scipy(lambda m: ~binary_erosion(m)), "marked background as well"),
    ("measuring.2", lambda m: surface(m) | surface(m.flip(0)).flip(1), "yours differ, the first"),
    ("measuring.2", lambda m: "edge", "expected a number"),
    ("measuring.3", far, "✓"),
    ("measuring.3", lambda *a: far(*a) * 1, "✓"),
    ("measuring.3", far_in_numpy, "✓"),
    ("measuring.3", lambda a, b, q: far(b, a, q), "✓"),
    ("measuring.3", nearest(lambda m, q: torch.quantile(m.amin(1), q / 100)), "from a to b only"),
    ("measuring.3", nearest(lambda m, q: torch.quantile(m.amin(0), q / 100)), "from b to a only"),
    ("measuring.3", lambda *a: far(*a, join=lambda x, y: (x + y) / 2), "averaged the two ways"),
    ("measuring.3", lambda *a: far(*a, join=min), "took the smaller"),
    (
        "measuring.3",
        nearest(lambda m, q: torch.quantile(torch.cat([m.amin(0), m.amin(1)]), q / 100)),
        "MedPy does",
    ),
    ("measuring.3", nearest(lambda m, q: max(m.amin(0).max(), m.amin(1).max())), "the maximum"),
    (
        "measuring.3",
        nearest(lambda m, q: torch.quantile(m.flatten(), q / 100)),
        "all pairs of points",
    ),
    ("measuring.3", farthest("amax", "amax"), "nearest point: `amin`"),
    ("measuring.3", farthest("amax", "amin"), "nearest point: `amin`"),
    ("measuring.3", farthest("amin", "amax"), "nearest point: `amin`"),
    ("measuring.3", lambda *a: far(*a, reach=lambda x, y: torch.cdist(x, y) ** 2), "squared"),
    ("measuring.3", lambda *a: far(*a, reach=lambda x, y: torch.cdist(x, y, p=1)), "straight line"),
    ("measuring.3", nearest(lambda m, q: torch.quantile(m.amin(0), q)), "RuntimeError"),
    ("measuring.3", lambda *a: far(*a) + 0.5, "I expected"),
    ("measuring.3", empty(0.0, INF), "you returned 0. Nothing to judge"),
    ("measuring.3", empty(INF, INF), "you returned inf. Nothing to judge"),
    ("measuring.3", empty(NAN, NAN), "has no points you returned nan"),
    ("measuring.3", empty(NAN, 0.0), "has no points you returned 0."),
    (
        "measuring.3",
        lambda a, b, q: torch.quantile(torch.cdist(a, b).amin(1), q / 100) * 0 + far(a, b, q),
        "has no points you returned an error, ",
    ),
    ("measuring.3", lambda *a: no_points(*a), "returned an error, of non-zero size. Anything"),
    ("measuring.3", lambda *a: (1, 2), "expected a number"),
    ("measuring.4", within, "✓"),
    ("measuring.4", shares(share), "✓"),
    ("measuring.4", lambda *a: torch.tensor([within(*a)]), "✓"),
    ("measuring.4", given_function, "still measure in pixels"),
    ("measuring.4", shares(share, scale=lambda s: None), "still measure in pixels"),
    ("measuring.4", shares(share, scale=lambda s: s[::-1]), "the other axis"),
    ("measuring.4", shares(lambda there, back, t: (back <= t).mean()), "leaves out still costs"),
    ("measuring.4", shares(lambda there, back, t: (there <= t).mean()), "adds costs nothing"),
    (
        "measuring.4",
        shares(lambda there, back, t: ((there <= t).mean() + (back <= t).mean()) / 2),
        "the two shares",
    ),
    ("measuring.4", shares(lambda a, b, t: share(a, b, t - 1e-6)), "`<=`"),
    ("measuring.4", shares(share, missed=1.0), "only `found` (a miss) is empty I expected 0, and"),
    (
        "measuring.4",
        lambda t, f, *rest: within(t, f, *rest) if t.any() else 1.0,
        "only `truth` (an invention) is empty I expected 0, and got 1",
    ),
    (
        "measuring.4",
        lambda t, f, *rest: within(t, f, *rest) if t.any() else 1 / 0,
        "`truth` (an invention) is empty I expected 0, and got an error, division by zero. The",
    ),
    (
        "measuring.4",
        lambda t, f, *rest: within(t, f, *rest) if f.any() else 1 / 0,
        "got an error",
    ),
    ("measuring.4", lambda *a: within(*a) / 2, "and a tolerance of"),
    ("measuring.4", lambda *a: [within(*a)] * 2, "expected a number"),
    ("measuring.5", lambda hd, worst: np.nanmedian(hd), "✓"),
    ("measuring.5", lambda hd, worst: np.nanmean(np.where(np.isinf(hd), worst, hd)), "✓"),
    ("measuring.5", replaced, "✓"),
    ("measuring.5", lambda hd, worst: torch.tensor(replaced(hd, worst)), "✓"),
    ("measuring.5", lambda hd, worst: hd.mean(), "your score is NaN"),
    ("measuring.5", lambda hd, worst: np.nanquantile(hd, 0.5), "interpolate between two inf"),
    ("measuring.5", lambda hd, worst: np.nanpercentile(np.minimum(hd, worst), 50), "✓"),
    ("measuring.5", lambda hd, worst: np.median(hd), "there was nothing to find"),
    ("measuring.5", lambda hd, worst: np.nanmean(hd), "your score is inf"),
    ("measuring.5", lambda hd, worst: np.nansum(np.minimum(hd, worst)), "lies between"),
    ("measuring.5", lambda hd, worst: 0.0, "lies between"),
    ("measuring.5", lambda hd, worst: np.mean(np.nan_to_num(hd, nan=3, posinf=worst)), "moved"),
    ("measuring.5", lambda hd, worst: hd[np.isfinite(hd)].mean(), "missing a structure improved"),
    ("measuring.5", lambda hd, worst: np.nanmean(np.where(np.isinf(hd), 0, hd)), "missing a stru"),
    (
        "measuring.5",
        lambda hd, worst: np.nanmean(np.where(np.isinf(hd), np.max(hd[np.isfinite(hd)]), hd)),
        "missing a structure improved",
    ),
    ("measuring.5", lambda hd, worst: invention_forgiven(hd, worst), "inventing a structure impr"),
    ("measuring.5", lambda hd, worst: larger_forgiven(hd, worst), "a larger distance improved"),
    ("measuring.5", lambda hd, worst: np.nanmin(hd), "the same, 2"),
    ("measuring.5", lambda hd, worst: (1, 2), "expected a number"),
    ("measuring.6", ellipsoid, "✓"),
    ("measuring.6", by_regions, "✓"),
    ("measuring.6", volume(formula), "✓"),
    ("measuring.6", lambda *a: torch.tensor(ellipsoid(*a)), "✓"),
    ("measuring.6", lambda *a: 1000 * ellipsoid(*a), "mm³, not ml"),
    ("measuring.6", volume(formula, scale=lambda s: np.ones(2)), "measured in pixels"),
    ("measuring.6", volume(formula, scale=lambda s: np.array(s[::-1])), "the other axis"),
    ("measuring.6", lambda *a: ellipsoid(*a) / 8, "an eighth"),
    ("measuring.6", lambda *a: ellipsoid(*a) * 8, "4/3·π belongs to half axes"),
    ("measuring.6", with_extent(1), "a pixel's own extent"),
    ("measuring.6", with_extent(0), "a pixel's own extent"),
    ("measuring.6", lambda *a: ellipsoid(*a) * 1.005, "I expected 1"),
    (
        "measuring.6",
        volume(formula, lengths=lambda cov: 4 * np.linalg.eigvalsh(cov)),
        "variances for lengths",
    ),
    (
        "measuring.6",
        volume(formula, lengths=lambda cov: 4 * np.sqrt(np.sort(np.diag(cov)))),
        "not its diagonal",
    ),
    ("measuring.6", by_box, "the box around the outline"),
    ("measuring.6", volume(lambda s, n, t, w: formula(n, s, t, w)), "the short axis"),
    ("measuring.6", volume(lambda s, n, t, w: formula(0, n, s, w)), "two axes from the long"),
    ("measuring.6", volume(lambda s, n, t, w: formula(0, n, s, t)), "two axes from the long"),
    ("measuring.6", volume(lambda s, n, t, w: formula(0, w, t, w)), "from the transverse view"),
    ("measuring.6", lambda *a: ellipsoid(*a) * 6 / np.pi, "fills π/6"),
    ("measuring.6", lambda *a: ellipsoid(*a) * 1.05, "I expected 1"),
    ("measuring.6", lambda *a: a, "expected a number"),
    ("measuring.7", agreement, "✓"),
    ("measuring.7", lambda m, e: np.array(agreement(m, e)), "✓"),
    ("measuring.7", lambda m, e: torch.tensor(agreement(m, e)), "✓"),
    ("measuring.7", lambda m, e: agreement(m, e)[:2], "got 2 of them"),
    ("measuring.7", lambda m, e: (m - e).mean(), "got one float"),
    ("measuring.7", lambda m, e: pd.Series(agreement(m, e), ["bias", "low", "high"]), "✓"),
    ("measuring.7", lambda m, e: ((m - e).mean(), agreement(m, e)[1:]), "return them flat"),
    ("measuring.7", lambda m, e: ((m - e).mean(), ((1, 2), (3,))), "return them flat"),
    ("measuring.7", lambda m, e: [agreement(m, e)[k] for k in (1, 0, 2)], "number is a limit"),
    ("measuring.7", percentiles, "percentiles of the differences"),
    ("measuring.7", lambda m, e: agreement(e, m), "that is exact − measured"),
    ("measuring.7", lambda m, e: (np.abs(m - e).mean(), 0, 0), "took absolute differences"),
    ("measuring.7", lambda m, e: (np.median(m - e), 0, 0), "took the median"),
    ("measuring.7", lambda m, e: agreement(100 * m / e, 100), "divided the differences by"),
    ("measuring.7", lambda m, e: agreement(m / e, 1), "divided the differences by"),
    ("measuring.7", lambda m, e: agreement(1, e / m), "divided the differences by"),
    ("measuring.7", lambda m, e: agreement(2 * (m - e) / (m + e), 0), "divided the differences by"),
    ("measuring.7", lambda m, e: agreement(1.1 * m, e), "expected a bias of"),
    (
        "measuring.7",
        limits(lambda b, s, n: (b, *(b + k * 1.96 * s * (1 - 1 / n) ** 0.5 for k in (-1, 1)))),
        "divide by n − 1",
    ),
    (
        "measuring.7",
        limits(lambda b, s, n: (b, *(b + k * 1.96 * s / n**0.5 for k in (-1, 1)))),
        "divided by √n",
    ),
    (
        "measuring.7",
        limits(lambda b, s, n: (b, *(b + k * student.ppf(0.975, n - 1) * s for k in (-1, 1)))),
        "a factor of Student's t",
    ),
    (
        "measuring.7",
        limits(
            lambda b, s, n: (
                b,
                *(b + k * student.ppf(0.975, n - 1) * s * (1 + 1 / n) ** 0.5 for k in (-1, 1)),
            )
        ),
        "a factor of Student's t",
    ),
    ("measuring.7", limits(lambda b, s, n: (b, b - s, b + s)), "one standard deviation"),
    ("measuring.7", limits(lambda b, s, n: (b, b - 2 * s, b + 2 * s)), "two standard dev"),
    (
        "measuring.7",
        lambda m, e: (
            (m - e).mean(),
            *((m - e).mean() + k * 1.96 * e.std(ddof=1) for k in (-1, 1)),
        ),
        "spread of the volumes",
    ),
    (
        "measuring.7",
        lambda m, e: (
            (m - e).mean(),
            *((m - e).mean() + k * 1.96 * m.std(ddof=1) for k in (-1, 1)),
        ),
        "spread of the volumes",
    ),
    ("measuring.7", limits(lambda b, s, n: (b, b + 1.96 * s, b - 1.96 * s)), "in the other order"),
    ("measuring.7", limits(lambda b, s, n: (b, -1.96 * s, 1.96 * s)), "lie around 0"),
    ("measuring.7", limits(lambda b, s, n: (b, b - s / 2, b + s)), "I expected limits of"),
]


def invention_forgiven(hd, worst):
    """The more structures are invented, the less all others count; a miss is the worst."""
    judged = np.minimum(hd[~np.isnan(hd)], worst)
    return judged.mean() if np.isnan(hd).any() or len(hd) < 5 else judged.min()


def larger_forgiven(hd, worst):
    judged = np.minimum(hd[~np.isnan(hd)], worst)
    return judged.min() if ((judged > 10) & (judged < worst)).any() else judged.max()


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = " ".join(capsys.readouterr().out.split())
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {"measuring.1": overlap, "measuring.2": surface, "measuring.3": far}
RIGHT |= {"measuring.4": within, "measuring.5": replaced, "measuring.6": ellipsoid}
RIGHT |= {"measuring.7": agreement}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


AND = "measuring.2: return mask & ~(up & down & left & right) → return"
SIDES = "measuring.2: left, right = (framed[1:-1, :-2], framed[1:-1, 2:]) →"
ENDS = "measuring.2: up, down = (framed[:-2, 1:-1], framed[2:, 1:-1]) →"
# What changes only the order of things whose order does not count
EQUIVALENT = [
    "measuring.1: shared = (truth & found).sum().item() → shared = (found & truth).sum().item()",
    f"{SIDES} left, right = (framed[1:-1, 2:], framed[1:-1, :-2])",
    f"{SIDES} right, left = (framed[1:-1, :-2], framed[1:-1, 2:])",
    f"{AND} mask & ~(down & up & left & right)",
    f"{AND} mask & ~(left & (up & down) & right)",
    f"{AND} mask & ~(right & (up & down & left))",
    f"{AND} ~(up & down & left & right) & mask",
    f"{ENDS} down, up = (framed[:-2, 1:-1], framed[2:, 1:-1])",
    f"{ENDS} up, down = (framed[2:, 1:-1], framed[:-2, 1:-1])",
    "measuring.3: apart = torch.cdist(a, b) → apart = torch.cdist(b, a)",
    "measuring.3: return max(there, back).item() → return max(back, there).item()",
    "measuring.4: distances = np.concatenate([to_truth[found], to_found[truth]]) → "
    "distances = np.concatenate([to_found[truth], to_truth[found]])",
    "measuring.5: capped = np.minimum(judged, worst) → capped = np.minimum(worst, judged)",
    "measuring.6: length, (thickness, width) = (axes[0][1], axes[1]) → "
    "length, (width, thickness) = (axes[0][1], axes[1])",
]


def test_no_changed_solution_is_called_right():
    assert ticked("18_measuring_segmentation", "measuring") == EQUIVALENT
