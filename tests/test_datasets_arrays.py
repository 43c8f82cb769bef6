"""Arrays from memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medlab import from_arrays
from medlab.errors import DataError

RNG = np.random.default_rng(0)


def test_arrays_of_an_npz_file_become_a_cohort(tmp_path):
    images = RNG.integers(0, 256, (6, 8, 9), dtype=np.uint8)
    labels = np.array([[0], [1], [0], [1], [1], [0]])
    np.savez(tmp_path / "cells.npz", x=images, y=labels, who=np.arange(6) // 2)
    with np.load(tmp_path / "cells.npz") as npz:
        cohort = from_arrays(npz["x"], labels=npz["y"], patient=npz["who"], classes=["fit", "ill"])
    assert np.array_equal(cohort.images[:, 0].numpy(), images)
    assert cohort.labels.tolist() == labels[:, 0].tolist()
    assert cohort.patients.tolist() == ["0", "0", "1", "1", "2", "2"]
    assert cohort.classes == ("fit", "ill")
    assert cohort.card.task == "binary"
    assert cohort.card.value_range == (0, 255)
    assert len(cohort.split()) == 3


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((4, 8, 9), (4, 1, 8, 9)),
        ((4, 8, 9, 3), (4, 3, 8, 9)),
        ((4, 8, 9, 1), (4, 1, 8, 9)),
        ((4, 3, 8, 9), (4, 3, 8, 9)),
        ((4, 1, 5, 8, 9), (4, 1, 5, 8, 9)),
        ((4, 5, 8, 9, 1), (4, 1, 5, 8, 9)),
        ((4, 5, 8, 9), None),
        ((4, 3, 8, 3), None),
        ((4, 8), None),
        ((4, 2, 2, 2, 2, 2), None),
    ],
)
def test_shapes(shape, want):
    images = RNG.random(shape).astype(np.float32)
    if want is None:
        with pytest.raises(DataError, match="one axis C of 1 or 3 colours"):
            from_arrays(images, labels=None, patient=range(4))
        return
    cohort = from_arrays(images, labels=None, patient=range(4))
    assert cohort.images.shape == want
    moved = images.reshape(want) if want[1] == 1 or shape == want else np.moveaxis(images, -1, 1)
    assert np.array_equal(cohort.images.numpy(), moved)


def test_types_of_grey_level():
    levels = RNG.integers(0, 4000, (3, 4, 4))
    for given, want in (
        (levels.astype(np.uint16), torch.float32),
        (levels * 10, torch.float32),
        (levels / 4000, torch.float32),
        (torch.from_numpy(levels), torch.float32),
    ):
        cohort = from_arrays(given, labels=None, patient="abc")
        assert cohort.images.dtype == want
        assert np.allclose(cohort.images[:, 0].numpy(), np.asarray(given))
    odd = (1 << 30) + 1
    for bad in (np.full((3, 4, 4), np.nan), np.full((3, 4, 4), "x"), np.full((3, 4, 4), odd)):
        with pytest.raises(DataError, match="grey levels"):
            from_arrays(bad, labels=None, patient="abc")


def test_labels_of_every_form():
    images, who = (
        np.zeros((4, 5, 5), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None],
        "abcd",
    )

    def read(labels, **options):
        return from_arrays(images, labels=labels, patient=who, **options)

    assert read(["ill", "fit", "ill", "fit"]).labels.tolist() == [1, 0, 1, 0]
    assert read(np.array([2.0, 0.0, 1.0, 2.0])).classes == ("0", "1", "2")
    assert read([0, 0, 1, 1], classes=("a", "b", "c")).num_classes == 3  # one has no image
    assert read([True, False, True, True], classes=("no", "yes")).labels.tolist() == [1, 0, 1, 1]
    assert read([5, 7, 5, 7], classes={5: "five", 7: "seven"}).classes == ("five", "seven")
    many = read([[0, 1], [1, 1], [0, 0], [1, 0]], classes=("mass", "cyst"))
    assert many.card.task == "multilabel"
    assert many.labels.dtype == torch.float32
    with pytest.warns(UserWarning, match="Patients are unknown"):
        from_arrays(images, labels=[0, 1, 0, 1], patient=None)
    for labels, message in (
        ([0, 1, 2, 3], "not among the classes"),
        ([0, 1, 0], "labels has 3 entries for 4 images"),
        ([0, None, 1, 0], "1 images have no label"),
        ([0, 0, 0, 0], "needs two classes|b"),
        (np.zeros((4, 1, 1)), r"must be \(N,\)"),
        (5, r"must be \(N,\)"),
    ):
        if message == "needs two classes|b":
            assert read(labels, classes=("a", "b")).labels.tolist() == labels
            continue
        with pytest.raises(DataError, match=message):
            read(labels, classes=("a", "b"))
    with pytest.raises(DataError, match="1 of 4 entries of patients are missing"):
        from_arrays(images, labels=None, patient=["a", "b", None, "c"])
    masks = np.zeros((4, 5, 5), np.uint8)
    cut = from_arrays(images, labels=None, patient=who, masks=masks, classes=("none", "mass"))
    assert cut.card.task == "segmentation"
    assert cut.num_classes == 2
