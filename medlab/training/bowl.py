"""Gradient descent where all is known: on a bowl, the simplest loss there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np
from torch import Tensor

from medlab.errors import DataError


def descent_path(
    start: Sequence[float] | np.ndarray | Tensor,
    *,
    lr: float,
    momentum: float = 0.0,
    curvatures: Sequence[float] | np.ndarray | Tensor = (1.0, 25.0),
    steps: int = 40,
) -> np.ndarray:
    """Gradient descent with momentum on L(θ) = ½ Σ λ_i θ_i².

    v ← μ v + λ ⊙ θ, then θ ← θ − η v, from v = 0, as `torch.optim.SGD` has it. It ends at 0 if
    η < 2 (1 + μ) / λ_max and runs away beyond.

    Args:
        start: θ at step 0, (D,).
        lr: η, ≥ 0.
        momentum: μ, 0 to below 1.
        curvatures: λ, (D,), > 0.
        steps: ≥ 0.

    Returns:
        θ at steps 0 … steps, float64 (steps + 1, D).

    Raises:
        DataError: an option out of its range, or as many curvatures as there are not parameters.

    Source: Polyak, Some methods of speeding up the convergence of iteration methods (1964),
    doi:10.1016/0041-5553(64)90137-5.
    """
    theta, steepness = np.asarray(start, dtype=float), np.asarray(curvatures, dtype=float)
    if theta.ndim != 1 or theta.shape != steepness.shape:
        raise DataError(
            f"start and curvatures must be two lists of one length, got shapes {theta.shape} and "
            f"{steepness.shape}"
        )
    if not np.isfinite(theta).all():
        raise DataError(f"start must be finite numbers; got {start}")
    if not ((steepness > 0) & (steepness < math.inf)).all():
        raise DataError(
            f"curvatures must be > 0, so that there is a lowest point, and finite; got {curvatures}"
        )
    whole = isinstance(steps, Integral) and steps >= 0
    if not 0 <= lr < math.inf or not 0 <= momentum < 1 or not whole:
        raise DataError(
            "lr must be ≥ 0 and finite, momentum 0 to below 1 and steps ≥ 0 and whole; got "
            f"{lr}, {momentum}, {steps!r}"
        )
    velocity, path = np.zeros_like(theta), [theta]
    for _ in range(steps):
        velocity = momentum * velocity + steepness * theta
        theta = theta - lr * velocity
        path.append(theta)
    return np.stack(path)
