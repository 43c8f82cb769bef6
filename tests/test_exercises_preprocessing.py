"""Checks of preprocessing, fed with right, untouched and typically wrong answers."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from medlab import preprocess
from medlab.exercises import check
from medlab.exercises.preprocessing import ALLOWED, MESSAGES
from tests.learners import unheard
from tests.where import NOTEBOOKS

RIGHT = {pair: right for pair, (right, _) in ALLOWED.items()}
AXES = (1, 2, 3)


def but(key):
    """The right table with one answer turned round."""
    (pair,) = [p for p, (_, why) in ALLOWED.items() if why == key]
    return RIGHT | {pair: not RIGHT[pair]}


def sizes(rule):
    return lambda size, spacing, to: tuple(
        rule(n, s, to) for n, s in zip(size, spacing, strict=True)
    )


def flip(boxes, width):
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)


def flip_in_place(boxes, width):
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return boxes


def overwrite(first, then):
    """The mistake in place: the second edge is computed from the first one's new value."""

    def flipped(boxes, width):
        boxes[:, first] = width - boxes[:, then]
        boxes[:, then] = width - boxes[:, first]
        return boxes

    return flipped


def columns(*rules):
    return lambda b, w: torch.stack([rule(*b.unbind(1), w) for rule in rules], dim=1)


def keep(k):
    return lambda x0, y0, x1, y1, w: (x0, y0, x1, y1)[k]


def mirror(k, offset=0):
    return lambda x0, y0, x1, y1, w: w - offset - (x0, y0, x1, y1)[k]


def split(patients, share, seed):
    names = np.unique(patients)
    chosen = np.random.default_rng(seed).permutation(names)[: round(share * len(names))]
    return np.isin(patients, chosen)


def by_coin(patients, share, seed):
    names, where = np.unique(patients, return_inverse=True)
    return torch.from_numpy(np.random.default_rng(seed).random(len(names)) < share)[where]


def first_names(patients, share, seed):
    names = np.unique(patients)
    return np.isin(patients, names[: round(share * len(names))])


def last_names(patients, share, seed):
    names = np.unique(patients)
    return np.isin(patients, names[-round(share * len(names)) :])


COUNT = itertools.count()

