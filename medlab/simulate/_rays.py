"""Rays through ellipsoids, in closed form: where a ray enters, where it leaves, what lies between.

Coordinates are the patient's, in millimetres, as in DICOM: x to the patient's left, y to the back,
z to the head. The X-ray source lies at y = +source (behind the patient) and the detector at
y = source − distance; the picture shows +x on the right and +z on top.
"""

import math
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

Interval = tuple[Tensor, Tensor]  # begin and end
_SUB = 5  # sub-samples per side of a pixel that a disc covers


class Beam(NamedTuple):
    """Cone beams of B exposures from `source` to a detector at `distance` from it, each (B,) mm.

    The detector has size × size pixels of `pitch` mm.
    """

    source: Tensor
    distance: Tensor
    pitch: float
    size: int

    @property
    def across(self) -> Tensor:
        """(B, 1, W) dx per mm travelled along −y, for each column."""
        u = (torch.arange(self.size) - (self.size - 1) / 2) * self.pitch
        return u / self.distance[:, None, None]

    @property
    def along(self) -> Tensor:
        """(B, H, 1) dz per mm travelled along −y, for each row; the first row looks highest."""
        return -self.across.mT

    def slant(self) -> Tensor:
        """(B, H, W) millimetres of ray per millimetre along y: the secant of its obliquity."""
        return (1 + self.across**2 + self.along**2).sqrt()


class Ellipsoid(NamedTuple):
    """B of them: centre, semi (B, 3) mm; the columns of turn (B, 3, 3) are the axes' directions."""

    centre: Tensor
    semi: Tensor
    turn: Tensor

    def inside(self, points: Tensor) -> Tensor:
        """(B, …) bool for points (B, …, 3)."""
        shape = (len(self.centre),) + (1,) * (points.ndim - 2) + (3,)
        away, axes = points - self.centre.view(shape), self.turn / self.semi[:, None, :]
        x, y, z = ((away * axes[..., k].reshape(shape)).sum(-1) ** 2 for k in range(3))
        return x + y + z <= 1


def times(a: Tensor, b: Tensor) -> Tensor:
    """(B, 3, 3) products, whose rounding does not depend on how many there are."""
    return (a[..., None] * b[:, None]).sum(2)


