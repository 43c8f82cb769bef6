"""Checks of notebook 30b: right answers in several forms, each named mistake, mutants."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logit
from scipy.stats import binom, norm, t
from sklearn.metrics import roc_auc_score

from medlab import metrics
from medlab.cohort import Cohort, DataCard
from medlab.exercises import check, material
from medlab.exercises.imperfect import MESSAGES
from medlab.models import SmallCNN
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

tools = material("imperfect")
ONE, TWO, THREE, FOUR, FIVE, SIX = (f"imperfect.{k}" for k in range(1, 7))

# ------------------------------------------------------------------------------ 1: a mended level


def mended(q, rho_0, rho_1):
    return np.clip((q - rho_0) / (1 - rho_0 - rho_1), 0, 1)


def mended_one_by_one(q, rho_0, rho_1):
    return [float(np.interp(one, [rho_0, 1 - rho_1], [0, 1])) for one in q]


# ------------------------------------------------------------------------------ 2: a wrong ruler


def trust(prevalence, sensitivity, specificity):
    ill, well = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    missed, clear = prevalence * (1 - sensitivity), (1 - prevalence) * specificity
    return ill / (ill + well), clear / (clear + missed)


def shrunk(factor):
    return lambda auc, *reader: 0.5 + (auc - 0.5) * factor(*reader)


seen = shrunk(lambda *reader: sum(trust(*reader)) - 1)


def by_pairs(won=0.5, turned=lambda auc: 1 - auc):
    def answer(auc, *reader):
        a, b = trust(*reader)
        one = a * (1 - b) + b * (1 - a)
        return a * b * auc + (1 - a) * (1 - b) * turned(auc) + won * one

    return answer


def in_patients(auc, prevalence, sensitivity, specificity):
    groups = {"ill": 1000 * prevalence, "well": 1000 - 1000 * prevalence}
    called = {"ill": (groups["ill"] * sensitivity, groups["well"] * (1 - specificity))}
    called["well"] = (groups["ill"] * (1 - sensitivity), groups["well"] * specificity)
    pairs = sum(called["ill"]) * sum(called["well"])
    won = called["ill"][0] * called["well"][1] * auc + called["ill"][1] * called["well"][0] * (
        1 - auc
    )
    won += 0.5 * sum(one * other for one, other in zip(*called.values(), strict=True))
    return np.float32(won / pairs)


# ------------------------------------------------------------------------------ 3: a majority


def counted(right):
    found = np.ones(1)
    for p in right:
        found = np.convolve(found, [1 - p, p])
    return found


def majority(right):
    return counted(right)[len(right) // 2 + 1 :].sum()


def majority_in_patterns(right):
    total = torch.zeros(())
    for votes in itertools.product((True, False), repeat=len(right)):
        if sum(votes) * 2 > len(right):
            total += math.prod(p if v else 1 - p for v, p in zip(votes, right, strict=True))
    return total


# ------------------------------------------------------------------------------ 4 and 5: EM


def e_step(readings, prevalence, sensitivity, specificity):
    with np.errstate(divide="ignore"):
        log_odds = np.full(len(readings), np.log(prevalence / (1 - prevalence)))
    log_odds = log_odds + np.where(
        readings == 1,
        np.log(sensitivity / (1 - specificity)),
        np.log((1 - sensitivity) / specificity),
    ).sum(1)
    return 1 / (1 + np.exp(-log_odds))


def e_in_loops(readings, prevalence, sensitivity, specificity):
    found = []
    for row in readings:
        ill, well = prevalence, 1 - prevalence
        for x, a, b in zip(row, sensitivity, specificity, strict=True):
            ill, well = ill * (a if x else 1 - a), well * (1 - b if x else b)
        found.append(ill / (ill + well))
    return found


def products(ill_of, well_of, end=lambda ill, well: ill / (ill + well), prior=None):
    """An answer whose factors are those of (reading, sensitivity, specificity)."""

    def answer(readings, prevalence, sensitivity, specificity):
        pi = prevalence if prior is None else prior
        two = []
        for of in (ill_of, well_of):
            factor = of(readings, sensitivity + 0 * readings, specificity + 0 * readings)
            two.append(factor.prod(1))
        return end(pi * two[0], (1 - pi) * two[1])

    return answer


def ill_of(x, a, b):
    return np.where(x == 1, a, 1 - a)


def well_of(x, a, b):
    return np.where(x == 1, 1 - b, b)


def e_literally(readings, prevalence, sensitivity, specificity):
    """The formula with its exponents."""
    x, a, b = readings, sensitivity, specificity
    ill = prevalence * (a**x * (1 - a) ** (1 - x)).prod(1)
    return ill / (ill + (1 - prevalence) * ((1 - b) ** x * b ** (1 - x)).prod(1))


def summed(readings, prevalence, sensitivity, specificity):
    ill = prevalence * ill_of(readings, sensitivity, specificity).sum(1)
    return ill / (ill + (1 - prevalence) * well_of(readings, sensitivity, specificity).sum(1))


def m_step(readings, p):
    q = p[:, None]
    sensitivity = (q * (readings == 1)).sum(0) / q.sum()
    specificity = ((1 - q) * (readings == 0)).sum(0) / (1 - q).sum()
    return p.mean(), sensitivity, specificity


def m_in_loops(readings, p):
    rows = []
    for value in (1, 0):
        weights = p if value else 1 - p
        rows.append([])
        for column in readings.T:
            above = sum(w for w, x in zip(weights, column, strict=True) if x == value)
            rows[-1].append(above / sum(weights))
    return [sum(p) / len(p), *rows]


def m_over(below):
    """Weighted hits over what `below` makes of (weights, readings, value)."""

    def answer(readings, p):
        pairs = ((p[:, None], 1), (1 - p[:, None], 0))
        return p.mean(), *[
            (w * (readings == v)).sum(0) / (below(w, readings, v) + 0 * readings).sum(0)
            for w, v in pairs
        ]

    return answer


# ------------------------------------------------------------------------------ 6: pooling


def pool(features, there):
    return (features * there[..., None]).sum(1) / there.sum(1, keepdims=True)


def pool_in_loops(features, there):
    return [row[seen].mean(0) for row, seen in zip(features, there, strict=True)]


def pool_masked(features, there):
    hidden = np.broadcast_to(~there[..., None], features.shape)
    return np.ma.masked_array(features, hidden).mean(1)


def pool_nan(features, there):
    features[~there] = np.nan
    return torch.as_tensor(np.nanmean(features, 1))


def first_places(features, there):
    return [row[: seen.sum()].mean(0) for row, seen in zip(features, there, strict=True)]


def of_missing(features, there):
    kept = (features * ~there[..., None]).sum(1)
    with np.errstate(invalid="ignore"):
        return kept / (~there).sum(1)[:, None]


CASES = [
    (ONE, mended, "✓"),
    (ONE, mended_one_by_one, "✓"),
    (ONE, lambda q, a, b: torch.as_tensor(mended(q, a, b)), "✓"),
    (ONE, lambda q, a, b: mended(q, a, b)[:, None], "one probability a patient, shape (6,)"),
    (ONE, lambda q, a, b: "ill", "one probability a patient"),
    (ONE, lambda q, a, b: (q - a) / (1 - a - b), "Keep p between 0 and 1"),
    (ONE, lambda q, a, b: a + (1 - a - b) * q, "the way from p to q"),
    (ONE, lambda q, a, b: mended(q, b, a), "rho_0 and rho_1 are exchanged"),
    (ONE, lambda q, a, b: q / (1 - a - b), "you did not subtract ρ0"),
    (ONE, lambda q, a, b: q / (1 - b), "you left ρ0 out"),
    (ONE, lambda q, a, b: np.clip(q - a, 0, 1), "you did not divide"),
    (ONE, lambda q, a, b: q - a, "you did not divide"),
    (ONE, lambda q, a, b: (q - a) / (1 - a), "you divided by 1 − ρ0"),
    (ONE, lambda q, a, b: np.clip((q - a) / (1 - b), 0, 1), "you divided by 1 − ρ1"),
    (ONE, lambda q, a, b: (q - a) * (1 - a - b), "you multiplied by"),
    (ONE, lambda q, a, b: mended(q, a, b) > 0.5, "you rounded to 0 and 1"),
    (ONE, lambda q, a, b: q, "for q = 0.52, rho_0 = 0.1 and rho_1 = 0.3 I expected 0.7000"),
    (TWO, seen, "✓"),
    (TWO, by_pairs(), "✓"),
    (TWO, in_patients, "✓"),
    (TWO, lambda *a: torch.tensor([seen(*a)]), "✓"),
    (TWO, lambda *a: [1, 2], "expected a number"),
    (TWO, shrunk(lambda pi, a, b: a + b - 1), "you used sensitivity + specificity − 1"),
    (TWO, shrunk(lambda pi, a, b: 2 * (pi * a + (1 - pi) * b) - 1), "the share of right labels"),
    (TWO, shrunk(lambda pi, *r: sum(trust(0.5, *r)) - 1), "as if half were ill"),
    (TWO, shrunk(lambda *r: 2 * trust(*r)[0] - 1), "you used PPV for both groups"),
    (TWO, shrunk(lambda *r: 2 * trust(*r)[1] - 1), "you used NPV for both groups"),
    (TWO, shrunk(lambda pi, a, b: 2 * a - 1), "you used sensitivity for both groups"),
    (TWO, shrunk(lambda pi, a, b: 2 * b - 1), "you used specificity for both groups"),
    (TWO, lambda auc, *r: auc * (sum(trust(*r)) - 1), "you shrank the AUC towards 0"),
    (TWO, lambda *a: seen(*a) - 0.5, "you left out the ½"),
    (TWO, by_pairs(won=0), "won half the time, not never"),
    (TWO, by_pairs(turned=lambda auc: 0.5), "with 1 − AUC, not with 0.5"),
    (TWO, by_pairs(turned=lambda auc: 0), "You counted it as lost"),
    (TWO, by_pairs(turned=lambda auc: auc), "You counted it as won with AUC"),
    (TWO, lambda auc, pi, a, b: seen(auc, pi, b, a), "sensitivity for specificity"),
    (TWO, lambda auc, pi, a, b: seen(auc, 1 - pi, a, b), "sensitivity for specificity, or"),
    (TWO, lambda auc, *r: 0.5 + (auc - 0.5) / (sum(trust(*r)) - 1), "that is the way back"),
    (TWO, lambda auc, *r: auc, "for an AUC of 0.9, a prevalence of 0.3"),
    (THREE, majority, "✓"),
    (THREE, majority_in_patterns, "✓"),
    (THREE, lambda p: binom.sf(len(p) // 2, len(p), np.mean(p)), "the mean probability"),
    (THREE, lambda p: counted(p)[len(p) // 2 + 1], "only the closest result"),
    (THREE, math.prod, "you asked that all are right"),
    (THREE, lambda p: 1 - math.prod(1 - x for x in p), "you asked that one is right"),
    (THREE, np.mean, "one reader drawn at random"),
    (THREE, max, "the best reader alone"),
    (THREE, lambda p: counted(p)[len(p) // 2 :].sum(), "of 3 readers 2 must be right"),
    (THREE, lambda p: counted(p)[len(p) // 2 + 2 :].sum(), "of 3 readers 2 suffice"),
    (THREE, lambda p: 1 - majority(p), "how often the majority is wrong"),
    (THREE, sum, "between 0 and 1, and you returned 2.2"),
    (THREE, lambda p: majority(p[:3]), "right with [0.55, 0.95, 0.6, 0.75, 0.4]"),
    (FOUR, e_step, "✓"),
    (FOUR, e_in_loops, "✓"),
    (FOUR, e_literally, "✓"),
    (FOUR, products(ill_of, well_of), "✓"),
    (FOUR, lambda *a: torch.tensor(e_step(*a)), "✓"),
    (FOUR, lambda *a: e_step(*a)[:, None], "one probability a patient, shape (11,)"),
    (FOUR, lambda *a: "ill", "one probability a patient"),
    (FOUR, products(ill_of, well_of, prior=0.5), "your prevalence is missing or cancels"),
    (FOUR, lambda r, pi, a, b: pi * e_step(r, 0.5, a, b), "belongs into both sums"),
    (
        FOUR,
        products(ill_of, well_of, lambda ill, well: ill / (ill + well / 0.7)),
        "belongs into both sums",
    ),
    (
        FOUR,
        products(lambda x, a, b: x * a, lambda x, a, b: x * (1 - b)),
        "yours is no number: 0 divided by 0",
    ),
    (FOUR, lambda r, pi, a, b: e_step(r, pi, b, a), "are exchanged"),
    (FOUR, lambda *a: 1 - e_step(*a), "probability of being healthy"),
    (FOUR, products(ill_of, well_of, lambda ill, well: ill), "ill *and* of being read so"),
    (FOUR, products(ill_of, well_of, lambda ill, well: ill / well), "those are odds"),
    (FOUR, products(ill_of, well_of, lambda i, w: np.log(i / w)), "those are log odds"),
    (FOUR, lambda r, *a: r.mean(1), "share of readers who say"),
    (FOUR, lambda *a: e_step(*a) > 0.5, "you rounded to 0 and 1"),
    (FOUR, products(ill_of, lambda x, a, b: np.where(x == 1, b, 1 - b)), "1 − specificity as ill"),
    (
        FOUR,
        products(
            lambda x, a, b: np.where(x == 1, a, 1), lambda x, a, b: np.where(x == 1, 1 - b, 1)
        ),
        "only readings of ill counted",
    ),
    (FOUR, summed, "you added what the readers say"),
    (FOUR, lambda *a: e_step(*a) ** 2, "for readings [1, 1, 0, 1] I expected"),
    (FIVE, m_step, "✓"),
    (FIVE, m_in_loops, "✓"),
    (FIVE, lambda r, p: m_step(r, p)[1:], "got tuple"),
    (FIVE, lambda r, p: (m_step(r, p)[0], 1, 2), "got shapes () and ()"),
    (FIVE, lambda r, p: (m_step(r, p)[0], "a", "b"), "got str"),
    (FIVE, lambda r, p: (m_step(r, p)[0], *m_step(r, p)[:0:-1]), "are exchanged"),
    (FIVE, lambda r, p: m_step(r, (p > 0.5) * 1.0), "you rounded p"),
    (FIVE, m_over(lambda w, r, v: r == v), "that is PPV and NPV"),
    (
        FIVE,
        lambda r, p: (m_step(r, p)[0], m_step(r, p)[1], 1 - m_step(r, p)[2]),
        "a healthy one is read as ill",
    ),
    (FIVE, m_over(lambda w, r, v: 1), "you divided by all patients"),
    (FIVE, lambda r, p: (0.5, *m_step(r, p)[1:]), "of the prevalence I expected 0.4"),
    (FIVE, lambda r, p: (p.mean(), *(x**2 for x in m_step(r, p)[1:])), "for the first reader"),
    (SIX, pool, "✓"),
    (SIX, pool_in_loops, "✓"),
    (SIX, pool_masked, "✓"),
    (SIX, pool_nan, "✓"),
    (SIX, lambda h, seen: pool(h, seen)[:, None], "features of shape (5, 3)"),
    (SIX, lambda h, seen: h.mean(1), "you averaged over all places"),
    (SIX, lambda h, seen: (h * seen[..., None]).mean(1), "divided by the number of places"),
    (SIX, lambda h, seen: (h * seen[..., None]).sum(1), "you did not divide"),
    (SIX, lambda h, seen: (h * seen[..., None]).sum(1) / seen.sum(), "of all patients together"),
    (SIX, lambda h, seen: h[:, 0], "the first view alone"),
    (SIX, first_places, "views need not stand first"),
    (SIX, lambda h, s: np.where(s[..., None], h, -np.inf).max(1), "you took the maximum"),
    (SIX, lambda h, s: (h * s[..., None]).max(1), "you took the maximum"),
    (SIX, of_missing, "the places without a view"),
    (SIX, lambda h, seen: 2 * pool(h, seen), "for patient 0 (from 0) I expected"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_what_an_answer_is_told(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


@pytest.mark.parametrize(
    ("id", "answer"), [(FIVE, lambda r, p: (..., 1, 2)), (SIX, lambda h, s: [..., 1])]
)
def test_a_part_untouched_is_not_attempted(id, answer, capsys):
    check(id, answer)
    assert capsys.readouterr().out.startswith("○")


RIGHT = {ONE: mended, FOUR: e_step, FIVE: m_step, SIX: pool}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# ------------------------------------------------------------------------------ other authorities


def test_the_measured_auc_is_what_simulated_readers_make_of_it():
    """Scores of two normal distributions, a reader who errs independently: scikit-learn's AUC."""
    rng = np.random.default_rng(0)
    y = (rng.random(400_000) < 0.2).astype(int)
    scores = rng.standard_normal(len(y)) + 1.2 * y
    labels = tools.read(y, np.array([0.8]), np.array([0.93]), 0, rng)[:, 0]
    want = tools.seen(norm.cdf(1.2 / 2**0.5), 0.2, 0.8, 0.93)
    assert roc_auc_score(labels, scores) == pytest.approx(want, abs=0.004)


