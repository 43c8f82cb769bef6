"""fit and predict against formulas, scikit-learn and torch's own schedule."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, Interrupted, MedlabError
from medlab.models import SmallCNN, Standardise
from medlab.training import (
    Classification,
    History,
    Multilabel,
    average_into,
    fit,
    one_cycle,
    predict,
)

QUIET = {"progress": False, "precision": "float32"}


def toy(n=120, *, classes=2, size=16, seed=0, dtype=torch.float32):
    """Noise with one bright corner; the class says which. Separable at a glance."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    images = torch.rand(n, 1, size, size, generator=draw) * 0.5
    for k, (rows, columns) in enumerate([(0, 0), (8, 8), (0, 8)][:classes]):
        images[labels == k, :, rows : rows + 8, columns : columns + 8] += 0.5
    if dtype == torch.uint8:
        images = (images * 255).round().to(torch.uint8)
    return images, labels


def tiny(num_classes=2, *, seed=0, in_channels=1):
    torch.manual_seed(seed)
    return SmallCNN(in_channels, num_classes, width=4)


class Plain(nn.Module):
    """No normalisation and no Standardise: the smallest thing that fit must accept."""

    def __init__(self, inputs=256, outputs=2, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(inputs, outputs))

    def forward(self, images):
        return self.net(images)


def state(model):
    return torch.cat([v.double().flatten() for v in model.state_dict().values()])


def exact(scores):
    """In double, rows summing to 1 beyond float32, as scikit-learn wants them."""
    return scores.double() / scores.double().sum(1, keepdim=True)


def card(task, classes=()):
    return DataCard(name="toy", title="Toy", task=task, classes=classes)


# --- learning ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_learns_a_separable_toy(dtype):
    model = tiny()
    history = fit(model, toy(240, dtype=dtype), toy(60, seed=1, dtype=dtype), epochs=8, lr=0.01,
                  batch_size=16, augment=None, **QUIET)  # fmt: skip
    test, labels = toy(100, seed=2, dtype=dtype)
    assert (predict(model, test).argmax(1) == labels).float().mean() > 0.95
    assert history["val_auc"][-1] > 0.95
    assert history["train_loss"][-1] < history["train_loss"][0]


def test_three_classes_from_a_cohort():
    images, labels = toy(180, classes=3)
    train = Cohort(images=images, labels=labels, card=card("ordinal", ("none", "mild", "severe")))
    model = tiny(3)
    fit(model, train, epochs=8, lr=0.01, batch_size=16, augment=None, **QUIET)
    scores = predict(model, train)
    assert scores.shape == (180, 3)
    assert (scores.argmax(1) == labels).float().mean() > 0.95


def test_several_labels_an_image():
    images = torch.rand(160, 1, 16, 16) * 0.2
    labels = torch.randint(0, 2, (160, 2)).float()
    images[:, 0, :8] += labels[:, :1, None]
    images[:, 0, 8:] -= labels[:, 1:, None]
    cohort = Cohort(images=images, labels=labels, card=card("multilabel", ("up", "down")))
    model = Plain()
    history = fit(model, cohort, cohort, epochs=20, lr=0.05, batch_size=16, augment=None, **QUIET)
    scores = predict(model, cohort)
    with torch.no_grad():
        assert torch.allclose(scores, torch.sigmoid(model(images)), atol=1e-6)
    assert history["val_auc"][-1] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert history["val_auc"][-1] > 0.95
    assert history["val_accuracy"][-1] == pytest.approx(
        ((scores > 0.5) == labels.bool()).float().mean().item()
    )


def test_volumes():
    images, labels = toy(40)
    volumes = images[:, :, None].expand(-1, -1, 3, -1, -1).contiguous()
    model = Plain(768)
    history = fit(model, (volumes, labels), epochs=10, lr=0.05, batch_size=8, **QUIET)
    assert history.config["augment"].startswith("Augment(")
    assert (predict(model, volumes).argmax(1) == labels).float().mean() > 0.9


