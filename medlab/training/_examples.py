"""What training takes: a cohort, or a pair of tensors that becomes one, checked before a step."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError


def as_cohort(data: Cohort | tuple[Tensor, Tensor], name: str) -> Cohort:
    """A cohort, or a pair (images, targets) as a cohort; refuse what cannot be trained on.

    Args:
        data: a `Cohort`, or images (N, C, …) with whole class numbers (N,), with 0 and 1 as floats
            (N, K) for several labels an image, or with masks of the images' size.
        name: "train" or "val", for the messages.

    Raises:
        DataError: no images, wrong shapes, or pixels that are not finite.
    """
    cohort = data if isinstance(data, Cohort) else _from_pair(data, name)
    images = cohort.images
    if len(images) == 0:
        raise DataError(f"the {name} set is empty: it has no images")
    if images.is_floating_point():
        bad = ~torch.isfinite(images).flatten(1).all(1)
        if bad.any():
            raise DataError(
                f"{int(bad.sum())} of the {len(images)} {name} images hold NaN or infinite pixels; "
                f"the first is image {int(bad.nonzero()[0])}. Repair or drop them: "
                "cohort[torch.isfinite(cohort.images).flatten(1).all(1)]."
            )
    return cohort


def _from_pair(data: Any, name: str) -> Cohort:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise DataError(
            f"{name} must be a Cohort or a pair (images, labels); got {type(data).__name__}"
        )
    images, targets = torch.as_tensor(data[0]), torch.as_tensor(data[1])
    if images.ndim not in (4, 5):
        raise DataError(
            f"{name} images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
            f"{tuple(images.shape)}. For grey images (N, H, W) pass images[:, None]."
        )
    if len(targets) != len(images):
        raise DataError(f"{name} has {len(images)} images but {len(targets)} labels")
    whole = not (targets.is_floating_point() or targets.is_complex())
    if whole and targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]  # as many tables and MedMNIST's files have them
    if whole and targets.shape[1:] == images.shape[2:]:
        return Cohort(images=images, masks=targets, card=_card(name, "segmentation"))
    if targets.ndim == 2 and targets.is_floating_point():
        if not ((targets == 0) | (targets == 1)).all():
            raise DataError(f"multilabel {name} labels must be 0 or 1")
        return Cohort(images=images, labels=targets, card=_card(name, "multilabel"))
    if targets.ndim != 1 or not whole:
        raise DataError(
            f"{name} labels must be whole class numbers of shape (N,), floats 0 and 1 of shape "
            "(N, K) when an image may have several labels, or whole-number masks of the images' "
            f"size; got {targets.dtype} of shape {tuple(targets.shape)}"
        )
    if len(targets) and targets.min() < 0:
        raise DataError(
            f"{name} labels run from {int(targets.min())} to {int(targets.max())}: renumber them "
            "from 0"
        )
    return Cohort(images=images, labels=targets, card=_card(name, "multiclass"))


def _card(name: str, task: str) -> DataCard:
    return DataCard(name=name, title=name, task=task)


def check_parts(train: Cohort, val: Cohort) -> None:
    """Refuse two cohorts whose class numbers mean different things; warn of shared patients.

    Raises:
        DataError: class names that differ, in what they are or in their order.
    """
    if train.classes and val.classes and train.classes != val.classes:
        raise DataError(
            f"train and val number their classes differently: {', '.join(train.classes)} and "
            f"{', '.join(val.classes)}. Label 1 would mean two things. Load both with the same "
            "classes, in the same order."
        )
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
