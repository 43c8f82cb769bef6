"""The chest of one screening participant as the scanner's plane cuts it: depths, tubes, HU.

Coordinates in mm: x to the patient's left, y to the back, z to the head from the carina. A *depth*
is the distance to a surface, positive inside it, negative outside. Sizes and places stand in
`lung_ct.json`, for an adult of usual size; each patient is scaled, leaned and bent a little.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from medlab.errors import read_facts
from medlab.simulate import _trees as trees
from medlab.simulate._trees import Branches, Grid, Pieces, cover, gather, polyline

FACTS = read_facts("simulate/lung_ct")
HU: dict[str, float] = FACTS["hu"]
LEAF = 0.34  # mm, radius of a vessel that supplies one point
LATTICE = 10.0  # mm between the points that vessels supply
VERTEBRA = 22.5  # mm, a vertebra with its disc
WALL = 1.1  # mm of cortex around marrow
NAMES = "lung cage middle heart muscle skin dome_r dome_l lobe_l spleen stomach mottle x y".split()
_MUSCLE = {k: np.array(v, float) for k, v in FACTS["muscle"].items()}


class Body(NamedTuple):
    """One patient; mm and HU.

    `tubes` by tissue; `points` (M, 3) of aerated lung, their `depth` and their `lobe`: 0 upper, 1
    middle, 2 lower right, 3 upper, 4 lower left; `arteries` of both lungs in one. `fat` under the
    skin, `cup` of a breast, `domes` heights of the diaphragm; `chance` makes shapes differ.
    """

    scale: float
    fat: float
    cup: float
    domes: dict[str, float]
    air: float
    marrow: float
    chance: ndarray
    waves: ndarray
    envelope: Pieces
    tubes: dict[str, Pieces]
    points: ndarray = np.empty((0, 3))
    depth: ndarray = np.empty(0)
    lobe: ndarray = np.empty(0)
    arteries: Branches = Branches(*[np.empty((0, 3))] * 5)

    def moved(self, x: Any, y: Any, z: Any, sign: float = 1.0) -> tuple[Any, Any]:
        """x and y of the table's chest in this patient's; sign −1 for the way back."""
        c = self.chance
        dx = 5 * c[0] + 0.03 * c[1] * y + 3 * np.sin(y / 38 + z / 60 + 3 * c[2])
        dy = 5 * c[3] - 0.03 * c[1] * x + 3 * np.sin(x / 42 - z / 70 + 3 * c[4])
        return x + sign * dx, y + sign * dy

    def cage(self, z: float) -> list[float]:
        """Half width, half depth and middle (y) of the inner chest wall at height z."""
        table, s = FACTS["cage"], self.scale
        return [float(s * np.interp(z / s, table["z"], table[k])) for k in ("wide", "deep", "back")]

    def sheet(self, x: Any, y: Any, z: Any) -> tuple[ndarray, ndarray]:
        """Distance from the nearest fissure, mm, and the lobe, at points."""
        s, c = self.scale, self.chance
        wave = 6 * np.sin(x / (38 * s) + c[5]) + 4 * np.sin(y / (30 * s) + c[6])
        tilted = z - s * (6 * c[7] + wave)
        minor = z - s * (6 * c[8] - 35 + 5 * np.cos(y / (40 * s) + c[9]) - 0.12 * y / s)
        right, left = tilted + s * 53 - 0.93 * y, tilted + s * 48 - 0.9 * y
        lower = np.abs(right) / 1.37
        both = np.where(right > 0, np.minimum(lower, np.abs(minor) / 1.05), lower)
        lobe = np.where(right < 0, 2, np.where(minor > 0, 0, 1))
        lobe = np.where(x > 0, np.where(left < 0, 4, 3), lobe)
        return np.where(x > 0, np.abs(left) / 1.35, both), lobe

    def bow(self, y: Any, z: float) -> Any:
        """x at which the table's lungs meet in front of the spine."""
        return 8 * np.sin(y / 25 + z / 40 + self.chance[10])

    def depths(self, x: ndarray, y: ndarray, z: float) -> ndarray:
        """(K, H, W) depths of the bodies `NAMES` on the plane z at x (1, W) and y (H, 1), mm.

        "middle" is the mediastinum, a skin around heart, vessels and spine; "muscle" the thickness
        of what lies outside the ribs; "lung" what is left; "mottle" uneven air, without a unit; "x"
        and "y" the places in the table's chest.
        """
        s, (wide, deep, back) = self.scale, self.cage(z)
        flat = x
        x, y = self.moved(x + 0 * y, y + 0 * x, z, -1)
        away = y - back
        radius = np.hypot(x, away) + 1e-3
        shape = ((np.abs(x) / wide) ** 2.3 + (np.abs(away) / deep) ** 2.3) ** (1 / 2.3)
        angle = np.arctan2(np.abs(x), away)  # 0 at the back
        cage = radius * (1 / (shape + 1e-4) - 1) + 1.2 * np.sin(7 * angle + z / 9)

        def ball(solids: Any, base: float = 0.0) -> ndarray:
            found = s * np.array(solids, np.float32).T[:, :, None, None]
            dx, dy, dz = x - found[0], y - found[1], z - s * base - found[2]
            q = np.sqrt((dx / found[3]) ** 2 + (dy / found[4]) ** 2 + (dz / found[5]) ** 2) + 1e-4
            return np.sqrt(dx**2 + dy**2 + dz**2) * (1 / q - 1)

        found = {"cage": cage, "x": x, "y": y}
        found["mottle"] = sum(np.cos(a * x + b * y + c * z + 6 * p) for a, b, c, p in self.waves)
        for name, solids in FACTS["solids"].items():
            base = self.domes["r" if name == "dome_r" else "l"]
            if name == "heart":  # it rides on the diaphragm
                base = 0.7 * (self.domes["r"] + 108)
            found[name] = merge(ball(solids, base))
        spine = back + deep - 28 * s
        column = [oval(x, y - spine - o * s, a * s, b * s) for o, a, b in FACTS["column"]]
        aside = np.abs(x - self.bow(y, z))
        septum = np.where(y < spine, 1.5 + 0.05 * self.fat - aside, -40)
        middle = merge(np.stack([found["heart"] + 2.5 + 0.05 * self.fat, septum, *column]))
        core = np.abs(flat[0]) < 110 * s
        pieces = trees.near(self.envelope, z, 16.0)
        if len(pieces.a) and core.any():
            gap, r = trees.inside(pieces, x[None, :, core], y[None, :, core], z)
            middle[:, core] = merge(np.concatenate([middle[None, :, core], r + 1.5 - gap]))
        row = [np.interp(z / s, _MUSCLE["z"], column) for column in _MUSCLE["mm"].T]
        found["muscle"] = s * np.interp(angle, _MUSCLE["angle"], row).astype(np.float32)
        skin = cage + 9 * s + found["muscle"] + self.fat * (1 + 0.35 * np.sin(angle) ** 2)
        front = -(deep - back - 4 * s - 0.4 * self.fat) / s
        cups = ball([[side * 66, front, -46, 52, 12 + self.cup, 60] for side in (-1, 1)])
        found["skin"] = merge(np.stack([skin, *cups]), k=8.0)
        found["middle"] = middle
        other = np.maximum.reduce([middle, found["dome_r"], found["dome_l"]])
        found["lung"] = np.minimum(cage, -other)
        return np.stack([found[name] for name in NAMES]).astype(np.float32)


