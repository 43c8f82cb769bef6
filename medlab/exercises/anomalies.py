"""Exercises of notebook 22: honest Dice, residuals, equal heights, noise rates, diffusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy import ndimage
from sklearn.metrics import average_precision_score
from torch import Tensor

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number

LEAST = 0.85  # average precision that a residual must reach

MESSAGES = {
    "anomalies.1": {
        "right": "the test has seen one threshold, and did not choose it.",
        "format": "I expected (threshold, dice), two numbers; got {got}.",
        "swapped": "your numbers are (dice, threshold). I asked for (threshold, dice).",
        "test": "the threshold {got:g} is the one that is best on the *test*. New patients have no "
        "outlines to choose by: choose it on the validation patients ({expected:g}).",
        "last": "several thresholds are equally good, and you took {got:g}, not the first of them.",
        "worst": "{got:g} is the threshold with the lowest Dice.",
        "position": "return the threshold itself, not its position.",
        "val dice": "the threshold is right, but the Dice is that of the validation patients, on "
        "whom it was chosen. Measure it on the test.",
        "ceiling": "the threshold is right, but the Dice is the best one of the test.",
        "slices": "your Dice is a mean over slices. Count the pixels of all slices together, for "
        "the choice too: a slice without lesion has no Dice.",
        "strict": "a pixel *at* the threshold counts as found: `maps >= t`.",
        "both": "you chose {got:g} on validation and test patients together. The test may not take "
        "part in the choice ({expected:g}).",
        "measure": "you took {what}, not Dice: 2·|A∩B| / (|A| + |B|).",
        "half": "your Dice is half of what it should be: the 2 is missing.",
        "union": "you divided by |A ∪ B|. Dice divides by |A| + |B|, which counts what both hold "
        "twice.",
        "other": "I expected threshold {expected:g} and Dice {dice:.4f}; got {got:g} and "
        "{found:.4f}.",
    },
    "anomalies.2": {
        "right": "AP {got:.3f}, and {plain:.3f} for |x − x̂|: edges cancel, lesions stay.",
        "format": "I expected a map for each slice, of shape {shape}; got {got}.",
        "nan": "your map holds NaN or infinite values.",
        "alone": "a slice's map depends on the other slices (blurred across them, or normalised "
        "together): a patient's result would depend on who else came.",
        "low side": "AP {bright:.3f} of bright lesions, but {dark:.3f} of dark ones: the sign of "
        "the residual must not count.",
        "high side": "AP {dark:.3f} of dark lesions, but {bright:.3f} of bright ones: the sign of "
        "the residual must not count.",
        "upside down": "your map is low where something is wrong. Turn it round.",
        "no drawing": "your map does not depend on x_hat: it cannot know what is normal.",
        "no image": "your map does not depend on x.",
        "edges": "AP {got:.3f}, where |x − x̂| has {plain:.3f}: the edges are still in "
        "it. A pair of lines of opposite sign cancels only if it is averaged with its signs.",
        "close": "AP {got:.3f}, and {plain:.3f} for |x − x̂|; I asked for {least}. The order "
        "is right, but the blur is too narrow or too wide: lesions have a radius of 3 to 5 pixels.",
    },
    "anomalies.3": {
        "right": "only like is compared with like, so neither height nor scanner can win.",
        "format": "I expected one number; got {got}.",
        "all": "that is the AUC of all pairs. Leave out those that are not matched.",
        "heights": "your pairs are matched by height only. They must come from one scanner too.",
        "sites": "your pairs are matched by scanner only. Their heights must be near too.",
        "either": "you kept pairs that agree in height *or* in scanner. Both must agree.",
        "strict": "pairs that are *exactly* `apart` from each other count too.",
        "signed": "heights differ in both directions: take the absolute difference.",
        "ties lost": "a pair with equal scores counts one half; with you it is lost.",
        "ties won": "a pair with equal scores counts one half; with you it is won.",
        "ties out": "you left out pairs with equal scores. They count one half.",
        "reversed": "you counted the pairs in which the *healthy* slice scores higher.",
        "per slice": "you averaged the shares of single slices. Every pair counts the same: all "
        "wins over all pairs.",
        "count": "that is the number of pairs won. Divide by the number of pairs.",
        "all pairs": "you divided by the number of all pairs, also of those left out.",
        "bands": "slices were put into bands. Two on either side of a border are near each other: "
        "compare heights pair by pair.",
        "other": "at most {apart:g} mm apart I expected {expected:.4f}, and got {got:.4f}.",
    },
    "anomalies.4": {
        "right": "each step costs the same share of what is left to see.",
        "format": "I expected {steps} rates for {steps} steps; got {got}.",
        "range": "a rate is outside 0 … 1: {got}.",
        "alpha bar": "these are ᾱ_t, not β_t. From ᾱ_t: 1 − β_t = ᾱ_t / ᾱ_(t−1).",
        "alpha": "these are 1 − β_t.",
        "reversed": "your rates are in reverse: the first belongs to the first step.",
        "first": "after the first step ᾱ should be 0.999, and is {got:.4g}. Before it ᾱ is 1.",
        "last": "after the last step ᾱ should lie between 0.001 and 0.01, and is {got:.3g}.",
        "even rates": "your rates rise evenly. What should fall evenly is log SNR.",
        "even alpha": "your ᾱ falls evenly. What should fall evenly is log(ᾱ / (1 − ᾱ)).",
        "even log alpha": "your log ᾱ falls evenly. SNR is ᾱ / (1 − ᾱ).",
        "uneven": "with {steps} steps, log SNR falls by {least:.3f} in one step and by {most:.3f} "
        "in another.",
    },
    "anomalies.5": {
        "right": "one jump for each image, to its own step, and one question: which noise?",
        "shape": "I expected the loss, one number; got {got}.",
        "random": "your loss differs from call to call. Use the `noise` that is given.",
        "one step": "all images got the same step. `left[t]` has one value an image.",
        "pairs": "your noisy pictures are of shape {shape}: each image met each step. Of `left[t]` "
        "every image needs its own value alone.",
        "no root": "you used ᾱ where its root belongs, or 1 − ᾱ: the variances are ᾱ and 1 − ᾱ, "
        "the factors their roots.",
        "one minus": "the noise's factor is √(1 − ᾱ), not 1 − √ᾱ.",
        "unscaled": "picture or noise came in without its factor: √ᾱ and √(1 − ᾱ).",
        "neighbour": "you took ᾱ of the step before. `t` counts from 0, as `left` does: `left[t]`.",
        "minus": "you subtracted the noise. It is added.",
        "swapped": "picture and noise have each other's factors: √ᾱ belongs to the picture.",
        "beta": "1 − `left` is not a rate: `left` holds ᾱ, and needs no cumulative product.",
        "target": "you compared the guess with the picture. It should find the noise.",
        "noisy": "you compared the guess with the noisy picture. It should find the noise.",
        "share": "you compared the guess with √(1 − ᾱ) ε, the noise as it stands in the picture. "
        "It should find ε itself.",
        "clean": "the network must see the noisy picture, not x0.",
        "sum": "you summed the squares. Take the mean over all pixels.",
        "difference": "you compared the guess with x_t − x_0, in which the picture has shrunk "
        "too. It should find ε.",
        "absolute": "you took the absolute difference. The loss is a square.",
        "root": "you took the root of the mean square. The loss is the mean square.",
        "half": "you took half of the mean square.",
        "steps": "your network got another t than the images: pass t on as it is.",
        "not asked": "your function never asked the network: call guess(noisy, t).",
        "no backward": "the loss is right, and the network got no gradient: `loss.backward()` "
        "before `adam.step()`.",
        "no step": "loss and gradient are right, and the network has not changed: `adam.step()`.",
        "early": "`adam.step()` came before `backward`: it used the old gradient, or none.",
        "stale": "the gradient of the step before is still in yours: `adam.zero_grad()` before "
        "`backward`.",
        "zeroed": "you set the gradient to zero between `backward` and `step`: nothing is left.",
        "twice": "the optimiser made two steps.",
        "other step": "the loss is right, but the network changed by {moved:.4g}, not by "
        "{expected:.4g}.",
        "other": "I expected {expected:.4f}, and got {got:.4f}.",
    },
    "anomalies.6": {
        "right": "every step back is the right one.",
        "format": "I expected a tensor of shape {shape}, the last x; got {got}.",
        "nan": "your x becomes NaN or infinite. In the last step ᾱ of the step before is 1, and "
        "nothing can be divided by 1 − 1.",
        "not asked": "your function never asked the network: call guess(x, t).",
        "random": "your x differs from call to call. Use the `z` that is given.",
        "start": "the loop begins with x itself. Your network first got something else.",
        "rates": "ᾱ_t is the product of all 1 − β, not of all β.",
        "alpha": "`beta` holds β_t, and you took it for 1 − β_t.",
        "wrap": "in the last step, position 0, your ᾱ of the step before is `left[-1]`, the last "
        "of all. It should be 1.",
        "ratio": "your variance is β_t (1 − ᾱ_t) / (1 − ᾱ_(t−1)): turn the fraction round.",
        "order": "you went from the first step to the last. Back is the other way.",
        "no noise": "you add no noise: the result is far too narrow.",
        "last noise": "in the last step, position 0, nothing is added: ᾱ_0 = 1 makes the variance "
        "0.",
        "beta": "your noise has variance β_t. I asked for β_t (1 − ᾱ_(t−1)) / (1 − ᾱ_t).",
        "variance": "you multiplied the noise by its variance. Take the root.",
        "z order": "z[t] belongs to position t. You took them in the order of your loop.",
        "z before": "z[t] belongs to position t. You took z[t − 1].",
        "no division": "the mean is divided by √(1 − β_t), and yours is not.",
        "no root": "you divided the mean by 1 − β_t. Take the root.",
        "multiplied": "you multiplied the mean by √(1 − β_t). Divide by it.",
        "all steps": "you divided the mean by √ᾱ_t, the factor of all steps together. Divide by "
        "√(1 − β_t), that of one.",
        "x alone": "you divided x by √(1 − β_t), but not the guess: both stand in the brackets.",
        "noise too": "you divided the new noise by √(1 − β_t) too. It stands outside the brackets.",
        "share": "the guess is multiplied by β_t / √(1 − ᾱ_t), and yours by {what}.",
        "plus": "you added the guessed noise. It is taken away.",
        "jump": "you put new noise on the guessed x_0. A step back begins at x_t, near it.",
        "all": "you took all the guessed noise away at once. A step takes β_t / √(1 − ᾱ_t) of it.",
        "times": "your network got other positions than the loop's, 0 … T − 1.",
        "stopped": "one step is missing: positions go down to 0, and begin with T − 1.",
        "list": "return the last x only.",
        "changed": "your function changed its arguments in place. Make new tensors.",
        "other": "with {steps} steps I expected {expected}, and got {got}.",
    },
}


def material() -> SimpleNamespace:
    """Finished answers of the exercises, so that nobody needs their own for what follows."""
    answers = {"honest": honest, "auc_matched": auc_matched, "rates": rates}
    return SimpleNamespace(**answers, train_step=train_step, draw=draw)


def _arrays(answer: Any) -> Any:
    return answer.detach().cpu().numpy() if torch.is_tensor(answer) else answer


# --- 1: an honest Dice ---


class _Maps(NamedTuple):
    """Arguments of the learner's function."""

    val_maps: ndarray
    val_truth: ndarray
    maps: ndarray
    truth: ndarray
    thresholds: ndarray


