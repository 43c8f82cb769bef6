import dataclasses
import io
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medlab.cohort import Cohort, DataCard, leaks, split_patients, to_float
from medlab.errors import DataError

CARD = DataCard(name="toy", title="Toy", task="binary", classes=("normal", "pneumonia"))
PARTS = ("train", "val", "test")


def smooth_pictures(n, size=28, seed=0):
    """Random smooth pictures: as alike to each other as chests are, in the low frequencies."""
    rng = np.random.default_rng(seed)
    small = torch.as_tensor(rng.normal(size=(n, 1, 9, 9)), dtype=torch.float32)
    pictures = torch.nn.functional.interpolate(small, size=size, mode="bicubic")
    common = torch.linspace(0, 4, size)[None, None, :, None]
    pictures = pictures + common
    low, high = pictures.amin((1, 2, 3), True), pictures.amax((1, 2, 3), True)
    return ((pictures - low) / (high - low) * 255).round().to(torch.uint8)


def toy(n=12, **fields):
    return Cohort(images=smooth_pictures(n), card=CARD, **fields)


def test_random_layouts_never_give_an_empty_or_overlapping_part():
    rng = np.random.default_rng(1)
    for layout in range(2_000):
        groups = int(rng.integers(3, 25))
        sizes = rng.integers(1, rng.integers(2, 40), size=groups)
        patients = np.repeat(np.arange(groups), sizes)
        kind = layout % 4
        labels = {
            0: rng.integers(0, 2, len(patients)),
            1: rng.integers(0, 2, groups)[patients],
            2: rng.integers(0, 5, len(patients)),
            3: (rng.random((len(patients), 3)) < 0.2).astype(int),
        }[kind]
        shares = rng.dirichlet([4, 2, 2])
        parts = split_patients(patients, labels, fractions=tuple(shares), seed=layout)
        members = [set(patients[parts == p]) for p in PARTS]
        assert all(members), (layout, sizes)
        assert sum(map(len, members)) == groups, "a patient stands in two parts"


def test_split_hits_its_fractions_and_balances_classes_and_patient_sizes():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 5, 800)
    patients = np.repeat(np.arange(800), sizes)
    labels = np.repeat(rng.random(800) < 0.3, sizes).astype(int)
    parts = split_patients(patients, labels, fractions=(0.6, 0.2, 0.2))
    for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
        here = parts == part
        assert here.mean() == pytest.approx(share, abs=0.005)
        assert labels[here].mean() == pytest.approx(labels.mean(), abs=0.01)
        mean_size = here.sum() / len(np.unique(patients[here]))
        assert mean_size == pytest.approx(sizes.mean(), rel=0.1)


def test_every_part_gets_every_class_that_three_patients_have():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = rng.permutation([1] * 3 + [0] * 40)
        parts = split_patients(np.arange(43), labels, seed=seed)
        assert all(labels[parts == p].sum() == 1 for p in PARTS)


def test_split_depends_on_the_seed_alone():
    patients = np.arange(100) // 2
    one, again, other = (split_patients(patients, seed=s) for s in (0, 0, 1))
    assert (one == again).all() and (one != other).any()


@pytest.mark.parametrize(
    "patients, fractions, word",
    [
        (["a", "a", "b"], (0.7, 0.15, 0.15), "at least three patients"),
        (["a", "b", "c"], (0.7, 0.2, 0.2), "sum to 1"),
        (["a", "b", "c"], (1.0, 0.0, 0.0), "positive"),
    ],
)
def test_impossible_splits_are_refused(patients, fractions, word):
    with pytest.raises(DataError, match=word):
        split_patients(np.array(patients), fractions=fractions)


def test_official_split_wins_unless_taken_away():
    official = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    cohort = toy(official=official, patients=np.arange(12))
    assert [len(p) for p in cohort.split()] == [6, 3, 3]
    assert [len(p) for p in dataclasses.replace(cohort, official=None).split()] == [8, 2, 2]
    with pytest.raises(DataError, match="no patient ids"):
        toy().split()


