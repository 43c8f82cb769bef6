"""The threshold of a test, the prevalence that it meets, and what its errors cost."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np

from medlab import metrics, plotting
from medlab.widgets.panel import Panel, slider

__all__ = ["Readout", "readout", "threshold"]

# All that a reader of the page sees, for translators.
WORDS = {
    "threshold": "threshold and prevalence",
    "cut": "threshold",
    "prevalence": "prevalence",
    "score": "score",
    "images": "images",
    "share": "share",
    "threshold_alt": "Histograms of the scores of images that are {0} and {1}, a line at the "
    "threshold {2:g}, and bars of sensitivity, specificity, PPV and NPV at this threshold.",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "undefined": "undefined",
    "of": "{0} of {1}",
    "at_prevalence": "at a prevalence of {:.1%}",
    "miss_cost": "cost of a miss",
    "cost": "expected cost",
    "cost_axis": "cost per 1,000 patients",
    "cost_alt": " {0} the expected cost of 1,000 patients against the threshold.",
    "beside": "Beside them",
    "below": "Below them",
    "cost_key": "expected cost, 0 to {:,.0f}",
    "cost_note": "false alarms per 1,000 patients; least {:,.0f}, at a threshold of {:.3g}",
}


def threshold(
    labels,
    scores,
    *,
    threshold: float = 0.5,
    prevalence: float | None = None,
    miss_cost: float | None = None,
    names: tuple[str, str] = ("negative", "positive"),
    alt: str | None = None,
) -> Panel:
    """Slide the threshold, the prevalence and the cost; see the four ratios and the expected cost.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).
        threshold: where the slider starts; a score at or above it is called positive.
        prevalence: where the second slider starts; that of the labels if not given.
        miss_cost: where the third slider starts: the cost of a missed patient in false alarms, 0
            to 100. If not given, costs are left out.
        names: of class 0 and class 1.
        alt: what the static figure shows; a sentence without figures if not given.

    Raises:
        DataError: labels and scores that do not fit together.
        UndefinedMetric: a cost is asked for, and the labels are of one class only.
    """
    _, y, s = metrics.binary_pairs(labels, scores)
    start = readout(y, s, threshold=threshold, prevalence=prevalence, miss_cost=miss_cost)
    low, high = (0.0, 1.0) if s.min() >= 0 and s.max() <= 1 else (float(s.min()), float(s.max()))
    edges = np.linspace(low, high, 31)
    bars = [np.histogram(s[y == k], edges)[0] for k in (0, 1)]
    grid = np.linspace(low, high, 101)

    def costs(prevalence, miss_cost) -> np.ndarray | None:
        if miss_cost is None:
            return None
        return metrics.expected_cost(y, s, grid, miss_cost=miss_cost, prevalence=prevalence)

    def described(threshold, where: str) -> str:
        text = WORDS["threshold_alt"].format(*names, threshold)
        return text if miss_cost is None else text + WORDS["cost_alt"].format(WORDS[where])

    wide = 2 if miss_cost is None else 3
    fig, (left, right, *third) = plotting.subplots(1, wide, size=(9 if wide == 2 else 11, 2.9))
    for k in (0, 1):
        left.stairs(bars[k], edges, fill=True, alpha=0.55, label=names[k])
    left.axvline(threshold, color="black", linestyle="--")
    left.set(xlabel=WORDS["score"], ylabel=WORDS["images"])
    left.legend(fontsize=9)
    rows = start.ratios()
    right.barh(
        [WORDS[key] for key in rows][::-1], [*rows.values()][::-1], color=plotting.COLOURS[2]
    )
    right.set(xlim=(0, 1), xlabel=WORDS["share"])
    for ax in third:
        ax.plot(grid, costs(start.prevalence, miss_cost), color=plotting.COLOURS[3])
        ax.axvline(threshold, color="black", linestyle="--")
        ax.set(xlabel=WORDS["cut"], ylabel=WORDS["cost_axis"], ylim=(0, None))
    plotting.show(fig, alt=alt or described(threshold, "beside"))

    def draw(threshold, prevalence, miss_cost=None) -> str:
        now = readout(y, s, threshold=threshold, prevalence=prevalence, miss_cost=miss_cost)
        line = costs(prevalence, miss_cost)
        text = described(threshold, "below")
        return _histogram(bars, edges, threshold, names, text, line) + _table(now, grid, line)

    controls = {
        "threshold": slider(WORDS["cut"], threshold, low, high, step=(high - low) / 100),
        "prevalence": slider(
            WORDS["prevalence"], round(start.prevalence, 3), 0.001, 0.999, step=0.001, form=".1%"
        ),
    }
    if miss_cost is not None:
        controls["miss_cost"] = slider(WORDS["miss_cost"], miss_cost, 0, 100, step=0.5, form=".1f")
    return Panel(WORDS["threshold"], controls, draw)


@dataclass(frozen=True)
class Readout:
    """What one threshold means at one prevalence.

    Attributes:
        counts: of the images at hand.
        prevalence: for which `ppv` and `npv` hold.
        ppv, npv: predictive values there, by Bayes' theorem; NaN where undefined.
        cost: expected, of 1,000 patients there, in false alarms; None if not asked for.
    """

    counts: metrics.Confusion
    prevalence: float
    ppv: float
    npv: float
    cost: float | None = None

    def ratios(self) -> dict[str, float]:
        """Sensitivity, specificity, PPV and NPV by name."""
        both = {"sensitivity": self.counts.sensitivity, "specificity": self.counts.specificity}
        return {**both, "ppv": self.ppv, "npv": self.npv}


def readout(
    labels,
    scores,
    *,
    threshold: float,
    prevalence: float | None = None,
    miss_cost: float | None = None,
) -> Readout:
    """The counts at a threshold, and the predictive values and the cost at a prevalence.

    Args:
        labels, scores, threshold: as for `medlab.metrics.confusion`.
        prevalence: 0 to 1; that of the labels if not given.
        miss_cost: cost of a missed patient in false alarms; no cost if not given.

    Raises:
        DataError: as for `medlab.metrics.confusion` and `expected_cost`, or a prevalence outside
            0…1.
    """
    counts = metrics.confusion(labels, scores, threshold)
    prevalence = counts.prevalence if prevalence is None else prevalence
    values = counts.at_prevalence(prevalence)
    if miss_cost is None:
        return Readout(counts, prevalence, *values)
    cost = metrics.expected_cost(
        labels, scores, threshold, miss_cost=miss_cost, prevalence=prevalence
    )
    return Readout(counts, prevalence, *values, cost=float(cost))


def _histogram(bars, edges, threshold: float, names, alt: str, cost=None) -> str:
    """Two histograms and a line as SVG, which is redrawn a hundred times faster than a figure.

    Below them, on the same axis, the cost of each threshold if there is one.
    """
    wide, tall = 480, 120
    low, high, top = edges[0], edges[-1], max(1, max(int(b.max()) for b in bars))

    def x(value) -> float:
        return round(wide * (value - low) / ((high - low) or 1), 1)

    shapes = []
    for counts, colour in zip(bars, plotting.COLOURS, strict=False):
        for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
            height = round(tall * count / top, 1)
            place = f'x="{x(start)}" y="{tall - height}" width="{x(end) - x(start):.1f}"'
            shapes.append(f'<rect {place} height="{height}" fill="{colour}" fill-opacity="0.55"/>')
    keys = "".join(
        f'<span style="color: {colour}">■</span> {html.escape(name)} &nbsp; '
        for name, colour in zip(names, plotting.COLOURS, strict=False)
    )
    whole = tall
    if cost is not None:
        highest, colour, whole = max(float(cost.max()), 1e-9), plotting.COLOURS[3], 2 * tall
        dots = " ".join(
            f"{wide * i / (len(cost) - 1):.1f},{whole - (tall - 10) * c / highest:.1f}"
            for i, c in enumerate(cost)
        )
        shapes.append(f'<polyline points="{dots}" fill="none" stroke="{colour}" stroke-width="2"/>')
        name = WORDS["cost_key"].format(highest)
        keys += f'<span style="color: {colour}">━</span> {html.escape(name)}'
    cut = f'<line x1="{x(threshold)}" x2="{x(threshold)}" y1="0" y2="{whole}" '
    return (
        f'<svg role="img" aria-label="{html.escape(alt)}" width="{wide}" height="{whole + 2}">'
        f'{"".join(shapes)}<line x1="0" x2="{wide}" y1="{tall}" y2="{tall}" stroke="currentColor"/>'
        f'{cut} stroke="currentColor" stroke-width="2" stroke-dasharray="5 3"/></svg>'
        f"<div>{keys}</div>"
    )


def _table(now: Readout, grid, cost=None) -> str:
    c = now.counts
    at = WORDS["at_prevalence"].format(now.prevalence)
    notes = {
        "sensitivity": WORDS["of"].format(c.tp, c.tp + c.fn),
        "specificity": WORDS["of"].format(c.tn, c.tn + c.fp),
        "ppv": at,
        "npv": at,
    }

    def figure(value: float) -> str:
        return WORDS["undefined"] if np.isnan(value) else f"{value:.3f}"

    lines = [(WORDS[name], figure(value), notes[name]) for name, value in now.ratios().items()]
    if cost is not None:
        least = WORDS["cost_note"].format(cost.min(), grid[cost.argmin()])
        lines.append((WORDS["cost"], f"{now.cost:,.0f}", least))
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{name}</th>'
        f'<td style="padding: 0 1em">{value}</td><td>{note}</td></tr>'
        for name, value, note in lines
    )
    return f'<table role="status" aria-live="polite">{rows}</table>'
