"""Sliders that explore one idea each, over plain functions that work without them.

Each widget first shows a static figure of its default state, so that the page reads whole where
no kernel runs, and returns a panel: make the call the last line of its cell. Controls are plain
sliders and menus with labels, reachable by keyboard; pictures carry an alternative text.
"""

from medlab.widgets.convolution import (
    KERNELS,
    draw_kernel,
    moving_window,
    output_size,
    response,
    window_positions,
)
from medlab.widgets.descent import descent, descent_path
from medlab.widgets.kspace import keep_kspace, kspace
from medlab.widgets.operating_point import Readout, readout, threshold
from medlab.widgets.panel import Panel
from medlab.widgets.pooling import pooled, pooling
from medlab.widgets.volume import slice_image, slices
from medlab.widgets.window import PRESETS, window_image, window_level

__all__ = [
    "KERNELS",
    "PRESETS",
    "Panel",
    "Readout",
    "descent",
    "descent_path",
    "draw_kernel",
    "keep_kspace",
    "kspace",
    "moving_window",
    "output_size",
    "pooled",
    "pooling",
    "readout",
    "response",
    "slice_image",
    "slices",
    "threshold",
    "window_image",
    "window_level",
    "window_positions",
]
