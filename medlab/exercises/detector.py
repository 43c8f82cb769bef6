"""Exercises of notebook 19: overlap, suppression, boxes from a heat map, focal loss, a count."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near, number
from medlab.models import box_iou, nms

MESSAGES = {
    "detector.1": {
        "right": "boxes apart share nothing, and what both cover counts once in the union.",
        "apart": "the boxes {a} and {b} lie apart, and you get {got:.4g}. Where they are apart "
        "along both axes, width and height of the overlap are negative and their product is not: "
        "cut each off at 0.",
        "negative": "the boxes {a} and {b} lie apart along one axis, and you get {got:.4g}. The "
        "overlap has a negative side there: cut each off at 0.",
        "twice": "of {a} and {b}, which overlap, what they share is right, and the union counts it "
        "twice: it lies in both areas, so subtract it once.",
        "no union": "you return the area of the overlap alone. Divide it by that of the union.",
        "dice": "you return 2 |A ∩ B| / (|A| + |B|), the Dice overlap: another figure, never the "
        "smaller of the two. Here the union is the divisor.",
        "one area": "you divided by the area of one of the boxes. The union belongs to both, so "
        "that iou(a, b) = iou(b, a).",
        "minus": "the union is the sum of the areas *minus* what they share; yours is something "
        "else.",
        "inclusive": "you counted x1 − x0 + 1 pixels. x1 and y1 are exclusive here: a box from 3 "
        "to 5 is 2 wide.",
        "one fault": "of two boxes that overlap your answer is right, of {a} and {b} it is "
        "{got:.4g} and should be {expected:.4g}.",
        "other": "of {a} and {b} I expected {expected:.4g}, and got {got:.4g}.",
    },
    "detector.2": {
        "right": "the best stays, what is too much like it goes, and what has gone removes nobody.",
        "format": "I expected the positions of the boxes that stay, best first, such as [2, 0]; "
        "got {got}.",
        "order": "these are the boxes that stay; put the one with the best score first.",
        "places": "these are places in the order of the scores. Return positions in `boxes`: for "
        "place k of the order, order[k].",
        "chain": "you let a box that has gone remove others. Of a chain of boxes that overlap one "
        "after the other, the third stays if only the second was too near to it.",
        "neighbour": "you compared each box with the one kept last. Compare it with all that stay.",
        "worst": "you began with the lowest score. The best one decides.",
        "unsorted": "you went through the boxes in the order in which they come. Sort by score "
        "first.",
        "mirrored": "you kept what overlaps with a better box and removed the rest.",
        "strict": "boxes whose IoU *is* the limit stay: only what is above it goes.",
        "all": "you kept all boxes.",
        "one": "you kept only the best box. Far from it there are others, with boxes of their own.",
        "lost": "with no boxes at all I expected an empty list, and got {got}.",
        "other": "of {count} boxes I expected {expected} to stay at a limit of {limit:g}, and got "
        "{got}.",
    },
    "detector.3": {
        "right": "a peak, a place within its cell, a size: that is all that a detector says.",
        "format": "I expected a list of [score, x0, y0, x1, y1]; got {got}.",
        "no peaks": "you return every cell above the threshold, {count} of them. Of neighbours "
        "only the highest is a detection: compare each cell with the 3×3 around it.",
        "border": "a peak at the border of the map is missing. The window around it is cut there: "
        "from max(row − 1, 0), since a slice that starts at −1 is empty.",
        "low": "you return peaks at or below the threshold too.",
        "cross": "a cell counts as a peak although a diagonal neighbour is higher: compare with "
        "all eight.",
        "count": "I expected {want} detections, and got {count}.",
        "exchanged": "x and y are exchanged. Columns count x, rows count y; dx, log w belong to x.",
        "cells": "your boxes are in cells. A cell covers 2 pixels: double the centre.",
        "corner": "your boxes lie a pixel too far up and left: the offset counts from the middle "
        "of the cell, (column + ½, row + ½).",
        "no offset": "every centre is the middle of its cell: add dx and dy, in cells.",
        "offset in pixels": "you added dx and dy after doubling. They are in cells: add first.",
        "no exp": "width and height come as logarithms: take exp.",
        "corner for centre": "your boxes start at the centre. It lies in their middle: from "
        "x − w/2 to x + w/2.",
        "whole for half": "your boxes are twice as wide and high as they should be: exp gives the "
        "whole side, in pixels, and the box goes from x − w/2 to x + w/2.",
        "score": "places and sizes are right; the first number should be the height of the peak.",
        "other": "of the cell at row {row}, column {column} I expected {expected}, and got {got}.",
    },
    "detector.4": {
        "right": "what is right already hardly counts, so the few cells with a centre are heard.",
        "shape": "I expected one number; got {got}.",
        "plain": "that is the cross-entropy, divided well. The factor (1 − p_t)^γ is missing.",
        "mean": "you took the mean over cells. Divide the sum by the number of centres, or an "
        "image of many empty cells has hardly any loss.",
        "sum": "divide the sum by the number of centres.",
        "only positives": "only the cells with a centre are in your loss. Background that is warm "
        "has to cost something too.",
        "p": "your factor is (1 − p)^γ for all cells. Of the background, p_t is 1 − p, and the "
        "factor p^γ.",
        "inverted": "your factor is p_t^γ: it keeps what is right already and silences what is "
        "wrong. It should be (1 − p_t)^γ.",
        "sign": "your loss is negative, so going down makes it worse: −log p_t.",
        "no gamma": "γ does not reach your loss: I tried two, and it did not change.",
        "empty": "of a batch without any centre I expected the sum itself ({expected:.4g}), as if "
        "there were one; got {got:.4g}.",
        "swapped": "your p_t is 1 − p at a centre. It is what the network gives to the truth.",
        "all centres": "you took p for p_t in every cell: of background it is 1 − p.",
        "no sigmoid": "your loss is nan. A logit is no probability yet, and of some the logarithm "
        "does not exist: p = sigmoid(logit).",
        "squared": "you squared the number of centres, or divided by it twice.",
        "other": "for logits {logits}, target {target} and γ = {gamma:g} I expected "
        "{expected:.4g}, and got {got:.4g}.",
    },
    "detector.5": {
        "right": "one lesion is one hit, however many boxes lie on it.",
        "format": "I expected three whole numbers, hits, misses and false alarms; got {got}.",
        "order": "the three numbers are right and come in another order: hits, misses, false "
        "alarms.",
        "boxes": "you counted the boxes that hit. Two of them lie on one lesion, which was found "
        "once: count lesions.",
        "pairs": "you counted every pair that hits. Two boxes on one lesion are one hit: count "
        "lesions.",
        "second": "a second box on a lesion that was found is no false alarm by this rule: it "
        "hits, and adds nothing.",
        "axes": "rows are boxes, columns are lesions. You took them the other way round.",
        "skipped": "you left out slices without a box, or without a lesion. In the former every "
        "lesion is missed, in the latter every box is a false alarm.",
        "last": "you returned the numbers of one image: add up over all.",
        "misses": "hits and false alarms are right, and the misses are not: lesions that no box "
        "hits.",
        "other": "I expected {want}, and got {got}: hits, misses, false alarms.",
    },
}


# --- 1: overlap ---

_PAIRS: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((-3, 2, 4, 5), (-1, 0, 1, 9)),
    ((0, 0, 6, 4), (2, 1, 9, 6)),
    ((0, 0, 8, 8), (2, 3, 4, 7)),
    ((1.5, 0, 3.25, 2), (1.5, 0, 3.25, 2)),
    ((0, 0, 0.5, 0.75), (0.25, 0.25, 1, 0.875)),
    ((0, 0, 4, 4), (4, 0, 8, 4)),
    ((0, 0, 4, 4), (6, 1, 9, 3)),
    ((0, 5, 4, 9), (1, 0, 3, 4)),
    ((0, 0, 4, 4), (7, 6, 9, 11)),
    ((5, 7, 9, 9), (0, 0, 3, 2)),
)


@exercise("detector.1", MESSAGES["detector.1"])
def overlap(answer) -> Verdict:
    wrong: list[tuple[Any, ...]] = []
    for a, b in _PAIRS:
        expected = box_iou(torch.tensor([a]).double(), torch.tensor([b]).double()).item()
        got = number(call(answer, a, b))
        if not math.isclose(got, expected, rel_tol=1e-4, abs_tol=1e-6):
            wrong.append((a, b, got, expected))
    if not wrong:
        return "right"
    a, b, got, expected = wrong[0]
    told = {"a": a, "b": b, "got": got, "expected": expected}
    if expected == 0:
        sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
        both = all(side < 0 for side in sides)
        return "apart" if both else "negative" if got < 0 else "one fault", told
    (w, h), (v, g) = ((x[2] - x[0], x[3] - x[1]) for x in (a, b))
    shared = expected * (w * h + v * g) / (1 + expected)
    more = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in (0, 1)]
    grown = (w + 1) * (h + 1) + (v + 1) * (g + 1)
    known = {
        "twice": shared / (w * h + v * g),
        "no union": shared,
        "dice": 2 * shared / (w * h + v * g),
        "minus": shared / (w * h + v * g + shared),
        "inclusive": more[0] * more[1] / (grown - more[0] * more[1]),
    }
    for key, value in known.items():
        if math.isclose(got, value, rel_tol=1e-4):
            return key, told
    if any(math.isclose(got, shared / area, rel_tol=1e-4) for area in (w * h, v * g)):
        return "one area", told
    return "other", told


# --- 2: suppression ---


def _crowd(seed: int) -> tuple[Tensor, Tensor]:
    """Boxes in groups, scores unsorted."""
    rng = torch.Generator().manual_seed(seed)
    corner = 30 * torch.rand(4, 2, generator=rng).repeat_interleave(4, 0)
    corner = corner + 4 * torch.rand(16, 2, generator=rng)
    boxes = torch.cat([corner, corner + 6 + 6 * torch.rand(16, 2, generator=rng)], 1)
    return boxes, torch.randperm(16, generator=rng).float().add(1) / 20


_CHAIN = torch.tensor([[8.0, 0, 18, 10], [0, 0, 10, 10], [4, 0, 14, 10], [40, 0, 44, 4]])
_HALF = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4], [20, 20, 30, 30]])
_CROWDS: tuple[tuple[Tensor, Tensor, float], ...] = (
    (*_crowd(0), 0.3),
    (_CHAIN, torch.tensor([0.5, 0.9, 0.7, 0.6]), 0.3),
    (_HALF, torch.tensor([0.6, 0.8, 0.3, 0.4]), 0.5),
    (*_crowd(1), 0.1),
    (*_crowd(2), 0.6),
)


def _greedy(boxes: Tensor, scores: Tensor, limit: float, how: str) -> list[int]:
    """Suppression with a mistake."""
    order = scores.argsort(descending=how != "worst").tolist()
    order = list(range(len(order))) if how == "unsorted" else order
    above = box_iou(boxes, boxes) > limit
    if how == "strict":
        above = box_iou(boxes, boxes) >= limit
    kept: list[int] = []
    for place, k in enumerate(order):
        before = order[:place] if how == "chain" else kept[-1:] if how == "neighbour" else kept
        gone = any(bool(above[k, other]) for other in before)
        if gone == (how == "mirrored" and bool(before)):
            kept.append(k)
    return kept


@exercise("detector.2", MESSAGES["detector.2"])
def suppression(answer) -> Verdict:
    for boxes, scores, limit in _CROWDS:
        got = call(answer, boxes.clone(), scores.clone(), limit)
        try:
            kept = [int(k) for k in got]
            sound = all(float(k) == int(k) for k in got) and set(kept) <= set(range(len(boxes)))
        except (TypeError, ValueError, RuntimeError):
            sound = False
        if not sound or (isinstance(got, Tensor) and got.dtype == torch.bool):
            return "format", {"got": str(got)[:60]}
        want = nms(boxes, scores, limit).tolist()
        if kept == want:
            continue
        if sorted(kept) == sorted(want):
            return "order"
        order = scores.argsort(descending=True).tolist()
        if sorted(order[k] for k in kept) == sorted(want):
            return "places"
        if len(kept) == len(boxes):
            return "all"
        if kept == want[:1]:
            return "one"
        for how in ("strict", "chain", "neighbour", "worst", "unsorted", "mirrored"):
            if sorted(kept) == sorted(_greedy(boxes, scores, limit, how)):
                return how
        return "other", {"count": len(boxes), "expected": want, "limit": limit, "got": kept}
    try:
        got = call(answer, torch.zeros(0, 4), torch.zeros(0), 0.5)
    except Wrong as wrong:
        return "lost", {"got": f"an error: {wrong.__cause__}"[:60]}
    return "right" if len(got) == 0 else ("lost", {"got": str(got)[:60]})


# --- 3: from the map to boxes ---


def _map(seed: int, size: tuple[int, int]) -> Tensor:
    """Outputs (5, h, w) of unequal sides with peaks inside, at an edge and in a corner."""
    rng = torch.Generator().manual_seed(seed)
    h, w = size
    outputs = torch.rand(5, h, w, generator=rng)
    outputs[1:3] = outputs[1:3] * 0.8 - 0.4
    outputs[3:] = 1 + outputs[3:]
    if seed:  # peaks two cells apart, and slopes of every direction
        return outputs
    outputs[0] *= 0.2
    for row, column, height in (
        (0, 0, 0.9), (3, 2, 0.7), (4, 3, 0.75), (h - 1, w - 2, 0.6),
        (3, w - 1, 0.5), (h - 2, 1, 0.35), (0, 4, 0.55), (0, 5, 0.52),
    ):  # fmt: skip
        outputs[0, row, column] = height
    return outputs


def _read(outputs: Tensor, cells: list[tuple[int, int]], how: str = "") -> np.ndarray:
    """Rows [score, x0, y0, x1, y1] of cells; `how` names a mistake."""
    rows = []
    for row, column in cells:
        score, dx, dy, log_w, log_h = outputs[:, row, column].double().tolist()
        x, y = column + 0.5 + dx, row + 0.5 + dy
        if how == "corner":
            x, y = x - 0.5, y - 0.5
        if how == "no offset":
            x, y = column + 0.5, row + 0.5
        w, h = (log_w, log_h) if how == "no exp" else (math.exp(log_w), math.exp(log_h))
        x, y = (x, y) if how == "cells" else (2 * x, 2 * y)
        if how == "offset in pixels":
            x, y = 2 * (column + 0.5) + dx, 2 * (row + 0.5) + dy
        if how == "exchanged":
            x, y, w, h = y, x, h, w
        left, right = {"corner for centre": (0, 1), "whole for half": (1, 1)}.get(how, (0.5, 0.5))
        rows.append([score, x - left * w, y - left * h, x + right * w, y + right * h])
    return np.array(rows).reshape(-1, 5)


def _peaks(heat: Tensor, threshold: float) -> list[tuple[int, int]]:
    highest = F.max_pool2d(heat[None], 3, stride=1, padding=1)[0]
    return [(int(r), int(c)) for r, c in ((heat == highest) & (heat > threshold)).nonzero()]


@exercise("detector.3", MESSAGES["detector.3"])
def boxes_of_a_map(answer) -> Verdict:
    for seed, size, threshold in ((0, (9, 7), 0.5), (1, (12, 17), 0.55), (2, (9, 8), 0.9)):
        outputs = _map(seed, size)
        heat = outputs[0]
        cells = _peaks(heat, threshold)
        try:
            got = call(answer, outputs.clone(), threshold)
        except Wrong as wrong:  # the highest of nothing
            if "numel() == 0" in str(wrong.__cause__) or "zero-size" in str(wrong.__cause__):
                return "border"
            raise
        if isinstance(got, list) and any(row is ... for row in got):
            raise NotAttempted
        try:
            rows = np.array([[float(v) for v in row] for row in got], dtype=float)
        except (TypeError, ValueError):
            return "format", {"got": type(got).__name__}
        if len(rows) and rows.shape[1:] != (5,):
            return "format", {"got": f"rows of {rows.shape[1:]}"}
        rows = rows.reshape(-1, 5)
        rows = rows[np.lexsort(rows.T[::-1])][::-1]
        want = _read(outputs, sorted(cells, key=lambda cell: -heat[cell].item()))
        if len(rows) != len(want):
            above = int((heat > threshold).sum())
            scores = {round(v, 5) for v in rows[:, 0]}
            at = {round(heat[cell].item(), 5): cell for cell in product(*map(range, size))}
            extra = [at[s] for s in scores - {round(v, 5) for v in want[:, 0]} if s in at]
            lost = [at[s] for s in {round(v, 5) for v in want[:, 0]} - scores if s in at]
            if extra and len(rows) == above > len(want):
                return "no peaks", {"count": above}
            if any(heat[cell] <= threshold for cell in extra):
                return "low"
            if extra:
                return "cross"
            if lost and all(0 in cell for cell in lost):
                return "border"
            return "count", {"want": len(want), "count": len(rows)}
        if near(rows, want, rel=1e-4, absolute=1e-4):
            continue
        places = [part[:, 1:][np.lexsort(part[:, 1:].T)] for part in (rows, want)]
        if near(*places, rel=1e-4, absolute=1e-4):
            return "score"
        order = sorted(cells, key=lambda cell: -heat[cell].item())
        for how in (
            "exchanged", "cells", "corner", "no offset", "offset in pixels",
            "no exp", "corner for centre", "whole for half",
        ):  # fmt: skip
            if near(rows, _read(outputs, order, how), rel=1e-4, absolute=1e-4):
                return how
        k = int(np.argwhere(~np.isclose(rows, want, rtol=1e-4, atol=1e-4))[0][0])
        row, column = order[k]
        return "other", {
            "row": row,
            "column": column,
            "expected": want[k].round(2).tolist(),
            "got": rows[k].round(2).tolist(),
        }
    return "right"


# --- 4: focal loss ---


def _focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """The loss of each cell."""
    p = logits.double().sigmoid()
    p_t = torch.where(target == 1, p, 1 - p)
    return -((1 - p_t) ** gamma) * p_t.log()


@exercise("detector.4", MESSAGES["detector.4"])
def focal_loss(answer) -> Verdict:
    answers = []
    for seed, size, centres, gamma in ((0, 3, 1, 2.0), (1, 12, 3, 2.0), (2, 30, 4, 0.5)):
        rng = torch.Generator().manual_seed(seed)
        logits = torch.randn(size, generator=rng) * 2
        target = torch.zeros(size)
        target[torch.randperm(size, generator=rng)[:centres]] = 1
        if size == 30:
            logits, target = logits.view(2, 3, 5), target.view(2, 3, 5)
        each = _focal(logits, target, gamma)
        got = call(answer, logits.clone(), target.clone(), gamma)
        shape = tuple(np.shape(got.detach() if torch.is_tensor(got) else got))
        if math.prod(shape) != 1:
            return "shape", {"got": f"shape {shape}"}
        value, expected = number(got), each.sum().item() / centres
        answers.append(value)
        if math.isclose(value, expected, rel_tol=1e-3):
            continue
        if math.isnan(value):
            return "no sigmoid"
        p = logits.double().sigmoid()
        plain = _focal(logits, target, 0)
        p_t = torch.where(target == 1, p, 1 - p)
        known = {
            "sign": -expected,
            "plain": plain.sum().item() / centres,
            "mean": each.mean().item(),
            "sum": each.sum().item(),
            "squared": each.sum().item() / centres**2,
            "only positives": (each * target).sum().item() / centres,
            "p": ((1 - p) ** gamma * plain).sum().item() / centres,
            "inverted": (p_t**gamma * plain).sum().item() / centres,
            "swapped": -(p_t**gamma * (1 - p_t).log()).sum().item() / centres,
            "all centres": -((1 - p) ** gamma * p.log()).sum().item() / centres,
        }
        for key, wrong in known.items():
            if math.isclose(value, wrong, rel_tol=1e-3):
                return key
        if gamma != 2 and math.isclose(
            value, _focal(logits, target, 2).sum().item() / centres, rel_tol=1e-3
        ):
            return "no gamma"
        told = [round(v, 3) for v in logits.flatten().tolist()[:6]]
        shown = target.flatten().int().tolist()[:6]
        return "other", {
            "logits": told, "target": shown, "gamma": gamma, "expected": expected, "got": value,
        }  # fmt: skip
    logits = torch.tensor([[-1.0, 0.5], [-3.0, 1.5]])
    expected = _focal(logits, torch.zeros(2, 2), 2).sum().item()
    got = number(call(answer, logits, torch.zeros(2, 2), 2.0))
    if math.isclose(got, expected, rel_tol=1e-3):
        return "right"
    return "empty", {"expected": expected, "got": got}


# --- 5: hits at one operating point ---


def _tables() -> list[Tensor]:
    """A row for each box and a column for each lesion of one slice, each case in one of them."""
    rng = torch.Generator().manual_seed(0)
    sizes = (6, 3), (2, 0), (0, 3), (6, 4), (0, 0), (1, 2)
    tables = [torch.rand(size, generator=rng) < 0.3 for size in sizes]
    tables[0][:2] = torch.tensor([[True, False, False]])  # two boxes on one lesion
    tables[3][1] = torch.tensor([True, True, False, False])  # one box on two lesions
    return tables


def _counts(tables: list[Tensor]) -> tuple[int, ...]:
    hits = sum(int(table.any(0).sum()) for table in tables)
    alarms = sum(int((~table.any(1)).sum()) for table in tables)
    return hits, sum(table.shape[1] for table in tables) - hits, alarms


@exercise("detector.5", MESSAGES["detector.5"])
def hits_and_misses(answer) -> Verdict:
    every = _tables()
    for tables in (every, every[::-1], every[3:], every[1:2], every[2:3]):
        got = call(answer, [table.clone() for table in tables])
        try:
            numbers = tuple(float(v) for v in got)
        except (TypeError, ValueError):
            numbers = ()
        if len(numbers) != 3 or any(v != int(v) for v in numbers):
            return "format", {"got": str(got)[:60]}
        want = _counts(tables)
        if numbers == want:
            continue
        on = sum(int(table.any(1).sum()) for table in tables)
        lesions, boxes = (sum(table.shape[k] for table in tables) for k in (1, 0))
        known: dict[str, list] = {
            "boxes": [(on, m, want[2]) for m in (want[1], lesions - on)],
            "pairs": [(sum(int(table.sum()) for table in tables), *want[1:])],
            "second": [(want[0], want[1], boxes - want[0]), (on, want[1], boxes - want[0])],
            "axes": [_counts([table.T for table in tables])],
            "last": [_counts(tables[-1:])],
            "skipped": [
                _counts([table for table in tables if all(table.shape[k] for k in axes)])
                for axes in ((0,), (1,), (0, 1))
            ],
        }
        for key, values in known.items():
            if numbers in values:
                return key
        if sorted(numbers) == sorted(want):
            return "order"
        told = {"want": want, "got": tuple(int(v) for v in numbers)}
        return ("misses" if (numbers[0], numbers[2]) == (want[0], want[2]) else "other"), told
    return "right"
