"""A kidney in three dimensions and what lies around it in the plane of an ultrasound image.

Coordinates of the kidney, mm: x to the side away from the spine, y to the front, z to the head; of
the image: x to the right, y below the middle of the probe's face. Numbers of patient and image come
as a dictionary, drawn in `renal`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

Numbers = dict[str, Any]
Point = tuple[Tensor, Tensor, Tensor]
PYRAMIDS = 18
LATTICE = (40, 32, 80)  # points along x, y, z that count a volume


def pyramids(rng: np.random.Generator) -> np.ndarray:
    """(PYRAMIDS, 3) directions of the pyramids in the unit ball, in three rows, each jittered."""
    up, row = np.divmod(np.arange(PYRAMIDS), 3)
    z = (up - 2.5) / 3.1 + rng.uniform(-0.06, 0.06, PYRAMIDS)
    turn = np.deg2rad(68.0 * (row - 1) + 22 * (-1.0) ** up + rng.uniform(-9, 9, PYRAMIDS))
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], 1)


def half_axes(s: Numbers) -> tuple[float, float, float]:
    """Half of the kidney's width, thickness and length, mm."""
    return s["width"] / 2, s["thick"] / 2, s["length"] / 2


def beneath_capsule(s: Numbers, at: Point) -> tuple[Tensor, Tensor]:
    """Depth beneath the capsule, mm towards the kidney's middle, and x freed of the bean's bend.

    The outline is a superellipsoid, sheared along x to a bean, with a notch at the hilum and, in a
    few, the furrows of a fetal kidney.
    """
    a, b, c = half_axes(s)
    x, y, z = at
    x = x - s["bend"] * (0.5 - (z / c).clamp(-1.3, 1.3) ** 2)
    notch = s["notch"] * torch.exp(-((z / (0.3 * c)) ** 2) - (y / (0.7 * b)) ** 2)
    wide = a * (1 - notch * (x < 0))
    power = s["power"]
    rho = (x / wide).abs() ** power + (y / b).abs() ** power + (z / c).abs() ** power
    rho = rho.clamp_min(1e-6) ** (1 / power)
    if s["furrow"]:
        wave = torch.cos(z * (2 * math.pi / s["furrow_mm"])) * (x / a).clamp(0, 1)
        rho = rho / (1 + s["furrow"] * wave)
    return (x**2 + y**2 + z**2).sqrt() * (1 / rho - 1), x


