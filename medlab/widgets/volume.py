"""The slices of a volume."""

from __future__ import annotations

import numpy as np

from medlab.errors import DataError
from medlab.widgets.panel import Panel, array, grey, img, slider, static

__all__ = ["slice_image", "slices"]

# All that a reader of the page sees, for translators.
WORDS = {
    "slices": "slices of a volume",
    "slice": "slice",
    "slice_alt": "Slice {index} of 0 to {last}, on one grey scale with all the others.",
    "slice_title": "slice {index} of 0 to {last}",
}


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
    values = array(volume)
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
        return grey(slice_image(values, index, axis), low, high)

    def said(index, form: str) -> str:
        return WORDS[form].format(index=index, last=count - 1)

    def draw(index) -> str:
        return img(shown(index), said(index, "slice_alt"), across)

    title = said(index, "slice_title")
    static([shown(index)], [title], alt or said(index, "slice_alt"), across, (0, 255), size=3.6)
    controls = {"index": slider(WORDS["slice"], index, 0, count - 1, whole=True)}
    return Panel(WORDS["slices"], controls, draw)


def slice_image(volume, index: int, axis: int = 0) -> np.ndarray:
    """One slice of a volume (D, H, W), across an axis.

    Raises:
        DataError: a slice that the volume does not have.
    """
    values = array(volume)
    if not 0 <= index < values.shape[axis]:
        raise DataError(f"slices run from 0 to {values.shape[axis] - 1} here, got {index}")
    return np.take(values, index, axis)
