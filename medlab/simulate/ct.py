"""Computed tomography: Hounsfield units, a scan of a slice, a chest to put into the scanner."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.simulate._rays import Ellipsoid
from medlab.simulate._streams import positive, side_by_side, stream
from medlab.simulate._thorax import DRAWS, Thorax, aerated, build, hounsfield
from medlab.simulate.xray import MU_WATER, expose

VIEWS = 180  # directions of `scan`, one a degree
KERNELS = {"sharp": "shepp-logan", "standard": "cosine", "soft": "hann", "ramp": "ramp"}
"""Reconstruction kernels and the apodisation of the ramp filter that scikit-image calls them by."""


def hu_to_mu(hu: Tensor) -> Tensor:
    """Hounsfield units -> attenuation per mm: μ = μ_water (1 + HU/1000), at least 0."""
    return (MU_WATER * (1 + hu / 1000)).clamp_min(0)


def scan(
    hu: Tensor, *, pixel_mm: float, photons: float, kernel: str = "standard", seed: int = 0
) -> Tensor:
    """HU of a slice as a scanner finds them: Radon transform, Poisson counts, back-projection.

    Args:
        hu: (H, H) HU; outside the inscribed circle everything is taken for air.
        pixel_mm: pixel and detector size, mm.
        photons: mean count of a detector element without a patient, in each of 180 views.
        kernel: "sharp", "standard", "soft" or "ramp".
        seed: of the noise.

    Source: Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), ch. 3.
    """
    from skimage.transform import iradon, radon

    if hu.ndim != 2 or hu.shape[0] != hu.shape[1]:
        raise DataError(f"a slice must be square, (H, H); got {tuple(hu.shape)}")
    positive(pixel_mm=pixel_mm)
    if kernel not in KERNELS:
        raise DataError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}")
    axis = torch.arange(len(hu)) - len(hu) // 2
    circle = axis[:, None] ** 2 + axis**2 <= (len(hu) // 2) ** 2
    angles = np.arange(VIEWS, dtype=np.float32)
    mu = torch.where(circle, hu_to_mu(hu), 0.0).double().numpy()
    lines = torch.from_numpy(radon(mu, theta=angles)).float() * pixel_mm
    counts = expose(lines, photons, seed=seed)
    measured = -torch.log(counts.clamp_min(0.5) / photons)
    image = iradon(measured.double().numpy(), theta=angles, filter_name=KERNELS[kernel])
    image = torch.from_numpy(image).float() / pixel_mm
    return torch.where(circle, 1000 * (image - MU_WATER) / MU_WATER, -1000.0)


class ChestCT(NamedTuple):
    """HU (D, H, W) from feet to head, front to back, right to left.

    `spacing` is (slice, row, column), mm; `origin` the centre of voxel (0, 0, 0), mm to the left,
    back and head; `nodule` its centre (slice, row, column) in voxels, or None.
    """

    hu: Tensor
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    nodule: tuple[float, ...] | None


def chest_ct_volume(
    seed: int = 0,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    nodule_mm: float = 0.0,
    photons: float | None = 2e5,
    kernel: str = "standard",
) -> ChestCT:
    """A CT volume of one simulated chest, the same anatomy that `chest_xray` projects.

    Args:
        seed: another seed, another patient.
        shape: slices, rows, columns, each ≥ 8.
        spacing: their distances, mm. With noise, rows and columns must be alike in both.
        nodule_mm: diameter of a round solid nodule at a random place in aerated lung; 0 for none.
        photons: dose of each slice's `scan`; None gives the noise-free anatomy.
        kernel: as for `scan`.
    """
    positive(spacing=min(spacing))
    square = photons is None or (shape[1] == shape[2] and spacing[1] == spacing[2])
    if min(shape) < 8 or not square or not 0 <= nodule_mm <= 40:
        raise DataError(
            "shape is (slices, rows, columns), each ≥ 8, square for noise, and nodule_mm from 0 to "
            f"40 mm; got {shape}, spacing {spacing} and {nodule_mm}"
        )
    rng = stream("chest_ct", "1", seed)
    thorax, _ = build(*(rng.random((1, n)) for n in DRAWS))
    z, y, x = (
        (torch.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)
    )
    origin, centre = (float(x[0]), float(y[0]), float(z[0])), None
    if nodule_mm:
        place = _place_nodule(thorax, rng, nodule_mm / 2)
        semi = torch.full((1, 3), nodule_mm / 2)
        thorax.solids["nodule"] = Ellipsoid(place[None], semi, torch.eye(3)[None])
        centre = tuple((float(place[2 - i]) - origin[2 - i]) / spacing[i] for i in range(3))
    hu = hounsfield(thorax, x, y, z)
    if photons is not None:
        scanned = partial(scan, pixel_mm=spacing[1], photons=photons, kernel=kernel)
        slices = zip(hu, rng.integers(2**32, size=len(hu)).tolist(), strict=True)
        hu = torch.stack(side_by_side(lambda one: scanned(one[0], seed=one[1]), list(slices)))
    return ChestCT(hu, spacing, origin, centre)


def _place_nodule(thorax: Thorax, rng: np.random.Generator, radius: float) -> Tensor:
    """A point whose whole sphere lies in aerated lung."""
    directions = torch.from_numpy(rng.standard_normal((64, 3))).float()
    sphere = radius * directions / directions.norm(dim=1, keepdim=True)
    for _ in range(10_000):
        side = "rl"[int(rng.integers(2))]
        lung = thorax.solids[f"lung_{side}"]
        centre = lung.centre[0] + lung.semi[0] * torch.from_numpy(rng.uniform(-1, 1, 3)).float()
        if aerated(thorax.solids, (centre + sphere)[None], side).all():
            return centre
    raise DataError(f"no room for a nodule of {2 * radius:.0f} mm in this patient's lungs")
