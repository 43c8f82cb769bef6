"""What the header says of each frame: place, size, rescale, windows, time, padding.

An enhanced multi-frame file keeps these in functional groups, shared by all frames or one set a
frame; a classic file keeps them at the top. Both are read through `_group`.

Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups), C.7.6.2 (image plane), C.11 (look-up
tables).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medlab.dicom.source import integer, number, numbers, refusing, sequence, text
from medlab.errors import DicomError


@dataclass(frozen=True)
class Window:
    """A window that the header offers: `level` and `width` in the units of the rescaled pixels."""

    level: float
    width: float
    explanation: str = ""
    function: str = "LINEAR"


@dataclass(frozen=True)
class Rescale:
    """Stored value → real value in `units`: slope · stored + intercept, or a Modality LUT."""

    slope: float = 1.0
    intercept: float = 0.0
    units: str = "stored"
    first: int = 0
    lut: np.ndarray | None = None

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Real values, float64 so that nothing is rounded twice."""
        if self.lut is None:
            return stored.astype(np.float64) * self.slope + self.intercept
        return self.lut[np.clip(stored.astype(np.int64) - self.first, 0, len(self.lut) - 1)]


def _group(dataset: Dataset, frame: int, keyword: str, path: Path) -> Dataset | None:
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
    """Centre of the first pixel in patient coordinates (LPS), mm; None where not said.

    The planes of an RT Dose stand at the offsets of its GridFrameOffsetVector, either along the
    normal or, where the first is not 0, as z coordinates (PS3.3 C.8.8.3.2).
    """
    group = _group(dataset, frame, "PlanePositionSequence", path)
    place = numbers(group or dataset, "ImagePositionPatient", path, count=3)
    offsets = numbers(dataset, "GridFrameOffsetVector", path)
    cosines = orientation(dataset, frame, path)
    if not offsets or place is None or cosines is None:
        return place
    if frame >= len(offsets):
        raise DicomError(f"{path}: GridFrameOffsetVector has {len(offsets)} planes, not all")
    normal = np.cross(cosines[:3], cosines[3:])
    along = offsets[frame] if offsets[0] == 0 else (offsets[frame] - place[2]) * np.sign(normal[2])
    return tuple(float(x) for x in place + along * normal)


def orientation(dataset: Dataset, frame: int, path: Path) -> tuple[float, ...] | None:
    """Direction of increasing column index, then of increasing row index; None where not said.

    Raises:
        DicomError: not two perpendicular unit vectors.
    """
    group = _group(dataset, frame, "PlaneOrientationSequence", path)
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
    """Distance of pixel centres (between rows, between columns) in mm, and the attribute with it.

    PixelSpacing is the size in the patient. ImagerPixelSpacing is the size on the detector, larger
    than in the patient by the magnification of the X-ray beam. NominalScannedPixelSpacing belongs
    to digitised film, and an ultrasound region states its own, used only where all its regions
    agree. (None, "") where nothing is said.
    """
    group = _group(dataset, frame, "PixelMeasuresSequence", path)
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
    regions = set()
    for region in sequence(dataset, "SequenceOfUltrasoundRegions", path):
        units = {integer(region, f"PhysicalUnits{axis}Direction", path) for axis in "XY"}
        x, y = number(region, "PhysicalDeltaX", path), number(region, "PhysicalDeltaY", path)
        if units == {3} and x and y:  # 3 is centimetres, PS3.3 C.8.5.5.1.15
            regions.add((abs(y) * 10, abs(x) * 10))
    return (regions.pop(), "SequenceOfUltrasoundRegions") if len(regions) == 1 else (None, "")


def rescale(dataset: Dataset, frame: int, path: Path) -> Rescale:
    """How stored values become real ones; `units` is "stored" where the header is silent."""
    source = _group(dataset, frame, "PixelValueTransformationSequence", path) or dataset
    for item in sequence(source, "ModalityLUTSequence", path):
        if "LUTDescriptor" in item or "LUTData" in item:  # an empty item says nothing
            units = text(item, "ModalityLUTType", path) or "rescaled"
            return Rescale(1.0, 0.0, units, *_lut(item, path))
    slope, intercept = (number(source, f"Rescale{end}", path) for end in ("Slope", "Intercept"))
    units = text(source, "RescaleType", path) or text(dataset, "Units", path)
    if "DoseGridScaling" in dataset:
        slope, intercept = number(dataset, "DoseGridScaling", path), 0.0
        units = text(dataset, "DoseUnits", path)
    if slope is None and intercept is None:
        return Rescale()
    if slope is None or intercept is None or slope == 0:
        raise DicomError(
            f"{path}: RescaleSlope is {slope} and RescaleIntercept {intercept}: both are needed, "
            "and a slope other than 0, or the real values are unknown"
        )
    if not units and text(dataset, "Modality", path) == "CT":
        units = "HU"  # RescaleType may be left out of a CT only where it is HU, C.11.1.1.2
    return Rescale(slope, intercept, "rescaled" if units in ("", "US") else units)


