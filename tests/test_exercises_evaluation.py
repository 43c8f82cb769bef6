"""Checks of evaluation, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata

from medlab import metrics
from medlab.exercises import check
from medlab.exercises.evaluation import MESSAGES
from tests.learners import unheard


def ratios(tp, fp, tn, fn):
    return tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)


def ppv(se, sp, pi):
    return pi * se / (pi * se + (1 - pi) * (1 - sp))


def by_ranks(y, s, method="average"):
    n1 = (y == 1).sum()
    return (rankdata(s, method=method)[y == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * (y == 0).sum())


def pairs(y, s, tie):
    gap = s[y == 1][:, None] - s[y == 0]
    return ((gap > 0) + tie * (gap == 0)).mean()


def loss(y, z, t):
    return np.logaddexp(0, (1 - 2 * y) * z / t).mean()


def on_grid(low, high, n):
    grid = np.geomspace(low, high, n)
    return lambda y, z: grid[np.argmin([loss(y, z, t) for t in grid])]


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


def least_brier(y, z):
    grid = np.geomspace(0.1, 10, 500)
    return grid[np.argmin([metrics.brier(y, 1 / (1 + np.exp(-z / t))) for t in grid])]


def benefit(threshold=lambda c: 1 / (1 + c), weight=lambda c: 1 / c, share=True, strict=False):
    def answer(y, p, c):
        t = threshold(c)
        called = p > t if strict else p >= t
        tp, fp = (called & (y == 1)).sum(), (called & (y == 0)).sum()
        return (tp - weight(c) * fp) / (len(y) if share else 1)

    return answer


def cost(y, p, c):
    called = p >= 1 / (1 + c)
    return (c * (~called & (y == 1)).sum() + (called & (y == 0)).sum()) / len(y)


def uncalled(y, p, c):
    return ((p < 1 / (1 + c)) * np.where(y, 1, -1 / c)).mean()


def per_ill(y, p, c):
    called = p >= 1 / (1 + c)
    return called[y == 1].mean() - called[y == 0].mean() / c


def resample(patients, rng):
    names = np.unique(patients)
    drawn = rng.choice(names, len(names))
    return np.concatenate([np.flatnonzero(patients == name) for name in drawn])


def weighted(patients, rng):
    drawn = rng.choice(patients, len(np.unique(patients)))
    return np.concatenate([np.flatnonzero(patients == name) for name in drawn])


def too_many(patients, rng):
    drawn = rng.choice(np.unique(patients), len(patients))
    return np.concatenate([np.flatnonzero(patients == name) for name in drawn])


def without(patients, rng):
    names = np.unique(patients)
    drawn = rng.choice(names, len(names), replace=False)
    return np.concatenate([np.flatnonzero(patients == name) for name in drawn])


def apart(patients, rng):
    return [np.flatnonzero(patients == name) for name in rng.choice(np.unique(patients), 5)]


unseeded = np.random.default_rng(5)


def first_image(patients, rng):
    drawn = rng.choice(np.unique(patients), 5)
    return np.array([np.flatnonzero(patients == name)[0] for name in drawn])


def three_of_five(patients, rng):
    return np.flatnonzero(np.isin(patients, rng.choice(np.unique(patients), 3, replace=False)))


def once(patients, rng):
    names = np.unique(patients)
    return np.flatnonzero(np.isin(patients, rng.choice(names, len(names))))


CASES = [
    ("evaluation.1", ratios, "✓"),
    ("evaluation.1", lambda *c: np.array(ratios(*c)), "✓"),
    ("evaluation.1", lambda *c: torch.tensor(ratios(*c)), "✓"),
    (
        "evaluation.1",
        lambda *c: [ratios(*c)[k] for k in (2, 1, 0, 3)],
        "sensitivity and PPV have changed",
    ),
    (
        "evaluation.1",
        lambda *c: [ratios(*c)[k] for k in (0, 3, 2, 1)],
        "specificity and NPV have changed",
    ),
    ("evaluation.1", lambda *c: [ratios(*c)[k] for k in (2, 3, 0, 1)], "denominators are swapped"),
    ("evaluation.1", lambda *c: [ratios(*c)[k] for k in (1, 0, 2, 3)], "in another order"),
    (
        "evaluation.1",
        lambda a, b, c, d: (a / (a + d), b / (b + c), a / (a + b), c / (c + d)),
        "alarmed",
    ),
    (
        "evaluation.1",
        lambda *c: [v / sum(c) for v in (c[0], c[2], c[0], c[2])],
        "divided by all patients",
    ),
    ("evaluation.1", lambda *c: [100 * v for v in ratios(*c)], "per cent"),
    ("evaluation.1", lambda *c: 0.5, "four numbers"),
    ("evaluation.1", lambda *c: ratios(30, 20, 70, 10), "for TP 5, FP 45"),
    ("evaluation.1", lambda *c: ["a"] * 4, "expected a number"),
    ("evaluation.2", ppv, "✓"),
    ("evaluation.2", lambda *v: torch.tensor(ppv(*v)), "✓"),
    ("evaluation.2", lambda se, sp, pi: 1 / (1 + (1 - pi) * (1 - sp) / (pi * se)), "✓"),
    ("evaluation.2", lambda se, sp, pi: se / (se + 1 - sp), "only where half are ill"),
    ("evaluation.2", lambda se, sp, pi: pi * se / (pi * se + 1 - sp), "but not the healthy"),
    ("evaluation.2", lambda se, sp, pi: pi * se / (pi * se + (1 - pi) * sp), "*not* spared"),
    ("evaluation.2", lambda se, sp, pi: se, "P(called | ill)"),
    ("evaluation.2", lambda se, sp, pi: pi * se, "Divide by the share of all who are called"),
    ("evaluation.2", lambda se, sp, pi: (1 - pi) * sp / ((1 - pi) * sp + pi * (1 - se)), "the NPV"),
    ("evaluation.2", lambda *v: 1 - ppv(*v), "alarms that are false"),
    ("evaluation.2", lambda *v: ppv(*v) / (1 - ppv(*v)), "the odds"),
    ("evaluation.2", lambda *v: 0.135 / 0.305, "expected 0.8372"),
    ("evaluation.2", lambda *v: 0.1, "expected 0.4426"),
    (
        "evaluation.2",
        lambda se, sp, pi: pi * se / (pi * se + (1 - pi) * (1 - se)),
        "expected 0.4426",
    ),
    ("evaluation.2", lambda se, sp, pi: pi * se / (1 - sp), "expected 0.4426"),
    ("evaluation.2", 0.33, "expected a function"),
    ("evaluation.3", by_ranks, "✓"),
    ("evaluation.3", metrics.auc, "✓"),
    ("evaluation.3", lambda y, s: torch.tensor(by_ranks(y, s)), "✓"),
    ("evaluation.3", lambda y, s: by_ranks(y, s, "min"), "counted 0"),
    ("evaluation.3", lambda y, s: pairs(y, s, 0), "counted 0"),
    ("evaluation.3", lambda y, s: by_ranks(y, s, "max"), "counted 1"),
    ("evaluation.3", lambda y, s: pairs(y, s, 1), "counted 1"),
    ("evaluation.3", lambda y, s: by_ranks(y, s, "ordinal"), "order in which they stand"),
    (
        "evaluation.3",
        lambda y, s: by_ranks(y, np.argsort(np.argsort(s, kind="stable")) + 1),
        "order in which they stand",
    ),
    ("evaluation.3", lambda y, s: by_ranks(y, -s), "1 − AUC"),
    ("evaluation.3", lambda y, s: by_ranks(1 - y, s), "1 − AUC"),
    ("evaluation.3", lambda y, s: rankdata(s)[y == 1].sum() / 20, "before you divide"),
    ("evaluation.3", lambda y, s: 20 * by_ranks(y, s), "number of pairs won"),
    ("evaluation.3", lambda y, s: by_ranks(y, s) - 4 / 20, "count from 0"),
    ("evaluation.3", lambda y, s: metrics.auc(y, s) if y[0] == 0 else 0.3, "when I shuffled"),
    (
        "evaluation.3",
        lambda y, s: metrics.auc([0, 1, 0, 1, 1, 0, 0, 1, 0], np.r_[1, 4, 4, 8, 4, 2, 8, 9, 5]),
        "for labels [0, 0, 0",
    ),
    ("evaluation.3", lambda y, s: 0.42, "for labels [0, 1, 0"),
    ("evaluation.3", lambda y, s: s, "expected a number"),
    ("evaluation.4", metrics.fit_temperature, "✓"),
    ("evaluation.4", by_scipy, "✓"),
    ("evaluation.4", by_torch, "✓"),
    ("evaluation.4", on_grid(0.1, 10, 400), "✓"),
    ("evaluation.4", lambda y, z: float(f"{by_scipy(y, z):.2g}"), "✓"),
    ("evaluation.4", lambda y, z: 1 / metrics.fit_temperature(y, z), "β = 1/T"),
    ("evaluation.4", on_grid(1, 10, 300), "reach below 1"),
    ("evaluation.4", on_grid(0.1, 10, 15), "not to two digits"),
    ("evaluation.4", lambda y, z: -by_scipy(y, z), "a temperature is positive"),
    ("evaluation.4", lambda y, z: 0.0, "a temperature is positive"),
    ("evaluation.4", lambda y, z: np.nan, "a temperature is positive"),
    ("evaluation.4", lambda y, z: 10.0, "the cross-entropy is"),
    ("evaluation.4", lambda y, z: by_scipy(1 - y, z), "the cross-entropy is"),
    ("evaluation.4", on_grid(0.1, 2, 200), "at the edge of its range"),
    ("evaluation.4", least_brier, "the score to lower is the cross-entropy"),
    ("evaluation.4", lambda y, z: 3.0, "✗"),
    ("evaluation.4", lambda y, z: z, "expected a number"),
    ("evaluation.5", benefit(), "✓"),
    (
        "evaluation.5",
        benefit(lambda c: 1 - c / (1 + c), lambda c: (1 / (1 + c)) / (c / (1 + c))),
        "✓",
    ),
    ("evaluation.5", lambda y, p, c: torch.tensor(metrics.net_benefit(y, p, 1 / (1 + c))), "✓"),
    ("evaluation.5", benefit(lambda c: 1 / c), "acted from 1/c"),
    ("evaluation.5", benefit(lambda c: c / (1 + c)), "acted from c/(1 + c)"),
    ("evaluation.5", benefit(lambda c: 0.5), "whatever a miss costs"),
    ("evaluation.5", benefit(weight=lambda c: c), "multiplied the false positives by c"),
    ("evaluation.5", benefit(weight=lambda c: 1), "did not weight"),
    ("evaluation.5", benefit(weight=lambda c: 1 / (1 + c)), "weighted the false positives by t"),
    ("evaluation.5", per_ill, "divide both by N"),
    ("evaluation.5", benefit(share=False), "a count of patients"),
    ("evaluation.5", benefit(strict=True), "≥, not >"),
    ("evaluation.5", cost, "returned a cost"),
    ("evaluation.5", lambda y, p, c: c * benefit()(y, p, c), "divide by c"),
    ("evaluation.5", benefit(lambda c: 0.5, lambda c: 1), "whatever a miss costs"),
    ("evaluation.5", lambda y, p, c: y.mean() - (1 - y.mean()) / c, "expected 0.1324"),
    ("evaluation.5", uncalled, "expected 0.1324"),
    ("evaluation.5", lambda y, p, c: 0.0, "expected 0.1324"),
    ("evaluation.5", lambda y, p, c: 0.123, "expected 0.1324"),
    ("evaluation.5", lambda y, p, c: benefit()(y, p, 4), "✗"),
    ("evaluation.5", lambda y, p, c: p, "expected a number"),
    ("evaluation.6", resample, "✓"),
    ("evaluation.6", lambda w, rng: torch.tensor(resample(w, rng)), "✓"),
    ("evaluation.6", lambda w, rng: resample(w, rng).tolist(), "✓"),
    (
        "evaluation.6",
        lambda w, rng: rng.integers(0, len(w), len(w)),
        "you drew images, or left some out",
    ),
    (
        "evaluation.6",
        lambda w, rng: rng.choice(len(w), len(w), replace=False),
        "exactly once, each time",
    ),
    ("evaluation.6", first_image, "'P2' came with one image 0 times"),
    ("evaluation.6", lambda w, rng: np.array([], int), "I count 0 patients drawn of 5"),
    ("evaluation.6", lambda w, rng: resample(w, unseeded), "the same rng gave two different"),
    ("evaluation.6", three_of_five, "replace=False forbids"),
    ("evaluation.6", without, "exactly once, each time"),
    ("evaluation.6", once, "no patient ever came twice"),
    ("evaluation.6", too_many, "I count 13 patients drawn of 5"),
    ("evaluation.6", weighted, "many images are drawn more often"),
    ("evaluation.6", apart, "5 arrays, one for each"),
    ("evaluation.6", lambda w, rng: w[resample(w, rng)], "patients' names"),
    ("evaluation.6", lambda w, rng: np.isin(w, rng.choice(w, 3)), "a mask of True and False"),
    (
        "evaluation.6",
        lambda w, rng: resample(w, np.random.default_rng(4)),
        "the rng that I pass in",
    ),
    ("evaluation.6", lambda w, rng: resample(w, rng) + 1, "13 is no position in a list of 13"),
    ("evaluation.6", lambda w, rng: resample(w, rng) - 1, "-1 is no position in a list of 13"),
    ("evaluation.6", lambda w, rng: rng.random(5), "array of whole positions"),
    ("evaluation.6", lambda w, rng: 3, "array of whole positions"),
    ("evaluation.7", (198, 625), "✓"),
    ("evaluation.7", torch.tensor([200, 600]), "✓"),
    ("evaluation.7", (np.int64(180), 780), "✓"),
    ("evaluation.7", (100, 300), "100 ill and 300 healthy give ±0.042"),
    ("evaluation.7", (150, 475), "asked"),
    ("evaluation.7", (791, 2501), "*full* width"),
    ("evaluation.7", (300, 300), "Another mix"),
    ("evaluation.7", (160, 2500), "Another mix"),
    ("evaluation.7", (300, 950), "the mix will do"),
    ("evaluation.7", (200,), "two whole numbers"),
    ("evaluation.7", 200, "two whole numbers"),
    ("evaluation.7", (0, 600), "two whole numbers"),
    ("evaluation.7", "many", "expected a number"),
]


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args): ...

    def broken(*args):
        return args[9]

    untouched = (..., ...) if id == "evaluation.7" else stub
    check(id, untouched)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if untouched is stub:
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []
