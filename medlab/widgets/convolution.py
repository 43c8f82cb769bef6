"""A kernel drawn by hand, and the window that a convolution moves over its input."""

from __future__ import annotations

import html
from collections.abc import Iterator
from numbers import Integral

import numpy as np
import torch
from ipywidgets import FloatText

from medlab import plotting
from medlab.errors import DataError
from medlab.widgets.panel import Panel, array, grey, img, menu, picture, slider, static

__all__ = [
    "KERNELS",
    "draw_kernel",
    "grey_range",
    "moving_window",
    "output_size",
    "response",
    "window_positions",
]

# Whole numbers, row by row, and what they are divided by.
KERNELS: dict[str, tuple[tuple[float, ...], float]] = {
    "identity": ((0, 0, 0, 0, 1, 0, 0, 0, 0), 1),
    "mean": ((1, 1, 1, 1, 1, 1, 1, 1, 1), 9),
    "Gaussian": ((1, 2, 1, 2, 4, 2, 1, 2, 1), 16),
    "Sobel, vertical edges": ((-1, 0, 1, -2, 0, 2, -1, 0, 1), 8),
    "Sobel, horizontal edges": ((-1, -2, -1, 0, 0, 0, 1, 2, 1), 8),
    "Laplacian": ((0, 1, 0, 1, -4, 1, 0, 1, 0), 1),
    "sharpen": ((0, -1, 0, -1, 5, -1, 0, -1, 0), 1),
    "shift": ((0, 0, 0, 0, 0, 1, 0, 0, 0), 1),
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

# All that a reader of the page sees, for translators.
WORDS = {
    "draw": "draw a kernel",
    "preset": "preset",
    "own": "your own",
    "divisor": "divide by",
    "names": {name: name for name in KERNELS},
    "weight": "w[{0},{1}]",
    "image_title": "image",
    "response_title": "response: {name}",
    "draw_alt": "Left, the image; right, the response to the kernel [{kernel}], black at "
    "{black:.4g} and below, white at {white:.4g} and above.",
    "static_alt": "Left, the image; right, the response to the kernel {name}.",
    "kernel_sum": "sum of the weights",
    "kernel_sum_means": "even tissue of 100 {units} gives {value:.4g} {units}",
    "noise": "root of the sum of squares",
    "noise_means": "independent noise of 100 {units} leaves with {value:.4g} {units}",
    "no_divisor": "Nothing can be divided by 0: choose another divisor.",
    "window": "moving window",
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
    "sum": "y[{i},{j}] = {terms} = {total:g}",
    "too_wide": "A kernel of {kernel} at dilation {dilation} spans {span} pixels, and the input "
    "with its padding has only {padded}. No window fits: take a smaller kernel or dilation, or "
    "more padding.",
    "not_whole": "{name} must be a whole number, {low} or more; got {value!r}",
}


def draw_kernel(
    image,
    *,
    preset: str = "mean",
    units: str = "HU",
    spacing: tuple[float, float] | None = None,
    alt: str | None = None,
) -> Panel:
    """Fill in the nine weights of a kernel and see what an image becomes.

    Args:
        image: (H, W) or (1, H, W).
        preset: name in `KERNELS` with which it starts.
        units: of the values, for the text.
        spacing: (row, column) millimetres between pixels.
        alt: what the static figure shows; made from the preset if not given.

    Raises:
        DataError: not one image, or an unknown preset.
    """
    values = picture(image).astype(float)
    if preset not in KERNELS:
        raise DataError(f"there is no preset {preset!r}; there are: {', '.join(KERNELS)}")
    numbers, divisor = KERNELS[preset]
    first = response(values, np.reshape(numbers, (3, 3)) / divisor)
    name = WORDS["names"][preset]
    inner = values[1:-1, 1:-1]
    left = grey(inner, *_middle(inner))
    static(
        [left, grey(first, *grey_range(first, np.reshape(numbers, (3, 3))))],
        [WORDS["image_title"], WORDS["response_title"].format(name=name)],
        alt or WORDS["static_alt"].format(name=name),
        *(spacing, (0, 255)),
        size=3,
    )

    def draw(divisor, preset, **weights) -> str:
        if moving:  # a preset fills in ten numbers: draw once, after the last
            return panel.view.value
        if divisor == 0:
            return f'<p role="status">{WORDS["no_divisor"]}</p>'
        kernel = np.reshape(list(weights.values()), (3, 3)) / divisor
        result = response(values, kernel)
        black, white = grey_range(result, kernel)
        rows = "; ".join(" ".join(f"{w:.3g}" for w in row) for row in kernel)
        text = WORDS["draw_alt"].format(kernel=rows, black=black, white=white)
        pixels = np.hstack([left, grey(result, black, white)])
        return img(pixels, text, spacing, width=640) + _means(kernel, black, white, units)

    names = {WORDS["own"]: "", **{WORDS["names"][known]: known for known in KERNELS}}
    weights = {
        f"w{a}{b}": _number(WORDS["weight"].format(a, b), numbers[3 * a + b])
        for a in range(3)
        for b in range(3)
    }
    controls = {
        **weights,
        "divisor": _number(WORDS["divisor"], divisor),
        "preset": menu(WORDS["preset"], names, preset),
    }
    moving = _tie_presets(controls)  # before Panel observes them, so that it draws the last state
    panel = Panel(WORDS["draw"], controls, draw)
    for name, part in [*controls.items(), ("view", panel.view)]:
        part.layout.grid_area = name
    panel.layout.display = "grid"
    panel.layout.grid_template_columns = "160px 160px 320px"
    panel.layout.grid_template_areas = "\n".join(
        f'"{row}"'
        for row in (
            "w00 w01 w02",
            "w10 w11 w12",
            "w20 w21 w22",
            "divisor preset preset",
            3 * "view ",
        )
    )
    return panel


def response(image, kernel) -> np.ndarray:
    """The image's response to a kernel, y[i, j] = Σ_a Σ_b w[a, b] · x[i + a, j + b], unpadded.

    Args:
        image: (H, W).
        kernel: (k, l), no larger than the image.

    Returns:
        float64 (H − k + 1, W − l + 1), in the image's unit times the kernel's.

    Raises:
        DataError: not an image and a kernel, or a kernel that does not fit into the image.
    """
    x, w = array(image).astype(float), array(kernel).astype(float)
    if x.ndim != 2 or w.ndim != 2:
        raise DataError(f"expected an image (H, W) and a kernel (k, l), got {x.shape}, {w.shape}")
    rows, columns = (output_size(n, k) for n, k in zip(x.shape, w.shape, strict=True))
    y = np.zeros((rows, columns))
    for a, b in np.ndindex(w.shape):
        y += w[a, b] * x[a : a + rows, b : b + columns]
    return y


def grey_range(values, kernel) -> tuple[float, float]:
    """Black and white for a response: symmetric about 0 where the weights add up to 0.

    Args:
        values: the response, (H, W).
        kernel: the weights that gave it, (k, l).

    Returns:
        The middle 98 % of the values, or plus and minus the 98th percentile of their size.
    """
    if abs(np.sum(kernel)) > 1e-9 * np.abs(kernel).sum():
        return _middle(values)
    reach = float(np.percentile(np.abs(values), 98)) or 1.0
    return -reach, reach


def moving_window(
    image=SPOT,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    position: int = 0,
    alt: str | None = None,
) -> Panel:
    """Move the window over a small padded input, and see which output it fills, with which sum.

    The weights are −1 on the left of the window, 1 on its right and 0 in the middle.

    Args:
        image: (n, n) small numbers.
        kernel, stride, padding, dilation: where the sliders start.
        position: output that the window fills first, counted row by row from 0.
        alt: what the static figure shows; made from the settings if not given.

    Raises:
        DataError: an image that is not square, or settings for which no window fits.
    """
    x = picture(image)
    if x.shape[0] != x.shape[1]:
        raise DataError(f"the moving window needs a square input, got {x.shape}")
    n = len(x)
    first = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    count = output_size(n, **first) ** 2
    position = min(position, count - 1)
    plotting.show(_figure(x, position, first), alt=alt or _describe(n, position, first))

    def draw(position, **settings) -> str:
        try:
            size = output_size(n, **settings)
        except DataError as error:
            return f'<p role="status" aria-live="polite">{html.escape(str(error))}</p>'
        at = min(position, size**2 - 1)
        return _svg(x, at, settings) + _sentence(x, at, settings)

    controls = {
        "kernel": slider(WORDS["kernel"], kernel, 1, LARGEST_KERNEL, whole=True),
        "stride": slider(WORDS["stride"], stride, 1, LARGEST, whole=True),
        "padding": slider(WORDS["padding"], padding, 0, LARGEST, whole=True),
        "dilation": slider(WORDS["dilation"], dilation, 1, LARGEST, whole=True),
        "position": slider(WORDS["position"], position, 0, count - 1, whole=True),
    }

    def fit_position(_change) -> None:
        settings = {name: controls[name].value for name in first}
        try:
            controls["position"].max = output_size(n, **settings) ** 2 - 1
        except DataError:
            controls["position"].max = 0

    for name in first:  # before Panel observes them: it draws with the position already within
        controls[name].observe(fit_position, "value")
    return Panel(WORDS["window"], controls, draw)


def output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """Outputs along one axis: ⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1.

    Args:
        size: pixels of the input along this axis, ≥ 1.
        kernel, stride, dilation: ≥ 1.
        padding: pixels added at either end, ≥ 0.

    Raises:
        DataError: no window fits, or a setting that is no such whole number.
    """
    given = {"size": size, "kernel": kernel, "stride": stride, "dilation": dilation}
    for name, value, low in [*((k, v, 1) for k, v in given.items()), ("padding", padding, 0)]:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
            raise DataError(WORDS["not_whole"].format(name=name, low=low, value=value))
    span, padded = dilation * (kernel - 1) + 1, size + 2 * padding
    if span > padded:
        raise DataError(
            WORDS["too_wide"].format(kernel=kernel, dilation=dilation, span=span, padded=padded)
        )
    return (padded - span) // stride + 1


def window_positions(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> np.ndarray:
    """Which pixels each output reads along one axis.

    Args:
        size, kernel, stride, padding, dilation: as for `output_size`.

    Returns:
        int64 (outputs, kernel): indices into the unpadded input; below 0, or `size` and above,
        where the window lies on padding.

    Raises:
        DataError: as for `output_size`.
    """
    starts = stride * np.arange(output_size(size, kernel, stride, padding, dilation)) - padding
    return starts[:, None] + dilation * np.arange(kernel)


# --- pieces of the first widget ------------------------------------------------------------------


def _middle(values) -> tuple[float, float]:
    low, high = np.percentile(values, [1, 99])
    return float(low), float(high)


def _number(label: str, value: float) -> FloatText:
    return FloatText(
        value=value,
        description=label,
        step=1,
        style={"description_width": "70px"},
        layout={"width": "150px"},
    )


def _means(kernel, black: float, white: float, units: str) -> str:
    """What the weights do to even tissue and to noise, and what black and white stand for."""
    total, root = kernel.sum(), np.sqrt((kernel**2).sum())
    rows = [
        ("kernel_sum", total, WORDS["kernel_sum_means"]),
        ("noise", root, WORDS["noise_means"]),
    ]
    lines = "".join(
        f'<tr><th scope="row" style="text-align: left">{WORDS[key]}</th>'
        f'<td style="padding: 0 1em">{value:.4g}</td>'
        f"<td>{html.escape(text.format(value=100 * value, units=units))}</td></tr>"
        for key, value, text in rows
    )
    return f'<table role="status" aria-live="polite">{lines}</table>'


def _tie_presets(controls) -> list:
    """A preset fills in the weights, and changing a weight shows that the preset is left.

    Returns:
        A list that holds something while either is under way.
    """
    preset = controls["preset"]
    numbers = [control for name, control in controls.items() if name != "preset"]
    moving = []

    def choose(change) -> None:
        if change["new"] and not moving:
            moving.append(True)
            weights, divisor = KERNELS[change["new"]]
            for control, value in zip(numbers, (*weights, divisor), strict=True):
                control.value = value
            moving.clear()

    def leave(_change) -> None:
        if not moving:
            moving.append(True)
            now = tuple(control.value for control in numbers)
            preset.value = next((k for k, (w, d) in KERNELS.items() if (*w, d) == now), "")
            moving.clear()

    preset.observe(choose, "value")
    for control in numbers:
        control.observe(leave, "value")
    return moving


# --- pieces of the second widget -----------------------------------------------------------------


def _weights(kernel: int) -> np.ndarray:
    """−1 left of the middle, 1 right of it: the window's sum is large at vertical edges."""
    columns = np.sign(2 * np.arange(kernel) - (kernel - 1)) if kernel > 1 else np.ones(1, int)
    return np.tile(columns, (kernel, 1))


def _outputs(x, settings) -> np.ndarray:
    w = torch.as_tensor(_weights(settings["kernel"]), dtype=torch.float64)[None, None]
    options = {name: settings[name] for name in ("stride", "padding", "dilation")}
    image = torch.as_tensor(np.asarray(x, float))[None, None]
    return torch.nn.functional.conv2d(image, w, **options)[0, 0].numpy()


def _window(n: int, position: int, settings) -> tuple[int, int, list[int], list[int]]:
    """Row and column of the output, and the rows and columns of the input that it reads."""
    reads = window_positions(n, **settings)
    i, j = divmod(position, len(reads))
    return i, j, reads[i].tolist(), reads[j].tolist()


def _describe(n: int, position: int, settings) -> str:
    k, s, p, d = (settings[name] for name in ("kernel", "stride", "padding", "dilation"))
    i, j, _, _ = _window(n, position, settings)
    m = output_size(n, **settings)
    values = {"k": k, "n": n, "s": s, "p": p, "d": d, "at": position, "i": i, "j": j, "m": m}
    return WORDS["window_alt"].format(**values)


def _sentence(x, position: int, settings) -> str:
    """The size of the output by its formula, and the sum that fills this one."""
    n, (k, s, p, d) = len(x), (settings[c] for c in ("kernel", "stride", "padding", "dilation"))
    i, j, rows, columns = _window(n, position, settings)
    w, padded = _weights(k), np.pad(x, p)
    terms = " + ".join(
        f"{_bracketed(w[a, b])}·{_bracketed(padded[row + p, column + p])}"
        for a, row in enumerate(rows)
        for b, column in enumerate(columns)
    )
    total = _outputs(x, settings)[i, j]
    m = output_size(n, **settings)
    lines = (
        WORDS["size"].format(n=n, p=p, d=d, k=k, s=s, m=m),
        WORDS["sum"].format(i=i, j=j, terms=terms, total=total).replace("-", "−"),
    )
    return f'<div role="status" aria-live="polite"><p>{lines[0]}</p><p>{lines[1]}</p></div>'


def _bracketed(value: float) -> str:
    return f"{value:g}" if value >= 0 else f"(−{-value:g})"


def _cells(x, position: int, settings) -> Iterator[tuple[str, int, int, str, str]]:
    """Grid, row, column, text and kind of every cell of input and output."""
    n, p = len(x), settings["padding"]
    i, j, rows, columns = _window(n, position, settings)
    padded = np.pad(x, p)
    for r, c in np.ndindex(padded.shape):
        inside = p <= r < n + p and p <= c < n + p
        read = r - p in rows and c - p in columns
        yield "input", r, c, f"{padded[r, c]:g}", "read" if read else ("plain", "pad")[not inside]
    y = _outputs(x, settings)
    for r, c in np.ndindex(y.shape):
        done = r * len(y) + c <= position
        kind = "filled" if (r, c) == (i, j) else "plain"
        yield "output", r, c, f"{y[r, c]:g}".replace("-", "−") if done else "", kind


FILL = {"plain": "#ffffff", "pad": "#dddddd", "read": "#9fd3f2", "filled": "#f2b27f"}


def _svg(x, position: int, settings, cell: int = 26) -> str:
    n, p, m = len(x), settings["padding"], output_size(len(x), **settings)
    across = {"input": 0, "output": (n + 2 * p + 1) * cell}
    wide, tall = across["output"] + m * cell, max(n + 2 * p, m) * cell
    shapes = []
    for grid, r, c, text, kind in _cells(x, position, settings):
        left, top = across[grid] + c * cell, r * cell
        bold = 2 if kind in ("read", "filled") else 0.6
        shapes.append(
            f'<rect x="{left}" y="{top}" width="{cell}" height="{cell}" fill="{FILL[kind]}" '
            f'stroke="#333333" stroke-width="{bold}" class="{kind}"/>'
            f'<text x="{left + cell / 2:g}" y="{top + cell * 0.68:g}" text-anchor="middle" '
            f'font-size="12" fill="#000000">{text}</text>'
        )
    alt = html.escape(_describe(n, position, settings))
    return (
        f'<svg role="img" aria-label="{alt}" width="{wide + 2}" height="{tall + 2}" '
        f'viewBox="-1 -1 {wide + 2} {tall + 2}">{"".join(shapes)}</svg>'
    )


def _figure(x, position: int, settings):
    n, p, m = len(x), settings["padding"], output_size(len(x), **settings)
    sides = {"input": n + 2 * p, "output": m}
    fig, axes = plotting.subplots(1, 2, size=(8, 4), width_ratios=list(sides.values()))
    by_name = dict(zip(sides, axes, strict=True))
    for name, ax in by_name.items():
        side = max(sides.values()) if name == "input" else m
        ax.set(xlim=(-0.05, sides[name] + 0.05), ylim=(side + 0.05, -0.05), aspect="equal")
        ax.set_title(WORDS[name])
        ax.axis("off")
    for grid, r, c, text, kind in _cells(x, position, settings):
        ax, bold = by_name[grid], 2 if kind in ("read", "filled") else 0.6
        ax.add_patch(_square(r, c, FILL[kind], bold))
        ax.text(c + 0.5, r + 0.5, text, ha="center", va="center", fontsize=10)
    return fig


def _square(row: int, column: int, fill: str, width: float):
    from matplotlib.patches import Rectangle

    outline = {"edgecolor": "#333333", "lw": width, "zorder": 1 + width / 10}  # thick above thin
    return Rectangle((column, row), 1, 1, facecolor=fill, **outline)