@cache
def _maps(seed: int) -> _Maps:
    """Maps in tenths: many pixels lie at a threshold, and thresholds between two tenths tie."""
    rng = np.random.default_rng(seed)
    found = []
    for count, lift in ((5, 0.4), (7, 0.2 + 0.1 * seed)):
        truth = rng.random((count, 8, 9)) < 0.2
        truth[1] = False
        truth[2] = rng.random((8, 9)) < 0.5
        found += [np.round(rng.random(truth.shape) * 0.7 + lift * truth, 1), truth]
    thresholds = np.array([0.8, 0.3, 0.7, 0.65, 0.6, 0.5, 0.95, 0.1])
    return _Maps._make([*found, thresholds[:: -1 if seed % 2 else 1]])


def honest(
    val_maps: ndarray, val_truth: ndarray, maps: ndarray, truth: ndarray, thresholds: ndarray
) -> tuple[float, float]:
    """The first best threshold of the validation, and the Dice of the test there."""
    t = _best(val_maps, val_truth, thresholds)
    return t, _overlap(maps, truth, t)


# Measures that are not Dice of all pixels: the key of their message, and what it calls them
MEASURES = {
    "strict": ("strict", ""),
    "slices": ("slices", ""),
    "ill slices": ("slices", ""),
    "empty slices": ("slices", ""),
    "marked slices": ("slices", ""),
    "half": ("half", ""),
    "union": ("union", ""),
    "iou": ("measure", "the intersection over union"),
    "accuracy": ("measure", "the share of pixels that are right"),
    "precision": ("measure", "the share of marked pixels that are lesion"),
    "sensitivity": ("measure", "the share of the lesion's pixels that are marked"),
}


