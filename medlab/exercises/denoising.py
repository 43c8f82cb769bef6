"""Exercises of notebook 21b: noise behind a filter, PSNR, a fair report, bias and noise."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medlab.errors import DataError
from medlab.exercises import Verdict, Wrong, call, exercise, near, number, numbers

MESSAGES = {
    "denoising.1": {
        "right": "the spectrum tells what any kernel leaves, before an image is filtered.",
        "format": "I expected one number, a standard deviation of 0 or more; got {got}.",
        "variance": "this is the variance that is left. Take its root.",
        "white": "you took the root of the sum of the squared kernel values, times the standard "
        "deviation: that holds for white noise. Give each frequency its own power.",
        "untouched": "this is the noise before the filter: the kernel does nothing here.",
        "amplitude": "the kernel damps the amplitude of a frequency by |H|, so its *power* by "
        "|H|²: square the absolute value.",
        "complex": "H is complex: its square is not |H|². Take the absolute value first.",
        "real": "you squared the real part of H alone. Take the absolute value, which has the "
        "imaginary part too.",
        "scaled": 'you transformed the kernel with norm="ortho", which divides by the root of '
        "the number of pixels. H is the sum of the kernel at frequency 0, unscaled.",
        "shifted": "one of the two spectra has frequency 0 in the middle, the other in a corner.",
        "sum": "you added up the power of all frequencies. The variance is their mean.",
        "roots": "you averaged amplitudes. Powers add up: average power · |H|², then take the "
        "root.",
        "other": "of {size} pixels and a kernel of {kernel} I expected {expected:.4g}, and got "
        "{got:.4g}.",
    },
    "denoising.2": {
        "right": "one range for all images, the one that somebody looks at.",
        "format": "I expected one number for each of {count} images; got {got}.",
        "pooled": "you averaged the error over all images before the logarithm. Take it of each "
        "image.",
        "mean": "these are the right decibels, averaged. Return one number an image.",
        "no clip": "you did not clip to the window: outside it all is black or white, and an error "
        "there is seen by nobody.",
        "one clip": "you clipped one of the two images. Both are shown in the window.",
        "inside": "you left out the pixels outside the window. They are shown too, as black or "
        "white: clip them, and average over all pixels of an image.",
        "difference": "you clipped the difference of the images. Clip each of the two, as it is "
        "shown, and then subtract.",
        "own range": "your range is the brightest minus the darkest value of the images. It is "
        "that of the window, bright − dark, whatever happens to lie in the picture.",
        "fixed": "your range is 1400, or your window −1000 to 400, whatever window was given. Use "
        "`dark` and `bright`.",
        "maximum": "your range is the upper end of the window. HU begin below 0: bright − dark.",
        "no square": "inside the logarithm stands range² over the mean *squared* error: you forgot "
        "a square, or took 10 for 20.",
        "natural": "you took the natural logarithm. Decibels need that to base 10.",
        "absolute": "you averaged absolute errors. PSNR averages squares.",
        "sign": "your fraction is upside down: a better image must have more decibels.",
        "other": "of image {i} I expected {expected:.2f} dB, and got {got:.2f}.",
    },
    "denoising.3": {
        "right": "what was chosen on validation patients was judged once, on others.",
        "format": "I expected (strength, errors), the errors one a test patient, {count} of them; "
        "got {got}.",
        "test": "the strength is the one that does best on the *test* patients ({got}). A choice "
        "made there is an optimistic one: take it on the validation patients.",
        "leak": "the filter's strength rests on (noisy − clean) of the test patients. Who knows "
        "the clean image needs no filter: measure the noise on the validation patients.",
        "level": "the strength is well chosen, and then applied without the noise level: filter "
        "with strength · standard deviation, as in the choice.",
        "no level": "you gave `denoise` the strengths as they stand, in the choice and after it. "
        "It filters with strength · standard deviation of the noise.",
        "levels": "your noise level is the mean over slices of their standard deviations. σ is "
        "one standard deviation, of the noise of all validation slices together.",
        "images": "your noise level is the standard deviation of the noisy images, anatomy and "
        "all. σ is that of the noise alone, noisy − clean.",
        "index": "you returned {got}, the place of the best strength in the list. Return the "
        "strength: strengths[{got}].",
        "choice": "the strength {got:g} is not the best one: of the validation patients' slices, "
        "filtered with strength · standard deviation of their noise, {want:g} leaves the smallest "
        "mean squared error.",
        "worst": "you chose the strength with the largest error.",
        "strength": "return the strength as it stands in `strengths`, not times the noise.",
        "slices": "your errors are one a slice. Slices of one patient belong together: one number "
        "a patient, from the mean square of all of that patient's slices.",
        "order": "the errors are right but in another order: by the patients' sorted names.",
        "squares": "these are mean squares. Take the root, so that they have the images' unit.",
        "roots": "you averaged the roots of slices. Average the squares over a patient's slices, "
        "then take one root.",
        "one": "that is one number for all patients. How they differ is what an interval needs.",
        "other": "strength {strength:g} is right; of the errors I expected {expected}, and got "
        "{got}.",
    },
    "denoising.4": {
        "right": "what a filter does to the mean no further scan can mend; what is left of the "
        "noise, it can.",
        "format": "I expected two numbers (bias, noise), each 0 or more; got {got}.",
        "swapped": "your two numbers are in the other order: (bias, noise).",
        "squares": "these are mean squares. Take their roots, so that they have the images' unit.",
        "no root": "your {which} is a mean square. Take its root, so that it has the images' unit.",
        "everywhere": "you took all pixels. I asked for those of `place`.",
        "signed": "you averaged the bias with its sign: what is too dark hides what is too bright. "
        "Average its square.",
        "total": "your first number is the whole error. Average the outputs over the draws first.",
        "clean": "you filtered the truth without noise. A filter that is not linear does something "
        "else to a noisy image: filter each draw, then average.",
        "before": "you averaged the noisy images and filtered once. Filter each draw, then "
        "average.",
        "one draw": "you used one of the draws. The bias is that of their mean.",
        "input": "your noise is that of the images before the filter.",
        "pixels": "you took the spread over pixels. They differ because the patient does; noise is "
        "what differs from draw to draw, in each pixel by itself.",
        "stds": "you averaged standard deviations. Average the variances, then take one root.",
        "all": "your noise is the spread about the truth, so the bias is in it once more. Take it "
        "about the mean of the outputs.",
        "bias": "the noise is right. Of the bias I expected {expected:.4g}, and got {got:.4g}.",
        "noise": "the bias is right. Of the noise I expected {expected:.4g}, and got {got:.4g}.",
        "other": "I expected {expected}, and got {got}.",
    },
}


def material() -> SimpleNamespace:
    """What the notebook uses without reading it."""
    return SimpleNamespace(denoise=denoise)


def denoise(x: Tensor, *, method: str, sigma: float) -> Tensor:
    """Remove noise from x (…, H, W), any range, each (H, W) image by itself.

    `sigma` is the noise's standard deviation σ, ≥ 0. `method` "tv" minimises total variation with
    weight σ; "nlm" averages similar patches of 5×5 pixels up to 6 pixels away, with cut-off
    0.8 · σ; "wavelets" draws the differences of Gaussian scales towards 0 by what white noise of σ
    has there.

    Source: Chambolle, J Math Imaging Vis 20:89 (2004); Buades et al., CVPR (2005), by
        `skimage.restoration`; Donoho, IEEE Trans Inf Theory 41:613 (1995), undecimated.
    """
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    methods = {
        "tv": denoise_tv_chambolle,
        "nlm": lambda image, sigma: denoise_nl_means(
            image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma
        ),
        "wavelets": _shrunk,
    }
    if not sigma >= 0:
        raise DataError(f"sigma is a standard deviation, at least 0; got {sigma!r}")
    if method not in methods:
        raise DataError(f"method must be one of {', '.join(methods)}; got {method!r}")
    images = x.reshape(-1, *x.shape[-2:]).numpy()
    cleaned = [methods[method](image, sigma) if sigma > 0 else image for image in images]
    return torch.from_numpy(np.stack(cleaned).astype(images.dtype)).reshape(x.shape)


def _shrunk(image: np.ndarray, sigma: float) -> np.ndarray:
    """Details nearer to 0 by σ times the length of their filter, which an impulse shows."""
    impulse, details = np.pad(np.ones((1, 1)), 24), np.zeros_like(image)
    for scale in (0.7, 1.4, 2.8):  # pixels, of the Gaussians between which details lie
        smooth, blurred = (gaussian_filter(v, scale, mode="nearest") for v in (image, impulse))
        size = sigma * np.linalg.norm(impulse - blurred)
        details += np.sign(image - smooth) * np.maximum(np.abs(image - smooth) - size, 0)
        image, impulse = smooth, blurred
    return image + details


# --- 1: what a kernel leaves of noise ---


def _spectra() -> list[tuple[Tensor, Tensor]]:
    """Power spectra of real noise, frequency 0 in the corner, and kernels of both signs."""
    rng = torch.Generator().manual_seed(0)
    pairs = []
    for size, shape in (((9, 10), (3, 3)), ((8, 13), (2, 3)), ((16, 6), (1, 4))):
        fields = torch.randn(3, *size, generator=rng).double()
        fields = fields + 0.8 * fields.roll(1, 1) - 0.3 * fields.roll(2, 2)
        power = 400 * torch.fft.fft2(fields, norm="ortho").abs().square().mean(0)
        kernel = torch.full(shape, 1 / 9).double()
        if shape != (3, 3):
            kernel = torch.randn(shape, generator=rng).double()
        pairs.append((power, kernel))
    return pairs


def _left(power: Tensor, passed: Tensor) -> Tensor:
    return (power * passed).mean().sqrt()


@exercise("denoising.1", MESSAGES["denoising.1"])
def noise_left(answer) -> Verdict:
    for power, kernel in _spectra():
        raw = call(answer, power.clone(), kernel.clone())
        if np.iscomplexobj(raw.detach().numpy() if torch.is_tensor(raw) else raw):
            return "complex"
        try:
            got = number(raw)
        except Wrong:
            return "format", {"got": f"{type(raw).__name__} {getattr(raw, 'shape', '')}"}
        damping = torch.fft.fft2(kernel, s=power.shape)
        want = _left(power, damping.abs().square())
        if near(got, want):
            continue
        if not math.isfinite(got) or got < 0:
            return "format", {"got": f"{got:g}"}
        count = power.numel()
        known = {
            "variance": want**2,
            "white": power.mean().sqrt() * kernel.norm(),
            "untouched": power.mean().sqrt(),
            "amplitude": _left(power, damping.abs()),
            "real": _left(power, damping.real.square()),
            "scaled": want / count**0.5,
            "shifted": _left(torch.fft.fftshift(power), damping.abs().square()),
            "sum": want * count**0.5,
            "roots": (power.sqrt() * damping.abs()).mean(),
        }
        for key, value in known.items():
            if near(got, value) or (key != "variance" and near(got, value**2)):
                return key
        told = {
            "size": f"{len(power)} × {power.shape[1]}",
            "kernel": f"{len(kernel)} × {kernel.shape[1]}",
        }
        return "other", told | {"expected": want.item(), "got": got}
    return "right"


# --- 2: decibels ---


def _slices(seed: int) -> tuple[Tensor, Tensor, float, float]:
    """Four images of HU and what a filter made of them, beyond the window on both sides."""
    rng = torch.Generator().manual_seed(seed)
    truth = 2600 * torch.rand(4, 1, 6, 7, generator=rng).double() - 1600
    truth[2] = 0.4 * truth[2] - 300
    size = torch.tensor([30.0, 90, 200, 60])[:, None, None, None]
    output = truth + size * torch.randn(truth.shape, generator=rng).double()
    return (truth, output, -1000.0, 400.0) if seed == 0 else (truth, output, -160.0, 240.0)


@exercise("denoising.2", MESSAGES["denoising.2"])
def peak_signal_to_noise(answer) -> Verdict:
    for seed in (0, 1):
        truth, output, dark, bright = _slices(seed)
        raw = call(answer, truth.clone(), output.clone(), dark, bright)
        try:
            got = numbers(raw).detach().double().flatten()
        except Wrong:
            return "format", {"count": len(truth), "got": type(raw).__name__}
        span = bright - dark
        t, o = truth.clamp(dark, bright), output.clamp(dark, bright)
        error = (t - o).square().flatten(1).mean(1)
        want = 10 * (span**2 / error).log10()
        if got.shape == want.shape and near(got, want, rel=1e-3):
            continue
        if near(got, want.mean()[None]):
            return "mean"
        if near(got, 10 * (span**2 / error.mean()).log10()[None]):
            return "pooled"
        if got.shape != want.shape:
            return "format", {"count": len(want), "got": f"{got.numel()} of them"}
        spans = [x.max() - x.min() for x in (t, truth, o, output)]
        spans += [x.flatten(1).amax(1) - x.flatten(1).amin(1) for x in (t, truth, o, output)]
        raws = (truth - output).square().flatten(1).mean(1)
        shown = [(dark < x) & (x < bright) for x in (truth, output)]
        shown.append(shown[0] & shown[1])
        known: dict[str, list[Tensor]] = {
            "no clip": [10 * (span**2 / raws).log10()],
            "one clip": [
                10 * (span**2 / x.square().flatten(1).mean(1)).log10()
                for x in (t - output, truth - o)
            ],
            "inside": [
                10 * (span**2 / (e * m).flatten(1).sum(1) * count).log10()
                for e in ((t - o).square(), (truth - output).square())
                for m in shown
                for count in (m.flatten(1).sum(1), m[0].numel())
            ],
            "difference": [
                10 * (span**2 / x.clamp(dark, bright).square().flatten(1).mean(1)).log10()
                for x in (truth - output, output - truth)
            ],
            "own range": [10 * (s**2 / e).log10() for s in spans for e in (error, raws)],
            "fixed": [
                10 * (1400**2 / (x - y).square().flatten(1).mean(1)).log10()
                for x, y in ((t, o), (truth.clamp(-1000, 400), output.clamp(-1000, 400)))
            ],
            "maximum": [10 * (bright**2 / error).log10(), 10 * (dark**2 / error).log10()],
            "no square": [
                10 * (span / error).log10(),
                20 * (span**2 / error).log10(),
                20 * (span / error).log10(),
                10 * (span / error.sqrt()).log10(),
                10 * (span**2 / error.sqrt()).log10(),
            ],
            "natural": [10 * (span**2 / error).log(), 20 * (span / error.sqrt()).log()],
            "absolute": [k * (span / (t - o).abs().flatten(1).mean(1)).log10() for k in (10, 20)],
            "sign": [-want],
        }
        for key, values in known.items():
            if any(near(got, v) for v in values):
                return key
        i = int((got - want).abs().nan_to_num(math.inf).argmax())
        return "other", {"i": i, "expected": want[i].item(), "got": got[i].item()}
    return "right"


# --- 3: a fair report ---

_STRENGTHS = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0]
_Set = tuple[Tensor, Tensor, np.ndarray]


def _blur(noisy: Tensor, strength: Any) -> Tensor:
    """A filter that takes more away the stronger it is: towards the mean of 3 × 3."""
    strength = torch.as_tensor(strength).double()
    smooth = torch.nn.functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False)
    share = strength / (strength + 1)
    return (1 - share) * noisy + share * smooth


def _parts(seed: int) -> tuple[_Set, _Set]:
    """Validation and test patients, of unsorted names and unequal numbers of slices."""
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for sizes, noise in (((2, 4, 1, 3), 0.5), ((3, 1, 4, 2, 2), (0.25, 1.2)[seed])):
        names = np.repeat([f"P{k}" for k in (7, 2, 9, 4, 3)[: len(sizes)]], sizes)
        order = torch.randperm(len(names), generator=rng)
        wave = torch.arange(12) * (1.3 + 0.3 * torch.rand(len(names), 1, generator=rng))
        clean = wave.sin()[:, None, None].expand(-1, 1, 10, -1).double().clone()
        level = noise * (0.5 + torch.rand(len(names), 1, 1, 1, generator=rng))
        noisy = clean + level * torch.randn(clean.shape, generator=rng).double()
        parts.append((noisy, clean, names[order.numpy()]))
    return parts[0], parts[1]


def _level(part: _Set) -> float:
    return (part[0] - part[1]).std().item()


def _costs(part: _Set, level: float) -> list[float]:
    noisy, clean, _ = part
    return [(_blur(noisy, s * level) - clean).square().mean().item() for s in _STRENGTHS]


def _of_slices(part: _Set, strength: float, level: float) -> Tensor:
    """Mean squared error (N,) of each slice."""
    return (_blur(part[0], strength * level) - part[1]).square().flatten(1).mean(1)


def _of_patients(part: _Set, each: Tensor, order: Any) -> Tensor:
    """Mean of `each` slice over the slices of each patient, in that order."""
    return torch.stack([each[torch.from_numpy(part[2] == p)].mean() for p in order])


@exercise("denoising.3", MESSAGES["denoising.3"])
def fair_report(answer) -> Verdict:
    for seed in (0, 1):
        val, test = _parts(seed)
        patients = test[2]
        names = np.unique(patients)

        def copies(part: _Set) -> _Set:
            return part[0].clone(), part[1].clone(), part[2].copy()

        got = call(answer, _blur, copies(val), copies(test), list(_STRENGTHS))
        shown = {"count": len(names), "got": str(got)[:60]}
        try:
            strength, errors = got
            strength = number(strength)
            errors = numbers([*errors.values()] if isinstance(errors, dict) else errors)
            errors = errors.detach().double().flatten()
        except (TypeError, ValueError, Wrong):
            return "format", shown
        level = _level(val)
        costs = {
            (on, by): _costs(part, _level(of))
            for (on, part), (by, of) in itertools.product(
                (("val", val), ("test", test)), (("val", val), ("test", test))
            )
        }
        best = {key: _STRENGTHS[int(np.argmin(cost))] for key, cost in costs.items()}
        want = best["val", "val"]
        each = _of_slices(test, want, level)
        right = _of_patients(test, each, names).sqrt()
        levels = {
            "levels": (val[0] - val[1]).flatten(1).std(1).mean().item(),
            "images": val[0].std().item(),
        }
        for key, spread in levels.items():
            chosen = _STRENGTHS[int(np.argmin(_costs(val, spread)))]
            if strength == chosen and near(
                errors, _of_patients(test, _of_slices(test, chosen, spread), names).sqrt()
            ):
                return key
        if not math.isclose(strength, want, rel_tol=1e-6):
            if math.isclose(strength, want * level, rel_tol=1e-4):
                return "strength"
            if strength == _STRENGTHS.index(want) and near(errors, right):
                return "index", {"got": f"{strength:g}"}
            plain = _STRENGTHS[int(np.argmin(_costs(val, 1.0)))]
            if strength == plain and near(
                errors.sort().values,
                _of_patients(test, _of_slices(test, plain, 1.0), names).sqrt().sort().values,
            ):
                return "no level"
            if strength == best["val", "test"]:
                return "leak"
            if strength in (best["test", "test"], best["test", "val"]):
                return "test", {"got": f"{strength:g}"}
            worst = _STRENGTHS[int(np.argmax(costs["val", "val"]))]
            return "worst" if strength == worst else ("choice", {"got": strength, "want": want})
        if near(errors, right):
            continue
        first = list(dict.fromkeys(patients.tolist()))
        if errors.shape == right.shape and near(errors.sort().values, right.sort().values):
            return "order"
        if near(errors, _of_patients(test, each, names)) or near(
            errors, _of_patients(test, each, first)
        ):
            return "squares"
        if near(errors, _of_patients(test, each.sqrt(), names)):
            return "roots"
        if errors.shape == each.shape:
            return "slices"
        if errors.numel() == 1:
            return "one"
        if errors.shape != right.shape:
            return "format", shown
        if near(errors, _of_patients(test, _of_slices(test, want, _level(test)), names).sqrt()):
            return "leak"
        if near(errors, _of_patients(test, _of_slices(test, want, 1.0), names).sqrt()):
            return "level"
        return "other", {
            "strength": want,
            "expected": right.numpy().round(3).tolist(),
            "got": errors.numpy().round(3).tolist(),
        }
    return "right"


# --- 4: bias and noise ---


def _bent(noisy: Tensor) -> Tensor:
    """A filter that is not linear: the mean of 3 × 3 pixels, small values drawn to 0."""
    images = noisy.reshape(-1, 1, *noisy.shape[-2:])
    smooth = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    smooth = smooth.view(noisy.shape)
    return smooth.sign() * (smooth.abs() - 0.2).clamp(min=0)


def _scene(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A truth (H, W), draws of noise (K, H, W), unequal from pixel to pixel, and a place."""
    rng = torch.Generator().manual_seed(seed)
    height, width, count = ((11, 14, 7), (9, 12, 5))[seed]
    truth = torch.randn(height, width, generator=rng).double()
    level = 0.25 + torch.rand(height, width, generator=rng)
    noises = level * torch.randn(count, height, width, generator=rng).double()
    place = torch.rand(height, width, generator=rng) < 0.3
    return truth, noises, place


