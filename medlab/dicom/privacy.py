"""What in a file identifies a patient, and how to take it out.

`profile.txt` holds the attributes of the Basic Application Level Confidentiality Profile (DICOM
PS3.15 Table E.1-1) and what to do with each. Rules add what no table can list: private and unknown
elements, overlays and curves, every person's name, date and instance UID wherever it stands, and
what hides in the pixel data beside the picture.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, UID_dictionary
from pydicom.valuerep import BYTES_VR, FLOAT_VR, INT_VR

from medlab.dicom._clean_pixels import clean_pixels
from medlab.dicom.source import open_dicom, refusing, text
from medlab.errors import DicomError

_DUMMIES: dict[str, object] = {
    **dict.fromkeys(INT_VR, 0),
    **dict.fromkeys(FLOAT_VR, 0.0),
    **dict.fromkeys(BYTES_VR, b"\0\0"),
    **{"DA": "19000101", "DT": "19000101000000", "TM": "000000", "AS": "000Y"},
}
_TIME = r"[0-9]{2}(?:[0-5][0-9](?:[0-6][0-9](?:\.[0-9]{1,6})?)?)?"
_DATES = {
    "DA": "[0-9]{8}",
    "TM": _TIME,
    "DT": rf"[0-9]{{8}}(?:{_TIME})?(?:[+-][0-9]{{4}})?",
}
_TEXTS = {"LO", "LT", "SH", "ST", "UC", "UT"}
_PERSONAL = (
    "PatientName PatientID PatientBirthDate PatientBirthName PatientMotherBirthName AccessionNumber"
    " OtherPatientIDs OtherPatientNames"
).split()
_HEAD = re.compile("HEAD|BRAIN|SKULL|FACE|FACIAL|SINUS|ORBIT|CRANI|CEREBR|MAXILL|JAW", re.I)
_WITHOUT_TEXT = "CR CT DX IO MG MR NM OPT PT PX RTDOSE RTIMAGE SEG".split()


@dataclass(frozen=True)
class Identifier:
    """One thing in a file that may identify the patient.

    Attributes:
        keyword: the attribute's keyword, with its path inside sequences; its name if private.
        tag: as "(0010,0010)".
        value: as text, cut at 60 characters.
        why: what it reveals, for a reader.
        action: what the basic profile does with it: "remove", "empty", "dummy", "new UID", or
            "look" for what no header change can cure.
    """

    keyword: str
    tag: str
    value: str
    why: str
    action: str


@cache
def _lines(name: str) -> list[str]:
    content = files("medlab.dicom").joinpath(name).read_text(encoding="utf-8")
    return [line for line in content.splitlines() if line and not line.startswith("#")]


@cache
def _profile() -> dict[str, str]:
    """Keyword (or eight hexadecimal digits) → the table's action code."""
    actions, code = {}, ""
    for line in _lines("profile.txt"):
        code = line.strip("[]") if line.startswith("[") else code
        actions.update(dict.fromkeys(line.split(), code))
    return actions


def identifiers(source: Path | str | Dataset) -> list[Identifier]:
    """List what identifies the patient, in the order of the file.

    The list follows the basic profile, so it is long by intent: a study date or a UID names nobody,
    yet finds the patient in the records of the hospital. It cannot see what is burnt into the
    pixels, what a face rendered from a head scan shows, or an identifier that hides in an innocent
    attribute. Such doubts are listed with the action "look".

    Args:
        source: a file, or a data set such as `read_image(...).header`.

    Returns:
        One entry an attribute with a value; an empty list means that none was found.

    Raises:
        DicomError: the file cannot be read.
    """
    dataset, path = _opened(source)
    rules = _rules(dataset, path)
    doubts = [Identifier(*doubt, "look") for doubt in _doubts(dataset, path)]
    return [*rules.listed(_meta(dataset), "file_meta."), *rules.listed(dataset), *doubts]


