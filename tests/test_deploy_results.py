"""The result is what the model said, where it said it, to every reader that we have."""

from __future__ import annotations

import hashlib
import html.parser
import io
import json
import sys
from base64 import b64decode
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.sr.codedict import codes

from medlab import deploy
from medlab.deploy import Indications, StudyRefused, predict_study
from medlab.deploy.run import answer, back, prepared
from medlab.dicom import read_series
from medlab.errors import CheckpointError, DataError, MedlabError
from medlab.models import Denoiser, ResNet, SmallCNN, UNet
from medlab.preprocess import window
from medlab.training import predict, save_weights
from tests.deploy_studies import (
    FILMS,
    LUNGS,
    TERMS_OF_PATIENT,
    brighter,
    chest,
    film,
    model_file,
    sheared,
)
from tests.dicom_files import uid

hd = pytest.importorskip("highdicom", reason="needs highdicom")

C, S = float(np.cos(np.radians(10))), float(np.sin(np.radians(10)))
LYING = {
    "as most do": [1, 0, 0, 0, 1, 0],
    "feet first": [-1, 0, 0, 0, 1, 0],
    "prone": [-1, 0, 0, 0, -1, 0],
    "oblique": [C, S, 0, -S, C, 0],
    "nodding": [1, 0, 0, 0, C, S],
}


def by_hand(folder: Path) -> dict[str, np.ndarray]:
    """Which pixels of each image have 0 HU or more, from its own file."""
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    return {
        s.SOPInstanceUID: s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) >= 0
        for s in slices
    }


@pytest.mark.parametrize("lying", LYING)
def test_a_mask_lies_on_the_voxels_it_was_made_from(tmp_path, lying):
    chest(tmp_path / "study", orientation=LYING[lying])
    result = predict_study(tmp_path / "study", model_file(tmp_path), tmp_path / "out")
    truth = by_hand(tmp_path / "study")
    seg = hd.seg.segread(tmp_path / "out" / "result.dcm")
    frames = seg.get_pixels_by_source_instance(list(truth), combine_segments=True)
    assert np.array_equal(frames, np.stack(list(truth.values())))
    source = read_series(tmp_path / "study")
    ours = [truth[pydicom.dcmread(path).SOPInstanceUID] for path in source.files]
    assert np.array_equal(result.mask, np.stack(ours))
    assert result.mask.dtype == torch.uint8
    assert result.found["lung"] == pytest.approx(np.sum(ours) * 2.5 * 0.7 * 0.8 / 1000)
    # and the same place in the patient, by a second reader of geometry
    again = read_series(tmp_path / "out" / "result.dcm")
    assert torch.equal(again.voxels.to(torch.uint8), result.mask)
    assert torch.allclose(again.affine, source.affine, atol=1e-6)
    assert seg.FrameOfReferenceUID == uid("frame of reference")


def test_simpleitk_sees_the_mask_at_the_same_place(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    chest(tmp_path / "study")
    result = predict_study(tmp_path / "study", model_file(tmp_path), tmp_path / "out")
    seg = hd.seg.segread(tmp_path / "out" / "result.dcm")
    volume = seg.get_volume(combine_segments=True)  # highdicom's own geometry
    series = sitk.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(tmp_path / "study")))
    image = series.Execute()
    hu = sitk.GetArrayFromImage(image)
    for k, r, c in ((0, 0, 0), (5, 19, 23), (2, 7, 11)):
        place = image.TransformContinuousIndexToPhysicalPoint((c, r, k))
        index = np.rint(volume.map_reference_to_indices(np.array([place]))[0]).astype(int)
        assert np.allclose(volume.map_indices_to_reference(index[None])[0], place, atol=1e-6)
        assert volume.array[tuple(index)] == (hu[k, r, c] >= 0)
    assert np.array_equal(hu >= 0, result.mask.numpy() > 0)


@pytest.mark.filterwarnings("ignore:.*gantry")
@pytest.mark.parametrize("degrees", [4, 9.9])
def test_a_tilted_gantry_makes_no_volume_larger(tmp_path, degrees):
    about = Indications(**{**vars(LUNGS), "slice_spacing": (2.49, 2.51)})
    sheared(tmp_path / "study", degrees)
    result = predict_study(tmp_path / "study", model_file(tmp_path, about), tmp_path / "out")
    voxel = np.linalg.det(read_series(tmp_path / "study").affine[:3, :3])
    assert result.found["lung"] == pytest.approx(int(result.mask.sum()) * abs(voxel) / 1000)


