"""Low-dose CT of screening participants: nodules, the odds that one is malignant, the scanner."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from numpy.typing import ArrayLike
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.dicom import Volume
from medlab.errors import DataError
from medlab.simulate._lungs import FACTS, LATTICE, NAMES, Body, build, paint, share
from medlab.simulate._streams import check_images, drawn_site, positive, side_by_side, stream
from medlab.simulate._trees import Grid, Pieces, cover
from medlab.simulate.xray import MU_WATER

LUNG_CT = DataCard(**FACTS["card"])
SITES: dict[str, dict[str, float]] = FACTS["sites"]
"""How each hospital scans: `photons` per mm² of detector and mm of slice in all views together,
slice `thickness` (mm), and the kernel's blur `sigma` (mm) and `edge` enhancement."""

FIELD = 320.0  # mm, side of a slice
BACK = 22.0  # mm from the carina back to the middle of the field
VISIBLE = 12.0  # mm², smallest cut of a nodule that is marked
MOST = 6  # nodules of a patient
WHOLE = Grid(-237.5, BACK - 237.5, 5.0, 96)  # the body with its shoulders: what attenuates
INNER = slice(16, 80)  # rows and columns of it that are the field
SECTORS = 6  # directions in which the noise is told apart
MARGIN = 8  # pixels around a slice, against its opposite edge
_TOLD = {"centre": float, "diameter": float, "kind": int, "brock": float}
_TOLD |= dict.fromkeys(("spiculated", "malignant"), bool)
_PER_NODULE = {"diameter": np.nan, "brock": np.nan, "kind": -1, "malignant": -1, "spiculated": -1}


class Nodule(NamedTuple):
    """Centre (3,) and longest diameter, mm; kind 0 solid, 1 part-solid, 2 ground-glass.

    `axes` (3, 3): rows are directions over relative half axes. `furrows` (4, 4) are wave vectors
    and phases of dents of relative depth `lobed`; `hu` is that of the solid part, whose radius is
    the share `core` of the nodule's; `soft` the width of its edge, mm.
    """

    centre: ndarray
    diameter: float
    kind: int
    axes: ndarray
    furrows: ndarray
    lobed: float
    hu: float
    core: float
    soft: float
    spicules: Pieces | None
    brock: float
    malignant: bool

    @property
    def spiculated(self) -> bool:
        return self.spicules is not None

    def depth(self, x: ndarray, y: ndarray, z: float, part: float = 1.0) -> ndarray:
        """Distance inside the surface (of the core, if `part` is its share), mm, at points."""
        cx, cy, cz = self.centre.tolist()  # Python's numbers keep single precision single
        x, y, z = x - cx, y - cy, z - cz
        u, v, w = (a * x + b * y + c * z for a, b, c in self.axes.tolist())
        radius = np.sqrt(u * u + v * v + w * w) + 1e-6
        waves = self.furrows.tolist()
        dents = sum(np.cos((a * u + b * v + c * w) / radius + p) for a, b, c, p in waves)
        return self.diameter / 2 * part * (1 - self.lobed * (0.5 + dents / 8)) - radius


def brock(
    diameter: ArrayLike, kind: ArrayLike, *, spiculated: ArrayLike, upper: ArrayLike, **facts: float
) -> ndarray:
    """Probability that a nodule is cancer: the full Brock (PanCan) model with spiculation.

    Args:
        diameter: longest, mm, > 0.
        kind: 0 solid, 1 part-solid, 2 ground-glass.
        spiculated: 1 if it is.
        upper: 1 in an upper lobe.
        **facts: of the patient: `age` in years, `female`, `family` history of lung cancer and
            `emphysema` (0 or 1), `count` of nodules.

    Source: McWilliams et al., N Engl J Med 369:910 (2013), full model with spiculation.
    """
    b, d, kind = FACTS["brock"], np.asarray(diameter, float), np.asarray(kind)
    if not (d > 0).all():
        raise DataError(f"diameter is in mm and must be positive; got {d.min():g}")
    x = b["intercept"] + b["age"] * (facts["age"] - 62) + b["count"] * (facts["count"] - 4)
    x = x + sum(b[key] * facts[key] for key in ("female", "family", "emphysema"))
    x = x + b["size"] * ((d / 10) ** -0.5 - 0.4**-0.5)
    x = x + b["part_solid"] * (kind == 1) + b["non_solid"] * (kind == 2)
    x = x + b["upper"] * np.asarray(upper) + b["spiculated"] * np.asarray(spiculated)
    return 1 / (1 + np.exp(-x))


