"""Normalisation as the first layer of a network, so that it travels with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medlab.cohort import to_float
from medlab.errors import DataError


class Standardise(nn.Module):
    """Subtract each channel's mean and divide by its standard deviation: z = (x − μ_c) / σ_c.

    μ and σ are buffers, not parameters: `fit` sets them from the training images, they never see
    validation or test images, and they are saved with the weights. Before that, μ = 0 and σ = 1.

    Args:
        channels: number of image channels C.

    Shape:
        (N, C, …) → (N, C, …), float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.no_grad()
    def fit(self, images: Tensor, *, chunk: int = 1024) -> Standardise:
        """Set μ and σ from `images` (N, C, …), of any type that `to_float` takes.

        A channel that is constant keeps σ = 1, since it carries nothing to scale.
        """
        self._check(images)
        count = images.numel() // images.shape[1]
        axes = [0, *range(2, images.ndim)]
        # In double, two passes: the one-pass formula loses every digit when σ is small beside μ.
        sums = (to_float(part).double().sum(axes) for part in images.split(chunk))
        mean = sum(sums, torch.tensor(0.0)) / count
        shape = self._shape(images)
        squares = (
            (to_float(part).double() - mean.view(shape)).square().sum(axes)
            for part in images.split(chunk)
        )
        std = (sum(squares, torch.tensor(0.0)) / count).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * mean.abs(), std, 1.0))
        return self

    def forward(self, images: Tensor) -> Tensor:
        self._check(images)
        shape = self._shape(images)
        return (images - self.mean.view(shape)) / self.std.view(shape)

    def extra_repr(self) -> str:
        return f"channels={len(self.mean)}"

    def _shape(self, images: Tensor) -> tuple[int, ...]:
        return (1, -1) + (1,) * (images.ndim - 2)

    def _check(self, images: Tensor) -> None:
        channels = len(self.mean)
        if images.ndim < 3 or images.shape[1] != channels:
            raise DataError(
                f"this model expects images of shape (N, {channels}, …) with {channels} "
                f"channel{'s' * (channels != 1)}; got {tuple(images.shape)}. Build the model with "
                "in_channels equal to the second number of images.shape."
            )
