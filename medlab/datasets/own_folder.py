"""Your own images and label table as a cohort."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch

from medlab.cohort import Cohort, DataCard
from medlab.datasets._boxes import place_boxes, read_boxes
from medlab.datasets._download import shows_progress
from medlab.datasets._faults import UNKNOWN_PATIENTS, faults
from medlab.datasets._files import Files, some
from medlab.datasets._pictures import Picture, decode, fit, recolour, stack
from medlab.datasets._tables import (
    Classes,
    class_numbers,
    folder_table,
    indicators,
    kind_of_task,
    locate,
    one_row_each,
    read_table,
    text,
)
from medlab.errors import DataError

Column = str | Callable[[dict], object]


_ABOUT = {"title", "modality", "licence", "source", "citation", "url"}
_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


def from_folder(
    images: str | os.PathLike,
    *,
    labels: Any,
    patient: Any = ...,
    label: str | Sequence[str] = "label",
    file: str = "file",
    boxes: Any = None,
    site: Column | None = None,
    official: Column | None = None,
    classes: Classes = None,
    ordinal: bool = False,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    strict: bool = True,
    name: str = "my_images",
    progress: bool | None = None,
    **about: Any,
) -> Cohort:
    """Read a folder or .zip of PNG, JPEG, TIFF, BMP, WebP or DICOM files and a label table.

    >>> from_folder("scans", labels="labels.csv", patient="patient_id")       # doctest: +SKIP
    >>> from_folder("scans.zip", labels="folder",                             # doctest: +SKIP
    ...             patient=lambda row: row["file"].split("_")[0], size=128)
    >>> from_folder("smears", labels=None, boxes="voc", patient=None)         # doctest: +SKIP

    Everything that could spoil a result unseen is an error that says what to do: images without a
    label or the reverse, unknown patients, mixed sizes, colours or bit depths.

    Args:
        images: folder (subfolders too) or .zip file; nothing is unpacked.
        labels: CSV file; dict file -> label; dict file -> {column: value}; list of dicts; pandas
            Series or DataFrame, whose index may hold the file names; "folder" if each class has a
            folder; None for no labels.
        patient: whose image it is: a column, or a function of the row (a dict column -> text; it
            also has "dicom:PatientID" and the like if files are DICOM). None says that every image
            is another patient: a warning and the card remind you that a leak cannot be excluded.
        label: label column; or several columns of 0 and 1, for a multilabel task.
        file: column of file names: path within `images` or from further up, or file name, with or
            without ending.
        boxes: where findings lie: a table like `labels`, one row a box, with columns x0, y0, x1, y1
            (pixels, x1 and y1 exclusive) or xmin, ymin, xmax, ymax, and perhaps label; "voc" for
            Pascal VOC XML files among the images; or the folder of the XML files. They move with
            the image when it is brought to `size`.
        site: hospital or scanner: column or function of the row.
        official: the part an image belongs to (train, val, test): column or function of the row.
        classes: class names in label order; or what the table says -> class name. Default: what the
            table says, sorted. Say it for folders of which one may lack a class, such as train
            and test, or their numbers will not agree.
        ordinal: classes are grades; their order matters, so `classes` must give it.
        size: bring all images to this size (edge, or height and width): scaled without aliasing,
            proportions kept, margins filled with 0, or with the lowest value if not 8-bit.
        channels: 1 makes everything grey, 3 everything RGB. Default: as stored.
        strict: False leaves out what has no file, no row, no label or cannot be read; the card's
            faults say how much.
        name: for the card.
        progress: show a progress bar; default yes, unless MEDLAB_PROGRESS is 0.
        about: more for the card: title, modality, licence, source, citation, url.

    Returns:
        Cohort in the order of the table: uint8, or int16 or float32 where files hold more than
        8 bits. `files` has the names. With boxes, `extras["box_labels"]` has an int64 tensor an
        image, the class of each box; without labels the task is detection and the classes those of
        the boxes.

    Raises:
        DataError: with the number and the first names of what is wrong.
    """
    size = _checked_size(size)
    if channels not in (None, 1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (RGB); got {channels}")
    if strange := about.keys() - _ABOUT:
        raise DataError(f"from_folder has no option {some(map(repr, sorted(strange)))}")
    columns = [label] if isinstance(label, str) else list(label)
    notes: list[str] = []
    with Files(images) as files:
        table = _table(files, labels, file=file, columns=columns, strict=strict, notes=notes)
        if patient is ...:
            raise DataError(_say_patient(list(table.columns)))
        for role, column in (("patient", patient), ("site", site), ("official", official)):
            if isinstance(column, str) and not column.startswith("dicom:") and column not in table:
                raise DataError(
                    f"{role}={column!r}: there is no such column; the table has "
                    f"{some(table.columns, 20)}"
                )
        found = None if boxes is None else read_boxes(boxes, files, list(table.index), file=file)
        pictures, shapes = _decode(
            files, list(table.index), size, channels, strict, progress, notes
        )
    table = table.loc[list(pictures)]
    headers = pd.DataFrame([p.header for p in pictures.values()], index=table.index)
    table = table.join(headers).fillna("")
    pixels = stack(pictures)
    names: tuple[str, ...]
    target, names, task = None, (), "none"
    if labels is not None and not isinstance(label, str):
        (target, names), task = indicators(table, columns, classes), "multilabel"
    elif labels is not None:
        target, names = class_numbers(table[columns[0]], classes, ordinal=ordinal)
        task = kind_of_task(names, ordinal)
    corners, extras = None, dict[str, Any]()
    if found is not None:
        found = found[found["image"].isin(pictures)]
        edges = place_boxes(found, shapes, size)
        numbers, box_classes = class_numbers(
            found["kind"].replace("", "finding"), classes if labels is None else None, fewest=0
        )
        if labels is None:
            names, task = box_classes, "detection"
        elif len(box_classes) > 1:
            notes.append(f"Boxes are numbered apart from the labels: {', '.join(box_classes)}.")
        chosen = [(found["image"] == image).to_numpy() for image in pictures]
        corners = [torch.from_numpy(edges[rows]) for rows in chosen]
        extras = {"box_labels": [torch.from_numpy(numbers[rows]) for rows in chosen]}
    patients = np.array(list(pictures)) if patient is None else _resolve("patient", patient, table)
    if patient is None:
        notes.append(UNKNOWN_PATIENTS)
        warnings.warn(UNKNOWN_PATIENTS, stacklevel=2)
    units = Counter(p.units or "display grey level" for p in pictures.values()).most_common()
    if len(units) > 1:
        raise DataError(
            "images have different units: "
            + ", ".join(f"{unit} ({count})" for unit, count in units)
            + ". Read them as separate cohorts."
        )
    spacings = {picture.spacing for picture in pictures.values()}
    return Cohort(
        images=torch.from_numpy(pixels),
        labels=None if target is None else torch.from_numpy(target),
        boxes=corners,
        patients=patients,
        sites=None if site is None else _resolve("site", site, table),
        official=None if official is None else _parts(_resolve("official", official, table)),
        files=np.array(list(pictures)),
        spacing=spacings.pop() if len(spacings) == 1 else None,
        extras=extras,
        card=DataCard(
            name=name,
            title=about.pop("title", f"Images of {files.path.name}"),
            task=task,
            classes=names,
            description=f"Read by medlab.from_folder from {files.path.name}.",
            faults=tuple(notes + faults(pixels, target, patients, patient is not None)),
            units=units[0][0],
            value_range=(0.0, 255.0) if pixels.dtype == np.uint8 else None,
            **about,
        ),
    )


def _checked_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(edge, int) and 0 < edge <= 16384 for edge in pair):
        raise DataError(f"size must be an edge in pixels or (height, width), positive; got {size}")
    return pair


def _parts(values: np.ndarray) -> np.ndarray:
    """Names of parts as people write them to "train", "val" and "test", which Cohort checks."""
    return np.array([_SYNONYMS.get(value.lower(), value.lower()) for value in values])


def _table(
    files: Files, labels, *, file: str, columns: list[str], strict: bool, notes: list[str]
) -> pd.DataFrame:
    """The row of each image that can be used, in the order of the table."""
    names, left_out = files.images()
    if left_out:
        notes.append(left_out)
        warnings.warn(f"{files.path}: {left_out}", stacklevel=3)
    if labels is None:
        return pd.DataFrame({file: names}, index=list(names))
    if isinstance(labels, str) and labels == "folder":
        frame, what = folder_table(names, file=file, label=columns[0]), "the folders"
    else:
        frame, what = read_table(labels, file=file, label=columns[0])
    if absent := [column for column in columns if column not in frame]:
        raise DataError(
            f"{what} has no column {some(map(repr, absent))}; it has {some(frame.columns, 20)}. "
            "Name the label column with label=…"
        )
    found = locate(frame[file], names, files.path, what)
    gone = frame[file][found.isna()].tolist()
    frame = frame[found.notna()].set_index(found[found.notna()])
    usable = one_row_each(frame, file=file, what=what)
    if repeated := len(frame) - len(usable):
        notes.append(f"{repeated} rows of the table stood there twice, word for word.")
    unlabelled = [name for name in names if name not in usable.index]
    empty = usable.index[(usable[columns] == "").any(axis=1)].tolist()
    for bad, fact in (
        (gone, f"rows of {what} name a file that is not in {files.path}"),
        (unlabelled, f"images in {files.path} have no row in {what}"),
        (empty, f"images have an empty label in {what}"),
    ):
        if bad and strict:
            raise DataError(
                f"{len(bad)} {fact}: {some(bad)}.{_spelling(gone, unlabelled)} Correct the table, "
                "or pass strict=False to leave them out."
            )
        if bad:
            notes.append(f"Left out: {len(bad)} {fact}.")
    usable = usable.drop(index=empty)
    if usable.empty:
        raise DataError(f"no image of {files.path} has a label in {what}")
    return usable


def _spelling(gone: list[str], unlabelled: list[str]) -> str:
    """A hint where names differ from files in upper and lower case alone."""
    files = {name.casefold(): name for name in unlabelled}
    alike = [f"{name} and {files[name.casefold()]}" for name in gone if name.casefold() in files]
    return f" These differ in upper and lower case: {some(alike, 2)}." if alike else ""


def _say_patient(columns: list[str]) -> str:
    words = ("patient", "subject", "case")
    likely = [column for column in columns if any(word in column.lower() for word in words)]
    example = f"patient={likely[0]!r}" if likely else "patient='column', or patient=lambda row: …"
    return (
        f"say which patient each image belongs to: {example} (columns: {some(columns, 20)}). "
        "Images of one patient must not be split, or the score is too good. If every image truly "
        "is another patient, pass patient=None."
    )


def _resolve(role: str, column: Column, table: pd.DataFrame) -> np.ndarray:
    values = []
    for name, row in zip(table.index, table.to_dict("records"), strict=True):
        try:
            values.append(text(column(row) if callable(column) else row.get(column, "")))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"the function given as {role} failed on {name} ({type(error).__name__}: {error}); "
                f"it gets the row {row}"
            ) from error
    if empty := [name for name, value in zip(table.index, values, strict=True) if not value]:
        raise DataError(
            f"{len(empty)} images have no {role}: {some(empty)}. Complete the table, or give a "
            f"function, such as {role}=lambda row: row[…] or row['file']."
        )
    return np.array(values)


def _decode(
    files: Files,
    names: list[str],
    size: tuple[int, int] | None,
    channels: int | None,
    strict: bool,
    progress: bool | None,
    notes: list[str],
) -> tuple[dict[str, Picture], dict[str, tuple[int, int]]]:
    """Pictures at their final size, and (height, width) of each file."""
    from tqdm import tqdm

    shapes = {}

    def one(name: str) -> Picture | DataError:
        try:
            picture = decode(files.read(name), name)
        except DataError as error:
            return error
        pixels = picture.pixels if channels is None else recolour(picture.pixels, channels)
        height, width = shapes[name] = pixels.shape[1:]
        spacing = picture.spacing
        if size is not None:
            pixels = fit(pixels, size)
            grown = max(height / size[0], width / size[1])
            spacing = spacing and (spacing[0] * grown, spacing[1] * grown)
        return Picture(pixels, spacing=spacing, header=picture.header, units=picture.units)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        shown = tqdm(
            pool.map(one, names),
            total=len(names),
            desc="reading images",
            disable=not shows_progress(progress),
        )
        done = dict(zip(names, shown, strict=True))
    pictures = {name: d for name, d in done.items() if isinstance(d, Picture)}
    failed = [str(d) for d in done.values() if isinstance(d, DataError)]
    if failed and (strict or not pictures):
        raise DataError(
            f"{len(failed)} of {len(names)} images cannot be used: {some(failed, 3)}. Correct "
            "them, or pass strict=False to leave them out."
        )
    if failed:
        notes.append(f"Left out: {len(failed)} images that cannot be used ({some(failed, 3)}).")
    return pictures, shapes
