"""Counts of right and wrong calls, the shares that follow, and the curves over all thresholds.

Labels and scores have the shapes of `pairs`. A ratio of nothing to nothing (the sensitivity of no
patients) is NaN; of an AUC or a curve, one class only raises `UndefinedMetric`.
"""

from dataclasses import dataclass
from math import nan
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from medlab.errors import DataError
from medlab.metrics._arguments import binary_pairs, need_both, pairs, shares


@dataclass(frozen=True)
class Confusion:
    """True and false positives, true and false negatives, ≥ 0, and what follows from them."""

    tp: float
    fp: float
    tn: float
    fn: float

    @property
    def sensitivity(self) -> float:
        """Share of the positive that were called so: TP / (TP + FN)."""
        return _share(self.tp, self.fn)

    @property
    def specificity(self) -> float:
        """Share of the negative that were called so: TN / (TN + FP)."""
        return _share(self.tn, self.fp)

    @property
    def ppv(self) -> float:
        """Positive predictive value, precision: TP / (TP + FP)."""
        return _share(self.tp, self.fp)

    @property
    def npv(self) -> float:
        """Negative predictive value: TN / (TN + FN)."""
        return _share(self.tn, self.fn)

    def at_prevalence(self, prevalence: float) -> Self:
        """Shares of patients where disease is as common as `prevalence`, 0 to 1, by Bayes' theorem.

        Sensitivity and specificity stay as they are here; they travel between hospitals better
        than predictive values do, but not always.
        """
        ill = shares(prevalence, "prevalence")
        tp, fn = ill * self.sensitivity, ill * _share(self.fn, self.tp)
        tn, fp = (1 - ill) * self.specificity, (1 - ill) * _share(self.fp, self.tn)
        return type(self)(tp, fp, tn, fn)


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> Confusion:
    """Counts of right and wrong calls of two classes; positive means score ≥ threshold.

    The threshold, in the unit of the scores, is 0.5 if not given, and the scores must then be
    probabilities.
    """
    _, y, s = binary_pairs(labels, scores)
    cut = np.asarray(0.5 if threshold is None else threshold)
    s = shares(s) if threshold is None else s
    if cut.ndim or cut.dtype.kind not in "iuf" or np.isnan(cut):
        raise DataError(f"threshold is {threshold!r}: it must be one number, as the scores are")
    tn, fp, fn, tp = np.bincount(2 * y + (s >= cut), minlength=4).tolist()
    return Confusion(tp, fp, tn, fn)


def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Share of images called correctly, as MedMNIST evaluates it.

    The class with the highest score is called; of two classes, class 1 where its probability is
    above 0.5; for K findings, the share of right calls over all images and findings. A probability
    of exactly 0.5 is class 0 here (as `argmax` has it), while `confusion` calls it positive.
    """
    kind, y, s = pairs(labels, scores)
    return float(((s.argmax(1) if kind == "multiclass" else shares(s) > 0.5) == y).mean())


def sensitivity(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Share of the positive that are called so; see `confusion`. NaN without positive images."""
    return confusion(labels, scores, threshold).sensitivity


def specificity(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Share of the negative that are called so; see `confusion`. NaN without negative images."""
    return confusion(labels, scores, threshold).specificity


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


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False-positive rate, 1 − specificity; sensitivity; and threshold, falling from ∞: (M,) each.

    A point per distinct score, from (0, 0) to (1, 1).
    """
    from sklearn.metrics import roc_curve as curve

    _, y, s = binary_pairs(labels, scores)
    need_both(y)
    # scikit-learn refuses infinite log-odds
    return curve(y, np.clip(s, -1e300, 1e300), drop_intermediate=False)


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


def _share(part: float, rest: float) -> float:
    whole = float(part) + float(rest)  # small integers of NumPy and PyTorch would overflow
    return float(part) / whole if whole else nan
