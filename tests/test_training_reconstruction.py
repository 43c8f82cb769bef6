"""Images for images: targets, what augmentation does to them, scores, prediction, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.metrics import psnr
from medlab.models import Autoencoder, Denoiser
from medlab.training import Reconstruction, fit, predict
from medlab.training.state import fingerprint
from medlab.training.tasks import task_for

QUIET = {"progress": False, "precision": "float32"}
CARD = DataCard(name="waves", title="Waves", task="reconstruction")


def waves(n=24, *, seed=0, noise=0.2, target=True):
    rng = torch.Generator().manual_seed(seed)
    k, phase = (torch.rand(n, 1, 1, 1, generator=rng) for _ in range(2))
    clean = (torch.arange(16.0) * (0.3 + 0.4 * k) + 6 * phase).sin().expand(-1, 1, 16, -1).clone()
    images = clean + noise * torch.randn(clean.shape, generator=rng)
    return Cohort(images=images, card=CARD, extras={"target": clean} if target else {})


def test_a_denoiser_learns_and_its_scores_are_those_of_its_predictions():
    torch.manual_seed(0)
    model, train, val = Denoiser(width=4), waves(48), waves(seed=1)
    history = fit(model, train, val, epochs=20, lr=1e-2, batch_size=8, augment=None, **QUIET)
    assert list(history.rows[0])[3:] == ["val_loss", "val_psnr", "val_mse"]
    outputs, clean = predict(model, val), val.extras["target"]
    assert outputs.shape == clean.shape
    assert (outputs - clean).square().mean() < 0.7 * (val.images - clean).square().mean()
    mse = (outputs - clean).square().mean().item()
    assert history["val_mse"][-1] == pytest.approx(mse, rel=1e-4)
    assert history["val_loss"][-1] == pytest.approx(mse, rel=1e-4)
    span = (clean.max() - clean.min()).item()
    want = psnr(clean, outputs, data_range=span).mean().item()
    assert history["val_psnr"][-1] == pytest.approx(want, rel=1e-4)


def test_without_a_target_the_image_is_its_own():
    torch.manual_seed(0)
    data = waves(48, noise=0, target=False)
    model = Autoencoder(1, 8, 4, depth=2)
    before = (predict(model, data) - data.images).square().mean()
    fit(model, data, epochs=30, lr=1e-2, batch_size=8, augment=None, **QUIET)
    assert (predict(model, data) - data.images).square().mean() < 0.2 * before
    assert torch.equal(Reconstruction().target(data, torch.tensor([3])), data.images[[3]])


def test_bytes_are_targets_from_0_to_1():
    data = Cohort(images=torch.tensor([[[[0, 255]]]], dtype=torch.uint8), card=CARD)
    assert Reconstruction().target(data, slice(None)).tolist() == [[[[0.0, 1.0]]]]


MOVES = Augment(rotate=40, translate=0.2, scale=0.3, flip=("horizontal", "vertical"))


def test_image_and_target_move_together():
    data = waves(noise=0)
    images, target = Reconstruction().augmented(
        MOVES, data.images, data.extras["target"], torch.Generator().manual_seed(0)
    )
    assert torch.equal(images, target) and not torch.equal(images, data.images)


def test_blur_and_noise_reach_the_image_alone():
    data = waves(noise=0)
    task, grey = Reconstruction(), replace(MOVES, brightness=0.5, contrast=0.3)
    both = data.images, data.extras["target"]
    _, plain = task.augmented(grey, *both, torch.Generator().manual_seed(0))
    damaged = replace(grey, noise=0.5, blur=1.0)
    images, target = task.augmented(damaged, *both, torch.Generator().manual_seed(0))
    assert torch.equal(target, plain)
    assert (images - target).square().mean() > 0.01


def test_another_function_gets_both_as_channels():
    data = waves(6)
    seen = []

    def cut(both, *, generator):
        seen.append(both.shape)
        return both[..., 2:10]

    images, target = Reconstruction().augmented(
        cut, data.images, data.extras["target"], torch.Generator()
    )
    assert seen == [(6, 2, 16, 16)]
    assert torch.equal(images, data.images[..., 2:10])
    assert torch.equal(target, data.extras["target"][..., 2:10])


def test_a_pair_of_images_needs_the_task():
    data = waves(8)
    pair = data.images, data.extras["target"]
    models = []
    for given, options in ((pair, {"task": Reconstruction()}), (data, {})):
        torch.manual_seed(0)
        models.append(Denoiser(width=4))
        fit(models[-1], given, epochs=1, batch_size=4, augment=None, **options, **QUIET)
    images = data.images
    first = predict(models[0], images, task=Reconstruction())
    assert torch.equal(first, predict(models[1], data))
    assert isinstance(task_for("reconstruction"), Reconstruction)


def test_what_does_not_fit_is_named():
    data = waves(6)
    with pytest.raises(DataError, match="same channels and sides"):
        fit(Autoencoder(1, 2, 4, depth=1), replace(data, extras={
            "target": data.images[..., :8]}), epochs=1, **QUIET)  # fmt: skip
    with pytest.raises(DataError, match="same channels and sides"):
        fit(torch.nn.Conv2d(1, 2, 1), data, epochs=1, **QUIET)
    spoilt = data.extras["target"].clone()
    spoilt[2, 0, 3, 3] = torch.nan
    with pytest.raises(DataError, match="train set hold NaN"):
        fit(Denoiser(), replace(data, extras={"target": spoilt}), epochs=1, **QUIET)
    with pytest.raises(DataError, match="class_weights=None"):
        fit(Denoiser(), data, epochs=1, class_weights="balanced", **QUIET)
    with pytest.raises(DataError, match="multiple of 4"):
        Autoencoder(1, depth=2)(torch.rand(1, 1, 8, 10))


def test_another_target_is_another_set():
    data = waves(4)
    assert fingerprint(data) != fingerprint(replace(data, extras={"target": data.images}))


@pytest.mark.parametrize("data_range", [1.0, 4095.0])
def test_psnr_is_that_of_scikit_image(data_range):
    rng = np.random.default_rng(0)
    truth, got = rng.normal(size=(2, 5, 1, 7, 9)) * data_range
    want = [
        peak_signal_noise_ratio(t, g, data_range=data_range)
        for t, g in zip(truth, got, strict=True)
    ]
    np.testing.assert_allclose(psnr(truth, got, data_range=data_range), want, rtol=1e-4)
    assert psnr(truth, truth, data_range=1).isinf().all()


def test_psnr_refuses_what_it_cannot_compare():
    for shapes, span in ((((2, 4), (2, 5)), 1), (((4,), (4,)), 1), (((2, 4), (2, 4)), 0)):
        with pytest.raises(DataError, match="psnr compares"):
            psnr(*(torch.zeros(shape) for shape in shapes), data_range=span)
