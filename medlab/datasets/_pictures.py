"""One image file to pixels, losing nothing silently; many of one kind to one array."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from medlab.datasets._files import reading, some
from medlab.errors import DataError

_FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "WEBP"]
_HEADER = "PatientID StudyInstanceUID SeriesInstanceUID InstitutionName Manufacturer".split()


@dataclass(frozen=True)
class Picture:
    """Pixels of one file.

    Attributes:
        pixels: (C, H, W), C 1 or 3; uint8, or float32 where the file holds other values.
        shape: (height, width) of the file.
        spacing: millimetres between pixels (row, column), from DICOM only.
        header: DICOM attributes that tell patients and scanners apart, as "dicom:PatientID".
        units: of the pixel values.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    spacing: tuple[float, float] | None = None
    header: dict[str, str] = field(default_factory=dict)
    units: str = "display grey level"


def decode(path: Path) -> Picture:
    """Decode a PNG, JPEG, TIFF, BMP, WebP or DICOM file.

    EXIF rotation is applied, a fully opaque alpha channel is dropped; 16-bit grey keeps its values.

    Args:
        path: the file.

    Raises:
        DataError: damaged, several pages, real transparency, 16-bit colour (Pillow would quietly
            drop half of it), or values that are not numbers.
    """
    with reading(f"{path} cannot be read as an image", Image.DecompressionBombError):
        with path.open("rb") as stream:
            is_dicom = stream.read(132)[128:] == b"DICM"
        if is_dicom or path.suffix.lower() in (".dcm", ".dicom", ".ima"):
            return _dicom(path)
        with Image.open(path, formats=_FORMATS) as image:
            pixels = storable(_pixels(image))
    return Picture(pixels, pixels.shape[1:])


def placement(shape: tuple[int, int], size: tuple[int, int]) -> tuple[tuple, tuple]:
    """Height and width that a picture of `shape` has within `size`, and its top and left margin."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    inner = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))
    return inner, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)


def fit(picture: Picture, size: tuple[int, int]) -> Picture:
    """Scale to fit into `size` (height, width), keeping proportions, and pad evenly.

    Shrinking averages over the area that a pixel covers (triangle filter as wide as the scale), so
    fine structure does not alias. The margin is 0 for uint8, else the image's lowest value.
    """
    pixels = picture.pixels
    if pixels.shape[1:] == size:
        return picture
    (height, width), (top, left) = placement(picture.shape, size)
    lowest = 0 if pixels.dtype == np.uint8 else pixels.min()
    out = np.full((len(pixels), *size), lowest, dtype=pixels.dtype)
    for channel, values in zip(out, pixels, strict=True):
        plane = Image.fromarray(values.astype(np.float32))
        scaled = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        inside = channel[top : top + height, left : left + width]
        inside[:] = scaled.round() if pixels.dtype == np.uint8 else scaled
    grown = max(picture.shape[0] / size[0], picture.shape[1] / size[1])
    spacing = picture.spacing and (picture.spacing[0] * grown, picture.spacing[1] * grown)
    return dataclasses.replace(picture, pixels=out, spacing=spacing)


def recolour(picture: Picture, channels: int) -> Picture:
    """The same picture with 1 or 3 channels; grey of colour is Pillow's (BT.601 luma)."""
    pixels = picture.pixels
    if channels == 3 and len(pixels) == 1:
        pixels = np.repeat(pixels, 3, axis=0)
    elif channels == 1 and len(pixels) == 3:
        pixels = np.asarray(Image.fromarray(np.moveaxis(pixels, 0, -1)).convert("L"))[None]
    return dataclasses.replace(picture, pixels=pixels)


def stack(pictures: dict[str, Picture]) -> np.ndarray:
    """All pictures as (N, C, H, W), uint8 or float32.

    Raises:
        DataError: mixed colours, sizes, bit depths or units; how many of each, and an example.
    """
    kinds = pd.Series(
        {
            name: f"{'×'.join(map(str, p.pixels.shape))} {p.pixels.dtype} {p.units}"
            for name, p in pictures.items()
        }
    )
    if kinds.nunique() > 1:
        counts = kinds.value_counts()
        told = [
            f"{kind}: {counts[kind]}, such as {(kinds == kind).idxmax()}" for kind in counts.index
        ]
        raise DataError(
            f"images differ (channels × height × width, type, unit): {some(told)}. Pass size=… for "
            "one size, channels=1 or 3 for one colour; read types and units as separate cohorts."
        )
    return np.stack([picture.pixels for picture in pictures.values()])


def storable(values: np.ndarray) -> np.ndarray:
    """The same values as uint8 (unchanged) or float32.

    Raises:
        DataError: not finite numbers, or whole numbers that float32 cannot hold exactly.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise DataError(f"grey levels must be finite numbers; got type {values.dtype}")
    exact = values.astype(np.float32, copy=False)
    if values.dtype.kind in "iu" and (exact.astype(np.float64) != values).any():
        raise DataError("grey levels are whole numbers too large for float32 to hold exactly")
    return exact


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
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        return (65535 - values if white_is_0 else values)[None]
    if deep:
        return np.array(image)[None]
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3] != (255, 255):
        raise ValueError("partly transparent: lay it on a background of your choice first")
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))[None]
    return np.ascontiguousarray(np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))


def _dicom(path: Path) -> Picture:
    from medlab.dicom import read_image

    image = read_image(path)
    if len(image.frames) != 1:
        raise ValueError(
            f"{len(image.frames)} frames, where one is read: choose from medlab.dicom.read_image"
        )
    pixels = storable(image.frames[0].numpy())
    header = {f"dicom:{key}": str(image.header.get(key, "")) for key in _HEADER}
    return Picture(pixels, pixels.shape[1:], image.spacing, header, image.units)
