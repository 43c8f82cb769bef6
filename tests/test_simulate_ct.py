"""The scan against closed forms, and the chest against what was put into it."""

import numpy as np
import pytest
import torch

from medlab.errors import DataError
from medlab.simulate import ct


def disc(size, radius, value=0.0):
    axis = np.arange(size) - (size - 1) / 2
    inside = np.hypot(axis[:, None], axis) <= radius
    return np.where(inside, value, -1000.0).astype(np.float32)


def test_hounsfield_units_of_water_air_and_back():
    assert ct.hu_to_mu(torch.tensor(0.0)) == pytest.approx(ct.MU_WATER)
    assert ct.hu_to_mu(torch.tensor(-1000.0)) == 0
    assert ct.hu_to_mu(torch.tensor(-1024.0)) == 0
    hu = torch.linspace(-1000, 3000, 50)
    assert torch.allclose(1000 * (ct.hu_to_mu(hu) / ct.MU_WATER - 1), hu, atol=1e-3)


def test_scan_gives_back_the_hounsfield_units():
    body = torch.from_numpy(disc(96, 38.0, value=40.0))
    image = ct.scan(body, pixel_mm=3.0, photons=1e7, kernel="soft")
    assert image[40:56, 40:56].mean() == pytest.approx(40, abs=25)
    assert image[0, 0] == -1000


@pytest.mark.parametrize("kernel", ct.KERNELS)
def test_noise_of_a_scan_of_air_is_the_closed_form(kernel):
    """Variance ∫ (π/V) · pixel · f · MTF(f)² / N₀ d²f (Riederer, Pelc & Chesler 1978)."""
    size, pixel, photons = 64, 2.0, 4000
    air = torch.full((size, size), -1000.0)
    noise = torch.stack(
        [ct.scan(air, pixel_mm=pixel, photons=photons, kernel=kernel, seed=k) for k in range(3)]
    )[:, 20:44, 20:44]
    f = np.hypot(*np.meshgrid(*[np.linspace(-0.5, 0.5, 401)] * 2))
    window = {
        "ramp": np.ones_like(f),
        "sharp": np.sinc(f),
        "standard": np.cos(np.pi * f),
        "soft": 0.5 + 0.5 * np.cos(2 * np.pi * f),
    }[kernel]
    power = np.pi / ct.VIEWS * f * (window * np.sinc(f) ** 2) ** 2 * (f <= 0.5) / photons
    expected = np.sqrt(power.sum() / 400**2) / pixel * 1000 / ct.MU_WATER
    assert float(noise.std()) == pytest.approx(expected, rel=0.25)


@pytest.fixture(scope="module")
def volume():
    return ct.chest_ct_volume(2, shape=(40, 72, 72), spacing=(7.0, 5.2, 5.2), nodule_mm=24)


def test_the_nodule_is_where_it_is_said_to_be(volume):
    d, h, w = (round(v) for v in volume.nodule)
    assert volume.hu[d, h, w] == pytest.approx(30, abs=1)
    axes = [
        (torch.arange(n) - c) * s
        for n, c, s in zip(volume.hu.shape, volume.nodule, (7.0, 5.2, 5.2), strict=True)
    ]
    away = (axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2).sqrt()
    assert (volume.hu[away < 12] - 30).abs().max() < 1
    shell = volume.hu[(away > 12) & (away < 17)]
    assert shell.median() < -500


def test_the_chest_is_whole_and_the_right_way_round(volume):
    d, h, w = volume.hu.shape
    assert volume.hu.min() >= -1000
    assert ((volume.hu > -930) & (volume.hu < -600)).float().mean() > 0.05  # lung
    # Spine at the back, in the middle; heart to the left, in front; lungs on either side.
    dense = (volume.hu > 90)[:, :, w // 2 - 3 : w // 2 + 3].float().mean((0, 2))
    assert dense[h // 2 :].max() > 0.5
    x = torch.arange(w) - (w - 1) / 2
    front = volume.hu[d // 2 - 6 : d // 2, h // 4 : h // 2]
    heart = ((front > 0) & (front < 100) & (x.abs() * 5.2 < 90)).float()
    assert (heart * x).sum() > 0


def test_the_same_seed_gives_the_same_patient():
    small = {"shape": (8, 48, 48), "spacing": (20.0, 8.0, 8.0)}
    one, two = ct.chest_ct_volume(5, **small), ct.chest_ct_volume(5, **small)
    assert torch.equal(one.hu, two.hu)
    assert one.nodule is None
    assert not torch.equal(one.hu, ct.chest_ct_volume(6, **small).hu)


SLICE = torch.zeros(16, 16)
TINY = {"shape": (8, 9, 9), "spacing": (30.0, 40.0, 40.0)}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ct.scan(SLICE, pixel_mm=1, photons=0), "photons"),
        (lambda: ct.scan(SLICE, pixel_mm=1, photons=-3), "photons"),
        (lambda: ct.scan(SLICE, pixel_mm=0, photons=9), "pixel_mm"),
        (lambda: ct.scan(SLICE, pixel_mm=1, photons=9, kernel="nice"), "sharp, standard"),
        (lambda: ct.scan(SLICE[:, :5], pixel_mm=1, photons=9), "square"),
        (lambda: ct.chest_ct_volume(-1, **TINY), "seed must be a whole number"),
        (lambda: ct.chest_ct_volume(0.5, **TINY), "seed must be a whole number"),
        (lambda: ct.chest_ct_volume(0, **TINY | {"shape": (2, 9, 9)}), "shape"),
        (lambda: ct.chest_ct_volume(0, **TINY | {"shape": (8, 9, 12)}), "square"),
        (lambda: ct.chest_ct_volume(0, **TINY, nodule_mm=80), "nodule_mm"),
    ],
)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(DataError, match=words):
        call()
