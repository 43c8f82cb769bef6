"""Checks of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.exercises import Verdict, Wrong, call, exercise, first_match, near, number

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
        "sigmoid": "you took the sigmoid of each logit. Softmax compares the classes: each row of "
        "probabilities sums to 1.",
        "wrong axis": "you took the softmax over the images. It runs over the classes of one "
        "image, dim=1.",
        "loss": "you returned one number; I asked for the gradient, which has the shape of the "
        "logits, {want}.",
        "shape": "you returned shape {got}. A gradient has the shape of what it belongs to: "
        "{want}.",
        "overflow": "right for small logits; at a logit of 1000 I got nan or inf. Subtract the "
        "largest logit of each image before exp, or call softmax, which does.",
        "clamped": "right for small logits; at logits of 1000 and 999 the numbers are finite and "
        "wrong: cutting logits off, or replacing nan, makes both alike. Subtract the largest "
        "logit of each image before exp, or call softmax, which does.",
        "other": "for logits {logits} and labels {labels} I expected {expected} and got {got}.",
    },
    "training.2": {
        "right": "every step as torch.optim.SGD takes it, with and without momentum.",
        "no list": "I expected the whole path, steps + 1 tensors of the shape of theta; {told}.",
        "last": "you returned the last point alone. Collect theta at the start and after each "
        "step.",
        "no start": "the start is missing: the path has steps + 1 points, the first of them theta "
        "as it was given.",
        "points": "for steps = {steps} I expected {expected} points and got {got}.",
        "one tensor": "all points of the path are the last one: `theta -= …` changes the tensor "
        "that already lies in the list. Write theta = theta - …, or append a clone.",
        "start": "the first point is not the theta that was given. Put it into the path before "
        "the first step, and do not change it in place.",
        "uphill": "you went uphill: the step is taken against the velocity.",
        "no momentum": "right without momentum, and momentum does nothing. Carry the velocity "
        "from step to step.",
        "mean": "your velocity is a running mean, μ v + (1 − μ) g. Here it is a sum, μ v + g.",
        "nesterov": "you added the gradient once more, as Nesterov's variant does. The step is "
        "the velocity alone.",
        "late": "you took the step with the velocity of the step before. Update it first.",
        "same point": "you took the gradient at the start in every step. Ask for it anew at each "
        "point.",
        "no lr": "the learning rate does nothing, or does it twice: a step is η·v.",
        "momentum twice": "momentum enters twice: in the velocity, and once more in the step.",
        "no velocity": "you shrank theta itself by μ. What is kept from step to step is the "
        "velocity.",
        "start velocity": "the first step is wrong already: the velocity is 0 before it, so the "
        "first step is η times the gradient.",
        "other": "with momentum {momentum:g}, after step {t} I expected {expected} and got {got}.",
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
        "exchanged": "the other way round it would be right: first the learning rate, then the "
        "momentum.",
        "no square": "{steps} steps. That momentum is √μ of the formula; take its square.",
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
        "no epsilon": "there is no ε in it: a weight without any gradient divides 0 by 0.",
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
        "right": "every image once, a step for each batch, and the mean over images. This is what "
        "`fit` does in every epoch.",
        "evaluation": "the model was in evaluation mode. Call model.train() first: the function "
        "before may have left it in the other.",
        "one step": "you gave the model all images at once. Split the order into batches.",
        "sizes": "for 11 images and batch_size = 4 I expected batches of 4, 4 and 3 images and "
        "got {got}.",
        "not once": "each image is used once an epoch; {told}.",
        "unshuffled": "the images come in the order in which they lie. Take them in the order of "
        "torch.randperm(len(images), generator=rng).",
        "global": "the order does not follow from rng: the same generator gave another order "
        "at a second run, or two epochs gave the same. Hand it on: generator=rng.",
        "labels": "the images are shuffled and the labels are not. Pick both by the same "
        "positions.",
        "two orders": "images and labels are shuffled by two draws, so that each image gets "
        "the label of another. Draw the order once, and pick both by it.",
        "kept": "gradients pile up: backward adds to what is there. Call optimiser.zero_grad() "
        "in every step.",
        "unchanged": "the weights are what they were. In each step: zero_grad, then backward, "
        "then step.",
        "late": "the step stands between the loss and backward, which then finds other weights: "
        "first zero_grad, then backward, then step.",
        "softmax": "you gave probabilities to the loss. It takes logits; the softmax is inside.",
        "sum": "you went down the sum of the losses of a batch. Take their mean, so that a step "
        "does not depend on the batch size.",
        "weights": "the weights after the epoch are not those that these batches give.",
        "batches": "you let all batches count alike, and the last one is smaller. Multiply each "
        "loss by its own number of images, and divide by the number of all.",
        "last": "you returned the loss of the last batch.",
        "added": "you returned the sum over batches. Multiply each by its number of images and "
        "divide by the number of all images.",
        "total": "you returned the sum over images: divide by their number.",
        "wrong share": "you divided by the number of batches what was summed over images.",
        "after": "you measured the loss again at the end. Return what the steps saw, which costs "
        "nothing.",
        "list": "I expected one number, the mean loss of an image, and got {got}.",
        "other": "the weights are right; for the mean loss I expected {expected:.4f} and got "
        "{got:.4f}.",
    },
    "training.6": {
        "right": "{note}the two numbers by which validation patients judge a network.",
        "training": "the model was in training mode, so that its batch normalisation used the "
        "batch, and learnt from patients who should only be looked at. Call model.eval().",
        "changed": "the model is not what it was: nothing of it may change here.",
        "gradients": "you called backward: here nothing is learnt.",
        "all at once": "you gave the model {got} images at once, and {most} were asked for.",
        "not once": "each image is looked at once; {told}.",
        "batches": "you let all batches count alike, and the last one is smaller: add up over "
        "images, and divide once by their number.",
        "last": "those are the numbers of the last batch.",
        "sums": "you returned sums over the images, or one of the two. Divide by their number.",
        "swapped": "the order is (loss, accuracy).",
        "percent": "accuracy is a share, 0 to 1, not per cent.",
        "errors": "you returned the share of wrong answers.",
        "threshold": "you called an image right where its true class has p above ½. With more "
        "than two classes the largest need not reach ½.",
        "softmax": "you gave probabilities to the loss. It takes logits; the softmax is inside.",
        "no pair": "I expected two numbers, (loss, accuracy), and got {got}.",
        "loss": "for the loss I expected {expected:.4f} and got {got:.4f}; the accuracy is right.",
        "accuracy": "for the accuracy I expected {expected:.4f} and got {got:.4f}; the loss is "
        "right.",
        "other": "I expected ({loss:.4f}, {accuracy:.4f}) and got {got}.",
    },
    "training.7": {
        "right": "it stops after `patience` epochs without a new lowest, and goes back to the "
        "lowest.",
        "from 0": "you counted epochs from 0; the first epoch is 1.",
        "swapped": "the order is (stopped, kept); you returned them the other way round.",
        "kept from 0": "you counted the epoch that is kept from 0, and the other from 1.",
        "one more": "you waited one epoch too long: with patience {patience} and the lowest in "
        "epoch {kept}, it stops after epoch {stopped}.",
        "one less": "you stopped one epoch too early, or counted it from 0: with patience "
        "{patience} and the lowest in epoch {kept}, it stops after epoch {stopped}.",
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
        "never": "patience never ran out for {losses}: it stops with the last epoch, {stopped}, "
        "and keeps the lowest, epoch {kept}; got {got}.",
        "no pair": "I expected two whole numbers, (stopped, kept).",
        "other": "for losses {losses} and patience {patience} I expected (stopped, kept) = "
        "{expected} and got {got}.",
    },
}


def _first(got, candidates: Mapping[str, object]) -> str:
    """Key of the first candidate that the answer equals, else "other"."""
    return next((key for key, value in candidates.items() if near(got, value)), "other")


def _pair(answer) -> tuple[float, float]:
    shape = (len(answer),) if isinstance(answer, (tuple, list)) else np.shape(answer)
    if shape != (2,):
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
            "sigmoid": z.sigmoid() - target,
            "wrong axis": z.softmax(0) - target,
        }
        key = _first(got, wrong)
        if key == "other":
            key = _first(got, {name: value / n for name, value in wrong.items() if name != "sum"})
        if key == "other":
            key = "sign" if near(got, target - p) else key
        values = {"logits": _rounded(z), "labels": y.tolist(), "expected": _rounded(expected)}
        return key, {**values, "got": _rounded(got.detach() if torch.is_tensor(got) else got)}
    # Two large logits side by side: who clamps them makes them equal.
    large = torch.tensor([[1000.0, 999.0, -1000.0], [3.0, 1.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([1, 2])
    expected = (large.softmax(1) - torch.eye(3, dtype=large.dtype)[y]) / 2
    got = call(answer, large.clone(), y)
    if near(got, expected):
        return "right"
    finite = near(np.shape(got), (2, 3)) and np.isfinite(np.asarray(_plain(got), float)).all()
    return "clamped" if finite else "overflow"


def _descent(gradient, theta, lr, momentum, steps, how: str = "") -> list[Tensor]:
    """The path of gradient descent, or that of the mistake that `how` names."""
    path, velocity, start = [theta], torch.zeros_like(theta), theta
    if how == "start velocity":
        velocity = gradient(theta)
    for _ in range(steps):
        g, old = gradient(start if how == "same point" else theta), velocity
        velocity = momentum * velocity + (1 - momentum if how == "mean" else 1) * g
        step = {
            "uphill": -velocity,
            "no momentum": g,
            "nesterov": g + momentum * velocity,
            "late": old,
            "momentum twice": momentum * velocity,
        }.get(how, velocity)
        kept = momentum if how == "no velocity" and momentum else 1.0
        theta = kept * theta - {"no lr": 1.0, "lr twice": lr**2}.get(how, lr) * (
            g if how == "no velocity" else step
        )
        path.append(theta)
    return path


DESCENT_MISTAKES = (
    *("uphill", "no momentum", "mean", "nesterov", "late", "same point", "no lr", "lr twice"),
    *("momentum twice", "no velocity", "start velocity"),
)


@exercise("training.2", MESSAGES["training.2"])
def descend(answer) -> Verdict:
    slopes = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    trials = (
        ((-0.7, 0.4, 1.5), 0.2, 0.6, 5),
        ((1.0, -2.0, 0.5), 0.3, 0.0, 3),
        ((0.5, 1.0, -1.0), 0.5, 0.9, 1),
    )
    for first, lr, momentum, steps in trials:

        def gradient(theta):
            return slopes * theta + 0.2 * theta**3  # no parabola: a place of its own for each step

        theta = torch.tensor(first, dtype=torch.float64)
        expected = torch.stack(_descent(gradient, theta, lr, momentum, steps))
        given = theta.clone()
        got = call(answer, gradient, given, lr, momentum, steps)
        path = _path(got, theta, steps)
        if near(path, expected):
            continue
        moved = not near(path[-1], theta)
        if steps > 1 and moved and near(path[1:], path[-1:].expand_as(path[1:])):
            return "one tensor"
        if not near(path[0], theta):
            return "start"
        for how in DESCENT_MISTAKES:
            wrong = _descent(gradient, theta, lr, momentum, steps, how)
            if near(path, torch.stack(wrong)):
                return "no lr" if how == "lr twice" else how
        off = next(t for t in range(steps + 1) if not near(path[t], expected[t]))
        told = {"momentum": momentum, "t": off, "expected": _rounded(expected[off])}
        return "other", told | {"got": _rounded(path[off])}
    return "right"


def _path(got, theta: Tensor, steps: int) -> Tensor:
    """The points that were returned, (steps + 1, …); `Wrong` if they are no path."""
    try:
        points = [torch.as_tensor(np.asarray(_plain(point), float)) for point in got]
    except (TypeError, ValueError):
        raise Wrong("no list", told=f"got {type(got).__name__}") from None
    if getattr(got, "shape", ()) == theta.shape:
        raise Wrong("last")
    odd = [tuple(point.shape) for point in points if point.shape != theta.shape]
    if odd or not points:
        told = f"one has the shape {odd[0]}" if odd else "it is empty"
        raise Wrong("no list", told=told)
    if len(points) == steps and not near(points[0], theta):
        raise Wrong("no start")
    if len(points) != steps + 1:
        raise Wrong("points", steps=steps, expected=steps + 1, got=len(points))
    return torch.stack(points)


CURVATURES, START, MOST = (1.0, 25.0), (-1.8, 0.6), 30
LEAST_MOMENTUM = 0.37  # below, no learning rate needs as few as MOST steps


def _steps_to(lr: float, momentum: float) -> int:
    """Step from which on the loss stays below one millionth of the first; 5,000 if it does not."""
    slopes = torch.tensor(CURVATURES, dtype=torch.float64)
    start = torch.tensor(START, dtype=torch.float64)
    path = torch.stack(_descent(lambda theta: slopes * theta, start, lr, momentum, 5000))
    losses = (path**2 @ slopes).numpy()
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
        exchanged = lr < 1 and 0 < momentum < 2 * (1 + lr) / high
        if exchanged and _steps_to(momentum, lr) <= MOST:
            return "exchanged"
        return "diverges", {**told, "limit": limit}
    steps, plain = _steps_to(lr, momentum), _steps_to(2 / (low + high), 0.0)
    told |= {"steps": steps, "plain": plain, "most": MOST}
    if steps <= MOST:
        return "right", told
    if momentum == 0:
        return "plain", told
    best = (math.sqrt(high) - math.sqrt(low)) / (math.sqrt(high) + math.sqrt(low))
    if near(momentum, best, rel=1e-2):
        return "no square", told
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
    if how == "no epsilon":
        root = v_hat.sqrt()
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
    "no epsilon",
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


class _Spied(nn.Module):
    """Batch normalisation and a linear layer; remembers what it was given, and in which mode."""

    def __init__(self, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.head = nn.Linear(2, classes)
        self.seen: list[Tensor] = []
        self.modes: list[bool] = []
        self.recorded: list[bool] = []
        draws = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws))
            self.norm.get_buffer("running_mean").fill_(0.7)

    def forward(self, images):
        self.seen.append(images.detach().clone())
        self.modes.append(self.training)
        self.recorded.append(torch.is_grad_enabled())
        return self.head(self.norm(images.flatten(1)[:, 1:]))

    def order(self) -> list[Tensor]:
        """Positions of the images of each batch; the first pixel of an image is its position."""
        return [images.flatten(1)[:, 0].round().long() for images in self.seen]

    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters()])


def _patients(n: int, classes: int) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 1, 3), of which the first pixel is the position, and labels of all classes."""
    draws = torch.Generator().manual_seed(n)
    images = torch.randn(n, 1, 1, 3, generator=draws)
    images[:, 0, 0, 0] = torch.arange(n)
    return images, torch.randint(classes, (n,), generator=draws)


