"""Pictures of one kind to one array; of several kinds, to a message that says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from medlab.datasets.pictures import Picture
from medlab.datasets.sources import some
from medlab.errors import DataError

__all__ = ["recolour", "stack"]


def recolour(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(C, H, W) with 1 or 3 channels as (channels, H, W); grey is luma, or the common value."""
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=0)
    if (pixels == pixels[0]).all():
        return pixels[:1]
    # Luma of ITU-R BT.601, as every picture program uses for grey.
    grey = np.tensordot(np.array([0.299, 0.587, 0.114]), pixels.astype(np.float64), axes=1)
    return (grey if pixels.dtype.kind == "f" else grey.round()).astype(pixels.dtype)[None]


def stack(pictures: dict[str, Picture]) -> np.ndarray:
    """All pictures as (N, C, H, W): uint8, else int16 where all values fit, else float32.

    Raises:
        DataError: mixed colours, sizes or bit depths; how many of each, an example, what to do.
    """

    def kinds(what: Callable[[np.ndarray], Any]) -> list[tuple[Any, int, str]]:
        seen: dict[Any, list[str]] = {}
        for name, picture in pictures.items():
            seen.setdefault(what(picture.pixels), []).append(name)
        return sorted(((k, len(v), v[0]) for k, v in seen.items()), key=lambda kind: -kind[1])

    def told(found: list[tuple[Any, int, str]]) -> str:
        return some([f"{kind}: {count} images (such as {name})" for kind, count, name in found])

    colours = kinds(lambda p: "grey" if len(p) == 1 else "RGB")
    if len(colours) > 1:
        hidden = all(
            (p.pixels == p.pixels[0]).all() for p in pictures.values() if len(p.pixels) == 3
        )
        raise DataError(
            f"images differ in colour: {told(colours)}. Pass channels=1 to make all grey"
            + (", which loses nothing: the RGB ones are grey in truth" if hidden else "")
            + ", or channels=3."
        )
    sizes = kinds(lambda p: f"{p.shape[1]}×{p.shape[2]}")
    if len(sizes) > 1:
        edge = max(max(p.pixels.shape[1:]) for p in pictures.values())
        raise DataError(
            f"images have {len(sizes)} sizes (height×width): {told(sizes)}. Pass size=…, such as "
            f"size={min(edge, 256)}, to bring all to one size, proportions kept."
        )
    types = kinds(lambda p: p.dtype.name)
    if len({"uint16" if t == "int32" else t for t, *_ in types}) > 1:
        raise DataError(
            f"images differ in bit depth: {told(types)}. Their grey levels do not compare; convert "
            "them alike, or read them as separate cohorts."
        )
    values = np.stack([picture.pixels for picture in pictures.values()])
    if values.dtype in (np.uint8, np.float32):
        return values
    low, high = int(values.min()), int(values.max())
    if low >= -32768 and high <= 32767:
        return values.astype(np.int16)
    if max(-low, high) > 1 << 24:
        raise DataError(f"grey levels {low}…{high} are too large for float32 to hold exactly")
    return values.astype(np.float32)
