"""Radiography: attenuation along a ray, photons counted behind it, grey levels on a screen.

Sizes and doses that are not positive raise a DataError.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError
from medlab.simulate._rays import soften
from medlab.simulate._streams import positive

MU_WATER = 0.0206
"""Attenuation of water at 60 keV, the effective energy of a 120 kV beam, per mm.

Source: NIST X-Ray Mass Attenuation Coefficients (Hubbell & Seltzer 1995): 0.2059 cm²/g.
"""


def beer_lambert(attenuation: Tensor, voxel_mm: float, *, dim: int) -> Tensor:
    """Share of photons, 0 … 1, that pass straight through a volume: I / I₀ = exp(−Σ μ Δx).

    Args:
        attenuation: linear attenuation μ per mm, any shape, ≥ 0; `ct.hu_to_mu` makes it of HU.
        voxel_mm: length Δx of a voxel along the beam, mm.
        dim: axis along which parallel rays travel; the result is without it.

    Source: Bushberg et al., The Essential Physics of Medical Imaging (3rd ed. 2012), ch. 3.
    """
    positive(voxel_mm=voxel_mm)
    if (attenuation < 0).any():
        raise DataError("attenuation must not be negative: ct.hu_to_mu makes it of HU")
    return torch.exp(-attenuation.sum(dim) * voxel_mm)


def expose(line_integrals: Tensor, photons: float, *, seed: int) -> Tensor:
    """Photons counted behind a body: K ~ Poisson(N₀ exp(−∫μ ds)), whole numbers as float32.

    Args:
        line_integrals: ∫μ ds along each ray, any shape.
        photons: N₀, mean count of a pixel in the open beam.
        seed: the same seed gives the same counts.
    """
    positive(photons=photons)
    return count(photons * torch.exp(-line_integrals), np.random.default_rng(seed))


def count(mean: Tensor, generator: np.random.Generator) -> Tensor:
    """Poisson counts of the given means, float32."""
    return torch.from_numpy(generator.poisson(mean.double().numpy())).float()


def scatter(primary: Tensor, *, ratio: Tensor, width: float) -> Tensor:
    """Scattered photons behind a body: `ratio` (B,) times the primary ones (B, H, W).

    Scatter leaves the body in all directions, so it is the primary image blurred over `width`
    pixels (standard deviation).
    """
    return _slow(primary, width, step=8) * ratio.reshape(-1, 1, 1)


def film(
    counts: Tensor, *, contrast: Tensor, equalise: Tensor, latitude: Tensor, width: float
) -> Tensor:
    """Grey levels (B, H, W) uint8 as a digital radiography system shows them: dense is bright.

    The logarithm of the counts turns transmission back into thickness. Part of its slow variation
    is taken away, so that lung and mediastinum fit one screen; then a window set by the histogram,
    and a gamma curve.

    Args:
        counts: (B, H, W) photon counts.
        contrast: (B,) gamma of the display curve, 1 linear.
        equalise: (B,) share of the slow variation removed, 0…1.
        latitude: (B,) how far the window reaches beyond the image's central 1–99 %, ≥ 0.
        width: blur that counts as slow, pixels.
    """
    contrast, equalise, latitude = (v.view(-1, 1, 1) for v in (contrast, equalise, latitude))
    density = -torch.log(counts.clamp_min(0.5))
    density = density - equalise * _slow(density, width, step=4)
    height, columns = density.shape[-2:]
    middle = density[:, height // 16 : -(height // 16), columns // 8 : -(columns // 8)].flatten(1)
    order = middle.sort(1).values
    low, high = (order[:, int(q * order.shape[1])].view(-1, 1, 1) for q in (0.01, 0.99))
    reach = (high - low).clamp_min(1e-3) * latitude
    shown = ((density - low + reach) / (high - low + 2 * reach).clamp_min(1e-3)).clamp(0, 1)
    return (shown**contrast * 255).round().to(torch.uint8)


def _slow(pictures: Tensor, width: float, *, step: int) -> Tensor:
    """(B, H, W) blurred over `width` pixels, on 1/`step` of the resolution: enough if so smooth."""
    small = functional.avg_pool2d(pictures[:, None], step, ceil_mode=True)[:, 0]
    sigma = width / step
    small = soften(small, torch.full((len(pictures),), sigma), widest=sigma)
    return functional.interpolate(small[:, None], pictures.shape[-2:], mode="bilinear")[:, 0]
