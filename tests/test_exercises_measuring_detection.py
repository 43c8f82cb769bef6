"""Checks of measuring detection: right answers in several forms, each named mistake, mutants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from medlab import metrics
from medlab.exercises import check
from medlab.exercises.measuring_detection import (
    CUTS,
    MARKS,
    MESSAGES,
    RATES,
    _scans,
    _wrong_scores,
)
from medlab.models import box_iou
from tests.learners import hasty, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

MINUS = -np.inf

# ------------------------------------------------------------------------------ right answers


def claims(overlap, scores, least):
    left, claimed = overlap.clone(), [-1] * len(scores)
    if overlap.numel() == 0:
        return claimed
    for i in scores.argsort(descending=True, stable=True).tolist():
        if left[i].max() >= least:
            claimed[i] = left[i].argmax().item()
            left[:, claimed[i]] = -1
    return claimed


def claims_in_lists(overlap, scores, least):
    table, free = overlap.tolist(), set(range(overlap.shape[1]))
    found = np.full(len(table), -1)
    for i in sorted(range(len(table)), key=lambda i: -scores[i].item()):
        for value, k in sorted(((v, -k) for k, v in enumerate(table[i])), reverse=True):
            if -k in free and value >= np.float32(least):
                found[i] = -k
                free.discard(-k)
                break
    return found


def choosing(order=None, *, remove=True, fits=lambda v, least: v >= least, which=None):
    """An answer to exercise 1 that chooses in another order, or by another rule."""

    def answer(overlap, scores, least):
        left, claimed = overlap.clone(), [-1] * len(scores)
        best = scores.argsort(descending=True, stable=True)
        for i in (order(scores) if order else best).tolist():
            if left.shape[1] and fits(left[i].max(), least):
                k = which(overlap, left, i, least) if which else left[i].argmax().item()
                if left[i, k] < 0:
                    continue
                claimed[i] = k
                if remove:
                    left[:, k] = -1
        return claimed

    return answer


def pairs_of_largest_sum(overlap, scores, least):
    from scipy.optimize import linear_sum_assignment

    claimed = [-1] * len(scores)
    for i, k in zip(*linear_sum_assignment(-overlap.numpy()), strict=True):
        if overlap[i, k] >= least:
            claimed[i] = int(k)
    return claimed


def largest_overlaps(overlap, scores, least, in_turn=False):
    left, claimed = overlap.clone(), [-1] * len(scores)
    for column in range(overlap.shape[1] if len(scores) else 0):
        some = left[:, [column]] if in_turn else left
        if some.max() >= least:
            i, k = divmod(some.argmax().item(), some.shape[1])
            claimed[i] = column if in_turn else k
            left[i], left[:, claimed[i]] = -1, -1
    return claimed


def lesions_choose(overlap, scores, least):
    """Each lesion takes the box with the best score of those that overlap it enough."""
    claimed = [-1] * len(scores)
    for k, column in enumerate(overlap.T):
        near = [i for i, v in enumerate(column) if v >= least and claimed[i] < 0]
        if near:
            claimed[max(near, key=lambda i: scores[i])] = k
    return claimed


def mean_precision(hits, lesions):
    running = hits.cumsum(0)
    recall, precision = running / lesions, running / torch.arange(1, len(hits) + 1)
    total = 0.0
    for at in range(101):
        reached = precision[recall >= at / 100]
        total += reached.max().item() if len(reached) else 0.0
    return total / 101


def curve(change, *, lesions=lambda hits, n: n):
    """An answer to exercise 2 from precision and recall, (D,) arrays, and the recalls asked for."""

    def answer(hits, n):
        hits = hits.numpy()
        running = np.cumsum(hits)
        if not len(hits):
            return 0.0
        precision = running / np.arange(1, len(hits) + 1)
        return change(precision, running / max(1, lesions(hits, n)), hits, n)

    return answer


def at_recalls(grid, *, there=lambda recall, at: recall >= at, pick=np.max, none=(0.0,)):
    def change(precision, recall, hits, n):
        found = []
        for at in grid:
            some = precision[there(recall, at)]
            found += [pick(some)] if len(some) else list(none)
        return np.mean(found) if found else 0.0

    return change


GRID = np.linspace(0, 1, 101)


def in_numpy(precision, recall, hits, n):
    """As metrics.average_precision: raised from the end, then looked up."""
    raised = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return raised[np.searchsorted(recall, GRID)].mean()


def luna(truth, found, patients):
    best, alarms = [], []
    for lesions, (boxes, scores) in zip(truth, found, strict=True):
        near = metrics.centre_hits(lesions, boxes)
        alarms += scores[~near.any(1)].tolist()
        for column in near.T:
            best.append(max(scores[column].tolist(), default=MINUS))
    x, y = [0.0], [0.0]
    for t in sorted({*best, *alarms} - {MINUS}, reverse=True):
        x.append(sum(a >= t for a in alarms) / len(set(patients)))
        y.append(np.mean([b >= t for b in best]))
    return np.interp(RATES, x, y).mean()


def one_by_one(order):
    """An answer to exercise 3 with a point for each score; `order` sorts (score, hit) pairs."""

    def answer(truth, found, patients):
        pairs, lesions = [], 0
        for t, (boxes, scores) in zip(truth, found, strict=True):
            near = metrics.centre_hits(t, boxes)
            pairs += [(score, False) for score in scores[~near.any(1)].tolist()]
            pairs += [(max(scores[column].tolist()), True) for column in near.T if column.any()]
            lesions += len(t)
        hit = np.array([h for _, h in order(pairs)], bool)
        x = np.append(0, np.cumsum(~hit) / len(set(patients)))
        return np.interp(RATES, x, np.append(0, np.cumsum(hit) / lesions)).mean()

    return answer


def every_box(truth, found, patients, start=()):
    """An answer to exercise 3 that adds up hits as average precision does, box by box."""
    pairs = list(zip(truth, found, strict=True))
    near = torch.cat([metrics.centre_hits(t, boxes).any(1) for t, (boxes, _) in pairs])
    hits = near[hits_of(found).argsort(descending=True, stable=True)]
    x = [*start, *((~hits).cumsum(0) / len(set(patients))).tolist()]
    y = [*start, *(hits.cumsum(0) / sum(map(len, truth))).tolist()]
    return np.interp(RATES, x or [0], y or [0]).mean()


def of_parts(names, join=np.mean):
    """An answer to exercise 3 that averages the scores of parts which hold a lesion."""

    def answer(truth, found, patients):
        places, scores = names(patients), []
        for name in dict.fromkeys(places):
            some = [i for i, other in enumerate(places) if other == name]
            if any(len(truth[i]) for i in some):
                scores.append(luna([truth[i] for i in some], [found[i] for i in some], ["one"]))
        return join(scores)

    return answer


def in_frame(lesions, boxes):
    x, y = ((boxes[:, None, k] + boxes[:, None, k + 2]) / 2 for k in (0, 1))
    wide = (lesions[:, 0] <= x) & (x <= lesions[:, 2])
    return wide & (lesions[:, 1] <= y) & (y <= lesions[:, 3])


def froc(change=lambda x, y: np.interp(RATES, x, y).mean(), **options):
    """An answer to exercise 3 from a curve that `options` may spoil."""
    start, levels = options.get("start", True), options.get("levels")
    above, pick = options.get("above", np.greater_equal), options.get("pick", np.max)
    scale, keep = options.get("scale", lambda n, scans: n / scans), options.get("keep")
    rule, boxes_count = options.get("rule", metrics.centre_hits), options.get("boxes_count")

    def answer(truth, found, patients):
        best, alarms, hitting = [], [], []
        for lesions, (boxes, scores) in zip(truth, found, strict=True):
            near, values = rule(lesions, boxes).numpy(), scores.numpy()
            alarms += values[~near.any(1)].tolist()
            hitting += values[near.any(1)].tolist()
            for hit in near.T:
                best.append(pick(values[hit]) if hit.any() else MINUS)
                if options.get("doubles"):
                    alarms += sorted(values[hit].tolist())[:-1]
        best, alarms = np.array(best, float), np.array(alarms, float)
        ill = [name for name, t in zip(patients, truth, strict=True) if len(t)]
        scans = len(set(ill if options.get("ill") else patients))
        scans = len(truth) if options.get("slices") else scans
        if keep:
            best = best[np.isfinite(best)]
        if not len(best):
            return 0.0
        every = np.concatenate([best, alarms]) if levels is None else levels(best, alarms)
        every = np.unique(every if options.get("infinite") else every[np.isfinite(every)])[::-1]
        x = [scale(above(alarms, t).sum(), scans) for t in every]
        y = [above(best, t).mean() for t in every]
        if boxes_count:
            y = [above(np.array(hitting), t).sum() / boxes_count(best, hitting) for t in every]
        if start or not x:
            x, y = [0, *x], [0, *y]
        return change(np.array(x), np.array(y))

    return answer


def by_medlab(truth, found, patients):
    return metrics.froc(truth, found, groups=patients).cpm


def hits_of(found):
    return torch.cat([scores for _, scores in found])


def by_size(patients, diameters, hit, edges):
    nodules = {}
    for name, d, found in zip(patients, diameters, hit, strict=True):
        nodules[name, d] = found or nodules.get((name, d), False)
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = [found for (_, d), found in nodules.items() if low <= d < high]
        rows.append((sum(inside), len(inside)))
    return rows


def in_histograms(patients, diameters, hit, edges):
    nodules = sorted(set(zip(patients.tolist(), diameters.tolist(), strict=True)))
    found = {key[:2] for key in zip(patients, diameters, hit, strict=True) if key[2]}
    d, seen = np.array([d for _, d in nodules]), np.array([n in found for n in nodules])
    return np.stack([np.histogram(d[seen], edges)[0], np.histogram(d, edges)[0]], 1)


def open_histograms(patients, diameters, hit, edges):
    inside = diameters < edges[-1]
    return in_histograms(patients[inside], diameters[inside], hit[inside], edges)


def in_digits(patients, diameters, hit, edges):
    rows = [[0, 0] for _ in edges[1:]]
    found = {}
    for name, d, h in zip(patients, diameters, hit, strict=True):
        found[name, d] = found.get((name, d), False) or h
    for (_, d), h in found.items():
        k = np.digitize(d, edges) - 1
        if k >= 0:
            rows[k][0] += int(h)
            rows[k][1] += 1
    return rows


def of_some(*given):
    """An answer to exercise 5 that leaves empty classes out."""
    return [row for row in by_size(*given) if row[1]]


def in_a_frame(*given):
    import pandas as pd

    return pd.DataFrame(by_size(*given), columns=["found", "of"])


def in_pandas(patients, diameters, hit, edges):
    import pandas as pd

    each = pd.DataFrame({"p": patients, "d": diameters, "h": hit}).groupby(["p", "d"])["h"].max()
    d = each.index.get_level_values("d")
    classes = pd.cut(d, edges, right=False)
    return each.groupby(classes, observed=False).agg(["sum", "count"]).to_numpy()


def sized(change):
    """An answer to exercise 4 from the right one's rows."""
    return lambda *a: [change(found, of) for found, of in by_size(*a)]


