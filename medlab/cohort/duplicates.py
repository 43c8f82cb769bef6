"""Patients and pictures that stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, zip_longest
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medlab.cohort._fields import to_float
from medlab.cohort.card import PARTS
from medlab.errors import DataError

_SLACK = 0.07  # what re-encoding and resizing may cost of the cosine inside a narrow content
_EVEN = 0.03  # of the range of a picture: how much a margin may vary, since JPEG is not exact


class Part(Protocol):
    """What `leaks` asks of a cohort."""

    images: Tensor
    patients: np.ndarray | None

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Leaks:
    """What stands on both sides of a split. False if nothing does.

    Attributes:
        patients: (patient, parts) for every patient found in more than one part.
        exact: (part, position, part, position) of images equal in every pixel.
        near: the same with a similarity 0…1 at the end: the same picture flipped, turned, resized
            or re-encoded. Candidates to look at, not a verdict.
        named: every part names its patients. If not, shared patients are unknown, not absent.
        classes: (part, class names) of every part that names its classes, if one number stands for
            different classes in two parts; empty if not.
    """

    patients: tuple[tuple[str, tuple[str, ...]], ...]
    exact: tuple[tuple[str, int, str, int], ...]
    near: tuple[tuple[str, int, str, int, float], ...]
    named: bool = True
    classes: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.patients or self.exact or self.near or self.classes)

    def __str__(self) -> str:
        if not self and self.named:
            return "no leak found: no shared patient, no exact and no near-duplicate image"
        shared = str(len(self.patients))
        if not self.named:
            shared += " known, but not every part names its patients"
        lines = [
            f"patients in more than one part: {shared}",
            f"exact duplicates across parts: {len(self.exact)}",
            f"near-duplicates across parts: {len(self.near)}",
        ]
        if self.classes:
            parts = (f"{part} {dict(enumerate(names))}" for part, names in self.classes)
            lines.append("one class number, different classes: " + "; ".join(parts))
        return "\n".join(lines)


def leaks(train: Part, val: Part, test: Part | None = None, *, threshold: float = 0.95) -> Leaks:
    """Find patients and pictures that stand in more than one part, and class numbers that differ.

    Exact duplicates are found by hash. Near-duplicates are found by fingerprint: each image, and
    its eight flips and quarter turns, is averaged down to 16×16, freed of brightness and contrast,
    and expressed in the whitened principal components of all images together. There two different
    patients are nearly orthogonal, however alike two chests look, while the same picture flipped,
    resized or re-encoded keeps a cosine near 1. Even margins, as letterboxing makes them, prove
    nothing: such a pair must agree inside its margins too. A picture cropped by more than about 2 %
    of its width is usually missed.

    Args:
        train: one part, with images of any type; all parts have images of one shape.
        val: another.
        test: another, if there is one.
        threshold: cosine from which a pair is reported as near, 0…1.

    Returns:
        Leaks; false if nothing was found. Positions count within each part.

    Raises:
        DataError: parts of different image shapes, or a threshold outside 0…1.
    """
    if not 0 < threshold <= 1:
        raise DataError(f"threshold is a cosine between 0 and 1; got {threshold}")
    parts = {
        name: part for name, part in zip(PARTS, (train, val, test), strict=True) if part is not None
    }
    shapes = {name: tuple(part.images.shape[1:]) for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"all parts must have images of one shape; got {shapes}")
    where = [(name, i) for name, part in parts.items() for i in range(len(part))]
    exact = _exact_duplicates(parts)
    found = set(exact)
    near = tuple(
        (*where[i], *where[j], round(similarity, 3))
        for i, j, similarity in _near_duplicates(list(parts.values()), threshold)
        if (*where[i], *where[j]) not in found
    )
    named = all(part.patients is not None for part in parts.values())
    return Leaks(_shared_patients(parts), exact, near, named, _clashing_classes(parts))


def _clashing_classes(parts: dict[str, Part]) -> tuple:
    known = tuple((name, tuple(part.classes)) for name, part in parts.items() if part.classes)
    by_number = zip_longest(*(classes for _, classes in known))
    clash = any(len(set(names) - {None}) > 1 for names in by_number)
    return known if clash else ()


def _shared_patients(parts: dict[str, Part]) -> tuple:
    seen: dict[str, list[str]] = {}
    for name, part in parts.items():
        if part.patients is not None:
            for patient in np.unique(part.patients):
                seen.setdefault(str(patient), []).append(name)
    return tuple((p, tuple(names)) for p, names in seen.items() if len(names) > 1)


def _exact_duplicates(parts: dict[str, Part]) -> tuple:
    seen: dict[bytes, list[tuple[str, int]]] = {}
    pairs = []
    for name, part in parts.items():
        for i, image in enumerate(part.images.cpu().contiguous().numpy()):
            twins = seen.setdefault(blake2b(image.tobytes(), digest_size=16).digest(), [])
            pairs += [(*twin, name, i) for twin in twins if twin[0] != name]
            twins.append((name, i))
    return tuple(pairs)


def _near_duplicates(parts: list[Part], threshold: float) -> list[tuple[int, int, float]]:
    """(position, position, cosine) of pairs from different parts, counted through all parts."""
    images = [part.images.cpu() for part in parts]
    pictures = [picture for some in images for picture in some.unbind()]
    first = [0, *accumulate(map(len, parts))]
    prints = torch.cat([_fingerprints(some) for some in images])
    whiten = _whitening(prints)
    anchors = whiten(prints)
    found = []
    for p in range(1, len(parts)):
        part = prints[first[p] : first[p + 1]]
        others = [whiten(_turned(part, turn)) for turn in range(8)]
        for start in range(0, first[p], 2048):
            block = anchors[start : min(start + 2048, first[p])]
            similarity, turn = torch.stack([block @ other.T for other in others]).max(0)
            for i, j in (similarity >= threshold).nonzero().tolist():
                other = _turned(images[p][j], int(turn[i, j]))
                if _cosine_inside(pictures[start + i], other, whiten) >= threshold - _SLACK:
                    found.append((start + i, first[p] + j, min(1.0, similarity[i, j].item())))
    return sorted(found)


def _fingerprints(images: Tensor) -> Tensor:
    """(N, C, …) -> (N, 1, 16, 16) or, for volumes, (N, 1, 8, 8, 8): zero mean, unit length."""
    pool = {4: nn.AdaptiveAvgPool2d(16), 5: nn.AdaptiveAvgPool3d(8)}[images.ndim]
    small = torch.cat([pool(to_float(chunk).mean(1, keepdim=True)) for chunk in images.split(1024)])
    flat = small.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return (flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)).view_as(small)


def _turned(images: Tensor, turn: int) -> Tensor:
    """One of the eight flips and quarter turns of the last two axes."""
    return torch.rot90(images.flip(-1) if turn >= 4 else images, turn % 4, (-2, -1))


def _whitening(prints: Tensor, components: int = 48) -> Callable[[Tensor], Tensor]:
    """A map of fingerprints to unit vectors, nearly orthogonal for different pictures of the set.

    Args:
        prints: (N, 1, …), all fingerprints; their eight turns count too.
        components: principal components to keep.
    """
    step = max(1, len(prints) // 4000)
    sample = torch.cat([_turned(prints, turn).flatten(1)[::step] for turn in range(8)]).double()
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
    keep = values.flip(0) > 1e-6 * values[-1]
    basis = vectors.flip(1)[:, keep][:, :components] / values.flip(0)[keep][:components].sqrt()
    basis, mean = basis.float(), mean.float()
    return lambda some: nn.functional.normalize((some.flatten(1) - mean) @ basis, dim=1)


def _cosine_inside(one: Tensor, other: Tensor, whiten: Callable[[Tensor], Tensor]) -> float:
    """Cosine of two aligned pictures (C, …), looking only where neither has an even margin."""
    if one.shape != other.shape:  # a quarter turn of a frame that is not square
        grown = nn.functional.interpolate(other[None].float(), size=one.shape[1:])
        other = grown[0].to(one.dtype)
    pair = torch.stack([one, other])
    low, high = pair.amin(1).float(), pair.amax(1).float()
    slack = _EVEN * (high.flatten(1).amax(1) - low.flatten(1).amin(1))[:, None]
    inside = [slice(None), slice(None)]
    for axis in range(1, low.ndim):
        rest = [a for a in range(1, low.ndim) if a != axis]
        a, b = low.amin(rest), high.amax(rest)
        size, margins = a.shape[1], []
        for x, y in ((a, b), (a.flip(1), b.flip(1))):
            even = (y - x[:, :1] <= slack) & (y[:, :1] - x <= slack)
            # Modulo: a picture that is even altogether has no margin.
            margins.append(int((even.long().cumprod(1).sum(1) % size).max()))
        if sum(margins) >= size:
            return -1.0
        inside.append(slice(margins[0], size - margins[1]))
    first, second = whiten(_fingerprints(pair[tuple(inside)]))
    return float(first @ second)
