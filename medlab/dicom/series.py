"""A folder of DICOM slices as one volume in millimetres and Hounsfield units, or as a cine.

The rules: slices are ordered by where they lie in the patient, never by file name or
InstanceNumber; their distance is measured from their positions, never taken from SliceThickness;
and whatever does not make one regular stack is refused with the names of the files that spoil it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom._frames import group_of
from medlab.dicom._planes import Files, Plane, read_planes, require_same, stacked, where
from medlab.dicom.image import DicomImage
from medlab.dicom.source import MAX_BYTES, integer, number, text
from medlab.errors import DicomError

_AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True, repr=False)
class Volume:
    """A regular stack of slices in patient space.

    Attributes:
        voxels: float32, shape (D, H, W): slice, row, column; in `units`.
        spacing: distance of voxel centres (slice, row, column) in mm.
        origin: centre of voxel (0, 0, 0) in patient coordinates, mm. x grows to the patient's Left,
            y to the back (Posterior), z to the head (Superior): LPS. NIfTI's RAS has x and y with
            the other sign.
        direction: unit vectors (LPS) along which the slice, row and column index grow.
        units: "HU" for a CT with rescale, else the header's unit, "rescaled" or "stored".
        modality: such as "CT".
        header: the first slice's data set without pixels, None for a volume that was not read.
        files: the file of each slice; an enhanced multi-frame file stands once a frame.
    """

    voxels: Tensor
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, ...], ...] = _AXIAL
    units: str = "HU"
    modality: str = "CT"
    header: Dataset | None = None
    files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:
            raise DicomError(f"voxels must be (D, H, W), got {tuple(self.voxels.shape)}")
        if len(self.spacing) != 3 or not min(self.spacing) > 0:
            raise DicomError(f"spacing must be three positive numbers in mm, got {self.spacing}")

    def __repr__(self) -> str:
        size = "×".join(map(str, self.voxels.shape))
        spacing = "×".join(f"{step:.4g}" for step in self.spacing)
        return f"Volume({self.modality}, {size} in {self.units}, {spacing} mm)"

    @property
    def affine(self) -> Tensor:
        """4×4 float64: homogeneous (slice, row, column, 1) index → LPS position in mm."""
        matrix = torch.eye(4, dtype=torch.float64)
        steps = torch.tensor(self.direction, dtype=torch.float64)
        matrix[:3, :3] = steps.T * torch.tensor(self.spacing, dtype=torch.float64)
        matrix[:3, 3] = torch.tensor(self.origin, dtype=torch.float64)
        return matrix


def read_series(
    folder: Files, *, series: str | int | None = None, max_bytes: int = MAX_BYTES
) -> Volume:
    """Read one series as a volume.

    Slices are sorted by position along the slice normal, the rescale is applied slice by slice, and
    the slice distance is measured. MONOCHROME1 is not inverted: voxels are no grey tones.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves.
        series: which one, where there are several: its SeriesInstanceUID or SeriesNumber.
        max_bytes: largest file and largest volume accepted.

    Raises:
        DicomError: several series and no choice; slices missing, doubled, turned, of different size
            or unit; one slice only, or at many times; colour; damaged files.

    Source: DICOM PS3.3 C.7.6.2.1.1 (the mapping of indices to patient coordinates).
    """
    planes = read_planes(folder, series)
    _require_one_grid(planes)
    planes, step = _sorted_stack(planes)
    ends = [planes[0], planes[-1]]
    low, high = (integer(plane.header, "InStackPositionNumber", plane.path) for plane in ends)
    if low and high and low > high:  # the files number their places against the normal
        planes, step = planes[::-1], -step
    image = stacked(planes, max_bytes=max_bytes, mirror=False)
    if image.colour:
        raise DicomError(
            f"{planes[0].path}: a colour image; a volume has grey values. Use read_image"
        )
    length = float(np.linalg.norm(step))
    cosines = planes[0].orientation
    return Volume(
        voxels=image.pixels,
        spacing=(length, *planes[0].spacing),
        origin=planes[0].position,
        direction=(tuple(map(float, step / length)), cosines[3:], cosines[:3]),
        units=image.units,
        modality=image.modality,
        header=image.header,
        files=tuple(plane.path for plane in planes),
    )


def read_cine(
    folder: Files, *, series: str | int | None = None, max_bytes: int = MAX_BYTES
) -> DicomImage:
    """Read the frames of one slice in the order of time, whatever their order in the file.

    A cine comes as one multi-frame file or as one file a frame, all at the same position. Files are
    sorted by TriggerTime, the time after the R wave of the heart beat, frames by the times that
    their file gives them. Arguments as for `read_series`.

    Returns:
        An image whose `pixels` are (F, H, W), or (F, 3, H, W) for colour, and whose `times` are ms
        after the R wave or after the first frame; the header is the first frame's.

    Raises:
        DicomError: several positions or patients, frames without a time or at the same time,
            different sizes, damaged files.
    """
    planes = read_planes(folder, series)
    for what in ("position", "orientation", "spacing"):
        values = [getattr(plane, what) for plane in planes]
        require_same(f"{what} (a volume? read_series reads it)", planes, values, tolerance=0.01)
    times = _times(planes)
    if len(set(times)) < len(planes):
        raise DicomError(
            f"{where(planes)}: {len(planes)} frames, but {len(set(times))} different times (ms, by "
            "FrameTime or trigger), so they have no order; read_image reads each file"
        )
    order = np.argsort(times)
    image = stacked([planes[k] for k in order], max_bytes=max_bytes, mirror=True)
    return replace(image, times=torch.tensor(times, dtype=torch.float32)[order])


def _times(planes: list[Plane]) -> list[float]:
    """The times of the planes in ms, without those that no header tells."""
    path, header = planes[0].path, planes[0].header
    step = number(header, "FrameTime", path) or 0
    if step > 0 and {plane.path for plane in planes} == {path}:
        return [step * plane.frame for plane in planes]
    times = []
    for plane in planes:
        group = group_of(plane.header, plane.frame, "CardiacSynchronizationSequence", plane.path)
        delay = number(group, "NominalCardiacTriggerDelayTime", plane.path)
        trigger = number(plane.header, "TriggerTime", plane.path)
        times.append(trigger if delay is None else delay)
    return [time for time in times if time is not None]


def _require_one_grid(planes: list[Plane]) -> None:
    """Every plane has a place, and all share orientation, pixel spacing and frame of reference."""
    for plane in planes:
        if None in (plane.position, plane.orientation, plane.spacing):
            raise DicomError(
                f"{plane.path}: the header lacks one of ImagePositionPatient, "
                "ImageOrientationPatient and PixelSpacing: no slice of a volume; use read_image"
            )
        axes = np.reshape(plane.orientation, (2, 3))
        if np.abs(axes @ axes.T - np.eye(2)).max() > 2e-2:
            raise DicomError(f"{plane.path}: {axes} are not two perpendicular unit vectors")
    require_same("pixel spacing (mm)", planes, [p.spacing for p in planes], tolerance=1e-3)
    require_same("orientation", planes, [p.orientation for p in planes], tolerance=2e-3)
    if len({plane.position for plane in planes}) > 1:
        frames = [text(plane.header, "FrameOfReferenceUID", plane.path) for plane in planes]
        require_same("frame of reference", planes, frames)


def _sorted_stack(planes: list[Plane]) -> tuple[list[Plane], np.ndarray]:
    """Planes by position along the normal, and the step from one to the next in mm."""
    if len(planes) < 2:
        raise DicomError(f"{planes[0].path}: one slice is not a volume; use read_image")
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    normal /= np.linalg.norm(normal)
    planes = sorted(planes, key=lambda plane: float(np.dot(plane.position, normal)))
    places = np.array([plane.position for plane in planes])
    gaps = np.diff(places @ normal)
    usual = float(np.median(gaps))
    double = gaps < max(1e-3, 0.02 * usual)
    odd = double | (np.abs(gaps - usual) > max(0.02 * usual, 0.005))
    step = (places[-1] - places[0]) / (len(planes) - 1)
    drift = np.abs(places - places[0] - np.arange(len(planes))[:, None] * step).max()
    trouble = ""
    if double.all():
        trouble = "all of one slice at one position: a cine, or copies; read_cine reads a cine"
    elif double.any():
        trouble = "several at one position: copies, or a volume at several times; pass one time's"
    elif odd.any():
        trouble = f"slices are missing, or their distance is irregular (usual: {usual:.3f} mm); "
        trouble += "find them, or pass the files of a regular part"
    elif drift > max(0.05 * usual, 0.01) + 0.02 * usual:
        trouble = f"they lie on no line but are shifted sideways by up to {drift:.2f} mm"
    if trouble:
        for k in np.flatnonzero(odd)[:6]:
            trouble += f"\n  {planes[k]} → {planes[k + 1]}: {gaps[k]:.3f} mm"
        raise DicomError(f"{where(planes)}: {len(planes)} images, {trouble}")
    tilt = float(np.degrees(np.arccos(min(1.0, step @ normal / np.linalg.norm(step)))))
    if tilt > 0.5:
        sheared = f"the gantry is tilted by {tilt:.1f}°, which the affine carries, spacing does not"
        warnings.warn(f"{where(planes)}: {sheared}", stacklevel=3)
    return planes, step
