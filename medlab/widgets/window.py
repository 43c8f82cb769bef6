"""The window level and width of an image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medlab import preprocess
from medlab.widgets.panel import Panel, array, grey, img, menu, picture, slider, static

__all__ = ["PRESETS", "window_image", "window_level"]

# Level and width in HU, as radiology departments commonly set them.
PRESETS = {
    "lung": (-600, 1500),
    "soft tissue": (40, 400),
    "bone": (400, 1800),
    "brain": (40, 80),
}


# All that a reader of the page sees, for translators.
WORDS = {
    "window": "window level and width",
    "level": "level",
    "width": "width",
    "preset": "preset",
    "own": "your own",
    "window_alt": "The image at level {level} {units}, width {width} {units}: black at {black:g} "
    "and below, white at {white:g} and above.",
    "window_title": "level {level}, width {width} {units}",
}


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
    values = picture(image)

    def described(level, width) -> str:
        edges = {"black": level - width / 2, "white": level + width / 2 - 1}
        return WORDS["window_alt"].format(level=level, width=width, units=units, **edges)

    def draw(level, width, preset="") -> str:
        return img(window_image(values, level, width), described(level, width), spacing)

    title = WORDS["window_title"].format(level=level, width=width, units=units)
    static(
        [window_image(values, level, width)],
        *([title], alt or described(level, width), spacing, (0, 255)),
        size=3.6,
    )
    known = [(level, width), *presets.values()]
    low, high = int(np.floor(values.min())), int(np.ceil(values.max()))
    levels = [low, high, *(c for c, _ in known)]
    widths = [high - low, *(w for _, w in known)]
    controls = {
        "level": slider(WORDS["level"], level, min(levels), max(levels), whole=True),
        "width": slider(WORDS["width"], width, 1, max(widths), whole=True),
    }
    if presets:
        choices = {WORDS["own"]: "", **{name: name for name in presets}}
        controls["preset"] = menu(WORDS["preset"], choices, _preset(presets, level, width))
    panel = Panel(WORDS["window"], controls, draw)
    if presets:
        _tie_presets(controls, presets)
    return panel


def window_image(image, level: float, width: float) -> np.ndarray:
    """The image through a window: uint8 (H, W), 0 black to 255 white.

    Args:
        image: (H, W), not uint8.
        level, width: as for `medlab.preprocess.window`.
    """
    return grey(preprocess.window(array(image), level=level, width=width), 0, 1)


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
