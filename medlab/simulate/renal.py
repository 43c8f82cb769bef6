"""The cohort `kidney_us`: kidneys in three dimensions, seen by a curved probe."""

import math
from functools import partial

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor
from torch.nn import functional

from medlab.cohort import Cohort, DataCard
from medlab.errors import read_facts
from medlab.simulate import _flank as flank
from medlab.simulate._streams import Numbers, assembled, check_images, drawn, drawn_site, stream
from medlab.simulate.ultrasound import Probe, log_compress, received, scan_convert, two_way_loss

_FACTS = read_facts("simulate/kidney_us")
KIDNEY_US = DataCard(**_FACTS["card"])
SITES: dict[str, dict[str, float]] = _FACTS["sites"]
TISSUES: dict[str, list[float]] = _FACTS["tissues"]
FIELD = 160.0  # mm, side of the square shown
SAMPLES, LINES = 320, 144  # of the polar grid
IMAGES = 4  # a patient: longitudinal and transverse through the middle, then through a lesion


def kidney_us(n: int = 600, seed: int = 0, size: int = 96) -> Cohort:
    """Ultrasound images of simulated kidneys, some with cysts, stones or a dilated pelvis.

    Each patient is one three-dimensional kidney with four images: longitudinal and transverse
    through its middle, then both again, through the first cyst, or a stone, if there is one. A
    smaller cohort is the beginning of a larger one.

    Args:
        n: images, ≥ 1; four a patient.
        seed: ≥ 0; another seed gives other patients.
        size: side in pixels, 32 … 512, of a field of 160 mm.

    Returns:
        Cohort of uint8 images (n, 1, size, size): the probe is on top, the head (longitudinal) or
        the patient's right (transverse) on the left. `masks`: 1 parenchyma, 2 sinus with collecting
        system and stones, 3 cysts, at pixel centres within the sector, in shadows too. `extras`:
        view (0 longitudinal, 1 transverse), central (plane through the middle), kidney_ml (all
        within the renal outline: parenchyma, sinus, what of cysts lies there), cyst_ml (all cysts,
        whole), grade (of hydronephrosis, 0 … 4), cysts and stones (how many the kidney has), age
        (years), female, right, length (mm).

    Raises:
        DataError: n, seed or size out of range.
    """
    check_images(n, size, least=32, even=False)
    scans = partial(_scans, seed, size)
    return assembled(scans, n, each=IMAGES, card=KIDNEY_US, sites=SITES, mm=FIELD / size)


def kidney_echoes(seed: int = 0, size: int = 256) -> Tensor:
    """Amplitude (size, size) of the echoes in the first image of `kidney_us`, not in decibels.

    Liver is about 1, and all outside the sector is 0.
    """
    place = (KIDNEY_US.name, KIDNEY_US.version, seed, 0)
    rng = stream(*place, 0)
    probe, beams = _scan(_image(rng, _patient(stream(*place))[0], 0), rng)
    return scan_convert(beams, probe, *_pixels(size, probe))


def _scans(seed: int, size: int, patient: int) -> Numbers:
    """Pictures, masks and facts of one patient, as `assembled` takes them."""
    place = (KIDNEY_US.name, KIDNEY_US.version, seed, patient)
    p, facts = _patient(stream(*place))
    shown = []
    for image in range(IMAGES):
        rng = stream(*place, image)
        shown.append(_picture(_image(rng, p, image), rng, size))
    pictures, masks = zip(*shown, strict=True)
    return facts | {
        "images": torch.stack(pictures)[:, None],
        "masks": torch.stack(masks),
        "view": torch.arange(IMAGES) % 2,
        "central": torch.arange(IMAGES) < 2,
    }


