"""Sliders that explore one idea each, over plain functions that work without them.

Each widget first shows a static figure of its default state, so that the page reads whole where
no kernel runs, and returns a panel: make the call the last line of its cell. Controls are plain
sliders and menus with labels, reachable by keyboard; pictures carry an alternative text.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import ipywidgets
import numpy as np
import torch

from medlab import metrics, plotting, preprocess
from medlab.errors import DataError

__all__ = [
    "PRESETS",
    "Panel",
    "Readout",
    "keep_kspace",
    "kspace",
    "readout",
    "slice_image",
    "slices",
    "threshold",
    "window_image",
    "window_level",
]

# Level and width in HU, as radiology departments commonly set them.
PRESETS = {
    "lung": (-600, 1500),
    "soft tissue": (40, 400),
    "bone": (400, 1800),
    "brain": (40, 80),
}

# All that a reader of the page sees, in one place for translators.
WORDS = {
    "panel": "<Widget: {}. Run the cell in Jupyter or Colab to move it.>",
    "window": "window level and width",
    "threshold": "threshold and prevalence",
    "kspace": "part of k-space",
    "slices": "slices of a volume",
    "level": "level",
    "width": "width",
    "preset": "preset",
    "own": "your own",
    "window_alt": "The image at level {level} {units}, width {width} {units}: black at {black:g} "
    "and below, white at {white:g} and above.",
    "window_title": "level {level}, width {width} {units}",
    "fraction": "kept",
    "part": "part",
    "centre": "centre",
    "edge": "edge",
    "kspace_alt": "Left, the {part} of k-space that is kept, {share} of each side; right, the "
    "image that it gives.",
    "kspace_titles": ("k-space that is kept", "image from it"),
    "slice": "slice",
    "slice_alt": "Slice {index} of 0 to {last}, on one grey scale with all the others.",
    "slice_title": "slice {index} of 0 to {last}",
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


class Panel(ipywidgets.VBox):
    """Controls above a picture that follows them.

    Attributes:
        controls: name -> control; setting `controls["level"].value` redraws.
        view: the HTML below them.
    """

    def __init__(
        self, title: str, controls: dict[str, ipywidgets.Widget], draw: Callable[..., str]
    ):
        self.title, self.controls, self._draw = title, controls, draw
        self.view = ipywidgets.HTML(draw(**self.settings))
        super().__init__([*controls.values(), self.view])
        for control in controls.values():
            control.observe(self._redraw, "value")

    @property
    def settings(self) -> dict:
        """Name -> value of every control."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, _change) -> None:
        self.view.value = self._draw(**self.settings)

    def __repr__(self) -> str:
        # Stored notebooks are compared word by word: no picture, number or address may stand here.
        return WORDS["panel"].format(self.title)


def window_level(
    image,
    *,
    level: int = 40,
    width: int = 400,
    presets: Mapping[str, tuple[int, int]] = PRESETS,
    units: str = "HU",
    spacing: tuple[float, float] | None = None,
    alt: str | None = None,
) -> Panel:
    """Slide the window over an image's values.

    Args:
        image: (H, W) or (1, H, W) in Hounsfield units or another unit; not uint8.
        level, width: where the sliders start.
        presets: name -> (level, width) for the menu; {} for none.
        units: of the values, for labels.
        spacing: (row, column) millimetres between pixels.
        alt: what the static figure shows; made from level and width if not given.

    Raises:
        DataError: not one image, or uint8.
    """
    values = _picture(image)

    def described(level, width) -> str:
        edges = {"black": level - width / 2, "white": level + width / 2 - 1}
        return WORDS["window_alt"].format(level=level, width=width, units=units, **edges)

    def draw(level, width, preset="") -> str:
        return _img(window_image(values, level, width), described(level, width), spacing)

    title = WORDS["window_title"].format(level=level, width=width, units=units)
    _static(
        [window_image(values, level, width)],
        *([title], alt or described(level, width), spacing, (0, 255)),
        size=3.6,
    )
    known = [(level, width), *presets.values()]
    low, high = int(np.floor(values.min())), int(np.ceil(values.max()))
    levels = [low, high, *(c for c, _ in known)]
    widths = [high - low, *(w for _, w in known)]
    controls = {
        "level": _slider(WORDS["level"], level, min(levels), max(levels), whole=True),
        "width": _slider(WORDS["width"], width, 1, max(widths), whole=True),
    }
    if presets:
        menu = {WORDS["own"]: "", **{name: name for name in presets}}
        controls["preset"] = _menu(WORDS["preset"], menu, _preset(presets, level, width))
    panel = Panel(WORDS["window"], controls, draw)
    if presets:
        _tie_presets(controls, presets)
    return panel


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
        "threshold": _slider(WORDS["cut"], threshold, low, high, step=(high - low) / 100),
        "prevalence": _slider(
            WORDS["prevalence"], round(start.prevalence, 3), 0.001, 0.999, step=0.001, form=".1%"
        ),
    }
    return Panel(WORDS["threshold"], controls, draw)


