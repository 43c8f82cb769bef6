"""Exercises of notebook 31: fewer bits, fewer weights, a teacher, and whose decision changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor, nn

from medlab.exercises import Verdict, Wrong, call, exercise, near, number
from medlab.models import SmallCNN

STEPS = 255  # between the lowest and the highest number of eight bits


def material() -> SimpleNamespace:
    """Finished answers of the exercises, so that nobody needs their own for what follows."""
    answers = {
        "there_and_back": there_and_back,
        "per_channel": per_channel,
        "masks": masks,
        "finetune": finetune,
        "distillation_loss": distillation_loss,
        "changed": changed,
        "cut": cut,
        "slim": slim,
    }
    return SimpleNamespace(**answers)


# --- 1: eight bits and back ---


def there_and_back(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Whole numbers 0 … 255 for `x`, on a grid from `low` to `high` that holds 0; and the way back.

    The scale is (high − low) / 255, the zero point the whole number that stands for 0. What lies
    outside the grid gets its nearest end.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / STEPS
    zero = round(-low / scale)
    q = ((x / scale).round() + zero).clamp(0, STEPS)
    return q, scale * (q - zero)


# --- 2: a scale for each output channel ---


def per_channel(weight: Tensor) -> Tensor:
    """(O, I, k, k) weights after rounding to −127 … 127 of a scale for each output channel."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    return (weight / scale).round() * scale


# --- 3: which weights stay ---


def masks(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """True where a weight stays: this share, the smallest of all tensors together, is dropped."""
    limit = torch.cat([w.abs().flatten() for w in weights]).quantile(share)
    return [w.abs() > limit for w in weights]


# --- 4: training what is left ---


def finetune(
    net: nn.Module,
    convs: Sequence[nn.Conv2d],
    keep: Sequence[Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> None:
    """A step of AdamW a batch, after each of which the dropped weights are 0 again."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    net.train()
    for images, labels in batches:
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
        with torch.no_grad():
            for conv, kept in zip(convs, keep, strict=True):
                conv.weight *= kept
    return net


# --- 5: learning from a teacher ---


def distillation_loss(
    logits: Tensor, teacher: Tensor, labels: Tensor, T: float, share: float
) -> Tensor:
    """Cross-entropy with the labels and, at temperature T and times T², with the teacher."""
    soft = F.cross_entropy(logits / T, (teacher / T).softmax(1))
    hard = F.cross_entropy(logits, labels)
    return share * T**2 * soft + (1 - share) * hard


# --- 6: whose decision changes ---


def changed(before: ndarray, after: ndarray, patients: ndarray) -> int:
    """How many patients have another answer; a patient is called if any of her images is."""
    found = 0
    for one in np.unique(patients):
        hers = patients == one
        found += bool(before[hers].any() != after[hers].any())
    return found


# --- 7: channels cut out ---


def cut(
    first: nn.Conv2d, norm: nn.BatchNorm2d, second: nn.Conv2d, keep: Any
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
    """Smaller layers: of what `first` makes, only the channels `keep` are left, in that order."""
    a = nn.Conv2d(first.in_channels, len(keep), 3, padding=1, bias=False)
    b = nn.BatchNorm2d(len(keep))
    c = nn.Conv2d(len(keep), second.out_channels, 3, padding=1, bias=False)
    with torch.no_grad():
        a.weight.copy_(first.weight[keep])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(b, name).copy_(getattr(norm, name)[keep])
        c.weight.copy_(second.weight[:, keep])
    return a, b, c


def slim(net: SmallCNN, width: int) -> SmallCNN:
    """A `SmallCNN` of this width made of the filters of `net` whose weights are largest in sum."""
    small = SmallCNN(**(net.arguments | {"width": width}))
    ours, theirs = list(net.features), list(small.features)
    keep = torch.arange(net.arguments["in_channels"])
    with torch.no_grad():
        theirs[0].load_state_dict(ours[0].state_dict())
        for k, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if isinstance(one, nn.Conv2d):
                sums = one.weight.abs().sum((1, 2, 3))
                kept = sums.topk(other.out_channels).indices.sort().values
                other.weight.copy_(one.weight[kept][:, keep])
                for name in ("weight", "bias", "running_mean", "running_var"):
                    getattr(theirs[k + 1], name).copy_(getattr(ours[k + 1], name)[kept])
                keep = kept
        small.classifier.weight.copy_(net.classifier.weight[:, keep])
        small.classifier.bias.copy_(net.classifier.bias)
    return small


@exercise("smaller.1", {"right": "r", "a": "a", "b": "b"})
def _check1(answer) -> Verdict:
    call(answer)
    return "right"


@exercise("smaller.2", {"right": "r", "a": "a", "b": "b"})
def _check2(answer) -> Verdict:
    call(answer)
    return "right"


@exercise("smaller.3", {"right": "r", "a": "a", "b": "b"})
def _check3(answer) -> Verdict:
    call(answer)
    return "right"


@exercise("smaller.4", {"right": "r", "a": "a", "b": "b"})
def _check4(answer) -> Verdict:
    call(answer)
    return "right"


@exercise("smaller.5", {"right": "r", "a": "a", "b": "b"})
def _check5(answer) -> Verdict:
    call(answer)
    return "right"


@exercise("smaller.6", {"right": "r", "a": "a", "b": "b"})
def _check6(answer) -> Verdict:
    call(answer)
    return "right"


@exercise("smaller.7", {"right": "r", "a": "a", "b": "b"})
def _check7(answer) -> Verdict:
    call(answer)
    return "right"
