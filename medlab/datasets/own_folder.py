"""Your own images and label table as a cohort."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medlab.cohort import Cohort
from medlab.datasets._files import images_in, some
from medlab.datasets._pictures import decode, fit, stack
from medlab.datasets._tables import Classes, require, rows_of
from medlab.datasets.arrays import UNKNOWN_PATIENTS, from_arrays
from medlab.errors import DataError
from medlab.errors import progress as shown

Column = str | Callable[[dict], object]


def from_folder(
    images: str | os.PathLike,
    *,
    labels: Any,
    patient: Column | None,
    label: str | Sequence[str] = "label",
    site: Column | None = None,
    official: Column | None = None,
    classes: Classes = None,
    size: int | tuple[int, int] | None = None,
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
        official: train, val or test, the part an image belongs to: likewise.
        classes: class names in label order; or what the table says -> class name. Default: what the
            table says, sorted. Needed where a folder may lack a class that another one has.
        size: bring all images to this size (edge, or height and width): scaled without aliasing,
            proportions kept, margins filled with 0, or with the lowest value if not 8-bit.
        progress: show a bar; the environment variable MEDLAB_PROGRESS=0 hides it too.

    Returns:
        Cohort in the order of the table: uint8, or float32 where files hold more than 8 bits.
    """
    folder = Path(images).expanduser()
    edges = (size, size) if isinstance(size, int) else size
    if edges is not None and not (len(edges) == 2 and all(n in range(1, 16385) for n in edges)):
        raise DataError(f"size must be an edge in pixels or (height, width); got {size}")
    files = images_in(folder)
    table, columns = rows_of(folder, list(files), labels, label)
    notes = []
    if unnamed := [name for name in files if name not in table.index]:
        notes.append(f"Left out: {len(unnamed)} images that no row names: {some(unnamed)}.")
        warnings.warn(f"{folder}: {notes[0]}", stacklevel=2)

    def one(image: str) -> np.ndarray:
        pixels = decode(files[image])
        return pixels if edges is None else fit(pixels, (edges[0], edges[1]))

    look: dict = {"desc": "reading images", "leave": True, "disable": not progress}
    with ThreadPoolExecutor(max_workers=8) as pool:
        pictures = list(shown(pool.map(one, table.index), total=len(table), **look))
    fields: dict[str, Any] = {"files": np.array(table.index)}
    if patient is None:
        warnings.warn(UNKNOWN_PATIENTS, stacklevel=2)
        notes.append(UNKNOWN_PATIENTS)
    for role, column in (("patient", patient or "file"), ("sites", site), ("official", official)):
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
