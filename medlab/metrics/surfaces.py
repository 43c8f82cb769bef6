"""How far two outlines of one structure lie apart, in millimetres."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import KDTree
from torch import Tensor

from medlab.errors import DataError
from medlab.metrics.agreement import labelled


def hausdorff(
    masks: ArrayLike,
    predicted: ArrayLike,
    *,
    spacing: Sequence[float],
    percentile: float = 95.0,
    num_classes: int | None = None,
) -> Tensor:
    """Hausdorff distance of each structure in each image, in mm: how far the outlines stray.

    The larger of two percentiles: of the distances from each surface pixel of the truth to the
    nearest one of the prediction, and of those back. Surface are the pixels of a structure with a
    neighbour outside it across an edge (in volumes, a face). Beyond the image all is outside: what
    the image's border cuts off has surface there. So does MONAI; MedPy takes one percentile of both
    directions together, and others put surfaces between pixels.

    NaN where neither mask holds the structure, inf where one does alone. A mean that skips inf
    rewards a miss: give the median over images (`np.nanmedian`, which counts inf as the worst), or
    the mean of those found beside the share that was missed.

    >>> truth, found = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    >>> truth[0, 2:5, 2:5], found[0, 2:5, 4:7] = 1, 1
    >>> hausdorff(truth, found, spacing=(1.0, 0.5))  # two columns of 0.5 mm
    tensor([[1.]], dtype=torch.float64)

    Args:
        masks: (N, *size); `dice` tells of it, of the next, and of the result (N, K − 1).
        predicted: (N, *size), or scores (N, K, *size).
        spacing: mm between pixel centres along each axis of size, as a cohort's `spacing`.
        percentile: above 0, interpolated linearly; 100 is the maximum, which one pixel decides.
        num_classes: K, background included.

    Raises:
        DataError: masks, spacing or percentile that do not fit.

    Source: Huttenlocher et al., IEEE Trans Pattern Anal Mach Intell 15:850 (1993), eq. 1 and 3.
    """
    if not 0 < percentile <= 100:
        raise DataError(f"percentile must lie above 0 and be at most 100, got {percentile}")

    def farthest(there: np.ndarray, back: np.ndarray) -> float:
        if not (there.size and back.size):
            return math.inf
        return max(np.percentile(there, percentile), np.percentile(back, percentile))

    return _each(farthest, masks, predicted, spacing, num_classes)


def surface_dice(
    masks: ArrayLike,
    predicted: ArrayLike,
    *,
    tolerance_mm: float,
    spacing: Sequence[float],
    num_classes: int | None = None,
) -> Tensor:
    """Share of both outlines that lies within a tolerance of the other, 0…1, for each structure.

    Surface pixels are those of `hausdorff`, and each counts alike, as in MONAI; the source weighs
    pieces of surface between voxels by their area. `tolerance_mm`, ≥ 0, is to be what two experts
    differ by. NaN where neither mask holds the structure, 0 where one holds it alone, so that
    `nanmean` does not reward a miss. The rest is as for `hausdorff`.

    Source: Nikolov et al., J Med Internet Res 23:e26151 (2021), doi:10.2196/26151.
    """
    if not 0 <= tolerance_mm < math.inf:
        raise DataError(f"tolerance_mm must be a finite distance of at least 0, got {tolerance_mm}")
    limit = tolerance_mm * (1 + 1e-9)  # 3 · 0.1 mm lies within 0.3 mm

    def within(there: np.ndarray, back: np.ndarray) -> float:
        return ((there <= limit).sum() + (back <= limit).sum()) / (there.size + back.size)

    return _each(within, masks, predicted, spacing, num_classes)


def _each(
    measure: Callable[[np.ndarray, np.ndarray], float],
    masks: ArrayLike,
    predicted: ArrayLike,
    spacing: Sequence[float],
    num_classes: int | None,
) -> Tensor:
    """The measure of distances truth → prediction and back for each structure, (N, K − 1)."""
    truth, found, num_classes = labelled(masks, predicted, num_classes)
    steps = np.asarray(spacing, dtype=float)
    if steps.shape != (truth.ndim - 1,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise DataError(
            f"spacing must be {truth.ndim - 1} lengths in mm, one for each axis of masks "
            f"{tuple(truth.shape)}; got {spacing}"
        )
    values = torch.full((len(truth), num_classes - 1), math.nan, dtype=torch.float64)
    for i, (a, b) in enumerate(zip(truth.cpu().numpy(), found.cpu().numpy(), strict=True)):
        for k in range(1, num_classes):
            if (a == k).any() or (b == k).any():
                values[i, k - 1] = measure(*_distances(a == k, b == k, steps))
    return values


def _distances(a: np.ndarray, b: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each surface pixel of a to the nearest of b, and back; inf where the other is empty."""
    box = find_objects((a | b).astype(np.uint8))[0]
    points = [np.argwhere(m & ~binary_erosion(m)) * steps for m in (a[box], b[box])]
    return KDTree(points[1]).query(points[0])[0], KDTree(points[0]).query(points[1])[0]
