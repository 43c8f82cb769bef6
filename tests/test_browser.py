"""JupyterLab in a real browser: notebook 00 shows its figures, a widget moves, no script fails."""

from __future__ import annotations

import shutil
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from notebooks.execute import METADATA
from tests.lab import CHROMIUM, chromium, new_page, open_notebook, serve
from tests.where import NOTEBOOKS

WIDGET = """
import ipywidgets
from medlab import plotting

def draw(k):
    fig, ax = plotting.subplots()
    ax.plot([0, k])
    plotting.show(fig, alt=f"A straight line that rises from nothing to {k}.")

_ = ipywidgets.interact(draw, k=ipywidgets.IntSlider(3, min=0, max=9))
"""

pytestmark = [
    pytest.mark.serial,
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine's PATH"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab that serves copies, so that nothing here is written to the course."""
    folder = tmp_path_factory.mktemp("lab")
    for path in NOTEBOOKS[:1]:
        shutil.copy(path, folder)
    nbformat.write(
        new_notebook(cells=[new_code_cell(WIDGET)], metadata=METADATA), folder / "widget.ipynb"
    )
    with serve(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    with new_page(browser) as page:
        yield page


def test_notebook_00_shows_every_stored_figure(page, lab):
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    figures = sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    open_notebook(page, lab, NOTEBOOKS[0].name)
    seen: set[str] = set()
    panel = page.locator(".jp-WindowedPanel-outer").first
    deadline = time.monotonic() + 30
    while len(seen) < figures and time.monotonic() < deadline:
        # JupyterLab draws only what is in view, so scroll and collect
        seen |= set(
            page.eval_on_selector_all(
                ".jp-RenderedImage img",
                "all => all.filter(i => i.naturalWidth > 50).map(i => i.src.slice(-4000))",
            )
        )
        bottom = panel.evaluate(
            "e => { const y = e.scrollTop; e.scrollTop = y + 1200; return e.scrollTop === y; }"
        )
        if bottom:
            panel.evaluate("e => { e.scrollTop = 0; }")
        page.wait_for_timeout(150)
    assert figures > 0
    assert len(seen) == figures
    assert page.locator(".jp-RenderedHTMLCommon h1").count() > 0 or figures > 3


def test_a_widget_draws_and_follows_its_slider(page, lab):
    open_notebook(page, lab, "widget.ipynb")
    page.locator(".jp-CodeCell .jp-InputArea-editor").first.click()
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=30_000)
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".jupyter-widgets .jp-RenderedImage img", timeout=45_000)
    source = "all => all.map(i => i.src)"
    [before] = page.eval_on_selector_all(".jp-RenderedImage img", source)
    page.locator(".widget-slider .noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "old => { const i = document.querySelector('.jp-RenderedImage img');"
        " return i && i.src !== old; }",
        arg=before,
        timeout=20_000,
    )