def merge(depths: ndarray, k: float = 4.0) -> ndarray:
    """Depth in a smooth union of N bodies (N, …): k log Σ exp(depth / k), fills hollows of k mm."""
    return k * np.log(np.exp(np.clip(depths, -60, 90) / k).sum(0))


def oval(x: ndarray, y: ndarray, wide: float, deep: float) -> ndarray:
    """Depth in an ellipse with these half axes."""
    ratio = np.sqrt((x / wide) ** 2 + (y / deep) ** 2) + 1e-4
    return np.sqrt(x**2 + y**2) * (1 / ratio - 1)


def build(rng: np.random.Generator, *, female: bool, age: float, emphysema: float) -> Body:
    """A patient; `emphysema` is the share of the upper lobes' lobules that it has destroyed."""
    s = float(np.clip(rng.normal(1.03 - 0.06 * female, 0.045), 0.9, 1.14))
    fat, right = 6 + 26 * rng.random() ** 1.7, rng.normal(-108, 8)
    chance, waves = np.clip(rng.standard_normal(16), -2, 2), rng.normal(0, 1, (16, 4))
    waves[:, :3] /= rng.uniform(5, 30, (16, 1))
    # Single precision, or all that is computed from them would be double.
    chance, waves = chance.astype(np.float32), waves.astype(np.float32)
    size = np.clip(rng.normal(1, 0.06, 40), 0.85, 1.15)
    tables = {}
    for tissue, curves in FACTS["tubes"].items():
        own = [np.array(c) * s * [1, 1, 1, w] for c, w in zip(curves, size, strict=False)]
        tables[tissue] = gather([polyline(curve) for curve in own])
    body = Body(
        scale=s,
        fat=fat,
        cup=(30 + 0.9 * fat) if female else (8 + 0.3 * fat),
        domes={"r": right, "l": right - rng.normal(10, 4)},
        air=rng.normal(-862, 18) - 60 * emphysema,
        marrow=330 - 2.6 * age + rng.normal(0, 25),
        chance=chance,
        waves=waves,
        envelope=gather(list(tables.values())),
        tubes={},
    )
    points, depth, lobe = _lattice(body, rng)
    body = body._replace(points=points, depth=depth, lobe=lobe)
    for tissue, curves in FACTS["bones"].items():
        sides = [polyline(np.array(c) * s * [way, 1, 1, 1]) for c in curves for way in (-1, 1)]
        tables[tissue] = gather(sides)
    tubes = {
        tissue: pieces._replace(a=_moved(body, pieces.a), b=_moved(body, pieces.b))
        for tissue, pieces in tables.items()
    }
    tubes["marrow"] = _wider(tubes["bone"], -WALL)
    hila = {name: _moved(body, np.array(places) * s) for name, places in FACTS["hila"].items()}
    arteries = trees.grow(body.points, body.lobe, hila["artery"], rng)
    # Beside every artery runs an airway; the small ones cannot be seen.
    wide = Branches(*(field[arteries.supplied >= 40] for field in arteries))
    lumen = trees.tube(wide, 0.8 * LEAF, np.array([0.0, -1.1, 1.9]))
    walls = _wider(lumen._replace(ra=1.08 * lumen.ra, rb=1.08 * lumen.rb), 0.2)
    tubes["walls"] = gather([walls, _wider(tubes["air"], 1.3)])
    tubes["air"] = gather([lumen, tubes["air"]])
    points = body.points + rng.uniform(-4, 4, body.points.shape)
    veins = trees.grow(points, body.lobe, hila["vein"], rng)
    tubes["vessels"] = gather([trees.tube(arteries, LEAF), trees.tube(veins, LEAF)])
    tubes["holes"] = _holes(body, emphysema, rng)
    return body._replace(tubes=tubes, arteries=arteries)


