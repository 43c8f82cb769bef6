"""Exercises of notebook 28: an audit, its multiplicity, thresholds, charts, what cannot be had."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number

CRITERIA = 4  # columns of a table in exercise 6

MESSAGES = {
    "fairness.1": {
        "right": "each share has its own denominator, and its weight is told in patients.",
        "format": "I expected a dictionary with an entry (ill patients, sensitivity, specificity) "
        "for each group; got {got}.",
        "groups": "I expected the groups {want} as keys, and got {got}.",
        "images": "your first number counts ill *images*. A patient with four images is still one "
        "patient: count different names.",
        "all patients": "your first number counts all patients of the group. Only the ill ones "
        "carry its sensitivity.",
        "healthy patients": "your first number counts the healthy patients.",
        "swapped": "sensitivity and specificity have changed places: (ill patients, sensitivity, "
        "specificity).",
        "false alarms": "your third number is the share of the healthy that was called. "
        "Specificity is the share that was not.",
        "missed": "your second number is the share of the ill that was *not* called.",
        "predictive": "you divided by the called. Sensitivity divides by the ill, specificity by "
        "the healthy.",
        "of all": "you divided by all images of the group.",
        "whole": "every group got the shares of the whole cohort.",
        "patients' means": "you averaged the shares of single patients. Here each image counts "
        "once; the patients come in again with the intervals.",
        "nobody": "group {group} has nobody {who}, so that its {share} is not a number: I "
        "expected NaN, and got {got}.",
        "other": "for group {group} I expected {want}, and got {got}.",
    },
    "fairness.2": {
        "right": "the luckiest group of each shuffle sets the bar for every group.",
        "format": "I expected one p for each of the {want} groups; got shape {got}.",
        "range": "a p lies above 0 and is at most 1; got {got}.",
        "uncorrected": "you compared each group with its own shuffles. That is the p of somebody "
        "who looked at one group only: compare with the *largest* of each shuffle.",
        "no one": "the data as they are count as one more shuffle: (1 + number) / (1 + shuffles). "
        "Without them p could be 0.",
        "strict": "a shuffle that is just as large counts too: `>=`.",
        "raw": "you compared raw gaps, or divided all by one spread. The smallest group wins that "
        "contest by chance; divide each gap by its own spread over the shuffles: `std(0)`.",
        "signed": "a gap in either direction counts: take absolute values.",
        "smallest": "you compared with the smallest gap of each shuffle.",
        "mean": "you compared with the mean gap of each shuffle.",
        "complement": "you counted the shuffles that stay *below* the gap.",
        "other": "for the groups I expected p = {want}, and got {got}.",
    },
    "fairness.3": {
        "right": "equal sensitivity, and each group pays with its own specificity.",
        "format": "I expected a dictionary with one threshold for each group; got {got}.",
        "groups": "I expected the groups {want} as keys, and got {got}.",
        "one": "all groups got one threshold, that of everybody together.",
        "everybody": "you took all images of the group. Sensitivity is a share of the ill.",
        "healthy": "you took the healthy of the group. Sensitivity is a share of the ill.",
        "other side": "at your threshold for group {group} only {got:.2f} of the ill are called: "
        "you kept the share {least} *below* it.",
        "short": "at your threshold for group {group} {got:.3f} of the ill are called, and at "
        "least {least} was asked.",
        "strict": "you asked that enough of the ill lie *above* the threshold (`>`). A score equal "
        "to it is called too: `>=`.",
        "more": "you call one ill image more than was asked: exactly the share {least} is enough.",
        "low": "for group {group} a higher threshold still calls enough of the ill ({want:g}, not "
        "{got:g}), and spares more of the healthy.",
        "between": "{got:g} for group {group} is the score of no ill image: an interpolated "
        "quantile lies between two. {want:g} still calls enough, and spares more of the healthy.",
    },
    "fairness.4": {
        "right": "{got} of the 40 charts were wrong; 40 at random hold about {chance:.0f}.",
        "format": "I expected a list of patients' names; got {got}.",
        "count": "I asked for {k} patients, and got {got}.",
        "twice": "a patient stands in your list more than once: her images share one chart.",
        "strange": "{who!r} is no patient's name. Return names, not positions or scores.",
        "group": "you chose a patient outside the group, {who}.",
        "ill": "you chose {who}, who is recorded as ill. What was missed hides among the "
        "recorded healthy.",
        "lowest": "you chose those whom the network finds most plainly healthy: {got} wrong "
        "labels.",
        "uncertain": "{got} wrong labels. You chose the scores nearest 0.5; a recorded healthy "
        "patient with 0.9 contradicts her chart more plainly.",
        "few": "{got} of your {k} charts were wrong; the best choice finds {best}, and a random "
        "one about {chance:.0f}.",
    },
    "fairness.5": {
        "right": "three numbers decide the fourth, or forbid it.",
        "format": "I expected a number, or the word 'impossible'; got {got}.",
        "no bounds": "you returned {got:.3g} as a share. Above 1 there is none: 'impossible'.",
        "clipped": "you returned 1 where the share would have to be {want:.3g}. A smaller one does "
        "not fit the other three: 'impossible'.",
        "too strict": "prevalence {p}, PPV {v} and sensitivity {s} can be had: the share of false "
        "alarms is {want:.3g}.",
        "no prevalence": "the prevalence does not appear in your answer, or not as the ill to the "
        "healthy, p/(1 − p).",
        "upside down": "you got {got:.3g} for {want:.3g}: one ratio is upside down.",
        "of all": "your {got:.3g} is a share of everybody. False alarms are a share of the "
        "healthy.",
        "of the called": "1 − PPV is the share of the *called* who are healthy. False alarms are "
        "the share of the *healthy* who are called.",
        "of the found": "the called ill are the share PPV of all who are called. You took 1 − PPV "
        "of the called *ill*.",
        "rest": "that is the specificity, one minus the share of false alarms.",
        "other": "for prevalence {p}, PPV {v} and sensitivity {s} I expected {want:.4g}, and got "
        "{got:.4g}.",
    },
    "fairness.6": {
        "right": "two thresholds can serve two criteria, where the curves allow it.",
        "format": "I expected a set of pairs of column numbers, such as {{(0, 1)}}; got {got}.",
        "alone": "a pair of criteria must be met by *one* pair of thresholds. You met each with "
        "thresholds of its own.",
        "same row": "you compared row k of one table with row k of the other only. Each group may "
        "have its own threshold.",
        "one suffices": "you kept pairs of which *one* criterion is met.",
        "strict": "a difference of just `tolerance` is close enough: `<=`.",
        "signed": "you left out the absolute value: a difference far below 0 is not close.",
        "columns": "you left out the last column, the PPV: there are four, and six pairs.",
        "sum": "you added the two differences. Each of them has the whole tolerance.",
        "other": "at a tolerance of {tolerance} I expected {want}, and got {got}.",
    },
}


def material(**which: Any) -> SimpleNamespace:
    """Finished answers, for the cells after an exercise."""
    return SimpleNamespace(corrected=corrected, thresholds=thresholds, pairs=possible)


def _keyed(answer: Any, names: Iterable[str]) -> dict:
    """The learner's dictionary with its keys as text; `Wrong` for another kind or other keys."""
    if not isinstance(answer, dict):
        raise Wrong("format", got=type(answer).__name__)
    if any(value is ... for value in answer.values()):
        raise NotAttempted
    found, want = {str(key): value for key, value in answer.items()}, sorted(map(str, names))
    if sorted(found) != want:
        raise Wrong("groups", want=want, got=sorted(found))
    return found


