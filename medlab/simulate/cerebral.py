"""The cohort `brain_mri`: brains made individual, aged and ill, in three scanners."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.simulate import mri
from medlab.simulate._streams import check_images, side_by_side, stream

_FACTS = json.loads((files("medlab.simulate") / "brain_mri.json").read_text(encoding="utf-8"))
BRAIN_MRI = DataCard(**_FACTS["card"])
SITES: dict[str, dict[str, Any]] = _FACTS["sites"]
KINDS: dict[str, dict[str, Any]] = _FACTS["kinds"]
CONTRASTS = ("flair", "t1", "t2")
FIELD = 200.0  # mm, side of the square shown
CENTRE = (0.0, -18.0)  # MNI x, y of its middle
HEIGHTS = (-38.0, 58.0)  # MNI z of the slices
IMAGES = 4  # a patient
CUTS = (-1 / 3, 0.0, 1 / 3)  # where a slice is sampled, in thicknesses
CORNER, STEP, COUNT = (-104.0, -126.0, -80.0), 4.0, (53, 56, 43)  # lattice of what is smooth


def brain_mri(n: int = 600, seed: int = 0, size: int = 96, contrast: str = "flair") -> Cohort:
    """Axial MR slices of simulated brains, about half of them with lesions of one of seven kinds.
    """
    check_images(n, size, least=32, even=False)
    if contrast not in CONTRASTS:
        raise DataError(f"contrast must be one of {', '.join(CONTRASTS)}; got {contrast!r}")
    _atlas()  # once, before the workers ask for it
    rows = side_by_side(lambda k: _scans(seed, k, size, contrast), range(-(-n // IMAGES)))
    merged: dict[str, Any] = {key: torch.cat([row[key] for row in rows])[:n] for key in rows[0]}
    masks = merged.pop("mask")
    return Cohort(
        images=merged.pop("image")[:, None],
        card=BRAIN_MRI,
        labels=(masks > 0).flatten(1).any(1).long(),
        masks=masks,
        patients=np.array([f"P{k // IMAGES:05d}" for k in range(n)]),
        sites=np.array(list(SITES))[merged.pop("site").numpy()],
        spacing=(FIELD / size, FIELD / size),
        extras=merged,
    )


class _Volume(NamedTuple):
    """Values (C, D, H, W) on a grid whose first voxel lies at `corner` (x, y, z), mm."""

    values: Tensor
    corner: tuple[float, float, float]
    step: float

    def at(self, points: Tensor) -> Tensor:
        """(C, …) values at points (…, 3), mm, linear between voxels, those of the rim outside."""
        last = torch.tensor(self.values.shape[:0:-1]) - 1
        where = (points - torch.tensor(self.corner)) * (2 / self.step) / last - 1
        found = functional.grid_sample(
            self.values[None], where.reshape(1, 1, 1, -1, 3), padding_mode="border",
            align_corners=True,
        )
        return found.view(-1, *points.shape[:-1])


class _Atlas(NamedTuple):
    """The average brain: shares of white and grey matter, distances in mm, places of lesions.

    `far`: distance beneath the brain's surface and outside the lateral ventricles, both signed.
    `away`: unit vectors away from the ventricles that fade with distance.
    """

    shares: _Volume
    far: _Volume
    away: _Volume
    places: dict[str, ndarray]


@cache
def _atlas() -> _Atlas:
    from nilearn import datasets

    names = ("wm_template", "gm_template", "brain_mask")
    maps = [getattr(datasets, f"load_mni152_{name}")(resolution=1) for name in names]
    x0, y0, z0 = (float(c) for c in maps[0].affine[:3, 3])
    white, grey, brain = (np.asarray(m.dataobj, dtype=np.float32).T for m in maps)  # z, y, x
    shares = _Volume(torch.from_numpy(np.stack([white, grey])), (x0, y0, z0), 1.0)
    white, grey, brain = (v[::2, ::2, ::2] for v in (white, grey, brain > 0.5))
    z, y, x = (
        c0 + 2 * np.arange(k).reshape([-1 if a == b else 1 for b in range(3)])
        for a, (c0, k) in enumerate(zip((z0, y0, x0), white.shape, strict=True))
    )

    def signed(inside: ndarray) -> ndarray:
        out = [ndimage.distance_transform_edt(part) for part in (inside, ~inside)]
        return ndimage.gaussian_filter(2 * (out[0] - out[1]), 0.7).astype(np.float32)

    depth = signed(brain)
    fluid = (1 - white - grey > 0.55) & (depth > 18) & (abs(x) >= 2)
    ventricles = fluid & (abs(x) < 37) & (y > -60) & (y < 34) & (z > -5) & (z < 32)
    far = -signed(ventricles)
    slope = np.stack(np.gradient(far, 2.0)[::-1])  # x, y, z
    away = ndimage.gaussian_filter(slope * np.exp(-np.abs(far) / 12), (0, 2, 2, 2))
    side, deep = abs(x) + 0 * (y + z), white > 0.85
    where = {
        "ventricle": (white > 0.6) & (far > 2) & (far < 7),
        "juxtacortical": (white > 0.35) & (white < 0.65) & (grey > 0.3) & (far > 14) & (z > -20),
        "deep": deep & (far > 9) & (z > -8) & (depth > 12),
        "infratentorial": (white > 0.5) & (z < -22) & (y < -14) & (side < 30),
        "ganglia": (grey > 0.3) & (side > 12) & (side < 30) & (abs(y + 4) < 14) & (abs(z - 3) < 8),
        "surface": (depth > 2) & (depth < 6) & (z > -15) & (z < 50) & (side > 18),
        "fossa": (depth > 4) & (depth < 10) & (abs(z + 16) < 14) & (abs(y - 2) < 16) & (side > 30),
    }
    corner = np.array([x0, y0, z0])
    places = {name: np.argwhere(w)[:, ::-1] * 2 + corner for name, w in where.items()}
    places["pallidum"] = np.array([[20.0, -4.0, 0.0], [-20.0, -4.0, 0.0]])
    near = (x0, y0, z0)
    return _Atlas(
        shares,
        _Volume(torch.from_numpy(np.stack([depth, far])), near, 2.0),
        _Volume(torch.from_numpy(away.astype(np.float32)), near, 2.0),
        places,
    )


def _drawn(rng: np.random.Generator, ranges: dict[str, list]) -> dict[str, Any]:
    """A uniform number for each range [low, high], or as many as a third entry says."""
    return {name: rng.uniform(*limits) for name, limits in ranges.items()}


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(low * (high / low) ** rng.random())


class _Blob(NamedTuple):
    """An ellipsoid with an uneven surface: `axes` (3, 3) are directions over half axes, 1/mm.

    `rings`, from the outer to the inner: [scale, tissue, share that it replaces, of what].
    """

    kind: int
    at: ndarray
    axes: ndarray
    mm: float
    long: float
    rings: list[list]


def _patient(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stays the same in all slices of one head, and what is told of it."""
    age, female, ill = rng.uniform(20, 88), bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    old = (age - 20) / 68
    p = _drawn(rng, _FACTS["patient"])
    p["scale"] *= 1.0 + 0.035 * female
    p["waves"] = 2 * math.pi * _directions(rng, 16) / p["length"][:, None]
    p["sway"] = _directions(rng, 16) * (_FACTS["strain"] / (2 * math.pi) * p["length"][:, None])
    p["ventricle"] = float(np.clip(-1.4 + 4.2 * old + rng.normal(0, 0.8), -1.5, 4))
    p["sulci"] = 0.10 * old + rng.normal(0, 0.015)
    p["halo"] = max(0.0, -0.5 + 3 * old + rng.normal(0, 0.5))
    p["grain"] = torch.from_numpy(rng.standard_normal((3, *COUNT[::-1]), dtype=np.float32))
    p["blobs"], p["push"], kind = [], 0.0, 0
    p["blobs"] += _blobs(rng, p, "healthy", 0.3 + 1.2 * old)
    if ill:
        names = [name for name in KINDS if name != "healthy"]
        young, aged = np.array([KINDS[name]["weight"] for name in names]).T
        weight = young + (aged - young) * old
        name = names[rng.choice(len(names), p=weight / weight.sum())]
        kind, p["push"] = names.index(name) + 1, KINDS[name].get("push", 0.0)
        p["blobs"] += _blobs(rng, p, name, 1.0)
        if "halo" in KINDS[name]:
            p["halo"] = rng.uniform(*KINDS[name]["halo"])
    p["kind"] = kind
    site = int(rng.choice(len(SITES), p=[here["share"] for here in SITES.values()]))
    facts = {"kind": kind, "age": age, "female": female, "site": site}
    return p | SITES[list(SITES)[site]], facts