def test_standardise_takes_the_training_images_only():
    images, labels = toy(80)
    model = tiny()
    fit(model, (images, labels), (images * 9, labels), epochs=1, **QUIET)
    layer = model.features[0]
    assert isinstance(layer, Standardise)
    assert layer.mean.item() == pytest.approx(images.mean().item(), rel=1e-5)


def test_frozen_weights_stay():
    model = Plain()
    model.net[2].weight.requires_grad_(False)
    before = model.net[2].weight.clone()
    fit(model, toy(), epochs=1, **QUIET)
    assert torch.equal(model.net[2].weight, before)


# --- the parts ---


@pytest.mark.parametrize("steps", [10, 77, 1000])
def test_one_cycle_equals_torch(steps):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.3, total_steps=steps)
    for step in range(steps):
        assert one_cycle(step, steps=steps, peak=0.3) == pytest.approx(
            schedule.get_last_lr()[0], rel=1e-9
        )
        optimiser.step()
        if step < steps - 1:
            schedule.step()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_one_cycle_survives_very_short_runs(steps):
    rates = [one_cycle(step, steps=steps, peak=1.0) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)


def test_average_of_constant_weight_is_the_exponential_mean():
    average, model = tiny(seed=0), tiny(seed=1)
    expected = state(average).clone()
    for _ in range(5):
        for value in model.state_dict().values():
            value.copy_(torch.rand(value.shape) * 9)
        average_into(average, model, 0.3)
        expected = 0.7 * expected + 0.3 * state(model)
    whole = [
        v.dtype.is_floating_point for v in model.state_dict().values() for _ in range(v.numel())
    ]
    whole = torch.tensor(whole)
    assert torch.allclose(state(average)[whole], expected[whole], rtol=1e-5)
    assert torch.equal(state(average)[~whole], state(model)[~whole])


def test_fit_averages_uniformly_until_the_horizon():
    """With a horizon beyond the run the result is the plain mean of the weights after each step."""
    seen = []

    class Watched(Plain):
        def forward(self, images):
            if self.training:
                seen.append(self.net[2].weight.detach().clone())
            return super().forward(images)

    torch.manual_seed(0)
    model = Watched()
    fit(model, toy(64), epochs=2, batch_size=8, average=1000, augment=None, **QUIET)
    torch.manual_seed(0)
    plain = Plain()
    fit(plain, toy(64), epochs=2, batch_size=8, average=0, augment=None, **QUIET)
    after_each = [*seen[1:], plain.net[2].weight.detach()]  # a forward pass sees the step before
    assert torch.allclose(model.net[2].weight, torch.stack(after_each).mean(0), atol=1e-6)


def test_averaged_statistics_fit_the_averaged_weights():
    """Re-estimating batch normalisation with the final weights hardly changes the scores."""
    data = toy(240)
    model = tiny()
    fit(model, data, epochs=6, lr=0.01, batch_size=16, augment=None, **QUIET)
    before = predict(model, data[0])
    torch.optim.swa_utils.update_bn(data[0].split(16), model)
    assert (predict(model, data[0]) - before).abs().max() < 0.05


def of(labels, task="multiclass"):
    return Cohort(images=torch.zeros(len(labels), 1, 1, 1), labels=labels, card=card(task))


def test_loss_by_hand():
    labels = torch.tensor([0, 1, 1, 1, 2, 2])
    train = of(labels)
    logits = torch.randn(6, 3, dtype=torch.float64)
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    picked = log_p[torch.arange(6), labels]
    loss = Classification().loss(None)(logits, labels)
    assert loss.item() == pytest.approx(-picked.mean().item())

    balanced = Classification().loss(Classification().weights(train, 3))
    w = torch.tensor(compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy()))
    expected = -(w[labels] * picked).sum() / w[labels].sum()
    assert balanced(logits.float(), labels).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    "weights", [{0: 1.0, 1: 5.0, 2: 1.0}, {1: 5}, (1, 5, 1), np.array([1, 5, 1.0])]
)
def test_weights_by_dictionary_are_read_by_their_keys(weights):
    history = fit(tiny(3), toy(30, classes=3), epochs=1, class_weights=weights, **QUIET)
    assert history.config["class_weights"] == [1.0, 5.0, 1.0]


