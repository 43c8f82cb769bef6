"""Checks of the ideal observer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import norm

from medlab.exercises import (
    Verdict,
    as_array,
    call,
    exercise,
    first_match,
    near,
    number,
    shape_or_type,
)

MESSAGES = {
    "ideal_observer.1": {
        "right": "d′ does not change if all scores are shifted or stretched, and neither does the "
        "AUC.",
        "spread of all": "you divided by the spread of all scores together. It grows with the "
        "distance of the classes; take the spread within the classes.",
        "mean of spreads": "you averaged two standard deviations. Average the variances, and take "
        "the root.",
        "one class": "you took the spread of one class alone. Both count.",
        "variance": "you divided by the variance. Take its root.",
        "sum": "you added the variances. It is their mean that stands under the root.",
        "not divided": "that is the distance of the means. Divide it by the spread.",
        "sign": "you got {got:.3f}, the healthy minus the ill. Ill scores lie higher here.",
        "auc": "that is the AUC. I asked for d′.",
        "squared": "that is d′².",
        "other": "for {n1} ill and {n0} healthy scores I expected {want:.4f}, and got {got:.4f}.",
    },
    "ideal_observer.2": {
        "right": "the image enters as m · x alone: the ideal observer is the matched filter.",
        "shape": "I expected one number an image, {want}, and got {got}.",
        "constant": "the order of the images is right, and the ROC curve with it. But the sum of "
        "m²/2 is missing: multiply (x − m)² out.",
        "whole constant": "the constant is m², and half of it belongs there: (x − m)² stands over "
        "2σ².",
        "not divided": "σ² is missing. The density of a pixel has 2σ² under the square.",
        "by sigma": "you divided by σ. The density of a pixel has σ² under the square.",
        "twice": "twice too much: the density of a pixel has 2σ² under the square.",
        "half": "half too little: the product −2·x·m of the square loses its 2 to 2σ².",
        "sign": "that is ln q₀/q₁: the wrong one is on top.",
        "ratio": "that is the ratio. I asked for its logarithm.",
        "ill alone": "that is ln q₁ alone (but for a constant). Subtract ln q₀.",
        "mean": "you took a mean over the pixels. Densities multiply, so logarithms add.",
        "other": "for the first image I expected {want:.4f}, and got {got:.4f}.",
    },
    "ideal_observer.3": {
        "right": "and its mean over all waves is the variance of a pixel, {variance:.2f} here.",
        "shape": "I expected shape {want}, and got {got}.",
        "not divided": "D is missing: divide by the number of pixels of an image.",
        "by side": "you divided by something else than H·W, the number of pixels of an image.",
        "amplitude": "you averaged moduli, and squared them afterwards or not at all. Noise power "
        "is the mean of the *squares*.",
        "of the mean": "you transformed the mean of the images, in which noise cancels. Transform "
        "each image, and average the powers.",
        "sum": "that is N times too much: you added up the images, or transformed along them as "
        "well. Take their mean, and `np.fft.fft2`, which transforms the last two axes.",
        "shifted": "frequency 0 stands in the middle. Leave it in the corner: no `fftshift`.",
        "axes": "you transformed along the wrong axes. `np.fft.fft2` takes the last two.",
        "level": "you subtracted each image's own mean, so that the power at frequency 0 is gone. "
        "The images have mean 0 on average; what single ones have is noise.",
        "other": "at frequency 0 I expected {want:.4f}, and got {got:.4f}.",
    },
    "ideal_observer.4": {
        "right": "in white noise it is the nodule itself, and in any other no template is better.",
        "pair": "I expected two things, the template and its d′, and got {got}.",
        "order": "you returned d′ first. I asked for (template, d′).",
        "shape": "I expected a template of shape {want}, and got {got}.",
        "d squared": "the template is right; that is d′², and I asked for its root.",
        "d pixels": "the template is right; in d′ the number of pixels D is missing, by which the "
        "power of a transform is divided.",
        "d plain": "the template is right, and that is the d′ of the plain matched filter.",
        "d white": "the template is right, and that d′ leaves the noise out.",
        "d": "the template is right. Its d′ should be {want:.3f}, and I got {got:.3f}.",
        "complex": "your template has an imaginary part. Divide the whole transform, and take "
        "`.real` after the way back.",
        "plain": "that is the nodule itself: best in white noise, and here the noise has a colour.",
        "half way": "you divided by the root of the power. That whitens the nodule; the image "
        "needs whitening too. Together they divide by the power.",
        "multiplied": "you multiplied by the power: your template trusts those waves most in which "
        "the noise is strongest.",
        "modulus": "you divided the modulus of the transform. Without the phases the place is "
        "lost.",
        "squared": "you took the nodule's power. Its transform, once, is what is divided.",
        "turned": "your template lies mirrored. There and back: `fft2`, then `ifft2`.",
        "shifted": "your template is shifted by half an image. `power` has frequency 0 in the "
        "corner, as `fft2` has: no `fftshift`.",
        "sign": "your template is negative where the nodule is bright: it scores ill images low.",
        "other": "your template has {got:.0%} of the ideal d′² here.",
    },
    "ideal_observer.5": {
        "right": "an AUC of 0.85 where the ideal has 0.90 is {share:.0%} of the information.",
        "not squared": "that is d′ over the ideal d′. Efficiency is its square: it counts images.",
        "no root": "you took Φ⁻¹(AUC) for d′. In AUC = Φ(d′/√2) there is a √2 to multiply with.",
        "divided": "you divided by √2. d′/√2 = Φ⁻¹(AUC), so multiply.",
        "aucs": "that is a ratio of AUCs, or of what exceeds ½. Turn the AUC into a d′ first.",
        "forward": "you used Φ itself. From an AUC to d′ it takes its inverse, `norm.ppf`.",
        "inverse": "you divided the ideal by the observer. The observer stands on top.",
        "percent": "you returned per cent. An efficiency lies between 0 and 1 in this course.",
        "other": "for an AUC of {auc} and an ideal d′ of {ideal} I expected {want:.4f}, and got "
        "{got:.4f}.",
    },
    "ideal_observer.6": {
        "right": "that is all of linear discriminant analysis.",
        "shape": "I expected a template of shape {want}, and got {got}.",
        "means": "that is the difference of the class means: the plain matched filter. K⁻¹ is "
        "missing.",
        "variances": "you divided by the variance of each pixel. Neighbours are correlated: solve "
        "with the whole matrix.",
        "multiplied": "you multiplied by K. It is K⁻¹m, `np.linalg.solve(K, m)`.",
        "one class": "you estimated K from one class alone. Both hold noise, so use both.",
        "sign": "your template scores the healthy higher: m is the ill mean minus the healthy.",
        "ill mean": "your m is the mean of one class. The nodule is the *difference* of the means.",
        "transposed": "the weights are there, in the wrong places of the image. Flatten and "
        "reshape in one order.",
        "other": "your template has {got:.0%} of the d′² of the one that I expected, on the same "
        "images.",
    },
}


@exercise("ideal_observer.1", MESSAGES["ideal_observer.1"])
def d_prime(answer) -> Verdict:
    for seed, (n1, n0) in enumerate(((60, 25), (14, 40))):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat([1, 0], [n1, n0]))
        scores = rng.normal(size=n1 + n0) * (1 + 1.5 * labels) + 2.3 * labels - 4
        ill, healthy = scores[labels == 1], scores[labels == 0]
        got = number(call(answer, labels.copy(), scores.copy()))
        gap = ill.mean() - healthy.mean()
        rights = [gap / math.sqrt((ill.var(ddof=d) + healthy.var(ddof=d)) / 2) for d in (0, 1)]
        if any(near(got, right) for right in rights):
            continue
        values = {"n1": n1, "n0": n0, "want": rights[0], "got": got}
        for d, want in enumerate(rights):
            v1, v0, v = ill.var(ddof=d), healthy.var(ddof=d), scores.var(ddof=d)
            wrong = {
                "spread of all": gap / math.sqrt(v),
                "mean of spreads": 2 * gap / (math.sqrt(v1) + math.sqrt(v0)),
                "variance": 2 * gap / (v1 + v0),
                "sum": gap / math.sqrt(v1 + v0),
                "not divided": gap,
                "sign": -want,
                "auc": norm.cdf(want / math.sqrt(2)),
                "squared": want**2,
            }
            key = first_match(got, wrong)
            if key == "other" and any(near(got, gap / math.sqrt(one)) for one in (v1, v0)):
                key = "one class"
            if key != "other":
                return key, values
        return "other", values
    return "right"


@exercise("ideal_observer.2", MESSAGES["ideal_observer.2"])
def log_ratio(answer) -> Verdict:
    rng = np.random.default_rng(0)
    m, sigma = rng.uniform(0, 1, (3, 5)), 1.7
    x = 0.4 * m + sigma * rng.normal(size=(4, 3, 5))
    got = as_array(call(answer, x.copy(), m.copy(), sigma))
    along, half = (x * m).sum((1, 2)), (m * m).sum() / 2
    want = (along - half) / sigma**2
    if got.shape != want.shape:
        return "shape", {"want": want.shape, "got": shape_or_type(got)}
    if near(got, want):
        return "right"
    wrong = {
        "constant": along / sigma**2,
        "whole constant": (along - 2 * half) / sigma**2,
        "not divided": along - half,
        "by sigma": (along - half) / sigma,
        "twice": 2 * want,
        "half": want / 2,
        "sign": -want,
        "ratio": np.exp(want),
        "ill alone": -((x - m) ** 2).sum((1, 2)) / (2 * sigma**2),
        "mean": want / m.size,
    }
    key = first_match(got, wrong)
    if key == "other" and near(got, norm.logpdf(x, m, sigma).sum((1, 2))):
        key = "ill alone"
    if key == "other" and (near(got, along) or near(got, along / sigma)):
        key = "constant"
    if key == "other" and near(got, (along / 2 - half) / sigma**2):
        key = "half"
    return key, {"want": float(want[0]), "got": float(got[0])}


@exercise("ideal_observer.3", MESSAGES["ideal_observer.3"])
def noise_power(answer) -> Verdict:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(30, 6, 9)) + rng.normal(size=(30, 1, 9))
    images = images + 0.8 * rng.normal(size=(30, 1, 1))  # some power at frequency 0
    got = as_array(call(answer, images.copy()))
    n, pixels = np.fft.fft2(images), 54
    want = (abs(n) ** 2).mean(0) / pixels
    if got.shape != want.shape:
        return "shape", {"want": want.shape, "got": shape_or_type(got)}
    centred = (abs(np.fft.fft2(images - images.mean(0))) ** 2).mean(0) / pixels
    if any(near(got, right) for right in (want, centred, centred * 30 / 29)):
        return "right", {"variance": images.var()}
    level = want.copy()
    level[0, 0] = 0
    wrong = {
        "not divided": [want * pixels],
        "by side": [want * pixels / side for side in (6, 9, 30, 54**2, 54**0.5)],
        "amplitude": [
            abs(n).mean(0) ** power / scale
            for power in (1, 2)
            for scale in (1, pixels, math.sqrt(pixels))
        ],
        "of the mean": [abs(n.mean(0)) ** 2 / scale for scale in (1, pixels)],
        "sum": [want * 30, want * 30 * pixels],
        "shifted": [np.fft.fftshift(want)],
        "axes": [
            (abs(change(images)) ** 2).mean(0) / pixels
            for change in (lambda x: np.fft.fft2(x, axes=(0, 1)), np.fft.fft)
        ],
        "level": [level],
    }
    for key, guesses in wrong.items():
        if any(near(got, guess) for guess in guesses):
            return key
    return "other", {"want": float(want[0, 0]), "got": float(got[0, 0])}


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two templates, 1 where they differ by a factor only."""
    size = math.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 0 else 0.0


