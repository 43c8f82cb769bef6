"""The study that fits is read as it is, every wrong one is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

from medlab import deploy
from medlab.deploy import Indications, StudyRefused, open_study
from medlab.deploy.run import prepared
from medlab.dicom import Volume, read_series, write_series
from medlab.errors import DataError
from medlab.preprocess import normalise, window
from tests.deploy_studies import FILMS, LUNGS, WRONG, chest, film
from tests.dicom_files import image, save, uid


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_study_is_refused_by_name(tmp_path, name):
    reason, about, make = WRONG[name]
    folder = tmp_path / "Doe Jane 1234"
    make(folder)
    with pytest.raises(StudyRefused) as caught:
        open_study(folder, about)
    assert caught.value.reason == reason
    told = str(caught.value)
    assert told.startswith(f"refused ({reason}): expected ") and "; came " in told
    assert not any(word in told for word in ("Doe", "1234", "5678", "MUELLER", "2.25", "1.2.826"))
    assert caught.value.__cause__ is caught.value.__context__ is None  # no other words hang on it


def test_forty_wrong_studies_have_twenty_five_names():
    assert len(WRONG) >= 40
    assert len({reason for reason, *_ in WRONG.values()}) >= 20


@pytest.mark.parametrize("name", ["missing slice", "sizes differ"])
def test_words_in_paths_change_no_reason(tmp_path, name):
    reason, about, make = WRONG[name]
    folder = tmp_path / "sideways truncated"
    make(folder)
    for path in folder.iterdir():
        path.rename(path.with_name(f"truncated {path.name}"))
    with pytest.raises(StudyRefused) as caught:
        open_study(folder, about)
    assert caught.value.reason == reason


def test_the_study_that_fits_is_read_as_read_series_reads_it(tmp_path):
    values = chest(tmp_path)
    study = open_study(tmp_path, LUNGS)
    assert torch.equal(study.voxels, read_series(tmp_path).voxels)
    assert np.array_equal(study.voxels.numpy(), values)
    assert study.spacing == (2.5, 0.7, 0.8)
    positions = [float(source.ImagePositionPatient[2]) for source in study.sources]
    assert positions == sorted(positions)
    assert len(study.unverified) == 1 and study.unverified[0].startswith("contrast agent")


def test_what_the_header_does_not_tell_is_told(tmp_path):
    chest(tmp_path, BodyPartExamined="", PatientAge="", BurnedInAnnotation="")
    said = [line.split(":")[0] for line in open_study(tmp_path, LUNGS).unverified]
    assert said == ["body part", "age", "burnt-in text", "contrast agent"]


@pytest.mark.parametrize("word", ["", "NONE", "No"])
def test_no_contrast_agent_has_several_words(tmp_path, word):
    chest(tmp_path, ContrastBolusAgent=word, ContrastBolusAgentSequence=[])
    open_study(tmp_path, LUNGS)


def coded(value: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "x"
    return [item]


@pytest.mark.parametrize(
    "header",
    [
        {"BodyPartExamined": "THORAX"},
        {"BodyPartExamined": "LUNG"},
        {"BodyPartExamined": "", "AnatomicRegionSequence": coded("816094009")},
        {"AnatomicRegionSequence": coded("51185008")},
    ],
    ids=["thorax", "lung", "code", "older code"],
)
def test_a_body_part_has_several_words(tmp_path, header):
    chest(tmp_path, **header)
    assert not [line for line in open_study(tmp_path, LUNGS).unverified if "body part" in line]


def test_code_and_word_that_disagree_are_refused(tmp_path):
    chest(tmp_path, AnatomicRegionSequence=coded("69536005"))
    with pytest.raises(StudyRefused, match="body part"):
        open_study(tmp_path, LUNGS)


@pytest.mark.parametrize(
    ("age", "taken"),
    [
        ("018Y", True),
        ("017Y", False),
        ("090Y", True),
        ("091Y", False),
        ("215M", False),
        ("217M", True),
        ("900D", False),
        ("100W", False),
        ("60", True),
        ("060X", True),
    ],
)
def test_an_age_is_in_years_months_weeks_or_days(tmp_path, age, taken):
    chest(tmp_path, PatientAge=age)
    if taken:
        open_study(tmp_path, LUNGS)
    else:
        with pytest.raises(StudyRefused, match=r"\(age\)"):
            open_study(tmp_path, LUNGS)


def test_the_series_asked_for_is_taken(tmp_path):
    first = chest(tmp_path / "a")
    chest(tmp_path / "b", SeriesInstanceUID=uid("b"), SeriesNumber=4, origin=(0, 0, 99))
    for series, place in ((3, 30), ("3", 30), (uid("series"), 30), (4, 99), (uid("b"), 99)):
        study = open_study(tmp_path, LUNGS, series=series)
        assert study.sources[0].ImagePositionPatient[2] == place
        assert np.array_equal(study.voxels.numpy(), first)
    with pytest.raises(StudyRefused, match=r"\(series\)"):
        open_study(tmp_path, LUNGS, series=7)


def test_of_several_series_the_one_that_fits_is_found(tmp_path):
    chest(tmp_path / "a")
    scout = {"SeriesInstanceUID": uid("b"), "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    chest(tmp_path / "b", **scout, depth=1)
    seg = image(np.zeros((4, 4), np.uint8), Modality="SEG", SeriesInstanceUID=uid("c"))
    save(seg, tmp_path / "c" / "seg.dcm")
    (tmp_path / "notes.txt").write_text("by the way")
    assert len(open_study(tmp_path, LUNGS).voxels) == 6


# --- how a study lies ---


def anatomy() -> torch.Tensor:
    """From feet to head, front to back, right to left; no two voxels alike."""
    return torch.arange(6 * 20 * 20).float().reshape(6, 20, 20) - 1000


ABOUT = deploy.Indications(
    **{
        **{"name": "n", "version": "1", "trained_on": "t", "modality": "CT", "body_part": "CHEST"},
        **{"view": "axial", "window": (0, 4000), "image_types": ("DERIVED\\SECONDARY",)},
    }
)


@pytest.mark.parametrize("flipped", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_the_model_sees_every_patient_from_the_same_side(tmp_path, flipped):
    """Feet first, prone, mirrored: a Volume's direction says how the series lies."""
    plain = anatomy()
    voxels = plain.flip(flipped)
    direction = np.eye(3)[::-1] * [[-1 if k in flipped else 1] for k in range(3)]
    volume = Volume(voxels=voxels, spacing=(2, 1, 1), direction=tuple(map(tuple, direction)))
    write_series(volume, tmp_path, seed=3)
    seen = prepared(open_study(tmp_path, ABOUT), ABOUT)
    assert seen.shape == (6, 1, 20, 20)
    assert torch.allclose(seen[:, 0], window(plain, level=0, width=4000))


