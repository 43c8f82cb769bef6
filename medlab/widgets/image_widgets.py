"""Pictures that follow a slider: the window, a part of k-space, a shift and pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medlab import plotting, preprocess
from medlab.errors import DataError
from medlab.simulate import mri
from medlab.widgets._panel import WORDS, Panel, Shown, menu, picture, slider

Part = Literal["centre", "edge"]

# Level and width in HU, as radiology departments commonly set them.
WINDOWS = {
    "lung": (-600, 1500),
    "soft tissue": (40, 400),
    "bone": (400, 1800),
    "brain": (40, 80),
}


def window_level(
    image: ArrayLike,
    *,
    level: int = 40,
    width: int = 400,
    spacing: tuple[float, float] | None = None,
) -> Panel:
    """Slide the window over an image's values, or choose one of the windows usual in CT.

    Args:
        image: (H, W) or (1, H, W) in Hounsfield units; not uint8.
        level: where the first slider starts.
        width: where the second slider starts, ≥ 1.
        spacing: (row, column) millimetres between pixels.

    Raises:
        DataError: not one image, uint8, or a level or width that is no whole number.
    """
    values = picture(image)
    levels, widths = zip(*WINDOWS.values(), (level, width), strict=True)
    low, high = int(np.floor(values.min())), int(np.ceil(values.max()))
    controls = {
        "level": slider("level", level, min(low, *levels), max(high, *levels)),
        "width": slider("width", width, 1, max(high - low, *widths)),
    }

    def show(level: int, width: int, preset: str) -> Shown:
        facts = {"level": level, "width": width}
        edges = {"black": level - width / 2, "white": level + width / 2 - 1}
        title, shown = WORDS["window_title"].format(**facts), preprocess.window(values, **facts)
        fig = plotting.images([shown], titles=[title], spacing=spacing, limits=(0, 1), size=3.6)
        return fig, WORDS["window_alt"].format(**facts, **edges), []

    return Panel(controls, show, WINDOWS)


def kspace(image: ArrayLike, *, fraction: float = 0.2, part: Part = "centre") -> Panel:
    """Keep a part of k-space, and see the image that it gives.

    Args:
        image: (H, W) or (1, H, W), ≥ 0.
        fraction: where the slider starts: of each side of k-space that the part spans, 0 to 1.
        part: where the menu starts: "centre" or "edge", which is all but the centre.

    Raises:
        DataError: not one image, negative values, a fraction outside 0…1, or an unknown part.
    """
    values = picture(image).astype(float)
    full = np.log1p(np.abs(mri.keep_kspace(values, 1.0)[0])).max()
    controls = {
        "fraction": slider("fraction", fraction, 0, 1, step=0.01, form=".0%"),
        "part": menu("part", {name: WORDS[name] for name in ("centre", "edge")}, part),
    }
    titles = [WORDS["kspace"], WORDS["kspace_image"]]

    def show(fraction: float, part: Part) -> Shown:
        kept, result = mri.keep_kspace(values, fraction, part)
        # The edge alone is faint: it gets a grey scale of its own, the centre keeps the image's.
        limits = [(0, full), (0, (values if part == "centre" else result).max())]
        pictures = [np.log1p(np.abs(kept)), result]
        fig = plotting.images(pictures, titles=titles, limits=limits, size=3)
        return fig, WORDS["kspace_alt"].format(part=WORDS[part], share=f"{fraction:.0%}"), []

    return Panel(controls, show)


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
    sides = tuple(values.shape)
    if factor < 1 or any(side % factor for side in sides):
        raise DataError(f"sides must be divisible by the factor {factor}; got {sides}: crop first")
    small = (1, 1, *(side // factor for side in sides))
    controls = {
        "shift": slider("shift", 0, 0, 2 * factor),
        "kind": menu("kind", {name: name for name in ways}, next(iter(ways), "")),
    }
    limits = (float(values.min()), float(values.max()))

    def show(shift: int, kind: str) -> Shown:
        moved, facts = values.roll(shift, dims=1), {"kind": kind, "factor": factor}
        result = ways[kind](moved[None, None], factor)
        if result.shape != small:
            raise DataError(f"{kind} must return {small}; it returned {tuple(result.shape)}")
        titles = [WORDS["image"], WORDS["pooled"].format(**facts)]
        fig = plotting.images([moved, result[0]], titles=titles, limits=limits, size=3.6)
        return fig, WORDS["pooling_alt"].format(shift=shift, **facts), []

    return Panel(controls, show)