def test_indexing_keeps_every_field_together():
    boxes = [torch.tensor([[0.0, 0, 1, 1]]).repeat(i % 3, 1) * (i + 1) for i in range(12)]
    cohort = toy(
        labels=torch.arange(12) % 2,
        boxes=boxes,
        patients=np.arange(12),
        masks=torch.zeros(12, 28, 28, dtype=torch.uint8),
        extras={"dose": np.arange(12.0)},
    )
    mask = np.zeros(12, bool)
    mask[[1, 4, 7]] = True
    for index in (mask, torch.as_tensor(mask), [1, 4, 7], np.array([1, 4, 7]), slice(1, 8, 3)):
        part = cohort[index]
        assert part.patients.tolist() == ["1", "4", "7"]
        assert part.extras["dose"].tolist() == [1, 4, 7]
        assert part.labels.tolist() == [1, 0, 1]
        assert [len(b) for b in part.boxes] == [1, 1, 1]
        assert torch.equal(part.images, cohort.images[[1, 4, 7]])
    assert len(cohort[3]) == 1 and cohort[-1].patients.tolist() == ["11"]
    assert len(cohort[[]]) == 0
    with pytest.raises(IndexError):
        cohort[12]
    with pytest.raises(IndexError, match="boolean"):
        cohort[np.ones(5, bool)]
    for strange in (True, np.ones((2, 2), int)):
        with pytest.raises(IndexError, match="position, a slice, a list or a mask"):
            cohort[strange]


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"labels": torch.zeros(3)}, "one per image"),
        ({"labels": torch.full((12,), 2)}, "whole numbers in 0…1"),
        ({"labels": torch.full((12,), 0.5)}, "labels must be whole numbers.*got 0.5"),
        ({"labels": torch.zeros(12, 2)}, "class numbers"),
        ({"patients": ["a"]}, "one per image"),
        ({"masks": torch.zeros(12, 14, 14)}, "masks must be"),
        ({"official": ["train"] * 11 + ["dev"]}, "official must be"),
        ({"extras": {"dose": np.zeros(3)}}, "dose has 3"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, word):
    with pytest.raises(DataError, match=word):
        toy(**fields)
    with pytest.raises(DataError, match="images\\[:, None\\]"):
        Cohort(images=torch.zeros(3, 8, 8), card=CARD)
    with pytest.raises(DataError, match="task must be"):
        DataCard(name="x", title="x", task="classify")


def test_to_float_scales_bytes_only():
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )
    assert to_float(torch.tensor([-1000, 40], dtype=torch.int16)).tolist() == [-1000, 40]


def jpeg(a):
    buffer = io.BytesIO()
    Image.fromarray(a).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


def resized(a, edge=20):
    small = Image.fromarray(a).resize((edge, edge), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(a.shape[::-1], Image.Resampling.BILINEAR))


