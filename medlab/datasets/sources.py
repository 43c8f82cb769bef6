"""A folder or a .zip full of image files, read without unpacking anything."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from medlab.errors import DataError

__all__ = ["DICOM", "PICTURES", "ImageFiles", "some"]

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM = (".dcm", ".dicom", ".ima")
LARGEST = 1 << 30  # bytes of one file: more is no picture but an accident or an attack


def some(names, limit: int = 5) -> str:
    """The first few of many names, for a message."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


class ImageFiles:
    """The image files of a folder (subfolders too) or of a .zip.

    A zip is read in place: no name in it ever becomes a path on disk. Hidden files are left out.

    Args:
        path: folder, or .zip file.

    Attributes:
        names: paths of the images relative to `path`, with "/", sorted.

    Raises:
        DataError: neither folder nor zip, or no image in it.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).expanduser()
        self._zip: zipfile.ZipFile | None = None
        if self.path.is_dir():
            self._members = {
                file.relative_to(self.path).as_posix(): file
                for file in self.path.rglob("*")
                if file.is_file()
            }
        elif self.path.is_file():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, EOFError) as error:
                raise DataError(
                    f"{self.path} is neither a folder nor a .zip file: {error}"
                ) from error
            self._members = {
                info.filename.replace("\\", "/"): info
                for info in self._zip.infolist()
                if not info.is_dir()
            }
        else:
            raise DataError(f"there is no folder or .zip file {self.path}")
        self.names = tuple(sorted(name for name in self._members if self._is_image(name)))
        if not self.names:
            kinds = sorted({PurePosixPath(name).suffix or "(none)" for name in self._members})
            raise DataError(
                f"{self.path} holds no image. Looked for {', '.join(PICTURES + DICOM)}, in "
                f"subfolders too; found {len(self._members)} files"
                + (f" with endings {some(kinds)}." if kinds else ".")
            )

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(self, *_) -> None:
        if self._zip is not None:
            self._zip.close()

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            DataError: damaged, encrypted or larger than 1 GiB.
        """
        try:
            with self._open(name) as stream:
                pieces, size = [], 0
                # In pieces: a zip may claim a small size and unpack to a huge one.
                while piece := stream.read(1 << 20):
                    size += len(piece)
                    if size > LARGEST:
                        raise DataError(f"{name} is larger than 1 GiB: no single image")
                    pieces.append(piece)
                return b"".join(pieces)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise DataError(f"{name} cannot be read: {error or 'it ends too early'}") from error

    def _open(self, name: str):
        member = self._members[name]
        return open(member, "rb") if self._zip is None else self._zip.open(member)

    def _is_image(self, name: str) -> bool:
        path = PurePosixPath(name)
        if any(part.startswith(".") and part != ".." for part in path.parts):
            return False
        if "__MACOSX" in path.parts or path.name == "DICOMDIR":
            return False
        suffix = path.suffix.lower()
        # DICOM files from an archive often have no ending, or a piece of their UID for one.
        return suffix in PICTURES + DICOM or (
            (not suffix or suffix[1:].isdigit()) and self._is_dicom(name)
        )

    def _is_dicom(self, name: str) -> bool:
        try:
            with self._open(name) as stream:
                return stream.read(132)[128:] == b"DICM"
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
            return False
