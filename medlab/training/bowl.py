"""Gradient descent where all is known: on a bowl, the simplest loss there is."""

import numpy as np
from numpy.typing import ArrayLike

from medlab.errors import DataError


def descent_path(
    start: ArrayLike,
    *,
    lr: float,
    momentum: float = 0.0,
    curvatures: ArrayLike = (1.0, 25.0),
    steps: int = 40,
) -> np.ndarray:
    """Gradient descent with momentum on L(θ) = ½ Σ λ_i θ_i²: θ at steps 0 … S, float64 (S + 1, D).

    v ← μ v + λ ⊙ θ, then θ ← θ − η v, from v = 0, as `torch.optim.SGD` has it. It ends at 0 if
    η < 2 (1 + μ) / λ_max and runs away beyond.

    Args:
        start: θ at step 0, (D,).
        lr: η, ≥ 0.
        momentum: μ, 0 to below 1.
        curvatures: λ, (D,), > 0.
        steps: S.

    Raises:
        DataError: an option out of its range.

    Source: Polyak (1964), doi:10.1016/0041-5553(64)90137-5.
    """
    theta, steepness = np.asarray(start, dtype=float), np.asarray(curvatures, dtype=float)
    bowl = theta.shape == steepness.shape and ((steepness > 0) & (steepness < np.inf)).all()
    if not bowl or not 0 <= lr < np.inf or not 0 <= momentum < 1:
        raise DataError(
            "start and curvatures must be two lists of one length, curvatures must be > 0, lr ≥ 0 "
            f"and momentum 0 to below 1; got {start!r}, {curvatures!r}, {lr} and {momentum}"
        )
    velocity, path = np.zeros_like(theta), [theta]
    for _ in range(steps):
        velocity = momentum * velocity + steepness * theta
        theta = theta - lr * velocity
        path.append(theta)
    return np.stack(path)
