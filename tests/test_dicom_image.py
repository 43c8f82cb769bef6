"""read_image against a plain numpy reading of the same bytes."""

from __future__ import annotations

import doctest
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from medlab.dicom import identifiers, read_image
from medlab.dicom import image as dicom_image
from medlab.dicom._pixels import stored_values
from medlab.dicom.source import MAX_BYTES
from medlab.errors import DicomError
from tests.dicom_files import image, save

RNG = np.random.default_rng(3)


def bundled(name: str) -> str:
    return get_testdata_file(name, download=False)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2"])
def test_signed_and_unsigned_values_survive(tmp_path, kind):
    info = np.iinfo(kind)
    values = RNG.integers(info.min, info.max, size=(5, 7), endpoint=True).astype(kind)
    read = read_image(save(image(values, Modality="MR"), tmp_path / "a.dcm"))
    assert read.pixels.dtype == torch.float32
    assert np.array_equal(read.pixels.numpy(), values)
    assert (read.units, read.modality, read.inverted) == ("stored", "MR", False)


def test_twelve_bits_in_sixteen_ignore_the_unused_bits(tmp_path):
    values = RNG.integers(-2048, 2048, size=(4, 4)).astype(np.int16)
    dirty = (values & 0x0FFF) | np.int16(0x5000)  # an overlay once lay in the upper bits
    data = image(dirty.astype(np.int16), BitsStored=12, HighBit=11)
    assert np.array_equal(read_image(save(data, tmp_path / "a.dcm")).pixels.numpy(), values)


def test_rescale_gives_hounsfield_units(tmp_path):
    values = RNG.integers(0, 4096, size=(4, 4)).astype(np.uint16)
    data = image(values, RescaleSlope="0.5", RescaleIntercept="-1024")
    read = read_image(save(data, tmp_path / "a.dcm"))
    assert read.units == "HU"
    assert np.array_equal(read.pixels.numpy(), values * 0.5 - 1024)


def test_a_ct_without_rescale_is_not_called_hounsfield(tmp_path):
    read = read_image(save(image(np.zeros((2, 2), np.int16)), tmp_path / "a.dcm"))
    assert read.units == "stored"


def test_half_a_rescale_is_refused(tmp_path):
    path = save(image(np.zeros((2, 2), np.int16), RescaleSlope=1), tmp_path / "a.dcm")
    with pytest.raises(DicomError, match=r"a\.dcm.*RescaleSlope is 1.0 and RescaleIntercept None"):
        read_image(path)


@pytest.mark.parametrize("slope", ["0", "1e400", "nan"])
def test_a_slope_that_destroys_the_values_is_refused(tmp_path, slope):
    data = image(np.ones((2, 2), np.int16), RescaleSlope="1", RescaleIntercept="0")
    data["RescaleSlope"].value = "1"
    path = save(data, tmp_path / "a.dcm")
    raw = path.read_bytes()
    at = raw.index(b"\x28\x00\x53\x10DS\x02\x00") + 6
    new = slope.encode() + b" " * (len(slope) % 2)
    path.write_bytes(raw[:at] + struct.pack("<H", len(new)) + new + raw[at + 4 :])
    with pytest.raises(DicomError, match=r"a\.dcm.*RescaleSlope"):
        read_image(path)


def test_monochrome1_is_mirrored_within_its_range(tmp_path):
    values = RNG.integers(0, 1024, size=(6, 6)).astype(np.uint16)
    fields = {
        "BitsStored": 10,
        "HighBit": 9,
        "RescaleSlope": 2,
        "RescaleIntercept": -5,
        "Modality": "CR",
    }
    dark = image(values, PhotometricInterpretation="MONOCHROME1", **fields)
    read = read_image(save(dark, tmp_path / "a.dcm"))
    assert read.inverted
    assert np.array_equal(read.pixels.numpy(), 2.0 * (1023 - values) - 5)


def test_hounsfield_units_are_never_mirrored(tmp_path):
    values = RNG.integers(0, 100, size=(3, 3)).astype(np.int16)
    fields = {"RescaleSlope": 1, "RescaleIntercept": 0, "PhotometricInterpretation": "MONOCHROME1"}
    read = read_image(save(image(values, **fields), tmp_path / "a.dcm"))
    assert not read.inverted
    assert np.array_equal(read.pixels.numpy(), values)


