"""Grey scales bent to show more: gamma and histogram equalisation."""

from __future__ import annotations

from math import inf
from numbers import Integral

from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess.inputs import each_image, tensor_or_array, unit

__all__ = ["clahe", "gamma"]


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
    nearest tiles, interpolated. Before and after, the image is stretched to its full range.

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
    return each_image(x, lambda image: equalize_adapthist(image, kernel, clip_limit=clip))
