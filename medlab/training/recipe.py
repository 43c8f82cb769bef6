"""The parts of a training recipe that are formulas: schedule, average, weight decay, batches."""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import nn

from medlab.errors import DataError, MedlabError


def one_cycle(step: int, *, steps: int, peak: float, warmup: float = 0.3) -> float:
    """Learning rate of step 0 … steps − 1: up from peak/25, then down to peak/250,000, by cosines.

    Equal to `torch.optim.lr_scheduler.OneCycleLR` with its default factors. A large rate in the
    middle explores; the long descent settles. `warmup` is the share of steps that climb, 0 … 1.

    Raises:
        MedlabError: a step that is not one of the steps, or a warm-up outside 0 … 1.

    Source: Smith & Topin, Super-Convergence (2019), arXiv:1708.07120.
    """
    if not 0 <= step < steps or not 0 <= warmup <= 1:
        raise MedlabError(
            f"step must be one of 0 … {steps - 1} and warmup a share of them, 0 … 1; got {step} "
            f"and {warmup}"
        )
    top = warmup * steps - 1
    if step < top:
        return _cosine(peak / 25, peak, step / top)
    # A climb of no width starts at the peak, a descent of no width ends there.
    return _cosine(peak, peak / 25e4, (step - top) / (steps - 1 - top)) if top < steps - 1 else peak


def _cosine(start: float, stop: float, fraction: float) -> float:
    return stop + (start - stop) * (1 + math.cos(math.pi * fraction)) / 2


@torch.no_grad()
def average_into(average: nn.Module, model: nn.Module, weight: float) -> None:
    """average ← (1 − weight) · average + weight · model, for every parameter and buffer once.

    The running statistics of batch normalisation are averaged like the weights they belong to;
    counters, which are integers, are copied. `average` is a copy of `model`, changed in place.

    Source: Polyak & Juditsky, SIAM J. Control Optim. 30, 838 (1992); exponential form as in
    Tarvainen & Valpola, Mean teachers (2017), arXiv:1703.01780.
    """
    means = chain(average.parameters(), average.buffers())
    values = chain(model.parameters(), model.buffers())
    for mean, value in zip(means, values, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay the kernels and matrices, and leave biases and whatever normalises alone."""
    alone = {
        parameter
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise DataError("no parameter of the model requires a gradient: there is nothing to train")
    decayed = [p for p in trained if p.ndim > 1 and p not in alone]
    rest = [p for p in trained if p.ndim <= 1 or p in alone]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0}]


def batches(images: int, batch_size: int) -> int:
    """Steps an epoch: parts of nearly equal size, so that no batch is tiny."""
    return max(1, images // batch_size)
