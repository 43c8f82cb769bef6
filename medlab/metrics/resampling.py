"""The bootstrap: how far a figure moves when other patients come, drawn from those that did."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from medlab.cohort import identifiers
from medlab.errors import DataError
from medlab.metrics import counts as c
from medlab.metrics._arguments import UndefinedMetric, pairs
from medlab.metrics.calibration import brier, squared_errors
from medlab.metrics.curves import auc, one_against_rest
from medlab.metrics.intervals import Interval, check_level, warn_without_width

_OfCounts = Callable[[np.ndarray], np.ndarray]


def bootstrap(
    metric: Callable[..., float],
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    groups: Any = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    stratify: bool = False,
    **options: Any,
) -> Interval:
    """Percentile bootstrap interval of a metric, drawing patients, not images.

    Images of one patient resemble each other: drawing them one by one pretends to more evidence
    than there is, and the interval comes out too narrow. Pass `groups` wherever a patient has more
    than one image.

    A resample on which the metric is undefined (NaN, or a class is missing) is left out, so the
    interval holds given that the metric is defined; `Interval.n` counts those used. `auc`,
    `accuracy`, `brier` and the threshold metrics are computed for all resamples at once, from how
    often each image was drawn; any other function is called n times.

    Where every resample gives the same figure (an AUC of 1) the interval has no width: a warning
    says that the bootstrap cannot see the uncertainty, not that there is none.

    Args:
        metric: takes labels and scores, returns a number.
        labels: (N,) or (N, K), as the metric takes them.
        scores: (N,) or (N, K), as the metric takes them.
        groups: (N,) patient of each image; None if every image is another patient.
        n: resamples, ≥ 2 / (1 − level); 2000 is usual.
        level: confidence, above 0 and below 1.
        seed: of the random draw, ≥ 0; the same seed draws the same patients.
        stratify: keep the number of patients with each set of classes, as in a study that
            fixed how many ill and how many well patients to recruit.
        **options: passed to the metric, such as `threshold=0.3`.

    Raises:
        UndefinedMetric: the metric is undefined on the data, or on half of the resamples.
        DataError: one patient only, too few resamples for the level, a metric that returns no
            number.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
    """
    value = _number(metric(labels, scores, **options))
    evaluate = _evaluator(metric, labels, scores, options)
    draws = resamples(labels, groups=groups, n=n, seed=seed, stratify=stratify)
    return _over_resamples(value, evaluate, draws, n, level)


def bootstrap_difference(
    metric: Callable[..., float],
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: Any = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    stratify: bool = False,
    **options: Any,
) -> Interval:
    """Interval of metric(a) − metric(b), both models judged on the same resampled patients.

    Args:
        metric: as for `bootstrap`.
        labels: as for `bootstrap`.
        a: scores of the one model.
        b: scores of the other on the same images.
        groups: as for `bootstrap`.
        n: as for `bootstrap`.
        level: as for `bootstrap`.
        seed: as for `bootstrap`.
        stratify: as for `bootstrap`.
        **options: as for `bootstrap`.

    Raises:
        UndefinedMetric, DataError: as for `bootstrap`.
    """
    value = _number(metric(labels, a, **options)) - _number(metric(labels, b, **options))
    first = _evaluator(metric, labels, a, options)
    second = _evaluator(metric, labels, b, options)
    draws = resamples(labels, groups=groups, n=n, seed=seed, stratify=stratify)
    return _over_resamples(value, lambda drawn: first(drawn) - second(drawn), draws, n, level)


def resamples(
    labels: ArrayLike, *, groups: Any = None, n: int = 2000, seed: int = 0, stratify: bool = False
) -> Iterator[np.ndarray]:
    """How often each image occurs in each bootstrap resample, in blocks of resamples.

    Patients are drawn with replacement, as many as there are, and bring all their images.

    Args:
        labels: (N,) or (N, K); only their number matters, and their classes when stratifying.
        groups: (N,) patient of each image; None if every image is another patient.
        n: as for `bootstrap`.
        seed: as for `bootstrap`.
        stratify: as for `bootstrap`.

    Yields:
        int64 (block, N); the blocks together have n rows. They do not depend on memory or machine.

    Raises:
        DataError: groups of another length or with gaps, one patient only, n below 1, or a seed
            that is no whole number from 0 on.
    """
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"n, how many resamples, must be a whole number of at least 1; got {n!r}")
    if not isinstance(seed, Integral) or seed < 0:
        raise DataError(f"seed must be a whole number of at least 0; got {seed!r}")
    y = _numpy(labels)
    patients, patient = len(y), np.arange(len(y))
    if groups is not None:
        names = _numpy(groups)
        if names.shape != (len(y),):
            raise DataError(
                f"groups has shape {names.shape} for {len(y)} images: pass one patient per image"
            )
        names = names if names.dtype.kind in "iu" else identifiers(names, "groups")
        names, patient = np.unique(names, return_inverse=True)
        patients = len(names)
    if patients < 2:
        raise DataError(f"the bootstrap draws patients, and there is only {patients}")
    strata = _strata(y, patient, patients) if stratify else [np.arange(patients)]
    rng = np.random.default_rng(seed)
    # About a megabyte of draws at a time stays in cache and does not grow with n.
    block = max(1, 2**17 // patients)
    return (
        _counts(rng, min(block, n - start), strata, patients, None if groups is None else patient)
        for start in range(0, n, block)
    )


def resampled_values(
    metric: Callable, labels: ArrayLike, scores: ArrayLike, counts: np.ndarray, **options: Any
) -> np.ndarray:
    """The metric on each resample: the distribution whose percentiles `bootstrap` reports.

    Args:
        metric: as for `bootstrap`.
        labels: as for `bootstrap`.
        scores: as for `bootstrap`.
        counts: (B, N) how often each image occurs in each resample, as `resamples` yields.
        **options: as for `bootstrap`.

    Returns:
        float64 (B,); NaN where the metric is undefined.

    Raises:
        DataError: counts of another shape, or labels and scores that the metric refuses.
    """
    counts = np.asarray(counts).astype(np.int64, copy=False)  # small integers would overflow
    if counts.shape[1:] != (images := len(_numpy(labels)),):
        raise DataError(f"counts must be (B, {images}), one column an image; got {counts.shape}")
    return _evaluator(metric, labels, scores, options)(counts)


def _counts(
    rng: np.random.Generator, rows: int, strata: list, patients: int, patient: np.ndarray | None
) -> np.ndarray:
    row = np.arange(rows)[:, None] * patients
    cells = []
    for members in strata:
        # Two bytes an integer where they suffice: drawing is most of the work.
        kind = np.uint16 if len(members) <= 2**16 else np.int64
        drawn = rng.integers(0, len(members), size=(rows, len(members)), dtype=kind)
        cells.append((row + (drawn if len(strata) == 1 else members[drawn])).ravel())
    flat = cells[0] if len(cells) == 1 else np.concatenate(cells)
    counts = np.bincount(flat, minlength=rows * patients).reshape(rows, patients)
    return counts if patient is None else counts[:, patient]


def _strata(y: np.ndarray, patient: np.ndarray, patients: int) -> list[np.ndarray]:
    if y.ndim > 1 and y.shape[1:] != (1,):
        raise DataError(
            f"stratify needs one class per image, got labels {y.shape}: resample several findings "
            "with stratify=False"
        )
    classes, code = np.unique(y.reshape(len(y)), return_inverse=True)
    has = np.zeros((patients, len(classes)), bool)
    has[patient, code] = True
    _, kind = np.unique(has, axis=0, return_inverse=True)
    return [np.flatnonzero(kind.ravel() == k) for k in range(kind.max() + 1)]


def _over_resamples(
    value: float, evaluate: _OfCounts, draws: Iterator[np.ndarray], n: int, level: float
) -> Interval:
    _check_level(level, n)
    values = np.concatenate([evaluate(counts) for counts in draws])
    defined = values[~np.isnan(values)]
    lost = len(values) - len(defined)
    if lost > len(values) / 2:
        raise UndefinedMetric(
            f"the metric is undefined in {lost} of {len(values)} resamples: there are too few "
            "patients of a class for a bootstrap; use an exact interval such as metrics.proportion"
        )
    if lost > len(values) / 20:
        warnings.warn(
            f"{lost} of {len(values)} resamples leave the metric undefined and were left out: the "
            "interval holds only given that it is defined (stratify=True avoids it)",
            stacklevel=3,  # the caller of `bootstrap`
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    interval = Interval(value, float(low), float(high), level, len(defined))
    return warn_without_width(interval, stacklevel=3)


def _evaluator(metric: Callable, labels: ArrayLike, scores: ArrayLike, options: dict) -> _OfCounts:
    if metric is auc:
        parts = [_auc_by_counts(y, s) for y, s in one_against_rest(*pairs(labels, scores))]
        return lambda counts: np.mean([part(counts) for part in parts], axis=0)
    if metric is c.accuracy:
        return _ratio_by_counts(c.correct(labels, scores))
    if metric is brier:
        return _ratio_by_counts(squared_errors(labels, scores))
    if metric in _THRESHOLD_METRICS:
        y, called = c.called_positive(labels, scores, **options)
        cells = np.stack([y & called, ~y & called, ~y & ~called, y & ~called]).astype(float)
        ratios = [_ratio_by_counts(p @ cells, w @ cells) for p, w in _THRESHOLD_METRICS[metric]]
        return lambda counts: np.mean([ratio(counts) for ratio in ratios], axis=0)
    return _one_by_one(metric, labels, scores, options)


# Numerator and denominator as sums over TP, FP, TN, FN; a metric of two ratios is their mean.
_TP, _FP, _TN, _FN = np.eye(4)
_THRESHOLD_METRICS = {
    c.sensitivity: [(_TP, _TP + _FN)],
    c.specificity: [(_TN, _TN + _FP)],
    c.ppv: [(_TP, _TP + _FP)],
    c.npv: [(_TN, _TN + _FN)],
    c.f1: [(2 * _TP, 2 * _TP + _FP + _FN)],
    c.balanced_accuracy: [(_TP, _TP + _FN), (_TN, _TN + _FP)],
}


def _ratio_by_counts(part: np.ndarray, whole: np.ndarray | None = None) -> _OfCounts:
    columns = np.stack([part, np.ones(len(part)) if whole is None else whole], axis=1)

    def ratio(counts: np.ndarray) -> np.ndarray:
        above, below = (counts @ columns).T
        return np.divide(above, below, out=np.full(len(counts), np.nan), where=below > 0)

    return ratio


def _auc_by_counts(y: np.ndarray, s: np.ndarray) -> _OfCounts:
    """AUC of weighted images: scores are sorted once, and a resample costs one running sum."""
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    negative = negative[np.argsort(s[negative], kind="stable")]
    below = np.searchsorted(s[negative], s[positive], "left")
    upto = np.searchsorted(s[negative], s[positive], "right")

    def area(counts: np.ndarray) -> np.ndarray:
        ill = np.take(counts, positive, axis=1)
        well = np.zeros((len(counts), len(negative) + 1), np.int64)
        np.cumsum(np.take(counts, negative, axis=1), axis=1, out=well[:, 1:])
        beaten = np.take(well, below, axis=1)
        if not np.array_equal(below, upto):
            wins_twice = np.einsum("rp,rp->r", ill, beaten + np.take(well, upto, axis=1))
        else:
            wins_twice = 2 * np.einsum("rp,rp->r", ill, beaten)
        of = 2.0 * ill.sum(1) * well[:, -1]
        return np.divide(wins_twice, of, out=np.full(len(counts), np.nan), where=of > 0)

    return area


def _one_by_one(metric: Callable, labels: ArrayLike, scores: ArrayLike, options: dict) -> _OfCounts:
    labels, scores = (v if torch.is_tensor(v) else np.asarray(v) for v in (labels, scores))
    classes = len(np.unique(_numpy(labels), axis=0))

    def values(counts: np.ndarray) -> np.ndarray:
        return np.array([value(np.repeat(np.arange(len(row)), row)) for row in counts])

    def value(chosen: np.ndarray) -> float:
        y = labels[chosen]
        try:
            return _number(metric(y, scores[chosen], **options))
        except ValueError:
            # Most metrics refuse a resample without one of the classes; any other refusal is a bug.
            if len(np.unique(_numpy(y), axis=0)) < classes:
                return np.nan
            raise

    return values


def _numpy(values: ArrayLike) -> np.ndarray:
    return np.asarray(values.detach().cpu() if torch.is_tensor(values) else values)


def _number(value: Any) -> float:
    if isinstance(value, int | float) or (hasattr(value, "item") and np.ndim(value) == 0):
        return float(value)
    raise DataError(
        f"the metric must return one number, got {type(value).__name__}: choose one, as in "
        "lambda labels, scores: confusion(labels, scores).sensitivity"
    )


def _check_level(level: float, n: int) -> None:
    check_level(level)
    if n * (1 - level) < 2:
        raise DataError(
            f"{n} resamples cannot show the tails of a {100 * level:g} % interval: take at least "
            f"{int(np.ceil(2 / (1 - level) - 1e-9))}, better 2000"
        )