CHANGES = {
    "flipped": lambda a: a[:, ::-1].copy(),
    "turned": lambda a: np.rot90(a).copy(),
    "flipped and turned": lambda a: np.rot90(a[::-1]).copy(),
    "re-encoded": jpeg,
    "resized": resized,
    "darkened": lambda a: (a * 0.8 + 20).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_in_another_part_is_found_and_nothing_else(change):
    pictures = smooth_pictures(700)
    train, val, test = (
        Cohort(images=p.clone(), card=CARD) for p in pictures.split((500, 100, 100))
    )
    copied = [3, 77, 200, 499]
    for place, source in enumerate(copied):
        copy = CHANGES[change](pictures[source, 0].numpy())
        test.images[place, 0] = torch.as_tensor(np.array(copy))
    report = leaks(train, val, test)
    assert report and not report.exact and not report.patients
    assert {pair[:4] for pair in report.near} == {
        ("train", source, "test", place) for place, source in enumerate(copied)
    }


def test_exact_duplicates_and_shared_patients_are_found():
    cohort = toy(
        40, patients=np.arange(40) // 2, official=["train"] * 21 + ["val"] * 9 + ["test"] * 10
    )
    cohort.images[30] = cohort.images[5]
    report = cohort.leaks()
    assert report.exact == (("train", 5, "test", 0),)
    assert report.patients == (("10", ("train", "val")),)
    assert "exact duplicates across parts: 1" in str(report)
    clean = toy(60, patients=np.arange(60) // 2)
    assert not clean.leaks() and "no leak found" in str(clean.leaks())


def test_patients_without_names_are_not_said_to_stay_apart():
    nameless = toy(12, official=["train"] * 6 + ["val"] * 3 + ["test"] * 3).leaks()
    assert not nameless and not nameless.named
    assert "no leak found" not in str(nameless)
    assert "0 known, but not every part names its patients" in str(nameless)
    half = leaks(toy(6, patients=list("aabbcc")), toy(6), toy(6, patients=list("ccddee")))
    assert half.patients == (("c", ("train", "test")),) and "1 known, but" in str(half)


def test_leaks_refuses_parts_of_different_shape():
    other = Cohort(images=smooth_pictures(5, size=32), card=CARD)
    with pytest.raises(DataError, match="one shape"):
        leaks(toy(), other)


def test_volumes_split_and_leak_like_pictures():
    volumes = smooth_pictures(60 * 8).reshape(60, 1, 8, 28, 28)
    volumes[50] = volumes[2].flip(-1)
    cohort = Cohort(
        images=volumes, card=CARD, official=["train"] * 40 + ["val"] * 5 + ["test"] * 15
    )
    assert [pair[:4] for pair in cohort.leaks().near] == [("train", 2, "test", 5)]


def test_pneumoniamnist_has_eight_validation_images_copied_from_training(real_data):
    with np.load(real_data / "medmnist" / "pneumoniamnist.npz") as z:
        images = np.concatenate([z[f"{p}_images"] for p in PARTS])[:, None]
        official = np.repeat(PARTS, [len(z[f"{p}_images"]) for p in PARTS])
    report = Cohort(images=images, card=CARD, official=official).leaks()
    assert {first for first, *_ in report.exact} == {"train"}
    assert len({(part, place) for _, _, part, place in report.exact}) == 8
    assert {part for _, _, part, _ in report.exact} == {"val"}


def test_summary_names_what_a_reader_wants():
    cohort = toy(labels=torch.arange(12) % 2, patients=np.arange(12) // 3, sites=["A"] * 12)
    text = cohort.summary()
    assert "12 images 1×28×28" in text and "patients: 4" in text
    assert "normal (6 images), pneumonia (6 images)" in text and "A (12 images)" in text


# One patient, one identifier


ONE = [1, 1.0, np.int64(1), np.float32(1), "1", "1.0", " 1 ", b"1", np.str_("1.00"), Fraction(1)]


@pytest.mark.parametrize("value", ONE, ids=repr)
def test_a_patient_is_one_in_every_type(value):
    kinds = (list, tuple, lambda ids: np.array(ids, object), pd.Series, pd.Index)
    for kind in kinds:
        assert toy(3, patients=kind([value, "a", "b"])).patients.tolist() == ["1", "a", "b"]
    shared = leaks(toy(3, patients=[value, "x", "y"]), toy(3, patients=["1", "u", "v"]))
    assert shared.patients == (("1", ("train", "val")),)
    parts = split_patients(np.array([value, "1", *"abcdefg"], object))
    assert parts[0] == parts[1]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, 3], dtype="Int64"),
        pd.Series([1.0, 2, 3]),
        pd.Series(["1", "2", "3"], dtype="string"),
        pd.Series(["1", "2", "3"], dtype="category"),
        pd.Series([1, 2, 3], index=[7, 8, 9]),
        torch.tensor([1, 2, 3]),
        torch.tensor([1.0, 2, 3]),
        np.array([1, 2, 3], np.uint8),
        np.array([b"1", b"2", b"3"]),
        range(1, 4),
    ],
    ids=lambda column: f"{type(column).__name__} {getattr(column, 'dtype', '')}",
)
def test_every_column_of_identifiers_reads_alike(column):
    assert toy(3, patients=column, sites=column).patients.tolist() == ["1", "2", "3"]
    assert toy(3, sites=column).sites.tolist() == ["1", "2", "3"]


def test_names_that_differ_stay_different():
    names = ["1", "01", "1.5", "1.50", "-1", "1.0.2", "A1", "a1", "1e0", "10", "0.1", "x.0"]
    assert toy(patients=names).patients.tolist() == names
    assert toy(2, patients=["Mu\u0308ller", "M\u00fcller"]).patients.tolist() == ["M\u00fcller"] * 2
    assert toy(2, patients=[10**30, 2**53 + 1]).patients.tolist() == [str(10**30), str(2**53 + 1)]


@pytest.mark.parametrize("field", ["patients", "sites"])
@pytest.mark.parametrize(
    "missing",
    [None, float("nan"), np.nan, pd.NA, pd.NaT, "", "  ", "nan", "NaN", "None", "<NA>", b""],
    ids=repr,
)
def test_a_missing_identifier_is_refused(field, missing):
    values = np.array(["a", missing, missing], object)
    with pytest.raises(DataError, match=rf"2 of 3 entries of {field} are missing.*at image 1"):
        toy(3, **{field: values})
    if field == "patients":
        with pytest.raises(DataError, match="missing"):
            split_patients(np.array([*"abc", missing], object))


