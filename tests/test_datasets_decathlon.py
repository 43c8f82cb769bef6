"""Segmented NIfTI volumes: sizes, orientations, intensities, and where the files come from."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import io
import tarfile
import threading
import warnings

import nibabel
import numpy as np
import pytest
import torch

import medlab
from medlab.datasets import decathlon, from_decathlon
from medlab.errors import DataError, HashMismatch

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")
    monkeypatch.delenv("MEDLAB_MIRROR", raising=False)
    monkeypatch.delenv("MEDLAB_VERIFY", raising=False)


def put(folder, name, values, *, affine=None, label=None, parts=("imagesTr", "labelsTr")):
    """One volume and its label (default: two blocks), given as (x, y, z) arrays."""
    if label is None:
        label = np.zeros(values.shape, np.uint8)
        label[0, 0, 0], label[-1, -1, -1] = 1, 2  # corners: what careless cropping would lose
    affine = np.eye(4) if affine is None else affine
    for part, array in zip(parts, (values, label), strict=True):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / part / f"{name}.nii.gz")


def volume(*shape, scale=255.0, dtype=np.float32):
    return (RNG.random(shape) * scale).astype(dtype)


def test_volumes_of_all_sizes_types_and_ranges_become_one_tensor(tmp_path):
    made = {
        "a": volume(9, 14, 11, dtype=np.uint8),
        "b": volume(16, 10, 12, scale=1.7e6),
        "c": volume(8, 8, 8, scale=1e-3, dtype=np.float64),
        "d": volume(11, 9, 17, scale=3000, dtype=np.int16) - np.int16(1000),
    }
    for name, values in made.items():
        put(tmp_path, name, values)
    (tmp_path / "imagesTr" / "._a.nii.gz").write_bytes(b"what macOS leaves")
    cohort = from_decathlon(tmp_path, classes=("background", "front", "back"))
    assert cohort.images.shape == (4, 1, 24, 16, 16)  # rounded up to eights, as (z, y, x)
    assert cohort.images.dtype == torch.float32
    assert cohort.masks.dtype == torch.uint8
    assert cohort.card.task == "segmentation"
    assert cohort.num_classes == 3
    assert cohort.spacing == (1.0, 1.0, 1.0)
    assert cohort.patients.tolist() == ["a", "b", "c", "d"]
    assert cohort.files[0] == "a.nii.gz"
    for i, values in enumerate(made.values()):
        spare = zip(cohort.images.shape[2:], values.shape[::-1], strict=True)
        inside = tuple(slice((room - n) // 2, (room - n) // 2 + n) for room, n in spare)
        seen = cohort.images[i, 0][inside].numpy()
        want = values.astype(float).transpose(2, 1, 0)
        want = np.clip(want, *np.percentile(want, (0.5, 99.5)))
        assert np.allclose(seen, (want - want.mean()) / want.std(), atol=1e-4)
        assert abs(seen.mean()) < 1e-4
        outside = torch.ones(cohort.images.shape[2:], dtype=torch.bool)
        outside[inside] = False
        assert not cohort.images[i, 0][outside].any()
        assert cohort.masks[i].unique(return_counts=True)[1].tolist()[1:] == [1, 1]  # none is lost


def test_a_bright_spot_does_not_squeeze_the_rest(tmp_path):
    values = volume(12, 12, 12)
    put(tmp_path, "calm", values)
    spiked = values.copy()
    spiked[3, 3, 3] = 1e9
    put(tmp_path, "spiked", spiked)
    calm, spiked = from_decathlon(tmp_path).images
    assert (calm - spiked).abs().mean() < 0.05


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
def test_every_orientation_shows_the_same_patient(tmp_path, axes):
    values = volume(6, 8, 10)
    label = (RNG.random(values.shape) > 0.7).astype(np.uint8)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    turned = nibabel.orientations.axcodes2ornt(tuple(axes))
    back = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(("R", "A", "S")), turned
    )
    for part, array in (("imagesTr", values), ("labelsTr", label)):
        (tmp_path / part).mkdir()
        image = nibabel.Nifti1Image(array, affine).as_reoriented(back)
        assert "".join(nibabel.aff2axcodes(image.affine)) == axes
        nibabel.save(image, tmp_path / part / "p.nii")
    cohort = from_decathlon(tmp_path)
    assert cohort.spacing == (3.0, 2.0, 1.0)
    assert cohort.masks.shape[1:] == (16, 8, 8)
    assert np.array_equal(cohort.masks[0, 3:13, :, 1:7].numpy(), label.transpose(2, 1, 0))


def test_scaled_integers_and_differing_voxels(tmp_path):
    put(tmp_path, "a", volume(6, 6, 6))
    put(tmp_path, "b", volume(6, 6, 6), affine=np.diag([1, 1, 2.5, 1]))
    cohort = from_decathlon(tmp_path)
    assert cohort.spacing is None
    header = nibabel.Nifti1Header()
    header.set_slope_inter(0.5, -100)
    label = nibabel.Nifti1Image(np.full((6, 6, 6), 202, np.int16), np.eye(4))
    label.header.set_slope_inter(0.5, -100)
    nibabel.save(label, tmp_path / "labelsTr" / "a.nii.gz")
    assert from_decathlon(tmp_path, classes=("0", "1", "2")).masks[0].max() <= 2


def label_of(value, dtype=np.int16):
    return np.full((6, 6, 6), value, dtype)


def spoil_partner(folder):
    (folder / "labelsTr" / "a.nii.gz").rename(folder / "labelsTr" / "x.nii.gz")


def spoil_bytes(folder):
    file = folder / "imagesTr" / "a.nii.gz"
    file.write_bytes(file.read_bytes()[:-300])


def spoil_text(folder):
    (folder / "imagesTr" / "a.nii.gz").write_bytes(b"<html>")


def spoil_shape(folder):
    put(folder, "a", volume(6, 6, 6), label=np.zeros((6, 6, 5), np.uint8))


def spoil_place(folder):
    image = nibabel.Nifti1Image(label_of(1), np.diag([1, 1, 1.2, 1]))
    nibabel.save(image, folder / "labelsTr" / "a.nii.gz")


def spoil_dimensions(folder):
    put(folder, "a", volume(6, 6, 6, 2))


def spoil_class(folder):
    put(folder, "a", volume(6, 6, 6), label=label_of(3))


def spoil_fraction(folder):
    put(folder, "a", volume(6, 6, 6), label=label_of(0.5, np.float32))


def spoil_negative(folder):
    put(folder, "a", volume(6, 6, 6), label=label_of(-1))


def spoil_nan(folder):
    put(folder, "a", np.full((6, 6, 6), np.nan, np.float32))


def spoil_flat(folder):
    put(folder, "a", np.full((6, 6, 6), 7, np.float32))


def spoil_complex(folder):
    put(folder, "a", np.ones((6, 6, 6), np.complex64))


def spoil_size(folder):
    """A header of 300 bytes that claims 32767³ voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((32767, 32767, 32767))
    (folder / "imagesTr" / "a.nii.gz").unlink()
    (folder / "imagesTr" / "a.nii").write_bytes(header.binaryblock + bytes(4))


