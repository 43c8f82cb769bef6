import math

import pytest
import torch
from scipy import stats

from medlab.errors import DataError
from medlab.simulate import ultrasound as us

STEP = (0.1, 0.1)


@pytest.mark.parametrize("brightness", [0.1, 1.0, 30.0])
def test_speckle_is_rayleigh_whatever_the_brightness(brightness):
    amplitude = us.envelope(
        torch.full((600, 600), brightness), spacing=STEP, axial=0.3, lateral=0.5
    )
    assert abs(us.RAYLEIGH_SNR - 1.913) < 1e-3
    assert (amplitude.mean() / amplitude.std()).item() == pytest.approx(us.RAYLEIGH_SNR, abs=0.03)
    assert amplitude.square().mean().item() == pytest.approx(brightness**2, rel=0.04)
    apart = amplitude[::12, ::16].flatten().numpy()  # further apart than the resolution cell
    scale = brightness / math.sqrt(2)
    assert stats.kstest(apart, stats.rayleigh(scale=scale).cdf).pvalue > 0.001


def test_grain_has_the_size_of_the_resolution_cell():
    axial, lateral = 0.6, 1.5
    amplitude = us.envelope(
        torch.ones(800, 800), spacing=STEP, axial=axial, lateral=lateral, seed=1
    )
    intensity = amplitude.square() - amplitude.square().mean()
    power = torch.fft.fft2(intensity).abs() ** 2
    correlation = torch.fft.ifft2(power).real
    correlation = correlation / correlation[0, 0]
    for line, width in ((correlation[:, 0], axial), (correlation[0], lateral)):
        # |autocorrelation of the Gaussian amplitude cell|²: half maximum at the cell's own width/2
        half = (line < 0.5).nonzero()[0, 0].item() * 0.1
        assert 2 * half == pytest.approx(width, abs=0.25)


def test_log_compression_by_hand():
    shown = us.log_compress(torch.tensor([[1.0, 0.1, 0.01, 0.0]]), dynamic_range=40)
    assert shown[0].tolist() == pytest.approx([1, 0.5, 0, 0])
    with pytest.raises(DataError, match="decibels"):
        us.log_compress(torch.ones(2, 2), dynamic_range=0)
    with pytest.raises(DataError, match="no echo"):
        us.log_compress(torch.zeros(2, 2))


def test_kidney_has_the_size_it_says_and_its_cyst_is_black():
    spacing = (0.5, 0.5)
    echo, mask = us.kidney(spacing=spacing, cyst=20)
    assert (mask > 0).sum().item() * 0.25 == pytest.approx(math.pi * 25 * 55, rel=0.01)
    assert (mask == 2).sum().item() * 0.25 == pytest.approx(math.pi * 100, rel=0.02)
    shown = us.b_mode(echo, spacing=spacing, axial=0.6, lateral=1.0)
    assert shown[mask == 2].mean() < shown[mask == 1].mean() - 0.15
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_too_little_gain_darkens_the_depth():
    even = torch.ones(400, 200)
    right = us.b_mode(even, spacing=(0.2, 0.2), noise=0)
    low = us.b_mode(even, spacing=(0.2, 0.2), noise=0, gain=0.25)
    assert (right[:80].mean() - right[-80:].mean()).abs() < 0.02
    fall = 2 * 0.25 * 3.5 * (320 * 0.02) / 60  # decibels over 320 rows, per dynamic range
    drop = low[:80].mean() - low[-80:].mean()
    assert drop.item() == pytest.approx(fall, abs=0.02)


def test_bad_arguments_are_refused():
    with pytest.raises(DataError, match="must not be negative"):
        us.envelope(torch.full((8, 8), -1.0), spacing=STEP)
    with pytest.raises(DataError, match="finer spacing"):
        us.envelope(torch.ones(8, 8), spacing=(2, 2), axial=0.5)
