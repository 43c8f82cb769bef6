"""The label table of one's own images: which row belongs to which file, and what its cells say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd

from medlab.datasets._files import reading, some
from medlab.errors import DataError

Classes = Sequence[str] | Mapping[str, str] | None


def read_table(table: Any, *, file: str, label: str) -> pd.DataFrame:
    """A table with every cell as stripped text, in Unicode form NFC.

    Args:
        table: path of a CSV file (comma, semicolon or tab; UTF-8; first line names the columns), a
            DataFrame, a list of dicts, or a dict or Series file -> label; where no column is called
            `file`, the index is taken for it.
        file: name of the column that holds the file name.
        label: name of the label column, for the dict and the Series.

    Raises:
        DataError: not a table, no rows, no `file` column, a row without file name.
    """
    if isinstance(table, str | os.PathLike):
        frame = _csv(Path(table).expanduser())
    else:
        with reading("labels must be a CSV file, a dict file -> label, a DataFrame, or 'folder'"):
            if isinstance(table, Mapping | pd.Series):
                table = pd.Series(table, dtype=object).to_frame(label)
            frame = pd.DataFrame(table, dtype=object)
        if file not in frame and not isinstance(frame.index, pd.RangeIndex):
            frame = frame.rename_axis(file).reset_index()
    frame = frame.rename(columns=text).map(text)
    require(frame, [file])
    if frame.empty or (frame[file] == "").any():
        raise DataError(f"the table has no rows, or a row without a name in column {file!r}")
    return frame


def require(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise a DataError unless the table has each of these columns once."""
    for column in columns:
        if list(frame.columns).count(column) != 1:
            raise DataError(
                f"the table must have one column {column!r}; it has {some(frame.columns, 20)}"
            )


def locate(wanted: pd.Series, names: Iterable[str], folder: Path) -> pd.Series:
    """The image that each cell of a table means: whose full path ends like the cell.

    So a cell may hold a file name, a path within the folder or from further up, each with or
    without the file's ending.

    Raises:
        DataError: a cell that fits no image, or several.
    """
    cells = wanted.str.replace("\\", "/").map(PurePosixPath)
    home = normalize("NFC", folder.absolute().as_posix())
    index: dict[PurePosixPath, list[str]] = {}
    for depth in {len(cell.parts) for cell in cells}:
        for name in names:
            end = PurePosixPath(*PurePosixPath(home, name).parts[-depth:])
            for key in {end, end.with_suffix("")}:
                index.setdefault(key, []).append(name)
    known = set(names)
    found = cells.map(lambda cell: [str(cell)] if str(cell) in known else index.get(cell, []))
    if len(bad := wanted[found.str.len() != 1]):
        raise DataError(
            f"{len(bad)} rows of the table fit no image of {folder}, or several: {some(bad)}. "
            "Correct the table."
        )
    return found.str[0]


def class_numbers(cells: Iterable[str], classes: Classes) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 (N,) and the class names.

    Args:
        cells: what the table says for each image.
        classes: names in label order; or what the table says -> name; None: what it says, sorted,
            numbers by value.

    Raises:
        DataError: labels outside the classes.
    """
    cells = list(cells)
    if classes is None:
        classes = sorted(set(cells), key=lambda c: (0, int(c), "") if _WHOLE(c) else (1, 0, c))
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


def text(value: Any) -> str:
    """One cell as text; "" for what is missing."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))  # pandas makes 1 into 1.0 where a column has gaps
    return normalize("NFC", str(value)).strip()


_WHOLE = re.compile(r"-?\d+").fullmatch


def _csv(path: Path) -> pd.DataFrame:
    with reading(f"{path} cannot be read as a table; save it as 'CSV UTF-8'"):
        with path.open(encoding="utf-8-sig") as lines:
            first = lines.readline()
        # With header=0 pandas would rename equal columns and make an index of surplus cells.
        frame = pd.read_csv(
            path,
            sep=max(",;\t", key=first.count),
            header=None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    return frame[1:].set_axis(frame.iloc[0].to_list(), axis=1)
