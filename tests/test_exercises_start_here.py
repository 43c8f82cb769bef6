"""Checks of start_here, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch

from medlab.exercises.start_here import MESSAGES
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked


def majority(labels):
    return labels.bincount().max().item() / len(labels)


def pairs(labels, scores, tie=0.5):
    gap = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return ((gap > 0).float() + tie * (gap == 0)).mean()


def highest(labels, scores, wanted):
    sick = np.sort(scores[labels == 1])[::-1]
    return sick[int(np.ceil(wanted * len(sick))) - 1]


def blind(images):
    images = images.clone()
    images[..., :8, :8] = 0
    return images


def blind_in_place(images):
    images[..., :8, :8] = 0
    return images


def too_small(images):
    images = images.clone()
    images[..., :2, :2] = 0
    return images


def too_large(images):
    images = images.clone()
    images[..., :8, :] = 0
    return images


def pairs_by_loops(labels, scores, *, lost=0.0):
    won = 0.0
    sick, healthy = scores[labels == 1].tolist(), scores[labels == 0].tolist()
    for a in sick:
        for b in healthy:
            won += 1 if a > b else 0.5 if a == b else lost
    return won / (len(sick) * len(healthy))


def rates(labels, scores, t):
    labels, called = np.asarray(labels), np.asarray(scores) >= t
    return called[labels == 1].mean(), 1 - called[labels == 0].mean()


def with_tensors(labels, scores, t):
    called = (scores >= t).float()
    return torch.stack([called[labels == 1].mean(), 1 - called[labels == 0].mean()])


def predictive(labels, scores, t):
    labels, called = np.asarray(labels), np.asarray(scores) >= t
    return (labels[called] == 1).mean(), (labels[~called] == 0).mean()


def highest_of_tensors(labels, scores, wanted):
    sick = scores[labels == 1].sort(descending=True).values
    return sick[int(np.ceil(wanted * len(sick))) - 1]


def by_trying(labels, scores, wanted):
    best = 0.0
    for t in scores.tolist():
        found = (scores[labels == 1] >= t).float().mean()
        if found >= wanted - 1e-6 and t > best:
            best = t
    return best


def by_precision(labels, scores, wanted):
    """The positive predictive value taken for the sensitivity."""
    s, y = np.asarray(scores), np.asarray(labels)
    return max(t for t in s if y[s >= t].mean() >= wanted)


def in_numpy(images):
    blind = images.numpy().copy()
    blind[..., :8, :8] = 0
    return blind


def tile(score, image, *, choose=min, value=0, fresh=True, last=0, side=8, key=None, into=None):
    left, base, copy = {}, float(score(image[None])[0]), image.clone()
    for row in range(0, image.shape[1] - last, 8):
        for column in range(0, image.shape[2] - last, 8):
            covered = image.clone() if fresh else copy
            covered[:, row : row + side, column : column + side] = value
            left[row, column] = float(score(covered[None])[0])
    place = choose(left, key=key(left, base) if key else left.get)
    return into(place, left) if into else place


def in_place(score, image):
    place = tile(score, image)
    image[:, :8, :8] = 0
    return place


def lightest(score, image):
    places = [(r, c) for r in range(0, image.shape[1], 8) for c in range(0, image.shape[2], 8)]
    return max(places, key=lambda p: image[:, p[0] : p[0] + 8, p[1] : p[1] + 8].float().mean())


def at_once(score, image):
    """All tiles in one batch, in NumPy."""
    corners = [(r, c) for r in range(0, image.shape[1], 8) for c in range(0, image.shape[2], 8)]
    batch = np.stack([image.numpy()] * len(corners))
    for one, (r, c) in zip(batch, corners, strict=True):
        one[:, r : r + 8, c : c + 8] = 0
    return corners[int(score(batch).argmin())]


def by_change(left, base):
    return lambda place: abs(left[place] - base)


CASES = [
    ("start_here.1", majority, "✓"),
    ("start_here.1", lambda labels: np.bincount(labels).max() / len(labels), "✓"),
    (
        "start_here.1",
        lambda labels: max(labels.tolist().count(k) for k in range(9)) / len(labels),
        "✓",
    ),
    (
        "start_here.1",
        lambda labels: np.unique(labels.astype(int), return_counts=True)[1].max() / labels.size,
        "✓",
    ),
    ("start_here.1", lambda labels: (labels == 1).mean(dtype=torch.float), "share of class 1"),
    ("start_here.1", lambda labels: labels.bincount().max(), "a count, 5"),
    ("start_here.1", lambda labels: labels.bincount().max() // len(labels), "Divide with `/`"),
    ("start_here.1", lambda labels: int(majority(labels)), "Divide with `/`"),
    ("start_here.1", lambda labels: 100 * majority(labels), "per cent"),
    ("start_here.1", lambda labels: labels.bincount().argmax(), "commonest class"),
    ("start_here.1", lambda labels: 0.123, "expected 0.5"),
    ("start_here.1", lambda labels: labels, "expected a number"),
    ("start_here.1", lambda labels: "0.8", "expected a number"),
    ("start_here.2", lambda a, b: len(set(a) & set(b)), "✓"),
    ("start_here.2", lambda a, b: len(np.intersect1d(a, b)), "✓"),
    ("start_here.2", lambda a, b: float(len(set(a.tolist()).intersection(b))), "✓"),
    ("start_here.2", lambda a, b: torch.tensor(len(set(a) & set(b))), "✓"),
    ("start_here.2", lambda a, b: np.array([len(set(a) & set(b))])[0], "✓"),
    ("start_here.2", lambda a, b: sum(x in b for x in np.unique(a)), "✓"),
    ("start_here.2", lambda a, b: np.isin(a, b).sum(), "counted images"),
    ("start_here.2", lambda a, b: np.isin(b, a).sum(), "counted images"),
    ("start_here.2", lambda a, b: len(set(a) | set(b)), "either part"),
    ("start_here.2", lambda a, b: len(set(a)), "patients of one part, 5"),
    ("start_here.2", lambda a, b: len(np.unique(b)), "patients of one part, 6"),
    ("start_here.2", lambda a, b: len(set(a) ^ set(b)), "on one side only"),
    ("start_here.2", lambda a, b: (a == b).sum(), "entry by entry"),
    (
        "start_here.2",
        lambda a, b: sum(x == y for x, y in zip(a, b, strict=False)),
        "entry by entry",
    ),
    ("start_here.2", lambda a, b: set(a) & set(b), "len()"),
    ("start_here.2", lambda a, b: np.intersect1d(a, b), "len()"),
    ("start_here.2", lambda a, b: 2, "expected 0 and got 2"),
    ("start_here.3", pairs, "✓"),
    ("start_here.3", pairs_by_loops, "✓"),
    ("start_here.3", lambda y, s: pairs(y.numpy(), torch.as_tensor(s)).numpy(), "✓"),
    (
        "start_here.3",
        lambda y, s: np.mean(
            [(a > b) + (a == b) / 2 for a in s[y.astype(bool)] for b in s[~y.astype(bool)]]
        ),
        "✓",
    ),
    ("start_here.3", lambda y, s: pairs(y, s, 0), "a tie counted nothing"),
    ("start_here.3", lambda y, s: pairs(y, s, 1), "a tie counted in full"),
    ("start_here.3", lambda y, s: pairs_by_loops(y, s, lost=0.5), "a lost pair counted one half"),
    ("start_here.3", lambda y, s: 2 * pairs(y, s) - 1, "twice the AUC less one"),
    ("start_here.3", lambda y, s: pairs_by_loops(y, s, lost=-1) - 0.05, "twice the AUC less one"),
    ("start_here.3", lambda y, s: 100 * pairs(y, s), "per cent"),
    ("start_here.3", lambda y, s: 1 - pairs(y, s), "healthy one scores higher"),
    ("start_here.3", lambda y, s: 10 * pairs(y, s), "Divide by the number of pairs"),
    ("start_here.3", lambda y, s: 10 * pairs(y, s) / 49, "one sick and one healthy"),
    ("start_here.3", lambda y, s: ((s >= 0.5).long() == y).float().mean(), "accuracy"),
    (
        "start_here.3",
        lambda y, s: pairs(torch.tensor([0, 0, 0, 1, 1, 0, 0]), s),
        "shuffled the patients",
    ),
    ("start_here.3", lambda y, s: 0.3, "expected 0.7500"),
    ("start_here.4", rates, "✓"),
    ("start_here.4", with_tensors, "✓"),
    ("start_here.4", lambda *a: list(rates(*a)), "✓"),
    ("start_here.4", lambda *a: np.array(rates(*a)), "✓"),
    ("start_here.4", lambda *a: dict(zip("ab", rates(*a), strict=True)), "✓"),
    ("start_here.4", lambda *a: rates(*a)[::-1], "specificity first"),
    ("start_here.4", lambda y, s, t: rates(y, np.asarray(s) - 1e-9, t), "`>=`, not `>`"),
    ("start_here.4", predictive, "the predictive values"),
    ("start_here.4", lambda *a: (rates(*a)[0], 1 - rates(*a)[1]), "of the healthy called sick"),
    ("start_here.4", lambda *a: (1 - rates(*a)[0], rates(*a)[1]), "that are missed"),
    ("start_here.4", lambda *a: tuple(1 - v for v in rates(*a)), "the low scores"),
    ("start_here.4", lambda *a: (rates(*a)[0] * 3 / 8, rates(*a)[1] * 5 / 8), "by all images"),
    ("start_here.4", lambda *a: (rates(*a)[0] * 3, rates(*a)[1] * 5), "you returned counts"),
    ("start_here.4", lambda *a: [100 * v for v in rates(*a)], "per cent"),
    ("start_here.4", lambda *a: rates(*a)[0], "two numbers, sensitivity and specificity"),
    ("start_here.4", lambda *a: "both", "two numbers, sensitivity and specificity"),
    ("start_here.4", lambda *a: (0.1, 0.2), "expected (0.667, 0.6), and got (0.1, 0.2)"),
    ("start_here.5", highest, "✓"),
    ("start_here.5", highest_of_tensors, "✓"),
    ("start_here.5", by_trying, "✓"),
    ("start_here.5", lambda y, s, w: float(highest(y, s, w)), "✓"),
    ("start_here.5", lambda y, s, w: 0.0, "every healthy patient sick too"),
    ("start_here.5", lambda y, s, w: np.quantile(s, 1 - w), "quantile of all scores"),
    ("start_here.5", lambda y, s, w: highest(y, s, 1 - w + 0.01), "wrong end"),
    ("start_here.5", by_precision, "that is the PPV"),
    ("start_here.5", lambda y, s, w: int(w * 5), "place in the sorted list, 3"),
    (
        "start_here.5",
        lambda y, s, w: np.sort(s[y == 1])[::-1][int(w * 5) - 1],
        "number of sick patients up",
    ),
    ("start_here.5", lambda y, s, w: highest(y, s, w) - 0.01, "finds enough too"),
    (
        "start_here.5",
        lambda y, s, w: np.sort(s[y == 1])[::-1][int(np.ceil(w * 5)) % 5],
        "off by one",
    ),
    ("start_here.5", lambda y, s, w: np.quantile(s[y == 1], 1 - w), "interpolate"),
    ("start_here.5", lambda y, s, w: s >= 0.5, "expected a number"),
    ("start_here.6", blind, "✓"),
    ("start_here.6", in_numpy, "✓"),
    ("start_here.6", blind_in_place, "images.clone()"),
    ("start_here.6", lambda x: x[..., 8:, 8:], "changed shape"),
    ("start_here.6", too_small, "can still be seen"),
    ("start_here.6", lambda x: x.clone(), "can still be seen"),
    ("start_here.6", too_large, "outside the corner"),
    ("start_here.6", lambda x: torch.where(blind(x) == x, x, torch.full_like(x, 7)), "not 0"),
    ("start_here.6", lambda x: x.tolist(), "a tensor of images, and got list"),
    ("start_here.7", tile, "✓"),
    ("start_here.7", lambda *a: list(tile(*a)), "✓"),
    ("start_here.7", lambda *a: torch.tensor(tile(*a)), "✓"),
    ("start_here.7", lambda *a: tuple(map(np.int64, tile(*a))), "✓"),
    ("start_here.7", lambda *a: tile(*a)[::-1], "column and row"),
    ("start_here.7", lambda *a: tuple(v // 8 for v in tile(*a)), "the number of the tile"),
    ("start_here.7", lambda *a: tile(*a, key=by_change, choose=max), "the wrong way"),
    ("start_here.7", lightest, "Ask the score, not the eye"),
    ("start_here.7", in_place, "Work on image.clone()"),
    ("start_here.7", lambda *a: tile(*a, choose=max), "the wrong way"),
    ("start_here.7", lambda *a: tile(*a, last=8), "covered the tile at row 0, column 32 alone"),
    ("start_here.7", lambda *a: tile(*a, value=90), "another value than 0"),
    ("start_here.7", lambda *a: tile(*a, fresh=False), "Start each from a fresh copy"),
    ("start_here.7", lambda *a: tile(*a, side=7), "you covered 7×7 pixels from [0, 0] on"),
    ("start_here.7", at_once, "✓"),
    ("start_here.7", lambda *a: tile(*a, into=lambda place, left: left[place]), "I asked where"),
    ("start_here.7", lambda *a: "here", "two whole numbers, (row, column), and got str"),
    ("start_here.7", lambda *a: (1, 2), "never covered the tile at row 0, column 0"),
    ("start_here.7", lambda *a: tile(*a) and (1, 2), "I expected (8, 32), and got (1, 2)"),
]


@pytest.mark.parametrize("id, answer, reply", CASES)
def test_the_check_answers(id, answer, reply, capsys):
    is_told(id, answer, reply, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_every_message_is_heard(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# Order without meaning, and a slice that begins at the border holds nothing.
EQUIVALENT = [
    "start_here.2: both = set(a) & set(b) → both = set(b) & set(a)",
    "start_here.3: won, pairs = (0.0, 0) → pairs, won = (0.0, 0)",
    "start_here.3: won, pairs = (0.0, 0) → won, pairs = (0, 0.0)",
    *(
        f"start_here.7: for {name} in range(0, image.shape[{axis}], 8): → "
        f"for {name} in range(0, image.shape[{axis}] {by} 1, 8):"
        for axis, name in ((2, "column"), (1, "row"))
        for by in "+-"
    ),
]


def test_a_changed_solution_is_not_ticked():
    assert ticked("00_start_here", "start_here") == EQUIVALENT
