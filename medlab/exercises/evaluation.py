"""Checks of evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from medlab import metrics
from medlab.exercises import Verdict, Wrong, as_array, call, exercise, near, number, shape_or_type

RATIOS = {
    "sensitivity": "It is a share of the ill, TP + FN.",
    "specificity": "It is a share of the healthy, TN + FP.",
    "PPV": "It is a share of those called, TP + FP.",
    "NPV": "It is a share of those not called, TN + FN.",
}
MESSAGES = {
    "evaluation.1": {
        "right": "two ratios go along the truth, two along the call. Say the denominator aloud "
        "whenever you read one: of the ill, or of the called?",
        "strict": "a score equal to the threshold counts as called: ≥, not >.",
        "below": "you called those below the threshold. High scores are called here: ≥.",
        "class": "you took label 0 for the ill. Here 1 means ill.",
        "swapped se": "sensitivity and PPV have changed places. Sensitivity is a share of the ill, "
        "TP + FN; PPV is a share of the called, TP + FP.",
        "swapped sp": "specificity and NPV have changed places. Specificity is a share of the "
        "healthy, TN + FP; NPV is a share of those not called, TN + FN.",
        "swapped both": "your denominators are swapped: you divided along the call where the truth "
        "was asked, and the other way round. Sensitivity divides by the ill, TP + FN.",
        "order": "these are the four ratios, in another order. I asked for sensitivity, "
        "specificity, PPV, NPV.",
        "false alarms": "your second ratio is FP / (FP + TN), the share of the healthy that was "
        "alarmed. Specificity is the share that was spared.",
        "of all": "you divided by all patients. Each ratio has its own denominator: TP + FN, "
        "TN + FP, TP + FP, TN + FN.",
        "counts": "you returned counts. Divide each by its own group.",
        "percent": "you returned per cent. Ratios lie between 0 and 1 in this course.",
        "one": "the {name} should be {top} of {whole}, {expected:.3f}, and I got {got:.3f}; the "
        "other three are right. {whom}",
        "not four": "I expected four numbers, and got {got}.",
        "other": "with TP {tp}, FP {fp}, TN {tn} and FN {fn} I expected {expected} and got {got}.",
    },
    "evaluation.2": {
        "right": "try it at 0.9, 0.9 and a prevalence of 1 in 1,000: of about a hundred alarms, "
        "one is true.",
        "no prevalence": "the prevalence does not appear in {got:.3f}, or cancels: you divided "
        "sensitivity by sensitivity + (1 − specificity), which holds only where half are ill. The "
        "ill weigh the prevalence, the healthy 1 − prevalence.",
        "prevalence swapped": "you weighted the ill by 1 − prevalence and the healthy by the "
        "prevalence. The prevalence is the share of the ill.",
        "healthy not weighted": "you weighted the ill by the prevalence, but not the healthy by "
        "1 − prevalence.",
        "ill not weighted": "you weighted the healthy by 1 − prevalence, but not the ill by the "
        "prevalence.",
        "specificity": "false alarms come from the healthy who are *not* spared: 1 − specificity.",
        "missed": "beside the true alarms you put those missed, 1 − sensitivity of the ill. A PPV "
        "asks what else is among the *called*: healthy people.",
        "sensitivity": "you returned the sensitivity, P(called | ill). I asked for "
        "P(ill | called).",
        "joint": "you returned the share of all patients who are ill and called. Divide by the "
        "share of all who are called.",
        "called": "you returned the share of all patients who are called. Of these, which part is "
        "ill?",
        "npv": "that is the NPV, of the patients who were not called.",
        "false": "you returned the share of alarms that are false. PPV is the rest.",
        "odds": "you returned the odds, true : false. A probability is odds / (1 + odds).",
        "percent": "you returned per cent. Write a share, between 0 and 1.",
        "other": "for sensitivity {se}, specificity {sp} and prevalence {pi} I expected "
        "{expected:.4f} and got {got:.4f}.",
    },
    "evaluation.3": {
        "right": "each score is one threshold, and patients with equal scores move together. The "
        "area under these points is the AUC.",
        "axes": "your two numbers have changed places: you put sensitivity first, or took label 0 "
        "for the ill. To the right go the false alarms, upwards the sensitivity.",
        "start": "the point (0, 0) is missing, where nobody is called.",
        "end": "the point (1, 1) is missing, where everybody is called: the lowest score is a "
        "threshold too, and a score equal to the threshold is called.",
        "reversed": "these are the points in reverse. Start at (0, 0), with the highest score.",
        "unsorted": "these are the points in another order. After (0, 0) the thresholds fall, from "
        "the highest score down.",
        "below": "you called those below the threshold. High scores are called here: ≥.",
        "specificity": "your first number is the specificity. To the right go the false alarms, "
        "1 − specificity.",
        "ties": "I expected {want} points and got {got}: one for (0, 0), one for each *distinct* "
        "score. No threshold can part patients with equal scores.",
        "counts": "you returned counts. Divide by the number of healthy, and of ill, patients.",
        "of all": "you divided both by all patients. The rates are shares of the healthy, and of "
        "the ill.",
        "precision": "your points are (recall, precision). I asked for (false-alarm rate, "
        "sensitivity).",
        "order": "the points changed when I shuffled the patients. Do not rely on their order.",
        "points": "I expected points, two numbers each, and got {got}.",
        "other": "for labels {labels} and scores {scores}, point {k} should be {expected} and is "
        "{got}.",
    },
    "evaluation.4": {
        "right": "each step in recall, weighted by the precision reached with it. Chance has the "
        "prevalence, not ½.",
        "ties": "tied patients were counted one after the other, and the result depends on their "
        "order. Recall and precision are taken where a whole group of equal scores has passed.",
        "first": "the first step is missing: recall comes from 0.",
        "trapezoid": "you joined the points by straight lines. Between two points precision does "
        "not run straight; average precision takes steps, each with the precision at its end.",
        "before": "you took the precision at the *start* of each step. It belongs to the patients "
        "who have passed with the step, so take it at the end.",
        "unweighted": "you averaged the precision over all thresholds. A threshold at which no ill "
        "patient passes adds no recall, and should add nothing.",
        "total recall": "you weighted each precision by the recall, not by its *gain* since the "
        "threshold before.",
        "envelope": "you took the highest precision from each recall on, as detectors are scored "
        "(notebook 20). Here each step has its own precision.",
        "auc": "{got:.3f} is the area under the ROC curve. Here the heights are precisions.",
        "reversed": "you walked from the lowest score up, or took low scores for ill.",
        "counts": "you summed precisions weighted by patients. Recall is a share: divide by the "
        "number of the ill.",
        "order": "the answer changed to {got:.3f} when I shuffled the patients. Sort first.",
        "other": "for labels {labels} and scores {scores} I expected {expected:.4f} and got "
        "{got:.4f}.",
    },
    "evaluation.5": {
        "right": "of K classes only the two groups “this one” and “the rest” are left, and "
        "every ratio of section 1 applies.",
        "transposed": "FP and FN have changed places. Rows are the truth: what stands in row k "
        "beside the diagonal is of class k and called otherwise, so missed.",
        "diagonal": "your TN counts only the diagonal. Who is not of class k and not called k is a "
        "true negative of k, whichever other class was called.",
        "corner": "your TN lacks the {tp} of class k itself: row and column cross in one corner, "
        "which was taken off twice.",
        "rows": "your TN is all but the TP. The FP and the FN are no true negatives either.",
        "whole": "your TP is a whole row or column. Only its diagonal entry was called rightly.",
        "fp includes": "your FP is the whole column, with the true positives in it.",
        "fn includes": "your FN is the whole row, with the true positives in it.",
        "order": "these are the four counts, in another order. I asked for TP, FP, TN, FN.",
        "shares": "you returned shares. I asked for counts.",
        "ratios": "I expected four counts, and got {got}.",
        "one": "for class {k} the {name} should be {expected:g}, and I got {got:g}; the other "
        "three are right.",
        "other": "for class {k} of {matrix} I expected {expected} and got {got}.",
    },
    "evaluation.6": {
        "right": "you found {expected:.2f} for a network that was too sure and {other:.2f} for one "
        "that was not sure enough.",
        "beta": "{got:.3g} is β = 1/T. Return the temperature that the logits are *divided* by.",
        "edge": "you found {got:g} where {expected:.3g} is best. Does your search reach below 1 as "
        "well as above?",
        "ill": "{got:.3g} is what the ill alone would choose. The cross-entropy has two terms: "
        "ln σ for the ill, ln(1 − σ) for the healthy.",
        "healthy": "{got:.3g} is what the healthy alone would choose. The cross-entropy has two "
        "terms: ln σ for the ill, ln(1 − σ) for the healthy.",
        "brier": "{got:.3g} has the lowest Brier score. I asked for the lowest cross-entropy, "
        "which punishes what is surely wrong more.",
        "coarse": "{got:.4g} is near the best, {expected:.4g}, but not to two digits. Refine the "
        "grid, or use the slope.",
        "loss": "{got:.4g} is the lowest cross-entropy. I asked for the temperature that has it.",
        "positive": "a temperature is positive and finite, and I got {got:.3g}.",
        "worse": "at your T = {got:.3g} the cross-entropy is {loss:.4f}; at {expected:.3g} it is "
        "{least:.4f}. Did the search stop early, or at the edge of its range? If it went the wrong "
        "way, check the sign of the slope, and that labels 1 go with ln σ.",
    },
    "evaluation.7": {
        "right": "every score is a candidate, and so is calling nobody. Where probabilities hold, "
        "the search ends near 1/(1 + c).",
        "rule": "{got:.3g} is 1/(1 + c). That is the cheapest threshold of *calibrated* "
        "probabilities, and these are not. I asked for a search over the patients given.",
        "missed": "{got:.3g} is c/(1 + c). The dearer a miss, the *lower* the threshold; and I "
        "asked for a search over the patients given.",
        "grid": "{got:.3g} is the cheapest of the tenths. Patients lie between two tenths, and at "
        "each of them the cost changes: try every score.",
        "inverted": "at {got:.3g} the cost would be least if a *false alarm* cost {c} times a "
        "miss. It is the other way round.",
        "no cost": "{got:.3g} makes the fewest errors, whatever they cost. A miss weighs "
        "{c} times a false alarm.",
        "rates": "{got:.3g} is best if rates are added, c·(1 − sensitivity) + (1 − specificity). "
        "Costs arise per patient: count the missed and the alarmed.",
        "strict": "{got:.3g} is best if only scores *above* the threshold are called. A score "
        "equal to it is called too.",
        "nobody": "with c = {c} it is cheapest to call nobody, and no patient's own score does "
        "that: try a threshold above all of them too.",
        "dearest": "{got:.3g} is the dearest threshold. Look for the least cost.",
        "cost": "{got:.4g} is a cost. I asked for the threshold at which it is least.",
        "place": "{got:g} is a position in a list. I asked for the threshold that stands there.",
        "other": "with c = {c} your threshold {got:.3g} costs {cost:g} in all: {fn} missed, {fp} "
        "false alarms. At {best:.3g} it is {least:g}.",
    },
}


@exercise("evaluation.1", MESSAGES["evaluation.1"])
def evaluate(answer) -> Verdict:
    for labels, scores, threshold in _CALLED:
        tp, fp, tn, fn = _counts(labels, scores >= threshold)
        expected = _ratios(tp, fp, tn, fn)
        result = call(answer, labels.copy(), scores.copy(), threshold)
        got = as_array(result)
        if got.shape != (4,):
            return "not four", {"got": shape_or_type(result)}
        if near(got, expected):
            continue
        se, sp, ppv, npv = expected
        n = len(labels)
        wrong = {
            "strict": _ratios(*_counts(labels, scores > threshold)),
            "below": _ratios(*_counts(labels, scores < threshold)),
            "class": _ratios(*_counts(1 - labels, scores >= threshold)),
            "swapped both": [ppv, npv, se, sp],
            "swapped se": [ppv, sp, se, npv],
            "swapped sp": [se, npv, ppv, sp],
            "false alarms": [se, 1 - sp, ppv, npv],
            "of all": [tp / n, tn / n, tp / n, tn / n],
            "counts": [tp, fp, tn, fn],
            "percent": [100 * value for value in expected],
        }
        for key, values in wrong.items():
            if near(got, values):
                return key
        if near(np.sort(got), np.sort(expected)):
            return "order"
        off = [k for k in range(4) if not near(got[k], expected[k])]
        if len(off) == 1:
            [k] = off
            name, whom = list(RATIOS.items())[k]
            top, rest = ((tp, fn), (tn, fp), (tp, fp), (tn, fn))[k]
            return "one", {
                **{"name": name, "whom": whom, "top": top, "whole": top + rest},
                **{"expected": expected[k], "got": got[k]},
            }
        return "other", {
            **{"tp": tp, "fp": fp, "tn": tn, "fn": fn},
            **{"expected": np.round(expected, 3).tolist(), "got": np.round(got, 3).tolist()},
        }
    return "right"


# Scores with some at the threshold, in two units; no two ratios of a set are equal.
_CALLED = [
    (
        np.array([1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0]),
        np.array([16, 12, 15, 21, 15, 11, 13, 17, 9, 18, 14, 10, 8, 12, 19, 12]),
        15,
    ),
    (
        np.array([0, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0]),
        np.array([0.2, 0.3, 0.3, 0.9, 0.1, 0.2, 0.8, 0.7, 0.6, 0.1, 0.25]),
        0.3,
    ),
]


def _counts(labels: np.ndarray, called: np.ndarray) -> tuple[int, int, int, int]:
    ill = labels == 1
    counts = ((called & ill), (called & ~ill), (~called & ~ill), (~called & ill))
    tp, fp, tn, fn = (int(group.sum()) for group in counts)
    return tp, fp, tn, fn


def _ratios(tp: int, fp: int, tn: int, fn: int) -> list[float]:
    return [tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)]


@exercise("evaluation.2", MESSAGES["evaluation.2"])
def predictive_value(answer) -> Verdict:
    for se, sp, pi in ((0.9, 0.8, 0.15), (0.6, 0.95, 0.3), (0.75, 0.5, 0.02)):
        true, false = pi * se, (1 - pi) * (1 - sp)
        expected = true / (true + false)
        got = number(call(answer, se, sp, pi))
        if near(got, expected):
            continue
        spared = (1 - pi) * sp
        wrong = {
            "no prevalence": se / (se + 1 - sp),
            "prevalence swapped": (1 - pi) * se / ((1 - pi) * se + pi * (1 - sp)),
            "healthy not weighted": true / (true + 1 - sp),
            "ill not weighted": se / (se + false),
            "specificity": true / (true + spared),
            "missed": true / (true + (1 - pi) * (1 - se)),
            "sensitivity": se,
            "joint": true,
            "called": true + false,
            "npv": spared / (spared + pi * (1 - se)),
            "false": 1 - expected,
            "odds": true / false,
            "percent": 100 * expected,
        }
        values = {"se": se, "sp": sp, "pi": pi, "expected": expected, "got": got}
        return next((key for key, value in wrong.items() if near(got, value)), "other"), values
    return "right"


# Ill and healthy level with each other, ill and healthy on top in turn; unsorted.
_RANKED = [
    (
        np.array([0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0]),
        np.array([0.1, 0.4, 0.4, 0.8, 0.4, 0.2, 0.8, 0.9, 0.5, 0.05, 0.6, 0.3]),
    ),
    (
        np.array([1, 0, 0, 1, 0, 0, 1, 0, 0]),
        np.array([3, -1, 4, 2, 0, 2, 3, 1, -2]),
    ),
]


def _walk(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives, (M,) each, at every distinct score from the highest down."""
    levels = np.unique(scores)[::-1]
    called = scores >= levels[:, None]
    return (called & (labels == 1)).sum(1), (called & (labels == 0)).sum(1)


