"""Write a simulated study as a valid DICOM series.

Source: DICOM PS3.3 A.3 (CT Image), A.4 (MR Image): every Type 1 and Type 2 attribute of their
mandatory modules is written, and nothing that would claim a real scanner. What no volume changes
stands in `simulated.json`.
"""

import uuid
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from medlab.dicom.series import Volume
from medlab.errors import DicomError, atomic_write, read_facts

_NAMESPACE = uuid.UUID("6d65646c-6162-5000-8000-000000000000")
_HEADER = read_facts("dicom/simulated")


def write_series(
    volume: Volume, folder: Path | str, *, patient_id: str = "SIM-0001", seed: int = 0
) -> list[Path]:
    """Write a volume as one DICOM file a slice, so that `read_series` gives it back.

    CT values are stored as HU + 1024, one unit a step, so they come back rounded to whole HU. Other
    values are stored in 65,536 equal steps between their minimum and maximum. The affine is kept.
    Files are named in random order, as archives do.

    Args:
        volume: two slices or more; modality "CT" (in HU, −32768 to 31743) or "MR".
        folder: created where it does not exist; it must hold no DICOM files yet.
        patient_id: up to 64 characters.
        seed: with `patient_id` it fixes every UID and the file names: same input, same bytes.

    Returns:
        The files, in slice order.

    Raises:
        DicomError: another modality, values that are not finite or do not fit, axes that no series
            can hold, a `patient_id` too long, a folder with DICOM files or that cannot be written.
    """
    folder = Path(folder)
    if len(patient_id) > 64 or "\\" in patient_id:
        raise DicomError(f"patient_id: up to 64 characters, no backslash; got {patient_id!r}")
    if any(folder.glob("*.dcm")):
        raise DicomError(f"{folder}: already holds DICOM files; choose an empty folder")
    _require_writable(volume)
    common = Dataset()  # what all slices share; declared simulated wherever a viewer looks
    for keyword, value in {**_HEADER["all"], **_HEADER[volume.modality]}.items():
        setattr(common, keyword, value)
    common.Modality, common.PatientID = volume.modality, patient_id
    common.PixelSpacing = [_ds(step) for step in volume.spacing[1:]]
    common.SliceThickness = _ds(volume.spacing[0])
    common.ImageOrientationPatient = [_ds(c) for axis in (2, 1) for c in volume.direction[axis]]
    stored, *rescale = _stored(volume)
    common.RescaleSlope, common.RescaleIntercept = map(_ds, rescale)
    said = "PatientID PatientName StudyDescription SeriesDescription StudyDate".split()
    key = "/".join(str(part) for part in (*(common[keyword].value for keyword in said), seed))
    common.StudyInstanceUID, common.SeriesInstanceUID = _uid(f"study/{key}"), _uid(f"series/{key}")
    common.FrameOfReferenceUID = _uid(f"frame of reference/{key}")
    origin, step = volume.affine[:3, 3].numpy(), volume.affine[:3, 0].numpy()
    paths = []
    for k, number in enumerate(np.random.default_rng(seed).permutation(len(stored))):
        data = Dataset(common)
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.ImplementationClassUID = _uid("medlab")
        data.file_meta.ImplementationVersionName = "MEDLAB"
        data.SOPInstanceUID, data.InstanceNumber = _uid(f"image/{k}/{key}"), k + 1
        if np.linalg.det(volume.direction) > 0:  # slices run against the normal, by which files are
            data.StackID, data.InStackPositionNumber = "1", k + 1  # sorted: this brings ours back
        data.ImagePositionPatient = [_ds(x) for x in origin + k * step]
        data.set_pixel_data(stored[k], "MONOCHROME2", 16, generate_instance_uid=False)
        paths.append(folder / f"IM{number:05d}.dcm")
        with atomic_write(paths[-1], error=DicomError) as part:
            data.save_as(part, enforce_file_format=True)
    return paths


def _require_writable(volume: Volume) -> None:
    """Refuse what `read_series` would not give back."""
    if volume.modality not in ("CT", "MR"):
        raise DicomError(f"write_series writes CT and MR, not {volume.modality!r}")
    if len(volume.voxels) < 2 or not volume.voxels.numel():
        raise DicomError(f"a series needs two slices or more, got {tuple(volume.voxels.shape)}")
    if not (volume.affine.isfinite().all() and volume.voxels.isfinite().all()):
        raise DicomError("voxels and axes must be finite numbers: there are NaN or infinite ones")
    axes = np.array(volume.direction, dtype=float)
    if np.abs(axes @ axes.T - np.eye(3)).max() > 2e-3:
        wanted = "three unit vectors, perpendicular to each other"
        raise DicomError(f"direction must be {wanted}, got {volume.direction}")


def _stored(volume: Volume) -> tuple[np.ndarray, float, float]:
    """Stored integers (D, H, W), and the slope and intercept that give the values back."""
    values = volume.voxels.detach().cpu().numpy().astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if volume.modality == "CT":
        if low < -32768 or high > 31743:
            raise DicomError(f"HU must lie between -32768 and 31743, got {low:g} to {high:g}")
        return np.rint(values + 1024).astype("<i2"), 1.0, -1024.0
    # The slope that a reader uses is the one that fits into a decimal string of 16 characters.
    slope = float(_ds((high - low) / 65535 * (1 + 1e-9) or 1.0))
    stored = np.rint((values - float(_ds(low))) / slope)  # low is rounded in the 16th digit: clip
    return stored.clip(0, 65535).astype("<u2"), slope, float(_ds(low))


def _uid(name: str) -> UID:
    """A UUID-derived UID (PS3.5 B.2) that depends on the name alone."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters, the most that a DS holds."""
    return format_number_as_ds(float(value))