def _once(order: list[Tensor], n: int) -> None:
    """`Wrong` unless each of n images was given to the model once."""
    counts = torch.bincount(torch.cat(order), minlength=n) if order else torch.zeros(n)
    if (counts != 1).any():
        told = (
            f"{int((counts == 0).sum())} of {n} were not, {int((counts > 1).sum())} several times"
        )
        raise Wrong("not once", told=told)


def _epoch(model, optimiser, order, labels, images, how: str = "") -> list[float]:
    """Steps through these batches as `how` does it; the loss that each of them saw."""
    model.train()
    losses, place = [], 0
    draws = torch.Generator().manual_seed(3)  # the order after the one that the images got
    _, second = (torch.randperm(len(images), generator=draws) for _ in range(2))
    optimiser.zero_grad()
    for batch in order:
        target = labels[batch]
        if how == "labels":
            target = labels[place : place + len(batch)]
        if how == "two orders":
            target = labels[second[place : place + len(batch)]]
        place += len(batch)
        z = model(images[batch])
        loss = F.cross_entropy(z.softmax(1) if how == "softmax" else z, target)
        if how != "kept":
            optimiser.zero_grad()
        (loss * len(batch) if how == "sum" else loss).backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@exercise("training.5", MESSAGES["training.5"])
def train_epoch(answer) -> Verdict:
    for n, size, classes in ((11, 4, 3), (6, 8, 2), (9, 3, 2)):
        images, labels = _patients(n, classes)
        model = _Spied(classes).eval()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        rng = torch.Generator().manual_seed(3)
        try:
            got = call(answer, model, optimiser, images.clone(), labels.clone(), size, rng)
        except Wrong as wrong:
            if "inplace operation" in str(wrong.values.get("error")):
                return "late"
            raise
        want = [len(part) for part in torch.arange(n).split(size)]
        order = model.order()
        sizes = [len(part) for part in order]
        if not all(model.modes[: len(want)]):
            return "evaluation"
        if n > size and sizes[:1] == [n]:
            return "one step"
        if sizes[: len(want)] != want or sum(sizes) == n:  # else it measured again at the end
            _once(order, n)
            if sizes != want:
                return "sizes", {"got": sizes}
        order = order[: len(want)]
        _once(order, n)
        if n > 9:
            told = _shuffled(answer, n, size, classes, order)
            if told:
                return told
        replayed, losses = _replay(order, labels, images)
        if not near(model.weights(), replayed.weights()):
            _once(model.order(), n)
            return _fault(model, order, labels, images)
        wrong_loss = _mean_loss(got, losses, want, images, labels, replayed)
        if wrong_loss:
            return wrong_loss
    return "right"


