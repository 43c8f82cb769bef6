"""The house: commands that fail plainly and delete only what they made, pins, licences, habits, one
address and a fork that moves it."""

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

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONFIGURATION["project"]
ADDRESS = PROJECT["urls"]["Repository"]
PAGES = sorted(ROOT.glob("*.md"))


# ------------------------------------------------------------------------------ plain failure

REAL_PYTHON = Path(sys.executable).resolve()
TOOLS = (
    "sh",
    "grep",
    "tail",
    "cut",
    "find",
    "ls",
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
  *jupyterlab*) echo "opened $*" ;;
  *edition.py*) echo "copied $*" ;;
esac
"""


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def house(tmp_path):
    """A copy of the build files and a PATH that holds only standard tools and what a test adds."""
    if os.name == "nt":
        pytest.skip("no make and no sh on Windows; the README says what to do there")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/venv.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("benchmarks", "data_scripts", "medlab", "notebooks", "tests", "bin"):
        (tmp_path / name).mkdir()
    tools = tmp_path / "bin"
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    return tmp_path


def make(house: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    settings = {"PATH": str(house / "bin"), "HOME": str(house), "LC_ALL": "C.UTF-8", **environment}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=house,
        env=settings,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,  # making an environment takes ten seconds on an idle machine
    )


def quick_python(house: Path) -> None:
    """A python3 that is real, but makes an environment at once, with a pip that cannot install."""
    script(house / "answering", IN_VENV)
    copy = (
        f'mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; {shutil.which("cp")} answering "$3/bin/python"'
    )
    script(
        house / "bin/python3",
        f'case "$*" in "-m venv "*) {copy}; exit;; esac; exec {REAL_PYTHON} "$@"',
    )


OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/nowhere",
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_SAYS": "[Errno 111] Connection refused",
    "PIP_EXIT": "1",
}


def answering_venv(house: Path, name: str = ".venv") -> Path:
    """An environment of make's own making, whose pip answers as a test says."""
    script(house / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    script(house / name / "bin/python", IN_VENV)
    (house / name / ".medlab").write_text(f"{house.resolve()}\n")
    return house / name


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


# What shutil.disk_usage says, by folder, and where the temporary folder lies
DISKS = """
import os, shutil, tempfile
from types import SimpleNamespace
tempfile.gettempdir = lambda: os.environ["TEMPORARY"]
shutil.disk_usage = lambda path: SimpleNamespace(
    free=float(os.environ["SMALL" if str(path) == os.environ["TEMPORARY"] else "LARGE"]) * 1e9
)
stat = os.stat
os.stat = lambda path, **options: (
    SimpleNamespace(st_dev=-1) if path == os.environ["TEMPORARY"] else stat(path, **options)
)
"""


@pytest.mark.parametrize(
    ("large", "small", "expected"),
    [
        (1, 50, r"not enough disk for PyTorch: \d GB needed in .*, 1 GB free"),
        (50, 0.02, r"temporary files \(TMPDIR\): \d GB needed in /small, 0 GB free: .*TMPDIR=/"),
    ],
)
def test_room_for_torch_and_for_temporary_files(house, large, small, expected):
    script(house / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    (house / "sitecustomize.py").write_text(DISKS)
    disks = {"LARGE": f"{large}", "SMALL": f"{small}", "TEMPORARY": "/small"}
    done = make(house, "lab", PYTHONPATH=str(house), **disks, **OFFLINE)
    assert re.search(expected, complaint(done))


def test_a_disk_whose_name_has_spaces(house):
    """df's columns hold anything, so df is not asked."""
    script(
        house / "bin/df", "echo header; echo my data disk 1 900000000 100000000 800000000 12% /x"
    )
    quick_python(house)
    assert "package index cannot be reached" in complaint(make(house, "lab", **OFFLINE))


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
    answering_venv(house)
    line = complaint(make(house, "test", TORCH="1", PIP_SAYS=says, PIP_EXIT="1"))
    assert expected in line
    assert ".venv/install.log" in line
    assert says in (house / ".venv/install.log").read_text()
    assert not (house / ".venv/.test").exists()


def test_lab_opens_the_first_notebook_and_installs_once(house):
    answering_venv(house)
    settings = {"TORCH": "1", "PIP_SAYS": "fine", "PIP_EXIT": "0"}
    done = make(house, "lab", **settings)
    assert done.returncode == 0, done.stderr
    # first the learner's copy, then JupyterLab on it and on nothing else
    copied, opened = done.stdout.splitlines()[-2:]
    assert copied == "copied notebooks/edition.py my_notebooks"
    assert re.match(
        r"opened -m jupyterlab .*--ServerApp.root_dir=my_notebooks .*/lab/tree/00_start", opened
    )
    # a second call needs no pip, and a changed list of requirements does
    assert make(house, "lab", **{**settings, "PIP_EXIT": "1"}).returncode == 0
    os.utime(house / "pyproject.toml", (2**31, 2**31))
    assert make(house, "lab", **{**settings, "PIP_EXIT": "1"}).returncode != 0


# ------------------------------------------------------------------------------ others' folders


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def outside(house, tmp_path_factory) -> Path:
    """A folder beside the course, with a file of the user's in it; the course has a real Python."""
    script(house / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    folder = tmp_path_factory.mktemp("user") / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    return folder


def refused(house: Path, target: str, venv: str | Path) -> str:
    done = make(house, target, f"VENV={venv}", **OFFLINE)
    return complaint(done)


@pytest.mark.parametrize("target", ["lab", "test", "clean"])
def test_a_folder_of_the_users_is_left_alone(house, outside, target):
    before = snapshot(outside)
    line = refused(house, target, outside)
    assert str(outside) in line
    assert ("no virtual environment" if target != "clean" else "nothing in it was deleted") in line
    assert snapshot(outside) == before


@pytest.mark.parametrize("target", ["lab", "clean"])
@pytest.mark.parametrize("stamp", [None, ".test", ".lab"])
def test_a_virtual_environment_of_the_users_is_left_alone(house, outside, target, stamp):
    """Made by `uv venv` (no pip in it) or by hand, whatever else lies in it."""
    subprocess.run([REAL_PYTHON, "-m", "venv", "--without-pip", outside], check=True)
    if stamp:
        (outside / stamp).touch()
        os.utime(outside / stamp, (1, 1))
    before = snapshot(outside)
    line = refused(house, target, outside)
    assert ("make did not make" if target == "lab" else "was not made by make") in line
    assert snapshot(outside) == before


def test_an_environment_of_an_earlier_edition_is_used_but_not_removed(house):
    venv = answering_venv(house)
    (venv / ".medlab").unlink()
    (venv / ".lab").touch()
    (venv / "pyvenv.cfg").touch()
    os.utime(venv / ".lab", (1, 1))
    done = make(house, "lab", TORCH="1", PIP_SAYS="fine", PIP_EXIT="0")
    assert done.returncode == 0, done.stderr
    assert "was not made by make" in complaint(make(house, "clean"))
    assert (venv / "bin/python").exists()


def test_a_file_a_link_and_a_link_to_nowhere(house, outside):
    notes = outside / "notes.txt"
    assert "is a file" in refused(house, "lab", notes)
    assert "is a file" in refused(house, "clean", notes)
    link, lost = house / "link", house / "lost"
    link.symlink_to(outside)
    lost.symlink_to(house / "gone")
    for target in ("lab", "clean"):
        assert str(link) in refused(house, target, link)
        assert "leads nowhere" in refused(house, target, lost)
    assert link.is_symlink() and lost.is_symlink()
    assert notes.read_text() == "precious"


def test_a_link_to_an_environment_of_makes_own_is_not_removed(house):
    venv = answering_venv(house)
    (house / "link").symlink_to(venv)
    assert "is a link" in refused(house, "clean", house / "link")
    assert (venv / ".medlab").exists()


@pytest.mark.parametrize("target", ["lab", "clean"])
@pytest.mark.parametrize("venv", ["", ".", "..", "/", "./", "//", "notebooks", "~/env", "-f"])
def test_names_that_mean_something_else(house, outside, venv, target):
    (house / "notebooks/mine.ipynb").write_text("precious")
    if venv == "-f":
        (house / "-f").mkdir()
        (house / "-f/notes.txt").write_text("precious")
    before = snapshot(house)
    line = refused(house, target, venv)
    assert line.startswith("medlab: ")
    assert snapshot(house) == before


def test_the_course_inside_its_own_environment_is_not_removed(house, tmp_path_factory):
    venv = tmp_path_factory.mktemp("around")
    inner = venv / "lib" / "course"
    shutil.copytree(house, inner, symlinks=True)
    (venv / ".medlab").write_text(f"{inner.resolve()}\n")
    assert "holds the course itself" in refused(inner, "clean", venv)
    assert (inner / "Makefile").exists()


@pytest.mark.parametrize("name", [".venv", "my env", "deep/er/env", "env with 'quotes\" and ü"])
def test_an_environment_is_made_where_it_was_asked_for_and_removed_again(house, name):
    quick_python(house)
    place = house / "place"  # the index is out of reach, so the installation ends behind the venv
    place.mkdir()
    line = refused(house, "lab", place / name)
    assert "package index cannot be reached" in line
    assert (place / name / "pyvenv.cfg").exists()
    assert make(house, "clean", f"VENV={place / name}").returncode == 0
    assert not (place / name).exists()
    assert place.exists()


def test_a_course_in_a_folder_with_spaces(house, tmp_path_factory):
    course = tmp_path_factory.mktemp("my courses") / "deep learning (2026)"
    shutil.copytree(house, course, symlinks=True)
    venv = answering_venv(course)
    done = make(course, "lab", TORCH="1", PIP_SAYS="fine", PIP_EXIT="0")
    assert done.returncode == 0, done.stderr
    assert (venv / ".lab").exists()
    assert make(course, "clean").returncode == 0
    assert not venv.exists()
    assert (course / "pyproject.toml").exists()


def test_an_empty_folder_may_become_the_environment(house, outside):
    quick_python(house)
    (outside / "notes.txt").unlink()
    assert "package index cannot be reached" in refused(house, "lab", outside)
    assert (outside / "pyvenv.cfg").exists()


def test_a_half_made_environment_goes_and_a_half_filled_folder_stays(house, outside):
    """`venv` itself fails: a folder made in this run is removed, an older one is not."""
    fails = f'case "$*" in "-m venv "*) echo no luck >&2; exit 1;; esac; exec {REAL_PYTHON} "$@"'
    script(house / "bin/python3", fails)
    assert "could not make the virtual environment .venv: no luck" in complaint(make(house, "lab"))
    assert not (house / ".venv").exists()
    (outside / "notes.txt").unlink()
    assert "no luck" in refused(house, "lab", outside)
    assert outside.exists()


def test_an_own_environment_without_python_is_mended_in_place(house):
    quick_python(house)
    site = house / ".venv/lib/python3.12/site-packages"
    site.mkdir(parents=True)
    (site / "mine.py").write_text("precious")
    (house / ".venv/.medlab").write_text(f"{house.resolve()}\n")
    assert "package index cannot be reached" in complaint(make(house, "lab", **OFFLINE))
    assert (site / "mine.py").read_text() == "precious"
    assert (house / ".venv/bin/python").exists()


def test_files_that_somebody_put_into_the_environment_are_kept(house):
    venv = answering_venv(house)
    (venv / "notes.txt").write_text("precious")
    assert ".venv/notes.txt was not put there by make" in complaint(make(house, "clean"))
    assert (venv / "notes.txt").exists() and (venv / "bin/python").exists()


def test_clean_takes_caches_and_nothing_else(house):
    for name in (".pytest_cache/x", "tests/__pycache__/x", "mine/__pycache__/x", "build/x"):
        (house / name).parent.mkdir(parents=True)
        (house / name).write_text("")
    assert make(house, "clean").returncode == 0
    assert not (house / ".pytest_cache").exists()
    assert not (house / "tests/__pycache__").exists()
    assert (house / "mine/__pycache__/x").exists()
    assert (house / "build/x").exists(), "no command of make makes it"


def test_a_course_that_was_moved_or_shares_an_environment(house, outside):
    venv = answering_venv(house)
    (venv / ".medlab").write_text("/elsewhere/course\n")
    line = complaint(make(house, "lab"))
    assert "when the course stood in /elsewhere/course: run 'make clean'" in line
    assert make(house, "clean").returncode == 0
    assert not venv.exists()
    (outside / ".medlab").write_text("/elsewhere/course\n")
    assert "made for the course in /elsewhere/course" in refused(house, "lab", outside)
    assert "nothing in it was deleted" in refused(house, "clean", outside)
    assert (outside / "notes.txt").exists()


def test_a_place_that_cannot_be_written_to(house):
    script(house / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    # the reason's words differ between systems
    assert "cannot make the folder /dev/null/env: " in refused(house, "lab", "/dev/null/env")


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(house, outside):
    (outside / "notes.txt").unlink()
    outside.chmod(0o555)
    assert "cannot write into" in refused(house, "lab", outside)
    assert "Permission denied" in refused(house, "lab", outside / "env")


def test_pins_that_are_not_there(house):
    answering_venv(house)
    line = complaint(make(house, "lab", CONSTRAINTS="my pins.txt"))
    assert "no file of pins CONSTRAINTS=my pins.txt" in line
    assert "make lab CONSTRAINTS=" in line


def test_a_benchmark_that_fails_does_not_hide_the_others(house):
    venv = answering_venv(house)
    (venv / ".test").touch()
    for name, body in {"a": "import sys; sys.exit(3)", "b": "print('measured')"}.items():
        (house / f"benchmarks/{name}.py").write_text(body)
    script(venv / "bin/python", f'exec {REAL_PYTHON} "$@"')
    (venv / ".test").touch()
    done = make(house, "bench")
    assert complaint(done) == "medlab: did not run: benchmarks/a.py"
    assert "measured" in done.stdout


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
    assert pip == {"pip": ["-e .[lab,deploy]"]}
    own = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    asked = next(p for p in packages if p.startswith("pytorch-cpu"))
    assert Requirement(asked).specifier == own["torch"]


def test_the_newest_edition_of_the_changelog_is_this_one():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    editions = re.findall(r"^## \[([^]]+)\](.*)$", text, re.M)
    assert editions[0] == ("Unreleased", "")
    assert editions[1][0] == PROJECT["version"]
    assert all(re.fullmatch(r" - 20\d\d-[01]\d-[0-3]\d", date) for _, date in editions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= kinds


def test_types_travel_with_the_package():
    assert (ROOT / "medlab/py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]
    wheel = CONFIGURATION["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["medlab"]}, "everything in the folder, py.typed and data included"


def test_the_workflow_covers_what_the_metadata_promises():
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    linux, elsewhere = yaml.safe_load(text)["jobs"].values()
    prefix = "Programming Language :: Python :: 3."
    promised = {c.split(" :: ")[-1] for c in PROJECT["classifiers"] if c.startswith(prefix)}
    matrix = elsewhere["strategy"]["matrix"]
    assert set(matrix["python"]) == promised
    assert matrix["system"] == ["macos-latest", "windows-latest"]
    assert {row["python"] for row in linux["strategy"]["matrix"]["include"]} == promised
    assert any("make -k test" in step.get("run", "") for step in linux["steps"])


FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*_*.yml"))


def test_there_is_a_form_for_each_kind_of_report():
    assert [path.stem for path in FORMS] == ["does_not_run", "exercise_misjudged", "wrong_sentence"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_the_site_accepts(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "title", "labels", "body"} == set(form)
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    for field in form["body"]:
        assert field["type"] in {"input", "textarea", "dropdown"}
        assert field["attributes"]["label"]
        assert (field["type"] == "dropdown") == ("options" in field["attributes"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_hooks_before_a_commit_run_what_is_there():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    local = next(r for r in yaml.safe_load(text)["repos"] if r["repo"] == "local")
    tools = {hook["entry"].split()[2] for hook in local["hooks"]}
    assert tools == {"ruff", "mypy", "pytest"}
    assert tools <= {Requirement(t).name for t in PROJECT["optional-dependencies"]["test"]}
    for name in re.findall(r"tests/\w+\.py", text):
        assert (ROOT / name).exists()
    limit = int(re.search(r"--maxkb=(\d+)", text)[1])
    assert limit * 1000 == MAX_TRACKED


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


MAX_TRACKED = 3_000_000
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
    assert not [path.name for path in tracked() if path.stat().st_size > MAX_TRACKED]


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
        assert "".join(setup["source"]) == fork.setup_cell(NEW, f"v{PROJECT['version']}", path.name)
    moved = names(course)
    assert fork.main([NEW, "--root", str(course)]) == 0
    assert names(course) == moved
    assert "nothing to change" in capsys.readouterr().out
    assert fork.main([ADDRESS, "--root", str(course)]) == 0
    assert names(course) == before


def test_a_new_version_reaches_every_set_up_cell_and_nothing_else(course, capsys):
    before = names(course)
    path = course / "pyproject.toml"
    old, new = PROJECT["version"], "2027.1.0rc1"
    path.write_text(path.read_text().replace(f'version = "{old}"', f'version = "{new}"'))
    assert fork.main(["--root", str(course)]) == 0
    assert f"push the tag v{new}" in capsys.readouterr().out
    changed = {name for name, data in names(course).items() if data != before[name]}
    assert changed == {"pyproject.toml", *(f"notebooks/{path.name}" for path in NOTEBOOKS)}
    for path in (course / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        setup = next(cell for cell in cells if cell["cell_type"] == "code")
        assert "".join(setup["source"]) == fork.setup_cell(ADDRESS, f"v{new}", path.name)


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