def _root(squares: Tensor) -> Tensor:
    return squares.mean().sqrt()


@exercise("denoising.4", MESSAGES["denoising.4"])
def bias_and_noise(answer) -> Verdict:
    for seed in (0, 1):
        truth, noises, place = _scene(seed)
        raw = call(answer, _bent, truth.clone(), noises.clone(), place.clone())
        try:
            bias, noise = (number(value) for value in raw)
        except (TypeError, ValueError, Wrong):
            return "format", {"got": str(raw)[:60]}
        outputs = _bent(truth + noises)
        off, spreads = outputs.mean(0) - truth, [outputs.var(0, correction=k) for k in (0, 1)]
        biases = off[place].square().mean().sqrt()
        right = [_root(spread[place]) for spread in spreads]
        if near(bias, biases) and any(near(noise, one) for one in right):
            continue
        if not (math.isfinite(bias) and math.isfinite(noise)):
            return "format", {"got": f"({bias:g}, {noise:g})"}
        if near(noise, biases) and any(near(bias, one) for one in right):
            return "swapped"
        if near(bias, biases**2) and any(near(noise, one**2) for one in right):
            return "squares"
        if near(bias, biases**2):
            return "no root", {"which": "bias"}
        if any(near(noise, one**2) for one in right):
            return "no root", {"which": "noise"}
        if near(bias, _root(off.square())) or any(near(noise, _root(v)) for v in spreads):
            return "everywhere"
        cleaned = _bent(truth) - truth
        averaged = _bent(truth + noises.mean(0)) - truth
        wrong = (outputs - truth)[:, place]
        firsts: dict[str, list[Tensor]] = {
            "signed": [off[place].mean(), off[place].mean().abs(), off[place].abs().mean()],
            "total": [_root(wrong.square())],
            "clean": [_root(cleaned[place].square())],
            "before": [_root(averaged[place].square())],
            "one draw": [_root(one.square()) for one in wrong],
        }
        seconds: dict[str, list[Tensor]] = {
            "input": [_root(noises.var(0, correction=k)[place]) for k in (0, 1)]
            + [noises[:, place].std(correction=k) for k in (0, 1)],
            "pixels": [
                values.std(correction=k)
                for values in (outputs[:, place], off[place], outputs.mean(0)[place])
                for k in (0, 1)
            ]
            + [outputs[:, place].var(1, correction=k).mean().sqrt() for k in (0, 1)],
            "stds": [spread[place].sqrt().mean() for spread in spreads],
            "all": [_root(wrong.square())],
        }
        for got, known in ((bias, firsts), (noise, seconds)):
            for key, values in known.items():
                if any(near(got, value) for value in values):
                    return key
        if near(bias, biases):
            return "noise", {"expected": right[0].item(), "got": noise}
        if any(near(noise, one) for one in right):
            return "bias", {"expected": biases.item(), "got": bias}
        pair = f"({biases:.4g}, {right[0]:.4g})"
        return "other", {"expected": pair, "got": f"({bias:.4g}, {noise:.4g})"}
    return "right"