def test_large_integers_keep_the_digits_of_float32(tmp_path):
    values = np.array([[2**31 - 1, 2**24 + 1], [0, 7]], np.uint32)
    read = read_image(save(image(values, Modality="RTDOSE"), tmp_path / "a.dcm"))
    assert read.pixels.dtype == torch.float32
    assert np.array_equal(read.pixels.numpy(), values.astype(np.float32))


def test_multi_frame_is_frames_first(tmp_path):
    values = RNG.integers(0, 255, size=(4, 3, 5)).astype(np.uint8)
    read = read_image(save(image(values, Modality="US", FrameTime="40"), tmp_path / "a.dcm"))
    assert np.array_equal(read.pixels.numpy(), values)
    assert read.frames.shape == (4, 1, 3, 5)


def test_enhanced_frames_have_their_own_rescale(tmp_path):
    values = RNG.integers(0, 100, size=(2, 3, 4)).astype(np.uint16)
    data = image(values, Modality="MR")
    groups = []
    for slope, intercept in ((1, 0), (3, -7)):
        transform = Dataset()
        transform.RescaleSlope, transform.RescaleIntercept = slope, intercept
        transform.RescaleType = "US"
        group = Dataset()
        group.PixelValueTransformationSequence = Sequence([transform])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    measures = Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    common = Dataset()  # a frame's own value goes before the shared one
    common.RescaleSlope, common.RescaleIntercept, common.RescaleType = 99, 9, "US"
    shared.PixelValueTransformationSequence = Sequence([common])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    read = read_image(save(data, tmp_path / "a.dcm"))
    assert np.array_equal(read.pixels[0].numpy(), values[0])
    assert np.array_equal(read.pixels[1].numpy(), values[1] * 3.0 - 7)
    assert (read.spacing, read.spacing_source) == ((0.5, 0.25), "PixelSpacing")
    groups.pop()
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    with pytest.raises(DicomError, match=r"describes 1 frames"):
        read_image(save(data, tmp_path / "b.dcm"))


@pytest.mark.parametrize(("bits", "kind"), [(8, "u1"), (16, "u2")])
@pytest.mark.parametrize("planar", [0, 1])
def test_colour_is_channels_first(tmp_path, bits, kind, planar):
    values = RNG.integers(0, 2**bits, size=(4, 5, 3)).astype(kind)
    data = image(values, Modality="US")
    if planar:
        data.PlanarConfiguration = 1
        data.PixelData = np.ascontiguousarray(values.transpose(2, 0, 1)).tobytes()
    read = read_image(save(data, tmp_path / "a.dcm"))
    assert read.colour
    assert read.pixels.dtype == (torch.uint8 if bits == 8 else torch.int32)
    assert np.array_equal(read.pixels.numpy(), values.transpose(2, 0, 1))


def test_ybr_becomes_rgb(tmp_path):
    values = RNG.integers(0, 256, size=(4, 6, 3)).astype(np.uint8)
    data = image(values, PhotometricInterpretation="YBR_FULL", Modality="US")
    read = read_image(save(data, tmp_path / "a.dcm"))
    wanted = convert_color_space(values, "YBR_FULL", "RGB")
    assert np.array_equal(read.pixels.numpy(), wanted.transpose(2, 0, 1))


def test_palette_becomes_rgb(tmp_path):
    data = image(np.arange(4, dtype=np.uint8).reshape(2, 2), Modality="US")
    data.PhotometricInterpretation = "PALETTE COLOR"
    tables = RNG.integers(0, 256, size=(3, 4)).astype(np.uint16)
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(data, f"{name}PaletteColorLookupTableData", (table * 257).tobytes())
    read = read_image(save(data, tmp_path / "a.dcm"))
    assert read.pixels.dtype == torch.uint8
    assert np.array_equal(read.pixels.numpy(), tables.reshape(3, 2, 2))


def test_modality_lut(tmp_path):
    data = image(np.array([[0, 10, 11, 12, 99]], np.uint16), Modality="CR")
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [3, 10, 16], "OD"
    lut.add_new("LUTData", "OW", np.array([500, 7, 900], "<u2").tobytes())
    data.ModalityLUTSequence = Sequence([lut])
    read = read_image(save(data, tmp_path / "a.dcm"))
    assert read.pixels.tolist() == [[500, 500, 7, 900, 900]]
    assert read.units == "OD"
    lut.LUTDescriptor = [4, 10, 16]
    with pytest.raises(DicomError, match="look-up table.*size 3"):
        read_image(save(data, tmp_path / "b.dcm"))


