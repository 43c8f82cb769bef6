"""Do probabilities mean what they say? Of the images given 0.8, eight in ten should be ill.

Temperature scaling makes a network as sure as it should be; the expected cost says what a threshold
is worth. Scores outside 0…1, or several findings for one, are a `DataError`.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from medlab.errors import DataError
from medlab.metrics._arguments import (
    UndefinedMetric,
    as_array,
    binary_pairs,
    need_both,
    pairs,
    shares,
    whole,
)


def ece(labels: ArrayLike, scores: ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: Σ (nᵦ/N) · |observed − predicted| over bins.

    The probability of class 1 is judged. Bins are of equal width, closed at their upper end: more
    bins, more noise, and the figure grows with them.

    Source: Guo et al., ICML (2017), eq. 3.
    """
    _, y, s = binary_pairs(labels, scores)
    cuts = np.linspace(0, 1, whole(bins, "bins", 1) + 1)
    place = np.searchsorted(cuts[1:-1], shares(s))
    return float(np.abs(np.bincount(place, s - y)).sum() / len(y))


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """The temperature T > 0 for which softmax(logits / T) has the lowest cross-entropy.

    With β = 1/T the slope of the cross-entropy, the mean of E_p[z] − z_y, rises, and T is where it
    crosses zero: above 1 if the network was too sure, below 1 if not sure enough. Every image keeps
    the order of its classes; with two, the images keep theirs too, and the AUC does not change.

    Args:
        labels: (N,) of validation images: those that T is fitted on look better calibrated.
        logits: (N, K) outputs of the network before softmax, or (N,) or (N, 1) before a sigmoid.
            Of probabilities, pass log p, or log(p / (1 − p)) of two classes.

    Raises:
        UndefinedMetric: no T is best: every image is right (T → 0), or the logits do no better
            than none at all (T → ∞).

    Source: Guo et al., ICML (2017), arXiv:1706.04599.
    """
    z = as_array(logits).astype(float)
    z = np.c_[np.zeros(z.size), z.ravel()] if z.shape[1:] in ((), (1,)) else z
    kind, y, _ = pairs(labels, z)
    if kind == "multilabel" or not np.isfinite(z).all():
        raise DataError("logits must be finite, and of one finding: labels[:, k], logits[:, k]")
    true, spread = z[np.arange(len(y)), y], np.ptp(z, axis=1).max()

    def slope(beta: float) -> float:
        p = np.exp(beta * (z - z.max(1, keepdims=True)))
        return float(((p * z).sum(1) / p.sum(1) - true).mean())

    if spread > 0 and (true == z.max(1)).all():
        raise UndefinedMetric(f"all {len(y)} images are called right: take more or harder ones")
    if slope(0) >= 0:
        raise UndefinedMetric(
            "these logits do no better than none, and the best temperature is infinite: are labels "
            "and logits in the same order, and the classes in the network's?"
        )
    # The slope is negative at 0 and positive from some β on: find it, from the scale of the logits.
    high = 1 / spread
    while slope(high) < 0:
        high *= 2
    return 1 / brentq(slope, 0, high, xtol=1e-15 * high, rtol=1e-14)


def expected_cost(
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    miss_cost: float,
    prevalence: float | None = None,
) -> np.ndarray:
    """Cost per 1,000 patients of what a threshold misses and alarms wrongly; a false alarm costs 1.

    cost(t) = 1000 · [π (1 − sensitivity) c + (1 − π) (1 − specificity)], with c ≥ 0 the cost of a
    missed patient in false alarms, and π the prevalence, that of the labels if not given. Positive
    means score ≥ threshold. The result, float64, has the shape of the thresholds, one or (M,).
    """
    _, y, s = binary_pairs(labels, scores)
    need_both(y)
    t = np.asarray(thresholds, float)
    if not miss_cost >= 0 or np.isnan(t).any():
        raise DataError(
            f"miss_cost is not negative and thresholds are numbers; got {miss_cost}, {t}"
        )

    def called(scores: np.ndarray) -> np.ndarray:
        return (len(scores) - np.searchsorted(np.sort(scores), t, "left")) / len(scores)

    pi = shares(float(y.mean()) if prevalence is None else prevalence, "prevalence")
    missed, alarmed = 1 - called(s[y == 1]), called(s[y == 0])
    return 1000 * (pi * missed * miss_cost + (1 - pi) * alarmed)
