"""Networks: sizes, shapes, normalisation, messages."""

import pytest
import torch

from medlab.errors import DataError
from medlab.models import SmallCNN, Standardise


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("channels", "classes", "width"), [(1, 2, 32), (3, 5, 8), (2, 14, 16)])
def test_parameter_count_by_hand(channels, classes, width):
    w = width
    kernels = 9 * (channels * w + w * 2 * w + 4 * w * w + 2 * w * 4 * w + 16 * w * w)
    normalisation = 2 * (w + 2 * w + 2 * w + 4 * w + 4 * w)
    linear = 4 * w * classes + classes
    assert parameters(SmallCNN(channels, classes, width)) == kernels + normalisation + linear


def test_default_size_is_small():
    assert parameters(SmallCNN()) == 277_858


@pytest.mark.parametrize("size", [(16, 16), (28, 28), (17, 45), (64, 64), (130, 97)])
def test_any_size_from_sixteen(size):
    model = SmallCNN(width=4).eval()
    images = torch.rand(2, 1, *size)
    assert model(images).shape == (2, 2)
    assert model.features(images).shape == (2, 16, size[0] // 4, size[1] // 4)


def test_output_is_the_linear_layer_on_averaged_features():
    model = SmallCNN(num_classes=3, width=4).eval()
    images = torch.rand(5, 1, 20, 24)
    mean = model.features(images).flatten(2).mean(2)
    by_hand = mean @ model.classifier.weight.T + model.classifier.bias
    assert torch.allclose(model(images), by_hand, atol=1e-6)


def test_images_of_a_batch_do_not_touch_each_other_in_evaluation():
    model = SmallCNN(width=4).eval()
    images = torch.rand(6, 1, 16, 16)
    alone = torch.cat([model(image[None]) for image in images])
    assert torch.allclose(model(images), alone, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 15, 20), (1, 16, 16), (2, 1, 8, 16, 16)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(DataError, match="16 pixels"):
        SmallCNN(width=4)(torch.zeros(shape))


def test_wrong_channels_are_named():
    with pytest.raises(DataError, match=r"expects .* 1 channel; got \(2, 3, 16, 16\)"):
        SmallCNN(width=4)(torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize("shape", [(3000, 3, 5, 4), (40, 3, 4, 5, 6)])
def test_standardise_equals_torch_mean_and_std(shape):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 5 + 1000
    layer = Standardise(3).fit(images)
    axes = [0, *range(2, len(shape))]
    assert torch.allclose(layer.mean.double(), images.double().mean(axes), rtol=1e-6)
    assert torch.allclose(layer.std.double(), images.double().std(axes, correction=0), rtol=1e-6)
    out = layer(images)
    assert out.mean(axes).abs().max() < 1e-3
    assert (out.std(axes) - 1).abs().max() < 1e-3


def test_standardise_sees_bytes_as_the_model_will():
    images = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
    layer = Standardise(1).fit(images)
    assert layer.mean.item() == pytest.approx(images.double().mean().item() / 255, rel=1e-6)


def test_constant_channel_is_not_blown_up():
    images = torch.cat([torch.rand(9, 1, 4, 4), torch.full((9, 1, 4, 4), 0.3)], dim=1)
    out = Standardise(2).fit(images)(images)
    assert out[:, 1].abs().max() < 1e-5


def test_normalisation_travels_with_the_weights_and_is_not_trained():
    model = SmallCNN(width=4)
    assert {"features.0.mean", "features.0.std"} <= set(model.state_dict())
    assert not any("features.0" in name for name, _ in model.named_parameters())
