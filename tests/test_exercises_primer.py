"""Checks of the primer, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlab.exercises import check
from medlab.exercises.primer import MESSAGES
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

ONE, GRADIENT, LINEAR, LOG, BAYES = (f"primer.{k}" for k in range(11, 16))


def normalise(X, *, mean=(1, 2, 3), keep=True, power=1.0, shift=True):
    m, s = X.mean(mean, keepdim=keep), X.std(mean, keepdim=keep)
    return (X - m * shift) / s**power


def normalise_in_place(X):
    X -= X.mean((1, 2, 3), keepdim=True)
    X /= X.std((1, 2, 3), keepdim=True)
    return X


def in_numpy(X):
    X = X.numpy()
    return (X - X.mean((1, 2, 3), keepdims=True)) / X.std((1, 2, 3), keepdims=True)


def in_a_loop(X):
    return torch.stack([(x - x.mean()) / x.std() for x in X])


def to_one(X):
    low, high = X.amin((1, 2, 3), keepdim=True), X.amax((1, 2, 3), keepdim=True)
    return (X - low) / (high - low)


def bare(X):
    return (X - X.mean((1, 2, 3))) / X.std((1, 2, 3))


def bare_where_it_fits(X):
    """A learner who tried it on a square batch, and mends the other case by hand."""
    return bare(X) if X.shape[0] == X.shape[-1] else normalise(X)


def slopes(f, p, *, h=1e-5, over=2.0, sign=1.0, restore=True):
    answer, q = torch.zeros_like(p), p.clone()
    for k in range(len(p)):
        up, down = q.clone(), q.clone()
        up[k], down[k] = up[k] + h, down[k] - h
        answer[k] = sign * (f(up) - f(down)) / (over * h)
    return answer


def forwards(f, p):
    return [(f(p + step) - f(p)) / 1e-6 for step in 1e-6 * torch.eye(len(p), dtype=p.dtype)]


def by_autograd(f, p):
    p = p.clone().requires_grad_()
    f(p).backward()
    return p.grad


def by_numpy(f, p):
    p = p.numpy()
    steps = 1e-4 * np.eye(len(p))
    return np.array([(f(p + s) - f(p - s)) / 2e-4 for s in steps])


def together(f, p):
    return (f(p + 1e-5) - f(p - 1e-5)) / 2e-5


def together_each(f, p):
    return torch.full_like(p, together(f, p))


def one_point_twice(f, p):
    """Two names of one tensor: what is added to it is taken away again."""
    answer = torch.zeros_like(p)
    for k in range(len(p)):
        up = down = p
        up[k] += 0.01
        down[k] -= 0.01
        answer[k] = (f(up) - f(down)) / 0.02
    return answer


def not_put_back(f, p):
    """Each entry moved in the same copy: when k moves, those before it have stayed moved."""
    answer, q, base = [], p.clone(), f(p)
    for k in range(len(p)):
        q[k] += 1e-6
        answer.append((f(q) - base) / 1e-6)
    return torch.stack(answer)


def moved(f, p):
    answer = torch.zeros_like(p)
    for k in range(len(p)):
        p[k] += 1e-5
        up = f(p)
        p[k] -= 2e-5
        answer[k] = (up - f(p)) / 2e-5
    return answer


def not_divided(f, p):
    return slopes(f, p, h=1e-5, over=1e5)


def linear_by_loops(W, X, b):
    answer = [[b[i].item()] * len(X) for i in range(len(W))]
    for k in range(len(X)):
        for i in range(len(W)):
            for j in range(len(W[0])):
                answer[i][k] += (W[i, j] * X[k, j]).item()
    return [list(row) for row in zip(*answer, strict=True)]


def square_only(right, wrong):
    """Another answer where the matrix is square, and nothing stops."""
    return lambda W, X, b: (wrong if W.shape[0] == W.shape[1] else right)(W, X, b)


def right_linear(W, X, b):
    return X @ W.T + b


def bayes(p, se, sp):
    return p * se / (p * se + (1 - p) * (1 - sp))


CASES = [
    ("primer.1", (10, 48), "✓"),
    ("primer.1", torch.Size([10, 48]), "✓"),
    ("primer.1", np.array([10, 48]), "✓"),
    ("primer.1", (11, 48), "its end is not part of it"),
    ("primer.1", [1, 1, 10, 48], "only a slice keeps its axis"),
    ("primer.1", (64, 10), "10:20 stands in the third place"),
    ("primer.1", (10,), "all 48 columns"),
    ("primer.1", (10, 64), "the last has size 48"),
    ("primer.1", "(10, 48)", "a shape, such as (2, 3), and got str"),
    ("primer.1", {10, 48}, "a shape, such as (2, 3), and got set"),
    ("primer.1", (48, 10), "it is not [48, 10]"),
    ("primer.2", [5, 3, 4], "✓"),
    ("primer.2", (5, 3), "from the right"),
    ("primer.2", (5, 1, 4), "is stretched"),
    ("primer.2", (3, 4), "stays: 5"),
    ("primer.2", (5, 4, 3), "it is not"),
    ("primer.3", torch.tensor([44, 200], dtype=torch.uint8), "✓"),
    ("primer.3", [44, 200], "✓"),
    ("primer.3", (300, 200), "300 does not fit"),
    ("primer.3", (255, 200), "nothing stops at 255"),
    ("primer.3", (45, 200), "256 values"),
    ("primer.3", (-56, -56), "it is not [-56, -56]"),
    ("primer.3", (-56, 200), "has no sign"),
    ("primer.3", 44, "it is not 44"),
    ("primer.3", "44, 200", "2 numbers, and got str"),
    ("primer.4", 2, "✓"),
    ("primer.4", torch.tensor([2.0]), "✓"),
    ("primer.4", -3, "that is f(3)"),
    ("primer.4", 6, "you left it out"),
    ("primer.4", 7, "it is not 7"),
    ("primer.4", (2, -4), "a number, and got shape (2,)"),
    ("primer.4", "2x - 4", "a number, and got str"),
    ("primer.4", float("nan"), "a number"),
    ("primer.4", "2", "a number, and got"),
    ("primer.6", ["12", "5"], "2 numbers, and got"),
    ("primer.5", 24.0, "✓"),
    ("primer.5", 8, "outer slope alone"),
    ("primer.5", 6, "not at w"),
    ("primer.5", 12, "you took u"),
    ("primer.5", 16, "L(1)"),
    ("primer.5", 18, "it is not 18"),
    ("primer.6", (12, 5), "✓"),
    ("primer.6", [5, 12], "first the slope for x"),
    ("primer.6", (12, 4), "has a slope for y"),
    ("primer.6", (4, 5), "it is 2xy"),
    ("primer.6", (13, 5), "no slope for x"),
    ("primer.6", 17, "it is not 17"),
    ("primer.7", torch.tensor([12, 34, 56]), "✓"),
    ("primer.7", [[10, 2], [30, 4], [50, 6]], "ends in one sum"),
    ("primer.7", (21, 43, 65), "second meets 1"),
    ("primer.7", [[12], [34], [56]], "is a vector"),
    ("primer.7", 102, "it is not 102"),
    ("primer.8", -6.9, "✓"),
    ("primer.8", math.log(0.001), "✓"),
    ("primer.8", 6.9, "its logarithm is negative"),
    ("primer.8", -3, "base 10"),
    ("primer.8", 0.0023, "a product becomes a sum"),
    ("primer.8", -4.6, "three times over"),
    ("primer.8", -7.2, "it is not -7.2"),
    ("primer.9", 20, "✓"),
    ("primer.9", np.sqrt(400), "✓"),
    ("primer.9", 400, "the variance"),
    ("primer.9", 0.05, "relative noise"),
    ("primer.9", 10, "it is not 10"),
    ("primer.10", 9 / 108, "✓"),
    ("primer.10", 0.08, "✓"),
    ("primer.10", 0.9, "I asked the reverse"),
    ("primer.10", 0.009, "only at those called ill"),
    ("primer.10", 9 / 99, "9 + 99"),
    ("primer.10", 0.108, "the share called ill"),
    ("primer.10", 99 / 108, "is healthy"),
    ("primer.10", 8.333, "divide by 100"),
    ("primer.10", 0.5, "it is not 0.5"),
    (ONE, normalise, "✓"),
    (ONE, in_numpy, "✓"),
    (ONE, in_a_loop, "✓"),
    (ONE, bare, "`keepdim=True` leaves (N, 1, 1, 1), one number an image"),
    (ONE, bare_where_it_fits, "and nothing stops"),
    (ONE, lambda X: (X - X.mean()) / X.std(), "of the whole batch"),
    (ONE, lambda X: (X - X.mean(0)) / X.std(0), "averaged over the images"),
    (ONE, lambda X: normalise(X, mean=(2,)), "over one axis"),
    (ONE, lambda X: normalise(X, mean=(3,)), "over one axis"),
    (ONE, lambda X: normalise(X, power=0), "the spread is not 1"),
    (ONE, lambda X: normalise(X, power=2), "by the variance"),
    (ONE, lambda X: normalise(X, shift=False), "the mean is still there"),
    (ONE, lambda X: X - X.mean((1, 2, 3), True) / X.std((1, 2, 3), keepdim=True), "(X − mean)"),
    (ONE, to_one, "0…1"),
    (ONE, normalise_in_place, "Make new ones"),
    (ONE, lambda X: X.flatten(1), "expected shape (3, 1, 6, 5), and got shape (3, 30)"),
    (ONE, lambda X: "X", "got str"),
    (ONE, lambda X: -normalise(X) * 3, "and standard deviation"),
    (GRADIENT, slopes, "✓"),
    (GRADIENT, forwards, "✓"),
    (GRADIENT, by_autograd, "✓"),
    (GRADIENT, by_numpy, "✓"),
    (GRADIENT, together, "all entries at once"),
    (GRADIENT, together_each, "all entries at once"),
    (GRADIENT, lambda f, p: slopes(f, p, over=1), "by 0.5 of what you should"),
    (GRADIENT, lambda f, p: slopes(f, p, over=4), "by 2 of what you should"),
    (GRADIENT, not_divided, "by the distance"),
    (GRADIENT, lambda f, p: slopes(f, p, sign=-1), "the sign is reversed"),
    (GRADIENT, not_put_back, "was not put back"),
    (GRADIENT, moved, "Move a copy: p.clone()"),
    (GRADIENT, one_point_twice, "one tensor under two names"),
    (GRADIENT, lambda f, p: slopes(f, p, h=0.3), "h is too large"),
    (GRADIENT, lambda f, p: slopes(f, p, h=1e-20), "rounding is all that is left"),
    (GRADIENT, lambda f, p: slopes(f, p, h=0.0), "rounding is all that is left"),
    (GRADIENT, lambda f, p: 3.3, "one slope for each of the 2 entries"),
    (GRADIENT, lambda f, p: f(p), "that is f(p)"),
    (GRADIENT, lambda f, p: [1, 2, 3], "expected shape (2,), and got shape (3,)"),
    (
        GRADIENT,
        lambda f, p: slopes(f, p).flip(0),
        "entry 1 of the gradient at (2.0, 3.0) should be 5.000",
    ),
    (LINEAR, right_linear, "✓"),
    (LINEAR, linear_by_loops, "✓"),
    (LINEAR, lambda W, X, b: F.linear(X, W, b), "✓"),
    (LINEAR, lambda W, X, b: np.einsum("ij,kj->ki", W, X) + b.numpy(), "✓"),
    (LINEAR, lambda W, X, b: X @ W.T, "b is not added"),
    (LINEAR, lambda W, X, b: X @ W + b, "which index is summed"),
    (LINEAR, square_only(right_linear, lambda W, X, b: X @ W + b), "over the other index"),
    (LINEAR, lambda W, X, b: W @ X.T + b[:, None], "on its side"),
    (LINEAR, square_only(right_linear, lambda W, X, b: X @ W.T + b[:, None]), "along the rows"),
    (LINEAR, lambda W, X, b: b.expand(len(X), len(b)), "left no trace"),
    (LINEAR, lambda W, X, b: X @ W.T - b, "entry [0, 0]"),
    (LINEAR, lambda W, X, b: X[0] @ W.T + b, "expected shape (4, 2), and got shape (2,)"),
    (LINEAR, lambda W, X, b: {}, "got dict"),
    (LOG, lambda p: p.log().sum(), "✓"),
    (LOG, lambda p: np.log(p.numpy()).sum(), "✓"),
    (LOG, lambda p: sum(math.log(v) for v in p), "✓"),
    (LOG, lambda p: p.prod().log(), "became 0"),
    (LOG, lambda p: p.double().prod().log(), "became 0"),
    (LOG, lambda p: p.sum().log(), "logarithm of the sum"),
    (LOG, lambda p: p.log().mean(), "mean of the logarithms"),
    (LOG, lambda p: p.log10().sum(), "another base"),
    (LOG, lambda p: p.log2().sum(), "another base"),
    (LOG, lambda p: -p.log().sum(), "the sign is reversed"),
    (LOG, lambda p: p.prod(), "I asked for its logarithm"),
    (LOG, lambda p: p.log(), "expected a number"),
    (LOG, lambda p: p.log().max(), "I expected -2.303"),
    (BAYES, bayes, "✓"),
    (BAYES, lambda p, se, sp: np.float32(bayes(p, se, sp)), "✓"),
    (BAYES, lambda p, se, sp: se, "you returned P(positive | ill)"),
    (BAYES, lambda p, se, sp: p * se, "Divide by all the positive"),
    (BAYES, lambda p, se, sp: p * se + (1 - p) * (1 - sp), "share of all people who are positive"),
    (BAYES, lambda p, se, sp: p * se / (p * se + (1 - p) * sp), "are the share 1 − specificity"),
    (BAYES, lambda p, se, sp: p * se / (p * se + 1 - sp), "of the *healthy*"),
    (BAYES, lambda p, se, sp: se / (se + 1 - sp), "counts for the ill alone"),
    (BAYES, lambda p, se, sp: p * se / ((1 - p) * (1 - sp)), "true and false"),
    (BAYES, lambda p, se, sp: bayes(1 - p, sp, se), "P(healthy | negative)"),
    (BAYES, lambda p, se, sp: 1 - bayes(p, se, sp), "P(healthy | positive)"),
    (BAYES, lambda p, se, sp: 100 * bayes(p, se, sp), "in per cent"),
    (BAYES, lambda p, se, sp: 0.123, "I expected 0.154, and got 0.123"),
    (BAYES, lambda p, se, sp: (p, se), "expected a number"),
]


@pytest.mark.parametrize("id, answer, said", CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", [ONE, GRADIENT, LINEAR, LOG, BAYES])
def test_untouched_is_not_attempted_and_errors_are_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


@pytest.mark.parametrize("k", range(1, 11))
@pytest.mark.parametrize("untouched", [..., (..., ...), [1, ...]])
def test_an_untouched_question_is_not_attempted(k, untouched, capsys):
    check(f"primer.{k}", untouched)
    assert capsys.readouterr().out.startswith(f"○ primer.{k} not attempted yet")


def test_every_message_is_heard(capsys):
    own = {id: {k: t for k, t in table.items() if t != "I expected {want}, and got {got}."}
           for id, table in MESSAGES.items()}  # fmt: skip
    assert unheard(own, CASES, capsys) == []


# Two decimals are asked for; there is one channel; each slope is written over; a name for a copy.
EQUIVALENT = [
    "primer.10: probability = 9 / 108 → probability = 9 / 107",
    "primer.10: probability = 9 / 108 → probability = 9 / 109",
    *(
        f"primer.11: {name} = X.{way}((1, 2, 3), keepdim=True) → {name} = X.{way}({axes}, "
        "keepdim=True)"
        for name, way in (("mean", "mean"), ("sd", "std"))
        for axes in ("(2, 1, 3)", "(2, 3)")
    ),
    "primer.12: slopes = torch.zeros_like(p) → slopes = torch.ones_like(p)",
    "primer.12: up, down = (p.clone(), p.clone()) → down, up = (p.clone(), p.clone())",
]


def test_a_changed_solution_is_not_ticked():
    assert ticked("primer", "primer") == EQUIVALENT
