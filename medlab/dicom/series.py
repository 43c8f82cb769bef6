"""A folder of DICOM slices as one volume in millimetres and Hounsfield units.

The rules: slices are ordered by where they lie in the patient, never by file name or
InstanceNumber; their distance is measured from their positions, never taken from SliceThickness;
and whatever does not make one regular stack is refused with the names of the files that spoil it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom.folder import Files
from medlab.dicom.frames import rescale
from medlab.dicom.image import without_pixels
from medlab.dicom.pixels import stored_values
from medlab.dicom.source import MAX_BYTES, integer, open_dicom, text
from medlab.dicom.stack import Plane, read_planes, require_one_grid, sorted_stack, where
from medlab.errors import DicomError

__all__ = ["Volume", "read_series"]

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
        left_out: files of the folder that were not read, each with the reason.
    """

    voxels: Tensor
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = _AXIAL
    units: str = "HU"
    modality: str = "CT"
    header: Dataset | None = None
    files: tuple[Path, ...] = ()
    left_out: tuple[tuple[Path, str], ...] = ()

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
        series: which one, where there are several: its SeriesInstanceUID or SeriesNumber (see
            `list_series`).
        max_bytes: largest file and largest volume accepted, 2 GiB unless said otherwise.

    Raises:
        DicomError: several series and no choice; slices missing, doubled, turned, of different size
            or unit; one slice only, or one slice at many times (then `read_cine` reads it); colour;
            damaged files.

    Source: DICOM PS3.3 C.7.6.2.1.1 (the mapping of indices to patient coordinates).
    """
    planes, left_out = read_planes(folder, series=series)
    require_one_grid(planes)
    planes, step = sorted_stack(planes)
    ends = [integer(p.header, "InStackPositionNumber", p.path) for p in (planes[0], planes[-1])]
    if None not in ends and ends[0] > ends[1]:  # the files number their places against the normal
        planes, step = planes[::-1], -step
    depth, (rows, columns) = len(planes), planes[0].size
    if depth * rows * columns * 4 > max_bytes:
        raise DicomError(
            f"{where(planes)}: a volume of {depth}×{rows}×{columns} needs "
            f"{depth * rows * columns * 4:,} bytes, above the limit of {max_bytes:,}; pass "
            "max_bytes= to allow more"
        )
    voxels, units, header = _voxels(planes, max_bytes)
    length = float(np.linalg.norm(step))
    cosines = planes[0].orientation
    return Volume(
        voxels=voxels,
        spacing=(length, *planes[0].spacing),
        origin=tuple(map(float, planes[0].position)),
        direction=(tuple(float(c) for c in step / length), cosines[3:], cosines[:3]),
        units=units,
        modality=text(header, "Modality", planes[0].path),
        header=header,
        files=tuple(plane.path for plane in planes),
        left_out=left_out,
    )


def _voxels(planes: list[Plane], max_bytes: int) -> tuple[Tensor, str, Dataset]:
    """Read and rescale every plane; a file is opened once, its planes set where they belong."""
    places = defaultdict(list)
    for index, plane in enumerate(planes):
        places[plane.path].append((index, plane.frame))
    voxels = torch.empty((len(planes), *planes[0].size), dtype=torch.float32)
    units: dict[str, Path] = {}
    header = planes[0].header
    for path, targets in places.items():
        file = open_dicom(path, max_bytes=max_bytes)
        values, layout = stored_values(file, max_bytes=max_bytes)
        if layout.photometric == "RGB":
            raise DicomError(
                f"{path}: a colour image; a volume needs grey values. read_image reads it"
            )
        if values.shape[1:] != planes[0].size:
            raise DicomError(f"{path}: changed while it was read")
        dataset = without_pixels(file.dataset)
        for index, frame in targets:
            rule = rescale(dataset, frame, path)
            units.setdefault(rule.units or "stored", path)
            real = rule(values[frame], path)
            if not np.isfinite(real).all():
                raise DicomError(f"{path}: its pixels are not finite after the header's rescale")
            voxels[index] = torch.from_numpy(real.astype(np.float32))
    if len(units) > 1:
        listing = ", ".join(f"{unit} ({path.name})" for unit, path in units.items())
        raise DicomError(f"{where(planes)}: the slices have different units: {listing}")
    return voxels, next(iter(units)), header