MESSAGES = {
    spoil_partner: "alone: a, x",
    spoil_bytes: "a.nii.gz cannot be read as a NIfTI volume",
    spoil_text: "a.nii.gz cannot be read as a NIfTI volume",
    spoil_shape: r"labelsTr.a.nii.gz has another shape",
    spoil_place: "lies elsewhere in space",
    spoil_dimensions: "not one volume",
    spoil_class: r"whole numbers in 0…2 \(one, two, three\); got 0…3",
    spoil_fraction: "must hold whole numbers",
    spoil_negative: "must hold whole numbers",
    spoil_nan: "not finite",
    spoil_flat: "one value almost everywhere",
    spoil_complex: "not finite numbers",
    spoil_size: "a.nii cannot be read as a NIfTI volume",
}


@pytest.mark.parametrize("spoil", MESSAGES)
def test_what_does_not_fit_is_named(tmp_path, spoil):
    put(tmp_path, "a", volume(6, 6, 6))
    spoil(tmp_path)
    with pytest.raises(DataError, match=MESSAGES[spoil]):
        from_decathlon(tmp_path, classes=("one", "two", "three"))


def test_no_folder_no_volumes(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match="in imagesTr and labelsTr.* holds 0 and 0"):
            from_decathlon(folder)
        (tmp_path / "imagesTr").mkdir(exist_ok=True)


def test_random_damage_is_a_volume_or_a_named_error(tmp_path):
    put(tmp_path, "a", volume(6, 6, 6))
    path, refused = tmp_path / "imagesTr" / "a.nii", 0
    image = nibabel.Nifti1Image(volume(6, 6, 6), np.eye(4))
    (tmp_path / "imagesTr" / "a.nii.gz").unlink()
    whole, rng = image.to_bytes(), np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(352)] = rng.integers(256)
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cohort = from_decathlon(tmp_path)
        except DataError as error:
            refused += "a.nii" in str(error)
        else:
            assert cohort.images.isfinite().all()
    assert refused > 40


# Where the set comes from


def archive(extra=()) -> bytes:
    """A .tar laid out like the publisher's, of two small volumes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("hippocampus_001", "hippocampus_003"):
            for part, dtype in (("imagesTr", np.float32), ("labelsTr", np.uint8)):
                values = np.arange(8**3).reshape(8, 8, 8) % (3 if part == "labelsTr" else 500)
                data = nibabel.Nifti1Image(values.astype(dtype), np.eye(4)).to_bytes()
                entry = tarfile.TarInfo(f"Task04_Hippocampus/{part}/{name}.nii")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        for entry in extra:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return file.getvalue()


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """Serves `publish(bytes)` as Task04_Hippocampus.tar, its hash on the card."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    handler = type(
        "Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}
    )
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(shelf))
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("MEDLAB_MIRROR", f"http://127.0.0.1:{server.server_port}")

    def publish(data: bytes, *, official: bool = True):
        (shelf / "Task04_Hippocampus.tar").write_bytes(data)
        md5 = hashlib.md5(data).hexdigest() if official else "0" * 32
        card = dataclasses.replace(decathlon.HIPPOCAMPUS, md5=md5)
        monkeypatch.setattr(decathlon, "HIPPOCAMPUS", card)

    yield publish
    server.shutdown()
    server.server_close()