def _overlap(maps: ndarray, truth: ndarray, t: float, how: str = "") -> float:
    """Dice of all pixels, or one of MEASURES."""
    found = maps > t if how == "strict" else maps >= t
    hits, sizes = (found & truth).sum((1, 2)), found.sum((1, 2)) + truth.sum((1, 2))
    each, both, either = 2 * hits / np.maximum(sizes, 1), hits.sum(), (found | truth).sum()
    others = {
        "slices": each.mean(),
        "ill slices": each[truth.any((1, 2))].mean(),
        "empty slices": np.where(sizes > 0, each, 1).mean(),
        "marked slices": each[sizes > 0].mean(),
        "half": both / sizes.sum(),
        "union": 2 * both / either,
        "iou": both / either,
        "accuracy": (found == truth).mean(),
        "precision": both / max(found.sum(), 1),
        "sensitivity": both / truth.sum(),
    }
    return float(others.get(how, 2 * both / sizes.sum()))


def _best(maps: ndarray, truth: ndarray, thresholds: ndarray, how: str = "") -> float:
    found = [_overlap(maps, truth, t, how) for t in thresholds]
    return float(thresholds[int(np.argmax(found))])


def _mistakes(m: _Maps) -> Iterator[tuple[str, str, float, float]]:
    """Usual ones: the key of the message, a measure's name, and the answer, threshold and Dice."""
    val, test, steps = m[:2], m[2:4], m.thresholds
    on_val = [_overlap(*val, t) for t in steps]
    want, dice = honest(*m)
    yield "swapped", "", dice, want
    yield "position", "", float(np.argmax(on_val)), dice
    yield "val dice", "", want, max(on_val)
    yield "ceiling", "", want, max(_overlap(*test, t) for t in steps)
    both = np.concatenate([val[0], test[0]]), np.concatenate([val[1], test[1]])
    for key, t in (
        ("test", _best(*test, steps)),
        ("both", _best(*both, steps)),
        ("worst", steps[int(np.argmin(on_val))]),
    ):
        yield key, "", t, _overlap(*test, t)
    for how, (key, what) in MEASURES.items():
        for choice, measure in (("", how), (how, how), ("" if what else how, "")):
            t = _best(*val, steps, choice)
            yield key, what, t, _overlap(*test, t, measure)


