"""The chest of one screening participant as the scanner's plane cuts it: depths, tubes, HU.

Coordinates in mm: x to the patient's left, y to the back, z to the head from the carina. A *depth*
is the distance to a surface, positive inside it, negative outside. Sizes and places stand in
`lung_ct.json`, for an adult of usual size.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from medlab.simulate._trees import Branches, Grid, Pieces, cover, grow, join, near, polyline, tube

FACTS = json.loads((files("medlab.simulate") / "lung_ct.json").read_text(encoding="utf-8"))
HU = {"fat": -100, "muscle": 52, "blood": 42, "gullet": 38, "liver": 58, "cortex": 1050}
LEAF_ARTERY, LEAF_VEIN = 0.36, 0.37  # mm, radius of a vessel that supplies one point
LATTICE = 9.0  # mm between the points that vessels supply
VERTEBRA = 22.5  # mm, a vertebra with its disc
SIDES = {"r": -1.0, "l": 1.0}
_KNOTS = np.array(FACTS["muscle"]["z"], float), np.array(FACTS["muscle"]["angle"], float)
_MUSCLE = np.array(FACTS["muscle"]["mm"], float)

Depths = dict[str, np.ndarray]


class Body(NamedTuple):
    """One patient. `tubes` by tissue; `points` (M, 3) in aerated lung, `inside` their depth and
    `lobe` (M,) 0 upper, 1 middle, 2 lower right, 3 upper, 4 lower left; `arteries` by side."""

    scale: float
    fat: float
    female: bool
    domes: dict[str, float]
    fissure: np.ndarray
    tubes: dict[str, Pieces]
    envelope: Pieces
    waves: tuple[np.ndarray, np.ndarray]
    air: float
    marrow: float
    points: np.ndarray
    inside: np.ndarray
    lobe: np.ndarray
    arteries: dict[str, Branches]

    def cage(self, z):
        """Half width, half depth and middle (y) of the inner chest wall at height z."""
        table, s = FACTS["cage"], self.scale
        return [s * np.interp(z / s, table["z"], table[k]) for k in ("wide", "deep", "back")]

    def fissures(self, x, y, z):
        """Heights above the right oblique, the right minor and the left oblique fissure, mm."""
        s, f = self.scale, self.fissure
        wave = 6 * np.sin(x / (38 * s) + f[0]) + 4 * np.sin(y / (30 * s) + f[1])
        right = z - s * (-104 + f[2] + 0.93 * (y / s + 55) + wave)
        minor = z - s * (-30 + f[3] + 5 * np.cos(y / (40 * s) + f[4]) - 0.12 * (y / s + 40))
        return right, minor, z - s * (-98 + f[2] + 0.90 * (y / s + 55) + wave)

    def depths(self, x: np.ndarray, y: np.ndarray, z: float) -> Depths:
        """Depths of the large bodies on a plane, mm: x (1, W) and y (H, 1) at height z."""
        s = self.scale
        wide, deep, back = self.cage(z)
        away, radius = y - back, np.hypot(x, y - back) + 1e-3
        shape = ((np.abs(x) / wide) ** 2.3 + (np.abs(away) / deep) ** 2.3) ** (1 / 2.3)
        cage = radius * (1 / (shape + 1e-4) - 1)

        def ball(cx, cy, cz, sx, sy, sz):
            d = [(x - s * cx), (y - s * cy), (z - s * cz)]
            q = np.sqrt((d[0] / sx) ** 2 + (d[1] / sy) ** 2 + (d[2] / sz) ** 2) / s + 1e-4
            return np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2) * (1 / q - 1)

        heart = np.maximum.reduce([ball(*solid) for solid in FACTS["solids"].values()])
        spine = back + deep - 28 * s
        column = np.maximum(*(_oval(x, y - spine - o * s, a * s, b * s) for o, a, b in _COLUMN))
        septum = 2.5 + 0.05 * self.fat - np.abs(x - 4 * s * (z < 0)) + 0 * y
        parts = [heart + 3 + 0.06 * self.fat, column, np.where(y < spine, septum, -40.0)]
        pieces = near(self.envelope, z, z, 25.0)
        total = sum(np.exp(np.clip(p, -40, 60) / 4) for p in parts)
        for a, b, ra, rb in zip(*pieces, strict=True):
            line = b - a
            t = ((x - a[0]) * line[0] + (y - a[1]) * line[1] + (z - a[2]) * line[2]) / (line @ line)
            t = t.clip(0, 1)
            d2 = (x - a[0] - t * line[0]) ** 2 + (y - a[1] - t * line[1]) ** 2
            d = np.sqrt(d2 + (z - a[2] - t * line[2]) ** 2)
            total = total + np.exp(np.clip(ra + (rb - ra) * t + 1.5 - d, -40, 60) / 4)
        middle = 4 * np.log(total)
        dome = {k: ball(*_dome(k, self.domes[k])) for k in "rl"}
        low = ball(4, -12, min(self.domes.values()) - 62, 74, 82, 60)
        angle = np.arctan2(np.abs(x), away)  # 0 at the back
        row = np.array([np.interp(z / s, _KNOTS[0], c) for c in _MUSCLE.T])
        muscle = s * np.interp(angle, _KNOTS[1], row)
        skin = cage + 9 * s + muscle + self.fat * (1 + 0.35 * np.sin(angle) ** 2)
        cup = (24 + 0.8 * self.fat) if self.female else (0.1 + 0.4 * self.fat)
        for side in (-1, 1):
            bx, by = side * 68, -(deep + 16 * s + self.fat) / s - 0.1 * cup
            skin = np.maximum(skin, ball(bx, by, -46, 30 + cup, 8 + 0.9 * cup, 28 + cup))
        lung = np.minimum(cage, -np.maximum.reduce([middle, dome["r"], dome["l"], low]))
        found = {"cage": cage, "heart": heart, "middle": middle, "muscle": muscle, "skin": skin}
        found |= {"lung": lung, "dome_r": dome["r"], "dome_l": np.maximum(dome["l"], low)}
        found["spleen"] = ball(84, 44, self.domes["l"] - 44, 30, 44, 40)
        found["stomach"] = ball(48, -30, self.domes["l"] - 42, 38, 40, 32)
        return {k: np.broadcast_to(v, radius.shape) for k, v in found.items()}


_COLUMN = ((0, 21, 19), (26, 27, 27))  # shift to the back, half axes: body, and what lies behind


def _oval(x, y, wide, deep):
    q = np.hypot(x / wide, y / deep) + 1e-4
    return np.hypot(x, y) * (1 / q - 1)


def _dome(side: str, top: float) -> tuple[float, ...]:
    return (-60, -6, top - 78, 82, 96, 78) if side == "r" else (62, -6, top - 78, 80, 92, 78)


def build(rng: np.random.Generator, *, female: bool, age: float, emphysema: float) -> Body:
    """A patient; `emphysema` is the share of lobules in the upper lobes that it has destroyed."""
    s = float(np.clip(rng.normal(1.03 - 0.06 * female, 0.045), 0.9, 1.14))
    fat = 6 + 26 * rng.random() ** 1.7
    top = rng.normal(-108, 8)
    domes = {"r": top, "l": top - rng.normal(10, 4)}
    fissure = rng.normal(0, [1.0, 1.0, 6.0, 6.0, 1.0])
    waves = rng.normal(0, 1, (24, 3)) / rng.uniform(5, 30, (24, 1)), rng.uniform(0, 6.3, 24)
    air = rng.normal(-862, 18) - 60 * emphysema
    marrow = 330 - 2.6 * age + rng.normal(0, 25)
    tables = {
        tissue: join(*(polyline(*_bent(np.array(c, float) * s, rng)) for c in curves))
        for tissue, curves in FACTS["tubes"].items()
    }
    envelope = join(*tables.values())
    empty = np.empty((0, 3))
    body = Body(
        s, fat, female, domes, fissure, tables, envelope, waves, air, marrow,
        empty, empty[:, 0], empty[:, 0], {},
    )  # fmt: skip
    body = body._replace(**_lattice(body, rng))
    tubes = tables | _skeleton(body, rng)
    arteries, thin, walls, lumina = {}, [], [], [tables["air"]]
    for side, sign in SIDES.items():
        mine = (body.lobe < 3) if side == "r" else (body.lobe >= 3)
        points, lobe, hilum = body.points[mine], body.lobe[mine], FACTS["hila"][side]
        root = np.array(hilum["artery"]) * s
        arteries[side] = grow(points, lobe, root, rng)
        thin.append(tube(arteries[side], LEAF_ARTERY))
        # An airway runs beside every artery, where it is thick enough to be seen.
        seen = arteries[side].supplied >= 12
        wide = Branches(*(field[seen] for field in arteries[side]))
        beside = np.array([0.35 * sign, -0.45, 0.8])
        for factor, wall, found in ((0.8, 0.0, lumina), (0.8, 1.0, walls)):
            one = tube(wide, LEAF_ARTERY, shift=1.9 * beside)
            ra, rb = (factor * r + wall * (0.28 + 0.14 * r) for r in one[2:])
            found.append(Pieces(one.a, one.b, ra, rb))
        moved = points + rng.uniform(-4, 4, points.shape)
        upper = np.isin(lobe, (0, 1, 3))
        for part, place in zip((upper, ~upper), hilum["veins"], strict=True):
            veins = grow(moved[part], lobe[part], np.array(place) * s, rng)
            thin.append(tube(veins, LEAF_VEIN))
    trunk = Pieces(*tables["air"][:2], *(r + 1.4 for r in tables["air"][2:]))
    tubes |= {"vessels": join(*thin), "walls": join(*walls, trunk), "air": join(*lumina)}
    tubes["holes"] = _holes(body, emphysema, rng)
    return body._replace(tubes=tubes, arteries=arteries)


def _bent(curve: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A table's curve with the patient's own calibre, in pieces of a spline: points and radii."""
    from scipy.interpolate import PchipInterpolator

    at = np.linspace(0, len(curve) - 1, 3 * len(curve) - 2)
    fine = PchipInterpolator(np.arange(len(curve)), curve)(at)
    return fine[:, :3], fine[:, 3] * np.clip(rng.normal(1, 0.06), 0.85, 1.15)


