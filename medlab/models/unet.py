"""The network that answers for every pixel: what it shows, or how much of it is noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medlab.models._blocks import convolution, kind, need_sides, padded
from medlab.models.standardise import Standardise

_STEP = 0.1  # of the denoiser's output, in the images' standard deviations


class UNet(nn.Module):
    """Down by halving, up by transposed convolution, with a bridge at each resolution.

    On the way down the image halves and the channels double at each of `depth` steps; on the way up
    each step doubles the image, puts the maps of the same resolution from the way down beside it
    (they still know where edges are), and convolves twice.

    Args:
        in_channels: image channels: 1 for grey, 3 for colour.
        num_classes: number of structures K, background included.
        width: channels at full resolution.
        depth: how often the image is halved.
        dims: 2 for images, 3 for volumes.

    Shape:
        images (N, in_channels, *size) float32 → logits (N, num_classes, *size). Any size: what
        cannot be halved `depth` times is padded by its edge and cut again.

    Raises:
        DataError: images with another number of channels or axes.

    Source: Ronneberger et al., U-Net (2015), arXiv:1505.04597; in three dimensions Çiçek et al.
    (2016), arXiv:1606.06650. Here convolutions are padded and followed by batch normalisation.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 16,
        *,
        depth: int = 3,
        dims: int = 2,
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "num_classes": num_classes, "width": width}
        self.arguments = {**sizes, "depth": depth, "dims": dims}
        convolve, enlarge = kind("Conv", dims), kind("ConvTranspose", dims)
        channels = [width * 2**level for level in range(depth + 1)]
        self.standardise = Standardise(in_channels)
        self.down = nn.ModuleList(
            _two_convolutions(inputs, outputs, dims)
            for inputs, outputs in zip([in_channels, *channels], channels, strict=False)
        )
        self.pool = kind("MaxPool", dims)(2)
        self.up = nn.ModuleList(
            enlarge(2 * outputs, outputs, kernel_size=2, stride=2)
            for outputs in reversed(channels[:-1])
        )
        self.merge = nn.ModuleList(
            _two_convolutions(2 * outputs, outputs, dims) for outputs in reversed(channels[:-1])
        )
        self.classifier = convolve(width, num_classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        need_sides(self, images, self.arguments["dims"])
        size = images.shape[2:]
        maps = padded(self.standardise(images), 2 ** self.arguments["depth"])
        bridges = []
        for level, convolve in enumerate(self.down):
            maps = convolve(maps if level == 0 else self.pool(maps))
            bridges.append(maps)
        bridges.pop()
        for enlarge, convolve in zip(self.up, self.merge, strict=True):
            maps = convolve(torch.cat([bridges.pop(), enlarge(maps)], dim=1))
        return self.classifier(maps)[:, :, *(slice(side) for side in size)]


def _two_convolutions(inputs: int, outputs: int, dims: int) -> nn.Sequential:
    return nn.Sequential(*convolution(inputs, outputs, dims), *convolution(outputs, outputs, dims))


class Denoiser(nn.Module):
    """The image less what a small U-Net takes for noise; untrained, it returns the image.

    The images' `Standardise` layer scales the noise too. What a U-Net has no channel for it need
    not carry through: structure goes by outside.

    Args:
        channels: of the images.
        width: channels of the U-Net at full resolution; it halves the image once.

    Shape:
        images (N, channels, H, W) float32, any size → the same.

    Raises:
        DataError: images with another number of channels or axes.

    Source: Zhang et al., DnCNN (2017), arXiv:1608.03981, learning the residual, by a U-Net.
    """

    def __init__(self, channels: int = 1, width: int = 8):
        super().__init__()
        self.arguments = {"channels": channels, "width": width}
        self.noise = UNet(channels, channels, width, depth=1)
        for parameter in self.noise.classifier.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        return images - _STEP * self.noise.standardise.std[:, None, None] * self.noise(images)
