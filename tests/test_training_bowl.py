"""Oracles: closed forms of the recurrence, and torch.optim.SGD."""

import numpy as np
import pytest
import torch

from medlab.errors import DataError
from medlab.training import descent_path


@pytest.mark.parametrize("lr", [0.0, 0.01, 0.04, 0.079, 0.085])
def test_without_momentum_each_parameter_is_a_geometric_sequence(lr):
    path = descent_path((-1.8, 0.6), lr=lr, curvatures=(1, 25), steps=30)
    t = np.arange(31)[:, None]
    expected = np.array([-1.8, 0.6]) * (1 - lr * np.array([1.0, 25.0])) ** t
    np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-15)
    assert path.dtype == np.float64


@pytest.mark.parametrize("lr", [0.002, 0.05, 0.15])
@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_with_momentum_it_is_a_sum_of_two_powers(lr, momentum):
    """θ_{t+1} = (1 + μ − ηλ) θ_t − μ θ_{t−1}, so θ_t = a r₁ᵗ + b r₂ᵗ with the roots r of that."""
    path = descent_path([1.5], lr=lr, momentum=momentum, curvatures=[20.0], steps=40)
    roots = np.roots([1, -(1 + momentum - lr * 20), momentum]).astype(complex)
    first = [1.5, 1.5 * (1 - lr * 20)]
    a, b = np.linalg.solve([[1, 1], roots], first)
    t = np.arange(41)
    expected = (a * roots[0] ** t + b * roots[1] ** t).real
    np.testing.assert_allclose(path[:, 0], expected, rtol=1e-8, atol=1e-12)


def test_it_is_torchs_sgd():
    curvatures = torch.tensor([1.0, 3.0, 40.0], dtype=torch.float64)
    theta = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([theta], lr=0.03, momentum=0.8)
    seen = [theta.detach().clone()]
    for _ in range(50):
        optimiser.zero_grad()
        (0.5 * curvatures * theta**2).sum().backward()
        optimiser.step()
        seen.append(theta.detach().clone())
    path = descent_path(seen[0], lr=0.03, momentum=0.8, curvatures=curvatures, steps=50)
    np.testing.assert_allclose(path, torch.stack(seen), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_it_ends_below_the_limit_and_runs_away_beyond(momentum):
    limit = 2 * (1 + momentum) / 25
    for factor in (0.98, 1.02):
        path = descent_path((1, 1), lr=factor * limit, momentum=momentum, steps=2000)
        assert (abs(path[-1, 1]) < 1e-3) if factor < 1 else (abs(path[-1, 1]) > 1e3)


def test_refusals():
    for options in [
        {"lr": -0.1},
        {"lr": np.nan},
        {"lr": np.inf},
        {"lr": 0.1, "momentum": 1.0},
        {"lr": 0.1, "curvatures": (1, 0)},
        {"lr": 0.1, "curvatures": (1, np.inf)},
        {"lr": 0.1, "curvatures": (1, np.nan)},
        {"lr": 0.1, "curvatures": (1, 2, 3)},
    ]:
        with pytest.raises(DataError, match="curvatures must be > 0"):
            descent_path((1, 1), **options)
    assert descent_path((1, 1), lr=0.1, steps=0).tolist() == [[1, 1]]
