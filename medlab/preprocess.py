"""What happens to an image before the first layer: window, normalise, resample, crop.

Every function takes a tensor or an array and gives back the same kind, on the same device; the last
two axes are rows and columns, any axes before them channels and images. Images that are empty, that
are no numbers or (but for `crop_pad` and labels) hold NaN or infinity raise a DataError, as do
options out of their range. Results are float32, or float64 if the image is, unless said otherwise.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from math import inf, isfinite, log, sqrt
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError

__all__ = ["crop_pad", "normalise", "resample", "window"]


def _tensor_or_array(function: Callable) -> Callable:
    """Let a function written for tensors take arrays too, and answer in kind."""

    @wraps(function)
    def either(x: ArrayLike, *args: Any, **options: Any) -> Any:
        result = function(_as_tensor(x), *args, **options)
        return result if torch.is_tensor(x) else result.cpu().numpy()

    return either


@_tensor_or_array
def window(x: Tensor, *, level: float, width: float) -> Tensor:
    """Show `width` values around `level` on the whole grey scale; what lies outside is clipped.

    This is DICOM's LINEAR, which counts in whole stored values: with level c and width w,
    y = (x − (c − 0.5)) / (w − 1) + 0.5, from 0 (black) to 1 (white).

    Args:
        x: values such as Hounsfield units, any shape; not uint8, which holds display grey levels.
        level: window centre, in the unit of x.
        width: window width ≥ 1, in the unit of x.

    Source: DICOM PS3.3, C.11.2.1.2.1.
    """
    values = _real(x)
    if x.dtype == torch.uint8:
        raise DataError(
            f"window needs measured values such as Hounsfield units, got uint8 from {x.min()} to "
            f"{x.max()}, windowed already: pass what the reader returned, or x.float() if meant"
        )
    if not (width >= 1 and isfinite(level)):
        raise DataError(f"a window needs a level and a width of at least 1, got {level}, {width}")
    if width == 1:  # the limit of the ramp: one step
        return (values > level - 0.5).to(values.dtype)
    return ((values - (level - 0.5)) / (width - 1) + 0.5).clamp(0, 1)


@_tensor_or_array
def normalise(x: Tensor, *, method: Literal["zscore", "percentile"] = "zscore") -> Tensor:
    """Bring images to a common scale, each by its own statistics.

    Args:
        x: (H, W), (C, H, W) or (D, H, W) is one image; (N, C, H, W) and (N, C, D, H, W) are N.
            For a stack of N grey images of shape (N, H, W) pass x[:, None].
        method: "zscore" gives mean 0 and standard deviation 1; "percentile" maps the 1st and the
            99th percentile to 0 and 1, and clips. Where there is no spread the result is 0.
    """
    if method not in ("zscore", "percentile"):
        raise DataError(f"method must be 'zscore' or 'percentile'; got {method!r}")
    x = _real(x)
    kept = x.shape[: int(x.ndim >= 4)]
    values = x.detach().cpu().numpy().reshape(*kept, -1)
    flat = _constant(values.min(-1), values.max(-1), values.dtype)
    if method == "zscore":
        # In double, since a sum over millions of pixels loses digits in single precision.
        start, spread = (f(values, axis=-1, dtype=np.float64) for f in (np.mean, np.std))
    else:
        start, end = np.percentile(values, [1, 99], axis=-1)
        flat |= _constant(start, end, values.dtype)
        spread = end - start
    spread = np.where(flat, inf, spread)
    offset, spread = (
        torch.as_tensor(s).to(x).view(*kept, *[1] * (x.ndim - len(kept))) for s in (start, spread)
    )
    scaled = (x - offset) / spread
    return scaled.clamp(0, 1) if method == "percentile" else scaled


@_tensor_or_array
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
    x = _real(x) if order else x
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


@_tensor_or_array
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


def _as_tensor(x: ArrayLike) -> Tensor:
    """An image as a tensor; one without numbers is refused."""
    if not torch.is_tensor(x):
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise DataError(f"an image is numbers, got an array of {array.dtype}")
        # torch knows no big-endian, extended or flipped arrays, which readers of files return.
        extended = array.dtype.kind == "f" and array.dtype.itemsize > 8
        native = np.float64 if extended else array.dtype.newbyteorder("=")
        x = torch.from_numpy(np.asarray(array, dtype=native, order="C"))
    if x.numel() == 0:
        raise DataError(f"the image is empty: its shape is {tuple(x.shape)}")
    return x


def _real(x: Tensor) -> Tensor:
    """As float32, or float64 if x is; what is complex or not finite is refused."""
    if x.is_complex():
        raise DataError(f"this step takes real numbers, got {x.dtype}: take its magnitude, x.abs()")
    x = x if x.dtype == torch.float64 else x.float()
    bad = int((~x.isfinite()).sum())
    if bad:
        raise DataError(f"{bad} of {x.numel()} values are NaN or infinite: replace them first")
    return x


def _constant(lowest: np.ndarray, highest: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """True where values of `dtype` from lowest to highest differ by no more than their rounding."""
    largest = np.maximum(np.abs(lowest), np.abs(highest))
    return highest - lowest <= np.finfo(dtype).eps * largest
