"""The command that writes a simulated study."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from data_scripts.simulated_study import KERNELS, chest_study, main
from medlab.dicom import read_series
from medlab.simulate import ct
from tests.where import ROOT

SMALL = ["--slices", "20", "--size", "64", "--slice-mm", "14"]


def test_the_study_reads_back_as_the_simulated_volume(tmp_path, capsys):
    assert main([str(tmp_path / "s"), "--seed", "4", "--nodule", "36", *SMALL]) == 0
    assert "20 slices" in capsys.readouterr().out
    volume = read_series(tmp_path / "s")
    made, truth = chest_study(4, slices=20, size=64, slice_mm=14, nodule_mm=36)
    assert (volume.voxels - made.voxels).abs().max() <= 0.5
    assert torch.allclose(volume.affine, made.affine)
    assert volume.header.PatientID == "SIM-0004"
    assert json.loads((tmp_path / "s.json").read_text()) == truth
    index = torch.linalg.inv(volume.affine) @ torch.tensor([*truth["nodule_lps_mm"], 1.0]).double()
    k, i, j = index[:3].round().long().tolist()
    near = volume.voxels[k, i - 1 : i + 2, j - 1 : j + 2].mean()
    assert near == pytest.approx(30, abs=60)  # aerated lung has about −800
    names = [path.name for path in volume.files]
    assert names != sorted(names)


def test_it_looks_like_a_chest(tmp_path):
    volume, truth = chest_study(0, slices=20, size=64, slice_mm=14)
    assert truth["nodule_lps_mm"] is None
    middle = volume.voxels[10].numpy()
    assert np.isclose(middle[2, 2], -1000, atol=100)  # air round the patient
    lung = ((middle < -600) & (middle > -950)).mean()
    soft = ((middle > -150) & (middle < 150)).mean()
    assert lung > 0.08
    assert soft > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "4"], "at least 8"),
        (["--field", "0"], "must be positive"),
        (["--kernel", "magic"], "invalid choice"),
        (["--nodule", "90"], "nodule_mm from 0 to 40 mm"),
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


def test_every_kernel_is_offered():
    assert sorted(ct.KERNELS) == list(KERNELS)


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
