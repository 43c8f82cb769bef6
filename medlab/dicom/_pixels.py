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
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from medlab.dicom.source import DicomFile, integer, refusing, text
from medlab.errors import DicomError

_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_JPEG = "1.2.840.10008.1.2.4."  # how the transfer syntaxes of JPEG and its successors begin
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF markers; F7 is JPEG-LS


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The Image Pixel module, under the names that pydicom's decoders give its attributes."""

    rows: int
    columns: int
    number_of_frames: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    planar_configuration: int
    photometric_interpretation: str
    pixel_keyword: str

    def __str__(self) -> str:
        return f"{self.number_of_frames} frame(s) of {self.rows}×{self.columns}"

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame; YBR_FULL_422 keeps one colour pair for two pixels."""
        half = self.photometric_interpretation == "YBR_FULL_422"
        samples = 2 if half else self.samples_per_pixel
        return self.rows * self.columns * samples * self.bits_allocated


def stored_values(file: DicomFile, *, max_bytes: int) -> tuple[np.ndarray, Layout]:
    """The stored values of all frames, before any rescale.

    Args:
        file: a parsed file, opened with its pixels.
        max_bytes: largest decoded array; checked against the header before anything is allocated.

    Returns:
        An array of shape (F, H, W) for grey or (F, H, W, 3) for colour, of the file's integer or
        float type, and the layout whose `photometric_interpretation` is that of the array:
        MONOCHROME1, MONOCHROME2 or RGB. YBR and palettes are converted to RGB.

    Raises:
        DicomError: pixels missing, too many, damaged, contradicting the header, or in a transfer
            syntax that needs a decoder which is not installed.
    """
    path, dataset, syntax = file.path, file.dataset, file.transfer_syntax
    layout = _layout(dataset, path, max_bytes)
    doing = f"decode its pixels, {syntax.name} ({syntax})"
    with refusing(path, doing):
        decoder = get_decoder(syntax)
    with refusing(path, f"read {layout.pixel_keyword}"):
        element = dataset[layout.pixel_keyword]
        value = element.value if isinstance(element.value, bytes) else b""
    if syntax.is_encapsulated:
        value, layout = _whole_frames(value, layout, file)
    else:
        value = _whole_values(value, layout, path)
    if syntax.startswith(_JPEG) and not {"pylibjpeg", "gdcm"} & {*decoder.available_plugins}:
        doing += ', perhaps for want of a decoder: pip install "medlab[dicom]"'
    options: dict[str, Any] = asdict(layout)
    options |= {"pixel_vr": str(element.VR), "allow_excess_frames": False}
    with refusing(path, doing, warned="error"):
        array, properties = decoder.as_array(value, **options)
        photometric = str(properties["photometric_interpretation"])
    if photometric == "PALETTE COLOR":
        array, photometric = _through_palette(array, file), "RGB"
    shape: tuple[int, ...] = (layout.number_of_frames, layout.rows, layout.columns)
    shape += (3,) if photometric == "RGB" else ()
    if (
        photometric not in ("MONOCHROME1", "MONOCHROME2", "RGB")
        or array.size != np.prod(shape, dtype=np.int64)
        or (photometric == "RGB" and array.dtype.kind == "f")
    ):
        raise DicomError(
            f"{path}: {photometric} pixels of {array.shape} and {array.dtype} are not supported; "
            f"the header speaks of {shape}"
        )
    array = array.reshape(shape).astype(array.dtype.newbyteorder("="), copy=False)
    return array, replace(layout, photometric_interpretation=photometric)


def _layout(dataset: Dataset, path: Path, max_bytes: int) -> Layout:
    """The header's account, less far from the standard than pydicom's decoders take it."""
    present = [keyword for keyword in ("PixelData", *_FLOATS) if keyword in dataset]
    if len(present) != 1:
        kind = text(dataset, "SOPClassUID", path)
        kind = UID(kind or text(dataset.file_meta, "MediaStorageSOPClassUID", path)).name
        what = "more than one kind of pixel data" if present else "no PixelData element"
        raise DicomError(f"{path}: holds no image{f' but a {kind}' if kind else ''}: {what}")

    def value(name: str, default: int | None = None) -> int:
        found = integer(dataset, name, path)
        found = default if found is None else found
        if found is None:
            raise DicomError(
                f"{path}: the header has no {name}, without which the pixels cannot be laid out"
            )
        return found

    floats = _FLOATS.get(present[0])  # their type says what the header must say of integers
    allocated = floats or value("BitsAllocated")
    layout = Layout(
        rows=value("Rows"),
        columns=value("Columns"),
        number_of_frames=value("NumberOfFrames", 1) or 1,  # 0 is written for a single image
        samples_per_pixel=value("SamplesPerPixel", 1),
        bits_allocated=allocated,
        bits_stored=value("BitsStored", floats),
        pixel_representation=value("PixelRepresentation", 1 if floats else None),
        planar_configuration=value("PlanarConfiguration", 0),
        photometric_interpretation=text(dataset, "PhotometricInterpretation", path).upper(),
        pixel_keyword=present[0],
    )
    if not layout.photometric_interpretation:
        raise DicomError(f"{path}: the header has no PhotometricInterpretation")
    high = value("HighBit", layout.bits_stored - 1)
    if high != layout.bits_stored - 1 and present[0] == "PixelData":
        raise DicomError(
            f"{path}: HighBit {high} does not belong to BitsStored {layout.bits_stored}: the "
            "values' place in the word is unclear"
        )
    pixels = layout.number_of_frames * layout.rows * layout.columns
    decoded = pixels * layout.samples_per_pixel * max(8, allocated) // 8
    if decoded > max_bytes:
        raise DicomError(
            f"{path}: {layout} need {decoded:,} bytes, above the limit of {max_bytes:,}; pass "
            "max_bytes= if that is right"
        )
    return layout


def _whole_values(value: bytes, layout: Layout, path: Path) -> bytes:
    """Uncompressed pixel data less their padding; neither too short nor with pixels left over."""
    expected = ceil(layout.frame_bits * layout.number_of_frames / 8)
    if len(value) < expected:
        raise DicomError(
            f"{path}: the pixel data are too short: {len(value):,} bytes for {layout}, which need "
            f"{expected:,}; the file is truncated or its header wrong"
        )
    excess = value[expected:]
    if len(excess) > 1:
        if len(excess) * 8 >= layout.frame_bits or excess.strip(b"\0"):
            raise DicomError(
                f"{path}: {len(excess):,} bytes of pixel data are left over after {layout}: the "
                "header's size is wrong, and reading on would lose pixels"
            )
        warnings.warn(
            f"{path}: {len(excess):,} zero bytes after the pixels were taken for padding",
            stacklevel=2,
        )
    return value[:expected].ljust(expected + expected % 2, b"\0")


def _whole_frames(value: bytes, layout: Layout, file: DicomFile) -> tuple[bytes, Layout]:
    """Compressed frames, each checked and packed anew, and their colours by their own account."""
    path, count, position = file.path, layout.number_of_frames, 0
    while value[position : position + 4] == b"\xfe\xff\x00\xe0" and position + 8 <= len(value):
        position += 8 + int.from_bytes(value[position + 4 : position + 8], "little")
    if position != len(value):
        raise DicomError(
            f"{path}: the compressed pixel data are truncated or damaged: their items end at byte "
            f"{position:,} of {len(value):,}"
        )
    with refusing(path, "find its compressed frames", warned="error"):
        frames = list(generate_frames(value, number_of_frames=count))
    if len(frames) != count:
        raise DicomError(
            f"{path}: NumberOfFrames says {count}, but {len(frames)} compressed frame(s) were found"
        )
    header, colours = layout.photometric_interpretation, set()
    for k, frame in enumerate(frames):
        if file.transfer_syntax.startswith(_JPEG):
            with refusing(path, "follow a compressed frame to its end"):
                head = _whole_stream(frame, layout, file)
            frames[k], colour = _own_colours(frame, head, layout)
            colours.add(colour)
        elif file.transfer_syntax == RLELossless and len(frame) > layout.frame_bits // 2 + 100:
            raise DicomError(f"{path}: an RLE frame has more bytes than its size could need")
    if len(colours) > 1:
        raise DicomError(f"{path}: its frames are compressed in different colours: {colours}")
    colour = colours.pop() if colours else header
    if colour != header:
        warnings.warn(
            f"{path}: the header says {header}, the JPEG stream {colour}: the stream was believed",
            stacklevel=2,
        )
    value = encapsulate(frames, has_bot=False)
    return value, replace(layout, photometric_interpretation=colour)


def _whole_stream(frame: bytes, layout: Layout, file: DicomFile) -> bytes:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 stream of another size than the header's, or not whole.

    Returns:
        Its head, up to the first coded data.
    """
    size: tuple[int, ...] = ()
    precision, wrong = 0, ""
    if file.transfer_syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        kind, position = "JPEG", 2
        if frame[:2] != b"\xff\xd8":
            wrong = "does not start as one"
        while not wrong and (code := frame[position + 1]) != 0xDA:  # segments before the first scan
            if frame[position] != 0xFF:
                wrong = f"is damaged at byte {position}"
            if code in _JPEG_FRAMES:
                precision, *size_read = struct.unpack_from(">BHHB", frame, position + 4)
                size = tuple(size_read)
            length = int.from_bytes(frame[position + 2 : position + 4], "big")
            position += 1 if code == 0xFF else 2 + length
        counted = b"\xff\xdd\x00\x04" in frame  # only then may restart markers stand in the data
        for scan in frame[position:].split(b"\xff\xda"):
            restarts = b"".join(re.findall(rb"\xff([\xd0-\xd7])", scan))
            if restarts != bytes(0xD0 + k % 8 for k in range(counted * len(restarts))):
                wrong = wrong or "has a restart marker out of order"
    else:
        kind, start = "JPEG 2000", frame.index(b"\xff\x4f\xff\x51", 0, 200)  # after boxes of JP2
        x1, y1, x0, y0, width, height, left, top = struct.unpack_from(">8L", frame, start + 8)
        size, precision = (y1 - y0, x1 - x0, frame[start + 41]), (frame[start + 42] & 127) + 1
        position = frame.index(b"\xff\x90\x00\x0a", start)
        tiles = len(set(re.findall(rb"\xff\x90\x00\x0a(..)", frame, re.DOTALL)))
        if tiles != ceil((x1 - left) / width) * ceil((y1 - top) / height):
            wrong = f"has {tiles} of its tiles only"
    ours = (layout.rows, layout.columns, layout.samples_per_pixel)
    end = frame.find(b"\xff\xd9", position)
    if end < 0:
        wrong = wrong or "has no end marker (FF D9): it is truncated"
    elif len(frame) > end + 3 and frame[end + 2 :].strip(b"\0"):
        wrong = wrong or f"has {len(frame) - end - 2:,} bytes that follow the end"
    if not wrong and (size != ours or precision > max(8, layout.bits_allocated)):
        wrong = (
            f"has {size} rows, columns and samples of {precision} bits; the header says "
            f"{ours} and {layout.bits_allocated} bits"
        )
    if wrong:
        raise DicomError(f"{file.path}: a {kind} stream {wrong}")
    return frame[:position]


