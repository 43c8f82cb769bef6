"""JupyterLab in a real browser: notebook 00 shows its figures, a widget moves, no script fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from notebooks.execute import METADATA
from tests.where import NOTEBOOKS

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
]
TOKEN = "course"
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
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--allow-root", f"--IdentityProvider.token={TOKEN}"]
    command += [f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    settings = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(
        command, env=settings, stdout=log, stderr=log, stdin=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2).close()
                break
            assert server.poll() is None, (folder / "server.log").read_text()[-2000:]
            time.sleep(0.25)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A new page; at the end of the test no script on it may have failed."""
    page = browser.new_page(viewport={"width": 1200, "height": 2400})
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    page.close()
    assert failures == []


def open_notebook(page, lab: str, name: str) -> None:
    page.goto(f"{lab}/lab/tree/{name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=30_000)


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
