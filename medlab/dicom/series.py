"""A folder of DICOM slices as one volume in millimetres and Hounsfield units.

The rules: slices are ordered by where they lie in the patient, never by file name or
InstanceNumber; their distance is measured from their positions, never taken from SliceThickness;
and whatever does not make one regular stack is refused with the names of the files that spoil it.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from pydicom.uid import UID
from torch import Tensor

from medlab.dicom.frames import orientation, pixel_spacing, position, rescale
from medlab.dicom.image import without_pixels
from medlab.dicom.pixels import stored_values
from medlab.dicom.source import MAX_BYTES, integer, open_dicom, refusing, text
from medlab.errors import DicomError

__all__ = ["Plane", "SeriesInfo", "Volume", "list_series", "read_planes", "read_series"]

_AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


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


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder."""

    uid: str
    description: str
    modality: str
    number: int | None
    files: tuple[Path, ...] = field(repr=False)

    def __str__(self) -> str:
        name = self.description or "no description"
        return f"{self.uid}: {self.modality or '?'}, {name!r}, {len(self.files)} file(s)"


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


def list_series(folder: Path | str | Iterable[Path | str]) -> list[SeriesInfo]:
    """The image series below a folder, largest first.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves.

    Raises:
        DicomError: no such folder, or a file that should be DICOM and cannot be read.
    """
    headers, left_out = _scan(folder)
    _tell(left_out)
    return _group(headers)


def read_series(
    folder: Path | str | Iterable[Path | str],
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
    _require_one_grid(planes)
    planes, step = _sorted_stack(planes)
    depth, (rows, columns) = len(planes), planes[0].size
    if depth * rows * columns * 4 > max_bytes:
        raise DicomError(
            f"{_where(planes)}: a volume of {depth}×{rows}×{columns} needs "
            f"{depth * rows * columns * 4:,} "
            f"bytes, above the limit of {max_bytes:,}; pass max_bytes= to allow more"
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


def read_planes(
    folder: Path | str | Iterable[Path | str], *, series: str | int | None
) -> tuple[list[Plane], tuple[tuple[Path, str], ...]]:
    """The planes of one series in no particular order, and the files left out; pixels are not read
    yet.
    """
    headers, left_out = _scan(folder)
    _tell(left_out)
    chosen = _choose(_group(headers), series, folder)
    planes = []
    for path in chosen.files:
        header = headers[path]
        frames = integer(header, "NumberOfFrames", path, 1)
        size = integer(header, "Rows", path), integer(header, "Columns", path)
        if None in size:
            raise DicomError(f"{path}: the header has no Rows or Columns")
        if not 1 <= frames <= 100_000:
            raise DicomError(f"{path}: NumberOfFrames {frames} is impossible")
        for frame in range(frames):
            planes.append(_plane(header, frame, size, path))
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
            f"{path}: the header has no {' and no '.join(missing)}, so the slice has no place in "
            "a volume; "
            "read_image reads it as a picture"
        )
    return Plane(path, frame, size, np.array(place), turned, spacing, header)


def _scan(
    folder: Path | str | Iterable[Path | str],
) -> tuple[dict[Path, Dataset], list[tuple[Path, str]]]:
    """Headers of all image files, and what else was found."""
    named = not isinstance(folder, (str, Path))
    if named:
        paths = [Path(path) for path in folder]
    else:
        root = Path(folder)
        if not root.exists():
            raise DicomError(f"{root}: no such folder")
        found = sorted(root.rglob("*")) if root.is_dir() else [root]
        paths = [path for path in found if path.is_file() and not path.name.startswith(".")]
    headers, left_out = {}, []
    for path in paths:
        if not named and not _looks_like_dicom(path):
            left_out.append((path, "not a DICOM file"))
            continue
        header = open_dicom(path, pixels=False).dataset
        if "Rows" in header:
            headers[path] = header
        else:
            kind = text(header, "Modality", path)
            kind = kind or UID(text(header.file_meta, "MediaStorageSOPClassUID", path)).name
            left_out.append((path, f"{kind}, holds no image"))
    if not headers:
        where = "the files given" if named else folder
        kinds = "; ".join(f"{path.name}: {reason}" for path, reason in left_out[:5])
        raise DicomError(f"{where}: no DICOM image found" + (f" ({kinds})" if kinds else ""))
    return headers, left_out


def _looks_like_dicom(path: Path) -> bool:
    """By prefix, or by name: a slice whose start is damaged must be refused, not skipped."""
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    with refusing(path, "open it"), path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _tell(left_out: list[tuple[Path, str]]) -> None:
    if left_out:
        kinds = ", ".join(f"{path.name} ({reason})" for path, reason in left_out[:5])
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        warnings.warn(f"left out {len(left_out)} file(s): {kinds}{more}", stacklevel=3)


def _group(headers: dict[Path, Dataset]) -> list[SeriesInfo]:
    files = defaultdict(list)
    for path, header in headers.items():
        files[text(header, "SeriesInstanceUID", path)].append(path)
    found = []
    for uid, paths in files.items():
        header, path = headers[paths[0]], paths[0]
        found.append(
            SeriesInfo(
                uid,
                text(header, "SeriesDescription", path),
                text(header, "Modality", path),
                integer(header, "SeriesNumber", path),
                tuple(paths),
            )
        )
    return sorted(found, key=lambda info: (-len(info.files), info.uid))


def _choose(
    found: list[SeriesInfo], series: str | int | None, folder: Path | str | Iterable[Path | str]
) -> SeriesInfo:
    where = folder if isinstance(folder, (str, Path)) else "the files given"
    listing = "".join(f"\n  {info}" for info in found)
    if series is None:
        if len(found) == 1:
            return found[0]
        raise DicomError(f"{where}: {len(found)} series; pick one with series=, its UID:{listing}")
    fits = [
        info for info in found if series == (info.number if isinstance(series, int) else info.uid)
    ]
    if len(fits) != 1:
        amount = "no series" if not fits else f"{len(fits)} series"
        raise DicomError(f"{where}: {amount} {series!r}; there are:{listing}")
    return fits[0]


def _require_one_grid(planes: list[Plane]) -> None:
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
        f"{_where(planes)}: the images of this series differ in {what}, so they are not "
        "one volume; pass the "
        f"files that belong together (a localiser often shares a folder):{listing}"
    )


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{part:g}" for part in value) + ")"
    return str(value)


