"""Stored pixel values: pydicom decodes; here stands what makes its answer safe.

A decoder that meets a damaged file often fills what is missing with grey and says nothing. So every
byte that the header asks for must be there and none more, a compressed stream must have the
header's size and run to its end, and a decoder's warning is an error. What this cannot see is a
changed byte inside compressed data: neither DICOM nor JPEG carries a checksum.

Source: DICOM PS3.3 C.7.6.3 (Image Pixel module), PS3.5 A.4 (encapsulation); ITU-T T.81 Annex B
(JPEG), T.87 Annex C (JPEG-LS), T.800 Annex A (JPEG 2000).
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut, as_pixel_options, get_decoder
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from medlab.dicom.source import integer, refusing, text
from medlab.errors import DicomError

_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_JPEG = "1.2.840.10008.1.2.4."  # how the transfer syntaxes of JPEG and its successors begin
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF markers; F7 is JPEG-LS


def stored_values(
    dataset: Dataset, path: Path, *, max_bytes: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """The stored values of all frames, before any rescale.

    Args:
        dataset: a parsed file, opened with its pixels.
        path: the file.
        max_bytes: largest decoded array; checked against the header before anything is allocated.

    Returns:
        An array of shape (F, H, W) for grey or (F, H, W, 3) for colour, of the file's integer or
        float type, and pydicom's options for decoding it, whose `photometric_interpretation` is
        that of the array: MONOCHROME1, MONOCHROME2 or RGB. YBR and palettes are converted to RGB.

    Raises:
        DicomError: pixels missing, too many, damaged, contradicting the header, or in a transfer
            syntax that needs a decoder which is not installed.
    """
    options = _options(dataset, path, max_bytes)
    syntax = dataset.file_meta.TransferSyntaxUID
    doing = f"decode its pixels, {syntax.name} ({syntax})"
    with refusing(path, doing):
        decoder = get_decoder(syntax)
        value = dataset[options["pixel_keyword"]].value
    if syntax.is_encapsulated:
        with refusing(path, "follow its compressed frames to their end", warned="error"):
            value = _whole_frames(value, options, syntax, path)
    if syntax.startswith(_JPEG) and not {"pylibjpeg", "gdcm"} & {*decoder.available_plugins}:
        doing += ', perhaps for want of a decoder: pip install "medlab[dicom]"'
    with refusing(path, doing, warned="error"):
        array, properties = decoder.as_array(value, **options)
    photometric = str(properties["photometric_interpretation"])
    if photometric == "PALETTE COLOR":
        array, photometric = _through_palette(array, dataset, path), "RGB"
    shape = tuple(options[name] for name in ("number_of_frames", "rows", "columns"))
    shape += (3,) if photometric == "RGB" else ()
    if (
        photometric not in ("MONOCHROME1", "MONOCHROME2", "RGB")
        or array.size != prod(shape)
        or (photometric == "RGB" and array.dtype.kind == "f")
    ):
        raise DicomError(
            f"{path}: {photometric} pixels of {array.shape} and {array.dtype} are not supported; "
            f"the header speaks of {shape}"
        )
    array = array.reshape(shape).astype(array.dtype.newbyteorder("="), copy=False)
    return array, options | {"photometric_interpretation": photometric}


def _options(dataset: Dataset, path: Path, max_bytes: int) -> dict[str, Any]:
    """What the header says to pydicom's decoders, who look closely at it themselves."""
    present = [keyword for keyword in ("PixelData", *_FLOATS) if keyword in dataset]
    if len(present) != 1:
        kind = text(dataset, "SOPClassUID", path)
        kind = UID(kind or text(dataset.file_meta, "MediaStorageSOPClassUID", path)).name
        what = "more than one kind of pixel data" if present else "no PixelData element"
        raise DicomError(f"{path}: holds no image{f' but a {kind}' if kind else ''}: {what}")
    with refusing(path, "read how its pixels are laid out"):
        options = as_pixel_options(dataset)
        options |= {"pixel_keyword": present[0], "pixel_vr": str(dataset[present[0]].VR)}
    options.pop("extended_offsets", None)
    options["allow_excess_frames"] = False
    options["number_of_frames"] = integer(dataset, "NumberOfFrames", path) or 1  # 0 means one
    options = {"samples_per_pixel": 1, "planar_configuration": 0, **options}
    if bits := _FLOATS.get(present[0]):  # their type says what the header must say of integers
        options |= {"bits_allocated": bits, "bits_stored": bits, "pixel_representation": 1}
    high, stored = (integer(dataset, name, path) for name in ("HighBit", "BitsStored"))
    if high is not None and stored is not None and high != stored - 1 and not bits:
        raise DicomError(
            f"{path}: HighBit {high} does not belong to BitsStored {stored}: the values' place in "
            "the word is unclear"
        )
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    rows, columns, samples, allocated = (integer(dataset, name, path) or 1 for name in names)
    decoded = options["number_of_frames"] * rows * columns * samples * max(8, allocated) // 8
    if decoded > max_bytes:
        raise DicomError(
            f"{path}: its pixels need {decoded:,} bytes, above the limit of {max_bytes:,}; pass "
            "max_bytes= if that is right"
        )
    return options


