"""Whether a JPEG or JPEG-LS stream is whole.

A decoder that meets a damaged stream often fills what is missing with grey and says nothing. So
before one runs, the stream must carry the header's size and run, marker by marker, to its end. What
this cannot see is a changed byte inside the entropy-coded data: neither DICOM nor JPEG carries a
checksum.

Source: ITU-T T.81 Annex B (JPEG), T.87 Annex C (JPEG-LS).
"""

from __future__ import annotations

import re
import struct
from math import ceil
from pathlib import Path

from medlab.dicom.layout import Layout
from medlab.errors import DicomError

__all__ = ["check_jpeg", "check_tail"]

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_MARKER_JPEG_LS = re.compile(rb"\xff+([\x80-\xfe])", re.DOTALL)
_JPEG_LS_FRAME = 0xF7


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
    check_tail(frame, position, path)


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


def check_tail(frame: bytes, position: int, path: Path) -> None:
    """After the end marker only padding may stand: more would be a frame that nobody decodes."""
    tail = frame[position:]
    if len(tail) > 1 and tail.strip(b"\x00"):
        raise DicomError(
            f"{path}: {len(tail):,} bytes follow the end of a compressed frame: the data are "
            "damaged, or hold more frames than NumberOfFrames says"
        )
