"""The convolutional network that most of the course trains."""

from __future__ import annotations

from torch import Tensor, nn

from medlab.models._blocks import convolution, kind, need_sides
from medlab.models.standardise import Standardise


class SmallCNN(nn.Module):
    """Three resolutions of convolutions, a global average, a linear layer.

    At each resolution the image halves and the channels double (width, 2·width, 4·width); the
    average over positions makes any image size possible and the answer tolerant to small shifts.

    Images (N, in_channels, H, W), float32, with sides of at least 16 give logits (N, num_classes);
    with `dims=3` volumes (N, in_channels, D, H, W) do. `features` maps them to the last feature
    maps (N, 4·width, H // 4, W // 4). Other axes, channels or smaller sides are a `DataError`.

    Args:
        in_channels: image channels: 1 for grey, 3 for colour.
        num_classes: number of outputs K.
        width: channels after the first convolution.
        dims: 2 for images, 3 for volumes.
    """

    def __init__(
        self, in_channels: int = 1, num_classes: int = 2, width: int = 32, *, dims: int = 2
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "num_classes": num_classes}
        self.arguments = {**sizes, "width": width, "dims": dims}
        pool = kind("MaxPool", dims)
        self.features = nn.Sequential(
            Standardise(in_channels),
            *convolution(in_channels, width, dims),
            pool(2),
            *convolution(width, 2 * width, dims),
            *convolution(2 * width, 2 * width, dims),
            pool(2),
            *convolution(2 * width, 4 * width, dims),
            *convolution(4 * width, 4 * width, dims),
        )
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        need_sides(self, images, self.arguments["dims"], least=16)
        maps = self.features(images)
        return self.classifier(maps.mean(dim=tuple(range(2, maps.ndim))))
