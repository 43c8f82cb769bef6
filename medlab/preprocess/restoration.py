"""Noise taken out of an image."""

from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess._arrays import each_image, real, tensor_or_array

SCALES = (0.7, 1.4, 2.8)  # pixels, of the Gaussians between which details lie


@tensor_or_array
def denoise(x: Tensor, *, method: Literal["tv", "nlm", "wavelets"], sigma: float) -> Tensor:
    """Remove noise from x (…, H, W), any range, each (H, W) image by itself.

    `sigma` is the noise's standard deviation σ, ≥ 0. `method` "tv" minimises total variation with
    weight σ; "nlm" averages similar patches of 5×5 pixels up to 6 pixels away, with cut-off
    0.8 · σ; "wavelets" draws the differences of Gaussian scales towards 0 by what white noise of σ
    has there.

    Source: Chambolle, J Math Imaging Vis 20:89 (2004); Buades et al., CVPR (2005), by
        `skimage.restoration`; Donoho, IEEE Trans Inf Theory 41:613 (1995), undecimated.
    """
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    methods = {
        "tv": denoise_tv_chambolle,
        "nlm": lambda image, sigma: denoise_nl_means(
            image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma
        ),
        "wavelets": _shrunk,
    }
    if not sigma >= 0:
        raise DataError(f"sigma is a standard deviation, at least 0; got {sigma!r}")
    if method not in methods:
        raise DataError(f"method must be one of {', '.join(methods)}; got {method!r}")

    def cleaned(image: np.ndarray) -> np.ndarray:
        return methods[method](image, sigma) if sigma > 0 else image

    return each_image(real(x), cleaned)


def _shrunk(image: np.ndarray, sigma: float) -> np.ndarray:
    """Details nearer to 0 by σ times the length of their filter, which an impulse shows."""
    impulse, details = np.pad(np.ones((1, 1)), 24), np.zeros_like(image)
    for scale in SCALES:
        smooth, blurred = (gaussian_filter(v, scale, mode="nearest") for v in (image, impulse))
        size = sigma * np.linalg.norm(impulse - blurred)
        details += np.sign(image - smooth) * np.maximum(np.abs(image - smooth) - size, 0)
        image, impulse = smooth, blurred
    return image + details
