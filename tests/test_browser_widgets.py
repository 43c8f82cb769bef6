"""Every widget of the course, moved by keyboard in a real browser.

One notebook holds all of them, a cell each; JupyterLab runs it; a key is pressed on a control, and
the page must then show what the plain function behind the widget says. A new widget is one more
`Row` in `ROWS`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from pydicom.data import get_testdata_file

from medlab import dicom, widgets
from medlab.widgets.convolution import grey_range
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
        code: a cell that ends in it; numpy, torch and medlab's `widgets` are imported, `ct` is a
            slice in HU.
        control: label of the control that is moved.
        expected: what the page must show after the key and must not show before: a text that the
            widget's HTML (also the alternative text of its picture) then holds, or the pixels of
            its picture, uint8, the last columns of which may be compared alone.
        keys: pressed on that control, one after the other.
    """

    name: str
    code: str
    control: str
    expected: Callable[[], str | np.ndarray]
    keys: tuple[str, ...] = ("ArrowRight",)


CT = dicom.read_image(get_testdata_file("CT_small.dcm", download=False)).pixels.numpy()
FIRST = """
import numpy as np
import torch
from pydicom.data import get_testdata_file
from medlab import dicom, widgets

ct = dicom.read_image(get_testdata_file("CT_small.dcm", download=False)).pixels.numpy()
"""
LABELS, SCORES = [0, 0, 1, 0, 1, 1, 1], [0.1, 0.4, 0.504, 0.7, 0.8, 0.9, 0.95]


def drawn_kernel() -> np.ndarray:
    kernel = np.ones((3, 3))
    kernel[0, 0] = 2
    result = widgets.response(CT, kernel / 9)
    black, white = grey_range(result, kernel / 9)
    return np.round(255 * np.clip((result - black) / (white - black), 0, 1))


def filled_output() -> str:
    x = np.arange(25).reshape(5, 5)
    rows, columns = widgets.window_positions(5, 3, 2)[[0, 1]]
    total = (x[np.ix_(rows, columns)] * [-1, 0, 1]).sum()
    return f"·{x[rows[-1], columns[-1]]} = {total}"


def shifted_and_pooled() -> np.ndarray:
    _, small = widgets.pooled(CT, kind="max", factor=8, shift=1)
    share = (small - CT.min()) / np.ptp(CT)
    return np.round(255 * share).repeat(8, 0).repeat(8, 1)


def above(threshold: float) -> str:
    return f"{widgets.readout(LABELS, SCORES, threshold=threshold).counts.tp} of 4"


def costs_more() -> str:
    now = widgets.readout(LABELS, SCORES, threshold=0.6, prevalence=0.2, miss_cost=5.5)
    return f"expected cost{now.cost:,.0f}false alarms"


ROWS = [
    Row(
        "window_level",
        "widgets.window_level(ct)",
        "level",
        lambda: widgets.window_image(CT, 41, 400),
    ),
    Row(
        "kspace",
        "widgets.kspace(ct + 1024.0, fraction=0.1)",
        "kept",
        lambda: "the centre of k-space that is kept, 11% of each side",
    ),
    Row(
        "slices",
        "widgets.slices(np.stack([ct, ct[::-1], ct.T]), index=0)",
        "slice",
        lambda: np.round(255 * np.clip((CT[::-1] - CT.min()) / np.ptp(CT), 0, 1)),
    ),
    Row(
        "threshold",
        f"widgets.threshold({LABELS}, {SCORES}, threshold=0.5)",
        "threshold",
        lambda: above(0.51),
    ),
    Row(
        "threshold",
        f"widgets.threshold({LABELS}, {SCORES}, threshold=0.6, prevalence=0.2, miss_cost=5)",
        "cost of a miss",
        costs_more,
    ),
    Row(
        "draw_kernel",
        "widgets.draw_kernel(ct, preset='mean')",
        "w[0,0]",
        drawn_kernel,
        keys=("ArrowUp",),
    ),
    Row(
        "moving_window",
        "widgets.moving_window(np.arange(25).reshape(5, 5), stride=2)",
        "position",
        filled_output,
    ),
    Row(
        "pooling",
        "widgets.pooling(ct, kind='max', factor=8)",
        "shift",
        shifted_and_pooled,
    ),
    Row(
        "descent",
        "widgets.descent()",
        "learning rate",
        lambda: "Learning rate 0.051, momentum 0.00",
    ),
]


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
        yield page


def seen(panel) -> tuple[str, list[np.ndarray]]:
    """Text of a widget's HTML, alternative texts with it, and the pixels of its pictures."""
    text, sources = panel.locator(".widget-html-content").evaluate(
        """e => [
            e.textContent + ' ' + [...e.querySelectorAll('[alt], [aria-label]')]
                .map(p => p.getAttribute('alt') || p.getAttribute('aria-label')).join(' '),
            [...e.querySelectorAll('img')].map(i => i.src),
        ]"""
    )
    data = [base64.b64decode(source.partition("base64,")[2]) for source in sources]
    return text, [np.asarray(Image.open(io.BytesIO(png))) for png in data]


def shows(panel, expected: str | np.ndarray) -> bool:
    text, pictures = seen(panel)
    if isinstance(expected, str):
        return expected in text
    rows, columns = expected.shape
    return any(
        picture.shape[0] == rows
        and np.mean(picture[:, -columns:] != expected) < 0.001  # another rounding here and there
        for picture in pictures
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_key_moves_the_widget_and_the_page_follows(page, row):
    panel = page.locator(".jp-CodeCell").nth(ROWS.index(row) + 1).locator(".widget-vbox")
    control = panel.locator(f'.widget-inline-hbox:has(.widget-label:text-is("{row.control}"))')
    expected = row.expected()
    assert not shows(panel, expected), "the page shows it before any key is pressed"
    control.locator(".noUi-handle, input, select").first.focus()
    for key in row.keys:
        page.keyboard.press(key)
    for _ in range(100):
        if shows(panel, expected):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{expected!r} is not shown after {row.keys}; there is {seen(panel)!r}")


def test_every_widget_of_the_course_has_a_row():
    panels = {
        name
        for name in widgets.__all__
        if getattr(getattr(widgets, name), "__annotations__", {}).get("return") == "Panel"
    }
    assert panels == {row.name for row in ROWS}
