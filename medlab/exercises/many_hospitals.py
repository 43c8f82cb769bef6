"""Exercises of notebook 29: leave one out, claims, two kinds of pairs, remedies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor, nn

from medlab import metrics, plotting
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

MESSAGES = {
    "many_hospitals.1": {
        "right": "nobody who was ever seen at the hospital is learnt from, and all of its images "
        "judge.",
        "format": "I expected a dictionary with a pair (learn, test) of positions for each "
        "hospital; got {got}.",
        "hospitals": "the keys should be the hospitals {expected}; got {got}.",
        "positions": "{site}: positions are whole numbers from 0 to {last}, or N times True or "
        "False; got {got}.",
        "twice": "{site}: a position stands more than once in your {part} rows.",
        "swapped": "{site}: you return (test, learn). I asked for (learn, test).",
        "both": "{site}: image {image} is learnt from and tested on.",
        "patient": "{site}: image {image} was taken elsewhere, but its patient was X-rayed there "
        "too. Nothing of such a patient may be learnt from.",
        "few tests": "{site}: test on *all* images of the hospital; image {image} is missing.",
        "elsewhere": "{site}: image {image} was not taken there, and you test on it.",
        "few": "{site}: image {image} is of a patient who was never there, and you do not learn "
        "from it.",
    },
    "many_hospitals.2": {
        "right": "another training and other patients both have to agree.",
        "format": "I expected True or False; got {got}.",
        "opposite": "you return True where nothing may be claimed, and False where it may.",
        "seeds": "you asked the seeds only. The interval has to exclude 0 too.",
        "interval": "you asked the interval only. All seeds need the same sign too.",
        "either": "one of the two was enough for you. Both are asked for.",
        "gains": "you claim gains only. A loss with every seed, its interval below 0, is an effect "
        "too.",
        "each": "you asked for an interval beyond 0 of every seed. I asked for that of their mean.",
        "ends": "you averaged the ends of the seeds' intervals. Average the rows first: luck with "
        "the patients differs from row to row, and their mean varies less.",
        "together": "you took the quantiles of all rows together. Average the rows first.",
        "ninety": "your interval holds 90 %. That of 95 % goes from the 2.5 % to the 97.5 % "
        "quantile.",
        "zero": "0 has no sign, and an interval that ends at 0 does not exclude it.",
        "other": "seeds {seeds}, interval of their mean {low:.3f} to {high:.3f}: I expected "
        "{expected}; got {got}.",
    },
    "many_hospitals.3": {
        "right": "the pooled AUC is a mixture of two answers, and the second needs radiographs "
        "less.",
        "format": "I expected two numbers, (within, between); got {got}.",
        "swapped": "these are (between, within). I asked for (within, between).",
        "mean": "you averaged the AUCs of the hospitals. Every pair counts the same: all pairs "
        "won within a hospital over all such pairs.",
        "all": "{got:.4f} is the AUC of all pairs.",
        "ties lost": "a pair with equal scores counts one half; with you it is lost.",
        "ties won": "a pair with equal scores counts one half; with you it is won.",
        "ties out": "you left out pairs with equal scores. They count one half.",
        "reversed": "you counted the pairs in which the *healthy* image scores higher.",
        "shares": "you divided by the number of all pairs, within and between. Divide each by the "
        "number of pairs of its kind.",
        "other": "I expected {within:.4f} and {between:.4f}; got {got}.",
    },
    "many_hospitals.4": {
        "right": "means and variances of the new images, everything else as it was.",
        "model": "return the model, a copy of the one given; got {got}.",
        "gone": "{name} is gone: without remembered values a normalisation measures each batch "
        "anew, one patient's too. Keep `track_running_stats`, and let the pass fill the memory.",
        "original": "you changed the model that was given ({name}). Work on a copy.",
        "weights": "{name} has changed. Only the remembered means and variances may.",
        "mode": "the model that you return is in training mode. It would go on learning means and "
        "variances, and drop values out.",
        "grad": "{name} no longer learns: leave `requires_grad` as it was.",
        "setting": "the {name} of a normalisation differs from before. Put back what you changed "
        "for the pass, and leave out what is not needed to answer.",
        "nothing": "{name} is what it was: nothing was estimated.",
        "memory": "{name} is a mixture of old and new: batch normalisation moves its memory by a "
        "tenth of the way. Ask for all of the way: momentum 1, or a reset and momentum None.",
        "count": "{name} is an average of new values and of old ones, which `momentum = None` "
        "counts in. Reset first: `reset_running_stats()`.",
        "dropout": "dropout was active during the pass: your values differ from call to call. "
        "Only the normalisations go into training mode.",
        "upstream": "the first normalisation is right, but {name} was measured while those before "
        "it still used their old values.",
        "parts": "{name} stems from a part of the images. Estimate from all of them, in one pass.",
        "batches": "{name} is an average over several passes. The variance within a batch knows "
        "nothing of what lies between batches: send all images through in *one* pass.",
        "other": "{name} should begin with {expected}; got {got}.",
    },
    "many_hospitals.5": {
        "right": "one rule for all images of the hospital, and it never turns darker into lighter.",
        "format": "I expected an array of shape {shape}, as the images have (they change, the "
        "reference does not); got {got}.",
        "same": "the images are what they were.",
        "each": "the same grey level became {a:.3f} in one image and {b:.3f} in another. Match all "
        "images of the hospital together: one that is bright because of pneumonia should stay so.",
        "ties": "pixels of the same grey level in one image became {a:.3f} and {b:.3f}.",
        "order": "a darker pixel became the lighter one: sort the quantiles, and give np.interp "
        "(images, own, wanted).",
        "swapped": "you looked the levels up in the reference and read them off the hospital. It "
        "is the other way round: np.interp(images, own, wanted).",
        "moments": "mean and spread agree with the reference, the histogram does not: its "
        "{share:.0%} quantile should be {expected:.3f}, and is {got:.3f}.",
        "far": "the {share:.0%} quantile should be {expected:.3f}, as in the reference, and is "
        "{got:.3f}.",
    },
    "many_hospitals.6": {
        "right": "each hospital's healthy and ill have the same weight, so that its prevalence "
        "does not count as its scanner.",
        "format": "I expected an array of shape {shape}; got {got}.",
        "nan": "a feature that never changes at a hospital has spread 0, and you divided by it. "
        "There the result is 0.",
        "plain": "you took the mean of all images of a hospital: where more are ill, it lies "
        "nearer to the ill, and is taken away. Average the two class means.",
        "overall": "your spread is right, but the mean is that of all images of a hospital: where "
        "more are ill, it lies nearer to the ill. Average the two class means.",
        "all images": "your mean is right, but the spread is that of all images, which grows with "
        "the distance between the classes. Take the mean of the two classes' variances.",
        "together": "you took mean and spread over all hospitals together.",
        "classes": "you shifted healthy and ill each by their own mean: nothing is left to tell "
        "them apart by.",
        "healthy": "you took mean and spread of the healthy alone.",
        "no spread": "the means agree. Divide by the spread too.",
        "spreads": "you averaged the two standard deviations. Average the variances, then take "
        "the root.",
        "variance": "you divided by the variance, not by its root.",
        "other": "at {site} I expected {expected}, and got {got}.",
    },
}


def _hospitals(answer: Any, names: ndarray) -> dict[str, Any]:
    """An answer's dictionary with text for keys, as many as there are hospitals."""
    if not isinstance(answer, dict):
        raise Wrong("format", got=type(answer).__name__)
    if any(value is ... for value in answer.values()):
        raise NotAttempted
    got = {str(key): value for key, value in answer.items()}
    if sorted(got) != sorted(names):
        raise Wrong("hospitals", expected=", ".join(names), got=", ".join(sorted(got)) or "none")
    return got


