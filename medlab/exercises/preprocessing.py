"""Checks of preprocessing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near, number

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
        "other": "for size {size}, spacing {spacing} mm and to = {to} mm I expected {expected} "
        "and got {got}.",
    },
    "preprocessing.3": {
        "right": "because x^γ keeps the order of the pixels, the median of the picture is carried "
        "along, and one logarithm solves for γ.",
        "inverse": "you returned ln(median) / ln(target), which is 1/γ: it bends the scale the "
        "other way.",
        "mean": "you used the mean. The mean of x^γ is not mean^γ; only the order, and with it the "
        "median, is kept.",
        "ratio": "you divided target by median. That is a factor, y = a·x; here it is an exponent: "
        "take logarithms.",
        "difference": "you subtracted. That is a shift; here it is an exponent: take logarithms.",
        "image": "you returned an image. I asked for the exponent.",
        "half": "that brings the median to 0.5. It should come to `target`, here {target}.",
        "sign": "the exponent is negative: dark and bright would change places.",
        "other": "for a median of {median:.3f} and target {target} I expected γ = {expected:.4f} "
        "and got {got:.4f}.",
    },
    "preprocessing.4": {
        "right": "none of these has an answer by itself: it depends on what the label is.",
        "side": "“{pair}”: after the flip the collapsed lung is on the other side, and the label "
        "still names the old one.",
        "pose": "“{pair}”: patients do lean by a few degrees, and a consolidation stays one.",
        "no up": "“{pair}”: there is no up on the skin; the camera may be held either way.",
        "unit": "“{pair}”: HU are the measurement. 200 HU more makes calcium of what was none.",
        "gain": "“{pair}”: MR has no unit, and the gain differs from scan to scan anyway.",
        "size": "“{pair}”: the zoom changes the diameter, and the label does not know. (Zoom the "
        "label or the spacing along, and it would be allowed.)",
        "gravity": "“{pair}”: sound comes from the probe, at the top, and the stone's shadow falls "
        "away from it. In pictures shown this way no shadow falls upwards.",
        "slide": "“{pair}”: a section can be laid on the slide either way round.",
        "no dict": "I expected the dictionary `allowed`, and got {kind}.",
        "lost": "“{pair}” is missing. Leave the keys as they are and replace only the `...`.",
        "not boolean": "“{pair}” is {value!r}. I expected True or False.",
    },
    "preprocessing.5": {
        "right": "the right edge becomes the left one, and edges are positions, so there is no −1. "
        "A second flip brings every box back.",
        "minus one": "nearly: you mirrored about W − 1. That is right for the indices of pixels; "
        "the edges of a box are positions from 0 to W, so x becomes W − x. You are one pixel off.",
        "not swapped": "you mirrored both edges and left them in their places: x0 is now larger "
        "than x1. The old right edge is the new left one.",
        "overwritten": "one new edge is right and the other came back as it was. Did you write one "
        "into `boxes` and then compute the other from it? Take both from the old box, or build a "
        "new one.",
        "one edge": "you moved one edge only. Both x0 and x1 change, y0 and y1 do not.",
        "vertical": "you flipped upside down: y changed. A left–right flip changes x.",
        "unchanged": "the boxes came back as I gave them.",
        "columns": "the columns are in another order. It is x0, y0, x1, y1.",
        "shape": "you returned shape {got}; I gave {want}.",
        "other": "in an image {width} pixels wide the box {box} should become {expected}; I got "
        "{got}.",
    },
    "preprocessing.6": {
        "right": "no patient stands on both sides, and another seed asks another set of patients.",
        "by image": "{count} patients have images on both sides. Draw patients, not images, and "
        "then take all the images of those drawn.",
        "names": "you returned patients. I asked for one boolean an image: np.isin(patients, "
        "chosen).",
        "positions": "you returned positions. I asked for one boolean an image.",
        "length": "you returned {got} values for {want} images.",
        "share": "I asked for {share:.0%} of the patients, and {got:.0%} are test patients.",
        "inverted": "I asked for {share:.0%} test patients, and {got:.0%} are marked. True should "
        "mean test, not training.",
        "fixed": "every seed gives the same patients. Draw them at random from the seed.",
        "first": "every seed gives the first patients in the list. Archives are sorted by date or "
        "site, so the first are not like the rest: draw at random.",
        "unstable": "the same seed gave two different splits. Make the generator from the seed, "
        "inside the function.",
    },
}


def _array(answer: Any) -> np.ndarray:
    near(answer, 0)  # says what is wrong with something that is no number
    return np.asarray(answer.detach() if torch.is_tensor(answer) else answer, float)


@exercise("preprocessing.1", MESSAGES["preprocessing.1"])
def standardise(answer) -> Verdict:
    for seed, level in ((0, 100.0), (1, -700.0)):
        rng = torch.Generator().manual_seed(seed)
        train = level + 40 * torch.randn(30, 1, 12, 12, generator=rng)
        test = level + 60 + 25 * torch.randn(7, 1, 12, 12, generator=rng)
        together = torch.cat([train, test])
        mean, spread = train.mean(), train.std()
        want, got = (test - mean) / spread, call(answer, train.clone(), test.clone())
        # A deviation with n − 1 in place of n is as good: rel covers it.
        if near(got, want, rel=5e-3, absolute=5e-3):
            continue
        got = _array(got)
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
        }
        told = {"expected": want.flatten()[0].item(), "got": got.flat[0]}
        key = first_match(got, wrong, rel=5e-3, absolute=5e-3)
        if near(got, (test - train.mean(0)) / train.std(0, correction=0), rel=5e-3, absolute=5e-3):
            key = "per pixel"  # of 30 images, n and n − 1 differ by more than the tolerance
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
        steps = [(n - 1) * s / to for n, s in zip(size, spacing, strict=True)]
        want = [math.floor(k) + 1 for k in steps]
        exactly = {"rel": 0.0, "absolute": 1e-6}
        if near(got, want, **exactly):
            continue
        shown = _array(got)
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


@exercise("preprocessing.3", MESSAGES["preprocessing.3"])
def gamma_for(answer) -> Verdict:
    for seed, power, target in ((0, 3.0, 0.5), (1, 0.4, 0.3), (2, 2.0, 0.6)):
        rng = torch.Generator().manual_seed(seed)
        x = torch.rand(21, 25, generator=rng) ** power  # an odd number: one pixel is the median
        median, mean = x.median().item(), x.mean().item()
        want, got = math.log(target) / math.log(median), call(answer, x.clone(), target)
        if near(got, want, rel=2e-3):
            continue
        if _array(got).size == x.numel():
            return "image"
        got = number(got)
        wrong = {
            "inverse": 1 / want,
            "half": math.log(0.5) / math.log(median),
            "mean": math.log(target) / math.log(mean),
            "ratio": target / median,
            "difference": target - median,
        }
        told = {"median": median, "target": target, "expected": want, "got": got}
        key = first_match(got, wrong)
        return ("sign" if key == "other" and got < 0 else key), told
    return "right"


ALLOWED = {
    "chest X-ray, find the side of a collapsed lung: left–right flip": (False, "side"),
    "chest X-ray, pneumonia or not: turn by up to 8 degrees": (True, "pose"),
    "dermatoscopy, melanoma or not: turn by 180 degrees": (True, "no up"),
    "CT, measure calcium by its HU: add up to 200 HU": (False, "unit"),
    "MR, brain tumour or not: multiply all values by 0.8 to 1.25": (True, "gain"),
    "CT, diameter of a nodule in mm: zoom by up to 1.3": (False, "size"),
    "ultrasound, stone or not by its shadow: upside down": (False, "gravity"),
    "histology, tumour or not: left–right flip": (True, "slide"),
}


@exercise("preprocessing.4", MESSAGES["preprocessing.4"])
def allowed(answer) -> Verdict:
    if not isinstance(answer, dict):
        return "no dict", {"kind": type(answer).__name__}
    if any(value is ... for value in answer.values()):
        raise NotAttempted
    for pair, (right, why) in ALLOWED.items():
        if pair not in answer:
            return "lost", {"pair": pair}
        value = answer[pair]
        if not isinstance(value, (bool, np.bool_)) and value not in (0, 1):
            return "not boolean", {"pair": pair, "value": value}
        if bool(value) != right:
            return why, {"pair": pair}
    return "right"


@exercise("preprocessing.5", MESSAGES["preprocessing.5"])
def flip_boxes(answer) -> Verdict:
    boxes = torch.tensor([[3.0, 5.0, 10.0, 20.0], [0.0, 1.5, 64.0, 9.0], [40.5, 30.0, 41.0, 60.0]])
    for width, given in ((64, boxes), (96, boxes[:2]), (70, boxes[:1])):
        x0, y0, x1, y1 = given.unbind(1)
        want = torch.stack([width - x1, y0, width - x0, y1], 1)
        got = call(answer, given.clone(), width)
        if near(got, want):
            continue
        got = _array(got)
        if got.shape != tuple(want.shape):
            return "shape", {"got": got.shape, "want": tuple(want.shape)}
        last = width - 1
        wrong = {
            "unchanged": [given],
            "minus one": [
                torch.stack([last - x1, y0, last - x0, y1], 1),
                torch.stack([last - x0, y0, last - x1, y1], 1),
                torch.stack([last - x1, y0, width - x0, y1], 1),
                torch.stack([width - x1, y0, last - x0, y1], 1),
            ],
            "not swapped": [torch.stack([width - x0, y0, width - x1, y1], 1)],
            "overwritten": [
                torch.stack([width - x1, y0, x1, y1], 1),
                torch.stack([x0, y0, width - x0, y1], 1),
            ],
            "one edge": [
                torch.stack([width - x0, y0, x1, y1], 1),
                torch.stack([x0, y0, width - x1, y1], 1),
            ],
            "vertical": [
                torch.stack([x0, width - y1, x1, width - y0], 1),
                torch.stack([x0, width - y0, x1, width - y1], 1),
            ],
            "columns": [
                torch.stack([width - x1, width - x0, y0, y1], 1),
                torch.stack([y0, width - x1, y1, width - x0], 1),
            ],
        }
        told = {"width": width, "box": given[0].tolist(), "expected": want[0].tolist()}
        told["got"] = got[0].round(3).tolist()
        for key, results in wrong.items():
            if any(near(got, one) for one in results):
                return key, told
        return "other", told
    return "right"


@exercise("preprocessing.6", MESSAGES["preprocessing.6"])
def test_images(answer) -> Verdict:
    rng = np.random.default_rng(7)
    names = np.array([f"P{k:03d}" for k in rng.permutation(200)])
    patients = np.repeat(names, rng.integers(1, 5, len(names)))
    patients = patients[rng.permutation(len(patients))]
    splits = {}
    for share in (0.25, 0.4):
        for seed in range(5):
            got = call(answer, patients.copy(), share, seed)
            splits[share, seed] = test = _marks(got, patients)
            shared = np.intersect1d(patients[test], patients[~test])
            if len(shared):
                return "by image", {"count": len(shared)}
        marked = np.mean([len(set(patients[splits[share, s]])) / len(names) for s in range(5)])
        # A coin for each patient gives the share only on average: 0.03 is its deviation.
        if abs(marked - share) > 0.08:
            key = "inverted" if abs(1 - marked - share) < 0.08 else "share"
            return key, {"share": share, "got": marked}
    if (_marks(call(answer, patients.copy(), 0.25, 3), patients) != splits[0.25, 3]).any():
        return "unstable"
    if all((splits[0.25, s] == splits[0.25, 0]).all() for s in range(5)):
        chosen = set(patients[splits[0.25, 0]])
        in_order = list(dict.fromkeys(patients)), sorted(set(patients))
        return "first" if any(chosen == set(o[: len(chosen)]) for o in in_order) else "fixed"
    return "right"


def _marks(got: Any, patients: np.ndarray) -> np.ndarray:
    """The answer as one boolean an image; ends the check if it is none."""
    array = np.asarray(got.detach().cpu() if torch.is_tensor(got) else got)
    if array.dtype.kind in "US":
        raise Wrong("names")
    if array.dtype.kind in "iuf" and array.size and not np.isin(array, (0, 1)).all():
        raise Wrong("positions")
    if array.dtype.kind not in "biuf":
        raise Wrong("not a number", kind=f"an array of {array.dtype}")
    if array.shape != patients.shape:
        raise Wrong("length", got=array.size, want=len(patients))
    return array.astype(bool)