def _lut(item: Dataset, path: Path) -> tuple[int, np.ndarray]:
    """First mapped stored value, and the entries, of a Modality LUT item (C.11.1.1)."""
    count, first, bits = numbers(item, "LUTDescriptor", path, count=3) or (0, 0, 0)
    with refusing(path, "read a look-up table"):
        entries = item["LUTData"].value
        if isinstance(entries, bytes):
            order = ">" if item.original_encoding[1] is False else "<"
            narrow = bits <= 8 and len(entries) < 2 * count
            entries = np.frombuffer(entries, dtype="u1" if narrow else f"{order}u2")
        entries = np.atleast_1d(np.asarray(entries, dtype=np.float64))
    count = int(count) or 65536
    if not count <= len(entries) <= count + 1:
        raise DicomError(
            f"{path}: a look-up table has {len(entries)} entries, its descriptor says {count}"
        )
    return int(first), entries[:count]


def header_windows(dataset: Dataset, path: Path | str = "header") -> tuple[Window, ...]:
    """The windows that the header offers, in its order; empty where it offers none.

    Args:
        dataset: a header, as `read_image(...).header`; of several frames, the first one's.
        path: named in errors.

    Raises:
        DicomError: levels and widths that are no numbers, or not as many of one as of the other.

    Example:
        >>> header = Dataset()
        >>> header.WindowCenter, header.WindowWidth = 40, 400
        >>> header_windows(header)
        (Window(level=40.0, width=400.0, explanation='', function='LINEAR'),)

    Source: DICOM PS3.3 C.11.2.1.2.
    """
    path = Path(path)
    source = _group(dataset, 0, "FrameVOILUTSequence", path) or dataset
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


def padding(dataset: Dataset, stored: np.ndarray, keyword: str, path: Path) -> np.ndarray | None:
    """Where stored values are PixelPaddingValue, up to PixelPaddingRangeLimit; None if nowhere.

    Args:
        dataset: the header.
        stored: the stored values.
        keyword: the element that held them, which names the padding's attribute.
        path: the file.

    Source: DICOM PS3.3 C.7.5.1.1.2.
    """
    name = keyword.removesuffix("Data") + "Padding"
    value = number(dataset, f"{name}Value", path)
    if value is None:
        return None
    limit = number(dataset, f"{name}RangeLimit", path)
    ends = np.array([value, value if limit is None else limit])
    if stored.dtype.kind in "iu":  # −2000 is often written as 63536: same bits, wrong sign
        ends = ends.astype(np.int64).astype(stored.dtype)
    mask = (stored >= ends.min()) & (stored <= ends.max())
    return mask if mask.any() else None


def is_mosaic(dataset: Dataset, path: Path) -> bool:
    """Whether the slices of a volume stand side by side in one picture (Siemens, UIH)."""
    kinds = text(dataset, "ImageType", path).upper().split("\\")
    return "MOSAIC" in kinds or "VFRAME" in kinds


def frame_times(dataset: Dataset, frames: int, path: Path) -> tuple[float, ...] | None:
    """Time of each frame in ms after the first, None where the header does not say.

    Taken from FrameTimeVector, FrameTime, the cine rate, or the enhanced frames' own trigger or
    acquisition times.
    """
    vector = numbers(dataset, "FrameTimeVector", path)
    if vector is not None and len(vector) == frames:
        return tuple(float(t) for t in np.cumsum(vector) - vector[0])
    step = number(dataset, "FrameTime", path)
    rate = number(dataset, "CineRate", path) or number(dataset, "RecommendedDisplayFrameRate", path)
    if not step and rate and rate > 0:
        step = 1000.0 / rate
    if step and step > 0 and frames > 1:
        return tuple(step * k for k in range(frames))
    if len(sequence(dataset, "PerFrameFunctionalGroupsSequence", path)) != frames or frames < 2:
        return None
    times = [time for k in range(frames) if (time := _own_time(dataset, k, path)) is not None]
    if len(times) < frames or len(set(times)) < 2:
        return None
    return tuple(time - times[0] for time in times)


def _own_time(dataset: Dataset, frame: int, path: Path) -> float | None:
    """One enhanced frame's time in ms: after the R wave, else after the year 1."""
    cardiac = _group(dataset, frame, "CardiacSynchronizationSequence", path)
    delay = number(cardiac or dataset, "NominalCardiacTriggerDelayTime", path)
    content = _group(dataset, frame, "FrameContentSequence", path) or dataset
    stamp = text(content, "FrameReferenceDateTime", path)
    stamp = stamp or text(content, "FrameAcquisitionDateTime", path)
    if delay is not None or not stamp:
        return delay
    with refusing(path, "read a frame's time"):
        digits, _, fraction = re.split("[+-]", stamp)[0].partition(".")
        moment = datetime.strptime(digits, "%Y%m%d%H%M%S") - datetime.min
        return moment.total_seconds() * 1000 + float(f"0.{fraction or 0}") * 1000
