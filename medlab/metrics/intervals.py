"""How sure a figure is: bootstrap by patient, DeLong for the AUC, Wilson for a proportion."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import erfc, exp, inf, log, sqrt
from numbers import Integral
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch

from medlab.errors import DataError
from medlab.metrics import classification as c
from medlab.metrics.calibration import brier, squared_errors
from medlab.metrics.inputs import UndefinedMetric, binary_pairs, pairs

__all__ = [
    "DeLongTest",
    "Interval",
    "bootstrap",
    "bootstrap_difference",
    "delong",
    "delong_test",
    "proportion",
    "resampled_values",
    "resamples",
]


@dataclass(frozen=True)
class Interval:
    """A figure and the range that the data leave open.

    Attributes:
        value: the figure on the data as they are.
        low, high: ends of the confidence interval.
        level: confidence, such as 0.95.
        n: resamples behind it; 0 if the interval comes from a formula.
    """

    value: float
    low: float
    high: float
    level: float
    n: int = 0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({100 * self.level:g} % CI {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class DeLongTest:
    """Two correlated AUCs compared.

    Attributes:
        auc_a, auc_b: of the two models on the same images.
        difference: auc_a − auc_b with its interval.
        z: difference divided by its standard error.
        p: two-sided, of the hypothesis that the two AUCs are equal.
    """

    auc_a: float
    auc_b: float
    difference: Interval
    z: float
    p: float


def bootstrap(
    metric: Callable[..., float],
    labels,
    scores,
    *,
    groups=None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    stratify: bool = False,
    **options,
) -> Interval:
    """Percentile bootstrap interval of a metric, drawing patients, not images.

    Images of one patient resemble each other: drawing them one by one pretends to more evidence
    than there is, and the interval comes out too narrow. Pass `groups` wherever a patient has more
    than one image.

    A resample on which the metric is undefined (NaN, or a class is missing) is left out, so the
    interval holds given that the metric is defined; `Interval.n` counts those used. `auc`,
    `average_precision`, `accuracy`, `brier` and the threshold metrics are computed for all
    resamples at once, from how often each image was drawn; any other function is called n times.

    Where every resample gives the same figure (an AUC of 1) the interval has no width, which says
    that the bootstrap cannot see the uncertainty, not that there is none.

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
        options: passed to the metric, such as `threshold=0.3`.

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
    labels,
    a,
    b,
    *,
    groups=None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    stratify: bool = False,
    **options,
) -> Interval:
    """Interval of metric(a) − metric(b), both models judged on the same resampled patients.

    Args:
        a, b: scores of the two models on the same images.
        metric, labels, groups, n, level, seed, stratify, options: as for `bootstrap`.

    Raises:
        UndefinedMetric, DataError: as for `bootstrap`.
    """
    value = _number(metric(labels, a, **options)) - _number(metric(labels, b, **options))
    first = _evaluator(metric, labels, a, options)
    second = _evaluator(metric, labels, b, options)
    draws = resamples(labels, groups=groups, n=n, seed=seed, stratify=stratify)
    return _over_resamples(value, lambda drawn: first(drawn) - second(drawn), draws, n, level)


def delong(labels, scores, *, level: float = 0.95, logit: bool = False) -> Interval:
    """AUC with DeLong's interval: a formula, no resampling; one image per patient.

    Var = S₁₀/m + S₀₁/n, where S₁₀ is the variance over the m positive images of the share of
    negative ones that each outscores, and S₀₁ likewise over the n negative ones. Images of one
    patient are not independent: use `bootstrap` with `groups` there.

    Args:
        labels: (N,) of 0 and 1, at least two of each.
        scores: (N,), (N, 1) or (N, 2).
        level: confidence.
        logit: build the interval on the log-odds of the AUC, which keeps it inside 0…1 and covers
            better near 1. Otherwise AUC ± z · standard error, cut at 0 and 1.

    Raises:
        UndefinedMetric: fewer than two images of a class.

    Source: DeLong et al., Biometrics 44:837 (1988); computed in O(N log N) in the manner of
        Sun & Xu, IEEE Signal Processing Letters 21:1389 (2014).
    """
    z = _quantile(level)
    (area,), covariance = _delong(labels, scores)
    error = sqrt(covariance[0, 0])
    if logit and 0 < area < 1:
        centre, half = log(area / (1 - area)), z * error / (area * (1 - area))
        low, high = (1 / (1 + exp(-x)) for x in (centre - half, centre + half))
    else:
        low, high = max(0.0, area - z * error), min(1.0, area + z * error)
    return Interval(area, low, high, level)