@pytest.mark.parametrize("kind", ["mask", "report"])
def test_the_longest_texts_that_are_taken_stand_in_the_result(tmp_path, kind):
    long = {"name": "n" * 64, "version": "v" * 64, "trained_on": "t" * 1024}
    about = Indications(**{**vars(LUNGS if kind == "mask" else FILMS), **long})
    classes = ("a" * 64, "b" * 64)
    chest(tmp_path / "study") if kind == "mask" else film(tmp_path / "study" / "a.dcm")
    net = brighter(0.5) if kind == "mask" else SmallCNN(1, 2, 4)
    deploy.save(net, tmp_path / "m", classes=classes, indications=about)
    predict_study(tmp_path / "study", tmp_path / "m", tmp_path / "out")
    told = pydicom.dcmread(tmp_path / "out" / "result.dcm").to_json()
    assert all(text in told for text in (about.name, about.version, about.warning, "b" * 64))


def test_nothing_found_is_a_result_too(tmp_path):
    chest(tmp_path / "study")
    file = model_file(tmp_path, net=brighter(2.0))
    result = predict_study(tmp_path / "study", file, tmp_path / "out")
    assert result.found == {"lung": 0} and not result.mask.any()
    seg = hd.seg.segread(tmp_path / "out" / "result.dcm")
    assert not seg.pixel_array.any()
    assert "encloses 0% of the picture" in (tmp_path / "out" / "summary.html").read_text()


def test_classes_are_segments_in_their_order(tmp_path):
    net = UNet(1, 3, 1, depth=1)
    net.load_state_dict(
        brighter(0.5).state_dict()
        | {
            "classifier.weight": torch.tensor([0.0, 100, 200]).reshape(3, 1, 1, 1),
            "classifier.bias": torch.tensor([0.0, -50, -125]),  # 0.5 and 0.75: 0 and 500 HU
        }
    )
    chest(tmp_path / "study")
    file = tmp_path / "m.safetensors"
    deploy.save(net, file, classes=("air", "soft", "hard"), indications=LUNGS)
    result = predict_study(tmp_path / "study", file, tmp_path / "out")
    hu = read_series(tmp_path / "study").voxels
    assert torch.equal(result.mask, (hu >= 0).to(torch.uint8) + (hu >= 500))
    assert list(result.found) == ["soft", "hard"]
    ml = 2.5 * 0.7 * 0.8 / 1000
    assert result.found["hard"] == pytest.approx(float((hu >= 500).sum()) * ml)
    seg = hd.seg.segread(tmp_path / "out" / "result.dcm")
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["soft", "hard"]
    code = seg.get_segment_description(2).segmented_property_type
    assert (code.scheme_designator, code.meaning) == ("99MEDLAB", "hard") and len(code.value) == 8


@pytest.mark.parametrize("kind", ["mask", "report"])
def test_a_result_belongs_to_the_patient_and_the_study(tmp_path, kind):
    if kind == "mask":
        chest(tmp_path / "study", **TERMS_OF_PATIENT)
        file, warning = model_file(tmp_path), "ContentDescription"
    else:
        film(tmp_path / "study" / "a.dcm", **TERMS_OF_PATIENT)
        file, warning = model_file(tmp_path, FILMS), "SeriesDescription"
    predict_study(tmp_path / "study", file, tmp_path / "out")
    data = pydicom.dcmread(tmp_path / "out" / "result.dcm")
    for keyword, value in TERMS_OF_PATIENT.items():
        assert str(data[keyword].value) == value, keyword
    assert data.StudyInstanceUID == uid("study") and data.SeriesInstanceUID != uid("series")
    assert "not for clinical use" in data[warning].value.lower()
    assert LUNGS.warning in data.to_json()
    assert data.SoftwareVersions in ("1.2", "2") and data.Manufacturer == "medlab"


