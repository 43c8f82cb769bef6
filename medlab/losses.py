"""Losses that PyTorch does not have, for logits and whole-number targets."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["cross_entropy_dice", "focal", "soft_dice"]


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """1 − the soft Dice overlap, 0 (perfect) … 1, averaged over structures without background.

    With p the softmax of the logits and g the one-hot masks, both summed over all pixels of the
    batch, Dice_k = (2 Σ p_k g_k + 1) / (Σ p_k + Σ g_k + 1). Sums over the batch rather than over
    one image keep the loss steady where a structure is missing from some of the images.

    Args:
        logits: (N, K, *size), K ≥ 2, class 0 being the background.
        masks: int64 (N, *size), 0 … K − 1.

    Source: Milletari et al., V-Net (2016), arXiv:1606.04797, eq. 3, without the squares.
    """
    p = logits.softmax(1)
    truth = F.one_hot(masks, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    axes = [0, *range(2, p.ndim)]
    both, either = (p * truth).sum(axes), p.sum(axes) + truth.sum(axes)
    return 1 - ((2 * both + 1) / (either + 1))[1:].mean()


def cross_entropy_dice(logits: Tensor, masks: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """The sum of cross-entropy, which counts pixels, and `soft_dice`, which counts structures.

    Cross-entropy has useful gradients from the first step but is content with the background; Dice
    minds the smallest structure and is silent where it does not overlap at all. `weight`: (K,), of
    the classes in the cross-entropy.

    Source: Isensee et al., nnU-Net (2021), doi:10.1038/s41592-020-01008-z.
    """
    return F.cross_entropy(logits, masks, weight=weight) + soft_dice(logits, masks)


def focal(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Binary cross-entropy in which what is already right hardly counts: −(1 − p_t)^γ log p_t.

    p_t is the probability given to what is true: p = sigmoid(logit) where the target is 1, 1 − p
    where it is 0. Background that is recognised at p_t = 0.9 counts a
    hundredth at γ = 2, so that thousands of such places do not outvote the few that hold something.

    Args:
        logits: any shape.
        target: 0 or 1, the same shape, floating point.
        gamma: ≥ 0; 0 is cross-entropy.

    Returns:
        The loss of each element: its sum is usually divided by the number of positives.

    Source: Lin et al., Focal loss (2017), arXiv:1708.02002, eq. 4.
    """
    p = logits.sigmoid()
    wrong = p + target - 2 * p * target  # 1 − p_t
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * wrong**gamma
