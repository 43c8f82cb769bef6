"""Curves that follow a slider: gradient descent on a bowl, and the threshold of a test."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from medlab import metrics, plotting
from medlab.training import descent_path
from medlab.widgets._panel import Caption, Panel, slider

STEPS, START = 40, (-1.8, 0.6)
LOWEST, HIGHEST, GOAL = -9, 3, -6  # decades of the loss shown, and the one to reach

# All that a reader of the page sees, for translators.
WORDS = {
    "lr": "learning rate",
    "momentum": "momentum",
    "descent_alt": "Left, a path downhill across the contours of a bowl {0:g} times as curved "
    "along θ₂ as along θ₁; right, its loss at each step, on a logarithmic axis. Learning rate "
    "{1:.3f}, momentum {2:.2f}.",
    "x": "θ₁",
    "y": "θ₂",
    "step": "step",
    "ratio": "loss / first loss",
    "start": "start",
    "end": "lowest point",
    "share_of_limit": "learning rate: {0:.2f} of the limit 2(1 + μ)/λmax = {1:.3f}",
    "after": "after {0} steps: {1:.1e} of the first loss",
    "reached": "below one millionth from step {0} on",
    "missed": "not below one millionth within {0} steps",
    "cut": "threshold",
    "prevalence": "prevalence",
    "score": "score",
    "images": "images",
    "share": "share",
    "threshold_alt": "Histograms of the scores of images that are {0} and {1}, a line at the "
    "threshold {2:g}, and bars of sensitivity, specificity, PPV and NPV at this threshold.",
    "cost_alt": " Beside them the expected cost of 1,000 patients against the threshold.",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "counted": "{name} {value:.3f}: {found} of {all}",
    "predicted": "{name} {value:.3f} at a prevalence of {prevalence:.1%}",
    "undefined": "{name} is undefined: there is nobody to count",
    "miss_cost": "cost of a miss",
    "cost_axis": "cost per 1,000 patients",
    "cost": "expected cost {0:,.0f} false alarms per 1,000 patients; least {1:,.0f}, at a "
    "threshold of {2:.3g}",
}


def descent(
    *, curvatures: tuple[float, float] = (1.0, 25.0), lr: float = 0.05, momentum: float = 0.0
) -> Panel:
    """Slide learning rate and momentum, and see the path and how the loss falls in 40 steps.

    Args:
        curvatures: λ₁ and λ₂ of the loss L = ½ (λ₁ θ₁² + λ₂ θ₂²), both > 0.
        lr: where the slider starts; it reaches a tenth beyond the limit at momentum 1.
        momentum: where the other slider starts, 0 to 0.99.

    Raises:
        DataError: a curvature, learning rate or momentum out of its range.
    """
    descent_path(START, lr=0.0, curvatures=curvatures, steps=0)  # refuses curvatures of no bowl
    furthest = 1.1 * 4 / max(curvatures)
    step = 10.0 ** math.floor(math.log10(furthest / 50))
    highest = step * math.ceil(furthest / step)
    controls = {
        "lr": slider(WORDS["lr"], lr, 0.0, highest, step=step, form=".3f"),
        "momentum": slider(WORDS["momentum"], momentum, 0.0, 0.99, step=0.01),
    }
    wide = 1.15 * max(abs(START[0]), 2 * abs(START[1]))
    x, y = np.meshgrid(np.linspace(-wide, wide, 161), np.linspace(-wide / 2, wide / 2, 81))
    loss = curvatures[0] * x**2 + curvatures[1] * y**2
    first = curvatures[0] * START[0] ** 2 + curvatures[1] * START[1] ** 2
    fig, (left, right) = plotting.subplots(1, 2, size=(9.5, 2.9), width_ratios=(1.5, 1))
    left.contour(x, y, loss, levels=first * 4.0 ** np.arange(-5, 2), colors="grey", linewidths=0.8)
    (path,) = left.plot(*START, "o-", color=plotting.COLOURS[0], markersize=3.5, linewidth=1.2)
    left.plot(*START, "s", color=plotting.COLOURS[1], label=WORDS["start"])
    left.plot(0, 0, "+", color="black", markersize=10, label=WORDS["end"])
    left.set(xlim=(-wide, wide), ylim=(-wide / 2, wide / 2), xlabel=WORDS["x"], ylabel=WORDS["y"])
    left.legend(fontsize=9, loc="upper right")
    (curve,) = right.plot(np.ones(STEPS + 1))
    right.axhline(10.0**GOAL, color="black", linestyle="--", linewidth=1)
    right.set(yscale="log", ylim=(10.0**LOWEST, 10.0**HIGHEST))
    right.set(xlabel=WORDS["step"], ylabel=WORDS["ratio"])
    right.minorticks_off()

    def update(lr: float, momentum: float) -> Caption:
        theta = descent_path(START, lr=lr, momentum=momentum, curvatures=curvatures, steps=STEPS)
        ratios = theta**2 @ np.asarray(curvatures, float) / first
        # A runaway path is cut short far outside: renderers choke on coordinates of 10²⁰.
        path.set_data(*np.clip(theta, -50 * wide, 50 * wide).T)
        curve.set_ydata(np.clip(ratios, 10.0**LOWEST, 10.0**HIGHEST))
        limit = 2 * (1 + momentum) / max(curvatures)
        above = np.flatnonzero(ratios >= 10.0**GOAL)[-1] + 1  # the first step is always above
        lines = [
            WORDS["share_of_limit"].format(lr / limit, limit),
            WORDS["after"].format(STEPS, ratios[-1]),
            WORDS["missed"].format(STEPS) if above > STEPS else WORDS["reached"].format(above),
        ]
        return WORDS["descent_alt"].format(curvatures[1] / curvatures[0], lr, momentum), lines

    return Panel(controls, fig, update)


def threshold(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    threshold: float = 0.5,
    prevalence: float | None = None,
    miss_cost: float | None = None,
    names: tuple[str, str] = ("negative", "positive"),
) -> Panel:
    """Slide the threshold, the prevalence and the cost; see the four ratios and the expected cost.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).
        threshold: where the slider starts; a score at or above it is called positive.
        prevalence: where the second slider starts, 0.001 to 0.999; that of the labels if not given.
        miss_cost: where the third slider starts: the cost of a missed patient in false alarms, 0
            to 100. If not given, costs are left out.
        names: of class 0 and class 1.

    Raises:
        DataError: labels and scores that do not fit together, or a start outside its slider.
        UndefinedMetric: a cost is asked for, and the labels are of one class only.
    """
    _, y, s = metrics.binary_pairs(labels, scores)
    low, high = (0.0, 1.0) if s.min() >= 0 and s.max() <= 1 else (float(s.min()), float(s.max()))
    high = high if high > low else low + 1
    if prevalence is None:
        prevalence = float(np.clip(round(float(y.mean()), 3), 0.001, 0.999))
    controls = {
        "threshold": slider(WORDS["cut"], threshold, low, high, step=(high - low) / 100),
        "prevalence": slider(WORDS["prevalence"], prevalence, 0.001, 0.999, step=0.001, form=".1%"),
    }
    if miss_cost is not None:
        controls["miss_cost"] = slider(WORDS["miss_cost"], miss_cost, 0, 100, step=0.5, form=".1f")
    ratios = ("sensitivity", "specificity", "ppv", "npv")
    wide = 2 if miss_cost is None else 3
    fig, (left, right, *third) = plotting.subplots(1, wide, size=(9 if wide == 2 else 11, 2.9))
    edges, grid = np.linspace(low, high, 31), np.linspace(low, high, 101)
    for k in (0, 1):
        left.stairs(np.histogram(s[y == k], edges)[0], edges, fill=True, alpha=0.55, label=names[k])
    left.set(xlabel=WORDS["score"], ylabel=WORDS["images"])
    left.legend(fontsize=9)
    bars = right.barh([WORDS[name] for name in ratios], [0] * 4, color=plotting.COLOURS[2])
    right.set(xlim=(0, 1), xlabel=WORDS["share"])
    right.invert_yaxis()
    costs = [ax.plot(grid, 0 * grid, color=plotting.COLOURS[3])[0] for ax in third]
    for ax in third:
        ax.set(xlabel=WORDS["cut"], ylabel=WORDS["cost_axis"], ylim=(0, 1e5))  # the highest cost
    cuts = [ax.axvline(threshold, color="black", linestyle="--") for ax in (left, *third)]

    def update(threshold: float, prevalence: float, miss_cost: float = 0.0) -> Caption:
        counts = metrics.confusion(y, s, threshold)
        values = (counts.sensitivity, counts.specificity, *counts.at_prevalence(prevalence))
        facts = ((counts.tp, counts.tp + counts.fn), (counts.tn, counts.tn + counts.fp), (), ())
        lines = [
            _ratio(WORDS[name], value, fact, prevalence)
            for name, value, fact in zip(ratios, values, facts, strict=True)
        ]
        for bar, value in zip(bars, values, strict=True):
            bar.set_width(np.nan_to_num(value))
        for cut in cuts:
            cut.set_xdata([threshold, threshold])
        for ax, line in zip(third, costs, strict=True):
            options = {"miss_cost": miss_cost, "prevalence": prevalence}
            cost = metrics.expected_cost(y, s, grid, **options)
            line.set_ydata(cost)
            ax.set_ylim(0, 1.05 * cost.max() or 1)
            now = float(metrics.expected_cost(y, s, threshold, **options))
            lines.append(WORDS["cost"].format(now, cost.min(), grid[cost.argmin()]))
        alt = WORDS["threshold_alt"].format(*names, threshold)
        return alt + WORDS["cost_alt"] if third else alt, lines

    return Panel(controls, fig, update)


def _ratio(name: str, value: float, counts: tuple[int, ...], prevalence: float) -> str:
    """A line on one of the four ratios: what it was counted from, or where it holds."""
    if np.isnan(value):
        return WORDS["undefined"].format(name=name)
    if not counts:
        return WORDS["predicted"].format(name=name, value=value, prevalence=prevalence)
    return WORDS["counted"].format(name=name, value=value, found=counts[0], all=counts[1])
