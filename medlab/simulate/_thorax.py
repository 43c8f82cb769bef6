"""A three-dimensional chest, drawn anew for every patient: ellipsoids, tubes and clouds in mm.

A body is its density relative to water, 1 + HU/1000, in the coordinates of `_rays`; `water_path` is
its line integral.

Source: sizes after ICRP Publication 110 (2009), densities after ICRU Report 44 (1989); infants'
round chests, level ribs and high domes, nearly gone at two: Openshaw et al., Thorax 39:624 (1984).
"""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from medlab.simulate import _rays as rays
from medlab.simulate._rays import Beam, Ellipsoid, Interval, gaps, rotation

# Density relative to water at the effective energy of a 120 kV beam; 1 + HU/1000.
FAT, MUSCLE = 0.91, 1.05
BONE = {"cortex": 2.2, "marrow": 1.35, "vertebra": 1.28, "scapula": 1.5, "sternum": 1.2}
# What shell and inside of ribs and clavicles add to muscle.
SHELL, CORE = (torch.tensor(BONE[part] - MUSCLE) for part in ("cortex", "marrow"))
WIDEST = 9.5  # mm, largest radius of a bone after magnification
ACINI = 300  # balls in the cloud of an opacity: fewer look blotchier
VESSELS, BEADS = 26, 24  # vessels per lung, points per vessel
FOCI = {False: 3, True: 9}  # clouds at most, of a usual pneumonia and of a kind that is told
DRAWS = (80 + 2 * VESSELS * 4 + 4 * ACINI, 16)  # for a patient, for an image
MORE_DRAWS = 7 * (FOCI[True] - FOCI[False])  # for a patient whose variety is told
USUAL = {"heart": 1.0, "thick": 1.0, "vessels": 1.0, "breathing": 1.0, "bone": 1.0, "turning": 1.0}
USUAL |= {"aside": 0.0, "upwards": 0.0, "taper": 0.0, "radius": 1.0, "other": 0.3}
SIDES = (("r", -1.0), ("l", 1.0))  # and their sign along x
AROUND = {
    "r": ("mediastinum", "heart", "atrium", "dome_r"),
    "l": ("mediastinum", "heart", "aorta", "pulmonary", "dome_l"),
}
SOFT = ("trunk", "shoulders", "neck")
BODY = ("skin", "shoulders", "neck", "breast_r", "breast_l")


class Tube(NamedTuple):
    """`curves` tubes in a row: M points (B, M, 3) and the step that each stands for (B, M), mm.

    `radius` and `wall` are (B,) mm: a shell around a core.
    """

    points: Tensor
    step: Tensor
    radius: Tensor
    wall: Tensor
    curves: int


class Cloud(NamedTuple):
    """Gaussian balls: (B, M, 3) mm, mass (B, M) mm³ of added density, sigma (B,) ≤ widest mm."""

    points: Tensor
    mass: Tensor
    sigma: Tensor
    widest: float


class Thorax(NamedTuple):
    """B chests: solids, tubes and clouds by name, and numbers (B,).

    `lung` is the density of aerated lung, `bone` a factor on the density that bone adds (1 in the
    young), `vertebra` the height of a vertebra with its disc, mm.
    """

    solids: dict[str, Ellipsoid]
    tubes: dict[str, Tube]
    clouds: dict[str, Cloud]
    lung: Tensor
    bone: Tensor
    vertebra: Tensor


