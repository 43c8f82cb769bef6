"""What every step of preprocessing does with what it is given: tensors, arrays, checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError

__all__ = ["as_float", "each_image", "finite", "tensor_or_array", "unit"]


def tensor_or_array(function: Callable) -> Callable:
    """Let a function written for tensors take arrays too, and answer in kind."""

    @wraps(function)
    def either(x, *args, **options):
        if torch.is_tensor(x):
            return function(x, *args, **options)
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise DataError(f"an image is numbers, got an array of {array.dtype}")
        # torch knows no big-endian and few unsigned types, which DICOM and TIFF readers return.
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return function(tensor, *args, **options).cpu().numpy()

    return either


def each_image(x: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    images = x.detach().cpu().reshape(-1, *x.shape[-2:]).numpy()
    results = np.stack([function(image) for image in images]).astype(images.dtype)
    return torch.from_numpy(results).reshape(x.shape).to(x.device)


def as_float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def finite(x: Tensor) -> Tensor:
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
