"""What every widget is made of: controls over a picture, and pieces of HTML that need no figure."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping

import ipywidgets
import numpy as np
import torch

from medlab import plotting
from medlab.errors import DataError

__all__ = ["Panel", "array", "grey", "img", "menu", "picture", "slider", "static"]

# All that a reader of the page sees, for translators.
WORDS = {
    "panel": "<Widget: {}. Run the cell in Jupyter or Colab to move it.>",
}


class Panel(ipywidgets.VBox):
    """Controls above a picture that follows them.

    Attributes:
        controls: name -> control; setting `controls["level"].value` redraws.
        view: the HTML below them.
    """

    def __init__(
        self, title: str, controls: dict[str, ipywidgets.Widget], draw: Callable[..., str]
    ):
        self.title, self.controls, self._draw = title, controls, draw
        self.view = ipywidgets.HTML(draw(**self.settings))
        super().__init__([*controls.values(), self.view])
        for control in controls.values():
            control.observe(self._redraw, "value")

    @property
    def settings(self) -> dict:
        """Name -> value of every control."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, _change) -> None:
        self.view.value = self._draw(**self.settings)

    def __repr__(self) -> str:
        # Stored notebooks are compared word by word: no picture, number or address may stand here.
        return WORDS["panel"].format(self.title)


def array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def picture(image) -> np.ndarray:
    values = array(image)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2:
        raise DataError(f"expected one grey image (H, W) or (1, H, W), got {values.shape}")
    return values


def grey(values: np.ndarray, black: float, white: float) -> np.ndarray:
    span = white - black
    share = (values - black) / span if span > 0 else np.zeros(values.shape)
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)


def static(pictures, titles, alt: str, spacing, limits, *, size: float) -> None:
    fig = plotting.images(pictures, titles=titles, spacing=spacing, limits=limits, size=size)
    plotting.show(fig, alt=alt)


def img(pixels: np.ndarray, alt: str, spacing=None, width: int = 384) -> str:
    """An img element with alternative text: ipywidgets' own Image has none."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    data = base64.b64encode(file.getvalue()).decode()
    rows, columns = pixels.shape
    ratio = rows / columns * (1 if spacing is None else spacing[0] / spacing[1])
    style = f"width: {width}px; height: {round(width * ratio)}px; image-rendering: pixelated"
    return f'<img alt="{html.escape(alt)}" style="{style}" src="data:image/png;base64,{data}">'


def slider(label, value, low, high, *, step=1.0, whole=False, form=".2f"):
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    options = {} if whole else {"step": step, "readout_format": form}
    return kind(
        **{"value": value, "min": low, "max": high, "description": label, **options},
        style={"description_width": "90px"},
        layout={"width": "480px"},
    )


def menu(label: str, options: Mapping, value) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(
        options=list(options.items()),
        value=value,
        description=label,
        style={"description_width": "90px"},
    )
