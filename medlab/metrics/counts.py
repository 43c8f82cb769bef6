"""Counts of right and wrong calls, and the shares that follow from them.

Labels and scores have the shapes of `pairs`. A ratio of nothing to nothing (the sensitivity of no
patients) is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medlab.errors import DataError
from medlab.metrics._arguments import binary_pairs, pairs, shares
from medlab.metrics.curves import auc

if TYPE_CHECKING:
    import pandas as pd


class PredictiveValues(NamedTuple):
    """Positive and negative predictive value."""

    ppv: float
    npv: float


@dataclass(frozen=True)
class Confusion:
    """True and false positives, true and false negatives, ≥ 0, and what follows from them."""

    tp: int
    fp: int
    tn: int
    fn: int

    def __post_init__(self) -> None:
        for name, count in vars(self).items():
            # Small integers of NumPy and PyTorch would overflow in sums.
            count = count.item() if hasattr(count, "item") else count
            if not 0 <= count < inf:
                raise DataError(f"counts must be finite and not negative, got {name} = {count}")
            object.__setattr__(self, name, count)

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

    def at_prevalence(self, prevalence: float) -> PredictiveValues:
        """Predictive values where disease is as common as `prevalence`, 0 to 1, by Bayes' theorem.

        Sensitivity and specificity are taken as they are here; they travel between hospitals
        better than predictive values do, but not always.
        """
        ill = shares(prevalence, "prevalence")
        tp, fn = ill * self.sensitivity, ill * _share(self.fn, self.tp)
        tn, fp = (1 - ill) * self.specificity, (1 - ill) * _share(self.fp, self.tn)
        return PredictiveValues(ppv=_share(tp, fp), npv=_share(tn, fn))


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> Confusion:
    """Counts of right and wrong calls of two classes; positive means score ≥ threshold.

    The threshold, in the unit of the scores, is 0.5 if not given, and the scores must then be
    probabilities.
    """
    ill, called = called_positive(labels, scores, threshold)
    sums = ((ill & called).sum(), (~ill & called).sum(), (~ill & ~called).sum())
    return Confusion(*map(int, (*sums, (ill & ~called).sum())))


def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Share of images called correctly, as MedMNIST evaluates it.

    The class with the highest score is called; of two classes, class 1 where its probability is
    above 0.5; for K findings, the share of right calls over all images and findings. A probability
    of exactly 0.5 is class 0 here (as `argmax` has it), while `confusion` calls it positive.
    """
    return float(correct(labels, scores).mean())


def sensitivity(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Share of the positive that are called so; see `confusion`. NaN without positive images."""
    return confusion(labels, scores, threshold).sensitivity


def specificity(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> float:
    """Share of the negative that are called so; see `confusion`. NaN without negative images."""
    return confusion(labels, scores, threshold).specificity


def per_class(labels: ArrayLike, scores: ArrayLike, *, classes: Sequence[str] = ()) -> pd.DataFrame:
    """How each class or finding fares against the rest, a row each, called as in `accuracy`.

    >>> per_class([0, 2, 2], [[0.8, 0.1, 0.1], [0.2, 0.1, 0.7], [0.5, 0.1, 0.4]],
    ...           classes=("oedema", "effusion", "none"))
              sensitivity  specificity  ppv  auc  support
    oedema            1.0          0.5  0.5  1.0        1
    effusion          NaN          1.0  NaN  NaN        0
    none              0.5          1.0  1.0  1.0        2

    `classes` names the rows, as `cohort.classes` does; `support` counts the images that truly are
    of the class.
    """
    import pandas as pd

    kind, y, s = pairs(labels, scores)
    called = s.argmax(1) if kind == "multiclass" else shares(s) > 0.5
    s = np.stack([-s, s], axis=1) if kind == "binary" else s
    if kind != "multilabel":
        y, called = (one[:, None] == np.arange(s.shape[1]) for one in (y, called))
    rows = []
    for real, said, score in zip(y.T, called.T, s.T, strict=True):
        at = confusion(real, said)
        area = auc(real, score) if real.min() != real.max() else nan
        rows.append((at.sensitivity, at.specificity, at.ppv, area, int(real.sum())))
    columns = ["sensitivity", "specificity", "ppv", "auc", "support"]
    return pd.DataFrame(rows, index=list(classes or range(s.shape[1])), columns=columns)


def called_positive(
    labels: ArrayLike, scores: ArrayLike, threshold: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two bool (N,): truly positive, and called positive at the threshold; see `confusion`."""
    _, y, s = binary_pairs(labels, scores)
    cut = np.asarray(0.5 if threshold is None else threshold)
    s = shares(s) if threshold is None else s
    if cut.ndim or cut.dtype.kind not in "iuf" or np.isnan(cut):
        raise DataError(f"threshold is {threshold!r}: it must be one number, as the scores are")
    return y == 1, s >= cut


def correct(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Per image, 1 if called correctly, 0 if not; the share of findings called correctly if K."""
    kind, y, s = pairs(labels, scores)
    if kind == "multiclass":
        return (s.argmax(1) == y).astype(float)
    return ((shares(s) > 0.5) == y).reshape(len(y), -1).mean(1)


def _share(part: float, rest: float) -> float:
    return float(part / (part + rest)) if part + rest else nan
