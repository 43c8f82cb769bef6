"""Checks of how images are made: X-ray, CT, MRI, ultrasound."""

from __future__ import annotations

import math

import numpy as np
import torch

from medlab.exercises import (
    NotAttempted,
    Verdict,
    as_array,
    call,
    exercise,
    first_match,
    near,
    number,
    shape_or_type,
)
from medlab.simulate.mri import Tissue
from medlab.simulate.xray import MU_WATER

MESSAGES = {
    "images.1": {
        "right": "the sum of everything on the ray, without unit. `lines` below is the same.",
        "shape": "I got {got} for a volume {volume}. A ray goes along the second axis and becomes "
        "one number: {want}.",
        "axis": "your beam runs along the {axis} axis. From back to front is the second: axis 1.",
        "no step": "you added up μ and left out how long a voxel is. Ten voxels of 3 mm are 30 mm.",
        "mean": "you averaged along the ray. Every voxel takes its part of the beam: add up.",
        "hu": "you added up HU. They say how far a tissue is from water; the beam knows μ.",
        "thousand": "you forgot that HU count in thousandths: μ = μ_water · (1 + HU/1000).",
        "from water": "your voxel of water has μ = 0. That is μ − μ_water: add the one of water.",
        "passes": "exp(−p) is the fraction that passes. I asked for the exponent p itself.",
        "sign": "your p is negative. The minus stands before the integral, in the exponent.",
        "clamped": "you cut HU or μ off somewhere. Bone counts in full.",
        "other": "the first ray should have p = {want:.4f}, and I got {got:.4f}.",
    },
    "images.2": {
        "right": "noise grows with the thickness, and no pixel is infinite.",
        "shape": "I got {got} for line integrals of {want}.",
        "clean": "there is no noise in it: how many photons are *counted*?",
        "counts": "those are counts. Which line integral would explain them? −ln(K/I₀).",
        "transmitted": "that is the fraction that was counted. The radiograph shows its "
        "logarithm, with a minus.",
        "sign": "your values are negative: the logarithm of a fraction needs a minus.",
        "decimal": "you took the logarithm to base 10. Beer–Lambert has the natural one.",
        "no share": "divide the count by `photons` before the logarithm.",
        "infinite": "some pixels are infinite or NaN: no photon came, and 0 has no logarithm. Take "
        "half a photon there.",
        "floor": "a pixel without a photon should count as half a photon, which is p = {want:.2f}. "
        "I got {got:.2f}.",
        "all dead": "half a photon is meant for pixels that counted none. Yours has moved the "
        "others, too.",
        "noise": "behind p = {p:g} with {photons:,} photons I expected a spread of {want:.3f}, and "
        "got {got:.3f}.",
        "other": "behind p = {p:g} with {photons:,} photons I expected a mean of {want:.3f}, and "
        "got {got:.3f}.",
    },
    "images.3": {
        "right": "what is left to do is the filter.",
        "shape": "I got {got}; the sum of the smears has shape {want}.",
        "sense": "you turned the smears the wrong way. The slice had been turned by −θ before its "
        "columns were added up: the smear goes back by +θ.",
        "not turned": "you added the projections without turning their smears.",
        "rows": "your smears lie across their rays. The slice's columns were added up, so each "
        "column of the smear holds one value, before it is turned by θ.",
        "degrees": "`rotate` wants degrees, and so are the angles given.",
        "places": "you turned by the position in the list. The angle is `angles[k]`.",
        "last": "I see one smear only. Add them all up, and return after the loop.",
        "one missing": "a smear is missing: the first or the last direction does not count.",
        "scale": "the picture is right, and {ratio:.3g} times what it should be: the sum times π "
        "over the number of directions.",
        "filtered": "that is filtered back-projection. The filter comes below: leave it out.",
        "other": "at row {row}, column {column} I expected {want:.3f}, and got {got:.3f}.",
    },
    "images.4": {
        "right": "with TR = {tr:g} ms and TE = {te:g} ms the fluid gives {ratio:.1f} times the "
        "signal of the brightest tissue, and T1 plays hardly a part.",
        "no pair": "I expected two numbers, (TR, TE), in milliseconds.",
        "seconds": "TR and TE are in milliseconds here; {tr:g} and {te:g} look like seconds.",
        "not positive": "both times lie after the pulse: they are above 0. I got {tr:g} and "
        "{te:g}.",
        "order": "TE = {te:g} ms is not shorter than TR = {tr:g} ms. The echo must come before the "
        "next pulse.",
        "slow": "at a TR of {tr:g} ms the patient will not lie still long enough. Keep to "
        "{limit:g} ms or below.",
        "short tr": "after TR = {tr:g} ms {tissue} has regrown to {back:.0%} only, so part of the "
        "contrast is that of T1. Lengthen TR.",
        "short te": "the fluid gives only {ratio:.2f} times the signal of the brightest tissue. At "
        "TE = {te:g} ms tissue has lost little: lengthen TE, so that its short T2 can act.",
        "weak": "the contrast is there, but at TE = {te:g} ms {faint} keeps only {left:.1%} of its "
        "signal and drowns in noise. Shorten TE.",
    },
    "images.5": {
        "right": "few waves make a blurred picture with ripples, and all of them make the image.",
        "shape": "I got {got}; the image has {want}, and so has what the waves make.",
        "corner": "you kept the corner of what fft2 returns, or what lies around the middle before "
        "fftshift: those are the fastest waves, or half of the slow ones.",
        "edge": "you kept the waves outside and dropped the centre.",
        "one side": "one end is missing: a slice leaves its last number out. −5 to 5 cycles are 11 "
        "rows.",
        "square": "−5 to 5 cycles are 11 rows, not 5: you kept half of the range along each axis.",
        "one axis": "you cut along one axis. Keep a rectangle, few rows and few columns.",
        "middle": "your rectangle lies beside the middle. After fftshift 0 cycles stand in row "
        "H // 2 and column W // 2, and H and W may differ.",
        "spectrum": "you returned k-space. The inverse transform makes the image.",
        "forward": "you transformed forwards twice. The way back is `ifft2`.",
        "real": "you returned the real part. The magnitude is the length of the complex number: "
        "`.abs()`.",
        "squared": "you squared the magnitude.",
        "rolled": "the image is right, and its quarters have changed places: `fftshift` belongs to "
        "k-space, not to the image.",
        "other": "pixel (0, 0) should be {want:.4f}, and I got {got:.4f}.",
    },
    "images.6": {
        "right": "mean over spread is {ratio:.2f}. No measurement was noisy, and yet there is "
        "grain.",
        "shape": "I asked for {want} cells and got {got}: one length for each cell.",
        "infinite": "some lengths are NaN or infinite.",
        "complex": "those are arrows, as complex numbers. The picture shows their lengths: "
        "`.abs()`.",
        "lengths": "you added the lengths: all arrows point one way. Add the arrows, then take the "
        "length.",
        "not one": "with one scatterer in each cell the arrow has length 1, and I got {got:.3f}.",
        "signed": "some of your lengths are negative. A length is the root of across² + along².",
        "one part": "you kept one part of the arrows, the real or the imaginary. The length needs "
        "both.",
        "power": "that is the power, the square of the length.",
        "same": "all your cells are alike. Each has its own phases.",
        "half": "your arrows prefer one side. Phases fill the whole circle evenly: 2π times "
        "`torch.rand`.",
        "mean": "you averaged the arrows. Every scatterer adds its echo.",
        "other": "of {n} scatterers I expected lengths of about {want:.2f}, and got {got:.2f} in "
        "the mean.",
    },
}


