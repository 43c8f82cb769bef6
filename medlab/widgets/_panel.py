"""What every widget is made of: controls, and a figure that follows them."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import ipywidgets
from IPython.display import DisplayHandle, display
from matplotlib.figure import Figure

from medlab import plotting
from medlab.errors import DataError, MedlabError, read_facts

# All that a reader of the page sees, for translators.
WORDS: dict[str, str] = read_facts("widgets/words")
VIEW = "application/vnd.jupyter.widget-view+json"

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
        stored: data and metadata of the figure, which a notebook keeps.
    """

    figure: Figure | None = None
    _caption: DisplayHandle | None = None  # of the last display
    lines: Sequence[str] = ()

    def __init__(
        self,
        controls: Mapping[str, ipywidgets.Widget],
        show: Callable[..., Shown],
    ):
        """`show` takes the value of each control by its name and gives what is then shown."""
        self.controls, self._show, self.view = dict(controls), show, ipywidgets.HTML()
        self._draw()
        super().__init__([*self.controls.values(), self.view])
        for control in self.controls.values():
            control.observe(self._changed, "value")

    def _changed(self, _: dict) -> None:
        try:
            self._draw()
        except MedlabError as error:
            self.lines = [str(error)]
            self._say()

    def _draw(self) -> None:
        settings = {name: control.value for name, control in self.controls.items()}
        figure, self.alt, self.lines = self._show(**settings)
        if self.figure:  # laid out once: no picture jumps, and a redraw takes half the time
            figure.set_layout_engine("none")
            for ax, before in zip(figure.axes, self.figure.axes, strict=True):
                ax.set_position(before.get_position(original=True))
        data, metadata = plotting.bundle(figure, self.alt, fixed=self.figure is not None)
        self.figure, self.stored = figure, (data, metadata)
        source = f"data:image/png;base64,{base64.b64encode(data['image/png']).decode()}"
        look = f'width="{metadata["image/png"]["width"]}" style="max-width: 100%"'
        self._say(f'<img alt="{html.escape(self.alt)}" {look} src="{source}">')
        if self._caption:
            self._caption.update(plotting.caption(self.alt), raw=True)

    def _say(self, image: str = "") -> None:
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.lines)
        look = 'style="line-height: 1.5"'
        self.view.value = f'{image}<div role="status" aria-live="polite" {look}>{lines}</div>'

    def __repr__(self) -> str:
        return f"<Figure: {self.alt}>"

    def _ipython_display_(self, **_: Any) -> None:
        if not plotting.in_notebook():
            print(self)
            return
        data, metadata = self.stored
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        display({VIEW: view, **data}, metadata=metadata, raw=True)
        self._caption = display(plotting.caption(self.alt), raw=True, display_id=True)


def slider(
    name: str, value: float, low: float, high: float, *, step: float = 1, form: str = ".2f"
) -> ipywidgets.Widget:
    """A slider over numbers, whole if `step` is; DataError for a first value that it has not."""
    if not isinstance(value, Real) or not low <= value <= high:
        said = WORDS["outside"]
        raise DataError(said.format(name=WORDS[name], low=low, high=high, value=value))
    whole = isinstance(step, int)
    make = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    span = {"value": value, "min": low, "max": high, "step": step}
    look = {"style": {"description_width": "90px"}, "layout": {"width": "480px"}}
    return make(**span, **look, description=WORDS[name], readout_format="d" if whole else form)
