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

__all__ = ["Files", "SeriesInfo", "choose_series", "list_series"]

Files = Path | str | Iterable[Path | str]
"""A folder, which is searched with its subfolders, or the files themselves."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder."""

    uid: str
    description: str
    modality: str
    number: int | None
    files: tuple[Path, ...] = field(repr=False)

    def __str__(self) -> str:
        name = self.description or "no description"
        return f"{self.uid}: {self.modality or '?'}, {name!r}, {len(self.files)} file(s)"


def list_series(folder: Files) -> list[SeriesInfo]:
    """The image series below a folder, largest first.

    Args:
        folder: a folder, searched with its subfolders, or the files themselves.

    Raises:
        DicomError: no such folder, or a file that should be DICOM and cannot be read.
    """
    headers, left_out = _scan(folder)
    _tell(left_out)
    return _group(headers)


def choose_series(
    folder: Files, series: str | int | None
) -> tuple[dict[Path, Dataset], list[tuple[Path, str]]]:
    """Headers of one series by file, and the files left out with their reasons.

    Args:
        folder: where to look.
        series: SeriesInstanceUID or SeriesNumber, None where there is but one.

    Raises:
        DicomError: several series and no choice, none that fits, or a damaged file.
    """
    headers, left_out = _scan(folder)
    _tell(left_out)
    chosen = _choose(_group(headers), series, folder)
    return {path: headers[path] for path in chosen.files}, left_out


def _scan(
    folder: Files,
) -> tuple[dict[Path, Dataset], list[tuple[Path, str]]]:
    """Headers of all image files, and what else was found."""
    named = not isinstance(folder, (str, Path))
    if named:
        paths = [Path(path) for path in folder]
    else:
        root = Path(folder)
        if not root.exists():
            raise DicomError(f"{root}: no such folder")
        found = sorted(root.rglob("*")) if root.is_dir() else [root]
        paths = [path for path in found if path.is_file() and not path.name.startswith(".")]
    headers, left_out = {}, []
    for path in paths:
        if not named and not _looks_like_dicom(path):
            left_out.append((path, "not a DICOM file"))
            continue
        header = open_dicom(path, pixels=False).dataset
        if "Rows" in header:
            headers[path] = header
        else:
            kind = text(header, "Modality", path)
            kind = kind or UID(text(header.file_meta, "MediaStorageSOPClassUID", path)).name
            left_out.append((path, f"{kind}, holds no image"))
    if not headers:
        where = "the files given" if named else folder
        kinds = "; ".join(f"{path.name}: {reason}" for path, reason in left_out[:5])
        raise DicomError(f"{where}: no DICOM image found" + (f" ({kinds})" if kinds else ""))
    return headers, left_out


def _looks_like_dicom(path: Path) -> bool:
    """By prefix, or by name: a slice whose start is damaged must be refused, not skipped."""
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    with refusing(path, "open it"), path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _tell(left_out: list[tuple[Path, str]]) -> None:
    if left_out:
        kinds = ", ".join(f"{path.name} ({reason})" for path, reason in left_out[:5])
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        warnings.warn(f"left out {len(left_out)} file(s): {kinds}{more}", stacklevel=3)


def _group(headers: dict[Path, Dataset]) -> list[SeriesInfo]:
    files = defaultdict(list)
    for path, header in headers.items():
        files[text(header, "SeriesInstanceUID", path)].append(path)
    found = []
    for uid, paths in files.items():
        header, path = headers[paths[0]], paths[0]
        found.append(
            SeriesInfo(
                uid,
                text(header, "SeriesDescription", path),
                text(header, "Modality", path),
                integer(header, "SeriesNumber", path),
                tuple(paths),
            )
        )
    return sorted(found, key=lambda info: (-len(info.files), info.uid))


def _choose(found: list[SeriesInfo], series: str | int | None, folder: Files) -> SeriesInfo:
    where = folder if isinstance(folder, (str, Path)) else "the files given"
    listing = "".join(f"\n  {info}" for info in found)
    if series is None:
        if len(found) == 1:
            return found[0]
        raise DicomError(f"{where}: {len(found)} series; pick one with series=, its UID:{listing}")
    fits = [
        info for info in found if series == (info.number if isinstance(series, int) else info.uid)
    ]
    if len(fits) != 1:
        amount = "no series" if not fits else f"{len(fits)} series"
        raise DicomError(f"{where}: {amount} {series!r}; there are:{listing}")
    return fits[0]
