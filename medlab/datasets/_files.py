"""Files that may be broken, foreign or hostile: which there are, and one error for all damage."""

from __future__ import annotations

import contextlib
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

from medlab.cohort import DataCard
from medlab.errors import DataError

_COMPANIONS = (  # what lies beside pictures without being one
    " .csv .tsv .txt .md .json .xml .yaml .yml .html .htm .pdf .py .ipynb .xlsx .xls .ods .db .ini"
).split(" ")
# What zipfile, its decompressors, numpy, pandas, Pillow and nibabel raise on damaged input.
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, RuntimeError, TypeError, LookupError, AttributeError),
    *(SyntaxError, OverflowError, MemoryError, AssertionError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


@contextlib.contextmanager
def reading(what: str, *also: type[Exception]) -> Iterator[None]:
    """Make whatever damaged input raises, and `also`, a DataError: `what`, then the reason."""
    try:
        yield
    except (*_BROKEN, *also) as error:
        raise DataError(f"{what}: {error or 'it ends too early'}") from error


def some(names: Iterable, limit: int = 5) -> str:
    """The first few of many names, for a message."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def card_of(facts: dict[str, Any]) -> DataCard:
    """The card whose fields were read from JSON, which knows lists instead of tuples."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return DataCard(**fields)


def listing(folder: Path) -> dict[str, Path]:
    """Every file in `folder` and its subfolders, hidden ones left out, sorted by name.

    Returns:
        Path relative to `folder`, with "/" -> file. Names are in one Unicode form (NFC), since
        macOS and Windows write "ü" differently.

    Raises:
        DataError: no folder, or two names that are one in NFC.
    """
    if not folder.is_dir():
        hint = " Unpack archives first." if folder.is_file() else ""
        raise DataError(f"{folder} is not a folder.{hint}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = normalize("NFC", path.relative_to(folder).as_posix())
        parts = PurePosixPath(name).parts
        if "__MACOSX" in parts or any(p.startswith(".") for p in parts) or not path.is_file():
            continue
        if name in found:
            raise DataError(f"{folder} holds two files called {name}: rename one")
        found[name] = path
    return found


def images_in(folder: Path) -> dict[str, Path]:
    """`listing` without what commonly lies beside pictures, such as tables and texts.

    So a picture of a kind that is not read is refused later, and never left out unseen.

    Raises:
        DataError: nothing is left; as `listing`.
    """
    images = {
        name: path
        for name, path in listing(folder).items()
        if path.suffix.lower() not in _COMPANIONS or (not path.suffix and _is_image(path))
    }
    if not images:
        raise DataError(f"{folder} holds no image, in its subfolders neither")
    return images


def _is_image(path: Path) -> bool:
    """Whether a file without ending, as DICOM files often are, begins like an image."""
    with reading(f"{path} cannot be read"), path.open("rb") as stream:
        head = stream.read(132)
    dicom = head[128:] == b"DICM" and path.name != "DICOMDIR"
    return dicom or head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*"))
