"""A cohort: images of many patients in one tensor, with all that is known about each image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from hashlib import blake2b
from textwrap import fill

import numpy as np
import torch
from torch import Tensor, nn

from medlab.errors import DataError

__all__ = ["Cohort", "DataCard", "leaks", "to_float"]

PARTS = ("train", "val", "test")
TASKS = ("binary", "multiclass", "ordinal", "multilabel", "segmentation", "detection", "none")


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What one must know of a data set before using it.

    Attributes:
        name: the name that `medlab.load` takes.
        title: one line for a reader.
        task: binary, multiclass, ordinal, multilabel, segmentation, detection or none.
        classes: class names; position = label.
        modality: "X-ray", "CT", "MR", "ultrasound", …
        description: what was imaged, in whom, how labelled, and what the set is not good for.
        source: who made it: paper, year, DOI.
        licence: SPDX name or the words of the source.
        url: where the file comes from; empty for simulated sets.
        citation: what to cite when a result is published.
        md5: hash of the official file; empty for simulated sets.
        faults: known faults, each one sentence with its source.
        simulated: True if no patient was ever imaged.
        units: unit of a pixel value ("HU", "display grey level", …).
        value_range: smallest and largest possible pixel value.
        version: changes whenever the bytes change.
    """

    name: str
    title: str
    task: str
    classes: tuple[str, ...] = ()
    modality: str = ""
    description: str = ""
    source: str = ""
    licence: str = ""
    url: str = ""
    citation: str = ""
    md5: str = ""
    faults: tuple[str, ...] = ()
    simulated: bool = False
    units: str = ""
    value_range: tuple[float, float] | None = None
    version: str = "1"

    def __post_init__(self):
        if self.task not in TASKS:
            raise DataError(f"task must be one of {', '.join(TASKS)}; got {self.task!r}")

    def __str__(self) -> str:
        rows = [
            ("task", f"{self.task}: {', '.join(self.classes)}" if self.classes else self.task),
            ("modality", self.modality),
            ("what", self.description),
            ("pixel values", self.units),
            ("source", "simulated, no patient was imaged" if self.simulated else self.source),
            ("licence", self.licence),
            *(("known fault", fault) for fault in self.faults),
        ]
        indent = " " * 15
        lines = (
            fill(f"{key:>13}  {value}", 88, subsequent_indent=indent, break_long_words=False)
            for key, value in rows
            if value
        )
        return "\n".join([f"{self.title} ({self.name})", *lines])


