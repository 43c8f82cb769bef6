"""The fields of a cohort, checked: each function returns the field as the cohort keeps it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlab.cohort.card import DataCard
from medlab.errors import DataError


def to_float(images: Tensor) -> Tensor:
    """Images as float32: uint8 0…255 becomes 0…1, any other type keeps its values."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def images_of(data: Any) -> Tensor:
    """The images of a cohort, of a pair (images, labels), or the images themselves, as a tensor.

    Raises:
        DataError: anything else, such as a DataLoader, or images without a batch axis.
    """
    # Asked for its images, a sealed cohort says how to open it.
    images = getattr(data, "images", data)
    if isinstance(images, (tuple, list)) and len(images) == 2 and isinstance(images[0], Tensor):
        images = images[0]
    if not isinstance(images, (Tensor, np.ndarray)):
        hint = "Gather a DataLoader first: torch.cat([images for images, _ in loader])."
        kind = type(data).__name__
        raise DataError(f"expected a Cohort, or images as one tensor; got {kind}. {hint}")
    images = torch.as_tensor(images)
    if images.ndim not in (4, 5):
        raise DataError(
            "images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
            f"{tuple(images.shape)}. Pass images[:, None] of (N, H, W), image[None] of one image."
        )
    return images


def checked_labels(labels: Tensor | np.ndarray, card: DataCard) -> Tensor:
    """Labels as int64 (N,), of (N,) or (N, 1); float32 (N, K) if the task is multilabel."""
    labels = torch.as_tensor(labels)
    multi = card.task == "multilabel"
    if not multi and labels.shape[1:] == (1,):
        labels = labels[:, 0]
    if labels.ndim != 1 + multi or (multi and not ((labels == 0) | (labels == 1)).all()):
        wanted = "(N, K) of 0 and 1" if multi else "(N,) class numbers"
        shape = tuple(labels.shape)
        raise DataError(f"{card.task} labels must be {wanted}; got {labels.dtype} of shape {shape}")
    if multi:
        return labels.float()
    # The classes of a segmentation card name mask values.
    return _whole(labels, "labels", () if card.task == "segmentation" else card.classes).long()


def checked_masks(masks: Tensor | np.ndarray, shape: tuple[int, ...], card: DataCard) -> Tensor:
    """Masks as uint8 of `shape` (N, *size), of that or (N, 1, *size)."""
    masks = torch.as_tensor(masks)
    if masks.ndim == len(shape) + 1 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if masks.shape != shape:
        raise DataError(f"masks must be {shape}, as the images; got {tuple(masks.shape)}")
    structures = card.classes if card.task == "segmentation" else ()
    return _whole(masks, "masks", structures, 256).byte()


def checked_boxes(boxes: Sequence[Tensor | np.ndarray]) -> list[Tensor]:
    """One float32 (M, 4) tensor an image, of boxes that are finite and have an area."""
    found = [torch.as_tensor(box, dtype=torch.float32) for box in boxes]
    found = [box if box.numel() else box.reshape(0, 4) for box in found]
    for i, box in enumerate(found):
        sound = box.ndim == 2 and box.shape[1] == 4 and box.isfinite().all()
        if not sound or not (box[:, 2:] > box[:, :2]).all():
            raise DataError(
                "boxes must be one (M, 4) tensor an image: x0, y0, x1, y1 with x1 > x0 and "
                f"y1 > y0 (x, y, x + width, y + height); image {i} has {box.tolist()}"
            )
    return found


def _whole(values: Tensor, what: str, classes: Sequence[str], most: int = 2**31) -> Tensor:
    """Values as integers, if all are class numbers, or whole numbers below `most`."""
    if not values.is_floating_point():
        values = values if values.dtype == torch.uint8 else values.long()
    top = (len(classes) or most) - 1
    if values.numel():
        low, high = (value.item() for value in values.aminmax())  # NaN if any value is
        whole = not values.is_floating_point() or bool((values == values.round()).all())
        if not (whole and low >= 0 and high <= top):
            names = f" ({', '.join(classes)})" if classes else ""
            hint = ". If 255 means the structure, pass (masks > 0)" if high == 255 else ""
            raise DataError(
                f"{what} must be whole numbers in 0…{top}{names}; got {low:g}…{high:g}{hint}"
            )
    return values