# ------------------------------------------------------------------------------------ 1


def leave_one_out(sites: ndarray, patients: ndarray) -> dict[str, tuple[ndarray, ndarray]]:
    """For each hospital, positions to learn from (nobody seen there) and those of its images."""
    parts = {}
    for site in np.unique(sites):
        here = sites == site
        known = np.isin(patients, patients[here])
        parts[site] = np.flatnonzero(~known), np.flatnonzero(here)
    return parts


@exercise("many_hospitals.1", MESSAGES["many_hospitals.1"])
def splits(answer) -> Verdict:
    for pair in (("BACABCAABDD", "qptqrptssuv"), ("YXXYXZZYX", "edcbafgea")):
        sites, patients = (np.array(list(text)) for text in pair)
        made = call(answer, sites.copy(), patients.copy())
        for site, parts in _hospitals(made, np.unique(sites)).items():
            if not isinstance(parts, tuple | list) or len(parts) != 2:
                return "format", {"got": f"{type(parts).__name__} for {site}"}
            learn, test = (_positions(rows, site, len(sites)) for rows in parts)
            verdict = _split_fault(learn, test, sites == site, patients)
            if verdict != "right":
                key, values = verdict if isinstance(verdict, tuple) else (verdict, {})
                return key, {"site": site, **values}
    return "right"


