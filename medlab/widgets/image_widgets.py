"""Pictures that follow a slider: the window, the slices, a part of k-space, a shift and pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from medlab import plotting, preprocess
from medlab.errors import DataError
from medlab.simulate import mri
from medlab.widgets._panel import (
    Caption,
    Panel,
    array,
    follow_presets,
    menu,
    picture,
    preset_of,
    slider,
    whole_slider,
)

Part = Literal["centre", "edge"]

# Level and width in HU, as radiology departments commonly set them.
WINDOWS = {
    "lung": (-600, 1500),
    "soft tissue": (40, 400),
    "bone": (400, 1800),
    "brain": (40, 80),
}

# All that a reader of the page sees, for translators.
WORDS = {
    "level": "level",
    "width": "width",
    "preset": "preset",
    "own": "your own",
    "window_alt": "The image at level {level} {units}, width {width} {units}: black at {black:g} "
    "and below, white at {white:g} and above.",
    "window_title": "level {level}, width {width} {units}",
    "slice": "slice",
    "slice_alt": "Slice {index} of 0 to {last}, on one grey scale with all the others.",
    "slice_title": "slice {index} of 0 to {last}",
    "fraction": "kept",
    "part": "part",
    "centre": "centre",
    "edge": "edge",
    "kspace_alt": "Left, the {part} of k-space that is kept, {share} of each side; right, the "
    "image that it gives.",
    "kspace": "k-space that is kept",
    "kspace_image": "image from it",
    "shift": "shift",
    "kind": "pooling",
    "pooling_alt": "Left, the image moved {shift} pixels to the right; right, the same by {kind} "
    "at 1/{factor} of its side.",
    "image": "image",
    "pooled": "by {kind}, 1/{factor}",
}


def window_level(
    image: ArrayLike,
    *,
    level: int = 40,
    width: int = 400,
    units: str = "HU",
    spacing: tuple[float, float] | None = None,
) -> Panel:
    """Slide the window over an image's values.

    Args:
        image: (H, W) or (1, H, W) in Hounsfield units or another unit; not uint8.
        level: where the first slider starts.
        width: where the second slider starts, ≥ 1.
        units: of the values, for labels; in HU there is a menu of usual windows.
        spacing: (row, column) millimetres between pixels.

    Raises:
        DataError: not one image, uint8, or a level or width that is no whole number.
    """
    values = picture(image)
    presets = WINDOWS if units == "HU" else {}
    low, high = int(np.floor(values.min())), int(np.ceil(values.max()))
    levels = [low, high, level, *(known for known, _ in presets.values())]
    widths = [high - low, width, *(known for _, known in presets.values())]
    controls = {
        "level": whole_slider(WORDS["level"], level, min(levels), max(levels)),
        "width": whole_slider(WORDS["width"], width, 1, max(widths)),
    }
    settle = None
    if presets:
        choices = {WORDS["own"]: "", **{name: name for name in presets}}
        controls["preset"] = menu(WORDS["preset"], choices, preset_of((level, width), presets))
        settle = follow_presets(controls, presets)
    first = preprocess.window(values, level=level, width=width)
    fig = plotting.images([first], titles=["…"], spacing=spacing, limits=(0, 1), size=3.6)

    def update(level: int, width: int, preset: str = "") -> Caption:
        shown = preprocess.window(values, level=level, width=width)
        _redraw(fig, 0, shown, WORDS["window_title"].format(level=level, width=width, units=units))
        edges = {"black": level - width / 2, "white": level + width / 2 - 1}
        return WORDS["window_alt"].format(level=level, width=width, units=units, **edges), []

    return Panel(controls, fig, update, settle)


def slices(
    volume: ArrayLike,
    *,
    axis: int = 0,
    index: int | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> Panel:
    """Scroll through the slices of a volume, all on one grey scale.

    Args:
        volume: (D, H, W) or (1, D, H, W).
        axis: which of D, H, W to scroll along.
        index: where the slider starts; the middle if not given.
        spacing: (slice, row, column) millimetres between voxels.

    Raises:
        DataError: not one volume, or an axis or a slice that it does not have.
    """
    values = array(volume, 3, "a volume (D, H, W) or (1, D, H, W)")
    if axis not in range(-3, 3):
        raise DataError(f"axis must be 0, 1 or 2, for slices along D, H or W; got {axis!r}")
    values = np.moveaxis(values, axis, 0)
    last = len(values) - 1
    index = len(values) // 2 if index is None else index
    controls = {"index": whole_slider(WORDS["slice"], index, 0, last)}
    across = None if spacing is None else tuple(np.delete(spacing, axis).tolist())
    limits = (float(values.min()), float(values.max()))
    fig = plotting.images(values[:1], titles=["…"], spacing=across, limits=limits, size=3.6)

    def update(index: int) -> Caption:
        _redraw(fig, 0, values[index], WORDS["slice_title"].format(index=index, last=last))
        return WORDS["slice_alt"].format(index=index, last=last), []

    return Panel(controls, fig, update)


def kspace(image: ArrayLike, *, fraction: float = 0.2, part: Part = "centre") -> Panel:
    """Keep only the centre of k-space, or only its edge, and see the image that is left.

    Args:
        image: (H, W) or (1, H, W), ≥ 0, such as an MR magnitude image.
        fraction: where the slider starts, see `medlab.simulate.mri.keep_kspace`.
        part: "centre" or "edge".

    Raises:
        DataError: not one image, negative values, a fraction outside 0…1, or an unknown part.
    """
    values = picture(image).astype(float)
    full = np.log1p(np.abs(mri.keep_kspace(values, 1.0)[0])).max()
    parts = {WORDS[name]: name for name in ("centre", "edge")}
    controls = {
        "fraction": slider(WORDS["fraction"], fraction, 0, 1, step=0.01, form=".0%"),
        "part": menu(WORDS["part"], parts, part),
    }
    titles = [WORDS["kspace"], WORDS["kspace_image"]]
    fig = plotting.images([values, values], titles=titles, limits="own", size=3)

    def update(fraction: float, part: Part) -> Caption:
        kept, result = mri.keep_kspace(values, fraction, part)
        _redraw(fig, 0, np.log1p(np.abs(kept)), limits=(0, full))
        # The edge alone is faint: it gets a grey scale of its own, the centre keeps the image's.
        _redraw(fig, 1, result, limits=(0, (values if part == "centre" else result).max()))
        return WORDS["kspace_alt"].format(part=WORDS[part], share=f"{fraction:.0%}"), []

    return Panel(controls, fig, update)


def pooling(
    image: ArrayLike, ways: Mapping[str, Callable[[Tensor, int], Tensor]], *, factor: int = 8
) -> Panel:
    """Move an image sideways and see what is left of it after shrinking.

    Args:
        image: (H, W) or (1, H, W), sides divisible by `factor`; both pictures keep its grey scale.
        ways: name -> function of a float32 tensor (1, 1, H, W) and `factor` that returns
            (1, 1, H / factor, W / factor), such as `torch.nn.functional.max_pool2d`.
        factor: by which each side shrinks; the shift runs to twice as many pixels, and what leaves
            on one side comes back on the other.

    Raises:
        DataError: not one image, sides not divisible by `factor`, or a way of another size.
    """
    values = torch.from_numpy(picture(image).astype(np.float32))
    small = tuple(side // factor for side in values.shape) if factor >= 1 else ()
    if not small or any(side % factor for side in values.shape):
        raise DataError(
            f"both sides must be divisible by the factor {factor}; the image is "
            f"{tuple(values.shape)}: crop it first"
        )
    controls = {
        "shift": whole_slider(WORDS["shift"], 0, 0, 2 * factor),
        "kind": menu(WORDS["kind"], {name: name for name in ways}, next(iter(ways), "")),
    }
    limits = (float(values.min()), float(values.max()))
    first = [values, torch.zeros(small)]
    titles = [WORDS["image"], WORDS["pooled"]]
    fig = plotting.images(first, titles=titles, limits=limits, size=3.6)

    def update(shift: int, kind: str) -> Caption:
        moved = values.roll(shift, dims=1)
        result = ways[kind](moved[None, None], factor)
        if tuple(result.shape) != (1, 1, *small):
            raise DataError(
                f"{kind} must return {(1, 1, *small)} at a factor of {factor}; it returned "
                f"{tuple(result.shape)}"
            )
        _redraw(fig, 0, moved)
        _redraw(fig, 1, result[0, 0].detach(), WORDS["pooled"].format(kind=kind, factor=factor))
        return WORDS["pooling_alt"].format(shift=shift, kind=kind, factor=factor), []

    return Panel(controls, fig, update)


def _redraw(
    fig: Figure,
    index: int,
    values: np.ndarray | Tensor,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Put other values into a picture of the figure, and if given a title, black and white."""
    ax = fig.axes[index]
    ax.images[0].set_data(np.asarray(values))
    if limits is not None:
        ax.images[0].set_clim(limits)
    if title is not None:
        ax.title.set_text(title)
