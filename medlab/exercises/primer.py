"""Checks of the primer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from medlab.exercises import (
    Verdict,
    Wrong,
    as_array,
    call,
    exercise,
    first_match,
    near,
    number,
    shape_or_type,
)

FORM = "I expected {want}, and got {got}."
MESSAGES = {
    "primer.1": {
        "right": "a number takes its axis away, a slice keeps it, and its end is not part of it.",
        "end": "the slice 10:20 holds rows 10 to 19: its end is not part of it.",
        "kept": "an axis that is indexed by a number is gone; only a slice keeps its axis.",
        "axis": "10:20 stands in the third place, so it cuts the rows, and all 48 columns stay.",
        "named": "the axis of size 64 is the one that the slice cuts; the last has size 48.",
        "column": "what is not named stays whole: all 48 columns.",
        "form": FORM,
        "other": "it is not {got}. Write the four sizes down and strike out what each entry of the "
        "brackets removes (section 1).",
    },
    "primer.2": {
        "right": "aligned from the right, each axis of size 1 is stretched.",
        "left": "align the shapes from the right: the 3 of b stands above the 1 of a.",
        "one": "an axis of size 1 is stretched to the size of the other; both have such an axis.",
        "lost": "the first axis of a has no partner in b, and stays: 5.",
        "form": FORM,
        "other": "it is not {got}. Write (5, 1, 4) and, right-aligned below it, (3, 1) (section "
        "2).",
    },
    "primer.3": {
        "right": "after 255 follows 0, without a warning: images of bytes are made floats first.",
        "no limit": "a byte ends at 255, and 300 does not fit.",
        "signed": "a `uint8` has no sign: it counts from 0 to 255, not from −128 to 127.",
        "clipped": "nothing stops at 255: after it, counting begins again at 0.",
        "by 255": "a byte has 256 values, 0 to 255, so 300 becomes 300 − 256.",
        "form": FORM,
        "other": "it is not {got}. Add, and take 256 away wherever the sum is above 255 (section "
        "1).",
    },
    "primer.4": {
        "right": "f'(x) = 2x − 4, which is 2 at 3.",
        "value": "that is f(3), the height. The slope is f'(3).",
        "constant": "the slope of −4x is −4, and you left it out.",
        "form": FORM,
        "other": "it is not {got:g}. The slope of x² is 2x (section 3).",
    },
    "primer.5": {
        "right": "the outer slope, 2(3w + 1) = 8, times the inner one, 3.",
        "outer": "that is the outer slope alone. Multiply by the slope of 3w + 1.",
        "inner": "the outer slope is taken at 3w + 1 = 4, not at w.",
        "power": "the slope of u² is 2u, and you took u.",
        "value": "that is L(1), the height.",
        "form": FORM,
        "other": "it is not {got:g}. With u = 3w + 1: the slope of u², times that of u (section "
        "3).",
    },
    "primer.6": {
        "right": "one slope for each variable, the other held still.",
        "swapped": "first the slope for x, then that for y.",
        "last term": "the term + y has a slope for y: 1.",
        "y lost": "y is held still for the first slope, and still multiplies: it is 2xy.",
        "in both": "the term + y has no slope for x.",
        "form": FORM,
        "other": "it is not {got}. Take one variable at a time and treat the other as a number "
        "(section 3).",
    },
    "primer.7": {
        "right": "row i of W times x, summed.",
        "not summed": "those are the products. Each row ends in one sum.",
        "swapped": "in each row the first entry meets 10 and the second meets 1.",
        "column": "the right numbers as a list of three, please: Wx is a vector.",
        "form": FORM,
        "other": "it is not {got}. The first entry is 1·10 + 2·1 (section 4).",
    },
    "primer.8": {
        "right": "a power of ten counts how often ln 10 is added: −3 times.",
        "sign": "0.001 is less than 1, and its logarithm is negative.",
        "base ten": "that is the logarithm to base 10. ln is the natural one.",
        "product": "ln(0.001) is not 0.001 times ln(10): with ln a product becomes a sum.",
        "count": "0.001 is 1/10 three times over.",
        "form": FORM,
        "other": "it is not {got:g}. 0.001 = 10⁻³, and ln(aᵏ) = k ln a (section 5).",
    },
    "primer.9": {
        "right": "the square root of the mean: 5 % of it.",
        "variance": "that is the variance. The standard deviation is its root.",
        "relative": "that is the relative noise. I asked for a number of photons.",
        "form": FORM,
        "other": "it is not {got:g}. The variance of a Poisson count is its mean (section 6).",
    },
    "primer.10": {
        "right": "9 of the 108 who are called ill. The many healthy make most of the alarms.",
        "sensitivity": "that is the chance that an ill person is called ill. I asked the reverse.",
        "joint": "that is the share of all people who are ill and called so. Look only at those "
        "called ill.",
        "odds": "you divided by the healthy who are called ill. All who are called ill belong "
        "below: 9 + 99.",
        "all": "that is the share called ill. How many of them are ill?",
        "complement": "that is the chance that a person called ill is healthy.",
        "percent": "a probability lies between 0 and 1: divide by 100.",
        "form": FORM,
        "other": "it is not {got:g}. How many are called ill in all, and how many of them are ill "
        "(section 6)?",
    },
    "primer.11": {
        "right": "one mean and one spread an image, stretched over all its pixels.",
        "keepdim": "the shapes do not fit: {error}. A mean of shape (N,) lines up with the "
        "columns. `keepdim=True` leaves (N, 1, 1, 1), one number an image.",
        "last axis": "where an image is as wide as there are images, a mean of shape (N,) lines up "
        "with the columns, and nothing stops. `keepdim=True` leaves (N, 1, 1, 1).",
        "batch": "you took one mean and one spread of the whole batch. Each image has its own.",
        "over images": "you averaged over the images at each pixel. Average over the pixels of "
        "each image.",
        "lines": "you averaged over one axis. An image has rows and columns.",
        "no spread": "the mean is gone, and the spread is not 1: divide by the standard deviation.",
        "variance": "you divided by the variance. Its root, the standard deviation, is meant.",
        "no mean": "you divided, and the mean is still there. Subtract it first.",
        "brackets": "the division comes before the subtraction here: write (X − mean) / sd.",
        "range": "that brings each image to 0…1. I asked for mean 0 and standard deviation 1.",
        "in place": "you changed the images that I passed in. Make new ones.",
        "form": FORM,
        "other": "image {n} came back with mean {mean:.2f} and standard deviation {sd:.2f}.",
    },
    "primer.12": {
        "right": "this is how any gradient can be checked, in this course and elsewhere.",
        "together": "you moved all entries at once. Move one, hold the others.",
        "half": "you divided by {factor:g} of what you should: the two points lie 2h apart.",
        "not divided": "divide the difference by the distance of the two points.",
        "sign": "the sign is reversed: the value at p + h minus the value at p − h.",
        "cumulative": "an entry that you had moved was not put back before the next one moved. "
        "Move a copy.",
        "in place": "you changed the point that I passed in. Move a copy: p.clone().",
        "coarse": "nearly: {got:.4f} for {want:.4f}. Your step h is too large.",
        "rounded": "an entry is {got:g}. Either your two points are one tensor under two names "
        "(`up = p` copies nothing: p.clone()), or your step is so small that rounding is all that "
        "is left (h = 1e-5 is good for 64-bit numbers).",
        "one": "I expected one slope for each of the {n} entries, and got one number.",
        "value": "that is f(p). Its slopes are asked for.",
        "form": FORM,
        "other": "entry {k} of the gradient at {p} should be {want:.3f}, and I got {got:.3f}.",
    },
    "primer.13": {
        "right": "row n of the answer is W xₙ + b, for all n at once.",
        "no bias": "b is not added.",
        "transposed W": "W should meet each image with its rows: (W x)ᵢ = Σⱼ Wᵢⱼ xⱼ. Yours sums "
        "over the other index of W.",
        "transposed": "the answer lies on its side: images in rows, outputs in columns.",
        "bias": "b has one entry for each output, so it is added along the rows of the answer.",
        "bias only": "X has left no trace.",
        "shapes": "the shapes do not fit: {error}. X is (N, n) and W is (m, n): which index is "
        "summed?",
        "form": FORM,
        "other": "entry [{i}, {j}] should be {want:g}, and I got {got:g}.",
    },
    "primer.14": {
        "right": "the product of 2,000 such numbers is too small for the computer; the sum of "
        "their logarithms is an ordinary number.",
        "underflow": "for {n} probabilities you gave {got}: their product is too small for the "
        "computer and became 0. Take the logarithms first, and add them.",
        "sum first": "that is the logarithm of the sum.",
        "mean": "that is the mean of the logarithms. Of a product it is the sum.",
        "base": "that is the logarithm to another base. `log` is the natural one.",
        "sign": "the sign is reversed: probabilities are below 1, and so ln is negative.",
        "product": "that is the product. I asked for its logarithm.",
        "form": FORM,
        "other": "for {p} I expected {want:.3f}, and got {got:.3f}.",
    },
    "primer.15": {
        "right": "where few are ill, most alarms are false, however good the test.",
        "sensitivity": "you returned P(positive | ill). The question is the reverse.",
        "joint": "that is the share of all people who are ill and positive. Divide by all the "
        "positive.",
        "positive": "that is the share of all people who are positive.",
        "specificity": "the healthy who are positive are the share 1 − specificity of the healthy.",
        "no healthy": "the share 1 − specificity is of the *healthy*: weight it with 1 − "
        "prevalence.",
        "unweighted": "sensitivity counts for the ill alone: weight it with the prevalence.",
        "odds": "you divided by the false alarms. Below stand all positives, true and false.",
        "negative": "that is P(healthy | negative).",
        "complement": "that is P(healthy | positive).",
        "percent": "that is in per cent. A probability lies between 0 and 1.",
        "other": "for prevalence {prevalence:g}, sensitivity {sensitivity:g} and specificity "
        "{specificity:g} I expected {want:.3f}, and got {got:.3f}.",
    },
}


def _is_text(answer: Any) -> bool:
    """Whether there are quotation marks about numbers, which NumPy would read all the same."""
    entries = answer if isinstance(answer, (list, tuple)) else [answer]
    return any(isinstance(entry, str) for entry in entries)


def _question(
    k: int, want: Any, wrong: dict[str, Any], *, absolute: float = 1e-6
) -> Callable[[Any], Verdict]:
    """Register the check of a question that is answered by a number or by a few of them."""
    several = np.ndim(want) > 0
    id = f"primer.{k}"

    @exercise(id, MESSAGES[id])
    def question(answer: Any) -> Verdict:
        found = as_array(answer)
        asked = f"{np.size(want)} numbers" if several and k > 2 else "a number"
        told = {"want": "a shape, such as (2, 3)" if k < 3 else asked, "got": shape_or_type(answer)}
        if found.size == 0 or not np.isfinite(found).all() or _is_text(answer):
            return "form", told
        if not several and found.size != 1:
            return "form", told
        found = found if several else found.reshape(())
        options = {"rel": 1e-3, "absolute": absolute}
        if near(found, want, **options):
            return "right"
        key = first_match(found, wrong, **options)
        shown = found.astype(int) if (found == found.round()).all() else found
        return key, {"got": shown.tolist()}

    return question


_question(
    1,
    (10, 48),
    {
        "end": (11, 48),
        "kept": (1, 1, 10, 48),
        "axis": (64, 10),
        "named": (10, 64),
        "column": (10,),
    },
)
_question(2, (5, 3, 4), {"left": (5, 3), "one": (5, 1, 4), "lost": (3, 4)})
_question(
    3,
    (44, 200),
    {"no limit": (300, 200), "clipped": (255, 200), "by 255": (45, 200), "signed": (-56, 200)},
)
_question(4, 2, {"value": -3, "constant": 6})
_question(5, 24, {"outer": 8, "inner": 6, "power": 12, "value": 16})
_question(
    6, (12, 5), {"swapped": (5, 12), "last term": (12, 4), "y lost": (4, 5), "in both": (13, 5)}
)
_question(
    7,
    (12, 34, 56),
    {
        "not summed": ((10, 2), (30, 4), (50, 6)),
        "swapped": (21, 43, 65),
        "column": ((12,), (34,), (56,)),
    },
)
_question(8, -6.9, {"sign": 6.9, "base ten": -3, "product": 0.0023, "count": -4.6}, absolute=0.05)
_question(9, 20, {"variance": 400, "relative": 0.05})
_question(
    10,
    9 / 108,
    {
        "sensitivity": 0.9,
        "joint": 0.009,
        "odds": 9 / 99,
        "all": 0.108,
        "complement": 99 / 108,
        "percent": 100 * 9 / 108,
    },
    absolute=0.0035,
)


def _told(answer: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The answer's numbers if it has the shape asked for; else `Wrong`."""
    found = as_array(answer)
    if found.shape != shape:
        raise Wrong("form", want=f"shape {shape}", got=shape_or_type(answer))
    return found


