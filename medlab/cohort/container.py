"""The cohort itself: what is known about each image stays with the image."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from medlab.cohort._fields import checked_boxes, checked_labels, checked_masks, images_of
from medlab.cohort.card import PARTS, DataCard
from medlab.cohort.duplicates import Leaks, leaks
from medlab.cohort.patients import identifiers, split_patients
from medlab.errors import DataError


@dataclass(kw_only=True)
class Cohort:
    """Images in one tensor, and per image its label, mask, boxes, patient, site and file.

    Every field is told where it stands; N is the number of images.

    Raises:
        DataError: fields whose lengths, types or values do not fit together.
    """

    images: Tensor  #: (N, C, H, W), or (N, C, D, H, W) for volumes; uint8 0…255, int16 or float32
    card: DataCard  #: the data card; of a segmentation task its classes name the mask values
    labels: Tensor | None = None  #: int64 (N,) classes; multilabel: float32 (N, K) of 0 and 1
    masks: Tensor | None = None  #: uint8 (N, H, W) or (N, D, H, W), 0 background, k structure k
    boxes: list[Tensor] | None = None  #: float32 (M, 4) each: x0, y0, x1, y1 in pixels, exclusive
    patients: np.ndarray | None = None  #: (N,) text, 1 and 1.0 as "1"; never to be split
    sites: np.ndarray | None = None  #: (N,) hospital or scanner
    spacing: tuple[float, ...] | None = None  #: mm between pixel centres, (row, column) last
    files: np.ndarray | None = None  #: (N,) where each image came from
    official: np.ndarray | None = None  #: (N,) "train", "val" or "test", if the makers fixed it
    extras: dict[str, Tensor | np.ndarray] = field(default_factory=dict)  #: more, first axis N

    def __post_init__(self) -> None:
        self.images = images_of(self.images)
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
            if len(value) != len(self):
                wrong = f"{len(value)} entries for {len(self)} images"
                raise DataError(f"{name} has {wrong}: there must be one per image")
        if self.official is not None and (strange := set(self.official) - set(PARTS)):
            raise DataError(f"official must be 'train', 'val' or 'test'; got {sorted(strange)}")

    def _per_image(self) -> dict[str, Any]:
        names = ("labels", "masks", "boxes", "patients", "sites", "files", "official")
        known = {name: getattr(self, name) for name in names}
        return {k: v for k, v in known.items() if v is not None} | self.extras

    def _each(self, change: Callable[[Any], Any]) -> Self:
        """The cohort with every per-image field changed alike."""
        changed = {name: change(value) for name, value in self._per_image().items()}
        extras = {name: changed.pop(name) for name in self.extras}
        return replace(self, images=change(self.images), extras=extras, **changed)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; position = label."""
        return self.card.classes

    @property
    def num_classes(self) -> int:
        """Number of classes; a DataError if the card does not name them."""
        if not self.classes:
            raise DataError(f"the card of {self.card.name} names no classes")
        return len(self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Self:
        """A smaller cohort: by position, slice, list, boolean mask or index array, as in NumPy."""
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        where = np.atleast_1d(np.arange(len(self))[index])
        if where.ndim != 1:
            raise IndexError("index a cohort with a position, a slice, a list or a mask")

        def pick(value: Any) -> Any:
            if isinstance(value, list):
                return [value[i] for i in where]
            return value[where] if isinstance(value, Tensor) else np.asarray(value)[where]

        return self._each(pick)

    def to(self, device: str | torch.device) -> Self:
        """The same cohort with every tensor on `device`."""

        def move(value: Any) -> Any:
            if isinstance(value, list):
                return [move(v) for v in value]
            return value.to(device) if isinstance(value, Tensor) else value

        return self._each(move)

    def split(
        self,
        *,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
    ) -> tuple[Self, Self, Self]:
        """Train, validation and test: the official split if there is one, else by patient.

        Args:
            fractions: shares of images for train, validation and test; positive, sum 1.
            seed: another seed gives another split of the patients (see `split_patients`).

        Raises:
            DataError: no patient ids, fewer than three patients, or an official part is empty.
        """
        parts = self.official
        if parts is None:
            if self.patients is None:
                raise DataError(
                    f"{self.card.name} has no patient ids, so one patient could stand on both "
                    "sides. Give `patients`; if all differ, np.arange(len(cohort))."
                )
            parts = split_patients(self.patients, self.labels, fractions=fractions, seed=seed)
        if lacking := set(PARTS) - set(parts):
            names = ", ".join(sorted(lacking))
            raise DataError(f"the official split of {self.card.name} has no {names} images")
        return self[parts == "train"], self[parts == "val"], self[parts == "test"]

    def leaks(self) -> Leaks:
        """What crosses this cohort's own split; see `medlab.cohort.leaks`."""
        return leaks(*self.split())

    def summary(self) -> str:
        """A few lines for a reader: size, patients, sites, images per class or voxel shares."""
        shape = "×".join(str(s) for s in self.images.shape[1:])
        lines = [f"{self.card.title}: {len(self)} images {shape}, {self.images.dtype}"]
        if self.patients is not None:
            lines.append(f"patients: {len(np.unique(self.patients))}")
        if self.sites is not None:
            pairs = zip(*np.unique(self.sites, return_counts=True), strict=True)
            lines.append("sites: " + ", ".join(f"{s} ({c} images)" for s, c in pairs))
        if self.card.task == "segmentation" and self.masks is not None:
            sizes = self.masks.flatten().bincount(minlength=len(self.classes))
            names = self.classes or [f"structure {k}" for k in range(len(sizes))]
            what = "voxels" if self.images.ndim == 5 else "pixels"
            pairs = zip(names, (sizes / sizes.sum().clamp_min(1)).tolist(), strict=True)
            lines.append("masks: " + ", ".join(f"{s} ({c:.2%} of {what})" for s, c in pairs))
        elif self.card.task != "segmentation" and self.labels is not None and self.classes:
            multi, n = self.labels.ndim == 2, len(self.classes)
            images = self.labels.sum(0).long() if multi else self.labels.bincount(minlength=n)
            pairs = zip(self.classes, images.tolist(), strict=True)
            lines.append("labels: " + ", ".join(f"{name} ({c} images)" for name, c in pairs))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Cohort {self.summary().replace(chr(10), '; ')}>"
