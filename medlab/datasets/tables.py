"""The label table of one's own images: CSV file, dict, list of rows or pandas DataFrame."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from medlab.datasets.sources import some
from medlab.errors import DataError

__all__ = ["Row", "folder_rows", "match", "read_rows"]

Row = dict[str, str]


def read_rows(table: Any, *, file: str, label: str) -> tuple[list[Row], str]:
    """Rows of a table, every cell as stripped text.

    Args:
        table: path of a CSV file (comma, semicolon or tab; UTF-8; first line names the columns), a
            dict file -> label or file -> {column: value}, a list of dicts, or a DataFrame.
        file: name of the column that holds the file name.
        label: name of the label column, for the short dict.

    Returns:
        The rows, and what to call the table in messages.

    Raises:
        DataError: not a table, no `file` column, cells without a column.
    """
    if isinstance(table, str | os.PathLike):
        rows, what = _csv(Path(table).expanduser()), str(table)
    elif isinstance(table, Mapping):
        what = "the label dict"
        rows = [
            {file: name, **(value if isinstance(value, Mapping) else {label: value})}
            for name, value in table.items()
        ]
    elif hasattr(table, "to_dict") and hasattr(table, "columns"):
        rows, what = table.to_dict("records"), "the label DataFrame"
    elif isinstance(table, list | tuple) and all(isinstance(row, Mapping) for row in table):
        rows, what = list(table), "the label list"
    else:
        raise DataError(
            "labels must be the path of a CSV file, a dict file -> label, a DataFrame, or "
            f"'folder'; got {type(table).__name__}"
        )
    if not rows:
        raise DataError(f"{what} has no rows")
    rows = [{str(key).strip(): _text(value) for key, value in row.items()} for row in rows]
    if file not in rows[0]:
        raise DataError(
            f"{what} has no column {file!r} for file names; it has {some(rows[0], 20)}. Name the "
            "right one with file=…"
        )
    return rows, what


def folder_rows(names: tuple[str, ...], *, file: str, label: str) -> list[Row]:
    """One row an image, its label the name of the folder it lies in."""
    loose = [name for name in names if not PurePosixPath(name).parent.name]
    if loose:
        raise DataError(
            f"labels='folder' takes the class from the folder an image lies in, but {len(loose)} "
            f"images lie in none: {some(loose)}"
        )
    return [{file: name, label: PurePosixPath(name).parent.name} for name in names]


def match(
    rows: list[Row], names: tuple[str, ...], *, file: str, what: str
) -> tuple[dict[str, Row], list[str], list[str], int]:
    """Find the row of each image, by path, else by file name, else by name without ending.

    Returns:
        image name -> row, in the table's order; rows without an image; images without a row; number
        of rows that repeat another word for word.

    Raises:
        DataError: a file named twice with different rows, or a name that fits several images.
    """
    index: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        for key in {name, path.name, path.stem}:
            index.setdefault(key, []).append(name)
    known = set(names)
    found: dict[str, Row] = {}
    missing, repeated = [], 0
    for row in rows:
        wanted = row.get(file, "").replace("\\", "/").removeprefix("./")
        if not wanted:
            raise DataError(f"{what} has a row without a file name: {row}")
        hits = [wanted] if wanted in known else index.get(wanted, [])
        if not hits:
            missing.append(wanted)
        elif len(hits) > 1:
            raise DataError(f"{what} names {wanted!r}, which could be any of {some(hits)}")
        elif hits[0] not in found:
            found[hits[0]] = row
        elif found[hits[0]] == row:
            repeated += 1
        else:
            raise DataError(
                f"{what} names {wanted!r} twice, with different rows: {found[hits[0]]} and {row}"
            )
    return found, missing, [name for name in names if name not in found], repeated


def _csv(path: Path) -> list[Row]:
    if not path.is_file():
        raise DataError(f"there is no label table {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text. In a spreadsheet choose 'CSV UTF-8' when saving."
        ) from error
    lines = text.splitlines()
    if not lines:
        raise DataError(f"{path} is empty")
    delimiter = max(",;\t", key=lines[0].count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    try:
        head = [name.strip() for name in next(reader)]
        twice = sorted({name for name in head if head.count(name) > 1})
        if twice:
            raise DataError(f"{path} has two columns called {some(twice)}")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells for {len(head)} columns"
                )
            rows.append(dict(zip(head, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    return rows


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # pandas makes 1 into 1.0 where a column has gaps
    if not isinstance(value, str) and str(value) in ("nan", "NaT", "<NA>"):
        return ""
    return str(value).strip()
