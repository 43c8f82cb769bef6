"""The cohort itself: what is known about each image stays with the image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlab.cohort._fields import checked_boxes, checked_labels, checked_masks
from medlab.cohort.card import PARTS, DataCard
from medlab.cohort.duplicates import Leaks, leaks
from medlab.cohort.patients import class_counts, identifiers, split_patients
from medlab.errors import DataError


@dataclass(kw_only=True)
class Cohort:
    """Images in one tensor, and per image its label, mask, boxes, patient, site and file.

    Attributes:
        images: (N, C, H, W), or (N, C, D, H, W) for volumes; uint8 0…255, int16 or float32.
        card: the data card.
        labels: int64 (N,) classes, or float32 (N, K) of 0 and 1 when the task is multilabel.
        masks: uint8 (N, H, W) or (N, D, H, W); 0 is background, k the k-th structure. When the
            task is segmentation, the card's classes name the mask values, background first.
        boxes: one float32 (M, 4) tensor an image: x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
        patients: (N,) patient identifiers as text, 1 and 1.0 as "1"; images of one patient must
            never be split.
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

    def __post_init__(self) -> None:
        self.images = torch.as_tensor(self.images)
        if self.images.ndim not in (4, 5):
            raise DataError(
                "images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
                f"{tuple(self.images.shape)}. For N grey images of shape (N, H, W) pass "
                "images[:, None]."
            )
        for name in ("patients", "sites", "official"):
            if getattr(self, name) is not None:
                setattr(self, name, identifiers(getattr(self, name), name))
        if self.files is not None:
            self.files = np.asarray(self.files).astype(str)
        if self.labels is not None:
            self.labels = checked_labels(self.labels, self.card)
        if self.masks is not None:
            want = (len(self.images), *self.images.shape[2:])
            self.masks = checked_masks(self.masks, want, self.card)
        if self.boxes is not None:
            self.boxes = checked_boxes(self.boxes)
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
        """Number of classes (of labels, when multilabel; of mask values, when segmentation)."""
        if self.classes:
            return len(self.classes)
        values = self.masks if self.card.task == "segmentation" else self.labels
        if values is None or not values.numel():
            raise DataError(f"{self.card.name} has no class names, and nothing to count them by")
        if self.card.task == "multilabel":
            return values.shape[1]
        return int(values.max()) + 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Cohort:
        """A smaller cohort: by position, slice, list, boolean mask or index array."""
        index = torch.arange(len(self))[_as_index(index, len(self))].reshape(-1)
        where = index.numpy()

        def pick(value: Any) -> Any:
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

        def move(value: Any) -> Any:
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

    def leaks(self, **options: Any) -> Leaks:
        """What crosses this cohort's own split; see `medlab.cohort.leaks`."""
        return leaks(*self.split(), **options)

    def summary(self) -> str:
        """A few lines for a reader: size, patients, sites, images per class or voxel shares."""
        shape = "×".join(str(s) for s in self.images.shape[1:])
        lines = [f"{self.card.title}: {len(self)} images {shape}, {self.images.dtype}"]
        if self.patients is not None:
            lines.append(f"patients: {len(np.unique(self.patients))}")
        if self.sites is not None:
            pairs = zip(*np.unique(self.sites, return_counts=True), strict=True)
            lines.append("sites: " + ", ".join(f"{s} ({c} images)" for s, c in pairs))
        segmentation = self.card.task == "segmentation"
        if self.masks is not None and segmentation:
            sizes = torch.bincount(self.masks.flatten(), minlength=self.num_classes)
            names = self.classes or [f"structure {k}" for k in range(len(sizes))]
            pairs = zip(names, (sizes / sizes.sum().clamp_min(1)).tolist(), strict=True)
            what = "voxels" if self.images.ndim == 5 else "pixels"
            lines.append("masks: " + ", ".join(f"{s} ({c:.2%} of {what})" for s, c in pairs))
        elif self.labels is not None and self.classes and not segmentation:
            images = class_counts(self.labels, self.num_classes).sum(0).long().tolist()
            pairs = zip(self.classes, images, strict=True)
            lines.append("labels: " + ", ".join(f"{name} ({c} images)" for name, c in pairs))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Cohort {self.summary().replace(chr(10), '; ')}>"


def _as_index(index: Any, n: int) -> slice | Tensor:
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
