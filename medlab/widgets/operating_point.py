"""The threshold of a test, and the prevalence that it meets."""

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
}


def threshold(
    labels,
    scores,
    *,
    threshold: float = 0.5,
    prevalence: float | None = None,
    names: tuple[str, str] = ("negative", "positive"),
    alt: str | None = None,
) -> Panel:
    """Slide the threshold, and the prevalence, and see what becomes of the four ratios.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), (N, 1) or (N, 2).
        threshold: where the slider starts; a score at or above it is called positive.
        prevalence: where the other slider starts; that of the labels if not given.
        names: of class 0 and class 1.
        alt: what the static figure shows; a sentence without figures if not given.

    Raises:
        DataError: labels and scores that do not fit together.
    """
    _, y, s = metrics.binary_pairs(labels, scores)
    start = readout(y, s, threshold=threshold, prevalence=prevalence)
    low, high = (0.0, 1.0) if s.min() >= 0 and s.max() <= 1 else (float(s.min()), float(s.max()))
    edges = np.linspace(low, high, 31)
    bars = [np.histogram(s[y == k], edges)[0] for k in (0, 1)]
    described = WORDS["threshold_alt"].format(*names, threshold)
    fig, (left, right) = plotting.subplots(1, 2, size=(9, 2.9))
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
    plotting.show(fig, alt=alt or described)

    def draw(threshold, prevalence) -> str:
        now = readout(y, s, threshold=threshold, prevalence=prevalence)
        text = WORDS["threshold_alt"].format(*names, threshold)
        return _histogram(bars, edges, threshold, names, text) + _table(now)

    controls = {
        "threshold": slider(WORDS["cut"], threshold, low, high, step=(high - low) / 100),
        "prevalence": slider(
            WORDS["prevalence"], round(start.prevalence, 3), 0.001, 0.999, step=0.001, form=".1%"
        ),
    }
    return Panel(WORDS["threshold"], controls, draw)


@dataclass(frozen=True)
class Readout:
    """What one threshold means at one prevalence.

    Attributes:
        counts: of the images at hand.
        prevalence: for which `ppv` and `npv` hold.
        ppv, npv: predictive values there, by Bayes' theorem; NaN where undefined.
    """

    counts: metrics.Confusion
    prevalence: float
    ppv: float
    npv: float

    def ratios(self) -> dict[str, float]:
        """Sensitivity, specificity, PPV and NPV by name."""
        both = {"sensitivity": self.counts.sensitivity, "specificity": self.counts.specificity}
        return {**both, "ppv": self.ppv, "npv": self.npv}


def readout(labels, scores, *, threshold: float, prevalence: float | None = None) -> Readout:
    """The counts at a threshold, and the predictive values at a prevalence.

    Args:
        labels, scores, threshold: as for `medlab.metrics.confusion`.
        prevalence: 0 to 1; that of the labels if not given.

    Raises:
        DataError: as for `medlab.metrics.confusion`, or a prevalence outside 0…1.
    """
    counts = metrics.confusion(labels, scores, threshold)
    prevalence = counts.prevalence if prevalence is None else prevalence
    return Readout(counts, prevalence, *counts.at_prevalence(prevalence))


def _histogram(bars, edges, threshold: float, names, alt: str) -> str:
    """Two histograms and a line as SVG, which is redrawn a hundred times faster than a figure."""
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
    cut = f'<line x1="{x(threshold)}" x2="{x(threshold)}" y1="0" y2="{tall}" '
    return (
        f'<svg role="img" aria-label="{html.escape(alt)}" width="{wide}" height="{tall + 2}">'
        f'{"".join(shapes)}<line x1="0" x2="{wide}" y1="{tall}" y2="{tall}" stroke="currentColor"/>'
        f'{cut} stroke="currentColor" stroke-width="2" stroke-dasharray="5 3"/></svg>'
        f"<div>{keys}</div>"
    )


def _table(now: Readout) -> str:
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

    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{WORDS[name]}</th>'
        f'<td style="padding: 0 1em">{figure(value)}</td>'
        f"<td>{notes[name]}</td></tr>"
        for name, value in now.ratios().items()
    )
    return f'<table role="status" aria-live="polite">{rows}</table>'
