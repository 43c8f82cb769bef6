"""Text burnt into pictures: found and refused, or blanked and looked at again; and what is shown.

Most tests put a stand-in in the finder's place, which sees text wherever a picture is white.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from scipy.ndimage import find_objects, label

import medlab.dicom._text
from medlab.dicom import deidentify
from medlab.dicom._text import text_areas
from medlab.errors import DicomError
from tests import deid_corpus
from tests.dicom_files import image

AREA = "rows 5-13 columns 9-23"  # of `captured`, with a rim round it


class StandIn:
    """A finder that sees `words` in every white area of at least six pixels."""

    def __init__(self, words: str = "DOE^JANE"):
        self.words, self.shown = words, []

    def __call__(self, picture: np.ndarray) -> SimpleNamespace:
        assert picture.dtype == np.uint8
        assert picture.shape[2:] == (3,)
        self.shown.append(picture)
        areas = find_objects(label(picture.min(-1) == 255)[0])
        corners = [
            np.array([[c.start, r.start], [c.stop - 1, r.start],
                      [c.stop - 1, r.stop - 1], [c.start, r.stop - 1]], float)
            for r, c in areas
            if (r.stop - r.start) * (c.stop - c.start) > 5
        ]  # fmt: skip
        found = bool(corners)
        return SimpleNamespace(
            boxes=np.array(corners) if found else None,
            txts=(self.words,) * len(corners) if found else None,
        )


@pytest.fixture
def finder(monkeypatch):
    """Put a stand-in in the finder's place."""
    finder = StandIn()
    monkeypatch.setattr(medlab.dicom._text, "_finder", lambda: finder)
    return finder


def captured(kind=np.uint8, *, frames: int = 1, text: bool = True, **header):
    """A grey picture with a white bar, in its last frame, for text."""
    rng = np.random.default_rng(0)
    values = rng.integers(20, 90, (frames, 24, 32)).astype(kind)
    if text:
        values[-1, 5:11, 9:21] = 100
    header = {"Modality": "US", **header}
    return image(values if frames > 1 else values[0], **header)


# ---------------------------------------------------------------- refused or blanked


def test_text_is_refused_with_its_place_and_without_its_words(finder):
    with pytest.raises(DicomError) as told:
        deidentify(captured(), key="k")
    assert "header: text burnt into the pixels, 1 place(s)" in str(told.value)
    assert AREA in str(told.value)
    assert "burned_in" in str(told.value)
    assert "DOE" not in str(told.value)


@pytest.mark.parametrize(
    "header",
    [{"Modality": "CR"}, {"Modality": "DX"}, {"Modality": "XA"}, {"Modality": "RF"},
     {"Modality": "MG"}, {"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY"]},
     {"Modality": "CT", "ConversionType": "WSD"}, {"Modality": None},
     {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
     {"BurnedInAnnotation": ""}, {"BurnedInAnnotation": "UNKNOWN"}],
)  # fmt: skip
def test_pictures_at_risk_are_looked_at_and_clean_ones_come_with_a_warning(finder, header):
    with pytest.raises(DicomError, match=AREA):
        deidentify(captured(**header), key="k")
    with pytest.warns(UserWarning, match="look at the pixels: .*; none was found") as told:
        clean = deidentify(captured(text=False, **header), key="k")
    assert told[0].filename == __file__
    assert clean.get("BurnedInAnnotation") == captured(**header).get("BurnedInAnnotation")
    assert len(clean.DeidentificationMethodCodeSequence) == 1


