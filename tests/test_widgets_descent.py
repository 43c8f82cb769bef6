"""Oracles: closed forms of the recurrence, torch.optim.SGD; the panel by the path that it draws."""

import time

import numpy as np
import pytest
import torch

from medlab import plotting, widgets
from medlab.errors import DataError
from tests.test_widgets import Elements


@pytest.fixture
def shown(monkeypatch):
    figures = []
    monkeypatch.setattr(plotting, "show", lambda fig, *, alt: figures.append((fig, alt)))
    return figures


@pytest.mark.parametrize("lr", [0.0, 0.01, 0.04, 0.079, 0.085])
def test_without_momentum_each_parameter_is_a_geometric_sequence(lr):
    path = widgets.descent_path((-1.8, 0.6), lr=lr, curvatures=(1, 25), steps=30)
    t = np.arange(31)[:, None]
    expected = np.array([-1.8, 0.6]) * (1 - lr * np.array([1.0, 25.0])) ** t
    np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-15)
    assert path.dtype == np.float64


@pytest.mark.parametrize("lr", [0.002, 0.05, 0.15])
@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_with_momentum_it_is_a_sum_of_two_powers(lr, momentum):
    """θ_{t+1} = (1 + μ − ηλ) θ_t − μ θ_{t−1}, so θ_t = a r₁ᵗ + b r₂ᵗ with the roots r of that."""
    path = widgets.descent_path([1.5], lr=lr, momentum=momentum, curvatures=[20.0], steps=40)
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
    path = widgets.descent_path(seen[0], lr=0.03, momentum=0.8, curvatures=curvatures, steps=50)
    np.testing.assert_allclose(path, torch.stack(seen), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_it_ends_below_the_limit_and_runs_away_beyond(momentum):
    limit = 2 * (1 + momentum) / 25
    for factor in (0.98, 1.02):
        path = widgets.descent_path((1, 1), lr=factor * limit, momentum=momentum, steps=2000)
        assert (abs(path[-1, 1]) < 1e-3) if factor < 1 else (abs(path[-1, 1]) > 1e3)


def test_refusals(shown):
    for options, told in [
        ({"lr": -0.1}, "lr must be ≥ 0"),
        ({"lr": np.nan}, "lr must be ≥ 0"),
        ({"lr": 0.1, "momentum": 1.0}, "momentum 0 to below 1"),
        ({"lr": 0.1, "steps": -1}, "steps ≥ 0"),
        ({"lr": np.inf}, "lr must be ≥ 0 and finite"),
        ({"lr": 0.1, "steps": 2.5}, "steps ≥ 0 and whole"),
        ({"lr": 0.1, "steps": float("nan")}, "steps ≥ 0 and whole"),
        ({"lr": 0.1, "curvatures": (1, 0)}, "curvatures must be > 0"),
        ({"lr": 0.1, "curvatures": (1, np.inf)}, "curvatures must be > 0"),
        ({"lr": 0.1, "curvatures": (1, np.nan)}, "curvatures must be > 0"),
        ({"lr": 0.1, "curvatures": (1, 2, 3)}, "of one length"),
        ({"lr": 0.1, "start": [[1, 1]], "curvatures": [[1, 1]]}, "of one length"),
    ]:
        with pytest.raises(DataError, match=told):
            widgets.descent_path(**{"start": (1, 1), **options})
    with pytest.raises(DataError, match="start must be finite"):
        widgets.descent_path((np.nan, 1), lr=0.1)
    assert widgets.descent_path((1, 1), lr=0.1, steps=0).tolist() == [[1, 1]]
    with pytest.raises(DataError, match="curvatures"):
        widgets.descent(curvatures=(-1, 5))
    for steps in (0, 201):
        with pytest.raises(DataError, match="1 to 200"):
            widgets.descent(steps=steps)
    assert not shown


def drawn(panel):
    """Path in θ and decades of the loss, read back from the picture."""
    elements = Elements(panel.view.value)
    path, curve = (
        np.array([p.split(",") for p in line["points"].split()], float)
        for line in elements.get("polyline")
    )
    return (path / (180, -90) + (-1, 1)) * (2.07, 1.035), 3 - curve[:, 1] / 180 * 12, elements


@pytest.mark.parametrize(("lr", "momentum"), [(0.07, 0.0), (0.05, 0.6), (0.1, 0.2), (0.085, 0.0)])
def test_the_panel_follows_its_sliders(shown, lr, momentum):
    panel = widgets.descent()
    panel.controls["lr"].value, panel.controls["momentum"].value = lr, momentum
    lr, momentum = panel.controls["lr"].value, panel.controls["momentum"].value
    theta = widgets.descent_path((-1.8, 0.6), lr=lr, momentum=momentum)
    path, decades, elements = drawn(panel)
    inside = (np.abs(theta) < (2, 1)).all(1)
    np.testing.assert_allclose(path[inside], theta[inside], atol=0.01)
    losses = theta[:, 0] ** 2 + 25 * theta[:, 1] ** 2
    expected = np.log10(losses / losses[0])
    np.testing.assert_allclose(decades, np.clip(expected, -9, 3), atol=0.01)
    text = " ".join(elements.text)
    limit = 2 * (1 + momentum) / 25
    assert f"{lr / limit:.2f} of the limit 2(1 + μ)/λmax = {limit:.3f}" in text
    assert f"after 40 steps: {10.0 ** expected[-1]:.1e} of the first loss" in text
    goal = np.flatnonzero(expected >= -6)[-1] + 1
    told = f"from step {goal} on" if goal <= 40 else "not below one millionth within 40 steps"
    assert told in text
    [image] = [a for a in elements.get("svg") if a["role"] == "img"]
    assert f"Learning rate {lr:.3f}, momentum {momentum:.2f}" in image["aria-label"]


def test_a_path_that_starts_at_the_lowest_point_or_runs_far_away_is_still_drawn(shown):
    still = widgets.descent(start=(0.0, 0.0))
    assert "0.0e+00 of the first loss" in still.view.value
    wild = widgets.descent(steps=200)
    wild.controls["lr"].value = wild.controls["lr"].max
    numbers = [
        float(v) for p in drawn(wild)[2].get("polyline")[0]["points"].split() for v in p.split(",")
    ]
    assert np.abs(numbers).max() < 1e5


def test_sliders_reach_past_the_limit_at_any_momentum_and_redraw_quickly(shown):
    for curvatures in ((1, 25), (0.5, 3), (1, 400)):
        panel = widgets.descent(curvatures=curvatures, lr=1 / max(curvatures))
        lr, momentum = panel.controls["lr"], panel.controls["momentum"]
        assert lr.max > 2 * (1 + momentum.max) / max(curvatures)
        assert 40 <= lr.max / lr.step <= 600
    start = time.perf_counter()
    momentum.value = 0.5
    assert time.perf_counter() - start < 0.1
    assert "400 times as curved" in shown[-1][1]
