import io

import numpy as np
import pytest
import torch
from PIL import Image

from medlab import plotting
from medlab.errors import DataError


def pixels(fig):
    return np.asarray(Image.open(io.BytesIO(plotting.png(fig))).convert("L"))


def test_show_stores_the_alt_text_beside_the_picture(monkeypatch):
    stored = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: stored.append((a, k)))
    fig = plotting.curve(np.arange(3), {"a": np.arange(3)}, x="x", y="y")
    plotting.show(fig, alt="A straight line from zero to two.")
    ((data,), options) = stored[0]
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"] == "<Figure: A straight line from zero to two.>"
    assert options["metadata"]["image/png"]["alt"] == "A straight line from zero to two."
    with pytest.raises(DataError, match="what a reader sees"):
        plotting.show(fig, alt="plot")


def test_one_comparison_shares_one_grey_scale():
    dark, bright = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    half = torch.full((1, 8, 8), 0.5)
    fig = plotting.images(torch.stack([dark, half, bright]))
    limits = {ax.images[0].get_clim() for ax in fig.axes}
    assert limits == {(0.0, 1.0)}
    own = plotting.images(torch.stack([dark, half]), limits="own")
    assert [ax.images[0].get_clim() for ax in own.axes] == [(0, 0), (0.5, 0.5)]


def test_pixels_of_different_height_and_width_keep_their_shape_in_millimetres():
    fig = plotting.images(torch.rand(1, 1, 20, 40), spacing=(2.0, 1.0))
    pixels(fig)
    box = fig.axes[0].get_window_extent()
    assert box.width == pytest.approx(box.height, rel=0.02)
    assert [t.get_text() for t in fig.axes[0].texts] == ["1 cm"]


def test_a_mask_is_outlined_on_the_pixel_edge():
    mask = torch.zeros(1, 10, 10)
    mask[0, 2:5, 3:7] = 1
    fig = plotting.images(torch.rand(1, 10, 10), masks=mask, mask_name="nodule")
    points = np.concatenate([p.vertices for p in fig.axes[0].collections[0].get_paths()])
    assert points[:, 0].min() == 2.5 and points[:, 0].max() == 6.5
    assert points[:, 1].min() == 1.5 and points[:, 1].max() == 4.5


def test_histograms_are_shares_over_common_bins():
    fig = plotting.histogram({"a": np.zeros(10), "b": np.arange(5.0)}, x="value", bins=5)
    heights = [sum(bar.get_height() for bar in group) for group in fig.axes[0].containers]
    assert heights == pytest.approx([1, 1])


def test_pictures_that_are_none_are_refused():
    with pytest.raises(DataError, match="no picture"):
        plotting.images([])
    with pytest.raises(DataError, match="a picture is"):
        plotting.images(torch.zeros(2, 4, 8, 8))


def test_the_same_figure_gives_the_same_bytes():
    def draw():
        return plotting.png(plotting.bars({"CNN": 0.9, "linear": 0.8}, x="AUC", limits=(0.5, 1)))

    assert draw() == draw()