def attenuation(density: ndarray) -> ndarray:
    """(K, H, H) ∫μ ds of the rays through each pixel, for K directions.

    `density` (H, H) is that of the slice relative to water, on the grid `WHOLE`.
    """
    from skimage.transform import iradon, radon

    turns, found = -180.0 / SECTORS * np.arange(SECTORS), []
    for turn, rays in zip(turns, radon(density, turns, circle=False).T, strict=True):
        one = {"output_size": len(density), "filter_name": None, "circle": False}
        found.append(iradon(rays[:, None], [turn], **one))  # times π/2
    return np.stack(found) * np.float32(2 / np.pi * WHOLE.step * MU_WATER)


def reconstruct(
    plane: ndarray,
    lines: ndarray,
    step: float,
    rng: np.random.Generator | None,
    *,
    photons: float,
    thickness: float,
    sigma: float,
    edge: float,
) -> ndarray:
    """What filtered back-projection makes of a plane (H, W) HU, `step` mm a pixel.

    A kernel blurs (G, `sigma` mm) and enhances edges. Noise has the power π f G(f)² / (photons ·
    thickness) of f in 1/mm, times exp(∫μ ds): in each of K directions as the rays that run across
    it, `lines` (K, H, W) ∫μ ds, are weak, which makes streaks behind the shoulders. Without `rng`
    there is none, as at an endless dose.

    Source: Riederer, Pelc & Chesler, Phys Med Biol 23:446 (1978).
    """
    from scipy import fft

    ends = (MARGIN, MARGIN)
    lines = np.pad(lines, ((0, 0), ends, ends), mode="edge")
    plane = np.pad(plane, ends, mode="edge")
    fy = fft.fftfreq(plane.shape[0], step).astype(np.float32)[:, None]
    fx = fft.rfftfreq(plane.shape[1], step).astype(np.float32)
    f, angle = np.hypot(fx, fy), np.mod(np.arctan2(fy, fx), np.pi) * np.float32(SECTORS / np.pi)
    kernel = np.exp(-2 * (np.pi * sigma * f) ** 2) * (1 + edge * (f / 0.35) ** 2)
    noise = np.zeros(f.shape, np.complex64)
    if rng is not None:
        white = rng.standard_normal(plane.shape, np.float32)
        for k, line in enumerate(lines):
            away = np.abs(angle - k)
            part = (1 - np.minimum(away, SECTORS - away)).clip(0)
            noise += part * fft.rfft2(white * np.exp(0.5 * line))
        noise *= np.sqrt(np.pi * f / (photons * thickness)) * (1000 / MU_WATER / step)
    image = fft.irfft2((noise + fft.rfft2(plane)) * kernel, plane.shape)
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN]


class _Participant(NamedTuple):
    """The hospital, how it scans, what Brock's model asks of a patient, the chest and nodules."""

    site: str
    scanner: dict[str, float]
    facts: dict[str, float]
    body: Body
    nodules: list[Nodule]


def _draw(seed: int, *position: int) -> np.random.Generator:
    return stream(LUNG_CT.name, LUNG_CT.version, seed, *position)


def _participant(seed: int, k: int) -> _Participant:
    """Patient k of a seed."""
    rng = _draw(seed, k, 0)
    site = list(SITES)[drawn_site(rng, SITES)]
    scanner = {key: v for key, v in SITES[site].items() if key != "share"}
    destroyed = max(0.0, rng.normal(0.02, 0.12))  # share of the upper lobes' lobules
    facts = {
        "age": rng.uniform(50, 80),
        "female": float(rng.random() < 0.45),
        "family": float(rng.random() < 0.2),
        "emphysema": float(destroyed > 0.03),
        "count": float(min(MOST, rng.poisson(0.45 + rng.gamma(1.5, 0.9)))),
    }
    body = build(rng, female=bool(facts["female"]), age=facts["age"], emphysema=destroyed)
    nodules: list[Nodule] = []
    while len(nodules) < facts["count"]:
        nodules.append(_nodule(rng, body, facts, nodules))
    return _Participant(site, scanner, facts, body, nodules)


