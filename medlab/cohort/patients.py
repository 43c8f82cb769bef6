"""Who is who, and whole patients to train, validation and test."""

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


def text(value: object) -> str:
    """One cell of a table as text in Unicode form NFC, stripped; 1.0 is "1", a gap is ""."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value = int(float(value))  # pandas makes 1 into 1.0 where a column has gaps
    said = unicodedata.normalize("NFC", str(value)).strip()
    return "" if said in _MISSING and not isinstance(value, str) else said


def identifiers(values: Iterable, what: str) -> np.ndarray:
    """(N,) numbers or text of any type as an array of text: 1, 1.0, "1" and "1.0" are all "1".

    Raises:
        DataError: one is missing (None, NaN, empty text), or it is not one list; `what` it names.
    """
    if isinstance(values, Tensor):
        values = values.cpu().numpy()
    array = np.asarray(values, dtype=object)
    if array.ndim != 1:
        raise DataError(f"{what} must be one list, an entry per image; got shape {array.shape}")
    known = {value: re.sub(r"^(\d+)\.0+$", r"\1", text(value)) for value in set(array)}
    found = [known[value] for value in array]
    if missing := [i for i, name in enumerate(found) if name in _MISSING]:
        raise DataError(
            f"{len(missing)} of {len(found)} entries of {what} are missing (the first at image "
            f"{missing[0]}): complete them, or leave those images out."
        )
    return np.array(found, dtype=str)


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
        (N,) array of "train", "val", "test"; no patient in two parts, no part empty.

    Raises:
        DataError: fewer than three patients, a missing identifier, or an option as it cannot be.
    """
    if not isinstance(seed, Integral) or seed < 0:
        raise DataError(f"seed must be a whole number of at least 0; got {seed!r}")
    shares = np.asarray(fractions, dtype=float)
    if shares.shape != (3,) or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise DataError(f"fractions must be three positive shares that sum to 1; got {fractions}")
    names, group = np.unique(identifiers(patients, "patients"), return_inverse=True)
    if len(names) < 3:
        raise DataError(f"three parts need at least three patients; got {', '.join(names)}")
    per_image = np.ones((len(group), 1))
    if labels is not None:
        labels = torch.as_tensor(labels)
        indicators = labels if labels.ndim == 2 else torch.nn.functional.one_hot(labels.long())
        per_image = np.concatenate([indicators.double().numpy(), per_image], axis=1)
        per_image = per_image[:, per_image.sum(0) > 0]
    counts = np.zeros((len(names), per_image.shape[1]))
    np.add.at(counts, group, per_image)

    targets = np.outer(shares, counts.sum(0))
    have = np.zeros_like(targets)
    part = np.empty(len(names), dtype=int)
    order = np.random.default_rng(seed).permutation(len(names))
    for g in order[np.argsort(-counts[order, -1], kind="stable")]:
        part[g] = np.argmin(((2 * (have - targets) + counts[g]) * counts[g] / targets).sum(1))
        have[part[g]] += counts[g]
    for p in np.setdiff1d(range(3), part):  # a part that is empty takes a small patient
        members = np.flatnonzero(part == np.bincount(part, minlength=3).argmax())
        part[members[counts[members, -1].argmin()]] = p
    _spread_classes(part, counts)
    return np.asarray(PARTS)[part][group]


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
