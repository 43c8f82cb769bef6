"""An image on a grid of another spacing."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess.inputs import as_float, finite, tensor_or_array

__all__ = ["resample"]


@tensor_or_array
def resample(
    x: Tensor,
    *,
    spacing: Sequence[float],
    to: float | Sequence[float],
    order: int = 1,
    antialias: bool = True,
) -> Tensor:
    """Sample an image anew on a grid of another spacing.

    A voxel's value belongs to the centre of the voxel. The centre of the first voxel stays where
    it is (as DICOM's ImagePositionPatient and NIfTI's origin give it), so new voxel i lies at
    i · to millimetres from it, and the new grid ends at or before the last old centre: no value is
    invented outside the data. n voxels at spacing s become ⌊(n − 1) · s / to⌋ + 1.

    Where the new grid is coarser the image is smoothed first, or else detail finer than the new
    grid would come back as false structure (aliasing). The Gaussian widens a point of full width s
    at half maximum to full width `to`: σ = √(to² − s²) / (2 √(2 ln 2)) millimetres.

    Args:
        x: the last len(spacing) axes are space, any axes before them channels and images.
        spacing: millimetres between voxel centres along each of these axes, as (row, column) or
            (slice, row, column).
        to: wanted spacing, one number or one per axis.
        order: 0 nearest (for labels, whose numbers are names), 1 linear, 3 cubic spline.
        antialias: smooth before a coarser grid; never done at order 0.

    Returns:
        Order 0: the type of x; else float32, or float64 if x is.

    Raises:
        DataError: a spacing that is not positive or does not fit x, an unknown order, or (but for
            order 0) values that are NaN or infinite.

    Source: smoothing as in Cardoso et al., MICCAI (2015), "Scale factor point spread function
        matching".
    """
    if np.ndim(spacing) != 1:
        raise DataError(f"spacing has one number per axis, such as (row, column); got {spacing}")
    spacing = tuple(float(s) for s in spacing)
    wanted = (float(to),) * len(spacing) if np.ndim(to) == 0 else tuple(float(t) for t in to)
    if not 1 <= len(spacing) <= x.ndim or len(wanted) != len(spacing):
        raise DataError(
            f"spacing {spacing} and to {wanted} must name the last axes of an image of shape "
            f"{tuple(x.shape)}, one number per axis"
        )
    if not all(0 < s < float("inf") for s in spacing + wanted):
        raise DataError(f"spacings are millimetres above 0, got {spacing} and {wanted}")
    if order not in (0, 1, 3):
        raise DataError(f"order must be 0 (labels), 1 (linear) or 3 (cubic), got {order}")
    steps = [t / s for s, t in zip(spacing, wanted, strict=True)]
    axes = range(x.ndim - len(spacing), x.ndim)
    # The sliver keeps a last voxel that rounding would put just past the end.
    sizes = [int((x.shape[a] - 1) / k + 1e-6) + 1 for a, k in zip(axes, steps, strict=True)]
    if order == 0:
        for axis, step, size in zip(axes, steps, sizes, strict=True):
            nearest = (torch.arange(size, dtype=torch.float64) * step + 0.5).floor().long()
            x = x.index_select(axis, nearest.clamp_max(x.shape[axis] - 1).to(x.device))
        return x
    return _interpolated(finite(as_float(x)), steps, sizes, order, antialias)


def _interpolated(x: Tensor, steps, sizes, order: int, antialias: bool) -> Tensor:
    from scipy import ndimage

    array = x.detach().cpu().numpy()
    images = array.reshape(-1, *array.shape[x.ndim - len(steps) :])
    out = np.empty((len(images), *sizes), array.dtype)
    blur = [sqrt(max(0.0, step**2 - 1) / (8 * log(2))) for step in steps]
    for image, result in zip(images, out, strict=True):
        if antialias and any(blur):
            image = ndimage.gaussian_filter(image, blur, mode="nearest")
        ndimage.affine_transform(
            image, steps, output_shape=tuple(sizes), output=result, order=order, mode="nearest"
        )
    return torch.from_numpy(out.reshape(*array.shape[: x.ndim - len(steps)], *sizes)).to(x.device)
