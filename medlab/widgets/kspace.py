"""A part of k-space, and the image that it gives."""

from __future__ import annotations

from typing import Literal

import numpy as np

from medlab.errors import DataError
from medlab.widgets.panel import Panel, grey, img, menu, picture, slider, static

__all__ = ["keep_kspace", "kspace"]

# All that a reader of the page sees, for translators.
WORDS = {
    "kspace": "part of k-space",
    "fraction": "kept",
    "part": "part",
    "centre": "centre",
    "edge": "edge",
    "kspace_alt": "Left, the {part} of k-space that is kept, {share} of each side; right, the "
    "image that it gives.",
    "kspace_titles": ("k-space that is kept", "image from it"),
}


def kspace(image, *, fraction: float = 0.2, part: str = "centre", alt: str | None = None) -> Panel:
    """Keep only the centre of k-space, or only its edge, and see the image that is left.

    Args:
        image: (H, W) or (1, H, W), ≥ 0, such as an MR magnitude image.
        fraction: where the slider starts; see `keep_kspace`.
        part: "centre" or "edge".
        alt: what the static figure shows; made from fraction and part if not given.

    Raises:
        DataError: not one image, or negative values.
    """
    values = picture(image).astype(float)

    def described(fraction, part) -> str:
        return WORDS["kspace_alt"].format(part=WORDS[part], share=f"{fraction:.0%}")

    def pictures(fraction, part) -> list[np.ndarray]:
        kept, result = keep_kspace(values, fraction, part)
        # The edge alone is faint: it gets a grey scale of its own, the centre keeps the image's.
        top = values.max() if part == "centre" else result.max()
        return [grey(np.log1p(np.abs(kept)), 0, full), grey(result, 0, top)]

    def draw(fraction, part) -> str:
        return img(np.hstack(pictures(fraction, part)), described(fraction, part), width=640)

    full = np.log1p(np.abs(keep_kspace(values, 1, "centre")[0])).max()
    said = alt or described(fraction, part)
    static(pictures(fraction, part), WORDS["kspace_titles"], said, None, (0, 255), size=3)
    parts = {WORDS[name]: name for name in ("centre", "edge")}
    controls = {
        "fraction": slider(WORDS["fraction"], fraction, 0, 1, step=0.01, form=".0%"),
        "part": menu(WORDS["part"], parts, part),
    }
    return Panel(WORDS["kspace"], controls, draw)


def keep_kspace(
    image, fraction: float, part: Literal["centre", "edge"] = "centre"
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the central rectangle of k-space, or all but it, and go back to the image.

    Args:
        image: (H, W), ≥ 0.
        fraction: of each side of k-space that the rectangle spans, 0 (the mean alone) to 1 (all).
        part: "centre" or "edge".

    Returns:
        k-space complex (H, W), zero where dropped, with the mean in the middle; and the magnitude
        of the image that it gives, float64 (H, W).

    Raises:
        DataError: negative or missing values, a fraction outside 0…1, or an unknown part.
    """
    values = picture(image).astype(float)
    if not values.min() >= 0:
        raise DataError(
            f"k-space is shown for magnitude images, which are ≥ 0; this one goes down to "
            f"{values.min():.4g}: pass an MR image, or subtract the minimum"
        )
    if not 0 <= fraction <= 1 or part not in ("centre", "edge"):
        raise DataError(
            f"fraction must be 0 to 1 and part 'centre' or 'edge', got {fraction} and {part!r}"
        )
    inside = [np.abs(np.fft.fftshift(np.fft.fftfreq(n))) <= fraction / 2 for n in values.shape]
    kept = inside[0][:, None] & inside[1]
    spectrum = np.fft.fftshift(np.fft.fft2(values)) * (kept if part == "centre" else ~kept)
    return spectrum, np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))
