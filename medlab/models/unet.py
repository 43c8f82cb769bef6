"""The network that answers for every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.errors import DataError
from medlab.models._blocks import convolution, kinds
from medlab.models.standardise import Standardise


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
        patch: side of the blocks of pixels that the first layer takes as channels of one, and the
            last one gives back. With 2, all convolutions see a quarter of the pixels (an eighth
            in volumes), which makes the network several times as fast at nearly the same answer.

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
        patch: int = 1,
    ):
        super().__init__()
        self.arguments = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "depth": depth,
            "dims": dims,
            "patch": patch,
        }
        kind = kinds(dims)
        channels = [width * 2**level for level in range(depth + 1)]
        self.standardise = Standardise(in_channels)
        self.down = nn.ModuleList(
            _two_convolutions(inputs, outputs, dims)
            for inputs, outputs in zip(
                [in_channels * patch**dims, *channels], channels, strict=False
            )
        )
        self.pool = kind.max_pool(2)
        self.up = nn.ModuleList(
            kind.transposed(2 * outputs, outputs, kernel_size=2, stride=2)
            for outputs in reversed(channels[:-1])
        )
        self.merge = nn.ModuleList(
            _two_convolutions(2 * outputs, outputs, dims) for outputs in reversed(channels[:-1])
        )
        self.classifier = kind.convolution(width, num_classes * patch**dims, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        dims, depth, patch = (self.arguments[name] for name in ("dims", "depth", "patch"))
        if images.ndim != dims + 2:
            axes = "(N, C, H, W)" if dims == 2 else "(N, C, D, H, W)"
            raise DataError(
                f"this UNet takes images of shape {axes}; got {tuple(images.shape)}: build it with "
                "dims=2 for images, dims=3 for volumes"
            )
        size = images.shape[2:]
        maps = _to_channels(_padded(self.standardise(images), patch * 2**depth), patch)
        bridges = []
        for level, convolve in enumerate(self.down):
            maps = convolve(maps if level == 0 else self.pool(maps))
            bridges.append(maps)
        bridges.pop()
        for enlarge, convolve in zip(self.up, self.merge, strict=True):
            maps = convolve(torch.cat([bridges.pop(), enlarge(maps)], dim=1))
        logits = _to_pixels(self.classifier(maps), patch)
        return logits[:, :, *(slice(side) for side in size)]


def _two_convolutions(inputs: int, outputs: int, dims: int) -> nn.Sequential:
    return nn.Sequential(*convolution(inputs, outputs, dims), *convolution(outputs, outputs, dims))


def _padded(images: Tensor, multiple: int) -> Tensor:
    """Edges repeated at the end of each axis until every side is a multiple."""
    missing = [-side % multiple for side in images.shape[2:]]
    if not any(missing):
        return images
    padding = [amount for axis in reversed(missing) for amount in (0, axis)]
    return F.pad(images, padding, mode="replicate")


def _to_channels(images: Tensor, patch: int) -> Tensor:
    """(N, C, *size) → (N, C · patch^dims, *size / patch): each block of pixels becomes channels."""
    if patch == 1:
        return images
    n, channels, *size = images.shape
    dims = len(size)
    split = images.view(n, channels, *(k for side in size for k in (side // patch, patch)))
    inner, outer = range(3, 3 + 2 * dims, 2), range(2, 2 + 2 * dims, 2)
    return split.permute(0, 1, *inner, *outer).flatten(1, 1 + dims)


def _to_pixels(maps: Tensor, patch: int) -> Tensor:
    """The way back: (N, C · patch^dims, *size) → (N, C, *size · patch)."""
    if patch == 1:
        return maps
    n, _, *size = maps.shape
    dims = len(size)
    split = maps.reshape(n, -1, *(patch,) * dims, *size)
    pairs = (axis for k in range(dims) for axis in (2 + dims + k, 2 + k))
    return split.permute(0, 1, *pairs).reshape(n, -1, *(side * patch for side in size))