def _flat(result: Any) -> np.ndarray:
    """The real numbers of a template; what holds none, or NaN, is empty."""
    values = as_array(result)
    return values if np.isfinite(values).all() else np.zeros(0)


@exercise("ideal_observer.4", MESSAGES["ideal_observer.4"])
def prewhitened(answer) -> Verdict:
    rows, columns = np.mgrid[:10, :14]
    nodule = np.exp(-((rows - 3) ** 2 + (columns - 8) ** 2) / 4)
    nodule = nodule + 0.5 * ((rows == 4) & (columns == 11))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(10), np.fft.fftfreq(14), indexing="ij"))
    power = 0.3 + 3 / (1 + (f / 0.1) ** 2)
    pair = call(answer, nodule.copy(), power.copy())
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return "pair", {"got": shape_or_type(pair)}
    if np.size(pair[0]) == 1 and np.size(pair[1]) > 1:
        return "order"
    result = pair[0]
    array = np.asarray(result.detach().cpu() if hasattr(result, "detach") else result)
    if array.dtype.kind == "c":
        if array.shape == nodule.shape and abs(array.imag).max() > 1e-6 * abs(array.real).max():
            return "complex"
        result = array.real
    got = _flat(result)
    if got.shape != nodule.shape:
        return "shape", {"want": nodule.shape, "got": shape_or_type(result)}
    waves = np.fft.fft2(nodule)
    want = np.fft.ifft2(waves / power).real
    signal = abs(waves) ** 2 / nodule.size
    best = math.sqrt((signal / power).sum())
    if _alike(got, want) > 1 - 1e-6:
        return _reached(number(pair[1]), nodule, signal, power, best)
    middle = np.fft.ifft2(np.fft.fftshift(waves) / power).real
    wrong = {
        "sign": [-want],
        "plain": [nodule],
        "half way": [np.fft.ifft2(waves / np.sqrt(power)).real],
        "multiplied": [np.fft.ifft2(waves * power).real],
        "modulus": [np.fft.ifft2(abs(waves) / power).real],
        "squared": [np.fft.ifft2(abs(waves) ** 2 / power).real],
        "turned": [np.fft.fft2(waves / power).real, np.fft.ifft2(waves.conj() / power).real],
        "shifted": [np.fft.fftshift(want), np.fft.ifftshift(want), middle],
    }
    for key, guesses in wrong.items():
        if any(_alike(got, guess) > 1 - 1e-6 for guess in guesses):
            return key
    noise = (abs(np.fft.fft2(got, norm="ortho")) ** 2 * power).sum()
    share = ((got * nodule).sum() ** 2 / noise if noise > 0 else 0.0) / best**2
    return "other", {"got": float(share)}


