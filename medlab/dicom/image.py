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

from medlab.dicom._frames import frame_times, is_mosaic, padding, pixel_spacing, real_values
from medlab.dicom._pixels import stored_values
from medlab.dicom.source import MAX_BYTES, open_dicom, text
from medlab.errors import DicomError


@dataclass(frozen=True, kw_only=True)
class DicomImage:
    """The pixels of one file and what the header says of them.

    Attributes:
        pixels: grey (H, W), or (F, H, W) for several frames, float32 in `units` (float64 where
            float32 could not hold the stored integers exactly); colour (3, H, W) or (F, 3, H, W),
            RGB, uint8, or int32/int64 where the file has more than 8 bits.
        units: "HU", the header's own unit, "rescaled" where a rescale names none, "stored" where
            there is no rescale, or "RGB".
        spacing: distance of pixel centres (row, column) in mm, None where the header is silent.
        spacing_source: the attribute that gave it; ImagerPixelSpacing is measured on the detector,
            not in the patient.
        times: ms after the first frame, shape (F,), or None.
        inverted: the file was MONOCHROME1 (large values dark) and the pixels were mirrored, so that
            large is bright; the header's windows are those of the film.
        padding: True where grey pixels are PixelPaddingValue: filled in, not measured. They keep
            their value, so exclude them from means, windows and histograms. None where there are
            none.
        modality: such as "CT", "" where unknown.
        header: the data set without its pixel data, `header.file_meta` included.
        path: the file.
    """

    pixels: Tensor = field(repr=False)
    units: str
    spacing: tuple[float, float] | None
    spacing_source: str
    times: Tensor | None = field(repr=False)
    inverted: bool
    padding: Tensor | None = field(repr=False)
    modality: str
    header: Dataset = field(repr=False)
    path: Path

    @property
    def colour(self) -> bool:
        """Whether the pixels are RGB."""
        return self.units == "RGB"

    @property
    def frames(self) -> Tensor:
        """The pixels as (F, C, H, W): C is 1 or 3, F is 1 for a single image."""
        height, width = self.pixels.shape[-2:]
        return self.pixels.reshape(-1, 3 if self.colour else 1, height, width)


def read_image(path: Path | str, *, max_bytes: int = MAX_BYTES) -> DicomImage:
    """Read one DICOM file: grey or colour, one frame or many.

    Stored values become real ones by the header's rescale, Modality LUT or dose scaling, frame by
    frame where the file says so. A MONOCHROME1 picture (large values dark, as on film) is mirrored
    within its range, unless it is a CT, whose Hounsfield units keep their meaning. YBR colours and
    palettes become RGB. A warning tells of padding, of a mosaic of slices, and of colours that the
    header names wrongly.

    Args:
        path: the file.
        max_bytes: largest file and largest decoded array accepted, 2 GiB unless said otherwise. The
            header's size is checked against it, and against the bytes in the file, before memory is
            taken.

    Raises:
        DicomError: no image in the file, damaged or missing pixels, or a transfer syntax without a
            decoder.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> image = read_image(get_testdata_file("CT_small.dcm"))
        >>> tuple(image.pixels.shape), image.units, image.modality
        ((128, 128), 'HU', 'CT')

    Source: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (rescale).
    """
    image = decoded_image(path, max_bytes=max_bytes)
    if is_mosaic(image.header, image.path):
        warnings.warn(
            f"{image.path}: a mosaic: the slices of a volume stand side by side in this one "
            "picture; spacing and position are not those of its tiles",
            stacklevel=2,
        )
    tell_padding(image.padding, image.path)
    return image


def decoded_image(path: Path | str, *, max_bytes: int, mirror: bool = True) -> DicomImage:
    """As `read_image` without its warnings; `mirror=False` leaves MONOCHROME1 as it is stored."""
    path = Path(path)
    header = open_dicom(path, max_bytes=max_bytes)
    values, options = stored_values(header, path, max_bytes=max_bytes)
    del header[options["pixel_keyword"]]  # so that keeping a header does not keep an image
    count, mask, inverted = len(values), None, False
    if options["photometric_interpretation"] == "RGB":
        kind = {"uint8": np.uint8, "uint16": np.int32}.get(values.dtype.name, np.int64)
        pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 1), dtype=kind))
        units = "RGB"
    else:
        mirror = mirror and options["photometric_interpretation"] == "MONOCHROME1"
        found = padding(header, values, options["pixel_keyword"], path)
        mask = None if found is None else torch.from_numpy(found)
        ends = _ends(values, options) if mirror else None
        pixels, units, inverted = _in_units(header, values, ends, path)
    spacing, source = pixel_spacing(header, 0, path)
    times = frame_times(header, count, path)
    return DicomImage(
        pixels=pixels[0] if count == 1 else pixels,
        units=units,
        spacing=spacing,
        spacing_source=source,
        times=None if times is None else torch.tensor(times, dtype=torch.float32),
        inverted=inverted,
        padding=mask if mask is None or count > 1 else mask[0],
        modality=text(header, "Modality", path),
        header=header,
        path=path,
    )


def tell_padding(mask: Tensor | None, path: Path) -> None:
    """Warn of pixels that nobody measured."""
    if mask is not None:
        warnings.warn(
            f"{path}: {mask.float().mean():.1%} of the pixels are padding (PixelPaddingValue): "
            "nothing was measured there; the mask `padding` is True at them",
            stacklevel=3,
        )


def _ends(values: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """The smallest and the largest stored value: those that BitsStored allows, or of floats."""
    if values.dtype.kind == "f":
        return np.array([values.min(), values.max()])
    low = -(2 ** (options["bits_stored"] - 1)) if options["pixel_representation"] else 0
    return np.array([low, low + 2 ** options["bits_stored"] - 1])


def _in_units(
    header: Dataset, values: np.ndarray, ends: np.ndarray | None, path: Path
) -> tuple[Tensor, str, bool]:
    """(F, H, W) stored values → real ones, their units, and whether they were mirrored.

    It goes by frames to keep the float64 intermediate small. Where `ends` are given, a mirrored
    value is the sum of the real values at the ends minus the value.
    """
    exact = values.dtype.itemsize <= 2 or np.abs(values.astype(np.float64)).max() <= 2**24
    out = np.empty(values.shape, dtype=np.float32 if exact else np.float64)
    units = set()
    for k, stored in enumerate(values):
        real, unit = real_values(header, k, stored, path)
        if ends is not None and unit != "HU":
            real = real_values(header, k, ends, path)[0].sum() - real
        if not np.isfinite(real).all() or np.abs(real).max() > np.finfo(out.dtype).max:
            raise DicomError(f"{path}: its pixels are not finite after the header's rescale")
        out[k] = real
        units.add(unit)
    if len(units) > 1:
        raise DicomError(f"{path}: its frames have different units: {sorted(units)}")
    return torch.from_numpy(out), unit, ends is not None and unit != "HU"
