"""What lies in the pixel data beside the picture: overlay bits, trailing bytes, comments.

Compressed frames are blanked where they hold text, and packed anew; what lay between them goes.

Source: DICOM PS3.5 8.1.1 (unused bits), A.4 (encapsulation); ITU-T T.81 Annex B (JPEG), T.87 Annex
C (JPEG-LS), T.800 Annex A (JPEG 2000).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import index
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import ExplicitVRBigEndian, RLELossless, UncompressedTransferSyntaxes

from medlab.dicom.source import integer, refusing
from medlab.errors import DicomError

# How a stream starts, and the markers that end its coded data: JPEG stuffs FF 00 and restarts with
# D0 to D7, JPEG-LS stuffs a bit, JPEG 2000 has nothing above FF 8F there but SOP and EPH.
_STREAMS = {
    "JPEG-LS": (b"\xff\xd8", re.compile(rb"\xff+([\x80-\xcf\xd8-\xfe])")),
    "JPEG 2000": (b"\xff\x4f", re.compile(rb"\xff([\x90\xd9])")),
    "JPEG": (b"\xff\xd8", re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")),
}
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_DATA_FOLLOW, _NO_LENGTH, _END = (0xDA, 0x93), (0xD8, 0x4F, 0x93), 0xD9
_COMMENTS = (0xFE, 0x64, *range(0xE0, 0xF0))
_NEEDED = ((b"JFIF\x00", 12), (b"Adobe", 12), (b"mrfx", 5))  # by a decoder, for the colours


def clean_pixels(clean: Dataset, header: Dataset, path: Path, *, trust: bool) -> None:
    """Leave nothing in the pixel data but the picture.

    Args:
        clean: the data set whose pixel data are replaced; its file meta names the transfer syntax.
        header: the original, which says where overlays lie.
        path: the file, for messages.
        trust: let a stream pass that cannot be searched, such as a video.

    Raises:
        DicomError: the pixel data do not fit the header, are damaged, or cannot be searched.
    """
    syntax = clean.file_meta.TransferSyntaxUID
    native = syntax in UncompressedTransferSyntaxes
    kind = "" if native else next((kind for kind in _STREAMS if kind in syntax.name), "")
    searched = native or kind or syntax == RLELossless
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword not in clean or (trust and not searched):
            continue
        old = clean[keyword]
        if not isinstance(old.value, bytes):
            raise DicomError(f"{path}: {keyword} is empty or damaged")
        if not searched:
            raise DicomError(
                f"{path}: whether its pixel data ({syntax.name}) hold text beside the picture "
                "cannot be seen; decompress the file first, or pass burned_in='keep'"
            )
        if native:
            value = _native(old.value, header, ">" if syntax == ExplicitVRBigEndian else "<", path)
        else:
            value = _compressed(old.value, header, kind, path)
            for table in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
                clean.pop(table, None)
        clean[keyword] = DataElement(old.tag, old.VR, value, is_undefined_length=not native)


def _native(value: bytes, header: Dataset, order: str, path: Path) -> bytes:
    """Cut to the header's size, and every bit cleared that belongs to no stored value."""
    with refusing(path, "measure its pixel data", warned="error"):
        size = index(get_expected_length(header))
    if not 0 < size <= len(value) or value[size + 1 :].strip(b"\0"):
        raise DicomError(f"{path}: {len(value):,} bytes of pixel data, the header says {size:,}")
    value = value[: size + size % 2].ljust(size + size % 2, b"\0")
    allocated = integer(header, "BitsAllocated", path) or 0
    stored = integer(header, "BitsStored", path) or allocated
    high = integer(header, "HighBit", path)
    high = stored - 1 if high is None else high
    if stored == allocated or "PixelData" not in header:
        return value
    if allocated not in (8, 16, 32, 64) or not 0 < stored <= high + 1 <= allocated:
        raise DicomError(
            f"{path}: BitsAllocated {allocated}, BitsStored {stored} and HighBit {high} do not say "
            "where in the word the pixels lie"
        )
    words = np.frombuffer(value, f"{order}u{allocated // 8}")
    one, low = words.dtype.type(1), high + 1 - stored
    kept = words >> low & (one << stored) - one
    if integer(header, "PixelRepresentation", path):
        sign = one << (stored - 1)
        kept = (kept ^ sign) - sign  # the unused high bits repeat the sign
    return (kept << low).astype(words.dtype).tobytes()


def _compressed(value: bytes, header: Dataset, kind: str, path: Path) -> bytes:
    """Frames blanked where no picture is, and packed anew."""
    if any(e.value for e in header if e.tag.group >> 8 == 0x60 and e.tag.element == 0x0102):
        raise DicomError(
            f"{path}: an overlay lies in the unused bits of compressed pixels; decompress the file "
            "first, for example with pydicom's Dataset.decompress"
        )
    count = integer(header, "NumberOfFrames", path) or 1
    with refusing(path, "read its compressed pixel data", warned="error"):
        frames = [bytearray(frame) for frame in generate_frames(value, number_of_frames=count)]
    if len(frames) != count or not all(frames):
        raise DicomError(f"{path}: {len(frames)} compressed frames, the header says {count}")
    for frame in frames:
        for a, b in _asides(bytes(frame), *_STREAMS[kind], path) if kind else ():
            frame[a:b] = bytes(b - a)
    return encapsulate([bytes(frame) for frame in frames])


def _asides(
    stream: bytes, start: bytes, data_end: re.Pattern[bytes], path: Path
) -> Iterator[tuple[int, int]]:
    """From where to where lie bytes that no decoder needs."""
    at, in_data = 0, False
    if not stream.startswith(start):
        raise DicomError(f"{path}: a compressed frame does not start as its kind does")
    while at < len(stream):
        found = data_end.search(stream, at) if in_data else _MARKER.match(stream, at)
        code, at = (found[1][0], found.end()) if found else (None, at)
        length = int.from_bytes(stream[at : at + 2], "big")
        in_data = code in _DATA_FOLLOW
        if code == _END:
            yield at, len(stream)
            return
        if code in _NO_LENGTH:
            continue
        if code is None or length < 2 or at + length > len(stream):
            raise DicomError(f"{path}: a compressed frame is damaged at byte {at}")
        if code in _COMMENTS:
            body = stream[at + 2 : at + length]
            needed = next((size for name, size in _NEEDED if body.startswith(name)), 0)
            yield min(at + 2 + needed, at + length), at + length
        at += length
