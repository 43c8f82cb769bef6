"""Stored outputs are compared strictly, but for what differs from machine to machine."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from notebooks import execute
from tests.where import ROOT

SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"

SHOW = """
import sys
import warnings
from base64 import b64encode
from datetime import datetime
from IPython.display import display
import ipywidgets

def show(alt):
    png = b64encode(b"\\x89PNG" + str(id(alt)).encode()).decode()
    data = {"image/png": png, "text/plain": f"<Figure: {alt}>"}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})
"""
# What a cell runs, what is changed in its stored output, and whether the comparison still passes.
CASES = {
    "unchanged": ("print(0.975); show('An edge.')", None, True),
    "metric": ("print('AUC 0.975')", ("0.975", "0.974"), False),
    "count": ("print(4708, 'images')", ("4708", "4707"), False),
    "claim": ("print('✓ AUC is at least 0.95')", ("at least 0.95", "at least 0.94"), False),
    "alt": ("show('An edge of 3 mm.')", ("3 mm", "4 mm"), False),
    "picture": ("show('An edge.')", ("iVBOR", "iVBOS"), True),
    "result": ("{'auc': 0.9}", ("0.9", "0.8"), False),
    "warning": ("warnings.warn('two of five')", ("two of five", "two of six"), False),
    "missing": ("print('more')", None, False),
    "address": ("print(object())", None, True),
    "path": ("print(sys.prefix)", (str(sys.prefix), "/home/ada/course/.venv"), True),
    "path of a new root": ("print('/check/it')", ("/check/it", "/some/where/else"), True),
    "version": ("print('torch 2.14.1')", ("2.14.1", "2.11.0+cpu"), True),
    "date": ("print(datetime(2026, 11, 23, 10, 0, 1))", ("2026-11-23", "2027-01-02"), True),
    "widget": ("ipywidgets.IntSlider(40, description='level')", None, True),
    "widget value": ("ipywidgets.IntSlider(40)", ("40", "50"), False),
    "interact": ("_ = ipywidgets.interact(lambda k: show(f'k = {k}.'), k=(0, 8))", None, True),
    "interact figure": (
        "_ = ipywidgets.interact(lambda k: show(f'k = {k}.'), k=(0, 8))",
        ("4.", "5."),
        False,
    ),
}


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> dict[str, bool]:
    """One cell a case: stored by execute.py, changed, and compared by a strict run of nbval."""
    path = tmp_path_factory.mktemp("notebooks") / "cases.ipynb"
    cells = [new_code_cell(source) for source, _, _ in CASES.values()]
    nbformat.write(new_notebook(cells=[new_code_cell(SHOW), *cells]), path)
    execute.store(path)
    notebook = nbformat.read(path, as_version=4)
    for cell, (_, change, _) in zip(notebook.cells[1:], CASES.values(), strict=True):
        if change is None:
            continue
        changed = [nbformat.from_dict(_swap(output, *change)) for output in cell.outputs]
        assert changed != cell.outputs, f"{change[0]!r} is not in {cell.outputs}"
        cell.outputs = changed
    missing = notebook.cells[1 + list(CASES).index("missing")]
    missing.outputs = []
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-rA", "-p", "no:cacheprovider"]
    command += [f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"^(PASSED|FAILED) \S*::Cell (\d+)", done.stdout, re.M)
    assert len(found) == len(CASES) + 1, done.stdout[-3000:] + done.stderr[-2000:]
    passed = {int(number): verdict == "PASSED" for verdict, number in found}
    return {name: passed[k] for k, name in enumerate(CASES, 1)}


def _swap(value, old: str, new: str):
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_swap(item, old, new) for item in value]
    if isinstance(value, dict):
        return {key: _swap(item, old, new) for key, item in value.items()}
    return value


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_nbval_sees_what_matters_and_nothing_else(name, compared):
    assert compared[name] is CASES[name][2]


PATTERNS = re.findall(r"^regex: (.*)$\n^replace: (.*)$", SANITIZE.read_text(), re.M)


@pytest.mark.parametrize(
    "text",
    [
        "AUC 0.9748, accuracy 0.911 (0.90–0.92)",
        "1214/3494 images, 28/28/3, 0.944/0.854",
        "sensitivity 12.5 %, -1000 HU, 1e-06, 3.5e-7, 2026 images, 2026-11",
        "Dice 0.91.5",
        "shape (2000, 1, 64, 64) float32, 0.70 mm, T1 800 ms, TE 15 ms",
        "difference below 1e-06 1/2 mm, ResNet-18 0.944, ResNet-50 0.962",
        "torch 0.975, numpy = 12.25, Python 3.11",
        "StudyDate 20040119, InstanceNumber 12, UID 1.2.840.10008.5.1.4.1.1.2",
        "0x1F 0xFF",
        "images/masks, ROC / AUC, mm / px, 3/4, and/or, 5 /s, I/I0, /3",
    ],
)
def test_sanitisers_eat_no_number(text):
    assert PATTERNS
    for pattern, replacement in PATTERNS:
        assert re.sub(pattern, replacement, text) == text


def test_the_sanitisers_stand_in_the_configuration(pytestconfig):
    assert pytestconfig.getoption("nbval_sanitize_with") == "tests/nbval_sanitize.cfg"
    assert not pytestconfig.getoption("nbval_lax")


# ------------------------------------------------------------------------------------ execute.py

BLOCKED = """
import socket, urllib.request
for address in ("http://example.org", "http://192.0.2.1"):
    try:
        urllib.request.urlopen(address, timeout=5)
        print("open")
    except OSError as error:
        print("blocked" if "blocked in tests" in str(error) else error)
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
print("loopback works")
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """One notebook executed and stored twice; the second text must equal the first."""
    path = tmp_path_factory.mktemp("stored") / "00_model.ipynb"
    cells = [
        new_code_cell("import os\nprint(os.environ['MEDLAB_PROGRESS'])", id="first"),
        new_code_cell(BLOCKED, id="net"),
        new_code_cell("import ipywidgets\nipywidgets.Checkbox(description='b')", id="widget"),
    ]
    notebook = new_notebook(
        cells=cells, metadata={"widgets": {}, "kernelspec": {"name": "mine", "display_name": "x"}}
    )
    notebook.cells[0].metadata["execution"] = {"iopub.status.busy": "2026"}
    nbformat.write(notebook, path)
    assert execute.store(path) == []
    return path


