"""Exercises of notebook 27: conformal sets, local labels, dropout kept on, strangers, refusing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from scipy import stats
from torch import Tensor, nn

from medlab.exercises import (
    Verdict,
    Wrong,
    as_array,
    call,
    exercise,
    near,
    number,
    shape_or_type,
)
from medlab.models import SmallCNN

MOST = 1000  # local patients that a search looks at

# Shared by the two exercises about sets
SETS = {
    "format": "I expected an array of True and False of shape ({n}, 2); got {got}.",
    "swapped": "your columns are exchanged: column 0 is for normal, whose score is p; column 1 "
    "for pneumonia, whose score is 1 − p.",
    "outside": "your sets are turned round: they hold what exceeds q.",
    "probability": "your calibration scores are the probability of the true label; the score "
    "is 1 − it.",
    "ill score": "your calibration scores do not look at the label: those of a normal patient "
    "are the probability of pneumonia, those of an ill one 1 − it.",
    "never both": "you kept one label a patient. A set may hold both, or none.",
    "top": "you always put in the likelier label. A set may be empty.",
    "strict": "a score of just q belongs in: `<=`. Or was q interpolated, or a score too low?",
    "alpha": "you exchanged alpha and 1 − alpha.",
    "other": "with alpha = {alpha} I expected {want} sets to hold pneumonia and {both} to hold "
    "both; got {got} and {got_both}.",
}

MESSAGES = {
    "doubt.1": {
        "right": "the k-th smallest score, and no promise where there are too few.",
        "few": "of {n} scores the {k}-th smallest is asked for, and there is none: return "
        "`np.inf`, so that every label enters. You returned {got:g}.",
        "never few": "{n} scores are enough for alpha = {alpha}: k is {k}.",
        "no plus one": "you forgot the + 1, or did not round k up: k comes from n + 1 patients, "
        "the new one included.",
        "down": "round k up. Rounded down, the promise is broken by a little.",
        "low": "you took one of the lowest scores: 1 − alpha of the scores belong below q.",
        "between": "you interpolated between two scores. q is one of them: the {k}-th smallest.",
        "unsorted": "you took the score at place {k} as they stand. Sort them first.",
        "next": "you took the one after the {k}-th smallest: places count from 0, or "
        '`method="higher"` went one too far.',
        "before": "you took the one before the {k}-th smallest.",
        "unique": "equal scores count each: patients are counted, not values.",
        "changed": "you sorted the scores in place: the caller's patients changed their order. "
        "`np.sort` makes a copy.",
        "other": "of {n} scores and alpha = {alpha} I expected {want:.4f} (k = {k}), and got "
        "{got:.4f}.",
    },
    "doubt.2": {
        **SETS,
        "right": "each label is tried by its own score, and all share one quantile.",
        "by class": "here all calibration patients share one quantile.",
    },
    "doubt.3": {
        **SETS,
        "right": "each label has its own quantile, from the patients who have it.",
        "not by class": "each label has the quantile of the patients who have it; yours share one.",
        "other class": "you took each label's quantile from the patients of the *other* class.",
        "other column": "the quantiles are right, but you kept the column of the *other* label.",
    },
    "doubt.4": {
        "right": "from {n} patients on the promise holds, whatever the rounding does.",
        "lucky": "with {got} it holds, but with {later} no longer: k is rounded up, and {got} is "
        "one of the lucky numbers. I asked from which number on it *always* holds.",
        "last": "{got} is the last number with which it fails. One more is enough.",
        "mean": "with {got} the *mean* coverage is high enough. In {share:.0%} of hospitals it "
        "would still lie below {least}.",
        "few": "with n = {got} patients k exceeds n, and every set holds every label. That is no "
        "answer.",
        "no plus one": "k comes from n + 1, the new patient included, and is rounded up.",
        "plain": "you took a binomial share of n patients. The coverage follows a Beta law with k "
        "and n + 1 − k.",
        "range": "I expected a whole number up to 1,000; got {got}. A search that reaches its "
        "upper end may have `cdf` for `sf`, or least and chance exchanged.",
        "too few": "with n = {got} and alpha = {alpha} the coverage is at least {least} with "
        "probability {share:.3f} only; I asked for {chance}.",
        "too many": "{got} is enough, but so is {want} and every number above.",
    },
    "doubt.5": {
        "right": "dropout drops, the rest of the network is as it was trained, and afterwards all "
        "is at rest.",
        "format": "I expected probabilities of shape {want}: a row a draw, a column an image; got "
        "{got}.",
        "averaged": "your draws are averaged already. Return each of them, shape {want}.",
        "both classes": "your answer has both classes. Return that of class 1 alone, shape {want}.",
        "off": "all draws are the same: dropout is off. `eval()` turns it off; turn the Dropout "
        "layer alone on again.",
        "norm": "batch normalisation is in training mode: each image is judged by its neighbours "
        "in the batch. Only the Dropout layer belongs in training mode.",
        "memory": "the running mean of batch normalisation has changed: a network must not learn "
        "from patients whom it judges.",
        "logits": "these are logits. Softmax makes them probabilities, before anything is "
        "averaged.",
        "sigmoid": "you took the sigmoid of one logit alone. Softmax compares the two.",
        "class": "these are probabilities of class 0.",
        "left on": "the probabilities are right, but you left a layer in training mode: the next "
        "answer is a lottery. End with `self.eval()`.",
        "no network": "I expected a network, `class DropoutNet(SmallCNN)`; got {got}.",
        "no small": "the network should be a SmallCNN of as many channels as it is told: begin "
        "`__init__` with `super().__init__(channels, 2, width)`. Got {got}.",
        "sizes": "SmallCNN takes the channels, the number of classes (2) and the width, in this "
        "order, and the last layer gives 2 logits.",
        "share": "your layer drops a share of {got}; it was told {want}.",
        "forward": "at rest, `forward` should give the logits of the last layer for the features "
        "averaged over places, as SmallCNN does; got {what}.",
        "no draws": "the network has no method `draws(images, number)`.",
        "whole": "your layer drops all features of an image together. `nn.Dropout` drops each by "
        "itself.",
        "order": "`draws` is right, but in training something else than pooled features is "
        "dropped. Dropout belongs just before the last layer.",
        "undropped": "`draws` is right, but in training nothing is dropped: `forward` needs the "
        "dropout too.",
        "other": "a probability of {got:.3f} for an image that can have {count} others only, from "
        "{low:.3f} to {high:.3f}, whatever is dropped. Dropout belongs just before the last layer.",
    },
    "doubt.6": {
        "right": "each image is measured from the nearer class, in units of the spread within the "
        "classes.",
        "format": "I expected one number for each of the {n} new images; got {got}.",
        "root": "you took the root. I asked for the square of the distance.",
        "euclid": "all features count alike in yours. Σ⁻¹ counts a step in units of its spread.",
        "spread": "you multiplied by Σ. Its *inverse* belongs there.",
        "diagonal": "you used the variances of single features. Features go together: Σ is a "
        "whole matrix.",
        "each class": "you took a covariance for each class. One Σ serves both classes.",
        "all spread": "your Σ is the covariance of all features. The spread *within* classes is "
        "that of h − μ of the own class.",
        "one mean": "you measured from the mean of all. Each class has its own.",
        "farther": "you took the farther of the two means. An image may belong to either class.",
        "sum": "you added, or averaged, the distances from both means. The nearer one counts.",
        "class zero": "you measured from the mean of class {c} alone. An image may belong to "
        "either class.",
        "new": "your means or your Σ come from the new images. They are those of the training "
        "images: a stranger must not say what is usual.",
        "other": "I expected {want:.3f} for the first image, and got {got:.3f}.",
    },
    "doubt.7": {
        "right": "the surest are kept first, and each place of the curve says how often they are "
        "wrong.",
        "format": "I expected one number for each of the {n} images; got {got}.",
        "reversed": "you kept the most doubtful first. They are the ones to refuse.",
        "order": "you kept them in the order in which they stand: `doubt` was not used.",
        "accuracy": "these are shares of right answers. Risk is the share of wrong ones.",
        "count": "you counted the errors. Divide by the number of images kept.",
        "all": "you divided by all images. Of the {kept} kept, {wrong} were wrong: {want:.3f}.",
        "behind": "your curve starts with nobody kept. Its first entry is for the surest image "
        "alone.",
        "refused": "you took the errors of those refused. Risk is that of those kept.",
        "ties": "of equal doubt, the image that stands first is kept first: `argsort` with "
        '`kind="stable"`.',
        "other": "with the {kept} surest kept I expected {want:.3f}, and got {got:.3f}.",
    },
}


def material() -> SimpleNamespace:
    """Finished answers of the exercises, so that nobody needs their own for what follows."""
    answers = {
        "quantile": quantile,
        "sets": sets,
        "sets_by_class": sets_by_class,
        "patients_needed": patients_needed,
        "DropoutNet": DropoutNet,
        "mahalanobis": mahalanobis,
        "risk_curve": risk_curve,
    }
    return SimpleNamespace(**answers)


# --- 1: the conformal quantile ---


def quantile(scores: ndarray, alpha: float) -> float:
    """The ⌈(n + 1)(1 − α)⌉-th smallest of n scores; infinity where there is none."""
    n = len(scores)
    k = math.ceil((n + 1) * (1 - alpha))
    return float(np.sort(scores)[k - 1]) if k <= n else np.inf


def _scores(n: int, seed: int) -> ndarray:
    """Unsorted scores with ties, some above 1."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 20, n) / 16 + np.repeat([0.0, 0.01], [n // 2, n - n // 2])


