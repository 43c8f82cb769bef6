"""The smooth shading that a receive coil lays over an MR image, found and divided out."""

from __future__ import annotations

from functools import reduce
from itertools import product

import numpy as np
import torch
from numpy.polynomial.legendre import legvander
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess.inputs import as_float, finite, tensor_or_array

__all__ = ["bias_field", "correct_bias"]

MOST_VOXELS = 30_000  # more of them change the few coefficients by less than noise does
LEAST_SPREAD = 0.005  # of log intensity: a class of equal voxels would claim them all for ever
SETTLED = 1e-5  # largest change of the log field at which the iteration stops


@tensor_or_array
def bias_field(
    x: Tensor, mask=None, *, degree: int = 3, classes: int = 3, iterations: int = 200
) -> Tensor:
    """Smooth multiplicative field of one MR image, by Gaussian classes and a polynomial.

    Model, at voxel i: log x_i = μ_k + p(i) + noise of standard deviation σ_k, where k is the tissue
    of voxel i and p a polynomial of the coordinates. Expectation-maximisation alternates between
    the probability of each tissue in each voxel, the classes' means, spreads and shares, and a
    weighted least-squares fit of p to what the tissues leave unexplained. With one class this is
    an ordinary polynomial fit of the logarithm, which takes large-scale anatomy for shading.

    Image and field are known only up to a common factor: the field's geometric mean over the mask
    is set to 1. Where the mask does not reach, the polynomial is extrapolated.

    Args:
        x: one image (H, W) or volume (D, H, W), magnitudes ≥ 0 in any unit.
        mask: same shape, nonzero where the tissues to learn from lie (without background, which
            holds noise and no field); where x > 0 if not given. Voxels of 0 are left out.
        degree: of the polynomial, 1 … 6. Higher follows faster changes, and anatomy too.
        classes: number of tissues, 1 … 99: for a brain three, white and grey matter and fluid.
        iterations: at most, ≥ 1; it stops earlier when the log field changes by less than 1e-5.

    Returns:
        The field, > 0, shape of x; float32, or float64 if x is.

    Raises:
        DataError: not one image, negative or NaN values, a mask of another shape or with fewer
            than ten voxels per unknown, or an option out of its range.

    Source: Van Leemput et al., IEEE Trans Med Imaging 18:885 (1999), without its atlas. For
        patients' images use N4 (Tustison et al., IEEE Trans Med Imaging 29:1310, 2010), which
        SimpleITK and ANTs carry.
    """
    x = finite(as_float(x))
    if x.ndim not in (2, 3):
        raise DataError(f"give one image (H, W) or one volume (D, H, W); got {tuple(x.shape)}")
    if degree not in range(1, 7) or classes not in range(1, 100) or iterations < 1:
        raise DataError(
            f"degree must be 1 … 6, classes 1 … 99 (whole numbers) and iterations at least 1; got "
            f"{degree}, {classes} and {iterations}"
        )
    if (x < 0).any():
        raise DataError(
            f"a field multiplies magnitudes ≥ 0, got values down to {x.min():.4g}: correct the "
            "image before it is standardised"
        )
    values = x.detach().cpu().numpy().astype(np.float64)
    inside = (values > 0) & _mask(mask, values.shape)
    along = [legvander(np.linspace(-1, 1, n), degree) for n in values.shape]
    powers = [p for p in product(range(degree + 1), repeat=x.ndim) if 0 < sum(p) <= degree]
    least = 10 * (len(powers) + 3 * classes)
    if inside.sum() < least:
        raise DataError(
            f"degree {degree} and {classes} classes need at least {least} voxels above 0 in the "
            f"mask; it has {int(inside.sum())}"
        )
    place = np.nonzero(inside)
    place = tuple(axis[:: -(-len(axis) // MOST_VOXELS)] for axis in place)
    terms = np.stack([_term(along, power)[place] for power in powers], axis=1)
    weights = _fit(np.log(values[place]), terms, classes, iterations)
    log_field = sum(w * _term(along, power) for w, power in zip(weights, powers, strict=True))
    return torch.from_numpy(np.exp(log_field - log_field[inside].mean())).to(x)


@tensor_or_array
def correct_bias(x: Tensor, mask=None, **options) -> Tensor:
    """The image divided by its estimated `bias_field`, whose arguments it takes."""
    return as_float(x) / bias_field(x, mask, **options)


def _mask(mask, shape: tuple[int, ...]) -> np.ndarray:
    if mask is None:
        return np.ones(shape, dtype=bool)
    array = mask.detach().cpu().numpy() if torch.is_tensor(mask) else np.asarray(mask)
    if array.shape != shape:
        raise DataError(f"mask must have the shape of x, {shape}; got {array.shape}")
    return array != 0


def _term(along: list[np.ndarray], power: tuple[int, ...]) -> np.ndarray:
    """One product of Legendre polynomials, of the given degree along each axis, at all voxels."""
    return reduce(np.multiply.outer, [a[:, p] for a, p in zip(along, power, strict=True)])


def _fit(y: np.ndarray, terms: np.ndarray, classes: int, iterations: int) -> np.ndarray:
    """Coefficients (K,) of `terms` (n, K) in y (n,) = class mean + terms @ coefficients + noise."""
    terms = terms - terms.mean(0)  # or else a constant could wander between field and classes
    mean = np.quantile(y, (np.arange(classes) + 0.5) / classes)
    spread = np.full(classes, max(y.std() / classes, LEAST_SPREAD))
    share = np.full(classes, 1 / classes)
    weights = np.zeros(terms.shape[1])
    for _ in range(iterations):
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
