"""Computed tomography: Hounsfield units, the full scan, and a fast scan with the same noise.

`scan` does what a scanner does: project, count photons, filter, back-project. `_fast_scan` puts the
known result on a slice at once: the kernel's blur, and noise of the kernel's power spectrum that is
stronger where less came through. It makes hundreds of slices a second, for cohorts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError
from medlab.simulate._rays import Ellipsoid
from medlab.simulate._streams import side_by_side, stream
from medlab.simulate._thorax import (
    AROUND,
    DENSITY,
    DRAWS_PER_IMAGE,
    DRAWS_PER_PATIENT,
    Thorax,
    Tube,
    aerated,
    build,
    vertebra_density,
)
from medlab.simulate.xray import MU_WATER, expose

KERNELS = {"sharp": "shepp-logan", "standard": "cosine", "soft": "hann", "ramp": "ramp"}
"""Reconstruction kernels and the apodisation of the ramp filter that scikit-image calls them by."""

VIEWS = 180  # directions of `scan`, one a degree
SECTORS = 8  # directions for which `_fast_scan` keeps the noise apart


def hu_to_mu(hu: Tensor) -> Tensor:
    """Hounsfield units -> attenuation per mm: μ = μ_water (1 + HU/1000), at least 0."""
    return (MU_WATER * (1 + torch.as_tensor(hu) / 1000)).clamp_min(0)


def scan(
    hu: Tensor, *, pixel_mm: float, photons: float, kernel: str = "standard", seed: int = 0
) -> Tensor:
    """A CT slice as a scanner makes it: Radon transform, Poisson counts, filtered back-projection.

    Args:
        hu: (H, H) HU; outside the inscribed circle everything is taken for air.
        pixel_mm: pixel and detector size, mm.
        photons: mean count of a detector element without a patient, in each of 180 views.
        kernel: "sharp", "standard", "soft" or "ramp".
        seed: of the noise.

    Returns:
        (H, H) HU; −1000 outside the circle.

    Raises:
        DataError: a slice that is not square, an unknown kernel, or a size or dose that is not
            positive.

    Source: Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), ch. 3.
    """
    from skimage.transform import iradon, radon

    hu = torch.as_tensor(hu)
    if hu.ndim != 2 or hu.shape[0] != hu.shape[1]:
        raise DataError(f"a slice must be square, (H, H); got {tuple(hu.shape)}")
    if not pixel_mm > 0:
        raise DataError(f"pixel_mm is a length in millimetres and must be positive; got {pixel_mm}")
    filter_name = _window_of(kernel)
    axis = torch.arange(len(hu)) - len(hu) // 2
    circle = axis[:, None] ** 2 + axis**2 <= (len(hu) // 2) ** 2
    angles = np.arange(VIEWS, dtype=np.float32)
    mu = torch.where(circle, hu_to_mu(hu), 0.0).double().numpy()
    lines = torch.from_numpy(radon(mu, theta=angles)).float() * pixel_mm
    counts = expose(lines, photons, seed=seed)
    measured = -torch.log(counts.clamp_min(0.5) / photons)
    image = iradon(measured.double().numpy(), theta=angles, filter_name=filter_name)
    image = torch.from_numpy(image).float() / pixel_mm
    return torch.where(circle, 1000 * (image - MU_WATER) / MU_WATER, -1000.0)


def _window_of(kernel: str) -> str:
    if kernel not in KERNELS:
        raise DataError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}")
    return KERNELS[kernel]


def _mtf(frequency: Tensor, kernel: str, *, pixel_mm: float) -> Tensor:
    """How much of each spatial frequency (per mm) a scan keeps: apodisation × interpolation.

    A(f) is the kernel's window on the ramp; linear interpolation in the back-projection multiplies
    by sinc²(f · pixel). Frequencies above the detector's Nyquist frequency are lost.
    """
    f = torch.as_tensor(frequency, dtype=torch.float32).abs() * pixel_mm
    window = {
        "ramp": torch.ones_like(f),
        "shepp-logan": torch.sinc(f),
        "cosine": torch.cos(math.pi * f),
        "hann": 0.5 + 0.5 * torch.cos(2 * math.pi * f),
    }[_window_of(kernel)]
    return window * torch.sinc(f) ** 2 * (f <= 0.5)


def _noise_power(frequency: Tensor, kernel: str, *, pixel_mm: float, photons: float) -> Tensor:
    """Noise power spectrum, in HU² mm² at `frequency` per mm, of a CT image of air.

    A ray has variance 1/N₀, N₀ the photons of a detector element. Filtering with the ramp and
    back-projecting V views gives S(f) = (π/V) · pixel · |f| · MTF(f)² / N₀, here in units of
    μ_water/1000.

    Source: Riederer, Pelc & Chesler, Phys Med Biol 23 (1978) 446.
    """
    f = torch.as_tensor(frequency, dtype=torch.float32).abs()
    power = math.pi / VIEWS * pixel_mm / photons * f * _mtf(f, kernel, pixel_mm=pixel_mm) ** 2
    return power * (1000 / MU_WATER) ** 2


def _fast_scan(hu: Tensor, *, pixel_mm: float, photons: float, kernel: str, seed: int) -> Tensor:
    """What `scan` would give, without projecting: blur by `_mtf`, noise by `_noise_power`.

    The noise of each of eight ranges of direction is scaled by the spread of the rays that pass
    through each pixel in that direction: it is stronger in the middle of a body than at its edge,
    and streaks along the shoulders. Left out are view aliasing, beam hardening and scatter.

    Args:
        hu: (D, H, H) HU; the noise of slice i is drawn from (seed, i) alone.
        pixel_mm: as for `scan`.
        photons: as for `scan`.
        kernel: as for `scan`.
        seed: of the noise.

    Returns:
        HU, float32, same shape.

    Source: the power spectrum as `_noise_power`; local scaling as in Divel & Pelc, IEEE Trans Med
        Imaging 39 (2020) 1906.
    """
    size = hu.shape[-1]
    fy = torch.fft.fftfreq(size, pixel_mm)[:, None]
    fx = torch.fft.rfftfreq(size, pixel_mm)[None]
    f = (fy**2 + fx**2).sqrt()
    keep = _mtf(f, kernel, pixel_mm=pixel_mm)
    amplitude = _noise_power(f, kernel, pixel_mm=pixel_mm, photons=photons).sqrt()
    amplitude = amplitude / pixel_mm  # white noise of variance 1 has a power of pixel²
    sector = torch.floor((torch.rad2deg(torch.atan2(fy, fx)) % 180) * SECTORS / 180 + 0.5)
    shapes = [amplitude * (sector % SECTORS == k) for k in range(SECTORS)]

    def some(start: int) -> Tensor:
        part = hu[start : start + 16]
        streams = [stream("ct", "1", seed, start + i) for i in range(len(part))]
        white = np.stack([s.standard_normal((size, size), np.float32) for s in streams])
        spectrum = torch.fft.rfft2(torch.from_numpy(white))
        image = torch.fft.irfft2(torch.fft.rfft2(part + 1000) * keep, s=(size, size)) - 1000
        for shape, spread in zip(shapes, _ray_noise(part, pixel_mm), strict=True):
            noise = torch.fft.irfft2(spectrum * shape, s=(size, size))
            wide = functional.interpolate(spread[:, None], (size, size), mode="bilinear")
            image += noise * wide[:, 0]
        return image

    return torch.cat(side_by_side(some, range(0, len(hu), 16)))


def _ray_noise(hu: Tensor, pixel_mm: float, coarse: int = 32) -> list[Tensor]:
    """For each sector: (B, 32, 32) standard deviation e^(p/2) of the rays through each place.

    Frequencies of direction θ come from views whose detector lies along θ, whose rays run at right
    angles to it.
    """
    mu = functional.adaptive_avg_pool2d(hu_to_mu(hu)[:, None], coarse)
    step = pixel_mm * hu.shape[-1] / coarse
    maps = []
    for k in range(SECTORS):
        angle = math.pi * k / SECTORS
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0]])[None].expand(len(hu), 2, 3)
        grid = functional.affine_grid(turn, list(mu.shape), align_corners=False)
        lines = functional.grid_sample(mu, grid, align_corners=False).sum(2, keepdim=True) * step
        back = torch.tensor([[c, s, 0.0], [-s, c, 0.0]])[None].expand(len(hu), 2, 3)
        spread = torch.exp(lines / 2).expand(-1, -1, coarse, -1)
        grid = functional.affine_grid(back, list(mu.shape), align_corners=False)
        spread = functional.grid_sample(spread, grid, align_corners=False, padding_mode="border")
        maps.append(spread[:, 0])
    return maps


def _hounsfield(thorax: Thorax, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """HU of one chest at the points of a grid: (D, H, W) for z (D,), y (H,), x (W,) in mm.

    The same tissues as `_thorax.water_path` integrates, in the same order. The axes run to the
    patient's left, back and head, each evenly spaced and ascending.
    """
    points = torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], -1)[None]
    inside = {k: e.inside(points)[0] for k, e in thorax.solids.items()}
    muscle, bone, lung_density = DENSITY["muscle"], float(thorax.bone), float(thorax.lung)
    soft = inside["trunk"] | inside["shoulders"] | inside["neck"]
    body = inside["skin"] | inside["shoulders"] | inside["neck"]
    body = body | inside["breast_r"] | inside["breast_l"]
    density = DENSITY["fat"] * body + (muscle - DENSITY["fat"]) * soft
    lung = torch.zeros_like(soft)
    for side, around in AROUND.items():
        free = inside[f"lung_{side}"]
        for name in around:
            free = free & ~inside[name]
        lung |= free
    density += (lung_density - muscle) * lung
    density -= muscle * inside["trachea"]
    density -= muscle * (inside["stomach"] & inside["dome_l"])
    height = z[:, None, None] - thorax.solids["spine"].centre[0, 2]
    density += inside["spine"] * bone * vertebra_density(height, thorax.vertebra)
    density += inside["sternum"] * bone * (DENSITY["sternum"] - muscle)
    for side in "rl":
        blade = inside[f"scapula_{side}"] & inside["skin"]
        density += blade * bone * (DENSITY["scapula"] - muscle)
    if "nodule" in inside:
        density += inside["nodule"] * lung * (DENSITY["nodule"] - lung_density)
    for tube in thorax.tubes.values():
        density += bone * _tube_density(tube, points[0])
    voxel = [float(axis[1] - axis[0]) for axis in (z, y, x)]
    added = torch.zeros_like(density)
    for cloud in thorax.clouds.values():
        first = torch.stack([x[0], y[0], z[0]])
        index = ((cloud.points[0] - first) / torch.tensor(voxel[::-1])).round().long()
        grid = np.zeros(density.shape, dtype=np.float32)
        fits = ((index >= 0) & (index < torch.tensor(density.shape[::-1]))).all(-1)
        i, j, k = index[fits].T.numpy()
        np.add.at(grid, (k, j, i), cloud.mass[0][fits].numpy() / math.prod(voxel))
        sigma = [float(cloud.sigma) / v for v in voxel]
        added += torch.from_numpy(ndimage.gaussian_filter(grid, sigma))
    # Neighbouring balls may overlap; no lung tissue is denser than fluid.
    density = torch.where(lung, torch.minimum(density + added, density.clamp_min(muscle)), density)
    return 1000 * (density - 1)


def _tube_density(tube: Tube, points: Tensor) -> Tensor:
    curves = tube.points[0].view(tube.curves, -1, 3)
    parts = torch.linspace(0, 1, 9)[:-1, None]
    fine = curves[:, :-1, None] * (1 - parts) + curves[:, 1:, None] * parts
    tree = cKDTree(fine.reshape(-1, 3).numpy())
    radius, wall = float(tube.radius), float(tube.wall)
    distance = tree.query(points.reshape(-1, 3).numpy(), distance_upper_bound=radius)[0]
    distance = torch.from_numpy(distance).float().view(points.shape[:-1])
    core = distance <= radius - wall
    shell = (distance <= radius) & ~core
    return shell * float(tube.shell) + core * float(tube.core)


@dataclass(frozen=True)
class ChestCT:
    """A simulated chest CT.

    Attributes:
        hu: (D, H, W) float32 HU: slices from feet to head, rows from front to back, columns from
            the patient's right to left.
        spacing: slice, row, column, mm.
        origin: centre of voxel (0, 0, 0) in patient coordinates (left, back, head), mm.
        nodule: centre (slice, row, column) in voxels, or None.
        nodule_mm: its diameter, mm, 0 if there is none.
    """

    hu: Tensor
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    nodule: tuple[float, float, float] | None
    nodule_mm: float


def chest_ct_volume(
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (56, 128, 128),
    spacing: tuple[float, float, float] = (5.0, 3.0, 3.0),
    nodule_mm: float = 0.0,
    photons: float | None = 2e5,
    kernel: str = "standard",
) -> ChestCT:
    """A CT volume of one simulated chest, the same anatomy that `chest_xray` projects.

    Args:
        seed: another seed, another patient.
        shape: slices, rows, columns; rows = columns when noise is wanted.
        spacing: mm.
        nodule_mm: diameter of a round solid nodule at a random place in aerated lung; 0 for none.
        photons: dose as in `scan`; None gives the noise-free anatomy.
        kernel: "sharp", "standard", "soft" or "ramp".

    Raises:
        DataError: shape, spacing, nodule size or dose out of range.
    """
    if len(shape) != 3 or min(shape) < 8 or len(spacing) != 3 or not min(spacing) > 0:
        raise DataError(
            "shape is (slices, rows, columns), each ≥ 8, and spacing their distances in mm, > 0; "
            f"got {shape} and {spacing}"
        )
    if not 0 <= nodule_mm <= 40:
        raise DataError(f"nodule_mm is a diameter from 0 (none) to 40 mm; got {nodule_mm}")
    _window_of(kernel)
    if photons is not None and not photons > 0:
        raise DataError(f"photons per detector element and view must be positive; got {photons}")
    if photons is not None and (shape[1] != shape[2] or spacing[1] != spacing[2]):
        raise DataError("with noise, slices and pixels must be square; pass photons=None otherwise")
    rng = stream("chest_ct", "1", seed)
    thorax, _ = build(rng.random((1, DRAWS_PER_PATIENT)), rng.random((1, DRAWS_PER_IMAGE)))
    z, y, x = (
        (torch.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)
    )
    place = None
    if nodule_mm:
        place = _place_nodule(thorax, rng, nodule_mm / 2)
        semi = torch.full((1, 3), nodule_mm / 2)
        thorax.solids["nodule"] = Ellipsoid(place[None], semi, torch.eye(3)[None])
    hu = _hounsfield(thorax, x, y, z)
    if photons is not None:
        hu = _fast_scan(hu, pixel_mm=spacing[1], photons=photons, kernel=kernel, seed=seed)
    origin = (float(x[0]), float(y[0]), float(z[0]))
    centre = None
    if place is not None:
        down, row, column = ((float(place[2 - i]) - origin[2 - i]) / spacing[i] for i in range(3))
        centre = (down, row, column)
    return ChestCT(hu, (spacing[0], spacing[1], spacing[2]), origin, centre, float(nodule_mm))


def _place_nodule(thorax: Thorax, rng: np.random.Generator, radius: float) -> Tensor:
    """A point whose whole sphere lies in aerated lung."""
    directions = torch.from_numpy(rng.standard_normal((64, 3))).float()
    sphere = radius * directions / directions.norm(dim=1, keepdim=True)
    for _ in range(10_000):
        side = "rl"[int(rng.integers(2))]
        lung = thorax.solids[f"lung_{side}"]
        centre = lung.centre[0] + lung.semi[0] * torch.from_numpy(rng.uniform(-1, 1, 3)).float()
        if aerated(thorax, (centre + sphere)[None], side).all():
            return centre
    raise DataError(f"no room for a nodule of {2 * radius:.0f} mm in this patient's lungs")
