"""The cohort `kidney_us`: kidneys in three dimensions, seen by a convex probe."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from numbers import Integral

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.simulate import _flank as flank
from medlab.simulate._flank import Numbers
from medlab.simulate._streams import side_by_side, stream
from medlab.simulate.ultrasound import Probe, log_compress, received, scan_convert, two_way_loss

_FACTS = json.loads((files("medlab.simulate") / "kidney_us.json").read_text(encoding="utf-8"))
KIDNEY_US = DataCard(**_FACTS["card"])
SITES: dict[str, dict[str, float]] = _FACTS["sites"]
"""How each hospital scans: `share` of the patients; `frequency` MHz; probe's `radius` mm,
`half_angle` degrees and `aperture` mm; noise of the receiver and `clutter` at the face in dB of
liver at the face; `tgc` dB per cm and MHz, one way; `range` dB from black to white, `liver` its grey
level before `gamma`; `smooth` share, 0 … 1, of the mean with neighbours in an echo."""
TISSUES: dict[str, list[float]] = _FACTS["tissues"]
"""Echo level in dB of liver, attenuation in dB per cm and MHz, dB of fibres and of blotches."""
INDEX = {name: k for k, name in enumerate(TISSUES)}

FIELD = 160.0  # mm, side of the square shown
SAMPLES, LINES = 320, 144  # of the polar grid
IMAGES = 4  # a patient: longitudinal and transverse through the middle, then through a lesion
MOST_CYSTS, MOST_STONES, BRANCHES = 3, 2, 5


def kidney_us(n: int = 600, seed: int = 0, size: int = 96) -> Cohort:
    """Ultrasound images of simulated kidneys, some with cysts, stones or a dilated pelvis.

    Each patient is one three-dimensional kidney with four images: longitudinal and transverse
    through its middle, then both again, through the first cyst, or a stone, if there is one. A
    smaller cohort is the beginning of a larger one.

    Args:
        n: images, ≥ 1; four a patient.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 32 … 512, of a field of 160 mm.

    Returns:
        Cohort of uint8 images (n, 1, size, size): the probe is on top, the head (longitudinal) or
        the patient's right (transverse) on the left. `masks`: 1 parenchyma, 2 sinus with collecting
        system and stones, 3 cysts, at pixel centres within the sector, in shadows too. `extras`:
        view (0 longitudinal, 1 transverse), central (plane through the middle), kidney_ml (all
        within the renal outline: parenchyma, sinus, what of cysts lies there), cyst_ml (all cysts,
        whole), grade (of hydronephrosis, 0 … 4), cysts and stones (how many the kidney has), age
        (years), female, right, length (mm).

    Raises:
        DataError: n, seed or size out of range.
    """
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"n is the number of images and must be a whole number ≥ 1; got {n!r}")
    if not isinstance(size, Integral) or not 32 <= size <= 512:
        raise DataError(f"size is the side in pixels, from 32 to 512; got {size!r}")
    rows = side_by_side(lambda k: _scans(seed, k, size), range(-(-n // IMAGES)))
    merged = {key: torch.cat([row[key] for row in rows])[:n] for key in rows[0]}
    return Cohort(
        images=merged.pop("image")[:, None],
        card=KIDNEY_US,
        masks=merged.pop("mask"),
        patients=np.array([f"P{k // IMAGES:05d}" for k in range(n)]),
        sites=np.array([list(SITES)[k] for k in merged.pop("site").tolist()]),
        spacing=(FIELD / size, FIELD / size),
        extras=merged,
    )


def _scans(seed: int, patient: int, size: int) -> dict[str, Tensor]:
    """Pictures, masks and facts of one patient, by the names of the cohort's fields."""
    place = (KIDNEY_US.name, KIDNEY_US.version, seed, patient)
    p = _patient(stream(*place))
    facts = {name: p[name] for name in ("grade", "cysts", "stones", "age", "female", "right")}
    facts |= {"length": p["length"], "kidney_ml": flank.kidney_ml(p), "site": p["site"]}
    facts["cyst_ml"] = 4 / 3 * math.pi * float((p["cyst_mm"] ** 3).sum()) / 1000
    pictures, masks = [], []
    for image in range(IMAGES):
        rng = stream(*place, image)
        s = p | SITES[list(SITES)[p["site"]]]
        s |= _plane(rng, p, image) | _exposure(rng, p)
        s["depth"] = s["at_y"] + rng.uniform(52, 75)
        picture, mask = _picture(s, rng, size)
        pictures.append(picture)
        masks.append(mask)
    return {
        "image": torch.stack(pictures),
        "mask": torch.stack(masks),
        "view": torch.arange(IMAGES) % 2,
        "central": torch.arange(IMAGES) < 2,
        **{name: torch.tensor([value] * IMAGES) for name, value in facts.items()},
    }


