"""How sure a figure is: an interval, by DeLong for the AUC, by Wilson for a proportion.

An interval without width, as at an AUC of 1, is told by a `UserWarning`; DeLong's formula needs two
images of each class, else `UndefinedMetric`.
"""

import warnings
from dataclasses import dataclass
from math import erfc, exp, inf, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from medlab.errors import DataError
from medlab.metrics._arguments import UndefinedMetric, binary_pairs

LEVEL = 0.95
_HALF = NormalDist().inv_cdf((1 + LEVEL) / 2)  # of an interval, in standard errors


@dataclass(frozen=True)
class Interval:
    """A figure, the ends of its confidence interval, and the resamples behind it (0: formula)."""

    value: float
    low: float
    high: float
    level: float = LEVEL
    n: int = 0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({100 * self.level:g} % CI {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class DeLongTest:
    """The difference of two correlated AUCs, a − b, and its two-sided p."""

    difference: Interval
    p: float


def delong(labels: ArrayLike, scores: ArrayLike, *, logit: bool = False) -> Interval:
    """AUC with DeLong's 95 % interval: a formula, no resampling; one image per patient.

    Var = S₁₀/m + S₀₁/n, where S₁₀ is the variance over the m positive images of the share of
    negative ones that each outscores, and S₀₁ likewise over the n negative ones. Images of one
    patient are not independent: use `bootstrap` with `groups` there.

    With `logit` the interval is built on the log-odds of the AUC, which keeps it inside 0…1 and
    covers better near 1; otherwise it is AUC ± z · standard error, cut at 0 and 1.

    Source: DeLong et al., Biometrics 44:837 (1988); computed in O(N log N) in the manner of
        Sun & Xu, IEEE Signal Processing Letters 21:1389 (2014).
    """
    (area,), covariance = _delong(labels, scores)
    error = sqrt(covariance[0, 0])
    if logit and 0 < area < 1:
        centre, half = log(area / (1 - area)), _HALF * error / (area * (1 - area))
        low, high = (1 / (1 + exp(-x)) for x in (centre - half, centre + half))
    else:
        low, high = max(0.0, area - _HALF * error), min(1.0, area + _HALF * error)
    return warn_without_width(Interval(area, low, high))


def delong_test(labels: ArrayLike, a: ArrayLike, b: ArrayLike) -> DeLongTest:
    """DeLong's test of two models on the same images: is the difference of AUC more than chance?

    `a` and `b` are the models' scores (N,), in the same order of images. Source: as for `delong`.
    """
    (first, second), covariance = _delong(labels, a, b)
    difference = first - second
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    # Rounding can leave a tiny number, even a negative one, where the two rank alike.
    error = sqrt(variance) if variance > 1e-20 else 0.0
    z = difference / error if error else (0.0 if abs(difference) < 1e-12 else inf * difference)
    interval = Interval(difference, difference - _HALF * error, difference + _HALF * error)
    return DeLongTest(warn_without_width(interval), p=erfc(abs(z) / sqrt(2)))


def proportion(successes: int, n: int) -> Interval:
    """Wilson's 95 % interval of a proportion, such as a sensitivity: 47 of 50 independent found.

    It covers 95 % on average.

    Source: Wilson, JASA 22:209 (1927).
    """
    try:
        k, of = int(successes), int(n)
        if not (k == successes and of == n >= 1):
            raise ValueError("no counts")
        low, high = binomtest(k, of).proportion_ci(LEVEL, "wilson")
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"k of n are whole numbers, k ≤ n; got {successes} of {n}") from error
    return Interval(k / of, float(low), float(high))


def warn_without_width(interval: Interval) -> Interval:
    """The interval, and a warning to the caller of a public function if both ends are one."""
    if interval.low == interval.high:
        warnings.warn(
            f"the interval of {interval.value:.3f} has no width: the method sees no uncertainty, "
            "yet there is some. Take more patients, or of a share metrics.proportion(found, ill)",
            stacklevel=3,
        )
    return interval


def _delong(labels: ArrayLike, *models: ArrayLike) -> tuple[list[float], np.ndarray]:
    """AUC of each model, and the covariance matrix of these AUCs."""
    against_negative, against_positive = [], []
    for scores in models:
        _, y, s = binary_pairs(labels, scores)
        positive, negative = s[y == 1], s[y == 0]
        if min(len(positive), len(negative)) < 2:
            raise UndefinedMetric("DeLong's variance needs two images of each class")
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
