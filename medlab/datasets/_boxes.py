"""Boxes around findings, from a table or from Pascal VOC XML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from medlab.cohort import text
from medlab.datasets._files import reading, some
from medlab.datasets._pictures import Picture, placement
from medlab.datasets._tables import locate, read_table, require
from medlab.errors import DataError

_CORNERS = ["x0", "y0", "x1", "y1"]
_VOC = ["xmin", "ymin", "xmax", "ymax"]


def read_boxes(boxes: Any, names: Sequence[str], folder: Path) -> pd.DataFrame:
    """One row a box: image, x0, y0, x1, y1 in pixels of the file (x1, y1 exclusive), label.

    The label is "finding" where boxes have none. For `boxes` see `from_folder`.

    Raises:
        DataError: columns missing, coordinates that are no numbers, an image without XML file,
            damaged XML.
    """
    if isinstance(boxes, str | os.PathLike) and Path(boxes).expanduser().is_dir():
        return _voc(Path(boxes).expanduser(), names)
    frame = read_table(boxes, label="label")
    frame = frame.rename(columns=dict(zip(_VOC, _CORNERS, strict=True)) | {"class": "label"})
    require(frame, _CORNERS)
    frame["image"] = locate(frame["file"], names, folder)
    frame = frame[(frame[_CORNERS] != "").any(axis=1)]  # an image without boxes has empty cells
    with reading("the table of boxes holds a coordinate that is no number"):
        frame = frame.astype(dict.fromkeys(_CORNERS, float))
    kinds = frame["label"].replace("", "finding") if "label" in frame else "finding"
    return frame.assign(label=kinds)


def _voc(folder: Path, names: Sequence[str]) -> pd.DataFrame:
    """VOC counts pixels from 1 and includes the last one: xmin…xmax is xmin − 1 up to xmax."""
    images = {PurePosixPath(name).stem: name for name in names}
    sheets = sorted(folder.rglob("[!.]*.[xX][mM][lL]"))
    found = {normalize("NFC", path.stem): path for path in sheets}
    if len(found) < len(sheets) or len(images) < len(names):
        raise DataError("VOC files belong to the image of their name, but two have one name")
    if missing := [name for stem, name in images.items() if stem not in found]:
        raise DataError(
            f"{len(missing)} images have no XML file in {folder}: {some(missing)}. An image "
            "without findings needs one without objects."
        )
    rows = []
    for stem, name in images.items():
        with reading(f"{found[stem]} is no VOC annotation"):
            for item in ElementTree.parse(found[stem]).iter("object"):
                x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{c}", "")) for c in _VOC)
                rows.append((name, x0 - 1, y0 - 1, x1, y1, text(item.findtext("name"))))
    return pd.DataFrame(rows, columns=["image", *_CORNERS, "label"])


def place_boxes(
    boxes: pd.DataFrame, pictures: dict[str, Picture], size: tuple[int, int] | None
) -> np.ndarray:
    """M boxes moved and scaled as their pictures were, which were fitted into `size` if given.

    Returns:
        (M, 4) float32: x0, y0, x1, y1 in pixels of the fitted picture.

    Raises:
        DataError: boxes without area, or more than a pixel outside their picture.
    """
    shapes = [pictures[name].shape for name in boxes["image"]]
    whole = np.array(shapes).reshape(-1, 2)
    low, high = boxes[["y0", "x0"]].to_numpy(float), boxes[["y1", "x1"]].to_numpy(float)
    bad = ((low < -1) | (high > whole + 1) | ~(low < high)).any(axis=1)
    if bad.any():
        rows = boxes[bad][["image", *_CORNERS]].to_numpy()
        told = some((f"{name} {tuple(box)}" for name, *box in rows), 3)
        raise DataError(
            f"{len(rows)} boxes have no area or lie outside their picture: {told}. They must be "
            "x0 < x1, y0 < y1 in pixels of the file."
        )
    placed = [placement(shape, size or shape) for shape in shapes]
    inner, margin = np.array(placed).reshape(-1, 2, 2).swapaxes(0, 1)
    moved = np.clip([low, high], 0, whole) * (inner / whole) + margin  # (2, M, 2) of y, x
    return moved.swapaxes(0, 1)[..., ::-1].reshape(-1, 4).astype(np.float32)
