"""Oracles: models whose maps are known in closed form, and loops written out."""

from collections import OrderedDict
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from medlab import explain
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.models import ResNet, SmallCNN

METHODS = [
    explain.occlusion,
    explain.grad_cam,
    explain.gradient,
    explain.integrated_gradients,
]
OF_PIXELS = METHODS[2:]


class Linear(nn.Module):
    """Two outputs, each a weighted sum over pixels."""

    def __init__(self, channels=1, size=12):
        super().__init__()
        weight = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        return torch.einsum("nchw,kchw->nk", images, self.weight)


class Hand(nn.Module):
    """Two feature maps A₁ = 2x + 1 and A₂ = 1 − x, averaged over positions, mixed by a head."""

    def __init__(self, pool=None, inplace=None):
        super().__init__()
        conv = nn.Conv2d(1, 2, 1)
        conv.weight.data = torch.tensor([2.0, -1.0]).view(2, 1, 1, 1)
        conv.bias.data = torch.tensor([1.0, 1.0])
        if pool is None:
            self.conv = conv
        else:
            self.features = nn.Sequential(conv, nn.AvgPool2d(pool))
        self.relu = nn.Identity() if inplace is None else nn.ReLU(inplace=inplace)
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, 0.5], [-1.0, 3.0]])

    def forward(self, images):
        maps = self.conv(images) if hasattr(self, "conv") else self.features(images)
        return self.head(self.relu(maps).mean((2, 3)))


class Usual(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, outputs)

    def forward(self, images):
        return self.head(self.drop(self.features(images).mean((2, 3))))


def batch(n=5, channels=1, size=12):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def test_occlusion_of_a_linear_model_is_a_sum_of_weights():
    model, images = Linear(channels=2), batch(channels=2)
    images = images - images.mean((2, 3), keepdim=True)  # so that a patch is covered with 0
    found = explain.occlusion(model, images, 0, patch=4, stride=4)
    product = (images * model.weight[0]).sum(1).detach()
    sums = product.reshape(5, 3, 4, 3, 4).sum((2, 4))
    expected = sums.repeat_interleave(4, 1).repeat_interleave(4, 2)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("patch", "stride"), [(5, 3), (4, 4), (8, None), (12, 1), (1, 1)])
def test_occlusion_averages_over_the_patches_that_cover_a_pixel(patch, stride, monkeypatch):
    monkeypatch.setattr(explain, "_BATCH", 2)
    model, images = Linear(channels=2), batch(3, channels=2)
    options = {} if stride is None else {"stride": stride}
    found = explain.occlusion(model, images, 1, patch=patch, **options)
    starts = [*range(0, 12 - patch, stride or 4), 12 - patch]
    for i in range(3):
        total, cover = np.zeros((12, 12)), np.zeros((12, 12))
        for y in starts:
            for x in starts:
                covered = images[i].clone()
                covered[:, y : y + patch, x : x + patch] = images[i].mean((1, 2))[:, None, None]
                fall = ((images[i] - covered) * model.weight[1]).sum().item()
                total[y : y + patch, x : x + patch] += fall
                cover[y : y + patch, x : x + patch] += 1
        np.testing.assert_allclose(found[i], total / cover, atol=1e-3)


@pytest.mark.parametrize("target", [0, 1])
def test_grad_cam_by_hand(target):
    """∂ output / ∂ A_k = w_k / (h w) everywhere, so the map is max(0, w₁A₁ + w₂A₂) / (h w)."""
    images = batch(size=6)
    w1, w2 = [(1.0, 0.5), (-1.0, 3.0)][target]
    expected = (w1 * (2 * images + 1) + w2 * (1 - images)).clamp_min(0)[:, 0] / 36
    torch.testing.assert_close(explain.grad_cam(Hand(), images, target), expected)


def test_grad_cam_is_enlarged_bilinearly_from_pixel_centres():
    image = torch.zeros(1, 1, 4, 4)
    image[..., :, 2:] = 4.0  # two feature columns: A₁ + A₂/2 is 1.5 and 7.5
    found = explain.grad_cam(Hand(pool=2), image, 0)[0] * 4
    row = torch.tensor([1.5, 0.75 * 1.5 + 0.25 * 7.5, 0.25 * 1.5 + 0.75 * 7.5, 7.5])
    torch.testing.assert_close(found, row.expand(4, 4))


def test_an_in_place_relu_after_the_layer_changes_nothing():
    images = batch(size=6)
    for pool in (None, 2):
        found = explain.grad_cam(Hand(pool, inplace=True), images, 1)
        expected = explain.grad_cam(Hand(pool, inplace=False), images, 1)
        torch.testing.assert_close(found, expected)


