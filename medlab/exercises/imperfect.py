"""Checks of 30b: mended levels, wrong rulers, votes, Dawid and Skene, missing views."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from medlab import metrics
from medlab.cohort import Cohort, to_float
from medlab.exercises import (
    NotAttempted,
    Verdict,
    Wrong,
    call,
    exercise,
    first_match,
    near,
    number,
)
from medlab.exercises.little import gain

MESSAGES = {
    "imperfect.1": {
        "right": "the level is mended, and the order of the patients stays as it was.",
        "shape": "I expected one probability a patient, shape {expected}; got {got}.",
        "clip": "a network's q may lie below ρ0 or above 1 − ρ1. Keep p between 0 and 1.",
        "forward": "that is the way from p to q. You have q, and look for p.",
        "exchanged": "rho_0 and rho_1 are exchanged.",
        "start": "you did not subtract ρ0, which q is where p = 0.",
        "healthy": "you left ρ0 out. q = (1 − ρ1) p holds only if nobody healthy is labelled ill.",
        "undivided": "you did not divide: where p = 1, q − ρ0 is 1 − ρ0 − ρ1 and not 1.",
        "one": "you divided by 1 − {name}. From p = 0 to p = 1, q rises by 1 − ρ0 − ρ1.",
        "times": "you multiplied by 1 − ρ0 − ρ1. Divide by it.",
        "hard": "you rounded to 0 and 1. Return the probability.",
        "other": "for q = {q}, rho_0 = {rho_0} and rho_1 = {rho_1} I expected {want:.4f}, and got "
        "{got:.4f}.",
    },
    "imperfect.2": {
        "right": "what counts is how far the labels can be trusted, PPV + NPV − 1.",
        "youden": "you used sensitivity + specificity − 1 of the reader. A pair is drawn from "
        "those labelled ill and those labelled healthy, so PPV and NPV count.",
        "accuracy": "you used the share of right labels, as if PPV and NPV were both that. They "
        "are only where half are ill and the reader errs both ways alike.",
        "half ill": "your PPV and NPV leave the prevalence out, as if half were ill.",
        "one": "you used {name} for both groups. Among those labelled ill the PPV is truly ill, "
        "among those labelled healthy the NPV is truly healthy.",
        "scaled": "you shrank the AUC towards 0. Worthless labels make it 0.5: only AUC − 0.5 "
        "shrinks.",
        "start": "you left out the ½ at the start: it is what worthless labels show.",
        "half": "a pair with exactly one wrong label is of two patients of one class. It is won "
        "half the time, not never.",
        "both wrong": "a pair with two wrong labels is the wrong way round. It is won with "
        "1 − AUC, not with 0.5.",
        "lost": "a pair with two wrong labels is won with 1 − AUC. You counted it as {as_what}.",
        "exchanged": "you took sensitivity for specificity, or the prevalence for the share of the "
        "healthy.",
        "inverse": "that is the way back, from the measured to the true AUC.",
        "other": "for an AUC of {auc}, a prevalence of {prevalence} and a reader with sensitivity "
        "{sensitivity} and specificity {specificity} I expected {want:.4f}, and got {got:.4f}.",
    },
    "imperfect.3": {
        "right": "all ways to be right, each with its own probability.",
        "average": "you gave every reader the mean probability. That is right only where all are "
        "equally good.",
        "exactly": "you counted only the closest result, one vote more than half. Larger "
        "majorities are right, too.",
        "all": "you asked that all are right. More than half suffice.",
        "any": "you asked that one is right. More than half must be.",
        "mean": "that is how often one reader drawn at random is right.",
        "best": "that is the best reader alone.",
        "fewer": "half, rounded down, is no majority: of {readers} readers {need} must be right.",
        "more": "you asked for one vote more than is needed: of {readers} readers {need} suffice.",
        "wrong": "that is how often the majority is wrong.",
        "range": "a probability lies between 0 and 1, and you returned {got:.4f}.",
        "other": "for readers who are right with {right_with} I expected {want:.4f}, and got "
        "{got:.4f}.",
    },
    "imperfect.4": {
        "right": "Bayes: prevalence times what each reader would say of an ill patient, divided "
        "by the same for both.",
        "shape": "I expected one probability a patient, shape {expected}; got {got}.",
        "prior": "your prevalence is missing or cancels, as if half were ill.",
        "outside": "the prevalence belongs into both sums: `prevalence` times the product for the "
        "ill, `1 - prevalence` times that for the healthy, also below the line.",
        "nan": "for readings {readings} I expected {want}, and yours is no number: 0 divided by 0. "
        "A reader who says healthy multiplies by 1 − sensitivity or by specificity, not by 0.",
        "exchanged": "sensitivity and specificity are exchanged: of the ill a reader reads a share "
        "`sensitivity` as ill.",
        "well": "that is the probability of being healthy.",
        "joint": "that is the probability of being ill *and* of being read so. Divide by the sum "
        "of this and the same for the healthy.",
        "odds": "those are odds. A probability is odds / (1 + odds).",
        "log odds": "those are log odds. A probability is 1 / (1 + exp(−log odds)).",
        "vote": "that is the share of readers who say ill. Each reader should count by what is "
        "known of him.",
        "hard": "you rounded to 0 and 1. The doubt is needed: return the probability.",
        "healthy": "of the healthy a reader reads the share 1 − specificity as ill; you took "
        "specificity.",
        "only ill": "only readings of ill counted. That a good reader says healthy tells as much.",
        "sum": "you added what the readers say. They read independently: multiply.",
        "other": "for readings {readings} I expected {want}, and got {got}.",
    },
    "imperfect.5": {
        "right": "shares, with the probability as weight in place of a count.",
        "format": "I expected a prevalence, and sensitivity and specificity of each of {readers} "
        "readers; got {got}.",
        "exchanged": "sensitivity and specificity are exchanged.",
        "hard": "you rounded p to 0 and 1 first. A patient with p = 0.6 counts as 0.6 ill and 0.4 "
        "healthy.",
        "predictive": "you divided by what was read as ill, or healthy: that is PPV and NPV. "
        "Sensitivity divides by all who are ill.",
        "alarm": "that is how often a healthy one is read as ill. Specificity is the rest.",
        "over all": "you divided by all patients. Sensitivity divides by the ill among them.",
        "prevalence": "of the prevalence I expected {want:.4f}, the mean of p, and got {got:.4f}.",
        "other": "for the first reader I expected sensitivity {want[0]:.4f} and specificity "
        "{want[1]:.4f}, and got {got[0]:.4f} and {got[1]:.4f}.",
    },
    "imperfect.6": {
        "right": "a mean over what is there, however much that is.",
        "shape": "I expected features of shape {expected}, a row a patient; got {got}.",
        "all": "you averaged over all places. What stands where no view is must not count.",
        "slots": "you divided by the number of places. A patient with two views is the sum of two, "
        "divided by two.",
        "sum": "you did not divide: a patient with more views gets larger numbers.",
        "total": "you divided by the views of all patients together. Each has a number of his own.",
        "first": "that is the first view alone.",
        "places": "views need not stand first: ask `there`, not how many there are.",
        "max": "you took the maximum, which grows with the number of views. I expected the mean.",
        "missing": "you averaged over the places without a view.",
        "other": "for patient {row} (from 0) I expected {want}, and got {got}.",
    },
}


def material() -> Any:
    """Patients, errors, readers, comparisons, and finished answers for the cells after them."""
    return SimpleNamespace(
        by_patient=_by_patient,
        wrong=_wrong,
        table=_table,
        compared=_compared,
        features=_features,
        decided=_decided,
        read=_read,
        mended=_mended,
        seen=_seen,
        majority=_majority,
        e_step=_e_step,
        m_step=_m_step,
        pool=_pool,
    )


def _by_patient(cohort: Cohort) -> tuple[Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """At most 700 patients with up to four views each, told in a line.

    Of a patient whose images stand in both classes, the views are those of the first one's class.
    Where a set has one image a patient, further views are the same image, moved by a pixel; where
    it knows no severity, how white the middle of the image is stands in for it.

    Returns:
        Views (P, 4, 1, 16, 16), zeros where there is none; which there are (P, 4); labels (P,);
        severities of the first views (P,).
    """
    x = F.interpolate(to_float(cohort.images), (16, 16), mode="bilinear", antialias=True)
    y, who, rng = np.asarray(cohort.labels), cohort.patients, np.random.default_rng(0)
    severity = np.asarray(cohort.extras.get("severity", x[:, 0, 4:12, 4:12].mean((1, 2))))
    if "severity" not in cohort.extras:
        print("no severity here: how white the middle of an image is stands in for it")
    if who is None:
        print("one image a patient: further views are the same one, moved by a pixel")
        luck, moves = rng.random(len(y)), ((0, 0), (0, 1), (1, 0), (-1, -1))
        kept = [np.flatnonzero(luck < share) for share in (1, 0.65, 0.35, 0.13)]
        x = torch.cat([x.roll(move, (2, 3))[k] for move, k in zip(moves, kept, strict=True)])
        who = np.concatenate(kept)
        y = y[who]
    names, first, number = np.unique(who, return_index=True, return_inverse=True)
    views, there = torch.zeros(len(names), 4, *x.shape[1:]), np.zeros((len(names), 4), bool)
    for i, p in enumerate(number):
        if y[i] == y[first[p]] and not there[p].all():
            views[p, there[p].sum()] = x[i]
            there[p, there[p].sum()] = True
    share = np.bincount(number, y) / np.bincount(number)
    rows = rng.permutation(len(names))[:700]
    several = ", ".join(str(n) for n in np.bincount(there[rows].sum(1), minlength=5)[1:])
    print(
        f"{len(rows)} patients, {y[first][rows].mean():.0%} ill; with 1, 2, 3, 4 views: {several}; "
        f"{((share > 0) & (share < 1)).sum()} stand in both classes"
    )
    return views[rows], there[rows], y[first][rows], severity[first][rows]


def _wrong(
    kind: str, share: float, y: np.ndarray, severity: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Labels (P,) of which a share is wrong: of anyone, of the ill, or of the mildest ill.

    Args:
        kind: "random", "class" or "image".
        share: of all labels; where there are fewer ill, all of them are labelled healthy.
        y: (P,) true labels, 1 is ill.
        severity: (P,) orders the ill where the kind is "image".
        seed: who of the candidates it is, for "random" and "class".
    """
    rng, ill = np.random.default_rng(seed), np.flatnonzero(y)
    candidates = {
        "random": rng.permutation(len(y)),
        "class": rng.permutation(ill),
        "image": ill[np.argsort(severity[ill])],
    }[kind]
    flip, labels = candidates[: round(share * len(y))], np.array(y)
    labels[flip] = 1 - labels[flip]
    return labels


