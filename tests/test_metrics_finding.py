"""Average precision and the free-response curve, against MONAI and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medlab.errors import DataError
from medlab.metrics import (
    UndefinedMetric,
    average_precision,
    box_matches,
    centre_hits,
    froc,
    resamples,
)

MONAI = "MONAI is not installed"


def case(rng, images=6, *, ties=False):
    """True boxes of some images, and boxes found near them and elsewhere, with scores."""
    truth, found = [], []
    for _ in range(images):
        m, wrong = rng.integers(0, 4), rng.integers(0, 4)
        corner = rng.uniform(0, 30, (m, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(3, 9, (m, 2))], 1)
        near = np.repeat(boxes, rng.integers(0, 3, m), axis=0)
        near = near + rng.normal(0, 1.0, near.shape)
        corner = rng.uniform(0, 30, (wrong, 2))
        marks = np.concatenate([near, np.concatenate([corner, corner + 5], 1)])
        marks[:, 2:] = np.maximum(marks[:, 2:], marks[:, :2] + 0.5)
        scores = rng.integers(1, 6, len(marks)) / 6 if ties else rng.random(len(marks))
        truth.append(torch.tensor(boxes, dtype=torch.float32))
        found.append((torch.tensor(marks).float(), torch.tensor(scores).float()))
    return truth, found


def cases(n, seed, **options):
    rng = np.random.default_rng(seed)
    made = (case(rng, rng.integers(1, 8), **options) for _ in range(n))
    return [(truth, found) for truth, found in made if any(len(boxes) for boxes in truth)]


def nothing():
    return torch.zeros(0, 4), torch.zeros(0)


def box(x, y, side=6.0):
    return [x, y, x + side, y + side]


# --- average precision ---


@pytest.mark.parametrize("iou", [0.1, 0.5, 0.75])
def test_average_precision_is_monais(iou):
    pytest.importorskip("monai", reason=MONAI)
    from monai.apps.detection.metrics.coco import COCOMetric
    from monai.apps.detection.metrics.matching import matching_batch
    from monai.data.box_utils import box_iou

    metric = COCOMetric(classes=["lesion"], iou_list=[iou], iou_range=(0.5, 0.95, 0.05))
    for truth, found in cases(120, seed=1):
        results = matching_batch(
            iou_fn=box_iou,
            iou_thresholds=metric.iou_thresholds,
            pred_boxes=[boxes.numpy() for boxes, _ in found],
            pred_classes=[np.zeros(len(boxes), int) for boxes, _ in found],
            pred_scores=[scores.numpy() for _, scores in found],
            gt_boxes=[boxes.numpy() for boxes in truth],
            gt_classes=[np.zeros(len(boxes), int) for boxes in truth],
        )
        theirs = metric(results)[0][f"AP_IoU_{iou:.2f}_MaxDet_100"]
        # MONAI's recall is float32: where it should meet one of 0, 0.01 … 1 it may fall beside it
        exact = math.gcd(sum(map(len, truth)), 100) == 1
        ours = average_precision(truth, found, iou=iou)
        assert ours == pytest.approx(theirs, abs=1e-6 if exact else 0.03)


def test_average_precision_by_brute_force_with_ties():
    """Threshold by threshold, precision and recall counted anew."""
    for truth, found in cases(150, seed=2, ties=True):
        hits = [box_matches(t, b, s) >= 0 for t, (b, s) in zip(truth, found, strict=True)]
        scores = torch.cat([s for _, s in found])
        total = sum(map(len, truth))
        points = []
        for level in scores.unique().tolist():
            taken = scores >= level
            right = int(torch.cat(hits)[taken].sum())
            points.append((right / total, right / int(taken.sum())))
        grid = np.linspace(0, 1, 101)
        best = [max((p for r, p in points if r >= at), default=0.0) for at in grid]
        assert average_precision(truth, found) == pytest.approx(np.mean(best))
        order = np.random.default_rng(0).permutation(len(truth))
        shuffled = [truth[i] for i in order], [found[i] for i in order]
        assert average_precision(*shuffled) == pytest.approx(np.mean(best))


def test_average_precision_by_hand():
    truth = [torch.tensor([box(0, 0), box(20, 20)]), torch.zeros(0, 4)]
    found = [
        (torch.tensor([box(0, 0), box(1, 0), box(20, 20)]), torch.tensor([0.9, 0.7, 0.3])),
        (torch.tensor([box(5, 5)]), torch.tensor([0.8])),
    ]
    # Down to 0.9: 1 of 1 right, recall ½; to 0.3: 2 of 4 right (one twice, one elsewhere), recall 1
    assert average_precision(truth, found) == pytest.approx((51 * 1 + 50 * 0.5) / 101)
    assert average_precision(truth, [nothing(), nothing()]) == 0
    assert average_precision(truth, [(truth[0], torch.ones(2)), nothing()]) == 1


def test_the_best_score_chooses_first_and_each_lesion_once():
    truth = torch.tensor([box(0, 0, 10), box(4, 0, 10)])
    boxes = torch.tensor([box(1, 0, 10), box(0, 0, 10), box(2, 0, 10), box(30, 30)])
    claims = box_matches(truth, boxes, torch.tensor([0.5, 0.9, 0.7, 0.95]), iou=0.5)
    assert claims.tolist() == [-1, 0, 1, -1]
    claims = box_matches(truth, boxes, torch.tensor([0.5, 0.4, 0.3, 0.95]), iou=0.5)
    assert claims.tolist() == [0, -1, 1, -1]  # in COCO the loser may take another lesion
    limit = box_matches(truth[:1], torch.tensor([[0.0, 0, 5, 10]]), torch.ones(1), iou=0.5)
    assert limit.tolist() == [0]  # just 0.5 is enough
    assert box_matches(truth, *nothing()).tolist() == []
    assert box_matches(torch.zeros(0, 4), boxes, torch.rand(4)).tolist() == [-1] * 4


# --- FROC ---


def brute_force(truth, found, scans):
    """(threshold, false positives a scan, sensitivity), by counting at every threshold."""
    total = sum(map(len, truth))
    levels = sorted({s for _, scores in found for s in scores.tolist()}, reverse=True)
    rows = []
    for level in levels:
        wrong = right = 0
        for boxes, (marks, scores) in zip(truth, found, strict=True):
            seen = set()
            for (x0, y0, x1, y1), score in zip(marks.tolist(), scores.tolist(), strict=True):
                hits = []
                for k, (a0, b0, a1, b1) in enumerate(boxes.tolist()):
                    away = np.hypot((x0 + x1) / 2 - (a0 + a1) / 2, (y0 + y1) / 2 - (b0 + b1) / 2)
                    if away < ((a1 - a0) + (b1 - b0)) / 4:
                        hits.append(k)
                if score >= level:
                    seen.update(hits)
                    wrong += not hits
            right += len(seen)
        rows.append((level, wrong / scans, right / total))
    return rows


@pytest.mark.parametrize("ties", [False, True])
def test_froc_by_brute_force(ties):
    for truth, found in cases(150, seed=3, ties=ties):
        scans = np.arange(len(truth)) // 2
        curve = froc(truth, found, groups=scans)
        rows = {round(fp, 9): s for _, fp, s in brute_force(truth, found, scans.max() + 1)}
        mine = zip(curve.false_positives.round(9), curve.sensitivity, strict=True)
        assert dict(mine) == pytest.approx({0.0: 0.0} | rows)
        assert (np.diff(curve.thresholds) < 0).all()
        levels = curve.thresholds[1:]
        assert set(levels) <= {s for _, scores in found for s in scores.double().tolist()}


def test_froc_is_monais_where_a_lesion_is_missed():
    """MONAI leaves out the lowest threshold, which is that of missed lesions, if there are any."""
    pytest.importorskip("monai", reason=MONAI)
    from monai.metrics import compute_froc_curve_data, compute_froc_score

    compared = 0
    for truth, found in cases(150, seed=4):
        tp, fp = [], []
        for boxes, (marks, scores) in zip(truth, found, strict=True):
            hits, values = centre_hits(boxes, marks).numpy(), scores.numpy()
            fp.append(values[~hits.any(1)])
            tp += [values[hit].max(initial=0.0) for hit in hits.T]
        if min(tp) > 0:
            continue
        compared += 1
        theirs = compute_froc_curve_data(
            np.concatenate(fp), np.array(tp), len(tp), num_images=len(truth)
        )
        curve = froc(truth, found)
        np.testing.assert_allclose(curve.false_positives[::-1], theirs[0])
        np.testing.assert_allclose(curve.sensitivity[::-1], theirs[1])
        rates = tuple(2.0**k for k in range(-3, 4))
        assert curve.cpm == pytest.approx(compute_froc_score(*theirs, rates))
    assert compared > 50


def test_lunas_rules_by_hand():
    truth = [torch.tensor([box(0, 0), box(20, 20)]), torch.zeros(0, 4)]
    found = [
        # Two hits on one nodule are one hit and no false positive; one mark lies elsewhere
        (torch.tensor([box(0, 0), box(1, 1), box(30, 0)]), torch.tensor([0.6, 0.9, 0.5])),
        (torch.tensor([box(5, 5)]), torch.tensor([0.7])),
    ]
    curve = froc(truth, found)
    assert curve.thresholds.tolist() == pytest.approx([np.inf, 0.9, 0.7, 0.5])
    assert curve.false_positives.tolist() == [0, 0, 0.5, 1]
    assert curve.sensitivity.tolist() == [0, 0.5, 0.5, 0.5]
    assert curve.cpm == 0.5
    assert froc(truth, found, groups=["a", "a"]).false_positives.tolist() == [0, 0, 1, 2]


def test_a_hit_lies_within_the_radius_and_not_on_it():
    truth = torch.tensor([[0.0, 0, 6, 10]])  # radius (6 + 10) / 4 = 4 about (3, 5)
    marks = torch.tensor([[3.0 + d, 5, 3 + d, 5] for d in (0, 3.99, 4.0, -3.99)])
    assert centre_hits(truth, marks).tolist() == [[True], [True], [False], [True]]
    assert centre_hits(torch.zeros(0, 4), marks).shape == (4, 0)
    assert centre_hits(truth, torch.zeros(0, 4)).shape == (0, 1)


def test_a_line_between_thresholds_and_the_last_value_beyond():
    truth = [torch.tensor([box(0, 0), box(20, 20), box(0, 20), box(20, 0)])]
    marks = [box(0, 0), box(50, 0), box(60, 0), box(20, 20), box(0, 20)]
    curve = froc(truth, [(torch.tensor(marks), torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]))])
    assert curve.at([0, 1, 2, 8]).tolist() == [0.25, 0.25, 0.75, 0.75]
    tied = froc(truth, [(torch.tensor(marks), torch.tensor([0.9, 0.8, 0.6, 0.6, 0.6]))])
    assert tied.at([1, 1.5, 2]).tolist() == pytest.approx([0.25, 0.5, 0.75])


def test_nothing_found_and_nothing_to_find():
    truth = [torch.tensor([box(0, 0)]), torch.zeros(0, 4)]
    curve = froc(truth, [nothing(), nothing()])
    assert curve.cpm == 0 and curve.sensitivity.tolist() == [0]
    only_wrong = froc(truth, [nothing(), (torch.tensor([box(0, 0)]), torch.ones(1))])
    assert only_wrong.cpm == 0 and only_wrong.false_positives.tolist() == [0, 0.5]
    for metric in (average_precision, froc):
        with pytest.raises(UndefinedMetric, match="nothing to find"):
            metric([torch.zeros(0, 4)], [nothing()])


def test_a_resample_is_a_cohort_with_images_repeated():
    """Weights give what repeating the images, each copy a scan of its own, would give."""
    for truth, found in cases(20, seed=5, ties=True):
        if len(truth) < 3:
            continue
        patients = np.arange(len(truth)) // 2
        for times in next(resamples(np.zeros(len(truth)), groups=patients, n=5)):
            copies = [(i, copy) for i, n in enumerate(times) for copy in range(n)]
            repeated = [truth[i] for i, _ in copies], [found[i] for i, _ in copies]
            names = [f"{patients[i]}-{copy}" for i, copy in copies]
            if not any(len(boxes) for boxes in repeated[0]):
                with pytest.raises(UndefinedMetric):
                    froc(truth, found, groups=patients, weights=times)
                continue
            one, other = (
                froc(truth, found, groups=patients, weights=times),
                froc(*repeated, groups=names),
            )
            assert one.cpm == pytest.approx(other.cpm)


def test_many_draws_at_once_are_one_after_the_other():
    for truth, found in cases(10, seed=7, ties=True):
        draws = 1 + np.random.default_rng(0).integers(0, 3, (4, len(truth)))
        many = froc(truth, found, weights=draws)
        for row, times in enumerate(draws):
            one = froc(truth, found, weights=times)
            assert many.sensitivity[row] == pytest.approx(one.sensitivity)
            assert many.false_positives[row] == pytest.approx(one.false_positives)
            assert many.cpm[row] == pytest.approx(one.cpm)
        assert many.at([1, 2]).shape == (4, 2)
        empty = [len(boxes) == 0 for boxes in truth]
        with pytest.raises(UndefinedMetric, match="no image that counts"):
            froc(truth, found, weights=np.stack([np.ones(len(truth)), empty]))


def test_missing_a_lesion_never_improves_a_score():
    rng = np.random.default_rng(6)
    for truth, found in cases(60, seed=6):
        before = average_precision(truth, found), froc(truth, found).cpm
        extra = torch.tensor([box(100, 100)])  # a lesion far from every mark
        k = rng.integers(len(truth))
        more = [torch.cat([b, extra]) if i == k else b for i, b in enumerate(truth)]
        after = average_precision(more, found), froc(more, found).cpm
        assert after[0] <= before[0] and after[1] <= before[1]


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        ([nothing()], {}, "one entry an image: 2, 1"),
        ([nothing(), (torch.zeros(2, 4), torch.zeros(3))], {}, r"got \(2, 4\) and \(3,\)"),
        ([nothing(), (torch.zeros(1, 4), torch.tensor([torch.nan]))], {}, "finite scores"),
        ([nothing()] * 2, {"groups": ["a"]}, "one entry an image"),
        ([nothing()] * 2, {"weights": [1, 2, 3]}, "one entry an image"),
    ],
)
def test_what_does_not_fit_is_named(found, options, message):
    truth = [torch.tensor([box(0, 0)]), torch.zeros(0, 4)]
    with pytest.raises(DataError, match=message):
        froc(truth, found, **options)
