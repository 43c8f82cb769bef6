"""What the header says of each frame: place, size, rescale, time, padding.

An enhanced multi-frame file keeps these in functional groups, shared by all frames or one set a
frame; a classic file keeps them at the top. Both are read through `_group`.

Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups), C.7.6.2 (image plane), C.11 (look-up
tables).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medlab.dicom.source import integer, number, numbers, refusing, sequence, text
from medlab.errors import DicomError


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
    if cosines is not None:
        axes = np.reshape(cosines, (2, 3))
        if np.abs(axes @ axes.T - np.eye(2)).max() > 2e-2:
            raise DicomError(
                f"{path}: ImageOrientationPatient {cosines} is not two perpendicular unit vectors"
            )
    return cosines


def pixel_spacing(
    dataset: Dataset, frame: int, path: Path
) -> tuple[tuple[float, float] | None, str]:
    """Distance of pixel centres (between rows, between columns) in mm, and the attribute with it.

    PixelSpacing is the size in the patient. ImagerPixelSpacing is the size on the detector, larger
    than in the patient by the magnification of the X-ray beam. An ultrasound region states its own,
    used only where all its regions agree. (None, "") where nothing is said.
    """
    group = _group(dataset, frame, "PixelMeasuresSequence", path) or Dataset()
    for source, keyword in (
        (group, "PixelSpacing"),
        (dataset, "PixelSpacing"),
        (dataset, "ImagerPixelSpacing"),
    ):
        if (found := numbers(source, keyword, path, count=2)) is not None:
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


def real_values(
    dataset: Dataset, frame: int, stored: np.ndarray, path: Path
) -> tuple[np.ndarray, str]:
    """One frame's stored values in their units, float64 so that nothing is rounded twice.

    Returns:
        The values, and "stored" as their units where the header names no rescale.
    """
    source = _group(dataset, frame, "PixelValueTransformationSequence", path) or dataset
    for item in sequence(source, "ModalityLUTSequence", path):
        if "LUTDescriptor" in item or "LUTData" in item:  # an empty item says nothing
            units = text(item, "ModalityLUTType", path) or "rescaled"
            return _through_lut(item, stored, path), units
    slope, intercept = (number(source, f"Rescale{end}", path) for end in ("Slope", "Intercept"))
    units = text(source, "RescaleType", path) or text(dataset, "Units", path)
    if "DoseGridScaling" in dataset:
        slope, intercept = number(dataset, "DoseGridScaling", path), 0.0
        units = text(dataset, "DoseUnits", path)
    if slope is None and intercept is None:
        return stored.astype(np.float64), "stored"
    if slope is None or intercept is None or slope == 0:
        raise DicomError(
            f"{path}: RescaleSlope is {slope} and RescaleIntercept {intercept}: both are needed, "
            "and a slope other than 0, or the real values are unknown"
        )
    if not units and text(dataset, "Modality", path) == "CT":
        units = "HU"  # RescaleType may be left out of a CT only where it is HU, C.11.1.1.2
    units = "rescaled" if units in ("", "US") else units
    return stored.astype(np.float64) * slope + intercept, units


def _through_lut(item: Dataset, stored: np.ndarray, path: Path) -> np.ndarray:
    """Stored values looked up in a Modality LUT of 16-bit entries (PS3.3 C.11.1.1)."""
    count, first, _ = numbers(item, "LUTDescriptor", path, count=3) or (-1, 0, 0)
    with refusing(path, "read a look-up table"):
        entries = item["LUTData"].value
        if isinstance(entries, bytes):
            order = ">" if item.original_encoding[1] is False else "<"
            entries = np.frombuffer(entries, f"{order}u2")
        entries = np.atleast_1d(np.asarray(entries, dtype=np.float64))
    if len(entries) != (count or 65536):
        raise DicomError(
            f"{path}: a look-up table has {len(entries)} entries, its descriptor says {count:g}"
        )
    return entries[np.clip(stored.astype(np.int64) - int(first), 0, len(entries) - 1)]


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


def frame_times(dataset: Dataset, frames: int, path: Path) -> list[float] | None:
    """Time of each frame in ms after the first, None where the header does not say.

    Taken from FrameTimeVector, FrameTime, or the trigger delays of enhanced frames.
    """
    if frames < 2:
        return None
    vector = numbers(dataset, "FrameTimeVector", path)
    if vector is not None and len(vector) == frames:
        return (np.cumsum(vector) - vector[0]).tolist()
    step = number(dataset, "FrameTime", path)
    if step and step > 0:
        return [step * k for k in range(frames)]
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return None
    groups = [_group(dataset, k, "CardiacSynchronizationSequence", path) for k in range(frames)]
    delays = [number(g or Dataset(), "NominalCardiacTriggerDelayTime", path) for g in groups]
    if None in delays or len(set(delays)) < 2:
        return None
    return [delay - delays[0] for delay in delays if delay is not None and delays[0] is not None]
