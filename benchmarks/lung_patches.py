"""Patches of simulated chest CT around a nodule or around something like it.

What `sim_to_real.py nodules` learns from: the chests and nodules of the cohort `lung_ct`, each
patient scanned with a pixel, slice thickness, kernel and dose of its own, a third with contrast
medium. What is no nodule stands at vessels and where they divide, at surfaces, or anywhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from medlab.cohort import Cohort
from medlab.datasets import from_arrays
from medlab.simulate import screening
from medlab.simulate._lungs import NAMES, share
from medlab.simulate._streams import side_by_side, stream
from medlab.simulate._trees import Grid, cover

PATCH, MARGIN, PER_PATIENT = 50, 8, 16  # pixels, pixels around that are cut off, patches


def lung_patches(n: int = 3000, seed: int = 0) -> Cohort:
    """uint8 patches (n, 1, 50, 50), −1000 … 400 HU as 0 … 255; label 1: a nodule."""
    draw = partial(stream, "lung_patches", "2", seed)

    def cut(k: int) -> list[tuple[np.ndarray, int, str]]:
        rng = draw(k)
        patient = screening._patient(rng)
        scanner = {
            "photons": 10 ** rng.uniform(6.9, 8.5),
            "thickness": float(rng.choice([0.7, 1.0, 1.25, 2.0, 2.5, 3.0])),
            "sigma": rng.uniform(0.35, 0.75),
            "edge": max(0.0, rng.uniform(-0.6, 1.0)),
        }
        contrast = rng.uniform(60, 260) * (rng.random() < 0.35)
        body = patient.body._replace(blood=patient.body.blood + contrast)
        patient, pixel = patient._replace(body=body), rng.uniform(0.5, 0.9)
        streams = (draw(k, i) for i in range(min(PER_PATIENT, n - k * PER_PATIENT)))
        return [(*_patch(one, patient, pixel, scanner), f"P{k:05d}") for one in streams]

    parts = side_by_side(cut, range(-(-n // PER_PATIENT)))
    images, labels, patients = zip(*(row for part in parts for row in part), strict=True)
    return from_arrays(
        np.stack(images),
        labels=np.array(labels),
        patient=np.array(patients),
        classes=("other", "nodule"),
        name="lung_patches",
    )


def _patch(
    rng: np.random.Generator, patient: Any, pixel: float, scanner: dict[str, float]
) -> tuple[np.ndarray, int]:
    """A patch of the patient with a nodule of its own, or with none, and its label."""
    label, body, what = int(rng.random() < 0.4), patient.body, rng.random()
    nodules = [screening._nodule(rng, body, patient.facts)] if label else []
    if nodules:
        centre = nodules[0].centre + rng.uniform(-0.2, 0.2, 3) * min(nodules[0].diameter, 10)
    elif what < 0.6:  # where an artery divides, thick ones as often as thin ones
        size = np.exp(rng.uniform(np.log(3), np.log(1500)))
        alike = np.argsort(np.abs(np.log(body.arteries.supplied / size)))[:30]
        centre = body.arteries.end[int(rng.choice(alike))]
    else:  # at a surface, or anywhere
        edge = np.flatnonzero(body.depth < (7 if what < 0.92 else 200))
        centre = body.points[int(rng.choice(edge))] + rng.uniform(-3, 3, 3)
    side = PATCH + 2 * MARGIN
    right, back = centre[:2] - pixel * (side - 1) / 2 + rng.uniform(-1.5, 1.5, 2) * pixel
    grid, z = Grid(float(right), float(back), pixel, side), float(centre[2])
    heights = [z + part * scanner["thickness"] for part in (-0.25, 0.25)]
    seen = patient._replace(nodules=nodules)
    planes = [screening._paint(seen, grid, at, body.depths(*grid.axes(), at)) for at in heights]
    # What attenuates around so small a patch is taken as that of its middle.
    whole = screening.WHOLE
    depth = dict(zip(NAMES, body.depths(*whole.axes(), z), strict=True))
    density = share(depth["skin"], whole.step) - 0.83 * share(depth["lung"], whole.step)
    lines = screening.attenuation(density + 0.6 * cover(body.tubes["bone"], whole, z))
    column, row = np.rint((centre[:2] - (whole.x, whole.y)) / whole.step).astype(int)
    dose = scanner["photons"] * np.exp(0.5 * (lines.max((1, 2)).mean() - 4.5))
    lines = np.broadcast_to(lines[:, row, column, None, None], (len(lines), side, side))
    hu = screening.reconstruct(
        np.mean(planes, 0), lines, pixel, rng, **scanner | {"photons": dose}
    )[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return ((hu + 1000) / 1400 * 255).round().clip(0, 255).astype(np.uint8), label
