"""One DICOM file as an image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom._frames import (
    Rescale,
    Window,
    frame_times,
    header_windows,
    is_mosaic,
    padding,
    pixel_spacing,
    rescale,
)
from medlab.dicom._pixels import Layout, stored_values
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
        windows: the header's windows, to be applied to `pixels` as they stand here.
        inverted: the file was MONOCHROME1 (large values dark) and the pixels were mirrored, so that
            large is bright.
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
    windows: tuple[Window, ...]
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
    within its range, together with its windows, unless it is a CT, whose Hounsfield units keep
    their meaning. YBR colours and palettes become RGB. A warning tells of padding, of a mosaic of
    slices, of windows that cannot be read, and of colours that the header names wrongly.

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

    Source: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (rescale), C.11.2 (windows).
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
    file = open_dicom(path, max_bytes=max_bytes)
    values, layout = stored_values(file, max_bytes=max_bytes)
    path, header, count = file.path, file.dataset, layout.number_of_frames
    del header[layout.pixel_keyword]  # so that keeping a header does not keep an image
    windows, mask, inverted = _windows(header, path), None, False
    if layout.photometric_interpretation == "RGB":
        kind = {"uint8": np.uint8, "uint16": np.int32}.get(values.dtype.name, np.int64)
        pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 1), dtype=kind))
        units = "RGB"
    else:
        rules = [rescale(header, k, path) for k in range(count)]
        units = rules[0].units
        if any(rule.units != units for rule in rules):
            raise DicomError(f"{path}: its frames have different units")
        inverted = layout.photometric_interpretation == "MONOCHROME1" and units != "HU" and mirror
        ends = [_ends(rule, values, layout) if inverted else None for rule in rules]
        pixels = _real_values(values, rules, ends, path)
        found = padding(header, values, layout.pixel_keyword, path)
        mask = None if found is None else torch.from_numpy(found)
        if ends[0] is not None:
            windows = tuple(_mirrored(window, ends[0]) for window in windows)
    spacing, source = pixel_spacing(header, 0, path)
    times = frame_times(header, count, path)
    return DicomImage(
        pixels=pixels[0] if count == 1 else pixels,
        units=units,
        spacing=spacing,
        spacing_source=source,
        times=None if times is None else torch.tensor(times, dtype=torch.float32),
        windows=windows,
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


def _windows(header: Dataset, path: Path) -> tuple[Window, ...]:
    try:
        return header_windows(header, path)
    except DicomError as error:  # no reason to withhold the pixels
        warnings.warn(f"its windows were left out: {error}", stacklevel=4)
        return ()


def _real_values(
    values: np.ndarray, rules: list[Rescale], ends: list[float | None], path: Path
) -> Tensor:
    """(F, H, W) stored values → real ones, by frames to keep the float64 intermediate small."""
    exact = values.dtype.itemsize <= 2 or np.abs(values.astype(np.float64)).max() <= 2**24
    out = np.empty(values.shape, dtype=np.float32 if exact else np.float64)
    for k, (rule, mirror) in enumerate(zip(rules, ends, strict=True)):
        real = rule(values[k]) if mirror is None else mirror - rule(values[k])
        if not np.isfinite(real).all() or np.abs(real).max() > np.finfo(out.dtype).max:
            raise DicomError(f"{path}: its pixels are not finite after the header's rescale")
        out[k] = real
    return torch.from_numpy(out)


def _ends(rule: Rescale, values: np.ndarray, layout: Layout) -> float:
    """Sum of the darkest and the brightest value: a mirrored value is this minus the value.

    They are those that BitsStored allows, those of the look-up table, or of the float pixels.
    """
    if rule.lut is not None:
        return float(rule.lut.min() + rule.lut.max())
    low = -(2 ** (layout.bits_stored - 1)) if layout.pixel_representation else 0
    ends = np.array([low, low + 2**layout.bits_stored - 1])
    if values.dtype.kind == "f":
        ends = np.array([values.min(), values.max()])
    return float(rule(ends).sum())


def _mirrored(window: Window, mirror: float) -> Window:
    # The LINEAR window is centred on level - 0.5 (PS3.3 C.11.2.1.2), so its mirror image is one
    # unit higher.
    shift = 1.0 if window.function == "LINEAR" else 0.0
    return Window(mirror - window.level + shift, window.width, window.explanation, window.function)
