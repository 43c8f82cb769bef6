"""The label table of one's own images: which row belongs to which file, and what its cells say."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd

from medlab.datasets._files import some
from medlab.errors import DataError

Classes = Sequence[str] | Mapping[str, str] | None


def read_table(table: Any, *, file: str, label: str) -> tuple[pd.DataFrame, str]:
    """A table with every cell as stripped text, in Unicode form NFC.

    Args:
        table: path of a CSV file (comma, semicolon or tab; UTF-8; first line names the columns), a
            dict file -> label or file -> {column: value}, a list of dicts, a DataFrame or a Series;
            where no column is called `file`, text in the index is taken for it.
        file: name of the column that holds the file name.
        label: name of the label column, for the short dict and the Series.

    Returns:
        The table, and what to call it in messages.

    Raises:
        DataError: not a table, no `file` column, cells without a column.
    """
    if isinstance(table, str | os.PathLike):
        frame, what = _csv(Path(table).expanduser()), str(table)
    elif isinstance(table, Mapping):
        rows = [
            {file: name, **(value if isinstance(value, Mapping) else {label: value})}
            for name, value in table.items()
        ]
        frame, what = pd.DataFrame(rows, dtype=object), "the label dict"
    elif isinstance(table, pd.DataFrame | pd.Series):
        frame = table.to_frame(label) if isinstance(table, pd.Series) else table
        frame, what = frame.astype(object), "the label DataFrame"
        if file not in frame.columns and pd.api.types.infer_dtype(frame.index) == "string":
            frame = frame.rename_axis(file).reset_index()
    elif isinstance(table, list | tuple) and all(isinstance(row, Mapping) for row in table):
        frame, what = pd.DataFrame(list(table), dtype=object), "the label list"
    else:
        raise DataError(
            "labels must be the path of a CSV file, a dict file -> label, a DataFrame, or "
            f"'folder'; got {type(table).__name__}"
        )
    if frame.empty:
        raise DataError(f"{what} has no rows")
    frame = frame.rename(columns=text).map(text)
    if file not in frame.columns:
        raise DataError(
            f"{what} has no column {file!r} for file names; it has {some(frame.columns, 20)}. Name "
            "the right one with file=…"
        )
    if (nameless := frame[frame[file] == ""]).size:
        raise DataError(f"{what} has a row without a file name: {dict(nameless.iloc[0])}")
    return frame, what


def folder_table(names: Iterable[str], *, file: str, label: str) -> pd.DataFrame:
    """One row an image, its label the name of the folder it lies in."""
    homes = {name: PurePosixPath(name).parent.name for name in names}
    if loose := [name for name, home in homes.items() if not home]:
        raise DataError(
            f"labels='folder' takes the class from the folder an image lies in, but {len(loose)} "
            f"images lie in none: {some(loose)}"
        )
    return pd.DataFrame({file: list(homes), label: list(homes.values())})


def locate(wanted: pd.Series, names: Iterable[str], folder: Path, what: str) -> pd.Series:
    """The image that each cell of a table means, or None.

    By path within the folder, or from further up ("images/a.png" in a folder called images); else
    by file name; either with or without ending.

    Raises:
        DataError: a name that fits several images.
    """
    index: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        for key in {name, str(path.with_suffix("")), path.name, path.stem}:
            index.setdefault(key, []).append(name)
    known = set(names)
    home = folder.resolve().with_suffix("" if folder.is_file() else folder.suffix).parts

    def one(text: str) -> str | None:
        path = PurePosixPath(text.replace("\\", "/"))
        above = [
            str(PurePosixPath(*path.parts[k:]))
            for k in range(1, len(path.parts))
            if path.parts[:k] == home[-k:]
        ]
        for name in (str(path), *above):
            if name in known:
                return name
            if len(hits := index.get(name, [])) > 1:
                raise DataError(f"{what} names {text!r}, which could be any of {some(hits)}")
            if hits:
                return hits[0]
        return None

    return wanted.map(one)


def one_row_each(frame: pd.DataFrame, *, file: str, what: str) -> pd.DataFrame:
    """The table without repeated rows, indexed by image.

    Raises:
        DataError: an image named twice, with different rows.
    """
    frame = frame.drop(columns=file).assign(**{file: frame.index}).drop_duplicates()
    twice = frame.index[frame.index.duplicated()]
    if len(twice):
        first, second = (dict(row) for _, row in frame.loc[twice[0]].iloc[:2].iterrows())
        raise DataError(
            f"{what} names {twice[0]!r} twice, with different rows: {first} and {second}"
        )
    return frame


def indicators(
    frame: pd.DataFrame, columns: list[str], classes: Classes
) -> tuple[np.ndarray, tuple[str, ...]]:
    """float32 (N, K) of 0 and 1 from K columns, and class names: theirs, or those given for them.

    Raises:
        DataError: another value than 0 or 1, or another number of names.
    """
    if odd := set(frame[columns].to_numpy().ravel()) - {"0", "1"}:
        raise DataError(
            f"columns {some(columns, 20)} are read as one label each, so they must hold 0 or 1; "
            f"found {some(sorted(map(repr, odd)))}"
        )
    names = [classes[c] for c in columns] if isinstance(classes, Mapping) else classes or columns
    if len(names) != len(columns):
        raise DataError(f"{len(columns)} label columns need as many class names; got {len(names)}")
    return frame[columns].to_numpy(np.float32, copy=True), tuple(names)


def class_numbers(
    cells: Iterable[str], classes: Classes, *, ordinal: bool = False, fewest: int = 2
) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 (N,) and the class names.

    Args:
        cells: what the table says for each image.
        classes: names in label order; or what the table says -> name; None: what it says, sorted.
        ordinal: whether the order matters, so that `classes` must give it.
        fewest: classes that there must be.

    Raises:
        DataError: labels outside the classes, too few classes, or labels that differ in spelling.
    """
    cells = list(cells)
    said = Counter(cells)
    if classes is None:
        if ordinal:
            raise DataError(f"ordinal=True needs classes=… in rising order; found {some(said, 20)}")
        _refuse_twins(said)
        classes = sorted(said, key=_order)
    if isinstance(classes, str):
        raise DataError(f"classes must be several names; got the single text {classes!r}")
    pairs = classes.items() if isinstance(classes, Mapping) else ((c, c) for c in classes)
    meaning = {text(said_so): text(name) for said_so, name in pairs}
    if unknown := [cell for cell in said if cell not in meaning]:
        counted = some([f"{cell!r} ({said[cell]} images)" for cell in unknown])
        raise DataError(
            f"labels that are not among the classes {some(meaning, 20)}: {counted}. Correct the "
            "table, or map them: classes={'as in the table': 'class name', …}"
        )
    names = tuple(dict.fromkeys(meaning.values()))
    if len(names) < fewest:
        raise DataError(
            f"all images have the label {names[0]!r}: a classifier needs two classes. Name both "
            "with classes=…, or pass labels=None."
        )
    codes = pd.Categorical([meaning[cell] for cell in cells], categories=names).codes
    return codes.astype(np.int64), names


