"""The network for sequences, its task, and what must not happen to their third axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError
from medlab.models import CNNGRU
from medlab.training import Sequence, fit, load_model, predict, save_weights
from medlab.training._setup import prepare
from medlab.training.processes import Team

QUIET = {"progress": False, "precision": "float32"}
FLASHES = DataCard(name="flashes", title="Flashes", task="sequence", frames=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def net(**options):
    torch.manual_seed(0)
    return CNNGRU(**{"width": 4, "hidden": 6} | options)


def flashes(n=64, steps=7, seed=0):
    """Noise in which one frame of seven is a bright disc; the frame's number is the label."""
    draw = generator(seed)
    images = 0.3 * torch.randn(n, 1, steps, 12, 14, generator=draw)
    labels = torch.randint(steps, (n,), generator=draw)
    images[torch.arange(n), 0, labels, 4:9, 3:8] += 2
    return Cohort(images=images, labels=labels, card=FLASHES)


def test_frames_pass_the_same_network_and_the_gru_is_pytorchs():
    model = net(in_channels=2, num_classes=3).eval()
    clips = torch.randn(3, 2, 5, 9, 11, generator=generator())
    rows = [model.features(clips[:, :, t]).flatten(1) for t in range(5)]
    states, _ = model.gru(torch.stack(rows, 1))
    expected = model.classifier(states).mean(1)  # a linear layer and a mean change places
    torch.testing.assert_close(model(clips), expected, rtol=1e-5, atol=1e-6)


def test_the_forward_half_does_not_see_what_comes():
    model = net(per_step=True).eval()
    with torch.no_grad():
        model.classifier.weight[:, 6:] = 0  # what the backward half says
    clips = torch.randn(2, 1, 6, 10, 10, generator=generator())
    other = clips.clone()
    other[:, :, 4:] = 0
    before, after = model(clips), model(other)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).all()


def test_order_counts():
    model = net().eval()
    clips = torch.randn(2, 1, 6, 10, 10, generator=generator())
    assert not torch.allclose(model(clips), model(clips.flip(2)), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 1, 10, 10), (2, 2, 5, 10, 10), (2, 1, 5, 7, 10)])
def test_other_shapes_are_named(shape):
    with pytest.raises(DataError, match=r"takes sequences \(N, 1, T, H, W\).*got"):
        net()(torch.zeros(shape))


def test_saved_and_loaded(tmp_path):
    model = net(per_step=True).eval()
    save_weights(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")[0]
    clips = torch.randn(2, 1, 4, 10, 10, generator=generator())
    assert torch.equal(again(clips), model(clips))


def test_a_moment_is_learnt_and_scored():
    model, val = net(per_step=True), flashes(40, seed=1)
    history = fit(model, flashes(), val, epochs=12, lr=1e-2, batch_size=16, **QUIET)
    probabilities = predict(model, val)
    assert probabilities.shape == (40, 7)
    assert torch.allclose(probabilities.sum(1), torch.ones(40))
    off = np.abs(probabilities.argmax(1).numpy() - val.labels.numpy())
    assert off.mean() < 0.3
    assert history["val_steps_off"][-1] == pytest.approx(off.mean())
    assert history["val_accuracy"][-1] == pytest.approx((off == 0).mean())


@pytest.mark.parametrize("average", [0.0, 1.0])
def test_the_layout_that_the_loop_prefers_suits_convolutions_of_frames(average):
    answers = []
    for precision in ("float32", "float32+channels_last", "auto"):
        torch.manual_seed(0)
        model, options = net(per_step=True), {"average": average, "progress": False}
        fit(model, flashes(), epochs=1, augment=None, precision=precision, **options)
        answers.append(predict(model, flashes(8, seed=1)))
    assert torch.allclose(answers[0], answers[1], atol=1e-4)
    assert torch.allclose(answers[0], answers[2], atol=1e-4)


def test_steps_off_by_hand():
    outputs = torch.tensor([[0.0, 1, 0, 0], [3, 0, 0, 1], [0, 0, 1, 0]])
    scores = Sequence().scores(outputs, torch.tensor([1, 2, 3]))
    assert scores == {"val_steps_off": 1.0, "val_accuracy": pytest.approx(1 / 3)}


def test_a_moment_after_the_end_is_named():
    data = flashes(8)
    data.labels[3] = 7
    with pytest.raises(DataError, match="train labels run from . to 7, .* knows 0 to 6"):
        fit(net(per_step=True), data, epochs=1, **QUIET)


def test_all_frames_of_a_sequence_move_alike():
    still = torch.rand(3, 2, 1, 16, 18, generator=generator())
    clips = still.expand(-1, -1, 5, -1, -1).contiguous()
    augment = Augment(rotate=30, translate=0.2, scale=0.3, gamma=0.5, blur=1.0, frames=True)
    moved = augment(clips, generator=generator(1))
    assert torch.equal(moved, moved[:, :, :1].expand_as(moved))
    assert not torch.allclose(moved, clips, atol=0.05)
    with_shear = Augment(shear=10, frames=True)(clips, generator=generator(1))
    assert with_shear.shape == clips.shape


@pytest.mark.parametrize(
    ("images", "more"),
    [
        (torch.zeros(2, 1, 8, 8), {}),
        (torch.zeros(2, 1, 3, 8, 8), {"masks": torch.zeros(2, 3, 8, 8)}),
    ],
)
def test_what_frames_cannot_have_is_named(images, more):
    with pytest.raises(DataError, match=r"frames=True moves sequences \(N, C, T, H, W\), without"):
        Augment(frames=True)(images, **more, generator=generator())


@pytest.mark.parametrize("augment", ["auto", Augment(rotate=20)])
@pytest.mark.parametrize("frames", [True, False])
def test_what_the_card_calls_time_is_not_turned_into_space(augment, frames):
    data = flashes(8)
    data = replace(data, card=replace(FLASHES, frames=frames))
    setup = prepare(net(per_step=True), data, None, None, augment, "auto", "float32", "cpu", Team())
    assert setup.augment.frames is frames