def _table(labels: np.ndarray, p: list[np.ndarray]) -> np.ndarray:
    """AUC (R, 1000) of each of R networks on the same resamples of the test patients."""
    counts = np.concatenate(list(metrics.resamples(labels, n=1000)))
    return np.stack([metrics.resampled_values(metrics.auc, labels, one, counts) for one in p])


def _compared(a: np.ndarray, b: np.ndarray) -> metrics.Interval:
    """Mean of two tables' difference, with 95 % for other seeds and other test patients.

    Student's t for the few seeds, the normal distribution for the patients (notebook 16).
    """
    mean, seeds, patients = gain(a, b)
    half = np.hypot(student.ppf(0.975, len(a) - 1) * seeds, 1.96 * patients)
    return metrics.Interval(*np.round([mean, mean - half, mean + half], 3) + 0)


def _features(model: Any, views: Tensor, there: np.ndarray) -> np.ndarray:
    """Features (P, 4, 32) of views (P, 4, 1, 16, 16); what is not there is a blank image."""
    shown = views * torch.as_tensor(there)[:, :, None, None, None]
    with torch.no_grad():
        found = model.eval().features(shown.flatten(0, 1)).mean((2, 3))
    return found.view(*there.shape, -1).numpy()


def _decided(x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Probability of "ill" of test rows, by a logistic regression of standardised rows."""
    decide = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return decide.fit(x, y).predict_proba(x_test)[:, 1]


def _read(
    truth: np.ndarray, sensitivity: Any, specificity: Any, shared: float, rng: np.random.Generator
) -> np.ndarray:
    """Readings (N, R) of patients (N,) whose difficulty is `shared`, 0 … 1, by all readers."""
    right = np.where(truth[:, None] == 1, sensitivity, specificity)
    patient, own = rng.standard_normal((len(truth), 1)), rng.standard_normal(right.shape)
    luck = norm.cdf(shared**0.5 * patient + (1 - shared) ** 0.5 * own)
    return np.where(luck < right, truth[:, None], 1 - truth[:, None])


# --- 1: the level mended ---

_LEVELS = np.array([0.52, 0.05, 0.95, 0.3, 0.71, 0.2])
_RATES = ((0.1, 0.3), (0.25, 0.05), (0, 0.6))  # of the healthy, of the ill


def _mended(q: np.ndarray, rho_0: float, rho_1: float) -> np.ndarray:
    return np.clip((q - rho_0) / (1 - rho_0 - rho_1), 0, 1)


@exercise("imperfect.1", MESSAGES["imperfect.1"])
def mended(answer) -> Verdict:
    rows = [
        _array(call(answer, _LEVELS.copy(), *rates), "shape", expected=_LEVELS.shape)
        for rates in _RATES
    ]
    for row in rows:
        if row.shape != _LEVELS.shape:
            return "shape", {"expected": _LEVELS.shape, "got": row.shape}
    got, want = np.stack(rows), np.stack([_mended(_LEVELS, *rates) for rates in _RATES])
    if near(got, want):
        return "right"
    known: dict[str, np.ndarray] = {}
    for name, answered in _MISREAD_LEVELS.items():
        found = np.stack([answered(_LEVELS, *rates) for rates in _RATES])
        known |= {name: found, f"{name}/clipped": np.clip(found, 0, 1)}
    key, name, *_ = [*first_match(got, known).split("/"), ""]
    k, i = np.argwhere(~np.isclose(got, want, rtol=1e-3, atol=1e-6))[0]
    told = {"q": _LEVELS[i], "rho_0": _RATES[k][0], "rho_1": _RATES[k][1], "name": name}
    return key, told | {"want": want[k, i], "got": got[k, i]}


_MISREAD_LEVELS: dict[str, Callable[..., np.ndarray]] = {
    "clip": lambda q, a, b: (q - a) / (1 - a - b),
    "forward": lambda q, a, b: a + (1 - a - b) * q,
    "exchanged": lambda q, a, b: (q - b) / (1 - a - b),
    "start": lambda q, a, b: q / (1 - a - b),
    "healthy": lambda q, a, b: q / (1 - b),
    "undivided": lambda q, a, b: q - a,
    "one/ρ0": lambda q, a, b: (q - a) / (1 - a),
    "one/ρ1": lambda q, a, b: (q - a) / (1 - b),
    "times": lambda q, a, b: (q - a) * (1 - a - b),
    "hard": lambda q, a, b: 1.0 * (_mended(q, a, b) > 0.5),
}

# --- 2: the AUC that wrong labels show ---

# AUC, prevalence, sensitivity, specificity
_STUDIES = ((0.9, 0.3, 0.8, 0.95), (0.75, 0.1, 0.6, 0.9), (0.85, 0.6, 0.95, 0.7), (0.6, 0.5, 1, 1))


def _values(prevalence: float, sensitivity: float, specificity: float) -> tuple[float, float]:
    """PPV and NPV."""
    ill, well = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    missed, clear = prevalence * (1 - sensitivity), (1 - prevalence) * specificity
    return ill / (ill + well), clear / (clear + missed)


def _seen(auc: float, prevalence: float, sensitivity: float, specificity: float) -> float:
    return 0.5 + (auc - 0.5) * (sum(_values(prevalence, sensitivity, specificity)) - 1)


@exercise("imperfect.2", MESSAGES["imperfect.2"])
def seen(answer) -> Verdict:
    got = [number(call(answer, *study)) for study in _STUDIES]
    want = [_seen(*study) for study in _STUDIES]
    if near(got, want):
        return "right"
    key = first_match(got, {k: [f(*s) for s in _STUDIES] for k, f in _MISREAD_SEEN.items()})
    k = next(k for k in range(len(want)) if not near(got[k], want[k]))
    names = ("auc", "prevalence", "sensitivity", "specificity")
    told = dict(zip(names, _STUDIES[k], strict=True)) | {"want": want[k], "got": got[k]}
    key, _, what = key.partition("/")
    return key, told | {"name": what, "as_what": what}


def _by_pairs(won: float = 0.5, turned: Callable[[float], float] = lambda auc: 1 - auc):
    """The mixture written out, with another chance to win the pairs of one class or two errors."""

    def answer(auc: float, *reader: float) -> float:
        a, b = _values(*reader)
        one = a * (1 - b) + (1 - a) * b
        return a * b * auc + won * one + (1 - a) * (1 - b) * turned(auc)

    return answer


def _shrunk(factor: Callable[..., float]) -> Callable[..., float]:
    return lambda auc, *reader: 0.5 + (auc - 0.5) * factor(*reader)


_MISREAD_SEEN: dict[str, Callable[..., float]] = {
    "youden": _shrunk(lambda pi, se, sp: se + sp - 1),
    "accuracy": _shrunk(lambda pi, se, sp: 2 * (pi * se + (1 - pi) * sp) - 1),
    "half ill": _shrunk(lambda pi, se, sp: sum(_values(0.5, se, sp)) - 1),
    "one/PPV": _shrunk(lambda *reader: 2 * _values(*reader)[0] - 1),
    "one/NPV": _shrunk(lambda *reader: 2 * _values(*reader)[1] - 1),
    "one/sensitivity": _shrunk(lambda pi, se, sp: 2 * se - 1),
    "one/specificity": _shrunk(lambda pi, se, sp: 2 * sp - 1),
    "start": lambda auc, *reader: (auc - 0.5) * (sum(_values(*reader)) - 1),
    "scaled": lambda auc, *reader: auc * (sum(_values(*reader)) - 1),
    "half": _by_pairs(won=0.0),
    "both wrong": _by_pairs(turned=lambda auc: 0.5),
    "lost/lost": _by_pairs(turned=lambda auc: 0.0),
    "lost/won with AUC": _by_pairs(turned=lambda auc: auc),
    "exchanged": _shrunk(lambda pi, se, sp: sum(_values(pi, sp, se)) - 1),
    "inverse": lambda auc, *reader: 0.5 + (auc - 0.5) / (sum(_values(*reader)) - 1),
}

# --- 3: a majority ---

_PANELS = ([0.9, 0.6, 0.7], [0.8], [0.55, 0.95, 0.6, 0.75, 0.4], [0.7, 0.7, 0.7])


def _counts(right: list[float]) -> np.ndarray:
    """Probability that 0, 1, … readers are right."""
    found = np.ones(1)
    for p in right:
        found = np.convolve(found, [1 - p, p])
    return found


def _majority(right: list[float]) -> float:
    return float(_counts(right)[len(right) // 2 + 1 :].sum())


@exercise("imperfect.3", MESSAGES["imperfect.3"])
def majority(answer) -> Verdict:
    got = [number(call(answer, list(panel))) for panel in _PANELS]
    want = [_majority(panel) for panel in _PANELS]
    if near(got, want):
        return "right"
    known: dict[str, Callable[[list[float]], float]] = {
        "average": lambda p: _majority([sum(p) / len(p)] * len(p)),
        "exactly": lambda p: _counts(p)[len(p) // 2 + 1],
        "all": math.prod,
        "any": lambda p: 1 - math.prod(1 - x for x in p),
        "mean": lambda p: sum(p) / len(p),
        "best": max,
        "fewer": lambda p: _counts(p)[len(p) // 2 :].sum(),
        "more": lambda p: _counts(p)[len(p) // 2 + 2 :].sum(),
        "wrong": lambda p: _counts(p)[: len(p) // 2 + 1].sum(),
    }
    key = first_match(got, {name: [f(p) for p in _PANELS] for name, f in known.items()})
    k = next(k for k in range(len(want)) if not near(got[k], want[k]))
    if key == "other" and not 0 <= got[k] <= 1:
        key = "range"
    panel = _PANELS[0] if key in ("fewer", "more") else _PANELS[k]
    told = {"readers": len(panel), "need": len(panel) // 2 + 1, "right_with": panel}
    return key, told | {"want": want[k], "got": got[k]}


# --- 4 and 5: Dawid and Skene's steps ---

_READINGS = np.array(
    [
        *([1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]),
        *([1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]),
    ]
)
_PRIOR, _SENSITIVE, _SPECIFIC = (
    0.3,
    np.array([0.9, 0.7, 0.6, 0.8]),
    np.array([0.95, 0.8, 0.65, 0.7]),
)


def _likelihoods(
    readings: np.ndarray, ill: np.ndarray, well: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, R) of each reading, of an ill and of a healthy patient, if `ill` and `well` call ill."""
    return np.where(readings == 1, ill, 1 - ill), np.where(readings == 1, well, 1 - well)


def _e_step(
    readings: np.ndarray, prevalence: float, sensitivity: np.ndarray, specificity: np.ndarray
) -> np.ndarray:
    return _bayes(prevalence, *_likelihoods(readings, sensitivity, 1 - specificity))


def _bayes(prevalence: float, ill: np.ndarray, well: np.ndarray) -> np.ndarray:
    ill, well = prevalence * ill.prod(1), (1 - prevalence) * well.prod(1)
    return ill / (ill + well)


def _m_step(readings: np.ndarray, p: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    q = 1 - p
    sensitivity, specificity = p @ (readings == 1) / p.sum(), q @ (readings == 0) / q.sum()
    return float(p.mean()), sensitivity, specificity


@exercise("imperfect.4", MESSAGES["imperfect.4"])
def e_step(answer) -> Verdict:
    given = _READINGS.copy(), _PRIOR, _SENSITIVE.copy(), _SPECIFIC.copy()
    got = _array(call(answer, *given), "shape", expected=(len(_READINGS),))
    want = _e_step(_READINGS, _PRIOR, _SENSITIVE, _SPECIFIC)
    if got.shape != want.shape:
        return "shape", {"expected": want.shape, "got": got.shape}
    if near(got, want):
        return "right"
    key = "nan" if np.isnan(got).any() else first_match(got, _misread_e()).partition("/")[0]
    wrong = np.isnan(got) if key == "nan" else ~np.isclose(got, want, rtol=1e-3, atol=1e-6)
    k = int(np.flatnonzero(wrong)[0])
    told = {"readings": _READINGS[k].tolist(), "want": f"{want[k]:.4f}", "got": f"{got[k]:.4f}"}
    return key, told


def _misread_e() -> dict[str, np.ndarray]:
    """Answers with one mistake each."""
    r, pi, se, sp = _READINGS, _PRIOR, _SENSITIVE, _SPECIFIC
    ill, well = _likelihoods(r, se, 1 - sp)
    right, even = _bayes(pi, ill, well), _bayes(0.5, ill, well)
    above = pi * ill.prod(1)
    with np.errstate(divide="ignore"):
        only = _bayes(pi, np.where(r == 1, ill, 1), np.where(r == 1, well, 1))
        log_odds = np.log(right / (1 - right))
    sums = pi * ill.sum(1), (1 - pi) * well.sum(1)
    return {
        "prior": even,
        "outside": pi * even,
        "outside/2": above / (above + well.prod(1)),
        "exchanged": _e_step(r, pi, sp, se),
        "well": 1 - right,
        "joint": above,
        "odds": right / (1 - right),
        "log odds": log_odds,
        "vote": r.mean(1),
        "hard": (right > 0.5).astype(float),
        "healthy": _bayes(pi, *_likelihoods(r, se, sp)),
        "only ill": only,
        "sum": sums[0] / sum(sums),
    }


@exercise("imperfect.5", MESSAGES["imperfect.5"])
def m_step(answer) -> Verdict:
    p = np.array([0.9, 0.2, 0.6, 0.55, 0.7, 0.35, 0.3, 0.45, 0.99, 0.05, 0.4])
    readers = _READINGS.shape[1]
    answer = call(answer, _READINGS.copy(), p.copy())
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong("format", readers=readers, got=type(answer).__name__)
    if any(part is ... for part in answer):
        raise NotAttempted
    prevalence = number(answer[0])
    se, sp = (_array(part, "format", readers=readers) for part in answer[1:])
    if se.shape != (readers,) or sp.shape != (readers,):
        return "format", {"readers": readers, "got": f"shapes {se.shape} and {sp.shape}"}
    pi, *want = _m_step(_READINGS, p)
    if near([se, sp], want):
        if near(prevalence, pi):
            return "right"
        return "prevalence", {"want": pi, "got": prevalence}
    key = first_match([se, sp], _misread_m(p))
    k = int(np.flatnonzero(~np.isclose([se, sp], want, rtol=1e-3).all(0))[0])
    told = {"want": (want[0][0], want[1][0]), "got": (se[0], sp[0])}
    if key == "other" and k:
        told = {"want": (want[0][k], want[1][k]), "got": (se[k], sp[k])}
    return key, told


def _misread_m(p: np.ndarray) -> dict[str, Any]:
    """Sensitivities and specificities with one mistake each."""
    r, q = _READINGS, 1 - p
    right = _m_step(r, p)[1:]
    ill, well = p @ (r == 1), q @ (r == 0)
    return {
        "exchanged": right[::-1],
        "hard": _m_step(r, (p > 0.5).astype(float))[1:],
        "predictive": [ill / (r == 1).sum(0), well / (r == 0).sum(0)],
        "alarm": [right[0], 1 - right[1]],
        "over all": [ill / len(r), well / len(r)],
    }


# --- 6: views that are missing ---

_THERE = np.array([[1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1]]).astype(
    bool
)


def _pool(features: np.ndarray, there: np.ndarray) -> np.ndarray:
    return (features * there[..., None]).sum(1) / there.sum(1)[:, None]


@exercise("imperfect.6", MESSAGES["imperfect.6"])
def pool(answer) -> Verdict:
    features = np.random.default_rng(0).normal(1, 2, (*_THERE.shape, 3))
    features[~_THERE] += 5  # what stands there is no view
    want, there = _pool(features, _THERE), _THERE[..., None]
    got = _array(call(answer, features.copy(), _THERE.copy()), "shape", expected=want.shape)
    if got.shape != want.shape:
        return "shape", {"expected": want.shape, "got": got.shape}
    if near(got, want):
        return "right"
    kept, n = features * there, _THERE.sum(1)
    gone = np.where(there, 0, features).sum(1) / np.maximum(4 - n, 1)[:, None]
    known = {
        "all": features.mean(1),
        "slots": kept.mean(1),
        "sum": kept.sum(1),
        "total": kept.sum(1) / _THERE.sum(),
        "first": features[:, 0],
        "places": np.stack([row[:k].mean(0) for row, k in zip(features, n, strict=True)]),
        "max": np.where(there, features, -np.inf).max(1),
        "max/2": kept.max(1),
        "missing": gone,
    }
    rows = slice(0, 1) if np.isnan(got).any() else slice(None)  # a mean over nothing
    known = {name: value[rows] for name, value in known.items()}
    key = first_match(got[rows], known).partition("/")[0]
    row = int((~np.isclose(got, want)).any(1).argmax())
    return key, {"row": row, "want": want[row].round(3).tolist(), "got": got[row].round(3).tolist()}


def _array(answer: Any, key: str, **told: Any) -> np.ndarray:
    """The answer's numbers; `Wrong` with this message if it holds none."""
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    if isinstance(answer, (list, tuple)) and any(part is ... for part in answer):
        raise NotAttempted
    try:
        return np.asarray(answer, float)
    except (TypeError, ValueError):
        raise Wrong(key, got=type(answer).__name__, **told) from None
