"""Checks of evaluation, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)

from medlab import metrics
from medlab.exercises.evaluation import MESSAGES
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked


def counts(labels, called):
    ill = labels == 1
    return (
        (called & ill).sum(),
        (called & ~ill).sum(),
        (~called & ~ill).sum(),
        (~called & ill).sum(),
    )


def ratios(tp, fp, tn, fn):
    return tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)


def evaluate(labels, scores, threshold):
    return ratios(*counts(labels, scores >= threshold))


def by_loop(labels, scores, threshold):
    tp = fp = tn = fn = 0
    for label, score in zip(labels, scores, strict=True):
        called = score >= threshold
        tp += called and label == 1
        fp += called and label == 0
        tn += not called and label == 0
        fn += not called and label == 1
    return list(ratios(tp, fp, tn, fn))


def in_scikit(labels, scores, threshold):
    tn, fp, fn, tp = confusion_matrix(labels, scores >= threshold).ravel()
    return torch.tensor(ratios(tp, fp, tn, fn))


def taken(*order, of=evaluate):
    return lambda *given: [of(*given)[k] for k in order]


def changed(k, by):
    """One of the four ratios has another denominator or numerator: `by` of the counts."""

    def answer(labels, scores, threshold):
        result = list(evaluate(labels, scores, threshold))
        result[k] = by(*counts(labels, scores >= threshold))
        return result

    return answer


def of_counts(change):
    return lambda y, s, t: change(*counts(y, s >= t))


def ppv(se, sp, pi):
    return pi * se / (pi * se + (1 - pi) * (1 - sp))


def rates(change=lambda tp, fp, n1, n0: (fp / n0, tp / n1), called=np.greater_equal):
    """Points at every distinct score, changed in one way."""

    def answer(labels, scores):
        ill = labels == 1
        points = [change(0, 0, ill.sum(), (~ill).sum())]
        for t in np.unique(scores)[::-1]:
            on = called(scores, t)
            points.append(change((on & ill).sum(), (on & ~ill).sum(), ill.sum(), (~ill).sum()))
        return points

    return answer


roc = rates()


def one_by_one(labels, scores):
    order = np.argsort(-scores, kind="stable")
    y = labels[order]
    return [(0, 0)] + [((y[:k] == 0).sum() / 8, (y[:k] == 1).sum() / 4) for k in range(1, 13)]


def recall_precision(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.stack([recall, precision], 1)[::-1]


def average(labels, scores, *, how=""):
    ill = labels == 1
    recalls, precisions = [0.0], [1.0]
    for t in np.unique(scores)[::-1]:
        on = scores >= t
        recalls.append((on & ill).sum() / ill.sum())
        precisions.append((on & ill).sum() / on.sum())
    r, p = np.array(recalls), np.array(precisions)
    gain = np.diff(r)
    return {
        "": lambda: (gain * p[1:]).sum(),
        "first": lambda: (gain[1:] * p[2:]).sum(),
        "trapezoid": lambda: (gain * (p[1:] + p[:-1]) / 2).sum(),
        "trapezoid without the first": lambda: (gain[1:] * (p[2:] + p[1:-1]) / 2).sum(),
        "before": lambda: (gain * p[:-1]).sum(),
        "unweighted": lambda: p[1:].mean(),
        "total recall": lambda: (r * p).sum(),
        "envelope": lambda: (gain * np.maximum.accumulate(p[:0:-1])[::-1]).sum(),
        "counts": lambda: ill.sum() * (gain * p[1:]).sum(),
    }[how]()


def ap(how):
    return lambda y, s: average(y, s, how=how)


def split_ties(order):
    def answer(labels, scores):
        y = labels[order(labels, scores)] == 1
        return (np.cumsum(y) / np.arange(1, len(y) + 1))[y].sum() / y.sum()

    return answer


def unsorted(of, otherwise):
    """Right where the scores come in the order of the check, and only there."""
    return lambda y, s: of(y, s) if s[0] in (0.1, 3) else otherwise


def rest(matrix, k, *, how=""):
    matrix = np.asarray(matrix)
    tp, row, column, n = matrix[k, k], matrix[k].sum(), matrix[:, k].sum(), matrix.sum()
    fp, fn = column - tp, row - tp
    tn = n - tp - fp - fn
    return {
        "": lambda: (tp, fp, tn, fn),
        "transposed": lambda: (tp, fn, tn, fp),
        "diagonal": lambda: (tp, fp, np.trace(matrix) - tp, fn),
        "corner": lambda: (tp, fp, n - row - column, fn),
        "rows": lambda: (tp, fp, n - tp, fn),
        "whole": lambda: (row, column, tn, fn),
        "fp": lambda: (tp, column, tn, fn),
        "fn": lambda: (tp, fp, tn, row),
        "order": lambda: (tp, fn, fp, tn),
        "shares": lambda: np.array((tp, fp, tn, fn)) / n,
        "one": lambda: (tp, fp, tn + 1, fn),
        "three": lambda: (tp, fp, tn),
        "other": lambda: (0, 0, 0, 0),
        "third": lambda: (tp, fp, tn, fn) if n > 99 else (tp, fp, tn, fn + 2),
    }[how]()


def against(how):
    return lambda matrix, k: rest(matrix, k, how=how)


def loss(y, z, t):
    return np.logaddexp(0, (1 - 2 * y) * z / t).mean()


def on_grid(low, high, n, of=loss):
    grid = np.geomspace(low, high, n)
    return lambda y, z: grid[np.argmin([of(y, z, t) for t in grid])]


def by_scipy(y, z):
    return minimize_scalar(lambda t: loss(y, z, t), bounds=(0.05, 20), method="bounded").x


def by_torch(y, z):
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_t], max_iter=50)
    y, z = torch.tensor(y).double(), torch.tensor(z)

    def closure():
        optimiser.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(z / log_t.exp(), y)
        value.backward()
        return value

    optimiser.step(closure)
    return log_t.exp()


def by_newton(y, z):
    beta = 0.0
    for _ in range(50):
        q = 1 / (1 + np.exp(-beta * z))
        beta -= ((q - y) * z).mean() / (q * (1 - q) * z**2).mean()
    return 1 / beta


def of_class(k):
    return on_grid(0.05, 20, 600, lambda y, z, t: loss(y[y == k], z[y == k], t))


least_brier = on_grid(
    0.05, 20, 600, lambda y, z, t: np.mean((1 / (1 + np.exp(-np.clip(z / t, -30, 30))) - y) ** 2)
)


def search(price=lambda c, fn, fp, n1, n0: c * fn + fp, called=np.greater_equal, nobody=(np.inf,)):
    """The threshold of the least price, the first of several."""

    def answer(y, p, c):
        ill = y == 1
        tried = [*np.unique(p), *nobody]
        prices = [
            price(
                *(c, (ill & ~called(p, t)).sum(), (called(p, t) & ~ill).sum()),
                *(ill.sum(), (~ill).sum()),
            )
            for t in tried
        ]
        return tried[int(np.argmin(prices))]

    return answer


def on_grid_of(n):
    grid = torch.linspace(0, 1, n, dtype=torch.float64)
    return lambda y, p, c: grid[metrics.expected_cost(y, p, grid.numpy(), miss_cost=c).argmin()]


def least_cost(y, p, c):
    return metrics.expected_cost(y, p, search()(y, p, c), miss_cost=c) * len(y) / 1000


def place(y, p, c):
    return np.argmin([metrics.expected_cost(y, p, t, miss_cost=c) for t in np.unique(p)])


CASES = [
    ("evaluation.1", evaluate, "✓"),
    ("evaluation.1", by_loop, "✓"),
    ("evaluation.1", in_scikit, "✓"),
    ("evaluation.1", hasty(evaluate), "✓"),
    ("evaluation.1", lambda y, s, t: ratios(*counts(y, s > t)), "≥, not >"),
    ("evaluation.1", lambda y, s, t: ratios(*counts(y, s < t)), "called those below the threshold"),
    ("evaluation.1", lambda y, s, t: ratios(*counts(1 - y, s >= t)), "took label 0 for the ill"),
    ("evaluation.1", taken(2, 1, 0, 3), "sensitivity and PPV have changed"),
    ("evaluation.1", taken(0, 3, 2, 1), "specificity and NPV have changed"),
    ("evaluation.1", taken(2, 3, 0, 1), "denominators are swapped"),
    ("evaluation.1", taken(1, 0, 2, 3), "in another order"),
    ("evaluation.1", changed(1, lambda a, b, c, d: b / (b + c)), "was alarmed"),
    ("evaluation.1", of_counts(lambda *c: [c[k] / sum(c) for k in (0, 2, 0, 2)]), "all patients"),
    ("evaluation.1", of_counts(lambda *c: c), "you returned counts"),
    ("evaluation.1", of_counts(lambda *c: [100 * v for v in ratios(*c)]), "per cent"),
    ("evaluation.1", changed(0, lambda a, b, c, d: a / (a + b + c + d)), "a share of the ill"),
    ("evaluation.1", changed(1, lambda a, b, c, d: c / (c + d)), "a share of the healthy, TN"),
    ("evaluation.1", changed(2, lambda a, b, c, d: a / (a + d)), "a share of those called"),
    ("evaluation.1", changed(3, lambda a, b, c, d: c / (c + b)), "a share of those not called"),
    ("evaluation.1", lambda y, s, t: evaluate(y, s, 15 if t == 15 else 0.2), "with TP 4, FP 2"),
    ("evaluation.1", lambda *given: 0.5, "four numbers"),
    ("evaluation.1", lambda *given: ["a"] * 4, "expected four numbers, and got list"),
    ("evaluation.1", lambda *given: [np.nan] * 4, "with TP 4"),
    ("evaluation.2", ppv, "✓"),
    ("evaluation.2", lambda *v: torch.tensor(ppv(*v)), "✓"),
    ("evaluation.2", lambda se, sp, pi: 1 / (1 + (1 - pi) * (1 - sp) / (pi * se)), "✓"),
    ("evaluation.2", lambda se, sp, pi: se / (se + 1 - sp), "only where half are ill"),
    ("evaluation.2", lambda se, sp, pi: ppv(se, sp, 1 - pi), "the healthy by the prevalence"),
    ("evaluation.2", lambda se, sp, pi: pi * se / (pi * se + 1 - sp), "but not the healthy"),
    ("evaluation.2", lambda se, sp, pi: se / (se + (1 - pi) * (1 - sp)), "but not the ill"),
    (
        "evaluation.2",
        lambda se, sp, pi: pi * se / (pi * se + pi * (1 - sp)),
        "or cancels",
    ),
    ("evaluation.2", lambda se, sp, pi: pi * se / (pi * se + (1 - pi) * sp), "*not* spared"),
    (
        "evaluation.2",
        lambda se, sp, pi: pi * se / (pi * se + (1 - pi) * (1 - se)),
        "put those missed",
    ),
    ("evaluation.2", lambda se, sp, pi: pi * se / (pi * se + pi * (1 - se)), "P(called | ill)"),
    ("evaluation.2", lambda se, sp, pi: se, "P(called | ill)"),
    ("evaluation.2", lambda se, sp, pi: pi * se, "Divide by the share of all who are called"),
    ("evaluation.2", lambda se, sp, pi: pi * se + (1 - pi) * (1 - sp), "which part is ill"),
    ("evaluation.2", lambda se, sp, pi: (1 - pi) * sp / ((1 - pi) * sp + pi * (1 - se)), "the NPV"),
    ("evaluation.2", lambda *v: 1 - ppv(*v), "alarms that are false"),
    ("evaluation.2", lambda *v: ppv(*v) / (1 - ppv(*v)), "the odds"),
    ("evaluation.2", lambda *v: 100 * ppv(*v), "per cent"),
    ("evaluation.2", lambda *v: 0.135 / 0.305, "expected 0.8372"),
    ("evaluation.2", lambda *v: 0.1, "expected 0.4426"),
    ("evaluation.2", lambda *v: "a third", "expected a number"),
    ("evaluation.2", 0.33, "expected a function"),
    ("evaluation.3", roc, "✓"),
    ("evaluation.3", lambda y, s: np.array(roc(y, s)), "✓"),
    ("evaluation.3", lambda y, s: torch.tensor(np.array(roc(y, s))), "✓"),
    ("evaluation.3", lambda y, s: roc_curve(y, s, drop_intermediate=False)[:2], "✓"),
    ("evaluation.3", hasty(roc), "✓"),
    ("evaluation.3", rates(lambda tp, fp, n1, n0: (tp / n1, fp / n0)), "put sensitivity first"),
    ("evaluation.3", lambda y, s: roc(1 - y, s), "or took label 0"),
    ("evaluation.3", lambda y, s: [(0, 0), *roc(y, s)[:0:-1]], "in another order"),
    ("evaluation.3", rates(called=np.less_equal), "called those below"),
    ("evaluation.3", lambda y, s: roc(y, -s), "called those below"),
    ("evaluation.3", lambda y, s: roc(y, s)[1:], "(0, 0) is missing"),
    ("evaluation.3", lambda y, s: roc(y, s)[:-1], "(1, 1) is missing"),
    ("evaluation.3", lambda y, s: rates(called=np.greater)(y, s)[1:], "(1, 1) is missing"),
    ("evaluation.3", lambda y, s: roc(y, s)[::-1], "in reverse"),
    ("evaluation.3", rates(lambda tp, fp, n1, n0: (1 - fp / n0, tp / n1)), "is the specificity"),
    ("evaluation.3", one_by_one, "each *distinct*"),
    ("evaluation.3", lambda y, s: np.array(roc_curve(y, s)[:2]).T, "each *distinct*"),
    ("evaluation.3", rates(lambda tp, fp, n1, n0: (fp, tp)), "returned counts"),
    (
        "evaluation.3",
        rates(lambda tp, fp, n1, n0: (fp / (n1 + n0), tp / (n1 + n0))),
        "divided both by all patients",
    ),
    ("evaluation.3", unsorted(roc, [(0, 0), (1, 1)]), "when I shuffled"),
    ("evaluation.3", recall_precision, "are (recall, precision)"),
    ("evaluation.3", rates(called=np.greater), "point 1 should be"),
    ("evaluation.3", lambda y, s: metrics.auc(y, s), "two numbers each, and got shape ()"),
    ("evaluation.3", lambda y, s: "curve", "two numbers each, and got str"),
    ("evaluation.3", lambda y, s: [(np.nan, 1.0)] * len(roc(y, s)), "point 0 should be"),
    ("evaluation.4", average, "✓"),
    ("evaluation.4", average_precision_score, "✓"),
    ("evaluation.4", lambda y, s: torch.tensor(average(y, s)), "✓"),
    ("evaluation.4", hasty(average), "✓"),
    ("evaluation.4", split_ties(lambda y, s: np.argsort(-s, kind="stable")), "one after the other"),
    ("evaluation.4", split_ties(lambda y, s: np.lexsort((-y, -s))), "one after the other"),
    ("evaluation.4", split_ties(lambda y, s: np.argsort(s, kind="stable")[::-1]), "one after the"),
    ("evaluation.4", ap("first"), "recall comes from 0"),
    ("evaluation.4", ap("trapezoid"), "by straight lines"),
    ("evaluation.4", ap("trapezoid without the first"), "by straight lines"),
    ("evaluation.4", ap("before"), "at the *start* of each step"),
    ("evaluation.4", ap("unweighted"), "averaged the precision over all thresholds"),
    ("evaluation.4", ap("total recall"), "not by its *gain*"),
    ("evaluation.4", ap("envelope"), "as detectors are scored"),
    ("evaluation.4", metrics.auc, "the area under the ROC curve"),
    ("evaluation.4", lambda y, s: average(y, -s), "walked from the lowest score up"),
    ("evaluation.4", lambda y, s: average(1 - y, -s), "walked from the lowest score up"),
    ("evaluation.4", ap("counts"), "divide by the number of the ill"),
    ("evaluation.4", unsorted(average, 0.5), "when I shuffled"),
    ("evaluation.4", lambda y, s: average(y, rankdata(-s)), "walked from the lowest score up"),
    ("evaluation.4", lambda y, s: 0.42, "for labels [0, 1, 0"),
    ("evaluation.4", lambda y, s: s, "expected a number"),
    ("evaluation.5", rest, "✓"),
    ("evaluation.5", lambda m, k: torch.tensor(rest(m, k)), "✓"),
    ("evaluation.5", hasty(rest), "✓"),
    ("evaluation.5", against("transposed"), "FP and FN have changed places"),
    ("evaluation.5", against("diagonal"), "counts only the diagonal"),
    ("evaluation.5", against("corner"), "taken off twice"),
    ("evaluation.5", against("rows"), "all but the TP"),
    ("evaluation.5", against("whole"), "a whole row or column"),
    ("evaluation.5", against("fp"), "your FP is the whole column"),
    ("evaluation.5", against("fn"), "your FN is the whole row"),
    ("evaluation.5", against("order"), "in another order"),
    ("evaluation.5", against("shares"), "you returned shares"),
    ("evaluation.5", against("three"), "expected four counts, and got shape (3,)"),
    ("evaluation.5", against("one"), "for class 0 the TN should be"),
    ("evaluation.5", against("third"), "the FN should be 3, and I got 5"),
    ("evaluation.5", against("other"), "for class 0 of [[50"),
    ("evaluation.5", lambda m, k: "four", "expected four counts, and got str"),
    ("evaluation.6", metrics.fit_temperature, "✓"),
    ("evaluation.6", by_scipy, "✓"),
    ("evaluation.6", by_torch, "✓"),
    ("evaluation.6", by_newton, "✓"),
    ("evaluation.6", on_grid(0.1, 10, 400), "✓"),
    ("evaluation.6", lambda y, z: float(f"{by_scipy(y, z):.2g}"), "✓"),
    ("evaluation.6", lambda y, z: 1 / metrics.fit_temperature(y, z), "β = 1/T"),
    ("evaluation.6", on_grid(1, 10, 300), "reach below 1"),
    ("evaluation.6", of_class(1), "what the ill alone would choose"),
    ("evaluation.6", of_class(0), "what the healthy alone would choose"),
    ("evaluation.6", least_brier, "the lowest Brier score"),
    ("evaluation.6", lambda y, z: 1.09 * by_scipy(y, z), "not to two digits"),
    ("evaluation.6", lambda y, z: -by_scipy(y, z), "positive and finite"),
    ("evaluation.6", lambda y, z: 0.0, "positive and finite"),
    ("evaluation.6", lambda y, z: np.nan, "positive and finite"),
    ("evaluation.6", lambda y, z: np.inf, "positive and finite"),
    ("evaluation.6", lambda y, z: loss(y, z, by_scipy(y, z)), "is the lowest cross-entropy"),
    ("evaluation.6", lambda y, z: 10.0, "the cross-entropy is"),
    ("evaluation.6", lambda y, z: by_scipy(1 - y, z), "the cross-entropy is"),
    ("evaluation.6", on_grid(0.1, 2, 200), "the cross-entropy is"),
    ("evaluation.6", lambda y, z: z, "expected a number"),
    ("evaluation.7", search(), "✓"),
    ("evaluation.7", search(nobody=(1.5,)), "✓"),
    ("evaluation.7", on_grid_of(101), "✓"),
    ("evaluation.7", hasty(search()), "✓"),
    ("evaluation.7", lambda y, p, c: 1 / (1 + c), "of *calibrated* probabilities"),
    ("evaluation.7", lambda y, p, c: c / (1 + c), "is c/(1 + c)"),
    ("evaluation.7", on_grid_of(11), "the cheapest of the tenths"),
    ("evaluation.7", search(lambda c, fn, fp, *_: fn + c * fp), "It is the other way round"),
    ("evaluation.7", search(lambda c, fn, fp, *_: fn + fp), "makes the fewest errors"),
    (
        "evaluation.7",
        search(lambda c, fn, fp, n1, n0: c * fn / n1 + fp / n0),
        "best if rates are added",
    ),
    ("evaluation.7", search(called=np.greater), "only scores *above*"),
    ("evaluation.7", search(nobody=()), "cheapest to call nobody"),
    ("evaluation.7", search(lambda c, fn, fp, *_: -c * fn - fp), "the dearest threshold"),
    ("evaluation.7", least_cost, "is a cost"),
    ("evaluation.7", place, "is a position in a list"),
    ("evaluation.7", lambda y, p, c: 0.7, "costs 22 in all"),
    ("evaluation.7", lambda y, p, c: 0.0, "0 missed, 21 false alarms"),
    ("evaluation.7", lambda y, p, c: np.nan, "9 missed, 0 false alarms"),
    ("evaluation.7", lambda y, p, c: p, "expected a number"),
]

EQUIVALENT = [
    "evaluation.1: fn, tn = ((~called & ill).sum(), (~called & ~ill).sum()) "
    "→ fn, tn = ((ill & ~called).sum(), (~called & ~ill).sum())",
    "evaluation.1: fn, tn = ((~called & ill).sum(), (~called & ~ill).sum()) "
    "→ fn, tn = ((~called & ill).sum(), (~ill & ~called).sum())",
    "evaluation.1: tp, fp = ((called & ill).sum(), (called & ~ill).sum()) "
    "→ tp, fp = ((called & ill).sum(), (~ill & called).sum())",
    "evaluation.1: tp, fp = ((called & ill).sum(), (called & ~ill).sum()) "
    "→ tp, fp = ((ill & called).sum(), (called & ~ill).sum())",
    "evaluation.4: total, before = (0, 0) → before, total = (0, 0)",
    # Two digits are asked for, and the temperatures of the check lie well within all these grids
    *(
        f"evaluation.6: for T in np.geomspace(0.1, 10, 300): → for T in np.geomspace({grid}):"
        for grid in (
            *("0.1, 10", "0.1, 10, 299", "0.1, 10, 301"),
            *("0.1, 11, 300", "0.1, 9, 300", "10, 0.1, 300"),
        )
    ),
    "evaluation.6: if loss < least: → if loss <= least:",
    "evaluation.6: loss = -np.where(labels == 1, np.log(q), np.log(1 - q)).mean() "
    "→ loss = -np.where(labels == 1, np.log(q), np.log(1 - q)).sum()",
    *(
        "evaluation.6: q = np.clip(1 / (1 + np.exp(-logits / T)), 1e-12, 1 - 1e-12) "
        f"→ q = np.clip({clipped})"
        for clipped in (
            "1 / (1 + np.exp(-logits / T)), 1e-12, 1 + 1e-12",
            "1 / (1 + np.exp(-logits / T)), 1e-12, 1",
            "1 / (1 + np.exp(-logits / T)), 1e-12, 2 - 1e-12",
            "1e-12, 1 / (1 + np.exp(-logits / T)), 1 - 1e-12",
        )
    ),
    "evaluation.7: cost = miss_cost * (ill & ~called).sum() + (called & ~ill).sum() "
    "→ cost = miss_cost * (ill & ~called).sum() + (~ill & called).sum()",
    "evaluation.7: cost = miss_cost * (ill & ~called).sum() + (called & ~ill).sum() "
    "→ cost = miss_cost * (~called & ill).sum() + (called & ~ill).sum()",
    "evaluation.7: for threshold in [*np.unique(scores), np.inf]: "
    "→ for threshold in [np.inf, *np.unique(scores)]:",
    "evaluation.7: if cost < least: → if cost <= least:",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_a_changed_solution_is_not_ticked():
    assert ticked("11_evaluation", "evaluation") == EQUIVALENT