def test_an_angle_within_the_tilt_is_taken(tmp_path):
    def turned(degrees: float) -> list[float]:
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return [float(c), float(s), 0.0, float(-s), float(c), 0.0]

    chest(tmp_path / "a", orientation=turned(9.9))
    open_study(tmp_path / "a", LUNGS)
    chest(tmp_path / "b", orientation=turned(10.2))
    with pytest.raises(StudyRefused, match=r"tilt.*10\.2°"):
        open_study(tmp_path / "b", LUNGS)


# --- radiographs ---


def test_large_values_are_bright_whatever_the_file_says(tmp_path):
    values = film(tmp_path / "a" / "a.dcm")
    other = {"PhotometricInterpretation": "MONOCHROME1"}
    film(tmp_path / "b" / "b.dcm", 4095 - values, **other)
    plain, mirrored = (prepared(open_study(tmp_path / n, FILMS), FILMS) for n in "ab")
    assert torch.allclose(plain, mirrored, atol=1e-6)
    assert plain.shape == (1, 1, 24, 24)
    assert plain[0, 0, 4, 4] < plain[0, 0, -5, -5]


def test_a_radiograph_that_tells_no_sides_is_taken_and_told(tmp_path):
    film(tmp_path / "a.dcm", PatientOrientation=None)
    assert [s.split(":")[0] for s in open_study(tmp_path, FILMS).unverified] == ["sides"]
    film(tmp_path / "a.dcm")
    assert open_study(tmp_path, FILMS).unverified == ()


