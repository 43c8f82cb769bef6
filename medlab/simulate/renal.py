"""The cohort `kidney_us`: kidneys in three dimensions, seen by a convex probe."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from numbers import Integral
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.simulate import _flank as flank
from medlab.simulate._streams import side_by_side, stream
from medlab.simulate.ultrasound import Probe, log_compress, received, scan_convert, two_way_loss

_FACTS = json.loads((files("medlab.simulate") / "kidney_us.json").read_text(encoding="utf-8"))
KIDNEY_US = DataCard(**_FACTS["card"])
SITES: dict[str, dict[str, float]] = _FACTS["sites"]
TISSUES: dict[str, list[float]] = _FACTS["tissues"]
INDEX = {name: k for k, name in enumerate(TISSUES)}

FIELD = 180.0  # mm, side of the square shown
SAMPLES, LINES = 320, 144  # of the polar grid
IMAGES = 4  # a patient: longitudinal and transverse through the middle, then through a lesion
CHUNK = 2  # patients computed together
MOST_CYSTS, MOST_STONES, MOST_RIBS, BRANCHES = 3, 2, 2, 5
FACTS = ("view", "central", "grade", "cysts", "stones", "age", "female", "right", "length")


def kidney_us(n: int = 600, seed: int = 0, size: int = 96) -> Cohort:
    """Ultrasound images of simulated kidneys, some with cysts, stones or a dilated pelvis.

    Each patient is one three-dimensional kidney with four images: longitudinal and transverse
    through its middle, then both again, through the first cyst or else a stone if there is one. A
    smaller cohort is the beginning of a larger one.

    Args:
        n: images, ≥ 1; four a patient.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 32 … 512, of a field of 180 mm.

    Returns:
        Cohort of uint8 images (n, 1, size, size): the probe is on top, the head (longitudinal) or
        the patient's right (transverse) on the left. `masks`: 1 parenchyma, 2 sinus with collecting
        system and stones, 3 cysts, at pixel centres within the sector, in shadows too. Each image
        has in `extras`: view (0 longitudinal, 1 transverse), central (plane through the middle),
        kidney_ml (all within the renal outline: parenchyma, sinus, what of cysts lies there),
        cyst_ml (all cysts, whole), grade (of hydronephrosis, 0 … 4), cysts and stones (numbers in
        the kidney), age (years), female, right, length (mm).

    Raises:
        DataError: n, seed or size out of range.
    """
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"n is the number of images and must be a whole number ≥ 1; got {n!r}")
    if not isinstance(size, Integral) or not 32 <= size <= 512:
        raise DataError(f"size is the side in pixels, from 32 to 512; got {size!r}")
    chunks = range(0, -(-n // IMAGES), CHUNK)  # every chunk is full: same shapes, same rounding
    parts = side_by_side(lambda first: _scans(seed, range(first, first + CHUNK), size), chunks)
    merged = {key: torch.cat([p[key] for p in parts])[:n] for key in parts[0]}
    patient = np.arange(n) // IMAGES
    return Cohort(
        images=merged.pop("image")[:, None],
        card=KIDNEY_US,
        masks=merged.pop("mask"),
        patients=np.array([f"P{k:05d}" for k in patient]),
        sites=np.array([list(SITES)[k] for k in merged.pop("site").tolist()]),
        spacing=(FIELD / size, FIELD / size),
        extras=merged,
    )


def _normal(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """Normal within low … high."""
    edges = ndtr((np.array([low, high]) - mean) / sd)
    return float(mean + sd * ndtri(rng.uniform(*edges)))


def _patient(rng: np.random.Generator) -> dict[str, Any]:
    """Numbers of one kidney: lengths in mm, angles in radians."""
    age, female, right = rng.uniform(18, 88), rng.random() < 0.5, rng.random() < 0.5
    mean = 114 - 3 * right - 5 * female - 0.35 * max(0.0, age - 60)
    length = _normal(rng, mean, 8, 90, 130)
    grade = int(np.searchsorted([0.62, 0.74, 0.85, 0.94], rng.random()))
    width, thick = length * rng.normal(0.51, 0.025), length * rng.normal(0.43, 0.025)
    thin = 1.0 - 0.35 * (grade == 4) - 0.004 * max(0.0, age - 55)
    p: dict[str, Any] = {
        "age": age, "female": female, "right": right, "length": length, "grade": grade,
        "width": width * (1 + 0.04 * (grade > 2)), "thick": thick * (1 + 0.06 * (grade > 2)),
        "bend": rng.uniform(4, 12), "notch": rng.uniform(0.15, 0.32), "power": rng.uniform(2.1, 2.5),
        "lobes": rng.uniform(0.02, 0.05) * (rng.random() < 0.15), "lobe_mm": rng.uniform(18, 26),
        "sinus": rng.uniform(0.88, 1.12) + 0.002 * max(0.0, age - 50) + 0.04 * grade,
        "cortex": rng.uniform(6, 9) * thin, "pyramid_mm": rng.uniform(5, 7.5) * length / 110,
        "wave": rng.uniform(3.0, 6.0, 3), "pyramids": flank.pyramids(rng),
        "calyx": [1e-3, 1.5, 3.2, 6.0, 9.5][grade] * rng.uniform(0.85, 1.15) + 1e-3,
        "neck": [0.0, 0.8, 2.0, 3.2, 5.0][grade] * rng.uniform(0.85, 1.15),
        "pelvis": [1e-3, 3.2, 5.5, 8.0, 10.5][grade] * rng.uniform(0.85, 1.2),
        "vein": rng.uniform(2.5, 4.5),
        "fat": 8 + 26 * rng.random() ** 2, "wall": rng.uniform(8, 15),
        "cava": rng.uniform(9, 13), "perirenal": 1.5 + 9 * rng.random() ** 1.5,
        "facing": rng.uniform(0.2, 1.1),
        "cortex_db": rng.normal(0, 1.5) + 3 * (rng.random() < 0.15),
        "liver_db": rng.normal(0, 1) + 4 * (rng.random() < 0.2), "sinus_db": rng.normal(0, 1.5),
    }  # fmt: skip
    half = np.array([p["width"], p["thick"], length]) / 2
    # More cysts than in the population, the more the older.
    cysts = int(np.searchsorted(np.cumsum([0.75 - 0.006 * age, 0.3, 0.12]), rng.random()))
    at, radius = np.zeros((MOST_CYSTS, 3)), np.zeros(MOST_CYSTS)
    for k in range(min(cysts, MOST_CYSTS)):
        z, turn = rng.uniform(-0.75, 0.75), p["facing"] + rng.normal(0, 0.9)
        where = np.array([np.cos(turn), np.sin(turn), 0]) * np.sqrt(1 - z**2) + [0, 0, z]
        kind = rng.random()  # within the cortex, out of it, or beside the pelvis
        out = rng.uniform(0.6, 0.85) if kind < 0.5 else rng.uniform(0.9, 1.15)
        if kind > 0.88:
            out, where = rng.uniform(0.2, 0.4), where * [1, 1, 0.6]
        at[k] = out * where * half
        want = 4 + 18 * rng.random() ** 1.6
        room = [np.linalg.norm(at[k] - at[j]) - 1.1 * radius[j] - 2 for j in range(k)]
        radius[k] = max(0.0, min([want, *(r / 1.1 for r in room)]))
    radius[radius < 3] = 0.0
    stones = int(np.searchsorted([0.72, 0.92], rng.random()))
    tips = p["pyramids"][rng.permutation(flank.PYRAMIDS)[:MOST_STONES]]
    p["stone_at"] = tips * half * 0.42
    p["stone_mm"] = rng.uniform(1.8, 5.5, MOST_STONES) * (np.arange(MOST_STONES) < stones)
    p |= {"cyst_at": at, "cyst_mm": radius, "cyst_stretch": rng.uniform(0.93, 1.07, MOST_CYSTS)}
    p |= {"cysts": int((radius > 0).sum()), "stones": stones}
    p["cyst_ml"] = 4 / 3 * math.pi * float((radius**3).sum()) / 1000
    p["site"] = int(np.searchsorted(np.cumsum([s["share"] for s in SITES.values()])[:-1], rng.random()))
    return p


def _moment(rng: np.random.Generator, p: dict[str, Any], image: int) -> dict[str, Any]:
    """Numbers of one image: plane, what is in front, settings."""
    view, central = image % 2, image < 2
    facing, skew = p["facing"] + rng.normal(0, 0.12), rng.normal(0, 0.06)
    tilt = rng.normal(0.17, 0.1) if view == 0 else rng.normal(0, 0.15)
    beam = np.array([-math.cos(facing), -math.sin(facing), 0.0])
    side = 1.0 if p["right"] else -1.0
    across = np.array([0.0, 0.0, -1.0]) if view == 0 else side * np.array([beam[1], -beam[0], 0.0])
    normal = np.cross(across, beam)
    across, normal = (  # a hand that is not quite steady
        math.cos(skew) * across + math.sin(skew) * normal,
        math.cos(skew) * normal - math.sin(skew) * across,
    )
    across, beam = (
        math.cos(tilt) * across + math.sin(tilt) * beam,
        math.cos(tilt) * beam - math.sin(tilt) * across,
    )
    aim = p["cyst_at"][0] if p["cysts"] else p["stone_at"][0] if p["stones"] else np.zeros(3)
    off = rng.normal(0, 1.5) if central else float(aim @ normal) + rng.normal(0, 2.5)
    half = p["thick"] if view == 0 else p["length"]
    off = float(np.clip(off, -0.36 * half, 0.36 * half))
    depth_of_centre = p["fat"] + p["wall"] + rng.uniform(6, 14) + (p["width"] + p["thick"]) / 4
    long = view == 0
    gas = rng.random() < (0.2 if p["right"] else 0.35)
    ribs = np.where(rng.random(MOST_RIBS) < (0.3 if long else 0.12), 1, 0)
    rib_x = np.array([-1, 1]) * rng.uniform(24, 48, 2)
    return {
        "view": view, "central": central, "tilt": tilt, "across": across, "beam": beam,
        "normal": normal, "off": off, "at_x": rng.normal(0, 5),
        "at_y": depth_of_centre + 0.12 * (p["length"] - 100) * long,
        "depth": depth_of_centre + rng.uniform(58, 85), "focus": depth_of_centre + rng.normal(0, 8),
        "phase": rng.uniform(0, 2 * math.pi, 8), "rib_x": np.where(ribs, rib_x, 500.0),
        "gas_x": rng.uniform(25, 60) * (1 if long or p["right"] else -1) if gas else 500.0,
        "gas_d": p["fat"] + p["wall"] + rng.uniform(4, 16), "gas_mm": rng.uniform(8, 20),
        "organ": rng.uniform(20, 75) if p["right"] else rng.uniform(-45, -15),
        "dome_x": rng.uniform(55, 80), "dome_gap": rng.uniform(8, 25),
        "branch_at": rng.uniform([-60, 35], [35, 100], (BRANCHES, 2)),
        "branch_mm": rng.uniform(1.2, 3.2, BRANCHES), "branch_slant": rng.normal(0, 0.8, BRANCHES),
        "blotch": rng.normal(0, 1 / 5, (6, 2)), "gain": rng.normal(0, 2.5),
        "tgc_off": rng.normal(1, 0.04), "ghost": rng.uniform(-26, -16),
    }  # fmt: skip


def _scans(seed: int, patients: range, size: int) -> dict[str, Tensor]:
    """Pictures, masks and facts of a chunk of patients."""
    rows, white = [], []
    for k in patients:
        place = (KIDNEY_US.name, KIDNEY_US.version, seed, k)
        p = _patient(stream(*place))
        for image in range(IMAGES):
            rng = stream(*place, image)
            site = SITES[list(SITES)[p["site"]]]
            rows.append(p | site | _moment(rng, p, image))
            white.append(rng.standard_normal((4, SAMPLES, LINES), dtype=np.float32))
    s = {}
    for key in rows[0]:
        value = torch.from_numpy(np.stack([np.asarray(r[key], dtype=np.float64) for r in rows]))
        s[key] = value.float()[..., None, None]
    volume = flank.kidney_ml({key: value[::IMAGES] for key, value in s.items()})
    s["kidney_ml"] = volume.float().repeat_interleave(IMAGES)
    probe = Probe(s["radius"].flatten(), torch.deg2rad(s["half_angle"]).flatten(), s["depth"].flatten(), SAMPLES, LINES)
    beams = _echoes(s, probe, torch.from_numpy(np.stack(white)))

    fine = 2 if size <= 128 else 1
    x, y = _pixels(size * fine, probe)
    grey = torch.stack([
        log_compress(b, dynamic_range=float(v), reference=10 ** (float(v) * (1 - float(k)) / 20))
        for b, v, k in zip(beams, s["range"], s["liver"], strict=True)
    ])  # fmt: skip
    grey = grey ** s["gamma"]
    picture = functional.avg_pool2d(scan_convert(grey, probe, x, y)[:, None], fine)[:, 0]
    x, y = _pixels(size, probe)
    seen = probe.sees(x, y)
    mask = flank.classes(flank.kidney(s, _in_kidney(s, x, y))) * seen
    facts = {key: s[key].flatten() for key in (*FACTS, "kidney_ml", "cyst_ml", "site")}
    for key in ("view", "grade", "cysts", "stones", "site"):
        facts[key] = facts[key].long()
    for key in ("central", "female", "right"):
        facts[key] = facts[key] > 0
    return {"image": (255 * picture * seen).round().to(torch.uint8), "mask": mask, **facts}


def _pixels(size: int, probe: Probe) -> tuple[Tensor, Tensor]:
    """x, y (B, size, size) of pixel centres: the sides of the probe's face touch the top."""
    axis = (torch.arange(size) + 0.5) * (FIELD / size)
    top = probe.radius * (torch.cos(probe.half_angle) - 1) - 3
    y = axis[:, None] + top[:, None, None]
    return torch.broadcast_tensors(axis - FIELD / 2, y)