# Scores, alpha, seed: the neighbours of the k-th score differ from it
TRIALS = [(24, 0.2, 11), (26, 0.15, 0), (37, 0.15, 1), (19, 0.1, 0), (8, 0.1, 0), (3, 0.4, 0)]


@exercise("doubt.1", MESSAGES["doubt.1"])
def _quantile(answer) -> Verdict:
    for n, alpha, seed in TRIALS:
        scores = _scores(n, seed)
        given = scores.copy()
        got = number(call(answer, given, alpha))
        want, k = quantile(scores, alpha), math.ceil((n + 1) * (1 - alpha))
        told = {"n": n, "alpha": alpha, "k": k, "want": want, "got": got}
        if not near(np.sort(given), np.sort(scores)):
            return "other", told
        if near(got, want):
            if k <= n and not near(given, scores):
                return "changed"
            continue
        if k > n:
            return "few", told
        if np.isposinf(got):
            return "never few", told
        return _quantile_fault(got, scores, alpha), told
    return "right"


def _quantile_fault(got: float, scores: ndarray, alpha: float) -> str:
    ordered, n = np.sort(scores), len(scores)
    k = math.ceil((n + 1) * (1 - alpha))

    def at(place: int) -> float:
        return float(ordered[min(max(place, 1), n) - 1])

    unique = np.unique(scores)
    wrong = {
        "no plus one": at(math.ceil(n * (1 - alpha))),
        "down": at(math.floor((n + 1) * (1 - alpha))),
        "low": at(math.ceil((n + 1) * alpha)),
        "next": at(k + 1),
        "before": at(k - 1),
        "unsorted": float(scores[k - 1]),
        "unique": float(unique[min(math.ceil((len(unique) + 1) * (1 - alpha)), len(unique)) - 1]),
    }
    levels = [1 - alpha, min(1.0, (n + 1) * (1 - alpha) / n), min(1.0, k / n)]
    if any(near(got, np.quantile(scores, level)) for level in levels) and got not in ordered:
        return "between"
    return next((key for key, value in wrong.items() if near(got, value)), "other")


