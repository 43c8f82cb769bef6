"""How well scores tell classes apart: AUC, curves, and the counts behind a threshold.

Every function takes labels first, scores second, as tensors or arrays; see `medlab.metrics.pairs`
for the shapes. A curve or a rank statistic of one class only raises `UndefinedMetric`; a ratio
of counts whose denominator is empty (the sensitivity of no patients) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np

from medlab.errors import DataError
from medlab.metrics.inputs import UndefinedMetric, binary_pairs, pairs, probabilities

__all__ = [
    "Confusion",
    "OperatingPoint",
    "PrecisionRecallCurve",
    "PredictiveValues",
    "RocCurve",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "confusion",
    "confusion_matrix",
    "f1",
    "npv",
    "ppv",
    "precision_recall_curve",
    "roc_curve",
    "sensitivity",
    "sensitivity_at_specificity",
    "specificity",
    "specificity_at_sensitivity",
]


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


class PredictiveValues(NamedTuple):
    """Positive and negative predictive value."""

    ppv: float
    npv: float


@dataclass(frozen=True)
class Confusion:
    """The four counts behind every threshold metric, and what follows from them.

    A ratio of nothing to nothing is NaN: `ppv` when nothing was called positive, `sensitivity`
    when nobody is ill. A positive likelihood ratio without false positives is infinite.

    Attributes:
        tp, fp, tn, fn: true and false positives, true and false negatives; counts ≥ 0.
    """

    tp: int
    fp: int
    tn: int
    fn: int

    def __post_init__(self):
        counts = (self.tp, self.fp, self.tn, self.fn)
        if any(c != c or c < 0 for c in counts):
            raise DataError(f"counts must not be negative, got tp, fp, tn, fn = {counts}")

    @property
    def n(self) -> int:
        """Number of images."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def prevalence(self) -> float:
        """Share of images that are positive: (TP + FN) / N."""
        return _ratio(self.tp + self.fn, self.n)

    @property
    def sensitivity(self) -> float:
        """Share of the positive that were called so: TP / (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of the negative that were called so: TN / (TN + FP)."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> float:
        """Positive predictive value, precision: TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> float:
        """Negative predictive value: TN / (TN + FN)."""
        return _ratio(self.tn, self.tn + self.fn)

    @property
    def accuracy(self) -> float:
        """Share called correctly: (TP + TN) / N."""
        return _ratio(self.tp + self.tn, self.n)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def f1(self) -> float:
        """Harmonic mean of PPV and sensitivity: 2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def positive_likelihood_ratio(self) -> float:
        """What a positive call multiplies the odds by: sensitivity / (1 − specificity)."""
        return _ratio(self.sensitivity, _ratio(self.fp, self.tn + self.fp))

    @property
    def negative_likelihood_ratio(self) -> float:
        """What a negative call multiplies the odds by: (1 − sensitivity) / specificity."""
        return _ratio(_ratio(self.fn, self.tp + self.fn), self.specificity)

    def at_prevalence(self, prevalence: float) -> PredictiveValues:
        """Predictive values where disease is as common as `prevalence`, by Bayes' theorem.

        Sensitivity and specificity are taken as they are here; they travel between hospitals
        better than predictive values do, but not always.

        Args:
            prevalence: share of patients who are ill, 0 to 1.

        Raises:
            DataError: a prevalence outside 0…1.
        """
        if not 0 <= prevalence <= 1:
            raise DataError(f"prevalence is a share between 0 and 1, got {prevalence}")
        ill, well = prevalence, 1 - prevalence
        tp, fn = ill * self.sensitivity, ill * _ratio(self.fn, self.tp + self.fn)
        tn, fp = well * self.specificity, well * _ratio(self.fp, self.tn + self.fp)
        return PredictiveValues(ppv=_ratio(tp, tp + fp), npv=_ratio(tn, tn + fn))


def auc(labels, scores) -> float:
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


def average_precision(labels, scores) -> float:
    """Mean precision over the positive images: Σ (Rₖ − Rₖ₋₁) Pₖ over falling thresholds.

    Args:
        labels, scores: as for `auc`; for K classes or findings the unweighted mean over K.

    Returns:
        0 to 1; chance is the prevalence.

    Raises:
        UndefinedMetric: a class without any image, or with all of them.
    """
    return _mean_over_classes(_average_precision, *pairs(labels, scores))


def roc_curve(labels, scores) -> RocCurve:
    """Sensitivity against false-positive rate at every distinct score.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).

    Raises:
        UndefinedMetric: one class only.
    """
    tp, fp, thresholds = _cumulative(*binary_pairs(labels, scores)[1:])
    return RocCurve(
        fpr=np.r_[0, fp] / fp[-1], tpr=np.r_[0, tp] / tp[-1], thresholds=np.r_[np.inf, thresholds]
    )


def precision_recall_curve(labels, scores) -> PrecisionRecallCurve:
    """Precision (PPV) against recall (sensitivity) at every distinct score.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).

    Raises:
        UndefinedMetric: one class only.
    """
    tp, fp, thresholds = _cumulative(*binary_pairs(labels, scores)[1:])
    return PrecisionRecallCurve(
        precision=np.r_[(tp / (tp + fp))[::-1], 1.0],
        recall=np.r_[(tp / tp[-1])[::-1], 0.0],
        thresholds=thresholds[::-1],
    )


def sensitivity_at_specificity(labels, scores, specificity: float = 0.9) -> OperatingPoint:
    """The most sensitive threshold among those that are at least this specific.

    Choose the threshold on validation images and report what it does on test images: chosen and
    reported on the same images it is optimistic.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).
        specificity: wanted at least, 0 to 1.

    Raises:
        UndefinedMetric: one class only.
        DataError: a specificity outside 0…1.
    """
    if not 0 <= specificity <= 1:
        raise DataError(f"specificity is a share between 0 and 1, got {specificity}")
    curve = roc_curve(labels, scores)
    # The rate is a ratio of two integers: the last bits of 1 − fpr must not exclude an equality.
    allowed = np.flatnonzero(1 - curve.fpr >= specificity - 1e-12)
    best = allowed[np.argmax(curve.tpr[allowed])]
    return _point(curve, best)


def specificity_at_sensitivity(labels, scores, sensitivity: float = 0.95) -> OperatingPoint:
    """The highest threshold that finds at least this share of the positive.

    The mirror image of `sensitivity_at_specificity`, with the same warning: choose on validation
    images, report on test images.

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
    best = int(np.argmax(curve.tpr >= sensitivity - 1e-12))
    return _point(curve, best)


