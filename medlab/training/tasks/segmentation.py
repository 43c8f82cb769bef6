"""One class a pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from medlab.cohort import Cohort
from medlab.errors import DataError
from medlab.losses import cross_entropy_dice
from medlab.metrics import dice
from medlab.training.tasks import Task, class_weights


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """Cross-entropy and soft Dice; scored by the mean Dice of the structures in each image.

    Attributes:
        class_weights: of the cross-entropy, see `medlab.fit`.
    """

    moves: ClassVar[str | None] = "masks"
    class_weights: str | Sequence[float] | Mapping[int, float] | None = None

    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        if data.masks is None:
            raise DataError(
                f"the {name} cohort {data.card.name!r} has no masks: segmentation needs one "
                "mask an image, of the image's size"
            )
        size = tuple(data.images.shape[2:])
        if outputs.ndim != 2 + len(size) or tuple(outputs.shape[2:]) != size:
            raise DataError(
                "for segmentation the model must return logits of shape (N, structures, *size); it "
                f"returned {tuple(outputs.shape)} for images of shape {tuple(data.images.shape)}"
            )
        highest, classes = int(data.masks.max()), outputs.shape[1]
        if highest >= classes:
            raise DataError(
                f"{name} masks hold the value {highest}, and a model with num_classes={classes} "
                f"knows 0 (background) to {classes - 1}: build it with num_classes={highest + 1}"
            )

    def target(self, data: Cohort, index: Tensor) -> Tensor:
        return cast(Tensor, data.masks)[index].long()

    def loss(self, train: Cohort, num_outputs: int) -> Callable[[Tensor, Tensor], Tensor]:
        counts = torch.bincount(cast(Tensor, train.masks).flatten().int(), minlength=num_outputs)
        return cross_entropy_dice(class_weights(self.class_weights, counts))

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        return {
            "val_loss": cross_entropy_dice()(outputs, target).item(),
            "val_dice": dice(target, outputs.argmax(1), num_classes=outputs.shape[1])
            .nanmean()
            .item(),
        }

    def finish(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1)


TASK = Segmentation
