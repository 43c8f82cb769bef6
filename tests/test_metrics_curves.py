"""Oracles: scikit-learn, MedMNIST's own evaluator where installed, and arithmetic by hand."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medlab import metrics
from medlab.errors import DataError


def case(n=200, tied=False, seed=0, prevalence=0.3):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < prevalence).astype(int)
    labels[:2] = 0, 1
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + labels)))
    return labels, np.round(scores, 1) if tied else scores


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [2, 3, 17, 1000])
def test_auc_equals_scikit_learn(n, tied):
    labels, scores = case(n, tied, seed=n)
    assert abs(metrics.auc(labels, scores) - sk.roc_auc_score(labels, scores)) < 1e-12


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_auc_counts_pairs(rows):
    positive = [s for y, s in rows if y]
    negative = [s for y, s in rows if not y]
    if not positive or not negative:
        with pytest.raises(metrics.UndefinedMetric):
            metrics.auc(*zip(*rows, strict=True))
        return
    wins = sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
    labels, scores = zip(*rows, strict=True)
    assert metrics.auc(labels, scores) == pytest.approx(wins / len(positive) / len(negative))


def test_auc_takes_every_shape_a_model_returns():
    labels, scores = case()
    expected = sk.roc_auc_score(labels, scores)
    two = np.stack([1 - scores, scores], 1)
    for y in (labels, labels[:, None], torch.tensor(labels), labels.astype(bool), labels * 1.0):
        for s in (scores, scores[:, None], two, torch.tensor(two), list(scores)):
            assert metrics.auc(y, s) == pytest.approx(expected, abs=1e-12)
    grad = torch.tensor(scores, requires_grad=True)
    assert metrics.auc(labels, grad) == pytest.approx(expected, abs=1e-12)
    assert isinstance(metrics.auc(torch.tensor(labels), torch.tensor(scores).bfloat16()), float)


def test_auc_of_infinite_scores_is_a_rank_statistic():
    assert metrics.auc([0, 1, 0, 1], [-math.inf, math.inf, 0.0, 1.0]) == 1.0


def several(classes=4, n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    scores = np.exp(rng.normal(size=(n, classes)) + np.eye(classes)[labels])
    return labels, np.round(scores / scores.sum(1, keepdims=True), 3)


def test_multiclass_is_macro_one_against_rest():
    labels, scores = several()
    expected = sk.roc_auc_score(labels, scores / scores.sum(1, keepdims=True), multi_class="ovr")
    each = [sk.roc_auc_score(labels == k, scores[:, k]) for k in range(4)]
    assert metrics.auc(labels, scores) == pytest.approx(np.mean(each), abs=1e-12)
    assert metrics.auc(labels, scores) == pytest.approx(expected, abs=5e-3)
    assert metrics.accuracy(labels, scores) == sk.accuracy_score(labels, scores.argmax(1))


def test_multilabel_is_the_mean_over_findings():
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, (150, 3)), rng.random((150, 3))
    expected = sk.roc_auc_score(labels, scores, average="macro")
    assert metrics.auc(labels, scores) == pytest.approx(expected, abs=1e-12)
    right = (scores > 0.5) == labels
    assert metrics.accuracy(labels, scores) == pytest.approx(right.mean(), abs=1e-12)


@pytest.mark.parametrize("task", ["binary-class", "multi-class", "multi-label, binary-class"])
def test_auc_and_accuracy_equal_the_medmnist_evaluator(task):
    evaluator = pytest.importorskip("medmnist.evaluator", reason="medmnist is not installed")
    rng = np.random.default_rng(5)
    if task == "binary-class":
        labels, scores = case(tied=True)
        labels, scores = labels[:, None], np.stack([1 - scores, scores], 1)
    elif task == "multi-class":
        labels, scores = several(5)
        labels = labels[:, None]
    else:
        labels, scores = rng.integers(0, 2, (99, 4)), rng.random((99, 4)).round(1)
    expected = evaluator.getAUC(labels, scores, task), evaluator.getACC(labels, scores, task)
    assert metrics.auc(labels, scores) == pytest.approx(expected[0], abs=1e-12)
    assert metrics.accuracy(labels, scores) == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_curves_equal_scikit_learn(tied):
    labels, scores = case(120, tied, seed=8)
    ours, theirs = (
        metrics.roc_curve(labels, scores),
        sk.roc_curve(labels, scores, drop_intermediate=False),
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    fpr, tpr, _ = ours
    trapezium = np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2)
    assert trapezium == pytest.approx(metrics.auc(labels, scores), abs=1e-12)


def test_every_threshold_of_the_curve_gives_its_point():
    labels, scores = case(60, tied=True, seed=4)
    for fpr, tpr, threshold in zip(*metrics.roc_curve(labels, scores), strict=True):
        counts = metrics.confusion(labels, scores, threshold)
        assert counts.sensitivity == pytest.approx(tpr)
        assert 1 - counts.specificity == pytest.approx(fpr)


def test_an_exactly_reached_sensitivity_counts():
    labels = np.r_[np.zeros(10), np.ones(10)]
    scores = np.r_[np.full(10, 6.5), np.arange(10)]  # 3 of 10 positive above: 0.3 < 1 − 0.7
    assert metrics.specificity_at_sensitivity(labels, scores, 1 - 0.7).specificity == 1


def test_the_usual_demand_is_nineteen_in_twenty_sensitive():
    labels, scores = np.repeat([0, 1], 100), np.r_[np.arange(100), np.arange(100) + 30.5]
    found = metrics.specificity_at_sensitivity(labels, scores)
    assert (found.specificity, found.sensitivity) == pytest.approx((0.36, 0.95))


ROWS = [
    ("one class", [1, 1], [0.2, 0.3], "all 2 labels are positive"),
    ("lengths", [0, 1, 1], [0.2, 0.3], r"\(3,\) and scores \(2,\)"),
    ("empty", [], [], "empty"),
    ("nan", [0, 1], [0.2, math.nan], r"1 of 2 scores are NaN \(the first at image 1\)"),
    ("coding", [-1, 1], [0.2, 0.3], "classes 0 to 1, found -1"),
    ("fraction", [0.5, 1], [0.2, 0.3], "found 0.5"),
    ("nan label", [math.nan, 1], [0.2, 0.3], "found nan"),
    ("words", ["ill", "well"], [0.2, 0.3], "must be numbers"),
    ("swapped", [0.2, 0.3], [0, 1], "labels come first"),
    ("class 3 of 3", [0, 3], np.eye(3)[:2], "classes 0 to 2, found 3"),
    ("many codes", [2, 3, 4, 5, 6], np.ones(5), "classes 0 to 1, found 2, 3, 4, 5, …"),
    ("one nan of a row", [0, 1], [[0.2, 0.3, 0.5], [0.1, math.nan, 0.9]], "1 of 2 scores are NaN"),
    ("numbers", 1, 0.5, r"shape \(\) and scores \(\)"),
    ("missing class", [0, 1], np.eye(3)[:2], "class or finding 2: all 2 labels are negative"),
    ("shapes", [[0, 1, 1], [1, 0, 1]], np.ones((2, 2)), "do not fit"),
]


@pytest.mark.parametrize(("name", "labels", "scores", "words"), ROWS)
def test_auc_says_what_is_wrong(name, labels, scores, words):
    with pytest.raises(DataError, match=words):
        metrics.auc(labels, scores)


def test_other_refusals():
    labels, scores = several()
    with pytest.raises(DataError, match="choose one class"):
        metrics.roc_curve(labels, scores)
    with pytest.raises(DataError, match="choose one class, labels == k, or finding"):
        metrics.confusion(np.eye(3, dtype=int), np.eye(3))
    with pytest.raises(DataError, match="apply a sigmoid"):
        metrics.confusion([0, 1], [-2.0, 3.0])
    with pytest.raises(DataError, match="apply a sigmoid"):
        metrics.accuracy([0, 1], [-2.0, 3.0])
    for threshold in (0.0, 0, np.float32(0), torch.tensor(0.0)):
        found = metrics.confusion([0, 1], [-2.0, 3.0], threshold=threshold)
        assert found == metrics.Confusion(tp=1, fp=0, tn=1, fn=0)
    for threshold in (math.nan, "0.5", [0.2, 0.5]):
        with pytest.raises(DataError, match="it must be one number"):
            metrics.confusion([0, 1], [0.2, 0.3], threshold)
    with pytest.raises(metrics.UndefinedMetric, match="both classes"):
        metrics.roc_curve([1, 1], [0.1, 0.2])
    with pytest.raises(DataError, match="prevalence must lie between 0 and 1, got 5"):
        metrics.Confusion(1, 1, 1, 1).at_prevalence(5)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels, scores = case()
        for metric in (metrics.auc, metrics.roc_curve, metrics.sensitivity):
            metric(labels, scores)


@pytest.mark.parametrize("wanted", [0.0, 0.5, 0.8, 0.95, 1.0])
def test_specificity_at_sensitivity_is_the_best_over_all_thresholds(wanted):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    scores = np.round(labels * 0.3 + rng.random(200), 2)
    tried = [(t, metrics.confusion(labels, scores, t)) for t in [*np.unique(scores), np.inf]]
    enough = [(t, c) for t, c in tried if c.sensitivity >= wanted]
    point = metrics.specificity_at_sensitivity(labels, scores, wanted)
    assert point.threshold == max(t for t, _ in enough)
    assert point.specificity == pytest.approx(max(c.specificity for _, c in enough))
    with pytest.raises(DataError, match="between 0 and 1"):
        metrics.specificity_at_sensitivity(labels, scores, 95)


def test_curves_of_infinite_scores_keep_their_shape():
    """Log-odds of a sure network are infinite; a curve looks at the order alone."""
    labels, finite = [0, 1, 0, 1, 1], [-9.0, 9.0, 0.0, 1.0, -9.0]
    scores = [-math.inf, math.inf, 0.0, 1.0, -math.inf]
    curves = metrics.roc_curve(labels, scores)[:2], metrics.roc_curve(labels, finite)[:2]
    for a, b in zip(*curves, strict=True):
        np.testing.assert_array_equal(a, b)
    assert metrics.auc(labels, scores) == metrics.auc(labels, finite)
