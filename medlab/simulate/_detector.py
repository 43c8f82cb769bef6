"""A radiograph's detector: photons counted, scatter among them, grey levels on a screen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.simulate._rays import soften


def count(mean: Tensor, generator: np.random.Generator) -> Tensor:
    """Poisson counts of the given means, float32."""
    return torch.from_numpy(generator.poisson(mean.double().numpy())).float()


def scatter(primary: Tensor, *, ratio: float | Tensor, width: float) -> Tensor:
    """Scattered photons behind a body: `ratio` times the primary ones, spread widely.

    Scatter leaves the body in all directions, so it is the primary image blurred over `width`
    pixels (standard deviation).

    Args:
        primary: (B, H, W) mean primary counts or transmission.
        ratio: scatter-to-primary ratio behind the grid, ≥ 0; a number or (B,).
        width: pixels.
    """
    return _slow(primary, width, step=8) * torch.as_tensor(ratio).reshape(-1, 1, 1)


def _slow(pictures: Tensor, width: float, *, step: int) -> Tensor:
    """(B, H, W) blurred over `width` pixels, on 1/`step` of the resolution: enough if so smooth."""
    small = functional.avg_pool2d(pictures[:, None], step, ceil_mode=True)[:, 0]
    sigma = width / step
    small = soften(small, torch.full((len(pictures),), sigma), widest=sigma)
    return functional.interpolate(small[:, None], pictures.shape[-2:], mode="bilinear")[:, 0]


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
    density = density - equalise.view(shape) * _slow(density, width, step=4)
    height, columns = density.shape[-2:]
    middle = density[:, height // 16 : -(height // 16), columns // 8 : -(columns // 8)].flatten(1)
    order = middle.sort(1).values
    low = order[:, int(0.01 * order.shape[1])].view(shape)
    high = order[:, int(0.99 * order.shape[1])].view(shape)
    reach = (high - low).clamp_min(1e-3) * latitude.view(shape)
    shown = ((density - low + reach) / (high - low + 2 * reach).clamp_min(1e-3)).clamp(0, 1)
    return (shown ** contrast.view(shape) * 255).round().to(torch.uint8)