class _Draws:
    """Takes the columns of (B, D) uniform numbers one by one, where each is used."""

    def __init__(self, uniform: np.ndarray):
        self.columns = iter(uniform.T)

    def flat(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.from_numpy(low + (high - low) * next(self.columns)).float()

    def normal(self, mean: float, sd: float) -> Tensor:
        """Normal, cut at 2.3 standard deviations: nobody has a heart of negative size."""
        z = np.clip(ndtri(next(self.columns)), -2.3, 2.3)
        return torch.from_numpy(mean + sd * z).float()

    def block(self, *shape: int) -> Tensor:
        """(B, *shape) uniform in [0, 1)."""
        taken = np.stack([next(self.columns) for _ in range(math.prod(shape))], axis=1)
        return torch.from_numpy(taken.reshape(-1, *shape)).float()


def build(
    patient: np.ndarray,
    moment: np.ndarray,
    *,
    opacity: Tensor | float = 0.0,
    mirrored: Tensor | None = None,
    variety: Mapping[str, Tensor] | None = None,
) -> tuple[Thorax, dict[str, Tensor]]:
    """Chests from uniform numbers in [0, 1), and the facts of them that `chest_xray` tells.

    Args:
        patient: (B, DRAWS[0]): what stays the same from image to image.
        moment: (B, DRAWS[1]): breath and pose.
        opacity: (B,) extent of pneumonia, 0 none, 1 usual.
        mirrored: (B,) bool: front and back exchanged.
        variety: (B,) numbers each, in place of the USUAL ones and of the age: factors; shifts, mm;
            degrees by which the lungs taper; and, needed too, `height` (factor) and those that
            tell `_opacity` the kind of pneumonia. A patient then needs MORE_DRAWS numbers more.
    """
    v = {name: torch.tensor(value) for name, value in USUAL.items()} | dict(variety or {})
    d, m = _Draws(patient), _Draws(moment)
    solids: dict[str, Ellipsoid] = {}

    def solid(name: str, centre: Sequence, semi: Sequence, turn: Sequence = (0.0, 0, 0)) -> None:
        drawn = [torch.as_tensor(v).expand_as(age).float() for v in (*centre, *semi, *turn)]
        place, size = (torch.stack(drawn[i : i + 3], -1) for i in (0, 3))
        solids[name] = Ellipsoid(place, size, rotation(*drawn[6:]))

    age, female = d.flat(20, 90), (d.flat() < 0.48).float()
    age = v.get("age", age)
    young = torch.exp(-age / 2.5) * bool(variety)  # 1 at birth, 0.45 at two years, 0.14 at five
    scale = d.normal(1.0, 0.045) - 0.055 * female
    fat = 6 + 40 * d.flat() ** 2.2  # subcutaneous, mm
    breath = (0.25 + 0.75 * m.flat() ** 0.6 - 0.10 * (fat / 46)).clamp(0, 1) * v["breathing"]
    deep = breath - 0.6  # 0 at a usual breath

    # Lungs: two tilted ellipsoids standing on the diaphragm.
    wide = d.normal(62, 3.5) + 4 * deep
    tall, flat_chest = d.normal(152, 9), d.normal(88, 7)
    emphysema = (d.flat() ** 6) * 14
    dome = -72 - 42 * deep + d.normal(0, 9) - emphysema
    dome_left = dome - d.normal(11, 4)
    lean_r, lean_l = d.normal(7, 2) + v["taper"], d.normal(7, 2) + v["taper"]
    middle = d.normal(-28, 5)
    solid("lung_r", (-(wide + 12), 0.0, middle), (wide, flat_chest, tall), (0, lean_r, 0))
    solid("lung_l", (wide + 10, 0.0, middle - 2), (wide - 2, flat_chest, tall), (0, -lean_l, 0))
    roof = d.normal(74, 7)
    solid("dome_r", (-70.0, -6.0, dome - roof), (98.0, 125.0, roof), (4 * d.normal(0, 1), 0, 0))
    solid("dome_l", (70.0, -6.0, dome_left - roof), (96.0, 125.0, roof))

    # Mediastinum and heart; a shallow breath lets the heart lie broader.
    size = d.normal(1.0, 0.10) * (1 + 0.0015 * (age - 50)) * (1 - 0.10 * deep)
    size = size * (1 + 0.22 * young) * v["heart"]
    tilt = d.normal(48, 7) - 12 * deep
    low = torch.minimum(dome, dome_left) + 42 * size
    thick = 46 * size * v["thick"]
    solid("heart", (30 * size, -34.0, low), (47 * size, thick, 70 * size), (0, tilt, 0))
    solid("atrium", (-13.0, -30.0, low + 16), (33 * size, 36.0, 56 * size), (0, 10.0, 0))
    broad = d.normal(25, 3) + 0.10 * (fat - 15) + 14 * young  # the thymus
    solid("mediastinum", (-2.0, 12.0, 62.0), (broad, 70.0, 120.0), (0, d.normal(0, 2), 0))
    artery = 17 + 3 * d.normal(0, 1)
    solid("pulmonary", (artery, -20.0, low + 62), (20.0, 20.0, 38.0), (0, -24.0, 0))
    unfold = d.normal(0, 1) + 0.05 * (age - 50)
    solid("aorta", (17 + 2.2 * unfold, 25.0, 18.0), (17.0, 24.0, 62.0), (0, d.normal(-3, 3), 0))

    # The skin is fat around a trunk of muscle that always holds the lungs.
    chest = 2 * wide + 12 + d.normal(16, 3) - 4 * deep
    deepness = flat_chest + d.normal(22, 3)
    solid("trunk", (0.0, 0.0, -60.0), (chest, deepness, 420.0))
    solid("skin", (0.0, 0.0, -60.0), (chest + fat, deepness + fat, 420.0 + fat))
    slope = d.normal(162, 7)
    solid("shoulders", (0.0, 20.0, slope - 40), (240.0, 56 + 0.5 * fat, 62 + 0.4 * fat))
    solid("neck", (0.0, 22.0, slope + 40), (56 + 0.4 * fat, 58 + 0.4 * fat, 110.0))
    cup = female * (26 + 0.75 * fat) * (0.75 + 0.5 * d.flat()) + (1 - female) * (1 + 0.3 * fat)
    cup = torch.where(age < 12, 1.0, cup)
    sag = d.normal(-38, 9) - 0.25 * cup - 0.2 * (age - 50) * female
    round_ = (cup * 1.5 + 22, cup * 1.5 + 4, cup * 1.5 + 30)
    for side, sign in SIDES:
        place = (sign * (70 + 0.3 * fat), -(deepness + fat) + 0.95 * cup, sag + d.normal(0, 5))
        solid(f"breast_{side}", place, round_, (14.0, 0, sign * 12.0))

    solid("trachea", (d.normal(-2, 2), 14.0, 118.0), (8.5, 9.0, 85.0), (6.0, 0, 0))
    solid("spine", (0.0, 62.0, -40.0), (16.5, 17.0, 330.0), (0, d.normal(0, 1.2), 0))
    bubble = (62 + d.normal(0, 8), -20.0, dome_left - 24 - 14 * d.flat())
    solid("stomach", bubble, (6 + 34 * d.flat(), 26.0, 4 + 14 * d.flat()))
    solid("sternum", (0.0, -(flat_chest + 9), 40.0), (16.0, 5.0, 85.0), (-6.0, 0, 0))
    # Arms turned outwards move the shoulder blades off the lungs, more or less.
    spin, raised = d.normal(35, 6), m.flat(8, 26)
    for side, sign in SIDES:
        x, turn = sign * (0.72 * chest + raised), (0, sign * 14, sign * -spin)
        solid(f"scapula_{side}", (x, 58.0, 84.0), (40.0, 4.0, 62.0), turn)

    tubes = _bones(d, (wide, middle, tall, flat_chest), v["taper"])
    bone = (1.12 - 0.006 * (age - 20) * (0.7 + 0.6 * female)) * d.normal(1.0, 0.08)
    bone = bone * (1 - 0.4 * young) * v["bone"]
    lung = (0.27 - 0.11 * deep + d.normal(0, 0.022) - 0.003 * emphysema).clamp(0.14, 0.45)
    extent = torch.as_tensor(opacity).expand_as(age)
    clouds = _vessels(d, solids, v["vessels"] * (MUSCLE - lung))
    clouds["opacity"] = _opacity(d, solids, lung, extent, v)
    if variety:
        front_to_back, height = 1 + 0.25 * young, v["height"] * (1 - 0.25 * young)
        by = torch.stack([torch.ones_like(age), front_to_back, height], -1)
        _stretch(solids, tubes, clouds, by)

    # Size and pose: p → turn · scale · p + shift.
    yaw, pitch, roll = (v["turning"] * m.normal(*how) for how in ((0, 3.5), (-2, 4), (0, 2.2)))
    aside, upwards = m.normal(0, 7) + v["aside"], m.normal(-4, 8) + v["upwards"]
    shift = torch.stack([aside, torch.zeros_like(yaw), upwards], -1)
    pose = rotation(pitch, roll, yaw)
    if mirrored is not None:
        pose[mirrored, 1] *= -1

    def carried(points: Tensor) -> Tensor:
        x, y, z = (points * scale[:, None, None]).split(1, -1)
        turned = x * pose[:, None, :, 0] + y * pose[:, None, :, 1] + z * pose[:, None, :, 2]
        return turned + shift[:, None]

    for k, t in tubes.items():
        step = t.step * scale[:, None]
        tubes[k] = Tube(carried(t.points), step, t.radius * scale, t.wall * scale, t.curves)
    for k, c in clouds.items():
        mass = c.mass * scale[:, None] ** 3
        clouds[k] = Cloud(carried(c.points), mass, c.sigma * scale, c.widest)
    for k, s in solids.items():
        centre = carried(s.centre[:, None])[:, 0]
        solids[k] = Ellipsoid(centre, s.semi * scale[:, None], rays.times(pose, s.turn))
    facts = {"age": age, "female": female, "fat": fat, "heart": size, "breath": breath, "yaw": yaw}
    return Thorax(solids, tubes, clouds, lung, bone.clamp(0.5, 1.3), 23 * scale), facts


def _stretch(
    solids: dict[str, Ellipsoid], tubes: dict[str, Tube], clouds: dict[str, Cloud], by: Tensor
) -> None:
    """Multiply x, y and z of a chest by the factors `by` (B, 3); tubes stay as thick."""
    for k, s in solids.items():
        turn, semi, _ = torch.linalg.svd(by[:, :, None] * s.turn * s.semi[:, None, :])
        solids[k] = Ellipsoid(s.centre * by, semi, turn)
    for k, t in tubes.items():
        points = t.points * by[:, None]
        step = _steps(points.unflatten(1, (t.curves, -1))).flatten(1)
        tubes[k] = t._replace(points=points, step=step)
    for k, c in clouds.items():
        mass = c.mass * by.prod(1, keepdim=True)
        clouds[k] = c._replace(points=c.points * by[:, None], mass=mass)


def _bones(d: _Draws, lungs: Sequence[Tensor], taper: Tensor) -> dict[str, Tube]:
    """Ten pairs of ribs, each a tilted half ellipse from the spine to the front, and clavicles.

    `taper` (degrees) draws the upper ribs in, as it does the lungs.
    """
    given = (d.normal(23.5, 1.0), d.normal(122, 5), d.normal(1.0, 0.12), *lungs)
    spacing, first, droop, wide, middle, tall, flat_chest = (v[:, None, None] for v in given)
    phi = torch.linspace(0.12, 2.55, 72)[None, None]  # 0 at the spine, π at the breast bone
    number = torch.arange(10.0)[None, :, None]
    top = first - spacing * number
    drop = (48 + 7.5 * number) * droop
    side = top - drop * 0.42
    inside = 1 - ((side - middle) / tall).clamp(-0.98, 0.98) ** 2
    inside = torch.where(side < middle, 1.0, inside.sqrt())
    drawn_in = (taper.deg2rad().tan().view(-1, 1, 1) * (side - middle)).clamp(-20)
    reach = wide * (1 + inside) + 17 - 10 * (1 - inside) - drawn_in
    x = reach * torch.sin(phi).clamp_min(0) ** 0.8
    y = (flat_chest + 6) * (0.55 + 0.45 * inside) * torch.cos(phi)
    z = top + 6 * torch.sin(phi * 1.2) - drop * (1 - torch.cos(phi)) / 2
    ribs = _pairs(torch.stack([-x, y, z], -1), radius=d.normal(6.2, 0.5), wall=1.6)

    along = torch.linspace(0, 1, 60)[None]
    lift, far = d.normal(20, 7)[:, None], d.normal(140, 6)[:, None]
    x = 20 + (far - 20) * along
    y = -(flat_chest[..., 0] * 0.62) + 58 * along - 14 * torch.sin(2 * torch.pi * along)
    z = d.normal(98, 6)[:, None] + lift * along + 5 * torch.sin(2 * torch.pi * along)
    right = torch.stack([-x, y, z], -1)[:, None]
    return {"ribs": ribs, "clavicles": _pairs(right, radius=d.normal(6.6, 0.5), wall=2.8)}


def _pairs(right: Tensor, *, radius: Tensor, wall: float) -> Tube:
    """Bones of the right side (B, n, M, 3) and their mirror images on the left."""
    curves = torch.cat([right, right * torch.tensor([-1.0, 1.0, 1.0])], 1)
    step = _steps(curves).flatten(1)
    return Tube(curves.flatten(1, 2), step, radius, torch.full_like(radius, wall), curves.shape[1])


def _steps(curve: Tensor) -> Tensor:
    """(…, M) length that each point of (…, M, 3) stands for: half the way to either neighbour."""
    piece = ((curve[..., 1:, :] - curve[..., :-1, :]) ** 2).sum(-1).sqrt()
    zero = torch.zeros_like(piece[..., :1])
    return (torch.cat([piece, zero], -1) + torch.cat([zero, piece], -1)) / 2


def aerated(solids: Mapping[str, Ellipsoid], points: Tensor, side: str) -> Tensor:
    """(B, …) bool: points in the lung of `side` ("r" or "l") and in none of its neighbours."""
    free = solids[f"lung_{side}"].inside(points)
    for name in AROUND[side]:
        free &= ~solids[name].inside(points)
    return free


def _vessels(d: _Draws, solids: Mapping[str, Ellipsoid], added: Tensor) -> dict[str, Cloud]:
    """Two fans of curved, tapering vessels from the hila, weightless outside aerated lung."""
    draws = d.block(2, VESSELS, 4)
    ones = torch.ones(len(draws))
    along = torch.linspace(0.03, 1, BEADS)[:, None]
    radius = 3.0 * (1 - along[:, 0]) ** 1.5 + 0.9
    lines, masses = [], []
    for (side, sign), u in zip(SIDES, draws.unbind(1), strict=True):
        lung = solids[f"lung_{side}"]
        hilum = torch.stack([sign * 24.0 * ones, 5.0 * ones, lung.centre[:, 2] + 26], -1)[:, None]
        hilum = hilum + (u[..., [3, 2, 1]] - 0.5) * torch.tensor([16.0, 30.0, 52.0])
        # A spiral over the fan, jittered, so that no patient has all vessels in one corner.
        turn = (torch.arange(VESSELS) + 0.5 + 0.8 * (u[..., 0] - 0.5)) / VESSELS
        angle = 2.75 * (turn - 0.5) + torch.deg2rad(torch.tensor(-8.0))
        x = lung.centre[:, None, 0] + sign * lung.semi[:, None, 0] * 0.95 * torch.cos(angle)
        y = lung.semi[:, None, 1] * 1.3 * (u[..., 2] - 0.5)
        z = lung.centre[:, None, 2] + lung.semi[:, None, 2] * 0.9 * torch.sin(angle)
        reach = along * (0.55 + 0.42 * u[..., 1])[..., None, None]
        line = hilum[:, :, None] + reach * (torch.stack([x, y, z], -1) - hilum)[:, :, None]
        bend = torch.sin(torch.pi * along[:, 0]) * (-22 * (u[..., 3] - 0.3))[..., None]
        line[..., 2] += bend
        mass = (
            added[:, None, None] * _steps(line) * torch.pi * radius**2 * aerated(solids, line, side)
        )
        lines.append(line.flatten(1, 2))
        masses.append(mass.flatten(1))
    points, mass = torch.cat(lines, 1), torch.cat(masses, 1)
    near = (along[:, 0] < 0.4).repeat(2 * VESSELS)[None]
    return {
        "hila": Cloud(points, mass * near, 2.2 * ones, 2.8),
        "vessels": Cloud(points, mass * ~near, 1.1 * ones, 1.4),
    }


def _opacity(
    d: _Draws, solids: dict[str, Ellipsoid], air: Tensor, extent: Tensor, kind: dict[str, Tensor]
) -> Cloud:
    """Pneumonia: up to three clouds of acini in aerated lung, filled with fluid dense as muscle.

    Its `kind`: a factor on their `radius`, the share that lies on the `other` side than the first;
    and, where told, how many `foci`, drawn how far to the hilum (0…1), what share of the air they
    `fill`, and their `grain`, mm.
    """
    u = d.block(FOCI["foci" in kind], 7)
    side = torch.where(d.flat() < 0.55, -1.0, 1.0)
    low, count = d.flat(), d.flat()
    # `fill` is the share of the air that fluid has replaced.
    fill, blotchy = d.flat(0.75, 1.0), d.flat(0.0, 0.8)
    unit = d.block(ACINI, 3)
    weight = torch.exp(blotchy[:, None] * (d.block(ACINI) * 2 - 1) * 1.5)
    weight = weight / weight.mean(1, keepdim=True)
    # Uniform in the unit ball.
    cosine, turn, far = 2 * unit[..., 0] - 1, 2 * torch.pi * unit[..., 1], unit[..., 2:] ** (1 / 3)
    sine = (1 - cosine**2).sqrt()
    ball = torch.stack([sine * torch.cos(turn), sine * torch.sin(turn), cosine], -1) * far

    def on_side(name: str, here: Tensor) -> Tensor:
        """(2, B, 3) centre and semi-axes of the right or left one of a pair."""
        left, right = (torch.stack(solids[f"{name}_{side}"][:2]) for side in "lr")
        return torch.where((here > 0)[:, None], left, right)

    foci = 1 + (count > 0.5).long() + (count > 0.85).long()
    if "foci" in kind:
        foci, fill = kind["foci"].long(), kind["fill"]
    member = torch.arange(ACINI)[None] % foci[:, None]
    centres, semis = [], []
    for k, v in enumerate(u.unbind(1)):
        here = torch.where(v[:, 6] < kind["other"], -side, side) if k else side
        (centre, semi), (dome, roof) = on_side("lung", here), on_side("dome", here)
        bottom = dome[:, 2] + roof[:, 2]
        height = centre[:, 2] + 0.78 * semi[:, 2] - bottom
        z = bottom + 2 + (v[:, 0] ** 1.3 if k else low**1.3) * height
        up = ((z - centre[:, 2]) / semi[:, 2]).clamp(0, 0.95)
        room = (1 - up**2).sqrt()
        x = centre[:, 0] + here * semi[:, 0] * (1.1 * v[:, 1] - 0.45) * room - here * 14 * up
        y = semi[:, 1] * (1.1 * v[:, 2] - 0.55) * room
        centres.append(torch.stack([x, y, z], -1))
        if "hilar" in kind:
            hilum = torch.stack([here * 30, 0 * here, centre[:, 2] + 18], -1)
            centres[k] = torch.lerp(centres[k], hilum, kind["hilar"][:, None])
        radius = (32.0 + 24.0 * v[:, 3]) * (0.75 if k else 1.0) * kind["radius"]
        semis.append(radius[:, None] * (0.75 + 0.6 * v[:, 4:7]))
    grown = (0.4 + 0.6 * extent).clamp_min(0) ** (1 / 3)
    semi = torch.stack(semis, 1) * grown[:, None, None]
    index = member[..., None].expand(-1, -1, 3)
    points = torch.stack(centres, 1).gather(1, index) + ball * semi.gather(1, index)
    volume = (4.18879 * semi.prod(-1)).gather(1, member)
    added = ((MUSCLE - air) * fill * extent.clamp(0, 1.3))[:, None]
    mass = added * volume * weight * foci[:, None] / ACINI
    free = aerated(solids, points, "r") | aerated(solids, points, "l")
    return Cloud(points, mass * free, kind.get("grain", d.flat(5.0, 8.5)), 10.5)


def water_path(thorax: Thorax, beam: Beam) -> dict[str, Tensor]:
    """Line integrals of density through the chest, (B, H, W) in millimetres of water.

    "total", of that what "opacity" adds, and "lung": mm of aerated lung crossed.
    """
    cross = {name: rays.crossing(body, beam) for name, body in thorax.solids.items()}
    bone, spine = thorax.bone.view(-1, 1, 1), thorax.solids["spine"].centre
    slant = beam.slant()
    lung = torch.zeros_like(slant)
    for side, around in AROUND.items():
        for gap in gaps(cross[f"lung_{side}"], [cross[k] for k in around]):
            lung += _common(gap)
    path = FAT * _union([cross[k] for k in BODY])
    path = path + (MUSCLE - FAT) * _union([cross[k] for k in SOFT])
    path = path + (thorax.lung.view(-1, 1, 1) - MUSCLE) * lung
    path -= MUSCLE * _common(cross["trachea"])
    path -= MUSCLE * _common(cross["stomach"], cross["dome_l"])
    # Bodies of the vertebrae, with discs between.
    height = beam.along * (beam.source - spine[:, 1])[:, None, None] - spine[:, 2, None, None]
    turns = 2 * torch.pi * height / thorax.vertebra[:, None, None]
    vertebrae = 0.25 + 0.75 * ((torch.cos(turns) + 0.75) * 3).clamp(0, 1)
    path += _common(cross["spine"]) * bone * ((BONE["vertebra"] - MUSCLE) * vertebrae)
    for name, *within in (("sternum",), ("scapula_r", "skin"), ("scapula_l", "skin")):
        length = _common(*(cross[k] for k in (name, *within)))
        path += length * bone * (BONE[name.split("_")[0]] - MUSCLE)
    path = slant * path
    for tube in thorax.tubes.values():
        path += bone * _tube_path(tube, beam)
    clouds = {}
    for name, cloud in thorax.clouds.items():
        sigma = cloud.sigma * beam.distance / beam.source / beam.pitch
        spots = rays.splat(beam, cloud.points, cloud.mass)
        clouds[name] = rays.soften(spots, sigma, widest=cloud.widest / beam.pitch)
        path += clouds[name]
    return {"total": path, "lung": lung * slant, "opacity": clouds.get("opacity", 0 * lung)}


def _common(*intervals: Interval) -> Tensor:
    """Length of what all intervals have in common."""
    begins, ends = zip(*intervals, strict=True)
    return (reduce(torch.minimum, ends) - reduce(torch.maximum, begins)).clamp_min_(0)


def _union(intervals: list[Interval]) -> Tensor:
    """Length of the union of intervals: its span without the gaps."""
    begins, ends = zip(*intervals, strict=True)
    first, last = reduce(torch.minimum, begins), reduce(torch.maximum, ends)
    length = last - first
    for gap in gaps((first, last), intervals):
        length -= _common(gap)
    return length


def _tube_path(tube: Tube, beam: Beam) -> Tensor:
    # One magnification a tube, that of its middle: front and back of a rib differ by 5 %.
    zoom = (beam.distance / beam.source) / beam.pitch
    reach = math.ceil(WIDEST / beam.pitch + 0.5)
    inner = tube.radius - tube.wall
    kernel = torch.zeros(())
    for radius, added in ((tube.radius, SHELL), (inner, CORE - SHELL)):
        mass = (added * torch.pi * radius**2)[:, None, None]
        kernel = kernel + mass * rays.disc(radius * zoom, reach)
    return rays.spread(rays.splat(beam, tube.points, tube.step), kernel)