def deidentify(
    source: Path | str | Dataset,
    *,
    key: str,
    patient_id: str = "ANONYMOUS",
    shift_days: int | None = None,
    burned_in: str = "refuse",
) -> Dataset:
    """A copy of an image's data set with the basic profile applied.

    Names and identifiers are removed or emptied, private and unknown elements, overlays and curves
    removed, unused bits and comments of the pixel data blanked, UIDs replaced so that files of one
    study still refer to each other, dates removed or shifted by one interval, and the file marked
    with PatientIdentityRemoved and the method. Save it with
    `.save_as(path, enforce_file_format=True)`.

    What it does not do: change the picture (burnt-in names, faces), judge descriptions that the
    profile keeps, or anonymise in the sense of a law. Structured reports and other files without
    pixels are refused, since their text is the content. Have a second person look before data leave
    the house.

    Args:
        source: a file, or a data set, which is left as it is.
        key: secret text; the same key maps the same UID to the same new one, across files and runs.
        patient_id: the pseudonym that becomes PatientID and PatientName, up to 64 characters.
        shift_days: None removes dates; a number shifts them, so that intervals survive.
        burned_in: "refuse" raises where the header says that text is burnt into the pixels, and for
            videos; "keep" lets them pass.

    Raises:
        DicomError: unreadable, no image, no key, or text burnt into the pixels.

    Source: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile; with `shift_days`
    also the Retain Longitudinal Temporal Information with Modified Dates option.
    """
    if not isinstance(key, str) or not key:
        raise DicomError("deidentify needs a key, a secret text: else UIDs could be mapped back")
    if burned_in not in ("refuse", "keep"):
        raise DicomError(f'burned_in must be "refuse" or "keep", got {burned_in!r}')
    if not isinstance(patient_id, str) or not 0 < len(patient_id) <= 64 or "\\" in patient_id:
        raise DicomError(f"patient_id must be 1 to 64 characters of text, got {patient_id!r}")
    if isinstance(shift_days, bool) or not isinstance(shift_days, Integral | None):
        raise DicomError(f"shift_days must be a whole number of days or None, got {shift_days!r}")
    dataset, path = _opened(source)
    if "Rows" not in dataset:
        raise DicomError(f"{path}: holds no image; its text would have to be read by a person")
    for keyword, _, value, reason in _doubts(dataset, path):
        if keyword == "BurnedInAnnotation" and value == "YES" and burned_in == "refuse":
            raise DicomError(f"{path}: {reason}: blank it first, or pass burned_in='keep'")
        if keyword == "BurnedInAnnotation" and value != "YES":
            warnings.warn(f"{path}: look at the pixels: {reason}", stacklevel=2)
    clean = _rules(dataset, path, key, shift_days).cleaned(dataset)
    # The file meta information is a new one. The preamble, where anything could hide, stays behind.
    meta = clean.file_meta = FileMetaDataset()
    default = (
        ExplicitVRBigEndian if dataset.original_encoding[1] is False else ExplicitVRLittleEndian
    )
    meta.TransferSyntaxUID = UID(text(_meta(dataset), "TransferSyntaxUID", path, default))
    clean_pixels(clean, dataset, path, trust=burned_in == "keep")
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        uid = text(_meta(dataset), f"MediaStorage{keyword}", path)
        if uid and not clean.get(keyword):
            setattr(clean, keyword, uid if keyword == "SOPClassUID" else _new_uid(uid, key))
        setattr(meta, f"MediaStorage{keyword}", clean.get(keyword, ""))
    if not patient_id.isascii():
        clean.SpecificCharacterSet = "ISO_IR 192"
    clean.PatientName = clean.PatientID = patient_id
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = "DICOM PS3.15 E basic profile, medlab"
    methods = {"113100": "Basic Application Confidentiality Profile"}
    clean.LongitudinalTemporalInformationModified = "REMOVED"
    if shift_days is not None:
        clean.LongitudinalTemporalInformationModified = "MODIFIED"
        methods["113107"] = "Retain Longitudinal Temporal Information Modified Dates Option"
    clean.DeidentificationMethodCodeSequence = [_code(*method) for method in methods.items()]
    with refusing(path, "write what is left of it"):
        clean.save_as(BytesIO(), enforce_file_format=True)
    return clean


