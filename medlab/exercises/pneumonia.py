"""Checks of the case study."""

from __future__ import annotations

import math
import re

import numpy as np
import torch

from medlab.errors import MedlabError
from medlab.exercises import NotAttempted, Wrong, call, exercise, near, number

MESSAGES = {
    "pneumonia.1": {
        "right": "for 9 found of 10 it says 0.60 to 0.98. A sensitivity without its count is half "
        "a figure.",
        "wald": "for {k} of {n} you gave p̂ ± z√(p̂(1−p̂)/n), which puts the measured share where "
        "the true one belongs. At {n} of {n} it has no width; use the formula above.",
        "clipped": "for {k} of {n} you gave p̂ ± z√(p̂(1−p̂)/n), cut off at 0 and 1. Wilson's ends "
        "need no cutting: they never leave 0 to 1. Use the formula above.",
        "90 %": "with z = 1.645 your interval holds 90 %. For 95 % take z = 1.96.",
        "reach undivided": "the middle is right, but the reach was not divided by 1 + z²/n.",
        "middle": "the middle lacks its z²/2n, which draws it towards one half.",
        "undivided": "you have both ends, but did not divide them by 1 + z²/n.",
        "root": "the root lacks its second term, z²/4n²: for {n} of {n} your ends fall together.",
        "two": "with z = 2 instead of 1.96 your interval holds 95.4 %, not 95 %.",
        "swapped": "these are the ends, the high one first. I asked for low, high.",
        "middle and reach": "you gave the middle and the reach; I asked for low = middle − reach "
        "and high = middle + reach.",
        "one number": "I expected two numbers, low and high, and got {kind}.",
        "percent": "you gave per cent. Shares lie between 0 and 1 in this course.",
        "other": "for k = {k} and n = {n} I expected {low:.4f} to {high:.4f}, and got {got}.",
    },
    "pneumonia.2": {
        "right": "the rule is written before there is any score, and nobody can bend it later.",
        "no margin": "at {got:g} the measured sensitivity is {share:.2f}, but the lower end of its "
        "interval is {lower:.2f}, below the {wanted:g} wanted. Compare the lower end.",
        "all": "at {got:g} the share is right if all images count. A sensitivity counts the ill "
        "alone: select labels == 1 before you count k and n.",
        "index": "you returned a position, {got:g}. I asked for the score there.",
        "too low": "at {got:g} the rule is kept, but {expected:g} is higher and keeps it too. Go "
        "down from the highest score; a flag is s ≥ t, not s > t.",
        "too high": "at {got:g} the lower end is {lower:.2f}, below the {wanted:g} wanted.",
        "not a score": "{got:g} is none of the scores. The rule takes thresholds among them, so "
        "that it can be checked.",
        "impossible": "no score reaches {wanted:g} here, since {ill} ill images, all found, prove "
        "no more. I expected float('-inf'), flag everybody, and got {got:g}.",
        "pair": "return the threshold alone, one number.",
        "order": "the answer changed to {got:g} when I shuffled the images. Do not rely on order.",
    },
    "pneumonia.3": {
        "right": "whoever reports the best of {k} reports so much luck with it.",
        "no luck": "that is the true AUC, or within a hair of it. The best of {k} scores higher on "
        "average. If you simulate: the largest of each search, then the mean; and sigma is the "
        "standard deviation of a score, not to be squared.",
        "luck alone": "you returned the luck, {got:.3g}. Add it to the true AUC.",
        "one error": "you added one standard error whatever k is. One candidate has no advantage, "
        "a hundred have a large one.",
        "bound": "you added σ√(2 ln k). That is where it goes for very many candidates; for {k} it "
        "is too much.",
        "averaged": "you divided σ by √k. That is the error of a mean; here the largest is taken.",
        "times": "you multiplied σ by {k}. Errors do not add up: only the largest is taken.",
        "upper end": "you added 1.96 σ, the upper end of one candidate's interval.",
        "restless": "two calls gave {got:.4f} and {again:.4f}. One search is luck; I asked for the "
        "mean over many.",
        "smallest": "that is the mean of the smallest.",
        "other": "for k = {k}, auc = {auc} and sigma = {sigma} I expected {expected:.4f} and got "
        "{got:.4f}. If you simulate, take some thousand searches.",
    },
    "pneumonia.4": {
        "right": "five of eight. None of them felt like cheating.",
        "not letters": "I expected a set of letters, such as {{'B', 'F'}}, and got {got}.",
        "B": "B: that is what validation patients are for. The test set had no say.",
        "D": "D: test pictures were compared, but nothing was chosen by it, and it was done before "
        "the seal. Had twins been found, removing those in *training* would be fine too.",
        "F": "F: a threshold fixed beforehand may be a poor one, but the test set had no say.",
        "A": "A is missing: means over all images hold the test images too. The harm is mostly "
        "small, but a test on patients of next year could not be run so.",
        "C": "C is missing: the epoch was chosen by the test set, as the best of many candidates.",
        "E": "E is missing: what was seen at the first opening shaped the model of the second. "
        "Its score is a validation score; new patients are needed.",
        "G": "G is missing: it is true of the AUC. But calibration was then reported on the very "
        "labels that it was fitted to.",
        "H": "H is missing: the test set decided what is reported. A wide interval is a finding: "
        "too few such patients.",
    },
    "pneumonia.5": {
        "right": "counts, not shares: from counts a reader can make the interval.",
        "not a dictionary": "I expected a dictionary from group name to two counts, got {kind}.",
        "names": "I expected the groups {expected} as names, and got {got}.",
        "not a pair": "for group {name} I expected two counts, (found, ill), and got {got}.",
        "shares": "you returned shares for group {name}. Return the counts: 1 of 2 and 50 of 100 "
        "are one share and two very different findings.",
        "all images": "for group {name} you counted {got} images, the healthy among them. "
        "Sensitivity counts the ill alone.",
        "flags": "for group {name} you counted every flag, false alarms among them.",
        "right calls": "for group {name} you counted right calls of healthy and ill. Found means "
        "ill and flagged.",
        "missed": "for group {name} you counted the missed. I asked for the found.",
        "everybody": "for group {name} you counted every image and every flag, the healthy among "
        "them. Sensitivity counts the ill alone.",
        "healthy": "for group {name} you counted the healthy: that is its specificity. I asked "
        "for the ill, and for those of them who are flagged.",
        "ungrouped": "you counted the ill of all groups together. Count them group by group.",
        "swapped": "these are (ill, found); I asked for (found, ill).",
        "strict": "an image exactly at the threshold is flagged: s ≥ t, not s > t.",
        "fixed": "you used a threshold of your own. Use the one that is passed.",
        "other": "for group {name} I expected {expected} and got {got}.",
    },
    "pneumonia.6": {
        "right": "each figure comes from the run, and will change with it.",
        "not a list": "I expected a list of sentences, and got {kind}.",
        "few": "{n} is too few. Think of who is missing in the data, where the score fell, what "
        "was never tried. Three at least.",
        "typed": "{error}.",
        "no figure": "no sentence names a figure of the run. At least one limit was measured: "
        "write {{far}}, say, where its value should stand.",
        "unknown": "{error}.",
        "format": "between braces stands the name of a figure and nothing else, as in {{far}}; you "
        "wrote {got}. The card writes its digits.",
        "vague": "{sentence!r} could stand on any card. Say for whom, or where, or what.",
        "twice": "two of the sentences are the same.",
        "simulated": "the patients are simulated, and no sentence says so. It is the first limit.",
    },
    "pneumonia.7": {
        "right": "recorded before, not measured on the test set, and no more claimed than the "
        "interval allows.",
        "not a record": "I expected a dictionary with {keys}; got {kind}.",
        "missing": "the record lacks {keys}.",
        "vague": "say in a few words what you change: nobody could repeat {change!r}.",
        "expected": "expected must be 'higher', 'lower' or 'no difference', written before the "
        "run; got {expected!r}.",
        "test": "you measured on the test set. It has been opened and spoken; an experiment that "
        "follows needs validation patients, or new ones.",
        "where": "measured_on should say 'validation' or 'new patients'; got {where!r}.",
        "no interval": "difference is {kind}, not an interval. Use metrics.bootstrap_difference: "
        "its two ends say whether the change is more than luck.",
        "overclaimed": "the verdict is {verdict!r}, but the interval, {low:.3f} to {high:.3f}, "
        "holds 0: these patients cannot tell.",
        "wrong way": "the verdict is {verdict!r}; the interval, {low:.3f} to {high:.3f}, says "
        "{should!r}.",
        "verdict": "verdict must be 'higher', 'lower' or 'cannot tell'; got {verdict!r}. An "
        "interval that holds 0 does not show that there is no difference.",
    },
}

