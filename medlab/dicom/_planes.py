"""The image planes of one series: where each lies, and the pixels of many in one array."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom._frames import is_mosaic, orientation, pixel_spacing, position
from medlab.dicom.image import DicomImage, decoded_image, tell_padding
from medlab.dicom.source import integer, open_dicom, refusing, text
from medlab.errors import DicomError

Files = Path | str | Iterable[Path | str]
"""A folder, which is searched with its subfolders, or the files themselves."""


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


def read_planes(folder: Files, series: str | int | None) -> list[Plane]:
    """The planes of one series of one patient, in no order; no pixels are read.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves.
        series: a SeriesInstanceUID or SeriesNumber, None for the only one.

    Raises:
        DicomError: several series and no choice, none that fits, images that do not belong
            together, or a damaged file.
    """
    planes = []
    for path, header in _one_series(folder, series):
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
    return planes


def _one_series(folder: Files, series: str | int | None) -> list[tuple[Path, Dataset]]:
    """The files of the one series that is there or asked for, with their headers."""
    if named := not isinstance(folder, (str, Path)):
        paths, where = [Path(path) for path in folder], "the files given"
    else:
        root, where = Path(folder), str(folder)
        if not root.exists():
            raise DicomError(f"{root}: no such folder")
        below = sorted(root.rglob("*")) if root.is_dir() else [root]
        paths = [path for path in below if path.is_file() and not path.name.startswith(".")]
    found: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    left_out = []
    for path in paths:
        if named or _looks_like_dicom(path):
            header = open_dicom(path, pixels=False)
            if "Rows" in header:
                found[text(header, "SeriesInstanceUID", path)].append((path, header))
                continue
        left_out.append(path.name)
    names = ", ".join(left_out[:5]) + ", …" * (len(left_out) > 5)
    if not found:
        raise DicomError(f"{where}: no DICOM image found{': ' * bool(names)}{names}")
    if left_out:
        warnings.warn(f"left out {len(left_out)} file(s) without an image: {names}", stacklevel=4)
    numbers = {uid: integer(m[0][1], "SeriesNumber", m[0][0]) for uid, m in found.items()}
    fits = [uid for uid in found if series in (None, uid, numbers[uid])]
    if len(fits) != 1:
        listing = "".join(
            f"\n  {uid}: number {numbers[uid]}, {len(members)} file(s), "
            f"{text(members[0][1], 'SeriesDescription', where) or 'no description'}"
            for uid, members in found.items()
        )
        raise DicomError(
            f"{where}: {len(fits)} series of images fit, where one must; pick it with series=, its "
            f"UID. There are:{listing}"
        )
    return found[fits[0]]


def _looks_like_dicom(path: Path) -> bool:
    """By prefix, or by name: a slice whose start is damaged must be refused, not skipped."""
    if path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    with refusing(path, "open it"), path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def require_same(
    what: str, planes: list[Plane], values: Sequence[Any], *, tolerance: float = 0.0
) -> None:
    """Refuse planes whose value is not the most frequent one, give or take, and name them."""
    usual = Counter(values).most_common(1)[0][0]
    odd = [
        f"\n  {plane}: {value}"
        for plane, value in zip(planes, values, strict=True)
        if value != usual
        and (
            None in (value, usual)
            or not tolerance
            or np.abs(np.subtract(value, usual)).max() > tolerance
        )
    ]
    if odd:
        raise DicomError(
            f"{where(planes)}: the images of this series differ in {what}, so they do not belong "
            "together; pass the files that do (a localiser often shares a folder). It is "
            f"{usual} but in {len(odd)} of {len(planes)}:{''.join(odd[:6])}"
        )


def where(planes: list[Plane]) -> Path:
    """The one file that holds all planes, else their folder."""
    paths = {plane.path for plane in planes}
    return paths.pop() if len(paths) == 1 else planes[0].path.parent


def stacked(
    planes: list[Plane], *, max_bytes: int, mirror: bool
) -> tuple[DicomImage, Tensor, Tensor | None]:
    """The planes' pixels in their order; each file is opened once. Padding is warned of.

    Args:
        planes: planes of one size.
        max_bytes: largest file and largest result.
        mirror: turn MONOCHROME1 round.

    Returns:
        The first plane's image, all pixels with one plane along the first axis, and where they are
        padding.
    """
    rows, columns = planes[0].size
    if (size := len(planes) * rows * columns * 4) > max_bytes:
        raise DicomError(
            f"{where(planes)}: {len(planes)} planes of {rows}×{columns} need {size:,} bytes, above "
            f"the limit of {max_bytes:,}; pass max_bytes= to allow more"
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
    tell_padding(padded, where(planes))
    return first, pixels, padded


def _kind(image: DicomImage) -> tuple:
    """What two images of one stack must share; grey values may differ in precision."""
    number = "real" if image.pixels.is_floating_point() else image.pixels.dtype
    return image.units, number, image.inverted, *image.frames.shape[1:]
