import math

import numpy as np
import pytest
import torch
from scipy import stats

from medlab.errors import DataError
from medlab.simulate import mri


def test_spin_echo_limits():
    tissue = mri.Tissue(0.8, 1000, 100)
    assert mri.spin_echo(tissue, tr=1e6, te=0) == pytest.approx(0.8)
    assert mri.spin_echo(tissue, tr=1000, te=0) == pytest.approx(0.8 * (1 - 1 / math.e))
    assert mri.spin_echo(tissue, tr=1e6, te=100) == pytest.approx(0.8 / math.e)
    with pytest.raises(DataError, match="TE < TR"):
        mri.spin_echo(tissue, tr=50, te=60)


def test_weightings_order_the_tissues_as_radiologists_know_them():
    tissues = mri.TISSUES[3.0]
    t1 = {name: mri.spin_echo(t, tr=600, te=10) for name, t in tissues.items()}
    t2 = {name: mri.spin_echo(t, tr=6000, te=100) for name, t in tissues.items()}
    assert t1["white matter"] > t1["grey matter"] > t1["CSF"]
    assert t2["CSF"] > t2["grey matter"] > t2["white matter"]
    low = {name: mri.spin_echo(t, tr=600, te=10) for name, t in mri.TISSUES[1.5].items()}
    assert low["CSF"] < min(low["white matter"], low["grey matter"])


def test_brain_is_white_inside_grey_and_left_stays_left():
    maps = mri.brain_slice(8)
    total = sum(maps.values())
    assert all(m.shape == total.shape for m in maps.values())
    assert total.min() == 0
    assert total.max() <= 1 + 1e-6
    areas = {name: m.sum().item() / 100 for name, m in maps.items()}  # cm²
    assert 40 < areas["white matter"] < 90
    assert 40 < areas["grey matter"] < 110
    from nilearn.datasets import load_mni152_gm_template

    image = load_mni152_gm_template(resolution=1)
    world = np.linalg.inv(image.affine) @ [-40, 50, 8, 1]  # left frontal, RAS+ millimetres
    i, j, k = world[:3].round().astype(int)
    want = image.get_fdata()[i, j, k]
    rows = maps["grey matter"].shape[0]
    assert maps["grey matter"][rows - 1 - j, i] == pytest.approx(want, abs=0.05)
    assert i < image.shape[0] / 2
    assert rows - 1 - j < rows / 2
    with pytest.raises(DataError, match="MNI space"):
        mri.brain_slice(500)


def test_kspace_is_unitary_and_centred():
    image = torch.randn(2, 33, 48, generator=torch.Generator().manual_seed(0))
    k = mri.to_kspace(image)
    assert torch.allclose(mri.from_kspace(k).real, image, atol=1e-5)
    assert (k.abs() ** 2).sum().item() == pytest.approx((image**2).sum().item(), rel=1e-5)
    flat = mri.to_kspace(torch.ones(32, 48)).abs()
    assert divmod(flat.argmax().item(), 48) == (16, 24)
    assert flat.max().item() == pytest.approx(math.sqrt(32 * 48))


def test_undersampling_every_second_line_folds_the_image():
    image = torch.zeros(64, 64)
    image[20, 32] = 1.0
    kept = mri.undersample(64, factor=2, centre=0)
    ghost = mri.from_kspace(mri.to_kspace(image) * kept).abs()
    assert kept.sum() == 32
    assert ghost[20, 32].item() == pytest.approx(0.5, abs=1e-5)
    assert ghost[52, 32].item() == pytest.approx(0.5, abs=1e-5)
    assert mri.undersample(64, factor=4, centre=16).sum() == 16 + 12
    with pytest.raises(DataError, match="factor"):
        mri.undersample(64, factor=0)


def test_background_noise_is_rayleigh_and_signal_is_rician():
    empty = mri.rician(torch.zeros(400, 400), sigma=2.0, seed=0)
    assert empty.mean().item() == pytest.approx(2 * math.sqrt(math.pi / 2), rel=0.005)
    ks = stats.kstest(empty.flatten().numpy()[:20_000], stats.rayleigh(scale=2).cdf)
    assert ks.pvalue > 0.001
    signal = mri.rician(torch.full((400, 400), 5.0), sigma=2.0, seed=1).flatten().numpy()
    assert stats.kstest(signal[:20_000], stats.rice(5 / 2, scale=2).cdf).pvalue > 0.001
    assert torch.equal(empty, mri.rician(torch.zeros(400, 400), sigma=2.0, seed=0))
    with pytest.raises(DataError, match="standard deviation"):
        mri.rician(torch.zeros(3), sigma=-1, seed=0)


def test_bias_field_is_smooth_positive_and_bounded():
    field = mri.bias_field((96, 128), strength=0.4, seed=3)
    assert field.log().mean().abs() < 1e-5
    assert field.max() <= 1.4 + 1e-5
    assert field.min() >= 1 / 1.4 - 1e-5
    assert field.diff(dim=0).abs().max() < 0.05
    assert field.std() > 0.02
    assert torch.equal(mri.bias_field((8, 8), strength=0), torch.ones(8, 8))
