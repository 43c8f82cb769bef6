"""What sets there are: one card each, real and simulated, and what others have scored on them."""

from __future__ import annotations

import difflib

import pandas as pd

from medlab.cohort import DataCard
from medlab.datasets import medmnist
from medlab.datasets.decathlon import HIPPOCAMPUS
from medlab.datasets.medmnist import SETS, Published
from medlab.errors import DataError

_REAL = (*SETS, HIPPOCAMPUS.name)


def simulated() -> dict:
    """The registry of simulated cohorts, by name."""
    from medlab import simulate

    return simulate.COHORTS


def cards() -> pd.DataFrame:
    """What every set is that `medlab.load` knows, one row each, simulated ones first.

    Returns:
        Table with name, title, task, number of classes and of images, and licence; the card of a
        set says more (`medlab.datasets.card(name)`).
    """
    rows = []
    for name in (*simulated(), *_REAL):
        about = card(name)
        images = sum(SETS[name].samples) if name in SETS else 260
        rows.append(
            {
                "name": name,
                "title": about.title,
                "task": about.task,
                "classes": len(about.classes),
                "images": "any number" if about.simulated else f"{images:,}",
                "licence": "simulated" if about.simulated else about.licence,
            }
        )
    return pd.DataFrame(rows)


def card(name: str, *, size: int | None = None) -> DataCard:
    """The card of one set.

    Args:
        name: as `medlab.load` takes it.
        size: edge length in pixels of a MedMNIST set; it decides on url and hash. Default: 28.

    Raises:
        DataError: unknown name, or a size that is not published.
    """
    name = find(name)
    if name in SETS:
        return medmnist.card(name, size=size or 28)
    return HIPPOCAMPUS if name == HIPPOCAMPUS.name else simulated()[name].card


def published(name: str) -> dict[str, Published]:
    """What others have scored on the test part of a set, as they printed it.

    >>> published("pneumoniamnist")["Google AutoML Vision"]
    Published(auc=0.991, accuracy=0.946)

    Args:
        name: as `medlab.load` takes it.

    Returns:
        Method -> (AUC, accuracy), shares from 0 to 1; empty where nothing was published.

    Source: Yang et al., Scientific Data 10:41 (2023), tables 3 and 4, doi
    10.1038/s41597-022-01721-8.
    """
    name = find(name)
    return dict(SETS[name].published) if name in SETS else {}


def find(name: str) -> str:
    """The registered spelling of a name.

    Raises:
        DataError: unknown; the message lists what comes close and what there is.
    """
    known = [*simulated(), *_REAL]
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
