"""Checks of denoising: right answers in several forms, each named mistake, mutants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.ndimage import convolve
from skimage.metrics import peak_signal_noise_ratio
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from medlab.errors import DataError
from medlab.exercises import check
from medlab.exercises.denoising import MESSAGES, denoise
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ the filters


@pytest.mark.parametrize("method", ["tv", "nlm", "wavelets"])
def test_denoise_brings_an_image_nearer_to_the_truth(method):
    truth = np.zeros((64, 64), np.float32)
    truth[16:48, 20:50] = 1
    noisy = truth + np.random.default_rng(0).normal(size=truth.shape).astype(np.float32) * 0.2
    clean = denoise(torch.tensor(noisy)[None, None], method=method, sigma=0.2)[0, 0]
    before = peak_signal_noise_ratio(truth, noisy, data_range=1)
    assert peak_signal_noise_ratio(truth, clean.numpy(), data_range=1) > before + 3
    for value in (0.0, 0.4, 3.0):
        flat = torch.full((16, 16), value)
        torch.testing.assert_close(denoise(flat, method=method, sigma=0.2), flat)


def test_each_method_of_denoising_is_the_documented_one():
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 2) + 0.1 * rng.normal(size=(64, 64))
    expected = {
        "tv": denoise_tv_chambolle(image, weight=0.1),
        "nlm": denoise_nl_means(image, h=0.08, patch_size=5, patch_distance=6, sigma=0.1),
    }
    for method, other in expected.items():
        found = denoise(torch.tensor(image), method=method, sigma=0.1)
        np.testing.assert_allclose(found, other, atol=1e-12)


def test_a_known_noise_level_is_used_and_wavelets_shrink_by_it():
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((6, 6)), np.ones((12, 12)))
    noisy = clean + 0.1 * rng.normal(size=clean.shape)

    def found(method, sigma):
        return denoise(torch.tensor(noisy), method=method, sigma=sigma).numpy()

    error = {s: np.mean((found("wavelets", s) - clean) ** 2) for s in (0.0, 0.02, 0.1, 1.0)}
    assert error[0.0] == pytest.approx(np.mean((noisy - clean) ** 2))
    assert error[0.1] < error[0.02] < error[0.0] and error[0.1] < error[1.0]
    # An endless threshold leaves the three Gaussians one after the other.
    smooth = noisy
    for scale in (0.7, 1.4, 2.8):
        smooth = ndimage.gaussian_filter(smooth, scale, mode="nearest")
    np.testing.assert_allclose(found("wavelets", 1e6), smooth, atol=1e-6)
    for method in ("tv", "nlm"):
        weak, strong = (found(method, s) for s in (0.01, 0.3))
        assert np.abs(strong - noisy).mean() > 2 * np.abs(weak - noisy).mean()


def test_denoise_refuses():
    x = torch.zeros(8, 8)
    with pytest.raises(DataError, match="at least 0; got -1"):
        denoise(x, method="tv", sigma=-1)
    with pytest.raises(DataError, match="one of tv, nlm, wavelets; got 'wiener'"):
        denoise(x, method="wiener", sigma=0.2)


# ------------------------------------------------------------------------ 1: what a kernel leaves


def left(power, kernel, how=""):
    H = torch.fft.fft2(kernel, s=power.shape, norm="ortho" if how == "scaled" else None)
    if how == "white":
        return power.mean().sqrt() * kernel.square().sum().sqrt()
    if how == "untouched":
        return power.mean().sqrt()
    if how == "roots":
        return (power.sqrt() * H.abs()).mean()
    if how == "shifted":
        H = torch.fft.fftshift(H)
    if how == "real":
        H = H.real
    if how == "complex":
        return (power * H**2).mean().sqrt()
    passed = power * (H.abs() if how == "amplitude" else H.abs() ** 2)
    variance = passed.sum() if how == "sum" else passed.mean()
    return variance if how == "variance" else variance.sqrt()


def through_autocovariance(power, kernel):
    """No Fourier transform of the kernel: its values times the noise's covariance."""
    covariance = torch.fft.ifft2(power).real
    rows, columns = kernel.shape
    total = 0.0
    for a in range(rows):
        for b in range(columns):
            for c in range(rows):
                for d in range(columns):
                    total += (kernel[a, b] * kernel[c, d] * covariance[a - c, b - d]).item()
    return np.sqrt(total)


# ------------------------------------------------------------------------ 2: decibels


def decibels(truth, output, dark, bright, *, span=None, clip=(True, True), pool=False):
    t, o = (x.clamp(dark, bright) if c else x for x, c in zip((truth, output), clip, strict=True))
    error = (t - o).square().flatten(1).mean(1)
    error = error.mean() if pool else error
    return 10 * ((span or bright - dark) ** 2 / error).log10()


