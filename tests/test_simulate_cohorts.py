"""The named cohorts: same seed, same bytes; truth that fits the picture; no way to cheat."""

import numpy as np
import pytest
import torch
from scipy import stats

from medlab import simulate
from medlab.errors import DataError
from medlab.simulate import _thorax as thorax
from medlab.simulate._streams import stream


@pytest.fixture(scope="module")
def cohort():
    return simulate.chest_xray(n=240, seed=3)


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one(cohort):
    for n in (1, 13):
        small = simulate.chest_xray(n=n, seed=3)
        assert torch.equal(small.images, cohort.images[:n])
        assert torch.equal(small.masks, cohort.masks[:n])
        assert torch.equal(small.labels, cohort.labels[:n])
        assert (small.patients == cohort.patients[:n]).all()
        for name, values in small.extras.items():
            assert torch.equal(values, cohort.extras[name][:n]), name


def test_another_seed_gives_other_patients(cohort):
    other = simulate.chest_xray(n=24, seed=4)
    assert not any(torch.equal(a, b) for a in other.images for b in cohort.images[:24])


def test_the_number_of_threads_changes_nothing(cohort):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(simulate.chest_xray(n=20, seed=3).images, cohort.images[:20])
    finally:
        torch.set_num_threads(threads)


def test_nobody_else_is_left_with_one_thread():
    threads = torch.get_num_threads()
    simulate.chest_xray(n=2, seed=0)
    assert torch.get_num_threads() == threads


def test_what_the_cohort_holds(cohort):
    assert cohort.images.shape == (240, 1, 64, 64)
    assert cohort.images.dtype == torch.uint8
    assert cohort.classes == ("normal", "pneumonia")
    assert 0.3 < cohort.labels.float().mean() < 0.7
    assert len(np.unique(cohort.sites)) == 3
    assert cohort.spacing == pytest.approx((344 / 64, 344 / 64))
    counts = np.unique(cohort.patients, return_counts=True)[1]
    assert set(counts[:-1]) == {1, 2, 3, 4}
    for patient in np.unique(cohort.patients):
        rows = cohort.patients == patient
        assert len(set(cohort.labels[torch.from_numpy(rows)].tolist())) == 1
        assert len(set(cohort.sites[rows])) == 1


def test_masks_are_the_opacity_and_lie_in_the_lungs(cohort):
    ill = cohort.labels == 1
    assert not cohort.masks[~ill].any()
    assert (cohort.extras["severity"][~ill] == 0).all()
    assert (cohort.masks[ill].float().mean((1, 2)) > 0.003).all()
    inside = (cohort.masks[ill] * cohort.extras["lungs"][ill]).sum() / cohort.masks[ill].sum()
    assert inside > 0.9
    # Where the mask is, the ill are brighter than the healthy.
    mean_normal = cohort.images[~ill, 0].float().mean(0)
    brighter = [
        (image[mask > 0] - mean_normal[mask > 0]).mean()
        for image, mask in zip(cohort.images[ill, 0].float(), cohort.masks[ill], strict=True)
    ]
    assert np.mean(np.array(brighter) > 0) > 0.7


def test_the_picture_is_the_right_way_round(cohort):
    mean = cohort.images[cohort.labels == 0, 0].float().mean(0)
    assert mean[52:, 20:44].mean() > mean[20:36, 14:22].mean() + 30  # abdomen bright, lung dark
    for columns in (slice(14, 24), slice(40, 50)):  # each lung ends at its own diaphragm
        assert mean[55:60, columns].mean() > mean[24:36, columns].mean() + 30
    assert mean[30:44, 36:44].mean() > mean[30:44, 20:28].mean()  # heart to the patient's left
    assert mean[20:34, 30:34].mean() > mean[20:34, 46:50].mean() + 20  # mediastinum


@pytest.fixture(scope="module")
def many():
    return simulate.chest_xray(n=600, seed=11, size=32)


