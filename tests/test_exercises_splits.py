"""Checks of splits and augmentation, fed with right, untouched and typically wrong answers."""

import hashlib
import itertools
import json
import random

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.data import Dataset

from medlab.exercises import check
from medlab.exercises.splits import ALLOWED, MESSAGES
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked
from tests.where import NOTEBOOKS

RIGHT = {pair: right for pair, (right, _) in ALLOWED.items()}


def but(key):
    """The right table with one answer turned round."""
    (pair,) = [p for p, (_, why) in ALLOWED.items() if why == key]
    return RIGHT | {pair: not RIGHT[pair]}


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


def with_replacement(patients, share, seed):
    names = np.unique(patients)
    return np.isin(patients, np.random.default_rng(seed).choice(names, round(share * len(names))))


def from_a_set(patients, share, seed):
    """Another split in each process of Python, whose sets have another order."""
    names = list(set(patients))
    return np.isin(patients, random.Random(seed).sample(names, round(share * len(names))))


def from_a_sorted_set(patients, share, seed):
    names = sorted({str(patient) for patient in patients})
    chosen = set(random.Random(seed).sample(names, round(share * len(names))))
    return [str(patient) in chosen for patient in patients]


def in_their_order(patients, share, seed):
    names = list(dict.fromkeys(patients))
    return np.isin(patients, random.Random(seed).sample(names, round(share * len(names))))


def by_digest(patients, share, seed):
    digests = [hashlib.sha256(f"{seed} {name}".encode()).digest()[0] for name in patients]
    return np.array(digests) < 256 * share


COUNT = itertools.count()


