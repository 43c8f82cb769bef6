"""Losses that PyTorch does not have, for logits and whole-number targets."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

__all__ = ["cross_entropy_dice", "soft_dice"]


def soft_dice(logits: Tensor, masks: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 − the soft Dice overlap, averaged over the structures and not over the background.

    With p the softmax of the logits and g the one-hot masks, both summed over all pixels of the
    batch, Dice_k = (2 Σ p_k g_k + s) / (Σ p_k + Σ g_k + s). Sums over the batch rather than over
    one image keep the loss steady where a structure is missing from some of the images.

    Args:
        logits: (N, K, *size), K ≥ 2, class 0 being the background.
        masks: int64 (N, *size), 0 … K − 1.
        smooth: s, in pixels: what a structure of no pixels is divided by.

    Returns:
        A scalar, 0 (perfect) … 1.

    Source: Milletari et al., V-Net (2016), arXiv:1606.04797, eq. 3, without the squares.
    """
    p = logits.softmax(1)
    truth = F.one_hot(masks, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    axes = [0, *range(2, p.ndim)]
    both, either = (p * truth).sum(axes), p.sum(axes) + truth.sum(axes)
    return 1 - ((2 * both + smooth) / (either + smooth))[1:].mean()


def cross_entropy_dice(weight: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """The sum of cross-entropy, which counts pixels, and soft Dice, which counts structures.

    Cross-entropy has useful gradients from the first step but is content with the background; Dice
    minds the smallest structure and is silent where it does not overlap at all.

    Args:
        weight: (K,) weights of the classes in the cross-entropy.

    Returns:
        A function of logits (N, K, *size) and int64 masks (N, *size), to a scalar.

    Source: Isensee et al., nnU-Net (2021), doi:10.1038/s41592-020-01008-z.
    """

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        return F.cross_entropy(logits, masks, weight=weight) + soft_dice(logits, masks)

    return loss
