"""Named simulated cohorts: patients, sites and exposures around the physics of this package."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.simulate._rays import Beam, soften, splat
from medlab.simulate._streams import side_by_side, stream
from medlab.simulate._thorax import DRAWS_PER_IMAGE, DRAWS_PER_PATIENT, SIDES, build, water_path
from medlab.simulate.xray import MU_WATER, count, film, scatter

_FACTS = json.loads((files("medlab.simulate") / "chest_xray.json").read_text(encoding="utf-8"))
_CARD: dict[str, Any] = {
    key: tuple(value) if isinstance(value, list) else value for key, value in _FACTS["card"].items()
}
CHEST_XRAY = DataCard(**_CARD)
SITES: dict[str, dict[str, float]] = _FACTS["sites"]
"""How each hospital takes and shows its radiographs.

share: of the patients; prevalence: share of its patients with pneumonia; photons: mean count of an
open-beam pixel; blur: standard deviation of the detector's response, mm; scatter: scatter-to-
primary ratio behind the grid; contrast, equalise, latitude: see `_detector.film`; portable: share
of bedside exposures, from the front and near; leads: share of images with ECG leads; marker: share
with the letter L at the patient's left, the others have R at the patient's right.
"""

FIELD = 344.0  # mm, side of the detector area shown
CHUNK = 8  # images computed together: a few of them fit the processor's cache
MASK_MM = 4.0  # mm of water added along a ray from which the mask counts it as opacity
CHOICES = (
    "extent portable dose blur contrast equalise latitude letter letter_top letter_side wired "
    "wire_r_start wire_r_end wire_l_start wire_l_end"
).split()


def chest_xray(n: int = 2000, seed: int = 0, size: int = 64) -> Cohort:
    """Chest radiographs of simulated patients with and without pneumonia.

    Each patient is a three-dimensional chest with 1 to 4 exposures that differ in breath, pose,
    dose and, when ill, extent of the pneumonia. Patient k depends on (seed, k) alone, so a smaller
    cohort is the beginning of a larger one.

    Args:
        n: images, ≥ 1; about 0.45 patients each.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 32 … 512, even; the field is 344 mm at the detector at any size. The
            photon count is per pixel, so a larger picture has had more dose.

    Returns:
        Cohort of uint8 images (n, 1, size, size): dense is bright, the patient's left is on the
        right. `masks`: 1 where the opacity adds more than 4 mm of water along the ray. `extras`:
        severity (air of the lungs replaced by fluid, 0 … 1), lungs (uint8 masks of the aerated
        lungs), dose (open-beam photons a pixel), portable, age (years), female, fat (mm), heart
        (size, 1 usual), breath (0 shallow … 1 deep), yaw (degrees).

    Raises:
        DataError: n, seed or size out of range.
    """
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"n is the number of images and must be a whole number ≥ 1; got {n!r}")
    if not isinstance(size, Integral) or not 32 <= size <= 512 or size % 2:
        raise DataError(f"size is the side in pixels, an even number from 32 to 512; got {size!r}")
    rows: list[_Exposure] = []
    while len(rows) < n:
        patient = rows[-1].patient + 1 if rows else 0
        rows += _exposures(seed, patient)[: n - len(rows)]
    # Every chunk is full, the last one by repetition: arithmetic on a shorter vector may round
    # differently, and an image must not depend on how many others there are.
    filled = rows + _exposures(seed, rows[-1].patient)[:1] * (-n % CHUNK)
    parts = side_by_side(lambda i: _radiographs(filled[i : i + CHUNK], size), range(0, n, CHUNK))
    merged = {key: torch.cat([p[key] for p in parts])[:n] for key in parts[0]}
    return Cohort(
        images=merged.pop("image")[:, None],
        card=CHEST_XRAY,
        labels=torch.tensor([int(r.ill) for r in rows]),
        masks=merged.pop("mask"),
        patients=np.array([f"P{r.patient:05d}" for r in rows]),
        sites=np.array([r.site for r in rows]),
        spacing=(FIELD / size, FIELD / size),
        extras=merged,
    )


class _Exposure(NamedTuple):
    """What is drawn for one image before anything is computed; all numbers uniform in [0, 1)."""

    patient: int
    site: str
    ill: bool
    anatomy: np.ndarray
    moment: np.ndarray
    choices: np.ndarray
    noise: np.random.Generator


def _exposures(seed: int, patient: int) -> list[_Exposure]:
    """All images of one patient: 1 to 4."""
    place = (CHEST_XRAY.name, CHEST_XRAY.version, seed, patient)
    rng = stream(*place)
    anatomy = rng.random(DRAWS_PER_PATIENT)
    where, illness, often = rng.random(3)
    shares = np.cumsum([site["share"] for site in SITES.values()])
    site = list(SITES)[min(int(np.searchsorted(shares, where)), len(SITES) - 1)]
    ill = bool(illness < SITES[site]["prevalence"])
    rows = []
    for image in range(1 + int(np.searchsorted([0.35, 0.65, 0.87], often))):
        again = stream(*place, image)
        moment, choices = again.random(DRAWS_PER_IMAGE), again.random(len(CHOICES))
        rows.append(_Exposure(patient, site, ill, anatomy, moment, choices, again))
    return rows


def _radiographs(rows: list[_Exposure], size: int) -> dict[str, Tensor]:
    """Pictures, masks and facts of a chunk, each with len(rows) entries."""
    chosen = torch.from_numpy(np.stack([r.choices for r in rows])).float()
    u = {name: chosen[:, i] for i, name in enumerate(CHOICES)}
    of = {name: torch.tensor([SITES[r.site][name] for r in rows]) for name in SITES["North"]}
    extent = torch.tensor([float(r.ill) for r in rows]) * (0.8 + 0.5 * u["extent"])
    anatomy, moment = (np.stack([getattr(r, k) for r in rows]) for k in ("anatomy", "moment"))
    portable = u["portable"] < of["portable"]
    # At the bedside the tube stands in front: the same as a chest mirrored from front to back.
    thorax, facts = build(anatomy, moment, opacity=extent, mirrored=portable)
    fine = 2 if size <= 128 else 1
    source, distance = (torch.where(portable, *mm) for mm in ((1050.0, 1650.0), (1200.0, 1800.0)))
    beam = Beam(source, distance, FIELD / (size * fine), size * fine, size * fine)
    path = water_path(thorax, beam)
    primary = torch.exp(-MU_WATER * (path["total"] + _metal(u, of["leads"], of["marker"], beam)))
    mm = 1 / beam.pitch
    blur = of["blur"] * (0.85 + 0.3 * u["blur"])
    ratio = of["scatter"] * (0.7 + 0.02 * facts["fat"])
    seen = soften(primary, blur * mm, widest=2.2 * mm)
    seen = seen + scatter(primary, ratio=ratio, width=30 * mm)
    seen, lung, opacity = (
        functional.avg_pool2d(picture[:, None], fine)[:, 0]
        for picture in (seen, path["lung"], path["opacity"])
    )
    # Automatic exposure control holds the signal behind the middle of the chest nearly constant.
    middle = seen[:, size // 4 : -(size // 4), size // 4 : -(size // 4)].mean((1, 2))
    dose = of["photons"] * torch.exp(0.7 * (u["dose"] - 0.5)) * (0.08 / middle) ** 0.8
    mean = seen * dose[:, None, None]
    image = film(
        torch.stack([count(m, r.noise) for m, r in zip(mean, rows, strict=True)]),
        contrast=of["contrast"] * torch.exp(0.5 * (u["contrast"] - 0.5)),
        equalise=of["equalise"] + 0.2 * (u["equalise"] - 0.5),
        latitude=of["latitude"] + 0.06 * u["latitude"],
        width=60 * size / FIELD,
    )
    return {
        "image": image,
        "mask": (opacity > MASK_MM).to(torch.uint8),
        "lungs": (lung > 20).to(torch.uint8),
        "severity": opacity.sum((1, 2)) / (lung.sum((1, 2)) * (1 - thorax.lung)),
        "dose": dose,
        "portable": portable,
        **facts,
    }


def _metal(u: dict[str, Tensor], leads: Tensor, marker: Tensor, beam: Beam) -> Tensor:
    """(B, H, W) millimetres of water that the side marker and ECG leads stop like.

    The letter lies on the detector, near an upper corner: L at the patient's left, right of the
    picture. Which of the two is used is the site's habit and has nothing to do with the label.
    """
    path = torch.zeros(len(beam.source), beam.height, beam.width)
    for letter, rows in _FACTS["letters"].items():
        glyph = torch.tensor([[float(c) for c in row] for row in rows])
        tall, wide = (max(4, round(4.2 / beam.pitch * s)) for s in glyph.shape)
        glyph = functional.interpolate(glyph[None, None], (tall, wide), mode="nearest")[0, 0]
        for i in ((u["letter"] < marker) == (letter == "L")).nonzero()[:, 0].tolist():
            top = int((6 + 22 * float(u["letter_top"][i])) / beam.pitch)
            side = int((8 + 16 * float(u["letter_side"][i])) / beam.pitch)
            left = beam.width - side - wide if letter == "L" else side
            path[i, top : top + tall, left : left + wide] = 110 * glyph
    # Two wires hang over the chest from electrodes near the shoulders.
    t = torch.linspace(0, 1, 240)
    wires = torch.zeros_like(path)
    for letter, sign in SIDES:
        start, end = u[f"wire_{letter}_start"][:, None], u[f"wire_{letter}_end"][:, None]
        x = sign * (70 + 40 * start) * (1 - t) + (120 * end - 40) * t
        z = (95 + 30 * start) * (1 - t) - 175 * t - 25 * torch.sin(torch.pi * t) * (end - 0.3)
        wire = torch.full_like(x, 1.6 * 330 / 240)
        wire[:, :6] = 45.0
        points = torch.stack([x, torch.full_like(x, -125.0), z], -1)
        wires += splat(beam, points, 14 * wire * (u["wired"] < leads)[:, None])
    sigma = 1.3 / beam.pitch
    return path + soften(wires, torch.full((len(path),), sigma), widest=sigma)


class Simulated(NamedTuple):
    """A named simulated cohort: its maker, what bytes it makes, and the maker's usual arguments.

    `version` changes whenever the bytes change.
    """

    make: Callable[..., Cohort]
    version: str
    defaults: dict[str, int]
    card: DataCard


_USUAL = {"n": 2000, "seed": 0, "size": 64}
COHORTS = {CHEST_XRAY.name: Simulated(chest_xray, CHEST_XRAY.version, _USUAL, CHEST_XRAY)}
