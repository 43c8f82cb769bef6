"""Spinal fluid in phase contrast: what it holds, its physics, and that no frame tells."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from scipy.stats import ks_2samp, kstest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medlab
from medlab.errors import DataError
from medlab.simulate import fluid
from medlab.simulate._streams import stream


def numbers(patient, seed=0):
    return fluid._patient(stream("csf_flow", fluid.CSF_FLOW.version, seed, patient))


def true_velocity(p, frames=16, size=96):
    axis = (torch.arange(size) + 0.5) * (fluid.FIELD / size) - fluid.FIELD / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    part, signal = fluid._anatomy(p, x, y)
    phase = 2 * math.pi * (p["start"] + p["cover"] * torch.arange(frames) / frames)
    return part, signal, fluid._velocity(p, part, x, y, phase)


def peaks(p):
    """cm/s of the fluid's pulse to the feet and to the head, the slow bulk flow left out."""
    part, _, velocity = true_velocity(p | {"bulk": 0.0, "cover": 1.0}, frames=64, size=48)
    pulse = velocity[:, (part == 1) | (part == 2)]
    return float(pulse.max()), float(-pulse.min())


def curves(cohort):
    """(n, 2, frames) mean velocity of the fluid in front and behind."""
    where = [(cohort.masks == k).float() for k in (1, 2)]
    velocity = cohort.images[:, 0]
    return torch.stack([(velocity * w).sum((2, 3)) / w.sum((2, 3)) for w in where], 1).numpy()


def following(pair):
    """Frames by which the second of two curves follows the first, by cross-correlation."""
    front, behind = (one - one.mean() for one in pair)
    match = correlate(np.tile(behind, 3), front, mode="valid")[: 2 * len(front)]
    around = np.arange(-4, 5) + len(front)
    return float(around[match[around].argmax()] - len(front))


@pytest.fixture(scope="module")
def cohort():
    return fluid.csf_flow(n=24, seed=3)


@pytest.fixture(scope="module")
def many():
    """400 patients of a seed on which nothing was chosen."""
    return fluid.csf_flow(n=400, seed=100)


# ---------------------------------------------------------------------------------- the cohort


def test_what_the_cohort_holds(cohort):
    assert cohort.images.shape == (24, 2, 16, 32, 32)
    assert cohort.images.dtype == torch.float32
    assert cohort.masks.shape == (24, 16, 32, 32)
    assert set(cohort.masks.unique().tolist()) <= set(range(len(fluid.PARTS) + 1))
    assert (cohort.masks == cohort.masks[:, :1]).all()
    assert cohort.classes == ("unobstructed", "obstructed")
    assert set(cohort.sites) <= set(fluid.SITES)
    assert len(set(cohort.patients)) == 24
    venc = cohort.extras["venc"].view(-1, 1, 1, 1)
    assert (cohort.images[:, 0].abs() <= venc * 1.0001).all()
    assert (cohort.images[:, 1] >= 0).all()
    assert cohort.card.simulated
    for name, values in cohort.extras.items():
        assert values.shape == (24,), name


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one(cohort):
    small = fluid.csf_flow(n=5, seed=3)
    assert torch.equal(small.images, cohort.images[:5])
    assert torch.equal(small.masks, cohort.masks[:5])
    assert torch.equal(small.labels, cohort.labels[:5])
    for name, values in small.extras.items():
        assert torch.equal(values, cohort.extras[name][:5]), name


def test_the_number_of_threads_changes_nothing(cohort):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(fluid.csf_flow(n=6, seed=3).images, cohort.images[:6])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_another_seed_gives_other_patients(cohort):
    other = fluid.csf_flow(n=8, seed=4)
    assert not set(other.extras["lag_ms"].tolist()) & set(cohort.extras["lag_ms"].tolist())


