"""The learning-rate range test: one short run whose rate climbs until the loss breaks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from medlab.cohort import Cohort
from medlab.errors import DataError, MedlabError
from medlab.training._examples import as_cohort
from medlab.training._setup import augmentation, batch_loss, first_look, in_training, standardise
from medlab.training.precision import Precision
from medlab.training.recipe import batches, parameter_groups
from medlab.training.tasks import Task, task_for


@dataclass(frozen=True)
class RangeTest:
    """What `lr_range_test` saw, one entry a step.

    Attributes:
        lrs: learning rates, each a fixed factor above the one before.
        losses: of each step's batch, before that step was taken.
        smoothed: their exponential mean, corrected for its start at 0.
        suggestion: a tenth of the rate at which `smoothed` was lowest.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float


def lr_range_test(
    model: nn.Module,
    train: Cohort | tuple[Tensor, Tensor],
    *,
    task: str | Task | None = None,
    lowest: float = 1e-5,
    highest: float = 1.0,
    steps: int = 100,
    batch_size: int = 64,
    weight_decay: float = 0.01,
    augment: str | Callable | None = "auto",
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    smoothing: float = 0.9,
    diverged: float = 4.0,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> RangeTest:
    """Raise the learning rate from step to step and watch where the loss falls and where it breaks.

    Step i of S is taken at η_i = lowest · (highest/lowest)^(i/(S − 1)). The losses L_i are smoothed
    as s_i = β s_{i−1} + (1 − β) L_i, divided by 1 − β^(i+1) to undo the start at s = 0. The test
    ends early once that is above `diverged` times its lowest value, or the loss is not finite. It
    trains a copy: weights, buffers, modes and gradients of `model` stay as they are, to the last
    bit, and so does the global random state.

    The suggestion keeps a factor of ten from the lowest point, where the loss is about to turn. It
    is a place to start, for the batch size and the optimiser that it was found with; look at the
    curve, and choose between neighbours by validation.

    Args:
        model: maps float32 images (N, C, …) to logits; the weights to start from.
        train: a cohort, or a pair (images, targets), as for `fit`.
        task: as for `fit`.
        lowest, highest: first and last learning rate, 0 < lowest < highest.
        steps: S, at least 10.
        batch_size, weight_decay, augment: as for `fit`.
        optimiser: makes one from the parameters, as `lambda p: torch.optim.SGD(p, lr=1)`; its rate
            is overwritten. Default: AdamW as in `fit`.
        smoothing: β, 0 (none) to below 1.
        diverged: above 1.
        seed: decides order, augmentation and dropout.
        device: default: CUDA if there is one, else the CPU.

    Raises:
        DataError: data, labels and model that do not fit together.
        MedlabError: an option out of its range, or a loss that never fell.

    Source: Smith, Cyclical learning rates for training neural networks (2017), section 3.3,
    doi:10.1109/WACV.2017.58. Smoothing and suggestion are common practice, not part of the paper.
    """
    _check(lowest, highest, steps, batch_size, weight_decay, smoothing, diverged)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    data = as_cohort(train, "train").to(device)
    if len(data) < 2:
        raise DataError("the range test needs at least two images")
    trial = copy.deepcopy(model).to(device)
    trial.zero_grad()
    task = task if isinstance(task, Task) else task_for(task or data.card.task)
    loss = task.loss(data, first_look(trial, data, None, task))
    standardise(trial, data.images)
    augment = augmentation(augment, task)
    if optimiser is None:
        stepper = torch.optim.AdamW(parameter_groups(trial, weight_decay), lr=lowest)
    else:
        stepper = optimiser(trial.parameters())
    draws = torch.Generator(device).manual_seed(seed)
    order = _endless(len(data), batch_size, seed)

    lrs: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    cuda = [device] if device.type == "cuda" else []
    with in_training(trial), torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        for i in range(steps):
            rate = lowest * (highest / lowest) ** (i / (steps - 1))
            index = next(order).to(device)
            value = batch_loss(trial, data, index, task, loss, augment, draws, Precision())
            if not math.isfinite(value.item()):
                break
            mean = smoothing * mean + (1 - smoothing) * value.item()
            lrs.append(rate)
            losses.append(value.item())
            smoothed.append(mean / (1 - smoothing ** (i + 1)))
            if smoothed[-1] > diverged * min(smoothed):
                break
            stepper.zero_grad()
            value.backward()
            for group in stepper.param_groups:
                group["lr"] = rate
            stepper.step()
    if not smoothed or min(smoothed) == smoothed[0]:
        raise MedlabError(
            f"the loss never fell below its first value: lowest={lowest:.2g} is already too high, "
            "or there is nothing to learn. Try a smaller lowest, or more steps."
        )
    return RangeTest(lrs, losses, smoothed, lrs[smoothed.index(min(smoothed))] / 10)


def _endless(count: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Batches of a shuffled set, shuffled anew whenever it is used up."""
    draws = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=draws).tensor_split(batches(count, batch_size))


def _check(lowest, highest, steps, batch_size, weight_decay, smoothing, diverged) -> None:
    faults = {
        f"rates must be 0 < lowest < highest; got {lowest!r} and {highest!r}": 0
        < lowest
        < highest
        < math.inf,
        f"steps must be a whole number of at least 10; got {steps!r}": isinstance(steps, Integral)
        and steps >= 10,
        f"batch_size must be a whole number of at least 2; got {batch_size!r}": isinstance(
            batch_size, Integral
        )
        and batch_size >= 2,
        f"weight_decay must be at least 0; got {weight_decay!r}": weight_decay >= 0,
        f"smoothing must be at least 0 and below 1; got {smoothing!r}": 0 <= smoothing < 1,
        f"diverged must be above 1; got {diverged!r}": diverged > 1,
    }
    for message, fine in faults.items():
        if not fine:
            raise MedlabError(message)