def _fitting(key: str, answer: Any, *args: Any) -> Any:
    """The answer's result; shapes that do not fit are told by the message `key`."""
    try:
        return call(answer, *args)
    except Wrong as wrong:
        said = str(wrong.values.get("error", ""))
        if any(part in said for part in ("size of tensor", "shapes cannot", "broadcast", "size ")):
            raise Wrong(key, error=said.split("\n")[0].rstrip(".")) from wrong
        raise


def _normalised(X: np.ndarray, found: np.ndarray, ddof: int) -> str:
    """What was done to the images, if the spread has the divisor n − `ddof`."""

    def parts(*axes: int) -> tuple[np.ndarray, np.ndarray]:
        return X.mean(axes, keepdims=True), X.std(axes, keepdims=True, ddof=ddof)

    mean, sd = parts(1, 2, 3)
    low, high = X.min((1, 2, 3), keepdims=True), X.max((1, 2, 3), keepdims=True)
    wrong = {
        "right": (X - mean) / sd,
        "no spread": X - mean,
        "variance": (X - mean) / sd**2,
        "no mean": X / sd,
        "brackets": X - mean / sd,
        "range": (X - low) / (high - low),
    }
    lines = {"batch": (0, 1, 2, 3), "over images": (0,), "lines": (2,), "columns": (3,)}
    wrong |= {key: (X - parts(*axes)[0]) / parts(*axes)[1] for key, axes in lines.items()}
    if X.shape[0] == X.shape[-1]:
        wrong["last axis"] = (X - mean.ravel()) / sd.ravel()
    key = first_match(found, wrong, absolute=1e-4)
    return "lines" if key == "columns" else key


