"""Oracles: the plain functions by closed forms; the panels by the pictures that they hold."""

import base64
import io
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from medlab import plotting, widgets
from medlab.errors import DataError
from medlab.widgets.panel import grey


@pytest.fixture
def shown(monkeypatch):
    """The static figures that a widget shows, as (figure, alt)."""
    figures = []
    monkeypatch.setattr(plotting, "show", lambda fig, *, alt: figures.append((fig, alt)))
    return figures


def hounsfield(shape=(40, 50)):
    return np.random.default_rng(0).integers(-1000, 1500, shape).astype(np.int16)


def scored(n=200):
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 0.3).astype(int)
    return labels, 1 / (1 + np.exp(-rng.normal(size=n) - 2 * labels + 1))


class Elements(HTMLParser):
    """Tags with attributes, and all text, of a piece of HTML that must be well formed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def get(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def picture(panel):
    (image,) = Elements(panel.view.value).get("img")
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data))), image


# --- plain functions --------------------------------------------------------------------------


def test_window_image_spreads_the_window_over_the_greys():
    x = np.array([[-1000.0, -160.5, 39.5, 238.5, 3000.0]])
    assert widgets.window_image(x, 40, 400).tolist() == [[0, 0, 128, 255, 255]]
    assert widgets.window_image(x, 40, 400).dtype == np.uint8
    with pytest.raises(DataError, match="uint8"):
        widgets.window_image(np.zeros((2, 2), np.uint8), 40, 400)


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (1, 9)])
def test_all_of_kspace_is_the_image_and_none_of_it_the_mean(shape):
    image = np.random.default_rng(0).random(shape)
    spectrum, back = widgets.keep_kspace(image, 1)
    np.testing.assert_allclose(back, image, atol=1e-12)
    assert spectrum[shape[0] // 2, shape[1] // 2].real == pytest.approx(image.sum())
    np.testing.assert_allclose(widgets.keep_kspace(image, 0)[1], image.mean(), atol=1e-12)
    spectrum, rest = widgets.keep_kspace(image, 0, "edge")
    np.testing.assert_allclose(rest, np.abs(image - image.mean()), atol=1e-12)
    assert spectrum[shape[0] // 2, shape[1] // 2] == 0


def test_a_wave_survives_inside_the_kept_part_and_vanishes_outside():
    x = np.arange(64)
    for cycles in (4, 12):  # the kept third of 64 columns holds up to 10 cycles
        wave = 2 + np.cos(2 * np.pi * cycles * x / 64) * np.ones((64, 1))
        expected = wave if cycles < 10 else np.full((64, 64), 2.0)
        np.testing.assert_allclose(widgets.keep_kspace(wave, 1 / 3)[1], expected, atol=1e-9)
        tall = widgets.keep_kspace(wave.T, 1 / 3)[1]
        np.testing.assert_allclose(tall, expected.T, atol=1e-9)


def test_kept_and_dropped_energy_add_up():
    image = np.random.default_rng(1).random((20, 30))
    parts = [widgets.keep_kspace(image, 0.4, part)[0] for part in ("centre", "edge")]
    energy = sum((np.abs(p) ** 2).sum() for p in parts) / image.size
    assert energy == pytest.approx((image**2).sum())


@pytest.mark.filterwarnings("error")
def test_an_even_picture_is_black():
    assert not grey(np.full((2, 3), 7.0), 7, 7).any()


def test_readout_counts_and_moves_with_prevalence():
    labels, scores = scored()
    now = widgets.readout(labels, scores, threshold=0.4, prevalence=0.01)
    tn, fp, fn, tp = confusion_matrix(labels, scores >= 0.4).ravel()
    assert (now.counts.tp, now.counts.fp, now.counts.tn, now.counts.fn) == (tp, fp, tn, fn)
    found, alarms = tp / (tp + fn) * 0.01, fp / (fp + tn) * 0.99
    assert now.ppv == pytest.approx(found / (found + alarms))
    own = widgets.readout(labels, scores, threshold=0.4)
    assert own.prevalence == pytest.approx(labels.mean())
    assert own.ratios()["ppv"] == pytest.approx(tp / (tp + fp))
    assert list(own.ratios()) == ["sensitivity", "specificity", "ppv", "npv"]


def test_slice_image_cuts_across_the_axis():
    volume = np.arange(24).reshape(2, 3, 4)
    assert (widgets.slice_image(volume, 1, 2) == volume[:, :, 1]).all()
    assert (widgets.slice_image(torch.tensor(volume), 0) == volume[0]).all()
    for index in (-1, 2):
        with pytest.raises(DataError, match=f"from 0 to 1 here, got {index}"):
            widgets.slice_image(volume, index)


def test_refusals(shown):
    image = np.ones((8, 8))
    with pytest.raises(DataError, match="goes down to -1000"):
        widgets.keep_kspace(image * -1000, 0.5)
    with pytest.raises(DataError, match="goes down to nan"):
        widgets.keep_kspace(image * np.nan, 0.5)
    with pytest.raises(DataError, match=r"got 1\.5 and 'centre'"):
        widgets.keep_kspace(image, 1.5)
    with pytest.raises(DataError, match="'middle'"):
        widgets.keep_kspace(image, 0.5, "middle")
    with pytest.raises(DataError, match="one grey image"):
        widgets.window_level(np.zeros((3, 8, 8)))
    with pytest.raises(DataError, match="uint8"):
        widgets.window_level(np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match="needs a volume"):
        widgets.slices(image)
    with pytest.raises(DataError, match="from 0 to 2 here, got 5"):
        widgets.slices(np.zeros((3, 4, 4)), index=5)
    with pytest.raises(DataError, match="one label and one score"):
        widgets.threshold([0, 1], [0.1])
    assert not shown


# --- panels -----------------------------------------------------------------------------------


def panels():
    labels, scores = scored()
    return [
        widgets.window_level(hounsfield()),
        widgets.threshold(labels, scores, miss_cost=5),
        widgets.kspace(np.abs(hounsfield()).astype(float)),
        widgets.slices(hounsfield((7, 9, 11))),
        widgets.draw_kernel(hounsfield()),
        widgets.moving_window(),
        widgets.pooling(hounsfield((40, 48)), factor=8),
        widgets.descent(),
    ]


def test_every_panel_shows_a_figure_first_and_keeps_a_stable_text(shown):
    first, second = panels(), panels()
    assert len(shown) == 2 * len(first)
    half = len(first)
    for (fig, alt), (_, again) in zip(shown[:half], shown[half:], strict=True):
        assert alt == again
        assert len(alt) >= 20  # shorter ones `plotting.show` refuses
        assert len(plotting.png(fig)) > 1000
    for a, b in zip(first, second, strict=True):
        text = repr(a)
        assert text == repr(b)
        assert not re.search(r"0x|\d|children|value", text)
        assert len(text) <= 110  # ipywidgets cuts longer ones
        data = a._repr_mimebundle_() if hasattr(a, "_repr_mimebundle_") else {"text/plain": text}
        assert data["text/plain"] == text


def test_every_control_has_a_label_and_every_picture_a_text(shown):
    for panel in panels():
        assert all(control.description for control in panel.controls.values())
        assert panel.children == (*panel.controls.values(), panel.view)
        elements = Elements(panel.view.value)
        texts = [a["alt"] for a in elements.get("img")]
        texts += [a["aria-label"] for a in elements.get("svg") if a["role"] == "img"]
        assert len(texts) == 1
        assert len(texts[0]) > 10


def test_window_level_follows_its_sliders(shown):
    image = hounsfield()
    panel = widgets.window_level(torch.tensor(image)[None], spacing=(1.0, 0.5))
    pixels, element = picture(panel)
    assert (pixels == widgets.window_image(image, 40, 400)).all()
    assert "level 40 HU, width 400 HU" in element["alt"]
    assert "height: 614px" in element["style"]  # 384 · 40/50 · 1.0/0.5
    panel.controls["level"].value, panel.controls["width"].value = -300, 900
    pixels, element = picture(panel)
    assert (pixels == widgets.window_image(image, -300, 900)).all()
    assert "level -300 HU, width 900 HU: black at -750 and below, white at 149" in element["alt"]


def test_presets_and_sliders_move_together(shown):
    panel = widgets.window_level(hounsfield())
    level, width, preset = (panel.controls[k] for k in ("level", "width", "preset"))
    assert preset.value == "soft tissue"
    preset.value = "lung"
    assert (level.value, width.value, preset.value) == (-600, 1500, "lung")
    assert (picture(panel)[0] == widgets.window_image(hounsfield(), -600, 1500)).all()
    level.value = -500
    assert preset.value == ""
    assert width.value == 1500
    level.value = -600
    assert preset.value == "lung"
    preset.value = ""
    assert (level.value, width.value) == (-600, 1500)
    preset.value = "soft tissue"
    width.value = 80  # the brain shares its level
    assert preset.value == "brain"
    plain = widgets.window_level(hounsfield() / 100, level=1, width=3, presets={}, units="a.u.")
    assert set(plain.controls) == {"level", "width"}
    assert plain.controls["width"].min == 1


def test_every_preset_is_within_reach_of_the_sliders(shown):
    panel = widgets.window_level(np.full((8, 8), 30.0))
    for name, (level, width) in widgets.PRESETS.items():
        panel.controls["preset"].value = name
        assert (panel.controls["level"].value, panel.controls["width"].value) == (level, width)


def test_threshold_follows_its_sliders(shown):
    labels, scores = scored()
    panel = widgets.threshold(labels, scores, names=("well", "<ill>"))
    assert panel.controls["prevalence"].value == pytest.approx(labels.mean(), abs=5e-4)
    for cut, prevalence in [(0.5, 0.05), (0.25, 0.6)]:
        panel.controls["threshold"].value = cut
        panel.controls["prevalence"].value = prevalence
        elements = Elements(panel.view.value)
        text = " ".join(elements.text)
        now = widgets.readout(labels, scores, threshold=cut, prevalence=prevalence)
        for value in now.ratios().values():
            assert f"{value:.3f}" in text
        assert f"{now.counts.tp} of {labels.sum()}" in text
        assert f"{now.counts.tn} of {(1 - labels).sum()}" in text
        assert f"prevalence of {prevalence:.1%}" in text
        assert "<ill>" in text  # shown as text, never as a tag
        rects = elements.get("rect")
        assert len(rects) == 60
        heights = np.array([float(r["height"]) for r in rects])
        counts = np.concatenate([np.histogram(scores[labels == k], 30, (0, 1))[0] for k in (0, 1)])
        np.testing.assert_allclose(heights, 120 * counts / counts.max(), atol=0.1)
        assert elements.get("line")[1]["x1"] == str(480 * cut)
    panel.controls["threshold"].value = 1.0
    assert "undefined" in panel.view.value  # nobody is called positive: there is no PPV


def test_scores_that_are_no_probabilities_get_their_own_range(shown):
    labels, scores = scored()
    panel = widgets.threshold(labels, 10 * scores - 5, threshold=0.0)
    slider = panel.controls["threshold"]
    assert (slider.min, slider.max) == (min(10 * scores - 5), max(10 * scores - 5))
    slider = widgets.threshold(labels, 3 * scores, threshold=1.0).controls["threshold"]
    assert (slider.min, slider.max) == (min(3 * scores), max(3 * scores))


def test_default_texts_hold_no_figure_that_a_processor_could_change(shown):
    labels, scores = scored()
    widgets.threshold(labels, scores)
    widgets.threshold(labels, np.clip(scores * 0.9, 0, 1))
    assert shown[0][1] == shown[1][1]


def test_kspace_follows_its_controls(shown):
    image = np.abs(hounsfield()).astype(float)
    panel = widgets.kspace(image)
    panel.controls["fraction"].value = 0.5
    _, centre = widgets.keep_kspace(image, 0.5)
    pixels, element = picture(panel)
    assert pixels.shape == (40, 100)
    expected = np.round(255 * np.clip(centre / image.max(), 0, 1))
    np.testing.assert_array_equal(pixels[:, 50:], expected)
    assert (pixels[0, :50] == 0).all()
    assert pixels[20, 25] == 255
    assert "50%" in element["alt"]
    panel.controls["part"].value = "edge"
    pixels, element = picture(panel)
    assert pixels[20, 25] == 0
    assert pixels[:, 50:].max() == 255
    assert "the edge of k-space" in element["alt"]


def test_slices_follow_the_slider_on_one_grey_scale(shown):
    volume = np.arange(4 * 5 * 6, dtype=float).reshape(4, 5, 6)
    panel = widgets.slices(torch.tensor(volume)[None], axis=1, spacing=(3.0, 1.0, 1.0))
    slider = panel.controls["index"]
    assert (slider.min, slider.max, slider.value) == (0, 4, 2)
    for index in (0, 4):
        slider.value = index
        pixels, element = picture(panel)
        np.testing.assert_array_equal(pixels, np.round(255 * volume[:, index] / 119))
        assert element["alt"].startswith(f"Slice {index} of 0 to 4,")
        assert "height: 768px" in element["style"]  # 384 · 4/6 · 3
    constant = widgets.slices(np.ones((2, 3, 3)))
    assert (picture(constant)[0] == 0).all()


def test_a_redraw_takes_less_than_a_tenth_of_a_second(shown):
    labels, scores = scored(2000)
    many = [
        (widgets.window_level(hounsfield((512, 512))), "level"),
        (widgets.threshold(labels, scores), "threshold"),
        (widgets.kspace(np.abs(hounsfield((256, 256)))), "fraction"),
        (widgets.slices(hounsfield((20, 256, 256))), "index"),
        (widgets.moving_window(kernel=1, padding=3), "position"),
    ]
    for panel, name in many:
        control, times = panel.controls[name], []
        for step in (1, 2, 3):
            start = time.perf_counter()
            control.value = type(control.value)(
                control.min + step * (control.max - control.min) / 4
            )
            times.append(time.perf_counter() - start)
        assert min(times) < 0.1, panel
