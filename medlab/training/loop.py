"""The training loop, one for every task."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from medlab.errors import DataError, Interrupted, MedlabError
from medlab.errors import progress as shown
from medlab.training._setup import Data, Setup, in_training, number, prepare, standardise
from medlab.training.prediction import outputs_of
from medlab.training.processes import Team
from medlab.training.recipe import batches, one_cycle
from medlab.training.state import History, Run, fingerprint
from medlab.training.tasks import Task

# Where the caller does not say how many epochs: benchmarks/README.md tells how they were chosen.
_EPOCHS, _FEWEST = 20, 12
_STEPS = 400, 1500


def fit(
    model: nn.Module,
    train: Data,
    val: Data | None = None,
    *,
    task: Task | None = None,
    epochs: int | None = None,
    lr: float = 3e-3,
    batch_size: int = 64,
    weight_decay: float = 0.01,
    augment: str | Callable | None = "auto",
    class_weights: str | Sequence[float] | Mapping[int, float] | None = "auto",
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
    masks of the images' size are segmented. Model and data are moved to the device once. A
    `Standardise` layer in the model takes mean and spread from the training images.

    With the same weights, data, options, machine and number of threads the result is the same to
    the last bit. The global random state is neither used nor changed: call torch.manual_seed before
    building the model. Layers in evaluation mode in a model that is not are frozen: they stay so.

    Under `torchrun` the same call trains one model in several processes. Each holds all images,
    computes its share of every batch, and normalises by the whole of it, so that the result is
    that of one process but for rounding; only dropout draws other numbers in each. The first gives
    the weights to start from, shows the bar and reads and writes the checkpoint; the model is the
    same in all at the end. `batch_size` is that of all together. The process group is started if
    there is none, and stays. Other layers that compare the images of a batch see a share of it.

    >>> images, labels = torch.rand(64, 1, 16, 16), torch.arange(64) % 2
    >>> history = fit(medlab.models.SmallCNN(width=4), (images, labels), epochs=2, progress=False)
    >>> history["epoch"]
    [1, 2]

    Args:
        model: maps float32 images (N, C, …) to logits (N, K), or (N, K, *size) to segment.
        train: a cohort, or a pair (images, targets).
        val: the same, other patients; only for the scores in the history and for keep="best".
        task: a `medlab.training.Task`; default: what the data say.
        epochs: passes over the training set; default: 20; more where the set is so small
            that they make fewer than 400 steps, down to 12 where they make more than 1,500.
        lr: peak of the one-cycle schedule.
        batch_size: images a step; every image is used once an epoch, the last batch is never tiny.
        weight_decay: of AdamW; not applied to biases and normalisation.
        augment: "auto" (an `Augment` of mild geometry, grey levels, blur and noise), None, an
            `Augment`, or any function called as augment(images, generator=…), with masks=… or
            boxes=… where they must move.
        class_weights: "balanced" (all classes count alike: how many are ill is not learnt), None,
            "auto" ("balanced" for one class an image, else None), one number a class, or a
            dictionary {class: number}.
        average: weights are averaged over about so many epochs, counted back; 0 turns it off.
        keep: "last" epoch, or "best": the epoch of lowest validation loss.
        seed: decides order, augmentation and dropout.
        device: default: CUDA if there is one, else the CPU.
        precision: "auto", which `Precision.by_rule` decides from the device; or "float32",
            "bfloat16", "float16", each also with "+channels_last".
        checkpoint: file written after every epoch, and at the start where there is none.
        resume: continue from `checkpoint` if it is there, to the bits of an uninterrupted run.
        progress: show a bar; the environment variable MEDLAB_PROGRESS=0 hides it too.

    Returns:
        The history; the model holds the trained (averaged) weights.

    Raises:
        DataError: data, targets and model that do not fit together, or differ between processes.
        MedlabError: a loss that is not finite, or an option out of its range.
        CheckpointError: a checkpoint that cannot be written, or of another model, data or recipe.

    Source: Loshchilov & Hutter, Decoupled weight decay regularization (2019), arXiv:1711.05101.
    """
    if keep not in ("last", "best") or (keep == "best" and val is None):
        raise DataError(f"keep must be 'last', or 'best' with a validation set; got {keep!r}")
    if resume and checkpoint is None:
        raise DataError("resume=True needs checkpoint=…, the file to continue from")
    team = Team.join()
    setup = prepare(model, train, val, task, augment, class_weights, precision, device, team)
    train, val, task = setup.train, setup.val, setup.task
    batch_size = number(int, "batch_size", batch_size, 2)
    if epochs is None:
        epochs = _enough(batches(len(train), batch_size))
    config = {
        "epochs": number(int, "epochs", epochs, 1),
        "lr": number(float, "lr", lr, 1e-12),
        "batch_size": batch_size,
        "weight_decay": number(float, "weight_decay", weight_decay, 0),
        "average": number(float, "average", average, 0),
        "seed": number(int, "seed", seed, 0),
        "keep": keep,
        "task": fingerprint(task),
        "model": fingerprint(model),
        "train": fingerprint(train) if checkpoint or team.size > 1 else "",
        "val": fingerprint(val) if checkpoint or team.size > 1 else "",
        "augment": fingerprint(setup.augment),
        "class_weights": setup.class_weights,
        "precision": str(setup.precision),
    }
    team.agree(model, config)
    checkpoint, resume = team.by_first(lambda: (checkpoint, resume))
    there = team.by_first(lambda: checkpoint is not None and os.path.isfile(checkpoint))
    if not (resume and there):  # else the checkpoint holds it
        standardise(model, train.images)
    run = Run(model, config, setup.precision, train.images, team)
    if checkpoint is not None and resume and there:
        run.restore(checkpoint)
    elif checkpoint is not None and not there:
        run.store(checkpoint)  # tells at once if it cannot be written
    done, start = len(run.history), time.perf_counter() - run.history.seconds
    hidden = not progress or team.rank > 0
    bar = shown(
        total=epochs, initial=done, desc="training", unit="epoch", leave=True, disable=hidden
    )
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True)
    try:
        with bar, exact, in_training(model), team.synchronised(model):
            for epoch in range(done, epochs):
                row = _train_epoch(run, setup, epoch)
                if val is not None:
                    outputs = team.share(partial(outputs_of, run.evaluated), val.images)
                    target = task.target(val, slice(None))
                    row["val_loss"] = task.loss(None)(outputs, target).item()
                    row |= task.scores(outputs, target)
                run.finish_epoch(row)
                run.history.seconds = time.perf_counter() - start
                if checkpoint is not None:
                    run.store(checkpoint)
                bar.update()
                bar.set_postfix({k: f"{v:.3g}" for k, v in row.items() if k != "epoch"})
    except KeyboardInterrupt:
        raise Interrupted(
            f"training was stopped after {len(run.history)} of {epochs} epochs, and the model is "
            "half trained: make it anew before you train again, or continue from a checkpoint."
        ) from None
    run.finish()
    return run.history


