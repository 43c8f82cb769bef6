"""Checks of pneumonia, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch

from medlab import metrics
from medlab.cohort import DataCard
from medlab.exercises import check
from medlab.exercises.pneumonia import KEYS, expected_largest
from medlab.metrics import Interval

Z = 1.96


def wilson(k, n, z=Z, root=1.0, middle=1.0, divided=True):
    p = k / n
    centre = p + middle * z**2 / (2 * n)
    reach = z * math.sqrt(p * (1 - p) / n + root * z**2 / (4 * n**2))
    scale = 1 + z**2 / n if divided else 1
    return (centre - reach) / scale, (centre + reach) / scale


def wald(k, n):
    reach = Z * math.sqrt(k / n * (1 - k / n) / n)
    return k / n - reach, k / n + reach


def library(k, n):
    found = metrics.proportion(k, n)
    return found.low, found.high


def rule(labels, scores, wanted):
    ill = np.asarray(scores)[np.asarray(labels) == 1]
    for t in np.unique(scores)[::-1]:
        if metrics.proportion(int((ill >= t).sum()), len(ill)).low >= wanted:
            return t
    return float("-inf")


def torch_rule(labels, scores, wanted):
    ill = scores[labels == 1].sort(descending=True).values
    for k in range(1, len(ill) + 1):
        if metrics.proportion(k, len(ill)).low >= wanted:
            return ill[k - 1]
    return -math.inf


def rule_with(count, wanted_of=None):
    """The rule with another way of counting k and n."""

    def answer(labels, scores, wanted):
        labels, scores = np.asarray(labels), np.asarray(scores)
        for t in np.unique(scores)[::-1]:
            k, n = count(labels, scores, t)
            reached = metrics.proportion(int(k), int(n)).low if wanted_of is None else k / n
            if reached >= wanted:
                return float(t)
        return float("-inf")

    return answer


def sees_ill(labels, scores, t):
    ill = scores[labels == 1]
    return (ill >= t).sum(), len(ill)


def position(labels, scores, wanted):
    ill = np.sort(np.asarray(scores)[np.asarray(labels) == 1])[::-1]
    return next(k for k in range(1, 41) if metrics.proportion(k, 40).low >= wanted) + 0 * ill[0]


def first_in_line(labels, scores, wanted):
    """Takes the scores in the order they come, not the highest."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    right = rule(labels, scores, wanted)
    return right if scores[0] == _first() else np.sort(scores)[0]


def _first():
    rng = np.random.default_rng(8)
    scores = np.concatenate([rng.permutation(50) * 2, 21 + rng.permutation(40) * 2]) / 128
    return scores[rng.permutation(90)][0]


def best(k, auc, sigma, n=20_000):
    tries = torch.randn(n, k, generator=torch.Generator().manual_seed(1))
    return auc + sigma * tries.max(1).values.mean()


def one_search(k, auc, sigma):
    return auc + sigma * np.random.default_rng().standard_normal(k).max()


def groups(labels, scores, groups, threshold, found=None, total=None, strict=False, order=1):
    y, s, g = map(np.asarray, (labels, scores, groups))
    flag = s > threshold if strict else s >= threshold
    found = (lambda y, f: (y == 1) & f) if found is None else found
    total = (lambda y: y == 1) if total is None else total
    return {
        name: (int((found(y, flag) & (g == name)).sum()), int((total(y) & (g == name)).sum()))[
            ::order
        ]
        for name in np.unique(g[y == 1])
    }


def with_options(**options):
    return lambda y, s, g, t: groups(y, s, g, t, **options)


def reach_undivided(k, n):
    low, high = wilson(k, n)
    half = (high - low) / 2 * (1 + Z**2 / n)
    return (low + high) / 2 - half, (low + high) / 2 + half


def ungrouped(y, s, g, t):
    y, s = map(np.asarray, (y, s))
    return {name: (int(((y == 1) & (s >= t)).sum()), int((y == 1).sum())) for name in set(g)}


def shares(y, s, g, t):
    return {name: (found / n, n) for name, (found, n) in groups(y, s, g, t).items()}


def tensors_only(labels, scores, names, threshold):
    found = {}
    for name in sorted(set(names)):
        here = torch.as_tensor(names == name) & labels.eq(1)
        found[name] = [scores[here].ge(threshold).sum(), here.sum()]
    return found


