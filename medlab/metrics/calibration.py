"""Do probabilities mean what they say? Of the images given 0.8, eight in ten should be ill.

Temperature scaling makes a network as sure as it should be; decision curves and expected costs say
what a threshold is worth. Scores outside 0…1, or several findings for one, are a `DataError`.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

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

Strategy = Literal["uniform", "quantile"]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram, each (M,): per bin mean probability, share positive, images in it."""

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray


def reliability(
    labels: ArrayLike, scores: ArrayLike, *, bins: int = 10, strategy: Strategy = "uniform"
) -> Reliability:
    """Observed share against predicted probability of the positive class, in bins.

    Bins are closed at their upper end, and those without images are left out; "uniform" cuts 0…1
    into equal widths, "quantile" into equal numbers of images.
    """
    _, y, s = binary_pairs(labels, scores)
    cuts = np.linspace(0, 1, whole(bins, "bins", 1) + 1)
    if strategy == "quantile":
        cuts = np.quantile(s, cuts)
    elif strategy != "uniform":
        raise DataError(f"strategy must be 'uniform' or 'quantile', got {strategy!r}")
    place = np.searchsorted(cuts[1:-1], shares(s))
    count = np.bincount(place, minlength=bins)
    used = count > 0
    mean = [np.bincount(place, values, minlength=bins)[used] / count[used] for values in (s, y)]
    return Reliability(mean[0], mean[1], count[used])


def ece(labels: ArrayLike, scores: ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: Σ (nᵦ/N) · |observed − predicted| over bins.

    The probability of class 1 is judged. Bins are of equal width: more bins, more noise, and the
    figure grows with them.

    Source: Guo et al., ICML (2017), eq. 3.
    """
    at = reliability(labels, scores, bins=bins)
    return float((at.count * np.abs(at.observed - at.predicted)).sum() / at.count.sum())


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Brier score: the mean of (p − y)², 0 to 1, between probability and truth of class 1.

    Source: Brier, Monthly Weather Review 78:1 (1950).
    """
    _, y, s = binary_pairs(labels, scores)
    return float(((shares(s) - y) ** 2).mean())


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


class DecisionCurve(NamedTuple):
    """(M,) each: the risk from which one acts, and net benefit per patient of whom one acts on."""

    thresholds: np.ndarray
    model: np.ndarray
    treat_all: np.ndarray
    treat_none: np.ndarray


def net_benefit(labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """True positives per patient, less the false ones at the exchange rate of the threshold.

    NB(t) = TP/N − FP/N · t / (1 − t), with positive meaning probability ≥ t. Who acts from a risk
    of t on holds one true positive worth (1 − t) / t false ones; at most the prevalence is gained.

    Patients are to be as frequently ill as where the model is used, and probabilities calibrated.
    Thresholds are one, or (M,), each 0 ≤ t < 1; the result, float64, has their shape.

    Source: Vickers & Elkin, Medical Decision Making 26:565 (2006).
    """
    _, y, p = binary_pairs(labels, probabilities)
    t = np.asarray(thresholds, float)
    if not ((t >= 0) & (t < 1)).all():
        raise DataError("thresholds are probabilities, each from 0 to below 1")
    p = shares(p)
    tp, fp = _called(p[y == 1], t), _called(p[y == 0], t)
    return (tp - fp * t / (1 - t)) / len(y)


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike | None = None
) -> DecisionCurve:
    """`net_benefit` of the model, of all and of nobody treated; 0.01 … 0.99 if none are given."""
    t = np.arange(1, 100) / 100 if thresholds is None else np.array(thresholds, float, ndmin=1)
    everybody = net_benefit(labels, np.ones(len(as_array(labels))), t)
    return DecisionCurve(t, net_benefit(labels, probabilities, t), everybody, np.zeros_like(t))


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
    ill, well = s[y == 1], s[y == 0]
    pi = shares(len(ill) / len(y) if prevalence is None else prevalence, "prevalence")
    missed, alarmed = 1 - _called(ill, t) / len(ill), _called(well, t) / len(well)
    return 1000 * (pi * missed * miss_cost + (1 - pi) * alarmed)


def _called(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the scores reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")