def test_multilabel_loss_by_hand():
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    logits = torch.randn(4, 2)
    p = torch.sigmoid(logits)
    loss = Multilabel().loss(Multilabel().weights(of(labels, "multilabel"), 2))
    positive = torch.tensor([2 / 2, 3 / 1])
    by_hand = -(positive * labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    assert loss(logits, labels).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_class_without_images_has_no_weight_and_breaks_nothing():
    train = of(torch.tensor([0, 0, 0, 2]))
    loss = Classification().loss(Classification().weights(train, 3))
    assert math.isfinite(loss(torch.randn(4, 3), train.labels).item())


# --- history ---


def test_history_is_what_scikit_learn_says_of_the_final_model():
    model = tiny()
    val = toy(50, seed=1)
    history = fit(model, toy(60), val, epochs=2, lr=1e-3, batch_size=16, **QUIET)
    scores = predict(model, val[0])
    assert list(history.rows[0]) == [
        "epoch",
        "lr",
        "train_loss",
        "val_loss",
        "val_auc",
        "val_accuracy",
    ]
    assert history["epoch"] == [1, 2]
    assert history["val_auc"][-1] == pytest.approx(roc_auc_score(val[1], scores[:, 1]))
    assert history["val_loss"][-1] == pytest.approx(log_loss(val[1], exact(scores)), rel=1e-4)
    assert history["val_accuracy"][-1] == pytest.approx(
        (scores.argmax(1) == val[1]).float().mean().item()
    )
    assert len(history) == history.kept == 2
    assert "val_auc" in repr(history)


def test_train_loss_is_the_mean_over_images():
    model, (images, labels) = Plain(), toy(37)
    history = fit(
        model,
        (images, labels),
        epochs=1,
        lr=1e-9,
        batch_size=8,
        augment=None,
        class_weights=None,
        **QUIET,
    )
    expected = log_loss(labels, exact(predict(model, images)))
    assert history["train_loss"][0] == pytest.approx(expected, rel=1e-4)


def test_a_model_in_evaluation_mode_is_trained_all_the_same():
    first, second = tiny(), tiny().eval()
    fit(first, toy(), epochs=1, **QUIET)
    fit(second, toy(), epochs=1, **QUIET)
    assert torch.equal(state(first), state(second))


def test_keep_best_leaves_the_epoch_of_lowest_validation_loss():
    val = toy(40, seed=5)
    val = (val[0], torch.cat([val[1][:30], 1 - val[1][30:]]))  # wrong labels: confidence costs
    model = tiny()
    history = fit(model, toy(60), val, epochs=8, lr=0.02, batch_size=8, keep="best", augment=None,
                  **QUIET)  # fmt: skip
    losses = history["val_loss"]
    assert history.kept == 1 + int(np.argmin(losses))
    assert history.kept < 8
    scores = predict(model, val[0])
    assert log_loss(val[1], exact(scores)) == pytest.approx(min(losses), rel=1e-4)


def test_history_without_validation_says_what_is_missing():
    history = fit(tiny(), toy(), epochs=1, **QUIET)
    with pytest.raises(DataError, match="pass a validation set"):
        history["val_auc"]
    with pytest.raises(DataError, match="no epoch"):
        History()["lr"]


def test_one_class_in_validation_gives_nan_not_an_error():
    images, labels = toy(20)
    one = labels == 1
    history = fit(tiny(), toy(), (images[one], labels[one]), epochs=1, **QUIET)
    assert math.isnan(history["val_auc"][0])
    assert math.isfinite(history["val_loss"][0])


# --- reproducibility ---


@pytest.mark.parametrize("make", [tiny, lambda: Plain(dropout=0.5)])
def test_same_seed_same_bits_whatever_the_global_state(make):
    results = []
    for elsewhere in (1, 2):
        torch.manual_seed(0)
        model = make()
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        fit(model, toy(), epochs=2, batch_size=16, seed=3, **QUIET)
        assert torch.equal(before, torch.get_rng_state())
        results.append(state(model))
    assert torch.equal(*results)
    torch.manual_seed(0)
    other = make()
    fit(other, toy(), epochs=2, batch_size=16, seed=4, **QUIET)
    assert not torch.equal(state(other), results[0])


def test_validation_does_not_influence_training():
    with_val, without = tiny(), tiny()
    fit(with_val, toy(), toy(30, seed=2), epochs=2, **QUIET)
    fit(without, toy(), epochs=2, **QUIET)
    assert torch.equal(state(with_val), state(without))


def test_cudnn_is_on_and_deterministic_during_training_only():
    before = torch.backends.cudnn.deterministic
    seen = []

    def look(images, *, generator):
        cudnn = torch.backends.cudnn
        seen.append((cudnn.enabled, cudnn.deterministic, cudnn.benchmark))
        return images

    fit(Plain(), toy(8), epochs=1, augment=look, **QUIET)
    assert set(seen) == {(True, True, False)}
    assert torch.backends.cudnn.deterministic == before


def test_every_image_is_used_once_an_epoch():
    seen = []

    def record(images, *, generator):
        seen.append(images[:, 0, 0, 0].clone())
        return images

    images = torch.arange(65.0).view(-1, 1, 1, 1).expand(65, 1, 16, 16).contiguous()
    fit(Plain(), (images, torch.arange(65) % 2), epochs=2, batch_size=16, lr=1e-6, augment=record,
        **QUIET)  # fmt: skip
    assert [len(s) for s in seen] == [17, 16, 16, 16] * 2
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert torch.equal(first.sort().values, torch.arange(65.0))
    assert torch.equal(second.sort().values, torch.arange(65.0))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("n", [2, 3, 9, 17])
def test_no_batch_of_one_reaches_batch_normalisation(n):
    fit(tiny(), toy(n), epochs=1, batch_size=8, **QUIET)


def test_automatic_augmentation_is_mild_and_never_mirrors():
    history = fit(tiny(), toy(), epochs=1, **QUIET)
    assert history.config["augment"].startswith("Augment(")
    assert "flip=()" in history.config["augment"]
    moved = Augment()
    assert moved.rotate <= 15
    assert moved.flip == ()


# --- predict ---


def test_predict_is_the_softmax_whatever_the_batch_size():
    model = tiny(3).eval()
    images = toy(37)[0]
    logits = model(images).detach()
    by_hand = logits.exp() / logits.exp().sum(1, keepdim=True)
    scores = predict(model, images, batch_size=10)
    assert torch.allclose(scores, by_hand, atol=1e-6)
    assert scores.dtype == torch.float32
    assert scores.device.type == "cpu"
    assert not scores.requires_grad
    assert torch.allclose(scores, predict(model, images, batch_size=37), atol=1e-6)


def test_predict_restores_the_mode_of_every_layer():
    model = tiny().train()
    model.features[2].eval()
    running = model.features[2].running_mean.clone()
    predict(model, toy(8)[0])
    assert model.training
    assert model.features[0].training
    assert not model.features[2].training
    assert torch.equal(running, model.features[2].running_mean)


def test_predict_bytes_equals_floats():
    images = toy(20, dtype=torch.uint8)[0]
    model = tiny()
    assert torch.equal(predict(model, images), predict(model, images.float() / 255))


def test_predict_names_what_is_wrong():
    with pytest.raises(DataError, match=r"image\[None\]"):
        predict(tiny(), torch.zeros(1, 16, 16))
    with pytest.raises(DataError, match="1 channel"):
        predict(tiny(), torch.zeros(2, 3, 16, 16))
    with pytest.raises(DataError, match="logits of shape"):
        predict(nn.Flatten(0), torch.zeros(2, 1, 16, 16))
    for size in (0, -1, 2.5, "many"):
        with pytest.raises(DataError, match="batch_size"):
            predict(tiny(), torch.zeros(2, 1, 16, 16), batch_size=size)


# --- errors ---

X, Y = toy(20)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ((X, Y + 1), None, "2 outputs knows 0 to 1: build it with num_classes=3"),
        ((X, Y - 1), None, "got -1…0"),
        ((X, Y[:9]), None, "labels has 9 entries for 20 images"),
        ((X, Y + 0.5), None, "labels must be whole"),
        ((X[:0], Y[:0]), None, "train set is empty"),
        ((X[:1], Y[:1]), None, "at least two"),
        ((X, Y), (X[:0], Y[:0]), "val set is empty"),
        ((X, Y), (X, Y + 5), "val labels run from 5 to 6"),
        ((X[:, 0], Y), None, r"images\[:, None\]"),
        ((X.expand(-1, 3, -1, -1), Y), None, "1 channel"),
        ((X, torch.zeros(20, 3)), None, r"labels must be \('N', 2\); they are \('N', 3\)"),
        ((X / 0, Y), None, "NaN or infinite"),
        (X, None, "Cohort or a pair"),
        ((X, Y), (X, torch.zeros(20, 2)), "both"),
    ],
)
def test_data_that_does_not_fit_is_named(train, val, message):
    with pytest.raises(DataError, match=message):
        fit(tiny(), train, val, epochs=1, **QUIET)