@pytest.mark.parametrize("bare", [False, True], ids=["whole header", "bare header"])
@pytest.mark.parametrize("kind", ["mask", "report"])
def test_a_result_has_every_attribute_that_the_standard_wants(tmp_path, kind, bare):
    """Types 1 and 2 of the mandatory modules, by the tables that highdicom took from PS3.3."""
    tables = Path(hd.__file__).parent / "_standard"
    iods, modules, wanted = (
        json.loads((tables / f"{name}.json").read_text())
        for name in ("sop_class_iod_map", "iod_module_map", "module_attribute_map")
    )
    patient = {} if bare else TERMS_OF_PATIENT
    if kind == "mask":
        chest(tmp_path / "study", **patient)
    else:
        film(tmp_path / "study" / "a.dcm", **patient)
    file = model_file(tmp_path, LUNGS if kind == "mask" else FILMS)
    predict_study(tmp_path / "study", file, tmp_path / "out")
    data = pydicom.dcmread(tmp_path / "out" / "result.dcm")
    checked = 0
    for module in modules[iods[data.SOPClassUID]]:
        for attribute in wanted[module["key"]] if module["usage"] == "M" else []:
            in_tree = module["key"] == "sr-document-content"  # `srread` checks what is in items
            if not (attribute["path"] or in_tree) and attribute["type"] in ("1", "2"):
                keyword, checked = attribute["keyword"], checked + 1
                assert keyword in data, f"{module['key']}: {keyword}"
                assert attribute["type"] == "2" or not data[keyword].is_empty, keyword
    assert checked > 20


def test_a_report_tells_each_probability_with_code_and_unit(tmp_path):
    film(tmp_path / "study" / "a.dcm")
    file = model_file(tmp_path, FILMS)
    result = predict_study(tmp_path / "study", file, tmp_path / "out")
    study = deploy.open_study(tmp_path / "study", FILMS)
    expected = predict(deploy.load(file).model, prepared(study, FILMS))[0]
    assert list(result.found.values()) == pytest.approx(expected.tolist()) and result.mask is None
    report = hd.sr.srread(tmp_path / "out" / "result.dcm")
    assert isinstance(report, hd.sr.ComprehensiveSR)
    groups = report.content.get_image_measurement_groups()
    found = {}
    for group in groups:
        (measured,) = group.get_measurements()
        assert measured.name == codes.DCM.CertaintyOfFinding and measured.unit == codes.UCUM.Percent
        assert group.finding_type.scheme_designator == "99MEDLAB"
        found[group.finding_type.meaning] = measured.value
        (image,) = group.source_images
        assert image.referenced_sop_instance_uid == uid("a.dcm")
        assert group.finding_sites[0].value == codes.SCT.Chest
    assert list(found) == ["healthy", "pneumonia"]
    assert found["pneumonia"] == pytest.approx(100 * result.found["pneumonia"], abs=1e-3)
    (observer,) = report.content.get_observer_contexts(observer_type=codes.DCM.Device)
    device = observer.observer_identifying_attributes
    assert device.name == "pneumonia" and device.model_name == "SmallCNN, version 2"
    assert device.uid.startswith("2.25.") and report.VerificationFlag == "UNVERIFIED"
    text = pydicom.dcmread(tmp_path / "out" / "result.dcm").to_json()
    assert "Not for clinical use; trained on simulated patients." in text


class Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.images: list[dict] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_data(self, data):
        self.words += data


def test_a_page_tells_people_what_was_found_and_what_was_not_checked(tmp_path):
    about = Indications(**{**vars(LUNGS), "name": "<b>lungs & more</b>"})
    chest(tmp_path / "study", BodyPartExamined="")
    result = predict_study(tmp_path / "study", model_file(tmp_path, about), tmp_path / "out")
    text = (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.words.split())
    assert "<b>lungs & more</b>, version 1.2" in words and "$" not in words
    assert "Not for clinical use; trained on simulated patients." in words
    assert f"lung: {result.found['lung']:.1f} ml" in words
    assert "body part: the header names none; expected is CHEST" in words
    assert "trained for CT, CHEST, axial" in words
    (shown,) = page.images
    picture = Image.open(io.BytesIO(b64decode(shown["src"].partition(",")[2])))
    assert min(picture.size) > 200
    k = int((result.mask > 0).sum((1, 2)).argmax())
    share = float(result.mask[k].float().mean())
    assert f"Slice {k + 1} of 6" in shown["alt"] and f"{share:.0%} of the picture" in shown["alt"]


