"""One class a pixel."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from medlab.losses import cross_entropy_dice
from medlab.metrics import dice
from medlab.training.tasks import Task


class Segmentation(Task):
    """Cross-entropy and soft Dice; scored by the mean Dice of the structures in each image."""

    kinds = ("segmentation",)
    field = "masks"

    def loss(self, weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
        return partial(cross_entropy_dice, weight=weight)

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        found = dice(target, outputs.argmax(1), num_classes=outputs.shape[1])
        return {"val_dice": found.nanmean().item()}