def _positions(rows: Any, site: str, n: int) -> list[int]:
    try:
        array = np.asarray(rows)
        if array.dtype == bool and array.shape == (n,):
            array = np.flatnonzero(array)
        found = [int(row) for row in array]
        usable = array.ndim == 1 and bool(np.all(array == found))
    except (TypeError, ValueError):
        usable = False
    if not usable or not all(0 <= row < n for row in found):
        told = f"{type(rows).__name__} {str(rows)[:40]}"
        raise Wrong("positions", site=site, last=n - 1, got=told)
    return found


def _split_fault(learn: list[int], test: list[int], here: ndarray, patients: ndarray) -> Verdict:
    for part, positions in (("learn", learn), ("test", test)):
        if len(set(positions)) < len(positions):
            return "twice", {"part": part}
    rows = set(np.flatnonzero(here).tolist())
    if set(learn) == rows and set(test).isdisjoint(rows):
        return "swapped"
    if both := sorted(set(learn) & set(test)):
        return "both", {"image": both[0]}
    if lost := sorted(rows - set(test)):
        return "few tests", {"image": lost[0]}
    if others := sorted(set(test) - rows):
        return "elsewhere", {"image": others[0]}
    known = set(np.flatnonzero(np.isin(patients, patients[here])).tolist())
    if leaks := sorted(set(learn) & known):
        return "patient", {"image": leaks[0]}
    if unused := sorted(set(range(len(here))) - known - set(learn)):
        return "few", {"image": unused[0]}
    return "right"


# ------------------------------------------------------------------------------------ 2


def claimed(values: ndarray) -> bool:
    """Whether all seeds (seeds, B) have one sign, and the interval of their mean excludes 0."""
    signs = np.sign(values[:, 0])
    _, low, high = interval(values)
    return bool(abs(signs.sum()) == len(signs) and (low > 0 or high < 0))


def _effects() -> list[ndarray]:
    """Differences of three seeds (3, 400), each also with the other sign."""
    rng = np.random.default_rng(0)
    own, common = rng.standard_normal((3, 399)), np.linspace(-2.3, 2.3, 399)
    made = [
        np.c_[seeds, np.array(seeds)[:, None] + np.array(spread)[..., None] * noise]
        for seeds, spread, noise in (
            ([0.04, 0.06, 0.11], 0.01, own),
            ([0.12, -0.01, 0.09], 0.01, own),
            ([0.09, 0.12, -0.01], 0.01, own),
            ([0.02, 0.03, 0.01], 0.05, own),
            ([0.02, -0.03, 0.01], 0.05, own),
            ([0.03, 0.08, 0.07], 0.035, own),
            ([0.03, 0.2, 0.2], 0.025, own),
            ([0.04, 0.2, 0.2], 0.025, own),
            ([0.03, 0.04, 0.035], 0.01609, common),  # 2.7 % of it lie below 0
            ([0.03, 0.04, 0.035], 0.01595, common),  # 2.3 % of it do
            ([0.0, 0.05, 0.06], 0.005, own),
            ([0.05, 0.05, 0.02], [0.005, 0.005, 0.3], own),  # the mean varies, the median not
        )
    ]
    made[0][0, 1] = -0.01  # the first resample is not the patients as they are
    seldom = made[0].copy()
    seldom[:, 1:20] = 0  # its interval begins at 0
    made.append(seldom)
    return [sign * values for sign in (1, -1) for values in made]