def _whole_frames(value: bytes, options: dict[str, Any], syntax: UID, path: Path) -> bytes:
    """Compressed frames, checked and packed anew; `options` get the streams' own colours."""
    position, count = 0, options["number_of_frames"]
    while value[position : position + 4] == b"\xfe\xff\x00\xe0" and position + 8 <= len(value):
        position += 8 + int.from_bytes(value[position + 4 : position + 8], "little")
    if position != len(value):
        raise DicomError(
            f"{path}: the compressed pixel data are truncated or damaged: their items end at byte "
            f"{position:,} of {len(value):,}"
        )
    frames = list(generate_frames(value, number_of_frames=count))
    if len(frames) != count:
        raise DicomError(
            f"{path}: NumberOfFrames says {count}, but {len(frames)} compressed frame(s) were found"
        )
    header = options["photometric_interpretation"]
    colours = {header} if syntax == RLELossless else set()
    for k, frame in enumerate(frames):
        for flaw in _flaws(frame, options, syntax):
            raise DicomError(f"{path}: a frame in {syntax.name} {flaw}")
        if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
            frames[k], colour = _own_colours(frame, header)
            colours.add(colour if options["samples_per_pixel"] == 3 else header)
    if len(colours) > 1:
        raise DicomError(f"{path}: its frames are compressed in different colours: {colours}")
    if colours and header not in colours:
        (options["photometric_interpretation"],) = colours
        warnings.warn(
            f"{path}: the header says {header}, the JPEG stream {min(colours)}: the stream was "
            "believed",
            stacklevel=2,
        )
    return encapsulate(frames, has_bot=False)


def _flaws(frame: bytes, options: dict[str, Any], syntax: UID) -> Iterator[str]:
    """In what a compressed frame has another size than the header's, or is not whole."""
    ours = tuple(options[name] for name in ("rows", "columns", "samples_per_pixel"))
    allocated = max(8, options["bits_allocated"])
    if syntax == RLELossless:
        if len(frame) > prod(ours) * allocated // 4 + 100:
            yield "has more bytes than its size could need"
        return
    size: tuple[int, ...] = ()
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        position = 2
        if frame[:2] != b"\xff\xd8":
            yield "does not start as one"
        while (code := frame[position + 1]) != 0xDA:  # the segments before the first scan
            if frame[position] != 0xFF:
                yield f"is damaged at byte {position}"
            if code in _JPEG_FRAMES:
                precision, *found = struct.unpack_from(">BHHB", frame, position + 4)
                size = tuple(found)
            length = int.from_bytes(frame[position + 2 : position + 4], "big")
            position += 1 if code == 0xFF else 2 + length
        counted = b"\xff\xdd\x00\x04" in frame  # only then may restart markers stand in the data
        for scan in frame[position:].split(b"\xff\xda"):
            restarts = b"".join(re.findall(rb"\xff([\xd0-\xd7])", scan))
            if restarts != bytes(0xD0 + k % 8 for k in range(counted * len(restarts))):
                yield "has a restart marker out of order"
    else:
        start = frame.index(b"\xff\x4f\xff\x51", 0, 200)  # after the boxes of JP2
        x1, y1, x0, y0, width, height, left, top = struct.unpack_from(">8L", frame, start + 8)
        size, precision = (y1 - y0, x1 - x0, frame[start + 41]), (frame[start + 42] & 127) + 1
        position = frame.index(b"\xff\x90\x00\x0a", start)
        tiles = len(set(re.findall(rb"\xff\x90\x00\x0a(..)", frame, re.DOTALL)))
        if tiles != ceil((x1 - left) / width) * ceil((y1 - top) / height):
            yield f"has {tiles} of its tiles only"
    end = frame.find(b"\xff\xd9", position)
    if end < 0:
        yield "has no end marker (FF D9): it is truncated"
    if frame[end + 2 :].strip(b"\0") and len(frame) > end + 3:
        yield f"has {len(frame) - end - 2:,} bytes that follow the end"
    if size != ours or precision > allocated:
        yield (
            f"has {size} rows, columns and samples of {precision} bits; the header says {ours} and "
            f"{allocated} bits"
        )


def _own_colours(frame: bytes, header: str) -> tuple[bytes, str]:
    """The colour space that a JPEG stream names goes before the header's, which is often wrong.

    Decoders disagree on Adobe's mark for YCbCr: some convert, some leave it to pydicom. It is made
    unreadable, so that none does.
    """
    head = frame[: frame.index(b"\xff\xda")]
    adobe = re.search(rb"\xff\xee\x00\x0eAdobe.{6}([\0\1])", head, re.DOTALL)
    named = re.search(rb"\xff[\xc0-\xcf\xf7]\x00\x11.{5}\x03[Rr]..[Gg]..[Bb]", head, re.DOTALL)
    found = header
    if named or (adobe and adobe[1] == b"\0"):
        found = "RGB"
    elif adobe or b"JFIF\0" in head:
        found = "YBR_FULL"
    if adobe and adobe[1] == b"\1":
        frame = frame.replace(b"Adobe", b"adobe", 1)
    return frame, header if header[:3] == found[:3] else found


def _through_palette(indices: np.ndarray, dataset: Dataset, path: Path) -> np.ndarray:
    """Palette indices replaced by colours; 8 bits where nothing is lost by it, else 16."""
    with refusing(path, "apply its colour palette"):
        colours = apply_color_lut(indices, dataset)
    high, low = colours >> 8, colours & 255
    if colours.dtype == np.uint16 and (np.array_equal(high, low) or not low.any()):
        return high.astype(np.uint8)
    return colours
