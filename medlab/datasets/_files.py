"""A folder or a .zip full of files, read without unpacking anything."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

from medlab.datasets.npz import BROKEN
from medlab.errors import DataError

PICTURES = ".png .jpg .jpeg .jpe .jfif .tif .tiff .bmp .webp".split()
DICOM = (".dcm", ".dicom", ".ima")
_LARGEST = 1 << 30  # bytes of one file: more is no picture but an accident or an attack
_COMPANIONS = (  # what lies beside pictures without being one
    " .csv .tsv .txt .md .json .xml .yaml .yml .html .htm .pdf .py .ipynb .xlsx .xls .ods .db .ini"
).split(" ")
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")


def some(names: Iterable, limit: int = 5) -> str:
    """The first few of many names, for a message."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


class Files:
    """The files of a folder (subfolders too) or of a .zip; hidden ones are left out.

    A zip is read in place: no name in it ever becomes a path on disk. Names are brought to one
    Unicode form (NFC), since macOS and Windows write "ü" differently.

    Args:
        path: folder, or .zip file.

    Attributes:
        names: paths relative to `path`, with "/", sorted.

    Raises:
        DataError: neither folder nor zip, or two names that are one in NFC.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).expanduser()
        self._zip: zipfile.ZipFile | None = None
        if self.path.is_dir():
            members: list[tuple[str, Any]] = [
                (file.relative_to(self.path).as_posix(), file)
                for file in self.path.rglob("*")
                if file.is_file()
            ]
        elif self.path.is_file():
            try:
                self._zip = zipfile.ZipFile(self.path)
                infos = [info for info in self._zip.infolist() if not info.is_dir()]
            except BROKEN as error:
                raise DataError(
                    f"{self.path} is neither a folder nor a .zip file that can be read: {error}"
                ) from error
            members = [(info.filename.replace("\\", "/"), info) for info in infos]
        else:
            raise DataError(f"there is no folder or .zip file {self.path}")
        self._members: dict[str, Any] = {}  # name -> Path or ZipInfo
        for raw, member in members:
            name = normalize("NFC", raw)
            parts = PurePosixPath(name).parts
            if "__MACOSX" in parts or any(p.startswith(".") and p != ".." for p in parts):
                continue
            if name in self._members:
                raise DataError(f"{self.path} holds two files called {name}: rename one")
            self._members[name] = member
        self.names = tuple(sorted(self._members))

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_) -> None:
        if self._zip is not None:
            self._zip.close()

    def images(self) -> tuple[tuple[str, ...], str]:
        """The names of pictures and DICOM files, and a note on what else there is that may be one.

        Raises:
            DataError: no image.
        """
        images = tuple(name for name in self.names if self._is_image(name))
        rest = Counter(PurePosixPath(name).suffix.lower() for name in set(self.names) - set(images))
        if not images:
            kinds = some(sorted(kind or "(none)" for kind in rest))
            raise DataError(
                f"{self.path} holds no image. Looked for {', '.join((*PICTURES, *DICOM))}, in "
                f"subfolders too; found {len(self.names)} files"
                + (f" with endings {kinds}." if rest else ".")
            )
        odd = [f"{kind} ({n})" for kind, n in sorted(rest.items()) if kind not in _COMPANIONS]
        return images, f"Left out: files of a kind that is not read: {some(odd)}." if odd else ""

    def read(self, name: str, most: int | None = None) -> bytes:
        """The bytes of one file, at most `most` of them if given.

        Raises:
            DataError: damaged, encrypted or larger than 1 GiB.
        """
        limit = _LARGEST if most is None else most
        try:
            with self._open(name) as stream:
                data = stream.read(limit)
                # A zip may claim a small size and unpack to a huge one.
                if most is None and stream.read(1):
                    raise DataError(f"{name} is larger than {limit >> 20} MiB: no single image")
                return data
        except DataError:
            raise
        except BROKEN as error:
            raise DataError(f"{name} cannot be read: {error or 'it ends too early'}") from error

    def _open(self, name: str):
        member = self._members[name]
        return open(member, "rb") if self._zip is None else self._zip.open(member)

    def _is_image(self, name: str) -> bool:
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if suffix in (*PICTURES, *DICOM):
            return True
        # DICOM files from an archive often have no ending, or a piece of their UID for one.
        if path.name == "DICOMDIR" or (suffix and not suffix[1:].isdigit()):
            return False
        try:
            head = self.read(name, 132)
        except DataError:
            return False
        return head[128:] == b"DICM" or head.startswith(_MAGIC) or head[8:12] == b"WEBP"
