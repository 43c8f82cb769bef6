"""Checks of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near, number
from medlab.training import descent_path

MESSAGES = {
    "training.1": {
        "right": "predicted minus true, divided by the number of images, and no overflow at a "
        "logit of 1000. Every network of this course learns from this one line.",
        "sign": "you returned true minus predicted. That is the direction downhill; the gradient "
        "points uphill.",
        "sum": "you left out the division by the number of images: the loss is their mean.",
        "all entries": "you divided by the number of entries, N·K. The mean runs over images only.",
        "probabilities": "you returned the probabilities. Take 1 off in the column of the true "
        "class.",
        "logits": "you subtracted the true class from the logits. Turn them into probabilities "
        "first.",
        "log": "you took log-probabilities. The logarithm is gone after differentiating: it is "
        "p − y, not log p − y.",
        "wrong axis": "you took the softmax over the images. It runs over the classes of one "
        "image, dim=1.",
        "loss": "you returned one number; I asked for the gradient, which has the shape of the "
        "logits, {want}.",
        "shape": "you returned shape {got}. A gradient has the shape of what it belongs to: "
        "{want}.",
        "overflow": "right for small logits; at a logit of 1000 I got nan or inf. Subtract the "
        "largest logit of each image before exp, or call softmax, which does.",
        "other": "for logits {logits} and labels {labels} I expected {expected} and got {got}.",
    },
    "training.2": {
        "right": "2 over the largest eigenvalue: the steepest direction alone decides. For a "
        "network it changes as it learns, which is why we will measure it.",
        "one": "you returned 1/λ_max. There the steepest direction is solved in one step; up to "
        "twice that rate it still shrinks, from side to side.",
        "smallest": "you used the smallest eigenvalue. The flattest direction bears any step; the "
        "steepest one breaks first.",
        "eigenvalue": "you returned the largest eigenvalue, not the rate: take 2 divided by it.",
        "inverse": "you divided the largest eigenvalue by 2: it is the other way round. The more "
        "curved, the smaller the rate.",
        "fastest": "2/(λ_max + λ_min) is the rate with the fastest descent. It is below the "
        "largest that still descends.",
        "diagonal": "you read the curvatures off the diagonal. With a slanted valley the steepest "
        "direction lies between the axes: take eigenvalues.",
        "trace": "you used the trace, the sum of all curvatures. One direction at a time decides.",
        "norm": "you used the norm of all entries. The steepest direction's curvature is the "
        "largest eigenvalue.",
        "other": "for a Hessian with eigenvalues {eigenvalues} I expected {expected:.4g} and got "
        "{got:.4g}.",
    },
    "training.3": {
        "right": "below one millionth for good from step {steps} on. Plain descent at its best "
        "rate needs {plain}.",
        "diverges": "it runs away: η = {lr:g} lies beyond the limit 2(1 + μ)/λ_max = {limit:.3g}.",
        "plain": "without momentum no rate does it: the best, 2/(λ_max + λ_min), needs {plain} "
        "steps, and yours {steps}.",
        "creeps": "{steps} steps. It creeps along the valley floor without a swing: η·λ_min = "
        "{weak:.3g} is too small for μ = {momentum:g}. Raise the learning rate.",
        "swings": "{steps} steps. With μ = {momentum:g} the path swings to and fro, and each step "
        "keeps √μ = {root:.2f} of the swing. Lower the momentum.",
        "close": "{steps} steps, and I asked for {most}. You are near: move one slider at a time.",
        "bounces": "{steps} steps. The path jumps from wall to wall of the steep direction: "
        "η·λ_max = {strong:.3g} is too large for μ = {momentum:g}. Lower the learning rate.",
        "low momentum": "{steps} steps. With μ = {momentum:g} no learning rate does it within "
        "{most}. Raise the momentum first.",
        "range": "a learning rate is above 0, and momentum lies from 0 to below 1; I got {lr:g} "
        "and {momentum:g}.",
        "no pair": "I expected two numbers, (learning rate, momentum).",
    },
    "training.4": {
        "right": "equal to torch.optim.AdamW over five steps.",
        "no correction": "the bias correction is missing: m and v start at 0, so the first steps "
        "are wrong. Divide them by 1 − β₁ᵗ and 1 − β₂ᵗ.",
        "half correction": "you corrected only one of the two means. Divide m by 1 − β₁ᵗ and v by "
        "1 − β₂ᵗ.",
        "constant correction": "you divided by 1 − β in every step. The correction fades: divide "
        "by 1 − βᵗ, which grows towards 1.",
        "corrected state": "the first step is right and the later ones are not: you returned the "
        "corrected means. Carry the plain m and v on, and correct copies.",
        "late epsilon": "ε stands inside the root. It is added after it: √v̂ + ε, so that it has "
        "the unit of a gradient.",
        "early epsilon": "ε is added before v is corrected. First v̂, then its root, then ε.",
        "decay last": "you shrank the weights after the step, so that the step is shrunk as well. "
        "Take ηλθ from the weights as they came in.",
        "coupled": "you added λθ to the gradient. That is Adam with L2: the decay then passes "
        "through m and v. AdamW shrinks θ directly.",
        "decay without lr": "you shrank the weights by λ; AdamW shrinks them by ηλ, so that decay "
        "follows the schedule.",
        "no decay": "there is no weight decay in it.",
        "no root": "you divided by v̂. Its root has the unit of a gradient.",
        "uphill": "you went uphill: the sign of the step is wrong.",
        "count": "you counted t from 0: at t = 0 the corrections divide by zero. The t that you "
        "get starts at 1; use it as it is.",
        "betas": "β₁ and β₂ are exchanged: 0.9 belongs to m, 0.999 to v.",
        "not squared": "v is the mean of g², and yours is the mean of g.",
        "old means": "you stepped with the m and v that came in. Update them first.",
        "order": "m and v are exchanged: return θ, m and v in this order.",
        "not finite": "after step {t} θ is {got}. Do you take the root of a negative number, or "
        "divide by 0?",
        "no triple": "return three things, each of the shape of θ: θ, m and v.",
        "state": "θ is right after the first step, and m or v is not: they are the running means "
        "of g and g².",
        "other": "after step {t} I expected θ = {expected} and got {got}.",
    },
    "training.5": {
        "right": "it stops after `patience` epochs without a new lowest, and goes back to the "
        "lowest.",
        "from 0": "you counted epochs from 0; the first epoch is 1.",
        "swapped": "the order is (stopped, kept); you returned them the other way round.",
        "one more": "you waited one epoch too long: with patience {patience} and the lowest in "
        "epoch {kept}, it stops after epoch {stopped}.",
        "one less": "you stopped one epoch too early: with patience {patience} and the lowest in "
        "epoch {kept}, it stops after epoch {stopped}.",
        "last epoch": "you compared each loss with the epoch before. Compare with the lowest so "
        "far: a loss may fall again and still be no improvement.",
        "all epochs": "you kept the lowest of all epochs. What comes after the stop is never "
        "trained, so nobody knows it.",
        "no stop": "you went through all epochs and took the lowest. Training ends earlier: as "
        "soon as patience runs out.",
        "resumed": "you let it go on after it had stopped. The first time that patience runs out "
        "is the end.",
        "not reset": "you counted all epochs without a new lowest. A new lowest starts the count "
        "again.",
        "ties": "an equal loss is no improvement here: only a lower one starts the count again.",
        "never": "the losses improved to the end, or patience never ran out: it stops with the "
        "last epoch, {stopped}, and keeps epoch {kept}; got {got}.",
        "no pair": "I expected two whole numbers, (stopped, kept).",
        "other": "for losses {losses} and patience {patience} I expected (stopped, kept) = "
        "{expected} and got {got}.",
    },
    "training.6": {
        "right": "four symptoms, four causes. C is the one that nobody notices without comparing "
        "bits.",
        "moments": "{run}: without Adam's m and v the counter t starts again too, and the first "
        "step is η·sign(g) in every weight: a kick. Which run shows a kick?",
        "schedule": "{run}: a schedule that starts again repeats its warm-up, so the rate is small "
        "where it was large. Which run crawls first and is restless at the end?",
        "random": "{run}: without the state of the generators the run sees other batches and other "
        "augmentation, equally good ones. Which run is fine, and yet not the same?",
        "buffers": "{run}: the running means of batch normalisation are no parameters; they are "
        "used in evaluation mode only. Which run trains well and evaluates badly?",
        "not listed": "{run}: choose one of {items}; I got {got!r}.",
        "letters": "I expected one answer for each of A, B, C and D.",
        "no dictionary": "I expected a dictionary {{'A': …, 'B': …}}, and got {kind}.",
    },
}


def _first(got, candidates: Mapping[str, object]) -> str:
    """Key of the first candidate that the answer equals, else "other"."""
    return next((key for key, value in candidates.items() if near(got, value)), "other")


def _pair(answer) -> tuple[float, float]:
    if not isinstance(answer, (tuple, list, np.ndarray, Tensor)) or np.shape(answer) != (2,):
        raise Wrong("no pair")
    first, second = map(number, answer)
    return first, second


def _rounded(values) -> list:
    return np.round(np.asarray(values, float), 4).tolist()


@exercise("training.1", MESSAGES["training.1"])
def logit_gradient(answer) -> Verdict:
    draws = torch.Generator().manual_seed(6)
    logits = torch.randn(4, 3, generator=draws, dtype=torch.float64) * 2
    labels = torch.tensor([2, 0, 1, 2])
    pairs = (
        (logits, labels),
        (logits[:3, :2].clone(), torch.tensor([1, 1, 0])),
        (logits[:3], torch.tensor([0, 1, 1])),  # the last class does not occur
    )
    for z, y in pairs:
        n, k = z.shape
        p, target = z.softmax(1), torch.eye(k, dtype=z.dtype)[y]
        got = call(answer, z.clone(), y.clone())
        expected = (p - target) / n
        if near(got, expected):
            continue
        shown = {"want": (n, k), "got": tuple(np.shape(got))}
        if shown["got"] == ():
            number(got)
            return "loss", shown
        if shown["got"] != (n, k):
            return "shape", shown
        wrong = {
            "sign": -expected,
            "sum": p - target,
            "all entries": expected / k,
            "probabilities": p,
            "logits": z - target,
            "log": p.log() - target,
            "wrong axis": z.softmax(0) - target,
        }
        key = _first(got, wrong)
        if key == "other":
            key = _first(got, {name: value / n for name, value in wrong.items() if name != "sum"})
        if key == "other":
            key = "sign" if near(got, target - p) else key
        values = {"logits": _rounded(z), "labels": y.tolist(), "expected": _rounded(expected)}
        return key, {**values, "got": _rounded(got.detach() if torch.is_tensor(got) else got)}
    large = torch.tensor([[1000.0, 0.0, -1000.0], [3.0, 1.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([1, 2])
    expected = (large.softmax(1) - torch.eye(3, dtype=large.dtype)[y]) / 2
    return "right" if near(call(answer, large.clone(), y), expected) else "overflow"


@exercise("training.2", MESSAGES["training.2"])
def largest_rate(answer) -> Verdict:
    draws = torch.Generator().manual_seed(2)
    for eigenvalues in ((0.7, 2.0, 8.0), (3.0, 1.0, 0.2), (1.0, 5.0, 0.4)):
        turn = torch.linalg.qr(torch.randn(3, 3, generator=draws, dtype=torch.float64)).Q
        hessian = turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T
        hessian = (hessian + hessian.T) / 2
        got = call(answer, hessian.clone())
        if torch.is_tensor(got) and got.is_complex():
            got = got.real
        got = number(got.real if isinstance(got, complex) else got)
        low, high = min(eigenvalues), max(eigenvalues)
        if near(got, 2 / high):
            continue
        wrong = {
            "one": 1 / high,
            "smallest": 2 / low,
            "eigenvalue": high,
            "inverse": high / 2,
            "fastest": 2 / (low + high),
            "diagonal": 2 / hessian.diagonal().max(),
            "trace": 2 / sum(eigenvalues),
            "norm": 2 / hessian.norm(),
        }
        key = _first(got, wrong)
        if key == "other" and near(got, 1 / low):
            key = "smallest"
        return key, {"eigenvalues": eigenvalues, "expected": 2 / high, "got": got}
    return "right"


CURVATURES, START, MOST = (1.0, 25.0), (-1.8, 0.6), 40
LEAST_MOMENTUM = 0.28  # below, no learning rate needs as few as MOST steps


def _steps_to(lr: float, momentum: float) -> int:
    """Step from which on the loss stays below one millionth of the first; 5,000 if it does not."""
    path = descent_path(START, lr=lr, momentum=momentum, curvatures=CURVATURES, steps=5000)
    losses = path**2 @ np.array(CURVATURES)
    return int(np.flatnonzero(losses >= 1e-6 * losses[0])[-1]) + 1


@exercise("training.3", MESSAGES["training.3"])
def tune(answer) -> Verdict:
    lr, momentum = _pair(answer)
    told = {"lr": lr, "momentum": momentum}
    if not lr > 0 or not 0 <= momentum < 1:
        return "range", told
    low, high = min(CURVATURES), max(CURVATURES)
    limit = 2 * (1 + momentum) / high
    if lr >= limit:
        return "diverges", {**told, "limit": limit}
    steps, plain = _steps_to(lr, momentum), _steps_to(2 / (low + high), 0.0)
    told |= {"steps": steps, "plain": plain, "most": MOST}
    if steps <= MOST:
        return "right", told
    if momentum == 0:
        return "plain", told
    if steps <= MOST + 10:
        return "close", told
    if momentum < LEAST_MOMENTUM:
        return "low momentum", told
    told |= {"weak": lr * low, "strong": lr * high, "root": math.sqrt(momentum)}
    flat, steep = (
        np.abs(np.roots([1, -(1 + momentum - lr * each), momentum])).max() for each in (low, high)
    )
    # With complex roots both directions shrink by √μ a step; else the slower one is to blame.
    if max(flat, steep) < math.sqrt(momentum) * (1 + 1e-6):
        return "swings", told
    return ("creeps" if flat >= steep else "bounces"), told


def _adamw(
    theta, g, m, v, t, *, lr, betas, eps, decay, how: str = ""
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of AdamW, or of the mistake that `how` names."""
    b1, b2 = betas[::-1] if how == "betas" else betas
    if how == "coupled":
        g = g + decay * theta
    old = m, v
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * (g if how == "not squared" else g * g)
    used_m, used_v = old if how == "old means" else (m, v)
    c1, c2 = 1 - b1**t, 1 - b2**t
    if how == "count":
        c1, c2 = 1 - b1 ** (t + 1), 1 - b2 ** (t + 1)
    if how == "no correction":
        c1 = c2 = 1.0
    if how == "constant correction":
        c1, c2 = 1 - b1, 1 - b2
    if how == "half correction":
        c2 = 1.0
    if how == "other half":
        c1 = 1.0
    m_hat, v_hat = used_m / c1, used_v / c2
    root = v_hat.sqrt() + eps
    if how == "late epsilon":
        root = (v_hat + eps).sqrt()
    if how == "early epsilon":
        root = (used_v.sqrt() + eps) / c2**0.5
    if how == "no root":
        root = v_hat + eps
    step = lr * m_hat / root * (-1 if how == "uphill" else 1)
    kept = {
        "decay without lr": 1 - decay,
        "coupled": 1.0,
        "no decay": 1.0,
    }.get(how, 1 - lr * decay)
    theta = (theta - step) * kept if how == "decay last" else theta * kept - step
    if how == "order":
        return theta, v, m
    return (theta, m_hat, v_hat) if how == "corrected state" else (theta, m, v)


