"""What in a header identifies a patient, and how to take it out.

`profile.txt` holds the attributes of the Basic Application Level Confidentiality Profile (DICOM
PS3.15 Table E.1-1) and what to do with each. Rules add what no table can list: private elements,
overlays and curves, and every person's name, date and instance UID wherever it stands.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, UID_dictionary

from medlab.dicom.source import open_dicom, refusing, text
from medlab.errors import DicomError

__all__ = ["Identifier", "deidentify", "identifiers"]

_DATES, _FREE_TEXT = ("DA", "DT", "TM"), ("LT", "ST", "UT", "UC")
_NEVER_EMPTY = {"PatientName": "ANONYMOUS", "PatientID": "ANONYMOUS"}
_DUMMIES = {
    **dict.fromkeys(("PN", "LO", "SH", "AE", "LT", "ST", "UT", "UC", "CS"), "ANONYMOUS"),
    **{"DA": "19000101", "DT": "19000101000000", "TM": "000000", "AS": "000Y"},
    **{"DS": "0", "IS": "0", "US": 0, "UL": 0, "FD": 0.0, "FL": 0.0, "OB": b"\0\0", "UN": b"\0\0"},
}
_HEAD = re.compile("HEAD|BRAIN|SKULL|FACE|FACIAL|SINUS|ORBIT|CRANI|CEREBR|MAXILL|JAW", re.I)
_PIXEL_TEXT_MODALITIES = ("US", "SC", "OT", "XC", "ES", "XA", "RF")


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
def _profile() -> dict[str, str]:
    """Keyword (or eight hexadecimal digits) → the table's action code."""
    actions, code = {}, ""
    content = files("medlab.dicom").joinpath("profile.txt").read_text(encoding="utf-8")
    for line in content.splitlines():
        if line.startswith("["):
            code = line.strip("[]")
        elif not line.startswith("#"):
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
    meta = getattr(dataset, "file_meta", None) or Dataset()
    listed = (*_walk(meta, "file_meta.", path), *_walk(dataset, "", path))
    found = [
        Identifier(
            where + (element.keyword or element.name),
            str(element.tag),
            _shown(element),
            _why(element),
            _plain(element),
        )
        for where, element in listed
        if _action(element) and not _is_empty(element)
    ]
    return found + _doubts(dataset, path)


def deidentify(
    source: Path | str | Dataset,
    *,
    key: str,
    patient_id: str = "ANONYMOUS",
    shift_days: int | None = None,
    burned_in: str = "refuse",
) -> Dataset:
    """A copy of an image's data set with the basic profile applied.

    Names and identifiers are removed or emptied, private elements, overlays and curves removed,
    UIDs replaced so that files of one study still refer to each other, dates removed or shifted by
    one interval, and the file marked with PatientIdentityRemoved and DeidentificationMethod. Save
    it with `.save_as(path, enforce_file_format=True)`.

    What it does not do: change pixels (burnt-in names, faces), judge descriptions that the profile
    keeps, or anonymise in the sense of a law. Structured reports and other files without pixels are
    refused, since their text is the content. Have a second person look before data leave the house.

    Args:
        source: a file, or a data set, which is left as it is.
        key: secret text; the same key maps the same UID to the same new one, across files and runs.
        patient_id: the pseudonym that becomes PatientID and PatientName.
        shift_days: None removes dates; a number shifts them, so that intervals survive.
        burned_in: "refuse" raises where BurnedInAnnotation says YES, "keep" lets it pass.

    Raises:
        DicomError: unreadable, no image, no key, or text burnt into the pixels.

    Source: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile; with `shift_days`
    also the Retain Longitudinal Temporal Information with Modified Dates option.
    """
    if not key:
        raise DicomError("deidentify needs a key: without a secret, UIDs could be mapped back")
    if burned_in not in ("refuse", "keep"):
        raise DicomError(f'burned_in must be "refuse" or "keep", got {burned_in!r}')
    dataset, path = _opened(source, pixels=True)
    if "Rows" not in dataset:
        raise DicomError(f"{path}: holds no image; its text would have to be read by a person")
    if text(dataset, "BurnedInAnnotation", path).upper() == "YES" and burned_in == "refuse":
        raise DicomError(
            f"{path}: text is burnt into the pixels (BurnedInAnnotation is YES): blank it first, "
            "or pass burned_in='keep'"
        )
    if text(dataset, "BurnedInAnnotation", path) == "" and (
        text(dataset, "Modality", path) in _PIXEL_TEXT_MODALITIES
    ):
        warnings.warn(
            f"{path}: look at the pixels: the header does not say they are free of text",
            stacklevel=2,
        )
    clean = _cleaned(dataset, path, key, shift_days)
    for keyword in _NEVER_EMPTY:
        setattr(clean, keyword, patient_id)
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = "DICOM PS3.15 E basic profile, medlab"
    dates = "REMOVED" if shift_days is None else "MODIFIED"
    clean.LongitudinalTemporalInformationModified = dates
    clean.file_meta = _clean_meta(dataset, clean)
    return clean


