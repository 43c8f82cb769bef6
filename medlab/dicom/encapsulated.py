"""Compressed pixel data cut into frames, and the two compressions that are plain bytes inside.

Source: DICOM PS3.5 A.4 (encapsulation), Annex G (RLE).
"""

from __future__ import annotations

import itertools
import struct
import zlib
from math import ceil
from pathlib import Path

from pydicom.uid import RLELossless

from medlab.dicom.layout import Layout
from medlab.errors import DicomError

__all__ = ["inflate_frame", "split_frames", "unpack_rle"]

_STARTS = (b"\xff\xd8", b"\xff\x4f", b"\x00\x00\x00\x0cjP")


def split_frames(value: bytes, layout: Layout, syntax: str, path: Path) -> list[bytes]:
    """Cut an encapsulated PixelData value into one byte string a frame.

    Args:
        value: the element's value: an offset table item, then fragment items (PS3.5 A.4).
        layout: the header's pixel description; exactly `layout.frames` frames must be there.
        syntax: transfer syntax UID.
        path: the file, for messages.

    Raises:
        DicomError: broken items, or a number of frames other than the header's.
    """
    items = _items(value, path)
    table, fragments = items[0], items[1:]
    if len(fragments) == layout.frames:
        frames = [fragment for _, fragment in fragments]
    elif layout.frames == 1 and fragments and syntax != RLELossless:
        frames = [b"".join(fragment for _, fragment in fragments)]
    elif len(fragments) > layout.frames and syntax != RLELossless:
        frames = _group(table[1], fragments, layout, path)
    else:
        raise DicomError(
            f"{path}: NumberOfFrames says {layout.frames}, but the pixel data hold "
            f"{len(fragments)} fragment(s): frames are missing, or the header is wrong"
        )
    if not all(frames):
        raise DicomError(f"{path}: frame {frames.index(b'')} of {layout.frames} is empty")
    return frames


def _items(value: bytes, path: Path) -> list[tuple[int, bytes]]:
    """(offset, content) of every item; the value must be used up exactly."""
    items, position = [], 0
    while position + 8 <= len(value):
        tag, length = (
            value[position : position + 4],
            struct.unpack_from("<L", value, position + 4)[0],
        )
        if tag == b"\xfe\xff\xdd\xe0" and length == 0:
            position = len(value)
            break
        if tag != b"\xfe\xff\x00\xe0":
            raise DicomError(
                f"{path}: the compressed pixel data are damaged: no item at byte {position}"
            )
        if position + 8 + length > len(value):
            raise DicomError(
                f"{path}: the compressed pixel data are truncated: the item at byte {position} "
                f"declares {length:,} bytes and has {len(value) - position - 8:,}"
            )
        items.append((position, value[position + 8 : position + 8 + length]))
        position += 8 + length
    if position != len(value) or not items:
        raise DicomError(
            f"{path}: the compressed pixel data are damaged: {len(value) - position} bytes after "
            "the last item"
        )
    return items


def _group(
    table: bytes, fragments: list[tuple[int, bytes]], layout: Layout, path: Path
) -> list[bytes]:
    """Join fragments into frames by the Basic Offset Table, or by where a codestream starts."""
    first = fragments[0][0]
    if table:
        if len(table) != 4 * layout.frames:
            raise DicomError(
                f"{path}: the Basic Offset Table has {len(table) / 4:g} entries for "
                f"{layout.frames} frames"
            )
        starts = set(struct.unpack(f"<{layout.frames}L", table))
        if starts - {offset - first for offset, _ in fragments} or 0 not in starts:
            raise DicomError(f"{path}: the Basic Offset Table points between the fragments")
    else:
        starts = {offset - first for offset, content in fragments if content.startswith(_STARTS)}
    frames: list[bytes] = []
    for offset, content in fragments:
        if offset - first in starts or not frames:
            frames.append(content)
        else:
            frames[-1] += content
    if len(frames) != layout.frames:
        raise DicomError(
            f"{path}: NumberOfFrames says {layout.frames}, but {len(frames)} compressed frame(s) "
            "were found"
        )
    return frames


def unpack_rle(frame: bytes, layout: Layout, path: Path) -> bytes:
    """Decode one RLE Lossless frame to native bytes: little-endian, one colour plane after the
    other.

    Every segment must give exactly the plane's bytes; pydicom cuts off what is too much.

    Source: DICOM PS3.5 Annex G (PackBits).
    """
    depth = max(1, layout.allocated // 8)
    plane = layout.rows * layout.columns
    if layout.allocated == 1:
        plane = ceil(plane / 8)
    wanted = layout.samples * depth
    if len(frame) < 64:
        raise DicomError(f"{path}: the RLE header needs 64 bytes, the frame has {len(frame)}")
    count, *offsets = struct.unpack("<16L", frame[:64])
    if count != wanted:
        raise DicomError(
            f"{path}: the RLE frame has {count} segments, the header asks for {wanted}"
        )
    bounds = [*offsets[:count], len(frame)]
    if bounds[0] != 64 or any(a >= b for a, b in itertools.pairwise(bounds)):
        raise DicomError(f"{path}: the RLE segment offsets {offsets[:count]} are damaged")
    native = bytearray(plane * wanted)
    for index in range(count):
        segment = _unpack_bits(frame[bounds[index] : bounds[index + 1]], plane, path)
        sample, significance = divmod(index, depth)  # most significant byte first
        start = sample * plane * depth + (depth - 1 - significance)
        native[start : start + plane * depth : depth] = segment
    return bytes(native)


def _unpack_bits(segment: bytes, size: int, path: Path) -> bytes:
    """PackBits, stopped as soon as more than `size` bytes come out."""
    out = bytearray()
    position, end = 0, len(segment)
    while position < end:
        code = segment[position]
        position += 1
        if code < 128:
            if position + code + 1 > end and len(out) < size:
                break
            out += segment[position : position + code + 1]
            position += code + 1
        elif code > 128:
            out += segment[position : position + 1] * (257 - code)
            position += 1
        if len(out) > size:
            break
    if len(out) != size:
        amount = "more" if len(out) > size else "fewer"
        raise DicomError(
            f"{path}: an RLE segment decodes to {amount} bytes than the {size:,} of the header's "
            "size: the stream is damaged or the header is wrong"
        )
    return bytes(out)


def inflate_frame(frame: bytes, size: int, path: Path) -> bytes:
    """Inflate one frame of Deflated Image Frame Compression; it must give `size` bytes, or one more
    to be even.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        native = inflater.decompress(frame, size + 2)
    except zlib.error as error:
        raise DicomError(f"{path}: a deflated frame is damaged ({error})") from error
    if not inflater.eof or len(native) not in (size, size + size % 2):
        raise DicomError(
            f"{path}: a deflated frame does not inflate to the header's {size:,} bytes"
        )
    return native[:size]
