"""What happens to an image before the first layer: window, normalise, resample, crop, denoise.

Every function takes a tensor or an array and gives back the same kind, on the same device; the
last two axes are rows and columns, and any axes before them are channels and images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import ceil, log, pi, sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError

__all__ = ["clahe", "crop_pad", "denoise", "gamma", "normalise", "resample", "window"]


def _tensor_or_array(function: Callable) -> Callable:
    """Let a function written for tensors take arrays too, and answer in kind."""

    @wraps(function)
    def either(x, *args, **options):
        if torch.is_tensor(x):
            return function(x, *args, **options)
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise DataError(f"an image is numbers, got an array of {array.dtype}")
        # torch knows no big-endian and few unsigned types, which DICOM and TIFF readers return.
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return function(tensor, *args, **options).cpu().numpy()

    return either


@_tensor_or_array
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
        function: "linear", "linear_exact" or "sigmoid".

    Returns:
        0 (black) to 1 (white); float32, or float64 if x is.

    Raises:
        DataError: a width that shows nothing, an unknown function, or uint8, which holds display
            grey levels and not the values that a window chooses from.

    Source: DICOM PS3.3, C.11.2.1.2.1 and C.11.2.1.3.
    """
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
    x = _float(x)
    if function == "sigmoid":
        return torch.sigmoid(4 * (x - level) / width)
    if function == "linear_exact":
        return ((x - level) / width + 0.5).clamp(0, 1)
    if width == 1:  # the limit of the ramp: one step
        return (x > level - 0.5).to(x.dtype)
    return ((x - (level - 0.5)) / (width - 1) + 0.5).clamp(0, 1)


@_tensor_or_array
def normalise(
    x: Tensor,
    *,
    method: Literal["zscore", "minmax", "percentile"] = "zscore",
    per: Literal["image", "channel", "cohort"] = "image",
    low: float = 1.0,
    high: float = 99.0,
    reference=None,
) -> Tensor:
    """Bring images to a common scale.

    "zscore" gives mean 0 and standard deviation 1; "minmax" maps the darkest value to 0 and the
    brightest to 1; "percentile" maps two percentiles to 0 and 1 and clips, so that a single
    bright pixel does not decide. Where there is no spread (a constant image) the result is 0.

    Args:
        x: (H, W), (C, H, W) or (D, H, W) is one image; (N, C, H, W) and (N, C, D, H, W) are N.
            For a stack of N grey images of shape (N, H, W) pass x[:, None].
        method: "zscore", "minmax" or "percentile".
        per: whose statistics are used: each "image" its own, each "channel" of each image its
            own, or one set for the whole "cohort".
        low, high: percentiles, 0 ≤ low < high ≤ 100; for "percentile" only.
        reference: with per="cohort", the images that the statistics come from: the training
            images, since statistics of test images leak; x itself if not given.

    Returns:
        The shape of x; float32, or float64 if x is.

    Raises:
        DataError: NaN or infinite values, percentiles out of order, or an unknown choice.
    """
    if per not in ("image", "channel", "cohort"):
        raise DataError(f"per must be 'image', 'channel' or 'cohort', got {per!r}")
    if reference is not None and per != "cohort":
        raise DataError(f"reference is for per='cohort', where it fixes the scale; got per={per!r}")
    if not 0 <= low < high <= 100:
        raise DataError(f"percentiles must be 0 ≤ low < high ≤ 100, got {low} and {high}")
    if x.ndim < 2 or x.numel() == 0:
        raise DataError(f"an image has at least rows and columns, got shape {tuple(x.shape)}")
    x = _finite(_float(x))
    known = x
    if reference is not None:
        known = _finite(_float(torch.as_tensor(reference)))
    first = {"cohort": 0, "image": int(x.ndim >= 4), "channel": min(2, x.ndim - 2)}[per]
    kept = known.shape[:first]
    values = known.reshape(*kept, -1)
    offset, spread = (
        s.view(*kept, *[1] * (x.ndim - len(kept))) for s in _scale(values, method, low, high)
    )
    # A spread far below the rounding of the values is a constant image, not contrast.
    tiny = torch.finfo(x.dtype).eps * values.abs().amax(-1).view_as(spread)
    scaled = torch.where(spread > tiny, (x - offset.to(x)) / spread.clamp_min(1e-38).to(x), 0.0)
    return scaled.clamp(0, 1) if method == "percentile" else scaled


