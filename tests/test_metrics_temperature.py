"""Oracles: a temperature that is known, SciPy's minimiser, and the slope of PyTorch's own loss."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from medlab import metrics
from medlab.errors import DataError


def case(n=2000, classes=3, factor=1.0, seed=0):
    """Labels drawn from softmax(z), and the logits factor · z that a network might give."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, (n, classes))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return (rng.random((n, 1)) > p.cumsum(1)[:, :-1]).sum(1), factor * z


def loss(labels, logits, temperature):
    return float(cross_entropy(torch.tensor(logits) / temperature, torch.tensor(labels)))


@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0, 100.0])
def test_a_known_temperature_is_found(classes, factor):
    labels, logits = case(40_000, classes, factor)
    assert metrics.fit_temperature(labels, logits) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("factor", [0.3, 2.5])
def test_scipys_minimiser_agrees_and_the_slope_of_torchs_loss_is_zero(classes, factor):
    labels, logits = case(300, classes, factor)
    found = metrics.fit_temperature(labels, logits)
    best = minimize_scalar(
        lambda log_t: loss(labels, logits, np.exp(log_t)), bracket=(-2, 2), tol=1e-12
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-6)
    beta = torch.tensor(1 / found, dtype=torch.float64, requires_grad=True)
    cross_entropy(beta * torch.tensor(logits), torch.tensor(labels)).backward()
    assert abs(beta.grad) < 1e-10
    assert loss(labels, logits, found) <= min(loss(labels, logits, t) for t in (1, found * 1.01))


def test_order_is_kept_and_so_is_the_auc():
    labels, logits = case(5000, 2, 2.5)
    p = torch.tensor(logits / metrics.fit_temperature(labels, logits)).softmax(1)
    raw = torch.tensor(logits).softmax(1)
    assert metrics.auc(labels, p) == metrics.auc(labels, raw)
    assert metrics.ece(labels, p) < metrics.ece(labels, raw) / 3


def test_two_classes_one_column_and_shifted_logits_are_one_question():
    labels, logits = case(400, 2, 3.0)
    z = logits[:, 1] - logits[:, 0]
    expected = metrics.fit_temperature(labels, logits)
    shifted = logits + np.random.default_rng(0).normal(0, 5000, (400, 1))
    for form in (z, z[:, None], torch.tensor(z), shifted, torch.tensor(logits).float()):
        assert metrics.fit_temperature(torch.tensor(labels), form) == pytest.approx(
            expected, rel=1e-5
        )


def test_huge_logits_do_not_overflow():
    labels, logits = case(500, 3, 1e6)
    with np.errstate(all="raise", under="ignore"):
        assert metrics.fit_temperature(labels, logits) == pytest.approx(1e6, rel=0.2)


def test_refusals():
    labels, logits = case(200, 3)
    with pytest.raises(metrics.UndefinedMetric, match="all 200 images are called right"):
        metrics.fit_temperature(logits.argmax(1), logits)
    for hopeless in (-logits, np.zeros_like(logits)):
        with pytest.raises(metrics.UndefinedMetric, match="infinite"):
            metrics.fit_temperature(labels, hopeless)
    with pytest.raises(DataError, match="finite"):
        metrics.fit_temperature([0, 1, 1], [-np.inf, 0.3, np.inf])
    with pytest.raises(DataError, match="one label and one score"):
        metrics.fit_temperature(labels[:5], logits)
    with pytest.raises(DataError, match="labels come first"):
        metrics.fit_temperature(logits[:, 0], labels)
    with pytest.raises(DataError, match="of one finding"):
        metrics.fit_temperature(np.eye(3, dtype=int)[labels], logits)