def test_an_empty_modality_lut_says_nothing_and_half_a_one_is_refused(tmp_path):
    values = np.arange(16, dtype=np.uint16).reshape(4, 4)
    item = Dataset()
    item.ModalityLUTType = ""
    for empty in (Sequence([item]), Sequence([])):
        path = save(image(values, ModalityLUTSequence=empty), tmp_path / "a.dcm")
        assert np.array_equal(read_image(path).pixels, values)
        assert read_image(path).units == "stored"
    item.LUTDescriptor = [16, 0, 16]
    with pytest.raises(DicomError, match=r"b\.dcm: cannot read a look-up table"):
        read_image(save(image(values, ModalityLUTSequence=Sequence([item])), tmp_path / "b.dcm"))


@pytest.mark.parametrize("descriptor", [[16, 0, 12], [16, 0, 16]])
def test_monochrome1_with_a_modality_lut_is_mirrored_within_the_table(tmp_path, descriptor):
    values = np.arange(16, dtype=np.uint16).reshape(4, 4)
    table = (np.arange(16) ** 2 * 10).astype("<u2")
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = descriptor, "US"
    item.add_new("LUTData", "OW", table.tobytes())
    fields = {"Modality": "CR", "PhotometricInterpretation": "MONOCHROME1"}
    data = image(values, ModalityLUTSequence=Sequence([item]), **fields)
    read = read_image(save(data, tmp_path / "a.dcm"))
    assert read.inverted
    assert np.array_equal(read.pixels, 2250.0 - table[values])


@pytest.mark.parametrize("frames", [0, "", None])
def test_number_of_frames_that_is_nothing_means_one(tmp_path, frames):
    values = np.arange(16, dtype=np.uint16).reshape(1, 4, 4)
    data = image(values, NumberOfFrames=frames)
    assert np.array_equal(read_image(save(data, tmp_path / "a.dcm")).pixels, values[0])


def test_padding_is_told(tmp_path):
    values = np.array([[-2000, 0, -1999], [100, 200, -2000]], np.int16)
    fields = {"RescaleSlope": 1, "RescaleIntercept": -1024, "PixelPaddingValue": -2000}
    with pytest.warns(UserWarning, match=r"some pixels are padding \(PixelPaddingValue -2000\)"):
        read = read_image(save(image(values, **fields), tmp_path / "a.dcm"))
    assert read.pixels.min() == -3024  # a value that nobody measured stays as it was stored
    data = image(values)
    data.add_new("PixelPaddingValue", "US", 63536)  # the bits of −2000, as scanners write it
    with pytest.warns(UserWarning, match="padding"):
        read_image(save(data, tmp_path / "b.dcm"))
    fields["PixelPaddingValue"] = -7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(save(image(values, **fields), tmp_path / "c.dcm"))


def test_threads_leave_the_warning_filters_alone(tmp_path):
    path = save(image(np.zeros((64, 64), np.uint16)), tmp_path / "a.dcm")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read_image(path), range(40)))
    assert warnings.filters == before


def test_the_examples_run():
    done = doctest.testmod(dicom_image)
    assert done.attempted
    assert not done.failed


def test_where_the_spacing_comes_from(tmp_path):
    zeros = np.zeros((2, 2), np.uint16)
    assert read_image(save(image(zeros), tmp_path / "a.dcm")).spacing is None
    detector = read_image(save(image(zeros, ImagerPixelSpacing=[0.2, 0.1]), tmp_path / "b.dcm"))
    assert (detector.spacing, detector.spacing_source) == ((0.2, 0.1), "ImagerPixelSpacing")
    both = image(zeros, ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0.3, 0.4])
    assert read_image(save(both, tmp_path / "c.dcm")).spacing == (0.3, 0.4)
    with pytest.raises(DicomError, match="PixelSpacing must be positive"):
        read_image(save(image(zeros, PixelSpacing=[0, 1]), tmp_path / "d.dcm"))


def test_ultrasound_regions_must_agree_on_the_spacing(tmp_path):
    def region(x: float) -> Dataset:
        item = Dataset()
        item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
        item.PhysicalDeltaX, item.PhysicalDeltaY = x, 0.03
        return item

    zeros = np.zeros((2, 2), np.uint8)
    one = image(zeros, SequenceOfUltrasoundRegions=Sequence([region(0.02), region(0.02)]))
    read = read_image(save(one, tmp_path / "a.dcm"))
    assert read.spacing == pytest.approx((0.3, 0.2))
    assert read.spacing_source == "SequenceOfUltrasoundRegions"
    two = image(zeros, SequenceOfUltrasoundRegions=Sequence([region(0.02), region(0.05)]))
    assert read_image(save(two, tmp_path / "b.dcm")).spacing is None