Z = 1.959964


def wilson(k: int, n: int, *, z: float = Z, root: bool = True, middle: bool = True) -> tuple:
    """Wilson's ends before the division by 1 + z²/n, with terms left out on demand."""
    p = k / n
    centre = p + middle * z**2 / (2 * n)
    reach = z * math.sqrt(p * (1 - p) / n + root * z**2 / (4 * n**2))
    return centre - reach, centre + reach


def lower_end(k: int, n: int) -> float:
    return wilson(k, n)[0] / (1 + Z**2 / n)


@exercise("pneumonia.1", MESSAGES["pneumonia.1"])
def interval(answer):
    for k, n in ((9, 10), (40, 50), (0, 20), (20, 20), (141, 150)):
        got = call(answer, k, n)
        if not isinstance(got, (tuple, list, np.ndarray, torch.Tensor)) or len(got) != 2:
            return "one number", {"kind": type(got).__name__}
        got = tuple(number(end) for end in got)
        scale = 1 + Z**2 / n
        ends = tuple(end / scale for end in wilson(k, n))
        if near(got, ends, rel=1e-4, absolute=1e-4):
            continue
        p, (raw_low, raw_high) = k / n, wilson(k, n)
        wald = Z * math.sqrt(p * (1 - p) / n)
        half = (raw_high - raw_low) / 2
        wrong = {
            "wald": (p - wald, p + wald),
            "clipped": (max(0.0, p - wald), min(1.0, p + wald)),
            "90 %": tuple(end / (1 + 1.645**2 / n) for end in wilson(k, n, z=1.645)),
            "reach undivided": (
                (raw_low + half) / scale - half,
                (raw_low + half) / scale + half,
            ),
            "swapped": ends[::-1],
            "undivided": (raw_low, raw_high),
            "middle": tuple(end / scale for end in wilson(k, n, middle=False)),
            "root": tuple(end / scale for end in wilson(k, n, root=False)),
            "two": tuple(end / (1 + 4 / n) for end in wilson(k, n, z=2)),
            "percent": tuple(100 * end for end in ends),
            "middle and reach": ((raw_low + half) / scale, half / scale),
        }
        values = {"k": k, "n": n, "low": ends[0], "high": ends[1]}
        values["got"] = f"{got[0]:.4f} to {got[1]:.4f}"
        matches = (key for key, value in wrong.items() if near(got, value, rel=2e-4, absolute=2e-4))
        return next(matches, "other"), values
    return "right"


