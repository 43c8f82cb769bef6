"""Simulated cohorts as NIfTI and DICOM, read back by other libraries."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
import torch
from pydicom.uid import CTImageStorage, SegmentationStorage, UltrasoundImageStorage

import medlab
from medlab import dicom
from medlab.cohort import Cohort
from medlab.datasets import from_decathlon
from medlab.errors import DataError
from tests.test_datasets_commands import command
from tests.where import ROOT

HIGH, WIDE = 0.8, 0.625  # mm between rows and between columns
THICK = np.array([2.5, 2.5, 2.5, 1.25, 1.25])
HEIGHT = np.array([-30.5, 12.25, 4.0, -7.0, 61.0])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")
    monkeypatch.syspath_prepend(ROOT / "data_scripts")


@pytest.fixture
def simulate():
    return command("simulate_cohort")


def chest(stack: int) -> Cohort:
    """Slices that are not square, with pixels that are not: whatever is swapped shows."""
    rng = np.random.default_rng(stack)
    return Cohort(
        images=torch.from_numpy(rng.integers(-1024, 3071, (5, stack, 20, 12)).astype(np.int16)),
        masks=torch.from_numpy(rng.integers(0, 2, (5, 20, 12), np.uint8)),
        boxes=[
            torch.tensor(rows).reshape(-1, 4) for rows in ([], [[1.0, 2, 3, 4]] * 2, [], [], [])
        ],
        patients=np.array(["P0", "P0", "P0", "P1", "P1"]),
        sites=np.array(["North"] * 3 + ["Valley"] * 2),
        spacing=(HIGH, WIDE),
        card=medlab.simulate.COHORTS["lung_ct"].card,
        extras={
            "thickness": torch.from_numpy(THICK),
            "height": torch.from_numpy(HEIGHT),
            "age": torch.tensor([62.3] * 3 + [71.9] * 2),
            "female": torch.tensor([1.0] * 3 + [0.0] * 2),
            "diameter": torch.arange(10.0).view(5, 2),
        },
    )


def kidneys() -> Cohort:
    rng = np.random.default_rng(0)
    return Cohort(
        images=torch.from_numpy(rng.integers(0, 256, (5, 1, 20, 12), np.uint8)),
        masks=torch.from_numpy(rng.integers(0, 4, (5, 20, 12), np.uint8)),
        patients=np.array(["P0", "P1", "P0", "P1", "P1"]),
        spacing=(HIGH, WIDE),
        card=medlab.simulate.COHORTS["kidney_us"].card,
        extras={"right": torch.tensor([True, False, True, False, False])},
    )


def segmented(path):
    """{(UID of the image, name of the segment): mask}, as the file says; frames in any order."""
    data = pydicom.dcmread(path)
    assert data.SOPClassUID == SegmentationStorage
    names = {item.SegmentNumber: item.SegmentLabel for item in data.SegmentSequence}
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    assert len(frames) == len(data.PerFrameFunctionalGroupsSequence)
    said = {
        instance.ReferencedSOPInstanceUID
        for series in data.ReferencedSeriesSequence
        for instance in series.ReferencedInstanceSequence
    }
    found = {}
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert source.ReferencedSOPInstanceUID in said
        assert group.FrameContentSequence[0].DimensionIndexValues[0] == number
        found[source.ReferencedSOPInstanceUID, names[number]] = frame
    assert len(found) == len(frames)
    return data, found


@pytest.mark.parametrize("stack", [1, 3])
def test_slices_go_to_nifti_with_their_place_in_the_patient(simulate, tmp_path, stack):
    cohort = chest(stack)
    simulate.write(cohort, tmp_path / "out", form="nifti")
    table = pd.read_csv(tmp_path / "out" / "labels.csv")
    assert table.patient.tolist() == cohort.patients.tolist()
    assert (table.row_mm.unique(), table.column_mm.unique()) == ([HIGH], [WIDE])
    for i, name in enumerate(table.file):
        image = nibabel.load(tmp_path / "out" / name)
        assert image.get_data_dtype() == np.int16
        assert np.array_equal(np.asarray(image.dataobj).T, cohort.images[i])
        assert image.header.get_zooms() == pytest.approx((WIDE, HIGH, THICK[i]))
        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-5)
        # The middle slice lies at its height, and its middle on the patient's axis.
        middle = image.affine @ [(12 - 1) / 2, (20 - 1) / 2, stack // 2, 1]
        assert middle[:3] == pytest.approx([0, 0, HEIGHT[i]], abs=1e-4)
        seen = SimpleITK.ReadImage(str(tmp_path / "out" / name))
        assert seen.GetSpacing() == pytest.approx((WIDE, HIGH, THICK[i]))
        assert seen.GetDirection() == pytest.approx(np.eye(3).ravel())
        low = HEIGHT[i] - stack // 2 * THICK[i]
        assert seen.GetOrigin() == pytest.approx((-5.5 * WIDE, -9.5 * HIGH, low), abs=1e-4)
        assert np.array_equal(SimpleITK.GetArrayFromImage(seen), cohort.images[i])
        label = SimpleITK.ReadImage(str(tmp_path / "out" / name.replace("images", "labels")))
        assert np.array_equal(SimpleITK.GetArrayFromImage(label)[0], cohort.masks[i])
        place = seen.TransformIndexToPhysicalPoint((3, 4, stack // 2))  # the outlined slice
        assert label.TransformPhysicalPointToIndex(place) == (3, 4, 0)
    facts = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert facts["labels"] == {"0": "background", "1": "nodule"}
    assert len(facts["training"]) == 5
    assert all((tmp_path / "out" / path).is_file() for path in facts["training"][4].values())


def test_a_row_a_box_with_what_is_known_of_it(simulate, tmp_path):
    simulate.write(chest(1), tmp_path / "out")
    assert (tmp_path / "out" / "boxes.csv").read_text().splitlines() == [
        "file,x0,y0,x1,y1,diameter",
        "image_00001.tif,1.0,2.0,3.0,4.0,2.0",
        "image_00001.tif,1.0,2.0,3.0,4.0,3.0",
    ]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["mask_values"] == {"0": "background", "1": "nodule"}


def test_our_own_reader_takes_the_nifti_folder(simulate, tmp_path):
    cohort = kidneys()
    simulate.write(cohort, tmp_path / "out", form="nifti")
    back = from_decathlon(tmp_path / "out", classes=cohort.classes)
    assert back.images.shape == (5, 1, 8, 24, 16)  # padded
    inside = back.masks[:, 3, 2:22, 2:14]  # turned to RAS: rows and columns run the other way
    assert torch.equal(inside.flip(1, 2), cohort.masks)
    assert back.masks.sum() == inside.sum()
    assert back.spacing == (1.0, HIGH, WIDE)


@pytest.mark.parametrize("stack", [1, 3])
def test_slices_go_to_dicom_with_their_segmentation(simulate, tmp_path, stack):
    cohort, out = chest(stack), tmp_path / "out"
    simulate.write(cohort, out, form="dicom", key="a")
    table = pd.read_csv(out / "labels.csv")
    frames, studies = {}, set()
    for i, name in enumerate(table.file):
        data = pydicom.dcmread(out / name)
        assert data.SOPClassUID == CTImageStorage
        assert data.PatientID == cohort.patients[i] == name.split("/")[0]
        assert (data.PatientSex, data.PatientAge) == (("F", "062Y") if i < 3 else ("M", "071Y"))
        assert data.InstitutionName == cohort.sites[i]
        want = cohort.images[i].numpy()
        values = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert np.array_equal(values, want[stack // 2])
        assert data.PixelSpacing == [HIGH, WIDE]
        assert data.SliceThickness == THICK[i]
        assert data.ImagePositionPatient == pytest.approx([-5.5 * WIDE, -9.5 * HIGH, HEIGHT[i]])
        if stack > 1:
            series = [str(path) for path in sorted((out / name).parent.iterdir())]
            seen = SimpleITK.ReadImage(series)
            assert np.array_equal(SimpleITK.GetArrayFromImage(seen), want)
            assert seen.GetSpacing() == pytest.approx((WIDE, HIGH, THICK[i]))
            volume = dicom.read_series((out / name).parent)
            assert np.array_equal(volume.voxels, want)
            nifti = tmp_path / "nifti" / "imagesTr" / f"image_{i:05d}.nii.gz"
            if not nifti.exists():
                simulate.write(cohort, tmp_path / "nifti", form="nifti")
            turned = np.diag([-1, -1, 1, 1]) @ nibabel.load(nifti).affine  # RAS → LPS
            assert np.allclose(volume.affine.numpy()[:, [2, 1, 0, 3]], turned, atol=1e-4)
        frames[data.SOPInstanceUID] = i
        studies.add((data.PatientID, data.StudyInstanceUID, data.FrameOfReferenceUID))
    assert len(studies) == 2
    for patient, study, frame in studies:
        path = out / patient / "SEG_1000" / "IM00001.dcm"
        data, found = segmented(path)
        assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == (study, frame)
        assert {frames[image] for image, _ in found} == set(
            np.flatnonzero(cohort.patients == patient)
        )
        for (image, structure), mask in found.items():
            assert structure == "nodule"
            assert np.array_equal(mask, cohort.masks[frames[image]])
        for group in data.PerFrameFunctionalGroupsSequence:
            (source,) = group.DerivationImageSequence[0].SourceImageSequence
            height = group.PlanePositionSequence[0].ImagePositionPatient[2]
            assert height == HEIGHT[frames[source.ReferencedSOPInstanceUID]]
    files = [pydicom.dcmread(path) for path in out.rglob("*.dcm")]
    assert len({data.SOPInstanceUID for data in files}) == len(files) == 5 * stack + 2
    assert len({data.SeriesInstanceUID for data in files}) == 2 + (5 if stack > 1 else 2)
    assert {str(data.PatientName) for data in files} == {"Simulated^Patient"}


def test_ultrasound_goes_to_dicom_with_three_segments(simulate, tmp_path):
    cohort, out = kidneys(), tmp_path / "out"
    simulate.write(cohort, out, form="dicom", key="a")
    table = pd.read_csv(out / "labels.csv")
    found, sides = {}, []
    for patient in ("P0", "P1"):
        data, masks = segmented(out / patient / "SEG_1000" / "IM00001.dcm")
        assert "FrameOfReferenceUID" not in data  # no place in the patient is claimed
        found |= masks
    assert len(found) == 15
    for i, name in enumerate(table.file):
        data = pydicom.dcmread(out / name)
        assert data.SOPClassUID == UltrasoundImageStorage
        assert data.PatientID == cohort.patients[i]
        assert np.array_equal(data.pixel_array, cohort.images[i, 0])
        (region,) = data.SequenceOfUltrasoundRegions
        cm = region.PhysicalDeltaX, region.PhysicalDeltaY
        assert cm == pytest.approx((WIDE / 10, HIGH / 10))
        assert (region.RegionLocationMaxX1, region.RegionLocationMaxY1) == (11, 19)
        assert SimpleITK.ReadImage(str(out / name)).GetSpacing()[:2] == pytest.approx((WIDE, HIGH))
        assert dicom.read_image(out / name).spacing == pytest.approx((HIGH, WIDE))
        for k, structure in enumerate(cohort.classes[1:], start=1):
            mask = found[data.SOPInstanceUID, structure]
            assert np.array_equal(mask, cohort.masks[i] == k)
        sides.append(data.Laterality)
    assert sides == ["R", "L", "R", "L", "L"]


def test_cines_go_to_nifti_with_their_time_step(simulate, tmp_path):
    made = medlab.simulate.COHORTS["csf_flow"].make(n=2, seed=1, size=32)
    simulate.write(made, tmp_path / "cines", form="nifti")
    for i in range(2):
        for channel in range(2):
            image = nibabel.load(tmp_path / f"cines/imagesTr/image_{i:05d}_{channel:04d}.nii.gz")
            assert image.shape == (32, 32, 1, 16)
            for t in range(16):
                frame = np.asarray(image.dataobj)[:, :, 0, t]
                assert np.array_equal(frame.T, made.images[i, channel, t])
            step = image.header.get_zooms()
            assert step[:2] == pytest.approx((60 / 32, 60 / 32))
            assert step[3] == pytest.approx(float(made.extras["frame_ms"][i]))
            assert image.header.get_xyzt_units() == ("mm", "msec")
        mask = nibabel.load(tmp_path / f"cines/labelsTr/image_{i:05d}.nii.gz")
        assert np.array_equal(np.asarray(mask.dataobj)[:, :, 0].T, made.masks[i, 0])
    table = pd.read_csv(tmp_path / "cines/labels.csv")
    assert table.label.tolist() == [made.classes[k] for k in made.labels.tolist()]
    assert (tmp_path / "cines" / table.file[0]).is_file()
    facts = json.loads((tmp_path / "cines/dataset.json").read_text())
    assert facts["tensorImageSize"] == "4D"
    assert len(facts["modality"]) == 2
    simulate.write(made, tmp_path / "arrays")
    assert np.array_equal(np.load(tmp_path / "arrays/images/image_00001.npy"), made.images[1])
    with pytest.raises(DataError, match="such as kidney_us and lung_ct"):
        simulate.write(made, tmp_path / "studies", form="dicom")


@pytest.mark.parametrize("name", ["brain_mri", "kidney_us", "lung_ct"])
def test_a_smaller_number_writes_the_same_first_patient(simulate, tmp_path, name):
    patients = medlab.load(name, n=12, size=64).patients
    whole = int((patients == patients[0]).sum())
    for form in ("nifti", "dicom"):
        for n in (whole, whole + 1):
            out = tmp_path / form / str(n)
            said = ["--n", str(n), "--size", "64", "--format", form, "--out", str(out)]
            assert simulate.main([name, *said]) == 0
        less, more = (
            {path.relative_to(out): path.read_bytes() for path in out.rglob("*.[nd]*[zm]")}
            for out in (tmp_path / form / str(whole), tmp_path / form / str(whole + 1))
        )
        assert set(less) < set(more)
        assert all(more[path] == content for path, content in less.items())
    cohort = medlab.load(name, n=whole, size=64)
    data = pydicom.dcmread(next((tmp_path / "dicom" / str(whole)).rglob("*1/IM00003.dcm")))
    stored = cohort.images[2, 0].numpy()
    assert np.array_equal(data.pixel_array, stored + 1024 * (name == "lung_ct"))
    other = tmp_path / "seed"
    said = ["--seed", "1", "--n", "1", "--size", "64", "--format", "dicom", "--out", str(other)]
    assert simulate.main([name, *said]) == 0
    uid = pydicom.dcmread(next(other.rglob("*1/*.dcm"))).StudyInstanceUID
    assert uid != data.StudyInstanceUID


def test_what_cannot_be_written_is_named_and_nothing_is_overwritten(simulate, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="--format nifti or dicom"):
        simulate.write(chest(3), out)
    wide = ["chest_xray", "--n", "2", "--size", "32", "--option", "variety=wide"]
    wide += ["--out", str(out), "--format"]
    assert simulate.main([*wide, "nifti"]) == 1
    assert "spacing in mm" in capsys.readouterr().err
    assert simulate.main([*wide, "dicom"]) == 1
    assert "such as kidney_us and lung_ct" in capsys.readouterr().err
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("notes")
    for form in simulate.FORMATS:
        with pytest.raises(DataError, match="not empty"):
            simulate.write(kidneys(), out, form=form)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