# ---------------------------------------------------------------- nothing is lost, nothing padded


@pytest.mark.parametrize("change", [{"Rows": 5}, {"NumberOfFrames": 2}, {"Columns": 300}])
def test_too_few_bytes_are_refused(tmp_path, change):
    path = save(image(np.zeros((4, 4), np.int16), **change), tmp_path / "short.dcm")
    with pytest.raises(DicomError, match=r"short\.dcm.*less than expected"):
        read_image(path)


@pytest.mark.parametrize("change", [{"Rows": 3}, {"Columns": 2}, {"NumberOfFrames": 1}])
def test_left_over_pixels_are_refused(tmp_path, change):
    values = np.ones((2, 4, 4), np.int16)
    path = save(image(values, **{"NumberOfFrames": 2, **change}), tmp_path / "long.dcm")
    with pytest.raises(DicomError, match=r"long\.dcm.*excess"):
        read_image(path)


def test_a_left_over_frame_is_refused_even_if_it_is_black(tmp_path):
    values = np.zeros((2, 4, 4), np.int16)
    path = save(image(values, NumberOfFrames=1), tmp_path / "long.dcm")
    with pytest.raises(DicomError, match=r"long\.dcm.*excess"):
        read_image(path)


def test_zeros_after_the_pixels_are_refused(tmp_path):
    data = image(RNG.integers(0, 9, size=(4, 4)).astype(np.int16))
    data.PixelData += b"\0" * 10
    with pytest.raises(DicomError, match=r"a\.dcm.*excess"):
        read_image(save(data, tmp_path / "a.dcm"))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    whole = save(image(np.ones((16, 16), np.int16)), tmp_path / "whole.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DicomError, match=r"cut\.dcm"):
        read_image(path)


def test_a_header_that_asks_for_terabytes_costs_nothing(tmp_path):
    data = image(np.ones((2, 2), np.uint16), NumberOfFrames=100_000_000, Rows=65535, Columns=65535)
    with pytest.raises(DicomError, match="above the limit"):
        read_image(save(data, tmp_path / "a.dcm"))
    small = save(image(np.ones((64, 64), np.uint16)), tmp_path / "b.dcm")
    with pytest.raises(DicomError, match="max_bytes"):
        read_image(small, max_bytes=1000)


def test_a_deflated_bomb_is_stopped(tmp_path):
    path = save(image(np.zeros((2, 2), np.uint16)), tmp_path / "a.dcm")
    meta_end = path.read_bytes().index(b"\x08\x00")
    head = path.read_bytes()[:meta_end].replace(
        b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.1.99"
    )
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflater.compress(b"\0" * 50_000_000) + deflater.flush()
    path.write_bytes(head + bomb)
    with pytest.raises(DicomError, match=r"inflates beyond max_bytes=1,000,000"):
        read_image(path, max_bytes=1_000_000)


def test_a_deflated_file_reads_and_its_stump_does_not(tmp_path):
    values = RNG.integers(0, 999, size=(8, 8)).astype(np.uint16)
    data = image(values)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(data, tmp_path / "a.dcm")
    assert np.array_equal(read_image(path).pixels.numpy(), values)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DicomError, match=r"a\.dcm.*truncated"):
        read_image(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "Bits Allocated"),
        ({"BitsStored": 20}, "BitsStored 20"),
        ({"HighBit": 11}, "HighBit 11"),
        ({"SamplesPerPixel": 3}, "less than expected"),
        ({"PhotometricInterpretation": "RGB"}, "cannot reshape"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "alette"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK"),
        ({"PixelRepresentation": 2}, "Pixel Representation"),
        ({"PixelRepresentation": None}, "Missing required.*Pixel Representation"),
        ({"BitsStored": None}, "Missing required.*Bits Stored"),
        ({"Rows": 0}, "'Rows' value of '0'"),
        ({"Rows": None}, "Missing required.*Rows"),
        ({"PixelData": None}, "holds no image but a CT Image Storage"),
    ],
)
def test_contradictions_in_the_header_are_named(tmp_path, change, message):
    path = save(image(np.zeros((4, 4), np.uint16), **change), tmp_path / "odd.dcm")
    with pytest.raises(DicomError, match=rf"odd\.dcm.*{message}"):
        read_image(path)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image" * 30)
    (tmp_path / "empty.dcm").write_bytes(b"")
    for name, message in (
        ("notes.txt", "not a DICOM file"),
        ("empty.dcm", "not a DICOM file"),
        ("gone.dcm", "No such file"),
        (".", "Is a directory|Permission"),
    ):
        with pytest.raises(DicomError, match=message):
            read_image(tmp_path / name)
    with pytest.raises(DicomError, match=r"rtplan\.dcm.*RT Plan"):
        read_image(bundled("rtplan.dcm"))


