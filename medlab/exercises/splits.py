"""Checks of splits and augmentation."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from medlab.exercises import NotAttempted, Verdict, Wrong, array_of, call, exercise, near, number

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
        "right": "every new pixel asked where it came from, so there is no hole, and no label "
        "was invented.",
        "pushed": "{count} pixels inside are empty: you sent old pixels forwards. Ask each *new* "
        "pixel for its old place.",
        "forward": "you applied A, and the way back is needed: a new pixel asks for its old place.",
        "shift": "the shift has the wrong sign: take it off before you turn back.",
        "shift late": "you turned back first and took the shift off afterwards. It was added last, "
        "so it comes off first.",
        "transposed": "it turns the other way. With points in rows it is `points @ inverse.T`.",
        "corner": "you turned about the corner of the image, not about its centre.",
        "centre": "the centre is (W/2, H/2), x first. Yours is (H/2, W/2).",
        "axes": "rows and columns have changed places: x counts columns, y rows, and an array is "
        "indexed [y, x].",
        "middle": "the centre is (W/2, H/2), and of an odd size `//` loses half a pixel.",
        "no shift": "you did not take the shift off.",
        "shift axes": "the shift is (x, y), and yours went down where it should go right.",
        "half": "you are half a pixel off. Pixel [i, j] has its centre at (j + ½, i + ½), and the "
        "place x lies in column ⌊x⌋.",
        "truncated": "`int` cuts towards 0: a place at −0.3 comes to lie in column 0, and it is "
        "outside. Round down first, by np.floor.",
        "rim": "{count} pixels at the rim are lost. A pixel reaches half a pixel beyond its "
        "centre; SciPy's mode 'constant' ends at the last centre, and 'grid-constant' at the edge.",
        "wrapped": "what comes from outside is not empty: NumPy counts −1 from the end. Keep only "
        "places inside the image.",
        "edge": "what comes from outside should be 0; you repeated the edge.",
        "labels": "you invented labels: {new}. A mask is not mixed, it is looked up.",
        "shape": "you returned shape {got}; the mask has {want}.",
        "other": "{count} of {all} pixels differ. The first: [{row}, {column}] should be {want:g}, "
        "and I got {got:g}.",
    },
    "splits.3": {
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
        "whole": "you made whole numbers of the edges. They are positions, and may lie between "
        "two pixels: keep the fractions.",
        "cut": "you cut the edges at W − 1. They are positions from 0 to W: a box that reaches the "
        "border ends at W.",
        "columns": "the columns are in another order. It is x0, y0, x1, y1.",
        "shape": "you returned shape {got}; I gave {want}.",
        "other": "in an image {width} pixels wide the box {box} should become {expected}; I got "
        "{got}.",
    },
    "splits.4": {
        "right": "no patient stands on both sides, and another seed asks another set of patients.",
        "by image": "{count} patients have images on both sides. Draw patients, not images, and "
        "then take all the images of those drawn.",
        "names": "you returned patients. I asked for one boolean an image: np.isin(patients, "
        "chosen).",
        "positions": "you returned positions. I asked for one boolean an image.",
        "length": "you returned {got} values for {want} images.",
        "share": "I asked for {share:.0%} of the patients, and {got:.0%} are test patients.",
        "replaced": "you drew with replacement: who is drawn twice counts once, so that only "
        "{got:.0%} of the patients are test patients, and I asked for {share:.0%}. Draw without.",
        "hashed": "after a restart the same seed would give another split: the order of a `set` "
        "and `hash` of a text differ in each Python process. Sort the names (np.unique does).",
        "inverted": "I asked for {share:.0%} test patients, and {got:.0%} are marked. True should "
        "mean test, not training.",
        "fixed": "every seed gives the same patients. Draw them at random from the seed.",
        "first": "every seed gives the first patients in the list. Archives are sorted by date or "
        "site, so the first are not like the rest: draw at random.",
        "unstable": "the same seed gave two different splits. Make the generator from the seed, "
        "inside the function.",
    },
    "splits.5": {
        "right": "on noise its mean over many runs is one half, as it should be.",
        "leaky": "you chose the features on all patients: the test labels have helped. Choose on "
        "those of `train` alone.",
        "from test": "you chose the features on the test patients.",
        "all means": "the class means have seen the test patients. Take them from `train`.",
        "everyone": "that is the score on all patients, those of training among them. I asked for "
        "the test patients.",
        "training": "that is the score on the training patients. I asked for the others.",
        "errors": "that is the share of errors; I asked for the share right.",
        "signed": "you took the largest differences, and those of the other sign are as good: take "
        "absolute values first.",
        "smallest": "you kept the features that differ least.",
        "all features": "you kept all features, and 20 were asked for.",
        "count": "that is a number of patients. I asked for a share.",
        "other": "of {n} test patients I expected the share {want:.3f} to be right, and got "
        "{got:.3f}.",
    },
    "splits.6": {
        "right": "it knows its length, hands out one pair, and changes it anew each time.",
        "instance": "I expected the class `Chests`, and got {got}.",
        "length": "len() of {n} images is {got}.",
        "pair": "an item should be the pair (image, label); I got {got}.",
        "image shape": "the image of an item has shape {got}, and should have {want}: one image, "
        "its channel kept.",
        "integers": "the image has type {got}. A network wants floats.",
        "scale": "the image runs to {got:g}. Bring bytes, 0 to 255, to 0 to 1.",
        "by 256": "the largest byte, 255, should become 1; you divided by 256.",
        "which": "item {i} has not the values of image {i}.",
        "label": "the label of item {i} should be {want}, and I got {got}.",
        "no change": "`change` was not called. It changes each image that is handed out.",
        "once": "`change` was called before an item was asked for, or once for several. Call it in "
        "`__getitem__`, so that the network sees another variant each time.",
        "changed bytes": "`change` got bytes. It wants the float image.",
        "changed shape": "`change` got the shape {got}. Hand it the one image as it is, {want}.",
        "changed early": "`change` got an image that runs to {got:g}. Bring it to 0 to 1 first, "
        "and change it then.",
        "unused": "`change` was called, and its result not used.",
        "damaged": "after an item was read, the stored images had other values. Work on a copy.",
        "needs change": "without `change`, which is then None, it stopped: None cannot be called. "
        "Hand out the image as it is.",
    },
}


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
        if np.asarray(value).size != 1 or np.asarray(value).item() not in (0, 1):
            return "not boolean", {"pair": pair, "value": value}
        if bool(value) != right:
            return why, {"pair": pair}
    return "right"


@exercise("splits.2", MESSAGES["splits.2"])
def pull(answer) -> Verdict:
    # The last one is so small that places lie outside at all four sides
    cases = (20, 1.3, (4.2, -3.1)), (-33, 0.8, (-5.3, 7.4)), (11, 0.6, (1.7, -2.3))
    for seed, (degrees, zoom, shift) in enumerate(cases):
        rng = np.random.default_rng(seed)
        mask = np.kron(rng.choice([0, 3, 7], (9, 6)), np.ones((5, 5), int))
        angle = np.deg2rad(degrees)
        turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        got = array_of(call(answer, mask.copy(), turn.copy(), np.array(shift)))
        if got.shape != mask.shape:
            return "shape", {"got": got.shape, "want": mask.shape}
        want = _pulled(mask, turn, shift)
        differs = got != want
        if differs.mean() < 0.004:  # a place on the edge of a pixel may fall to either side
            continue
        wrong = {
            "forward": _pulled(mask, np.linalg.inv(turn), shift),
            "shift": _pulled(mask, turn, (-shift[0], -shift[1])),
            "shift late": _pulled(mask, turn, tuple(turn @ shift)),
            "transposed": _pulled(mask, turn.T, shift),
            "corner": _pulled(mask, turn, shift, centre=(0, 0)),
            "centre": _pulled(mask, turn, shift, centre=(mask.shape[0] / 2, mask.shape[1] / 2)),
            "middle": _pulled(mask, turn, shift, centre=(mask.shape[1] // 2, mask.shape[0] // 2)),
            "no shift": _pulled(mask, turn, (0, 0)),
            "shift axes": _pulled(mask, turn, shift[::-1]),
            "truncated": _pulled(mask, turn, shift, lookup=np.trunc),
            "half": _pulled(mask, turn, shift, half=0.0),
            "axes": _pulled(mask, turn[::-1, ::-1], shift[::-1]),
            "wrapped": _pulled(mask, turn, shift, outside="wrap"),
            "edge": _pulled(mask, turn, shift, outside="edge"),
        }
        rounded = _pulled(mask, turn, shift, half=0.5, lookup=np.round)
        for key, one in [*wrong.items(), ("half", rounded)]:
            if (got != one).mean() < 0.004:
                return key
        new = sorted(set(np.unique(got.round(3)).tolist()) - {0, 3, 7})
        if new:
            return "labels", {"new": ", ".join(f"{value:g}" for value in new[:3])}
        told = {"count": int(differs.sum()), "all": mask.size}
        if (got[differs] == 0).all() and differs.mean() < 0.04:
            return "rim", told
        if zoom > 1 and (got[differs] == 0).mean() > 0.95 and differs.mean() > 0.1:
            return "pushed", told
        row, column = (int(k) for k in np.argwhere(differs)[0])
        told |= {"row": row, "column": column}
        return "other", told | {"want": want[row, column], "got": got[row, column]}
    return "right"


def _pulled(
    mask: np.ndarray,
    turn: np.ndarray,
    shift: tuple[float, ...],
    *,
    centre: tuple[float, float] | None = None,
    half: float = 0.5,
    lookup: Any = np.floor,
    outside: str = "zero",
) -> np.ndarray:
    """The mask under p′ = turn (p − centre) + centre + shift, pixel for pixel looked up."""
    rows, columns = mask.shape
    middle = np.array((columns / 2, rows / 2) if centre is None else centre)
    i, j = np.mgrid[:rows, :columns]
    new = np.stack([j + half, i + half], axis=-1)
    old = (new - middle - shift) @ np.linalg.inv(turn).T + middle
    x, y = np.moveaxis(lookup(old).astype(int), -1, 0)
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    if outside == "wrap":  # −1 is the last one; beyond the end there is nothing
        inside = (x >= -columns) & (x < columns) & (y >= -rows) & (y < rows)
    found = mask[y.clip(-rows, rows - 1), x.clip(-columns, columns - 1)]
    if outside == "edge":
        return mask[y.clip(0, rows - 1), x.clip(0, columns - 1)]
    return np.where(inside, found, 0)


@exercise("splits.3", MESSAGES["splits.3"])
def flip_boxes(answer) -> Verdict:
    boxes = torch.tensor([[3.0, 5.0, 10.0, 20.0], [0.0, 1.5, 64.0, 9.0], [40.5, 30.0, 41.0, 60.0]])
    for width, given in ((64, boxes), (96, boxes[:2]), (70, boxes[:1])):
        x0, y0, x1, y1 = given.unbind(1)
        want = torch.stack([width - x1, y0, width - x0, y1], 1)
        got = call(answer, given.clone(), width)
        if near(got, want):
            continue
        got = array_of(got)
        if got.shape != tuple(want.shape):
            return "shape", {"got": got.shape, "want": tuple(want.shape)}
        last = width - 1
        wrong: dict[str, list[torch.Tensor]] = {
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
        off = np.nan_to_num(np.abs(got - want.numpy()), nan=np.inf).max(1)
        k = int(off.argmax())  # the box that differs most
        told = {"width": width, "box": given[k].tolist(), "expected": want[k].tolist()}
        told["got"] = got[k].round(3).tolist()
        wrong |= {
            "whole": [want.floor(), want.round(), want.ceil()],
            "cut": [want.clamp(0, last), torch.stack([*want.clamp(0, last).unbind(1)[:3], y1], 1)],
        }
        for key, results in wrong.items():
            if any(near(got, one) for one in results):
                return key, told
        return "other", told
    return "right"


@exercise("splits.4", MESSAGES["splits.4"])
def test_images(answer) -> Verdict:
    rng = np.random.default_rng(7)
    names = np.array([f"P{k:03d}" for k in rng.permutation(200)])
    patients = np.repeat(names, rng.integers(1, 5, len(names)))
    patients = patients[rng.permutation(len(patients))]
    splits = {}
    for share in (0.25, 0.4):
        for seed in range(10):
            got = call(answer, patients.copy(), share, seed)
            splits[share, seed] = test = _marks(got, patients)
            shared = np.intersect1d(patients[test], patients[~test])
            if len(shared):
                return "by image", {"count": len(shared)}
        marked = np.mean([len(set(patients[splits[share, s]])) / len(names) for s in range(10)])
        # A coin for each patient gives the share only on average: 0.01 is its deviation.
        told = {"share": share, "got": marked}
        if abs(marked - share) > 0.05:
            if abs(marked - (1 - np.exp(-share))) < 0.02:
                return "replaced", told
            return ("inverted" if abs(1 - marked - share) < 0.05 else "share"), told
    if (_marks(call(answer, patients.copy(), 0.25, 3), patients) != splits[0.25, 3]).any():
        return "unstable"
    if all((splits[0.25, s] == splits[0.25, 0]).all() for s in range(10)):
        chosen = set(patients[splits[0.25, 0]])
        in_order = list(dict.fromkeys(patients)), sorted(set(patients))
        return "first" if any(chosen == set(o[: len(chosen)]) for o in in_order) else "fixed"
    return "hashed" if _hashes(answer, patients, splits[0.25, 3]) else "right"


class _Name(str):
    """The same text under another hash, as every process of Python gives it one."""

    def __hash__(self) -> int:
        return ~super().__hash__()


def _hashes(answer: Callable, patients: np.ndarray, before: np.ndarray) -> bool:
    """Whether the split hangs on hashes of names, which differ from process to process."""
    # Other names in the same order change no split that sorts them, or takes them as they come
    renamed = np.char.replace(patients, "P", "Q")
    if (_marks(call(answer, renamed, 0.25, 3), patients) == before).all():
        return False
    # A digest of the text (hashlib) changes with it, and may; here only the hash changes
    named = np.array([_Name(name) for name in patients], dtype=object)
    hashed = builtins.hash
    try:
        builtins.hash = lambda x: ~hashed(x)
        return bool((_marks(call(answer, named, 0.25, 3), patients) != before).any())
    finally:
        builtins.hash = hashed


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


@exercise("splits.5", MESSAGES["splits.5"])
def honest(answer) -> Verdict:
    runs = []
    for seed, gap in ((0, 0.0), (1, 0.5), (2, 0.7)):
        rng = torch.Generator().manual_seed(seed)
        y = (torch.rand(231, generator=rng) < 0.4).long()
        X = torch.randn(231, 900, generator=rng)
        X[:, ::30] += gap * y[:, None] * torch.where(torch.arange(30) % 3 == 0, 1, -1)
        train = torch.rand(231, generator=rng) < 0.45
        runs.append(((X, y, train), number(call(answer, X.clone(), y.clone(), train.clone()))))
    told = []
    for (X, y, train), got in runs:
        want, n = _share_right(X, y, train), int((~train).sum())
        if abs(got - want) > 1e-4:
            told.append({"n": n, "want": want, "got": got})
    if not told:
        return "right"
    # Shares of so few patients meet by chance: a mistake has to explain every run
    explained = [_mistakes(*given, got) for given, got in runs]
    return next((key for key in explained[0] if all(key in keys for keys in explained)), "other"), (
        told[0]
    )


def _mistakes(X: torch.Tensor, y: torch.Tensor, train: torch.Tensor, got: float) -> list[str]:
    """Names of the mistakes that would give this share."""
    want, everyone = _share_right(X, y, train), train | True
    wrong = {
        "leaky": [
            _share_right(X, y, train, chosen_on=everyone),
            _share_right(X, y, train, chosen_on=everyone, means_of=everyone),
        ],
        "from test": [_share_right(X, y, train, chosen_on=~train)],
        "all means": [_share_right(X, y, train, means_of=everyone)],
        "training": [_share_right(X, y, train, asked=train)],
        "everyone": [_share_right(X, y, train, asked=everyone)],
        "errors": [1 - want],
        "signed": [_share_right(X, y, train, keep=lambda gap: gap.topk(20).indices)],
        "smallest": [_share_right(X, y, train, keep=lambda gap: (-gap.abs()).topk(20).indices)],
        "all features": [_share_right(X, y, train, keep=lambda gap: gap.argsort())],
        "count": [want * int((~train).sum())],
    }
    return [key for key, shares in wrong.items() if any(abs(got - s) < 1e-4 for s in shares)]


def _share_right(
    X: torch.Tensor,
    y: torch.Tensor,
    train: torch.Tensor,
    *,
    chosen_on: torch.Tensor | None = None,
    means_of: torch.Tensor | None = None,
    asked: torch.Tensor | None = None,
    keep: Any = lambda gap: gap.abs().topk(20).indices,
) -> float:
    """Share of `asked` (n,) whose nearer class mean on the features kept is that of their class."""

    def means(of: torch.Tensor) -> torch.Tensor:
        return torch.stack([X[of & (y == k)].mean(0) for k in (0, 1)])

    low, high = means(train if chosen_on is None else chosen_on)
    kept = keep(high - low)
    rows = ~train if asked is None else asked
    centres = means(train if means_of is None else means_of)[:, kept]
    return float((torch.cdist(X[rows][:, kept], centres).argmin(1) == y[rows]).float().mean())


@exercise("splits.6", MESSAGES["splits.6"])
def chests(answer) -> Verdict:
    if not isinstance(answer, type):
        return "instance", {"got": type(answer).__name__}
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (7, 1, 6, 5), dtype=torch.uint8, generator=rng)
    images[:, 0, 0, 0] = 255
    labels = torch.tensor([2, 0, 1, 1, 0, 3, 2])
    before = images.clone()
    seen: list[torch.Tensor] = []

    def change(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        x += len(seen)  # in place, as a careless augmentation would
        return x

    plain = call(answer, images, labels)
    try:
        pairs = [call(plain.__getitem__, i) for i in (4, 0, 6)]
    except Wrong as wrong:
        if "NoneType" in str(wrong.values.get("error")):
            return "needs change"
        raise
    if call(len, plain) != 7:
        return "length", {"n": 7, "got": len(plain)}
    for i, pair in zip((4, 0, 6), pairs, strict=True):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            return "pair", {"got": type(pair).__name__}
        image, label = pair
        if verdict := _item(i, image, label, before[i], labels[i]):
            return verdict
    moving = call(answer, images, labels, change)
    if seen:
        return "once"
    first, again = call(moving.__getitem__, 2), call(moving.__getitem__, 2)
    if not seen:
        return "no change"
    if not seen[0].is_floating_point():
        return "changed bytes"
    if len(seen) != 2:
        return "once"
    if seen[0].shape != before[2].shape:
        return "changed shape", {"got": tuple(seen[0].shape), "want": tuple(before[2].shape)}
    if seen[0].max() > 1.001:
        return "changed early", {"got": float(seen[0].max())}
    if not torch.equal(images, before):
        return "damaged"
    scaled = before[2] / 255
    if not all(near(x[0], scaled + k) for k, x in ((1, first), (2, again))):
        return "unused"
    return "right"


def _item(i: int, image: Any, label: Any, stored: torch.Tensor, right: torch.Tensor) -> Any:
    """What is wrong with one pair, or None."""
    got = array_of(image)
    if got.shape != tuple(stored.shape):
        return "image shape", {"got": got.shape, "want": tuple(stored.shape)}
    if np.asarray(image).dtype.kind != "f":
        return "integers", {"got": getattr(image, "dtype", type(image).__name__)}
    if got.max() > 1.001:
        return "scale", {"got": got.max()}
    if not near(got, stored / 255, absolute=1e-3):
        return ("by 256" if near(got, stored / 256, absolute=1e-3) else "which"), {"i": i}
    if not near(label, right):
        return "label", {"i": i, "want": int(right), "got": label}
    return None
