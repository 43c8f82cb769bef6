"""Checks of the case study, fed with right, untouched and typically wrong answers."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from medlab import metrics
from medlab.cohort import DataCard
from medlab.exercises import check
from medlab.exercises.pneumonia import KEYS, MESSAGES
from medlab.metrics import Interval
from tests.learners import hasty, is_told, is_told_what_is_no_answer, stub, unheard
from tests.mutants import ticked


def queue(found, kept, pi, *, flagged=None, how=""):
    if flagged is None:
        flagged = 100 * (pi * found + (1 - pi) * (1 - kept))
    missed = 50 + flagged / 2
    ahead = found * flagged / 2 + (1 - found) * missed
    if how == "found":
        ahead = flagged / 2
    if how == "evenly":
        ahead = (flagged / 2 + missed) / 2
    if how == "whole":
        ahead = found * flagged + (1 - found) * missed
    if how == "mean":
        ahead = 50.0
    last = {"fall": flagged / 2, "behind": flagged, "turn": 50.0, "missed": 100.0}
    return flagged, ahead, last.get(how, missed)


def by(how):
    return lambda *given: queue(*given, how=how)


def piles(found, kept, pi):
    """The same by playing: 40,000 piles' worth of expected counts."""
    flagged = 100 * (pi * found + (1 - pi) * (1 - kept))
    return torch.tensor([flagged, 50 * (1 + flagged / 100 - found), 50 + flagged / 2])


def costs(labels, scores, price, pi, *, strict=False, own=False, plain=False):
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    grid = np.unique(scores)
    ill, well = scores[labels == 1], scores[labels == 0]
    if own:
        pi = labels.mean()
    weights = (price, 1) if plain else (pi * price, 1 - pi)
    missed = np.array([(ill <= t).mean() if strict else (ill < t).mean() for t in grid])
    alarmed = np.array([(well > t).mean() if strict else (well >= t).mean() for t in grid])
    return grid, weights[0] * missed + weights[1] * alarmed


def cheapest(*given, **how):
    grid, cost = costs(*given, **how)
    return grid[cost.argmin()]


def by_library(labels, scores, price, pi):
    grid = scores.unique()
    cost = metrics.expected_cost(labels, scores, grid, miss_cost=price, prevalence=pi)
    return grid[int(cost.argmin())]


def accepted(labels, scores, patients, threshold, *, how=""):
    def found(y, s):
        if how == "strict":
            s = np.asarray(s) - 1e-9
        return metrics.sensitivity(y, s, threshold=threshold)

    def gained(y, s):
        pi = float(np.asarray(y).mean()) if how == "prevalence" else 0.1
        alarms = 1 - metrics.specificity(y, s, threshold=threshold)
        flagged = (0 if how == "flagged" else pi * found(y, s)) + (1 - pi) * alarms
        return {"49": 49, "51": 51}.get(how, 50) * (found(y, s) - flagged)

    bars = {
        found: {"0.84": 0.84, "above": 0.85 + 1e-6}.get(how, 0.85),
        gained: {"9": 9, "11": 11}.get(how, 10),
    }
    if how == "sensitivity":
        del bars[found]
    if how == "gained":
        del bars[gained]
    for measure, bar in bars.items():
        by_image = how == "image" or (how == "gained by image" and measure is gained)
        groups = None if by_image else patients
        at = metrics.bootstrap(measure, labels, scores, groups=groups, n=400)
        if (at.value if how == "value" else at.low) < bar:
            return False
    return True


def promises(how):
    return lambda *given: accepted(*given, how=how)


def flattery(drawn, whole):
    winner = drawn.argmax(0)
    return (drawn.max(0).values if torch.is_tensor(drawn) else drawn.max(0)).mean() - whole[
        winner
    ].mean()


def arrays(change):
    return lambda drawn, whole: change(np.asarray(drawn), np.asarray(whole))


