"""How the header says the pixels lie in the file, checked before a byte is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from medlab.dicom.source import integer, text
from medlab.errors import DicomError

__all__ = ["Layout", "read_layout"]

_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The Image Pixel module (PS3.3 C.7.6.3), validated."""

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    planar: int
    keyword: str

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame; YBR_FULL_422 keeps one colour pair for two pixels."""
        pixels = self.rows * self.columns
        if self.photometric == "YBR_FULL_422":
            return pixels * 2 * self.allocated
        return pixels * self.samples * self.allocated

    @property
    def native_bytes(self) -> int:
        """Bytes of all frames uncompressed; one-bit frames follow each other without padding."""
        return ceil(self.frame_bits * self.frames / 8)

    def require_stream(
        self, kind: str, rows: int, columns: int, samples: int, precision: int, path: Path
    ) -> None:
        """Refuse a compressed stream that describes another picture than the header does."""
        ours = (self.rows, self.columns, self.samples)
        if (rows, columns, samples) != ours:
            raise DicomError(
                f"{path}: the header says {self.rows}×{self.columns} with {self.samples} sample(s) "
                f"a pixel, its {kind} stream {rows}×{columns} with {samples}"
            )
        if not 1 <= precision <= max(8, self.allocated):
            raise DicomError(
                f"{path}: its {kind} stream has {precision} bits a sample, BitsAllocated is "
                f"{self.allocated}"
            )


def read_layout(dataset: Dataset, path: Path, *, max_bytes: int) -> Layout:
    """Read and validate the Image Pixel module.

    Raises:
        DicomError: no pixels in the file, a contradiction, or more than `max_bytes` of decoded
            pixels.
    """
    present = [keyword for keyword in _KEYWORDS if keyword in dataset]
    if len(present) != 1:
        raise DicomError(
            f"{path}: holds no image"
            + (f" but a {kind}" if (kind := _kind(dataset, path)) else "")
            + (": more than one kind of pixel data" if present else ": no PixelData element")
        )
    keyword = present[0]
    floats = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
    allocated = integer(dataset, "BitsAllocated", path, floats.get(keyword))
    layout = Layout(
        rows=_required(dataset, "Rows", path),
        columns=_required(dataset, "Columns", path),
        frames=integer(dataset, "NumberOfFrames", path, 1),
        samples=integer(dataset, "SamplesPerPixel", path, 1),
        allocated=allocated if allocated else _required(dataset, "BitsAllocated", path),
        stored=integer(dataset, "BitsStored", path, allocated),
        signed=keyword != "PixelData" or bool(_flag(dataset, "PixelRepresentation", path)),
        photometric=text(dataset, "PhotometricInterpretation", path).upper(),
        planar=_flag(dataset, "PlanarConfiguration", path),
        keyword=keyword,
    )
    _validate(layout, dataset, path)
    decoded = (
        layout.rows * layout.columns * layout.frames * layout.samples * max(8, layout.allocated)
    )
    if decoded // 8 > max_bytes:
        raise DicomError(
            f"{path}: {layout.frames} frame(s) of {layout.rows}×{layout.columns} need "
            f"{decoded // 8:,} bytes, above the limit of {max_bytes:,}; pass max_bytes= if that is "
            "right"
        )
    return layout


def _validate(layout: Layout, dataset: Dataset, path: Path) -> None:
    def need(condition: bool, what: str) -> None:
        if not condition:
            raise DicomError(f"{path}: {what}")

    need(
        1 <= layout.rows <= 65535 and 1 <= layout.columns <= 65535,
        "Rows and Columns must be 1 to 65535",
    )
    need(layout.frames >= 1, f"NumberOfFrames must be at least 1, got {layout.frames}")
    grey, colour = layout.photometric in _GREY, layout.photometric in _COLOUR
    need(
        grey or colour,
        f"PhotometricInterpretation {layout.photometric!r} is not supported; known are "
        f"{', '.join(_GREY + _COLOUR)}",
    )
    need(
        layout.samples == (1 if grey else 3),
        f"{layout.photometric} has {1 if grey else 3} sample(s) a pixel, SamplesPerPixel says "
        f"{layout.samples}",
    )
    if layout.keyword == "PixelData":
        need(
            layout.allocated in (1, 8, 16, 32),
            f"BitsAllocated {layout.allocated} is not 1, 8, 16 or 32",
        )
        need(
            1 <= layout.stored <= layout.allocated,
            f"BitsStored {layout.stored} must be 1 to BitsAllocated, {layout.allocated}",
        )
        high = integer(dataset, "HighBit", path, layout.stored - 1)
        need(
            high == layout.stored - 1,
            f"HighBit {high} does not belong to BitsStored {layout.stored}: the values' place in "
            "the word is unclear",
        )
    else:
        need(grey, f"{layout.keyword} holds grey values, but the header says {layout.photometric}")
        wanted = 32 if layout.keyword == "FloatPixelData" else 64
        need(
            layout.allocated == wanted,
            f"{layout.keyword} needs BitsAllocated {wanted}, got {layout.allocated}",
        )
    if layout.photometric == "YBR_FULL_422":
        need(
            layout.columns % 2 == 0,
            f"YBR_FULL_422 needs an even number of columns, got {layout.columns}",
        )


def _required(dataset: Dataset, keyword: str, path: Path) -> int:
    value = integer(dataset, keyword, path)
    if value is None:
        raise DicomError(
            f"{path}: the header has no {keyword}, without which the pixels cannot be laid out"
        )
    return value


def _flag(dataset: Dataset, keyword: str, path: Path) -> int:
    value = integer(dataset, keyword, path, 0)
    if value not in (0, 1):
        raise DicomError(f"{path}: {keyword} must be 0 or 1, got {value}")
    return value


def _kind(dataset: Dataset, path: Path) -> str:
    uid = text(dataset, "SOPClassUID", path)
    return UID(uid or text(dataset.file_meta, "MediaStorageSOPClassUID", path)).name