# ------------------------------------------------------------------------ 1: a table by group


CELLS = [("north", 1), ("south", 0), ("south", 1), ("north", 0), ("north", 1)]


def _clinic() -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Labels, calls, groups and patients of images; "east" has nobody ill, "west" all ill."""
    rng = np.random.default_rng(3)
    label, group, owner = [], [], []
    for k, (name, ill) in enumerate(CELLS * 5):
        label += [ill] * (1 + k % 4)
        group += [name] * (1 + k % 4)
        owner += [f"P{97 - k}"] * (1 + k % 4)
    for name, ill in (("east", 0), ("west", 1)):
        label, group = label + [ill] * 3, group + [name] * 3
        owner += [f"{name}-{k}" for k in (7, 7, 8)]
    y = np.array(label)
    order = rng.permutation(len(y))
    called = rng.random(len(y)) < np.where(y == 1, 0.75, 0.3)
    return y[order], called[order], np.array(group)[order], np.array(owner)[order]


def _row(y: ndarray, called: ndarray, who: ndarray, how: str = "") -> list[float]:
    """(ill patients, sensitivity, specificity) of a group, or with a mistake."""
    ill, well = y == 1, y == 0
    people = {"images": ill.sum(), "all patients": len(set(who))}
    people["healthy patients"] = len(set(who[well]))
    of_ill, of_well = called[ill].sum(), (~called[well]).sum()
    below = {"predictive": (called.sum(), (~called).sum()), "of all": (len(y), len(y))}
    n_ill, n_well = below.get(how, (ill.sum(), well.sum()))
    se, sp = (k / n if n else math.nan for k, n in ((of_ill, n_ill), (of_well, n_well)))
    if how == "patients' means":
        se, sp = (
            float(np.mean([right[who == name].mean() for name in sorted(set(who[some]))]))
            if some.any()
            else math.nan
            for right, some in ((called, ill), (~called, well))
        )
    first = people.get(how, len(set(who[ill])))
    turned = {"swapped": (sp, se), "false alarms": (se, 1 - sp), "missed": (1 - se, sp)}
    return [first, *turned.get(how, (se, sp))]


@exercise("fairness.1", MESSAGES["fairness.1"])
def audit(answer: Any) -> Verdict:
    y, called, groups, who = _clinic()
    got = call(answer, y.copy(), called.copy(), groups.copy(), who.copy())
    found = _keyed(got, np.unique(groups))
    for name in ("north", "south", "east", "west"):
        row = found[name]
        if not isinstance(row, (tuple, list, ndarray, torch.Tensor)) or len(row) != 3:
            return "format", {"got": row}
        values, some = [number(v) for v in row], groups == name
        want = _row(y[some], called[some], who[some])
        if np.allclose(values, want, rtol=1e-3, equal_nan=True):
            continue
        for k, (ill, share) in enumerate((("ill", "sensitivity"), ("healthy", "specificity")), 1):
            if math.isnan(want[k]) and not math.isnan(values[k]):
                return "nobody", {"group": name, "who": ill, "share": share, "got": values[k]}
        wrong = {how: _row(y[some], called[some], who[some], how) for how in MESSAGES["fairness.1"]}
        wrong["whole"] = [want[0], *_row(y, called, who)[1:]]
        key = next((k for k, row in wrong.items() if row != want and near(values, row)), "other")
        shown = [[round(float(v), 3) for v in numbers] for numbers in (want, values)]
        return key, {"group": name, "want": shown[0], "got": shown[1]}
    return "right"


# ------------------------------------------------------------------------ 2: the largest gap


def corrected(seen: ndarray, shuffled: ndarray, how: str = "") -> ndarray:
    """p of each gap, (G,), against the largest standardised gap of each shuffle.

    Args:
        seen: (G,) the gaps of G groups.
        shuffled: (B, G) their gaps after each of B shuffles of the patients.
        how: a mistake, a key of the exercise's messages.

    Source: Westfall & Young, Resampling-Based Multiple Testing (1993), the single-step max T.
    """
    spread = 1.0 if how == "raw" else shuffled.std(0)
    z, many = seen / spread, shuffled / spread
    if how != "signed":
        z, many = abs(z), abs(many)
    bars = {"uncorrected": many, "smallest": many.min(1)[:, None], "mean": many.mean(1)[:, None]}
    bar = bars.get(how, many.max(1)[:, None])
    over = {"strict": bar > z, "complement": bar < z}.get(how, bar >= z).sum(0)
    return over / len(shuffled) if how == "no one" else (1 + over) / (1 + len(shuffled))


def _gaps() -> tuple[ndarray, ndarray]:
    """Gaps of groups of 40, 8, 5 and twice 24 of 48 patients: as they are, and in 199 orders."""
    rng = np.random.default_rng(11)
    images = rng.integers(1, 5, 48)
    found = rng.binomial(images, np.where(np.arange(48) < 9, 0.55, 0.9))
    member = np.zeros((48, 5), bool)
    member[np.arange(40), 0], member[np.arange(8), 1] = True, True
    member[[3, 15, 27, 39, 47], 2], member[::2, 3] = True, True
    member[:, 4] = ~member[:, 3]
    # The first order leaves all as it is: a tie.
    orders = [np.arange(48), *(rng.permutation(48) for _ in range(198))]
    moved = np.array([member, *(member[order] for order in orders)])
    inside, size = found @ moved, images @ moved
    gaps = inside / size - (found.sum() - inside) / (images.sum() - size)
    return gaps[0], gaps[1:]


@exercise("fairness.2", MESSAGES["fairness.2"])
def largest(answer: Any) -> Verdict:
    seen, shuffled = _gaps()
    got = _vector(call(answer, seen.copy(), shuffled.copy()), len(seen))
    if not ((got > 0) & (got <= 1)).all() and not near(got, corrected(seen, shuffled, "no one")):
        return "range", {"got": got.round(3).tolist()}
    want = corrected(seen, shuffled)
    if near(got, want):
        return "right"
    ways = ("uncorrected", "no one", "strict", "raw", "signed", "smallest", "mean", "complement")
    key = first_match(got, {way: corrected(seen, shuffled, way) for way in ways})
    return key, {"want": want.round(3).tolist(), "got": got.round(3).tolist()}


def _vector(answer: Any, size: int) -> ndarray:
    """The answer's numbers (size,); `Wrong` for another shape."""
    try:
        got = np.asarray(answer.detach() if torch.is_tensor(answer) else answer, float)
    except (TypeError, ValueError):
        raise Wrong("format", want=size, got=type(answer).__name__) from None
    if got.shape != (size,):
        raise Wrong("format", want=size, got=got.shape)
    return got


