"""Checks of how sure we are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import binom, binomtest, norm

from medlab.exercises import Verdict, Wrong, as_array, call, exercise, first_match, near, number

_DRAWS = {
    "not called": "`metric` was not called. Each resample is scored by `metric(labels, scores)`.",
    "columns": "`metric` was called with {got}. It takes the labels and the scores of one "
    "resample, in this order.",
    "unknown": "`metric` was called with scores that no patient has. It takes those of one model, "
    "as they are.",
    "size": "a resample has {got} patients. Draw as many as there are, {want}.",
    "broken pairs": "a score came with another patient's label. Draw positions once, and take "
    "labels *and* scores there.",
    "no replacement": "every patient came exactly once, each time. The bootstrap draws with "
    "replacement.",
    "same": "all resamples were the same. Draw anew in each round.",
    "never": "{got} of {want} patients were never drawn. May the first and the last one come?",
    "stratified": "each resample has the same number of ill patients. Draw from all patients: in "
    "another study that number would be another one.",
    "how many": "I asked for {want} resamples, and `metric` saw {got}.",
    "own rng": "two different rngs gave the same resamples. Draw with the rng that I pass in, and "
    "make none of your own.",
    "unseeded": "the same rng gave two different intervals. Draw with the rng that I pass in, not "
    "with np.random.",
    "all values": "you returned {got} values. I asked for two: the ends of the middle 95 %.",
    "ends": "I expected two numbers, (low, high), and got {got}.",
    "high first": "you returned the upper end first.",
    "tails": "between your ends lie {got:.0%} of the results. The middle 95 % leave 2.5 % out at "
    "each end.",
    "normal": "you took 1.96 standard deviations to each side. I asked for quantiles of the "
    "results, which need not be symmetric.",
    "other ends": "of the {n} results the quantiles 0.025 and 0.975 are {low:.4f} and {high:.4f}, "
    "and I got {got}.",
}
MESSAGES = {
    "how_sure.1": {
        "right": "five lines, and they work for any score: an AUC, a sensitivity, a Dice overlap.",
        **_DRAWS,
    },
    "how_sure.2": {
        "right": "whole patients, with replacement, as many as there are. The number of images now "
        "varies from resample to resample, and should.",
        "images": "patient {who!r} came with one image {least} times and another {most} times: "
        "you drew images, or left some out. Draw patients, and take *all* images of each.",
        "numbers of patients": "your positions run from 0 to {top}: they count patients, not "
        "images. Go from each patient drawn to the positions of all her images.",
        "no replacement": "every patient came exactly once, each time. The bootstrap draws with "
        "replacement.",
        "once": "no patient ever came twice. A patient drawn twice brings her images twice: "
        "replace=False forbids that, and np.isin, a set or a mask forgets it.",
        "how many": "I count {got:g} patients drawn of {want}. Draw as many patients as there "
        "*are* patients: len(np.unique(patients)).",
        "weighted": "patients with many images are drawn more often ({got:.1f} times on average "
        "for one with eight). Draw from np.unique(patients), where each stands once.",
        "names": "you returned patients' names. I asked for positions of images, to index scores "
        "and labels with.",
        "not joined": "you returned {n} arrays, one for each patient drawn. Join them: "
        "np.concatenate.",
        "mask": "you returned a mask of True and False, which cannot say 'twice'. Return "
        "positions.",
        "unseeded": "the same rng gave two different resamples. Draw with the rng that I pass in, "
        "not with np.random.",
        "same": "all resamples from one rng were the same. Use the rng that I pass in.",
        "range": "{got} is no position in a list of {n} images.",
        "kind": "I expected an array of whole positions, and got {kind}.",
    },
    "how_sure.3": {
        "right": "5 of 5 leave every sensitivity from {low:.3f} on. And 0 of n is no special case.",
        "ends": "I expected two numbers, (low, high), and got {got}.",
        "high first": "you returned the upper end first.",
        "percent": "you returned per cent. A share lies between 0 and 1 in this course.",
        "wald": "for {k} of {n} that is Wald's interval: the observed share stands under the root. "
        "There the p that is tried belongs.",
        "exact": "for {k} of {n} that is Clopper and Pearson's interval, by the tails of the "
        "binomial. I asked for Wilson's, by the normal curve.",
        "90": "for {k} of {n} that leaves 5 % out at each end: 1.64 instead of 1.96.",
        "one deviation": "for {k} of {n} that is one standard deviation to each side, instead of "
        "1.96.",
        "no root": "you compared with p(1 − p)/n, which is the variance. Take its root.",
        "outside": "the other way round: you returned p that are refuted.",
        "coarse": "for {k} of {n} you are within two hundredths of {low:.3f} and {high:.3f}, with "
        "{got}. To three digits, please: try more values of p, and look whether you took 1.96.",
        "other": "for {k} of {n} I expected {low:.3f} to {high:.3f}, and got {got}.",
    },
    "how_sure.4": {
        "right": "no random numbers, no doubt: where all results can be listed, coverage is a sum.",
        "missed": "you returned the chance that the interval misses p. Coverage is that it holds "
        "it.",
        "last": "the result k = n is left out. There are n + 1 results, 0 to n.",
        "first": "the result k = 0 is left out. There are n + 1 results, 0 to n.",
        "unweighted": "you counted results, each as one of n + 1. Some come more often than "
        "others: add up their chances.",
        "open": "an interval holds its own ends: low ≤ p ≤ high.",
        "one side": "you looked at one end alone. The interval holds p if p is above the lower "
        "*and* below the upper end.",
        "percent": "you returned per cent. A share lies between 0 and 1 in this course.",
        "observed": "your chances add up to 1: either you left no k out, or you asked whether the "
        "interval holds k/n, which it always does. Does it hold "
        "the truth, p?",
        "simulated": "that is near {expected:.4f}, and no sum: two calls gave {got:.4f} and "
        "{again:.4f}. Add up `binom.pmf(k, n, p)` instead of drawing.",
        "other": "at n = {n} and p = {p:g} I expected {expected:.4f}, and got {got:.4f}.",
    },
    "how_sure.5": {
        "right": "look which of the two parts is larger: as a rule, that of the group with fewer "
        "patients. There a further patient helps most.",
        "two": "I expected two numbers, the AUC and its standard error, and got {got}.",
        "order": "you returned the standard error first.",
        "inverted": "your AUC is {got:.3f}, and it is {want:.3f}: the healthy won where the ill "
        "should.",
        "ties lost": "your AUC counts ties 0. They count half.",
        "ties won": "your AUC counts ties 1. They count half.",
        "auc": "the AUC should be {want:.4f}, and I got {got:.4f}.",
        "variance": "that is the variance. The standard error is its root.",
        "n": "you divided by n in the sample variances. n − 1, please: `ddof=1`.",
        "not divided": "you left out n₁ and n₀: each variance is divided by its number of "
        "patients.",
        "swapped": "Var(V) is divided by n₁, the number of the ill, and Var(W) by n₀. You swapped "
        "them.",
        "errors added": "you added two standard errors. Variances add; the root comes last.",
        "one part": "only one of the two groups contributes. Both the ill and the healthy were "
        "drawn by chance.",
        "pairs": "you took the spread of all {count} pairs as if they were independent. They "
        "share patients: average over rows and over columns first.",
        "binomial": "you treated the AUC as a share of independent results. It is a mean of pairs "
        "that share patients.",
        "half width": "that is 1.96 standard errors. I asked for one.",
        "other": "for {n1} ill and {n0} healthy patients the standard error should be "
        "{want:.4f}, and I got {got:.4f}.",
    },
    "how_sure.6": {
        "right": "one line moved, and the shared luck cancels.",
        "unpaired": "in a round, `a` and `b` were scored on different patients. Draw once, and use "
        "the same positions for both.",
        "one model": "`metric` saw {got} only. Each round needs the score of both models.",
        "fixed": "in each round, one model was scored on all patients as they are. Draw positions, "
        "and score both models there.",
        "sign": "those are the ends of a − b. I asked for b − a.",
        "difference of ends": "you took an interval of each model and subtracted the ends. "
        "Subtract in each round, and take the quantiles of the differences.",
        **{key: text for key, text in _DRAWS.items() if key != "stratified"},
    },
    "how_sure.7": {
        "right": "±{half:.3f}, at {dearer:.0%} above the least possible cost. The rare class is "
        "dear, so take √10 times as many of the cheap one: more healthy patients still help, "
        "though each helps less.",
        "not two": "I expected two whole numbers, (ill, healthy).",
        "too few": "{n1:g} ill and {n0:g} healthy give ±{half:.3f} on average, and ±0.03 was "
        "asked. The half-width shrinks with the square root of the numbers.",
        "full width": "{n1:g} and {n0:g} give ±{half:.3f}. Did you aim at a *full* width of 0.03? "
        "That takes four times the patients.",
        "lopsided": "precise enough (±{half:.3f}), but {dearer:.0%} dearer than need be, at "
        "{ratio:.2g} healthy for each ill patient. Another mix does the same for less.",
        "wasteful": "the mix will do, but ±{half:.3f} is more precise than was asked, at "
        "{dearer:.0%} more than the least cost.",
    },
}

ROUNDS = 300
LABELS = np.array([1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0])
SCORES = np.array([3.1, 0.4, 1.7, 2.2, 2.6, 1.1, 0.9, 4.2, 3.8, 1.4, 5.3, 2.9, 0.2])


class _Spy:
    """A metric that remembers which patients it was shown, by the scores of each model."""

    def __init__(self, *models: np.ndarray):
        self.models = models
        self.seen: list[tuple[int, np.ndarray, float]] = []

    def __call__(self, labels: Any, scores: Any) -> float:
        y, s = as_array(labels), as_array(scores)
        if y.shape != s.shape or y.ndim != 1 or not np.isin(y, (0, 1)).all():
            got = f"labels of shape {y.shape} and scores of shape {s.shape}"
            raise _Seen("columns", got="the scores first" if np.isin(s, (0, 1)).all() else got)
        if len(y) != len(LABELS):
            raise _Seen("size", got=len(y), want=len(LABELS))
        for which, model in enumerate(self.models):
            at = abs(s[:, None] - model).argmin(1)
            if np.allclose(s, model[at], rtol=1e-5, atol=0):
                if (LABELS[at] != y).any():
                    raise _Seen("broken pairs")
                value = float((model[at] * (1 + y)).mean() ** 2)
                self.seen.append((which, at, value))
                return value
        raise _Seen("unknown")

    def of(self, which: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions (calls, N) and values of one model, but for a call with all as they are."""
        calls = [(at, value) for model, at, value in self.seen if model == which]
        if len(calls) == ROUNDS + 1:
            plain = [k for k, (at, _) in enumerate(calls) if (at == np.arange(len(at))).all()]
            calls = [one for k, one in enumerate(calls) if k not in plain[:1]]
        return np.array([at for at, _ in calls]), np.array([value for _, value in calls])


