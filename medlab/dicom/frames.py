"""What the header says of each frame: place, size, rescale, windows, time.

An enhanced multi-frame file keeps these in functional groups, shared by all frames or one set a
frame; a classic file keeps them at the top. Both are read through `frame_group`.

Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups), C.7.6.2 (image plane), C.11 (look-up
tables).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medlab.dicom.source import integer, number, numbers, refusing, sequence, text
from medlab.errors import DicomError

__all__ = [
    "Rescale",
    "Window",
    "frame_group",
    "frame_times",
    "header_windows",
    "orientation",
    "pixel_spacing",
    "position",
    "rescale",
]


@dataclass(frozen=True)
class Window:
    """A window that the header offers: `level` and `width` in the units of the rescaled pixels."""

    level: float
    width: float
    explanation: str = ""
    function: str = "LINEAR"


@dataclass(frozen=True)
class Rescale:
    """Stored value → real value: slope · stored + intercept, or a Modality LUT."""

    slope: float = 1.0
    intercept: float = 0.0
    units: str = ""
    lut: Dataset | None = None

    def __call__(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Apply to an array of stored values; float64 so that nothing is rounded twice."""
        if self.lut is not None:
            first, entries = lut_values(self.lut, path)
            return entries[np.clip(stored.astype(np.int64) - first, 0, len(entries) - 1)]
        if not np.isfinite(self.slope) or self.slope == 0:
            raise DicomError(
                f"{path}: RescaleSlope is {self.slope}: every pixel would become the same value"
            )
        return stored.astype(np.float64) * self.slope + self.intercept


def frame_group(dataset: Dataset, frame: int, keyword: str, path: Path) -> Dataset | None:
    """The functional group `keyword` of one frame: its own, else the shared one, else None."""
    own = sequence(dataset, "PerFrameFunctionalGroupsSequence", path)
    shared = sequence(dataset, "SharedFunctionalGroupsSequence", path)
    if own and frame >= len(own):
        raise DicomError(
            f"{path}: describes {len(own)} frames, but NumberOfFrames asks for frame {frame + 1}"
        )
    for group in (*own[frame : frame + 1], *shared[:1]):
        if items := sequence(group, keyword, path):
            return items[0]
    return None


def position(dataset: Dataset, frame: int, path: Path) -> tuple[float, ...] | None:
    """Centre of the first pixel in patient coordinates (LPS), mm; None where the header does not
    say.
    """
    group = frame_group(dataset, frame, "PlanePositionSequence", path)
    return numbers(group or dataset, "ImagePositionPatient", path, count=3)


def orientation(dataset: Dataset, frame: int, path: Path) -> tuple[float, ...] | None:
    """Direction of increasing column index, then of increasing row index; None where the header
    does not say.

    Raises:
        DicomError: not two perpendicular unit vectors.
    """
    group = frame_group(dataset, frame, "PlaneOrientationSequence", path)
    cosines = numbers(group or dataset, "ImageOrientationPatient", path, count=6)
    if cosines is None:
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > 1e-2 or abs(row @ column) > 1e-2:
        raise DicomError(
            f"{path}: ImageOrientationPatient {cosines} is not two perpendicular unit vectors"
        )
    return cosines


def pixel_spacing(
    dataset: Dataset, frame: int, path: Path
) -> tuple[tuple[float, float] | None, str]:
    """Distance of pixel centres (between rows, between columns) in mm, and the attribute that says
    so.

    PixelSpacing is the size in the patient. ImagerPixelSpacing is the size on the detector, larger
    than in the patient by the magnification of the X-ray beam. NominalScannedPixelSpacing belongs
    to digitised film, and an ultrasound region states its own, used only where all its regions
    agree. (None, "") where nothing is said.
    """
    group = frame_group(dataset, frame, "PixelMeasuresSequence", path)
    for source, keyword in (
        (group, "PixelSpacing"),
        (dataset, "PixelSpacing"),
        (dataset, "ImagerPixelSpacing"),
        (dataset, "NominalScannedPixelSpacing"),
    ):
        found = numbers(source, keyword, path, count=2) if source is not None else None
        if found is not None:
            if min(found) <= 0:
                raise DicomError(f"{path}: {keyword} must be positive, got {found}")
            return (found[0], found[1]), keyword
    return _ultrasound_spacing(dataset, path)


def _ultrasound_spacing(dataset: Dataset, path: Path) -> tuple[tuple[float, float] | None, str]:
    found = set()
    for region in sequence(dataset, "SequenceOfUltrasoundRegions", path):
        units = (
            integer(region, "PhysicalUnitsXDirection", path),
            integer(region, "PhysicalUnitsYDirection", path),
        )
        x, y = number(region, "PhysicalDeltaX", path), number(region, "PhysicalDeltaY", path)
        if units == (3, 3) and x and y:  # 3 is centimetres, PS3.3 C.8.5.5.1.15
            found.add((abs(y) * 10, abs(x) * 10))
    if len(found) == 1:
        return found.pop(), "SequenceOfUltrasoundRegions"
    return None, ""


