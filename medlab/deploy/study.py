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

from medlab.deploy.indications import AXES, TERMS, Indications, refuse
from medlab.dicom import read_image, read_series
from medlab.dicom.source import integer, looks_like_dicom, open_dicom, sequence, text
from medlab.errors import DicomError

T = TypeVar("T")
File = tuple[Path, Dataset]
Verdict = tuple[str, str, str, str]  # reason, expected, came, what to do
_OTHER = "Take a model that was trained for it"
_AS_MADE = "Give the images as the scanner made them"


@dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """The images of a study that a model gets.

    Attributes:
        voxels: float32 (D, H, W) in the series' units and its own order, as `read_series` gives
            them; (1, H, W) for a radiograph, whose large values are bright.
        spacing: (slice, row, column), mm; NaN where there is none.
        axes: for each axis of the model's images the study's, and whether it runs the other way.
        sources: the header of each slice's file, in their order.
        unverified: what the headers do not tell, so that nobody checked it.
    """

    voxels: Tensor
    spacing: tuple[float, float, float]
    axes: tuple[tuple[int, bool], ...]
    sources: tuple[Dataset, ...]
    unverified: tuple[str, ...]


@contextmanager
def silent() -> Iterator[None]:
    """No warning and no log of a library: they quote headers."""
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

        def ask(read: Callable[[], T]) -> T:
            return asked(read, paths)

        files = ask(lambda: _fitting(ask(lambda: _found(paths)), about, series))
        unverified = _silences(files[0][1], about)
        if about.modality == "DX":
            voxels, spacing, axes = ask(lambda: _radiograph(*files[0], about, unverified))
            sources = [files[0][1]]
        else:
            volume = ask(lambda: read_series([path for path, _ in files]))
            voxels, spacing, axes = volume.voxels, volume.spacing, _axes(volume.direction, about)
            _check_volume(volume.units, spacing, len(voxels), about)
            headers = dict(files)
            sources = [headers[path] for path in dict.fromkeys(volume.files)]
        _check_intensities(voxels, about)
    return Study(
        voxels=voxels,
        spacing=spacing,
        axes=tuple(axes),
        sources=tuple(sources),
        unverified=tuple(unverified),
    )


def asked(read: Callable[[], T], paths: list[Path]) -> T:
    """What a reader gives; what it refuses is told without the words of header and path."""
    try:
        return read()
    except DicomError as error:
        if hasattr(error, "reason"):  # told by us
            raise
        message = str(error)
    at = next((k for k, path in enumerate(paths, 1) if message.startswith(f"{path}:")), None)
    file = f" (file {at} of {len(paths)} in the order of their names)" if at else ""
    told = next(told for word, told in TERMS["told"].items() if word in message)
    refuse(*(part.format(file) for part in told))


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
        refuse("result", "images", came, "Give the study from which they were made")
    if not groups:
        came = f"{len(paths)} file(s), no DICOM image among them"
        refuse("no study", "a folder with a DICOM study", came, "Mind the path")
    for reason, members in (("several patients", people), ("several studies", studies)):
        if len(members) > 1:
            refuse(reason, "one study of one patient", f"{len(members)}", "Give one study's folder")
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
        refuse("several series", "one that fits", f"{len(fits)}: {told}", do)
    if not unfit:
        refuse("series", "the series asked for", "none of that number or UID", "Leave it out")
    reason, expected, came, do = max(unfit, key=lambda one: one[0])[1]
    refuse(reason, expected, came + f" (largest of {len(unfit)})" * (len(unfit) > 1), do)


def _unfit(path: Path, header: Dataset, about: Indications) -> Verdict | None:
    """Why a header is not what the model was trained for, or None."""
    terms = TERMS["modalities"][about.modality]
    modality, part, view = text(header, "Modality", path), _body_part(header), _view(header)
    kinds = text(header, "ImageType", path).upper().split("\\")
    age = _age(header)
    if modality not in (about.modality, *terms["also"]):
        return (
            "modality",
            about.modality,
            modality if modality in TERMS["known"] else "another",
            _OTHER,
        )
    if text(header, "SOPClassUID", path) not in terms["classes"]:
        came = "another kind, such as a secondary capture or a radiograph for processing"
        return "kind of image", f"{about.modality} images", came, _AS_MADE
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
    if about.contrast is False and text(header, "ContrastBolusAgent", path):
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


def _view(header: Dataset) -> str:
    """ViewPosition, or AP and PA as SNOMED CT codes them (PS3.16 CID 4010)."""
    items = sequence(header, "ViewCodeSequence", "")
    coded = {"399348003": "AP", "399345000": "AP", "272479007": "PA"}
    said = [coded[code] for item in items if (code := text(item, "CodeValue", "")) in coded]
    return said[0] if said else text(header, "ViewPosition", "").upper()