def _where(planes: list[Plane]) -> Path:
    """The one file that holds all planes, else their folder."""
    paths = {plane.path for plane in planes}
    return paths.pop() if len(paths) == 1 else planes[0].path.parent


def _names(planes: list[Plane]) -> str:
    return ", ".join(map(str, planes[:4])) + (", …" if len(planes) > 4 else "")


def _sorted_stack(planes: list[Plane]) -> tuple[list[Plane], np.ndarray]:
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
            f"{_where(planes)}: the slices do not lie on one line: they are shifted "
            "sideways by up to "
            f"{drift:.2f} mm against each other"
        )
    tilt = float(np.degrees(np.arccos(min(1.0, abs(stride @ normal) / np.linalg.norm(stride)))))
    if tilt > 0.5:
        warnings.warn(
            f"{_where(planes)}: the gantry is tilted by {tilt:.1f}°, so slices are sheared "
            "against each other; "
            "the affine carries the shear, spacing alone does not",
            stacklevel=3,
        )
    return planes, stride


def _refuse_doubles(planes: list[Plane], gaps: np.ndarray, heights: np.ndarray) -> None:
    close = max(1e-3, 0.02 * float(np.median(gaps)))
    if not (gaps < close).any():
        return
    folder = _where(planes)
    levels = np.concatenate([[0], np.cumsum(gaps >= close)])
    counts = Counter(levels.tolist())
    if len(counts) == 1:
        raise DicomError(
            f"{folder}: {len(planes)} images of one slice at one position: frames of a cine, or "
            "copies, not a volume; "
            "read_cine reads them in the order of time"
        )
    if len(set(counts.values())) == 1:
        raise DicomError(
            f"{folder}: {len(counts)} positions with {counts[0]} images each: a volume at several "
            "times, echoes or "
            "energies; pass the files of one of them"
        )
    first = int(np.flatnonzero(gaps < close)[0])
    pairs = [f"{planes[k]} and {planes[k + 1]}" for k in np.flatnonzero(gaps < close)[:5]]
    raise DicomError(
        f"{folder}: two images at one position ({heights[first]:g} mm along the normal): "
        f"{'; '.join(pairs)}. Leave one "
        "of each out, by passing the files to read"
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
        f"{_where(planes)}: {what}; the usual distance is {step:.3f} mm. Find the missing "
        "files, or pass the "
        f"files of a regular part:{''.join(lines)}"
        + (f"\n  and {len(odd) - 6} more" if len(odd) > 6 else "")
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
        raise DicomError(f"{_where(planes)}: the slices have different units: {listing}")
    return voxels, next(iter(units)), header
