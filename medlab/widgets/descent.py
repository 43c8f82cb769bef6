"""Gradient descent on a bowl: what learning rate and momentum do to the path."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np

from medlab import plotting
from medlab.errors import DataError
from medlab.widgets.panel import Panel, array, slider

__all__ = ["descent", "descent_path"]

# All that a reader of the page sees, for translators.
WORDS = {
    "title": "learning rate and momentum",
    "lr": "learning rate",
    "momentum": "momentum",
    "alt": "Left, a path downhill across the contours of a bowl {0:g} times as curved along "
    "θ₂ as along θ₁; right, its loss at each step, on a logarithmic axis. Learning rate {1:.3f}, "
    "momentum {2:.2f}.",
    "x": "θ₁",
    "y": "θ₂",
    "step": "step",
    "ratio": "loss / first loss",
    "start": "start",
    "end": "lowest point",
    "share": "learning rate: {0:.2f} of the limit 2(1 + μ)/λmax = {1:.3f}",
    "after": "after {0} steps: {1:.1e} of the first loss",
    "reached": "below one millionth from step {0} on",
    "missed": "not below one millionth within {0} steps",
}
LOWEST, HIGHEST, GOAL = -9, 3, -6  # decades of the loss shown, and the one to reach


def descent(
    *,
    curvatures: tuple[float, float] = (1.0, 25.0),
    lr: float = 0.05,
    momentum: float = 0.0,
    steps: int = 40,
    start: tuple[float, float] = (-1.8, 0.6),
    alt: str | None = None,
) -> Panel:
    """Slide learning rate and momentum, and see the path and how the loss falls.

    Args:
        curvatures: λ₁ and λ₂ of the loss L = ½ (λ₁ θ₁² + λ₂ θ₂²), both > 0.
        lr: where the slider starts; it reaches a tenth beyond the limit at momentum 1.
        momentum: where the other slider starts, 0 to 0.99.
        steps: of the path, 1 to 200.
        start: where it begins.
        alt: what the static figure shows; made from the settings if not given.

    Raises:
        DataError: as for `descent_path`, or too many steps.
    """
    if not 1 <= steps <= 200:  # beyond, a runaway path leaves the range of floating point
        raise DataError(f"steps must be 1 to 200; got {steps}")
    described = alt or _alt(curvatures, lr, momentum)
    options = {"curvatures": curvatures, "steps": steps}
    _static(descent_path(start, lr=lr, momentum=momentum, **options), curvatures, described)

    def draw(lr, momentum) -> str:
        path = descent_path(start, lr=lr, momentum=momentum, **options)
        return _picture(path, curvatures, _alt(curvatures, lr, momentum)) + _status(
            path, curvatures, lr, momentum
        )

    furthest = 1.1 * 4 / max(curvatures)
    step = 10.0 ** math.floor(math.log10(furthest / 50))
    highest = step * math.ceil(furthest / step)
    controls = {
        "lr": slider(WORDS["lr"], lr, 0.0, highest, step=step, form=".3f"),
        "momentum": slider(WORDS["momentum"], momentum, 0.0, 0.99, step=0.01),
    }
    return Panel(WORDS["title"], controls, draw)


def descent_path(
    start,
    *,
    lr: float,
    momentum: float = 0.0,
    curvatures: Sequence[float] = (1.0, 25.0),
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
    theta, steepness = (array(values).astype(float) for values in (start, curvatures))
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


def _decades(path: np.ndarray, curvatures) -> np.ndarray:
    """log10 of the loss at each step, relative to the first; −∞ at the lowest point."""
    losses = path**2 @ np.asarray(curvatures, float)
    with np.errstate(divide="ignore"):
        return np.log10(losses / losses[0]) if losses[0] > 0 else np.full(len(path), -np.inf)


def _alt(curvatures, lr: float, momentum: float) -> str:
    return WORDS["alt"].format(curvatures[1] / curvatures[0], lr, momentum)


def _levels(path: np.ndarray, curvatures) -> np.ndarray:
    first = path[0] ** 2 @ np.asarray(curvatures, float) / 2
    return (first or 1.0) * 4.0 ** np.arange(-5, 2)


def _extent(path: np.ndarray) -> tuple[float, float]:
    """Half width and half height of the picture: the start lies well inside."""
    half = 1.15 * max(abs(path[0, 0]), 2 * abs(path[0, 1]), 1e-9)
    return half, half / 2


def _static(path: np.ndarray, curvatures, alt: str) -> None:
    wide, tall = _extent(path)
    x, y = np.meshgrid(np.linspace(-wide, wide, 161), np.linspace(-tall, tall, 81))
    loss = (curvatures[0] * x**2 + curvatures[1] * y**2) / 2
    fig, (left, right) = plotting.subplots(1, 2, size=(9.5, 2.9), width_ratios=(1.5, 1))
    left.contour(x, y, loss, levels=_levels(path, curvatures), colors="grey", linewidths=0.8)
    left.plot(*path.T, "o-", color=plotting.COLOURS[0], markersize=3.5, linewidth=1.2)
    left.plot(*path[0], "s", color=plotting.COLOURS[1], label=WORDS["start"])
    left.plot(0, 0, "+", color="black", markersize=10, label=WORDS["end"])
    left.set(xlim=(-wide, wide), ylim=(-tall, tall), xlabel=WORDS["x"], ylabel=WORDS["y"])
    left.legend(fontsize=9, loc="upper right")
    right.plot(10.0 ** np.clip(_decades(path, curvatures), LOWEST, HIGHEST))
    right.axhline(10.0**GOAL, color="black", linestyle="--", linewidth=1)
    right.set(yscale="log", ylim=(10.0**LOWEST, 10.0**HIGHEST))
    right.set(xlabel=WORDS["step"], ylabel=WORDS["ratio"])
    plotting.show(fig, alt=alt)


def _picture(path: np.ndarray, curvatures, alt: str) -> str:
    """Contours, path and loss as SVG, which is redrawn a hundred times faster than a figure."""
    w, h, gap, w2 = 360, 180, 60, 220
    wide, tall = _extent(path)
    # Beyond the picture a runaway path is cut short: browsers choke on coordinates of 10²⁰.
    points = np.clip(path / (wide, tall), -50, 50) * (w / 2, -h / 2) + (w / 2, h / 2)
    half = np.sqrt(2 * _levels(path, curvatures)[:, None] / np.asarray(curvatures, float))
    rings = "".join(
        f'<ellipse cx="{w / 2}" cy="{h / 2}" rx="{rx:.1f}" ry="{ry:.1f}"/>'
        for rx, ry in half / (wide, tall) * (w / 2, h / 2)
    )
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    blue, red = plotting.COLOURS[:2]
    frame = 'fill="none" stroke="currentColor"'
    left = (
        f'<svg role="presentation" width="{w}" height="{h}" overflow="hidden">'
        f'<g fill="none" stroke="grey" stroke-width="0.8">{rings}</g>'
        f'<polyline points="{_points(points)}" fill="none" stroke="{blue}" stroke-width="1.2"/>'
        f'<g fill="{blue}">{dots}</g>'
        f'<rect x="{points[0, 0] - 4:.1f}" y="{points[0, 1] - 4:.1f}" width="8" height="8" '
        f'fill="{red}"/><path d="M{w / 2 - 6} {h / 2}h12M{w / 2} {h / 2 - 6}v12" {frame}/>'
        f'<rect width="{w}" height="{h}" {frame}/></svg>'
    )

    def height(decade):
        return h * (HIGHEST - decade) / (HIGHEST - LOWEST)

    decades = np.clip(_decades(path, curvatures), LOWEST, HIGHEST)
    across = np.linspace(0, w2, len(path)) if len(path) > 1 else np.zeros(1)
    curve = np.stack([across, height(decades)], axis=1)
    marks = "".join(
        f'<text x="{w + gap - 6}" y="{height(d) + 4:.0f}" text-anchor="end" font-size="11" '
        f'fill="currentColor">10<tspan dy="-4" font-size="9">{d}</tspan></text>'
        for d in (0, -3, GOAL, LOWEST)
    ).replace(">-", ">−")
    right = (
        f'<svg role="presentation" x="{w + gap}" width="{w2}" height="{h}" overflow="hidden">'
        f'<polyline points="{_points(curve)}" fill="none" stroke="{blue}" stroke-width="2"/>'
        f'<path d="M0 {height(GOAL):.1f}h{w2}" {frame} stroke-dasharray="5 3"/>'
        f'<rect width="{w2}" height="{h}" {frame}/></svg>'
    )
    below = (
        f'<g font-size="12" fill="currentColor"><text x="{w / 2}" y="{h + 18}" '
        f'text-anchor="middle">{WORDS["x"]} →, {WORDS["y"]} ↑</text><text '
        f'x="{w + gap + w2 / 2}" y="{h + 18}" text-anchor="middle">{WORDS["ratio"]}, '
        f"{WORDS['step']} 0 … {len(path) - 1}</text></g>"
    )
    return (
        f'<svg role="img" aria-label="{html.escape(alt)}" width="{w + gap + w2 + 2}" '
        f'height="{h + 26}">{left}{right}{marks}{below}</svg>'
    )


def _points(points: np.ndarray) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _status(path: np.ndarray, curvatures, lr: float, momentum: float) -> str:
    limit = 2 * (1 + momentum) / max(curvatures)
    decades, steps = _decades(path, curvatures), len(path) - 1
    above = np.flatnonzero(decades >= GOAL)
    first = above[-1] + 1 if len(above) else 0
    last = WORDS["missed"].format(steps) if first > steps else WORDS["reached"].format(first)
    lines = (
        WORDS["share"].format(lr / limit, limit),
        WORDS["after"].format(steps, 10.0 ** min(decades[-1], 300)),
        last,
    )
    rows = "".join(f"<div>{line}</div>" for line in lines)
    return f'<div role="status" aria-live="polite">{rows}</div>'
