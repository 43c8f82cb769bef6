"""A picture moved pixel by pixel, and what each way of shrinking makes of it."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from torch.nn import functional

from medlab.errors import DataError
from medlab.widgets.panel import Panel, grey, img, menu, picture, slider, static

__all__ = ["pooled", "pooling"]

# All that a reader of the page sees, for translators.
WORDS = {
    "pooling": "shift and pooling",
    "shift": "shift",
    "kind": "pooling",
    "stride": "stride",
    "max": "max",
    "average": "average",
    "blur": "blur",
    "pooling_alt": "Left, the image moved {shift} pixels to the right; right, the same by {kind} "
    "at 1/{factor} of its side.",
    "pooling_titles": ("image", "by {kind}, 1/{factor}"),
}
KINDS = ("stride", "max", "average", "blur")


def pooling(
    image, *, kind: str = "stride", factor: int = 8, shift: int = 0, alt: str | None = None
) -> Panel:
    """Move an image sideways and see what is left of it after shrinking.

    Args:
        image: (H, W) or (1, H, W), sides divisible by `factor`; both pictures keep its grey scale.
        kind: where the menu starts, see `pooled`.
        factor: by which each side shrinks.
        shift: where the slider starts, pixels; it runs to twice `factor`.
        alt: what the static figure shows; made from the settings if not given.

    Raises:
        DataError: not one image, sides not divisible by `factor`, or an unknown kind.
    """
    values = picture(image).astype(np.float32)
    low, high = float(values.min()), float(values.max())

    def described(shift, kind) -> str:
        return WORDS["pooling_alt"].format(shift=shift, kind=WORDS[kind], factor=factor)

    def pictures(shift, kind) -> list[np.ndarray]:
        return [
            grey(part, low, high) for part in pooled(values, kind=kind, factor=factor, shift=shift)
        ]

    def draw(shift, kind) -> str:
        moved, small = pictures(shift, kind)
        both = np.hstack([moved, small.repeat(factor, 0).repeat(factor, 1)])
        # Shown at a whole multiple of its size: any other would alias once more on the screen.
        width = both.shape[1] * max(1, 640 // both.shape[1])
        return img(both, described(shift, kind), width=width)

    titles = [t.format(kind=WORDS[kind], factor=factor) for t in WORDS["pooling_titles"]]
    first = pictures(shift, kind)
    static(first, titles, alt or described(shift, kind), None, (0, 255), size=3.6)
    controls = {
        "shift": slider(WORDS["shift"], shift, 0, max(2 * factor, shift), whole=True),
        "kind": menu(WORDS["kind"], {WORDS[name]: name for name in KINDS}, kind),
    }
    return Panel(WORDS["pooling"], controls, draw)


def pooled(
    image, *, kind: str = "max", factor: int = 2, shift: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """An image moved to the right, and the same shrunk by `factor`.

    Args:
        image: (H, W) or (1, H, W), sides divisible by `factor`.
        kind: "stride" keeps the first pixel of every window, "max" and "average" that of its
            `factor` × `factor` values, "blur" a triangular average of width 2·factor − 1 around
            its first pixel.
        factor: side and distance of the windows, ≥ 1.
        shift: pixels to the right; what leaves on one side comes back on the other, and `blur`
            wraps around too, so that a shift by `factor` moves the result by one pixel exactly.

    Returns:
        float32 (H, W) and (H / factor, W / factor), in the image's unit.

    Raises:
        DataError: not one image, an empty one, sides not divisible by `factor`, a factor or shift
            that is no whole number, or an unknown kind.

    Source: Zhang, Making Convolutional Networks Shift-Invariant Again (2019), section 3.
    """
    values = picture(image).astype(np.float32)
    if not isinstance(factor, Integral) or factor < 1 or not isinstance(shift, Integral):
        raise DataError(
            f"factor must be a whole number, 1 or more, and shift one too; got {factor} and {shift}"
        )
    if not values.size or any(side % factor for side in values.shape):
        raise DataError(
            f"both sides must be divisible by the factor {factor}; the image is {values.shape}: "
            "crop it first"
        )
    if kind not in KINDS:
        raise DataError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    moved = np.roll(values, shift, axis=1)
    x = torch.from_numpy(moved)[None, None]
    if kind == "stride":
        small = x[..., ::factor, ::factor]
    elif kind == "max":
        small = functional.max_pool2d(x, factor)
    elif kind == "average":
        small = functional.avg_pool2d(x, factor)
    else:
        small = _blur(x, factor)
    return moved, small[0, 0].numpy().copy()


def _blur(x: torch.Tensor, factor: int) -> torch.Tensor:
    weights = (factor - torch.arange(1 - factor, factor).abs()) / factor**2
    for dim in (2, 3):  # a separable kernel: one direction after the other
        shape = [1, 1, 1, 1]
        shape[dim] = len(weights)
        edges = [0, 0, 0, 0]
        edges[2 * (3 - dim) : 2 * (3 - dim) + 2] = [factor - 1] * 2
        step = (factor, 1) if dim == 2 else (1, factor)
        x = functional.conv2d(
            functional.pad(x, edges, mode="circular"), weights.view(shape), stride=step
        )
    return x