def _either(answer, *given):
    """Call with tensors or, if that stops, with arrays: either way of writing it is right."""
    try:
        return call(answer, *(torch.as_tensor(g) if _numeric(g) else g for g in given))
    except Wrong as wrong:
        if wrong.key != "raised":
            raise
        try:
            return call(answer, *given)
        except Wrong:
            raise wrong from None


def _numeric(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "bif"


@exercise("pneumonia.2", MESSAGES["pneumonia.2"])
def threshold_rule(answer):
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1], [50, 40])
    scores = np.concatenate([rng.permutation(50) * 2, 21 + rng.permutation(40) * 2]) / 128
    mix = rng.permutation(90)
    labels, scores = labels[mix], scores[mix]
    ill = np.sort(scores[labels == 1])[::-1]
    for wanted in (0.7, 0.8):
        got = _number(_either(answer, labels, scores, wanted))
        expected = next(t for t in ill if lower_end(int((ill >= t).sum()), 40) >= wanted)
        if near(got, expected, rel=1e-6):
            continue
        k, n = int((ill >= got).sum()), len(ill)
        values = {"got": got, "expected": expected, "wanted": wanted}
        values |= {"share": k / n, "lower": lower_end(k, n)}
        everybody = np.sort(scores)[::-1]
        over_all = next(t for t in everybody if lower_end(int((scores >= t).sum()), 90) >= wanted)
        if near(got, over_all, rel=1e-6):
            return "all", values
        if got >= 1 and got == int(got):
            return "index", values
        if not np.isclose(scores, got).any():
            return "not a score", values
        if values["lower"] >= wanted:
            return "too low", values
        if near(got, ill[math.ceil(wanted * n) - 1], rel=1e-6):
            return "no margin", values
        return "too high", values
    turn = np.arange(90)[::-1].copy()
    again = _number(_either(answer, labels[turn], scores[turn], 0.8))
    if not near(again, expected, rel=1e-6):
        return "order", {"got": again}
    never = _number(_either(answer, labels, scores, 0.95))
    if never != -math.inf:
        return "impossible", {"wanted": 0.95, "ill": 40, "got": never}
    return "right"


