"""`python -m medlab predict`: its exit status, what it prints, and what it leaves on the disk."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medlab import __main__ as command
from medlab.deploy import StudyRefused, predict_study
from medlab.dicom import identifiers
from tests.deploy_studies import FILMS, LUNGS, WRONG, chest, film, model_file
from tests.dicom_files import uid

pytest.importorskip("highdicom", reason="needs highdicom")

PLANTED = "Xaverzwick"


@pytest.fixture
def ready(tmp_path):
    """A study, a model's file and a place for the result."""
    chest(tmp_path / "study")
    return [str(tmp_path / "study"), "--model", str(model_file(tmp_path))], tmp_path / "out"


def run(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "medlab", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def test_a_result_is_status_0(ready):
    given, out = ready
    done = run("predict", *given, "--out", out, "--series", 3)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("lung: ") and lines[0].endswith(" ml")
    assert lines[1].startswith("not verified: contrast agent")
    assert lines[-1] == "written: result.dcm and summary.html"
    assert sorted(path.name for path in out.iterdir()) == ["result.dcm", "summary.html"]


def test_a_refusal_is_status_1(ready, capsys):
    given, out = ready
    assert command.main(["predict", *given, "--out", str(out), "--series", "9"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("refused (series): expected ")
    assert len(said.err.splitlines()) == 1 and not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["predict"],
        ["predict", PLANTED],
        ["predict", "a", "--model", "b", "--out", "c", PLANTED],
        ["predict", "a", "--model", "b", "--out", "c", "--unknown", PLANTED],
        [PLANTED],
    ],
)
def test_wrong_usage_is_status_2_and_repeats_nothing(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "usage: python -m medlab" in said.err and PLANTED not in said.err + said.out


def test_a_mistake_in_the_program_tells_its_place_alone(ready, monkeypatch, capsys):
    given, out = ready

    def broken(*_: object) -> None:
        raise RuntimeError(f"of {PLANTED}")

    monkeypatch.setattr("medlab.deploy.run.page", broken)
    with pytest.raises(RuntimeError) as caught:
        command.main(["predict", *given, "--out", str(out)])
    command.unforeseen(RuntimeError, caught.value, caught.value.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("failed: RuntimeError in test_deploy_command.py, line ")
    assert PLANTED not in said and not out.exists()


def test_unforeseen_is_what_the_command_uses(tmp_path):
    """As a process of its own, with a model that makes the program fail."""
    chest(tmp_path / PLANTED)
    file = model_file(tmp_path)
    code = (
        "import sys, runpy; import medlab.deploy.run as r\n"
        "def broken(*a): raise KeyError(sys.argv)\n"
        "r.answer = broken; runpy.run_module('medlab', run_name='__main__', alter_sys=True)"
    )
    line = [sys.executable, "-c", code, "predict", tmp_path / PLANTED, "--model", file]
    done = subprocess.run([*line, "--out", tmp_path / "o"], capture_output=True, text=True)
    assert done.returncode == 1 and PLANTED not in done.stderr + done.stdout
    assert done.stderr.startswith("failed: KeyError in ")


# --- no identifier leaves but in the DICOM result ---


def planted(data: Dataset) -> list[str]:
    """Put the word, or a value that is as telling, where the profile says that patients are."""
    telling = [PLANTED]
    for found in identifiers(data):
        if "." in found.keyword or found.keyword not in data:
            continue
        element = data[found.keyword]
        if element.VR in ("PN", "LO", "SH", "LT", "ST", "UT", "AE", "UC"):
            element.value = PLANTED
    data.PatientName, data.PatientID = f"{PLANTED}^Ottilie", f"{PLANTED}-77"
    data.PatientBirthDate, data.StudyDate, data.StudyTime = "19410307", "20260911", "173305"
    data.AccessionNumber, data.StudyID = f"{PLANTED}A", f"{PLANTED}S"
    data.StudyDescription = data.SeriesDescription = data.ProtocolName = f"{PLANTED} chest"
    data.InstitutionName = data.ReferringPhysicianName = data.OperatorsName = PLANTED
    data.PatientComments = data.ImageComments = data.PatientAddress = PLANTED
    data.OtherPatientIDs, data.DeviceSerialNumber, data.StationName = PLANTED, PLANTED, PLANTED
    data.add_new((0x0009, 0x0010), "LO", PLANTED)
    data.add_new((0x0009, 0x1001), "LO", PLANTED)
    return [*telling, "Ottilie", "19410307", "1941", "20260911", "173305", uid("study")]


def plant(folder: Path) -> list[str]:
    words = [PLANTED]
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        try:
            data = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        words = [*planted(data), data.SeriesInstanceUID, data.SOPInstanceUID]
        data.save_as(path, enforce_file_format=True)
        path.rename(path.with_name(f"{PLANTED}_{path.name}"))
    return words


@pytest.mark.parametrize("about", [LUNGS, FILMS], ids=["volume", "radiograph"])
def test_only_the_dicom_result_names_the_patient(tmp_path, about, capfd, caplog):
    folder = tmp_path / PLANTED / f"{PLANTED} Ottilie 1941"
    if about is LUNGS:
        chest(folder)
    else:
        film(folder / "a.dcm")
    words, file = plant(folder), model_file(tmp_path, about)
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        out = folder.parent / f"{PLANTED}_out"
        status = command.main(["predict", str(folder), "--model", str(file), "--out", str(out)])
    said = capfd.readouterr()
    assert status == 0
    page = (out / "summary.html").read_text(encoding="utf-8")
    told = said.out + said.err + caplog.text + "".join(str(one.message) for one in warned) + page
    assert [word for word in words if word in told] == []
    result = pydicom.dcmread(out / "result.dcm")
    assert str(result.PatientName) == f"{PLANTED}^Ottilie" and result.PatientID == f"{PLANTED}-77"


@pytest.mark.parametrize("name", WRONG)
def test_no_refusal_names_the_patient(tmp_path, name, capfd, caplog):
    _, about, make = WRONG[name]
    folder = tmp_path / PLANTED / "Ottilie 1941"
    make(folder)
    words = plant(folder) if name not in ("truncated file", "two patients", "two studies") else []
    file = model_file(tmp_path, about)
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        out = folder.parent / "out"
        status = command.main(["predict", str(folder), "--model", str(file), "--out", str(out)])
    said = capfd.readouterr()
    assert status == 1 and said.out == "" and not out.exists()
    told = said.err + caplog.text + "".join(str(one.message) for one in warned)
    assert [word for word in (PLANTED, "Ottilie", "Doe", *words) if word in told] == []


# --- whole or not at all ---


@pytest.mark.parametrize("kind", ["file", "full", "link"])
def test_a_place_that_holds_something_is_left_alone(ready, tmp_path, kind):
    given, out = ready
    if kind == "file":
        out.write_text("mine")
    elif kind == "full":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyRefused, match=r"refused \(out\).*holds something"):
        predict_study(given[0], given[2], out)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_takes_the_result(ready):
    given, out = ready
    out.mkdir()
    predict_study(given[0], given[2], out)
    assert len(list(out.iterdir())) == 2


def test_where_no_folder_replaces_another_an_empty_one_takes_it_too(ready, monkeypatch):
    """As on Windows."""
    given, out = ready
    out.mkdir()
    real = os.replace

    def windows(old: Path, new: Path) -> None:
        if Path(new).is_dir():
            raise PermissionError(13, "Access is denied")
        real(old, new)

    monkeypatch.setattr(os, "replace", windows)
    predict_study(given[0], given[2], out)
    assert len(list(out.iterdir())) == 2


def test_a_place_filled_meanwhile_is_left_alone(ready, tmp_path, monkeypatch):
    given, out = ready
    from medlab.deploy import run as room

    def slow(*arguments: object) -> str:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        return "page"

    monkeypatch.setattr(room, "page", slow)
    with pytest.raises(StudyRefused, match=r"refused \(out\)") as caught:
        predict_study(given[0], given[2], out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_that_cannot_be_written_is_told(ready, tmp_path):
    given, _ = ready
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StudyRefused, match="can be written; came Permission denied"):
        predict_study(given[0], given[2], tmp_path / "locked" / "out")


def test_below_a_file_nothing_can_be_written(ready, tmp_path):
    given, _ = ready
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyRefused, match=r"refused \(out\)"):
        predict_study(given[0], given[2], tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing(ready, tmp_path, monkeypatch):
    given, out = ready
    real = Path.write_text

    def full(self: Path, *arguments: object, **options: object) -> int:
        if self.name == "summary.html":
            raise OSError(28, "No space left on device")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StudyRefused, match="came No space left on device"):
        predict_study(given[0], given[2], out)
    assert not out.exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_while_it_writes_it_leaves_no_result(ready, tmp_path):
    given, out = ready
    code = (
        "import sys, time; from pathlib import Path; import medlab.deploy.run as r\n"
        "real = Path.write_text\n"
        "def halt(self, *a, **k):\n"
        "    real(self, *a, **k); print('half', flush=True); time.sleep(60)\n"
        "Path.write_text = halt\n"
        "r.predict_study(*sys.argv[1:])"
    )
    line = [sys.executable, "-c", code, given[0], given[2], str(out)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    assert not out.exists()
    (left,) = tmp_path.glob(".out.*.part")
    assert (left / "result.dcm").exists()  # it was far on its way
    old = time.time() - 3600
    os.utime(left, (old, old))
    predict_study(given[0], given[2], out)  # and the next run takes it away
    assert not list(tmp_path.glob(".out.*")) and len(list(out.iterdir())) == 2


def test_a_result_in_its_study_does_not_spoil_the_next(ready):
    given, _ = ready
    folder = Path(given[0])
    first = predict_study(folder, given[2], folder / "out")
    again = predict_study(folder, given[2], folder / "out2")
    assert np.array_equal(first.mask, again.mask)
