"""Oracles: SciPy for the response, PyTorch for the window; the panels by what they draw."""

import re

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from scipy.ndimage import correlate
from torch.nn.functional import conv2d, pad

from medlab import widgets
from medlab.errors import DataError
from medlab.widgets.explorers import FILL, KERNELS, SPOT, _greys
from tests.test_widgets import (
    Elements,
    drawn,
    hounsfield,
    live,
    move,
    quick,  # noqa: F401
)

pytestmark = pytest.mark.usefixtures("quick")


def response(image, kernel):
    return correlate(np.asarray(image, float), np.asarray(kernel, float))[1:-1, 1:-1]


def test_grey_is_symmetric_where_weights_cancel_and_follows_the_image_elsewhere():
    values = np.concatenate([np.linspace(-10, 30, 1000), [1e6]])
    black, white = _greys(values, np.array([[-1, 0, 1]]))
    assert black == -white
    assert 29 < white < 31
    black, white = _greys(values, np.ones((3, 3)) / 9)
    assert (black, white) == pytest.approx((-9.6, 29.6), abs=0.1)
    assert tuple(_greys(np.zeros((4, 4)), np.zeros((3, 3)))) == (-1, 1)
    black, white = _greys(values, np.array([[0.1, 0.2, -0.3]]))  # a sum of 5.6e-17 in floats
    assert black == -white


@pytest.mark.parametrize("name", KERNELS)
def test_every_preset_does_what_its_name_says(name):
    ramp = np.tile(np.arange(8.0), (8, 1))  # rises by 1 from column to column
    along = {"Sobel, vertical edges": 1, "Sobel, horizontal edges": 0, "Laplacian": 0}
    expected = along.get(name, ramp[1:-1, 1:-1] + (name == "shift"))
    panel = widgets.draw_kernel(ramp, preset=name)
    np.testing.assert_allclose(drawn(panel, 1)[0], np.broadcast_to(expected, (6, 6)))
    edges = name.startswith("Sobel") or name == "Laplacian"
    assert f"Sum of the weights {0 if edges else 1}:" in " ".join(panel.lines)
    if name == "Laplacian":  # of y² + x²: 2 + 2
        panel = widgets.draw_kernel(ramp**2 + ramp.T**2, preset=name)
        np.testing.assert_allclose(drawn(panel, 1)[0], 4)


def test_draw_kernel_shows_image_and_response_side_by_side():
    image = hounsfield((40, 50))
    panel = widgets.draw_kernel(torch.tensor(image)[None], preset="mean", spacing=(1.0, 0.5))
    values, limits = drawn(panel)
    np.testing.assert_array_equal(values, image[1:-1, 1:-1])
    assert limits == pytest.approx(np.percentile(image[1:-1, 1:-1], [1, 99]))
    values, limits = drawn(panel, 1)
    expected = response(image, np.ones((3, 3)) / 9)
    np.testing.assert_allclose(values, expected, atol=1e-9)
    assert limits == pytest.approx(np.percentile(expected, [1, 99]))
    assert f"black at {limits[0]:.4g} and below" in panel.lines[0]
    assert panel.alt == "Left, the image; right, the response to the kernel mean."
    assert panel.figure.axes[1].get_aspect() == 2


def test_whole_numbers_do_not_overflow():
    panel = widgets.draw_kernel(np.full((4, 4), 30_000, np.int16), preset="mean")
    panel.controls["divisor"].value = 1
    assert (drawn(panel, 1)[0] == 270_000).all()


def test_a_weight_changes_the_response_and_leaves_the_preset():
    image = hounsfield((40, 50))
    panel = widgets.draw_kernel(image, preset="identity")
    np.testing.assert_array_equal(drawn(panel)[0], drawn(panel, 1)[0])
    panel.controls["w12"].value, panel.controls["w11"].value = 2.0, 0.0
    assert panel.controls["preset"].value == ""
    np.testing.assert_array_equal(drawn(panel, 1)[0], 2.0 * image[1:-1, 2:])
    assert "even tissue of 100 gives 200" in " ".join(live(panel)[2])
    assert panel.figure.axes[1].get_title() == "response: your own"
    panel.controls["w12"].value = 1.0
    assert panel.controls["preset"].value == "shift"


def test_a_preset_fills_in_weights_and_divisor_and_draws_once():
    panel, redraws = widgets.draw_kernel(hounsfield(), preset="mean"), []
    panel.view.observe(redraws.append, "value")
    for count, (name, numbers) in enumerate(list(KERNELS.items())[2:]):
        panel.controls["preset"].value = name
        now = [c.value for key, c in panel.controls.items() if key != "preset"]
        assert now == numbers
        assert panel.controls["preset"].value == name
        root = np.sqrt(np.square(np.array(numbers[:9]) / numbers[9]).sum())
        assert f"leaves with {100 * root:.4g}" in " ".join(panel.lines)
        assert len(redraws) == count + 1


