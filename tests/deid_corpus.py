"""DICOM files with known identifiers in every place that the standard lists, and their judge.

What must happen to each attribute is not medlab's table but that of the package dicom-anonymizer
(PS3.15 Table E.1-1, edition 2026c). Every value planted is a word, a date, a UID or a bit pattern
that occurs nowhere else, so that one left behind is found in the bytes of the file too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import pydicom
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as standard
from PIL import Image, ImageDraw, ImageFont
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pack_bits
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.dicom_files import image

# What each code allows to remain: nothing, an attribute without a value, or another value.
ALLOWED = {
    "X": {"gone"}, "Z": {"empty", "other"}, "D": {"other"}, "U": {"other"},
    "X/Z": {"gone", "empty"}, "X/D": {"gone", "other"}, "Z/D": {"empty", "other"},
    "X/Z/D": {"gone", "empty", "other"}, "X/Z/U*": {"gone", "empty", "other"},
}  # fmt: skip
CODES = {
    code: getattr(standard, re.sub("/", "_", code).replace("*", "_STAR") + "_TAGS")
    for code in ALLOWED
}
TABLE = {
    Tag(tag): code
    for code, tags in CODES.items()
    for tag in tags
    if len(tag) == 2 and keyword_for_tag(tag) and tag[0] not in (0x0000, 0x0002)
}
# Sequences that the profile keeps, so that what is inside has to be looked at.
KEPT = (
    "RealWorldValueMappingSequence AnatomicRegionSequence ModalityLUTSequence "
    "SharedFunctionalGroupsSequence ViewCodeSequence PatientOrientationCodeSequence"
).split()
KINDS = ("CT", "MR", "CR", "PT", "NM", "US", "enhanced")
NATIVE = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)  # fmt: skip
PACKED = (RLELossless, JPEG2000Lossless, JPEGBaseline8Bit)
CHARACTERS = {
    "ISO_IR 100": "Müller", "ISO_IR 192": "Ωμέγα", "ISO_IR 144": "Иванов", "GB18030": "王小东",
    "\\ISO 2022 IR 87": "山田",
}  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """One identifier in one file.

    Attributes:
        place: which kind of place, for the count.
        path: tags and item numbers from the root of the data set; empty where only bytes can tell.
        action: code of the profile, "" where only bytes can tell.
        secret: what must not stand in the file's bytes afterwards; empty if too short to be sought.
    """

    place: str
    path: tuple[int, ...] = ()
    action: str = ""
    secret: bytes = b""


@dataclass
class File:
    """A data set with what was planted in it."""

    number: int
    data: Dataset
    planted: list[Planted] = field(default_factory=list)
    text: np.ndarray | None = None  # (F, H, W) bool, where a name is burnt into the pixels


class _Maker:
    def __init__(self, number: int, seed: int):
        self.rng, self.count = np.random.default_rng((seed, number)), 0
        self.number = number

    def word(self) -> str:
        self.count += 1
        return f"Zq{self.number:04d}x{self.count:03d}"

    def value(self, vr: str) -> tuple[object, bytes]:
        """A value of this VR, and the bytes by which it would be known."""
        rng, word = self.rng, self.word()
        if vr == "UI":
            uid = f"1.2.826.0.1.3680043.10.999.{self.number + 1}.{self.count}"
            return uid, uid.encode()
        if vr in ("DA", "DT"):
            date = f"{rng.integers(1850, 1890)}{rng.integers(1, 13):02d}{rng.integers(1, 28):02d}"
            return date + "071500" * (vr == "DT"), date.encode()
        if vr == "TM":
            hour, minute, second = rng.integers(10, 24), *rng.integers(10, 60, 2)
            return f"{hour}{minute}{second}.{rng.integers(1e5, 9e5)}", b""
        if vr == "AS":
            return f"{rng.integers(20, 88):03d}Y", b""
        if vr == "CS":
            return word.upper(), word.upper().encode()
        if vr == "PN":
            return f"{word}^Ann", word.encode()
        if vr in ("DS", "IS"):
            return str(rng.integers(10_000, 99_999)), b""
        if vr in ("US", "UL", "SS", "SL"):
            return int(rng.integers(1_000, 30_000)), b""
        if vr in ("FL", "FD"):
            return float(rng.integers(1_000, 30_000)), b""
        if vr in ("OB", "OW", "UN", "OD", "OF", "OL"):
            word += "_" * (-len(word) % 8)
            return word.encode(), word.encode()
        return word, word.encode()


def files(stop: int = 600, seed: int = 0, first: int = 0) -> Iterator[File]:
    """The corpus, file by file; every attribute of the table is planted many times over."""
    order = np.random.default_rng(seed).permutation(len(TABLE))
    tags = [list(TABLE)[k] for k in order]
    for number in range(first, stop):
        yield _file(number, seed, [tags[(number * 45 + k) % len(tags)] for k in range(45)])


def _file(number: int, seed: int, tags: list[BaseTag]) -> File:
    make, rng = _Maker(number, seed), np.random.default_rng((seed, number, 1))
    kind = KINDS[number % len(KINDS)]
    syntax = (NATIVE + PACKED)[number // len(KINDS) % 7]
    file = _image(number, kind, syntax, rng, make)
    data = file.data
    characters = list(CHARACTERS)[number % len(CHARACTERS)]
    data.SpecificCharacterSet = characters
    always = [Tag(k) for k in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")]
    for tag in always:
        del data[tag]
    deep, path = data, []
    parents = [KEPT[k] for k in rng.permutation(len(KEPT))[: rng.integers(1, 5)]]
    for depth, tag in enumerate([*always, *tags]):
        if depth == 30:  # the rest in a sequence in a sequence …
            for parent in parents:
                item = Dataset()
                setattr(deep, parent, [Dataset(), item] if rng.random() < 0.5 else [item])
                path += [int(Tag(parent)), len(deep[parent].value) - 1]
                deep = item
        place = "attribute of the table"
        place += f", {len(parents)} sequence(s) deep" if path else ""
        _attribute(file, deep, tuple(path), tag, make, place)
    name = f"{CHARACTERS[characters]}{make.word()}"
    data.PatientBirthName = name
    file.planted.append(Planted("name in its own alphabet", (0x00101005,), "X", _word(name)))
    _private(file, deep, tuple(path), make, nested=True)
    _private(file, data, (), make, nested=False)
    _repeating(file, make, rng)
    _meta(file, make)
    if rng.random() < 0.5:
        name, secret = str(data.PatientName), make.word().encode()
        data.ManufacturerModelName = f"kept, of {name}".replace("^", " ")
        data.add_new(0xFFFCFFFC, "OB", secret + b" ")
        file.planted += [
            Planted("name inside a text that stays", secret=_word(name)),
            Planted("padding behind the pixels", (0xFFFCFFFC,), "X", secret),
        ]
    return file


def _word(text: str) -> bytes:
    found = re.search(r"Zq\d{4}x\d{3}", text, re.I)
    assert found
    return found[0].encode()


def _attribute(
    file: File, into: Dataset, path: tuple[int, ...], tag: BaseTag, make: _Maker, place: str
) -> None:
    vr = dictionary_VR(tag).split(" or ")[0]
    if tag in into:
        return
    where, code = (*path, int(tag)), TABLE[tag]
    if vr == "SQ":
        item, (name, secret) = Dataset(), make.value("PN")
        item.PatientName = name
        uid, other = make.value("UI")
        item.ReferencedSOPInstanceUID = uid
        into.add_new(tag, "SQ", [item])
        file.planted += [Planted(place, where, code, secret), Planted(place, secret=other)]
        return
    value, secret = make.value(vr)
    into.add_new(tag, vr, value)
    file.planted.append(Planted(place, where, code, secret))


def _private(
    file: File, into: Dataset, path: tuple[int, ...], make: _Maker, *, nested: bool
) -> None:
    group = 0x0011 + 2 * (file.number % 40)
    creator, name = make.word(), make.word()
    block = into.private_block(group, creator, create=True)
    block.add_new(1, "LO", name)
    block.add_new(2, "UN", make.word().encode() + b" ")
    item = Dataset()
    item.PatientName = inner = make.word()
    block.add_new(3, "SQ", [item])
    place = "private, inside sequences" if nested else "private"
    words = creator, name, block[2].value.decode().strip(), inner
    for element, secret in zip((0x10, 0x1001, 0x1002, 0x1003), words, strict=True):
        file.planted.append(Planted(place, (*path, group << 16 | element), "X", secret.encode()))


def _repeating(file: File, make: _Maker, rng: np.random.Generator) -> None:
    """An overlay plane with the name drawn, its texts, and a curve."""
    data, group = file.data, 0x6000 + 2 * int(rng.integers(0, 16))
    plane = _drawn((data.Rows, data.Columns), make.word())
    for element, vr, value in (
        (0x0010, "US", data.Rows), (0x0011, "US", data.Columns), (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]), (0x0100, "US", 1), (0x0102, "US", 0),
    ):  # fmt: skip
        data.add_new(group << 16 | element, vr, value)
    data.add_new(group << 16 | 0x3000, "OW", bytes(pack_bits(plane.astype(np.uint8))))
    file.planted.append(Planted("overlay, 60xx", (group << 16 | 0x3000,), "X"))
    for element, vr in ((0x4000, "LT"), (0x0022, "LO"), (0x1500, "LO")):
        value = make.word()
        data.add_new(group << 16 | element, vr, value)
        action = "X" if element == 0x4000 else ""
        path = (group << 16 | element,) if action else ()
        file.planted.append(Planted("overlay, 60xx", path, action, value.encode()))
    curve = 0x5000 + 2 * int(rng.integers(0, 16))
    for element, vr in ((0x0022, "LO"), (0x3000, "OB"), (0x2500, "LO")):
        value, secret = make.value(vr)
        data.add_new(curve << 16 | element, vr, value)
        file.planted.append(Planted("curve, 50xx", (curve << 16 | element,), "X", secret))


def _meta(file: File, make: _Maker) -> None:
    data, meta = file.data, file.data.file_meta
    words = [make.word() for _ in range(5)]
    meta.SourceApplicationEntityTitle, meta.SendingApplicationEntityTitle = words[:2]
    meta.PrivateInformationCreatorUID, uid = make.value("UI")
    meta.PrivateInformation = words[2].encode() + b" "
    meta.SourcePresentationAddress = f"dicom://{words[3]}"
    data.preamble = words[4].encode().ljust(128, b"\0")
    for word in words[:4]:
        file.planted.append(Planted("file meta information", secret=word.encode()))
    file.planted.append(Planted("file meta information", secret=uid))
    file.planted.append(Planted("preamble", secret=words[4].encode()))
    old, secret = make.value("UI")
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = old
    file.planted.append(Planted("file meta information", (0x00080018,), "U", secret))


def _drawn(shape: tuple[int, int], text: str) -> np.ndarray:
    """(H, W) bool: the text as a scanner's console would draw it."""
    canvas = Image.new("L", shape[::-1])
    ImageDraw.Draw(canvas).text((2, 3), text, fill=255)
    return np.asarray(canvas) > 127


