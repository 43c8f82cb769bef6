"""Oracles: scikit-learn, and cases whose calibration is known by construction."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from medlab import metrics
from medlab.errors import DataError


def case(n=500, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return (rng.random(n) < p**2).astype(int), p


@pytest.mark.parametrize("bins", [1, 5, 10, 15])
def test_ece_is_the_gap_of_scikit_learns_curve_weighed_by_images(bins):
    labels, p = case()
    observed, predicted = calibration_curve(labels, p, n_bins=bins)
    count = np.bincount(np.minimum((p * bins).astype(int), bins - 1))
    expected = (count * abs(observed - predicted)).sum() / len(p)
    assert metrics.ece(labels, p, bins=bins) == pytest.approx(expected, abs=1e-12)


def test_a_probability_on_an_edge_belongs_to_the_lower_bin():
    # 0 and 0.5 in one bin: (0 − 0) + (0.5 − 1); 0.6 and 1 in the other: (0.6 − 0) + (1 − 1)
    assert metrics.ece([0, 1, 0, 1], [0.0, 0.5, 0.6, 1.0], bins=2) == pytest.approx(1.1 / 4)


def test_ece_by_hand():
    labels = np.r_[np.ones(6), np.zeros(4), np.ones(1), np.zeros(9)]
    p = np.repeat([0.8, 0.1], 10)  # 0.6 observed for 0.8, and 0.1 for 0.1
    assert metrics.ece(labels, p) == pytest.approx(0.5 * 0.2)
    two = np.stack([1 - p, p], 1)
    assert metrics.ece(labels, two) == metrics.ece(labels, p)


def test_ece_weighs_bins_by_their_images():
    labels, p = [0, 1, 1, 0], [0.9, 0.9, 0.9, 0.4]  # gaps 0.9 − 2/3 for three, 0.4 for one
    assert metrics.ece(labels, p) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.4)


def test_fifteen_bins_are_usual():
    _, p = case()
    labels = (p > 0.35).astype(int)  # the bin with 0.35 holds both gaps, and its width tells
    assert metrics.ece(labels, p) == metrics.ece(labels, p, bins=15)
    assert abs(metrics.ece(labels, p) - metrics.ece(labels, p, bins=10)) > 0.001


def test_a_calibrated_forecast_has_a_small_error_and_a_distorted_one_the_known_error():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    labels = (rng.random(len(p)) < p).astype(int)
    assert metrics.ece(labels, p) < 0.01
    assert metrics.ece(labels, p**2) == pytest.approx(1 / 2 - 1 / 3, abs=0.005)  # E[p − p²]


def test_refusals():
    labels, p = case()
    with pytest.raises(DataError, match="scores must lie between 0 and 1, got"):
        metrics.ece(labels, 3 * p - 1)
    for bins in (0, 2.5, float("nan")):
        with pytest.raises(DataError, match=f"at least 1, got {bins}"):
            metrics.ece(labels, p, bins=bins)
    for many in ([0, 1, 2], np.eye(3, dtype=int)):
        with pytest.raises(DataError, match="for two classes"):
            metrics.ece(many, np.eye(3))


@pytest.mark.parametrize("scores", [[0.2, 1.5], [-0.1, 0.5]])
def test_scores_beyond_either_end_are_no_probabilities(scores):
    with pytest.raises(DataError, match="between 0 and 1"):
        metrics.ece([0, 1], scores)