@pytest.mark.slow
def test_a_second_run_stores_the_same_bytes(stored):
    before = stored.read_bytes()
    execute.store(stored)
    assert stored.read_bytes() == before


def test_a_stored_notebook_is_clean(stored):
    notebook = nbformat.read(stored, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["first", "net", "widget"]
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    assert notebook.cells[0].outputs[0].text == "0\n"
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.language_info
    assert "execution" not in notebook.cells[0].metadata
    assert list(notebook.cells[2].outputs[0].data) == ["text/plain"]


def test_the_network_is_blocked_inside_a_kernel(stored):
    text = nbformat.read(stored, as_version=4).cells[1].outputs[0].text
    assert text.split("\n")[:3] == ["blocked", "blocked", "loopback works"]


def test_the_network_is_blocked_for_kernels_that_pytest_starts():
    script = "import urllib.request as u; u.urlopen('http://192.0.2.1', timeout=5)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "blocked in tests" in done.stderr
    assert str(ROOT / "tests" / "offline") in os.environ["PYTHONPATH"]


@pytest.mark.slow
def test_a_notebook_that_fails_is_not_stored(tmp_path, capsys):
    path = tmp_path / "00_broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    assert execute.main([str(path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_execute_complains_of_figures_that_must_not_be_stored():
    image = base64.b64encode(bytes(500_000)).decode()
    output = nbformat.v4.new_output("display_data", {"image/png": image})
    notebook = new_notebook(cells=[new_code_cell("x", id="big", outputs=[output])])
    large, nameless = execute.complaints(notebook)
    assert "500 kB" in large
    assert "alternative text" in nameless


def test_execute_names_a_notebook_that_is_not_there():
    with pytest.raises(SystemExit, match="no notebook '99'"):
        execute.choose(["99"])