def nodules(key, *, join=any, inside=lambda d, low, high: low <= d < high):
    """An answer to exercise 4 that tells nodules, or their classes, apart in another way."""

    def answer(patients, diameters, hit, edges):
        seen: dict = {}
        for k, (name, d, found) in enumerate(zip(patients, diameters, hit, strict=True)):
            seen.setdefault(key(k, name, d), []).append((d, bool(found)))
        rows = []
        for low, high in itertools.pairwise(edges):
            some = [cuts for cuts in seen.values() if inside(cuts[0][0], low, high)]
            rows.append([sum(join([h for _, h in cuts]) for cuts in some), len(some)])
        return rows

    return answer


def people(patients, diameters, hit, edges):
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (low <= diameters) & (diameters < high)
        rows.append([len(set(patients[inside & hit])), len(set(patients[inside]))])
    return rows


def gain(score, before, after, draws):
    apart = [score(after, row) - score(before, row) for row in draws]
    low, high = np.percentile(apart, [2.5, 97.5])
    return score(after) - score(before), low, high


def in_tensors(score, before, after, draws):
    many = [torch.tensor([score(f, row) for row in draws]) for f in (before, after)]
    apart = torch.quantile((many[1] - many[0]).double(), torch.tensor([0.025, 0.975]).double())
    return torch.cat([torch.tensor([score(after) - score(before)]).double(), apart])