@pytest.mark.parametrize(("readers", "right"), [(1, 0.3), (3, 0.75), (5, 0.6), (9, 0.9)])
def test_equal_readers_are_the_binomial_of_scipy(readers, right):
    assert tools.majority([right] * readers) == pytest.approx(
        binom.sf(readers // 2, readers, right)
    )


@pytest.mark.parametrize("shared", [0, 0.4, 1])
def test_readers_keep_their_rates_and_share_their_errors(shared):
    y = np.arange(100_000) % 2
    readings = tools.read(y, [0.9, 0.6], [0.8, 0.7], shared, np.random.default_rng(0))
    assert readings[y == 1].mean(0) == pytest.approx([0.9, 0.6], abs=0.01)
    assert 1 - readings[y == 0].mean(0) == pytest.approx([0.8, 0.7], abs=0.01)
    both = (readings[y == 1] == 0).all(1).mean()
    want = {0: 0.04, 1: 0.1}.get(shared)
    if want is not None:
        assert both == pytest.approx(want, abs=0.005)
    else:
        assert 0.05 < both < 0.09


def test_the_steps_raise_the_likelihood_and_find_the_readers():
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.3).astype(int)
    sens, spec = np.array([0.95, 0.7, 0.6, 0.8]), np.array([0.9, 0.8, 0.65, 0.7])
    readings = tools.read(y, sens, spec, 0, rng)
    p, before = np.clip((readings == 1).mean(1), 0.1, 0.9), -np.inf
    for _ in range(60):
        pi, a, b = tools.m_step(readings, p)
        ill = pi * np.where(readings == 1, a, 1 - a).prod(1)
        well = (1 - pi) * np.where(readings == 1, 1 - b, b).prod(1)
        now = np.log(ill + well).sum()
        assert now >= before - 1e-6
        before, p = now, tools.e_step(readings, pi, a, b)
        assert p == pytest.approx(ill / (ill + well))
    assert pi == pytest.approx(0.3, abs=0.03)
    assert a == pytest.approx(sens, abs=0.05)
    assert b == pytest.approx(spec, abs=0.05)