def _image(number: int, kind: str, syntax: str, rng: np.random.Generator, make: _Maker) -> File:
    """Pixels of this kind in this transfer syntax, with what may hide among them."""
    shape = (48, 64)
    grey = rng.normal(900, 60, shape).clip(0, 4095)
    colour = kind == "US"
    if syntax == JPEGBaseline8Bit or colour:
        values = (grey / 16).astype(np.uint8)
        values = np.repeat(values[..., None], 3, -1) if colour else values
    else:
        values = grey.astype(np.uint16)
    if kind in ("NM", "enhanced"):
        values = np.stack([values, values])
    header = {"Modality": "MR" if kind == "enhanced" else kind, "BurnedInAnnotation": "NO"}
    data = image(values, **header)
    data.file_meta.TransferSyntaxUID = syntax
    file = File(number, data)
    if kind == "enhanced":
        data.SharedFunctionalGroupsSequence = [Dataset()]
    if values.dtype == np.uint16:
        data.BitsStored, data.HighBit = 12, 11
    if values.dtype == np.uint16 and syntax in NATIVE[:2]:
        # An overlay in the bits that no pixel needs (PS3.3 C.9.2, retired, still met).
        plane = _drawn(shape, make.word())
        hidden = values | (plane.astype(np.uint16) << 13)
        data.PixelData = hidden.astype("<u2").tobytes()
        file.planted.append(Planted("overlay in high bits", secret=b""))
    if syntax == ExplicitVRBigEndian:
        data.BitsStored, data.HighBit = (16, 15) if values.dtype == np.uint16 else (8, 7)
        data.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
    if syntax in (RLELossless, JPEG2000Lossless):
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(syntax, generate_instance_uid=False)
        if syntax == JPEG2000Lossless:
            _comment(file, make, b"\xff\x90", lambda text: _segment(0x64, b"\0\1" + text))
    if syntax == JPEGBaseline8Bit:
        streams = [_jpeg(one) for one in (values if values.ndim == 3 + colour else values[None])]
        data.PixelData = encapsulate(streams)
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        if colour:
            data.PhotometricInterpretation = "YBR_FULL"
        for marker, start in ((0xFE, b""), (0xE1, b"Exif\0\0"), (0xED, b"Photoshop 3.0\0")):
            _comment(file, make, b"\xff\xdb", lambda text, m=marker, s=start: _segment(m, s + text))
    return file


