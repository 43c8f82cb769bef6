"""An image or a volume on another grid: another spacing, another size."""

from collections.abc import Sequence
from math import log, sqrt

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError
from medlab.preprocess._arrays import real, tensor_or_array


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

    The centre of the first voxel stays (DICOM's and NIfTI's origin), new voxel i lies i · to
    millimetres from it: n voxels at spacing s become ⌊(n − 1) · s / to⌋ + 1, at any order.

    Args:
        x: the last len(spacing) axes are space, any axes before them channels and images.
        spacing: millimetres between centres, (row, column) or (slice, row, column).
        to: wanted spacing, one number or one per axis.
        order: 0 nearest (for labels, whose numbers are names; x keeps its type) or 1 linear.
        antialias: before a coarser grid, widen points of full width s at half maximum to full
            width `to` by a Gaussian of σ = √(to² − s²) / (2 √(2 ln 2)) mm; never at order 0.

    Source: Cardoso et al., Scale factor point spread function matching, MICCAI (2015).
    """
    old = np.asarray(spacing, dtype=float)
    new = np.broadcast_to(np.asarray(to, dtype=float), old.shape)
    steps = (new / old).tolist() if old.ndim == 1 and len(old) <= x.ndim else []
    if not steps or not all(0 < s < np.inf for s in (*old, *new)) or order not in (0, 1):
        raise DataError(
            "spacing and to are mm above 0, one number per axis, such as (row, column), and order "
            f"must be 0 or 1; got {spacing}, {to} and {order} for shape {tuple(x.shape)}"
        )
    x = real(x) if order else x
    first = x.ndim - len(steps)
    if order and antialias:
        sigmas = [0.0] * first + [sqrt(max(0, k**2 - 1) / (8 * log(2))) for k in steps]
        smooth = gaussian_filter(x.detach().cpu().numpy(), sigmas, mode="nearest")
        x = torch.from_numpy(smooth).to(x)
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


@tensor_or_array
def crop_pad(x: Tensor, size: Sequence[int], *, value: float = 0.0) -> Tensor:
    """Cut or fill the last axes to a size, keeping the centre and the type.

    Of an odd number of rows to add or to cut, the larger half is at the end.

    Args:
        x: the last len(size) axes are changed.
        size: wanted size of these axes, such as (H, W) or (D, H, W).
        value: of the new voxels, which the type of x must be able to hold; air is −1000 HU, not 0.
    """
    if not 1 <= len(size) <= x.ndim or min(size) < 1:
        raise DataError(f"size must be whole numbers above 0 for axes of {tuple(x.shape)}: {size}")
    if torch.tensor(value).to(x.dtype).item() != value and not x.dtype.is_floating_point:
        raise DataError(f"value {value} cannot be stored as {x.dtype}: convert the image first")
    margins: list[int] = []  # torch counts from the last axis; a negative margin cuts
    for n, wanted in zip(reversed(x.shape), reversed(size), strict=False):
        start = int((wanted - n) / 2)
        margins += [start, wanted - n - start]
    return functional.pad(x, margins, value=value)
