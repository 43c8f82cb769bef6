"""The residual network, which can be deep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from medlab.errors import DataError
from medlab.models._blocks import convolution, kind, need_sides
from medlab.models.standardise import Standardise


class ResNet(nn.Module):
    """Stages of residual blocks, each with half the resolution and twice the channels of the last.

    A block of two 3×3 convolutions f changes its input x instead of replacing it, ReLU(x + f(x)).
    Where a stage halves the image, a 1×1 convolution brings x to the shape of f(x).

    Images (N, in_channels, H, W), float32, with sides of at least 2^stages give logits
    (N, num_classes); with `dims=3` volumes do. Other axes or sides are a `DataError`.

    Args:
        in_channels: image channels: 1 for grey, 3 for colour.
        num_classes: number of outputs K.
        width: channels of the first stage.
        blocks: blocks of each stage; weight layers in a row are 2 · their sum + 2.
        residual: False leaves out the sums and 1×1 convolutions: a plain network, as deep.
        dims: 2 for images, 3 for volumes.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2 with the shortcuts of option B.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 16,
        blocks: Sequence[int] = (2, 2, 2),
        *,
        residual: bool = True,
        dims: int = 2,
    ):
        super().__init__()
        if not blocks or min(blocks) < 1:
            raise DataError(f"blocks are one or more for each stage, as (2, 2, 2); got {blocks!r}")
        sizes = {"in_channels": in_channels, "num_classes": num_classes, "width": width}
        self.arguments = {**sizes, "blocks": list(blocks), "residual": residual, "dims": dims}
        self.dims, self.least = dims, 2 ** len(blocks)
        layers = [Standardise(in_channels), *convolution(in_channels, width, dims)]
        widths = [width * 2**stage for stage, count in enumerate(blocks) for _ in range(count)]
        for inputs, outputs in pairwise([width, *widths]):
            layers.append(_Block(inputs, outputs, residual, dims))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        need_sides(self, images, self.dims, self.least)
        return self.classifier(self.features(images).flatten(2).mean(2))


class _Block(nn.Module):
    """ReLU(x + f(x)), or ReLU(f(x))."""

    def __init__(self, inputs: int, outputs: int, residual: bool, dims: int):
        super().__init__()
        stride = outputs // inputs  # resolution halves where channels double
        *layers, self.relu = convolution(outputs, outputs, dims)
        self.change = nn.Sequential(*convolution(inputs, outputs, dims, stride), *layers)
        self.shortcut: nn.Module | None = nn.Identity() if residual else None
        if residual and stride > 1:
            # With a stride in the 1×1 convolution a fault of oneDNN ends Python (PyTorch 2.14)
            convolve = kind("Conv", dims)(inputs, outputs, kernel_size=1, bias=False)
            every_second, norm = kind("MaxPool", dims)(1, stride), kind("BatchNorm", dims)(outputs)
            self.shortcut = nn.Sequential(every_second, convolve, norm)

    def forward(self, maps: Tensor) -> Tensor:
        change = self.change(maps)
        return self.relu(change if self.shortcut is None else self.shortcut(maps) + change)