def _opened(source: Path | str | Dataset, *, pixels: bool = False) -> tuple[Dataset, Path]:
    if isinstance(source, Dataset):
        return source, Path("header")
    file = open_dicom(source, pixels=pixels)
    return file.dataset, file.path


def _elements(dataset: Dataset, path: Path) -> list[DataElement]:
    """All elements, their values converted: it is the conversion that fails on damaged bytes."""
    with refusing(path, "read its header"):
        return list(dataset)


def _walk(dataset: Dataset, where: str, path: Path) -> Iterator[tuple[str, DataElement]]:
    """Every element with its path; the inside of a sequence that goes as a whole is not listed."""
    for element in _elements(dataset, path):
        yield where, element
        if element.VR == "SQ" and _action(element) in (None, "U", "D", "X/Z/U*"):
            for k, item in enumerate(element.value):
                yield from _walk(item, f"{where}{element.keyword or element.name}[{k}].", path)


def _action(element: DataElement) -> str | None:
    """The profile's code for an element, None where it stays."""
    tag, keyword = element.tag, element.keyword
    if tag.is_private or 0x5000 <= tag.group <= 0x501F:
        return "X"
    if 0x6000 <= tag.group <= 0x601F:  # an overlay goes as a whole: planes without data are no use
        return "X"
    code = _profile().get(keyword or f"{tag.group:04X}{tag.element:04X}")
    if code is not None:
        return code
    if keyword == "IconImageSequence":
        return "X"
    if element.VR == "PN" or element.VR in _DATES:
        return "X"
    instance = element.VR == "UI" and any(map(_is_instance, _values(element)))
    if instance and not keyword.endswith("ClassUID"):
        return "U"
    return None


def _is_instance(uid: str) -> bool:
    """Whether a UID was issued for one object; those of the standard are the same for everybody."""
    return bool(uid) and uid not in UID_dictionary and not uid.startswith("1.2.840.10008.")


def _values(element: DataElement) -> list[str]:
    value = element.value
    return [str(v) for v in (value if isinstance(value, (list, MultiValue)) else [value]) if v]


def _is_empty(element: DataElement) -> bool:
    value = element.value
    if element.VR == "SQ" or isinstance(value, (bytes, bytearray, MultiValue, list)):
        return not len(value)
    return value is None or not str(value).strip()


def _shown(element: DataElement) -> str:
    if element.VR == "SQ":
        return f"{len(element.value)} item(s)"
    if isinstance(element.value, (bytes, bytearray)):
        return f"{len(element.value)} bytes"
    value = "\\".join(_values(element)) or str(element.value)
    return value if len(value) <= 60 else value[:59] + "…"


def _plain(element: DataElement) -> str:
    if element.keyword in _NEVER_EMPTY:
        return "dummy"
    code = _action(element) or "X"
    if code == "X/Z/U*":  # kept, so that images of a study still refer to each other
        return "new UID"
    return {"X": "remove", "Z": "empty", "D": "dummy", "U": "new UID"}[code[0]]


