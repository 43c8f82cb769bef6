"""Checks of preprocessing, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from medlab import preprocess
from medlab.exercises.preprocessing import MESSAGES
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

AXES = (1, 2, 3)


def sizes(rule):
    return lambda size, spacing, to: tuple(
        rule(n, s, to) for n, s in zip(size, spacing, strict=True)
    )


def moved(volume, mask, spacing, to, *, how=""):
    """A learner's resampler by SciPy, with one mistake."""
    sizes, places = [], []
    for n, s in zip(volume.shape, spacing, strict=True):
        m = math.floor((n - 1) * s / to + 1e-6) + 1
        if how == "edges":
            m = round(n * s / to)
        if how == "no last":
            m -= 1
        if how == "inverse":
            m = math.floor((n - 1) * to / s + 1e-6) + 1
        if how == "one axis":
            m = math.floor((n - 1) * spacing[0] / to + 1e-6) + 1
        u = np.arange(m) * to / s
        if how == "place edges":
            u = (np.arange(m) + 0.5) * to / s - 0.5
        if how == "place inverse":
            u = np.arange(m) * s / to
        if how == "place corners":
            u = np.linspace(0, n - 1, m)
        sizes.append(m)
        places.append(u)
    linear, nearest = 1, 0
    if how == "weights":
        places = [2 * np.floor(u) + 1 - u for u in places]
    if how == "nearest":
        linear = 0
    if how == "invented":
        nearest = 1
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    if how == "left volume":
        grid = np.floor(grid)
    image = ndimage.map_coordinates(volume.numpy(), grid, order=linear, mode="nearest")
    if how == "left label":
        grid = np.floor(grid + 1e-6)
    if how == "right label":
        grid = np.ceil(grid - 1e-6)
    labels = ndimage.map_coordinates(mask.numpy().astype(float), grid, order=nearest)
    if how == "rounded":
        labels = ndimage.map_coordinates(mask.numpy().astype(float), grid, order=1).round()
    return image, labels


def by(how):
    return lambda *given: moved(*given, how=how)


def other(change):
    return lambda *given: change(*moved(*given), *given)


def stretched(corners):
    """By `F.interpolate`, to the size that is asked for."""

    def resized(volume, mask, spacing, to):
        size = moved(volume, mask, spacing, to)[0].shape
        how = {"mode": "trilinear", "align_corners": corners}
        labels = F.interpolate(mask[None, None].float(), size, mode="nearest")
        return F.interpolate(volume[None, None], size, **how)[0, 0], labels[0, 0]

    return resized


def nearest_of_size(volume, mask, spacing, to):
    image = moved(volume, mask, spacing, to)[0]
    return image, F.interpolate(mask[None, None].float(), image.shape, mode="nearest-exact")[0, 0]


def in_the_library(volume, mask, spacing, to, antialias=False):
    grid = {"spacing": spacing, "to": to}
    return [
        preprocess.resample(volume, **grid, antialias=antialias),
        preprocess.resample(mask, **grid, order=0).numpy().tolist(),
    ]


def placed(lead):
    """Cut and filled so that `lead` of the difference of two sizes stands before."""

    def fitted(x, size, value):
        margins = []
        for n, wanted in zip(reversed(x.shape), reversed(size), strict=True):
            start = lead(wanted - n)
            margins += [start, wanted - n - start]
        return F.pad(x, margins, value=value)

    return fitted


middle = placed(lambda k: int(k / 2))


def curve(greys, limit, *, how=""):
    height = np.bincount(greys.ravel(), minlength=256) / greys.size
    most = limit / (np.unique(greys).size if how == "occupied" else 256)
    if how == "counts":
        height, most = height * greys.size, limit
    if how == "unlimited":
        most = limit
    excess = (height - most).clip(0).sum()
    cut = np.minimum(height, most)
    shares = cut + excess / 256
    if how == "stretched":
        shares = cut / cut.sum()
    if how == "lost":
        shares = cut
    if how == "below limit":
        shares = cut + excess * (height < most) / (height < most).sum()
    if how == "present":
        shares = cut + excess * (height > 0) / (height > 0).sum()
    total = shares.cumsum() / (greys.size if how == "counts" else 1)
    if how == "below":
        total = total - shares
    if how == "curve":
        return total
    return (shares if how == "histogram" else total)[greys]