class _Seen(Exception):
    """What a spy saw, told through the learner's own code."""

    def __init__(self, key: str, **values: Any):
        super().__init__(key)
        self.verdict = key, values


def _run(answer: Callable, spy: _Spy, *given: Any) -> np.ndarray:
    """What the learner returns, as numbers; `Wrong` with what the spy saw."""
    try:
        result = call(answer, spy, *given)
    except Wrong as wrong:
        if isinstance(wrong.__cause__, _Seen):
            key, values = wrong.__cause__.verdict
            raise Wrong(key, **values) from wrong
        raise
    if isinstance(result, (tuple, list)):
        result = [number(value) for value in result]
    return as_array(result)


def _drawn(positions: np.ndarray) -> Verdict | None:
    """What is wrong with resamples (rounds, N) of positions, if anything."""
    n = len(LABELS)
    if len(positions) == 0:
        return "not called"
    if len(positions) != ROUNDS:
        return "how many", {"got": len(positions), "want": ROUNDS}
    counts = np.array([np.bincount(at, minlength=n) for at in positions])
    if (counts == 1).all():
        return "no replacement"
    if (counts == counts[0]).all():
        return "same"
    if not counts.any(0).all():
        return "never", {"got": int((~counts.any(0)).sum()), "want": n}
    return None