def test_cohort_without_labels_is_named():
    with pytest.raises(DataError, match="no labels"):
        fit(tiny(), Cohort(images=X, card=card("binary")), epochs=1, **QUIET)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"lr": 0},
        {"batch_size": 1},
        {"epochs": float("nan")},
        {"epochs": float("inf")},
        {"epochs": "12"},
        {"epochs": True},
        {"lr": float("nan")},
        {"lr": "fast"},
        {"seed": float("nan")},
        {"seed": 1.0},
        {"batch_size": 8.0},
        {"batch_size": 2.5},
        {"class_weights": 3.0},
        {"class_weights": {2: 1.0}},
        {"class_weights": {"a": 1.0}},
        {"class_weights": [1.0, -1.0]},
        {"class_weights": [1.0, float("nan")]},
        {"weight_decay": float("inf")},
        {"average": -1},
        {"keep": "first"},
        {"seed": -1},
        {"weight_decay": -1},
        {"class_weights": "even"},
        {"class_weights": [1.0]},
        {"precision": "float8"},
        {"augment": "strong"},
        {"resume": True},
    ],
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(MedlabError, match=next(iter(options))):
        fit(tiny(), (X, Y), **({"epochs": 1} | QUIET | options))


def test_keep_best_needs_validation():
    with pytest.raises(DataError, match="validation"):
        fit(tiny(), (X, Y), epochs=1, keep="best", **QUIET)