def to_float(images: Tensor) -> Tensor:
    """Images as float32: uint8 0…255 becomes 0…1, any other type keeps its values."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


@dataclass(kw_only=True)
class Cohort:
    """Images in one tensor, and per image its label, mask, boxes, patient, site and file.

    Attributes:
        images: (N, C, H, W), or (N, C, D, H, W) for volumes; uint8 0…255, int16 or float32.
        card: the data card.
        labels: int64 (N,) classes, or float32 (N, K) of 0 and 1 when the task is multilabel.
        masks: uint8 (N, H, W) or (N, D, H, W); 0 is background, k the k-th structure.
        boxes: one float32 (M, 4) tensor an image: x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
        patients: (N,) patient identifiers; images of one patient must never be split.
        sites: (N,) hospital or scanner.
        spacing: millimetres between pixel centres, last axes of `images`: (row, column).
        files: (N,) where each image came from.
        official: (N,) "train", "val" or "test", if the makers of the set fixed a split.
        extras: further per-image facts by name, first axis N.

    Raises:
        DataError: fields whose lengths, types or values do not fit together.
    """

    images: Tensor
    card: DataCard
    labels: Tensor | None = None
    masks: Tensor | None = None
    boxes: list[Tensor] | None = None
    patients: np.ndarray | None = None
    sites: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None
    files: np.ndarray | None = None
    official: np.ndarray | None = None
    extras: dict[str, Tensor | np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        self.images = torch.as_tensor(self.images)
        if self.images.ndim not in (4, 5):
            raise DataError(
                "images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
                f"{tuple(self.images.shape)}. For N grey images of shape (N, H, W) pass "
                "images[:, None]."
            )
        for name in ("patients", "sites", "files", "official"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, np.asarray(value).astype(str))
        if self.labels is not None:
            self.labels = _checked_labels(torch.as_tensor(self.labels), self.card)
        if self.masks is not None:
            self.masks = torch.as_tensor(self.masks)
            want = (len(self.images), *self.images.shape[2:])
            if tuple(self.masks.shape) != want:
                raise DataError(
                    f"masks must be {want}, as the images; got {tuple(self.masks.shape)}"
                )
        for name, value in self._per_image().items():
            if len(value) != len(self.images):
                raise DataError(
                    f"{name} has {len(value)} entries for {len(self.images)} images: there must "
                    "be exactly one per image"
                )
        if self.official is not None and not set(self.official) <= set(PARTS):
            strange = sorted(set(self.official) - set(PARTS))
            raise DataError(f"official must be 'train', 'val' or 'test'; got {strange}")

    def _per_image(self) -> dict:
        names = ("labels", "masks", "boxes", "patients", "sites", "files", "official")
        known = {name: getattr(self, name) for name in names}
        return {k: v for k, v in known.items() if v is not None} | self.extras

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; position = label."""
        return self.card.classes

    @property
    def num_classes(self) -> int:
        """Number of classes (of labels, when multilabel)."""
        if self.classes:
            return len(self.classes)
        if self.labels is None:
            raise DataError(f"{self.card.name} has neither labels nor class names")
        return self.labels.shape[1] if self.labels.ndim == 2 else int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index) -> Cohort:
        """A smaller cohort: by position, slice, list, boolean mask or index array."""
        index = torch.arange(len(self))[_as_index(index, len(self))].reshape(-1)
        where = index.numpy()

        def pick(value):
            if isinstance(value, Tensor):
                return value[index.to(value.device)]
            if isinstance(value, list):
                return [value[i] for i in where]
            return np.asarray(value)[where]

        picked = {name: pick(value) for name, value in self._per_image().items()}
        extras = {name: picked.pop(name) for name in self.extras}
        return dataclasses.replace(self, images=pick(self.images), extras=extras, **picked)

    def to(self, device: str | torch.device) -> Cohort:
        """The same cohort with every tensor on `device`."""

        def move(value):
            if isinstance(value, list):
                return [move(v) for v in value]
            return value.to(device) if isinstance(value, Tensor) else value

        moved = {name: move(value) for name, value in self._per_image().items()}
        extras = {name: moved.pop(name) for name in self.extras}
        return dataclasses.replace(self, images=move(self.images), extras=extras, **moved)

    def split(
        self,
        *,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
        official: bool = True,
    ) -> tuple[Cohort, Cohort, Cohort]:
        """Train, validation and test: the official split if there is one, else by patient.

        Every patient falls into exactly one part, no part is empty, and classes are spread as
        evenly as whole patients allow (see `split_patients`).

        Args:
            fractions: shares of images for train, validation and test; positive, sum 1.
            seed: another seed gives another split of the patients.
            official: set False to ignore an official split.

        Raises:
            DataError: no patient ids (and no official split), or fewer than three patients.
        """
        if official and self.official is not None:
            parts = self.official
        else:
            if self.patients is None:
                raise DataError(
                    f"{self.card.name} has no patient ids, so a split could put one patient on "
                    "both sides. Give `patients`, one id per image; if every image truly is "
                    "another patient, pass patients=np.arange(len(cohort))."
                )
            parts = split_patients(self.patients, self.labels, fractions=fractions, seed=seed)
        train, val, test = (self[parts == part] for part in PARTS)
        for name, part in zip(PARTS, (train, val, test), strict=True):
            if len(part) == 0:
                raise DataError(f"the official split of {self.card.name} has no {name} images")
        return train, val, test

    def leaks(self, **options) -> Leaks:
        """What crosses this cohort's own split; see `medlab.cohort.leaks`."""
        return leaks(*self.split(), **options)

    def summary(self) -> str:
        """A few lines for a reader: size, patients, sites, images per class."""
        shape = "×".join(str(s) for s in self.images.shape[1:])
        lines = [f"{self.card.title}: {len(self)} images {shape}, {self.images.dtype}"]
        if self.patients is not None:
            lines.append(f"patients: {len(np.unique(self.patients))}")
        if self.sites is not None:
            names, counts = np.unique(self.sites, return_counts=True)
            pairs = zip(names, counts, strict=True)
            lines.append("sites: " + ", ".join(f"{s} ({c} images)" for s, c in pairs))
        if self.labels is not None and self.classes:
            counts = _class_counts(self.labels, self.num_classes).sum(0).long().tolist()
            pairs = zip(self.classes, counts, strict=True)
            lines.append("labels: " + ", ".join(f"{name} ({c} images)" for name, c in pairs))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Cohort {self.summary().replace(chr(10), '; ')}>"


