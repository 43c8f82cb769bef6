"""The cohort `brain_mri`: brains made individual, aged and ill, in three scanners."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy import ndimage
from scipy.stats import uniform_direction
from torch import Tensor
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, read_facts
from medlab.simulate import mri
from medlab.simulate._streams import Numbers, assembled, check_images, drawn, drawn_site, stream

_FACTS = read_facts("simulate/brain_mri")
BRAIN_MRI = DataCard(**_FACTS["card"])
SITES: dict[str, dict[str, Any]] = _FACTS["sites"]
KINDS: list[dict[str, Any]] = list(_FACTS["kinds"].values())  # 0 healthy, then the values of masks
CONTRASTS = ("flair", "t1", "t2")
FIELD = 200.0  # mm, side of the square shown
CENTRE = (0.0, -18.0)  # MNI x, y of its middle
HEIGHTS = (-38.0, 58.0)  # MNI z of the slices
IMAGES = 4  # a patient
CUTS = (-1 / 3, 0.0, 1 / 3)  # where a slice is sampled, in thicknesses
CORNER, STEP, COUNT = (-88.0, -120.0, -60.0), 4.0, (45, 52, 34)  # lattice of what is smooth
HALO = 2  # kind whose changes also lie around the ventricles, thicker than in health


def brain_mri(n: int = 600, seed: int = 0, size: int = 96, contrast: str = "flair") -> Cohort:
    """Axial MR slices of simulated brains, half of them with lesions of one of seven kinds.

    Each patient is one brain without skull and has four slices, from the feet upwards; in an ill
    one at least one goes through a lesion. A smaller cohort is the beginning of a larger one.

    Args:
        n: images, ≥ 1; four a patient.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 32 … 512, of a field of 200 mm. A pixel's noise is the same at any
            size: a larger picture has been measured for longer.
        contrast: "flair", "t1" or "t2" of the same slices: nothing else differs but tr, te, ti.

    Returns:
        Cohort of uint8 images (n, 1, size, size): the front is on top, the patient's left on the
        right; the four slices of a patient have one window, set by the median of his brain.
        `masks`: the kind of lesion, 1 … 7, where it fills at least half of a pixel's slice.
        `labels`: 1 if the mask holds a lesion. `extras`: kind (of the patient, 0 healthy), age
        (years), female, height_mm (MNI z), thickness (of the slice, mm), tesla, tr, te and ti (ms;
        ti 0: spin echo).

    Raises:
        DataError: n, seed or size out of range, or an unknown contrast.
    """
    check_images(n, size, least=32, even=False)
    if contrast not in CONTRASTS:
        raise DataError(f"contrast must be one of {', '.join(CONTRASTS)}; got {contrast!r}")
    _atlas()  # once, before several workers ask for it
    scans = partial(_scans, seed, size, contrast)
    return assembled(scans, n, each=IMAGES, card=BRAIN_MRI, sites=SITES, mm=FIELD / size)


class _Volume(NamedTuple):
    """Values (C, D, H, W) on a grid whose first voxel lies at `corner` (x, y, z), mm."""

    values: Tensor
    corner: tuple[float, float, float]
    step: float

    def at(self, points: Tensor) -> Tensor:
        """(C, …) values at points (…, 3), mm: linear between voxels, those of the rim outside."""
        last = torch.tensor(self.values.shape[:0:-1]) - 1
        where = (points - torch.tensor(self.corner)) * (2 / self.step) / last - 1
        grid = where.reshape(1, 1, 1, -1, 3)
        found = functional.grid_sample(
            self.values[None], grid, padding_mode="border", align_corners=True
        )
        return found.view(-1, *points.shape[:-1])


class _Atlas(NamedTuple):
    """The average brain.

    `shares`: white and grey matter, 0 … 1. `far`: mm beneath the surface of the brain and outside
    the lateral ventricles, both signed. `away`: directions away from the ventricles, which fade
    with distance. `places`: points (N, 3), MNI mm, where a lesion may begin, by name.
    """

    shares: _Volume
    far: _Volume
    away: _Volume
    places: dict[str, ndarray]


@cache
def _atlas() -> _Atlas:
    """Made of `mri.template`; all but the shares of every second voxel."""
    full, corner = mri.template()
    shares = _Volume(torch.from_numpy(full[:2]), corner, 1.0)
    white, grey, brain = full[:, ::2, ::2, ::2]
    starts = zip(corner[::-1], white.shape, strict=True)
    z, y, x = np.ogrid[tuple(slice(c, c + 2 * k, 2) for c, k in starts)]
    side = abs(x)

    def depth_in(inside: ndarray) -> ndarray:
        within, without = (ndimage.distance_transform_edt(part) for part in (inside, ~inside))
        return ndimage.gaussian_filter(2 * (within - without), 0.7).astype(np.float32)

    depth = depth_in(brain > 0.5)
    fluid = (white + grey < 0.45) & (depth > 18) & (side >= 2) & (side < 37)
    far = -depth_in(fluid & (y > -60) & (y < 34) & (z > -5) & (z < 32))
    slope = np.stack(np.gradient(far, 2.0)[::-1])  # along x, y, z
    away = ndimage.gaussian_filter(slope * np.exp(-abs(far) / 12), (0, 2, 2, 2))
    border = (white > 0.35) & (white < 0.65) & (grey > 0.3)
    where = {
        "ventricle": (white > 0.6) & (far > 2) & (far < 7),
        "juxtacortical": border & (far > 14) & (z > -20),
        "deep": (white > 0.85) & (far > 9) & (z > -8) & (depth > 12),
        "infratentorial": (white > 0.5) & (z < -22) & (y < -14) & (side < 30),
        "ganglia": (grey > 0.3) & (side > 12) & (side < 30) & (abs(y + 4) < 14) & (abs(z - 3) < 8),
        "surface": (depth > 2) & (depth < 6) & (z > -15) & (z < 50) & (side > 18),
        "fossa": (depth > 4) & (depth < 10) & (abs(z + 16) < 14) & (abs(y - 2) < 16) & (side > 30),
    }
    places = {name: np.argwhere(w)[:, ::-1] * 2 + np.array(corner) for name, w in where.items()}
    places["pallidum"] = np.array([[20.0, -4.0, 0.0], [-20.0, -4.0, 0.0]])
    distances = torch.from_numpy(np.stack([depth, far]))
    away = torch.from_numpy(away.astype(np.float32))
    return _Atlas(shares, _Volume(distances, corner, 2.0), _Volume(away, corner, 2.0), places)


class _Blob(NamedTuple):
    """An ellipsoid, `axes` (3, 3) directions over half axes, 1/mm, around `at`, a point (3,), mm.

    `mm` is the usual half axis; nothing of it lies farther than `reach` from `at`, mm. `rings`,
    the outer first: [scale, tissue, the share that it replaces, of what]; `faint`, 0 … 1, weakens
    all but fluid.
    """

    kind: int
    at: Tensor
    axes: Tensor
    mm: float
    reach: float
    rings: list[list]
    faint: float


def _patient(rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """What stays the same in all slices of one head, and what is told of it."""
    age, female, ill = rng.uniform(20, 88), bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    old = (age - 20) / 68
    site = drawn_site(rng, SITES)
    p = drawn(rng, _FACTS["patient"])
    a, b, c = p["turn"]
    p["turn"] = torch.tensor([[0, -c, b], [c, 0, -a], [-b, a, 0]]).matrix_exp()
    p["scale"] = torch.from_numpy(p["scale"] * (1 + 0.035 * female))
    # Waves strain by 0.05 each, all 16 of them by less than 1: the map cannot fold.
    waves, directions = 2 * math.pi / p["length"][:, None], uniform_direction(3, seed=rng)
    p["waves"] = torch.from_numpy(directions.rvs(len(waves)) * waves)
    p["sway"] = torch.from_numpy(directions.rvs(len(waves)) * 0.05 / waves)
    p["phase"] = torch.from_numpy(p["phase"])
    p["grain"] = torch.cat([_grain(rng, 1), _grain(rng, 4)])
    p["ventricle"] = float(np.clip(-2.4 + 7 * old + rng.normal(0, 1.4), -2.5, 6.5))
    p["sulci"] = 0.04 + 0.2 * old + rng.normal(0, 0.02)
    p["halo"] = max(0.0, -0.5 + 3 * old + rng.normal(0, 0.5))
    p["kind"], p["blobs"] = 0, _blobs(rng, p, 0, often=0.3 + 1.2 * old)
    if ill:
        young, aged = np.array([facts["weight"] for facts in KINDS]).T
        weight = young + (aged - young) * old
        p["kind"] = int(rng.choice(len(KINDS), p=weight / weight.sum()))
        p["blobs"] += _blobs(rng, p, p["kind"])
        if p["kind"] == HALO:
            p["halo"] = rng.uniform(*KINDS[HALO]["halo"])
    facts = {"kind": p["kind"], "age": age, "female": female, "site": site}
    return p | SITES[list(SITES)[site]], facts


def _grain(rng: np.random.Generator, coarse: int) -> Tensor:
    """Two random fields on the lattice, from numbers that are `coarse` of its steps apart."""
    white = rng.standard_normal((1, 2, *(k // coarse for k in COUNT[::-1])), dtype=np.float32)
    return functional.interpolate(
        torch.from_numpy(white), COUNT[::-1], mode="trilinear", align_corners=True
    )[0]


def _blobs(rng: np.random.Generator, p: Numbers, kind: int, often: float = 1) -> list[_Blob]:
    """Everything of one kind in one head; numbers and sizes are uniform in their logarithm."""
    atlas, blobs = _atlas(), []
    parts = KINDS[kind]["parts"]
    for part in [rng.choice(parts)] if "either" in KINDS[kind] else parts:
        low, high = part["many"]
        many = round(low * (high / low) ** rng.random() * (often if high > low else 1))
        if not many:
            continue
        places = torch.from_numpy(rng.permutation(atlas.places[part["place"]])[:many])
        for there, at in zip(places, _in_patient(p, places), strict=True):
            first = torch.from_numpy(rng.standard_normal(3))
            if part["place"] == "ventricle":  # along the venules
                first = atlas.away.at(there.float()).double()
            elif part["place"] == "surface":  # a territory, from the cortex inwards
                first = at - torch.tensor([0, -18, 12])
            frame = torch.stack([first, *torch.from_numpy(rng.standard_normal((2, 3)))], 1)
            least, most = part["mm"]
            mm, long = least * (most / least) ** rng.random(), rng.uniform(*part["long"])
            half = mm * torch.tensor([long, 1, rng.uniform(0.8, 1.2)])[:, None]
            axes = (torch.linalg.qr(frame)[0].T / half).float()
            reach = 1.5 * part["rings"][0][0] * mm * max(long, 1.2)
            faint = rng.uniform(0.55, 1) if kind else 1.0
            blobs.append(_Blob(kind, at.float(), axes, mm, reach, part["rings"], faint))
    return blobs


def _to_template(p: Numbers, x: Tensor) -> Tensor:
    """Points (…, 3) of the patient's head, mm, in the average brain; no mass displaces them."""
    turn, scale, waves, phase, sway = (
        p[name].to(x) for name in ("turn", "scale", "waves", "phase", "sway")
    )
    centre = torch.tensor([*CENTRE, 10]).to(x)
    y = (x - centre) @ turn.T * scale + centre
    y = y + torch.sin(x @ waves.T + phase) @ sway
    return y - p["ventricle"] * _atlas().away.at(y.float()).movedim(0, -1)


