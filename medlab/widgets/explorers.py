"""Sliders over a window of grey levels, a convolution, a descent and the threshold of a test."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from numpy.typing import ArrayLike
from torch.nn import functional

from medlab import metrics, plotting, preprocess
from medlab.errors import DataError, read_facts
from medlab.widgets._panel import WORDS, Panel, Shown, slider

Pair = tuple[float, float]

WINDOW = (300, 600)  # level and width at first: no usual window, so that one looks for it

# Of the moving window.
SPOT = np.array(read_facts("widgets/spot")["values"], dtype=float)
FILL = {"plain": "#ffffff", "pad": "#dddddd", "read": "#9fd3f2", "filled": "#f2b27f"}

# Of the descent.
STEPS, START, CURVATURES = 40, np.array([-1.8, 0.6]), np.array([1.0, 25.0])
LOWEST, GOAL, HIGHEST = 1e-9, 1e-6, 1e3  # the losses shown, as parts of the first


def window_level(image: ArrayLike, *, spacing: Pair | None = None) -> Panel:
    """Slide the window over an image's values.

    The image is (H, W) or (1, H, W) in Hounsfield units, not uint8, its `spacing` (row, column) mm.

    Raises:
        DataError: not one image, or uint8.
    """
    values = image.detach().cpu().numpy() if torch.is_tensor(image) else np.asarray(image)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or not values.size:
        raise DataError(f"expected one grey image (H, W) or (1, H, W), got {values.shape}")
    level, width = WINDOW
    low, high = int(np.floor(values.min())), int(np.ceil(values.max()))
    controls = {
        "level": slider("level", level, min(low, level), max(high, level)),
        "width": slider("width", width, 1, max(high - low, width)),
    }

    def show(level: int, width: int) -> Shown:
        facts = {"level": level, "width": width}
        edges = {"black": level - width / 2, "white": level + width / 2 - 1}
        title, shown = WORDS["window_title"].format(**facts), preprocess.window(values, **facts)
        fig = plotting.images([shown], titles=[title], spacing=spacing, limits=(0, 1), size=3.6)
        return fig, WORDS["window_alt"].format(**facts, **edges), []

    return Panel(controls, show)


def moving_window() -> Panel:
    """Move the window over a small padded input, and see which output it fills, with which sum.

    The weights are −1 on the left of the window, 1 on its right and 0 in the middle; outputs are
    counted row by row from 0. Settings for which no window fits give a sentence.
    """
    controls = {
        "kernel": slider("kernel", 3, 1, 4),
        "stride": slider("stride", 2, 1, 3),
        "padding": slider("padding", 1, 0, 3),
        "dilation": slider("dilation", 1, 1, 3),
        "position": slider("position", 6, 0, 15),
    }

    def show(kernel: int, stride: int, padding: int, dilation: int, position: int) -> Shown:
        padded, weights, y = _convolved(kernel, stride, padding, dilation)
        controls["position"].max = y.size - 1
        position = min(position, y.size - 1)
        i, j = divmod(position, len(y))
        window = np.ix_(*(stride * at + dilation * np.arange(kernel) for at in (i, j)))
        kinds = np.pad(np.full(SPOT.shape, "plain"), padding, constant_values="pad")
        kinds[window] = "read"
        order = np.arange(y.size).reshape(y.shape)
        fig, ax = plotting.subplots(size=(8, 4))
        ax.axis("off")
        _grid(ax, 0, padded, kinds, WORDS["input"])
        filled = np.where(order == position, "filled", "plain")
        _grid(ax, len(padded) + 1, np.where(order <= position, y, np.nan), filled, WORDS["output"])
        wide, tall = len(padded) + 1 + len(y), max(len(padded), len(y))
        ax.set(xlim=(-0.05, wide + 0.05), ylim=(tall + 0.05, -1), aspect="equal")
        terms = " + ".join(
            "·".join(f"{v:g}" if v >= 0 else f"({v:g})" for v in pair)
            for pair in zip(weights.flat, padded[window].flat, strict=True)
        )
        facts = {"k": kernel, "s": stride, "p": padding, "d": dilation, "n": len(SPOT), "m": len(y)}
        at = {"at": position, "i": i, "j": j, "terms": terms, "total": y[i, j]}
        lines = [WORDS["size"].format(**facts), WORDS["terms"].format(**at).replace("-", "−")]
        return fig, WORDS["moving_alt"].format(**facts, **at), lines

    return Panel(controls, show)


def descent() -> Panel:
    """Slide learning rate and momentum, and see the path and how the loss falls in 40 steps.

    The loss is L = ½ (θ₁² + 25 θ₂²); the learning rate reaches a tenth beyond its limit at
    momentum 1.
    """
    controls = {
        "lr": slider("lr", 0.07, 0.0, 0.176, step=0.001, form=".3f"),
        "momentum": slider("momentum", 0.0, 0.0, 0.99, step=0.01),
    }
    wide = 1.15 * abs(START[0])
    x, y = np.meshgrid(np.linspace(-wide, wide, 161), np.linspace(-wide / 2, wide / 2, 81))
    loss = CURVATURES[0] * x**2 + CURVATURES[1] * y**2
    first = START**2 @ CURVATURES

    def show(lr: float, momentum: float) -> Shown:
        velocity, path = np.zeros(2), [START]
        for _ in range(STEPS):
            velocity = momentum * velocity + CURVATURES * path[-1]
            path.append(path[-1] - lr * velocity)
        theta = np.stack(path)
        ratios = theta**2 @ CURVATURES / first
        fig, (left, right) = plotting.subplots(1, 2, size=(9.5, 2.9), width_ratios=(1.5, 1))
        levels = first * 4.0 ** np.arange(-5, 2)
        left.contour(x, y, loss, levels=levels, colors="grey", linewidths=0.8)
        # A runaway path is cut short far outside: renderers choke on coordinates of 10²⁰.
        seen = np.clip(theta, -50 * wide, 50 * wide).T
        left.plot(*seen, "o-", color=plotting.COLOURS[0], markersize=3.5, linewidth=1.2)
        left.plot(*START, "s", color=plotting.COLOURS[1], label=WORDS["start"])
        left.plot(0, 0, "+", color="black", markersize=10, label=WORDS["end"])
        left.set(xlim=(-wide, wide), ylim=(-wide / 2, wide / 2))
        left.set(xlabel=WORDS["x"], ylabel=WORDS["y"])
        left.legend(fontsize=9, loc="upper right")
        right.plot(np.clip(ratios, LOWEST, HIGHEST))
        right.axhline(GOAL, color="black", linestyle="--", linewidth=1)
        right.set(yscale="log", ylim=(LOWEST, HIGHEST), xlabel=WORDS["step"], ylabel=WORDS["ratio"])
        right.minorticks_off()
        limit = 2 * (1 + momentum) / max(CURVATURES)
        above = np.flatnonzero(ratios >= GOAL)[-1] + 1  # the first step is always above
        lines = [
            WORDS["share_of_limit"].format(lr / limit, limit),
            WORDS["after"].format(STEPS, ratios[-1]),
            WORDS["missed"].format(STEPS) if above > STEPS else WORDS["reached"].format(above),
        ]
        return fig, WORDS["descent_alt"].format(CURVATURES[1] / CURVATURES[0], lr, momentum), lines

    return Panel(controls, show)


def threshold(
    labels: ArrayLike, scores: ArrayLike, *, threshold: float, prevalence: float
) -> Panel:
    """Slide the threshold and the prevalence; see the four ratios.

    Labels are (N,) of 0 and 1, scores (N,), (N, 1) or (N, 2). The other arguments are where the
    sliders start: a score at or above `threshold` is called positive; `prevalence` is 0.001 to
    0.999.

    Raises:
        DataError: labels and scores that do not fit together, or a start outside its slider.
    """
    _, y, s = metrics.binary_pairs(labels, scores)
    low, high = (0.0, 1.0) if s.min() >= 0 and s.max() <= 1 else (float(s.min()), float(s.max()))
    high = high if high > low else low + 1
    controls = {
        "threshold": slider("threshold", threshold, low, high, step=(high - low) / 100),
        "prevalence": slider("prevalence", prevalence, 0.001, 0.999, step=0.001, form=".1%"),
    }
    edges = np.linspace(low, high, 31)
    ratios = ("sensitivity", "specificity", "ppv", "npv")

    def show(threshold: float, prevalence: float) -> Shown:
        fig, axes = plotting.subplots(1, 2, size=(9, 2.9))
        for k, name in enumerate((WORDS["negative"], WORDS["positive"])):
            count = np.histogram(s[y == k], edges)[0]
            axes[0].stairs(count, edges, fill=True, alpha=0.55, label=name)
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
        axes[0].axvline(threshold, color="black", linestyle="--")
        return fig, WORDS["threshold_alt"].format(threshold), lines

    return Panel(controls, show)


def _convolved(
    kernel: int, stride: int, padding: int, dilation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The spot with its padding, the weights, and the output; DataError if no window fits."""
    padded, span = np.pad(SPOT, padding), dilation * (kernel - 1) + 1
    if span > len(padded):
        facts = {"k": kernel, "d": dilation, "span": span, "padded": len(padded)}
        raise DataError(WORDS["too_wide"].format(**facts))
    columns = np.sign(np.arange(kernel) - (kernel - 1) / 2) if kernel > 1 else np.ones(1)
    weights = np.tile(columns, (kernel, 1))
    x, w = (torch.from_numpy(values)[None, None] for values in (padded, weights))
    return padded, weights, functional.conv2d(x, w, None, stride, 0, dilation)[0, 0].numpy()


def _grid(ax: Axes, left: int, numbers: np.ndarray, kinds: np.ndarray, title: str) -> None:
    """Draw a table of numbers, NaN left empty, each cell in the colour of its kind."""
    codes = np.vectorize(list(FILL).index)(kinds)
    edges = np.arange(len(numbers) + 1)
    look: dict = {"cmap": ListedColormap(list(FILL.values())), "edgecolors": "#333333"}
    ax.pcolormesh(left + edges, edges, codes, vmin=0, vmax=len(FILL) - 1, linewidth=0.6, **look)
    for (row, column), number in np.ndenumerate(numbers):
        if not np.isnan(number):
            text = f"{number:g}".replace("-", "−")
            ax.text(left + column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=10)
    ax.text(left + len(numbers) / 2, -0.3, title, ha="center", va="bottom", fontsize=11)
