"""Checks of the ideal observer, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from medlab import metrics
from medlab.exercises.ideal_observer import MESSAGES
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked


def d_prime(labels, scores, *, how=""):
    a, b = scores[labels == 1], scores[labels == 0]
    gap = a.mean() - b.mean()
    right = gap / np.sqrt((a.var() + b.var()) / 2)
    return {
        "all": gap / scores.std(),
        "deviations": gap / ((a.std(ddof=1) + b.std(ddof=1)) / 2),
        "healthy": gap / b.std(),
        "variance": gap / ((a.var() + b.var()) / 2),
        "sum": gap / np.sqrt(a.var() + b.var()),
        "gap": gap,
        "sign": -right,
        "auc": norm.cdf(right / 2**0.5),
        "squared": right**2,
        "medians": (np.median(a) - np.median(b)) / np.sqrt((a.var() + b.var()) / 2),
    }.get(how, right)


def log_ratio(x, m, sigma, *, how=""):
    along, half = (x * m).sum((1, 2)), (m * m).sum() / 2
    right = (along - half) / sigma**2
    return {
        "constant": along / sigma**2,
        "along": along,
        "whole": (along - 2 * half) / sigma**2,
        "undivided": along - half,
        "sigma": (along - half) / sigma,
        "twice": 2 * right,
        "half": right / 2,
        "half product": (along / 2 - half) / sigma**2,
        "sign": -right,
        "ratio": np.exp(right),
        "ill": norm.logpdf(x, m, sigma).sum((1, 2)),
        "ill, no constant": -((x - m) ** 2).sum((1, 2)) / 2 / sigma**2,
        "mean": ((x * m).mean((1, 2)) - (m * m).mean() / 2) / sigma**2,
        "plus": (along + half) / sigma**2,
        "sum": right.sum(),
    }.get(how, right)


def by_densities(x, m, sigma):
    return (norm.logpdf(x, m, sigma) - norm.logpdf(x, 0, sigma)).sum((1, 2))


def noise_power(images, *, how=""):
    n = np.fft.fft2(images)
    power, pixels = abs(n) ** 2, images[0].size
    return {
        "undivided": power.mean(0),
        "rows": power.mean(0) / images.shape[1],
        "amplitude": abs(n).mean(0) ** 2 / pixels,
        "modulus": abs(n).mean(0),
        "mean": abs(n.mean(0)) ** 2 / pixels,
        "sum": power.sum(0) / pixels,
        "shifted": np.fft.fftshift(power.mean(0)) / pixels,
        "all axes": (abs(np.fft.fftn(images)) ** 2).mean(0) / pixels,
        "first axes": (abs(np.fft.fft2(images, axes=(0, 1))) ** 2).mean(0) / pixels,
        "one axis": (abs(np.fft.fft(images)) ** 2).mean(0) / pixels,
        "median": np.median(power, 0) / pixels,
        "each": power / pixels,
        "level": noise_power(images - images.mean((1, 2), keepdims=True)) if how else 0,
        "centred": noise_power(images - images.mean(0)) if how else 0,
    }.get(how, power.mean(0) / pixels)


def in_torch(images):
    return torch.fft.fft2(torch.tensor(images), norm="ortho").abs().square().mean(0)


def prewhitened(nodule, power, *, how="", reach=""):
    waves = np.fft.fft2(nodule)
    right, signal = np.fft.ifft2(waves / power), abs(waves) ** 2 / nodule.size
    best = np.sqrt((signal / power).sum())
    template = {
        "plain": nodule,
        "root": np.fft.ifft2(waves / np.sqrt(power)).real,
        "multiplied": np.fft.ifft2(waves * power).real,
        "modulus": np.fft.ifft2(abs(waves) / power).real,
        "squared": np.fft.ifft2(abs(waves) ** 2 / power).real,
        "forward": np.fft.fft2(waves / power).real,
        "conjugate": np.fft.ifft2(waves.conj() / power).real,
        "shifted": np.fft.fftshift(right.real),
        "negative": -right.real,
        "twice": np.fft.ifft2(waves / power**2).real,
        "phase": right * 1j**0.5,
        "waves": waves / power,
        "half": right.real[:5],
        "zero": 0 * nodule,
        "nan": nodule * np.nan,
        "complex": right,
        "tensor": torch.tensor(7 * right.real),
        "list": right.real.tolist(),
        "word": "ring",
    }.get(how, right.real)
    d = {
        "squared": best**2,
        "pixels": np.sqrt((abs(waves) ** 2 / power).sum()),
        "pixels, squared": (abs(waves) ** 2 / power).sum(),
        "plain": (nodule**2).sum() / np.sqrt((signal * power).sum()),
        "white": np.sqrt((nodule**2).sum()),
        "twice": 2 * best,
        "tensor": torch.tensor(best),
        "image": nodule,
    }.get(reach, best)
    return template, d


def by_matrix(nodule, power):
    wave = np.fft.ifft2(power).real
    shifts = np.ndindex(nodule.shape)
    K = np.array([np.roll(wave, shift, (0, 1)).ravel() for shift in shifts])
    w = np.linalg.solve(K, nodule.ravel())
    return [w.reshape(nodule.shape), np.sqrt(nodule.ravel() @ w)]


def reached(reach):
    return lambda *given: prewhitened(*given, reach=reach)


def efficiency(auc, ideal, *, how=""):
    z = norm.ppf(auc)
    top = norm.cdf(ideal / 2**0.5)
    right = 2 * z * z / ideal**2
    with np.errstate(divide="ignore"):
        return {
            "linear": 2**0.5 * z / ideal,
            "no root": (z / ideal) ** 2,
            "divided": (z / 2**0.5 / ideal) ** 2,
            "aucs": auc / top,
            "excess": (auc - 0.5) / (top - 0.5),
            "forward": (2**0.5 * norm.cdf(auc) / ideal) ** 2,
            "inverse": 1 / np.float64(right),
            "percent": 100 * right,
            "cubed": right**1.5,
        }.get(how, right)


def hotelling(images, labels, *, how=""):
    flat = images.reshape(len(images), -1)
    ill, healthy = flat[labels == 1], flat[labels == 0]
    K, m = (np.cov(ill.T) + np.cov(healthy.T)) / 2, ill.mean(0) - healthy.mean(0)
    right = np.linalg.solve(K, m).reshape(images.shape[1:])
    return {
        "means": m,
        "variances": m / np.diag(K),
        "multiplied": K @ m,
        "healthy": np.linalg.solve(np.cov(healthy.T), m),
        "sign": -right,
        "ill mean": np.linalg.solve(K, ill.mean(0)),
        "transposed": right.T.reshape(3, 4),
        "all": np.linalg.solve(np.cov(flat.T), m),
        "twice": np.linalg.solve(K @ K, m),
        "matrix": K,
        "zero": 0 * m,
    }.get(how, right)


def by_scikit_learn(images, labels):
    return LinearDiscriminantAnalysis().fit(images.reshape(len(images), -1), labels).coef_


def by(answer, how):
    return lambda *given: answer(*given, how=how)


CASES = [
    ("ideal_observer.1", d_prime, "✓"),
    ("ideal_observer.1", lambda y, s: torch.tensor(d_prime(y, s)), "✓"),
    ("ideal_observer.1", lambda y, s: d_prime(y, 3 * s + 7), "✓"),
    (
        "ideal_observer.1",
        lambda y, s: (
            (s[y == 1].mean() - s[y == 0].mean())
            / np.sqrt((s[y == 1].var(ddof=1) + s[y == 0].var(ddof=1)) / 2)
        ),
        "✓",
    ),
    ("ideal_observer.1", by(d_prime, "all"), "spread of all scores together"),
    ("ideal_observer.1", by(d_prime, "deviations"), "averaged two standard deviations"),
    ("ideal_observer.1", by(d_prime, "healthy"), "one class alone"),
    ("ideal_observer.1", by(d_prime, "variance"), "divided by the variance"),
    ("ideal_observer.1", by(d_prime, "sum"), "added the variances"),
    ("ideal_observer.1", by(d_prime, "gap"), "the distance of the means"),
    ("ideal_observer.1", by(d_prime, "sign"), "the healthy minus the ill"),
    ("ideal_observer.1", by(d_prime, "auc"), "that is the AUC"),
    ("ideal_observer.1", by(d_prime, "squared"), "that is d′²"),
    ("ideal_observer.1", by(d_prime, "medians"), "for 60 ill and 25 healthy"),
    ("ideal_observer.1", lambda y, s: s, "expected a number"),
    ("ideal_observer.2", log_ratio, "✓"),
    ("ideal_observer.2", by_densities, "✓"),
    ("ideal_observer.2", lambda *g: torch.tensor(log_ratio(*g)), "✓"),
    ("ideal_observer.2", lambda *g: log_ratio(*g).tolist(), "✓"),
    ("ideal_observer.2", by(log_ratio, "sum"), "one number an image, (4,)"),
    ("ideal_observer.2", lambda *g: "many", "one number an image, (4,)"),
    ("ideal_observer.2", by(log_ratio, "constant"), "m²/2 is missing"),
    ("ideal_observer.2", by(log_ratio, "along"), "m²/2 is missing"),
    ("ideal_observer.2", by(log_ratio, "whole"), "half of it belongs there"),
    ("ideal_observer.2", by(log_ratio, "undivided"), "σ² is missing"),
    ("ideal_observer.2", by(log_ratio, "sigma"), "you divided by σ."),
    ("ideal_observer.2", by(log_ratio, "twice"), "twice too much"),
    ("ideal_observer.2", by(log_ratio, "half"), "half too little"),
    ("ideal_observer.2", by(log_ratio, "half product"), "half too little"),
    ("ideal_observer.2", by(log_ratio, "sign"), "that is ln q₀/q₁"),
    ("ideal_observer.2", by(log_ratio, "ratio"), "that is the ratio"),
    ("ideal_observer.2", by(log_ratio, "ill"), "that is ln q₁ alone"),
    ("ideal_observer.2", by(log_ratio, "ill, no constant"), "that is ln q₁ alone"),
    ("ideal_observer.2", by(log_ratio, "mean"), "mean over the pixels"),
    ("ideal_observer.2", by(log_ratio, "plus"), "for the first image I expected"),
    ("ideal_observer.3", noise_power, "✓"),
    ("ideal_observer.3", in_torch, "✓"),
    ("ideal_observer.3", by(noise_power, "centred"), "✓"),
    ("ideal_observer.3", lambda x: noise_power(x).tolist(), "✓"),
    ("ideal_observer.3", by(noise_power, "each"), "expected shape (6, 9)"),
    ("ideal_observer.3", lambda x: "flat", "expected shape (6, 9)"),
    ("ideal_observer.3", by(noise_power, "undivided"), "D is missing"),
    ("ideal_observer.3", by(noise_power, "rows"), "something else than H·W"),
    ("ideal_observer.3", by(noise_power, "amplitude"), "you averaged moduli"),
    ("ideal_observer.3", by(noise_power, "modulus"), "you averaged moduli"),
    ("ideal_observer.3", by(noise_power, "mean"), "in which noise cancels"),
    ("ideal_observer.3", by(noise_power, "sum"), "that is N times too much"),
    ("ideal_observer.3", by(noise_power, "shifted"), "no `fftshift`"),
    ("ideal_observer.3", by(noise_power, "all axes"), "that is N times too much"),
    ("ideal_observer.3", by(noise_power, "first axes"), "along the wrong axes"),
    ("ideal_observer.3", by(noise_power, "one axis"), "along the wrong axes"),
    ("ideal_observer.3", by(noise_power, "level"), "the power at frequency 0 is gone"),
    ("ideal_observer.3", by(noise_power, "median"), "at frequency 0 I expected"),
    ("ideal_observer.4", prewhitened, "✓"),
    ("ideal_observer.4", by_matrix, "✓"),
    ("ideal_observer.4", by(prewhitened, "tensor"), "✓"),
    ("ideal_observer.4", by(prewhitened, "complex"), "✓"),
    ("ideal_observer.4", by(prewhitened, "list"), "✓"),
    ("ideal_observer.4", reached("tensor"), "✓"),
    ("ideal_observer.4", lambda *g: prewhitened(*g)[0], "two things, the template and its d′"),
    ("ideal_observer.4", lambda *g: prewhitened(*g)[::-1], "d′ first"),
    ("ideal_observer.4", reached("squared"), "that is d′², and I asked"),
    ("ideal_observer.4", reached("pixels"), "the number of pixels D is missing"),
    ("ideal_observer.4", reached("pixels, squared"), "the number of pixels D is missing"),
    ("ideal_observer.4", reached("plain"), "the d′ of the plain matched filter"),
    ("ideal_observer.4", reached("white"), "leaves the noise out"),
    ("ideal_observer.4", reached("twice"), "Its d′ should be"),
    ("ideal_observer.4", reached("image"), "expected a number"),
    ("ideal_observer.4", by(prewhitened, "half"), "expected a template of shape (10, 14)"),
    ("ideal_observer.4", by(prewhitened, "nan"), "expected a template of shape (10, 14)"),
    ("ideal_observer.4", by(prewhitened, "word"), "expected a template of shape (10, 14)"),
    ("ideal_observer.4", by(prewhitened, "phase"), "an imaginary part"),
    ("ideal_observer.4", by(prewhitened, "waves"), "an imaginary part"),
    ("ideal_observer.4", by(prewhitened, "plain"), "that is the nodule itself"),
    ("ideal_observer.4", by(prewhitened, "root"), "the root of the power"),
    ("ideal_observer.4", by(prewhitened, "multiplied"), "multiplied by the power"),
    ("ideal_observer.4", by(prewhitened, "modulus"), "Without the phases"),
    ("ideal_observer.4", by(prewhitened, "squared"), "you took the nodule's power"),
    ("ideal_observer.4", by(prewhitened, "forward"), "lies mirrored"),
    ("ideal_observer.4", by(prewhitened, "conjugate"), "lies mirrored"),
    ("ideal_observer.4", by(prewhitened, "shifted"), "shifted by half an image"),
    ("ideal_observer.4", by(prewhitened, "negative"), "scores ill images low"),
    ("ideal_observer.4", by(prewhitened, "twice"), "of the ideal d′² here"),
    ("ideal_observer.4", by(prewhitened, "zero"), "has 0% of the ideal"),
    ("ideal_observer.5", efficiency, "✓"),
    ("ideal_observer.5", lambda *g: torch.tensor(efficiency(*g)), "✓"),
    ("ideal_observer.5", by(efficiency, "linear"), "Efficiency is its square"),
    ("ideal_observer.5", by(efficiency, "no root"), "a √2 to multiply with"),
    ("ideal_observer.5", by(efficiency, "divided"), "you divided by √2"),
    ("ideal_observer.5", by(efficiency, "aucs"), "a ratio of AUCs"),
    ("ideal_observer.5", by(efficiency, "excess"), "a ratio of AUCs"),
    ("ideal_observer.5", by(efficiency, "forward"), "you used Φ itself"),
    ("ideal_observer.5", by(efficiency, "inverse"), "The observer stands on top"),
    ("ideal_observer.5", by(efficiency, "percent"), "per cent"),
    ("ideal_observer.5", by(efficiency, "cubed"), "for an AUC of 0.84"),
    ("ideal_observer.5", lambda auc, ideal: max(efficiency(auc, ideal), 0.05), "an AUC of 0.5 and"),
    ("ideal_observer.5", lambda auc, ideal: np.nan, "for an AUC of 0.84"),
    ("ideal_observer.6", hotelling, "✓"),
    ("ideal_observer.6", by_scikit_learn, "✓"),
    ("ideal_observer.6", by(hotelling, "all"), "✓"),
    ("ideal_observer.6", lambda x, y: torch.tensor(hotelling(x, y)).flatten(), "✓"),
    ("ideal_observer.6", by(hotelling, "matrix"), "a template of shape (3, 4)"),
    ("ideal_observer.6", lambda x, y: "w", "a template of shape (3, 4)"),
    ("ideal_observer.6", by(hotelling, "means"), "K⁻¹ is missing"),
    ("ideal_observer.6", by(hotelling, "variances"), "the variance of each pixel"),
    ("ideal_observer.6", by(hotelling, "multiplied"), "you multiplied by K"),
    ("ideal_observer.6", by(hotelling, "healthy"), "from one class alone"),
    ("ideal_observer.6", by(hotelling, "sign"), "scores the healthy higher"),
    ("ideal_observer.6", by(hotelling, "ill mean"), "the *difference* of the means"),
    ("ideal_observer.6", by(hotelling, "transposed"), "in the wrong places"),
    ("ideal_observer.6", by(hotelling, "twice"), "of the one that I expected"),
    ("ideal_observer.6", by(hotelling, "zero"), "has 0% of the d′²"),
]
# The order of axes of a sum, and the size of a template, of which nothing depends
EQUIVALENT = [
    "ideal_observer.2: signal = (x * m).sum(axis=(1, 2)) → signal = (x * m).sum(axis=(2, 1))",
    *(
        f"ideal_observer.6: K = (np.cov(ill.T) + np.cov(healthy.T)) / 2 → K = {other}"
        for other in (
            "(np.cov(ill.T) + np.cov(healthy.T)) * 2",
            "(np.cov(ill.T) + np.cov(healthy.T)) / 1",
            "(np.cov(ill.T) + np.cov(healthy.T)) / 3",
            "np.cov(ill.T) + np.cov(healthy.T)",
        )
    ),
    "ideal_observer.6: flat = images.reshape(len(images), -1) "
    "→ flat = images.reshape(len(images), -2)",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_a_changed_solution_is_not_ticked():
    assert ticked("13_ideal_observer", "ideal_observer") == EQUIVALENT


def test_the_ideal_template_has_the_auc_that_the_formula_says():
    rng = np.random.default_rng(0)
    nodule = np.zeros((8, 8))
    nodule[3:5, 2:5] = 0.6
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(8)))
    power = 0.3 + 2 / (1 + (f / 0.1) ** 2)
    labels = np.arange(20_000) % 2
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(20_000, 8, 8))) * np.sqrt(power)).real
    scores = ((noise + labels[:, None, None] * nodule) * prewhitened(nodule, power)[0]).sum((1, 2))
    d = prewhitened(nodule, power)[1]
    assert metrics.auc(labels, scores) == pytest.approx(norm.cdf(d / 2**0.5), abs=0.008)
    assert d_prime(labels, scores) == pytest.approx(d, abs=0.05)
    assert noise_power(noise) == pytest.approx(power, rel=0.06)
