"""One image file to pixels, losing nothing silently; many of one kind to one array."""

from __future__ import annotations

import io
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from medlab.datasets._files import DICOM, some
from medlab.datasets.npz import BROKEN
from medlab.errors import DataError, DicomError

MOST_PIXELS = 100_000_000  # 10,000 × 10,000; a mammogram has 13 million
_FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "WEBP"]
_HEADER = (
    "PatientID StudyInstanceUID SeriesInstanceUID InstitutionName Manufacturer "
    "ManufacturerModelName StationName BodyPartExamined ViewPosition"
).split()


@dataclass(frozen=True)
class Picture:
    """Pixels of one file.

    Attributes:
        pixels: (C, H, W), C 1 or 3; uint8, uint16, int32 or float32, as the file holds them.
        spacing: millimetres between pixels (row, column), from DICOM only.
        header: DICOM attributes that tell patients and scanners apart, as "dicom:PatientID".
        units: of the pixel values, from DICOM only.
    """

    pixels: np.ndarray
    spacing: tuple[float, float] | None = None
    header: dict[str, str] = field(default_factory=dict)
    units: str = ""


def decode(data: bytes, name: str) -> Picture:
    """Decode a PNG, JPEG, TIFF, BMP, WebP or DICOM file.

    EXIF rotation is applied, palettes are resolved, a fully opaque alpha channel is dropped;
    16-bit grey keeps its values.

    Args:
        data: the whole file.
        name: for messages, and for telling DICOM from pictures.

    Raises:
        DataError: damaged, several pages, real transparency, CMYK, 16-bit colour (Pillow would
            quietly drop half of it), more than 100 million pixels, or values that are not numbers.
    """
    if PurePosixPath(name).suffix.lower() in DICOM or data[128:132] == b"DICM":
        return _dicom(data, name)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return Picture(_pixels(image, data))
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error


def placement(shape: tuple[int, int], size: tuple[int, int]) -> tuple[tuple, tuple]:
    """Height and width that a picture of `shape` has within `size`, and its top and left margin."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    inner = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))
    return inner, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale to fit into `size`, keeping proportions, and pad evenly.

    Shrinking averages over the area that a pixel covers (triangle filter as wide as the scale), so
    fine structure does not alias. The margin is 0 for uint8, else the image's lowest value.

    Args:
        pixels: (C, H, W), any type.
        size: (height, width).

    Returns:
        (C, height, width) of the same type.
    """
    channels, *shape = pixels.shape
    if tuple(shape) == size:
        return pixels
    (height, width), (top, left) = placement(tuple(shape), size)
    lowest = 0 if pixels.dtype == np.uint8 else pixels.min()
    out = np.full((channels, *size), lowest, dtype=pixels.dtype)
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(pixels[channel], dtype=np.float32))
        scaled = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        if pixels.dtype.kind != "f":
            scaled = scaled.round()
        out[channel, top : top + height, left : left + width] = scaled
    return out


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
    pixels = {name: picture.pixels for name, picture in pictures.items()}
    colours = _kinds(pixels, lambda p: "grey" if len(p) == 1 else "RGB")
    if len(colours) > 1:
        hidden = all((p == p[0]).all() for p in pixels.values() if len(p) == 3)
        raise DataError(
            f"images differ in colour: {some(colours)}. Pass channels=1 to make all grey"
            + (", which loses nothing: the RGB ones are grey in truth" if hidden else "")
            + ", or channels=3."
        )
    sizes = _kinds(pixels, lambda p: f"{p.shape[1]}×{p.shape[2]}")
    if len(sizes) > 1:
        edge = max(max(p.shape[1:]) for p in pixels.values())
        raise DataError(
            f"images have {len(sizes)} sizes (height×width): {some(sizes)}. Pass size=…, such as "
            f"size={min(edge, 256)}, to bring all to one size, proportions kept."
        )
    types = {"uint16" if p.dtype == np.int32 else p.dtype.name for p in pixels.values()}
    if len(types) > 1:
        raise DataError(
            f"images differ in bit depth: {some(_kinds(pixels, lambda p: p.dtype.name))}. Their "
            "grey levels do not compare; convert them alike, or read them as separate cohorts."
        )
    return storable(np.stack(list(pixels.values())))


