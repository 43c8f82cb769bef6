"""A kidney in three dimensions and what lies around it in the plane of an ultrasound image.

Coordinates of the kidney, mm: x to the side away from the spine, y to the front, z to the head; of
the image: x to the right, y below the middle of the probe's face. Numbers of B images come as a
dictionary of tensors (B, 1, 1), or with more axes in the middle.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

Numbers = dict[str, Tensor]
Point = tuple[Tensor, Tensor, Tensor]
PYRAMIDS = 18
LATTICE = (40, 32, 80)  # points along x, y, z that count a volume


def pyramids(rng: np.random.Generator) -> np.ndarray:
    """(PYRAMIDS, 3) directions of the pyramids in the unit ball, in three rows, each jittered."""
    up, row = np.divmod(np.arange(PYRAMIDS), 3)
    z = (up - 2.5) / 3.1 + rng.uniform(-0.06, 0.06, PYRAMIDS)
    turn = np.deg2rad(68.0 * (row - 1) + 22 * (-1) ** up + rng.uniform(-9, 9, PYRAMIDS))
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], 1)


def beneath_capsule(s: Numbers, at: Point) -> tuple[Tensor, Tensor]:
    """Depth beneath the capsule, mm towards the kidney's middle, and x freed of the bean's bend.

    The outline is a superellipsoid, sheared along x to a bean, with a notch at the hilum and, in a
    few, the furrows of a fetal kidney.
    """
    x, y, z = at
    a, b, c = s["width"] / 2, s["thick"] / 2, s["length"] / 2
    x = x - s["bend"] * (0.5 - (z / c).clamp(-1.3, 1.3) ** 2)
    notch = s["notch"] * torch.exp(-((z / (0.3 * c)) ** 2) - (y / (0.7 * b)) ** 2)
    wide = a * (1 - notch * (x < 0))
    furrow = 1 + s["lobes"] * torch.cos(2 * math.pi * z / s["lobe_mm"]) * (x / a).clamp(0, 1)
    power = s["power"]
    rho = (x / wide).abs() ** power + (y / b).abs() ** power + (z / c).abs() ** power
    rho = rho.clamp_min(1e-6) ** (1 / power) / furrow
    return (x**2 + y**2 + z**2).sqrt() * (1 / rho - 1), x


def kidney_ml(s: Numbers) -> Tensor:
    """(B,) volume within the outline, ml, by counting a lattice of points."""
    half = [s[name].double() / 2 for name in ("width", "thick", "length")]
    unit = [(torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n - 1 for n in LATTICE]
    x, y, z = (axis.reshape(1, -1, 1) for axis in torch.meshgrid(*unit, indexing="ij"))
    # The bend carries the poles beside the box: shear the lattice with it, which keeps volumes.
    fine = {name: value.double() for name, value in s.items()}
    sheared = 1.1 * half[0] * x + fine["bend"] * (0.5 - z**2)
    depth, _ = beneath_capsule(fine, (sheared, 1.1 * half[1] * y, 1.001 * half[2] * z))
    box = 8 * 1.1**2 * 1.001 * (half[0] * half[1] * half[2])[:, 0, 0]
    return box * (depth > 0).double().mean((1, 2)) / 1000


def kidney(s: Numbers, at: Point) -> dict[str, Tensor]:
    """What a point belongs to: bool tensors by tissue, depths and distances in mm.

    "depth" beneath the capsule, "cyst_depth" beneath the wall of the nearest cyst.
    """
    depth, x = beneath_capsule(s, at)
    y, z = at[1:]
    a, b, c = s["width"] / 2, s["thick"] / 2, s["length"] / 2
    size = s["sinus"]
    # mm outside the sinus: an ellipsoid nearer to the spine, with a wavy border, and the hilum.
    dx, sx, sy, sz = x + 0.28 * a, 0.55 * a * size, 0.42 * b * size, 0.6 * c * size
    rho = ((dx / sx) ** 2 + (y / sy) ** 2 + (z / sz) ** 2).clamp_min(1e-6).sqrt()
    outside = (dx**2 + y**2 + z**2).sqrt() * (1 - 1 / rho)
    wave = [torch.sin(q / s["wave"][:, i] + s["phase"][:, i]) for i, q in enumerate((x, y, z))]
    outside = outside + 2.2 * wave[0] * wave[2] + 1.2 * wave[1]
    hilum = torch.maximum((y.abs() - 0.24 * b), (z.abs() - 0.27 * c))
    outside = torch.minimum(outside, torch.maximum(hilum, x + 0.3 * a))

    aside = torch.full_like(x, 1e3)  # mm from the axis of the nearest pyramid
    for k in range(PYRAMIDS):
        tip = [s["pyramids"][:, k, i] * half for i, half in enumerate((a, b, c))]
        core = (-0.15 * a, 0.0, 0.55 * tip[2])
        axis = [e - f for e, f in zip(tip, core, strict=True)]
        long = (axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2).sqrt()
        here = [q - f for q, f in zip((x, y, z), core, strict=True)]
        along = sum(q * e / long for q, e in zip(here, axis, strict=True))
        square = sum(q**2 for q in here) - along.clamp_min(0) ** 2
        aside = torch.minimum(aside, square)
    aside = aside.clamp_min(0).sqrt()
    deep = (depth - s["cortex"]).clamp_min(0)
    towards = outside.clamp_min(0) / (outside.clamp_min(0) + deep + 1e-3)  # 0 papilla, 1 base
    medulla = (outside > 0) & (deep > 0) & (aside < 1.5 + s["pyramid_mm"] * towards**0.7)

    calyx, neck = s["calyx"], s["neck"]
    cup = (aside / calyx) ** 2 + ((outside + 0.2 * calyx) / (0.9 * calyx)) ** 2 < 1
    pelvis = ((x + 0.5 * a) / (1.9 * s["pelvis"])) ** 2 + (y / s["pelvis"]) ** 2
    pelvis = pelvis + (z / (1.6 * s["pelvis"])) ** 2 < 1
    urine = cup | pelvis | ((outside < 0) & (aside < neck))
    tube = ((y - 0.1 * b) ** 2 + (z + 0.15 * x + 0.1 * a) ** 2).sqrt()
    vein = (x < -0.55 * a) & (tube < s["vein"])

    cyst = torch.full_like(x, -1e3)
    for k in range(s["cyst_mm"].shape[1]):
        radius, stretch = s["cyst_mm"][:, k], s["cyst_stretch"][:, k]
        place = [(q - s["cyst_at"][:, k, i]) for i, q in enumerate(at)]
        away = (place[0] * stretch) ** 2 + (place[1] / stretch) ** 2 + place[2] ** 2
        cyst = torch.maximum(cyst, torch.where(radius > 0, radius - away.sqrt(), -1e3))
    stone = torch.zeros_like(x, dtype=torch.bool)
    for k in range(s["stone_mm"].shape[1]):
        place = [(q - s["stone_at"][:, k, i]) for i, q in enumerate(at)]
        stone |= sum(q**2 for q in place).sqrt() < s["stone_mm"][:, k]
    return {
        "depth": depth,
        "cyst_depth": cyst,
        "medulla": medulla,
        "sinus": outside < 0,
        "streak": (outside < 0) & (aside < 1.3),
        "urine": urine,
        "vessel": vein,
        "stone": stone,
    }


def classes(parts: dict[str, Tensor]) -> Tensor:
    """uint8: 1 parenchyma, 2 sinus with what it holds, 3 cyst, and 0."""
    inner = parts["sinus"] | parts["urine"] | parts["stone"]
    inside = torch.where(inner, 2, 1) * (parts["depth"] > 0)
    return torch.where(parts["cyst_depth"] > 0, 3, inside).to(torch.uint8)


def surroundings(s: Numbers, index: dict[str, int], x: Tensor, y: Tensor, d: Tensor) -> Tensor:
    """Number of the tissue at image points whose depth from the face is d; no kidney yet."""
    sway = torch.sin(x / 15 + s["phase"][:, 0])
    cos, sin = torch.cos(s["tilt"]), torch.sin(s["tilt"])
    dx, dy = x - s["at_x"], y - s["at_y"]
    below, right = dy * cos + dx * sin, dx * cos - dy * sin  # along the kidney's own axes
    long, right_side = s["view"] == 0, s["right"] > 0
    medial = torch.where(right_side, dx, -dx)
    tissue = torch.full_like(x + d, index["retro"], dtype=torch.long)

    def paint(where: Tensor, name: str) -> None:
        tissue[where.expand_as(tissue)] = index[name]

    # Psoas and the muscles of the back lie deep to the kidney; across, psoas beside the spine.
    behind = below - 0.30 * s["length"] - 5 * sway
    paint(long & (behind > 0) & (right > -0.35 * s["length"]), "muscle")
    psoas = ((medial - 42) / 19) ** 2 + ((dy - 30) / 17) ** 2 < 1
    back = (dy - 0.3 * medial.clamp(-60, 0).abs() > 34) & (medial < 26)
    paint(~long & (psoas | back), "muscle")
    vessel = ((medial - 52) / s["cava"]) ** 2 + ((dy - 2) / (0.7 * s["cava"])) ** 2 < 1
    paint(~long & vessel, "vessel")
    # Liver, or spleen above the upper pole only, and the diaphragm behind both.
    organ = (below < 4 + 3 * sway) & (right < s["organ"])
    organ |= right < -0.42 * s["length"]
    organ &= long | (medial < s["organ"])
    paint(organ & right_side, "liver")
    paint(organ & ~right_side & (long | (below < -8)), "spleen")
    for k in range(s["branch_at"].shape[1]):
        at_x, at_y = s["branch_at"][:, k, 0], s["branch_at"][:, k, 1]
        slant = s["branch_slant"][:, k]
        u, v = (x - at_x) + slant * (y - at_y), (y - at_y) - slant * (x - at_x)
        lumen = (u / 9) ** 2 + (v / s["branch_mm"][:, k]) ** 2
        paint(organ & right_side & (lumen < 1.9) & (k % 2 == 0), "perirenal")
        paint(organ & right_side & (lumen < 1), "vessel")
    paint(long & (dome(s, x, y) > 0), "lung")
    paint(d < s["fat"] + s["wall"] + sway, "muscle")
    paint(d < s["fat"] + 0.8 * sway, "fat")
    paint(d < 2.2, "skin")
    return tissue


def dome(s: Numbers, x: Tensor, y: Tensor) -> Tensor:
    """mm beyond the diaphragm, a circle round a point beneath the kidney's lower pole."""
    away = torch.hypot(x - s["at_x"] - s["dome_x"], y - s["at_y"] + 25)
    return torch.where(x < s["at_x"], away - s["dome_x"] - 0.5 * s["length"] - s["dome_gap"], -50.0)


def in_front(s: Numbers, x: Tensor, d: Tensor) -> dict[str, Tensor]:
    """Bool tensors of what may hide the kidney: ribs and bowel gas."""
    bone = torch.zeros_like(x, dtype=torch.bool)
    for k in range(s["rib_x"].shape[1]):
        deep = s["fat"] + 0.6 * s["wall"] + 3
        bone |= ((x - s["rib_x"][:, k]) / 6) ** 2 + ((d - deep) / 3.5) ** 2 < 1
    top = s["gas_d"] + 2.5 * torch.sin(x / 4 + s["phase"][:, 1]) + 0.02 * (x - s["gas_x"]) ** 2
    gas = ((x - s["gas_x"]).abs() < s["gas_mm"]) & (d > top) & (d < top + 6)
    return {"bone": bone, "gas": gas}