def test_a_page_of_a_radiograph(tmp_path):
    film(tmp_path / "study" / "a.dcm")
    result = predict_study(tmp_path / "study", model_file(tmp_path, FILMS), tmp_path / "out")
    page = Page((tmp_path / "out" / "summary.html").read_text(encoding="utf-8"))
    assert page.images[0]["alt"].startswith("The radiograph")
    assert f"pneumonia: probability {result.found['pneumonia']:.1%}" in page.words


def test_again_is_the_same_but_for_uids_and_times(tmp_path):
    chest(tmp_path / "study")
    file = model_file(tmp_path)
    first, second = (predict_study(tmp_path / "study", file, tmp_path / n) for n in "ab")
    assert torch.equal(first.mask, second.mask) and first.found == second.found
    pages = [(tmp_path / n / "summary.html").read_bytes() for n in "ab"]
    assert pages[0] == pages[1]
    texts = []
    for n in "ab":
        data = pydicom.dcmread(tmp_path / n / "result.dcm")
        for element in [*data.iterall()]:
            if element.VR in ("UI", "DA", "TM", "DT"):
                element.value = None
        texts.append(data.to_json())
    assert texts[0] == texts[1]
    whole = [(tmp_path / n / "result.dcm").read_bytes() for n in "ab"]
    assert whole[0] != whole[1]


def test_an_output_that_is_no_number_is_refused(tmp_path):
    chest(tmp_path / "study")
    net = brighter(0.5)
    with torch.no_grad():
        net.classifier.bias[0] = float("nan")
    with pytest.raises(StudyRefused, match=r"\(output\)"):
        predict_study(tmp_path / "study", model_file(tmp_path, net=net), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- grids ---


@pytest.mark.parametrize(
    ("pixel_mm", "size"),
    [(None, None), (1.4, None), (0.5, None), (1.1, 40), (1.1, 9), (None, 30)],
)
def test_a_mask_comes_back_from_another_grid(tmp_path, pixel_mm, size):
    """A smooth ball keeps its volume and its place, on whatever grid the model sees it."""
    zyx = np.stack(np.meshgrid(*map(np.arange, (16, 24, 26)), indexing="ij"), -1) * (2.5, 0.7, 0.8)
    far = np.linalg.norm((zyx - (19, 7.5, 9)) / (2, 1, 1), axis=-1)
    hu = torch.from_numpy(1000 * np.tanh((4 - far) / 2)).float()
    study = deploy.Study(
        voxels=hu.flip(2),
        spacing=(2.5, 0.7, 0.8),
        reverse=(2,),
        sources=(),
        unverified=(),
    )
    about = replace(LUNGS, pixel_mm=pixel_mm, size=None if size is None else (size, size))
    packed = deploy.Packed(
        model=brighter(0.5), classes=("a", "lung"), indications=about, digest="0" * 64
    )
    result = answer(study, packed)
    mask, found = result.mask, result.found
    truth = (hu > 0).flip(2)
    assert mask.shape == truth.shape
    both = float((mask.bool() & truth).sum()) * 2 / float(mask.sum() + truth.sum())
    assert both > (0.75 if size == 9 else 0.9)
    assert found["lung"] == pytest.approx(float(mask.sum()) * 2.5 * 0.7 * 0.8 / 1000)


def test_where_the_model_saw_nothing_nothing_is_found():
    x = torch.arange(90.0).reshape(1, 9, 10)
    study = deploy.Study(voxels=x, spacing=(1.0,) * 3, reverse=(), sources=(), unverified=())
    about = replace(LUNGS, pixel_mm=1.0, size=(4, 4), window=(50, 100))
    maps = back(torch.ones(1, 2, 4, 4), study, about)
    assert maps.shape == (1, 2, 9, 10)
    assert torch.equal(maps[0, 0, 2:6, 3:7], torch.ones(4, 4)) and maps.sum() == 2 * 16
    assert torch.allclose(prepared(study, about)[0, 0], window(x[0, 2:6, 3:7], level=50, width=100))


# --- the file ---


def test_a_model_comes_back_with_its_indications(tmp_path):
    about = LUNGS.measured([torch.zeros(3, 3)], margin=1.5)
    file = model_file(tmp_path, about)
    packed = deploy.load(file)
    assert packed.indications == about and packed.classes == ("background", "lung")
    assert not packed.model.training and packed.model.arguments == brighter(0.5).arguments
    assert packed.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_digest_is_that_of_the_weights_that_answer(tmp_path, monkeypatch):
    """Also of a model's file that is replaced while it is being read."""
    file, other = model_file(tmp_path), tmp_path / "other"
    deploy.save(brighter(0.9), other, classes=("background", "lung"), indications=LUNGS)
    digest, reads = hashlib.sha256(file.read_bytes()).hexdigest(), Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda p: (reads(p), other.exists() and other.replace(file))[0]
    )
    packed = deploy.load(file)
    assert packed.digest == digest and not other.exists()