ADAM_MISTAKES = (
    *("no correction", "constant correction", "half correction", "other half"),
    *("corrected state", "late epsilon"),
    *("early epsilon", "decay last", "coupled", "decay without lr", "no decay", "no root"),
    *("uphill", "count", "betas", "not squared", "old means", "order"),
)


def _five_steps(step: Callable, theta: Tensor, gradients: Tensor) -> list[tuple]:
    """θ, m and v after each of five steps, each carried along."""
    m, v, seen = torch.zeros_like(theta), torch.zeros_like(theta), []
    for t, g in enumerate(gradients, start=1):
        theta, m, v = _three(step(theta.clone(), g.clone(), m.clone(), v.clone(), t))
        seen.append((theta, m, v))
    return seen


def _three(out) -> tuple[Tensor, ...]:
    if not isinstance(out, (tuple, list)) or len(out) != 3:
        raise Wrong("no triple")
    if not all(near(np.shape(each), (3,)) for each in out):
        raise Wrong("no triple")
    return tuple(torch.as_tensor(np.asarray(_plain(each), float)) for each in out)


def _plain(value):
    return value.detach().numpy() if torch.is_tensor(value) else value


@exercise("training.4", MESSAGES["training.4"])
def adamw_step(answer) -> Verdict:
    draws = torch.Generator().manual_seed(4)
    theta = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    gradients = torch.randn(5, 3, generator=draws, dtype=torch.float64)
    # Large ε, η and λ, so that every mistake shows.
    asked: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.05, "weight_decay": 0.6}
    right = theta.clone().requires_grad_()
    optimiser = torch.optim.AdamW([right], **asked)
    expected = []
    for g in gradients:
        right.grad = g.clone()
        optimiser.step()
        expected.append(right.detach().clone())
    try:
        got = _five_steps(lambda *state: call(answer, *state, **asked), theta, gradients)
    except Wrong as wrong:
        if wrong.values.get("kind") == "ZeroDivisionError":
            return "count"
        raise
    off = [t for t in range(5) if not near(got[t][0], expected[t], rel=1e-5, absolute=1e-7)]
    if not off:
        return "right"
    options = {key: asked[key] for key in ("lr", "betas", "eps")} | {"decay": 0.6}
    for how in ADAM_MISTAKES:

        def mistaken(*state, how=how):
            return _adamw(*state, **options, how=how)

        mistake = _five_steps(mistaken, theta, gradients)
        pairs = ((a[0], b[0]) for a, b in zip(got, mistake, strict=True))
        if all(np.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True) for a, b in pairs):
            return "half correction" if how == "other half" else how
    t = off[0]
    told = {"t": t + 1, "expected": _rounded(expected[t]), "got": _rounded(got[t][0])}
    if not torch.isfinite(got[t][0]).all():
        # Counted from 0, the first step divides by 0; the third is then right for t = 2.
        middle = theta, gradients[0], gradients[1], gradients[2] ** 2
        third = _three(call(answer, *(each.clone() for each in middle), 3, **asked))
        if near(third[0], _adamw(*middle, 2, **options)[0], rel=1e-5):
            return "count"
        return "not finite", told
    means = _adamw(theta, gradients[0], 0 * theta, 0 * theta, 1, **options)[1:]
    wrong_means = any(not near(a, b) for a, b in zip(got[0][1:], means, strict=True))
    return ("state" if t > 0 and wrong_means else "other"), told


