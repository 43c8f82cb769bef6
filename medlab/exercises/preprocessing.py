"""Checks of preprocessing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from medlab.exercises import Verdict, Wrong, array_of, call, exercise, first_match, near

MESSAGES = {
    "preprocessing.1": {
        "right": "the test images keep their own level, seen from the training set. At the bedside "
        "there is only one image, and this still works.",
        "own": "you used the statistics of the test images themselves. Then a test set that is "
        "brighter as a whole looks like any other, and one image alone becomes something else "
        "than the same image among a hundred.",
        "pooled": "you used the statistics of training and test together. That is the leak this "
        "exercise is about: fit on training alone.",
        "variance": "you divided by the variance. A z-score divides by its root, the standard "
        "deviation.",
        "not centred": "you divided by the standard deviation and did not subtract the mean.",
        "not scaled": "you subtracted the mean and did not divide by the standard deviation.",
        "order": "you divided first and subtracted the mean afterwards. It is (x − mean) / "
        "deviation: mind the brackets.",
        "mixed": "your mean comes from one set and your deviation from the other. Both come from "
        "the training images.",
        "mean of spreads": "you averaged the deviations of single images. How images differ from "
        "each other is then left out: take one deviation over all pixels of all training images.",
        "per pixel": "you took a mean and a deviation for every pixel position. I asked for one of "
        "each, over all pixels of all training images.",
        "per image": "you standardised each image by itself, which deletes its level. Fit on the "
        "training images.",
        "train": "you returned the training images. I asked for the test images, on their scale.",
        "shape": "you returned shape {got}; the test images have {want}.",
        "other": "the first test pixel should become {expected:.4f}, and I got {got:.4f}.",
    },
    "preprocessing.2": {
        "right": "n pixels have n − 1 steps between them: the extent from first to last centre "
        "counts, and one pixel more than there are steps.",
        "edges": "you computed n · s / s′, which keeps the outer edges. With the first centres "
        "together it is the distance between first and last centre, (n − 1) · s, that is divided "
        "into steps.",
        "no last": "you counted the steps. A row of k steps has k + 1 pixels.",
        "inverse": "you multiplied by s′ / s. Finer spacing must give more pixels, not fewer.",
        "rounded": "you rounded the number of steps up or to the nearest. Then a new centre can "
        "lie beyond the last old one, where there is no value: round down.",
        "fractions": "I got {got}, and a number of pixels must be whole: round down.",
        "one axis": "you used the first spacing for every axis. Each has its own.",
        "length": "I expected {want} numbers, one an axis, and got {got}.",
        "generator": "round brackets around a `for` make a generator, which hands out its values "
        "once. Write tuple(…) around it.",
        "other": "for size {size}, spacing {spacing} mm and to = {to} mm I expected {expected} "
        "and got {got}.",
    },
    "preprocessing.3": {
        "right": "image and mask share one grid in millimetres, and no label was invented.",
        "pair": "I expected two arrays, (volume, mask), and got {got}.",
        "swapped": "you returned the mask first. I asked for (volume, mask).",
        "mask left": "the {which} came back on its old grid, {got}. Both move.",
        "axes": "the {which} has {got} voxels; for {size} voxels of {spacing} mm at {to} mm I "
        "expected {want}. Each axis has its own spacing, and its own size.",
        "edges": "the {which} has {got} voxels, as if outer edges agreed; I expected {want}. First "
        "centres agree, and no new centre lies beyond the last old one (exercise 2).",
        "no last": "the {which} has {got} voxels. That is the number of steps: k steps have k + 1 "
        "ends.",
        "inverse": "the {which} has {got} voxels, and a finer spacing gives more, not fewer: I "
        "expected {want}. It is s/s′ for the size, s′/s for the place.",
        "place edges": "the {which} is read as if outer edges agreed, at (j + ½)·s′/s − ½. Here "
        "first centres agree: j·s′/s.",
        "place corners": "the {which} is stretched until first and last centres agree. The spacing "
        "is then no longer {to} mm: voxel j lies at j·s′/s.",
        "place size": "the {which} is stretched until it fills the new size from edge to edge, as "
        "`F.interpolate` with `size=` does. The spacing is then no longer {to} mm: voxel j lies at "
        "j·s′/s.",
        "place inverse": "the {which} is read at j·s/s′, which is the place the other way round. "
        "New voxel j lies j·s′ mm from the first centre, and that is j·s′/s old voxels.",
        "nearest": "the volume has only values that were there before. Between two centres it is "
        "a mix of both, by nearness; nearest neighbour is for the mask.",
        "weights": "the two neighbours have each other's weights. At u = 2.1 the value at 2 counts "
        "for 0.9, that at 3 for 0.1.",
        "invented": "the mask holds {new}, and there is no such label: it was interpolated. "
        "Numbers that are names have no half-way.",
        "side label": "the mask takes the voxel to the {side}. The nearest one is meant: 1.7 is "
        "nearer to 2 than to 1, and 1.3 nearer to 1.",
        "blurred": "the volume was smoothed before. That is right in practice where the new grid "
        "is coarser; I asked for it without.",
        "other": "the {which} at {at} should be {want:.3f}, and I got {got:.3f}.",
    },
    "preprocessing.4": {
        "right": "nothing is stretched, the middle stays the middle, and the margin is what you "
        "say it is.",
        "shape": "from {old} to {size} I got {got}. Each axis by itself is cut or filled.",
        "zeros": "the margin is 0. It should be `value`, here {value:g}: in HU, 0 is water, and "
        "air is −1000.",
        "start": "you kept the first rows or columns: cut and filled at the end alone. The same "
        "should go at both ends (one more at one of them, if the number is odd).",
        "end": "you cut and filled at the start alone. The same should go at both ends (one more "
        "at one of them, if the number is odd).",
        "off": "from {old} to {size}: the picture lies beside the middle. Is half of the "
        "difference at each end?",
        "stretched": "you resized. A patient who is squeezed has other angles and other sizes: cut "
        "or fill, and leave every value what it was.",
        "other": "from {old} to {size}: the value at {at} should be {want:g}, and I got {got:g}.",
    },
    "preprocessing.5": {
        "right": "common greys are pulled apart, but little further than the limit: what was cut "
        "off and handed out again adds a little slope everywhere.",
        "unlimited": "that is the curve without a limit: nothing was cut. The limit counts in mean "
        "heights, and the mean height of 256 shares is 1/256.",
        "lost": "what was cut off is gone: the curve ends at {end:.2f} instead of 1. Hand it out "
        "again, the same to each of the 256 greys.",
        "stretched": "you divided the cut curve by its end, which makes it steeper where it is "
        "steep, beyond the limit. Hand out what was cut off, the same to each of the 256 greys.",
        "to few": "you gave what was cut off to greys below the limit, or to those that occur. "
        "Each of the 256 gets the same.",
        "below": "you summed the shares below the pixel's grey. Its own counts too: at or below.",
        "curve": "you returned the curve, {got} values. The last step looks each pixel up in it.",
        "histogram": "you looked the pixels up in the histogram. Its running sum is the curve.",
        "scale": "that is the right curve on another scale. I asked for 0 to 1: shares, not "
        "numbers of pixels or greys to 255.",
        "counts": "you cut numbers of pixels at {limit:g}. Shares are cut, at {limit:g} times "
        "their mean.",
        "occupied": "your mean height is that of the greys that occur. Take it over all 256.",
        "shape": "I got shape {got}; the image has {want}.",
        "other": "with limit {limit:g}, a pixel of grey {grey} should become {want:.4f}, and I got "
        "{got:.4f}.",
    },
    "preprocessing.6": {
        "right": "off by {error:.1%} within the mask, and six numbers are too stiff to follow a "
        "small lesion.",
        "shape": "I got shape {got}. I asked for the field of the whole image, {want}.",
        "not finite": "{count} values of the mask are NaN or infinite. Background is 0, and has no "
        "logarithm: fit the voxels of the mask alone.",
        "corrected": "you returned the corrected image. I asked for the field by which it was "
        "multiplied.",
        "log": "you returned the logarithm of the field: take exp at the end.",
        "inverse": "you returned 1/field. Where the image is bright, so is the field.",
        "raw": "you fitted the image itself. The field multiplies; only its logarithm is added to "
        "that of tissue, and can be fitted beside it.",
        "flat": "your field is the same everywhere.",
        "plane": "you left out the terms of second order. A plane cannot bend.",
        "no cross": "the term v·u is missing: a field that falls along the diagonal needs it.",
        "no constant": "the constant c₀ is missing: without it the fit runs through log 1 in the "
        "middle, whatever the unit of the image.",
        "no squares": "the squares v² and u² are missing.",
        "background": "your fit has seen the background. Fit the voxels of the mask alone.",
        "shifted log": "you took the logarithm of 1 + image. That turns no product into a sum: "
        "take the logarithm of the image, within the mask, where it is above 0.",
        "negative": "a field multiplies magnitudes: it is above 0.",
        "other": "within the mask your field is off by {error:.1%}; the fit of six numbers is off "
        "by {best:.1%}.",
    },
}


@exercise("preprocessing.1", MESSAGES["preprocessing.1"])
def standardise(answer) -> Verdict:
    for seed, level in ((0, 100.0), (1, -700.0)):
        rng = torch.Generator().manual_seed(seed)
        # Images differ in level, so that a mean of their deviations is another deviation
        train = level + 50 * torch.randn(30, 1, 1, 1, generator=rng)
        train = train + 40 * torch.randn(30, 1, 12, 12, generator=rng)
        test = level + 60 + 25 * torch.randn(7, 1, 12, 12, generator=rng)
        together = torch.cat([train, test])
        mean, spread = train.mean(), train.std()
        want, got = (test - mean) / spread, call(answer, train.clone(), test.clone())
        # A deviation with n − 1 in place of n is as good: rel covers it.
        if near(got, want, rel=5e-3, absolute=5e-3):
            continue
        got = array_of(got)
        if got.shape == tuple(train.shape):
            return "train"
        if got.shape != tuple(test.shape):
            return "shape", {"got": got.shape, "want": tuple(test.shape)}
        axes = (1, 2, 3)
        wrong = {
            "own": (test - test.mean()) / test.std(),
            "pooled": (test - together.mean()) / together.std(),
            "variance": (test - mean) / train.var(),
            "not centred": test / spread,
            "not scaled": test - mean,
            "order": test / spread - mean,
            "per image": (test - test.mean(axes, keepdim=True)) / test.std(axes, keepdim=True),
            "per pixel": (test - train.mean(0)) / train.std(0),
            "mean of spreads": (test - mean) / train.std(axes).mean(),
        }
        crossed = [(test - mean) / test.std(), (test - test.mean()) / spread]
        told = {"expected": want.flatten()[0].item(), "got": got.flat[0]}
        key = first_match(got, wrong, rel=5e-3, absolute=5e-3)
        if near(got, (test - train.mean(0)) / train.std(0, correction=0), rel=5e-3, absolute=5e-3):
            key = "per pixel"  # of 30 images, n and n − 1 differ by more than the tolerance
        if any(near(got, one, rel=5e-3, absolute=5e-3) for one in crossed):
            key = "mixed"
        return key, told
    return "right"


@exercise("preprocessing.2", MESSAGES["preprocessing.2"])
def resampled_size(answer) -> Verdict:
    cases: tuple[tuple[tuple[int, ...], tuple[float, ...], float], ...] = (
        # Whole numbers of steps only where floats are exact: in Python 195 // 1.3 is 149.
        ((41, 512, 500), (5.0, 0.7, 0.75), 1.3),
        ((128, 90), (1.2, 0.9), 0.65),
        ((61, 33), (2.0, 3.1), 2.9),
        ((33, 65), (2.0, 0.75), 0.5),
    )
    for size, spacing, to in cases:
        got = call(answer, size, spacing, to)
        if isinstance(got, Iterator):
            return "generator"
        steps = [(n - 1) * s / to for n, s in zip(size, spacing, strict=True)]
        want = [math.floor(k) + 1 for k in steps]
        exactly = {"rel": 0.0, "absolute": 1e-6}
        if near(got, want, **exactly):
            continue
        shown = array_of(got)
        told = {"size": size, "spacing": spacing, "to": to, "expected": tuple(want)}
        told["got"] = tuple(round(float(v), 3) for v in shown.flat)
        if shown.shape != (len(size),):
            return "length", {"want": len(size), "got": shown.size}
        edges = [n * s / to for n, s in zip(size, spacing, strict=True)]
        inverse = [n * to / s for n, s in zip(size, spacing, strict=True)]
        inner = [(n - 1) * to / s for n, s in zip(size, spacing, strict=True)]
        same = [math.floor((n - 1) * spacing[0] / to) + 1 for n in size]
        rounds = (math.floor, math.ceil, round)
        wrong: dict[str, list] = {
            "no last": [[math.floor(k) for k in steps]],
            "rounded": [[r(k) + 1 for k in steps] for r in (math.ceil, round)],
            "edges": [edges, *([r(k) for k in edges] for r in rounds)],
            "inverse": [
                inverse,
                *([r(k) for k in inverse] for r in rounds),
                *([r(k) + 1 for k in inner] for r in rounds),
            ],
            "one axis": [same],
        }
        for key, results in wrong.items():
            if any(near(got, one, **exactly) for one in results):
                return key, told
        return ("fractions" if (shown != np.round(shown)).any() else "other"), told
    return "right"


def _read(x: np.ndarray, places: Iterable[np.ndarray], order: int) -> np.ndarray:
    """x at the given positions of each axis; order as in SciPy, edges repeated."""
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    return map_coordinates(x, grid, order=order, mode="nearest")


@exercise("preprocessing.3", MESSAGES["preprocessing.3"])
def resample(answer) -> Verdict:
    # Sizes and spacings such that no new centre lies half-way between two old ones, nor at the end
    cases: tuple[tuple[tuple[int, ...], tuple[float, ...], float], ...] = (
        ((7, 12, 14), (3.0, 1.5, 1.25), 1.0),
        ((5, 16, 23), (5.0, 0.75, 0.6), 1.0),
        ((6, 9, 11), (1.1, 2.5, 0.7), 0.9),
    )
    for seed, (size, spacing, to) in enumerate(cases):
        rng = np.random.default_rng(seed)
        volume = gaussian_filter(rng.normal(100, 400, size), 0.7)
        mask = rng.choice([0, 3, 7], size, p=[0.5, 0.3, 0.2])
        given = torch.from_numpy(volume).float(), torch.from_numpy(mask).to(torch.uint8)
        got = _pair(call(answer, *(x.clone() for x in given), spacing, to))
        steps = [(n - 1) * s / to for n, s in zip(size, spacing, strict=True)]
        want = tuple(math.floor(k + 1e-6) + 1 for k in steps)
        told: dict[str, Any] = {"size": size, "spacing": spacing, "to": to, "want": want}
        for which, one in zip(("volume", "mask"), got, strict=True):
            if one.shape != want:
                told |= {"which": which, "got": one.shape}
                return _misshapen(one.shape, size, spacing, to), told
        first = [np.arange(n) * to / s for n, s in zip(want, spacing, strict=True)]
        others: dict[str, list[np.ndarray]] = {
            "place edges": [
                (np.arange(n) + 0.5) * to / s - 0.5 for n, s in zip(want, spacing, strict=True)
            ],
            "place corners": [np.linspace(0, n - 1, k) for n, k in zip(size, want, strict=True)],
            "place size": [
                (np.arange(k) + 0.5) * n / k - 0.5 for n, k in zip(size, want, strict=True)
            ],
            "place inverse": [np.arange(n) * s / to for n, s in zip(want, spacing, strict=True)],
        }
        linear, nearest = _read(volume, first, 1), _read(mask, first, 0)
        loose = {"rel": 1e-3, "absolute": 0.05}
        if near(got[0], nearest, **loose) and near(got[1], linear, **loose):
            return "swapped"
        if not near(got[0], linear, **loose):
            wrong = {key: _read(volume, place, 1) for key, place in others.items()}
            wrong["nearest"] = _read(volume, first, 0)
            wrong["weights"] = _read(volume, [2 * np.floor(u) + 1 - u for u in first], 1)
            wrong["blurred"] = _smoothed(volume, spacing, to, first)
            key = first_match(got[0], wrong, **loose)
            if near(got[0], _read(volume, [np.floor(u + 1e-6) for u in first], 0), **loose):
                key = "nearest"
            return key, told | _first(got[0], linear, "volume")
        if not near(got[1], nearest):
            new = sorted(set(np.unique(got[1].round(3)).tolist()) - {0, 3, 7})
            if new:
                return "invented", {"new": ", ".join(f"{value:g}" for value in new[:3])}
            wrong = {key: _read(mask, place, 0) for key, place in others.items()}
            told |= _first(got[1], nearest, "mask")
            for side, places in (
                ("left", [np.floor(u + 1e-6) for u in first]),
                ("right", [np.ceil(u - 1e-6) for u in first]),
            ):
                if near(got[1], _read(mask, places, 0)):
                    return "side label", {"side": side}
            return first_match(got[1], wrong), told
    return "right"


def _pair(got: Any) -> list[np.ndarray]:
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        kind = f"{len(got)} values" if isinstance(got, (tuple, list)) else type(got).__name__
        raise Wrong("pair", got=kind)
    return [array_of(one) for one in got]


def _misshapen(got: tuple[int, ...], size: tuple, spacing: tuple, to: float) -> str:
    if got == size:
        return "mask left"
    each = list(zip(size, spacing, strict=True))
    rules: dict[str, list[Callable[..., int]]] = {
        "no last": [lambda n, s: math.floor((n - 1) * s / to + 1e-6)],
        "edges": [lambda n, s, r=r: r(n * s / to) for r in (math.floor, math.ceil, round)],
        "inverse": [lambda n, s: math.floor((n - 1) * to / s + 1e-6) + 1],
    }
    for key, ways in rules.items():
        if any(got == tuple(way(n, s) for n, s in each) for way in ways):
            return key
    return "axes"


def _smoothed(volume: np.ndarray, spacing: tuple, to: float, places: list) -> np.ndarray:
    """With the blur that medlab.preprocess.resample has before a coarser grid."""
    sigmas = [math.sqrt(max(0, (to / s) ** 2 - 1) / (8 * math.log(2))) for s in spacing]
    return _read(gaussian_filter(volume, sigmas, mode="nearest"), places, 1)


def _first(got: np.ndarray, want: np.ndarray, which: str = "") -> dict[str, Any]:
    """Where two arrays of one shape differ most, and by what."""
    at = np.unravel_index(np.nan_to_num(np.abs(got - want), nan=np.inf).argmax(), want.shape)
    place = [int(k) for k in at]
    return {"which": which, "at": place, "want": float(want[at]), "got": float(got[at])}


@exercise("preprocessing.4", MESSAGES["preprocessing.4"])
def crop_pad(answer) -> Verdict:
    cases = (((12, 7), (6, 13), -1000.0), ((9, 11), (4, 5), 0.5), ((5, 6), (10, 9), -3.0))
    for seed, (old, size, value) in enumerate(cases):
        x = torch.randn(old, generator=torch.Generator().manual_seed(seed)) * 50 + 20
        got = array_of(call(answer, x.clone(), size, value))
        told: dict[str, Any] = {"old": old, "size": size, "value": value, "got": got.shape}
        if got.shape != size:
            return "shape", told
        room = [wanted - n for n, wanted in zip(old, size, strict=True)]
        middle = [(int(k / 2), k - int(k / 2)) for k in room]
        leads = list(itertools.product(*middle))
        if any(near(got, _placed(x, size, value, lead)) for lead in leads):
            continue
        if any(near(got, _placed(x, size, 0.0, lead)) for lead in leads):
            return "zeros", told
        starts = [sorted({0, k, *both}) for k, both in zip(room, middle, strict=True)]
        for lead in itertools.product(*starts):
            if any(near(got, _placed(x, size, fill, lead)) for fill in (value, 0.0)):
                ends = {"start": (0, 0), "end": tuple(room)}
                return next((key for key, where in ends.items() if lead == where), "off"), told
        known = np.append(x.numpy(), [value, 0.0])
        if not np.isclose(got[..., None], known.astype(float), atol=1e-4).any(-1).all():
            return "stretched", told
        return "other", told | _first(got, _placed(x, size, value, leads[0]).numpy())
    return "right"


def _placed(x: torch.Tensor, size: tuple, value: float, lead: tuple[int, ...]) -> torch.Tensor:
    """x in an array of `size`, its first pixel at `lead`, which may lie outside."""
    margins: list[int] = []
    for n, wanted, start in zip(reversed(x.shape), reversed(size), reversed(lead), strict=True):
        margins += [start, wanted - n - start]
    return torch.nn.functional.pad(x, margins, value=value)


@exercise("preprocessing.5", MESSAGES["preprocessing.5"])
def equalise(answer) -> Verdict:
    for seed, limit in ((0, 3.0), (1, 1.5), (2, 20.0)):
        rng = np.random.default_rng(seed)
        greys = rng.normal(90, 18, (40, 30)).clip(0, 230).astype(np.uint8)
        greys[:6], greys[6, :9] = 0, 231
        counts = np.bincount(greys.ravel(), minlength=256)
        curve = _curve(counts, limit * greys.size / 256)
        got, want = array_of(call(answer, greys.copy(), limit)), curve[greys]
        if near(got, want):
            continue
        if got.shape == (256,):
            return "curve", {"got": got.size}
        if got.shape != greys.shape:
            return "shape", {"got": got.shape, "want": greys.shape}
        share = counts / greys.size
        cut = np.minimum(share, limit / 256)
        lost = 1 - cut.sum()
        below, present = share < limit / 256, counts > 0
        wrong = {
            "unlimited": [share.cumsum()],
            "lost": [cut.cumsum()],
            "stretched": [cut.cumsum() / cut.sum()],
            "to few": [
                (cut + lost * below / below.sum()).cumsum(),
                (cut + lost * present / present.sum()).cumsum(),
                (cut + lost / (greys.max() + 1) * (np.arange(256) <= greys.max())).cumsum(),
            ],
            "below": [curve - cut - lost / 256],
            "histogram": [cut + lost / 256, share, cut],
            "scale": [255 * curve, 256 * curve, greys.size * curve, 100 * curve],
            "counts": [np.minimum(counts, limit).cumsum() / counts.sum(), _curve(counts, limit)],
            "occupied": [_curve(counts, limit * greys.size / present.sum())],
        }
        told = {"limit": limit, "end": cut.sum()} | _first(got, want)
        told["grey"] = int(greys[tuple(told["at"])])
        for key, curves in wrong.items():
            if any(near(got, one[greys]) for one in curves):
                return key, told
        return "other", told
    return "right"


def _curve(counts: np.ndarray, most: float) -> np.ndarray:
    """The running sum of 256 numbers of pixels cut at `most`, the rest spread over all of them."""
    cut = np.minimum(counts, most)
    return (cut + (counts - cut).sum() / 256).cumsum() / counts.sum()


@exercise("preprocessing.6", MESSAGES["preprocessing.6"])
def quadratic_field(answer) -> Verdict:
    worst = 0.0
    for seed, bend in ((0, (0.5, -0.6, 0.4, 0.7, -0.5)), (1, (-0.3, 0.7, -0.6, -0.8, 0.5))):
        image, mask, log_field = _shaded(seed, bend)
        got = call(answer, image.clone(), mask.clone())
        got = array_of(got)
        if got.shape != tuple(image.shape):
            return "shape", {"got": got.shape, "want": tuple(image.shape)}
        inside, x = mask.numpy(), image.numpy().astype(float)
        if bad := int((~np.isfinite(got[inside])).sum()):
            return "not finite", {"count": bad}
        logs = np.log(x[inside])
        terms = _terms(x.shape)
        best = _off(_fit(terms[inside], logs, terms)[inside], log_field[inside])
        told = {"best": best, "error": 1.0}
        if (got[inside] > 0).all():
            told["error"] = error = _off(np.log(got[inside]), log_field[inside])
            if error < best + 0.01:
                worst = max(worst, error)
                continue
        field = np.exp(_fit(terms[inside], logs, terms))
        seen = np.log(np.where(inside, x, 1.0))
        wrong = {
            "log": np.log(field),
            "corrected": x / field,
            "inverse": 1 / field,
            "raw": _fit(terms[inside], x[inside], terms),
            "plane": np.exp(_fit(terms[inside][:, :3], logs, terms[..., :3])),
            "no cross": np.exp(
                _fit(terms[inside][:, [0, 1, 2, 3, 5]], logs, terms[..., [0, 1, 2, 3, 5]])
            ),
            "no squares": np.exp(
                _fit(terms[inside][:, [0, 1, 2, 4]], logs, terms[..., [0, 1, 2, 4]])
            ),
            "no constant": np.exp(_fit(terms[inside][:, 1:], logs, terms[..., 1:])),
            "background": np.exp(_fit(terms.reshape(-1, 6), seen.ravel(), terms)),
        }
        logs_of_more = _fit(terms[inside], np.log1p(x[inside]), terms)
        more = {"shifted log": [np.exp(logs_of_more), np.expm1(logs_of_more)]}
        # A small number in place of the zeros of the background makes their logarithm finite
        small = [np.log(np.maximum(x, 10.0**-k)) for k in range(1, 13)]
        more["background"] = [np.exp(_fit(terms.reshape(-1, 6), v.ravel(), terms)) for v in small]
        if np.ptp(got[inside]) < 1e-4 * np.abs(got[inside]).max():
            return "flat", told
        for key, one in wrong.items():
            same = np.subtract if key == "log" else np.divide  # a log field's level is a summand
            alike = [same(v[inside], np.median(v[inside])) for v in (got, one)]
            if near(*alike, rel=0.02, absolute=0.02):
                return key, told
        for key, several in more.items():
            shapes = [one[inside] / np.median(one[inside]) for one in several]
            shape = got[inside] / np.abs(np.median(got[inside]))
            if any(near(shape, one, rel=0.02) for one in shapes):
                return key, told
        return ("negative" if (got[inside] <= 0).any() else "other"), told
    return "right", {"error": worst}


def _terms(shape: tuple[int, ...]) -> np.ndarray:
    v, u = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.stack([np.ones(shape), v, u, v * v, v * u, u * u], axis=-1)


def _fit(known: np.ndarray, values: np.ndarray, terms: np.ndarray) -> np.ndarray:
    return terms @ np.linalg.lstsq(known, values, rcond=None)[0]


def _off(found: np.ndarray, true: np.ndarray) -> float:
    """Spread of the error of a log field; its level is free."""
    return float((found - true).std())


def _shaded(seed: int, bend: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Patches of three tissues in an ellipse of a black image, under exp(a quadratic)."""
    rng = np.random.default_rng(seed)
    shape = (72, 60)
    v, u = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = (v / 0.85) ** 2 + (u / 0.7) ** 2 < 1
    tissue = np.kron(rng.integers(0, 3, (24, 20)), np.ones((3, 3), int))
    log_field = _terms(shape)[..., 1:] @ np.array(bend)
    noise = 0.02 * rng.normal(size=shape)
    image = (400, 0.02)[seed] * np.array([0.7, 1.0, 1.3])[tissue] * np.exp(log_field + noise) * mask
    return torch.from_numpy(image).float(), torch.from_numpy(mask), log_field
