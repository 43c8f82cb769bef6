"""Probabilities from a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.cohort import Cohort, images_of, to_float
from medlab.errors import DataError
from medlab.models import undisturbed
from medlab.training.tasks import Task, task_for


def predict(
    model: nn.Module,
    data: Cohort | Tensor | tuple[Tensor, Tensor],
    *,
    task: str | Task | None = None,
    logits: bool = False,
    tta: bool = False,
    batch_size: int = 256,
    device: str | torch.device | None = None,
) -> Tensor:
    """Probability of each class, for each image or each of its pixels.

    The model is put in evaluation mode and left in the mode, and on the device, it had.

    >>> model = medlab.models.SmallCNN(in_channels=1, num_classes=2)
    >>> predict(model, torch.rand(5, 1, 28, 28)).sum(1)
    tensor([1., 1., 1., 1., 1.])

    Args:
        model: maps (N, C, …) float32 images to (N, K) logits, or (N, K, *size) for segmentation.
        data: a cohort, images of shape (N, C, …), uint8 or float, or a pair with such images.
        task: "multilabel" for a sigmoid of each output instead of a softmax over them, or any other
            task; default: what the cohort's card says, and a softmax for a tensor.
        logits: return the model's outputs themselves (for `metrics.fit_temperature`, say).
        tta: test-time augmentation: the mean probability over the image and its shifts by one
            pixel along each axis: 5 times the work for images, 7 times for volumes. For one label
            an image only.
        batch_size: images at a time; changes memory and speed, not the result.
        device: where to compute; default: where the model is.

    Returns:
        (N, K) float32 on the CPU, rows summing to 1 unless multilabel; (N, K, *size) for
        segmentation.

    Raises:
        DataError: data that are no images, or a model that returns no tensor of logits.
    """
    images = images_of(data)
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise DataError(f"batch_size must be a whole number of at least 1; got {batch_size!r}")
    if task is None:
        kind = data.card.task if isinstance(data, Cohort) else "multiclass"
        task = task_for("multilabel" if kind == "multilabel" else "multiclass")
    elif isinstance(task, str):
        task = task_for(task)
    shifts = [(0,) * (images.ndim - 2)]
    if tta:
        shifts += [shift for axis in range(images.ndim - 2) for shift in _steps(axis, images.ndim)]
    total = 0
    for shift in shifts:
        outputs = outputs_of(model, images, batch_size=batch_size, device=device, shift=shift)
        if tta and outputs.ndim != 2:
            raise DataError("tta averages one answer an image; pass tta=False for segmentation")
        total = total + (outputs if logits else task.finish(outputs))
    return (total / len(shifts)).cpu()


@torch.no_grad()
def outputs_of(
    model: nn.Module,
    images: Tensor,
    *,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    shift: tuple[int, ...] = (),
) -> Tensor:
    """The model's outputs, float32, in evaluation mode, batch by batch.

    Args:
        model: its mode and its device are restored.
        images: (N, C, …) of any type that `to_float` takes.
        batch_size: images at a time.
        device: where to compute; default: where the model is.
        shift: pixels along each image axis by which the picture moves.

    Raises:
        DataError: a model that returns something else than one tensor with a row an image.
    """
    if len(images) == 0:
        return torch.empty(0, 0)
    with undisturbed(model) as home:
        device = home if device is None else torch.device(device)
        model.to(device)
        try:
            return torch.cat(
                [
                    as_tensor(model(_shifted(to_float(part.to(device)), shift)), part).float()
                    for part in images.split(batch_size)
                ]
            )
        finally:
            model.to(home)


def as_tensor(outputs: Any, images: Tensor) -> Tensor:
    """The model's outputs, if they are one tensor with a row an image.

    Raises:
        DataError: a tuple or dictionary, as models with auxiliary outputs give, or other lengths.
    """
    if not isinstance(outputs, Tensor):
        raise DataError(
            f"the model must return one tensor of logits; it returned {type(outputs).__name__}. "
            "Wrap a model that gives several outputs in a module that returns the one to be used "
            "(aux_logits=False, or outputs['out'])."
        )
    if outputs.ndim < 2 or len(outputs) != len(images):
        raise DataError(
            f"the model must return logits of shape (N, classes), or (N, classes, *size); it "
            f"returned {tuple(outputs.shape)} for images of shape {tuple(images.shape)}"
        )
    return outputs


def _steps(axis: int, ndim: int) -> Iterator[tuple[int, ...]]:
    """One pixel forwards and one backwards along an image axis."""
    for step in (1, -1):
        yield tuple(step * (k == axis) for k in range(ndim - 2))


def _shifted(images: Tensor, shift: tuple[int, ...]) -> Tensor:
    """Move the picture by at most one pixel and repeat the edge."""
    if not any(shift):
        return images
    padded = F.pad(images, [1] * (2 * len(shift)), mode="replicate")
    window = (slice(1 - s, 1 - s + size) for s, size in zip(shift, images.shape[2:], strict=True))
    return padded[:, :, *window]
