"""Temporary."""
import torch


def dice(masks, predicted, *, num_classes):
    """Dice of each structure but the background in each image, (N, K − 1)."""
    axes = list(range(1, masks.ndim))
    columns = []
    for k in range(1, num_classes):
        a, b = masks == k, predicted == k
        columns.append(2 * (a & b).sum(axes) / (a.sum(axes) + b.sum(axes)))
    return torch.stack(columns, 1)
