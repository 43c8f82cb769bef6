"""write_series: what comes back, what a valid CT must hold, and that it repeats byte for byte."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
import pydicom
import pytest
import torch

from medlab.dicom import Volume, read_series, write_series
from medlab.errors import DicomError

TURNED = ((0.0, -0.8, 0.6), (0.0, 0.6, 0.8), (1.0, 0.0, 0.0))
TILTED = (0.0, math.sin(0.2), math.cos(0.2))  # slices sheared against each other

# PS3.3 A.3.3 and A.4.3, mandatory modules of CT and MR Image: Type 1 must have a value, Type 2 must
# be there.
TYPE_1 = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality FrameOfReferenceUID "
    "ImageType PixelSpacing ImageOrientationPatient ImagePositionPatient SamplesPerPixel "
    "PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
    "PixelData"
).split()
TYPE_2 = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName "
    "StudyID AccessionNumber SeriesNumber PatientPosition PositionReferenceIndicator Manufacturer "
    "InstanceNumber SliceThickness AcquisitionNumber"
).split()
CT_ONLY = ("RescaleSlope RescaleIntercept".split(), ["KVP"])
MR_ONLY = (
    "ScanningSequence SequenceVariant".split(),
    "ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength".split(),
)


def hounsfield(**options) -> Volume:
    generator = torch.Generator().manual_seed(5)
    voxels = torch.randint(-1024, 3072, (6, 8, 10), generator=generator).float()
    fields = {"spacing": (2.5, 0.7, 0.81), "origin": (-12.5, 3.25, 700.0)}
    return Volume(**{"voxels": voxels, **fields, **options})


def test_whole_hounsfield_units_come_back_exactly(tmp_path):
    volume = hounsfield(direction=TURNED)
    files = write_series(volume, tmp_path)
    back = read_series(tmp_path)
    assert torch.equal(back.voxels, volume.voxels)
    assert torch.allclose(back.affine, volume.affine, atol=1e-9)
    assert list(back.files) == files
    assert (back.units, back.modality) == ("HU", "CT")


def test_other_values_come_back_within_half_a_step(tmp_path):
    voxels = torch.linspace(-3.7, 812.4, 4 * 5 * 6).reshape(4, 5, 6)
    volume = Volume(voxels=voxels, spacing=(1, 1, 1), modality="MR", units="stored")
    write_series(volume, tmp_path / "mr")
    back = read_series(tmp_path / "mr")
    step = (812.4 + 3.7) / 65535
    assert (back.voxels - voxels).abs().max() <= step / 2 * 1.01
    write_series(hounsfield(voxels=torch.rand(3, 4, 5) * 100), tmp_path / "ct")
    constant = Volume(voxels=torch.full((2, 3, 4), 7.0), spacing=(1, 1, 1), modality="MR")
    write_series(constant, tmp_path / "flat")
    assert torch.equal(read_series(tmp_path / "flat").voxels, constant.voxels)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_every_required_attribute_is_there(tmp_path, modality):
    files = write_series(hounsfield(modality=modality), tmp_path)
    extra_1, extra_2 = CT_ONLY if modality == "CT" else MR_ONLY
    for path in files:
        data = pydicom.dcmread(path)
        assert data.preamble == b"\0" * 128
        for keyword in (*TYPE_1, *extra_1):
            assert data.get(keyword) not in (None, ""), keyword
        for keyword in (*TYPE_2, *extra_2):
            assert keyword in data, keyword
        assert data.SOPClassUID.name == f"{modality} Image Storage"
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        uids = [element.value for element in data.iterall() if element.VR == "UI"]
        assert all(uid.is_valid for uid in uids)
        for element in data.iterall():
            if element.VR == "DS" and element.value is not None:
                values = element.value if element.VM > 1 else [element.value]
                assert all(len(str(value)) <= 16 for value in values), element
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in files}) == len(files)
    assert len({pydicom.dcmread(path).SeriesInstanceUID for path in files}) == 1


def digests(folder) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_series(hounsfield(), tmp_path / name, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")
    uids = {read_series(tmp_path / name).header.SeriesInstanceUID for name in "abc"}
    assert len(uids) == 2


def test_file_names_are_out_of_order(tmp_path):
    files = write_series(hounsfield(), tmp_path)
    assert files != sorted(files)


def test_it_says_that_it_is_simulated(tmp_path):
    data = pydicom.dcmread(write_series(hounsfield(), tmp_path)[0])
    assert data.ImageType[0] == "DERIVED"
    assert "imulated" in data.ImageComments
    assert "imulated" in str(data.PatientName)


@pytest.mark.parametrize(
    ("volume", "options", "message"),
    [
        (hounsfield(modality="US"), {}, "writes CT and MR"),
        (hounsfield(voxels=torch.full((2, 2, 2), 4e4)), {}, "must lie between"),
        (hounsfield(voxels=torch.full((2, 2, 2), float("nan"))), {}, "finite"),
        (hounsfield(), {"patient_id": "x" * 65}, "up to 64"),
        (hounsfield(), {"patient_id": "a\\b"}, "backslash"),
        (hounsfield(voxels=torch.zeros(1, 3, 4)), {}, "two slices or more"),
        (hounsfield(voxels=torch.zeros(3, 0, 4)), {}, "two slices or more"),
        (hounsfield(origin=(0.0, 0.0, float("inf"))), {}, "finite"),
        (hounsfield(spacing=(float("inf"), 1.0, 1.0)), {}, "finite"),
        (hounsfield(direction=((0, 0, 1), (0, 2, 0), (1, 0, 0))), {}, "unit vectors"),
        (hounsfield(direction=(TILTED, (0, 1, 0), (1, 0, 0))), {}, "perpendicular"),
        (hounsfield(direction=((0, 0, 1), (0.6, 0.8, 0), (1, 0, 0))), {}, "perpendicular"),
        (hounsfield(direction=((0, 1, 0), (0, 1, 0), (1, 0, 0))), {}, "perpendicular"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, volume, options, message):
    with pytest.raises(DicomError, match=message):
        write_series(volume, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_two_studies_are_never_mixed_in_one_folder(tmp_path):
    write_series(hounsfield(), tmp_path)
    with pytest.raises(DicomError, match="already holds DICOM files"):
        write_series(hounsfield(), tmp_path, seed=1)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("mirrored", range(8))
def test_axes_that_run_any_way_come_back(tmp_path, modality, mirrored):
    """Half of these are left-handed: their slices run against the normal of the image."""
    signs = [1 - 2 * (mirrored >> axis & 1) for axis in range(3)]
    direction = tuple(tuple(s * c for c in axis) for s, axis in zip(signs, TURNED, strict=True))
    volume = hounsfield(direction=direction, modality=modality)
    volume = dataclasses.replace(volume, voxels=volume.voxels.clamp(0, 2000))
    files = write_series(volume, tmp_path)
    back = read_series(tmp_path)
    assert torch.allclose(back.voxels, volume.voxels, atol=0.02)
    assert torch.allclose(back.affine, volume.affine, atol=1e-9)
    assert list(back.files) == files
    # the place of every voxel in the patient, by pydicom and the equation of PS3.3 C.7.6.2.1.1
    data = pydicom.dcmread(files[4])
    x, y = np.split(np.array(data.ImageOrientationPatient, float), 2)
    rows, columns = data.PixelSpacing
    place = np.array(data.ImagePositionPatient, float) + 2 * rows * y + 3 * columns * x
    assert np.allclose(volume.affine.numpy() @ [4, 2, 3, 1], [*place, 1], atol=1e-5)


def test_a_ct_has_a_window(tmp_path):
    data = pydicom.dcmread(write_series(hounsfield(), tmp_path / "ct")[0])
    assert (data.WindowCenter, data.WindowWidth) == (40, 400)
    assert np.allclose(data.pixel_array - 1024.0, read_series(tmp_path / "ct").voxels[0])


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("taken")
    with pytest.raises(DicomError, match="cannot write"):
        write_series(hounsfield(), tmp_path / "file" / "study")
