"""Image planes that make one regular stack, or a refusal that names those that spoil it."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medlab.dicom.folder import Files, choose_series
from medlab.dicom.frames import orientation, pixel_spacing, position
from medlab.dicom.source import integer, text
from medlab.errors import DicomError

__all__ = ["Plane", "read_planes", "require_one_grid", "sorted_stack", "where"]


@dataclass(frozen=True)
class Plane:
    """One image plane: a file, or one frame of an enhanced file."""

    path: Path
    frame: int
    size: tuple[int, int]
    position: np.ndarray
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    header: Dataset = field(repr=False)

    def __str__(self) -> str:
        return self.path.name + (f" frame {self.frame + 1}" if self.frame else "")


def read_planes(
    folder: Files, *, series: str | int | None
) -> tuple[list[Plane], tuple[tuple[Path, str], ...]]:
    """The planes of one series in no particular order, and the files left out; no pixels yet."""
    headers, left_out = choose_series(folder, series)
    planes = []
    for path, header in headers.items():
        frames = integer(header, "NumberOfFrames", path, 1)
        size = integer(header, "Rows", path), integer(header, "Columns", path)
        if None in size:
            raise DicomError(f"{path}: the header has no Rows or Columns")
        if not 1 <= frames <= 100_000:
            raise DicomError(f"{path}: NumberOfFrames {frames} is impossible")
        planes += [_plane(header, frame, size, path) for frame in range(frames)]
    return planes, tuple(left_out)


def _plane(header: Dataset, frame: int, size: tuple[int, int], path: Path) -> Plane:
    place, turned = position(header, frame, path), orientation(header, frame, path)
    spacing, source = pixel_spacing(header, frame, path)
    missing = [
        name
        for name, value in (
            ("ImagePositionPatient", place),
            ("ImageOrientationPatient", turned),
            ("PixelSpacing", spacing if source == "PixelSpacing" else None),
        )
        if value is None
    ]
    if missing:
        raise DicomError(
            f"{path}: the header has no {' and no '.join(missing)}, so the slice has no place in a "
            "volume; read_image reads it as a picture"
        )
    return Plane(path, frame, size, np.array(place), turned, spacing, header)


def require_one_grid(planes: list[Plane]) -> None:
    """Same size, same orientation, same pixel spacing, or the odd ones out are named."""
    _require_same("size", planes, [plane.size for plane in planes])
    _require_same("pixel spacing (mm)", planes, [plane.spacing for plane in planes], tolerance=1e-3)
    _require_same("orientation", planes, [plane.orientation for plane in planes], tolerance=2e-3)
    frames = [text(p.header, "FrameOfReferenceUID", p.path) for p in planes]
    if len({p.position.tobytes() for p in planes}) > 1:
        _require_same("frame of reference", planes, frames)


def _require_same(
    what: str, planes: list[Plane], values: list[object], *, tolerance: float | None = None
) -> None:
    kinds: list[tuple[object, list[Plane]]] = []
    for plane, value in zip(planes, values, strict=True):
        for other, members in kinds:
            same = (
                value == other
                if tolerance is None
                else np.allclose(value, other, rtol=0, atol=tolerance)
            )
            if same:
                members.append(plane)
                break
        else:
            kinds.append((value, [plane]))
    if len(kinds) == 1:
        return
    kinds.sort(key=lambda kind: -len(kind[1]))
    listing = "".join(
        f"\n  {_short(value)}: {len(members)} image(s), {_names(members)}"
        for value, members in kinds[:6]
    )
    raise DicomError(
        f"{where(planes)}: the images of this series differ in {what}, so they are not one volume; "
        f"pass the files that belong together (a localiser often shares a folder):{listing}"
    )


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{part:g}" for part in value) + ")"
    return str(value)


def where(planes: list[Plane]) -> Path:
    """The one file that holds all planes, else their folder."""
    paths = {plane.path for plane in planes}
    return paths.pop() if len(paths) == 1 else planes[0].path.parent


def _names(planes: list[Plane]) -> str:
    return ", ".join(map(str, planes[:4])) + (", …" if len(planes) > 4 else "")


def sorted_stack(planes: list[Plane]) -> tuple[list[Plane], np.ndarray]:
    """Planes by position along the normal, and the step from one to the next in mm."""
    if len(planes) < 2:
        raise DicomError(
            f"{planes[0].path}: one slice is not a volume: the slice distance is unknown; use "
            "read_image"
        )
    row, column = np.array(planes[0].orientation[:3]), np.array(planes[0].orientation[3:])
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    heights = np.array([plane.position @ normal for plane in planes])
    order = np.argsort(heights, kind="stable")
    planes, heights = [planes[k] for k in order], heights[order]
    gaps = np.diff(heights)
    _refuse_doubles(planes, gaps, heights)
    step = float(np.median(gaps))
    tolerance = max(0.02 * step, 0.005)
    odd = np.flatnonzero(np.abs(gaps - step) > tolerance)
    if len(odd):
        raise DicomError(_describe_gaps(planes, gaps, step, odd))
    stride = (planes[-1].position - planes[0].position) / (len(planes) - 1)
    straight = planes[0].position + np.arange(len(planes))[:, None] * stride
    drift = np.abs(np.stack([plane.position for plane in planes]) - straight).max()
    if drift > max(0.05 * step, 0.01) + 0.02 * step:
        raise DicomError(
            f"{where(planes)}: the slices do not lie on one line: they are shifted sideways by up "
            f"to {drift:.2f} mm against each other"
        )
    tilt = float(np.degrees(np.arccos(min(1.0, abs(stride @ normal) / np.linalg.norm(stride)))))
    if tilt > 0.5:
        warnings.warn(
            f"{where(planes)}: the gantry is tilted by {tilt:.1f}°, so slices are sheared against "
            "each other; the affine carries the shear, spacing alone does not",
            stacklevel=3,
        )
    return planes, stride


def _refuse_doubles(planes: list[Plane], gaps: np.ndarray, heights: np.ndarray) -> None:
    close = max(1e-3, 0.02 * float(np.median(gaps)))
    if not (gaps < close).any():
        return
    folder = where(planes)
    levels = np.concatenate([[0], np.cumsum(gaps >= close)])
    counts = Counter(levels.tolist())
    if len(counts) == 1:
        raise DicomError(
            f"{folder}: {len(planes)} images of one slice at one position: frames of a cine, or "
            "copies, not a volume; read_cine reads them in the order of time"
        )
    if len(set(counts.values())) == 1:
        raise DicomError(
            f"{folder}: {len(counts)} positions with {counts[0]} images each: a volume at several "
            "times, echoes or energies; pass the files of one of them"
        )
    first = int(np.flatnonzero(gaps < close)[0])
    pairs = [f"{planes[k]} and {planes[k + 1]}" for k in np.flatnonzero(gaps < close)[:5]]
    raise DicomError(
        f"{folder}: two images at one position ({heights[first]:g} mm along the normal): "
        f"{'; '.join(pairs)}. Leave one of each out, by passing the files to read"
    )


def _describe_gaps(planes: list[Plane], gaps: np.ndarray, step: float, odd: np.ndarray) -> str:
    lines, missing = [], 0
    for k in odd[:6]:
        ratio = gaps[k] / step
        lost = round(ratio) - 1 if ratio > 1.5 and abs(ratio - round(ratio)) < 0.1 else 0
        missing += lost
        lines.append(
            f"\n  {planes[k]} → {planes[k + 1]}: {gaps[k]:.3f} mm"
            + (f", {lost} slice(s) missing" if lost else "")
        )
    what = "slices are missing" if missing else "the slice distance is irregular"
    return (
        f"{where(planes)}: {what}; the usual distance is {step:.3f} mm. Find the missing files, or "
        f"pass the files of a regular part:{''.join(lines)}"
        + (f"\n  and {len(odd) - 6} more" if len(odd) > 6 else "")
    )
