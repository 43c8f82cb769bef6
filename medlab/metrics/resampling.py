"""The bootstrap: how far a figure moves when other patients come, drawn from those that did."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from medlab.cohort import identifiers
from medlab.errors import DataError
from medlab.metrics._arguments import UndefinedMetric, as_array, whole
from medlab.metrics.counts import auc, one_against_rest
from medlab.metrics.intervals import LEVEL, Interval, warn_without_width

_OfCounts = Callable[[np.ndarray], np.ndarray]


def bootstrap(
    metric: Callable[..., float],
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    groups: Any = None,
    n: int = 2000,
    seed: int = 0,
    **options: Any,
) -> Interval:
    """95 % percentile bootstrap interval of a metric, drawing patients, not images.

    Images of one patient resemble each other: drawing them one by one pretends to more evidence
    than there is, and the interval comes out too narrow. A resample on which the metric is
    undefined (NaN, or a class is missing) is left out, so the interval holds given that it is
    defined; `Interval.n` counts those used. `auc` is computed for all resamples at once; any other
    function is called n times.

    Args:
        metric: takes labels and scores, returns a number.
        labels: (N,) or (N, K), as the metric takes them.
        scores: (N,) or (N, K), as the metric takes them.
        groups: (N,) patient of each image; None if every image is another patient.
        n: resamples, ≥ 40; 2000 is usual.
        seed: of the random draw, ≥ 0; the same seed draws the same patients.
        **options: passed to the metric, such as `threshold=0.3`.

    Raises:
        UndefinedMetric: the metric is undefined on the data, or on half of the resamples.
        DataError: one patient only, or too few resamples to show the tails.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
    """
    draws = resamples(labels, groups=groups, n=n, seed=seed)
    return warn_without_width(_over_resamples(metric, labels, [scores], options, draws))


def bootstrap_difference(
    metric: Callable[..., float],
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: Any = None,
    n: int = 2000,
    seed: int = 0,
    **options: Any,
) -> Interval:
    """Interval of metric(a) − metric(b), both models judged on the same resampled patients.

    `a` and `b` are the models' scores of the same images; the rest is as for `bootstrap`.
    """
    draws = resamples(labels, groups=groups, n=n, seed=seed)
    return warn_without_width(_over_resamples(metric, labels, [a, b], options, draws))


def resamples(
    labels: ArrayLike, *, groups: Any = None, n: int = 2000, seed: int = 0
) -> Iterator[np.ndarray]:
    """How often each image occurs in each bootstrap resample, in blocks of resamples.

    Patients are drawn with replacement, as many as there are, and bring all their images. Of the
    labels only the number matters; the rest as for `bootstrap`. Blocks are int64 (block, N),
    together of n rows, and do not depend on memory or machine.
    """
    n, rng = whole(n, "n", 1), np.random.default_rng(whole(seed, "seed", 0))
    images = len(as_array(labels))
    patient = np.arange(images)
    if groups is not None:
        names = as_array(groups)
        if names.shape != (images,):
            raise DataError(f"groups {names.shape} for {images} images: pass one patient per image")
        names = names if names.dtype.kind in "iu" else identifiers(names, "groups")
        patient = np.unique(names, return_inverse=True)[1]
    patients = int(patient.max(initial=-1)) + 1
    if patients < 2:
        raise DataError(f"the bootstrap draws patients, and there is only {patients}")
    # About a megabyte of draws at a time stays in cache and does not grow with n.
    block = max(1, 2**17 // patients)
    sizes = (min(block, n - start) for start in range(0, n, block))
    drawn = (_drawn(rng, rows, patients) for rows in sizes)
    return drawn if groups is None else (counts[:, patient] for counts in drawn)


def resampled_values(
    metric: Callable, labels: ArrayLike, scores: ArrayLike, counts: np.ndarray
) -> np.ndarray:
    """The metric on each resample: the distribution whose percentiles `bootstrap` reports.

    Of `counts`, (B, N) how often each image occurs in each resample, as `resamples` yields them, it
    makes float64 (B,), NaN where the metric is undefined.
    """
    counts = np.asarray(counts).astype(np.int64, copy=False)  # small integers would overflow
    if counts.shape[1:] != (images := len(as_array(labels)),):
        raise DataError(f"counts must be (B, {images}), one column an image; got {counts.shape}")
    return _evaluator(metric, labels, scores, {})(counts)


def _drawn(rng: np.random.Generator, rows: int, patients: int) -> np.ndarray:
    """(rows, patients) how often each patient is drawn."""
    # Two bytes an integer where they suffice: drawing is most of the work.
    kind = np.uint16 if patients <= 2**16 else np.int64
    drawn = rng.integers(0, patients, (rows, patients), dtype=kind)
    flat = drawn + np.arange(rows)[:, None] * patients
    return np.bincount(flat.ravel(), minlength=rows * patients).reshape(rows, patients)


def _over_resamples(
    metric: Callable, labels: ArrayLike, models: list, options: dict, draws: Iterator[np.ndarray]
) -> Interval:
    """The metric of one model, or of the first less that of the second, with its interval."""
    value = np.subtract.reduce([float(metric(labels, scores, **options)) for scores in models])
    parts = [_evaluator(metric, labels, scores, options) for scores in models]
    values = [np.subtract.reduce([part(counts) for part in parts]) for counts in draws]
    found = np.concatenate(values)
    defined = found[~np.isnan(found)]
    lost = len(found) - len(defined)
    if len(found) < 2 / (1 - LEVEL):
        raise DataError(f"{len(found)} resamples cannot show the tails: take 40, better 2000")
    if lost > len(found) / 2:
        raise UndefinedMetric(
            f"the metric is undefined in {lost} of {len(found)} resamples, for want of patients "
            "of a class: use an exact interval such as metrics.proportion"
        )
    if lost > len(found) / 20:
        warnings.warn(
            f"{lost} of {len(found)} resamples, on which the metric is undefined, were left out: "
            "take more patients of the rarer class",
            stacklevel=3,  # the caller of `bootstrap`
        )
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high), n=len(defined))


def _evaluator(metric: Callable, labels: Any, scores: Any, options: dict) -> _OfCounts:
    """The metric as a function of counts: all resamples at once if `auc`, else one by one."""
    if metric is auc:
        areas = [_auc_by_counts(y, s) for y, s in one_against_rest(labels, scores)]
        return lambda counts: np.mean([area(counts) for area in areas], axis=0)
    labels, scores = (v if torch.is_tensor(v) else np.asarray(v) for v in (labels, scores))
    classes = len(np.unique(as_array(labels), axis=0))

    def value(row: np.ndarray) -> float:
        chosen = np.repeat(np.arange(len(row)), row)
        try:
            return float(metric(labels[chosen], scores[chosen], **options))
        except ValueError:
            # Most metrics refuse a resample without one of the classes; any other refusal is a bug.
            if len(np.unique(as_array(labels[chosen]), axis=0)) < classes:
                return np.nan
            raise

    return lambda counts: np.array([value(row) for row in counts])


def _auc_by_counts(y: np.ndarray, s: np.ndarray) -> _OfCounts:
    """AUC of weighted images: scores are sorted once, and a resample costs one running sum."""
    positive, negative = np.flatnonzero(y), np.flatnonzero(~y)
    negative = negative[np.argsort(s[negative])]
    below, upto = (np.searchsorted(s[negative], s[positive], side) for side in ("left", "right"))

    def area(counts: np.ndarray) -> np.ndarray:
        ill, well = counts[:, positive], np.zeros((len(counts), len(negative) + 1), np.int64)
        np.cumsum(counts[:, negative], axis=1, out=well[:, 1:])
        beaten = np.take(well, below, axis=1) + np.take(well, upto, axis=1)
        pairs = 2.0 * ill.sum(1) * well[:, -1]
        wins_twice = np.einsum("rp,rp->r", ill, beaten)
        return np.divide(wins_twice, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)

    return area