def _ends(got: np.ndarray, values: np.ndarray) -> Verdict | None:
    """What is wrong with the ends of the middle 95 % of some values, if anything."""
    if got.size == len(values):
        return "all values", {"got": got.size}
    if got.shape != (2,):
        return "ends", {"got": f"shape {got.shape}"}
    ordered = np.sort(values)
    low, high = np.quantile(values, [0.025, 0.975])
    fits = _between(got[0], ordered, 0.025) and _between(got[1], ordered, 0.975)
    if fits:
        return None
    if _between(got[1], ordered, 0.025) and _between(got[0], ordered, 0.975):
        return "high first"
    middle, half = values.mean(), norm.ppf(0.975) * values.std()
    if near(got, [middle - half, middle + half], rel=0.01):
        return "normal"
    inside = float(((values >= got[0]) & (values <= got[1])).mean())
    known = any(abs(got[0] - v) < 1e-9 for v in values) or got[0] >= ordered[0]
    if known and got[0] < got[1] <= ordered[-1]:
        return "tails", {"got": inside}
    return "other ends", {"n": len(values), "low": low, "high": high, "got": got.tolist()}


def _between(got: float, ordered: np.ndarray, level: float) -> bool:
    """Whether it lies where any rule puts the quantile: between the results next to it."""
    place = level * (len(ordered) - 1)
    low = ordered[max(0, math.floor(place) - 1)]
    high = ordered[min(len(ordered) - 1, math.ceil(place) + 1)]
    return bool(low - 1e-9 <= got <= high + 1e-9)


