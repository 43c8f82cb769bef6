"""Trees of vessels and airways that fill a lung, and the share of a pixel that tubes cover.

Source: Tawhai et al., Ann Biomed Eng 28:793 (2000), a tree grown towards the points it supplies;
Murray, PNAS 12:207 (1926): the cubed radii of two daughters add up to their parent's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

THIN = 0.6  # pixels: a thinner tube is drawn this thick, and fainter by the ratio of the areas


class Pieces(NamedTuple):
    """N straight, tapering pieces of tubes: ends a, b (N, 3) mm and their radii ra, rb (N,) mm."""

    a: ndarray
    b: ndarray
    ra: ndarray
    rb: ndarray


class Grid(NamedTuple):
    """Pixel centres of a slice: x and y (mm) of the first, `step` mm apart, `size` × `size`."""

    x: float
    y: float
    step: float
    size: int

    def axes(self) -> tuple[ndarray, ndarray]:
        """x (1, W) and y (H, 1) of the pixel centres, mm."""
        along = np.arange(self.size, dtype=np.float32) * self.step
        return (self.x + along)[None], (self.y + along)[:, None]


class Branches(NamedTuple):
    """B branches: start, end and direction before it (B, 3); points supplied (B,).

    `supplied` by the branch, `after` by the larger of its daughters.
    """

    start: ndarray
    end: ndarray
    before: ndarray
    supplied: ndarray
    after: ndarray


def gather(parts: Sequence[Pieces]) -> Pieces:
    """All pieces in one."""
    return Pieces(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def polyline(curve: ndarray) -> Pieces:
    """The pieces between neighbours of (M, 4): points and radii."""
    return Pieces(curve[:-1, :3], curve[1:, :3], curve[:-1, 3], curve[1:, 3])


def grow(points: ndarray, lobe: ndarray, roots: ndarray, rng: np.random.Generator) -> Branches:
    """Branches to every one of (M, 3) points, each lobe (M,) from its own of the `roots` (L, 3).

    A branch goes part of the way to the middle of its points, which a plane through its direction
    then divides for two daughters.
    """
    lobes, label = np.unique(lobe, return_inverse=True)
    start = roots[lobes]
    before, found = np.zeros_like(start), []
    while len(label):
        count = np.bincount(label)
        middle = np.stack([np.bincount(label, v) for v in points.T], 1) / count[:, None]
        single = count == 1
        toward = middle - start
        far = np.linalg.norm(toward, axis=1, keepdims=True) + 1e-9
        along = toward / far + np.where(single, 0.2, 0.5)[:, None] * before
        along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
        part = np.where(single, 0.9, rng.uniform(0.3, 0.6, len(count)))[:, None]
        end = start + part * far * along
        away = points - middle[label]
        away -= (away * along[label]).sum(1, keepdims=True) * along[label]
        pairs = [[np.bincount(label, away[:, i] * away[:, j]) for j in range(3)] for i in range(3)]
        spread, axes = np.linalg.eigh(np.moveaxis(np.array(pairs), 2, 0))
        # Either sign solves it, and processors differ in which they find.
        widest = axes[:, :, 2] * np.sign(axes[:, :, 2].sum(1, keepdims=True))
        side = (away * widest[label]).sum(1)
        # Uneven halves: a trunk with smaller side branches. No half is empty.
        shift = 0.6 * np.sqrt(spread[:, 2].clip(0) / count) * rng.standard_normal(len(count))
        bounds = np.full((2, len(count)), np.inf)
        np.minimum.at(bounds[0], label, side)
        np.minimum.at(bounds[1], label, -side)
        shift = np.clip(shift, 0.8 * bounds[0], -0.8 * bounds[1])
        daughter = 2 * label + (side > shift[label])
        larger = np.bincount(daughter, minlength=2 * len(count)).reshape(-1, 2).max(1)
        found.append(Branches(start, end, before, count, np.where(single, 1, larger)))
        keep = ~single[label]
        points = points[keep]
        parent, label = np.unique(daughter[keep], return_inverse=True)
        start, before = end[parent // 2], along[parent // 2]
    return Branches(*(np.concatenate(field) for field in zip(*found, strict=True)))


def tube(branches: Branches, leaf: float, beside: ndarray | None = None) -> Pieces:
    """Bent, tapering pieces of branches; radius = leaf · supplied^⅓, mm (Murray's law).

    `beside` (3,) lays the tube towards that direction, off by its length in radii, as an airway
    lies beside its artery.
    """
    length = np.linalg.norm(branches.end - branches.start, axis=1)
    parts = np.ceil(length / 3).astype(int).clip(1)
    which = np.repeat(np.arange(len(parts)), parts)
    step = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
    first = (branches.end - branches.start) / 2
    known = np.linalg.norm(branches.before, axis=1, keepdims=True) > 0
    first = np.where(known, 0.42 * length[:, None] * branches.before, first)
    start, first, last = (v[which] for v in (branches.start, first, branches.end - branches.start))
    begin, finish = (leaf * np.cbrt(n)[which] for n in (branches.supplied, branches.after))
    ends = []
    for t in (step / parts[which], (step + 1) / parts[which]):
        u, radius = t[:, None], begin + (finish - begin) * t
        place = start + 2 * u * (1 - u) * first + u**2 * last
        if beside is not None:
            tangent = (1 - u) * first + u * (last - first)
            tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
            lean = beside - (tangent * beside).sum(1, keepdims=True) * tangent
            place = place + lean * radius[:, None]
        ends.append((place, radius))
    (a, ra), (b, rb) = ends
    return Pieces(a, b, ra, rb)


def near(pieces: Pieces, z: float, margin: float) -> Pieces:
    """Those pieces that come within `margin` mm of height z."""
    reach = np.maximum(pieces.ra, pieces.rb) + margin
    a, b = pieces.a[:, 2] - z, pieces.b[:, 2] - z
    keep = (np.minimum(a, b) < reach) & (np.maximum(a, b) > -reach)
    return Pieces(*(field[keep].astype(np.float32) for field in pieces))


def inside(pieces: Pieces, x: ndarray, y: ndarray, z: float) -> tuple[ndarray, ndarray]:
    """Distance of points (N, …) from the middle line of each of N pieces, and its radius there."""
    shape = (-1,) + (1,) * (x.ndim - 1)
    a, line = pieces.a.T.reshape(3, *shape), (pieces.b - pieces.a).T.reshape(3, *shape)
    x, y, up = x - a[0], y - a[1], np.float32(z) - a[2]
    t = (x * line[0] + y * line[1] + up * line[2]) / ((line**2).sum(0) + 1e-9)
    t = t.clip(0, 1)
    away = (x - t * line[0]) ** 2 + (y - t * line[1]) ** 2 + (up - t * line[2]) ** 2
    ra, rb = pieces.ra.reshape(shape), pieces.rb.reshape(shape)
    return np.sqrt(away), ra + (rb - ra) * t


def cover(tubes: dict[str, Pieces], grid: Grid, z: float) -> dict[str, ndarray]:
    """(H, W) share 0 … 1 of each pixel that the tubes of each kind cover at height z, their union.

    All kinds in one go: it is the number of NumPy's calls that takes the time.
    """
    h, flat = grid.step, np.zeros(len(tubes) * grid.size**2, np.float32)
    found = [near(pieces, z, THIN * h) for pieces in tubes.values()]
    pieces, kind = gather(found), np.repeat(np.arange(len(found)), [len(p.ra) for p in found])
    middle = ((pieces.a + pieces.b)[:, :2] / 2 - (grid.x, grid.y)) / h
    middle = np.rint(middle).astype(int)
    reach = np.maximum(np.maximum(pieces.ra, pieces.rb), THIN * h) + h
    side = np.ceil((reach + np.abs(pieces.b - pieces.a)[:, :2].max(1) / 2) / h).astype(int)
    met = ((middle + side[:, None] >= 0) & (middle - side[:, None] < grid.size)).all(1)
    for k in np.unique(side[met]):
        pick = np.flatnonzero(met & (side == k))
        offset = np.arange(-k, k + 1)
        column = middle[pick, 0, None, None] + offset
        row = middle[pick, 1, None, None] + offset[:, None]
        x, y = ((o + i * h).astype(np.float32) for o, i in ((grid.x, column), (grid.y, row)))
        away, radius = inside(Pieces(*(field[pick] for field in pieces)), x, y, z)
        drawn = np.maximum(radius, THIN * h)
        # A soft edge adds h² / 12 to a radius squared.
        edge = np.sqrt(drawn**2 - h * h / 12)
        share = ((edge - away) / h + 0.5).clip(0, 1) * (radius / drawn) ** 2
        seen = (share > 0) & (row >= 0) & (row < grid.size) & (column >= 0) & (column < grid.size)
        place = (kind[pick, None, None] * grid.size + row) * grid.size + column
        np.maximum.at(flat, place[seen], share[seen])
    return dict(zip(tubes, flat.reshape(-1, grid.size, grid.size), strict=True))