@pytest.mark.parametrize(
    "header",
    [{"Modality": "CT"}, {"Modality": "MR"}, {"Modality": "PT"}, {"BurnedInAnnotation": "NO"}],
)
def test_what_is_not_at_risk_is_only_looked_at_when_asked(finder, header):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert deidentify(captured(**header), key="k").PixelData == captured().PixelData
        assert finder.shown == []
    with pytest.warns(UserWarning, match="1 place.s. blanked"):
        clean = deidentify(captured(**header), key="k", burned_in="blank")
    assert f"blanked: {AREA}" in clean.DeidentificationMethod
    assert clean.BurnedInAnnotation == "YES"


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("frames", [1, 3])
def test_blanking_makes_the_places_uniform_in_all_frames_and_says_so(finder, kind, frames):
    data = captured(kind, frames=frames, BurnedInAnnotation="YES")
    before = deid_corpus.written(data)
    with pytest.warns(UserWarning, match="1 place.s. blanked, and small or faint text is missed"):
        clean = deidentify(data, key="k", burned_in="blank")
    old, new = (one.pixel_array.reshape(frames, 24, 32) for one in (data, clean))
    blanked = np.zeros((24, 32), bool)
    blanked[4:13, 8:23] = True
    assert (new[:, blanked] == old.min()).all()
    assert np.array_equal(new[:, ~blanked], old[:, ~blanked])
    assert deid_corpus.written(data) == before  # the original is untouched
    back = pydicom.dcmread(BytesIO(deid_corpus.written(clean)))
    assert back.BurnedInAnnotation == "YES", "a finder that may miss text certifies nothing"
    assert back.DeidentificationMethod == ["DICOM PS3.15 E basic profile, medlab",
                                           f"blanked: {AREA}"]  # fmt: skip
    assert [one.CodeValue for one in back.DeidentificationMethodCodeSequence] == ["113100"]


def test_nothing_to_blank_is_told_too(finder):
    with pytest.warns(UserWarning, match="none was found"):
        clean = deidentify(captured(text=False), key="k", burned_in="blank")
    assert clean.PixelData == captured(text=False).PixelData
    assert "BurnedInAnnotation" not in clean
    assert clean.DeidentificationMethod == "DICOM PS3.15 E basic profile, medlab"
    assert len(clean.DeidentificationMethodCodeSequence) == 1


def test_what_the_header_says_is_not_refuted_by_a_finder_that_sees_nothing(finder):
    says = {"BurnedInAnnotation": "YES"}
    with pytest.raises(DicomError, match="as the header says, and was not found: blank it by hand"):
        deidentify(captured(text=False, **says), key="k", burned_in="blank")
    with pytest.warns(UserWarning, match="as the header says; 1 place.s. blanked"):
        assert deidentify(captured(**says), key="k", burned_in="blank").BurnedInAnnotation == "YES"
    with pytest.raises(DicomError, match="set BurnedInAnnotation to NO"):
        deidentify(captured(**says), key="k")
    with pytest.raises(DicomError, match="set BurnedInAnnotation to NO"):
        deidentify(captured(SpecimenLabelInImage="YES"), key="k", burned_in="blank")


def test_what_is_still_found_after_blanking_is_refused(monkeypatch):
    class Stubborn(StandIn):
        def __call__(self, picture):
            seen = super().__call__(picture)
            seen.boxes, seen.txts = np.array([[[2, 2], [9, 2], [9, 4], [2, 4.0]]]), ("DOE",)
            return seen

    monkeypatch.setattr(medlab.dicom._text, "_finder", Stubborn)
    with pytest.raises(DicomError, match="columns .*: blank it by hand"):
        deidentify(captured(), key="k", burned_in="blank")


def test_pixels_that_cannot_be_written_are_not_blanked(finder):
    data = captured(np.float32, BitsAllocated=32, BitsStored=None, HighBit=None)
    data.FloatPixelData = data.PixelData
    del data.PixelData, data.PixelRepresentation
    with pytest.raises(DicomError, match="blank it by hand"):
        deidentify(data, key="k", burned_in="blank")


def test_without_a_finder_pictures_at_risk_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    medlab.dicom._text._finder.cache_clear()
    for data, option in ((captured(), "refuse"), (captured(Modality="CT"), "blank")):
        with pytest.raises(DicomError, match="header: .*pip install rapidocr"):
            deidentify(data, key="k", burned_in=option)
    deidentify(captured(Modality="CT"), key="k")
    with pytest.raises(DicomError, match="'black'"):
        deidentify(captured(), key="k", burned_in="black")


# ---------------------------------------------------------------- what counts and what is shown


@pytest.mark.parametrize(
    ("words", "is_text"),
    [("L", 0), ("R", 0), ("R.", 0), ("1", 0), ("25", 0), ("1 0", 0), ("—", 0), ("", 0), ("...", 0),
     ("王东", 1), ("DOE", 1), ("J.D.", 1), ("1970", 1), ("1-2-3", 1), ("Ж Д", 1), ("A12", 1)],
)  # fmt: skip
def test_one_letter_or_two_digits_are_no_text(finder, words, is_text):
    finder.words = words
    assert len(text_areas(captured().pixel_array[None], "a.dcm")) == is_text