def _lattice(body: Body, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Jittered points of aerated lung, one in each 9 mm cube, off the fissures."""
    found = []
    across = np.arange(-150, 151, LATTICE)
    for z in np.arange(-185, 125, LATTICE):
        x, y = (across + rng.uniform(-2, 2))[None], (across + rng.uniform(-2, 2))[:, None]
        depth = body.depths(x, y, z)["lung"]
        row, column = np.nonzero(depth > 2.0)
        place = np.stack([x[0, column], y[row, 0], np.full(len(row), z)], 1)
        found.append(np.column_stack([place, depth[row, column]]))
    points, inside = np.split(np.concatenate(found), [3], axis=1)
    room = np.clip(inside - 1.0, 0, 4.4)
    points = points + rng.uniform(-1, 1, points.shape) * room
    right, minor, left = body.fissures(*points.T)
    lobe = np.where(right < 0, 2, np.where(minor > 0, 0, 1))
    lobe = np.where(points[:, 0] > 0, np.where(left < 0, 4, 3), lobe)
    sheet = np.where(points[:, 0] > 0, np.abs(left), np.abs(right)) / 1.37
    sheet = np.where((points[:, 0] < 0) & (right > 0), np.minimum(sheet, np.abs(minor)), sheet)
    keep = sheet > 3.0
    return {"points": points[keep], "inside": inside[keep, 0], "lobe": lobe[keep]}


def _holes(body: Body, share: float, rng: np.random.Generator) -> Pieces:
    """Centrilobular emphysema: balls of air in the lobules, mostly of the upper lobes."""
    place = np.repeat(body.points, 3, 0) + rng.uniform(-4.5, 4.5, (3 * len(body.points), 3))
    height = (place[:, 2] / body.scale + 120) / 230
    lost = rng.random(len(place)) < share * np.clip(height, 0.05, 1) ** 1.5
    radius = rng.gamma(4.0, 0.62, lost.sum()).clip(0.8, 6)
    return Pieces(place[lost], place[lost], radius, radius)


def _skeleton(body: Body, rng: np.random.Generator) -> dict[str, Pieces]:
    """Ribs, cartilages, breastbone, clavicles, shoulder blades, arches of the vertebrae."""
    s = body.scale
    bones: list[tuple[np.ndarray, np.ndarray, float]] = []
    soft = []

    def on_cage(angle, z, out):
        wide, deep, back = body.cage(z)
        c, n = np.cos(angle), np.abs(np.sin(angle))
        r = ((n / wide) ** 2.3 + (np.abs(c) / deep) ** 2.3) ** (-1 / 2.3) + out
        return np.stack([r * n, back + r * c, z], -1)

    def spine(z):
        _, deep, back = body.cage(z)
        return back + deep - 28 * s

    flip = np.array([-1.0, 1, 1])
    first = 114 + rng.normal(0, 3)
    for i in range(12):
        head = s * (first - VERTEBRA * i)
        drop = s * min(34 + 8.5 * i, 96) * rng.normal(1, 0.04)
        end = 2.45 if i < 7 else 2.45 - 0.28 * (i - 6)
        angle = np.linspace(0.5, end, 64)
        z = head - 4 * s - drop * (1 - np.cos(angle)) / 2
        arc = on_cage(angle, z, 6.0 * s)
        start = [[19 * s, spine(head) + 7 * s, head], [33 * s, spine(head) + 22 * s, head - s]]
        rib = np.concatenate([np.array(start), arc])
        thick = s * (3.1 + 0.4 * rng.random())
        for lift in (-3.0, 0.0, 3.0):
            for way in (1.0, flip):
                strand = (rib + [0, 0, lift * s]) * way
                bones.append((strand, np.full(len(rib), thick), 1.25))
        if i < 9:
            far = np.linspace(end, min(end + 0.55, 2.98), 24)
            rise = np.linspace(0, 1, 24) ** 1.5 * 4.0 * i * s
            curve = on_cage(far, z[-1] + rise, 6.0 * s)
            soft += [polyline(curve * way, np.full(24, 5.0 * s)) for way in (1.0, flip)]
    for x in np.linspace(-14, 14, 6):
        z = np.linspace(-78, 72, 40) * s
        grown = np.where(z > 28 * s, 1.75, 1.0)
        _, deep, back = body.cage(np.minimum(z, 50 * s))
        y = back - deep - 10 * s - 0.12 * (z - 50 * s).clip(0)
        bones.append((np.stack([x * s * grown, y, z], 1), np.full(40, 4.6 * s), 1.0))
    t = np.linspace(0, 1, 24)
    for way in (1.0, flip):
        x, y = s * (18 + 130 * t), s * (-56 + 60 * t - 12 * np.sin(6.28 * t))
        z = s * (78 + 42 * t + 4 * np.sin(6.28 * t))
        bones.append((np.stack([x, y, z], 1) * way, np.full(24, 5.6 * s), 1.6))
        for z0 in np.arange(-38, 100, 2.2):
            low = (z0 + 38) / 138
            angle = np.linspace(0.72 - 0.15 * low, 0.95 + 0.42 * min(1.5 * low, 1), 10)
            z = np.full(10, z0 * s)
            blade = on_cage(angle, z, s * (19 + 6 * low + 4 * np.sin(np.linspace(0, 3.1, 10))))
            bones.append((blade * way, s * np.linspace(2.0, 1.5 + 2.8 * low**3, 10), 1.0))
            if 52 < z0 < 84:
                ridge = np.stack([blade[4], blade[7] + s * np.array([22, 20, 6.0])])
                bones.append((ridge * way, s * np.array([2.0, 3.4]), 1.0))
        ball = on_cage(np.array([1.5]), np.array([84 * s]), 52 * s)
        bones.append((np.repeat(ball * way, 2, 0), np.full(2, 23.0 * s), 2.0))
    for k in range(14):
        z = s * (first - VERTEBRA * k)
        y = spine(z)
        for way in (1.0, flip):
            for a, b, r in _ARCH:
                ends = (np.array([a, b]) * s + [0, y, z]) * way
                bones.append((ends, np.full(2, r * s), 1.2))
    outer = join(*(polyline(c, r) for c, r, _ in bones))
    inner = join(*(polyline(c, (r - w).clip(0.05)) for c, r, w in bones))
    return {"bone": outer, "marrow": inner, "cartilage": join(*soft)}


# Ends and radius of pedicle, laminae, joint, transverse and spinous process, from the middle of a
# vertebral body, mm.
_ARCH = (
    ((11, 9, 4), (13, 20, 3), 4.0),
    ((13, 21, 1), (2, 31, -4), 3.0),
    ((13, 22, -4), (2, 32, -10), 3.0),
    ((13, 21, 9), (14, 23, -9), 3.6),
    ((14, 22, 3), (31, 31, 5), 4.2),
    ((0, 32, -5), (0, 54, -20), 3.0),
    ((0, 33, -10), (0, 55, -26), 2.8),
)


def paint(
    body: Body,
    grid: Grid,
    z: float,
    depth: Depths,
    *,
    contrast: float = 0.0,
    haze: np.ndarray | float = 0.0,
) -> np.ndarray:
    """(H, W) HU of the plane at z. `haze` is what ground glass adds to lung, `contrast` to blood.

    `depth` are the body's depths at the pixels of the grid.
    """
    x, y = grid.axes()
    h, s = grid.step, body.scale

    def share(d):
        return (d / h + 0.5).clip(0, 1)

    def over(hu, value, part):
        return hu + (value - hu) * part

    tubes = {k: cover(pieces, grid, z) for k, pieces in body.tubes.items()}
    out, blood = -depth["cage"], HU["blood"] + contrast
    hu = over(np.full(out.shape, -1000.0), HU["fat"], share(depth["skin"]))
    hu = over(hu, 20, share(depth["skin"]) * share(1.8 - depth["skin"]))
    wall = 9 * s + depth["muscle"]
    hu = over(hu, HU["muscle"], share(wall - out))
    # Fat between the layers of muscle.
    for at, thick in ((10.5 * s, 1.1), (9 * s + 0.5 * depth["muscle"], 1.3)):
        hu = over(hu, -80, share(thick - np.abs(out - at)) * share(depth["muscle"] - 8))
    hu = over(hu, HU["fat"], share(depth["cage"]))
    hu = over(hu, blood + 3, share(depth["heart"]))
    for name in ("blood", "gullet"):
        hu = over(hu, HU[name] + contrast * (name == "blood"), tubes[name] * share(depth["cage"]))
    hu = over(hu, HU["liver"], share(depth["dome_r"]) * share(depth["cage"]))
    left = over(np.full(out.shape, -95.0), 50, share(depth["spleen"]))
    left = over(left, 45, share(depth["stomach"]))
    left = over(left, -990, share(depth["stomach"] - 4) * share(-30 * s - y))
    left = over(left, HU["muscle"], share(3.0 - depth["dome_l"]))
    hu = over(hu, left, share(depth["dome_l"]) * share(depth["cage"]) * share(-depth["dome_r"]))
    # Aerated lung: heavier where it lies lower, a mottle, holes, ground glass, fissures.
    frequency, phase = body.waves
    coarse = x[:, ::4], y[::4]
    mottle = sum(
        np.cos(f[0] * coarse[0] + f[1] * coarse[1] + f[2] * z + p)
        for f, p in zip(frequency, phase, strict=True)
    )
    mottle = np.repeat(np.repeat(mottle, 4, 0), 4, 1)[: grid.size, : grid.size]
    _, deep, back = body.cage(z)
    lung = body.air + 32 * (y - back) / deep + 4.0 * mottle
    lung = lung + 70 * np.exp(-depth["lung"].clip(0) / 2.0) * (y > back + 0.6 * deep)
    lung = over(lung, -985, tubes["holes"]) + haze
    right, minor, left_f = body.fissures(x, y, z)
    sheet = np.where(x > 0, np.abs(left_f) / 1.37, np.abs(right) / 1.4)
    sheet = np.where((x < 0) & (right > 0), np.minimum(sheet, np.abs(minor) / 1.1), sheet)
    lung = over(lung, -50, (0.45 / max(h, 0.9)) * (1.0 - sheet / max(h, 0.9)).clip(0, 1))
    hu = over(hu, lung, share(depth["lung"]))
    # Bones: bodies of the vertebrae with end plates, then all that is made of tubes.
    level = np.mod(z / s - 114 + VERTEBRA / 2, VERTEBRA) / VERTEBRA - 0.5
    spine = back + deep - 28 * s
    wide = s * (16.0 - 0.035 * z / s) * (0.9 + 0.8 * level**2)
    column = _oval(x, y - spine, wide, 0.8 * wide)
    within = share(column)
    hu = over(hu, 85, within)
    if abs(level) < 0.40:
        plate = 480.0 if abs(level) > 0.34 else body.marrow
        hu = over(hu, 650, within)
        hu = over(hu, plate, share(column - 1.2))
    hu = over(hu, 110, tubes["cartilage"])
    hu = over(hu, HU["cortex"], tubes["bone"])
    hu = over(hu, body.marrow, tubes["marrow"])
    canal = _oval(x, y - spine - (0.8 * wide + 8 * s), 9.5 * s, 8 * s)
    hu = over(hu, 15, share(canal))
    hu = over(hu, 38, share(canal - 3.5 * s))
    # Vessels and airways of the lungs, from the hila on.
    hu = over(hu, blood, tubes["vessels"] * share(depth["cage"]) * share(-depth["heart"]))
    free = share(depth["cage"] - 1) * share(-depth["heart"])
    trachea = np.maximum(free, z > 100 * s)
    hu = over(hu, 20, tubes["walls"] * trachea)
    return over(hu, -990, tubes["air"] * trachea)


def spread(coarse: np.ndarray, source: Grid, grid: Grid) -> np.ndarray:
    """A field of the coarse grid at the pixels of a finer one, linear in between."""
    for axis, offset in ((0, grid.y - source.y), (1, grid.x - source.x)):
        at = (offset + np.arange(grid.size) * grid.step) / source.step
        low = np.clip(at.astype(int), 0, source.size - 2)
        part = (at - low)[:, None] if axis == 0 else (at - low)[None]
        below, above = (np.take(coarse, low + k, axis=axis) for k in (0, 1))
        coarse = below + (above - below) * part
    return coarse