def _in_kidney(s: flank.Numbers, x: Tensor, y: Tensor) -> flank.Point:
    """Points of the image plane in the coordinates of the kidney."""
    dx, dy = x - s["at_x"], y - s["at_y"]
    return tuple(
        dx * s["across"][:, i] + dy * s["beam"][:, i] + s["off"] * s["normal"][:, i]
        for i in range(3)
    )


def _echoes(s: flank.Numbers, probe: Probe, white: Tensor) -> Tensor:
    """(B, samples, lines) amplitude after time-gain compensation; liver is about 1."""
    d, angle = probe.grid()
    x, y = probe.point(d, angle)
    d = d.expand_as(x)
    tissue = flank.surroundings(s, INDEX, x, y, d)
    k = flank.kidney(s, _in_kidney(s, x, y))
    inside = k["depth"] > 0
    parts = [
        ("perirenal", (k["depth"] > -s["perirenal"]) & ~inside & (tissue != INDEX["fat"])),
        ("capsule", (k["depth"] > -0.9) & ~inside), ("cortex", inside),
        *((name, inside & k[name]) for name in ("medulla", "sinus", "streak")),
        ("vessel", k["vessel"] & (k["depth"] > -40) & (k["sinus"] | ~inside)),
        ("urine", k["urine"] & (k["depth"] > -12)),
        ("wall", k["cyst_depth"] > -0.8), ("cyst", k["cyst_depth"] > 0), ("stone", k["stone"]),
        *flank.in_front(s, x, d).items(),
    ]  # fmt: skip
    for name, where in parts:
        tissue[where] = INDEX[name]
    table = torch.tensor(list(TISSUES.values()))
    level, attenuation = table[:, 0][tissue], table[:, 1][tissue]
    for name, which in (("cortex_db", ("cortex", "medulla")), ("liver_db", ("liver",)), ("sinus_db", ("sinus",))):
        for t in which:
            level = level + s[name] * (tissue == INDEX[t])
    blotch = sum(torch.sin(x * s["blotch"][:, i, 0] + y * s["blotch"][:, i, 1] + s["phase"][:, i]) for i in range(6))
    fibre = torch.sin(2 * math.pi * (d + 0.07 * x + torch.sin(x / 11)) / 2.9) + torch.sin(d / 2.1 + x / 25)
    level = level + table[:, 2][tissue] * fibre + table[:, 3][tissue] * blotch

    step, frequency = probe.step, s["frequency"]
    gas = attenuation * (tissue == INDEX["gas"])
    lost_in_gas = two_way_loss(gas, frequency=frequency, step_mm=step)
    lost = two_way_loss(attenuation, frequency=frequency, step_mm=step)
    # Between gas and probe the sound goes to and fro: echoes from where nothing can be seen.
    behind = ((lost_in_gas > 3).cumsum(1) * step)
    dirty = (lost_in_gas / 20).clamp(0, 1) * 10 ** ((-10 - 0.45 * behind + lost_in_gas) / 10)
    clutter = 10 ** ((s["clutter"] - 0.35 * d) / 10)
    power = 10 ** (level / 10)
    amplitude = (power * 10 ** (-lost / 10) + dirty * 10 ** (-lost / 10)) .sqrt()
    # Smooth borders mirror the sound, most where the beam meets them at a right angle.
    mirror = torch.zeros_like(x)
    for depth, strength in ((k["depth"], 4.0), (k["cyst_depth"], 5.0), (flank.dome(s, x, y), 14.0 * (s["view"] == 0))):
        soft = torch.sigmoid(depth / 0.8)
        mirror[:, 1:-1] += (strength * (soft[:, 2:] - soft[:, :-2]).abs() * 0.8 / step)[:, 1:-1] if False else strength * ((soft[:, 2:] - soft[:, :-2]) * 0.8 / step) ** 2
    field = white[:, :2] * (amplitude / math.sqrt(2))[:, None]
    field[:, 0] += mirror * 10 ** (-lost / 20)
    # The layers in front throw part of the echoes back once more: haze and ghosts near the probe.
    shift = 24
    field[:, :, shift:] += 10 ** (s["ghost"][:, None] / 20) * field[:, :, :-shift] * torch.exp(-d[:, shift:] / 30)[:, None]
    field = field + white[:, :2].flip(-1) * (clutter.sqrt() / math.sqrt(2))[:, None]
    spot = 0.43 * (1.54 / frequency) * torch.maximum(d[..., :1], s["focus"] * 0.5) / s["aperture"]
    spot = torch.hypot(spot, 0.018 * (d[..., :1] - s["focus"]))
    pitch = (s["radius"] + d[..., :1]) * 2 * torch.deg2rad(s["half_angle"]) / LINES
    axial = 0.32 * 3.5 / frequency / step
    field = received(field, axial=axial[:, None].clamp_max(1), lateral=(spot / pitch)[:, None].clamp(0.35, 3))
    field = field + white[:, 2:] * 10 ** (s["noise"][:, None] / 20)
    gain = 2 * s["tgc"] * s["tgc_off"] * frequency * d / 10 + s["gain"]
    return (field**2).sum(1).sqrt() * 10 ** (gain / 20)