def _directions(rng: np.random.Generator, many: int) -> ndarray:
    v = rng.standard_normal((many, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def _blobs(rng: np.random.Generator, p: dict[str, Any], name: str, often: float) -> list[_Blob]:
    """Everything of one kind in one head."""
    atlas, blobs = _atlas(), []
    for part in KINDS[name]["parts"]:
        places = atlas.places[part["place"]]
        many = round(_between(rng, *part["many"]) * (1 if name != "healthy" else often))
        many = 2 if part["place"] == "pallidum" else many
        if name == "cavity" and blobs:
            break
        if name == "cavity" and part["place"] == "surface" and rng.random() < 0.4:
            continue
        for i in rng.permutation(len(places))[:many]:
            there = torch.tensor(places[i]).float()
            at = _in_patient(p, there).numpy().astype(float)
            axis = {"ventricle": atlas.away.at(there).numpy(), "surface": at - [0, -18, 12]}
            first = axis.get(part["place"], rng.standard_normal(3)) + 1e-6
            frame = np.linalg.qr(np.stack([first, *rng.standard_normal((2, 3))], 1))[0].T
            mm, long = _between(rng, *part["mm"]), rng.uniform(*part["long"])
            axes = frame / (mm * np.array([long, 1, rng.uniform(0.8, 1.2)])[:, None])
            kind = 0 if name == "healthy" else list(KINDS).index(name)
            blobs.append(_Blob(kind, at, axes, mm, long, part["rings"]))
    return blobs


def _to_template(p: dict[str, Any], x: Tensor) -> Tensor:
    """Points (…, 3) of the patient's head, without mass effect, in the average brain, mm."""
    (a, b, c), centre = p["turn"], torch.tensor([*CENTRE, 10.0])
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -c, b], [c, 0, -a], [-b, a, 0]])).float()
    y = (x - centre) @ turn.T * torch.tensor(p["scale"]).float() + centre
    waves, sway = (torch.tensor(p[name]).float() for name in ("waves", "sway"))
    phase = torch.tensor(p["phase"][0]).float()
    y = y + torch.sin(x @ waves.T + phase) @ sway
    return y - p["ventricle"] * _atlas().away.at(y).movedim(0, -1)


