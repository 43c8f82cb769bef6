"""One reader for the eighteen MedMNIST sets in all their sizes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import torch

from medlab.cohort import PARTS, Cohort, DataCard
from medlab.datasets.fetch import check_hash, data_root, fetch, must_verify
from medlab.datasets.medmnist_table import MD5, RECORD, SETS
from medlab.datasets.npz import Npz
from medlab.errors import DataError

__all__ = ["bring", "card", "load", "read", "sizes"]

_CITATION = (
    "Yang et al., MedMNIST v2, Sci Data 10:41 (2023), doi 10.1038/s41597-022-01721-8, and the "
    "source of the images"
)


def sizes(name: str) -> tuple[int, ...]:
    """Edge lengths in which a set is published, in pixels."""
    return tuple(MD5[name])


def card(name: str, *, size: int = 28) -> DataCard:
    """The data card of one set at one size.

    Args:
        name: one of the eighteen, in lower case.
        size: edge length in pixels: 28, 64, 128 or 224, for the 3-D sets 28 or 64.

    Raises:
        DataError: a size that is not published.
    """
    facts = SETS[name]
    if size not in MD5[name]:
        raise DataError(f"{name} comes in sizes {', '.join(map(str, MD5[name]))}; got {size}")
    train, val, test = facts.samples
    edge = "×".join([str(size)] * (3 if facts.volume else 2))
    return DataCard(
        name=name,
        title=facts.title,
        task=facts.task,
        classes=facts.classes,
        modality=facts.modality,
        description=(
            f"{facts.about} {edge} pixels{', colour' if facts.channels == 3 else ''}; official "
            f"split: {train} train, {val} val, {test} test. For teaching and methods, not for "
            "clinical use."
        ),
        source=facts.source,
        licence=facts.licence,
        url=f"{RECORD}/{filename(name, size)}?download=1",
        citation=_CITATION,
        md5=MD5[name][size],
        faults=facts.faults,
        units="display grey level" if facts.channels == 1 else "red, green, blue level",
        value_range=(0.0, 255.0),
        version="2",
    )


def filename(name: str, size: int) -> str:
    """The official file name."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def load(
    name: str,
    *,
    root: str | os.PathLike | None = None,
    download: bool = True,
    verify: bool | None = None,
    size: int = 28,
    mirror: str | None = None,
) -> Cohort:
    """A MedMNIST set with its official split.

    A file at `root`/medmnist is used without a network; else it is fetched there.

    Args:
        name: one of the eighteen, in lower case.
        root: folder laid out as MEDLAB_DATA; see `medlab.load`.
        download: fetch the file if it is not there.
        verify: refuse a file with another hash than the official; see `medlab.load`.
        size: edge length in pixels.
        mirror: address of a folder that holds the files, instead of Zenodo; default MEDLAB_MIRROR.

    Returns:
        Cohort; images uint8 (N, 1, H, W), (N, 3, H, W) or (N, 1, D, H, W), train first, then val,
        then test, as `official` says. Patient ids are not published.

    Raises:
        DataError: not there and not to be fetched, or a file that is damaged or another's.
    """
    path, facts = bring(name, root=root, download=download, verify=verify, size=size, mirror=mirror)
    return read(path, facts)


def bring(
    name: str,
    *,
    root: str | os.PathLike | None = None,
    download: bool = True,
    verify: bool | None = None,
    size: int = 28,
    mirror: str | None = None,
) -> tuple[Path, DataCard]:
    """Make sure that the file of a set is on disk; arguments and errors as for `load`.

    Returns:
        Where it is, and its card, with a remark among the faults if it is not the official file.
    """
    facts = card(name, size=size)
    path = data_root(root) / "medmnist" / filename(name, size)
    if path.is_file():
        remark = check_hash(path, facts.md5, verify=verify)
    else:
        if not download:
            raise DataError(
                f"{name} is not at {path}, and download=False. Put {path.name} there (from "
                f"{facts.url}), name another folder with root=… or MEDLAB_DATA, or allow the "
                "download."
            )
        mirror = mirror or os.environ.get("MEDLAB_MIRROR")
        url = f"{mirror.rstrip('/')}/{path.name}" if mirror else facts.url
        fetch(url, path, md5=facts.md5, verify=verify)
        remark = "" if must_verify(verify) else check_hash(path, facts.md5, verify=False)
    if remark:
        facts = dataclasses.replace(facts, faults=(remark, *facts.faults))
    return path, facts


def read(path: Path, card: DataCard) -> Cohort:
    """Read one .npz file into a cohort, after checking everything the card promises.

    Args:
        path: the file.
        card: its card, from `card`.

    Raises:
        DataError: naming the file and what differs from the card.
    """
    facts = SETS[card.name]
    volume, colour = facts.volume, facts.channels == 3
    with Npz(path) as npz:
        first = npz.member("train_images").shape
        edge = first[1] if len(first) > 1 else 0
        want = (edge,) * (3 if volume else 2) + ((3,) if colour else ())
        for part, n in zip(PARTS, facts.samples, strict=True):
            found = npz.member(f"{part}_images").shape
            if found != (n, *want):
                raise DataError(
                    f"{path}: {part}_images has shape {found}; {card.name} has {n} images there, "
                    f"each {' × '.join(['edge'] * (3 if volume else 2) + ['3'] * colour)}. Is it "
                    "the file of another set?"
                )
        if edge not in MD5[card.name] or card.md5 != MD5[card.name][edge]:
            raise DataError(
                f"{path}: images are {edge} pixels wide, not the size that its name promises"
            )
        images = np.empty(
            (sum(facts.samples), facts.channels, *want[: 3 if volume else 2]), dtype=np.uint8
        )
        labels, start = [], 0
        for part, n in zip(PARTS, facts.samples, strict=True):
            values = _as_bytes(npz.read(f"{part}_images"), f"{path}: {part}_images")
            images[start : start + n] = np.moveaxis(values, -1, 1) if colour else values[:, None]
            labels.append(_labels(npz, part, n, card))
            start += n
    return Cohort(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(np.concatenate(labels)),
        card=card,
        official=np.repeat(PARTS, facts.samples),
    )


def _as_bytes(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "biu":
        raise DataError(f"{what} must hold grey levels 0…255; got type {values.dtype}")
    if values.size and (values.min() < 0 or values.max() > 255):
        raise DataError(f"{what} must hold grey levels 0…255; got {values.min()}…{values.max()}")
    return values.astype(np.uint8)


def _labels(npz: Npz, part: str, n: int, card: DataCard) -> np.ndarray:
    """(n,) int64 classes, or (n, K) float32 of 0 and 1."""
    what = f"{npz.path}: {part}_labels"
    multi = card.task == "multilabel"
    columns = len(card.classes) if multi else 1
    member = npz.member(f"{part}_labels")
    if member.shape != (n, columns) and (multi or member.shape != (n,)):
        raise DataError(f"{what} must have shape {(n, columns)}; got {member.shape}")
    if member.dtype.kind not in "biu":
        raise DataError(f"{what} must hold whole numbers; got type {member.dtype}")
    values = npz.read(f"{part}_labels")
    top = 1 if multi else len(card.classes) - 1
    if values.min() < 0 or values.max() > top:
        raise DataError(
            f"{what} must lie in 0…{top} ({len(card.classes)} classes); got "
            f"{values.min()}…{values.max()}"
        )
    return values.astype(np.float32) if multi else values.reshape(n).astype(np.int64)
