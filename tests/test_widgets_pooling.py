"""Oracles: scikit-image's block_reduce, SciPy's convolution, closed forms of shifts and waves."""

import base64
import io
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.measure import block_reduce

from medlab import plotting, widgets
from medlab.errors import DataError

KINDS = ("stride", "max", "average", "blur")


@pytest.fixture
def shown(monkeypatch):
    figures = []
    monkeypatch.setattr(plotting, "show", lambda fig, *, alt: figures.append((fig, alt)))
    return figures


def noise(shape=(24, 36)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def picture(panel):
    (source,) = re.findall(r'src="data:image/png;base64,([^"]+)"', panel.view.value)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_pooled_agrees_with_other_libraries(factor):
    x = noise()
    block = (factor, factor)
    tent = np.convolve(np.ones(factor), np.ones(factor)) / factor**2
    blurred = ndimage.convolve1d(ndimage.convolve1d(x, tent, 0, mode="wrap"), tent, 1, mode="wrap")
    expected = {
        "stride": x[::factor, ::factor],
        "max": block_reduce(x, block, np.max),
        "average": block_reduce(x, block, np.mean),
        "blur": blurred[::factor, ::factor],
    }
    for kind, want in expected.items():
        moved, small = widgets.pooled(x, kind=kind, factor=factor)
        np.testing.assert_array_equal(moved, x)
        np.testing.assert_allclose(small, want, atol=1e-5, err_msg=kind)
        assert small.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_by_the_factor_moves_the_result_by_one_pixel(kind):
    x = noise()
    _, small = widgets.pooled(x, kind=kind, factor=4)
    moved, again = widgets.pooled(torch.tensor(x)[None], kind=kind, factor=4, shift=4)
    np.testing.assert_array_equal(moved[:, 4:], x[:, :-4])  # to the right
    np.testing.assert_allclose(again, np.roll(small, 1, axis=1), atol=1e-6)


def test_a_constant_stays_and_a_fine_wave_is_damped_as_the_formula_says():
    columns, f, s = np.arange(64), 14 / 64, 4
    wave = np.cos(2 * np.pi * f * columns) * np.ones((16, 1))
    box = abs(np.sin(np.pi * f * s) / (s * np.sin(np.pi * f)))
    spread = {kind: widgets.pooled(wave, kind=kind, factor=s)[1].std() for kind in KINDS}
    assert spread["average"] == pytest.approx(box * spread["stride"], rel=1e-4)
    assert spread["blur"] == pytest.approx(box**2 * spread["stride"], rel=1e-4)
    for kind in KINDS:
        small = widgets.pooled(np.full((8, 8), 3.0), kind=kind, factor=4)[1]
        np.testing.assert_allclose(small, 3.0, rtol=1e-6)


def test_largest_of_two_by_two_unless_told_otherwise():
    x = noise()
    np.testing.assert_array_equal(widgets.pooled(x)[1], block_reduce(x, (2, 2), np.max))


def test_refusals(shown):
    with pytest.raises(DataError, match="divisible by the factor 5"):
        widgets.pooled(noise(), factor=5)
    for options in ({"factor": 0}, {"factor": 2.0}, {"shift": 0.5}):
        with pytest.raises(DataError, match="factor must be a whole number, 1 or more"):
            widgets.pooled(noise(), **options)
    with pytest.raises(DataError, match=r"the image is \(0, 0\)"):
        widgets.pooled(np.zeros((0, 0)))
    with pytest.raises(DataError, match="'median'"):
        widgets.pooled(noise(), kind="median", factor=2)
    with pytest.raises(DataError, match="one grey image"):
        widgets.pooling(np.zeros((3, 8, 8)))
    assert not shown


def test_the_panel_shows_a_figure_first_and_follows_its_controls(shown):
    x = noise((32, 48))
    panel, again = widgets.pooling(x), widgets.pooling(x)
    assert [alt for _, alt in shown[:1]] == [alt for _, alt in shown[1:]]
    assert len(shown[0][1]) >= 20
    assert len(plotting.png(shown[0][0])) > 1000
    assert repr(panel) == repr(again)
    assert not re.search(r"0x|\d|children|value", repr(panel))
    assert all(control.description for control in panel.controls.values())
    assert panel.children == (*panel.controls.values(), panel.view)
    low, high = x.min(), x.max()
    for kind, shift in (("stride", 0), ("max", 3), ("blur", 16)):
        panel.controls["kind"].value, panel.controls["shift"].value = kind, shift
        pixels = picture(panel)
        assert pixels.shape == (32, 96)
        moved, small = widgets.pooled(x, kind=kind, factor=8, shift=shift)
        large = np.hstack([moved, np.kron(small, np.ones((8, 8)))])
        want = np.round(255 * np.clip((large - low) / (high - low), 0, 1))
        assert np.abs(pixels - want).max() <= 1
        assert f"moved {shift} pixels to the right" in panel.view.value
        assert f"by {kind} at 1/8" in panel.view.value
        assert "width: 576px; height: 192px" in panel.view.value  # six whole times its pixels


def test_a_redraw_takes_less_than_a_tenth_of_a_second(shown):
    panel, times = widgets.pooling(noise((256, 256)), kind="blur"), []
    for shift in (1, 2, 3):
        start = time.perf_counter()
        panel.controls["shift"].value = shift
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1
