"""Grey levels brought to a scale: window, normalise."""

from math import inf, isfinite
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess._arrays import constant, real, tensor_or_array


@tensor_or_array
def window(x: Tensor, *, level: float, width: float) -> Tensor:
    """Show `width` values around `level` on the whole grey scale; what lies outside is clipped.

    This is DICOM's LINEAR, which counts in whole stored values: with level c and width w,
    y = (x − (c − 0.5)) / (w − 1) + 0.5, from 0 (black) to 1 (white).

    Args:
        x: values such as Hounsfield units, any shape; not uint8, which holds display grey levels.
        level: window centre, in the unit of x.
        width: window width ≥ 1, in the unit of x.

    Source: DICOM PS3.3, C.11.2.1.2.1.
    """
    values = real(x)
    if x.dtype == torch.uint8:
        raise DataError(
            f"window needs measured values such as Hounsfield units, got uint8 from {x.min()} to "
            f"{x.max()}, windowed already: pass what the reader returned, or x.float() if meant"
        )
    if not (width >= 1 and isfinite(level)):
        raise DataError(f"a window needs a level and a width of at least 1, got {level}, {width}")
    if width == 1:  # the limit of the ramp: one step
        return (values > level - 0.5).to(values.dtype)
    return ((values - (level - 0.5)) / (width - 1) + 0.5).clamp(0, 1)


@tensor_or_array
def normalise(x: Tensor, *, method: Literal["zscore", "minmax", "percentile"] = "zscore") -> Tensor:
    """Bring images to a common scale, each by its own statistics.

    Args:
        x: (H, W), (C, H, W) or (D, H, W) is one image; (N, C, H, W) and (N, C, D, H, W) are N.
            For a stack of N grey images of shape (N, H, W) pass x[:, None].
        method: "zscore" gives mean 0 and standard deviation 1; "minmax" maps darkest and brightest
            value to 0 and 1; "percentile" so the 1st and the 99th percentile, and clips. Where
            there is no spread the result is 0.
    """
    if method not in ("zscore", "minmax", "percentile"):
        raise DataError(f"method must be 'zscore', 'minmax' or 'percentile'; got {method!r}")
    x = real(x)
    kept = x.shape[: int(x.ndim >= 4)]
    values = x.detach().cpu().numpy().reshape(*kept, -1)
    start, end = values.min(-1), values.max(-1)
    flat = constant(start, end, values.dtype)
    if method == "percentile":
        start, end = np.percentile(values, [1, 99], axis=-1)
        flat |= constant(start, end, values.dtype)
    spread = end - start
    if method == "zscore":
        # In double, since a sum over millions of pixels loses digits in single precision.
        start, spread = (f(values, axis=-1, dtype=np.float64) for f in (np.mean, np.std))
    spread = np.where(flat, inf, spread)
    offset, spread = (
        torch.as_tensor(s).to(x).view(*kept, *[1] * (x.ndim - len(kept))) for s in (start, spread)
    )
    scaled = (x - offset) / spread
    return scaled.clamp(0, 1) if method == "percentile" else scaled