def test_the_finished_answers_are_right(capsys):
    for id, answer in zip(
        (ONE, TWO, THREE, FOUR, FIVE, SIX),
        (tools.mended, tools.seen, tools.majority, tools.e_step, tools.m_step, tools.pool),
        strict=True,
    ):
        is_told(id, answer, "✓", capsys)


def test_wrong_labels_are_of_those_whom_the_kind_names():
    y, severity = np.arange(200) % 2, np.random.default_rng(0).random(200)
    for kind, asked in (("random", 60), ("class", 60), ("image", 60)):
        labels = tools.wrong(kind, 0.3, y, severity, seed=3)
        flipped = labels != y
        assert flipped.sum() == asked and set(np.unique(labels)) == {0, 1}
        if kind == "random":
            assert 15 <= flipped[y == 0].sum() <= 45
        else:
            assert not flipped[y == 0].any()
        if kind == "image":
            assert severity[flipped].max() < severity[(y == 1) & ~flipped].min()
    assert (y == np.arange(200) % 2).all()
    other = tools.wrong("class", 0.3, y, severity, seed=4)
    assert (other != tools.wrong("class", 0.3, y, severity, seed=3)).any()
    few = np.array([1, 0, 0, 0, 0])
    assert tools.wrong("image", 0.6, few, np.arange(5.0)).tolist() == [0] * 5


