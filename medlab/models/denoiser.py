"""The network that finds the noise of an image, and takes it away."""

from __future__ import annotations

from torch import Tensor, nn

from medlab.models.unet import UNet

STEP = 0.1  # of the network's output, in the images' standard deviations


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
        return images - STEP * self.noise.standardise.std[:, None, None] * self.noise(images)
