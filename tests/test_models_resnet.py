"""The residual network: torchvision's with the same weights, by hand, and trained."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet as theirs

import medlab
from medlab.errors import DataError
from medlab.models import ResNet
from medlab.training import load_model, save_weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(model):
    """The model with every weight and running statistic drawn anew, none of them at its default."""
    rng = generator(1)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and "standardise" not in name:
            positive = name.endswith(("running_var", "std"))
            noise = torch.randn(value.shape, generator=rng) * (2 / value[0].numel()) ** 0.5
            value.copy_(noise.abs() + 0.5 if positive else noise + (0.5 if value.ndim == 1 else 0))
    return model


def of_torchvision(blocks, classes=3):
    """torchvision's network with the stem of small images, and as many stages as `blocks`."""
    model = theirs.ResNet(theirs.BasicBlock, [*blocks, *[1] * (4 - len(blocks))], classes)
    model.conv1 = nn.Conv2d(2, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    for stage in range(len(blocks), 4):
        setattr(model, f"layer{stage + 1}", nn.Identity())
    model.fc = nn.Linear(64 * 2 ** (len(blocks) - 1), classes)
    return shaken(model)


def with_weights_of(model, blocks, classes=3):
    """Ours, with the other's weights in their order, behind an idle Standardise."""
    ours = ResNet(2, classes, 64, blocks)
    state = {n: v for n, v in ours.state_dict().items() if not n.startswith("features.0.")}
    for (name, value), (other, given) in zip(
        state.items(), model.state_dict().items(), strict=True
    ):
        assert name.rsplit(".", 1)[1] == other.rsplit(".", 1)[1]
        value.copy_(given)
    return ours


@pytest.mark.parametrize("blocks", [(1,), (2, 1), (1, 2, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_equals_torchvision_with_the_same_weights(blocks, training):
    other = of_torchvision(blocks)
    ours = with_weights_of(other, blocks)
    images = torch.randn(3, 2, 16, 21, generator=generator())
    a, b = ours.train(training)(images), other.train(training)(images)
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())
    a[:, 0].sum().backward(), b[:, 0].sum().backward()
    for p, q in zip(ours.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-3 * q.grad.abs().max().item())


def test_block_by_hand():
    block = shaken(ResNet(1, 2, 4, (2,)).eval()).features[5]
    x = torch.randn(2, 4, 6, 5, generator=generator())
    first, norm, _, second, norm2 = block.change
    f = norm2(second(norm(first(x)).clamp_min(0)))
    assert torch.allclose(block(x), (x + f).clamp_min(0), atol=1e-6)
    block.shortcut = None
    assert torch.allclose(block(x), f.clamp_min(0), atol=1e-6)


@pytest.mark.parametrize("blocks", [(1,), (2, 2, 2), (1, 3)])
@pytest.mark.parametrize("residual", [True, False])
def test_depth_and_parameters_by_hand(blocks, residual):
    w, model = 4, ResNet(3, 5, 4, blocks, residual=residual)
    kernels = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    main = [m for m in kernels if m.kernel_size == (3, 3)]
    assert len(main) + 1 == 2 * sum(blocks) + 2
    counts, channels = 27 * w + 2 * w, w
    for stage, count in enumerate(blocks):
        for _ in range(count):
            out = w * 2**stage
            counts += 9 * channels * out + 9 * out * out + 4 * out
            if residual and out != channels:
                counts += channels * out + 2 * out
            channels = out
    assert sum(p.numel() for p in model.parameters()) == counts + channels * 5 + 5
    assert not residual or len(kernels) - len(main) == len(blocks) - 1
    assert residual or kernels == main


def test_plain_network_is_the_residual_one_without_its_sums():
    deep, plain = ResNet(width=4), ResNet(width=4, residual=False)
    kept = {n: v for n, v in deep.state_dict().items() if ".shortcut." not in n}
    plain.load_state_dict(kept)  # strict: the same names and shapes
    images = torch.rand(2, 1, 16, 16)
    assert not torch.allclose(deep.eval()(images), plain.eval()(images))
    for layer in deep.modules():
        if hasattr(layer, "shortcut"):
            layer.shortcut = None
    assert torch.equal(deep(images), plain(images))


@pytest.mark.parametrize("size", [(8, 8), (9, 30), (64, 64)])
@pytest.mark.parametrize("residual", [True, False])
def test_any_size_from_two_to_the_stages(size, residual):
    model = ResNet(1, 3, 4, residual=residual).eval()
    assert model(torch.rand(2, 1, *size)).shape == (2, 3)
    maps = model.features(torch.rand(2, 1, *size))
    assert maps.shape == (2, 16, -(-size[0] // 4), -(-size[1] // 4))


def test_volumes():
    model = ResNet(2, 3, 4, (1, 1), dims=3)
    assert model(torch.rand(2, 2, 4, 9, 5)).shape == (2, 3)


def test_images_of_a_batch_do_not_touch_each_other_in_evaluation():
    model = shaken(ResNet(width=4)).eval()
    images = torch.rand(4, 1, 16, 16)
    alone = torch.cat([model(image[None]) for image in images])
    assert torch.allclose(model(images), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 1, 7, 20), (1, 16, 16), (2, 1, 8, 16, 16)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(DataError, match="sides of at least 8 pixels"):
        ResNet(width=4)(torch.zeros(shape))


@pytest.mark.parametrize(
    "options", [{"blocks": ()}, {"blocks": (2, 0)}, {"dims": 1}], ids=lambda o: next(iter(o))
)
def test_wrong_options_are_named(options):
    with pytest.raises(DataError, match="blocks are one or more|dims must be 2"):
        ResNet(**options)


def test_wrong_channels_are_named():
    with pytest.raises(DataError, match="1 channel"):
        ResNet(width=4)(torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize(
    "options", [{"blocks": (1, 2)}, {"residual": False}, {"dims": 3, "blocks": [1]}]
)
def test_weights_travel(tmp_path, options):
    model = shaken(ResNet(1, 3, 4, **options))
    save_weights(model, tmp_path / "net.safetensors", classes=("a", "b", "c"))
    loaded, classes = load_model(tmp_path / "net.safetensors")
    images = torch.rand(2, 1, *[8] * model.arguments["dims"])
    assert classes == ("a", "b", "c")
    assert torch.equal(loaded(images), model.eval()(images))


def test_it_trains_and_what_is_frozen_stays():
    images = torch.rand(64, 1, 16, 16, generator=generator())
    labels = torch.arange(64) % 2
    images[labels == 1, :, 4:9, 4:9] += 0.6
    torch.manual_seed(0)
    model = ResNet(width=4, blocks=(1, 1))
    history = medlab.fit(model, (images, labels), epochs=25, lr=0.02, augment=None, progress=False)
    assert history["train_loss"][-1] < 0.2
    norm = model.train().features[2].eval()
    before = norm.running_mean.clone()
    medlab.fit(model, (images + 5, labels), epochs=2, augment=None, progress=False)
    assert torch.equal(norm.running_mean, before)
