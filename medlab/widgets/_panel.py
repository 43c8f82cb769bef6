"""What every widget is made of: controls, and a figure that follows them."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import ipywidgets
import numpy as np
import torch
from IPython.display import DisplayHandle, display
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medlab import plotting
from medlab.errors import DataError, MedlabError, read_facts

# All that a reader of the page sees, for translators.
WORDS: dict[str, str] = read_facts("widgets/words")
VIEW = "application/vnd.jupyter.widget-view+json"
WIDE = {"description_width": "90px"}

Shown = tuple[Figure, str, Sequence[str]]  # a figure, what it shows, and the lines below it


class Panel(ipywidgets.VBox):
    """Controls above a figure that follows them.

    The cell's output is one bundle, the controls where a kernel runs and the same figure as a
    picture where none does, and the caption below it.

    Attributes:
        controls: name -> control; setting `controls["level"].value` redraws.
        figure: the figure in the state of the controls.
        alt: what it shows.
        lines: what is said below it, or why these settings cannot be shown.
        view: the HTML below the controls, with figure, `alt` and `lines`.
    """

    figure: Figure | None = None
    _caption: DisplayHandle | None = None  # of the last display
    lines: Sequence[str] = ()

    def __init__(
        self,
        controls: Mapping[str, ipywidgets.Widget],
        show: Callable[..., Shown],
        presets: Mapping[str, Sequence[float]] | None = None,
    ):
        """`show` takes the value of each control by its name and gives what is then shown.

        Presets, name -> value of each control, add a menu that moves the others and follows them.
        """
        self.controls, self._numbers = dict(controls), list(controls.values())
        self._show, self._presets = show, presets or {}
        if presets:
            choices = {"": WORDS["own"], **{name: WORDS[name] for name in presets}}
            self.controls["preset"] = menu("preset", choices, self._preset())
        self._busy, self.view = False, ipywidgets.HTML()
        self._draw()
        super().__init__([*self.controls.values(), self.view])
        for control in self.controls.values():
            control.observe(self._changed, "value")

    @property
    def settings(self) -> dict:
        """Name -> value of every control."""
        return {name: control.value for name, control in self.controls.items()}

    def _preset(self) -> str:
        """Name of the preset that the other controls show; "" if there is none."""
        values = [control.value for control in self._numbers]
        return next((name for name, known in self._presets.items() if known == values), "")

    def _changed(self, change: dict) -> None:
        if self._busy:  # one control moves another: draw once, when all stand still
            return
        self._busy = True
        try:
            if change["owner"] is self.controls.get("preset"):
                known = self._presets.get(change["new"], ())
                for control, value in zip(self._numbers, known, strict=False):
                    control.value = value
            elif self._presets:
                self.controls["preset"].value = self._preset()
            self._draw()
        except MedlabError as error:
            self.lines = [str(error)]
            self._say()
        finally:
            self._busy = False

    def _draw(self) -> None:
        figure, self.alt, self.lines = self._show(**self.settings)
        if self.figure:  # laid out once: no picture jumps, and a redraw takes half the time
            figure.set_layout_engine("none")
            for ax, before in zip(figure.axes, self.figure.axes, strict=True):
                ax.set_position(before.get_position(original=True))
        shown = plotting.Picture(figure, self.alt, fixed=self.figure is not None)
        self.figure, self._picture = figure, shown
        source = f"data:image/png;base64,{base64.b64encode(shown.png).decode()}"
        look = f'width="{shown.width}" style="max-width: 100%"'
        self._say(f'<img alt="{html.escape(self.alt)}" {look} src="{source}">')
        if self._caption:
            self._caption.update(plotting.Caption(self.alt))

    def _say(self, image: str = "") -> None:
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.lines)
        look = 'style="line-height: 1.5"'
        self.view.value = f'{image}<div role="status" aria-live="polite" {look}>{lines}</div>'

    def __repr__(self) -> str:
        return repr(self._picture)

    def _ipython_display_(self, **_: Any) -> None:
        if not plotting.in_notebook():
            print(self)
            return
        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
        self._caption = display(plotting.Caption(self.alt), display_id=True)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        data, metadata = self._picture._repr_mimebundle_()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {VIEW: view, **data}, metadata


def picture(image: ArrayLike) -> np.ndarray:
    """One grey image (H, W), also if it comes as (1, H, W); DataError if it is none."""
    values = image.detach().cpu().numpy() if torch.is_tensor(image) else np.asarray(image)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or not values.size:
        raise DataError(f"expected one grey image (H, W) or (1, H, W), got {values.shape}")
    return values


def slider(
    name: str, value: float, low: float, high: float, *, step: float = 1, form: str = ".2f"
) -> ipywidgets.Widget:
    """A slider over numbers, whole if `step` is; DataError for a first value that it has not."""
    whole = isinstance(step, int)
    if not isinstance(value, Integral if whole else Real) or not low <= value <= high:
        said = WORDS["not_whole" if whole else "outside"]
        raise DataError(said.format(name=WORDS[name], low=low, high=high, value=value))
    make = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    span = {"value": value, "min": low, "max": high, "step": step}
    look = {"description": WORDS[name], "style": WIDE, "layout": {"width": "480px"}}
    return make(**span, **look, readout_format="d" if whole else form)


def menu(name: str, choices: Mapping[str, str], value: str) -> ipywidgets.Dropdown:
    """A menu of choices, each with its text; DataError for a first choice that it has not."""
    if value not in choices:
        known = ", ".join(choices)
        raise DataError(WORDS["unknown"].format(name=WORDS[name], known=known, value=value))
    options = [(text, choice) for choice, text in choices.items()]
    return ipywidgets.Dropdown(options=options, value=value, description=WORDS[name], style=WIDE)
