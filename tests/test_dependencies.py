"""What is imported is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.room_rules import House
from tests.where import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"benchmarks", "conftest", "data_scripts", "medlab", "notebooks", "tests"}

# Declared and imported by nothing here, with what uses it instead.
INDIRECT = {
    "axe-playwright-python": "test_browser.py runs the script that it brings",
    "jupyterlab": "make lab runs it",
    "mypy": "make test-types runs it",
    "onnxscript": "torch.onnx.export asks for it",
    "pandas-stubs": "mypy reads it",
    "pylibjpeg": "pydicom finds it",
    "pylibjpeg-libjpeg": "pydicom finds it",
    "pylibjpeg-openjpeg": "pydicom finds it",
    "pytest-xdist": "a plugin of pytest: -n",
    "ruff": "make test-lint runs it",
    "types-tqdm": "mypy reads it",
}


def declared(*extras: str) -> set[str]:
    """Distributions that an installation with these extras asks for."""
    texts = [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"] + texts}


def imported(sources: Iterable[str]) -> set[str]:
    """Top-level modules that sources import, wherever they do, without the standard library."""
    found = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "importorskip", "__import__"):
                match node.args:
                    case [ast.Constant(value=str(module)), *_]:
                        found.add(module)
    return {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) - OWN


DISTRIBUTIONS = packages_distributions()


def distributions(modules: Iterable[str]) -> set[str]:
    """The distribution that each module comes from; a module that is not installed stays itself."""
    return {canonicalize_name(DISTRIBUTIONS.get(name, [name])[0]) for name in modules}


def files(*folders: str) -> list[str]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path.read_text(encoding="utf-8") for path in paths if "__pycache__" not in path.parts]


NOTEBOOKS = [code for _, code in House(ROOT, {}).notebooks()]
# Where code stands, and with which extras it runs
PLACES = {
    "medlab": (files("medlab"), ["deploy"]),
    "data_scripts": (files("data_scripts"), []),
    "notebooks": (NOTEBOOKS, ["lab", "deploy"]),
    "notebooks/*.py": (files("notebooks"), ["lab", "test", "deploy"]),
    "benchmarks": (files("benchmarks"), ["lab", "test", "deploy"]),
    "tests": (files("tests"), ["lab", "test", "deploy"]),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_imported_is_declared(place):
    sources, extras = PLACES[place]
    own = {path.stem for path in (ROOT / place).glob("*.py")}
    needs = distributions(imported(sources) - own)
    assert needs - declared(*extras) == set()


def test_what_a_reader_installs_is_imported_by_what_a_reader_runs():
    sources = [
        text for place in ("medlab", "data_scripts", "notebooks") for text in PLACES[place][0]
    ]
    assert declared() - distributions(imported(sources)) == set()


def test_what_the_extras_add_is_imported_or_has_its_reason():
    everything = distributions(imported(text for texts, _ in PLACES.values() for text in texts))
    extras = declared("lab", "dicom", "test", "deploy") - declared()
    assert extras - everything - set(INDIRECT) == set()
    assert set(INDIRECT) <= extras, "a reason for what is not declared"
    assert set(INDIRECT) & everything == set(), "a reason for what is imported"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import numpy as np, os.path", {"numpy"}),
        ("def f():\n    from PIL.Image import open", {"PIL"}),
        ("if TYPE_CHECKING:\n    import pandas", {"pandas"}),
        ("import_module('sklearn.metrics')", {"sklearn"}),
        ("pytest.importorskip('monai')", {"monai"}),
        (
            "from . import x\nfrom .y import z\nimport medlab.metrics\nfrom tests import where",
            set(),
        ),
        ("import_module(name)\n'import numpy'\n# import numpy", set()),
    ],
)
def test_imports_are_seen(source, expected):
    assert imported([source]) == expected


def test_distributions_are_called_as_their_index_calls_them():
    names = distributions(["PIL", "skimage", "sklearn", "yaml", "SimpleITK", "never_heard_of"])
    assert names == {
        "pillow",
        "scikit-image",
        "scikit-learn",
        "pyyaml",
        "simpleitk",
        "never-heard-of",
    }
