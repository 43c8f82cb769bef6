"""How sure a figure is: an interval, by DeLong for the AUC, by Wilson for a proportion."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import erfc, exp, inf, isfinite, log, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from medlab.errors import DataError
from medlab.metrics._arguments import UndefinedMetric, binary_pairs


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


def delong(
    labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95, logit: bool = False
) -> Interval:
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

    Warns:
        UserWarning: an interval without width, as at an AUC of 1.

    Source: DeLong et al., Biometrics 44:837 (1988); computed in O(N log N) in the manner of
        Sun & Xu, IEEE Signal Processing Letters 21:1389 (2014).
    """
    z = _normal_quantile(level)
    (area,), covariance = _delong(labels, scores)
    error = sqrt(covariance[0, 0])
    if logit and 0 < area < 1:
        centre, half = log(area / (1 - area)), z * error / (area * (1 - area))
        low, high = (1 / (1 + exp(-x)) for x in (centre - half, centre + half))
    else:
        low, high = max(0.0, area - z * error), min(1.0, area + z * error)
    return warn_without_width(Interval(area, low, high, level), stacklevel=2)


def delong_test(
    labels: ArrayLike, a: ArrayLike, b: ArrayLike, *, level: float = 0.95
) -> DeLongTest:
    """DeLong's test of two models on the same images: is the difference of AUC more than chance?

    Args:
        labels: (N,) of 0 and 1, at least two of each.
        a: scores of the one model, (N,), (N, 1) or (N, 2).
        b: scores of the other, in the same order of images.
        level: confidence of the interval of the difference.

    Raises:
        UndefinedMetric: fewer than two images of a class.

    Warns:
        UserWarning: an interval without width; z and p then mean nothing.

    Source: as for `delong`.
    """
    half = _normal_quantile(level)
    (first, second), covariance = _delong(labels, a, b)
    difference = first - second
    # Rounding can leave a tiny negative number where the two rank alike.
    variance = max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = sqrt(variance) if variance > 1e-20 else 0.0
    z = difference / error if error else (0.0 if abs(difference) < 1e-12 else inf * difference)
    ends = difference - half * error, difference + half * error
    interval = warn_without_width(Interval(difference, *ends, level), stacklevel=2)
    return DeLongTest(first, second, interval, z, p=erfc(abs(z) / sqrt(2)))


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
    k, of = (v.item() if hasattr(v, "item") else v for v in (successes, n))
    if not (_is_whole(k) and _is_whole(of) and 0 <= k <= of and of >= 1):
        raise DataError(f"a proportion is k of n, whole numbers, 0 ≤ k ≤ n: got {successes} of {n}")
    if method not in ("wilson", "clopper-pearson"):
        raise DataError(f"method must be 'wilson' or 'clopper-pearson', got {method!r}")
    check_level(level)
    low, high = binomtest(int(k), int(of)).proportion_ci(
        level, method="exact" if method == "clopper-pearson" else "wilson"
    )
    return Interval(k / of, float(low), float(high), level)


def warn_without_width(interval: Interval, stacklevel: int) -> Interval:
    """The interval, and a warning if both ends are one."""
    if interval.low == interval.high:
        warnings.warn(
            f"the interval of {interval.value:.3f} has no width: these images let the method see "
            "no uncertainty, which does not mean that there is none. For a share, such as a "
            "sensitivity, metrics.proportion(found, ill) gives a range even at all of them; "
            "otherwise take more patients",
            stacklevel=stacklevel + 1,
        )
    return interval


def _is_whole(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value) and value == int(value)


def _delong(labels: ArrayLike, *models: ArrayLike) -> tuple[list[float], np.ndarray]:
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


def check_level(level: float) -> None:
    """Refuse what is no confidence.

    Raises:
        DataError: a level that does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise DataError(f"level is a share between 0 and 1, such as 0.95; got {level}")


def _normal_quantile(level: float) -> float:
    check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)