def _jpeg(picture: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _comment(file: File, make: _Maker, before: bytes, made: Callable[[bytes], bytes]) -> None:
    """Put a word into every frame, before the first marker of this kind."""
    data, secret = file.data, make.word().encode()
    frames = int(data.get("NumberOfFrames", 1))
    streams = []
    for stream in pydicom.encaps.generate_frames(data.PixelData, number_of_frames=frames):
        cut = stream.index(before)
        streams.append(stream[:cut] + made(secret) + stream[cut:])
    data.PixelData = encapsulate(streams)
    file.planted.append(Planted("inside a compressed stream", secret=secret))


# ---------------------------------------------------------------- text in the picture

# Modality, bits (0: colour), frames, syntax, and what else the header says
CAPTURES = (
    ("US", 0, 1, ExplicitVRLittleEndian, {}),
    ("CR", 12, 1, ExplicitVRLittleEndian, {"PhotometricInterpretation": "MONOCHROME1"}),
    ("US", 8, 2, RLELossless, {"BurnedInAnnotation": "YES"}),
    ("CT", -16, 1, ImplicitVRLittleEndian, {"ImageType": ["DERIVED", "SECONDARY"]}),
    ("XA", 10, 2, ExplicitVRLittleEndian, {}),
    ("OT", 0, 1, JPEGBaseline8Bit, {"ConversionType": "WSD"}),
    ("DX", 14, 1, JPEG2000Lossless, {"BurnedInAnnotation": "MAYBE"}),
    ("ES", 0, 2, RLELossless, {}),
)


def captures(stop: int = 40, seed: int = 0, first: int = 0) -> Iterator[File]:
    """Pictures with a name burnt in, its font of 12 to 18 pixels, lying or standing."""
    for number in range(first, stop):
        make, rng = _Maker(number, seed), np.random.default_rng((seed, number, 2))
        modality, bits, frames, syntax, header = CAPTURES[number % len(CAPTURES)]
        height, width, top = 256, 320, 2.0 ** (abs(bits) - (bits < 0) or 8) - 1
        words = f"{('MUELLER', 'OKAFOR', 'TANAKA')[number % 3]}^ANN {make.word()}"
        canvas = Image.new("L", (height, width) if number % 4 == 3 else (width, height))
        size = int(rng.integers(12, 19))
        font = ImageFont.load_default(size)
        ends = canvas.width - font.getlength(words), canvas.height - size - 8
        place = rng.uniform(2, ends[0]), rng.uniform(2, ends[1])
        ImageDraw.Draw(canvas).text(place, words, font=font, fill=255)
        ink = np.asarray(canvas.rotate(90, expand=True) if number % 4 == 3 else canvas) / 255
        y, x = np.mgrid[:height, :width] / width
        tissue = 0.3 + 0.2 * np.sin(7 * x + rng.uniform(0, 6)) * np.cos(5 * y)
        picture = tissue * rng.uniform(0.8, 1.2, (frames, height, width))
        contrast = rng.uniform(0.35, 0.5) * (-1 if number % 5 == 4 else 1)  # of the whole range
        inked = np.stack([np.zeros_like(ink)] * (frames - 1) + [ink])
        values = ((picture + contrast * inked).clip(0, 1) * top).round()
        kind = np.uint8 if bits in (0, 8) else np.int16 if bits < 0 else np.uint16
        values = values.astype(kind) if frames > 1 else values[0].astype(kind)
        file = File(number, Dataset(), text=inked > 0.5)
        if not bits:
            colours = np.array([1, 0.95, 0.7 if number % 2 else 1])
            values = (values[..., None] * colours).astype(np.uint8)
        data = file.data = image(values if frames == 1 or bits else values[0], Modality=modality)
        if frames > 1 and not bits:
            data.NumberOfFrames, data.PixelData = frames, values.tobytes()
        if bits > 8:
            data.BitsStored, data.HighBit = bits, bits - 1
        if syntax == JPEGBaseline8Bit:
            data.PixelData, data.PhotometricInterpretation = (
                encapsulate([_jpeg(values)]),
                "YBR_FULL",
            )
            data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        if syntax in (RLELossless, JPEG2000Lossless):
            data.compress(syntax, generate_instance_uid=False)
        data.file_meta.TransferSyntaxUID = syntax
        for keyword, value in header.items():
            setattr(data, keyword, value)
        file.planted.append(Planted("text in the picture"))
        yield file


def still_drawn(file: File, after: bytes) -> bool:
    """Whether the burnt-in text stands out yet from what is close to it, by a tenth of before."""
    streams, contrasts = (written(file.data), after), []
    assert file.text is not None
    for stream in streams:
        data = pydicom.dcmread(BytesIO(stream))
        pixels = data.pixel_array.astype(float).reshape(*file.text.shape, -1).mean(-1)
        drawn = file.text[-1]
        rows, columns = (np.flatnonzero(drawn.any(k)) for k in (1, 0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        inside, ink = pixels[-1][box], drawn[box]
        contrasts.append(abs(inside[ink].mean() - inside[~ink].mean()))
    return contrasts[1] > 0.1 * contrasts[0]


# ---------------------------------------------------------------- the judge


def written(data: Dataset) -> bytes:
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def judge(file: File, before: bytes, after: bytes) -> list[tuple[Planted, str]]:
    """What was planted and is still there, with what was found: nothing if all was done."""
    old, new = (pydicom.dcmread(BytesIO(stream)) for stream in (before, after))
    plain = after + written_plain(new)
    left = []
    for planted in file.planted:
        state = _state(planted.path, old, new)
        if planted.action and state not in ALLOWED[planted.action]:
            left.append((planted, state))
        elif planted.secret and planted.secret.lower() in plain.lower():
            left.append((planted, "in the bytes"))
        elif planted.place == "overlay in high bits":
            words = np.frombuffer(new.PixelData, "<u2")
            if (words >> new.BitsStored).any():
                left.append((planted, "in the pixels' unused bits"))
    return left


def written_plain(data: Dataset) -> bytes:
    """All elements without deflation, and every alphabet as UTF-8."""
    return "\n".join(f"{e.value}" for e in data.iterall() if e.tag != 0x7FE00010).encode()


def _state(path: tuple[int, ...], old: Dataset, new: Dataset) -> str:
    if not path:
        return ""
    for step in range(0, len(path) - 1, 2):
        old = old[path[step]].value[path[step + 1]]
        if path[step] not in new or len(new[path[step]].value) <= path[step + 1]:
            return "gone"
        new = new[path[step]].value[path[step + 1]]
    tag = path[-1]
    if tag not in new:
        return "gone"
    value = new[tag].value
    if value in (None, "", b"") or (isinstance(value, pydicom.Sequence) and not value):
        return "empty"
    return "same" if value == old[tag].value else "other"
