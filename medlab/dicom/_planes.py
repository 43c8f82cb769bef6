"""The image planes of one series: where each lies, and the pixels of many in one array."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom._frames import is_mosaic, orientation, pixel_spacing, position
from medlab.dicom.image import DicomImage, decoded_image
from medlab.dicom.listing import Files, LeftOut, choose_series
from medlab.dicom.source import integer, text
from medlab.errors import DicomError


@dataclass(frozen=True)
class Plane:
    """One image plane: a file, or one frame of a multi-frame file.

    Position (mm, LPS), direction cosines and pixel spacing (mm) are tuples of numbers, or None
    where the header is silent.
    """

    path: Path
    frame: int
    size: tuple[int, int]
    header: Dataset = field(repr=False)
    position: Any
    orientation: Any
    spacing: Any

    def __str__(self) -> str:
        return self.path.name + (f" frame {self.frame + 1}" if self.frame else "")


def read_planes(folder: Files, series: str | int | None) -> tuple[list[Plane], LeftOut]:
    """The planes of one series of one patient, in no order, and the files left out; no pixels."""
    chosen, left_out = choose_series(folder, series)
    planes = []
    for path, header in zip(chosen.files, chosen.headers, strict=True):
        if is_mosaic(header, path):
            raise DicomError(
                f"{path}: a mosaic: the slices of a volume stand side by side in one picture. "
                "Convert it to slices first, for example with dcm2niix; read_image shows it"
            )
        frames = integer(header, "NumberOfFrames", path) or 1
        rows, columns = integer(header, "Rows", path), integer(header, "Columns", path)
        if not rows or not columns or not 1 <= frames <= 100_000:
            raise DicomError(f"{path}: {frames} frame(s) of {rows}×{columns} are impossible")
        for frame in range(frames):
            spacing, source = pixel_spacing(header, frame, path)
            planes.append(
                Plane(
                    path,
                    frame,
                    (rows, columns),
                    header,
                    position(header, frame, path),
                    orientation(header, frame, path),
                    spacing if source == "PixelSpacing" else None,
                )
            )
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "Modality"):
        require_same(keyword, planes, [text(plane.header, keyword, plane.path) for plane in planes])
    require_same("size", planes, [plane.size for plane in planes])
    return planes, left_out


def require_same(
    what: str, planes: list[Plane], values: list[Any], *, tolerance: float = 0.0
) -> None:
    """Refuse planes that differ by more than `tolerance`, naming the odd ones out."""
    kinds: list[tuple[Any, list[Plane]]] = []
    for plane, value in zip(planes, values, strict=True):
        for other, members in kinds:
            near = tolerance > 0 and None not in (value, other)
            if value == other or (near and np.allclose(value, other, rtol=0, atol=tolerance)):
                members.append(plane)
                break
        else:
            kinds.append((value, [plane]))
    if len(kinds) == 1:
        return
    kinds.sort(key=lambda kind: -len(kind[1]))
    listing = "".join(
        f"\n  {value!s}: {len(members)} image(s), {', '.join(map(str, members[:4]))}"
        for value, members in kinds[:6]
    )
    raise DicomError(
        f"{where(planes)}: the images of this series differ in {what}, so they do not belong "
        f"together; pass the files that do (a localiser often shares a folder):{listing}"
    )


def where(planes: list[Plane]) -> Path:
    """The one file that holds all planes, else their folder."""
    paths = {plane.path for plane in planes}
    return paths.pop() if len(paths) == 1 else planes[0].path.parent


def stacked(
    planes: list[Plane], *, max_bytes: int, mirror: bool
) -> tuple[DicomImage, Tensor, Tensor | None]:
    """The planes' pixels in their order; each file is opened once.

    Args:
        planes: planes of one size.
        max_bytes: largest file and largest result.
        mirror: turn MONOCHROME1 round.

    Returns:
        The first plane's image, all pixels with one plane along the first axis, and where they are
        padding.
    """
    rows, columns = planes[0].size
    if len(planes) * rows * columns * 4 > max_bytes:
        raise DicomError(
            f"{where(planes)}: {len(planes)} planes of {rows}×{columns} need "
            f"{len(planes) * rows * columns * 4:,} bytes, above the limit of {max_bytes:,}; pass "
            "max_bytes= to allow more"
        )
    places = defaultdict(list)
    for index, plane in enumerate(planes):
        places[plane.path].append((index, plane.frame))
    first: DicomImage | None = None
    padded: Tensor | None = None
    for path, targets in places.items():
        image = decoded_image(path, max_bytes=max_bytes, mirror=mirror)
        frames = image.pixels.reshape(-1, *image.frames.shape[1 if image.colour else 2 :])
        if first is None:
            first, pixels = image, frames.new_empty((len(planes), *frames.shape[1:]))
        if _kind(image) != _kind(first):
            raise DicomError(
                f"{where(planes)}: {path.name} differs from {first.path.name} in units or type: "
                f"{_kind(image)} and {_kind(first)}"
            )
        for index, frame in targets:
            pixels[index] = frames[frame]
            if image.padding is not None:
                padded = torch.zeros(pixels.shape, dtype=torch.bool) if padded is None else padded
                padded[index] = image.padding.reshape(frames.shape)[frame]
    assert first is not None, "no planes"
    return first, pixels, padded


def _kind(image: DicomImage) -> tuple:
    """What two images of one stack must share; grey values may differ in precision."""
    number = "real" if image.pixels.is_floating_point() else image.pixels.dtype
    return image.units, number, image.inverted, *image.frames.shape[1:]