def gained(change, *, weights=True):
    """An answer to exercise 5 from both scores and those of the draws."""

    def answer(score, before, after, draws):
        many = [
            np.array([score(found, row if weights else None) for row in draws])
            for found in (before, after)
        ]
        return change(score(before), many[0], score(after), many[1])

    return answer


def ends(values, tails=(2.5, 97.5)):
    return np.percentile(values, tails)


# ------------------------------------------------------------------------------ what is said

ONE, TWO, THREE, FOUR, FIVE = (f"measuring_detection.{k}" for k in range(1, 6))
CASES = [
    (ONE, claims, "✓"),
    (ONE, claims_in_lists, "✓"),
    (ONE, choosing(), "✓"),
    (ONE, lambda *a: torch.tensor(claims(*a)), "✓"),
    (ONE, lambda *a: 3, "got one int"),
    (ONE, lambda *a: claims(*a)[:-1], "got 5 of them"),
    (ONE, lambda *a: [claims(*a)] * 5, "a list within a list"),
    (ONE, choosing(remove=False), "claimed twice"),
    (ONE, choosing(lambda s: torch.arange(len(s))), "in which they stand"),
    (ONE, choosing(lambda s: s.argsort(stable=True)), "lowest score choose first"),
    (ONE, choosing(which=lambda o, left, i, least: o[i].argmax().item()), "claim another one"),
    (ONE, choosing(fits=lambda v, least: v > least), "just `least` is enough"),
    (ONE, choosing(fits=lambda v, least: v >= 0), "overlap less than `least`"),
    (
        ONE,
        choosing(which=lambda o, left, i, least: int((left[i] >= least).nonzero()[0])),
        "though not the one that it overlaps",
    ),
    (ONE, largest_overlaps, "larger overlap decide"),
    (ONE, lambda o, s, t: largest_overlaps(o, s, t, in_turn=True), "larger overlap decide"),
    (ONE, lesions_choose, "not the lesions in their order"),
    (ONE, pairs_of_largest_sum, "largest overlap in total"),
    (ONE, choosing(lambda s: s.argsort(stable=True).flip(0)), "stands first chooses first"),
    (
        ONE,
        lambda o, s, t: [claims(o, s, t)[i] for i in s.argsort(descending=True, stable=True)],
        "in the order of the scores",
    ),
    (ONE, lambda o, s, t: claims(o, s, t) if o.numel() else [0] * len(s), "of 2 boxes and 0"),
    (
        ONE,
        lambda o, s, t: [o.max().item() * 0 + c for c in claims(o, s, t)],
        "got an error: max(): Exp",
    ),
    (ONE, lambda o, s, t: [c + 1 for c in claims(o, s, t)], "for the scores"),
    (TWO, mean_precision, "✓"),
    (TWO, curve(in_numpy), "✓"),
    (TWO, curve(at_recalls(GRID)), "✓"),
    (TWO, lambda *a: torch.tensor([mean_precision(*a)]), "✓"),
    (TWO, curve(at_recalls(GRID, pick=lambda p: p[0])), "did not raise precision"),
    (TWO, curve(at_recalls(GRID, pick=np.min)), "you took the lowest precision"),
    (TWO, lambda *a: mean_precision(*a) * 1.01, "divided by a hundred"),
    (TWO, curve(at_recalls(GRID, none=())), "recalls that were reached"),
    (TWO, curve(at_recalls(GRID), lesions=lambda hits, n: hits.sum()), "by the lesions found"),
    (TWO, curve(lambda p, r, hits, n: (p * hits).sum() / n), "(scikit-learn's)"),
    (
        TWO,
        curve(lambda p, r, h, n: (np.maximum.accumulate(p[::-1])[::-1] * h).sum() / n),
        "area under the raised curve",
    ),
    (TWO, curve(lambda p, r, hits, n: p[hits].mean() if hits.any() else 0.0), "as scikit-learn"),
    (TWO, curve(lambda p, r, hits, n: trapezoid(p, r)), "between its points"),
    (TWO, curve(lambda p, r, hits, n: trapezoid([1, *p], [0, *r])), "between its points"),
    (TWO, curve(lambda p, r, hits, n: trapezoid([p[0], *p], [0, *r])), "between its points"),
    (TWO, curve(at_recalls(np.linspace(0, 1, 11))), "before 2010"),
    (TWO, curve(at_recalls(GRID[:-1])), "there are 101"),
    (TWO, curve(at_recalls(GRID, there=np.greater)), "its own precision counts too"),
    (TWO, curve(at_recalls(GRID, there=np.less_equal)), "late flood"),
    (TWO, lambda hits, n: mean_precision(hits.flip(0), n), "from the other end"),
    (TWO, lambda hits, n: mean_precision(hits, n) if len(hits) else 1.0, "and got 1"),
    (TWO, lambda hits, n: mean_precision(hits, n) + 0 * hits[0], "an error: index"),
    (TWO, lambda hits, n: mean_precision(hits, n) / 2, "for hits 1001101000"),
    (THREE, luna, "✓"),
    (THREE, froc(), "✓"),
    (THREE, by_medlab, "✓"),
    (THREE, lambda *a: torch.tensor(luna(*a)), "✓"),
    (THREE, froc(keep=True), "without a hit out"),
    (THREE, froc(infinite=True), "even a missed lesion counts as found"),
    (THREE, froc(above=np.greater), "at the threshold counts"),
    (THREE, froc(scale=lambda n, scans: n), "did not divide"),
    (THREE, froc(scale=lambda n, scans: n * scans), "not multiplied"),
    (THREE, froc(start=False), "start at (0, 0)"),
    (
        THREE,
        froc(lambda x, y: np.mean([y[x <= r].max(initial=0) for r in RATES])),
        "straight lines join the points",
    ),
    (
        THREE,
        froc(lambda x, y: np.interp(np.log(RATES), np.log(x + 1e-12), y).mean()),
        "only the picture is logarithmic",
    ),
    (THREE, froc(levels=lambda best, alarms: alarms), "thresholds of false alarms alone"),
    (THREE, froc(lambda x, y: np.interp(np.arange(9), x, y).mean()), "over other rates"),
    (
        THREE,
        froc(lambda x, y: ((y[1:] + y[:-1]) / 2 * np.diff(x)).sum()),
        "a mean at seven rates",
    ),
    (THREE, froc(lambda x, y: np.interp(RATES, x, y).sum()), "added the seven"),
    (THREE, froc(doubles=True), "counts them as neither"),
    (THREE, froc(pick=np.min), "the best score counts"),
    (THREE, froc(pick=lambda values: values[0]), "the best score counts"),
    (THREE, froc(slices=True), "divided by the slices"),
    (THREE, froc(ill=True), "by the scans with a lesion"),
    (THREE, one_by_one(lambda pairs: sorted(pairs, reverse=True)), "one threshold"),
    (THREE, one_by_one(lambda pairs: sorted(pairs, key=lambda p: (-p[0], p[1]))), "one by one"),
    (THREE, one_by_one(lambda pairs: sorted(pairs, key=lambda p: -p[0])), "one threshold"),
    (THREE, one_by_one(lambda pairs: sorted(pairs, key=lambda p: p[0])[::-1]), "one threshold"),
    (THREE, froc(rule=lambda t, b: box_iou(b, t) > 0), "`metrics.centre_hits`"),
    (THREE, froc(rule=lambda t, b: box_iou(b, t) >= 0.1), "`metrics.centre_hits`"),
    (THREE, froc(rule=lambda t, b: box_iou(b, t) >= 0.3), "`metrics.centre_hits`"),
    (THREE, froc(rule=lambda t, b: box_iou(b, t) >= 0.5), "`metrics.centre_hits`"),
    (THREE, froc(rule=in_frame), "`metrics.centre_hits`"),
    (THREE, froc(boxes_count=lambda best, hitting: len(best)), "counted the boxes that hit"),
    (
        THREE,
        froc(
            boxes_count=lambda best, hitting: max(1, len(hitting)),
            levels=lambda best, alarms: np.concatenate([best, alarms]),
        ),
        "counted the boxes that hit",
    ),
    (THREE, every_box, "counted the boxes that hit"),
    (THREE, lambda *a: every_box(*a, start=[0.0]), "counted the boxes that hit"),
    (THREE, of_parts(lambda patients: patients), "single patients or slices"),
    (
        THREE,
        lambda t, f, p: of_parts(lambda patients: patients, np.sum)(t, f, p) / len(set(p)),
        "single patients or slices",
    ),
    (THREE, of_parts(lambda patients: range(len(patients))), "single patients or slices"),
    (THREE, froc(levels=lambda best, alarms: best), "scores of lesions alone"),
    (THREE, froc(lambda x, y: np.interp(RATES, x[::-1], y[::-1]).mean()), "wants x ascending"),
    (
        THREE,
        froc(lambda x, y: np.interp(RATES, x[::-1], y[::-1]).mean(), start=False),
        "wants x ascending",
    ),
    (
        THREE,
        froc(
            lambda x, y: np.mean(
                [np.interp(r, [0, *x[::-1]], [0, *y[::-1]]) for r in RATES],
            ),
            start=False,
        ),
        "wants x ascending",
    ),
    (THREE, lambda *a: luna(*a) or 1.0, "expected 0, and got 1"),
    (
        THREE,
        lambda t, f, p: luna(t, f, p) + 0 * max(hits_of(f)),
        "was hit I expected 0, and got an error",
    ),
    (
        THREE,
        lambda t, f, p: luna(t, f, p) if len(hits_of(f)) != 2 or sum(map(len, t)) != 2 else 0.0,
        "without a single false alarm I expected 0.5",
    ),
    (THREE, lambda *a: luna(*a) / 2, "11 false alarms and 5 scans"),
    (FIVE, by_size, "✓"),
    (FIVE, in_pandas, "✓"),
    (FIVE, lambda *a: torch.tensor(by_size(*a)), "✓"),
    (FIVE, nodules(lambda k, name, d: (name, d)), "✓"),
    (FIVE, open_histograms, "✓"),
    (FIVE, in_a_frame, "✓"),
    (FIVE, in_histograms, "the last one too"),
    (
        FIVE,
        nodules(
            lambda k, name, d: (name, d),
            inside=lambda d, low, high: low <= d and (d < high or high == 31),
        ),
        "the last one too",
    ),
    (FIVE, in_digits, "got an error: list index"),
    (FIVE, of_some, "(0, 0): I expected [["),
    (FIVE, lambda *a: [row if row[1] else None for row in by_size(*a)], "(0, 0): I expected [["),
    (FIVE, lambda *a: [[n + 0 // of, of] for n, of in by_size(*a)], "got an error: integer"),
    (FIVE, lambda *a: by_size(*a)[:2], "got shape (2, 2)"),
    (FIVE, lambda *a: dict(enumerate(by_size(*a))), "got dict"),
    (FIVE, nodules(lambda k, name, d: k), "in three slices is one nodule"),
    (FIVE, nodules(lambda k, name, d: (name, d), join=all), "only if every one"),
    (FIVE, nodules(lambda k, name, d: (name, d), join=lambda h: h[0]), "by one of its cuts"),
    (FIVE, nodules(lambda k, name, d: (name, d), join=lambda h: h[-1]), "by one of its cuts"),
    (FIVE, nodules(lambda k, name, d: d), "equal diameter for one"),
    (FIVE, people, "counted patients"),
    (
        FIVE,
        nodules(lambda k, name, d: (name, d), join=lambda h: 2 * sum(h) > len(h)),
        "I expected [[",
    ),
    (
        FIVE,
        nodules(lambda k, name, d: (name, d), inside=lambda d, low, high: low < d <= high),
        "a nodule of just 6 mm",
    ),
    (
        FIVE,
        nodules(lambda k, name, d: (name, d), inside=lambda d, low, high: low <= d <= high),
        "6 mm in two classes",
    ),
    (FIVE, sized(lambda found, of: found / of), "you returned shares"),
    (FIVE, sized(lambda found, of: (found, of - found)), "that of the missed"),
    (FIVE, sized(lambda found, of: (of, found)), "the other order"),
    (FIVE, sized(lambda found, of: (found + 1, of)), "I expected [["),
    (FOUR, gain, "✓"),
    (FOUR, lambda *a: torch.tensor(gain(*a)), "✓"),
    (FOUR, gained(lambda a, many, b, more: (b - a, *ends(more - many))), "✓"),
    (FOUR, in_tensors, "✓"),
    (FOUR, lambda *a: np.array(gain(*a)), "✓"),
    (FOUR, lambda *a: gain(*a)[0], "got one float"),
    (FOUR, gained(lambda a, many, b, more: (b - a, ends(more - many))), "unpack the two"),
    (FOUR, gained(lambda a, many, b, more: [b - a, list(ends(more - many))]), "unpack the two"),
    (FOUR, lambda *a: ([gain(*a)[0]], gain(*a)[1:]), "a list within a list"),
    (FOUR, lambda *a: (gain(*a)[0], [[1], [2, 3]]), "a list within a list"),
    (
        FOUR,
        gained(
            lambda a, many, b, more: (b - a, *ends(more - many, (0.025, 0.975))),
        ),
        "counts in per cent",
    ),
    (
        FOUR,
        gained(lambda a, many, b, more: (b - a, *(ends(more) - ends(many)[::-1]))),
        "ends of two intervals",
    ),
    (FOUR, gained(lambda a, many, b, more: (a - b, *ends(many - more))), "before − after"),
    (
        FOUR,
        gained(lambda a, many, b, more: ((more - many).mean(), *ends(more - many))),
        "mean over the draws",
    ),
    (
        FOUR,
        gained(lambda a, many, b, more: (b - a, *ends(more[::-1] - many))),
        "met different patients",
    ),
    (
        FOUR,
        gained(lambda a, many, b, more: (b - a, *(ends(more) - ends(many)))),
        "ends of two intervals",
    ),
    (FOUR, gained(lambda a, many, b, more: (b - a, *ends(more - a))), "must weigh both"),
    (FOUR, gained(lambda a, many, b, more: (b - a, *ends(b - many))), "must weigh both"),
    (FOUR, gained(lambda a, m, b, n: (b - a, *ends(n - m)[::-1])), "low, then high"),
    (FOUR, gained(lambda a, m, b, n: (b - a, *ends(n - m, (5, 95)))), "5 % at each side"),
    (FOUR, gained(lambda a, m, b, n: (b - a, *ends(n - m)), weights=False), "has no width"),
    (
        FOUR,
        gained(
            lambda a, m, b, n: (
                b - a,
                b - a - 1.96 * (n - m).std(ddof=1),
                b - a + 1.96 * (n - m).std(ddof=1),
            )
        ),
        "standard deviations",
    ),
    (FOUR, gained(lambda a, m, b, n: (b - a, (n - m).min(), (n - m).max())), "largest draw"),
    (FOUR, lambda *a: [2 * value for value in gain(*a)], "I expected ["),
    (FOUR, gained(lambda a, m, b, n: (b - a, *ends(abs(n - m)))), "I expected ["),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_what_an_answer_is_told(id, answer, said, capsys):
    check(id, answer)
    told = " ".join(capsys.readouterr().out.split())
    assert said in told
    assert told.startswith("✓" if said == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {ONE: claims, TWO: mean_precision, THREE: luna, FIVE: by_size, FOUR: gain}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# ------------------------------------------------------------------------------ other authorities


def cases(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng, int(rng.integers(1, 12)), int(rng.integers(0, 30)), int(rng.integers(1, 6))


def test_the_claims_are_medlabs():
    for rng, lesions, boxes, _ in cases(100, seed=1):
        corner = rng.uniform(0, 20, (lesions + boxes, 2))
        every = torch.tensor(np.concatenate([corner, corner + 8], 1)).float()
        truth, found = every[:lesions], every[lesions:]
        scores = torch.tensor(rng.integers(0, 9, boxes) / 8)
        want = metrics.box_matches(truth, found, scores, iou=0.3).tolist()
        assert claims(box_iou(found, truth).double(), scores, 0.3) == want


def scored(best, alarms, scans):
    """The score by hand of lesions whose best scores are known, −∞ for none."""
    return luna(*_scans(list(best), list(alarms), scans, max(1, scans - 1)))


def test_the_score_is_medlabs():
    for rng, lesions, wrong, scans in cases(60, seed=6):
        best = np.where(rng.random(lesions) < 0.3, MINUS, rng.integers(0, 20, lesions) / 20)
        given = _scans(list(best), list(rng.integers(0, 20, wrong) / 20), scans, 1)
        assert luna(*given) == pytest.approx(by_medlab(*given))


def test_the_score_is_monais():
    """MONAI takes 0 for a lesion without a hit, and leaves out the lowest threshold."""
    monai = pytest.importorskip("monai.metrics", reason="MONAI is not installed")
    compared = 0
    for rng, lesions, wrong, scans in cases(60, seed=2):
        best = rng.integers(1, 30, lesions) / 30
        best[rng.random(lesions) < 0.4] = 0
        alarms = rng.integers(1, 30, wrong) / 30
        if not (best == 0).any() or not best.any():
            continue
        compared += 1
        curve = monai.compute_froc_curve_data(alarms, best, lesions, num_images=scans)
        want = monai.compute_froc_score(*curve, tuple(RATES))
        assert scored(np.where(best > 0, best, MINUS), alarms, scans) == pytest.approx(want)
    assert compared > 20


def test_the_steps_of_precision_are_scikit_learns():
    """The convention that a wrong answer is named after."""
    from sklearn.metrics import average_precision_score

    for rng, _, boxes, _ in cases(50, seed=3):
        hits = rng.random(boxes + 2) < 0.5
        if hits.any():
            steps = curve(lambda p, r, h, n: (p * h).sum() / n)(torch.tensor(hits), hits.sum())
            order = -np.arange(len(hits))
            assert steps == pytest.approx(average_precision_score(hits, order))


def test_average_precision_by_hand_is_medlabs():
    for rng, lesions, boxes, _ in cases(60, seed=4):
        lesions += int(np.gcd(lesions, 100) > 1)
        if np.gcd(lesions, 100) > 1:
            continue
        corner = np.stack([20.0 * np.arange(lesions), np.zeros(lesions)], 1)
        truth = torch.tensor(np.concatenate([corner, corner + 6], 1)).float()
        chosen = rng.permutation(lesions)[: min(lesions, boxes)]
        far = torch.tensor([[0.0, 500, 6, 506]]).repeat(boxes, 1)
        found, order = torch.cat([truth[chosen], far]), rng.permutation(len(chosen) + boxes)
        scores = torch.tensor(order / 100).float()
        hits = torch.arange(len(found)) < len(chosen)
        mine = mean_precision(hits[scores.argsort(descending=True)], lesions)
        assert mine == pytest.approx(metrics.average_precision([truth], [(found, scores)]))


def test_missing_a_lesion_never_improves_a_score():
    for rng, lesions, wrong, scans in cases(60, seed=5):
        best, alarms = rng.random(lesions), rng.random(wrong)
        before = scored(best, alarms, scans)
        worse = best.copy()
        worse[rng.integers(lesions)] = MINUS
        assert scored(worse, alarms, scans) <= before + 1e-9
        hits = torch.tensor(rng.random(wrong) < 0.5)
        assert mean_precision(hits, lesions + wrong + 1) <= mean_precision(hits, lesions + wrong)


def test_the_first_marks_tell_the_misreadings_of_a_score_apart():
    """Points one by one, alarms first, are the curve's steps: those two share a message."""
    wrong = {"right": [luna(*_scans(*MARKS[0]))], **_wrong_scores(*MARKS[0])}
    for (one, first), (other, second) in itertools.combinations(wrong.items(), 2):
        if (one, other) != ("step", "tied"):
            assert min(abs(a - b) for a in first for b in second) > 1e-4, (one, other)


def test_the_cuts_tell_nodules_patients_and_diameters_apart():
    assert len({d for _, d, _ in CUTS}) < len({(p, d) for p, d, _ in CUTS}) < len(CUTS)


ORDER = "measuring_detection.1: for i in scores.argsort(descending=True, stable=True).tolist(): →"
TAKEN = "measuring_detection.1: left[:, claimed[i]] = -1 →"
# On a CPU torch's order of ties is stable anyway; a limit is above 0, so 0 marks as taken just as
# well; a recall of 1.01 is never reached; two names are exchanged throughout; and zip ends with
# the shorter of two lists.
EQUIVALENT = [
    f"{ORDER} for i in scores.argsort(descending=True).tolist():",
    f"{ORDER} for i in scores.argsort(descending=True, stable=False).tolist():",
    f"{TAKEN} left[:, claimed[i]] = -0",
    f"{TAKEN} left[:, claimed[i]] = -2",
    "measuring_detection.2: for at in range(101): → for at in range(102):",
    "measuring_detection.3: best, alarms = ([], []) → alarms, best = ([], [])",
    "measuring_detection.3: x, y = ([0], [0]) → y, x = ([0], [0])",
    "measuring_detection.5: for low, high in zip(edges[:-1], edges[1:]): → "
    "for low, high in zip(edges[:], edges[1:]):",
]


def test_no_changed_solution_is_called_right():
    assert ticked("20_measuring_detection", "measuring_detection") == EQUIVALENT
