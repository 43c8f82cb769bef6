"""Several findings an image, each present or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.cohort import Cohort
from medlab.errors import DataError
from medlab.training.tasks import Task, auc_or_nan, class_weights
from medlab.training.tasks.classification import outputs_of


@dataclass(frozen=True, kw_only=True)
class Multilabel(Task):
    """Binary cross-entropy for each label; scored by mean AUC and accuracy at one half.

    Attributes:
        class_weights: how much a positive of each label weighs against its negatives, as numbers or
            a dictionary; "balanced": negatives / positives.
        label_smoothing: ε: targets are ε/2 and 1 − ε/2.
    """

    class_weights: str | Sequence[float] | Mapping[int, float] | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise DataError(f"label_smoothing must be in 0 … 1; got {self.label_smoothing!r}")

    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        if data.labels is None or data.labels.ndim != 2:
            raise DataError(
                f"{name} needs labels of shape (N, K), 0 and 1, when an image may have several; "
                "train and val must both have them, or both have class numbers"
            )
        labels, found = data.labels.shape[1], outputs_of(outputs, data)
        if labels != found:
            raise DataError(
                f"{name} has {labels} labels an image, and the model has {found} outputs: build "
                "it with num_classes equal to the number of labels"
            )

    def target(self, data: Cohort, index: Tensor) -> Tensor:
        return cast(Tensor, data.labels)[index]

    def loss(self, train: Cohort, num_outputs: int) -> Callable[[Tensor, Tensor], Tensor]:
        positive = cast(Tensor, train.labels).sum(0)
        weight = class_weights(self.class_weights, positive)
        if self.class_weights == "balanced":
            weight = (len(train) - positive).clamp_min(1) / positive.clamp_min(1)
        smoothing = self.label_smoothing

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            soft = labels * (1 - smoothing) + smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=weight)

        return loss

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        correct = (outputs > 0) == (target > 0.5)
        return {
            "val_loss": F.binary_cross_entropy_with_logits(outputs, target).item(),
            "val_auc": auc_or_nan(target, outputs),
            "val_accuracy": correct.float().mean().item(),
        }

    def finish(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs)


TASK = Multilabel
