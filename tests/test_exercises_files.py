"""Checks of files and geometry, fed with right, untouched and typically wrong answers."""

import copy
import math

import nibabel
import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset

from medlab import dicom, preprocess
from medlab.exercises.files import MESSAGES, NEEDED, material
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked


def stored_of(raw, h, *, signed=None, bits=None, high=None, kind="<u2"):
    bits, high = bits or h.BitsStored, h.HighBit if high is None else high
    words = (np.frombuffer(raw, kind).astype(int) >> (high + 1 - bits)) & (2**bits - 1)
    if h.PixelRepresentation if signed is None else signed:
        words = np.where(words >= 2 ** (bits - 1), words - 2**bits, words)
    return words


def hounsfield(raw, h, **how):
    values = stored_of(raw, h, **how) * float(h.RescaleSlope) + float(h.RescaleIntercept)
    return values.reshape(h.Rows, h.Columns)


def bits_by_arithmetic(raw, h):
    rows = []
    for k in range(0, len(raw), 2):
        word = raw[k] + 256 * raw[k + 1]
        value = word // 2 ** (h.HighBit + 1 - h.BitsStored) % 2**h.BitsStored
        if h.PixelRepresentation == 1 and value >= 2**h.BitsStored / 2:
            value -= 2**h.BitsStored
        rows.append(value * h.RescaleSlope + h.RescaleIntercept)
    return [rows[k * h.Columns : (k + 1) * h.Columns] for k in range(h.Rows)]


def in_sixteen_bits(raw, h):
    values = stored_of(raw, h).astype("u2") * np.uint16(float(h.RescaleSlope))
    kind = int if h.PixelRepresentation == 0 else "i2"
    values = values.astype(kind) + int(float(h.RescaleIntercept))
    return values.reshape(h.Rows, h.Columns)


def added_first(raw, h):
    return (hounsfield(raw, h) / float(h.RescaleSlope) - float(h.RescaleIntercept)) * 0 + (
        stored_of(raw, h).reshape(h.Rows, h.Columns) + float(h.RescaleIntercept)
    ) * float(h.RescaleSlope)


def no_slope(raw, h):
    return stored_of(raw, h).reshape(h.Rows, h.Columns) + float(h.RescaleIntercept)


def no_intercept(raw, h):
    return stored_of(raw, h).reshape(h.Rows, h.Columns) * float(h.RescaleSlope)


def shown(stored, h, *, rescale=True, invert=None, pad="stored", line=None, black=0.0):
    x = stored * float(h.RescaleSlope) + float(h.RescaleIntercept) if rescale else stored
    y = (line or lut)(x, float(h.WindowCenter), float(h.WindowWidth))
    turned = h.PhotometricInterpretation == "MONOCHROME1"
    if turned if invert is None else invert:
        y = 1 - y
    value = h.get("PixelPaddingValue")
    pads = {"stored": stored == value, "hu": x == value, "none": stored < 0}[pad]
    return np.where(pads, black, y)


def lut(x, c, w):
    return preprocess.window(torch.tensor(x, dtype=torch.float64), level=c, width=w).numpy()


def exact(x, c, w):
    return np.clip((x - (c - w / 2)) / w, 0, 1)


def drawn(**how):
    return lambda stored, h: shown(stored, h, **how)


def normal(header):
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    return np.cross(row, column)


def distance(header):
    return np.dot(normal(header), header.ImagePositionPatient)


def by(key):
    return lambda headers: sorted(headers, key=key)


def z_or_distance(header):
    return header.ImagePositionPatient[2] if abs(normal(header)[2]) > 0.1 else distance(header)


def along_row(header):
    return float(np.dot(header.ImageOrientationPatient[:3], header.ImagePositionPatient))


def matrix(headers, *, i=None, j=None, k=None, at=None, signs=(-1, -1, 1)):
    h, end = headers[0], headers[-1]
    r, c = np.array(h.ImageOrientationPatient, float).reshape(2, 3)
    down, along = h.PixelSpacing
    first, last = (np.array(one.ImagePositionPatient, float) for one in (h, end))
    n = len(headers)
    step = (last - first) / (n - 1)
    given = {"r": r, "c": c, "down": down, "along": along, "first": first, "last": last}
    given |= {"step": step, "n": n, "normal": np.cross(r, c), "thick": h.SliceThickness}
    A = np.eye(4)
    A[:3, 0] = (i or (lambda g: g["r"] * g["along"]))(given)
    A[:3, 1] = (j or (lambda g: g["c"] * g["down"]))(given)
    A[:3, 2] = (k or (lambda g: g["step"]))(given)
    A[:3, 3] = (at or (lambda g: g["first"]))(given)
    return np.diag([*signs, 1]) @ A


