"""Checks of images, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file

from medlab import preprocess
from medlab.exercises import check
from medlab.exercises.images import MESSAGES
from medlab.simulate.mri import BRAIN, RELAXATION
from tests.learners import unheard

TISSUES = {name: RELAXATION[3.0][name] for name in BRAIN}


def hounsfield(raw, rows, columns, signed, slope, intercept, kind=None):
    kind = kind or ("<i2" if signed else "<u2")
    return np.frombuffer(raw, kind).reshape(rows, columns) * slope + intercept


def stored(raw, rows, columns, signed):
    return hounsfield(raw, rows, columns, signed, 1.0, 0.0)


def window(x, level, width):
    return ((x - (level - 0.5)) / (width - 1) + 0.5).clamp(0, 1)


def normal(header):
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    return np.cross(row, column)


def distance(header):
    return np.dot(normal(header), header.ImagePositionPatient)


def by(key):
    return lambda headers: sorted(headers, key=key)


def gibibytes(shape, dtype):
    return math.prod(shape) * dtype.itemsize / 2**30


FLIP = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)


def ras(affine, voxel):
    return affine[:3, :3] @ voxel + affine[:3, 3]


def lps(affine, voxel):
    return FLIP * ras(affine, voxel)


def exact(x, c, w):
    return ((x - (c - w / 2)) / w).clamp(0, 1)


CASES = [
    ("images.1", lambda mu, x: torch.exp(-(mu * x).sum()), "✓"),
    ("images.1", lambda mu, x: math.exp(-float(mu @ x)), "✓"),
    ("images.1", lambda mu, x: torch.exp((mu * x).sum()), "lacks its minus"),
    ("images.1", lambda mu, x: 1 - torch.exp(-(mu * x).sum()), "share that was stopped"),
    ("images.1", lambda mu, x: torch.exp(-mu * x).sum(), "added the transmissions"),
    ("images.1", lambda mu, x: torch.exp(-mu * x).mean(), "averaged the transmissions"),
    ("images.1", lambda mu, x: torch.exp(-mu.sum()), "without the thickness"),
    ("images.1", lambda mu, x: torch.exp(-mu.mean() * x.sum()), "mean μ"),
    ("images.1", lambda mu, x: 10 ** -(mu * x).sum(), "powers of ten"),
    ("images.1", lambda mu, x: torch.exp(-mu * x), "2 values, one a layer"),
    ("images.1", lambda mu, x: 0.5, "expected 0.04076"),
    ("images.1", lambda mu, x: 0.04076220398, "expected"),
    ("images.1", lambda mu, x: "much", "expected a number"),
    ("images.1", 0.04, "expected a function"),
    ("images.2", (5000, 110), "✓"),
    ("images.2", torch.tensor([6000.0, 120.0]), "✓"),
    ("images.2", (5.0, 0.1), "look like seconds"),
    ("images.2", (100, 5000), "not shorter than TR"),
    ("images.2", (600, 10), "T1 = 4300 ms"),
    ("images.2", (5000, 10), "lengthen TE"),
    ("images.2", (5000, 400), "drowns in noise"),
    ("images.2", (20000, 110), "8000 ms or below"),
    ("images.2", 5000, "two numbers"),
    ("images.2", (5000, "long"), "expected a number"),
    ("images.3", hounsfield, "✓"),
    ("images.3", lambda *a: torch.from_numpy(hounsfield(*a)), "✓"),
    ("images.3", lambda *a: hounsfield(*a, kind="<u2"), "signed values as unsigned: -1000 became"),
    ("images.3", lambda *a: hounsfield(*a, kind="<i2"), "unsigned values as signed"),
    ("images.3", lambda *a: hounsfield(*a, kind=">i2" if a[3] else ">u2"), "wrong order"),
    ("images.3", lambda r, h, w, s, m, b: (stored(r, h, w, s) + b) * m, "before you multiplied"),
    ("images.3", lambda r, h, w, s, m, b: stored(r, h, w, s) + b, "slope is missing. Here it is 2"),
    ("images.3", lambda r, h, w, s, m, b: stored(r, h, w, s) * m, "intercept is missing"),
    ("images.3", lambda *a: hounsfield(a[0], a[2], a[1], *a[3:]), "Rows come first"),
    ("images.3", lambda *a: hounsfield(*a).ravel(), "rows and columns"),
    ("images.3", lambda *a: hounsfield(*a)[None], "I expected (2, 3)"),
    ("images.3", lambda *a: hounsfield(*a).astype(int), "squeezed into whole numbers"),
    ("images.3", lambda *a: np.zeros((a[1], a[2])), "I expected [[-1000.0"),
    (
        "images.3",
        lambda *a: np.frombuffer(a[0], "u1").reshape(a[1], a[2]),
        "stopped with ValueError",
    ),
    ("images.3", lambda *a: "white", "expected a number"),
    ("images.4", window, "✓"),
    ("images.4", lambda x, c, w: preprocess.window(x, level=c, width=w), "✓"),
    ("images.4", lambda x, c, w: window(x, c, w).numpy(), "✓"),
    ("images.4", exact, "LINEAR_EXACT"),
    ("images.4", lambda x, c, w: (x - (c - 0.5)) / (w - 1) + 0.5, "Clamp the result"),
    ("images.4", lambda x, c, w: (x - (c - w / 2)) / w, "Clamp the result"),
    ("images.4", lambda x, c, w: x.clamp(c - w / 2, c + w / 2), "Scale it to 0…1"),
    ("images.4", lambda x, c, w: exact(x, c, 2 * w), "twice as wide"),
    ("images.4", lambda x, c, w: window(x, c, 2 * w), "twice as wide"),
    ("images.4", lambda x, c, w: exact(x, c + w / 2, w), "It is its middle"),
    ("images.4", lambda x, c, w: (x - x.min()) / (x.max() - x.min()), "minimum and maximum"),
    ("images.4", lambda x, c, w: 1 - exact(x, c, w), "black and white are exchanged"),
    ("images.4", lambda x, c, w: (255 * window(x, c, w)).byte(), "I asked for 0…1"),
    ("images.4", lambda x, c, w: window(x, c, w).ravel(), "returned shape (8,)"),
    ("images.4", lambda x, c, w: torch.zeros_like(x), "level 40, width 400 I expected"),
    ("images.4", lambda x, c, w: "dark", "expected a number"),
    ("images.5", by(distance), "✓"),
    ("images.5", lambda headers: tuple(sorted(headers, key=distance)), "✓"),
    ("images.5", by(lambda h: h.filename), "sorted by file name (axial"),
    ("images.5", by(lambda h: h.InstanceNumber), "InstanceNumber (axial"),
    ("images.5", by(lambda h: h.ImagePositionPatient[2]), "sagittal series z is the same"),
    (
        "images.5",
        lambda headers: sorted(
            headers,
            key=lambda h: h.ImagePositionPatient[2] if abs(normal(h)[2]) > 0.1 else distance(h),
        ),
        "oblique series z falls",
    ),
    ("images.5", by(lambda h: -distance(h)), "the direction is not (axial"),
    ("images.5", by(lambda h: np.linalg.norm(h.ImagePositionPatient)), "distance from the origin"),
    (
        "images.5",
        by(lambda h: np.dot(h.ImageOrientationPatient[3:], h.ImagePositionPatient)),
        "a direction within the slice",
    ),
    ("images.5", list, "axial series came back as I gave it"),
    ("images.5", lambda headers: [distance(h) for h in headers], "values of type float"),
    ("images.5", lambda headers: [0, 1, 2], "values of type int"),
    ("images.5", lambda headers: headers[1:], "12 headers and got 11"),
    ("images.5", lambda headers: 12, "a int"),
    ("images.5", lambda headers: headers[::-1], "not in order"),
    ("images.6", ["PatientID", "SeriesDate", "StudyInstanceUID"], "✓"),
    ("images.6", ("InstitutionName", "StationName", "AcquisitionDate", "StudyID"), "✓"),
    ("images.6", ["PatientID", "PatientID", "SeriesDate"], "count 2"),
    ("images.6", ["Patient ID", "SeriesDate", "StudyDate"], "no keyword"),
    ("images.6", [3, "SeriesDate", "StudyDate"], "no keyword"),
    ("images.6", ["PatientID", "PatientName", "StudyDate"], "just been deleted"),
    ("images.6", ["PatientID", "PatientBirthDate", "StudyDate"], "value is empty"),
    ("images.6", ["PatientID", "PatientAddress", "StudyDate"], "does not hold it"),
    ("images.6", ["PatientID", "Rows", "StudyDate"], "describes the image"),
    ("images.6", "PatientID", "list of keywords"),
    ("images.6", 3, "list of keywords"),
    ("images.7", gibibytes, "✓"),
    ("images.7", lambda s, d: torch.empty(s, dtype=d, device="meta").nbytes / 2**30, "✓"),
    ("images.7", lambda s, d: math.prod(s) / 2**30, "values, not bytes"),
    ("images.7", lambda s, d: math.prod(s), "values, not bytes"),
    ("images.7", lambda s, d: 8 * gibibytes(s, d), "counted bits"),
    ("images.7", lambda s, d: math.prod(s) * d.itemsize, "returned bytes"),
    ("images.7", lambda s, d: math.prod(s) * d.itemsize / 1e9, "divided by 10⁹"),
    ("images.7", lambda s, d: math.prod(s) * d.itemsize / 2**20, "MiB"),
    ("images.7", lambda s, d: math.prod(s) * 4 / 2**30, "four bytes for each"),
    ("images.7", lambda s, d: sum(s) * d.itemsize / 2**30, "added the sizes"),
    ("images.7", lambda s, d: 7.0, "expected 1.25 GiB"),
    ("images.7", lambda s, d: s, "expected a number"),
    ("images.8", lps, "✓"),
    ("images.8", lambda a, v: (a.numpy() @ [*v.numpy(), 1])[:3] * [-1, -1, 1], "✓"),
    ("images.8", ras, "change the sign of x and y"),
    ("images.8", lambda a, v: -ras(a, v), "three signs"),
    ("images.8", lambda a, v: FLIP * (a[:3, :3] @ v), "position of voxel (0, 0, 0)"),
    ("images.8", lambda a, v: a[:3, :3] @ v, "position of voxel (0, 0, 0)"),
    ("images.8", lambda a, v: FLIP * (a.diagonal()[:3] * v + a[:3, 3]), "diagonal alone"),
    ("images.8", lambda a, v: FLIP * (a[:3, :3].T @ v + a[:3, 3]), "transposed"),
    ("images.8", lambda a, v: a @ torch.cat([v, torch.ones(1)]).double(), "three coordinates"),
    ("images.8", lambda a, v: v, "expected"),
    ("images.8", lambda a, v: "here", "expected a number"),
]


def given(id):
    if id == "images.2":
        return {"tissues": TISSUES}
    if id == "images.6":
        header = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
        del header.PatientName
        return {"header": header}
    return {}


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer, **given(id))
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args): ...

    def broken(*args):
        return args[9]

    untouched = {"images.2": (..., ...), "images.6": [..., ..., ...]}.get(id, stub)
    check(id, untouched, **given(id))
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if untouched is stub:
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys, given) == []
