"""Compressed pixel data: its frames, and whether each of them is whole.

A decoder that meets a damaged stream often fills what is missing with grey and says nothing. So
before one runs, the frames are cut out of the encapsulated value strictly, and each stream must
carry the header's size and run to its end marker. What this cannot see is a changed byte inside the
entropy-coded data of a lossy or lossless stream: neither DICOM nor JPEG carries a checksum.

Source: DICOM PS3.5 A.4 and Annex G; ITU-T T.81 Annex B (JPEG), T.87 Annex C (JPEG-LS), T.800 Annex
A (JPEG 2000).
"""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from math import ceil
from pathlib import Path

from pydicom.uid import RLELossless

from medlab.dicom.layout import Layout
from medlab.errors import DicomError

__all__ = ["check_jpeg", "check_jpeg2000", "inflate_frame", "split_frames", "unpack_rle"]

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_MARKER_JPEG_LS = re.compile(rb"\xff+([\x80-\xfe])", re.DOTALL)
_STARTS = (b"\xff\xd8", b"\xff\x4f", b"\x00\x00\x00\x0cjP")
_JPEG_LS_FRAME = 0xF7


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
            f"{len(fragments)} fragment(s): "
            "frames are missing, or the header is wrong"
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
                "declares "
                f"{length:,} bytes and has {len(value) - position - 8:,}"
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
            "size: "
            "the stream is damaged or the header is wrong"
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


def check_jpeg(frame: bytes, layout: Layout, path: Path) -> None:
    """Refuse a JPEG or JPEG-LS stream that is cut short, goes on too long or has another size than
    the header.
    """
    if frame[:2] != b"\xff\xd8":
        raise DicomError(f"{path}: a frame does not start as a JPEG stream (FF D8)")
    position, size, restart, scans = 2, None, 0, 0
    while True:
        found = _MARKER.match(frame, position)
        if not found:
            raise DicomError(
                f"{path}: a JPEG frame is damaged at byte {position}: a marker was expected"
            )
        code, position = found.group(1)[0], found.end()
        if code == 0xD9:
            break
        if position + 2 > len(frame):
            raise DicomError(f"{path}: a JPEG frame is truncated")
        (length,) = struct.unpack_from(">H", frame, position)
        body = frame[position + 2 : position + length]
        if length < 2 or position + length > len(frame):
            raise DicomError(f"{path}: a JPEG frame is truncated or damaged at byte {position}")
        position += length
        if code == _JPEG_LS_FRAME or (0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC)):
            if size is not None:
                raise DicomError(f"{path}: a JPEG frame holds two images")
            size = _jpeg_size(body, layout, path)
            kind = code
        elif code == 0xDD and len(body) >= 2:
            (restart,) = struct.unpack(">H", body[:2])
        elif code == 0xDA:
            if size is None:
                raise DicomError(f"{path}: a JPEG frame has no frame header before its data")
            position = _end_of_scan(frame, position, body, size, kind, restart, path)
            scans += 1
    if not scans:
        raise DicomError(f"{path}: a JPEG frame holds no image data")
    _check_tail(frame, position, path)


def _jpeg_size(body: bytes, layout: Layout, path: Path) -> list[tuple[int, int, int]]:
    """Compare the frame header with DICOM's; returns (id, horizontal, vertical sampling) of each
    component.
    """
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise DicomError(f"{path}: a JPEG frame header is cut short")
    precision, rows, columns, samples = struct.unpack_from(">BHHB", body)
    layout.require_stream("JPEG", rows, columns, samples, precision, path)
    parts = [struct.unpack_from("BBB", body, 6 + 3 * k) for k in range(samples)]
    parts = [(name, sampling >> 4, sampling & 15) for name, sampling, _ in parts]
    if not all(1 <= h <= 4 and 1 <= v <= 4 for _, h, v in parts):
        raise DicomError(f"{path}: a JPEG frame header names impossible sampling factors")
    return [*parts, (-1, columns, rows)]


def _end_of_scan(
    frame: bytes,
    position: int,
    header: bytes,
    size: list[tuple[int, int, int]],
    kind: int,
    restart: int,
    path: Path,
) -> int:
    """Where the entropy-coded data end; restart markers must count up and be as many as the size
    asks for.
    """
    pattern = _MARKER_JPEG_LS if kind == _JPEG_LS_FRAME else _MARKER
    restarts = 0
    while True:
        found = pattern.search(frame, position)
        if not found:
            raise DicomError(
                f"{path}: a JPEG frame has no end marker (FF D9): the data are truncated"
            )
        code = found.group(1)[0]
        if not 0xD0 <= code <= 0xD7:
            break
        if not restart or code - 0xD0 != restarts % 8:
            raise DicomError(f"{path}: a JPEG frame is damaged: restart marker out of order")
        restarts += 1
        position = found.end()
    if code not in (0xD9, 0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE) and not 0xE0 <= code <= 0xEF:
        raise DicomError(f"{path}: a JPEG frame is damaged: marker FF {code:02X} inside its data")
    if restart and kind != _JPEG_LS_FRAME:
        expected = ceil(_units(header, size, kind, path) / restart) - 1
        if restarts != expected:
            raise DicomError(
                f"{path}: a JPEG frame is damaged: {restarts} restart markers, its size asks for "
                f"{expected}"
            )
    return found.start()