def _enough(per_epoch: int) -> int:
    """Epochs that neither leave a small set half learnt nor go over a large one without need."""
    least, most = (math.ceil(steps / per_epoch) for steps in _STEPS)
    return max(least, min(_EPOCHS, max(most, _FEWEST)))


def _train_epoch(run: Run, setup: Setup, epoch: int) -> dict[str, float]:
    config, images = run.history.config, setup.train.images
    per_epoch = batches(len(images), config["batch_size"])
    steps = config["epochs"] * per_epoch
    horizon = max(1.0, config["average"] * per_epoch)
    # Each epoch draws from (seed, epoch) alone, so that a resumed run needs no generator states.
    seeds = np.random.SeedSequence([config["seed"], epoch]).generate_state(3, np.uint32).tolist()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seeds[0]))
    draws = torch.Generator(images.device).manual_seed(seeds[1])
    total = 0.0
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(seeds[2] + setup.team.rank)  # other images, another dropout
        # Parts of nearly equal size: a last batch of one image has no variance to normalise with.
        for i, index in enumerate(order.to(images.device).tensor_split(per_epoch)):
            step = epoch * per_epoch + i
            rate = one_cycle(step, steps=steps, peak=config["lr"])
            loss = setup.loss_of(run.models["model"], index, draws)
            if not math.isfinite(loss.item()):
                raise MedlabError(
                    f"the loss became {loss.item()} in epoch {epoch + 1} at learning rate "
                    f"{rate:.2g}. Try a lower lr, precision='float32', or look for images with "
                    "values far outside those of the others."
                )
            total += loss.item() * len(index)
            # A plain mean at first, an exponential one once the horizon is reached.
            run.step(loss, rate=rate, weight=max(1 / (step + 1), 1 / horizon))
    return {"epoch": epoch + 1, "lr": rate, "train_loss": total / len(images)}
