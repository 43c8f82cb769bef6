"""Noise taken out of an image, and the smooth shading that a receive coil lays over it."""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import pi, sqrt
from typing import Literal

import numpy as np
import torch
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike
from scipy.ndimage import convolve, gaussian_filter, median_filter
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess._arrays import as_tensor, each_image, real, tensor_or_array

SCALES = (0.7, 1.4, 2.8)  # pixels, of the Gaussians between which details lie
DEGREE = 3  # of the polynomial: a higher one follows anatomy too
MOST_ROUNDS = 200
MOST_VOXELS = 30_000  # more of them change the few coefficients by less than noise does
LEAST_SPREAD = 0.005  # of log intensity: a class of equal voxels would claim them all for ever
SETTLED = 1e-5  # largest change of the log field at which the iteration stops


@tensor_or_array
def denoise(
    x: Tensor,
    *,
    method: Literal["median", "tv", "nlm", "wavelets"] = "nlm",
    sigma: float | None = None,
) -> Tensor:
    """Remove noise from x (…, H, W), any range, each (H, W) image by itself.

    `sigma` is the noise's standard deviation σ, ≥ 0; if not given, it is estimated from the image
    as that of white noise (Immerkær 1996). `method` "median" takes the median of 3×3 pixels; "tv"
    minimises total variation with weight σ; "nlm" averages similar patches of 5×5 pixels up to 6
    pixels away, with cut-off 0.8 · σ; "wavelets" draws the differences of Gaussian scales towards 0
    by what white noise of σ has there.

    Source: Chambolle, J Math Imaging Vis 20:89 (2004); Buades et al., CVPR (2005); Immerkær,
        Comput Vis Image Underst 64:300 (1996), by `skimage.restoration`; Donoho, IEEE Trans Inf
        Theory 41:613 (1995), undecimated.
    """
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    methods = {
        "median": lambda image, sigma: median_filter(image, 3),
        "tv": denoise_tv_chambolle,
        "nlm": lambda image, sigma: denoise_nl_means(
            image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma
        ),
        "wavelets": _shrunk,
    }
    if sigma is not None and not sigma >= 0:
        raise DataError(f"sigma is a standard deviation, at least 0; got {sigma!r}")
    if method not in methods:
        raise DataError(f"method must be one of {', '.join(methods)}; got {method!r}")

    def cleaned(image: np.ndarray) -> np.ndarray:
        level = _noise_level(image) if sigma is None else sigma
        return methods[method](image, level) if level > 0 else image

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


def _noise_level(image: np.ndarray) -> float:
    """Standard deviation of the noise, from what a difference of two Laplacians leaves."""
    laplacians = np.outer([1, -2, 1], [1, -2, 1])  # blind to flat regions and straight edges
    left = convolve(image.astype(np.float64), laplacians, mode="nearest")[1:-1, 1:-1]
    return float(sqrt(pi / 2) / 6 * np.abs(left).mean()) if left.size else 0.0


@tensor_or_array
def bias_field(x: Tensor, mask: ArrayLike | None = None, *, classes: int = 3) -> Tensor:
    """Smooth field > 0, shape of x, that multiplies one MR image: Gaussian classes, a polynomial.

    log x_i = μ_k + p(i) + noise of standard deviation σ_k, with k the tissue of voxel i and p a
    polynomial of degree 3 of the coordinates, by expectation-maximisation. Corrected is x / field,
    whose geometric mean over the mask is 1. Beyond the mask the polynomial is extrapolated.

    Args:
        x: one image (H, W) or volume (D, H, W), magnitudes ≥ 0 in any unit.
        mask: same shape, nonzero where tissues lie (background holds noise and no field), ten
            voxels per unknown or more; all if not given. Voxels of 0 are left out.
        classes: number of tissues, ≥ 1. With one, large-scale anatomy is taken for shading.

    Source: Van Leemput et al., IEEE Trans Med Imaging 18:885 (1999), without its atlas. For
        patients' images use N4 (Tustison et al., ibid. 29:1310, 2010) in SimpleITK or ANTs.
    """
    x = real(x, least=0)
    if x.ndim not in (2, 3):
        raise DataError(f"give one image (H, W) or one volume (D, H, W); got {tuple(x.shape)}")
    values = x.detach().cpu().numpy().astype(np.float64)
    chosen = values if mask is None else as_tensor(mask).detach().cpu().numpy()
    if chosen.shape != values.shape:
        raise DataError(f"mask must have the shape of x, {values.shape}; got {chosen.shape}")
    inside = (values > 0) & (chosen != 0)
    along = [legvander(np.linspace(-1, 1, n), DEGREE) for n in values.shape]
    powers = [p for p in product(range(DEGREE + 1), repeat=x.ndim) if 0 < sum(p) <= DEGREE]
    least = 10 * (len(powers) + 3 * classes)
    if inside.sum() < least or classes < 1:
        raise DataError(
            f"a field with {classes} classes (≥ 1) needs at least {least} voxels above 0 in the "
            f"mask; it has {int(inside.sum())}"
        )

    def term(power: tuple[int, ...]) -> np.ndarray:
        """Product of Legendre polynomials, of the given degree along each axis, at all voxels."""
        return reduce(np.multiply.outer, [a[:, p] for a, p in zip(along, power, strict=True)])

    place = tuple(axis[:: -(-len(axis) // MOST_VOXELS)] for axis in np.nonzero(inside))
    terms = np.stack([term(power)[place] for power in powers], axis=1)
    weights = _fit(np.log(values[place]), terms, classes)
    log_field = sum(w * term(power) for w, power in zip(weights, powers, strict=True))
    return torch.from_numpy(np.exp(log_field - log_field[inside].mean())).to(x)


def _fit(y: np.ndarray, terms: np.ndarray, classes: int) -> np.ndarray:
    """Coefficients (K,) of `terms` (n, K) in y (n,) = class mean + terms @ coefficients + noise."""
    terms = terms - terms.mean(0)  # or else a constant could wander between field and classes
    mean = np.quantile(y, (np.arange(classes) + 0.5) / classes)
    spread = np.full(classes, max(y.std() / classes, LEAST_SPREAD))
    share = np.full(classes, 1 / classes)
    weights = np.zeros(terms.shape[1])
    for _ in range(MOST_ROUNDS):
        flat = (y - terms @ weights)[:, None]
        log_p = np.log(share / spread) - ((flat - mean) / spread) ** 2 / 2
        p = np.exp(log_p - log_p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        share = np.maximum(p.mean(0), 1e-12)
        mean = (p * flat).mean(0) / share
        spread = np.sqrt((p * (flat - mean) ** 2).mean(0) / share).clip(LEAST_SPREAD)
        certain = (p / spread**2).sum(1)
        expected = (p * mean / spread**2).sum(1) / certain
        weighted = terms * certain[:, None]
        new = np.linalg.lstsq(weighted.T @ terms, weighted.T @ (y - expected), rcond=None)[0]
        moved = np.abs(terms @ (new - weights)).max()
        weights = new
        if moved < SETTLED:
            break
    return weights
