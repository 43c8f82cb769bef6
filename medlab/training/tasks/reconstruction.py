"""An image for an image: what a network should give back, or make of one that is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.augment import Augment
from medlab.cohort import Cohort, to_float
from medlab.errors import DataError
from medlab.metrics import psnr
from medlab.training.tasks import Task


class Reconstruction(Task):
    """Mean squared error of every pixel; scored by it and by the mean `metrics.psnr` of images.

    The target is `extras["target"]` where a cohort has it (N, C, …), else the image itself, as the
    model gets it: uint8 as 0 … 1. `predict` returns the outputs. Augmentation moves the target with
    the image and changes its grey levels alike; blur and noise of an `Augment` go to the image
    alone, since they are what the model is to undo. Another function gets image and target as the
    channels of one image. The range of the PSNR is the spread of the validation set's targets.
    """

    kinds = ("reconstruction",)
    field = "target"

    def target(self, data: Cohort, index: Tensor | slice) -> Tensor:
        return to_float(torch.as_tensor(data.extras.get("target", data.images))[index])

    def loss(self, weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
        return F.mse_loss

    def augmented(
        self, augment: Callable, images: Tensor, target: Tensor, draws: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        damage = None
        if isinstance(augment, Augment):
            still: dict = {"rotate": 0, "translate": 0, "scale": 0}
            damage = Augment(**still, noise=augment.noise, blur=augment.blur, share=augment.share)
            augment = replace(augment, noise=0, blur=0)
        both = augment(torch.cat([images, target], 1), generator=draws)
        images, target = both.tensor_split([images.shape[1]], 1)
        return images if damage is None else damage(images, generator=draws), target

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        span = (target.max() - target.min()).item()
        decibels = psnr(target, outputs, data_range=span)
        return {"val_psnr": decibels.mean().item(), "val_mse": F.mse_loss(outputs, target).item()}

    def finish(self, outputs: Tensor) -> Tensor:
        return outputs

    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        target = self.target(data, slice(None))
        if outputs.shape[1:] != target.shape[1:] or len(target) != len(data):
            raise DataError(
                f"the {name} set's targets are {tuple(target.shape)}, and this model makes "
                f"{('N', *outputs.shape[1:])} of its images: both must have the same channels and "
                "sides"
            )
        if not target.isfinite().all():
            raise DataError(f"targets of the {name} set hold NaN or infinite pixels")