def test_a_picture_is_scaled_to_fit_in(tmp_path):
    """40 × 48 pixels into 24 × 24: 20 rows of picture, and black above and below."""
    values = film(tmp_path / "a.dcm")
    seen = prepared(open_study(tmp_path, FILMS), FILMS)[0, 0]
    grey = normalise(values.astype(np.float32), method="percentile")
    assert (seen[:2] == 0).all() and (seen[-2:] == 0).all() and seen[2:-2, -1].min() > 0.3
    assert abs(seen[12, 12] - grey[20, 24]) < 0.05


@pytest.mark.parametrize(
    "header",
    [
        {"Modality": "CR", "SOPClassUID": ComputedRadiographyImageStorage},
    ],
    ids=["computed radiograph"],
)
def test_another_way_to_say_the_same(tmp_path, header):
    film(tmp_path / "a.dcm", **header)
    open_study(tmp_path / "a.dcm", FILMS)  # a file in place of its folder


def test_of_two_films_of_one_series_the_file_is_given(tmp_path):
    film(tmp_path / "a.dcm")
    film(tmp_path / "b.dcm")
    with pytest.raises(StudyRefused, match="Give the one file in place of the folder"):
        open_study(tmp_path, FILMS)
    assert open_study(tmp_path / "b.dcm", FILMS).sources[0].SOPInstanceUID == uid("b.dcm")


def test_of_two_views_the_one_that_fits_is_found(tmp_path):
    film(tmp_path / "a.dcm")
    film(tmp_path / "b.dcm", ViewPosition="LL", PatientOrientation=["A", "F"])
    assert open_study(tmp_path, FILMS).sources[0].ViewPosition == "PA"


# --- what is said of the model ---


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"modality": "US"}, "modality"),
        ({"body_part": "thorax"}, "body_part"),
        ({"view": "PA"}, "view"),
        ({"name": ""}, "name"),
        ({"spacing": (2, 1)}, "spacing"),
        ({"size": (3, 3, 3)}, "size"),
        ({"pixel_mm": (1.0, 1.0)}, "pixel_mm"),
        ({"pixel_mm": 0}, "pixel_mm"),
        ({"window": (1, 2, 3)}, "window"),
        ({"window": (0, -5)}, "window"),
        ({"image_types": "ORIGINAL\\PRIMARY"}, "image_types"),
        ({"intensities": ((0.5, 0, 1),)}, "intensities"),
        ({"name": "n" * 65}, "name"),
        ({"version": "1\\2"}, "version"),
        ({"trained_on": "t" * 1025}, "trained_on"),
        ({"age": (-1, 3)}, "age"),
    ],
)
def test_indications_that_make_no_sense_are_refused(change, word):
    with pytest.raises(DataError, match=word):
        Indications(**{**vars(LUNGS), **change})


def test_round_a_ct_lies_its_darkest_value(tmp_path):
    values = chest(tmp_path)
    about = Indications(**{**vars(LUNGS), "window": (-1500, 2000), "size": (30, 30)})
    seen = prepared(open_study(tmp_path, about), about)[0, 0]
    darkest = window(torch.tensor(float(values.min())), level=-1500, width=2000)
    assert 0 < darkest < 1 and torch.equal(seen[[0, -1]], darkest.expand(2, 30))


def test_the_range_of_intensities_comes_from_the_training_images():
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.normal(m, 100, (3, 9, 9))).float() for m in (-900, 0, 400)]
    images[0][0, 0, 0] = -5000  # padding
    about = LUNGS.measured(images, margin=10)
    clipped = [image.clamp_min(-1024).numpy() for image in images]
    for q, least, most in about.intensities:
        found = [np.quantile(image, q) for image in clipped]
        assert least == pytest.approx(min(found) - 10) and most == pytest.approx(max(found) + 10)
    assert [q for q, *_ in about.intensities] == [0.05, 0.95]
    grey = FILMS.measured([torch.rand(30, 30) * 77 + 5], margin=0)
    assert [q for q, *_ in grey.intensities] == [0.25, 0.5, 0.75]
    assert [low for _, low, _ in grey.intensities] == pytest.approx([0.25, 0.5, 0.75], abs=0.06)
    with pytest.raises(DataError, match="needs images"):
        LUNGS.measured([], margin=10)