@exercise("anomalies.1", MESSAGES["anomalies.1"])
def honest_dice(answer) -> Verdict:
    fixtures, found = [_maps(seed) for seed in range(4)], []
    for m in fixtures:
        raw = call(answer, *(a.copy() for a in m))
        if isinstance(raw, (tuple, list)) and any(entry is ... for entry in raw):
            raise NotAttempted
        try:
            t, got = (number(entry) for entry in raw)
        except (TypeError, ValueError, Wrong):
            return "format", {"got": str(raw)[:60]}
        found.append((t, got))
    want = [honest(*m) for m in fixtures]
    if near(found, want):
        return "right"
    k = next(k for k, pair in enumerate(found) if not near(pair, want[k]))
    told = {"expected": want[k][0], "dice": want[k][1], "got": found[k][0], "found": found[k][1]}
    for ways in zip(*map(_mistakes, fixtures), strict=True):
        if near(found, [way[2:] for way in ways]):
            return ways[0][0], told | {"what": ways[0][1]}
    chosen = [pair[0] for pair in found]
    if np.isnan(found).any():
        return "slices"
    if near(chosen, [_best(m.maps, m.truth, m.thresholds) for m in fixtures]):
        return "test", told
    trios = zip(fixtures, found, want, strict=True)
    if all(
        near((_overlap(*m[:2], t), _overlap(*m[2:4], t)), (_overlap(*m[:2], best), value))
        for m, (t, value), (best, _) in trios
    ):
        return "last", told
    return "other", told


# --- 2: a residual ---


@cache
def _drawings() -> tuple[ndarray, ndarray, ndarray]:
    """Slices, drawings whose edges lie elsewhere, and lesions: 1 bright, −1 dark, 0 none."""
    rng = np.random.default_rng(0)
    count, side = 16, 48
    row, column = np.mgrid[:side, :side] - side / 2
    x, x_hat, lesion = (np.zeros((count, side, side)) for _ in range(3))
    for k in range(count):
        folds = ndimage.gaussian_filter(rng.standard_normal((side, side)), 1)
        head = np.hypot(row / 1.15, column) < 18 + rng.uniform(-1, 1)
        inner = 0.5 + 0.2 * (folds > 0) - 0.2 * (folds > folds.std())
        move = rng.choice([-1, 1], 2) * rng.uniform(0.6, 1, 2)
        x_hat[k] = head * ndimage.shift(inner, move, order=1, mode="nearest")
        for _ in range(2):
            at, radius = rng.uniform(-10, 10, 2), rng.uniform(3, 5)
            lesion[k][np.hypot(row - at[0], column - at[1]) < radius] = rng.choice([-1, 1])
        x[k] = head * inner + 0.12 * lesion[k] + 0.03 * rng.standard_normal((side, side))
    return x, x_hat, lesion


def _precision(maps: ndarray, lesion: ndarray, sign: int = 0) -> float:
    """Average precision of all lesions, or of those of one sign, the others left out."""
    counted = lesion * sign >= 0
    return float(average_precision_score(lesion[counted] != 0, maps[counted]))


