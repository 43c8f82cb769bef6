"""The learning-rate range test: one short run whose rate climbs until the loss breaks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medlab.cohort import Cohort
from medlab.errors import DataError, MedlabError
from medlab.training._examples import as_cohort
from medlab.training._setup import (
    augmentation,
    batch_loss,
    first_look,
    fits,
    in_training,
    standardise,
)
from medlab.training.precision import Precision
from medlab.training.recipe import batches, parameter_groups
from medlab.training.tasks import task_for

_SMOOTHING = 0.9  # β
_DIVERGED = 4.0  # times the lowest smoothed loss


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
    lowest: float = 1e-5,
    highest: float = 1.0,
    steps: int = 100,
    batch_size: int = 64,
    augment: str | Callable | None = "auto",
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    seed: int = 0,
) -> RangeTest:
    """Raise the learning rate from step to step and watch where the loss falls and where it breaks.

    Step i of S is taken at η_i = lowest · (highest/lowest)^(i/(S − 1)). The losses L_i are smoothed
    as s_i = β s_{i−1} + (1 − β) L_i with β = 0.9, divided by 1 − β^(i+1) to undo the start at
    s = 0. The test ends early once that is above 4 times its lowest value, or the loss is not
    finite. It trains a copy: weights, buffers, modes and gradients of `model` stay as they are, to
    the last bit, and so does the global random state.

    The suggestion keeps a factor of ten from the lowest point, where the loss is about to turn. It
    is a place to start, for the batch size and the optimiser that it was found with; look at the
    curve, and choose between neighbours by validation.

    Args:
        model: maps float32 images (N, C, …) to logits; the weights to start from.
        train: a cohort, or a pair (images, targets), as for `fit`.
        lowest: the first learning rate, above 0.
        highest: the last one, above `lowest`.
        steps: S, at least 10.
        batch_size: as for `fit`.
        augment: as for `fit`.
        optimiser: makes one from the parameters, as `lambda p: torch.optim.SGD(p, lr=1)`; its rate
            is overwritten. Default: AdamW as in `fit`.
        seed: decides order, augmentation and dropout.

    Raises:
        DataError: data, targets and model that do not fit together.
        MedlabError: an option out of its range, or a loss that never fell.

    Source: Smith, Cyclical learning rates for training neural networks (2017), section 3.3,
    doi:10.1109/WACV.2017.58. Smoothing and suggestion are common practice, not part of the paper.
    """
    if not (fits(lowest, float, 0) and fits(highest, float, 0) and 0 < lowest < highest):
        raise MedlabError(f"rates must be 0 < lowest < highest; got {lowest!r} and {highest!r}")
    for name, given, least in (("steps", steps, 10), ("batch_size", batch_size, 2)):
        if not fits(given, int, least):
            raise MedlabError(f"{name} must be a whole number of at least {least}; got {given!r}")
    trial = copy.deepcopy(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trial.to(device).zero_grad()
    data = as_cohort(train, "train").to(device)
    if len(data) < 2:
        raise DataError("the range test needs at least two images")
    task = task_for(data.card.task)
    loss = task.loss(data, first_look(trial, data, None, task))
    standardise(trial, data.images)
    augment = augmentation(augment)
    groups = parameter_groups(trial, 0.01)
    stepper = optimiser(trial.parameters()) if optimiser else torch.optim.AdamW(groups)
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
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value.item()
            lrs.append(rate)
            losses.append(value.item())
            smoothed.append(mean / (1 - _SMOOTHING ** (i + 1)))
            if smoothed[-1] > _DIVERGED * min(smoothed):
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