def test_a_table_is_sklearns_weighted_auc():
    rng = np.random.default_rng(0)
    y, p = np.arange(60) % 2, [rng.random(60), rng.random(60)]
    found = tools.table(y, p)
    counts = np.concatenate(list(metrics.resamples(y, n=1000)))
    assert found.shape == (2, 1000)
    for row, scores in zip(found, p, strict=True):
        for k in (0, 17, 999):
            want = roc_auc_score(y, scores, sample_weight=counts[k])
            assert row[k] == pytest.approx(want)


def test_an_interval_counts_seeds_and_patients():
    """Without a spread over patients it is SciPy's t interval of the seeds' means."""
    seeds = np.array([0.02, -0.03, 0.08, 0.05, 0.01])
    found = tools.compared(seeds[:, None] + np.full((5, 40), 0.7), np.full((5, 40), 0.7))
    low, high = t.interval(0.95, 4, seeds.mean(), seeds.std(ddof=1) / 5**0.5)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-4)
    spread = np.random.default_rng(0).normal(0, 0.02, 400)
    found = tools.compared(np.tile(spread, (5, 1)), np.zeros((5, 400)))
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread.std(ddof=1), abs=2e-3)


def test_a_view_that_is_missing_is_a_blank_image():
    torch.manual_seed(0)
    model, views = SmallCNN(1, 2, width=8), torch.rand(5, 4, 1, 16, 16)
    there = np.random.default_rng(0).random((5, 4)) < 0.5
    found = tools.features(model, views, there)
    with torch.no_grad():
        alone = model.eval().features(views[3, :1]).mean((2, 3))[0]
        blank = model.features(torch.zeros(1, 1, 16, 16)).mean((2, 3))[0]
    assert found.shape == (5, 4, 32)
    assert 0 < there.sum() < 20
    assert np.allclose(found[~there], blank, atol=1e-5)
    there[3, 0] = True
    assert np.allclose(tools.features(model, views, there)[3, 0], alone, atol=1e-5)