# ------------------------------------------------------------------------ 3: a threshold a group


def thresholds(labels: ndarray, scores: ndarray, groups: ndarray, least: float) -> dict[str, float]:
    """Of each group the highest threshold that calls at least the share `least` of its ill."""
    return {
        str(name): _highest(scores[(groups == name) & (labels == 1)], least)
        for name in np.unique(groups)
    }


def _highest(ill: ndarray, least: float, how: str = "") -> float:
    """The highest score that calls at least the share `least` of the ill, or with a mistake."""
    enough = {
        "strict": lambda t: (ill > t).mean() >= least - 1e-9,
        "more": lambda t: (ill >= t).mean() > least + 1e-9,
    }.get(how, lambda t: (ill >= t).mean() >= least - 1e-9)
    return float(max(t for t in ill if enough(t)))


def _scored(seed: int, sizes: dict[str, tuple[int, int]]) -> tuple[ndarray, ndarray, ndarray]:
    """Labels, scores with ties, and groups of (ill, healthy) images."""
    rng = np.random.default_rng(seed)
    parts = [
        (name, ill, n) for name, both in sizes.items() for ill, n in zip((1, 0), both, strict=True)
    ]
    y = np.concatenate([np.full(n, ill) for _, ill, n in parts])
    g = np.concatenate([np.full(n, name) for name, _, n in parts])
    shift = {name: 0.25 * k for k, name in enumerate(sizes)}
    s = rng.normal(0.7 * y - np.vectorize(shift.get)(g), 0.45).round(2)
    order = rng.permutation(len(y))
    return y[order], s[order], g[order]


