"""The checks of shortcuts, fed with right, untouched and typically wrong answers."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr
from torch import nn

import medlab
from medlab import explain
from medlab.exercises import check, material
from medlab.exercises.shortcuts import MESSAGES
from medlab.metrics import Interval
from medlab.models import SmallCNN
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

done = material("shortcuts")

# ------------------------------------------------------------------------ 1: the intervention


def moved(score, images, change):
    return np.asarray(score(change(images)), float) - np.asarray(score(images), float)


def by_loop(score, images, change, patients):
    d, of = moved(score, images, change), {}
    for value, patient in zip(d, patients, strict=True):
        of.setdefault(patient, []).append(value)
    means = [sum(values) / len(values) for values in of.values()]
    mean = sum(means) / len(means)
    error = (sum((m - mean) ** 2 for m in means) / (len(means) - 1) / len(means)) ** 0.5
    return Interval(mean, mean - 1.96 * error, mean + 1.96 * error)


def intervene(score, images, change, patients, how):
    before, after = (np.asarray(score(v), float) for v in (images, change(images)))
    d = {"absolute": abs(after - before), "after": after}.get(how, after - before)
    names = np.unique(patients)
    fold = np.sum if how == "sum" else np.mean
    means = np.array([fold(d[patients == name]) for name in names])
    means = d if how == "images" else -means if how == "sign" else means
    if how == "without unique":
        means = np.array([d[patients == name].mean() for name in patients])
    error = means.std(ddof=0 if how == "biased" else 1)
    error = error if how == "spread" else error / len(means) ** 0.5
    if how == "image error":
        error = d.std(ddof=1) / len(d) ** 0.5
    if how == "spread of images":
        error = d.std(ddof=1) / len(names) ** 0.5
    if how == "root of images":
        error = means.std(ddof=1) / len(d) ** 0.5
    if how == "root":
        error = error / len(means) ** 0.5
    if how == "unpaired":
        sides = [np.array([v[patients == name].mean() for name in names]) for v in (before, after)]
        error = np.hypot(*(side.std(ddof=1) for side in sides)) / len(names) ** 0.5
    reach = error if how == "factor" else 1.96 * error
    low, high = means.mean() - reach, means.mean() + reach
    return (means.mean(), high, low) if how == "order" else (means.mean(), low, high)


# ------------------------------------------------------------------------ 2: cells


def cells(labels, sign, scores, how=""):
    right = (scores > 0.5 if how == "strict" else scores >= 0.5) == (labels == 1)
    called = scores >= 0.5 if how == "ill" else ~right if how == "errors" else right
    table = [[called[(labels == a) & (sign == b)] for b in (0, 1)] for a in (0, 1)]
    sums = np.array([[cell.sum() for cell in row] for row in table], float)
    size = np.array([[len(cell) for cell in row] for row in table], float)
    return {
        "count": sums,
        "all": sums / size.sum(),
        "row": sums / size.sum(1, keepdims=True),
        "column": sums / size.sum(0, keepdims=True),
        "transposed": (sums / size).T,
        "columns": (sums / size)[:, ::-1],
        "rows": (sums / size)[::-1],
    }.get(how, sums / size)


# ------------------------------------------------------------------------ 3: the criterion


def verdict(low, high, at=0.1):
    if low > at:
        return "fails"
    return "passes" if high < at else "undecided"


# ------------------------------------------------------------------------ guided maps


class Gate(torch.autograd.Function):
    """A ReLU with a second gate on the way back."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g.clamp(min=0) * (z > 0)


def by_function(model, images, target):
    """Without hooks: the network's layers, one after another."""
    x = pictures = images.clone().requires_grad_()
    for layer in model:
        x = Gate.apply(x) if isinstance(layer, nn.ReLU) else layer(x)
    (slope,) = torch.autograd.grad(x[:, target].sum(), pictures)
    return slope.abs().amax(1)


# ------------------------------------------------------------------------ 4: covers

BOX = (slice(None), slice(None), slice(27, 32), slice(1, 7))


def leaky(pictures, threshold=0.7):
    stamp = pictures[:, 0, 27:32, 1:7].amax((1, 2)) > threshold
    covered = pictures.clone()
    covered[stamp, :, 27:32, 1:7] = pictures[stamp].mean()
    return covered


def filled(pictures, value, box=BOX):
    covered = pictures.clone()
    covered[box] = value(pictures) if callable(value) else value
    return covered