def _patient(rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """One kidney with what stays the same around it (mm, radians, dB), and what is told of it."""
    age, female, right = rng.uniform(18, 88), bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    old = max(0.0, age - 55)
    mean = 114 - 3 * right - 5 * female - 0.25 * old
    edges = ndtr((np.array([90.0, 130.0]) - mean) / 8)  # normal, cut
    length = float(mean + 8 * ndtri(rng.uniform(*edges)))
    grades = _FACTS["grades"]
    grade = int(rng.choice(5, p=grades["share"]))
    p = drawn(rng, _FACTS["patient"]) | {"right": right, "offset": drawn(rng, _FACTS["offsets"])}
    wide, thick = length * rng.normal([0.50, 0.41], 0.022) * grades["thick"][grade]
    p["half"] = np.array([wide, thick, length]) / 2
    p["furrow"] = rng.uniform(0.02, 0.05) * (rng.random() < 0.15)
    p["sinus"] += 0.003 * old + 0.04 * grade
    p["cortex"] *= (1 - 0.006 * old) * grades["cortex"][grade]
    usual = np.array([grades[k][grade] for k in ("calyx", "neck", "pelvis")])
    p["spaces"] = (usual * rng.uniform(0.85, 1.15, 3)).tolist()
    site = drawn_site(rng, SITES)
    p |= SITES[list(SITES)[site]]
    # Pyramids stand in three rows, staggered.
    up, row = np.divmod(np.arange(18), 3)
    z = (up - 2.5) / 3.1 + rng.uniform(-0.06, 0.06, 18)
    turn = 1.19 * (row - 1) + 0.38 * (-1.0) ** up + rng.uniform(-0.16, 0.16, 18)
    p["pyramids"] = _direction(turn, z)
    # More cysts than in the population; as there, the more the older. None touches another.
    many = 0.25 + 0.006 * age
    cysts: list[tuple[np.ndarray, float]] = []
    for _ in range(rng.choice(4, p=[1 - many, 0.6 * many, 0.25 * many, 0.15 * many])):
        where = _direction(p["facing"] + rng.normal(0, 0.9), rng.uniform(-0.75, 0.75))
        # Most lie in the cortex or stand out of it, a few beside the pelvis.
        at = where * rng.choice([rng.uniform(0.6, 1.1), 0.3], p=[0.88, 0.12]) * p["half"]
        room = [float(np.linalg.norm(at - other)) - mm - 2 for other, mm in cysts]
        if (radius := min([5 + 19 * rng.random() ** 1.5, *room])) > 4:
            cysts.append((at, radius))
    p["cyst_at"] = np.reshape([at for at, _ in cysts], (-1, 3))
    p["cyst_mm"] = [radius for _, radius in cysts]
    sides = 0.42 * p["half"] * rng.permutation(p["pyramids"])[: rng.choice(3, p=[0.7, 0.2, 0.1])]
    dry = [at for at in sides if all(np.linalg.norm(at - c) > mm + 6 for c, mm in cysts)]
    p["stone_at"], p["stone_mm"] = np.reshape(dry, (-1, 3)), rng.uniform(2, 5.5, len(dry)).tolist()
    facts = {"age": age, "female": female, "right": right, "length": length, "grade": grade}
    facts |= {"cysts": len(cysts), "stones": len(dry), "site": site}
    facts["kidney_ml"] = flank.kidney_ml(p)
    facts["cyst_ml"] = sum(4 / 3 * math.pi * mm**3 / 1000 for mm in p["cyst_mm"])
    return p, facts


def _direction(turn: np.ndarray | float, z: np.ndarray | float) -> np.ndarray:
    """Unit vectors (…, 3) of height z, turned from x towards y."""
    across = np.sqrt(1 - np.square(z))
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], -1)


def _image(rng: np.random.Generator, p: Numbers, image: int) -> Numbers:
    """The numbers of one image beside the patient's: where its plane lies, what else is there."""
    s = p | drawn(rng, _FACTS["image"])
    view, side = image % 2, 1 if p["right"] else -1
    beam = -_direction(p["facing"] + s["facing"], 0.0)
    across = np.array([0.0, 0.0, -1.0]) if view == 0 else side * np.cross([0.0, 0.0, -1.0], beam)
    normal = np.cross(across, beam)
    # A hand that is not quite steady turns the plane about the beam, then within itself.
    s["tilt"] += 0.17 * (view == 0)
    across, normal = _turned(across, normal, s["skew"])
    across, beam = _turned(across, beam, s["tilt"])
    lesions, most = [*p["cyst_at"], *p["stone_at"]], 0.7 * p["half"][1 if view == 0 else 2]
    aim = lesions[0] @ normal if lesions and image > 1 else 0.0
    middle = np.clip(aim + s["off"], -most, most) * normal
    s["plane"] = np.stack([across, beam, middle], 1).tolist()
    s["at_y"] += p["fat"] + p["wall"] + p["half"][:2].mean() + 8 * (view == 0)
    s["depth"] += s["at_y"]
    hidden, gas_side = _FACTS["hidden"], rng.choice([-1, 1, 1])
    s["gas_x"] = s["gas_x"] * gas_side if rng.random() < hidden["gas"] else 500.0
    ribs = rng.uniform(*_FACTS["ribs"])
    s["ribs"] = np.where(rng.random(2) < hidden["rib"], ribs, 500.0).tolist()
    s["organ"] = rng.uniform(*_FACTS["organ"]["right" if p["right"] else "left"])
    s["branches"] = rng.uniform(*_FACTS["branches"])
    return s | {"view": view}