@exercise("many_hospitals.2", MESSAGES["many_hospitals.2"])
def claims(answer) -> Verdict:
    effects = _effects()
    got = []
    for values in effects:
        said = call(answer, values.copy())
        if isinstance(said, tuple | list) and any(part is ... for part in said):
            raise NotAttempted
        if np.shape(said) or said not in (False, True):
            return "format", {"got": f"{type(said).__name__} {str(said)[:40]}"}
        got.append(bool(said))
    want = [claimed(values) for values in effects]
    if got == want:
        return "right"
    for key, rule in _WRONG_CLAIMS.items():
        if got == [bool(rule(values)) for values in effects]:
            return key
    k = next(k for k in range(len(want)) if got[k] != want[k])
    _, low, high = interval(effects[k])
    told = {"seeds": effects[k][:, 0].round(3).tolist(), "low": low, "high": high}
    return "other", told | {"expected": want[k], "got": got[k]}


def _one_sign(values: ndarray) -> bool:
    return abs(np.sign(values[:, 0]).sum()) == len(values)


def _beyond(values: ndarray, share: float = 0.025) -> ndarray:
    """Whether the quantiles of each row (…, B) lie on one side of 0."""
    low, high = np.quantile(values, [share, 1 - share], axis=-1)
    return (low > 0) | (high < 0)


def _with_zero(values: ndarray) -> bool:
    seeds, (_, low, high) = values[:, 0], interval(values)
    return bool((seeds >= 0).all() and low >= 0) or bool((seeds <= 0).all() and high <= 0)


def _of_ends(values: ndarray) -> bool:
    low, high = np.quantile(values[:, 1:], [0.025, 0.975], axis=1).mean(1)
    return _one_sign(values) and bool(low > 0 or high < 0)


_WRONG_CLAIMS: dict[str, Callable[[ndarray], Any]] = {
    "opposite": lambda v: not claimed(v),
    "seeds": _one_sign,
    "interval": lambda v: _beyond(v[:, 1:].mean(0)),
    "either": lambda v: _one_sign(v) or _beyond(v[:, 1:].mean(0)),
    "gains": lambda v: claimed(v) and v[0, 0] > 0,
    "each": lambda v: _one_sign(v) and _beyond(v[:, 1:]).all(),
    "ends": _of_ends,
    "together": lambda v: _one_sign(v) and _beyond(v[:, 1:].ravel()),
    "ninety": lambda v: _one_sign(v) and _beyond(v[:, 1:].mean(0), 0.05),
    "zero": _with_zero,
}


# ------------------------------------------------------------------------------------ 3


def two_kinds(labels: ndarray, scores: ndarray, sites: ndarray) -> tuple[float, float]:
    """Share of pairs (ill, healthy) won, ties half: of one hospital, and of two hospitals."""
    ill, well = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    lead = scores[ill][:, None] - scores[well]
    won = (lead > 0) + 0.5 * (lead == 0)
    same = sites[ill][:, None] == sites[well]
    return won[same].mean(), won[~same].mean()


def _pairs(seed: int) -> tuple[ndarray, ndarray, ndarray]:
    """Labels, scores with ties, sites of three hospitals of unequal size and prevalence."""
    rng = np.random.default_rng(seed)
    sites = rng.permutation(np.repeat(["Coast", "Dale", "Ford"], [31, 17, 9]))
    share = np.select([sites == "Coast", sites == "Dale"], [0.25, 0.7], 0.5)
    labels = (rng.random(len(sites)) < share).astype(int)
    scores = np.round(rng.normal(size=len(sites)) + 0.6 * labels + 1.5 * share, 0)
    return labels, scores, sites


