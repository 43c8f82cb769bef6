"""The DICOM files of a folder, by series."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from medlab.dicom.source import integer, open_dicom, refusing, text
from medlab.errors import DicomError

Files = Path | str | Iterable[Path | str]
"""A folder, which is searched with its subfolders, or the files themselves."""

LeftOut = tuple[tuple[Path, str], ...]
"""Files that hold no image, each with what they are."""


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder: its UID, what the header calls it, its files and their headers."""

    uid: str
    description: str
    modality: str
    number: int | None
    files: tuple[Path, ...] = field(repr=False)
    headers: tuple[Dataset, ...] = field(repr=False, compare=False)

    def __str__(self) -> str:
        name = self.description or "no description"
        return f"{self.uid}: {self.modality or '?'}, {name!r}, {len(self.files)} file(s)"


def list_series(folder: Files) -> list[SeriesInfo]:
    """The image series below a folder, largest first. Only headers are read, however large a file.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves.

    Raises:
        DicomError: no such folder, or a file that should be DICOM and cannot be read.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> [str(info).split(": ")[1] for info in list_series([get_testdata_file("CT_small.dcm")])]
        ["CT, 'no description', 1 file(s)"]
    """
    return _scan(folder)[0]


def choose_series(folder: Files, series: str | int | None) -> tuple[SeriesInfo, LeftOut]:
    """The series of that SeriesInstanceUID or SeriesNumber, or the only one; and what is no image.

    Raises:
        DicomError: several series and no choice, none that fits, or a damaged file.
    """
    found, left_out = _scan(folder)
    where = folder if isinstance(folder, (str, Path)) else "the files given"
    listing = "".join(f"\n  {info}" for info in found)
    if series is None and len(found) > 1:
        raise DicomError(f"{where}: {len(found)} series; pick one with series=, its UID:{listing}")
    fits = [info for info in found if series in (None, info.uid, info.number)]
    if len(fits) != 1:
        amount = "no series" if not fits else f"{len(fits)} series"
        raise DicomError(f"{where}: {amount} {series!r}; there are:{listing}")
    return fits[0], left_out


def _scan(folder: Files) -> tuple[list[SeriesInfo], LeftOut]:
    named = not isinstance(folder, (str, Path))
    if not isinstance(folder, (str, Path)):
        paths = [Path(path) for path in folder]
    elif Path(folder).exists():
        below = sorted(Path(folder).rglob("*")) if Path(folder).is_dir() else [Path(folder)]
        paths = [path for path in below if path.is_file() and not path.name.startswith(".")]
    else:
        raise DicomError(f"{folder}: no such folder")
    series: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    left_out = []
    for path in paths:
        if not named and not _looks_like_dicom(path):
            left_out.append((path, "not a DICOM file"))
            continue
        header = open_dicom(path, pixels=False).dataset
        if "Rows" in header:
            series[text(header, "SeriesInstanceUID", path)].append((path, header))
        else:
            kind = text(header, "Modality", path)
            kind = kind or UID(text(header.file_meta, "MediaStorageSOPClassUID", path)).name
            left_out.append((path, f"{kind}, holds no image"))
    kinds = ", ".join(f"{path.name} ({reason})" for path, reason in left_out[:5])
    if not series:
        where = "the files given" if named else folder
        raise DicomError(f"{where}: no DICOM image found" + (f": {kinds}" if kinds else ""))
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        warnings.warn(f"left out {len(left_out)} file(s): {kinds}{more}", stacklevel=4)
    found = []
    for uid, members in series.items():
        files, headers = zip(*members, strict=True)
        name, kind = (text(headers[0], k, files[0]) for k in ("SeriesDescription", "Modality"))
        number = integer(headers[0], "SeriesNumber", files[0])
        found.append(SeriesInfo(uid, name, kind, number, files, headers))
    return sorted(found, key=lambda info: (-len(info.files), info.uid)), tuple(left_out)


def _looks_like_dicom(path: Path) -> bool:
    """By prefix, or by name: a slice whose start is damaged must be refused, not skipped."""
    if path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    with refusing(path, "open it"), path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
