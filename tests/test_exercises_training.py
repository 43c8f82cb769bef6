"""Checks of training, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medlab.cohort import to_float
from medlab.exercises import check
from medlab.exercises.training import MESSAGES
from tests.learners import unheard
from tests.mutants import ticked


def one_hot(y, z):
    return F.one_hot(y, z.shape[1]).to(z.dtype)


def gradient(z, y):
    return (z.softmax(1) - one_hot(y, z)) / len(z)


def by_autograd(z, y):
    z = z.requires_grad_()
    F.cross_entropy(z, y).backward()
    return z.grad


def naive(z, y):
    e = z.exp()
    return (e / e.sum(1, keepdim=True) - one_hot(y, z)) / len(z)


def in_numpy(z, y):
    z = z.numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    p[np.arange(len(y)), y.numpy()] -= 1
    return p / len(y)


def descend(gradient, theta, lr, momentum, steps, velocity=0.0):
    path = [theta]
    for _ in range(steps):
        velocity = momentum * velocity + gradient(path[-1])
        path.append(path[-1] - lr * velocity)
    return path


def by_torch(gradient, theta, lr, momentum, steps):
    theta = theta.clone().requires_grad_()
    optimiser, path = torch.optim.SGD([theta], lr=lr, momentum=momentum), [theta.detach().clone()]
    for _ in range(steps):
        theta.grad = gradient(theta.detach())
        optimiser.step()
        path.append(theta.detach().clone())
    return path


def classical(gradient, theta, lr, momentum, steps):
    """The velocity in units of steps: the same while the learning rate stays."""
    path, move = [theta], torch.zeros_like(theta)
    for _ in range(steps):
        move = momentum * move - lr * gradient(path[-1])
        path.append(path[-1] + move)
    return path


def in_place(gradient, theta, lr, momentum, steps, clone=False, later=False):
    path, velocity = [theta.clone() if clone else theta], 0
    for _ in range(steps):
        velocity = momentum * velocity + gradient(theta)
        theta -= lr * velocity
        path.append(theta.clone() if later else theta)
    return path


def with_fault(velocity=lambda v, g, mu: mu * v + g, step=lambda v, old, g, mu: v, sign=-1):
    def answer(gradient, theta, lr, momentum, steps):
        path, v = [theta], torch.zeros_like(theta)
        for _ in range(steps):
            g, old = gradient(theta), v
            v = velocity(v, g, momentum)
            theta = theta + sign * lr * step(v, old, g, momentum)
            path.append(theta)
        return path

    return answer


def shrinks_theta(gradient, theta, lr, momentum, steps):
    path = [theta]
    for _ in range(steps):
        theta = (momentum or 1) * theta - lr * gradient(theta)
        path.append(theta)
    return path


def order_of(n, size, rng, how):
    if how == "global":
        return torch.randperm(n).split(size)
    if how == "reseeded":
        rng.manual_seed(0)
    order = torch.randperm(n, generator=rng)
    if how == "ordered":
        order = torch.arange(n)
    if how == "replace":
        order = torch.randint(n, (n,), generator=rng)
    parts = order.split(n if how == "whole" else size)
    if how == "chunk":
        parts = order.chunk(size)
    if how == "drop":
        parts = [part for part in parts if len(part) == size]
    return {"two": [*parts, *parts], "no batch": []}.get(how, parts)


def epoch(model, optimiser, images, labels, size, rng, how=""):
    model.train(how != "eval")
    losses, sizes, place, second = [], [], 0, []
    for part in order_of(len(images), size, rng, how):
        y = labels[place : place + len(part)] if how == "labels" else labels[part]
        if how == "two orders":
            second = second or [torch.randperm(len(labels), generator=rng)]
            y = labels[second[0][place : place + len(part)]]
        place += len(part)
        z = model(images[part])
        loss = F.cross_entropy(z.softmax(1) if how == "softmax" else z, y)
        if how == "late":
            optimiser.step()
        if how not in ("kept", "cleared at the end", "cleared before the step"):
            optimiser.zero_grad()
        (loss * len(part) if how == "sum" else loss).backward()
        if how == "cleared before the step":
            optimiser.zero_grad()
        if how not in ("late", "no step"):
            optimiser.step()
        if how == "two steps":
            optimiser.step()
        if how == "cleared at the end":
            optimiser.zero_grad()
        losses.append(loss.item())
        sizes.append(len(part))
    each = np.array(losses) * sizes
    if how.startswith("after"):
        return F.cross_entropy(model.train(how != "after")(images), labels)
    mean = each.sum() / len(images)
    if how == "running mean":
        mean, seen = 0.0, 0
        for value, count in zip(losses, sizes, strict=True):
            seen += count
            mean += (value - mean) * count / seen
    return {
        "batches": np.mean(losses) if losses else 0.0,
        "one size": np.sum(losses) * size / len(images),
        "last": losses[-1] if losses else 0.0,
        "added": np.sum(losses),
        "total": each.sum(),
        "share": each.sum() / max(1, len(sizes)),
        "list": losses,
    }.get(how, mean)


def with_a_loader(model, optimiser, images, labels, size, rng):
    data = torch.utils.data.TensorDataset(images, labels)
    total = 0.0
    model.train()
    for x, y in torch.utils.data.DataLoader(data, size, shuffle=True, generator=rng):
        loss = nn.CrossEntropyLoss()(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total = total + loss * len(x)
    return total / len(data)


def evaluate(model, images, labels, size, how=""):
    model.train(how == "training")
    records = how in ("recorded", "recorded tensors", "backward", "steps")
    losses, hits, sizes = [], [], []
    with torch.set_grad_enabled(records):
        for x, y in zip(images.split(size), labels.split(size), strict=True):
            z = model(x)
            losses.append(F.cross_entropy(z.softmax(1) if how == "softmax" else z, y))
            hit = z.argmax(1) == y
            if how == "half":
                hit = z.softmax(1)[torch.arange(len(y)), y] > 0.5
            hits.append(hit.float().mean())
            sizes.append(len(y))
    if how in ("backward", "steps"):
        losses[0].backward()
    if how == "steps":
        torch.optim.SGD(model.parameters(), 0.1).step()
    each = [torch.stack(values) for values in (losses, hits)]
    share = torch.tensor(sizes) / len(images)
    loss, accuracy = ((values * share).sum() for values in each)
    if how == "recorded tensors":
        return loss, accuracy
    loss, accuracy, n = loss.item(), accuracy.item(), len(images)
    return {
        "batches": tuple(values.mean().item() for values in each),
        "one size": (each[0].sum().item() * size / n, accuracy),
        "last": (losses[-1].item(), hits[-1].item()),
        "sums": (loss * n, accuracy * n),
        "hits": (loss, accuracy * n),
        "percent": (loss, 100 * accuracy),
        "errors": (loss, 1 - accuracy),
    }.get(how, (loss, accuracy))


def scaled(pair, *factors):
    return tuple(value * factor for value, factor in zip(pair, factors, strict=True))


def adamw(theta, g, m, v, t, lr, betas, eps, weight_decay):
    b1, b2 = betas
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    step = lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
    return theta - lr * weight_decay * theta - step, m, v


def adamw_in_place(theta, g, m, v, t, lr, betas, eps, weight_decay):
    m.lerp_(g, 1 - betas[0])
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    theta.mul_(1 - lr * weight_decay)
    root = v.sqrt() / (1 - betas[1] ** t) ** 0.5 + eps
    theta.addcdiv_(m, root, value=-lr / (1 - betas[0] ** t))
    return theta, m, v


def adamw_in_numpy(theta, g, m, v, t, lr, betas, eps, weight_decay):
    return [a.numpy() for a in adamw(theta, g, m, v, t, lr, betas, eps, weight_decay)]


def mistake(change):
    """AdamW with one fault: `change` gets all that a step knows and returns θ, m and v."""

    def step(theta, g, m, v, t, lr, betas, eps, weight_decay):
        b1, b2 = betas
        new_m, new_v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        return change(
            x=theta, g=g, m=new_m, v=new_v, old=(m, v), t=t, lr=lr, b1=b1, b2=b2, e=eps,
            c1=1 - b1**t, c2=1 - b2**t, keep=1 - lr * weight_decay, wd=weight_decay,
        )  # fmt: skip

    return step


def no_correction(x, m, v, keep, lr, e, **_):
    return x * keep - lr * m / (v.sqrt() + e), m, v


def constant_correction(x, m, v, keep, lr, e, b1, b2, **_):
    return x * keep - lr * m / (1 - b1) / ((v / (1 - b2)).sqrt() + e), m, v


def half_correction(x, m, v, keep, lr, e, c1, **_):
    return x * keep - lr * m / c1 / (v.sqrt() + e), m, v


def other_half(x, m, v, keep, lr, e, c2, **_):
    return x * keep - lr * m / ((v / c2).sqrt() + e), m, v


def corrected_state(x, m, v, keep, lr, e, c1, c2, **_):
    m, v = m / c1, v / c2
    return x * keep - lr * m / (v.sqrt() + e), m, v


def late_epsilon(x, m, v, keep, lr, e, c1, c2, **_):
    return x * keep - lr * m / c1 / (v / c2 + e).sqrt(), m, v


def early_epsilon(x, m, v, keep, lr, e, c1, c2, **_):
    return x * keep - lr * c2**0.5 / c1 * m / (v.sqrt() + e), m, v


def decay_last(x, m, v, keep, lr, e, c1, c2, **_):
    return (x - lr * m / c1 / ((v / c2).sqrt() + e)) * keep, m, v


def coupled(x, g, old, wd, lr, e, b1, b2, c1, c2, **_):
    g = g + wd * x
    m, v = b1 * old[0] + (1 - b1) * g, b2 * old[1] + (1 - b2) * g**2
    return x - lr * m / c1 / ((v / c2).sqrt() + e), m, v


def decay_without_lr(x, m, v, wd, lr, e, c1, c2, **_):
    return x - wd * x - lr * m / c1 / ((v / c2).sqrt() + e), m, v


def no_decay(x, m, v, lr, e, c1, c2, **_):
    return x - lr * m / c1 / ((v / c2).sqrt() + e), m, v


def no_epsilon(x, m, v, keep, lr, c1, c2, **_):
    return x * keep - lr * m / c1 / (v / c2).sqrt(), m, v


def no_root(x, m, v, keep, lr, e, c1, c2, **_):
    return x * keep - lr * m / c1 / (v / c2 + e), m, v


def uphill(x, m, v, keep, lr, e, c1, c2, **_):
    return x * keep + lr * m / c1 / ((v / c2).sqrt() + e), m, v


def one_late(x, m, v, keep, lr, e, b1, b2, t, **_):
    c1, c2 = 1 - b1 ** (t + 1), 1 - b2 ** (t + 1)
    return x * keep - lr * m / c1 / ((v / c2).sqrt() + e), m, v


def one_early(x, m, v, keep, lr, e, b1, b2, t, **_):
    return x * keep - lr * m / (1 - b1 ** (t - 1)) / ((v / (1 - b2 ** (t - 1))).sqrt() + e), m, v


def one_early_in_floats(x, m, v, keep, lr, b1, t, **_):
    return x * keep - m * (lr / (1 - b1 ** (t - 1))), m, v


def exchanged(x, g, old, keep, lr, e, b1, b2, t, **_):
    m, v = b2 * old[0] + (1 - b2) * g, b1 * old[1] + (1 - b1) * g**2
    return x * keep - lr * m / (1 - b2**t) / ((v / (1 - b1**t)).sqrt() + e), m, v


def not_squared(x, g, m, old, keep, lr, e, b2, c1, c2, **_):
    v = b2 * old[1] + (1 - b2) * g
    return x * keep - lr * m / c1 / ((v / c2).sqrt() + e), m, v


def old_means(x, m, v, old, keep, lr, e, c1, c2, **_):
    return x * keep - lr * old[0] / c1 / ((old[1] / c2).sqrt() + e), m, v


def lost_state(x, m, v, old, keep, lr, e, c1, c2, **_):
    return x * keep - lr * m / c1 / ((v / c2).sqrt() + e), *old


def exchanged_means(x, m, v, keep, lr, e, c1, c2, **_):
    return x * keep - lr * m / c1 / ((v / c2).sqrt() + e), v, m


def theta_last(x, m, v, keep, lr, e, c1, c2, **_):
    return m, v, x * keep - lr * m / c1 / ((v / c2).sqrt() + e)


def negative_square(x, g, m, old, keep, lr, e, b2, c1, c2, **_):
    v = b2 * old[1] - (1 - b2) * g**2
    return x * keep - lr * m / c1 / ((v / c2).sqrt() + e), m, v


def times_t(x, m, v, keep, lr, e, b1, b2, t, **_):
    return x * keep - lr * m / (1 - b1 * t) / ((v / (1 - b2 * t)).sqrt() + e), m, v


def faster_later(x, m, v, keep, lr, e, c1, c2, t, **_):
    return x * keep - t * lr * m / c1 / ((v / c2).sqrt() + e), m, v


def early(losses, patience):
    best, kept, waited = float("inf"), 0, 0
    for epoch, loss in enumerate(losses, start=1):
        if loss < best:
            best, kept, waited = loss, epoch, 0
        else:
            waited += 1
        if waited == patience:
            break
    return epoch, kept


def early_in_numpy(losses, patience):
    lowest = np.minimum.accumulate(losses)
    kept = np.array([losses.index(low) + 1 for low in lowest])
    epochs = np.arange(1, len(losses) + 1)
    over = np.flatnonzero(epochs - kept >= patience)
    at = over[0] if len(over) else len(losses) - 1
    return np.array([epochs[at], kept[at]])


def with_ties(losses, patience):
    best, kept, waited = float("inf"), 0, 0
    for epoch, loss in enumerate(losses, start=1):
        waited = 0 if loss <= best else waited + 1
        if loss <= best:
            best, kept = loss, epoch
        if waited == patience:
            break
    return epoch, kept


def beside_the_last(losses, patience):
    waited = 0
    for epoch in range(2, len(losses) + 1):
        waited = waited + 1 if losses[epoch - 1] >= losses[epoch - 2] else 0
        if waited == patience:
            break
    return epoch, 1 + int(np.argmin(losses[:epoch]))


def resumed(losses, patience):
    kept = int(np.argmin(losses)) + 1
    return min(kept + patience, len(losses)), kept


def never_counts_again(losses, patience):
    best, kept, waited = float("inf"), 0, 0
    for epoch, loss in enumerate(losses, start=1):
        if loss < best:
            best, kept = loss, epoch
        else:
            waited += 1
        if waited == patience:
            break
    return epoch, kept


def never_stops(losses, patience):
    return early(losses, patience) if losses[-1] > min(losses) else (len(losses) - 1, 2)


def keeps_the_last(losses, patience):
    stopped, kept = early(losses, patience)
    return stopped, kept if stopped - kept == patience else stopped


CASES = [
    ("training.1", gradient, "✓"),
    ("training.1", by_autograd, "✓"),
    ("training.1", in_numpy, "✓"),
    ("training.1", lambda z, y: gradient(z, y).tolist(), "✓"),
    ("training.1", naive, "at a logit of 1000"),
    ("training.1", lambda z, y: gradient(z.clamp(-50, 50), y), "makes both alike"),
    ("training.1", lambda z, y: naive(z, y).nan_to_num(1.0), "makes both alike"),
    ("training.1", lambda z, y: -gradient(z, y), "points uphill"),
    ("training.1", lambda z, y: one_hot(y, z) - z.softmax(1), "points uphill"),
    ("training.1", lambda z, y: gradient(z, y) * len(z), "division by the number of images"),
    ("training.1", lambda z, y: (z.softmax(1) - one_hot(y, z)) / z.numel(), "number of entries"),
    ("training.1", lambda z, y: z.softmax(1), "returned the probabilities"),
    ("training.1", lambda z, y: z.softmax(1) / len(z), "returned the probabilities"),
    ("training.1", lambda z, y: (z - one_hot(y, z)) / len(z), "from the logits"),
    ("training.1", lambda z, y: (z.sigmoid() - one_hot(y, z)) / len(z), "sigmoid of each logit"),
    ("training.1", lambda z, y: (z.log_softmax(1) - one_hot(y, z)) / len(z), "log-probabilities"),
    ("training.1", lambda z, y: (z.softmax(0) - one_hot(y, z)) / len(z), "dim=1"),
    ("training.1", lambda z, y: F.cross_entropy(z, y), "you returned one number"),
    ("training.1", lambda z, y: gradient(z, y)[:, 0], "returned shape (4,)"),
    ("training.1", lambda z, y: torch.zeros_like(z), "for logits [["),
    (
        "training.1",
        lambda z, y: (z.softmax(1) - F.one_hot(y)) / len(z),
        "stopped with RuntimeError",
    ),
    ("training.1", lambda z, y: "steep", "expected a number"),
    ("training.1", 0.3, "expected a function"),
    ("training.2", descend, "✓"),
    ("training.2", lambda *a: torch.stack(descend(*a)), "✓"),
    ("training.2", lambda *a: torch.stack(descend(*a)).numpy(), "✓"),
    ("training.2", lambda *a: tuple(descend(*a)), "✓"),
    ("training.2", by_torch, "✓"),
    ("training.2", classical, "✓"),
    ("training.2", lambda *a: 3.0, "the whole path"),
    ("training.2", lambda *a: [], "it is empty"),
    ("training.2", lambda *a: ["a", "b"], "the whole path"),
    ("training.2", lambda *a: descend(*a)[0][:, None].expand(3, 4), "one has the shape (4,)"),
    ("training.2", lambda *a: descend(*a)[-1], "the last point alone"),
    ("training.2", lambda *a: descend(*a)[1:], "the start is missing"),
    ("training.2", lambda *a: descend(*a)[:-1], "expected 6 points and got 5"),
    ("training.2", lambda *a: descend(*a[:4], a[4] + 1), "expected 6 points and got 7"),
    ("training.2", in_place, "all points of the path"),
    ("training.2", lambda *a: in_place(*a, clone=True), "all points of the path"),
    ("training.2", lambda *a: in_place(*a, later=True), "is not the theta that was given"),
    ("training.2", with_fault(sign=1), "uphill"),
    ("training.2", with_fault(velocity=lambda v, g, mu: g), "momentum does nothing"),
    ("training.2", with_fault(velocity=lambda v, g, mu: mu * v + (1 - mu) * g), "a running mean"),
    ("training.2", with_fault(step=lambda v, old, g, mu: g + mu * v), "Nesterov"),
    ("training.2", with_fault(step=lambda v, old, g, mu: old), "of the step before"),
    ("training.2", lambda f, x, *a: descend(lambda theta: f(x), x, *a), "at the start in every"),
    ("training.2", lambda f, x, lr, *a: descend(f, x, 1.0, *a), "learning rate does nothing"),
    ("training.2", lambda f, x, lr, *a: descend(f, x, lr * lr, *a), "or does it twice"),
    ("training.2", with_fault(step=lambda v, old, g, mu: mu * v), "enters twice"),
    ("training.2", shrinks_theta, "shrank theta itself"),
    ("training.2", lambda f, x, *a: descend(f, x, *a, velocity=f(x)), "the velocity is 0 before"),
    ("training.2", with_fault(velocity=lambda v, g, mu: mu * v + 2 * g), "after step 1 I expected"),
    ("training.3", (0.07, 0.6), "✓"),
    ("training.3", torch.tensor([0.11, 0.45]), "✓"),
    ("training.3", [np.float32(0.07), 0.6], "✓"),
    ("training.3", (0.2, 0.5), "beyond the limit 2(1 + μ)/λ_max = 0.12"),
    ("training.3", (0.08, 0.0), "beyond the limit"),
    ("training.3", (2 / 26, 0.0), "without momentum no rate does it"),
    ("training.3", (0.02, 0.5), "creeps along the valley floor"),
    ("training.3", (0.05, 0.9), "swings to and fro"),
    ("training.3", (0.119, 0.5), "from wall to wall"),
    ("training.3", (0.45, 0.11), "other way round it would be right"),
    ("training.3", (4 / 36, 4 / 6), "take its square"),
    ("training.3", (0.07, 0.7), "You are near"),
    ("training.3", (0.077, 0.1), "Raise the momentum first"),
    ("training.3", (0.085, 0.1), "Raise the momentum first"),
    ("training.3", (0.02, 0.4), "Raise the learning rate"),
    ("training.3", (-0.1, 0.5), "above 0"),
    ("training.3", (0.05, 1.0), "above 0"),
    ("training.3", (float("nan"), 0.5), "above 0"),
    ("training.3", 0.07, "two numbers"),
    ("training.3", torch.tensor(0.07), "two numbers"),
    ("training.3", (0.1, 0.2, 0.3), "two numbers"),
    ("training.3", ("fast", 0.5), "expected a number"),
    ("training.4", adamw, "✓"),
    ("training.4", adamw_in_place, "✓"),
    ("training.4", adamw_in_numpy, "✓"),
    ("training.4", mistake(no_correction), "bias correction is missing"),
    ("training.4", mistake(constant_correction), "The correction fades"),
    ("training.4", mistake(half_correction), "only one of the two means"),
    ("training.4", mistake(other_half), "only one of the two means"),
    ("training.4", mistake(corrected_state), "Carry the plain m and v"),
    ("training.4", mistake(late_epsilon), "inside the root"),
    ("training.4", mistake(early_epsilon), "before v is corrected"),
    ("training.4", mistake(decay_last), "after the step"),
    ("training.4", mistake(coupled), "Adam with L2"),
    ("training.4", mistake(decay_without_lr), "AdamW shrinks them by ηλ"),
    ("training.4", mistake(no_decay), "no weight decay"),
    ("training.4", mistake(no_epsilon), "no ε in it"),
    ("training.4", mistake(no_root), "divided by v̂"),
    ("training.4", mistake(uphill), "sign of the step"),
    ("training.4", mistake(one_late), "counted t from 0"),
    ("training.4", mistake(one_early), "counted t from 0"),
    ("training.4", mistake(one_early_in_floats), "counted t from 0"),
    ("training.4", mistake(exchanged), "are exchanged"),
    ("training.4", mistake(not_squared), "mean of g²"),
    ("training.4", mistake(old_means), "Update them first"),
    ("training.4", mistake(lost_state), "θ is right after the first step"),
    ("training.4", mistake(exchanged_means), "m and v are exchanged"),
    ("training.4", mistake(theta_last), "after step 1 I expected"),
    ("training.4", mistake(negative_square), "after step 1 θ is [nan, nan, nan]"),
    ("training.4", mistake(times_t), "after step 2 θ is [nan, nan, nan]"),
    ("training.4", mistake(faster_later), "after step 2 I expected"),
    ("training.4", lambda *a, **k: adamw(*a, **k)[0], "three things"),
    ("training.4", lambda *a, **k: (1.0, 2.0, 3.0), "three things"),
    ("training.4", lambda x, g, m, v, *a, **k: (x, m, v), "after step 1 I expected"),
    ("training.4", lambda *a, **k: ("x", "m", "v"), "three things"),
    ("training.5", epoch, "✓"),
    ("training.5", lambda *a: torch.tensor(epoch(*a)), "✓"),
    ("training.5", with_a_loader, "✓"),
    ("training.5", lambda *a: epoch(*a, how="cleared at the end"), "✓"),
    ("training.5", lambda m, o, x, *a: epoch(m, o, to_float(x), *a), "✓"),
    ("training.5", lambda *a: epoch(*a, how="running mean"), "✓"),
    ("training.5", lambda *a: epoch(*a, how="eval"), "Call model.train() first"),
    ("training.5", lambda *a: epoch(*a, how="whole"), "all images at once"),
    (
        "training.5",
        lambda *a: epoch(*a, how="chunk"),
        "batches of 4, 4 and 3 images and got [3, 3, 3, 2]",
    ),
    ("training.5", lambda *a: epoch(*a, how="drop"), "3 of 11 were not"),
    ("training.5", lambda *a: epoch(*a, how="replace"), "each image is used once"),
    ("training.5", lambda *a: epoch(*a, how="two"), "11 several times"),
    ("training.5", lambda *a: epoch(*a, how="no batch"), "11 of 11 were not"),
    ("training.5", lambda *a: epoch(*a, how="ordered"), "order in which they lie"),
    ("training.5", lambda *a: epoch(*a, how="global"), "does not follow from rng"),
    ("training.5", lambda *a: epoch(*a, how="reseeded"), "does not follow from rng"),
    ("training.5", lambda *a: epoch(*a, how="labels"), "the labels are not"),
    ("training.5", lambda *a: epoch(*a, how="two orders"), "shuffled by two draws"),
    ("training.5", lambda *a: epoch(*a, how="kept"), "gradients pile up"),
    ("training.5", lambda *a: epoch(*a, how="no step"), "the weights are what they were"),
    ("training.5", lambda *a: epoch(*a, how="cleared before the step"), "the weights are what"),
    ("training.5", lambda *a: epoch(*a, how="late"), "between the loss and backward"),
    ("training.5", lambda *a: epoch(*a, how="softmax"), "gave probabilities"),
    ("training.5", lambda *a: epoch(*a, how="sum"), "down the sum"),
    ("training.5", lambda *a: epoch(*a, how="two steps"), "not those that these batches give"),
    ("training.5", lambda *a: epoch(*a, how="batches"), "all batches count alike"),
    ("training.5", lambda *a: epoch(*a, how="one size"), "all batches count alike"),
    ("training.5", lambda *a: epoch(*a, how="last"), "loss of the last batch"),
    ("training.5", lambda *a: epoch(*a, how="added"), "the sum over batches"),
    ("training.5", lambda *a: epoch(*a, how="total"), "the sum over images"),
    ("training.5", lambda *a: epoch(*a, how="share"), "divided by the number of batches"),
    ("training.5", lambda *a: epoch(*a, how="after"), "again at the end"),
    ("training.5", lambda *a: epoch(*a, how="after in training"), "again at the end"),
    ("training.5", lambda *a: epoch(*a, how="list"), "one number, the mean loss"),
    ("training.5", lambda *a: epoch(*a) + 0.1, "the weights are right; for the mean loss"),
    ("training.5", lambda *a: epoch(*a) and None, "returned None"),
    ("training.6", evaluate, "✓"),
    ("training.6", lambda *a: list(evaluate(*a)), "✓"),
    ("training.6", lambda *a: torch.tensor(evaluate(*a)), "✓"),
    ("training.6", lambda *a: evaluate(*a, how="recorded"), "✓"),
    ("training.6", lambda *a: evaluate(*a, how="recorded tensors"), "✓"),
    ("training.6", lambda *a: evaluate(*a, how="training"), "was in training mode"),
    ("training.6", lambda *a: evaluate(*a, how="steps"), "is not what it was"),
    ("training.6", lambda *a: evaluate(*a, how="backward"), "you called backward"),
    (
        "training.6",
        lambda m, x, y, size: evaluate(m, x, y, len(x)),
        "11 images at once, and 4 were",
    ),
    ("training.6", lambda m, x, y, size: evaluate(m, x[:-1], y[:-1], size), "1 of 11 were not"),
    ("training.6", lambda *a: evaluate(*a, how="batches"), "all batches count alike"),
    ("training.6", lambda *a: evaluate(*a, how="one size"), "all batches count alike"),
    ("training.6", lambda *a: evaluate(*a, how="last"), "of the last batch"),
    ("training.6", lambda *a: evaluate(*a, how="sums"), "you returned sums"),
    ("training.6", lambda *a: evaluate(*a, how="hits"), "you returned sums"),
    ("training.6", lambda *a: evaluate(*a)[::-1], "(loss, accuracy)"),
    ("training.6", lambda *a: evaluate(*a, how="percent"), "not per cent"),
    ("training.6", lambda *a: evaluate(*a, how="errors"), "share of wrong answers"),
    ("training.6", lambda *a: evaluate(*a, how="half"), "p above ½"),
    ("training.6", lambda *a: evaluate(*a, how="softmax"), "gave probabilities"),
    ("training.6", lambda *a: evaluate(*a)[0], "and got a float"),
    ("training.6", lambda *a: (*evaluate(*a), 1), "and got a tuple"),
    ("training.6", lambda *a: (evaluate(*a) and "a", 1), "expected a number"),
    ("training.6", lambda *a: scaled(evaluate(*a), 2, 1), "the accuracy is right"),
    ("training.6", lambda *a: scaled(evaluate(*a), 1, 0.5), "the loss is right"),
    ("training.6", lambda *a: scaled(evaluate(*a), 3, 0.5), "I expected ("),
    ("training.7", early, "✓"),
    ("training.7", early_in_numpy, "✓"),
    ("training.7", lambda *a: torch.tensor(early(*a)), "✓"),
    ("training.7", lambda *a: tuple(e - 1 for e in early(*a)), "counted epochs from 0"),
    ("training.7", lambda *a: (early(*a)[0] - 1, early(*a)[1]), "or counted it from 0"),
    ("training.7", lambda *a: (early(*a)[0], early(*a)[1] - 1), "that is kept from 0"),
    ("training.7", lambda *a: early(*a)[::-1], "other way round"),
    ("training.7", lambda x, p: early(x, p + 1), "one epoch too long"),
    ("training.7", lambda x, p: early(x, p - 1), "one epoch too early"),
    ("training.7", beside_the_last, "with the epoch before"),
    ("training.7", lambda x, p: (early(x, p)[0], int(np.argmin(x)) + 1), "lowest of all epochs"),
    ("training.7", lambda x, p: (len(x), int(np.argmin(x)) + 1), "Training ends earlier"),
    ("training.7", resumed, "after it had stopped"),
    ("training.7", with_ties, "an equal loss"),
    ("training.7", never_counts_again, "starts the count again"),
    ("training.7", never_stops, "it stops with the last epoch, 5"),
    ("training.7", lambda x, p: (9, 9), "expected (stopped, kept) = (5, 2)"),
    ("training.7", lambda x, p: 5, "two whole numbers"),
    ("training.7", lambda x, p: ("a", "b"), "expected a number"),
    ("training.7", keeps_the_last, "and keeps the lowest, epoch 2; got (4, 4)"),
]


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args, **options): ...

    def broken(*args, **options):
        return args[99]

    untouched = {"training.3": (..., ...)}.get(id, stub)
    check(id, untouched)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if untouched is stub:
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# Of exercise 3 many answers are right.
EQUIVALENT = [
    "training.6: loss, hits = (0.0, 0) → hits, loss = (0.0, 0)",
    "training.6: loss, hits = (0.0, 0) → loss, hits = (0, 0.0)",
]


def test_no_changed_solution_is_called_right():
    assert ticked("09_training", "training", without=("training.3",)) == EQUIVALENT