@pytest.mark.parametrize("fact", ["dose", "portable", "age", "fat", "yaw", "female", "breath"])
def test_no_fact_of_exposure_tells_the_label(fact, many):
    """Facts drawn apart from the label stay apart from it within each site."""
    value = many.extras[fact].float().clone()
    site = torch.tensor([sorted(set(many.sites)).index(s) for s in many.sites])
    for s in range(3):  # free of the site's mean, which prevalence may follow
        value[site == s] -= value[site == s].mean()
    _, first = np.unique(many.patients, return_index=True)
    r = np.corrcoef(value[first], many.labels[first])[0, 1]
    assert abs(r) < 3.5 / np.sqrt(len(first))


def test_the_letter_tells_nothing(many):
    """Corners alone: a letter is there for ill and healthy alike, within every site."""
    corners = many.images[:, 0, :6].float()
    left, right = corners[:, :, :8].amax((1, 2)), corners[:, :, -8:].amax((1, 2))
    for site in np.unique(many.sites):
        rows = torch.from_numpy(many.sites == site)
        r = np.corrcoef((right - left)[rows], many.labels[rows])[0, 1]
        assert abs(r) < 4.5 / np.sqrt(int(rows.sum()))


@pytest.mark.parametrize("size", [32, 50, 128])
def test_other_sizes_show_the_same_patients(size, cohort):
    other = simulate.chest_xray(n=4, seed=3, size=size)
    assert other.images.shape == (4, 1, size, size)
    small = torch.nn.functional.interpolate(other.images.float(), (32, 32), mode="area")
    same = torch.nn.functional.interpolate(cohort.images[:4].float(), (32, 32), mode="area")
    for a, b in zip(small, same, strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n is the number"),
        ({"n": 2.5}, "n is the number"),
        ({"n": 4, "size": 16}, "size is the side"),
        ({"n": 4, "size": 65}, "even"),
        ({"n": 4, "seed": -1}, "seed"),
        ({"n": 4, "seed": "x"}, "seed"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(DataError, match=words):
        simulate.chest_xray(**options)


def test_the_registry_makes_what_it_says():
    for name, entry in simulate.COHORTS.items():
        made = entry.make(n=3)
        assert made.card is entry.card
        assert entry.card.name == name
        assert entry.card.simulated
        assert any("clinical" in fault or "patients" in fault for fault in entry.card.faults)


def test_everyone_has_room_for_their_organs():
    """In 60 patients the lungs lie within the trunk, and every opacity finds lung to lie in."""
    rng = np.random.default_rng(0)
    chest, facts = thorax.build(
        *(rng.random((60, n)) for n in thorax.DRAWS), opacity=torch.ones(60)
    )
    directions = torch.from_numpy(rng.standard_normal((400, 3))).float()
    directions /= directions.norm(dim=1, keepdim=True)
    for side in "rl":
        lung = chest.solids[f"lung_{side}"]
        surface = lung.centre[:, None] + torch.einsum(
            "bij,bmj->bmi", lung.turn, directions * lung.semi[:, None]
        )
        dome = chest.solids[f"dome_{side}"].inside(surface)
        outside = ~chest.solids["trunk"].inside(surface) & ~dome
        assert outside.float().mean() < 0.02
    assert (chest.clouds["opacity"].mass.sum(1) > 0).all()
    assert facts["age"].min() >= 20
    assert facts["age"].max() <= 90


def test_streams_of_different_positions_are_different():
    places = [(), (0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0)]
    draws = {tuple(stream("a", "1", 0, *place).random(3)) for place in places}
    draws |= {tuple(stream(*name, 0).random(3)) for name in (("b", "1"), ("a", "2"))}
    draws.add(tuple(stream("a", "1", 1).random(3)))
    assert len(draws) == len(places) + 3


def test_breath_and_pose_have_nothing_to_do_with_the_body(many):
    _, first = np.unique(many.patients, return_index=True)
    for moment in ("breath", "yaw"):
        for body in ("age", "fat", "heart"):
            if (moment, body) != ("breath", "fat"):  # the obese breathe less deeply
                a, b = many.extras[moment][first], many.extras[body][first]
                r = stats.spearmanr(a, b)[0]
                limit = 3.5 / np.sqrt(len(first)) + 0.35 * ((moment, body) == ("breath", "heart"))
                assert abs(r) < limit, (moment, body)