def around(pictures):
    """The mean of the rows above the corner, which no stamp reaches."""
    return pictures[:, :, 20:27].mean((1, 2, 3), keepdim=True)


def in_place(pictures):
    pictures[BOX] = 0
    return pictures


# ------------------------------------------------------------------------ 5: equal cells


def chances(labels, sign, of=lambda labels, sign: zip(labels, sign, strict=True)):
    """1 / the images of each image's group, divided by their sum."""
    groups = list(of(labels, sign))
    chance = np.array([1 / groups.count(group) for group in groups])
    return chance / chance.sum()


def independent(labels, sign):
    p = [np.mean(labels == a) * np.mean(sign == b) for a, b in zip(labels, sign, strict=True)]
    p = np.array(p) * chances(labels, sign)
    return p / p.sum()


def unequal_within(labels, sign):
    chance = chances(labels, sign)
    first, second = np.flatnonzero((labels == 0) & sign)[:2]
    chance[second] += chance[first] / 2
    chance[first] /= 2
    return chance


# ------------------------------------------------------------------------ 6: five networks


def changes(images):
    soft = F.avg_pool2d(F.pad(images, (1,) * 4, mode="replicate"), 3, 1)
    found = {"sharp": images + 0.5 * (images - soft), "bright": images + 0.1}
    for rows in (slice(2, 6), slice(26, 30)):
        for columns in (slice(2, 6), slice(26, 30)):
            marked = images.clone()
            marked[:, :, rows, columns] += 0.5
            found[f"corner {rows.start} {columns.start}"] = marked
    return {name: change.clamp(0, 1) for name, change in found.items()}


def suspicion(score, images, leave="none", of=np.mean):
    before = score(images)
    return max(
        abs(of(score(change) - before))
        for name, change in changes(images).items()
        if not name.startswith(leave)
    )


def harmful(score, images):
    covered = images.clone()
    covered[:, :, 8:24, 8:24] = 0.4
    return abs(np.mean(score(covered) - score(images)))


def at_random(score, images):
    return suspicion(score, images) + 1e-6 * np.random.default_rng().random()