def confusion(labels, scores, threshold: float | None = None) -> Confusion:
    """Counts of right and wrong calls at a threshold; positive means score ≥ threshold.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).
        threshold: in the unit of the scores; 0.5 if not given, which presumes probabilities.

    Raises:
        DataError: no threshold with scores outside 0…1, or a threshold that is no number.
    """
    y, called = called_positive(labels, scores, threshold)
    tp, fp = int((y & called).sum()), int((~y & called).sum())
    return Confusion(tp=tp, fp=fp, tn=int((~y).sum()) - fp, fn=int(y.sum()) - tp)


def confusion_matrix(labels, scores) -> np.ndarray:
    """Counts of true class (rows) against the class with the highest score (columns).

    Args:
        labels: (N,) classes 0…K − 1.
        scores: (N, K), K ≥ 3; for two classes use `confusion`.

    Returns:
        int64 (K, K).
    """
    kind, y, s = pairs(labels, scores)
    if kind != "multiclass":
        raise DataError(f"confusion_matrix is for three or more classes, got {kind} scores")
    classes = s.shape[1]
    return np.bincount(y * classes + s.argmax(1), minlength=classes**2).reshape(classes, classes)


def accuracy(labels, scores) -> float:
    """Share of images called correctly, as MedMNIST evaluates it.

    The class with the highest score is called; of two classes, class 1 where its probability is
    above 0.5; for K findings, the share of right calls over all images and findings. A probability
    of exactly 0.5 is class 0 here (as `argmax` has it), while `confusion` calls it positive.

    Args:
        labels, scores: as for `auc`; for two classes or K findings, scores are probabilities.

    Raises:
        DataError: two classes or K findings with scores outside 0…1.
    """
    return float(correct(labels, scores).mean())