# --------------------------------------------------------------------------- compressed pixel data


def compressed(values: np.ndarray, frames: list[bytes], syntax: str, **header) -> Dataset:
    data = image(values, **header)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate(frames)
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return data


def rle(values: np.ndarray) -> bytes:
    """One frame as literal PackBits runs, most significant byte first."""
    planes = values.astype(values.dtype.newbyteorder(">")).reshape(-1, 1).view(np.uint8)
    segments = []
    for plane in planes.T:
        raw = plane.tobytes()
        runs = [raw[i : i + 128] for i in range(0, len(raw), 128)]
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\x80" * (len(segment) % 2))  # 128 is "no operation"
    offsets = np.cumsum([64, *(len(s) for s in segments)])[: len(segments)]
    header = struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments)))
    return header + b"".join(segments)


def test_rle_reads_every_frame(tmp_path):
    values = RNG.integers(0, 60000, size=(3, 20, 31)).astype(np.uint16)
    data = compressed(values, [rle(v) for v in values], RLELossless)
    assert np.array_equal(read_image(save(data, tmp_path / "a.dcm")).pixels.numpy(), values)


@pytest.mark.parametrize("change", [{"Rows": 19}, {"Rows": 21}, {"NumberOfFrames": 2}])
def test_rle_that_does_not_fit_the_header_is_refused(tmp_path, change):
    values = RNG.integers(0, 60000, size=(3, 20, 31)).astype(np.uint16)
    data = compressed(values, [rle(v) for v in values], RLELossless, **change)
    with pytest.raises(DicomError, match=r"a\.dcm.*(RLE segment|NumberOfFrames)"):
        read_image(save(data, tmp_path / "a.dcm"))


def test_an_rle_bomb_stops_at_the_headers_size(tmp_path):
    bomb = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00" * 2_000_000  # 256 MB unpacked
    data = compressed(np.zeros((4, 4), np.uint8), [bomb], RLELossless)
    path = save(data, tmp_path / "a.dcm")
    tracemalloc.start()
    with pytest.raises(DicomError, match="more bytes"):
        read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * path.stat().st_size


def test_rle_colours_lie_in_planes(tmp_path):
    values = RNG.integers(0, 256, size=(5, 7, 3)).astype(np.uint8)
    planes = [values[..., c].tobytes() for c in range(3)]
    segments = [bytes([len(p) - 1]) + p for p in planes]
    header = struct.pack("<16L", 3, 64, 100, 136, *[0] * 12)
    data = compressed(values, [header + b"".join(segments)], RLELossless)
    read = read_image(save(data, tmp_path / "a.dcm"))
    assert np.array_equal(read.pixels.numpy(), values.transpose(2, 0, 1))


def test_a_compressed_file_cut_short_is_called_truncated(tmp_path):
    values = RNG.integers(0, 60000, size=(20, 31)).astype(np.uint16)
    path = save(compressed(values, [rle(values)], RLELossless), tmp_path / "cut.dcm")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DicomError, match=r"cut\.dcm: the file is truncated or damaged"):
        read_image(path)


def test_numbers_that_are_none_are_refused(tmp_path):
    data = image(np.zeros((2, 2), np.uint16))
    data.add_new("ImagerPixelSpacing", "DS", ["nan", "1"])
    with pytest.raises(DicomError, match="ImagerPixelSpacing must be finite"):
        read_image(save(data, tmp_path / "a.dcm"))