CASES = [
    ("pneumonia.1", wilson, "✓"),
    ("pneumonia.1", library, "✓"),
    ("pneumonia.1", lambda k, n: list(wilson(k, n)), "✓"),
    ("pneumonia.1", lambda k, n: np.array(wilson(k, n)), "✓"),
    ("pneumonia.1", lambda k, n: torch.tensor(wilson(k, n)), "✓"),
    ("pneumonia.1", lambda k, n: wilson(k, n, z=1.959964), "✓"),
    ("pneumonia.1", wald, "puts the measured share"),
    ("pneumonia.1", lambda k, n: wilson(k, n)[::-1], "the high one first"),
    ("pneumonia.1", lambda k, n: wilson(k, n, divided=False), "did not divide"),
    ("pneumonia.1", lambda k, n: wilson(k, n, middle=0.0), "draws it towards one half"),
    ("pneumonia.1", lambda k, n: wilson(k, n, root=0.0), "second term"),
    ("pneumonia.1", lambda k, n: wilson(k, n, z=2), "95.4 %"),
    ("pneumonia.1", lambda k, n: wilson(k, n, z=1.645), "holds 90 %"),
    ("pneumonia.1", lambda k, n: np.clip(wald(k, n), 0, 1), "cut off at 0 and 1"),
    ("pneumonia.1", reach_undivided, "the reach was not divided"),
    ("pneumonia.1", lambda k, n: tuple(100 * e for e in wilson(k, n)), "per cent"),
    (
        "pneumonia.1",
        lambda k, n: (sum(wilson(k, n)) / 2, (wilson(k, n)[1] - wilson(k, n)[0]) / 2),
        "the middle and the reach",
    ),
    ("pneumonia.1", lambda k, n: wilson(k, n)[0], "two numbers"),
    ("pneumonia.1", lambda k, n: (0.5958, 0.9821), "expected"),
    ("pneumonia.1", lambda k, n: ("a", "b"), "expected a number"),
    ("pneumonia.1", 3, "expected a function"),
    ("pneumonia.2", rule, "✓"),
    ("pneumonia.2", torch_rule, "✓"),
    ("pneumonia.2", lambda y, s, w: float(rule(y, s, w)), "✓"),
    ("pneumonia.2", rule_with(sees_ill, wanted_of="share"), "Compare the lower end"),
    ("pneumonia.2", rule_with(lambda y, s, t: ((s >= t).sum(), len(s))), "if all images count"),
    (
        "pneumonia.2",
        rule_with(lambda y, s, t: ((s[y == 1] > t).sum(), (y == 1).sum())),
        "is higher and keeps it too",
    ),
    ("pneumonia.2", position, "a position"),
    ("pneumonia.2", lambda y, s, w: float(rule(y, s, w)) + 1e-3, "none of the scores"),
    ("pneumonia.2", lambda y, s, w: float(np.asarray(s).max()), "below the 0.7 wanted"),
    ("pneumonia.2", lambda y, s, w: float(np.asarray(s).min()), "is higher and keeps it too"),
    ("pneumonia.2", lambda y, s, w: (rule(y, s, w), 0.8), "one number"),
    ("pneumonia.2", lambda y, s, w: max(float(rule(y, s, w)), float(np.asarray(s).min())), "-inf"),
    ("pneumonia.2", first_in_line, "shuffled"),
    ("pneumonia.2", lambda y, s, w: rule(y, s, 0.7), "below the 0.8 wanted"),
    ("pneumonia.3", best, "✓"),
    ("pneumonia.3", lambda k, auc, sigma: auc + sigma * expected_largest(k), "✓"),
    ("pneumonia.3", lambda k, auc, sigma: float(best(k, auc, sigma, 3000)), "✓"),
    ("pneumonia.3", lambda k, auc, sigma: auc, "the true AUC"),
    ("pneumonia.3", lambda k, auc, sigma: best(k, 0.0, sigma), "Add it to the true AUC"),
    ("pneumonia.3", lambda k, auc, sigma: best(k, auc, sigma**2), "not to be squared"),
    ("pneumonia.3", lambda k, auc, sigma: auc + sigma, "whatever k is"),
    ("pneumonia.3", lambda k, auc, sigma: auc + sigma * math.sqrt(2 * math.log(k)), "√(2 ln k)"),
    ("pneumonia.3", lambda k, auc, sigma: auc + sigma / math.sqrt(k), "error of a mean"),
    ("pneumonia.3", lambda k, auc, sigma: auc + sigma * k, "Errors do not add up"),
    ("pneumonia.3", lambda k, auc, sigma: auc + 1.96 * sigma, "upper end"),
    (
        "pneumonia.3",
        lambda k, auc, sigma: auc - sigma * expected_largest(k),
        "mean of the smallest",
    ),
    ("pneumonia.3", lambda k, auc, sigma: auc + 0.5 * sigma, "expected 0.88"),
    ("pneumonia.3", lambda k, auc, sigma: 0.8807750, "expected"),
    ("pneumonia.3", lambda k, auc, sigma: [auc, sigma], "expected a number"),
    ("pneumonia.4", {"A", "C", "E", "G", "H"}, "✓"),
    ("pneumonia.4", ["c", "a", "e", "h", "g"], "✓"),
    ("pneumonia.4", "A, C, E, G, H", "✓"),
    ("pneumonia.4", set("ABCEGH"), "B: that is what validation"),
    ("pneumonia.4", set("ACDEGH"), "D: test pictures were compared"),
    ("pneumonia.4", set("ACEFGH"), "F: a threshold fixed"),
    ("pneumonia.4", set("CEGH"), "A is missing"),
    ("pneumonia.4", set("AEGH"), "C is missing"),
    ("pneumonia.4", set("ACGH"), "E is missing"),
    ("pneumonia.4", set("ACEH"), "G is missing"),
    ("pneumonia.4", set("ACEG"), "H is missing"),
    ("pneumonia.4", set(), "A is missing"),
    ("pneumonia.4", {1, 2}, "expected a set of letters"),
    ("pneumonia.4", {"Z"}, "expected a set of letters"),
    ("pneumonia.4", 7, "expected a set of letters"),
    ("pneumonia.5", groups, "✓"),
    ("pneumonia.5", tensors_only, "✓"),
    ("pneumonia.5", lambda *a: {k: np.array(v) for k, v in groups(*a).items()}, "✓"),
    ("pneumonia.5", shares, "returned shares"),
    (
        "pneumonia.5",
        lambda *a: {k: (math.nan, n) for k, (_, n) in groups(*a).items()},
        "got (nan, ",
    ),
    (
        "pneumonia.5",
        lambda *a: {k: (math.inf, n) for k, (_, n) in groups(*a).items()},
        "got (inf, ",
    ),
    (
        "pneumonia.5",
        lambda *a: {k: f / n for k, (f, n) in groups(*a).items()},
        "two counts, (found, ill)",
    ),
    ("pneumonia.5", with_options(total=lambda y: y >= 0), "the healthy among them"),
    ("pneumonia.5", with_options(found=lambda y, f: f), "false alarms among them"),
    (
        "pneumonia.5",
        with_options(found=lambda y, f: f == (y == 1), total=lambda y: y >= 0),
        "right calls of healthy and ill",
    ),
    ("pneumonia.5", with_options(found=lambda y, f: (y == 1) & ~f), "counted the missed"),
    ("pneumonia.5", with_options(order=-1), "(ill, found)"),
    ("pneumonia.5", with_options(strict=True), "exactly at the threshold"),
    (
        "pneumonia.5",
        with_options(found=lambda y, f: f, total=lambda y: y >= 0),
        "every image and every flag",
    ),
    (
        "pneumonia.5",
        with_options(found=lambda y, f: (y == 0) & ~f, total=lambda y: y == 0),
        "that is its specificity",
    ),
    ("pneumonia.5", ungrouped, "all groups together"),
    ("pneumonia.5", lambda *a: dict.fromkeys(groups(*a), (1, 2)), "and got (1, 2)"),
    ("pneumonia.5", lambda y, s, g, t: groups(y, s, g, 0.5), "threshold of your own"),
    ("pneumonia.5", lambda *a: dict(enumerate(groups(*a).values())), "as names"),
    ("pneumonia.5", lambda *a: list(groups(*a).values()), "expected a dictionary"),
    (
        "pneumonia.5",
        lambda y, s, g, t: {k: v for k, v in groups(y, s, g, t).items() if k != "far"},
        "as names",
    ),
]


