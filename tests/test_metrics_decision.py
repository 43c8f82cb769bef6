"""Oracles: direct counts, closed forms of a calibrated score, and the costs' own arithmetic."""

import numpy as np
import pytest
import torch

from medlab import metrics
from medlab.errors import DataError
from medlab.metrics.calibration import net_benefit


def case(n=200, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random(n).round(2)
    return (rng.random(n) < p).astype(int), p


def by_counting(labels, p, t):
    tp = sum(1 for y, q in zip(labels, p, strict=True) if q >= t and y == 1)
    fp = sum(1 for y, q in zip(labels, p, strict=True) if q >= t and y == 0)
    return tp / len(p) - fp / len(p) * t / (1 - t)


def test_net_benefit_equals_a_direct_count():
    labels, p = case()
    thresholds = np.r_[0, np.arange(1, 20) / 20, p[:20][p[:20] < 1]]  # some equal to a probability
    expected = [by_counting(labels, p, t) for t in thresholds]
    np.testing.assert_allclose(net_benefit(labels, p, thresholds), expected, atol=1e-15)
    two = torch.tensor(np.stack([1 - p, p], 1))
    found = net_benefit(torch.tensor(labels), two, torch.tensor(thresholds))
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert net_benefit(labels, p, 0.3) == pytest.approx(by_counting(labels, p, 0.3))
    assert np.ndim(net_benefit(labels, p, 0.3)) == 0


def test_net_benefit_of_calibrated_uniform_probabilities_is_known():
    rng = np.random.default_rng(0)
    p = rng.random(400_000)
    labels = (rng.random(len(p)) < p).astype(int)
    t = np.array([0.1, 0.3, 0.5, 0.8])
    # ∫ₜ¹ p dp − t/(1−t) ∫ₜ¹ (1−p) dp = (1−t²)/2 − t (1−t)/2 = (1−t)/2
    np.testing.assert_allclose(net_benefit(labels, p, t), (1 - t) / 2, atol=0.004)


def test_a_decision_curve_stands_beside_all_and_none():
    labels, p = case()
    curve = metrics.decision_curve(labels, p)
    assert curve.thresholds == pytest.approx(np.linspace(0.01, 0.99, 99))
    np.testing.assert_array_equal(curve.model, net_benefit(labels, p, curve.thresholds))
    odds = curve.thresholds / (1 - curve.thresholds)
    share = labels.mean()
    np.testing.assert_allclose(curve.treat_all, share - (1 - share) * odds, atol=1e-12)
    assert not curve.treat_none.any()
    assert curve.treat_all[np.argmin(abs(curve.thresholds - share))] == pytest.approx(0, abs=0.02)
    own = metrics.decision_curve(labels, p, [0.2, 0.4])
    assert own.model.shape == own.treat_all.shape == own.treat_none.shape == (2,)
    np.testing.assert_array_equal(own.model, net_benefit(labels, p, [0.2, 0.4]))


def test_a_perfect_model_gains_the_prevalence_at_any_threshold():
    labels, _ = case()
    curve = metrics.decision_curve(labels, labels.astype(float), [0.05, 0.5, 0.95])
    np.testing.assert_allclose(curve.model, labels.mean())


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


def test_cost_and_net_benefit_are_one_figure_at_the_matching_threshold():
    labels, p = case()
    t, c = 0.2, 4  # 1 / (1 + 4)
    cost = metrics.expected_cost(labels, p, t, miss_cost=c) / 1000
    assert net_benefit(labels, p, t) == pytest.approx(labels.mean() - cost / c)


def test_refusals():
    labels, p = case()
    for bad in (1.0, -0.1, [0.2, np.nan]):
        with pytest.raises(DataError, match="below 1"):
            net_benefit(labels, p, bad)
        with pytest.raises(DataError, match="below 1"):
            metrics.decision_curve(labels, p, bad)
    with pytest.raises(DataError, match="logits"):
        net_benefit(labels, 4 * p, 0.5)
    with pytest.raises(DataError, match="labels must be classes 0 to 1"):
        net_benefit(p, labels, 0.5)
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
