"""One DICOM file as an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.dicom.frames import (
    Rescale,
    Window,
    frame_times,
    header_windows,
    pixel_spacing,
    rescale,
)
from medlab.dicom.layout import Layout
from medlab.dicom.pixels import stored_values
from medlab.dicom.source import MAX_BYTES, DicomFile, open_dicom, text
from medlab.errors import DicomError

__all__ = ["DicomImage", "read_image"]


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
    modality: str
    header: Dataset = field(repr=False)
    path: Path

    @property
    def colour(self) -> bool:
        """Whether the pixels are RGB."""
        return self.units == "RGB"

    @property
    def frames(self) -> Tensor:
        """The pixels as (F, C, H, W), whatever the file holds: C is 1 or 3, F is 1 for a single
        image.
        """
        height, width = self.pixels.shape[-2:]
        return self.pixels.reshape(-1, 3 if self.colour else 1, height, width)


def read_image(path: Path | str, *, max_bytes: int = MAX_BYTES) -> DicomImage:
    """Read one DICOM file: grey or colour, one frame or many.

    Stored values become real ones by the header's rescale or Modality LUT, frame by frame where the
    file says so. A MONOCHROME1 picture (large values dark, as on film) is mirrored within its
    range, together with its windows, unless it is a CT, whose Hounsfield units keep their meaning.
    YBR colours and palettes become RGB.

    Args:
        path: the file.
        max_bytes: largest file and largest decoded array accepted, 2 GiB unless said otherwise. The
            header's size is checked against it, and against the bytes in the file, before memory is
            taken.

    Raises:
        DicomError: no image in the file, damaged or missing pixels, or a transfer syntax without a
            decoder.

    Source: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (rescale), C.11.2 (windows).
    """
    file = open_dicom(path, max_bytes=max_bytes)
    return image_from(file, max_bytes=max_bytes)


def image_from(file: DicomFile, *, max_bytes: int = MAX_BYTES) -> DicomImage:
    """As `read_image`, from a file already parsed; its pixel data are dropped from the data set."""
    values, layout = stored_values(file, max_bytes=max_bytes)
    header = without_pixels(file.dataset)
    path, count = file.path, layout.frames
    modality = text(header, "Modality", path)
    windows = header_windows(header, path)
    inverted = False
    if layout.photometric == "RGB":
        kinds = {"uint8": np.uint8, "uint16": np.int32}
        pixels = torch.from_numpy(
            np.ascontiguousarray(
                np.moveaxis(values, -1, 1).astype(kinds.get(values.dtype.name, np.int64))
            )
        )
        units = "RGB"
    else:
        rules = [rescale(header, k, path) for k in range(count)]
        kinds = {rule.units for rule in rules}
        if len(kinds) != 1:
            raise DicomError(f"{path}: its frames have different units: {sorted(kinds)}")
        units = kinds.pop() or "stored"
        inverted = layout.photometric == "MONOCHROME1" and units != "HU"
        pixels = _real_values(values, rules, layout, path, inverted)
        if inverted:
            mirror = _mirror(rules[0], layout, path)
            windows = tuple(_mirrored(window, mirror) for window in windows)
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
        modality=modality,
        header=header,
        path=path,
    )


def without_pixels(dataset: Dataset) -> Dataset:
    """The same data set less its pixel data, so that keeping a header does not keep an image."""
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in dataset:
            del dataset[keyword]
    return dataset


def _real_values(
    values: np.ndarray, rules: list[Rescale], layout: Layout, path: Path, inverted: bool
) -> Tensor:
    """(F, H, W) stored values → real ones, frame by frame to keep the float64 intermediate
    small.
    """
    exact = values.dtype.itemsize <= 2 or np.abs(values.astype(np.float64)).max() <= 2**24
    out = np.empty(values.shape, dtype=np.float32 if exact else np.float64)
    for k, rule in enumerate(rules):
        real = rule(values[k], path)
        if inverted:
            real = _mirror(rule, layout, path) - real
        if not np.isfinite(real).all() or (exact and np.abs(real).max() > np.finfo(np.float32).max):
            raise DicomError(f"{path}: its pixels are not finite after the header's rescale")
        out[k] = real
    return torch.from_numpy(out)


def _mirror(rule: Rescale, layout: Layout, path: Path) -> float:
    """Sum of the darkest and brightest value that BitsStored allows; mirrored values are this minus
    the value.
    """
    if rule.lut is not None or layout.keyword != "PixelData":
        raise DicomError(
            f"{path}: MONOCHROME1 with a look-up table or float pixels is not supported"
        )
    low = -(2 ** (layout.stored - 1)) if layout.signed else 0
    ends = np.array([low, low + 2**layout.stored - 1])
    return float(rule(ends, path).sum())


def _mirrored(window: Window, mirror: float) -> Window:
    # The LINEAR window is centred on level - 0.5 (PS3.3 C.11.2.1.2), so its mirror image is one
    # unit higher.
    shift = 1.0 if window.function == "LINEAR" else 0.0
    return Window(mirror - window.level + shift, window.width, window.explanation, window.function)
