"""The learning-rate range test, against a NumPy loop and the known limit of a linear model."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from medlab.errors import DataError, MedlabError
from medlab.models import SmallCNN, Standardise
from medlab.training import lr_range_test

SIDE = 4


def noisy_labels(n=200, seed=0):
    """Images of `SIDE`² pixels and labels that hang on them weakly, so that the best θ is small."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, SIDE * SIDE)) * np.linspace(0.3, 3, SIDE * SIDE)
    y = (x[:, 0] + 3 * rng.normal(size=n) > 0).astype(int)
    images = torch.tensor(x, dtype=torch.float32).reshape(n, 1, SIDE, SIDE)
    return images, torch.tensor(y)


def linear():
    """Softmax regression that starts at θ = 0, where the loss is log 2."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2, bias=False))
    nn.init.zeros_(model[1].weight)
    return model


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def by_hand(images, labels, *, lowest, highest, steps, beta):
    """The same test of the linear model in NumPy: gradient Gᵀ X with G = (p − y)/N."""
    x = images.flatten(1).double().numpy()
    target = np.eye(2)[labels.numpy()]
    w, losses = np.zeros((2, x.shape[1])), []
    lrs = np.geomspace(lowest, highest, steps)
    for lr in lrs:
        z = x @ w.T
        log_p = z - np.logaddexp(z[:, :1], z[:, 1:])
        losses.append(-(target * log_p).sum(1).mean())
        w -= lr * (np.exp(log_p) - target).T @ x / len(x)
    smoothed = []
    for i in range(steps):
        weights = beta ** np.arange(i, -1, -1.0)
        smoothed.append(np.average(losses[: i + 1], weights=weights))
    return lrs, losses, smoothed


def limit(images):
    """2/λ_max at θ = 0: the Hessian is ¼ (1, −1)(1, −1)ᵀ ⊗ XᵀX/N, so λ_max = λ(XᵀX/N) / 2."""
    x = images.flatten(1).double()
    return 4 / torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item()


def plain_walk(images, labels, **options):
    """The range test without augmentation, all images in each batch, as `by_hand` does it."""
    plain = {"batch_size": 200, "augment": None, "optimiser": sgd}
    return lr_range_test(linear(), (images, labels), **plain, **options)


def test_it_is_the_loop_that_its_docstring_says():
    images, labels = noisy_labels()
    asked = {"lowest": 1e-3, "highest": 0.5, "steps": 40}
    found = plain_walk(images, labels, **asked)
    lrs, losses, smoothed = by_hand(images, labels, beta=0.9, **asked)
    np.testing.assert_allclose(found.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)
    np.testing.assert_allclose(found.smoothed, smoothed, rtol=1e-4)
    assert found.suggestion == pytest.approx(lrs[np.argmin(smoothed)] / 10)
    assert found.losses[0] == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_the_loss_turns_near_the_stability_limit_of_a_linear_model(scale, monkeypatch):
    monkeypatch.setattr("medlab.training.range_test._SMOOTHING", 0.0)
    images, labels = noisy_labels(seed=3)
    images = images * scale
    edge = limit(images)
    found = lr_range_test(
        linear(),
        (images, labels),
        **{"lowest": edge / 1000, "highest": edge * 1000, "steps": 300},
        **{"batch_size": 200, "augment": None, "optimiser": sgd},
    )
    turn = 10 * found.suggestion
    assert edge / 3 < turn < 3 * edge
    assert len(found.lrs) < 300, "it went on after the loss broke"
    assert found.losses[-1] > 4 * min(found.losses)
    assert found.losses[-2] <= 4 * min(found.losses)


def test_the_model_and_the_random_state_stay_as_they_are():
    torch.manual_seed(0)
    model = SmallCNN(width=4)
    model.features[2].eval()
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    images = torch.rand(40, 1, 16, 16) + torch.arange(40)[:, None, None, None] % 2
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    found = lr_range_test(model, (images, torch.arange(40) % 2), steps=20, batch_size=16)
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.classifier.weight.grad, torch.ones_like(model.classifier.weight))
    assert model.features[2].weight.grad is None
    again = lr_range_test(model, (images, torch.arange(40) % 2), steps=20, batch_size=16)
    assert again == found
    other = lr_range_test(model, (images, torch.arange(40) % 2), steps=20, batch_size=16, seed=1)
    assert other.losses != found.losses
    assert other.lrs[:5] == found.lrs[:5]


def test_the_seed_alone_decides_order_augmentation_and_dropout():
    data, seeds = noisy_labels(), []

    def augment(images, *, generator):
        seeds.append(generator.initial_seed())
        return images

    def run(layer, seed, outer=0, **options):
        torch.manual_seed(outer)
        walk = {"steps": 40, "lowest": 1e-3, "highest": 0.1, "optimiser": sgd, "seed": seed}
        return lr_range_test(nn.Sequential(layer, linear()), data, **walk, **options).losses

    ordered = [run(nn.Identity(), k, augment=augment, batch_size=50) for k in (3, 4)]
    assert ordered[0] != ordered[1]
    assert set(seeds) == {3, 4}
    dropped = [
        run(nn.Dropout(), seed, outer, augment=None, batch_size=200)
        for seed, outer in ((3, 0), (3, 1), (4, 0))
    ]
    assert dropped[0] == dropped[1]
    assert np.abs(np.subtract(dropped[0], dropped[2])).max() > 1e-3


def test_a_hundred_rates_from_a_hundred_thousandth_on():
    images, labels = noisy_labels()
    found = lr_range_test(linear(), (images, labels), highest=0.01, augment=None)
    assert len(found.lrs) == 100
    assert (found.lrs[0], found.lrs[-1]) == pytest.approx((1e-5, 0.01))


def test_it_learns_the_normalisation_as_fit_does():
    images, labels = noisy_labels()
    options = {"steps": 20, "augment": None, "optimiser": sgd, "highest": 3.0}
    plain, moved = (
        lr_range_test(nn.Sequential(Standardise(1), linear()), (each, labels), **options).losses
        for each in (images, 50 + 10 * images)
    )
    np.testing.assert_allclose(moved, plain, rtol=1e-4)


def test_several_labels_an_image_are_trained_with_binary_cross_entropy():
    images, _ = noisy_labels()
    labels = (images.flatten(1)[:, :2] > 0).float()
    found = lr_range_test(
        linear(), (images, labels), augment=None, optimiser=sgd, lowest=1e-3, steps=30
    )
    assert found.losses[0] == pytest.approx(math.log(2), rel=1e-6)
    assert 0.2 < min(found.smoothed) < 0.68


def test_a_range_that_ends_before_the_loss_breaks_is_walked_to_its_end():
    images, labels = noisy_labels()
    found = lr_range_test(
        linear(),
        (images, labels),
        **{"lowest": 1e-4, "highest": 1e-2, "steps": 25, "batch_size": 200},
        **{"augment": None, "optimiser": sgd},
    )
    assert len(found.lrs) == len(found.losses) == len(found.smoothed) == 25
    assert found.lrs[-1] == pytest.approx(1e-2)
    assert found.suggestion == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lowest": 0}, "0 < lowest < highest"),
        ({"lowest": 1, "highest": 0.1}, "0 < lowest < highest"),
        ({"lowest": 0.1, "highest": 0.1}, "0 < lowest < highest"),
        ({"highest": math.inf}, "0 < lowest < highest"),
        ({"lowest": math.nan}, "0 < lowest < highest"),
        ({"steps": 9}, "at least 10"),
        ({"steps": 20.5}, "whole number"),
        ({"steps": math.nan}, "whole number"),
        ({"batch_size": 1}, "at least 2"),
        ({"batch_size": 2.5}, "at least 2"),
        ({"steps": True}, "whole number"),
        ({"augment": "strong"}, "'auto', None or a function"),
    ],
)
def test_options_out_of_range_are_told(options, told):
    with pytest.raises(MedlabError, match=told):
        lr_range_test(linear(), noisy_labels(), **options)


def test_it_ends_where_the_smoothed_loss_is_beyond_its_limit_and_not_a_single_one(monkeypatch):
    monkeypatch.setattr("medlab.training.range_test._DIVERGED", 1.5)
    images, labels = noisy_labels()
    asked = {"lowest": 1e-3, "highest": 10.0, "steps": 60}
    found = plain_walk(images, labels, **asked)
    _, _, smoothed = by_hand(images, labels, beta=0.9, **asked)
    lowest = np.minimum.accumulate(smoothed)
    assert len(found.lrs) == np.argmax(smoothed > 1.5 * lowest) + 1 < 60


def test_the_copy_is_in_training_mode_at_every_step(monkeypatch):
    monkeypatch.setattr("medlab.training.range_test._SMOOTHING", 0.0)
    model, modes = linear(), []
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    found = lr_range_test(model.eval(), noisy_labels(), steps=10, augment=None)
    assert modes[-len(found.losses) :] == [True] * len(found.losses)
    assert not model.training


def test_data_that_do_not_fit_are_told():
    images, labels = noisy_labels()
    with pytest.raises(DataError, match="at least two images"):
        lr_range_test(linear(), (images[:1], labels[:1]))
    with pytest.raises(DataError, match="num_classes=4"):
        lr_range_test(linear(), (images, labels + (torch.arange(200) == 0).long() * 2))


def test_a_loss_that_never_falls_is_told():
    images, labels = noisy_labels()
    with pytest.raises(MedlabError, match="never fell below its first value"):
        lr_range_test(
            linear(),
            (images, labels),
            **{"lowest": 1e3, "highest": 1e6, "augment": None, "optimiser": sgd},
        )
    with pytest.raises(MedlabError, match="never fell"):
        lr_range_test(
            nn.Sequential(linear(), nn.Softmax(1), Broken()), (images, labels), augment=None
        )


class Broken(nn.Module):
    def forward(self, x):
        return x * math.nan