# --- 2 and 3: sets, for all patients and by class ---


def sets(p_cal: ndarray, y_cal: ndarray, p: ndarray, alpha: float) -> ndarray:
    """(N, 2) which labels enter the set of each new patient, by her probability of class 1."""
    q = quantile(np.where(y_cal == 1, 1 - p_cal, p_cal), alpha)
    return np.stack([p <= q, 1 - p <= q], axis=1)


def sets_by_class(p_cal: ndarray, y_cal: ndarray, p: ndarray, alpha: float) -> ndarray:
    """(N, 2) as of `sets`, with each label's quantile from the patients who have it."""
    found = [sets(p_cal[y_cal == c], y_cal[y_cal == c], p, alpha)[:, c] for c in (0, 1)]
    return np.stack(found, axis=1)


def _patients() -> tuple[ndarray, ndarray, ndarray]:
    """Calibration patients, three in ten ill and these harder, and new ones; in sixteenths."""
    rng = np.random.default_rng(11)
    y = (rng.random(70) < 0.3).astype(int)
    p = np.clip(rng.normal(0.2 + 0.38 * y, 0.17 + 0.08 * y), 0.02, 0.98)
    return (p * 64).round() / 64, y, np.arange(1, 64) / 64


def _own(p_cal: ndarray, y_cal: ndarray, p: ndarray, alpha: float, by_class: bool, how: str):
    """The sets with one mistake."""
    alpha = 1 - alpha if how == "alpha" else alpha
    scores = np.where(y_cal == 1, 1 - p_cal, p_cal)
    scores = {"probability": 1 - scores, "ill score": 1 - p_cal, "well score": p_cal}.get(
        how, scores
    )
    by_class = {"by class": True, "not by class": False}.get(how, by_class)
    columns = []
    for label, own in ((0, p), (1, 1 - p)):
        own = 1 - own if how == "other column" else own
        label = 1 - label if how == "other class" else label
        q = quantile(scores[(y_cal == label) | (not by_class)], alpha)
        columns.append({"strict": own < q, "outside": own > q}.get(how, own <= q))
    found = np.stack(columns, axis=1)
    likelier = np.stack([p < 0.5, p >= 0.5], axis=1)
    if how == "never both":
        return np.where(found.sum(1, keepdims=True) == 2, likelier, found)
    return {"swapped": found[:, ::-1], "top": found | likelier}.get(how, found)


