"""Open a DICOM file without trusting it: bounded in memory, complete, one kind of error."""

import io
import math
import os
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from medlab.errors import DicomError

MAX_BYTES = 2 * 2**30  # of a file, and of its decoded pixels, unless the caller allows more

_LIBRARIES = "pydicom|PIL|pylibjpeg|libjpeg|openjpeg|rle|gdcm|jpeg_ls"
_FILTERS = threading.RLock()  # the warning filters belong to the process, not to a thread


@contextmanager
def refusing(
    path: Path | str, doing: str, *, warned: Literal["ignore", "error"] = "ignore"
) -> Iterator[None]:
    """Turn what a library raises on bad bytes into a DicomError: "`path`: cannot `doing`".

    `warned` silences the libraries' warnings, most of which are about spelling, or takes them for
    damage. It stands only round calls into them and the reading of bytes, so that a mistake of ours
    elsewhere still shows itself as one.
    """
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.filterwarnings(warned, module=_LIBRARIES)
            yield
    except (DicomError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like on damaged bytes
        reason = " ".join(str(error).split())[:300] or "damaged bytes"
        raise DicomError(f"{path}: cannot {doing} ({type(error).__name__}: {reason})") from error


def require_room(path: Path | str, size: int, max_bytes: int) -> None:
    """Refuse what takes more bytes than the caller allows."""
    if size > max_bytes:
        message = f"{size:,} bytes, above the limit of {max_bytes:,}; pass max_bytes= for more"
        raise DicomError(f"{path}: {message}")


class _Reader(io.BufferedReader):
    """A file of which no more is asked than it has: damaged lengths speak of gigabytes."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def open_dicom(path: Path | str, *, pixels: bool = True, max_bytes: int = MAX_BYTES) -> Dataset:
    """One DICOM file's data set and `file_meta`; a DicomError where it is damaged or incomplete.

    `pixels=False` stops before the pixel data, whatever the file's size; else the file has at most
    `max_bytes`, as an inflated data set has.
    """
    with refusing(path, "read it"), _Reader(io.FileIO(str(path))) as stream:
        size = os.fstat(stream.fileno()).st_size
        require_room(path, size if pixels else 0, max_bytes)
        if stream.read(132)[128:] != b"DICM":
            raise DicomError(f"{path}: not a DICOM file: bytes 128 to 131 are not 'DICM'")
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        syntax = UID(str(meta.get("TransferSyntaxUID") or "").strip())
        if not syntax or syntax.is_private or not syntax.is_transfer_syntax:
            raise DicomError(f"{path}: {str(syntax)!r} (0002,0010) is not a known transfer syntax")
        source: BinaryIO = stream
        if syntax == DeflatedExplicitVRLittleEndian:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            source = io.BytesIO(inflater.decompress(stream.read(), max_bytes))
            size = len(source.getvalue())
            if not inflater.eof:
                raise DicomError(f"{path}: truncated, or inflates beyond max_bytes={max_bytes:,}")
        size -= source.tell()
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        end = None if pixels else lambda tag, vr, length: 0x7FE00008 <= tag <= 0x7FE00010
        dataset = read_dataset(source, implicit, little, stop_when=end)
        dataset.file_meta = FileMetaDataset(meta)
        dataset.file_meta.TransferSyntaxUID = syntax
    if not dataset and size >= 8:  # pydicom's answer, with a warning, to an unexpected end
        raise DicomError(f"{path}: the file is truncated or damaged: its data set does not end")
    for element in dataset.values():  # pydicom hands back a shorter value without a word
        if not isinstance(element, RawDataElement):
            continue
        if len(element.value or b"") < element.length != 0xFFFFFFFF:
            raise DicomError(f"{path}: the file is truncated: it ends inside element {element.tag}")
    return dataset


def looks_like_dicom(path: Path) -> bool:
    """By prefix, or by name: a slice whose start is damaged must be refused, not skipped."""
    if path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    with refusing(path, "open it"), path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _parts(
    dataset: Dataset, keyword: str, path: Path | str, kind: Callable[[Any], Any]
) -> list[Any]:
    """The values of one header element, each made a `kind`; an empty list if absent or blank."""
    with refusing(path, f"read {keyword}"):
        value = dataset.get(keyword)
        if value is None or (isinstance(value, (bytes, str)) and not value.strip()):
            return []
        return [kind(part) for part in (value if isinstance(value, MutableSequence) else [value])]


def text(dataset: Dataset, keyword: str, path: Path | str) -> str:
    """One header value as text, "" where absent; several are joined by a backslash."""
    return "\\".join(_parts(dataset, keyword, path, str)).strip()


def numbers(
    dataset: Dataset, keyword: str, path: Path | str, *, count: int
) -> tuple[float, ...] | None:
    """Header values as finite floats, `count` of them; None where absent."""
    found = tuple(_parts(dataset, keyword, path, float))
    if found and (len(found) != count or not all(map(math.isfinite, found))):
        raise DicomError(f"{path}: {keyword} must be finite, {count} of them; got {found}")
    return found or None


def number(dataset: Dataset, keyword: str, path: Path | str) -> float | None:
    """One finite header number, None where absent."""
    return (numbers(dataset, keyword, path, count=1) or (None,))[0]


def integer(dataset: Dataset, keyword: str, path: Path | str) -> int | None:
    """One whole header number, None where absent."""
    result = number(dataset, keyword, path)
    if result is not None and not result.is_integer():
        raise DicomError(f"{path}: {keyword} must be a whole number, got {result}")
    return None if result is None else int(result)


def sequence(dataset: Dataset, keyword: str, path: Path | str) -> list[Dataset]:
    """The items of a header sequence, an empty list where absent."""
    items = _parts(dataset, keyword, path, lambda item: item)
    if not all(isinstance(item, Dataset) for item in items):
        raise DicomError(f"{path}: {keyword} must be a sequence, its value is damaged")
    return items