def rotation(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """(B, 3, 3) rotation about x, then y, then z by angles in degrees, each (B,)."""

    def about(axis: int, angle: Tensor) -> Tensor:
        c, s = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
        turn = torch.eye(3).repeat(len(angle), 1, 1)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[:, first, first], turn[:, first, second] = c, -s
        turn[:, second, first], turn[:, second, second] = s, c
        return turn

    return times(about(2, z), times(about(1, y), about(0, x)))


def crossing(body: Ellipsoid, beam: Beam) -> Interval:
    """Where each ray enters and leaves, as distance along −y from the source, mm: two (B, H, W).

    A ray p(t) = source + t·d meets the surface where a(t−τ)² + 2b(t−τ) + c = 0, with a = dᵀQd,
    b = eᵀQd, c = eᵀQe − 1 and e its position relative to the centre at the centre's depth τ, so
    that b² − ac does not lose its digits. A ray that misses gets enter = leave.
    """
    axes = body.turn / body.semi[:, None, :]
    q = (axes[:, :, None, :] * axes[:, None, :, :]).sum(-1)[..., None, None]
    cx, cy, cz = (body.centre[:, i, None, None] for i in range(3))
    depth = beam.source[:, None, None] - cy
    dx, dz = beam.across, beam.along
    ex, ez = dx * depth - cx, dz * depth - cz
    # What depends on the column alone, plus what depends on the row alone, plus what mixes them.
    a = (q[:, 0, 0] * dx - 2 * q[:, 0, 1]) * dx + q[:, 1, 1]
    a = a + (q[:, 2, 2] * dz - 2 * q[:, 1, 2]) * dz
    a.addcmul_(dz, 2 * q[:, 0, 2] * dx)
    b = ex * (q[:, 0, 0] * dx - q[:, 0, 1]) + ez * (q[:, 2, 2] * dz - q[:, 1, 2])
    b.addcmul_(dz, q[:, 0, 2] * ex).addcmul_(ez, q[:, 0, 2] * dx)
    c = (q[:, 0, 0] * ex * ex - 1) + q[:, 2, 2] * ez * ez
    c.addcmul_(ez, 2 * q[:, 0, 2] * ex)
    half = (b * b).addcmul_(a, c, value=-1).clamp_min_(0).sqrt_().div_(a)
    middle = depth - b.div_(a)
    return middle - half, middle + half


def gaps(within: Interval, bodies: list[Interval]) -> list[Interval]:
    """The parts of `within` that none of K `bodies` covers: K + 1 intervals, empty ones of ≤ 0.

    A depth is uncovered where as many bodies have ended as have begun: with begins and ends sorted
    each for itself, in (−∞, begin₁), (end₁, begin₂), … (end_K, ∞).
    """
    begins, ends = map(list, zip(*bodies, strict=True))
    for edges in (begins, ends):  # `torch.sort` would make the cohort a third slower
        for i, j in combinations(range(len(edges)), 2):
            low, high = torch.minimum(edges[i], edges[j]), torch.maximum(edges[i], edges[j])
            edges[i], edges[j] = low, high
    lower, upper = within
    starts = [lower, *(torch.maximum(end, lower) for end in ends)]
    stops = [*(torch.minimum(begin, upper) for begin in begins), upper]
    return list(zip(starts, stops, strict=True))


def splat(beam: Beam, points: Tensor, mass: Tensor) -> Tensor:
    """(B, H, W) line integrals of point masses (B, M) at (B, M, 3): Σ mass · m² / pitch² per pixel.

    Each mass is shared by the four nearest pixels. A curve is a row of points: with `spread` over a
    disc of its radius it gives the line integral through the tube around it.
    """
    zoom = beam.distance[:, None] / (beam.source[:, None] - points[..., 1])
    size, middle = beam.size, (beam.size - 1) / 2
    column = points[..., 0] * zoom / beam.pitch + middle
    row = middle - points[..., 2] * zoom / beam.pitch
    mass = mass * (zoom / beam.pitch) ** 2
    left, top = column.floor(), row.floor()
    batch = torch.arange(len(points))[:, None] * size**2
    picture = torch.zeros(len(points) * size**2)
    for dy, down in enumerate((1 - (row - top), row - top)):
        for dx, right in enumerate((1 - (column - left), column - left)):
            c, r = left.long() + dx, top.long() + dy
            hit = (c >= 0) & (c < size) & (r >= 0) & (r < size)
            where = batch + (r * size + c) * hit
            picture.index_add_(0, where.flatten(), (mass * (right * down) * hit).flatten())
    return picture.view(len(points), size, size)


def disc(radius: Tensor, reach: int) -> Tensor:
    """(B, 2·reach + 1, …) cover of discs of `radius` (B,) ≤ reach + ½ pixels; each sums to 1."""
    side = 2 * reach + 1
    fine = (torch.arange(side * _SUB) - (side * _SUB - 1) / 2) / _SUB
    # The soft edge of one sub-sample keeps discs thinner than a pixel from vanishing.
    edge = (radius[:, None, None] - (fine[:, None] ** 2 + fine**2).sqrt()) * _SUB + 0.5
    cover = edge.clamp(0, 1).view(len(radius), side, _SUB, side, _SUB).sum((2, 4))
    return cover / cover.sum((1, 2), keepdim=True)


def spread(picture: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each picture (B, H, W) with its own kernel (B, k, k), zero outside."""
    height, width = picture.shape[-2:]
    padded = pad(picture, (kernel.shape[-1] // 2,) * 4)
    out = torch.zeros_like(picture)
    for i, j in kernel.any(0).nonzero().tolist():
        out.addcmul_(padded[:, i : i + height, j : j + width], kernel[:, i, j, None, None])
    return out


def soften(picture: Tensor, sigma: Tensor, *, widest: float) -> Tensor:
    """Gaussian blur of (B, H, W), each with its own `sigma` (B,) in pixels; edges are repeated.

    The kernel ends at three times `widest`, a constant: with the largest sigma of the batch a
    picture would depend on its neighbours.
    """
    reach = max(1, math.ceil(3 * widest))
    steps = torch.arange(-reach, reach + 1)
    taps = torch.exp(-0.5 * (steps / sigma[:, None].clamp_min(1e-3)) ** 2)
    taps = (taps / taps.sum(1, keepdim=True))[:, :, None, None]
    height, width = picture.shape[-2:]
    padded = pad(picture[:, None], (reach,) * 4, mode="replicate")[:, 0]
    rows = sum((padded[:, i : i + height] * taps[:, i] for i in range(len(steps))), torch.zeros(()))
    return sum((rows[:, :, i : i + width] * taps[:, i] for i in range(len(steps))), torch.zeros(()))
