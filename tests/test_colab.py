"""On Google Colab, installing medlab adds packages and replaces none.

The lists of what Colab has installed are resolved against medlab's own requirements and, for every
package that Colab lacks, against that package's requirements as its installed metadata gives them.
The set-up cell runs for real, with stand-ins for google.colab and pip.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import types
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from notebooks.fork import edition, repository, setup_cell
from tests.where import REAL_DATA, ROOT, WHY_NO_DATA

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTS = [
    ("pip-freeze.txt", "os-info.txt"),
    ("pip-freeze.gpu.txt", "os-info-gpu.txt"),
    ("runtime_2026.07_pip-freeze.txt", "runtime_2026.07_os-info.txt"),
    ("runtime_2026.07_pip-freeze.gpu.txt", "runtime_2026.07_os-info.txt"),
]


def installed_there(freeze: str) -> dict[str, Version]:
    """Canonical name → version of each package in the text of a `pip freeze`."""
    pairs = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", freeze, re.M)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def changes(
    requirements: list[str], have: dict[str, Version], python: str
) -> tuple[list[str], set[str]]:
    """What installing `requirements` would replace in `have`, and which packages it would add.

    Args:
        requirements: as in pyproject.toml.
        have: installed packages.
        python: full version of the Python there, for markers.

    Returns:
        One sentence for each listed package that would not be kept, and the names of new packages.
    """
    marker = {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    replaced, added = [], set()
    todo = [(Requirement(text), "medlab", frozenset()) for text in requirements]
    done = set()
    while todo:
        need, by, extras = todo.pop()
        names = extras or {""}
        if need.marker and not any(need.marker.evaluate({**marker, "extra": e}) for e in names):
            continue
        name = canonicalize_name(need.name)
        if name in have and not need.extras:
            if not need.specifier.contains(have[name], prereleases=True):
                replaced.append(f"{by} needs {need}, and {name} {have[name]} is installed")
            continue
        if (name, frozenset(need.extras)) in done:
            continue
        done.add((name, frozenset(need.extras)))
        if name not in have:
            added.add(name)
        metadata = importlib.metadata.distribution(name)  # what the pins give and CI proves
        needs = metadata.metadata.get("Requires-Python")
        if needs and python not in SpecifierSet(needs):
            replaced.append(f"{name} {metadata.version} needs Python {needs}")
        chosen = frozenset(need.extras)
        todo += [(Requirement(text), name, chosen) for text in metadata.requires or []]
    return replaced, added


@pytest.fixture(params=LISTS, ids=lambda pair: pair[0].removesuffix(".txt"))
def colab(request) -> tuple[dict[str, Version], str]:
    if REAL_DATA is None or not (REAL_DATA / "colab").is_dir():
        pytest.skip(WHY_NO_DATA if REAL_DATA is None else f"{REAL_DATA} has no folder colab")
    freeze, system = ((REAL_DATA / "colab" / name).read_text() for name in request.param)
    have = installed_there(freeze)
    assert len(have) > 400, "the list could not be read"
    return have, re.search(r"^Python (\S+)", system, re.M)[1]


def test_installing_there_replaces_nothing(colab):
    have, python = colab
    assert python in SpecifierSet(PROJECT["requires-python"])
    replaced, added = changes(PROJECT["dependencies"], have, python)
    assert replaced == []
    assert {"torch", "torchvision", "numpy", "pandas", "requests"} <= set(have)
    assert {"pydicom", "nilearn"} <= added, "the list has changed: is this check still about Colab?"
    assert len(added) <= 6, f"installing there brings {sorted(added)}"


@pytest.mark.parametrize(
    ("name", "version"),
    [("numpy", "1.25.2"), ("torch", "2.1.0"), ("ipywidgets", "7.6.0"), ("pandas", "2.1.0")],
)
def test_the_check_sees_a_package_that_is_too_old(colab, name, version):
    have, python = colab
    assert changes(PROJECT["dependencies"], {**have, name: Version(version)}, python)[0]


def test_the_check_sees_what_a_new_package_asks_for(colab):
    have, python = colab
    replaced, _ = changes(["nilearn"], {**have, "pandas": Version("1.5")}, python)
    assert any("nilearn needs pandas" in line for line in replaced)


def test_the_optional_decoders_replace_nothing_either(colab):
    have, python = colab
    assert changes(PROJECT["optional-dependencies"]["dicom"], have, python)[0] == []


def test_what_is_installed_here_lies_within_the_ranges_too():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    for requirement in map(Requirement, wanted):
        assert importlib.metadata.version(requirement.name) in requirement.specifier


# ------------------------------------------------------------------------------------ set-up cell

CELL = setup_cell(repository(ROOT), edition(ROOT))


class Pip:
    """Records what the cell asks pip for, and makes medlab importable as an installation would."""

    def __init__(self, returncode: int, says: str = ""):
        self.commands: list[list[str]] = []
        self.done = subprocess.CompletedProcess([], returncode, "", says)

    def __call__(self, command, **options):
        assert options["capture_output"]
        self.commands.append(command)
        if self.done.returncode == 0:
            sys.modules["medlab"] = types.ModuleType("medlab")
        return self.done


@pytest.fixture
def without_medlab(monkeypatch):
    """As on a machine where medlab was never installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == "medlab"]:
        monkeypatch.delitem(sys.modules, name)

    def find_spec(name, path=None, target=None, real=PathFinder.find_spec):
        return None if name == "medlab" else real(name, path, target)

    monkeypatch.setattr(PathFinder, "find_spec", find_spec)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not hasattr(f, "MAPPING")])


@pytest.fixture
def on_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


def test_on_colab_the_cell_installs_from_the_repository_once(
    without_medlab, on_colab, monkeypatch, capsys
):
    pip = Pip(0)
    monkeypatch.setattr(subprocess, "run", pip)
    names: dict = {}
    exec(compile(CELL, "setup", "exec"), names)
    [command] = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    tag = "v" + PROJECT["version"]  # an edition that stays as it is, never a branch
    assert command[-1] == f"git+{PROJECT['urls']['Repository']}@{tag}"
    assert names["medlab"] is sys.modules["medlab"]
    assert "Installing medlab" in capsys.readouterr().out


def test_on_colab_a_failure_of_pip_is_shown(without_medlab, on_colab, monkeypatch):
    monkeypatch.setattr(subprocess, "run", Pip(1, "ERROR: no such repository"))
    with pytest.raises(RuntimeError, match="no such repository"):
        exec(compile(CELL, "setup", "exec"), {})


def test_where_medlab_is_installed_the_cell_changes_and_says_nothing(on_colab, monkeypatch, capsys):
    pip = Pip(0)
    monkeypatch.setattr(subprocess, "run", pip)
    exec(compile(CELL, "setup", "exec"), {})
    assert pip.commands == []
    assert capsys.readouterr().out == ""


def test_elsewhere_without_medlab_one_line_says_what_to_do(without_medlab, monkeypatch):
    pip = Pip(0)
    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(ModuleNotFoundError, match=r"run `make lab`, or `pip install git\+.*@v\d"):
        exec(compile(CELL, "setup", "exec"), {})
    assert pip.commands == []


def test_the_cell_fits_a_notebook():
    lines = CELL.split("\n")
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 88
    assert not Path("setup").exists()