def test_damaged_items_are_refused(tmp_path):
    values = smooth()[0]
    data = compressed(values, [jpeg(values)], JPEGBaseline8Bit)
    whole = data.PixelData
    for value, message in (
        (whole[:-40], "items end at byte"),
        (b"\xfe\xff\x00\xe1" + whole[4:], "items end at byte 0"),
        (whole + b"abc", "items end at byte"),
    ):
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        path = tmp_path / "a.dcm"
        data.PixelData = value
        with pytest.raises(DicomError, match=rf"a\.dcm.*{message}"):
            stored_values(data, path, max_bytes=MAX_BYTES)


def test_compressed_pixels_in_an_uncompressed_syntax_are_refused(tmp_path):
    values = smooth()[0]
    data = compressed(values, [jpeg(values)], ExplicitVRLittleEndian)
    whole = compressed(values, [values.tobytes()], ExplicitVRLittleEndian)
    for one in (data, whole):
        with pytest.raises(DicomError, match=r"a\.dcm.*(less than expected|excess)"):
            stored_values(one, tmp_path / "a.dcm", max_bytes=MAX_BYTES)


def test_pixel_data_that_are_a_number_are_refused(tmp_path):
    path = save(image(np.zeros((4, 4), np.uint8)), tmp_path / "a.dcm")
    raw = path.read_bytes()
    at = raw.rindex(b"\xe0\x7f\x10\x00OB")
    path.write_bytes(raw[:at] + b"\xe0\x7f\x10\x00US\x02\x00\x10\x00")  # 16, for 16 pixels
    with pytest.raises(DicomError, match=r"a\.dcm: cannot decode"):
        read_image(path)


def test_a_frame_too_many_in_fragments_is_refused(tmp_path):
    streams = [jpeg(v) for v in smooth(3)]
    data = compressed(smooth(2), streams, JPEGBaseline8Bit)
    data.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=False)
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    with pytest.raises(DicomError, match="3 compressed frame"):
        read_image(save(data, tmp_path / "a.dcm"))


def jpeg(values: np.ndarray, **options) -> bytes:
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.fromarray(values).save(stream, "JPEG", **options)
    return stream.getvalue()


def smooth(frames: int = 1) -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    return np.stack([(x * 2 + y + 20 * f) % 200 for f in range(frames)]).astype(np.uint8)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_jpeg_reads(tmp_path, options):
    from io import BytesIO

    from PIL import Image

    values = smooth()[0]
    stream = jpeg(values, quality=95, **options)
    path = save(compressed(values, [stream], JPEGBaseline8Bit), tmp_path / "a.dcm")
    read = read_image(path).pixels.numpy()
    assert np.array_equal(read, np.asarray(Image.open(BytesIO(stream))))


COLOUR = (220, 40, 90)


def colour_jpeg(*, rgb: bool, adobe: int | None, jfif: bool = False, named: bool = False) -> bytes:
    """A JPEG of one colour: RGB or YCbCr inside, and what it says of that."""
    pixels = np.full((32, 32, 3), COLOUR, np.uint8)
    stream = bytearray(jpeg(pixels, quality=95, keep_rgb=rgb, subsampling=0))
    while stream[3] in (0xE0, 0xEE):  # Pillow's own marks go
        del stream[2 : 4 + int.from_bytes(stream[4:6], "big")]
    frame, scan = stream.index(b"\xff\xc0"), stream.index(b"\xff\xda")
    for k, name in enumerate(b"RGB" if named else b"\1\2\3"):
        stream[frame + 10 + 3 * k] = stream[scan + 5 + 2 * k] = name
    mark = b"" if adobe is None else b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([adobe])
    start = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" if jfif else b""
    return bytes(stream[:2]) + start + mark + bytes(stream[2:])


HEADERS = ("RGB", "YBR_FULL", "YBR_FULL_422")


@pytest.mark.parametrize("plugin", ["pillow", "pylibjpeg"])
@pytest.mark.parametrize(
    ("stream", "says", "headers"),
    [
        ({"rgb": False, "adobe": 1}, "YBR", HEADERS),
        ({"rgb": False, "adobe": None, "jfif": True}, "YBR", HEADERS),
        ({"rgb": True, "adobe": 0}, "RGB", HEADERS),
        ({"rgb": True, "adobe": 0, "named": True}, "RGB", HEADERS),
        ({"rgb": False, "adobe": None}, "", HEADERS[1:]),  # silent: all hangs on the header
        ({"rgb": True, "adobe": None}, "", HEADERS[:1]),
    ],
)
def test_a_jpeg_streams_colours_are_right_or_refused(
    tmp_path, monkeypatch, plugin, stream, says, headers
):
    from pydicom.pixels.decoders import JPEGBaseline8BitDecoder as decoder

    if plugin not in decoder.available_plugins:
        pytest.skip(f"{plugin} is not installed")
    monkeypatch.setattr(decoder, "_available", {plugin: decoder._available[plugin]})
    frames = [colour_jpeg(**stream)]
    data = compressed(np.zeros((32, 32, 3), np.uint8), frames, JPEGBaseline8Bit, Modality="US")
    for header in headers:
        data.PhotometricInterpretation = header
        path = save(data, tmp_path / f"{header}.dcm")
        if says and says != header[:3]:
            with pytest.raises(DicomError, match=f"the header says {header}"):
                read_image(path)
        else:
            read = read_image(path)
            assert np.abs(read.pixels[:, 16, 16].numpy().astype(int) - COLOUR).max() < 6