CASES = [
    ("shortcuts.1", done.intervene, "✓"),
    ("shortcuts.1", by_loop, "✓"),
    ("shortcuts.1", lambda *a: torch.tensor(done.intervene(*a)), "✓"),
    ("shortcuts.1", lambda *a: done.intervene(*a)[0], "three numbers"),
    ("shortcuts.1", lambda *a: "effect", "three numbers"),
    *[
        ("shortcuts.1", partial(intervene, how=how), said)
        for how, said in {
            "sign": "your sign is turned round",
            "absolute": "averaged absolute differences",
            "images": "you averaged over images",
            "sum": "summed each patient's differences",
            "after": "the mean score after the change",
            "unpaired": "adds the spread of the scores before",
            "image error": "your standard error counts images",
            "root of images": "your standard error counts images",
            "spread of images": "your standard error counts images",
            "without unique": "you averaged over images",
            "root": "divided the spread by the number of patients",
            "spread": "that of single patients",
            "biased": "ddof=1",
            "factor": "reaches 1.96 standard errors",
            "order": "changed places",
        }.items()
    ],
    ("shortcuts.1", lambda *a: (0.1, 0.0, 0.2), "I expected"),
    ("shortcuts.2", cells, "✓"),
    ("shortcuts.2", lambda *a: torch.tensor(cells(*a)), "✓"),
    ("shortcuts.2", lambda *a: cells(*a).tolist(), "✓"),
    ("shortcuts.2", lambda *a: cells(*a)[0], "a table of 2 × 2"),
    ("shortcuts.2", lambda *a: {}, "a table of 2 × 2"),
    *[
        ("shortcuts.2", partial(cells, how=how), said)
        for how, said in {
            "ill": "images *called ill*",
            "errors": "shares called wrong",
            "transposed": "rows are labels",
            "columns": "without the sign comes first",
            "rows": "the healthy come first",
            "count": "these are counts",
            "all": "divided by all images. Divide",
            "row": "all images of a row",
            "column": "all images of a column",
            "strict": "exactly 0.5 calls ill",
        }.items()
    ],
    ("shortcuts.2", lambda *a: cells(*a) * 0.9, "at row"),
    ("shortcuts.3", verdict, "✓"),
    ("shortcuts.3", done.verdict, "✓"),
    ("shortcuts.3", lambda low, high: verdict(low, high).capitalize(), "✓"),
    ("shortcuts.3", lambda low, high: low > 0.1, "I expected"),
    ("shortcuts.3", lambda low, high: "maybe", "got 'maybe'"),
    ("shortcuts.3", lambda low, high: verdict(-high, -low, -0.1), "the one that fails"),
    ("shortcuts.3", lambda low, high: verdict(low, high, 0), "you compared with 0"),
    ("shortcuts.3", lambda low, high: verdict(*[(low + high) / 2] * 2), "the middle"),
    ("shortcuts.3", lambda low, high: "fails" if high > 0.1 else "passes", "One end"),
    ("shortcuts.3", lambda low, high: "fails" if low > 0.1 else "passes", "One end"),
    ("shortcuts.3", lambda low, high: "undecided", "I expected fails"),
    ("shortcuts.4", done.cover, "✓"),
    ("shortcuts.4", partial(filled, value=0.5), "✓"),
    ("shortcuts.4", partial(filled, value=around), "✓"),
    ("shortcuts.4", lambda p: torch.tensor(filled(p, 1).numpy()), "✓"),
    ("shortcuts.4", lambda p: filled(p, 0).numpy(), "✓"),
    ("shortcuts.4", lambda p: p[:, 0], "pictures of shape"),
    ("shortcuts.4", lambda p: 3, "got int"),
    ("shortcuts.4", leaky, "leave others as they are"),
    *[
        ("shortcuts.4", partial(leaky, threshold=value), "leave others as they are")
        for value in (0.55, 0.5, 0.3, 0.2)
    ],
    ("shortcuts.4", lambda p: p.clone(), "30 of the corner's 30"),
    ("shortcuts.4", in_place, "work on a copy"),
    (
        "shortcuts.4",
        partial(filled, value=lambda p: p.mean((1, 2, 3), keepdim=True)),
        "computed with the stamp in it",
    ),
    ("shortcuts.4", partial(filled, value=lambda p: p[BOX].amin((2, 3), keepdim=True)), "computed"),
    ("shortcuts.4", partial(filled, value=lambda p: p.mean()), "other pictures of its batch"),
    ("shortcuts.4", partial(filled, value=lambda p: p[BOX].min()), "other pictures of its batch"),
    ("shortcuts.4", partial(filled, value=lambda p: around(p).mean()), "whoever else is there"),
    (
        "shortcuts.4",
        partial(filled, value=0, box=(*BOX[:2], slice(28, 32), slice(1, 7))),
        "6 of the corner's 30",
    ),
    ("shortcuts.4", partial(filled, value=0, box=(*BOX[:2], slice(26, 32), BOX[3])), "outside the"),
    ("shortcuts.4", torch.zeros_like, "pictures are alike"),
    ("shortcuts.4", partial(filled, value=lambda p: torch.rand(9, 1, 5, 6)[: len(p)]), "two calls"),
    ("shortcuts.4", partial(filled, value=torch.nan), "NaN"),
    ("shortcuts.5", chances, "✓"),
    ("shortcuts.5", done.chances, "✓"),
    ("shortcuts.5", lambda *a: torch.tensor(chances(*a)), "✓"),
    ("shortcuts.5", lambda *a: chances(*a).tolist(), "✓"),
    ("shortcuts.5", lambda *a: chances(*a)[:4], "one probability for each"),
    ("shortcuts.5", lambda *a: {}, "one probability for each"),
    ("shortcuts.5", lambda y, s: chances(y, s) * np.nan, "hold NaN"),
    ("shortcuts.5", lambda y, s: -chances(y, s), "never negative"),
    ("shortcuts.5", lambda y, s: 4 * chances(y, s), "Give it a quarter"),
    ("shortcuts.5", lambda y, s: np.full(len(y), 0.25), "share the quarter"),
    ("shortcuts.5", lambda y, s: 0.25 / chances(y, s), "the numbers of images in each cell"),
    ("shortcuts.5", lambda y, s: 2 * chances(y, s), "add up to 2"),
    ("shortcuts.5", lambda y, s: np.full(len(y), 1 / len(y)), "as probable as every other"),
    ("shortcuts.5", lambda y, s: (1 / chances(y, s)) / (1 / chances(y, s)).sum(), "frequent cells"),
    ("shortcuts.5", partial(chances, of=lambda y, s: y), "among the ill"),
    ("shortcuts.5", partial(chances, of=lambda y, s: s), "within either"),
    ("shortcuts.5", independent, "rare labels or signs"),
    ("shortcuts.5", unequal_within, "two images of one cell"),
    ("shortcuts.5", lambda y, s: chances(y, s) ** 2 / (chances(y, s) ** 2).sum(), "not 1/4"),
    ("shortcuts.6", suspicion, "✓"),
    ("shortcuts.6", partial(suspicion, of=lambda d: np.sqrt(np.mean(d**2))), "✓"),
    ("shortcuts.6", lambda *a: torch.tensor([suspicion(*a)]), "✓"),
    ("shortcuts.6", partial(suspicion, leave="sharp"), "looks at sharpness"),
    ("shortcuts.6", partial(suspicion, leave="bright"), "looks at brightness"),
    ("shortcuts.6", partial(suspicion, leave="corner"), "looks at a corner"),
    ("shortcuts.6", lambda s, x: suspicion(s, x, of=lambda d: max(d.mean(), 0)), "looks at"),
    ("shortcuts.6", lambda s, x: s(x).std(), "as they are"),
    ("shortcuts.6", lambda s, x: s(x[:9]).mean(), "as they are"),
    ("shortcuts.6", harmful, "touches the middle"),
    ("shortcuts.6", lambda s, x: 1.0, "the same for all"),
    ("shortcuts.6", lambda s, x: s(x), "one number for each network"),
    ("shortcuts.6", lambda s, x: np.nan, "is NaN"),
    ("shortcuts.6", at_random, "two calls give two"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {"shortcuts.2": cells, "shortcuts.4": done.cover, "shortcuts.5": chances}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_that_change_their_arguments_are_right(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_the_interval_covers_the_mean_of_patients():
    rng, inside = np.random.default_rng(0), 0
    patients = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    for _ in range(400):
        values = 0.3 + rng.standard_normal(60)[patients] + 0.5 * rng.standard_normal(len(patients))
        _, low, high = done.average(values, patients)
        inside += low <= 0.3 <= high
    assert 0.92 <= inside / 400 <= 0.97


@pytest.mark.parametrize("target", [0, 1])
def test_guided_maps_have_a_second_gate_at_every_relu_and_leave_no_hook(target):
    torch.manual_seed(target)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3),
        nn.ReLU(),
        nn.Conv2d(5, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(120, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )
    images = torch.rand(6, 2, 8, 9) - 0.5
    before = explain.gradient(model, images, target)
    torch.testing.assert_close(
        done.guided(model, images, target), by_function(model, images, target)
    )
    assert torch.equal(explain.gradient(model, images, target), before)


def test_guided_maps_of_a_linear_network_are_its_gradient():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, 2))
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(done.guided(model, images, 1), explain.gradient(model, images, 1))


def test_rank_correlation_is_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.integers(0, 6, (5, 4, 4)).astype(np.float32)) for _ in range(2))
    expected = [
        spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(done.spearman(a, b), expected)
    assert done.spearman(torch.zeros(1, 4, 4), a[:1]) == 0  # a constant map ranks nothing


@pytest.mark.parametrize("layers", [0, 1, 5, 11])
def test_the_last_layers_and_no_others_are_redrawn(layers):
    torch.manual_seed(0)
    model = SmallCNN(width=4)
    model(torch.rand(8, 1, 32, 32))  # moves the statistics
    before = copy.deepcopy(model.state_dict())
    other = done.redrawn(model, layers, seed=1)
    whole = [m for m in other.modules() if hasattr(m, "reset_parameters")]
    kept = [m for m in model.modules() if hasattr(m, "reset_parameters")]
    same = [
        all(torch.equal(a.state_dict()[name], values) for name, values in b.state_dict().items())
        for a, b in zip(whole, kept, strict=True)
    ]
    assert len(same) == 11 and same == [True] * (11 - layers) + [False] * layers
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_measured_features_are_those_of_a_loop_over_pixels():
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.random((3, 1, 12, 12)).astype(np.float32))
    lungs = torch.zeros(3, 12, 12)
    lungs[:, 2:9, 1:5], lungs[:, 3:11, 7:11] = 1, 1
    found = done.measured(images, lungs, 0.05)
    for picture, inside, row in zip(images[:, 0].numpy(), lungs.numpy() > 0, found, strict=True):
        smooth = uniform_filter(picture, 3, mode="nearest")
        places = np.argwhere(inside)
        grey = picture[inside]
        left_side = places[:, 1] < 6  # the patient's right
        asymmetry = abs(grey[left_side].mean() - grey[~left_side].mean() - 0.05)
        texture = abs(picture - smooth)[inside].mean()
        expected = [grey.mean(), asymmetry, texture]
        np.testing.assert_allclose(row, expected, rtol=2e-4, atol=1e-6)


