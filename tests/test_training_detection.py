"""Detection end to end on discs: targets, loss, scores, augmentation, prediction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.losses import focal
from medlab.metrics import average_precision, froc
from medlab.models import Detector, SmallCNN, found_boxes
from medlab.training import Detection, fit, predict
from medlab.training.tasks import task_for

QUIET = {"progress": False, "precision": "float32"}
CARD = DataCard(name="discs", title="Discs", task="detection", classes=("disc",))


def discs(n=48, *, size=(40, 48), seed=0):
    """Noise with none, one or two bright discs; every third image has none."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in size), indexing="ij")
    images, boxes = 0.2 * torch.randn(n, 1, *size, generator=draw), []
    for i in range(n):
        found = []
        for _ in range(i % 3):
            r = 2.5 + 3 * torch.rand((), generator=draw)
            at = torch.rand(2, generator=draw)
            cx, cy = 6 + (size[1] - 12) * at[0], 6 + (size[0] - 12) * at[1]
            images[i, 0][(x - cx) ** 2 + (y - cy) ** 2 < r**2] += 1
            found.append([cx - r, cy - r, cx + r, cy + r])
        boxes.append(torch.tensor(found).view(-1, 4))
    return Cohort(images=images, boxes=boxes, card=CARD)


def net(width=8):
    torch.manual_seed(0)
    return Detector(1, width=width, depth=2)


def test_fit_predict_and_find():
    model, val = net(), discs(24, seed=1)
    history = fit(model, discs(), val, epochs=24, lr=1e-2, batch_size=8, **QUIET)
    names = ["epoch", "lr", "train_loss", "val_loss", "val_ap", "val_froc"]
    assert list(history.rows[0]) == names
    test = discs(24, seed=2)
    outputs = predict(model, test)
    assert outputs.shape == (24, 5, 20, 24)
    found = found_boxes(outputs)
    assert average_precision(test.boxes, found) > 0.7
    assert froc(test.boxes, found).cpm > 0.85
    again = found_boxes(predict(model, val))
    assert history["val_ap"][-1] == pytest.approx(average_precision(val.boxes, again))
    assert history["val_froc"][-1] == pytest.approx(froc(val.boxes, again).cpm)


def test_boxes_move_with_the_images():
    """Under strong augmentation a box left behind would teach nonsense."""
    moves = Augment(rotate=0, translate=0.3, scale=0.2, flip=("horizontal", "vertical"))
    model, data = net(), discs()
    fit(model, data, epochs=30, lr=1e-2, batch_size=8, augment=moves, **QUIET)
    assert froc(data.boxes, found_boxes(predict(model, data))).cpm > 0.8


def test_a_cohort_says_how_to_predict_and_images_alone_need_a_task():
    model, data = net(), discs(4)
    outputs, logits = predict(model, data), predict(model, data, logits=True)
    assert torch.equal(outputs[:, 1:], logits[:, 1:])
    torch.testing.assert_close(outputs[:, 0], logits[:, 0].sigmoid())
    assert torch.equal(predict(model, data.images, task=Detection()), outputs)
    assert isinstance(task_for("detection"), Detection)


# --- the loss ---


def by_hand(outputs, boxes):
    """The loss cell by cell, in plain Python and double."""
    n, _, h, w = outputs.shape
    heat = np.zeros((n, h, w))
    wrong = total = 0.0
    for i, image in enumerate(boxes):
        for x0, y0, x1, y1 in image.tolist():
            cx, cy, width, height = (x0 + x1) / 4, (y0 + y1) / 4, x1 - x0, y1 - y0
            column, row = min(int(cx), w - 1), min(int(cy), h - 1)
            sx, sy = max(0.05 * width, 0.7), max(0.05 * height, 0.7)
            for r in range(h):
                for c in range(w):
                    g = math.exp(-0.5 * (((c - column) / sx) ** 2 + ((r - row) / sy) ** 2))
                    if max(abs(c - column), abs(r - row)) > RADIUS:
                        continue
                    heat[i, r, c] = max(heat[i, r, c], g)
                    want = cx - c - 0.5, cy - r - 0.5, math.log(width), math.log(height)
                    got = outputs[i, 1:, r, c].tolist()
                    wrong += g * sum(abs(a - b) for a, b in zip(want, got, strict=True))
                    total += g
    p = outputs[:, 0].double().sigmoid().numpy()
    centres = heat == 1
    cost = np.where(centres, -((1 - p) ** 2) * np.log(p), -((1 - heat) ** 4) * p**2 * np.log(1 - p))
    return cost.sum() / max(centres.sum(), 1) + wrong / max(total, 1)


RADIUS = 5  # ⌈3 σ⌉ of the widest box below, 30 · 0.1 / 2 = 1.5


def test_loss_by_hand():
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 5, 14, 17, generator=draw)
    boxes = [
        torch.tensor([[3.0, 4, 33, 21], [5, 5, 9, 8]]),
        torch.zeros(0, 4),
        torch.tensor([[30.0, 24, 34, 28], [0, 0, 1, 2]]),  # at two corners
        torch.tensor([[10.0, 10, 14, 16], [11, 9, 16, 17], [10.5, 10.5, 13, 15]]),  # on each other
    ]
    loss = Detection().loss(None)(outputs, boxes).item()
    assert loss == pytest.approx(by_hand(outputs, boxes), rel=1e-5)


def test_loss_without_any_box_is_the_background_alone():
    outputs = torch.randn(2, 5, 6, 6)
    loss = Detection().loss(None)(outputs, [torch.zeros(0, 4)] * 2)
    expected = focal(outputs[:, 0], torch.zeros(2, 6, 6)).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_is_lowest_at_the_truth():
    """Going down its gradient, the outputs become the boxes, in pixels."""
    boxes = [torch.tensor([[3.0, 5, 15, 13], [20, 9, 25, 12]]), torch.tensor([[8.0, 8, 10, 10]])]
    outputs = torch.zeros(2, 5, 12, 16, requires_grad=True)
    optimiser, loss = torch.optim.Adam([outputs], lr=0.05), Detection().loss(None)
    for _ in range(400):
        optimiser.zero_grad()
        loss(outputs, boxes).backward()
        optimiser.step()
    found = found_boxes(Detection().finish(outputs.detach()), threshold=0.3)
    for truth, (got, _) in zip(boxes, found, strict=True):
        order = got[:, 0].argsort()
        torch.testing.assert_close(got[order], truth, rtol=0, atol=0.3)


# --- what does not fit ---


def test_what_does_not_fit_is_named():
    data = discs(6)
    for model in (SmallCNN(width=4), nn.Conv2d(1, 5, 1), nn.Conv2d(1, 6, 2, stride=2)):
        with pytest.raises(DataError, match=r"must put out \('N', 5, 20, 24\)"):
            fit(model, data, epochs=1, **QUIET)
    with pytest.raises(DataError, match="no boxes"):
        fit(net(), replace(data, boxes=None), epochs=1, **QUIET)
    with pytest.raises(DataError, match="no image of the training set has a box"):
        fit(net(), replace(data, boxes=[torch.zeros(0, 4)] * 6), epochs=1, **QUIET)
    with pytest.raises(DataError, match="class_weights=None"):
        fit(net(), data, epochs=1, class_weights="balanced", **QUIET)


def test_validation_without_a_box_has_no_score():
    data = discs(6)
    empty = replace(data, boxes=[torch.zeros(0, 4)] * 6)
    history = fit(net(4), data, empty, epochs=1, **QUIET)
    assert math.isnan(history["val_ap"][0]) and math.isnan(history["val_froc"][0])
    assert math.isfinite(history["val_loss"][0])
