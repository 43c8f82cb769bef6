"""Open a DICOM file without trusting it: bounded in memory, complete, one kind of error."""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

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

MAX_BYTES = 2 * 2**30
"""Largest file, and largest decoded pixel array, read unless the caller allows more: 2 GiB."""

# What pydicom, Pillow and the other decoders raise on damaged bytes. It is caught only around calls
# into them, never around medlab's own code, so that a mistake of ours still shows itself as one.
_FOREIGN_ERRORS = (
    *(ArithmeticError, AttributeError, BytesLengthException, EOFError, InvalidDicomError),
    *(LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError, Warning),
    *(struct.error, zlib.error),
)
_LIBRARIES = "pydicom|PIL|pylibjpeg|libjpeg|openjpeg|rle|gdcm|jpeg_ls"
_FILTERS = threading.RLock()  # the warning filters belong to the process, not to a thread


@contextmanager
def refusing(
    path: Path | str, doing: str, *, warned: Literal["ignore", "error"] = "ignore"
) -> Iterator[None]:
    """Turn what a library raises on bad bytes into a DicomError that names the file.

    Args:
        path: the file that is being read.
        doing: what was attempted, to follow "cannot", such as "read its header".
        warned: "ignore" silences the libraries' warnings, most of which are about spelling;
            "error" takes them for damage.

    Raises:
        DicomError: in place of what pydicom, Pillow and the other decoders raise.
    """
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.filterwarnings(warned, module=_LIBRARIES)
            yield
    except DicomError:
        raise
    except _FOREIGN_ERRORS as error:
        reason = " ".join(str(error).split())[:300] or "damaged bytes"
        raise DicomError(f"{path}: cannot {doing} ({type(error).__name__}: {reason})") from error


class _Reader(io.BufferedReader):
    """A file of which no more is asked than it has: damaged lengths speak of gigabytes."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def open_dicom(path: Path | str, *, pixels: bool = True, max_bytes: int = MAX_BYTES) -> Dataset:
    """Parse one DICOM file, refusing what is damaged.

    Args:
        path: a file in the DICOM file format (128 bytes, then `DICM`).
        pixels: read the pixel data too; False stops before them, whatever the file's size.
        max_bytes: largest file read with its pixels, and largest inflated data set.

    Returns:
        Its data set, with the `file_meta` that names the transfer syntax.

    Raises:
        DicomError: not a DICOM file, damaged, incomplete, or larger than `max_bytes`.
    """
    path = Path(path)
    if not path.is_file():
        hint = "expected a file; for a folder use read_series"
        raise DicomError(f"{path}: {hint if path.exists() else 'no such file'}")
    with refusing(path, "read it"), _Reader(io.FileIO(str(path))) as stream:
        size = path.stat().st_size
        if pixels and size > max_bytes:
            raise DicomError(
                f"{path}: {size:,} bytes, above the limit of {max_bytes:,}; pass max_bytes= to "
                "allow more"
            )
        if stream.read(132)[128:] != b"DICM":
            raise DicomError(
                f"{path}: not a DICOM file (bytes 128 to 131 are not 'DICM'). If it is DICOM "
                "without a file header, write it anew with a tool that adds one, such as "
                "pydicom.dcmread(path, force=True).save_as(...)"
            )
        meta = read_dataset(stream, False, True, stop_when=_past_file_meta)
        syntax = UID(str(meta.get("TransferSyntaxUID") or "").strip())
        if not syntax or syntax.is_private or not syntax.is_transfer_syntax:
            raise DicomError(
                f"{path}: {str(syntax)!r} (0002,0010) is not a known transfer syntax, so the bytes "
                "cannot be interpreted safely"
            )
        source: BinaryIO = stream
        if syntax == DeflatedExplicitVRLittleEndian:
            inflated = _inflate(stream.read(), path, max_bytes)
            source, size = io.BytesIO(inflated), len(inflated)
        size -= source.tell()
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        dataset = read_dataset(source, implicit, little, stop_when=None if pixels else _at_pixels)
        dataset.file_meta = FileMetaDataset(meta)
        dataset.file_meta.TransferSyntaxUID = syntax
    if not dataset and size >= 8:  # pydicom's answer, with a warning, to an unexpected end
        raise DicomError(
            f"{path}: the file is truncated or damaged: its data set cannot be read to the end"
        )
    for element in dataset.values():  # pydicom hands back a shorter value without a word
        if isinstance(element, RawDataElement) and element.length != 0xFFFFFFFF:
            present = len(element.value or b"")
            if present < element.length:
                raise DicomError(
                    f"{path}: the file is truncated: it ends inside element {element.tag}, which "
                    f"declares {element.length:,} bytes and has {present:,}"
                )
    return dataset


def _inflate(data: bytes, path: Path, max_bytes: int) -> bytes:
    """Inflate a deflated data set, at most to `max_bytes`: a bomb of zeros grows a thousandfold."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data, max_bytes)
    if inflater.unconsumed_tail:
        raise DicomError(
            f"{path}: its deflated data set grows beyond {max_bytes:,} bytes; pass max_bytes= to "
            "allow more"
        )
    if not inflater.eof:
        raise DicomError(f"{path}: its deflated data set ends early: the file is truncated")
    return inflated


def _past_file_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag >> 16 != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)


def _value(dataset: Dataset, keyword: str, path: Path | str) -> Any:
    with refusing(path, f"read {keyword}"):
        value = dataset.get(keyword)
        if isinstance(value, (bytes, str)) and not value.strip():
            return None
        return value


def text(dataset: Dataset, keyword: str, path: Path | str, default: str = "") -> str:
    """One header value as text, `default` where absent; several are joined by a backslash."""
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
    """Header values as finite floats, `count` of them; None where absent."""
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


def number(dataset: Dataset, keyword: str, path: Path | str) -> float | None:
    """One finite header number, None where absent."""
    result = numbers(dataset, keyword, path, count=1)
    return None if result is None else result[0]


def integer(dataset: Dataset, keyword: str, path: Path | str) -> int | None:
    """One whole header number, None where absent."""
    result = number(dataset, keyword, path)
    if result is None:
        return None
    if not result.is_integer():
        raise DicomError(f"{path}: {keyword} must be a whole number, got {result}")
    return int(result)


def sequence(dataset: Dataset, keyword: str, path: Path | str) -> list[Dataset]:
    """The items of a header sequence, an empty list where absent."""
    value = _value(dataset, keyword, path)
    with refusing(path, f"read {keyword}"):
        items = [] if value is None else list(value)
    if not all(isinstance(item, Dataset) for item in items):
        raise DicomError(f"{path}: {keyword} must be a sequence, its value is damaged")
    return items
