"""Checks of splits and augmentation, fed with right, untouched and typically wrong answers."""

import itertools
import json

import numpy as np
import pytest
import torch

from medlab.exercises import check
from medlab.exercises.splits import ALLOWED, MESSAGES
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
    ("splits.1", RIGHT, "✓"),
    ("splits.1", {pair: int(value) for pair, value in RIGHT.items()}, "✓"),
    ("splits.1", {pair: np.bool_(value) for pair, value in RIGHT.items()}, "✓"),
    *(("splits.1", but(why), f"“{pair}”") for pair, (_, why) in ALLOWED.items()),
    ("splits.1", dict.fromkeys(RIGHT, True), "the label still names the old one"),
    ("splits.1", dict.fromkeys(RIGHT, False), "lean by a few degrees"),
    ("splits.1", True, "got bool"),
    ("splits.1", dict(list(RIGHT.items())[1:]), "is missing"),
    ("splits.1", dict.fromkeys(RIGHT, "no"), "is 'no'"),
    ("splits.2", flip, "✓"),
    ("splits.2", lambda b, w: flip(b, w).numpy(), "✓"),
    ("splits.2", flip_in_place, "✓"),
    ("splits.2", columns(mirror(2, 1), keep(1), mirror(0, 1), keep(3)), "one pixel off"),
    ("splits.2", columns(mirror(0, 1), keep(1), mirror(2, 1), keep(3)), "one pixel off"),
    ("splits.2", columns(mirror(0), keep(1), mirror(2), keep(3)), "larger than x1"),
    ("splits.2", overwrite(0, 2), "Take both from the old box"),
    ("splits.2", overwrite(2, 0), "Take both from the old box"),
    ("splits.2", columns(mirror(0), keep(1), keep(2), keep(3)), "one edge only"),
    ("splits.2", columns(keep(0), mirror(3), keep(2), mirror(1)), "upside down"),
    ("splits.2", lambda b, w: b, "came back as I gave them"),
    ("splits.2", columns(mirror(2), mirror(0), keep(1), keep(3)), "another order"),
    ("splits.2", lambda b, w: flip(b, w)[0], "you returned shape (4,)"),
    ("splits.2", lambda b, w: torch.zeros_like(b), "should become [54.0, 5.0, 61.0, 20.0]"),
    ("splits.2", lambda b, w: flip(b, 64), "96 pixels wide"),
    ("splits.2", lambda b, w: "left", "expected a number"),
    ("splits.3", split, "✓"),
    ("splits.3", by_coin, "✓"),
    ("splits.3", lambda p, s, k: list(split(p, s, k)), "✓"),
    ("splits.3", lambda p, s, k: split(p, s, k).astype(int), "✓"),
    (
        "splits.3",
        lambda p, s, k: np.random.default_rng(k).random(len(p)) < s,
        "on both sides",
    ),
    ("splits.3", lambda p, s, k: np.unique(p)[:50], "you returned patients"),
    ("splits.3", lambda p, s, k: np.flatnonzero(split(p, s, k)), "returned positions"),
    ("splits.3", lambda p, s, k: split(np.unique(p), s, k), "200 values for"),
    ("splits.3", lambda p, s, k: split(p, s / 2, k), "12% are test patients"),
    ("splits.3", lambda p, s, k: ~split(p, s, k), "not training"),
    ("splits.3", lambda p, s, k: np.zeros(len(p), bool), "0% are test patients"),
    ("splits.3", first_names, "the first patients in the list"),
    ("splits.3", last_names, "every seed gives the same patients"),
    ("splits.3", lambda p, s, k: split(p, s, 3), "every seed gives the same patients"),
    ("splits.3", lambda p, s, k: split(p, s, next(COUNT)), "the same seed gave two"),
    ("splits.3", lambda p, s, k: [object()] * len(p), "expected a number"),
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

    check(id, RIGHT | {next(iter(RIGHT)): ...} if id == "splits.1" else stub)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if id != "splits.1":
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_the_table_of_the_notebook_is_the_table_of_the_check():
    [path] = [path for path in NOTEBOOKS if path.name.startswith("07")]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [stub] = [cell for cell in cells if cell["id"] == "exercise-1-stub"]
    source = "".join(stub["source"])
    assert all(f'"{pair}": ...' in source for pair in ALLOWED)
    assert source.count(": ...") == len(ALLOWED)
