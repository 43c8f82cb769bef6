"""Temperature scaling: one number that makes a network as sure as it should be."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from medlab.errors import DataError
from medlab.metrics._arguments import UndefinedMetric, pairs


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """The temperature T for which softmax(logits / T) has the lowest cross-entropy.

    With β = 1/T the cross-entropy, the mean of logsumexp(β z) − β z_y, is convex; its slope, the
    mean of E_p[z] − z_y, rises, and T is where it crosses zero. Every image keeps the order of its
    classes; with two classes the images keep their order too, so the AUC does not change.

    Args:
        labels: (N,) classes, of validation images: the images that T is fitted on look better
            calibrated than others will.
        logits: (N, K) raw outputs of the network before softmax, or (N,) or (N, 1) before a
            sigmoid. Not probabilities; of those, pass log p, or log(p / (1 − p)) of two classes.

    Returns:
        T > 0: above 1 if the network was too sure, below 1 if it was not sure enough.

    Raises:
        UndefinedMetric: no T is best: every image is right (T → 0), or the logits do no better
            than none at all (T → ∞).
        DataError: logits that are not finite, or labels that do not fit them.

    Source: Guo et al., ICML (2017), arXiv:1706.04599.
    """
    y, z = _columns(labels, logits)
    true = z[np.arange(len(y)), y]

    def slope(beta: float) -> float:
        p = np.exp(beta * (z - z.max(1, keepdims=True)))
        return float(((p * z).sum(1) / p.sum(1) - true).mean())

    spread = np.ptp(z, axis=1).max()
    if spread > 0 and (true == z.max(1)).all():
        raise UndefinedMetric(
            f"all {len(y)} images are called right, so the sharper the better, without end: take "
            "more or harder validation images"
        )
    if spread == 0 or slope(0) >= 0:
        raise UndefinedMetric(
            "these logits do no better than none, and the best temperature is infinite: are labels "
            "and logits in the same order, and the classes in the network's?"
        )
    from scipy.optimize import brentq

    # The slope is negative at 0 and positive from some β on: find it, from the scale of the logits.
    high = 1 / spread
    while slope(high) < 0:
        high *= 2
    return 1 / brentq(slope, 0, high, xtol=1e-15 * high, rtol=1e-14)


def _columns(labels: ArrayLike, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    z = logits.detach().cpu().double() if torch.is_tensor(logits) else np.asarray(logits, float)
    z = np.asarray(z)
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim == 2 and z.shape[1] == 1:
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    kind, y, _ = pairs(labels, z)
    if kind == "multilabel":
        raise DataError("fit_temperature takes one finding: labels[:, k] and logits[:, k]")
    if not np.isfinite(z).all():
        raise DataError("logits must be finite: clip probabilities before taking their logarithm")
    return y, z
