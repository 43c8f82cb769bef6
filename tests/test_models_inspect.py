"""Feature maps and summaries, against counts by hand, torchvision's and PyTorch's own counter."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

from medlab.models import SmallCNN, feature_maps, summary


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


class Twice(nn.Module):
    """One layer used twice, one in place, one never, a weight of its own, a tuple."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.ones(4))
        self.mix = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)
        self.spare = nn.Linear(9, 9)
        self.sequence = nn.GRU(4, 3, batch_first=True)

    def forward(self, x):
        x = self.mix(self.relu(self.mix(x + self.shift)))
        return self.sequence(x[:, None])[0][:, 0]


def test_maps_are_what_the_layers_compute_step_by_step():
    model, images = SmallCNN(width=4), torch.rand(3, 1, 24, 20)
    model(images)  # moves the running statistics, so that evaluation differs from training
    maps = feature_maps(model, images)
    model.eval()
    x = images
    for name, layer in model.features.named_children():
        x = layer(x)
        assert torch.equal(maps[f"features.{name}"], x), name
    assert torch.equal(maps["classifier"], model(images))
    assert list(maps) == [*(f"features.{k}" for k in range(18)), "classifier"]


def test_bytes_are_read_as_everywhere():
    model, images = SmallCNN(width=4), torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    assert torch.equal(feature_maps(model, images)["features.0"], images / 255)


def test_of_a_layer_called_twice_the_last_output_is_kept_and_not_overwritten_in_place():
    model, x = Twice(), torch.randn(2, 4)
    maps = feature_maps(model, x)
    first = linear(x + model.shift, model.mix.weight, model.mix.bias)
    assert list(maps) == ["mix", "relu", "sequence"]
    assert torch.equal(maps["relu"], first.clamp_min(0))
    second = linear(maps["relu"], model.mix.weight, model.mix.bias)
    assert torch.allclose(maps["mix"], second)
    assert maps["sequence"].shape == (2, 1, 3)
    rectified = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    assert (feature_maps(rectified, torch.randn(9, 4))["0"] < 0).any()


def test_a_layer_may_have_two_names_and_one_may_give_nothing():
    class Silent(nn.Module):
        def forward(self, x):
            return ()

    model = nn.Sequential(layer := nn.Linear(4, 4), layer)
    assert list(feature_maps(model, torch.zeros(1, 4))) == ["0"]
    assert feature_maps(Silent(), torch.zeros(1, 4)) == {}


@pytest.mark.parametrize("look", [feature_maps, lambda m, x: summary(m, x.shape[1:])])
def test_the_model_is_left_as_it_was(look):
    model = SmallCNN(width=4).train()
    model.features[3].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(2, 1, 16, 16)
    draws = torch.get_rng_state()
    look(model, images)
    assert hooks(model) == 0
    assert [m.training for m in model.modules()].count(False) == 1
    assert not model.features[3].training
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("look", [feature_maps, lambda m, x: summary(m, x.shape[1:])])
def test_hooks_and_mode_also_after_an_error(look):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(5, 5)).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        look(model, torch.rand(1, 1, 16, 16))
    assert hooks(model) == 0
    assert all(module.training for module in model.modules())


def test_no_graph_is_built_while_looking():
    model, enabled = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), []
    model.register_forward_hook(lambda *_: enabled.append(torch.is_grad_enabled()))
    feature_maps(model, torch.zeros(1, 4))
    summary(model, (4,))
    assert enabled == [False, False]


def test_maps_carry_no_gradient():
    maps = feature_maps(SmallCNN(width=4), torch.rand(1, 1, 16, 16))
    assert not any(m.requires_grad for m in maps.values())


@pytest.mark.parametrize("width", [4, 8])
def test_the_small_network_by_hand(width):
    w = width
    table = summary(SmallCNN(1, 2, w), (1, 32, 24))
    full, half, quarter = 32 * 24, 16 * 12, 8 * 6
    assert table.multiply_adds["total"] == (
        full * 9 * w
        + half * 9 * (w * 2 * w + 2 * w * 2 * w)
        + quarter * 9 * (2 * w * 4 * w + 4 * w * 4 * w)
        + 4 * w * 2
    )
    parameters = sum(p.numel() for p in SmallCNN(1, 2, w).parameters())
    assert table.parameters["total"] == parameters
    first = table[table.kind == "Conv2d"].iloc[0]
    assert first.name == "features.1"
    assert first.tolist() == ["Conv2d", f"{w}×32×24", 9 * w, full * 9 * w]


def test_resnet18_as_torchvision_publishes_it():
    published = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta
    table = summary(torchvision.models.resnet18(), (3, 224, 224))
    assert table.parameters["total"] == published["num_params"] == 11_689_512
    assert table.multiply_adds["total"] / 1e9 == pytest.approx(published["_ops"], abs=5e-4)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Conv2d(6, 9, (3, 5), stride=2, padding=1, groups=3), (6, 20, 17)),
        (nn.Conv3d(2, 4, 3, dilation=2), (2, 9, 8, 7)),
        (nn.Conv1d(2, 4, 3), (2, 11)),
        (nn.ConvTranspose2d(6, 4, 4, stride=2, groups=2), (6, 5, 7)),
        (nn.Linear(7, 3), (5, 7)),
        (SmallCNN(3, 5, 8), (3, 30, 22)),
        (nn.Sequential(nn.Flatten(), nn.Linear(60, 9), nn.ReLU(), nn.Linear(9, 2)), (1, 6, 10)),
    ],
)
def test_multiply_adds_are_half_of_pytorchs_own_count(model, shape):
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    assert summary(model, shape).multiply_adds["total"] * 2 == counter.get_total_flops()


def test_shared_and_spare_layers_and_weights_outside_of_layers():
    model = Twice()
    table = summary(model, (4,))
    assert table.parameters["mix"] == 20
    assert table.multiply_adds["mix"] == 2 * 16
    assert table.parameters[""] == 4
    assert table.output["spare"] == "not called"
    assert table.multiply_adds["spare"] == 0
    assert table.parameters["total"] == sum(p.numel() for p in model.parameters())
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert summary(tied, (4,)).parameters["total"] == 16 + 4 + 4


def test_layers_that_learn_their_size_are_counted_once_they_know_it():
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    assert summary(model, (1, 5, 6)).parameters["total"] == 93


def test_the_table_reads():
    lines = str(summary(SmallCNN(1, 2, 8), (1, 32, 32))).split("\n")
    assert lines[0].split() == ["kind", "output", "parameters", "multiply_adds"]
    assert lines[2].split() == ["features.1", "Conv2d", "8×32×32", "72", "73728"]
    assert lines[-1].split() == ["total", "17626", "1843264"]
    assert len({len(line) for line in lines}) == 1