def test_the_layer_is_the_features_or_else_the_last_convolution():
    first, last = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    bare = nn.Sequential(first, last, *ends)
    named = nn.Sequential(OrderedDict(features=nn.Sequential(first, last), a=ends[0], b=ends[1]))
    images = batch(size=16)
    assert torch.equal(explain.grad_cam(bare, images, 0), explain.grad_cam(named, images, 0))
    named = nn.Sequential(OrderedDict(features=first, last=last, a=ends[0], b=ends[1]))
    assert not torch.equal(explain.grad_cam(bare, images, 0), explain.grad_cam(named, images, 0))


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_found(method):
    model = Usual().train()
    model.features[1].eval()  # a frozen normalisation, as in fine-tuning
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.full_like(model.head.bias, 7.0)
    handle = model.features.register_forward_hook(lambda *_: None)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    images = batch(size=16)
    copy = images.clone()
    rng = torch.get_rng_state()
    method(model, images, 1)
    with pytest.raises(DataError):
        method(model, images, 3)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert (model.head.bias.grad == 7).all()
    assert model.features[0].weight.grad is None
    assert not model.head.weight.requires_grad
    assert len(model.features._forward_hooks) == 1
    assert sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()) == 1
    assert torch.equal(images, copy)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), rng)
    handle.remove()


@pytest.mark.parametrize("method", METHODS)
def test_every_circumstance_gives_the_same_map(method, monkeypatch):
    model, images = Usual(), batch(size=16).mul(60).add(128).clamp(0, 255).byte()
    found = method(model, images, 2)
    assert found.shape == (5, 16, 16)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.amax((1, 2)).min() > 0
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.testing.assert_close(method(model.train(), images.float() / 255, 2), found)
    with monkeypatch.context() as patch:
        patch.setattr(explain, "_BATCH", 2)
        torch.testing.assert_close(method(model, images, 2), found)
    with torch.no_grad():
        torch.testing.assert_close(method(model, images, 2), found)
    with torch.inference_mode():
        torch.testing.assert_close(method(model, images.clone(), 2), found)
    one_by_one = torch.cat([method(model, images[i : i + 1], 2) for i in range(5)])
    torch.testing.assert_close(one_by_one, found, atol=1e-5, rtol=1e-4)


def test_a_map_without_evidence_is_zero_not_nan():
    class Constant(nn.Module):
        def forward(self, images):
            return 0 * images.mean((1, 2, 3))[:, None] + torch.tensor([1.0, 2.0])

    assert (explain.occlusion(Constant(), batch(), 0) == 0).all()