def built(**how):
    return lambda headers: matrix(headers, **how)


def by_nibabel(headers):
    lps = matrix(headers, signs=(1, 1, 1))
    places = nibabel.affines.apply_affine(lps, [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
    places = places * [-1, -1, 1]
    A = torch.eye(4, dtype=torch.float64)
    A[:3] = torch.from_numpy(np.column_stack([*(places[1:] - places[0]), places[0]]))
    return A


def directions_alone(headers):
    A = matrix(headers)
    A[:3, 3] = headers[0].ImagePositionPatient
    return A


def without_bottom(headers):
    A = matrix(headers)
    A[3] = 0
    return A


def allowed(header, code):
    clean = Dataset()
    for keyword in NEEDED:
        if keyword in header:
            clean[keyword] = header[keyword]
    clean.PatientID = code
    return clean


def by_the_profile(header, code):
    header = copy.deepcopy(header)
    header.BurnedInAnnotation = "NO"  # a person has looked
    return dicom.deidentify(header, key="s", patient_id=code)


def by_the_list(header, code):
    clean = Dataset()
    clean.update({e.tag: e for e in copy.deepcopy(header)})
    for one in dicom.identifiers(header):
        group, element = one.tag.strip("()").split(",")
        if "[0]." not in one.keyword and one.action != "look":
            clean.pop((int(group, 16), int(element, 16)), None)
    clean.PatientID = code
    return clean


def denied(*keywords, private=True, meta=True):
    """Deletes what the CT file is known to hold, and what else is named."""

    def answer(header, code):
        clean = copy.deepcopy(header)
        ct = material(file="CT_small")
        for one in dicom.identifiers(ct):
            keyword = one.keyword
            if keyword in clean and keyword not in keywords:
                del clean[keyword]
        for keyword in ("PatientName",):
            clean.pop(keyword, None)
        if private:
            clean.remove_private_tags()
        clean.PatientID = code
        bare = Dataset()
        bare.update({e.tag: e for e in clean})
        return bare if meta else clean

    return answer


def plus(keyword, value=None):
    """All that is needed, and one thing more."""

    def answer(header, code):
        clean = copy.deepcopy(allowed(header, code))
        if value is not None:
            setattr(clean, keyword, value)
        elif keyword in header:
            clean[keyword] = header[keyword]
        return clean

    return answer


def with_blanks(header, code):
    """What the header lacks is there, and empty."""
    clean = allowed(header, code)
    for keyword in NEEDED:
        if keyword not in header:
            setattr(clean, keyword, None)
    return clean


def with_private(header, code):
    clean = allowed(header, code)
    clean.update({e.tag: e for e in header if e.tag.is_private})
    return clean


def with_meta(header, code):
    clean = allowed(header, code)
    clean.file_meta = header.file_meta
    return clean


def less(keyword):
    def answer(header, code):
        clean = allowed(header, code)
        clean.pop(keyword, None)
        return clean

    return answer


def in_place(header, code):
    header.PatientID = code
    return allowed(header, code)


def the_same(header, code):
    header.PatientID = code
    return header


def no_code(header, code):
    return less("PatientID")(header, code)


def bands(picture, *, top=54, bottom=169):
    clean = picture.clone()
    clean[:, :top] = 0
    clean[:, bottom:] = 0
    return clean


def boxes(picture):
    clean = picture.clone()
    for rows, columns in (
        (slice(10, 53), slice(6, 90)),
        (slice(10, 53), slice(130, 190)),
        (slice(10, 53), slice(240, 318)),
        (slice(175, 192), slice(110, 190)),
        (slice(220, 240), slice(0, 320)),
    ):
        clean[:, rows, columns] = 0
    return clean


def top_in_place(picture):
    picture[:, :54] = 0
    picture[:, 169:] = 0
    return picture


def gibibytes(shape, dtype):
    return math.prod(shape) * dtype.itemsize / 2**30


CASES = [
    ("files.1", hounsfield, "✓"),
    ("files.1", bits_by_arithmetic, "✓"),
    ("files.1", lambda r, h: torch.from_numpy(hounsfield(r, h)), "✓"),
    ("files.1", lambda r, h: hounsfield(r, h, signed=False), "-1000 became 64536"),
    ("files.1", lambda r, h: hounsfield(r, h, signed=True), "unsigned values as signed"),
    ("files.1", lambda r, h: hounsfield(r, h, bits=16, high=15), "only 12 of the 16 are stored"),
    ("files.1", lambda r, h: hounsfield(r, h, high=h.BitsStored - 1), "lowest of them is bit 4"),
    (
        "files.1",
        lambda r, h: hounsfield(r, h, signed=h.BitsStored == 16 and h.PixelRepresentation),
        "highest of its 12 *stored* bits",
    ),
    ("files.1", lambda r, h: hounsfield(r, h, kind=">u2"), "lower byte comes first"),
    ("files.1", added_first, "before you multiplied"),
    ("files.1", no_slope, "slope is missing. Here it is 2"),
    ("files.1", no_intercept, "intercept is missing"),
    ("files.1", lambda r, h: hounsfield(r, h).reshape(h.Columns, h.Rows), "Rows come first"),
    ("files.1", lambda r, h: hounsfield(r, h).ravel(), "rows and columns"),
    ("files.1", lambda r, h: hounsfield(r, h)[None], "I expected (2, 3)"),
    ("files.1", lambda r, h: "white", "you returned str"),
    ("files.1", lambda r, h: hounsfield(r, h).astype(int), "squeezed into whole numbers"),
    ("files.1", in_sixteen_bits, "16 bits were too few"),
    ("files.1", lambda r, h: np.zeros((h.Rows, h.Columns)), "I expected [[-1000.0"),
    ("files.2", shown, "✓"),
    ("files.2", lambda s, h: torch.from_numpy(shown(s, h)), "✓"),
    ("files.2", lambda s, h: shown(s, h).tolist(), "✓"),
    ("files.2", lambda s, h: shown(s, h).ravel(), "for pixels of shape (3, 4)"),
    ("files.2", drawn(rescale=False), "over stored values"),
    ("files.2", drawn(invert=False), "high values are dark"),
    ("files.2", drawn(invert=True), "high values are bright"),
    ("files.2", drawn(pad="none"), "value 1264 are padding"),
    ("files.2", drawn(pad="hu"), "Compare before the rescale"),
    ("files.2", drawn(black=1.0), "padding should be black"),
    ("files.2", drawn(line=exact), "LINEAR_EXACT"),
    ("files.2", drawn(line=lambda x, c, w: (x - c + 0.5) / (w - 1) + 0.5), "leave 0…1"),
    ("files.2", drawn(line=lambda x, c, w: (x - c + w / 2) / w), "leave 0…1"),
    ("files.2", drawn(line=lambda x, c, w: np.clip(x, c - w / 2, c + w / 2)), "Scale it"),
    ("files.2", drawn(line=lambda x, c, w: lut(x, c, 2 * w)), "twice as wide"),
    ("files.2", drawn(line=lambda x, c, w: exact(x, c, 2 * w)), "twice as wide"),
    ("files.2", drawn(line=lambda x, c, w: exact(x, c + w / 2, w)), "It is its middle"),
    ("files.2", drawn(line=lambda x, c, w: (x - x.min()) / np.ptp(x)), "minimum and maximum"),
    ("files.2", lambda s, h: 255 * shown(s, h), "I asked for 0…1"),
    ("files.2", lambda s, h: np.full(s.shape, 0.3), "level 40, width 400 I expected"),
    ("files.3", by(distance), "✓"),
    ("files.3", lambda headers: tuple(sorted(headers, key=distance)), "✓"),
    ("files.3", by(lambda h: h.filename), "sorted by file name (axial"),
    ("files.3", by(lambda h: int(h.filename[2:])), "number in the file's name (axial"),
    ("files.3", by(lambda h: h.InstanceNumber), "InstanceNumber (axial"),
    ("files.3", by(lambda h: h.ImagePositionPatient[2]), "sagittal series z is the same"),
    ("files.3", by(z_or_distance), "oblique series z runs the other way"),
    ("files.3", by(lambda h: sum(h.ImagePositionPatient)), "sum of the coordinates"),
    ("files.3", by(lambda h: -distance(h)), "the direction is not (axial"),
    ("files.3", by(lambda h: np.linalg.norm(h.ImagePositionPatient)), "distance from the origin"),
    ("files.3", by(along_row), "a direction within the slice is"),
    ("files.3", list, "axial series came back as I gave it"),
    ("files.3", lambda headers: [distance(h) for h in headers], "values of type float"),
    ("files.3", lambda headers: [0, 1, 2], "values of type int"),
    ("files.3", lambda headers: headers[1:], "12 headers and got 11"),
    ("files.3", lambda headers: 12, "a int"),
    ("files.3", lambda headers: headers[::-1], "not in order"),
    ("files.4", matrix, "✓"),
    ("files.4", by_nibabel, "✓"),
    ("files.4", lambda hs: matrix(hs).tolist(), "✓"),
    ("files.4", lambda hs: matrix(hs)[:3], "(4, 4) and got shape (3, 4)"),
    ("files.4", lambda hs: "here", "(4, 4) and got str"),
    ("files.4", built(signs=(1, 1, 1)), "right in DICOM's own frame"),
    ("files.4", built(signs=(-1, 1, 1)), "sign of x alone. This patient is mirrored"),
    ("files.4", built(signs=(1, -1, 1)), "sign of y alone"),
    ("files.4", built(signs=(-1, -1, -1)), "three signs"),
    ("files.4", directions_alone, "concerns its whole row"),
    (
        "files.4",
        lambda hs: matrix(hs, i=lambda g: g["c"] * g["down"], j=lambda g: g["r"] * g["along"]),
        "exchange the first two",
    ),
    (
        "files.4",
        built(i=lambda g: g["r"] * g["down"], j=lambda g: g["c"] * g["along"]),
        "distance of rows first",
    ),
    ("files.4", built(k=lambda g: g["normal"] * g["thick"]), "SliceThickness"),
    (
        "files.4",
        lambda hs: matrix(hs, k=lambda g: g["normal"] * np.linalg.norm(g["step"])),
        "Here the stack leans",
    ),
    ("files.4", built(k=lambda g: (g["last"] - g["first"]) / g["n"]), "n − 1 steps"),
    ("files.4", built(k=lambda g: g["last"] - g["first"]), "from the first slice to the last"),
    ("files.4", built(k=lambda g: -g["step"]), "from the last slice to the first"),
    ("files.4", built(at=lambda g: np.zeros(3)), "position of the first voxel"),
    ("files.4", built(at=lambda g: g["last"]), "position of the last slice"),
    ("files.4", built(i=lambda g: g["r"], j=lambda g: g["c"]), "unit vectors"),
    ("files.4", lambda hs: matrix(hs).T, "transposed matrix"),
    ("files.4", without_bottom, "0, 0, 0, 1"),
    ("files.4", built(at=lambda g: g["first"] + 1), "voxel (1, 1, 1) of my axial series"),
    ("files.4", built(signs=(1, 1, 1), k=lambda g: -g["step"]), "from the last slice"),
    ("files.5", allowed, "✓"),
    ("files.5", by_the_profile, "✓"),
    ("files.5", by_the_list, "✓"),
    ("files.5", plus("PatientSex"), "✓"),
    ("files.5", plus("SOPInstanceUID", "2.25.7"), "✓"),
    ("files.5", lambda h, code: code, "pydicom Dataset and got str"),
    ("files.5", the_same, "the header you were given, changed"),
    ("files.5", in_place, "PatientID is no longer what it was"),
    ("files.5", no_code, "and I found 'None'"),
    ("files.5", lambda h, code: allowed(h, "me"), "the code 'P003'"),
    ("files.5", less("PixelSpacing"), "PixelSpacing is gone"),
    ("files.5", plus("Rows", 7), "Rows has changed"),
    ("files.5", less("PixelPaddingValue"), "PixelPaddingValue is gone"),
    ("files.5", with_blanks, "the header has none"),
    ("files.5", with_private, "private element"),
    ("files.5", plus("OtherPatientIDsSequence"), "sequence holds data sets"),
    ("files.5", plus("RequestAttributesSequence"), "sequence holds data sets"),
    ("files.5", with_meta, "file_meta is left"),
    ("files.5", plus("StudyInstanceUID"), "types it into a search"),
    ("files.5", plus("SeriesDate"), "SeriesDate is left in the header of CT_small.dcm"),
    ("files.5", plus("AcquisitionDateTime"), "a patient on a ward"),
    ("files.5", denied(), "is left in the header of MR_small.dcm"),
    ("files.6", bands, "✓"),
    ("files.6", lambda p: bands(p).numpy(), "✓"),
    ("files.6", lambda p: bands(p, top=55, bottom=168), "✓"),
    ("files.6", lambda p: bands(p)[0], "the picture has (3, 240, 320)"),
    ("files.6", top_in_place, "blanked the picture that you were given"),
    ("files.6", lambda p: p.clone(), "came back as it was"),
    ("files.6", lambda p: bands(p, bottom=200), "differ in their text only are still different"),
    ("files.6", boxes, "a longer name"),
    ("files.6", lambda p: bands(p, top=100), "of the tissue is changed"),
    ("files.6", lambda p: torch.zeros_like(p), "100% of the tissue"),
    ("files.7", gibibytes, "✓"),
    ("files.7", lambda s, d: torch.empty(s, dtype=d, device="meta").nbytes / 2**30, "✓"),
    ("files.7", lambda s, d: math.prod(s) / 2**30, "values, not bytes"),
    ("files.7", lambda s, d: math.prod(s), "values, not bytes"),
    ("files.7", lambda s, d: 8 * gibibytes(s, d), "counted bits"),
    ("files.7", lambda s, d: math.prod(s) * d.itemsize, "returned bytes"),
    ("files.7", lambda s, d: math.prod(s) * d.itemsize / 1e9, "divided by 10⁹"),
    ("files.7", lambda s, d: math.prod(s) * d.itemsize / 2**20, "MiB"),
    ("files.7", lambda s, d: math.prod(s) * 4 / 2**30, "four bytes for each"),
    ("files.7", lambda s, d: sum(s) * d.itemsize / 2**30, "added the sizes"),
    ("files.7", lambda s, d: 7.0, "expected 1.25 GiB"),
    ("files.7", lambda s, d: s, "expected a number"),
]

EQUIVALENT = [
    "files.1: stored = words >> header.HighBit + 1 - bits & 2 ** bits - 1 "
    "→ stored = 2 ** bits - 1 & words >> header.HighBit + 1 - bits",
    "files.2: y = np.clip((x - (level - 0.5)) / (width - 1) + 0.5, 0, 1) "
    "→ y = np.clip(0, (x - (level - 0.5)) / (width - 1) + 0.5, 1)",
    # pydicom's numbers are floats already
    "files.3: r, c = np.array(header.ImageOrientationPatient, float).reshape(2, 3) "
    "→ r, c = np.array(header.ImageOrientationPatient).reshape(2, 3)",
    "files.3: return np.dot(np.cross(r, c), header.ImagePositionPatient) "
    "→ return np.dot(header.ImagePositionPatient, np.cross(r, c))",
    "files.4: between_rows, between_columns = (float(mm) for mm in headers[0].PixelSpacing) "
    "→ between_rows, between_columns = (float(mm) for mm in headers[1].PixelSpacing)",
    "files.4: first = np.array(headers[0].ImagePositionPatient, float) "
    "→ first = np.array(headers[0].ImagePositionPatient)",
    "files.4: last = np.array(headers[-1].ImagePositionPatient, float) "
    "→ last = np.array(headers[-1].ImagePositionPatient)",
    "files.4: r, c = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3) "
    "→ r, c = np.array(headers[0].ImageOrientationPatient).reshape(2, 3)",
    "files.4: r, c = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3) "
    "→ r, c = np.array(headers[1].ImageOrientationPatient, float).reshape(2, 3)",
    # Between text and tissue, and at the rim, lie rows of plain black; any plain grey hides a text
    *(
        f"files.6: clean[:, 169:] = 0 → clean[:, {new}"
        for new in ("168:] = 0", "169:-1] = 0", "169:] = 1", "170:] = 0")
    ),
    *(
        f"files.6: clean[:, :54] = 0 → clean[:, {new}"
        for new in ("1:54] = 0", ":53] = 0", ":54] = 1", ":55] = 0")
    ),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_a_changed_solution_is_not_ticked():
    assert ticked("02_files_and_geometry", "files", cells=("imports", "needed")) == EQUIVALENT
