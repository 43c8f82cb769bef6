"""An image cut or filled to a size."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess.inputs import tensor_or_array

__all__ = ["crop_pad"]


@tensor_or_array
def crop_pad(x: Tensor, size: Sequence[int], *, value: float = 0.0) -> Tensor:
    """Cut or fill the last axes to a size, keeping the centre.

    Of an odd number of rows to add or to cut, the larger half is at the end. Padding undoes a crop
    of the same sizes except for what was cut, and a crop undoes padding exactly.

    Args:
        x: the last len(size) axes are changed.
        size: wanted size of these axes, such as (H, W) or (D, H, W).
        value: of the new voxels; air is −1000 HU, not 0.

    Returns:
        The type of x.

    Raises:
        DataError: a size that is not positive or names more axes than x has, or a value that the
            type of x cannot hold.
    """
    fits = np.iterable(size) and 1 <= len(size := tuple(size)) <= x.ndim
    if not fits or not all(isinstance(n, Integral) and n >= 1 for n in size):
        raise DataError(
            f"size must be whole numbers above 0, one for each of the last axes of "
            f"{tuple(x.shape)}; got {size}"
        )
    if torch.tensor(value).to(x.dtype).item() != value and not x.dtype.is_floating_point:
        raise DataError(f"value {value} cannot be stored as {x.dtype}: convert the image first")
    start = x.ndim - len(size)
    out = x.new_full((*x.shape[:start], *size), value)
    source, target = [...], [...]
    for n, wanted in zip(x.shape[start:], size, strict=True):
        cut, fill, kept = max(0, n - wanted) // 2, max(0, wanted - n) // 2, min(n, wanted)
        source.append(slice(cut, cut + kept))
        target.append(slice(fill, fill + kept))
    out[tuple(target)] = x[tuple(source)]
    return out
