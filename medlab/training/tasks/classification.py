"""One class an image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.cohort import Cohort
from medlab.errors import DataError
from medlab.training.tasks import Task, auc_or_nan, class_weights


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Cross-entropy over classes; scored by AUC (one against the rest, averaged) and accuracy.

    Attributes:
        class_weights: see `medlab.fit`.
        label_smoothing: ε: the target is 1 − ε for the true class plus ε/K for every class.
    """

    class_weights: str | Sequence[float] | Mapping[int, float] | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise DataError(f"label_smoothing must be in 0 … 1; got {self.label_smoothing!r}")

    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        if data.labels is None:
            raise DataError(
                f"the {name} cohort {data.card.name!r} has no labels (task: {data.card.task}): "
                "a classifier needs one label an image"
            )
        if data.labels.ndim != 1:
            raise DataError(
                f"{name} has several labels an image and this task one class: train and val must "
                "both have class numbers, or both several labels"
            )
        classes = outputs_of(outputs, data)
        low, high = int(data.labels.min()), int(data.labels.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"{name} labels run from {low} to {high}, and a model with num_classes={classes} "
                f"knows classes 0 to {classes - 1}: build the model with num_classes="
                f"{max(high + 1, 2)}" + (", or renumber the labels from 0" if low < 0 else "")
            )
        if low == high and name == "train":
            warnings.warn(
                f"every training label is {low}: with a single class there is nothing to tell "
                "apart",
                stacklevel=4,
            )

    def target(self, data: Cohort, index: Tensor) -> Tensor:
        return cast(Tensor, data.labels)[index]

    def loss(self, train: Cohort, num_outputs: int) -> Callable[[Tensor, Tensor], Tensor]:
        counts = torch.bincount(cast(Tensor, train.labels), minlength=num_outputs)
        weight = class_weights(self.class_weights, counts)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(
                logits, labels, weight=weight, label_smoothing=self.label_smoothing
            )

        return loss

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        return {
            "val_loss": F.cross_entropy(outputs, target).item(),
            "val_auc": auc_or_nan(target, outputs.softmax(1)),
            "val_accuracy": (outputs.argmax(1) == target).float().mean().item(),
        }

    def finish(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1)


def outputs_of(outputs: Tensor, data: Cohort) -> int:
    """The number of outputs an image, if the model gives one row of them."""
    if outputs.ndim != 2:
        raise DataError(
            f"the model must return logits of shape (N, classes); it returned "
            f"{tuple(outputs.shape)} for images of shape {tuple(data.images.shape)}"
        )
    return outputs.shape[1]


TASK = Classification