@exercise("many_hospitals.3", MESSAGES["many_hospitals.3"])
def kinds(answer) -> Verdict:
    for seed in (0, 1):
        labels, scores, sites = _pairs(seed)
        got = call(answer, labels.copy(), scores.copy(), sites.copy())
        if isinstance(got, tuple | list) and any(part is ... for part in got):
            raise NotAttempted
        try:
            pair = [number(part) for part in got]
        except TypeError:
            return "format", {"got": type(got).__name__}
        if len(pair) != 2:
            return "format", {"got": f"{len(pair)} numbers"}
        within, between = two_kinds(labels, scores, sites)
        if near(pair, [within, between]):
            continue
        key = first_match(pair, _wrong_pairs(labels, scores, sites))
        pooled = metrics.auc(labels, scores)
        if key == "other" and any(near(part, pooled) for part in pair):
            key = "all"
        told = ", ".join(f"{part:.4f}" for part in pair)
        values = {"within": within, "between": between, "got": told}
        return key, values | ({"got": pooled} if key == "all" else {})
    return "right"


def _wrong_pairs(labels: ndarray, scores: ndarray, sites: ndarray) -> dict[str, list[float]]:
    right = list(two_kinds(labels, scores, sites))
    ill, well = labels == 1, labels == 0
    lead = scores[ill][:, None] - scores[well]
    same = sites[ill][:, None] == sites[well]
    each = [metrics.auc(labels[sites == s], scores[sites == s]) for s in np.unique(sites)]

    def of(won: ndarray, kept: ndarray | bool = True) -> list[float]:
        return [won[part & kept].mean() for part in (same, ~same)]

    half = (lead > 0) + 0.5 * (lead == 0)
    return {
        "swapped": right[::-1],
        "mean": [float(np.mean(each)), right[1]],
        "ties lost": of(lead > 0),
        "ties won": of(lead >= 0),
        "ties out": of(lead > 0, lead != 0),
        "reversed": [1 - part for part in right],
        "shares": [(half * part).mean() for part in (same, ~same)],
    }


# ------------------------------------------------------------------------------------ 4


def renormalise(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy in which batch normalisation holds mean and variance of these images (N, C, H, W)."""
    return _measured(model, [images])


def _measured(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """The same from several passes: what batch normalisation remembers is their average."""
    model = copy.deepcopy(model).eval()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
    return model.eval()


def _network() -> nn.Sequential:
    """Two normalisations with a history, dropout between them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(2),
        )
        for _ in range(4):
            model(torch.randn(16, 1, 9, 9))
    return model.eval()


@exercise("many_hospitals.4", MESSAGES["many_hospitals.4"])
def renormalised(answer) -> Verdict:
    rng = torch.Generator().manual_seed(2)
    images = 3 + 2 * torch.randn((300, 1, 9, 9), generator=rng)
    images[150:] -= 4  # the first half is not like the whole
    for training in (False, True):
        model = _network().train(training)
        given, kept = model, copy.deepcopy(model)
        made = [call(answer, given, images.clone()) for _ in range(2)]
        verdict = _renormalised(made, given, kept, images)
        if verdict != "right":
            return verdict
    return "right"


