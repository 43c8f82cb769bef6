"""One slice at many times: a cine."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medlab.dicom.folder import Files
from medlab.dicom.image import DicomImage, read_image
from medlab.dicom.source import MAX_BYTES, number
from medlab.dicom.stack import Plane, read_planes
from medlab.errors import DicomError

__all__ = ["read_cine"]


def read_cine(
    folder: Files,
    *,
    series: str | int | None = None,
    max_bytes: int = MAX_BYTES,
) -> DicomImage:
    """Read the frames of one slice in the order of time.

    A cine comes as one multi-frame file, which `read_image` reads too, or as one file a frame, all
    at the same position. Those are sorted by TriggerTime, the time after the R wave of the heart
    beat, never by file name.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves; or one multi-frame
            file.
        series: which one, where there are several: its SeriesInstanceUID or SeriesNumber.
        max_bytes: largest file and largest decoded array accepted.

    Returns:
        An image whose `pixels` are (F, H, W) and whose `times` are ms after the R wave; header and
        windows are the first frame's.

    Raises:
        DicomError: several positions, frames without a time or at the same time, different sizes,
            damaged files.
    """
    if isinstance(folder, (str, Path)) and Path(folder).is_file():
        image = read_image(folder, max_bytes=max_bytes)
        if image.frames.shape[0] < 2:
            raise DicomError(f"{folder}: one frame only; pass the folder that holds the frames")
        return image
    planes, _ = read_planes(folder, series=series)
    _require_one_slice(planes)
    times = [number(plane.header, "TriggerTime", plane.path) for plane in planes]
    if None in times:
        raise DicomError(
            f"{planes[times.index(None)].path}: the header has no TriggerTime, so the frames have "
            "no order in time"
        )
    order = np.argsort(times, kind="stable")
    for a, b in itertools.pairwise(order):
        if times[a] == times[b]:
            raise DicomError(
                f"{planes[a].path.parent}: {planes[a]} and {planes[b]} have the same TriggerTime, "
                f"{times[a]:g} ms"
            )
    rows, columns = planes[0].size
    if len(planes) * rows * columns * 4 > max_bytes:
        raise DicomError(
            f"{planes[0].path.parent}: {len(planes)} frames of {rows}×{columns} exceed the limit "
            f"of {max_bytes:,} bytes; pass max_bytes= to allow more"
        )
    images = [read_image(planes[k].path, max_bytes=max_bytes) for k in order]
    kinds = {(image.units, tuple(image.pixels.shape)) for image in images}
    if len(kinds) != 1:
        raise DicomError(
            f"{planes[0].path.parent}: the frames differ in unit or shape: {sorted(kinds)}"
        )
    return replace(
        images[0],
        pixels=torch.stack([image.pixels for image in images]),
        times=torch.tensor([times[k] for k in order], dtype=torch.float32),
    )


def _require_one_slice(planes: list[Plane]) -> None:
    folder = planes[0].path.parent
    if len(planes) < 2 or len({plane.path for plane in planes}) != len(planes):
        raise DicomError(
            f"{folder}: a cine needs one file a frame, or pass its one multi-frame file"
        )
    places = np.stack([plane.position for plane in planes])
    spread = float(np.abs(places - places[0]).max())
    if spread > 0.01 or len({plane.orientation for plane in planes}) > 1:
        count = len(np.unique(places.round(2), axis=0))
        raise DicomError(
            f"{folder}: the images lie at {count} positions, {spread:g} mm apart at most: pass the "
            "files of one slice, or read a volume with read_series"
        )
    if len({plane.size for plane in planes}) > 1:
        raise DicomError(f"{folder}: the images differ in size: {sorted({p.size for p in planes})}")
