"""Open a DICOM file without trusting it: bounded in memory, complete, and with one kind of
error.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from medlab.errors import DicomError

__all__ = [
    "DEFLATED_FRAMES",
    "FOREIGN_ERRORS",
    "MAX_BYTES",
    "DicomFile",
    "integer",
    "number",
    "numbers",
    "open_dicom",
    "refusing",
    "sequence",
    "text",
]

MAX_BYTES = 2 * 2**30
"""Largest file, and largest decoded pixel array, that is read unless the caller allows more: 2
GiB.
"""

FOREIGN_ERRORS = (
    InvalidDicomError,  # pydicom: no DICM prefix, or a value that contradicts its VR
    BytesLengthException,  # pydicom: a binary value whose length does not fit its VR
    EOFError,  # pydicom: the file ends inside an element or a sequence
    OSError,  # pydicom: no tag where a sequence item should be; Pillow: broken or truncated stream
    struct.error,  # pydicom: a binary number cut short
    zlib.error,  # a deflated stream that is damaged
    ValueError,  # pydicom: a number, date or character set that does not parse; wrong pixel length
    TypeError,  # pydicom: an empty or repeated value where one number belongs
    LookupError,  # pydicom: unknown tag, VR, character set; an item that is not there
    AttributeError,  # pydicom: a required element is absent, or an item is not a dataset
    NotImplementedError,  # pydicom: unknown VR or transfer syntax
    ArithmeticError,  # decimal strings such as 1E999999
    RecursionError,  # pydicom: sequences nested thousands deep
    RuntimeError,  # pydicom: every decoder plug-in failed on a frame
    SyntaxError,  # Pillow: a JPEG 2000 or JPEG header that is not one
)
"""What pydicom and the pixel decoders raise on damaged bytes.

It is caught only around calls into those libraries (see `refusing`), never around medlab's own
code, so that a mistake of ours still shows itself as one.
"""

DEFLATED_FRAMES = UID("1.2.840.10008.1.2.8.1")
"""Deflated Image Frame Compression, which pydicom's UID dictionary does not have yet."""

_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


@contextmanager
def refusing(path: Path | str, doing: str) -> Iterator[None]:
    """Turn what a library raises on bad bytes into a DicomError that names the file.

    Its warnings are silenced: most are about spelling, and those that would mean lost data (a value
    cut short, a sequence without end, left-over pixels) are checked for here and refused.

    Args:
        path: the file that is being read.
        doing: what was attempted, to follow "cannot", such as "read its header".

    Raises:
        DicomError: in place of any of `FOREIGN_ERRORS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DicomError:
        raise
    except FOREIGN_ERRORS as error:
        reason = " ".join(str(error).split())[:300] or "damaged bytes"
        raise DicomError(f"{path}: cannot {doing} ({type(error).__name__}: {reason})") from error


@dataclass(frozen=True)
class DicomFile:
    """A parsed file: its data set, file meta information and transfer syntax."""

    path: Path
    dataset: Dataset
    transfer_syntax: UID


def open_dicom(path: Path | str, *, pixels: bool = True, max_bytes: int = MAX_BYTES) -> DicomFile:
    """Parse one DICOM file, refusing what is damaged.

    Args:
        path: a file in the DICOM file format (128 bytes, then `DICM`).
        pixels: read the pixel data too; False stops before them.
        max_bytes: largest file, and largest inflated data set, accepted.

    Returns:
        The parsed file. `dataset.file_meta` holds the file meta information.

    Raises:
        DicomError: not a DICOM file, damaged, incomplete, or larger than `max_bytes`.
    """
    path = Path(path)
    raw = _file_bytes(path, max_bytes)
    if raw[128:132] != b"DICM":
        raise DicomError(
            f"{path}: not a DICOM file (bytes 128 to 131 are not 'DICM'). If it is DICOM without a "
            "file header, write it anew with a tool that adds one, such as pydicom.dcmread(path, "
            "force=True).save_as(...)"
        )
    stream = BytesIO(raw)
    stream.seek(132)
    with refusing(path, "read its file meta information"):
        meta = read_dataset(stream, False, True, stop_when=_past_file_meta)
        syntax = UID(str(meta.get("TransferSyntaxUID") or "").strip())
        if not syntax:
            raise DicomError(
                f"{path}: the file meta information names no transfer syntax (0002,0010), so the "
                "bytes cannot be interpreted safely"
            )
        if not _known(syntax):
            raise DicomError(f"{path}: {str(syntax)!r} (0002,0010) is not a known transfer syntax")
    if syntax == DeflatedExplicitVRLittleEndian:
        stream = BytesIO(_inflate(raw[stream.tell() :], path, max_bytes))
    stop = None if pixels else _at_pixels
    with refusing(path, "read its data set"):
        start = stream.tell()
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        dataset = read_dataset(stream, implicit, little, stop_when=stop)
        dataset.file_meta = FileMetaDataset(meta)
    if not dataset and len(stream.getbuffer()) - start >= 8:
        # pydicom answers an unexpected end with an empty data set and a warning
        raise DicomError(
            f"{path}: the file is truncated or damaged: its data set cannot be read to the end"
        )
    _require_complete(dataset, path)
    return DicomFile(path, dataset, syntax)


def _file_bytes(path: Path, max_bytes: int) -> bytes:
    if not path.exists():
        raise DicomError(f"{path}: no such file")
    if not path.is_file():
        raise DicomError(f"{path}: expected a file; for a folder use read_series or list_series")
    size = path.stat().st_size
    if size > max_bytes:
        raise DicomError(
            f"{path}: {size:,} bytes, above the limit of {max_bytes:,}; pass max_bytes= to allow "
            "more"
        )
    with refusing(path, "open it"):
        return path.read_bytes()


def _inflate(data: bytes, path: Path, max_bytes: int) -> bytes:
    """Inflate a deflated data set, at most to `max_bytes`: a bomb of zeros grows a thousandfold."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with refusing(path, "inflate its deflated data set"):
        inflated = inflater.decompress(data, max_bytes)
    if inflater.unconsumed_tail:
        raise DicomError(
            f"{path}: its deflated data set grows beyond {max_bytes:,} bytes; pass max_bytes= to "
            "allow more"
        )
    if not inflater.eof:
        raise DicomError(f"{path}: its deflated data set ends early: the file is truncated")
    return inflated


