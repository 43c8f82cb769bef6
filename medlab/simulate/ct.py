"""Computed tomography: Hounsfield units, the full scan, and a fast scan with the same noise.

`scan` does what a scanner does: project, count photons, filter, back-project. `fast_scan` puts the
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
from medlab.simulate._streams import side_by_side, stream
from medlab.simulate.rays import Ellipsoid
from medlab.simulate.thorax import (
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

__all__ = [
    "KERNELS",
    "ChestCT",
    "chest_ct_volume",
    "fast_scan",
    "filtered_backprojection",
    "hounsfield",
    "hu_to_mu",
    "mtf",
    "mu_to_hu",
    "noise_power",
    "radon",
    "scan",
]

KERNELS = {"sharp": "shepp-logan", "standard": "cosine", "soft": "hann", "ramp": "ramp"}
"""Reconstruction kernels and the apodisation of the ramp filter that scikit-image calls them by."""

SECTORS = 8  # directions for which `fast_scan` keeps the noise apart


def hu_to_mu(hu: Tensor, mu_water: float = MU_WATER) -> Tensor:
    """Hounsfield units -> attenuation per mm: μ = μ_water (1 + HU/1000), at least 0."""
    return (mu_water * (1 + torch.as_tensor(hu) / 1000)).clamp_min(0)


def mu_to_hu(mu: Tensor, mu_water: float = MU_WATER) -> Tensor:
    """Attenuation per mm -> Hounsfield units: HU = 1000 (μ − μ_water) / μ_water."""
    return 1000 * (torch.as_tensor(mu) - mu_water) / mu_water


def radon(image: Tensor, angles: Tensor) -> Tensor:
    """Line integrals of a square image (H, H) at `angles` (V,) in degrees: (H, V), in pixels.

    Nothing outside the inscribed circle may be different from 0. scikit-image does the work.
    """
    from skimage.transform import radon as skimage_radon

    image = _square(image)
    sinogram = skimage_radon(image.double().numpy(), theta=np.asarray(angles), circle=True)
    return torch.from_numpy(sinogram).float()


def filtered_backprojection(sinogram: Tensor, angles: Tensor, *, kernel: str = "sharp") -> Tensor:
    """Image (H, H) from line integrals (H, V) at `angles` in degrees; scikit-image does the work.

    Args:
        sinogram: detector × view, in units of value × pixel.
        angles: (V,) degrees, over 180.
        kernel: "sharp", "standard", "soft" or "ramp".
    """
    from skimage.transform import iradon

    sinogram = torch.as_tensor(sinogram)
    if sinogram.ndim != 2 or sinogram.shape[1] != len(angles):
        raise DataError(
            f"a sinogram is (detector, view) with one view per angle; got {tuple(sinogram.shape)} "
            f"for {len(angles)} angles"
        )
    image = iradon(
        sinogram.double().numpy(),
        theta=np.asarray(angles),
        filter_name=_kernel(kernel),
        circle=True,
    )
    return torch.from_numpy(image).float()


def scan(
    hu: Tensor,
    *,
    pixel_mm: float,
    photons: float,
    views: int = 180,
    kernel: str = "standard",
    seed: int = 0,
) -> Tensor:
    """A CT slice as a scanner makes it: Radon transform, Poisson counts, filtered back-projection.

    Args:
        hu: (H, H) HU; outside the inscribed circle everything is taken for air.
        pixel_mm: pixel and detector size, mm.
        photons: mean count of a detector element per view without a patient.
        views: directions over 180 degrees.
        kernel: "sharp", "standard", "soft" or "ramp".
        seed: of the noise.

    Returns:
        (H, H) HU; −1000 outside the circle.

    Source: Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), ch. 3.
    """
    hu = _square(hu)
    _scan_options(pixel_mm, photons, views)
    circle = _circle(len(hu))
    angles = torch.arange(views) * 180 / views
    lines = radon(torch.where(circle, hu_to_mu(hu), 0.0), angles) * pixel_mm
    counts = expose(lines, photons, seed=seed)
    measured = -torch.log(counts.clamp_min(0.5) / photons)
    image = filtered_backprojection(measured, angles, kernel=kernel) / pixel_mm
    return torch.where(circle, mu_to_hu(image), -1000.0)


def mtf(frequency: Tensor, kernel: str, *, pixel_mm: float) -> Tensor:
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
    }[_kernel(kernel)]
    return window * torch.sinc(f) ** 2 * (f <= 0.5)


def noise_power(
    frequency: Tensor,
    kernel: str,
    *,
    pixel_mm: float,
    photons: float,
    views: int,
    path: float = 0.0,
) -> Tensor:
    """Noise power spectrum of a CT image in HU² mm² at radial frequency f per mm.

    A ray of line integral p has variance e^p / N₀. Filtering with the ramp and back-projecting V
    such views gives S(f) = (π/V) · Δ · (e^p / N₀) · |f| · MTF(f)², here in units of μ_water/1000.

    Args:
        frequency: per mm.
        kernel: "sharp", "standard", "soft" or "ramp".
        pixel_mm: detector element Δ.
        photons: N₀.
        views: V over 180 degrees.
        path: p, the line integral of all rays.

    Source: Riederer, Pelc & Chesler, Phys Med Biol 23 (1978) 446.
    """
    f = torch.as_tensor(frequency, dtype=torch.float32).abs()
    ray = math.exp(path) / photons
    power = math.pi / views * pixel_mm * ray * f * mtf(f, kernel, pixel_mm=pixel_mm) ** 2
    return power * (1000 / MU_WATER) ** 2


def fast_scan(
    hu: Tensor,
    *,
    pixel_mm: float,
    photons: float,
    views: int = 180,
    kernel: str = "standard",
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """What `scan` would give, without projecting: blur by `mtf`, noise by `noise_power`.

    The noise of each of eight ranges of direction is scaled by the spread of the rays that pass
    through each pixel in that direction: it is stronger in the middle of a body than at its edge,
    and streaks along the shoulders. Left out are view aliasing, beam hardening and scatter.

    Args:
        hu: (B, H, H) or (H, H) HU.
        pixel_mm, photons, views, kernel: as for `scan`.
        seed: of the noise; slice i draws from (seed, first + i) alone.
        first: number of the first slice.

    Returns:
        HU, float32, same shape.

    Source: the power spectrum as `noise_power`; local scaling as in Divel & Pelc, IEEE Trans Med
    Imaging 39 (2020) 1906.
    """
    hu = torch.as_tensor(hu, dtype=torch.float32)
    single, slices = hu.ndim == 2, hu if hu.ndim == 3 else hu[None]
    _square(slices[0])
    _scan_options(pixel_mm, photons, views)
    size = slices.shape[-1]
    fy = torch.fft.fftfreq(size, pixel_mm)[:, None]
    fx = torch.fft.rfftfreq(size, pixel_mm)[None]
    f = (fy**2 + fx**2).sqrt()
    keep = mtf(f, kernel, pixel_mm=pixel_mm)
    amplitude = noise_power(f, kernel, pixel_mm=pixel_mm, photons=photons, views=views).sqrt()
    amplitude = amplitude / pixel_mm  # white noise of variance 1 has a power of pixel²
    sector = torch.floor((torch.rad2deg(torch.atan2(fy, fx)) % 180) * SECTORS / 180 + 0.5)
    shapes = [amplitude * (sector % SECTORS == k) for k in range(SECTORS)]

    def some(start: int) -> Tensor:
        part = slices[start : start + 16]
        numbers = range(first + start, first + start + len(part))
        white = np.stack(
            [stream("ct", "1", seed, i).standard_normal((size, size), np.float32) for i in numbers]
        )
        spectrum = torch.fft.rfft2(torch.from_numpy(white))
        image = torch.fft.irfft2(torch.fft.rfft2(part + 1000) * keep, s=(size, size)) - 1000
        spread = _ray_noise(part, pixel_mm)
        for k in range(SECTORS):
            noise = torch.fft.irfft2(spectrum * shapes[k], s=(size, size))
            image += (
                noise
                * functional.interpolate(
                    spread[k][:, None], (size, size), mode="bilinear", align_corners=False
                )[:, 0]
            )
        return image

    image = torch.cat(side_by_side(some, range(0, len(slices), 16)))
    return image[0] if single else image


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
        grid = functional.affine_grid(turn, mu.shape, align_corners=False)
        lines = functional.grid_sample(mu, grid, align_corners=False).sum(2, keepdim=True) * step
        back = torch.tensor([[c, s, 0.0], [-s, c, 0.0]])[None].expand(len(hu), 2, 3)
        spread = torch.exp(lines / 2).expand(-1, -1, coarse, -1)
        grid = functional.affine_grid(back, mu.shape, align_corners=False)
        spread = functional.grid_sample(spread, grid, align_corners=False, padding_mode="border")
        maps.append(spread[:, 0])
    return maps


def hounsfield(thorax: Thorax, x: Tensor, y: Tensor, z: Tensor, *, which: int = 0) -> Tensor:
    """HU of one chest at the points of a grid: (D, H, W) for z (D,), y (H,), x (W,) in mm.

    The same tissues as `thorax.water_path` integrates, in the same order.

    Args:
        thorax: chests.
        x, y, z: to the patient's left, to the back, to the head; each evenly spaced, ascending.
        which: which chest of the batch.
    """
    solids = {
        k: Ellipsoid(*(getattr(e, a)[which : which + 1] for a in ("centre", "semi", "turn")))
        for k, e in thorax.solids.items()
    }
    one = Thorax(
        solids,
        {},
        {},
        *(getattr(thorax, a)[which : which + 1] for a in ("lung", "bone", "vertebra")),
    )
    points = torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], -1)[None]
    inside = {k: e.inside(points)[0] for k, e in solids.items()}
    muscle, bone, lung_density = DENSITY["muscle"], float(one.bone), float(one.lung)
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
    height = z[:, None, None] - solids["spine"].centre[0, 2]
    density += inside["spine"] * bone * vertebra_density(height, one.vertebra)
    density += inside["sternum"] * bone * (DENSITY["sternum"] - muscle)
    for side in "rl":
        blade = inside[f"scapula_{side}"] & inside["skin"]
        density += blade * bone * (DENSITY["scapula"] - muscle)
    if "nodule" in inside:
        density += inside["nodule"] * lung * (DENSITY["nodule"] - lung_density)
    for tube in thorax.tubes.values():
        density += bone * _tube_density(tube, which, points[0])
    voxel = [float(axis[1] - axis[0]) if len(axis) > 1 else 1.0 for axis in (z, y, x)]
    added = torch.zeros_like(density)
    for cloud in thorax.clouds.values():
        first = torch.stack([x[0], y[0], z[0]])
        index = ((cloud.points[which] - first) / torch.tensor(voxel[::-1])).round().long()
        grid = np.zeros(density.shape, dtype=np.float32)
        fits = ((index >= 0) & (index < torch.tensor(density.shape[::-1]))).all(-1)
        i, j, k = index[fits].T.numpy()
        np.add.at(grid, (k, j, i), cloud.mass[which][fits].numpy() / math.prod(voxel))
        sigma = [float(cloud.sigma[which]) / v for v in voxel]
        added += torch.from_numpy(ndimage.gaussian_filter(grid, sigma))
    # Neighbouring balls may overlap; no lung tissue is denser than fluid.
    density = torch.where(lung, torch.minimum(density + added, density.clamp_min(muscle)), density)
    return 1000 * (density - 1)


def _tube_density(tube: Tube, which: int, points: Tensor) -> Tensor:
    curves = tube.points[which].view(tube.curves, -1, 3)
    parts = torch.linspace(0, 1, 9)[:-1, None]
    fine = curves[:, :-1, None] * (1 - parts) + curves[:, 1:, None] * parts
    tree = cKDTree(fine.reshape(-1, 3).numpy())
    radius, wall = float(tube.radius[which]), float(tube.wall[which])
    distance = tree.query(points.reshape(-1, 3).numpy(), distance_upper_bound=radius)[0]
    distance = torch.from_numpy(distance).float().view(points.shape[:-1])
    core = distance <= radius - wall
    shell = (distance <= radius) & ~core
    return shell * float(tube.shell[which]) + core * float(tube.core[which])


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
    hu = hounsfield(thorax, x, y, z)
    if photons is not None:
        hu = fast_scan(hu, pixel_mm=spacing[1], photons=photons, kernel=kernel, seed=seed)
    origin = (float(x[0]), float(y[0]), float(z[0]))
    centre = None
    if place is not None:
        centre = tuple((float(place[2 - i]) - origin[2 - i]) / spacing[i] for i in range(3))
    return ChestCT(hu, tuple(spacing), origin, centre, float(nodule_mm))


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


def _kernel(name: str) -> str:
    if name not in KERNELS:
        raise DataError(f"kernel must be one of {', '.join(KERNELS)}; got {name!r}")
    return KERNELS[name]


def _square(image: Tensor) -> Tensor:
    image = torch.as_tensor(image)
    if image.ndim != 2 or image.shape[0] != image.shape[1]:
        raise DataError(f"a slice must be square, (H, H); got {tuple(image.shape)}")
    return image


def _scan_options(pixel_mm: float, photons: float, views: int) -> None:
    if not pixel_mm > 0:
        raise DataError(f"pixel_mm must be positive; got {pixel_mm}")
    if not photons > 0:
        raise DataError(f"photons per detector element and view must be positive; got {photons}")
    if views < 1:
        raise DataError(f"views must be at least 1; got {views}")


def _circle(size: int) -> Tensor:
    axis = torch.arange(size) - size // 2
    return axis[:, None] ** 2 + axis**2 <= (size // 2) ** 2