def test_other_sizes_show_the_same_patients(cohort):
    other = fluid.csf_flow(n=3, seed=3, size=64)
    small = torch.nn.functional.avg_pool2d(other.images[:, 1], 2)
    for a, b in zip(small, cohort.images[:3, 1], strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.9
    assert torch.equal(other.extras["lag_ms"], cohort.extras["lag_ms"][:3])


def test_it_is_loaded_by_name(tmp_path, cohort):
    loaded = medlab.load("csf_flow", n=4, seed=3, root=tmp_path)
    assert torch.equal(loaded.images, cohort.images[:4])
    assert loaded.images.shape == (4, 2, 16, 32, 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n is the number"),
        ({"n": 4, "size": 16}, "size is the side"),
        ({"n": 4, "seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(DataError, match=words):
        fluid.csf_flow(**options)


# --------------------------------------------------------------------------------------- physics


@pytest.mark.parametrize("patient", range(4))
def test_what_flows_down_in_a_cycle_flows_up_again(patient):
    """No net flow, and the stroke volume is that of the extras: the sum of velocity × area."""
    p = numbers(patient) | {"cover": 1.0}
    part, _, velocity = true_velocity(p, frames=256)
    fluid_flow = (velocity * ((part == 1) | (part == 2))).sum((1, 2))
    flow = fluid_flow * (fluid.FIELD / 96 / 10) ** 2  # ml/s
    seconds = 60 / p["rate"] / 256
    assert abs(float(flow.sum() * seconds)) < 1e-4
    assert float(flow.clamp_min(0).sum() * seconds) == pytest.approx(p["stroke"], rel=0.02)
    down, up = peaks(p)
    assert down > up
    assert 0.3 < (flow > 0).float().mean() < 0.5  # systole, about 40 %


def test_a_narrow_section_is_a_fast_one():
    p = numbers(0)
    open_, tight = (peaks(p | {"tonsil_mm": mm})[0] for mm in (0.0, 14.0))
    assert tight > 1.15 * open_


def test_bulk_flow_is_opposite_in_front_and_behind_and_adds_up_to_nothing():
    p = numbers(1) | {"cover": 1.0, "bulk": 0.25}
    part, _, velocity = true_velocity(p, frames=64)
    steady = velocity.mean(0)
    assert steady[part == 1].mean() > 0.05
    assert steady[part == 2].mean() < -0.03
    assert abs(float(steady[(part == 1) | (part == 2)].sum())) < 1e-2


def test_velocities_are_in_the_published_range():
    """Controls 1.2–3.3, Chiari I 1.8–4.8 cm/s down (Haughton et al., AJNR 24:169, 2003)."""
    down = np.array([peaks(numbers(k, seed=100))[0] for k in range(200)])
    assert 1.2 < np.quantile(down, 0.1) < np.quantile(down, 0.9) < 4.8
    assert 1.8 < np.median(down) < 3.3


def test_noise_of_tissue_at_rest_is_that_of_theory(cohort):
    """√2/π · VENC / SNR in muscle in front of the spine, once the steady offset is gone."""
    for image, site, venc in zip(cohort.images, cohort.sites, cohort.extras["venc"], strict=True):
        corner = image[:, :, -6:, :6]
        signal, velocity = corner[1].mean(0), corner[0]
        snr = signal * fluid.SITES[site]["snr"]
        spread = ((velocity - velocity.mean(0)) / (math.sqrt(2) / math.pi * venc / snr)).square()
        assert float(spread.sum() / (36 * 15)) ** 0.5 == pytest.approx(1, abs=0.12)


def test_in_air_every_velocity_is_as_likely(cohort):
    venc = cohort.extras["venc"].view(-1, 1, 1)
    values = (cohort.images[:, 0, :, 0, 14:18] / venc).flatten()  # in the throat
    assert kstest(values, "uniform", args=(-1, 2)).pvalue > 0.01


def test_arteries_are_wrapped_and_bright():
    made = fluid.csf_flow(n=12, seed=5, size=96)
    arteries = made.masks == 5
    assert made.images[:, 1][arteries].mean() > 1.5 * made.images[:, 1][made.masks == 3].mean()
    share = made.images[:, 0] / made.extras["venc"].view(-1, 1, 1, 1)
    assert share[arteries].min() < -0.95  # and again from the other end
    assert share[arteries].max() > 0.95


def test_moving_fluid_is_brighter(cohort):
    speed, bright = (
        torch.stack([cohort.images[i, c][:, cohort.masks[i, 0] == 1].mean(1) for i in range(24)])
        for c in (0, 1)
    )
    gain = [np.corrcoef(a.abs(), b)[0, 1] for a, b in zip(speed, bright, strict=True)]
    assert np.median(gain) > 0.7


# -------------------------------------------------------------------- the order, and no frame


@pytest.mark.parametrize("patient", range(3))
@pytest.mark.parametrize("cover", [1.0, 0.92])
def test_reversed_in_time_one_class_is_the_other(patient, cover):
    """Each cine has a twin of the other class, as likely, with its frames in reverse order."""
    p = numbers(patient) | {"cover": cover}
    twin = p | {name: -np.asarray(p[name]) for name in ("lag", "skew", "delay")}
    twin["start"] = -(p["start"] + cover * 15 / 16)
    part, signal, velocity = true_velocity(p)
    mirrored = true_velocity(twin)
    assert torch.equal(part, mirrored[0])
    assert torch.equal(signal, mirrored[1])
    assert torch.allclose(velocity.flip(0), mirrored[2], atol=2e-3)
    for name in ("skew", "delay"):  # as likely: their ranges are symmetric
        low, high = fluid._FACTS["ranges"][name][:2]
        assert low == -high
    assert fluid._FACTS["ranges"]["start"] == [0, 1]


def test_all_but_the_sign_of_the_lag_is_independent_of_the_label(many):
    ill = many.labels == 1
    assert 0.44 < ill.float().mean() < 0.56
    late = many.extras["lag_ms"]
    assert (late[ill] > 0).float().mean() > 0.9
    assert (late[~ill] < 0).float().mean() > 0.9
    assert ks_2samp(late[ill], -late[~ill]).pvalue > 0.01
    told = [numbers(k, seed=100) for k in range(400)]
    for name in ("rate", "start", "tonsil_mm", "stroke", "venc", "cover"):
        values = torch.tensor([p[name] for p in told])
        assert ks_2samp(values[ill], values[~ill]).pvalue > 0.005, name
    down, up = torch.tensor([peaks(p) for p in told]).T
    for values in (down, up):
        assert ks_2samp(values[ill], values[~ill]).pvalue > 0.005


def test_the_order_of_the_frames_tells(many):
    pairs = curves(many)
    lag = [following(pair) for pair in pairs]
    assert roc_auc_score(many.labels, lag) > 0.9
    ms = np.array(lag) * many.extras["frame_ms"].numpy()
    assert np.corrcoef(ms, many.extras["lag_ms"])[0, 1] > 0.85
    shuffled = pairs[:, :, np.random.default_rng(0).permutation(16)]
    assert roc_auc_score(many.labels, [following(pair) for pair in shuffled]) < 0.6


def held_out(features, labels):
    """AUC of a logistic regression on the second half of the patients."""
    half = len(features) // 2
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    model.fit(features[:half], labels[:half])
    return roc_auc_score(labels[half:], model.decision_function(features[half:]))


def test_no_frame_tells_and_no_statistic_without_order(many):
    velocity, labels = many.images[:, 0], many.labels.numpy()
    stills = [held_out(velocity[:, t].flatten(1).numpy(), labels) for t in range(16)]
    assert np.mean(stills) < 0.55
    assert max(stills) < 0.62  # of 16 looks at 200 patients, each ± 0.04
    both = curves(many)
    ordered = np.concatenate([np.sort(both, -1), np.sort(both[:, :1] - both[:, 1:], -1)], 1)
    unordered = [velocity.mean(1), velocity.std(1), velocity.amax(1), velocity.sort(1).values]
    for values in (*unordered, torch.from_numpy(ordered)):
        assert held_out(values.flatten(1).numpy(), labels) < 0.6


def test_both_ways_at_once_is_as_frequent_in_either_class(many):
    """As the card says: in patients alike in stills, and other than in volunteers (0 of 10)."""
    pairs = curves(many)
    pairs = pairs - pairs.mean(-1, keepdims=True)
    opposed = ((pairs[:, 0] * pairs[:, 1] < 0).sum(1) >= 2).astype(float)
    ill = many.labels.numpy() == 1
    assert 0.6 < opposed[ill].mean() < 0.95
    assert abs(opposed[ill].mean() - opposed[~ill].mean()) < 0.12
