"""Segmentation and volumes end to end, the U-Net and its loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.losses import cross_entropy_dice, soft_dice
from medlab.metrics import dice
from medlab.models import SmallCNN, UNet
from medlab.training import Segmentation, fit, predict
from medlab.training.tasks import task_for

QUIET = {"progress": False, "precision": "float32"}


def balls(n=24, *, size=(16, 20), seed=0):
    """Noise with a bright disc (or ball) in front of a dimmer one; the masks are exact."""
    draw = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.arange(s) + 0.5 for s in size), indexing="ij")
    masks = torch.zeros(n, *size, dtype=torch.uint8)
    for k, radius in ((1, 5.0), (2, 3.0)):
        for mask in masks:
            centre = [s / 2 + 3 * (torch.rand((), generator=draw) - 0.5) for s in size]
            square = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
            mask[square < radius**2] = k
    images = masks.float()[:, None] + 0.3 * torch.randn(n, 1, *size, generator=draw)
    return images, masks


def cohort(images, masks, **known):
    card = DataCard(
        name="balls", title="Balls", task="segmentation", classes=("none", "outer", "inner")
    )
    return Cohort(images=images, masks=masks, card=card, **known)


@pytest.mark.parametrize("size", [(16, 20), (16, 20, 12)])
def test_fit_and_predict_from_a_cohort(size):
    torch.manual_seed(0)
    model = UNet(1, 3, 8, depth=2, dims=len(size))
    train, val = cohort(*balls(size=size)), cohort(*balls(8, size=size, seed=1))
    history = fit(model, train, val, epochs=10, lr=1e-2, batch_size=4, **QUIET)
    assert list(history.rows[0]) == ["epoch", "lr", "train_loss", "val_loss", "val_dice"]
    test, masks = balls(8, size=size, seed=2)
    scores = predict(model, test)
    assert scores.shape == (8, 3, *size)
    assert torch.allclose(scores.sum(1), torch.ones(8, *size), atol=1e-5)
    assert dice(masks, scores.argmax(1), num_classes=3).mean() > 0.65
    expected = dice(val.masks, predict(model, val).argmax(1), num_classes=3).nanmean().item()
    assert history["val_dice"][-1] == pytest.approx(expected, abs=1e-6)


def test_a_pair_with_masks_is_segmented():
    first, second = (UNet(1, 3, 4, depth=1) for _ in range(2))
    second.load_state_dict(first.state_dict())
    images, masks = balls()
    fit(first, cohort(images, masks), epochs=1, **QUIET)
    fit(second, (images, masks), epochs=1, **QUIET)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_masks_move_with_the_images():
    """Under strong augmentation a mask left behind would teach nonsense."""
    torch.manual_seed(0)
    images, masks = balls(40)
    model = UNet(1, 3, 8, depth=2)
    moves = Augment(rotate=180, translate=0.3, flip=("horizontal", "vertical"))
    fit(model, (images, masks), epochs=12, lr=1e-2, batch_size=8, augment=moves, **QUIET)
    assert dice(masks, predict(model, images).argmax(1), num_classes=3).mean() > 0.7


def test_resumed_segmentation_gives_the_same_bits(tmp_path):
    class Stop(Exception):
        pass

    class Moves:
        def __init__(self, batches):
            self.left = batches

        def __call__(self, images, *, masks, generator):
            self.left -= 1
            if self.left < 0:
                raise Stop
            return Augment()(images, masks, generator=generator)

    def net():
        torch.manual_seed(0)
        return UNet(1, 3, 4, depth=1)

    data, options = balls(), {"epochs": 4, "batch_size": 6, **QUIET}
    whole, resumed = net(), net()
    fit(whole, data, augment=Moves(10**6), **options)
    with pytest.raises(Stop):
        fit(net(), data, augment=Moves(9), checkpoint=tmp_path / "c", **options)
    fit(resumed, data, augment=Moves(10**6), checkpoint=tmp_path / "c", resume=True, **options)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": UNet(1, 2, 4, depth=1)}, "num_classes=3"),
        ({"model": nn.Conv2d(1, 3, 3)}, r"masks must be \('N', 14, 18\)"),
        ({"model": SmallCNN(width=4)}, r"masks must be \('N',\); they are \('N', 16, 20\)"),
        (
            {"model": UNet(1, 3, 4, depth=1, dims=3)},
            "takes images .* with 2 sides|takes images .* with 3 sides",
        ),
        ({"masks": None}, "no masks"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    images, masks = balls(4)
    model = change.get("model", UNet(1, 3, 4, depth=1))
    data = cohort(images, change.get("masks", masks))
    with pytest.raises(DataError, match=message):
        fit(model, data, epochs=1, **QUIET)


# --- the network ---


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (5, 40), (8, 9, 10), (13, 16, 7)])
@pytest.mark.parametrize("depth", [1, 3])
def test_unet_answers_for_every_pixel_of_any_size(size, depth):
    model = UNet(2, 5, 4, depth=depth, dims=len(size)).eval()
    assert model(torch.rand(2, 2, *size)).shape == (2, 5, *size)


def test_bridges_carry_the_detail():
    """Without them one pixel could not be told from its neighbour after two halvings."""
    torch.manual_seed(0)
    model = UNet(1, 2, 4, depth=2).eval()
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 16, 17] = 1
    answer = (model(image) - model(torch.zeros(1, 1, 32, 32))).abs().sum(1)[0]
    assert divmod(answer.argmax().item(), 32) == (16, 17) or answer[16, 17] > answer.median()
    assert answer[0, 0] < 1e-3 * answer.max()  # far outside the receptive field nothing moves


def test_unet_parameters_by_hand():
    w, k = 4, 3

    def two(a, b):
        return 9 * a * b + 9 * b * b + 4 * b

    down = two(1, w) + two(w, 2 * w) + two(2 * w, 4 * w)
    up = sum(4 * 2 * b * b + b + two(2 * b, b) for b in (2 * w, w))
    model = UNet(1, k, w, depth=2)
    assert sum(p.numel() for p in model.parameters()) == down + up + w * k + k


@pytest.mark.parametrize("dims", [1, 4, "2"])
def test_other_dimensions_are_refused(dims):
    for kind in (UNet, SmallCNN):
        with pytest.raises(DataError, match="dims must be 2"):
            kind(dims=dims)


def test_small_cnn_of_volumes_is_the_one_of_images_in_one_slice_more():
    model = SmallCNN(1, 3, 4, dims=3).eval()
    volumes = torch.rand(2, 1, 16, 18, 20)
    assert model(volumes).shape == (2, 3)
    assert model.features(volumes).shape == (2, 16, 4, 4, 5)
    with pytest.raises(DataError, match="3 sides of at least 16"):
        model(torch.rand(2, 1, 8, 18, 20))
    with pytest.raises(DataError, match="takes images .* with 2 sides"):
        SmallCNN(width=4)(volumes)


# --- the loss ---


@pytest.mark.parametrize("size", [(9, 7), (5, 6, 7)])
def test_soft_dice_by_hand_and_by_monai(size):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, *size, generator=draw, dtype=torch.float64)
    masks = torch.randint(0, 4, (3, *size), generator=draw)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    dice_by_hand = []
    for k in (1, 2, 3):
        g = (masks == k).double()
        dice_by_hand.append((2 * (p[:, k] * g).sum() + 1) / (p[:, k].sum() + g.sum() + 1))
    assert soft_dice(logits, masks).item() == pytest.approx(1 - sum(dice_by_hand).item() / 3)
    monai = pytest.importorskip("monai.losses", reason="MONAI is not installed")
    theirs = monai.DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1.0,
        smooth_dr=1.0,
    )(logits, masks[:, None])  # fmt: skip
    assert soft_dice(logits, masks).item() == pytest.approx(theirs.item(), rel=1e-9)


def test_the_sum_of_both_losses():
    logits, masks = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6))
    weight = torch.tensor([0.5, 1.0, 2.0])
    both = cross_entropy_dice(logits, masks, weight=weight)
    alone = nn.functional.cross_entropy(logits, masks, weight=weight) + soft_dice(logits, masks)
    assert both.item() == pytest.approx(alone.item())


def test_perfect_and_missing():
    masks = torch.zeros(2, 8, 8, dtype=torch.long)
    masks[:, 2:5, 2:5] = 1
    right = 50.0 * nn.functional.one_hot(masks, 2).movedim(-1, 1)
    assert soft_dice(right, masks).item() == pytest.approx(0, abs=1e-6)
    nothing = torch.zeros_like(right)
    nothing[:, 0] = 50.0
    assert soft_dice(nothing, masks).item() == pytest.approx(1 - 1 / 19, rel=1e-5)


# --- tasks ---


def test_balanced_weights_count_pixels():
    images, masks = balls()
    counts = torch.bincount(masks.flatten().int(), minlength=3).double()
    logits = torch.randn(len(images), 3, *masks.shape[1:])
    task = Segmentation()
    loss = task.loss(task.weights(cohort(images, masks), 3))
    weight = (counts.sum() / (3 * counts)).float()
    assert loss(logits, masks.long()).item() == pytest.approx(
        cross_entropy_dice(logits, masks.long(), weight=weight).item(), rel=1e-5
    )


def test_a_kind_that_nothing_serves_is_named():
    for kind in ("none", "surgery"):
        with pytest.raises(
            DataError,
            match=f"{kind}.*binary, multiclass, ordinal, multilabel, detection, reconstruction, ",
        ):
            task_for(kind)
    assert type(task_for("ordinal")).__name__ == "Classification"
