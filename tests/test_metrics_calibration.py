"""Oracles: scikit-learn, and cases whose calibration is known by construction."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from medlab import metrics
from medlab.errors import DataError


def case(n=500, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return (rng.random(n) < p**2).astype(int), p


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("bins", [1, 5, 10, 15])
def test_reliability_equals_scikit_learn(bins, strategy):
    labels, p = case()
    observed, predicted = calibration_curve(labels, p, n_bins=bins, strategy=strategy)
    found = metrics.reliability(labels, p, bins=bins, strategy=strategy)
    np.testing.assert_allclose(found.observed, observed, atol=1e-12)
    np.testing.assert_allclose(found.predicted, predicted, atol=1e-12)
    assert found.count.sum() == len(p)


def test_a_probability_on_an_edge_belongs_to_the_lower_bin():
    found = metrics.reliability([0, 1, 1, 1], [0.0, 0.5, 0.6, 1.0], bins=2)
    assert found.count.tolist() == [2, 2]
    assert found.predicted == pytest.approx([0.25, 0.8])


def test_ece_by_hand():
    labels = np.r_[np.ones(6), np.zeros(4), np.ones(1), np.zeros(9)]
    p = np.repeat([0.8, 0.1], 10)  # 0.6 observed for 0.8, and 0.1 for 0.1
    assert metrics.ece(labels, p) == pytest.approx(0.5 * 0.2)
    two = np.stack([1 - p, p], 1)
    assert metrics.ece(labels, two) == metrics.ece(labels, p)


def test_ece_weighs_bins_by_their_images():
    labels, p = [0, 1, 1, 0], [0.9, 0.9, 0.9, 0.4]  # gaps 0.9 − 2/3 for three, 0.4 for one
    assert metrics.ece(labels, p) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.4)


def test_quantile_bins_follow_images_not_distinct_scores():
    p = np.r_[np.full(6, 0.1), 0.2, 0.3, 0.4, 0.5]  # half of the images at 0.1
    found = metrics.reliability(np.arange(10) % 2, p, bins=2, strategy="quantile")
    assert found.count.tolist() == [6, 4]


def test_ten_bins_for_the_diagram_and_fifteen_for_the_error():
    labels, p = case()
    assert len(metrics.reliability(labels, p).count) == 10
    labels = labels[::-1]  # now apart from p, above it here and below it there
    assert metrics.ece(labels, p) == metrics.ece(labels, p, bins=15)
    assert metrics.ece(labels, p) != metrics.ece(labels, p, bins=10)


def test_a_calibrated_forecast_has_a_small_error_and_a_distorted_one_the_known_error():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    labels = (rng.random(len(p)) < p).astype(int)
    assert metrics.ece(labels, p) < 0.01
    assert metrics.brier(labels, p) == pytest.approx(1 / 6, abs=0.003)  # E[p(1 − p)]
    assert metrics.ece(labels, p**2) == pytest.approx(1 / 2 - 1 / 3, abs=0.005)  # E[p − p²]


def test_brier_equals_scikit_learn():
    labels, p = case()
    expected = brier_score_loss(labels, p)
    assert metrics.brier(labels, p) == pytest.approx(expected, abs=1e-12)
    assert metrics.brier(labels, np.stack([1 - p, p], 1)) == pytest.approx(expected, abs=1e-12)


def test_refusals():
    labels, p = case()
    for metric in (metrics.brier, metrics.ece, metrics.reliability):
        with pytest.raises(DataError, match="scores must lie between 0 and 1, got"):
            metric(labels, 3 * p - 1)
    for bins in (0, 2.5, float("nan")):
        with pytest.raises(DataError, match=f"at least 1, got {bins}"):
            metrics.reliability(labels, p, bins=bins)
    with pytest.raises(DataError, match="uniform"):
        metrics.reliability(labels, p, strategy="equal")
    for metric in (metrics.brier, metrics.ece, metrics.reliability):
        for many in ([0, 1, 2], np.eye(3, dtype=int)):
            with pytest.raises(DataError, match="for two classes"):
                metric(many, np.eye(3))


@pytest.mark.parametrize("scores", [[0.2, 1.5], [-0.1, 0.5]])
def test_scores_beyond_either_end_are_no_probabilities(scores):
    with pytest.raises(DataError, match="between 0 and 1"):
        metrics.brier([0, 1], scores)