def _wider(pieces: Pieces, by: float) -> Pieces:
    ra, rb = ((r + by).clip(0.05) for r in (pieces.ra, pieces.rb))
    return pieces._replace(ra=ra, rb=rb)


def _moved(body: Body, points: ndarray) -> ndarray:
    x, y = body.moved(*points.T)
    return np.column_stack([x, y, points[:, 2]])


def _lattice(body: Body, rng: np.random.Generator) -> tuple[ndarray, ndarray, ndarray]:
    """Jittered points of aerated lung off the fissures, one a cube; their depth and lobe."""
    found, across = [], np.arange(-150, 151, LATTICE, dtype=np.float32)
    for z in np.arange(-185, 125, LATTICE).tolist():
        x, y = across[None] + rng.uniform(-2, 2), across[:, None] + rng.uniform(-2, 2)
        lung = body.depths(x, y, z)[0]
        row, column = np.nonzero(lung > 2.0)
        place = [x[0, column], y[row, 0], np.full(len(row), z), lung[row, column]]
        found.append(np.stack(place, 1))
    points, depth = np.split(np.concatenate(found), [3], axis=1)
    points = points + rng.uniform(-1, 1, points.shape) * np.clip(depth - 1.0, 0, 4.8)
    away, lobe = body.sheet(*points.T)
    keep = away > 3.0
    return points[keep], depth[keep, 0], lobe[keep]


def _holes(body: Body, share: float, rng: np.random.Generator) -> Pieces:
    """Centrilobular emphysema: balls of air, in clusters, mostly in the upper lobes."""
    height = (body.points[:, 2] / body.scale + 120) / 230
    lost = rng.random(len(height)) < 1.5 * share * np.clip(height, 0.05, 1) ** 1.5
    place = np.repeat(body.points[lost], 5, 0)
    place = place + rng.normal(0, 2.6, place.shape)
    radius = rng.gamma(4.0, 0.45, len(place)).clip(0.6, 5)
    return Pieces(place, place, radius, radius)


