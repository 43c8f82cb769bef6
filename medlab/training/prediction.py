"""Probabilities from a trained model."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from medlab.cohort import Cohort, images_of, to_float
from medlab.errors import DataError
from medlab.models import undisturbed
from medlab.training.tasks import Task, task_for


def predict(
    model: nn.Module,
    data: Cohort | Tensor | tuple[Tensor, Tensor],
    *,
    task: Task | None = None,
    logits: bool = False,
    batch_size: int = 256,
) -> Tensor:
    """Probability of each class, for each image or each of its pixels.

    The model computes on the device where it is, in evaluation mode, and gets its mode back.

    >>> model = medlab.models.SmallCNN(in_channels=1, num_classes=2)
    >>> predict(model, torch.rand(5, 1, 28, 28)).sum(1)
    tensor([1., 1., 1., 1., 1.])

    Args:
        model: maps (N, C, …) float32 images to (N, K) logits, or (N, K, *size) for segmentation.
        data: a cohort, images of shape (N, C, …), uint8 or float, or a pair with such images.
        task: turns outputs into probabilities; default: what the cohort's card says (of multilabel
            a sigmoid of each, of detection what `models.found_boxes` takes), else a softmax.
        logits: return the model's outputs themselves (for `metrics.fit_temperature`, say).
        batch_size: images at a time; changes memory and speed, not the result.

    Returns:
        (N, K) float32 on the CPU, rows summing to 1 unless multilabel; (N, K, *size) for
        segmentation.

    Raises:
        DataError: data that are no images, or a model that returns no tensor of logits.
    """
    images = images_of(data)
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise DataError(f"batch_size must be a whole number of at least 1; got {batch_size!r}")
    known = isinstance(data, Cohort) and data.card.task != "none"
    task = task or task_for(data.card.task if known else "multiclass")
    outputs = outputs_of(model, images, batch_size=batch_size)
    return (outputs if logits else task.finish(outputs)).cpu()


@torch.no_grad()
def outputs_of(model: nn.Module, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """The model's outputs, float32, in evaluation mode, on its device, batch by batch."""
    if len(images) == 0:
        return torch.empty(0, 0)
    with undisturbed(model) as device:
        parts = (to_float(part.to(device)) for part in images.split(batch_size))
        return torch.cat([as_logits(model(part), part).float() for part in parts])


def as_logits(outputs: Any, images: Tensor) -> Tensor:
    """The model's outputs, if they are one tensor with a row an image; a `DataError` if not."""
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if isinstance(shape, str) or len(shape) < 2 or shape[0] != len(images):
        raise DataError(
            "the model must return one tensor, logits of shape (N, classes) or (N, classes, *size);"
            f" of {tuple(images.shape)} it made {shape}. Wrap it so that it returns the one output."
        )
    return outputs
