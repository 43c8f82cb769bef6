"""Magnetic resonance against closed forms, numpy.fft and scipy.stats."""

import numpy as np
import pytest
import torch
from scipy import stats

from medlab.errors import DataError
from medlab.simulate import mri


def test_spin_echo_of_hand_computed_tissue():
    signal = mri.spin_echo(mri.Tissue(1000.0, 80.0, 0.8), tr=500, te=20)
    assert float(signal) == pytest.approx(0.8 * (1 - np.exp(-0.5)) * np.exp(-0.25), rel=1e-6)


def test_weightings_order_the_tissues_as_in_every_textbook():
    def signals(tr, te):
        table = mri.RELAXATION[3.0]
        return [
            float(mri.spin_echo(table[name], tr=tr, te=te))
            for name in ("white matter", "grey matter", "csf")
        ]

    white, grey, csf = signals(600, 12)
    assert white > grey > csf
    white, grey, csf = signals(5000, 110)
    assert white < grey < csf


@pytest.mark.parametrize(("tr", "te"), [(100, 100), (100, 200), (100, -1)])
def test_an_echo_cannot_come_after_the_repetition(tr, te):
    with pytest.raises(DataError, match="0 ≤ te < tr"):
        mri.spin_echo(mri.Tissue(1000.0, 80.0, 1.0), tr=tr, te=te)


def test_background_of_a_magnitude_image_is_rayleigh():
    sigma = 0.7
    magnitude = mri.add_noise(torch.zeros(300, 300), sigma, seed=0).abs()
    assert magnitude.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)
    assert magnitude.std() == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), rel=0.01)
    sample = magnitude.flatten()[::7].numpy()
    assert stats.kstest(sample, stats.rayleigh(scale=sigma).cdf).pvalue > 0.01


@pytest.mark.parametrize("signal", [0.0, 0.5, 2.0, 10.0])
def test_magnitude_in_noise_is_rician(signal):
    magnitude = mri.add_noise(torch.full((250, 250), signal), 0.8, seed=7).abs()
    law = stats.rice(signal / 0.8, scale=0.8)
    assert stats.kstest(magnitude.flatten().numpy(), law.cdf).pvalue > 0.01


def test_signal_to_noise_where_signal_is_strong():
    image = mri.add_noise(torch.full((300, 300), 50.0), 2.0, seed=2).abs()
    assert image.mean() / image.std() == pytest.approx(25, rel=0.01)


