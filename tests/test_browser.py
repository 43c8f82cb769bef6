"""What a reader gets, in a real browser: JupyterLab on a copy and on the stored course, and pages.

Asserted is what the page holds and shows, never the file that it came from.
"""

from __future__ import annotations

import re
import shutil
from importlib import resources

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from notebooks import edition
from notebooks.execute import METADATA
from tests.lab import CHROMIUM, chromium, new_page, open_notebook, serve
from tests.notebook_rules import images, output_text, tags
from tests.where import NOTEBOOKS

pytestmark = [
    pytest.mark.serial,
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine's PATH"),
]

FIRST = NOTEBOOKS[0]
TRAINING = """
import torch, medlab
data = torch.rand(400, 1, 32, 32), torch.arange(400) % 2
history = medlab.fit(medlab.models.SmallCNN(1, 2), data, epochs=400)
"""
ANSWERS = {
    "wrong": "return labels.bincount().max()",
    "right": "return labels.bincount().max().item() / len(labels)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Served: the learner's copy, notebook 00 as it is stored, and a training."""
    folder = tmp_path_factory.mktemp("lab")
    edition.publish(folder)
    (folder / "stored").mkdir()
    shutil.copy(FIRST, folder / "stored")
    training = new_notebook(cells=[new_code_cell(TRAINING)], metadata=METADATA)
    nbformat.write(training, folder / "training.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(folder):
    with serve(folder, windowing="none") as address:
        yield address


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The course as pages to read."""
    folder = tmp_path_factory.mktemp("pages")
    edition.publish(folder, html=True)
    return folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    with new_page(browser) as page:
        yield page


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def code_cell(page, text: str):
    return page.locator(".jp-CodeCell").filter(has_text=text).first


def wait_idle(page):
    idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
    page.wait_for_selector(idle, timeout=60_000)
    page.wait_for_timeout(1500)  # a kernel is idle a moment before it takes the first cell


def test_stored_figures_come_with_their_text_and_predictions_stay_open(page, lab):
    cells = [cell for cell in cells_of(FIRST) if cell.cell_type == "code"]
    hidden = [cell for cell in cells if "hide-output" in tags(cell) and cell.outputs]
    shown = [cell for cell in cells if "hide-output" not in tags(cell)]
    alts = [out.metadata["image/png"]["alt"] for cell in shown for out in images(cell)]
    open_notebook(page, lab, f"stored/{FIRST.name}")
    captions = page.locator(".jp-OutputArea-output p.caption")
    captions.nth(len(alts) - 1).wait_for(timeout=30_000)
    assert [text.removeprefix("Figure. ") for text in captions.all_inner_texts()] == alts
    assert all(caption.is_visible() for caption in captions.all())
    assert page.locator(".jp-RenderedImage img").count() == len(alts)
    placeholders = page.locator(".jp-OutputPlaceholder:visible")
    assert placeholders.count() == len(hidden) > 0
    for cell, said in zip(hidden, placeholders.all_inner_texts(), strict=True):
        assert set(said.split()) <= {"<Figure>", "…", "..."}, f"{cell.id} tells {said!r}"
    page.locator(".jp-OutputPlaceholder:visible").first.click()
    assert captions.count() == len(alts) + 1


def test_an_exercise_in_its_four_states(page, lab):
    open_notebook(page, lab, FIRST.name)
    assert page.locator(".jp-OutputArea-output").count() == 0  # of a copy nothing is answered
    wait_idle(page)
    for part in ("find_spec", "import os"):
        code_cell(page, part).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
    stub = code_cell(page, "def majority_accuracy")
    output = stub.locator(".jp-OutputArea-output")

    def run():
        stub.locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")

    run()
    output.filter(has_text="○").wait_for(timeout=60_000)
    solution = page.locator(".jp-MarkdownCell:has(details)").first
    assert not solution.locator("pre").is_visible()
    for state, sign in (("wrong", "✗"), ("right", "✓")):
        stub.locator(".cm-content").click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(f"def majority_accuracy(labels):\n    {ANSWERS[state]}\n\n\n")
        page.keyboard.insert_text('check("start_here.1", majority_accuracy)')
        run()
        output.filter(has_text=sign).wait_for(timeout=30_000)
        assert stub.locator(".cm-content").inner_text().count(ANSWERS[state]) == 1
        assert len(re.findall("[✓✗○]", output.inner_text())) == 1
        # The sign has a colour of its own, and no line is wider than the page
        assert output.locator("pre span").first.inner_text() == sign
        assert output.locator("pre").evaluate("e => e.scrollWidth <= e.clientWidth")
    solution.locator("summary", has_text="Solution").click()
    assert "bincount" in solution.locator("pre").inner_text()
    # Running on, past the solution, changes nothing that was written
    solution.click()
    page.keyboard.press("Shift+Enter")
    assert stub.locator(".cm-content").inner_text().count(ANSWERS["right"]) == 1


def test_training_shows_a_bar_and_an_interrupt_one_line(page, lab):
    open_notebook(page, lab, "training.ipynb")
    wait_idle(page)
    cell = code_cell(page, "medlab.fit")
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.locator(".jupyter-widgets [role=progressbar], .jupyter-widgets .progress").first.wait_for(
        timeout=60_000
    )
    # The bar is there a moment before it has something to tell.
    cell.locator(".jp-OutputArea", has_text="epoch").wait_for(timeout=60_000)
    assert cell.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    error = cell.locator(".jp-OutputArea-output", has_text="Interrupted")
    for _ in range(20):
        page.locator("[data-command='notebook:interrupt-kernel']").first.click()
        page.wait_for_timeout(1500)
        if error.count():
            break
    assert cell.locator(".jp-OutputArea-output").count() == 2  # the bar and one line
    said = error.inner_text().strip()
    assert re.fullmatch(r"Interrupted: training was stopped after \d+ of 400 epochs[^\n]*", said)


@pytest.mark.parametrize("name", ["00_start_here", "07_splits_and_augmentation", "notation"])
def test_a_page_has_no_serious_barrier(page, pages, name):
    """By the rules of axe-core, such as contrast, names of controls and links that stand out."""
    script = resources.files("axe_playwright_python") / "axe.min.js"
    page.goto((pages / f"{name}.html").as_uri())
    page.add_script_tag(content=script.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document)")
    assert len(found["passes"]) > 10
    serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in serious] == []


def test_a_page_shows_figures_with_text_and_folds_the_answers(page, pages):
    page.goto((pages / FIRST.with_suffix(".html").name).as_uri())
    cells = cells_of(FIRST)
    alts = [
        out.metadata["image/png"]["alt"]
        for cell in cells
        if cell.cell_type == "code"
        for out in images(cell)
    ]
    pictures = page.locator(".jp-OutputArea img")
    assert [picture.get_attribute("alt") for picture in pictures.all()] == alts
    captions = page.locator("p.caption")
    assert [text.removeprefix("Figure. ") for text in captions.all_text_contents()] == alts
    asked = page.locator("details.prediction")
    hidden = [cell for cell in cells if "hide-output" in tags(cell) and cell.outputs]
    assert asked.count() == len(hidden) > 0
    assert page.locator("details[open]").count() == 0
    tree = page.locator("body").aria_snapshot()  # what a screen reader is told
    told = output_text(next(cell for cell in hidden if output_text(cell).strip()))
    assert told.strip().split("\n")[0] not in tree
    assert "bincount" not in tree
    for cell in cells:
        if cell.cell_type == "code" and "hide-output" not in tags(cell):
            for out in images(cell):
                alt = out.metadata["image/png"]["alt"]
                assert tree.count(alt) == 2, f"{cell.id}: {alt}"  # the picture and its caption
    asked.first.locator("summary").click()
    assert asked.first.locator("img").is_visible()