@exercise("primer.11", MESSAGES["primer.11"])
def normalise(answer: Any) -> Verdict:
    draw = torch.Generator().manual_seed(0)
    for shape in ((3, 1, 6, 5), (4, 1, 5, 4)):
        given = torch.rand(shape, generator=draw) * 3 + torch.arange(shape[0])[:, None, None, None]
        X = given.double().numpy()
        kept = given.clone()
        found = _told(_fitting("keepdim", answer, given), shape)
        if not torch.equal(given, kept):
            return "in place"
        near_one = [_normalised(X, found, ddof) for ddof in (0, 1)]
        if "right" in near_one:
            continue
        key = min(near_one, key=lambda key: key == "other")
        off = [max(abs(one.mean()), abs(one.std() - 1)) for one in found]
        n = int(np.argmax(off))
        return key, {"n": n, "mean": found[n].mean(), "sd": found[n].std()}
    return "right"


def _first(p: Any) -> Any:
    return p[0] ** 2 * p[1] + p[1]


def _second(p: Any) -> Any:
    return p[0] * p[1] - 3 * p[2] ** 2 + p[0] ** 3


@exercise("primer.12", MESSAGES["primer.12"])
def gradient(answer: Any) -> Verdict:
    cases = (
        (_first, [2.0, 3.0], lambda p: [2 * p[0] * p[1], p[0] ** 2 + 1]),
        (_second, [0.5, -1.0, 2.0], lambda p: [p[1] + 3 * p[0] ** 2, p[0], -6 * p[2]]),
    )
    for f, place, slopes in cases:
        p = torch.tensor(place, dtype=torch.float64)
        got, want = call(answer, f, p), np.array(slopes(place))
        if not np.allclose(p.detach().numpy(), place, rtol=0, atol=1e-9):
            return "in place"
        found = as_array(got)
        if found.shape in ((), (1,)):
            value = float(found.reshape(()))
            if near(value, want.sum(), rel=0.01):
                return "together"
            return ("value" if near(value, f(place)) else "one"), {"n": len(place)}
        found = _told(got, want.shape)
        if near(found, want, rel=0.01, absolute=0.01):
            continue
        k = int(np.argmax(abs(found - want)))
        told = {"k": k, "p": tuple(place), "want": want[k], "got": found[k]}
        if not np.isfinite(found).all() or (found == 0).any():
            return "rounded", told | {"got": found[(found == 0) | ~np.isfinite(found)][0]}
        for factor in (0.5, 2):
            if near(found, want / factor, rel=0.01):
                return "half", {"factor": factor}
        if near(found, -want, rel=0.01, absolute=0.01):
            return "sign", told
        if near(found, np.full_like(want, want.sum()), rel=0.01):
            return "together", told
        if abs(found).max() < 0.02 * abs(want).max():
            return "not divided", told
        if near(found, want.cumsum(), rel=0.02) or near(found, want[::-1].cumsum()[::-1], rel=0.02):
            return "cumulative", told
        return ("coarse" if near(found, want, rel=0.2, absolute=0.2) else "other"), told
    return "right"