def test_a_model_that_changes_its_input_in_place():
    class Rude(Usual):
        def forward(self, images):
            images -= 1
            return super().forward(images)

    images = batch(size=16)
    for method in METHODS[1:3]:
        torch.testing.assert_close(method(Rude(), images, 0), method(Usual(), images - 1, 0))
    found = explain.integrated_gradients(Rude(), images, 0)
    shifted = explain.integrated_gradients(
        Usual(), images - 1, 0, baseline=torch.full((1, 16, 16), -1.0)
    )
    torch.testing.assert_close(found, shifted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_cohort_or_a_pair_is_explained_as_its_images_are(method):
    images = batch(4, size=16).mul(60).add(128).clamp(0, 255).byte()
    card = DataCard(name="x", title="x", task="binary", classes=("a", "b", "c"))
    cohort = Cohort(images=images, labels=torch.tensor([0, 1, 0, 1]), card=card)
    expected = method(Usual(), images, 1)
    torch.testing.assert_close(method(Usual(), cohort, 1), expected)
    torch.testing.assert_close(method(Usual(), (images, cohort.labels), 1), expected)
    torch.testing.assert_close(method(Usual(), images.numpy(), 1), expected)
    loader = DataLoader(TensorDataset(images, cohort.labels))
    for other in (loader, list(images.numpy()), "images", None):
        with pytest.raises(DataError, match="expected a Cohort, or images"):
            method(Usual(), other, 1)


def test_refusals():
    model, images = Usual(), batch(size=16)
    for method in METHODS:
        with pytest.raises(DataError, match=r"images must be \(N, C, H, W\).* got \(1, 16, 16\)"):
            method(model, images[0], 0)
        for other in (images[:0], images[:, :, None]):
            with pytest.raises(DataError, match=r"expected one image \(N, C, H, W\) or more"):
                method(model, other, 0)
        for target in (3, -1, 0.5):
            with pytest.raises(DataError, match=r"target must be 0 to 2.* got"):
                method(model, images, target)
        with pytest.raises(DataError, match="one row of outputs per image"):
            method(model.features, images, 0)
    with pytest.raises(DataError, match="patch must be 1 to 16"):
        explain.occlusion(model, images, 0, patch=17)
    with pytest.raises(DataError, match="every pixel is covered"):
        explain.occlusion(model, images, 0, patch=4, stride=5)
    for steps in (0, -1, 2.5, None):
        with pytest.raises(DataError, match="steps a whole number from 1"):
            explain.integrated_gradients(model, images, 0, steps=steps)
    for shape in ((16, 16), (5, 1, 16, 16), (1, 8, 8), (3, 16, 16), (1,)):
        with pytest.raises(DataError, match="baseline must be one image"):
            explain.integrated_gradients(model, images, 0, baseline=torch.zeros(shape))
    with pytest.raises(DataError, match="needs a convolution"):
        explain.grad_cam(Linear(), batch(), 0)

    class Bypass(Usual):
        def forward(self, images):
            self.features(images)
            return images.mean((2, 3)).expand(-1, 3)

    with pytest.raises(DataError, match="on which the output depends"):
        explain.grad_cam(Bypass(), images, 0)

    class Unused(Usual):
        def forward(self, images):
            return images.mean((2, 3)).expand(-1, 3)

    with pytest.raises(DataError, match="is it called"):
        explain.grad_cam(Unused(), images, 0)

    class Detached(Usual):
        def forward(self, images):
            return super().forward(images).detach()

    with pytest.raises(DataError, match="on which the output depends"):
        explain.grad_cam(Detached(), images, 0)

    class Blind(Usual):
        def forward(self, images):
            return self.head.weight.sum().expand(len(images), 3)

    for method, other in product(OF_PIXELS, (Detached(), Blind())):
        with pytest.raises(DataError, match="does not depend on the image"):
            method(other, images, 0)


@pytest.mark.parametrize("target", [0, 1])
def test_the_gradient_of_a_linear_model_is_its_weights(target):
    model, images = Linear(channels=3), batch(channels=3)
    expected = model.weight[target].abs().amax(0).expand(5, -1, -1).detach()
    torch.testing.assert_close(explain.gradient(model, images, target), expected)
    way = images - 0.5
    expected = (way * model.weight[target]).sum(1).detach()
    for baseline in (torch.full((3, 12, 12), 0.5), np.full((1, 3, 12, 12), 0.5)):
        found = explain.integrated_gradients(model, images, target, baseline=baseline, steps=1)
        torch.testing.assert_close(found, expected)


class Saturated(nn.Module):
    """1 − ReLU(1 − x), pixel by pixel, weighted: flat above 1, where a gradient sees nothing."""

    def forward(self, images):
        bent = 1 - (1 - images).relu()
        return torch.stack([bent.sum((1, 2, 3)), -2 * bent.sum((1, 2, 3))], 1)


def test_integrated_gradients_see_what_saturated():
    image = torch.tensor([[2.0, 0.5], [-1.0, 4.0]])[None, None]
    found = explain.integrated_gradients(Saturated(), image, 1, steps=100)
    # of the way to 2 half is steep, of that to 4 a quarter
    expected = -2 * torch.tensor([[1.0, 0.5], [-1.0, 1.0]])[None]
    torch.testing.assert_close(found, expected)
    slopes = explain.gradient(Saturated(), image, 1)
    torch.testing.assert_close(slopes, torch.tensor([[[0.0, 2.0], [2.0, 0.0]]]))


def test_midpoints_integrate_a_curve():
    class Square(nn.Module):
        def forward(self, images):
            return (images**3).sum((2, 3))

    images = batch(size=4)
    # mean of 3(αx)² over two midpoints, α = ¼ and ¾, is 3x² · 5/16
    found = explain.integrated_gradients(Square(), images, 0, steps=2)
    torch.testing.assert_close(found, images[:, 0] ** 3 * 15 / 16)


def test_integrated_gradients_are_complete():
    images, baseline = batch(7, channels=2, size=16), torch.rand(2, 16, 16)
    for model in (SmallCNN(2, 3, width=4), ResNet(2, 3, width=4, blocks=(1, 1))):
        found = explain.integrated_gradients(model, images, 2, baseline=baseline, steps=256)
        with torch.no_grad():
            gain = model.eval()(images)[:, 2] - model(baseline[None])[:, 2]
        torch.testing.assert_close(found.sum((1, 2)), gain, atol=2e-3, rtol=0.02)


def test_an_integer_baseline_is_scaled_as_integer_images_are():
    images = batch(3, size=16).mul(60).add(128).clamp(0, 255).byte()
    found = explain.integrated_gradients(Usual(), images, 1, baseline=images[0], steps=4)
    scaled = images.float() / 255
    expected = explain.integrated_gradients(Usual(), scaled, 1, baseline=scaled[:1], steps=4)
    torch.testing.assert_close(found, expected)
    assert (found[0] == 0).all()


@pytest.mark.parametrize("network", [SmallCNN, partial(ResNet, blocks=(1, 1))])
def test_maps_are_those_of_captum(network):
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    model = network(2, 3, width=4)
    for module in model.modules():  # statistics unlike those of an untrained network
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    images, baseline, target = batch(4, channels=2, size=16), torch.rand(1, 2, 16, 16), 2
    model.eval()

    theirs = attr.Saliency(model).attribute(images.clone().requires_grad_(), target).amax(1)
    close(explain.gradient(model, images, target), theirs)

    for start, given in ((baseline, {"baseline": baseline}), (torch.zeros_like(baseline), {})):
        theirs = attr.IntegratedGradients(model).attribute(
            images, start, target, n_steps=8, method="riemann_middle"
        )
        found = explain.integrated_gradients(model, images, target, **given, steps=8)
        close(found, theirs.sum(1))

    theirs = attr.LayerGradCam(model, model.features).attribute(
        images, target, relu_attributions=True
    )
    enlarged = attr.LayerAttribution.interpolate(theirs, (16, 16), "bilinear")
    close(explain.grad_cam(model, images, target), enlarged[:, 0])

    # Where patches do not overlap, the definitions meet; captum says it for every channel.
    theirs = attr.Occlusion(model).attribute(
        images, (2, 4, 4), (2, 4, 4), images.mean((2, 3), keepdim=True).expand_as(images), target
    )
    close(explain.occlusion(model, images, target, patch=4, stride=4), theirs[:, 0])


def close(found, theirs):
    assert theirs.abs().max() > 0
    torch.testing.assert_close(found, theirs.detach().float(), atol=1e-5, rtol=1e-3)


def test_pointing_game():
    maps, masks = torch.zeros(4, 5, 5), torch.zeros(4, 5, 5, dtype=torch.uint8)
    masks[:3, 1:3, 1:3] = 2
    maps[0, 1, 1] = 1  # a hit
    maps[1, 4, 4] = 1  # a miss
    # image 2: a constant map hits by chance, 4 of 25; image 3 has no lesion
    assert explain.pointing_game(maps, masks) == pytest.approx((1 + 0 + 4 / 25) / 3)
    assert explain.pointing_game(maps.numpy(), masks.numpy()) == pytest.approx(1.16 / 3)
    with pytest.raises(DataError, match="some mask must hold a lesion"):
        explain.pointing_game(maps, torch.zeros(4, 5, 5))
    with pytest.raises(DataError, match="of one shape"):
        explain.pointing_game(maps, masks[:, None])
    with pytest.raises(DataError, match="NaN"):
        explain.pointing_game(maps * float("nan"), masks)


def test_energy_inside():
    maps, masks = torch.zeros(5, 5, 5), torch.zeros(5, 5, 5, dtype=torch.uint8)
    masks[:4, 1:3, 1:3] = 2
    maps[0, 1, 1], maps[0, 4, 4], maps[0, 2, 2] = 1, 3, -7  # 1 of 4: what is negative counts 0
    maps[1, 1:4, 1] = 0.2  # two of three
    maps[2] = -1  # nothing positive: the mask's share, 4 of 25, as for a constant map
    maps[3] = 5
    maps[4, 0, 0] = 9  # no lesion
    expected = (1 / 4 + 2 / 3 + 4 / 25 + 4 / 25) / 4
    assert explain.energy_inside(maps, masks) == pytest.approx(expected)
    assert explain.energy_inside(maps.numpy(), masks.numpy()) == pytest.approx(expected)
    assert (maps[2] == -1).all()
    with pytest.raises(DataError, match="some mask must hold a lesion"):
        explain.energy_inside(maps, torch.zeros(5, 5, 5))
    with pytest.raises(DataError, match="of one shape"):
        explain.energy_inside(maps, masks[:, None])


def test_the_course_model_is_explained_by_its_last_maps():
    model = SmallCNN(width=4)
    images = batch(2, size=32)
    for method in METHODS:
        found = method(model, images, 1)
        assert found.shape == (2, 32, 32)
        assert found.isfinite().all()
