"""Checks of the case study: a reading pile, its threshold, its promise, its card."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import torch

from medlab import metrics
from medlab.errors import MedlabError
from medlab.exercises import (
    NotAttempted,
    Wrong,
    as_array,
    call,
    exercise,
    first_match,
    near,
    number,
    numbers,
    shape_or_type,
)

MESSAGES = {
    "pneumonia.1": {
        "right": "the sensitivity says who gains; the share that is flagged, how much.",
        "format": "I expected three numbers, and got {got}.",
        "shares": "these are shares. I asked for pictures of 100.",
        "flagged": "of 100 others I expected {expected:.1f} flagged, and got {got:.1f}. Of the ill "
        "the sensitivity is flagged, of the well 1 − specificity; weigh the two by prevalence.",
        "set": "you flagged {got:.1f} of 100, as if half were ill. Weigh by the prevalence.",
        "exchanged": "you weighed the ill by 1 − prevalence: {got:.1f} flagged instead of "
        "{expected:.1f}.",
        "kept": "you counted the well who are *not* flagged. False flags are 1 − specificity.",
        "order": "these are the right numbers in another order: flagged, on average, if missed.",
        "found": "{got:.1f} are read before a *found* picture. On average over the ill the missed "
        "ones count as well.",
        "fall": "{got:.1f} is by how many places a missed picture falls back from 50. I asked for "
        "how many are read before it.",
        "behind": "{got:.1f} would be read before a missed picture if no unflagged one were. Half "
        "of those come first too.",
        "turn": "a missed picture does not keep its turn: all flagged ones overtake, and of the "
        "rest half come first.",
        "evenly": "{got:.1f} is the mean of found and missed with equal weight. Weigh the two by "
        "the sensitivity.",
        "whole": "before a found picture you put all flagged ones. Half of them come after it.",
        "mean": "before an ill picture I expected {expected:.1f} on average, and got {got:.1f}.",
        "missed": "before a missed picture I expected {expected:.1f}, and got {got:.1f}.",
    },
    "pneumonia.2": {
        "right": "the price chose, not a round number.",
        "set": "{got:.4g} is cheapest if as many are ill as in `labels`. Weigh by the prevalence "
        "of the department: take the *share* of the ill who are missed, times π.",
        "price": "{got:.4g} is cheapest if a miss costs no more than a false flag. Multiply the "
        "misses by c.",
        "exchanged": "{got:.4g} is cheapest if false flags cost c and misses 1. It is the other "
        "way round.",
        "weights": "{got:.4g} is cheapest if π and 1 − π change places. π goes with the ill.",
        "unweighed": "you left out π and 1 − π. At {prevalence} the well are many more.",
        "dearest": "{got:.4g} is the dearest threshold.",
        "index": "you returned a position, {got:g}. I asked for the score there.",
        "strict": "a score exactly at the threshold is a flag: the ill are missed where s < t.",
        "bayes": "1/(1 + c) is where a *calibrated* probability is worth a flag, with the "
        "prevalence of the department. I asked for the cheapest of the scores.",
        "not a score": "{got:.4g} is none of the scores.",
        "cost": "{got:.4g} is the least cost. I asked for the threshold that has it.",
        "other": "at {got:.4g} the cost is {cost:.4g}; at {expected:.4g} it is {least:.4g}.",
    },
    "pneumonia.3": {
        "right": "the rule decides by patient, and by the lower end.",
        "not a bool": "I expected True or False, and got {got}.",
        "image": "you accept where patients bring twelve images each, found or missed together. By "
        "image the interval looks narrow. Draw patients: groups=patients.",
        "value": "you accept where the measured values reach the bars and the lower ends do not.",
        "sensitivity": "you accept a sensitivity whose interval starts far below 0.85, because "
        "the places gained are many. *Both* must reach their bars.",
        "gained": "you accept where next to everybody is flagged: all ill are found, and nobody "
        "gains a place. *Both* must reach their bars.",
        "prevalence": "you refuse a gain of 14 places at 10 % prevalence. At the share of the ill "
        "among these labels it would be less than 10: weigh the ill by 0.1, the well by 0.9.",
        "flagged": "you accept a gain of 10 places whose lower end is 8. Flagged are 0.1 · "
        "sensitivity + 0.9 · (1 − specificity), and the gain is 50 (sensitivity − flagged).",
        "strict": "you refuse where many scores lie exactly at the threshold. s ≥ t is a flag.",
        "never": "you refuse where 95 of 100 ill patients are flagged, and 5 of 100 well ones.",
        "exactly": "you refuse a sensitivity whose lower end is 0.85 itself. That reaches the bar.",
        "below": "you accept a sensitivity whose lower end is 0.84. Its bar is 0.85.",
        "enough": "you refuse a gain whose lower end is 10.1 places. The bar is 10, and the gain "
        "50 (sensitivity − flagged).",
        "short": "you accept a gain whose lower end by patient is 9.9 places. The bar is 10, the "
        "gain 50 (sensitivity − flagged).",
    },
    "pneumonia.4": {
        "right": "that much of a winner's score is luck.",
        "best": "you compared with the best of all, whoever won the resample. Compare the winner "
        "with *itself*, on all patients.",
        "none": "you returned how well the winners score, {got:.4g}, not by how much too well.",
        "first": "you followed one candidate through all resamples. A winner may change from one "
        "to the next.",
        "negative": "you subtracted the other way round: flattery is drawn less whole.",
        "all": "you averaged over all candidates. The winner alone is reported.",
        "one": "you took one resample, the highest score of all. Take the winner of each, then "
        "the mean.",
        "worst": "you followed the worst of each resample.",
        "each": "I expected one number, the mean over resamples; got {got}.",
        "axis": "you chose a best resample for each candidate. Choose a candidate for each "
        "resample, a column.",
        "median": "you took the median over resamples. I asked for the mean.",
        "other": "I expected {expected:.4f}, and got {got:.4f}.",
    },
    "pneumonia.5": {
        "right": "five of eight. None of them felt like cheating.",
        "not letters": "I expected a set of letters, such as {{'B', 'F'}}, and got {got}.",
        "B": "B: that is what validation patients are for, as long as they do not judge.",
        "D": "D: test pictures were compared, but nothing was chosen by it, and it was done before "
        "the seal. Had twins been found, removing those in *training* would be fine too.",
        "F": "F: a threshold fixed beforehand may be a poor one, but nobody's images chose it.",
        "A": "A is missing: means over all images hold the test images too. The harm is mostly "
        "small, but a test on patients of next year could not be run so.",
        "C": "C is missing: the epoch was chosen by the test set, as the best of many candidates.",
        "E": "E is missing: what was seen at the first opening shaped the model of the second. "
        "Its score is a validation score; new patients are needed.",
        "G": "G is missing: the winner had been picked on these patients, so its score is too high "
        "there, and the average starts with a handicap. Compare it with a candidate fixed "
        "beforehand, or on other patients.",
        "H": "H is missing: the test set decided what is reported. A wide interval is a finding: "
        "too few such patients.",
    },
    "pneumonia.6": {
        "right": "a story with an interval can be refuted.",
        "not an interval": "I expected an interval with value, low and high, as metrics.bootstrap "
        "gives it; got {got}.",
        "image": "your interval is too narrow: it draws images. Draw patients.",
        "well": "you asked all images. Well ones can be neither found nor missed: choose the ill, "
        "with their patients.",
        "ill": "you told ill from well by the fact. Among the ill, tell found from missed.",
        "score": "you asked how well the *scores* tell. I asked about the fact.",
        "reversed": "{got:.3f} is 1 − the value: a high fact should speak for *found*.",
        "strict": "an image exactly at the threshold was found: s ≥ t.",
        "other": "I expected {expected}, and got {got}.",
    },
    "pneumonia.7": {
        "right": "each figure comes from the run, and will change with it.",
        "not a list": "I expected a list of sentences, and got {kind}.",
        "few": "{n} is too few. Think of who is missing in the data, where the score fell, what "
        "was never tried. Three at least.",
        "typed": "{error}.",
        "words": "{got!r} in {sentence!r} is a result in words. Name the figure in braces: the "
        "sentence stays when the run changes.",
        "boast": "{got!r} praises. A limit says what the evaluation cannot show, or where the "
        "model is weak.",
        "no figure": "no sentence names a figure of the run. At least one limit was measured: "
        "write {{missed}}, say, where its value should stand.",
        "unknown": "{error}.",
        "format": "between braces stands the name of a figure and nothing else, as in {{missed}}; "
        "look at {got!r}. The card writes its digits.",
        "vague": "{sentence!r} could stand on any card. Say for whom, or where, or what.",
        "twice": "two of the sentences are the same.",
        "simulated": "the patients are simulated, and no sentence says so. It is the first limit.",
    },
    "pneumonia.8": {
        "right": "recorded before, judged by patients who picked nobody, and no more claimed than "
        "the interval allows.",
        "not a record": "I expected a dictionary with {keys}; got {kind}.",
        "missing": "the record lacks {keys}.",
        "vague": "say in a few words what you change and with what you compare: nobody could "
        "repeat {change!r}.",
        "winner": "{change!r}: whoever was picked on these patients scores too high on them. "
        "Compare with a candidate fixed beforehand.",
        "expected": "expected must be 'higher', 'lower' or 'no difference', written before the "
        "run; got {expected!r}.",
        "test": "you measured on the test set. It has been opened and spoken; an experiment that "
        "follows needs validation patients, or new ones.",
        "where": "measured_on should say 'validation' or 'new patients'; got {where!r}.",
        "no interval": "difference is {kind}, not an interval with numbers in order. Use "
        "metrics.bootstrap_difference: its two ends say whether the change is more than luck.",
        "an AUC": "{value:.3f} looks like an AUC, not like a difference of two. Use "
        "metrics.bootstrap_difference.",
        "overclaimed": "the verdict is {verdict!r}, but the interval, {low:.3f} to {high:.3f}, "
        "holds 0: these patients cannot tell.",
        "wrong way": "the verdict is {verdict!r}; the interval, {low:.3f} to {high:.3f}, says "
        "{should!r}.",
        "verdict": "verdict must be 'higher', 'lower' or 'cannot tell'; got {verdict!r}. An "
        "interval that holds 0 does not show that there is no difference.",
    },
}


@exercise("pneumonia.1", MESSAGES["pneumonia.1"])
def queue(answer):
    for given in ((0.9, 0.7, 0.1), (0.6, 0.8, 0.3), (0.75, 0.95, 0.02)):
        got = _some(call(answer, *given), 3)
        found, kept, prevalence = given
        flagged = 100 * (prevalence * found + (1 - prevalence) * (1 - kept))
        ahead = 50 * (1 + flagged / 100 - found)
        missed = 50 + flagged / 2
        want = (flagged, ahead, missed)
        if near(got, want):
            continue
        if near(sorted(got), sorted(want)):
            return "order"
        if near([100 * one for one in got], want):
            return "shares"
        wrong = {
            "set": 50 * (found + 1 - kept),
            "exchanged": 100 * ((1 - prevalence) * found + prevalence * (1 - kept)),
            "kept": 100 * (prevalence * found + (1 - prevalence) * kept),
        }
        if not near(got[0], flagged):
            key = first_match(got[0], wrong)
            values = {"expected": flagged, "got": got[0]}
            return ("flagged" if key == "other" else key), values
        wrong = {
            "fall": flagged / 2,
            "behind": flagged,
            "turn": 50.0,
        }
        if not near(got[2], missed):
            key = first_match(got[2], wrong)
            values = {"expected": missed, "got": got[2]}
            return ("missed" if key == "other" else key), values
        wrong = {
            "found": flagged / 2,
            "evenly": (flagged / 2 + missed) / 2,
            "whole": found * flagged + (1 - found) * missed,
        }
        key = first_match(got[1], wrong)
        return ("mean" if key == "other" else key), {"expected": ahead, "got": got[1]}
    return "right"


def _some(answer, n):
    """The answer's n numbers."""
    found = numbers(list(answer) if isinstance(answer, map | range) else answer)
    if found.shape != (n,):
        raise Wrong("format", got=f"shape {tuple(found.shape)}")
    return found.tolist()


