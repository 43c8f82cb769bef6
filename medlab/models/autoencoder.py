"""The network that must draw an image again from a few numbers."""

from __future__ import annotations

from torch import Tensor, nn

from medlab.errors import DataError
from medlab.models._blocks import convolution, need_sides
from medlab.models.standardise import Standardise

MOST = 8  # times `width`: further down, channels stay as many


class Autoencoder(nn.Module):
    """Halved `depth` times by convolution, a few maps as the code, doubled as often.

    Channels double at each step, up to 8·width. No bridge passes the code: what it does not hold,
    the output cannot show. With sides of 2**depth the code is one pixel, a vector. Outputs are in
    the units of the images.

    Args:
        channels: of the images and of the outputs.
        code: maps K of the code.
        width: channels after the first halving.
        depth: how often the image is halved.

    Shape:
        images (N, channels, H, W) float32 → the same; `encode` makes (N, K, H / 2**depth,
        W / 2**depth) of them, and `decode` images of that. Sides must be multiples of 2**depth.

    Raises:
        DataError: images with another number of channels or axes, or other sides.

    Source: Hinton & Salakhutdinov, Science 313:504 (2006), with convolutions.
    """

    def __init__(self, channels: int = 1, code: int = 8, width: int = 8, *, depth: int = 3):
        super().__init__()
        self.arguments = {"channels": channels, "code": code, "width": width, "depth": depth}
        sizes = [width * min(2**level, MOST) for level in range(depth)]
        self.standardise = Standardise(channels)
        self.down = nn.Sequential()
        for inputs, outputs in zip([channels, *sizes], sizes, strict=False):
            self.down.extend(convolution(inputs, outputs, 2, stride=2))
        self.down.append(nn.Conv2d(sizes[-1], code, kernel_size=1))
        self.up = nn.Sequential(nn.Conv2d(code, sizes[-1], kernel_size=1), nn.ReLU())
        window: dict = {"kernel_size": 4, "stride": 2, "padding": 1}
        for inputs, outputs in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            self.up.append(nn.ConvTranspose2d(inputs, outputs, **window, bias=False))
            self.up.extend([nn.BatchNorm2d(outputs), nn.ReLU()])
        self.up.append(nn.ConvTranspose2d(width, channels, **window))

    def encode(self, images: Tensor) -> Tensor:
        """The code of images."""
        need_sides(self, images, 2)
        step = 2 ** self.arguments["depth"]
        if any(side % step for side in images.shape[2:]):
            raise DataError(
                f"this Autoencoder halves both sides {self.arguments['depth']} times, so each must "
                f"be a multiple of {step}; got {tuple(images.shape)}. Crop or pad the images "
                "(preprocess.crop_pad), or choose a smaller depth."
            )
        return self.down(self.standardise(images))

    def decode(self, code: Tensor) -> Tensor:
        """Images drawn from codes."""
        mean, std = self.standardise.mean[:, None, None], self.standardise.std[:, None, None]
        return self.up(code) * std + mean

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))
