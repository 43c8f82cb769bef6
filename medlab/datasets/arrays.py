"""Images that are in memory already, such as those of an .npz file, as a cohort."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medlab.cohort import Cohort, DataCard, text
from medlab.datasets._pictures import storable
from medlab.datasets._tables import Classes, numbered
from medlab.errors import DataError

UNKNOWN_PATIENTS = (
    "Patients are unknown: each image counts as another patient, so that a patient on both sides "
    "of a split cannot be excluded."
)


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
        images: (N, H, W), (N, H, W, C), (N, C, H, W) or (N, C, D, H, W) with C 1 or 3.
        labels: (N,) or (N, 1) class numbers or names; (N, K) of 0 and 1 for a multilabel task;
            None for none.
        patient: (N,) whose image it is. None says that every image is another patient, and warns.
        classes: class names in label order, or label -> name. Default: the labels, sorted.
        name: for the card.
        fields: further fields of `Cohort`: masks, boxes, sites, official, spacing, files, extras.

    Returns:
        Cohort; images uint8, or float32 where they hold other values.

    Raises:
        DataError: arrays of other shapes, or that do not fit together.
    """
    pixels = np.require(storable(_channels_first(np.asarray(images))), requirements=["C", "W"])
    fields = {key: value for key, value in fields.items() if value is not None}
    target, names = None, tuple(classes or ())
    task = "segmentation" if "masks" in fields else "detection" if "boxes" in fields else "none"
    if labels is not None:
        target, names, task = _target(np.asarray(labels), classes)
    if patient is None:
        warnings.warn(UNKNOWN_PATIENTS, stacklevel=2)
    return Cohort(
        images=torch.from_numpy(pixels),
        labels=None if target is None else torch.from_numpy(target),
        patients=np.arange(len(pixels)) if patient is None else np.array(list(patient), object),
        card=DataCard(
            name=name,
            title=f"Images of {name}",
            task=task,
            classes=names,
            faults=() if patient is not None else (UNKNOWN_PATIENTS,),
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
            f"C of 1 or 3 colours; got {images.shape}. For grey volumes pass images[:, None]."
        )
    return images if first else np.moveaxis(images, -1, 1)


def _target(labels: np.ndarray, classes: Classes) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Labels as numbers, the class names and the task."""
    if labels.shape[1:] == (1,):
        labels = labels[:, 0]
    if labels.ndim not in (1, 2):
        raise DataError(f"labels must be (N,), (N, 1) or (N, K); got {labels.shape}")
    if labels.dtype.kind in "biuf":
        labels = labels.astype(float)  # True and 1.0 are written as 1
        if labels.ndim == 1 and classes is not None and not isinstance(classes, Mapping):
            classes = {str(k): name for k, name in enumerate(classes)}  # a number is a position
    cells = np.array([text(label) for label in labels.flat]).reshape(labels.shape)
    if labels.ndim == 1:
        numbers, names = numbered(cells.tolist(), classes)
        if len(names) < 2:
            raise DataError(f"all images have the label {names[0]!r}: name two classes=…")
        return numbers, names, "binary" if len(names) == 2 else "multiclass"
    names = tuple(classes or map(str, range(labels.shape[1])))
    fits = len(names) == labels.shape[1] and not isinstance(classes, Mapping)
    if not fits or not np.isin(cells, ["0", "1"]).all():
        found = sorted(set(cells.flatten().tolist()))
        raise DataError(f"several labels an image must be 0 or 1 each, a name each; found {found}")
    return cells.astype(np.float32), names, "multilabel"