def _in_patient(p: Numbers, y: Tensor) -> Tensor:
    """The inverse of `_to_template`, by fixed-point iteration."""
    x = y
    for _ in range(15):
        x = x + y - _to_template(p, x)
    return x


def _undisplaced(p: Numbers, x: Tensor) -> Tensor:
    """Where the tissue at x was before a mass of radius R: r' = r (1 − s exp(−(r / 1.5 R)²))."""
    for push, blob in [(KINDS[b.kind].get("push", 0), b) for b in p["blobs"]]:
        if push:
            away = x - blob.at
            near = torch.exp(-away.square().sum(-1, keepdim=True) / (1.5 * blob.mm) ** 2)
            x = x - push * near * away
    return x


def _lattice(p: Numbers) -> _Volume:
    """All that is smooth: place in the template (3), depth, distance from ventricles, grain (4)."""
    x = _points(*(c + STEP * torch.arange(k) for c, k in zip(CORNER, COUNT, strict=True)))
    y = _to_template(p, _undisplaced(p, x))
    far = _atlas().far.at(y)
    if "push" in KINDS[p["kind"]]:  # a mass displaces tissue, not the skull
        far[0] = _atlas().far.at(_to_template(p, x))[0]
    return _Volume(torch.cat([y.movedim(-1, 0), far, p["grain"]]), CORNER, STEP)


