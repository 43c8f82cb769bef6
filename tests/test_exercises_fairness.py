"""The checks of fairness, fed with right, untouched and typically wrong answers."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, recall_score

from medlab.exercises import check, fairness
from medlab.exercises.fairness import MESSAGES
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

ONE, TWO, THREE, FOUR, FIVE, SIX = (f"fairness.{k}" for k in range(1, 7))

# ------------------------------------------------------------------------ 1: a table by group


def audit(
    labels,
    called,
    groups,
    patients,
    row=lambda n, se, sp: (n, se, sp),
    no_ill=math.nan,
    no_well=math.nan,
):
    """By pandas; `row` makes a group's entry of what is right."""
    frame = pd.DataFrame({"y": labels, "c": called, "g": groups, "p": patients})
    table = {}
    for name, part in frame.groupby("g"):
        ill, well = part[part.y == 1], part[part.y == 0]
        se = ill.c.mean() if len(ill) else no_ill
        table[name] = row(ill.p.nunique(), se, 1 - well.c.mean() if len(well) else no_well)
    return table


def of_rows(of, labels, called, groups, patients):
    """Each group's entry from its own arrays."""
    parts = {name: groups == name for name in np.unique(groups)}
    return {k: of(labels[g], called[g], patients[g]) for k, g in parts.items()}


def mean(values):
    return float(np.mean(values)) if len(values) else math.nan


def count(patients_of):
    return partial(
        of_rows,
        lambda y, c, p: (len(patients_of(y, p)), mean(c[y == 1]), mean(~c[y == 0])),
    )


def predictive(y, c, p):
    return len(set(p[y == 1])), c[y == 1].sum() / c.sum(), (~c[y == 0]).sum() / (~c).sum()


def of_all(y, c, p):
    return len(set(p[y == 1])), c[y == 1].sum() / len(y), (~c[y == 0]).sum() / len(y)


def patients_means(y, c, p):
    ill, well = (
        [right[p == name].mean() for name in set(p[y == k])] for right, k in ((c, 1), (~c, 0))
    )
    return len(set(p[y == 1])), mean(ill), mean(well)


def whole(labels, called, groups, patients):
    se, sp = called[labels == 1].mean(), (~called[labels == 0]).mean()
    table = audit(labels, called, groups, patients)
    return {name: (row[0], se, sp) for name, row in table.items()}


# ------------------------------------------------------------------------ 2: the largest gap


def corrected(seen, many, how=""):
    """In loops; a mistake is named in `how`."""
    spread = {"raw": 1, "one spread": many.std()}.get(how, many.std(0))
    z, many = seen / spread, many / spread
    if how != "signed":
        z, many = abs(z), abs(many)
    p = []
    for g in range(len(z)):
        bar = {
            "uncorrected": many[:, g],
            "smallest": many.min(1),
            "mean": many.mean(1),
        }.get(how, many.max(1))
        over = bar > z[g] if how == "strict" else bar >= z[g]
        over = bar < z[g] if how == "complement" else over
        p.append(over.mean() if how == "no one" else (1 + over.sum()) / (1 + len(many)))
    return p


# ------------------------------------------------------------------------ 3: thresholds


def thresholds(labels, scores, groups, least, of=None, pick=None):
    pick = pick or (lambda values: max(t for t in values if (values >= t).mean() >= least - 1e-9))
    of = of or (lambda y, own: own & (y == 1))
    return {k: pick(scores[of(labels, groups == k)]) for k in np.unique(groups)}


def by_ranks(labels, scores, groups, least):
    def pick(ill):
        return np.sort(ill)[::-1][math.ceil(least * len(ill) - 1e-9) - 1]

    return thresholds(labels, scores, groups, least, pick=pick)


def quantiles(labels, scores, groups, least, q=None, method="linear", **options):
    pick = partial(np.quantile, q=1 - least if q is None else q(least), method=method)
    return thresholds(labels, scores, groups, least, pick=pick, **options)


def lowest(labels, scores, groups, least):
    return thresholds(labels, scores, groups, least, pick=np.min)


def steps(enough):
    """The highest score of the ill that is enough by another rule."""
    return lambda *a: thresholds(
        *a, pick=lambda values: max(t for t in values if enough(values, t, a[3]))
    )


def everybodys(y, own):
    return y == 1


# ------------------------------------------------------------------------ 4: charts


def charts(scores, patients, recorded, group, k, key=lambda s: s, some=None, join=np.mean):
    some = group & (recorded == 0) if some is None else some(group, recorded)
    mean = {p: join(key(scores[some & (patients == p)])) for p in np.unique(patients[some])}
    return sorted(mean, key=mean.get, reverse=True)[:k]


