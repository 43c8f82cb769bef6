import io

import numpy as np
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
    for layout in range(10_000):
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


def test_official_split_wins_unless_declined():
    official = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    cohort = toy(official=official, patients=np.arange(12))
    assert [len(p) for p in cohort.split()] == [6, 3, 3]
    assert [len(p) for p in cohort.split(official=False)] == [8, 2, 2]
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
    with pytest.raises(DataError, match="mask of 5"):
        cohort[np.ones(5, bool)]


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"labels": torch.zeros(3)}, "one per image"),
        ({"labels": torch.full((12,), 2)}, "must lie in 0…1"),
        ({"labels": torch.full((12,), 0.5)}, "whole class numbers.*got 0.5"),
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


def resized(a):
    small = Image.fromarray(a).resize((20, 20), Image.Resampling.BILINEAR)
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
    with pytest.raises(DataError, match="cosine"):
        leaks(toy(), toy(), threshold=2)


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
