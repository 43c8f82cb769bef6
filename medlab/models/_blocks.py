"""The layers of the course in two and three dimensions, chosen by one number."""

from torch import nn

from medlab.errors import DataError


def kind(name: str, dims: int) -> type[nn.Module]:
    """PyTorch's "Conv", "MaxPool", … of images (`dims=2`) or volumes (`dims=3`)."""
    if dims not in (2, 3):
        raise DataError(f"dims must be 2 for images or 3 for volumes; got {dims!r}")
    return getattr(nn, f"{name}{dims}d")


def convolution(inputs: int, outputs: int, dims: int, stride: int = 1) -> list[nn.Module]:
    """3×3 (or 3×3×3) convolution, batch normalisation, ReLU; the normalisation brings its bias."""
    window: dict = {"kernel_size": 3, "stride": stride, "padding": 1}
    convolve = kind("Conv", dims)(inputs, outputs, **window, bias=False)
    return [convolve, kind("BatchNorm", dims)(outputs), nn.ReLU()]
