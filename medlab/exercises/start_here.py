"""Checks of start here."""

from __future__ import annotations

import math

import numpy as np
import torch

from medlab.exercises import Wrong, call, exercise, first_match, near, number

MESSAGES = {
    "start_here.1": {
        "right": "with 8 healthy and 2 sick the fool scores 0.8 and has looked at no picture. Hold "
        "every accuracy you read against that number.",
        "share of sick": "you returned the share of class 1. For 8 healthy and 2 sick the fool "
        "answers 'healthy' and is right in 0.8 of cases, not in {got:.2g}.",
        "count": "you returned a count, {got:g}. Divide by the number of images.",
        "percent": "you returned per cent. An accuracy lies between 0 and 1 in this course.",
        "class": "you returned the commonest class. I asked how often answering it is right.",
        "other": "for {labels} I expected {expected:.3g} and got {got}.",
    },
    "start_here.2": {
        "right": "two patients stand on both sides in my example, although several images do.",
        "images": "you counted images: {got}. One patient may have many; count each once.",
        "positions": "you compared the two lists entry by entry. The same patient may stand "
        "anywhere in either list, and the lists may differ in length.",
        "set": "you returned the patients themselves; I asked how many: wrap it in len().",
        "either": "you counted the patients in either part. I asked for those in both.",
        "other": "for a = {a} and b = {b} I expected {expected} and got {got}.",
    },
    "start_here.3": {
        "right": "you have just computed an AUC without a curve.",
        "ties lost": "a tie counted nothing: I expected 5.5 of 6 pairs and got {got:.3f}. "
        "Add one half for every pair with equal scores.",
        "ties won": "a tie counted in full. Equal scores are a coin's toss: add one half.",
        "reversed": "you counted the pairs in which the healthy one scores higher.",
        "sum": "you returned the number of pairs won. Divide by the number of pairs.",
        "all pairs": "you divided by all pairs of images. Only pairs of one sick and one healthy "
        "count: (number of sick) × (number of healthy).",
        "accuracy": "that is the accuracy at a threshold of 0.5. The AUC needs no threshold.",
        "order": "the answer changed to {got} when I shuffled the patients. Do not rely on order.",
        "other": "for labels {labels} and scores {scores} I expected {expected:.4f} and got {got}.",
    },
    "start_here.4": {
        "right": "the highest threshold that still finds them keeps false alarms fewest.",
        "everyone": "at {got:g} you find all the sick, and call every healthy patient sick too. I "
        "asked for the highest threshold that does it.",
        "wrong end": "at {got:g} only the share {found:.2f} of the sick is found. Did you sort "
        "from the wrong end, or take 1 − wanted?",
        "all scores": "you took the quantile of all scores. Sensitivity concerns the sick alone: "
        "select labels == 1 first.",
        "too high": "at {got:g} only {found:.2f} of the sick are found, and {wanted:g} were "
        "wanted. Round the number of sick patients up; do not interpolate.",
        "too low": "at {got:g} enough are found, but {expected:g} is higher and finds enough too. "
        "Do not interpolate; check for an index off by one.",
    },
    "start_here.5": {
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
}


@exercise("start_here.1", MESSAGES["start_here.1"])
def majority_accuracy(answer):
    cases = [0] * 8 + [1] * 2, [1] * 7 + [0] * 3, [2] * 5 + [0] * 3 + [1] * 2
    for labels in map(torch.tensor, cases):
        got, expected = call(answer, labels), labels.bincount().max().item() / len(labels)
        if near(got, expected):
            continue
        values = {"labels": labels.tolist(), "expected": expected, "got": got}
        values["got"] = got = number(got)
        if near(got, 100 * expected):
            return "percent", values
        if near(got, expected * len(labels)):
            return "count", values
        if near(got, (labels == 1).float().mean()):
            return "share of sick", values
        if near(got, labels.mode().values):
            return "class", values
        return "other", values
    return "right"


@exercise("start_here.2", MESSAGES["start_here.2"])
def patients_on_both_sides(answer):
    a = np.array(["p1", "p1", "p1", "p2", "p3"])
    b = np.array(["p1", "p3", "p3", "p4"])
    try:
        got = call(answer, a, b)
    except Wrong as wrong:
        if "broadcast" in str(wrong.values.get("error", "")):
            return "positions"
        raise
    if isinstance(got, (list, tuple, np.ndarray)) and np.ndim(got) != 0:
        return "set"
    if isinstance(got, (set, frozenset)):
        return "set"
    values = {"a": a.tolist(), "b": b.tolist(), "expected": 2, "got": got}
    if near(got, 2):
        again = call(answer, a[:1], b[-1:])
        other = {"a": a[:1].tolist(), "b": b[-1:].tolist(), "expected": 0, "got": again}
        return "right" if near(again, 0) else ("other", other)
    if near(got, 4) and near(call(answer, a[:1], b[-1:]), 2):
        return "either"
    if near(got, 3) or near(got, 4):
        return "images", values
    return ("positions" if near(got, 1) or near(got, 0) else "other"), values


@exercise("start_here.3", MESSAGES["start_here.3"])
def auc_by_pairs(answer):
    labels = torch.tensor([0, 0, 0, 1, 1])
    scores = torch.tensor([0.1, 0.2, 0.6, 0.6, 0.9])
    got, expected = call(answer, labels, scores), 5.5 / 6
    values = {"labels": labels.tolist(), "expected": expected, "got": got}
    values["scores"] = [round(s, 1) for s in scores.tolist()]
    if near(got, expected):
        reordered = torch.tensor([3, 0, 4, 1, 2])
        again = call(answer, labels[reordered], scores[reordered])
        return "right" if near(again, expected) else ("order", {"got": again})
    values["got"] = got = number(got)
    wrong = {
        "ties lost": 5 / 6,
        "ties won": 1.0,
        "reversed": 0.5 / 6,
        "sum": 5.5,
        "all pairs": 5.5 / 25,
        "accuracy": 0.8,
    }
    return first_match(got, wrong), values


@exercise("start_here.4", MESSAGES["start_here.4"])
def pick_threshold(answer):
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1])
    scores = np.array([0.05, 0.36, 0.35, 0.5, 0.1, 0.7, 0.8, 0.6, 0.95])
    sick = np.sort(scores[labels == 1])[::-1]
    for wanted in (0.75, 0.6, 1.0):
        got, expected = call(answer, labels, scores, wanted), sick[math.ceil(wanted * 5 - 1e-9) - 1]
        if near(got, expected):
            continue
        got = number(got)
        found = float((sick >= got).mean())
        values = {"got": got, "expected": expected, "wanted": wanted, "found": found}
        if got <= scores.min():
            return "everyone", values
        if near(got, np.quantile(scores, 1 - wanted)):
            return "all scores", values
        if found >= wanted:
            return "too low", values
        return ("wrong end" if found <= 1 - wanted + 0.2 else "too high"), values
    return "right"


@exercise("start_here.5", MESSAGES["start_here.5"])
def blind_corner(answer):
    images = torch.randint(1, 255, (2, 1, 28, 28), dtype=torch.uint8)
    stamped = images.clone()
    stamped[..., 1:4, 1:4] = 255
    given = stamped.clone()
    blind, plain = call(answer, given), call(answer, images.clone())
    if not torch.is_tensor(blind):
        return "not a tensor", {"kind": type(blind).__name__}
    if not torch.equal(given, stamped):
        return "in place"
    if blind.shape != images.shape:
        return "shape", {"want": tuple(images.shape), "got": tuple(blind.shape)}
    if (blind != plain).any():
        return "remains", {"left": int((blind[0] != plain[0]).sum())}
    outside = torch.ones(28, 28, dtype=torch.bool)
    outside[:8, :8] = False
    if (blind != stamped)[..., outside].any():
        return "too much"
    return "not black" if blind[..., :8, :8].any() else "right"