@exercise("anomalies.2", MESSAGES["anomalies.2"])
def residual_score(answer) -> Verdict:
    x, x_hat, lesion = _drawings()

    def scored(a: ndarray, b: ndarray) -> ndarray:
        raw = _arrays(call(answer, a.copy(), b.copy()))
        told = {"shape": a.shape, "got": getattr(raw, "shape", type(raw).__name__)}
        try:
            maps = np.asarray(raw, float)
        except (TypeError, ValueError):
            raise Wrong("format", **told) from None
        if maps.shape != a.shape:
            raise Wrong("format", **told)
        return maps

    maps = scored(x, x_hat)
    if not np.isfinite(maps).all():
        return "nan"
    some = [5, 2, 9]
    if not np.allclose(scored(x[some], x_hat[some]), maps[some], rtol=1e-4, atol=1e-6):
        return "alone"
    if np.allclose(scored(x, x_hat[::-1]), maps, rtol=1e-4, atol=1e-6):
        return "no drawing"
    if np.allclose(scored(x[::-1], x_hat), maps, rtol=1e-4, atol=1e-6):
        return "no image"
    told = {"got": _precision(maps, lesion), "plain": _precision(abs(x - x_hat), lesion)}
    told |= {"bright": _precision(maps, lesion, 1), "dark": _precision(maps, lesion, -1)}
    told |= {"least": LEAST}
    if told["got"] >= LEAST:
        return "right", told
    if told["bright"] > 5 * told["dark"]:
        return "low side", told
    if told["dark"] > 5 * told["bright"]:
        return "high side", told
    if _precision(-maps, lesion) > told["got"]:
        return "upside down"
    residual, nothing = x - x_hat, np.zeros_like(x)
    bare = np.allclose(scored(abs(residual), nothing), scored(residual, nothing))
    return ("edges" if bare else "close"), told  # bare: blurred, if at all, without its signs


# --- 3: matched pairs ---


def _slices(seed: int) -> tuple[ndarray, ndarray, ndarray, ndarray, float]:
    """Ill or not, scores with ties, whole heights so that many pairs lie at the limit, scanners."""
    rng = np.random.default_rng(seed)
    ill = (rng.random(60) < 0.35).astype(int)
    heights = rng.integers(-30, 40, 60).astype(float)
    sites = rng.choice(["North", "Harbour", "Valley"], 60)
    scores = 0.02 * heights + 0.4 * ill + 0.3 * (sites == "Valley") + rng.normal(0, 0.4, 60)
    return ill, np.round(scores, 1), heights, sites, [6.0, 11.0][seed % 2]


def auc_matched(
    ill: ndarray, scores: ndarray, heights: ndarray, sites: ndarray, apart: float
) -> float:
    """The share of pairs won, of those from one scanner and at most `apart` from each other."""
    gap = heights[ill == 1][:, None] - heights[ill == 0]
    like = (abs(gap) <= apart) & (sites[ill == 1][:, None] == sites[ill == 0])
    return float(_won(scores, ill)[like].mean()) if like.any() else float("nan")


def _won(scores: ndarray, ill: ndarray, tie: float = 0.5) -> ndarray:
    """(ill, healthy): 1 for a pair won, `tie` for equal scores."""
    a, b = scores[ill == 1][:, None], scores[ill == 0]
    return np.where(a == b, tie, a > b)


@exercise("anomalies.3", MESSAGES["anomalies.3"])
def matched_pairs(answer) -> Verdict:
    for seed in (0, 1, 2):
        given = _slices(seed)
        ill, scores, heights, sites, apart = given
        raw = call(answer, *(a.copy() if isinstance(a, ndarray) else a for a in given))
        try:
            got = number(raw)
        except Wrong:
            return "format", {"got": type(raw).__name__}
        want = auc_matched(*given)
        if near(got, want):
            continue
        gap = heights[ill == 1][:, None] - heights[ill == 0]
        one = sites[ill == 1][:, None] == sites[ill == 0]
        like, won = one & (abs(gap) <= apart), _won(scores, ill)
        some, equal = like.any(1), _won(scores, ill, 9) == 9
        band = np.floor(heights / apart)
        shares = [w[n].mean() for w, n in zip(won[some], like[some], strict=True)]
        wrong = {
            "all": won.mean(),
            "heights": won[abs(gap) <= apart].mean(),
            "sites": won[one].mean(),
            "either": won[one | (abs(gap) <= apart)].mean(),
            "strict": won[one & (abs(gap) < apart)].mean(),
            "ties lost": _won(scores, ill, 0)[like].mean(),
            "ties won": _won(scores, ill, 1)[like].mean(),
            "ties out": won[like & ~equal].mean(),
            "reversed": _won(-scores, ill)[like].mean(),
            "per slice": np.mean(shares),
            "count": won[like].sum(),
            "all pairs": won[like].sum() / won.size,
            "bands": won[one & (band[ill == 1][:, None] == band[ill == 0])].mean(),
        }
        signed = [won[one & (gap <= apart)].mean(), won[one & (gap >= -apart)].mean()]
        signed += [won[one & (side >= 0) & (side <= apart)].mean() for side in (gap, -gap)]
        if any(near(got, value) for value in signed):
            return "signed"
        return first_match(got, wrong), {"apart": apart, "expected": want, "got": got}
    return "right"


# --- 4: noise rates ---


