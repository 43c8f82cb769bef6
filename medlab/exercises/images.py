"""Checks of images as tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from medlab.exercises import Verdict, call, exercise, first_match, near, number
from medlab.simulate.mri import Tissue

MESSAGES = {
    "images.1": {
        "right": "attenuations add up, transmissions multiply. That is why −ln(I/I₀), which adds "
        "up, is the quantity that CT reconstructs.",
        "sign": "more photons came out than went in: {got:.3g}. The exponent lacks its minus.",
        "absorbed": "{got:.4f} is the share that was stopped. I asked for the share that passes.",
        "sum of shares": "you added the transmissions of the layers. The second layer sees only "
        "what the first let through, so they multiply: add the exponents instead.",
        "mean of shares": "you averaged the transmissions of the layers. They lie behind one "
        "another, not side by side, so they multiply.",
        "no thickness": "you used μ without the thickness. The exponent is the sum of μ·Δx, a "
        "number without unit.",
        "mean mu": "you multiplied the mean μ by the whole thickness. The layers differ in "
        "thickness, so each μ needs its own: add up the products.",
        "base": "you used powers of ten. μ belongs to base e: take torch.exp.",
        "per layer": "you returned {count} values, one a layer. A photon must pass all of them: "
        "sum the exponents before torch.exp.",
        "other": "for μ = {mu} per mm and thickness = {thickness} mm I expected {expected:.4g} and "
        "got {got}.",
    },
    "images.2": {
        "right": "with TR = {tr:g} ms and TE = {te:g} ms the fluid gives {ratio:.1f} times the "
        "signal of the brightest tissue. That is T2 weighting.",
        "seconds": "TR and TE are in milliseconds here; {tr:g} and {te:g} look like seconds.",
        "order": "TE = {te:g} ms is not shorter than TR = {tr:g} ms. The echo must come before the "
        "next pulse.",
        "no pair": "I expected two numbers, (TR, TE), in milliseconds.",
        "short tr": "the fluid gives only {ratio:.2f} times the signal of the brightest tissue. "
        "Its magnetisation regrows with T1 = {t1:g} ms and after TR = {tr:g} ms has hardly "
        "recovered: lengthen TR.",
        "short te": "the fluid gives only {ratio:.2f} times the signal of the brightest tissue. At "
        "TE = {te:g} ms tissue has lost little: lengthen TE, so that its short T2 can act.",
        "weak": "the contrast is right, but at TE = {te:g} ms white matter keeps only {left:.1%} "
        "of its proton density and drowns in noise. Shorten TE.",
        "slow": "a TR of {tr:g} ms means one line of k-space in that time: this patient will not "
        "lie still. Keep TR at {limit:g} ms or below.",
    },
    "images.3": {
        "right": "bytes, sign, shape, slope, intercept: five decisions, and you made all of them "
        "from the header.",
        "unsigned": "you read signed values as unsigned: {wrong:g} became {got:g}. "
        "PixelRepresentation 1 means signed ('<i2').",
        "signed": "you read unsigned values as signed: {got:g} should be {wrong:g}. "
        "PixelRepresentation 0 means unsigned ('<u2').",
        "endian": "you read the bytes in the wrong order. This transfer syntax is little endian: "
        "'<i2' or '<u2', not '>'.",
        "order": "you added the intercept before you multiplied by the slope. It is slope × "
        "stored + intercept.",
        "no slope": "the slope is missing. Here it is {slope:g}, not 1.",
        "no intercept": "the intercept is missing: water would not lie at 0 HU.",
        "transposed": "you returned shape {got}. Rows come first: (rows, columns) = {want}; the "
        "pixels are stored row by row.",
        "flat": "you returned shape {got}. Give the pixels their rows and columns: {want}.",
        "shape": "you returned shape {got}, and I expected {want}.",
        "truncated": "{wrong:g} became {got:g}: the result was squeezed into whole numbers. A "
        "slope may be a fraction, so compute and return floating point.",
        "other": "for stored values {stored}, slope {slope:g} and intercept {intercept:g} I "
        "expected {expected} and got {got}.",
    },
    "images.4": {
        "right": "everything below the window is black, everything above it white, and {width:g} "
        "HU share the greys between.",
        "exact": "nearly: that is the standard's LINEAR_EXACT. LINEAR, the default, centres the "
        "window on level − ½ and divides by width − 1.",
        "not clipped": "values outside the window leave 0…1: I got {low:.2f} to {high:.2f}. Clamp "
        "the result.",
        "not scaled": "you clipped, but the result still runs from {low:g} to {high:g} HU. Scale "
        "it to 0…1.",
        "double": "your window is twice as wide as asked: it reaches from level − width to level + "
        "width. Half the width lies on either side.",
        "lower end": "you took the level for the lower end of the window. It is its middle.",
        "own range": "you stretched the image's own minimum and maximum. A window is the same for "
        "every image, whatever metal or air it holds.",
        "inverted": "black and white are exchanged.",
        "bytes": "you returned 0…255. I asked for 0…1.",
        "shape": "you returned shape {got} for pixels of shape {want}.",
        "other": "at {x:g} HU, level {level:g}, width {width:g} I expected {expected:.4f} and got "
        "{got:.4f}.",
    },
    "images.5": {
        "right": "axial, sagittal and oblique series are all in order, whatever their files are "
        "called.",
        "name": "you sorted by file name ({kind} series). As strings, 'IM10' stands before 'IM2'.",
        "instance": "you sorted by InstanceNumber ({kind} series). It counts as the scanner "
        "pleases: here odd slices came first, then even ones.",
        "z": "you sorted by z. That works for axial slices only; in my {kind} series z {fault}. "
        "Project the position on the normal.",
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
    "images.6": {
        "right": "the name is gone, and together they still lead a hospital's archive to one "
        "person.",
        "too few": "I asked for three different keywords and count {count}.",
        "unknown": "'{keyword}' is no keyword of the DICOM dictionary. They are written as in "
        "StudyDate, without spaces.",
        "absent": "'{keyword}' is a DICOM attribute, but this header does not hold it.",
        "deleted": "PatientName has just been deleted. I asked what is still there.",
        "empty": "'{keyword}' stands in the header, but its value is empty: it tells nothing.",
        "harmless": "'{keyword}' describes the image, not the patient. Which values are shared by "
        "few people, or found in another file of the hospital?",
        "no list": "I expected a list of keywords such as ['StudyDate', …], and got {kind}.",
    },
    "images.7": {
        "right": "four bytes a value add up quickly.",
        "elements": "you counted values, not bytes. A {dtype} takes {size} bytes.",
        "bits": "you counted bits. Eight of them are one byte.",
        "bytes": "you returned bytes. One GiB has 2³⁰ of them.",
        "decimal": "you divided by 10⁹, which gives GB. Graphics cards are sold and filled in GiB, "
        "2³⁰ bytes: 7 % more.",
        "mib": "you divided by 2²⁰, which gives MiB. One GiB has 2³⁰ bytes.",
        "float32": "you took four bytes for each value. A {dtype} takes {size}.",
        "sum": "you added the sizes of the axes. The number of values is their product.",
        "other": "for shape {shape} and {dtype} I expected {expected:.4g} GiB and got {got:.4g}.",
    },
    "images.8": {
        "right": "one matrix product and two signs are all that stands between NIfTI and DICOM.",
        "ras": "{got} is right in NIfTI's own frame (x to the right, y to the front). DICOM counts "
        "to the left and to the back: change the sign of x and y.",
        "offset": "you lost the affine's last column, the position of voxel (0, 0, 0). Append a 1 "
        "to the voxel, or add affine[:3, 3].",
        "all signs": "you changed three signs. z points to the head in both frames.",
        "scale": "you used the diagonal alone. In my example the axes of the grid are oblique, so "
        "the whole 3×3 part counts.",
        "transposed": "you multiplied by the transposed matrix. Columns of the affine belong to i, "
        "j, k: write affine @ vector.",
        "shape": "I expected three coordinates and got shape {got}.",
        "other": "for voxel {voxel} I expected {expected} mm and got {got}.",
    },
}


@exercise("images.1", MESSAGES["images.1"])
def transmission(answer) -> Verdict:
    for mu, thickness in (([0.02, 0.06], [100.0, 20.0]), ([0.005, 0.021, 0.05], [80.0, 30.0, 4.0])):
        m, t = torch.tensor(mu), torch.tensor(thickness)
        got, expected = call(answer, m, t), torch.exp(-(m * t).sum())
        if near(got, expected):
            continue
        if near(got, torch.exp(-m * t)):
            return "per layer", {"count": len(mu)}
        got = number(got)
        wrong = {
            "sign": torch.exp((m * t).sum()),
            "absorbed": 1 - expected,
            "sum of shares": torch.exp(-m * t).sum(),
            "mean of shares": torch.exp(-m * t).mean(),
            "no thickness": torch.exp(-m.sum()),
            "mean mu": torch.exp(-m.mean() * t.sum()),
            "base": 10.0 ** -(m * t).sum(),
        }
        values = {"mu": mu, "thickness": thickness, "expected": expected.item(), "got": got}
        return first_match(got, wrong), values
    return "right"


LONGEST_TR, LEAST_RATIO, LEAST_LEFT = 8000.0, 2.0, 0.1


@exercise("images.2", MESSAGES["images.2"])
def weighting(answer, *, tissues: dict[str, Tissue]) -> Verdict:
    try:
        tr, te = (number(value) for value in answer)
    except (TypeError, ValueError):
        return "no pair"
    recovered = {name: 1 - math.exp(-tr / tissue.t1) for name, tissue in tissues.items()}
    left = {name: math.exp(-te / tissue.t2) for name, tissue in tissues.items()}
    signal = {name: tissues[name].pd * recovered[name] * left[name] for name in tissues}
    fluid = max(tissues, key=lambda name: tissues[name].t1)
    ratio = signal[fluid] / max(signal[name] for name in tissues if name != fluid)
    least = min(left.values())
    told = {"tr": tr, "te": te, "ratio": ratio, "left": least, "limit": LONGEST_TR}
    told["t1"] = tissues[fluid].t1
    if 0 < tr < 20:
        return "seconds", told
    if not 0 < te < tr:
        return "order", told
    if tr > LONGEST_TR:
        return "slow", told
    if least < LEAST_LEFT:
        return "weak", told
    if ratio >= LEAST_RATIO:
        return "right", told
    return ("short tr" if recovered[fluid] < 0.5 else "short te"), told


def _pixels(raw: bytes, kind: str, rows: int, columns: int) -> np.ndarray:
    return np.frombuffer(raw, kind).reshape(rows, columns).astype(float)


@exercise("images.3", MESSAGES["images.3"])
def hounsfield(answer) -> Verdict:
    cases: tuple[tuple[list, bool, float, float], ...] = (
        ([[-1000, -50, 0], [40, 300, 3000]], True, 1.0, 0.0),
        ([[24, 1024], [1064, 1324], [33024, 40000]], False, 2.0, -1024.0),
        ([[-2000, -101, 1], [81, 601, 5999]], True, 0.5, -24.0),
    )
    for stored, signed, slope, intercept in cases:
        kind, other = ("<i2", "<u2") if signed else ("<u2", "<i2")
        raw, (rows, columns) = np.array(stored, kind).tobytes(), np.shape(stored)
        values = np.array(stored, float)
        got = call(answer, raw, rows, columns, signed, slope, intercept)
        want = slope * values + intercept
        if near(got, want):
            continue
        got = np.asarray(got.detach() if torch.is_tensor(got) else got, float)
        if got.shape != want.shape:
            shapes = {(columns, rows): "transposed", (rows * columns,): "flat"}
            return shapes.get(got.shape, "shape"), {"got": got.shape, "want": want.shape}
        first = np.flatnonzero(~np.isclose(got, want).ravel())[0]
        told = {
            "stored": stored,
            "slope": slope,
            "intercept": intercept,
            "expected": want.tolist(),
        }
        told |= {"got": got.tolist()}
        wrong = {
            "unsigned" if signed else "signed": slope * _pixels(raw, other, rows, columns)
            + intercept,
            "endian": slope * _pixels(raw, kind.replace("<", ">"), rows, columns) + intercept,
            "order": slope * (values + intercept),
            "no slope": values + intercept,
            "no intercept": slope * values,
        }
        key = first_match(got, wrong)
        if key in ("unsigned", "signed"):
            told |= {"got": got.flat[first], "wrong": want.flat[first]}
        elif key == "other" and np.abs(got - want).max() < 1:
            key = "truncated"
            told |= {"got": got.flat[first], "wrong": want.flat[first]}
        return key, told
    return "right"


@exercise("images.4", MESSAGES["images.4"])
def window(answer) -> Verdict:
    x = torch.tensor([[-1000.0, -161.0, -100.0, 0.0], [40.0, 210.0, 239.0, 1500.0]])
    for level, width in ((40.0, 400.0), (-600.0, 1500.0), (500.0, 2000.0)):
        line = (x - (level - 0.5)) / (width - 1) + 0.5
        low, high = level - width / 2, level + width / 2
        want, got = line.clamp(0, 1), call(answer, x.clone(), level, width)
        if near(got, want, rel=1e-4):
            continue
        got = torch.as_tensor(np.asarray(got, float)).float()
        if got.shape != want.shape:
            return "shape", {"got": tuple(got.shape), "want": tuple(want.shape)}
        exact = (x - low) / width
        wrong = {
            "exact": exact.clamp(0, 1),
            "not scaled": x.clamp(low, high),
            "double": ((x - (level - width)) / (2 * width)).clamp(0, 1),
            "lower end": ((x - level) / width).clamp(0, 1),
            "own range": (x - x.min()) / (x.max() - x.min()),
            "inverted": 1 - want,
            "bytes": 255 * want,
        }
        loose = {
            "not scaled": x.clamp(low - 1, high + 1),
            "not clipped": line,
            "inverted": 1 - exact.clamp(0, 1),
            "bytes": 255 * exact.clamp(0, 1),
            "double": ((x - (level - width)) / (2 * width - 1)).clamp(0, 1),
            "lower end": ((x - level) / (width - 1)).clamp(0, 1),
        }
        key = first_match(got, wrong)
        if key == "other":
            key = next((k for k, v in loose.items() if near(got, v, rel=0.01, absolute=0.01)), key)
        worst = (got - want).abs().argmax()
        return key, {
            "level": level,
            "width": width,
            "low": got.min().item(),
            "high": got.max().item(),
            "x": x.flatten()[worst].item(),
            "expected": want.flatten()[worst].item(),
            "got": got.flatten()[worst].item(),
        }
    return "right", {"width": 400}


def _headers(kind: str) -> list[Dataset]:
    """A scrambled series of 12 headers, 3 mm apart along its normal."""
    row, column = {
        "axial": ((1, 0, 0), (0, 1, 0)),
        "sagittal": ((0, 1, 0), (0, 0, -1)),
        "oblique": ((1, 0, 0), (0, -math.sin(0.4), -math.cos(0.4))),
    }[kind]
    normal = np.cross(row, column)
    taken = [*range(0, 12, 2), *range(1, 12, 2)]  # interleaved: odd slices first, then even ones
    headers = []
    for k in range(12):
        header = Dataset()
        at = (3.0 * k - 14) * normal
        if kind == "oblique":  # the gantry is tilted against the table, so the stack leans
            at = at + 1.0 * k * np.array(column)
        header.ImagePositionPatient = [round(v, 4) for v in at]
        header.ImageOrientationPatient = [round(float(v), 6) for v in (*row, *column)]
        header.InstanceNumber = taken.index(k) + 1
        header.filename = f"IM{(5 * k) % 12 + 1}"
        headers.append(header)
    return [headers[k] for k in (7, 2, 11, 4, 0, 9, 5, 1, 10, 3, 8, 6)]


@exercise("images.5", MESSAGES["images.5"])
def sort_slices(answer) -> Verdict:
    for kind in ("axial", "sagittal", "oblique"):
        if fault := _out_of_order(kind, answer):
            return fault
    return "right"


def _out_of_order(kind: str, answer) -> Verdict | None:
    headers = _headers(kind)
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
    wrong = {
        "name": by(lambda h: h.filename),
        "instance": by(lambda h: h.InstanceNumber),
        "z": by(lambda h: float(h.ImagePositionPatient[2])),
        "reversed": by(along(-normal)),
        "distance": by(lambda h: float(np.linalg.norm(h.ImagePositionPatient))),
        "unchanged": [id(h) for h in headers],
    }
    key = next((k for k, v in wrong.items() if v == order), "other")
    fault = "is the same for all slices" if kind == "sagittal" else "falls where the normal rises"
    told = {"kind": kind, "fault": fault, "got": [along(normal)(h) for h in got]}
    return key, told


@exercise("images.6", MESSAGES["images.6"])
def still_identifies(answer, *, header: Dataset) -> Verdict:
    from medlab.dicom import identifiers

    if isinstance(answer, str) or not isinstance(answer, (list, tuple, set)):
        return "no list", {"kind": type(answer).__name__}
    telling = {part for found in identifiers(header) for part in found.keyword.split(".")}
    for keyword in answer:
        told = {"keyword": keyword}
        if not isinstance(keyword, str) or tag_for_keyword(keyword) is None:
            return "unknown", told
        if keyword == "PatientName":
            return "deleted"
        if keyword in telling:
            continue
        if keyword not in header:
            return "absent", told
        return ("harmless" if header[keyword].value not in (None, "", []) else "empty"), told
    if len(set(answer)) < 3:
        return "too few", {"count": len(set(answer))}
    return "right"


@exercise("images.7", MESSAGES["images.7"])
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


@exercise("images.8", MESSAGES["images.8"])
def to_lps(answer) -> Verdict:
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    for grid in (np.diag([2.0, 2.0, 2.5]), turn @ np.diag([-1.5, 2.0, 3.0])):
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = grid, (-90.0, -126.0, -72.0)
        voxel = np.array([10.0, 20.0, 30.0])
        ras, flip = (affine @ [*voxel, 1])[:3], np.array([-1.0, -1.0, 1.0])
        got = call(answer, torch.from_numpy(affine), torch.from_numpy(voxel))
        if near(got, flip * ras):
            continue
        if not near(np.shape(got), (3,)):
            return "shape", {"got": tuple(np.shape(got))}
        moved = grid @ voxel
        straight = np.diag(grid) * voxel + affine[:3, 3]
        turned = grid.T @ voxel + affine[:3, 3]
        wrong = {
            "ras": ras,
            "all signs": -ras,
            "offset": flip * moved,
            "scale": flip * straight,
            "transposed": flip * turned,
        }
        key = first_match(got, wrong)
        if key == "other":
            key = first_match(got, {"offset": moved, "scale": straight, "transposed": turned})
        shown = {"voxel": voxel.tolist(), "expected": (flip * ras).round(3).tolist()}
        return key, {**shown, "got": np.asarray(got, float).round(3).tolist()}
    return "right"