def _reached(
    got: float, nodule: np.ndarray, signal: np.ndarray, power: np.ndarray, best: float
) -> Verdict:
    """What is to be said of the d′ of the right template."""
    if near(got, best):
        return "right"
    wrong = {
        "d squared": best**2,
        "d pixels": best * math.sqrt(nodule.size),
        "d plain": (nodule**2).sum() / math.sqrt((signal * power).sum()),
        "d white": math.sqrt(signal.sum()),
    }
    key = first_match(got, wrong)
    if key == "other" and any(near(got, best**2 * n) for n in (nodule.size, nodule.size**2)):
        key = "d pixels"
    return "d" if key == "other" else key, {"want": best, "got": got}


@exercise("ideal_observer.5", MESSAGES["ideal_observer.5"])
def efficiency(answer) -> Verdict:
    for auc, ideal in ((0.84, 1.8), (0.69, 2.6), (0.5, 1.1)):
        got = number(call(answer, auc, ideal))
        z = float(norm.ppf(auc))
        d = math.sqrt(2) * z
        want = (d / ideal) ** 2
        if near(got, want):
            continue
        top = float(norm.cdf(ideal / math.sqrt(2)))
        wrong = {
            "not squared": [d / ideal],
            "no root": [(z / ideal) ** 2, z / ideal],
            "divided": [(z / math.sqrt(2) / ideal) ** 2, z / math.sqrt(2) / ideal],
            "aucs": [auc / top, (auc - 0.5) / (top - 0.5), (auc / top) ** 2],
            "forward": [(math.sqrt(2) * float(norm.cdf(auc)) / ideal) ** 2],
            "inverse": [1 / want if want else math.inf],
            "percent": [100 * want],
        }
        values = {"auc": auc, "ideal": ideal, "want": want, "got": got}
        for key, guesses in wrong.items():
            if any(near(got, guess) for guess in guesses):
                return key, values
        return "other", values
    ends = [float(norm.ppf(auc)) for auc in (0.85, 0.9)]
    return "right", {"share": (ends[0] / ends[1]) ** 2}


