"""Sliders that explore one idea each over one figure: live, or a picture where no kernel runs.

A widget is a panel: make the call the last line of its cell. Controls are plain sliders and menus
with labels, reachable by keyboard; the figure carries an alternative text.
"""

from medlab.widgets.curve_widgets import descent, threshold
from medlab.widgets.image_widgets import (
    draw_kernel,
    kspace,
    moving_window,
    pooling,
    window_level,
)

__all__ = [
    "descent",
    "draw_kernel",
    "kspace",
    "moving_window",
    "pooling",
    "threshold",
    "window_level",
]
