"""Radiography: attenuation along a ray, photons on a detector, grey levels on a screen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError
from medlab.simulate.rays import soften

__all__ = ["MU_WATER", "beer_lambert", "expose", "film", "scatter"]

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


def expose(
    line_integrals: Tensor,
    photons: float | Tensor,
    *,
    seed: int | None = None,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Photons counted behind a body: K ~ Poisson(N₀ exp(−∫μ ds)).

    Args:
        line_integrals: ∫μ ds along each ray, dimensionless, any shape.
        photons: N₀, mean count of a pixel in the open beam, > 0; a number or broadcastable.
        seed, generator: give one of them; the same seed gives the same counts.

    Returns:
        Counts, float32 whole numbers, same shape.

    Raises:
        DataError: a dose that is not positive, or neither or both of seed and generator.
    """
    photons = torch.as_tensor(photons)
    if not (photons > 0).all():
        raise DataError(
            "photons is the mean count of an unattenuated pixel and must be positive; "
            f"got {photons}"
        )
    mean = photons * torch.exp(-torch.as_tensor(line_integrals))
    return count(mean, _generator(seed, generator))


def _generator(seed: int | None, generator: np.random.Generator | None) -> np.random.Generator:
    if (seed is None) == (generator is None):
        raise DataError("give either seed=… or generator=…, so that the noise can be repeated")
    return np.random.default_rng(seed) if generator is None else generator


def count(mean: Tensor, generator: np.random.Generator) -> Tensor:
    """Poisson counts of the given means, float32."""
    return torch.from_numpy(generator.poisson(mean.double().numpy())).float()


def scatter(primary: Tensor, *, ratio: float | Tensor, width: float) -> Tensor:
    """Scattered photons behind a body: `ratio` times the primary ones, spread widely.

    Scatter leaves the body in all directions, so it is the primary image blurred over `width`
    pixels (standard deviation). It is computed on an eighth of the resolution, enough for anything
    that smooth.

    Args:
        primary: (B, H, W) mean primary counts or transmission.
        ratio: scatter-to-primary ratio behind the grid, ≥ 0; a number or (B,).
        width: pixels.
    """
    step = 8 if min(primary.shape[-2:]) >= 64 else 2
    small = functional.avg_pool2d(primary[:, None], step, ceil_mode=True)[:, 0]
    sigma = width / step
    wide = soften(small, torch.full((len(primary),), sigma), widest=sigma)
    wide = functional.interpolate(wide[:, None], primary.shape[-2:], mode="bilinear")[:, 0]
    return wide * torch.as_tensor(ratio).reshape(-1, 1, 1)


def film(
    counts: Tensor, *, contrast: Tensor, equalise: Tensor, latitude: Tensor, width: float
) -> Tensor:
    """Grey levels 0…255 from counts, as a digital radiography system shows them: dense is bright.

    The logarithm of the counts turns transmission back into thickness. Part of its slow variation
    (blurred over `width` pixels) is taken away, so that lung and mediastinum fit one screen; then a
    window set by the histogram, and a gamma curve.

    Args:
        counts: (B, H, W) photon counts.
        contrast: (B,) gamma of the display curve, 1 linear.
        equalise: (B,) share of the slow variation removed, 0…1.
        latitude: (B,) how far the window reaches beyond the image's central 1–99 %, ≥ 0.
        width: blur of the equaliser, pixels.

    Returns:
        (B, H, W) uint8.
    """
    shape = (-1, 1, 1)
    density = -torch.log(counts.clamp_min(0.5))
    step = 4 if min(counts.shape[-2:]) >= 32 else 1
    small = functional.avg_pool2d(density[:, None], step, ceil_mode=True)[:, 0]
    sigma = width / step
    slow = soften(small, torch.full((len(counts),), sigma), widest=sigma)
    slow = functional.interpolate(slow[:, None], counts.shape[-2:], mode="bilinear")[:, 0]
    density = density - equalise.view(shape) * slow
    height, columns = density.shape[-2:]
    middle = density[:, height // 16 : -(height // 16), columns // 8 : -(columns // 8)].flatten(1)
    order = middle.sort(1).values
    low = order[:, int(0.01 * order.shape[1])].view(shape)
    high = order[:, int(0.99 * order.shape[1])].view(shape)
    reach = (high - low).clamp_min(1e-3) * latitude.view(shape)
    shown = ((density - low + reach) / (high - low + 2 * reach).clamp_min(1e-3)).clamp(0, 1)
    return (shown ** contrast.view(shape) * 255).round().to(torch.uint8)
