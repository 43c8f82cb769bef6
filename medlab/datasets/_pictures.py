"""One image file to pixels, losing nothing silently; many of one kind to one array."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from medlab.datasets._files import reading, some
from medlab.errors import DataError

_FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "WEBP"]


def decode(path: Path | zipfile.Path) -> np.ndarray:
    """(C, H, W) of a PNG, JPEG, TIFF, BMP or WebP file, C 1 or 3: uint8, or float32 if deeper.

    EXIF rotation is applied, a fully opaque alpha channel is dropped; 16-bit grey keeps its values.
    A DataError tells of damage, several pages, real transparency, 16-bit colour (Pillow would
    quietly drop half of it) and values that are not numbers.
    """
    what = f"{path} cannot be read as an image (DICOM: medlab.dicom.read_image, then from_arrays)"
    with reading(what), path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        return storable(_pixels(image))


def _pixels(image: Any) -> np.ndarray:
    """(C, H, W) of a picture that loses nothing on the way; else a ValueError that says what."""
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"{image.n_frames} pages: save one picture a file")
    # How Pillow unpacks the file, such as "RGB;16B"; only single-channel modes hold 16 bits.
    deep = image.mode.startswith(("I", "F"))
    if not deep and ";16" in str(image.tile):
        raise ValueError("16 bits a channel: save it as 16-bit grey or 8-bit colour")
    white_is_0 = image.format == "TIFF" and image.tag_v2.get(262) == 0
    image = ImageOps.exif_transpose(image)
    if deep:
        values = np.array(image)[None]
        return 65535 - values if white_is_0 and image.mode.startswith("I;16") else values
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3] != (255, 255):
        raise ValueError("partly transparent: lay it on a background of your choice first")
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))[None]
    return np.ascontiguousarray(np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))


def storable(values: np.ndarray) -> np.ndarray:
    """The same values as uint8 (unchanged) or float32; a DataError if that loses something."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise DataError(f"grey levels must be finite numbers; got type {values.dtype}")
    exact = values.astype(np.float32, copy=False)
    if values.dtype.kind in "iu" and (exact.astype(np.float64) != values).any():
        raise DataError("grey levels are too large for float32 to hold exactly")
    return exact


def fit(pixels: np.ndarray, size: int) -> np.ndarray:
    """Scale (C, H, W) to fit into a square of edge `size`, without aliasing, and pad evenly.

    The margin is 0 for uint8, else the image's lowest value.
    """
    if pixels.shape[1:] == (size, size):
        return pixels
    scale = size / max(pixels.shape[1:])
    height, width = (max(1, round(n * scale)) for n in pixels.shape[1:])
    top, left = (size - height) // 2, (size - width) // 2
    lowest = 0 if pixels.dtype == np.uint8 else pixels.min()
    out = np.full((len(pixels), size, size), lowest, dtype=pixels.dtype)
    for channel, values in zip(out, pixels, strict=True):
        plane = Image.fromarray(values.astype(np.float32))
        scaled = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        inside = channel[top : top + height, left : left + width]
        inside[:] = scaled.round() if pixels.dtype == np.uint8 else scaled
    return out


def stack(names: Iterable[str], pictures: list[np.ndarray]) -> np.ndarray:
    """All pictures as (N, C, H, W); a DataError tells of mixed colours, sizes or types."""
    kinds: dict[str, list[str]] = {}
    for name, pixels in zip(names, pictures, strict=True):
        kind = f"{'×'.join(map(str, pixels.shape))} {pixels.dtype}"
        kinds.setdefault(kind, []).append(name)
    if len(kinds) > 1:
        told = [f"{kind}: {len(names)}, such as {names[0]}" for kind, names in kinds.items()]
        raise DataError(
            f"images differ (channels × height × width, type): {some(told)}. Pass size=… for one "
            "size; convert colours, and read types as separate cohorts."
        )
    return np.stack(pictures)