@exercise("anomalies.4", MESSAGES["anomalies.4"])
def noise_rates(answer) -> Verdict:
    for steps in (10, 3, 250):
        raw = _arrays(call(answer, steps))
        told: dict[str, Any] = {"steps": steps}
        try:
            beta = np.asarray(raw, float).flatten()
        except (TypeError, ValueError):
            return "format", told | {"got": type(raw).__name__}
        if beta.shape != (steps,):
            return "format", told | {"got": beta.size}
        if not ((beta > 0) & (beta < 1)).all():
            return "range", {"got": beta[~((beta > 0) & (beta < 1))][0]}
        if _even(beta / (1 - beta)) and beta[0] > beta[-1]:
            return "alpha bar"
        if near(beta[0], 0.999) and beta[-1] < 0.999:
            return "alpha"
        left = np.cumprod(1 - beta)
        if near(beta[-1], 0.001) and beta[0] > 0.01:
            return "reversed"
        if not near(left[0], 0.999, rel=1e-5):
            return "first", {"got": left[0]}
        if _even(left, log=False):
            return "even alpha"
        if _even(left):
            return "even log alpha"
        if _even(beta, log=False):
            return "even rates"
        if not 0.001 < left[-1] < 0.01:
            return "last", {"got": left[-1]}
        falls = -np.diff(np.log(left / (1 - left)))
        if falls.max() - falls.min() > 0.01 * falls.mean():
            return "uneven", told | {"least": falls.min(), "most": falls.max()}
    return "right"


def rates(steps: int) -> Tensor:
    """One right answer: alpha bar from 0.999 to 0.005."""
    low, high = np.log([0.005 / 0.995, 0.999 / 0.001])
    left = torch.linspace(high, low, steps, dtype=torch.float64).sigmoid()
    return (1 - left / torch.cat([torch.ones(1), left[:-1]])).float()


def _even(values: ndarray, log: bool = True) -> bool:
    """Whether neighbours differ by one step, of the logarithms if so asked."""
    steps = np.diff(np.log(values) if log else values)
    return bool(np.ptp(steps) <= 0.01 * abs(steps.mean()))


# --- 5: a step of training ---


def train_step(
    guess: Callable,
    adam: torch.optim.Optimizer,
    x0: Tensor,
    left: Tensor,
    t: Tensor,
    noise: Tensor,
) -> float:
    """One step of the optimiser; returns the mean squared error of the guessed noise."""
    kept = left[t].view(-1, 1, 1, 1)
    loss = (guess(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t) - noise).square().mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
    return loss.item()


class _Asked(NamedTuple):
    """What `train_step` gets beside network and optimiser; one step comes twice."""

    x0: Tensor
    left: Tensor
    t: Tensor
    noise: Tensor


def _asked() -> _Asked:
    rng = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(5, 1, 3, 4, generator=rng) for _ in range(2))
    left = torch.tensor([0.97, 0.9, 0.75, 0.55, 0.4, 0.2, 0.05])
    return _Asked(0.7 * x0 + 0.4, left, torch.tensor([6, 0, 3, 3, 1]), noise)


class _Net:
    """A network of one weight with an old gradient, what it was asked, and what came to it.

    `log` holds "backward" for each gradient that reached the weight, and for each step of the
    optimiser the gradient that it found, 0 for none.
    """

    def __init__(self) -> None:
        self.weight = torch.tensor(0.6, requires_grad=True)
        self.weight.grad = torch.tensor(0.5)
        self.sgd = torch.optim.SGD([self.weight], lr=0.1)
        self.seen: list[tuple[Tensor, ndarray]] = []
        self.log: list[str | float] = []
        self.weight.register_hook(lambda _: self.log.append("backward"))
        self.sgd.register_step_pre_hook(lambda *_: self.log.append(self.gradient()))

    def gradient(self) -> float:
        return 0.0 if self.weight.grad is None else float(self.weight.grad)

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        self.seen.append((x.detach().clone(), np.array(_arrays(t))))
        return self.weight * x * (1 + 0.05 * _asked().t.view(-1, 1, 1, 1)) - 0.1


@exercise("anomalies.5", MESSAGES["anomalies.5"])
def one_step(answer) -> Verdict:
    nets, losses, (x0, left, t, noise) = [_Net(), _Net(), _Net()], [], _asked()
    for net in nets[:2]:
        raw = call(answer, net, net.sgd, *(a.clone() for a in _asked()))
        try:
            losses.append(number(raw))
        except Wrong:
            return "shape", {"got": getattr(raw, "shape", type(raw).__name__)}
    if not near(losses[0], losses[1]):
        return "random"
    if not nets[0].seen:
        return "not asked"
    got, (x, steps) = losses[0], nets[0].seen[0]
    want = train_step(nets[2], nets[2].sgd, x0, left, t, noise)
    moved, expected = (float(net.weight.detach() - 0.6) for net in nets[1:])
    if not near(got, want, rel=1e-4):
        return _lost(x, got, want)
    if not near(steps, t):
        return "steps"
    if near(moved, expected):
        return "right"
    return _moved(nets[0].log, moved, expected)


