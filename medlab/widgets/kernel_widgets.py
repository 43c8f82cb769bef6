"""A kernel drawn by hand, and the window that a convolution moves over its input."""

from __future__ import annotations

import numpy as np
import torch
from ipywidgets import FloatText
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from numpy.typing import ArrayLike
from scipy.signal import correlate2d
from torch.nn import functional

from medlab import plotting
from medlab.errors import DataError
from medlab.widgets._panel import (
    Caption,
    Panel,
    follow_presets,
    menu,
    picture,
    whole_slider,
)

# Nine whole numbers, row by row, and what they are divided by.
KERNELS: dict[str, tuple[float, ...]] = {
    "identity": (0, 0, 0, 0, 1, 0, 0, 0, 0, 1),
    "mean": (1, 1, 1, 1, 1, 1, 1, 1, 1, 9),
    "Gaussian": (1, 2, 1, 2, 4, 2, 1, 2, 1, 16),
    "Sobel, vertical edges": (-1, 0, 1, -2, 0, 2, -1, 0, 1, 8),
    "Sobel, horizontal edges": (-1, -2, -1, 0, 0, 0, 1, 2, 1, 8),
    "Laplacian": (0, 1, 0, 1, -4, 1, 0, 1, 0, 1),
    "sharpen": (0, -1, 0, -1, 5, -1, 0, -1, 0, 1),
    "shift": (0, 0, 0, 0, 0, 1, 0, 0, 0, 1),
}

# A bright spot on a dark, uneven ground, for the moving window.
SPOT = (
    (0, 1, 0, 2, 1, 0, 1),
    (1, 0, 3, 4, 3, 1, 0),
    (0, 3, 8, 9, 7, 2, 1),
    (2, 4, 9, 9, 8, 3, 0),
    (1, 3, 7, 8, 8, 2, 1),
    (0, 1, 2, 3, 2, 0, 2),
    (1, 0, 1, 0, 1, 1, 0),
)
LARGEST_KERNEL = 4
LARGEST = 3  # stride, padding and dilation
FILL = {"plain": "#ffffff", "pad": "#dddddd", "read": "#9fd3f2", "filled": "#f2b27f"}

# All that a reader of the page sees, for translators.
NAMES = {name: name for name in KERNELS}
WORDS = {
    "preset": "preset",
    "own": "your own",
    "divisor": "divide by",
    "weight": "w[{0},{1}]",
    "image_title": "image",
    "response_title": "response: {name}",
    "draw_alt": "Left, the image; right, the response to the kernel {name}.",
    "greys": "The response is black at {0:.4g} and below, white at {1:.4g} and above.",
    "sum": "Sum of the weights {0:.4g}: even tissue of 100 gives {1:.4g}.",
    "noise": "Root of the sum of squares {0:.4g}: independent noise of 100 leaves with {1:.4g}.",
    "no_divisor": "Nothing can be divided by 0: choose another divisor.",
    "kernel": "kernel k",
    "stride": "stride s",
    "padding": "padding p",
    "dilation": "dilation d",
    "position": "position",
    "input": "input, with padding",
    "output": "output",
    "window_alt": "A {k}×{k} window over a {n}×{n} input, stride {s}, padding {p}, dilation {d}: "
    "at position {at} it fills row {i}, column {j} of the {m}×{m} output.",
    "size": "output size = ⌊({n} + 2·{p} − {d}·({k} − 1) − 1) / {s}⌋ + 1 = {m}",
    "terms": "y[{i},{j}] = {terms} = {total:g}",
    "too_wide": "A kernel of {k} at dilation {d} spans {span} pixels, and the input with its "
    "padding has only {padded}. No window fits: take a smaller kernel or dilation, or more "
    "padding.",
}


def draw_kernel(
    image: ArrayLike, *, preset: str = "mean", spacing: tuple[float, float] | None = None
) -> Panel:
    """Fill in the nine weights of a kernel and see what an image becomes.

    Args:
        image: (H, W) or (1, H, W), at least 3 × 3.
        preset: name of the kernel with which it starts, as in the menu.
        spacing: (row, column) millimetres between pixels.

    Raises:
        DataError: not one image, or an unknown preset.
    """
    values = picture(image).astype(float)
    if min(values.shape) < 3:
        raise DataError(f"a 3 × 3 kernel does not fit into an image of {values.shape}")
    choices = {WORDS["own"]: "", **{NAMES[known]: known for known in KERNELS}}
    chosen = menu(WORDS["preset"], choices, preset)
    start = KERNELS.get(preset, KERNELS["identity"])
    labels = {f"w{a}{b}": WORDS["weight"].format(a, b) for a in range(3) for b in range(3)}
    labels["divisor"] = WORDS["divisor"]
    controls = {
        **{k: _number(labels[k], value) for k, value in zip(labels, start, strict=True)},
        "preset": chosen,
    }
    inner = values[1:-1, 1:-1]
    titles = [WORDS["image_title"], WORDS["response_title"]]
    fig = plotting.images([inner, inner], titles=titles, spacing=spacing, limits="own", size=3)
    left, right = fig.axes
    left.images[0].set_clim(_middle(inner))

    def update(divisor: float, preset: str, **weights: float) -> Caption:
        if divisor == 0:
            raise DataError(WORDS["no_divisor"])
        kernel = np.reshape(list(weights.values()), (3, 3)) / divisor
        response = correlate2d(values, kernel, mode="valid")
        greys, name = _greys(response, kernel), NAMES.get(preset, WORDS["own"])
        right.images[0].set(data=response, clim=greys)
        right.title.set_text(WORDS["response_title"].format(name=name))
        total, root = kernel.sum(), np.sqrt((kernel**2).sum())
        lines = [
            WORDS["greys"].format(*greys),
            WORDS["sum"].format(total, 100 * total),
            WORDS["noise"].format(root, 100 * root),
        ]
        return WORDS["draw_alt"].format(name=name), lines

    panel = Panel(controls, fig, update, follow_presets(controls, KERNELS))
    for name, part in [*controls.items(), ("view", panel.view)]:
        part.layout.grid_area = name
    panel.layout.display = "grid"
    panel.layout.grid_template_columns = "160px 160px 320px"
    rows = ("w00 w01 w02", "w10 w11 w12", "w20 w21 w22", "divisor preset preset", 3 * "view ")
    panel.layout.grid_template_areas = "\n".join(f'"{row}"' for row in rows)
    return panel


