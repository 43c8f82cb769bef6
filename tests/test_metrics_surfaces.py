"""Oracles: MONAI, SimpleITK, scikit-learn, SciPy's distance transform, and boxes by hand.

Where another library has another convention, or a fault, the test says which.
"""

import doctest
import itertools
import math
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import HausdorffDistanceMetric, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, distance_transform_edt
from sklearn.metrics import f1_score, jaccard_score

from medlab import metrics
from medlab.errors import DataError
from medlab.metrics import surfaces

sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
RNG = np.random.default_rng(0)
SPACINGS = {2: [(1.0, 1.0), (0.5, 1.25)], 3: [(1.0, 1.0, 1.0), (3.0, 0.75, 0.5)]}
# Sums of squares of whole numbers of these steps, so that no distance is met by chance
TOLERANCES = (0.0, 1.1, 2.3)


def blob(size):
    """A random mask: empty, one pixel, a box or an ellipsoid, often over the border, or noise."""
    kind = RNG.choice(["empty", "pixel", "box", "ellipsoid", "noise", "full"], p=KINDS)
    grid = np.indices(size)
    middle = [RNG.integers(0, n) for n in size]
    if kind in ("empty", "full"):
        return np.full(size, kind == "full")
    if kind == "noise":
        return RNG.random(size) < RNG.random()
    reach = [0] * len(size) if kind == "pixel" else [RNG.integers(1, max(n, 2)) for n in size]
    away = [abs(g - m) / max(r, 0.5) for g, m, r in zip(grid, middle, reach, strict=True)]
    return np.max(away, 0) <= 1 if kind == "box" else np.sum(np.square(away), 0) <= 1


KINDS = (0.08, 0.12, 0.3, 0.3, 0.17, 0.03)


def pairs(size, count):
    """(count, *size) masks of truth and prediction, a third of which is a shifted truth."""
    truth = np.stack([blob(size) for _ in range(count)])
    found = np.stack([blob(size) for _ in range(count)])
    for i in range(0, count, 3):
        found[i] = np.roll(truth[i], RNG.integers(-2, 3), axis=RNG.integers(len(size)))
    return truth, found


def onehot(masks):
    return torch.as_tensor(np.stack([~masks, masks], 1)).float()


def monai_hausdorff(truth, found, spacing, percentile):
    """MONAI's, but for its fault: a percentile of inf alone is NaN, as if nothing were there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty masks
        both = onehot(found), onehot(truth)
        theirs = compute_hausdorff_distance(*both, spacing=spacing, percentile=percentile)
    empty = [~masks.reshape(len(masks), -1).any(1) for masks in (truth, found)]
    theirs[empty[0] != empty[1]] = math.inf
    return theirs.numpy()


def monai_surface_dice(truth, found, spacing, tolerance):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compute_surface_dice(onehot(found), onehot(truth), [tolerance], spacing=spacing)


def by_transform(truth, found, spacing):
    """Distances both ways by SciPy's erosion and distance transform; None where a mask is empty."""
    if not (truth.any() and found.any()):
        return None
    edges = [mask ^ binary_erosion(mask) for mask in (truth, found)]
    to = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return to[1][edges[0]], to[0][edges[1]]


SIZES = [(7, 9), (12, 5), (16, 16), (1, 8), (4, 5, 6), (6, 6, 3)]