def test_areas_keep_within_the_picture_and_join_where_they_touch(finder):
    values = np.full((2, 20, 30), 9.0)
    values[0, :4, :6] = values[1, 2:6, 3:9] = values[0, 16:, 24:] = 200
    (first, second) = text_areas(values, "a.dcm")
    assert first == (slice(0, 8), slice(0, 11))
    assert second == (slice(15, 20), slice(23, 30))


def bar(picture: np.ndarray) -> float:
    """By how many of 255 grey levels the bar of `captured` differs from the picture round it."""
    ink = np.zeros(picture.shape[:2], bool)
    ink[5:11, 9:21] = True
    return abs(picture[ink].mean() - picture[~ink].mean())


def test_a_hot_pixel_and_a_wide_range_hide_no_text(finder):
    """Text 40 HU over soft tissue, and one detector element that shouts."""
    values = np.random.default_rng(0).normal(40, 10, (1, 64, 64)).round().astype(np.int16)
    values[0, 5:11, 9:21] += 40
    values[0, 40, 40] = 32_767
    text_areas(values, "a.dcm")
    assert len(finder.shown) == 3
    contrasts = sorted(bar(picture) for picture in finder.shown)
    assert contrasts[0] < 2, "the full range alone would show nothing"
    assert contrasts[1] > 60
    values[0, 40, 40] = 40
    values[0, :32] -= 1000  # air, as dark as text on it: only equal shares show both
    values[0, 5:11, 9:21] = -940
    finder.shown.clear()
    text_areas(values, "a.dcm")
    assert max(bar(picture[:32]) for picture in finder.shown) > 60


def test_colours_stay_colours_and_a_flat_frame_is_not_shown(finder):
    values = np.zeros((2, 16, 16, 3), np.uint8)
    values[1, 4:8, 4:8] = 200, 200, 0
    text_areas(values, "a.dcm")
    assert len(finder.shown) >= 2
    for picture in finder.shown:
        assert picture[5, 5, 0] == picture[5, 5, 1] == 255
        assert picture[5, 5, 2] == 0
    finder.shown.clear()
    text_areas(np.full((1, 4, 4), np.nan, np.float32), "a.dcm")
    assert finder.shown == []
    values = captured().pixel_array[None].astype(np.float32)
    values[0, 0, 0] = np.nan  # nothing was computed there
    assert len(text_areas(values, "a.dcm")) == 1


# ---------------------------------------------------------------- the finder itself


def test_a_real_ultrasound_image_is_refused_and_can_be_blanked():
    """The hospital's name stands in it, as notebook 01 shows."""
    pytest.importorskip("rapidocr")
    source = get_testdata_file("examples_rgb_color.dcm", download=False)
    with pytest.raises(DicomError, match=r"text burnt into the pixels, [6-9] place") as told:
        deidentify(source, key="k")
    assert not set("HOSPITAL").issubset(str(told.value).split("pixels")[1])
    old, new = pydicom.dcmread(source), deidentify(source, key="k", burned_in="blank")
    changed = (old.pixel_array != new.pixel_array).any(-1).mean()
    assert 0.02 < changed < 0.2, "the text and little else"
    assert not text_areas(new.pixel_array[None], "a.dcm")


def test_no_text_is_seen_in_a_radiograph_with_a_side_marker():
    pytest.importorskip("rapidocr")
    from medlab import simulate

    values = simulate.chest_xray(1, seed=1, size=256).images.numpy()[:, 0]
    assert text_areas(values, "a.dcm") == []


# The whole of it is for `make robustness`: it takes three minutes.
FULL = os.environ.get("MEDLAB_ROBUSTNESS") == "full"


@pytest.mark.filterwarnings("ignore:.*look at the pixels")
def test_burnt_in_names_of_the_corpus_are_refused_or_blanked():
    pytest.importorskip("rapidocr")
    missed = []
    for file in deid_corpus.captures(40 if FULL else 8):
        before = deid_corpus.written(file.data)
        assert deid_corpus.still_drawn(file, before)
        for option in ("refuse", "blank") if FULL else ("refuse", "blank")[file.number % 2 :][:1]:
            data, clean = pydicom.dcmread(BytesIO(before)), None
            with suppress(DicomError):
                clean = deidentify(data, key="k", burned_in=option)
            assert (clean is None) == (option == "refuse")
            if clean is not None and deid_corpus.still_drawn(file, deid_corpus.written(clean)):
                missed.append(file.number)
    assert missed == []