def _number(value) -> float:
    try:
        return number(value)
    except Wrong:
        if isinstance(value, (tuple, list)):
            raise Wrong("pair") from None
        raise


def expected_largest(k: int) -> float:
    """Mean of the largest of k standard normal numbers, by quadrature."""
    x = torch.linspace(-9, 9, 9001, dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, 1.0)
    density = k * normal.log_prob(x).exp() * normal.cdf(x) ** (k - 1)
    return float(torch.trapezoid(x * density, x))


@exercise("pneumonia.3", MESSAGES["pneumonia.3"])
def expected_best(answer):
    for k, auc, sigma in ((10, 0.85, 0.02), (3, 0.7, 0.05), (1, 0.9, 0.03), (40, 0.6, 0.01)):
        luck = sigma * expected_largest(k)
        got = number(call(answer, k, auc, sigma))
        again = number(call(answer, k, auc, sigma))
        values = {"k": k, "auc": auc, "sigma": sigma, "expected": auc + luck, "got": got}
        values["again"] = again
        within = 0.08 * sigma
        if abs(got - again) > 2 * within:
            return "restless", values
        if abs(got - auc - luck) <= within:
            continue
        wrong = {
            "no luck": auc,
            "luck alone": luck,
            "one error": auc + sigma,
            "bound": auc + sigma * math.sqrt(2 * math.log(k)),
            "averaged": auc + sigma / math.sqrt(k),
            "times": auc + k * sigma,
            "upper end": auc + 1.96 * sigma,
            "smallest": auc - luck,
        }
        matches = (key for key, value in wrong.items() if abs(got - value) <= within)
        return next(matches, "other"), values
    return "right", {"k": 40}


LOOKED = "ACEGH"


@exercise("pneumonia.4", MESSAGES["pneumonia.4"])
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


@exercise("pneumonia.5", MESSAGES["pneumonia.5"])
def by_group(answer):
    rng = np.random.default_rng(5)
    names = ["near", "far", "between"]
    labels = np.concatenate([rng.integers(0, 2, 60), np.tile([1, 1, 1, 0], 3)])
    # Every group has an ill image at each threshold and one between 0.4 and 0.5.
    scores = np.concatenate([rng.integers(0, 20, 60) / 20, np.tile([0.4, 0.7, 0.45, 0.4], 3)])
    groups = np.concatenate([rng.choice(names, 60), np.repeat(names, 4)])
    for threshold in (0.4, 0.7):
        got = _either(answer, labels, scores, groups, threshold)
        if not isinstance(got, dict):
            return "not a dictionary", {"kind": type(got).__name__}
        got = {str(name): value for name, value in got.items()}
        names = sorted(set(groups))
        if set(got) != set(names):
            return "names", {"expected": names, "got": sorted(got)}
        verdicts = [_counts(name, got[name], labels, scores, groups, threshold) for name in names]
        wrong = [verdict for verdict in verdicts if verdict]
        if wrong:
            return wrong[0]
    alone = _either(answer, np.array([0, 1]), np.array([0.9, 0.9]), np.array(["x", "y"]), 0.5)
    if isinstance(alone, dict) and near(alone.get("y", ()), (1, 1)):
        return "right"
    return "other", {"name": "y", "expected": (1, 1), "got": alone}


