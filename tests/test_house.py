"""The house: commands that fail plainly, pins, licences, one address and a fork that moves it."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from medlab.errors import MedlabError
from notebooks import fork
from tests.where import NOTEBOOKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDRESS = PROJECT["urls"]["Repository"]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md") if (ROOT / name).exists()]


# ------------------------------------------------------------------------------ plain failure

REAL_PYTHON = Path(sys.executable).resolve()
TOOLS = (
    "sh",
    "df",
    "awk",
    "grep",
    "tail",
    "cut",
    "rm",
    "touch",
    "uname",
    "mkdir",
    "cat",
    "make",
    "id",
)
OLD = 'case "$*" in *version_info*) exit 1;; *platform*) echo 3.9.2;; -V) echo Python 3.9.2;; esac'
NO_VENV = f'case "$*" in *ensurepip*) exit 1;; esac; exec {REAL_PYTHON} "$@"'
# An environment with a pip that answers as the test says; $TORCH tells whether torch is there.
IN_VENV = """
case "$*" in
  *'m.version("torch")'*) [ -n "$TORCH" ] ;;
  *'pip install'*) printf '%s\\n' "$PIP_SAYS"; exit "$PIP_EXIT" ;;
esac
"""


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def house(tmp_path):
    """A copy of the build files and a PATH that holds only standard tools and what a test adds."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/venv.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    return tmp_path


