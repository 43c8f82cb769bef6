"""Contrast agent against SciPy's integrals, closed forms and the published shares."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from medlab.errors import DataError
from medlab.simulate import kinetics


def blood(t):
    """Parker's function, written out anew: two Gaussians and a wave that fades."""
    first = 0.809 * stats.norm(0.17046, 0.0563).pdf(t)
    second = 0.330 * stats.norm(0.365, 0.132).pdf(t)
    return first + second + 1.050 * np.exp(-0.1685 * t) / (1 + np.exp(-38.078 * (t - 0.483)))


def test_plasma_is_parkers_blood_without_cells():
    t = np.linspace(0, 10, 101)
    assert kinetics.plasma(t) * (1 - 0.42) == pytest.approx(blood(t))
    assert kinetics.plasma([-1.0, -0.01]) == pytest.approx([0, 0])


@pytest.mark.parametrize(("k_trans", "k_ep"), [(0.05, 0.1), (0.25, 0.8), (1.0, 6.0)])
def test_tissue_is_toftss_integral(k_trans, k_ep):
    t = np.array([0.0, 0.3, 1.0, 2.5, 7.75, 14.0])
    want = [
        integrate.quad(
            lambda u, at=at: k_trans * blood(u) / 0.58 * np.exp(-k_ep * (at - u)),
            0,
            at,
            points=[p for p in (0.17, 0.365, 0.483, 1) if p < at],
            limit=200,
        )[0]
        for at in t
    ]
    got = kinetics.tofts(t, k_trans=k_trans, k_ep=k_ep)
    assert got == pytest.approx(want, rel=2e-3, abs=1e-6)


def test_tissue_takes_any_shape_and_follows_the_plasma_where_exchange_is_fast():
    t = torch.linspace(2, 8, 12).reshape(3, 4)
    got = kinetics.tofts(t, k_trans=0.3 * 20, k_ep=20)
    assert got.shape == (3, 4)
    assert got == pytest.approx(0.3 * kinetics.plasma(t), rel=0.02)


@pytest.mark.parametrize(
    ("minutes", "rates", "said"),
    [
        ([1.0], {"k_trans": 0.0, "k_ep": 1.0}, "k_trans must be positive"),
        ([1.0], {"k_trans": 1.0, "k_ep": -1.0}, "k_ep must be positive"),
        ([1.0], {"k_trans": 1.0, "k_ep": 21.0}, "up to 20"),
        ([-0.1, 1.0], {"k_trans": 1.0, "k_ep": 1.0}, "0 … 15 minutes"),
        ([1.0, 15.1], {"k_trans": 1.0, "k_ep": 1.0}, "got 1 … 15.1"),
        ([np.nan], {"k_trans": 1.0, "k_ep": 1.0}, "0 … 15 minutes"),
    ],
)
def test_arguments_out_of_range_are_named(minutes, rates, said):
    with pytest.raises(DataError, match=said):
        kinetics.tofts(minutes, **rates)


@pytest.fixture(scope="module")
def many():
    return kinetics.breast_curves(3000, seed=1)


def test_shares_are_those_of_kuhl(many):
    assert many.labels.float().mean() == pytest.approx(101 / 266, abs=0.03)
    for label, published in ((1, (8.9, 33.6, 57.4)), (0, (83.0, 11.5, 5.5))):
        kinds = many.kinds[many.labels == label]
        found = [100 * (kinds == kind).float().mean().item() for kind in (1, 2, 3)]
        assert found == pytest.approx(published, abs=3)


def test_kinds_rise_stay_and_fade_between_two_and_six_minutes():
    ends = {kind: [] for kind in (1, 2, 3)}
    for kind, facts in enumerate(kinetics.KINDS, start=1):
        for k_ep in facts["k_ep"]:
            two, six = kinetics.tofts([2.0, 6.0], k_trans=0.1, k_ep=k_ep)
            ends[kind].append(six / two - 1)
    assert min(ends[1]) > 0.10
    assert -0.10 < min(ends[2]) < max(ends[2]) < 0.10
    assert max(ends[3]) < -0.10


def test_noise_is_eight_per_cent_before_contrast(many):
    before = many.enhancement[:, 0]
    assert before.mean() == pytest.approx(0, abs=0.5)
    assert before.std() == pytest.approx(8, rel=0.05)


def test_padding_is_zero_and_times_are_those_of_the_sites(many):
    assert (many.minutes[:, 0] == 0).all()
    clocks = {interval: (interval, first) for interval, first in kinetics.SITES.values()}
    for i in range(0, len(many.labels), 37):
        length = int(many.lengths[i])
        times = many.minutes[i, :length]
        interval, first = clocks[round(float(times[2] - times[1]), 2)]
        assert times[1:] == pytest.approx(first + interval * np.arange(length - 1))
        assert 5 - interval < times[-1] <= 9
        assert not many.minutes[i, length:].any() and not many.enhancement[i, length:].any()
    assert many.enhancement.shape[1] == many.lengths.max()


def test_a_patient_has_one_clock(many):
    assert len(set(many.patients)) == 3000 < len(many.patients) < 4500
    for name in np.unique(many.patients)[::50]:
        mine = np.flatnonzero(many.patients == name)
        assert torch.equal(many.minutes[mine[0]], many.minutes[mine[-1]])


def test_late_images_tell_the_diagnosis_only_where_they_are_asked_for(many):
    def gap(curves):
        late = curves.minutes.amax(1) > 7.5
        return late[curves.labels == 1].float().mean() - late[curves.labels == 0].float().mean()

    assert abs(gap(many)) < 0.06
    assert gap(kinetics.breast_curves(1000, seed=1, late="suspicious")) > 0.5


def test_patient_k_does_not_depend_on_how_many_there_are(many):
    few = kinetics.breast_curves(20, seed=1)
    n, width = few.enhancement.shape
    assert torch.equal(few.enhancement, many.enhancement[:n, :width])
    assert torch.equal(few.labels, many.labels[:n])
    assert not torch.equal(few.labels, kinetics.breast_curves(20, seed=2).labels)


@pytest.mark.parametrize("options", [{"patients": 0}, {"patients": 3, "late": "never"}])
def test_what_cannot_be_drawn_is_refused(options):
    with pytest.raises(DataError, match="expected patients ≥ 1 and late"):
        kinetics.breast_curves(**options)


def test_one_lesion_in_seven_is_measured_in_the_wrong_place_once(many):
    lost = []
    for v, length in zip(many.enhancement.numpy(), many.lengths.tolist(), strict=True):
        inside = v[2 : length - 1]
        around = (v[1 : length - 2] + v[3:length]) / 2
        lost.append((inside < 0.75 * around - 16).sum() / len(inside))
    # Of the images inside a curve, the share that misses a quarter and twice the noise
    assert 0.5 / 7 < np.mean(lost) * many.lengths.float().mean().item() < 1 / 7


def test_patients_differ_in_gain_and_their_lesions_share_it(many):
    peak = many.enhancement.amax(1).log()
    pairs = [np.flatnonzero(many.patients == name) for name in np.unique(many.patients)]
    pairs = np.array([pair for pair in pairs if len(pair) == 2])
    assert np.corrcoef(*peak[pairs].T)[0, 1] > 0.2
