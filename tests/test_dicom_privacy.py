"""identifiers and deidentify against the profile's table and planted identifiers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import medlab.dicom.privacy
from medlab.dicom import deidentify, identifiers, read_image, write_series
from medlab.dicom.series import Volume
from medlab.errors import DicomError
from tests.dicom_files import image, save, uid

SECRET = "Zyxwv"
VALUES = {
    "AE": SECRET, "AS": "044Y", "CS": SECRET.upper(), "DA": "19770707", "DT": "19770707123456",
    "LO": SECRET, "LT": SECRET, "PN": f"{SECRET}^Q", "SH": SECRET, "ST": SECRET, "TM": "123456",
    "UC": SECRET, "UI": "1.2.3.4.5", "UR": SECRET, "UT": SECRET, "DS": "7", "IS": "7", "US": 7,
    "UL": 7, "FD": 7.0, "FL": 7.0, "SS": 7, "SL": 7, "OB": b"77", "OW": b"77", "UN": b"77",
}  # fmt: skip


def profile() -> list[str]:
    path = Path(medlab.dicom.privacy.__file__).with_name("profile.txt")
    lines = [x for x in path.read_text(encoding="utf-8").splitlines() if x[:1] not in ("#", "[")]
    return [word for line in lines for word in line.split() if word in keyword_dict]


def planted(**header) -> Dataset:
    return image(np.arange(16, dtype=np.uint16).reshape(4, 4), **header)


def fill(data: Dataset, keyword: str) -> bool:
    vr = dictionary_VR(tag_for_keyword(keyword)).split(" or ")[0]
    if vr == "SQ":
        item = Dataset()
        item.PatientName = f"{SECRET}^Inside"
        setattr(data, keyword, Sequence([item]))
    elif vr in VALUES:
        data.add_new(keyword, vr, VALUES[vr])
    else:
        return False
    return True


@pytest.mark.parametrize("keyword", profile())
def test_every_attribute_of_the_profile_is_listed_and_cleaned(keyword):
    if keyword in ("PixelData", "EncapsulatedDocument") or tag_for_keyword(keyword) >> 16 == 2:
        pytest.skip("not in an image's data set")
    data = planted()
    if not fill(data, keyword):
        pytest.skip("no value of this VR to plant")
    assert any(found.keyword == keyword for found in identifiers(data)), keyword
    clean = deidentify(data, key="k", burned_in="keep")
    if keyword in clean and clean[keyword].VR not in ("SQ",):
        assert clean[keyword].value != data[keyword].value, keyword
    text = str(clean)
    assert SECRET not in text
    assert SECRET.upper() not in text


def test_nothing_planted_anywhere_survives():
    data = planted(Modality="MR", PatientIdentityRemoved="NO")
    everything = [k for k in profile() if tag_for_keyword(k) >> 16 not in (2, 0)]
    for keyword in everything:
        if keyword not in ("PixelData", "SOPClassUID"):
            fill(data, keyword)
    data.private_block(0x0011, "SECRET MAKER", create=True).add_new(1, "LO", SECRET)
    for group in (0x5000, 0x6000, 0x6002):
        data.add_new((group, 0x3000), "OW", b"\x01\x00")
        data.add_new((group, 0x0022), "LO", SECRET)
    inner = Dataset()
    inner.add_new((0x0013, 0x0010), "LO", "MAKER")
    inner.add_new((0x0013, 0x1001), "PN", SECRET)
    inner.ReferencedSOPInstanceUID = uid("referenced")
    inner.RescaleSlope = 1
    data.RealWorldValueMappingSequence = Sequence([inner])
    clean = deidentify(data, key="k")
    text = str(clean)
    assert not re.search(f"{SECRET}|{SECRET.upper()}|MAKER|19770707|1\\.2\\.3\\.4\\.5", text)
    assert not [e for e in clean.iterall() if e.tag.is_private or e.tag.group in (0x5000, 0x6000)]
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.DeidentificationMethod
    assert clean.PixelData == data.PixelData
    leftovers = [f for f in identifiers(clean) if f.action not in ("new UID", "dummy")]
    assert leftovers == []
    assert data.PatientName == f"{SECRET}^Q"  # the original is untouched


def test_a_person_whom_the_profile_does_not_list_is_found_too():
    names = [k for k in keyword_dict if dictionary_VR(keyword_dict[k]) == "PN"]
    unlisted = [k for k in names if k not in profile()]
    assert unlisted
    for keyword in unlisted:
        data = planted(**{keyword: f"{SECRET}^Q"})
        assert keyword in [found.keyword for found in identifiers(data)]
        assert SECRET not in str(deidentify(data, key="k"))


def test_identifiers_say_what_and_why(tmp_path):
    path = save(planted(StudyDate="20240229", StationName="CT7"), tmp_path / "a.dcm")
    found = {item.keyword: item for item in identifiers(path)}
    assert found["PatientName"].value == "Doe^Jane"
    assert found["PatientName"].tag == "(0010,0010)"
    assert "name" in found["PatientName"].why
    assert "date" in found["StudyDate"].why
    assert "where" in found["StationName"].why
    assert found["SOPInstanceUID"].action == "new UID"
    assert found["file_meta.MediaStorageSOPInstanceUID"].action == "new UID"
    for harmless in ("SOPClassUID", "Rows", "PixelData", "Modality", "PhotometricInterpretation"):
        assert harmless not in found


def test_names_in_sequences_are_found_with_their_path():
    data = planted()
    person = Dataset()
    person.PersonName = "Roe^Richard"
    middle = Dataset()
    middle.ContentCreatorIdentificationCodeSequence = Sequence([])
    middle.ReferencedImageEvidenceSequence = Sequence([person])
    data.SourceImageEvidenceSequence = Sequence([middle])
    (found,) = [item for item in identifiers(data) if item.value == "Roe^Richard"]
    assert found.keyword == (
        "SourceImageEvidenceSequence[0].ReferencedImageEvidenceSequence[0].PersonName"
    )


@pytest.mark.parametrize(
    ("header", "keyword"),
    [
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation"),
        ({"Modality": "US"}, "BurnedInAnnotation"),
        ({"BodyPartExamined": "HEAD"}, "PixelData"),
        ({"Modality": "MR", "SeriesDescription": "T1 Brain"}, "PixelData"),
        ({"RecognizableVisualFeatures": "YES"}, "RecognizableVisualFeatures"),
    ],
)
def test_what_only_eyes_can_settle_is_marked_look(header, keyword):
    assert keyword in [
        found.keyword for found in identifiers(planted(**header)) if found.action == "look"
    ]


def test_a_chest_ct_gives_no_such_doubt():
    assert not [f for f in identifiers(planted(BodyPartExamined="CHEST")) if f.action == "look"]


def test_burnt_in_text_is_refused():
    with pytest.raises(DicomError, match="burnt into the pixels"):
        deidentify(planted(BurnedInAnnotation="YES"), key="k")
    deidentify(planted(BurnedInAnnotation="YES"), key="k", burned_in="keep")
    with pytest.warns(UserWarning, match="look at the pixels"):
        deidentify(planted(Modality="US"), key="k")


def test_uids_are_mapped_alike_across_files_and_differently_for_another_key():
    a, b = (
        planted(SOPInstanceUID=uid(name), SOPClassUID="1.2.840.10008.5.1.4.1.1.2") for name in "ab"
    )
    one, two, other = deidentify(a, key="x"), deidentify(b, key="x"), deidentify(a, key="y")
    assert one.StudyInstanceUID == two.StudyInstanceUID != a.StudyInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.StudyInstanceUID != other.StudyInstanceUID
    assert one.StudyInstanceUID.is_valid
    assert one.SOPClassUID == a.SOPClassUID


def test_dates_go_or_are_shifted_by_one_interval():
    data = planted(
        StudyDate="20240301",
        AcquisitionDate="20240229",
        PatientBirthDate="19700101",
        StudyTime="1015",
    )
    gone = deidentify(data, key="k")
    assert not gone.StudyDate
    assert "AcquisitionDate" not in gone
    assert gone.LongitudinalTemporalInformationModified == "REMOVED"
    moved = deidentify(data, key="k", shift_days=-366)
    assert (moved.StudyDate, moved.AcquisitionDate) == ("20230301", "20230228")
    assert moved.StudyTime == "1015"
    assert not moved.PatientBirthDate
    assert moved.LongitudinalTemporalInformationModified == "MODIFIED"


def test_a_deidentified_series_still_reads(tmp_path):
    import torch

    from medlab.dicom import read_series

    voxels = torch.arange(60.0).reshape(3, 4, 5)
    for k, path in enumerate(
        write_series(Volume(voxels=voxels, spacing=(1, 1, 1)), tmp_path / "a")
    ):
        clean = deidentify(path, key="k", patient_id="P7")
        assert clean.PatientID == clean.PatientName == "P7"
        save(clean, tmp_path / "b" / f"{k}.dcm")
    assert torch.equal(read_series(tmp_path / "b").voxels, voxels)


def test_compressed_pixels_are_carried_over(tmp_path):
    from pydicom.data import get_testdata_file

    source = get_testdata_file("MR_small_RLE.dcm", download=False)
    path = save(deidentify(source, key="k"), tmp_path / "a.dcm")
    assert np.array_equal(read_image(path).pixels.numpy(), pydicom.dcmread(source).pixel_array)
    assert path.read_bytes()[:128] == b"\0" * 128


def test_what_is_refused(tmp_path):
    with pytest.raises(DicomError, match="key"):
        deidentify(planted(), key="")
    with pytest.raises(DicomError, match="burned_in"):
        deidentify(planted(), key="k", burned_in="ignore")
    report = planted(Rows=None)
    with pytest.raises(DicomError, match="holds no image"):
        deidentify(report, key="k")
    with pytest.raises(DicomError, match="no such file"):
        identifiers(tmp_path / "gone.dcm")