@exercise("ideal_observer.6", MESSAGES["ideal_observer.6"])
def hotelling(answer) -> Verdict:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(12, 12)) + 2 * np.eye(12)
    labels = rng.permutation(np.repeat([1, 0], [90, 50]))
    flat = rng.normal(size=(140, 12)) @ mixing + 0.7
    flat[labels == 1] = flat[labels == 1] * 1.3 + np.linspace(-1, 2, 12)
    result = call(answer, flat.reshape(140, 3, 4).copy(), labels.copy())
    got = _flat(result)
    if got.shape not in ((3, 4), (12,), (12, 1), (1, 12)):
        return "shape", {"want": (3, 4), "got": shape_or_type(result)}
    w = got.ravel()
    ill, healthy = flat[labels == 1], flat[labels == 0]
    m = ill.mean(0) - healthy.mean(0)
    k1, k0, k = np.cov(ill.T), np.cov(healthy.T), np.cov(flat.T)
    mean = (k1 + k0) / 2
    # Weighted by the sizes of the classes or not, or over all images: the same up to sampling
    pooled = [mean, (89 * k1 + 49 * k0) / 138, (90 * k1 + 50 * k0) / 140, k]
    pooled += [(89 / 90 * k1 + 49 / 50 * k0) / 2]
    if any(_alike(w, np.linalg.solve(one, m)) > 1 - 1e-6 for one in pooled):
        return "right"
    want = np.linalg.solve(mean, m)
    wrong = {
        "sign": [-np.linalg.solve(one, m) for one in pooled],
        "means": [m],
        "variances": [m / np.diag(one) for one in pooled],
        "multiplied": [one @ m for one in pooled],
        "one class": [np.linalg.solve(one, m) for one in (k1, k0)],
        "ill mean": [np.linalg.solve(one, c.mean(0)) for one in pooled for c in (ill, healthy)],
        "transposed": [want.reshape(4, 3).T.ravel(), want.reshape(3, 4).T.ravel()],
    }
    for key, guesses in wrong.items():
        if any(_alike(w, guess) > 1 - 1e-6 for guess in guesses):
            return key
    noise = float(w @ mean @ w)
    return "other", {"got": (float(w @ m) ** 2 / noise if noise > 0 else 0.0) / float(want @ m)}