def delong_test(labels, a, b, *, level: float = 0.95) -> DeLongTest:
    """DeLong's test of two models on the same images: is the difference of AUC more than chance?

    Args:
        labels: (N,) of 0 and 1, at least two of each.
        a, b: scores of the two models, (N,), (N, 1) or (N, 2), in the same order of images.
        level: confidence of the interval of the difference.

    Raises:
        UndefinedMetric: fewer than two images of a class.

    Source: as for `delong`.
    """
    half = _quantile(level)
    (first, second), covariance = _delong(labels, a, b)
    difference = first - second
    # Rounding can leave a tiny negative number where the two rank alike.
    variance = max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = sqrt(variance) if variance > 1e-20 else 0.0
    z = difference / error if error else (0.0 if abs(difference) < 1e-12 else inf * difference)
    ends = difference - half * error, difference + half * error
    return DeLongTest(
        first, second, Interval(difference, *ends, level), z, p=erfc(abs(z) / sqrt(2))
    )


def proportion(
    successes: int,
    n: int,
    *,
    level: float = 0.95,
    method: Literal["wilson", "clopper-pearson"] = "wilson",
) -> Interval:
    """Interval of a proportion, such as a sensitivity: 47 of 50 found.

    Args:
        successes: 0 to n.
        n: independent trials, ≥ 1.
        level: confidence.
        method: "wilson" (right on average) or "clopper-pearson" (never too narrow, often too wide).

    Raises:
        DataError: counts that are no counts, or an unknown method.

    Source: Wilson, JASA 22:209 (1927); Clopper & Pearson, Biometrika 26:404 (1934); compared in
        Brown, Cai & DasGupta, Statistical Science 16:101 (2001).
    """
    if n < 1 or not 0 <= successes <= n or successes != int(successes) or n != int(n):
        raise DataError(f"a proportion is k of n, whole numbers, 0 ≤ k ≤ n: got {successes} of {n}")
    z, share = _quantile(level), successes / n
    if method == "wilson":
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
        low = 0.0 if successes == 0 else centre - half
        high = 1.0 if successes == n else centre + half
    elif method == "clopper-pearson":
        from scipy.special import betaincinv

        tail = (1 - level) / 2
        k = successes
        low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
        high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    else:
        raise DataError(f"method must be 'wilson' or 'clopper-pearson', got {method!r}")
    return Interval(share, low, high, level)


