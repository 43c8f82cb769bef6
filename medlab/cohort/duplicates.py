"""Patients and pictures that stand on both sides of a split."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, pairwise, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medlab.cohort._fields import to_float
from medlab.cohort.card import PARTS
from medlab.errors import DataError

Part = Any  # a Cohort, whose file imports this one
_ALIKE = 0.95  # cosine from which two pictures are near-duplicates
_SLACK = 0.07  # what re-encoding and resizing may cost of the cosine inside a narrow content
_EVEN = 0.03  # of the range of a picture: how much a margin may vary, since JPEG is not exact


@dataclass(frozen=True)
class Leaks:
    """What stands on both sides of a split; false if nothing does."""

    patients: tuple[tuple[str, tuple[str, ...]], ...]  #: (patient, parts) of those in several parts
    exact: tuple[tuple[str, int, str, int], ...]  #: (part, position, part, position), equal images
    near: tuple[tuple[str, int, str, int, float], ...]  #: alike, and how much, 0…1: look at them
    named: bool  #: whether every part names its patients: else shared ones are unknown, not absent
    classes: tuple[tuple[str, tuple[str, ...]], ...]  #: (part, class names), if numbers disagree

    def __bool__(self) -> bool:
        return bool(self.patients or self.exact or self.near or self.classes)

    def __str__(self) -> str:
        if not self and self.named:
            return "no leak found: no shared patient, no exact and no near-duplicate image"
        unknown = "" if self.named else " known, but not every part names its patients"
        lines = [
            f"patients in more than one part: {len(self.patients)}{unknown}",
            f"exact duplicates across parts: {len(self.exact)}",
            f"near-duplicates across parts: {len(self.near)}",
        ]
        if self.classes:
            parts = (f"{part} {dict(enumerate(names))}" for part, names in self.classes)
            lines.append("one class number, different classes: " + "; ".join(parts))
        return "\n".join(lines)


def leaks(train: Part, val: Part, test: Part | None = None) -> Leaks:
    """Find patients and pictures that stand in more than one part, and class numbers that differ.

    Exact duplicates are found by hash, near-duplicates by fingerprint: each image, in its eight
    flips and quarter turns, is averaged down to 16×16, freed of brightness and contrast, and
    expressed in the whitened principal components of all. There different patients are nearly
    orthogonal, while the same picture flipped, resized or re-encoded keeps a cosine near 1. Even
    margins, as letterboxing makes them, prove nothing: such a pair must agree inside them too. A
    picture cropped by more than about 2 % of its width is usually missed.

    Args:
        train: one part; images may be of any type, but of one shape in all parts.
        val: another.
        test: another, if there is one.

    Returns:
        What was found; positions count within each part.
    """
    given = zip(PARTS, (train, val, test), strict=True)
    parts = {name: part for name, part in given if part is not None}
    shapes = {name: tuple(part.images.shape[1:]) for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"all parts must have images of one shape; got {shapes}")
    patients: dict[str, list[str]] = {}
    twins: dict[bytes, list[tuple[str, int]]] = {}
    exact: list[tuple[str, int, str, int]] = []
    for name, part in parts.items():
        for patient in () if part.patients is None else np.unique(part.patients):
            patients.setdefault(str(patient), []).append(name)
        for i, image in enumerate(part.images.cpu().contiguous().numpy()):
            same = twins.setdefault(blake2b(image.tobytes(), digest_size=16).digest(), [])
            exact += [(*other, name, i) for other in same if other[0] != name]
            same.append((name, i))
    where = [(name, i) for name, part in parts.items() for i in range(len(part.images))]
    alike = _near_duplicates([part.images.cpu() for part in parts.values()])
    near = [(*where[i], *where[j], round(similarity, 3)) for i, j, similarity in alike]
    equal = set(exact)
    known = [(name, part.card.classes) for name, part in parts.items() if part.card.classes]
    meanings = zip_longest(*(classes for _, classes in known))
    clash = any(len(set(names) - {None}) > 1 for names in meanings)
    return Leaks(
        tuple((patient, tuple(names)) for patient, names in patients.items() if len(names) > 1),
        tuple(exact),
        tuple(pair for pair in near if pair[:4] not in equal),
        all(part.patients is not None for part in parts.values()),
        tuple(known) if clash else (),
    )


def _near_duplicates(parts: list[Tensor]) -> list[tuple[int, int, float]]:
    """(position, position, cosine) of pairs from different parts, counted through all parts."""
    pictures = [picture for images in parts for picture in images]
    first = [0, *accumulate(map(len, parts))]
    prints = torch.cat([_fingerprints(images) for images in parts])
    whiten = _whitening(prints)
    anchors = whiten(prints)
    found = []
    for low, high in pairwise(first[1:]):
        others = [whiten(_turned(prints[low:high], turn)) for turn in range(8)]
        for start, block in zip(range(0, low, 2048), anchors[:low].split(2048), strict=True):
            similarity, turn = torch.stack([block @ other.T for other in others]).max(0)
            for i, j in (similarity >= _ALIKE).nonzero().tolist():
                one, other = pictures[start + i], _turned(pictures[low + j], int(turn[i, j]))
                if _cosine_inside(one, other, whiten) >= _ALIKE - _SLACK:
                    found.append((start + i, low + j, min(1.0, similarity[i, j].item())))
    return sorted(found)


def _fingerprints(images: Tensor) -> Tensor:
    """(N, C, …) to (N, 1, 16, 16), of volumes (N, 1, 8, 8, 8), of zero mean and unit length."""
    pool = {4: nn.AdaptiveAvgPool2d(16), 5: nn.AdaptiveAvgPool3d(8)}[images.ndim]
    small = torch.cat([pool(to_float(chunk).mean(1, keepdim=True)) for chunk in images.split(1024)])
    flat = small.flatten(1) - small.flatten(1).mean(1, keepdim=True)
    return (flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)).view_as(small)


def _turned(images: Tensor, turn: int) -> Tensor:
    """One of the eight flips and quarter turns of the last two axes."""
    return torch.rot90(images.flip(-1) if turn >= 4 else images, turn % 4, (-2, -1))


def _whitening(prints: Tensor) -> Callable[[Tensor], Tensor]:
    """A map of fingerprints to unit vectors: principal components of all in their eight turns."""
    step = max(1, len(prints) // 4000)
    sample = torch.cat([_turned(prints, turn).flatten(1)[::step] for turn in range(8)]).double()
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
    keep = values.flip(0) > 1e-6 * values[-1]
    basis = vectors.flip(1)[:, keep][:, :48] / values.flip(0)[keep][:48].sqrt()
    basis, mean = basis.float(), mean.float()
    return lambda some: nn.functional.normalize((some.flatten(1) - mean) @ basis, dim=1)


def _cosine_inside(one: Tensor, other: Tensor, whiten: Callable[[Tensor], Tensor]) -> float:
    """Cosine of two aligned pictures (C, …), looking only where neither has an even margin."""
    # A quarter turn of a frame that is not square has another shape.
    other = nn.functional.interpolate(other[None].float(), size=one.shape[1:])[0]
    pair = torch.stack([one.float(), other])
    corners = torch.stack([_content(picture) for picture in pair])
    low, high = corners[:, 0].amax(0).tolist(), corners[:, 1].amin(0).tolist()
    inside = pair[(slice(None), slice(None), *map(slice, low, high))]
    if not inside.numel():
        return -1.0
    first, second = whiten(_fingerprints(inside))
    return float(first @ second)


def _content(picture: Tensor) -> Tensor:
    """First corner and last corner + 1 of what lies within the even margins of (C, …)."""
    slack = _EVEN * (picture.max() - picture.min())
    colours = picture.flatten(1)[:, [0, -1]].view(-1, 2, *[1] * (picture.ndim - 1))
    first, last = (picture[:, None] - colours).abs().gt(slack).any(0)
    if not first.any() or not last.any():  # a picture that is even altogether has no margin
        first = last = torch.ones_like(first)
    return torch.stack([first.nonzero().amin(0), last.nonzero().amax(0) + 1])