def sensitivity(labels, scores, threshold: float | None = None) -> float:
    """Share of the positive that are called so; see `confusion`. NaN without positive images."""
    return confusion(labels, scores, threshold).sensitivity


def specificity(labels, scores, threshold: float | None = None) -> float:
    """Share of the negative that are called so; see `confusion`. NaN without negative images."""
    return confusion(labels, scores, threshold).specificity


def ppv(labels, scores, threshold: float | None = None) -> float:
    """Positive predictive value; see `confusion`. NaN if nothing is called positive."""
    return confusion(labels, scores, threshold).ppv


def npv(labels, scores, threshold: float | None = None) -> float:
    """Negative predictive value; see `confusion`. NaN if nothing is called negative."""
    return confusion(labels, scores, threshold).npv


def balanced_accuracy(labels, scores, threshold: float | None = None) -> float:
    """Mean of sensitivity and specificity; see `confusion`. NaN with one class only."""
    return confusion(labels, scores, threshold).balanced_accuracy


def f1(labels, scores, threshold: float | None = None) -> float:
    """Harmonic mean of PPV and sensitivity; see `confusion`. NaN if all is truly negative."""
    return confusion(labels, scores, threshold).f1


def called_positive(
    labels, scores, threshold: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two bool (N,): truly positive, and called positive at the threshold; see `confusion`."""
    _, y, s = binary_pairs(labels, scores)
    if threshold is None:
        threshold = 0.5
        probabilities(s)
    cut = np.asarray(threshold)
    if cut.ndim or cut.dtype.kind not in "iuf" or np.isnan(cut):
        raise DataError(
            f"threshold is {threshold!r}: it must be one number in the unit of the scores"
        )
    return y == 1, s >= cut


def correct(labels, scores) -> np.ndarray:
    """Per image, 1 if called correctly, 0 if not; the share of findings called correctly if K."""
    kind, y, s = pairs(labels, scores)
    if kind == "multiclass":
        return (s.argmax(1) == y).astype(float)
    hit = (probabilities(s) > 0.5) == y
    return hit.reshape(len(y), -1).mean(1)


def _point(curve: RocCurve, k: int) -> OperatingPoint:
    return OperatingPoint(float(curve.tpr[k]), float(1 - curve.fpr[k]), float(curve.thresholds[k]))


def _ratio(part: float, whole: float) -> float:
    if whole == 0:
        return nan if part == 0 or part != part else np.inf
    return float(part / whole)


def one_against_rest(
    kind: str, y: np.ndarray, s: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The binary questions, each (N,) labels and scores, that a metric averages over."""
    if kind == "binary":
        return [(y, s)]
    columns = range(s.shape[1])
    return [(y[:, k] if kind == "multilabel" else (y == k).astype(int), s[:, k]) for k in columns]


def _mean_over_classes(metric, kind: str, y: np.ndarray, s: np.ndarray) -> float:
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
    levels, place = np.unique(s, return_inverse=True)
    positive = np.bincount(place[y == 1], minlength=len(levels))
    negative = np.bincount(place[y == 0], minlength=len(levels))
    below = np.cumsum(negative) - negative
    wins_twice = (positive * (2 * below + negative)).sum()
    return wins_twice / (2 * positive.sum() * negative.sum())


def _average_precision(y: np.ndarray, s: np.ndarray) -> float:
    tp, fp, _ = _cumulative(y, s)
    return float((np.diff(tp, prepend=0) * (tp / (tp + fp))).sum() / tp[-1])


def _cumulative(y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives at each distinct score as threshold, from the highest down."""
    if y.min() == y.max():
        raise UndefinedMetric(
            f"all {len(y)} labels are {y[0]}: a curve needs images of both classes, 0 and 1"
        )
    levels, place = np.unique(-s, return_inverse=True)
    tp = np.cumsum(np.bincount(place[y == 1], minlength=len(levels)))
    fp = np.cumsum(np.bincount(place[y == 0], minlength=len(levels)))
    return tp, fp, -levels
