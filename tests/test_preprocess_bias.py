"""Oracles: least squares on monomials, fields that the test laid over images with known tissues."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from medlab import simulate
from medlab.errors import DataError
from medlab.preprocess import bias_field

TISSUE = np.exp([-0.4, 0.0, 0.35])  # three signals, well apart


def patchwork(shape, seed=0):
    """Tissues in small random blocks, so that no large-scale pattern is theirs."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 3, [-(-n // 4) for n in shape])
    for axis, n in enumerate(shape):
        blocks = np.repeat(blocks, 4, axis).take(range(n), axis)
    return blocks


def shaded(labels, *, strength=0.4, noise=0.02, seed=0):
    """Image with known tissues under exp(a cubic), and that field with geometric mean 1."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in labels.shape], indexing="ij")
    u, v = grid[-2:]
    log_field = strength * (0.7 * u - 0.5 * v + 0.6 * u * v - 0.5 * v**2 + 0.4 * u**3)
    if len(grid) == 3:
        log_field += strength * 0.6 * grid[0]
    log_field -= log_field.mean()
    return TISSUE[labels] * np.exp(log_field + noise * rng.normal(size=labels.shape)), np.exp(
        log_field
    )


@pytest.mark.parametrize("shape", [(96, 80), (12, 40, 48)])
def test_a_cubic_field_is_found(shape):
    image, field = shaded(patchwork(shape))
    found = bias_field(image)
    assert found.shape == shape
    np.testing.assert_allclose(np.log(found), np.log(field), atol=0.01)
    assert np.log(found).mean() == pytest.approx(0, abs=1e-9)


def test_an_even_image_keeps_its_values():
    image, _ = shaded(patchwork((96, 80)), strength=0.0)
    np.testing.assert_allclose(bias_field(image), 1, atol=0.01)


def test_one_class_is_ordinary_least_squares_on_the_logarithm():
    rng = np.random.default_rng(0)
    image = np.exp(rng.normal(size=(30, 41)))
    rows, columns = (a.ravel() / 10 for a in np.indices(image.shape))
    powers = [(i, j) for i in range(4) for j in range(4 - i)]
    terms = np.stack([rows**i * columns**j for i, j in powers], axis=1)
    fitted = terms @ np.linalg.lstsq(terms, np.log(image).ravel(), rcond=None)[0]
    expected = (fitted - fitted.mean()).reshape(image.shape)
    found = bias_field(image, classes=1)
    np.testing.assert_allclose(np.log(found), expected, atol=1e-8)


def test_tissues_are_not_taken_for_shading_as_one_class_does():
    rows, columns = np.indices((96, 96))
    labels = (np.hypot(rows - 48, columns - 48) < 30).astype(int) * 2
    image, field = shaded(labels)
    error = {k: np.abs(np.log(bias_field(image, classes=k) / field)).max() for k in (1, 3)}
    assert error[3] < 0.02
    assert error[1] > 0.2


def brain_with_coil(radius=160.0):
    shares = simulate.mri.brain_shares(8, resolution=2)
    labels = torch.where(shares.sum(0) > 0.5, shares.argmax(0) + 1, 0)
    pure = one_hot(labels, 4)[..., 1:].permute(2, 0, 1).float()
    clean = simulate.mri.brain_image(pure, tr=800, te=10)
    rows, columns = (torch.arange(n) * 2.0 for n in clean.shape)
    distance = (rows[:, None] + 10) ** 2 + (columns[None] - 20) ** 2
    coil = (1 + distance / radius**2) ** -1.5  # a loop's field on its axis: no polynomial
    image = simulate.mri.add_noise(clean * coil, 0.004, seed=0).abs()
    return image, labels, coil


def test_the_field_of_a_coil_is_found_on_a_brain():
    image, labels, coil = brain_with_coil()
    mask, white = labels > 0, labels == 1
    found = bias_field(image, mask)
    error = (found / coil).log()[mask]
    assert error.std() < 0.01
    assert coil[mask].log().std() > 0.2
    spread = {
        name: (one[white].std() / one[white].mean()).item()
        for name, one in {"before": image, "after": image / found, "best": image / coil}.items()
    }
    assert spread["before"] > 4 * spread["best"]
    assert spread["after"] < 1.1 * spread["best"]


def test_only_the_mask_is_learnt_from_and_the_unit_does_not_matter():
    image, labels, _ = brain_with_coil()
    mask = labels > 0
    found = bias_field(image, mask)
    assert found[mask].log().mean().abs() < 1e-5
    spoilt = torch.where(mask, image, 50.0)
    torch.testing.assert_close(bias_field(spoilt, mask), found)
    torch.testing.assert_close(bias_field(1000 * image, mask), found, rtol=1e-4, atol=0)
    holes = torch.where(torch.rand(image.shape) < 0.1, 0.0, image)
    assert (bias_field(holes, mask) / found).log()[mask].abs().max() < 0.02
    torch.testing.assert_close(
        bias_field(image.numpy(), mask.numpy().astype(np.uint8)), found.numpy()
    )


def test_a_large_volume_is_thinned_out():
    image, field = shaded(patchwork((20, 64, 64)))  # over the 30,000 voxels that are used
    np.testing.assert_allclose(np.log(bias_field(image)), np.log(field), atol=0.01)


def test_an_even_tissue_does_not_break_it():
    assert bias_field(torch.full((20, 20), 3.0)) == pytest.approx(torch.ones(20, 20), abs=1e-6)
    image, field = shaded(patchwork((96, 80)), noise=0.0)
    np.testing.assert_allclose(np.log(bias_field(image)), np.log(field), atol=0.01)


def test_bias_field_refuses():
    x = torch.rand(40, 40)
    with pytest.raises(DataError, match="one image"):
        bias_field(x[None, None])
    with pytest.raises(DataError, match="from 0 to inf"):
        bias_field(x - 0.5)
    with pytest.raises(DataError, match=r"mask must have the shape of x, \(40, 40\)"):
        bias_field(x, torch.ones(40, 39))
    with pytest.raises(DataError, match="voxels above 0 in the mask; it has 100"):
        bias_field(x, (torch.arange(1600).view(40, 40) < 100))
    with pytest.raises(DataError, match="NaN"):
        bias_field(torch.full((40, 40), float("nan")))
    with pytest.raises(DataError, match="with 0 classes"):
        bias_field(x, classes=0)