def make(house: Path, target: str, **environment: str) -> subprocess.CompletedProcess:
    settings = {"PATH": str(house / "bin"), "HOME": str(house), "LC_ALL": "C.UTF-8", **environment}
    return subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=house,
        env=settings,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def complaint(done: subprocess.CompletedProcess) -> str:
    """The one line that says what is missing; besides it, stderr holds make's own word only."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, done.stderr + done.stdout
    assert "Traceback" not in done.stdout
    return lines[0]


@pytest.mark.parametrize("target", ["lab", "test"])
def test_no_python_at_all(house, target):
    assert "Python 3.11 or newer is needed, found none" in complaint(make(house, target))


def test_python_too_old(house):
    script(house / "bin/python3", OLD)
    line = complaint(make(house, "lab"))
    assert "Python 3.11 or newer is needed, found 3.9.2" in line
    assert "PYTHON=" in line


def test_a_named_python_that_is_too_old(house):
    script(house / "old/python", OLD)
    assert "old/python is none" in complaint(make(house, "lab", PYTHON="old/python"))


def test_a_newer_python_is_found_behind_an_old_one(house):
    script(house / "bin/python3", OLD)
    script(house / "bin/python3.12", NO_VENV)
    assert "python3.12 has no venv module" in complaint(make(house, "lab"))


def test_no_venv_module(house):
    script(house / "bin/python3", NO_VENV)
    line = complaint(make(house, "lab"))
    assert "python3 has no venv module" in line
    assert "apt install python3-venv" in line
    assert not (house / ".venv").exists()


def test_no_disk_for_torch(house):
    script(house / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    script(house / ".venv/bin/python", IN_VENV)
    (house / "bin/df").unlink()
    script(house / "bin/df", "echo header; echo /dev/disk 9000000 8000000 1000000 89% /")
    assert re.search(
        r"not enough disk for PyTorch: \d GB needed in .*, 1 GB free", complaint(make(house, "lab"))
    )


PIP = [
    (
        "ERROR: Could not find a version that satisfies the requirement hatchling>=1.26 (from "
        "versions: none)\nERROR: No matching distribution found for hatchling>=1.26",
        "package index cannot be reached",
    ),
    (
        "WARNING: Retrying after connection broken by 'NewConnectionError': [Errno -3] Temporary "
        "failure in name resolution\nERROR: No matching distribution found for hatchling>=1.26",
        "package index cannot be reached",
    ),
    (
        "WARNING: [Errno 111] Connection refused\nERROR: No matching distribution",
        "cannot be reached",
    ),
    (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        "disk filled up",
    ),
    (
        "ERROR: No matching distribution found for torch==2.14.1",
        "no release fits this Python or machine",
    ),
    ("ERROR: Failed to build wheel", "pip could not install: ERROR: Failed to build wheel"),
    ("strange", "see the log"),
]


@pytest.mark.parametrize(("says", "expected"), PIP)
def test_pip_fails(house, says, expected):
    script(house / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    script(house / ".venv/bin/python", IN_VENV)
    line = complaint(make(house, "test", TORCH="1", PIP_SAYS=says, PIP_EXIT="1"))
    assert expected in line
    assert ".venv/install.log" in line
    assert says in (house / ".venv/install.log").read_text()
    assert not (house / ".venv/.test").exists()


def test_lab_opens_the_first_notebook_and_installs_once(house):
    script(house / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    script(house / ".venv/bin/python", IN_VENV)
    script(house / ".venv/bin/jupyter", 'echo "opened $*"')
    settings = {"TORCH": "1", "PIP_SAYS": "fine", "PIP_EXIT": "0"}
    done = make(house, "lab", **settings)
    assert done.returncode == 0, done.stderr
    assert re.search(r"opened lab .*notebooks/00_start_here.ipynb", done.stdout)
    # a second call needs no pip, and a changed list of requirements does
    assert make(house, "lab", **{**settings, "PIP_EXIT": "1"}).returncode == 0
    os.utime(house / "pyproject.toml", (2**31, 2**31))
    assert make(house, "lab", **{**settings, "PIP_EXIT": "1"}).returncode != 0


def test_what_the_makefile_names_is_there():
    text = (ROOT / "Makefile").read_text()
    for name in set(re.findall(r"\b(?:notebooks|tests|benchmarks)/\w+\.(?:py|ipynb)", text)):
        assert (ROOT / name).exists(), name


# ------------------------------------------------------------------------------ metadata


def test_pins_are_plain_and_lie_within_the_ranges():
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.!+]+", line) for line in lines)
    extras = PROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, itertools.chain(PROJECT["dependencies"], *extras)):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_citation_follows_the_metadata():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["repository-code"] == ADDRESS
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert [a["name"] for a in citation["authors"]] == [a["name"] for a in PROJECT["authors"]]
    assert {"message", "title"} <= set(citation)


def test_licences_are_whole():
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    content = (ROOT / "LICENSE-CONTENT").read_text()
    assert "Creative Commons Attribution 4.0 International" in content
    assert all(f"Section {k} " in content for k in range(1, 9))


def test_environment_holds_what_conda_and_binder_need():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [*packages, pip] = environment["dependencies"]
    python = next(p for p in packages if p.startswith("python="))
    assert re.fullmatch(r"python=3\.\d+", python), "Binder reads major.minor"
    assert python.split("=")[1] + ".0" in SpecifierSet(PROJECT["requires-python"])
    assert pip == {"pip": ["-e .[lab]"]}
    own = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    for name, package in (("torch", "pytorch-cpu"), ("torchvision", "torchvision")):
        asked = next(p for p in packages if p.startswith(package))
        assert Requirement(asked).specifier == own[name]


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org")
PLACES = re.compile(r"(?<![\w.~])/(?:work|root|home)/\w")


def test_nothing_names_a_machine_or_a_package_host():
    for path in tracked():
        if path.suffix in {".png", ".npz", ".dcm"} or path.name == "LICENSE-CONTENT":
            continue
        text = path.read_text(encoding="utf-8")
        assert not [host for host in HOSTS if host in text], path
        if path.parent.name != "tests":
            assert not PLACES.search(text), f"{path}: {PLACES.search(text)[0]}"


def test_large_files_are_not_tracked():
    assert not [path.name for path in tracked() if path.stat().st_size > 3_000_000]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_the_pages_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r'(?:src|href)="([^"]+)"', text
    ):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            assert (ROOT / target.split("#")[0]).exists(), f"{page.name}: {target}"
        for name in re.findall(r"/blob/main/(notebooks/[^)\s]+\.ipynb)", target):
            assert (ROOT / name).exists(), f"{page.name}: {target}"


def test_medlab_imports_quickly_over_torch():
    code = (
        "import torch, time; t = time.perf_counter(); import medlab; print(time.perf_counter() - t)"
    )
    runs = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)]
    assert min(map(float, runs)) < 0.3


# ------------------------------------------------------------------------------ a teacher's fork

NEW = "https://github.com/ada-l/imaging.course"


@pytest.fixture
def course(tmp_path) -> Path:
    """Everything that names the address, in a folder of its own."""
    for path in [*NOTEBOOKS, *(ROOT / name for name in ("pyproject.toml", *fork.PAGES))]:
        if path.exists():
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    path = ADDRESS.removeprefix("https://github.com/")
    (tmp_path / "README.md").write_text(
        f"[a]({ADDRESS}) [b](https://mybinder.org/v2/gh/{path}/main) {ADDRESS}.git {ADDRESS}-data\n"
        + fork.badge(ADDRESS, "00_start_here.ipynb")
        + f"\nhttps://raw.githubusercontent.com/{path}/main/x.png {ADDRESS}/issues {ADDRESS}."
    )
    return tmp_path


def names(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_fork_moves_everything_and_comes_back(course, capsys):
    before = names(course)
    assert fork.main([NEW, "--root", str(course)]) == 0
    assert fork.repository(course) == NEW
    old = ADDRESS.removeprefix("https://github.com/")
    for name, data in names(course).items():
        left = data.decode().replace(f"{ADDRESS}-data", "")  # another repository keeps its name
        assert old not in left, name
    assert fork.badge(NEW, "00_start_here.ipynb") in (course / "README.md").read_text()
    for path in (course / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert fork.badge(NEW, path.name) in "".join(cells[0]["source"])
        setup = next(cell for cell in cells if cell["cell_type"] == "code")
        assert "".join(setup["source"]) == fork.setup_cell(NEW)
    moved = names(course)
    assert fork.main([NEW, "--root", str(course)]) == 0
    assert names(course) == moved
    assert "nothing to change" in capsys.readouterr().out
    assert fork.main([ADDRESS, "--root", str(course)]) == 0
    assert names(course) == before


def test_an_interrupted_fork_is_repaired_by_another(course):
    fork.rewrite(NEW, root=course)
    moved = names(course)
    fork.rewrite(ADDRESS, root=course)
    # as if the run had stopped after the first page: pyproject.toml is written last
    (course / "README.md").write_bytes(moved["README.md"])
    fork.rewrite(NEW, root=course)
    assert names(course) == moved


@pytest.mark.parametrize("text", [NEW + "/", NEW + ".git", f" {NEW}\n"])
def test_an_address_may_come_with_trimmings(text):
    assert fork.valid_address(text) == NEW


@pytest.mark.parametrize(
    "text",
    [
        "github.com/ada/course",
        "http://github.com/ada/course",
        "https://github.com/ada",
        "https://github.com/ada/course/tree/main",
        "https://gitlab.com/ada/course",
        "https://github.com/ada/..",
        "https://github.com/-ada/course",
        'https://github.com/ada/course"; import os',
        "https://github.com/ada/course\nx",
        "",
    ],
)
def test_a_bad_address_is_refused_and_nothing_changes(course, text, capsys):
    before = names(course)
    assert fork.main([text, "--root", str(course)]) == 1
    assert "expected an address like" in capsys.readouterr().err
    assert names(course) == before


def test_a_folder_without_the_course_is_named(tmp_path):
    with pytest.raises(MedlabError, match="run this in the course's folder"):
        fork.rewrite(NEW, root=tmp_path)
