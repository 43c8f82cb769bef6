"""Counts of right and wrong calls, and the shares that follow from them.

Every function takes labels first, scores second, as tensors or arrays. A ratio whose denominator
is empty (the sensitivity of no patients) is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medlab.errors import DataError
from medlab.metrics._arguments import binary_pairs, pairs, probabilities
from medlab.metrics.curves import auc

if TYPE_CHECKING:
    import pandas as pd


class PredictiveValues(NamedTuple):
    """Positive and negative predictive value."""

    ppv: float
    npv: float


@dataclass(frozen=True)
class Confusion:
    """The four counts behind every threshold metric, and what follows from them.

    A ratio of nothing to nothing is NaN: `ppv` when nothing was called positive, `sensitivity`
    when nobody is ill.

    Attributes:
        tp, fp, tn, fn: true and false positives, true and false negatives; counts ≥ 0.
    """

    tp: int
    fp: int
    tn: int
    fn: int

    def __post_init__(self) -> None:
        for name in ("tp", "fp", "tn", "fn"):
            # Small integers of NumPy and PyTorch would overflow in the sums below.
            count = getattr(self, name)
            count = count.item() if hasattr(count, "item") else count
            if not 0 <= count < inf:
                raise DataError(f"counts must be finite and not negative, got {name} = {count}")
            object.__setattr__(self, name, count)

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


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> Confusion:
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


def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Share of images called correctly, as MedMNIST evaluates it.

    The class with the highest score is called; of two classes, class 1 where its probability is
    above 0.5; for K findings, the share of right calls over all images and findings. A probability
    of exactly 0.5 is class 0 here (as `argmax` has it), while `confusion` calls it positive.

    Args:
        labels: as for `auc`.
        scores: as for `auc`; for two classes or K findings they are probabilities.

    Raises:
        DataError: two classes or K findings with scores outside 0…1.
    """
    return float(correct(labels, scores).mean())


def sensitivity(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Share of the positive that are called so; see `confusion`. NaN without positive images."""
    return confusion(labels, scores, threshold).sensitivity


def specificity(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Share of the negative that are called so; see `confusion`. NaN without negative images."""
    return confusion(labels, scores, threshold).specificity


def ppv(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Positive predictive value; see `confusion`. NaN if nothing is called positive."""
    return confusion(labels, scores, threshold).ppv


def npv(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Negative predictive value; see `confusion`. NaN if nothing is called negative."""
    return confusion(labels, scores, threshold).npv


def balanced_accuracy(
    labels: ArrayLike, scores: ArrayLike, threshold: float | None = None
) -> float:
    """Mean of sensitivity and specificity; see `confusion`. NaN with one class only."""
    return confusion(labels, scores, threshold).balanced_accuracy


def f1(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Harmonic mean of PPV and sensitivity; see `confusion`. NaN if all is truly negative."""
    return confusion(labels, scores, threshold).f1


def per_class(
    labels: ArrayLike, scores: ArrayLike, *, classes: Sequence[str] = (), threshold: float = 0.5
) -> pd.DataFrame:
    """How each class or finding fares against the rest, a row each.

    The class with the highest score is called; of two classes and of findings, those whose
    probability is above `threshold`.

    >>> per_class([0, 2, 2], [[0.8, 0.1, 0.1], [0.2, 0.1, 0.7], [0.5, 0.1, 0.4]],
    ...           classes=("oedema", "effusion", "none"))
              sensitivity  specificity  ppv  auc  support
    oedema            1.0          0.5  0.5  1.0        1
    effusion          NaN          1.0  NaN  NaN        0
    none              0.5          1.0  1.0  1.0        2

    Args:
        labels: (N,) classes, or (N, K) of 0 and 1 for K findings.
        scores: (N,), (N, 1) or (N, 2) for two classes, (N, K) for K classes or findings.
        classes: names of the rows, such as `cohort.classes`; numbers if not given.
        threshold: for two classes and for findings.

    Returns:
        Table with sensitivity, specificity, ppv, auc (NaN where undefined) and support, the number
        of images that truly are of the class.

    Raises:
        DataError: names of another number than the scores have columns.
    """
    import pandas as pd

    kind, y, s = pairs(labels, scores)
    if kind == "multiclass":
        called = s.argmax(1)[:, None] == np.arange(s.shape[1])
    else:
        called = probabilities(s) > threshold
    truth = y[:, None] == np.arange(s.shape[1]) if kind == "multiclass" else y == 1
    if kind == "binary":
        truth, called = (np.stack([~two, two], axis=1) for two in (truth, called))
        s = np.stack([-s, s], axis=1)
    names = list(classes or range(s.shape[1]))
    if len(names) != s.shape[1]:
        raise DataError(f"{len(names)} class names for {s.shape[1]} columns of scores")
    rows = []
    for real, said, score in zip(truth.T, called.T, s.T, strict=True):
        found = confusion(real, said.astype(float))
        area = auc(real, score) if real.min() != real.max() else nan
        rows.append((found.sensitivity, found.specificity, found.ppv, area, int(real.sum())))
    columns = ["sensitivity", "specificity", "ppv", "auc", "support"]
    return pd.DataFrame(rows, index=names, columns=columns)


def called_positive(
    labels: ArrayLike, scores: ArrayLike, threshold: float | None = None
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


def correct(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Per image, 1 if called correctly, 0 if not; the share of findings called correctly if K."""
    kind, y, s = pairs(labels, scores)
    if kind == "multiclass":
        return (s.argmax(1) == y).astype(float)
    hit = (probabilities(s) > 0.5) == y
    return hit.reshape(len(y), -1).mean(1)


def _ratio(part: float, whole: float) -> float:
    if whole == 0:
        return nan if part == 0 or part != part else inf
    return float(part / whole)
