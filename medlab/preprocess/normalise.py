"""Images on a common scale."""

from __future__ import annotations

from math import ceil
from typing import Literal

import torch
from torch import Tensor

from medlab.errors import DataError
from medlab.preprocess.inputs import as_float, as_tensor, finite, tensor_or_array

__all__ = ["normalise"]


@tensor_or_array
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
        DataError: no values, NaN or infinite ones, percentiles out of order, or an unknown choice.
    """
    if per not in ("image", "channel", "cohort"):
        raise DataError(f"per must be 'image', 'channel' or 'cohort', got {per!r}")
    if reference is not None and per != "cohort":
        raise DataError(f"reference is for per='cohort', where it fixes the scale; got per={per!r}")
    if not 0 <= low < high <= 100:
        raise DataError(f"percentiles must be 0 ≤ low < high ≤ 100, got {low} and {high}")
    if x.ndim < 2 or x.numel() == 0:
        raise DataError(f"an image has at least rows and columns, got shape {tuple(x.shape)}")
    x = finite(as_float(x))
    known = x
    if reference is not None:
        known = finite(as_float(as_tensor(reference)))
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