@pytest.mark.parametrize(
    ("net", "about", "classes", "word"),
    [
        (SmallCNN(1, 2, 4), LUNGS, ("a", "b"), "UNet of one channel with dims=2 for CT"),
        (UNet(1, 2, 4), FILMS, ("a", "b"), "SmallCNN or ResNet .* for DX"),
        (UNet(1, 2, 4, dims=3), LUNGS, ("a", "b"), "dims=2"),
        (UNet(3, 2, 4), LUNGS, ("a", "b"), "one channel"),
        (Denoiser(), LUNGS, ("a", "b"), "takes a UNet .* got Denoiser"),
        (torch.nn.Linear(2, 2), LUNGS, ("a", "b"), "takes a UNet .* got Linear"),
        (UNet(1, 3, 4), LUNGS, ("a", "b"), "3 different names"),
        (UNet(1, 2, 4), LUNGS, ("a", "a"), "2 different names"),
        (UNet(1, 1, 4), LUNGS, ("a",), "at least two"),
        (UNet(1, 2, 4), LUNGS, ("a", "l" * 65), "1 to 64 characters"),
    ],
)
def test_a_model_that_no_study_can_be_given_to_is_not_saved(tmp_path, net, about, classes, word):
    with pytest.raises(DataError, match=word):
        deploy.save(net, tmp_path / "m", classes=classes, indications=about)
    assert not (tmp_path / "m").exists()


def test_a_file_that_is_no_model_is_refused_without_its_path(tmp_path):
    chest(tmp_path / "study")
    torch.save({"a": torch.zeros(2)}, tmp_path / "Doe.pt")
    save_weights(ResNet(), tmp_path / "Doe.safetensors", classes=("a", "b"))
    for name, word in (
        ("Doe.pt", "pickle"),
        ("Doe.safetensors", "deploy.save"),
        ("Doe", "not there"),
    ):
        with pytest.raises(CheckpointError, match=word) as caught:
            predict_study(tmp_path / "study", tmp_path / name, tmp_path / "out")
        assert "Doe" not in str(caught.value)


def test_a_file_of_another_edition_is_refused(tmp_path):
    told = json.dumps({**asdict(LUNGS), "tilt": 10.0})
    save_weights(brighter(0.5), tmp_path / "m", classes=("a", "b"), about={"indications": told})
    with pytest.raises(CheckpointError, match="another edition"):
        deploy.load(tmp_path / "m")


def test_without_highdicom_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MedlabError, match="pip install highdicom"):
        predict_study(tmp_path, tmp_path / "m", tmp_path / "out")


def test_the_table_of_body_parts_agrees_with_the_standard():
    from highdicom._standard_utils import get_anatomic_region_map

    from medlab.deploy.indications import TERMS

    theirs = {name: code.value for name, (code, _) in get_anatomic_region_map().items()}
    ours = {name: row["code"][0] for name, row in TERMS["body_parts"].items()}
    assert {name: theirs.get(name) for name in ours} == ours
    words = [w for n, row in TERMS["body_parts"].items() for w in (n, row["code"][0], *row["also"])]
    assert len(words) == len({*words})  # each word means one part
