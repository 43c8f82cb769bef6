"""The fast CT against the full one (Poisson sinogram, scikit-image's iradon) and closed forms."""

import numpy as np
import pytest
import torch
from skimage.transform import iradon
from skimage.transform import radon as skimage_radon

from medlab.errors import DataError
from medlab.simulate import ct

PIXEL = 2.0


def fast_scan(hu, *, kernel="standard", seed=0, **options):
    return ct._fast_scan(hu, kernel=kernel, seed=seed, **options)


def radial(image_power, pixel, bins):
    """Mean of a two-dimensional power spectrum over rings of spatial frequency."""
    f = np.fft.fftfreq(image_power.shape[-1], pixel)
    ring = np.digitize(np.hypot(f[:, None], f), bins)
    return np.array([image_power[ring == i].mean() for i in range(1, len(bins))])


def power_spectrum(images, pixel):
    images = images - images.mean(axis=(-2, -1), keepdims=True)
    window = np.hanning(images.shape[-1])
    window = np.sqrt(np.outer(window, window))
    power = np.abs(np.fft.fft2(images * window)) ** 2 * pixel**2
    return power.mean(0) / (window**2).sum()


def disc(size, radius, value=0.0, fine=1):
    axis = (np.arange(size * fine) - (size * fine - 1) / 2) / fine
    inside = np.hypot(axis[:, None], axis) <= radius
    image = np.where(inside, value, -1000.0).astype(np.float32)
    return image.reshape(size, fine, size, fine).mean((1, 3))


def test_hounsfield_units_of_water_air_and_back():
    assert ct.hu_to_mu(torch.tensor(0.0)) == pytest.approx(ct.MU_WATER)
    assert ct.hu_to_mu(torch.tensor(-1000.0)) == 0
    assert ct.hu_to_mu(torch.tensor(-1024.0)) == 0
    hu = torch.linspace(-1000, 3000, 50)
    assert torch.allclose(1000 * (ct.hu_to_mu(hu) / ct.MU_WATER - 1), hu, atol=1e-3)


@pytest.mark.parametrize("kernel", ct.KERNELS)
def test_noise_has_the_power_spectrum_of_the_full_scan(kernel):
    """White detector noise through scikit-image's FBP, beside the formula and the fast scan."""
    size, views, photons, repeats = 96, ct.VIEWS, 2000, 32
    rng = np.random.default_rng(0)
    angles = np.arange(views) * 180 / views
    middle = slice(24, 72)
    full = []
    for _ in range(repeats):
        lines = -np.log(rng.poisson(photons, (size, views)) / photons)
        image = iradon(lines, theta=angles, filter_name=ct.KERNELS[kernel], circle=True)
        full.append(image[middle, middle] / PIXEL / ct.MU_WATER * 1000)
    air = torch.full((40, size, size), -1000.0)
    fast = fast_scan(air, pixel_mm=PIXEL, photons=photons, kernel=kernel)
    bins = np.linspace(0.08, 0.85, 6) * 0.5 / PIXEL
    truth = radial(power_spectrum(np.stack(full), PIXEL), PIXEL, bins)
    ours = radial(power_spectrum(fast[:, middle, middle].numpy(), PIXEL), PIXEL, bins)
    f = torch.from_numpy((bins[1:] + bins[:-1]) / 2)
    formula = ct._noise_power(f, kernel, pixel_mm=PIXEL, photons=photons).numpy()
    strong = formula > 0.08 * formula.max()
    assert np.allclose(ours[strong], formula[strong], rtol=0.12)
    assert np.allclose(truth[strong], formula[strong], rtol=0.2)
    assert np.allclose(truth[strong].sum(), ours[strong].sum(), rtol=0.08)


