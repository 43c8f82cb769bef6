"""What `benchmarks/sim_to_real.py` cuts from simulated CT and draws on simulated radiographs."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch

import medlab
from medlab.datasets import from_arrays
from tests.where import ROOT

SPEC = importlib.util.spec_from_file_location("sim_to_real", ROOT / "benchmarks" / "sim_to_real.py")
SIM = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = SIM  # its tuples look up their own annotations
SPEC.loader.exec_module(SIM)


def test_a_window_shows_a_nodule_or_keeps_away_from_all():
    found = SIM.patches(n=24, seed=1, root=None)
    made = medlab.simulate.COHORTS["lung_ct"].make(n=8, seed=1, size=512)
    assert found.images.shape[1:] == (1, 50, 50)
    assert set(found.patients) <= set(made.patients)
    assert int((found.labels == 1).sum()) == sum(map(len, made.boxes))
    assert 0 < int((found.labels == 0).sum()) <= 2 * len(made)
    grey = ((made.images.float() + 1000) / 1400 * 255).round().clip(0, 255)[:, 0].numpy()
    for window, label, patient in zip(found.images, found.labels, found.patients, strict=True):
        rows = np.flatnonzero(made.patients == patient)
        hits = []
        for i in rows:  # where in its patient's slices does this window come from?
            whole = np.lib.stride_tricks.sliding_window_view(np.pad(grey[i], 25), (50, 50))
            same = (whole[..., 25, 25] == float(window[0, 25, 25])) & (
                whole[..., 10, 30] == float(window[0, 10, 30])
            )
            places = [p for p in np.argwhere(same) if (whole[tuple(p)] == window[0].numpy()).all()]
            hits += [(i, *place) for place in places]
        assert len(hits) == 1
        i, top, left = hits[0]
        x0, y0, x1, y1 = made.boxes[i].T.numpy() if len(made.boxes[i]) else np.empty((4, 0))
        # Padding of 25 makes the corner of the window the pixel that is its centre.
        away = np.hypot((x0 + x1) / 2 - left, (y0 + y1) / 2 - top)
        assert (away < 7).any() if label else (away > 23).all()


def radiographs(n: int = 60):
    grey = np.random.default_rng(0).integers(0, 200, (n, 64, 64)).astype(np.uint8)
    return from_arrays(grey, labels=np.arange(n) % 2, patient=np.arange(n).astype(str), name="grey")


def test_devices_only_brighten_and_do_not_know_who_is_ill():
    plain = radiographs()
    found = SIM.equipped(plain, seed=3)
    assert (found.images >= plain.images).all()
    assert (found.labels == plain.labels).all()
    changed = (found.images != plain.images).flatten(1).any(1).float()
    none = np.prod([1 - share for share, _, _ in SIM.DEVICES])
    assert changed.mean() == pytest.approx(1 - none, abs=0.08)
    other = from_arrays(
        plain.images[:, 0].numpy(), labels=1 - plain.labels.numpy(), patient=plain.patients
    )
    assert (SIM.equipped(other, seed=3).images == found.images).all()
    assert (SIM.equipped(plain, seed=4).images != found.images).any()


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_a_device_lies_where_its_points_say(monkeypatch, mirrored):
    strokes = ((30.0, 1.0, 0.0, ((0.25, 0.5),)), (1.0, 1.0, 0.0, ((0.75, 0.0), (0.75, 1.0))))
    monkeypatch.setattr(SIM, "DEVICES", ((1.0, mirrored, strokes),))
    black = from_arrays(
        np.zeros((40, 64, 64), np.uint8),
        labels=np.arange(40) % 2,
        patient=np.arange(40).astype(str),
    )
    drawn = SIM.equipped(black, seed=0).images[:, 0].double() / 255
    plate, line = (drawn.flip(-1) if mirrored else drawn).split(32, dim=-1)
    assert line.sum((1, 2)).min() > 0
    assert not line[:, :, [*range(10), *range(22, 32)]].any()  # a thin line at x = 48 of 64
    row, column = (plate.sum((0, axis)) for axis in (2, 1))
    at = torch.arange(64) + 0.5
    assert float((row * at).sum() / row.sum()) == pytest.approx(32, abs=0.5)
    assert float((column * at[:32]).sum() / column.sum()) == pytest.approx(16, abs=0.5)
    # A disc of 30 mm, 0.7 to 1.3 times as large: 344 mm are 64 pixels.
    radius = (plate.amax((1, 2)).clamp_min(1e-6).reciprocal() * plate.sum((1, 2)) / np.pi).sqrt()
    assert (radius * 344 / 64 / 30).aminmax()[0] > 0.65
    assert (radius * 344 / 64 / 30).aminmax()[1] < 1.4


def test_own_grey_levels_are_those_of_the_middle():
    found = SIM.levelled(radiographs(4)).images[..., 8:-8, 8:-8].flatten(1)
    assert found.mean(1).numpy() == pytest.approx(0, abs=1e-5)
    assert found.std(1).numpy() == pytest.approx(1, abs=1e-5)


def test_networks_answer_together_by_their_mean():
    torch.manual_seed(0)
    models = [SIM.SmallCNN(1, 2, width=4).eval() for _ in range(3)]
    shown = radiographs(5)
    each = [SIM.over_shifts(model, shown) for model in models]
    assert SIM.together(models, shown).numpy() == pytest.approx(sum(each).numpy() / 3, abs=1e-6)
    assert SIM.starts(2, 1) == [2]
    assert len({start for seed in range(3) for start in SIM.starts(seed, 5)}) == 15


@pytest.mark.parametrize("size", [(16, 17), (16, 17, 18)])
def test_shifts_are_by_one_pixel_with_the_edge_repeated(size):
    torch.manual_seed(0)
    model = SIM.SmallCNN(width=4, dims=len(size)).eval()
    images = torch.rand(3, 1, *size)
    card = medlab.DataCard(name="toy", title="Toy", task="binary")
    data = medlab.Cohort(images=images, labels=torch.tensor([0, 1, 0]), card=card)
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), *[(1, 1)] * len(size)], mode="edge")
    moves = [(1,) * len(size)]
    for axis in range(len(size)):
        moves += [(*moves[0][:axis], start, *moves[0][axis + 1 :]) for start in (0, 2)]
    views = []
    for starts in moves:
        inside = (slice(start, start + n) for start, n in zip(starts, size, strict=True))
        views.append(torch.from_numpy(padded[:, :, *inside]))
    expected = torch.stack([medlab.predict(model, view) for view in views]).mean(0)
    assert torch.allclose(SIM.over_shifts(model, data), expected, atol=1e-6)