def _replay(order, labels, images, how: str = "") -> tuple[_Spied, list[float]]:
    model = _Spied(int(labels.max()) + 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    return model, _epoch(model, optimiser, order, labels, images, how)


def _shuffled(answer, n: int, size: int, classes: int, order: list[Tensor]) -> str:
    """A diagnosis of the order of the images, or nothing."""
    if torch.equal(torch.cat(order), torch.arange(n)):
        return "unshuffled"
    images, labels = _patients(n, classes)
    runs, rng = [], torch.Generator().manual_seed(3)
    for _ in range(2):
        model = _Spied(classes)
        call(answer, model, torch.optim.SGD(model.parameters(), 0.5), images, labels, size, rng)
        runs.append(torch.cat(model.order())[:n])
    same = torch.equal(runs[0], torch.cat(order)) and not torch.equal(runs[0], runs[1])
    return "" if same else "global"


def _fault(model: _Spied, order, labels, images) -> str:
    """What went wrong in the steps, from the weights that they left."""
    if near(model.weights(), _Spied(len(model.head.bias)).weights()):
        return "unchanged"
    for how in ("kept", "labels", "two orders", "softmax", "sum"):
        if near(model.weights(), _replay(order, labels, images, how)[0].weights()):
            return how
    return "weights"


def _mean_loss(got, losses, sizes, images, labels, model) -> Verdict | None:
    """A diagnosis of the returned loss, or nothing if it is right."""
    if isinstance(got, (list, tuple)) or np.size(_plain(got)) != 1:
        return "list", {"got": f"a {type(got).__name__}"}
    value, n = number(got), sum(sizes)
    each = np.array(losses) * sizes
    expected = each.sum() / n
    if near(value, expected):
        return None
    with torch.no_grad():
        after = [F.cross_entropy(model.train(m)(images), labels) for m in (False, True)]
    wrong = {
        "batches": np.mean(losses),
        "last": losses[-1],
        "added": np.sum(losses),
        "total": each.sum(),
        "wrong share": each.sum() / len(sizes),
        "after": after[0],
    }
    key = first_match(value, wrong)
    if key == "other":
        key = first_match(value, {"batches": np.sum(losses) * sizes[0] / n, "after": after[1]})
    return key, {"expected": expected, "got": value}


@exercise("training.6", MESSAGES["training.6"])
def evaluate(answer) -> Verdict:
    note = ""
    for n, size, classes in ((11, 4, 3), (5, 8, 4), (8, 3, 3)):
        images, labels = _patients(n, classes)
        model = _Spied(classes).train()
        before = model.weights()
        got = call(answer, model, images.clone(), labels.clone(), size)
        if any(model.modes):
            return "training"
        if not near(model.weights(), before):
            return "changed"
        if any(parameter.grad is not None for parameter in model.parameters()):
            return "gradients"
        order = model.order()
        most = max(map(len, order), default=0)
        if most > size:
            return "all at once", {"got": most, "most": size}
        _once(order, n)
        if any(model.recorded):
            note = "right, though without torch.no_grad() each batch costs more memory: "
        try:
            pair = _pair(got)
        except Wrong as wrong:
            if wrong.key != "no pair":
                raise
            return "no pair", {"got": f"a {type(got).__name__}"}
        told = _judged(pair, model, images, labels, order)
        if told:
            return told
    return "right", {"note": note}


def _judged(got: tuple, model: _Spied, images, labels, order) -> Verdict | None:
    """A diagnosis of (loss, accuracy), or nothing if both are right."""
    with torch.no_grad():
        z = model.eval()(images)
    each = F.cross_entropy(z, labels, reduction="none")
    hit = (z.argmax(1) == labels).double()
    n, loss, accuracy = len(z), each.mean().item(), hit.mean().item()
    if near(got, (loss, accuracy)):
        return None
    by_batch = [(each[part].mean().item(), hit[part].mean().item()) for part in order]
    means = np.mean(by_batch, 0)
    surest = (z.softmax(1).gather(1, labels[:, None])[:, 0] > 0.5).double().mean().item()
    softmax = F.cross_entropy(z.softmax(1), labels).item()
    wrong: list[tuple[str, tuple]] = [
        ("swapped", (accuracy, loss)),
        ("batches", tuple(means)),
        ("batches", (loss, means[1])),
        ("batches", (means[0], accuracy)),
        ("batches", (means[0] * len(order) * len(order[0]) / n, accuracy)),
        ("last", by_batch[-1]),
        ("sums", (loss * n, accuracy * n)),
        ("sums", (loss * n, accuracy)),
        ("sums", (loss, accuracy * n)),
        ("percent", (loss, 100 * accuracy)),
        ("errors", (loss, 1 - accuracy)),
        ("threshold", (loss, surest)),
        ("softmax", (softmax, accuracy)),
    ]
    key = next((key for key, values in wrong if near(got, values)), "other")
    shown = {"got": f"({got[0]:.4f}, {got[1]:.4f})", "loss": loss, "accuracy": accuracy}
    if key == "other" and near(got[1], accuracy):
        return "loss", {"expected": loss, "got": got[0]}
    if key == "other" and near(got[0], loss):
        return "accuracy", {"expected": accuracy, "got": got[1]}
    return key, shown


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
    ([0.8, 0.5, 0.7, 0.6], 3),  # neither stops early nor ends with the lowest
    ([0.4, 0.4, 0.6, 0.3], 2),  # the first is the lowest, and the second no improvement
)


@exercise("training.7", MESSAGES["training.7"])
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
        wrong["kept from 0"] = (stopped, kept - 1)
        wrong["swapped"] = (kept, stopped)
        wrong["all epochs"] = (stopped, lowest)
        wrong["no stop"] = (len(losses), lowest)
        wrong["resumed"] = (min(lowest + patience, len(losses)), lowest)
        named = got in [wrong[key] for key in ("from 0", "kept from 0", "swapped")]
        if stopped == len(losses) and not named:
            return "never", told
        order = (
            "from 0",
            "kept from 0",
            "swapped",
            "all epochs",
            "no stop",
            "ties",
            "last epoch",
            *wrong,
        )
        return next((key for key in order if got == wrong[key]), "other"), told
    return "right"
