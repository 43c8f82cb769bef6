"""The convolutional network that most of the course trains."""

from __future__ import annotations

from torch import Tensor, nn

from medlab.errors import DataError
from medlab.models.standardise import Standardise

__all__ = ["SmallCNN"]


class SmallCNN(nn.Module):
    """Three resolutions of convolutions, a global average, a linear layer.

    At each resolution the image halves and the channels double (width, 2·width, 4·width); the
    average over positions makes any image size possible and the answer tolerant to small shifts.

    Args:
        in_channels: image channels: 1 for grey, 3 for colour.
        num_classes: number of outputs K.
        width: channels after the first convolution.

    Shape:
        images (N, in_channels, H, W) float32, H and W at least 16 → logits (N, num_classes).
        `features` maps the same images to the last feature maps (N, 4·width, H // 4, W // 4).

    Raises:
        DataError: images with another number of channels, or smaller than 16 pixels.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 2, width: int = 32):
        super().__init__()
        self.features = nn.Sequential(
            Standardise(in_channels),
            *convolution(in_channels, width),
            nn.MaxPool2d(2),
            *convolution(width, 2 * width),
            *convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *convolution(2 * width, 4 * width),
            *convolution(4 * width, 4 * width),
        )
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or min(images.shape[-2:]) < 16:
            raise DataError(
                "SmallCNN takes images of shape (N, C, H, W) with H and W of at least 16 pixels; "
                f"got {tuple(images.shape)}"
            )
        maps = self.features(images)
        return self.classifier(maps.mean(dim=(2, 3)))


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """3×3 convolution, batch normalisation, ReLU; the normalisation brings its own bias."""
    return [
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
