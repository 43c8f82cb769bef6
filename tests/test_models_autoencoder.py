"""The autoencoder's shapes, costs and units, and the denoiser that begins as nothing."""

from __future__ import annotations

import pytest
import torch

from medlab.errors import DataError
from medlab.models import Autoencoder, Denoiser
from medlab.training import load_model, save_weights


@pytest.mark.parametrize(("depth", "size"), [(1, (6, 10)), (3, (16, 24)), (5, (32, 32))])
def test_the_code_has_the_size_that_is_told(depth, size):
    model = Autoencoder(2, 5, 4, depth=depth).eval()
    images = torch.rand(3, 2, *size)
    code = model.encode(images)
    assert code.shape == (3, 5, *(side // 2**depth for side in size))
    assert model.decode(code).shape == model(images).shape == images.shape
    assert torch.equal(model.decode(code), model(images))


def test_parameters_by_hand():
    w, k, c = 4, 3, 2
    sizes = [w, 2 * w, 4 * w, 8 * w, 8 * w]

    def layer(window, a, b):
        return window * a * b + 2 * b  # batch normalisation has two a channel

    down = sum(layer(9, a, b) for a, b in zip([c, *sizes], sizes, strict=False))
    code = sizes[-1] * k + k + k * sizes[-1] + sizes[-1]
    up = sum(layer(16, a, b) for a, b in zip(sizes[:0:-1], sizes[-2::-1], strict=True))
    last = 16 * w * c + c
    model = Autoencoder(c, k, w, depth=5)
    assert sum(p.numel() for p in model.parameters()) == down + code + up + last


def test_a_pixel_reaches_the_output_through_the_code_alone():
    torch.manual_seed(0)
    model = Autoencoder(1, 2, 4, depth=2).eval()
    images = torch.rand(1, 1, 16, 16)
    zero = torch.zeros_like(model.encode(images))
    assert not torch.equal(model.decode(zero), model(images))
    with torch.no_grad():
        for parameter in model.down[-1].parameters():
            parameter.zero_()
    assert torch.equal(model.decode(zero), model(images))
    assert torch.equal(model(images), model(torch.rand(1, 1, 16, 16)))


def test_outputs_are_in_the_units_of_the_images():
    torch.manual_seed(0)
    images = 200 * torch.randn(16, 1, 16, 16) - 800
    model = Autoencoder(1, 2, 4, depth=2)
    model.standardise.fit(images)
    plain = Autoencoder(1, 2, 4, depth=2)
    plain.load_state_dict(model.state_dict())
    plain.standardise.mean.zero_(), plain.standardise.std.fill_(1)
    unit = (images - images.mean()) / images.std(correction=0)
    want = plain.eval()(unit) * images.std(correction=0) + images.mean()
    torch.testing.assert_close(model.eval()(images), want, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("shape", [(1, 1, 8, 12), (1, 1, 12, 8), (1, 8, 8), (1, 1, 8, 8, 8)])
def test_sides_that_cannot_be_halved_are_refused(shape):
    with pytest.raises(DataError, match=r"multiple of 8|with 2 sides"):
        Autoencoder(1, depth=3)(torch.rand(*shape))


@pytest.mark.parametrize("size", [(16, 16), (17, 31)])
def test_an_untrained_denoiser_returns_the_image(size):
    images = torch.randn(2, 3, *size)
    model = Denoiser(3, width=4)
    assert torch.equal(model(images), images)
    with torch.no_grad():
        model.noise.classifier.bias.fill_(1)
    model.noise.standardise.std.copy_(torch.tensor([1.0, 2, 3]))
    less = (images - model(images)).mean((0, 2, 3))
    torch.testing.assert_close(less, torch.tensor([0.1, 0.2, 0.3]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", [Autoencoder(1, 3, 4, depth=2), Denoiser(1, 4)])
def test_saved_and_loaded(model, tmp_path):
    save_weights(model, tmp_path / "model.safetensors")
    again, _ = load_model(tmp_path / "model.safetensors")
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(again(images), model.eval()(images))
