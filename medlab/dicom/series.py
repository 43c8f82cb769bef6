"""A folder of DICOM slices as one volume in millimetres and Hounsfield units.

The rules: slices are ordered by where they lie in the patient, never by file name or
InstanceNumber; their distance is measured from their positions, never taken from SliceThickness;
and whatever does not make one regular stack is refused with the names of the files that spoil it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom._planes import Files, Plane, read_planes, require_same, stacked, where
from medlab.dicom.source import MAX_BYTES, text
from medlab.errors import DicomError

_AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True, repr=False)
class Volume:
    """A regular stack of slices in patient space.

    Attributes:
        voxels: float32, shape (D, H, W): slice, row, column; in `units`.
        spacing: distance of voxel centres (slice, row, column) in mm.
        origin: centre of voxel (0, 0, 0) in patient coordinates, mm. x grows to the patient's Left,
            y to the back (Posterior), z to the head (Superior): LPS, as DICOM has it. NIfTI has
            RAS: there x and y change sign.
        direction: unit vectors along which the slice, row and column index grow, in that order,
            LPS.
        units: "HU" for a CT with rescale, else the header's unit, "rescaled" or "stored".
        modality: such as "CT".
        header: the first slice's data set without pixels, None for a volume that was made and not
            read.
        files: the file of each slice, in slice order; an enhanced multi-frame file stands once a
            frame.
        padding: True, shape (D, H, W), where voxels are PixelPaddingValue, filled in and not
            measured; None where there are none.
    """

    voxels: Tensor
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, ...], ...] = _AXIAL
    units: str = "HU"
    modality: str = "CT"
    header: Dataset | None = None
    files: tuple[Path, ...] = ()
    padding: Tensor | None = None

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:
            raise DicomError(f"voxels must be (D, H, W), got {tuple(self.voxels.shape)}")
        if len(self.spacing) != 3 or not min(self.spacing) > 0:
            raise DicomError(
                "spacing must be three positive numbers in mm (slice, row, column), got "
                f"{self.spacing}"
            )

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
    folder: Files,
    *,
    series: str | int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Volume:
    """Read one series as a volume.

    Slices are sorted by position along the slice normal, the rescale is applied slice by slice, and
    the slice distance is measured. MONOCHROME1 is not inverted here: voxels are measurements, not
    grey tones.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves; enhanced
            multi-frame files too.
        series: which one, where there are several: its SeriesInstanceUID or SeriesNumber.
        max_bytes: largest file and largest volume accepted, 2 GiB unless said otherwise.

    Raises:
        DicomError: several series and no choice; slices missing, doubled, turned, of different size
            or unit; one slice only, or one slice at many times (then `read_cine` reads it); colour;
            damaged files.

    Source: DICOM PS3.3 C.7.6.2.1.1 (the mapping of indices to patient coordinates).
    """
    planes = read_planes(folder, series)
    _require_one_grid(planes)
    planes, step = _sorted_stack(planes)
    image, voxels, padded = stacked(planes, max_bytes=max_bytes, mirror=False)
    if image.colour:
        raise DicomError(
            f"{image.path}: a colour image; a volume needs grey values. read_image reads it"
        )
    length = float(np.linalg.norm(step))
    cosines = planes[0].orientation
    return Volume(
        voxels=voxels.float(),
        spacing=(length, *planes[0].spacing),
        origin=planes[0].position,
        direction=(tuple(map(float, step / length)), cosines[3:], cosines[:3]),
        units=image.units,
        modality=image.modality,
        header=image.header,
        files=tuple(plane.path for plane in planes),
        padding=padded,
    )


def _require_one_grid(planes: list[Plane]) -> None:
    """Every plane has a place, and all share orientation, pixel spacing and frame of reference."""
    for plane in planes:
        places = {
            "ImagePositionPatient": plane.position,
            "ImageOrientationPatient": plane.orientation,
            "PixelSpacing": plane.spacing,
        }
        missing = [name for name, value in places.items() if value is None]
        if missing:
            raise DicomError(
                f"{plane.path}: the header has no {' and no '.join(missing)}, so the slice has no "
                "place in a volume; read_image reads it as a picture"
            )
    require_same("pixel spacing (mm)", planes, [p.spacing for p in planes], tolerance=1e-3)
    require_same("orientation", planes, [p.orientation for p in planes], tolerance=2e-3)
    if len({plane.position for plane in planes}) > 1:
        frames = [text(plane.header, "FrameOfReferenceUID", plane.path) for plane in planes]
        require_same("frame of reference", planes, frames)


def _sorted_stack(planes: list[Plane]) -> tuple[list[Plane], np.ndarray]:
    """Planes by position along the normal, and the step from one to the next in mm."""
    if len(planes) < 2:
        raise DicomError(
            f"{planes[0].path}: one slice is not a volume: the slice distance is unknown; use "
            "read_image"
        )
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    normal /= np.linalg.norm(normal)
    planes = sorted(planes, key=lambda plane: float(np.dot(plane.position, normal)))
    places = np.array([plane.position for plane in planes])
    gaps = np.diff(places @ normal)
    usual = float(np.median(gaps))
    double = gaps < max(1e-3, 0.02 * usual)
    odd = double | (np.abs(gaps - usual) > max(0.02 * usual, 0.005))
    pairs = "".join(
        f"\n  {planes[k]} → {planes[k + 1]}: {gaps[k]:.3f} mm" for k in np.flatnonzero(odd)[:6]
    )
    if double.all():
        raise DicomError(
            f"{where(planes)}: {len(planes)} images of one slice at one position: frames of a "
            "cine, or copies, not a volume; read_cine reads them in the order of time"
        )
    if double.any():
        raise DicomError(
            f"{where(planes)}: several images at one position: copies, or a volume at several "
            f"times, echoes or energies; pass the files of one of them:{pairs}"
        )
    if odd.any():
        raise DicomError(
            f"{where(planes)}: slices are missing, or their distance is irregular; the usual one "
            f"is {usual:.3f} mm. Find the missing files, or pass those of a regular part:{pairs}"
        )
    step = (places[-1] - places[0]) / (len(planes) - 1)
    drift = np.abs(places - places[0] - np.arange(len(planes))[:, None] * step).max()
    if drift > max(0.05 * usual, 0.01) + 0.02 * usual:
        raise DicomError(
            f"{where(planes)}: the slices do not lie on one line: they are shifted sideways by up "
            f"to {drift:.2f} mm against each other"
        )
    tilt = float(np.degrees(np.arccos(min(1.0, step @ normal / np.linalg.norm(step)))))
    if tilt > 0.5:
        warnings.warn(
            f"{where(planes)}: the gantry is tilted by {tilt:.1f}°, so slices are sheared against "
            "each other; the affine carries the shear, spacing alone does not",
            stacklevel=3,
        )
    return planes, step
