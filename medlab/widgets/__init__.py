"""Sliders that explore one idea each over one figure: live, or a picture where no kernel runs.

A widget is a panel: make the call the last line of its cell. Controls are plain sliders and menus
with labels, reachable by keyboard; the figure carries an alternative text.
"""

from medlab.widgets.explorers import descent, moving_window, threshold, window_level

__all__ = ["descent", "moving_window", "threshold", "window_level"]