def _nodule(
    rng: np.random.Generator, body: Body, facts: dict[str, float], others: Sequence[Nodule] = ()
) -> Nodule:
    """A nodule in aerated lung, at least 35 mm from the others where there is room."""
    kind = int(np.searchsorted([0.72, 0.82], rng.random()))
    diameter = float(np.clip((1.0, 1.6, 1.5)[kind] * rng.lognormal(np.log(6.0), 0.55), 3, 30))
    place = rng.choice(["free", "pleura", "vessel"], p=[0.5, 0.32, 0.18])
    spiculated = kind < 2 and rng.random() < min(0.6, 1 / (1 + np.exp(4.3 - 0.2 * diameter)))
    calcified = kind == 0 and not spiculated and diameter < 15 and rng.random() < 0.12
    for _ in range(50):
        centre = _place(rng, body, place, diameter / 2)
        lung = body.depths(*Grid(centre[0], centre[1], 1.0, 1).axes(), centre[2])[0, 0, 0]
        apart = [np.linalg.norm(centre - other.centre) > 35 for other in others]
        if lung > 0.08 * diameter and all(apart):
            break
    axes, flat = np.linalg.qr(rng.standard_normal((3, 3)))[0], rng.uniform(0.65, 1.0, 2)
    upper = int(body.sheet(*centre)[1]) in (0, 3)
    odds = float(brock(diameter, kind, spiculated=spiculated, upper=upper, **facts))
    odds *= not calcified  # that pattern is benign
    return Nodule(
        centre=centre,
        diameter=diameter,
        kind=kind,
        axes=axes / np.array([1.0, *flat])[:, None],
        furrows=np.column_stack([rng.normal(0, 2.4, (4, 3)), rng.uniform(0, 6.3, 4)]),
        lobed=0.4 if spiculated else float(rng.choice([0.05, 0.2, 0.5], p=[0.4, 0.3, 0.3])),
        hu=rng.uniform(250, 900) if calcified else rng.uniform(0, 65),
        core=rng.uniform(0.35, 0.75) if kind == 1 else 1.0,
        soft=rng.uniform(0.3, 1.6) if kind == 0 else 0.1 * diameter + rng.uniform(1.0, 2.5),
        spicules=_spicules(rng, centre, diameter / 2) if spiculated else None,
        brock=odds,
        malignant=bool(rng.random() < odds),
    )


def _place(rng: np.random.Generator, body: Body, place: str, r: float) -> ndarray:
    """A centre for a nodule of radius r (mm), which may lie outside the lung."""
    buried = rng.uniform(0.2, 0.9)
    if place == "vessel":
        tree = body.arteries
        i = int(rng.choice(np.flatnonzero((tree.supplied > 5) & (tree.supplied < 250))))
        aside = rng.standard_normal(3)
        return tree.end[i] + aside / np.linalg.norm(aside) * (0.8 * r + 0.8)
    fits = body.depth < 12 if place == "pleura" else body.depth > min(r + 1, 14)
    centre = body.points[int(rng.choice(np.flatnonzero(fits)))].copy()
    for _ in range(3 if place == "pleura" else 0):
        # Along the axial normal of the lung's surface, until part of the ball is outside.
        grid = Grid(centre[0] - 2, centre[1] - 2, 2.0, 3)
        lung = body.depths(*grid.axes(), centre[2])[0]
        out = -np.array([lung[1, 2] - lung[1, 0], lung[2, 1] - lung[0, 1]])
        centre[:2] += out / (np.linalg.norm(out) + 1e-6) * (lung[1, 1] - buried * r)
    return centre