def _opened(source: Path | str | Dataset) -> tuple[Dataset, Path]:
    if isinstance(source, Dataset):
        return source, Path("header")
    return open_dicom(source), Path(source)


def _meta(dataset: Dataset) -> Dataset:
    return getattr(dataset, "file_meta", None) or Dataset()


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _rules(dataset: Dataset, path: Path, key: str = "", shift_days: int | None = None) -> _Rules:
    said = " ".join(text(dataset, keyword, path) for keyword in _PERSONAL)
    words = [re.escape(word) for word in re.split(r"[\W_]+", said) if len(word) > 3]
    names = re.compile(rf"(?<!\w)({'|'.join(words)})(?!\w)" if words else "(?!)", re.I)
    enhanced = "SharedFunctionalGroupsSequence" in dataset
    strict = enhanced or text(dataset, "Modality", path) == "PT"
    return _Rules(path, key, shift_days, names, strict)


@dataclass(frozen=True)
class _Rules:
    """What happens to the elements of one file.

    `names` finds words of the patient's that no text may repeat. `strict` says that the object's
    definition (enhanced images, PET) wants a dummy where others may have a gap.
    """

    path: Path
    key: str
    shift_days: int | None
    names: re.Pattern[str]
    strict: bool

    def action(self, element: DataElement, nested: bool) -> str:
        """X remove, Z empty, D dummy, U new UID, K keep."""
        tag, keyword = element.tag, element.keyword
        pixels, code = tag.group == 0x7FE0, _profile().get(keyword or f"{tag:08X}", "")
        if tag.is_private or tag.group == 0 or (pixels and nested):
            return "X"
        if tag.group >> 8 in (0x50, 0x60, 0x7F) and not pixels:  # curves, overlays, variable pixels
            return "X"
        if keyword in ("PatientName", "PatientID"):
            return "D"
        if code in ("X/D", "Z/D", "X/Z/D"):
            return "D" if self.strict else code[0]
        if code:  # X/Z empties, which every object allows; X/Z/U* keeps images linked
            return code.removesuffix("*")[-1]
        if not keyword:
            return "K" if tag.element == 0 and element.VR == "UL" else "X"  # the length of a group
        kinds = {str(element.VR), dictionary_VR(tag)}
        if kinds & {"PN", *_DATES}:
            return "X"
        if "UI" in kinds and not re.search("Class|TransferSyntax", keyword):
            issued = [uid for uid in _values(element) if not uid.startswith("1.2.840.10008.")]
            return "U" if issued else "K"  # what the standard issued is the same for everybody
        return "D" if kinds & _TEXTS and self.names.search(" ".join(_values(element))) else "K"

    def elements(self, dataset: Dataset) -> list[DataElement]:
        """All, their values converted: it is the conversion that fails on damaged bytes."""
        with refusing(self.path, "read its header"):
            return list(dataset)

    def listed(self, dataset: Dataset, where: str = "") -> Iterator[Identifier]:
        """What goes or changes; not the inside of what goes as a whole."""
        verbs = {"X": "remove", "Z": "empty", "D": "dummy", "U": "new UID"}
        for element in self.elements(dataset):
            code, shown = self.action(element, bool(where)), _shown(element)
            name = where + (element.keyword or element.name)
            if code in verbs and shown:
                yield Identifier(name, str(element.tag), shown, _why(element), verbs[code])
            if isinstance(element.value, Sequence) and code in "KU":
                for k, item in enumerate(element.value):
                    yield from self.listed(item, f"{name}[{k}].")

    def cleaned(self, dataset: Dataset, *, nested: bool = False) -> Dataset:
        """A copy with the actions applied."""
        clean = Dataset()
        implicit, little = dataset.original_encoding
        clean.set_original_encoding(implicit, little, dataset.original_character_set)
        for element in self.elements(dataset):
            kept = self.kept(element, self.action(element, nested))
            if kept is not None and kept.tag.group != 2:
                clean.add(kept)
        return clean

    def kept(self, element: DataElement, code: str) -> DataElement | None:
        """What an element becomes, None where it goes."""
        tag, keyword, vr = element.tag, element.keyword, str(element.VR)
        known = dictionary_VR(tag) if keyword else vr
        vr = vr if " or " in known else known  # a damaged file may declare another
        sequence = isinstance(element.value, Sequence)
        value: object = None
        days = None if re.search("Birth|GPS|^$", keyword) else self.shift_days
        if days is not None and vr in _DATES and (value := _shifted(_values(element), vr, days)):
            return DataElement(tag, vr, value)
        if code == "X" or sequence != (vr == "SQ"):
            return None
        if sequence and code in "KU":
            value = [self.cleaned(item, nested=True) for item in element.value]
        elif code == "K":
            return element
        elif code == "U" or (code == "D" and vr == "UI"):
            uids = _values(element) if element.VR == "UI" else ["\\".join(_values(element))]
            value = [_new_uid(uid, self.key) for uid in uids]
        elif code == "D":
            value = [Dataset()] if sequence else _DUMMIES.get(vr, "ANONYMOUS")
        return DataElement(tag, vr, value)