def _renormalised(made: list, given: nn.Module, kept: nn.Module, images: Tensor) -> Verdict:
    old = kept.state_dict()
    for one in made:
        kept_names = list(one.state_dict()) if isinstance(one, nn.Module) else []
        lost = [name for name in old if name not in kept_names]
        if kept_names and lost and all(".running_" in n or "num_batches" in n for n in lost):
            return "gone", {"name": lost[0]}
        if kept_names != list(old):
            return "model", {"got": type(one).__name__}
    if made[0] is given:
        return "original", {"name": "it is the same object"}
    for name, value in given.state_dict().items():
        if not torch.equal(value, old[name]):
            return "original", {"name": name}
    new, again = (one.state_dict() for one in made)
    right = renormalise(kept, images).state_dict()
    for name, _ in kept.named_parameters():
        if not torch.equal(new[name], old[name]):
            return "weights", {"name": name}
    names = [n for n in old if n.endswith(("running_mean", "running_var"))]
    for name in names:
        if not torch.allclose(new[name], again[name]):
            return "dropout"
    for place, name in enumerate(names):
        if torch.allclose(new[name], right[name], rtol=2e-3, atol=1e-4):
            continue
        key = _mixture(name, new[name], old[name], right[name])
        if key == "other" and _of_part(name, new[name], kept, images):
            key = "parts"
        if key == "other" and _of_batches(name, new[name], kept, images):
            key = "batches"
        if key == "other" and place > 1:
            key = "upstream"
        told = [", ".join(f"{v:.3f}" for v in s[name][:2].tolist()) for s in (right, new)]
        return key, {"name": name, "expected": told[0], "got": told[1]}
    if any(layer.training for layer in made[0].modules()):
        return "mode"
    return _settings(made[0], kept)


def _settings(made: nn.Module, kept: nn.Module) -> Verdict:
    """What else a normalisation or a weight may have lost."""
    learns = dict(kept.named_parameters())
    for name, p in made.named_parameters():
        if p.requires_grad != learns[name].requires_grad:
            return "grad", {"name": name}
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.track_running_stats:
            return "setting", {"name": "track_running_stats"}
    return "right"


def _mixture(name: str, new: Tensor, old: Tensor, right: Tensor) -> str:
    fresh = torch.full_like(old, float(name.endswith("running_var")))  # after a reset
    wrong = {"count": old + (right - old) / 5}
    for k, start in enumerate((old, fresh)):
        wrong |= {f"nothing {k}": start, f"memory {k}": 0.9 * start + 0.1 * right}
    return first_match(new, wrong, rel=2e-3, absolute=1e-4).split()[0]


def _of_part(name: str, new: Tensor, kept: nn.Module, images: Tensor) -> bool:
    parts = [images[:n] for n in (1, 16, 32, 64, 100, 128, 150, 256)]
    parts += [images[-n:] for n in (16, 44, 32, 64, 100, 128, 150, 256)]
    made = [renormalise(kept, part).state_dict()[name] for part in parts]
    return any(torch.allclose(new, one, rtol=2e-3, atol=1e-4) for one in made)


def _of_batches(name: str, new: Tensor, kept: nn.Module, images: Tensor) -> bool:
    sizes = (8, 10, 16, 20, 25, 30, 32, 50, 60, 64, 75, 100, 128, 150, 200, 256)
    made = [_measured(kept, images.split(n)).state_dict()[name] for n in sizes]
    return any(torch.allclose(new, one, rtol=2e-3, atol=1e-4) for one in made)


# ------------------------------------------------------------------------------------ 5


def match(images: ndarray, reference: ndarray) -> ndarray:
    """Images whose pooled histogram is that of the reference images; one monotone rule for all."""
    shares = np.linspace(0, 1, 257)
    own, wanted = (np.quantile(x, shares) for x in (images, reference))
    return np.interp(images, own, wanted)


@exercise("many_hospitals.5", MESSAGES["many_hospitals.5"])
def matched(answer) -> Verdict:
    rng = np.random.default_rng(4)
    centres = np.array([0.3, 0.45, 0.38, 0.5, 0.33, 0.41]).reshape(6, 1, 1, 1)
    images = np.round(centres + 0.12 * rng.standard_normal((6, 1, 14, 15)), 2).clip(0, 1)
    reference = rng.beta(5, 1.5, (9, 1, 14, 15)) * 0.9 + 0.05
    got = call(answer, images.copy(), reference.copy())
    got = got.detach().numpy() if torch.is_tensor(got) else np.asarray(got)
    if got.shape != images.shape or got.dtype.kind not in "fiu":
        return "format", {"shape": images.shape, "got": f"{got.dtype} {got.shape}"}
    if np.allclose(got, images):
        return "same"
    flat = [np.unique(one) for one in images]
    for level in np.unique(images):
        values = [got[k][images[k] == level] for k in range(6) if level in flat[k]]
        spread = max(np.ptp(v) for v in values)
        ends = np.concatenate(values)
        if np.ptp(ends) > 1e-6:
            key = "ties" if spread > 1e-6 else "each"
            return key, {"a": float(ends.min()), "b": float(ends.max())}
    order = np.argsort(images, axis=None, kind="stable")
    if (np.diff(got.ravel()[order]) < -1e-9).any():
        return "order"
    return _quantile_fault(got, images, reference)


