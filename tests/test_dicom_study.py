"""The command that writes a simulated study."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from data_scripts.simulated_study import chest_study, main
from medlab.dicom import read_series
from tests.where import ROOT

SMALL = ["--size", "64", "--slice-mm", "8"]


def test_the_study_reads_back_as_the_simulated_volume(tmp_path, capsys):
    assert main([str(tmp_path / "s"), "--number", "104", *SMALL]) == 0
    volume = read_series(tmp_path / "s")
    made, truth = chest_study(104, size=64, slice_mm=8)
    assert f"{len(made.voxels)} slices" in capsys.readouterr().out
    assert (volume.voxels - made.voxels).abs().max() <= 0.5
    assert torch.allclose(volume.affine, made.affine)
    assert volume.header.PatientID == "SIM-0104"
    assert json.loads((tmp_path / "s.json").read_text()) == truth
    assert len(truth["nodules"]) == truth["facts"]["count"] > 0
    largest = max(truth["nodules"], key=lambda nodule: nodule["diameter"])
    index = torch.linalg.inv(volume.affine) @ torch.tensor([*largest["centre"], 1.0]).double()
    k, i, j = index[:3].round().long().tolist()
    near = volume.voxels[k, i - 1 : i + 2, j - 1 : j + 2]
    assert near.max() > -500  # aerated lung has about −800
    names = [path.name for path in volume.files]
    assert names != sorted(names)


def test_it_looks_like_a_chest():
    volume, _ = chest_study(0, size=64, slice_mm=8)
    middle = volume.voxels[len(volume.voxels) // 2].numpy()
    assert middle[0, 0] == pytest.approx(-1000, abs=100)  # air round the patient
    lung = ((middle < -600) & (middle > -950)).mean()
    soft = ((middle > -150) & (middle < 150)).mean()
    assert lung > 0.08
    assert soft > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "4"], "even number from 64"),
        (["--slice-mm", "0"], "slice_mm must be positive"),
        (["--number", "-1"], "k must be a whole number"),
        (["--photons", "much"], "invalid float value"),
    ],
)
def test_wrong_options_are_named(tmp_path, capsys, options, message):
    try:
        status = main([str(tmp_path / "s"), *options])
    except SystemExit as end:
        status = end.code
    assert status != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    (tmp_path / "old.dcm").write_bytes(b"")
    assert main([str(tmp_path), *SMALL]) == 1
    assert "already holds DICOM files" in capsys.readouterr().err


def test_help_runs_from_anywhere(tmp_path):
    script = ROOT / "data_scripts" / "simulated_study.py"
    done = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "simulated chest CT" in done.stdout
