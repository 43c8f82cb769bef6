"""Labels and scores as every metric takes them: tensors or arrays, checked once, in one place."""

from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from medlab.errors import DataError


class UndefinedMetric(DataError):
    """A metric that these labels cannot define, such as the AUC of positive images only."""


class Pairs(NamedTuple):
    """Checked labels, int64 (N,) or (N, K) if multilabel, and scores, float64 (N,) or (N, K)."""

    kind: Literal["binary", "multiclass", "multilabel"]
    labels: np.ndarray
    scores: np.ndarray


def pairs(labels: ArrayLike, scores: ArrayLike) -> Pairs:
    """Labels and scores checked, and the kind of question they ask told by their shapes.

    Args:
        labels: (N,) or (N, 1) classes 0, 1, …, or (N, K) of 0 and 1 for K findings an image.
        scores: (N,), (N, 1) or (N, 2), of which column 1 counts, for two classes; else (N, K).
            Different lengths, nothing at all, NaN and labels of no class are a `DataError`.
    """
    y, s = _numbers(labels, "labels"), _numbers(scores, "scores")
    if y.ndim == 0 or s.ndim == 0 or len(y) != len(s) or len(y) == 0:
        raise DataError(
            f"labels have shape {y.shape} and scores {s.shape}: there must be one label and one "
            "score (or one row of scores) per image, and the selection must not be empty"
        )
    bad = np.flatnonzero(np.isnan(s.reshape(len(s), -1)).any(axis=1))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(s)} scores are NaN (the first at image {bad[0]}): the model "
            "diverged or its input holds NaN"
        )
    if y.ndim == 2 and y.shape == s.shape:
        return Pairs("multilabel", _classes(y, 2), s)
    if y.ndim == 1 and (s.ndim == 1 or s.shape[1:] == (2,)):
        return Pairs("binary", _classes(y, 2), s if s.ndim == 1 else s[:, 1])
    if y.ndim == 1 and s.ndim == 2:
        return Pairs("multiclass", _classes(y, s.shape[1]), s)
    raise DataError(
        f"labels {y.shape} do not fit scores {s.shape}: pass labels (N,) with scores (N,), (N, 2) "
        "or (N, K), or labels (N, K) of 0 and 1 with scores (N, K)"
    )


def binary_pairs(labels: ArrayLike, scores: ArrayLike) -> Pairs:
    """As `pairs`, but a `DataError` if there are more than two classes or several findings."""
    found = pairs(labels, scores)
    if found.kind != "binary":
        raise DataError(
            f"this metric is for two classes, got scores of shape {found.scores.shape}: choose one "
            "class, labels == k, or finding, labels[:, k], and its scores[:, k]"
        )
    return found


def need_both(labels: np.ndarray, which: str = "") -> None:
    """Refuse labels (N,) of one class only, as `UndefinedMetric`."""
    if labels.min() == labels.max():
        raise UndefinedMetric(
            f"{which}all {len(labels)} labels are {'positive' if labels[0] else 'negative'}, and "
            "images of both classes are needed: take more, or split with stratification"
        )


def shares(values: Any, name: str = "scores") -> Any:
    """A number or an array unchanged; `DataError` if it leaves 0…1."""
    low, high = np.min(values), np.max(values)
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{name} must lie between 0 and 1, got {low:.4g} to {high:.4g}: if these are logits, "
            "apply a sigmoid (or softmax) first"
        )
    return values


def whole(value: int, name: str, least: int) -> int:
    """The value unchanged; `DataError` if it is no whole number of at least `least`."""
    if not isinstance(value, Integral) or value < least:
        raise DataError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def as_array(values: ArrayLike) -> np.ndarray:
    """Values as an array; bfloat16, which NumPy does not know, as float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)


def _numbers(values: ArrayLike, what: str) -> np.ndarray:
    array = as_array(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} must be numbers, got {array.dtype}: encode classes as 0, 1, …")
    return (array[:, 0] if array.shape[1:] == (1,) else array).astype(np.float64)


def _classes(labels: np.ndarray, classes: int) -> np.ndarray:
    found = np.setdiff1d(labels, np.arange(classes))
    if len(found):
        shown = ", ".join(f"{v:g}" for v in found[:4]) + (", …" if len(found) > 4 else "")
        raise DataError(
            f"labels must be classes 0 to {classes - 1}, found {shown}: labels come first and "
            "scores second; recode other codings, e.g. (labels > 0)"
        )
    return labels.astype(np.int64)
