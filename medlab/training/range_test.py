"""The learning-rate range test: one short run whose rate climbs until the loss breaks."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medlab.errors import MedlabError
from medlab.training._setup import Data, in_training, number, prepare, standardise
from medlab.training.recipe import batches
from medlab.training.state import Run

_SMOOTHING = 0.9  # β
_DIVERGED = 4.0  # times the lowest smoothed loss


@dataclass(frozen=True)
class RangeTest:
    """What `lr_range_test` saw at each step: learning rate, loss before the step, smoothed loss.

    The `suggestion` is a tenth of the rate at which `smoothed` was lowest.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float


def lr_range_test(
    model: nn.Module,
    train: Data,
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
    finite. It trains a copy: `model` and the global random state stay as they are. The suggestion
    holds for this batch size and optimiser.

    S is `steps`, at least 10. `optimiser` makes one from the parameters, as
    `lambda p: torch.optim.SGD(p, lr=1)`, and its rate is overwritten; by default it is the AdamW of
    `fit`. Model, data, batch size, augmentation and seed are as for `fit`; classes have no weights.

    Raises:
        DataError: data, targets and model that do not fit together.
        MedlabError: an option out of its range, or a loss that never fell.

    Source: Smith, Cyclical learning rates for training neural networks (2017), section 3.3,
    doi:10.1109/WACV.2017.58. Smoothing and suggestion are common practice, not part of the paper.
    """
    if not 0 < lowest < highest < math.inf:
        raise MedlabError(f"rates must be 0 < lowest < highest; got {lowest!r} and {highest!r}")
    steps = number(int, "steps", steps, 10)
    batch_size = number(int, "batch_size", batch_size, 2)
    trial = copy.deepcopy(model)
    trial.zero_grad()
    setup = prepare(trial, train, None, None, augment, None, "float32")
    images = setup.train.images
    standardise(trial, images)
    config = {"lr": lowest, "weight_decay": 0.01, "average": 0, "keep": "last"}
    run = Run(trial, config, setup.precision, images, setup.team)
    if optimiser is not None:
        run.optimiser = optimiser(trial.parameters())
    draws = torch.Generator(images.device).manual_seed(seed)
    shuffles = torch.Generator().manual_seed(seed)
    order: list[Tensor] = []
    while len(order) < steps:
        epoch = torch.randperm(len(images), generator=shuffles)
        order += epoch.tensor_split(batches(len(images), batch_size))
    found = RangeTest([], [], [], 0.0)
    lrs, losses, smoothed, mean = found.lrs, found.losses, found.smoothed, 0.0
    with in_training(trial), torch.random.fork_rng([images.device] if images.is_cuda else []):
        torch.manual_seed(seed)
        for i, index in enumerate(order[:steps]):
            loss = setup.loss_of(trial, index.to(images.device), draws)
            if not math.isfinite(loss.item()):
                break
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss.item()
            lrs.append(lowest * (highest / lowest) ** (i / (steps - 1)))
            losses.append(loss.item())
            smoothed.append(mean / (1 - _SMOOTHING ** (i + 1)))
            if smoothed[-1] > _DIVERGED * min(smoothed):
                break
            run.step(loss, rate=lrs[-1], weight=0)
    if not smoothed or min(smoothed) == smoothed[0]:
        told = f"lowest={lowest:.2g} is already too high, or there is nothing to learn"
        raise MedlabError(f"the loss never fell below its first value: {told}")
    return replace(found, suggestion=lrs[smoothed.index(min(smoothed))] / 10)
