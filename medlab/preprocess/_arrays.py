"""What every step of preprocessing does with what it is given: tensors, arrays, checks."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medlab.errors import DataError


def tensor_or_array(function: Callable) -> Callable:
    """Let a function written for tensors take arrays too, and answer in kind."""

    @wraps(function)
    def either(x: ArrayLike, *args: Any, **options: Any) -> Any:
        result = function(as_tensor(x), *args, **options)
        return result if torch.is_tensor(x) else result.cpu().numpy()

    return either


def as_tensor(x: ArrayLike) -> Tensor:
    """An image as a tensor; one without numbers is refused."""
    if not torch.is_tensor(x):
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise DataError(f"an image is numbers, got an array of {array.dtype}")
        # torch knows no big-endian, extended or flipped arrays, which readers of files return.
        extended = array.dtype.kind == "f" and array.dtype.itemsize > 8
        native = np.float64 if extended else array.dtype.newbyteorder("=")
        x = torch.from_numpy(np.asarray(array, dtype=native, order="C"))
    if x.numel() == 0:
        raise DataError(f"the image is empty: its shape is {tuple(x.shape)}")
    return x


def real(x: Tensor) -> Tensor:
    """As float32, or float64 if x is; what is complex or not finite is refused."""
    if x.is_complex():
        raise DataError(f"this step takes real numbers, got {x.dtype}: take its magnitude, x.abs()")
    x = x if x.dtype == torch.float64 else x.float()
    bad = int((~x.isfinite()).sum())
    if bad:
        raise DataError(f"{bad} of {x.numel()} values are NaN or infinite: replace them first")
    return x


def each_image(x: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """`function` of every (H, W) in x (…, H, W)."""
    if x.ndim < 2:
        raise DataError(f"an image has rows and columns, (…, H, W); got shape {tuple(x.shape)}")
    images = x.detach().cpu().reshape(-1, *x.shape[-2:]).numpy()
    results = np.stack([function(image) for image in images]).astype(images.dtype)
    return torch.from_numpy(results).reshape(x.shape).to(x.device)


def constant(lowest: np.ndarray, highest: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """True where values of `dtype` from lowest to highest differ by no more than their rounding."""
    largest = np.maximum(np.abs(lowest), np.abs(highest))
    return highest - lowest <= np.finfo(dtype).eps * largest