def test_exploding_loss_stops_with_advice():
    torch.manual_seed(0)
    with pytest.raises(MedlabError, match=r"epoch \d.*lower lr"):
        fit(Plain(), (X * 1e30, Y), epochs=3, lr=1e10, augment=None, **QUIET)


def test_one_class_in_training_warns():
    with pytest.warns(UserWarning, match="every value of the training labels is 1"):
        fit(tiny(), (X, torch.ones(20, dtype=torch.long)), epochs=1, **QUIET)


def test_shared_patients_warn_and_separate_ones_do_not():
    def cohort(names):
        return Cohort(images=X, labels=Y, patients=np.array(names), card=card("binary"))

    ids = [f"p{i}" for i in range(40)]
    with pytest.warns(UserWarning, match=r"1 patients are in both train and val \(p19\)"):
        fit(tiny(), cohort(ids[:20]), cohort(ids[19:39]), epochs=1, **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tiny(), cohort(ids[:20]), cohort(ids[20:]), epochs=1, **QUIET)


# --- progress ---


def test_progress_goes_to_stderr_and_can_be_silenced(capsys, monkeypatch):
    monkeypatch.delenv("MEDLAB_PROGRESS", raising=False)
    fit(tiny(), (X, Y), epochs=1, precision="float32")
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")
    fit(tiny(), (X, Y), epochs=1, precision="float32")
    monkeypatch.delenv("MEDLAB_PROGRESS")
    fit(tiny(), (X, Y), epochs=1, **QUIET)
    assert capsys.readouterr() == ("", "")


