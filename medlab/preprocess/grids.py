"""An image or a volume on another grid: another spacing, another size."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt
from numbers import Integral

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError
from medlab.preprocess._arrays import not_empty, real, tensor_or_array


@tensor_or_array
def resample(
    x: Tensor,
    *,
    spacing: Sequence[float],
    to: float | Sequence[float],
    order: int = 1,
    antialias: bool = True,
) -> Tensor:
    """Sample an image or a volume anew on a grid of another spacing.

    A voxel's value belongs to the centre of the voxel. The centre of the first voxel stays where
    it is (as DICOM's ImagePositionPatient and NIfTI's origin give it), so new voxel i lies at
    i · to millimetres from it, and the new grid ends at or before the last old centre: no value is
    invented outside the data. n voxels at spacing s become ⌊(n − 1) · s / to⌋ + 1, at any order: a
    mask resampled with order=0 fits its image.

    Where the new grid is coarser the image is smoothed first, or else detail finer than the new
    grid would come back as false structure (aliasing). The Gaussian widens a point of full width s
    at half maximum to full width `to`: σ = √(to² − s²) / (2 √(2 ln 2)) millimetres.

    Args:
        x: the last len(spacing) axes are space, any axes before them channels and images.
        spacing: millimetres between voxel centres along each of these axes, as (row, column) or
            (slice, row, column).
        to: wanted spacing, one number or one per axis.
        order: 0 nearest (for labels, whose numbers are names) or 1 linear.
        antialias: smooth before a coarser grid; never done at order 0.

    Returns:
        Order 0: the type of x; else float32, or float64 if x is.

    Raises:
        DataError: a spacing that is not positive or does not fit x, an unknown order, an empty
            image, or (but for order 0) values that are NaN or infinite.

    Source: smoothing as in Cardoso et al., MICCAI (2015), "Scale factor point spread function
        matching".
    """
    if np.ndim(spacing) != 1:
        raise DataError(f"spacing has one number per axis, such as (row, column); got {spacing}")
    spacing = tuple(float(s) for s in spacing)
    wanted = tuple(float(t) for t in np.atleast_1d(to)) * (1 if np.ndim(to) else len(spacing))
    if not 1 <= len(spacing) <= x.ndim or len(wanted) != len(spacing):
        raise DataError(
            f"spacing {spacing} and to {wanted} must name the last axes of an image of shape "
            f"{tuple(x.shape)}, one number per axis"
        )
    if not all(0 < s < float("inf") for s in spacing + wanted):
        raise DataError(f"spacings are millimetres above 0, got {spacing} and {wanted}")
    if order not in (0, 1):
        raise DataError(f"order must be 0 (labels) or 1 (linear), got {order}")
    x = real(x) if order else not_empty(x)
    steps = [t / s for s, t in zip(spacing, wanted, strict=True)]
    first = x.ndim - len(steps)
    if order and antialias:
        x = _smoothed(x, [0.0] * first + [sqrt(max(0, k**2 - 1) / (8 * log(2))) for k in steps])
    for axis, step in enumerate(steps, first):
        n = x.shape[axis]
        # The sliver keeps a last voxel that rounding would put just past the end.
        at = torch.arange(int((n - 1) / step + 1e-6) + 1, dtype=torch.float64) * step
        at = at.clamp_max(n - 1).to(x.device)
        if order == 0:
            x = x.index_select(axis, (at + 0.5).floor().long().clamp_max(n - 1))
        else:
            left, right = at.floor().long(), at.ceil().long()
            share = (at - left).to(x.dtype).view(-1, *[1] * (x.ndim - 1 - axis))
            x = torch.lerp(x.index_select(axis, left), x.index_select(axis, right), share)
    return x


def _smoothed(x: Tensor, sigmas: list[float]) -> Tensor:
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(x.detach().cpu().numpy(), sigmas, mode="nearest")).to(x)


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
        DataError: an empty image, a size that is not positive or names more axes than x has, or a
            value that the type of x cannot hold.
    """
    fits = np.iterable(size) and 1 <= len(size := tuple(size)) <= x.ndim
    if not fits or not all(isinstance(n, Integral) and n >= 1 for n in size):
        raise DataError(
            f"size must be whole numbers above 0, one for each of the last axes of "
            f"{tuple(x.shape)}; got {size}"
        )
    if torch.tensor(value).to(x.dtype).item() != value and not x.dtype.is_floating_point:
        raise DataError(f"value {value} cannot be stored as {x.dtype}: convert the image first")
    margins: list[int] = []  # torch counts from the last axis; a negative margin cuts
    for n, wanted in zip(reversed(not_empty(x).shape), reversed(size), strict=False):
        start = int((wanted - n) / 2)
        margins += [start, wanted - n - start]
    return functional.pad(x, margins, value=value)
