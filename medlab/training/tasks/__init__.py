"""What a task adds to training; one file a task, and neither the loop nor the others know it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from medlab.cohort import Cohort
from medlab.errors import DataError

_TASKS: dict[str, type[Task]] = {}


class Task(ABC):
    """What `fit` and `predict` must know of a task: target, loss, what moves along, and score.

    A new task is a subclass in a new file of this folder, which the room imports.

    Attributes:
        kinds: each `DataCard.task` that it serves.
        field: the field of a cohort that is the target, or "target" among its `extras`.
        several: the target is 0 or 1 for each output, and not the number of one of them.
        class_weights: what "auto" means: "balanced" or None.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    field: ClassVar[str] = "labels"
    several: ClassVar[bool] = False
    class_weights: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        for kind in cls.kinds:
            _TASKS.setdefault(kind, cls)

    @abstractmethod
    def loss(self, weight: Tensor | None) -> Callable[[Tensor, Any], Tensor]:
        """The function of (outputs, target) to minimise, with the `weights` of the classes."""

    @abstractmethod
    def scores(self, outputs: Tensor, target: Any) -> dict[str, float]:
        """Validation scores by name, beside the loss without weights."""

    def target(self, data: Cohort, index: Tensor | slice) -> Any:
        """What the model should answer for the images at `index`, on the data's device."""
        target = getattr(data, self.field)[index]
        return target if self.several else target.long()

    def augmented(
        self, augment: Callable, images: Tensor, target: Any, draws: torch.Generator
    ) -> tuple[Tensor, Any]:
        """A batch after augmentation, its masks or boxes moved along."""
        if self.field == "labels":
            return augment(images, generator=draws), target
        return augment(images, **{self.field: target}, generator=draws)

    def finish(self, outputs: Tensor) -> Tensor:
        """From the model's outputs to what `predict` returns: probabilities, usually."""
        return outputs.softmax(1)

    def weights(self, train: Cohort, num_outputs: int) -> Tensor:
        """What class_weights="balanced" means: N / (K · N_k), with K the classes that occur."""
        if self.field not in ("labels", "masks"):
            told = f"the target is {self.field}, without classes to balance"
            raise DataError(f"{told}: pass class_weights=None")
        target = getattr(train, self.field).flatten().int()
        counts = torch.bincount(target, minlength=num_outputs).float()
        present = counts > 0
        return torch.where(present, counts.sum() / (present.sum() * counts.clamp_min(1)), 0.0)

    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        """Raise `DataError` unless the targets of the set `name` fit what a model puts out."""
        target, classes = getattr(data, self.field), outputs.shape[1]
        if target is None:
            raise DataError(f"the {name} set {data.card.name!r} has no {self.field} to learn from")
        wanted = outputs.shape[1:] if self.several else outputs.shape[2:]
        if target.shape[1:] != wanted:
            raise DataError(
                f"to fit a model with outputs {('N', *outputs.shape[1:])}, {name} {self.field} "
                f"must be {('N', *wanted)}; they are {('N', *target.shape[1:])}. Train and val "
                "must both have class numbers, both several labels, or both masks."
            )
        low, high = (int(value) for value in target.aminmax())
        if not self.several and not 0 <= low <= high < classes:
            raise DataError(
                f"{name} {self.field} run from {low} to {high}, and a model with {classes} outputs "
                f"knows 0 to {classes - 1}: build it with num_classes={high + 1} (of a sequence, "
                "give it more steps), or renumber them from 0"
            )
        if low == high and name == "train":
            told = f"every value of the training {self.field} is {low}: nothing to tell apart"
            warnings.warn(told, stacklevel=4)


def task_for(kind: str) -> Task:
    """The task of a `DataCard.task`; a `DataError` if no file of this folder serves it."""
    if kind not in _TASKS:
        told = f"nothing here trains on the task {kind!r}; known are {', '.join(_TASKS)}"
        raise DataError(f"{told}. Pass task=… to say how a model should learn from these data.")
    return _TASKS[kind]()


def plain_weights(weights: Any, classes: int) -> str | list[float] | None:
    """The `class_weights` of `fit` as None, "balanced" or one number a class, or a `DataError`."""
    if weights is None or (isinstance(weights, str) and weights == "balanced"):
        return weights
    given = weights
    if isinstance(weights, Mapping) and set(weights) <= set(range(classes)):
        given = [weights.get(k, 1.0) for k in range(classes)]
    try:
        numbers = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (classes,) or not ((numbers >= 0) & (numbers < np.inf)).all():
        raise DataError(
            f"class_weights must be None, 'auto', 'balanced', {classes} numbers of at least 0, or "
            f"a dictionary from class numbers 0 … {classes - 1} to such numbers; got {weights!r}"
        )
    return numbers.tolist()