@exercise("fairness.3", MESSAGES["fairness.3"])
def equal_sensitivity(answer: Any) -> Verdict:
    for seed, sizes, least in (
        (0, {"a": (20, 31), "b": (13, 9)}, 0.85),
        (1, {"a": (20, 40), "b": (40, 12), "c": (11, 9)}, 0.625),
    ):
        y, s, g = _scored(seed, sizes)
        want = thresholds(y, s, g, least)
        found = _keyed(call(answer, y.copy(), s.copy(), g.copy(), least), want)
        got = {name: number(value) for name, value in found.items()}
        calls = {name: s[g == name] >= t for name, t in got.items()}
        if all(((s[g == name] >= want[name]) == calls[name]).all() for name in want):
            continue
        own = {name: g == name for name in want}
        guesses = {
            "one": dict.fromkeys(want, y == 1),
            "everybody": own,
            "healthy": {name: some & (y == 0) for name, some in own.items()},
        }
        for key, some in guesses.items():
            if all(any(near(got[k], t) for t in _quantiles(s[some[k]], least)) for k in want):
                return key
        for how in ("strict", "more"):
            if all(near(got[k], _highest(s[own[k] & (y == 1)], least, how)) for k in want):
                return how, {"least": least}
        for name, t in got.items():
            ill = s[(g == name) & (y == 1)]
            share, n = float((ill >= t).mean()), len(ill)
            values = {"group": name, "got": share, "least": least, "n": n}
            if share < least - 1e-9:
                return ("other side" if share <= 1 - least + 1 / n else "short"), values
            if t < want[name] and (s[g == name] >= t).sum() > (s[g == name] >= want[name]).sum():
                key = "low" if any(near(t, one) for one in ill) else "between"
                return key, {"group": name, "want": want[name], "got": t}
        return "low", {"group": name, "want": want[name], "got": got[name]}
    return "right"


