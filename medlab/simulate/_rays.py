"""Rays through ellipsoids, in closed form: where a ray enters, where it leaves, what lies between.

Coordinates are the patient's, in millimetres, as in DICOM: x to the patient's left, y to the back,
z to the head. The X-ray source lies at y = +source (behind the patient) and the detector at
y = source − distance; the picture shows +x on the right and +z on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Beam:
    """Cone beams of B exposures onto detectors of height × width pixels.

    Attributes:
        source: (B,) distance from the origin to the source along +y, mm.
        distance: (B,) distance from source to detector, mm.
        pitch: detector pixel size, mm.
        height, width: pixels.
    """

    source: Tensor
    distance: Tensor
    pitch: float
    height: int
    width: int

    @property
    def across(self) -> Tensor:
        """(B, 1, W) dx per mm travelled along −y, for each column."""
        u = (torch.arange(self.width) - (self.width - 1) / 2) * self.pitch
        return u / self.distance[:, None, None]

    @property
    def along(self) -> Tensor:
        """(B, H, 1) dz per mm travelled along −y, for each row; the first row looks highest."""
        v = ((self.height - 1) / 2 - torch.arange(self.height)) * self.pitch
        return v[:, None] / self.distance[:, None, None]

    def slant(self) -> Tensor:
        """(B, H, W) millimetres of ray per millimetre along y: the secant of its obliquity."""
        return (1 + self.across**2 + self.along**2).sqrt()

    def project(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Column, row and magnification, each (B, M), of points (B, M, 3) in mm."""
        magnification = self.distance[:, None] / (self.source[:, None] - points[..., 1])
        column = points[..., 0] * magnification / self.pitch + (self.width - 1) / 2
        row = (self.height - 1) / 2 - points[..., 2] * magnification / self.pitch
        return column, row, magnification


@dataclass(frozen=True)
class Ellipsoid:
    """B ellipsoids {p : |diag(1/semi) · turnᵀ · (p − centre)| ≤ 1}.

    Attributes:
        centre: (B, 3) mm.
        semi: (B, 3) semi-axes, mm, > 0.
        turn: (B, 3, 3) orthonormal; its columns are the directions of the axes.
    """

    centre: Tensor
    semi: Tensor
    turn: Tensor

    def matrix(self) -> Tensor:
        """(B, 3, 3) Q with (p − centre)ᵀ Q (p − centre) ≤ 1 inside."""
        # Written as sums of products, not as a batched matrix product, whose rounding may depend
        # on how many patients are computed together.
        axes = self.turn / self.semi[:, None, :]
        return (axes[:, :, None, :] * axes[:, None, :, :]).sum(-1)

    def inside(self, points: Tensor) -> Tensor:
        """(B, …) bool for points (B, …, 3) or (…, 3) shared by all B."""
        extra = points.ndim - 2 if points.shape[0] == len(self.centre) else points.ndim - 1
        shape = (len(self.centre),) + (1,) * extra + (3,)
        away = points - self.centre.view(shape)
        turn, total = self.turn / self.semi[:, None, :], torch.tensor(0.0)
        for axis in range(3):
            total = total + (away * turn[..., axis].reshape(shape)).sum(-1) ** 2
        return total <= 1

    def moved(self, scale: Tensor, turn: Tensor, shift: Tensor) -> Ellipsoid:
        """The same bodies after p → turn · scale · p + shift; (B,), (B, 3, 3) and (B, 3)."""
        centre = (turn * (self.centre * scale[:, None])[:, None, :]).sum(-1) + shift
        semi = self.semi * scale[:, None]
        return Ellipsoid(centre, semi, (turn[..., None] * self.turn[:, None]).sum(2))