def _in_patient(p: dict[str, Any], y: Tensor) -> Tensor:
    """The inverse of `_to_template`, by fixed-point iteration."""
    x = y
    for _ in range(12):
        x = x + y - _to_template(p, x)
    return x


def _pushed(p: dict[str, Any], x: Tensor) -> Tensor:
    """Where tissue that a mass has displaced to x came from: r' = r (1 − s exp(−(r/1.3 R)²))."""
    if p["push"]:
        blob = p["blobs"][-1]
        away = x - torch.tensor(blob.at).float()
        q = away.square().sum(-1, keepdim=True) / (1.3 * blob.mm) ** 2
        x = x - away * p["push"] * torch.exp(-q)
    return x


def _lattice(p: dict[str, Any]) -> _Volume:
    """All that is smooth: place in the template (3), depth, distance from ventricles, noise (3)."""
    axes = [c + STEP * torch.arange(k) for c, k in zip(CORNER, COUNT, strict=True)]
    x = torch.stack(torch.meshgrid(*axes[::-1], indexing="ij")[::-1], -1)
    y = _to_template(p, _pushed(p, x))
    far = _atlas().far.at(y)
    far[0] = _atlas().far.at(_to_template(p, x))[0]  # the skull gives way to no mass
    return _Volume(torch.cat([y.movedim(-1, 0), far, p["grain"]]), CORNER, STEP)


