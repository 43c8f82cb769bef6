"""What `benchmarks/cardiac_cine.py` scores and what its rules call, on hearts made by hand."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from tests.where import ROOT

SPEC = importlib.util.spec_from_file_location("cine", ROOT / "benchmarks" / "cardiac_cine.py")
CINE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(CINE)


def hearts(frames: int = 20, n: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bright discs that are smallest in one frame and largest half a cycle from it."""
    rng = np.random.default_rng(0)
    systole = torch.from_numpy(rng.integers(0, frames, n))
    y, x = torch.meshgrid(*[torch.arange(96.0) - 47.5] * 2, indexing="ij")
    away = (torch.arange(frames)[None] - systole[:, None]) * 2 * np.pi / frames
    radius = 14 - 5 * away.cos()
    discs = ((x**2 + y**2).sqrt() < radius[..., None, None]).float()
    noise = torch.from_numpy(rng.normal(0, 5, discs.shape)).float()
    return (100 + 200 * discs + noise)[:, None], systole, (systole + frames // 2) % frames


def test_both_rules_call_the_smallest_disc():
    cines, systole, diastole = hearts()
    assert (CINE.off(CINE.smallest_pool(cines), systole, 20) <= 1).all()
    assert (CINE.off(CINE.least_like(cines, diastole), systole, 20) <= 1).all()


def test_rolled_cines_begin_with_their_start_and_name_the_same_frame():
    cines, moments = torch.rand(5, 1, 7, 4, 4), torch.tensor([0, 6, 3, 2, 5])
    starts = torch.tensor([0, 3, 6, 2, 6])
    moved, named = CINE.rolled(cines, moments, starts)
    for k in range(5):
        assert torch.equal(moved[k, :, 0], cines[k, :, starts[k]])
        assert torch.equal(moved[k], cines[k].roll(-int(starts[k]), 1))
        assert torch.equal(moved[k, :, named[k]], cines[k, :, moments[k]])


@pytest.mark.parametrize(
    ("called", "true", "gap"), [(0, 19, 1), (19, 0, 1), (3, 13, 10), (5, 5, 0)]
)
def test_distance_goes_the_short_way_round(called, true, gap):
    assert CINE.off(torch.tensor([called]), torch.tensor([true]), 20).item() == gap


def test_every_cine_is_shown_with_mean_0_and_spread_1():
    small = CINE.shrunk(hearts()[0])
    assert small.shape == (6, 1, 20, 32, 32)
    assert small.mean((1, 2, 3, 4)).abs().max() < 1e-4
    assert small.flatten(1).std(1) == pytest.approx(torch.ones(6), abs=1e-3)