def kspace(image, *, fraction: float = 0.2, part: str = "centre", alt: str | None = None) -> Panel:
    """Keep only the centre of k-space, or only its edge, and see the image that is left.

    Args:
        image: (H, W) or (1, H, W), ≥ 0, such as an MR magnitude image.
        fraction: where the slider starts; see `keep_kspace`.
        part: "centre" or "edge".
        alt: what the static figure shows; made from fraction and part if not given.

    Raises:
        DataError: not one image, or negative values.
    """
    values = _picture(image).astype(float)

    def described(fraction, part) -> str:
        return WORDS["kspace_alt"].format(part=WORDS[part], share=f"{fraction:.0%}")

    def pictures(fraction, part) -> list[np.ndarray]:
        kept, result = keep_kspace(values, fraction, part)
        # The edge alone is faint: it gets a grey scale of its own, the centre keeps the image's.
        top = values.max() if part == "centre" else result.max()
        return [_grey(np.log1p(np.abs(kept)), 0, full), _grey(result, 0, top)]

    def draw(fraction, part) -> str:
        return _img(np.hstack(pictures(fraction, part)), described(fraction, part), width=640)

    full = np.log1p(np.abs(keep_kspace(values, 1, "centre")[0])).max()
    said = alt or described(fraction, part)
    _static(pictures(fraction, part), WORDS["kspace_titles"], said, None, (0, 255), size=3)
    parts = {WORDS[name]: name for name in ("centre", "edge")}
    controls = {
        "fraction": _slider(WORDS["fraction"], fraction, 0, 1, step=0.01, form=".0%"),
        "part": _menu(WORDS["part"], parts, part),
    }
    return Panel(WORDS["kspace"], controls, draw)


def slices(
    volume,
    *,
    axis: int = 0,
    index: int | None = None,
    spacing: tuple[float, float, float] | None = None,
    limits: tuple[float, float] | None = None,
    alt: str | None = None,
) -> Panel:
    """Scroll through the slices of a volume, all on one grey scale.

    Args:
        volume: (D, H, W) or (1, D, H, W).
        axis: which of D, H, W to scroll along.
        index: where the slider starts; the middle if not given.
        spacing: (slice, row, column) millimetres between voxels.
        limits: values shown black and white; the volume's smallest and largest if not given.
        alt: what the static figure shows; made from the slice's number if not given.

    Raises:
        DataError: not one volume, or a slice that it does not have.
    """
    values = _array(volume)
    values = values[0] if values.ndim == 4 and len(values) == 1 else values
    if values.ndim != 3 or not -3 <= axis < 3:
        raise DataError(
            f"slices needs a volume (D, H, W) and an axis of it, got {values.shape} and {axis}"
        )
    axis %= 3
    count = values.shape[axis]
    index = count // 2 if index is None else index
    low, high = limits or (float(values.min()), float(values.max()))
    across = None if spacing is None else tuple(s for k, s in enumerate(spacing) if k != axis)

    def shown(index) -> np.ndarray:
        return _grey(slice_image(values, index, axis), low, high)

    def said(index, form: str) -> str:
        return WORDS[form].format(index=index, last=count - 1)

    def draw(index) -> str:
        return _img(shown(index), said(index, "slice_alt"), across)

    title = said(index, "slice_title")
    _static([shown(index)], [title], alt or said(index, "slice_alt"), across, (0, 255), size=3.6)
    controls = {"index": _slider(WORDS["slice"], index, 0, count - 1, whole=True)}
    return Panel(WORDS["slices"], controls, draw)


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


