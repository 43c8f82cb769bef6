"""Checks of evaluation."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import norm, rankdata

from medlab import metrics
from medlab.exercises import Verdict, Wrong, call, exercise, near, number

MESSAGES = {
    "evaluation.1": {
        "right": "two ratios go along the truth, two along the call. Say the denominator aloud "
        "whenever you read one: of the ill, or of the called?",
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
        "percent": "you returned per cent. Ratios lie between 0 and 1 in this course.",
        "not four": "I expected four numbers, and got {got}.",
        "other": "for TP {tp}, FP {fp}, TN {tn}, FN {fn} I expected {expected} and got {got}.",
    },
    "evaluation.2": {
        "right": "try it at 0.9, 0.9 and a prevalence of 1 in 1,000: of about a hundred alarms, "
        "one is true.",
        "no prevalence": "the prevalence does not appear in {got:.3f}: you divided sensitivity by "
        "sensitivity + (1 − specificity), which holds only where half are ill.",
        "healthy not weighted": "you weighted the ill by the prevalence, but not the healthy by "
        "1 − prevalence.",
        "specificity": "false alarms come from the healthy who are *not* spared: 1 − specificity.",
        "sensitivity": "you returned the sensitivity, P(called | ill). I asked for "
        "P(ill | called).",
        "joint": "you returned the share of all patients who are ill and called. Divide by the "
        "share of all who are called.",
        "npv": "that is the NPV, of the patients who were not called.",
        "false": "you returned the share of alarms that are false. PPV is the rest.",
        "odds": "you returned the odds, true : false. A probability is odds / (1 + odds).",
        "other": "for sensitivity {se}, specificity {sp} and prevalence {pi} I expected "
        "{expected:.4f} and got {got}.",
    },
    "evaluation.3": {
        "right": "sorting instead of comparing all pairs: that is what makes thousands of "
        "resamples affordable.",
        "ties lost": "tied pairs counted 0. Tied scores share their *mean* rank: rankdata's "
        "default method, 'average'.",
        "ties won": "tied pairs counted 1. Tied scores share their *mean* rank: rankdata's default "
        "method, 'average'.",
        "ties by order": "tied scores got different ranks, in the order in which they stand. They "
        "share their mean rank: rankdata, not argsort.",
        "inverted": "you got {got:.3f}, which is 1 − AUC: you ranked from the highest score, or "
        "added up the ranks of the healthy.",
        "not subtracted": "subtract n₁(n₁+1)/2, the ranks that the ill would have among "
        "themselves, before you divide.",
        "not divided": "{got:g} is the number of pairs won. Divide by the number of pairs, n₁·n₀.",
        "from zero": "your ranks count from 0, and n₁(n₁+1)/2 belongs to ranks that count from 1.",
        "order": "the answer changed to {got} when I shuffled the patients. Do not rely on order.",
        "other": "for labels {labels} and scores {scores} I expected {expected:.4f} and got {got}.",
    },
    "evaluation.4": {
        "right": "you found {expected:.2f} for a network that was too sure and {other:.2f} for one "
        "that was not sure enough.",
        "beta": "{got:.3g} is β = 1/T. Return the temperature that the logits are *divided* by.",
        "edge": "you found {got:g} where {expected:.3g} is best. Does your search reach below 1 as "
        "well as above?",
        "coarse": "{got:.4g} is near the best, {expected:.4g}, but not to two digits. Refine the "
        "grid or use the slope; and the score to lower is the cross-entropy, of ill *and* healthy.",
        "negative": "a temperature is positive, and I got {got:.3g}.",
        "worse": "at your T = {got:.3g} the cross-entropy is {loss:.4f}; at {expected:.3g} it is "
        "{least:.4f}. Did the search stop early, or at the edge of its range? If it went the wrong "
        "way, check the sign of the slope, and that labels 1 go with ln σ.",
    },
    "evaluation.5": {
        "right": "with miss_cost = c the threshold is 1/(1 + c), and a false alarm weighs 1/c: one "
        "number decides both.",
        "threshold 1/c": "you acted from 1/c. Calling is cheaper from p·c ≥ 1 − p on, which is "
        "p ≥ 1/(1 + c).",
        "threshold c": "you acted from c/(1 + c). A *costly* miss asks for a *low* threshold: "
        "1/(1 + c).",
        "threshold half": "you acted from 0.5, whatever a miss costs.",
        "weight inverted": "you multiplied the false positives by c. A false alarm is the "
        "*cheaper* error: it weighs t/(1 − t) = 1/c.",
        "weight missing": "you did not weight the false positives: multiply by t/(1 − t) = 1/c.",
        "weight t": "you weighted the false positives by t. The exchange rate is the odds, "
        "t/(1 − t) = 1/c.",
        "per ill": "you divided by the ill, and by the healthy: those are sensitivity and false-"
        "alarm rate. Net benefit counts per patient: divide both by N.",
        "counts": "you returned a count of patients. Divide by N.",
        "strict": "a probability equal to the threshold counts as called: ≥, not >.",
        "false alarms": "you counted in false alarms, c·TP − FP. Net benefit counts in true "
        "positives: divide by c.",
        "cost": "you returned a cost. Net benefit counts what is gained, the true positives.",
        "other": "for labels {labels}, probabilities {p} and miss_cost {c} I expected "
        "{expected:.4f} and got {got}.",
    },
    "evaluation.6": {
        "right": "whole patients, with replacement, as many as there are. The number of images now "
        "varies from resample to resample, and should.",
        "images": "patient {who!r} came with one image {least} times and another {most} times: "
        "you drew images, or left some out. Draw patients, and take *all* images of each.",
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
        "same": "two resamples from one rng were the same. Use the rng that I pass in.",
        "range": "{got} is no position in a list of {n} images.",
        "kind": "I expected an array of whole positions, and got {kind}.",
    },
    "evaluation.7": {
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


@exercise("evaluation.1", MESSAGES["evaluation.1"])
def ratios(answer) -> Verdict:
    for tp, fp, tn, fn in ((30, 20, 70, 10), (5, 45, 943, 7)):
        se, sp, ppv, npv = tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)
        n = tp + fp + tn + fn
        result = call(answer, tp, fp, tn, fn)
        if not isinstance(result, (tuple, list, np.ndarray, torch.Tensor)) or len(result) != 4:
            return "not four", {"got": result}
        got = [number(value) for value in result]
        expected = [se, sp, ppv, npv]
        if near(got, expected):
            continue
        wrong = {
            "swapped both": [ppv, npv, se, sp],
            "swapped se": [ppv, sp, se, npv],
            "swapped sp": [se, npv, ppv, sp],
            "false alarms": [se, 1 - sp, ppv, npv],
            "of all": [tp / n, tn / n, tp / n, tn / n],
            "percent": [100 * value for value in expected],
        }
        for key, values in wrong.items():
            if near(got, values):
                return key
        if near(sorted(got), sorted(expected)):
            return "order"
        shown = [[round(v, 4) for v in values] for values in (expected, got)]
        return "other", {
            **{"tp": tp, "fp": fp, "tn": tn, "fn": fn},
            **{"expected": shown[0], "got": shown[1]},
        }
    return "right"


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
            "healthy not weighted": true / (true + 1 - sp),
            "specificity": true / (true + spared),
            "sensitivity": se,
            "joint": true,
            "npv": spared / (spared + pi * (1 - se)),
            "false": 1 - expected,
            "odds": true / false,
        }
        values = {"se": se, "sp": sp, "pi": pi, "expected": expected, "got": got}
        return next((key for key, value in wrong.items() if near(got, value)), "other"), values
    return "right"


@exercise("evaluation.3", MESSAGES["evaluation.3"])
def auc_by_ranks(answer) -> Verdict:
    labels = np.array([0, 1, 0, 1, 1, 0, 0, 1, 0])
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.4, 0.2, 0.8, 0.9, 0.5])
    ill, n1, n0 = labels == 1, 4, 5
    alone = n1 * (n1 + 1) / 2
    expected = metrics.auc(labels, scores)
    got = call(answer, labels, scores)
    values = {"labels": labels.tolist(), "scores": scores.tolist(), "expected": expected}
    if near(got, expected):
        order = np.random.default_rng(0).permutation(9)
        again = number(call(answer, labels[order], scores[order]))
        if not near(again, expected):
            return "order", {"got": again}
        other = np.random.default_rng(1)
        y, s = np.repeat([0, 1], [9, 3]), other.random(12).round(1)
        expected, got = metrics.auc(y, s), number(call(answer, y, s))
        values = {"labels": y.tolist(), "scores": s.tolist(), "expected": expected, "got": got}
        return "right" if near(got, expected) else ("other", values)
    values["got"] = got = number(got)
    gap = scores[ill][:, None] - scores[~ill]
    sums = {m: rankdata(scores, method=m)[ill].sum() for m in ("average", "min", "max", "ordinal")}
    wrong = {
        "ties lost": [(gap > 0).mean(), (sums["min"] - alone) / (n1 * n0)],
        "ties won": [(gap >= 0).mean(), (sums["max"] - alone) / (n1 * n0)],
        "ties by order": [
            (sums["ordinal"] - alone) / (n1 * n0),
            (np.argsort(np.argsort(scores))[ill].sum() + n1 - alone) / (n1 * n0),
            (np.argsort(np.argsort(scores, kind="stable"))[ill].sum() + n1 - alone) / (n1 * n0),
        ],
        "inverted": [1 - expected],
        "not subtracted": [sums["average"] / (n1 * n0)],
        "not divided": [expected * n1 * n0],
        "from zero": [(sums["average"] - n1 - alone) / (n1 * n0)],
    }
    for key, guesses in wrong.items():
        if any(near(got, guess) for guess in guesses):
            return key, values
    return "other", values


@exercise("evaluation.4", MESSAGES["evaluation.4"])
def temperature(answer) -> Verdict:
    best = []
    for seed, factor in ((0, 3.0), (1, 0.6), (2, 1.7)):
        rng = np.random.default_rng(seed)
        honest = rng.normal(0, 2, 1500)
        labels = (rng.random(1500) < 1 / (1 + np.exp(-honest))).astype(int)
        logits = factor * honest
        expected = metrics.fit_temperature(labels, logits)
        best.append(expected)
        got = number(call(answer, labels, logits))
        if near(got, expected, rel=0.05):  # 1.8 for 1.76 is right to two digits
            continue
        values = {"got": got, "expected": expected}
        if not got > 0:
            return "negative", values
        if near(got, 1 / expected, rel=0.05):
            return "beta", values
        if expected < 1 and near(got, 1, rel=0.05):
            return "edge", values
        if near(got, expected, rel=0.12):
            return "coarse", values
        loss, least = (
            float(np.logaddexp(0, (1 - 2 * labels) * logits / t).mean()) for t in (got, expected)
        )
        return "worse", {**values, "loss": loss, "least": least}
    return "right", {"expected": best[0], "other": best[1]}


@exercise("evaluation.5", MESSAGES["evaluation.5"])
def net_benefit(answer) -> Verdict:
    # No two of the wrong answers below give the same number here.
    ill_p = [0.9, 0.5, 0.3, 0.12, 0.21]
    healthy_p = [0.15, 0.22, 0.05, 0.7, 0.45, 0.08, 0.75, 0.02, 0.11, 0.35, 0.55, 0.24]
    order = np.random.default_rng(0).permutation(17)
    labels, p = np.repeat([1, 0], [5, 12])[order], np.array(ill_p + healthy_p)[order]
    ill, n = labels == 1, len(labels)

    def worth(t, weight, at=np.greater_equal):
        called = at(p, t)
        return ((called & ill).sum() - weight * (called & ~ill).sum()) / n

    for c in (4, 1, 9):
        t = 1 / (1 + c)
        got, expected = number(call(answer, labels, p, c)), worth(t, 1 / c)
        if near(got, expected):
            continue
        called = p >= t
        tp, fp, fn = (called & ill).sum(), (called & ~ill).sum(), (~called & ill).sum()
        wrong = {
            "strict": [worth(t, 1 / c, np.greater)],
            "threshold 1/c": [worth(1 / c, 1 / c), worth(1 / c, 1 / (c - 1 or math.inf))],
            "threshold c": [worth(c * t, 1 / c), worth(c * t, c)],
            "threshold half": [worth(0.5, 1 / c), worth(0.5, 1)],
            "weight inverted": [worth(t, c)],
            "weight missing": [worth(t, 1)],
            "weight t": [worth(t, t)],
            "per ill": [tp / ill.sum() - fp / (~ill).sum() / c],
            "counts": [n * expected],
            "false alarms": [c * expected],
            "cost": [(c * fn + fp) / n, -(c * fn + fp) / n, c * fn + fp, 1000 * (c * fn + fp) / n],
        }
        values = {"labels": labels.tolist(), "p": p.tolist(), "c": c}
        values |= {"expected": expected, "got": got}
        for key, guesses in wrong.items():
            if any(near(got, guess) for guess in guesses):
                return key, values
        return "other", values
    return "right"


@exercise("evaluation.6", MESSAGES["evaluation.6"])
def resample(answer) -> Verdict:
    patients = np.array(
        ["P4", "P1", "P1", "P1", "P2", "P1", "P1", "P3", "P1", "P1", "P5", "P1", "P2"]
    )
    names = np.unique(patients)
    rng, rows = np.random.default_rng(0), []
    for _ in range(200):
        counts = _counted(call(answer, patients.copy(), rng), len(patients))
        times = []
        for name in names:
            own = counts[patients == name]
            if own.min() != own.max():
                values = {"who": str(name), "least": int(own.min()), "most": int(own.max())}
                return "images", values
            times.append(own[0])
        rows.append(times)
    drawn = np.array(rows)
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
    if not np.array_equal(again[0], again[1]):
        return "unseeded"
    return "right"


def _counted(positions, n: int) -> np.ndarray:
    """How often each of n positions occurs."""
    if isinstance(positions, list | tuple) and any(np.ndim(part) for part in positions):
        raise Wrong("not joined", n=len(positions))
    array = np.asarray(positions.cpu() if torch.is_tensor(positions) else positions)
    if array.dtype == bool:
        raise Wrong("mask")
    if array.dtype.kind in "US":
        raise Wrong("names")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise Wrong("kind", kind=f"{array.dtype} of shape {array.shape}")
    if array.size and not 0 <= array.min() <= array.max() < n:
        raise Wrong("range", got=int(array.max() if array.max() >= n else array.min()), n=n)
    return np.bincount(array, minlength=n)


@exercise("evaluation.7", MESSAGES["evaluation.7"])
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
