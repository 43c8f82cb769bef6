"""What every widget is made of: controls, and a figure that follows them."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medlab import plotting
from medlab.errors import DataError, MedlabError

# All that a reader of the page sees, for translators.
WORDS = {
    "outside": "{name} must be a number from {low:g} to {high:g}; got {value!r}",
    "not_whole": "{name} must be a whole number from {low:g} to {high:g}; got {value!r}",
    "unknown": "{name} must be one of {known}; got {value!r}",
}
VIEW = "application/vnd.jupyter.widget-view+json"

Caption = tuple[str, Sequence[str]]


class Panel(ipywidgets.VBox):
    """Controls above a figure that follows them.

    The cell's output is one bundle: the controls where a kernel runs, the same figure as a picture
    where none does.

    Attributes:
        controls: name -> control; setting `controls["level"].value` redraws.
        figure: the figure in the state of the controls.
        alt: what it shows.
        lines: what is said below it, or why these settings cannot be shown.
        view: the HTML below the controls, with figure, `alt` and `lines`.
    """

    def __init__(
        self,
        controls: Mapping[str, ipywidgets.Widget],
        figure: Figure,
        update: Callable[..., Caption],
        settle: Callable[[dict], None] | None = None,
    ):
        """Build the panel and draw it once.

        Args:
            controls: name -> control.
            figure: drawn into by `update`. It is laid out once, as it comes: no picture jumps,
                and a redraw takes half the time.
            update: takes the value of each control by its name, brings the figure up to date and
                returns the alternative text and the lines below the figure.
            settle: called with each change before `update`, it may move other controls.

        Raises:
            MedlabError: the first settings cannot be shown.
        """
        self.controls, self.figure = dict(controls), figure
        self._update, self._settle, self._busy = update, settle, False
        plotting.png(figure)
        figure.set_layout_engine("none")
        self.lines: Sequence[str] = []
        self._draw()
        self.view = ipywidgets.HTML(self._html())
        super().__init__([*self.controls.values(), self.view])
        for control in self.controls.values():
            control.observe(self._changed, "value")

    @property
    def settings(self) -> dict:
        """Name -> value of every control."""
        return {name: control.value for name, control in self.controls.items()}

    def _changed(self, change: dict) -> None:
        if self._busy:  # `settle` moves a control: draw once, when all stand still
            return
        self._busy = True
        try:
            if self._settle is not None:
                self._settle(change)
            self._draw()
            self.view.value = self._html()
        except MedlabError as error:
            self.lines = [str(error)]
            self.view.value = self._said()
        finally:
            self._busy = False

    def _draw(self) -> None:
        self.alt, self.lines = self._update(**self.settings)
        self._png = plotting.png(self.figure)

    def _html(self) -> str:
        data = base64.b64encode(self._png).decode()
        source = f'src="data:image/png;base64,{data}"'
        image = f'<img alt="{html.escape(self.alt)}" style="max-width: 100%" {source}>'
        return image + self._said()

    def _said(self) -> str:
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.lines)
        return f'<div role="status" aria-live="polite">{lines}</div>'

    def __repr__(self) -> str:
        return repr(plotting.Picture(self._png, self.alt))

    # ipywidgets 7 would print the controls alone.
    _ipython_display_ = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        data, metadata = plotting.Picture(self._png, self.alt)._repr_mimebundle_()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {VIEW: view, **data}, metadata


def array(values: ArrayLike, ndim: int, expected: str) -> np.ndarray:
    """The values as an array of `ndim` axes, without a leading axis of length 1.

    Raises:
        DataError: another number of axes, or none of them filled; it names what was `expected`.
    """
    found = values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)
    found = found[0] if found.ndim == ndim + 1 and len(found) == 1 else found
    if found.ndim != ndim or not found.size:
        raise DataError(f"expected {expected}, got {found.shape}")
    return found


def picture(image: ArrayLike) -> np.ndarray:
    """One grey image (H, W)."""
    return array(image, 2, "one grey image (H, W) or (1, H, W)")


def slider(
    name: str, value: float, low: float, high: float, *, step: float = 1.0, form: str = ".2f"
) -> ipywidgets.FloatSlider:
    """A slider over numbers.

    Raises:
        DataError: a first value outside its range.
    """
    if not isinstance(value, Real) or not low <= value <= high:
        raise DataError(WORDS["outside"].format(name=name, low=low, high=high, value=value))
    options = {"value": value, "min": low, "max": high, "step": step, "readout_format": form}
    return ipywidgets.FloatSlider(**options, **_look(name))


def whole_slider(name: str, value: int, low: int, high: int) -> ipywidgets.IntSlider:
    """A slider over whole numbers.

    Raises:
        DataError: a first value that is none, or outside its range.
    """
    if not isinstance(value, Integral) or not low <= value <= high:
        raise DataError(WORDS["not_whole"].format(name=name, low=low, high=high, value=value))
    return ipywidgets.IntSlider(value=value, min=low, max=high, **_look(name))


def menu(name: str, choices: Mapping[str, str], value: str) -> ipywidgets.Dropdown:
    """A menu of texts, each with the value that it stands for.

    Raises:
        DataError: a first value that it does not have.
    """
    if value not in choices.values():
        known = ", ".join(filter(None, choices.values()))
        raise DataError(WORDS["unknown"].format(name=name, known=known, value=value))
    style = {"description_width": "90px"}
    return ipywidgets.Dropdown(
        options=list(choices.items()), value=value, description=name, style=style
    )


def preset_of(numbers: Sequence[float], presets: Mapping[str, Sequence[float]]) -> str:
    """Name of the preset with these numbers; "" if there is none."""
    return next((name for name, known in presets.items() if tuple(known) == tuple(numbers)), "")


def follow_presets(
    controls: Mapping[str, ipywidgets.Widget], presets: Mapping[str, Sequence[float]]
) -> Callable[[dict], None]:
    """How the controls settle: a preset fills in numbers, and a number shows which preset it is.

    Args:
        controls: name -> control; "preset" is the menu, all others are numbers.
        presets: name -> the numbers, in the order of the controls.
    """
    preset = controls["preset"]
    numbers = [control for control in controls.values() if control is not preset]

    def settle(change: dict) -> None:
        if change["owner"] is not preset:
            preset.value = preset_of([control.value for control in numbers], presets)
        elif change["new"]:
            for control, value in zip(numbers, presets[change["new"]], strict=True):
                control.value = value

    return settle


def _look(name: str) -> dict:
    style = {"description_width": "90px"}
    return {"description": name, "style": style, "layout": {"width": "480px"}}