def _units(header: bytes, size: list[tuple[int, int, int]], kind: int, path: Path) -> int:
    """Number of coded units (MCU) in a scan, ITU-T T.81 A.2."""
    *parts, (_, columns, rows) = size
    wide, high = max(h for _, h, _ in parts), max(v for _, _, v in parts)
    edge = 1 if kind in (0xC3, 0xC7, 0xCB, 0xCF) else 8
    count = header[0] if header else 0
    if count != 1:
        return ceil(columns / (edge * wide)) * ceil(rows / (edge * high))
    own = [(h, v) for name, h, v in parts if len(header) > 1 and name == header[1]]
    if not own:
        raise DicomError(f"{path}: a JPEG scan names a component that its frame header does not")
    h, v = own[0]
    return ceil(ceil(columns * h / wide) / edge) * ceil(ceil(rows * v / high) / edge)


def check_jpeg2000(frame: bytes, layout: Layout, path: Path) -> bytes:
    """Refuse a JPEG 2000 stream that is cut short, lacks tiles or has another size than the header.

    Returns:
        The bare codestream; some writers wrap it in a JP2 file, which DICOM does not allow and
        decoders accept.
    """
    frame = _unwrap_jp2(frame, path)
    if frame[:4] != b"\xff\x4f\xff\x51" or len(frame) < 48:
        raise DicomError(f"{path}: a frame does not start as a JPEG 2000 stream (FF 4F FF 51)")
    x1, y1, x0, y0, tile_w, tile_h, tile_x, tile_y, samples = struct.unpack_from(">8LH", frame, 8)
    if len(frame) < 42 + 3 * samples:
        raise DicomError(f"{path}: a JPEG 2000 frame is truncated")
    precisions = {(frame[42 + 3 * k] & 0x7F) + 1 for k in range(samples)}
    layout.require_stream("JPEG 2000", y1 - y0, x1 - x0, samples, max(precisions, default=0), path)
    if any(frame[43 + 3 * k : 45 + 3 * k] != b"\x01\x01" for k in range(samples)):
        raise DicomError(
            f"{path}: a JPEG 2000 frame has subsampled components, which DICOM does not allow"
        )
    if not tile_w or not tile_h or tile_x > x0 or tile_y > y0:
        raise DicomError(f"{path}: a JPEG 2000 frame has an impossible tile grid")
    tiles = ceil((x1 - tile_x) / tile_w) * ceil((y1 - tile_y) / tile_h)
    if 14 * tiles > len(frame):
        raise DicomError(
            f"{path}: a JPEG 2000 frame declares {tiles:,} tiles in {len(frame):,} bytes"
        )
    position, seen = 2, set()
    while frame[position : position + 2] != b"\xff\xd9":
        if position + 12 > len(frame) or frame[position] != 0xFF:
            raise DicomError(
                f"{path}: a JPEG 2000 frame is truncated or damaged at byte {position}"
            )
        (length,) = struct.unpack_from(">H", frame, position + 2)
        if frame[position + 1] != 0x90:
            if seen:
                raise DicomError(
                    f"{path}: a JPEG 2000 frame is damaged: no tile at byte {position}"
                )
            position += 2 + max(2, length)
            continue
        tile, part_length = struct.unpack_from(">HL", frame, position + 4)
        seen.add(tile)
        if part_length == 0:  # allowed for the last part: it runs to the end marker
            position = frame.rfind(b"\xff\xd9")
            if position < 0:
                raise DicomError(
                    f"{path}: a JPEG 2000 frame has no end marker (FF D9): it is truncated"
                )
            break
        if part_length < 14 or position + part_length + 2 > len(frame):
            raise DicomError(
                f"{path}: a JPEG 2000 frame is truncated: tile {tile} declares {part_length:,} "
                "bytes"
            )
        position += part_length
    if seen != set(range(tiles)):
        raise DicomError(
            f"{path}: a JPEG 2000 frame has tiles {sorted(seen)[:5]}…, not all {tiles}"
        )
    _check_tail(frame, position + 2, path)
    return frame


def _unwrap_jp2(frame: bytes, path: Path) -> bytes:
    if frame[4:8] != b"jP  ":
        return frame
    position = 0
    while position + 8 <= len(frame):
        length, kind = struct.unpack_from(">L4s", frame, position)
        if kind == b"jp2c" and length in (0, len(frame) - position, len(frame) - position - 1):
            return frame[position + 8 :]
        if length < 8:
            break
        position += length
    raise DicomError(f"{path}: a frame is wrapped as a JP2 file whose boxes are damaged")


def _check_tail(frame: bytes, position: int, path: Path) -> None:
    """After the end marker only padding may stand: more would be a frame that nobody decodes."""
    tail = frame[position:]
    if len(tail) > 1 and tail.strip(b"\x00"):
        raise DicomError(
            f"{path}: {len(tail):,} bytes follow the end of a compressed frame: the data are "
            "damaged, "
            "or hold more frames than NumberOfFrames says"
        )
