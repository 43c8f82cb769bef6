"""Figures with one look: labelled axes, millimetres, colour-blind-safe colours, an alt text."""

import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike
from PIL import Image

from medlab import metrics
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

STYLE = mpl.rc_params_from_file(Path(__file__).with_suffix(".mplstyle"), use_default_template=False)
COLOURS: tuple[str, ...] = tuple(STYLE["axes.prop_cycle"].by_key()["color"])
# Columns of a history, for their axis
SCORES = {"val_auc": "AUC", "val_dice": "Dice", "val_ap": "average precision"}
SCORES |= {"val_psnr": "PSNR (dB)"}
Pair = tuple[float, float]
SIZE: Pair = (5.5, 3.4)  # inches, of a figure with one pair of axes
# Inches of the course's figures: each is as wide as the next of these. An inch is 80 pixels on a
# page and more in the file, for screens that show fine detail.
WIDTHS, PIXELS = (4.0, 6.5, 9.5), 80


def _array(values: ArrayLike) -> np.ndarray:
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def subplots(
    rows: int = 1, cols: int = 1, *, size: Pair | None = None, **options: Any
) -> tuple[Figure, Any]:
    """A figure in the course's style and its axes, as `matplotlib.pyplot.subplots` gives them.

    `size`, in inches, gives its proportions: it is brought to the next of the course's three
    widths. Matplotlib explains the options.
    """
    wide, tall = size or (4.5 * cols, 3.4 * rows)
    width = next((w for w in WIDTHS if w >= wide - 0.01), WIDTHS[-1])
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(width, tall * width / wide), layout="constrained")
        FigureCanvasAgg(fig)
        return fig, fig.subplots(rows, cols, **options)


def show(fig: Figure, *, alt: str) -> None:
    """Show a matplotlib figure in the notebook, its alternative text as the caption below it.

    `alt` says what the figure shows and what to notice; outside a notebook it is printed.

    Raises:
        DataError: an alternative text of less than 20 characters, too short to help anyone.
    """
    from IPython.display import display

    if len(alt) < 20:
        raise DataError(f"alt should say what a reader sees and should notice; got {alt!r}")
    if in_notebook():
        data, metadata = bundle(fig, alt)
        display(data, metadata=metadata, raw=True)
        display(caption(alt), raw=True)
    else:
        print(f"<Figure: {alt}>")


def bundle(fig: Figure, alt: str, *, fixed: bool = False) -> tuple[dict, dict]:
    """What a notebook stores of a figure: data by type, and metadata with the alternative text."""
    metadata = {"alt": alt, "width": round(PIXELS * fig.get_figwidth())}
    # Without the text: JupyterLab shows it in place of an output that is folded
    data = {"image/png": png(fig, fixed=fixed), "text/plain": "<Figure>"}
    return data, {"image/png": metadata}


def caption(alt: str) -> dict[str, str]:
    """What a notebook stores of a figure's alternative text, a line below the figure.

    Nearly every program that shows a notebook drops the alternative text of its pictures. A line
    reaches everybody.
    """
    look = "max-width: 800px; margin: 0 0 1em; font-size: 90%"
    line = f'<p class="caption" style="{look}"><em>Figure.</em> {html.escape(alt)}</p>'
    return {"text/html": line, "text/plain": f"Figure: {alt}"}


