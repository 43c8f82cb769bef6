"""Data sets by name, with a card for each, and your own images from a folder."""

from __future__ import annotations

import os
from typing import Any

from medlab.cohort import Cohort
from medlab.datasets import medmnist
from medlab.datasets._download import data_root
from medlab.datasets.arrays import from_arrays
from medlab.datasets.cache import load_simulated
from medlab.datasets.decathlon import HIPPOCAMPUS, from_decathlon, load_hippocampus
from medlab.datasets.own_folder import from_folder
from medlab.datasets.registry import card, cards, find, published, simulated
from medlab.errors import DataError

__all__ = ["card", "cards", "from_arrays", "from_decathlon", "from_folder", "load", "published"]


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
    >>> cohort = load("hippocampus")                                         # doctest: +SKIP

    A simulated set is made once and kept under `root`; the same name, version and options give the
    same bytes. Where nothing can be written it is made in memory. A real set is read from `root`
    (`medmnist/<name>.npz`, `hippocampus/imagesTr`), or downloaded there.

    Args:
        name: see `medlab.datasets.cards()`.
        root: data folder; default: the environment variable MEDLAB_DATA, else the user's cache.
        download: False never touches the network.
        verify: whether a file whose hash is not the official one is refused (default) or used with
            a warning and a remark on the card. The environment variable MEDLAB_VERIFY=0 changes the
            default. Volumes that are unpacked already have no hash to check.
        options: for simulated sets, those of their maker (`n`, `seed`, `size`, …); for MedMNIST
            `size`, the edge length in pixels: 28 (default), 64, 128 or 224; 28 or 64 in 3-D.

    Returns:
        The cohort, with `official` parts where the makers fixed a split.

    Raises:
        DataError: unknown name or option; a file that is not there, damaged or not the official one
            (`HashMismatch`), or cannot be fetched (`DownloadError`).

    The environment variable MEDLAB_MIRROR names a folder on the web (a class-room computer, say)
    that holds the files to download; hashes are checked all the same.
    """
    name = find(name)
    if name in simulated():
        return load_simulated(name, simulated()[name], data_root(root), options)
    allowed = set() if name == HIPPOCAMPUS.name else {"size"}
    if strange := options.keys() - allowed:
        raise DataError(
            f"{name} is a fixed set and has no option {', '.join(map(repr, strange))}; it has "
            f"{', '.join(allowed) or 'none'}"
        )
    where: dict[str, Any] = {"root": root, "download": download, "verify": verify}
    if name == HIPPOCAMPUS.name:
        return load_hippocampus(**where)
    return medmnist.read(*medmnist.bring(name, **where, **options))