def in_pandas(scores, patients, recorded, group, k):
    frame = pd.DataFrame({"s": scores, "p": patients})[group & (recorded == 0)]
    return frame.groupby("p").s.mean().nlargest(k).index


def by_image(scores, patients, recorded, group, k):
    some = np.flatnonzero(group & (recorded == 0))
    return patients[some[np.argsort(-scores[some])[:k]]]


def at_random(scores, patients, recorded, group, k):
    names = np.unique(patients[group & (recorded == 0)])
    return list(np.random.default_rng(0).permutation(names)[:k])


# ------------------------------------------------------------------------ 5: one equation


def false_alarms(p, v, s, bound=lambda q: "impossible" if q > 1 else q, of=None):
    """From a table of a thousand patients; `of` is a mistake's share of called and other counts."""
    tp, ill, well = 1000 * p * s, 1000 * p, 1000 * (1 - p)
    fp = tp / v - tp
    return bound(fp / well if of is None else of(tp, fp, ill, well))


# ------------------------------------------------------------------------ 6: pairs


def pairs(a, b, tolerance, close=lambda d, t: abs(d) <= t, both=lambda x, y: x and y):
    found = set()
    for i in range(4):
        for j in range(i + 1, 4):
            for row in a:
                for other in b:
                    d = row - other
                    if both(close(d[i], tolerance), close(d[j], tolerance)):
                        found.add((i, j))
    return found


def alone(a, b, tolerance):
    met = [bool((abs(a[:, None, i] - b[None, :, i]) <= tolerance).any()) for i in range(4)]
    return {(i, j) for i in range(4) for j in range(i + 1, 4) if met[i] and met[j]}


def summed(a, b, tolerance):
    d = abs(a[:, None] - b[None])
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    return {(i, j) for i, j in pairs if (d[..., i] + d[..., j] <= tolerance).any()}


def same_row(a, b, tolerance):
    n = min(len(a), len(b))
    return {pair for k in range(n) for pair in pairs(a[k : k + 1], b[k : k + 1], tolerance)}