def kidney_ml(s: Numbers) -> float:
    """Volume within the outline, ml, by counting a lattice of points."""
    half = half_axes(s)
    unit = [(torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n - 1 for n in LATTICE]
    x, y, z = torch.meshgrid(*unit, indexing="ij")
    room = 1.06  # furrows stand out
    # The bend carries the poles beside the box: sheared with it, the lattice keeps its volume.
    x = room * half[0] * x + s["bend"] * (0.5 - z**2)
    depth, _ = beneath_capsule(s, (x, room * half[1] * y, half[2] * z))
    return 8 * room**2 * math.prod(half) * float((depth > 0).double().mean()) / 1000


def kidney(s: Numbers, at: Point) -> dict[str, Tensor]:
    """What points belong to: bool by tissue (within the capsule, but "vessel"), and depths in mm.

    "depth" beneath the capsule, "cyst_depth" beneath the wall of the nearest cyst.
    """
    a, b, c = half_axes(s)
    depth, x = beneath_capsule(s, at)
    y, z = at[1:]
    whole = {"depth": depth, "cyst_depth": torch.full_like(x, -1e3)}
    for place, radius, stretch in zip(s["cyst_at"], s["cyst_mm"], s["cyst_stretch"], strict=True):
        if radius:
            u, v, w = (q - float(f) for q, f in zip(at, place, strict=True))
            away = ((u * stretch) ** 2 + (v / stretch) ** 2 + w**2).sqrt()
            whole["cyst_depth"] = torch.maximum(whole["cyst_depth"], radius - away)
    tube = ((y - 0.1 * b) ** 2 + (z + 0.15 * x + 0.1 * a) ** 2).sqrt()
    whole["vessel"] = (x < -0.55 * a) & (x > -a - 40) & (tube < s["vein"])

    inside = depth > 0
    names = ("medulla", "sinus", "streak", "urine", "stone")
    for name, part in zip(names, _within(s, x[inside], y[inside], z[inside], depth[inside])):
        whole[name] = torch.zeros_like(inside).masked_scatter_(inside, part)
    return whole


def _within(s: Numbers, x: Tensor, y: Tensor, z: Tensor, depth: Tensor) -> tuple[Tensor, ...]:
    """Medulla, sinus, streaks in it, urine and stones at points (M,) within the capsule."""
    a, b, c = half_axes(s)
    # mm outside the sinus: an ellipsoid nearer to the spine, with a wavy border, and the hilum.
    size = s["sinus"]
    dx = x + 0.28 * a
    rho = ((dx / (0.55 * a)) ** 2 + (y / (0.42 * b)) ** 2 + (z / (0.6 * c)) ** 2).sqrt() / size
    outside = (dx**2 + y**2 + z**2).sqrt() * (1 - 1 / rho.clamp_min(1e-3))
    plain = outside
    wave = [
        torch.sin(q / float(mm) + float(phase))
        for q, mm, phase in zip((x, y, z), s["wave"], s["phases"][:3], strict=True)
    ]
    outside = outside + 2.2 * wave[0] * wave[2] + 1.2 * wave[1]
    hilum = torch.maximum(y.abs() - 0.24 * b, z.abs() - 0.27 * c)
    outside = torch.minimum(outside, torch.maximum(hilum, x + 0.3 * a))

    aside = torch.full_like(x, 1e6)  # mm² from the axis of the nearest pyramid
    for tip in s["pyramids"] * [a, b, c]:
        core = np.array([-0.15 * a, 0.0, 0.55 * tip[2]])
        axis = (tip - core) / np.linalg.norm(tip - core)
        u, v, w = x - float(core[0]), y, z - float(core[2])
        along = (u * float(axis[0]) + v * float(axis[1]) + w * float(axis[2])).clamp_min(0)
        aside = torch.minimum(aside, u**2 + v**2 + w**2 - along**2)
    aside = aside.clamp_min(0).sqrt()
    deep = (depth - s["cortex"]).clamp_min(0)
    free = outside.clamp_min(0)
    towards = free / (free + deep + 1e-3)  # 0 at the papilla, 1 at the base
    medulla = (outside > 0) & (deep > 0) & (aside < 1.5 + s["pyramid_mm"] * towards**0.7)

    # Calyces at the papillae, their necks and the pelvis run into one another: mm within them.
    fluid = torch.full_like(x, -9.0)
    if s["grade"]:
        calyx, pelvis = s["calyx"], s["pelvis"]
        cup = ((aside / calyx) ** 2 + ((plain + 0.2 * calyx) / (0.9 * calyx)) ** 2).sqrt()
        flat = ((x + 0.5 * a) / 1.9) ** 2 + y**2 + (z / 1.6) ** 2
        neck = torch.minimum(s["neck"] - aside, 1 - plain)
        spaces = torch.stack([calyx * (1 - cup), neck, pelvis - flat.sqrt()])
        fluid = torch.logsumexp(spaces / 1.2, 0) - 0.3
    stone = torch.zeros_like(medulla)
    for place, radius in zip(s["stone_at"], s["stone_mm"], strict=True):
        u, v, w = (q - float(f) for q, f in zip((x, y, z), place, strict=True))
        stone |= u**2 + v**2 + w**2 < radius**2
    return medulla, outside < 0, (outside < 0) & (aside < s["streak"]), fluid > 0, stone


def classes(parts: dict[str, Tensor]) -> Tensor:
    """uint8: 1 parenchyma, 2 sinus with what it holds, 3 cyst, and 0."""
    inner = parts["sinus"] | parts["urine"] | parts["stone"]
    inside = torch.where(inner, 2, 1) * (parts["depth"] > 0)
    return torch.where(parts["cyst_depth"] > 0, 3, inside).to(torch.uint8)


def surroundings(s: Numbers, index: dict[str, int], x: Tensor, y: Tensor, d: Tensor) -> Tensor:
    """Number of the tissue at image points whose depth from the face is d; no kidney yet."""
    sway = s["sway"]
    dx, dy = x - s["at_x"], y - s["at_y"]
    cos, sin, length = math.cos(s["tilt"]), math.sin(s["tilt"]), s["length"]
    below, right = dy * cos + dx * sin, dx * cos - dy * sin  # of the kidney's own axes
    tissue = torch.full_like(x, index["retro"], dtype=torch.long)
    if s["view"] == 0:
        # The muscles of the back lie deep to the kidney; liver or spleen over its upper pole.
        behind = (below > 0.3 * length + 5 * sway) & (right > -0.35 * length)
        organ = ((below < 4 + 3 * sway) & (right < s["organ"])) | (right < -0.42 * length)
    else:
        medial = dx if s["right"] else -dx
        psoas = ((medial - 42) / 19) ** 2 + ((dy - 30) / 17) ** 2 < 1
        behind = psoas | ((dy - 0.3 * medial.clamp(-60, 0).abs() > 34) & (medial < 26))
        flat = 0.7 if s["right"] else 0.9  # the vena cava, or the aorta
        cava = ((medial - 52) / s["cava"]) ** 2 + ((dy - 2) / (flat * s["cava"])) ** 2
        tissue[cava < 1.35] = index["wall"]
        tissue[cava < 1] = index["vessel"]
        organ = (below < 4 + 3 * sway) & (medial < s["organ"])
        if not s["right"]:
            organ &= (below < -8) & (medial < 0)
    tissue[behind] = index["muscle"]
    tissue[organ] = index["liver" if s["right"] else "spleen"]
    if s["right"]:  # branches of the portal (bright wall) and hepatic veins
        for k, (at, mm, slant) in enumerate(zip(s["branch_at"], s["branch_mm"], s["branch_slant"])):
            u, v = x - float(at[0]), y - float(at[1])
            lumen = ((u + slant * v) / 9) ** 2 + ((v - slant * u) / mm) ** 2
            if k % 2:
                tissue[organ & (lumen < 2.2)] = index["perirenal"]
            tissue[organ & (lumen < 1)] = index["vessel"]
    if s["view"] == 0:
        tissue[dome(s, x, y) > 0] = index["lung"]
    tissue[d < s["fat"] + s["wall"] + 2 * sway] = index["muscle"]
    tissue[d < s["fat"] + sway] = index["fat"]
    tissue[d < 2.2] = index["skin"]
    return tissue


def dome(s: Numbers, x: Tensor, y: Tensor) -> Tensor:
    """mm beyond the diaphragm, a circle over the upper pole of the kidney."""
    away = torch.hypot(x - s["at_x"] - s["dome_x"], y - s["at_y"] + 15)
    beyond = away - s["dome_x"] - 0.5 * s["length"] - s["dome_gap"]
    return torch.where(x < s["at_x"] - 10, beyond, -50.0)


def in_front(s: Numbers, x: Tensor, d: Tensor) -> dict[str, Tensor]:
    """Bool tensors of what may hide the kidney: ribs and bowel gas."""
    deep = s["fat"] + 0.6 * s["wall"] + 3
    bone = torch.zeros_like(x, dtype=torch.bool)
    for rib in s["ribs"]:
        bone |= ((x - float(rib)) / 6) ** 2 + ((d - deep) / 3.5) ** 2 < 1
    across = x - s["gas_x"]
    top = s["gas_d"] + 2.0 * torch.sin(x / 4 + float(s["phases"][4])) + 0.02 * across**2
    gas = (across.abs() < s["gas_mm"]) & (d > top) & (d < top + 6)
    return {"bone": bone, "gas": gas}