def _quantile_fault(got: ndarray, images: ndarray, reference: ndarray) -> Verdict:
    shares = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
    have, want = (np.quantile(x, shares) for x in (got, reference))
    apart = abs(have - want)
    if apart.max() < 0.012:
        return "right"
    k = int(apart.argmax())
    told = {"share": shares[k], "expected": want[k], "got": have[k]}
    levels = np.linspace(0, 1, 257)
    swapped = np.interp(images, np.quantile(reference, levels), np.quantile(images, levels))
    if abs(got - swapped).mean() < 0.1 * abs(got - match(images, reference)).mean():
        return "swapped"
    moments = [x.mean() for x in (got, reference)] + [x.std() for x in (got, reference)]
    if near(moments[0], moments[1], rel=1e-2) and near(moments[2], moments[3], rel=2e-2):
        return "moments", told
    return "far", told


# ------------------------------------------------------------------------------------ 6


def align(features: ndarray, sites: ndarray, labels: ndarray, ddof: int = 0) -> ndarray:
    """Features (N, D) less each hospital's mean over its spread, both classes of equal weight."""
    made = np.zeros(features.shape)
    for site in np.unique(sites):
        here = sites == site
        classes = [features[here & (labels == k)] for k in (0, 1)]
        centre = np.mean([part.mean(0) for part in classes], 0)
        spread = np.mean([part.var(0, ddof=ddof) for part in classes], 0) ** 0.5
        made[here] = (features[here] - centre) / np.where(spread > 1e-12, spread, 1)
    return made


@exercise("many_hospitals.6", MESSAGES["many_hospitals.6"])
def aligned(answer) -> Verdict:
    rng = np.random.default_rng(6)
    sites = rng.permutation(np.repeat(["Coast", "Dale", "Ford"], [26, 38, 17]))
    share, shift, scale = (
        np.select([sites == "Coast", sites == "Dale"], values[:2], values[2])
        for values in ((0.25, 0.75, 0.5), (-2.0, 1.0, 4.0), (0.5, 1.0, 3.0))
    )
    labels = (rng.random(len(sites)) < share).astype(int)
    normal = rng.standard_normal((len(sites), 3)) * np.where(labels, 1.8, 1.0)[:, None]
    features = shift[:, None] + scale[:, None] * (normal + 1.5 * labels[:, None])
    features[sites == "Ford", 2] = 0.75  # its mean has no rounding error, its spread is 0
    got = call(answer, features.copy(), sites.copy(), labels.copy())
    got = got.detach().numpy() if torch.is_tensor(got) else np.asarray(got)
    if got.shape != features.shape or got.dtype.kind not in "fiu":
        return "format", {"shape": features.shape, "got": f"{got.dtype} {got.shape}"}
    if not np.isfinite(got).all() or abs(got).max() > 1e6:
        return "nan"
    for ddof in (0, 1):  # with the divisor "number", or one less
        want = align(features, sites, labels, ddof)
        # A guard under the root, or beside it, is no mistake
        if near(got, want, rel=1e-2, absolute=1e-2):
            return "right"
        key = first_match(got, _wrong_alignments(features, sites, labels, ddof))
        if key != "other":
            return key
    want = align(features, sites, labels)
    at = int(abs(got - want).max(1).argmax())
    rows = [np.array2string(x[at], precision=3) for x in (want, got)]
    return "other", {"site": sites[at], "expected": rows[0], "got": rows[1]}


