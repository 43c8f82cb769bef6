"""A kidney in three dimensions and what lies around it in the plane of an ultrasound image.

Coordinates of the kidney, mm: x away from the spine, y to the front, z to the head; of the image: x
to the right, y below the middle of the probe's face. Sizes come as the dictionary of `renal`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medlab.simulate._streams import Numbers

Point = tuple[Tensor, Tensor, Tensor]
LATTICE = (32, 26, 60)  # points along x, y, z that count a volume


def beneath_capsule(s: Numbers, at: Point) -> tuple[Tensor, Tensor]:
    """Depth beneath the capsule, mm towards the kidney's middle, and x freed of the bean's bend.

    The outline is a superellipsoid, sheared along x to a bean, with a notch at the hilum and, in a
    few, the furrows of a fetal kidney.
    """
    (a, b, c), power, (x, y, z) = s["half"], s["power"], at
    x = x - s["bend"] * (0.5 - (z / c).clamp(-1.3, 1.3) ** 2)
    notch = s["notch"] * torch.exp(-((z / (0.3 * c)) ** 2) - (y / (0.7 * b)) ** 2)
    wide = a * (1 - notch * (x < 0))
    rho = (x / wide).abs() ** power + (y / b).abs() ** power + (z / c).abs() ** power
    furrow = s["furrow"] * torch.cos(z * (2 * math.pi / s["furrow_mm"])) * (x / a).clamp(0, 1)
    rho = rho.clamp_min(1e-6) ** (1 / power) / (1 + furrow)
    return (x**2 + y**2 + z**2).sqrt() * (1 / rho - 1), x


def kidney_ml(s: Numbers) -> float:
    """Volume within the outline, ml, by counting a lattice of points."""
    half, room = s["half"], 1.06  # furrows stand out
    unit = [(torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n - 1 for n in LATTICE]
    x, y, z = torch.meshgrid(*unit, indexing="ij")
    # The bend carries the poles beside the box: sheared with it, the lattice keeps its volume.
    x = room * half[0] * x + s["bend"] * (0.5 - z**2)
    depth, _ = beneath_capsule(s, (x, room * half[1] * y, half[2] * z))
    return 8 * room**2 * math.prod(half) * float((depth > 0).double().mean()) / 1000


def within_balls(at: Point, centres: np.ndarray, radii: Sequence[float]) -> Tensor:
    """mm beneath the surface of the nearest ball (K, 3), (K,)."""
    depth = torch.full_like(at[0], -1e3)
    for centre, radius in zip(centres.tolist(), radii, strict=True):
        x, y, z = (q - c for q, c in zip(at, centre, strict=True))
        depth = torch.maximum(depth, radius - (x**2 + y**2 + z**2).sqrt())
    return depth


def kidney(s: Numbers, at: Point) -> dict[str, Tensor]:
    """What points belong to: bool by tissue, "depth" beneath the capsule and "cyst" wall, mm."""
    (a, b, _), y, z = s["half"], *at[1:]
    depth, x = beneath_capsule(s, at)
    tube = torch.hypot(y - 0.1 * b, z + 0.15 * x + 0.1 * a) < s["vein"]
    whole = {
        "depth": depth,
        "cyst": within_balls(at, s["cyst_at"], s["cyst_mm"]),
        "stone": within_balls(at, s["stone_at"], s["stone_mm"]) > 0,
        "vessel": (x < -0.55 * a) & (x > -a - 40) & tube,
    }
    inside = depth > 0
    parts = _inner(s, (x[inside], y[inside], z[inside]), depth[inside])
    empty = torch.zeros_like(inside)
    return whole | {k: empty.masked_scatter(inside, part) for k, part in parts.items()}


def _inner(s: Numbers, at: Point, depth: Tensor) -> dict[str, Tensor]:
    """Medulla, sinus, streaks in it and urine at points (M,) within the capsule."""
    (a, b, c), (x, y, z) = s["half"], at
    # mm outside the sinus: an ellipsoid nearer to the spine, with a wavy border, and the hilum.
    dx = x + 0.28 * a
    rho = ((dx / (0.55 * a)) ** 2 + (y / (0.42 * b)) ** 2 + (z / (0.6 * c)) ** 2).sqrt()
    plain = (dx**2 + y**2 + z**2).sqrt() * (1 - s["sinus"] / rho.clamp_min(1e-3))
    u, v, w = (torch.sin(q / s["wave"][i] + s["phases"][i]) for i, q in enumerate(at))
    hilum = torch.maximum(y.abs() - 0.24 * b, z.abs() - 0.27 * c)
    outside = torch.minimum(plain + 2.2 * u * w + 1.2 * v, torch.maximum(hilum, x + 0.3 * a))

    aside = torch.full_like(x, 1e6)  # mm from the axis of the nearest pyramid
    for tip in s["pyramids"] * s["half"]:
        core = np.array([-0.15 * a, 0.0, 0.55 * tip[2]])
        e, f, g = ((tip - core) / np.linalg.norm(tip - core)).tolist()
        u, w = x - core[0], z - core[2]
        aside = torch.minimum(aside, u**2 + y**2 + w**2 - (u * e + y * f + w * g).clamp_min(0) ** 2)
    aside = aside.clamp_min(0).sqrt()
    deep, free = (depth - s["cortex"]).clamp_min(0), outside.clamp_min(0)
    reach = 1.5 + s["pyramid_mm"] * (free / (free + deep + 1e-3)) ** 0.7  # from papilla to base
    parts = {
        "medulla": (outside > 0) & (deep > 0) & (aside < reach),
        "sinus": outside < 0,
        "streak": (outside < 0) & (aside < s["streak"]),
    }
    # Calyces at the papillae, their necks and the pelvis run into one another.
    calyx, neck, pelvis = s["spaces"]
    cup = calyx - torch.hypot(aside, (plain + 0.2 * calyx) / 0.9)
    flat = (((x + 0.5 * a) / 1.9) ** 2 + y**2 + (z / 1.6) ** 2).sqrt()
    spaces = torch.stack([cup, torch.minimum(neck - aside, 1 - plain), pelvis - flat])
    return parts | {"urine": torch.logsumexp(spaces / 1.2, 0) > 0.3}


def surroundings(s: Numbers, x: Tensor, y: Tensor, d: Tensor) -> dict[str, Tensor]:
    """Bool by tissue at image points of depth d from the face, the later over the earlier."""
    dx, dy, length = x - s["at_x"], y - s["at_y"], 2 * s["half"][2]
    cos, sin = math.cos(s["tilt"]), math.sin(s["tilt"])
    below, right = dy * cos + dx * sin, dx * cos - dy * sin  # of the kidney's own axes
    if s["view"] == 0:
        muscle = (below > 0.3 * length + 5 * s["sway"]) & (right > -0.35 * length)
        organ = ((below < 4) & (right < s["organ"])) | (right < -0.42 * length)
        aorta = lung = dome(s, x, y) > 0
    else:
        medial = dx if s["right"] else -dx
        psoas = torch.hypot((medial - 42) / 19, (dy - 30) / 17) < 1
        muscle = psoas | ((dy - 0.3 * medial.clamp(-60, 0).abs() > 34) & (medial < 26))
        organ, lung = (below < 4) & (medial < s["organ"]), torch.zeros_like(muscle)
        flat = 0.7 if s["right"] else 0.9  # the vena cava, or the aorta
        aorta = torch.hypot(medial - 52, (dy - 2) / flat) < s["aorta"]
    branches = torch.zeros_like(organ)
    for u, v, slant in zip(*s["branches"].tolist(), strict=True):
        at = (x - u + slant * (y - v)) / 9, (y - v - slant * (x - u)) / s["branch_mm"]
        branches |= organ & (torch.hypot(*at) < 1)
    return {
        "muscle": muscle,
        "vessel": aorta,
        "liver" if s["right"] else "spleen": organ,
        "branch": branches,
        "lung": lung,
        "abdominal wall": d < s["fat"] + s["wall"] + 2 * s["sway"],
        "fat": d < s["fat"] + s["sway"],
        "skin": d < 2.2,
    }


def dome(s: Numbers, x: Tensor, y: Tensor) -> Tensor:
    """mm beyond the diaphragm, part of a circle over the upper pole of the kidney."""
    away = torch.hypot(x - s["at_x"] - s["dome_x"], y - s["at_y"] + 15)
    return torch.where(x < s["at_x"] - 10, away - s["dome_x"] - s["half"][2] - s["dome_gap"], -50.0)


def in_front(s: Numbers, x: Tensor, d: Tensor) -> dict[str, Tensor]:
    """Bool tensors of what may hide the kidney: ribs and bowel gas."""
    deep, across = s["fat"] + 0.6 * s["wall"] + 3, x - s["gas_x"]
    ribs = [torch.hypot((x - rib) / 6, (d - deep) / 3.5) < 1 for rib in s["ribs"]]
    top = s["fat"] + s["wall"] + s["gas_d"] + 2 * torch.sin(x / 4) + 0.02 * across**2
    gas = (d > top) & (d < top + 7 * (1 - (across / s["gas_mm"]) ** 2))
    return {"bone": torch.stack(ribs).any(0), "gas": gas}
