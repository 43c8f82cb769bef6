"""One image file to pixels, losing nothing silently."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from medlab.datasets.sources import PICTURES
from medlab.errors import DataError, DicomError

__all__ = ["MOST_PIXELS", "Picture", "decode", "fit"]

MOST_PIXELS = 100_000_000  # 10,000 × 10,000; a mammogram has 13 million
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    AttributeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_HEADER = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstitutionName",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "BodyPartExamined",
    "ViewPosition",
)


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
    """Decode a PNG, JPEG, TIFF or DICOM file.

    EXIF rotation is applied, palettes are resolved, a fully opaque alpha channel is dropped;
    16-bit grey keeps its values.

    Args:
        data: the whole file.
        name: for messages, and for telling DICOM from pictures.

    Raises:
        DataError: damaged, several pages, real transparency, CMYK, 16-bit colour (Pillow would
            quietly drop half of it), more than 100 million pixels, or values that are not numbers.
    """
    if PurePosixPath(name).suffix.lower() not in PICTURES:
        return _dicom(data, name)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "TIFF"]) as image:
            _refuse(image, data, name)
            image.load()
            pixels = _pixels(image, name)
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"{name} holds values that are not finite numbers")
    return Picture(pixels)


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
    channels, height, width = pixels.shape
    if (height, width) == size:
        return pixels
    scale = min(size[0] / height, size[1] / width)
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    lowest = 0 if pixels.dtype == np.uint8 else pixels.min()
    out = np.full((channels, *size), lowest, dtype=pixels.dtype)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(pixels[channel], dtype=np.float32))
        scaled = np.asarray(plane.resize(inner[::-1], Image.Resampling.BILINEAR))
        if pixels.dtype.kind != "f":
            scaled = scaled.round()
        out[channel, top : top + inner[0], left : left + inner[1]] = scaled
    return out


def _refuse(image: Image.Image, data: bytes, name: str) -> None:
    """What must be seen before decoding."""
    if image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"{name} has {image.width} × {image.height} pixels, more than {MOST_PIXELS // 10**6} "
            "million: cut or shrink it first"
        )
    if image.format in ("PNG", "TIFF") and getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{name} has {image.n_frames} pages: save one picture a file")
    bits = _bits(image, data)
    if bits > 8 and image.mode in ("RGB", "RGBA", "LA", "CMYK"):
        raise DataError(
            f"{name} is colour or has transparency with {bits} bits a channel, which cannot be "
            "read without loss: save it as 16-bit grey or 8-bit colour"
        )
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise DataError(f"{name} is {image.mode}: save it as RGB or grey, so that colours are sure")


def _bits(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]  # the bit depth in the first chunk, which is always IHDR
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    return 8


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    white_is_zero = image.format == "TIFF" and image.tag_v2.get(262) == 0
    image = ImageOps.exif_transpose(image)
    palette = image.mode == "P"
    if "transparency" in image.info and image.mode in ("P", "L", "RGB"):
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    elif palette or image.mode == "YCbCr":
        image = image.convert("RGB")
    if image.mode in ("LA", "RGBA", "PA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(
                f"{name} is partly transparent: lay it on a background of your choice first"
            )
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode == "1":
        image = image.convert("L")
    values = np.asarray(image)
    if image.mode == "RGB":
        values = np.moveaxis(values, -1, 0)
        if palette and (values == values[0]).all():
            values = values[:1]  # a grey picture stored with a palette
        return np.ascontiguousarray(values)
    if image.mode.startswith("I;16"):
        values = values.astype(np.uint16)
        return (65535 - values if white_is_zero else values)[None]
    if image.mode in ("L", "I", "F"):
        return np.array(values)[None]
    raise DataError(f"{name} has the unusual colour mode {image.mode}: save it as grey or RGB")


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