@pytest.mark.parametrize("kernel", ["sharp", "soft"])
def test_an_edge_is_as_sharp_as_in_the_full_scan(kernel):
    """A disc drawn four times finer, projected, binned to the detector and reconstructed."""
    size, radius, fine = 96, 30.3, 4
    drawn = disc(size * fine, radius * fine) / 1000 + 1
    angles = np.arange(0, 180, 1.25)
    lines = skimage_radon(drawn, theta=angles, circle=True)
    lines = lines.reshape(size, fine, -1).mean(1) / fine
    full = iradon(lines, theta=angles, filter_name=ct.KERNELS[kernel], circle=True)
    slice_ = torch.from_numpy(disc(size, radius, fine=fine))
    fast = fast_scan(slice_[None], pixel_mm=PIXEL, photons=1e12, kernel=kernel)[0]
    fast = fast.numpy() / 1000 + 1
    # iradon's centre is pixel size // 2, and the binned sinogram's half a fine pixel off it.
    rows, columns = np.indices((size, size))
    edges = np.arange(-5, 5.1, 0.5)

    def profile(image, centre):
        away = np.hypot(rows - centre, columns - centre) - radius
        return np.array([image[(away >= a) & (away < a + 0.5)].mean() for a in edges[:-1]]), image[
            away < -8
        ].mean()

    best = None
    for centre in (47.5, 48.0, 47.875, 48.125, 48.375, 47.625):
        truth, inside = profile(full, centre)
        if best is None or np.ptp(np.diff(truth)) > np.ptp(np.diff(best[0])):
            best = truth, inside
    ours, inside = profile(fast, 47.5)
    assert np.abs(best[0] / best[1] - ours / inside).max() < 0.1

    def width(values):
        return np.interp(-0.1, -values, edges[:-1]) - np.interp(-0.9, -values, edges[:-1])

    assert width(ours / inside) == pytest.approx(width(best[0] / best[1]), rel=0.2)


def test_noise_in_a_body_grows_towards_its_middle_as_in_the_full_scan():
    size, photons = 96, 4e4
    body = torch.from_numpy(disc(size, 40.0))
    fast = fast_scan(body[None].repeat(24, 1, 1), pixel_mm=4.0, photons=photons)
    clean = ct.scan(body, pixel_mm=4.0, photons=1e12)
    full = torch.stack([ct.scan(body, pixel_mm=4.0, photons=photons, seed=i) for i in range(5)])
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    away = torch.from_numpy(np.hypot(rows, columns))
    clean_fast = fast_scan(body[None], pixel_mm=4.0, photons=1e14)[0]
    inner, outer = away < 10, (away > 28) & (away < 36)
    for zone in (inner, outer):
        ours = (fast - clean_fast)[:, zone].std()
        truth = (full - clean)[:, zone].std()
        assert ours == pytest.approx(float(truth), rel=0.12)
    assert (fast - clean_fast)[:, inner].std() > 1.2 * (fast - clean_fast)[:, outer].std()


def test_long_ways_through_the_body_streak_along_them():
    """Noise of an ellipse: rays along its long axis are starved, so it is striped that way."""
    axis = torch.arange(96) - 47.5
    body = torch.where((axis[:, None] / 22) ** 2 + (axis / 44) ** 2 <= 1, 0.0, -1000.0)
    options = {"pixel_mm": 4.0, "photons": 2e4}
    clean = fast_scan(body[None], pixel_mm=4.0, photons=1e14)
    noise = fast_scan(body[None].repeat(12, 1, 1), **options) - clean
    middle = noise[:, 40:56, 30:66]
    across = (middle[:, 1:] - middle[:, :-1]).std()
    along = (middle[:, :, 1:] - middle[:, :, :-1]).std()
    assert across > 1.5 * along


def test_ray_noise_of_a_disc_off_the_middle_is_the_closed_form():
    """Along direction θ, rays at s = x cos θ + y sin θ cross 2 √(R² − (s − s₀)²) of water."""
    size, pixel, radius, x0, y0 = 128, 2.0, 50.0, 30.0, -20.0
    axis = (torch.arange(size) - (size - 1) / 2) * pixel
    water = torch.where((axis - x0) ** 2 + (axis[:, None] - y0) ** 2 <= radius**2, 0.0, -1000.0)
    maps = ct._ray_noise(water[None], pixel)
    coarse = (torch.arange(32) - 15.5) * 8.0
    near = (coarse**2 + coarse[:, None] ** 2).sqrt() < 100
    for k, spread in enumerate(maps):
        angle = np.pi * k / ct.SECTORS
        c, s = np.cos(angle), np.sin(angle)
        away = coarse * c + coarse[:, None] * s - (x0 * c + y0 * s)
        chord = 2 * (radius**2 - away**2).clamp_min(0).sqrt()
        truth = torch.exp(ct.MU_WATER * chord / 2)
        assert (spread[0] / truth - 1).abs()[near].median() < 0.05
        assert (spread[0] / truth - 1).abs()[near].max() < 0.35


def test_variance_falls_with_dose():
    air = torch.full((8, 64, 64), -1000.0)
    spread = [
        float(fast_scan(air, pixel_mm=1.0, photons=p, seed=1).std()) for p in (1e3, 4e3, 16e3)
    ]
    assert spread[0] / spread[1] == pytest.approx(2, rel=0.01)
    assert spread[1] / spread[2] == pytest.approx(2, rel=0.01)


