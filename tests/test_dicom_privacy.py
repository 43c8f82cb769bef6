"""identifiers and deidentify against the profile's table and planted identifiers."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.tag import Tag

import medlab.dicom.privacy
from medlab.dicom import deidentify, identifiers, read_image, write_series
from medlab.dicom.series import Volume
from medlab.errors import DicomError
from tests import deid_corpus
from tests.dicom_files import image, save, uid

SECRET = "Zyxwv"
# What each code of PS3.15 Table E.1-1 allows to remain; X/Z and the like leave a choice to the IOD.
ALLOWED = {
    "X": {"gone"}, "Z": {"empty", "kept"}, "D": {"kept"}, "U": {"kept"}, "X/Z": {"gone", "empty"},
    "X/D": {"gone", "kept"}, "Z/D": {"empty", "kept"}, "X/Z/D": {"gone", "empty", "kept"},
    "X/Z/U*": {"gone", "empty", "kept"},
}  # fmt: skip
VALUES = {
    "AE": SECRET, "AS": "044Y", "CS": SECRET.upper(), "DA": "19770707", "DT": "19770707123456",
    "LO": SECRET, "LT": SECRET, "PN": f"{SECRET}^Q", "SH": SECRET, "ST": SECRET, "TM": "123456",
    "UC": SECRET, "UI": "1.2.3.4.5", "UR": SECRET, "UT": SECRET, "DS": "7", "IS": "7", "US": 7,
    "UL": 7, "FD": 7.0, "FL": 7.0, "SS": 7, "SL": 7, "OB": b"77", "OW": b"77", "UN": b"77",
}  # fmt: skip


def table() -> dict[str, str]:
    """Keyword → action code."""
    path = Path(medlab.dicom.privacy.__file__).with_name("profile.json")
    actions = json.loads(path.read_text(encoding="utf-8"))["actions"]
    words = [(word, code) for code in actions for line in actions[code] for word in line.split()]
    return {word: code for word, code in words if word in keyword_dict}


def profile() -> list[str]:
    return [keyword for keyword, code in table().items() if code != "K"]


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
    if tag_for_keyword(keyword) >> 16 in (0, 2):
        pytest.skip("of a message or the file meta information, of which nothing is carried over")
    for modality in ("CT", "PT"):
        data = planted(Modality=modality)
        assert fill(data, keyword), "a VR without a value to plant"
        (found,) = [found for found in identifiers(data) if found.keyword == keyword]
        clean = deidentify(data, key="k")
        state = "gone" if keyword not in clean else "kept" if clean[keyword].value else "empty"
        if state == "kept" and table()[keyword] != "X/Z/U*":
            assert clean[keyword].value != data[keyword].value
        assert state in ALLOWED[table()[keyword]], f"{table()[keyword]}, but {state}"
        if keyword not in ("PatientID", "PatientName"):
            done = {"gone": "remove", "empty": "empty"}.get(state, "dummy, new UID")
            assert found.action in done
        assert not re.search(f"{SECRET}|{SECRET.upper()}|Inside", str(clean))


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
    clean.save_as(BytesIO(), enforce_file_format=True)
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
        ({"SpecimenLabelInImage": "YES"}, "SpecimenLabelInImage"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "BurnedInAnnotation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "BurnedInAnnotation"),
        ({"ConversionType": "WSD"}, "BurnedInAnnotation"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "BurnedInAnnotation"),
        ({"SamplesPerPixel": 3}, "BurnedInAnnotation"),
        ({"Modality": ""}, "BurnedInAnnotation"),
        ({"Modality": "DOC", "BurnedInAnnotation": "MAYBE"}, "BurnedInAnnotation"),
    ],
)
def test_what_only_eyes_can_settle_is_marked_look(header, keyword):
    assert keyword in [
        found.keyword for found in identifiers(planted(**header)) if found.action == "look"
    ]


def test_a_chest_ct_gives_no_such_doubt():
    assert not [f for f in identifiers(planted(BodyPartExamined="CHEST")) if f.action == "look"]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"BurnedInAnnotation": "YES"}, "text is burnt in.* as the header says"),
        ({"SpecimenLabelInImage": "YES", "BurnedInAnnotation": "NO"}, "a label is in the picture"),
        ({"ConversionType": "WSD"}, "text may be burnt in"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, "text may be burnt in"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "text may be burnt in"),
        ({"Modality": "MG", "BurnedInAnnotation": "UNKNOWN"}, "text may be burnt in"),
        *(({"Modality": kind}, "text may be burnt in") for kind in (None, "US", "CR", "DX", "XA")),
    ],
)
def test_pictures_at_risk_of_text_are_refused(header, why):
    with pytest.raises(DicomError, match=f"header: {why}.* then set .* to NO"):
        deidentify(planted(**header), key="k")


@pytest.mark.parametrize("modality", ["CT", "MR", "NM", "PT"])
def test_a_scanners_own_slices_and_what_a_person_has_looked_at_come_through(modality):
    deidentify(planted(Modality=modality), key="k")
    clean = deidentify(planted(Modality="US", BurnedInAnnotation="NO"), key="k")
    assert clean.BurnedInAnnotation == "NO"


def test_burnt_in_names_of_the_corpus_are_refused():
    for file in deid_corpus.captures(24):
        with pytest.raises(DicomError, match="burnt into the pixels"):
            deidentify(file.data, key="k")


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


def test_dates_go():
    data = planted(
        StudyDate="20240301",
        AcquisitionDate="20240229",
        PatientBirthDate="19700101",
        StudyTime="1015",
    )
    gone = deidentify(data, key="k")
    assert not gone.StudyDate
    assert not gone.AcquisitionDate
    assert gone.LongitudinalTemporalInformationModified == "REMOVED"


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
    data = pydicom.dcmread(source)
    data.BurnedInAnnotation = "NO"  # a person has looked: its type is DERIVED\\SECONDARY
    path = save(deidentify(data, key="k"), tmp_path / "a.dcm")
    assert np.array_equal(read_image(path).pixels.numpy(), data.pixel_array)
    assert path.read_bytes()[:128] == b"\0" * 128


@pytest.mark.parametrize(
    "options",
    [{"key": ""}, {"key": b"k"}, {"key": None}, {"patient_id": 7}, {"patient_id": "x" * 65},
     {"patient_id": ""}, {"patient_id": "a\\b"}],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(options):
    with pytest.raises(DicomError, match=next(iter(options))):
        deidentify(planted(), **{"key": "k", **options})


def test_what_is_refused(tmp_path):
    report = planted(Rows=None)
    with pytest.raises(DicomError, match="holds no image"):
        deidentify(report, key="k")
    with pytest.raises(DicomError, match="No such file"):
        identifiers(tmp_path / "gone.dcm")


# ---------------------------------------------------------------- what no table can list


def raw(data: Dataset, tag: int, vr: str, value: bytes) -> None:
    """An element as a damaged file may hold it, which pydicom would refuse to make."""
    value += b" " * (len(value) % 2)
    data[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


UNKNOWN = {
    0x00100999: ("SH", SECRET), 0x12340010: ("LT", SECRET), 0x00080999: ("UN", SECRET.encode()),
    0x00081999: ("UI", "1.2.3.4.5"), 0x50000010: ("LO", SECRET), 0x501E0010: ("LO", SECRET),
    0x50400010: ("LO", SECRET), 0x50FE200C: ("OW", b"Zyxwv "), 0x60403000: ("OW", b"Zyxwv "),
    0x60FE4000: ("LT", SECRET), 0x7F000010: ("OW", b"Zyxwv "), 0x00090010: ("LO", "MAKER"),
    0x00091001: ("UN", b"Zyxwv "), 0x00000600: ("AE", SECRET), 0xFFFAFFFA: ("SQ", [Dataset()]),
    0xFFFCFFFC: ("OB", b"Zyxwv "),
}  # fmt: skip


@pytest.mark.parametrize("tag", UNKNOWN, ids=hex)
@pytest.mark.parametrize("nested", [False, True])
def test_private_unknown_and_repeating_elements_go_and_are_listed(tag, nested, tmp_path):
    data, inner = planted(), Dataset()
    (inner if nested else data).add_new(tag, *UNKNOWN[tag])
    if nested:
        data.RealWorldValueMappingSequence = [inner]
    tags = [found.tag for found in identifiers(data)]
    assert str(Tag(tag)) in tags
    clean = deidentify(data, key="k")
    assert tag not in clean
    assert not nested or tag not in clean.RealWorldValueMappingSequence[0]
    save(clean, tmp_path / "a.dcm")
    assert SECRET.encode() not in (tmp_path / "a.dcm").read_bytes()


def test_what_stands_behind_the_pixels_is_listed_from_a_file_too(tmp_path):
    data = planted()
    data.DataSetTrailingPadding = SECRET.encode() + b" "
    found = identifiers(save(data, tmp_path / "a.dcm"))
    assert "DataSetTrailingPadding" in [item.keyword for item in found]


def test_pixels_inside_a_sequence_and_links_go():
    data, inner = planted(), Dataset()
    inner.add_new("PixelData", "OW", b"Zyxwv ")
    inner.RetrieveURL = f"https://pacs.example/{SECRET}"
    inner.EncryptedAttributesSequence = [Dataset()]
    inner.CodingSchemeUID = "2.16.840.1.113883.6.96"
    data.RealWorldValueMappingSequence = [inner]
    (item,) = deidentify(data, key="k").RealWorldValueMappingSequence
    assert [element.keyword for element in item] == ["CodingSchemeUID"]
    assert item.CodingSchemeUID == inner.CodingSchemeUID  # a vocabulary, not a patient


@pytest.mark.parametrize("vr", ["LO", "UN", "US", "OB", "DA", "SQ", "UI", "PN", "SS", "TM"])
def test_a_damaged_file_may_declare_another_vr(vr, tmp_path):
    """One such file made deidentify raise a TypeError, and left the old UID in place."""
    value = b"19770707Zy"
    words = (b"19770707", b"19770707Zy", b"Zy", str(list(np.frombuffer(value, "<u2"))).encode())
    for keyword in ("SOPInstanceUID", "StudyDate", "PatientName", "ContentSequence", "StationName",
                    "PatientID", "FrameOfReferenceUID", "XRaySourceID", "CalibrationDateTime",
                    "ScheduledStudyStartDate", "DateOfGainCalibration", "StudyTime",
                    "TargetFrameOfReferenceUID", "AcquisitionTime"):  # fmt: skip
        data = planted()
        raw(data, tag_for_keyword(keyword), vr, value)
        try:
            identifiers(data)
            save(deidentify(data, key="k"), tmp_path / "a.dcm")
        except DicomError:
            continue
        data = pydicom.dcmread(tmp_path / "a.dcm")
        assert str(data.get(keyword, "")).encode() not in words, keyword


NO_UIDS = (
    "AcquisitionNumber EchoNumbers FrameIncrementPointer ImageType KVP LossyImageCompression "
    "PixelSpacing RouteOfAdmissions ScanningSequence SliceThickness SpacingBetweenSlices "
    "TagAngleFirstAxis"
)


@pytest.mark.parametrize("keyword", NO_UIDS.split())
def test_a_uid_where_the_standard_has_no_uid_goes(keyword, tmp_path):
    """A spacing declared as a UID got a new UID, which no number can be: a ValueError came out."""
    data = planted()
    raw(data, tag_for_keyword(keyword), "UI", b"1.2.999.4711")
    assert (keyword, "remove") in [(item.keyword, item.action) for item in identifiers(data)]
    save(deidentify(data, key="k"), tmp_path / "a.dcm")
    assert keyword not in pydicom.dcmread(tmp_path / "a.dcm")


def test_text_is_searched_for_what_names_the_patient():
    data = planted(PatientName="Zyxwv^Q", PatientID="AB-4711", PatientBirthDate="19770707")
    kept, texts = "Bolus 20 ml, series 4", ("seen: ZYXWV, Q.", "no. 4711 of AB", "born 19770707")
    for text in texts:
        data.ContrastBolusRoute, data.ConvolutionKernel = text, ["B30f", text]
        data.ManufacturerModelName, data.KVP, data.FilterType = kept, "120", "WEDGE"
        assert {"ContrastBolusRoute", "ConvolutionKernel"} <= {f.keyword for f in identifiers(data)}
        clean = deidentify(data, key="k")
        assert "ANONYMOUS" in (clean.ContrastBolusRoute, clean.ConvolutionKernel)
        assert text not in str(clean)
        assert (clean.ManufacturerModelName, clean.KVP, clean.FilterType) == (kept, 120, "WEDGE")


def test_a_reference_follows_its_object_through_files_sequences_and_meta(tmp_path):
    first, second, item, deep = planted(SOPInstanceUID=uid("a")), planted(), Dataset(), Dataset()
    deep.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID = uid("a")
    item.ReferencedSOPClassUID = first.SOPClassUID
    item.PurposeOfReferenceCodeSequence = [deep]
    second.SourceImageSequence = [item]
    one = pydicom.dcmread(save(deidentify(first, key="k"), tmp_path / "1.dcm"))
    two = pydicom.dcmread(save(deidentify(second, key="k"), tmp_path / "2.dcm"))
    (item,) = two.SourceImageSequence
    assert one.SOPInstanceUID == item.ReferencedSOPInstanceUID == one.file_meta[0x20003].value
    assert item.PurposeOfReferenceCodeSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert one.SOPInstanceUID != uid("a")
    assert item.ReferencedSOPClassUID == first.SOPClassUID


# ---------------------------------------------------------------- what comes out can be saved


@pytest.mark.parametrize("missing", ["Class", "Instance"])
def test_what_no_file_may_lack_is_missed(missing):
    data = planted()
    del data[f"SOP{missing}UID"]
    with pytest.raises(DicomError, match=rf"header: cannot write.* SOP {missing} UID"):
        deidentify(data, key="k")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_other_native_syntaxes_and_characters_come_through(syntax, tmp_path):
    data = planted(ManufacturerModelName="Röntgen", SpecificCharacterSet="ISO_IR 100")
    data.file_meta.TransferSyntaxUID = syntax
    path = save(data, tmp_path / "a.dcm")
    for name in ("P-7", "病人^七"):
        clean = save(deidentify(path, key="k", patient_id=name), tmp_path / "b.dcm")
        back = pydicom.dcmread(clean)
        assert (back.PatientID, back.PatientName) == (name, name)
        assert back.ManufacturerModelName == "Röntgen"
        assert back.PixelData == data.PixelData


def test_a_data_set_without_file_meta_and_one_without_pixels(tmp_path):
    data = planted(TransactionUID="1.2.3")
    header = read_image(save(data, tmp_path / "a.dcm")).header
    assert "PixelData" not in deidentify(header, key="k")
    del data.file_meta
    assert np.array_equal(
        pydicom.dcmread(save(deidentify(data, key="k"), tmp_path / "b.dcm")).pixel_array,
        np.arange(16).reshape(4, 4),
    )


def test_the_file_meta_information_is_listed_and_made_anew(tmp_path):
    data = planted()
    data.file_meta.SourceApplicationEntityTitle = "ST_MARY_PACS"
    data.file_meta.PrivateInformationCreatorUID = "1.2.3.99"
    data.file_meta.PrivateInformation = b"JANE DOE"
    data.file_meta.SourcePresentationAddress = "dicom://pacs"
    data.preamble = b"JANE DOE" * 16
    path = save(data, tmp_path / "a.dcm")
    found = {f.keyword.split(".")[1] for f in identifiers(path) if f.keyword.startswith("file_m")}
    assert found == {
        "MediaStorageSOPInstanceUID", "SourceApplicationEntityTitle", "PrivateInformation",
        "PrivateInformationCreatorUID", "SourcePresentationAddress",
    }  # fmt: skip
    written = save(deidentify(path, key="k"), tmp_path / "b.dcm").read_bytes()
    assert not re.search(rb"JANE|MARY|pacs|1\.2\.3\.99", written)


def test_the_method_is_named_by_its_code():
    (method,) = deidentify(planted(), key="k").DeidentificationMethodCodeSequence
    assert method.CodeValue == "113100"


# ---------------------------------------------------------------- beside the picture


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("bits", "stored", "high", "signed"),
    [(16, 12, 11, 0), (16, 12, 11, 1), (8, 6, 5, 0), (16, 16, 15, 0)],
)  # fmt: skip
def test_bits_that_belong_to_no_pixel_are_cleared(bits, stored, high, signed, order, tmp_path):
    rng, low = np.random.default_rng(3), high + 1 - stored
    values = rng.integers(-(2 ** (stored - 1)) * signed, 2 ** (stored - signed), (5, 7))
    words = values << low
    mask = (2**stored - 1) << low
    hidden = (words & mask) | (rng.integers(0, 2**bits, (5, 7)) & ~mask)
    data = planted(Columns=7, Rows=5, BitsAllocated=bits, BitsStored=stored, HighBit=high)
    data.PixelRepresentation = signed
    value = (hidden & (2**bits - 1)).astype(f"{order}u{bits // 8}").tobytes()
    data.add_new("PixelData", "OW", value + b"\0" * (len(value) % 2))
    if order == ">":
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    if order == ">" and stored < bits:
        with pytest.raises(DicomError, match="big-endian"):
            deidentify(data, key="k")
        return
    clean = deidentify(data, key="k").PixelData
    kind = f"{order}{'i' if signed else 'u'}{bits // 8}"
    assert np.array_equal(np.frombuffer(clean, kind, count=35).reshape(5, 7), words)


def test_pixel_data_that_do_not_fit_the_header_are_refused(tmp_path):
    for change in (
        {"Rows": 5}, {"NumberOfFrames": 2}, {"BitsStored": 17},
        {"BitsStored": 12, "HighBit": 3}, {"Rows": 3}, {"BitsAllocated": 12, "BitsStored": 8},
    ):  # fmt: skip
        with pytest.raises(DicomError):
            deidentify(planted(**change), key="k")
    data = planted()
    data.PixelData += b"JANE DOE"
    with pytest.raises(DicomError, match="40 bytes"):
        deidentify(data, key="k")


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def jpeg(progressive: bool = False) -> bytes:
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", progressive=progressive, subsampling=0)
    return stream.getvalue()


def hiding(stream: bytes, *, colours: bool = True) -> bytes:
    """The stream with the secret in every place where a JPEG or JPEG-LS allows one.

    `colours` adds to segments that tell a decoder what the colours are; JFIF, which stands first,
    goes before Adobe.
    """
    name = SECRET.encode()
    asides = segment(0xFE, name) + segment(0xE8, name) + segment(0xED, name)
    if colours:
        asides += segment(0xE1, b"Exif\0\0" + name) + segment(0xEE, b"Adobe" + bytes(7) + name)
        asides += segment(0xE0, b"JFXX\0\x13\1\1" + bytes(768) + name)
    for scan in reversed(list(re.finditer(rb"\xff\xda\x00", stream))):
        stream = stream[: scan.start()] + segment(0xFE, name) + stream[scan.start() :]
    first = 20 if stream[6:10] == b"JFIF" else 2
    return stream[:first] + asides + stream[first:]


def compressed(streams: list[bytes], syntax: str, *, fragments: int = 1, **header) -> Dataset:
    data = image(np.zeros((16, 16, 3), np.uint8), BurnedInAnnotation="NO", **header)
    data.PhotometricInterpretation = "YBR_FULL_422"
    data.file_meta.TransferSyntaxUID = syntax
    data.NumberOfFrames = len(streams)
    data.add_new("PixelData", "OB", encapsulate(streams, fragments_per_frame=fragments))
    data["PixelData"].is_undefined_length = True
    return data


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("fragments", [1, 3])
def test_names_in_jpeg_frames_are_blanked_and_the_picture_stays(progressive, fragments, tmp_path):
    plain = jpeg(progressive)
    data = compressed(
        [hiding(plain), plain, hiding(plain)], "1.2.840.10008.1.2.4.50", fragments=fragments
    )
    data.ExtendedOffsetTable = data.ExtendedOffsetTableLengths = bytes(24)
    path = save(deidentify(data, key="k"), tmp_path / "a.dcm")
    assert SECRET.encode() not in path.read_bytes()
    assert "ExtendedOffsetTable" not in pydicom.dcmread(path)
    with Image.open(BytesIO(plain)) as picture:
        want = np.asarray(picture).astype(int)
    for frame in pydicom.dcmread(path).pixel_array:
        assert np.abs(frame - want).max() <= 3  # decoders turn YCbCr to RGB in their own ways


@pytest.mark.parametrize(
    "name", ["MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_RLE.dcm",
             "SC_rgb_jpeg_app14_dcmd.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle_16bit_2frame.dcm",
             "SC_rgb_dcmtk_+eb+cy+s4.dcm", "SC_jpeg_no_color_transform.dcm", "JPGExtended.dcm",
             "MR_small_jp2klossless.dcm", "J2K_pixelrep_mismatch.dcm", "examples_jpeg2k.dcm"],
)  # fmt: skip
def test_real_streams_keep_every_pixel(name, tmp_path):
    source = pydicom.data.get_testdata_file(name, download=False)
    data = pydicom.dcmread(source)
    syntax, frames = data.file_meta.TransferSyntaxUID, int(data.get("NumberOfFrames") or 1)
    streams = list(generate_frames(data.PixelData, number_of_frames=frames))
    if "JPEG 2000" in syntax.name:
        # after the last segment of the main header
        cut = streams[0].index(b"\xff\x90")
        aside = b"\xff\x64" + (4 + 6).to_bytes(2, "big") + b"\0\1 " + SECRET.encode()
        secret = [streams[0][:cut] + aside + streams[0][cut:]]
    else:
        rle = "RLE" in syntax.name
        secret = [s if rle else hiding(s.rstrip(b"\0"), colours=False) for s in streams]
    data.PixelData, data.BurnedInAnnotation = encapsulate(secret), "NO"  # else text is looked for
    clean = save(deidentify(data, key="k"), tmp_path / "a.dcm")
    assert SECRET.encode() not in clean.read_bytes()
    assert np.array_equal(read_image(clean).frames.numpy(), read_image(source).frames.numpy())


def test_a_video_which_cannot_be_searched_is_refused():
    video = compressed([b"\0\0\1\xb3" + bytes(60)], "1.2.840.10008.1.2.4.100")
    with pytest.raises(DicomError, match="cannot decode"):
        deidentify(video, key="k")


@pytest.mark.parametrize("damage", ["head", "length", "cut", "fragment", "native", "behind"])
def test_damaged_streams_are_refused_with_the_file_named(damage, tmp_path):
    stream = hiding(jpeg())
    if damage == "head":
        stream = b"JANE" + stream
    if damage == "length":
        stream = stream[:4] + b"\xff\xff" + stream[6:]
    if damage == "cut":
        stream = stream[:100]
    data = compressed([stream], "1.2.840.10008.1.2.4.50")
    if damage == "behind":
        data.PixelData = encapsulate([stream + b"JANE"])
    if damage == "fragment":
        data.PixelData = data.PixelData[:-60]
    if damage == "native":
        data.PixelData = bytes(16 * 16 * 3)
    with pytest.raises(DicomError, match="header: "):
        deidentify(data, key="k")