def _own_colours(frame: bytes, head: bytes, layout: Layout) -> tuple[bytes, str]:
    """The colour space that a JPEG stream names goes before the header's, which is often wrong.

    Decoders disagree on Adobe's mark for YCbCr: some convert, some leave it to pydicom. It is made
    unreadable, so that none does.
    """
    header = layout.photometric_interpretation
    if layout.samples_per_pixel != 3 or head[:2] != b"\xff\xd8":
        return frame, header
    adobe = re.search(rb"\xff\xee\x00\x0eAdobe.{6}([\0\1])", head, re.DOTALL)
    if adobe and adobe[1] == b"\1":
        frame = frame.replace(b"Adobe", b"adobe", 1)
    if re.search(rb"\xff[\xc0-\xcf\xf7]\x00\x11.{5}\x03[Rr]..[Gg]..[Bb]", head, re.DOTALL) or (
        adobe and adobe[1] == b"\0"
    ):
        found = "RGB"
    else:
        found = "YBR_FULL" if adobe or b"JFIF\0" in head else header
    return frame, header if header[:3] == found[:3] else found


def _through_palette(indices: np.ndarray, file: DicomFile) -> np.ndarray:
    """Palette indices replaced by colours; 8 bits where nothing is lost by it, else 16."""
    with refusing(file.path, "apply its colour palette"):
        colours = apply_color_lut(indices, file.dataset)
    high, low = colours >> 8, colours & 255
    if colours.dtype == np.uint16 and (np.array_equal(high, low) or not low.any()):
        return high.astype(np.uint8)
    return colours
