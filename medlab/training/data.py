"""Images and labels as training needs them, checked before the first step."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medlab.cohort import Cohort
from medlab.errors import DataError

__all__ = ["Labelled", "labelled", "warn_if_shared"]


@dataclass(frozen=True)
class Labelled:
    """Images (N, C, …) of any type and labels, int64 (N,) or, if multilabel, float32 (N, K)."""

    images: Tensor
    labels: Tensor
    patients: np.ndarray | None = None
    class_names: tuple[str, ...] = ()

    @property
    def multilabel(self) -> bool:
        return self.labels.ndim == 2

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> Labelled:
        return Labelled(
            self.images.to(device), self.labels.to(device), self.patients, self.class_names
        )


def labelled(data: Cohort | tuple[Tensor, Tensor], name: str) -> Labelled:
    """Take a cohort or a pair (images, labels); refuse what cannot be trained on.

    Args:
        data: a `Cohort`, or images (N, C, …) with labels: whole class numbers (N,), or 0 and 1 as
            floats (N, K) for several labels an image.
        name: "train" or "val", for the messages.

    Raises:
        DataError: no images, no labels, wrong shapes, or pixels that are not finite.
    """
    if isinstance(data, Cohort):
        images, labels = data.images, data.labels
        patients, names = data.patients, data.classes
        if labels is None:
            raise DataError(
                f"the {name} cohort {data.card.name!r} has no labels (task: {data.card.task}): "
                "fit needs one label an image"
            )
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        images, labels = torch.as_tensor(data[0]), torch.as_tensor(data[1])
        patients, names = None, ()
    else:
        raise DataError(
            f"{name} must be a Cohort or a pair (images, labels); got {type(data).__name__}"
        )
    if images.ndim not in (4, 5):
        raise DataError(
            f"{name} images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
            f"{tuple(images.shape)}. For grey images (N, H, W) pass images[:, None]."
        )
    if len(images) == 0:
        raise DataError(f"the {name} set is empty: it has no images")
    if len(labels) != len(images):
        raise DataError(f"{name} has {len(images)} images but {len(labels)} labels")
    if images.is_floating_point():
        bad = ~torch.isfinite(images).flatten(1).all(1)
        if bad.any():
            raise DataError(
                f"{int(bad.sum())} of the {len(images)} {name} images hold NaN or infinite pixels; "
                f"the first is image {int(bad.nonzero()[0])}. Repair or drop them: "
                "cohort[torch.isfinite(cohort.images).flatten(1).all(1)]."
            )
    return Labelled(images, _tidy(labels, name), patients, names)


def _tidy(labels: Tensor, name: str) -> Tensor:
    if labels.ndim == 2 and labels.is_floating_point():
        if not ((labels == 0) | (labels == 1)).all():
            raise DataError(f"multilabel {name} labels must be 0 or 1")
        return labels.float()
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f"{name} labels must be whole class numbers of shape (N,), or floats 0 and 1 of shape "
            f"(N, K) when an image may have several labels; got {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    return labels.long()


def check_against_model(data: Labelled, logits: Tensor, name: str) -> None:
    """Do the labels fit what the model puts out? `logits` come from a first trial forward pass."""
    if logits.ndim != 2:
        raise DataError(
            f"the model must return logits of shape (N, classes); it returned "
            f"{tuple(logits.shape)} for {name} images of shape {tuple(data.images.shape)}"
        )
    outputs = logits.shape[1]
    if data.multilabel:
        if data.labels.shape[1] != outputs:
            raise DataError(
                f"{name} has {data.labels.shape[1]} labels an image, and the model has {outputs} "
                "outputs: build it with num_classes equal to the number of labels"
            )
        return
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= outputs:
        raise DataError(
            f"{name} labels run from {low} to {high}, and a model with num_classes={outputs} knows "
            f"classes 0 to {outputs - 1}: build the model with num_classes={max(high + 1, 2)}"
            + (", or renumber the labels from 0" if low < 0 else "")
        )
    if low == high and name == "train":
        warnings.warn(
            f"every training label is {low}: with a single class there is nothing to tell apart",
            stacklevel=4,
        )


def warn_if_shared(train: Labelled, val: Labelled) -> None:
    """Warn when a patient stands in both sets: validation then flatters the model."""
    if train.patients is None or val.patients is None:
        return
    shared = np.intersect1d(train.patients, val.patients)
    if len(shared):
        examples = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
        warnings.warn(
            f"{len(shared)} patients are in both train and val ({examples}): validation scores "
            "will be too good. Split by patient: train, val, test = cohort.split().",
            stacklevel=3,
        )
