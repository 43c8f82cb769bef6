"""Data sets by name, with a card for each, and your own images from a folder."""

from __future__ import annotations

import os
from typing import Any

from medlab.cohort import Cohort
from medlab.datasets import medmnist
from medlab.datasets.cache import load_simulated
from medlab.datasets.fetch import data_root
from medlab.datasets.folder import from_folder
from medlab.datasets.medmnist_table import SETS
from medlab.datasets.registry import card, cards, find, simulated
from medlab.errors import DataError

__all__ = ["card", "cards", "from_folder", "load"]


def load(
    name: str,
    *,
    root: str | os.PathLike | None = None,
    download: bool = True,
    verify: bool | None = None,
    **options: Any,
) -> Cohort:
    """Load a data set by name, simulated or real.

    >>> cohort = load("chest_xray", n=2000, seed=0)                          # made here
    >>> cohort = load("pneumoniamnist", root=folder, download=False)         # doctest: +SKIP

    A simulated set is made once and kept under `root`; the same name, version and options give the
    same bytes. Where nothing can be written it is made in memory. A real set is read from `root`
    (`medmnist/<name>.npz`), or downloaded there.

    Args:
        name: see `medlab.datasets.cards()`.
        root: data folder; default: the environment variable MEDLAB_DATA, else the user's cache.
        download: False never touches the network.
        verify: whether a file whose hash is not the official one is refused (default) or used with
            a warning and a remark on the card. The environment variable MEDLAB_VERIFY=0 changes the
            default.
        options: for simulated sets, those of their maker (`n`, `seed`, `size`, …); for MedMNIST
            `size`, the edge length in pixels: 28 (default), 64, 128 or 224; 28 or 64 in 3-D.

    Returns:
        The cohort, with `official` parts where the makers fixed a split.

    Raises:
        DataError: unknown name or option; a file that is not there, damaged or not the official one
            (`HashMismatch`), or cannot be fetched (`DownloadError`).

    The environment variable MEDLAB_MIRROR names a folder on the web (a class-room computer, say)
    that holds the .npz files; hashes are checked all the same.
    """
    name = find(name)
    if name not in SETS:
        return load_simulated(name, simulated()[name], root=data_root(root), options=options)
    size = options.pop("size", None)
    if options:
        raise DataError(
            f"{name} is a fixed set and has no option {', '.join(map(repr, options))}; only size= "
            f"({', '.join(map(str, medmnist.sizes(name)))})"
        )
    return medmnist.load(
        name,
        root=root,
        download=download,
        verify=verify,
        size=min(medmnist.sizes(name)) if size is None else size,
    )
