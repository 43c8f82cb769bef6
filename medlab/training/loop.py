"""The training loop, one for every task."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from medlab.cohort import Cohort
from medlab.errors import DataError, MedlabError
from medlab.training._examples import as_cohort
from medlab.training._run import Run, fingerprint
from medlab.training._setup import (
    augmentation,
    batch_loss,
    first_look,
    fits,
    in_training,
    standardise,
)
from medlab.training.checkpoint import check_writable
from medlab.training.history import History
from medlab.training.precision import Precision
from medlab.training.prediction import outputs_of
from medlab.training.recipe import batches, one_cycle
from medlab.training.tasks import Task, plain_weights, task_for

_STEPS = 1000  # that a training run takes at least, unless the caller says how many epochs


def fit(
    model: nn.Module,
    train: Cohort | tuple[Tensor, Tensor],
    val: Cohort | tuple[Tensor, Tensor] | None = None,
    *,
    task: str | Task | None = None,
    epochs: int | None = None,
    lr: float = 3e-3,
    batch_size: int = 64,
    weight_decay: float = 0.01,
    augment: str | Callable | None = "auto",
    class_weights: str | Sequence[float] | Mapping[int, float] | None = None,
    average: float = 1.0,
    keep: str = "last",
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "auto",
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train a model: AdamW, one-cycle learning rate, augmentation, averaged weights.

    The task follows from the cohort's card, or from the targets of a pair: whole class numbers
    (N,) are classified, floats 0 and 1 of shape (N, K) are several labels an image, whole-number
    masks of the images' size are segmented. The whole set is moved to the device once. A
    `Standardise` layer in the model takes mean and spread from the training images.

    With the same model weights, data, options, precision, machine and number of threads, the result
    is the same to the last bit. The global random state is neither used nor changed, so the weights
    a model starts from are the caller's: call torch.manual_seed before building it. Layers that
    stand in evaluation mode in a model that does not are frozen: they stay in it.

    >>> images, labels = torch.rand(64, 1, 16, 16), torch.arange(64) % 2
    >>> history = fit(medlab.models.SmallCNN(width=4), (images, labels), epochs=2, progress=False)
    >>> history["epoch"]
    [1, 2]

    Args:
        model: maps float32 images (N, C, …) to what the task wants: logits (N, K), or (N, K, *size)
            for segmentation. Trained in place.
        train: a cohort, or a pair (images, targets).
        val: the same, other patients; only for the scores in the history and for keep="best".
        task: default: what the data say; a `DataCard.task`, or a `medlab.training.Task`.
        epochs: passes over the training set; default: as many as make 1,000 steps, at least 12, so
            that a small set is seen as often as learning takes.
        lr: peak of the one-cycle schedule.
        batch_size: images a step; every image is used once an epoch, the last batch is never tiny.
        weight_decay: of AdamW; not applied to biases and normalisation.
        augment: "auto" (a mild `Augment` of 7 in 10 images), None, an `Augment`, or any function
            called as augment(images, generator=…), with masks=… or boxes=… where they must move.
        class_weights: None, "balanced", one number a class, or a dictionary {class: number}.
        average: weights are averaged over about so many epochs, counted back; 0 turns it off.
        keep: "last" epoch, or "best": the epoch of lowest validation loss.
        seed: decides order, augmentation and dropout.
        device: default: CUDA if there is one, else the CPU.
        precision: "auto", which `Precision.by_rule` decides from the device; or "float32",
            "bfloat16", "float16", each also with "+channels_last".
        checkpoint: file written after every epoch.
        resume: continue from `checkpoint` if that file is there; the result is bit for bit that of
            an uninterrupted run. Start afresh if it is not there.
        progress: show a bar on stderr; the environment variable MEDLAB_PROGRESS=0 hides it too.

    Returns:
        The history, one row an epoch; the model holds the trained (averaged) weights.

    Raises:
        DataError: data, targets and model that do not fit together.
        MedlabError: a loss that is not finite, or an option out of its range.
        CheckpointError: a checkpoint that cannot be written, or of another model, data or recipe.

    Source: Loshchilov & Hutter, Decoupled weight decay regularization (2019), arXiv:1711.05101.
    """
    _check_options(epochs, lr, batch_size, weight_decay, average, keep, seed)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    train = as_cohort(train, "train").to(device)
    val = None if val is None else as_cohort(val, "val").to(device)
    if epochs is None:
        epochs = max(12, math.ceil(_STEPS / batches(len(train), batch_size)))
    if len(train) < 2:
        raise DataError("training needs at least two images: batch normalisation compares them")
    if keep == "best" and val is None:
        raise DataError("keep='best' chooses by validation loss: pass a validation set")
    if resume and checkpoint is None:
        raise DataError("resume=True needs checkpoint=…, the file to continue from")
    if checkpoint is not None:
        check_writable(checkpoint)
    dims = train.images.ndim - 2
    chosen = Precision.by_rule(device, dims) if precision == "auto" else Precision.named(precision)
    task = _task(task, train, class_weights)
    num_outputs = first_look(model.to(device), train, val, task)
    augment = augmentation(augment)
    config = {
        "task": repr(task),
        "model": fingerprint(model),
        "train": fingerprint(train) if checkpoint else "",
        "val": fingerprint(val) if checkpoint and val else "",
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "weight_decay": weight_decay,
        "augment": fingerprint(augment),
        "class_weights": plain_weights(getattr(task, "class_weights", None), num_outputs),
        "average": average,
        "keep": keep,
        "seed": seed,
        "precision": str(chosen),
    }
    saved = checkpoint if resume and checkpoint and os.path.exists(checkpoint) else None
    if saved is None:  # else the checkpoint holds it
        standardise(model, train.images)
    run = Run(model, config, chosen, train.images)
    done = 0 if saved is None else run.restore(saved)
    loss = task.loss(train, num_outputs)
    start = time.perf_counter() - run.history.seconds
    bar = _bar(epochs, done, progress)
    with bar, torch.backends.cudnn.flags(enabled=True, deterministic=True), in_training(model):
        for epoch in range(done, epochs):
            row = _train_epoch(run, train, task, loss, augment, chosen, epoch)
            if val is not None:
                everyone = torch.arange(len(val), device=device)
                row |= task.scores(
                    outputs_of(run.evaluated, val.images), task.target(val, everyone)
                )
            run.finish_epoch(row)
            run.history.seconds = time.perf_counter() - start
            if checkpoint is not None:
                run.store(checkpoint)
            bar.update()
            bar.set_postfix({k: f"{v:.3g}" for k, v in row.items() if k != "epoch"})
    run.finish()
    return run.history


