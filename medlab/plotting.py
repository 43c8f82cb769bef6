"""Figures with one look: labelled axes, millimetres, colour-blind-safe colours, an alt text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.lines
import matplotlib.patches
import matplotlib.patheffects
import numpy as np
import torch
from matplotlib import rcsetup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medlab.errors import DataError
from medlab.training import History

__all__ = [
    "COLOURS",
    "bars",
    "curve",
    "heat",
    "histogram",
    "history",
    "images",
    "intervals",
    "roc",
    "show",
    "subplots",
]

# Okabe & Ito (2008), Color Universal Design: distinguishable with any common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SCORES = {"val_auc": "AUC", "val_dice": "Dice"}  # columns of a history, for their axis
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": rcsetup.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same figure on every machine
    "font.size": 11,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "lines.linewidth": 2,
    "savefig.dpi": 80,
    "figure.dpi": 80,
}


def _array(values: ArrayLike) -> np.ndarray:
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def subplots(
    rows: int = 1, cols: int = 1, *, size: tuple[float, float] | None = None, **options: Any
) -> tuple[Figure, Any]:
    """A figure in the course's style and its axes, as `matplotlib.pyplot.subplots` gives them.

    Args:
        rows: of axes.
        cols: axes in a row.
        size: width and height of the whole figure in inches.
        **options: passed to `Figure.subplots` (sharex, width_ratios, …).
    """
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=size or (4.5 * cols, 3.4 * rows), layout="constrained")
        FigureCanvasAgg(fig)
        return fig, fig.subplots(rows, cols, **options)


class Picture:
    """A figure with its alternative text, as a notebook stores it; elsewhere it prints the text.

    Attributes:
        png: the figure as PNG bytes.
        alt: what it shows and what to notice.
    """

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = png, alt

    def __repr__(self) -> str:
        return f"<Figure: {self.alt}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return {"image/png": self.png, "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}


def show(fig: Figure, *, alt: str) -> None:
    """Show a figure in the notebook together with the text that says what a reader should see.

    Outside a notebook the text alone is printed; `fig.savefig("name.png")` keeps the picture.

    Args:
        fig: a matplotlib figure.
        alt: what the figure shows and what to notice, for those who cannot see it; at least 20
            characters. It is stored as the image's alternative text.

    Raises:
        DataError: an alt text too short to help anyone.
    """
    from IPython.display import display

    if len(alt) < 20:
        raise DataError(f"alt should say what a reader sees and should notice; got {alt!r}")
    display(Picture(png(fig), alt))


def png(fig: Figure) -> bytes:
    """The figure as PNG bytes, 80 dots an inch, without date or software in its header."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def images(
    pictures: Iterable[ArrayLike],
    *,
    titles: Sequence[str] | None = None,
    masks: Sequence[ArrayLike] | None = None,
    mask_name: str = "mask",
    boxes: Sequence[ArrayLike] | None = None,
    spacing: tuple[float, ...] | None = None,
    cols: int | None = None,
    limits: tuple[float, float] | Literal["shared", "own"] = "shared",
    units: str | None = None,
    size: float = 2.0,
) -> Figure:
    """Pictures side by side on one grey scale, optionally with mask contours and boxes.

    Args:
        pictures: (N, H, W), (N, 1, H, W) or (N, 3, H, W) tensor or array, or a list of pictures.
        titles: one line above each.
        masks: (N, H, W); the outline of every value > 0 is drawn.
        mask_name: what the outline is, for the legend.
        boxes: per picture (M, 4): x0, y0, x1, y1 in pixels.
        spacing: (row, column) millimetres; draws a scale bar.
        cols: pictures in a row; at most six if not given.
        limits: (black, white); "shared" takes them over all pictures; "own" lets each have its own.
        units: draws a colour bar with this label.
        size: inches a picture.

    Raises:
        DataError: no picture, or shapes that are not pictures.
    """
    grid = [_picture(_array(p)) for p in pictures]
    if not grid:
        raise DataError("there is no picture to show: the selection is empty")
    ends = np.array([(np.nanmin(p), np.nanmax(p)) for p in grid], dtype=float)
    if isinstance(limits, str) and limits == "shared":
        ends[:] = ends[:, 0].min(), ends[:, 1].max()
    elif not isinstance(limits, str):
        ends[:] = limits
    cols = min(cols or 6, len(grid))
    rows = -(-len(grid) // cols)
    aspect = 1.0 if spacing is None else spacing[-2] / spacing[-1]
    ratio = aspect * grid[0].shape[0] / grid[0].shape[1]
    extra = 0.35 if titles is not None else 0.05
    width = size * cols + (0.9 if units else 0)
    fig, axes = subplots(rows, cols, size=(width, (size * ratio + extra) * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, picture) in enumerate(zip(axes.flat, grid, strict=False)):
        low, high = ends[i]
        drawn = ax.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=aspect)
        if titles is not None:
            ax.set_title(titles[i], fontsize=9)
        if masks is not None and _array(masks[i]).any():
            _outline(ax, _array(masks[i]))
        for x0, y0, x1, y1 in [] if boxes is None else _array(boxes[i]):
            corner, wide, tall = (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0
            frame = mpl.patches.Rectangle(corner, wide, tall, fill=False, ec=COLOURS[5], lw=1.5)
            ax.add_patch(frame)
    if spacing is not None:
        _scale_bar(axes.flat[0], grid[0].shape, spacing)
    if units:
        fig.colorbar(drawn, ax=axes, label=units, shrink=0.8)
    if masks is not None and any(_array(m).any() for m in masks):
        handle = mpl.lines.Line2D([], [], color=COLOURS[4], label=mask_name)
        fig.legend(handles=[handle], loc="outside lower right", fontsize=9)
    return fig


def _picture(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
        raise DataError(f"a picture is (H, W), (1, H, W) or (3, H, W); got {array.shape}")
    return array


def _outline(ax: Axes, mask: np.ndarray) -> None:
    padded = np.pad((mask > 0).astype(float), 1)
    x, y = np.arange(padded.shape[1]) - 1, np.arange(padded.shape[0]) - 1
    ax.contour(x, y, padded, levels=[0.5], colors=[COLOURS[4]], linewidths=1.5)


def _scale_bar(ax: Axes, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """A white bar of a round length, about a quarter of the picture, in the lower left corner."""
    width = shape[1] * spacing[-1]
    length = max(step for step in (1, 2, 5, 10, 20, 50, 100) if step <= max(1, width / 3))
    y, x0 = shape[0] * 0.94 - 0.5, shape[1] * 0.05 - 0.5
    pixels = length / spacing[-1]
    halo = [mpl.patheffects.withStroke(linewidth=3.5, foreground="black")]
    ax.plot([x0, x0 + pixels], [y, y], color="white", lw=2, path_effects=halo)
    text = f"{length} mm" if length < 10 else f"{length // 10} cm"
    look: dict = {"color": "white", "ha": "center", "va": "bottom", "fontsize": 8}
    ax.text(x0 + pixels / 2, y - 0.02 * shape[0], text, path_effects=halo, **look)


def heat(pictures: Iterable[ArrayLike], maps: Iterable[ArrayLike], **options: Any) -> Figure:
    """Pictures under a translucent map: black-body colours where the map is high.

    Args:
        pictures: as for `images`.
        maps: (N, H, W), each scaled by its own maximum; what is negative is not drawn.
        **options: as for `images`.
    """
    fig = images(pictures, **options)
    for ax, values in zip(fig.axes, maps, strict=False):
        values = np.clip(_array(values), 0, None)
        top = values.max() or 1.0
        ax.imshow(values / top, cmap="inferno", alpha=0.6 * values / top, vmin=0, vmax=1)
    return fig


def curve(
    x_values: ArrayLike,
    lines: Mapping[str, ArrayLike],
    *,
    x: str,
    y: str,
    bands: Mapping[str, tuple] | None = None,
    log: str = "",
    limits: tuple[float, float] | None = None,
    size: tuple[float, float] = (5.5, 3.4),
) -> Figure:
    """One or more lines over common x values.

    Args:
        x_values: (M,) values.
        lines: name -> (M,) values; every second line is dashed, so that none relies on colour.
        x: label of its axis, with unit.
        y: label of its axis, with unit.
        bands: name -> (low, high) drawn translucent in that line's colour.
        log: "x", "y" or "xy" for logarithmic axes.
        limits: of the y axis.
        size: inches.
    """
    fig, ax = subplots(size=size)
    for i, (name, values) in enumerate(lines.items()):
        style = "-" if i % 2 == 0 else "--"
        (line,) = ax.plot(_array(x_values), _array(values), style, label=name)
        if bands and name in bands:
            low, high = map(_array, bands[name])
            ax.fill_between(_array(x_values), low, high, color=line.get_color(), alpha=0.2, lw=0)
    scales = {f"{axis}scale": "log" for axis in log}
    _label(ax, legend=len(lines) > 1, **scales, xlabel=x, ylabel=y, ylim=limits)
    return fig


def histogram(
    groups: Mapping[str, ArrayLike],
    *,
    x: str,
    y: str = "share of images",
    bins: int = 40,
    size: tuple[float, float] = (5.5, 3.4),
) -> Figure:
    """Histograms of several groups over common bins, each as a share of its own group."""
    fig, ax = subplots(size=size)
    values = {name: _array(v).ravel().astype(float) for name, v in groups.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    for name, v in values.items():
        ax.hist(v, edges, weights=np.full(len(v), 1 / len(v)), alpha=0.55, label=name)
    _label(ax, legend=len(groups) > 1, xlabel=x, ylabel=y)
    return fig


def bars(
    values: Mapping[str, float], *, x: str, limits: tuple[float, float] | None = None
) -> Figure:
    """Horizontal bars with their value beside them, the first on top."""
    fig, ax = subplots(size=(5.5, 2.6))
    names = list(values)[::-1]
    lengths = [float(values[name]) for name in names]
    ax.barh(names, lengths, color=COLOURS[0], height=0.6)
    for i, length in enumerate(lengths):
        ax.annotate(f" {length:.3g}", (length, i), va="center", fontsize=9)
    _label(ax, xlabel=x, xlim=limits)
    return fig


def intervals(
    rows: Mapping[str, Any],
    *,
    x: str,
    reference: float | None = None,
    limits: tuple[float, float] | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """A forest plot: one figure a row with its confidence interval, and its value beside it.

    Args:
        rows: name -> `metrics.Interval`, or any (value, low, high); the first row is on top.
        x: axis label with unit.
        reference: value to compare with, drawn as a dotted line (0.5 for an AUC, 0 for a gain).
        limits: of the x axis.
        size: inches; grows with the number of rows if not given.

    Raises:
        DataError: no rows.
    """
    if not rows:
        raise DataError("there is nothing to plot: rows is empty")
    fig, ax = subplots(size=size or (5.5, 0.9 + 0.32 * len(rows)))
    names = list(rows)[::-1]
    for i, name in enumerate(names):
        row = rows[name]
        ends = (row.value, row.low, row.high) if hasattr(row, "low") else row
        value, low, high = (float(end) for end in ends)
        ax.plot([low, high], [i, i], color=COLOURS[0], solid_capstyle="butt")
        ax.plot(value, i, "o", color=COLOURS[0])
        place = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8}
        ax.annotate(f"{value:.2f}", (value, i), (0, 4), **place)
    if reference is not None:
        ax.axvline(reference, ls=":", color="grey", lw=1.2, zorder=0)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.5, len(names) - 0.3))
    _label(ax, xlabel=x, xlim=limits)
    return fig


def roc(
    labels: ArrayLike, scores: ArrayLike | Mapping, *, threshold: float | None = None
) -> Figure:
    """Receiver operating characteristic of one or more models, with the area under each.

    Args:
        labels: (N,) 0 and 1.
        scores: (N,) higher for class 1, or a mapping from model name to such scores.
        threshold: marks this working point on the last curve.
    """
    from medlab import metrics

    models = scores if isinstance(scores, Mapping) else {"model": scores}
    fig, ax = subplots(size=(4.4, 4.0))
    ax.plot([0, 1], [0, 1], ":", color="grey", label="chance (AUC 0.5)")
    for i, (name, values) in enumerate(models.items()):
        fpr, tpr, _ = metrics.roc_curve(labels, values)
        style = "--" if i % 2 == 0 and len(models) > 1 else "-"
        text = f"{name} (AUC {metrics.auc(labels, values):.3f})"
        ax.plot(_array(fpr), _array(tpr), style, label=text)
    if threshold is not None:
        point = metrics.confusion(labels, values, threshold=threshold)
        at = (1 - point.specificity, point.sensitivity)
        ax.plot(*at, "o", color=COLOURS[6], label=f"threshold {threshold:.2f}")
    ax.set(xlabel="1 − specificity (false alarms)", ylabel="sensitivity (cases found)")
    ax.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.legend(fontsize=9, loc="lower right")
    return fig


def history(record: History) -> Figure:
    """Training loss by epoch; with a validation set also its loss and its first score."""
    epochs = _array(record["epoch"])
    scores = [name for name in record.columns if name.startswith("val_") and name != "val_loss"]
    fig, axes = subplots(1, 2 if scores else 1, size=(9.5, 3.2), squeeze=False)
    left, *right = axes[0]
    left.plot(epochs, record["train_loss"], label="training")
    left.set(xlabel="epoch", ylabel="loss")
    if scores:
        left.plot(epochs, record["val_loss"], "--", label="validation")
        left.legend(fontsize=9)
        right[0].plot(epochs, record[scores[0]], "--", color=COLOURS[1])
        right[0].set(xlabel="epoch", ylabel=f"validation {SCORES.get(scores[0], scores[0])}")
    return fig


def _label(ax: Axes, *, legend: bool = False, **properties: Any) -> None:
    """Labels, limits and scales of axes, those that are None left as they are, and a legend."""
    ax.set(**{name: value for name, value in properties.items() if value is not None})
    if legend:
        ax.legend(fontsize=9)
