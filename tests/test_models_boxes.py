"""Overlap of boxes and non-maximum suppression, against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medlab.errors import DataError
from medlab.models import box_iou, nms

ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")


def some_boxes(rng, most=12, *, whole=True):
    """Boxes on a small grid, so that they touch, coincide and tie; some have no area."""
    corners = rng.integers(0, 7, (rng.integers(0, most + 1), 2, 2))
    if not whole:
        corners = corners + rng.random(corners.shape)
    return torch.tensor(np.sort(corners, axis=1).reshape(-1, 4), dtype=torch.float32)


@pytest.mark.parametrize("whole", [True, False])
def test_equal_to_torchvision_in_thousands_of_cases(whole):
    rng = np.random.default_rng(3)
    for _ in range(800):
        a, b = some_boxes(rng, whole=whole), some_boxes(rng, whole=whole)
        assert torch.equal(box_iou(a, b).nan_to_num(-1), ops.box_iou(a, b).nan_to_num(-1))
        scores = torch.tensor(rng.integers(0, 4, len(a)) / 4, dtype=torch.float32)
        # Limits that occur as an IoU, as 1/3 and 0.1, and some that do not
        for iou in rng.choice([0.0, 0.1, 1 / 3, 0.5, rng.random(), 1.0], 2):
            assert nms(a, scores, iou).tolist() == ops.nms(a, scores, iou).tolist()


def test_many_boxes_and_other_types():
    draw = torch.Generator().manual_seed(0)
    corner = 50 * torch.rand(600, 2, generator=draw)
    boxes = torch.cat([corner, corner + 1 + 10 * torch.rand(600, 2, generator=draw)], 1)
    scores = torch.rand(600, generator=draw)
    assert torch.equal(nms(boxes, scores, 0.3), ops.nms(boxes, scores, 0.3))
    assert torch.equal(box_iou(boxes.double(), boxes.double()), ops.box_iou(*[boxes.double()] * 2))
    whole = boxes.long()
    assert torch.equal(box_iou(whole, whole), box_iou(whole.float(), whole.float()))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (2, 0, 6, 4), 8 / 24),
        ((0, 0, 4, 4), (1, 1, 3, 2), 2 / 16),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0.0),
        ((0, 0, 4, 4), (5, 5, 9, 9), 0.0),  # apart along both axes: no product of two negatives
    ],
)
def test_overlap_by_hand(a, b, expected):
    a, b = torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32)
    assert box_iou(a, b).item() == box_iou(b, a).item() == pytest.approx(expected)


def test_a_suppressed_box_suppresses_nothing():
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]
    assert nms(boxes, torch.tensor([0.7, 0.9, 0.8]), 0.3).tolist() == [1]


def test_what_is_no_box_is_named():
    with pytest.raises(DataError, match=r"box\[None\]"):
        box_iou(torch.zeros(4), torch.zeros(1, 4))
    with pytest.raises(DataError, match=r"got \(2, 5\)"):
        box_iou(torch.zeros(1, 4), torch.zeros(2, 5))
    with pytest.raises(DataError, match="one a box"):
        nms(torch.zeros(2, 4), torch.zeros(3), 0.5)
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