def _quantiles(values: ndarray, least: float) -> list[float]:
    return [_highest(values, least), float(np.quantile(values, 1 - least))]


# ------------------------------------------------------------------------ 4: which charts


def charts(
    scores: ndarray, patients: ndarray, recorded: ndarray, group: ndarray, k: int
) -> list[str]:
    """Of the group's patients recorded healthy, the k with the highest mean score."""
    some = group & (recorded == 0)
    names, place = np.unique(patients[some], return_inverse=True)
    mean = np.bincount(place, scores[some]) / np.bincount(place)
    return names[np.argsort(-mean)[:k]].tolist()


def _ward() -> tuple[ndarray, ndarray, ndarray, ndarray, dict[str, bool]]:
    """Scores, patients, records and group of images, and of each patient whether she is ill."""
    rng = np.random.default_rng(5)
    names = np.array([f"W{k:03d}" for k in rng.permutation(340)])
    group, ill = np.arange(340) < 200, rng.random(340) < 0.5
    recorded = ill & ~(group & (rng.random(340) < 0.55)) & ~(~group & (rng.random(340) < 0.3))
    level = np.where(ill, rng.choice([1.7, -0.8], 340, p=[0.6, 0.4]), -1.7)
    owner = np.repeat(np.arange(340), rng.integers(1, 5, 340))
    z = (level + rng.normal(0, 1.1, 340))[owner] + rng.normal(0, 0.5, len(owner))
    truth = dict(zip(names.tolist(), ill.tolist(), strict=True))
    p = 1 / (1 + np.exp(-z))
    return p, names[owner], recorded[owner].astype(int), group[owner], truth


@exercise("fairness.4", MESSAGES["fairness.4"])
def reread(answer: Any) -> Verdict:
    k = 40
    p, who, recorded, group, truth = _ward()
    result = call(answer, p.copy(), who.copy(), recorded.copy(), group.copy(), k)
    try:
        chosen = [str(name) for name in result]
    except TypeError:
        return "format", {"got": type(result).__name__}
    if isinstance(result, (str, dict)):
        return "format", {"got": type(result).__name__}
    if len(set(chosen)) < len(chosen):
        return "twice"
    if strange := [name for name in chosen if name not in truth]:
        return "strange", {"who": strange[0]}
    if len(chosen) != k:
        return "count", {"k": k, "got": len(chosen)}
    if other := sorted(set(chosen) - set(who[group])):
        return "group", {"who": other[0]}
    if ill := sorted(set(chosen) & set(who[recorded == 1])):
        return "ill", {"who": ill[0]}
    open_to = sorted(set(who[group & (recorded == 0)]))
    got, best = (
        sum(truth[n] for n in some) for some in (chosen, charts(p, who, recorded, group, k))
    )
    values: dict[str, Any] = {"got": got, "k": k, "best": best}
    values["chance"] = k * sum(truth[n] for n in open_to) / len(open_to)
    if got >= best - 3:
        return "right", values
    unsure = charts(-abs(p - 0.5), who, recorded, group, k)
    plain = charts(-p, who, recorded, group, k)
    for key, other in (("lowest", plain), ("uncertain", unsure)):
        if len(set(chosen) & set(other)) >= k - 6:
            return key, values
    return "few", values


# ------------------------------------------------------------------------ 5: one equation


def _alarms(p: float, v: float, s: float) -> float:
    """False alarms from prevalence, PPV and sensitivity: above 1 if impossible.

    Source: Chouldechova, Big Data 5:153 (2017), equation 2.6.
    """
    return s * p / (1 - p) * (1 - v) / v


QUESTIONS = [
    (0.45, 0.6, 0.7),
    (0.2, 0.4, 0.8),
    (0.3, 0.75, 0.7),
    (0.5, 0.5, 1.0),
    (0.4, 0.3, 0.85),
    (0.4, 0.2, 0.95),
]


