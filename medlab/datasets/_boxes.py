"""Boxes around findings, from a table or from Pascal VOC XML."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from medlab.datasets._files import Files, some
from medlab.datasets._pictures import placement
from medlab.datasets._tables import locate, read_table, text
from medlab.errors import DataError

_CORNERS = (["x0", "y0", "x1", "y1"], ["xmin", "ymin", "xmax", "ymax"])
_LARGEST_XML = 1 << 24


class _NoEntities(ElementTree.TreeBuilder):
    """Stops at a document type, before entities could be defined that grow without end."""

    def doctype(self, name, pubid, system):
        raise DataError("it declares a document type, which VOC annotations do not need")


def read_boxes(boxes: Any, files: Files, names: list[str], *, file: str) -> pd.DataFrame:
    """One row a box: image, x0, y0, x1, y1 in pixels of the file (x1, y1 exclusive), class.

    Args:
        boxes: a table (see `read_table`) with columns x0, y0, x1, y1, or xmin, ymin, xmax, ymax,
            and, if boxes have classes, label or class; "voc" for XML files of the images' names
            among them; or a folder or .zip of such files.
        files: the images' folder.
        names: the images.
        file: column of file names.

    Returns:
        DataFrame; column `kind`, its class, is "" where boxes have none.

    Raises:
        DataError: columns missing, coordinates that are no numbers, an image without XML file,
            XML that is damaged or declares a document type.
    """
    if isinstance(boxes, str) and boxes == "voc":
        return _voc(files, names)
    if isinstance(boxes, str | os.PathLike) and (
        Path(boxes).expanduser().is_dir() or str(boxes).lower().endswith(".zip")
    ):
        with Files(boxes) as annotations:
            return _voc(annotations, names)
    frame, what = read_table(boxes, file=file, label="label")
    what = what.replace("label", "box")
    columns = next((c for c in _CORNERS if set(c) <= set(frame.columns)), None)
    if columns is None:
        raise DataError(f"{what} has no columns x0, y0, x1, y1; it has {some(frame.columns, 20)}")
    found = locate(frame[file], names, files.path, what)
    if found.isna().any():
        gone = frame[file][found.isna()]
        raise DataError(f"{len(gone)} rows of {what} name a file that is no image: {some(gone)}")
    frame = frame[(frame[columns] != "").any(axis=1)]  # an image without boxes has empty cells
    try:
        corners = frame[columns].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{what} holds a coordinate that is no number: {error}") from error
    out = pd.DataFrame(corners, columns=_CORNERS[0])
    kind = next((c for c in ("label", "class") if c in frame.columns), None)
    kinds = frame[kind].to_numpy() if kind else ""
    return out.assign(image=found[frame.index].to_numpy(), kind=kinds)


def _voc(annotations: Files, names: list[str]) -> pd.DataFrame:
    """VOC counts pixels from 1 and includes the last one: xmin…xmax is xmin − 1 up to xmax."""
    sheets: dict[str, list[str]] = {}
    for name in annotations.names:
        if name.lower().endswith(".xml"):
            sheets.setdefault(PurePosixPath(name).stem, []).append(name)
    rows, missing = [], []
    for name in names:
        found = sheets.get(PurePosixPath(name).stem, [])
        if len(found) > 1:
            raise DataError(f"{name} could have any of the annotations {some(found)}")
        missing += [] if found else [name]
        for sheet in found:
            rows += [(name, *box) for box in _objects(annotations.read(sheet, _LARGEST_XML), sheet)]
    if missing:
        raise DataError(
            f"{len(missing)} images have no XML file in {annotations.path}: {some(missing)}. An "
            "image without findings needs one without objects."
        )
    return pd.DataFrame(rows, columns=["image", *_CORNERS[0], "kind"])


def _objects(data: bytes, name: str) -> list[tuple]:
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoEntities()))
        found = []
        for item in root.iter("object"):
            xmin, ymin, xmax, ymax = (float(item.findtext(f"bndbox/{c}", "")) for c in _CORNERS[1])
            found.append((xmin - 1, ymin - 1, xmax, ymax, text(item.findtext("name"))))
        return found
    except (ElementTree.ParseError, DataError, TypeError, ValueError, LookupError) as error:
        raise DataError(f"{name} cannot be read as a VOC annotation: {error}") from error


def place_boxes(
    boxes: pd.DataFrame, shapes: dict[str, tuple[int, int]], size: tuple[int, int] | None
) -> np.ndarray:
    """Move and scale boxes as their pictures were.

    Args:
        boxes: as from `read_boxes`, M of them.
        shapes: image -> (height, width) of its file.
        size: (height, width) into which all were fitted, or None.

    Returns:
        (M, 4) float32: x0, y0, x1, y1 in pixels of the fitted picture.

    Raises:
        DataError: boxes without area, or more than a pixel outside their picture.
    """
    whole = np.array([shapes[name] for name in boxes["image"]]).reshape(-1, 2)
    low, high = boxes[["y0", "x0"]].to_numpy(), boxes[["y1", "x1"]].to_numpy()
    bad = ((low < -1) | (high > whole + 1) | ~(low < high)).any(axis=1)
    if bad.any():
        rows = boxes[bad][["image", *_CORNERS[0]]].to_numpy()
        told = [f"{name} ({', '.join(f'{edge:g}' for edge in box)})" for name, *box in rows]
        raise DataError(
            f"{len(told)} boxes have no area or lie outside their picture: {some(told, 3)}. They "
            "must be x0 < x1, y0 < y1 in pixels of the file."
        )
    placed = [placement(shapes[name], size or shapes[name]) for name in boxes["image"]]
    inner, margin = np.array(placed).reshape(-1, 2, 2).swapaxes(0, 1)
    moved = np.clip([low, high], 0, whole) * (inner / whole) + margin  # (2, M, 2) of y, x
    return moved.swapaxes(0, 1)[..., ::-1].reshape(-1, 4).astype(np.float32)