def rotation(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """(B, 3, 3) rotation about x, then y, then z by angles in degrees, each (B,)."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)

    def about(angle: Tensor, first: int, second: int) -> Tensor:
        c, s = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
        rows = [[one if i == j else zero for j in range(3)] for i in range(3)]
        rows[first][first] = rows[second][second] = c
        rows[first][second], rows[second][first] = -s, s
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    def times(a: Tensor, b: Tensor) -> Tensor:
        return (a[..., None] * b[:, None]).sum(2)

    return times(about(z, 0, 1), times(about(y, 2, 0), about(x, 1, 2)))


def crossing(body: Ellipsoid, beam: Beam) -> tuple[Tensor, Tensor]:
    """Where each ray enters and leaves, as distance along −y from the source, mm: two (B, H, W).

    A ray p(t) = source + t·d meets the surface where a(t−τ)² + 2b(t−τ) + c = 0, with a = dᵀQd,
    b = eᵀQd, c = eᵀQe − 1 and e the ray's position relative to the centre at depth τ. τ is the
    depth of the centre, so that b² − ac does not lose its digits. A ray that misses gets an
    empty interval, enter = leave.
    """
    q = body.matrix()[:, :, :, None, None]
    cx, cy, cz = (body.centre[:, i, None, None] for i in range(3))
    depth = beam.source[:, None, None] - cy
    dx, dz = beam.across, beam.along
    ex, ez = dx * depth - cx, dz * depth - cz
    # What depends on the column alone, plus what depends on the row alone, plus what mixes them.
    a = ((q[:, 0, 0] * dx - 2 * q[:, 0, 1]) * dx + q[:, 1, 1]) + (
        q[:, 2, 2] * dz - 2 * q[:, 1, 2]
    ) * dz
    a.addcmul_(dz, 2 * q[:, 0, 2] * dx)
    b = ex * (q[:, 0, 0] * dx - q[:, 0, 1]) + ez * (q[:, 2, 2] * dz - q[:, 1, 2])
    b.addcmul_(dz, q[:, 0, 2] * ex).addcmul_(ez, q[:, 0, 2] * dx)
    c = (q[:, 0, 0] * ex * ex - 1) + q[:, 2, 2] * ez * ez
    c.addcmul_(ez, 2 * q[:, 0, 2] * ex)
    half = (b * b).addcmul_(a, c, value=-1).clamp_min_(0).sqrt_().div_(a)
    middle = depth - b.div_(a)
    enter = middle - half
    return enter, middle.add_(half)


def gaps(
    within: tuple[Tensor, Tensor], bodies: list[tuple[Tensor, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """The parts of interval `within` that no interval of `bodies` covers: K + 1 intervals.

    A depth is uncovered exactly where as many bodies have ended as have begun. With begins and ends
    sorted each for itself, the gaps are therefore (−∞, begin₁), (end₁, begin₂), … (end_K, ∞).
    Parts that are empty have length ≤ 0.
    """
    begins, ends = (_sorted(list(edges)) for edges in zip(*bodies, strict=True))
    lower, upper = within
    starts = [lower, *(torch.maximum(end, lower) for end in ends)]
    stops = [*(torch.minimum(begin, upper) for begin in begins), upper]
    return list(zip(starts, stops, strict=True))


def _sorted(items: list[Tensor]) -> list[Tensor]:
    """Element by element; `torch.sort` over so short an axis makes the cohort a third slower."""
    for last in range(len(items) - 1, 0, -1):
        for i in range(last):
            one, other = items[i : i + 2]
            items[i : i + 2] = torch.minimum(one, other), torch.maximum(one, other)
    return items


def splat(beam: Beam, points: Tensor, mass: Tensor) -> Tensor:
    """(B, H, W) line integrals of point masses (B, M) at (B, M, 3): Σ mass · m² / pitch² per pixel.

    Each mass is shared by the four nearest pixels. A curve is a row of points whose mass is (excess
    density × cross-section × step); `spread` then gives it its width.
    """
    column, row, magnification = beam.project(points)
    mass = mass * (magnification / beam.pitch) ** 2
    left, top = column.floor(), row.floor()
    right_share, bottom_share = column - left, row - top
    batch = torch.arange(len(points))[:, None] * (beam.height * beam.width)
    picture = torch.zeros(len(points) * beam.height * beam.width)
    for dy in (0, 1):
        for dx in (0, 1):
            share = (right_share if dx else 1 - right_share) * (
                bottom_share if dy else 1 - bottom_share
            )
            c, r = left.long() + dx, top.long() + dy
            hit = (c >= 0) & (c < beam.width) & (r >= 0) & (r < beam.height)
            where = batch + (r * beam.width + c) * hit
            picture.index_add_(0, where.flatten(), (mass * share * hit).flatten())
    return picture.view(len(points), beam.height, beam.width)


def disc(radius: Tensor, *, reach: int, sub: int = 5) -> Tensor:
    """Pixel coverage of discs of `radius` (B,) pixels, each summing to 1.

    Args:
        radius: (B,) pixels, at most reach + ½.
        reach: the result is (B, k, k) with k = 2·reach + 1.
        sub: sub-samples per pixel side.
    """
    side = 2 * reach + 1
    fine = (torch.arange(side * sub) - (side * sub - 1) / 2) / sub
    # The soft edge of one sub-sample keeps discs thinner than a pixel from vanishing.
    edge = (radius[:, None, None] - (fine[:, None] ** 2 + fine**2).sqrt()) * sub + 0.5
    cover = edge.clamp(0, 1).view(len(radius), side, sub, side, sub).sum((2, 4))
    return cover / cover.sum((1, 2), keepdim=True)


def spread(picture: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each picture (B, H, W) with its own kernel (B, k, k), zero outside.

    A curve's mass spread over a disc of its radius is exactly the line integral through the tube
    around it: the length of axis that projects within the radius.
    """
    reach = kernel.shape[-1] // 2
    height, width = picture.shape[-2:]
    padded = torch.nn.functional.pad(picture, (reach,) * 4)
    out = torch.zeros_like(picture)
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            tap = kernel[:, i, j, None, None]
            if tap.any():
                out.addcmul_(padded[:, i : i + height, j : j + width], tap)
    return out


def soften(picture: Tensor, sigma: Tensor, *, widest: float) -> Tensor:
    """Gaussian blur of (B, H, W), each with its own `sigma` (B,) in pixels; edges are repeated.

    The kernel ends at three times `widest`. That is a constant of the caller, not the largest sigma
    of the batch: otherwise a picture would depend on its neighbours in the batch.
    """
    reach = max(1, math.ceil(3 * widest))
    steps = torch.arange(-reach, reach + 1)
    taps = torch.exp(-0.5 * (steps / sigma[:, None].clamp_min(1e-3)) ** 2)
    taps = (taps / taps.sum(1, keepdim=True))[:, :, None, None]
    height, width = picture.shape[-2:]
    padded = _repeat_edges(picture, reach)
    rows = sum((padded[:, i : i + height] * taps[:, i] for i in range(len(steps))), torch.zeros(()))
    return sum((rows[:, :, i : i + width] * taps[:, i] for i in range(len(steps))), torch.zeros(()))


def _repeat_edges(picture: Tensor, reach: int) -> Tensor:
    return torch.nn.functional.pad(picture[:, None], (reach,) * 4, mode="replicate")[:, 0]