@exercise("images.1", MESSAGES["images.1"])
def line_integrals(answer) -> Verdict:
    rng = torch.Generator().manual_seed(3)
    for size, step in (((3, 5, 4), 3.0), ((4, 2, 6), 0.7)):
        hu = torch.rand(size, generator=rng) * 2600 - 1000  # air to dense bone
        got = as_array(call(answer, hu.clone(), step))
        mu = MU_WATER * (1 + hu / 1000)
        want = mu.sum(1) * step
        if near(got, want):
            continue
        for axis, name in ((0, "first"), (2, "third")):
            if near(got, mu.sum(axis) * step):
                return "axis", {"axis": name}
        if got.shape != tuple(want.shape):
            told = {"volume": size, "want": tuple(want.shape), "got": shape_or_type(got)}
            return "shape", told
        wrong = {
            "no step": mu.sum(1),
            "mean": mu.mean(1) * step,
            "hu": hu.sum(1) * step,
            "thousand": MU_WATER * (1 + hu).sum(1) * step,
            "from water": MU_WATER * hu.sum(1) / 1000 * step,
            "passes": torch.exp(-want),
            "sign": -want,
            "clamped": mu.clamp_max(MU_WATER).sum(1) * step,
        }
        extra = {
            "mean": mu.mean(1),
            "hu": hu.sum(1),
            "passes": 1 - torch.exp(-want),
            "thousand": MU_WATER * hu.sum(1) * step,
            "clamped": MU_WATER * (1 + hu.clamp_min(0) / 1000).sum(1) * step,
        }
        key = first_match(got, wrong)
        key = first_match(got, extra) if key == "other" else key
        return key, {"want": want[0, 0].item(), "got": got[0, 0]}
    return "right"


