"""What a threshold is worth: decision curves, and the expected cost of missed and false calls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medlab.errors import DataError
from medlab.metrics import _arguments as arguments


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

    Args:
        labels: (N,) of 0 and 1, of patients as frequent as where the model is to be used.
        probabilities: (N,), calibrated.
        thresholds: one, or (M,), each 0 ≤ t < 1; the result, float64, has their shape.

    Source: Vickers & Elkin, Medical Decision Making 26:565 (2006).
    """
    _, y, p = arguments.binary_pairs(labels, probabilities)
    t = np.asarray(thresholds, float)
    if not ((t >= 0) & (t < 1)).all():
        raise DataError("thresholds are probabilities, each from 0 to below 1")
    p = arguments.shares(p)
    tp, fp = _called(p[y == 1], t), _called(p[y == 0], t)
    return (tp - fp * t / (1 - t)) / len(y)


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike | None = None
) -> DecisionCurve:
    """`net_benefit` of the model, of treating all and of treating none.

    Show the range of thresholds that reasonable people would choose; 0.01 … 0.99 if not given.
    """
    t = np.arange(1, 100) / 100 if thresholds is None else np.array(thresholds, float, ndmin=1)
    everybody = net_benefit(labels, np.ones(len(arguments.as_array(labels))), t)
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

    cost(t) = 1000 · [π (1 − sensitivity) c + (1 − π) (1 − specificity)]

    Args:
        labels: (N,) of 0 and 1, both present.
        scores: (N,), of any range; positive means score ≥ threshold.
        thresholds: one, or (M,), in the unit of the scores; the result, float64, has their shape.
        miss_cost: c, the cost of one missed patient in false alarms, ≥ 0.
        prevalence: π, 0 to 1; that of the labels if not given.
    """
    _, y, s = arguments.binary_pairs(labels, scores)
    arguments.need_both(y)
    t = np.asarray(thresholds, float)
    if not miss_cost >= 0 or np.isnan(t).any():
        raise DataError(
            f"miss_cost is not negative and thresholds are numbers; got {miss_cost}, {t}"
        )
    ill, well = s[y == 1], s[y == 0]
    share = arguments.shares(len(ill) / len(y) if prevalence is None else prevalence, "prevalence")
    missed, alarmed = 1 - _called(ill, t) / len(ill), _called(well, t) / len(well)
    return 1000 * (share * missed * miss_cost + (1 - share) * alarmed)


def _called(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the scores reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")
