"""Oracles: SciPy for the response, PyTorch for sizes and windows; the panels by what they hold."""

import itertools
import re
import time

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d
from torch.nn.functional import conv2d, unfold

from medlab import plotting, widgets
from medlab.errors import DataError
from medlab.widgets.convolution import SPOT, grey_range
from tests.test_widgets import Elements, hounsfield, picture

SETTINGS = list(itertools.product((1, 2, 5, 7, 10), (1, 2, 3, 5), (1, 2, 3), (0, 1, 3), (1, 2, 3)))


@pytest.fixture
def shown(monkeypatch):
    """The static figures that a widget shows, as (figure, alt)."""
    figures = []
    monkeypatch.setattr(plotting, "show", lambda fig, *, alt: figures.append((fig, alt)))
    return figures


def fits(size, kernel, padding, dilation):
    return dilation * (kernel - 1) + 1 <= size + 2 * padding


# --- plain functions --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (1, 1), (9, 8)])
def test_response_is_scipys_correlation_and_no_mathematical_convolution(shape):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(9, 8)), rng.normal(size=shape)
    got = widgets.response(torch.tensor(x), torch.tensor(w))
    np.testing.assert_allclose(got, correlate2d(x, w, mode="valid"), atol=1e-12)
    if shape == (3, 3):
        assert not np.allclose(got, convolve2d(x, w, mode="valid"))


def test_response_to_whole_numbers_does_not_overflow():
    x = np.full((4, 4), 30_000, np.int16)
    assert (widgets.response(x, np.ones((3, 3), np.int16)) == 270_000).all()


def test_output_size_and_positions_are_those_of_pytorch():
    for size, kernel, stride, padding, dilation in SETTINGS:
        if not fits(size, kernel, padding, dilation):
            continue
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        x = 1.0 + torch.arange(size).expand(1, 1, 1, size)  # 0 is padding
        axis = {name: (1 if name != "padding" else 0, value) for name, value in options.items()}
        blocks = unfold(x, (1, kernel), **axis)[0].T.long().numpy()
        assert widgets.output_size(size, kernel, **options) == len(blocks)
        assert conv2d(x, torch.ones(1, 1, 1, kernel), **axis).shape[-1] == len(blocks)
        reads = widgets.window_positions(size, kernel, **options)
        inside = (reads >= 0) & (reads < size)
        np.testing.assert_array_equal(np.where(inside, reads + 1, 0), blocks)


def test_what_does_not_fit_is_refused_in_a_sentence():
    for size, kernel, stride, padding, dilation in SETTINGS:
        if not fits(size, kernel, padding, dilation):
            with pytest.raises(DataError, match=f"has only {size + 2 * padding}. No window fits"):
                widgets.window_positions(size, kernel, stride, padding, dilation)
    for bad in ({"stride": 0}, {"kernel": 0}, {"dilation": -1}, {"padding": -1}, {"size": 0}):
        with pytest.raises(DataError, match=f"{next(iter(bad))} must be a whole number"):
            widgets.output_size(**{"size": 7, "kernel": 3, **bad})
    for value in (1.5, 3.0, float("nan"), float("inf"), "3", None, True):
        with pytest.raises(DataError, match=re.escape(f"whole number, 1 or more; got {value!r}")):
            widgets.output_size(7, 3, stride=value)
    with pytest.raises(DataError, match="spans 5"):
        widgets.response(np.zeros((4, 9)), np.zeros((5, 5)))
    with pytest.raises(DataError, match=r"an image \(H, W\) and a kernel"):
        widgets.response(np.zeros((1, 4, 9)), np.zeros((3, 3)))


def test_grey_is_symmetric_where_weights_cancel_and_follows_the_image_elsewhere():
    values = np.concatenate([np.linspace(-10, 30, 1000), [1e6]])
    black, white = grey_range(values, np.array([[-1, 0, 1]]))
    assert black == -white
    assert 29 < white < 31
    black, white = grey_range(values, np.ones((3, 3)) / 9)
    assert (black, white) == pytest.approx((-9.6, 29.6), abs=0.1)
    assert grey_range(np.zeros((4, 4)), np.zeros((3, 3))) == (-1, 1)
    black, white = grey_range(values, np.array([[0.1, 0.2, -0.3]]))  # a sum of 5.6e-17 in floats
    assert black == -white


