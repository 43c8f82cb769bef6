"""Checks of notebook 30b: right answers in several forms, each named mistake, mutants."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from medlab.cohort import Cohort, DataCard
from medlab.exercises import check, material
from medlab.exercises.imperfect import MESSAGES
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

tools = material("imperfect")
ONE, TWO, THREE, FOUR, FIVE, SIX = (f"imperfect.{k}" for k in range(1, 7))

# ------------------------------------------------------------------------------ 1: a wrong ruler


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


# ------------------------------------------------------------------------------ 2: a majority


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


# ------------------------------------------------------------------------------ 3 and 4: EM


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


# ------------------------------------------------------------------------------ 5: pooling


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


# ------------------------------------------------------------------------------ 6: view dropout


def drop(there, p, rng):
    luck = np.where(there, rng.random(there.shape), -1)
    kept = luck >= p
    kept[np.arange(len(there)), luck.argmax(1)] = True
    return kept


def drop_in_loops(there, p, rng):
    found = []
    for row in there:
        places = [k for k, seen in enumerate(row) if seen]
        kept = [k for k in places if rng.random() >= p] or [int(rng.choice(places))]
        found.append([k in kept for k in range(len(row))])
    return found


def drop_or_all(there, p, rng):
    kept = there & (rng.random(there.shape) >= p)
    return np.where(kept.any(1, keepdims=True), kept, there)


def drop_or_first(there, p, rng):
    kept = there & (rng.random(there.shape) >= p)
    lost = ~kept.any(1)
    kept[lost, there.argmax(1)[lost]] = True
    return kept


def drop_whole(there, p, rng):
    luck = np.where(there, rng.random(there.shape), -1)
    one = np.zeros_like(there)
    one[np.arange(len(there)), luck.argmax(1)] = True
    return np.where(rng.random((len(there), 1)) < p, one, there)


def drop_alike(there, p, rng):
    kept = there & (rng.random(4) >= p)
    return np.where(kept.any(1, keepdims=True), kept, there)


def drop_in_place(there, p, rng):
    there &= drop(there, p, rng)
    return there


CASES = [
    (ONE, seen, "✓"),
    (ONE, by_pairs(), "✓"),
    (ONE, in_patients, "✓"),
    (ONE, lambda *a: torch.tensor([seen(*a)]), "✓"),
    (ONE, lambda *a: [1, 2], "expected a number"),
    (ONE, shrunk(lambda pi, a, b: a + b - 1), "you used sensitivity + specificity − 1"),
    (ONE, shrunk(lambda pi, a, b: 2 * (pi * a + (1 - pi) * b) - 1), "the share of right labels"),
    (ONE, shrunk(lambda pi, *r: sum(trust(0.5, *r)) - 1), "as if half were ill"),
    (ONE, shrunk(lambda *r: 2 * trust(*r)[0] - 1), "you used PPV for both groups"),
    (ONE, shrunk(lambda *r: 2 * trust(*r)[1] - 1), "you used NPV for both groups"),
    (ONE, shrunk(lambda pi, a, b: 2 * a - 1), "you used sensitivity for both groups"),
    (ONE, shrunk(lambda pi, a, b: 2 * b - 1), "you used specificity for both groups"),
    (ONE, lambda auc, *r: auc * (sum(trust(*r)) - 1), "you shrank the AUC towards 0"),
    (ONE, by_pairs(won=0), "won half the time, not never"),
    (ONE, by_pairs(turned=lambda auc: 0.5), "with 1 − AUC, not with 0.5"),
    (ONE, by_pairs(turned=lambda auc: 0), "You counted it as lost"),
    (ONE, by_pairs(turned=lambda auc: auc), "You counted it as won with AUC"),
    (ONE, lambda auc, pi, a, b: seen(auc, pi, b, a), "sensitivity for specificity"),
    (ONE, lambda auc, pi, a, b: seen(auc, 1 - pi, a, b), "sensitivity for specificity, or"),
    (ONE, lambda auc, *r: 0.5 + (auc - 0.5) / (sum(trust(*r)) - 1), "that is the way back"),
    (ONE, lambda auc, *r: auc, "for an AUC of 0.9, a prevalence of 0.3"),
    (TWO, majority, "✓"),
    (TWO, majority_in_patterns, "✓"),
    (TWO, lambda p: binom.sf(len(p) // 2, len(p), np.mean(p)), "the mean probability"),
    (TWO, lambda p: counted(p)[len(p) // 2 + 1], "only the closest result"),
    (TWO, math.prod, "you asked that all are right"),
    (TWO, lambda p: 1 - math.prod(1 - x for x in p), "you asked that one is right"),
    (TWO, np.mean, "one reader drawn at random"),
    (TWO, max, "the best reader alone"),
    (TWO, lambda p: counted(p)[len(p) // 2 :].sum(), "of 3 readers 2 must be right"),
    (TWO, lambda p: counted(p)[len(p) // 2 + 2 :].sum(), "of 3 readers 2 suffice"),
    (TWO, lambda p: 1 - majority(p), "how often the majority is wrong"),
    (TWO, sum, "between 0 and 1, and you returned 2.2"),
    (TWO, lambda p: majority(p[:3]), "right with [0.55, 0.95, 0.6, 0.75, 0.4]"),
    (THREE, e_step, "✓"),
    (THREE, e_in_loops, "✓"),
    (THREE, e_literally, "✓"),
    (THREE, products(ill_of, well_of), "✓"),
    (THREE, lambda *a: torch.tensor(e_step(*a)), "✓"),
    (THREE, lambda *a: e_step(*a)[:, None], "one probability a patient, shape (11,)"),
    (THREE, lambda *a: "ill", "one probability a patient"),
    (THREE, products(ill_of, well_of, prior=0.5), "you left the prevalence out"),
    (THREE, lambda r, pi, a, b: pi * e_step(r, 0.5, a, b), "belongs into both sums"),
    (
        THREE,
        products(ill_of, well_of, lambda ill, well: ill / (ill + well / 0.7)),
        "belongs into both sums",
    ),
    (
        THREE,
        products(lambda x, a, b: x * a, lambda x, a, b: x * (1 - b)),
        "yours is no number: 0 divided by 0",
    ),
    (THREE, lambda r, pi, a, b: e_step(r, pi, b, a), "are exchanged"),
    (THREE, lambda *a: 1 - e_step(*a), "probability of being healthy"),
    (THREE, products(ill_of, well_of, lambda ill, well: ill), "ill *and* of being read so"),
    (THREE, products(ill_of, well_of, lambda ill, well: ill / well), "those are odds"),
    (THREE, products(ill_of, well_of, lambda i, w: np.log(i / w)), "those are log odds"),
    (THREE, lambda r, *a: r.mean(1), "share of readers who say"),
    (THREE, lambda *a: e_step(*a) > 0.5, "you rounded to 0 and 1"),
    (THREE, products(ill_of, lambda x, a, b: np.where(x == 1, b, 1 - b)), "1 − specificity ill"),
    (
        THREE,
        products(
            lambda x, a, b: np.where(x == 1, a, 1), lambda x, a, b: np.where(x == 1, 1 - b, 1)
        ),
        "only readings of ill counted",
    ),
    (THREE, summed, "you added what the readers say"),
    (THREE, lambda *a: e_step(*a) ** 2, "for readings [1, 1, 0, 1] I expected"),
    (FOUR, m_step, "✓"),
    (FOUR, m_in_loops, "✓"),
    (FOUR, lambda r, p: m_step(r, p)[1:], "got tuple"),
    (FOUR, lambda r, p: (m_step(r, p)[0], 1, 2), "got shapes () and ()"),
    (FOUR, lambda r, p: (m_step(r, p)[0], "a", "b"), "got str"),
    (FOUR, lambda r, p: (m_step(r, p)[0], *m_step(r, p)[:0:-1]), "are exchanged"),
    (FOUR, lambda r, p: m_step(r, (p > 0.5) * 1.0), "you rounded p"),
    (FOUR, m_over(lambda w, r, v: r == v), "that is PPV and NPV"),
    (
        FOUR,
        lambda r, p: (m_step(r, p)[0], m_step(r, p)[1], 1 - m_step(r, p)[2]),
        "a healthy one is called ill",
    ),
    (FOUR, m_over(lambda w, r, v: 1), "you divided by all patients"),
    (FOUR, lambda r, p: (0.5, *m_step(r, p)[1:]), "of the prevalence I expected 0.4"),
    (FOUR, lambda r, p: (p.mean(), *(x**2 for x in m_step(r, p)[1:])), "for the first reader"),
    (FIVE, pool, "✓"),
    (FIVE, pool_in_loops, "✓"),
    (FIVE, pool_masked, "✓"),
    (FIVE, pool_nan, "✓"),
    (FIVE, lambda h, seen: pool(h, seen)[:, None], "features of shape (5, 3)"),
    (FIVE, lambda h, seen: h.mean(1), "you averaged over all places"),
    (FIVE, lambda h, seen: (h * seen[..., None]).mean(1), "divided by the number of places"),
    (FIVE, lambda h, seen: (h * seen[..., None]).sum(1), "you did not divide"),
    (FIVE, lambda h, seen: (h * seen[..., None]).sum(1) / seen.sum(), "of all patients together"),
    (FIVE, lambda h, seen: h[:, 0], "the first view alone"),
    (FIVE, first_places, "views need not stand first"),
    (FIVE, lambda h, s: np.where(s[..., None], h, -np.inf).max(1), "you took the maximum"),
    (FIVE, lambda h, s: (h * s[..., None]).max(1), "you took the maximum"),
    (FIVE, of_missing, "the places without a view"),
    (FIVE, lambda h, seen: 2 * pool(h, seen), "for patient 0 (from 0) I expected"),
    (SIX, drop, "✓"),
    (SIX, drop_in_loops, "✓"),
    (SIX, lambda *a: torch.as_tensor(drop(*a)), "✓"),
    (SIX, lambda *a: drop(*a)[:, :3], "true and false of shape"),
    (SIX, lambda *a: drop(*a) * 2, "true and false of shape"),
    (SIX, drop_in_place, "you changed the array"),
    (SIX, lambda seen, p, rng: rng.random(seen.shape) >= p, "that was not there"),
    (SIX, lambda seen, p, rng: seen & (rng.random(seen.shape) >= p), "have no view left"),
    (SIX, lambda seen, p, rng: seen, "nothing was hidden"),
    (SIX, drop_whole, "all views but one, or none"),
    (SIX, drop_alike, "you hide the same places"),
    (SIX, lambda seen, p, rng: drop(seen, 1 - p, rng), "you keep a view with probability p"),
    (SIX, drop_or_first, "your view in place 0 stays"),
    (SIX, lambda seen, p, rng: drop(seen, p, np.random.default_rng(0)), "two calls hid the same"),
    (SIX, lambda seen, p, rng: drop(seen, p**2, rng), "with p = 0.3, patients with"),
    (SIX, drop_or_all, "should keep"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_what_an_answer_is_told(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


@pytest.mark.parametrize(
    ("id", "answer"), [(FOUR, lambda r, p: (..., 1, 2)), (FIVE, lambda h, s: [..., 1])]
)
def test_a_part_untouched_is_not_attempted(id, answer, capsys):
    check(id, answer)
    assert capsys.readouterr().out.startswith("○")


RIGHT = {THREE: e_step, FOUR: m_step, FIVE: pool}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_no_luck_makes_a_right_answer_wrong(capsys):
    """Whatever was drawn before."""
    for before in range(40):
        check(SIX, lambda there, p, rng, k=before: (rng.random(k), drop(there, p, rng))[1])
        assert capsys.readouterr().out.startswith("✓")


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
        (tools.seen, tools.majority, tools.e_step, tools.m_step, tools.pool, tools.drop),
        strict=True,
    ):
        is_told(id, answer, "✓", capsys)


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


ROUND = "imperfect.2: for vote, p in zip(votes, right, strict=True): →"
HIDDEN = "imperfect.6: luck[~there] = -1 →"
# Lists of one length; every order of the patterns; an odd number has no half; q above and below the
# line; two names exchanged throughout; a number drawn is never just p, and never 0.
EQUIVALENT = [
    f"{ROUND} for vote, p in zip(votes, right):",
    f"{ROUND} for vote, p in zip(votes, right, strict=False):",
    "imperfect.2: for votes in itertools.product((0, 1), repeat=len(right)): → "
    "for votes in itertools.product((1, 0), repeat=len(right)):",
    "imperfect.2: if sum(votes) > len(right) / 2: → if sum(votes) >= len(right) / 2:",
    "imperfect.4: q = 1 - p → q = p - 1",
    "imperfect.4: sensitivity, specificity = ([], []) → specificity, sensitivity = ([], [])",
    "imperfect.6: kept = luck >= p → kept = luck > p",
    f"{HIDDEN} luck[~there] = -0",
    f"{HIDDEN} luck[~there] = -2",
]


def test_no_changed_solution_is_called_right():
    assert ticked("30b_imperfect_data", "imperfect") == EQUIVALENT
