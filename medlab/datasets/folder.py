"""Your own images and label table as a cohort."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from medlab.cohort import Cohort, DataCard
from medlab.datasets.pictures import Picture, decode, fit
from medlab.datasets.sources import ImageFiles, some
from medlab.datasets.stacking import recolour, stack
from medlab.datasets.tables import Row, folder_rows, match, read_rows
from medlab.datasets.targets import Classes, class_numbers, column_names, indicators, parts
from medlab.errors import DataError

__all__ = ["from_folder"]

Column = str | Callable[[Row], object]


class _Unsaid:
    def __repr__(self) -> str:
        return "(must be said)"


_UNSAID: Any = _Unsaid()


def from_folder(
    images: str | os.PathLike,
    *,
    labels: Any,
    patient: Column | None = _UNSAID,
    label: str | Sequence[str] = "label",
    file: str = "file",
    site: Column | None = None,
    official: Column | None = None,
    classes: Classes = None,
    ordinal: bool = False,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    strict: bool = True,
    name: str = "my_images",
    title: str = "",
    modality: str = "",
    licence: str = "",
    source: str = "",
    progress: bool | None = None,
) -> Cohort:
    """Read a folder or .zip of PNG, JPEG, TIFF or DICOM files and a label table.

    >>> from_folder("scans", labels="labels.csv", patient="patient_id")       # doctest: +SKIP
    >>> from_folder("scans.zip", labels="folder",                             # doctest: +SKIP
    ...             patient=lambda row: row["file"].split("_")[0], size=128)

    Everything that could spoil a result unseen is an error that says what to do: images without a
    label or the reverse, unknown patients, mixed sizes, colours or bit depths.

    Args:
        images: folder (subfolders too) or .zip file; nothing is unpacked.
        labels: CSV file; dict file -> label; dict file -> {column: value}; list of dicts; pandas
            DataFrame; "folder" if each class has a folder; None for no labels.
        patient: whose image it is: a column, or a function of the row (a dict column -> text; it
            also has "dicom:PatientID" and the like if files are DICOM). None says that every image
            is another patient: a warning and the card remind you that a leak cannot be excluded.
        label: label column; or several columns of 0 and 1, for a multilabel task.
        file: column of file names: path within `images`, or file name, with or without ending.
        site: hospital or scanner: column or function of the row.
        official: the part an image belongs to (train, val, test): column or function of the row.
        classes: class names in label order; or what the table says -> class name. Default: what the
            table says, sorted.
        ordinal: classes are grades; their order matters, so `classes` must give it.
        size: bring all images to this size (edge, or height and width): scaled without aliasing,
            proportions kept, margins filled with 0, or with the lowest value if not 8-bit.
        channels: 1 makes everything grey, 3 everything RGB. Default: as stored.
        strict: False leaves out what has no file, no row, no label or cannot be read; the card's
            faults say how much.
        name, title, modality, licence, source: for the card.
        progress: show a progress bar; default yes, unless MEDLAB_PROGRESS is 0.

    Returns:
        Cohort in the order of the table: uint8, or int16 or float32 where files hold more than
        8 bits. `files` has the names, `extras` nothing.

    Raises:
        DataError: with the number and the first names of what is wrong.
    """
    size = _checked_size(size)
    if channels not in (None, 1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (RGB); got {channels}")
    columns = [label] if isinstance(label, str) else list(label)
    multilabel = not isinstance(label, str)
    notes: list[str] = []
    with ImageFiles(images) as files:
        rows = _rows(files, labels, file=file, columns=columns, strict=strict, notes=notes)
        given = [row for row in rows.values() if row]
        if patient is _UNSAID:
            raise DataError(_say_patient(given))
        for role, column in (("patient", patient), ("site", site), ("official", official)):
            _check_column(role, column, given)
        pictures = _decode(files, list(rows), size, channels, strict, progress, notes)
    rows = {name: rows[name] | pictures[name].header for name in pictures}
    pixels = stack(pictures)
    names = np.array(list(rows))
    if labels is None:
        target, names_of_classes, task = None, (), "none"
    elif multilabel:
        target = indicators(rows, columns)
        names_of_classes, task = column_names(columns, classes), "multilabel"
    else:
        target, names_of_classes = class_numbers(rows, columns[0], classes, ordinal=ordinal)
        task = "ordinal" if ordinal else "binary" if len(names_of_classes) == 2 else "multiclass"
    patients = names if patient is None else _resolve("patient", patient, rows)
    if patient is None:
        notes.append(
            "Patients are unknown: each image counts as another patient, so that a patient on both "
            "sides of a split cannot be excluded."
        )
        warnings.warn(notes[-1], stacklevel=2)
    notes += _faults(pixels, target, patients, patient is not None)
    units = Counter(p.units or "display grey level" for p in pictures.values()).most_common()
    if len(units) > 1:
        raise DataError(
            "images have different units: "
            + ", ".join(f"{unit} ({count})" for unit, count in units)
            + ". Read them as separate cohorts."
        )
    return Cohort(
        images=torch.from_numpy(pixels),
        labels=None if target is None else torch.from_numpy(target),
        patients=patients,
        sites=None if site is None else _resolve("site", site, rows),
        official=None if official is None else parts(_resolve("official", official, rows)),
        files=names,
        spacing=_spacing(pictures),
        card=DataCard(
            name=name,
            title=title or f"Images of {files.path.name}",
            task=task,
            classes=names_of_classes,
            modality=modality,
            licence=licence,
            source=source,
            description=f"Read by medlab.from_folder from {files.path.name}.",
            faults=tuple(notes),
            units=units[0][0],
            value_range=(0.0, 255.0) if pixels.dtype == np.uint8 else None,
        ),
    )


def _checked_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(edge, int) and 0 < edge <= 16384 for edge in pair):
        raise DataError(f"size must be an edge in pixels or (height, width), positive; got {size}")
    return pair


def _rows(
    files: ImageFiles, labels, *, file: str, columns: list[str], strict: bool, notes: list[str]
) -> dict[str, Row]:
    """The row of each image that can be used, in the order of the table."""
    if labels is None:
        return {name: {file: name} for name in files.names}
    if isinstance(labels, str) and labels == "folder":
        found = {row[file]: row for row in folder_rows(files.names, file=file, label=columns[0])}
        what, missing, unlabelled = "the folders", [], []
    else:
        table, what = read_rows(labels, file=file, label=columns[0])
        absent = [column for column in columns if column not in table[0]]
        if absent:
            raise DataError(
                f"{what} has no column {some(map(repr, absent))}; it has {some(table[0], 20)}. "
                "Name the label column with label=…"
            )
        found, missing, unlabelled, repeated = match(table, files.names, file=file, what=what)
        if repeated:
            notes.append(f"{repeated} rows of the table stood there twice, word for word.")
    empty = [name for name, row in found.items() if not all(row.get(c) for c in columns)]
    for bad, text in (
        (missing, f"of {what} name a file that is not in {files.path}"),
        (unlabelled, f"images in {files.path} have no row in {what}"),
        (empty, f"images have an empty label in {what}"),
    ):
        if not bad:
            continue
        if strict:
            subject = "rows " if text.startswith("of") else ""
            raise DataError(
                f"{len(bad)} {subject}{text}: {some(bad)}. Correct the table, or pass strict=False "
                "to leave them out."
            )
        notes.append(f"Left out: {len(bad)} {'rows ' if text.startswith('of') else ''}{text}.")
    for name in empty:
        del found[name]
    if not found:
        raise DataError(f"no image of {files.path} has a label in {what}")
    return found


def _say_patient(rows: list[Row]) -> str:
    columns = list(rows[0])
    words = ("patient", "subject", "case")
    likely = [column for column in columns if any(word in column.lower() for word in words)]
    example = f"patient={likely[0]!r}" if likely else "patient='column', or patient=lambda row: …"
    return (
        f"say which patient each image belongs to: {example} (columns: {some(columns, 20)}). "
        "Images of one patient must not be split, or the score is too good. If every image truly "
        "is another patient, pass patient=None."
    )


def _check_column(role: str, column: Column | None, rows: list[Row]) -> None:
    if column is None or callable(column) or column.startswith("dicom:"):
        return
    if column not in rows[0]:
        raise DataError(
            f"{role}={column!r}: there is no such column; the table has {some(rows[0], 20)}"
        )


def _resolve(role: str, column: Column, rows: dict[str, Row]) -> np.ndarray:
    values = []
    for name, row in rows.items():
        try:
            value = column(row) if callable(column) else row.get(column, "")
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"the function given as {role} failed on {name} ({type(error).__name__}: {error}); "
                f"it gets the row {row}"
            ) from error
        values.append("" if value is None else str(value).strip())
    empty = [name for name, value in zip(rows, values, strict=True) if not value]
    if empty:
        raise DataError(
            f"{len(empty)} images have no {role}: {some(empty)}. Complete the table, or give a "
            f"function, such as {role}=lambda row: row[…] or row['file']."
        )
    return np.array(values)


def _decode(
    files: ImageFiles,
    names: list[str],
    size: tuple[int, int] | None,
    channels: int | None,
    strict: bool,
    progress: bool | None,
    notes: list[str],
) -> dict[str, Picture]:
    from tqdm import tqdm

    def one(name: str) -> Picture | DataError:
        try:
            picture = decode(files.read(name), name)
        except DataError as error:
            return error
        pixels = picture.pixels if channels is None else recolour(picture.pixels, channels)
        shape = pixels.shape[1:]
        if size is not None:
            pixels = fit(pixels, size)
        spacing = picture.spacing
        if spacing is not None and size is not None:
            grown = max(shape[0] / size[0], shape[1] / size[1])
            spacing = (spacing[0] * grown, spacing[1] * grown)
        return Picture(pixels, spacing=spacing, header=picture.header, units=picture.units)

    shown = os.environ.get("MEDLAB_PROGRESS", "1") != "0" if progress is None else progress
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        done = list(
            tqdm(pool.map(one, names), total=len(names), desc="reading images", disable=not shown)
        )
    pictures = {n: d for n, d in zip(names, done, strict=True) if isinstance(d, Picture)}
    failed = [str(d) for d in done if isinstance(d, DataError)]
    if failed and (strict or not pictures):
        raise DataError(
            f"{len(failed)} of {len(names)} images cannot be used: {some(failed, 3)}. Correct "
            "them, or pass strict=False to leave them out."
        )
    if failed:
        notes.append(f"Left out: {len(failed)} images that cannot be used ({some(failed, 3)}).")
    return pictures


def _faults(
    pixels: np.ndarray, target: np.ndarray | None, patients: np.ndarray, known: bool
) -> list[str]:
    """What the reader found out about the images that a user should know."""
    notes = []
    single = target is not None and target.ndim == 1
    if known and single:
        seen: dict[str, set[int]] = {}
        for patient, value in zip(patients, target, strict=True):
            seen.setdefault(str(patient), set()).add(int(value))
        both = [patient for patient, values in seen.items() if len(values) > 1]
        if both:
            notes.append(
                f"{len(both)} of {len(seen)} patients have images in more than one class: "
                f"{some(both)}."
            )
    twins: dict[bytes, list[int]] = {}
    for i, image in enumerate(pixels):
        twins.setdefault(blake2b(image.tobytes(), digest_size=16).digest(), []).append(i)
    groups = [group for group in twins.values() if len(group) > 1]
    if groups:
        copies = sum(map(len, groups)) - len(groups)
        text = (
            f"{copies} image{'s are exact copies' * (copies > 1) or ' is an exact copy'} of another"
        )
        if single:
            clash = sum(len({int(target[i]) for i in group}) > 1 for group in groups)
            text += f", {clash} of them with another label" if clash else ""
        notes.append(text + ".")
    return notes


def _spacing(pictures: dict[str, Picture]) -> tuple[float, float] | None:
    """The common pixel spacing, or None where files differ or do not say."""
    found = {picture.spacing for picture in pictures.values()}
    return found.pop() if len(found) == 1 else None