def resamples(
    labels, *, groups=None, n: int = 2000, seed: int = 0, stratify: bool = False
) -> Iterator[np.ndarray]:
    """How often each image occurs in each bootstrap resample, in blocks of resamples.

    Patients are drawn with replacement, as many as there are, and bring all their images.

    Args:
        labels: (N,) or (N, K); only their number matters, and their classes when stratifying.
        groups: (N,) patient of each image; None if every image is another patient.
        n, seed, stratify: as for `bootstrap`.

    Yields:
        int64 (block, N); the blocks together have n rows. They do not depend on memory or machine.

    Raises:
        DataError: groups of another length or with gaps, one patient only, or n below 1.
    """
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"n, how many resamples, must be a whole number of at least 1; got {n!r}")
    y = _numpy(labels)
    patients, patient = len(y), np.arange(len(y))
    if groups is not None:
        names = _numpy(groups)
        if names.shape != (len(y),):
            raise DataError(
                f"groups has shape {names.shape} for {len(y)} images: pass one patient per image"
            )
        if unknown := sum(name is None or name != name for name in names.tolist()):
            raise DataError(
                f"{unknown} of {len(y)} groups are missing (None or NaN): every image needs its "
                "patient, and images without a name are not of one patient"
            )
        names, patient = np.unique(names, return_inverse=True)
        patients = len(names)
    if patients < 2:
        raise DataError(f"the bootstrap draws patients, and there is only {patients}")
    strata = _strata(y, patient, patients) if stratify else [np.arange(patients)]
    rng = np.random.default_rng(seed)
    # About a megabyte of draws at a time stays in cache and does not grow with n.
    block = max(1, 2**17 // patients)
    return (
        _counts(
            rng, min(block, n - start), strata, patients, patient if groups is not None else None
        )
        for start in range(0, n, block)
    )


def resampled_values(
    metric: Callable[..., float], labels, scores, counts: np.ndarray, **options
) -> np.ndarray:
    """The metric on each resample: the distribution whose percentiles `bootstrap` reports.

    Args:
        metric, labels, scores, options: as for `bootstrap`.
        counts: (B, N) how often each image occurs in each resample, as `resamples` yields.

    Returns:
        float64 (B,); NaN where the metric is undefined.

    Raises:
        DataError: counts of another shape, or labels and scores that the metric refuses.
    """
    counts = np.asarray(counts)
    if counts.shape[1:] != (len(labels),):
        raise DataError(
            f"counts must be (B, {len(labels)}), one column an image; got {counts.shape}"
        )
    return _evaluator(metric, labels, scores, options)(counts)


def _counts(rng, rows: int, strata, patients: int, patient) -> np.ndarray:
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


def _over_resamples(value: float, evaluate, draws, n: int, level: float) -> Interval:
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
    return Interval(value, float(low), float(high), level, len(defined))


def _evaluator(metric, labels, scores, options) -> Callable[[np.ndarray], np.ndarray]:
    if metric is c.auc:
        return _over_classes(_auc_by_counts, labels, scores)
    if metric is c.average_precision:
        return _over_classes(_average_precision_by_counts, labels, scores)
    if metric is c.accuracy:
        return _ratio_by_counts(c.correct(labels, scores))
    if metric is brier:
        return _ratio_by_counts(squared_errors(labels, scores))
    if metric in _THRESHOLD_METRICS:
        y, called = c.called_positive(labels, scores, **options)
        cells = np.stack([y & called, ~y & called, ~y & ~called, y & ~called]).astype(float)
        ratios = [_ratio_by_counts(p @ cells, w @ cells) for p, w in _THRESHOLD_METRICS[metric]]
        return lambda counts: sum(ratio(counts) for ratio in ratios) / len(ratios)
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


def _ratio_by_counts(part: np.ndarray, whole: np.ndarray | None = None):
    columns = np.stack([part, np.ones(len(part)) if whole is None else whole], axis=1)

    def ratio(counts: np.ndarray) -> np.ndarray:
        above, below = (counts @ columns).T
        return np.divide(above, below, out=np.full(len(counts), np.nan), where=below > 0)

    return ratio


def _over_classes(by_counts, labels, scores) -> Callable[[np.ndarray], np.ndarray]:
    parts = [by_counts(y, s) for y, s in c.one_against_rest(*pairs(labels, scores))]
    return lambda counts: np.mean([part(counts) for part in parts], axis=0)


def _auc_by_counts(y: np.ndarray, s: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
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


def _average_precision_by_counts(y: np.ndarray, s: np.ndarray):
    order = np.argsort(-s, kind="stable")
    truth = y[order] == 1
    last = np.flatnonzero(np.r_[np.diff(s[order]) != 0, True])  # of each run of equal scores

    def area(counts: np.ndarray) -> np.ndarray:
        sorted_counts = np.take(counts, order, axis=1)
        called = np.cumsum(sorted_counts, axis=1)[:, last]
        found = np.cumsum(sorted_counts * truth, axis=1)[:, last]
        precision = found / np.maximum(called, 1)
        total = (np.diff(found, axis=1, prepend=0) * precision).sum(1)
        both = (found[:, -1] > 0) & (found[:, -1] < called[:, -1])
        return np.divide(total, found[:, -1], out=np.full(len(counts), np.nan), where=both)

    return area


def _one_by_one(metric, labels, scores, options) -> Callable[[np.ndarray], np.ndarray]:
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


def _numpy(values) -> np.ndarray:
    return np.asarray(values.detach().cpu() if torch.is_tensor(values) else values)


def _delong(labels, *models) -> tuple[list[float], np.ndarray]:
    """AUC of each model, and the covariance matrix of these AUCs."""
    against_negative, against_positive = [], []
    for scores in models:
        _, y, s = binary_pairs(labels, scores)
        positive, negative = s[y == 1], s[y == 0]
        if min(len(positive), len(negative)) < 2:
            raise UndefinedMetric(
                f"DeLong's variance needs two images of each class, got {len(positive)} positive "
                f"and {len(negative)} negative"
            )
        against_negative.append(_share_outscored(positive, negative))
        against_positive.append(1 - _share_outscored(negative, positive))
    areas = [float(np.mean(v)) for v in against_negative]
    covariance = np.cov(against_negative) / len(positive) + np.cov(against_positive) / len(negative)
    return areas, covariance.reshape(len(models), len(models))


def _share_outscored(of: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each score, the share of the other scores below it, an equal one counting half."""
    others = np.sort(others)
    places = np.searchsorted(others, of, "left") + np.searchsorted(others, of, "right")
    return places / (2 * len(others))


def _number(value) -> float:
    if isinstance(value, int | float) or (hasattr(value, "item") and np.ndim(value) == 0):
        return float(value)
    raise DataError(
        f"the metric must return one number, got {type(value).__name__}: choose one, as in "
        "lambda labels, scores: confusion(labels, scores).sensitivity"
    )


def _check_level(level: float, n: int) -> None:
    _quantile(level)
    if n * (1 - level) < 2:
        raise DataError(
            f"{n} resamples cannot show the tails of a {100 * level:g} % interval: take at least "
            f"{int(np.ceil(2 / (1 - level) - 1e-9))}, better 2000"
        )


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(f"level is a share between 0 and 1, such as 0.95; got {level}")
    return NormalDist().inv_cdf((1 + level) / 2)
