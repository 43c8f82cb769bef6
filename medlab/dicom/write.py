"""Write a simulated study as a valid DICOM series.

Source: DICOM PS3.3 A.3 (CT Image), A.4 (MR Image): every Type 1 and Type 2 attribute of their
mandatory modules is written, and nothing that would claim a real scanner.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from medlab.dicom.series import Volume
from medlab.errors import DicomError, atomic_write

_NAMESPACE = uuid.UUID("6d65646c-6162-5000-8000-000000000000")
_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
_NAME, _MOMENT = "Simulated^Patient", datetime(2000, 1, 1, 9)


def write_series(
    volume: Volume,
    folder: Path | str,
    *,
    patient_id: str = "SIM-0001",
    study_description: str = "Simulated study",
    series_description: str = "Simulated volume",
    seed: int = 0,
) -> list[Path]:
    """Write a volume as one DICOM file a slice, so that `read_series` gives it back.

    The files are named in random order, as archives do.

    CT values are stored as HU + 1024, one unit a step, so they come back rounded to whole HU. Other
    values are stored in 65,536 equal steps between their minimum and maximum. The affine is kept.

    Args:
        volume: what to write, two slices or more; its modality must be "CT" (in HU, −32768 to
            31743) or "MR".
        folder: created where it does not exist; it must hold no DICOM files yet.
        patient_id: up to 64 characters.
        study_description: up to 64 characters.
        series_description: up to 64 characters.
        seed: with the texts above it fixes every UID and the file names: same input, same bytes.

    Returns:
        The files, in slice order.

    Raises:
        DicomError: another modality, values that are not finite or do not fit, axes that no series
            can hold, a text too long, a folder that already holds DICOM files or cannot be written.
    """
    texts = {
        "patient_id": patient_id,
        "study_description": study_description,
        "series_description": series_description,
    }
    for name, value in texts.items():
        if len(value) > 64 or "\\" in value:
            raise DicomError(
                f"{name} must be up to 64 characters without a backslash, got {value!r}"
            )
    _require_writable(volume)
    folder = Path(folder)
    if folder.is_dir() and any(folder.glob("*.dcm")):
        raise DicomError(
            f"{folder}: already holds DICOM files, and two studies in one folder get mixed; choose "
            "an empty folder"
        )
    stored, slope, intercept = _stored(volume)
    key = (patient_id, _NAME, study_description, series_description, f"{_MOMENT:%Y%m%d}", str(seed))
    common = _common(volume, key)
    common.PatientID = patient_id
    common.StudyDescription, common.SeriesDescription = study_description, series_description
    common.RescaleSlope, common.RescaleIntercept = _ds(slope), _ds(intercept)
    order = np.random.default_rng(seed).permutation(len(stored))
    paths = [folder / f"IM{number:05d}.dcm" for number in order]
    for k, path in enumerate(paths):
        data = _slice(common, stored[k], k, volume, key)
        with atomic_write(path, error=DicomError) as part:
            data.save_as(part, enforce_file_format=True)
    return paths


def _require_writable(volume: Volume) -> None:
    """Refuse what `read_series` would not give back."""
    if volume.modality not in _CLASSES:
        raise DicomError(f"write_series writes CT and MR, not {volume.modality!r}")
    if len(volume.voxels) < 2 or not volume.voxels.numel():
        raise DicomError(
            f"a series needs two slices or more, got voxels {tuple(volume.voxels.shape)}"
        )
    if not (np.isfinite(volume.affine.numpy()).all() and volume.voxels.isfinite().all()):
        raise DicomError("voxels and axes must be finite numbers: there are NaN or infinite ones")
    normal, row, column = np.array(volume.direction, dtype=float)
    lengths = np.linalg.norm([normal, row, column], axis=1)
    if np.abs(lengths - 1).max() > 1e-3 or abs(row @ column) > 1e-3:
        raise DicomError(
            "direction must be three unit vectors, rows perpendicular to columns, got "
            f"{volume.direction}"
        )
    if normal @ np.cross(column, row) < 0.05:
        raise DicomError(
            "the slices must run along the image's normal (column direction × row direction); turn "
            "the order of the slices round, and the volume's first direction and origin with it"
        )


def _stored(volume: Volume) -> tuple[np.ndarray, float, float]:
    """Stored integers (D, H, W), and the slope and intercept that give the values back."""
    values = volume.voxels.detach().cpu().numpy().astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if volume.modality == "CT":
        if low < -32768 or high > 31743:
            raise DicomError(
                f"CT voxels must lie between -32768 and 31743 HU, got {low:g} to {high:g}"
            )
        return np.rint(values + 1024).astype("<i2"), 1.0, -1024.0
    # The slope that a reader uses is the one that fits into a decimal string of 16 characters.
    slope = float(_ds((high - low) / 65535 * (1 + 1e-9) or 1.0))
    stored = np.rint((values - float(_ds(low))) / slope)  # low is rounded in the 16th digit: clip
    return stored.clip(0, 65535).astype("<u2"), slope, float(_ds(low))


def _uid(*parts: str) -> UID:
    """A UUID-derived UID (PS3.5 B.2) that depends on the parts alone."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}")


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters, the most that a DS holds."""
    return format_number_as_ds(float(value))


def _common(volume: Volume, key: tuple[str, ...]) -> Dataset:
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
    data.PatientName = _NAME
    data.PatientBirthDate = data.PatientSex = ""
    data.ReferringPhysicianName = data.AccessionNumber = ""
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber = "1", 1, 1
    date, time = _MOMENT.strftime("%Y%m%d"), _MOMENT.strftime("%H%M%S")
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = date
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = time
    data.PatientPosition = "HFS"
    data.BurnedInAnnotation = "NO"
    # It is declared simulated wherever a viewer looks; DERIVED because no detector measured it.
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if volume.modality == "CT" else "OTHER"]
    data.DerivationDescription = "Simulated: no patient was imaged"
    data.ImageComments = "Simulated data, not for clinical use"
    data.PixelSpacing = [_ds(step) for step in volume.spacing[1:]]
    data.SliceThickness = _ds(volume.spacing[0])
    data.ImageOrientationPatient = [_ds(c) for axis in (2, 1) for c in volume.direction[axis]]
    if volume.modality == "CT":
        data.KVP = "120"
        data.RescaleType = "HU"
        data.ConvolutionKernel = "SIMULATED"
        level, width = 40.0, 400.0
    else:
        data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "RM", "NONE", ""
        data.MRAcquisitionType = "3D"
        data.RepetitionTime = data.EchoTime = data.InversionTime = data.EchoTrainLength = None
        data.RescaleType = "US"
        data.SpacingBetweenSlices = data.SliceThickness
        low, high = float(volume.voxels.min()), float(volume.voxels.max())
        level, width = (low + high) / 2, max(high - low, 1.0)
    data.WindowCenter, data.WindowWidth = _ds(level), _ds(width)
    return data


def _slice(
    common: Dataset, stored: np.ndarray, k: int, volume: Volume, key: tuple[str, ...]
) -> Dataset:
    data = Dataset(common)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.ImplementationClassUID = _uid("medlab")
    data.file_meta.ImplementationVersionName = "MEDLAB"
    data.SOPInstanceUID = _uid("image", str(k), *key)
    data.InstanceNumber = k + 1
    data.ContentTime = (_MOMENT + timedelta(seconds=k)).strftime("%H%M%S")
    affine = volume.affine.numpy()
    place, normal = affine[:3, 3] + k * affine[:3, 0], np.cross(affine[:3, 2], affine[:3, 1])
    data.ImagePositionPatient = [_ds(x) for x in place]
    data.SliceLocation = _ds(normal @ place / np.linalg.norm(normal))
    data.set_pixel_data(stored, "MONOCHROME2", 16, generate_instance_uid=False)
    return data
