"""One slice at many times: a cine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from medlab.dicom._frames import frame_times
from medlab.dicom._planes import Plane, read_planes, require_same, stacked, where
from medlab.dicom.image import DicomImage, tell_padding
from medlab.dicom.listing import Files
from medlab.dicom.source import MAX_BYTES, number
from medlab.errors import DicomError


def read_cine(
    folder: Files,
    *,
    series: str | int | None = None,
    max_bytes: int = MAX_BYTES,
) -> DicomImage:
    """Read the frames of one slice in the order of time, whatever their order in the file.

    A cine comes as one multi-frame file or as one file a frame, all at the same position. Files are
    sorted by TriggerTime, the time after the R wave of the heart beat, frames by the times that
    their file gives them.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves.
        series: which one, where there are several: its SeriesInstanceUID or SeriesNumber.
        max_bytes: largest file and largest decoded array accepted.

    Returns:
        An image whose `pixels` are (F, H, W), or (F, 3, H, W) for colour, and whose `times` are ms
        after the R wave or after the first frame; header and windows are the first frame's.

    Raises:
        DicomError: several positions or patients, one frame only, frames without a time or at the
            same time, different sizes, damaged files.
    """
    planes, _ = read_planes(folder, series)
    if len(planes) < 2:
        raise DicomError(f"{where(planes)}: one frame only; a cine has several")
    for what in ("position", "orientation", "spacing"):
        values = [getattr(plane, what) for plane in planes]
        require_same(f"{what} (a volume? read_series reads it)", planes, values, tolerance=0.01)
    times = _times(planes)
    order = np.argsort(times, kind="stable")
    planes, times = [planes[k] for k in order], [times[k] for k in order]
    for k in range(1, len(planes)):
        if times[k - 1] == times[k]:
            raise DicomError(
                f"{where(planes)}: {planes[k - 1]} and {planes[k]} have the same time, "
                f"{times[k]:g} ms"
            )
    image, pixels, padded = stacked(planes, max_bytes=max_bytes, mirror=True)
    tell_padding(padded, where(planes))
    ordered = torch.tensor(times, dtype=torch.float32)
    return replace(image, pixels=pixels, padding=padded, times=ordered)


def _times(planes: list[Plane]) -> list[float]:
    """ms of each plane: a multi-frame file's own, else each file's TriggerTime."""
    if len({plane.path for plane in planes}) == 1:
        own = frame_times(planes[0].header, len(planes), planes[0].path)
        if own is None:
            raise DicomError(
                f"{planes[0].path}: the header gives its frames no times, so they may be no cine "
                "and have no order in time; read_image reads them as they stand"
            )
        return [time - min(own) for time in own]
    times = []
    for plane in planes:
        time = number(plane.header, "TriggerTime", plane.path)
        if time is None:
            raise DicomError(
                f"{plane.path}: the header has no TriggerTime, so the frames have no order in time"
            )
        times.append(time)
    return times
