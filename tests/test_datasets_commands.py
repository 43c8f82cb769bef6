"""The two commands that put data on disk."""

from __future__ import annotations

import importlib.util
import json
import runpy
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import medlab
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from tests.where import ROOT


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")
    monkeypatch.setenv("MEDLAB_MIRROR", "http://127.0.0.1:9")  # nobody listens there


def command(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "data_scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_simulated_cohort_goes_to_disk_and_back(tmp_path, capsys):
    out = tmp_path / "hospital"
    simulate = command("simulate_cohort")
    arguments = ["chest_xray", "--n", "9", "--seed", "3", "--size", "32", "--out", str(out)]
    assert simulate.main(arguments) == 0
    assert "9 images" in capsys.readouterr().out
    want = medlab.load("chest_xray", n=9, seed=3, size=32)
    got = medlab.from_folder(
        out / "images",
        labels=out / "labels.csv",
        patient="patient",
        classes=want.classes,
        **({"site": "site"} if want.sites is not None else {}),
    )
    assert torch.equal(got.images, want.images)
    assert torch.equal(got.labels, want.labels)
    assert got.patients.tolist() == want.patients.tolist()
    assert json.loads((out / "card.json").read_text())["name"] == "chest_xray"
    assert simulate.main(arguments) == 1
    assert "not empty" in capsys.readouterr().err


def test_every_kind_of_cohort_can_be_written(tmp_path):
    rng = np.random.default_rng(0)
    card = DataCard(name="x", title="x", task="multilabel", classes=("a", "b"))
    common = {
        "labels": torch.tensor([[0.0, 1.0], [1.0, 1.0]]),
        "patients": np.array(["p", "q"]),
        "official": np.array(["train", "test"]),
        "extras": {"age": np.array([3, 4])},
        "card": card,
    }
    hounsfield = Cohort(
        images=torch.from_numpy(rng.normal(0, 900, (2, 1, 6, 5)).astype(np.float32)),
        masks=torch.ones(2, 6, 5, dtype=torch.uint8),
        boxes=[torch.zeros(0, 4), torch.tensor([[1.0, 2.0, 3.0, 4.5]])],
        **common,
    )
    write = command("simulate_cohort").write
    write(hounsfield, tmp_path / "hu")
    back = medlab.from_folder(
        tmp_path / "hu" / "images",
        labels=tmp_path / "hu" / "labels.csv",
        label=["a", "b"],
        patient="patient",
    )
    assert torch.equal(back.images, hounsfield.images)
    assert torch.equal(back.labels, hounsfield.labels)
    mask = np.asarray(Image.open(tmp_path / "hu" / "masks" / "image_00000.png"))
    assert mask.tolist() == [[1] * 5] * 6
    assert (tmp_path / "hu" / "boxes.csv").read_text().splitlines()[1:] == [
        "image_00001.tif,1.0,2.0,3.0,4.5"
    ]
    assert "age" in (tmp_path / "hu" / "labels.csv").read_text()
    volume = Cohort(images=torch.zeros(2, 1, 4, 6, 5), **common)
    write(volume, tmp_path / "volume")
    assert np.load(tmp_path / "volume" / "images" / "image_00001.npy").shape == (1, 4, 6, 5)
    with pytest.raises(DataError, match="8-bit"):
        write(Cohort(images=torch.zeros(2, 3, 6, 5), **common), tmp_path / "colour")


def test_wrong_words(tmp_path, capsys):
    simulate, fetch = command("simulate_cohort"), command("fetch")
    out = str(tmp_path / "out")
    assert simulate.main(["pneumoniamnist", "--out", out]) == 1
    assert "no simulated cohort 'pneumoniamnist'" in capsys.readouterr().err
    assert simulate.main(["chest_xray", "--n", "6", "--out", out, "--option", "colour=3"]) == 1
    assert "no option 'colour'" in capsys.readouterr().err
    for numbers in (["--n", "0"], ["--n", "-3"], ["--size", "0"], ["--option", "n=0"]):
        assert simulate.main(["chest_xray", *numbers, "--out", out]) == 1  # 0 is no "not given"
        assert ("size" if "--size" in numbers else "n ") in capsys.readouterr().err
    (tmp_path / "file").write_text("taken")
    assert simulate.main(["chest_xray", "--n", "6", "--out", str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err
    assert fetch.main(["chest_xray", "pneumonia", "--root", out]) == 1
    error = capsys.readouterr().err
    assert "chest_xray is simulated" in error
    assert "there are brain_mri, chest_xray, kidney_us, " in error
    with pytest.raises(SystemExit):
        fetch.main([])


def test_fetch_lists_and_finds_what_is_there(tmp_path, capsys, real_data):
    fetch = command("fetch")
    assert fetch.main(["--list"]) == 0
    assert "organmnist3d" in capsys.readouterr().out
    assert fetch.main(["retinamnist", "--root", str(real_data)]) == 0
    assert "MB, CC BY 4.0" in capsys.readouterr().out
    assert fetch.main(["pneumoniamnist", "--root", str(real_data)]) == 1
    assert "28209eda" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fetch", "simulate_cohort"])
def test_they_run_as_commands(name, monkeypatch, capsys):
    path = ROOT / "data_scripts" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    assert f"python data_scripts/{name}.py" in capsys.readouterr().out
