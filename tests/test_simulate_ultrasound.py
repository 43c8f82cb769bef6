"""Ultrasound against closed forms: Rayleigh's law, attenuation, decibels, the curved probe."""

import numpy as np
import pytest
import torch
from scipy import stats

from medlab.errors import DataError
from medlab.simulate import ultrasound as us

PROBE = us.Probe(radius=50.0, half_angle=0.6, depth=120.0, samples=240, lines=128)


def white(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal((2, *shape), dtype=np.float32)
    return torch.from_numpy(values)


def amplitude(power, *, axial=1.1, lateral=2.0, seed=0):
    """Of scatterers of this mean power (samples, lines)."""
    field = white(*power.shape, seed=seed) * (power / 2).sqrt()
    field = us.received(field, axial=axial, lateral=torch.full((len(power),), lateral))
    return field.square().sum(0).sqrt()


def test_speckle_has_the_signal_to_noise_of_rayleigh():
    echoes, law = amplitude(torch.ones(600, 600)), stats.rayleigh()
    assert echoes.mean() / echoes.std() == pytest.approx(law.mean() / law.std(), rel=0.01)


@pytest.mark.parametrize("power", [0.25, 1.0, 9.0])
def test_amplitudes_far_apart_are_rayleigh(power):
    echoes = amplitude(torch.full((900, 900), power), seed=1)
    apart = echoes[6::12, 10::24].flatten().numpy()
    law = stats.rayleigh(scale=np.sqrt(power / 2))
    assert stats.kstest(apart, law.cdf).pvalue > 0.01
    assert echoes.mean() == pytest.approx(np.sqrt(np.pi * power) / 2, rel=0.02)


@pytest.mark.parametrize(("axis", "sigma"), [(0, 1.1), (1, 2.0)])
def test_speckle_is_as_long_as_the_pulse(axis, sigma):
    """The intensity of a Gaussian pulse of width σ is correlated as exp(−d² / 2σ²)."""
    intensity = amplitude(torch.ones(700, 700), axial=1.1, lateral=2.0, seed=2) ** 2
    spectrum = np.abs(np.fft.fft2(intensity - intensity.mean())) ** 2
    covariance = np.fft.ifft2(spectrum).real
    profile = covariance[:6, 0] if axis == 0 else covariance[0, :6]
    lag = np.arange(6)
    assert np.allclose(profile / profile[0], np.exp(-(lag**2) / (2 * sigma**2)), atol=0.03)


def test_the_beam_may_widen_with_depth_and_keeps_the_power():
    lateral = torch.linspace(0.5, 2.7, 400)
    field = us.received(white(400, 800, seed=5), axial=0.8, lateral=lateral)
    power = field.square().sum(0)
    assert float(power[:100].mean()) == pytest.approx(2, rel=0.03)
    assert float(power[-100:].mean()) == pytest.approx(2, rel=0.03)
    neighbours = [
        np.corrcoef(part[:, 2:].flatten(), part[:, :-2].flatten())[0, 1]
        for part in (field[0, :60], field[0, -60:])
    ]
    # Of the field, not its power, the correlation is exp(−d² / 4σ²).
    for got, sigma in zip(neighbours, (lateral[:60], lateral[-60:]), strict=True):
        assert got == pytest.approx(float(torch.exp(-1 / sigma**2).mean()), abs=0.04)


def test_ten_decibels_of_echo_power_are_ten():
    level = torch.zeros(400, 400)
    level[:, 200:] = 10.0
    power = amplitude(10 ** (level / 10), seed=3) ** 2
    ratio = 10 * torch.log10(power[:, 220:380].mean() / power[:, 20:180].mean())
    assert float(ratio) == pytest.approx(10, abs=0.3)


def test_attenuation_is_the_closed_form():
    """α f 2 d: 0.5 dB/cm/MHz at 3 MHz takes 3 dB for each centimetre of depth."""
    loss = us.two_way_loss(torch.full((200, 3), 0.5), frequency=3.0, step_mm=0.5)
    depth_cm = (torch.arange(200) + 0.5) * 0.05
    assert torch.allclose(loss, 3.0 * depth_cm[:, None].expand(200, 3), atol=1e-3)


def test_echoes_fall_with_depth_and_rise_behind_fluid():
    """The slope is that of the closed form, and fluid leaves out what its thickness would take."""
    attenuation = torch.full((300, 400), 0.6)
    attenuation[100:160, 200:] = 0.0  # 60 samples of 0.5 mm: 3 cm of fluid
    loss = us.two_way_loss(attenuation, frequency=3.5, step_mm=0.5)
    power = amplitude(10 ** (-loss / 10), seed=4) ** 2
    level = 10 * torch.log10(power)
    mean = torch.stack([level[:, 10:190].mean(1), level[:, 210:390].mean(1)], 1)
    slope = np.polyfit(np.arange(300) * 0.05, mean[:, 0], 1)[0]
    assert slope == pytest.approx(-2 * 0.6 * 3.5, rel=0.02)
    enhancement = (mean[180:, 1] - mean[180:, 0]).mean()
    assert float(enhancement) == pytest.approx(2 * 0.6 * 3.5 * 3.0, abs=0.3)


def test_log_compression_of_known_amplitudes():
    grey = us.log_compress(
        torch.tensor([0.0, 1e-3, 1e-1, 1.0, 5.0]), dynamic_range=60, reference=1.0
    )
    assert torch.allclose(grey, torch.tensor([0.0, 0.0, 2 / 3, 1.0, 1.0]), atol=1e-6)


def test_speckle_on_the_screen_has_the_known_spread():
    """Of log-compressed speckle the standard deviation is 5.57 dB, whatever the echogenicity."""
    grey = us.log_compress(amplitude(torch.ones(600, 600)), dynamic_range=200, reference=20.0)
    assert float(grey.std()) * 200 == pytest.approx(5.57, rel=0.02)


def test_samples_lie_on_circles_around_the_centre_of_the_face():
    depth, angle = PROBE.grid()
    x, y = PROBE.point(depth, angle)
    assert torch.allclose(torch.hypot(x, y + 50), 50 + depth, atol=1e-3)
    assert torch.allclose(torch.atan(x / (y + 50)), angle, atol=1e-5)
    back = PROBE.sample(x, y)
    assert torch.allclose(back[0], depth, atol=1e-3)
    assert torch.allclose(back[1], angle, atol=1e-5)
    assert (depth[0, 0], depth[-1, 0]) == (0.25, 119.75)
    assert float(angle[0, -1]) == pytest.approx(0.6 * 127 / 128)


@pytest.mark.parametrize(("row", "line"), [(40, 20), (120, 64), (200, 110)])
def test_a_point_target_lands_where_geometry_says(row, line):
    depth, angle = PROBE.grid()
    beams = torch.zeros(240, 128)
    beams[row, line] = 1.0
    axis = torch.arange(-110.0, 111.0, 0.25)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    picture = us.scan_convert(beams, PROBE, x, y)
    far, turn = 50 + float(depth[row, 0]), float(angle[0, line])
    want = (far * np.sin(turn), far * np.cos(turn) - 50)
    weight = picture / picture.sum()
    assert float((weight * x).sum()) == pytest.approx(want[0], abs=0.15)
    assert float((weight * y).sum()) == pytest.approx(want[1], abs=0.15)


def test_the_sector_ends_at_the_face_at_the_last_beams_and_at_full_depth():
    inside = [(0.0, 0.1), (0.0, 119.9), (100 * np.sin(0.599), 100 * np.cos(0.599) - 50)]
    outside = [(0.0, -0.1), (0.0, 120.1), (-100 * np.sin(0.601), 100 * np.cos(0.601) - 50)]
    x, y = torch.tensor([*inside, *outside]).T
    assert PROBE.sample(x, y)[2].tolist() == [True] * 3 + [False] * 3
    shown = us.scan_convert(torch.ones(240, 128), PROBE, x[None].float(), y[None].float())
    assert shown[0].tolist() == [1.0] * 3 + [0.0] * 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: us.log_compress(torch.ones(3), dynamic_range=0, reference=1), "dynamic_range"),
        (lambda: us.two_way_loss(torch.ones(3, 3), frequency=0, step_mm=1), "frequency"),
        (lambda: us.two_way_loss(torch.ones(3, 3), frequency=3, step_mm=-1), "step_mm"),
        (lambda: us.received(white(9, 19), axial=0.0, lateral=torch.ones(9)), "axial"),
        (lambda: us.received(white(9, 19), axial=1.0, lateral=torch.zeros(9)), "lateral"),
    ],
)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(DataError, match=words):
        call()