def window_image(image, level: float, width: float) -> np.ndarray:
    """The image through a window: uint8 (H, W), 0 black to 255 white.

    Args:
        image: (H, W), not uint8.
        level, width: as for `medlab.preprocess.window`.
    """
    return _grey(preprocess.window(_array(image), level=level, width=width), 0, 1)


def keep_kspace(
    image, fraction: float, part: Literal["centre", "edge"] = "centre"
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the central rectangle of k-space, or all but it, and go back to the image.

    Args:
        image: (H, W), ≥ 0.
        fraction: of each side of k-space that the rectangle spans, 0 (the mean alone) to 1 (all).
        part: "centre" or "edge".

    Returns:
        k-space complex (H, W), zero where dropped, with the mean in the middle; and the magnitude
        of the image that it gives, float64 (H, W).

    Raises:
        DataError: negative or missing values, a fraction outside 0…1, or an unknown part.
    """
    values = _picture(image).astype(float)
    if not values.min() >= 0:
        raise DataError(
            f"k-space is shown for magnitude images, which are ≥ 0; this one goes down to "
            f"{values.min():.4g}: pass an MR image, or subtract the minimum"
        )
    if not 0 <= fraction <= 1 or part not in ("centre", "edge"):
        raise DataError(
            f"fraction must be 0 to 1 and part 'centre' or 'edge', got {fraction} and {part!r}"
        )
    inside = [np.abs(np.fft.fftshift(np.fft.fftfreq(n))) <= fraction / 2 for n in values.shape]
    kept = inside[0][:, None] & inside[1]
    spectrum = np.fft.fftshift(np.fft.fft2(values)) * (kept if part == "centre" else ~kept)
    return spectrum, np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))


def slice_image(volume, index: int, axis: int = 0) -> np.ndarray:
    """One slice of a volume (D, H, W), across an axis.

    Raises:
        DataError: a slice that the volume does not have.
    """
    values = _array(volume)
    if not 0 <= index < values.shape[axis]:
        raise DataError(f"slices run from 0 to {values.shape[axis] - 1} here, got {index}")
    return np.take(values, index, axis)


def _array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def _picture(image) -> np.ndarray:
    values = _array(image)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2:
        raise DataError(f"expected one grey image (H, W) or (1, H, W), got {values.shape}")
    return values


def _grey(values: np.ndarray, black: float, white: float) -> np.ndarray:
    span = white - black
    share = (values - black) / span if span > 0 else np.zeros(values.shape)
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)


def _static(pictures, titles, alt: str, spacing, limits, *, size: float) -> None:
    fig = plotting.images(pictures, titles=titles, spacing=spacing, limits=limits, size=size)
    plotting.show(fig, alt=alt)


def _img(pixels: np.ndarray, alt: str, spacing=None, width: int = 384) -> str:
    """An img element with alternative text: ipywidgets' own Image has none."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    data = base64.b64encode(file.getvalue()).decode()
    rows, columns = pixels.shape
    ratio = rows / columns * (1 if spacing is None else spacing[0] / spacing[1])
    style = f"width: {width}px; height: {round(width * ratio)}px; image-rendering: pixelated"
    return f'<img alt="{html.escape(alt)}" style="{style}" src="data:image/png;base64,{data}">'


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


def _slider(label, value, low, high, *, step=1.0, whole=False, form=".2f"):
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    options = {} if whole else {"step": step, "readout_format": form}
    return kind(
        **{"value": value, "min": low, "max": high, "description": label, **options},
        style={"description_width": "90px"},
        layout={"width": "480px"},
    )


def _menu(label: str, options: Mapping, value) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(
        options=list(options.items()),
        value=value,
        description=label,
        style={"description_width": "90px"},
    )


def _preset(presets, level, width) -> str:
    return next((name for name, known in presets.items() if tuple(known) == (level, width)), "")


def _tie_presets(controls, presets) -> None:
    """A preset moves both sliders, and moving a slider away from it shows that it is left."""
    level, width, preset = (controls[name] for name in ("level", "width", "preset"))
    moving = []

    def choose(change) -> None:
        if change["new"] and not moving:
            moving.append(True)
            level.value, width.value = presets[change["new"]]
            moving.clear()

    def leave(_change) -> None:
        if not moving:
            moving.append(True)
            preset.value = _preset(presets, level.value, width.value)
            moving.clear()

    preset.observe(choose, "value")
    level.observe(leave, "value")
    width.observe(leave, "value")