def test_identifiers_in_two_columns_are_refused():
    with pytest.raises(DataError, match=r"one list.*got shape \(3, 2\)"):
        toy(3, patients=np.zeros((3, 2)))


@pytest.mark.parametrize("seed", [-1, 1.5, float("nan"), float("inf"), None, "0"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(DataError, match="seed must be a whole number"):
        toy(patients=np.arange(12)).split(seed=seed)


# Labels, masks and boxes


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "none"])
def test_labels_in_one_column_are_class_numbers(task):
    """MedMNIST stores (N, 1)."""
    card = DataCard(name="x", title="x", task=task, classes=("a", "b"))
    for labels in (np.arange(6)[:, None] % 2, torch.arange(6.0)[:, None] % 2):
        cohort = Cohort(images=smooth_pictures(6), card=card, labels=labels)
        assert cohort.labels.tolist() == [0, 1] * 3 and cohort.labels.dtype == torch.int64
    findings = DataCard(name="x", title="x", task="multilabel", classes=("a",))
    one = Cohort(images=smooth_pictures(6), card=findings, labels=np.arange(6)[:, None] % 2)
    assert one.labels.shape == (6, 1) and one.num_classes == 1


ORGANS = DataCard(
    name="organs", title="Organs", task="segmentation", classes=("background", "kidney", "cyst")
)


def organs(masks=None, size=(8, 10), card=ORGANS, **fields):
    if masks is None:
        masks = torch.arange(4 * int(np.prod(size))).reshape(4, *size) % 10 // 8
    return Cohort(images=torch.zeros(4, 1, *size), masks=masks, card=card, **fields)


@pytest.mark.parametrize("size", [(8, 10), (6, 8, 10)])
def test_a_segmentation_cohort_needs_no_labels(size):
    cohort = organs(size=size, patients=range(4))
    assert cohort.num_classes == 3 and cohort.masks.dtype == torch.uint8
    what = "voxels" if len(size) == 3 else "pixels"
    assert f"background (80.00% of {what}), kidney (20.00% of {what}), cyst (0.00%" in str(cohort)
    assert sum(map(len, cohort.split())) == 4
    bare = dataclasses.replace(ORGANS, classes=())
    assert "structure 1 (20.00%" in organs(size=size, card=bare).summary()
    with pytest.raises(DataError, match="the card of organs names no classes"):
        _ = organs(size=size, card=bare).num_classes


@pytest.mark.parametrize(
    "kind", [torch.bool, torch.int16, torch.int64, torch.float32, np.uint16, np.float64, bool]
)
def test_whole_numbers_of_any_type_are_masks(kind):
    masks = np.zeros((4, 8, 10), int)
    masks[0, 2:4] = 1
    given = masks.astype(kind) if isinstance(kind, type) else torch.as_tensor(masks).to(kind)
    for m in (given, given[:, None]):
        cohort = organs(m)
        assert cohort.masks.dtype == torch.uint8 and (cohort.masks.numpy() == masks).all()


@pytest.mark.parametrize(
    "value, words",
    [
        (255, r"0…2 \(background, kidney, cyst\); got 0…255. If 255 means.*masks > 0"),
        (3, "whole numbers in 0…2.*got 0…3"),
        (-1, "got -1…0"),
        (0.5, "whole numbers.*got 0…0.5"),
        (float("nan"), "got nan"),
        (float("inf"), "got 0…inf"),
    ],
)
def test_mask_values_that_are_no_structures_are_refused(value, words):
    masks = torch.zeros(4, 8, 10)
    masks[1, 2, 3] = value
    with pytest.raises(DataError, match=words):
        organs(masks)
    if not 0 <= value < 256 or value % 1:
        with pytest.raises(DataError):
            organs(masks, card=CARD)


@pytest.mark.parametrize(
    "boxes, words",
    [
        ([[[0, 0, 4, 4]], [], [[5, 5, 5, 9]]], "x1 > x0 and y1 > y0.*; image 2 has"),
        ([[[0, 0, 4, 4]], [[10, 10, 3, 3]], []], "x, y, x \\+ width, y \\+ height"),
        ([[[0, 0, 4, float("nan")]], [], []], "image 0 has"),
        ([[[0, 0, 4, float("inf")]], [], []], "image 0 has"),
        ([[0, 0, 4, 4], [], []], r"one \(M, 4\) tensor an image.*image 0 has \[0"),
        ([[[0, 0, 4]], [], []], r"image 0 has \[\[0.0, 0.0, 4.0\]\]"),
        ([[[0, 0, 4, 4]], []], "boxes has 2 entries"),
    ],
)
def test_boxes_that_are_none_are_refused(boxes, words):
    with pytest.raises(DataError, match=words):
        toy(3, boxes=boxes)


