"""Whether a JPEG 2000 stream is whole: its size, every tile, its end. See `jpeg` for the reason.

Source: ITU-T T.800 Annex A (codestream), Annex I (JP2 boxes).
"""

from __future__ import annotations

import struct
from math import ceil
from pathlib import Path

from medlab.dicom.jpeg import check_tail
from medlab.dicom.layout import Layout
from medlab.errors import DicomError

__all__ = ["check_jpeg2000"]


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
    check_tail(frame, position + 2, path)
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