def pull(mask, turn, shift, *, how=""):
    rows, columns = mask.shape
    centre = np.array([columns / 2, rows / 2])
    if how == "corner":
        centre = np.zeros(2)
    if how == "centre":
        centre = centre[::-1]
    if how == "middle":
        centre = np.array([columns // 2, rows // 2])
    if how in ("no shift", "shift axes"):
        shift = 0 * shift if how == "no shift" else shift[::-1]
    half = 0 if how == "half" else 0.5
    i, j = np.mgrid[:rows, :columns]
    new = np.stack([j + half, i + half], -1)
    back = np.linalg.inv(turn)
    if how == "forward":
        back = turn
    if how == "transposed":
        back = back.T
    if how == "shift":
        shift = -shift
    old = (new - centre - shift) @ back.T + centre
    if how == "shift late":
        old = (new - centre) @ back.T + centre - shift
    if how != "truncated":
        old = np.round(old) if how == "rounded" else np.floor(old)
    x, y = np.moveaxis(old.astype(int), -1, 0)
    if how == "edge":
        return mask[y.clip(0, rows - 1), x.clip(0, columns - 1)]
    inside = (x < columns) & (y < rows) & (x >= -columns) & (y >= -rows)
    if how != "wrapped":
        inside &= (x >= 0) & (y >= 0)
    result = np.zeros_like(mask)
    result[inside] = mask[y[inside], x[inside]]
    return result


def push(mask, turn, shift):
    rows, columns = mask.shape
    centre, result = np.array([columns / 2, rows / 2]), np.zeros_like(mask)
    for i in range(rows):
        for j in range(columns):
            x, y = turn @ (np.array([j + 0.5, i + 0.5]) - centre) + centre + shift
            if 0 <= x < columns and 0 <= y < rows:
                result[int(y), int(x)] = mask[i, j]
    return result


def with_columns_first(mask, turn, shift):
    return pull(mask, turn[::-1, ::-1], shift[::-1])


def mixed(mask, turn, shift):
    i, j = np.indices(mask.shape)
    centre = np.array(mask.shape[::-1]) / 2
    old = (np.stack([j + 0.5, i + 0.5], -1) - centre - shift) @ np.linalg.inv(turn).T + centre
    places = [old[..., 1] - 0.5, old[..., 0] - 0.5]
    return ndimage.map_coordinates(mask.astype(float), places, order=1)


def in_scipy(mode):
    def pulled(mask, turn, shift):
        back, middle = np.linalg.inv(turn)[::-1, ::-1], np.array(mask.shape) / 2 - 0.5
        offset = middle - back @ (middle + shift[::-1])
        return ndimage.affine_transform(mask, back, offset, order=0, mode=mode)

    return pulled


def by(how):
    return lambda *given: pull(*given, how=how)


def honest(X, y, train, *, choose=None, means=None, asked=None, rank=torch.abs, k=20, power=2):
    choose, means = (train if part is None else part for part in (choose, means))
    asked = ~train if asked is None else asked
    gap = X[choose & (y == 1)].mean(0) - X[choose & (y == 0)].mean(0)
    kept = rank(gap).argsort(descending=True)[:k]
    gaps = [(X[:, kept] - X[means & (y == c)][:, kept].mean(0)).abs() for c in (0, 1)]
    away = [(gap**power).sum(1) for gap in gaps]
    return ((away[1] < away[0]).long() == y)[asked].double().mean()


class Chests(Dataset):
    def __init__(self, images, labels, change=None):
        self.images, self.labels, self.change = images, labels, change

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i].float() / 255
        if self.change is not None:
            image = self.change(image)
        return image, self.labels[i]


def but_item(item):
    """The class with another __getitem__."""
    return type("Chests", (Chests,), {"__getitem__": item})


class Long(Chests):
    def __len__(self):
        return len(self.images[0])


class Eager(Chests):
    def __init__(self, images, labels, change=None):
        super().__init__(images, labels, change)
        if change is not None:
            self.images = torch.stack([change(x.float()) for x in images])


class Cached(Chests):
    def __getitem__(self, i):
        self.kept = getattr(self, "kept", {})
        if i not in self.kept:
            self.kept[i] = super().__getitem__(i)
        return self.kept[i]


class Floats(Chests):
    """Converts all at first, so that what `change` does in place stays."""

    def __init__(self, images, labels, change=None):
        super().__init__(images, labels, change)
        self.images = images.float() / 255

    def __getitem__(self, i):
        image = self.images[i]
        return image if self.change is None else self.change(image), self.labels[i]


def batch_changed(self, i):
    image = self.images[i].float() / 255
    return image if self.change is None else self.change(image[None])[0], self.labels[i]


def bytes_changed(self, i):
    image = self.images[i].clone()
    if self.change is not None:
        image = self.change(image)
    return image.float() / 255, self.labels[i]


def changed_early(self, i):
    image = self.images[i].float()
    if self.change is not None:
        image = self.change(image)
    return image / 255, self.labels[i]


def result_lost(self, i):
    if self.change is not None:
        self.change(self.images[i].float() / 255)
    return self.images[i].float() / 255, self.labels[i]


def damage(self, i):
    self.images[i] = 0 * self.images[i] if self.change is not None else self.images[i]
    return Chests.__getitem__(self, i)


class Nothing(Dataset):
    def __init__(self, images, labels, change=None): ...

    def __len__(self): ...

    def __getitem__(self, i): ...


CASES = [
    ("splits.1", RIGHT, "✓"),
    ("splits.1", {pair: int(value) for pair, value in RIGHT.items()}, "✓"),
    ("splits.1", {pair: np.bool_(value) for pair, value in RIGHT.items()}, "✓"),
    *(("splits.1", but(why), f"“{pair}”") for pair, (_, why) in ALLOWED.items()),
    ("splits.1", dict.fromkeys(RIGHT, True), "the label still names the old one"),
    ("splits.1", dict.fromkeys(RIGHT, False), "lean by a few degrees"),
    ("splits.1", True, "got bool"),
    ("splits.1", dict(list(RIGHT.items())[1:]), "is missing"),
    ("splits.1", {pair: np.array([value]) for pair, value in RIGHT.items()}, "✓"),
    ("splits.1", {pair: torch.tensor(value) for pair, value in RIGHT.items()}, "✓"),
    ("splits.1", dict.fromkeys(RIGHT, np.array([True, False])), "I expected True or False"),
    ("splits.1", dict.fromkeys(RIGHT, None), "is None. I expected True or False"),
    ("splits.1", dict.fromkeys(RIGHT, "no"), "is 'no'"),
    ("splits.3", flip, "✓"),
    ("splits.3", lambda b, w: flip(b, w).numpy(), "✓"),
    ("splits.3", flip_in_place, "✓"),
    ("splits.3", columns(mirror(2, 1), keep(1), mirror(0, 1), keep(3)), "one pixel off"),
    ("splits.3", columns(mirror(0, 1), keep(1), mirror(2, 1), keep(3)), "one pixel off"),
    ("splits.3", columns(mirror(0), keep(1), mirror(2), keep(3)), "larger than x1"),
    ("splits.3", overwrite(0, 2), "Take both from the old box"),
    ("splits.3", overwrite(2, 0), "Take both from the old box"),
    ("splits.3", columns(mirror(0), keep(1), keep(2), keep(3)), "one edge only"),
    ("splits.3", columns(keep(0), mirror(3), keep(2), mirror(1)), "upside down"),
    ("splits.3", lambda b, w: b, "came back as I gave them"),
    ("splits.3", columns(mirror(2), mirror(0), keep(1), keep(3)), "another order"),
    ("splits.3", lambda b, w: flip(b, w)[0], "you returned shape (4,)"),
    ("splits.3", lambda b, w: torch.zeros_like(b), "should become [0.0, 1.5, 64.0, 9.0]"),
    ("splits.3", lambda b, w: flip(b, 64), "96 pixels wide"),
    ("splits.3", lambda b, w: flip(b, w).int(), "keep the fractions"),
    ("splits.3", lambda b, w: flip(b, w).round(), "keep the fractions"),
    ("splits.3", lambda b, w: flip(b, w).clamp(0, w - 1), "you cut the edges at W − 1"),
    (
        "splits.3",
        lambda b, w: flip(b, w) + torch.tensor([0, 0, 0, 7.0]) * (b[:, 1:2] == 30),
        "the box [40.5, 30.0, 41.0, 60.0] should become [23.0, 30.0, 23.5, 60.0]; I got "
        "[23.0, 30.0, 23.5, 67.0]",
    ),
    ("splits.3", lambda b, w: "left", "expected a number"),
    ("splits.4", split, "✓"),
    ("splits.4", by_coin, "✓"),
    ("splits.4", lambda p, s, k: list(split(p, s, k)), "✓"),
    ("splits.4", from_a_sorted_set, "✓"),
    ("splits.4", in_their_order, "✓"),
    ("splits.4", by_digest, "✓"),
    ("splits.4", with_replacement, "33% of the patients are test patients, and I asked for 40%"),
    ("splits.4", from_a_set, "after a restart"),
    ("splits.4", lambda p, s, k: [hash((q, k)) % 1000 < 1000 * s for q in p], "after a restart"),
    ("splits.4", lambda p, s, k: [hash(f"{q}{k}") % 1000 < 1000 * s for q in p], "after a restart"),
    ("splits.4", lambda p, s, k: split(p, s, k).astype(int), "✓"),
    (
        "splits.4",
        lambda p, s, k: np.random.default_rng(k).random(len(p)) < s,
        "on both sides",
    ),
    ("splits.4", lambda p, s, k: np.unique(p)[:50], "you returned patients"),
    ("splits.4", lambda p, s, k: np.flatnonzero(split(p, s, k)), "returned positions"),
    ("splits.4", lambda p, s, k: split(np.unique(p), s, k), "200 values for"),
    ("splits.4", lambda p, s, k: split(p, s / 2, k), "12% are test patients"),
    ("splits.4", lambda p, s, k: ~split(p, s, k), "not training"),
    ("splits.4", lambda p, s, k: np.zeros(len(p), bool), "0% are test patients"),
    ("splits.4", first_names, "the first patients in the list"),
    ("splits.4", last_names, "every seed gives the same patients"),
    ("splits.4", lambda p, s, k: split(p, s, 3), "every seed gives the same patients"),
    ("splits.4", lambda p, s, k: split(p, s, next(COUNT)), "the same seed gave two"),
    ("splits.4", lambda p, s, k: [object()] * len(p), "expected a number"),
    ("splits.2", pull, "✓"),
    ("splits.2", lambda *given: pull(*given).tolist(), "✓"),
    *[
        ("splits.2", by(how), said)
        for how, said in {
            "forward": "the way back is needed",
            "shift": "the wrong sign",
            "shift late": "it comes off first",
            "transposed": "turns the other way",
            "corner": "about the corner",
            "centre": "Yours is (H/2, W/2)",
            "half": "half a pixel off",
            "rounded": "half a pixel off",
            "wrapped": "NumPy counts −1 from the end",
            "edge": "you repeated the edge",
            "truncated": "cuts towards 0",
            "middle": "loses half a pixel",
            "no shift": "did not take the shift off",
            "shift axes": "yours went down where",
        }.items()
    ],
    ("splits.2", in_scipy("grid-constant"), "✓"),
    ("splits.2", in_scipy("constant"), "pixels at the rim are lost"),
    ("splits.2", push, "you sent old pixels forwards"),
    ("splits.2", with_columns_first, "rows and columns have changed places"),
    ("splits.2", mixed, "you invented labels"),
    ("splits.2", lambda *given: pull(*given)[1:], "the mask has (45, 30)"),
    ("splits.2", lambda *given: pull(*given)[::-1], "pixels differ"),
    ("splits.5", honest, "✓"),
    ("splits.5", lambda X, y, train: honest(X, y, train).item(), "✓"),
    ("splits.5", lambda X, y, train: honest(X, y, train, choose=train | True), "have helped"),
    ("splits.5", lambda X, y, train: honest(X, y, train, choose=~train), "on the test patients"),
    (
        "splits.5",
        lambda X, y, train: honest(X, y, train, means=train | True),
        "the class means have seen",
    ),
    (
        "splits.5",
        lambda X, y, train: honest(X, y, train, choose=train | True, means=train | True),
        "have helped",
    ),
    ("splits.5", lambda X, y, train: honest(X, y, ~train, choose=train, means=train), "training p"),
    ("splits.5", lambda X, y, train: 1 - honest(X, y, train), "the share of errors"),
    ("splits.5", lambda X, y, train: honest(X, y, train, rank=lambda g: g), "absolute values"),
    ("splits.5", lambda X, y, train: honest(X, y, train, rank=lambda g: -g.abs()), "differ least"),
    ("splits.5", lambda X, y, train: honest(X, y, train, k=900), "kept all features"),
    (
        "splits.5",
        lambda X, y, train: honest(X, y, train) * (~train).sum(),
        "a number of patients",
    ),
    ("splits.5", lambda X, y, train: honest(X, y, train, k=10), "I expected the share"),
    ("splits.5", lambda X, y, train: honest(X, y, train, power=1), "I expected the share"),
    ("splits.5", lambda X, y, train: honest(X, y, train, asked=train | True), "on all patients"),
    ("splits.6", Chests, "✓"),
    ("splits.6", Chests(torch.zeros(2), torch.zeros(2)), "I expected the class"),
    ("splits.6", Long, "len() of 7 images is 1"),
    ("splits.6", but_item(lambda self, i: self.images[i] / 255), "the pair (image, label)"),
    (
        "splits.6",
        but_item(lambda self, i: (self.images[i, 0] / 255, self.labels[i])),
        "has shape (6, 5)",
    ),
    (
        "splits.6",
        but_item(lambda self, i: (self.images[i : i + 1] / 255, self.labels[i])),
        "its channel kept",
    ),
    ("splits.6", but_item(lambda self, i: (self.images[i], self.labels[i])), "has type"),
    ("splits.6", but_item(lambda self, i: (self.images[i].float(), self.labels[i])), "runs to 255"),
    (
        "splits.6",
        but_item(lambda self, i: (self.images[i] / 256, self.labels[i])),
        "you divided by 256",
    ),
    ("splits.6", but_item(changed_early), "`change` got an image that runs to 255"),
    (
        "splits.6",
        but_item(lambda self, i: (self.images[i - 1] / 255, self.labels[i])),
        "not the values of image 4",
    ),
    (
        "splits.6",
        but_item(lambda self, i: (self.images[i] / 255, self.labels[i - 1])),
        "the label of item 4 should be 0",
    ),
    (
        "splits.6",
        but_item(lambda self, i: (self.images[i] / 255, self.labels[i])),
        "`change` was not called",
    ),
    ("splits.6", Eager, "before an item was asked for"),
    ("splits.6", Cached, "once for several"),
    ("splits.6", but_item(bytes_changed), "`change` got bytes"),
    ("splits.6", but_item(batch_changed), "`change` got the shape (1, 1, 6, 5)"),
    ("splits.6", but_item(result_lost), "its result not used"),
    ("splits.6", but_item(damage), "other values"),
    ("splits.6", Floats, "its result not used"),
    (
        "splits.6",
        but_item(lambda self, i: (self.change(self.images[i] / 255), self.labels[i])),
        "None cannot be called",
    ),
]


# The share of patients is asked for only about
EQUIVALENT = [
    "splits.2: inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) "
    "→ inside = (column < width) & (column >= 0) & (row >= 0) & (row < height)",
    "splits.2: inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) "
    "→ inside = (row < height) & ((column >= 0) & (column < width) & (row >= 0))",
    "splits.2: inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) "
    "→ inside = (row >= 0) & ((column >= 0) & (column < width)) & (row < height)",
    "splits.4: chosen = np.random.default_rng(seed).permutation(names)[:round(share * len(names))] "
    "→ chosen = np.random.default_rng(seed).permutation(names)[1:round(share * len(names))]",
    "splits.4: chosen = np.random.default_rng(seed).permutation(names)[:round(share * len(names))] "
    "→ chosen = np.random.default_rng(seed).permutation(names)[:round(share * len(names)) + 1]",
    "splits.4: chosen = np.random.default_rng(seed).permutation(names)[:round(share * len(names))] "
    "→ chosen = np.random.default_rng(seed).permutation(names)[:round(share * len(names)) - 1]",
    "splits.5: kept = (means[1] - means[0]).abs().topk(20).indices "
    "→ kept = (means[0] - means[1]).abs().topk(20).indices",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", ["splits.2", "splits.3", "splits.4", "splits.5"])
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_what_is_untouched_is_not_attempted(capsys):
    for id, untouched in (
        ("splits.1", RIGHT | {next(iter(RIGHT)): ...}),
        ("splits.6", Nothing),
        ("splits.6", ...),
    ):
        check(id, untouched)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_the_table_of_the_notebook_is_the_table_of_the_check():
    [path] = [path for path in NOTEBOOKS if path.name.startswith("07")]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [stub] = [cell for cell in cells if cell["id"] == "exercise-1-stub"]
    source = "".join(stub["source"])
    assert all(f'"{pair}": ...' in source for pair in ALLOWED)
    assert source.count(": ...") == len(ALLOWED)


def test_a_changed_solution_is_not_ticked():
    assert ticked("07_splits_and_augmentation", "splits") == EQUIVALENT
