"""Choice of number format and memory layout."""

import pytest
import torch

from medlab.errors import DataError
from medlab.models import SmallCNN
from medlab.training import Precision, fit, precision, predict, probe


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(precision, "_CACHE", {})


def timed(monkeypatch, seconds, outputs=None):
    """Let each candidate take the seconds given by its name."""
    calls = []

    def fake(model, images, candidate, repeats):
        calls.append(str(candidate))
        out = (outputs or {}).get(str(candidate), torch.ones(2, 2))
        return seconds[str(candidate)], out

    monkeypatch.setattr(precision, "_time", fake)
    return calls


NAMES = ["float32", "float32+channels_last", "bfloat16", "bfloat16+channels_last"]


@pytest.mark.parametrize("name", [*NAMES, "float16", "float16+channels_last"])
def test_names_round_trip(name):
    assert str(Precision.named(name)) == name


@pytest.mark.parametrize("name", ["float64", "bf16", "float32+nchw", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(DataError, match="precision"):
        Precision.named(name)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ([1.0, 1.0, 1.0, 1.0], "float32"),
        ([1.0, 0.95, 0.9, 0.9], "float32"),  # not worth a change
        ([1.0, 0.5, 1.0, 1.0], "float32+channels_last"),
        ([1.0, 0.5, 0.6, 0.2], "bfloat16+channels_last"),
        ([1.0, 1.2, 0.5, 0.6], "bfloat16"),
        ([1.0, 0.5, 0.6, 0.45], "float32+channels_last"),
    ],
)
def test_a_change_must_pay(monkeypatch, seconds, chosen):
    table = dict(zip(NAMES, seconds, strict=True))
    timed(monkeypatch, table)
    assert str(probe(SmallCNN(width=4), torch.zeros(2, 1, 16, 16))) == chosen


def test_mixed_precision_with_other_outputs_is_refused(monkeypatch):
    table = dict(zip(NAMES, [1.0, 0.9, 0.1, 0.1], strict=True))
    wrong = {"bfloat16": torch.full((2, 2), 1.2), "bfloat16+channels_last": torch.full((2, 2), 0.9)}
    timed(monkeypatch, table, wrong)
    assert probe(SmallCNN(width=4), torch.zeros(2, 1, 16, 16)).dtype == "float32"


def test_the_choice_is_remembered_for_structure_and_shape(monkeypatch):
    calls = timed(monkeypatch, dict.fromkeys(NAMES, 1.0))
    model, images = SmallCNN(width=4), torch.zeros(2, 1, 16, 16)
    probe(model, images)
    assert len(calls) >= 3
    calls.clear()
    probe(SmallCNN(width=4), images)
    assert not calls
    probe(SmallCNN(width=8), images)
    probe(model, torch.zeros(3, 1, 16, 16))
    probe(model, images, cache=False)
    assert len(calls) >= 9


def test_probing_leaves_model_and_random_state_alone():
    model = torch.nn.Sequential(torch.nn.Dropout(), SmallCNN(width=4))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(4, 1, 16, 16)
    random = torch.get_rng_state()
    probe(model, images, repeats=1)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("capability", "half"), [((7, 5), "float16"), ((8, 0), "bfloat16")])
def test_a_t4_gets_float16(monkeypatch, capability, half):
    """Turing cards (7.5) only emulate bfloat16, and slowly."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision._half(torch.device("cuda")) == half
    assert precision._half(torch.device("cpu")) == "bfloat16"


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


def test_short_training_is_not_probed(monkeypatch):
    timed(monkeypatch, {})  # any timing would fail
    labels = torch.arange(20) % 2
    history = fit(SmallCNN(width=4), (torch.rand(20, 1, 16, 16), labels), epochs=1, progress=False)
    assert history.config["precision"] == "float32"


def test_long_training_is_probed(monkeypatch):
    timed(monkeypatch, dict(zip(NAMES, [1.0, 0.5, 1.0, 1.0], strict=True)))
    labels = torch.arange(20) % 2
    history = fit(SmallCNN(width=4), (torch.rand(20, 1, 16, 16), labels), epochs=20, batch_size=2,
                  progress=False)  # fmt: skip
    assert history.config["precision"] == "float32+channels_last"
