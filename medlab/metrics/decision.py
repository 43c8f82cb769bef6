"""What a threshold is worth: decision curves, and the expected cost of missed and false calls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medlab.errors import DataError
from medlab.metrics._arguments import UndefinedMetric, binary_pairs, probabilities


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit of acting on a model, beside acting on everybody and on nobody.

    Attributes:
        thresholds: (M,) probabilities from which one acts.
        model, treat_all, treat_none: (M,) net benefit, in true positives per patient.
    """

    thresholds: np.ndarray
    model: np.ndarray
    treat_all: np.ndarray
    treat_none: np.ndarray


def net_benefit(labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """True positives per patient, less the false ones at the exchange rate of the threshold.

    NB(t) = TP/N − FP/N · t / (1 − t), with positive meaning probability ≥ t. Who acts from a risk
    of t on holds one true positive worth (1 − t) / t false ones; at most the prevalence is gained.

    Args:
        labels: (N,) of 0 and 1, of patients as frequent as where the model is to be used.
        probabilities: (N,), (N, 1) or (N, 2), calibrated.
        thresholds: one, or (M,), each 0 ≤ t < 1.

    Returns:
        float64 of the shape of `thresholds`.

    Raises:
        DataError: probabilities or thresholds out of range.

    Source: Vickers & Elkin, Medical Decision Making 26:565 (2006).
    """
    y, p, t = _checked(labels, probabilities, thresholds)
    tp, fp = _called(p[y == 1], t), _called(p[y == 0], t)
    return (tp - fp * t / (1 - t)) / len(y)


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike | None = None
) -> DecisionCurve:
    """`net_benefit` of the model, of treating all and of treating none.

    Args:
        labels: as for `net_benefit`.
        probabilities: as for `net_benefit`.
        thresholds: (M,), each 0 ≤ t < 1; 0.01, 0.02 … 0.99 if not given. Show the range that
            reasonable people would choose.

    Raises:
        DataError: as for `net_benefit`.
    """
    thresholds = np.arange(1, 100) / 100 if thresholds is None else np.atleast_1d(thresholds)
    y, p, t = _checked(labels, probabilities, thresholds)
    everybody = net_benefit(y, np.ones_like(p), t)
    return DecisionCurve(t, net_benefit(y, p, t), everybody, np.zeros_like(t))


def expected_cost(
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    miss_cost: float,
    prevalence: float | None = None,
) -> np.ndarray:
    """Cost per 1,000 patients of what a threshold misses and alarms wrongly; a false alarm costs 1.

    cost(t) = 1000 · [π (1 − sensitivity) c + (1 − π) (1 − specificity)]

    Args:
        labels: (N,) of 0 and 1, both present.
        scores: (N,), (N, 1) or (N, 2), of any range; positive means score ≥ threshold.
        thresholds: one, or (M,), in the unit of the scores.
        miss_cost: c, the cost of one missed patient in false alarms, ≥ 0.
        prevalence: π, 0 to 1; that of the labels if not given.

    Returns:
        float64 of the shape of `thresholds`.

    Raises:
        UndefinedMetric: one class only.
        DataError: a prevalence outside 0…1, a negative cost, or a threshold that is NaN.
    """
    _, y, s = binary_pairs(labels, scores)
    ill, well = s[y == 1], s[y == 0]
    if not len(ill) or not len(well):
        raise UndefinedMetric("expected_cost needs ill and healthy images: all are of one class")
    prevalence = len(ill) / len(y) if prevalence is None else prevalence
    if not 0 <= prevalence <= 1:
        raise DataError(f"prevalence is a share between 0 and 1, got {prevalence}")
    if not miss_cost >= 0:
        raise DataError(f"miss_cost is in false alarms and not negative, got {miss_cost}")
    t = np.asarray(thresholds, float)
    if np.isnan(t).any():
        raise DataError("thresholds are numbers in the unit of the scores, and one is NaN")
    missed, alarmed = 1 - _called(ill, t) / len(ill), _called(well, t) / len(well)
    return 1000 * (prevalence * missed * miss_cost + (1 - prevalence) * alarmed)


def _checked(labels: ArrayLike, scores: ArrayLike, thresholds: ArrayLike) -> tuple[np.ndarray, ...]:
    _, y, s = binary_pairs(labels, scores)
    t = np.asarray(thresholds, float)
    if not ((t >= 0) & (t < 1)).all():
        raise DataError("thresholds are probabilities, each from 0 to below 1")
    return y, probabilities(s), t


def _called(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the scores reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")
