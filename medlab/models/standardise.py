"""Normalisation as the first layer of a network, so that it travels with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medlab.cohort import to_float
from medlab.errors import DataError


class Standardise(nn.Module):
    """Subtract each channel's mean and divide by its standard deviation: z = (x − μ_c) / σ_c.

    Float images (N, C, …) stay in shape; a `DataError` tells of another number of `channels` C.

    μ and σ are buffers, not parameters: `fit` sets them from the training images, they never see
    validation or test images, and they are saved with the weights. Before that, μ = 0 and σ = 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.no_grad()
    def fit(self, images: Tensor) -> Standardise:
        """Set μ and σ from `images` (N, C, …), of any type that `to_float` takes.

        A channel that is constant keeps σ = 1, since it carries nothing to scale.
        """
        shape = self._checked(images)
        count, axes = images[:, 0].numel(), [0, *range(2, images.ndim)]
        mean, squares = torch.zeros(2, len(self.mean), dtype=torch.float64, device=images.device)
        # In double, two passes: the one-pass formula loses every digit when σ is small beside μ.
        for part in images.split(1024):
            mean += to_float(part).double().sum(axes)
        mean /= count
        for part in images.split(1024):
            squares += (to_float(part).double() - mean.view(shape)).square().sum(axes)
        std = (squares / count).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * mean.abs(), std, 1.0))
        return self

    def forward(self, images: Tensor) -> Tensor:
        shape = self._checked(images)
        return (images - self.mean.view(shape)) / self.std.view(shape)

    def extra_repr(self) -> str:
        return f"channels={len(self.mean)}"

    def _checked(self, images: Tensor) -> tuple[int, ...]:
        """The shape that μ and σ take beside images (N, C, …)."""
        channels = len(self.mean)
        if images.ndim < 3 or images.shape[1] != channels:
            raise DataError(
                f"this model expects images of shape (N, {channels}, …) with {channels} "
                f"channel{'s' * (channels != 1)}; got {tuple(images.shape)}: in_channels must agree"
            )
        return 1, channels, *[1] * (images.ndim - 2)