def _stop(losses, patience: int, *, how: str = "") -> tuple[int, int]:
    """(stopped, kept), epochs from 1; or what the mistake `how` makes of it."""
    waited, best, kept = 0, math.inf, 0
    previous = math.inf
    for epoch, loss in enumerate(losses, start=1):
        reference = previous if how == "last epoch" else best
        better = loss <= reference if how == "ties" else loss < reference
        waited = (waited if how == "not reset" else 0) if better else waited + 1
        if loss < best or (how == "ties" and loss <= best):
            best, kept = loss, epoch
        previous = loss
        limit = patience + {"one more": 1, "one less": -1}.get(how, 0)
        if waited >= limit:
            return epoch, kept
    return len(losses), kept


STOPS = (
    ([0.9, 0.6, 0.7, 0.65, 0.75, 0.8, 0.5, 0.7, 0.6, 0.9, 0.95, 1.0, 0.97], 3),  # falls too late
    ([0.9, 0.5, 0.5, 0.6, 0.4, 0.3, 0.35, 0.36, 0.37], 2),  # a tie is no improvement
    ([0.8, 0.7, 0.75, 0.6, 0.55], 3),  # never stops early
    ([0.8, 0.5, 0.6, 0.7, 0.4, 0.45, 0.5, 0.55, 0.3], 3),
)


