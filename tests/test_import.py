"""The first line of every notebook must not make the learner wait."""

import subprocess
import sys

import pytest

import medlab

SCRIPT = """
import torch, sys, time
before = set(sys.modules)
start = time.perf_counter()
import medlab
medlab.Cohort
new = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = {"matplotlib", "skimage", "sklearn", "pydicom", "nilearn", "ipywidgets", "pooch"}
print(sorted(new & heavy))
"""


def test_import_brings_none_of_the_heavy_libraries():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_that_medlab_promises_is_there():
    for name in medlab.__all__:
        assert getattr(medlab, name) is not None
    assert set(medlab.__all__) <= set(dir(medlab))
    with pytest.raises(AttributeError, match="medlab has no 'lode'"):
        medlab.lode
