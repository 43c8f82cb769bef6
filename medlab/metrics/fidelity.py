"""How near an image is to the one that it should be."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medlab.errors import DataError


def psnr(target: ArrayLike, outputs: ArrayLike, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB: 10 log₁₀(range² / mean squared error).

    >>> psnr(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.1), data_range=1)
    tensor([20.])

    Args:
        target: images (N, …) as they should be.
        outputs: the same shape and units.
        data_range: from the darkest to the brightest value that counts, > 0, in their units: one
            number for all images, such as 1400 for a CT window of that width. Doubled, it adds 6
            dB to every image, so that figures of different ranges cannot be compared.

    Returns:
        (N,) float32; infinite where nothing differs.
    """
    truth, got = (torch.as_tensor(x).float() for x in (target, outputs))
    if truth.shape != got.shape or truth.ndim < 2 or not data_range > 0:
        raise DataError(
            "psnr compares images (N, …) of one shape by a range above 0; got "
            f"{tuple(truth.shape)}, {tuple(got.shape)} and {data_range!r}"
        )
    error = (truth - got).square().flatten(1).mean(1)
    return 10 * (data_range**2 / error).log10()