CASES = [
    (ONE, audit, "✓"),
    (ONE, partial(audit, row=lambda *r: torch.tensor(r)), "✓"),
    (ONE, partial(audit, row=lambda *r: list(map(np.float32, r))), "✓"),
    (ONE, lambda *a: list(audit(*a).values()), "an entry (ill patients"),
    (ONE, partial(audit, row=lambda n, se, sp: (se, sp)), "an entry (ill patients"),
    (ONE, lambda *a: dict(list(audit(*a).items())[:2]), "as keys, and got"),
    (ONE, partial(audit, row=lambda n, se, sp: (n, sp, se)), "have changed places"),
    (ONE, partial(audit, row=lambda n, se, sp: (n, se, 1 - sp)), "the share that was not"),
    (ONE, partial(audit, row=lambda n, se, sp: (n, 1 - se, sp)), "ill that was *not* called"),
    (ONE, partial(audit, row=lambda n, se, sp: (n + 1, se, sp)), "I expected ["),
    (ONE, partial(audit, no_ill=0), "nobody ill, so that its sensitivity"),
    (ONE, partial(audit, no_well=0), "nobody healthy, so that its specificity"),
    (ONE, count(lambda y, p: p[y == 1]), "counts ill *images*"),
    (ONE, count(lambda y, p: set(p)), "counts all patients"),
    (ONE, count(lambda y, p: set(p[y == 0])), "counts the healthy patients"),
    (ONE, partial(of_rows, predictive), "divided by the called"),
    (ONE, partial(of_rows, of_all), "all images of the group"),
    (ONE, partial(of_rows, patients_means), "shares of single patients"),
    (ONE, whole, "shares of the whole cohort"),
    (TWO, corrected, "✓"),
    (TWO, lambda *a: torch.tensor(corrected(*a)), "✓"),
    (TWO, lambda *a: corrected(*a)[:3], "one p for each of the 5 groups"),
    (TWO, lambda *a: dict(enumerate(corrected(*a))), "got shape dict"),
    (TWO, lambda *a: [5 * p for p in corrected(*a)], "a p lies above 0"),
    (TWO, lambda *a: [p / 2 for p in corrected(*a)], "I expected p ="),
    (TWO, partial(corrected, how="uncorrected"), "looked at one group only"),
    (TWO, partial(corrected, how="no one"), "count as one more shuffle"),
    (TWO, partial(corrected, how="strict"), "just as large counts too"),
    (TWO, partial(corrected, how="raw"), "you compared raw gaps"),
    (TWO, partial(corrected, how="one spread"), "you compared raw gaps"),
    (TWO, partial(corrected, how="signed"), "take absolute values"),
    (TWO, partial(corrected, how="smallest"), "the smallest gap of each"),
    (TWO, partial(corrected, how="mean"), "the mean gap of each"),
    (TWO, partial(corrected, how="complement"), "stay *below* the gap"),
    (THREE, thresholds, "✓"),
    (THREE, by_ranks, "✓"),
    (THREE, lambda *a: {k: torch.tensor(t) for k, t in thresholds(*a).items()}, "✓"),
    (THREE, lambda *a: list(thresholds(*a).values()), "one threshold for each group; got list"),
    (THREE, lambda *a: {**thresholds(*a), "all": 0}, "as keys, and got"),
    (THREE, partial(thresholds, of=everybodys), "that of everybody together"),
    (THREE, partial(quantiles, of=everybodys), "that of everybody together"),
    (THREE, partial(thresholds, of=lambda y, own: own), "took all images of the group"),
    (THREE, partial(thresholds, of=lambda y, own: own & (y == 0)), "took the healthy"),
    (THREE, partial(quantiles, q=lambda least: least), "*below* it"),
    (THREE, quantiles, "quantile lies between two"),
    (THREE, partial(quantiles, method="higher"), "was asked."),
    (THREE, partial(quantiles, method="lower"), "one ill image more than was asked"),
    (THREE, steps(lambda v, t, least: (v >= t).mean() > least), "one ill image more than was"),
    (THREE, steps(lambda v, t, least: (v > t).mean() >= least), "lie *above* the threshold"),
    (THREE, lowest, "a higher threshold still calls enough"),
    (FOUR, charts, "✓"),
    (FOUR, in_pandas, "✓"),
    (FOUR, partial(charts, join=np.max), "✓"),
    (FOUR, partial(charts, join=np.median), "✓"),
    (FOUR, lambda *a: np.array(charts(*a)), "✓"),
    (FOUR, lambda *a: dict.fromkeys(charts(*a)), "names; got dict"),
    (FOUR, lambda *a: 40, "names; got int"),
    (FOUR, lambda *a: charts(*a)[:39], "asked for 40 patients, and got 39"),
    (FOUR, by_image, "more than once"),
    (FOUR, lambda *a: list(range(40)), "is no patient's name"),
    (FOUR, partial(charts, some=lambda g, r: r == 0), "outside the group"),
    (FOUR, partial(charts, some=lambda g, r: g), "recorded as ill"),
    (FOUR, partial(charts, key=lambda s: -s), "most plainly healthy"),
    (FOUR, partial(charts, key=lambda s: -abs(s - 0.5)), "nearest 0.5"),
    (FOUR, at_random, "the best choice finds"),
    (FIVE, false_alarms, "✓"),
    (FIVE, partial(false_alarms, bound=lambda q: torch.tensor(q) if q <= 1 else "impossible"), "✓"),
    (FIVE, partial(false_alarms, bound=lambda q: "Impossible" if q > 1 else q), "✓"),
    (FIVE, partial(false_alarms, bound=lambda q: q), "Above 1 there is none"),
    (FIVE, partial(false_alarms, bound=lambda q: min(q, 1)), "A smaller one does not fit"),
    (FIVE, partial(false_alarms, bound=lambda q: "impossible" if q >= 1 else q), "can be had"),
    (FIVE, lambda *a: "never", "or the word 'impossible'"),
    (FIVE, lambda *a: "impossible", "can be had"),
    (FIVE, partial(false_alarms, of=lambda tp, fp, ill, well: fp / ill), "does not appear"),
    (FIVE, partial(false_alarms, of=lambda tp, fp, ill, well: fp / 1000), "a share of everybody"),
    (FIVE, lambda p, v, s: 1 - v, "the share of the *called*"),
    (FIVE, lambda p, v, s: p * s * (1 - v) / (1 - p), "of the called *ill*"),
    (FIVE, lambda p, v, s: s * (1 - p) / p * (1 - v) / v, "ratio is upside down"),
    (FIVE, lambda p, v, s: s * p / (1 - p) * v / (1 - v), "ratio is upside down"),
    (FIVE, partial(false_alarms, bound=lambda q: 1 - q), "that is the specificity"),
    (FIVE, partial(false_alarms, bound=lambda q: q / 2), "I expected 0.38"),
    (SIX, pairs, "✓"),
    (SIX, lambda *a: [list(pair)[::-1] for pair in pairs(*a)], "✓"),
    (SIX, lambda *a: torch.tensor(sorted(pairs(*a))), "✓"),
    (SIX, lambda *a: 3, "a set of pairs"),
    (SIX, lambda *a: {(0, 4)}, "a set of pairs"),
    (SIX, alone, "thresholds of its own"),
    (SIX, same_row, "row k of one table"),
    (SIX, partial(pairs, both=lambda x, y: x or y), "of which *one* criterion"),
    (SIX, partial(pairs, close=lambda d, t: abs(d) < t), "is close enough"),
    (SIX, partial(pairs, close=lambda d, t: d <= t), "left out the absolute"),
    (SIX, lambda *a: {pair for pair in pairs(*a) if 3 not in pair}, "left out the last column"),
    (SIX, summed, "added the two differences"),
    (SIX, lambda *a: {(0, 1)}, "at a tolerance of"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {ONE: audit, TWO: corrected, THREE: thresholds, FOUR: charts, SIX: pairs}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_that_change_their_arguments_are_right(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# ------------------------------------------------------------------------------ other authorities


def test_the_rows_of_an_audit_are_scikit_learns():
    y, called, groups, _ = fairness._clinic()
    some = groups == "north"
    (tn, fp), (fn, tp) = confusion_matrix(y[some], called[some])
    row = fairness._row(y[some], called[some], np.arange(some.sum()))
    assert row[1:] == pytest.approx([tp / (tp + fn), tn / (tn + fp)])


def test_the_largest_gap_keeps_its_promise_where_groups_mean_nothing():
    """At most one audit in twenty finds anything, while single tests find it far more often."""
    rng, any_found, any_alone, times = np.random.default_rng(1), 0, 0, 300
    for _ in range(times):
        found, member = rng.normal(size=80), rng.random((80, 10)) < 0.3
        moved = np.array([member, *(member[rng.permutation(80)] for _ in range(199))])
        gaps = found @ moved / moved.sum(1) - found @ ~moved / (~moved).sum(1)
        any_found += fairness.corrected(gaps[0], gaps[1:]).min() <= 0.05
        any_alone += fairness.corrected(gaps[0], gaps[1:], "uncorrected").min() <= 0.05
    assert any_found / times < 0.09
    assert any_alone / times > 0.2


def test_thresholds_reach_their_sensitivity_and_no_higher_one_does():
    y, s, g = fairness._scored(9, {"a": (17, 20), "b": (40, 11)})
    for name, t in fairness.thresholds(y, s, g, 0.8).items():
        own = g == name
        assert recall_score(y[own], s[own] >= t) >= 0.8
        assert recall_score(y[own], s[own] > t) < 0.8


def test_the_identity_is_that_of_a_table_of_patients():
    tp, fn, fp, tn = 45, 5, 30, 70
    assert fairness._alarms((tp + fn) / 150, tp / (tp + fp), tp / (tp + fn)) == pytest.approx(
        fp / (fp + tn)
    )


def test_on_one_roc_curve_only_the_odds_can_be_equal():
    """Two prevalences, one likelihood ratio: of six pairs of criteria one can be had."""
    evidence = np.linspace(-1.5, 4, 400)
    s, f = norm.sf(evidence, 2, 2), norm.sf(evidence, -2, 2)

    def table(p):
        called = p * s + (1 - p) * f
        return np.stack([called, s, f, p * s / called], 1)[s > 0.5]

    assert fairness.possible(table(0.5), table(0.2), 1e-3) == {(1, 2)}


# Operands exchanged; names that hold one label a patient; a bound no number meets; empty rounds
EQUIVALENT = [
    "fairness.1: ill = (groups == name) & (labels == 1) → ill = (labels == 1) & (groups == name)",
    "fairness.1: well = (groups == name) & (labels == 0) → well = (labels == 0) & (groups == name)",
    "fairness.3: ill = scores[(groups == name) & (labels == 1)] → ill = scores[(labels == 1) & (groups == name)]",
    "fairness.4: open_to = group & (recorded == 0) → open_to = (recorded == 0) & group",
    "fairness.4: own = open_to & (patients == name) → own = (patients == name) & open_to",
    "fairness.4: own = open_to & (patients == name) → own = patients == name",
    "fairness.6: apart = abs(a[:, None] - b[None]) → apart = abs(b[None] - a[:, None])",
    "fairness.6: for i in range(4): → for i in range(3):",
    "fairness.6: for i in range(4): → for i in range(5):",
    "fairness.6: had.add((i, j)) → had.add((j, i))",
    "fairness.6: if (close[..., i] & close[..., j]).any(): → if (close[..., j] & close[..., i]).any():",
]


def test_no_changed_solution_is_called_right():
    assert ticked("28_fairness", "fairness") == EQUIVALENT