SEEDS = (0, 0, 1)


@exercise("how_sure.1", MESSAGES["how_sure.1"])
def bootstrap(answer) -> Verdict:
    results, draws = [], []
    for seed in SEEDS:
        spy = _Spy(SCORES)
        given = LABELS.copy(), SCORES.copy(), ROUNDS, np.random.default_rng(seed)
        got = _run(answer, spy, *given)
        positions, values = spy.of(0)
        if fault := _drawn(positions):
            return fault
        if np.ptp(LABELS[positions].sum(1)) == 0:
            return "stratified"
        if fault := _ends(got, values):
            return fault
        results.append(got)
        draws.append(positions)
    return _seeded(results, draws)


def _seeded(results: list, draws: list[np.ndarray]) -> Verdict:
    """Whether the same seed gave the same interval, and another one other resamples."""
    if not near(*results[:2]):
        return "unseeded"
    return "own rng" if np.array_equal(draws[1], draws[2]) else "right"


@exercise("how_sure.2", MESSAGES["how_sure.2"])
def resample(answer) -> Verdict:
    patients = np.array(
        ["P4", "P1", "P1", "P1", "P2", "P1", "P1", "P3", "P1", "P1", "P5", "P1", "P2"]
    )
    names = np.unique(patients)
    rng, counted = np.random.default_rng(0), []
    for _ in range(200):
        counted.append(_counted(call(answer, patients.copy(), rng), len(patients)))
    counts = np.array(counted)
    if not counts[:, len(names) :].any() and (counts.sum(1) == len(names)).all():
        return "numbers of patients", {"top": len(names) - 1}
    columns = []
    for name in names:
        own = counts[:, patients == name]
        uneven = np.ptp(own, axis=1)
        if uneven.any():
            row = own[uneven.argmax()]
            return "images", {"who": str(name), "least": int(row.min()), "most": int(row.max())}
        columns.append(own[:, 0])
    drawn = np.array(columns).T
    if (drawn == 1).all():
        return "no replacement"
    if not drawn.any():
        return "how many", {"got": 0, "want": len(names)}
    if (drawn == drawn[0]).all():
        return "same"
    if drawn.max() == 1:
        return "once"
    if (drawn.sum(1) != len(names)).any():
        return "how many", {"got": drawn.sum(1).mean(), "want": len(names)}
    if drawn[:, 0].mean() > 1.5:
        return "weighted", {"got": drawn[:, 0].mean()}
    again = [np.asarray(call(answer, patients.copy(), np.random.default_rng(0))) for _ in "ab"]
    return "right" if np.array_equal(again[0], again[1]) else "unseeded"


def _counted(positions: Any, n: int) -> np.ndarray:
    """How often each of n positions occurs."""
    if isinstance(positions, list | tuple) and any(np.ndim(part) for part in positions):
        raise Wrong("not joined", n=len(positions))
    array = np.asarray(positions.cpu() if torch.is_tensor(positions) else positions)
    if array.dtype == bool:
        raise Wrong("mask")
    if array.dtype.kind in "US":
        raise Wrong("names")
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise Wrong("kind", kind=f"{array.dtype} of shape {array.shape}")
    if array.size and not 0 <= array.min() <= array.max() < n:
        raise Wrong("range", got=int(array.max() if array.max() >= n else array.min()), n=n)
    return np.bincount(array.astype(int), minlength=n)


def _kept(k: int, n: int, errors: float, power: float) -> list[float]:
    """Ends of the p that differ from k/n by no more than so many errors (p(1 − p)/n)^power."""
    p = np.linspace(0, 1, 20_001)
    stays = p[abs(k / n - p) <= errors * (p * (1 - p) / n) ** power + 1e-12]
    return [stays.min(), stays.max()] if stays.size else [math.nan, math.nan]