def _between(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """Normal, if within low … high."""
    edges = ndtr((np.array([low, high]) - mean) / sd)
    return float(mean + sd * ndtri(rng.uniform(*edges)))


def _patient(rng: np.random.Generator) -> Numbers:
    """What stays the same from image to image: one kidney and what it lies in; mm, radians, dB."""
    age, female, right = rng.uniform(18, 88), bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    mean = 114 - 3 * right - 5 * female - 0.35 * max(0.0, age - 60)
    length = _between(rng, mean, 8, 90, 130)
    grade = int(np.searchsorted([0.62, 0.74, 0.85, 0.94], rng.random()))
    swollen, old = grade > 2, max(0.0, age - 55)
    p: Numbers = {"age": age, "female": female, "right": right, "length": length, "grade": grade}
    p["width"] = length * rng.normal(0.51, 0.025) * (1.06 if swollen else 1)
    p["thick"] = length * rng.normal(0.43, 0.025) * (1.08 if swollen else 1)
    p |= {"bend": rng.uniform(4, 12), "notch": rng.uniform(0.15, 0.32)}
    p |= {"power": rng.uniform(2.1, 2.5), "furrow_mm": rng.uniform(18, 26)}
    p["furrow"] = rng.uniform(0.02, 0.05) if rng.random() < 0.15 else 0.0
    p["sinus"] = rng.uniform(0.88, 1.1) + 0.003 * old + 0.04 * grade
    p["cortex"] = rng.uniform(6, 9) * (1 - 0.006 * old) * (0.65 if grade == 4 else 1)
    p["pyramid_mm"] = rng.uniform(6, 8.5) * length / 110
    p |= {"pyramids": flank.pyramids(rng), "wave": rng.uniform(3.0, 6.0, 3)}
    p |= {"phases": rng.uniform(0, 2 * math.pi, 11), "streak": rng.uniform(0, 1.5)}
    swell = rng.uniform(0.85, 1.15, 3)
    p["calyx"] = (0.0, 1.5, 3.2, 6.0, 9.5)[grade] * swell[0]
    p["neck"] = (0.0, 0.8, 2.0, 3.2, 5.0)[grade] * swell[1]
    p["pelvis"] = (0.0, 3.2, 5.5, 8.0, 10.5)[grade] * swell[2]
    p |= {"vein": rng.uniform(2.5, 4.5), "cava": rng.uniform(9, 13)}
    p |= {"fat": 8 + 24 * rng.random() ** 2, "wall": rng.uniform(8, 15)}
    p |= {"perirenal": 1.5 + 9 * rng.random() ** 1.5, "facing": rng.uniform(0.2, 1.1)}
    p["cortex_db"] = rng.normal(0, 1.2) + 3 * (rng.random() < 0.15)
    p["liver_db"] = rng.normal(0, 1) + 4 * (rng.random() < 0.15)
    p["sinus_db"] = rng.normal(0, 1.5)
    p |= _lesions(rng, p)
    shares = np.cumsum([site["share"] for site in SITES.values()])
    p["site"] = int(np.searchsorted(shares[:-1], rng.random()))
    return p


def _lesions(rng: np.random.Generator, p: Numbers) -> Numbers:
    """Cysts, apart from each other, and stones in calyces."""
    half = np.array(flank.half_axes(p))
    # More cysts than in the population; as there, the more the older.
    steps = np.cumsum([0.75 - 0.006 * p["age"], 0.3, 0.15])
    at, radius = np.zeros((MOST_CYSTS, 3)), np.zeros(MOST_CYSTS)
    for k in range(int(np.searchsorted(steps, rng.random()))):
        z, turn = rng.uniform(-0.75, 0.75), p["facing"] + rng.normal(0, 0.9)
        where = np.array([np.cos(turn), np.sin(turn), 0]) * np.sqrt(1 - z**2) + [0, 0, z]
        kind = rng.random()  # in the cortex, out of it, or beside the pelvis
        out = rng.uniform(0.6, 0.85) if kind < 0.5 else rng.uniform(0.9, 1.1)
        if kind > 0.88:
            out, where = rng.uniform(0.2, 0.4), where * [1, 1, 0.6]
        at[k] = out * where * half
        room = [np.linalg.norm(at[k] - at[j]) / 1.08 - radius[j] - 2 for j in range(k)]
        radius[k] = min([5 + 19 * rng.random() ** 1.5, *room])
        radius[k] *= radius[k] >= 4
    stones = np.arange(MOST_STONES) < np.searchsorted([0.72, 0.92], rng.random())
    tips = p["pyramids"][rng.permutation(flank.PYRAMIDS)[:MOST_STONES]]
    return {
        "cyst_at": at,
        "cyst_mm": radius,
        "cyst_stretch": rng.uniform(0.93, 1.07, MOST_CYSTS),
        "cysts": int((radius > 0).sum()),
        "stone_at": tips * half * 0.42,
        "stone_mm": rng.uniform(1.8, 5.5, MOST_STONES) * stones,
        "stones": int(stones.sum()),
    }


def _plane(rng: np.random.Generator, p: Numbers, image: int) -> Numbers:
    """Where the plane of an image lies: directions `across` and `beam` in the kidney, its middle."""
    view, central = image % 2, image < 2
    facing, skew = p["facing"] + rng.normal(0, 0.12), rng.normal(0, 0.06)
    tilt = rng.normal(0.17, 0.1) if view == 0 else rng.normal(0, 0.15)
    beam = np.array([-math.cos(facing), -math.sin(facing), 0.0])
    side = 1.0 if p["right"] else -1.0
    flat = side * np.array([beam[1], -beam[0], 0.0])
    across = np.array([0.0, 0.0, -1.0]) if view == 0 else flat
    normal = np.cross(across, beam)
    # A hand that is not quite steady turns the plane about the beam, then within itself.
    across, normal = _turned(across, normal, skew)
    across, beam = _turned(across, beam, tilt)
    lesions = [*p["cyst_at"][p["cyst_mm"] > 0], *p["stone_at"][p["stone_mm"] > 0]]
    aim = 0.0 if central or not lesions else float(lesions[0] @ normal)
    off = aim + rng.normal(0, 1.5 if central else 2.5)
    most = 0.36 * (p["thick"] if view == 0 else p["length"])
    at_y = p["fat"] + p["wall"] + rng.uniform(6, 14) + (p["width"] + p["thick"]) / 4
    if view == 0:
        at_y += 0.12 * (p["length"] - 100)
    return {
        "view": view,
        "tilt": tilt,
        "across": across,
        "beam": beam,
        "from_middle": float(np.clip(off, -most, most)) * normal,
        "at_x": rng.normal(0, 5),
        "at_y": at_y,
    }


def _turned(u: np.ndarray, v: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * u + sin * v, cos * v - sin * u


def _exposure(rng: np.random.Generator, p: Numbers) -> Numbers:
    """What lies around and in front of the kidney in one image, and the settings of the scanner."""
    gas = rng.random() < (0.2 if p["right"] else 0.35)
    ribs = np.array([-1, 1]) * rng.uniform(24, 48, 2)
    return {
        "ribs": ribs[rng.random(2) < 0.22],
        "gas_x": rng.uniform(25, 60) * rng.choice([-1, 1, 1]) if gas else 500.0,
        "gas_d": p["fat"] + p["wall"] + rng.uniform(4, 16),
        "gas_mm": rng.uniform(8, 20),
        "organ": rng.uniform(20, 75) if p["right"] else rng.uniform(-45, -15),
        "dome_x": rng.uniform(10, 35),
        "dome_gap": rng.uniform(8, 25),
        "branch_at": rng.uniform([-60, 35], [35, 100], (BRANCHES, 2)),
        "branch_mm": rng.uniform(1.2, 3.2, BRANCHES),
        "branch_slant": rng.normal(0, 0.8, BRANCHES),
        "blotch": rng.normal(0, 0.2, (6, 2)),
        "focus": rng.uniform(55, 85),
        "gain": rng.normal(0, 2),
        "tgc_off": rng.normal(1, 0.04),
        "ghost": rng.uniform(-26, -16),
        "ghost_mm": rng.uniform(6, 12),
    }


def _picture(s: Numbers, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    """uint8 image and mask (size, size)."""
    probe = Probe(s["radius"], math.radians(s["half_angle"]), s["depth"], SAMPLES, LINES)
    white = torch.from_numpy(rng.standard_normal((4, SAMPLES, LINES), dtype=np.float32))
    white_level = 10 ** (s["range"] * (1 - s["liver"]) / 20)
    echoes = _echoes(s, probe, white)
    grey = log_compress(echoes, dynamic_range=s["range"], reference=white_level) ** s["gamma"]
    fine = 2 if size <= 128 else 1
    picture = scan_convert(grey, probe, *_pixels(size * fine, probe))
    picture = functional.avg_pool2d(picture[None], fine)[0]
    x, y = _pixels(size, probe)
    seen = probe.sees(x, y)
    mask = flank.classes(flank.kidney(s, _in_kidney(s, x, y))) * seen
    return (255 * picture * seen).round().to(torch.uint8), mask


def _pixels(size: int, probe: Probe) -> tuple[Tensor, Tensor]:
    """x, y (size, size) of pixel centres; the ends of the probe's face are 2 mm below the top."""
    axis = (torch.arange(size) + 0.5) * (FIELD / size)
    top = probe.radius * (math.cos(probe.half_angle) - 1) - 2
    y, x = torch.meshgrid(axis + top, axis - FIELD / 2, indexing="ij")
    return x, y


def _in_kidney(s: Numbers, x: Tensor, y: Tensor) -> flank.Point:
    """Points of the image plane in the coordinates of the kidney."""
    dx, dy = x - s["at_x"], y - s["at_y"]
    rows = zip(s["across"], s["beam"], s["from_middle"], strict=True)
    u, v, w = (dx * float(e) + dy * float(f) + float(g) for e, f, g in rows)
    return u, v, w


def _echoes(s: Numbers, probe: Probe, white: Tensor) -> Tensor:
    """(samples, lines) amplitude after time-gain compensation; liver is about 1."""
    d, angle = probe.grid()
    x, y = probe.point(d, angle)
    s = s | {"sway": torch.sin(x / 15 + float(s["phases"][3]))}
    kidney = flank.kidney(s, _in_kidney(s, x, y))
    tissue = _tissues(s, kidney, x, y, d)
    level, attenuation = _properties(s, tissue, x, y, d)
    settings = {"frequency": s["frequency"], "step_mm": probe.depth / SAMPLES}
    lost = two_way_loss(attenuation, **settings)
    # Between gas and probe the sound goes to and fro: echoes from where nothing can be seen.
    gas = tissue == INDEX["gas"]
    in_gas = two_way_loss(attenuation * gas, **settings)
    behind = (in_gas > 3).cumsum(0) * settings["step_mm"]
    dirty = _power(-8 - 0.25 * behind + in_gas) * (in_gas > 3)
    amplitude = ((_power(level) + dirty) * _power(-lost) / 2).sqrt()
    field = white[:2] * amplitude
    # Smooth borders mirror the sound, most where the beam meets them at a right angle.
    border = torch.where(kidney["cyst_depth"] > -1, 9.0, kidney["depth"])
    borders = [(border, 1.6), (kidney["cyst_depth"], 1.6), (d - s["fat"] - s["sway"], 1.5)]
    borders.append((d - s["fat"] - s["wall"] - 2 * s["sway"], 3.0))
    if s["view"] == 0:
        borders.append((flank.dome(s, x, y), 6.0))
    for depth, strength in borders:
        soft = torch.sigmoid(depth / 0.5)
        steep = (soft[2:] - soft[:-2]) * (1.0 / settings["step_mm"])
        mirrored = strength * steep**2 * _power(-lost[1:-1] / 2)
        field[:, 1:-1] += mirrored * (0.6 * white[2:, 1:-1] + 0.7)
    # The layers in front throw part of the echoes back once more: ghosts and haze near the probe.
    shift = round(s["ghost_mm"] / settings["step_mm"])
    late = _power((s["ghost"] - 0.3 * d[shift:]) / 2)
    field[:, shift:] += late * field[:, :-shift]
    field += white[:2].flip(-1) * _power((s["clutter"] - 0.9 * d) / 2)
    field = _focused(s, probe, field)
    field += white[2:].flip(1) * _power(torch.tensor(s["noise"] / 2))
    gain = 2 * s["tgc"] * s["tgc_off"] * s["frequency"] * d / 10 + s["gain"]
    amplitude = field.square().sum(0).sqrt() * _power(gain / 2)
    mean = functional.avg_pool2d(amplitude[None], (5, 3), 1, (2, 1), count_include_pad=False)[0]
    return torch.lerp(amplitude, mean, s["smooth"])


def _power(decibels: Tensor) -> Tensor:
    return torch.exp(decibels * (math.log(10) / 10))


def _tissues(s: Numbers, kidney: dict[str, Tensor], x: Tensor, y: Tensor, d: Tensor) -> Tensor:
    """Number of the tissue of each sample: what is painted later lies over the earlier."""
    tissue = flank.surroundings(s, INDEX, x, y, d)
    depth, cyst = kidney["depth"], kidney["cyst_depth"]
    beneath = d > s["fat"] + s["wall"]
    layers = {"perirenal": (depth > -s["perirenal"]) & beneath, "capsule": depth > -0.9}
    layers |= {"cortex": depth > 0, **{k: kidney[k] for k in ("medulla", "sinus", "streak")}}
    layers |= {"vessel": kidney["vessel"] & (kidney["sinus"] | (depth < 0))}
    layers |= {"urine": kidney["urine"], "wall": cyst > -0.7, "cyst": cyst > 0}
    layers |= {"stone": kidney["stone"], **flank.in_front(s, x, d)}
    for name, where in layers.items():
        tissue[where] = INDEX[name]
    return tissue


def _properties(
    s: Numbers, tissue: Tensor, x: Tensor, y: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """Echo level, dB of liver, and attenuation, dB per cm and MHz, of each sample."""
    table = torch.tensor(list(TISSUES.values()))
    for name, key in (("cortex", "cortex_db"), ("medulla", "cortex_db"), ("liver", "liver_db")):
        table[INDEX[name], 0] += s[key]
    table[INDEX["sinus"], 0] += s["sinus_db"]
    level, attenuation, fibres, blotches = (column[tissue] for column in table.T)
    blotch = torch.zeros_like(x)
    for (u, v), phase in zip(s["blotch"], s["phases"][5:], strict=True):
        blotch += torch.sin(x * float(u) + y * float(v) + float(phase))
    along = d + 0.07 * x
    fibre = torch.sin((along + torch.sin(x / 11)) * 2.2) + torch.sin(along / 2.1)
    return level + fibres * fibre + blotches * blotch, attenuation


def _focused(s: Numbers, probe: Probe, field: Tensor) -> Tensor:
    """The echoes as pulse and beam smear them; the beam is narrowest at the focus."""
    d = probe.grid()[0][:, 0]
    wave_mm = 1.54 / s["frequency"]
    spot = 0.43 * wave_mm * d.clamp_min(0.5 * s["focus"]) / s["aperture"]
    spot = torch.hypot(spot, 0.018 * (d - s["focus"]))
    pitch = (s["radius"] + d) * (2 * probe.half_angle / LINES)
    axial = 0.7 * wave_mm / (probe.depth / SAMPLES)
    return received(field, axial=min(axial, 1.3), lateral=(spot / pitch).clamp(0.3, 2.7))
