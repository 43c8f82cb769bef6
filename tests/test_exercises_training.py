"""Checks of training, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlab.exercises import check
from medlab.exercises.training import CAUSES, MESSAGES
from tests.learners import unheard


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


ANSWERS = dict(CAUSES)
CASES = [
    ("training.1", gradient, "✓"),
    ("training.1", by_autograd, "✓"),
    ("training.1", in_numpy, "✓"),
    ("training.1", lambda z, y: gradient(z, y).tolist(), "✓"),
    ("training.1", naive, "at a logit of 1000"),
    ("training.1", lambda z, y: -gradient(z, y), "points uphill"),
    ("training.1", lambda z, y: one_hot(y, z) - z.softmax(1), "points uphill"),
    ("training.1", lambda z, y: gradient(z, y) * len(z), "division by the number of images"),
    ("training.1", lambda z, y: (z.softmax(1) - one_hot(y, z)) / z.numel(), "number of entries"),
    ("training.1", lambda z, y: z.softmax(1), "returned the probabilities"),
    ("training.1", lambda z, y: z.softmax(1) / len(z), "returned the probabilities"),
    ("training.1", lambda z, y: (z - one_hot(y, z)) / len(z), "from the logits"),
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
    ("training.2", lambda h: 2 / torch.linalg.eigvalsh(h)[-1], "✓"),
    ("training.2", lambda h: 2 / max(np.linalg.eigvalsh(h.numpy())), "✓"),
    ("training.2", lambda h: 2 / np.linalg.eigvals(h.numpy()).max(), "✓"),
    (
        "training.2",
        lambda h: 2 / torch.linalg.eigvals(h)[torch.linalg.eigvals(h).abs().argmax()],
        "✓",
    ),
    ("training.2", lambda h: 2 / torch.linalg.matrix_norm(h, 2), "✓"),
    ("training.2", lambda h: 1 / torch.linalg.eigvalsh(h)[-1], "up to twice that rate"),
    ("training.2", lambda h: 2 / torch.linalg.eigvalsh(h)[0], "flattest direction"),
    ("training.2", lambda h: 1 / torch.linalg.eigvalsh(h)[0], "flattest direction"),
    ("training.2", lambda h: torch.linalg.eigvalsh(h)[-1], "not the rate"),
    ("training.2", lambda h: torch.linalg.eigvalsh(h)[-1] / 2, "other way round"),
    ("training.2", lambda h: 2 / torch.linalg.eigvalsh(h)[[0, -1]].sum(), "fastest descent"),
    ("training.2", lambda h: 2 / h.diagonal().max(), "off the diagonal"),
    ("training.2", lambda h: 2 / h.trace(), "used the trace"),
    ("training.2", lambda h: 2 / h.norm(), "norm of all entries"),
    ("training.2", lambda h: 0.25, "eigenvalues (3.0, 1.0, 0.2) I expected 0.6667"),
    ("training.2", lambda h: h, "expected a number"),
    ("training.3", (0.07, 0.6), "✓"),
    ("training.3", torch.tensor([0.11, 0.45]), "✓"),
    ("training.3", [np.float32(0.07), 0.6], "✓"),
    ("training.3", (0.2, 0.5), "beyond the limit 2(1 + μ)/λ_max = 0.12"),
    ("training.3", (0.08, 0.0), "beyond the limit"),
    ("training.3", (2 / 26, 0.0), "without momentum no rate does it"),
    ("training.3", (0.02, 0.5), "creeps along the valley floor"),
    ("training.3", (0.05, 0.9), "swings to and fro"),
    ("training.3", (0.119, 0.5), "from wall to wall"),
    ("training.3", (0.07, 0.72), "You are near"),
    ("training.3", (0.077, 0.1), "Raise the momentum first"),
    ("training.3", (0.085, 0.1), "Raise the momentum first"),
    ("training.3", (0.02, 0.3), "Raise the learning rate"),
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
    ("training.5", early, "✓"),
    ("training.5", early_in_numpy, "✓"),
    ("training.5", lambda *a: torch.tensor(early(*a)), "✓"),
    ("training.5", lambda *a: tuple(e - 1 for e in early(*a)), "counted epochs from 0"),
    ("training.5", lambda *a: early(*a)[::-1], "other way round"),
    ("training.5", lambda x, p: early(x, p + 1), "one epoch too long"),
    ("training.5", lambda x, p: early(x, p - 1), "one epoch too early"),
    ("training.5", beside_the_last, "with the epoch before"),
    ("training.5", lambda x, p: (early(x, p)[0], int(np.argmin(x)) + 1), "lowest of all epochs"),
    ("training.5", lambda x, p: (len(x), int(np.argmin(x)) + 1), "Training ends earlier"),
    ("training.5", resumed, "after it had stopped"),
    ("training.5", with_ties, "an equal loss"),
    ("training.5", never_counts_again, "starts the count again"),
    ("training.5", never_stops, "it stops with the last epoch, 5"),
    ("training.5", lambda x, p: (9, 9), "expected (stopped, kept) = (5, 2)"),
    ("training.5", lambda x, p: 5, "two whole numbers"),
    ("training.5", lambda x, p: ("a", "b"), "expected a number"),
    ("training.6", ANSWERS, "✓"),
    ("training.6", ANSWERS | {"A": ANSWERS["B"]}, "A: a schedule that starts again"),
    ("training.6", ANSWERS | {"B": ANSWERS["A"]}, "B: without Adam's m and v"),
    ("training.6", ANSWERS | {"D": ANSWERS["C"]}, "D: without the state of the generators"),
    ("training.6", ANSWERS | {"C": ANSWERS["D"]}, "C: the running means"),
    ("training.6", ANSWERS | {"C": "the weather"}, "C: choose one of"),
    ("training.6", ANSWERS | {"C": [1]}, "C: choose one of"),
    ("training.6", {"A": ANSWERS["A"]}, "each of A, B, C and D"),
    ("training.6", "m and v", "expected a dictionary"),
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

    untouched = {"training.3": (..., ...), "training.6": dict.fromkeys("ABCD", ...)}.get(id, stub)
    check(id, untouched)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if untouched is stub:
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []
