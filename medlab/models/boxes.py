"""Boxes, x0, y0, x1, y1 in pixels: how much two share, and the best one of many."""

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union |A ∩ B| / |A ∪ B| of each box of `a` with each of `b`.

    1 for equal boxes, 0 for boxes that only touch, NaN (0 / 0) for two without an area.

    >>> box_iou(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 0, 6, 4], [4, 0, 8, 4]]))
    tensor([[0.3333, 0.0000]])

    `a` (M, 4) and `b` (N, 4) give (M, N) of their floating type; of another shape a `DataError`.

    Source: Jaccard, Bull. Soc. Vaud. Sci. Nat. 37:547 (1901), of areas.
    """
    for boxes in (a, b):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DataError(
                f"boxes must be (M, 4): x0, y0, x1, y1; got {tuple(boxes.shape)}. Of one box pass "
                "box[None], of an image without any torch.zeros(0, 4)"
            )
    a, b = (x if x.is_floating_point() else x.float() for x in (a, b))
    sides = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])
    shared = sides.clamp_min(0).prod(2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    return shared / (area_a[:, None] + area_b - shared)


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Non-maximum suppression: the best box stays, those too much like it go, and so on.

    Of boxes (M, 4) and scores (M,), the higher the better, it gives the positions of those that
    stay, int64 (K,), best first. A box goes if its IoU with a better one that stays is above `iou`,
    0 … 1; of equal scores the first counts as better. A `DataError` tells of other shapes.

    Source: as in Girshick et al. (2014), arXiv:1311.2524, section 2.2.
    """
    if scores.shape != boxes.shape[:1]:
        raise DataError(f"{tuple(scores.shape)} scores for {tuple(boxes.shape)} boxes: one a box")
    order = scores.argsort(descending=True, stable=True)
    # In double: as float32 the limit 0.1 is a little more than 0.1.
    alike = (box_iou(boxes[order], boxes[order]).double() > iou).cpu().numpy()
    left, kept = np.ones(len(order), dtype=bool), []
    for i in range(len(order)):
        if left[i]:
            kept.append(i)
            left &= ~alike[i]
    return order[kept]
