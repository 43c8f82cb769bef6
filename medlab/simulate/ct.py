"""Computed tomography: Hounsfield units, a scan of a slice, a chest to put into the scanner."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.simulate._lungs import build, paint
from medlab.simulate._streams import positive, side_by_side, stream
from medlab.simulate._trees import Grid
from medlab.simulate.xray import MU_WATER, expose

NODULE = 30.0  # HU
MIDDLE = (-25.0, 22.0, 0.0)  # mm of a volume: to the head, the back and the left of the carina
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
    """HU (D, H, W) from feet to head, front to back, right to left, without noise.

    `nodule` is the centre of one (slice, row, column) in voxels, or None.
    """

    hu: Tensor
    nodule: tuple[float, ...] | None


def chest_ct_volume(
    seed: int = 0,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    nodule_mm: float = 0.0,
) -> ChestCT:
    """A CT volume of one simulated chest, the anatomy of the cohort `lung_ct`.

    Args:
        seed: another seed, another patient.
        shape: slices, rows, columns, each ≥ 8; as many columns as rows. The middle slice lies 25 mm
            below the carina; what is 170 mm below it or 110 mm above is no longer like a body.
        spacing: their distances, mm; the same for rows and columns.
        nodule_mm: diameter of a round solid nodule at a random place in aerated lung; 0 for none.
    """
    positive(spacing=min(spacing))
    square = shape[1] == shape[2] and spacing[1] == spacing[2]
    if min(shape) < 8 or not square or not 0 <= nodule_mm <= 40:
        raise DataError(
            "shape is (slices, rows, columns), each ≥ 8, square, and nodule_mm from "
            f"0 to 40 mm; got {shape}, spacing {spacing} and {nodule_mm}"
        )
    rng = stream("chest_ct", "2", seed)
    body = build(rng, female=rng.random() < 0.5, age=rng.uniform(30, 80), emphysema=0.0)
    steps = zip(MIDDLE, shape, spacing, strict=True)
    bottom, back, right = (mm - (n - 1) / 2 * step for mm, n, step in steps)
    grid = Grid(right, back, spacing[1], shape[1])
    # A point so deep in the lung that a whole sphere fits.
    place = body.points[rng.choice(np.flatnonzero(body.depth > nodule_mm / 2 + 5))]

    def one(z: float) -> Tensor:
        x, y = grid.axes()
        hu = paint(body, grid, z, body.depths(x, y, z))
        far = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
        return torch.from_numpy(np.where(far < nodule_mm**2 / 4, NODULE, hu))

    hu = torch.stack(side_by_side(one, [bottom + k * spacing[0] for k in range(shape[0])]))
    away = zip(place[::-1].tolist(), (bottom, back, right), spacing, strict=True)
    centre = tuple((mm - first) / step for mm, first, step in away)
    return ChestCT(hu, centre if nodule_mm else None)
