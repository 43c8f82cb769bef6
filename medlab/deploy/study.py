"""A study looked at before a model sees it: the one series that fits, or a refusal by name.

What is said here names no patient. So no text of a header, no path and no message of a reader goes
through as it is: a value is told where it stands on a list of known terms, a file by its number.
"""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.deploy.indications import AXES, TERMS, Indications, StudyRefused
from medlab.dicom import read_image, read_series
from medlab.dicom.source import integer, looks_like_dicom, open_dicom, sequence, text
from medlab.errors import DicomError

T = TypeVar("T")
File = tuple[Path, Dataset]
Verdict = tuple[str, str, str, str]  # reason, expected, came, what to do
_TILT = 10  # degrees by which an axis of a volume may lie off
_OTHER = "Take a model that was trained for it"
_AS_MADE = "Give the images as the scanner made them"


@dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """The images of a study that a model gets.

    Attributes:
        voxels: float32 (D, H, W) in the series' units and its own order, as `read_series` gives
            them; (1, H, W) for a radiograph, whose large values are bright.
        spacing: distance of (planes, rows, columns), mm; NaN where there is none. A tilted gantry
            shifts each slice, so its planes are closer than the positions are.
        reverse: the axes that run the other way in the images that a model sees.
        sources: the header of each slice's file, in their order.
        unverified: what the headers do not tell, so that nobody checked it.
    """

    voxels: Tensor
    spacing: tuple[float, float, float]
    reverse: tuple[int, ...]
    sources: tuple[Dataset, ...]
    unverified: tuple[str, ...]


@contextmanager
def silent() -> Iterator[None]:
    """No warning and no log of a library: they quote headers."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)


def open_study(folder: Path | str, about: Indications, *, series: str | int | None = None) -> Study:
    """Find the one series of a study that a model was trained for, and read it.

    A header that names no body part is let through and told as unverified: scanners often leave it
    out, and geometry and intensities are checked. A radiograph without a view is refused, since
    nothing else would tell a lateral from a frontal one.

    Args:
        folder: one study of one patient, with its subfolders, or one file.
        about: what the model was trained for.
        series: SeriesNumber or SeriesInstanceUID, where several fit.

    Raises:
        StudyRefused: whatever is missing, damaged or not what the model was trained for.
    """
    root = Path(folder)
    with silent():
        below = sorted(root.rglob("*")) if root.is_dir() else [root]
        paths = [path for path in below if path.is_file() and not path.name.startswith(".")]
        return asked(lambda: _read(paths, about, series), paths)


def asked(read: Callable[[], T], paths: list[Path]) -> T:
    """What a reader gives; what it refuses is told without the words of header and path."""
    try:
        return read()
    except DicomError as error:
        if isinstance(error, StudyRefused):
            raise
        message = str(error)
    at = next((k for k, path in enumerate(paths, 1) if message.startswith(f"{path}:")), None)
    places = (f"{place}:" for path in paths for place in (path, path.parent))
    begin = next((place for place in places if message.startswith(place)), "")
    message = message.removeprefix(begin).partition("\n")[0]  # names of files follow, too
    file = f" (file {at} of {len(paths)} in the order of their names)" if at else ""
    told = next(told for word, told in TERMS["told"].items() if word in message)
    raise StudyRefused(*(part.format(file) for part in told))


def _read(paths: list[Path], about: Indications, series: str | int | None) -> Study:
    """The study in these files, in which everything fits; NaN, an unknown spacing, does."""
    files = _fitting(_found(paths), about, series)
    study = _radiograph(*files[0], about) if about.modality == "DX" else _volume(files, about)
    for what, mm, ends in (
        ("pixel spacing", study.spacing[1], about.spacing),
        ("pixel spacing", study.spacing[2], about.spacing),
        ("slice spacing", study.spacing[0], about.slice_spacing),
    ):
        if ends and (mm < ends[0] * 0.999 or mm > ends[1] * 1.001):
            raise StudyRefused(what, f"{ends[0]:g} to {ends[1]:g} mm", f"{mm:.3g} mm", _OTHER)
    reach = (len(study.voxels) - 1) * study.spacing[0]
    if reach < about.coverage * 0.999:
        expected = f"slices over {about.coverage:g} mm"
        came = f"{len(study.voxels)} over {reach:.3g} mm"
        raise StudyRefused("coverage", expected, came, "Give the whole series")
    found, unit = about.quantiles(study.voxels), " HU" if about.window else ""
    for quantile, least, most in about.intensities:
        if not least <= found[quantile] <= most:
            expected = f"{quantile:.0%} of values below {least:.4g} to {most:.4g}{unit}"
            came = f"below {found[quantile]:.4g}{unit}"
            do = "Values without their rescale, another kernel, contrast or region look so"
            raise StudyRefused("intensities", expected, came, do)
    return study


def _found(paths: list[Path]) -> dict[str, list[File]]:
    """The images of one patient's one study, by SeriesInstanceUID."""
    groups: dict[str, list[File]] = defaultdict(list)
    people, studies, results = set(), set(), 0
    for path in paths:
        header = open_dicom(path, pixels=False) if looks_like_dicom(path) else Dataset()
        made = text(header, "Modality", path) in TERMS["results"]
        results += made
        if "Rows" in header and not made:
            groups[text(header, "SeriesInstanceUID", path)].append((path, header))
            people.add((text(header, "PatientID", path), text(header, "PatientName", path)))
            studies.add(text(header, "StudyInstanceUID", path))
    if not groups and results:
        came = f"{results} result(s), such as a segmentation or a report"
        raise StudyRefused("result", "images", came, "Give the study from which they were made")
    if not groups:
        came = f"{len(paths)} file(s), no DICOM image among them"
        raise StudyRefused("no study", "a folder with a DICOM study", came, "Mind the path")
    for reason, members in (("several patients", people), ("several studies", studies)):
        if len(members) > 1:
            came, do = f"{len(members)}", "Give one study's folder"
            raise StudyRefused(reason, "one study of one patient", came, do)
    return groups