def kind_of_task(names: Sequence[str], ordinal: bool) -> str:
    """The task of one label an image, as `DataCard` calls it."""
    return "ordinal" if ordinal else "binary" if len(names) == 2 else "multiclass"


def text(value: Any) -> str:
    """One cell as text; "" for what is missing."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))  # pandas makes 1 into 1.0 where a column has gaps
    return normalize("NFC", str(value)).strip()


def _order(cell: str) -> tuple:
    """Numbers by value, then words."""
    return (0, int(cell), "") if re.fullmatch(r"-?\d+", cell) else (1, 0, cell)


def _refuse_twins(said: Counter) -> None:
    spelt: dict[str, list[str]] = {}
    for cell in said:
        spelt.setdefault(" ".join(cell.lower().split()), []).append(cell)
    if twins := [found for found in spelt.values() if len(found) > 1]:
        raise DataError(
            f"labels differ only in how they are written: {' / '.join(map(repr, twins[0]))}. "
            "Correct the table, or map them: classes={'as in the table': 'class name', …}"
        )


def _csv(path: Path) -> pd.DataFrame:
    # pandas.read_csv fills short lines, renames columns of one name and guesses an index.
    if not path.is_file():
        raise DataError(f"there is no label table {path}")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text. In a spreadsheet choose 'CSV UTF-8' when saving."
        ) from error
    lines = content.splitlines(keepends=True)
    if not lines:
        raise DataError(f"{path} is empty")
    reader = csv.reader(lines, delimiter=max(",;\t", key=lines[0].count), strict=True)
    rows = []
    try:
        head = [name.strip() for name in next(reader)]
        if twice := sorted({name for name in head if head.count(name) > 1}):
            raise DataError(f"{path} has two columns called {some(twice)}")
        for cells in reader:
            if len(cells) != len(head) and any(cell.strip() for cell in cells):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells for {len(head)} columns"
                )
            if any(cell.strip() for cell in cells):
                rows.append(cells)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    return pd.DataFrame(rows, columns=head, dtype=object)
