"""Oracles: scikit-learn's counts, the cost by its formula, the recurrence of gradient descent."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from medlab import widgets
from medlab.errors import DataError
from tests.test_widgets import (
    live,
    move,
    quick,  # noqa: F401
    scored,
)

pytestmark = pytest.mark.usefixtures("quick")


START = {"threshold": 0.5, "prevalence": 0.3}


def lines_of(ax):
    return [np.asarray(line.get_ydata(), float) for line in ax.lines]


# --- threshold --------------------------------------------------------------------------------


def test_threshold_follows_its_sliders():
    labels, scores = scored()
    panel = widgets.threshold(labels, scores, **START)
    for cut, prevalence in [(0.5, 0.05), (0.25, 0.6)]:
        move(panel, {"threshold": cut, "prevalence": prevalence})
        left, right = panel.figure.axes
        tn, fp, fn, tp = confusion_matrix(labels, scores >= cut).ravel()
        found, alarms = tp / (tp + fn), fp / (fp + tn)
        ppv = found * prevalence / (found * prevalence + alarms * (1 - prevalence))
        npv = (1 - alarms) * (1 - prevalence)
        npv /= npv + (1 - found) * prevalence
        widths = [bar.get_width() for bar in right.patches]
        assert widths == pytest.approx([found, 1 - alarms, ppv, npv])
        text = "\n".join(live(panel)[2])
        assert f"sensitivity {found:.3f}: {tp} of {labels.sum()}" in text
        assert f"specificity {1 - alarms:.3f}: {tn} of {(1 - labels).sum()}" in text
        assert f"PPV {ppv:.3f} at a prevalence of {prevalence:.1%}" in text
        assert f"NPV {npv:.3f} at a prevalence of {prevalence:.1%}" in text
        assert set(left.lines[0].get_xdata()) == {cut}
        assert "images that are negative and positive, a line at" in live(panel)[1]
    for k, steps in enumerate(left.patches):
        counts = np.histogram(scores[labels == k], 30, (0, 1))[0]
        np.testing.assert_array_equal(steps.get_data().values, counts)
    panel.controls["threshold"].value = 1.0
    assert "PPV is undefined" in panel.view.value  # nobody is called positive
    assert panel.figure.axes[1].patches[2].get_width() == 0


def test_scores_that_are_no_probabilities_get_their_own_range():
    labels, scores = scored()
    for other, cut in ((10 * scores - 5, 0.0), (3 * scores, 1.0)):
        panel = widgets.threshold(labels, other, threshold=cut, prevalence=0.3)
        slider = panel.controls["threshold"]
        assert (slider.min, slider.max) == (min(other), max(other))
    panel = widgets.threshold([0, 1], [7.0, 7.0], threshold=7, prevalence=0.3)
    assert panel.controls["threshold"].max == 8


def test_texts_hold_no_result_that_a_processor_could_change():
    labels, scores = scored()
    one = widgets.threshold(labels, scores, **START)
    other = widgets.threshold(labels, np.clip(scores * 0.9, 0, 1), **START)
    assert repr(one) == repr(other)


@pytest.mark.parametrize(
    ("pairs", "start", "told"),
    [
        (([0, 1], [0.1]), {}, "one label and one score"),
        (scored(), {"threshold": 1.5}, "from 0 to 1; got 1.5"),
        (scored(), {"threshold": "half"}, "threshold must be a number"),
        (scored(), {"prevalence": 0}, "0.001 to 0.999; got 0"),
    ],
)
def test_refusals(pairs, start, told):
    with pytest.raises(DataError, match=told):
        widgets.threshold(*pairs, **(START | start))


# --- descent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("lr", "momentum"), [(0.07, 0.0), (0.05, 0.6), (0.1, 0.2), (0.085, 0.0)])
def test_descent_follows_its_sliders(lr, momentum):
    panel = widgets.descent()
    move(panel, {"lr": lr, "momentum": momentum})
    theta, velocity = [np.array([-1.8, 0.6])], np.zeros(2)
    for _ in range(40):
        velocity = momentum * velocity + np.array([1.0, 25.0]) * theta[-1]
        theta.append(theta[-1] - lr * velocity)
    theta = np.array(theta)
    left, right = panel.figure.axes
    path = np.stack(left.lines[0].get_data(), 1)
    inside = (np.abs(theta) < 100).all(1)
    np.testing.assert_allclose(path[inside], theta[inside], atol=1e-9)
    losses = theta[:, 0] ** 2 + 25 * theta[:, 1] ** 2
    ratios = losses / losses[0]
    np.testing.assert_allclose(lines_of(right)[0], np.clip(ratios, 1e-9, 1e3))
    text = " ".join(live(panel)[2])
    limit = 2 * (1 + momentum) / 25
    assert f"{lr / limit:.2f} of the limit 2(1 + μ)/λmax = {limit:.3f}" in text
    assert f"after 40 steps: {ratios[-1]:.1e} of the first loss" in text
    goal = np.flatnonzero(ratios >= 1e-6)[-1] + 1
    told = f"from step {goal} on" if goal <= 40 else "not below one millionth within 40 steps"
    assert told in text
    assert f"Learning rate {lr:.3f}, momentum {momentum:.2f}" in panel.alt


def test_a_path_that_runs_far_away_is_still_drawn():
    panel = widgets.descent()
    panel.controls["lr"].value = panel.controls["lr"].max
    assert np.abs(panel.figure.axes[0].lines[0].get_data()).max() < 1e3
    assert live(panel)[0].startswith(b"\x89PNG")


def test_the_slider_reaches_past_the_limit_at_any_momentum():
    controls = widgets.descent().controls
    assert controls["lr"].max > 2 * (1 + controls["momentum"].max) / 25