def _fitting(
    groups: dict[str, list[File]], about: Indications, wanted: str | int | None
) -> list[File]:
    """The files of the one series, or the one radiograph, that the model was trained for."""
    fits: list[tuple[int, int | None, list[File]]] = []
    unfit: list[tuple[int, Verdict]] = []
    for uid, files in groups.items():
        number = integer(files[0][1], "SeriesNumber", files[0][0])
        if wanted is None or str(wanted) in (uid, str(number)):
            for part in [[file] for file in files] if about.modality == "DX" else [files]:
                said = next(filter(None, (_unfit(*file, about) for file in part)), None)
                if said:
                    unfit.append((len(part), said))
                else:
                    fits.append((len(part), number, part))
    if len(fits) == 1:
        return fits[0][2]
    if fits:
        told = ", ".join(f"number {number} ({count} images)" for count, number, _ in fits[:6])
        do = "Choose with --series its number, or its UID where numbers agree"
        if about.modality == "DX":  # several films may share a series
            do = "Give the one file in place of the folder"
        raise StudyRefused("several series", "one that fits", f"{len(fits)}: {told}", do)
    if not unfit:
        came = "none of that number or UID"
        raise StudyRefused("series", "the series asked for", came, "Leave it out")
    reason, expected, came, do = max(unfit, key=lambda one: one[0])[1]
    came += f" (largest of {len(unfit)})" * (len(unfit) > 1)
    raise StudyRefused(reason, expected, came, do)


def _unfit(path: Path, header: Dataset, about: Indications) -> Verdict | None:
    """Why a header is not what the model was trained for, or None."""
    terms = TERMS["modalities"][about.modality]
    modality, part, age = text(header, "Modality", path), _body_part(header), _age(header)
    kinds = text(header, "ImageType", path).upper().split("\\")
    view = text(header, "ViewPosition", path).upper()
    if modality not in (about.modality, *terms["also"]):
        came = modality if modality in TERMS["known"] else "another"
        return "modality", about.modality, came, _OTHER
    if text(header, "SOPClassUID", path) not in terms["classes"]:
        came = "another kind, such as a secondary capture or several frames in one file"
        return "kind of image", f"single {about.modality} images", came, _AS_MADE
    if {"LOCALIZER", "SCOUT"} & {*kinds}:
        return "localizer", "images to read", "a localizer", "Give the series planned on it"
    if "\\".join(kinds[:2]) not in about.image_types:
        known = {*kinds[:2]} <= {"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY"}
        came = "\\".join(kinds[:2]) if known else "none that is known"
        return "image type", " or ".join(about.image_types), came, _AS_MADE
    if text(header, "BurnedInAnnotation", path).upper() == "YES":
        return "burnt-in text", "pixels without text", "text in them", _AS_MADE
    if part not in (None, about.body_part):
        return "body part", about.body_part, part or "one that is not in the table", _OTHER
    if about.modality == "DX" and view != about.view:
        came = view if view in ("PA", "AP", "LL", "RL") else "none that is known"
        return "view", about.view, came, "Have the view entered: a lateral is an image to it too"
    if about.age and age is not None and not about.age[0] <= age <= about.age[1]:
        return "age", "{:g} to {:g} years".format(*about.age), "another age", _OTHER
    agent = text(header, "ContrastBolusAgent", path).upper() not in ("", "NO", "NONE")
    if not about.contrast and (agent or sequence(header, "ContrastBolusAgentSequence", path)):
        return "contrast", "no contrast agent", "one", _OTHER
    return None


