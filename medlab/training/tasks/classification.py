"""One class an image, or several findings, each present or not."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from medlab.cohort import Cohort
from medlab.metrics import UndefinedMetric, auc
from medlab.training.tasks import Task


class Classification(Task):
    """Cross-entropy over classes; scored by AUC (one against the rest, averaged) and accuracy."""

    kinds: ClassVar[tuple[str, ...]] = ("binary", "multiclass", "ordinal")
    class_weights: ClassVar[str | None] = "balanced"

    def loss(self, weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
        return nn.CrossEntropyLoss(weight)

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        return _scores(target, self.finish(outputs), outputs.argmax(1) == target)


class Multilabel(Task):
    """Binary cross-entropy of each label; scored by mean AUC and accuracy at one half."""

    kinds = ("multilabel",)
    several = True

    def loss(self, weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
        return nn.BCEWithLogitsLoss(pos_weight=weight)

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        return _scores(target, outputs, (outputs > 0) == (target > 0.5))

    def finish(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs)

    def weights(self, train: Cohort, num_outputs: int) -> Tensor:
        """How much a positive weighs against a negative: negatives / positives of the label."""
        positive = self.target(train, slice(None)).sum(0)
        return (len(train) - positive).clamp_min(1) / positive.clamp_min(1)


def _scores(target: Tensor, scores: Tensor, correct: Tensor) -> dict[str, float]:
    try:
        area = auc(target.cpu(), scores.cpu())
    except UndefinedMetric:  # a class is missing
        area = math.nan
    return {"val_auc": area, "val_accuracy": correct.float().mean().item()}
