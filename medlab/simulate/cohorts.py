"""Named simulated cohorts: patients, sites and exposures around the physics of this package."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, read_facts
from medlab.simulate._rays import Beam, soften, splat
from medlab.simulate._streams import check_images, drawn, side_by_side, stream
from medlab.simulate._thorax import DRAWS, MORE_DRAWS, SIDES, build, water_path
from medlab.simulate.cerebral import BRAIN_MRI, brain_mri
from medlab.simulate.fluid import CSF_FLOW, csf_flow
from medlab.simulate.renal import KIDNEY_US, kidney_us
from medlab.simulate.screening import LUNG_CT, lung_ct
from medlab.simulate.xray import MU_WATER, film, slow

_FACTS = read_facts("simulate/chest_xray")
CHEST_XRAY = DataCard(**_FACTS["card"])
SITES: dict[str, dict[str, float]] = _FACTS["sites"]
"""How each hospital takes and shows its radiographs.

Shares: `share` of all patients, `prevalence` of pneumonia, `portable` exposures at the bedside,
`leads` for an ECG, `marker` L (the others have R). `photons` of an open-beam pixel, `blur` in mm
(standard deviation), `scatter` in ratio to the primary photons; `zoom` by which a picture shows
less than the usual field; the rest is for `xray.film`.
"""
_MANY: dict[str, dict] = _FACTS["many"]  # six hospitals
_WIDE: dict[str, dict] = _FACTS["wide"]  # ranges for hospitals, patients, images, pneumonias

HOSPITALS = 300  # of the wide variety
FIELD = 344.0  # mm, side of the detector area shown
CHUNK = 8  # images computed together: a few of them fit the processor's cache
MASK_MM = 4.0  # mm of water added along a ray from which the mask counts it as opacity
CHOICES = (
    "extent portable dose blur contrast equalise latitude letter letter_top letter_side wired "
    "wire_r_start wire_r_end wire_l_start wire_l_end"
).split()


def chest_xray(n: int = 2000, seed: int = 0, size: int = 64, variety: str = "usual") -> Cohort:
    """Chest radiographs of simulated patients with and without pneumonia.

    Each patient is a three-dimensional chest with 1 to 4 exposures that differ in breath, pose,
    dose and extent of a pneumonia. A smaller cohort is the beginning of a larger one.

    Args:
        n: images, ≥ 1; about 0.45 patients each.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 32 … 512, even, of a field of 344 mm. Photons are counted per pixel:
            a larger picture has had more dose.
        variety: "usual"; "many": six hospitals that lie further apart in dose, blur, scatter,
            display, field of view and prevalence; or "wide": 300 hospitals with all of these of
            their own; framing and collimation; patients from infancy on, with a child's
            proportions; lobar, patchy, perihilar and diffuse pneumonia (domain randomisation, for
            a network that is to meet real images: Tobin et al., arXiv:1703.06907).

    Returns:
        Cohort of uint8 images (n, 1, size, size): dense is bright, the patient's left is on the
        right. `masks`: 1 where the opacity adds more than 4 mm of water along the ray. `extras`:
        severity (air of the lungs replaced by fluid, 0 … 1), lungs (uint8 masks of the aerated
        lungs), dose (open-beam photons a pixel), portable, age (years), female, fat (mm), heart
        (size, 1 usual), breath (0 shallow … 1 deep), yaw (degrees). If many or wide, no
        `spacing`: each image has its own extra field (mm, side of the area shown). If wide, kind
        (of pneumonia, 0 … 3).

    Raises:
        DataError: n, seed or size out of range, or an unknown variety.
    """
    if variety not in ("usual", "many", "wide"):
        raise DataError(f"variety must be 'usual', 'many' or 'wide'; got {variety!r}")
    check_images(n, size, least=32)
    rows: list[_Exposure] = []
    while len(rows) < n:
        patient = rows[-1].patient + 1 if rows else 0
        rows += _exposures(seed, patient, variety)[: n - len(rows)]
    # Every chunk is full, the last one by repetition: a shorter vector may be rounded differently.
    filled = rows + _exposures(seed, rows[-1].patient, variety)[:1] * (-n % CHUNK)
    parts = side_by_side(lambda i: _radiographs(filled[i : i + CHUNK], size), range(0, n, CHUNK))
    merged: dict[str, Any] = {key: torch.cat([p[key] for p in parts])[:n] for key in parts[0]}
    return Cohort(
        images=merged.pop("image")[:, None],
        card=CHEST_XRAY if variety == "usual" else replace(CHEST_XRAY, **_FACTS[variety]["card"]),
        labels=torch.tensor([int(r.ill) for r in rows]),
        masks=merged.pop("mask"),
        patients=np.array([f"P{r.patient:05d}" for r in rows]),
        sites=np.array([r.site for r in rows]),
        spacing=None if "field" in merged else (FIELD / size, FIELD / size),
        extras=merged,
    )


# What is drawn for one image before anything is computed: two names, a truth, the numbers of its
# hospital, patient and moment, three rows of uniform numbers and the generator of the photons.
_Exposure = namedtuple("_Exposure", "patient site ill habits anatomy moment choices noise")


def _exposures(seed: int, patient: int, variety: str) -> list[_Exposure]:
    """All images of one patient: 1 to 4."""
    name, version = f"{CHEST_XRAY.name} {variety}".removesuffix(" usual"), CHEST_XRAY.version
    wide = variety == "wide"
    place = (name, version, seed, patient)
    rng = stream(*place)
    anatomy = rng.random(DRAWS[0] + MORE_DRAWS * wide)
    where, illness, often = rng.random(3)
    if wide:
        number = int(HOSPITALS * where)
        site = f"H{number:03d}"
        habits = drawn(stream(f"{name} hospitals", version, 0, number), _WIDE["hospital"])
        habits |= _patient(habits["children"], rng)
    else:
        sites = _MANY["sites"] if variety == "many" else SITES
        shares = np.cumsum([site["share"] for site in sites.values()])
        site = list(sites)[min(int(np.searchsorted(shares, where)), len(sites) - 1)]
        habits = {"mm": 1.0} | sites[site]
    ill = bool(illness < habits["prevalence"])
    rows = []
    for image in range(1 + int(np.searchsorted([0.35, 0.65, 0.87], often))):
        again = stream(*place, image)
        moment, choices = again.random(DRAWS[1]), again.random(len(CHOICES))
        now = habits | (drawn(again, _WIDE["image"]) if wide else {})
        rows.append(_Exposure(patient, site, ill, now, anatomy, moment, choices, again))
    return rows


def _patient(children: float, rng: np.random.Generator) -> dict[str, float]:
    """Age, proportions and kind of pneumonia; `mm` of a chest drawn as wide as an adult's."""
    child, old, kind = rng.random(3)
    age = 0.1 + 15.9 * old**2 if child < children else 16 + 74 * old
    facts = {"age": age, "mm": min(1.0, 0.47 + 0.53 * age / 20), "kind": int(4 * kind)}
    pneumonia = list(_WIDE["pneumonia"].values())[facts["kind"]]
    return facts | drawn(rng, _WIDE["patient"]) | drawn(rng, pneumonia)