@exercise("how_sure.3", MESSAGES["how_sure.3"])
def wilson(answer) -> Verdict:
    for k, n in ((47, 50), (5, 5), (0, 20), (3, 11)):
        result = call(answer, k, n)
        if isinstance(result, (tuple, list)):
            result = [number(value) for value in result]
        got = as_array(result)
        if got.shape != (2,):
            return "ends", {"got": f"shape {got.shape}"}
        want = list(binomtest(k, n).proportion_ci(method="wilson"))
        if near(got, want, rel=0, absolute=2e-3):
            continue
        share, wald = k / n, norm.ppf(0.975) * math.sqrt(k / n * (1 - k / n) / n)
        exact = list(binomtest(k, n).proportion_ci(method="exact"))
        wrong = {
            "high first": want[::-1],
            "exact": exact,
            "wald": [share - wald, share + wald],
            "90": list(binomtest(k, n).proportion_ci(0.9, method="wilson")),
            "one deviation": _kept(k, n, 1.0, 0.5),
            "no root": _kept(k, n, 1.96, 1.0),
        }
        shown = [round(float(end), 4) for end in got]
        values = {"k": k, "n": n, "low": want[0], "high": want[1], "got": shown}
        clipped = [max(0.0, share - wald), min(1.0, share + wald)]
        if near(got, clipped, rel=0, absolute=2e-3):
            return "wald", values
        if near(got / 100, want, rel=0, absolute=2e-3):
            return "percent"
        key = first_match(got, wrong, rel=0, absolute=2e-3)
        if key == "other" and near(got, [0, 1], rel=0, absolute=2e-3):
            key = "outside"
        if key == "other" and near(got, want, rel=0, absolute=0.02):
            key = "coarse"
        return key, values
    return "right", {"low": binomtest(5, 5).proportion_ci(method="wilson").low}


def _reach(k: int, n: int) -> tuple[float, float]:
    """An interval of k of n whose ends meet p = 0.5 exactly for n = 8."""
    return k / n - 0.25, k / n + 0.25


def _wilson(k: int, n: int) -> Sequence[float]:
    return binomtest(int(k), int(n)).proportion_ci(method="wilson")


def _above(k: int, n: int) -> tuple[float, float]:
    """Holds what lies above k/n, and p = 0.9 for n = 3 unless all are found."""
    return k / n, 1.0


@exercise("how_sure.4", MESSAGES["how_sure.4"])
def coverage(answer) -> Verdict:
    cases = (_reach, 8, 0.5), (_wilson, 20, 0.9), (_wilson, 12, 0.04), (_above, 7, 0.62)
    for interval, n, p in cases:
        got = number(call(answer, interval, n, p))
        k = np.arange(n + 1)
        low, high = np.array([interval(int(i), n) for i in k]).T
        held, chance = (low <= p) & (p <= high), binom.pmf(k, n, p)
        expected = float(chance[held].sum())
        if near(got, expected, rel=0, absolute=2e-5):
            continue
        inside = (low < p) & (p < high)
        wrong = {
            "missed": 1 - expected,
            "last": chance[:-1][held[:-1]].sum(),
            "first": chance[1:][held[1:]].sum(),
            "unweighted": held.mean(),
            "open": chance[inside].sum(),
            "percent": 100 * expected,
            "observed": chance[(low <= k / n) & (k / n <= high)].sum(),
        }
        values = {"n": n, "p": p, "expected": expected, "got": got}
        key = first_match(got, wrong, rel=0, absolute=2e-5)
        if key == "other" and any(
            near(got, chance[side].sum(), rel=0, absolute=2e-5) for side in (low <= p, p <= high)
        ):
            key = "one side"
        if key == "other" and near(got, held.sum() / n, rel=0, absolute=2e-5):
            key = "unweighted"
        again = number(call(answer, interval, n, p))
        if key == "other" and again != got and abs(got - expected) < 0.1:
            return "simulated", {**values, "again": again}
        return key, values
    return "right"