def _checked_labels(labels: Tensor, card: DataCard) -> Tensor:
    if card.task == "multilabel":
        if labels.ndim != 2 or not ((labels == 0) | (labels == 1)).all():
            raise DataError(
                f"multilabel labels must be (N, K) of 0 and 1; got shape {tuple(labels.shape)}"
            )
        return labels.float()
    if labels.ndim != 1:
        raise DataError(
            f"labels of a {card.task} task must be (N,) class numbers; got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() and not (labels == labels.round()).all():
        raise DataError("labels must be whole class numbers 0, 1, 2 …; got fractions")
    labels = labels.long()
    if len(labels) and (labels.min() < 0 or (card.classes and labels.max() >= len(card.classes))):
        raise DataError(
            f"labels must lie in 0…{len(card.classes) - 1} ({', '.join(card.classes)}); got "
            f"{int(labels.min())}…{int(labels.max())}"
        )
    return labels


def _as_index(index, n: int):
    if isinstance(index, (bool, np.bool_)):
        raise DataError("index a cohort with a position, slice, list or mask, not a single bool")
    if isinstance(index, (int, np.integer)):
        if not -n <= index < n:
            raise IndexError(f"position {index} in a cohort of {n} images")
        return slice(int(index) % n, int(index) % n + 1)
    if isinstance(index, slice):
        return index
    index = index.cpu() if isinstance(index, Tensor) else torch.as_tensor(np.asarray(index))
    if index.numel() == 0:
        return index.long()
    if index.dtype == torch.bool and len(index) != n:
        raise DataError(f"a mask of {len(index)} entries for a cohort of {n} images")
    return index


def _class_counts(labels: Tensor | None, num_classes: int) -> Tensor:
    """One row an image: which classes it counts for."""
    if labels.ndim == 2:
        return labels.double()
    return torch.nn.functional.one_hot(labels.long(), num_classes).double()


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
        DataError: fewer than three patients, or fractions that are not positive or do not sum to 1.
    """
    patients = np.asarray(patients)
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
        per_image = np.concatenate([_class_counts(labels, k).numpy(), per_image], axis=1)
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


@dataclass(frozen=True)
class Leaks:
    """What stands on both sides of a split. False if nothing does.

    Attributes:
        patients: (patient, parts) for every patient found in more than one part.
        exact: (part, position, part, position) of images equal in every pixel.
        near: the same with a similarity 0…1 at the end: the same picture flipped, turned, resized
            or re-encoded. Candidates to look at, not a verdict.
        named: every part names its patients. If not, shared patients are unknown, not absent.
    """

    patients: tuple[tuple[str, tuple[str, ...]], ...]
    exact: tuple[tuple[str, int, str, int], ...]
    near: tuple[tuple[str, int, str, int, float], ...]
    named: bool = True

    def __bool__(self) -> bool:
        return bool(self.patients or self.exact or self.near)

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
        return "\n".join(lines)


def leaks(
    train: Cohort, val: Cohort, test: Cohort | None = None, *, threshold: float = 0.95
) -> Leaks:
    """Find patients and pictures that stand in more than one part.

    Exact duplicates are found by hash. Near-duplicates are found by fingerprint: each image, and
    its eight flips and quarter turns, is averaged down to 16×16, freed of brightness and contrast,
    and expressed in the whitened principal components of all images together. There two different
    patients are nearly orthogonal, however alike two chests look, while the same picture flipped,
    resized or re-encoded keeps a cosine near 1. A picture cropped by more than about 2 % of its
    width is usually missed.

    Args:
        train, val, test: the parts, images of any type; all of one shape. `test` may be left out.
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
    return Leaks(_shared_patients(parts), exact, near, named)


def _shared_patients(parts: dict[str, Cohort]) -> tuple:
    seen: dict[str, list[str]] = {}
    for name, part in parts.items():
        if part.patients is not None:
            for patient in np.unique(part.patients):
                seen.setdefault(str(patient), []).append(name)
    return tuple((p, tuple(names)) for p, names in seen.items() if len(names) > 1)


def _exact_duplicates(parts: dict[str, Cohort]) -> tuple:
    seen: dict[bytes, list[tuple[str, int]]] = {}
    pairs = []
    for name, part in parts.items():
        for i, image in enumerate(part.images.cpu().contiguous().numpy()):
            twins = seen.setdefault(blake2b(image.tobytes(), digest_size=16).digest(), [])
            pairs += [(*twin, name, i) for twin in twins if twin[0] != name]
            twins.append((name, i))
    return tuple(pairs)


def _fingerprints(images: Tensor) -> Tensor:
    """(N, C, …) -> (N, 16·16) or, for volumes, (N, 8·8·8): small, zero mean, unit spread."""
    pool = {4: nn.AdaptiveAvgPool2d(16), 5: nn.AdaptiveAvgPool3d(8)}[images.ndim]
    small = torch.cat([pool(to_float(chunk).mean(1, keepdim=True)) for chunk in images.split(1024)])
    flat = small.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return (flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)).view_as(small)