@pytest.mark.parametrize("name", widgets.KERNELS)
def test_every_preset_does_what_its_name_says(name):
    weights, divisor = widgets.KERNELS[name]
    w = np.reshape(weights, (3, 3)) / divisor
    edges = name.startswith("Sobel") or name == "Laplacian"
    assert w.sum() == pytest.approx(0 if edges else 1)
    ramp = np.tile(np.arange(8.0), (8, 1))  # rises by 1 from column to column
    along = {"Sobel, vertical edges": 1, "Sobel, horizontal edges": 0, "Laplacian": 0}
    expected = along.get(name, ramp[1:-1, 1:-1] + (name == "shift"))
    np.testing.assert_allclose(widgets.response(ramp, w), np.broadcast_to(expected, (6, 6)))
    if name == "Laplacian":  # of y² + x²: 2 + 2
        np.testing.assert_allclose(widgets.response(ramp**2 + ramp.T**2, w), 4)


# --- draw_kernel ------------------------------------------------------------------------------


def test_draw_kernel_shows_image_and_response_side_by_side(shown):
    image = hounsfield((40, 50)).astype(float)
    panel = widgets.draw_kernel(torch.tensor(image)[None], preset="mean", spacing=(1.0, 0.5))
    pixels, element = picture(panel)
    assert pixels.shape == (38, 96)
    expected = widgets.response(image, np.ones((3, 3)) / 9)
    black, white = np.percentile(expected, [1, 99])
    grey = np.round(255 * np.clip((expected - black) / (white - black), 0, 1))
    assert np.mean(pixels[:, 48:] != grey) < 0.001
    assert "[0.111 0.111 0.111; " in element["alt"]
    assert f"black at {black:.4g} and below" in element["alt"]
    assert "height: 507px" in element["style"]  # 640 · 38/96 · 1.0/0.5


def test_a_weight_changes_the_response_and_leaves_the_preset(shown):
    image = hounsfield((40, 50))
    panel = widgets.draw_kernel(image, preset="identity")
    same, _ = picture(panel)
    assert (same[:, 48:] == same[:, :48]).all()
    panel.controls["w12"].value, panel.controls["w11"].value = 2.0, 0.0
    assert panel.controls["preset"].value == ""
    shifted = widgets.response(image, [[0, 0, 0], [0, 0, 2], [0, 0, 0]])
    assert (shifted == 2.0 * image[1:-1, 2:]).all()
    text = "".join(Elements(panel.view.value).text)
    assert "even tissue of 100 HU gives 200 HU" in text
    panel.controls["w12"].value = 1.0
    assert panel.controls["preset"].value == "shift"


def test_a_preset_fills_in_weights_and_divisor(shown):
    panel = widgets.draw_kernel(hounsfield(), preset="mean", units="a.u.")
    for name, (weights, divisor) in widgets.KERNELS.items():
        panel.controls["preset"].value = name
        now = [panel.controls[f"w{a}{b}"].value for a in range(3) for b in range(3)]
        assert (tuple(now), panel.controls["divisor"].value) == (weights, divisor)
        assert panel.controls["preset"].value == name
        w = np.reshape(weights, (3, 3)) / divisor
        rows = "; ".join(" ".join(f"{v:.3g}" for v in row) for row in w)
        assert f"[{rows}]" in picture(panel)[1]["alt"]
        leaves = f"leaves with {100 * np.sqrt((w**2).sum()):.4g} a.u."
        assert leaves in "".join(Elements(panel.view.value).text)


def test_a_preset_draws_once_and_not_at_each_weight(shown):
    drawn = []
    panel = widgets.draw_kernel(hounsfield(), preset="identity")
    panel.view.observe(drawn.append, "value")
    panel.controls["preset"].value = "mean"
    assert len(drawn) == 1


def test_a_redraw_takes_less_than_a_tenth_of_a_second(shown):
    panel, times = widgets.draw_kernel(hounsfield((256, 256))), []
    for name, value in (("preset", "Laplacian"), ("w00", 3), ("preset", "sharpen"), ("w01", 1)):
        start = time.perf_counter()
        panel.controls[name].value = value
        times.append(time.perf_counter() - start)
    assert max(min(times[::2]), min(times[1::2])) < 0.1


def test_a_kernel_of_noughts_and_a_divisor_of_nought_give_no_error(shown):
    panel = widgets.draw_kernel(hounsfield(), preset="identity")
    panel.controls["divisor"].value = 0
    assert "choose another divisor" in panel.view.value
    panel.controls["divisor"].value = 1
    panel.controls["w11"].value = 0
    assert (picture(panel)[0][:, 48:] == 128).all()