def _train_epoch(
    run: Run,
    data: Cohort,
    task: Task,
    loss: Callable,
    augment: Callable | None,
    precision: Precision,
    epoch: int,
) -> dict[str, float]:
    config, device = run.history.config, data.images.device
    per_epoch = batches(len(data), config["batch_size"])
    steps = config["epochs"] * per_epoch
    horizon = max(1.0, config["average"] * per_epoch)
    # Each epoch draws from (seed, epoch) alone, so that a resumed run needs no generator states.
    seeds = np.random.SeedSequence([config["seed"], epoch]).generate_state(3, np.uint32).tolist()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seeds[0]))
    draws = torch.Generator(device).manual_seed(seeds[1])
    total = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeds[2])
        # Parts of nearly equal size: a last batch of one image has no variance to normalise with.
        for i, index in enumerate(order.to(device).tensor_split(per_epoch)):
            step = epoch * per_epoch + i
            rate = one_cycle(step, steps=steps, peak=config["lr"])
            value = batch_loss(run.model, data, index, task, loss, augment, draws, precision)
            total += _finite(value, epoch, rate, precision) * len(index)
            # A plain mean at first, an exponential one once the horizon is reached.
            run.step(value, rate=rate, weight=max(1 / (step + 1), 1 / horizon))
    return {"epoch": epoch + 1, "lr": rate, "train_loss": total / len(data)}


def _task(task: str | Task | None, train: Cohort, class_weights: Any) -> Task:
    if not isinstance(task, Task):
        return task_for(task or train.card.task, class_weights=class_weights)
    if class_weights is not None:
        raise DataError("pass class_weights to the task that you made, not to fit")
    return task


def _bar(epochs: int, done: int, progress: bool) -> tqdm:
    return tqdm(
        total=epochs,
        initial=done,
        desc="training",
        unit="epoch",
        file=sys.stderr,
        disable=not progress or os.environ.get("MEDLAB_PROGRESS") == "0",
    )


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


def _check_options(
    epochs: Any, lr: Any, batch_size: Any, weight_decay: Any, average: Any, keep: Any, seed: Any
) -> None:
    faults = {
        f"epochs must be a whole number of at least 1; got {epochs!r}": epochs is None
        or fits(epochs, int, 1),
        f"lr must be a positive number; got {lr!r}": fits(lr, float, 0) and lr > 0,
        f"batch_size must be a whole number of at least 2; got {batch_size!r}": fits(
            batch_size, int, 2
        ),
        f"weight_decay must be at least 0; got {weight_decay!r}": fits(weight_decay, float, 0),
        f"average must be a number of epochs, 0 for none; got {average!r}": fits(average, float, 0),
        f"keep must be 'last' or 'best'; got {keep!r}": keep in ("last", "best"),
        f"seed must be a whole number of at least 0; got {seed!r}": fits(seed, int, 0),
    }
    for message, fine in faults.items():
        if not fine:
            raise MedlabError(message)
