"""The parts of a training recipe that are formulas: schedule, average, loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.errors import DataError
from medlab.training.data import Labelled

__all__ = ["average_into", "objective", "one_cycle"]


def one_cycle(step: int, *, steps: int, peak: float, warmup: float = 0.3) -> float:
    """Learning rate of step 0 … steps − 1: up from peak/25, then down to peak/250,000, by cosines.

    Equal to `torch.optim.lr_scheduler.OneCycleLR` with its default factors. A large rate in the
    middle explores; the long descent settles.

    Source: Smith & Topin, Super-Convergence (2019), arXiv:1708.07120.
    """
    low, end = peak / 25, peak / 25e4
    top = warmup * steps - 1
    if step <= top:
        return _cosine(low, peak, step / top)
    return _cosine(peak, end, (step - top) / (steps - 1 - top))


def _cosine(start: float, stop: float, fraction: float) -> float:
    return stop + (start - stop) * (1 + math.cos(math.pi * fraction)) / 2


@torch.no_grad()
def average_into(average: nn.Module, model: nn.Module, weight: float) -> None:
    """average ← (1 − weight) · average + weight · model, for every parameter and buffer.

    The running statistics of batch normalisation are averaged like the weights they belong to;
    counters, which are integers, are copied.

    Source: Polyak & Juditsky, SIAM J. Control Optim. 30, 838 (1992); exponential form as in
    Tarvainen & Valpola, Mean teachers (2017), arXiv:1703.01780.
    """
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)


def objective(
    train: Labelled,
    *,
    outputs: int,
    label_smoothing: float,
    class_weights: str | Sequence[float] | None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss to minimise: cross-entropy, or for several labels an image binary cross-entropy.

    Args:
        train: the training set; "balanced" weights are computed from its labels.
        outputs: number of classes K.
        label_smoothing: ε: the target is 1 − ε for the true class plus ε/K for every class.
        class_weights: None, K weights, or "balanced": N / (K · N_k), so that each class counts
            alike (for several labels an image: negatives / positives weigh a positive).
    """
    weights = _weights(train, outputs, class_weights)
    if train.multilabel:

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            soft = labels * (1 - label_smoothing) + label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=weights)
    else:

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(logits, labels, weight=weights, label_smoothing=label_smoothing)

    return loss


def _weights(
    train: Labelled, outputs: int, class_weights: str | Sequence[float] | None
) -> Tensor | None:
    if class_weights is None:
        return None
    labels = train.labels
    if isinstance(class_weights, str):
        if class_weights != "balanced":
            raise DataError(
                f"class_weights must be None, 'balanced' or numbers; got {class_weights!r}"
            )
        if train.multilabel:
            positive = labels.sum(0).clamp_min(1)
            return (len(labels) - labels.sum(0)).clamp_min(1) / positive
        counts = torch.bincount(labels, minlength=outputs).float()
        present = counts > 0
        return torch.where(present, len(labels) / (present.sum() * counts.clamp_min(1)), 0.0)
    weights = torch.tensor([float(w) for w in class_weights], device=labels.device)
    if len(weights) != outputs or not (weights >= 0).all():
        raise DataError(
            f"class_weights must be {outputs} numbers of at least 0, one a class; got "
            f"{list(class_weights)}"
        )
    return weights
