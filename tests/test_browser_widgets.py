"""Every widget of the course, moved by keyboard in a real browser.

One notebook holds all of them, a cell each; JupyterLab runs it; a key is pressed on a control, and
the page must then show what the same widget holds that is moved there without a browser. A new
widget is one more `Row` in `ROWS`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from pydicom.data import get_testdata_file

from medlab import dicom, widgets
from medlab.widgets._panel import Panel
from notebooks.execute import METADATA
from tests.lab import CHROMIUM, chromium, new_page, open_notebook, serve

pytestmark = [
    pytest.mark.serial,
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine's PATH"),
]


@dataclass(frozen=True)
class Row:
    """One widget, and what a key must do to it.

    Attributes:
        name: of the function in `medlab.widgets` that makes the panel.
        code: a cell that ends in it; numpy and medlab's `widgets` are imported,
            `ct` is a slice in HU.
        control: name of the control that is moved, in `Panel.controls`.
        value: of the control after one press of the right arrow key.
    """

    name: str
    code: str
    control: str
    value: float


CT = dicom.read_image(get_testdata_file("CT_small.dcm", download=False)).pixels.numpy()
FIRST = """
import numpy as np
from pydicom.data import get_testdata_file
from medlab import dicom, widgets

ct = dicom.read_image(get_testdata_file("CT_small.dcm", download=False)).pixels.numpy()
"""
PAIRS = "[0, 0, 1, 0, 1, 1, 1], [0.1, 0.4, 0.504, 0.7, 0.8, 0.9, 0.95]"
START = "threshold=0.5, prevalence=0.3"
ROWS = [
    Row("window_level", "widgets.window_level(ct)", "level", 301),
    Row("threshold", f"widgets.threshold({PAIRS}, {START})", "threshold", 0.51),
    Row("moving_window", "widgets.moving_window()", "position", 7),
    Row("descent", "widgets.descent()", "lr", 0.071),
]


def expected(row: Row) -> tuple[Panel, str]:
    """The widget as it should be after the key, and the label of the control that moves."""
    panel = eval(row.code, {"np": np, "widgets": widgets, "ct": CT})
    panel.controls[row.control].value = row.value
    return panel, panel.controls[row.control].description


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The notebook with every widget, all its cells run; no script on it may fail."""
    folder = tmp_path_factory.mktemp("widgets")
    cells = [new_code_cell(code) for code in (FIRST, *(row.code for row in ROWS))]
    nbformat.write(new_notebook(cells=cells, metadata=METADATA), folder / "widgets.ipynb")
    with (
        serve(folder, windowing="none") as lab,
        chromium() as browser,
        new_page(browser) as page,
    ):
        open_notebook(page, lab, "widgets.ipynb")
        page.locator(".jp-CodeCell .jp-InputArea-editor").first.click()
        idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        page.wait_for_selector(idle, timeout=60_000)
        for _ in cells:
            page.keyboard.press("Shift+Enter")
        drawn = page.locator(".jp-CodeCell .widget-html-content")
        for _ in range(240):
            if drawn.count() == len(ROWS):
                break
            page.wait_for_timeout(500)
        said = page.locator(".jp-OutputArea-output").all_inner_texts()
        assert drawn.count() == len(ROWS), said
        assert page.locator(".jp-RenderedImage").count() == 0  # the widget alone, no picture beside
        yield page


def shown(output) -> tuple[list[bytes], list[str], str]:
    """Pictures of a widget on the page, their alternative texts, and the text below them."""
    sources, texts, below = output.locator(".widget-html-content").evaluate(
        """e => [
            [...e.querySelectorAll('img')].map(i => i.src),
            [...e.querySelectorAll('img')].map(i => i.alt),
            e.querySelector('[role=status]').textContent,
        ]"""
    )
    return [base64.b64decode(s.partition("base64,")[2]) for s in sources], texts, below


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_key_moves_the_widget_and_the_page_follows(page, row):
    panel, label = expected(row)
    wanted = [panel.stored[0]["image/png"]], [panel.alt], "".join(panel.lines)
    output = page.locator(".jp-CodeCell").nth(ROWS.index(row) + 1).locator(".widget-vbox")
    control = output.locator(f'.widget-inline-hbox:has(.widget-label:text-is("{label}"))')
    assert shown(output) != wanted, "the page shows it before any key is pressed"
    control.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    for _ in range(100):
        if shown(output) == wanted:
            return
        page.wait_for_timeout(100)
    assert shown(output)[1:] == wanted[1:]
    raise AssertionError("the page shows another picture than the widget holds")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_widget_is_one_picture_of_full_size_that_fits_a_screen(page, row):
    cell = page.locator(".jp-CodeCell").nth(ROWS.index(row) + 1)
    assert cell.locator("img").count() == 1
    page.set_viewport_size({"width": 1280, "height": 900})
    picture = cell.locator("img")
    box, width = picture.bounding_box(), int(picture.get_attribute("width"))
    assert box["width"] == pytest.approx(width, abs=1)
    controls = [c.bounding_box() for c in cell.locator(".widget-inline-hbox").all()][:-1]
    assert all(c["y"] + c["height"] <= box["y"] + 1 for c in controls), "it covers its controls"
    whole = cell.locator(".jp-OutputArea").bounding_box()
    assert whole["height"] <= 900 - 180  # what menus and toolbars leave


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_caption_follows_the_widget(page, row):
    cell = page.locator(".jp-CodeCell").nth(ROWS.index(row) + 1)
    for _ in range(100):
        caption = cell.locator("p.caption").inner_text()
        if caption == f"Figure. {cell.locator('img').get_attribute('alt')}":
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the caption says {caption!r}")


def test_every_widget_of_the_course_has_a_row():
    assert set(widgets.__all__) == {row.name for row in ROWS}
