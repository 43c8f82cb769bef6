"""The image planes of one series: where each lies, and the pixels of many in one array."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset

from medlab.dicom._frames import group_of, is_mosaic, pixel_spacing
from medlab.dicom.image import DicomImage, read_image
from medlab.dicom.source import integer, looks_like_dicom, numbers, open_dicom, require_room, text
from medlab.errors import DicomError

Files = Path | str | Iterable[Path | str]  # a folder with its subfolders, or the files themselves


@dataclass(frozen=True)
class Plane:
    """One file, or one frame of it; place (mm, LPS) and spacing (mm) None where not said."""

    path: Path
    frame: int
    size: tuple[int, int]
    header: Dataset = field(repr=False)
    position: Any
    orientation: Any
    spacing: Any

    def __str__(self) -> str:
        return self.path.name + (f" frame {self.frame + 1}" if self.frame else "")


def read_planes(folder: Files, series: str | int | None) -> list[Plane]:
    """The planes of one series of one patient, in no order; no pixels are read."""
    planes = []
    for path, header in _one_series(folder, series):
        dose = "GridFrameOffsetVector" in header
        if dose or is_mosaic(header, path):
            raise DicomError(
                f"{path}: {'a dose grid' if dose else 'a mosaic of slices in one picture'}; convert"
                " it to slices first, for example with dcm2niix. read_image reads it as it stands"
            )
        frames = integer(header, "NumberOfFrames", path) or 1
        rows, columns = integer(header, "Rows", path), integer(header, "Columns", path)
        if not rows or not columns or not 1 <= frames <= 100_000:
            raise DicomError(f"{path}: {frames} frame(s) of {rows}×{columns} are impossible")
        for k in range(frames):
            group = group_of(header, k, "PlanePositionSequence", path)
            place = numbers(group, "ImagePositionPatient", path, count=3)
            group = group_of(header, k, "PlaneOrientationSequence", path)
            turn = numbers(group, "ImageOrientationPatient", path, count=6)
            spacing, source = pixel_spacing(header, k, path)
            spacing = spacing if source == "PixelSpacing" else None
            planes.append(Plane(path, k, (rows, columns), header, place, turn, spacing))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "Modality"):
        require_same(keyword, planes, [text(plane.header, keyword, plane.path) for plane in planes])
    require_same("size", planes, [plane.size for plane in planes])
    return planes


def _one_series(folder: Files, series: str | int | None) -> list[tuple[Path, Dataset]]:
    """The files of the one series that is there or asked for, with their headers."""
    if isinstance(folder, (str, Path)):
        root, here = Path(folder), str(folder)
        if not root.exists():
            raise DicomError(f"{root}: no such folder")
        below = sorted(root.rglob("*")) if root.is_dir() else [root]
        paths = [path for path in below if path.is_file() and not path.name.startswith(".")]
    else:
        paths, here = [Path(path) for path in folder], "the files given"
    found: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    left_out = []
    for path in paths:
        header = open_dicom(path, pixels=False) if looks_like_dicom(path) else Dataset()
        if "Rows" in header:
            found[text(header, "SeriesInstanceUID", path)].append((path, header))
        else:
            left_out.append(path.name)
    names = ", ".join(left_out[:5]) + ", …" * (len(left_out) > 5)
    if not found:
        raise DicomError(f"{here}: no DICOM image found{': ' * bool(names)}{names}")
    if left_out:
        warnings.warn(f"left out {len(left_out)} file(s) without an image: {names}", stacklevel=4)
    numbers_of = {uid: integer(m[0][1], "SeriesNumber", m[0][0]) for uid, m in found.items()}
    fits = [uid for uid in found if series in (None, uid, numbers_of[uid])]
    if len(fits) != 1:
        message = f"{here}: {len(fits)} series of images fit; pick one with series=, its UID:"
        for uid, members in found.items():
            named = text(members[0][1], "SeriesDescription", here)
            message += f"\n  {uid}: number {numbers_of[uid]}, {len(members)} file(s), {named}"
        raise DicomError(message)
    return found[fits[0]]


def require_same(
    what: str, planes: list[Plane], values: Sequence[Any], *, tolerance: float = 0.0
) -> None:
    """Refuse planes whose value is not the most frequent one, give or take, and name them."""
    usual = Counter(values).most_common(1)[0][0]
    odd = [
        f"\n  {plane}: {value}"
        for plane, value in zip(planes, values, strict=True)
        if value != usual
        and (None in (value, usual) or not tolerance or not np.allclose(value, usual, 0, tolerance))
    ]
    if odd:
        raise DicomError(
            f"{where(planes)}: the images differ in {what}, so they do not belong together; pass "
            f"the files that do (a localiser often shares a folder). It is {usual} but in "
            f"{len(odd)} of {len(planes)}:{''.join(odd[:6])}"
        )


def where(planes: list[Plane]) -> Path:
    """The one file that holds all planes, else their folder."""
    paths = {plane.path for plane in planes}
    return paths.pop() if len(paths) == 1 else planes[0].path.parent


def stacked(planes: list[Plane], *, max_bytes: int, mirror: bool) -> DicomImage:
    """The first plane's image, with the pixels of all in order: (N, H, W) or (N, 3, H, W)."""
    size = len(planes) * planes[0].size[0] * planes[0].size[1] * 4
    require_room(where(planes), size, max_bytes)
    paths = dict.fromkeys(plane.path for plane in planes)
    decoded = {path: read_image(path, max_bytes=max_bytes, mirror=mirror) for path in paths}
    images = [decoded[plane.path] for plane in planes]
    kinds = [(image.units, image.inverted, image.colour and image.pixels.dtype) for image in images]
    require_same("units or type", planes, kinds)
    frames = [image.frames[plane.frame] for plane, image in zip(planes, images, strict=True)]
    pixels = torch.stack(frames) if images[0].colour else torch.cat(frames)
    return replace(images[0], pixels=pixels)
