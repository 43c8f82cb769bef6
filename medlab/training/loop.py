"""The training loop."""

from __future__ import annotations

import copy
import math
import os
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from medlab.augment import Augment
from medlab.cohort import Cohort, to_float
from medlab.errors import DataError, MedlabError
from medlab.metrics.classification import auc
from medlab.metrics.inputs import UndefinedMetric
from medlab.models.standardise import Standardise
from medlab.training.data import Labelled, check_against_model, labelled, warn_if_shared
from medlab.training.history import History
from medlab.training.precision import Precision, probe
from medlab.training.prediction import logits_of
from medlab.training.recipe import average_into, objective, one_cycle
from medlab.training.resume import fingerprint, restore, store

__all__ = ["fit"]

_PROBE_PAYS_FROM = 200  # steps; below, timing the candidates costs more than the best one saves


def fit(
    model: nn.Module,
    train: Cohort | tuple[Tensor, Tensor],
    val: Cohort | tuple[Tensor, Tensor] | None = None,
    *,
    epochs: int = 12,
    lr: float = 3e-3,
    batch_size: int = 64,
    weight_decay: float = 0.01,
    augment: str | Callable | None = "auto",
    label_smoothing: float = 0.0,
    class_weights: str | Sequence[float] | None = None,
    average: float = 1.0,
    keep: str = "last",
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "auto",
    compile: bool = False,
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train a classifier: AdamW, one-cycle learning rate, augmentation, averaged weights.

    The task follows from the labels: whole class numbers (N,) are trained with cross-entropy,
    floats 0 and 1 of shape (N, K) with binary cross-entropy. The whole set is moved to the device
    once. A `Standardise` layer in the model takes mean and spread from the training images.

    With the same model weights, data, options, precision, machine and number of threads, the result
    is the same to the last bit. The global random state is neither used nor changed, so the weights
    a model starts from are the caller's: call torch.manual_seed before building it.

    Args:
        model: maps float32 images (N, C, …) to logits (N, K). Trained in place.
        train: a cohort with labels, or a pair (images, labels).
        val: the same, other patients; only for the scores in the history and for keep="best".
        epochs: passes over the training set.
        lr: peak of the one-cycle schedule.
        batch_size: images a step; every image is used once an epoch, the last batch is never tiny.
        weight_decay: of AdamW; not applied to biases and normalisation.
        augment: "auto" (a mild `Augment` of 7 in 10 images; nothing for volumes), None, an
            `Augment`, or any function called as augment(images, generator=…).
        label_smoothing: 0 … 1, see `medlab.training.recipe.objective`.
        class_weights: None, "balanced" or one number a class.
        average: weights are averaged over about so many epochs, counted back; 0 turns it off.
        keep: "last" epoch, or "best": the epoch of lowest validation loss.
        seed: decides order, augmentation and dropout.
        device: default: CUDA if there is one, else the CPU.
        precision: "auto" lets `probe` choose when training is long enough to repay it; or
            "float32", "bfloat16", "float16", each also with "+channels_last".
        compile: run the model through torch.compile (worth it on a GPU, for long training).
        checkpoint: file written after every epoch.
        resume: continue from `checkpoint` if that file is there; the result is bit for bit that of
            an uninterrupted run. Start afresh if it is not there.
        progress: show a bar on stderr; the environment variable MEDLAB_PROGRESS=0 hides it too.

    Returns:
        The history, one row an epoch; the model holds the trained (averaged) weights.

    Raises:
        DataError: data, labels and model that do not fit together.
        MedlabError: a loss that is not finite, or an option out of its range.
        CheckpointError: a checkpoint of another model, data set or recipe.

    Source: Loshchilov & Hutter, Decoupled weight decay regularization (2019), arXiv:1711.05101.
    """
    _check_options(epochs, lr, batch_size, weight_decay, label_smoothing, average, keep, seed)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    train_set = labelled(train, "train").to(device)
    val_set = None if val is None else labelled(val, "val").to(device)
    if len(train_set) < 2:
        raise DataError("training needs at least two images: batch normalisation compares them")
    if keep == "best" and val_set is None:
        raise DataError("keep='best' chooses by validation loss: pass a validation set")
    if resume and checkpoint is None:
        raise DataError("resume=True needs checkpoint=…, the file to continue from")
    outputs = _first_look(model.to(device), train_set, val_set)
    augment = _augmentation(augment, train_set.images)
    loss = objective(
        train_set, outputs=outputs, label_smoothing=label_smoothing, class_weights=class_weights
    )
    config = {
        "model": fingerprint(model),
        "train": fingerprint(train_set) if checkpoint else "",
        "val": fingerprint(val_set) if checkpoint and val_set else "",
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "weight_decay": weight_decay,
        "augment": fingerprint(augment),
        "label_smoothing": label_smoothing,
        "class_weights": _plain(class_weights),
        "average": average,
        "keep": keep,
        "seed": seed,
        "precision": precision,
    }
    run = _Run(model, config)
    done = restore(checkpoint, run) if resume and os.path.exists(checkpoint) else 0
    if not done:
        _prepare(run, train_set.images)
    chosen = Precision.named(run.history.config["precision"])
    run.use(chosen, train_set.images)

    forward = torch.compile(model) if compile else model
    start = time.perf_counter() - run.history.seconds
    bar = _bar(epochs, done, progress)
    with bar, torch.backends.cudnn.flags(enabled=True, deterministic=True):
        for epoch in range(done, epochs):
            row = _train_epoch(run, forward, train_set, loss, augment, chosen, epoch)
            if val_set is not None:
                row |= _scores(run.evaluated, val_set)
            run.finish_epoch(row)
            run.history.seconds = time.perf_counter() - start
            if checkpoint is not None:
                store(checkpoint, run)
            bar.update()
            bar.set_postfix({k: f"{v:.3g}" for k, v in row.items() if k != "epoch"})
    model.load_state_dict(run.final_state())
    model.to(memory_format=torch.contiguous_format)
    return run.history


def _augmentation(augment: str | Callable | None, images: Tensor) -> Callable | None:
    if not isinstance(augment, str):
        return augment
    if augment != "auto":
        raise DataError(f"augment must be 'auto', None or a function; got {augment!r}")
    return Augment(share=0.7) if images.ndim == 4 else None


def _prepare(run: _Run, images: Tensor) -> None:
    """What a run does once: learn the normalisation, settle the precision."""
    config = run.history.config
    for module in (run.model, run.averaged):
        for layer in [] if module is None else module.modules():
            if isinstance(layer, Standardise):
                layer.fit(images)
    if config["precision"] == "auto":
        steps = config["epochs"] * _batches(len(images), config["batch_size"])
        pays = steps >= _PROBE_PAYS_FROM
        chosen = probe(run.model, images[: config["batch_size"]]) if pays else Precision()
        config["precision"] = str(chosen)


def _bar(epochs: int, done: int, progress: bool) -> tqdm:
    return tqdm(
        total=epochs,
        initial=done,
        desc="training",
        unit="epoch",
        file=sys.stderr,
        disable=not progress or os.environ.get("MEDLAB_PROGRESS") == "0",
    )


class _Run:
    """All that changes during training, and therefore all that a checkpoint holds."""

    def __init__(self, model: nn.Module, config: dict):
        self.model = model
        self.asked = config  # as the caller put it; the history's copy has "auto" replaced
        self.history = History(config=dict(config))
        self.optimiser = torch.optim.AdamW(_groups(model, config["weight_decay"]), lr=config["lr"])
        self.scaler: torch.amp.GradScaler | None = None
        self.scaler_state: dict = {}
        self.averaged: nn.Module | None = copy.deepcopy(model) if config["average"] else None
        self.best: dict[str, Tensor] | None = {} if config["keep"] == "best" else None
        self.lowest = math.inf

    @property
    def evaluated(self) -> nn.Module:
        """The model whose scores are reported: the averaged one if there is one."""
        return self.model if self.averaged is None else self.averaged

    def use(self, precision: Precision, images: Tensor) -> None:
        """Lay the weights out as the precision wants, and set the scaler going where it stopped."""
        for module in (self.model, self.averaged):
            if module is not None:
                module.to(memory_format=precision.layout(images.ndim))
        self.scaler = precision.scaler(images.device)
        if self.scaler_state:
            self.scaler.load_state_dict(self.scaler_state)

    def finish_epoch(self, row: dict[str, float]) -> None:
        self.history.rows.append(row)
        if self.best is None:
            self.history.kept = row["epoch"]
        elif row["val_loss"] < self.lowest:
            self.lowest, self.history.kept = row["val_loss"], row["epoch"]
            self.best = {k: v.clone() for k, v in self.evaluated.state_dict().items()}

    def final_state(self) -> dict[str, Tensor]:
        return self.best or self.evaluated.state_dict()


def _train_epoch(
    run: _Run,
    forward: Callable,
    data: Labelled,
    loss: Callable,
    augment: Callable | None,
    precision: Precision,
    epoch: int,
) -> dict[str, float]:
    config, device = run.history.config, data.images.device
    per_epoch = _batches(len(data), config["batch_size"])
    steps = config["epochs"] * per_epoch
    horizon = max(1.0, config["average"] * per_epoch)
    layout = precision.layout(data.images.ndim)
    # Each epoch draws from (seed, epoch) alone, so that a resumed run needs no generator states.
    order_seed, augment_seed, model_seed = _seeds(config["seed"], epoch)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(order_seed))
    draws = torch.Generator(device).manual_seed(augment_seed)
    total = 0.0
    run.model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(model_seed)
        # Parts of nearly equal size: a last batch of one image has no variance to normalise with.
        for i, index in enumerate(order.to(device).tensor_split(per_epoch)):
            step = epoch * per_epoch + i
            rate = one_cycle(step, steps=steps, peak=config["lr"])
            for group in run.optimiser.param_groups:
                group["lr"] = rate
            images = to_float(data.images[index])
            if augment is not None:
                images = augment(images, generator=draws)
            with precision.autocast(device):
                logits = forward(images.contiguous(memory_format=layout))
            value = loss(logits.float(), data.labels[index])
            total += _finite(value, epoch, rate, precision) * len(index)
            run.optimiser.zero_grad()
            run.scaler.scale(value).backward()
            run.scaler.step(run.optimiser)
            run.scaler.update()
            if run.averaged is not None:
                # A plain mean at first, an exponential one once the horizon is reached.
                average_into(run.averaged, run.model, max(1 / (step + 1), 1 / horizon))
    return {"epoch": epoch + 1, "lr": rate, "train_loss": total / len(data)}


def _scores(model: nn.Module, data: Labelled) -> dict[str, float]:
    logits, labels = logits_of(model, data.images), data.labels
    if data.multilabel:
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        correct = (logits > 0) == (labels > 0.5)
    else:
        loss = F.cross_entropy(logits, labels)
        correct = logits.argmax(1) == labels
    return {
        "val_loss": loss.item(),
        "val_auc": _auc_or_nan(labels, logits if data.multilabel else logits.softmax(1)),
        "val_accuracy": correct.float().mean().item(),
    }


def _auc_or_nan(labels: Tensor, scores: Tensor) -> float:
    try:
        return auc(labels.cpu(), scores.cpu())
    except UndefinedMetric:
        return math.nan


def _finite(loss: Tensor, epoch: int, lr: float, precision: Precision) -> float:
    value = loss.item()
    if math.isfinite(value):
        return value
    mixed = precision.dtype != "float32"
    raise MedlabError(
        f"the loss became {value} in epoch {epoch + 1} at learning rate {lr:.2g}. Try a lower lr"
        + (", precision='float32'" if mixed else "")
        + ", or look at the images: values far outside those of the training set blow up a network "
        "that does not start with a Standardise layer."
    )


def _first_look(model: nn.Module, train: Labelled, val: Labelled | None) -> int:
    """Run two images through the model and check that its outputs fit the labels."""
    for name, data in (("train", train), ("val", val)):
        if data is not None:
            logits = logits_of(model, data.images[:2])
            check_against_model(data, logits, name)
    if val is not None:
        if train.multilabel != val.multilabel:
            raise DataError("train and val must both have class numbers, or both several labels")
        warn_if_shared(train, val)
    return logits.shape[1]


def _groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay matrices and kernels; leave biases and normalisation, which have one axis, alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise DataError("no parameter of the model requires a gradient: there is nothing to train")
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _plain(weights: str | Sequence[float] | None) -> str | list[float] | None:
    return weights if weights is None or isinstance(weights, str) else [float(w) for w in weights]


def _batches(images: int, batch_size: int) -> int:
    return max(1, images // batch_size)


def _seeds(seed: int, epoch: int) -> list[int]:
    return np.random.SeedSequence([seed, epoch]).generate_state(3, np.uint32).tolist()


def _check_options(epochs, lr, batch_size, weight_decay, label_smoothing, average, keep, seed):
    faults = {
        f"epochs must be a whole number of at least 1; got {epochs!r}": int(epochs) == epochs >= 1,
        f"lr must be positive; got {lr!r}": lr > 0,
        f"batch_size must be at least 2; got {batch_size!r}": batch_size >= 2,
        f"weight_decay must be at least 0; got {weight_decay!r}": weight_decay >= 0,
        f"label_smoothing must be in 0 … 1; got {label_smoothing!r}": 0 <= label_smoothing < 1,
        f"average must be a number of epochs, 0 for none; got {average!r}": average >= 0,
        f"keep must be 'last' or 'best'; got {keep!r}": keep in ("last", "best"),
        f"seed must be a whole number of at least 0; got {seed!r}": int(seed) == seed >= 0,
    }
    for message, fine in faults.items():
        if not fine:
            raise MedlabError(message)
