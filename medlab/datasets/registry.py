"""What sets there are: one card each, real and simulated."""

from __future__ import annotations

import difflib
import html

from medlab.cohort import DataCard
from medlab.datasets import medmnist
from medlab.datasets.medmnist_table import SETS
from medlab.errors import DataError

__all__ = ["Cards", "card", "cards", "find"]

_COLUMNS = ("name", "title", "task", "classes", "images", "licence")


class Cards(tuple):
    """A tuple of data cards that shows itself as a table."""

    __slots__ = ()

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                card.name,
                card.title,
                card.task,
                str(len(card.classes)) if card.classes else "",
                "any number" if card.simulated else f"{sum(SETS[card.name].samples):,}",
                "simulated" if card.simulated else card.licence,
            )
            for card in self
        ]

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def line(cells, tag):
            inner = "".join(
                f'<{tag} style="text-align:left">{html.escape(cell)}</{tag}>' for cell in cells
            )
            return f"<tr>{inner}</tr>"

        body = "".join(line(row, "td") for row in self._rows())
        return f"<table><thead>{line(_COLUMNS, 'th')}</thead><tbody>{body}</tbody></table>"


def simulated() -> dict:
    """The registry of simulated cohorts, by name."""
    from medlab import simulate

    return simulate.COHORTS


def cards() -> Cards:
    """Cards of every set that `medlab.load` knows, simulated ones first.

    Returns:
        A tuple of `DataCard` that prints as a table, in a notebook too.
    """
    return Cards([*(s.card for s in simulated().values()), *(medmnist.card(name) for name in SETS)])


def card(name: str, *, size: int | None = None) -> DataCard:
    """The card of one set.

    Args:
        name: as `medlab.load` takes it.
        size: edge length in pixels of a real set; it decides on url and hash. Default: smallest.

    Raises:
        DataError: unknown name, or a size that is not published.
    """
    name = find(name)
    if name in SETS:
        return medmnist.card(name, size=size or min(medmnist.sizes(name)))
    return simulated()[name].card


def find(name: str) -> str:
    """The registered spelling of a name.

    Raises:
        DataError: unknown; the message lists what comes close and what there is.
    """
    known = [*simulated(), *SETS]
    spelt = str(name).strip().lower()
    if spelt in known:
        return spelt
    base, _, size = spelt.rpartition("_")
    if base in SETS and size.isdigit():
        raise DataError(f"there is no set {name!r}; say load({base!r}, size={size})")
    close = difflib.get_close_matches(spelt, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise DataError(
        f"there is no set {name!r}.{hint} Known: {', '.join(known)}. For your own images use "
        "medlab.from_folder."
    )
