"""Headers and folders made to trip the command; and two real studies."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from scipy import ndimage

from medlab import deploy
from medlab.deploy import Indications, StudyRefused, predict_study
from medlab.dicom import read_image
from medlab.models import UNet
from medlab.preprocess import window
from medlab.simulate import chest_ct_volume
from tests.deploy_studies import FILMS, LUNGS, chest, model_file
from tests.where import REAL_DATA, WHY_NO_DATA

pytest.importorskip("highdicom", reason="needs highdicom")


def changed(folder: Path, change) -> Path:
    """A study of which every file is changed."""
    chest(folder)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        change(data)
        data.save_as(path, enforce_file_format=True)
    return folder


def raw(data: pydicom.Dataset, keyword: str, vr: str, value: bytes) -> None:
    """A value as its bytes, which pydicom would not write."""
    tag = Tag(keyword)
    data._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Иванов"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("NONSENSE", "Doe^Jane"),
        ("ISO_IR 192", "Doe\nJane"),
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown encoding", "ignore:Invalid value")
def test_a_name_in_any_alphabet_is_carried_over(tmp_path, charset, name):
    def change(data):
        data.SpecificCharacterSet, data.PatientName = charset, name
        data.StudyDescription = name.partition("=")[0]

    folder = changed(tmp_path / "study", change)
    predict_study(folder, model_file(tmp_path), tmp_path / "out")
    result = pydicom.dcmread(tmp_path / "out" / "result.dcm")
    assert str(result.PatientName) == name and result.SpecificCharacterSet == "ISO_IR 192"
    assert result.StudyDescription == name.partition("=")[0]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"])
def test_a_header_without_what_a_result_needs_is_refused(tmp_path, keyword):
    folder = changed(tmp_path / "study", lambda data: delattr(data, keyword))
    with pytest.raises(StudyRefused, match=r"refused \(header\)"):
        predict_study(folder, model_file(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_header_with_an_impossible_date_or_doubled_uids_is_refused(tmp_path):
    def born(data):
        raw(data, "PatientBirthDate", "DA", b"1.1.1950")

    def same(data):
        data.SOPInstanceUID = "1.2.3"

    for k, change in enumerate((born, same)):
        folder = changed(tmp_path / str(k), change)
        with pytest.raises(StudyRefused, match=r"refused \(header\)") as caught:
            predict_study(folder, model_file(tmp_path), tmp_path / "out")
        assert "1950" not in str(caught.value) and caught.value.__context__ is None


def test_what_the_standard_lets_be_unknown_may_be_absent(tmp_path):
    def change(data):
        for keyword in ("PatientID", "PatientName", "SliceThickness", "InstanceNumber"):
            delattr(data, keyword)
        data.PatientSex = "X"

    folder = changed(tmp_path / "study", change)
    predict_study(folder, model_file(tmp_path), tmp_path / "out")
    result = pydicom.dcmread(tmp_path / "out" / "result.dcm")
    assert result.PatientID == result.PatientSex == ""


def test_links_and_pipes_in_a_folder_do_no_harm(tmp_path):
    chest(tmp_path / "study")
    (tmp_path / "study" / "loop").symlink_to(tmp_path / "study")
    (tmp_path / "study" / "dead.dcm").symlink_to(tmp_path / "nowhere")
    (tmp_path / "study" / "zero.dcm").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "study" / "pipe.dcm")
    assert len(deploy.open_study(tmp_path / "study", LUNGS).voxels) == 6


@pytest.mark.parametrize("depth", [200, 100_000])
def test_a_header_nested_without_end_is_refused(tmp_path, depth):
    chest(tmp_path / "study")
    path = sorted((tmp_path / "study").iterdir())[0]
    content = path.read_bytes()
    at = content.find(b"\x28\x00\x02\x00US")
    opened = b"\x20\x00\x70\x90SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(content[:at] + opened * depth + closed * depth + content[at:])
    with pytest.raises(StudyRefused, match=r"damaged file.*file 1 of 6"):
        deploy.open_study(tmp_path / "study", LUNGS)


def test_a_size_beyond_the_memory_is_refused(tmp_path):
    def change(data):
        data.Rows = data.Columns = 65535

    with pytest.raises(StudyRefused, match=r"refused \(too large\)"):
        deploy.open_study(changed(tmp_path / "study", change), LUNGS)


# --- real studies ---

needs_data = pytest.mark.skipif(REAL_DATA is None, reason=WHY_NO_DATA)


def inside(hu: np.ndarray) -> np.ndarray:
    """Air that touches no side of its slice: lungs and airways."""
    found = np.zeros(hu.shape, bool)
    for k, slice_ in enumerate(hu):
        regions, _ = ndimage.label(slice_ < -400)
        sides = (regions[0], regions[-1], regions[:, 0], regions[:, -1])
        found[k] = (regions > 0) & ~np.isin(regions, np.unique(np.concatenate(sides)))
    return found


@pytest.mark.real
@pytest.mark.slow
@needs_data
def test_a_real_chest_gets_its_lungs_from_a_model_of_simulated_patients(tmp_path):
    with tarfile.open(REAL_DATA / "dicom" / "chest_ct_series.tar.xz") as archive:
        archive.extractall(tmp_path / "study", filter="data")
    patients = [
        chest_ct_volume(seed, shape=(10, 64, 64), spacing=(16, 5, 5)).hu for seed in range(4)
    ]
    about = Indications(
        **{"name": "lungs", "version": "1", "trained_on": "4 simulated patients"},
        **{"modality": "CT", "body_part": "CHEST", "view": "axial", "spacing": (0.4, 1.0)},
        **{"slice_spacing": (1, 16), "window": (-600, 1500), "pixel_mm": 5.0},
    ).measured(patients, margin=300)
    x = window(torch.cat(patients)[:, None], level=-600, width=1500)
    y = torch.from_numpy(np.concatenate([inside(one.numpy()) for one in patients])).long()
    torch.manual_seed(0)
    net = UNet(1, 2, 8).train()
    net.standardise.fit(x)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        batch = torch.randperm(len(x))[:10]
        loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    file = model_file(tmp_path, about, net)
    result = predict_study(tmp_path / "study", file, tmp_path / "out")
    truth = inside(deploy.open_study(tmp_path / "study", about).voxels.numpy())
    mask = result.mask.numpy() > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9
    data = pydicom.dcmread(tmp_path / "out" / "result.dcm")
    assert data.NumberOfFrames == 28 and data.PatientID == "C3N-00247"
    page = (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")
    assert "C3N-" not in page and data.StudyInstanceUID not in page


@pytest.mark.real
@needs_data
def test_a_real_radiograph_without_its_view_is_refused_until_it_is_entered(tmp_path):
    """It is a dog's, from the side; nothing but the missing view says that it is no chest PA."""
    corpus = REAL_DATA / "dicom" / "corpus" / "ImagingDataCommons+highdicom"
    source = corpus / "data" / "test_files" / "dx_image.dcm"
    about = Indications(**{**vars(FILMS), "spacing": (0.1, 2.0), "intensities": ()})
    with pytest.raises(StudyRefused, match=r"refused \(view\): expected PA; came none"):
        predict_study(source, model_file(tmp_path, about), tmp_path / "out")
    data = pydicom.dcmread(source)
    data.ViewPosition = "PA"
    data.save_as(tmp_path / "a.dcm")
    result = predict_study(tmp_path / "a.dcm", model_file(tmp_path, about), tmp_path / "out")
    assert sum(result.found.values()) == pytest.approx(1)
    study = deploy.open_study(tmp_path / "a.dcm", about)
    assert torch.equal(study.voxels[0], read_image(source).pixels)  # MONOCHROME1, mirrored
    children = Indications(**{**vars(about), "age": (18, 90)})
    with pytest.raises(StudyRefused, match=r"\(age\)"):
        deploy.open_study(tmp_path / "a.dcm", children)
