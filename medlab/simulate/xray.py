"""Radiography: attenuation along a ray, and the photons that are counted behind it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.simulate._detector import count

MU_WATER = 0.0206
"""Attenuation of water at 60 keV, the effective energy of a 120 kV beam, per mm.

Source: NIST X-Ray Mass Attenuation Coefficients (Hubbell & Seltzer 1995): 0.2059 cm²/g.
"""


def beer_lambert(attenuation: Tensor, voxel_mm: float, *, dim: int = -2) -> Tensor:
    """Share of photons that pass straight through a volume: I / I₀ = exp(−Σ μ Δx).

    Args:
        attenuation: linear attenuation μ per mm, any shape, ≥ 0.
        voxel_mm: length Δx of a voxel along the beam, mm, > 0.
        dim: axis along which parallel rays travel.

    Returns:
        Transmission in (0, 1], `attenuation` without axis `dim`.

    Raises:
        DataError: a negative attenuation, or a voxel length that is not positive.

    Source: Bushberg et al., The Essential Physics of Medical Imaging (3rd ed. 2012), ch. 3.
    """
    if not voxel_mm > 0:
        raise DataError(f"voxel_mm is a length in millimetres and must be positive; got {voxel_mm}")
    attenuation = torch.as_tensor(attenuation)
    if (attenuation < 0).any():
        raise DataError(
            f"attenuation must not be negative, got {attenuation.min():.4g} per mm: convert HU "
            "with medlab.simulate.ct.hu_to_mu first"
        )
    return torch.exp(-attenuation.sum(dim) * voxel_mm)


def expose(line_integrals: Tensor, photons: float | Tensor, *, seed: int) -> Tensor:
    """Photons counted behind a body: K ~ Poisson(N₀ exp(−∫μ ds)).

    Args:
        line_integrals: ∫μ ds along each ray, dimensionless, any shape.
        photons: N₀, mean count of a pixel in the open beam, > 0; a number or broadcastable.
        seed: the same seed gives the same counts.

    Returns:
        Counts, float32 whole numbers, same shape.

    Raises:
        DataError: a dose that is not positive.
    """
    photons = torch.as_tensor(photons)
    if not (photons > 0).all():
        raise DataError(
            "photons is the mean count of an unattenuated pixel and must be positive; "
            f"got {photons}"
        )
    mean = photons * torch.exp(-torch.as_tensor(line_integrals))
    return count(mean, np.random.default_rng(seed))
