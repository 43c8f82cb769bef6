"""Mutated DICOM files: 1,000 in every test run, 20,000 with MEDLAB_ROBUSTNESS=full."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest

from tests import dicom_fuzz

FULL = os.environ.get("MEDLAB_ROBUSTNESS") == "full"


def test_mutations_are_the_same_every_time():
    first = [dicom_fuzz.mutant(case, 0)[1:] for case in range(60)]
    assert first == [dicom_fuzz.mutant(case, 0)[1:] for case in range(60)]
    assert len({kind for kind, _ in first}) == len(dicom_fuzz._MUTATIONS)
    assert first != [dicom_fuzz.mutant(case, 1)[1:] for case in range(60)]


@pytest.mark.parametrize("first", range(0, 20_000, 5_000) if FULL else range(0, 1_000, 500))
def test_damaged_files_give_an_image_or_one_named_error(first):
    readers = dicom_fuzz.READERS if FULL else ("medlab", "headers")
    outcomes = dicom_fuzz.run(5_000 if FULL else 500, 0, readers=readers, workers=1, first=first)
    if FULL:
        print("\n" + dicom_fuzz.table(outcomes))
    assert dicom_fuzz.faults(outcomes) == []
    verdicts = Counter(o.verdict for o in outcomes if o.reader == "medlab")
    assert verdicts["image"] > len(outcomes) / 40, "hardly any file is read: the test tests nothing"


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_bigendian.dcm", "CT_small.dcm"])
def test_the_oracle_sees_lost_pixels(tmp_path, name):
    from pydicom.data import get_testdata_file

    source = get_testdata_file(name, download=False)
    array, units = dicom_fuzz.read_ours(source)
    assert dicom_fuzz.pixels_lost(source, array, units) == ""
    assert "size" in dicom_fuzz.pixels_lost(source, array[:, :-1], units)
    changed = np.array(array)
    changed.flat[7] += 1
    assert "values differ" in dicom_fuzz.pixels_lost(source, changed, units)
