"""What happens before the first step, and in each: shared by `fit` and the range test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from medlab.augment import Augment
from medlab.cohort import Cohort, to_float
from medlab.errors import DataError
from medlab.models import Standardise
from medlab.training._examples import check_parts
from medlab.training.precision import Precision
from medlab.training.prediction import as_tensor, outputs_of
from medlab.training.tasks import Task


@contextmanager
def in_training(model: nn.Module) -> Iterator[None]:
    """The model in training mode, except for layers that the caller froze in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    frozen = {module for module in modes if _frozen(model, module)}
    for module in modes:
        module.training = module not in frozen
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _frozen(model: nn.Module, layer: nn.Module) -> bool:
    """A layer left in evaluation mode while its model is not, or with no weight to train."""
    if layer.training:
        return False
    parameters = list(layer.parameters())
    return model.training or bool(parameters and not any(p.requires_grad for p in parameters))


def standardise(model: nn.Module, images: Tensor) -> None:
    """Let the model's `Standardise` layers learn mean and spread, unless they are frozen."""
    for layer in model.modules():
        if isinstance(layer, Standardise) and not _frozen(model, layer):
            layer.fit(images)


def augmentation(augment: str | Callable | None) -> Callable | None:
    """What "auto" stands for, or what the caller gave."""
    if not isinstance(augment, str):
        return augment
    if augment != "auto":
        raise DataError(f"augment must be 'auto', None or a function; got {augment!r}")
    return Augment(share=0.7)


def first_look(model: nn.Module, train: Cohort, val: Cohort | None, task: Task) -> int:
    """Run two images through the model and check that its outputs fit the targets.

    Returns:
        The number of outputs K, an image or a pixel.
    """
    for name, data in (("train", train), ("val", val)):
        if data is not None:
            outputs = outputs_of(model, data.images[:2])
            task.check(data, outputs, name)
    if val is not None:
        check_parts(train, val)
    return outputs.shape[1]


def batch_loss(
    model: nn.Module,
    data: Cohort,
    index: Tensor,
    task: Task,
    loss: Callable,
    augment: Callable | None,
    draws: torch.Generator,
    precision: Precision,
) -> Tensor:
    """The loss of one augmented batch: what a step goes down.

    Args:
        model: in training mode.
        data: the whole training set, on the device.
        index: (B,) positions of the batch.
        task: says what the target is, and whether it moves with the image.
        loss: from `task.loss`.
        augment: moves images, and masks or boxes with them; None changes nothing.
        draws: source of the augmentation's randomness, on the device.
        precision: number format and memory layout of the forward pass.
    """
    images, target = to_float(data.images[index]), task.target(data, index)
    if augment is not None and task.moves:
        images, target = augment(images, **{task.moves: target}, generator=draws)
    elif augment is not None:
        images = augment(images, generator=draws)
    with precision.autocast(images.device):
        outputs = model(images.contiguous(memory_format=precision.layout(images.ndim - 2)))
    return loss(as_tensor(outputs, images).float(), target)


def fits(value: Any, kind: type, lowest: float) -> bool:
    """A finite number of at least `lowest`; a whole one if `kind` is int."""
    number = Integral if kind is int else Real
    return (
        isinstance(value, number)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and float(value) >= lowest
    )
