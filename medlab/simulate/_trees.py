"""Trees of vessels and airways that fill a lung, and the share of a pixel that tubes cover.

Source: Tawhai et al., Ann Biomed Eng 28:793 (2000), a tree grown towards the points it supplies;
Murray, PNAS 12:207 (1926), radius³ of a parent = sum of its daughters'.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

THIN = 0.6  # pixels: a thinner tube is drawn this thick, and fainter by the ratio of the areas


class Pieces(NamedTuple):
    """N straight, tapering pieces of tubes: ends a, b (N, 3) mm and their radii ra, rb (N,) mm."""

    a: np.ndarray
    b: np.ndarray
    ra: np.ndarray
    rb: np.ndarray


class Grid(NamedTuple):
    """Pixel centres of a slice: x and y (mm) of the first, `step` mm apart, `size` × `size`."""

    x: float
    y: float
    step: float
    size: int

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """x (1, W) and y (H, 1) of the pixel centres, mm."""
        along = np.arange(self.size) * self.step
        return (self.x + along)[None], (self.y + along)[:, None]


class Branches(NamedTuple):
    """B branches: start, end and direction before it (B, 3); points supplied, by it and by its
    larger daughter (B,); whether it begins at a root (B,)."""

    start: np.ndarray
    end: np.ndarray
    before: np.ndarray
    supplied: np.ndarray
    after: np.ndarray
    first: np.ndarray


def join(*parts: Pieces) -> Pieces:
    """All pieces in one."""
    return Pieces(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def polyline(points: np.ndarray, radius: np.ndarray) -> Pieces:
    """The pieces between neighbours of (…, M, 3) points with radii (…, M)."""
    ends = (points[..., :-1, :], points[..., 1:, :], radius[..., :-1], radius[..., 1:])
    return Pieces(*(e.reshape(-1, 3) for e in ends[:2]), *(e.ravel() for e in ends[2:]))


def grow(points: np.ndarray, lobe: np.ndarray, root: np.ndarray, rng: np.random.Generator):
    """Branches from `root` (3,) to every one of (M, 3) points, first to one stem a lobe (M,).

    A branch goes part of the way to the middle of its points, which a plane through its direction
    then divides for two daughters.
    """
    label = np.unique(lobe, return_inverse=True)[1]
    start = np.repeat(root[None], label.max() + 1, 0)
    before, first = np.zeros_like(start), np.ones(len(start), bool)
    found: list[tuple] = []
    while len(label):
        count = np.bincount(label)
        middle = np.stack([np.bincount(label, v) for v in points.T], 1) / count[:, None]
        single = count == 1
        part = np.where(single, 0.95, rng.uniform(0.35, 0.62, len(count)))[:, None]
        end = start + part * (middle - start)
        along = end - start
        along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
        away = points - middle[label]
        away -= (away * along[label]).sum(1, keepdims=True) * along[label]
        pairs = [[np.bincount(label, away[:, i] * away[:, j]) for j in range(3)] for i in range(3)]
        spread, axes = np.linalg.eigh(np.moveaxis(np.array(pairs), 2, 0))
        side = (away * axes[label, :, 2]).sum(1)
        shift = 0.45 * np.sqrt(spread[:, 2].clip(0) / count) * rng.standard_normal(len(count))
        lower, upper = np.full(len(count), np.inf), np.full(len(count), -np.inf)
        np.minimum.at(lower, label, side)
        np.maximum.at(upper, label, side)
        shift = np.clip(shift, 0.8 * lower, 0.8 * upper)
        daughter = 2 * label + (side > shift[label])
        larger = np.bincount(daughter, minlength=2 * len(count)).reshape(-1, 2).max(1)
        found.append((start, end, before, count, np.where(single, 1, larger), first))
        keep = ~single[label]
        points = points[keep]
        parent, label = np.unique(daughter[keep], return_inverse=True)
        start, before = end[parent // 2], along[parent // 2]
        first = np.zeros(len(start), bool)
    return Branches(*(np.concatenate(field) for field in zip(*found, strict=True)))


def tube(
    branches: Branches, leaf: float, *, piece: float = 3.0, shift: np.ndarray | None = None
) -> Pieces:
    """Bent, tapering pieces of branches; radius = leaf · supplied^⅓, mm (Murray's law).

    `shift` (3,) lays the tube beside the branch, as an airway lies beside its artery: towards that
    direction by its length in radii.
    """
    length = np.linalg.norm(branches.end - branches.start, axis=1)
    parts = np.ceil(length / piece).astype(int).clip(1)
    which = np.repeat(np.arange(len(parts)), parts)
    step = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
    bend = branches.start + 0.42 * length[:, None] * branches.before
    bend = np.where(branches.before.any(1)[:, None], bend, (branches.start + branches.end) / 2)
    thick = (leaf * np.cbrt(n) for n in (branches.supplied, branches.after))
    begin, finish = (r[which] for r in thick)
    ends = []
    for t in (step / parts[which], (step + 1) / parts[which]):
        u = t[:, None]
        p = (1 - u) ** 2 * branches.start[which] + 2 * u * (1 - u) * bend[which]
        p += u**2 * branches.end[which]
        radius = begin + (finish - begin) * t
        if shift is not None:
            tangent = (1 - u) * (bend - branches.start)[which] + u * (branches.end - bend)[which]
            tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
            beside = shift - (tangent @ shift)[:, None] * tangent
            root = np.where(branches.first[which], t, 1.0)
            p = p + beside * (radius * root)[:, None]
        ends.append((p, radius))
    (a, ra), (b, rb) = ends
    return Pieces(a, b, ra, rb)


def near(pieces: Pieces, low: float, high: float, margin: float = 1.0) -> Pieces:
    """Those pieces that reach into heights low … high, mm."""
    reach = np.maximum(pieces.ra, pieces.rb) + margin
    bottom = np.minimum(pieces.a[:, 2], pieces.b[:, 2]) - reach
    top = np.maximum(pieces.a[:, 2], pieces.b[:, 2]) + reach
    keep = (bottom < high) & (top > low)
    return Pieces(*(field[keep] for field in pieces))


def cover(pieces: Pieces, grid: Grid, z: float) -> np.ndarray:
    """(H, W) share 0 … 1 of each pixel that the tubes cover at height z, their union."""
    h, flat = grid.step, np.zeros(grid.size**2, np.float32)
    pieces = near(pieces, z, z, THIN * h)
    ends = np.stack([pieces.a[:, :2], pieces.b[:, :2]])
    middle = np.rint((ends.mean(0) - (grid.x, grid.y)) / h).astype(int)
    reach = np.maximum(np.maximum(pieces.ra, pieces.rb), THIN * h) + h
    reach += np.abs(ends[1] - ends[0]).max(1) / 2
    side = np.ceil(reach / h).astype(int)
    inside = ((middle + side[:, None] >= 0) & (middle - side[:, None] < grid.size)).all(1)
    for k in np.unique(side[inside]):
        pick = inside & (side == k)
        a, b, ra, rb = (field[pick].astype(np.float32) for field in pieces)
        offset = np.arange(-k, k + 1)
        column = middle[pick, 0, None, None] + offset[None, None]
        row = middle[pick, 1, None, None] + offset[None, :, None]
        line = b - a
        x, y = ((grid.x + column * h), (grid.y + row * h))
        x, y = (v.astype(np.float32) - a[:, i, None, None] for i, v in enumerate((x, y)))
        u, v, w = (line[:, i, None, None] for i in range(3))
        up = (z - a[:, 2]).astype(np.float32)[:, None, None]
        t = ((x * u + y * v + up * w) / ((line**2).sum(1) + 1e-9)[:, None, None]).clip(0, 1)
        away = np.sqrt((x - t * u) ** 2 + (y - t * v) ** 2 + (up - t * w) ** 2)
        radius = ra[:, None, None] + (rb - ra)[:, None, None] * t
        drawn = np.maximum(radius, THIN * h)
        share = ((drawn - away) / h + 0.5).clip(0, 1) * (radius / drawn) ** 2
        index = row * grid.size + column
        seen = (share > 0) & (row >= 0) & (row < grid.size) & (column >= 0) & (column < grid.size)
        np.maximum.at(flat, index[seen], share[seen])
    return flat.reshape(grid.size, grid.size)