@exercise("images.2", MESSAGES["images.2"])
def exposed(answer) -> Verdict:
    for p, photons in ((0.5, 1_000), (3.0, 20_000), (1.5, 100_000)):
        lines = torch.full((80, 120), p)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(photons)
            got = as_array(call(answer, lines.clone(), photons))
        if got.shape != (80, 120):
            return "shape", {"got": shape_or_type(got), "want": (80, 120)}
        if not np.isfinite(got).all():
            return "infinite"
        left = math.exp(-p)
        told = {"p": p, "photons": photons}
        mean, spread = float(got.mean()), float(got.std())
        want = 1 / math.sqrt(photons * left)
        if spread < 1e-9:
            return "clean"
        means = {
            "sign": -p,
            "no share": -math.log(photons * left),
            "counts": photons * left,
            "transmitted": left,
            "decimal": p / math.log(10),
        }
        for key, value in means.items():
            if abs(mean - value) < 0.02 * abs(value):
                return key
        if abs(spread / want - 1) > 0.05:
            return "noise", told | {"want": want, "got": spread}
        if abs(mean - p) > 5 * want / 90 + 0.6 * want**2:
            return "other", told | {"want": p, "got": mean}
    # One photon in three pixels: those without any count as half of one
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        got = as_array(call(answer, torch.full((90, 90), math.log(300.0)), 100))
    if not np.isfinite(got).all():
        return "infinite"
    if abs(got - math.log(100)).min() > 0.01:
        return "all dead"
    if abs(got.max() - math.log(200)) > 0.01:
        return "floor", {"want": math.log(200), "got": got.max()}
    return "right"


