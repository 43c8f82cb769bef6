"""The label table of one's own images: which row belongs to which file, and what its cells say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd

from medlab.cohort import text
from medlab.datasets._files import reading, some
from medlab.errors import DataError

Classes = Sequence[str] | Mapping[str, str] | None


def read_table(table: Any, *, label: str) -> pd.DataFrame:
    """A table with every cell as text; see `from_folder` for its forms.

    Raises:
        DataError: not a table, no rows, no column `file`, a row without file name.
    """
    with reading("labels must be a CSV file, a dict file -> label, a DataFrame, or 'folder'"):
        if isinstance(table, Mapping | pd.Series):
            table = pd.Series(table, dtype=object).to_frame(label)
        is_file = isinstance(table, str | os.PathLike)
        frame = _csv(Path(table).expanduser()) if is_file else pd.DataFrame(table, dtype=object)
    if "file" not in frame and not isinstance(frame.index, pd.RangeIndex):
        frame = frame.rename_axis("file").reset_index()
    frame = frame.rename(columns=text).map(text)
    require(frame, ["file"])
    if frame.empty or (frame["file"] == "").any():
        raise DataError("the table has no rows, or a row without a name in column 'file'")
    return frame


def _csv(path: Path) -> pd.DataFrame:
    """A file of comma, semicolon or tab; UTF-8; the first line names the columns."""
    with reading(f"{path} cannot be read as a table; save it as 'CSV UTF-8'"):
        first = path.read_text("utf-8-sig").partition("\n")[0]
        sep = max(",;\t", key=first.count)
        kinds: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
        # With header=0 pandas would rename equal columns and make an index of surplus cells.
        frame = pd.read_csv(path, sep=sep, header=None, **kinds)
    return frame[1:].set_axis(frame.iloc[0].to_list(), axis=1).reset_index(drop=True)


def require(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise a DataError unless the table has each of these columns once."""
    for column in columns:
        if list(frame.columns).count(column) != 1:
            has = some(frame.columns, 20)
            raise DataError(f"the table must have one column {column!r}; it has {has}")


def locate(wanted: pd.Series, names: Iterable[str], folder: Path) -> pd.Series:
    """The image that each cell means: whose full path ends like it, with or without its ending.

    Raises:
        DataError: a cell that fits no image, or several.
    """
    cells = wanted.str.replace("\\", "/").map(PurePosixPath)
    home = normalize("NFC", folder.absolute().as_posix())
    index: dict[PurePosixPath, set[str]] = {}
    for depth in {len(cell.parts) for cell in cells}:
        for name in names:
            end = PurePosixPath(*PurePosixPath(home, name).parts[-depth:])
            for key in (end, end.with_suffix("")):
                index.setdefault(key, set()).add(name)
    index |= {PurePosixPath(name): {name} for name in names}
    found = cells.map(lambda cell: list(index.get(cell, ())))
    if len(bad := wanted[found.str.len() != 1]):
        raise DataError(
            f"{len(bad)} rows of the table fit no image of {folder}, or several: {some(bad)}. "
            "Correct the table."
        )
    return found.str[0]


def class_numbers(cells: Iterable[str], classes: Classes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int64 (N,), and the class names; see `from_folder` for `classes`.

    Raises:
        DataError: labels outside the classes.
    """
    cells = list(cells)
    if classes is None:
        found = sorted(set(cells))
        whole = [cell for cell in found if cell.removeprefix("-").isdecimal()]
        classes = [*sorted(whole, key=int), *(cell for cell in found if cell not in whole)]
    pairs = classes.items() if isinstance(classes, Mapping) else zip(classes, classes, strict=True)
    meaning = {text(said): text(name) for said, name in pairs}
    if unknown := sorted(set(cells) - meaning.keys()):
        counted = [f"{cell!r} ({cells.count(cell)} images)" for cell in unknown]
        raise DataError(
            f"labels that are not among the classes {some(meaning, 20)}: {some(counted)}. Correct "
            "the table, or map them: classes={'as in the table': 'class name', …}"
        )
    names = tuple(dict.fromkeys(meaning.values()))
    codes = pd.Categorical([meaning[cell] for cell in cells], categories=names).codes
    return codes.astype(np.int64), names
