"""Small DICOM files made for tests, with pydicom alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = [1, 0, 0, 0, 1, 0]


def uid(name: str) -> str:
    """The same UID for the same name."""
    return generate_uid(entropy_srcs=["medlab tests", name])


def image(pixels: np.ndarray, **header) -> Dataset:
    """A data set around stored values: (H, W), (F, H, W) with NumberOfFrames, or (H, W, 3) RGB.

    Keywords overwrite or add attributes; None deletes one.
    """
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, uid(repr(header) + str(pixels.sum()))
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid("series")
    data.FrameOfReferenceUID = uid("frame of reference")
    data.Modality, data.PatientName, data.PatientID = "CT", "Doe^Jane", "1234"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    bits = pixels.dtype.itemsize * 8
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    little = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<")))
    value = little.tobytes()
    data.add_new("PixelData", "OW" if bits > 8 else "OB", value + b"\0" * (len(value) % 2))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta = meta
    for keyword, content in header.items():
        if content is None:
            del data[keyword]
        else:
            setattr(data, keyword, content)
    return data


def save(data: Dataset, path: Path) -> Path:
    """Write with the file format of DICOM Part 10."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def stack(
    folder: Path,
    *,
    depth: int = 5,
    step: float = 2.5,
    shape: tuple[int, int] = (4, 6),
    orientation: list[float] | None = None,
    origin: tuple[float, float, float] = (-10.0, 5.0, 30.0),
    spacing: tuple[float, float] = (0.7, 0.8),
    names: list[str] | None = None,
    change=None,
    **header,
) -> np.ndarray:
    """Write a CT stack and return its stored values (depth, H, W), in order along the normal.

    InstanceNumber and file names run against the position, so that nothing can lean on them.
    `change(k, data)` may alter or, by returning False, drop slice k.
    """
    cosines = np.array(orientation or AXIAL, float)
    normal = np.cross(cosines[:3], cosines[3:])
    rng = np.random.default_rng(7)
    values = rng.integers(-1000, 1000, size=(depth, *shape)).astype(np.int16)
    for k in range(depth):
        place = np.array(origin) + k * step * normal
        data = image(
            values[k],
            ImageOrientationPatient=[float(c) for c in cosines],
            ImagePositionPatient=[round(float(x), 9) for x in place],
            PixelSpacing=list(spacing),
            SliceThickness=9.0,
            InstanceNumber=depth - k,
            RescaleSlope=1,
            RescaleIntercept=0,
            SOPInstanceUID=uid(f"{folder.name} {k}"),
            **header,
        )
        if change is not None and change(k, data) is False:
            continue
        save(data, folder / (names[k] if names else f"{depth - k:03d}.dcm"))
    return values
