"""How well scores tell classes apart: AUC, curves and the points on them.

Labels and scores have the shapes of `pairs`; one class only raises `UndefinedMetric`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from medlab.metrics._arguments import binary_pairs, need_both, pairs, shares


class RocCurve(NamedTuple):
    """(M,) each, a point per distinct score, from (0, 0) to (1, 1); thresholds fall from ∞."""

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray


class PrecisionRecallCurve(NamedTuple):
    """(M + 1,), (M + 1,) and (M,), by rising threshold; the last point is (1, 0) by convention."""

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray


class OperatingPoint(NamedTuple):
    """One point of the ROC curve; positive means score ≥ threshold."""

    sensitivity: float
    specificity: float
    threshold: float


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, 0 to 1: the chance that a positive image outscores a negative one.

    AUC = P(S₁ > S₀) + ½ P(S₁ = S₀), counted over all pairs of a positive and a negative image by
    sorting once. It needs no threshold and does not change when scores are transformed monotonely.

    Of K classes or findings the result is the unweighted mean over K of one against the rest, as
    MedMNIST evaluates. A class without any image, or with all of them, raises `UndefinedMetric`.

    Source: Hanley & McNeil, Radiology 143:29 (1982); Yang et al., Scientific Data 10:41 (2023).
    """
    return float(np.mean([_auc(y, s) for y, s in one_against_rest(labels, scores)]))


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve:
    """Sensitivity against false-positive rate, 1 − specificity, at every distinct score."""
    from sklearn.metrics import roc_curve as curve

    return RocCurve(*curve(*_two_classes(labels, scores), drop_intermediate=False))


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> PrecisionRecallCurve:
    """Precision (PPV) against recall (sensitivity) at every distinct score."""
    from sklearn.metrics import precision_recall_curve as curve

    return PrecisionRecallCurve(*curve(*_two_classes(labels, scores)))


def specificity_at_sensitivity(
    labels: ArrayLike, scores: ArrayLike, sensitivity: float = 0.95
) -> OperatingPoint:
    """The highest threshold that finds at least this share, 0 to 1, of the positive.

    Choose the threshold on validation images and report what it does on test images: chosen and
    reported on the same images it is optimistic.
    """
    fpr, tpr, thresholds = roc_curve(labels, scores)
    # The rate is a ratio of two integers: its last bits must not exclude an equality.
    best = int(np.argmax(tpr >= shares(sensitivity, "sensitivity") - 1e-12))
    return OperatingPoint(float(tpr[best]), float(1 - fpr[best]), float(thresholds[best]))


def one_against_rest(labels: ArrayLike, scores: ArrayLike) -> list[tuple[np.ndarray, np.ndarray]]:
    """The binary questions, (N,) labels and scores each, that `auc` averages over."""
    kind, y, s = pairs(labels, scores)
    if kind == "binary":
        y, s = y[:, None], s[:, None]
    truth = y[:, None] == np.arange(s.shape[1]) if kind == "multiclass" else y == 1
    for k, column in enumerate(truth.T):
        need_both(column, "" if kind == "binary" else f"class or finding {k}: ")
    return list(zip(truth.T, s.T, strict=True))


def _auc(y: np.ndarray, s: np.ndarray) -> float:
    ill = y.sum()
    return (rankdata(s)[y].sum() - ill * (ill + 1) / 2) / (ill * (~y).sum())


def _two_classes(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels and finite scores: scikit-learn refuses infinite log-odds."""
    _, y, s = binary_pairs(labels, scores)
    need_both(y)
    return y, np.clip(s, -1e300, 1e300)