def moving_window(
    image: ArrayLike = SPOT,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    position: int = 0,
) -> Panel:
    """Move the window over a small padded input, and see which output it fills, with which sum.

    The weights are −1 on the left of the window, 1 on its right and 0 in the middle.

    Args:
        image: (n, n) small numbers.
        kernel: where its slider starts, 1 to 4.
        stride: likewise, 1 to 3.
        padding: likewise, 0 to 3.
        dilation: likewise, 1 to 3.
        position: output that the window fills first, counted row by row from 0.

    Raises:
        DataError: an image that is not square, settings for which no window fits, or a position
            that the output does not have.
    """
    x = picture(image).astype(float)
    if x.shape[0] != x.shape[1]:
        raise DataError(f"the moving window needs a square input, got {x.shape}")
    controls = {
        "kernel": whole_slider(WORDS["kernel"], kernel, 1, LARGEST_KERNEL),
        "stride": whole_slider(WORDS["stride"], stride, 1, LARGEST),
        "padding": whole_slider(WORDS["padding"], padding, 0, LARGEST),
        "dilation": whole_slider(WORDS["dilation"], dilation, 1, LARGEST),
    }
    last = _convolved(x, kernel, stride, padding, dilation)[1].size - 1
    controls["position"] = whole_slider(WORDS["position"], position, 0, last)
    fig, ax = plotting.subplots(size=(8, 4))
    ax.axis("off")

    def settle(_change: dict) -> None:
        settings = {name: c.value for name, c in controls.items() if name != "position"}
        controls["position"].max = _convolved(x, **settings)[1].size - 1

    def update(kernel: int, stride: int, padding: int, dilation: int, position: int) -> Caption:
        padded, y = _convolved(x, kernel, stride, padding, dilation)
        i, j = divmod(position, len(y))
        rows, columns = (stride * at + dilation * np.arange(kernel) for at in (i, j))
        kinds = np.pad(np.full(x.shape, "plain"), padding, constant_values="pad")
        kinds[np.ix_(rows, columns)] = "read"
        done = np.where(np.arange(y.size).reshape(y.shape) <= position, y, np.nan)
        filled = np.where(np.arange(y.size).reshape(y.shape) == position, "filled", "plain")
        ax.clear()
        ax.axis("off")
        _grid(ax, 0, padded, kinds, WORDS["input"])
        _grid(ax, len(padded) + 1, done, filled, WORDS["output"])
        wide, tall = len(padded) + 1 + len(y), max(len(padded), len(y))
        ax.set(xlim=(-0.05, wide + 0.05), ylim=(tall + 0.05, -1), aspect="equal")
        terms = " + ".join(
            f"{_bracketed(w)}·{_bracketed(v)}"
            for w, v in zip(_weights(kernel).flat, padded[np.ix_(rows, columns)].flat, strict=True)
        )
        facts = {"k": kernel, "s": stride, "p": padding, "d": dilation, "n": len(x), "m": len(y)}
        at = {"at": position, "i": i, "j": j, "terms": terms, "total": y[i, j]}
        lines = [WORDS["size"].format(**facts), WORDS["terms"].format(**at).replace("-", "−")]
        return WORDS["window_alt"].format(**facts, **at), lines

    return Panel(controls, fig, update, settle)


def _number(label: str, value: float) -> FloatText:
    look: dict = {"style": {"description_width": "70px"}, "layout": {"width": "150px"}}
    return FloatText(value=value, description=label, step=1, **look)


def _greys(values: np.ndarray, kernel: np.ndarray) -> tuple[float, float]:
    """Black and white for a response: symmetric about 0 where the weights add up to 0.

    Either the middle 98 % of the values, or plus and minus the 98th percentile of their size.
    """
    if abs(kernel.sum()) > 1e-9 * np.abs(kernel).sum():
        return _middle(values)
    reach = float(np.percentile(np.abs(values), 98)) or 1.0
    return -reach, reach


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [1, 99])
    return float(low), float(high)


def _weights(kernel: int) -> np.ndarray:
    """−1 left of the middle, 1 right of it: the window's sum is large at vertical edges."""
    columns = np.sign(2 * np.arange(kernel) - (kernel - 1)) if kernel > 1 else np.ones(1, int)
    return np.tile(columns, (kernel, 1))


def _convolved(
    x: np.ndarray, kernel: int, stride: int, padding: int, dilation: int
) -> tuple[np.ndarray, np.ndarray]:
    """The input with its padding, and the output.

    Raises:
        DataError: no window fits.
    """
    padded, span = np.pad(x, padding), dilation * (kernel - 1) + 1
    if span > len(padded):
        facts = {"k": kernel, "d": dilation, "span": span, "padded": len(padded)}
        raise DataError(WORDS["too_wide"].format(**facts))
    w = torch.from_numpy(_weights(kernel).astype(float))[None, None]
    y = functional.conv2d(torch.from_numpy(padded)[None, None], w, None, stride, 0, dilation)
    return padded, y[0, 0].numpy()


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


def _bracketed(value: float) -> str:
    return f"{value:g}" if value >= 0 else f"(−{-value:g})"