# --- moving_window ----------------------------------------------------------------------------


def cells(panel):
    """Kinds and texts of all cells, in the order in which they are drawn."""
    elements = Elements(panel.view.value)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", panel.view.value)
    return [rect["class"] for rect in elements.get("rect")], texts


def test_the_window_reads_what_pytorch_reads(shown):
    x = torch.tensor(SPOT, dtype=torch.float64)
    panel = widgets.moving_window()
    names = ("kernel", "stride", "padding", "dilation")
    for values in ((3, 1, 0, 1), (2, 3, 1, 2), (4, 2, 3, 3), (1, 1, 0, 1), (3, 2, 1, 3)):
        settings = dict(zip(names, values, strict=True))
        for name, value in settings.items():
            panel.controls[name].value = value
        k = settings["kernel"]
        w = {1: [1], 2: [-1, 1], 3: [-1, 0, 1], 4: [-1, -1, 1, 1]}[k]
        w = torch.tensor(w, dtype=torch.float64).expand(1, 1, k, k)
        y = conv2d(x[None, None], w, **{name: settings[name] for name in names[1:]})[0, 0]
        assert panel.controls["position"].max == y.numel() - 1
        for position in {0, y.numel() // 2, y.numel() - 1}:
            panel.controls["position"].value = position
            kinds, texts = cells(panel)
            n = 7 + 2 * settings["padding"]
            assert len(kinds) == n**2 + y.numel()
            assert kinds.index("filled") == n**2 + position
            filled = [t.replace("−", "-") for t in texts[n**2 :] if t]
            assert [float(t) for t in filled] == y.flatten()[: position + 1].tolist()
            grid = torch.zeros(1, 1, n, n, requires_grad=True)
            step = {name: settings[name] for name in ("stride", "dilation")}
            plain = conv2d(grid, torch.ones(1, 1, k, k), **step).flatten()
            (touched,) = torch.autograd.grad(plain[position], grid)
            assert [kind == "read" for kind in kinds[: n**2]] == touched.flatten().bool().tolist()
            inside = torch.nn.functional.pad(torch.ones(7, 7), [settings["padding"]] * 4).flatten()
            for kind, is_inside in zip(kinds[: n**2], inside.tolist(), strict=True):
                assert kind == "read" or kind == ("plain" if is_inside else "pad")
            text = "".join(Elements(panel.view.value).text).replace("−", "-")
            assert f"= {y.flatten()[position].item():g}" in text
            assert f"⌋ + 1 = {len(y)}" in text


def test_the_sum_that_is_shown_is_the_sum(shown):
    panel = widgets.moving_window(-np.array(SPOT), padding=1, position=16)
    text = "".join(Elements(panel.view.value).text).replace("−", "-").replace("·", "*")
    terms, total = re.search(r"y\[2,2\] = (.*) = (\S+)$", text).groups()
    assert terms.count("*") == 9
    assert eval(terms) == float(total) == -widgets.response(SPOT, [[-1, 0, 1]] * 3)[1, 1]


def test_an_impossible_setting_gives_a_sentence_and_the_way_back_works(shown):
    panel = widgets.moving_window(position=24)
    panel.controls["dilation"].value, panel.controls["kernel"].value = 3, 4
    assert "spans 10 pixels, and the input with its padding has only 7" in panel.view.value
    assert "svg" not in panel.view.value
    assert panel.controls["position"].max == 0
    panel.controls["dilation"].value = 2
    assert panel.controls["position"].max == 0  # 7 − 6 = 1 output
    assert "svg" in panel.view.value
    panel.controls["kernel"].value = 1
    assert panel.controls["position"].max == 48


def test_moving_window_refuses_what_it_cannot_draw(shown):
    with pytest.raises(DataError, match="square"):
        widgets.moving_window(np.zeros((4, 5)))
    with pytest.raises(DataError, match="No window fits"):
        widgets.moving_window(kernel=4, dilation=3)
    with pytest.raises(DataError, match="no preset 'mane'"):
        widgets.draw_kernel(np.zeros((4, 5)), preset="mane")
    assert not shown


def test_static_figures_say_what_they_show(shown):
    widgets.draw_kernel(hounsfield(), preset="Laplacian")
    widgets.moving_window(stride=2, padding=1, position=5)
    assert shown[0][1] == "Left, the image; right, the response to the kernel Laplacian."
    assert "at position 5 it fills row 1, column 1 of the 4×4 output" in shown[1][1]