def _scale(values: Tensor, method: str, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Offset and spread over the last axis."""
    if method == "zscore":
        # In double, since a sum over millions of pixels loses digits in single precision.
        exact = values.double()
        offset = exact.mean(-1, keepdim=True)
        spread = (exact - offset).square().mean(-1).sqrt()
        return offset[..., 0].to(values), spread.to(values)
    if method == "minmax":
        start, end = values.amin(-1), values.amax(-1)
    elif method == "percentile":
        # torch.quantile refuses more than 16 million values, fewer than a cohort has.
        start, end = (_percentile(values, q) for q in (low, high))
    else:
        raise DataError(f"method must be 'zscore', 'minmax' or 'percentile', got {method!r}")
    return start, end - start


def _percentile(values: Tensor, q: float) -> Tensor:
    place = q / 100 * (values.shape[-1] - 1)
    below, above = (values.kthvalue(int(k) + 1, dim=-1).values for k in (place, ceil(place)))
    return torch.lerp(below, above, place - int(place))


@_tensor_or_array
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
        DataError: a spacing that is not positive or does not fit x, or an unknown order.

    Source: smoothing as in Cardoso et al., MICCAI (2015), "Scale factor point spread function
        matching".
    """
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
    return _interpolated(_finite(_float(x)), steps, sizes, order, antialias)


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


@_tensor_or_array
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
        DataError: a size that is not positive or names more axes than x has, or a value that the
            type of x cannot hold.
    """
    size = tuple(size)
    if not 1 <= len(size) <= x.ndim or any(n != int(n) or n < 1 for n in size):
        raise DataError(
            f"size must be whole numbers above 0, one for each of the last axes of "
            f"{tuple(x.shape)}; got {size}"
        )
    if torch.tensor(value).to(x.dtype).item() != value and not x.dtype.is_floating_point:
        raise DataError(f"value {value} cannot be stored as {x.dtype}: convert the image first")
    start = x.ndim - len(size)
    out = x.new_full((*x.shape[:start], *(int(n) for n in size)), value)
    source, target = [...], [...]
    for n, wanted in zip(x.shape[start:], size, strict=True):
        cut, fill, kept = max(0, n - wanted) // 2, max(0, wanted - n) // 2, min(n, int(wanted))
        source.append(slice(cut, cut + kept))
        target.append(slice(fill, fill + kept))
    out[tuple(target)] = x[tuple(source)]
    return out


@_tensor_or_array
def gamma(x: Tensor, exponent: float) -> Tensor:
    """Brighten (exponent < 1) or darken (> 1) the middle greys: y = x^γ.

    Args:
        x: 0…1, any shape.
        exponent: γ > 0.

    Raises:
        DataError: values outside 0…1, or γ ≤ 0.
    """
    if exponent <= 0:
        raise DataError(f"exponent must be above 0, got {exponent}")
    return _unit(x, "gamma") ** exponent


@_tensor_or_array
def clahe(x: Tensor, *, clip: float = 0.01, tiles: int = 8) -> Tensor:
    """Contrast-limited adaptive histogram equalisation, each (H, W) image by itself.

    Args:
        x: (…, H, W), 0…1.
        clip: 0 (no change of contrast) to 1; how steep the grey-scale curve of a tile may become.
        tiles: along each side.

    Raises:
        DataError: values outside 0…1.

    Source: Zuiderveld, Graphics Gems IV (1994), through `skimage.exposure.equalize_adapthist`.
    """
    from skimage.exposure import equalize_adapthist

    x = _unit(x, "clahe")
    kernel = [max(1, n // tiles) for n in x.shape[-2:]]
    return _each(x, lambda image: equalize_adapthist(image, kernel, clip_limit=clip))


@_tensor_or_array
def denoise(
    x: Tensor, *, method: Literal["median", "tv", "nlm"] = "nlm", strength: float = 1.0
) -> Tensor:
    """Remove noise, each (H, W) image by itself.

    The noise level σ is estimated from the image (Immerkær 1996). "median" takes the median of
    3×3 pixels; "tv" minimises total variation with weight strength · σ; "nlm" averages similar
    patches, with cut-off strength · 0.8 · σ.

    Args:
        x: (…, H, W), any range.
        method: "median", "tv" or "nlm".
        strength: 1 is usual, more is smoother; not used by "median".

    Raises:
        DataError: NaN or infinite values, or an unknown method.

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

    def cleaned(image: np.ndarray) -> np.ndarray:
        sigma = _noise_level(image)
        return methods[method](image, sigma) if sigma > 0 else image

    return _each(_finite(_float(x)), cleaned)


def _noise_level(image: np.ndarray) -> float:
    """Standard deviation of the noise, from what a difference of two Laplacians leaves."""
    from scipy.ndimage import convolve

    laplacians = np.outer([1, -2, 1], [1, -2, 1])  # blind to flat regions and straight edges
    left = convolve(image.astype(np.float64), laplacians, mode="nearest")[1:-1, 1:-1]
    return float(sqrt(pi / 2) / 6 * np.abs(left).mean()) if left.size else 0.0


def _each(x: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    images = x.detach().cpu().reshape(-1, *x.shape[-2:]).numpy()
    results = np.stack([function(image) for image in images]).astype(images.dtype)
    return torch.from_numpy(results).reshape(x.shape).to(x.device)


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _finite(x: Tensor) -> Tensor:
    bad = int((~x.isfinite()).sum())
    if bad:
        raise DataError(f"{bad} of {x.numel()} values are NaN or infinite: replace them first")
    return x


def _unit(x: Tensor, name: str) -> Tensor:
    x = _finite(_float(x))
    if x.min() < 0 or x.max() > 1:
        raise DataError(
            f"{name} needs values from 0 to 1, got {x.min():.4g} to {x.max():.4g}: window or "
            "normalise(method='minmax') first"
        )
    return x