def equalised(how):
    return lambda greys, limit: curve(greys, limit, how=how)


def field(image, mask, *, how=""):
    sides = [torch.linspace(-1, 1, n) if how else torch.arange(n) / 40 for n in image.shape]
    v, u = torch.meshgrid(*sides, indexing="ij")
    terms = [v**0, v, u, v * v, v * u, u * u]
    left_out = {"plane": {3, 4, 5}, "no cross": {4}, "no squares": {3, 5}, "no constant": {0}}.get(
        how, set()
    )
    terms = torch.stack([t for k, t in enumerate(terms) if k not in left_out], -1)
    where = mask | True if how in ("background", "everywhere", "small", "more") else mask
    values = image if how == "raw" else image.log()
    if how == "small":
        values = (image + 1e-6).log()
    if how in ("log1p", "more"):
        values = image.log1p()
    if how == "background":
        values = torch.where(mask, values, 0)
    c = torch.linalg.lstsq(terms[where], values[where][:, None]).solution
    found = (terms @ c)[..., 0]
    return found if how in ("raw", "log") else found.exp()


def shading(how):
    return lambda image, mask: field(image, mask, how=how)


CASES = [
    ("preprocessing.1", lambda a, b: (b - a.mean()) / a.std(), "✓"),
    ("preprocessing.1", lambda a, b: ((b - a.mean()) / a.std(correction=0)).numpy(), "✓"),
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
    ("preprocessing.1", lambda a, b: (b - a.mean()) / a.std(AXES).mean(), "averaged the dev"),
    ("preprocessing.1", lambda a, b: (b - a.mean()) / b.std(), "from one set and your deviation"),
    ("preprocessing.1", lambda a, b: (b - b.mean()) / a.std(), "from one set and your deviation"),
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
    (
        "preprocessing.2",
        lambda n, s, t: (int((a - 1) * b / t) + 1 for a, b in zip(n, s, strict=True)),
        "make a generator",
    ),
    ("preprocessing.2", lambda n, s, t: n, "for size (41, 512, 500)"),
    ("preprocessing.2", lambda n, s, t: (154, 276, 288), "expected 2 numbers"),
    ("preprocessing.2", lambda n, s, t: "many", "expected a number"),
    ("preprocessing.3", moved, "✓"),
    ("preprocessing.3", in_the_library, "✓"),
    ("preprocessing.3", lambda v, m, s, t: moved(v, m, s, t)[::-1], "the mask first"),
    ("preprocessing.3", lambda v, m, s, t: moved(v, m, s, t)[0], "got ndarray"),
    ("preprocessing.3", lambda v, m, s, t: (*moved(v, m, s, t), 1), "got 3 values"),
    ("preprocessing.3", lambda v, m, s, t: (moved(v, m, s, t)[0], m), "the mask came back on its"),
    ("preprocessing.3", lambda v, m, s, t: (v, m), "the volume came back on its old grid"),
    ("preprocessing.3", by("edges"), "as if outer edges agreed; I expected (19, 17, 17)"),
    ("preprocessing.3", by("no last"), "k steps have k + 1 ends"),
    ("preprocessing.3", by("inverse"), "a finer spacing gives more"),
    ("preprocessing.3", by("one axis"), "Each axis has its own spacing"),
    ("preprocessing.3", other(lambda a, b, *_: (a.T, b.T)), "has (17, 17, 19) voxels"),
    ("preprocessing.3", by("place edges"), "is read as if outer edges agreed"),
    ("preprocessing.3", by("place corners"), "stretched until first and last centres agree"),
    ("preprocessing.3", by("place inverse"), "the volume is read at j·s/s′"),
    ("preprocessing.3", stretched(False), "fills the new size from edge to edge"),
    ("preprocessing.3", stretched(True), "until first and last centres agree"),
    ("preprocessing.3", nearest_of_size, "the mask is stretched until it fills"),
    ("preprocessing.3", by("nearest"), "only values that were there before"),
    ("preprocessing.3", by("left volume"), "only values that were there before"),
    ("preprocessing.3", by("weights"), "each other's weights"),
    ("preprocessing.3", by("invented"), "there is no such label"),
    ("preprocessing.3", by("rounded"), "there is no such label"),
    ("preprocessing.3", by("left label"), "takes the voxel to the left"),
    ("preprocessing.3", by("right label"), "takes the voxel to the right"),
    ("preprocessing.3", lambda *g: in_the_library(*g, antialias=True), "was smoothed before"),
    ("preprocessing.3", other(lambda a, b, *_: (a + 1, b)), "the volume at ["),
    ("preprocessing.3", other(lambda a, b, *_: (a * np.nan, b)), "and I got nan"),
    ("preprocessing.3", other(lambda a, b, *_: (a, b[::-1])), "the mask at ["),
    ("preprocessing.3", lambda *_: "both", "and got str"),
    ("preprocessing.4", middle, "✓"),
    ("preprocessing.4", placed(lambda k: k // 2), "✓"),
    ("preprocessing.4", lambda x, size, value: preprocess.crop_pad(x, size, value=value), "✓"),
    ("preprocessing.4", lambda x, size, value: middle(x, size, value).tolist(), "✓"),
    ("preprocessing.4", lambda x, size, value: middle(x, size, 0.0), "here -1000"),
    ("preprocessing.4", placed(lambda k: 0), "kept the first rows or columns"),
    ("preprocessing.4", placed(lambda k: k), "at the start alone"),
    ("preprocessing.4", placed(lambda k: max(0, k // 2)), "lies beside the middle"),
    ("preprocessing.4", placed(lambda k: min(0, int(k / 2))), "lies beside the middle"),
    ("preprocessing.4", lambda x, size, value: x, "from (12, 7) to (6, 13) I got (12, 7)"),
    (
        "preprocessing.4",
        lambda x, size, value: F.interpolate(x[None, None], size, mode="bilinear")[0, 0],
        "you resized",
    ),
    ("preprocessing.4", lambda x, size, value: middle(x, size, value).flip(0), "the value at ["),
    ("preprocessing.5", curve, "✓"),
    ("preprocessing.5", lambda g, k: curve(g, k).tolist(), "✓"),
    ("preprocessing.5", lambda g, k: torch.from_numpy(curve(g, k)).float(), "✓"),
    ("preprocessing.5", equalised("unlimited"), "nothing was cut"),
    ("preprocessing.5", equalised("lost"), "what was cut off is gone"),
    ("preprocessing.5", equalised("stretched"), "divided the cut curve by its end"),
    ("preprocessing.5", equalised("below limit"), "Each of the 256 gets the same"),
    ("preprocessing.5", equalised("present"), "Each of the 256 gets the same"),
    ("preprocessing.5", equalised("below"), "at or below"),
    ("preprocessing.5", equalised("curve"), "the curve, 256 values"),
    ("preprocessing.5", equalised("histogram"), "Its running sum is the curve"),
    ("preprocessing.5", equalised("occupied"), "Take it over all 256"),
    ("preprocessing.5", equalised("counts"), "you cut numbers of pixels at 3"),
    ("preprocessing.5", lambda g, k: 255 * curve(g, k), "on another scale"),
    ("preprocessing.5", lambda g, k: curve(g, k)[0], "the image has (40, 30)"),
    ("preprocessing.5", lambda g, k: 1 - curve(g, k), "with limit 3, a pixel of grey"),
    ("preprocessing.6", field, "✓"),
    ("preprocessing.6", lambda x, m: 7 * field(x, m).numpy(), "✓"),
    ("preprocessing.6", lambda x, m: torch.where(m, field(x, m), -1), "✓"),
    ("preprocessing.6", shading("log"), "the logarithm of the field"),
    ("preprocessing.6", lambda x, m: x / field(x, m), "the corrected image"),
    ("preprocessing.6", lambda x, m: 1 / field(x, m), "you returned 1/field"),
    ("preprocessing.6", shading("raw"), "you fitted the image itself"),
    ("preprocessing.6", shading("plane"), "A plane cannot bend"),
    ("preprocessing.6", shading("no cross"), "v·u is missing"),
    ("preprocessing.6", shading("no squares"), "v² and u² are missing"),
    ("preprocessing.6", shading("no constant"), "the constant c₀ is missing"),
    ("preprocessing.6", shading("background"), "has seen the background"),
    ("preprocessing.6", shading("small"), "has seen the background"),
    ("preprocessing.6", shading("log1p"), "the logarithm of 1 + image"),
    ("preprocessing.6", shading("more"), "has seen the background"),
    ("preprocessing.6", shading("everywhere"), "are NaN or infinite"),
    ("preprocessing.6", lambda x, m: torch.ones_like(x), "the same everywhere"),
    ("preprocessing.6", lambda x, m: x, "within the mask your field is off by"),
    ("preprocessing.6", lambda x, m: -field(x, m), "it is above 0"),
    ("preprocessing.6", lambda x, m: field(x, m)[m], "of the whole image, (72, 60)"),
]

# Of the fit of six terms: another range, order or sign of v and u spans the same fields
EQUIVALENT = [
    "preprocessing.2: return tuple((int((n - 1) * s / to) + 1 for n, s in zip(size, "
    "spacing, strict=True))) "
    "→ return tuple((int((n - 1) * s / to) + 1 for n, s in zip(size, spacing)))",
    "preprocessing.2: return tuple((int((n - 1) * s / to) + 1 for n, s in zip(size, "
    "spacing, strict=True))) "
    "→ return tuple((int((n - 1) * s / to) + 1 for n, s in zip(size, spacing, "
    "strict=False)))",
    "preprocessing.3: low = u.floor().long() → low = u.long()",
    "preprocessing.4: for n, wanted in zip(x.shape, size, strict=True): "
    "→ for n, wanted in zip(x.shape, size):",
    "preprocessing.4: for n, wanted in zip(x.shape, size, strict=True): "
    "→ for n, wanted in zip(x.shape, size, strict=False):",
    "preprocessing.4: here, there = ([], []) → there, here = ([], [])",
    "preprocessing.4: kept = min(n, wanted) → kept = min(wanted, n)",
    "preprocessing.4: result = torch.full(size, value, dtype=x.dtype) "
    "→ result = torch.full(size, value)",
    "preprocessing.5: cut = np.minimum(height, limit / 256) "
    "→ cut = np.minimum(limit / 256, height)",
    "preprocessing.5: height = np.bincount(greys.ravel(), minlength=256) / greys.size "
    "→ height = np.bincount(greys.ravel()) / greys.size",
    "preprocessing.5: height = np.bincount(greys.ravel(), minlength=256) / greys.size "
    "→ height = np.bincount(greys.ravel(), minlength=255) / greys.size",
    "preprocessing.5: height = np.bincount(greys.ravel(), minlength=256) / greys.size "
    "→ height = np.bincount(greys.ravel(), minlength=257) / greys.size",
    "preprocessing.6: sides = [torch.linspace(-1, 1, n) for n in image.shape] "
    "→ sides = [torch.linspace(-0, 1, n) for n in image.shape]",
    "preprocessing.6: sides = [torch.linspace(-1, 1, n) for n in image.shape] "
    "→ sides = [torch.linspace(-1, 0, n) for n in image.shape]",
    "preprocessing.6: sides = [torch.linspace(-1, 1, n) for n in image.shape] "
    "→ sides = [torch.linspace(-1, 2, n) for n in image.shape]",
    "preprocessing.6: sides = [torch.linspace(-1, 1, n) for n in image.shape] "
    "→ sides = [torch.linspace(-2, 1, n) for n in image.shape]",
    "preprocessing.6: sides = [torch.linspace(-1, 1, n) for n in image.shape] "
    "→ sides = [torch.linspace(1, -1, n) for n in image.shape]",
    "preprocessing.6: terms = torch.stack([torch.ones_like(v), v, u, v * v, v * u, u * u], "
    "dim=-1) "
    "→ terms = torch.stack([v, torch.ones_like(v), u, v * v, v * u, u * u], dim=-1)",
    "preprocessing.6: v, u = torch.meshgrid(*sides, indexing='ij') "
    "→ u, v = torch.meshgrid(*sides, indexing='ij')",
    "preprocessing.6: v, u = torch.meshgrid(*sides, indexing='ij') → v, u = torch.meshgrid(*sides)",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_a_changed_solution_is_not_ticked():
    assert ticked("06_preprocessing", "preprocessing") == EQUIVALENT
