"""What a model was trained for, and the refusal of what it was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from medlab import preprocess
from medlab.errors import DataError, DicomError, read_facts

TERMS = read_facts("deploy/terms")
# The way in which (slice, row, column) run in the images that a model was trained on, LPS
AXES = {
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}
# Of HU the ends, since how much air lies round the patient moves the middle; of a normalised
# image, whose ends are fixed, the middle
_QUANTILES = {"HU": (0.05, 0.95), "share": (0.25, 0.5, 0.75)}
_PADDING = -1024.0  # HU; lower values stand for "nothing was measured here"


class StudyRefused(DicomError):
    """A study that a model was not made for, or that cannot be read.

    The message says what was expected, what came and what to do, and names no patient: neither
    values of the header that identify one, nor paths.

    Attributes:
        reason: the kind, as "modality", "body part" or "missing slices".
    """

    def __init__(self, reason: str, expected: str, came: str, do: str):
        super().__init__(f"refused ({reason}): expected {expected}; came {came}. {do}.")
        self.reason = reason


def refuse(reason: str, expected: str, came: str, do: str) -> NoReturn:
    """Raise a `StudyRefused` that drags no other error, with its values, along."""
    raise StudyRefused(reason, expected, came, do) from None


@dataclass(frozen=True, kw_only=True)
class Indications:
    """What a model was trained for and how its input is prepared; the word is the regulator's.

    Attributes:
        name: of the model; it stands in every result, as do `version` and `trained_on`.
        version: of the model.
        trained_on: whom its training images show, as "600 simulated patients".
        modality: "CT", "MR" or "DX", which takes computed radiographs (CR) too.
        body_part: a name that `terms.json` has, as "CHEST"; synonyms and codes count as the name.
        view: "axial", "coronal" or "sagittal" for volumes; "PA" or "AP" for radiographs.
        tilt: degrees, < 45, by which an axis of a volume may lie off.
        spacing: (least, most) distance of pixel centres, mm; None asks for none.
        slice_spacing: (least, most) distance of slices, mm.
        slices: least number of slices.
        coverage: least distance from the first slice to the last, mm.
        age: (least, most) years of the patient, None for any.
        contrast: whether images after a contrast agent belong to it; None for either.
        image_types: accepted first two values of ImageType, joined by a backslash.
        window: (level, width) in HU to the range 0…1; None normalises a whole image by its 1st and
            99th percentile instead.
        pixel_mm: the model's grid: mm, one number or one per axis; None leaves the study's own.
        size: (row, column) or (slice, row, column) of the model's grid: cut or filled with black
            round the centre; without `pixel_mm` the picture is first scaled to fit in.
        dims: 2 for a model that sees one slice at a time, 3 for one that sees the volume.
        codes: class name → (value, scheme, meaning) of a coding scheme, as SNOMED CT's.
        intensities: (quantile, least, most) of a study's values; see `measured`.
    """

    name: str
    version: str
    trained_on: str
    modality: str
    body_part: str
    view: str
    tilt: float = 10.0
    spacing: tuple[float, float] | None = None
    slice_spacing: tuple[float, float] | None = None
    slices: int = 2
    coverage: float = 0.0
    age: tuple[float, float] | None = None
    contrast: bool | None = None
    image_types: tuple[str, ...] = ("ORIGINAL\\PRIMARY",)
    window: tuple[float, float] | None = None
    pixel_mm: float | tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    dims: int = 2
    codes: Mapping[str, tuple[str, str, str]] | None = None
    intensities: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        views = ("PA", "AP") if self.modality == "DX" else tuple(AXES)
        for what, value, known in (
            ("modality", self.modality, tuple(TERMS["modalities"])),
            ("body_part", self.body_part, tuple(TERMS["body_parts"])),
            ("view", self.view, views),
            ("dims", self.dims, (2,) if self.modality == "DX" else (2, 3)),
        ):
            if value not in known:
                raise DataError(f"{what} must be one of {', '.join(map(str, known))}; got {value}")
        if not all(isinstance(t, str) and t for t in (self.name, self.version, self.trained_on)):
            raise DataError("name, version and trained_on are texts that stand in every result")
        for name in ("spacing", "slice_spacing", "age"):
            least, most = getattr(self, name) or (0, inf)
            if not 0 <= least <= most:
                raise DataError(f"{name} is (least, most), both ≥ 0; got {getattr(self, name)}")
        if self.size is not None and len(self.size) != self.dims:
            raise DataError(f"size must be {self.dims} numbers, one per axis; got {self.size}")
        if not 0 <= self.tilt < 45:
            raise DataError(f"tilt must be 0 to 45 degrees; got {self.tilt}")

    @property
    def warning(self) -> str:
        """The sentence that stands in every result."""
        return f"Not for clinical use; trained on {self.trained_on}."

    def scaled(self, values: Tensor) -> Tensor:
        """A whole study's values (…, H, W) on the scale on which intensities are compared."""
        if self.window is None:
            return preprocess.normalise(values, method="percentile")
        return values.float().clamp_min(_PADDING)

    def quantiles(self, values: Tensor) -> dict[float, float]:
        """Quantile → value of a whole study, on that scale."""
        which = _QUANTILES["HU" if self.window else "share"]
        found = np.quantile(self.scaled(values).numpy(), which)
        return dict(zip(which, found.tolist(), strict=True))

    def measured(self, images: Iterable[Tensor], *, margin: float) -> Indications:
        """The same, with the range of intensities of the training images.

        Args:
            images: each of one study, (H, W) or (…, H, W), in HU where there is a `window`.
            margin: how far outside a study's quantile may lie, in the unit of the scaled values:
                HU, or shares of the grey scale where there is no `window`.
        """
        rows = [self.quantiles(torch.as_tensor(image)) for image in images]
        if not rows or not margin >= 0:
            raise DataError(f"measured needs images, and a margin ≥ 0; got {len(rows)}, {margin}")
        bands = [
            (q, min(row[q] for row in rows) - margin, max(row[q] for row in rows) + margin)
            for q in rows[0]
        ]
        return replace(self, intensities=tuple(bands))