def _body_part(header: Dataset) -> str | None:
    """The table's name of the body part, "" for what it does not know, None for nothing said."""
    items = sequence(header, "AnatomicRegionSequence", "")
    codes = [text(item, "CodeValue", "") for item in items]
    said = {*codes, text(header, "BodyPartExamined", "").upper().replace(" ", "")} - {""}
    names = {
        known: name
        for name, row in TERMS["body_parts"].items()
        for known in (name, row["code"][0], *row["also"])
    }
    found = {names.get(word, "") for word in said}
    return found.pop() if len(found) == 1 else ("" if found else None)


def _age(header: Dataset) -> float | None:
    """Years, None where unknown (PS3.5: three digits and D, W, M or Y)."""
    said = text(header, "PatientAge", "")
    days = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.25}.get(said[3:])
    return int(said[:3]) * days / 365.25 if days and said[:3].isdecimal() else None


def _silences(header: Dataset, about: Indications) -> tuple[str, ...]:
    """What a header leaves open of the indications."""
    said = []
    if _body_part(header) is None:
        said.append(f"body part: the header names none; expected is {about.body_part}")
    if about.age and _age(header) is None:
        said.append("age: the header tells none")
    if not text(header, "BurnedInAnnotation", ""):
        said.append("burnt-in text: the header does not say that there is none")
    if not about.contrast:
        said.append("contrast agent: none is named, which does not prove that none was given")
    if about.modality == "DX" and not text(header, "PatientOrientation", "").strip("\\"):
        said.append("sides: the header does not say that the patient's left is on the right")
    return tuple(said)


def _volume(files: list[File], about: Indications) -> Study:
    """The volume of a series, where its axes and units fit."""
    volume = read_series([path for path, _ in files])
    reverse = _reversed(volume.direction, about)
    if about.window and volume.units != "HU":
        came = "values without a rescale to them"
        raise StudyRefused("units", "Hounsfield units", came, _AS_MADE)
    upright = abs(float(np.linalg.det(volume.direction)))  # 1 without a tilted gantry
    headers = dict(files)
    return Study(
        voxels=volume.voxels,
        spacing=(volume.spacing[0] * upright, *volume.spacing[1:]),
        reverse=reverse,
        sources=tuple(headers[path] for path in volume.files),
        unverified=_silences(files[0][1], about),
    )


def _reversed(direction: tuple[tuple[float, ...], ...], about: Indications) -> tuple[int, ...]:
    """Which axes of a volume, along these unit vectors, run against those of the model's images."""
    plane = ("sagittal", "coronal", "axial")[int(np.abs(direction[0]).argmax())]
    if plane != about.view:
        do = "Give the series of that plane; none is cut anew here"
        raise StudyRefused("plane", about.view, plane, do)
    along = (np.array(direction) * AXES[about.view]).sum(1)
    off = float(np.degrees(np.arccos(min(1.0, np.abs(along).min()))))
    if off > _TILT + 0.01:
        expected, came = f"{about.view}, upright within {_TILT}°", f"an axis {off:.1f}° off"
        raise StudyRefused("tilt", expected, came, _OTHER)
    return tuple(np.flatnonzero(along < 0).tolist())


def _radiograph(path: Path, header: Dataset, about: Indications) -> Study:
    """A radiograph, where its pixels and sides fit."""
    image = read_image(path)
    if image.pixels.ndim != 2:
        came = "colour, or several frames"
        raise StudyRefused("kind of image", "one grey image", came, _OTHER)
    if image.spacing is None and (about.spacing or about.pixel_mm):
        raise StudyRefused("pixel spacing", "the size of a pixel", "none", _AS_MADE)
    across, _, down = text(header, "PatientOrientation", path).upper().partition("\\")
    if across + down and (across[:1], down[:1]) != ("L", "F"):
        expected = "the patient's left along the rows, the feet along the columns"
        raise StudyRefused("orientation", expected, "another", "Give the image upright")
    return Study(
        voxels=image.pixels.float()[None],
        spacing=(np.nan, *(image.spacing or (np.nan, np.nan))),
        reverse=(),
        sources=(header,),
        unverified=_silences(header, about),
    )