def _turned(u: np.ndarray, v: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * u + sin * v, cos * v - sin * u


def _picture(s: Numbers, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    """uint8 image and mask (size, size): 1 parenchyma, 2 sinus with what it holds, 3 cyst."""
    probe, beams = _scan(s, rng)
    white_level = 10 ** (s["range"] * (1 - s["liver"]) / 20)
    grey = log_compress(beams, dynamic_range=s["range"], reference=white_level) ** s["gamma"]
    fine = 2 if size <= 128 else 1
    picture = scan_convert(grey, probe, *_pixels(size * fine, probe))
    picture = functional.avg_pool2d(picture[None], fine)[0]
    x, y = _pixels(size, probe)
    _, _, seen = probe.sample(x, y)
    parts = flank.kidney(s, _in_kidney(s, x, y))
    inner = parts["sinus"] | parts["urine"] | parts["stone"]
    mask = torch.where(inner, 2, 1) * (parts["depth"] > 0)
    mask = torch.where(parts["cyst"] > 0, 3, mask) * seen
    return (255 * picture * seen).round().to(torch.uint8), mask.to(torch.uint8)


def _pixels(size: int, probe: Probe) -> tuple[Tensor, Tensor]:
    """x, y (size, size) of pixel centres; the ends of the probe's face are 2 mm below the top."""
    axis = (torch.arange(size) + 0.5) * (FIELD / size)
    top = probe.radius * (math.cos(probe.half_angle) - 1) - 2
    y, x = torch.meshgrid(axis + top, axis - FIELD / 2, indexing="ij")
    return x, y


def _in_kidney(s: Numbers, x: Tensor, y: Tensor) -> flank.Point:
    """Points of the image plane in the coordinates of the kidney."""
    dx, dy = x - s["at_x"], y - s["at_y"]
    u, v, w = (dx * across + dy * beam + middle for across, beam, middle in s["plane"])
    return u, v, w


def _power(decibels: Tensor) -> Tensor:
    return torch.exp(decibels * (math.log(10) / 10))


def _scan(s: Numbers, rng: np.random.Generator) -> tuple[Probe, Tensor]:
    """The probe, and (samples, lines) amplitude after time-gain compensation; liver is about 1."""
    probe = Probe(s["radius"], math.radians(s["half_angle"]), s["depth"], SAMPLES, LINES)
    white = torch.from_numpy(rng.standard_normal((4, SAMPLES, LINES), dtype=np.float32))
    d, angle = probe.grid()
    x, y = probe.point(d, angle)
    s = s | {"sway": torch.sin(x / 15 + s["sway"])}
    kidney = flank.kidney(s, _in_kidney(s, x, y))
    tissue = _tissues(s, kidney, x, y, d)
    rows = [[level + s["offset"].get(k, 0), *more] for k, (level, *more) in TISSUES.items()]
    level, attenuation, fibres, blotches = (column[tissue] for column in torch.tensor(rows).T)
    waves = zip(s["blotches"][:6], s["blotches"][6:], s["phases"][3:], strict=True)
    blotch = sum(torch.sin(x * u + y * v + phase) for u, v, phase in waves)
    along = d + 0.07 * x
    fibre = torch.sin((along + torch.sin(x / 11)) * 2.2) + torch.sin(along / 2.1)
    level = level + fibres * fibre + blotches * blotch
    step = probe.depth / SAMPLES
    # A beam that grazes a round border is bent away: a thin shadow from the edge of a cyst.
    for depth in (kidney["cyst"], kidney["depth"]):
        graze = (1 - torch.gradient(depth, dim=0)[0].div(step).square()).clamp_min(0)
        attenuation = attenuation + 1.0 * graze**4 * (depth.abs() < 1.2)
    lost = two_way_loss(attenuation, frequency=s["frequency"], step_mm=step)
    # Between gas and probe the sound goes to and fro: echoes from where nothing can be seen.
    gas = attenuation * (tissue == list(TISSUES).index("gas"))
    in_gas = two_way_loss(gas, frequency=s["frequency"], step_mm=step)
    behind = (in_gas > 3).cumsum(0) * step
    dirty = _power(-8 - 0.25 * behind + in_gas) * (in_gas > 3)
    field = white[:2] * ((_power(level) + dirty) * _power(-lost) / 2).sqrt()
    # Smooth borders mirror the sound, most where the beam meets them at a right angle.
    borders = [
        (kidney["depth"], 1.6 * (kidney["cyst"] < -1)[1:-1]),
        (kidney["cyst"], 1.6),
        (d - s["fat"] - s["sway"], 1.0),
        (d - s["fat"] - s["wall"] - 2 * s["sway"], s["fascia"]),
        (flank.dome(s, x, y), 6.0 * (s["view"] == 0)),
    ]
    for depth, strength in borders:
        soft = torch.sigmoid(depth / 0.5)
        mirrored = strength * ((soft[2:] - soft[:-2]) / step) ** 2 * _power(-lost[1:-1] / 2)
        field[:, 1:-1] += mirrored * (0.6 * white[2:, 1:-1] + 0.7)
    # The layers in front throw part of the echoes back once more: ghosts and haze near the probe.
    shift = round(s["ghost_mm"] / step)
    field[:, shift:] += _power((s["ghost"] - 0.3 * d[shift:]) / 2) * field[:, :-shift]
    field += white[:2].flip(-1) * _power((s["clutter"] - 0.9 * d) / 2)
    # Pulse and beam smear them; the beam is narrowest at the focus.
    far, wave_mm = d[:, 0], 1.54 / s["frequency"]
    spot = 0.43 * wave_mm * far.clamp_min(0.5 * s["focus"]) / s["aperture"]
    spot = torch.hypot(spot, 0.018 * (far - s["focus"]))
    lateral = spot / ((s["radius"] + far) * (2 * probe.half_angle / LINES))
    field = received(field, axial=0.7 * wave_mm / step, lateral=lateral.clamp(0.3, 2.7))
    field += white[2:].flip(1) * 10 ** (s["noise"] / 20)
    gain = 2 * s["tgc"] * s["tgc_off"] * s["frequency"] * d / 10 + s["gain"]
    amplitude = field.square().sum(0).sqrt() * _power(gain / 2)
    mean = functional.avg_pool2d(amplitude[None], (5, 3), 1, (2, 1), count_include_pad=False)[0]
    return probe, torch.lerp(amplitude, mean, s["smooth"])


def _tissues(s: Numbers, kidney: dict[str, Tensor], x: Tensor, y: Tensor, d: Tensor) -> Tensor:
    """Position in TISSUES of what each sample is: what comes later lies over the earlier."""
    depth, cyst = kidney["depth"], kidney["cyst"]
    layers = flank.surroundings(s, x, y, d)
    layers["perirenal"] = (depth > -s["perirenal"]) & (d > s["fat"] + s["wall"])
    layers |= {"capsule": depth > -0.9, "cortex": depth > 0}
    layers |= {name: kidney[name] for name in ("medulla", "sinus", "streak")}
    layers["vein"] = kidney["vessel"] & (kidney["sinus"] | (depth < 0))
    layers |= {"urine": kidney["urine"], "wall": cyst > -0.7, "cyst": cyst > 0}
    layers |= {"stone": kidney["stone"], **flank.in_front(s, x, d)}
    tissue = torch.zeros_like(x, dtype=torch.long)
    for name, where in layers.items():
        tissue[where] = list(TISSUES).index(name)
    return tissue
