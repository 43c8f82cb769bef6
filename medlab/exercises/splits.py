"""Checks of splits and augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near

MESSAGES = {
    "splits.1": {
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
    "splits.2": {
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
    "splits.3": {
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


@exercise("splits.1", MESSAGES["splits.1"])
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


@exercise("splits.2", MESSAGES["splits.2"])
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


@exercise("splits.3", MESSAGES["splits.3"])
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