def _wrong_alignments(
    features: ndarray, sites: ndarray, labels: ndarray, ddof: int
) -> dict[str, ndarray]:
    made: dict[str, ndarray] = {}
    for site in np.unique(sites):
        here = sites == site
        x, parts = features[here], [features[here & (labels == k)] for k in (0, 1)]
        means = [part.mean(0) for part in parts]
        variances = [part.var(0, ddof=ddof) for part in parts]
        centre, inner = np.mean(means, 0), np.mean(variances, 0)
        own = np.where(labels[here, None], means[1], means[0])
        for key, middle, spread in (
            ("plain", x.mean(0), x.std(0, ddof=ddof)),
            ("overall", x.mean(0), inner**0.5),
            ("all images", centre, x.std(0, ddof=ddof)),
            ("classes", own, inner**0.5),
            ("healthy", means[0], variances[0] ** 0.5),
            ("no spread", centre, np.ones(x.shape[1])),
            ("spreads", centre, np.mean(np.sqrt(variances), 0)),
            ("variance", centre, inner),
        ):
            table = made.setdefault(key, np.zeros(features.shape))
            table[here] = (x - middle) / np.where(spread > 1e-12, spread, 1)
    made["together"] = (features - features.mean(0)) / features.std(0, ddof=ddof)
    return made


# ------------------------------------------------------------- for the notebook's tables


def parted(rows: ndarray, patients: ndarray, seed: int, n: int = 800) -> tuple[ndarray, ndarray]:
    """The n rows to learn from, patient after patient by chance, and those of other patients."""
    order = np.random.default_rng(seed).permutation(np.unique(patients[rows]))
    rows = np.concatenate([rows[patients[rows] == p] for p in order])
    learn, rest = rows[:n], rows[n:]
    return learn, rest[~np.isin(patients[rest], patients[learn])]


def rates(labels: ndarray, called: ndarray, counts: ndarray) -> tuple[ndarray, ndarray]:
    """Sensitivity and specificity, each (seeds, B), of `called` (seeds, N) on resamples (B, N)."""
    right = called == labels
    return tuple(
        right[:, labels == k] @ counts[:, labels == k].T / counts[:, labels == k].sum(1)
        for k in (1, 0)
    )


def interval(values: ndarray) -> tuple[float, float, float]:
    """Mean over the seeds of (seeds, B), whose first column is no resample, with its 95 %."""
    mean = values.mean(0)
    low, high = np.quantile(mean[1:], [0.025, 0.975])
    return mean[0], low, high


def told(values: ndarray, sign: str = "") -> str:
    """Mean of the seeds with its interval over patients; a signed claim gets a star."""
    value, low, high = interval(values)
    star = " *" if sign and claimed(values) else ""
    return f"{value:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f}){star}"


def forest(rows: dict[str, ndarray], x: str, limits: Any = None, reference: Any = None) -> Figure:
    """Mean of the seeds with its interval for each row (seeds, B), and the seeds as grey dots."""
    means = {name: interval(values) for name, values in rows.items()}
    fig = plotting.intervals(means, x=x, limits=limits, reference=reference)
    for k, values in enumerate(reversed(rows.values())):
        fig.axes[0].plot(values[:, 0], [k] * len(values), ".", color="grey")
    return fig


def shifted_and_scaled(net: Any, known: Tensor, x: Tensor) -> ndarray:
    """Scores of x, its last features given mean and spread of those of the images `known`."""
    with torch.no_grad():
        old, new = (net.eval().features(images).mean((2, 3)) for images in (known, x))
        new = (new - new.mean(0)) / new.std(0).clamp_min(1e-6)
        logits = net.classifier(new * old.std(0) + old.mean(0))
    return logits.softmax(1)[:, 1].double().numpy()


def material() -> SimpleNamespace:
    """Finished answers of the exercises, so that nobody needs their own for what follows."""
    own: tuple[Any, ...] = (leave_one_out, claimed, two_kinds, renormalise, match)
    own += parted, rates, interval, told, forest, shifted_and_scaled
    return SimpleNamespace(**{function.__name__: function for function in own})