@exercise("how_sure.5", MESSAGES["how_sure.5"])
def delong(answer) -> Verdict:
    rng = np.random.default_rng(4)
    for n1, n0 in ((4, 9), (11, 6)):
        labels = rng.permutation(np.repeat([1, 0], [n1, n0]))
        scores = (rng.normal(size=n1 + n0) + labels).round(0 if n1 == 4 else 1)
        gap = scores[labels == 1][:, None] - scores[labels == 0]
        won = (gap > 0) + 0.5 * (gap == 0)
        V, W, auc = won.mean(1), won.mean(0), float(won.mean())
        v, w = V.var(ddof=1), W.var(ddof=1)
        error = math.sqrt(v / n1 + w / n0)
        result = call(answer, labels.copy(), scores.copy())
        if isinstance(result, (tuple, list)):
            result = [number(value) for value in result]
        got = as_array(result)
        if got.shape != (2,):
            return "two", {"got": f"shape {got.shape}"}
        if near(got, [auc, error]):
            continue
        if near(got, [error, auc]):
            return "order"
        if not near(got[0], auc):
            wrong = {
                "inverted": 1 - auc,
                "ties lost": (gap > 0).mean(),
                "ties won": (gap >= 0).mean(),
            }
            key = first_match(got[0], wrong)
            return "auc" if key == "other" else key, {"want": auc, "got": float(got[0])}
        wrong = {
            "variance": error**2,
            "n": math.sqrt(V.var() / n1 + W.var() / n0),
            "not divided": math.sqrt(v + w),
            "swapped": math.sqrt(v / n0 + w / n1),
            "errors added": math.sqrt(v / n1) + math.sqrt(w / n0),
            "binomial": math.sqrt(auc * (1 - auc) / (n1 + n0)),
            "half width": norm.ppf(0.975) * error,
        }
        key = first_match(got[1], wrong)
        if key == "other" and any(
            near(got[1], math.sqrt(one)) for one in (v / n1, w / n0, V.var() / n1, W.var() / n0)
        ):
            key = "one part"
        pairs = [float(won.std()) / math.sqrt(won.size - d) for d in (0, 1)]
        if key == "other" and any(near(got[1], one) for one in pairs):
            key = "pairs"
        values = {"n1": n1, "n0": n0, "want": error, "got": float(got[1]), "count": won.size}
        return key, values
    return "right"


@exercise("how_sure.6", MESSAGES["how_sure.6"])
def paired(answer) -> Verdict:
    a, b = SCORES, 1.07 * np.roll(SCORES, 4) + 0.03
    results, draws = [], []
    for seed in SEEDS:
        spy = _Spy(a, b)
        given = LABELS.copy(), a.copy(), b.copy(), ROUNDS, np.random.default_rng(seed)
        got = _run(answer, spy, *given)
        (at_a, of_a), (at_b, of_b) = spy.of(0), spy.of(1)
        if bool(len(at_a)) != bool(len(at_b)):
            return "one model", {"got": "`a`" if len(at_a) else "`b`"}
        faults = _drawn(at_a), _drawn(at_b)
        if fault := faults[0] or faults[1]:
            once = faults.count("no replacement") == 1 and None in faults
            return "fixed" if once else fault
        if (np.sort(at_a, 1) != np.sort(at_b, 1)).any():
            return "unpaired"
        if fault := _ends(got, of_b - of_a):
            if _ends(got, of_a - of_b) is None:
                return "sign"
            each = [np.quantile(values, [0.025, 0.975]) for values in (of_a, of_b)]
            if near(got, each[1] - each[0], rel=0.05):
                return "difference of ends"
            return fault
        results.append(got)
        draws.append(at_a)
    return _seeded(results, draws)


@exercise("how_sure.7", MESSAGES["how_sure.7"])
def sample_size(answer) -> Verdict:
    try:
        n1, n0 = (number(value) for value in answer)
    except (TypeError, ValueError):
        return "not two"
    if not (n1 >= 2 and n0 >= 2):
        return "not two"
    v = _placement_variance(0.85)
    wanted = (0.03 / norm.ppf(0.975)) ** 2
    half = norm.ppf(0.975) * math.sqrt(v / n1 + v / n0)
    # Least 10 n₁ + n₀ with v/n₁ + v/n₀ = wanted is at n₀ = √10 n₁.
    least = v * (1 + math.sqrt(10)) ** 2 / wanted
    cost = 10 * n1 + n0
    values = {"n1": n1, "n0": n0, "half": half, "dearer": cost / least - 1, "ratio": n0 / n1}
    if half > 0.031:
        return "too few", values
    if cost <= 1.12 * least:
        return "right", {**values, "dearer": max(0.0, values["dearer"])}
    if abs(half / 0.015 - 1) < 0.08:
        return "full width", values
    just_enough = cost * v * (1 / n1 + 1 / n0) / wanted  # this mix, only as precise as asked
    return ("lopsided" if just_enough > 1.12 * least else "wasteful"), values


def _placement_variance(auc: float) -> float:
    """Variance over healthy patients of the share of the ill that outscore them; binormal."""
    shift = math.sqrt(2) * norm.ppf(auc)
    x = np.linspace(-8, 8, 4001)
    share = norm.cdf(shift - x)
    return float(((share - auc) ** 2 * norm.pdf(x)).sum() * (x[1] - x[0]))