def own_range(truth, output, dark, bright):
    return decibels(truth, output, dark, bright, span=(truth.max() - truth.min()).item())


def inside(truth, output, dark, bright, *, whole=False):
    """Of the pixels whose truth lies in the window, over their number or that of all."""
    squares = (truth - output).square() * ((truth > dark) & (truth < bright))
    count = ((truth > dark) & (truth < bright)).flatten(1).sum(1)
    error = squares.flatten(1).sum(1) / (truth[0].numel() if whole else count)
    return 10 * ((bright - dark) ** 2 / error).log10()


def difference(truth, output, dark, bright):
    error = (output - truth).clamp(dark, bright).square().flatten(1).mean(1)
    return 10 * ((bright - dark) ** 2 / error).log10()


def in_numpy(truth, output, dark, bright):
    pairs = zip(truth.numpy().clip(dark, bright), output.numpy().clip(dark, bright), strict=True)
    return [20 * np.log10((bright - dark) / np.sqrt(np.mean((t - o) ** 2))) for t, o in pairs]


# ------------------------------------------------------------------------ 3: a report


def report(denoise, val, test, strengths, *, choose="val", measure="val", how=""):
    parts = {"val": val, "test": test}
    rest = parts[measure][0] - parts[measure][1]
    level = rest.flatten(1).std(1).mean() if how == "levels" else rest.std()
    level = {"no level": 1, "images": parts[measure][0].std()}.get(how, level)
    noisy, clean, _ = parts[choose]
    cost = [(denoise(noisy, s * level) - clean).square().mean().item() for s in strengths]
    best = strengths[int(np.argmax(cost) if how == "worst" else np.argmin(cost))]
    noisy, clean, patients = test
    used = {"level": best, "test level": best * (test[0] - test[1]).std()}.get(how, best * level)
    each = (denoise(noisy, used) - clean).square().flatten(1).mean(1)
    names = list(dict.fromkeys(patients)) if how == "order" else np.unique(patients)
    mine = [each[torch.tensor(patients == p)].mean().sqrt() for p in names]
    answers = {
        "slices": each.sqrt(),
        "one": [each.mean().sqrt()],
        "squares": [v**2 for v in mine],
        "roots": [each[torch.tensor(patients == p)].sqrt().mean() for p in names],
        "other": [v + 1 for v in mine],
        "short": mine[1:],
        "dict": dict(zip(names, mine, strict=True)),
    }
    first = {"strength": best * level, "index": int(np.argmin(cost))}.get(how, best)
    return first, answers.get(how, mine)


# ------------------------------------------------------------------------ 4: bias and noise


def apart(denoise, truth, noises, place, how=""):
    outputs = denoise(truth + noises)
    off = outputs.mean(0) - truth
    clean = denoise(truth) - truth
    averaged = denoise(truth + noises.mean(0)) - truth
    inside = ... if how == "everywhere" else place
    bias = {
        "signed": off[inside].mean(), "absolute": off[inside].abs().mean(),
        "total": (outputs - truth)[:, place].square().mean().sqrt(),
        "clean": clean[place].square().mean().sqrt(),
        "before": averaged[place].square().mean().sqrt(),
        "one draw": (outputs[0] - truth)[place].square().mean().sqrt(), "bias": 7 + off.mean(),
    }.get(how, off[inside].square().mean().sqrt())  # fmt: skip
    noise = {
        "input": noises.var(0)[place].mean().sqrt(), "pixels": outputs.mean(0)[place].std(),
        "rows": outputs[:, place].var(1).mean().sqrt(),
        "stds": outputs.std(0)[place].mean(), "noise": 7 + off.mean(),
        "all": (outputs - truth)[:, place].square().mean().sqrt(),
    }.get(how, outputs.var(0)[inside].mean().sqrt())  # fmt: skip
    if how == "squares":
        return bias**2, noise**2
    return (noise, bias) if how == "swapped" else (bias, noise)


def in_loops(denoise, truth, noises, place):
    """One pixel at a time, in NumPy, by the biased variance."""
    outputs = [denoise((truth + noise)[None])[0].numpy() for noise in noises]
    bias, variance, pixels = 0.0, 0.0, np.argwhere(place.numpy())
    for y, x in pixels:
        values = np.array([output[y, x] for output in outputs])
        bias += (values.mean() - truth[y, x].item()) ** 2 / len(pixels)
        variance += np.mean((values - values.mean()) ** 2) / len(pixels)
    return [bias**0.5, variance**0.5]


