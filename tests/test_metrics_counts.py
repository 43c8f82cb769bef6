"""Oracles: scikit-learn, MedMNIST's own evaluator where installed, and arithmetic by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from medlab import metrics


def case(n=200, tied=False, seed=0, prevalence=0.3):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < prevalence).astype(int)
    labels[:2] = 0, 1
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + labels)))
    return labels, np.round(scores, 1) if tied else scores


def several(classes=4, n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    scores = np.exp(rng.normal(size=(n, classes)) + np.eye(classes)[labels])
    return labels, np.round(scores / scores.sum(1, keepdims=True), 3)


def test_confusion_by_hand():
    counts = metrics.Confusion(tp=90, fp=30, tn=870, fn=10)
    assert counts.sensitivity == 0.9
    assert counts.specificity == pytest.approx(870 / 900)
    assert counts.ppv == 0.75
    assert counts.npv == pytest.approx(870 / 880)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_confusion_equals_scikit_learn(threshold):
    labels, scores = case(tied=True, seed=2)
    called = scores >= threshold
    tn, fp, fn, tp = sk.confusion_matrix(labels, called).ravel()
    assert metrics.confusion(labels, scores, threshold) == metrics.Confusion(tp, fp, tn, fn)
    want = sk.recall_score(labels, called)
    assert metrics.sensitivity(labels, scores, threshold) == pytest.approx(want)
    assert metrics.specificity(labels, scores, threshold) == pytest.approx(tn / (tn + fp))


@pytest.mark.parametrize("prevalence", [0.001, 0.1, 0.5, 0.99])
def test_predictive_values_follow_bayes(prevalence):
    counts = metrics.Confusion(tp=90, fp=30, tn=870, fn=10)
    there = counts.at_prevalence(prevalence)
    ppv, npv = there.ppv, there.npv
    odds = prevalence / (1 - prevalence)
    after = odds * 0.9 / (30 / 900)
    assert ppv == pytest.approx(after / (1 + after))
    missed = odds * 0.1 / (870 / 900)
    assert npv == pytest.approx(1 / (1 + missed))
    assert (there.sensitivity, there.specificity) == pytest.approx((0.9, 870 / 900))
    own = counts.at_prevalence(0.1)
    assert (own.ppv, own.npv) == pytest.approx((counts.ppv, counts.npv))


def test_where_nobody_or_everybody_is_ill_a_predictive_value_is_certain():
    counts = metrics.Confusion(tp=90, fp=30, tn=870, fn=10)
    nobody, everybody = counts.at_prevalence(0), counts.at_prevalence(1)
    assert (nobody.ppv, nobody.npv, everybody.ppv, everybody.npv) == (0, 1, 1, 0)


def test_ratios_of_nothing_are_nan_not_zero():
    nobody_ill = metrics.confusion([0, 0, 0], [0.1, 0.2, 0.3])
    assert math.isnan(nobody_ill.sensitivity)
    assert math.isnan(nobody_ill.ppv)
    assert nobody_ill.specificity == 1
    assert metrics.Confusion(5, 0, 5, 5).at_prevalence(0.5).ppv == 1


def test_medmnist_calls_a_half_negative_and_the_curve_calls_it_positive():
    labels, scores = [0, 1], [0.5, 0.9]
    assert metrics.accuracy(labels, scores) == 1
    assert metrics.confusion(labels, scores) == metrics.Confusion(tp=1, fp=1, tn=0, fn=0)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.float16, torch.tensor, int])
def test_counts_in_small_numbers_do_not_overflow(kind):
    """200 + 100 is 44 in uint8, and 120 + 100 is −36 in int8."""
    counts = [200, 100, 200, 100] if kind is not np.int8 else [120, 100, 120, 100]
    tp, fp, tn, fn = (kind(count) for count in counts)
    found, want = metrics.Confusion(tp, fp, tn, fn), metrics.Confusion(*counts)
    assert found == want
    assert found.sensitivity == counts[0] / (counts[0] + counts[3])
    assert found.npv == counts[2] / (counts[2] + counts[3])
    assert found.at_prevalence(0.3) == want.at_prevalence(0.3)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, bool])
def test_labels_and_scores_in_small_numbers_do_not_overflow(kind):
    labels, scores = np.repeat([0, 1], [300, 400]), np.tile([0, 1, 1, 0, 1, 1, 1], 100)
    small = labels.astype(kind), scores.astype(kind)
    assert metrics.confusion(*small) == metrics.confusion(labels, scores)
    for metric in (metrics.auc, metrics.accuracy, metrics.ece):
        assert metric(*small) == metric(labels, scores)
    large, costs = (labels, scores), {"thresholds": [0.2, 0.6], "miss_cost": 3}
    found, want = (metrics.expected_cost(*pair, **costs) for pair in (small, large))
    assert (found == want).all()
