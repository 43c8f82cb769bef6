"""Oracle: PyTorch for the window; the panel by what it draws."""

import re

import pytest
import torch
from matplotlib.colors import to_hex
from torch.nn.functional import conv2d, pad

from medlab import widgets
from medlab.widgets.explorers import FILL, SPOT
from tests.test_widgets import (
    Elements,
    live,
    move,
    quick,  # noqa: F401
)

pytestmark = pytest.mark.usefixtures("quick")


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
    panel = widgets.moving_window()
    move(panel, {"stride": 1, "position": 16})
    text = panel.lines[1].replace("−", "-").replace("·", "*")
    terms, total = re.search(r"y\[2,2\] = (.*) = (\S+)$", text).groups()
    assert terms.count("*") == 9
    around = SPOT[1:4, 1:4]  # of the output in row 2, column 2, with a padding of 1
    assert eval(terms) == float(total) == (around[:, 2] - around[:, 0]).sum()


def test_an_impossible_setting_gives_a_sentence_and_the_way_back_works():
    panel = widgets.moving_window()
    move(panel, {"stride": 1, "padding": 0, "position": 24})
    panel.controls["dilation"].value, panel.controls["kernel"].value = 3, 4
    assert "spans 10 pixels, and the input with its padding has only 7" in panel.view.value
    assert not Elements(panel.view.value).get("img")
    panel.controls["dilation"].value = 2
    assert panel.controls["position"].max == 0  # 7 − 6 = 1 output
    assert live(panel)[0].startswith(b"\x89PNG")
    panel.controls["kernel"].value = 1
    assert panel.controls["position"].max == 48


def test_the_text_says_what_is_drawn():
    panel = widgets.moving_window()
    panel.controls["position"].value = 5
    assert "at position 5 it fills row 1, column 1 of the 4×4 output" in panel.alt
