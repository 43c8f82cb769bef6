"""Files that may be broken, foreign or hostile: which there are, and one error for all damage."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from medlab.errors import DataError

_COMPANIONS = (  # what lies beside pictures without being one
    ".csv .tsv .txt .md .json .xml .yaml .yml .html .htm .pdf .py .ipynb .xlsx .xls .ods .db .ini "
    "readme licence license"
).split()


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Make whatever a library raises on damaged input a DataError: `what`, then the reason."""
    try:
        yield
    except Exception as error:
        raise DataError(f"{what}: {error or 'it ends too early'}") from error


def some(names: Iterable, limit: int = 5) -> str:
    """The first few of many names, for a message."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def images_in(folder: Path) -> dict[str, Path]:
    """Path relative to `folder` -> file, less hidden ones, tables, texts and the like.

    So a picture of a kind that is not read is refused later, and never left out unseen. Names have
    Unicode form NFC, since macOS and Windows write "ü" differently.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder. Unpack archives first (data_scripts/unpack.py)."
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = normalize("NFC", path.relative_to(folder).as_posix())
        hidden = any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
        beside = (path.suffix or path.name).lower() in _COMPANIONS
        if hidden or beside or not path.is_file():
            continue
        if name in found:
            raise DataError(f"{folder} holds two files called {name}: rename one")
        found[name] = path
    if not found:
        raise DataError(f"{folder} holds no image, in its subfolders neither")
    return found