def _moved(log: list[str | float], moved: float, expected: float) -> Verdict:
    """Why the weight moved by another amount than it should, though the loss is right."""
    steps = [entry for entry in log if entry != "backward"]
    if "backward" not in log:
        return "no backward"
    if not steps:
        return "no step"
    if log[0] != "backward":
        return "early"
    if steps[0] == 0:
        return "zeroed"
    key = first_match(moved, {"stale": expected - 0.05, "twice": 2 * expected})
    return "other step" if key == "other" else key, {"moved": moved, "expected": expected}


def _lost(x: Tensor, got: float, want: float) -> Verdict:
    """Why the loss is another one than it should be, from it and from what the network saw."""
    x0, left, t, noise = _asked()
    if x.shape != x0.shape:
        return "pairs", {"shape": tuple(x.shape)}
    a, b = _factors(left[t])
    kept, first = left[t].view(-1, 1, 1, 1), left[t[0]]
    others: dict[str, list[tuple[Any, Any]]] = {
        "clean": [(1, 0)],
        "one step": [(first.sqrt(), (1 - first).sqrt())],
        "no root": [(kept, 1 - kept), (a, 1 - kept), (kept, b)],
        "one minus": [(a, 1 - a)],
        "swapped": [(b, a)],
        "unscaled": [(1, b), (a, 1), (1, 1)],
        "minus": [(a, -b)],
        "neighbour": [_factors(left[t - 1])],
        "beta": [_factors(left.cumprod(0)[t]), _factors((1 - left).cumprod(0)[t])],
    }
    for key, pairs in others.items():
        if any(near(x, m * x0 + n * noise, absolute=1e-5) for m, n in pairs):
            return key
    noisy = a * x0 + b * noise
    guess = _Net()(noisy, t).detach()
    error = (guess - noise).square()
    known = {
        "target": (guess - x0).square().mean(),
        "noisy": (guess - noisy).square().mean(),
        "share": (guess - b * noise).square().mean(),
        "difference": (guess - noisy + x0).square().mean(),
        "absolute": (guess - noise).abs().mean(),
        "root": error.mean().sqrt(),
        "half": error.mean() / 2,
    }
    summed = any(near(got, v) for v in (error.sum(), error.sum() / len(x0)))
    return "sum" if summed else first_match(got, known), {"expected": want, "got": got}