def rescale(dataset: Dataset, frame: int, path: Path) -> Rescale:
    """How stored values become real ones, with their units: "HU", another unit, or "" where the
    header is silent.
    """
    group = frame_group(dataset, frame, "PixelValueTransformationSequence", path)
    source = group if group is not None else dataset
    if luts := sequence(source, "ModalityLUTSequence", path):
        return Rescale(units=text(luts[0], "ModalityLUTType", path), lut=luts[0])
    slope = number(source, "RescaleSlope", path)
    intercept = number(source, "RescaleIntercept", path)
    if slope is None and intercept is None:
        return Rescale()
    if slope is None or intercept is None:
        raise DicomError(
            f"{path}: only one of RescaleSlope and RescaleIntercept is present: the real values "
            "are unknown"
        )
    units = text(source, "RescaleType", path) or text(dataset, "Units", path)
    if not units:  # RescaleType may be left out of a CT only where it is HU (PS3.3 C.11.1.1.2)
        units = "HU" if text(dataset, "Modality", path) == "CT" else "rescaled"
    elif units == "US":
        units = "rescaled"
    return Rescale(slope, intercept, units)


def lut_values(item: Dataset, path: Path) -> tuple[int, np.ndarray]:
    """First mapped stored value, and the entries, of a Modality or VOI LUT item (PS3.3
    C.11.1.1).
    """
    descriptor = numbers(item, "LUTDescriptor", path, count=3)
    if descriptor is None:
        raise DicomError(f"{path}: a look-up table has no LUTDescriptor")
    count, first, bits = int(descriptor[0]) or 65536, int(descriptor[1]), int(descriptor[2])
    with refusing(path, "read a look-up table"):
        raw = item["LUTData"].value
        little = item.original_encoding[1] is not False
        if isinstance(raw, (bytes, bytearray)):
            kind = "u1" if bits <= 8 and len(raw) < 2 * count else ("<u2" if little else ">u2")
            entries = np.frombuffer(raw, dtype=kind)
        else:
            entries = np.atleast_1d(np.asarray(raw, dtype=np.int64))
    if not count <= len(entries) <= count + 1:
        raise DicomError(
            f"{path}: a look-up table has {len(entries)} entries, its descriptor says {count}"
        )
    return first, entries[:count].astype(np.float64)


def header_windows(
    dataset: Dataset, path: Path | str = "header", *, frame: int = 0
) -> tuple[Window, ...]:
    """The windows that the header offers, in its order; empty where it offers none.

    Args:
        dataset: a header, as `read_image(...).header`.
        path: named in errors.
        frame: which frame's, for an enhanced multi-frame file.

    Source: DICOM PS3.3 C.11.2.1.2.
    """
    path = Path(path)
    group = frame_group(dataset, frame, "FrameVOILUTSequence", path)
    source = group if group is not None else dataset
    levels = numbers(source, "WindowCenter", path) or ()
    widths = numbers(source, "WindowWidth", path) or ()
    if len(levels) != len(widths):
        raise DicomError(f"{path}: {len(levels)} WindowCenter but {len(widths)} WindowWidth values")
    function = text(source, "VOILUTFunction", path, "LINEAR").upper()
    names = text(source, "WindowCenterWidthExplanation", path).split("\\")
    names += [""] * (len(levels) - len(names))
    return tuple(
        Window(level, width, name, function)
        for level, width, name in zip(levels, widths, names, strict=False)
        if width >= 1 or (width > 0 and function != "LINEAR")
    )


def frame_times(dataset: Dataset, frames: int, path: Path) -> tuple[float, ...] | None:
    """Time of each frame in ms after the first, None where the header does not say.

    Taken from FrameTimeVector, FrameTime, the cine rate, or the enhanced frames' own trigger or
    acquisition times.
    """
    vector = numbers(dataset, "FrameTimeVector", path)
    if vector is not None and len(vector) == frames:
        total = np.cumsum(vector)
        return tuple(float(t - total[0]) for t in total)
    step = number(dataset, "FrameTime", path)
    rate = number(dataset, "CineRate", path) or number(dataset, "RecommendedDisplayFrameRate", path)
    if not step and rate and rate > 0:
        step = 1000.0 / rate
    if step and step > 0 and frames > 1:
        return tuple(step * k for k in range(frames))
    if len(sequence(dataset, "PerFrameFunctionalGroupsSequence", path)) != frames or frames < 2:
        return None
    times = [_own_time(dataset, k, path) for k in range(frames)]
    if any(t is None for t in times) or len(set(times)) < 2:
        return None
    return tuple(float(t - times[0]) for t in times)


def _own_time(dataset: Dataset, frame: int, path: Path) -> float | None:
    cardiac = frame_group(dataset, frame, "CardiacSynchronizationSequence", path)
    if cardiac is not None:
        delay = number(cardiac, "NominalCardiacTriggerDelayTime", path)
        if delay is not None:
            return delay
    content = frame_group(dataset, frame, "FrameContentSequence", path)
    stamp = text(content, "FrameReferenceDateTime", path) if content is not None else ""
    if not stamp and content is not None:
        stamp = text(content, "FrameAcquisitionDateTime", path)
    digits, _, fraction = stamp.split("+")[0].split("-")[0].partition(".")
    if len(digits) != 14:
        return None
    with refusing(path, "read a frame's time"):
        moment = datetime.strptime(digits, "%Y%m%d%H%M%S")
        return moment.timestamp() * 1000 + float(f"0.{fraction or 0}") * 1000