@exercise("training.5", MESSAGES["training.5"])
def stop_epoch(answer) -> Verdict:
    for losses, patience in STOPS:
        stopped, kept = _stop(losses, patience)
        got = _pair(call(answer, list(losses), patience))
        if got == (stopped, kept):
            continue
        told = {"losses": losses, "patience": patience, "stopped": stopped, "kept": kept}
        told |= {"expected": (stopped, kept), "got": f"({got[0]:g}, {got[1]:g})"}
        wrong = {
            how: _stop(losses, patience, how=how)
            for how in ("one more", "one less", "last epoch", "ties", "not reset")
        }
        lowest = int(np.argmin(losses)) + 1
        wrong["from 0"] = (stopped - 1, kept - 1)
        wrong["swapped"] = (kept, stopped)
        wrong["all epochs"] = (stopped, lowest)
        wrong["no stop"] = (len(losses), lowest)
        wrong["resumed"] = (min(lowest + patience, len(losses)), lowest)
        if stopped == len(losses) and got != wrong["from 0"] and got != wrong["swapped"]:
            return "never", told
        order = ("from 0", "swapped", "all epochs", "no stop", "ties", "last epoch", *wrong)
        return next((key for key in order if got == wrong[key]), "other"), told
    return "right"


CAUSES = {
    "A": "the optimiser's m, v and t",
    "B": "the schedule's step",
    "C": "the generators' states",
    "D": "the model's buffers",
}
KIND = {
    "the optimiser's m, v and t": "moments",
    "the schedule's step": "schedule",
    "the generators' states": "random",
    "the model's buffers": "buffers",
}


@exercise("training.6", MESSAGES["training.6"])
def missing_items(answer) -> Verdict:
    if not isinstance(answer, Mapping):
        return "no dictionary", {"kind": type(answer).__name__}
    if any(value is ... for value in answer.values()):
        raise NotAttempted
    if set(answer) != set(CAUSES):
        return "letters"
    for run, cause in CAUSES.items():
        given = answer[run]
        if not isinstance(given, str) or given not in KIND:
            return "not listed", {"run": run, "items": list(KIND), "got": given}
        if given != cause:
            return KIND[given], {"run": run}
    return "right"
