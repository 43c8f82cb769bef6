"""Label cells of a table to numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from medlab.datasets.sources import some
from medlab.datasets.tables import Row
from medlab.errors import DataError

__all__ = ["class_numbers", "column_names", "indicators", "parts"]

Classes = Sequence[str] | Mapping[str, str] | None
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def indicators(rows: dict[str, Row], columns: list[str]) -> np.ndarray:
    """float32 (N, K) of 0 and 1 from K columns.

    Raises:
        DataError: another value than 0 or 1.
    """
    odd = {row[c] for row in rows.values() for c in columns} - {"0", "1"}
    if odd:
        raise DataError(
            f"columns {some(columns, 20)} are read as one label each, so they must hold 0 or 1; "
            f"found {some(sorted(map(repr, odd)))}"
        )
    return np.array([[float(row[c]) for c in columns] for row in rows.values()], dtype=np.float32)


def column_names(columns: list[str], classes: Classes) -> tuple[str, ...]:
    """Class names of a multilabel task: the columns', unless others are given for them."""
    if classes is None:
        return tuple(columns)
    named = [classes[c] for c in columns] if isinstance(classes, Mapping) else list(classes)
    if len(named) != len(columns):
        raise DataError(f"{len(columns)} label columns need as many class names; got {len(named)}")
    return tuple(named)


def class_numbers(
    rows: dict[str, Row], column: str, classes: Classes, *, ordinal: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 (N,) and the class names.

    Raises:
        DataError: labels outside the classes, one class only, or labels that differ in spelling.
    """
    said = Counter(row[column] for row in rows.values())
    if classes is None:
        if ordinal:
            raise DataError(f"ordinal=True needs classes=… in rising order; found {some(said, 20)}")
        _refuse_twins(said)
        classes = sorted(said, key=_order)
    if isinstance(classes, str):
        raise DataError(f"classes must be several names; got the single text {classes!r}")
    meaning = (
        {str(key): str(value) for key, value in classes.items()}
        if isinstance(classes, Mapping)
        else {str(key): str(key) for key in classes}
    )
    unknown = [text for text in said if text not in meaning]
    if unknown:
        counted = some([f"{text!r} ({said[text]} images)" for text in unknown])
        raise DataError(
            f"labels that are not among the classes {some(meaning, 20)}: {counted}. Correct the "
            "table, or map them: classes={'as in the table': 'class name', …}"
        )
    names = tuple(dict.fromkeys(meaning.values()))
    if len(names) < 2:
        raise DataError(
            f"all images have the label {names[0]!r}: a classifier needs two classes. Name both "
            "with classes=…, or pass labels=None."
        )
    number = {text: names.index(meaning[text]) for text in meaning}
    return np.array([number[row[column]] for row in rows.values()], dtype=np.int64), names


def _order(text: str) -> tuple:
    """Numbers by value, then words."""
    return (0, int(text), "") if re.fullmatch(r"-?\d+", text) else (1, 0, text)


def _refuse_twins(said: Counter) -> None:
    spelt: dict[str, list[str]] = {}
    for text in said:
        spelt.setdefault(" ".join(text.lower().split()), []).append(text)
    twins = [found for found in spelt.values() if len(found) > 1]
    if twins:
        raise DataError(
            f"labels differ only in how they are written: {' / '.join(map(repr, twins[0]))}. "
            "Correct the table, or map them: classes={'as in the table': 'class name', …}"
        )


def parts(values: np.ndarray) -> np.ndarray:
    """Names of parts as people write them to "train", "val" and "test"."""
    odd = sorted({v for v in values if v.lower() not in _PARTS})
    if odd:
        raise DataError(f"official parts are train, val and test; got {some(map(repr, odd))}")
    return np.array([_PARTS[value.lower()] for value in values])