CASES = [
    ("preprocessing.1", lambda a, b: (b - a.mean()) / a.std(), "✓"),
    ("preprocessing.1", lambda a, b: ((b - a.mean()) / a.std(correction=0)).numpy(), "✓"),
    ("preprocessing.1", lambda a, b: preprocess.normalise(b, per="cohort", reference=a), "✓"),
    (
        "preprocessing.1",
        lambda a, b: (b - b.mean()) / b.std(),
        "statistics of the test images themselves",
    ),
    (
        "preprocessing.1",
        lambda a, b: (b - torch.cat([a, b]).mean()) / torch.cat([a, b]).std(),
        "training and test together",
    ),
    ("preprocessing.1", lambda a, b: (b - a.mean()) / a.var(), "divided by the variance"),
    ("preprocessing.1", lambda a, b: b / a.std(), "did not subtract"),
    ("preprocessing.1", lambda a, b: b - a.mean(), "did not divide"),
    ("preprocessing.1", lambda a, b: b / a.std() - a.mean(), "mind the brackets"),
    ("preprocessing.1", lambda a, b: (b - a.mean(0)) / a.std(0), "every pixel position"),
    (
        "preprocessing.1",
        lambda a, b: (b - a.mean(0)) / a.std(0, correction=0),
        "every pixel position",
    ),
    (
        "preprocessing.1",
        lambda a, b: (b - b.mean(AXES, keepdim=True)) / b.std(AXES, keepdim=True),
        "each image by itself",
    ),
    ("preprocessing.1", lambda a, b: (a - a.mean()) / a.std(), "returned the training images"),
    (
        "preprocessing.1",
        lambda a, b: ((b - a.mean()) / a.std()).flatten(),
        "you returned shape (1008,)",
    ),
    ("preprocessing.1", lambda a, b: torch.zeros_like(b), "first test pixel should become"),
    ("preprocessing.1", lambda a, b: "bright", "expected a number"),
    ("preprocessing.1", 0.5, "expected a function"),
    ("preprocessing.2", sizes(lambda n, s, t: math.floor((n - 1) * s / t) + 1), "✓"),
    (
        "preprocessing.2",
        lambda n, s, t: ((torch.tensor(n) - 1) * torch.tensor(s) / t).floor() + 1,
        "✓",
    ),
    (
        "preprocessing.2",
        lambda n, s, t: preprocess.resample(np.zeros(n, np.uint8), spacing=s, to=t, order=0).shape,
        "✓",
    ),
    ("preprocessing.2", lambda n, s, t: np.floor((np.array(n) - 1) * s / t).astype(int) + 1, "✓"),
    ("preprocessing.2", sizes(lambda n, s, t: int((n - 1) * s // t) + 1), "✓"),
    ("preprocessing.2", sizes(lambda n, s, t: int((n - 1) / (t / s) + 1)), "✓"),
    ("preprocessing.2", sizes(lambda n, s, t: round(n * s / t)), "keeps the outer edges"),
    ("preprocessing.2", sizes(lambda n, s, t: n * s / t), "keeps the outer edges"),
    ("preprocessing.2", sizes(lambda n, s, t: math.floor((n - 1) * s / t)), "k steps has k + 1"),
    ("preprocessing.2", sizes(lambda n, s, t: math.ceil((n - 1) * s / t)), "k steps has k + 1"),
    ("preprocessing.2", sizes(lambda n, s, t: round(n * t / s)), "Finer spacing must give more"),
    (
        "preprocessing.2",
        sizes(lambda n, s, t: int((n - 1) * t / s) + 1),
        "Finer spacing must give more",
    ),
    ("preprocessing.2", sizes(lambda n, s, t: math.ceil((n - 1) * s / t) + 1), "round down"),
    ("preprocessing.2", sizes(lambda n, s, t: round((n - 1) * s / t) + 1), "no value: round down"),
    ("preprocessing.2", sizes(lambda n, s, t: (n - 1) * s / t + 1), "must be whole"),
    (
        "preprocessing.2",
        lambda n, s, t: [int((a - 1) * s[0] / t) + 1 for a in n],
        "first spacing for every",
    ),
    ("preprocessing.2", lambda n, s, t: int((n[0] - 1) * s[0] / t) + 1, "expected 3 numbers"),
    ("preprocessing.2", lambda n, s, t: n, "for size (41, 512, 500)"),
    ("preprocessing.2", lambda n, s, t: (154, 276, 288), "expected 2 numbers"),
    ("preprocessing.2", lambda n, s, t: "many", "expected a number"),
    ("preprocessing.3", lambda x, t: math.log(t) / math.log(x.median()), "✓"),
    ("preprocessing.3", lambda x, t: np.log(t) / np.log(np.median(x.numpy())), "✓"),
    (
        "preprocessing.3",
        lambda x, t: torch.log10(torch.tensor(t)) / torch.log10(x.quantile(0.5)),
        "✓",
    ),
    (
        "preprocessing.3",
        lambda x, t: math.log(x.median()) / math.log(t),
        "bends the scale the other way",
    ),
    ("preprocessing.3", lambda x, t: math.log(t) / math.log(x.mean()), "only the order"),
    ("preprocessing.3", lambda x, t: t / x.median(), "That is a factor"),
    ("preprocessing.3", lambda x, t: t - x.median(), "That is a shift"),
    (
        "preprocessing.3",
        lambda x, t: x ** (math.log(t) / math.log(x.median())),
        "you returned an image",
    ),
    ("preprocessing.3", lambda x, t: math.log(0.5) / math.log(x.median()), "here 0.3"),
    ("preprocessing.3", lambda x, t: -math.log(t) / math.log(x.median()), "exponent is negative"),
    ("preprocessing.3", lambda x, t: 0.5, "I expected γ ="),
    ("preprocessing.3", lambda x, t: "more", "expected a number"),
    ("preprocessing.4", RIGHT, "✓"),
    ("preprocessing.4", {pair: int(value) for pair, value in RIGHT.items()}, "✓"),
    ("preprocessing.4", {pair: np.bool_(value) for pair, value in RIGHT.items()}, "✓"),
    *(("preprocessing.4", but(why), f"“{pair}”") for pair, (_, why) in ALLOWED.items()),
    ("preprocessing.4", dict.fromkeys(RIGHT, True), "the label still names the old one"),
    ("preprocessing.4", dict.fromkeys(RIGHT, False), "lean by a few degrees"),
    ("preprocessing.4", True, "got bool"),
    ("preprocessing.4", dict(list(RIGHT.items())[1:]), "is missing"),
    ("preprocessing.4", dict.fromkeys(RIGHT, "no"), "is 'no'"),
    ("preprocessing.5", flip, "✓"),
    ("preprocessing.5", lambda b, w: flip(b, w).numpy(), "✓"),
    ("preprocessing.5", flip_in_place, "✓"),
    ("preprocessing.5", columns(mirror(2, 1), keep(1), mirror(0, 1), keep(3)), "one pixel off"),
    ("preprocessing.5", columns(mirror(0, 1), keep(1), mirror(2, 1), keep(3)), "one pixel off"),
    ("preprocessing.5", columns(mirror(0), keep(1), mirror(2), keep(3)), "larger than x1"),
    ("preprocessing.5", overwrite(0, 2), "Take both from the old box"),
    ("preprocessing.5", overwrite(2, 0), "Take both from the old box"),
    ("preprocessing.5", columns(mirror(0), keep(1), keep(2), keep(3)), "one edge only"),
    ("preprocessing.5", columns(keep(0), mirror(3), keep(2), mirror(1)), "upside down"),
    ("preprocessing.5", lambda b, w: b, "came back as I gave them"),
    ("preprocessing.5", columns(mirror(2), mirror(0), keep(1), keep(3)), "another order"),
    ("preprocessing.5", lambda b, w: flip(b, w)[0], "you returned shape (4,)"),
    ("preprocessing.5", lambda b, w: torch.zeros_like(b), "should become [54.0, 5.0, 61.0, 20.0]"),
    ("preprocessing.5", lambda b, w: flip(b, 64), "96 pixels wide"),
    ("preprocessing.5", lambda b, w: "left", "expected a number"),
    ("preprocessing.6", split, "✓"),
    ("preprocessing.6", by_coin, "✓"),
    ("preprocessing.6", lambda p, s, k: list(split(p, s, k)), "✓"),
    ("preprocessing.6", lambda p, s, k: split(p, s, k).astype(int), "✓"),
    (
        "preprocessing.6",
        lambda p, s, k: np.random.default_rng(k).random(len(p)) < s,
        "on both sides",
    ),
    ("preprocessing.6", lambda p, s, k: np.unique(p)[:50], "you returned patients"),
    ("preprocessing.6", lambda p, s, k: np.flatnonzero(split(p, s, k)), "returned positions"),
    ("preprocessing.6", lambda p, s, k: split(np.unique(p), s, k), "200 values for"),
    ("preprocessing.6", lambda p, s, k: split(p, s / 2, k), "12% are test patients"),
    ("preprocessing.6", lambda p, s, k: ~split(p, s, k), "not training"),
    ("preprocessing.6", lambda p, s, k: np.zeros(len(p), bool), "0% are test patients"),
    ("preprocessing.6", first_names, "the first patients in the list"),
    ("preprocessing.6", last_names, "every seed gives the same patients"),
    ("preprocessing.6", lambda p, s, k: split(p, s, 3), "every seed gives the same patients"),
    ("preprocessing.6", lambda p, s, k: split(p, s, next(COUNT)), "the same seed gave two"),
    ("preprocessing.6", lambda p, s, k: [object()] * len(p), "expected a number"),
]


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args): ...

    def broken(*args):
        return args[9]

    check(id, RIGHT | {next(iter(RIGHT)): ...} if id == "preprocessing.4" else stub)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if id != "preprocessing.4":
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_the_table_of_the_notebook_is_the_table_of_the_check():
    [path] = [path for path in NOTEBOOKS if path.name.startswith("06")]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [stub] = [cell for cell in cells if cell["id"] == "exercise-4-stub"]
    source = "".join(stub["source"])
    assert all(f'"{pair}": ...' in source for pair in ALLOWED)
    assert source.count(": ...") == len(ALLOWED)
