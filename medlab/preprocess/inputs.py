"""What every step of preprocessing does with what it is given: tensors, arrays, checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError

__all__ = ["as_float", "as_tensor", "each_image", "finite", "tensor_or_array", "unit"]


def tensor_or_array(function: Callable) -> Callable:
    """Let a function written for tensors take arrays too, and answer in kind."""

    @wraps(function)
    def either(x, *args, **options):
        if torch.is_tensor(x):
            return function(x, *args, **options)
        return function(as_tensor(x), *args, **options).cpu().numpy()

    return either


def as_tensor(x) -> Tensor:
    if torch.is_tensor(x):
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise DataError(f"an image is numbers, got an array of {array.dtype}")
    # torch knows no big-endian and few unsigned types, which DICOM and TIFF readers return.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
    return torch.from_numpy(np.asarray(array, order="C"))  # nor does it know flipped arrays


def each_image(x: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    if x.ndim < 2:
        raise DataError(f"an image has rows and columns, (…, H, W); got shape {tuple(x.shape)}")
    images = x.detach().cpu().reshape(-1, *x.shape[-2:]).numpy()
    results = np.stack([function(image) for image in images]).astype(images.dtype)
    return torch.from_numpy(results).reshape(x.shape).to(x.device)


def as_float(x: Tensor) -> Tensor:
    if x.is_complex():
        raise DataError(f"this step takes real numbers, got {x.dtype}: take its magnitude, x.abs()")
    return x if x.dtype == torch.float64 else x.float()


def finite(x: Tensor) -> Tensor:
    if x.numel() == 0:
        raise DataError(f"the image is empty: its shape is {tuple(x.shape)}")
    bad = int((~x.isfinite()).sum())
    if bad:
        raise DataError(f"{bad} of {x.numel()} values are NaN or infinite: replace them first")
    return x


def unit(x: Tensor, name: str) -> Tensor:
    x = finite(as_float(x))
    if x.min() < 0 or x.max() > 1:
        raise DataError(
            f"{name} needs values from 0 to 1, got {x.min():.4g} to {x.max():.4g}: window or "
            "normalise(method='minmax') first"
        )
    return x