def _known(syntax: UID) -> bool:
    return syntax == DEFLATED_FRAMES or (not syntax.is_private and syntax.is_transfer_syntax)


def _past_file_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag >> 16 != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in _PIXEL_TAGS


def _require_complete(dataset: Dataset, path: Path) -> None:
    """Refuse a file that ends inside an element: pydicom would hand back the shorter value without
    a word.
    """
    for element in dataset.values():
        if not isinstance(element, RawDataElement) or element.length == 0xFFFFFFFF:
            continue
        present = len(element.value or b"")
        if present < element.length:
            raise DicomError(
                f"{path}: the file is truncated: it ends inside element {element.tag}, which "
                f"declares {element.length:,} bytes and has {present:,}"
            )


def _value(dataset: Dataset, keyword: str, path: Path | str) -> object:
    with refusing(path, f"read {keyword}"):
        value = dataset.get(keyword)
        if value is None or (isinstance(value, (bytes, str)) and not value.strip()):
            return None
        return value


def text(dataset: Dataset, keyword: str, path: Path | str, default: str = "") -> str:
    """One header value as text, `default` where it is absent; several are joined by a backslash as
    in the file.
    """
    value = _value(dataset, keyword, path)
    if value is None:
        return default
    with refusing(path, f"read {keyword}"):
        if isinstance(value, (list, tuple)) or hasattr(value, "append"):
            return "\\".join(str(part) for part in value)
        return str(value).strip()


def numbers(
    dataset: Dataset, keyword: str, path: Path | str, *, count: int | None = None
) -> tuple[float, ...] | None:
    """Header values as finite floats, None where absent.

    Raises:
        DicomError: not numbers, not finite, or not `count` of them.
    """
    value = _value(dataset, keyword, path)
    if value is None:
        return None
    with refusing(path, f"read {keyword}"):
        parts = [value] if isinstance(value, (str, int, float)) else list(value)
        result = tuple(float(part) for part in parts)
    if not all(map(math.isfinite, result)):
        raise DicomError(f"{path}: {keyword} must be finite numbers, got {value}")
    if count is not None and len(result) != count:
        raise DicomError(f"{path}: {keyword} must be {count} number(s), got {len(result)}: {value}")
    return result


def number(
    dataset: Dataset, keyword: str, path: Path | str, default: float | None = None
) -> float | None:
    """One finite header number, `default` where it is absent."""
    result = numbers(dataset, keyword, path, count=1)
    return default if result is None else result[0]


def integer(
    dataset: Dataset, keyword: str, path: Path | str, default: int | None = None
) -> int | None:
    """One whole header number, `default` where it is absent."""
    result = number(dataset, keyword, path)
    if result is None:
        return default
    if not result.is_integer():
        raise DicomError(f"{path}: {keyword} must be a whole number, got {result}")
    return int(result)


def sequence(dataset: Dataset, keyword: str, path: Path | str) -> list[Dataset]:
    """The items of a header sequence, an empty list where it is absent."""
    value = _value(dataset, keyword, path)
    if value is None:
        return []
    with refusing(path, f"read {keyword}"):
        items = list(value)
    if not all(isinstance(item, Dataset) for item in items):
        raise DicomError(f"{path}: {keyword} must be a sequence, its value is damaged")
    return items
