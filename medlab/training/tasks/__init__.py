"""What a task adds to training; one file a task, and neither the loop nor the others know it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar

import torch
from torch import Tensor

from medlab.cohort import Cohort
from medlab.errors import DataError
from medlab.metrics import UndefinedMetric, auc

# Kinds of labels that are one task for a network
_SAME = {"binary": "classification", "multiclass": "classification", "ordinal": "classification"}


class Task(ABC):
    """What `fit` and `predict` must know of a task: target, loss, what moves along, and score.

    A new task is a frozen dataclass in a new file of this folder, which is named like the
    `DataCard.task` that it serves; the name `TASK` of that file is bound to the class.

    Attributes:
        moves: what augmentation must move together with the image: "masks", "boxes" or None.
    """

    moves: ClassVar[str | None] = None

    @abstractmethod
    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        """Raise `DataError` unless targets and model fit together.

        Args:
            data: the cohort called `name`, "train" or "val".
            outputs: what the model makes of its first two images.
            name: for the message.
        """

    @abstractmethod
    def target(self, data: Cohort, index: Tensor) -> Any:
        """What the model should answer for the images at `index`, on the data's device."""

    @abstractmethod
    def loss(self, train: Cohort, num_outputs: int) -> Callable[[Tensor, Any], Tensor]:
        """The function of (outputs, target) to minimise; `train` decides balanced weights."""

    @abstractmethod
    def scores(self, outputs: Tensor, target: Any) -> dict[str, float]:
        """Validation scores by name, the plain loss "val_loss" among them."""

    @abstractmethod
    def finish(self, outputs: Tensor) -> Tensor:
        """From the model's outputs to what `predict` returns: probabilities, usually."""


def task_for(kind: str, **options: Any) -> Task:
    """The task of a `DataCard.task`, made with those of the options that it has.

    Raises:
        DataError: a kind that no file of this folder serves.
    """
    known = sorted(module.name for module in iter_modules(__path__))
    name = _SAME.get(kind, kind)
    if name not in known:
        raise DataError(
            f"nothing here trains on the task {kind!r}; known are {', '.join(known)}. Pass task=… "
            "to say how a model should learn from these data."
        )
    return import_module(f"{__name__}.{name}").TASK(**options)


def class_weights(
    weights: str | Sequence[float] | Mapping[int, float] | None, counts: Tensor
) -> Tensor | None:
    """One weight a class, as a tensor.

    Args:
        weights: as `plain_weights` takes them; "balanced" is N / (K · N_k), so that each class
            counts alike, where K is the number of classes present.
        counts: (K,) how often each class occurs in training.
    """
    weights = plain_weights(weights, len(counts))
    if weights is None:
        return None
    if weights == "balanced":
        counts = counts.float()
        present = counts > 0
        return torch.where(present, counts.sum() / (present.sum() * counts.clamp_min(1)), 0.0)
    return torch.tensor(weights, device=counts.device)


def plain_weights(weights: Any, classes: int) -> str | list[float] | None:
    """What the user gave as class weights, as None, "balanced" or one number a class.

    Args:
        weights: None; "balanced"; numbers, one a class; or a dictionary from class number to
            weight, in which a class that is not named weighs 1.
        classes: their number K.

    Raises:
        DataError: anything else.
    """
    if weights is None or (isinstance(weights, str) and weights == "balanced"):
        return weights
    given = weights
    if isinstance(weights, Mapping) and set(weights) <= set(range(classes)):
        given = [weights.get(k, 1.0) for k in range(classes)]
    try:
        numbers = [] if isinstance(given, (str, Mapping)) else [float(w) for w in given]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != classes or not all(math.isfinite(n) and n >= 0 for n in numbers):
        raise DataError(
            f"class_weights must be None, 'balanced', {classes} numbers of at least 0, or a "
            f"dictionary from class numbers 0 … {classes - 1} to such numbers; got {weights!r}"
        )
    return numbers


def auc_or_nan(labels: Tensor, scores: Tensor) -> float:
    """The area under the ROC curve, nan where a class is missing."""
    try:
        return auc(labels.cpu(), scores.cpu())
    except UndefinedMetric:
        return math.nan
