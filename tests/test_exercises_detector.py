"""The detector's checks, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlab.exercises import check
from medlab.exercises.detector import MESSAGES
from medlab.models import box_iou, nms
from tests.learners import is_told, is_told_what_is_no_answer
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: overlap


def sides(a, b, cut=True, more=0):
    w, h = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + more for k in (0, 1))
    return (max(0, w), max(0, h)) if cut else (w, h)


def area(box, more=0):
    return (box[2] - box[0] + more) * (box[3] - box[1] + more)


def iou(a, b, cut=True, more=0):
    w, h = sides(a, b, cut, more)
    return w * h / (area(a, more) + area(b, more) - w * h)


def shared(a, b):
    return math.prod(sides(a, b))


def by_library(a, b):
    return box_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))


def cut_along_x_only(a, b):
    w, h = sides(a, b, cut=False)
    return max(0, w) * h / (area(a) + area(b) - max(0, w) * h)


# ------------------------------------------------------------------------ 2: suppression


def suppress(boxes, scores, limit, how=""):
    order = scores.argsort(descending=how != "worst").tolist()
    if how == "unsorted":
        order = list(range(len(order)))
    overlap, kept = box_iou(boxes, boxes), []
    for place, k in enumerate(order):
        others = {"chain": order[:place], "neighbour": kept[-1:]}.get(how, kept)
        above = [
            overlap[k, o].item() >= limit if how == "strict" else overlap[k, o].item() > limit
            for o in others
        ]
        if how == "mirrored":
            if not kept or any(above):
                kept.append(k)
        elif not any(above):
            kept.append(k)
    return kept


def in_sorted_boxes(boxes, scores, limit):
    order = scores.argsort(descending=True)
    return suppress(boxes[order], scores[order], limit)


def with_tensor_positions(boxes, scores, limit):
    left, kept = scores.argsort(descending=True), []
    while len(left):
        i, left = left[0], left[1:]
        kept.append(i)
        left = left[[bool(box_iou(boxes[i][None], boxes[k][None]) <= limit) for k in left]]
    return kept


def best_only(boxes, scores, limit):
    return [int(scores.argmax())] if len(scores) else []


def fails_without_boxes(boxes, scores, limit):
    scores.max()
    return suppress(boxes, scores, limit)


def without_empty(boxes, scores, limit):
    return suppress(boxes, scores, limit) if len(boxes) else [0]


# ------------------------------------------------------------------------ 3: from the map


def boxes_of(outputs, threshold, how=""):
    heat, dx, dy, log_w, log_h = outputs
    found = []
    for r, c in np.ndindex(*heat.shape):
        first = (r - 1, c - 1) if how in ("border", "raises") else (max(r - 1, 0), max(c - 1, 0))
        around = heat[first[0] : r + 2, first[1] : c + 2]
        if how == "cross":
            around = torch.cat([heat[first[0] : r + 2, c], heat[r, first[1] : c + 2]])
        highest = around.max() if around.numel() or how == "raises" else heat.max() + 1
        if how == "no peaks":
            highest = heat[r, c]
        limit = 0.3 * threshold if how == "low" else threshold
        if not (heat[r, c] > limit and heat[r, c] >= highest):
            continue
        x, y = c + 0.5 + dx[r, c], r + 0.5 + dy[r, c]
        if how == "corner":
            x, y = c + dx[r, c], r + dy[r, c]
        if how == "no offset":
            x, y = torch.tensor(c + 0.5), torch.tensor(r + 0.5)
        w, h = log_w[r, c].exp(), log_h[r, c].exp()
        if how == "no exp":
            w, h = log_w[r, c], log_h[r, c]
        if how != "cells":
            x, y = 2 * x, 2 * y
        if how == "offset in pixels":
            x, y = 2 * (c + 0.5) + dx[r, c], 2 * (r + 0.5) + dy[r, c]
        if how == "exchanged":
            x, y, w, h = y, x, h, w
        a, b = {"corner for centre": (0, 1), "whole for half": (1, 1)}.get(how, (0.5, 0.5))
        score = 1.0 if how == "score" else heat[r, c]
        found.append([score, x - a * w, y - a * h, x + b * w, y + b * h])
    return found[:-1] if how == "count" else found


def boxes_by_pooling(outputs, threshold):
    heat = outputs[0]
    peak = (F.max_pool2d(heat[None], 3, 1, 1)[0] == heat) & (heat > threshold)
    rows, columns = peak.nonzero(as_tuple=True)
    p, dx, dy, w, h = outputs[:, rows, columns]
    x, y, w, h = 2 * (columns + 0.5 + dx), 2 * (rows + 0.5 + dy), w.exp(), h.exp()
    return torch.stack([p, x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)


# ------------------------------------------------------------------------ 4: focal loss


def focal_loss(logits, target, gamma, how=""):
    p = logits.sigmoid()
    p_t = torch.where(target == 1, p, 1 - p)
    factor = {"plain": p_t**0, "inverted": p_t**gamma, "p": (1 - p) ** gamma}
    factor |= {"no gamma": (1 - p_t) ** 2}
    each = -factor.get(how, (1 - p_t) ** gamma) * p_t.log()
    if how == "only positives":
        each = each * target
    n = target.sum().clamp_min(1)
    divisors = {"mean": target.numel(), "sum": 1, "squared": n**2, "sign": -n}
    return each.sum() / divisors.get(how, n)


def of_library(logits, target, gamma):
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - (-bce).exp()) ** gamma * bce).sum().item() / max(1, int(target.sum()))


def undefined_if_empty(logits, target, gamma):
    return focal_loss(logits, target, gamma) * (1 if target.any() else 2)


# ------------------------------------------------------------------------ 5: a count


def count(tables):
    hits = [table.any(0) for table in tables]
    alarms = sum(int((~table.any(1)).sum()) for table in tables)
    return int(torch.cat(hits).sum()), int((~torch.cat(hits)).sum()), alarms


def count_in_loops(tables):
    hits = misses = alarms = 0
    for table in tables:
        rows, columns = table.shape
        for k in range(columns):
            seen = any(table[i, k] for i in range(rows))
            hits, misses = hits + seen, misses + (not seen)
        alarms += sum(not any(row) for row in table)
    return hits, misses, alarms


def counting_boxes(tables):
    _, misses, alarms = count(tables)
    return sum(int(t.any(1).sum()) for t in tables), misses, alarms


def counting_pairs(tables):
    _, misses, alarms = count(tables)
    return sum(int(t.sum()) for t in tables), misses, alarms


def second_is_false(tables):
    hits, misses, _ = count(tables)
    return hits, misses, sum(map(len, tables)) - hits


def count_some(tables, kept):
    return count([table for table in tables if kept(table)] or [torch.zeros(0, 0).bool()])


def all_missed(tables):
    hits, _, alarms = count(tables)
    return hits, sum(t.shape[1] for t in tables), alarms


CASES = [
    ("detector.1", iou, "✓"),
    ("detector.1", by_library, "✓"),
    ("detector.1", lambda a, b: np.float32(iou(a, b)), "✓"),
    ("detector.1", lambda a, b: iou(a, b, cut=False), "you get -"),
    ("detector.1", lambda a, b: max(0, iou(a, b, cut=False)), "apart along both axes, width"),
    ("detector.1", cut_along_x_only, "negative side there"),
    ("detector.1", lambda a, b: shared(a, b) / (area(a) + area(b)), "counts it twice: it"),
    ("detector.1", shared, "Divide it by that of the union"),
    ("detector.1", lambda a, b: 2 * shared(a, b) / (area(a) + area(b)), "the Dice overlap"),
    ("detector.1", lambda a, b: shared(a, b) / area(a), "area of one of the boxes"),
    ("detector.1", lambda a, b: shared(a, b) / area(b), "area of one of the boxes"),
    (
        "detector.1",
        lambda a, b: shared(a, b) / (area(a) + area(b) + shared(a, b)),
        "sum of the areas *minus*",
    ),
    (
        "detector.1",
        lambda a, b: shared(a, b) / max(1, area(a) + area(b) - 2 * shared(a, b)),
        "I expected 0.1818",
    ),
    ("detector.1", lambda a, b: iou(a, b, more=1), "counted x1 − x0 + 1 pixels"),
    ("detector.1", lambda a, b: max(iou(a, b), 0.01), "of two boxes that overlap your answer is"),
    ("detector.1", lambda a, b: iou(a, b) / 3, "I expected 0.1818, and got 0.06061"),
    ("detector.1", lambda a, b: "much", "expected a number"),
    ("detector.2", suppress, "✓"),
    ("detector.2", nms, "✓"),
    ("detector.2", lambda *t: np.array(suppress(*t)), "✓"),
    ("detector.2", lambda *t: tuple(suppress(*t)), "✓"),
    ("detector.2", lambda *t: t[0][nms(*t)], "I expected the positions"),
    ("detector.2", lambda b, s, limit: torch.ones(len(b), dtype=torch.bool), "the positions"),
    ("detector.2", lambda *t: sorted(suppress(*t)), "put the one with the best score first"),
    ("detector.2", lambda *t: suppress(*t)[::-1], "put the one with the best score first"),
    ("detector.2", in_sorted_boxes, "places in the order of the scores"),
    ("detector.2", with_tensor_positions, "✓"),
    ("detector.2", lambda *t: suppress(*t, "chain"), "a box that has gone remove others"),
    ("detector.2", lambda *t: suppress(*t, "neighbour"), "the one kept last"),
    ("detector.2", lambda *t: suppress(*t, "worst"), "began with the lowest"),
    ("detector.2", lambda *t: suppress(*t, "unsorted"), "in the order in which they come"),
    ("detector.2", lambda *t: suppress(*t, "mirrored"), "removed the rest"),
    ("detector.2", lambda *t: suppress(*t, "strict"), "*is* the limit stay"),
    ("detector.2", lambda b, s, limit: list(range(len(b))), "you kept all boxes"),
    ("detector.2", best_only, "only the best box"),
    ("detector.2", without_empty, "I expected an empty list, and got [0]"),
    ("detector.2", fails_without_boxes, "I expected an empty list, and got an error"),
    ("detector.2", lambda *t: suppress(*t)[1:], "to stay at a limit of 0.3"),
    ("detector.2", lambda *t: 7, "I expected the positions"),
    ("detector.2", lambda *t: [99], "I expected the positions"),
    ("detector.3", boxes_of, "✓"),
    ("detector.3", boxes_by_pooling, "✓"),
    ("detector.3", lambda *t: boxes_of(*t)[::-1], "✓"),
    ("detector.3", lambda *t: [tuple(map(float, row)) for row in boxes_of(*t)], "✓"),
    ("detector.3", lambda *t: 3, "I expected a list of [score"),
    ("detector.3", lambda *t: [row[1:] for row in boxes_of(*t)], "I expected a list of [score"),
    ("detector.3", lambda *t: boxes_of(*t, "no peaks"), "every cell above the threshold"),
    ("detector.3", lambda *t: boxes_of(*t, "border"), "at the border of the map is missing"),
    ("detector.3", lambda *t: boxes_of(*t, "raises"), "at the border of the map is missing"),
    ("detector.3", lambda *t: boxes_of(*t, "low"), "at or below the threshold too"),
    ("detector.3", lambda *t: boxes_of(*t, "cross"), "although a diagonal neighbour is higher"),
    ("detector.3", lambda *t: boxes_of(*t, "count"), "detections, and got"),
    ("detector.3", lambda *t: [], "detections, and got 0"),
    ("detector.3", lambda *t: boxes_of(*t, "exchanged"), "x and y are exchanged"),
    ("detector.3", lambda *t: boxes_of(*t, "cells"), "your boxes are in cells"),
    ("detector.3", lambda *t: boxes_of(*t, "corner"), "from the middle of the cell"),
    ("detector.3", lambda *t: boxes_of(*t, "no offset"), "add dx and dy, in cells"),
    ("detector.3", lambda *t: boxes_of(*t, "offset in pixels"), "They are in cells: add first"),
    ("detector.3", lambda *t: boxes_of(*t, "no exp"), "come as logarithms"),
    ("detector.3", lambda *t: boxes_of(*t, "corner for centre"), "start at the centre"),
    ("detector.3", lambda *t: boxes_of(*t, "whole for half"), "twice as wide and high"),
    ("detector.3", lambda *t: boxes_of(*t, "score"), "should be the height of the peak"),
    (
        "detector.3",
        lambda *t: [[row[0], *(v + 1 for v in row[1:])] for row in boxes_of(*t)],
        "of the cell at row 0, column 0 I expected",
    ),
    ("detector.4", focal_loss, "✓"),
    ("detector.4", of_library, "✓"),
    ("detector.4", lambda *t: focal_loss(*t)[None], "✓"),
    ("detector.4", lambda logits, target, gamma: logits, "I expected one number"),
    ("detector.4", lambda *t: focal_loss(*t, "plain"), "The factor (1 − p_t)^γ is missing"),
    ("detector.4", lambda *t: focal_loss(*t, "mean"), "the mean over cells"),
    ("detector.4", lambda *t: focal_loss(*t, "sum"), "divide the sum by the number of"),
    ("detector.4", lambda *t: focal_loss(*t, "only positives"), "Background that is warm"),
    ("detector.4", lambda *t: focal_loss(*t, "p"), "(1 − p)^γ for all cells"),
    ("detector.4", lambda *t: focal_loss(*t, "inverted"), "it keeps what is right already"),
    ("detector.4", lambda *t: focal_loss(*t, "sign"), "your loss is negative"),
    ("detector.4", lambda *t: focal_loss(*t, "no gamma"), "γ does not reach your loss"),
    ("detector.4", lambda *t: focal_loss(*t, "squared"), "squared the number of centres"),
    ("detector.4", undefined_if_empty, "as if there were one"),
    ("detector.4", lambda *t: focal_loss(*t) * math.nan, "p = sigmoid(logit)"),
    (
        "detector.4",
        lambda x, t, g: focal_loss(x, 1 - t, g) * (1 - t).sum() / t.sum(),
        "p_t is 1 − p at",
    ),
    (
        "detector.4",
        lambda x, t, g: focal_loss(x, 1 + 0 * t, g) * t.numel() / t.sum(),
        "in every cell",
    ),
    ("detector.4", lambda *t: 1.7 * focal_loss(*t), "γ = 2 I expected"),
    ("detector.5", count, "✓"),
    ("detector.5", count_in_loops, "✓"),
    ("detector.5", lambda *t: torch.tensor(count(*t)), "✓"),
    ("detector.5", lambda *t: [torch.tensor(v) for v in count(*t)], "✓"),
    ("detector.5", lambda *t: count(*t)[0], "three whole numbers"),
    ("detector.5", lambda *t: [0.5, 1, 2], "three whole numbers"),
    ("detector.5", lambda *t: count(*t)[::-1], "come in another order"),
    ("detector.5", counting_boxes, "Two of them lie on one lesion"),
    ("detector.5", second_is_false, "a second box on a lesion"),
    ("detector.5", counting_pairs, "counted every pair"),
    ("detector.5", lambda tables: count([t.T for t in tables]), "rows are boxes"),
    ("detector.5", lambda tables: count(tables[-1:]), "the numbers of one image"),
    ("detector.5", lambda tables: count_some(tables, len), "you left out slices"),
    ("detector.5", lambda tables: count_some(tables, lambda t: t.shape[1]), "left out slices"),
    ("detector.5", lambda tables: count_some(tables, torch.numel), "you left out slices"),
    ("detector.5", all_missed, "the misses are not"),
    ("detector.5", lambda *t: (9, 9, 9), "and got (9, 9, 9): hits, misses"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_unfinished_boxes_are_not_attempted(capsys):
    check("detector.3", lambda outputs, threshold: [...] * 9)
    assert "not attempted yet" in capsys.readouterr().out


RIGHT = {"detector.1": iou, "detector.2": suppress, "detector.3": boxes_by_pooling}
RIGHT |= {"detector.4": focal_loss, "detector.5": count}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_cannot_be_spoilt_by_functions_that_change_their_arguments(id, capsys):
    def hasty(*args):
        result = RIGHT[id](*args)
        for arg in args:
            for tensor in arg if isinstance(arg, list) else [arg]:
                if torch.is_tensor(tensor):
                    tensor[...] = 0
        return result

    check(id, hasty)
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    for id, answer, _ in CASES:
        check(id, answer)
    said = " ".join(capsys.readouterr().out.split())
    for id, table in MESSAGES.items():
        for key, text in table.items():
            first = max(text.split("{")[0], text.rsplit("}")[-1], key=len)
            assert first.strip() in said, f"no test hears {id} {key!r}"


# What changes only the order of things whose order does not count, or nothing at all
EQUIVALENT = [
    "detector.1: height = max(0, min(a[3], b[3]) - max(a[1], b[1])) → height = max(0, min(a[3], b[3]) - max(b[1], a[1]))",
    "detector.1: height = max(0, min(a[3], b[3]) - max(a[1], b[1])) → height = max(0, min(b[3], a[3]) - max(a[1], b[1]))",
    "detector.1: height = max(0, min(a[3], b[3]) - max(a[1], b[1])) → height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)",
    "detector.1: width = max(0, min(a[2], b[2]) - max(a[0], b[0])) → width = max(0, min(a[2], b[2]) - max(b[0], a[0]))",
    "detector.1: width = max(0, min(a[2], b[2]) - max(a[0], b[0])) → width = max(0, min(b[2], a[2]) - max(a[0], b[0]))",
    "detector.1: width = max(0, min(a[2], b[2]) - max(a[0], b[0])) → width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)",
    "detector.2: left = [k for k in left if box_iou(boxes[best][None], boxes[k][None]) <= limit] → left = [k for k in left if box_iou(boxes[k][None], boxes[best][None]) <= limit]",
    "detector.3: around = heat[max(row - 1, 0):row + 2, max(column - 1, 0):column + 2] → around = heat[max(0, row - 1):row + 2, max(column - 1, 0):column + 2]",
    "detector.3: around = heat[max(row - 1, 0):row + 2, max(column - 1, 0):column + 2] → around = heat[max(row - 1, 0):row + 2, max(0, column - 1):column + 2]",
]


def test_no_changed_solution_is_called_right():
    assert ticked("19_detector", "detector") == EQUIVALENT
