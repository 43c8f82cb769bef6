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
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.deploy.indications import AXES, TERMS, Indications, StudyRefused, refuse
from medlab.dicom import read_image, read_series
from medlab.dicom.source import integer, looks_like_dicom, open_dicom, sequence, text
from medlab.errors import DicomError

T = TypeVar("T")
File = tuple[Path, Dataset]
Verdict = tuple[str, str, str, str]  # reason, expected, came, what to do
_OTHER = "Take a model that was trained for it"
# What a reader says, by a word of its message, and what is passed on of it
_TOLD = {
    "no such folder": ("no study", "a folder with a study", "no such folder", "Mind the path"),
    "truncated": ("damaged file", "whole files", "a truncated one{}", "Fetch the study again"),
    "want of a decoder": (
        *("no decoder", "pixels that can be decoded", "compressed ones without a decoder{}"),
        'pip install "medlab[dicom]"',
    ),
    "slices are missing": (
        *("missing slices", "slices at one distance", "a series with a gap"),
        "Fetch the study again; a part that is whole can be given by itself",
    ),
    "one slice is not": (
        *("missing slices", "slices of a volume", "one slice only"),
        "Fetch the study again",
    ),
    "at one position": (
        *("doubled slices", "one image at each place", "several at one"),
        "Keep one time, echo or copy",
    ),
    "sideways": ("irregular slices", "slices in a line", "shifted ones", "Take another series"),
    "differ in": (
        *("mixed series", "images that belong together", "ones that differ{}"),
        "Sort the folder: one series has one size, orientation and spacing",
    ),
    "above the limit": ("too large", "at most 2 GiB", "more{}", "Give a smaller series"),
    "not finite": ("damaged file", "finite values", "others{}", "Fetch the study again"),
}
_UNREADABLE = (
    *("damaged file", "DICOM images that can be read", "what no reader accepts{}"),
    "Fetch the study again; medlab.dicom's readers tell the detail, which may name the patient",
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """The images of a study that a model gets.

    Attributes:
        voxels: float32, (D, H, W) in the units of the series and its own order, as `read_series`
            gives them; (1, H, W) for a radiograph, large values bright.
        spacing: (slice, row, column), mm; NaN where a radiograph does not tell.
        axes: for each of the model's axes the study's axis and whether it runs the other way.
        sources: the header of each slice's file, in the order of the voxels.
        unverified: what the header does not tell, so that nobody checked it.
    """

    voxels: Tensor
    spacing: tuple[float, float, float]
    axes: tuple[tuple[int, bool], ...]
    sources: tuple[Dataset, ...]
    unverified: tuple[str, ...]


@contextmanager
def silent() -> Iterator[None]:
    """No warning and no log of a library, in which headers are quoted."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def open_study(folder: Path | str, about: Indications, *, series: str | int | None = None) -> Study:
    """Find the one series of a study that a model was trained for, and read it.

    Args:
        folder: one study of one patient, with its subfolders, or one file.
        about: what the model was trained for.
        series: SeriesNumber or SeriesInstanceUID, where several fit.

    Raises:
        StudyRefused: whatever is missing, damaged or not what the model was trained for.
    """
    with silent():
        paths, chosen = _chosen(Path(folder), about, series)
        unverified = _silences([header for _, header in chosen], about)
        files = [path for path, _ in chosen]
        if about.modality == "DX":
            study = _radiograph(files[0], paths, about)
        else:
            study = _volume(files, paths, about)
        _check_intensities(study.voxels, about)
        return Study(**{**vars(study), "unverified": (*unverified, *study.unverified)})


def _asked(read: Callable[[], T], paths: list[Path]) -> T:
    """What a reader returns; what it refuses is told without the words of header and path."""
    try:
        return read()
    except StudyRefused:
        raise
    except DicomError as error:
        message = str(error)
    at = next((k for k, path in enumerate(paths, 1) if message.startswith(f"{path}:")), None)
    file = f" (file {at} of {len(paths)} in the order of their names)" if at else ""
    told = next((told for word, told in _TOLD.items() if word in message), _UNREADABLE)
    refuse(*(part.format(file) for part in told))


def _chosen(
    root: Path, about: Indications, wanted: str | int | None
) -> tuple[list[Path], list[File]]:
    """All files of the study, and those of the one series that fits, with their headers."""
    below = sorted(root.rglob("*")) if root.is_dir() else [root]
    paths = [path for path in below if path.is_file() and not path.name.startswith(".")]
    if not paths:
        refuse("no study", "a folder with a DICOM study", "nothing to read", "Mind the path")
    groups: dict[str, list[File]] = defaultdict(list)
    people, studies, results = set(), set(), 0

    def scan() -> None:
        nonlocal results
        for path in paths:
            header = open_dicom(path, pixels=False) if looks_like_dicom(path) else Dataset()
            results += text(header, "Modality", path) in TERMS["results"]
            if "Rows" in header and text(header, "Modality", path) not in TERMS["results"]:
                groups[text(header, "SeriesInstanceUID", path)].append((path, header))
                people.add((text(header, "PatientID", path), text(header, "PatientName", path)))
                studies.add(text(header, "StudyInstanceUID", path))

    _asked(scan, paths)
    if not groups and results:
        came = f"{results} result(s), such as a segmentation or a report"
        refuse("result", "images", came, "Give the study from which they were made")
    if not groups:
        came = f"{len(paths)} file(s), no DICOM image among them"
        refuse("no study", "a folder with a DICOM study", came, "Mind the path")
    for reason, found in (("several patients", people), ("several studies", studies)):
        if len(found) > 1:
            refuse(reason, "one study of one patient", f"{len(found)}", "Give one study's folder")
    verdicts = {}
    for uid, files in groups.items():
        number = _asked(lambda f=files[0]: integer(f[1], "SeriesNumber", f[0]), paths)  # type: ignore[misc]
        if wanted is None or str(wanted) in (uid, str(number)):
            single = about.modality == "DX"
            for k, part in enumerate([[file] for file in files] if single else [files]):
                said = _asked(lambda part=part: _unfit(part, about), paths)  # type: ignore[misc]
                verdicts[uid, number, k] = part, said
    if not verdicts:
        refuse("series", "the series asked for", "none of that number or UID", "Leave it out")
    fits = [(key, part) for key, (part, said) in verdicts.items() if said is None]
    if len(fits) > 1:
        told = ", ".join(f"number {key[1]} ({len(part)} images)" for key, part in fits[:6])
        do = "Choose with --series its number, or its UID where numbers agree"
        refuse("several series", "one that fits", f"{len(fits)}: {told}", do)
    if fits:
        return paths, fits[0][1]
    _, said = max(verdicts.values(), key=lambda verdict: len(verdict[0]))
    assert said is not None
    reason, expected, came, do = said
    refuse(reason, expected, came + (f" (largest of {len(verdicts)})" * (len(verdicts) > 1)), do)


def _unfit(files: list[File], about: Indications) -> Verdict | None:
    """Why a series is not what the model was trained for, by its headers, or None."""
    for path, header in files:
        terms = TERMS["modalities"][about.modality]
        modality = text(header, "Modality", path)
        if modality not in (about.modality, *terms["also"]):
            came = modality if modality in TERMS["known"] else "another"
            return "modality", about.modality, came, _OTHER
        if text(header, "SOPClassUID", path) not in terms["classes"]:
            kind = f"images of the kind {about.modality}"
            came = "another kind, such as a secondary capture or a radiograph for processing"
            return "kind of image", kind, came, "Give the images as the scanner made them"
        kinds = text(header, "ImageType", path).upper().split("\\")
        if {"LOCALIZER", "SCOUT"} & {*kinds}:
            return "localizer", "images to read", "a localizer", "Give the series planned on it"
        if "\\".join(kinds[:2]) not in about.image_types:
            known = (
                kinds[:2] if {*kinds[:2]} <= {*"ORIGINAL DERIVED PRIMARY SECONDARY".split()} else ()
            )
            came = "\\".join(known) or "none that is known"
            do = "Give the images as the scanner made them"
            return "image type", " or ".join(about.image_types), came, do
        if text(header, "BurnedInAnnotation", path) == "YES":
            came = "text burnt into the pixels"
            return "burnt-in text", "pixels without text", came, "Give the images without it"
        named = _body_part(header, path)
        if named not in (None, about.body_part):
            return "body part", about.body_part, named or "one that no table knows", _OTHER
        view = _view(header, path)
        if about.modality == "DX" and view != about.view:
            came = view if view in ("PA", "AP", "LL", "RL", "LATERAL") else "none that is known"
            do = "A lateral looks like any other image to the model: have the view entered"
            return "view", about.view, came, do
        age = _age(header, path)
        if about.age and age is not None and not about.age[0] <= age <= about.age[1]:
            return "age", "{:g} to {:g} years".format(*about.age), "another age", _OTHER
        agent = bool(text(header, "ContrastBolusAgent", path))
        if about.contrast is False and agent:
            return "contrast", "no contrast agent", "one", _OTHER
        if about.contrast and not agent:
            return "contrast", "a contrast agent", "none that is named", _OTHER
    return None


def _body_part(header: Dataset, path: Path) -> str | None:
    """The table's name of the body part, "" for one that it does not know, None for no word."""
    codes = [
        text(item, "CodeValue", path) for item in sequence(header, "AnatomicRegionSequence", path)
    ]
    said = [*codes, text(header, "BodyPartExamined", path).upper().replace(" ", "")]
    names = {
        known: name
        for name, row in TERMS["body_parts"].items()
        for known in (name, row["code"][0], *row["also"])
    }
    found = {names.get(word, "") for word in said if word}
    return found.pop() if len(found) == 1 else ("" if found else None)


def _view(header: Dataset, path: Path) -> str:
    codes = {"399348003": "AP", "272479007": "PA"}  # SNOMED CT, PS3.16 CID 4010
    for item in sequence(header, "ViewCodeSequence", path):
        if text(item, "CodeValue", path) in codes:
            return codes[text(item, "CodeValue", path)]
    return text(header, "ViewPosition", path).upper()


def _age(header: Dataset, path: Path) -> float | None:
    """Years, None where unknown (PS3.5: three digits and D, W, M or Y)."""
    said = text(header, "PatientAge", path)
    days = {"D": 1, "W": 7, "M": 30.44, "Y": 365.25}
    if len(said) == 4 and said[:3].isdecimal() and said[3] in days:
        return int(said[:3]) * days[said[3]] / 365.25
    return None


def _silences(headers: list[Dataset], about: Indications) -> list[str]:
    """What the headers leave open of the indications."""
    first, here = headers[0], Path()
    said = []
    if _body_part(first, here) is None:
        said.append(f"body part: the header names none, {about.body_part} was expected")
    if about.age and _age(first, here) is None:
        said.append("age: the header tells none")
    if not text(first, "BurnedInAnnotation", here):
        said.append("burnt-in text: the header does not say that there is none")
    if about.contrast is False:
        said.append("contrast agent: none is named, which does not prove that none was given")
    return said


def _within(what: str, value: float, ends: tuple[float, float] | None) -> None:
    """Refuse a distance out of its range."""
    if ends and not ends[0] * 0.999 <= value <= ends[1] * 1.001:
        least, most = (f"{end:g}" for end in ends)
        refuse(what, f"{least} to {most} mm", f"{value:.3g} mm", _OTHER)


def _volume(files: list[Path], paths: list[Path], about: Indications) -> Study:
    """A series of slices, where its geometry and units fit."""
    volume = _asked(lambda: read_series(files), paths)
    if about.window and volume.units != "HU":
        came = "values without their rescale to HU"
        refuse("units", "Hounsfield units", came, "Give the images as the scanner made them")
    directions = np.array(volume.direction)
    cosines = directions @ np.array(AXES[about.view], float).T
    nearest = np.abs(cosines).argmax(1)
    if nearest[0] != 0:
        names = {tuple(np.abs(axes[0])): name for name, axes in AXES.items()}
        normal = np.eye(3)[np.abs(directions[0]).argmax()]
        came = names[tuple(normal.astype(int))]
        refuse("plane", about.view, came, "Give the series of that plane; none is turned here")
    along = np.abs(cosines[range(3), nearest])
    off = float(np.degrees(np.arccos(min(1.0, along.min()))))
    if len({*nearest.tolist()}) < 3 or off > about.tilt + 0.01:
        expected = f"{about.view} within {about.tilt:g} degrees"
        refuse("tilt", expected, f"an axis {off:.1f} degrees off", _OTHER)
    for step in volume.spacing[1:]:
        _within("pixel spacing", step, about.spacing)
    _within("slice spacing", volume.spacing[0], about.slice_spacing)
    count, reach = len(volume.voxels), (len(volume.voxels) - 1) * volume.spacing[0]
    if count < about.slices or reach < about.coverage * 0.999:
        expected = f"at least {about.slices} slices over {about.coverage:g} mm"
        came = f"{count} over {reach:.3g} mm"
        refuse("coverage", expected, came, "Give the whole series; part of a body misleads")
    places = nearest.tolist()
    turned = [(places.index(k), bool(cosines[places.index(k), k] < 0)) for k in range(3)]
    headers = {path: open_dicom(path, pixels=False) for path in dict.fromkeys(volume.files)}
    return Study(
        voxels=volume.voxels,
        spacing=volume.spacing,
        axes=tuple(turned),
        sources=tuple(headers[path] for path in volume.files),
        unverified=(),
    )


def _radiograph(file: Path, paths: list[Path], about: Indications) -> Study:
    """One projection image."""
    image = _asked(lambda: read_image(file), paths)
    if image.pixels.ndim != 2:
        refuse("kind of image", "one grey image", "colour, or several frames", _OTHER)
    unverified = []
    spacing = image.spacing or (np.nan, np.nan)
    if image.spacing is None and (about.spacing or about.pixel_mm):
        refuse("pixel spacing", "the size of a pixel", "none", "Give the image with its spacing")
    for step in spacing if about.spacing else ():
        _within("pixel spacing", step, about.spacing)
    turned = [(0, False), (1, False), (2, False)]
    across = text(image.header, "PatientOrientation", file).upper().split("\\")
    if across == [""]:
        unverified.append("sides: the header does not say that the patient's left is on the right")
    elif len(across) != 2 or across[0][:1] not in ("L", "R") or across[1][:1] not in ("F", "H"):
        expected = "the patient's left and feet along rows and columns"
        refuse("orientation", expected, "another orientation", "Give the image upright")
    else:
        turned[1:] = [(1, across[1][0] == "H"), (2, across[0][0] == "R")]
    return Study(
        voxels=image.pixels.float()[None],
        spacing=(np.nan, *spacing),
        axes=tuple(turned),
        sources=(image.header,),
        unverified=tuple(unverified),
    )


def _check_intensities(voxels: Tensor, about: Indications) -> None:
    """Refuse values of which the training images had none like."""
    found = about.quantiles(voxels)
    unit = " HU" if about.window else ""
    for quantile, least, most in about.intensities:
        if not least <= found[quantile] <= most:
            refuse(
                "intensities",
                f"{quantile:.0%} of values below {least:.3g} to {most:.3g}{unit}",
                f"below {found[quantile]:.3g}{unit}",
                "Values without their rescale, another kernel, contrast or body part look so",
            )
