"""Stored pixel values: every pixel that the header declares, or a refusal."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from medlab.dicom.encapsulated import inflate_frame, split_frames, unpack_rle
from medlab.dicom.jpeg import check_jpeg
from medlab.dicom.jpeg2000 import check_jpeg2000
from medlab.dicom.layout import Layout, read_layout
from medlab.dicom.source import DEFLATED_FRAMES, MAX_BYTES, DicomFile, refusing
from medlab.errors import DicomError

__all__ = ["stored_values"]

_NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
_EXTRA = 'pip install "medlab[dicom]"'


def stored_values(file: DicomFile, *, max_bytes: int = MAX_BYTES) -> tuple[np.ndarray, Layout]:
    """The stored values of all frames, before any rescale.

    Args:
        file: a parsed file, opened with its pixels.
        max_bytes: largest decoded array accepted; checked against the header before anything is
            allocated.

    Returns:
        An array of shape (F, H, W) for grey or (F, H, W, 3) for colour, of the file's integer or
        float type in the machine's byte order, and the layout whose `photometric` says what the
        values are: MONOCHROME1, MONOCHROME2 or RGB. YBR and palettes are converted to RGB.

    Raises:
        DicomError: pixels missing, too many, damaged, contradicting the header, or in a transfer
            syntax that needs a decoder which is not installed.
    """
    layout = read_layout(file.dataset, file.path, max_bytes=max_bytes)
    value, vr, undefined_length = _pixel_bytes(file, layout)
    if file.transfer_syntax in _NATIVE:
        if undefined_length:
            raise DicomError(
                f"{file.path}: its pixel data are compressed, but its transfer syntax says they "
                "are not"
            )
        array, photometric = _native(value, layout, file, vr)
    else:
        array, photometric = _compressed(value, layout, file)
    if layout.photometric == "PALETTE COLOR":
        array, photometric = _through_palette(array, file), "RGB"
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "RGB"):
        raise DicomError(f"{file.path}: cannot convert {photometric} pixels to RGB")
    shape = (layout.frames, layout.rows, layout.columns) + ((3,) if photometric == "RGB" else ())
    if array.size != np.prod(shape, dtype=np.int64):
        raise DicomError(f"{file.path}: decoded {array.size:,} values, the header asks for {shape}")
    array = array.reshape(shape)
    return (
        array.astype(array.dtype.newbyteorder("="), copy=False),
        dataclasses.replace(layout, photometric=photometric),
    )


def _pixel_bytes(file: DicomFile, layout: Layout) -> tuple[bytes, str, bool]:
    with refusing(file.path, f"read {layout.keyword}"):
        element = file.dataset[layout.keyword]
        value, vr, undefined = element.value, str(element.VR), bool(element.is_undefined_length)
    if not isinstance(value, (bytes, bytearray)) or not value:
        raise DicomError(f"{file.path}: {layout.keyword} is empty or damaged")
    return bytes(value), vr, undefined


def _native(value: bytes, layout: Layout, file: DicomFile, vr: str) -> tuple[np.ndarray, str]:
    expected = layout.native_bytes
    if len(value) < expected:
        raise DicomError(
            f"{file.path}: the pixel data are too short: {len(value):,} bytes for {layout.frames} "
            f"frame(s) of {layout.rows}×{layout.columns}, which need {expected:,}; the file is "
            "truncated or its header wrong"
        )
    excess = value[expected:]
    if len(excess) > 1:
        whole_frame = len(excess) * 8 >= layout.frame_bits
        if whole_frame or excess.strip(b"\x00"):
            raise DicomError(
                f"{file.path}: {len(excess):,} bytes of pixel data are left over after "
                f"{layout.frames} frame(s) of {layout.rows}×{layout.columns}: the header's size is "
                "wrong, and reading on would lose pixels"
            )
        warnings.warn(
            f"{file.path}: {len(excess):,} zero bytes after the pixels were taken for padding",
            stacklevel=2,
        )
    big = file.transfer_syntax == ExplicitVRBigEndian
    even = value[: expected + expected % 2]
    if len(even) % 2 and big:
        even += b"\x00"
    return _decode(even, layout, file, ExplicitVRBigEndian if big else ExplicitVRLittleEndian, vr)


def _compressed(value: bytes, layout: Layout, file: DicomFile) -> tuple[np.ndarray, str]:
    syntax, path = file.transfer_syntax, file.path
    frames = split_frames(value, layout, syntax, path)
    single = dataclasses.replace(layout, frames=1)
    results = []
    for frame in frames:
        if syntax in (RLELossless, DEFLATED_FRAMES):
            # RLE keeps colours in planes and never subsamples: from here on the frame is like a
            # native one.
            if layout.photometric == "YBR_FULL_422":
                single = dataclasses.replace(single, photometric="YBR_FULL")
            if syntax == RLELossless:
                single = dataclasses.replace(single, planar=1)
                native = unpack_rle(frame, single, path)
            else:
                native = inflate_frame(frame, single.native_bytes, path)
            results.append(_decode(native, single, file, ExplicitVRLittleEndian, "OB"))
            continue
        if syntax in JPEG2000TransferSyntaxes:
            frame = check_jpeg2000(frame, single, path)
        elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
            check_jpeg(frame, single, path)
        results.append(_decode(encapsulate([frame], has_bot=False), single, file, syntax, "OB"))
    kinds = {photometric for _, photometric in results}
    if len(kinds) != 1:
        raise DicomError(
            f"{path}: its frames are compressed in different colour spaces {sorted(kinds)}"
        )
    return np.stack([array for array, _ in results]), kinds.pop()


def _decode(
    value: bytes, layout: Layout, file: DicomFile, syntax: str, vr: str
) -> tuple[np.ndarray, str]:
    """Let pydicom decode bytes whose length and layout were checked."""
    name = getattr(syntax, "name", syntax)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise DicomError(
            f"{file.path}: no decoder exists for its transfer syntax {name} ({syntax}); convert "
            "the file first, for example with dcmtk's dcmdjpeg"
        ) from error
    if not decoder.is_available:
        raise DicomError(
            f"{file.path}: transfer syntax {name} ({syntax}) needs a decoder that is not "
            f"installed: {_EXTRA}"
        )
    try:
        with refusing(file.path, f"decode its pixels ({name})"):
            array, properties = decoder.as_array(
                value,
                rows=layout.rows,
                columns=layout.columns,
                number_of_frames=layout.frames,
                samples_per_pixel=layout.samples,
                bits_allocated=layout.allocated,
                bits_stored=layout.stored,
                pixel_representation=int(layout.signed),
                photometric_interpretation=layout.photometric,
                planar_configuration=layout.planar,
                pixel_keyword=layout.keyword,
                pixel_vr=vr,
                allow_excess_frames=False,
            )
    except DicomError as error:
        others = any(name in str(error) for name in ("pylibjpeg:", "gdcm:", "pyjpegls:"))
        if "Pillow does not support" in str(error) and not others:
            raise DicomError(
                f"{file.path}: transfer syntax {name} ({syntax}) with {layout.stored} bits needs a "
                f"decoder that is not installed: {_EXTRA}"
            ) from error
        raise
    return array, str(properties["photometric_interpretation"])


def _through_palette(indices: np.ndarray, file: DicomFile) -> np.ndarray:
    """Replace palette indices by colours; 8 bits where nothing is lost by it, else 16."""
    with refusing(file.path, "apply its colour palette"):
        colours = apply_color_lut(indices, file.dataset)
    if colours.shape != (*indices.shape, 3):
        raise DicomError(
            f"{file.path}: its colour palette gives {colours.shape} for {indices.shape}"
        )
    high, low = colours >> 8, colours & 255
    if colours.dtype == np.uint16 and (np.array_equal(high, low) or not low.any()):
        return high.astype(np.uint8)
    return colours
