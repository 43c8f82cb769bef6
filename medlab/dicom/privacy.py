"""What in a file identifies a patient, and how to take it out.

`profile.json` holds the attributes of the Basic Application Level Confidentiality Profile (DICOM
PS3.15 Table E.1-1) and what to do with each. Rules add what no table can list: private and unknown
elements, overlays and curves, every person's name, date and instance UID wherever it stands, and
what hides in the pixel data beside the picture.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, UID_dictionary
from pydicom.valuerep import BYTES_VR, FLOAT_VR, INT_VR

from medlab.dicom._pixels import PIXEL_KEYWORDS, stored_values
from medlab.dicom.source import MAX_BYTES, integer, open_dicom, refusing, text
from medlab.errors import DicomError, read_facts

_TABLE = read_facts("dicom/profile")
_ACTIONS = {k: code for code, lines in _TABLE["actions"].items() for k in " ".join(lines).split()}
_DUMMIES: dict[str, object] = {
    **dict.fromkeys(INT_VR, 0),
    **dict.fromkeys(FLOAT_VR, 0.0),
    **dict.fromkeys(BYTES_VR, b"\0\0"),
    **{"DA": "19000101", "DT": "19000101000000", "TM": "000000", "AS": "000Y"},
}
_VERBS = {"X": "remove", "Z": "empty", "D": "dummy", "U": "new UID"}


@dataclass(frozen=True)
class Identifier:
    """One thing in a file that may identify the patient.

    Attributes:
        keyword: the attribute's keyword, with its path inside sequences; its name if private.
        tag: as "(0010,0010)".
        value: as text, cut at 60 characters.
        why: what it reveals, for a reader.
        action: "remove", "empty", "dummy", "new UID", or "look" for what no header change can cure.
    """

    keyword: str
    tag: str
    value: str
    why: str
    action: str


def identifiers(source: Path | str | Dataset) -> list[Identifier]:
    """List what identifies the patient, in the order of the file.

    The list follows the basic profile, so it is long by intent: a study date or a UID names nobody,
    yet finds the patient in the hospital's records. Doubts, as of a face, have the action "look".

    Args:
        source: a file, or a data set such as `read_image(...).header`.

    Raises:
        DicomError: the file cannot be read.
    """
    rules = _Rules(source)
    found = [*rules.listed(rules.meta, "file_meta."), *rules.listed(rules.dataset)]
    return [*found, *_doubts(rules.dataset, rules.path)]


def deidentify(source: Path | str | Dataset, *, key: str, patient_id: str = "ANONYMOUS") -> Dataset:
    """A copy of an image's data set with the basic profile applied.

    Names and identifiers are removed or emptied, dates, private and unknown elements, overlays and
    curves removed, pixel data decompressed and freed from comments and unused bits, UIDs replaced
    so that files of one study still refer to each other, and the file marked with
    PatientIdentityRemoved and the method. Save with `.save_as(path, enforce_file_format=True)`.

    No code finds every text in a picture, so one at risk of text is refused until a person has
    looked, blanked what is there, and set BurnedInAnnotation to NO. Not at risk are a scanner's own
    CT, MR, NM and PET slices.

    What it does not do: hide faces, judge descriptions that the profile keeps, or anonymise in the
    sense of a law. Files without pixels, such as reports, are refused, since their text is the
    content. Have a second person look before data leave the house.

    Args:
        source: a file, or a data set, which is left as it is.
        key: secret text; the same key maps the same UID to the same new one, across files and runs.
        patient_id: the pseudonym that becomes PatientID and PatientName, up to 64 characters.

    Raises:
        DicomError: unreadable, no image, no key, a video, or text that may be burnt into the
            pixels.
    """
    if not isinstance(key, str) or not key:
        raise DicomError("deidentify needs a key, a secret text: else UIDs could be mapped back")
    if not isinstance(patient_id, str) or not 0 < len(patient_id) <= 64 or "\\" in patient_id:
        raise DicomError(f"patient_id must be 1 to 64 characters of text, got {patient_id!r}")
    rules = _Rules(source, key)
    path, dataset = rules.path, rules.dataset
    if "Rows" not in dataset:
        raise DicomError(f"{path}: holds no image; its text would have to be read by a person")
    for doubt in _doubts(dataset, path):
        if doubt.keyword in ("BurnedInAnnotation", "SpecimenLabelInImage"):
            advice = f"look, blank it, then set {doubt.keyword} to NO"
            raise DicomError(f"{path}: {doubt.why}: {advice}")
    clean = rules.cleaned(dataset)
    clean.update(Dataset.from_json(_TABLE["marks"]))
    # The file meta information is a new one. The preamble, where anything could hide, stays behind.
    clean.file_meta = FileMetaDataset()
    syntax = text(rules.meta, "TransferSyntaxUID", path) or ExplicitVRLittleEndian
    clean.file_meta.TransferSyntaxUID = UID(syntax)
    _clean_pixels(clean, path)
    if not patient_id.isascii():
        clean.SpecificCharacterSet = "ISO_IR 192"
    clean.PatientName = clean.PatientID = patient_id
    with refusing(path, "write what is left of it"):
        clean.save_as(BytesIO(), enforce_file_format=True)
    return clean


def _clean_pixels(clean: Dataset, path: Path) -> None:
    """Clear what hides beside the picture: comments in a stream, unused bits (PS3.5 8.1.1)."""
    if not any(keyword in clean for keyword in PIXEL_KEYWORDS):
        return
    values, options = stored_values(clean, path, max_bytes=MAX_BYTES)
    syntax = clean.file_meta.TransferSyntaxUID
    stored, allocated = (integer(clean, f"Bits{end}", path) for end in ("Stored", "Allocated"))
    if "PixelData" in clean and (syntax.is_encapsulated or stored != allocated):
        colour = options["photometric_interpretation"]
        bits = values.dtype.itemsize * 8 if colour == "RGB" else options["bits_stored"]
        values = values if "NumberOfFrames" in clean else values[0]
        with refusing(path, "write its pixels without what lies beside them"):
            clean.set_pixel_data(values, colour, bits, generate_instance_uid=False)
        for table in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            clean.pop(table, None)


class _Rules:
    """What happens to the elements of one file."""

    def __init__(self, source: Path | str | Dataset, key: str = "") -> None:
        self.path = Path("header" if isinstance(source, Dataset) else source)
        self.dataset = source if isinstance(source, Dataset) else open_dicom(source)
        self.meta = getattr(self.dataset, "file_meta", None) or Dataset()
        self.key = key
        said = " ".join(text(self.dataset, name, self.path) for name in _TABLE["personal"])
        words = [re.escape(word) for word in re.split(r"[\W_]+", said) if len(word) > 3]
        # words of the patient's that no text may repeat
        self.names = re.compile(rf"(?<!\w)({'|'.join(words)})(?!\w)" if words else "(?!)", re.I)
        # definitions of enhanced images and PET want a dummy where others may have a gap
        enhanced = "SharedFunctionalGroupsSequence" in self.dataset
        self.strict = enhanced or text(self.dataset, "Modality", self.path) == "PT"

    def action(self, element: DataElement, nested: bool) -> str:
        """X remove, Z empty, D dummy, U new UID, K keep."""
        tag, keyword = element.tag, element.keyword
        pixels, code = tag.group == 0x7FE0, _ACTIONS.get(keyword or f"{tag:08X}", "")
        repeating = tag.group >> 8 in (0x50, 0x60, 0x7F)  # curves, overlays, variable pixels
        if tag.is_private or tag.group == 0 or (nested if pixels else repeating):
            return "X"
        if keyword in ("PatientName", "PatientID"):
            return "D"
        if code.endswith("/D") and not self.strict:
            return code[0]
        if code:  # X/Z empties, which every object allows; X/Z/U* keeps images linked
            return code.removesuffix("*")[-1]
        if not keyword:
            return "K" if tag.element == 0 and element.VR == "UL" else "X"  # the length of a group
        kinds = {str(element.VR), dictionary_VR(tag)}
        if kinds & {"PN", "DA", "DT", "TM"}:
            return "X"
        if "UI" in kinds and not re.search("Class|TransferSyntax", keyword):
            issued = [uid for uid in _values(element) if not uid.startswith("1.2.840.10008.")]
            if not issued:
                return "K"  # what the standard issued is the same for everybody
            return "U" if dictionary_VR(tag) == "UI" else "X"  # a number cannot be a new UID
        texts = kinds & {"LO", "LT", "SH", "ST", "UC", "UT"}
        return "D" if texts and self.names.search(" ".join(_values(element))) else "K"

    def actions(self, dataset: Dataset, nested: bool) -> list[tuple[DataElement, str]]:
        """All elements, their values converted, which is what fails on damaged bytes."""
        with refusing(self.path, "read its header"):
            elements = list(dataset)
        return [(element, self.action(element, nested)) for element in elements]

    def listed(self, dataset: Dataset, where: str = "") -> Iterator[Identifier]:
        """What goes or changes; not the inside of what goes as a whole."""
        for element, code in self.actions(dataset, bool(where)):
            name, shown = where + (element.keyword or element.name), _shown(element)
            if code in _VERBS and shown:
                yield Identifier(name, str(element.tag), shown, _why(element), _VERBS[code])
            if isinstance(element.value, Sequence) and code in "KU":
                for k, item in enumerate(element.value):
                    yield from self.listed(item, f"{name}[{k}].")

    def cleaned(self, dataset: Dataset, *, nested: bool = False) -> Dataset:
        """A copy with the actions applied."""
        clean = Dataset()
        implicit, little = dataset.original_encoding
        clean.set_original_encoding(implicit, little, dataset.original_character_set)
        for element, code in self.actions(dataset, nested):
            kept = self.kept(element, code)
            if kept is not None and kept.tag.group != 2:
                clean.add(kept)
        return clean

    def kept(self, element: DataElement, code: str) -> DataElement | None:
        """What an element becomes, None where it goes."""
        known = dictionary_VR(element.tag) if element.keyword else str(element.VR)
        vr = str(element.VR) if " or " in known else known  # a damaged file may declare another
        sequence = isinstance(element.value, Sequence)
        value: object = None
        if code == "X" or sequence != (vr == "SQ"):
            return None
        if sequence and code in "KU":
            value = [self.cleaned(item, nested=True) for item in element.value]
        elif code == "K":
            return copy(element)  # it may be set anew, and the original stays as it is
        elif code == "U" or (code == "D" and vr == "UI"):
            uids = _values(element) if element.VR == "UI" else ["\\".join(_values(element))]
            value = [_new_uid(uid, self.key) for uid in uids]
        elif code == "D":
            value = [Dataset()] if sequence else _DUMMIES.get(vr, "ANONYMOUS")
        return DataElement(element.tag, vr, value)


def _new_uid(uid: str, key: str) -> str:
    """A UUID-derived UID (PS3.5 B.2) from a keyed hash: equal for equal UIDs, not to be undone."""
    digest = hmac.new(key.encode(), uid.encode(), hashlib.sha256).digest()
    return uid if uid in UID_dictionary else f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _values(element: DataElement) -> list[str]:
    value = element.value
    if isinstance(value, bytes):
        value = value.decode("latin-1").strip("\0 ")
    parts = value if isinstance(value, (list, MultiValue)) else [value]
    return [str(part).strip() for part in parts if part is not None and str(part).strip()]


def _shown(element: DataElement) -> str:
    """The value for a reader, "" where there is none."""
    if isinstance(element.value, (Sequence, bytes)):
        kind = "bytes" if isinstance(element.value, bytes) else "item(s)"
        return f"{len(element.value)} {kind}" if element.value else ""
    value = "\\".join(_values(element))
    return value if len(value) <= 60 else value[:59] + "…"


def _why(element: DataElement) -> str:
    kind = f"{element.VR} {element.tag.group:04X} {element.keyword}"
    if element.tag.is_private or not element.keyword:
        kind = "private" if element.tag.is_private else "unknown"
    return next(reason for pattern, reason in _TABLE["reasons"] if re.search(pattern, kind))


def _doubts(dataset: Dataset, path: Path) -> Iterator[Identifier]:
    """What only a look at the pixels can settle."""

    def said(*keywords: str) -> str:
        return " ".join(text(dataset, keyword, path) for keyword in keywords).upper().strip()

    burned, modality = said("BurnedInAnnotation"), said("Modality")
    where = said("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")
    capture = (
        re.fullmatch(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.\d)?", said("SOPClassUID"))
        or "ConversionType" in dataset
        or "SECONDARY" in said("ImageType")
        or said("SamplesPerPixel") == "3"
        or modality not in _TABLE["modalities without text"]
    )
    doubts = {}
    if burned == "YES" or (capture and burned != "NO"):
        doubts["BurnedInAnnotation"] = burned or "absent"
    for keyword in ("SpecimenLabelInImage", "RecognizableVisualFeatures"):
        if said(keyword) == "YES":
            doubts[keyword] = "YES"
    if modality in ("CT", "MR", "PT") and re.search(_TABLE["head"], where):
        doubts["PixelData"] = modality
    for keyword, value in doubts.items():
        why = _TABLE["doubts"].get(f"{keyword} {value}") or _TABLE["doubts"][keyword]
        yield Identifier(keyword, str(Tag(keyword)), value, why, "look")
