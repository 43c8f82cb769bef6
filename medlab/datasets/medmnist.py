"""One reader for the eighteen MedMNIST sets in all their sizes; their facts stand in medmnist.json.

Facts and hashes are the makers' (MedMNIST v2, Zenodo record 10519652); a fault names where it is
shown, or follows from how they describe the split ("not stated", "cannot be excluded").
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medlab.cohort import PARTS, Cohort, DataCard
from medlab.datasets._download import provide
from medlab.datasets._files import reading
from medlab.errors import DataError, read_facts

_RECORD = "https://zenodo.org/records/10519652/files"


# Name -> card, samples (train, val, test), channels, volume, md5 (by edge length).
SETS: dict[str, dict[str, Any]] = read_facts("datasets/medmnist")


def filename(name: str, size: int) -> str:
    """The official file name."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def card(name: str, *, size: int = 28) -> DataCard:
    """The data card of one set at one size; a DataError if that size is not published."""
    facts = SETS[name]
    if str(size) not in facts["md5"]:
        raise DataError(f"{name} comes in sizes {', '.join(facts['md5'])}; got {size}")
    url = f"{_RECORD}/{filename(name, size)}?download=1"
    return DataCard(name=name, url=url, md5=facts["md5"][str(size)], **facts["card"])


def bring(name: str, *, size: int = 28, **where: Any) -> tuple[Path, DataCard]:
    """Where the file of a MedMNIST set is, fetched if need be, and its card; as `medlab.load`."""
    return provide(Path("medmnist", filename(name, size)), card(name, size=size), **where)


def read(path: Path, card: DataCard) -> Cohort:
    """One .npz file as a cohort: train, val, test; a DataError names what is not as promised."""
    facts = SETS[card.name]
    edge = next(int(size) for size, md5 in facts["md5"].items() if md5 == card.md5)
    shape = (edge,) * (2 + facts["volume"])
    colour = (3,) if facts["channels"] == 3 else ()
    classes = len(card.classes)
    columns, top = (classes, 1) if card.task == "multilabel" else (1, classes - 1)
    images = np.empty((sum(facts["samples"]), facts["channels"], *shape), dtype=np.uint8)
    labels, start = [], 0
    for part, n in zip(PARTS, facts["samples"], strict=True):
        values = _whole(path, f"{part}_images", (n, *shape, *colour), 255)
        images[start : start + n] = np.moveaxis(values, -1, 1) if colour else values[:, None]
        labels.append(_whole(path, f"{part}_labels", (n, columns), top))
        start += n
    return Cohort(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(np.concatenate(labels).astype(np.int64)),
        card=card,
        official=np.repeat(PARTS, facts["samples"]),
    )


def _whole(path: Path, name: str, shape: tuple[int, ...], top: int) -> np.ndarray:
    values = array_in(path, name)
    whole = values.shape == shape and values.dtype.kind in "biu"
    if not whole or values.min() < 0 or values.max() > top:
        raise DataError(
            f"{path}: {name} must hold whole numbers 0…{top} in shape {shape}; got type "
            f"{values.dtype}, shape {values.shape}. Is it the file of another set or size?"
        )
    return values


def array_in(path: Path, name: str) -> np.ndarray:
    """Array `name` of an .npz file, of which nothing is unpickled and every byte is checked."""
    what = f"{path}: array {name!r} cannot be read; delete a damaged file and load again"
    with reading(what), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # the checksum is compared at the end of what is stored
            raise ValueError("more bytes are stored than its header claims")
        return array
