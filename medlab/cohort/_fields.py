"""The fields of a cohort, checked: each function returns the field as the cohort keeps it."""

from __future__ import annotations

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
    """The images of a cohort, of a pair (images, labels), or the images themselves.

    Raises:
        DataError: anything else, such as a DataLoader, or images without a batch axis.
    """
    # Asked for its images, a sealed cohort says how to open it.
    images = getattr(data, "images", data)
    if isinstance(images, (tuple, list)) and len(images) == 2 and isinstance(images[0], Tensor):
        images = images[0]
    if not isinstance(images, (Tensor, np.ndarray)):
        raise DataError(
            "expected a Cohort, or images as one tensor of shape (N, C, H, W), or (N, C, D, H, W) "
            f"for volumes; got {type(data).__name__}. Gather the batches of a DataLoader first: "
            "torch.cat([images for images, _ in loader])."
        )
    images = torch.as_tensor(images)
    if images.ndim not in (4, 5):
        raise DataError(
            "images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
            f"{tuple(images.shape)}. For one image pass image[None]."
        )
    return images


def checked_labels(labels: Tensor | np.ndarray, card: DataCard) -> Tensor:
    """Labels as int64 (N,), or float32 (N, K) if multilabel; (N, 1) class numbers become (N,).

    Raises:
        DataError: another shape, fractions, NaN, or numbers that the card has no class for.
    """
    labels = torch.as_tensor(labels)
    if card.task == "multilabel":
        if labels.ndim != 2 or not ((labels == 0) | (labels == 1)).all():
            raise DataError(
                f"multilabel labels must be (N, K) of 0 and 1; got shape {tuple(labels.shape)}"
            )
        return labels.float()
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"labels of a {card.task} task must be (N,) class numbers; got {tuple(labels.shape)}"
        )
    labels = _whole(labels, "labels must be whole class numbers 0, 1, 2 …").long()
    # The classes of a segmentation card name mask values.
    known = 0 if card.task == "segmentation" else len(card.classes)
    if len(labels) and (labels.min() < 0 or (known and labels.max() >= known)):
        span = f"0…{known - 1} ({', '.join(card.classes)})" if known else "0, 1, 2 …"
        raise DataError(f"labels must lie in {span}; got {int(labels.min())}…{int(labels.max())}")
    return labels


def checked_masks(masks: Tensor | np.ndarray, shape: tuple[int, ...], card: DataCard) -> Tensor:
    """Masks of `shape` (N, *size) in whole numbers, bool and whole floats as uint8 if they fit.

    Raises:
        DataError: another shape, fractions, NaN, negative values, or, in a segmentation cohort,
            values that the card has no structure for.
    """
    masks = torch.as_tensor(masks)
    if masks.ndim == len(shape) + 1 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if tuple(masks.shape) != shape:
        raise DataError(f"masks must be {shape}, as the images; got {tuple(masks.shape)}")
    masks = _whole(masks, "masks must be whole numbers, 0 background and k the k-th structure")
    named = len(card.classes) if card.task == "segmentation" else 0
    if masks.numel() and (named or masks.dtype != torch.uint8):
        low, high = (int(v) for v in masks.aminmax())
        if low < 0 or (named and high >= named):
            span = f"0…{named - 1} ({', '.join(card.classes)})" if named else "0, 1, 2 …"
            hint = " If 255 means the structure, pass (masks > 0)." if high == 255 else ""
            raise DataError(f"mask values must lie in {span}; got {low}…{high}.{hint}")
        if high <= 255:
            masks = masks.to(torch.uint8)
    return masks


def checked_boxes(boxes: Sequence[Tensor | np.ndarray]) -> list[Tensor]:
    """One float32 (M, 4) tensor an image.

    Raises:
        DataError: another shape, values that are not finite, or boxes without width or height.
    """
    found = []
    for i, box in enumerate(boxes):
        box = torch.as_tensor(box, dtype=torch.float32)
        if box.numel() == 0:
            box = box.reshape(0, 4)
        if box.ndim != 2 or box.shape[1] != 4:
            raise DataError(
                f"boxes must be one (M, 4) tensor an image, (0, 4) where there is none; got "
                f"{tuple(box.shape)} for image {i}"
            )
        bad = ~((box[:, 2:] > box[:, :2]).all(1) & box.isfinite().all(1))
        if bad.any():
            raise DataError(
                f"a box is x0, y0, x1, y1 with x1 > x0 and y1 > y0; image {i} has "
                f"{[round(v, 2) for v in box[bad][0].tolist()]}. Of x, y, width, height make "
                "x, y, x + width, y + height."
            )
        found.append(box)
    return found


def _whole(values: Tensor, wanted: str) -> Tensor:
    """Values as integers, if all of them are whole."""
    if not values.is_floating_point():
        return values if values.dtype == torch.uint8 else values.long()
    bad = values != values.round()  # NaN too
    if bad.any() or values.isinf().any():
        strange = values[bad | values.isinf()][0].item()
        raise DataError(f"{wanted}; got {strange:g}")
    return values.long()
