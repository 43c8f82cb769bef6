"""What a model was trained for, and the refusal of what it was not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf

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


def require_text(what: str, value: object, most: int = 64) -> None:
    """Refuse what the attributes of a result, mostly LO (PS3.5), could not hold."""
    text = value if isinstance(value, str) else ""
    if not text.strip() or not text.isprintable() or len(text) > most or "\\" in text:
        told = f"{what} must be a text of 1 to {most} characters, no backslash, as DICOM has it"
        raise DataError(f"{told}; got {value!r}")


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
        spacing: (least, most) distance of pixel centres, mm; None asks for none.
        slice_spacing: (least, most) distance of slices, mm.
        coverage: least distance from the first slice to the last, mm.
        age: (least, most) years of the patient, None for any.
        contrast: False refuses images of which the header names a contrast agent.
        image_types: accepted first two values of ImageType, joined by a backslash.
        window: (level, width) in HU to the range 0…1; None normalises a whole image by its 1st and
            99th percentile instead.
        pixel_mm: distance of the pixels that the model sees, mm; None leaves the study's own.
        size: (row, column) of what the model sees: cut round the centre, or filled with a study's
            darkest value; without `pixel_mm` the picture is first scaled to fit in.
        intensities: (quantile, least, most) of a study's values; see `measured`.
    """

    name: str
    version: str
    trained_on: str
    modality: str
    body_part: str
    view: str
    spacing: tuple[float, float] | None = None
    slice_spacing: tuple[float, float] | None = None
    coverage: float = 0.0
    age: tuple[float, float] | None = None
    contrast: bool = True
    image_types: tuple[str, ...] = ("ORIGINAL\\PRIMARY",)
    window: tuple[float, float] | None = None
    pixel_mm: float | None = None
    size: tuple[int, int] | None = None
    intensities: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        views = ("PA", "AP") if self.modality == "DX" else tuple(AXES)
        known = {"modality": TERMS["modalities"], "body_part": TERMS["body_parts"], "view": views}
        for what, names in known.items():
            if (got := getattr(self, what)) not in names:
                raise DataError(f"{what} must be one of {', '.join(names)}; got {got}")
        for what, limit in (("name", 64), ("version", 64), ("trained_on", 1024)):
            require_text(what, getattr(self, what), limit)
        for what in ("spacing", "slice_spacing", "age"):
            least, most = getattr(self, what) or (0, inf)
            if not 0 <= least <= most:
                raise DataError(f"{what} is (least, most), both ≥ 0; got {getattr(self, what)}")
        mm, size, window = self.pixel_mm, self.size, self.window
        sized = size is None or (np.shape(size) == (2,) and np.min(size) > 0)
        quantiles = _QUANTILES["HU" if window else "share"]
        bands = [len(band) == 3 and band[0] in quantiles for band in self.intensities]
        for what, fits, expected in (
            ("pixel_mm", mm is None or (np.ndim(mm) == 0 and mm > 0), "a number above 0"),
            ("size", sized, "two numbers above 0, (row, column)"),
            ("window", not window or (len(window) == 2 and window[1] >= 1), "(level, width ≥ 1)"),
            ("image_types", not isinstance(self.image_types, str), "several texts, as a tuple"),
            ("intensities", all(bands), f"(quantile, least, most) of the quantiles {quantiles}"),
        ):
            if not fits:
                raise DataError(f"{what} must be {expected}; got {getattr(self, what)}")

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
