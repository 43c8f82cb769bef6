"""Grey levels brought to a scale: window, normalise, gamma, local equalisation."""

from __future__ import annotations

from math import inf, isfinite
from numbers import Integral
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess._arrays import as_tensor, constant, each_image, real, tensor_or_array, unit


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
        function: "linear", "linear_exact" or "sigmoid", as the header may say.

    Returns:
        0 (black) to 1 (white); float32, or float64 if x is.

    Raises:
        DataError: NaN or infinite values, a level that is no number, a width that shows nothing, an
            unknown function, or uint8, which holds display grey levels and not the values that a
            window chooses from.

    Source: DICOM PS3.3, C.11.2.1.2.1 and C.11.2.1.3.
    """
    values = real(x)
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
    if function == "sigmoid":
        return torch.sigmoid(4 * (values - level) / width)
    if function == "linear_exact":
        return ((values - level) / width + 0.5).clamp(0, 1)
    if width == 1:  # the limit of the ramp: one step
        return (values > level - 0.5).to(values.dtype)
    return ((values - (level - 0.5)) / (width - 1) + 0.5).clamp(0, 1)


@tensor_or_array
def normalise(
    x: Tensor,
    *,
    method: Literal["zscore", "minmax", "percentile"] = "zscore",
    per: Literal["image", "cohort"] = "image",
    reference: ArrayLike | None = None,
) -> Tensor:
    """Bring images to a common scale.

    "zscore" gives mean 0 and standard deviation 1; "minmax" maps the darkest value to 0 and the
    brightest to 1; "percentile" maps the 1st and the 99th percentile to 0 and 1 and clips, so that
    a single bright pixel does not decide. Where there is no spread (a constant image) the result
    is 0.

    Args:
        x: (H, W), (C, H, W) or (D, H, W) is one image; (N, C, H, W) and (N, C, D, H, W) are N.
            For a stack of N grey images of shape (N, H, W) pass x[:, None].
        method: "zscore", "minmax" or "percentile".
        per: whose statistics are used: each "image" its own, or one set for the whole "cohort".
        reference: with per="cohort", the images that the statistics come from: the training
            images, since statistics of test images leak; x itself if not given.

    Returns:
        The shape of x; float32, or float64 if x is.

    Raises:
        DataError: no values, NaN or infinite ones, or an unknown choice.
    """
    if per not in ("image", "cohort"):
        raise DataError(f"per must be 'image' or 'cohort', got {per!r}")
    if method not in ("zscore", "minmax", "percentile"):
        raise DataError(f"method must be 'zscore', 'minmax' or 'percentile', got {method!r}")
    if reference is not None and per != "cohort":
        raise DataError(f"reference is for per='cohort', where it fixes the scale; got per={per!r}")
    x = real(x)
    if x.ndim < 2:
        raise DataError(f"an image has at least rows and columns, got shape {tuple(x.shape)}")
    known = x if reference is None else real(as_tensor(reference))
    kept = known.shape[: int(per == "image" and x.ndim >= 4)]
    values = known.detach().cpu().numpy().reshape(*kept, -1)
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


@tensor_or_array
def gamma(x: Tensor, exponent: float) -> Tensor:
    """Brighten (exponent < 1) or darken (> 1) the middle greys: y = x^γ.

    Args:
        x: 0…1, any shape.
        exponent: γ > 0.

    Raises:
        DataError: values outside 0…1, or γ ≤ 0.
    """
    if not 0 < exponent < inf:
        raise DataError(f"exponent must be a number above 0, got {exponent}")
    return unit(x, "gamma") ** exponent


@tensor_or_array
def clahe(x: Tensor, *, clip: float = 0.01, tiles: int = 8) -> Tensor:
    """Contrast-limited adaptive histogram equalisation, each (H, W) image by itself.

    In each tile the histogram of 256 grey levels is clipped, what was cut off is spread over all
    levels, and its running sum is the tile's grey-scale curve; a pixel takes the curves of the four
    nearest tiles, interpolated. Before and after, the image is stretched to its full range. A
    constant image has no contrast to equalise and stays as it is.

    Args:
        x: (…, H, W), 0…1.
        clip: above 0, at most 1: the largest share of a tile's pixels that one grey level may
            hold, hence how steep a curve may become. 0.01 is usual, 1 limits nothing.
        tiles: along each side, ≥ 1.

    Raises:
        DataError: values outside 0…1, no image, or clip or tiles out of range.

    Source: Zuiderveld, Graphics Gems IV (1994), through `skimage.exposure.equalize_adapthist`.
    """
    from skimage.exposure import equalize_adapthist

    if not 0 < clip <= 1:  # scikit-image would take 0 for "no limit", the strongest contrast
        raise DataError(f"clip must be above 0 and at most 1; got {clip}")
    if not isinstance(tiles, Integral) or tiles < 1:
        raise DataError(f"tiles must be a whole number of at least 1; got {tiles!r}")
    x = unit(x, "clahe")
    kernel = [max(1, n // tiles) for n in x.shape[-2:]]

    def equalised(image: np.ndarray) -> np.ndarray:
        if constant(image.min(), image.max(), image.dtype):
            return image
        return equalize_adapthist(image, kernel, clip_limit=clip)

    return each_image(x, equalised)
