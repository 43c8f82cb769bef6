"""Checks of files and geometry: stored values, order, place, and what identifies a patient."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from medlab.exercises import (
    Verdict,
    as_array,
    call,
    exercise,
    first_match,
    near,
    number,
    shape_or_type,
)

MESSAGES = {
    "files.1": {
        "right": "bits, sign, shape, slope, intercept: five decisions, all from the header.",
        "mask": "a value holds bits that are not its own: only {bits} of the 16 are stored, and "
        "others may hold anything. {wrong:g} became {got:g}.",
        "shift": "HighBit is {high} and {bits} bits are stored, so the lowest of them is bit "
        "{low}, not 0: shift them down.",
        "unsigned": "you read signed values as unsigned: {wrong:g} became {got:g}. "
        "PixelRepresentation 1 means signed.",
        "signed": "you read unsigned values as signed: {got:g} should be {wrong:g}. "
        "PixelRepresentation 0 means unsigned.",
        "sign bit": "{wrong:g} became {got:g}: the sign of a value is the highest of its {bits} "
        "*stored* bits, not that of the 16.",
        "endian": "you read the bytes in the wrong order. The lower byte comes first: '<u2'.",
        "order": "you added the intercept before you multiplied by the slope. It is slope × "
        "stored + intercept.",
        "no slope": "the slope is missing. Here it is {slope:g}, not 1.",
        "no intercept": "the intercept is missing: water would not lie at 0 HU.",
        "transposed": "you returned shape {got}. Rows come first: (rows, columns) = {want}; the "
        "pixels are stored row by row.",
        "flat": "you returned shape {got}. Give the pixels their rows and columns: {want}.",
        "shape": "you returned {got}, and I expected {want}.",
        "truncated": "{wrong:g} became {got:g}: the result was squeezed into whole numbers. A "
        "slope may be a fraction, so return floating point.",
        "overflow": "{wrong:g} became {got:g}: 16 bits were too few for the product, which started "
        "again at the other end. Turn the stored values into floats before you multiply.",
        "other": "for stored values {stored}, slope {slope:g} and intercept {intercept:g} I "
        "expected {expected} and got {got}.",
    },
    "files.2": {
        "right": "unit, window, padding and photometric interpretation: what a viewer does.",
        "shape": "you returned {got} for pixels of shape {want}.",
        "not rescaled": "you put the window over stored values. It is told in HU (or what the "
        "rescale gives): slope and intercept first.",
        "not inverted": "MONOCHROME1 means that high values are dark: black and white are "
        "exchanged.",
        "inverted": "MONOCHROME2 means that high values are bright; only MONOCHROME1 turns them "
        "round.",
        "padding": "pixels with the stored value {padding} are padding: black, and no measurement. "
        "Compare before the rescale, and paint after the window.",
        "padding white": "padding should be black in the picture, under MONOCHROME1, too.",
        "exact": "nearly: that is the standard's LINEAR_EXACT. LINEAR, the default, centres the "
        "window on level − ½ and divides by width − 1.",
        "not clipped": "values outside the window leave 0…1: I got {low:.2f} to {high:.2f}.",
        "not scaled": "you clipped, but the result still runs from {low:g} to {high:g}. Scale it "
        "to 0…1.",
        "double": "your window is twice as wide as asked: half the width lies on either side.",
        "lower end": "you took the level for the lower end of the window. It is its middle.",
        "own range": "you stretched the image's own minimum and maximum. A window is the same for "
        "every image, whatever metal or air it holds.",
        "bytes": "you returned 0…255. I asked for 0…1.",
        "other": "for the stored value {x}, level {level:g}, width {width:g} I expected "
        "{expected:.4f} and got {got:.4f}.",
    },
    "files.3": {
        "right": "axial, sagittal and oblique series are all in order, whatever their files are "
        "called.",
        "name": "you sorted by file name ({kind} series). As strings, 'IM10' stands before 'IM2'.",
        "number": "you sorted by the number in the file's name ({kind} series). The archive gave "
        "it, and knows nothing of the patient.",
        "instance": "you sorted by InstanceNumber ({kind} series). It counts as the scanner "
        "pleases: here odd slices came first, then even ones.",
        "z": "you sorted by z. That works for axial slices only; in my {kind} series z {fault}. "
        "Project the position on the normal.",
        "sum": "you sorted by the sum of the coordinates ({kind} series). Millimetres to the left "
        "and to the head do not add up: project on one direction, the normal.",
        "distance": "you sorted by the distance from the origin ({kind} series). Slices on its two "
        "sides get mixed; a projection has a sign.",
        "reversed": "the order is right and the direction is not ({kind} series). Sort by "
        "increasing projection on row × column direction, in this order of the factors.",
        "unchanged": "the {kind} series came back as I gave it. Either you did not return what you "
        "sorted, or your key is the same for every slice, as a projection on a direction within "
        "the slice is. The normal is the cross product of the two directions.",
        "values": "you returned {what}. I asked for the headers themselves, in order: "
        "sorted(headers, key=…).",
        "lost": "I gave you {want} headers and got {got} back.",
        "other": "the {kind} series is not in order: I got the slices at {got} mm.",
    },
    "files.4": {
        "right": "with this matrix every voxel has its place in the patient, whoever reads it.",
        "shape": "I expected a matrix of shape (4, 4) and got {got}.",
        "lps": "that is right in DICOM's own frame. NIfTI counts to the right and to the front: "
        "the rows of x and y change their signs.",
        "one sign": "you changed the sign of {which} alone. This patient is mirrored: x and y both "
        "change.",
        "all signs": "you changed three signs. z points to the head in both frames.",
        "part of signs": "the sign of a frame concerns its whole row, the position in the last "
        "column as well as the directions.",
        "columns": "the second column of the matrix belongs to the row number j, which grows "
        "*down* a column: exchange the first two.",
        "spacing": "PixelSpacing gives the distance of rows first, then that of columns. A step of "
        "i leads to the next *column*.",
        "thickness": "you stepped by SliceThickness. Slices may overlap or leave gaps; their "
        "positions tell how far they really lie apart.",
        "normal": "you stepped along the normal. Here the stack leans: the step is the difference "
        "of two positions.",
        "count": "you divided the way from the first to the last slice by their number. Between n "
        "slices lie n − 1 steps.",
        "whole": "your step leads from the first slice to the last.",
        "backwards": "your step leads from the last slice to the first.",
        "no origin": "the last column should be the position of the first voxel.",
        "last": "you took the position of the last slice for that of voxel (0, 0, 0).",
        "unit": "your directions are unit vectors. A step is as long as the voxel, in mm.",
        "transposed": "you returned the transposed matrix. Columns belong to i, j, k and the "
        "position.",
        "bottom": "the last row should be 0, 0, 0, 1.",
        "other": "voxel (1, 1, 1) of my {kind} series lies at {want} mm, and your matrix says "
        "{got}.",
    },
    "files.5": {
        "right": "on four headers, three of which you had not seen, nothing is left that the "
        "standard's profile would take out. (Pixels are next.)",
        "kind": "I expected a pydicom Dataset and got {got}.",
        "same": "that is the header you were given, changed. Work on a copy: the hospital keeps "
        "its own.",
        "changed": "you have changed the header that you were given: {keyword} is no longer what "
        "it was. Work on a copy.",
        "code": "PatientID should be the code {want!r}, by which files of one patient stay "
        "together, and I found {got!r}.",
        "needed": "{keyword} is gone. Without it nobody can read these pixels or place them.",
        "invented": "{keyword} stands in your data set, and the header has none: a reader takes an "
        "empty value for a value. Leave out what is not there.",
        "altered": "{keyword} has changed, and it describes the image, not the patient.",
        "private": "the private element {keyword} is left, with the value {value}. Nobody can say "
        "what private elements hold.",
        "nested": "{keyword} is left. A sequence holds data sets of its own, and they tell as much "
        "as the header.",
        "meta": "file_meta is left, with {keyword}: copying a file's data set copies that, too.",
        "uid": "{keyword} is left as it was. Whoever has the hospital's archive types it into a "
        "search.",
        "left": "{keyword} is left in the header of {file}. It is a {why}.",
    },
    "files.6": {
        "right": "whatever this machine writes there about the next patient is gone, and the "
        "image is whole.",
        "shape": "I got {got}; the picture has {want}.",
        "given": "you blanked the picture that you were given. Work on a copy (`.clone()`).",
        "untouched": "the picture came back as it was.",
        "left": "two pictures that differ in their text only are still different at row {row}, "
        "column {column}: something of the text can be read.",
        "tight": "this picture's text is gone. But the next patient's hospital has a longer name, "
        "and at row {row}, column {column} it can be read. Blank whole bands.",
        "anatomy": "{share:.0%} of the tissue is changed. Text stands above and below it.",
    },
    "files.7": {
        "right": "four bytes a value add up quickly.",
        "elements": "you counted values, not bytes. A {dtype} takes {size} bytes.",
        "bits": "you counted bits. Eight of them are one byte.",
        "bytes": "you returned bytes. One GiB has 2³⁰ of them.",
        "decimal": "you divided by 10⁹, which gives GB. One GiB has 2³⁰ bytes, 7 % more.",
        "mib": "you divided by 2²⁰, which gives MiB. One GiB has 2³⁰ bytes.",
        "float32": "you took four bytes for each value. A {dtype} takes {size}.",
        "sum": "you added the sizes of the axes. The number of values is their product.",
        "other": "for shape {shape} and {dtype} I expected {expected:.4g} GiB and got {got:.4g}.",
    },
}


# ------------------------------------------------------------------------- stored values → HU


def _pixel_header(rows: int, columns: int, **more: Any) -> Dataset:
    header = Dataset()
    header.Rows, header.Columns, header.BitsAllocated = rows, columns, 16
    for keyword, value in more.items():
        setattr(header, keyword, value)
    return header


def _stored(raw: bytes, bits: int, high: int, signed: bool) -> np.ndarray:
    words = np.frombuffer(raw, "<u2").astype(int)
    stored = (words >> (high + 1 - bits)) & (2**bits - 1)
    return np.where(signed & (stored >= 2 ** (bits - 1)), stored - 2**bits, stored)


@exercise("files.1", MESSAGES["files.1"])
def hounsfield(answer) -> Verdict:
    # Stored values, how many bits, the highest, what else the word holds, signed, slope, intercept
    cases: tuple[tuple[list, int, int, int, bool, float, float], ...] = (
        ([[-1000, -50, 0], [40, 300, 3000]], 16, 15, 0, True, 1.0, 0.0),
        ([[24, 1024], [1064, 1324], [33024, 40000]], 16, 15, 0, False, 2.0, -1024.0),
        ([[0, 1000, 4095], [1024, 3071, 20]], 12, 11, 0xA000, False, 1.0, -1024.0),
        ([[-2048, -101, 1], [81, 601, 2047]], 12, 11, 0x7000, True, 0.5, -24.0),
        ([[-1024, 500], [30, -7], [2000, 9]], 12, 15, 0x0005, True, 3.0, 12.0),
    )
    for stored, bits, high, rest, signed, slope, intercept in cases:
        values, low = np.array(stored), high + 1 - bits
        words = ((values % 2**bits) << low) + rest
        raw, (rows, columns) = words.astype("<u2").tobytes(), values.shape
        header = _pixel_header(
            rows,
            columns,
            BitsStored=bits,
            HighBit=high,
            PixelRepresentation=int(signed),
            RescaleSlope=str(slope),
            RescaleIntercept=str(intercept),
        )
        want = slope * values + intercept
        returned = call(answer, raw, header)
        got = as_array(returned)
        if near(got, want):
            continue
        if got.shape != want.shape:
            shapes = {(columns, rows): "transposed", (rows * columns,): "flat"}
            found = got.shape if got.shape in shapes else shape_or_type(returned)
            return shapes.get(got.shape, "shape"), {"got": found, "want": want.shape}
        first = np.flatnonzero(~np.isclose(got, want).ravel())[0]
        told: dict[str, Any] = {
            "bits": bits,
            "high": high,
            "low": low,
            "slope": slope,
            "intercept": intercept,
        }
        told |= {"got": got.flat[first], "wrong": want.flat[first]}
        unlike: dict[str, list[np.ndarray]] = {
            "signed" if not signed else "unsigned": [_stored(raw, bits, high, not signed)],
            "shift": [
                _stored(raw, *place, s)
                for place in ((bits, bits - 1), (16, 15))
                for s in (True, False)
            ]
            * (low > 0),
            "mask": [_stored(raw, 16, 15, s) for s in (True, False)]
            + [_stored(raw, 16, 15, False) >> low],
            "sign bit": [_stored(raw, bits, high, False)],
            "endian": [np.frombuffer(raw, kind).astype(int) for kind in (">u2", ">i2")],
        }
        if signed and bits < 16:
            unlike.pop("unsigned")
        wrong = [
            (key, slope * other.reshape(values.shape) + intercept)
            for key, others in unlike.items()
            for other in others
        ]
        wrong += [
            ("order", slope * (values + intercept)),
            ("no slope", values + intercept),
            ("no intercept", slope * values),
        ]
        key = next((k for k, other in wrong if near(got, other)), "other")
        if key == "other":
            if np.abs(got - want).max() < 1:
                key = "truncated"
            elif np.allclose((got - want) % 2**16 % (2**16 - 1), 0, atol=1e-6):
                key = "overflow"
            else:
                told |= {"stored": stored, "expected": want.tolist(), "got": got.tolist()}
        return key, told
    return "right"


@exercise("files.2", MESSAGES["files.2"])
def displayed(answer) -> Verdict:
    stored = np.array([[0, 400, 863, 924], [1064, 1134, 1263, 1264], [1700, 2524, 3000, 4095]])
    for kind, slope, intercept, level, width, padding in (
        ("MONOCHROME2", 1.0, -1024.0, 40.0, 400.0, None),
        ("MONOCHROME1", 0.684, 200.0, 1600.0, 2200.0, None),
        ("MONOCHROME2", 0.5, -700.0, -150.0, 600.0, 1264),
        ("MONOCHROME1", 2.0, -3000.0, 500.0, 2600.0, 1700),
    ):
        header = _pixel_header(3, 4, PhotometricInterpretation=kind)
        header.RescaleSlope, header.RescaleIntercept = str(slope), str(intercept)
        header.WindowCenter, header.WindowWidth = str(level), str(width)
        if padding is not None:
            header.PixelPaddingValue = padding
        got = as_array(call(answer, stored.copy(), header))
        if got.shape != stored.shape:
            return "shape", {"got": shape_or_type(got), "want": stored.shape}
        flip, pads = kind == "MONOCHROME1", stored == padding
        x = slope * stored + intercept

        def shown(y, *, flip=flip, pads=pads, paint=0.0):
            return np.where(pads, paint, 1 - y if flip else y)

        def line(x, level=level, width=width):
            return np.clip((x - (level - 0.5)) / (width - 1) + 0.5, 0, 1)

        want = shown(line(x))
        if near(got, want, rel=1e-4, absolute=1e-5):
            continue
        low, high = level - width / 2, level + width / 2
        wrong = [
            ("not rescaled", shown(line(stored))),
            ("not inverted" if flip else "inverted", shown(line(x), flip=not flip)),
            ("padding white", shown(line(x), paint=1.0)),
            ("padding", shown(line(x), pads=x == padding)),
            ("exact", shown(np.clip((x - low) / width, 0, 1))),
            ("not clipped", shown((x - (level - 0.5)) / (width - 1) + 0.5)),
            ("not clipped", shown((x - low) / width)),
            ("not scaled", shown(np.clip(x, low, high), flip=False)),
            ("double", shown(np.clip((x - (level - width)) / (2 * width), 0, 1))),
            ("double", shown(line(x, width=2 * width))),
            ("lower end", shown(np.clip((x - level) / width, 0, 1))),
            ("lower end", shown(line(x, level=high))),
            ("own range", shown((x - x.min()) / (x.max() - x.min()))),
            ("bytes", 255 * want),
        ]
        near_enough = {"rel": 2e-3, "absolute": 2e-3 if abs(got).max() < 2 else 1.1}
        key = next((k for k, other in wrong if near(got, other, rel=1e-5)), "other")
        if key == "other":
            key = next((k for k, other in wrong if near(got, other, **near_enough)), "other")
        worst = np.abs(got - want).argmax()
        told = {"level": level, "width": width, "low": got.min(), "high": got.max()}
        told |= {"x": stored.flat[worst], "expected": want.flat[worst], "got": got.flat[worst]}
        return key, told | {"padding": padding}
    return "right"


# ------------------------------------------------------------------------------- slices in order

DIRECTIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "oblique": ((1, 0, 0), (0, -math.sin(0.4), -math.cos(0.4))),
}


def _headers(kind: str, *, lean: float) -> list[Dataset]:
    """A series of 12 headers in order, 3 mm apart along its normal."""
    row, column = DIRECTIONS[kind]
    taken = [*range(0, 12, 2), *range(1, 12, 2)]  # interleaved: odd slices first, then even ones
    headers = []
    for k in range(12):
        header = Dataset()
        at = (3.0 * k - 14) * np.cross(row, column)
        if kind == "oblique":  # the gantry is tilted against the table, so the stack leans
            at = at + lean * k * np.array(column)
        header.ImagePositionPatient = [round(v, 4) for v in at]
        header.ImageOrientationPatient = [round(float(v), 6) for v in (*row, *column)]
        header.PixelSpacing, header.SliceThickness = [0.8, 1.5], 5.0
        header.Rows, header.Columns = 40, 30
        header.InstanceNumber = taken.index(k) + 1
        header.filename = f"IM{(5 * k) % 12 + 1}"
        headers.append(header)
    return headers


@exercise("files.3", MESSAGES["files.3"])
def sort_slices(answer) -> Verdict:
    for kind in ("axial", "sagittal", "oblique"):
        if fault := _out_of_order(kind, answer):
            return fault
    return "right"


def _out_of_order(kind: str, answer) -> Verdict | None:
    series = _headers(kind, lean=1.0)
    headers = [series[k] for k in (7, 2, 11, 4, 0, 9, 5, 1, 10, 3, 8, 6)]
    row, column = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    got = call(answer, list(headers))
    if not isinstance(got, Iterable) or isinstance(got, (str, dict, Dataset)):
        return "values", {"what": f"a {type(got).__name__}"}
    got = list(got)
    if not all(isinstance(item, Dataset) for item in got):
        kinds = sorted({type(item).__name__ for item in got})
        return "values", {"what": f"values of type {', '.join(kinds)}"}
    order = [id(h) for h in got]
    if len(order) != len(headers) or set(order) != {id(h) for h in headers}:
        return "lost", {"want": len(headers), "got": len(set(order))}

    def by(key: Callable) -> list[int]:
        return [id(h) for h in sorted(headers, key=key)]

    def along(direction) -> Callable:
        return lambda h: round(float(np.dot(direction, h.ImagePositionPatient)), 3)

    normal = np.cross(row, column)
    if order == by(along(normal)):
        return None
    total, z = np.ones(3), np.array([0, 0, 1])
    wrong = {
        "name": by(lambda h: h.filename),
        "number": by(lambda h: int(h.filename[2:])),
        "instance": by(lambda h: h.InstanceNumber),
        "z": by(along(z)),
        "sum": by(along(total)),
        "reversed": by(along(-normal)),
        "distance": by(lambda h: float(np.linalg.norm(h.ImagePositionPatient))),
        "unchanged": [id(h) for h in headers],
    }
    same = [k for k, v in wrong.items() if v == order]
    # A key that is the same for all slices leaves them as they came
    constant = "unchanged" in same
    key = same[0] if same else "other"
    if constant and kind == "axial":
        key = "unchanged"
    told = {"kind": kind, "got": [along(normal)(h) for h in got]}
    told["fault"] = "is the same for all slices" if constant else "runs the other way"
    return key, told


# ----------------------------------------------------------------------------------- the affine


@exercise("files.4", MESSAGES["files.4"])
def affine(answer) -> Verdict:
    for kind in ("axial", "sagittal", "oblique"):
        headers = _headers(kind, lean=1.0)[: 12 if kind == "axial" else 9]
        for header in headers:  # no coordinate of the first voxel is 0
            moved = np.add(header.ImagePositionPatient, (-31.0, -47.0, 22.0))
            header.ImagePositionPatient = [round(float(v), 4) for v in moved]
        returned = call(answer, copy.deepcopy(headers))
        got = as_array(returned)
        first, last = (np.array(headers[k].ImagePositionPatient, float) for k in (0, -1))
        row, column = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
        normal, n = np.cross(row, column), len(headers)
        step = (last - first) / (n - 1)

        def built(i=row * 1.5, j=column * 0.8, k=step, at=first, signs=(-1, -1, 1)):
            matrix = np.eye(4)
            matrix[:3] = np.diag(signs) @ np.column_stack([i, j, k, at])
            return matrix

        want = built()
        if near(got, want, absolute=1e-3):
            continue
        if got.shape != (4, 4):
            return "shape", {"got": shape_or_type(returned)}
        if near(got[:3], want[:3], absolute=1e-3):
            return "bottom"
        directions, place = built(at=-first * (1, 1, -1)), built(signs=(1, 1, 1))
        place[:3, 3] = want[:3, 3]
        wrong = {
            "lps": built(signs=(1, 1, 1)),
            "x": built(signs=(-1, 1, 1)),
            "y": built(signs=(1, -1, 1)),
            "all signs": built(signs=(-1, -1, -1)),
            "part of signs": place,
            "part of signs 2": built(at=first * (-1, -1, 1)),
            "part of signs 3": directions,
            "spacing": built(i=row * 0.8, j=column * 1.5),
            "columns": built(i=column * 0.8, j=row * 1.5),
            "columns 2": built(i=column * 1.5, j=row * 0.8),
            "thickness": built(k=normal * 5),
            "normal": built(k=normal * np.linalg.norm(step)),
            "normal 2": built(k=normal * 3),
            "count": built(k=step * (n - 1) / n),
            "whole": built(k=last - first),
            "backwards": built(k=-step),
            "no origin": built(at=np.zeros(3)),
            "last": built(at=last),
            "unit": built(i=row, j=column),
            "unit 2": built(i=row, j=column, k=step / np.linalg.norm(step)),
            "transposed": want.T,
        }
        key = first_match(got, wrong, absolute=1e-3)
        if key == "other":  # the same in DICOM's frame
            frame = np.diag([-1.0, -1.0, 1.0, 1.0])
            key = first_match(frame @ got, wrong, absolute=1e-3)
        told: dict[str, Any] = {"which": key, "kind": kind}
        for name, matrix in (("want", want), ("got", got)):
            told[name] = (matrix @ [1, 1, 1, 1])[:3].round(2).tolist()
        return {"x": "one sign", "y": "one sign"}.get(key, key.rstrip(" 23")), told
    return "right"


# --------------------------------------------------------------------------- who is the patient

NEEDED = (
    "Modality SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored "
    "HighBit PixelRepresentation RescaleSlope RescaleIntercept PixelPaddingValue PixelSpacing "
    "ImagePositionPatient ImageOrientationPatient PixelData"
).split()
# An option of the standard's profile keeps them: they describe a patient and name nobody.
DESCRIBE = ("PatientSex", "PatientAge", "PatientSize", "PatientWeight")


def material(*, file: str) -> Dataset:
    """A file that pydicom carries, by its name without the ending, as "CT_small"."""
    return dcmread(str(get_testdata_file(f"{file}.dcm", download=False)))


def _ward() -> Dataset:
    """A header as hospitals write them: what identifies stands in seven kinds of places."""
    header = material(file="MR_small")
    header.remove_private_tags()
    header.OtherPatientNames = "Muster^Maxi"
    header.AcquisitionDateTime = "20240229083015"
    header.ReferringPhysicianName = "Gaugl^Anna"
    header.AccessionNumber = "A20240229-17"
    header.RequestedProcedureID = "R77-41"
    order = Dataset()
    order.ScheduledProcedureStepID = "S77-41"
    order.RequestedProcedureDescription = "Muster, Maxi: knee"
    header.RequestAttributesSequence = [order]
    block = header.private_block(0x0019, "WARD 7", create=True)
    block.add_new(0x10, "LO", "Muster Maxi")
    header.file_meta.ImplementationVersionName = "SCAN"
    return header


@exercise("files.5", MESSAGES["files.5"])
def deidentified(answer) -> Verdict:
    from medlab.dicom import identifiers

    for k, name in enumerate(("CT_small", "MR_small", "examples_overlay", "a ward")):
        header = _ward() if name == "a ward" else material(file=name)
        before = copy.deepcopy(header)
        code = f"P{17 * k + 3:03}"
        got = call(answer, header, code)
        if not isinstance(got, Dataset):
            return "kind", {"got": type(got).__name__}
        if got is header:
            return "same"
        if header != before:
            gone = next((e for e in before if e != header.get(e.tag)), None)
            return "changed", {"keyword": gone.keyword if gone is not None else "an element"}
        if got.get("PatientID") != code:
            return "code", {"want": code, "got": str(got.get("PatientID"))}
        for keyword in NEEDED:
            if keyword in before and got.get(keyword) != before[keyword].value:
                return ("altered" if keyword in got else "needed"), {"keyword": keyword}
            if keyword in got and keyword not in before:
                return "invented", {"keyword": keyword}
        if fault := _leak(identifiers(got), {one.value for one in identifiers(before)}, code):
            return fault[0], fault[1] | {"file": f"{name}.dcm" if k < 3 else "a patient on a ward"}
    return "right"


def _leak(found: list, known: set[str], code: str) -> tuple[str, dict[str, Any]] | None:
    """The first thing left that leads to the patient, the most easily forgotten first."""
    left = []
    for one in found:
        name = one.keyword.rpartition(".")[2]
        # A sequence of renewed UIDs stays, and what it holds is listed by itself
        listed = one.value.endswith("item(s)")
        renewed = one.action == "new UID" and (listed or one.value not in known)
        if one.action == "look" or name in DESCRIBE or renewed:
            continue
        if one.keyword in ("PatientID", "PatientName") and one.value == code:
            continue
        if one.why.startswith("private"):
            kind = "private"
        elif one.keyword.startswith("file_meta."):
            kind = "meta"
        elif "." in one.keyword or listed:
            kind = "nested"
        else:
            kind = "uid" if one.action == "new UID" else "left"
        left.append((kind, {"keyword": one.keyword, "value": one.value, "why": one.why}))
    order = ("left", "uid", "nested", "private", "meta")
    return min(left, key=lambda item: order.index(item[0]), default=None)


def _pictures() -> list[torch.Tensor]:
    """The real ultrasound image, the same with other text of no greater length, and with longer."""
    frame = material(file="examples_rgb_color").pixel_array
    real = torch.from_numpy(frame.copy()).permute(2, 0, 1).contiguous()
    rng = torch.Generator().manual_seed(6)
    pictures = [real]
    for longer in (False, True):
        other = real.clone()
        for rows, columns in (
            (slice(12, 52), slice(8, 84)),
            (slice(12, 27), slice(140, 180)),
            (slice(12, 52), slice(248, 310)),
            (slice(179, 189), slice(123, 180)),
            (slice(227, 236), slice(198, 310)),
        ):
            text = other[:, rows, columns]
            letters = torch.rand(text.shape[1:], generator=rng) < 0.4
            other[:, rows, columns] = torch.where(text.amax(0) > 40, 230 * letters, 0).byte()
        if longer:
            for rows, columns in (
                (slice(12, 20), slice(84, 138)),
                (slice(205, 213), slice(60, 150)),
            ):
                letters = torch.rand(other[0, rows, columns].shape, generator=rng) < 0.4
                other[:, rows, columns] = (230 * letters).byte()
        pictures.append(other)
    return pictures


@exercise("files.6", MESSAGES["files.6"])
def blanked(answer) -> Verdict:
    real, same_size, longer = _pictures()
    given = real.clone()
    first = as_array(call(answer, given))
    if first.shape != tuple(real.shape):
        return "shape", {"got": shape_or_type(first), "want": tuple(real.shape)}
    if not torch.equal(given, real):
        return "given"
    if near(first, real):
        return "untouched"
    for key, other in (("left", same_size), ("tight", longer)):
        result = as_array(call(answer, other.clone()))
        if result.shape != first.shape or not near(result, first):
            if result.shape != first.shape:
                return "shape", {"got": shape_or_type(result), "want": tuple(real.shape)}
            at = np.argwhere(~np.isclose(result, first).all(0))[0]
            return key, {"row": int(at[0]), "column": int(at[1])}
    tissue = real.numpy()[:, 57:166, 22:297]
    share = float((first[:, 57:166, 22:297] != tissue).any(0).mean())
    return ("anatomy", {"share": share}) if share > 0.01 else "right"


@exercise("files.7", MESSAGES["files.7"])
def gibibytes(answer) -> Verdict:
    for shape, dtype in (((8, 1, 160, 512, 512), torch.float32), ((3, 64, 1000, 900), torch.int16)):
        size, count = dtype.itemsize, math.prod(shape)
        got, expected = number(call(answer, shape, dtype)), count * size / 2**30
        if near(got, expected):
            continue
        wrong = {
            "elements": count / 2**30,
            "bits": 8 * expected,
            "bytes": count * size,
            "decimal": count * size / 1e9,
            "mib": expected * 2**10,
            "float32": count * 4 / 2**30,
            "sum": sum(shape) * size / 2**30,
        }
        name = str(dtype).removeprefix("torch.")
        values = {"shape": shape, "dtype": name, "size": size, "expected": expected, "got": got}
        key = first_match(got, wrong)
        if key == "other":
            key = {count: "elements", sum(shape) * size: "sum"}.get(round(got), key)
        return key, values
    return "right"