def _factors(kept: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) shares of variance to the factors of picture and noise, each (N, 1, 1, 1)."""
    return kept.view(-1, 1, 1, 1).sqrt(), (1 - kept).view(-1, 1, 1, 1).sqrt()


# --- 6: the way back ---


class _Start(NamedTuple):
    """What `draw` gets beside its network."""

    x: Tensor
    beta: Tensor
    z: Tensor


def _start(steps: int) -> _Start:
    rng = torch.Generator().manual_seed(steps)
    x, z = torch.randn(4, 3, generator=rng), torch.randn(steps, 4, 3, generator=rng)
    return _Start(x, 0.02 + 0.4 * torch.rand(steps, generator=rng), z)


def _perfect(beta: Tensor, x: Tensor, t: int) -> Tensor:
    """The best guess for numbers of mean 3 and standard deviation 0.5."""
    a = torch.cumprod(1 - beta, 0)[t]
    return (1 - a).sqrt() * (x - 3 * a.sqrt()) / (0.25 * a + 1 - a)


def draw(guess: Callable, x: Tensor, beta: Tensor, z: Tensor) -> Tensor:
    """The chain of steps back from x to the last x."""
    return _chain(guess, x, beta, z)[-1]


# Wrong factors of the guess, as messages call them
SHARES = {"root": "√β_t", "rate": "β_t", "no root below": "β_t / (1 − ᾱ_t)"}
SHARES |= {"one minus": "(1 − β_t) / √(1 − ᾱ_t)"}


@torch.no_grad()
def _chain(guess: Callable, x: Tensor, beta: Tensor, z: Tensor, how: str = "") -> list[Tensor]:
    """All x on the way back, the given one first; `how` is one of the usual mistakes."""
    beta = 1 - beta if how == "alpha" else beta
    left = torch.cumprod(beta if how == "rates" else 1 - beta, 0)
    chain = [x]
    for k, t in enumerate(_times(len(beta), how)):
        before = left[t - 1] if t or how == "wrap" else torch.ones(())
        before = before * (t > 0 or how != "nothing before")
        root, share = (1 - beta[t]).sqrt(), beta[t] / (1 - left[t]).sqrt()
        factors = {
            "root": beta[t].sqrt(),
            "rate": beta[t],
            "no root below": beta[t] / (1 - left[t]),
            "one minus": (1 - beta[t]) / (1 - left[t]).sqrt(),
        }
        factors |= {"all": (1 - left[t]).sqrt(), "plus": -share}
        variance = beta[t] * (1 - before) / (1 - left[t])
        if how == "beta" or (how == "last noise" and t == 0):
            variance = beta[t]
        if how == "beta itself":
            variance = beta[t] ** 2
        if how == "beta but the last":
            variance = beta[t] * (t > 0)
        if how == "ratio":
            variance = beta[t] * (1 - left[t]) / (1 - before)
        spread = (variance if how == "variance" else variance.sqrt()) * (how != "no noise")
        noise = spread * z[{"z order": k, "z before": t - 1}.get(how, t)]
        divisors = {"no division": 1.0, "no root": root**2, "multiplied": 1 / root}
        divisor = (divisors | {"all steps": left[t].sqrt()}).get(how, root)
        taken = factors.get(how, share) * guess(x, t)
        if how == "x alone":
            x = x / root - taken + noise
        elif how == "jump":
            x = (x - (1 - left[t]).sqrt() * guess(x, t)) / left[t].sqrt()
            x = before.sqrt() * x + (1 - before).sqrt() * z[t]
        else:
            x = (x - taken) / divisor + noise / (root if how == "noise too" else 1)
        chain.append(x)
    return chain


def _times(steps: int, how: str = "") -> list[int]:
    """The positions of a chain in their order."""
    times = list(range(steps))[::-1]
    return {"order": times[::-1], "stopped": times[:-1], "late": times[1:]}.get(how, times)


# How a chain goes wrong, and the key of its message
WAYS = {how: how for how in ("order", "no noise", "last noise", "beta", "variance", "z order")}
WAYS |= {how: how for how in ("no division", "no root", "multiplied", "x alone", "noise too")}
WAYS |= {how: how for how in ("rates", "wrap", "ratio", "plus", "all", "jump", "stopped")}
WAYS |= {how: how for how in ("all steps", "alpha", "z before")}
WAYS |= dict.fromkeys(SHARES, "share") | {"late": "stopped", "beta but the last": "beta"}
WAYS |= {"nothing before": "last noise", "beta itself": "variance"}


@exercise("anomalies.6", MESSAGES["anomalies.6"])
def way_back(answer) -> Verdict:
    for steps in (7, 12):
        x, beta, z = _start(steps)
        given = _Start(x.clone(), beta.clone(), z.clone())
        seen: list[int] = []
        xs: list[Tensor] = []
        perfect = partial(_perfect, beta)

        def guess(
            x: Tensor, t: Any, beta: Tensor = beta, seen: list = seen, xs: list = xs
        ) -> Tensor:
            seen.append(int(t))
            xs.append(x.clone())
            return _perfect(beta, x, min(max(int(t), 0), len(beta) - 1))

        raw = call(answer, guess, *given)
        if isinstance(raw, (list, tuple)) and len(raw) in (steps, steps + 1):
            return "list"
        raw = _arrays(raw)
        got = np.asarray(raw) if hasattr(raw, "shape") else np.zeros(0)
        if got.shape != tuple(x.shape):
            told = getattr(raw, "shape", type(raw).__name__)
            return "format", {"shape": tuple(x.shape), "got": told}
        want = draw(perfect, x, beta, z)
        if near(got, want, absolute=1e-4):
            if not all(torch.equal(a, b) for a, b in zip(given, (x, beta, z), strict=True)):
                return "changed"
            continue
        return _strayed(answer, seen, [*xs, torch.from_numpy(got)], _Start(x, beta, z), want)
    return "right"


def _strayed(
    answer: Callable, seen: list[int], xs: list[Tensor], start: _Start, want: Tensor
) -> Verdict:
    """Why the last of `xs` is not what it should be; `seen` are the network's positions."""
    x, beta, z = start
    steps, got = len(beta), xs[-1]
    if not seen:
        return "not asked"
    visited = [t for t, before in zip(seen, [None, *seen], strict=False) if t != before]
    if min(visited) < 0 or max(visited) >= steps or len(set(visited)) < len(visited):
        return "times"
    # Where the end is no number, what came before it tells
    ends = slice(-1, None) if got.isfinite().all() else slice(0, -1)
    for how, key in WAYS.items():
        chain = _chain(partial(_perfect, beta), x, beta, z, how)
        pairs = list(zip(xs[ends], chain[ends], strict=False))
        alike = all(near(a, b, absolute=1e-4) for a, b in pairs)
        if visited == _times(steps, how) and alike:
            return key, {"what": SHARES.get(how, "")}
    if not got.isfinite().all():
        return "nan"
    again = call(answer, partial(_perfect, beta), x.clone(), beta.clone(), z.clone())
    if not near(again, got, absolute=1e-4):
        return "random"
    if not near(xs[0], x):
        return "start"
    if visited != _times(steps):
        return "times"
    first = {"expected": f"{want.flatten()[0]:.4f}", "got": f"{got.flatten()[0]:.4f}"}
    return "other", {"steps": steps} | first
