"""One DICOM file as an image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom._frames import is_mosaic, pixel_spacing, real_values
from medlab.dicom._pixels import stored_values
from medlab.dicom.source import MAX_BYTES, number, open_dicom, text
from medlab.errors import DicomError


@dataclass(frozen=True, kw_only=True)
class DicomImage:
    """The pixels of one file and what the header says of them.

    Attributes:
        pixels: grey (H, W), or (F, H, W) for several frames, float32 in `units`; RGB (3, H, W) or
            (F, 3, H, W), uint8, or int32/int64 where the file has more than 8 bits.
        units: "HU", the header's own, "rescaled" where a rescale names none, "stored", or "RGB".
        spacing: distance of pixel centres (row, column) in mm, None where the header is silent.
        spacing_source: the attribute that gave it; ImagerPixelSpacing is that on the detector.
        times: ms of each frame of a cine, shape (F,), None for other images.
        inverted: the file was MONOCHROME1 (large values dark) and the pixels were mirrored.
        modality: such as "CT", "" where unknown.
        header: the data set without its pixel data, `header.file_meta` included.
    """

    pixels: Tensor = field(repr=False)
    units: str
    spacing: tuple[float, float] | None
    spacing_source: str
    times: Tensor | None = field(default=None, repr=False)
    inverted: bool
    modality: str
    header: Dataset = field(repr=False)

    @property
    def colour(self) -> bool:
        """Whether the pixels are RGB."""
        return self.units == "RGB"

    @property
    def frames(self) -> Tensor:
        """The pixels as (F, C, H, W): C is 1 or 3, F is 1 for a single image."""
        return self.pixels.reshape(-1, 3 if self.colour else 1, *self.pixels.shape[-2:])


def read_image(path: Path | str, *, mirror: bool = True, max_bytes: int = MAX_BYTES) -> DicomImage:
    """Read one DICOM file: grey or colour, one frame or many.

    Stored values become real ones by the header's rescale, Modality LUT or dose scaling, frame by
    frame where the file says so. A MONOCHROME1 picture (large values dark, as on film) is mirrored
    within its range, unless it is in Hounsfield units. YBR colours and palettes become RGB. A
    warning tells of padding and of a mosaic of slices.

    Args:
        path: the file.
        mirror: False leaves MONOCHROME1 as it is stored.
        max_bytes: largest file and largest decoded array; checked before memory is taken.

    Raises:
        DicomError: no image in the file, damaged or missing pixels, or no decoder for them.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> image = read_image(get_testdata_file("CT_small.dcm"))
        >>> tuple(image.pixels.shape), image.units, image.modality
        ((128, 128), 'HU', 'CT')

    Source: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (rescale).
    """
    path = Path(path)
    header = open_dicom(path, max_bytes=max_bytes)
    values, options = stored_values(header, path, max_bytes=max_bytes)
    del header[options["pixel_keyword"]]  # so that keeping a header does not keep an image
    if is_mosaic(header, path):
        mosaic = "a mosaic: slices side by side; spacing and position are not theirs"
        warnings.warn(f"{path}: {mosaic}", stacklevel=2)
    one = 0 if len(values) == 1 else slice(None)
    inverted = False
    if options["photometric_interpretation"] == "RGB":
        kind = {"uint8": np.uint8, "uint16": np.int32}.get(values.dtype.name, np.int64)
        pixels, units = np.ascontiguousarray(np.moveaxis(values, -1, 1), dtype=kind), "RGB"
    else:
        inverted = mirror and options["photometric_interpretation"] == "MONOCHROME1"
        pad = number(header, "PixelPaddingValue", path)  # 63536 may stand for −2000: same bits
        if pad is not None and (values == np.array(pad).astype("i8").astype(values.dtype)).any():
            warnings.warn(
                f"{path.parent}: some pixels are padding (PixelPaddingValue {pad:g}): nothing was "
                "measured there, exclude them from means and windows",
                stacklevel=2,
            )
        ends = _ends(values, options) if inverted else None
        pixels, units = _in_units(header, values, ends, path)
    spacing, source = pixel_spacing(header, 0, path)
    return DicomImage(
        pixels=torch.from_numpy(pixels)[one],
        units=units,
        spacing=spacing,
        spacing_source=source,
        inverted=inverted and units != "HU",
        modality=text(header, "Modality", path),
        header=header,
    )


def _ends(values: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """The smallest and the largest stored value: those that BitsStored allows, or of floats."""
    if values.dtype.kind == "f":
        return np.array([values.min(), values.max()])
    low = -(2 ** (options["bits_stored"] - 1)) if options["pixel_representation"] else 0
    return np.array([low, low + 2 ** options["bits_stored"] - 1])


def _in_units(
    header: Dataset, values: np.ndarray, ends: np.ndarray | None, path: Path
) -> tuple[np.ndarray, str]:
    """(F, H, W) stored values → real ones, mirrored between `ends` if given, and their units."""
    out = np.empty(values.shape, np.float32)
    units = set()
    for k, stored in enumerate(values):
        real, unit = real_values(header, k, stored, path)
        if ends is not None and unit != "HU":
            real = real_values(header, k, ends, path)[0].sum() - real
        if not np.isfinite(real).all() or np.abs(real).max() > np.finfo(np.float32).max:
            raise DicomError(f"{path}: its pixels are not finite after the header's rescale")
        out[k] = real
        units.add("rescaled" if unit in ("", "US") else unit)
    if len(units) > 1:
        raise DicomError(f"{path}: its frames have different units: {sorted(units)}")
    return out, units.pop()
