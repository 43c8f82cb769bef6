"""Curves that follow a slider: gradient descent on a bowl, and the threshold of a test."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from medlab import metrics, plotting
from medlab.training import descent_path
from medlab.widgets._panel import WORDS, Panel, Shown, slider

STEPS, START = 40, (-1.8, 0.6)
LOWEST, GOAL, HIGHEST = 1e-9, 1e-6, 1e3  # the losses shown, as parts of the first


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
        "lr": slider("lr", lr, 0.0, highest, step=step, form=".3f"),
        "momentum": slider("momentum", momentum, 0.0, 0.99, step=0.01),
    }
    wide = 1.15 * max(abs(START[0]), 2 * abs(START[1]))
    x, y = np.meshgrid(np.linspace(-wide, wide, 161), np.linspace(-wide / 2, wide / 2, 81))
    loss = curvatures[0] * x**2 + curvatures[1] * y**2
    first = curvatures[0] * START[0] ** 2 + curvatures[1] * START[1] ** 2

    def show(lr: float, momentum: float) -> Shown:
        theta = descent_path(START, lr=lr, momentum=momentum, curvatures=curvatures, steps=STEPS)
        ratios = theta**2 @ np.asarray(curvatures, float) / first
        fig, (left, right) = plotting.subplots(1, 2, size=(9.5, 2.9), width_ratios=(1.5, 1))
        levels = first * 4.0 ** np.arange(-5, 2)
        left.contour(x, y, loss, levels=levels, colors="grey", linewidths=0.8)
        # A runaway path is cut short far outside: renderers choke on coordinates of 10²⁰.
        path = np.clip(theta, -50 * wide, 50 * wide).T
        left.plot(*path, "o-", color=plotting.COLOURS[0], markersize=3.5, linewidth=1.2)
        left.plot(*START, "s", color=plotting.COLOURS[1], label=WORDS["start"])
        left.plot(0, 0, "+", color="black", markersize=10, label=WORDS["end"])
        left.set(xlim=(-wide, wide), ylim=(-wide / 2, wide / 2))
        left.set(xlabel=WORDS["x"], ylabel=WORDS["y"])
        left.legend(fontsize=9, loc="upper right")
        right.plot(np.clip(ratios, LOWEST, HIGHEST))
        right.axhline(GOAL, color="black", linestyle="--", linewidth=1)
        right.set(yscale="log", ylim=(LOWEST, HIGHEST), xlabel=WORDS["step"], ylabel=WORDS["ratio"])
        right.minorticks_off()
        limit = 2 * (1 + momentum) / max(curvatures)
        above = np.flatnonzero(ratios >= GOAL)[-1] + 1  # the first step is always above
        lines = [
            WORDS["share_of_limit"].format(lr / limit, limit),
            WORDS["after"].format(STEPS, ratios[-1]),
            WORDS["missed"].format(STEPS) if above > STEPS else WORDS["reached"].format(above),
        ]
        return fig, WORDS["descent_alt"].format(curvatures[1] / curvatures[0], lr, momentum), lines

    return Panel(controls, show)


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
        "threshold": slider("threshold", threshold, low, high, step=(high - low) / 100),
        "prevalence": slider("prevalence", prevalence, 0.001, 0.999, step=0.001, form=".1%"),
    }
    if miss_cost is not None:
        controls["miss_cost"] = slider("miss_cost", miss_cost, 0, 100, step=0.5, form=".1f")
    edges, grid = np.linspace(low, high, 31), np.linspace(low, high, 101)

    ratios = ("sensitivity", "specificity", "ppv", "npv")

    def show(threshold: float, prevalence: float, miss_cost: float | None = None) -> Shown:
        wide = 2 if miss_cost is None else 3
        fig, axes = plotting.subplots(1, wide, size=(9 if wide == 2 else 11, 2.9))
        for k in (0, 1):
            count = np.histogram(s[y == k], edges)[0]
            axes[0].stairs(count, edges, fill=True, alpha=0.55, label=names[k])
        axes[0].set(xlabel=WORDS["score"], ylabel=WORDS["images"])
        axes[0].legend(fontsize=9)
        at = metrics.confusion(y, s, threshold)
        there = at.at_prevalence(prevalence)
        values = (at.sensitivity, at.specificity, there.ppv, there.npv)
        facts = {"tp": at.tp, "ill": at.tp + at.fn, "tn": at.tn, "well": at.tn + at.fp}
        lines = [
            WORDS["undefined" if np.isnan(value) else f"{name}_is"].format(
                name=WORDS[name], value=value, prevalence=prevalence, **facts
            )
            for name, value in zip(ratios, values, strict=True)
        ]
        words = [WORDS[name] for name in ratios]
        axes[1].barh(words, np.nan_to_num(values), color=plotting.COLOURS[2])
        axes[1].set(xlim=(0, 1), xlabel=WORDS["share"])
        axes[1].invert_yaxis()
        alt = WORDS["threshold_alt"].format(*names, threshold)
        if miss_cost is not None:
            costs = {"miss_cost": miss_cost, "prevalence": prevalence}
            cost = metrics.expected_cost(y, s, grid, **costs)
            now = float(metrics.expected_cost(y, s, threshold, **costs))
            axes[2].plot(grid, cost, color=plotting.COLOURS[3])
            axes[2].set(xlabel=WORDS["threshold"], ylabel=WORDS["cost_axis"])
            axes[2].set_ylim(0, 1.05 * cost.max() or 1)
            axes[2].yaxis.set_major_formatter("{x:\u2007>6g}")  # as wide at every cost
            lines.append(WORDS["cost"].format(now, cost.min(), grid[cost.argmin()]))
            alt += WORDS["cost_alt"]
        for ax in (axes[0], *axes[2:]):
            ax.axvline(threshold, color="black", linestyle="--")
        return fig, alt, lines

    return Panel(controls, show)