def left(path):
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


FILES = [
    f"hippocampus/{part}/hippocampus_00{k}.nii" for part in ("imagesTr", "labelsTr") for k in (1, 3)
]


def test_it_is_fetched_once_and_unpacked_whole(tmp_path, publisher):
    publisher(archive())
    cohort = medlab.load("hippocampus", root=tmp_path / "data")
    assert cohort.patients.tolist() == ["hippocampus_001", "hippocampus_003"]
    assert cohort.classes == ("background", "anterior", "posterior")
    assert left(tmp_path / "data") == FILES
    publisher(b"gone")
    again = medlab.load("hippocampus", root=tmp_path / "data", download=False)
    assert torch.equal(again.images, cohort.images)


def test_a_wrong_hash_is_refused_and_nothing_kept(tmp_path, publisher):
    publisher(archive(), official=False)
    with pytest.raises(HashMismatch, match="0" * 32):
        medlab.load("hippocampus", root=tmp_path / "data")
    assert left(tmp_path / "data") == []
    with pytest.warns(UserWarning, match="not the official"):
        cohort = medlab.load("hippocampus", root=tmp_path / "data", verify=False)
    assert "not the official" in cohort.card.faults[0]


def entry(name, kind=tarfile.REGTYPE, target="", size=0):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


@pytest.mark.parametrize(
    "extra",
    [
        entry("../escaped.txt", size=3),
        entry("/tmp/medlab-escaped.txt", tarfile.SYMTYPE, "/etc/passwd"),
        entry("Task04_Hippocampus/link", tarfile.SYMTYPE, "../../../etc"),
        entry("Task04_Hippocampus/hard", tarfile.LNKTYPE, "../../../../etc/passwd"),
        entry("Task04_Hippocampus/pipe", tarfile.FIFOTYPE),
        entry("Task04_Hippocampus/disk", tarfile.BLKTYPE),
    ],
    ids=lambda made: made.name,
)
def test_an_archive_that_reaches_outside_is_refused(tmp_path, publisher, extra):
    publisher(archive([extra]))
    with pytest.raises(DataError, match="cannot be unpacked"):
        medlab.load("hippocampus", root=tmp_path / "data")
    assert left(tmp_path) == ["shelf/Task04_Hippocampus.tar"]


@pytest.mark.parametrize("data", [b"not a tar at all", archive()[:9000], b""])
def test_a_damaged_archive_is_named(tmp_path, publisher, data):
    publisher(data)
    with pytest.raises(DataError, match="cannot be unpacked"):
        medlab.load("hippocampus", root=tmp_path / "data")
    assert left(tmp_path / "data") == []


def test_an_archive_cut_between_two_files_is_named(tmp_path, publisher):
    whole = archive()
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        starts = [member.offset for member in tar][1:]
    for start in starts:
        publisher(whole[:start])
        with pytest.raises(DataError, match="cannot be unpacked: its end is missing"):
            medlab.load("hippocampus", root=tmp_path / "data")
        assert left(tmp_path / "data") == []


def test_without_a_network_it_says_where_it_looked(tmp_path):
    with pytest.raises(DataError, match="hippocampus is not at .*Task04_Hippocampus.tar"):
        medlab.load("hippocampus", root=tmp_path, download=False)
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        medlab.load("hippocampus", root=tmp_path, size=32)


# The real set


def test_the_real_volumes(real_data):
    cohort = medlab.load("hippocampus", root=real_data, download=False)
    assert cohort.images.shape == (133, 1, 48, 64, 48)
    assert cohort.masks.unique().tolist() == [0, 1, 2]
    assert cohort.spacing == (1.0, 1.0, 1.0)
    assert cohort.images.isfinite().all()
    counted = [
        (np.asarray(nibabel.load(path).dataobj) > 0).sum()
        for path in sorted((real_data / "hippocampus" / "labelsTr").glob("*.nii.gz"))
    ]
    assert ((cohort.masks > 0).sum((1, 2, 3)).numpy() == counted).all()  # no labelled voxel lost
    parts = cohort.split()
    assert sum(map(len, parts)) == 133
    affines = [
        nibabel.load(path).affine for path in (real_data / "hippocampus" / "imagesTr").glob("*")
    ]
    assert all((affine[:3, :3] == np.eye(3)).all() for affine in affines)  # as the card says
    assert {tuple(affine[:3, 3]) for affine in affines} == {(0, 0, 0), (1, 1, 1)}