def _near_duplicates(parts: list[Cohort], threshold: float, components: int = 48):
    prints = [_fingerprints(part.images.cpu()) for part in parts]
    base = torch.cat(prints)
    turned = [torch.rot90(f, k, (-2, -1)) for f in (base, base.flip(-1)) for k in range(4)]
    sample = torch.cat([t.flatten(1)[:: max(1, len(base) // 4000)] for t in turned]).double()
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
    keep = values.flip(0) > 1e-6 * values[-1]
    basis = vectors.flip(1)[:, keep][:, :components] / values.flip(0)[keep][:components].sqrt()
    basis, mean = basis.float(), mean.float()

    def whiten(prints: Tensor) -> Tensor:
        return nn.functional.normalize((prints.flatten(1) - mean) @ basis, dim=1)

    first = np.cumsum([0, *map(len, parts)])
    anchors = whiten(base)
    best: dict[tuple[int, int], float] = {}
    for p in range(1, len(parts)):
        others = [whiten(t[first[p] : first[p + 1]]) for t in turned]
        for start in range(0, int(first[p]), 2048):
            block = anchors[start : min(start + 2048, int(first[p]))]
            similarity = torch.stack([block @ other.T for other in others]).amax(0)
            for i, j in (similarity >= threshold).nonzero().tolist():
                best[start + i, int(first[p]) + j] = min(1.0, similarity[i, j].item())
    return [(i, j, similarity) for (i, j), similarity in sorted(best.items())]
