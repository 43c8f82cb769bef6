"""Noise removed from one picture."""

from __future__ import annotations

from math import inf, pi, sqrt
from typing import Literal

import numpy as np
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess.inputs import as_float, each_image, finite, tensor_or_array

__all__ = ["denoise"]


@tensor_or_array
def denoise(
    x: Tensor, *, method: Literal["median", "tv", "nlm"] = "nlm", strength: float = 1.0
) -> Tensor:
    """Remove noise, each (H, W) image by itself.

    The noise level σ is estimated from the image (Immerkær 1996). "median" takes the median of
    3×3 pixels; "tv" minimises total variation with weight strength · σ; "nlm" averages similar
    patches of 5×5 pixels up to 6 pixels away, with cut-off strength · 0.8 · σ.

    Args:
        x: (…, H, W), any range.
        method: "median", "tv" or "nlm".
        strength: above 0; 1 is usual, more is smoother; not used by "median".

    Returns:
        The shape and unit of x; float32, or float64 if x is.

    Raises:
        DataError: NaN or infinite values, no image, an unknown method, or a strength of 0 or less.

    Source: Chambolle, J Math Imaging Vis 20:89 (2004); Buades, Coll & Morel, CVPR (2005); both
        through `skimage.restoration`. Immerkær, Comput Vis Image Underst 64:300 (1996).
    """
    from scipy.ndimage import median_filter
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    methods = {
        "median": lambda image, sigma: median_filter(image, 3),
        "tv": lambda image, sigma: denoise_tv_chambolle(image, strength * sigma),
        "nlm": lambda image, sigma: denoise_nl_means(
            image, patch_size=5, patch_distance=6, h=strength * 0.8 * sigma, sigma=sigma
        ),
    }
    if method not in methods:
        raise DataError(f"method must be one of {', '.join(methods)}; got {method!r}")
    if not 0 < strength < inf:
        raise DataError(f"strength must be a number above 0; got {strength}")

    def cleaned(image: np.ndarray) -> np.ndarray:
        sigma = _noise_level(image)
        return methods[method](image, sigma) if sigma > 0 else image

    return each_image(finite(as_float(x)), cleaned)


def _noise_level(image: np.ndarray) -> float:
    """Standard deviation of the noise, from what a difference of two Laplacians leaves."""
    from scipy.ndimage import convolve

    laplacians = np.outer([1, -2, 1], [1, -2, 1])  # blind to flat regions and straight edges
    left = convolve(image.astype(np.float64), laplacians, mode="nearest")[1:-1, 1:-1]
    return float(sqrt(pi / 2) / 6 * np.abs(left).mean()) if left.size else 0.0
