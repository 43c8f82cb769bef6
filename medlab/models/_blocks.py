"""The layers of the course in two and three dimensions, chosen by one number."""

from itertools import chain

import torch.nn.functional as F
from torch import Tensor, nn

from medlab.errors import DataError


def kind(name: str, dims: int) -> type[nn.Module]:
    """PyTorch's "Conv", "MaxPool", … of images (`dims=2`) or volumes (`dims=3`)."""
    if dims not in (2, 3):
        raise DataError(f"dims must be 2 for images or 3 for volumes; got {dims!r}")
    return getattr(nn, f"{name}{dims}d")


def need_sides(network: nn.Module, images: Tensor, dims: int, least: int = 1) -> None:
    """Raise `DataError` unless images (N, C, …) have `dims` sides of at least so many pixels."""
    if images.ndim != dims + 2 or min(images.shape[2:]) < least:
        raise DataError(
            f"this {type(network).__name__} takes images (N, C, …) with {dims} sides of at least "
            f"{least} pixel{'s' * (least > 1)} each; got {tuple(images.shape)}"
        )


def padded(images: Tensor, multiple: int) -> Tensor:
    """Edges repeated at the end of each axis until every side is a multiple."""
    missing = [(0, -side % multiple) for side in reversed(images.shape[2:])]
    return F.pad(images, [*chain(*missing)], mode="replicate")


def convolution(inputs: int, outputs: int, dims: int, stride: int = 1) -> list[nn.Module]:
    """3×3 (or 3×3×3) convolution, batch normalisation, ReLU; the normalisation brings its bias."""
    window: dict = {"kernel_size": 3, "stride": stride, "padding": 1}
    convolve = kind("Conv", dims)(inputs, outputs, **window, bias=False)
    return [convolve, kind("BatchNorm", dims)(outputs), nn.ReLU()]