def _tissue(p: dict[str, Any], smooth: _Volume, x: Tensor, signal: dict[str, Tensor]):
    """Signal of the tissue at points (K, H, W, 3) and whether a lesion is there, both (K, H, W)."""
    y0, y1, y2, depth, ventricle, *noise = smooth.at(x)
    y = torch.stack([y0, y1, y2], -1)
    white, grey = _atlas().shares.at(y)
    score = torch.stack([white, grey, 1 - white - grey + p["sulci"]]) + 0.08 * torch.stack(noise)
    white, grey, fluid = torch.softmax(14 * score, 0)
    head = torch.sigmoid(depth / 0.6)
    seen = white * signal["white matter"] + grey * signal["grey matter"] + fluid * signal["csf"]
    room = {"white": white, "brain": 1 - fluid, "head": head, "swollen": 1 - 0.5 * fluid}
    lesion = torch.zeros_like(seen)
    # Caps around the ventricles, thickest at the horns.
    horns = torch.exp(-(((y1.abs() - 2 - 0.6 * (y1 < 0) * 40) / 25) ** 2)) * 0
    edge = torch.sigmoid((p["halo"] - ventricle + 1.5 * noise[0] + horns) / 0.8)
    cap = white * edge * (ventricle > -3)
    seen = torch.lerp(seen, signal["gliosis"].expand_as(seen), 0.75 * cap)
    if p["kind"] == 2:
        lesion = torch.maximum(lesion, cap)
    for s in (-1, 1):
        r = ((y - torch.tensor([s * 22.0, -40.0, 10.0])) / torch.tensor([5.0, 9, 7])).norm(dim=-1)
        m = torch.sigmoid((p["plexus"] / 5 - r) * 5) * fluid * (ventricle < 0)
        seen = torch.lerp(seen, signal["plexus"].expand_as(seen), m)
    top, low = x[..., 2].max(), x[..., 2].min()
    for blob in p["blobs"]:
        reach = 1.4 * blob.mm * blob.long * blob.rings[0][0]
        if not low - reach < blob.at[2] < top + reach:
            continue
        r = ((x - torch.tensor(blob.at).float()) @ torch.tensor(blob.axes).float().T).norm(dim=-1)
        uneven = 1 + 0.12 * noise[1]
        for scale, tissue, share, where in blob.rings:
            inside = torch.sigmoid((scale * uneven - r) * blob.mm / 0.6) * room[where]
            seen = torch.lerp(seen, signal["csf" if tissue == "fluid" else tissue].expand_as(seen), share * inside)
            if blob.kind:
                lesion = torch.maximum(lesion, inside)
    return seen * head, lesion * head, head


def _signals(p, contrast):
    times = p[contrast]
    tissues = dict(mri.RELAXATION[p["tesla"]])
    for name, (low, high, t2, pd) in _FACTS["tissues"].items():
        tissues[name] = mri.Tissue(low if p["tesla"] < 2 else high, t2, pd)
    make = mri.inversion_recovery if "ti" in times else mri.spin_echo
    return {name: make(t, **times) for name, t in tissues.items()}


