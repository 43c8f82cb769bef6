"""Write a simulated study as a valid DICOM series.

Source: DICOM PS3.3 A.3 (CT Image), A.4 (MR Image): every Type 1 and Type 2 attribute of their
mandatory modules is written, and nothing that would claim a real scanner.
"""

from __future__ import annotations

import math
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from pydicom.valuerep import format_number_as_ds

from medlab.dicom.series import Volume
from medlab.errors import DicomError

__all__ = ["write_series"]

_NAMESPACE = uuid.UUID("6d65646c-6162-5000-8000-000000000000")
_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}


def write_series(
    volume: Volume,
    folder: Path | str,
    *,
    patient_id: str = "SIM-0001",
    patient_name: str = "Simulated^Patient",
    study_description: str = "Simulated study",
    series_description: str = "Simulated volume",
    study_date: str = "20000101",
    window: tuple[float, float] | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> list[Path]:
    """Write a volume as one DICOM file a slice, so that `read_series` gives it back.

    CT values are stored as HU + 1024, one unit a step, so they come back rounded to whole HU. Other
    values are stored in 65,536 equal steps between their minimum and maximum. The affine is kept.

    Args:
        volume: what to write; its modality must be "CT" (in HU, −32768 to 31743) or "MR".
        folder: created where it does not exist; it must hold no DICOM files yet.
        patient_id: up to 64 characters.
        patient_name: "Family^Given", up to 64 characters.
        study_description: up to 64 characters.
        series_description: up to 64 characters.
        study_date: YYYYMMDD.
        window: (level, width) for viewers; soft tissue (40, 400) for CT, the full range for MR.
        seed: with the texts above it fixes every UID and the file names: same input, same bytes.
        shuffle: name the files in random order, as archives do; False numbers them by position.

    Returns:
        The files, in slice order.

    Raises:
        DicomError: another modality, values that are not finite or do not fit, a text too long or a
            folder that already holds DICOM files.
    """
    if volume.modality not in _CLASSES:
        raise DicomError(f"write_series writes CT and MR, not {volume.modality!r}")
    for name, value in (
        ("patient_id", patient_id),
        ("patient_name", patient_name),
        ("study_description", study_description),
        ("series_description", series_description),
    ):
        if len(value) > 64 or "\\" in value:
            raise DicomError(
                f"{name} must be up to 64 characters without a backslash, got {value!r}"
            )
    folder = Path(folder)
    if folder.is_dir() and any(folder.glob("*.dcm")):
        raise DicomError(
            f"{folder}: already holds DICOM files, and two studies in one folder get mixed; choose "
            "an empty folder"
        )
    stored, slope, intercept = _stored(volume)
    moment = _moment(study_date)
    key = (patient_id, patient_name, study_description, series_description, study_date, str(seed))
    common = _common(volume, key, moment)
    common.PatientID, common.PatientName = patient_id, patient_name
    common.StudyDescription, common.SeriesDescription = study_description, series_description
    common.RescaleSlope, common.RescaleIntercept = _ds(slope), _ds(intercept)
    level, width = window or _default_window(volume)
    common.WindowCenter, common.WindowWidth = _ds(level), _ds(width)
    depth = len(stored)
    order = np.random.default_rng(seed).permutation(depth) if shuffle else np.arange(depth)
    folder.mkdir(parents=True, exist_ok=True)
    affine = volume.affine.numpy()
    paths = []
    for k in range(depth):
        path = folder / f"IM{order[k]:05d}.dcm"
        _slice(common, stored[k], k, affine, volume, key, moment).save_as(
            path, enforce_file_format=True
        )
        paths.append(path)
    return paths


def _stored(volume: Volume) -> tuple[np.ndarray, float, float]:
    """Stored integers (D, H, W), and the slope and intercept that give the values back."""
    values = volume.voxels.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(values).all():
        raise DicomError("the voxels must be finite numbers: there are NaN or infinite ones")
    if volume.modality == "CT":
        slope, intercept, kind = 1.0, -1024.0, np.int16
    else:
        low, high = float(values.min()), float(values.max())
        # The slope that a reader uses is the one that fits into a decimal string of 16 characters.
        slope = float(_ds((high - low) / 65535 * (1 + 1e-9) or 1.0))
        intercept, kind = float(_ds(low)), np.uint16
    stored = np.rint((values - intercept) / slope)
    bounds = np.iinfo(kind)
    if volume.modality != "CT":
        stored = stored.clip(bounds.min, bounds.max)  # low itself was rounded in the 16th digit
    if stored.min() < bounds.min or stored.max() > bounds.max:
        raise DicomError(
            f"CT voxels must lie between {bounds.min + intercept:g} and {bounds.max + intercept:g} "
            f"HU, got {values.min():g} to {values.max():g}"
        )
    return stored.astype(kind), slope, intercept


def _default_window(volume: Volume) -> tuple[float, float]:
    if volume.modality == "CT":
        return 40.0, 400.0
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    return (low + high) / 2, max(high - low, 1.0)


def _moment(study_date: str) -> datetime:
    try:
        return datetime.strptime(study_date, "%Y%m%d").replace(hour=9)
    except ValueError as error:
        raise DicomError(f"study_date must be YYYYMMDD, got {study_date!r}") from error


def _uid(*parts: str) -> UID:
    """A UUID-derived UID (PS3.5 B.2) that depends on the parts alone."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}")


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters, the most that a DS holds."""
    return format_number_as_ds(float(value))


def _common(volume: Volume, key: tuple[str, ...], moment: datetime) -> Dataset:
    """What all slices share."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = _CLASSES[volume.modality]
    data.StudyInstanceUID = _uid("study", *key)
    data.SeriesInstanceUID = _uid("series", *key)
    data.FrameOfReferenceUID = _uid("frame of reference", *key)
    data.PositionReferenceIndicator = ""
    data.Modality = volume.modality
    data.Manufacturer = "medlab simulation"
    data.ManufacturerModelName = "simulated scanner"
    data.PatientBirthDate = data.PatientSex = ""
    data.ReferringPhysicianName = data.AccessionNumber = ""
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber = "1", 1, 1
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = date
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = time
    data.PatientPosition = "HFS"
    data.BurnedInAnnotation = "NO"
    # It is declared simulated wherever a viewer looks; DERIVED because no detector measured it.
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if volume.modality == "CT" else "OTHER"]
    data.DerivationDescription = "Simulated: no patient was imaged"
    data.ImageComments = "Simulated data, not for clinical use"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = volume.voxels.shape[1:]
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = int(volume.modality == "CT")
    data.PixelSpacing = [_ds(step) for step in volume.spacing[1:]]
    data.SliceThickness = data.SpacingBetweenSlices = _ds(volume.spacing[0])
    data.ImageOrientationPatient = [_ds(c) for axis in (2, 1) for c in volume.direction[axis]]
    if volume.modality == "CT":
        data.KVP = "120"
        data.RescaleType = "HU"
        data.ConvolutionKernel = "SIMULATED"
        del data.SpacingBetweenSlices  # not an attribute of the CT image
    else:
        data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "RM", "NONE", ""
        data.MRAcquisitionType = "3D"
        data.RepetitionTime = data.EchoTime = data.InversionTime = data.EchoTrainLength = None
        data.RescaleType = "US"
    return data


def _slice(
    common: Dataset,
    stored: np.ndarray,
    k: int,
    affine: np.ndarray,
    volume: Volume,
    key: tuple[str, ...],
    moment: datetime,
) -> Dataset:
    data = Dataset(common)
    data.SOPInstanceUID = _uid("image", str(k), *key)
    data.InstanceNumber = k + 1
    data.ContentTime = (moment + timedelta(seconds=k)).strftime("%H%M%S")
    data.ImagePositionPatient = [_ds(x) for x in affine[:3, 3] + k * affine[:3, 0]]
    normal = np.cross(volume.direction[2], volume.direction[1])
    data.SliceLocation = _ds(
        math.fsum(a * b for a, b in zip(normal, affine[:3, 3] + k * affine[:3, 0], strict=True))
    )
    little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    data.add_new("PixelData", "OW", little.tobytes())
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("medlab")
    meta.ImplementationVersionName = "MEDLAB"
    data.file_meta = meta
    return data