def told(labels, scores, patients, threshold, fact, *, how=""):
    labels, scores, fact = (np.asarray(one) for one in (labels, scores, fact))
    patients = np.asarray(patients)
    kept = labels < 2 if how in ("well", "ill", "raw") else labels == 1
    found = (scores > threshold if how == "strict" else scores >= threshold).astype(int)
    if how in ("ill", "raw"):
        found = labels
    fact = {"score": scores, "raw": scores, "reversed": -fact}.get(how, fact)
    groups = None if how == "image" else patients[kept]
    return metrics.bootstrap(metrics.auc, found[kept], fact[kept], groups=groups, n=1500, seed=3)


def tells(how):
    return lambda *given: told(*given, how=how)


CASES = [
    ("pneumonia.1", queue, "✓"),
    ("pneumonia.1", piles, "✓"),
    ("pneumonia.1", lambda *g: list(queue(*g)), "✓"),
    ("pneumonia.1", lambda *g: np.array(queue(*g)), "✓"),
    ("pneumonia.1", lambda *g: [torch.tensor(one) for one in queue(*g)], "✓"),
    ("pneumonia.1", lambda *g: queue(*g)[:2], "three numbers, and got shape (2,)"),
    ("pneumonia.1", lambda *g: queue(*g)[0], "three numbers, and got shape ()"),
    ("pneumonia.1", lambda *g: "many", "three numbers, and got str"),
    ("pneumonia.1", lambda *g: [one / 100 for one in queue(*g)], "these are shares"),
    ("pneumonia.1", lambda *g: queue(*g)[::-1], "in another order"),
    ("pneumonia.1", lambda s, k, p: queue(s, k, 0.5), "as if half were ill"),
    ("pneumonia.1", lambda s, k, p: queue(s, k, 1 - p), "you weighed the ill by 1 − prevalence"),
    (
        "pneumonia.1",
        lambda s, k, p: queue(s, k, p, flagged=100 * (p * s + (1 - p) * k)),
        "counted the well who are *not* flagged",
    ),
    ("pneumonia.1", lambda s, k, p: queue(s, k, p, flagged=100 * p * s), "weigh the two by prev"),
    ("pneumonia.1", by("found"), "before a *found* picture"),
    ("pneumonia.1", by("evenly"), "with equal weight"),
    ("pneumonia.1", by("whole"), "Half of them come after it"),
    ("pneumonia.1", by("mean"), "before an ill picture I expected"),
    ("pneumonia.1", by("fall"), "falls back from 50"),
    ("pneumonia.1", by("behind"), "if no unflagged one were"),
    ("pneumonia.1", by("turn"), "does not keep its turn"),
    ("pneumonia.1", by("missed"), "before a missed picture I expected"),
    ("pneumonia.1", lambda *g: (math.nan,) * 3, "got nan"),
    ("pneumonia.2", cheapest, "✓"),
    ("pneumonia.2", by_library, "✓"),
    ("pneumonia.2", lambda y, s, c, p: np.array([cheapest(y, s, c, p)]), "✓"),
    ("pneumonia.2", lambda *g: cheapest(*g, own=True), "as many are ill as in `labels`"),
    ("pneumonia.2", lambda y, s, c, p: cheapest(y, s, 1, p), "no more than a false flag"),
    ("pneumonia.2", lambda y, s, c, p: cheapest(y, s, 1 / c, p), "It is the other way round"),
    ("pneumonia.2", lambda y, s, c, p: cheapest(y, s, c, 1 - p), "change places"),
    ("pneumonia.2", lambda *g: cheapest(*g, plain=True), "left out π and 1 − π"),
    ("pneumonia.2", lambda *g: costs(*g)[0][costs(*g)[1].argmax()], "the dearest threshold"),
    ("pneumonia.2", lambda *g: cheapest(*g, strict=True), "a score exactly at the threshold"),
    ("pneumonia.2", lambda *g: int(costs(*g)[1].argmin()), "returned a position"),
    ("pneumonia.2", lambda y, s, c, p: 1 / (1 + c), "where a *calibrated* probability"),
    ("pneumonia.2", lambda *g: cheapest(*g) + 1e-3, "none of the scores"),
    ("pneumonia.2", lambda *g: costs(*g)[1].min(), "I asked for the threshold that has it"),
    ("pneumonia.2", lambda *g: np.sort(np.asarray(g[1]))[70], "the cost is"),
    ("pneumonia.2", lambda *g: costs(*g), "expected a number here"),
    ("pneumonia.3", accepted, "✓"),
    ("pneumonia.3", lambda *g: np.bool_(accepted(*g)), "✓"),
    ("pneumonia.3", lambda *g: torch.tensor(accepted(*g)), "✓"),
    ("pneumonia.3", lambda *g: str(accepted(*g)), "expected True or False, and got 'True'"),
    ("pneumonia.3", lambda *g: 0.9, "expected True or False"),
    ("pneumonia.3", lambda *g: np.array([True, False]), "expected True or False"),
    ("pneumonia.3", lambda *g: False, "you refuse where 95 of 100"),
    ("pneumonia.3", promises("image"), "Draw patients"),
    ("pneumonia.3", promises("value"), "the lower ends do not"),
    ("pneumonia.3", promises("sensitivity"), "starts far below 0.85"),
    ("pneumonia.3", promises("gained"), "nobody gains a place"),
    ("pneumonia.3", promises("prevalence"), "you refuse a gain of 14 places"),
    ("pneumonia.3", promises("flagged"), "whose lower end is 8"),
    ("pneumonia.3", promises("strict"), "s ≥ t is a flag"),
    ("pneumonia.3", promises("above"), "whose lower end is 0.85 itself"),
    ("pneumonia.3", promises("0.84"), "whose lower end is 0.84"),
    ("pneumonia.3", promises("49"), "you refuse a gain whose lower end is 10.1"),
    ("pneumonia.3", promises("11"), "you refuse a gain whose lower end is 10.1"),
    ("pneumonia.3", promises("51"), "you accept a gain whose lower end by patient is 9.9"),
    ("pneumonia.3", promises("gained by image"), "whose lower end by patient is 9.9"),
    ("pneumonia.3", promises("9"), "you accept a gain whose lower end by patient is 9.9"),
    ("pneumonia.4", flattery, "✓"),
    ("pneumonia.4", arrays(flattery), "✓"),
    ("pneumonia.4", arrays(lambda d, w: float(flattery(d, w))), "✓"),
    ("pneumonia.4", arrays(lambda d, w: d.max(0).mean() - w.max()), "with the best of all"),
    ("pneumonia.4", arrays(lambda d, w: d.max(0).mean()), "how well the winners score"),
    (
        "pneumonia.4",
        arrays(lambda d, w: d[w.argmax()].mean() - w.max()),
        "one candidate through all resamples",
    ),
    ("pneumonia.4", arrays(lambda d, w: -flattery(d, w)), "the other way round"),
    ("pneumonia.4", arrays(lambda d, w: (d - w[:, None]).mean()), "averaged over all cand"),
    (
        "pneumonia.4",
        arrays(lambda d, w: d.max() - w[np.unravel_index(d.argmax(), d.shape)[0]]),
        "you took one resample",
    ),
    ("pneumonia.4", arrays(lambda d, w: (d.min(0) - w[d.argmin(0)]).mean()), "the worst of each"),
    ("pneumonia.4", arrays(lambda d, w: d.max(0) - w[d.argmax(0)]), "expected one number"),
    ("pneumonia.4", arrays(lambda d, w: (d.max(1) - w).mean()), "for each candidate"),
    ("pneumonia.4", arrays(lambda d, w: np.median(d.max(0) - w[d.argmax(0)])), "the median"),
    ("pneumonia.4", arrays(lambda d, w: 0.5), "I expected 0.0"),
    ("pneumonia.5", {"A", "C", "E", "G", "H"}, "✓"),
    ("pneumonia.5", ["c", "a", "e", "h", "g"], "✓"),
    ("pneumonia.5", "A, C, E, G, H", "✓"),
    ("pneumonia.5", set("ABCEGH"), "B: that is what validation"),
    ("pneumonia.5", set("ACDEGH"), "D: test pictures were compared"),
    ("pneumonia.5", set("ACEFGH"), "F: a threshold fixed"),
    ("pneumonia.5", set("CEGH"), "A is missing"),
    ("pneumonia.5", set("AEGH"), "C is missing"),
    ("pneumonia.5", set("ACGH"), "E is missing"),
    ("pneumonia.5", set("ACEH"), "G is missing"),
    ("pneumonia.5", set("ACEG"), "H is missing"),
    ("pneumonia.5", set(), "A is missing"),
    ("pneumonia.5", {1, 2}, "expected a set of letters"),
    ("pneumonia.5", {"Z"}, "expected a set of letters"),
    ("pneumonia.5", 7, "expected a set of letters"),
    ("pneumonia.6", told, "✓"),
    ("pneumonia.6", lambda *g: told(*g).value, "gives it; got float"),
    ("pneumonia.6", lambda *g: (0.8, 0.5, 0.9), "gives it; got tuple"),
    ("pneumonia.6", tells("image"), "it draws images"),
    ("pneumonia.6", tells("well"), "Well ones can be neither"),
    ("pneumonia.6", tells("ill"), "you told ill from well by the fact"),
    ("pneumonia.6", tells("score"), "how well the *scores* tell"),
    ("pneumonia.6", tells("raw"), "how well the *scores* tell"),
    ("pneumonia.6", tells("reversed"), "is 1 − the value"),
    ("pneumonia.6", tells("strict"), "exactly at the threshold was found"),
    ("pneumonia.6", lambda *g: Interval(0.5, 0.4, 0.6), "I expected 0.8"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


FUNCTIONS = ("pneumonia.1", "pneumonia.2", "pneumonia.3", "pneumonia.4", "pneumonia.6")


@pytest.mark.parametrize("id", FUNCTIONS)
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


@pytest.mark.parametrize(
    "id, answer",
    [("pneumonia.2", cheapest), ("pneumonia.4", flattery), ("pneumonia.6", told)],
)
def test_who_writes_into_what_is_given_spoils_nothing(id, answer, capsys):
    check(id, hasty(answer))
    assert capsys.readouterr().out.startswith("✓")


def test_an_untouched_set_is_not_attempted(capsys):
    check("pneumonia.5", {...})
    assert capsys.readouterr().out.startswith("○")


# ------------------------------------------------------------------------------------ the card

SIMULATED = DataCard(name="toy", title="Toy", task="binary", simulated=True)
REAL = DataCard(name="toy", title="Toy", task="binary", simulated=False)
FIGURES = {"far": Interval(0.65, 0.56, 0.74, 0.95), "missed": 32, "ill": 288}
GOOD = [
    "These patients are simulated, and no clinic has tried it.",
    "At another hospital the specificity is only {far}.",
    "It missed {missed} images, most of them thin or small.",
]
LIMITS = [
    (GOOD, "✓"),
    (tuple(GOOD), "✓"),
    ([*GOOD, "Of the three hospitals one gave no training patient."], "✓"),
    ([*GOOD, "Half of the patients were ill, which no department sees."], "✓"),
    ([*GOOD, "Nobody has shown that it is reliable on another machine."], "✓"),
    (["All of these patients are synthetic, none is real.", *GOOD[1:]], "✓"),
    (GOOD[:2], "2 is too few"),
    (" ".join(GOOD), "a list of sentences, and got str"),
    (set(GOOD), "and got set"),
    ({"limits": GOOD}, "and got dict"),
    (None, "and got NoneType"),
    ([*GOOD[:2], 3], "int in it"),
    ([*GOOD[:2], None], "NoneType in it"),
    ([*GOOD[:2], "The AUC of 0.93 holds for these patients only."], "typed by hand"),
    ([*GOOD[:2], "One in ten, 10 %, of the ill are missed by it."], "result in words"),
    ([*GOOD[:2], "It misses thirty-two pictures of patients who are ill."], "'thirty'"),
    ([*GOOD[:2], "It misses a third of the patients who are faintly ill."], "'a third'"),
    ([*GOOD[:2], "Ten per cent of the ill are missed by this model."], "'per cent'"),
    ([*GOOD[:2], "It is wrong in one out of ten patients who are ill."], "'one out of ten'"),
    ([*GOOD[:2], "It misses half of those with disease behind the heart."], "'half of'"),
    ([*GOOD, "Our model is highly accurate and could be used elsewhere."], "'highly accurate'"),
    ([*GOOD, "It clearly outperforms the linear model on these patients."], "'outperforms'"),
    ([*GOOD, "This state-of-the-art network saw no child at all here."], "'state-of-the-art'"),
    ([*GOOD[:2], "Children were never tried, {children} of them, it seems."], "'children'"),
    ([*GOOD[:2], "May not generalise."], "any card"),
    ([*GOOD, GOOD[1].upper().replace("{FAR}", "{far}")], "the same"),
    (["No clinic has tried it so far.", *GOOD[1:]], "no sentence says so"),
    ([GOOD[0], "Other hospitals were not tried at all.", "No child was tried at all."], "{missed}"),
    ([GOOD[0], "The specificity elsewhere was only {far:.2f}.", GOOD[2]], "{far:.2f}"),
    ([GOOD[0], "The specificity elsewhere was only {}.", GOOD[2]], "only {}."),
    ([GOOD[0], "The specificity elsewhere was only {far", GOOD[2]], "only {far"),
    ([GOOD[0], "The specificity elsewhere was only far}.", GOOD[2]], "only far}."),
    ([GOOD[0], "The specificity elsewhere was only {{far}}.", GOOD[2]], "{{far}}"),
    ([GOOD[0], "The specificity elsewhere was only {far!r}.", GOOD[2]], "{far!r}"),
    ([..., ..., ...], "○"),
    ([GOOD[0], ..., GOOD[2]], "○"),
]


@pytest.mark.parametrize("answer, reply", LIMITS)
def test_the_limits_are_read(answer, reply, capsys):
    check("pneumonia.7", answer, figures=FIGURES, data=SIMULATED)
    said = " ".join(capsys.readouterr().out.split())
    assert reply in said, said
    assert said[0] == (reply if reply in "✓○" else "✗")


def test_only_simulated_patients_have_to_be_called_so(capsys):
    answer = ["No clinic has tried it so far.", *GOOD[1:]]
    check("pneumonia.7", answer, figures=FIGURES, data=REAL)
    assert capsys.readouterr().out.startswith("✓")


# ------------------------------------------------------------------------------------ the record

RECORD = {
    "change": "average the scores of three networks",
    "compared_with": "the first candidate of the protocol",
    "expected": "lower",
    "measured_on": "validation",
    "difference": Interval(-0.02, -0.04, -0.01),
    "verdict": "lower",
}
UNSURE = Interval(0.01, -0.02, 0.03)
RECORDS = [
    ({}, "✓"),
    ({"expected": "higher"}, "✓"),
    ({"difference": UNSURE, "verdict": "cannot tell"}, "✓"),
    ({"difference": Interval(0.02, 0.01, 0.03), "verdict": "higher"}, "✓"),
    ({"verdict": " Lower", "expected": "Higher"}, "✓"),
    ({"measured_on": "the latest validation patients"}, "✓"),
    ({"measured_on": "validation patients, not the test set"}, "✓"),
    ({"measured_on": "val"}, "✓"),
    ({"measured_on": "new patients, seed 82"}, "✓"),
    ({"measured_on": "new simulated patients"}, "✓"),
    ({"compared_with": "rate 0.003, moved (not the winner)"}, "✓"),
    ({"compared_with": "the winner", "measured_on": "new patients"}, "✓"),
    ({"compared_with": "the winner of the search"}, "picked on these patients"),
    ({"compared_with": "the best candidate"}, "picked on these patients"),
    ({"difference": UNSURE, "verdict": "higher"}, "holds 0"),
    ({"verdict": "higher"}, "says 'lower'"),
    ({"verdict": "cannot tell"}, "says 'lower'"),
    ({"verdict": "better"}, "verdict must be"),
    ({"verdict": "no difference"}, "does not show"),
    ({"verdict": 3}, "verdict must be"),
    ({"difference": (-0.02, -0.04, -0.01)}, "not an interval"),
    ({"difference": -0.02}, "difference is float"),
    ({"difference": "-0.02"}, "difference is str"),
    ({"difference": Interval("a", "b", "c")}, "difference is Interval"),
    ({"difference": Interval(0.88, 0.83, 0.92), "verdict": "higher"}, "looks like an AUC"),
    ({"difference": Interval(math.nan, math.nan, math.nan)}, "not an interval"),
    ({"difference": Interval(-0.02, -0.01, -0.04)}, "with numbers in order"),
    ({"measured_on": "test"}, "measured on the test set"),
    ({"measured_on": "the test set, not validation"}, "measured on the test set"),
    ({"measured_on": "validation and test"}, "measured on the test set"),
    ({"measured_on": "train"}, "should say 'validation'"),
    ({"measured_on": "not validation"}, "should say 'validation'"),
    ({"measured_on": "somewhere"}, "should say 'validation'"),
    ({"measured_on": None}, "should say 'validation'"),
    ({"expected": "who knows"}, "written before the run"),
    ({"expected": 1}, "written before the run"),
    ({"change": "width"}, "nobody could repeat"),
    ({"change": 8}, "nobody could repeat"),
    ({"compared_with": ""}, "nobody could repeat"),
    ({"difference": ...}, "○"),
]


@pytest.mark.parametrize("changes, reply", RECORDS)
def test_the_record_is_read(changes, reply, capsys):
    check("pneumonia.8", RECORD | changes)
    said = " ".join(capsys.readouterr().out.split())
    assert reply in said, said
    assert said[0] == (reply if reply in "✓○" else "✗")


@pytest.mark.parametrize("key", KEYS)
def test_a_record_without_an_entry_is_incomplete(key, capsys):
    check("pneumonia.8", {k: v for k, v in RECORD.items() if k != key})
    assert f"lacks {key}" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [list(RECORD.values()), "higher", 3, None, stub])
def test_a_record_is_a_dictionary(answer, capsys):
    check("pneumonia.8", answer)
    said = capsys.readouterr().out
    assert "expected a dictionary" in said or said.startswith("○")


# ------------------------------------------------------------------------------------ all of them


def test_every_message_is_said(capsys):
    given = {"pneumonia.7": {"figures": FIGURES, "data": SIMULATED}}
    cases = [
        *CASES,
        *(("pneumonia.7", answer) for answer, _ in LIMITS),
        *(("pneumonia.8", RECORD | changes) for changes, _ in RECORDS),
        ("pneumonia.8", 3),
        ("pneumonia.8", {}),
    ]
    assert unheard(MESSAGES, cases, capsys, lambda id: given.get(id, {})) == []


# A gain of exactly 10 is a matter of rounding: which of several right sums meets it is chance.
EQUIVALENT = [
    "pneumonia.2: labels, scores = (np.asarray(labels), np.asarray(scores)) → pass",
    "pneumonia.3: return low[0] >= 0.85 and low[1] >= 10 → return low[0] >= 0.85 and low[1] > 10",
    "pneumonia.4: drawn, whole = (np.asarray(drawn), np.asarray(whole)) → pass",
]


def test_a_changed_solution_is_not_ticked(monkeypatch):
    # The piles lie so far apart that fewer rounds than a learner's tell them apart as well.
    monkeypatch.setattr(metrics, "bootstrap", partial(metrics.bootstrap, n=150))
    without = ("pneumonia.7", "pneumonia.8")  # these rest on what the page has measured
    found = ticked("14_case_study_pneumonia", "pneumonia", without=without, seconds=20)
    assert found == EQUIVALENT