def storable(values: np.ndarray) -> np.ndarray:
    """The same values as uint8 (unchanged), else int16 if they fit, else float32.

    Raises:
        DataError: not finite numbers, or whole numbers that float32 cannot hold.
    """
    if values.dtype in (np.uint8, np.float32):
        return values
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise DataError(f"grey levels must be finite numbers; got type {values.dtype}")
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    low, high = int(values.min()), int(values.max())
    if low >= -32768 and high <= 32767:
        return values.astype(np.int16)
    if max(-low, high) > 1 << 24:
        raise DataError(f"grey levels {low}…{high} are too large for float32 to hold exactly")
    return values.astype(np.float32)


def _kinds(pixels: dict[str, np.ndarray], what: Callable[[np.ndarray], Any]) -> list[str]:
    """Each kind of picture, the most frequent first, with its number and an example."""
    seen = defaultdict(list)
    for name, values in pixels.items():
        seen[what(values)].append(name)
    ordered = sorted(seen.items(), key=lambda kind: -len(kind[1]))
    return [f"{kind}: {len(names)} images (such as {names[0]})" for kind, names in ordered]


def _pixels(image: Any, data: bytes) -> np.ndarray:
    """(C, H, W) of a picture that loses nothing on the way; else a ValueError that says what."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"{image.width} × {image.height} pixels, more than {MOST_PIXELS // 10**6} million: cut "
            "or shrink it first"
        )
    if image.format not in ("JPEG", "MPO") and getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"{image.n_frames} pages: save one picture a file")
    # A PNG's bit depth stands in its first chunk, which is always IHDR.
    tiff = image.tag_v2 if image.format == "TIFF" else {}
    bits = data[24] if image.format == "PNG" else max(tiff.get(258, (8,)))
    if bits > 8 and image.mode in ("RGB", "RGBA", "LA", "CMYK"):
        raise ValueError(
            f"colour or transparency with {bits} bits a channel, which cannot be read without "
            "loss: save it as 16-bit grey or 8-bit colour"
        )
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise ValueError(f"{image.mode}: save it as RGB or grey, so that colours are sure")
    image = ImageOps.exif_transpose(image)
    grey, palette = image.mode in ("1", "L", "LA"), image.mode == "P"
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise ValueError("partly transparent: lay it on a background of your choice first")
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        return (65535 - values if tiff.get(262) == 0 else values)[None]  # 0 is white on film
    if grey or image.mode in ("I", "F"):
        values = np.array(image.convert("L") if grey else image)[None]
        if not np.isfinite(values).all():
            raise ValueError("some values are not finite numbers")
        return values
    values = np.ascontiguousarray(np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))
    return values[:1] if palette and (values == values[0]).all() else values


def _dicom(data: bytes, name: str) -> Picture:
    from medlab.dicom import read_image

    with tempfile.TemporaryDirectory(prefix="medlab-") as folder:
        path = Path(folder) / "file.dcm"
        path.write_bytes(data)
        try:
            image = read_image(path)
        except DicomError as error:
            raise DataError(str(error).replace(str(path), name)) from error
    frames = image.frames
    if len(frames) != 1:
        raise DataError(
            f"{name} has {len(frames)} frames: from_folder takes single images; read it with "
            "medlab.dicom.read_image and choose frames"
        )
    values = frames[0].numpy()
    if values.dtype not in (np.uint8, np.float32):
        exact = values.astype(np.float32)
        if (exact.astype(values.dtype) != values).any():
            raise DataError(f"{name} holds whole numbers too large to be kept exactly")
        values = exact
    header = {
        f"dicom:{key}": str(image.header.get(key)).strip()
        for key in _HEADER
        if image.header.get(key) not in (None, "")
    }
    return Picture(values, spacing=image.spacing, header=header, units=image.units)