def _counts(name, got, labels, scores, groups, threshold):
    try:
        pair = tuple(number(one) for one in got)
    except (TypeError, Wrong):
        pair = ()
    if len(pair) != 2:
        return "not a pair", {"name": name, "got": got}
    pair = tuple(int(one) if one.is_integer() else one for one in pair)
    here = groups == name
    all_ill, flag = labels == 1, scores >= threshold
    ill, well = all_ill & here, ~all_ill & here
    right = (int((ill & flag).sum()), int(ill.sum()))
    if pair == right:
        return None
    values = {"name": name, "expected": right, "got": pair}
    found, n = right
    strict = int((ill & (scores > threshold)).sum())
    wrong = {
        "swapped": (n, found),
        "missed": (n - found, n),
        "strict": (strict, n),
        "fixed": (int((ill & (scores >= 0.5)).sum()), n),
        "flags": (int((here & flag).sum()), n),
        "right calls": (int((here & (flag == all_ill)).sum()), int(here.sum())),
        "all images": (found, int(here.sum())),
        "everybody": (int((here & flag).sum()), int(here.sum())),
        "healthy": (int((well & ~flag).sum()), int(well.sum())),
        "ungrouped": (int((all_ill & flag).sum()), int(all_ill.sum())),
    }
    for key, value in wrong.items():
        if pair == value:
            return key, values | ({"got": pair[1]} if key == "all images" else {})
    if np.isfinite(pair).all() and not all(isinstance(one, int) for one in pair):
        return "shares", values
    return "other", values


@exercise("pneumonia.6", MESSAGES["pneumonia.6"])
def limits(answer, *, figures, data):
    from medlab.report import fill

    if not isinstance(answer, (list, tuple)):
        return "not a list", {"kind": type(answer).__name__}
    if not all(isinstance(one, str) for one in answer):
        kind = next(type(one).__name__ for one in answer if not isinstance(one, str))
        return "not a list", {"kind": f"a list with {kind} in it"}
    if len(answer) < 3:
        return "few", {"n": len(answer)}
    for sentence in answer:
        for inside in re.findall(r"\{([^{}]*)\}", sentence):
            if not inside.isidentifier():
                return "format", {"got": f"{{{inside}}}"}
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
    if not any(re.search(r"(?<!\{)\{\w+\}", one) for one in answer):
        return "no figure"
    return "right"


KEYS = ("change", "expected", "measured_on", "difference", "verdict")


@exercise("pneumonia.7", MESSAGES["pneumonia.7"])
def experiment(answer):
    if not isinstance(answer, dict):
        return "not a record", {"keys": ", ".join(KEYS), "kind": type(answer).__name__}
    if any(value is ... for value in answer.values()):
        raise NotAttempted
    lacking = [key for key in KEYS if key not in answer]
    if lacking:
        return "missing", {"keys": ", ".join(lacking)}
    change, where = answer["change"], str(answer["measured_on"]).lower()
    if not isinstance(change, str) or len(change.split()) < 3:
        return "vague", {"change": change}
    expected, verdict = (str(answer[key]).strip().lower() for key in ("expected", "verdict"))
    if expected not in ("higher", "lower", "no difference"):
        return "expected", {"expected": answer["expected"]}
    if re.search(r"\btest", where):
        return "test"
    if not re.search(r"\b(val|new)", where):
        return "where", {"where": answer["measured_on"]}
    difference = answer["difference"]
    if not (hasattr(difference, "low") and hasattr(difference, "high")):
        return "no interval", {"kind": type(difference).__name__}
    if verdict not in ("higher", "lower", "cannot tell"):
        return "verdict", {"verdict": answer["verdict"]}
    low, high = difference.low, difference.high
    should = "higher" if low > 0 else "lower" if high < 0 else "cannot tell"
    if verdict == should:
        return "right"
    values = {"verdict": verdict, "low": low, "high": high, "should": should}
    return ("overclaimed" if should == "cannot tell" else "wrong way"), values
