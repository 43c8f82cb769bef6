"""What the header says of each frame: place, size, rescale.

An enhanced multi-frame file keeps these in functional groups, shared by all frames or one set a
frame; a classic file keeps them at the top.

Source: DICOM PS3.3 C.7.6.16 (functional groups), C.7.6.2 (image plane), C.11 (look-up tables).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medlab.dicom.source import integer, number, numbers, refusing, sequence, text
from medlab.errors import DicomError


def group_of(dataset: Dataset, frame: int, keyword: str, path: Path) -> Dataset:
    """The functional group `keyword` of one frame, its own or the shared one, else the top."""
    own = sequence(dataset, "PerFrameFunctionalGroupsSequence", path)
    shared = sequence(dataset, "SharedFunctionalGroupsSequence", path)
    if own and frame >= len(own):
        raise DicomError(f"{path}: describes {len(own)} frames, none for frame {frame + 1}")
    for group in (*own[frame : frame + 1], *shared[:1]):
        if items := sequence(group, keyword, path):
            return items[0]
    return dataset


def pixel_spacing(dataset: Dataset, frame: int, path: Path) -> tuple[Any, str]:
    """Distance of pixel centres (between rows, between columns) in mm, and the attribute with it.

    PixelSpacing is the size in the patient. ImagerPixelSpacing is the size on the detector, larger
    than in the patient by the magnification of the X-ray beam. An ultrasound region states its own,
    used only where all its regions agree. (None, "") where nothing is said.
    """
    group = group_of(dataset, frame, "PixelMeasuresSequence", path)
    for source, keyword in ((group, "PixelSpacing"), (dataset, "ImagerPixelSpacing")):
        if (found := numbers(source, keyword, path, count=2)) is not None:
            if min(found) <= 0:
                raise DicomError(f"{path}: {keyword} must be positive, got {found}")
            return found, keyword
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

    The units are "stored" where the header names no rescale, "" where the rescale names none.
    """
    source = group_of(dataset, frame, "PixelValueTransformationSequence", path)
    for item in sequence(source, "ModalityLUTSequence", path):
        if "LUTDescriptor" in item or "LUTData" in item:  # an empty item says nothing
            return _through_lut(item, stored, path), text(item, "ModalityLUTType", path)
    slope, intercept = (number(source, f"Rescale{end}", path) for end in ("Slope", "Intercept"))
    units = text(source, "RescaleType", path) or text(dataset, "Units", path)
    if "DoseGridScaling" in dataset:
        slope, intercept = number(dataset, "DoseGridScaling", path), 0.0
        units = text(dataset, "DoseUnits", path)
    if slope is None and intercept is None:
        return stored.astype(np.float64), "stored"
    if slope is None or intercept is None or slope == 0:
        raise DicomError(
            f"{path}: RescaleSlope is {slope} and RescaleIntercept {intercept}; both must be there"
        )
    if not units and text(dataset, "Modality", path) == "CT":
        units = "HU"  # RescaleType may be left out of a CT only where it is HU, C.11.1.1.2
    return stored.astype(np.float64) * slope + intercept, units


def _through_lut(item: Dataset, stored: np.ndarray, path: Path) -> np.ndarray:
    """Stored values looked up in a Modality LUT of 16-bit entries (PS3.3 C.11.1.1)."""
    with refusing(path, "read a look-up table"):
        count, first, _ = item.LUTDescriptor
        entries = item.LUTData
        if isinstance(entries, bytes):
            entries = np.frombuffer(entries, ">u2" if item.original_encoding[1] is False else "<u2")
        entries = np.asarray(entries, dtype=np.float64).reshape(count % 65536 or 65536)
        return entries[np.clip(stored.astype(np.int64) - first, 0, len(entries) - 1)]


def is_mosaic(dataset: Dataset, path: Path) -> bool:
    """Whether the slices of a volume stand side by side in one picture (Siemens, UIH)."""
    kinds = text(dataset, "ImageType", path).upper().split("\\")
    return "MOSAIC" in kinds or "VFRAME" in kinds
