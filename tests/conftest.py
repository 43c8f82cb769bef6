"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from tests.where import REAL_DATA, WHY_NO_DATA

os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets, laid out as MEDLAB_DATA; the test is skipped where it is absent."""
    if REAL_DATA is None:
        pytest.skip(WHY_NO_DATA)
    return REAL_DATA


@pytest.fixture(autouse=True, scope="session")
def _threads():
    """One torch thread a worker when workers run side by side, else as many as there are cores."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        import torch

        torch.set_num_threads(1)


def _seed():
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_collectstart(collector):
    """What a module draws while it is imported does not depend on the modules before it."""
    if isinstance(collector, pytest.Module):
        _seed()


@pytest.fixture(autouse=True)
def _same_draws():
    """Nor does what a test draws depend on the tests that ran before it, or on its worker."""
    _seed()


@pytest.fixture(autouse=True)
def _one_line(request, monkeypatch):
    """What a check says stands in one line, so that a test finds a sentence wherever it wraps."""
    if request.module.__name__.rpartition(".")[2].startswith("test_exercises_"):
        monkeypatch.setattr("medlab.exercises._WIDTH", 10**6)
