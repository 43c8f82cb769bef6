"""The layers of the course in two and three dimensions, chosen by one number."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from medlab.errors import DataError


class Kinds(NamedTuple):
    """The classes of PyTorch that make up a network for images of `dims` dimensions."""

    convolution: type[nn.Module]
    transposed: type[nn.Module]
    normalisation: type[nn.Module]
    max_pool: type[nn.Module]


_KINDS = {
    2: Kinds(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d),
    3: Kinds(nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.MaxPool3d),
}


def kinds(dims: int) -> Kinds:
    """The layer classes for images (`dims=2`) or volumes (`dims=3`); else a `DataError`."""
    if dims not in _KINDS:
        raise DataError(f"dims must be 2 for images or 3 for volumes; got {dims!r}")
    return _KINDS[dims]


def convolution(inputs: int, outputs: int, dims: int) -> list[nn.Module]:
    """3×3 (or 3×3×3) convolution, batch normalisation, ReLU; the normalisation brings its bias."""
    kind = kinds(dims)
    convolve = kind.convolution(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return [convolve, kind.normalisation(outputs), nn.ReLU()]
