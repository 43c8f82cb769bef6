"""Checks of start here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from medlab.exercises import (
    NotAttempted,
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

MESSAGES = {
    "start_here.1": {
        "right": "with 8 healthy and 2 sick the fool scores 0.8 and has looked at no picture. Hold "
        "every accuracy you read against that number.",
        "share of sick": "you returned the share of class 1, {got:.2g}. The most common class "
        "need not be class 1.",
        "count": "you returned a count, {got:g}. Divide by the number of images.",
        "percent": "you returned per cent. An accuracy lies between 0 and 1 in this course.",
        "class": "you returned the commonest class. I asked how often answering it is right.",
        "whole": "`//` rounds a share below 1 down to 0. Divide with `/`.",
        "other": "for {labels} I expected {expected:.3g} and got {got:.3g}.",
    },
    "start_here.2": {
        "right": "two patients stand on both sides in my example, although several images do.",
        "images": "you counted images: {got:g}. One patient may have many; count each once.",
        "positions": "you compared the two lists entry by entry. The same patient may stand "
        "anywhere in either list, and the lists may differ in length.",
        "set": "you returned the patients themselves; I asked how many: wrap it in len().",
        "either": "you counted the patients in either part. I asked for those in both.",
        "one part": "you counted the patients of one part, {got:g}. I asked for those in both.",
        "apart": "you counted the patients who stand on one side only. I asked for both sides.",
        "other": "for a = {a} and b = {b} I expected {expected} and got {got:g}.",
    },
    "start_here.3": {
        "right": "you have just computed an AUC without a curve.",
        "ties lost": "a tie counted nothing: I expected 7.5 of 10 pairs and got {got:.3f}. "
        "Add one half for every pair with equal scores.",
        "ties won": "a tie counted in full. Equal scores are a coin's toss: add one half.",
        "reversed": "you counted the pairs in which the healthy one scores higher.",
        "sum": "you returned the number of pairs won. Divide by the number of pairs.",
        "all pairs": "you divided by all pairs of images. Only pairs of one sick and one healthy "
        "count: (number of sick) × (number of healthy).",
        "accuracy": "that is the accuracy at a threshold of 0.5. The AUC needs no threshold.",
        "lost": "a lost pair counted one half, like a tie. It counts nothing.",
        "gini": "that is twice the AUC less one: pairs lost were taken off. They count nothing.",
        "percent": "you returned per cent. The AUC lies between 0 and 1.",
        "order": "the answer changed to {got:.4f} when I shuffled the patients. Do not rely on "
        "order.",
        "other": "for labels {labels} and scores {scores} I expected {expected:.4f} and got "
        "{got:.4f}.",
    },
    "start_here.4": {
        "right": "each is a share of its own group, so neither depends on how many are ill.",
        "swapped": "you returned specificity first. I asked for sensitivity, specificity.",
        "above": "a score of exactly t is called sick too: `>=`, not `>`.",
        "ppv": "you divided by those called sick, and by those called healthy: these are the "
        "predictive values. Divide by all the sick, and by all the healthy.",
        "false alarms": "the second is the share of the healthy called sick, 1 − specificity.",
        "missed": "the first is the share of the sick that are missed, 1 − sensitivity.",
        "all": "you divided by all images. Sensitivity is a share of the sick, specificity one of "
        "the healthy.",
        "counts": "you returned counts, {got}. Divide each by its group.",
        "reversed": "you called the low scores sick.",
        "percent": "you returned per cent. Shares lie between 0 and 1 in this course.",
        "pair": "I expected two numbers, sensitivity and specificity, and got {got}.",
        "other": "for labels {labels}, scores {scores} and t = {t:g} I expected {expected}, and "
        "got {got}.",
    },
    "start_here.5": {
        "right": "the highest threshold that still finds them keeps false alarms fewest.",
        "everyone": "at {got:g} you find all the sick, and call every healthy patient sick too. I "
        "asked for the highest threshold that does it.",
        "wrong end": "at {got:g} only the share {found:.2f} of the sick is found. Did you sort "
        "from the wrong end, or take 1 − wanted?",
        "all scores": "you took the quantile of all scores. Sensitivity concerns the sick alone: "
        "select labels == 1 first.",
        "too high": "at {got:g} only {found:.2f} of the sick are found, and {wanted:g} were "
        "wanted. Round the number of sick patients up; do not interpolate.",
        "alarms": "at {got:g} the share {wanted:g} of *all called sick* are sick: that is the PPV. "
        "Sensitivity is a share of all the sick.",
        "place": "that is a place in the sorted list, {got:g}. I asked for the score there.",
        "too low": "at {got:g} enough are found, but {expected:g} is higher and finds enough too. "
        "Do not interpolate; check for an index off by one.",
    },
    "start_here.6": {
        "right": "sick and healthy corners are now alike, and the original is untouched.",
        "in place": "you changed the images that I passed in. Start from images.clone(), or "
        "whoever uses them next gets altered pictures without knowing.",
        "shape": "the images changed shape from {want} to {got}. Black out the corner, do not "
        "crop.",
        "remains": "the square can still be seen: {left} pixels of it differ between stamped and "
        "unstamped. Black out rows 0–7 and columns 0–7.",
        "too much": "you changed pixels outside the corner. Only the top-left 8×8 should be 0: "
        "images[..., :8, :8].",
        "not a tensor": "I expected a tensor of images, and got {kind}.",
        "not black": "the corner is not 0. A value that still varies may still tell something.",
    },
    "start_here.7": {
        "right": "cover and look again: no knowledge of the network is needed, only its answers. "
        "This is occlusion.",
        "swapped": "you returned column and row. I asked for (row, column).",
        "tile": "you returned the number of the tile, {got}. I asked for its upper left pixel.",
        "highest": "without that tile the score is highest. It changes the score most, but the "
        "wrong way: I asked where the score becomes lowest.",
        "brightest": "that is the brightest tile. Ask the score, not the eye.",
        "kept": "a tile that you had covered was still covered when the next one was. Start each "
        "from a fresh copy.",
        "not black": "you covered the tiles with another value than 0.",
        "in place": "you changed the image that I passed in. Work on image.clone().",
        "size": "you covered {rows}×{columns} pixels from [{row}, {column}] on. A tile has 8×8, "
        "and starts at a multiple of 8.",
        "never": "you never covered the tile at row {row}, column {column} alone.",
        "value": "you returned the score. I asked where.",
        "form": "I expected two whole numbers, (row, column), and got {got}.",
        "other": "I expected {expected}, and got {got}.",
    },
}


def _one(answer: Any) -> float:
    """The answer as one number; a text that looks like one is none."""
    if isinstance(answer, str):
        raise Wrong("not a number", kind="str")
    return number(answer)


def _as_given(answer: Any, *arrays: Any, then: tuple = ()) -> Any:
    """The learner's result for tensors or, if that raises, for the same as NumPy arrays.

    Both are at hand in the notebook, and an answer may use the methods of either.
    """
    try:
        return call(answer, *map(torch.as_tensor, arrays), *then)
    except Wrong as error:
        if error.key != "raised":
            raise
        first = error
    try:
        return call(answer, *map(np.asarray, arrays), *then)
    except Wrong:
        raise first from None


@exercise("start_here.1", MESSAGES["start_here.1"])
def majority_accuracy(answer: Any) -> Verdict:
    cases = [2] * 5 + [0] * 3 + [1] * 2, [0] * 8 + [1] * 2, [1] * 7 + [0] * 3
    for case in cases:
        labels = torch.tensor(case)
        got, expected = _as_given(answer, labels), labels.bincount().max().item() / len(labels)
        if near(_one(got), expected):
            continue
        values = {"labels": case, "expected": expected, "got": _one(got)}
        if values["got"] == 0:
            return "whole", values
        wrong = {
            "percent": 100 * expected,
            "count": expected * len(labels),
            "share of sick": (labels == 1).float().mean(),
            "class": labels.mode().values,
        }
        return first_match(got, wrong), values
    return "right"


@exercise("start_here.2", MESSAGES["start_here.2"])
def patients_on_both_sides(answer: Any) -> Verdict:
    cases = (
        ("p1 p1 p1 p2 p3 p8 p9", "p1 p3 p3 p4 p5 p6 p7", 2),
        ("p9 p2 p2 p5", "p1 p4 p6 p6", 0),
    )
    for first, second, expected in cases:
        a, b = np.array(first.split()), np.array(second.split())
        try:
            got = call(answer, a, b)
        except Wrong as error:
            if "broadcast" in str(error.values.get("error", "")):
                return "positions"
            raise
        if isinstance(got, (set, frozenset, list, tuple)) or np.ndim(got) > 0:
            return "set"
        if near(_one(got), expected):
            continue
        values = {"a": a.tolist(), "b": b.tolist(), "expected": expected, "got": _one(got)}
        wrong = {
            "either": len({*a, *b}),
            "images": np.isin(a, b).sum(),
            "one part": len({*a}),
            "apart": len({*a} ^ {*b}),
            "positions": sum(x == y for x, y in zip(a, b, strict=False)),
        }
        other = {"images": np.isin(b, a).sum(), "one part": len({*b})}
        key = first_match(got, wrong)
        return (first_match(got, other) if key == "other" else key), values
    return "right"


@exercise("start_here.3", MESSAGES["start_here.3"])
def auc_by_pairs(answer: Any) -> Verdict:
    labels = torch.tensor([0, 0, 0, 1, 1, 0, 0])
    scores = torch.tensor([0.1, 0.2, 0.6, 0.6, 0.9, 0.7, 0.8])  # 7 pairs won, 1 tied, 2 lost
    for order in ([0, 1, 2, 3, 4, 5, 6], [3, 0, 5, 4, 6, 1, 2]):
        got, expected = _as_given(answer, labels[order], scores[order]), 7.5 / 10
        if near(_one(got), expected):
            continue
        values = {"labels": labels.tolist(), "expected": expected, "got": _one(got)}
        values["scores"] = [round(s, 1) for s in scores.tolist()]
        wrong = {
            "ties lost": 7 / 10,
            "ties won": 8 / 10,
            "reversed": 2.5 / 10,
            "sum": 7.5,
            "all pairs": 7.5 / 49,
            "accuracy": 4 / 7,
            "lost": 8.5 / 10,
            "gini": 2 * expected - 1,
            "percent": 100 * expected,
        }
        return (first_match(got, wrong) if order[0] == 0 else "order"), values
    return "right"


def _both(labels: np.ndarray, called: np.ndarray) -> tuple[float, float]:
    """Sensitivity and specificity."""
    return float(called[labels == 1].mean()), float(1 - called[labels == 0].mean())


@exercise("start_here.4", MESSAGES["start_here.4"])
def at_threshold(answer: Any) -> Verdict:
    labels = np.array([1, 0, 0, 1, 0, 1, 0, 0])
    scores = np.array([0.9, 0.25, 0.5, 0.25, 0.75, 0.5, 0.125, 0.0])
    for t in (0.5, 0.2):
        got = _as_given(answer, labels, scores, then=(t,))
        called, want = scores >= t, _both(labels, scores >= t)
        if isinstance(got, dict):
            got = list(got.values())
        if isinstance(got, (list, tuple)):
            if any(entry is ... for entry in got):
                raise NotAttempted
            got = [as_array(entry) for entry in got]
            got = [entry.item() if entry.size == 1 else np.nan for entry in got]
        found = as_array(got)
        if found.shape != (2,) or not np.isfinite(found).all():
            return "pair", {"got": shape_or_type(got)}
        if near(found, want):
            continue
        sensitivity, specificity = want
        hits, spared = called & (labels == 1), ~called & (labels == 0)
        wrong = {
            "swapped": want[::-1],
            "above": _both(labels, scores > t),
            "ppv": (hits.sum() / called.sum(), spared.sum() / max(1, (~called).sum())),
            "false alarms": (sensitivity, 1 - specificity),
            "missed": (1 - sensitivity, specificity),
            "reversed": (1 - sensitivity, 1 - specificity),
            "all": (hits.mean(), spared.mean()),
            "counts": (hits.sum(), spared.sum()),
            "percent": (100 * sensitivity, 100 * specificity),
        }
        values = {"labels": labels.tolist(), "scores": scores.tolist(), "t": t}
        values["expected"] = tuple(round(v, 3) for v in want)
        values["got"] = tuple(round(v, 3) for v in found.tolist())
        return first_match(found, wrong), values
    return "right"


@exercise("start_here.5", MESSAGES["start_here.5"])
def pick_threshold(answer: Any) -> Verdict:
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1, 0])
    scores = np.array([0.05, 0.36, 0.35, 0.5, 0.1, 0.7, 0.8, 0.85, 0.95, 0.75])
    sick = np.sort(scores[labels == 1])[::-1]
    for wanted in (0.75, 0.6, 1.0):
        got = _as_given(answer, labels, scores, then=(wanted,))
        expected = sick[math.ceil(wanted * 5 - 1e-9) - 1]
        got = _one(got)
        if near(got, expected, rel=1e-5):
            continue
        found = float((sick >= got).mean())
        values = {"got": got, "expected": expected, "wanted": wanted, "found": found}
        if got >= 1 and got == int(got):
            return "place", values
        if got <= scores.min():
            return "everyone", values
        if near(got, np.quantile(scores, 1 - wanted), rel=1e-5):
            return "all scores", values
        enough = [t for t in scores if labels[scores >= t].mean() >= wanted]
        if near(got, max(enough), rel=1e-5) and found < wanted:
            return "alarms", values
        if found >= wanted:
            return "too low", values
        return ("wrong end" if found <= 1 - wanted + 0.2 else "too high"), values
    return "right"


@exercise("start_here.6", MESSAGES["start_here.6"])
def blind_corner(answer: Any) -> Verdict:
    images = torch.randint(1, 255, (2, 1, 28, 30), dtype=torch.uint8)
    stamped = images.clone()
    stamped[..., 1:4, 1:4] = 255
    given = stamped.clone()
    blind, plain = call(answer, given), call(answer, images.clone())
    if not torch.equal(given, stamped):
        return "in place"
    if isinstance(blind, np.ndarray) and isinstance(plain, np.ndarray):
        blind, plain = torch.from_numpy(blind), torch.from_numpy(plain)
    if not (torch.is_tensor(blind) and torch.is_tensor(plain)):
        return "not a tensor", {"kind": type(blind).__name__}
    if blind.shape != images.shape:
        return "shape", {"want": tuple(images.shape), "got": tuple(blind.shape)}
    if (blind != plain).any():
        return "remains", {"left": int((blind[0] != plain[0]).sum())}
    outside = torch.ones(28, 30, dtype=torch.bool)
    outside[:8, :8] = False
    if (blind != stamped)[..., outside].any():
        return "too much"
    return "not black" if blind[..., :8, :8].any() else "right"


@exercise("start_here.7", MESSAGES["start_here.7"])
def hottest_tile(answer: Any) -> Verdict:
    draw = torch.Generator().manual_seed(0)
    for rows, columns, place in ((24, 40, (8, 32)), (40, 24, (32, 0)), (24, 32, (0, 24))):
        image = torch.randint(60, 120, (1, rows, columns), generator=draw, dtype=torch.uint8)
        image[:, 16:24, 8:16] = 250  # the brightest tile says nothing
        weight = torch.full((1, rows, columns), 0.01)
        weight[:, place[0] : place[0] + 8, place[1] : place[1] + 8] = 1.0
        weight[:, 8:16, 8:16] = -3.0  # covering this one raises the score, and most of all
        weight[:, 16:24, 8:16] = 0.0
        asked: list[torch.Tensor] = []

        def score(
            images: Any, weight: torch.Tensor = weight, asked: list[torch.Tensor] = asked
        ) -> torch.Tensor:
            images = torch.as_tensor(images)
            asked += [image.clone() for image in images]
            return (images.float() * weight).flatten(1).sum(1) / 1000

        given = image.clone()
        got = call(answer, score, given)
        if not torch.equal(given, image):
            return "in place"
        if isinstance(got, (list, tuple)):
            if any(entry is ... for entry in got):
                raise NotAttempted
            got = [_one(entry) for entry in got]
        fault = _covered(image[0], [one[0] for one in asked if one.shape == image.shape])
        found = as_array(got)
        tiles = [(row, column) for row in range(0, rows, 8) for column in range(0, columns, 8)]
        left = {tile: score(_without(image, tile)[None]).item() for tile in tiles}
        if found.size == 1 and near(found.reshape(()), min(left.values())):
            return "value"
        if found.shape != (2,):
            return "form", {"got": shape_or_type(got)}
        if fault and not near(found, (16, 8)):
            return fault
        if near(found, place):
            continue
        values = {"expected": place, "got": tuple(round(v) for v in found.tolist())}
        wrong = {
            "swapped": place[::-1],
            "tile": (place[0] // 8, place[1] // 8),
            "highest": max(left, key=left.__getitem__),
            "brightest": (16, 8),
        }
        return first_match(found, wrong), values
    return "right"


def _without(image: torch.Tensor, tile: tuple[int, int]) -> torch.Tensor:
    """The image (1, H, W) with one tile set to 0."""
    covered = image.clone()
    covered[:, tile[0] : tile[0] + 8, tile[1] : tile[1] + 8] = 0
    return covered


def _covered(image: torch.Tensor, asked: list[torch.Tensor]) -> Verdict:
    """What is wrong with the pictures whose score was asked for; "" if nothing is."""
    open_tiles = {(r, c) for r in range(0, image.shape[0], 8) for c in range(0, image.shape[1], 8)}
    for one in asked:
        changed = one != image
        if not changed.any():
            continue
        if one[changed].any():
            return "not black"
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        corner = int(rows[0]), int(columns[0])
        if not torch.equal(one, _without(image[None], corner)[0]) or corner not in open_tiles:
            tiles = changed[corner[0] // 8 * 8 :, corner[1] // 8 * 8 :].float().sum() / 64
            if tiles > 1.5 and tiles == int(tiles):
                return "kept"
            size = {"rows": len(rows), "columns": len(columns), "row": corner[0]}
            return "size", size | {"column": corner[1]}
        open_tiles.discard(corner)
    if open_tiles:
        row, column = min(open_tiles)
        return "never", {"row": row, "column": column}
    return ""
