"""Low-dose CT of screening participants: nodules, the odds that one is malignant, the scanner."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.simulate import _lungs as lungs
from medlab.simulate._lungs import FACTS, Body, spread
from medlab.simulate._streams import side_by_side, stream
from medlab.simulate._trees import Grid, Pieces, cover
from medlab.simulate.xray import MU_WATER

LUNG_CT = DataCard(**FACTS["card"])
LUNG_PATCHES = DataCard(**FACTS["patches"])
SITES: dict[str, dict[str, float]] = FACTS["sites"]
"""How each hospital scans: `photons` per mm² of detector and millimetre of slice over all views,
slice `thickness` (mm), and the kernel: blur `sigma` (mm) and `edge` enhancement, see `kernel`."""

FIELD = 320.0  # mm, side of a slice
VISIBLE = 12.0  # mm², smallest cut of a nodule that is marked
MOST = 6  # nodules of a patient
WHOLE = Grid(-240.0, -240.0, 4.0, 121)  # the body with its shoulders, for what attenuates
SECTORS = 8  # directions in which the noise is told apart
PATCH, MARGIN, PER_PATIENT = 50, 10, 12


class Nodule(NamedTuple):
    """Centre (3,) and diameter, its longest, mm; kind 0 solid, 1 part-solid, 2 ground-glass.

    `axes` (3, 3): rows are the directions, divided by the half axes relative to half the diameter.
    `furrows` (4, 4) wave vectors and phases, `lobed` their depth; `hu` of what is solid; `core`
    radius of that in shares of the nodule's.
    """

    centre: np.ndarray
    diameter: float
    kind: int
    axes: np.ndarray
    furrows: np.ndarray
    lobed: float
    hu: float
    core: float
    spicules: Pieces | None
    calcified: bool
    upper: bool
    brock: float
    malignant: bool

    def depth(self, x: np.ndarray, y: np.ndarray, z: float, part: float = 1.0) -> np.ndarray:
        """Distance inside the surface of the nodule (of its core: `part`), mm, at points."""
        d = (x - self.centre[0], y - self.centre[1], z - self.centre[2])
        local = [sum(a * v for a, v in zip(row, d, strict=True)) for row in self.axes]
        radius = np.sqrt(sum(v * v for v in local)) + 1e-6
        wave = 0.0
        if self.lobed:
            wave = sum(
                0.5 + 0.5 * np.cos(sum(k * v / radius for k, v in zip(w, local, strict=False)) + w[3])
                for w in self.furrows
            ) / len(self.furrows)
        return 0.5 * self.diameter * part * (1 - self.lobed * wave) - radius


def brock(
    diameter: ArrayLike,
    kind: ArrayLike,
    *,
    spiculated: ArrayLike,
    upper: ArrayLike,
    age: float,
    female: bool,
    family: bool,
    emphysema: bool,
    count: int,
) -> np.ndarray:
    """Probability that a nodule is a cancer: the full Brock (PanCan) model with spiculation.

    Args:
        diameter: longest diameter, mm, > 0.
        kind: 0 solid, 1 part-solid, 2 ground-glass.
        spiculated: 0 or 1; `upper`: 1 in an upper lobe.
        age: years; `female`, `family` history of lung cancer, `emphysema` on the scan: 0 or 1.
        count: nodules of this patient.

    Source: McWilliams et al., N Engl J Med 369:910 (2013), full model 2b.
    """
    b, d, kind = FACTS["brock"], np.asarray(diameter, float), np.asarray(kind)
    if (d <= 0).any():
        raise DataError(f"diameter is in mm and must be positive; got {d.min():g}")
    x = b["intercept"] + b["age"] * (age - 62) + b["female"] * female + b["family"] * family
    x = x + b["emphysema"] * emphysema + b["count"] * (count - 4)
    x = x + b["size"] * ((d / 10) ** -0.5 - 0.4**-0.5)
    x = x + b["part_solid"] * (kind == 1) + b["non_solid"] * (kind == 2)
    x = x + b["upper"] * np.asarray(upper) + b["spiculated"] * np.asarray(spiculated)
    return 1 / (1 + np.exp(-x))


def kernel(frequency: np.ndarray, sigma: float, edge: float) -> np.ndarray:
    """Transfer of a reconstruction kernel at spatial frequencies, 1/mm: blur and enhanced edges."""
    blur = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    return blur * (1 + edge * (frequency / 0.35) ** 2)


def noise_power(
    frequency: np.ndarray, *, photons: float, thickness: float, sigma: float, edge: float
) -> np.ndarray:
    """Noise-power spectrum of filtered back-projection, HU² mm², behind nothing but air.

    π f G(f)² / (photons · thickness); behind a body the photons are fewer by exp(−∫μ ds).

    Source: Riederer, Pelc & Chesler, Phys Med Biol 23:446 (1978).
    """
    power = np.pi * frequency * kernel(frequency, sigma, edge) ** 2 / (photons * thickness)
    return power * (1000 / MU_WATER) ** 2


def attenuation(whole: np.ndarray, grid: Grid) -> np.ndarray:
    """(K, H, W) ∫μ ds of the rays through each pixel of `grid` in each of K directions.

    Args:
        whole: density relative to water at the pixels of `WHOLE`.
    """
    found = []
    x, y = WHOLE.axes()
    u, v = grid.axes()
    for angle in np.pi * (np.arange(SECTORS)) / SECTORS:
        c, s = np.cos(angle), np.sin(angle)
        at = (x * c + y * s) / WHOLE.step + 100
        low = at.astype(int)
        rays = np.zeros(202)
        for k, part in ((0, 1 - (at - low)), (1, at - low)):
            rays += np.bincount((low + k).ravel(), (whole * part).ravel(), minlength=202)
        rays = np.convolve(rays, [0.25, 0.5, 0.25], "same") * WHOLE.step * MU_WATER
        found.append(np.interp((u * c + v * s) / WHOLE.step + 100, np.arange(202), rays))
    return np.stack(found)


def reconstruct(
    plane: np.ndarray,
    lines: np.ndarray,
    step: float,
    rng: np.random.Generator,
    *,
    photons: float,
    thickness: float,
    sigma: float,
    edge: float,
) -> np.ndarray:
    """What filtered back-projection makes of a plane (H, W) HU: blurred, and with noise.

    The noise in each direction has the theoretical spectrum and the variance of the rays `lines`
    (K, H, W), ∫μ ds, that run across that direction: streaks behind shoulders.
    """
    from scipy import fft

    wide = 8
    plane = np.pad(plane, wide, mode="edge")
    lines = np.pad(lines, ((0, 0), (wide, wide), (wide, wide)), mode="edge")
    fy, fx = fft.fftfreq(plane.shape[0], step)[:, None], fft.rfftfreq(plane.shape[1], step)[None]
    f = np.hypot(fx, fy)
    image = fft.rfft2(plane) * kernel(f, sigma, edge)
    power = noise_power(f, photons=photons, thickness=thickness, sigma=sigma, edge=edge)
    white = rng.standard_normal(plane.shape)
    angle = np.mod(np.arctan2(fy, fx), np.pi) * SECTORS / np.pi
    noise = np.zeros_like(image)
    for k, line in enumerate(lines):
        away = np.abs(angle - k)
        part = (1 - np.minimum(away, SECTORS - away)).clip(0)
        noise += part * fft.rfft2(white * np.exp(0.5 * line))
    image += noise * np.sqrt(power) / step
    return fft.irfft2(image, plane.shape)[wide:-wide, wide:-wide]


class _Patient(NamedTuple):
    """Facts, chest and nodules; `spread_of` emphysema is its extent, 0 … 0.5."""

    facts: dict[str, float]
    body: Body
    nodules: list[Nodule]


def _patient(rng: np.random.Generator) -> _Patient:
    age, female, family = rng.uniform(50, 80), rng.random() < 0.45, rng.random() < 0.2
    destroyed = max(0.0, rng.normal(0.02, 0.12))
    count = int(min(MOST, rng.poisson(0.45 + rng.gamma(1.5, 0.9))))
    body = lungs.build(rng, female=female, age=age, emphysema=destroyed)
    facts = {
        "age": age,
        "female": float(female),
        "family": float(family),
        "emphysema": float(destroyed > 0.03),
        "count": float(count),
    }
    nodules: list[Nodule] = []
    for _ in range(count):
        nodules.append(_nodule(rng, body, facts, [n.centre for n in nodules]))
    return _Patient(facts, body, nodules)


def _nodule(
    rng: np.random.Generator, body: Body, facts: dict, others: Sequence[np.ndarray] = ()
) -> Nodule:
    """A nodule at a place of its own in aerated lung."""
    kind = int(np.searchsorted([0.72, 0.82], rng.random()))
    diameter = float(np.clip((1.0, 1.6, 1.5)[kind] * rng.lognormal(np.log(6.0), 0.5), 3, 30))
    place = ("free", "pleura", "vessel", "fissure")[
        int(np.searchsorted([0.5, 0.75, 0.92], rng.random()))
    ]
    if place == "fissure" and (kind or diameter > 9):
        place = "free"
    spiculated = kind < 2 and rng.random() < min(0.6, 1 / (1 + np.exp(4.3 - 0.2 * diameter)))
    calcified = kind == 0 and not spiculated and diameter < 15 and rng.random() < 0.12
    r = diameter / 2
    for _ in range(200):
        centre, lobe = _place(rng, body, place, r)
        if all(np.linalg.norm(centre - o) > 35 for o in others):
            break
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    flat = rng.uniform(0.72, 1.0, 2)
    if place == "fissure":
        axes, flat = np.array([[1.0, 0, 0], [0, 0.73, 0.68], [0, -0.68, 0.73]]), np.array([0.8, 0.5])
    axes = axes / np.array([1.0, *flat])[:, None]
    furrows = np.column_stack([rng.normal(0, 2.2, (4, 3)), rng.uniform(0, 6.3, 4)])
    lobed = 0.35 if spiculated else float(rng.choice([0.0, 0.1, 0.4], p=[0.35, 0.35, 0.3]))
    upper = lobe in (0, 3)
    odds = float(
        brock(diameter, kind, spiculated=spiculated, upper=upper, **facts) * (not calcified)
    )
    return Nodule(
        centre=centre,
        diameter=diameter,
        kind=kind,
        axes=axes,
        furrows=furrows,
        lobed=lobed,
        hu=rng.uniform(250, 900) if calcified else rng.uniform(10, 65),
        core=rng.uniform(0.35, 0.75) if kind == 1 else 1.0,
        spicules=_spicules(rng, centre, r) if spiculated else None,
        calcified=calcified,
        upper=upper,
        brock=odds,
        malignant=bool(rng.random() < odds),
    )


def _place(
    rng: np.random.Generator, body: Body, place: str, r: float
) -> tuple[np.ndarray, int]:
    """A centre, and the lobe in which it lies, for a nodule of radius r (mm)."""
    if place == "vessel":
        branches = body.arteries["rl"[int(rng.integers(2))]]
        thick = np.flatnonzero((branches.supplied > 8) & (branches.supplied < 300))
        i = int(rng.choice(thick))
        aside = rng.standard_normal(3)
        centre = branches.end[i] + aside / np.linalg.norm(aside) * (0.8 * r + 0.8)
        near = np.argmin(((body.points - centre) ** 2).sum(1))
        return centre, int(body.lobe[near])
    fits = (body.inside < 10) if place == "pleura" else (body.inside > min(r + 1, 14))
    i = int(rng.choice(np.flatnonzero(fits)))
    centre = body.points[i].copy()
    if place == "pleura":
        # Along the axial normal of the lung's surface, until part of the ball is outside.
        x, y = (centre[k] + np.array([-1.0, 0, 1.0]) for k in (0, 1))
        depth = body.depths(x[None], y[:, None], centre[2])["lung"]
        out = -np.array([depth[1, 2] - depth[1, 0], depth[2, 1] - depth[0, 1]])
        out /= np.linalg.norm(out) + 1e-6
        centre[:2] += out * (depth[1, 1] - rng.uniform(0.2, 0.85) * r)
    if place == "fissure":
        right, _, left = body.fissures(*centre)
        centre[2] -= left if centre[0] > 0 else right
    return centre, int(body.lobe[i])


def _spicules(rng: np.random.Generator, centre: np.ndarray, r: float) -> Pieces:
    count = int(rng.integers(10, 26))
    way = rng.standard_normal((count, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    begin, end = 0.55 * r, r * rng.uniform(0.9, 1.5, count) + rng.uniform(0.5, 3.5, count)
    thick = rng.uniform(0.4, 0.8, count) * (0.6 + 0.05 * r)
    return Pieces(centre + begin * way, centre + end[:, None] * way, thick, 0.25 * thick)


def _scan(
    patient: _Patient,
    grid: Grid,
    z: float,
    rng: np.random.Generator,
    *,
    contrast: float = 0.0,
    **site: float,
) -> np.ndarray:
    """(H, W) HU of one slice around z with partial volume, blur and noise."""
    body, thick = patient.body, site["thickness"]
    layers = max(1, round(thick / 0.9))
    plane, whole = np.zeros((grid.size, grid.size)), body.depths(*WHOLE.axes(), z)
    for at in z + thick * ((np.arange(layers) + 0.5) / layers - 0.5):
        if grid.size > WHOLE.size:
            depth = whole if layers == 1 else body.depths(*WHOLE.axes(), at)
            depth = {k: spread(v, WHOLE, grid) for k, v in depth.items()}
        else:
            depth = body.depths(*grid.axes(), at)
        plane += _paint(patient, grid, at, depth, contrast) / layers
    density = (whole["skin"] / 4 + 0.5).clip(0, 1) - 0.83 * (whole["lung"] / 4 + 0.5).clip(0, 1)
    density += 0.6 * cover(body.tubes["bone"], WHOLE, z)
    lines = attenuation(density, grid)
    # Tube current follows the patient's size half the way.
    site = site | {"photons": site["photons"] * np.exp(0.5 * (lines.max((1, 2)).mean() - 4.5))}
    site.pop("share", None)
    return reconstruct(plane, lines, grid.step, rng, **site)


def _paint(
    patient: _Patient, grid: Grid, z: float, depth: lungs.Depths, contrast: float
) -> np.ndarray:
    x, y = grid.axes()
    h, haze, solid = grid.step, 0.0, []
    for nodule in patient.nodules:
        if abs(z - nodule.centre[2]) > 0.5 * nodule.diameter + 6:
            continue
        if nodule.kind:
            whole = nodule.depth(x, y, z)
            haze = haze + (whole / 1.6 + 0.4).clip(0, 1) * (240 + 12 * (nodule.hu - 37))
        if nodule.kind < 2:
            part = (nodule.depth(x, y, z, nodule.core) / h + 0.5).clip(0, 1)
            if nodule.spicules is not None:
                part = np.maximum(part, 0.8 * cover(nodule.spicules, grid, z))
            solid.append((part, nodule.hu))
    hu = lungs.paint(patient.body, grid, z, depth, contrast=contrast, haze=haze)
    room = (depth["lung"] / h + 0.5).clip(0, 1)
    for part, value in solid:
        hu = hu + (value - hu) * part * room
    return hu


def _cuts(patient: _Patient, grid: Grid, z: float) -> tuple[np.ndarray, list[Nodule]]:
    """(M, H, W) bool: pixel centres inside each nodule with a visible cut at z; those nodules."""
    masks, shown = [], []
    for nodule in patient.nodules:
        if abs(z - nodule.centre[2]) < 0.5 * nodule.diameter:
            x, y = grid.axes()
            mask = nodule.depth(x, y, z) > 0
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                box = np.s_[rows[0] : rows[-1] + 1], np.s_[columns[0] : columns[-1] + 1]
                mask[box] &= patient.body.depths(x[:, box[1]], y[box[0]], z)["lung"] > 0
            if mask.sum() * grid.step**2 >= VISIBLE:
                masks.append(mask)
                shown.append(nodule)
    return np.array(masks).reshape(-1, grid.size, grid.size), shown


def lung_ct(n: int = 600, seed: int = 0, size: int = 128, stack: int = 1) -> Cohort:
    """Low-dose CT slices of simulated screening participants with and without lung nodules.

    A smaller cohort is the beginning of a larger one.

    Args:
        n: slices, ≥ 1; two to six of each patient.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 64 … 512, even, of a field of 320 mm.
        stack: neighbouring slices as channels, from feet to head, odd, 1 … 15; boxes and masks are
            those of the one in the middle. Slices touch.

    Returns:
        Cohort of int16 HU (n, stack, size, size): the patient's left is on the right. `boxes` and
        `masks` from pixel centres inside a nodule, noise-free, where its cut is at least 12 mm².
        `extras` per nodule in the order of the boxes, padded to (n, 6): diameter (mm, NaN), kind
        (0 solid, 1 part-solid, 2 ground-glass, −1), malignant (−1), brock (probability, NaN; 0 if
        calcified), spiculated, calcified, upper (−1). Per slice: age, female, family, emphysema,
        count (nodules of the patient), thickness (mm), height (mm above the carina).

    Raises:
        DataError: an argument out of range.
    """
    _check(n, size)
    if not isinstance(stack, Integral) or not 1 <= stack <= 15 or stack % 2 == 0:
        raise DataError(f"stack is an odd number of slices from 1 to 15; got {stack!r}")
    name, version = LUNG_CT.name, LUNG_CT.version
    plan: list[int] = []
    while sum(plan) < n:
        plan.append(int(stream(name, version, seed, len(plan), 0).integers(2, 7)))
    plan[-1] -= sum(plan) - n
    grid = Grid(*(-0.5 * FIELD * (1 - 1 / size),) * 2, FIELD / size, size)

    def make(k: int) -> list[dict]:
        rng = stream(name, version, seed, k, 1)
        site = _site(rng.random())
        patient = _patient(rng)
        rows = []
        for i in range(plan[k]):
            rng = stream(name, version, seed, k, 2, i)
            z = _height(rng, patient)
            fine = 2 if size <= 256 else 1
            near = _finer(grid, fine)
            heights = z + SITES[site]["thickness"] * (np.arange(stack) - stack // 2)
            hu = np.stack([_scan(patient, near, h, rng, **SITES[site]) for h in heights])
            hu = hu.reshape(stack, size, fine, size, fine).mean((2, 4))
            masks, shown = _cuts(patient, grid, z)
            rows.append(
                {
                    "image": torch.from_numpy(hu.round().clip(-1024, 3071).astype(np.int16)),
                    "masks": masks,
                    "shown": shown,
                    "patient": f"P{k:05d}",
                    "site": site,
                    **patient.facts,
                    "thickness": SITES[site]["thickness"],
                    "height": z,
                }
            )
        return rows

    rows = [row for part in side_by_side(make, range(len(plan))) for row in part]
    of_slice = ("age", "female", "family", "emphysema", "count", "thickness", "height")
    extras = {k: torch.tensor([r[k] for r in rows], dtype=torch.float32) for k in of_slice}
    for key, pad in (("diameter", np.nan), ("brock", np.nan)):
        extras[key] = torch.tensor([_padded(r["shown"], key, pad) for r in rows]).float()
    for key in ("kind", "malignant", "spiculated", "calcified", "upper"):
        extras[key] = torch.tensor([_padded(r["shown"], key, -1) for r in rows]).long()
    return Cohort(
        images=torch.stack([r["image"] for r in rows]),
        card=LUNG_CT,
        masks=torch.stack([torch.from_numpy(r["masks"].any(0)) for r in rows]).byte(),
        boxes=[_boxes(r["masks"]) for r in rows],
        patients=np.array([r["patient"] for r in rows]),
        sites=np.array([r["site"] for r in rows]),
        spacing=(FIELD / size, FIELD / size),
        extras=extras,
    )


def _check(n: int, size: int) -> None:
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"n is the number of images and must be a whole number ≥ 1; got {n!r}")
    if not isinstance(size, Integral) or not 64 <= size <= 512 or size % 2:
        raise DataError(f"size is the side in pixels, an even number from 64 to 512; got {size!r}")


def _site(where: float) -> str:
    shares = np.cumsum([site["share"] for site in SITES.values()])
    return list(SITES)[min(int(np.searchsorted(shares, where)), len(SITES) - 1)]


def _finer(grid: Grid, parts: int) -> Grid:
    """The same field with `parts` × `parts` pixels in each."""
    step = grid.step / parts
    shift = 0.5 * (step - grid.step)
    return Grid(grid.x + shift, grid.y + shift, step, grid.size * parts)


def _height(rng: np.random.Generator, patient: _Patient) -> float:
    """Height of a slice: half of them through a nodule, the longer it is the more often."""
    through, which, where = rng.random(3)
    if patient.nodules and through < 0.6:
        long = np.cumsum([n.diameter for n in patient.nodules])
        nodule = patient.nodules[int(np.searchsorted(long / long[-1], which))]
        return float(nodule.centre[2] + 0.7 * (where - 0.5) * nodule.diameter)
    heights = np.sort(patient.body.points[:, 2])
    return float(heights[int((0.02 + 0.96 * where) * len(heights))] + 4 * (which - 0.5))


def _padded(nodules: list[Nodule], key: str, pad: float) -> list[float]:
    told = [n.spicules is not None if key == "spiculated" else getattr(n, key) for n in nodules]
    return [float(v) for v in told] + [pad] * (MOST - len(told))


def _boxes(masks: np.ndarray) -> torch.Tensor:
    """(M, 4) x0, y0, x1, y1, exclusive, of (M, H, W) masks, none empty."""
    found = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        found.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 4)


def lung_patches(n: int = 3000, seed: int = 0) -> Cohort:
    """Patches of simulated chest CT around a nodule or around something like it.

    Args:
        n: patches, ≥ 1; twelve of each patient. A smaller cohort is the beginning of a larger one.
        seed: ≥ 0; another seed gives other patients.

    Returns:
        Cohort of uint8 images (n, 1, 50, 50), −1000 … 400 HU as 0 … 255; label 1 nodule.
        `extras`: pixel and thickness (mm), diameter (mm, NaN without a nodule).

    Raises:
        DataError: n or seed out of range.
    """
    _check(n, 64)

    def make(k: int) -> list[dict]:
        rng = stream(LUNG_PATCHES.name, LUNG_PATCHES.version, seed, k)
        patient = _patient(rng)
        scanner = {
            "photons": 10 ** rng.uniform(6.9, 8.3),
            "thickness": float(rng.choice([0.7, 1.0, 1.25, 2.0, 2.5, 3.0])),
            "sigma": rng.uniform(0.35, 0.75),
            "edge": max(0.0, rng.uniform(-0.6, 1.0)),
            "contrast": rng.uniform(60, 260) * (rng.random() < 0.35),
        }
        pixel = rng.uniform(0.5, 0.9)
        return [
            _patch(stream(LUNG_PATCHES.name, LUNG_PATCHES.version, seed, k, i), patient, pixel, scanner)
            for i in range(min(PER_PATIENT, n - k * PER_PATIENT))
        ]

    parts = side_by_side(make, range(-(-n // PER_PATIENT)))
    rows = [row | {"patient": f"P{k:05d}"} for k, part in enumerate(parts) for row in part]
    return Cohort(
        images=torch.stack([r["image"] for r in rows])[:, None],
        card=LUNG_PATCHES,
        labels=torch.tensor([r["label"] for r in rows]),
        patients=np.array([r["patient"] for r in rows]),
        extras={
            k: torch.tensor([r[k] for r in rows], dtype=torch.float32)
            for k in ("pixel", "thickness", "diameter")
        },
    )


def _patch(
    rng: np.random.Generator, patient: _Patient, pixel: float, scanner: dict[str, float]
) -> dict:
    label = int(rng.random() < 0.4)
    nodules = [_nodule(rng, patient.body, patient.facts)] if label else []
    if label:
        centre = nodules[0].centre + rng.uniform(-0.25, 0.25, 3) * nodules[0].diameter
    else:
        centre = _candidate(rng, patient.body)
    side = PATCH + 2 * MARGIN
    corner = centre[:2] - pixel * (side - 1) / 2 + rng.uniform(-1.5, 1.5, 2) * pixel
    grid = Grid(float(corner[0]), float(corner[1]), pixel, side)
    hu = _scan(patient._replace(nodules=nodules), grid, float(centre[2]), rng, **scanner)
    hu = hu[MARGIN:-MARGIN, MARGIN:-MARGIN]
    grey = ((hu + 1000) / 1400 * 255).round().clip(0, 255).astype(np.uint8)
    return {
        "image": torch.from_numpy(grey),
        "label": label,
        "pixel": pixel,
        "thickness": scanner["thickness"],
        "diameter": nodules[0].diameter if nodules else np.nan,
    }


def _candidate(rng: np.random.Generator, body: Body) -> np.ndarray:
    """A place that a detector may take for a nodule."""
    what = rng.random()
    if what < 0.55:  # where an artery divides, thick ones as often as thin ones
        branches = body.arteries["rl"[int(rng.integers(2))]]
        size = np.exp(rng.uniform(np.log(4), np.log(1500)))
        near = np.argsort(np.abs(np.log(branches.supplied / size)))[:30]
        return branches.end[int(rng.choice(near))]
    edge = body.inside < (7 if what < 0.9 else 200)
    i = int(rng.choice(np.flatnonzero(edge)))
    return body.points[i] + rng.uniform(-3, 3, 3)