def _smears(sinogram: np.ndarray, angles: np.ndarray, how: str = "") -> np.ndarray:
    """Back-projection by linear interpolation, as it should be or with one mistake."""
    n = len(sinogram)
    row, column = np.mgrid[:n, :n] - n // 2
    total = np.zeros((n, n))
    if how == "degrees":
        angles = np.rad2deg(angles)
    if how == "radians":
        angles = np.deg2rad(angles)
    if how == "places":
        angles = np.arange(len(angles))
    for p, angle in zip(sinogram.T, np.deg2rad(angles), strict=True):
        right = np.pi / 2
        turns = {"sense": -angle, "not turned": 0, "rows": angle - right, "rows 1": angle + right}
        turn = turns.get(how, angle)
        s = column * np.cos(turn) - row * np.sin(turn)  # rows count downwards
        total += np.interp(s, np.arange(n) - n // 2, p, left=0, right=0)
    return total * np.pi / len(angles)


@exercise("images.3", MESSAGES["images.3"])
def back_project(answer) -> Verdict:
    from skimage.transform import iradon, radon

    # An odd number of rows has one middle, whatever the convention; soft spots are turned alike by
    # all kinds of interpolation; few directions, so that each counts
    for n, many, first in ((41, 9, 0.0), (31, 12, 2.0)):
        row, column = np.mgrid[:n, :n] - n // 2
        slice_ = np.exp(-((row + n // 8) ** 2 + (column - n // 5) ** 2) / (n / 9) ** 2)
        slice_ += 0.6 * np.exp(-((row - n // 4) ** 2 + column**2) / (n / 12) ** 2)
        angles = first + np.arange(many) * 180.0 / many
        sinogram = radon(slice_, angles)
        got = as_array(call(answer, sinogram.copy(), angles.copy()))
        if got.shape != (n, n):
            return "shape", {"got": shape_or_type(got), "want": (n, n)}
        inner = np.hypot(row, column) < n / 2 - 3  # turned corners are cut in other ways
        want = _smears(sinogram, angles)

        def like(other, got=got, inner=inner) -> float | None:
            """The factor between two pictures that are else the same."""
            a, b = got[inner], np.asarray(other)[inner]
            if not np.isfinite(a).all() or not a.std():
                return None
            ratio = float(a @ b / (b @ b))
            return ratio if ratio and abs(a / ratio - b).max() < 0.04 * abs(b).max() else None

        ratio = like(want)
        if ratio is not None and abs(ratio - 1) < 0.02:
            continue
        if ratio is not None:
            return "scale", {"ratio": ratio}
        wrong = {
            key: _smears(sinogram, angles, key)
            for key in ("sense", "not turned", "rows", "rows 1", "degrees", "places")
        }
        wrong |= {"radians": _smears(sinogram, angles, "radians")}
        for k in (0, -1):
            one = np.zeros_like(sinogram)
            one[:, k] = sinogram[:, k]
            wrong[f"last {k}"] = _smears(one, angles)
            wrong[f"one missing {k}"] = want - _smears(one, angles)
        wrong["filtered"] = iradon(sinogram, angles)
        key = next((k for k, other in wrong.items() if like(other) is not None), "other")
        key = {"radians": "degrees"}.get(key, key.rstrip("-01 "))
        at = np.unravel_index(np.where(inner, np.nan_to_num(abs(got - want)), 0).argmax(), (n, n))
        told = {"row": int(at[0]), "column": int(at[1]), "want": want[at], "got": got[at]}
        return key, told
    return "right"


LONGEST_TR, LEAST_RATIO, LEAST_BACK, LEAST_LEFT = 5000.0, 2.0, 0.9, 0.1


@exercise("images.4", MESSAGES["images.4"])
def weighting(answer, *, tissues: dict[str, Tissue]) -> Verdict:
    if isinstance(answer, (tuple, list)) and any(one is ... for one in answer):
        raise NotAttempted
    try:
        tr, te = (number(value) for value in answer)
    except (TypeError, ValueError):
        return "no pair"
    if not (math.isfinite(tr) and math.isfinite(te)):
        return "no pair"
    if tr <= 0 or te <= 0:
        return "not positive", {"tr": tr, "te": te}
    regrown = {name: 1 - math.exp(-tr / tissue.t1) for name, tissue in tissues.items()}
    left = {name: math.exp(-te / tissue.t2) for name, tissue in tissues.items()}
    signal = {name: tissues[name].pd * regrown[name] * left[name] for name in tissues}
    fluid = max(tissues, key=lambda name: tissues[name].t1)
    others = [name for name in tissues if name != fluid]
    ratio = signal[fluid] / max(max(signal[name] for name in others), 1e-30)
    slowest, faint = min(others, key=regrown.__getitem__), min(left, key=left.__getitem__)
    told = {"tr": tr, "te": te, "ratio": ratio, "limit": LONGEST_TR, "tissue": slowest}
    told |= {"back": regrown[slowest], "faint": faint, "left": left[faint]}
    if tr < 20:
        return "seconds", told
    if te >= tr:
        return "order", told
    if tr > LONGEST_TR:
        return "slow", told
    if regrown[slowest] < LEAST_BACK:
        return "short tr", told
    if left[faint] < LEAST_LEFT:
        return "weak", told
    return ("right" if ratio >= LEAST_RATIO else "short te"), told


@exercise("images.5", MESSAGES["images.5"])
def from_centre(answer) -> Verdict:
    rng = np.random.default_rng(4)
    for size, cycles in (((24, 35), 3), ((31, 20), 5), ((16, 22), 2)):
        # A bright block on black: its ripples go below 0, unlike a magnitude
        image = np.zeros(size)
        image[5:11, 8:15] = 1 + rng.random((6, 7))
        got = call(answer, torch.from_numpy(image).clone(), cycles)
        got = got.detach().cpu().numpy() if torch.is_tensor(got) else np.asarray(got)
        if got.dtype.kind not in "fciub" or got.shape != size:
            numeric = got.dtype.kind in "fciub"
            return "shape", {"got": f"shape {got.shape}" if numeric else "no numbers", "want": size}
        v, u = np.indices(size) - np.reshape([n // 2 for n in size], (2, 1, 1))
        box = (abs(v) <= cycles) & (abs(u) <= cycles)
        spectrum = np.fft.fftshift(np.fft.fft2(image))
        want = abs(_back(spectrum * box))
        if got.dtype.kind != "c" and np.allclose(got, want, rtol=1e-4, atol=1e-4):
            continue
        wrong = _other_waves(image, spectrum, v, u, cycles)
        # A magnitude is compared as it is; a complex or signed picture by its length
        key = next(
            (k for k, made in wrong if np.allclose(abs(got), abs(made), rtol=1e-4, atol=1e-4)),
            "other",
        )
        if got.dtype.kind == "c" and np.allclose(abs(got), want, rtol=1e-4, atol=1e-4):
            key = "real"
        return key, {"want": want[0, 0], "got": float(abs(got[0, 0]))}
    return "right"


def _back(spectrum: np.ndarray) -> np.ndarray:
    return np.fft.ifft2(np.fft.ifftshift(spectrum))


def _other_waves(
    image: np.ndarray, spectrum: np.ndarray, v: np.ndarray, u: np.ndarray, cycles: int
) -> list[tuple[str, np.ndarray]]:
    """What typical mistakes make of an image: diagnosis and picture."""
    box = (abs(v) <= cycles) & (abs(u) <= cycles)
    apart = image.shape[1] // 2 - image.shape[0] // 2
    half = cycles // 2
    boxes = [
        ("edge", ~box),
        ("one side", box & (v < cycles) & (u < cycles)),
        ("one side", box & (v < cycles)),
        ("one side", box & (u < cycles)),
        ("one side", box & (v > -cycles) & (u > -cycles)),
        ("one side", (abs(v) < cycles) & (abs(u) < cycles)),
        ("square", (abs(v) <= half) & (abs(u) <= half)),
        ("square", (v >= -half) & (v < cycles - half) & (u >= -half) & (u < cycles - half)),
        ("one axis", abs(v) <= cycles),
        ("one axis", abs(u) <= cycles),
        ("middle", (abs(v) <= cycles) & (abs(u + apart) <= cycles)),
        ("middle", (abs(v - apart) <= cycles) & (abs(u) <= cycles)),
    ]
    found = [(key, _back(spectrum * kept)) for key, kept in boxes]
    right = _back(spectrum * box)
    found += [
        ("spectrum", spectrum * box),
        ("spectrum", np.fft.ifftshift(spectrum * box)),
        ("forward", np.fft.fft2(np.fft.ifftshift(spectrum * box))),
        ("real", right.real),
        ("real", np.fft.ifft2(spectrum * box).real),
        ("squared", abs(right) ** 2),
        ("rolled", np.fft.fftshift(abs(right))),
        ("rolled", np.fft.ifftshift(abs(right))),
    ]
    unshifted = np.fft.fft2(image)
    i, j = (n // 2 for n in image.shape)
    for top, left, more in ((0, 0, 0), (0, 0, 1), (0, 0, cycles + 1), (i - cycles, j - cycles, 0)):
        end = cycles + more if not top else 2 * cycles + 1
        kept = np.zeros_like(unshifted)
        place = slice(top, top + end), slice(left, left + end)
        kept[place] = unshifted[place]
        found.append(("corner", np.fft.ifft2(kept)))
    return found


@exercise("images.6", MESSAGES["images.6"])
def echoes(answer) -> Verdict:
    ratio = 0.0
    for scatterers, cells in ((1, 5), (50, 20_000), (20, 30_000)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(scatterers)
            returned = call(answer, scatterers, cells)
        if torch.is_tensor(returned):
            returned = returned.detach().cpu().numpy()
        if np.iscomplexobj(returned):
            return "complex"
        got = as_array(returned)
        if got.shape != (cells,):
            return "shape", {"want": cells, "got": shape_or_type(got)}
        if not np.isfinite(got).all():
            return "infinite"
        want = math.sqrt(math.pi * scatterers) / 2
        told = {"n": scatterers, "got": float(got.mean()), "want": want}
        if (got < 0).any():
            return "signed"
        if scatterers == 1:
            if not near(got, np.ones(cells)):
                return "not one", told
            continue
        mean, spread = got.mean(), got.std()
        if near(got, np.full(cells, scatterers), rel=1e-3):
            return "lengths", told
        if near(got, np.full(cells, mean), rel=1e-6):
            return "same", told
        ratio = mean / spread
        one = math.sqrt(scatterers / math.pi)  # mean length of the real part alone
        if abs(mean / want - 1) < 0.03 and abs(ratio - 1.913) < 0.06:
            continue
        if abs(mean / one - 1) < 0.03 and abs(ratio - 1.32) < 0.06:
            return "one part", told
        if abs(mean / scatterers - 1) < 0.04 and abs(ratio - 1) < 0.06:
            return "power", told
        if abs(mean / (want / scatterers) - 1) < 0.03:
            return "mean", told
        return ("half" if ratio > 2.1 else "other"), told
    return "right", {"ratio": ratio}