def test_the_regression_is_the_penalised_one_whatever_the_units():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = rng.normal(0, 1, (200, 3)) + 2 * y[:, None] * [1, 0, 0]
    p = tools.decided(x[:100], y[:100], x[100:])
    assert roc_auc_score(y[100:], p) > 0.85
    # where the penalised likelihood is largest, each weight is C times its gradient
    z, p_own = (x - x.mean(0)) / x.std(0), tools.decided(x, y, x)
    weights = np.linalg.lstsq(np.c_[z, np.ones(200)], logit(p_own), rcond=None)[0][:3]
    assert weights == pytest.approx(0.01 * z.T @ (y - p_own), abs=1e-3)
    units = np.array([1000, 0.01, 1])
    assert tools.decided(x[:100] * units, y[:100], x[100:] * units) == pytest.approx(p, abs=1e-3)


def cohort(patients, labels, **extras):
    images = torch.arange(len(labels), dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    return Cohort(
        images=images.clone(),
        labels=torch.tensor(labels),
        card=DataCard(name="t", title="t", task="binary", classes=("well", "ill")),
        patients=patients,
        extras=extras,
    )


def test_patients_keep_the_views_of_their_first_class(capsys):
    names = np.array(["a", "b", "a", "c", "b", "a", "c", "c", "c", "c"])
    part = cohort(names, [1, 0, 1, 1, 1, 0, 1, 1, 1, 1], severity=torch.arange(10.0))
    views, there, y, severity = tools.by_patient(part)
    order = np.argsort(severity)  # a, b, c: their first images are 0, 1 and 3
    assert severity[order].tolist() == [0, 1, 3]
    assert y[order].tolist() == [1, 0, 1]
    assert there[order].sum(1).tolist() == [2, 1, 4]
    shown = views.amax((2, 3, 4)).numpy()[order]
    assert shown.tolist() == [[0, 2, 0, 0], [1, 0, 0, 0], [3, 6, 7, 8]]
    assert "3 patients, 67% ill; with 1, 2, 3, 4 views: 1, 1, 0, 1; 2 stand in both classes" in (
        capsys.readouterr().out
    )


def test_a_set_without_patients_is_told_of_its_stand_ins(capsys):
    views, there, y, _ = tools.by_patient(cohort(None, [0, 1] * 400))
    assert len(views) == len(y) == 700
    assert there[:, 0].all() and (np.diff(there.astype(int), axis=1) <= 0).all()
    assert np.bincount(there.sum(1), minlength=5)[1:] / 700 == pytest.approx(
        [0.35, 0.3, 0.22, 0.13], abs=0.05
    )
    told = capsys.readouterr().out
    assert "no severity here" in told and "moved by a pixel" in told


ROUND = "imperfect.3: for vote, p in zip(votes, right, strict=True): →"
# Two bounds in either order; lists of one length; every order of the patterns; an odd number has no
# half; a share in which both signs turn.
EQUIVALENT = [
    "imperfect.1: return np.clip(p, 0, 1) → return np.clip(0, p, 1)",
    f"{ROUND} for vote, p in zip(votes, right):",
    f"{ROUND} for vote, p in zip(votes, right, strict=False):",
    "imperfect.3: for votes in itertools.product((0, 1), repeat=len(right)): → "
    "for votes in itertools.product((1, 0), repeat=len(right)):",
    "imperfect.3: if sum(votes) > len(right) / 2: → if sum(votes) >= len(right) / 2:",
    "imperfect.5: well = 1 - ill → well = ill - 1",
]


def test_no_changed_solution_is_called_right():
    assert ticked("30b_imperfect_data", "imperfect") == EQUIVALENT
