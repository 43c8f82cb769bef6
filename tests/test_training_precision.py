"""Choice of number format and memory layout."""

import pytest
import torch

from medlab.errors import DataError
from medlab.models import SmallCNN
from medlab.training import Precision, fit, predict

NAMES = ["float32", "float32+channels_last", "bfloat16", "bfloat16+channels_last"]


@pytest.mark.parametrize("name", [*NAMES, "float16", "float16+channels_last"])
def test_names_round_trip(name):
    assert str(Precision.named(name)) == name


@pytest.mark.parametrize("name", ["float64", "bf16", "float32+nchw", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(DataError, match="precision"):
        Precision.named(name)


@pytest.mark.parametrize(
    ("device", "capability", "name"),
    [
        ("cpu", None, "float32+channels_last"),
        ("cuda", (7, 5), "float16+channels_last"),  # a T4 only emulates bfloat16
        ("cuda", (8, 0), "bfloat16+channels_last"),
        ("cuda", (9, 0), "bfloat16+channels_last"),
    ],
)
def test_the_rule(monkeypatch, device, capability, name):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert str(Precision.by_rule(torch.device(device))) == name


@pytest.mark.parametrize("epochs", [1, 30])
def test_auto_follows_the_rule_whatever_the_length_and_the_clock(epochs):
    labels = torch.arange(20) % 2
    data = (torch.rand(20, 1, 16, 16), labels)
    history = fit(SmallCNN(width=4), data, epochs=epochs, batch_size=2, progress=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert history.config["precision"] == str(Precision.by_rule(device))


def test_only_float16_scales_the_loss():
    device = torch.device("cpu")
    assert Precision("float16").scaler(device).is_enabled()
    assert not Precision("bfloat16").scaler(device).is_enabled()
    assert not Precision("float32").scaler(device).is_enabled()


@pytest.mark.parametrize("name", ["bfloat16", "float32+channels_last", "bfloat16+channels_last"])
def test_every_precision_learns_and_leaves_float32_weights(name):
    labels = torch.arange(96) % 2
    images = torch.rand(96, 1, 16, 16) + 0.5 * labels.view(-1, 1, 1, 1)
    torch.manual_seed(0)
    model = SmallCNN(width=4)
    history = fit(model, (images, labels), epochs=6, lr=0.01, batch_size=16, precision=name,
                  augment=None, progress=False)  # fmt: skip
    assert history.config["precision"] == name
    assert (predict(model, images).argmax(1) == labels).float().mean() > 0.95
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in model.parameters())
