"""Oracles: direct counts, a calibrated score, and the costs' own arithmetic."""

import numpy as np
import pytest
import torch

from medlab import metrics
from medlab.errors import DataError


def case(n=200, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random(n).round(2)
    return (rng.random(n) < p).astype(int), p


@pytest.mark.parametrize("prevalence", [None, 0.0, 0.02, 0.7, 1.0])
@pytest.mark.parametrize("miss_cost", [0, 1, 25.5])
def test_expected_cost_equals_the_counts_weighted_by_prevalence(prevalence, miss_cost):
    labels, p = case()
    scores = 10 * p - 3  # no probabilities
    thresholds = np.r_[-4, scores[:5], 8]
    found = metrics.expected_cost(
        labels, scores, thresholds, miss_cost=miss_cost, prevalence=prevalence
    )
    share = labels.mean() if prevalence is None else prevalence
    for t, cost in zip(thresholds, found, strict=True):
        at = metrics.confusion(labels, scores, t)
        missed, alarmed = 1 - at.sensitivity, 1 - at.specificity
        expected = share * missed * miss_cost + (1 - share) * alarmed
        assert cost == pytest.approx(1000 * expected)


def test_the_cheapest_threshold_of_calibrated_probabilities_is_the_share_of_the_costs():
    rng = np.random.default_rng(1)
    p = rng.random(400_000)
    labels = (rng.random(len(p)) < p).astype(int)
    grid = np.arange(1, 100) / 100
    for miss_cost in (1, 4, 9):
        cost = metrics.expected_cost(labels, p, grid, miss_cost=miss_cost)
        assert grid[cost.argmin()] == pytest.approx(1 / (1 + miss_cost), abs=0.03)


def test_net_benefit_is_the_prevalence_less_the_cost_at_the_matching_threshold():
    """TP/N − FP/N · t/(1 − t), with positive meaning p ≥ t (Vickers & Elkin 2006)."""
    labels, p = case()
    t, c = 0.2, 4  # 1 / (1 + 4)
    cost = metrics.expected_cost(labels, p, t, miss_cost=c) / 1000
    benefit = np.mean((p >= t) * np.where(labels == 1, 1, -t / (1 - t)))
    assert benefit == pytest.approx(labels.mean() - cost / c)


def test_a_cost_has_the_shape_of_its_thresholds_and_takes_tensors():
    labels, p = case()
    two = torch.tensor(np.stack([1 - p, p], 1))
    thresholds = torch.tensor([0.2, 0.4])
    found = metrics.expected_cost(torch.tensor(labels), two, thresholds, miss_cost=3)
    one = [metrics.expected_cost(labels, p, t, miss_cost=3) for t in thresholds.tolist()]
    np.testing.assert_allclose(found, one)
    assert np.ndim(one[0]) == 0


def test_refusals():
    labels, p = case()
    with pytest.raises(DataError, match="labels must be classes 0 to 1"):
        metrics.expected_cost(p, labels, 0.5, miss_cost=2)
    for one_class in ([1, 1], [0, 0]):
        with pytest.raises(metrics.UndefinedMetric, match="images of both classes"):
            metrics.expected_cost(one_class, [0.2, 0.4], 0.5, miss_cost=2)
    with pytest.raises(DataError, match="thresholds are numbers"):
        metrics.expected_cost(labels, p, [0.5, np.nan], miss_cost=2)
    with pytest.raises(DataError, match="prevalence"):
        metrics.expected_cost(labels, p, 0.5, miss_cost=2, prevalence=2)
    for bad in (-1, np.nan):
        with pytest.raises(DataError, match="miss_cost"):
            metrics.expected_cost(labels, p, 0.5, miss_cost=bad)
