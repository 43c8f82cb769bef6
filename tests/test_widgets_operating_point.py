"""Oracles: the cost by its formula from the counts; the panel by the line that it draws."""

import re

import numpy as np
import pytest

from medlab import metrics, plotting, widgets
from medlab.errors import DataError
from tests.test_widgets import Elements, scored


@pytest.fixture
def shown(monkeypatch):
    figures = []
    monkeypatch.setattr(plotting, "show", lambda fig, *, alt: figures.append((fig, alt)))
    return figures


@pytest.mark.parametrize("prevalence", [None, 0.01, 0.6])
@pytest.mark.parametrize("miss_cost", [0, 1, 12.5])
def test_the_cost_is_misses_and_false_alarms_per_thousand(prevalence, miss_cost):
    labels, scores = scored()
    now = widgets.readout(labels, scores, threshold=0.4, prevalence=prevalence, miss_cost=miss_cost)
    c = metrics.confusion(labels, scores, 0.4)
    share = labels.mean() if prevalence is None else prevalence
    misses = 1000 * share * c.fn / (c.tp + c.fn)
    alarms = 1000 * (1 - share) * c.fp / (c.fp + c.tn)
    assert now.cost == pytest.approx(misses * miss_cost + alarms)
    assert (now.ppv, now.npv) == c.at_prevalence(share)
    assert widgets.readout(labels, scores, threshold=0.4).cost is None


def test_without_a_cost_the_panel_is_as_it_was(shown):
    panel = widgets.threshold(*scored())
    assert set(panel.controls) == {"threshold", "prevalence"}
    assert "cost" not in panel.view.value + shown[0][1]
    assert len(shown[0][0].axes) == 2


def test_the_cost_follows_its_slider(shown):
    labels, scores = scored()
    panel = widgets.threshold(labels, scores, miss_cost=4, prevalence=0.2)
    assert list(panel.controls) == ["threshold", "prevalence", "miss_cost"]
    assert all(control.description for control in panel.controls.values())
    grid = np.linspace(0, 1, 101)
    for cut, prevalence, price in [(0.5, 0.2, 4), (0.3, 0.05, 30), (0.3, 0.05, 0)]:
        for name, value in zip(panel.controls, (cut, prevalence, price), strict=True):
            panel.controls[name].value = value
        elements = Elements(panel.view.value)
        cost = metrics.expected_cost(labels, scores, grid, miss_cost=price, prevalence=prevalence)
        (line,) = elements.get("polyline")
        x, y = np.array([p.split(",") for p in line["points"].split()], float).T
        np.testing.assert_allclose(x, 480 * grid, atol=0.05)
        np.testing.assert_allclose(240 - y, 110 * cost / cost.max(), atol=0.06)
        text = " ".join(elements.text)
        now = widgets.readout(labels, scores, threshold=cut, prevalence=prevalence, miss_cost=price)
        assert f"expected cost {now.cost:,.0f} false alarms" in re.sub(r"\s+", " ", text)
        assert f"least {cost.min():,.0f}, at a threshold of {grid[cost.argmin()]:.3g}" in text
        (alt,) = [a["aria-label"] for a in elements.get("svg")]
        assert "Below them the expected cost" in alt


def test_the_static_figure_shows_the_cost_and_its_text_holds_no_result(shown):
    labels, scores = scored()
    widgets.threshold(labels, scores, miss_cost=5)
    widgets.threshold(labels, np.clip(scores * 0.9, 0, 1), miss_cost=5)
    (fig, alt), (_, again) = shown
    assert alt == again
    assert "Beside them the expected cost" in alt
    drawn = fig.axes[2].lines[0]
    expected = metrics.expected_cost(labels, scores, drawn.get_xdata(), miss_cost=5)
    np.testing.assert_allclose(drawn.get_ydata(), expected)


def test_refusals(shown):
    with pytest.raises(metrics.UndefinedMetric, match="one class"):
        widgets.threshold([1, 1, 1], [0.2, 0.3, 0.4], miss_cost=2)
    with pytest.raises(DataError, match="not negative"):
        widgets.threshold(*scored(), miss_cost=-1)
    assert not shown
