"""What figures hold, and what is shown of them in a notebook, in a script and in a terminal."""

import base64
import html
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from medlab import plotting
from medlab.errors import DataError
from medlab.training import History
from notebooks.execute import METADATA, clean_environment, complaints, run


def pixels(fig):
    return np.asarray(Image.open(io.BytesIO(plotting.png(fig))).convert("L"))


ALT = 'A straight line from zero to two, "a" & <b>.'
SHOW = f"""
from medlab import plotting
plotting.show(plotting.curve(range(3), {{"a": range(3)}}, x="x", y="y"), alt={ALT!r})
"""


def test_a_notebook_shows_the_picture_and_its_text_below_it():
    notebook = new_notebook(cells=[new_code_cell(SHOW)], metadata=METADATA)
    with clean_environment():
        run(notebook)
    picture, caption = notebook.cells[0].outputs
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    # JupyterLab shows this text where the output is folded: it must not tell the result
    assert picture.data["text/plain"] == "<Figure>"
    assert picture.metadata["image/png"] == {"alt": ALT, "width": 520}
    assert set(caption.data) == {"text/html", "text/plain"}
    text = re.sub(r"<[^>]+>", "", caption.data["text/html"])
    assert html.unescape(text) == f"Figure. {ALT}"
    assert not complaints(notebook)


def test_an_alternative_text_says_something():
    with pytest.raises(DataError, match="what a reader sees"):
        plotting.show(plotting.bars({"a": 1.0}, x="AUC"), alt="plot")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((3, 2), (4, 8 / 3)),
        ((4, 4), (4, 4)),
        ((5.5, 3.4), (6.5, 6.5 * 3.4 / 5.5)),
        ((6.6, 1), (9.5, 9.5 / 6.6)),
        ((12, 6), (9.5, 4.75)),
    ],
)
def test_figures_have_three_widths_and_keep_their_proportions(size, expected):
    fig, _ = plotting.subplots(size=size)
    assert tuple(fig.get_size_inches()) == pytest.approx(expected)


def test_a_figure_without_colours_is_stored_grey_and_shows_the_same():
    def stored(fig):
        picture = Image.open(io.BytesIO(plotting.png(fig)))
        fig.canvas.draw()
        drawn = np.asarray(fig.canvas.buffer_rgba())[..., :3]
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), drawn)
        assert min(picture.size) > 130 * 2
        return picture.mode

    assert stored(plotting.images(torch.rand(2, 9, 9))) == "L"
    assert stored(plotting.bars({"a": 1.0}, x="AUC")) == "RGB"


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
    fig = plotting.histogram({"a": np.zeros(10), "b": np.arange(5.0)}, x="value", y="share", bins=5)
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


def test_a_box_is_drawn_on_the_pixel_edges():
    fig = plotting.images([torch.rand(10, 10)], boxes=[[(2, 3, 5, 7)]])
    (frame,) = fig.axes[0].patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((1.5, 2.5), 3, 4)


def test_curves_have_bands_scales_and_limits():
    y = np.array([1.0, 10.0, 100.0])
    bands = {"a": (y / 2, 2 * y)}
    fig = plotting.curve(
        [1, 2, 3], {"a": y, "b": 2 * y}, x="x", y="y", bands=bands, log="y", limits=(0.5, 500)
    )
    (ax,) = fig.axes
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylim()) == ("linear", "log", (0.5, 500))
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert [text.get_text() for text in ax.get_legend().texts] == ["a", "b"]
    assert ax.collections[0].get_datalim(ax.transData).y0 == 0.5


def test_heat_is_drawn_where_a_map_is_high_and_not_where_it_is_negative():
    maps = torch.tensor([[[-2.0, 0.0], [1.0, 4.0]]])
    over = plotting.heat(torch.rand(1, 1, 2, 2), maps, titles=["a"]).axes[0].images[1]
    np.testing.assert_allclose(over.get_array(), [[0, 0], [0.25, 1]])
    np.testing.assert_allclose(over.get_alpha(), [[0, 0], [0.15, 0.6]])


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ({"val_loss": 0.5, "val_auc": 0.8, "val_accuracy": 0.7}, "validation AUC"),
        ({"val_loss": 0.5, "val_dice": 0.9}, "validation Dice"),
        ({}, None),
    ],
)
def test_history_draws_the_first_score_of_any_task(scores, label):
    rows = [{"epoch": e, "lr": 0.1, "train_loss": 1 / e, **scores} for e in (1, 2, 3)]
    axes = plotting.history(History(rows=rows)).axes
    np.testing.assert_allclose(axes[0].lines[0].get_xydata(), [[1, 1], [2, 1 / 2], [3, 1 / 3]])
    assert [ax.get_ylabel() for ax in axes[1:]] == ([label] if label else [])
    for ax, column in zip(axes[1:], list(scores)[1:], strict=False):
        assert (ax.lines[0].get_ydata() == scores[column]).all()


SHOWS = """
import torch
from IPython.display import display
import medlab
from medlab import claim, check, plotting, widgets

plotting.show(plotting.bars({"a": 1.0}, x="AUC"), alt="One bar as long as one is.")
panel = widgets.descent()
print(panel)
display(panel)
claim("one is one", True)
check("start_here.1", ...)
data = torch.rand(8, 1, 16, 16), torch.arange(8) % 2
print(len(medlab.fit(medlab.models.SmallCNN(1, 2, width=2), data, data, epochs=1)))
"""


@pytest.mark.parametrize("how", ["script", "terminal"])
def test_outside_a_notebook_whatever_displays_prints_a_line_and_never_a_picture(tmp_path, how):
    (tmp_path / "shows.py").write_text(SHOWS, encoding="utf-8")
    start = [sys.executable] if how == "script" else [sys.executable, "-m", "IPython", "--quick"]
    done = subprocess.run(
        [*start, "shows.py"], cwd=tmp_path, capture_output=True, timeout=300, check=True
    )
    said = done.stdout.decode()
    assert said.count("<Figure: One bar as long as one is.>\n") == 1
    assert said.count("<Figure: Left, a path downhill") == 2
    assert "✓ one is one" in said and "○ start_here.1" in said
    for text in (said, done.stderr.decode()):
        assert "PNG" not in text and "image/png" not in text and "b'" not in text
    assert len(said) < 1000
