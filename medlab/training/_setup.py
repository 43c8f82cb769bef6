"""What `fit` does before the first step, and what it goes down in each."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard, to_float
from medlab.errors import DataError, MedlabError
from medlab.models import Standardise, undisturbed
from medlab.training.precision import Precision
from medlab.training.prediction import as_logits, outputs_of
from medlab.training.processes import Team
from medlab.training.tasks import Task, plain_weights, task_for

Data = Cohort | tuple[Tensor, Tensor]
# Chosen on training images alone: benchmarks/README.md.
AUTO = Augment(brightness=0.5, contrast=0.3, gamma=0.3, noise=0.2, blur=0.7)


@dataclass(frozen=True)
class Setup:
    """What a training does not change, on its device; `loss` is weighted by class."""

    train: Cohort
    val: Cohort | None
    task: Task
    class_weights: str | list[float] | None
    loss: Callable[[Tensor, Any], Tensor]
    augment: Callable | None
    precision: Precision
    team: Team

    def loss_of(self, model: nn.Module, index: Tensor, draws: torch.Generator) -> Tensor:
        """The loss of the augmented batch of images at `index`: what a step goes down."""
        images, target = to_float(self.train.images[index]), self.task.target(self.train, index)
        if self.augment is not None:
            images, target = self.task.augmented(self.augment, images, target, draws)
        layout = self.precision.layout(images.ndim - 2)

        def forward(part: Tensor) -> Tensor:
            with self.precision.autocast(part.device):
                outputs = model(part.contiguous(memory_format=layout))
            return as_logits(outputs, part).float()

        return self.loss(self.team.share(forward, images), target)


def prepare(
    model: nn.Module,
    train: Data,
    val: Data | None,
    task: Task | None,
    augment: str | Callable | None,
    class_weights: Any,
    precision: str,
    device: str | torch.device | None,
    team: Team,
) -> Setup:
    """Move model and data to the device, and check with two images that they fit together."""
    if isinstance(augment, str) and augment != "auto":
        raise DataError(f"augment must be 'auto', None or a function; got {augment!r}")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    restores = task is not None and task.field == "target"
    train = _as_cohort(train, "train", restores).to(device)
    val = None if val is None else _as_cohort(val, "val", restores).to(device)
    moves = AUTO if isinstance(augment, str) else augment
    if isinstance(moves, Augment) and train.card.frames:
        moves = replace(moves, frames=True)
    if len(train) < 2:
        raise DataError("training needs at least two images: batch normalisation compares them")
    task = task or task_for(train.card.task)
    for name, data in (("train", train), ("val", val)):
        if data is not None:
            outputs = outputs_of(model.to(device), data.images[:2])
            task.check(data, outputs, name)
    if val is not None:
        _check_parts(train, val)
    if isinstance(class_weights, str) and class_weights == "auto":
        class_weights = task.class_weights
    weights = plain_weights(class_weights, outputs.shape[1])
    weight = task.weights(train, outputs.shape[1]) if weights == "balanced" else None
    if isinstance(weights, list):
        weight = torch.tensor(weights, device=device)
    chosen = Precision.by_rule(device) if precision == "auto" else Precision.named(precision)
    return Setup(train, val, task, weights, task.loss(weight), moves, chosen, team)


def _as_cohort(data: Data, name: str, restores: bool) -> Cohort:
    """A cohort, or a pair (images, targets) as one; refuse what cannot be trained on.

    `restores` tells that targets are images.
    """
    if not isinstance(data, Cohort):
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise DataError(f"{name} must be a Cohort or a pair (images, labels); got {type(data)}")
        images, targets = torch.as_tensor(data[0]), torch.as_tensor(data[1])
        several = targets.ndim == 2 and targets.is_floating_point()
        task = "multilabel" if several else "segmentation" if targets.ndim > 2 else "multiclass"
        fields: dict = {"masks" if targets.ndim > 2 else "labels": targets}
        if restores:
            task, fields = "reconstruction", {"extras": {"target": targets}}
        data = Cohort(images=images, card=DataCard(name=name, title=name, task=task), **fields)
    if len(data) == 0:
        raise DataError(f"the {name} set is empty: it has no images")
    bad = ~torch.isfinite(data.images).flatten(1).all(1)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of the {len(data)} {name} images hold NaN or infinite pixels; the "
            f"first is image {int(bad.nonzero()[0])}. Repair or drop them."
        )
    return data


def _check_parts(train: Cohort, val: Cohort) -> None:
    """Refuse two cohorts whose class numbers mean different things; warn of shared patients."""
    if train.classes and val.classes and train.classes != val.classes:
        raise DataError(
            f"train and val number their classes differently: {', '.join(train.classes)} and "
            f"{', '.join(val.classes)}. Load both with the same classes, in the same order."
        )
    if train.patients is None or val.patients is None:
        return
    shared = np.intersect1d(train.patients, val.patients)
    if len(shared):
        warnings.warn(
            f"{len(shared)} patients are in both train and val ({', '.join(shared[:3])}): "
            "validation scores will be too good. Split by patient: cohort.split().",
            stacklevel=4,
        )


@contextmanager
def in_training(model: nn.Module) -> Iterator[None]:
    """The model in training mode, except for layers that the caller froze in evaluation mode."""
    frozen = {layer for layer in model.modules() if _frozen(model, layer)}
    with undisturbed(model):
        for layer in model.modules():
            layer.training = layer not in frozen
        yield


def _frozen(model: nn.Module, layer: nn.Module) -> bool:
    """A layer left in evaluation mode while its model is not, or with no weight to train."""
    parameters = list(layer.parameters())
    fixed = bool(parameters) and not any(p.requires_grad for p in parameters)
    return not layer.training and (model.training or fixed)


def standardise(model: nn.Module, images: Tensor) -> None:
    """Let the model's `Standardise` layers learn mean and spread, unless they are frozen."""
    for layer in model.modules():
        if isinstance(layer, Standardise) and not _frozen(model, layer):
            layer.fit(images)


def number(kind: type, name: str, value: Any, least: float) -> Any:
    """An option as a plain int or float, which JSON can hold; a `MedlabError` if it is none."""
    fits = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if not fits or not least <= value < math.inf:
        what = "whole" if kind is int else "finite"
        raise MedlabError(f"{name} must be a {what} number of at least {least}; got {value!r}")
    return kind(value)