def test_noise_repeats_with_its_seed():
    zero = torch.zeros(8, 8)
    assert torch.equal(mri.add_noise(zero, 1, seed=5), mri.add_noise(zero, 1, seed=5))
    assert not torch.equal(mri.add_noise(zero, 1, seed=5), mri.add_noise(zero, 1, seed=6))


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (1, 9)])
def test_all_of_kspace_is_the_image_and_none_of_it_the_mean(shape):
    image = np.random.default_rng(0).random(shape)
    spectrum, back = mri.keep_kspace(image, 1)
    np.testing.assert_allclose(back, image, atol=1e-12)
    assert spectrum[shape[0] // 2, shape[1] // 2].real == pytest.approx(image.sum())
    np.testing.assert_allclose(mri.keep_kspace(image, 0)[1], image.mean(), atol=1e-12)
    spectrum, rest = mri.keep_kspace(torch.tensor(image), 0, "edge")
    np.testing.assert_allclose(rest, np.abs(image - image.mean()), atol=1e-12)
    assert spectrum[shape[0] // 2, shape[1] // 2] == 0


def test_a_wave_survives_inside_the_kept_part_and_vanishes_outside():
    x = np.arange(64)
    for cycles in (4, 12):  # the kept third of 64 columns holds up to 10 cycles
        wave = 2 + np.cos(2 * np.pi * cycles * x / 64) * np.ones((64, 1))
        expected = wave if cycles < 10 else np.full((64, 64), 2.0)
        np.testing.assert_allclose(mri.keep_kspace(wave, 1 / 3)[1], expected, atol=1e-9)
        tall = mri.keep_kspace(wave.T, 1 / 3)[1]
        np.testing.assert_allclose(tall, expected.T, atol=1e-9)


def test_kept_and_dropped_energy_add_up():
    image = np.random.default_rng(1).random((20, 30))
    parts = [mri.keep_kspace(image, 0.4, part)[0] for part in ("centre", "edge")]
    energy = sum((np.abs(p) ** 2).sum() for p in parts) / image.size
    assert energy == pytest.approx((image**2).sum())


def test_a_part_of_kspace_is_asked_for_in_words_that_exist():
    image = np.ones((8, 8))
    for wrong, words in [
        (lambda: mri.keep_kspace(image * -1000, 0.5), "≥ 0; got .*≥ -1000"),
        (lambda: mri.keep_kspace(image * np.nan, 0.5), "≥ 0; got .*nan"),
        (lambda: mri.keep_kspace(image, 1.5), r"got 1\.5 and 'centre'"),
        (lambda: mri.keep_kspace(image, 0.5, "middle"), "'middle'"),
        (lambda: mri.keep_kspace(np.ones((3, 8, 8)), 0.5), "one magnitude image"),
    ]:
        with pytest.raises(DataError, match=words):
            wrong()


def test_the_brain_is_the_template_seen_from_the_feet():
    from nilearn.datasets import load_mni152_gm_template

    shares = mri.brain_shares(18.0, resolution=1)
    assert shares.shape[0] == 3
    coarse = mri.brain_shares(18.0, resolution=2)
    assert coarse[1].mean() == pytest.approx(float(shares[1].mean()), rel=0.03)
    assert shares.min() >= 0
    assert shares.sum(0).max() <= 1.01
    template = load_mni152_gm_template(resolution=1)
    # A point of the right hemisphere's grey matter in front: high column on the left, high row.
    grey = np.asarray(template.dataobj)
    k = round((18 - template.affine[2, 3]) / template.affine[2, 2])
    world = np.array([30.0, 40.0])  # RAS: right, front
    i, j = (round((world[a] - template.affine[a, 3]) / template.affine[a, a]) for a in (0, 1))
    column = grey.shape[0] - 1 - i if template.affine[0, 0] > 0 else i
    row = grey.shape[1] - 1 - j
    assert column < shares.shape[2] / 2
    assert row < shares.shape[1] / 2
    assert float(shares[1, row, column]) == pytest.approx(float(grey[i, j, k]), abs=1e-6)


def test_a_brain_image_mixes_the_tissues_by_their_shares():
    shares = torch.zeros(3, 1, 2)
    shares[0, 0, 0] = shares[2, 0, 1] = 1
    image = mri.brain_image(shares, tr=600, te=15)
    white = mri.RELAXATION[3.0]["white matter"]
    want = mri.spin_echo(white, tr=600, te=15)
    assert image[0, 0] == pytest.approx(float(want))
    with pytest.raises(DataError, match=r"shares must be \(3, H, W\)"):
        mri.brain_image(shares[:2], tr=600, te=15)
    with pytest.raises(DataError, match="height_mm"):
        mri.brain_shares(200.0, resolution=1)


# ------------------------------------------------------------------------------- phase contrast


@pytest.mark.parametrize(("venc", "snr"), [(5.0, 12.0), (10.0, 40.0)])
def test_velocity_noise_is_that_of_pelc(venc, snr):
    signal, velocity = torch.full((300, 300), 2.0), torch.full((300, 300), 0.3 * venc)
    got, magnitude = mri.phase_contrast(signal, velocity, venc=venc, sigma=2 / snr, seed=0)
    assert float(got.mean()) == pytest.approx(0.3 * venc, abs=0.01 * venc)
    assert float(got.std()) == pytest.approx(np.sqrt(2) / np.pi * venc / snr, rel=0.02)
    assert float(magnitude.mean()) == pytest.approx(2, rel=0.01)


def test_velocities_beyond_venc_are_wrapped():
    v = torch.linspace(-30, 30, 121)[None]
    options = {"venc": 8.0, "sigma": 0.0, "seed": 0}
    got, _ = mri.phase_contrast(torch.ones_like(v), v, **options)
    away = torch.remainder(got - v + 8, 16) - 8  # equal but for whole turns
    assert away.abs().max() < 1e-3
    assert got.abs().max() <= 8.001


def test_without_signal_every_velocity_is_as_likely():
    still = torch.zeros(200, 200)
    got, magnitude = mri.phase_contrast(still, still, venc=6.0, sigma=1.0, seed=3)
    assert stats.kstest(got.flatten().numpy(), "uniform", args=(-6, 12)).pvalue > 0.01
    assert float(magnitude.mean()) == pytest.approx(np.sqrt(np.pi / 2), rel=0.01)


def test_a_voxel_is_the_sum_of_its_spins():
    signal = torch.tensor([[1.0, 3.0], [2.0, 0.5]])
    velocity = torch.tensor([[0.0, 4.0], [-2.0, 1.0]])
    options = {"venc": 5.0, "sigma": 0.0, "seed": 0}
    got, magnitude = mri.phase_contrast(signal, velocity, fine=2, **options)
    spins = (signal * torch.exp(1j * torch.pi * velocity / 5)).mean()
    assert got.shape == (1, 1)
    assert float(got) == pytest.approx(float(np.angle(spins.numpy())) * 5 / np.pi, abs=1e-5)
    assert float(magnitude) == pytest.approx((6.5 / 4 + abs(spins.numpy())) / 2, rel=1e-5)


@pytest.mark.parametrize(("venc", "sigma"), [(0, 1), (-5, 1), (5, -1), (float("nan"), 1)])
def test_phase_contrast_wants_a_range_and_a_spread(venc, sigma):
    still = torch.zeros(4, 4)
    with pytest.raises(DataError, match="venc must be above 0"):
        mri.phase_contrast(still, still, venc=venc, sigma=sigma, seed=0)