@pytest.mark.parametrize("id, answer, reply", CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


FUNCTIONS = ("pneumonia.1", "pneumonia.2", "pneumonia.3", "pneumonia.5")


@pytest.mark.parametrize("id", FUNCTIONS)
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args): ...

    def broken(*args):
        return args[9]

    check(id, stub)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    check(id, broken)
    assert "your code stopped with IndexError" in capsys.readouterr().out
    check(id, lambda *args: print(end=""))
    assert "returned None" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ the card

SIMULATED = DataCard(name="toy", title="Toy", task="binary", simulated=True)
REAL = DataCard(name="toy", title="Toy", task="binary", simulated=False)
FIGURES = {"far": Interval(0.65, 0.56, 0.74, 0.95), "missed": 32}
GOOD = [
    "These patients are simulated, and no clinic has tried it.",
    "At another hospital the specificity is only {far}.",
    "It missed {missed} images, most of them thin or small.",
]
LIMITS = [
    (GOOD, "✓"),
    (tuple(GOOD), "✓"),
    (GOOD[:2], "2 is too few"),
    (" ".join(GOOD), "a list of sentences, and got str"),
    ([*GOOD[:2], 3], "int in it"),
    ([*GOOD[:2], "The AUC of 0.93 holds for these patients only."], "typed by hand"),
    ([*GOOD[:2], "One in ten, 10 %, of the ill are missed by it."], "typed by hand"),
    ([*GOOD[:2], "Children were never tried, {children} of them, it seems."], "'children'"),
    ([*GOOD[:2], "May not generalise."], "any card"),
    ([*GOOD, GOOD[1].upper().replace("{FAR}", "{far}")], "the same"),
    (["No clinic has tried it so far.", *GOOD[1:]], "no sentence says so"),
    ([GOOD[0], "Other hospitals were not tried at all.", "Children were not tried at all."], "far"),
    ([GOOD[0], "The specificity elsewhere was only {far:.2f}.", GOOD[2]], "{far:.2f}"),
    ([GOOD[0], "The specificity elsewhere was only {}.", GOOD[2]], "you wrote {}"),
    (["All of these patients are synthetic, none is real.", *GOOD[1:]], "✓"),
    ([..., ..., ...], "○"),
    ([GOOD[0], ..., GOOD[2]], "○"),
]


