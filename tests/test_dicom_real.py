"""The three real series and the corpus: the right volume, the right image, or a clear refusal."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from medlab.dicom import identifiers, read_cine, read_image, read_series
from medlab.errors import DicomError
from tests.where import REAL_DATA, WHY_NO_DATA

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(REAL_DATA is None, reason=WHY_NO_DATA),
    pytest.mark.filterwarnings("ignore:Invalid value for VR"),
]

CORPUS = [
    tuple(line.split(" | ", 1))
    for line in (Path(__file__).parent / "dicom_corpus.txt")
    .read_text(encoding="utf-8")
    .splitlines()
    if not line.startswith("#")
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory, real_data):
    """Unpack one of the archives, once a module."""
    done = {}

    def unpack(name: str) -> Path:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            with tarfile.open(real_data / "dicom" / f"{name}.tar.xz") as archive:
                archive.extractall(folder, filter="data")
            done[name] = folder
        return done[name]

    return unpack


def by_hand(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(D, H, W) real values and 4×4 index-to-LPS matrix, straight from the standard's equation."""
    slices = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    cosines = np.array(slices[0].ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    slices.sort(key=lambda s: np.dot(normal, np.array(s.ImagePositionPatient, float)))
    first, last = (np.array(s.ImagePositionPatient, float) for s in (slices[0], slices[-1]))
    affine = np.eye(4)
    affine[:3, 0] = (last - first) / (len(slices) - 1)
    affine[:3, 1] = cosines[3:] * float(slices[0].PixelSpacing[0])
    affine[:3, 2] = cosines[:3] * float(slices[0].PixelSpacing[1])
    affine[:3, 3] = first
    values = np.empty((len(slices), *slices[0].pixel_array.shape), np.float32)
    for k, s in enumerate(slices):
        values[k] = s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept)
    return values, affine


@pytest.mark.parametrize(
    ("name", "shape", "spacing", "units"),
    [
        ("chest_ct_series", (28, 512, 512), (3.0, 0.564453125, 0.564453125), "HU"),
        pytest.param(
            *("t1_series", (384, 384, 274), (0.666667, 0.666667, 0.699988), "rescaled"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_real_series_is_the_right_volume(unpacked, name, shape, spacing, units):
    folder = unpacked(name)
    volume = read_series(folder)
    values, affine = by_hand(folder)
    assert volume.voxels.shape == shape
    assert np.array_equal(volume.voxels.numpy(), values)
    assert np.allclose(volume.affine.numpy(), affine, atol=1e-6)
    assert volume.spacing == pytest.approx(spacing, abs=1e-5)
    assert volume.units == units


def test_air_water_and_bone_have_their_hounsfield_units(unpacked):
    voxels = read_series(unpacked("chest_ct_series")).voxels
    assert voxels.min() == -1024
    assert 700 < voxels.max() <= 3071
    body = voxels[:, 200:330, 150:360]
    assert -1000 < body[body < -500].median() < -700  # lung
    assert 0 < body[(body > -50) & (body < 120)].median() < 80  # soft tissue


def test_a_lost_slice_of_a_real_series_is_noticed(unpacked):
    files = sorted(unpacked("chest_ct_series").rglob("*.dcm"))
    inner = read_series(unpacked("chest_ct_series")).files[13]
    with pytest.raises(DicomError, match=r"slices are missing"):
        read_series([path for path in files if path != inner])


def test_the_real_cine_is_read_in_the_order_of_time(unpacked):
    folder = unpacked("cine_series")
    with pytest.raises(DicomError, match=r"20 images, all of one slice.*read_cine"):
        read_series(folder)
    cine = read_cine(folder)
    frames = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    frames.sort(key=lambda frame: float(frame.TriggerTime))
    assert cine.pixels.shape == (20, 256, 256)
    assert np.array_equal(cine.pixels.numpy(), [frame.pixel_array for frame in frames])
    assert np.allclose(cine.times, [float(frame.TriggerTime) for frame in frames])
    assert torch.all(cine.times.diff() == 37.5)


@pytest.mark.parametrize(
    ("name", "expected"), CORPUS, ids=[name.rsplit("/", 1)[-1] for name, _ in CORPUS]
)
def test_corpus(real_data, name, expected):
    path = real_data / "dicom" / "corpus" / name
    if expected.startswith("! "):
        with pytest.raises(DicomError, match=f"(?s)^{str(path).replace('+', '.')}.*{expected[2:]}"):
            read_image(path)
        return
    try:
        pixels = read_image(path).pixels.double()
    except DicomError as error:
        if "pip install pylibjpeg" in str(error):
            pytest.skip(f"needs an extra decoder: {error}")
        raise
    shape, low, high, mean = expected.split()
    assert "x".join(map(str, pixels.shape)) == shape
    found = [pixels.min().item(), pixels.max().item(), pixels.mean().item()]
    # Decoders of lossy streams may differ by one grey level.
    assert found == pytest.approx([float(low), float(high), float(mean)], rel=1e-4, abs=1e-3)


def test_the_table_names_every_file_of_the_corpus(real_data):
    root = real_data / "dicom" / "corpus"
    here = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert here == {name for name, _ in CORPUS}


def test_reading_leaves_the_files_alone(unpacked):
    folder = unpacked("cine_series")

    def state() -> list[str]:
        return [hashlib.md5(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.dcm"))]

    before = state()
    read_cine(folder)
    identifiers(next(folder.rglob("*.dcm")))
    assert state() == before