@exercise("primer.13", MESSAGES["primer.13"])
def linear(answer: Any) -> Verdict:
    draw = torch.Generator().manual_seed(0)
    for N, n, m in ((4, 3, 2), (3, 3, 3)):
        W, X, b = (
            torch.randint(-4, 5, shape, generator=draw).float() for shape in ((m, n), (N, n), (m,))
        )
        b = b + torch.arange(1.0, m + 1) * 10
        got = _fitting("shapes", answer, W, X, b)
        want = (X @ W.T + b).numpy()
        if near(as_array(got), want):
            continue
        if near(as_array(got), want.T):
            return "transposed"
        wrong = {
            "no bias": X @ W.T,
            "bias": X @ W.T + b[:, None] if m == N else want,
            "bias only": b.expand(N, m),
            "transposed W": X @ W + b if n == m else want,
        }
        found = _told(got, want.shape)
        i, j = np.argwhere(~np.isclose(found, want))[0].tolist()
        key = first_match(found, wrong)
        return key, {"i": i, "j": j, "want": want[i, j], "got": found[i, j]}
    return "right"


@exercise("primer.14", MESSAGES["primer.14"])
def log_product(answer: Any) -> Verdict:
    for p in (torch.tensor([0.5, 0.25, 0.8]), torch.full((2000,), 0.1)):
        got, want = number(call(answer, p)), p.double().log().sum().item()
        if near(got, want):
            continue
        told = {"n": len(p), "p": [round(v, 2) for v in p[:3].tolist()], "want": want, "got": got}
        if len(p) > 3 and (not math.isfinite(got) or got == 0):
            return "underflow", told
        wrong = {
            "sum first": math.log(p.sum()),
            "mean": want / len(p),
            "sign": -want,
            "product": p.prod().item(),
        }
        bases = [want / math.log(base) for base in (2, 10)]
        key = "base" if any(near(got, value) for value in bases) else first_match(got, wrong)
        return key, told
    return "right"


@exercise("primer.15", MESSAGES["primer.15"])
def ill_given_positive(answer: Any) -> Verdict:
    for prevalence, sensitivity, specificity in ((0.01, 0.9, 0.95), (0.3, 0.6, 0.8)):
        got = number(call(answer, prevalence, sensitivity, specificity))
        true, false = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
        want = true / (true + false)
        if near(got, want):
            continue
        spared = (1 - prevalence) * specificity
        wrong = {
            "sensitivity": sensitivity,
            "joint": true,
            "positive": true + false,
            "specificity": true / (true + spared),
            "no healthy": true / (true + 1 - specificity),
            "unweighted": sensitivity / (sensitivity + 1 - specificity),
            "odds": true / false,
            "negative": spared / (spared + prevalence * (1 - sensitivity)),
            "complement": 1 - want,
            "percent": 100 * want,
        }
        given = {"prevalence": prevalence, "sensitivity": sensitivity, "specificity": specificity}
        return first_match(got, wrong), {**given, "want": want, "got": got}
    return "right"
