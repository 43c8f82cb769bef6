"""The window of a radiologist: a range of values on the whole grey scale."""

from __future__ import annotations

from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess.inputs import as_float, tensor_or_array

__all__ = ["window"]


@tensor_or_array
def window(
    x: Tensor,
    *,
    level: float,
    width: float,
    function: Literal["linear", "linear_exact", "sigmoid"] = "linear",
) -> Tensor:
    """Show `width` values around `level` on the whole grey scale; what lies outside is clipped.

    LINEAR is DICOM's default and counts in whole stored values: the window of level c and width w
    runs from c − 0.5 − (w − 1)/2, shown black, to c − 0.5 + (w − 1)/2, shown white:
    y = (x − (c − 0.5)) / (w − 1) + 0.5. LINEAR_EXACT runs from c − w/2 to c + w/2. SIGMOID is
    1 / (1 + exp(−4 (x − c) / w)).

    Args:
        x: values such as Hounsfield units, any shape; not uint8.
        level: window centre, in the unit of x.
        width: window width, in the unit of x; ≥ 1 if linear, else > 0.
        function: "linear", "linear_exact" or "sigmoid".

    Returns:
        0 (black) to 1 (white); float32, or float64 if x is.

    Raises:
        DataError: a level that is no number, a width that shows nothing, an unknown function, or
            uint8, which holds display grey levels and not the values that a window chooses from.

    Source: DICOM PS3.3, C.11.2.1.2.1 and C.11.2.1.3.
    """
    if x.dtype == torch.uint8:
        raise DataError(
            "window needs measured values such as Hounsfield units, got uint8 from "
            f"{int(x.min())} to {int(x.max())}, which has been windowed already: pass the values "
            "that the reader returned, or x.float() if 0…255 is really what you want to window"
        )
    least = {"linear": 1, "linear_exact": 0, "sigmoid": 0}
    if function not in least:
        raise DataError(f"function must be one of {', '.join(least)}; got {function!r}")
    if not (width >= 1 if function == "linear" else width > 0):
        raise DataError(
            f"a {function} window needs a width of {'at least 1' if least[function] else 'over 0'},"
            f" got {width}: width is how many values are shown, from black to white"
        )
    if not isfinite(level):
        raise DataError(f"level must be a number in the unit of the image, got {level}")
    x = as_float(x)
    if function == "sigmoid":
        return torch.sigmoid(4 * (x - level) / width)
    if function == "linear_exact":
        return ((x - level) / width + 0.5).clamp(0, 1)
    if width == 1:  # the limit of the ramp: one step
        return (x > level - 0.5).to(x.dtype)
    return ((x - (level - 0.5)) / (width - 1) + 0.5).clamp(0, 1)
