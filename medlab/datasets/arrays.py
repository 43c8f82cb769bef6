"""Images that are in memory already, such as those of an .npz file, as a cohort."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from medlab.cohort import Cohort, DataCard
from medlab.datasets._faults import UNKNOWN_PATIENTS, faults
from medlab.datasets._pictures import storable
from medlab.datasets._tables import Classes, class_numbers, indicators, kind_of_task, text
from medlab.errors import DataError


def from_arrays(
    images: Any,
    *,
    labels: Any,
    patient: Sequence | np.ndarray | None,
    classes: Classes = None,
    name: str = "my_images",
    **fields: Any,
) -> Cohort:
    """A cohort from arrays in memory, such as those of an .npz file.

    >>> import numpy as np
    >>> cohort = from_arrays(np.zeros((4, 8, 8), np.uint8), labels=[[0], [1], [0], [1]],
    ...                      patient=["a", "b", "c", "d"], classes=("healthy", "ill"))
    >>> tuple(cohort.images.shape), cohort.labels.tolist(), cohort.card.task
    ((4, 1, 8, 8), [0, 1, 0, 1], 'binary')

    Args:
        images: (N, H, W), (N, H, W, C), (N, C, H, W) or (N, C, D, H, W) with C 1 or 3; whole
            numbers or floats. For grey volumes of shape (N, D, H, W) pass images[:, None].
        labels: (N,) or (N, 1) class numbers or names; (N, K) of 0 and 1 for a multilabel task;
            None for none.
        patient: (N,) whose image it is. None says that every image is another patient, and warns.
        classes: class names in label order, or label -> name. Default: the labels, sorted.
        name: for the card.
        fields: further fields of `Cohort`: masks, boxes, sites, official, spacing, files, extras.

    Returns:
        Cohort; images uint8, or int16 or float32 where they hold other values.

    Raises:
        DataError: arrays that do not fit together, or of which no shape listed fits.
    """
    pixels = storable(np.array(_channels_first(np.asarray(images)), order="C"))
    notes = []
    target, names, task = None, tuple(classes or ()), "none"
    if labels is not None:
        target, names, task = _target(np.asarray(labels), classes)
    if target is not None and target.ndim == 2 and (target.sum(1) == 1).all():
        notes.append(
            "Every image has exactly one label: if the classes exclude each other, pass "
            "labels=labels.argmax(1) for a task with one label an image."
        )
        warnings.warn(notes[-1], stacklevel=2)
    owners = np.arange(len(pixels)) if patient is None else np.array([text(p) for p in patient])
    if patient is None:
        notes.append(UNKNOWN_PATIENTS)
        warnings.warn(notes[-1], stacklevel=2)
    elif (owners == "").any():
        raise DataError(f"{(owners == '').sum()} images have no patient")
    for what, values in (("labels", target), ("patient", owners)):
        if values is not None and len(values) != len(pixels):
            raise DataError(f"{what} has {len(values)} entries for {len(pixels)} images")
    if labels is None:
        shown = [key for key in ("masks", "boxes") if fields.get(key) is not None]
        task = {"masks": "segmentation", "boxes": "detection"}[shown[0]] if shown else "none"
    return Cohort(
        images=torch.from_numpy(pixels),
        labels=None if target is None else torch.from_numpy(target),
        patients=owners,
        card=DataCard(
            name=name,
            title=f"Images of {name}",
            task=task,
            classes=names,
            description="Made by medlab.datasets.from_arrays.",
            faults=tuple(notes + faults(pixels, target, owners, patient is not None)),
            value_range=(0.0, 255.0) if pixels.dtype == np.uint8 else None,
        ),
        **fields,
    )


def _channels_first(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) or (N, C, D, H, W) of what people have."""
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.ndim in (4, 5) and images.shape[k] in (1, 3) for k in (1, -1))
    if first == last:
        raise DataError(
            "images must be (N, H, W), (N, H, W, C), (N, C, H, W) or (N, C, D, H, W) with one axis "
            f"C of 1 or 3 colours; got {images.shape}. For grey volumes pass images[:, None]; "
            "for other orders numpy.moveaxis helps."
        )
    return images if first else np.moveaxis(images, -1, 1)


def _target(labels: np.ndarray, classes: Classes) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Labels as numbers, the class names and the task."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        frame = pd.DataFrame(labels).map(text).rename(columns=str)
        return *indicators(frame, list(frame.columns), classes), "multilabel"
    if labels.ndim not in (1, 2):
        raise DataError(f"labels must be (N,), (N, 1) or (N, K); got {labels.shape}")
    if labels.dtype == bool:
        labels = labels.astype(int)
    cells = [text(label) for label in labels.reshape(len(labels))]
    if "" in cells:
        raise DataError(f"{cells.count('')} images have no label")
    if labels.dtype.kind in "iuf" and isinstance(classes, Sequence):
        classes = {str(k): name for k, name in enumerate(classes)}  # a number is a position
    numbers, names = class_numbers(cells, classes)
    return numbers, names, kind_of_task(names, ordinal=False)