FAULTS = (
    "swapped, strict, not by class, by class, other class, other column, ill score, well score, "
    "probability, outside, never both, top, alpha"
).split(", ")


def _judged(answer: Any, by_class: bool, alphas: tuple[float, ...]) -> Verdict:
    """The verdict on sets at several alpha, with one quantile or with one for each class."""
    p_cal, y_cal, p = _patients()
    for alpha in alphas:
        raw = call(answer, p_cal.copy(), y_cal.copy(), p.copy(), alpha)
        got, told = as_array(raw), {"n": len(p), "alpha": alpha}
        if got.shape != (len(p), 2) or not np.isin(got, (0, 1)).all():
            return "format", told | {"got": shape_or_type(raw)}
        want = (sets_by_class if by_class else sets)(p_cal, y_cal, p, alpha)
        if (got == want).all():
            continue
        for how in FAULTS:
            if (got == _own(p_cal, y_cal, p, alpha, by_class, how)).all():
                return {"well score": "ill score"}.get(how, how)
        told |= {"want": int(want[:, 1].sum()), "both": int(want.all(1).sum())}
        return "other", told | {"got": int(got[:, 1].sum()), "got_both": int(got.all(1).sum())}
    return "right"


@exercise("doubt.2", MESSAGES["doubt.2"])
def _sets(answer) -> Verdict:
    return _judged(answer, False, (0.3, 0.1, 0.6))


