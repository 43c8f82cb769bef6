"""Who is who, and whole patients to train, validation and test."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from medlab.cohort.card import PARTS
from medlab.errors import DataError

_MISSING = {"", "nan", "NaN", "None", "NaT", "<NA>"}  # as str() and pandas write what is not there


def identifiers(values: Iterable, what: str) -> np.ndarray:
    """Identifiers as text, one text for one identifier: 1, 1.0, "1" and "1.0" are all "1".

    Tables turn numbers into floats as soon as one is missing, and a folder's names are text, so the
    same patient comes in several types. Text loses its outer spaces and takes Unicode form NFC.

    Args:
        values: (N,) numbers or text, in a list, array, tensor or pandas column.
        what: the field, for the message.

    Returns:
        (N,) array of str.

    Raises:
        DataError: a missing identifier (None, NaN, empty text), or not one list of them.
    """
    if isinstance(values, Tensor):
        values = values.cpu().numpy()
    array = np.asarray(values, dtype=object)
    if array.ndim != 1:
        raise DataError(f"{what} must be one list, an entry per image; got shape {array.shape}")
    known: dict = {}
    for value in array:
        if value not in known:
            known[value] = _identifier(value)
    found = [known[value] for value in array]
    missing = [i for i, name in enumerate(found) if name in _MISSING]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(found)} entries of {what} are missing (the first at image "
            f"{missing[0]}): all images without one would count as one and the same. Complete "
            "them, or leave those images out."
        )
    return np.array(found, dtype=str)


def _identifier(value: object) -> str:
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        number = float(value)
        return str(int(number)) if number.is_integer() else str(number)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = unicodedata.normalize("NFC", text).strip()
    return re.sub(r"^(\d+)\.0+$", r"\1", text)


def split_patients(
    patients: np.ndarray,
    labels: Tensor | np.ndarray | None = None,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> np.ndarray:
    """Assign whole patients to train, val and test, balancing classes and sizes.

    Patients come in random order, those with most images first; each goes to the part where it
    lowers Σ_k (n_k − t_k)² / t_k most, n_k being the images of class k there and t_k their target.
    Afterwards patients move, if needed, until no part is empty and every part holds every class
    that at least three patients have (as far as whole patients allow).

    Args:
        patients: (N,) identifiers.
        labels: (N,) classes or (N, K) indicators; None balances the number of images alone.
        fractions: positive shares of train, val and test, sum 1.
        seed: order in which equal patients are dealt.

    Returns:
        (N,) array of "train", "val", "test"; never overlapping in patients, never empty.

    Raises:
        DataError: fewer than three patients, a missing identifier, a seed that is no whole number
            from 0 on, or fractions that are not positive or do not sum to 1.
    """
    if not isinstance(seed, Integral) or seed < 0:
        raise DataError(f"seed must be a whole number of at least 0; got {seed!r}")
    patients = identifiers(patients, "patients")
    shares = np.asarray(fractions, dtype=float)
    if shares.shape != (3,) or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise DataError(f"fractions must be three positive shares that sum to 1; got {fractions}")
    names, group = np.unique(patients, return_inverse=True)
    if len(names) < 3:
        raise DataError(
            f"three parts need at least three patients; got {len(names)} "
            f"({', '.join(map(str, names))})"
        )
    per_image = np.ones((len(patients), 1))
    if labels is not None:
        labels = torch.as_tensor(labels)
        k = 0 if labels.ndim == 2 else int(labels.max()) + 1
        per_image = np.concatenate([class_counts(labels, k).numpy(), per_image], axis=1)
        per_image = per_image[:, per_image.sum(0) > 0]
    counts = np.zeros((len(names), per_image.shape[1]))
    np.add.at(counts, group, per_image)

    targets = np.outer(shares, counts.sum(0))
    have = np.zeros_like(targets)
    part = np.empty(len(names), dtype=int)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    for g in order:
        part[g] = np.argmin(((2 * (have - targets) + counts[g]) * counts[g] / targets).sum(1))
        have[part[g]] += counts[g]
    _fill_empty(part, counts)
    _spread_classes(part, counts)
    return np.asarray(PARTS)[part][group]


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """One row an image: which classes it counts for."""
    if labels.ndim == 2:
        return labels.double()
    return torch.nn.functional.one_hot(labels.long(), num_classes).double()


def _fill_empty(part: np.ndarray, counts: np.ndarray) -> None:
    for p in range(3):
        if not (part == p).any():
            donor = np.bincount(part, minlength=3).argmax()
            members = np.flatnonzero(part == donor)
            part[members[counts[members, -1].argmin()]] = p


def _spread_classes(part: np.ndarray, counts: np.ndarray) -> None:
    """Move single patients so that each part holds each class, never emptying another cell."""
    carries = counts > 0
    holds = np.stack([carries[part == p].sum(0) for p in range(3)])
    for k in np.argsort(carries.sum(0), kind="stable"):
        for p in np.flatnonzero(holds[:, k] == 0):
            movable = [
                g
                for g in np.flatnonzero(carries[:, k])
                if (holds[part[g]][carries[g]] > 1).all()  # its part keeps each of its classes
            ]
            if movable:
                g = min(movable, key=lambda g: counts[g, -1])
                holds[part[g]] -= carries[g]
                holds[p] += carries[g]
                part[g] = p
