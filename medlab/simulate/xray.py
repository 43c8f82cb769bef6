"""Radiography: attenuation along a ray, photons counted behind it, grey levels on a screen."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.simulate._rays import soften
from medlab.simulate._streams import positive

MU_WATER = 0.0206
"""Attenuation of water per mm at 60 keV, as of a 120 kV beam (NIST: Hubbell & Seltzer 1995)."""


def expose(line_integrals: Tensor, photons: float, *, seed: int) -> Tensor:
    """Photons counted behind a body: K ~ Poisson(N₀ exp(−∫μ ds)), whole numbers as float32.

    Args:
        line_integrals: ∫μ ds along each ray, any shape.
        photons: N₀, mean count of a pixel in the open beam.
        seed: the same seed gives the same counts.
    """
    positive(photons=photons)
    mean = (photons * torch.exp(-line_integrals)).double().numpy()
    return torch.from_numpy(np.random.default_rng(seed).poisson(mean)).float()


def film(
    counts: Tensor, *, contrast: Tensor, equalise: Tensor, latitude: Tensor, width: float
) -> Tensor:
    """Grey levels (B, H, W) uint8 as a digital radiography system shows them: dense is bright.

    The logarithm of the counts is thickness; less part of its slow variation, so that lung and
    mediastinum fit one screen; in a window set by the histogram; on a gamma curve.

    Args:
        counts: (B, H, W) photon counts.
        contrast: (B,) gamma of the display curve, 1 linear.
        equalise: (B,) share of the slow variation removed, 0…1.
        latitude: (B,) how far the window reaches beyond the image's central 1–99 %, ≥ 0.
        width: blur that counts as slow, pixels.
    """
    contrast, equalise, latitude = (v.view(-1, 1, 1) for v in (contrast, equalise, latitude))
    density = -torch.log(counts.clamp_min(0.5))
    density = density - equalise * slow(density, width, step=4)
    height, columns = density.shape[-2:]
    middle = density[:, height // 16 : -(height // 16), columns // 8 : -(columns // 8)].flatten(1)
    order = middle.sort(1).values
    low, high = (order[:, int(q * order.shape[1])].view(-1, 1, 1) for q in (0.01, 0.99))
    reach = (high - low).clamp_min(1e-3) * latitude
    shown = ((density - low + reach) / (high - low + 2 * reach).clamp_min(1e-3)).clamp(0, 1)
    return (shown**contrast * 255).round().to(torch.uint8)


def slow(pictures: Tensor, width: float, *, step: int) -> Tensor:
    """(B, H, W) blurred over `width` pixels, on 1/`step` of the resolution: enough if so smooth."""
    small = functional.avg_pool2d(pictures[:, None], step, ceil_mode=True)[:, 0]
    sigma = width / step
    small = soften(small, torch.full((len(pictures),), sigma), widest=sigma)
    return functional.interpolate(small[:, None], pictures.shape[-2:], mode="bilinear")[:, 0]
