"""Checks of start_here, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch

from medlab.exercises import check


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


CASES = [
    ("start_here.1", majority, "✓"),
    ("start_here.1", lambda labels: labels.float().mean(), "share of class 1"),
    ("start_here.1", lambda labels: labels.bincount().max(), "a count, 8"),
    ("start_here.1", lambda labels: 100 * majority(labels), "per cent"),
    ("start_here.1", lambda labels: labels.bincount().argmax(), "commonest class"),
    ("start_here.1", lambda labels: 0.123, "expected 0.8"),
    ("start_here.1", lambda labels: labels, "expected a number"),
    ("start_here.2", lambda a, b: len(set(a) & set(b)), "✓"),
    ("start_here.2", lambda a, b: len(np.intersect1d(a, b)), "✓"),
    ("start_here.2", lambda a, b: np.isin(a, b).sum(), "counted images"),
    ("start_here.2", lambda a, b: np.isin(b, a).sum(), "counted images"),
    ("start_here.2", lambda a, b: len(set(a) | set(b)), "either part"),
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
    ("start_here.3", lambda y, s: pairs(y, s, 0), "a tie counted nothing"),
    ("start_here.3", lambda y, s: pairs(y, s, 1), "a tie counted in full"),
    ("start_here.3", lambda y, s: 1 - pairs(y, s), "healthy one scores higher"),
    ("start_here.3", lambda y, s: 6 * pairs(y, s), "Divide by the number of pairs"),
    ("start_here.3", lambda y, s: 6 * pairs(y, s) / 25, "one sick and one healthy"),
    ("start_here.3", lambda y, s: ((s >= 0.5).long() == y).float().mean(), "accuracy"),
    ("start_here.3", lambda y, s: pairs(torch.tensor([0, 0, 0, 1, 1]), s), "shuffled the patients"),
    ("start_here.3", lambda y, s: 0.3, "expected 0.9167"),
    ("start_here.4", highest, "✓"),
    ("start_here.4", lambda y, s, w: 0.0, "every healthy patient sick too"),
    ("start_here.4", lambda y, s, w: np.quantile(s, 1 - w), "quantile of all scores"),
    ("start_here.4", lambda y, s, w: highest(y, s, 1 - w + 0.01), "wrong end"),
    (
        "start_here.4",
        lambda y, s, w: np.sort(s[y == 1])[::-1][int(w * 5) - 1],
        "number of sick patients up",
    ),
    ("start_here.4", lambda y, s, w: highest(y, s, w) - 0.01, "finds enough too"),
    (
        "start_here.4",
        lambda y, s, w: np.sort(s[y == 1])[::-1][int(np.ceil(w * 5)) % 5],
        "off by one",
    ),
    ("start_here.4", lambda y, s, w: np.quantile(s[y == 1], 1 - w), "interpolate"),
    ("start_here.4", lambda y, s, w: s >= 0.5, "expected a number"),
    ("start_here.5", blind, "✓"),
    ("start_here.5", blind_in_place, "images.clone()"),
    ("start_here.5", lambda x: x[..., 8:, 8:], "changed shape"),
    ("start_here.5", too_small, "can still be seen"),
    ("start_here.5", lambda x: x.clone(), "can still be seen"),
    ("start_here.5", too_large, "outside the corner"),
    ("start_here.5", lambda x: torch.where(blind(x) == x, x, torch.full_like(x, 7)), "not 0"),
    ("start_here.5", lambda x: x.numpy(), "a tensor of images, and got ndarray"),
]


@pytest.mark.parametrize("id, answer, reply", CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = capsys.readouterr().out
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted({id for id, *_ in CASES}))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    def stub(*args): ...

    def broken(*args):
        return args[9]

    check(id, stub)
    assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    check(id, broken)
    assert "your code stopped with IndexError" in capsys.readouterr().out