def test_noise_of_a_slice_depends_on_its_number_and_the_seed_alone():
    water = torch.zeros(20, 64, 64)
    options = {"pixel_mm": 1.0, "photons": 1e5}
    batch = fast_scan(water, **options, seed=3)
    fewer = fast_scan(water[:18], **options, seed=3)
    assert torch.allclose(batch[17], fewer[17], atol=1e-2)
    assert not torch.allclose(batch[0], batch[1], atol=1)
    assert not torch.allclose(batch[:1], fast_scan(water[:1], **options, seed=4), atol=1)


def test_scan_gives_back_the_hounsfield_units():
    body = torch.from_numpy(disc(96, 38.0, value=40.0))
    image = ct.scan(body, pixel_mm=3.0, photons=1e7, kernel="soft")
    assert image[40:56, 40:56].mean() == pytest.approx(40, abs=25)
    assert image[0, 0] == -1000


@pytest.fixture(scope="module")
def volume():
    return ct.chest_ct_volume(
        2, shape=(40, 72, 72), spacing=(7.0, 5.2, 5.2), nodule_mm=24, photons=None
    )


def test_the_nodule_is_where_it_is_said_to_be(volume):
    d, h, w = (round(v) for v in volume.nodule)
    assert volume.hu[d, h, w] == pytest.approx(30, abs=1)
    axes = [
        (torch.arange(n) - c) * s
        for n, c, s in zip(volume.hu.shape, volume.nodule, volume.spacing, strict=True)
    ]
    away = (axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2).sqrt()
    assert (volume.hu[away < 12] - 30).abs().max() < 1
    shell = volume.hu[(away > 12) & (away < 17)]
    assert shell.median() < -500


def test_the_chest_is_whole_and_the_right_way_round(volume):
    d, h, w = volume.hu.shape
    assert volume.hu.min() >= -1000
    assert ((volume.hu > -900) & (volume.hu < -550)).float().mean() > 0.05  # lung
    # Spine at the back, in the middle; heart to the left, in front; lungs on either side.
    dense = (volume.hu > 90)[:, :, w // 2 - 3 : w // 2 + 3].float().mean((0, 2))
    assert dense[h // 2 :].max() > 0.5
    x = torch.arange(w) - (w - 1) / 2
    front = volume.hu[d // 2 - 6 : d // 2, h // 4 : h // 2]
    heart = ((front > 0) & (front < 100) & (x.abs() * 5.2 < 90)).float()
    assert (heart * x).sum() > 0
    assert volume.origin == pytest.approx((-(w - 1) / 2 * 5.2, -(h - 1) / 2 * 5.2, -19.5 * 7.0))


def test_the_same_seed_gives_the_same_patient():
    small = {"shape": (8, 48, 48), "spacing": (20.0, 8.0, 8.0)}
    one, two = ct.chest_ct_volume(5, **small), ct.chest_ct_volume(5, **small)
    assert torch.equal(one.hu, two.hu)
    assert one.nodule is None
    assert not torch.equal(one.hu, ct.chest_ct_volume(6, **small).hu)


SLICE = torch.zeros(16, 16)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ct.scan(SLICE, pixel_mm=1, photons=0), "photons"),
        (lambda: ct.scan(SLICE, pixel_mm=1, photons=-3), "photons"),
        (lambda: ct.scan(SLICE, pixel_mm=0, photons=9), "pixel_mm"),
        (lambda: ct.scan(SLICE, pixel_mm=1, photons=9, kernel="nice"), "sharp, standard"),
        (lambda: ct.scan(SLICE[:, :5], pixel_mm=1, photons=9), "square"),
        (lambda: ct.chest_ct_volume(0, kernel="nice", shape=(8, 9, 9)), "sharp, standard"),
        (lambda: ct.chest_ct_volume(0, photons=0, shape=(8, 9, 9)), "photons"),
        (lambda: ct.chest_ct_volume(-1, shape=(8, 9, 9)), "seed must be a whole number"),
        (lambda: ct.chest_ct_volume(0.5, shape=(8, 9, 9)), "seed must be a whole number"),
        (lambda: ct.chest_ct_volume(0, shape=(2, 9, 9)), "shape"),
        (lambda: ct.chest_ct_volume(0, shape=(8, 9, 12)), "square"),
        (lambda: ct.chest_ct_volume(0, nodule_mm=80), "nodule_mm"),
    ],
)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(DataError, match=words):
        call()
