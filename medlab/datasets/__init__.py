"""Data sets by name, with a card for each, and your own images from a folder."""

import os
from typing import Any

import pandas as pd

from medlab.cohort import Cohort, DataCard
from medlab.datasets import medmnist
from medlab.datasets._download import data_root
from medlab.datasets.by_hand import BY_HAND, load_by_hand
from medlab.datasets.cache import load_simulated
from medlab.datasets.decathlon import HIPPOCAMPUS, from_decathlon, load_hippocampus
from medlab.datasets.medmnist import SETS, bring
from medlab.datasets.own_data import from_arrays, from_folder
from medlab.errors import DataError

__all__ = [
    "bring",
    "card",
    "cards",
    "from_arrays",
    "from_decathlon",
    "from_folder",
    "load",
]

_OTHERS = {HIPPOCAMPUS.name: HIPPOCAMPUS} | {name: card for name, (card, _) in BY_HAND.items()}


def load(
    name: str,
    *,
    root: str | os.PathLike | None = None,
    download: bool = True,
    verify: bool | None = None,
    **options: Any,
) -> Cohort:
    """Load a data set by name, simulated or real.

    >>> cohort = load("chest_xray", n=2000, seed=0)                          # doctest: +SKIP
    >>> cohort = load("pneumoniamnist", root=folder, download=False)         # doctest: +SKIP

    A simulated set is made once and kept under `root`: the same name, version and options give the
    same bytes. A real set is read from `root` (`medmnist/<name>.npz`, `hippocampus/imagesTr`), or
    downloaded there, from its makers or the web folder that the variable MEDLAB_MIRROR names. Where
    that cannot be (`nuclei`, `lung_nodules`, `cardiac_cine`, `chest_xray_nih`) its card says how to
    get it and where to put it.

    Args:
        name: see `medlab.datasets.cards()`.
        root: data folder; default: the environment variable MEDLAB_DATA, else the user's cache.
        download: False never touches the network.
        verify: whether a file whose hash is not the official one is refused (default, unless
            MEDLAB_VERIFY is 0) or used with a warning and a remark on the card.
        options: for simulated sets, those of their maker (`n`, `seed`, `size`, …); for MedMNIST
            `size`, the edge length in pixels: 28 (default), 64, 128 or 224; 28 or 64 in 3-D; for
            `chest_xray_nih` any of 16 to 1024 (default 128).

    Returns:
        The cohort, with `official` parts where the makers fixed a split.

    Raises:
        DataError: unknown name or size; a file that is not there, damaged or not the official one
            (`HashMismatch`), or cannot be fetched (`DownloadError`).
        TypeError: an option that a real set does not have.
    """
    name = _find(name)
    if name in _simulated():
        return load_simulated(name, _simulated()[name], data_root(root), options)
    if name in BY_HAND:
        return load_by_hand(name, root, options)
    options |= {"root": root, "download": download, "verify": verify}
    if name == HIPPOCAMPUS.name:
        return load_hippocampus(**options)
    return medmnist.read(*bring(name, **options))


def cards() -> pd.DataFrame:
    """Name, title, task, number of classes and licence of every set, simulated ones first."""
    rows = [(c.name, c.title, c.task, len(c.classes), c.licence) for c in map(card, _names())]
    return pd.DataFrame(rows, columns=["name", "title", "task", "classes", "licence"])


def card(name: str) -> DataCard:
    """The card of the set `name`; of MedMNIST's with an edge of 28 pixels (url and hash)."""
    name = _find(name)
    if name in SETS:
        return medmnist.card(name)
    return _OTHERS[name] if name in _OTHERS else _simulated()[name].card


def _simulated() -> dict:
    from medlab import simulate

    return simulate.COHORTS


def _names() -> list[str]:
    return [*_simulated(), *SETS, *_OTHERS]


def _find(name: str) -> str:
    """The registered spelling of a name."""
    spelt = str(name).strip().lower()
    if spelt not in _names():
        raise DataError(
            f"no set is called {name!r}; there are {', '.join(_names())} (or from_folder)"
        )
    return spelt
