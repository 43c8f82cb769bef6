"""Labels and scores as every metric takes them: tensors or arrays, checked once, in one place."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from medlab.errors import DataError


class UndefinedMetric(DataError):
    """A metric that these labels cannot define, such as the AUC of positive images only."""


class Pairs(NamedTuple):
    """Checked labels and scores.

    Attributes:
        kind: "binary", "multiclass" or "multilabel".
        labels: int64 (N,), or (N, K) if multilabel.
        scores: float64 (N,) if binary, else (N, K).
    """

    kind: Literal["binary", "multiclass", "multilabel"]
    labels: np.ndarray
    scores: np.ndarray


def pairs(labels: ArrayLike, scores: ArrayLike) -> Pairs:
    """Labels and scores checked, and the kind of question they ask told by their shapes.

    Args:
        labels: (N,) or (N, 1) classes 0, 1, …, or (N, K) of 0 and 1 for K findings an image.
        scores: (N,), (N, 1) or (N, 2) for two classes (of two columns the second, that of
            class 1, is used); (N, K) for K classes or K findings.

    Raises:
        DataError: different lengths, nothing at all, NaN, labels that are not whole classes.
    """
    y, s = _column(_array(labels, "labels")), _column(_array(scores, "scores"))
    if y.ndim == 0 or s.ndim == 0 or len(y) != len(s):
        raise DataError(
            f"labels have shape {y.shape} and scores {s.shape}: there must be one label and one "
            "score (or one row of scores) per image"
        )
    if len(y) == 0:
        raise DataError("there are no labels and no scores: the selection is empty")
    if np.isnan(s).any():
        bad = np.flatnonzero(np.isnan(s.reshape(len(s), -1)).any(axis=1))
        raise DataError(
            f"{len(bad)} of {len(s)} scores are NaN (the first at image {bad[0]}): the model "
            "diverged or its input holds NaN"
        )
    if y.ndim == 2 and y.shape == s.shape:
        return Pairs("multilabel", _classes(y, 2), s)
    if y.ndim == 1 and (s.ndim == 1 or (s.ndim == 2 and s.shape[1] == 2)):
        return Pairs("binary", _classes(y, 2), s if s.ndim == 1 else s[:, 1])
    if y.ndim == 1 and s.ndim == 2:
        return Pairs("multiclass", _classes(y, s.shape[1]), s)
    raise DataError(
        f"labels {y.shape} do not fit scores {s.shape}: pass labels (N,) with scores (N,), (N, 2) "
        "or (N, K), or labels (N, K) of 0 and 1 with scores (N, K)"
    )


def binary_pairs(labels: ArrayLike, scores: ArrayLike) -> Pairs:
    """As `pairs`, but two classes only.

    Raises:
        DataError: more than two classes or several findings; the message says how to choose one.
    """
    found = pairs(labels, scores)
    if found.kind != "binary":
        raise DataError(
            f"this metric is for two classes, got scores of shape {found.scores.shape}: choose one "
            + ("finding: labels[:, k], scores[:, k]" if found.kind == "multilabel" else "")
            + ("class: labels == k, scores[:, k]" if found.kind == "multiclass" else "")
        )
    return found


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Scores unchanged if all lie in 0…1.

    Raises:
        DataError: a score outside 0…1.
    """
    low, high = scores.min(), scores.max()
    if low < 0 or high > 1:
        raise DataError(
            f"expected probabilities between 0 and 1, got {low:.4g} to {high:.4g}: if these are "
            "logits, apply a sigmoid (or softmax) first"
        )
    return scores


def _array(values: ArrayLike, what: str) -> np.ndarray:
    if torch.is_tensor(values):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        values = values.numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different length
        raise DataError(f"{what} must be one array of numbers, rows of one length") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} must be numbers, got {array.dtype}: encode classes as 0, 1, …")
    return array.astype(np.float64)


def _column(array: np.ndarray) -> np.ndarray:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _classes(labels: np.ndarray, classes: int) -> np.ndarray:
    allowed = np.isin(labels, np.arange(classes))
    if not allowed.all():
        found = np.unique(labels[~allowed])
        shown = ", ".join(f"{v:g}" for v in found[:4]) + (", …" if len(found) > 4 else "")
        wanted = "0 or 1" if classes == 2 else f"classes 0 to {classes - 1}"
        raise DataError(
            f"labels must be {wanted}, found {shown}: labels come first and scores second; "
            "recode other codings, e.g. (labels > 0)"
        )
    return labels.astype(np.int64)
