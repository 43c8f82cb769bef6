"""The detector's shape, its start, how its outputs become boxes, and the focal loss."""

from __future__ import annotations

import math

import pytest
import torch

from medlab.errors import DataError
from medlab.losses import focal
from medlab.models import Detector, found_boxes, nms
from medlab.training import load_model, save_weights


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (8, 5), (1, 64)])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_one_cell_for_two_pixels_of_any_size(size, depth):
    model = Detector(2, width=4, depth=depth).eval()
    cells = [math.ceil(side / 2) for side in size]
    assert model(torch.rand(3, 2, *size)).shape == (3, 5, *cells)


def test_parameters_by_hand():
    w, c = 4, 3

    def convolution(a, b):
        return 9 * a * b + 2 * b  # batch normalisation has two a channel

    down = convolution(w, 2 * w) + convolution(2 * w, 2 * w)
    down += convolution(2 * w, 4 * w) + convolution(4 * w, 4 * w)
    up = sum(4 * 2 * a * a + a + convolution(2 * a, a) for a in (w, 2 * w))
    stem = 25 * c * w + 2 * w + convolution(w, w)
    head = convolution(w, w) + 5 * w + 5
    assert sum(p.numel() for p in Detector(c, width=w).parameters()) == stem + down + up + head


def test_the_map_starts_at_its_prior():
    torch.manual_seed(0)
    outputs = Detector(1).eval()(torch.randn(4, 1, 64, 64))
    assert outputs[:, 0].sigmoid().mean().item() == pytest.approx(0.01, abs=0.005)
    assert outputs[:, 3:].exp().mean().item() == pytest.approx(10, rel=0.2)


def test_a_mark_moves_the_cell_it_lies_in():
    torch.manual_seed(0)
    model = Detector(1, width=8).eval()
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 21, 40] = 1
    answer = (model(image) - model(torch.zeros(1, 1, 64, 64))).abs().sum(1)[0]
    row, column = divmod(answer.argmax().item(), 32)
    assert abs(row - 10) <= 1 and abs(column - 20) <= 1


def test_other_images_are_refused():
    with pytest.raises(DataError, match="1 channel"):
        Detector(1)(torch.rand(2, 3, 32, 32))
    with pytest.raises(DataError, match="this Detector takes .* 2 sides"):
        Detector(1)(torch.rand(2, 1, 32, 32, 32))


def test_weights_travel(tmp_path):
    model = Detector(1, width=4, depth=2).eval()
    save_weights(model, tmp_path / "w.safetensors", classes=("nodule",))
    again, classes = load_model(tmp_path / "w.safetensors")
    images = torch.rand(2, 1, 20, 20)
    assert torch.equal(again(images), model(images)) and classes == ("nodule",)


# --- from outputs to boxes ---


def outputs_with(marks, size=(12, 16)):
    """Outputs (1, 5, h, w) with (score, row, column, dx, dy, width, height) marks."""
    outputs = torch.zeros(1, 5, *size)
    for score, row, column, dx, dy, width, height in marks:
        outputs[0, :, row, column] = torch.tensor(
            [score, dx, dy, math.log(width), math.log(height)]
        )
    return outputs


def test_place_and_size_by_hand():
    (boxes, scores), = found_boxes(outputs_with([(0.8, 4, 7, 0.25, -0.5, 6, 3)]))  # fmt: skip
    x, y = 2 * (7 + 0.5 + 0.25), 2 * (4 + 0.5 - 0.5)
    torch.testing.assert_close(boxes, torch.tensor([[x - 3, y - 1.5, x + 3, y + 1.5]]))
    assert scores.tolist() == pytest.approx([0.8])


def test_only_peaks_above_the_threshold_best_first():
    marks = [
        (0.5, 2, 2, 0, 0, 4, 4),
        (0.9, 8, 12, 0, 0, 4, 4),
        (0.4, 8, 13, 0, 0, 1, 1),  # beside a higher one
        (0.1, 2, 12, 0, 0, 4, 4),
    ]
    (_, scores), = found_boxes(outputs_with(marks), threshold=0.1)  # fmt: skip
    assert scores.tolist() == pytest.approx([0.9, 0.5])
    assert len(found_boxes(outputs_with(marks), threshold=0.05)[0][1]) == 3


def test_doubles_go_by_nms():
    marks = [(0.9, 4, 4, 0, 0, 10, 10), (0.8, 4, 6, 0, 0, 10, 10), (0.7, 6, 10, 0, 0, 10, 10)]
    alone = [found_boxes(outputs_with([mark]))[0] for mark in marks]
    every, scores = (torch.cat(each) for each in zip(*alone, strict=True))
    (boxes, _), = found_boxes(outputs_with(marks))  # fmt: skip
    assert torch.equal(boxes, every[nms(every, scores, 0.3)]) and len(boxes) == 2


def test_cut_at_the_edge_and_dropped_beyond():
    marks = [(0.9, 0, 0, 0, 0, 8, 8), (0.8, 11, 15, 0, 0, 8, 8), (0.7, 5, 0, -4, 0, 2, 2)]
    (boxes, _), = found_boxes(outputs_with(marks))  # fmt: skip
    assert boxes.tolist() == [[0, 0, 5, 5], [27, 19, 32, 24]]


def test_no_image_and_no_find():
    assert found_boxes(torch.zeros(0, 5, 4, 4)) == []
    (boxes, scores), = found_boxes(torch.zeros(1, 5, 4, 4))  # fmt: skip
    assert boxes.shape == (0, 4) and scores.shape == (0,)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.full((1, 5, 4, 4), -3.0), "without logits=True"),
        (torch.zeros(1, 2, 4, 4), "outputs of a Detector"),
        (torch.zeros(5, 4, 4), "outputs of a Detector"),
    ],
)
def test_other_outputs_are_refused(outputs, message):
    with pytest.raises(DataError, match=message):
        found_boxes(outputs)


# --- the loss ---


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_is_torchvisions(gamma):
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")
    draw = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(5, 3, 40, generator=draw)
    target = (torch.rand(5, 3, 40, generator=draw) < 0.3).float()
    theirs = ops.sigmoid_focal_loss(logits, target, alpha=-1, gamma=gamma)
    torch.testing.assert_close(focal(logits, target, gamma=gamma), theirs, rtol=1e-4, atol=1e-7)


def test_focal_loss_by_hand():
    logits, target = torch.tensor([math.log(9.0), math.log(9.0)]), torch.tensor([1.0, 0.0])
    easy, hard = focal(logits, target).tolist()
    assert easy == pytest.approx(0.1**2 * -math.log(0.9), rel=1e-4)
    assert hard == pytest.approx(0.9**2 * -math.log(0.1), rel=1e-4)


def test_focal_loss_far_out_is_finite_and_has_a_gradient():
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    focal(logits, torch.tensor([1.0, 0.0])).sum().backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad.abs() > 0.1).all()
