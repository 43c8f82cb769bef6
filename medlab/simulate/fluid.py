"""The cohort `csf_flow`: spinal fluid around the cord in one heartbeat, seen by phase contrast."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from medlab.cohort import Cohort, DataCard
from medlab.errors import read_facts
from medlab.simulate._streams import Numbers, assembled, check_images, drawn, drawn_site, stream
from medlab.simulate.mri import phase_contrast

_FACTS = read_facts("simulate/csf_flow")
CSF_FLOW = DataCard(**_FACTS["card"])
SITES: dict[str, dict[str, float]] = _FACTS["sites"]
SIGNALS: dict[str, float] = _FACTS["signals"]
FIELD = 60.0  # mm, side of the square shown
PARTS = "fluid in front", "fluid behind", "cord", "tonsils", "vertebral arteries", "veins"
CORD = -1.5  # mm, of its middle behind that of the canal
FRAMES = 16


def csf_flow(n: int = 400, seed: int = 0, size: int = 32) -> Cohort:
    """Cine phase-contrast MRI of the fluid at the foramen magnum, in half the patients obstructed.

    One axial cine a patient, 16 frames over one heartbeat. A smaller cohort is the beginning of a
    larger one.

    Args:
        n: patients, ≥ 1.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 32 … 512, of a field of 60 mm. The noise of a pixel is the same at
            any size.

    Returns:
        Cohort of float32 images (n, 2, 16, size, size), the third axis time: channel 0 the
        velocity through the plane in cm/s, positive to the feet, within ± VENC; channel 1 the
        magnitude, muscle about 0.75. The front is on top, the patient's left on the right.
        `labels`: 1 obstructed. `masks`, the same in each frame: 1 fluid in front of the middle of
        the cord, 2 behind, 3 cord, 4 tonsils, 5 vertebral arteries, 6 epidural veins. `extras`:
        frame_ms (between frames), lag_ms (by which the fluid behind follows the fluid in front;
        negative if it goes ahead), tonsil_mm (below the foramen magnum), stroke_ml (of fluid, to
        and fro), venc (cm/s).

    Raises:
        DataError: n, seed or size out of range.
    """
    check_images(n, size, least=32, even=False)
    cines = partial(_cine, seed, size)
    return assembled(cines, n, each=1, card=CSF_FLOW, sites=SITES, mm=FIELD / size)


def _cine(seed: int, size: int, patient: int) -> Numbers:
    """Cine, masks and facts of one patient, as `assembled` takes them."""
    place = (CSF_FLOW.name, CSF_FLOW.version, seed, patient)
    p = _patient(stream(*place))
    fine = 4 if size <= 64 else 2
    axis = (torch.arange(size * fine) + 0.5) * (FIELD / size / fine) - FIELD / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    part, signal = _anatomy(p, x - p["at"][0], y - p["at"][1])
    beat = 60_000 / p["rate"]  # ms
    phase = 2 * math.pi * (p["start"] + p["cover"] * torch.arange(FRAMES) / FRAMES)
    rng = stream(*place, 0)
    velocity = _velocity(p, part, x - p["at"][0], y - p["at"][1], phase)
    breath = torch.from_numpy(rng.normal(0, p["breath"], FRAMES)).float()
    fluid = (part == 1) | (part == 2)
    velocity += breath[:, None, None] * fluid
    # What flows in has not been saturated by earlier pulses.
    inflow = SIGNALS["inflow"] * (1 - torch.exp(-velocity.abs() / 1.5)) * fluid
    shown = velocity + p["venc"] * p["offset_share"] * _offset(p, x, y)
    cine = phase_contrast(
        signal + inflow, shown, venc=p["venc"], sigma=1 / p["snr"], seed=rng, fine=fine
    )
    shares = torch.stack([(part == k).float() for k in range(len(PARTS) + 1)])
    return {
        "images": torch.stack(cine)[None],
        "masks": avg_pool2d(shares, fine).argmax(0).byte().repeat(1, FRAMES, 1, 1),
        "labels": int(p["ill"]),
        "site": p["site"],
        "frame_ms": beat * p["cover"] / FRAMES,
        "lag_ms": beat * p["lag"],
        "tonsil_mm": p["tonsil_mm"],
        "stroke_ml": p["stroke"],
        "venc": float(p["venc"]),
    }


def _patient(rng: np.random.Generator) -> Numbers:
    """All numbers of one patient and the scanner, from distributions that the label leaves alone.

    But for the sign of `lag`, and that is what the label means: reversed in time, the cines of one
    class are distributed as those of the other.
    """
    p = drawn(rng, _FACTS["ranges"])
    site = drawn_site(rng, SITES)
    here = SITES[list(SITES)[site]]
    ill = bool(rng.random() < 0.5)
    lag = rng.normal(_FACTS["lag"]["mean"], _FACTS["lag"]["sd"])
    p |= {"ill": ill, "lag": float(lag if ill else -lag), "site": site}
    return p | {k: here[k] for k in ("venc", "snr", "cover")} | {"offset_share": here["offset"]}


def _arteries(p: Numbers, x: Tensor, y: Tensor) -> list[Tensor]:
    """Squared distance from the axis of either vertebral artery, 1 at its wall."""
    (right, up), (left, high), mm = p["artery_at"][:2], p["artery_at"][2:], p["artery_mm"]
    middles = ((-8.2 + right, CORD - 5 + up), (8.2 + left, CORD - 5 + high))
    return [((x - u) ** 2 + (y - v) ** 2) / r**2 for (u, v), r in zip(middles, mm, strict=True)]


def _within(x: Tensor, y: Tensor, at: tuple[float, float], half: tuple[float, float]) -> Tensor:
    return ((x - at[0]) / half[0]).square() + ((y - at[1]) / half[1]).square() < 1


def _anatomy(p: Numbers, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """What each point is, position in PARTS + 1 or 0, and its magnitude at rest, both (H, W)."""
    angle = torch.atan2(y, x)
    radius = torch.hypot(x / p["wide"], y / p["deep"])
    for k, turn in zip((2, 3, 4), p["turn"], strict=True):
        radius = radius * (1 + p["wave"] / k * torch.sin(k * angle + turn))
    outside = (radius - 1) * (p["wide"] + p["deep"]) / 2  # mm
    waves = zip(p["blotch"][:6], p["blotch"][6:], p["phase"], strict=True)
    texture = 1 + 0.04 * sum(torch.sin(u * x + v * y + turn) for u, v, turn in waves)
    # From outside to inside: muscles with septa, throat, bones with marrow, veins, canal.
    behind = (1 + torch.sin(angle)) / 2
    septum = torch.sin(7 * angle + 0.09 * outside + p["turn"][0]) > 0.985
    septum |= torch.sin(outside / 3.2 + 2 * torch.cos(2 * angle) + p["turn"][1]) > 0.97
    septum = (septum & (y > -4)) | ((x.abs() < 0.5) & (y > 0))
    layers = [
        ("fat", septum),
        ("air", _within(x, y, (p["air"], -31), (12, 5))),
        ("fat", outside < 2.6),
    ]
    rim = p["bone_mm"]
    for side, up, half in ((0, 1, (6, 4.5)), (-1, 0.3, (5, 8.5)), (1, 0.3, (5, 8.5))):
        across, above = p["wide"] + half[0] + rim + 1.2, p["deep"] + half[1] + rim + 1.2
        at = side * across, -up * above
        layers.append(("bone", _within(x, y, at, (half[0] + rim, half[1] + rim))))
        layers.append(("marrow", _within(x, y, at, half)))
    arch = (outside > 2.2) & (behind > 0.5)
    layers.append(("bone", arch & (outside < 2 * rim + 4)))
    layers.append(("marrow", arch & ((outside - rim - 3.1).abs() < 0.8)))
    layers.append(("fat", outside < 1.6))
    for turn, shift, mm in zip((-0.6, 3.75, 0.5, 2.65), p["vein_at"], p["vein_mm"], strict=True):
        at = p["wide"] * math.cos(turn + shift), p["deep"] * math.sin(turn + shift)
        layers.append(("vein", _within(x, y, at, (mm, mm)) & (outside < 2.2)))
    layers += [("dura", outside < 0.5), ("csf", outside < 0)]
    # Roots and denticulate ligaments run from the cord to its sides.
    slope = (y - CORD - 0.12 * x.abs()).abs() < 0.3
    slope |= (y - CORD - 2.2 + 0.35 * x.abs()).abs() < 0.25
    layers.append(("root", slope & (outside < 0)))
    low = min(1.0, max(0.0, p["tonsil_mm"] - 2) / 9)
    for side, wide, deep in ((-1, *p["tonsil"][:2]), (1, *p["tonsil"][2:])):
        at = (side * 4.9, CORD + 9.4 - 0.6 * low)
        half = (0.2 + 4.9 * low**0.5 * wide, 0.2 + 5.0 * low**0.5 * deep)
        layers.append(("tonsil", _within(x, y, at, half) & (outside < -0.6) & (low > 0)))
    half = (6.6 * p["cord"][0], 4.9 * p["cord"][1])
    layers.append(("cord", _within(x, y, (0.0, CORD), half)))
    layers += [("artery", square < 1) for square in _arteries(p, x, y)]
    signal = torch.full_like(x, SIGNALS["muscle"])
    part = torch.zeros(x.shape, dtype=torch.uint8)
    parts = {"cord": 3, "tonsil": 4, "artery": 5, "vein": 6}
    for name, where in layers:
        signal[where] = SIGNALS[name]
        part[where] = parts.get(name, 0)
        if name == "csf":
            part[where] = 1 + (y[where] > CORD).byte()
    return part, signal * texture


def _wave(p: Numbers, phase: Tensor, delay: Tensor | float = 0.0) -> Tensor:
    """Fluid's waveform, without a mean, of a phase in radians and a delay in cycles.

    Flow to the feet takes about 40 % of the cycle and is the faster.
    """
    turned = phase - 2 * math.pi * torch.as_tensor(delay)
    second = p["second"] * torch.cos(2 * turned + p["skew"][0])
    return torch.cos(turned) + second + p["third"] * torch.cos(3 * turned + p["skew"][1])


def _velocity(p: Numbers, part: Tensor, x: Tensor, y: Tensor, phase: Tensor) -> Tensor:
    """(frames, H, W) cm/s to the feet, without breathing.

    A plug: all fluid of a place moves together, since the layer that a wall holds back is thin,
    √(2ν/ω) = 0.4 mm (Loth et al., J Biomech Eng 123:71, 2001). Continuity: what passes the section
    in one direction of a cycle is the stroke volume, so that a narrow section is a fast one.
    """
    fluid = (part == 1) | (part == 2)
    front = torch.tanh((y[fluid] - CORD) / 3)  # −1 in front of the cord, 1 behind
    speed = torch.exp(p["tilt"] * front)
    for jet, at in zip(p["jets"], ((-5.5, -8), (5.5, -8), (-8, 5), (8, 5)), strict=True):
        square = (x[fluid] - at[0]) ** 2 + (y[fluid] - at[1]) ** 2
        speed += jet * torch.exp(-square / (2 * 2.5**2))
    delay = p["lag"] / 2 * front
    every = torch.arange(64) * (2 * math.pi / 64)
    area = (x[0, 1] - x[0, 0]) ** 2 / 100  # cm²
    flow = (_wave(p, every[:, None], delay) @ speed) * area  # ml/s
    speed *= p["stroke"] / (flow.abs().mean() / 2 * 60 / p["rate"])
    out = torch.zeros(len(phase), *part.shape)
    # Slow bulk flow, in opposite directions in front and behind, adds up to nothing.
    bulk = p["bulk"] * (front.mean() - front)
    out[:, fluid] = speed * _wave(p, phase[:, None], delay) + bulk
    common = _wave(p, phase)[:, None]
    out[:, part == 3] = p["cord_flow"] * common
    out[:, part == 4] = p["tonsil_flow"] * common
    pulse = ((1 + torch.cos(phase - 2 * math.pi * p["delay"])) / 2) ** 2
    for k, square in enumerate(_arteries(p, x, y)):  # blunt, to the head, mostly wrapped
        where = (part == 5) & (square < 1)
        peak = p["artery_base"][k] + p["artery_pulse"][k] * pulse
        out[:, where] = -peak[:, None] * (1 - 0.3 * square[where])
    out[:, part == 6] = p["vein_flow"]
    return out


def _offset(p: Numbers, x: Tensor, y: Tensor) -> Tensor:
    """What eddy currents add to the phase: smooth, about −1 … 1, the same in all frames."""
    u, v, (a, b, c, d, e) = 2 * x / FIELD, 2 * y / FIELD, p["offset"]
    return (a + b * u + c * v + d * u * v + e * (u.square() - v.square())) / 2
