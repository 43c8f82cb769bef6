"""Tables of one's own images: which row is which file, and what its cells say."""

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


def rows_of(
    folder: Path, names: list[str], labels: Any, label: str | Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The row of each image, by its name, with its folder in the column `folder`; label columns."""
    columns = [label] if isinstance(label, str) else list(label)
    if labels is None or (isinstance(labels, str) and labels == "folder"):
        table = pd.DataFrame({"file": names}, index=names)
        columns = [] if labels is None else ["folder"]
    else:
        table = read_table(labels, label=columns[0])
        table = table.set_index(locate(table["file"], names, folder)).drop_duplicates()
    if twice := sorted(set(table.index[table.index.duplicated()])):
        raise DataError(f"images named by several rows, which differ: {some(twice)}")
    if "folder" not in table:
        table["folder"] = [PurePosixPath(name).parent.name for name in table.index]
    require(table, columns)
    return table, columns


def read_table(table: Any, *, label: str) -> pd.DataFrame:
    """A table with every cell as text and a file name in each row; see `from_folder`."""
    if isinstance(table, str | os.PathLike):
        table = _csv(Path(table).expanduser())
    with reading("labels must be a CSV file, a dict file -> label, a DataFrame, or 'folder'"):
        if isinstance(table, Mapping | pd.Series):
            table = pd.Series(table, dtype=object).to_frame(label)
        frame = pd.DataFrame(table, dtype=object)
    if "file" not in frame and not isinstance(frame.index, pd.RangeIndex):
        frame = frame.rename_axis("file").reset_index()
    frame = frame.rename(columns=text).map(text)
    require(frame, ["file"])
    if frame.empty or (frame["file"] == "").any():
        raise DataError("the table has no rows, or a row without a name in column 'file'")
    return frame


def _csv(path: Path) -> pd.DataFrame:
    """A file of commas, semicolons or tabs."""
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
    """The one image that each cell means: whose full path ends like it, less its ending or not."""
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
        rows = f"{len(bad)} rows of the table"
        raise DataError(f"{rows} fit no image of {folder}, or several: {some(bad)}. Correct it.")
    return found.str[0]


def numbered(cells: Iterable[str], classes: Classes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int64 (N,), and the class names; see `from_folder` for `classes`."""
    cells = list(cells)
    if classes is None:
        found = sorted(set(cells))
        whole = [cell for cell in found if cell.removeprefix("-").isdecimal()]
        classes = [*sorted(whole, key=int), *(cell for cell in found if cell not in whole)]
    named = classes if isinstance(classes, Mapping) else {name: name for name in classes}
    meaning = {text(said): text(name) for said, name in named.items()}
    if "" in cells:
        raise DataError(f"{cells.count('')} images have no label")
    if unknown := sorted(set(cells) - meaning.keys()):
        counted = some(f"{cell!r} ({cells.count(cell)} images)" for cell in unknown)
        raise DataError(
            f"labels that are not among the classes {some(meaning, 20)}: {counted}. Correct the "
            "table, or map them: classes={'as in the table': 'class name', …}"
        )
    names = tuple(dict.fromkeys(meaning.values()))
    codes = pd.Categorical([meaning[cell] for cell in cells], categories=names).codes
    return codes.astype(np.int64), names
