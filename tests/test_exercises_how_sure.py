"""Checks of how sure we are, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm

from medlab.exercises import check
from medlab.exercises.how_sure import MESSAGES
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

unseeded = np.random.default_rng(5)


def bootstrap(metric, labels, scores, n, rng, *, how=""):
    """A learner's bootstrap, with one mistake."""
    size, values = len(labels), []
    rng = unseeded if how == "unseeded" else rng
    ill, well = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    first = rng.integers(0, size, size)
    rounds = {"half": n // 2, "one more": n + 1}.get(how, n)
    for _ in range(rounds):
        k = rng.integers(0, size, size)
        if how == "permuted":
            k = rng.permutation(size)
        if how == "once":
            k = first
        if how == "fewer":
            k = rng.integers(0, size, size - 1)
        if how == "first left out":
            k = rng.integers(1, size, size)
        if how == "stratified":
            k = np.r_[rng.choice(ill, len(ill)), rng.choice(well, len(well))]
        other = rng.integers(0, size, size) if how == "apart" else k
        given = labels[k], scores[other]
        if how == "scores first":
            given = given[::-1]
        if how == "labels left":
            given = labels, scores[k]
        if how == "noise":
            given = labels[k], scores[k] + rng.normal(size=size)
        values.append(metric(*given))
    values = np.array(values)
    low, high = np.quantile(values, [0.025, 0.975])
    half = 1.96 * values.std()
    return {
        "high first": (high, low),
        "90": tuple(np.quantile(values, [0.05, 0.95])),
        "one tail": tuple(np.quantile(values, [0, 0.95])),
        "normal": (values.mean() - half, values.mean() + half),
        "all": values,
        "low": low,
        "zero": (0.0, high),
        "shifted": (low + 500, high + 500),
    }.get(how, (low, high))


def drawn(how):
    return lambda *given: bootstrap(*given, how=how)


def with_estimate(metric, labels, scores, n, rng):
    metric(labels, scores)
    return list(bootstrap(metric, labels, scores, n, rng))


def by_sorting(metric, labels, scores, n, rng):
    positions = rng.choice(len(labels), (n, len(labels)))
    values = sorted(metric(list(labels[k]), list(scores[k])) for k in positions)
    return values[round(0.025 * n)], values[round(0.975 * n)]


def in_torch(metric, labels, scores, n, rng):
    y, s = torch.tensor(labels), torch.tensor(scores)
    k = torch.from_numpy(rng.integers(0, len(y), (n, len(y))))
    values = torch.tensor([metric(y[row], s[row]) for row in k])
    return torch.quantile(values, torch.tensor([0.025, 0.975]))


def resample(patients, rng):
    names = np.unique(patients)
    chosen = rng.choice(names, len(names))
    return np.concatenate([np.flatnonzero(patients == name) for name in chosen])


def weighted(patients, rng):
    chosen = rng.choice(patients, len(np.unique(patients)))
    return np.concatenate([np.flatnonzero(patients == name) for name in chosen])


def too_many(patients, rng):
    chosen = rng.choice(np.unique(patients), len(patients))
    return np.concatenate([np.flatnonzero(patients == name) for name in chosen])


def without(patients, rng):
    names = np.unique(patients)
    chosen = rng.choice(names, len(names), replace=False)
    return np.concatenate([np.flatnonzero(patients == name) for name in chosen])


def apart(patients, rng):
    return [np.flatnonzero(patients == name) for name in rng.choice(np.unique(patients), 5)]


def first_image(patients, rng):
    chosen = rng.choice(np.unique(patients), 5)
    return np.array([np.flatnonzero(patients == name)[0] for name in chosen])


def three_of_five(patients, rng):
    return np.flatnonzero(np.isin(patients, rng.choice(np.unique(patients), 3, replace=False)))


def once(patients, rng):
    names = np.unique(patients)
    return np.flatnonzero(np.isin(patients, rng.choice(names, len(names))))


def kept(k, n, error, steps=1001):
    p = np.linspace(0, 1, steps)
    stays = abs(k / n - p) <= error(p)
    return p[stays].min(), p[stays].max()


def wilson(k, n, z=1.96):
    return kept(k, n, lambda p: z * np.sqrt(p * (1 - p) / n))


def solved(k, n):
    centre, half = (k + 1.9208) / (n + 3.8416), 1.96 * np.sqrt(k * (n - k) / n + 0.9604)
    return centre - half / (n + 3.8416), centre + half / (n + 3.8416)


def wald(k, n):
    half = 1.96 * np.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


def coverage(interval, n, p, *, results=None, weighted=True, holds=None):
    holds = holds or (lambda low, high: low <= p <= high)
    total = 0
    for k in range(n + 1) if results is None else results(n):
        if holds(*interval(k, n)):
            total += binom.pmf(k, n, p) if weighted else 1 / (n + 1)
    return total


def simulated(interval, n, p):
    ends = np.array([interval(k, n) for k in range(n + 1)])[unseeded.binomial(n, p, 4000)]
    return ((ends[:, 0] <= p) & (p <= ends[:, 1])).mean()


def parts(labels, scores):
    gap = scores[labels == 1][:, None] - scores[labels == 0]
    won = (gap > 0) + 0.5 * (gap == 0)
    return gap, won, won.mean(1), won.mean(0)


def delong(labels, scores, *, how=""):
    gap, won, v, w = parts(labels, scores)
    auc, d = won.mean(), 0 if how == "n" else 1
    a, b = v.var(ddof=d) / len(v), w.var(ddof=d) / len(w)
    error = {
        "variance": a + b,
        "not divided": np.sqrt(v.var(ddof=1) + w.var(ddof=1)),
        "swapped": np.sqrt(v.var(ddof=1) / len(w) + w.var(ddof=1) / len(v)),
        "errors": np.sqrt(a) + np.sqrt(b),
        "one part": np.sqrt(a),
        "pairs": won.std() / np.sqrt(won.size),
        "binomial": np.sqrt(auc * (1 - auc) / len(scores)),
        "half": 1.96 * np.sqrt(a + b),
        "difference": np.sqrt(abs(a - b)),
    }.get(how, np.sqrt(a + b))
    auc = {"lost": (gap > 0).mean(), "won": (gap >= 0).mean(), "sum": won.sum()}.get(how, auc)
    return auc, error


def paired(metric, labels, a, b, n, rng, *, how=""):
    gains, each = [], []
    for _ in range(n):
        k = rng.integers(0, len(labels), len(labels))
        j = rng.integers(0, len(labels), len(labels)) if how == "unpaired" else k
        if how == "gap":
            gains.append(metric(labels[k], b[k] - a[k]))
            continue
        of_b = 0 if how == "a alone" else metric(labels[k], b[k])
        j = slice(None) if how == "a as it is" else j
        of_a = 0 if how == "b alone" else metric(labels[j], a[j])
        gains.append(of_b - of_a)
        each.append((of_a, of_b))
    if how == "ends":
        low, high = np.quantile(each, [0.025, 0.975], axis=0)
        return low[1] - low[0], high[1] - high[0]
    ends = np.quantile(gains, [0.025, 0.975])
    return -ends[::-1] if how == "sign" else ends


def with_estimates(metric, labels, a, b, n, rng):
    metric(labels, b), metric(labels, a)
    return paired(metric, labels, a, b, n, rng)


def in_two_loops(metric, labels, a, b, n, rng):
    positions = [rng.integers(0, len(labels), len(labels)) for _ in range(n)]
    of_a = np.array([metric(labels[k], a[k]) for k in positions])
    of_b = np.array([metric(labels[k], b[k]) for k in positions])
    return np.percentile(of_b - of_a, [2.5, 97.5]).tolist()


def by(answer, how):
    return lambda *given: answer(*given, how=how)


CASES = [
    ("how_sure.1", bootstrap, "✓"),
    ("how_sure.1", with_estimate, "✓"),
    ("how_sure.1", by_sorting, "✓"),
    ("how_sure.1", in_torch, "✓"),
    ("how_sure.1", lambda *g: np.array(bootstrap(*g)), "✓"),
    ("how_sure.1", lambda m, y, s, n, rng: (0.1, 0.9), "`metric` was not called"),
    ("how_sure.1", drawn("scores first"), "called with the scores first"),
    ("how_sure.1", lambda m, y, s, n, rng: m(y, s[:, None]), "scores of shape (13, 1)"),
    ("how_sure.1", drawn("fewer"), "a resample has 12 patients"),
    ("how_sure.1", drawn("apart"), "with another patient's label"),
    ("how_sure.1", drawn("labels left"), "with another patient's label"),
    ("how_sure.1", drawn("noise"), "scores that no patient has"),
    ("how_sure.1", drawn("permuted"), "exactly once, each time"),
    ("how_sure.1", drawn("once"), "all resamples were the same"),
    ("how_sure.1", drawn("first left out"), "1 of 13 patients were never drawn"),
    ("how_sure.1", drawn("stratified"), "the same number of ill"),
    ("how_sure.1", drawn("half"), "asked for 300 resamples, and `metric` saw 150"),
    ("how_sure.1", drawn("one more"), "saw 301"),
    (
        "how_sure.1",
        lambda m, y, s, n, rng: bootstrap(m, y, s, n, np.random.default_rng(7)),
        "two different rngs gave the same resamples",
    ),
    ("how_sure.1", drawn("unseeded"), "the same rng gave two different intervals"),
    ("how_sure.1", drawn("all"), "you returned 300 values"),
    ("how_sure.1", drawn("low"), "two numbers, (low, high)"),
    ("how_sure.1", drawn("high first"), "the upper end first"),
    ("how_sure.1", drawn("90"), "lie 90% of the results"),
    ("how_sure.1", drawn("one tail"), "lie 95% of the results"),
    ("how_sure.1", drawn("normal"), "1.96 standard deviations"),
    ("how_sure.1", drawn("zero"), "the quantiles 0.025 and 0.975 are"),
    ("how_sure.1", drawn("shifted"), "the quantiles 0.025 and 0.975 are"),
    ("how_sure.1", lambda *g: ("a", "b"), "expected a number"),
    ("how_sure.2", resample, "✓"),
    ("how_sure.2", lambda w, rng: torch.tensor(resample(w, rng)), "✓"),
    ("how_sure.2", lambda w, rng: resample(w, rng).tolist(), "✓"),
    ("how_sure.2", lambda w, rng: rng.integers(0, len(w), len(w)), "you drew images, or left"),
    ("how_sure.2", lambda w, rng: rng.choice(5, 5), "they count patients, not images"),
    ("how_sure.2", lambda w, rng: rng.choice(13, 13, replace=False), "exactly once, each time"),
    ("how_sure.2", first_image, "'P1' came with one image 0 times"),
    ("how_sure.2", lambda w, rng: np.array([], int), "I count 0 patients drawn of 5"),
    ("how_sure.2", lambda w, rng: [], "I count 0 patients drawn of 5"),
    ("how_sure.2", lambda w, rng: resample(w, unseeded), "the same rng gave two different"),
    ("how_sure.2", three_of_five, "replace=False forbids"),
    ("how_sure.2", without, "exactly once, each time"),
    ("how_sure.2", once, "no patient ever came twice"),
    ("how_sure.2", too_many, "I count 13 patients drawn of 5"),
    ("how_sure.2", weighted, "many images are drawn more often"),
    ("how_sure.2", apart, "5 arrays, one for each"),
    ("how_sure.2", lambda w, rng: w[resample(w, rng)], "patients' names"),
    ("how_sure.2", lambda w, rng: np.isin(w, rng.choice(w, 3)), "a mask of True and False"),
    ("how_sure.2", lambda w, rng: resample(w, np.random.default_rng(4)), "the rng that I pass in"),
    ("how_sure.2", lambda w, rng: resample(w, rng) + 1, "13 is no position in a list of 13"),
    ("how_sure.2", lambda w, rng: resample(w, rng) - 1, "-1 is no position in a list of 13"),
    ("how_sure.2", lambda w, rng: rng.random(5), "array of whole positions"),
    ("how_sure.2", lambda w, rng: 3, "array of whole positions"),
    ("how_sure.3", wilson, "✓"),
    ("how_sure.3", solved, "✓"),
    ("how_sure.3", lambda k, n: [torch.tensor(end) for end in wilson(k, n)], "✓"),
    ("how_sure.3", lambda k, n: tuple(round(end, 3) for end in solved(k, n)), "✓"),
    ("how_sure.3", lambda k, n: binomtest(k, n).proportion_ci(method="wilson"), "✓"),
    ("how_sure.3", lambda k, n: wilson(k, n)[::-1], "the upper end first"),
    ("how_sure.3", lambda k, n: 100 * np.array(wilson(k, n)), "per cent"),
    ("how_sure.3", wald, "Wald's interval"),
    ("how_sure.3", lambda k, n: np.clip(wald(k, n), 0, 1), "Wald's interval"),
    ("how_sure.3", lambda k, n: binomtest(k, n).proportion_ci(), "Clopper and Pearson's"),
    ("how_sure.3", lambda k, n: wilson(k, n, 1.645), "5 % out at each end"),
    ("how_sure.3", lambda k, n: wilson(k, n, 1), "one standard deviation"),
    ("how_sure.3", lambda k, n: kept(k, n, lambda p: 1.96 * p * (1 - p) / n), "Take its root"),
    ("how_sure.3", lambda k, n: (0, 1), "p that are refuted"),
    ("how_sure.3", lambda k, n: np.round(wilson(k, n), 1), "47 of 50 I expected"),
    ("how_sure.3", lambda k, n: np.round(wilson(k, n), 2), "To three digits"),
    ("how_sure.3", lambda k, n: (k / n, k / n), "I expected 0.838 to 0.979"),
    ("how_sure.3", lambda k, n: wilson(47, 50), "for 5 of 5 I expected"),
    ("how_sure.3", lambda k, n: 0.5, "two numbers, (low, high)"),
    ("how_sure.3", lambda k, n: np.linspace(0, 1, 5), "two numbers, (low, high)"),
    ("how_sure.3", lambda k, n: ("a", "b"), "expected a number"),
    ("how_sure.4", coverage, "✓"),
    ("how_sure.4", lambda *g: torch.tensor(coverage(*g)), "✓"),
    ("how_sure.4", lambda *g: np.array([coverage(*g)]), "✓"),
    ("how_sure.4", lambda *g: 1 - coverage(*g), "that the interval misses p"),
    ("how_sure.4", lambda *g: coverage(*g, results=range), "k = n is left out"),
    ("how_sure.4", lambda *g: coverage(*g, results=lambda n: range(1, n + 1)), "k = 0 is left"),
    ("how_sure.4", lambda *g: coverage(*g, weighted=False), "you counted results"),
    (
        "how_sure.4",
        lambda i, n, p: sum(i(k, n)[0] <= p <= i(k, n)[1] for k in range(n + 1)) / n,
        "you counted results",
    ),
    (
        "how_sure.4",
        lambda i, n, p: coverage(i, n, p, holds=lambda low, high: low < p < high),
        "holds its own ends",
    ),
    (
        "how_sure.4",
        lambda i, n, p: coverage(i, n, p, holds=lambda low, high: low <= p),
        "one end alone",
    ),
    ("how_sure.4", lambda *g: 100 * coverage(*g), "per cent"),
    ("how_sure.4", simulated, "and no sum: two calls gave"),
    (
        "how_sure.4",
        lambda i, n, p: sum(
            binom.pmf(k, n, p) for k in range(n + 1) if i(k, n)[0] <= k / n <= i(k, n)[1]
        ),
        "holds k/n, which it always does",
    ),
    ("how_sure.4", lambda *g: 0.95, "I expected 0.9297"),
    ("how_sure.4", lambda *g: [0.9, 0.95], "expected a number"),
    ("how_sure.5", delong, "✓"),
    ("how_sure.5", lambda y, s: np.array(delong(y, s)), "✓"),
    ("how_sure.5", lambda y, s: [torch.tensor(v) for v in delong(y, s)], "✓"),
    ("how_sure.5", lambda y, s: delong(y, s)[::-1], "the standard error first"),
    ("how_sure.5", lambda y, s: delong(1 - y, s), "the healthy won"),
    ("how_sure.5", by(delong, "lost"), "counts ties 0"),
    ("how_sure.5", by(delong, "won"), "counts ties 1"),
    ("how_sure.5", by(delong, "sum"), "the AUC should be"),
    ("how_sure.5", by(delong, "variance"), "that is the variance"),
    ("how_sure.5", by(delong, "n"), "`ddof=1`"),
    ("how_sure.5", by(delong, "not divided"), "left out n₁ and n₀"),
    ("how_sure.5", by(delong, "swapped"), "You swapped them"),
    ("how_sure.5", by(delong, "errors"), "added two standard errors"),
    ("how_sure.5", by(delong, "one part"), "only one of the two groups"),
    ("how_sure.5", by(delong, "pairs"), "spread of all 36 pairs"),
    ("how_sure.5", by(delong, "binomial"), "a share of independent results"),
    ("how_sure.5", by(delong, "half"), "1.96 standard errors"),
    ("how_sure.5", by(delong, "difference"), "the standard error should be"),
    ("how_sure.5", lambda y, s: delong(y, s)[0], "two numbers, the AUC and"),
    ("how_sure.5", lambda y, s: ("a", "b"), "expected a number"),
    ("how_sure.6", paired, "✓"),
    ("how_sure.6", with_estimates, "✓"),
    ("how_sure.6", in_two_loops, "✓"),
    ("how_sure.6", by(paired, "unpaired"), "on different patients"),
    ("how_sure.6", by(paired, "a alone"), "saw `a` only"),
    ("how_sure.6", by(paired, "b alone"), "saw `b` only"),
    ("how_sure.6", by(paired, "sign"), "the ends of a − b"),
    ("how_sure.6", by(paired, "ends"), "subtracted the ends"),
    ("how_sure.6", by(paired, "a as it is"), "one model was scored on all patients as they are"),
    ("how_sure.6", by(paired, "gap"), "scores that no patient has"),
    ("how_sure.6", lambda *g: (0, 1), "`metric` was not called"),
    ("how_sure.6", lambda *g: paired(*g)[::-1], "the upper end first"),
    ("how_sure.6", lambda m, y, a, b, n, r: paired(m, y, a, b, n, unseeded), "the same rng"),
    (
        "how_sure.6",
        lambda m, y, a, b, n, r: paired(m, y, a, b, n, np.random.default_rng(7)),
        "two different rngs gave the same resamples",
    ),
    ("how_sure.6", lambda m, y, a, b, n, r: paired(m, y, a, b, 20, r), "saw 20"),
    ("how_sure.7", (198, 625), "✓"),
    ("how_sure.7", torch.tensor([200, 600]), "✓"),
    ("how_sure.7", (np.int64(180), 780), "✓"),
    ("how_sure.7", (100, 300), "100 ill and 300 healthy give ±0.042"),
    ("how_sure.7", (150, 475), "asked"),
    ("how_sure.7", (791, 2501), "*full* width"),
    ("how_sure.7", (300, 300), "Another mix"),
    ("how_sure.7", (160, 2500), "Another mix"),
    ("how_sure.7", (300, 950), "the mix will do"),
    ("how_sure.7", (200,), "two whole numbers"),
    ("how_sure.7", 200, "two whole numbers"),
    ("how_sure.7", (0, 600), "two whole numbers"),
    ("how_sure.7", "many", "expected a number"),
]
# Said of exercise 1 by a case above, and the same lines of code in exercise 6
SHARED = {
    *("columns", "size", "broken pairs", "no replacement", "same", "never", "all values"),
    *("ends", "tails", "normal", "other ends"),
}
# Another grid of as many digits, an order that makes no difference, and two names swapped throughout
EQUIVALENT = [
    "how_sure.3: p = np.linspace(0, 1, 1001) → p = np.linspace(0, 1, 1000)",
    "how_sure.3: p = np.linspace(0, 1, 1001) → p = np.linspace(0, 1, 1002)",
    "how_sure.3: p = np.linspace(0, 1, 1001) → p = np.linspace(0, 2, 1001)",
    "how_sure.3: p = np.linspace(0, 1, 1001) → p = np.linspace(1, 0, 1001)",
    "how_sure.3: stays = abs(k / n - p) <= 1.96 * np.sqrt(p * (1 - p) / n) "
    "→ stays = abs(k / n - p) < 1.96 * np.sqrt(p * (1 - p) / n)",
    "how_sure.3: stays = abs(k / n - p) <= 1.96 * np.sqrt(p * (1 - p) / n) "
    "→ stays = abs(p - k / n) <= 1.96 * np.sqrt(p * (1 - p) / n)",
    "how_sure.5: V, W = (won.mean(axis=1), won.mean(axis=0)) "
    "→ V, W = (won.mean(axis=0), won.mean(axis=1))",
    "how_sure.5: V, W = (won.mean(axis=1), won.mean(axis=0)) "
    "→ W, V = (won.mean(axis=1), won.mean(axis=0))",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(set(MESSAGES) - {"how_sure.7"}))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_an_untouched_plan_is_not_attempted(capsys):
    check("how_sure.7", (..., ...))
    assert capsys.readouterr().out.startswith("○ how_sure.7 not attempted yet")


def test_every_message_is_said(capsys):
    silent = set(unheard(MESSAGES, CASES, capsys))
    assert silent <= {f"how_sure.6 {key}" for key in SHARED}


def test_wilson_and_delong_are_those_of_the_library():
    for k, n in ((47, 50), (5, 5), (0, 20), (3, 11)):
        assert np.allclose(solved(k, n), binomtest(k, n).proportion_ci(method="wilson"), atol=1e-4)
    assert norm.ppf(0.975) == pytest.approx(1.96, abs=1e-4)


def test_a_changed_solution_is_not_ticked():
    # The plan of exercise 7 is right within a tenth, which leaves room for other steps to it
    assert ticked("12_how_sure", "how_sure", without=("how_sure.7",)) == EQUIVALENT