# --- what people reported ---


def test_class_names_in_another_order_are_refused():
    train = Cohort(images=X, labels=Y, card=card("binary", ("healthy", "ill")))
    other = Cohort(images=X, labels=Y, card=card("binary", ("ill", "healthy")))
    with pytest.raises(DataError, match="number their classes differently"):
        fit(tiny(), train, other, epochs=1, **QUIET)


class Frozen(nn.Module):
    """A body to be frozen and a head to be trained."""

    def __init__(self):
        super().__init__()
        norms = [nn.BatchNorm2d(4), nn.Dropout(0.5), nn.InstanceNorm2d(4, track_running_stats=True)]
        self.body = nn.Sequential(Standardise(1), nn.Conv2d(1, 4, 3), *norms)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("average", [0, 1.0])
def test_layers_frozen_in_evaluation_mode_do_not_move(mode, average):
    model = Frozen().train()
    model.body.requires_grad_(False).eval()
    model.training = mode  # a whole model that a caller put into evaluation mode is trained
    before = {k: v.clone() for k, v in model.body.state_dict().items()}
    fit(model, (X, Y), epochs=2, batch_size=8, average=average, **QUIET)
    moved = [k for k, v in model.body.state_dict().items() if not torch.equal(v, before[k])]
    # Without a weight of its own a layer is frozen only in a model that is not in that mode itself.
    assert not [name for name in moved if mode or name.startswith(("1.", "2."))]
    assert not model.body.training
    assert model.training == mode


def test_lazy_layers_can_be_trained():
    model = nn.Sequential(
        nn.LazyConv2d(4, 3),
        nn.LazyBatchNorm2d(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LazyLinear(2),
    )
    history = fit(model, (X, Y), epochs=1, batch_size=8, **QUIET)
    assert math.isfinite(history["train_loss"][0])


class Normalised(nn.Module):
    """Whatever normalises gets a gradient of 0, so that only weight decay could move it."""

    def __init__(self):
        super().__init__()
        self.layer, self.group = nn.LayerNorm([1, 16, 16]), nn.GroupNorm(1, 1)
        self.batch, self.instance = nn.BatchNorm2d(1), nn.InstanceNorm2d(1, affine=True)
        self.rms, self.linear = nn.RMSNorm([1, 16, 16]), nn.Linear(256, 2)

    def forward(self, images):
        norms = (self.layer, self.group, self.batch, self.instance, self.rms)
        return self.linear(images.flatten(1)) + 0 * sum(norm(images).sum() for norm in norms)


def test_normalisation_and_biases_do_not_decay():
    model = Normalised()
    fit(model, (X, Y), epochs=3, batch_size=8, lr=1e-2, weight_decay=5.0, average=0, **QUIET)
    for name, parameter in model.named_parameters():
        if "linear" not in name:
            assert set(parameter.flatten().tolist()) <= {0.0, 1.0}, name


def test_a_shared_weight_is_averaged_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

    average, model = Tied(), Tied()
    expected = 0.75 * average.a.weight + 0.25 * model.a.weight
    average_into(average, model, 0.25)
    assert torch.allclose(average.a.weight, expected)
    assert average.b.weight is average.a.weight


class Two(nn.Module):
    """Gives its answer in a container, in training or always."""

    def __init__(self, kind, always):
        super().__init__()
        self.net, self.kind, self.always = Plain(), kind, always

    def forward(self, images):
        out = self.net(images)
        return self.kind(out) if self.training or self.always else out


@pytest.mark.parametrize(
    "kind", [lambda x: (x, x), lambda x: {"out": x}, lambda x: [x], lambda x: None]
)
@pytest.mark.parametrize("always", [True, False])
def test_several_outputs_are_a_typed_error(kind, always):
    with pytest.raises(DataError, match="must return one tensor"):
        fit(Two(kind, always), (X, Y), epochs=1, **QUIET)
    if always:
        with pytest.raises(DataError, match="must return one tensor"):
            predict(Two(kind, always), X)


def test_predict_takes_what_fit_takes_and_names_the_rest():
    model = tiny()
    cohort = Cohort(images=X, labels=Y, card=card("binary"))
    expected = predict(model, X)
    for data in (cohort, (X, Y), [X, Y], X.numpy()):
        assert torch.equal(predict(model, data), expected)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y))
    for data in (loader, "images", None, {"images": X}):
        with pytest.raises(DataError, match="Cohort, or images"):
            predict(model, data)


