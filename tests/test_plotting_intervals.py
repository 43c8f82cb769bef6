"""The forest plot draws what it is given."""

import pytest

from medlab import plotting
from medlab.errors import DataError
from medlab.metrics import Interval


def test_values_and_ends_stand_where_they_should():
    rows = {"a": Interval(0.8, 0.7, 0.9, 0.95), "b": (0.5, 0.2, 0.6)}
    ax = plotting.intervals(rows, x="AUC", reference=0.5, limits=(0, 1)).axes[0]
    lines = [list(line.get_xdata()) for line in ax.lines]
    assert [0.7, 0.9] in lines and [0.2, 0.6] in lines
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a"]
    assert ax.get_xlabel() == "AUC" and ax.get_xlim() == (0, 1)
    assert {text.get_text() for text in ax.texts} == {"0.80", "0.50"}


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="empty"):
        plotting.intervals({}, x="AUC")