def _new_uid(uid: str, key: str) -> str:
    """A UUID-derived UID (PS3.5 B.2) from a keyed hash: equal for equal UIDs, not to be undone."""
    digest = hmac.new(key.encode(), uid.encode(), hashlib.sha256).digest()
    return uid if uid in UID_dictionary else f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _shifted(values: list[str], vr: str, days: int) -> list[str]:
    """Dates moved, times as they are; what is no date or time, or cannot be moved, is left out."""
    moved = []
    for value in values:
        if re.fullmatch(_DATES[vr], value) and vr != "TM":
            try:
                day = datetime.strptime(value[:8], "%Y%m%d") + timedelta(days=days)
            except (ValueError, OverflowError):
                continue
            value = f"{day.date():%Y%m%d}".zfill(8) + value[8:]
        if re.fullmatch(_DATES[vr], value):
            moved.append(value)
    return moved


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
    reasons = (line.split(" → ") for line in _lines("reasons.txt"))
    return next(reason for pattern, reason in reasons if re.search(pattern, kind))


def _doubts(dataset: Dataset, path: Path) -> list[tuple[str, str, str, str]]:
    """What only a look at the pixels can settle: keyword, tag, value, why."""

    def said(*keywords: str) -> str:
        return " ".join(text(dataset, keyword, path) for keyword in keywords).upper().strip()

    burned, modality, doubts = said("BurnedInAnnotation"), said("Modality"), []
    capture = (
        re.fullmatch(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.\d)?", said("SOPClassUID"))
        or "ConversionType" in dataset
        or "SECONDARY" in said("ImageType")
        or said("SamplesPerPixel") == "3"
        or modality not in _WITHOUT_TEXT
    )
    if "YES" in (burned, said("SpecimenLabelInImage")):
        reason = "text is burnt into the pixels, as the header says"
        doubts.append(("BurnedInAnnotation", "(0028,0301)", "YES", reason))
    elif capture and burned != "NO":
        reason = "text may be burnt into the pixels, often the patient's name"
        doubts.append(("BurnedInAnnotation", "(0028,0301)", burned or "absent", reason))
    if said("RecognizableVisualFeatures") == "YES":
        reason = "the patient may be recognised in the image"
        doubts.append(("RecognizableVisualFeatures", "(0028,0302)", "YES", reason))
    where = said("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")
    if modality in ("CT", "MR", "PT") and _HEAD.search(where):
        reason = "a face can be rendered from a head scan, and recognised"
        doubts.append(("PixelData", "(7FE0,0010)", modality, reason))
    return doubts