@exercise("doubt.3", MESSAGES["doubt.3"])
def _sets_by_class(answer) -> Verdict:
    return _judged(answer, True, (0.3, 0.1))


# --- 4: how many local patients ---


def _holds(n: int, alpha: float, least: float) -> float:
    """Probability that n calibration patients give a coverage of `least`; 0 if they are too few."""
    k = math.ceil((n + 1) * (1 - alpha))
    return float(stats.beta.sf(least, k, n + 1 - k)) if k <= n else 0.0


def patients_needed(alpha: float, least: float, chance: float) -> int:
    """From how many calibration patients on the coverage is ≥ least with this probability."""
    n = MOST
    while n and _holds(n, alpha, least) >= chance:
        n -= 1
    return n + 1


# alpha, least coverage, probability; in the last one only too few patients can fail
_ASKED = (
    (0.1, 0.85, 0.9), (0.2, 0.75, 0.8), (0.05, 0.9, 0.95), (0.05, 0.93, 0.95), (0.1, 0.5, 0.5),
)  # fmt: skip


@exercise("doubt.4", MESSAGES["doubt.4"])
def _needed(answer) -> Verdict:
    first = 0
    for alpha, least, chance in _ASKED:
        got = number(call(answer, alpha, least, chance))
        want = patients_needed(alpha, least, chance)
        first = first or want
        told: dict[str, Any] = {"alpha": alpha, "least": least, "chance": chance, "want": want}
        told["got"] = f"{got:g}"
        if got == want:
            continue
        if got != round(got) or not 0 < got < MOST:
            return "range", told
        key, share = (
            _needed_fault(int(got), alpha, least, chance, want),
            _holds(int(got), alpha, least),
        )
        told["later"] = _later(int(got), alpha, least, chance)
        return key, told | {"share": 1 - share if key == "mean" else share}
    return "right", {"n": first}


def _later(got: int, alpha: float, least: float, chance: float) -> int:
    """The next number with which it fails."""
    return next((n for n in range(got, MOST) if _holds(n, alpha, least) < chance), got)


def _by_mean(alpha: float, least: float) -> int:
    enough = (n for n in range(math.ceil(1 / alpha - 1), MOST))
    return next(n for n in enough if math.ceil((n + 1) * (1 - alpha)) / (n + 1) >= least)


def _always(law: Callable[[int], float], chance: float) -> int:
    """From which n on a probability that depends on n stays at least `chance`."""
    return max((n for n in range(1, MOST) if law(n) < chance), default=0) + 1


def _needed_fault(got: int, alpha: float, least: float, chance: float, want: int) -> str:
    def no_plus_one(n: int) -> float:
        k = math.ceil(n * (1 - alpha))
        return float(stats.beta.sf(least, k, n + 1 - k))

    def plain(n: int) -> float:
        return float(stats.binom.sf(math.ceil(n * least) - 1, n, 1 - alpha))

    if math.ceil((got + 1) * (1 - alpha)) > got:
        return "few"
    if got == want - 1:
        return "last"
    if got == _by_mean(alpha, least):
        return "mean"
    if got == _always(no_plus_one, chance):
        return "no plus one"
    if got == _always(plain, chance):
        return "plain"
    if _holds(got, alpha, least) >= chance:
        return "lucky" if got < want else "too many"
    return "too few"


# --- 5: dropout kept on ---


class DropoutNet(SmallCNN):
    """A SmallCNN whose pooled features may be dropped, in training and on demand afterwards.

    Args:
        channels: of the images.
        width: as of a SmallCNN.
        share: of the features that is dropped, 0 … 1.
    """

    def __init__(self, channels: int, width: int, share: float):
        super().__init__(channels, 2, width)
        self.dropout = nn.Dropout(share)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(images).mean((2, 3))))

    def draws(self, images: Tensor, number: int) -> Tensor:
        """(number, N) probabilities of class 1 with dropout on and all else at rest."""
        self.eval()
        self.dropout.train()
        with torch.no_grad():
            pooled = self.features(images).mean((2, 3))
            found = [self.classifier(self.dropout(pooled)).softmax(1)[:, 1] for _ in range(number)]
        self.eval()
        return torch.stack(found)