def test_all_metrics_equal_scipy_scikit_learn_and_monai_on_ten_thousand_pairs():
    """MONAI, which is slow, on every twentieth."""
    tried, neither = 0, 0
    for trial, size in enumerate(SIZES * 4):
        truth, found = pairs(size, 420)
        spacing = SPACINGS[len(size)][trial // 6 % 2]
        percentile, tolerance = (95, 100, 50, 30)[trial // 6], TOLERANCES[trial % 3]
        given = {"spacing": spacing, "num_classes": 2}
        far = metrics.hausdorff(truth, found, percentile=percentile, **given)
        near = metrics.surface_dice(truth, found, tolerance_mm=tolerance, **given)
        for i in range(len(truth)):
            if not (truth[i].any() or found[i].any()):
                assert far[i].isnan() and near[i].isnan()
            elif (both := by_transform(truth[i], found[i], spacing)) is None:
                assert far[i] == math.inf and near[i] == 0
            else:
                theirs = max(np.percentile(way, percentile) for way in both)
                assert abs(far[i, 0] - theirs) < 1e-9
                assert abs(near[i, 0] - (np.concatenate(both) <= tolerance).mean()) < 1e-9
        some = slice(None, None, 20)
        theirs = monai_hausdorff(truth[some], found[some], spacing, percentile)
        np.testing.assert_allclose(far[some], theirs, rtol=1e-5, atol=1e-6)
        theirs = monai_surface_dice(truth[some], found[some], spacing, tolerance)
        np.testing.assert_allclose(near[some], theirs, rtol=1e-5, atol=1e-6)

        # To scikit-learn an image is one column of a multilabel problem
        columns = [masks.reshape(len(masks), -1).T.astype(int) for masks in (truth, found)]
        held = ~far[:, 0].isnan().numpy()
        for ours, oracle in ((metrics.dice, f1_score), (metrics.iou, jaccard_score)):
            value = ours(truth, found, num_classes=2)[:, 0].numpy()
            assert (np.isnan(value) != held).all()
            theirs = oracle(*columns, average=None, zero_division=0)
            np.testing.assert_allclose(value[held], theirs[held], atol=1e-12)
        tried, neither = tried + len(truth), neither + (~held).sum()
    assert tried > 10_000 and neither > 50


def test_overlap_and_the_whole_distance_equal_simpleitk():
    """ITK's distance is of all pixels, so it gets the surfaces alone; ITK's own contour filter
    finds them. It knows no outside of the image, hence the margin."""
    tried = 0
    for size, spacing in itertools.product([(9, 7), (4, 5, 6)], (0, 1)):
        steps = SPACINGS[len(size)][spacing]
        truth, found = pairs(size, 120)
        ours = {
            "dice": metrics.dice(truth, found, num_classes=2),
            "iou": metrics.iou(truth, found, num_classes=2),
            "hausdorff": metrics.hausdorff(truth, found, spacing=steps, percentile=100),
        }
        for i in range(120):
            if not (truth[i].any() and found[i].any()):
                continue
            a, b = (
                sitk.GetImageFromArray(np.pad(m[i], 1).astype(np.uint8)) for m in (truth, found)
            )
            overlap = sitk.LabelOverlapMeasuresImageFilter()
            overlap.Execute(a, b)
            edges = []
            for image in (a, b):
                image.SetSpacing(steps[::-1])
                edges.append(sitk.BinaryContour(image, fullyConnected=False))
            distance = sitk.HausdorffDistanceImageFilter()
            distance.Execute(*edges)
            assert ours["dice"][i, 0] == pytest.approx(overlap.GetDiceCoefficient())
            assert ours["iou"][i, 0] == pytest.approx(overlap.GetJaccardCoefficient())
            theirs = distance.GetHausdorffDistance()
            assert ours["hausdorff"][i, 0] == pytest.approx(theirs, rel=1e-5)
            tried += 1
    assert tried > 350


def test_several_structures_and_scores_as_for_dice():
    masks, scores = RNG.integers(0, 4, (5, 6, 7)), torch.rand(5, 4, 6, 7)
    masks[2][masks[2] == 3] = 0
    found = scores.argmax(1).numpy()
    ours = metrics.hausdorff(masks, scores, spacing=(2, 0.5))
    share = metrics.surface_dice(masks, scores, tolerance_mm=0.6, spacing=(2, 0.5))
    assert ours.shape == share.shape == (5, 3) and ours.dtype == share.dtype == torch.float64
    for i, k in itertools.product(range(5), range(3)):
        one = masks[i] == k + 1, found[i] == k + 1
        if (both := by_transform(*one, (2, 0.5))) is None:
            assert ours[i, k] == math.inf and share[i, k] == 0
            continue
        there, back = both
        assert ours[i, k] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
        assert share[i, k] == pytest.approx((np.concatenate([there, back]) <= 0.6).mean())


def test_boxes_by_hand():
    """A box of 10 × 10 pixels of 2 × 0.5 mm, moved by three columns, or cut at the border."""
    truth = np.zeros((3, 20, 30), int)
    truth[:2, 5:15, 5:15] = 1
    found = np.roll(truth, 3, axis=2)
    found[1] = truth[1]
    found[1, 0, 5] = 1  # one stray pixel, five rows above: 1 of 37
    truth[2, :, :10], found[2, :, :12] = 1, 1  # both are cut off by three borders
    given = {"spacing": (2.0, 0.5)}
    whole = metrics.hausdorff(truth, found, percentile=100, **given)[:, 0]
    np.testing.assert_allclose(whole, [1.5, 10, 1])
    np.testing.assert_allclose(metrics.hausdorff(truth, found, **given)[:, 0], [1.5, 0, 1])
    # moved: of 36, the 10 of the side that stays behind and the inner 8 of the other are 1.5 mm off
    share = metrics.surface_dice(truth, found, tolerance_mm=1.0, **given)[:, 0]
    np.testing.assert_allclose(share, [18 / 36, 72 / 73, 1])
    # cut off: of 56 and 60, the inner 18 of the free sides are 1 mm off, and one corner each way
    share = metrics.surface_dice(truth, found, tolerance_mm=0.5, **given)[2, 0]
    np.testing.assert_allclose(share, (56 - 18 + 60 - 20) / 116)


def test_a_distance_of_just_the_tolerance_is_within_it():
    truth, found = np.zeros((1, 1, 8), int), np.zeros((1, 1, 8), int)
    truth[0, 0, 0], found[0, 0, 3] = 1, 1
    assert 3 * 0.1 > 0.3
    given = {"spacing": (1.0, 0.1)}
    assert metrics.surface_dice(truth, found, tolerance_mm=0.3, **given)[0, 0] == 1
    assert metrics.surface_dice(truth, found, tolerance_mm=0.2999, **given)[0, 0] == 0


def test_missing_or_inventing_a_structure_never_improves_a_score():
    truth = np.zeros((6, 12, 12), int)
    truth[:4, 3:6, 3:6] = 1  # images 4 and 5 hold nothing
    bad = truth.copy()
    bad[:4] = 0
    bad[:4, 9:11, 9:11] = 1  # found, and as badly as may be
    given = {"spacing": (1.0, 1.0), "num_classes": 2}
    for changed, image in ((0, 0), (1, 5)):
        worse = bad.copy()
        worse[image] = changed
        for score in (
            lambda found: -np.nanmedian(metrics.hausdorff(truth, found, **given)),
            lambda found: -np.nanmean(metrics.hausdorff(truth, found, **given)),
            lambda found: np.nanmean(metrics.surface_dice(truth, found, tolerance_mm=1, **given)),
            lambda found: np.nanmean(metrics.iou(truth, found, num_classes=2)),
        ):
            assert score(worse) <= score(bad)
    one = metrics.hausdorff(truth, np.zeros_like(truth), **given)[:, 0]
    assert one[:4].tolist() == [math.inf] * 4 and one[4:].isnan().all()


def test_what_monai_makes_of_a_missed_structure():
    """Why the oracle above is mended: its HD95 of a miss is NaN, which its mean then skips."""
    truth = np.zeros((2, 8, 8), bool)
    truth[:, 2:5, 2:5] = True
    found = np.roll(truth, 1, axis=2)
    found[1] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        means = {}
        for percentile in (None, 95):
            metric = HausdorffDistanceMetric(percentile=percentile)
            metric(onehot(found), onehot(truth))
            means[percentile] = metric.aggregate().item()
    assert means[None] == math.inf
    if means[95] != math.inf:  # a later version may have mended it
        assert means[95] == 1.0
    ours = metrics.hausdorff(truth, found, spacing=(1, 1))
    assert ours[:, 0].tolist() == [1, math.inf]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spacing": (1.0,)}, "spacing must be 2 lengths"),
        ({"spacing": (1.0, 1.0, 1.0)}, "spacing must be 2 lengths"),
        ({"spacing": (1.0, 0.0)}, "spacing must be 2 lengths"),
        ({"spacing": (1.0, math.nan)}, "spacing must be 2 lengths"),
        ({"spacing": 1.0}, "spacing must be 2 lengths"),
        ({"spacing": None}, "spacing must be 2 lengths"),
        ({"percentile": 0}, "percentile must lie above 0"),
        ({"percentile": 100.1}, "percentile must lie above 0"),
        ({"percentile": math.nan}, "percentile must lie above 0"),
        ({"tolerance_mm": -1}, "tolerance_mm must be a finite"),
        ({"tolerance_mm": math.inf}, "tolerance_mm must be a finite"),
        ({"num_classes": 1}, "ends before it"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    masks = np.ones((1, 4, 4), int)
    given = {"spacing": (1.0, 1.0)} | options
    measure = metrics.hausdorff
    if "percentile" not in options:
        with pytest.raises(DataError, match=words):
            metrics.surface_dice(masks, masks, **{"tolerance_mm": 1} | given)
    if "tolerance_mm" not in options:
        with pytest.raises(DataError, match=words):
            measure(masks, masks, **given)
    with pytest.raises(DataError, match="do not fit prediction"):
        measure(masks, masks[:, 1:], spacing=(1, 1))


def test_the_examples_run():
    found = doctest.testmod(surfaces)
    assert found.attempted and not found.failed
