"""Do probabilities mean what they say? Of the images given 0.8, eight in ten should be ill."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from medlab.errors import DataError
from medlab.metrics._arguments import binary_pairs, pairs, probabilities

Strategy = Literal["uniform", "quantile"]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram; bins without images are left out.

    Attributes:
        predicted: (M,) mean probability in each bin.
        observed: (M,) share that is truly positive in each bin.
        count: (M,) images in each bin.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray


def reliability(
    labels: ArrayLike, scores: ArrayLike, *, bins: int = 10, strategy: Strategy = "uniform"
) -> Reliability:
    """Observed share against predicted probability of the positive class, in bins.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2) probabilities.
        bins: number of bins, ≥ 1, closed at their upper end.
        strategy: "uniform" cuts 0…1 into equal widths, "quantile" into equal numbers of images.

    Raises:
        DataError: scores outside 0…1, no bins, or an unknown strategy.
    """
    _, y, s = binary_pairs(labels, scores)
    return _reliability(y, probabilities(s), bins, strategy)


def ece(
    labels: ArrayLike, scores: ArrayLike, *, bins: int = 15, strategy: Strategy = "uniform"
) -> float:
    """Expected calibration error: Σ (nᵦ/N) · |observed − predicted| over bins.

    Of two classes the probability of class 1 is judged; of three or more, the probability of the
    class that was called, against how often that call is right.

    Args:
        labels: (N,) classes.
        scores: (N,), (N, 1), (N, 2) or (N, K) probabilities.
        bins: as for `reliability`. More bins, more noise: the figure grows with them.
        strategy: as for `reliability`.

    Returns:
        0 (calibrated) to 1.

    Raises:
        DataError: scores outside 0…1, or several findings an image.

    Source: Guo et al., ICML (2017), eq. 3.
    """
    kind, y, s = pairs(labels, scores)
    if kind == "multilabel":
        raise DataError("ece judges one finding: choose one, labels[:, k] and scores[:, k]")
    if kind == "multiclass":
        y, s = s.argmax(1) == y, s.max(1)
    diagram = _reliability(y, probabilities(s), bins, strategy)
    gap = np.abs(diagram.observed - diagram.predicted)
    return float((diagram.count * gap).sum() / diagram.count.sum())


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Brier score: mean squared distance between probability and truth.

    Of two classes or K findings the mean of (p − y)², 0 to 1; of three or more classes the sum of
    (pₖ − yₖ)² over classes, averaged over images, 0 to 2.

    Args:
        labels: (N,) classes, or (N, K) of 0 and 1.
        scores: (N,), (N, 1), (N, 2) or (N, K) probabilities.

    Raises:
        DataError: scores outside 0…1.

    Source: Brier, Monthly Weather Review 78:1 (1950).
    """
    return float(squared_errors(labels, scores).mean())


def squared_errors(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """(N,) squared distance between probability and truth of each image, as `brier` averages it."""
    kind, y, s = pairs(labels, scores)
    if kind == "multiclass":
        return ((probabilities(s) - np.eye(s.shape[1])[y]) ** 2).sum(1)
    return ((probabilities(s) - y) ** 2).reshape(len(y), -1).mean(1)


def _reliability(y: np.ndarray, p: np.ndarray, bins: int, strategy: str) -> Reliability:
    if not isinstance(bins, Integral) or bins < 1:
        raise DataError(f"bins must be a whole number and at least 1, got {bins!r}")
    cuts = np.linspace(0, 1, bins + 1)
    if strategy == "quantile":
        cuts = np.quantile(p, cuts)
    elif strategy != "uniform":
        raise DataError(f"strategy must be 'uniform' or 'quantile', got {strategy!r}")
    place = np.searchsorted(cuts[1:-1], p)
    count = np.bincount(place, minlength=bins)
    used = count > 0
    mean = [np.bincount(place, values, minlength=bins)[used] / count[used] for values in (p, y)]
    return Reliability(predicted=mean[0], observed=mean[1], count=count[used])