def _age(header: Dataset) -> float | None:
    """Years, None where unknown (PS3.5: three digits and D, W, M or Y)."""
    said = text(header, "PatientAge", "")
    days = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.25}.get(said[3:])
    return int(said[:3]) * days / 365.25 if days and said[:3].isdecimal() else None


def _silences(header: Dataset, about: Indications) -> list[str]:
    """What a header leaves open of the indications."""
    said = []
    if _body_part(header) is None:
        said.append(f"body part: the header names none; expected is {about.body_part}")
    if about.age and _age(header) is None:
        said.append("age: the header tells none")
    if not text(header, "BurnedInAnnotation", ""):
        said.append("burnt-in text: the header does not say that there is none")
    if about.contrast is False:
        said.append("contrast agent: none is named, which does not prove that none was given")
    return said


def _within(what: str, value: float, ends: tuple[float, float] | None) -> None:
    if ends and not ends[0] * 0.999 <= value <= ends[1] * 1.001:
        refuse(what, f"{ends[0]:g} to {ends[1]:g} mm", f"{value:.3g} mm", _OTHER)


def _axes(direction: tuple[tuple[float, ...], ...], about: Indications) -> list[tuple[int, bool]]:
    """Along which axis of a volume each axis of the model's images runs, and whether backwards."""
    cosines = np.array(direction) @ np.array(AXES[about.view], float).T
    nearest = np.abs(cosines).argmax(1).tolist()
    off = float(np.degrees(np.arccos(min(1.0, np.abs(cosines).max(1).min()))))
    if nearest[0] != 0:
        normals = {int(np.argmax(np.abs(axes[0]))): name for name, axes in AXES.items()}
        came = normals[int(np.abs(direction[0]).argmax())]
        refuse("plane", about.view, came, "Give the series of that plane; none is cut anew here")
    if off > about.tilt + 0.01 or len({*nearest}) < 3:
        expected = f"{about.view} within {about.tilt:g}°"
        refuse("tilt", expected, f"an axis {off:.1f}° off", _OTHER)
    return [(nearest.index(k), bool(cosines[nearest.index(k), k] < 0)) for k in range(3)]


def _check_volume(
    units: str, spacing: tuple[float, float, float], count: int, about: Indications
) -> None:
    if about.window and units != "HU":
        refuse("units", "Hounsfield units", "values without a rescale to them", _AS_MADE)
    for step in spacing[1:]:
        _within("pixel spacing", step, about.spacing)
    _within("slice spacing", spacing[0], about.slice_spacing)
    reach = (count - 1) * spacing[0]
    if count < about.slices or reach < about.coverage * 0.999:
        expected = f"at least {about.slices} slices over {about.coverage:g} mm"
        refuse("coverage", expected, f"{count} over {reach:.3g} mm", "Give the whole series")


def _radiograph(
    path: Path, header: Dataset, about: Indications, unverified: list[str]
) -> tuple[Tensor, tuple[float, float, float], list[tuple[int, bool]]]:
    """A radiograph's pixels, spacing and axes, where they fit."""
    image = read_image(path)
    if image.pixels.ndim != 2:
        refuse("kind of image", "one grey image", "colour, or several frames", _OTHER)
    if image.spacing is None and (about.spacing or about.pixel_mm):
        refuse("pixel spacing", "the size of a pixel", "none", _AS_MADE)
    rows, columns = image.spacing or (np.nan, np.nan)
    for step in (rows, columns):
        _within("pixel spacing", step, about.spacing)
    across, _, down = text(header, "PatientOrientation", path).upper().partition("\\")
    if not across + down:
        unverified.append("sides: the header does not say that the patient's left is on the right")
    elif across[:1] not in ("L", "R") or down[:1] not in ("F", "H"):
        expected = "the patient's left along the rows, the feet along the columns"
        refuse("orientation", expected, "another orientation", "Give the image upright")
    axes = [(0, False), (1, down[:1] == "H"), (2, across[:1] == "R")]
    return image.pixels.float()[None], (np.nan, rows, columns), axes


def _check_intensities(voxels: Tensor, about: Indications) -> None:
    """Refuse values of which the training images had none like."""
    found = about.quantiles(voxels)
    unit = " HU" if about.window else ""
    for quantile, least, most in about.intensities:
        if not least <= found[quantile] <= most:
            expected = f"{quantile:.0%} of values below {least:.4g} to {most:.4g}{unit}"
            do = "Values without their rescale, another kernel, contrast or region look so"
            refuse("intensities", expected, f"below {found[quantile]:.4g}{unit}", do)
