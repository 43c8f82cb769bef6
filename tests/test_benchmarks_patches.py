"""Which windows `benchmarks/sim_to_real.py` cuts from simulated CT."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np

import medlab
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