@exercise("evaluation.3", MESSAGES["evaluation.3"])
def roc(answer) -> Verdict:
    for labels, scores in _RANKED:
        tp, fp = (np.r_[0, counts] for counts in _walk(labels, scores))
        n1, n0 = tp[-1], fp[-1]
        expected = np.stack([fp / n0, tp / n1], 1)
        got = _points(call(answer, labels.copy(), scores.copy()))
        if near(got, expected):
            order = np.random.default_rng(0).permutation(len(labels))
            if not near(_points(call(answer, labels[order], scores[order])), expected):
                return "order"
            continue
        tp_below, fp_below = _walk(labels, -scores)
        below = np.stack([fp_below / n0, tp_below / n1], 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            precise = np.stack([tp / n1, tp / (tp + fp)], 1)
        wrong: dict[str, list[np.ndarray]] = {
            "axes": [expected[:, ::-1]],
            "start": [expected[1:]],
            "end": [expected[:-1]],
            "reversed": [expected[::-1]],
            "specificity": [np.stack([1 - expected[:, 0], expected[:, 1]], 1)],
            "counts": [np.stack([fp, tp], 1)],
            "of all": [np.stack([fp, tp], 1) / (n1 + n0)],
            "below": [np.r_[[[0, 0]], walk] for walk in (below, below[::-1])],
            "precision": [precise[1:], np.r_[[[0, 1]], precise[1:]], np.r_[[[0, 0]], precise[1:]]],
        }
        for key, guesses in wrong.items():
            if any(near(got, guess) for guess in guesses):
                return key
        if near(got[np.lexsort(got.T)], expected[np.lexsort(expected.T)]):
            return "unsorted"
        if len(got) != len(expected):
            return "ties", {"want": len(expected), "got": len(got)}
        k = int(np.argmax(~np.isclose(got, expected, rtol=1e-3, atol=1e-6).all(1)))
        return "other", {
            **{"labels": labels.tolist(), "scores": scores.tolist(), "k": k},
            **{"expected": _shown(expected[k]), "got": _shown(got[k])},
        }
    return "right"


def _points(result: Any) -> np.ndarray:
    """Points (M, 2), also of rows (2, M), which are the form of scikit-learn."""
    points = as_array(result)
    if points.ndim == 2 and points.shape[0] == 2 and points.shape[1] > 2:
        points = points.T
    if points.ndim != 2 or points.shape[1] != 2:
        raise Wrong("points", got=shape_or_type(result))
    return points


def _shown(point: np.ndarray) -> str:
    return "({:.3f}, {:.3f})".format(*point)


@exercise("evaluation.4", MESSAGES["evaluation.4"])
def average_precision(answer) -> Verdict:
    for labels, scores in _RANKED:
        tp, fp = _walk(labels, scores)
        n1 = tp[-1]
        recall, precision = tp / n1, tp / (tp + fp)
        gain = np.diff(recall, prepend=0)
        expected = float((gain * precision).sum())
        got = number(call(answer, labels.copy(), scores.copy()))
        if near(got, expected):
            order = np.random.default_rng(0).permutation(len(labels))
            again = number(call(answer, labels[order], scores[order]))
            if not near(again, expected):
                return "order", {"got": again}
            continue
        values = {"labels": labels.tolist(), "scores": scores.tolist()}
        values |= {"expected": expected, "got": got}
        best = np.maximum.accumulate(precision[::-1])[::-1]
        joined = (gain[1:] * (precision[1:] + precision[:-1]) / 2).sum()
        up, down = (_walk(labels if k else 1 - labels, -scores) for k in (1, 0))
        wrong = {
            "first": [expected - gain[0] * precision[0]],
            "trapezoid": [joined + gain[0] * w for w in (precision[0], (1 + precision[0]) / 2)]
            + [joined],
            "before": [(gain[1:] * precision[:-1]).sum() + gain[0] * w for w in (0, 1)],
            "unweighted": [precision.mean(), precision.sum()],
            "total recall": [(recall * precision).sum(), (recall * precision).mean()],
            "envelope": [(gain * best).sum(), _at_recalls(recall, precision)],
            "auc": [metrics.auc(labels, scores)],
            "reversed": [_steps(*up), _steps(*down)],
            "counts": [n1 * expected, (gain * precision).mean()],
            "ties": [_steps(*_one_by_one(labels, scores, kind)) for kind in _ORDERS],
        }
        for key, guesses in wrong.items():
            if any(near(got, guess) for guess in guesses):
                return key, values
        return "other", values
    return "right"


def _steps(tp: np.ndarray, fp: np.ndarray) -> float:
    return float((np.diff(tp, prepend=0) / tp[-1] * tp / (tp + fp)).sum())


def _at_recalls(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean of the highest precision from each of 101 recalls on."""
    return float(np.mean([precision[recall >= r / 100 - 1e-9].max() for r in range(101)]))


def _one_by_one(labels: np.ndarray, scores: np.ndarray, order: Callable) -> tuple:
    y = labels[order(labels, scores)]
    return np.cumsum(y == 1), np.cumsum(y == 0)


# Ways in which a learner's sorting leaves the tied
_ORDERS: list[Callable] = [
    lambda y, s: np.argsort(-s, kind="stable"),
    lambda y, s: np.argsort(s, kind="stable")[::-1],
    lambda y, s: np.lexsort((y, -s)),
    lambda y, s: np.lexsort((-y, -s)),
]


@exercise("evaluation.5", MESSAGES["evaluation.5"])
def one_against_rest(answer) -> Verdict:
    for matrix in _CONFUSED:
        n = matrix.sum()
        for k in range(len(matrix)):
            tp, row, column = matrix[k, k], matrix[k].sum(), matrix[:, k].sum()
            fp, fn, tn = column - tp, row - tp, n - row - column + tp
            expected = [tp, fp, tn, fn]
            result = call(answer, matrix.copy(), k)
            got = as_array(result)
            if got.shape != (4,):
                return "ratios", {"got": shape_or_type(result)}
            if near(got, expected):
                continue
            wrong = {
                "transposed": [tp, fn, tn, fp],
                "diagonal": [tp, fp, np.trace(matrix) - tp, fn],
                "corner": [tp, fp, tn - tp, fn],
                "rows": [tp, fp, n - tp, fn],
                "fp includes": [tp, column, tn, fn],
                "fn includes": [tp, fp, tn, row],
                "shares": np.array(expected) / n,
            }
            for key, values in wrong.items():
                if near(got, values):
                    return key, {"tp": tp}
            if near(np.sort(got), np.sort(expected)):
                return "order"
            if near(got[0], row) or near(got[0], column):
                return "whole"
            values = {"k": k, "matrix": matrix.tolist()}
            off = [j for j in range(4) if not near(got[j], expected[j])]
            if len(off) == 1:
                [j] = off
                name = ("TP", "FP", "TN", "FN")[j]
                return "one", values | {"name": name, "expected": expected[j], "got": got[j]}
            return "other", values | {
                "expected": np.array(expected).tolist(),
                "got": np.round(got, 3).tolist(),
            }
    return "right"


_CONFUSED = [
    np.array([[50, 3, 7, 1], [9, 20, 2, 4], [6, 5, 31, 8], [10, 0, 11, 12]]),
    np.array([[7, 2, 1], [4, 15, 6], [0, 3, 22]]),
]


@exercise("evaluation.6", MESSAGES["evaluation.6"])
def temperature(answer) -> Verdict:
    best = []
    for seed, factor in ((0, 3.0), (1, 0.5), (2, 1.7)):
        # More healthy than ill, and a little off beyond any temperature: then the ill alone, the
        # healthy alone and the Brier score each ask for another one.
        rng = np.random.default_rng(seed)
        honest = rng.normal(-1, 2, 1500)
        labels = (rng.random(1500) < _sigma(honest)).astype(int)
        logits = factor * (honest + 0.8 + 0.12 * honest**2)
        expected = metrics.fit_temperature(labels, logits)
        best.append(expected)
        got = number(call(answer, labels.copy(), logits.copy()))
        if near(got, expected, rel=0.05):  # 1.8 for 1.76 is right to two digits
            continue
        values = {"got": got, "expected": expected}
        if not 0 < got < math.inf:
            return "positive", values
        if near(got, 1 / expected, rel=0.05):
            return "beta", values
        if expected < 1 and near(got, 1, rel=0.05):
            return "edge", values
        others: dict[str, Callable] = {
            "brier": lambda t, y=labels, z=logits: ((_sigma(z / t) - y) ** 2).mean(),
            "ill": lambda t, z=logits[labels == 1]: np.logaddexp(0, -z / t).mean(),
            "healthy": lambda t, z=logits[labels == 0]: np.logaddexp(0, z / t).mean(),
        }
        for key, loss in others.items():
            if near(got, _least(loss), rel=0.05):
                return key, values
        if near(got, expected, rel=0.12):
            return "coarse", values
        loss, least = (
            np.logaddexp(0, (1 - 2 * labels) * logits / t).mean() for t in (got, expected)
        )
        if near(got, least):
            return "loss", values
        return "worse", {**values, "loss": loss, "least": least}
    return "right", {"expected": best[0], "other": best[1]}


def _sigma(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _least(loss: Callable[[float], float]) -> float:
    return math.exp(
        minimize_scalar(lambda log_t: loss(math.exp(log_t)), bounds=(-4, 4), method="bounded").x
    )


# Labels, probabilities that are not calibrated, cost of a miss. Of the first two each mistake has
# another cheapest threshold, and no score is a tenth; of the third it is cheapest to call nobody.
_LABELS = [
    *(1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1),
]
_PERCENT = [
    *(69, 59, 73, 45, 47, 67, 65, 57, 63, 79, 71, 71, 67, 61, 65),
    *(61, 49, 55, 87, 67, 59, 45, 61, 71, 63, 51, 67, 55, 49, 67),
]
_PRICED = [
    (np.array(_LABELS), np.array(_PERCENT) / 100, 4),
    (np.array(_LABELS), np.array(_PERCENT) / 100, 2),
    (np.array([0, 1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.3, 0.6, 0.5, 0.1]), 0.4),
]


@exercise("evaluation.7", MESSAGES["evaluation.7"])
def cheapest(answer) -> Verdict:
    for labels, p, c in _PRICED:
        ill = labels == 1
        tried = np.r_[np.unique(p), 2.0]  # 2: nobody is called
        called = p >= tried[:, None]
        missed, alarmed = (~called & ill).sum(1), (called & ~ill).sum(1)
        cost = c * missed + alarmed
        result = call(answer, labels.copy(), p.copy(), c)
        got = number(result)
        fn, fp = (~(p >= got) & ill).sum(), ((p >= got) & ~ill).sum()
        here, least = c * fn + fp, cost.min()
        if not math.isnan(got) and here <= least + 1e-9:
            continue
        above = c * ((p <= tried[:, None]) & ill).sum(1) + ((p > tried[:, None]) & ~ill).sum(1)
        errors = missed + alarmed
        rates = c * missed / ill.sum() + alarmed / (~ill).sum()
        values = {"c": c, "got": got, "cost": here, "fn": fn, "fp": fp}
        values |= {"best": tried[cost.argmin()], "least": least}
        if near(got, 1 / (1 + c), absolute=0):
            return "rule", values
        if near(got, c / (1 + c), absolute=0):
            return "missed", values
        if math.isnan(got):
            return "other", values
        if near(got, least, absolute=0) or near(got, least / len(p), absolute=0):
            return "cost", values
        if got > 1 and got in (cost.argmin(), *np.flatnonzero(p == tried[cost.argmin()])):
            return "place", values
        tenths = np.linspace(0, 1, 11)
        on = p >= tenths[:, None]
        price = c * (~on & ill).sum(1) + (on & ~ill).sum(1)
        if near(got, tenths[price.argmin()], absolute=0):
            return "grid", values
        if cost[-1] == least and _reaches(got, tried, np.r_[cost[:-1], np.inf]):
            return "nobody", values
        wrong = {
            "inverted": missed + c * alarmed,
            "no cost": errors,
            "rates": rates,
            "strict": above,
            "dearest": -cost,
        }
        for key, other in wrong.items():
            if _reaches(got, tried, other):
                return key, values
        return "other", values
    return "right"


def _reaches(t: float, tried: np.ndarray, cost: np.ndarray) -> bool:
    """Whether a threshold calls the same patients as one of the cheapest by this cost."""
    place = min(int(np.searchsorted(tried, t)), len(tried) - 1)  # above all: nobody is called
    return bool(cost[place] <= cost.min() + 1e-9)