SEED = 12
SHARE = 0.4  # of the four features that the checked network drops


def _trained(answer: Any) -> nn.Module:
    """The learner's network, with weights and a memory of other patients."""
    net = call(answer, 1, 1, SHARE)
    if not isinstance(net, nn.Module):
        raise Wrong("no network", got=type(net).__name__)
    if not isinstance(net, SmallCNN) or not net.arguments["in_channels"] == 1:
        raise Wrong("no small", got=type(net).__name__)
    if net.arguments["width"] != 1 or _linear(net).out_features != 2:
        raise Wrong("sizes")
    shares = [
        layer.p for layer in net.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)
    ]
    if shares and any(p != SHARE for p in shares):
        raise Wrong("share", got=shares[0], want=SHARE)
    net.features.load_state_dict(_reference())
    with torch.no_grad():
        _linear(net).weight.copy_(torch.tensor([[0.9, -0.4, 0.3, 0.2], [-0.7, 0.8, 1.1, -0.5]]))
        _linear(net).bias.copy_(torch.tensor([0.2, -0.1]))
    return net


@cache
def _reference() -> dict[str, Tensor]:
    """Features that remember other patients than those of the check, none of them always 0."""
    state = torch.random.get_rng_state()
    torch.manual_seed(SEED)
    net = SmallCNN(1, 2, 1).train()
    for _ in range(60):
        net(torch.rand(8, 1, 16, 16) * 2)
    torch.random.set_rng_state(state)
    return net.features.state_dict()


def _linear(net: nn.Module) -> nn.Linear:
    found = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise Wrong("sizes")
    return found[-1]


def _pooled(net: Any, images: Tensor) -> Tensor:
    return net.features(images).mean((2, 3))


def _possible(net: Any, images: Tensor) -> Tensor:
    """(16, N, 2) logits of the network as it is set, with each choice of its four features kept."""
    memory = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        kept = torch.tensor(list(product((0.0, 1.0), repeat=4))) / (1 - SHARE)
        logits = _linear(net)(_pooled(net, images) * kept[:, None])
    net.load_state_dict(memory)
    return logits


def _among(found: ndarray, possible: Tensor) -> bool:
    """Whether every (draw, image) is one of the (16, N) possible numbers."""
    return bool((np.abs(found[:, None] - possible.numpy()).min(1) < 1e-4).all())