def test_boxes_of_any_kind_become_float_tensors():
    cohort = toy(3, boxes=[np.array([[0, 0, 4, 4]]), [], torch.zeros(0, 4)])
    assert [tuple(box.shape) for box in cohort.boxes] == [(1, 4), (0, 4), (0, 4)]
    assert {box.dtype for box in cohort.boxes} == {torch.float32}


# Leaks: class numbers, and padded pictures


def named(classes, n=6, seed=0):
    card = DataCard(name="x", title="x", task="multiclass", classes=classes)
    return Cohort(
        images=smooth_pictures(n, seed=seed), card=card, patients=np.arange(n) + 100 * seed
    )


def test_class_numbers_that_disagree_are_a_leak():
    """A folder without one class shifts the numbers of the others."""
    train = named(("benign", "malignant", "normal"))
    test = named(("benign", "normal"), seed=1)
    found = leaks(train, test)
    assert found and dict(found.classes) == {"train": train.classes, "val": test.classes}
    assert "one class number, different classes" in str(found) and "'malignant'" in str(found)
    for other in (
        ("normal", "malignant", "benign"),
        ("Benign", "malignant", "normal"),
        ("normal",),
    ):
        assert leaks(train, named(other, seed=1)).classes
        assert leaks(train, named(train.classes, seed=1), named(other, seed=2)).classes


def test_class_numbers_that_agree_are_none():
    train = named(("a", "b", "c"))
    for other in (("a", "b", "c"), ("a", "b"), ()):  # a class that lacks at the end shifts nothing
        assert not leaks(train, named(other, seed=1)).classes


def textures(n, seed):
    """Pictures of different sizes and like texture, none a copy of another."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        h, w = rng.integers(20, 60, 2)
        y, x = np.mgrid[:h, :w]
        waves = [12 * np.sin(v / rng.uniform(2, 6) + rng.uniform(0, 6)) for v in (x, y)]
        picture = 180 + sum(waves) + rng.normal(0, 8, (h, w))
        yield np.clip(picture, 0, 255).astype(np.uint8)


def letterboxed(picture, size=48, margin=0):
    """As from_folder(size=…) does it."""
    height, width = (round(edge * size / max(picture.shape)) for edge in picture.shape)
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    small = np.asarray(image)
    out = np.full((size, size), margin, np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


@pytest.mark.parametrize("margin", [0, 255, 127])
def test_padding_alone_makes_no_two_pictures_alike(margin):
    pictures = np.stack([letterboxed(p, margin=margin) for p in textures(400, seed=0)])
    for images in (
        torch.as_tensor(pictures)[:, None],
        torch.as_tensor(pictures)[:, None].repeat(1, 3, 1, 1),
        torch.as_tensor(pictures)[:, None].float() * 4 - 1024,
    ):
        parts = [Cohort(images=some, card=CARD) for some in images.split((280, 60, 60))]
        assert not leaks(*parts).near


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_of_a_padded_picture_is_found(change):
    pictures = np.stack([letterboxed(p) for p in textures(400, seed=1)])
    for place, source in enumerate(range(0, 280, 14)):
        options = {"edge": 40} if change == "resized" else {}
        pictures[280 + place] = CHANGES[change](pictures[source], **options)
    images = torch.as_tensor(pictures)[:, None]
    parts = [Cohort(images=some, card=CARD) for some in images.split((280, 60, 60))]
    found = {pair[:4] for pair in leaks(*parts).near}
    true = {("train", source, "val", place) for place, source in enumerate(range(0, 280, 14))}
    assert found == true


def test_frames_that_are_not_square_and_pictures_of_one_value_are_compared_too():
    images = smooth_pictures(60)[:, :, :20]
    images[:, :, :, :6] = 0
    images[50] = images[2].flip(-1)
    images[40:44] = 7
    parts = [Cohort(images=some, card=CARD) for some in images.split((45, 15))]
    found = leaks(*parts)
    assert [pair[:4] for pair in found.near] == [("train", 2, "val", 5)] and not found.exact
