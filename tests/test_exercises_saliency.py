"""The checks of saliency, fed with right, untouched and typically wrong answers."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medlab import explain
from medlab.exercises import saliency
from medlab.exercises.saliency import MESSAGES
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: occlusion


def occlude(f, x, cover, places, how=""):
    cover = cover.expand_as(x)
    maps, count = torch.zeros_like(x[:, 0]), torch.zeros_like(x[0, 0])
    piled, before = x.clone(), f(x)
    for rows, cols in places:
        covered = {"pile": piled, "changed": x}.get(how, x.clone())
        paste = cover[..., rows, cols]
        if how == "zero":
            paste = 0
        if how == "mean":
            paste = cover.mean((2, 3), keepdim=True)
        if how == "elsewhere":
            height, width = x[0, 0, rows, cols].shape
            paste = cover[..., :height, :width]
        if how == "inverse":
            covered = cover.clone()
            paste = x[..., rows, cols]
        kept = x[..., rows, cols].clone()
        covered[..., rows, cols] = paste
        after = f(covered)
        if how == "changed":
            x[..., rows, cols] = kept
        fall = {"covered": after, "sign": after - before}.get(how, before - after)
        if how == "size":
            fall = fall.abs()
        if how == "relu":
            fall = fall.clamp_min(0)
        if how == "batch":
            fall = fall.mean().expand(len(x))
        if how == "corner":
            maps[:, rows.start, cols.start] += fall
        elif how == "last":
            maps[:, rows, cols] = fall[:, None, None]
        else:
            maps[:, rows, cols] += fall[:, None, None]
        count[rows, cols] += 1
    if how == "changed":
        x += 1
    if how in ("sum", "corner", "last"):
        return maps
    if how == "other":
        return maps / count / 3
    if how == "relu at the end":
        return (maps / count).clamp_min(0)
    if how == "size at the end":
        return (maps / count).abs()
    return maps / (len(places) if how == "patches" else count)


# ------------------------------------------------------------------------ 2: integrated gradients


def slope(f, point):
    point = point.detach().clone().requires_grad_()
    f(point).sum().backward()
    return point.grad


def integrate(f, x, b, steps, how=""):
    total, piled = torch.zeros_like(x), torch.zeros_like(x)
    for k in range(steps):
        alpha = {"left": k / steps, "right": (k + 1) / steps, "both": k / (steps - 1)}.get(
            how, (k + 0.5) / steps
        )
        point = {"at x": x, "at b": b.expand_as(x), "from black": alpha * x}.get(
            how, b + alpha * (x - b)
        )
        s = slope(f, point)
        if how == "trapezoid":
            s = (slope(f, b + k / steps * (x - b)) + slope(f, b + (k + 1) / steps * (x - b))) / 2
        total = total + (s.abs() if how == "size" else s)
        piled = piled + total
    way = {"times x": x, "no way": 1, "sign": b - x}.get(how, x - b)
    if how == "added up":
        total = piled
    if how == "total":
        total = total.mean(0, keepdim=True)
    if how == "changed":
        x += 1
    if how == "other":
        way = way / 3
    return way * total / (1 if how == "sum" else steps)


def trapezoid(f, x, b, steps):
    alphas = torch.linspace(0, 1, steps)
    slopes = torch.stack([slope(f, b + alpha * (x - b)) for alpha in alphas])
    return (x - b) * torch.trapezoid(slopes, alphas, dim=0)


def gauss(f, x, b, steps):
    points, weights = np.polynomial.legendre.leggauss(steps)
    slopes = [w / 2 * slope(f, b + (p + 1) / 2 * (x - b)) for p, w in zip(points, weights)]  # noqa: B905
    return ((x - b) * sum(slopes))[:, 0].numpy()


# ------------------------------------------------------------------------ 3: Grad-CAM


def cam(maps, slopes, size, how=""):
    weights = (slopes.sum if how == "sum" else slopes.mean)((2, 3), keepdim=True)
    if how == "pixelwise":
        weights = slopes
    if how == "size":
        weights = weights.abs()
    if how == "batch":
        weights = weights.mean(0, keepdim=True)
    if how == "no weights":
        weights = 1
    parts = slopes if how == "slopes" else weights * maps
    if how == "early relu":
        parts = parts.clamp_min(0)
    coarse = (parts.mean if how == "mean" else parts.sum)(1, keepdim=True)
    if how not in ("no relu", "late relu"):
        coarse = coarse.clamp_min(0)
    mode = {"mode": "nearest"} if how == "nearest" else {"mode": "bilinear"}
    if how == "corners":
        mode["align_corners"] = True
    found = F.interpolate(coarse, (size, size), **mode)[:, 0]
    if how == "late relu":
        found = found.clamp_min(0)
    if how == "scaled":
        found = found / found.amax((1, 2), keepdim=True)
    if how == "changed":
        maps *= 2
    return found / 3 if how == "other" else found


# ------------------------------------------------------------------------ 4: a rival


def rival(images, train, labels, masks, how=""):
    healthy = train[labels == 0].mean(0)
    usual = (masks[labels == 1] > 0).float().mean(0)
    brighter = (images - healthy)[:, 0].clamp_min(0)
    if how == "alone":
        return (images - images.mean(0))[:, 0] * usual
    if how == "weak":
        return (healthy - images)[:, 0].abs() * usual
    if how == "nan":
        return torch.log(brighter)
    return {
        "usual": usual.expand_as(brighter),
        "no place": brighter,
        "no healthy": images[:, 0] * usual,
    }.get(how, brighter * usual)


# ------------------------------------------------------------------------ 5: maps that mislead


def misled(p, maps, masks, sure, how=""):
    found = []
    for i in range(len(p)):
        seen = {"lowest": -maps[i], "absolute": maps[i].abs()}.get(how, maps[i])
        row, col = divmod(int(seen.argmax()), maps.shape[2])
        if how == "transposed":
            row, col = col, row
        inside = masks[i, row, col] == 1 if how == "above" else masks[i, row, col] > 0
        if how == "inside":
            inside = not inside
        if how == "any":
            inside = not ((maps[i] > 0) & (masks[i] == 0)).any()
        kept = {"unsure": True, "strict": p[i] > sure, "doubt": p[i] < sure}.get(how, p[i] >= sure)
        if kept and not inside:
            found.append(i)
    if how == "flags":
        return [i in found for i in range(len(p))]
    if how == "other":
        return found[:2]
    return found if how == "order" else sorted(found, key=lambda i: -p[i])


# ------------------------------------------------------------------------ 6: a design


def design(f, x, train, labels, how=""):
    usual = train[labels == 0].mean(0, keepdim=True)
    if how == "not asked":
        return (x - usual).clamp_min(0)
    if how == "times a number":
        return (x - usual).clamp_min(0) ** 4 * f(x)[:, None, None, None]
    if how == "slope at x":
        return (x - usual) * slope(f, x)
    if how == "silent":
        return integrate(f, x, usual, 32) + 0.1
    if how == "ill":
        found = integrate(f, x, usual, 32)
        return found - 0.1 * found.mean(0)
    if how == "nan":
        return integrate(f, x, usual, 32).log()
    return integrate(f, x, torch.zeros_like(usual) if how == "weak" else usual, 32)


ANSWERS = {1: occlude, 2: integrate, 3: cam, 4: rival, 5: misled, 6: design}
ALIASES = {
    1: {"relu at the end": "relu", "size at the end": "size"},
    2: {"left": "ends", "right": "ends", "both": "ends"},
}
CASES = []
for k, answer in ANSWERS.items():
    id = f"saliency.{k}"
    hows = {key: key for key in MESSAGES[id] if key not in ("right", "format")}
    hows = {how: key for how, key in hows.items() if (k, how) != (2, "ends")}
    hows |= ALIASES.get(k, {})
    CASES += [(id, partial(answer, how=how), MESSAGES[id][key]) for how, key in hows.items()]
CASES += [
    ("saliency.2", trapezoid, MESSAGES["saliency.2"]["trapezoid"]),
    ("saliency.6", partial(design, how="times a number"), MESSAGES["saliency.6"]["not asked"]),
]
FORMATS = [
    ("saliency.1", lambda f, x, *_: f(x)),
    ("saliency.2", lambda f, x, *_: "maps"),
    ("saliency.3", lambda maps, *_: maps),
    ("saliency.4", lambda images, *_: images.mean()),
    ("saliency.5", lambda p, *_: p),
    ("saliency.5", lambda p, *_: 3),
    ("saliency.5", lambda p, *_: ["x"]),
    ("saliency.5", lambda p, *_: [99]),
    ("saliency.6", lambda f, x, *_: f(x)),
]


def opening(text):
    return text.split("{")[0]


@pytest.mark.parametrize(("id", "answer", "text"), CASES)
def test_a_mistake_is_called_by_its_name(id, answer, text, capsys):
    is_told(id, answer, " ".join(opening(text).split()).strip(), capsys)


@pytest.mark.parametrize(("id", "answer"), FORMATS)
def test_another_format_is_told(id, answer, capsys):
    is_told(id, answer, "I expected", capsys)


RIGHT = [(f"saliency.{k}", answer) for k, answer in ANSWERS.items()] + [
    ("saliency.1", lambda *given: occlude(*given)[:, None]),
    ("saliency.1", lambda *given: occlude(*given).numpy()),
    ("saliency.1", lambda *given: occlude(*given).tolist()),
    ("saliency.2", gauss),
    ("saliency.2", lambda *given: integrate(*given)[:, 0]),
    ("saliency.3", lambda *given: cam(*given)[:, None]),
    ("saliency.3", lambda *given: cam(*given).numpy()),
    ("saliency.4", lambda *given: 7 * rival(*given).numpy()),
    ("saliency.5", lambda *given: np.array(misled(*given))),
    ("saliency.5", lambda *given: torch.tensor(misled(*given))),
    ("saliency.5", lambda *given: tuple(misled(*given))),
    ("saliency.6", lambda *given: design(*given)[:, 0].numpy()),
    ("saliency.6", partial(design, how="slope at x")),
]


@pytest.mark.parametrize(("id", "answer"), RIGHT)
def test_right_answers_in_every_form(id, answer, capsys):
    is_told(id, answer, "✓", capsys)


@pytest.mark.parametrize("k", ANSWERS)
def test_what_is_no_answer(k, capsys):
    is_told_what_is_no_answer(f"saliency.{k}", capsys)


@pytest.mark.parametrize("k", [4, 5, 6])
def test_a_hasty_answer_spoils_nothing(k, capsys):
    for _ in range(2):
        is_told(f"saliency.{k}", hasty(ANSWERS[k]), "✓", capsys)


def test_every_message_is_heard(capsys):
    cases = CASES + FORMATS + [(id, answer) for id, answer in RIGHT]
    assert unheard(MESSAGES, cases, capsys) == []


def test_the_finished_answers_are_those_of_explain():
    done = saliency.material()
    x = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    own = x.mean((2, 3), keepdim=True)
    patch, stride, places = done.patches(16)
    found = done.occlude(lambda z: net(z)[:, 1], x, own, places)
    torch.testing.assert_close(found, explain.occlusion(net, x, 1, patch=patch, stride=stride))
    found = done.integrate(lambda z: net(z)[:, 1], x, x[:1] / 2, 4)[:, 0]
    expected = explain.integrated_gradients(net, x, 1, baseline=x[0] / 2, steps=4)
    torch.testing.assert_close(found, expected)


def test_one_image_of_each_patient():
    p = torch.tensor([0.2, 0.9, 0.8, 0.9, 0.1])
    assert saliency.once(p, np.array(["a", "b", "b", "c", "a"])) == [1, 3, 0]
    assert saliency.once(p, None) == [1, 3, 2, 0, 4]


def test_six_images_to_be_told_apart():
    p = torch.tensor([0.9, 0.3, 0.8, 0.42, 0.95, 0.6, 0.39, 0.1])
    labels = torch.tensor([1, 0, 1, 1, 1, 0, 1, 0])
    assert saliency.six(p, labels).tolist() == [5, 4, 6, 3, 1, 0]
    assert saliency.six(p, labels.numpy()).tolist() == [5, 4, 6, 3, 1, 0]


def test_a_mean_is_told_with_its_interval_over_patients():
    values = np.array([[0.0, 0.5, 0.0, 1.0], [1.0, 0.5, 0.0, 1.0]]) - 0.502
    patients = np.array(["a", "b", "b", "c"])
    found = saliency.interval(values, patients)
    assert found.value == pytest.approx(values.mean())
    assert found.low < found.value < found.high
    # Patients whose images are alike: nothing is left to resample within them
    twice = saliency.interval(np.repeat(values, 2, axis=1), np.repeat(patients, 2))
    assert (twice.low, twice.high) == pytest.approx((found.low, found.high))
    assert saliency.told(values, patients).startswith("+0.00 (-")


def test_each_image_by_itself():
    rng = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 5, 4, 4, generator=rng)
    masks = torch.zeros(5, 4, 4)
    masks[:, :2, 1:] = 1
    found = saliency.each(explain.energy_inside, list(maps), masks)
    assert found.shape == (2, 5)
    mean = [explain.energy_inside(run, masks) for run in maps]
    np.testing.assert_allclose(found.mean(1), mean)
    assert saliency.each(explain.energy_inside, maps[0], masks).shape == (1, 5)


# 4 and 6 are designs, and what scores as well is as good:
# a few steps more or less, another unit, the mean of the ill for that of the healthy
EQUIVALENT = [
    "saliency.1: maps, count = (torch.zeros_like(x[:, 0]), torch.zeros_like(x[0, 0])) → maps, count = (torch.zeros_like(x[:, 0]), torch.zeros_like(x[1, 0]))",
    "saliency.3: weights = slopes.mean((2, 3), keepdim=True) → weights = slopes.mean((3, 2), keepdim=True)",
    "saliency.4: healthy = train[labels == 0].mean(0) → healthy = train[labels != 0].mean(0)",
    "saliency.4: healthy = train[labels == 0].mean(0) → healthy = train[labels == 1].mean(0)",
    "saliency.4: usual = (masks[labels == 1] > 0).float().mean(0) → usual = (masks[labels == 1] > 0).float().sum(0)",
    "saliency.6: for k in range(32): → for k in range(1, 32):",
    "saliency.6: for k in range(32): → for k in range(31):",
    "saliency.6: for k in range(32): → for k in range(33):",
    "saliency.6: point = (usual + (k + 0.5) / 32 * (x - usual)).detach().requires_grad_() → point = (usual + (k + 0.5) / 31 * (x - usual)).detach().requires_grad_()",
    "saliency.6: point = (usual + (k + 0.5) / 32 * (x - usual)).detach().requires_grad_() → point = (usual + (k + 0.5) / 33 * (x - usual)).detach().requires_grad_()",
    "saliency.6: point = (usual + (k + 0.5) / 32 * (x - usual)).detach().requires_grad_() → point = (usual + (k + 1.5) / 32 * (x - usual)).detach().requires_grad_()",
    "saliency.6: point = (usual + (k + 0.5) / 32 * (x - usual)).detach().requires_grad_() → point = (usual + (k - 0.5) / 32 * (x - usual)).detach().requires_grad_()",
    "saliency.6: point = (usual + (k + 0.5) / 32 * (x - usual)).detach().requires_grad_() → point = (usual + (x - usual)).detach().requires_grad_()",
    "saliency.6: point = (usual + (k + 0.5) / 32 * (x - usual)).detach().requires_grad_() → point = (usual + k / 32 * (x - usual)).detach().requires_grad_()",
    "saliency.6: return ((x - usual) * total / 32)[:, 0] → return ((x - usual) * total * 32)[:, 0]",
    "saliency.6: return ((x - usual) * total / 32)[:, 0] → return ((x - usual) * total / 31)[:, 0]",
    "saliency.6: return ((x - usual) * total / 32)[:, 0] → return ((x - usual) * total / 33)[:, 0]",
    "saliency.6: return ((x - usual) * total / 32)[:, 0] → return ((x - usual) * total)[:, 0]",
    "saliency.6: total += torch.autograd.grad(f(point).sum(), point)[0] → total = torch.autograd.grad(f(point).sum(), point)[0]",
    "saliency.6: usual = train[labels == 0].mean(0, keepdim=True) → usual = train[labels != 0].mean(0, keepdim=True)",
    "saliency.6: usual = train[labels == 0].mean(0, keepdim=True) → usual = train[labels == 0].mean(0)",
    "saliency.6: usual = train[labels == 0].mean(0, keepdim=True) → usual = train[labels == 0].mean(0, keepdim=False)",
    "saliency.6: usual = train[labels == 0].mean(0, keepdim=True) → usual = train[labels == 1].mean(0, keepdim=True)",
]


def test_no_changed_solution_is_called_right():
    assert ticked("25_saliency", "saliency") == EQUIVALENT
