"""Stored pixel values: pydicom decodes; here stands what makes its answer safe.

A decoder that meets a damaged file often fills what is missing with grey and says nothing. So every
byte that the header asks for must be there and none more, a compressed stream must have the
header's size and run to its end, and a decoder's warning is an error. What this cannot see is a
changed byte inside compressed data: neither DICOM nor JPEG carries a checksum.

Source: DICOM PS3.3 C.7.6.3 (Image Pixel module), PS3.5 A.4 (encapsulation); ITU-T T.81 Annex B
(JPEG), T.87 Annex C (JPEG-LS), T.800 Annex A (JPEG 2000).
"""

import re
import struct
from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut, as_pixel_options, get_decoder
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from medlab.dicom.source import integer, refusing, require_room, text
from medlab.errors import DicomError

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_JPEG = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes)
_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF markers; F7 is JPEG-LS


def stored_values(
    dataset: Dataset, path: Path, *, max_bytes: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """The stored values of all frames, (F, H, W) grey or (F, H, W, 3) RGB, before any rescale.

    With them pydicom's options for decoding, whose `photometric_interpretation` is that of the
    array: MONOCHROME1, MONOCHROME2 or RGB, to which YBR and palettes are converted.
    """
    options = _options(dataset, path, max_bytes)
    syntax = dataset.file_meta.TransferSyntaxUID
    doing = f"decode its pixels, {syntax.name} ({syntax})"
    with refusing(path, doing, warned="error"):
        decoder, value = get_decoder(syntax), dataset[options["pixel_keyword"]].value
        if syntax.is_encapsulated:
            value = _whole_frames(value, options, syntax)
            if not {"pylibjpeg", "gdcm", "pydicom"} & {*decoder.available_plugins}:
                doing += (
                    ", perhaps for want of a decoder: "
                    "pip install pylibjpeg pylibjpeg-openjpeg pylibjpeg-libjpeg"
                )
    with refusing(path, doing, warned="error"):
        array, properties = decoder.as_array(value, **options)
        photometric = str(properties["photometric_interpretation"])
        if photometric == "PALETTE COLOR":
            array, photometric = _through_palette(array, dataset), "RGB"
        colours = (3,) if photometric == "RGB" else ()
        if array.dtype.kind == "f" if colours else photometric[:10] != "MONOCHROME":
            raise ValueError(f"{photometric} pixels of {array.dtype} are not supported")
        names = ("number_of_frames", "rows", "columns")
        array = array.reshape(*(options[name] for name in names), *colours)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array, options | {"photometric_interpretation": photometric}


def _options(dataset: Dataset, path: Path, max_bytes: int) -> dict[str, Any]:
    """What the header says to pydicom's decoders, who look closely at it themselves."""
    present = [keyword for keyword in PIXEL_KEYWORDS if keyword in dataset]
    if len(present) != 1:
        kind = text(dataset, "SOPClassUID", path)
        kind = UID(kind or text(dataset.file_meta, "MediaStorageSOPClassUID", path)).name
        raise DicomError(f"{path}: holds no image but a {kind}, with {present or 'no'} pixel data")
    with refusing(path, "read how its pixels are laid out"):
        options = {"samples_per_pixel": 1, "planar_configuration": 0, **as_pixel_options(dataset)}
        options |= {"pixel_keyword": present[0], "pixel_vr": str(dataset[present[0]].VR)}
    options.pop("extended_offsets", None)
    options["allow_excess_frames"] = False
    high, stored = (integer(dataset, name, path) for name in ("HighBit", "BitsStored"))
    if present[0] == "PixelData" and high is not None and stored and high != stored - 1:
        raise DicomError(f"{path}: HighBit {high} does not belong to BitsStored {stored}")
    names = ("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel")
    sides = [integer(dataset, name, path) or 1 for name in names]
    decoded = prod(sides) * max(8, integer(dataset, "BitsAllocated", path) or 0) // 8
    require_room(path, decoded, max_bytes)
    return options


def _whole_frames(value: bytes, options: dict[str, Any], syntax: UID) -> bytes:
    """Compressed frames, packed anew; a ValueError or an IndexError where they are not whole."""
    position, count = 0, options["number_of_frames"]
    while value[position : position + 4] == b"\xfe\xff\x00\xe0" and position + 8 <= len(value):
        position += 8 + int.from_bytes(value[position + 4 : position + 8], "little")
    if position != len(value):
        raise ValueError(f"truncated or damaged: items end at byte {position} of {len(value)}")
    frames = list(generate_frames(value, number_of_frames=count))
    if len(frames) != count:
        raise ValueError(f"{len(frames)} compressed frame(s), NumberOfFrames says {count}")
    for frame in frames:
        for flaw in _flaws(frame, options, syntax):
            raise ValueError(f"a compressed frame {flaw}")
    if syntax in _JPEG and options["samples_per_pixel"] == 3:
        frames = [_in_one_colour_space(frame, options) for frame in frames]
    return encapsulate(frames, has_bot=False)


def _flaws(frame: bytes, options: dict[str, Any], syntax: UID) -> Iterator[str]:
    """In what a compressed frame has another size than the header's, or is not whole."""
    ours = [options[name] for name in ("rows", "columns", "samples_per_pixel")]
    allocated = max(8, options["bits_allocated"])
    if syntax == RLELossless:
        if len(frame) > prod(ours) * allocated // 4 + 100:
            yield "has more bytes than its size could need"
        return
    if syntax in _JPEG:
        size, precision, position = [], 0, 2
        if frame[:2] != b"\xff\xd8":
            yield "does not start as a JPEG"
        while (code := frame[position + 1]) != 0xDA:  # the segments before the first scan
            if frame[position] != 0xFF:
                yield f"is damaged at byte {position}"
            if code in _SIZES:
                precision, *size = struct.unpack_from(">BHHB", frame, position + 4)
            length = int.from_bytes(frame[position + 2 : position + 4], "big")
            position += 1 if code == 0xFF else 2 + length
        counted = b"\xff\xdd\x00\x04" in frame  # only then may restart markers stand in the data
        for scan in frame[position:].split(b"\xff\xda"):
            restarts = b"".join(re.findall(rb"\xff([\xd0-\xd7])", scan))
            if restarts != bytes(0xD0 + k % 8 for k in range(counted * len(restarts))):
                yield "has a restart marker out of order"
    else:
        position = frame.index(b"\xff\x4f\xff\x51", 0, 200)  # after the boxes of JP2
        x1, y1, x0, y0, width, height, left, top = struct.unpack_from(">8L", frame, position + 8)
        size, precision = [y1 - y0, x1 - x0, frame[position + 41]], (frame[position + 42] & 127) + 1
        position = frame.index(b"\xff\x90\x00\x0a", position)
        tiles = len(set(re.findall(rb"\xff\x90\x00\x0a(..)", frame, re.DOTALL)))
        if tiles != ceil((x1 - left) / width) * ceil((y1 - top) / height):
            yield f"has {tiles} of its JPEG 2000 tiles only"
    end = frame.find(b"\xff\xd9", position)
    if end < 0:
        yield "has no end marker (FF D9): it is truncated"
    if frame[end + 2 :].strip(b"\0") and len(frame) > end + 3:
        yield f"has {len(frame) - end - 2} bytes that follow the end"
    if size != ours or precision > allocated:
        yield f"has {size}, {precision} bits; the header says {ours} and {allocated} bits"


def _in_one_colour_space(frame: bytes, options: dict[str, Any]) -> bytes:
    """Refuse a JPEG stream that names another colour space than the header does.

    Decoders disagree on Adobe's mark for YCbCr: some convert, some leave it to pydicom. It is made
    unreadable, so that none does.
    """
    head, header = frame[: frame.index(b"\xff\xda")], options["photometric_interpretation"]
    adobe = re.search(rb"\xff\xee\x00\x0eAdobe.{6}([\0\1])", head, re.DOTALL)
    named = re.search(rb"\xff[\xc0-\xcf\xf7]\x00\x11.{5}\x03[Rr]..[Gg]..[Bb]", head, re.DOTALL)
    found = "RGB" if named or (adobe and adobe[1] == b"\0") else "YBR"
    if (named or adobe or b"JFIF\0" in head) and header[:3] != found:
        raise ValueError(f"the header says {header}, the JPEG stream {found}: correct the header")
    return frame.replace(b"Adobe", b"adobe", 1) if adobe and found == "YBR" else frame


def _through_palette(indices: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Palette indices replaced by colours; 8 bits where nothing is lost by it, else 16."""
    colours = apply_color_lut(indices, dataset)
    high, low = colours >> 8, colours & 255
    if colours.dtype == np.uint16 and (np.array_equal(high, low) or not low.any()):
        return high.astype(np.uint8)
    return colours