def test_logits_are_what_the_softmax_is_taken_of():
    model = tiny(3)
    logits = predict(model, X, logits=True)
    assert torch.allclose(logits.softmax(1), predict(model, X), atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(logits, model.eval()(X), atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "warmup"), [(10, 0.1), (2, 0.5), (4, 0.25), (1, 0.3), (5, 0.0), (5, 1.0)]
)
def test_phases_of_no_width_give_a_rate(steps, warmup):
    rates = [one_cycle(step, steps=steps, peak=1.0, warmup=warmup) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize("options", [{"step": 10}, {"step": -1}, {"warmup": 1.5}, {"warmup": -0.1}])
def test_what_is_no_step_is_named(options):
    arguments = {"step": 0, "warmup": 0.3} | options
    with pytest.raises(MedlabError, match=next(iter(options))):
        one_cycle(arguments["step"], steps=10, peak=1.0, warmup=arguments["warmup"])


def test_labels_in_one_column_are_class_numbers():
    first, second = tiny(), tiny()
    fit(first, (X, Y), epochs=1, **QUIET)
    fit(second, (X, Y[:, None]), epochs=1, **QUIET)
    assert torch.equal(state(first), state(second))


def test_by_default_classes_count_alike_where_an_image_has_one():
    default, balanced, plain = tiny(), tiny(), tiny()
    few = (X, (torch.arange(20) < 4).long())
    for model, options in ((default, {}), (balanced, {"class_weights": "balanced"})):
        fit(model, few, epochs=1, **options, **QUIET)
    fit(plain, few, epochs=1, class_weights=None, **QUIET)
    assert torch.equal(state(default), state(balanced))
    assert not torch.equal(state(default), state(plain))
    several = (X, torch.stack([few[1], 1 - few[1]], dim=1).float())
    assert fit(tiny(), several, epochs=1, **QUIET).config["class_weights"] is None


@pytest.mark.parametrize(("images", "epochs"), [(20, 40), (39, 27), (64, 20), (120, 13), (500, 12)])
def test_a_small_set_is_seen_often_and_a_large_one_no_more_than_it_needs(
    monkeypatch, images, epochs
):
    # In batches of ten: 2, 3, 6, 12 and 50 steps an epoch.
    monkeypatch.setattr("medlab.training.loop._STEPS", (80, 150))
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    data = torch.rand(images, 1, 4, 4), torch.arange(images) % 2
    history = fit(model, data, batch_size=10, augment=None, **QUIET)
    assert history.config["epochs"] == len(history) == epochs


def test_an_interrupt_says_in_one_line_what_it_leaves(monkeypatch):
    from medlab.training import loop

    whole, calls = loop._train_epoch, []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(loop, "_train_epoch", stopped)
    model = tiny().eval()
    with pytest.raises(KeyboardInterrupt) as caught:  # scripts and shells know it as an interrupt
        fit(model, (X, Y), epochs=5, batch_size=8, augment=None, **QUIET)
    assert isinstance(caught.value, Interrupted)
    [line] = caught.value._render_traceback_()
    assert "stopped after 2 of 5 epochs" in line and "\n" not in line
    assert not model.training  # as it was