def in_notebook() -> bool:
    """Whether a kernel runs this, which shows pictures; a script or a terminal does not."""
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def png(fig: Figure, *, fixed: bool = False) -> bytes:
    """The figure as PNG bytes, 130 dots an inch; if `fixed`, drawn once and not laid out first.

    A figure without colours is stored as grey values, at two thirds of the size.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        if not fixed:
            fig.draw_without_rendering()
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    grey = (pixels == pixels[..., :1]).all()
    drawn = Image.fromarray(pixels[..., 0] if grey else pixels)
    drawn.save(buffer, "png", dpi=(fig.dpi, fig.dpi))
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
    limits: Literal["shared", "own"] | ArrayLike = "shared",
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
        limits: (black, white), or (N, 2); "shared" takes them over all pictures, "own" from each.
        units: draws a colour bar with this label.
        size: inches a picture.

    Raises:
        DataError: no picture, or shapes that are not pictures.
    """
    grid = [_picture(_array(p)) for p in pictures]
    if not grid:
        raise DataError("there is no picture to show: the selection is empty")
    ends = np.array([(np.nanmin(p), np.nanmax(p)) for p in grid], dtype=float)
    if not isinstance(limits, str):
        ends[:] = _array(limits)
    elif limits == "shared":
        ends[:] = ends.min(), ends.max()
    cols = min(cols or 6, len(grid))
    rows = -(-len(grid) // cols)
    aspect = 1.0 if spacing is None else spacing[-2] / spacing[-1]
    height = size * aspect * grid[0].shape[0] / grid[0].shape[1]
    height += 0.05 if titles is None else 0.35
    width = size * cols + (0.9 if units else 0)
    fig, axes = subplots(rows, cols, size=(width, height * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    outlined = False
    for i, (ax, picture, (low, high)) in enumerate(zip(axes.flat, grid, ends, strict=False)):
        drawn = ax.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=aspect)
        if titles is not None:
            ax.set_title(titles[i], fontsize=9)
        if masks is not None and (mask := _array(masks[i])).any():
            outlined = True
            edge = np.pad((mask > 0).astype(float), 1)
            x, y = (np.arange(n) - 1 for n in edge.shape[::-1])
            ax.contour(x, y, edge, levels=[0.5], colors=[COLOURS[4]], linewidths=1.5)
        for x0, y0, x1, y1 in [] if boxes is None else _array(boxes[i]):
            corner, wide, tall = (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0
            ax.add_patch(Rectangle(corner, wide, tall, fill=False, ec=COLOURS[5], lw=1.5))
    if spacing is not None:
        _scale_bar(axes.flat[0], grid[0].shape, spacing)
    if units:
        fig.colorbar(drawn, ax=axes, label=units, shrink=0.8)
    if outlined:
        handle = Line2D([], [], color=COLOURS[4], label=mask_name)
        fig.legend(handles=[handle], loc="outside lower right", fontsize=9)
    return fig


def _picture(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
        raise DataError(f"a picture is (H, W), (1, H, W) or (3, H, W); got {array.shape}")
    return array


def _scale_bar(ax: Axes, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """A white bar of a round length, about a quarter of the picture, in the lower left corner."""
    width = shape[1] * spacing[-1]
    length = max(step for step in (1, 2, 5, 10, 20, 50, 100) if step <= max(1, width / 3))
    y, x0, pixels = shape[0] * 0.94 - 0.5, shape[1] * 0.05 - 0.5, length / spacing[-1]
    halo = [withStroke(linewidth=3.5, foreground="black")]
    look: dict = {"color": "white", "path_effects": halo}
    ax.plot([x0, x0 + pixels], [y, y], lw=2, **look)
    text = f"{length} mm" if length < 10 else f"{length // 10} cm"
    look |= {"ha": "center", "va": "bottom", "fontsize": 8}
    ax.text(x0 + pixels / 2, y - 0.02 * shape[0], text, **look)


def heat(pictures: Iterable[ArrayLike], maps: Iterable[ArrayLike], **options: Any) -> Figure:
    """Pictures under translucent maps (N, H, W): black-body colours where a map is high.

    Each is scaled by its own maximum; what is negative is not drawn. Options are those of `images`.
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
    limits: Pair | None = None,
    size: Pair = SIZE,
) -> Figure:
    """Lines, name -> (M,) values, over common x values (M,).

    Every second line is dashed, so that none relies on colour. `x` and `y` label the axes, with
    units; `bands`, name -> (low, high), are drawn translucent in that line's colour; `log` is "x",
    "y" or "xy" for logarithmic axes; `limits` are those of the y axis; `size` is in inches.
    """
    fig, ax = subplots(size=size)
    for i, (name, values) in enumerate(lines.items()):
        style = "-" if i % 2 == 0 else "--"
        (line,) = ax.plot(_array(x_values), _array(values), style, label=name)
        if bands and name in bands:
            low, high = map(_array, bands[name])
            ax.fill_between(_array(x_values), low, high, color=line.get_color(), alpha=0.2, lw=0)
    ax.set(**{f"{axis}scale": "log" for axis in log}, xlabel=x, ylabel=y, ylim=limits)
    if len(lines) > 1:
        ax.legend(fontsize=9)
    return fig


def histogram(
    groups: Mapping[str, ArrayLike], *, x: str, y: str, bins: int = 40, size: Pair = SIZE
) -> Figure:
    """Histograms of several groups over common bins, each as a share of its own group."""
    fig, ax = subplots(size=size)
    values = {name: _array(v).ravel().astype(float) for name, v in groups.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    for name, v in values.items():
        ax.hist(v, edges, weights=np.full(len(v), 1 / len(v)), alpha=0.55, label=name)
    ax.set(xlabel=x, ylabel=y)
    if len(groups) > 1:
        ax.legend(fontsize=9)
    return fig


def bars(values: Mapping[str, float], *, x: str, limits: Pair | None = None) -> Figure:
    """Horizontal bars with their value beside them, the first on top."""
    fig, ax = subplots(size=(5.5, 2.6))
    names = list(values)[::-1]
    for i, name in enumerate(names):
        ax.barh(name, float(values[name]), color=COLOURS[0], height=0.6)
        ax.annotate(f" {values[name]:.3g}", (float(values[name]), i), va="center", fontsize=9)
    ax.set(xlabel=x, xlim=limits)
    return fig


def intervals(
    rows: Mapping[str, Any],
    *,
    x: str,
    reference: float | None = None,
    limits: Pair | None = None,
    size: Pair | None = None,
) -> Figure:
    """A forest plot: one figure a row with its confidence interval, and its value beside it.

    Rows are name -> `metrics.Interval`, or any (value, low, high); the first is on top. `reference`
    is a value to compare with, drawn as a dotted line (0.5 for an AUC, 0 for a gain); `limits` are
    those of the x axis; `size` is in inches and grows with the rows if not given.

    Raises:
        DataError: no rows.
    """
    if not rows:
        raise DataError("there is nothing to plot: rows is empty")
    fig, ax = subplots(size=size or (5.5, 0.9 + 0.32 * len(rows)))
    names = list(rows)[::-1]
    place: dict = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8}
    for i, name in enumerate(names):
        row = rows[name]
        value, low, high = (row.value, row.low, row.high) if hasattr(row, "low") else row
        ax.plot([low, high], [i, i], color=COLOURS[0], solid_capstyle="butt")
        ax.plot(value, i, "o", color=COLOURS[0])
        told = f"{value:.1f}" if abs(value) >= 10 else f"{round(value, 2) + 0:.2f}"  # no −0.00
        ax.annotate(told, (value, i), (0, 4), **place)
    if reference is not None:
        ax.axvline(reference, ls=":", color="grey", lw=1.2, zorder=0)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.5, len(names) - 0.3))
    ax.set(xlabel=x, xlim=limits)
    return fig


def roc(
    labels: ArrayLike, scores: Mapping[str, ArrayLike], *, threshold: float | None = None
) -> Figure:
    """Receiver operating characteristic of each model, with the area under it.

    Labels (N,) are 0 and 1; scores are name of a model -> (N,), higher for class 1. A threshold is
    marked on the last curve.
    """
    fig, ax = subplots(size=(4.4, 4.0))
    ax.plot([0, 1], [0, 1], ":", color="grey", label="chance (AUC 0.5)")
    for i, (name, values) in enumerate(scores.items()):
        fpr, tpr, _ = metrics.roc_curve(labels, values)
        style = "--" if i % 2 == 0 and len(scores) > 1 else "-"
        ax.plot(fpr, tpr, style, label=f"{name} (AUC {metrics.auc(labels, values):.3f})")
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
    epochs = record["epoch"]
    scores = [name for name in record.rows[0] if name.startswith("val_") and name != "val_loss"]
    fig, axes = subplots(1, 2 if scores else 1, size=(9.5, 3.2), squeeze=False)
    left, right = axes[0, 0], axes[0, -1]
    left.plot(epochs, record["train_loss"], label="training")
    left.set(xlabel="epoch", ylabel="loss")
    if scores:
        left.plot(epochs, record["val_loss"], "--", label="validation")
        left.legend(fontsize=9)
        right.plot(epochs, record[scores[0]], "--", color=COLOURS[1])
        right.set(xlabel="epoch", ylabel=f"validation {SCORES.get(scores[0], scores[0])}")
    return fig