def test_frames_in_different_colours_are_refused(tmp_path):
    streams = [colour_jpeg(rgb=False, adobe=1), colour_jpeg(rgb=True, adobe=0)]
    data = compressed(np.zeros((32, 32, 3), np.uint8), streams, JPEGBaseline8Bit, NumberOfFrames=2)
    with pytest.raises(DicomError, match="correct the header"):
        read_image(save(data, tmp_path / "a.dcm"))


def test_jpeg_frames_in_fragments(tmp_path):
    values = smooth(2)
    streams = [jpeg(v, quality=95) for v in values]
    whole = read_image(save(compressed(values, streams, JPEGBaseline8Bit), tmp_path / "a.dcm"))
    data = compressed(values, streams, JPEGBaseline8Bit)
    data.PixelData = encapsulate(streams, fragments_per_frame=3, has_bot=True)
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    by_table = read_image(save(data, tmp_path / "b.dcm"))
    data.PixelData = encapsulate(streams, fragments_per_frame=3, has_bot=False)
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    by_start = read_image(save(data, tmp_path / "c.dcm"))
    assert torch.equal(whole.pixels, by_table.pixels)
    assert torch.equal(whole.pixels, by_start.pixels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s[:-2], "truncated"),
        (lambda s: s[: len(s) // 2], "(truncated|cannot decode)"),
        (lambda s: s[:-60] + b"\xff\xd9" + s[-60:], "follow the end"),
        (lambda s: s[:-20] + b"\xff\xd0" + s[-20:], "restart marker"),
        (lambda s: s + s, "follow the end"),
        (lambda s: s[2:], "does not start"),
        (lambda s: s.replace(b"\xff\xc0\x00", b"\xff\xfe\x00", 1), r"\[\], 0 bits"),  # no SOF
    ],
)
def test_a_jpeg_stream_that_is_not_whole_is_refused(tmp_path, damage, message):
    values = smooth()[0]
    stream = damage(jpeg(values, quality=90))
    path = save(compressed(values, [stream], JPEGBaseline8Bit), tmp_path / "bad.dcm")
    with pytest.raises(DicomError, match=rf"bad\.dcm.*{message}"):
        read_image(path)


@pytest.mark.parametrize("change", [{"Rows": 39}, {"Columns": 57}, {"NumberOfFrames": 2}])
def test_a_jpeg_of_another_size_is_refused(tmp_path, change):
    values = smooth()[0]
    data = compressed(values, [jpeg(values)], JPEGBaseline8Bit, **change)
    with pytest.raises(DicomError, match=r"a\.dcm.*(header says|NumberOfFrames)"):
        read_image(save(data, tmp_path / "a.dcm"))


def test_missing_restart_markers_are_noticed(tmp_path):
    values = smooth()[0]
    stream = jpeg(values, quality=90, restart_marker_blocks=3)
    first, second = stream.index(b"\xff\xd0"), stream.index(b"\xff\xd1")
    path = save(
        compressed(values, [stream[:first] + stream[second:]], JPEGBaseline8Bit), tmp_path / "a.dcm"
    )
    with pytest.raises(DicomError, match="restart marker"):
        read_image(path)


def test_restart_markers_out_of_order_are_noticed(tmp_path):
    values = smooth()[0]
    stream = jpeg(values, quality=90, restart_marker_blocks=3)
    for damaged in (
        stream.replace(b"\xff\xd1", b"\xff\xd3", 1),
        stream.replace(b"\xff\xd0", b"\xff\xd1", 1),
    ):
        path = save(compressed(values, [damaged], JPEGBaseline8Bit), tmp_path / "a.dcm")
        with pytest.raises(DicomError, match="restart marker out of order"):
            read_image(path)


