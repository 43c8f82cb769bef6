"""read_series and read_cine on made stacks whose truth is known, and what they refuse by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medlab.dicom import Volume, read_cine, read_image, read_series
from medlab.errors import DicomError
from tests.dicom_files import AXIAL, image, save, stack, uid

OBLIQUE = [0.8, 0.6, 0.0, -0.36, 0.48, 0.8]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def test_slices_are_sorted_by_position_and_measured_by_it(tmp_path):
    values = stack(tmp_path)  # names and InstanceNumber run backwards, SliceThickness lies
    volume = read_series(tmp_path)
    assert np.array_equal(volume.voxels.numpy(), values)
    assert volume.voxels.dtype == torch.float32
    assert volume.spacing == pytest.approx((2.5, 0.7, 0.8))
    assert volume.origin == (-10, 5, 30)
    assert (volume.units, volume.modality) == ("HU", "CT")
    assert [path.name for path in volume.files] == [f"{k:03d}.dcm" for k in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE, SAGITTAL])
@pytest.mark.parametrize("step", [2.5, 0.5])
def test_affine_maps_indices_to_the_patient(tmp_path, orientation, step):
    origin, spacing = (3.0, -4.0, 5.0), (0.7, 0.8)
    stack(tmp_path, orientation=orientation, step=step, origin=origin, spacing=spacing)
    volume = read_series(tmp_path)
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    for k, i, j in ((0, 0, 0), (4, 0, 0), (2, 3, 5)):  # PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1
        corner = np.array(origin) + k * step * np.cross(along_row, along_column)
        wanted = corner + along_row * spacing[1] * j + along_column * spacing[0] * i
        index = torch.tensor([k, i, j, 1.0], dtype=torch.float64)
        assert np.allclose((volume.affine @ index)[:3], wanted, atol=1e-6)


def test_rescale_may_differ_between_slices(tmp_path):
    def change(k, data):
        data.RescaleSlope, data.RescaleIntercept = k + 1, -10 * k

    values = stack(tmp_path, change=change, Modality="PT", Units="BQML")
    volume = read_series(tmp_path)
    wanted = values * np.arange(1, 6)[:, None, None] - 10 * np.arange(5)[:, None, None]
    assert np.array_equal(volume.voxels.numpy(), wanted)
    assert volume.units == "BQML"


def test_monochrome1_voxels_stay_measurements(tmp_path):
    values = stack(tmp_path, PhotometricInterpretation="MONOCHROME1", Modality="MR")
    assert np.array_equal(read_series(tmp_path).voxels.numpy(), values)


def enhanced(path, heights, *, orientation=AXIAL, own_rescale=True) -> np.ndarray:
    """One multi-frame file whose frames lie at the given heights."""
    values = np.random.default_rng(1).integers(0, 500, size=(len(heights), 3, 4)).astype(np.uint16)
    data = image(values, Modality="MR")
    frames = []
    for k, height in enumerate(heights):
        place, transform, group = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [1.0, 2.0, float(height)]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = k + 1, k, "US"
        group.PlanePositionSequence = Sequence([place])
        group.PixelValueTransformationSequence = Sequence([transform])
        frames.append(group)
    turned, measures, shared = Dataset(), Dataset(), Dataset()
    turned.ImageOrientationPatient = orientation
    measures.PixelSpacing = [0.5, 0.6]
    shared.PlaneOrientationSequence = Sequence([turned])
    shared.PixelMeasuresSequence = Sequence([measures])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    save(data, path)
    return (
        values * np.arange(1, len(heights) + 1)[:, None, None]
        + np.arange(len(heights))[:, None, None]
    )


def test_an_enhanced_file_is_a_volume_sorted_by_its_frames_positions(tmp_path):
    heights = [4.0, 0.0, 6.0, 2.0]
    values = enhanced(tmp_path / "a.dcm", heights)
    volume = read_series(tmp_path)
    assert np.array_equal(volume.voxels.numpy(), values[np.argsort(heights)])
    assert volume.spacing == pytest.approx((2.0, 0.5, 0.6))
    assert volume.origin == (1, 2, 0)
    enhanced(tmp_path / "a.dcm", [0, 1, 1, 2])
    with pytest.raises(DicomError, match=r"a\.dcm: 4 images, several at one position"):
        read_series(tmp_path / "a.dcm")


def test_missing_slices_are_counted_and_their_neighbours_named(tmp_path):
    stack(tmp_path, depth=9, change=lambda k, data: k not in (3, 4))
    with pytest.raises(DicomError, match=r"007\.dcm → 004\.dcm: 7\.500 mm"):
        read_series(tmp_path)


def test_irregular_distances_are_refused(tmp_path):
    def change(k, data):
        data.ImagePositionPatient = [0, 0, [0, 2.5, 5, 8.1, 10.6][k]]

    stack(tmp_path, change=change)
    with pytest.raises(DicomError, match=r"distance is irregular.*\n.*3\.100 mm"):
        read_series(tmp_path)


def test_rounded_positions_are_no_gaps(tmp_path):
    def change(k, data):
        data.ImagePositionPatient = [0, 0, round(k * 1.3333, 2)]

    stack(tmp_path, depth=20, change=change)
    assert read_series(tmp_path).spacing[0] == pytest.approx(1.3333, rel=1e-3)


def test_two_images_at_one_position_are_named(tmp_path):
    stack(tmp_path)
    again = stack(
        tmp_path, depth=3, names=["x.dcm", "y.dcm", "z.dcm"], change=lambda k, data: k == 1
    )
    assert len(again) == 3
    with pytest.raises(
        DicomError, match=r"(?s)several at one position.*(y\.dcm → 004|004\.dcm → y)"
    ):
        read_series(tmp_path)


def test_a_volume_at_two_times_is_refused_as_such(tmp_path):
    stack(tmp_path)
    stack(tmp_path, names=[f"later{k}.dcm" for k in range(5)])
    with pytest.raises(DicomError, match="a volume at several times"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda k, d: k or setattr(d, "ImageOrientationPatient", SAGITTAL),
            r"orientation.*\n.*005\.dcm",
        ),
        (
            lambda k, d: k or setattr(d, "PixelSpacing", [0.7, 0.9]),
            r"pixel spacing.*\n.*005\.dcm",
        ),
        (lambda k, d: k or setattr(d, "FrameOfReferenceUID", uid("other")), "frame of reference"),
        (
            lambda k, d: k or delattr(d, "ImagePositionPatient"),
            r"005\.dcm.*lacks one of",
        ),
        (lambda k, d: k or delattr(d, "ImageOrientationPatient"), r"005\.dcm.*lacks one of"),
        (
            lambda k, d: k or setattr(d, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
            "perpendicular",
        ),
        (
            lambda k, d: k or d.__delattr__("RescaleSlope") or d.__delattr__("RescaleIntercept"),
            "units",
        ),
    ],
)
def test_a_mixed_stack_is_refused_and_the_odd_file_named(tmp_path, change, message):
    def changed(k, data):
        change(k, data)

    stack(tmp_path, change=changed)
    with pytest.raises(DicomError, match=message):
        read_series(tmp_path)


def test_mixed_sizes_are_refused(tmp_path):
    stack(tmp_path)
    stack(tmp_path, depth=1, shape=(5, 6), names=["big.dcm"], origin=(-10, 5, 50))
    with pytest.raises(DicomError, match=r"differ in size.*\n.*big\.dcm"):
        read_series(tmp_path)


def test_slices_shifted_sideways_are_refused(tmp_path):
    def change(k, data):
        data.ImagePositionPatient = [0, 3.0 * (k == 2), 2.5 * k]

    stack(tmp_path, change=change)
    with pytest.raises(DicomError, match="shifted sideways"):
        read_series(tmp_path)


def test_a_tilted_gantry_is_told_about_and_in_the_affine(tmp_path):
    def change(k, data):
        data.ImagePositionPatient = [0, 0.5 * k, 2.5 * k]

    stack(tmp_path, change=change)
    with pytest.warns(UserWarning, match=r"tilted by 11\.3°"):
        volume = read_series(tmp_path)
    assert np.allclose(volume.affine[:3, 0], [0, 0.5, 2.5])


def test_one_slice_is_no_volume(tmp_path):
    stack(tmp_path, depth=1)
    with pytest.raises(DicomError, match=r"001\.dcm: one slice is not a volume"):
        read_series(tmp_path)


def test_several_series_must_be_chosen_from(tmp_path):
    first = stack(tmp_path / "a", SeriesDescription="chest", SeriesNumber=3)
    other = {"SeriesInstanceUID": uid("other"), "SeriesDescription": "thin", "SeriesNumber": 4}
    second = stack(tmp_path / "b", depth=7, **other)
    with pytest.raises(DicomError, match=r"2 series.*\n.*number 3, 5.*chest\n.*number 4, 7.*thin"):
        read_series(tmp_path)
    assert np.array_equal(read_series(tmp_path, series=3).voxels.numpy(), first)
    assert np.array_equal(read_series(tmp_path, series=uid("other")).voxels.numpy(), second)
    with pytest.raises(DicomError, match="0 series of images fit"):
        read_series(tmp_path, series=9)


def test_a_series_number_that_two_series_share_picks_neither(tmp_path):
    stack(tmp_path / "a", SeriesNumber=3)
    stack(tmp_path / "b", SeriesNumber=3, SeriesInstanceUID=uid("other"))
    with pytest.raises(DicomError, match="2 series of images fit"):
        read_series(tmp_path, series=3)


def test_files_without_an_image_are_told_about(tmp_path):
    stack(tmp_path)
    (tmp_path / "README").write_text("hello")
    plan = image(np.zeros((2, 2), np.uint8), Modality="RTSTRUCT", Rows=None, PixelData=None)
    save(plan, tmp_path / "plan.dcm")
    with open(get_testdata_file("DICOMDIR", download=False), "rb") as source:
        (tmp_path / "DICOMDIR").write_bytes(source.read())
    with pytest.warns(UserWarning, match=r"left out 3 file\(s\).*DICOMDIR.*README.*plan\.dcm"):
        volume = read_series(tmp_path)
    assert volume.voxels.shape == (5, 4, 6)


def test_a_damaged_slice_is_never_skipped(tmp_path):
    stack(tmp_path)
    path = tmp_path / "003.dcm"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DicomError, match=r"003\.dcm.*(truncated|short)"):
        read_series(tmp_path)
    path.write_bytes(b"garbage")
    with pytest.raises(DicomError, match=r"003\.dcm.*not a DICOM file"):
        read_series(tmp_path)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(DicomError, match="no DICOM image found"):
        read_series(tmp_path)
    with pytest.raises(DicomError, match="gone: no such folder"):
        read_series(tmp_path / "gone")


def test_a_list_of_files_is_taken_as_given(tmp_path):
    values = stack(tmp_path)
    paths = sorted(tmp_path.glob("*.dcm"))[:3]  # the three highest
    assert np.array_equal(read_series(paths).voxels.numpy(), values[2:])


def test_colour_is_no_volume(tmp_path):
    for k in range(3):
        data = image(
            np.zeros((4, 5, 3), np.uint8),
            ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=AXIAL,
            PixelSpacing=[1, 1],
        )
        save(data, tmp_path / f"{k}.dcm")
    with pytest.raises(DicomError, match=r"0\.dcm: a colour image"):
        read_series(tmp_path)


def test_volumes_above_the_limit_are_refused(tmp_path):
    stack(tmp_path)
    with pytest.raises(DicomError, match="above the limit"):
        read_series(tmp_path, max_bytes=100)


def test_volume_checks_its_parts():
    with pytest.raises(DicomError, match=r"\(D, H, W\)"):
        Volume(voxels=torch.zeros(3, 4), spacing=(1, 1, 1))
    with pytest.raises(DicomError, match="three positive"):
        Volume(voxels=torch.zeros(2, 3, 4), spacing=(1, 0, 1))
    assert repr(Volume(voxels=torch.zeros(2, 3, 4), spacing=(1, 2, 3))) == (
        "Volume(CT, 2×3×4 in HU, 1×2×3 mm)"
    )


# ------------------------------------------------------------------------------------------- cine


def beats(folder, times=(30.0, 0.0, 10.0, 20.0), **header) -> np.ndarray:
    def change(k, data):
        data.ImagePositionPatient = [0, 0, 7]
        data.TriggerTime = times[k]

    return stack(folder, depth=len(times), change=change, **header)


def test_a_cine_is_not_a_volume_with_duplicates(tmp_path):
    values = beats(tmp_path)
    with pytest.raises(DicomError, match=r"4 images, all of one slice at one position.*read_cine"):
        read_series(tmp_path)
    cine = read_cine(tmp_path)
    assert cine.times.tolist() == [0, 10, 20, 30]
    assert np.array_equal(cine.pixels.numpy(), values[[1, 2, 3, 0]])
    assert cine.spacing == (0.7, 0.8)


def test_a_multi_frame_file_is_a_cine(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, size=(3, 2, 4)).astype(np.uint8)
    path = save(image(values, FrameTime=40), tmp_path / "a.dcm")
    for source in (path, tmp_path, [path]):
        cine = read_cine(source)
        assert torch.equal(cine.pixels, read_image(path).pixels)
        assert cine.times.tolist() == [0, 40, 80]


def cine_file(path, times=None, heights=None) -> np.ndarray:
    """An enhanced file whose frame k is told to be at that time and height."""
    count = len(times or heights)
    values = np.random.default_rng(2).integers(0, 99, size=(count, 4, 4)).astype(np.uint16)
    data, groups = image(values, Modality="MR"), []
    for k in range(count):
        place, heart, group = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, heights[k] if heights else 0]
        group.PlanePositionSequence = Sequence([place])
        if times:
            heart.NominalCardiacTriggerDelayTime = times[k]
            group.CardiacSynchronizationSequence = Sequence([heart])
        groups.append(group)
    turned, measures, shared = Dataset(), Dataset(), Dataset()
    turned.ImageOrientationPatient, measures.PixelSpacing = AXIAL, [1, 1]
    shared.PlaneOrientationSequence = Sequence([turned])
    shared.PixelMeasuresSequence = Sequence([measures])
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    save(data, path)
    return values


def test_frames_of_one_file_come_in_the_order_of_time(tmp_path):
    values = cine_file(tmp_path / "a.dcm", times=[150.0, 50.0, 0.0, 100.0])
    cine = read_cine(tmp_path / "a.dcm")
    assert np.array_equal(cine.pixels.numpy(), values[[2, 1, 3, 0]])
    assert cine.times.tolist() == [0, 50, 100, 150]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"times": [0.0, 50.0] * 2, "heights": [0, 0, 8, 8]}, "differ in position"),
        ({"heights": [0, 5, 10]}, "differ in position"),
        ({"heights": [5, 5, 5]}, "0 different times"),
        ({"times": [0.0, 50.0, 50.0]}, "2 different times"),
    ],
)
def test_one_file_that_is_no_cine_is_refused(tmp_path, frames, message):
    cine_file(tmp_path / "a.dcm", **frames)
    with pytest.raises(DicomError, match=message):
        read_cine(tmp_path / "a.dcm")


def test_a_colour_cine_keeps_its_colours(tmp_path):
    values = np.random.default_rng(4).integers(0, 255, size=(3, 2, 4, 3)).astype(np.uint8)
    data = image(values[0], Modality="US", NumberOfFrames=3, FrameTime=20)
    data.PixelData = values.tobytes()
    cine = read_cine(save(data, tmp_path / "a.dcm"))
    assert np.array_equal(cine.pixels.numpy(), values.transpose(0, 3, 1, 2))


def test_what_a_cine_refuses(tmp_path):
    stack(tmp_path / "volume")
    with pytest.raises(DicomError, match="differ in position"):
        read_cine(tmp_path / "volume")
    beats(tmp_path / "same", times=(0.0, 10.0, 10.0))
    with pytest.raises(DicomError, match="2 different times"):
        read_cine(tmp_path / "same")
    stack(tmp_path / "none", step=0.0)
    with pytest.raises(DicomError, match="5 frames, but 0 different times"):
        read_cine(tmp_path / "none")


# ------------------------------------------- what must not become a volume, and what had better be


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "another"),
        ("PatientID", ""),
        ("PatientName", "Roe^Richard"),
        ("StudyInstanceUID", uid("another study")),
        ("Modality", "MR"),
    ],
)
def test_two_patients_are_never_one_volume(tmp_path, keyword, value):
    stack(tmp_path, change=lambda k, data: setattr(data, keyword, value) if k > 2 else None)
    with pytest.raises(DicomError, match=rf"differ in {keyword}.* in 2 of 5:"):
        read_series(tmp_path)
    with pytest.raises(DicomError, match=f"differ in {keyword}"):
        read_cine(tmp_path)


@pytest.mark.parametrize("kind", ["MOSAIC", "mosaic", "VFRAME"])
def test_a_mosaic_is_told_about_and_is_neither_volume_nor_cine(tmp_path, kind):
    stack(tmp_path, Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", kind])
    with pytest.warns(UserWarning, match=r"001\.dcm: a mosaic"):
        read_image(tmp_path / "001.dcm")
    for reader in (read_series, read_cine):
        with pytest.raises(DicomError, match="a mosaic"):
            reader(tmp_path)


def dose(path, offsets) -> np.ndarray:
    """An RT Dose grid of 32-bit values."""
    values = np.random.default_rng(5).integers(0, 2**31, size=(len(offsets), 3, 4))
    data = image(
        values.astype(np.uint32),
        Modality="RTDOSE",
        ImagePositionPatient=[1, 2, 30],
        ImageOrientationPatient=AXIAL,
        PixelSpacing=[2, 3],
        GridFrameOffsetVector=offsets,
        DoseGridScaling=1e-8,
        DoseUnits="GY",
    )
    save(data, path)
    return values


def test_a_dose_grid_is_an_image_in_gray_and_neither_volume_nor_cine(tmp_path):
    values = dose(tmp_path / "d.dcm", [0, 2.5, 5])
    read = read_image(tmp_path / "d.dcm")
    assert np.allclose(read.pixels, values * 1e-8, rtol=1e-6)
    assert read.units == "GY"
    for reader in (read_series, read_cine):
        with pytest.raises(DicomError, match="a dose grid"):
            reader(tmp_path / "d.dcm")


def test_the_limit_is_the_callers_and_headers_are_read_from_files_beyond_it(tmp_path):
    path = tmp_path / "big.dcm"
    enhanced(path, [0.0, 5.0, 11.0])  # irregular, so that it is refused before pixels are read
    raw = path.read_bytes()
    at, length = raw.rindex(b"\xe0\x7f\x10\x00OW"), 5 * 2**29
    with path.open("wb") as file:  # sparse: 2.5 GiB that take no room
        file.write(raw[:at] + b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little"))
        file.truncate(at + 12 + length)
    for limit in (1000, 2**33):
        with pytest.raises(DicomError, match="distance is irregular"):
            read_series(tmp_path, max_bytes=limit)
        with pytest.raises(DicomError, match="differ in position"):
            read_cine(tmp_path, max_bytes=limit)
    with pytest.raises(DicomError, match=r"above the limit.*max_bytes="):
        read_image(path)


def test_padding_of_a_series_is_told(tmp_path):
    values = stack(tmp_path / "once")  # the same values again below: they do not depend on it

    def change(k, data):
        data.PixelPaddingValue = int(values.min())

    stack(tmp_path / "s", change=change)
    with pytest.warns(UserWarning, match=r"s: some pixels are padding"):
        assert np.array_equal(read_series(tmp_path / "s").voxels, values)


def test_files_without_an_image_are_named(tmp_path):
    plan = image(np.zeros((2, 2), np.uint8), Modality="RTSTRUCT", Rows=None, PixelData=None)
    with pytest.raises(DicomError, match=r"no DICOM image found: plan\.dcm"):
        read_series([save(plan, tmp_path / "plan.dcm")])
