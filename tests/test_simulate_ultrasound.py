"""Ultrasound speckle against Rayleigh's law and the correlation length of its pulse."""

import numpy as np
import pytest
import torch
from scipy import stats

from medlab.errors import DataError
from medlab.simulate import ultrasound as us

PULSE = {"pixel_mm": 0.5, "axial_mm": 0.75, "lateral_mm": 1.5}


def test_speckle_has_the_signal_to_noise_of_rayleigh():
    amplitude = us.envelope(torch.ones(600, 600), **PULSE, seed=0)
    law = stats.rayleigh()
    assert amplitude.mean() / amplitude.std() == pytest.approx(law.mean() / law.std(), rel=0.01)


@pytest.mark.parametrize("power", [0.25, 1.0, 9.0])
def test_amplitudes_far_apart_are_rayleigh(power):
    amplitude = us.envelope(torch.full((900, 900), power), **PULSE, seed=1)
    apart = amplitude[::12, ::24].flatten().numpy()
    law = stats.rayleigh(scale=np.sqrt(power / 2))
    assert stats.kstest(apart, law.cdf).pvalue > 0.01
    assert amplitude.mean() == pytest.approx(np.sqrt(np.pi * power) / 2, rel=0.02)


@pytest.mark.parametrize(("axis", "sigma"), [(0, 0.75 / 0.5), (1, 1.5 / 0.5)])
def test_speckle_is_as_long_as_the_pulse(axis, sigma):
    """The intensity of a Gaussian pulse of width σ is correlated as exp(−d² / 2σ²)."""
    intensity = us.envelope(torch.ones(700, 700), **PULSE, seed=2) ** 2
    spectrum = np.abs(np.fft.fft2(intensity - intensity.mean())) ** 2
    covariance = np.fft.ifft2(spectrum).real
    profile = covariance[:6, 0] if axis == 0 else covariance[0, :6]
    lag = np.arange(6)
    assert np.allclose(profile / profile[0], np.exp(-(lag**2) / (2 * sigma**2)), atol=0.03)


def test_ten_decibels_of_echogenicity_are_ten_of_power():
    level = torch.zeros(400, 400)
    level[:, 200:] = 10.0
    amplitude = us.envelope(10 ** (level / 10), **PULSE, seed=3)
    power = amplitude**2
    ratio = 10 * torch.log10(power[:, 220:380].mean() / power[:, 20:180].mean())
    assert float(ratio) == pytest.approx(10, abs=0.3)


def test_log_compression_of_known_amplitudes():
    grey = us.log_compress(
        torch.tensor([0.0, 1e-3, 1e-1, 1.0, 5.0]), dynamic_range=60, reference=1.0
    )
    assert torch.allclose(grey, torch.tensor([0.0, 0.0, 2 / 3, 1.0, 1.0]), atol=1e-6)


def test_speckle_on_the_screen_has_the_known_spread():
    """Of log-compressed speckle the standard deviation is 5.57 dB, whatever the echogenicity."""
    amplitude = us.envelope(torch.ones(600, 600), **PULSE, seed=4)
    grey = us.log_compress(amplitude, dynamic_range=200, reference=20.0)
    assert float(grey.std()) * 200 == pytest.approx(5.57, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_kidney_and_cyst_lie_where_the_mask_says(seed):
    kidney = us.kidney(192, 192, pixel_mm=0.6, seed=seed)
    power = 10 ** (kidney.level / 10)
    echoes = us.envelope(power, pixel_mm=0.6, axial_mm=0.4, lateral_mm=0.9, seed=seed)
    image = us.log_compress(echoes, dynamic_range=48, reference=echoes.max())
    assert image.shape == kidney.mask.shape
    assert 0.08 < (kidney.mask > 0).float().mean() < 0.4
    assert image[kidney.mask == 2].mean() < image[kidney.mask == 1].mean() - 0.3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: us.envelope(-torch.ones(9, 9), **PULSE, seed=0), "echo power"),
        (
            lambda: us.envelope(
                torch.ones(9, 9), pixel_mm=0.0, axial_mm=1.0, lateral_mm=1.0, seed=0
            ),
            "must be positive",
        ),
        (lambda: us.log_compress(torch.ones(3), dynamic_range=0, reference=1), "dynamic_range"),
        (lambda: us.kidney(99, 99, pixel_mm=0.0, seed=0), "pixel_mm"),
    ],
)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(DataError, match=words):
        call()


def test_the_same_seed_gives_the_same_speckle():
    one = us.envelope(torch.ones(64, 64), **PULSE, seed=1)
    assert torch.equal(one, us.envelope(torch.ones(64, 64), **PULSE, seed=1))
    assert not torch.equal(one, us.envelope(torch.ones(64, 64), **PULSE, seed=2))
    one, same, other = (us.kidney(99, 99, pixel_mm=0.9, seed=k).level for k in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