def test_signs_are_on_most_of_the_ill_and_few_of_the_healthy():
    labels = torch.arange(4000) % 2
    signs = done.signs(labels, np.random.default_rng(0))
    assert signs[labels == 1].float().mean() == pytest.approx(0.9, abs=0.02)
    assert signs[labels == 0].float().mean() == pytest.approx(0.1, abs=0.02)


def test_images_are_taken_with_the_signs_of_each():
    images, where = torch.rand(4, 1, 64, 64) * 0.5, torch.tensor([False, False, True, True])
    places = torch.zeros(4, 2, dtype=torch.int64)
    got = done.taken(images, places, where, where.roll(1))
    assert torch.equal(got[1], images[1])
    assert torch.equal(got[0], done.sharpened(images)[0])
    marked = done.stamped(images, places, where)
    assert torch.equal(got[2], marked[2])
    assert torch.equal(got[3], done.sharpened(marked)[3])


def test_log_odds_are_those_of_the_mean_logits():
    models = [SmallCNN(width=4).eval() for _ in range(2)]
    pictures = torch.rand(5, 1, 32, 32)
    with torch.no_grad():
        p = [model(pictures).softmax(1)[:, 1].double() for model in models]
    expected = sum((v / (1 - v)).log() for v in p) / 2
    np.testing.assert_allclose(done.log_odds(models, pictures), expected, rtol=1e-3, atol=1e-4)