def paint(body: Body, grid: Grid, z: float, depth: ndarray, haze: Any = 0.0) -> ndarray:
    """(H, W) HU of the plane at z, noise-free, from the depths (K, H, W) at the grid's pixels.

    `haze` (H, W) is what ground glass adds to lung, HU.
    """
    (_, y), h, s = grid.axes(), grid.step, body.scale
    d = dict(zip(NAMES, depth, strict=True))
    tubes = cover(body.tubes, grid, z)
    blood, out, px, py = HU["blood"], -d["cage"], d["x"], d["y"]
    chest, free = share(d["cage"], h), share(np.minimum(d["cage"] - 1, -d["heart"]), h)
    hu = np.full(out.shape, -1000, np.float32)

    def over(value: Any, part: ndarray) -> None:
        hu[...] += (value - hu) * part

    over(HU["fat"], share(d["skin"], h))
    over(HU["skin"], share(np.minimum(d["skin"], 1.8 - d["skin"]), h))
    over(HU["muscle"], share(9 * s + d["muscle"] - out, h))
    # Fat between the layers of muscle, here thicker, there none.
    vary = np.sin(px / 17 + z / 25 + body.chance[11]) + np.sin(py / 13 - z / 30 + body.chance[12])
    for at in (10 * s, 9 * s + 0.45 * d["muscle"]):
        line = np.minimum(0.7 + 0.9 * vary - np.abs(out - at), d["muscle"] - 8)
        over(HU["fat"], share(line, h))
    over(HU["fat"], chest)
    over(blood + 3, share(d["heart"], h))
    over(blood, tubes["blood"] * chest)
    over(HU["gullet"], tubes["gullet"] * chest)
    over(HU["muscle"], chest * share(np.maximum(d["dome_r"], d["dome_l"]), h))
    for name, tissue, dome in FACTS["abdomen"]:
        over(HU[tissue], chest * share(np.minimum(d[name], d[dome] - 2.5), h))
    over(_air(body, grid, z, d, tubes["holes"]) + haze, share(d["lung"], h))
    over(HU["gas"], share(np.minimum(d["stomach"] - 4, -12 * s - y), h) * share(d["dome_l"] - 6, h))
    # Bones: bodies of the vertebrae with end plates and discs, then all that is made of tubes.
    _, deep, back = body.cage(z)
    level = np.mod(z / s - 114 + VERTEBRA / 2, VERTEBRA) / VERTEBRA - 0.5
    wide = s * (16.0 - 0.035 * z / s) * (0.9 + 0.8 * level**2)
    spine = py - back - deep + 28 * s
    column = oval(px, spine, wide, 0.8 * wide)
    over(HU["disc"], share(column, h))
    if abs(level) < 0.4:
        over(HU["plate"], share(column, h))
        over(HU["plate"] if abs(level) > 0.34 else body.marrow, share(column - 1.3, h))
    for name in ("cartilage", "bone"):
        over(HU[name], tubes[name])
    over(body.marrow, tubes["marrow"])
    canal = oval(px, spine - 0.8 * wide - 8 * s, 9.5 * s, 8 * s)
    over(HU["fluid"], share(canal, h))
    over(HU["cord"], share(canal - 3.5 * s, h))
    over(blood, tubes["vessels"] * free)
    over(HU["wall"], tubes["walls"] * free)
    over(HU["gas"], tubes["air"] * free)
    return hu


def share(depth: ndarray, step: float) -> ndarray:
    """Share of a pixel, `step` mm wide, that lies inside."""
    return (depth / step + 0.5).clip(0, 1)


def _air(body: Body, grid: Grid, z: float, d: dict[str, ndarray], holes: ndarray) -> ndarray:
    """HU of aerated lung: heavier where it lies lower, a mottle, emphysema, fissures."""
    (x, y), h = grid.axes(), grid.step
    _, deep, back = body.cage(z)
    lung = body.air + 32 * (y - back) / deep + 5 * d["mottle"]
    lung = lung + 60 * np.exp(-d["lung"].clip(0) / 2) * (y > back + 0.6 * deep)
    lung = lung + (-965 - lung) * 0.85 * holes
    wide = max(h, 0.8)
    fissure = 0.28 / wide * (1 - body.sheet(x, y, z)[0] / wide).clip(0, 1)
    return lung + (HU["muscle"] - lung) * fissure