def _tissue(
    p: Numbers, smooth: _Volume, signal: dict[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """At points (N, 3), each (N,): signal, and the shares of lesion and of all within the skull."""
    *where, depth, ventricle, fine, finer, broad, broader = smooth.at(x)
    y = torch.stack(where, -1)
    white, grey = _atlas().shares.at(y)
    # The average is blurred; an individual has one tissue at a point, another one than his
    # neighbour where the average hesitates.
    score = torch.stack([white + 0.05, grey, 1 - white - grey + p["sulci"] + _folia(y) * grey])
    score = score + 0.08 * torch.stack([fine, finer, broad])
    white, grey, fluid = torch.softmax(14 * score, 0)
    head = torch.sigmoid(depth / 0.6)
    seen = white * signal["white matter"] + grey * signal["grey matter"] + fluid * signal["csf"]
    rooms = {"white": white, "brain": 1 - fluid, "swollen": 1 - 0.5 * fluid, "head": head}
    lesion = torch.zeros_like(seen)
    caps = p["halo"] * torch.sigmoid((y[:, 0].abs() - 13) / 3) + 1.2 * fine + 2 * broader
    caps = white * torch.sigmoid((caps - ventricle) / 0.8) * (ventricle > -3)
    seen = torch.lerp(seen, signal["gliosis"], 0.65 * caps)
    if p["kind"] == HALO:
        lesion = caps
    right = torch.cat([y[:, :1].abs(), y[:, 1:]], 1)  # both sides in one
    r = ((right - torch.tensor([22.0, -40, 10])) / torch.tensor([5.0, 9, 7])).norm(dim=-1)
    plexus = torch.sigmoid(p["plexus"] - 5 * r) * fluid * (ventricle < 0)
    seen = torch.lerp(seen, signal["plexus"], plexus)
    low, high = x[:, 2].min(), x[:, 2].max()
    uneven = 1 + 0.1 * finer + 0.15 * broader
    for blob in p["blobs"]:
        if not low - blob.reach < blob.at[2] < high + blob.reach:
            continue
        r = ((x - blob.at) @ blob.axes.T).norm(dim=-1)
        for scale, tissue, share, room in blob.rings:
            inside = torch.sigmoid((scale * uneven - r) * blob.mm / 0.6) * rooms[room]
            share = share if tissue == "csf" else share * blob.faint
            seen = torch.lerp(seen, signal[tissue], share * inside)
            if blob.kind:
                lesion = torch.maximum(lesion, inside)
    return seen * head, lesion * head, head


def _folia(y: Tensor) -> Tensor:
    """Fissures of the cerebellum and the cleft of the tentorium above it, 0 … 0.9."""
    above = y[:, 2] + 4 - 0.42 * (y[:, 1] + 40) + 0.4 * y[:, 0].abs()
    behind = torch.sigmoid(-(y[:, 1] + 38) / 2)
    r = ((y - torch.tensor([0.0, -42, -28])) * torch.tensor([0.7, 1, 1.2])).norm(dim=-1)
    fissures = torch.sin(r * (math.pi / 4.5)).abs() < 0.22
    return 0.9 * behind * torch.where(above > 0, torch.exp(-((above - 1) ** 2)), 1.0 * fissures)


def _signals(tesla: float, times: dict[str, float]) -> dict[str, Tensor]:
    """Signal of each tissue; an inversion time makes it inversion recovery."""
    return {name: mri.spin_echo(tissue, **times) for name, tissue in mri.RELAXATION[tesla].items()}


def _scans(seed: int, size: int, contrast: str, patient: int) -> Numbers:
    """Pictures, masks and facts of one patient, as `assembled` takes them."""
    place = (BRAIN_MRI.name, BRAIN_MRI.version, seed, patient)
    rng = stream(*place)
    p, facts = _patient(rng)
    smooth, signal = _lattice(p), _signals(p["tesla"], p[contrast])
    low, high = HEIGHTS
    z = low + (high - low) * (np.arange(IMAGES) + rng.random(IMAGES)) / IMAGES
    facts |= {"tesla": p["tesla"], "ti": 0.0} | {k: float(ms) for k, ms in p[contrast].items()}
    if p["kind"]:
        ill = [blob for blob in p["blobs"] if blob.kind]
        aim = max(ill, key=lambda blob: blob.mm * bool(low < blob.at[2] < high)).at[2]
        z[abs(z - float(aim)).argmin()] = float(aim)
    cuts = torch.stack([_slice(p, smooth, signal, float(h), size) for h in z])
    images = []
    for i, clear in enumerate(cuts[:, 0]):
        kept = torch.from_numpy(mri.keep_kspace(clear, p["matrix"])[1]).float()
        noise = stream(*place, i, CONTRASTS.index(contrast)).integers(2**31)
        sigma = p["noise"] * float(signal["white matter"])
        images.append(mri.add_noise(kept, sigma, seed=int(noise)).abs())
    shown = torch.stack(images)
    shown = shown / (_FACTS["white_level"][contrast] * shown[cuts[:, 2] > 0.5].median())
    masks = (cuts[:, 1] >= 0.5).byte() * p["kind"]
    return facts | {
        "images": (255 * shown).round().clamp(0, 255).byte()[:, None],
        "masks": masks,
        "labels": (masks > 0).flatten(1).any(1).long(),
        "height_mm": torch.from_numpy(z),
        "thickness": p["thickness"],
    }


def _slice(
    p: Numbers, smooth: _Volume, signal: dict[str, Tensor], height: float, size: int
) -> Tensor:
    """(3, size, size): magnitude without noise, shares of lesion and head, at an MNI z."""
    half = FIELD / 2 * (1 - 0.5 / size)
    x, y = (middle + torch.linspace(half, -half, 2 * size) for middle in CENTRE)
    points = _points(x, y, height + p["thickness"] * torch.tensor(CUTS))
    coarse = smooth._replace(values=smooth.values[3:4]).at(points[1:2, ::2, ::2]) > -6
    there = coarse[0].repeat_interleave(2, 1).repeat_interleave(2, 2).expand(len(CUTS), -1, -1)
    found = torch.zeros(3, *there.shape)  # beyond is nothing
    found[:, there] = torch.stack(_tissue(p, smooth, signal, points[there]))
    seen, lesion, head = found.mean(1)
    picture = torch.stack([seen.abs() * _bias(p, points[1]), lesion, head])
    return functional.avg_pool2d(picture, 2)


def _points(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """(D, H, W, 3) of three axes."""
    return torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], -1)


def _bias(p: Numbers, x: Tensor) -> Tensor:
    """Sensitivity of the receiving coil, about 1, at points (…, 3): the exponential of a parabola.

    Source: Sled et al., IEEE Trans Med Imaging 17 (1998) 87, for a smooth field that multiplies.
    """
    u, v, w = ((x - torch.tensor([*CENTRE, 10])) / (FIELD / 2)).unbind(-1)
    terms = torch.stack([u, v, w, u * u - 0.2, v * v - 0.2, u * v, v * w], -1)
    return torch.exp(terms @ torch.from_numpy(p["bias"] * p["coil"]).float())