def _radiographs(rows: list[_Exposure], size: int) -> dict[str, Tensor]:
    """Pictures, masks and facts of a chunk."""
    chosen = torch.from_numpy(np.stack([r.choices for r in rows])).float()
    u = {name: chosen[:, i] for i, name in enumerate(CHOICES)}
    of = {name: torch.tensor([float(r.habits[name]) for r in rows]) for name in rows[0].habits}
    wide = "age" in of
    extent = torch.tensor([float(r.ill) for r in rows]) * (0.8 + 0.5 * u["extent"])
    anatomy, moment = (np.stack([getattr(r, k) for r in rows]) for k in ("anatomy", "moment"))
    portable = u["portable"] < of["portable"]
    # At the bedside the tube stands in front: the same as a chest mirrored from front to back.
    thorax, facts = build(
        anatomy, moment, opacity=extent, mirrored=portable, variety=of if wide else None
    )
    fine = 2 if size <= 128 else 1
    source, distance = (torch.where(portable, *mm) for mm in ((1050.0, 1650.0), (1200.0, 1800.0)))
    zoom = of.get("zoom", torch.ones(len(rows)))
    beam = Beam(source, distance * zoom, FIELD / (size * fine), size * fine)
    path = water_path(thorax, beam)
    body = path["total"] * of["mm"].view(-1, 1, 1)
    primary = torch.exp(-MU_WATER * (body + _metal(u, of["leads"], of["marker"], beam)))
    mm = 1 / beam.pitch
    blur = of["blur"] * (0.85 + 0.3 * u["blur"])
    seen = soften(primary, blur * mm, widest=(5.0 if wide else 2.2) * mm)
    # Scatter leaves the body in all directions: the primary image, very blurred.
    ratio = of["scatter"] * (0.7 + 0.02 * facts["fat"])
    seen = seen + slow(primary, 30 * mm, step=8) * ratio[:, None, None]
    seen, lung, opacity = (
        functional.avg_pool2d(picture[:, None], fine)[:, 0]
        for picture in (seen, path["lung"], path["opacity"])
    )
    # Automatic exposure control holds the signal behind the middle of the chest nearly constant.
    middle = seen[:, size // 4 : -(size // 4), size // 4 : -(size // 4)].mean((1, 2))
    dose = of["photons"] * torch.exp(0.7 * (u["dose"] - 0.5)) * (0.08 / middle) ** 0.8
    mean = (seen * dose[:, None, None]).double().numpy()
    counts = np.stack([r.noise.poisson(m) for m, r in zip(mean, rows, strict=True)])
    image = film(
        torch.from_numpy(counts).float(),
        contrast=of["contrast"] * torch.exp(0.5 * (u["contrast"] - 0.5)),
        equalise=of["equalise"] + 0.2 * (u["equalise"] - 0.5),
        latitude=of["latitude"] + 0.06 * u["latitude"],
        width=60 * size / FIELD,
    )
    opacity, lit = opacity * of["mm"].view(-1, 1, 1), torch.tensor(True)
    if wide:
        # Outside the collimated beam the picture is black, white at a few hospitals.
        edge = torch.linspace(-1, 1, size)
        across, along = ((edge - of[k][:, None]).abs() < of["open"][:, None] for k in ("x", "y"))
        lit = across[:, None, :] & along[:, :, None]
        image = torch.where(lit, image, (of["outside"] > 0.8).byte().view(-1, 1, 1) * 255)
        facts["kind"] = of["kind"]
    if "zoom" in of:
        facts["field"] = FIELD * of["mm"] / zoom
    return {
        "image": image,
        "mask": (lit & (opacity > MASK_MM)).to(torch.uint8),
        "lungs": (lung > 20).to(torch.uint8),
        "severity": opacity.sum((1, 2)) / (lung.sum((1, 2)) * of["mm"] * (1 - thorax.lung)),
        "dose": dose,
        "portable": portable,
        **facts,
    }


def _metal(u: dict[str, Tensor], leads: Tensor, marker: Tensor, beam: Beam) -> Tensor:
    """(B, H, W) mm of water that stop as much as the side marker, on the detector, and ECG leads.

    L is at the patient's left, right of the picture. L or R is the site's habit, not the label's.
    """
    path = torch.zeros(len(beam.source), beam.size, beam.size)
    for letter, rows in _FACTS["letters"].items():
        glyph = torch.tensor([[float(c) for c in row] for row in rows])
        tall, wide = (max(4, round(4.2 / beam.pitch * s)) for s in glyph.shape)
        glyph = functional.interpolate(glyph[None, None], (tall, wide), mode="nearest")[0, 0]
        for i in ((u["letter"] < marker) == (letter == "L")).nonzero()[:, 0].tolist():
            top = int((6 + 22 * float(u["letter_top"][i])) / beam.pitch)
            side = int((8 + 16 * float(u["letter_side"][i])) / beam.pitch)
            left = beam.size - side - wide if letter == "L" else side
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
    """A named cohort: its maker, whose usual arguments are its defaults, and its card."""

    make: Callable[..., Cohort]
    card: DataCard


COHORTS = {
    BRAIN_MRI.name: Simulated(brain_mri, BRAIN_MRI),
    CHEST_XRAY.name: Simulated(chest_xray, CHEST_XRAY),
    KIDNEY_US.name: Simulated(kidney_us, KIDNEY_US),
    CSF_FLOW.name: Simulated(csf_flow, CSF_FLOW),
    LUNG_CT.name: Simulated(lung_ct, LUNG_CT),
}