def told(function, how):
    return lambda *args: function(*args, how=how)


ONE, TWO, THREE, FOUR = (f"denoising.{k}" for k in range(1, 5))
CASES = [
    (ONE, left, "✓"),
    (ONE, through_autocovariance, "✓"),
    (ONE, lambda *t: [left(*t).item()], "✓"),
    (ONE, lambda *t: "low", "I expected one number, a standard deviation"),
    (ONE, lambda *t: torch.ones(2), "I expected one number, a standard deviation"),
    (ONE, lambda *t: -left(*t), "I expected one number, a standard deviation"),
    (ONE, told(left, "variance"), "this is the variance"),
    (ONE, told(left, "white"), "that holds for white noise"),
    (ONE, lambda *t: left(*t, how="white") ** 2, "that holds for white noise"),
    (ONE, told(left, "untouched"), "the kernel does nothing here"),
    (ONE, told(left, "amplitude"), "square the absolute value"),
    (ONE, told(left, "complex"), "H is complex"),
    (ONE, told(left, "real"), "the real part of H alone"),
    (ONE, told(left, "scaled"), "which divides by the root of the number of pixels"),
    (ONE, told(left, "shifted"), "one of the two spectra"),
    (ONE, told(left, "sum"), "added up the power of all frequencies"),
    (ONE, told(left, "roots"), "you averaged amplitudes"),
    (ONE, lambda *t: left(*t) + 1, "of 9 × 10 pixels and a kernel"),
    (TWO, decibels, "✓"),
    (TWO, in_numpy, "✓"),
    (TWO, lambda *t: decibels(*t)[:, None], "✓"),
    (TWO, lambda *t: decibels(*t).mean(), "these are the right decibels, averaged"),
    (TWO, lambda *t: decibels(*t, pool=True), "averaged the error over all images"),
    (TWO, lambda *t: "good", "I expected one number for each of 4"),
    (TWO, lambda *t: decibels(*t)[1:], "I expected one number for each of 4"),
    (TWO, lambda *t: decibels(*t, clip=(False, False)), "you did not clip"),
    (TWO, lambda *t: decibels(*t, clip=(True, False)), "clipped one of the two"),
    (TWO, lambda *t: decibels(*t, clip=(False, True)), "clipped one of the two"),
    (TWO, inside, "you left out the pixels outside the window"),
    (TWO, lambda *t: inside(*t, whole=True), "you left out the pixels outside the window"),
    (TWO, difference, "you clipped the difference"),
    (TWO, own_range, "the brightest minus the darkest"),
    (TWO, lambda t, o, d, b: decibels(t, o, d, b, span=b), "HU begin below 0"),
    (TWO, lambda *t: decibels(*t, span=1400), "whatever window was given"),
    (TWO, lambda t, o, d, b: decibels(t, o, -1000, 400), "whatever window was given"),
    (TWO, lambda *t: 2 * decibels(*t), "or took 10 for 20"),
    (TWO, lambda *t: decibels(*t) * np.log(10), "the natural logarithm"),
    (TWO, lambda t, o, d, b: 20 * ((b - d) / (t.clamp(d, b) - o.clamp(d, b)).abs().flatten(
        1).mean(1)).log10(), "averaged absolute errors"),
    (TWO, lambda *t: -decibels(*t), "upside down"),
    (TWO, lambda *t: decibels(*t) + 3, "of image 0 I expected"),
    (THREE, report, "✓"),
    (THREE, told(report, "dict"), "✓"),
    (THREE, lambda *t: [torch.tensor(v) for v in report(*t)], "✓"),
    (THREE, lambda *t: report(*t)[1], "I expected (strength, errors)"),
    (THREE, lambda *t: 3, "I expected (strength, errors)"),
    (THREE, told(report, "short"), "I expected (strength, errors)"),
    (THREE, lambda *t: report(*t, choose="test", measure="test"), "does best on the *test*"),
    (THREE, lambda *t: report(*t, choose="test"), "does best on the *test*"),
    (THREE, lambda *t: report(*t, measure="test"), "needs no filter"),
    (THREE, told(report, "test level"), "needs no filter"),
    (THREE, told(report, "level"), "applied without the noise level"),
    (THREE, told(report, "no level"), "the strengths as they stand, in the choice and after it"),
    (THREE, told(report, "levels"), "the mean over slices of their standard deviations"),
    (THREE, told(report, "images"), "of the noisy images, anatomy and all"),
    (THREE, told(report, "index"), "the place of the best strength in the list"),
    (THREE, told(report, "worst"), "with the largest error"),
    (THREE, lambda *t: (3.5, report(*t)[1]), "is not the best one"),
    (THREE, told(report, "strength"), "as it stands in `strengths`"),
    (THREE, told(report, "slices"), "your errors are one a slice"),
    (THREE, told(report, "order"), "in another order"),
    (THREE, told(report, "squares"), "these are mean squares"),
    (THREE, told(report, "roots"), "averaged the roots of slices"),
    (THREE, told(report, "one"), "one number for all patients"),
    (THREE, told(report, "other"), "is right; of the errors I expected"),
    (FOUR, apart, "✓"),
    (FOUR, in_loops, "✓"),
    (FOUR, lambda *t: torch.stack(apart(*t)), "✓"),
    (FOUR, lambda *t: apart(*t)[0], "I expected two numbers (bias, noise)"),
    (FOUR, lambda *t: "both", "I expected two numbers (bias, noise)"),
    (FOUR, lambda *t: (apart(*t)[0], torch.tensor(torch.nan)), "I expected two numbers"),
    (FOUR, told(apart, "swapped"), "in the other order"),
    (FOUR, told(apart, "squares"), "these are mean squares"),
    (FOUR, lambda *t: (apart(*t)[0] ** 2, apart(*t)[1]), "your bias is a mean square"),
    (FOUR, lambda *t: (apart(*t)[0], apart(*t)[1] ** 2), "your noise is a mean square"),
    (FOUR, told(apart, "everywhere"), "you took all pixels"),
    (FOUR, told(apart, "signed"), "you averaged the bias with its sign"),
    (FOUR, told(apart, "total"), "your first number is the whole error"),
    (FOUR, told(apart, "clean"), "you filtered the truth without noise"),
    (FOUR, told(apart, "before"), "averaged the noisy images and filtered once"),
    (FOUR, told(apart, "one draw"), "you used one of the draws"),
    (FOUR, told(apart, "input"), "that of the images before the filter"),
    (FOUR, told(apart, "pixels"), "you took the spread over pixels"),
    (FOUR, told(apart, "rows"), "you took the spread over pixels"),
    (FOUR, told(apart, "stds"), "you averaged standard deviations"),
    (FOUR, told(apart, "all"), "the spread about the truth"),
    (FOUR, told(apart, "bias"), "the noise is right. Of the bias I expected"),
    (FOUR, told(apart, "noise"), "the bias is right. Of the noise I expected"),
    (FOUR, lambda *t: (apart(*t)[0] + 1, apart(*t)[1] + 1), "I expected (0."),
]  # fmt: skip


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {ONE: left, TWO: decibels, FOUR: apart}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_the_noise_that_is_left_is_that_of_filtered_noise():
    """Oracle: SciPy's convolution with wrapped edges."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 12, 15, generator=rng).double()
    noise = noise - 0.6 * noise.roll(1, 2)
    kernel = torch.randn(3, 2, generator=rng).double()
    power = torch.fft.fft2(noise, norm="ortho").abs().square().mean(0)
    filtered = [convolve(one.numpy(), kernel.numpy(), mode="wrap") for one in noise]
    assert left(power, kernel).item() == pytest.approx(np.sqrt(np.mean(np.square(filtered))))


# A square does not know its sign; a sum is a multiple of a mean, with the same minimum.
EQUIVALENT = [
    "denoising.2: error = (shown - wanted).square().flatten(1).mean(1) → error = (wanted - shown).square().flatten(1).mean(1)",
    "denoising.2: return 10 * torch.log10((bright - dark) ** 2 / error) → return 10 * torch.log10((dark - bright) ** 2 / error)",
    "denoising.3: costs = [(denoise(noisy, s * level) - clean).square().mean() for s in strengths] → costs = [(clean - denoise(noisy, s * level)).square().mean() for s in strengths]",
    "denoising.3: costs = [(denoise(noisy, s * level) - clean).square().mean() for s in strengths] → costs = [(denoise(noisy, s * level) - clean).square().sum() for s in strengths]",
    "denoising.3: level = (noisy - clean).std() → level = (clean - noisy).std()",
    "denoising.3: squares = (denoise(noisy, best * level) - clean).square().flatten(1).mean(1) → squares = (clean - denoise(noisy, best * level)).square().flatten(1).mean(1)",
    "denoising.3: squares = (denoise(noisy, best * level) - clean).square().flatten(1).mean(1) → squares = (denoise(noisy, best * level) - clean).square().flatten(2).mean(1)",
    "denoising.4: bias = (outputs.mean(0) - truth)[place] → bias = (truth - outputs.mean(0))[place]",
]


def test_no_changed_solution_is_called_right():
    assert ticked("21b_denoising", "denoising") == EQUIVALENT
