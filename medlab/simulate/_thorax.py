"""A three-dimensional chest, drawn anew for every patient: ellipsoids, tubes and clouds in mm.

The body is described by its density relative to water, 1 + HU/1000, so that one description gives
both pictures: `water_path` is its line integral (the radiograph), `ct.hounsfield` its value at
points (the CT). Coordinates are those of `_rays`: x to the patient's left, y to the back, z to the
head.

Sources for sizes and densities: ICRP Publication 110 (2009), reference phantoms; ICRU Report 44
(1989), tissue densities, among them inflated lung with 0.26 g/cm³.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from medlab.simulate._rays import (
    Beam,
    Ellipsoid,
    crossing,
    disc,
    gaps,
    rotation,
    soften,
    splat,
    spread,
)

# Density relative to water at the effective energy of a 120 kV beam; 1 + HU/1000.
DENSITY = {
    "air": 0.0,
    "fat": 0.91,
    "muscle": 1.05,
    "cortex": 2.2,
    "marrow": 1.35,
    "vertebra": 1.28,
    "scapula": 1.5,
    "sternum": 1.2,
    "nodule": 1.03,
}
WIDEST = 9.5  # mm, largest radius of a bone after magnification
ACINI = 300  # balls in the cloud of an opacity: fewer look blotchier
VESSELS, BEADS = 26, 24  # vessels per lung, points per vessel
DRAWS_PER_PATIENT = 80 + 2 * VESSELS * 4 + 4 * ACINI
DRAWS_PER_IMAGE = 16
FILL = (0.75, 1.0)  # share of the air in an opacity that fluid has replaced
SIZE = (32.0, 56.0)  # mean radius of the largest focus, mm
AROUND = {
    "r": ("mediastinum", "heart", "atrium", "dome_r"),
    "l": ("mediastinum", "heart", "aorta", "pulmonary", "dome_l"),
}


@dataclass(frozen=True)
class Tube:
    """B·n curves of one kind as rows of points: (B, M, 3) mm, the step each stands for (B, M) mm.

    Attributes:
        points, step: the axis.
        radius: (B,) outer radius, mm.
        wall: (B,) thickness of the shell, mm; the inside has density `core`.
        shell, core: (B,) density *added* to what is there.
        curves: n; M is n times the points of one curve.
    """

    points: Tensor
    step: Tensor
    radius: Tensor
    wall: Tensor
    shell: Tensor
    core: Tensor
    curves: int


@dataclass(frozen=True)
class Cloud:
    """Gaussian balls: centres (B, M, 3) mm, mass (B, M) mm³ of added density, sigma (B,) mm.

    `widest` mm bounds every sigma that can occur, magnified: it sets how far a ball is drawn.
    """

    points: Tensor
    mass: Tensor
    sigma: Tensor
    widest: float


@dataclass(frozen=True)
class Thorax:
    """B chests. All densities are relative to water.

    Attributes:
        solids: ellipsoids by name.
        tubes: curves by name.
        clouds: by name.
        lung: (B,) density of aerated lung.
        bone: (B,) factor on the density that bone adds, 1 in a young adult.
        vertebra: (B,) height of one vertebra with its disc, mm.
    """

    solids: dict[str, Ellipsoid]
    tubes: dict[str, Tube]
    clouds: dict[str, Cloud]
    lung: Tensor
    bone: Tensor
    vertebra: Tensor

    def moved(self, scale: Tensor, turn: Tensor, shift: Tensor) -> Thorax:
        """All of it after p → turn · scale · p + shift; (B,), (B, 3, 3) and (B, 3)."""

        def carry(points: Tensor) -> Tensor:
            x, y, z = (points * scale[:, None, None]).split(1, -1)
            turned = x * turn[:, None, :, 0] + y * turn[:, None, :, 1] + z * turn[:, None, :, 2]
            return turned + shift[:, None]

        def tube(t: Tube) -> Tube:
            sizes = {k: getattr(t, k) * scale for k in ("radius", "wall")}
            return replace(t, points=carry(t.points), step=t.step * scale[:, None], **sizes)

        def cloud(c: Cloud) -> Cloud:
            mass = c.mass * scale[:, None] ** 3
            return replace(c, points=carry(c.points), mass=mass, sigma=c.sigma * scale)

        solids = {k: s.moved(scale, turn, shift) for k, s in self.solids.items()}
        tubes = {k: tube(t) for k, t in self.tubes.items()}
        clouds = {k: cloud(c) for k, c in self.clouds.items()}
        vertebra = self.vertebra * scale
        return Thorax(solids, tubes, clouds, self.lung, self.bone, vertebra)


class _Draws:
    """Takes the columns of (B, D) uniform numbers one by one, where each is used."""

    def __init__(self, uniform: np.ndarray):
        self.uniform, self.next = uniform, 0

    def flat(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        self.next += 1
        column = self.uniform[:, self.next - 1]
        return torch.from_numpy(low + (high - low) * column).float()

    def normal(self, mean: float, sd: float) -> Tensor:
        """Normal, cut at 2.3 standard deviations: nobody has a heart of negative size."""
        self.next += 1
        z = np.clip(ndtri(self.uniform[:, self.next - 1]), -2.3, 2.3)
        return torch.from_numpy(mean + sd * z).float()

    def block(self, *shape: int) -> Tensor:
        """(B, *shape) uniform in [0, 1)."""
        count = int(np.prod(shape))
        columns = self.uniform[:, self.next : self.next + count]
        if columns.shape[1] != count:
            raise IndexError("more random numbers wanted than drawn for each patient")
        self.next += count
        return torch.from_numpy(columns.reshape(-1, *shape)).float()


def _ellipsoid(centre: Sequence, semi: Sequence, turn: Sequence = (0.0, 0.0, 0.0)) -> Ellipsoid:
    like = next(v for v in (*centre, *semi, *turn) if isinstance(v, Tensor))

    def column(values: Sequence) -> Tensor:
        return torch.stack([torch.as_tensor(v).expand_as(like).float() for v in values], -1)

    angles = [torch.as_tensor(v).expand_as(like).float() for v in turn]
    return Ellipsoid(column(centre), column(semi), rotation(*angles))


def build(
    patient: np.ndarray, moment: np.ndarray, *, opacity: Tensor | None = None
) -> tuple[Thorax, dict[str, Tensor]]:
    """Chests from uniform random numbers.

    Args:
        patient: (B, DRAWS_PER_PATIENT) in [0, 1): what stays the same from image to image.
        moment: (B, DRAWS_PER_IMAGE) in [0, 1): breath and pose.
        opacity: (B,) extent of pneumonia, 0 none, 1 usual; None means none.

    Returns:
        The chests, posed, and what was drawn: age (years), female (0/1), fat (mm), heart (cardio-
        thoracic ratio before projection), breath (0 shallow … 1 deep), yaw (degrees).
    """
    d, m = _Draws(patient), _Draws(moment)
    age, female = d.flat(20, 90), (d.flat() < 0.48).float()
    scale = d.normal(1.0, 0.045) - 0.055 * female
    fat = 6 + 40 * d.flat() ** 2.2  # subcutaneous, mm
    breath = (0.25 + 0.75 * m.flat() ** 0.6 - 0.10 * (fat / 46)).clamp(0, 1)
    deep = breath - 0.6  # 0 at a usual breath

    # Lungs: two tilted ellipsoids standing on the diaphragm.
    wide = d.normal(62, 3.5) + 4 * deep
    tall, flat_chest = d.normal(152, 9), d.normal(88, 7)
    emphysema = (d.flat() ** 6) * 14
    dome = -72 - 42 * deep + d.normal(0, 9) - emphysema
    dome_left = dome - d.normal(11, 4)
    lean_r, lean_l = d.normal(7, 2), d.normal(7, 2)
    middle = d.normal(-28, 5)
    lung_r = _ellipsoid((-(wide + 12), 0.0, middle), (wide, flat_chest, tall), (0, lean_r, 0))
    lung_l = _ellipsoid((wide + 10, 0.0, middle - 2), (wide - 2, flat_chest, tall), (0, -lean_l, 0))
    roof = d.normal(74, 7)
    dome_r = _ellipsoid((-70.0, -6.0, dome - roof), (98.0, 125.0, roof), (4 * d.normal(0, 1), 0, 0))
    dome_l = _ellipsoid((70.0, -6.0, dome_left - roof), (96.0, 125.0, roof))

    # Mediastinum and heart; a shallow breath lets the heart lie broader.
    size = d.normal(1.0, 0.10) * (1 + 0.0015 * (age - 50)) * (1 - 0.10 * deep)
    tilt = d.normal(48, 7) - 12 * deep
    low = torch.minimum(dome, dome_left) + 42 * size
    heart = _ellipsoid((30 * size, -34.0, low), (47 * size, 46 * size, 70 * size), (0, tilt, 0))
    atrium = _ellipsoid((-13.0, -30.0, low + 16), (33 * size, 36.0, 56 * size), (0, 10.0, 0))
    broad = d.normal(25, 3) + 0.10 * (fat - 15)
    mediastinum = _ellipsoid((-2.0, 12.0, 62.0), (broad, 70.0, 120.0), (0, d.normal(0, 2), 0))
    trunk_artery = _ellipsoid(
        (17 + 3 * d.normal(0, 1), -20.0, low + 62), (20.0, 20.0, 38.0), (0, -24.0, 0)
    )
    unfold = d.normal(0, 1) + 0.05 * (age - 50)
    aorta = _ellipsoid((17 + 2.2 * unfold, 25.0, 18.0), (17.0, 24.0, 62.0), (0, d.normal(-3, 3), 0))
    # The skin is fat around a trunk of muscle that always holds the lungs.
    chest = 2 * wide + 12 + d.normal(16, 3) - 4 * deep
    deepness = flat_chest + d.normal(22, 3)
    trunk = _ellipsoid((0.0, 0.0, -60.0), (chest, deepness, 420.0))
    skin = _ellipsoid((0.0, 0.0, -60.0), (chest + fat, deepness + fat, 420.0 + fat))
    slope = d.normal(162, 7)
    shoulders = _ellipsoid(
        (0.0, 20.0, slope - 40), (240.0, 56 + 0.5 * fat, 62 + 0.4 * fat), (0, 0, 0)
    )
    neck = _ellipsoid((0.0, 22.0, slope + 40), (56 + 0.4 * fat, 58 + 0.4 * fat, 110.0))
    cup = female * (26 + 0.75 * fat) * (0.75 + 0.5 * d.flat()) + (1 - female) * (1 + 0.3 * fat)
    sag = d.normal(-38, 9) - 0.25 * cup - 0.2 * (age - 50) * female
    breasts = {
        f"breast_{side}": _ellipsoid(
            (sign * (70 + 0.3 * fat), -(deepness + fat) + 0.95 * cup, sag + d.normal(0, 5)),
            (cup * 1.5 + 22, cup * 1.5 + 4, cup * 1.5 + 30),
            (14.0, 0, sign * 12.0),
        )
        for side, sign in (("r", -1.0), ("l", 1.0))
    }
    solids = {
        "skin": skin,
        "trunk": trunk,
        "shoulders": shoulders,
        "neck": neck,
        **breasts,
        "lung_r": lung_r,
        "lung_l": lung_l,
        "mediastinum": mediastinum,
        "heart": heart,
        "atrium": atrium,
        "aorta": aorta,
        "pulmonary": trunk_artery,
        "dome_r": dome_r,
        "dome_l": dome_l,
        "trachea": _ellipsoid((d.normal(-2, 2), 14.0, 118.0), (8.5, 9.0, 85.0), (6.0, 0, 0)),
        "spine": _ellipsoid((0.0, 62.0, -40.0), (16.5, 17.0, 330.0), (0, d.normal(0, 1.2), 0)),
        "stomach": _ellipsoid(
            (62 + d.normal(0, 8), -20.0, dome_left - 24 - 14 * d.flat()),
            (6 + 34 * d.flat(), 26.0, 4 + 14 * d.flat()),
        ),
        "sternum": _ellipsoid((0.0, -(flat_chest + 9), 40.0), (16.0, 5.0, 85.0), (-6.0, 0, 0)),
    }
    spin, raised = d.normal(35, 6), m.flat(8, 26)
    for side, sign in (("r", -1.0), ("l", 1.0)):
        # Arms turned outwards move the shoulder blades off the lungs, more or less.
        solids[f"scapula_{side}"] = _ellipsoid(
            (sign * (0.72 * chest + raised), 58.0, 84.0),
            (40.0, 4.0, 62.0),
            (0, sign * 14, sign * -spin),
        )
    tubes = _bones(d, wide, middle, tall, flat_chest)
    bone = (1.12 - 0.006 * (age - 20) * (0.7 + 0.6 * female)) * d.normal(1.0, 0.08)
    lung = (0.27 - 0.11 * deep + d.normal(0, 0.022) - 0.003 * emphysema).clamp(0.14, 0.45)
    ones = torch.ones_like(age)
    thorax = Thorax(solids, tubes, {}, lung, bone.clamp(0.5, 1.3), 23 * ones)
    clouds = _vessels(d, thorax)
    if opacity is not None:
        clouds["opacity"] = _opacity(d, m, thorax, opacity)
    thorax = replace(thorax, clouds=clouds)
    yaw, pitch, roll = m.normal(0, 3.5), m.normal(-2, 4), m.normal(0, 2.2)
    shift = torch.stack([m.normal(0, 7), torch.zeros_like(yaw), m.normal(-4, 8)], -1)
    thorax = thorax.moved(scale, rotation(pitch, roll, yaw), shift)
    facts = {
        "age": age,
        "female": female,
        "fat": fat,
        "heart": size,
        "breath": breath,
        "yaw": yaw,
    }
    return thorax, facts


def _bones(
    d: _Draws, wide: Tensor, middle: Tensor, tall: Tensor, flat_chest: Tensor
) -> dict[str, Tube]:
    """Ten pairs of ribs, each a tilted half ellipse from the spine to the front, and clavicles."""
    spacing, first = d.normal(23.5, 1.0), d.normal(122, 5)
    droop = d.normal(1.0, 0.12)
    phi = torch.linspace(0.12, 2.55, 72)[None, None]  # 0 at the spine, π at the breast bone
    number = torch.arange(10.0)[None, :, None]
    top = first[:, None, None] - spacing[:, None, None] * number
    drop = (48 + 7.5 * number) * droop[:, None, None]
    side = top - drop * 0.42
    inside = 1 - ((side - middle[:, None, None]) / tall[:, None, None]).clamp(-0.98, 0.98) ** 2
    inside = torch.where(side < middle[:, None, None], 1.0, inside.sqrt())
    reach = wide[:, None, None] * (1 + inside) + 17 - 10 * (1 - inside)
    depth = (flat_chest[:, None, None] + 6) * (0.55 + 0.45 * inside)
    x = reach * torch.sin(phi).clamp_min(0) ** 0.8
    y = depth * torch.cos(phi)
    z = top + 6 * torch.sin(phi * 1.2) - drop * (1 - torch.cos(phi)) / 2
    ribs = _pairs(torch.stack([-x, y, z], -1), radius=d.normal(6.2, 0.5), wall=1.6)

    along = torch.linspace(0, 1, 60)[None]
    lift, far = d.normal(20, 7)[:, None], d.normal(140, 6)[:, None]
    x = 20 + (far - 20) * along
    y = -(flat_chest[:, None] * 0.62) + 58 * along - 14 * torch.sin(2 * torch.pi * along)
    z = d.normal(98, 6)[:, None] + lift * along + 5 * torch.sin(2 * torch.pi * along)
    right = torch.stack([-x, y, z], -1)[:, None]
    return {"ribs": ribs, "clavicles": _pairs(right, radius=d.normal(6.6, 0.5), wall=2.8)}


def _pairs(right: Tensor, *, radius: Tensor, wall: float) -> Tube:
    """Bones of the right side (B, n, M, 3) and their mirror images on the left."""
    curves = torch.cat([right, right * torch.tensor([-1.0, 1.0, 1.0])], 1)
    ones = torch.ones(len(right))
    shell, core = ((DENSITY[k] - DENSITY["muscle"]) * ones for k in ("cortex", "marrow"))
    points, step = curves.flatten(1, 2), _steps(curves).flatten(1)
    return Tube(points, step, radius, wall * ones, shell, core, curves.shape[1])


def _steps(curve: Tensor) -> Tensor:
    """(…, M) length that each point of (…, M, 3) stands for: half the way to either neighbour."""
    piece = ((curve[..., 1:, :] - curve[..., :-1, :]) ** 2).sum(-1).sqrt()
    zero = torch.zeros_like(piece[..., :1])
    return (torch.cat([piece, zero], -1) + torch.cat([zero, piece], -1)) / 2


def aerated(thorax: Thorax, points: Tensor, side: str) -> Tensor:
    """(B, …) bool: points in the lung of `side` ("r" or "l") and in none of its neighbours."""
    free = thorax.solids[f"lung_{side}"].inside(points)
    for name in AROUND[side]:
        free &= ~thorax.solids[name].inside(points)
    return free


def _vessels(d: _Draws, thorax: Thorax) -> dict[str, Cloud]:
    """Two fans of curved, tapering vessels from the hila, weightless outside aerated lung."""
    draws = d.block(2, VESSELS, 4)
    batch = len(draws)
    along = torch.linspace(0.03, 1, BEADS)[:, None]
    lines, masses = [], []
    for i, (side, sign) in enumerate((("r", -1.0), ("l", 1.0))):
        u = draws[:, i]
        lung = thorax.solids[f"lung_{side}"]
        hilum = torch.stack(
            [torch.full((batch,), sign * 24.0), torch.full((batch,), 5.0), lung.centre[:, 2] + 26],
            -1,
        )[:, None] + (u[..., [3, 2, 1]] - 0.5) * torch.tensor([16.0, 30.0, 52.0])
        # A spiral over the fan, jittered, so that no patient has all vessels in one corner.
        turn = (torch.arange(VESSELS) + 0.5 + 0.8 * (u[..., 0] - 0.5)) / VESSELS
        angle = 2.75 * (turn - 0.5) + torch.deg2rad(torch.tensor(-8.0))
        reach = 0.55 + 0.42 * u[..., 1]
        end = torch.stack(
            [
                lung.centre[:, None, 0] + sign * lung.semi[:, None, 0] * 0.95 * torch.cos(angle),
                lung.semi[:, None, 1] * 1.3 * (u[..., 2] - 0.5),
                lung.centre[:, None, 2] + lung.semi[:, None, 2] * 0.9 * torch.sin(angle),
            ],
            -1,
        )
        bend = torch.zeros_like(end)
        bend[..., 2] = -22 * (u[..., 3] - 0.3)
        line = hilum[:, :, None] + along * reach[..., None, None] * (end - hilum)[:, :, None]
        line = line + torch.sin(torch.pi * along) * bend[:, :, None]
        radius = 3.0 * (1 - along[:, 0]) ** 1.5 + 0.9
        step = _steps(line)
        free = aerated(thorax, line, side)
        added = (DENSITY["muscle"] - thorax.lung)[:, None, None]
        lines.append(line.flatten(1, 2))
        masses.append((added * step * torch.pi * radius**2 * free).flatten(1))
    points, mass = torch.cat(lines, 1), torch.cat(masses, 1)
    near = ((along[:, 0] < 0.4).repeat(2 * VESSELS))[None]
    ones = torch.ones(batch)
    return {
        "hila": Cloud(points, mass * near, 2.2 * ones, 2.8),
        "vessels": Cloud(points, mass * ~near, 1.1 * ones, 1.4),
    }


def _opacity(d: _Draws, m: _Draws, thorax: Thorax, extent: Tensor) -> Cloud:
    """Pneumonia: up to three clouds of fluid-filled acini in aerated lung, where no vessel ends.

    Alveoli filled with exudate reach the density of muscle; a cloud is filled to 45–95 % of that.
    """
    batch = len(extent)
    u = d.block(3, 7)
    side = torch.where(d.flat() < 0.55, -1.0, 1.0)
    low, count = d.flat(), d.flat()
    fill, blotchy = d.flat(*FILL), d.flat(0.0, 0.8)
    unit = d.block(ACINI, 3)
    weight = torch.exp(blotchy[:, None] * (d.block(ACINI) * 2 - 1) * 1.5)
    weight = weight / weight.mean(1, keepdim=True)
    # Uniform in the unit ball.
    cosine, turn, far = 2 * unit[..., 0] - 1, 2 * torch.pi * unit[..., 1], unit[..., 2] ** (1 / 3)
    sine = (1 - cosine**2).sqrt()
    ball = (
        torch.stack([sine * torch.cos(turn), sine * torch.sin(turn), cosine], -1) * far[..., None]
    )

    foci = 1 + (count > 0.5).long() + (count > 0.85).long()
    member = torch.arange(ACINI)[None] % foci[:, None]
    centres, semis = [], []
    for k in range(3):
        other = (u[:, k, 6] < 0.3) if k else torch.zeros(batch, dtype=torch.bool)
        here = torch.where(other, -side, side)
        lung, dome = (_on_side(thorax, name, here) for name in ("lung", "dome"))
        roof = dome.centre[:, 2] + dome.semi[:, 2]
        height = lung.centre[:, 2] + 0.78 * lung.semi[:, 2] - roof
        share = u[:, k, 0] ** 1.3 if k else low**1.3
        z = roof + 2 + share * height
        up = ((z - lung.centre[:, 2]) / lung.semi[:, 2]).clamp(0, 0.95)
        room = (1 - up**2).sqrt()
        x = lung.centre[:, 0] + here * lung.semi[:, 0] * (1.1 * u[:, k, 1] - 0.45) * room
        x = x - here * 14 * up
        y = lung.semi[:, 1] * (1.1 * u[:, k, 2] - 0.55) * room
        centres.append(torch.stack([x, y, z], -1))
        radius = (SIZE[0] + (SIZE[1] - SIZE[0]) * u[:, k, 3]) * (1.0 if k == 0 else 0.75)
        shape = 0.75 + 0.6 * u[:, k, 4:7]
        semis.append(radius[:, None] * shape)
    centre, semi = torch.stack(centres, 1), torch.stack(semis, 1)
    grown = (0.4 + 0.6 * extent).clamp_min(0) ** (1 / 3)
    semi = semi * grown[:, None, None]
    index = member[..., None].expand(-1, -1, 3)
    points = centre.gather(1, index) + ball * semi.gather(1, index)
    volume = (4.18879 * semi.prod(-1)).gather(1, member)
    added = ((DENSITY["muscle"] - thorax.lung) * fill * extent.clamp(0, 1.3))[:, None]
    mass = added * volume * weight * foci[:, None] / ACINI
    free = aerated(thorax, points, "r") | aerated(thorax, points, "l")
    return Cloud(points, mass * free, d.flat(5.0, 8.5), 10.5)


def _on_side(thorax: Thorax, name: str, side: Tensor) -> Ellipsoid:
    """The right or left one of a pair, by the sign of `side` (B,)."""
    left, right = thorax.solids[f"{name}_l"], thorax.solids[f"{name}_r"]
    chosen = (side > 0)[:, None]
    return Ellipsoid(
        torch.where(chosen, left.centre, right.centre),
        torch.where(chosen, left.semi, right.semi),
        torch.where(chosen[..., None], left.turn, right.turn),
    )


def _length(interval: tuple[Tensor, Tensor]) -> Tensor:
    return (interval[1] - interval[0]).clamp_min_(0)


def _both(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.maximum(one[0], other[0]), torch.minimum(one[1], other[1])


def _union(*intervals: tuple[Tensor, Tensor]) -> Tensor:
    """Length of the union of intervals: its span without the gaps."""
    first, last = intervals[0]
    for begin, end in intervals[1:]:
        first, last = torch.minimum(first, begin), torch.maximum(last, end)
    length = last - first
    for gap in gaps((first, last), list(intervals)):
        length -= _length(gap)
    return length


def water_path(thorax: Thorax, beam: Beam) -> dict[str, Tensor]:
    """Line integrals of density through the chest, in millimetres of water.

    Ellipsoids are crossed in closed form; bones and clouds are splatted and spread.

    Returns:
        "total" (B, H, W) mm of water, and of that "lung": mm of aerated lung crossed (as length,
        opacity included) and "opacity": mm of water that the opacity adds.
    """
    cross = {name: crossing(body, beam) for name, body in thorax.solids.items()}
    shape = (-1, 1, 1)
    lung_density, bone = thorax.lung.view(shape), thorax.bone.view(shape)
    muscle, fat = DENSITY["muscle"], DENSITY["fat"]
    soft = _union(*(cross[k] for k in ("trunk", "shoulders", "neck")))
    everything = _union(*(cross[k] for k in ("skin", "shoulders", "neck", "breast_r", "breast_l")))
    lung = torch.zeros_like(soft)
    for side, around in AROUND.items():
        for part in gaps(cross[f"lung_{side}"], [cross[k] for k in around]):
            lung += _length(part)
    path = fat * everything + (muscle - fat) * soft + (lung_density - muscle) * lung
    path -= muscle * _length(cross["trachea"])
    path -= muscle * _length(_both(cross["stomach"], cross["dome_l"]))
    path += _length(cross["spine"]) * bone * _vertebrae(thorax, beam)
    path += _length(cross["sternum"]) * bone * (DENSITY["sternum"] - muscle)
    for side in "rl":
        blade = _both(cross[f"scapula_{side}"], cross["skin"])
        path += _length(blade) * bone * (DENSITY["scapula"] - muscle)
    slant = beam.slant()
    path *= slant
    for tube in thorax.tubes.values():
        path += bone * _tube_path(tube, beam)
    clouds = {k: _cloud_path(cloud, beam) for k, cloud in thorax.clouds.items()}
    for cloud in clouds.values():
        path += cloud
    opacity = clouds.get("opacity", torch.zeros_like(path))
    return {"total": path, "lung": lung * slant, "opacity": opacity}


def _vertebrae(thorax: Thorax, beam: Beam) -> Tensor:
    """(B, H, 1) density that the spine adds at each height: bodies with discs between them."""
    spine = thorax.solids["spine"]
    depth = (beam.source - spine.centre[:, 1])[:, None, None]
    z = beam.along * depth - spine.centre[:, 2, None, None]
    return vertebra_density(z, thorax.vertebra[:, None, None])


def vertebra_density(z: Tensor, height: Tensor) -> Tensor:
    """Density that bone adds to muscle at height z (mm) of a spine: bodies with discs between."""
    body = ((torch.cos(2 * torch.pi * z / height) + 0.75) * 3).clamp(0, 1)
    return (DENSITY["vertebra"] - DENSITY["muscle"]) * (0.25 + 0.75 * body)


def _tube_path(tube: Tube, beam: Beam) -> Tensor:
    axis = splat(beam, tube.points, tube.step)
    # One magnification a tube, that of its middle: front and back of a rib differ by 5 %.
    zoom = (beam.distance / beam.source) / beam.pitch
    reach = math.ceil(WIDEST / beam.pitch + 0.5)
    inner = tube.radius - tube.wall
    shell = (tube.shell * torch.pi * tube.radius**2)[:, None, None]
    core = ((tube.core - tube.shell) * torch.pi * inner**2)[:, None, None]
    kernel = shell * disc(tube.radius * zoom, reach=reach) + core * disc(inner * zoom, reach=reach)
    return spread(axis, kernel)


def _cloud_path(cloud: Cloud, beam: Beam) -> Tensor:
    sigma = cloud.sigma * beam.distance / beam.source / beam.pitch
    return soften(splat(beam, cloud.points, cloud.mass), sigma, widest=cloud.widest / beam.pitch)