def test_a_kernel_of_noughts_and_a_divisor_of_nought_give_no_error():
    panel = widgets.draw_kernel(hounsfield(), preset="identity")
    panel.controls["divisor"].value = 0
    assert "choose another divisor" in panel.view.value
    assert not Elements(panel.view.value).get("img")
    panel.controls["divisor"].value = 1
    panel.controls["w11"].value = 0
    assert (drawn(panel, 1)[0] == 0).all()
    assert live(panel)[0].startswith(b"\x89PNG")


# --- moving_window ----------------------------------------------------------------------------


def cells(panel):
    """Kinds of the cells of input and output, and the output's numbers."""
    ax = panel.figure.axes[0]
    kinds = {colour: kind for kind, colour in FILL.items()}
    found = []
    for mesh in ax.collections:
        colours = mesh.to_rgba(mesh.get_array())
        found.append([kinds[to_hex(c)] for c in colours.reshape(-1, 4)])
    n = round(len(found[0]) ** 0.5)
    texts = [t for t in ax.texts if t.get_position()[1] > 0 and t.get_position()[0] > n]
    return *found, [float(t.get_text().replace("−", "-")) for t in texts]


def test_the_window_reads_what_pytorch_reads():
    x = torch.tensor(SPOT)
    panel = widgets.moving_window()
    names = ("kernel", "stride", "padding", "dilation")
    for values in ((3, 1, 0, 1), (2, 3, 1, 2), (4, 2, 3, 3), (1, 1, 0, 1), (3, 2, 1, 3)):
        settings = dict(zip(names, values, strict=True))
        move(panel, settings)
        k = settings["kernel"]
        w = {1: [1], 2: [-1, 1], 3: [-1, 0, 1], 4: [-1, -1, 1, 1]}[k]
        w = torch.tensor(w, dtype=torch.float64).expand(1, 1, k, k)
        y = conv2d(x[None, None], w, **{name: settings[name] for name in names[1:]})[0, 0]
        assert panel.controls["position"].max == y.numel() - 1
        for position in {0, y.numel() // 2, y.numel() - 1}:
            panel.controls["position"].value = position
            given, filled, numbers = cells(panel)
            n = 7 + 2 * settings["padding"]
            assert (len(given), len(filled)) == (n**2, y.numel())
            assert [at for at, kind in enumerate(filled) if kind == "filled"] == [position]
            assert numbers == y.flatten()[: position + 1].tolist()
            grid = torch.zeros(1, 1, n, n, requires_grad=True)
            step = {name: settings[name] for name in ("stride", "dilation")}
            plain = conv2d(grid, torch.ones(1, 1, k, k), **step).flatten()
            (touched,) = torch.autograd.grad(plain[position], grid)
            assert [kind == "read" for kind in given] == touched.flatten().bool().tolist()
            inside = pad(torch.ones(7, 7), [settings["padding"]] * 4).flatten()
            for kind, is_inside in zip(given, inside.tolist(), strict=True):
                assert kind == "read" or kind == ("plain" if is_inside else "pad")
            text = "".join(live(panel)[2]).replace("−", "-")
            assert f"= {y.flatten()[position].item():g}" in text
            assert f"⌋ + 1 = {len(y)}" in text


def test_the_sum_that_is_shown_is_the_sum():
    panel = widgets.moving_window(padding=1, position=16)
    text = panel.lines[1].replace("−", "-").replace("·", "*")
    terms, total = re.search(r"y\[2,2\] = (.*) = (\S+)$", text).groups()
    assert terms.count("*") == 9
    assert eval(terms) == float(total) == response(SPOT, [[-1, 0, 1]] * 3)[1, 1]


def test_an_impossible_setting_gives_a_sentence_and_the_way_back_works():
    panel = widgets.moving_window(position=24)
    panel.controls["dilation"].value, panel.controls["kernel"].value = 3, 4
    assert "spans 10 pixels, and the input with its padding has only 7" in panel.view.value
    assert not Elements(panel.view.value).get("img")
    panel.controls["dilation"].value = 2
    assert panel.controls["position"].max == 0  # 7 − 6 = 1 output
    assert live(panel)[0].startswith(b"\x89PNG")
    panel.controls["kernel"].value = 1
    assert panel.controls["position"].max == 48


def test_the_text_says_what_is_drawn():
    panel = widgets.moving_window(stride=2, padding=1, position=5)
    assert "at position 5 it fills row 1, column 1 of the 4×4 output" in panel.alt


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: widgets.moving_window(kernel=4, dilation=3), "No window fits"),
        (lambda: widgets.moving_window(kernel=5), "kernel k must .* from 1 to 4; got 5"),
        (lambda: widgets.moving_window(stride=1.5), r"stride s must be a whole .* got 1\.5"),
        (lambda: widgets.moving_window(padding=-1), "padding p must .* from 0 to 3; got -1"),
        (lambda: widgets.moving_window(position=25), "position must .* from 0 to 24; got 25"),
        (lambda: widgets.draw_kernel(np.zeros((4, 5)), preset="mane"), "sharpen, shift; got 'mane"),
        (lambda: widgets.draw_kernel(np.zeros((3, 4, 5))), "one grey image"),
    ],
)
def test_refusals(call, told):
    with pytest.raises(DataError, match=told):
        call()
