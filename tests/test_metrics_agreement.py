"""Oracles: scikit-learn's F1 of flattened masks, and areas of rectangles by hand."""

import doctest

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from medlab import metrics
from medlab.errors import DataError
from medlab.metrics import agreement

RNG = np.random.default_rng(0)


def test_dice_equals_scikit_learns_f1_on_thousands_of_random_pairs():
    """F1 of pixels as samples is Dice; where no pixel is of a structure, F1 is undefined."""
    sizes = [(4, 5), (3, 2, 4), (7,), (2, 3)]
    tried = 0
    for trial in range(250):
        size, k = sizes[trial % 4], int(RNG.integers(2, 6))
        empty = RNG.random() < 0.5  # often without some structures
        masks = RNG.integers(0, max(1, k - 2) if empty else k, (6, *size)).astype(np.uint8)
        found = RNG.integers(0, k, (6, *size)) * (RNG.random((6, *size)) < RNG.random())
        ours = metrics.dice(masks, found, num_classes=k)
        assert ours.shape == (6, k - 1) and ours.dtype == torch.float64
        for i in range(6):
            theirs = f1_score(
                masks[i].ravel(),
                found[i].ravel(),
                labels=range(1, k),
                average=None,
                zero_division=np.nan,
            )
            np.testing.assert_allclose(ours[i], theirs, atol=1e-12)
            tried += k - 1
    assert tried > 3000


@pytest.mark.parametrize("size", [(30, 40), (10, 30, 40)])
def test_dice_of_boxes_by_hand(size):
    """A box of 10 × 20 moved by 5 along one edge shares half: 2 · 100 / 400."""
    truth, found = torch.zeros(2, 1, *size).int()[:, 0], torch.zeros(2, *size, dtype=torch.int32)
    truth[..., 0:10, 0:20] = 2
    found[0, ..., 5:15, 0:20] = 2
    found[1, ..., 0:10, 0:20] = 1
    got = metrics.dice(truth, found)
    np.testing.assert_allclose(got, [[np.nan, 0.5], [0, 0]])


def test_scores_are_called_by_the_highest():
    scores = torch.rand(3, 4, 5, 6, 7)
    masks = torch.randint(0, 4, (3, 5, 6, 7))
    want = metrics.dice(masks, scores.argmax(1), num_classes=4)
    np.testing.assert_array_equal(metrics.dice(masks, scores), want)
    np.testing.assert_array_equal(metrics.dice(masks.numpy(), scores.numpy()), want)
    grad = scores.clone().requires_grad_()
    np.testing.assert_array_equal(metrics.dice(masks.to(torch.uint8), grad), want)


def test_missing_or_inventing_a_structure_never_improves_a_mean():
    truth = np.zeros((4, 8, 8), int)
    truth[:2, :3, :3] = 1  # images 2 and 3 hold nothing
    good = truth.copy()
    good[:, 0, 0] = 0
    best = np.nanmean(metrics.dice(truth, good, num_classes=2))
    for change in ("missed", "invented"):
        worse = good.copy()
        worse[1 if change == "missed" else 2] = 0 if change == "missed" else 1
        assert np.nanmean(metrics.dice(truth, worse, num_classes=2)) < best
    nothing = metrics.dice(truth, np.zeros_like(truth), num_classes=2)[:, 0]
    assert nothing[:2].tolist() == [0, 0] and nothing[2:].isnan().all()


def test_many_pixels_in_small_numbers_do_not_overflow():
    masks = np.ones((1, 300, 300), np.uint8)
    assert metrics.dice(masks, masks)[0, 0] == 1
    assert metrics.dice(masks.astype(bool), masks.astype(np.int8))[0, 0] == 1


def test_the_examples_run():
    found = doctest.testmod(agreement)
    assert found.attempted and not found.failed


@pytest.mark.parametrize(
    "masks, predicted, options, words",
    [
        (np.zeros((2, 4, 4)), np.zeros((2, 4, 5)), {}, "do not fit prediction"),
        (np.zeros((2, 4, 4)), np.zeros((3, 2, 4, 4)), {}, "do not fit prediction"),
        (np.zeros((0, 4, 4)), np.zeros((0, 4, 4)), {}, "do not fit prediction"),
        (np.zeros(4), np.zeros(4), {}, "do not fit prediction"),
        (np.zeros((2, 4, 4)), np.full((2, 4, 4), 0.5), {}, r"pass \(predicted > 0.5\)"),
        (np.full((2, 4, 4), np.nan), np.zeros((2, 4, 4)), {}, "masks must be whole"),
        (np.full((2, 4, 4), -1), np.zeros((2, 4, 4)), {}, "got -1 to -1"),
        (np.full((2, 4, 4), 255), np.zeros((2, 2, 4, 4)), {}, "a mask holds 255"),
        (np.zeros((2, 4, 4)), np.zeros((2, 1, 4, 4)), {}, r"scores\[:, 0\] > 0.5"),
        (np.zeros((2, 4, 4)), np.full((2, 2, 4, 4), np.nan), {}, "hold no NaN"),
        (np.zeros((2, 4, 4)), np.zeros((2, 3, 4, 4)), {"num_classes": 2}, "scores of 3 classes"),
        (np.full((2, 4, 4), 2), np.zeros((2, 4, 4)), {"num_classes": 2}, "ends before it"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, predicted, options, words):
    with pytest.raises(DataError, match=words):
        metrics.dice(masks, predicted, **options)


def test_dice_is_the_same_on_an_accelerator():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    masks, scores = torch.randint(0, 3, (4, 16, 16, 16)), torch.rand(4, 3, 16, 16, 16)
    want = metrics.dice(masks, scores)
    np.testing.assert_array_equal(metrics.dice(masks, scores.cuda()), want)
    np.testing.assert_array_equal(metrics.dice(masks.cuda(), scores.cuda()), want)