def test_a_missing_jpeg2000_tile_is_noticed(tmp_path):
    from io import BytesIO

    from PIL import Image

    values = smooth()[0]
    stream = BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000", tile_size=(32, 32), no_jp2=True)
    whole = stream.getvalue()
    path = save(compressed(values, [whole], JPEG2000Lossless), tmp_path / "a.dcm")
    assert np.array_equal(read_image(path).pixels.numpy(), values)
    first = whole.index(b"\xff\x90\x00\x0a")
    (length,) = struct.unpack_from(">L", whole, first + 6)
    for cut in (
        whole[:first] + whole[first + length :],
        whole[:first] + whole[first : first + length] * 2 + whole[first + 2 * length :],
    ):
        path = save(compressed(values, [cut], JPEG2000Lossless), tmp_path / "b.dcm")
        with pytest.raises(DicomError, match=r"b\.dcm.*JPEG 2000"):
            read_image(path)


def test_a_header_cut_short_is_refused_even_without_pixels(tmp_path):
    data = image(np.zeros((2, 2), np.uint16), PixelData=None, ImageComments="x" * 100)
    path = save(data, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"x" * 100, b""))
    path.write_bytes(path.read_bytes()[: path.read_bytes().rindex(b"\x20\x00\x00\x40LT") + 8])
    with pytest.raises(DicomError, match=r"a\.dcm: the file is truncated: it ends inside"):
        identifiers(path)


def test_jpeg2000_reads_and_its_stump_does_not(tmp_path):
    path = bundled("MR_small_jp2klossless.dcm")
    plain = pydicom.dcmread(bundled("MR_small.dcm")).pixel_array
    assert np.array_equal(read_image(path).pixels.numpy(), plain)
    data = pydicom.dcmread(path)
    stream = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)).rstrip(b"\0")
    for cut in (stream[:-2], stream[: len(stream) // 2], stream[: len(stream) // 2] + b"\xff\xd9"):
        data.PixelData = encapsulate([cut])
        with pytest.raises(
            DicomError, match=r"cut\.dcm.*JPEG 2000.*(truncated|failed|cannot decode)"
        ):
            read_image(save(data, tmp_path / "cut.dcm"))
    data.PixelData = encapsulate([stream])
    data.Rows = 63
    with pytest.raises(DicomError, match=r"\[63, 64, 1\]"):
        read_image(save(data, tmp_path / "size.dcm"))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_a_wrong_transfer_syntax_is_refused(tmp_path, syntax):
    values = smooth()[0]
    data = compressed(values, [jpeg(values)], syntax)
    with pytest.raises(DicomError, match=r"a\.dcm"):
        read_image(save(data, tmp_path / "a.dcm"))


def test_a_missing_decoder_names_the_extra(tmp_path, monkeypatch):
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder

    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    stream = b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x04\x00\x04\x01\x01\x11\x00"
    stream += b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x12\xff\xd9"
    data = compressed(np.zeros((4, 4), np.uint8), [stream], JPEGLSLossless)
    with pytest.raises(DicomError, match=r"JPEG-LS Lossless.*pip install pylibjpeg"):
        read_image(save(data, tmp_path / "a.dcm"))


def test_float_pixels(tmp_path):
    data = image(np.zeros((2, 3), np.uint16))
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    values = RNG.normal(size=(2, 3)).astype("<f4")
    data.BitsAllocated, data.FloatPixelData = 32, values.tobytes()
    assert np.array_equal(read_image(save(data, tmp_path / "a.dcm")).pixels.numpy(), values)
    values[0, 0] = np.nan
    data.FloatPixelData = values.tobytes()
    with pytest.raises(DicomError, match="not finite"):
        read_image(save(data, tmp_path / "b.dcm"))


def test_one_bit_frames_need_no_whole_bytes(tmp_path):
    values = RNG.integers(0, 2, size=(3, 5, 7)).astype(np.uint8)
    data = image(values, Modality="SEG", BitsAllocated=1, BitsStored=1, HighBit=0)
    packed = np.packbits(values.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    assert np.array_equal(read_image(save(data, tmp_path / "a.dcm")).pixels.numpy(), values)


def test_the_header_comes_without_pixels(tmp_path):
    read = read_image(bundled("CT_small.dcm"))
    assert "PixelData" not in read.header
    assert read.header.PatientID == "1CT1"
    assert read.header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