@pytest.mark.parametrize("answer, reply", LIMITS)
def test_the_limits_are_read(answer, reply, capsys):
    check("pneumonia.6", answer, figures=FIGURES, data=SIMULATED)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said[0] == (reply if reply in "✓○" else "✗")


def test_only_simulated_patients_have_to_be_called_so(capsys):
    check(
        "pneumonia.6",
        ["No clinic has tried it so far.", *GOOD[1:]],
        figures=FIGURES,
        data=REAL,
    )
    assert capsys.readouterr().out.startswith("✓")


# ------------------------------------------------------------------------------------ the record

RECORD = {
    "change": "another penalty, ten times as strong",
    "expected": "lower",
    "measured_on": "validation",
    "difference": Interval(-0.02, -0.04, -0.01, 0.95),
    "verdict": "lower",
}
UNSURE = Interval(0.01, -0.02, 0.03, 0.95)
RECORDS = [
    ({}, "✓"),
    ({"expected": "higher"}, "✓"),
    ({"difference": UNSURE, "verdict": "cannot tell"}, "✓"),
    ({"difference": Interval(0.02, 0.01, 0.03, 0.95), "verdict": "higher"}, "✓"),
    ({"difference": UNSURE, "verdict": "higher"}, "holds 0"),
    ({"verdict": "higher"}, "says 'lower'"),
    ({"verdict": "cannot tell"}, "says 'lower'"),
    ({"verdict": "better"}, "verdict must be"),
    ({"verdict": "no difference"}, "does not show"),
    ({"verdict": " Lower", "expected": "Higher"}, "✓"),
    ({"measured_on": "the latest validation patients"}, "✓"),
    ({"measured_on": "new patients, seed 82"}, "✓"),
    ({"difference": (-0.02, -0.04, -0.01)}, "not an interval"),
    ({"difference": -0.02}, "difference is float"),
    ({"measured_on": "test"}, "measured on the test set"),
    ({"measured_on": "train"}, "should say 'validation'"),
    ({"expected": "who knows"}, "written before the run"),
    ({"change": "width"}, "nobody could repeat"),
    ({"difference": ...}, "○"),
]


@pytest.mark.parametrize("changes, reply", RECORDS)
def test_the_record_is_read(changes, reply, capsys):
    check("pneumonia.7", RECORD | changes)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said[0] == (reply if reply in "✓○" else "✗")


@pytest.mark.parametrize("key", KEYS)
def test_a_record_without_an_entry_is_incomplete(key, capsys):
    check("pneumonia.7", {k: v for k, v in RECORD.items() if k != key})
    assert f"lacks {key}" in capsys.readouterr().out


def test_a_record_is_a_dictionary(capsys):
    check("pneumonia.7", list(RECORD.values()))
    assert "expected a dictionary" in capsys.readouterr().out


def test_an_untouched_set_is_not_attempted(capsys):
    check("pneumonia.4", {...})
    assert capsys.readouterr().out.startswith("○")


def test_the_largest_of_k_normals_is_known():
    # Closed forms: 0, 1/√π, 3/(2√π).
    known = {1: 0.0, 2: 1 / math.sqrt(math.pi), 3: 1.5 / math.sqrt(math.pi)}
    for k, mean in known.items():
        assert expected_largest(k) == pytest.approx(mean, abs=1e-8)
