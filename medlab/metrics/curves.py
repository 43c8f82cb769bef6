"""How well scores tell classes apart: AUC, curves and the points on them.

Every function takes labels first, scores second, as tensors or arrays; one class only raises
`UndefinedMetric`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from medlab.errors import DataError
from medlab.metrics._arguments import UndefinedMetric, binary_pairs, pairs


class RocCurve(NamedTuple):
    """Receiver operating characteristic, one point per distinct score, from (0, 0) to (1, 1).

    Attributes:
        fpr: (M,) false-positive rate, 1 − specificity.
        tpr: (M,) true-positive rate, sensitivity.
        thresholds: (M,) falling; positive means score ≥ threshold. The first is infinite.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray


class PrecisionRecallCurve(NamedTuple):
    """Precision against recall, by rising threshold; the last point is (1, 0) by convention.

    Attributes:
        precision: (M + 1,) positive predictive value.
        recall: (M + 1,) sensitivity.
        thresholds: (M,) rising; positive means score ≥ threshold.
    """

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray


class OperatingPoint(NamedTuple):
    """One point of the ROC curve; positive means score ≥ threshold."""

    sensitivity: float
    specificity: float
    threshold: float


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive image outscores a negative one.

    AUC = P(S₁ > S₀) + ½ P(S₁ = S₀), counted over all pairs of a positive and a negative image by
    sorting once. It needs no threshold and does not change when scores are transformed monotonely.

    Args:
        labels: (N,) classes, or (N, K) of 0 and 1 for K findings.
        scores: (N,), (N, 1), (N, 2) for two classes; (N, K) for K classes or findings, where the
            result is the unweighted mean over K of one against the rest, as MedMNIST evaluates.

    Returns:
        0 to 1; 0.5 is chance.

    Raises:
        UndefinedMetric: a class without any image, or with all of them.
        DataError: labels and scores that do not fit together (`medlab.metrics.pairs`).

    Source: Hanley & McNeil, Radiology 143:29 (1982); Yang et al., Scientific Data 10:41 (2023).
    """
    return _mean_over_classes(_auc, *pairs(labels, scores))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean precision over the positive images: Σ (Rₖ − Rₖ₋₁) Pₖ over falling thresholds.

    Args:
        labels: as for `auc`.
        scores: as for `auc`; for K classes or findings the unweighted mean over K.

    Returns:
        0 to 1; chance is the prevalence.

    Raises:
        UndefinedMetric: a class without any image, or with all of them.
    """
    from sklearn.metrics import average_precision_score

    return _mean_over_classes(
        lambda y, s: average_precision_score(y, _finite(s)), *pairs(labels, scores)
    )


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve:
    """Sensitivity against false-positive rate at every distinct score.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).

    Raises:
        UndefinedMetric: one class only.
    """
    from sklearn.metrics import roc_curve as curve

    return RocCurve(*curve(*_both_classes(labels, scores), drop_intermediate=False))


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> PrecisionRecallCurve:
    """Precision (PPV) against recall (sensitivity) at every distinct score.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).

    Raises:
        UndefinedMetric: one class only.
    """
    from sklearn.metrics import precision_recall_curve as curve

    return PrecisionRecallCurve(*curve(*_both_classes(labels, scores)))


def specificity_at_sensitivity(
    labels: ArrayLike, scores: ArrayLike, sensitivity: float = 0.95
) -> OperatingPoint:
    """The highest threshold that finds at least this share of the positive.

    Choose the threshold on validation images and report what it does on test images: chosen and
    reported on the same images it is optimistic.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).
        sensitivity: wanted at least, 0 to 1.

    Raises:
        UndefinedMetric: one class only.
        DataError: a sensitivity outside 0…1.
    """
    if not 0 <= sensitivity <= 1:
        raise DataError(f"sensitivity is a share between 0 and 1, got {sensitivity}")
    curve = roc_curve(labels, scores)
    # The rate is a ratio of two integers: its last bits must not exclude an equality.
    best = int(np.argmax(curve.tpr >= sensitivity - 1e-12))
    return OperatingPoint(
        float(curve.tpr[best]), float(1 - curve.fpr[best]), float(curve.thresholds[best])
    )


def one_against_rest(
    kind: str, y: np.ndarray, s: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The binary questions, each (N,) labels and scores, that a metric averages over."""
    if kind == "binary":
        return [(y, s)]
    columns = range(s.shape[1])
    return [(y[:, k] if kind == "multilabel" else (y == k).astype(int), s[:, k]) for k in columns]


def _mean_over_classes(metric: Callable, kind: str, y: np.ndarray, s: np.ndarray) -> float:
    values = []
    for k, (truth, score) in enumerate(one_against_rest(kind, y, s)):
        if truth.min() == truth.max():
            which = {"binary": "", "multiclass": f"class {k}: ", "multilabel": f"finding {k}: "}
            raise UndefinedMetric(
                f"{which[kind]}all {len(truth)} labels are "
                f"{'positive' if truth[0] else 'negative'}, and telling classes apart needs images "
                "of both: take more images, or split by patient with stratification"
            )
        values.append(metric(truth, score))
    return float(np.mean(values))


def _auc(y: np.ndarray, s: np.ndarray) -> float:
    ill, well = int((y == 1).sum()), int((y == 0).sum())
    wins = rankdata(s)[y == 1].sum() - ill * (ill + 1) / 2
    return float(wins / (ill * well))


def _both_classes(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    _, y, s = binary_pairs(labels, scores)
    if y.min() == y.max():
        raise UndefinedMetric(
            f"all {len(y)} labels are {y[0]}: a curve needs images of both classes, 0 and 1"
        )
    return y, _finite(s)


def _finite(scores: np.ndarray) -> np.ndarray:
    """Infinite scores, such as log-odds of certainty, as ±1e300: scikit-learn refuses them."""
    return np.clip(scores, -1e300, 1e300)