def _scans(seed: int, patient: int, size: int, contrast: str) -> dict[str, Tensor]:
    """Pictures, masks and facts of one patient, by the names of the cohort's fields."""
    place = (BRAIN_MRI.name, BRAIN_MRI.version, seed, patient)
    rng = stream(*place)
    p, facts = _patient(rng)
    smooth, signal = _lattice(p), _signals(p, contrast)
    low, high = HEIGHTS
    z = low + (high - low) * (np.arange(IMAGES) + rng.random(IMAGES)) / IMAGES
    facts["lesion_ml"] = 0.0
    if p["kind"]:
        ill = [b for b in p["blobs"] if b.kind]
        aim = max(ill, key=lambda b: b.mm * (low < b.at[2] < high)).at[2]
        z[np.abs(z - aim).argmin()] = aim
        facts["lesion_ml"] = _millilitres(p, smooth, signal, ill)
    pictures, masks = zip(*(_slice(p, smooth, signal, float(h), size) for h in z), strict=True)
    heads = torch.stack(masks)[:, 1]
    images = []
    for i, picture in enumerate(pictures):
        kept = torch.from_numpy(mri.keep_kspace(picture.clamp_min(0), p["matrix"])[1]).float()
        sigma = p["noise"] * float(signal["white matter"])
        again = stream(*place, i, CONTRASTS.index(contrast))
        images.append(mri.add_noise(kept, sigma, seed=int(again.integers(2**31))).abs())
    images = torch.stack(images)
    level = images[heads > 0.5].median() * _FACTS["white_level"][contrast]
    return {
        "image": (255 * images / level).round().clamp(0, 255).byte(),
        "mask": (torch.stack(masks)[:, 0] >= 0.5).byte() * p["kind"],
        "height_mm": torch.tensor(z),
        **{name: torch.tensor([value] * IMAGES) for name, value in facts.items()},
    }


def _grid(size: int, heights) -> Tensor:
    half = FIELD / 2 - FIELD / size / 2
    x, y = (c + torch.linspace(half, -half, size) for c in CENTRE)
    z, y, x = torch.meshgrid(torch.as_tensor(heights).float(), y, x, indexing="ij")
    return torch.stack([x, y, z], -1)


def _slice(p, smooth, signal, height, size):
    x = _grid(2 * size, [height + p["thickness"] * c for c in CUTS])
    seen, lesion, head = _tissue(p, smooth, x, signal)
    across = (x[0, ..., :2] - torch.tensor(CENTRE)) / (FIELD / 2)
    u, v = across[..., 0], across[..., 1]
    w = torch.full_like(u, height / 100)
    terms = torch.stack([u, v, w, u * u - 0.2, v * v - 0.2, u * v, v * w])
    coil = torch.tensor(p["bias"] * p["coil"]).float()
    bias = torch.exp(torch.einsum("k,khw->hw", coil, terms))
    small = functional.avg_pool2d(torch.stack([seen.mean(0) * bias, lesion.mean(0), head.mean(0)]), 2)
    return small[0], small[1:]


def _millilitres(p, smooth, signal, blobs):
    reach = np.array([[1.4 * b.mm * b.long * b.rings[0][0]] * 3 for b in blobs])
    at = np.array([b.at for b in blobs])
    low, high = (at - reach).min(0), (at + reach).max(0)
    if p["kind"] == 2:
        low, high = np.minimum(low, [-60, -90, -30]), np.maximum(high, [60, 60, 50])
    axes = [torch.linspace(a, b, 49)[:-1].float() + (b - a) / 96 for a, b in zip(low, high, strict=True)]
    z, y, x = torch.meshgrid(*axes[::-1], indexing="ij")
    inside = _tissue(p, smooth, torch.stack([x, y, z], -1), signal)[1] >= 0.5
    return float(inside.float().mean()) * float(np.prod(high - low)) / 1000