def _spicules(rng: np.random.Generator, centre: ndarray, r: float) -> Pieces:
    count = int(rng.integers(10, 26))
    way = rng.standard_normal((count, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    end = r * rng.uniform(0.9, 1.5, count) + rng.uniform(0.5, 3.5, count)
    thick = rng.uniform(0.4, 0.8, count) * (0.6 + 0.05 * r)
    return Pieces(centre + 0.5 * r * way, centre + end[:, None] * way, thick, 0.25 * thick)


def _scan(
    patient: _Participant, size: int, z: float, rng: np.random.Generator, *, clean: bool = False
) -> ndarray:
    """(1, size, size) HU of a slice around z with partial volume, blur and noise.

    If `clean`, (2, size, size): the same without noise follows.
    """
    thick = patient.scanner["thickness"]
    heights = [z] if thick < 1.5 else [z - thick / 4, z + thick / 4]  # a thin slice is a plane
    depths = [patient.body.depths(*WHOLE.axes(), height) for height in heights]
    cuts = zip(heights, depths, strict=True)
    plane = np.mean([_paint(patient, size, at, d[:, INNER, INNER]) for at, d in cuts], 0)
    lines = _lines(patient.body, z, depths[0])
    noises = (rng, None) if clean else (rng,)
    return np.stack([_expose(plane, lines, one, patient.scanner) for one in noises])


def _lines(body: Body, z: float, depth: ndarray) -> ndarray:
    """`attenuation` in the field at height z of a body with these depths on the grid `WHOLE`."""
    skin, lung = (share(depth[NAMES.index(k)], WHOLE.step) for k in ("skin", "lung"))
    bone = cover({"bone": body.tubes["bone"]}, WHOLE, z)["bone"]
    return attenuation(skin - 0.83 * lung + 0.6 * bone)[:, INNER, INNER]


def _finer(coarse: ndarray, size: int) -> ndarray:
    """(K, size, size) of (K, H, H): what is smooth is seldom sampled, and linear in between."""
    at = torch.from_numpy(coarse)[None]
    return functional.interpolate(at, (size, size), mode="bilinear")[0].numpy()


def _expose(
    plane: ndarray, lines: ndarray, rng: np.random.Generator | None, scanner: dict[str, float]
) -> ndarray:
    """`reconstruct` with a tube current that follows the patient's size half the way."""
    lines = _finer(lines, len(plane))
    dose = scanner["photons"] * np.exp(0.5 * (lines.max((1, 2)).mean() - 4.5))
    return reconstruct(plane, lines, FIELD / len(plane), rng, **scanner | {"photons": dose})


def _paint(patient: _Participant, size: int, z: float, depth: ndarray) -> ndarray:
    """(size, size) HU of the field at z without blur and noise, from seldom sampled depths."""
    grid, depth = _field(size), _finer(depth, size)
    (x, y), solids = grid.axes(), []
    haze = np.zeros((size, size), np.float32)
    for n in patient.nodules:
        if abs(z - n.centre[2]) > 0.5 * n.diameter + 8:
            continue
        if n.kind:
            waves = patient.body.waves[:10, :3] * 6
            grain = 1 + 0.12 * sum(np.cos(a * x + b * y + c * z) for a, b, c in waves)
            haze += share(n.depth(x, y, z), n.soft) * (180 + 4 * n.hu) * grain.clip(0.5)
        if n.kind < 2:
            part = share(n.depth(x, y, z, n.core), max(grid.step, n.soft))
            if n.spicules is not None:
                part = np.maximum(part, 0.8 * cover({"": n.spicules}, grid, z)[""])
            solids.append((n.hu, part))
    hu = paint(patient.body, grid, z, depth, haze)
    for value, part in solids:
        hu += (value - hu) * part * share(depth[0], grid.step) * (hu < value)
    return hu


def _cuts(patient: _Participant, grid: Grid, z: float) -> list[tuple[Nodule, ndarray]]:
    """Nodules with a visible cut at z, and (H, W) which pixel centres lie inside each."""
    (x, y), found = grid.axes(), []
    for nodule in patient.nodules:
        mask = nodule.depth(x, y, z) > 0
        if abs(z - nodule.centre[2]) < 0.5 * nodule.diameter and mask.any():
            x0, y0, x1, y1 = _box(mask)
            mask[y0:y1, x0:x1] &= patient.body.depths(x[:, x0:x1], y[y0:y1], z)[0] > 0
            if mask.sum() * grid.step**2 >= VISIBLE:
                found.append((nodule, mask))
    return found


def _box(mask: ndarray) -> list[int]:
    """x0, y0, x1, y1, exclusive, of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def lung_ct(
    n: int = 600,
    seed: int = 0,
    size: int = 128,
    stack: int = 1,
    clean: bool = False,
    lungs: bool = False,
) -> Cohort:
    """Low-dose CT slices of simulated screening participants with and without lung nodules.

    A smaller cohort is the beginning of a larger one.

    Args:
        n: slices, ≥ 1; four to eight of each patient.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 64 … 512, even, of a field of 320 mm.
        stack: neighbouring slices as channels, from feet to head, odd, 1 … 15; boxes and masks are
            those of the one in the middle. Slices touch.
        clean: keep the slices without noise too, as an endless dose would show them: int16 HU in
            `extras["target"]`. Noise falls with the root of the dose, so target + (image − target)
            / √d is the slice at d times the dose.
        lungs: keep uint8 (n, size, size) in `extras["lungs"]`: 1 where a pixel's centre is in the
            patient's right lung, 2 in the left; vessels and nodules in a lung are part of it.

    Returns:
        Cohort of int16 HU (n, stack, size, size): the patient's left is on the right. `boxes` and
        `masks` from the pixel centres inside a nodule, noise-free, where its cut is at least 12
        mm². `extras` per nodule, in the order of the boxes, padded to (n, 6): diameter (mm, NaN),
        brock (probability, NaN; 0 if calcified), kind (0 solid, 1 part-solid, 2 ground-glass, −1),
        malignant and spiculated (−1). Per slice: age, female, family, emphysema, count (nodules of
        the patient), thickness (mm), height (mm above the carina).

    Raises:
        DataError: an argument out of range.
    """
    check_images(n, size, least=64)
    if not isinstance(stack, Integral) or not 1 <= stack <= 15 or stack % 2 == 0:
        raise DataError(f"stack is an odd number of slices from 1 to 15; got {stack!r}")
    slices: list[int] = []
    while sum(slices) < n:
        slices.append(int(_draw(seed, len(slices)).integers(4, 9)))
    slices[-1] -= sum(slices) - n
    fine = 2 if size <= 256 else 1
    grid = _field(size)

    def scanned(k: int) -> list[dict[str, Any]]:
        patient, rows = _participant(seed, k), []
        for i in range(slices[k]):
            rng = _draw(seed, k, 1 + i)
            z, apart = _height(rng, patient), patient.scanner["thickness"]
            heights = (z + apart * (np.arange(stack) - stack // 2)).tolist()
            hu = np.stack([_scan(patient, size * fine, at, rng, clean=clean) for at in heights])
            hu = hu.reshape(stack, -1, size, fine, size, fine).mean((3, 5)).round()
            hu = hu.clip(-1024, 3071).astype(np.int16).swapaxes(0, 1)
            row: dict[str, Any] = {"patient": f"P{k:05d}", "site": patient.site}
            row |= {"cuts": _cuts(patient, grid, z), "thickness": apart, "height": z}
            row |= dict(zip(("images", "target"), hu, strict=False))  # the latter if `clean`
            if lungs:
                row["lungs"] = _sides(patient.body, patient.body.depths(*grid.axes(), z), z)
            rows.append(row | patient.facts)
        return rows

    rows = [row for part in side_by_side(scanned, range(len(slices))) for row in part]
    cuts = [row["cuts"] for row in rows]
    extras: dict[str, torch.Tensor | ndarray] = {}
    for key, pad in _PER_NODULE.items():
        told = [[getattr(n, key) for n, _ in c] + [pad] * (MOST - len(c)) for c in cuts]
        extras[key] = torch.tensor(told, dtype=torch.float32 if np.isnan(pad) else torch.int64)
    for key in "age female family emphysema count thickness height".split():
        extras[key] = torch.tensor([row[key] for row in rows], dtype=torch.float32)
    for key in ("target", "lungs"):
        if key in rows[0]:
            extras[key] = torch.from_numpy(np.stack([row[key] for row in rows]))
    masks = [sum((m for _, m in c), np.zeros((size, size), bool)) for c in cuts]
    return Cohort(
        images=torch.from_numpy(np.stack([row["images"] for row in rows])),
        card=LUNG_CT,
        masks=torch.from_numpy(np.stack(masks)).byte(),
        boxes=[torch.tensor([_box(m) for _, m in c]).float().reshape(-1, 4) for c in cuts],
        patients=np.array([row["patient"] for row in rows]),
        sites=np.array([row["site"] for row in rows]),
        spacing=(FIELD / size, FIELD / size),
        extras=extras,
    )


class Study(NamedTuple):
    """One participant's scan.

    `volume` in HU from feet to head; `lungs` (D, H, W) uint8 as in `lung_ct`; `facts` that Brock's
    model asks of the patient. `nodules`: arrays of M, the truth, one a column: `centre` (M, 3) LPS
    mm, `diameter` mm, `kind` 0 … 2, `spiculated`, `upper` lobe, `brock` (probability; 0 if
    calcified) and `malignant`, drawn with it.
    """

    volume: Volume
    lungs: torch.Tensor
    facts: dict[str, float]
    nodules: dict[str, ndarray]


def screening_study(
    k: int, seed: int = 0, *, size: int = 128, slice_mm: float = 3.0, **scanner: float
) -> Study:
    """The whole scan of patient k of `lung_ct` with the same seed: other slices, the same person.

    Slices touch and cover the lungs; each is the mean of the planes at its two faces.

    Args:
        k: the patient, ≥ 0.
        seed: ≥ 0; another seed gives other patients.
        size: rows and columns, 64 … 512, even, of a field of 320 mm.
        slice_mm: distance and thickness of slices.
        **scanner: photons, sigma or edge as in `SITES`, instead of the hospital's own.

    Raises:
        DataError: an argument out of range.
    """
    check_images(1, size, least=64)
    positive(slice_mm=slice_mm, photons=scanner.get("photons", 1.0))
    if not isinstance(k, Integral) or k < 0 or not set(scanner) <= {"photons", "sigma", "edge"}:
        said = "k must be a whole number ≥ 0, a scanner's option photons, sigma or edge"
        raise DataError(f"{said}; got {k!r} and {sorted(scanner)}")
    patient = _participant(seed, k)
    scan = patient.scanner | scanner | {"thickness": slice_mm}
    body, grid = patient.body, _field(size)
    low, high = np.quantile(body.points[:, 2], [0, 1])
    # of the slices' faces
    heights = np.arange(low - LATTICE, high + LATTICE + slice_mm, slice_mm).tolist()
    x, y = WHOLE.axes()

    def cut(z: float) -> tuple[ndarray, ndarray]:
        depth = body.depths(x[:, INNER], y[INNER], z)
        return depth, _paint(patient, size, z, depth)

    def scanned(i: int) -> tuple[ndarray, ndarray]:
        part, z = i % 4 / 4, heights[i] + slice_mm / 2
        through = (1 - part) * lines[i // 4] + part * lines[i // 4 + 1]
        (below, lower), (above, upper) = faces[i : i + 2]
        plane, rng = (lower + upper) / 2, _draw(seed, k, 0, i)
        hu = _expose(plane, through, rng, scan)
        return hu.round().clip(-1024, 3071), _sides(body, _finer((below + above) / 2, size), z)

    faces = side_by_side(cut, heights)
    at = np.arange(heights[0] + slice_mm / 2, heights[-1] + 4 * slice_mm, 4 * slice_mm)
    lines = side_by_side(lambda z: _lines(body, z, body.depths(x, y, z)), at.tolist())
    hu, sides = zip(*side_by_side(scanned, range(len(heights) - 1)), strict=True)
    told = {k: np.array([getattr(n, k) for n in patient.nodules], t) for k, t in _TOLD.items()}
    told["centre"] = told["centre"].reshape(-1, 3)
    told["upper"] = np.isin(body.sheet(*told["centre"].T)[1], (0, 3))
    spacing, origin = (slice_mm, grid.step, grid.step), (grid.x, grid.y, heights[0] + slice_mm / 2)
    volume = Volume(voxels=torch.from_numpy(np.stack(hu)), spacing=spacing, origin=origin)
    return Study(volume, torch.from_numpy(np.stack(sides)), patient.facts, told)


def _sides(body: Body, depth: ndarray, z: float) -> ndarray:
    """(H, W) uint8: 1 in the right lung, 2 in the left, by `body`'s depths (K, H, W) at z."""
    found = dict(zip(NAMES, depth, strict=True))
    left = found["x"] > body.bow(found["y"], z)
    return (found["lung"] > 0) * (1 + left).astype(np.uint8)


def _field(size: int) -> Grid:
    first = -0.5 * FIELD * (1 - 1 / size)
    return Grid(first, first + BACK, FIELD / size, size)


def _height(rng: np.random.Generator, patient: _Participant) -> float:
    """Height of a slice: most go through a nodule, through a longer one more often."""
    through, which, where = rng.random(3)
    if patient.nodules and through < 0.6:
        long = np.cumsum([n.diameter for n in patient.nodules])
        nodule = patient.nodules[int(np.searchsorted(long / long[-1], which))]
        return float(nodule.centre[2] + 0.7 * (where - 0.5) * nodule.diameter)
    return float(np.quantile(patient.body.points[:, 2], 0.02 + 0.96 * where) + 8 * (which - 0.5))
