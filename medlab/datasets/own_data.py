"""Your own images as a cohort: a folder and its table, or arrays that are in memory already."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medlab.cohort import Cohort, DataCard, text
from medlab.datasets._files import images_in, some
from medlab.datasets._pictures import decode, fit, stack, storable
from medlab.datasets._tables import Classes, numbered, require, rows_of
from medlab.errors import DataError
from medlab.errors import progress as shown

_UNKNOWN_PATIENTS = (
    "Patients are unknown: each image counts as another patient, so that a patient on both sides "
    "of a split cannot be excluded."
)
Column = str | Callable[[dict], object]


def from_folder(
    images: str | os.PathLike,
    *,
    labels: Any,
    patient: Column | None,
    label: str | Sequence[str] = "label",
    site: Column | None = None,
    classes: Classes = None,
    size: int | None = None,
    progress: bool = True,
) -> Cohort:
    """Read a folder of PNG, JPEG, TIFF, BMP or WebP files and a label table.

    >>> from_folder("scans", labels="labels.csv", patient="patient_id")  # doctest: +SKIP

    Everything that could spoil a result unseen is an error with the first names of what is wrong:
    rows without an image or a label, files of a kind that is not read (tables and texts apart),
    unknown patients, mixed sizes, colours or bit depths. Images that no row names are left out: a
    warning and the card say which.

    Args:
        images: folder (subfolders too).
        labels: CSV file (comma, semicolon or tab; UTF-8); DataFrame, whose index may hold the file
            names; list of dicts; dict or Series file -> label; "folder" if each class has a folder;
            None for no labels. File names stand in the column `file`: path within `images` or from
            further up, or name alone, with or without ending.
        patient: whose image it is: a column, or a function of the row (a dict column -> text),
            which has "file" and "folder" (where it lies) too. None: every image is another
            patient, of which a warning and the card remind.
        label: label column; or several columns of 0 and 1, for a multilabel task.
        site: hospital or scanner: column or function of the row.
        classes: class names in label order; or what the table says -> class name. Default: what the
            table says, sorted. Needed where a folder may lack a class that another one has.
        size: bring all images to squares of this edge: scaled without aliasing, proportions kept,
            margins filled with 0, or with the lowest value if not 8-bit.
        progress: show a bar; the environment variable MEDLAB_PROGRESS=0 hides it too.

    Returns:
        Cohort in the order of the table: uint8, or float32 where files hold more than 8 bits.
    """
    folder = Path(images).expanduser()
    if size is not None and size not in range(1, 16385):
        raise DataError(f"size must be an edge in pixels, 1 to 16384; got {size}")
    files = images_in(folder)
    table, columns = rows_of(folder, list(files), labels, label)
    notes = []
    if unnamed := [name for name in files if name not in table.index]:
        notes.append(f"Left out: {len(unnamed)} images that no row names: {some(unnamed)}.")
        warnings.warn(f"{folder}: {notes[0]}", stacklevel=2)

    def one(image: str) -> np.ndarray:
        pixels = decode(files[image])
        return pixels if size is None else fit(pixels, size)

    look: dict = {"desc": "reading images", "leave": True, "disable": not progress}
    with ThreadPoolExecutor(max_workers=8) as pool:
        pictures = list(shown(pool.map(one, table.index), total=len(table), **look))
    fields: dict[str, Any] = {"files": np.array(table.index)}
    if patient is None:
        warnings.warn(_UNKNOWN_PATIENTS, stacklevel=2)
        notes.append(_UNKNOWN_PATIENTS)
    for role, column in (("patient", patient or "file"), ("sites", site)):
        if callable(column):
            fields[role] = [column(row) for row in table.to_dict("records")]
        elif column is not None:
            require(table, [column])
            fields[role] = table[column]
    cohort = from_arrays(
        stack(table.index, pictures),
        labels=table[columns] if columns else None,
        classes=columns if len(columns) > 1 and classes is None else classes,
        name=folder.absolute().name,
        **fields,
    )
    about = f"Read by medlab.from_folder from {folder.name}."
    units = "display grey level"
    card = replace(cohort.card, description=about, faults=tuple(notes), units=units)
    return replace(cohort, card=card)


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
        warnings.warn(_UNKNOWN_PATIENTS, stacklevel=2)
    return Cohort(
        images=torch.from_numpy(pixels),
        labels=None if target is None else torch.from_numpy(target),
        patients=np.arange(len(pixels)) if patient is None else np.array(list(patient), object),
        card=DataCard(
            name=name,
            title=f"Images of {name}",
            task=task,
            classes=names,
            faults=() if patient is not None else (_UNKNOWN_PATIENTS,),
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
