"""One slice at many times: a cine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from medlab.dicom._frames import frame_times
from medlab.dicom._planes import Files, read_planes, require_same, stacked, where
from medlab.dicom.image import DicomImage
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
        after the R wave or after the first frame; the header is the first frame's.

    Raises:
        DicomError: several positions or patients, one frame only, frames without a time or at the
            same time, different sizes, damaged files.
    """
    planes = read_planes(folder, series)
    if len(planes) < 2:
        raise DicomError(f"{where(planes)}: one frame only; a cine has several")
    for what in ("position", "orientation", "spacing"):
        values = [getattr(plane, what) for plane in planes]
        require_same(f"{what} (a volume? read_series reads it)", planes, values, tolerance=0.01)
    if len({plane.path for plane in planes}) == 1:
        times = frame_times(planes[0].header, len(planes), planes[0].path)
        if times is None:
            raise DicomError(
                f"{where(planes)}: the header gives its frames no times, so they may be no cine "
                "and have no order in time; read_image reads them as they stand"
            )
        times = [time - min(times) for time in times]
    else:
        found = [number(plane.header, "TriggerTime", plane.path) for plane in planes]
        times = [time for time in found if time is not None]
        if len(times) < len(planes):
            raise DicomError(
                f"{planes[found.index(None)].path}: the header has no TriggerTime, so the frames "
                "have no order in time"
            )
    if len(set(times)) < len(planes):
        raise DicomError(f"{where(planes)}: frames have the same time: {sorted(times)} ms")
    order = np.argsort(times)
    ordered = [planes[k] for k in order]
    image, pixels, padded = stacked(ordered, max_bytes=max_bytes, mirror=True)
    moments = torch.tensor(times, dtype=torch.float32)[order]
    return replace(image, pixels=pixels, padding=padded, times=moments)
