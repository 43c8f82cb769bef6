"""How `benchmarks/nuclei.py` scores and decodes, against plain definitions."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from skimage.draw import disk
from skimage.measure import label

from medlab.cohort import Cohort
from tests.where import ROOT

SPEC = importlib.util.spec_from_file_location("nuclei", ROOT / "benchmarks" / "nuclei.py")
NUCLEI = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(NUCLEI)


def discs(rng, n: int) -> np.ndarray:
    drawn = np.zeros((64, 64), np.int32)
    for k in range(1, n + 1):
        drawn[disk(rng.integers(0, 64, 2), rng.integers(3, 9), shape=(64, 64))] = k
    _, again = np.unique(drawn, return_inverse=True)
    return again.reshape(64, 64).astype(np.int32) if (drawn == 0).any() else drawn


def matched(truth: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """The best assignment of found to true masks, pair by pair, with IoU above a half."""
    masks = [[one == k for k in np.unique(one[one > 0])] for one in (truth, found)]
    if not all(masks):
        return 0, len(masks[1]), len(masks[0])
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in masks[1]] for a in masks[0]])
    rows, columns = linear_sum_assignment(iou > 0.5, maximize=True)
    hit = int((iou[rows, columns] > 0.5).sum())
    return hit, len(masks[1]) - hit, len(masks[0]) - hit


def test_hits_are_those_of_the_best_assignment():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        truth = discs(rng, rng.integers(0, 9))
        found = (
            np.roll(truth, tuple(rng.integers(-3, 4, 2)), (0, 1))
            if rng.random() < 0.7
            else (discs(rng, rng.integers(0, 9)))
        )
        found = found * (rng.random(found.shape) < 0.95)
        got = NUCLEI.hits(truth, found)
        assert got == matched(truth, found)
        seen.add(got[0])
    assert len(seen) > 4


def test_an_overlap_of_exactly_a_half_is_no_hit():
    truth, found = np.zeros((4, 4), int), np.zeros((4, 4), int)
    truth[:2], found[:1] = 1, 3  # numbers may have gaps
    assert NUCLEI.hits(truth, found) == (0, 1, 1)
    found[1, 0] = 3
    assert NUCLEI.hits(truth, found) == (1, 0, 0)


def test_scores_are_the_mean_over_images_and_pooled():
    counts = np.array([[8, 1, 1], [1, 1, 0]])
    once, twice = NUCLEI.scores(counts, np.array([[1, 1], [2, 0]]))
    assert once == pytest.approx([(0.8 + 0.5) / 2, 9 / 12])
    assert twice == pytest.approx([0.8, 0.8])


def test_true_parts_give_the_nuclei_back():
    truth = np.zeros((80, 80), np.int32)
    for k, centre in enumerate([(0, 10), (30, 30), (30, 47), (47, 38), (70, 79), (60, 5)], start=1):
        truth[disk(centre, 9, shape=(80, 80))] = k  # touching one another and the border
    classes = NUCLEI.parts(truth)
    cores = label(classes == 2)
    assert cores.max() == 6
    assert all(len(np.unique(truth[cores == k])) == 1 for k in range(1, 7))
    found = NUCLEI.nuclei(np.stack([classes == k for k in range(4)]).astype(float))
    assert NUCLEI.hits(truth, found) == (6, 0, 0)
    assert not NUCLEI.nuclei(np.stack([np.ones((9, 9)), *np.zeros((3, 9, 9))])).any()


def test_parts_are_those_of_distances_in_the_whole_image():
    rng = np.random.default_rng(1)
    for _ in range(20):
        truth = discs(rng, rng.integers(1, 9))
        masks = [truth == k for k in range(1, truth.max() + 1)]
        expected = (truth > 0).astype(int)
        for mask in masks:
            deep = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            expected[deep > deep.max() / 2] = 2
        near = sum((distance_transform_edt(~mask) <= 2.5).astype(int) for mask in masks)
        expected[near >= 2] = 3
        assert (NUCLEI.parts(truth) == expected).all()


def test_every_way_to_turn_an_image_is_turned_back():
    images = torch.rand(2, 1, 8, 8)

    class Copy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, images):
            return torch.cat([images * k for k in range(4)], 1) * self.weight

    found = NUCLEI.predict(Copy(), images)
    want = (images * torch.arange(4.0).view(1, 4, 1, 1)).softmax(1).numpy()
    assert found == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("by", ["fields", "images"])
def test_images_are_scored_once_and_fields_stay_together_unless_divided_by_images(by):
    fields = np.repeat([f"field {k}" for k in range(40)], [4, 1, 2, 3] * 10)
    cohort = Cohort(
        images=torch.arange(100.0).view(100, 1, 1, 1),
        masks=torch.zeros(100, 1, 1, dtype=torch.uint8),
        patients=fields,
        card=NUCLEI.PIXELS,
    )

    def images(part: Cohort) -> set[int]:
        return {int(number) for number in part.images.flatten()}

    ((rest, test),) = NUCLEI.divided(cohort, by, choose=False)
    folds = NUCLEI.divided(cohort, by, choose=True)
    for learn, scored in [(rest, test), *folds]:
        both = {fields[k] for k in images(learn)} & {fields[k] for k in images(scored)}
        assert bool(both) == (by == "images")
        assert not images(learn) & images(scored)
    assert images(rest) | images(test) == set(range(100))
    assert sorted(k for _, scored in folds for k in images(scored)) == sorted(images(rest))
    assert all(images(learn) | images(scored) == images(rest) for learn, scored in folds)
