"""How well two outlines of one structure agree, or an image with the one that it should be."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medlab.errors import DataError


def dice(masks: ArrayLike, predicted: ArrayLike, *, num_classes: int | None = None) -> Tensor:
    """Dice overlap of each structure in each image: 2 |A ∩ B| / (|A| + |B|).

    Where neither the truth nor the prediction holds the structure there is nothing to judge: NaN,
    which `nanmean` leaves out. Where one of them holds it alone, 0. So a structure that is
    missed, or one that is invented, never improves a mean. The result is float64 (N, K − 1), on the
    CPU: a row an image, a column a structure but background.

    >>> truth = [[[0, 0, 1], [0, 2, 2]]]
    >>> found = [[[0, 1, 1], [0, 0, 0]]]
    >>> dice(truth, found, num_classes=4)
    tensor([[0.6667, 0.0000,    nan]], dtype=torch.float64)

    Args:
        masks: (N, *size), pixels or voxels in whole numbers 0…K − 1; 0 is background.
        predicted: the same, or scores (N, K, *size), of which the highest is taken.
        num_classes: K, background included; that of the scores or the largest value if not given.

    Source: Dice, Ecology 26:297 (1945).
    """
    truth, found, num_classes = labelled(masks, predicted, num_classes)
    columns = []
    for k in range(1, num_classes):
        a, b = (truth == k).flatten(1), (found == k).flatten(1)
        columns.append(torch.stack([(a & b).sum(1), a.sum(1) + b.sum(1)]))
    shared, sizes = torch.stack(columns, -1).cpu().double()
    return 2 * shared / sizes  # 0 / 0 is NaN


def iou(masks: ArrayLike, predicted: ArrayLike, *, num_classes: int | None = None) -> Tensor:
    """Intersection over union of each structure in each image: |A ∩ B| / |A ∪ B|.

    Dice / (2 − Dice), so both rank predictions of one structure alike; only their means over
    structures may differ in order. Arguments, result and empty masks as for `dice`.

    Source: Jaccard, Bulletin de la Société Vaudoise des Sciences Naturelles 37:547 (1901).
    """
    overlap = dice(masks, predicted, num_classes=num_classes)
    return overlap / (2 - overlap)


def psnr(target: ArrayLike, outputs: ArrayLike, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB: 10 log₁₀(range² / mean squared error).

    >>> psnr(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.1), data_range=1)
    tensor([20.])

    Args:
        target: images (N, …) as they should be.
        outputs: the same shape and units.
        data_range: from the darkest to the brightest value that counts, > 0, in their units: one
            number for all images, such as 1400 for a CT window of that width. Doubled, it adds 6
            dB to every image, so that figures of different ranges cannot be compared.

    Returns:
        (N,) float32; infinite where nothing differs.
    """
    truth, got = (torch.as_tensor(x).float() for x in (target, outputs))
    if truth.shape != got.shape or truth.ndim < 2 or not data_range > 0:
        raise DataError(
            "psnr compares images (N, …) of one shape by a range above 0; got "
            f"{tuple(truth.shape)}, {tuple(got.shape)} and {data_range!r}"
        )
    error = (truth - got).square().flatten(1).mean(1)
    return 10 * (data_range**2 / error).log10()


def labelled(
    masks: ArrayLike, predicted: ArrayLike, num_classes: int | None
) -> tuple[Tensor, Tensor, int]:
    """Masks and prediction as whole numbers (N, *size) on one device, and K; see `dice`."""
    found = torch.as_tensor(predicted).detach()
    truth = torch.as_tensor(masks, device=found.device)
    if found.ndim == truth.ndim + 1 and found.shape[:1] + found.shape[2:] == truth.shape:
        given, num_classes = found.shape[1], num_classes or found.shape[1]
        if given != num_classes or given < 2 or found.isnan().any():
            raise DataError(
                f"scores of {given} classes, background included, for {num_classes}; they must "
                "agree and hold no NaN; of one channel pass (scores[:, 0] > 0.5)"
            )
        found = found.argmax(1)
    if found.shape != truth.shape or truth.ndim < 2 or not truth.numel():
        raise DataError(
            f"masks {tuple(truth.shape)} do not fit prediction {tuple(found.shape)}: pass masks "
            "(N, *size), and a prediction (N, *size) or scores (N, K, *size)"
        )
    highest = 0
    for name, mask in (("masks", truth), ("predicted", found)):
        low, high = (mask.int() if mask.dtype == torch.bool else mask).aminmax()
        if low < 0 or (mask.is_floating_point() and (mask % 1 != 0).any()):
            raise DataError(
                f"{name} must be whole numbers 0, 1, 2 …, got {low:g} to {high:g}: of "
                f"probabilities pass ({name} > 0.5)"
            )
        highest = max(highest, int(high))
    num_classes = max(2, highest + 1) if num_classes is None else num_classes
    if highest >= num_classes:
        raise DataError(f"a mask holds {highest}, and num_classes={num_classes} ends before it")
    return truth, found, num_classes
