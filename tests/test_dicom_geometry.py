"""Where a series lies in the patient, as SimpleITK (GDCM and ITK) has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medlab.dicom import read_series
from tests.dicom_files import AXIAL, stack

FOUND = {
    "axial": AXIAL,
    "coronal": [1, 0, 0, 0, 0, -1],
    "sagittal": [0, 1, 0, 0, 0, -1],
    "feet first, prone": [-1, 0, 0, 0, -1, 0],
    "rows upside down": [1, 0, 0, 0, -1, 0],
    "oblique": [0.8, 0.6, 0.0, -0.36, 0.48, 0.8],
}


def by_simpleitk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("orientation", FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("step", [0.6, 2.5])
def test_a_series_lies_where_simpleitk_has_it(tmp_path, orientation, step):
    stack(
        tmp_path,
        orientation=orientation,
        step=step,
        depth=4,
        shape=(5, 7),
        spacing=(0.7, 0.9),
        origin=(-12.5, 30.25, 7.75),
    )
    volume, other = read_series(tmp_path), by_simpleitk(tmp_path)
    assert volume.spacing == pytest.approx(other.GetSpacing()[::-1], abs=1e-6)
    assert volume.origin == pytest.approx(other.GetOrigin(), abs=1e-6)
    columns = np.array(other.GetDirection()).reshape(3, 3).T[::-1]
    assert np.allclose(volume.direction, columns, atol=1e-6)
    for index in np.ndindex(tuple(volume.voxels.shape)):
        place = volume.affine @ torch.tensor([*index, 1.0], dtype=torch.float64)
        there = other.TransformPhysicalPointToIndex(place[:3].tolist())
        assert there == index[::-1]
        assert other[there] == volume.voxels[index]


def test_a_rescale_reads_as_simpleitk_reads_it(tmp_path):
    def rescaled(k, data):
        data.RescaleSlope, data.RescaleIntercept = 2.5, -1024

    stack(tmp_path, change=rescaled)
    voxels = sitk.GetArrayFromImage(by_simpleitk(tmp_path))
    assert np.array_equal(read_series(tmp_path).voxels.numpy(), voxels.astype(np.float32))