def _why(element: DataElement) -> str:
    group, keyword, vr = element.tag.group, element.keyword, str(element.VR)
    if element.tag.is_private:
        return "private element: only its maker knows what it holds"
    if 0x5000 <= group <= 0x601F or keyword == "IconImageSequence":
        return "drawn on the image, and may be text"
    if vr == "PN" or ("Name" in keyword and group == 0x0010):
        return "name of a person"
    if vr in _DATES:
        return "date or time: with a hospital's records it finds the patient"
    if vr == "UI":
        return "UID: the archive that issued it finds the patient by it"
    if re.search("Serial|Device|Detector|Gantry|Plate|Cassette|Machine|Software", keyword):
        return "device: few patients lie in it on a given day"
    if re.search("IDs?$|Identifier|AccessionNumber|OrderNumber|Issuer", keyword):
        return "number or code that stands for the patient, visit or order"
    if group == 0x0010:
        return "trait or history of the patient"
    if re.search("Institution|Station|Address|Telephone|Physician|Operator|AETitle", keyword):
        return "where or by whom the patient was examined"
    if vr in _FREE_TEXT or re.search("Description|Comment|Name|Reason|Text|Label|History", keyword):
        return "text in which anything may stand, names too"
    return "listed by the basic profile"


def _doubts(dataset: Dataset, path: Path) -> list[Identifier]:
    """What only a look at the pixels can settle."""
    doubts = []

    def add(keyword: str, tag: str, value: str, why: str) -> None:
        doubts.append(Identifier(keyword, tag, value, why, "look"))

    burned = text(dataset, "BurnedInAnnotation", path).upper()
    modality = text(dataset, "Modality", path)
    if burned == "YES" or (not burned and modality in _PIXEL_TEXT_MODALITIES):
        reason = "text may be burnt into the pixels, often the patient's name"
        add("BurnedInAnnotation", "(0028,0301)", burned or "absent", reason)
    if text(dataset, "RecognizableVisualFeatures", path).upper() == "YES":
        reason = "the patient may be recognised in the image"
        add("RecognizableVisualFeatures", "(0028,0302)", "YES", reason)
    parts = ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")
    where = " ".join(text(dataset, keyword, path) for keyword in parts)
    if modality in ("CT", "MR", "PT") and _HEAD.search(where):
        reason = "a face can be rendered from a head scan, and recognised"
        add("PixelData", "(7FE0,0010)", modality, reason)
    return doubts


def _cleaned(dataset: Dataset, path: Path, key: str, shift_days: int | None) -> Dataset:
    clean = Dataset()
    clean.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    for element in _elements(dataset, path):
        code, tag, vr = _action(element), element.tag, str(element.VR)
        shifts = shift_days is not None and vr in _DATES and "Birth" not in element.keyword
        if shifts and not tag.is_private:
            kept = element if vr == "TM" else DataElement(tag, vr, _shifted(element, shift_days))
            if not _is_empty(kept):
                clean.add(kept)
        elif code in (None, "U", "X/Z/U*") or (code == "D" and vr == "SQ"):
            clean.add(_mapped(element, path, key, shift_days))
        elif code == "D":
            clean.add(DataElement(tag, vr, _DUMMIES.get(vr)))
        elif code in ("Z", "Z/D"):
            clean.add(DataElement(tag, vr, [] if vr == "SQ" else None))
    return clean


def _mapped(element: DataElement, path: Path, key: str, shift_days: int | None) -> DataElement:
    if element.VR == "SQ":
        items = [_cleaned(item, path, key, shift_days) for item in element.value]
        return DataElement(element.tag, "SQ", items)
    if element.VR == "UI":
        uids = [_new_uid(uid, key) if _is_instance(uid) else uid for uid in _values(element)]
        return DataElement(element.tag, "UI", uids if len(uids) != 1 else uids[0])
    return element


def _new_uid(uid: str, key: str) -> UID:
    """A UUID-derived UID (PS3.5 B.2) from a keyed hash: equal for equal UIDs, not to be undone."""
    digest = hmac.new(key.encode(), uid.encode(), hashlib.sha256).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _shifted(element: DataElement, days: int) -> str | list[str]:
    moved = []
    for value in _values(element):
        try:
            day = datetime.strptime(value[:8], "%Y%m%d").date() + timedelta(days=days)
        except (ValueError, OverflowError):
            continue  # a date that cannot be shifted is removed
        moved.append(date.strftime(day, "%Y%m%d") + value[8:])
    return moved if len(moved) != 1 else moved[0]


def _clean_meta(dataset: Dataset, clean: Dataset) -> FileMetaDataset:
    """New file meta information; the preamble, where anything could hide, is not copied either."""
    meta = FileMetaDataset()
    old = getattr(dataset, "file_meta", Dataset())
    if "TransferSyntaxUID" in old:
        meta.TransferSyntaxUID = old.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = clean.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = clean.get("SOPInstanceUID", "")
    return meta