def _seeded(function: Any, *args: Any) -> Any:
    """A call that leaves the global random numbers as they were."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        return call(function, *args)
    finally:
        torch.random.set_rng_state(state)


@exercise("doubt.5", MESSAGES["doubt.5"])
def _dropped(answer) -> Verdict:
    number_, n = 16, 5
    rng = torch.Generator().manual_seed(3)
    images = torch.rand(n, 1, 16, 16, generator=rng) * torch.arange(1, n + 1).view(-1, 1, 1, 1)
    net = _trained(answer)
    with torch.no_grad():
        _linear(net).weight /= _pooled(net.eval(), images).mean(0)
    rest = _possible(net.eval(), images)
    batch = _possible(net.train(), images)
    plain = _linear(net)(_pooled(net.eval(), images)).detach()
    out = as_array(call(net.eval(), images))
    if not near(out, plain, absolute=1e-4):
        return (
            ("forward", {"what": "softmax"})
            if near(out, plain.softmax(1), absolute=1e-4)
            else ("forward", {"what": "something else"})
        )
    if not callable(getattr(net, "draws", None)):
        return "no draws"
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    raw = _seeded(net.draws, images.clone(), number_)
    changed = any(not torch.equal(before[name], v) for name, v in net.state_dict().items())
    awake = any(layer.training for layer in net.modules())
    if isinstance(raw, (list, tuple)) and raw and all(map(torch.is_tensor, raw)):
        raw = torch.stack([row.detach() for row in raw])
    got, told = as_array(raw), {"want": (number_, n), "got": shape_or_type(raw)}
    if got.shape in ((n,), (1, n), (n, 2)):
        return "averaged", told
    if got.shape == (number_, n, 2):
        return "both classes", told
    if got.shape != (number_, n):
        return "format", told
    if (np.ptp(got, axis=0) < 1e-6).all():
        return "off"
    if _among(got, rest.softmax(2)[..., 1]):
        if awake:
            return "left on"
        if _among(got, rest[[0, -1]].softmax(2)[..., 1]):
            return "whole"
        training = as_array(_seeded(net.train(), images))
        undropped = _linear(net)(_pooled(net, images))
        if near(training, undropped, absolute=1e-4):
            return "undropped"
        possible = _possible(net, images)
        dropped = all(_among(training[None, :, c], possible[..., c]) for c in (0, 1))
        return "right" if dropped else "order"
    if changed and _among(got, _possible(net.eval(), images).softmax(2)[..., 1]):
        return "memory"
    for key, possible in (
        ("class", rest.softmax(2)[..., 0]),
        ("sigmoid", rest[..., 1].sigmoid()),
        ("logits", rest[..., 1]),
        ("logits", rest[..., 1] - rest[..., 0]),
    ):
        if _among(got, possible):
            return key
    if changed or _among(got, batch.softmax(2)[..., 1]):
        return "norm"
    values = sorted({round(v, 3) for v in rest.softmax(2)[:, 0, 1].tolist()})
    return "other", {"got": got[0, 0], "low": values[0], "high": values[-1], "count": len(values)}


# --- 6: the distance of a stranger ---


def mahalanobis(h: ndarray, labels: ndarray, new: ndarray) -> ndarray:
    """(N,) squared Mahalanobis distance of new features to the nearer class mean of training."""
    means = np.stack([h[labels == c].mean(0) for c in (0, 1)])
    return _distances(new, means, np.linalg.pinv(np.cov((h - means[labels]).T))).min(0)


def _distances(new: ndarray, means: ndarray, inverse: ndarray) -> ndarray:
    """(means, N) squares, with one inverse for all means or one for each."""
    apart = new - means[:, None]
    return (apart @ inverse * apart).sum(2)


def _features() -> tuple[ndarray, ndarray, ndarray]:
    """Correlated features of 50 training images of two classes, and nine new ones."""
    rng = np.random.default_rng(2)
    mix = np.array([[1.0, 0.8, 0.0], [0.0, 0.7, 0.3], [0.5, 0.0, 2.0]])
    labels = (rng.random(50) < 0.35).astype(int)
    h = rng.normal(size=(50, 3)) @ mix + np.c_[labels] * [1.0, -2.0, 1.5]
    return (
        h,
        labels,
        rng.normal(size=(9, 3)) @ mix * 1.5 + rng.integers(0, 2, (9, 1)) * [1, -2, 1.5],
    )


@exercise("doubt.6", MESSAGES["doubt.6"])
def _mahalanobis(answer) -> Verdict:
    h, labels, new = _features()
    raw = call(answer, h.copy(), labels.copy(), new.copy())
    got, want = as_array(raw), mahalanobis(h, labels, new)
    if got.shape != (len(new),):
        return "format", {"n": len(new), "got": shape_or_type(raw)}
    # Divided by the images, by one less, or by one less in each class
    scales = [1, len(h) / (len(h) - 1), (len(h) - 2) / (len(h) - 1)]
    if any(near(got, want * scale) for scale in scales):
        return "right"
    means = np.stack([h[labels == c].mean(0) for c in (0, 1)])
    within = np.cov((h - means[labels]).T)
    inverse = np.linalg.inv(within)
    apart = _distances(new, means, inverse)
    every = np.linalg.inv(np.cov(h.T))
    own = np.linalg.inv(np.cov(new.T))
    apiece = np.stack([np.linalg.inv(np.cov(h[labels == c].T)) for c in (0, 1)])
    wrong = {
        "each class": _distances(new, means, apiece).min(0),
        "root": np.sqrt(want),
        "euclid": _distances(new, means, np.eye(3)).min(0),
        "spread": _distances(new, means, within).min(0),
        "diagonal": _distances(new, means, np.diag(1 / np.diag(within))).min(0),
        "all spread": _distances(new, means, every).min(0),
        "farther": apart.max(0),
        "sum": apart.sum(0),
    }
    key = next((key for key, value in wrong.items() if near(got, value)), "other")
    if key == "other":
        for c in (0, 1):
            if near(got, apart[c]):
                return "class zero", {"c": c}
        middle = h.mean(0)[None]
        if any(near(got, _distances(new, middle, m)[0]) for m in (inverse, every, np.eye(3))):
            key = "one mean"
        elif near(got, apart.mean(0)):
            key = "sum"
        elif any(
            near(got, _distances(new, centre, m).min(0))
            for centre, m in ((means, own), (new.mean(0)[None], own), (new.mean(0)[None], inverse))
        ):
            key = "new"
    return key, {"want": want[0], "got": got[0]}


# --- 7: the risk of those kept ---


def risk_curve(wrong: ndarray, doubt: ndarray) -> ndarray:
    """(N,) share of wrong answers among the 1, 2 … N images of least doubt."""
    order = np.argsort(doubt, kind="stable")
    return np.cumsum(np.asarray(wrong)[order]) / np.arange(1, len(order) + 1)


def _answers() -> tuple[ndarray, ndarray]:
    """Forty images, right or wrong, whose doubts are tied and unsorted."""
    rng = np.random.default_rng(4)
    doubt = rng.integers(0, 9, 40) / 8
    return rng.random(40) < 0.15 + 0.5 * doubt, doubt


@exercise("doubt.7", MESSAGES["doubt.7"])
def _risk(answer) -> Verdict:
    wrong, doubt = _answers()
    n, want = len(wrong), risk_curve(wrong, doubt)
    raw = call(answer, wrong.copy(), doubt.copy())
    got = as_array(raw)
    if got.shape != (n,):
        return "format", {"n": n, "got": shape_or_type(raw)}
    if near(got, want):
        return "right"
    kept = np.arange(1, n + 1)
    order = np.argsort(doubt, kind="stable")
    back = order[::-1]
    other = np.argsort(-doubt, kind="stable")
    errors = want * kept
    behind = np.r_[0, errors[:-1]]
    refused = (errors[-1] - errors) / np.maximum(n - kept, 1)
    for key, value in {
        "reversed": np.cumsum(wrong[back]) / kept,
        "order": np.cumsum(wrong) / kept,
        "accuracy": 1 - want,
        "count": errors,
        "all": errors / n,
        "refused": refused,
    }.items():
        if near(got, value):
            told = {"kept": 20, "wrong": int(errors[19]), "want": want[19]}
            return key, told
    if near(got, np.cumsum(wrong[other]) / kept):
        return "reversed"
    if near(got, np.r_[0, want[:-1]]) or near(got, behind / kept):
        return "behind"
    # Whole groups of equal doubt are right, whatever the order within
    ends = np.flatnonzero(np.diff(np.r_[doubt[order], np.inf]))
    if near(got[ends], want[ends]):
        return "ties"
    at = int(np.argmax(np.abs(np.nan_to_num(got, nan=9.0) - want)))
    return "other", {"kept": at + 1, "want": want[at], "got": got[at]}