@exercise("fairness.5", MESSAGES["fairness.5"])
def identity(answer: Any) -> Verdict:
    for p, v, s in QUESTIONS:
        want = _alarms(p, v, s)
        result = call(answer, p, v, s)
        values = {"p": p, "v": v, "s": s, "want": want}
        if isinstance(result, str):
            if result.strip().lower() != "impossible":
                return "format", {"got": repr(result)}
            if want > 1:
                continue
            return "too strict", values
        got = number(result)
        values["got"] = got
        if want > 1:
            return first_match(got, {"no bounds": want, "clipped": 1.0}), values
        if near(got, want):
            continue
        wrong = {
            "no prevalence": _alarms(0.5, v, s),
            "of all": want * (1 - p),
            "of the called": 1 - v,
            "of the found": want * v,
            "rest": 1 - want,
            "upside down": _alarms(p, 1 - v, s),
            "upside down p": _alarms(1 - p, v, s),
        }
        return first_match(got, wrong).removesuffix(" p"), values
    return "right"


# ------------------------------------------------------------------------ 6: pairs of criteria


def possible(a: ndarray, b: ndarray, tolerance: float) -> set[tuple[int, int]]:
    """Pairs of columns that a row of `a` and a row of `b` have in common, within the tolerance."""
    return _pairs(a, b, tolerance)


def _pairs(a: ndarray, b: ndarray, tolerance: float, how: str = "") -> set[tuple[int, int]]:
    apart = a[:, None] - b[None]
    apart = apart if how == "signed" else abs(apart)
    close = apart < tolerance if how == "strict" else apart <= tolerance
    if how == "same row":
        n = min(len(a), len(b))
        close = close[np.arange(n), np.arange(n)][:, None]
    met: dict[str, Callable[[ndarray, ndarray], bool]] = {
        "alone": lambda x, y: bool(x.any() and y.any()),
        "one suffices": lambda x, y: bool((x | y).any()),
    }
    both = met.get(how, lambda x, y: bool((x & y).any()))
    columns = itertools.combinations(range(3 if how == "columns" else a.shape[1]), 2)
    if how == "sum":
        return {(i, j) for i, j in columns if (apart[..., i] + apart[..., j] <= tolerance).any()}
    return {(i, j) for i, j in columns if both(close[..., i], close[..., j])}


def _tables() -> list[tuple[ndarray, ndarray, float]]:
    """Tables of sixteenths, so that a difference of just the tolerance is exact."""
    a = np.array([[8, 15, 4, 12], [6, 12, 2, 13], [4, 8, 1, 14]]) / 16
    b = np.array([[6, 15, 4, 8], [4, 13, 3, 9], [3, 11, 9, 14], [2, 8, 0, 11]]) / 16
    c, d = np.array([[8, 12, 8, 8]]) / 16, np.array([[9, 13, 0, 8]]) / 16
    step = 1 / 16
    return [(a, b[2:], 0.0), (a, b, step), (b, a[:2], step), (a[:1], b, step), (c, d, step)]


@exercise("fairness.6", MESSAGES["fairness.6"])
def pairs(answer: Any) -> Verdict:
    tables = _tables()
    got = [_as_pairs(call(answer, a.copy(), b.copy(), tolerance)) for a, b, tolerance in tables]
    want = [possible(*table) for table in tables]
    if got == want:
        return "right"
    # A mistake must explain the answers to all tables, since on one several look alike.
    ways = ("alone", "same row", "one suffices", "strict", "signed", "columns", "sum")
    key = next((w for w in ways if got == [_pairs(*table, w) for table in tables]), "other")
    k = next(k for k in range(len(tables)) if got[k] != want[k])
    return key, {"tolerance": tables[k][2], "want": sorted(want[k]), "got": sorted(got[k])}


def _as_pairs(answer: Any) -> set[tuple[int, int]]:
    try:
        rows = [tuple(sorted(int(number(k)) for k in row)) for row in answer]
    except TypeError:
        raise Wrong("format", got=answer) from None
    if any(len(row) != 2 or not 0 <= row[0] < row[1] < CRITERIA for row in rows):
        raise Wrong("format", got=answer)
    return {(row[0], row[1]) for row in rows}