def _either(answer, *given):
    """Call with tensors or, if that stops, with arrays: either way of writing it is right."""
    try:
        return call(answer, *(torch.tensor(g) if _numeric(g) else g for g in given))
    except Wrong as wrong:
        if wrong.key != "raised":
            raise
        try:
            return call(answer, *(g.copy() if _numeric(g) else g for g in given))
        except Wrong:
            raise wrong from None


def _numeric(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "bif"


@exercise("pneumonia.2", MESSAGES["pneumonia.2"])
def cheapest(answer):
    rng = np.random.default_rng(90)
    labels = (rng.random(120) < 0.55).astype(int)
    scores = np.round((rng.normal(1.1 * labels, 1, 120) + 3) / 7, 2)  # some are equal
    for price, prevalence in ((4.0, 0.25), (20.0, 0.1), (40.0, 0.02), (5.0, 0.6)):
        got = number(_either(answer, labels, scores, price, prevalence))
        grid = np.unique(scores)
        cost = _costs(labels, scores, grid, price, prevalence)
        least = float(cost.min())
        best = float(grid[cost.argmin()])
        if near(got, grid[cost <= least + 1e-12][0]) or near(got, grid[cost <= least + 1e-12][-1]):
            continue
        strict = _costs(labels, scores, grid, price, prevalence, strict=True)
        own = labels.mean()
        wrong = {
            "strict": grid[strict.argmin()],
            "set": grid[_costs(labels, scores, grid, price, own).argmin()],
            "exchanged": grid[_costs(labels, scores, grid, 1 / price, prevalence).argmin()],
            "price": grid[_costs(labels, scores, grid, 1, prevalence).argmin()],
            "weights": grid[_costs(labels, scores, grid, price, 1 - prevalence).argmin()],
            "unweighed": grid[_costs(labels, scores, grid, price, 0.5).argmin()],
            "dearest": grid[cost.argmax()],
            "bayes": 1 / (1 + price),
            "cost": least,
        }
        values = {"got": got, "expected": best, "least": least, "prevalence": prevalence}
        key = first_match(got, wrong)
        if key == "other" and not np.isclose(grid, got).any():
            return ("index" if got >= 1 and got == int(got) else "not a score"), values
        at = _costs(labels, scores, np.array([got]), price, prevalence)[0]
        return key, values | {"cost": at}
    return "right"


def _costs(labels, scores, grid, price, prevalence, *, strict=False):
    """Expected cost of a picture, at each threshold."""
    ill, well = (scores[labels == k][:, None] for k in (1, 0))
    missed = (ill <= grid if strict else ill < grid).mean(0)
    alarmed = (well > grid if strict else well >= grid).mean(0)
    return prevalence * price * missed + (1 - prevalence) * alarmed


def _pile(found, kept, *, patients, each=1, at=0.6):
    """Labels, scores and patients of a pile, `each` images of a patient all alike.

    Of `patients` ill ones `found` score `at`, of as many well ones all but `kept`; the rest 0.55.
    """
    high, low = at, 0.55
    ill, well = np.full(patients, low), np.full(patients, high)
    ill[:found], well[:kept] = high, low
    labels = np.repeat([1, 0], patients * each)
    scores = np.repeat(np.concatenate([ill, well]), each)
    return labels, scores, np.repeat(np.arange(2 * patients), each)


@cache
def _piles():
    """By the mistake that each one shows: a pile, and whether it is to be accepted."""
    return {
        "never": (_pile(95, 95, patients=100, at=0.8), True),
        "strict": (_pile(95, 95, patients=100, at=0.6), True),
        "prevalence": (_pile(396, 128, patients=400, at=0.8), True),
        "sensitivity": (_pile(70, 98, patients=100, at=0.8), False),
        "gained": (_pile(99, 8, patients=100, at=0.8), False),
        "value": (_pile(88, 85, patients=100, at=0.8), False),
        "flagged": (_pile(392, 100, patients=400, at=0.8), False),
        "image": (_pile(44, 42, patients=48, each=12, at=0.8), False),
    }


def _alike(found, ill, alarmed, well):
    """Five patients alike, of each `found` of `ill` and `alarmed` of `well` images at 0.6.

    The last one is read without an error instead: the value rises, and the lower ends stay those
    of the other four, since every third resample goes without the fifth.
    """
    labels = np.repeat([1, 0], (ill, well))
    flags = np.concatenate([np.arange(ill) < found, np.arange(well) < alarmed])
    flags = np.concatenate([np.tile(flags, 4), labels == 1])
    return np.tile(labels, 5), np.where(flags, 0.6, 0.55), np.repeat(np.arange(5), ill + well)


@cache
def _at_the_bars():
    """Piles that no wrong rule gets right, in the form of `_piles`."""
    return {
        "exactly": (_alike(17, 20, 1, 10), True),
        "below": (_alike(16, 19, 1, 10), False),
        "enough": (_alike(9, 10, 27, 40), True),
        "short": (_alike(9, 10, 17, 25), False),
        "image": _piles()["image"],
    }


@exercise("pneumonia.3", MESSAGES["pneumonia.3"])
def accepted(answer):
    wrong = _wrongly_judged(answer, _at_the_bars())
    return (_wrongly_judged(answer, _piles()) or wrong) if wrong else "right"


def _wrongly_judged(answer, piles):
    """The key of the first pile that the answer accepts or refuses wrongly, or None."""
    for key, (pile, expected) in piles.items():
        mix = np.random.default_rng(1).permutation(len(pile[0]))
        got = _either(answer, *(part[mix] for part in pile), 0.6)
        if not (
            isinstance(got, bool | np.bool_) or (torch.is_tensor(got) and got.dtype == torch.bool)
        ):
            raise Wrong("not a bool", got=repr(got))
        if bool(got) is not expected:
            return key
    return None


@exercise("pneumonia.4", MESSAGES["pneumonia.4"])
def flattery(answer):
    rng = np.random.default_rng(4)
    for k, draws, spread in ((4, 7, 0.02), (3, 50, 0.05)):
        whole = np.array([0.81, 0.86, 0.84, 0.87])[:k]
        drawn = whole[:, None] + spread * rng.standard_normal((k, draws)) + 0.004
        winner = drawn.argmax(0)
        excess = drawn.max(0) - whole[winner]
        given = _either(answer, drawn, whole)
        if as_array(given).size != 1:
            return "each", {"got": shape_or_type(given)}
        got, expected = number(given), float(excess.mean())
        if near(got, expected, absolute=1e-9):
            continue
        worst = drawn.argmin(0)
        wrong = {
            "best": drawn.max(0).mean() - whole.max(),
            "none": drawn.max(0).mean(),
            "negative": -expected,
            "all": (drawn - whole[:, None]).mean(),
            "one": drawn.max() - whole[drawn.max(1).argmax()],
            "worst": (drawn.min(0) - whole[worst]).mean(),
            "axis": (drawn.max(1) - whole).mean(),
            "median": np.median(excess),
        }
        followed = [drawn[j].mean() - whole[j] for j in range(k)]
        key = first_match(got, wrong, absolute=1e-9)
        if key == "other" and any(near(got, one, absolute=1e-9) for one in followed):
            key = "first"
        return key, {"expected": expected, "got": got}
    return "right"


LOOKED = "ACEGH"


@exercise("pneumonia.5", MESSAGES["pneumonia.5"])
def which_looked(answer):
    if isinstance(answer, (set, frozenset, list, tuple)) and any(one is ... for one in answer):
        raise NotAttempted
    letters = re.findall(r"\w", answer) if isinstance(answer, str) else answer
    if not isinstance(letters, (set, frozenset, list, tuple)) or not all(
        isinstance(one, str) and one.strip().upper() in list("ABCDEFGH") for one in letters
    ):
        return "not letters", {"got": repr(answer)}
    given = {one.strip().upper() for one in letters}
    for letter in "BDF":
        if letter in given:
            return letter
    return next((letter for letter in LOOKED if letter not in given), "right")


@exercise("pneumonia.6", MESSAGES["pneumonia.6"])
def told(answer):
    rng = np.random.default_rng(9)
    patients = np.repeat(np.arange(30), 4)
    labels = np.repeat(rng.permutation(30) % 3 > 0, 4).astype(int)
    trait, luck = np.repeat(rng.standard_normal((2, 30)), 4, axis=1)
    fact = trait - labels + 0.1 * rng.standard_normal(120)
    logits = 0.5 * labels + 0.5 * trait + luck + 0.2 * rng.standard_normal(120)
    scores = np.round(1 / (1 + np.exp(-logits)), 1)
    given = (labels, scores, patients, 0.6, fact)
    got = _either(answer, *given)
    try:
        ends = [float(getattr(got, name)) for name in ("value", "low", "high")]
    except (AttributeError, TypeError, ValueError):
        return "not an interval", {"got": type(got).__name__}
    ill = labels == 1
    found = (scores[ill] >= 0.6).astype(int)
    want = metrics.bootstrap(metrics.auc, found, fact[ill], groups=patients[ill])
    if near(ends, (want.value, want.low, want.high), absolute=0.015):
        return "right"
    if near(ends[0], want.value, absolute=1e-6):
        if ends[2] - ends[1] < 0.8 * (want.high - want.low):
            return "image"
        return "other", {"expected": want, "got": got}
    wrong = {
        "reversed": 1 - want.value,
        "well": metrics.auc((scores >= 0.6).astype(int), fact),
        "ill": metrics.auc(labels, fact),
        "score": metrics.auc(found, scores[ill]),
        "strict": metrics.auc((scores[ill] > 0.6).astype(int), fact[ill]),
    }
    key = first_match(ends[0], wrong)
    if key == "other" and near(ends[0], metrics.auc(labels, scores)):
        key = "score"
    return key, {"expected": want, "got": ends[0] if key == "reversed" else got}


_COUNT = "one|two|three|four|five|six|seven|eight|nine|ten"
_IN_WORDS = re.compile(
    r"\b(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)\b|\bper ?cent\b"
    rf"|\b(?:{_COUNT}) (?:in|out of) (?:every )?(?:{_COUNT}|hundred)\b"
    r"|\b(?:a|one|two|three) (?:third|quarter|fifth|tenth)s?\b|\bhalf of (?!the patients were)",
    re.I,
)
_BOAST = re.compile(
    r"\b(?:excellent|outstanding|impressive|remarkabl[ey]|superior|superb|outperform\w*|"
    r"state.of.the.art|best.in.class|flawless\w*|(?:very|highly|extremely) "
    r"(?:accurate|reliable|good|robust|sensitive|specific))\b",
    re.I,
)


@exercise("pneumonia.7", MESSAGES["pneumonia.7"])
def limits(answer, *, figures, data):
    from medlab.report import fill

    if not isinstance(answer, (list, tuple)):
        return "not a list", {"kind": type(answer).__name__}
    if any(one is ... for one in answer):
        raise NotAttempted
    if not all(isinstance(one, str) for one in answer):
        kind = next(type(one).__name__ for one in answer if not isinstance(one, str))
        return "not a list", {"kind": f"a list with {kind} in it"}
    if len(answer) < 3:
        return "few", {"n": len(answer)}
    for sentence in answer:
        if re.search(r"[{}]", re.sub(r"\{[A-Za-z_]\w*\}", "", sentence)):
            return "format", {"got": sentence}
        if praise := _BOAST.search(sentence):
            return "boast", {"got": praise[0]}
        if spoken := _IN_WORDS.search(sentence):
            return "words", {"got": spoken[0].strip(), "sentence": sentence}
        try:
            fill(sentence, figures)
        except MedlabError as error:
            key = "typed" if "typed by hand" in str(error) else "unknown"
            return key, {"error": error}
        if len(sentence.split()) < 6:
            return "vague", {"sentence": sentence}
    if len({" ".join(one.lower().split()) for one in answer}) < len(answer):
        return "twice"
    if data.simulated and not any(re.search("simulat|synthetic", one.lower()) for one in answer):
        return "simulated"
    if not any("{" in one for one in answer):
        return "no figure"
    return "right"


TEXTS = ("change", "compared_with", "expected", "measured_on", "verdict")
KEYS = (*TEXTS, "difference")
_DENIED = re.compile(r"\b(?:not|never|no|without|nor|instead of|rather than)\b[^,;.]*", re.I)


@exercise("pneumonia.8", MESSAGES["pneumonia.8"])
def experiment(answer):
    if not isinstance(answer, dict):
        return "not a record", {"keys": ", ".join(KEYS), "kind": type(answer).__name__}
    lacking = [key for key in KEYS if key not in answer]
    if lacking:
        return "missing", {"keys": ", ".join(lacking)}
    if any(answer[key] is ... for key in KEYS):
        raise NotAttempted
    said = {key: " ".join(str(answer[key]).lower().split()) for key in TEXTS}
    if len(said["change"].split()) < 2 or not said["compared_with"]:
        return "vague", {"change": said["change"] if said["compared_with"] else ""}
    if said["expected"] not in ("higher", "lower", "no difference"):
        return "expected", {"expected": said["expected"]}
    where = _DENIED.sub("", said["measured_on"])
    if re.search(r"\btest", where):
        return "test"
    if not re.search(r"\bval(?:idation)?\b|\bnew (?:\w+ )?(?:patients|cohort|images)", where):
        return "where", {"where": said["measured_on"]}
    against = _DENIED.sub("", said["compared_with"])
    if "new" not in where and re.search(r"\b(?:winner|winning|best|highest)\b", against):
        return "winner", {"change": said["compared_with"]}
    difference = answer["difference"]
    try:
        value, low, high = (float(getattr(difference, k)) for k in ("value", "low", "high"))
    except (AttributeError, TypeError, ValueError):
        return "no interval", {"kind": type(difference).__name__}
    if not (-1 <= low <= high <= 1 and low <= value <= high):  # NaN too
        return "no interval", {"kind": f"{value:.3f}, {low:.3f} to {high:.3f}"}
    if value > 0.4 and low > 0.3:
        return "an AUC", {"value": value}
    should = "higher" if low > 0 else "lower" if high < 0 else "cannot tell"
    values = {"verdict": said["verdict"], "low": low, "high": high, "should": should}
    if said["verdict"] not in ("higher", "lower", "cannot tell"):
        return "verdict", values
    if said["verdict"] == should:
        return "right"
    return ("overclaimed" if should == "cannot tell" else "wrong way"), values