def test_a_set_without_outlines_gets_a_box():
    part = medlab.load("chest_xray", n=4, size=64)
    assert torch.equal(done.outlines(part), part.extras["lungs"].float())
    box = done.outlines(medlab.load("kidney_us", n=3))
    assert box.shape == (3, 64, 64) and box.sum() == 3 * 40 * 48


def test_odds_ratios_are_those_of_the_simulation():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((4000, 2))
    y = rng.random(4000) < 1 / (1 + np.exp(-np.log(3) * z[:, 0]))
    model, (ratio, low, high) = done.odds_ratios(z * [1, 10] + 5, y, np.arange(4000), n=60)
    np.testing.assert_allclose(ratio, [3, 1], rtol=0.1)
    assert (low < [3, 1]).all() and (high > [3, 1]).all() and (high / low < 1.4).all()
    one_more = np.diff(model.decision_function([[5, 5], [5 + z[:, 0].std(), 5]])).item()
    assert np.exp(one_more) == pytest.approx(ratio[0])


# Changes that make no difference, or only on the very edge of the criterion
EQUIVALENT = [
    "shortcuts.2: for label in (0, 1): → for label in (1, 0):",
    "shortcuts.2: for marked in (0, 1): → for marked in (1, 0):",
    "shortcuts.2: table = np.zeros((2, 2)) → table = np.ones((2, 2))",
    "shortcuts.2: table[label, marked] = right[(labels == label) & (sign == marked)].mean() → table[label, marked] = right[(sign == marked) & (labels == label)].mean()",
    "shortcuts.3: if high < 0.1: → if high <= 0.1:",
    "shortcuts.3: if low > 0.1: → if low >= 0.1:",
    "shortcuts.4: covered[:, :, 27:32, 1:7] = 0 → covered[:, :, 27:, 1:7] = 0",
    "shortcuts.4: covered[:, :, 27:32, 1:7] = 0 → covered[:, :, 27:32, 1:7] = 1",
    "shortcuts.4: covered[:, :, 27:32, 1:7] = 0 → covered[:, :, 27:33, 1:7] = 0",
    "shortcuts.5: cell = (labels == label) & (sign == marked) → cell = (labels != label) & (sign == marked)",
    "shortcuts.5: cell = (labels == label) & (sign == marked) → cell = (labels == label) & (sign != marked)",
    "shortcuts.5: cell = (labels == label) & (sign == marked) → cell = (sign == marked) & (labels == label)",
    "shortcuts.5: chance = np.zeros(len(labels)) → chance = np.ones(len(labels))",
    "shortcuts.5: for label in (0, 1): → for label in (1, 0):",
    "shortcuts.5: for marked in (0, 1): → for marked in (1, 0):",
]


def test_no_changed_solution_is_called_right():
    # Of exercise 6 many solutions are good enough
    assert ticked("26_shortcuts", "shortcuts", without=["shortcuts.6"]) == EQUIVALENT
