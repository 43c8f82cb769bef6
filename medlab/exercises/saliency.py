"""Exercises of notebook 25: occlusion, integrated gradients, Grad-CAM, a map without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from medlab.cohort import Cohort, to_float
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, first_match, near
from medlab.explain import energy_inside, pointing_game
from medlab.metrics import Interval, bootstrap
from medlab.simulate import chest_xray

SHARE = 0.4  # energy inside that a rival must reach
LEAST = 0.9  # energy inside that a map must reach
Score = Callable[[Tensor], Tensor]
Place = tuple[slice, slice]

MESSAGES = {
    "saliency.1": {
        "right": "each pixel holds the mean fall over the patches that cover it.",
        "format": "I expected maps of shape {shape}, one an image; got {got}.",
        "changed": "your function changed `x`: paste into a copy, `x.clone()`.",
        "pile": "your patches pile up: each image must have *one* patch covered. Copy x anew in "
        "the loop.",
        "sign": "the sign is turned: the *fall* is the output before less the output after.",
        "covered": "you added the outputs after covering. Subtract them from the output before.",
        "sum": "you added up the falls. Divide each pixel by the number of patches that cover it.",
        "patches": "you divided by the number of all patches. Each pixel by that of the patches "
        "that cover it.",
        "last": "of patches that overlap, only the last one counts: add with `+=`.",
        "corner": "you wrote the fall into the patch's corner only. It belongs to every pixel that "
        "the patch covers.",
        "zero": "you covered with 0. Paste what `cover` shows in the same place.",
        "mean": "you covered with the mean of `cover`. Paste what it shows in the same place.",
        "elsewhere": "you pasted the first pixels of `cover`. Paste those of the same place.",
        "inverse": "you covered all *but* the patch.",
        "batch": "all images got one map. The fall belongs to its own image.",
        "size": "you took absolute values. A fall and a rise are different answers.",
        "relu": "you cut negative values off. A patch that speaks against pneumonia counts too.",
        "other": "I expected {expected:.4f} at image {at[0]}, row {at[1]}, column {at[2]}, and got "
        "{got:.4f}.",
    },
    "saliency.2": {
        "right": "the pixels' values add up to f(x) − f(b).",
        "format": "I expected maps of the shape of x, {shape}; got {got}.",
        "changed": "your function changed `x` or `b` in place. Make new tensors.",
        "no way": "that is the mean slope along the path. Multiply it by x − b.",
        "times x": "you multiplied the mean slope by x. From b to x the pixel goes only x − b.",
        "at x": "you took the slope at x alone. Walk along the path: b + α (x − b).",
        "at b": "you took the slope at b alone. Walk along the path: b + α (x − b).",
        "from black": "your path starts at black. It should start at b.",
        "sum": "you added the slopes of all steps. Take their mean.",
        "sign": "your path is right and your sign is turned: x − b, not b − x.",
        "size": "you took absolute values: what speaks against pneumonia must be subtracted.",
        "trapezoid": "that is the trapezoid rule, with twice the error of the middles. Take "
        "(k + ½) / steps.",
        "ends": "your α sit at the ends of their steps. Take the middles, (k + ½) / steps: a "
        "step's error then nearly cancels.",
        "added up": "the slopes of earlier steps are still in yours: `backward` adds to `.grad`. "
        "Use `torch.autograd.grad`.",
        "total": "your values are right only for one image: sum f over the images, and each image "
        "keeps its own slope.",
        "other": "with {steps} steps the values of the first image add up to {got:.4f}; f(x) − f(b)"
        " is {expected:.4f}.",
    },
    "saliency.3": {
        "right": "one weight a feature map, one map an image.",
        "format": "I expected maps of shape {shape}; got {got}.",
        "no relu": "cut off what is negative: Grad-CAM keeps what speaks *for* the class.",
        "early relu": "you cut negative values off before the sum over k. Those maps may well "
        "subtract; cut off at the end.",
        "late relu": "you enlarged first and cut off afterwards. Cut off the coarse map.",
        "sum": "your weights are sums over positions. Take means.",
        "pixelwise": "you multiplied place by place. Average each slope over its positions first: "
        "one weight a feature map.",
        "no weights": "you added the feature maps without their weights.",
        "slopes": "that is the map of the slopes alone. Multiply the feature maps by the weights.",
        "mean": "you averaged over the feature maps. The formula has a sum.",
        "batch": "your weights are averaged over the images too. Each image has its own.",
        "size": "you took the weights' absolute values: a map that speaks against must subtract.",
        "nearest": 'you enlarged by repeating pixels. Use `mode="bilinear"`.',
        "corners": "you enlarged with `align_corners=True`, which moves the map by half a cell.",
        "scaled": "you divided the map by its maximum. Keep the unit.",
        "changed": "your function changed its arguments in place. Make new tensors.",
        "other": "I expected {expected:.4f} at image {at[0]}, row {at[1]}, column {at[2]}, and got "
        "{got:.4f}.",
    },
    "saliency.4": {
        "right": "energy inside {got:.2f}, pointing game {hits:.2f}, and nobody asked a network.",
        "format": "I expected maps of shape {shape}; got {got}.",
        "nan": "your map holds NaN or infinite values.",
        "alone": "an image's map changes with the other images. Knowledge comes from the training "
        "patients; each new image is judged by itself.",
        "usual": "energy inside {got:.2f}: your map is the same for every image. Look at the image "
        "too.",
        "no place": "energy inside {got:.2f}; I asked for {least}. Your map makes no use of the "
        "training masks: where are lesions, usually?",
        "no healthy": "energy inside {got:.2f}; I asked for {least}. Your map makes no use of the "
        "healthy training images: bright in comparison with what?",
        "weak": "energy inside {got:.2f}; I asked for {least}. Your map uses both. Is it high only "
        "where the image is *brighter* than the healthy, and lesions are usual?",
    },
    "saliency.5": {
        "right": "sure, right, and looking elsewhere.",
        "format": "I expected positions of images, whole numbers 0 to {most}; got {got}.",
        "inside": "these are the images whose highest point lies *inside*.",
        "unsure": "you kept images with a probability below {sure:g}.",
        "strict": "a probability of exactly {sure:g} is sure enough.",
        "order": "these are the right images. Put the surest first; of equally sure ones, that "
        "which stands first.",
        "transposed": "row and column are swapped where you look into the mask.",
        "doubt": "you kept the images with a probability *below* {sure:g}.",
        "any": "you kept images whose map is positive somewhere outside. Only the highest point "
        "counts.",
        "lowest": "you looked at the lowest point of each map.",
        "absolute": "you took absolute values: the highest point is the greatest value, not the "
        "furthest from 0.",
        "above": "the mask's numbers are not all 1: inside is every value above 0.",
        "flags": "return positions, not True and False: `np.flatnonzero`, say.",
        "other": "I expected {expected}, and got {got}.",
    },
    "saliency.6": {
        "right": "energy inside {got:.2f}; covered with black it is {black:.2f}, with the image's "
        "own mean {own:.2f}.",
        "format": "I expected maps of shape {shape}; got {got}.",
        "nan": "your map holds NaN or infinite values.",
        "not asked": "for a network that looks elsewhere your map keeps its shape: it does not ask "
        "f *where*. It may be a good map of lesions, and says nothing about the network.",
        "silent": "a network that answers 0 to everything gave a map that is not 0.",
        "ill": "a map of an image changes with the other images of `x`.",
        "weak": "energy inside {got:.2f}; I asked for {least}. Which image would this network call "
        "unremarkable everywhere? Compare with that one.",
    },
}


def material() -> SimpleNamespace:
    """Finished answers of the exercises, so that nobody needs their own for what follows."""
    answers = {"occlude": occlude, "integrate": integrate, "cam": cam, "misled": misled}
    scores = {"rivals": rivals, "each": each, "interval": interval, "told": told}
    return SimpleNamespace(**answers, **scores, patches=patches, once=once, six=six)


def _maps(raw: Any, shape: tuple[int, ...]) -> Tensor:
    """The answer as float64 maps (N, H, W); an axis of one channel may stand between."""
    try:
        found = torch.as_tensor(raw).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        raise Wrong("format", shape=shape, got=type(raw).__name__) from None
    if found.shape == (shape[0], 1, *shape[1:]):
        found = found[:, 0]
    if found.shape != shape:
        raise Wrong("format", shape=shape, got=tuple(found.shape))
    return found


def _first_gap(found: Tensor, want: Tensor) -> dict[str, Any]:
    at = [int(k) for k in torch.nonzero(~torch.isclose(found, want, rtol=1e-3, atol=1e-6))[0]]
    return {"at": at, "expected": want[tuple(at)].item(), "got": found[tuple(at)].item()}


# --- 1: occlusion ---


def occlude(f: Score, x: Tensor, cover: Tensor, places: list[Place]) -> Tensor:
    """Mean fall of f (N,) over the patches that cover each pixel, (N, H, W)."""
    maps = torch.zeros_like(x[:, 0])
    count = torch.zeros_like(x[0, 0])
    cover = cover.expand_as(x)
    with torch.no_grad():
        before = f(x)
        for rows, columns in places:
            where = (..., rows, columns)
            covered = x.clone()
            covered[where] = cover[where]
            maps[where] += (before - f(covered))[:, None, None]
            count[where] += 1
    return maps / count


def patches(side: int) -> tuple[int, int, list[Place]]:
    """Patches of a quarter of an image's side: their side, stride, rows and columns."""
    patch, stride = side // 4, 3 * (side // 4) // 4
    return patch, stride, _grid(patch, [*range(0, side - patch, stride), side - patch])


def _grid(patch: int, starts: list[int]) -> list[Place]:
    cut = [slice(start, start + patch) for start in starts]
    return list(product(cut, cut))


def _nets(seed: int, side: int) -> Score:
    """A function of every pixel, not linear, both signs."""
    rng = torch.Generator().manual_seed(100 + seed)
    weight = torch.randn(side, side, generator=rng, dtype=torch.float64)

    def f(images: Tensor) -> Tensor:
        linear = (images[:, 0] * weight).sum((1, 2))
        return linear + 0.3 * (images[:, 0] * weight.T).sum((1, 2)).square()

    return f


@cache
def _covered(seed: int) -> tuple[Score, Tensor, Tensor, list[Place]]:
    rng = torch.Generator().manual_seed(seed)
    side, patch, starts = ((9, 4, [0, 3, 5]), (7, 3, [0, 1, 4]))[seed]
    x = torch.rand(3, 1, side, side, generator=rng, dtype=torch.float64)
    cover = torch.rand(1 + 2 * seed, 1, side, side, generator=rng, dtype=torch.float64)
    places = [*_grid(patch, starts), (slice(0, 2), slice(1, side))]
    return _nets(seed, side), x, cover, places


def _mistaken_covers(f: Score, x: Tensor, cover: Tensor, places: list[Place]) -> dict[str, Tensor]:
    cover = cover.expand_as(x)
    count, piled = torch.zeros_like(x[0, 0]), x.clone()
    names = ("pile", "covered", "last", "corner", "zero", "mean", "elsewhere", "inverse", "batch")
    found = {name: torch.zeros_like(x[:, 0]) for name in (*names, "size", "relu", "sum")}
    plain, before = f(x), f(x)
    for rows, columns in places:
        where = (..., rows, columns)
        count[where] += 1
        piled[where] = cover[where]
        one = x.clone()
        one[where] = cover[where]
        fall = before - f(one)
        rest = cover.clone()
        rest[where] = x[where]
        mean = cover.mean((2, 3), keepdim=True)
        pasted = {"zero": torch.zeros_like(mean), "mean": mean}
        height, width = one[where].shape[-2:]
        pasted["elsewhere"] = cover[..., :height, :width]
        falls = {
            "pile": plain - f(piled),
            "covered": f(one),
            "sum": fall,
            "size": fall.abs(),
            "relu": fall.clamp_min(0),
            "inverse": before - f(rest),
            "batch": fall.mean().expand(len(x)),
        }
        for name, what in pasted.items():
            other = x.clone()
            other[where] = what
            falls[name] = before - f(other)
        for name, value in falls.items():
            found[name][where] += value[:, None, None]
        found["last"][where] = fall[:, None, None]
        found["corner"][:, rows.start, columns.start] += fall
    total, corner, last = found.pop("sum"), found.pop("corner"), found.pop("last")
    found = {name: value / count for name, value in found.items()}
    found |= {"sign": -total / count, "sum": total, "patches": total / len(places)}
    return found | {"last": last, "corner": corner, "relu too": (total / count).clamp_min(0)}


@exercise("saliency.1", MESSAGES["saliency.1"])
def occlusion(answer) -> Verdict:
    verdicts = []
    for seed in (0, 1):
        f, x, cover, places = _covered(seed)
        given = x.clone()
        raw = call(answer, f, given, cover.clone(), list(places))
        want = occlude(f, x, cover, places)
        found = _maps(raw, tuple(want.shape))
        if near(found, want):
            if not torch.equal(given, x):
                return "changed"
            continue
        wrong = _mistaken_covers(f, x, cover, places)
        key = first_match(found, wrong)
        alike = near(found, wrong["relu too"]) or near(found, (want * 1).abs())
        if alike:
            key = "relu" if near(found, wrong["relu too"]) else "size"
        if key == "other" and not torch.equal(given, x):
            key = "changed"
        verdicts.append((key, _first_gap(found, want)))
    return verdicts[0] if verdicts else "right"


# --- 2: integrated gradients ---


def integrate(f: Score, x: Tensor, b: Tensor, steps: int) -> Tensor:
    """(x − b) times the mean slope of f at the middles of the steps from b to x, shape of x."""
    total = torch.zeros_like(x)
    for k in range(steps):
        total += _slope(f, b + (k + 0.5) / steps * (x - b))
    return (x - b) * total / steps


def _slope(f: Score, point: Tensor) -> Tensor:
    with torch.enable_grad():
        point = point.detach().clone().requires_grad_()
        return torch.autograd.grad(f(point).sum(), point)[0]


def _curve(images: Tensor) -> Tensor:
    """Cubic in one average, squared in the pixels: slopes change all along a path."""
    side = images.shape[-1]
    ramp = torch.linspace(-1, 2, side * side, dtype=images.dtype).view(side, side)
    mean = (images[:, 0] * ramp).mean((1, 2))
    return 2 * mean + 3 * mean**3 + (images[:, 0].square() * ramp.T).mean((1, 2))


@cache
def _path(seed: int) -> tuple[Tensor, Tensor, int]:
    rng = torch.Generator().manual_seed(20 + seed)
    x = 2 * torch.rand(3, 1, 5, 5, generator=rng, dtype=torch.float64) - 0.5
    b = torch.rand(1, 1, 5, 5, generator=rng, dtype=torch.float64)
    return x, b, (3, 5)[seed]


def _mistaken_paths(x: Tensor, b: Tensor, steps: int) -> Iterator[tuple[str, Tensor]]:
    middles = [(k + 0.5) / steps for k in range(steps)]
    slopes = [_slope(_curve, b + a * (x - b)) for a in middles]
    mean = torch.stack(slopes).mean(0)
    from_black = torch.stack([_slope(_curve, a * x) for a in middles]).mean(0)
    at_x, at_b = _slope(_curve, x), _slope(_curve, b.expand_as(x))
    way = x - b
    piled, running = torch.zeros_like(x), torch.zeros_like(x)
    for slope in slopes:
        running = running + slope
        piled = piled + running
    yield "no way", mean
    yield "times x", mean * x
    yield from (("at x", s * w) for s, w in product([at_x], [way, x, torch.ones_like(x)]))
    yield from (("at b", s * w) for s, w in product([at_b], [way, x, torch.ones_like(x)]))
    yield from (("from black", from_black * w) for w in (x, way, torch.ones_like(x)))
    yield "sum", mean * steps * way
    yield "sign", -mean * way
    yield "size", (mean * way).abs()
    yield "size", mean.abs() * way
    yield "size", torch.stack(slopes).abs().mean(0) * way
    yield "added up", piled / steps * way
    yield "added up", piled * way
    yield "total", (mean * way).sum(0, keepdim=True).expand_as(x)
    yield "total", mean.mean(0, keepdim=True) * way
    ends = [_slope(_curve, b + k / steps * (x - b)) for k in range(steps + 1)]
    yield "trapezoid", torch.trapezoid(torch.stack(ends), dim=0) / steps * way
    inner = [_slope(_curve, b + k / (steps - 1) * (x - b)) for k in range(steps)]
    yield "trapezoid", torch.trapezoid(torch.stack(inner), dim=0) / (steps - 1) * way
    for alphas in (
        [k / steps for k in range(steps)],
        [(k + 1) / steps for k in range(steps)],
        [k / max(steps - 1, 1) for k in range(steps)],
        [k / steps for k in range(steps + 1)],
    ):
        points = [_slope(_curve, b + a * (x - b)) for a in alphas]
        yield "ends", torch.stack(points).mean(0) * way
        yield "ends", torch.stack(points).sum(0) / steps * way


@exercise("saliency.2", MESSAGES["saliency.2"])
def integrated(answer) -> Verdict:
    for seed in (0, 1):
        x, b, steps = _path(seed)
        mine, start = x.clone(), b.clone()
        raw = call(answer, _curve, mine, start, steps)
        found = _maps(raw, (len(x), *x.shape[2:]))
        want, gain = integrate(_curve, x, b, steps)[:, 0], _curve(x) - _curve(b)
        # Any rule that is no less exact than midpoints is as good
        exact = integrate(_curve, x, b, 400)[:, 0]
        if near(found, want) or (found - exact).abs().max() < 0.5 * (want - exact).abs().max():
            if not (torch.equal(mine.detach(), x) and torch.equal(start.detach(), b)):
                return "changed"
            continue
        told = {"steps": steps, "got": found[0].sum().item(), "expected": gain[0].item()}
        wrong = _mistaken_paths(x, b, steps)
        return next((k for k, value in wrong if near(found, value[:, 0])), "other"), told
    return "right"


# --- 3: Grad-CAM ---


def cam(maps: Tensor, slopes: Tensor, size: int) -> Tensor:
    """max(0, Σ_k w_k A_k) of (N, K, h, w), w_k the mean slope, enlarged to (N, size, size)."""
    weights = slopes.mean((2, 3), keepdim=True)
    coarse = (weights * maps).sum(1, keepdim=True).clamp_min(0)
    return F.interpolate(coarse, (size, size), mode="bilinear")[:, 0]


def _mistaken_cams(maps: Tensor, slopes: Tensor, size: int) -> Iterator[tuple[str, Tensor]]:
    weights = slopes.mean((2, 3), keepdim=True)
    parts = weights * maps

    def large(coarse: Tensor, mode: str = "bilinear", **options: Any) -> Tensor:
        return F.interpolate(coarse[:, None], (size, size), mode=mode, **options)[:, 0]

    whole = parts.sum(1)
    yield "no relu", large(whole)
    yield "no relu", large(whole.abs())
    yield "early relu", large(parts.clamp_min(0).sum(1))
    yield "early relu", large((weights.clamp_min(0) * maps).sum(1).clamp_min(0))
    yield "late relu", large(whole).clamp_min(0)
    yield "sum", large(whole.clamp_min(0)) * slopes[0, 0].numel()
    yield "pixelwise", large((slopes * maps).sum(1).clamp_min(0))
    yield "no weights", large(maps.sum(1).clamp_min(0))
    yield "no weights", large(maps.mean(1).clamp_min(0))
    yield "slopes", large(slopes.sum(1).clamp_min(0))
    yield "slopes", large(weights.expand_as(maps).sum(1).clamp_min(0))
    yield "mean", large(parts.mean(1).clamp_min(0))
    yield "batch", large((slopes.mean((0, 2, 3), keepdim=True) * maps).sum(1).clamp_min(0))
    yield "size", large((weights.abs() * maps).sum(1).clamp_min(0))
    yield "nearest", large(whole.clamp_min(0), mode="nearest")
    yield "corners", large(whole.clamp_min(0), align_corners=True)
    full = large(whole.clamp_min(0))
    yield "scaled", full / full.amax((1, 2), keepdim=True)
    yield "scaled", full / full.max()


@exercise("saliency.3", MESSAGES["saliency.3"])
def grad_cam(answer) -> Verdict:
    for seed, (count, k, h, w, size) in enumerate([(3, 5, 4, 3, 9), (2, 4, 3, 5, 10)]):
        rng = torch.Generator().manual_seed(40 + seed)
        maps, slopes = torch.randn(2, count, k, h, w, generator=rng, dtype=torch.float64)
        given = maps.clone(), slopes.clone()
        found = _maps(call(answer, *given, size), (count, size, size))
        want = cam(maps, slopes, size)
        if near(found, want):
            if not (torch.equal(given[0], maps) and torch.equal(given[1], slopes)):
                return "changed"
            continue
        wrong = _mistaken_cams(maps, slopes, size)
        key = next((key for key, value in wrong if near(found, value)), "other")
        return key, _first_gap(found, want)
    return "right"


# --- 4: a rival ---


def rivals(train: Cohort, part: Cohort) -> dict[str, Tensor]:
    """Maps (N, H, W) of the images of `part` that ask no network, by name."""
    images, healthy = to_float(part.images)[:, 0], to_float(train.images[train.labels == 0])
    brighter = (images - healthy.mean(0)[0]).clamp_min(0)
    if train.masks is None:
        return {"bright": images, "brighter than healthy": brighter}
    usual = (train.masks[train.labels == 1] > 0).float().mean(0)
    lungs = torch.as_tensor(part.extras["lungs"]).float()
    return {
        "the lungs": lungs,
        "brighter, in usual place": brighter * usual,
        "usual place": usual.expand_as(images),
        "brighter than healthy": brighter,
    }


def once(p: Tensor, patients: Any) -> list[int]:
    """Positions of each patient's image with the highest p, the highest first."""
    order = p.argsort(descending=True, stable=True).tolist()
    names = range(len(p)) if patients is None else patients
    first: dict[Any, int] = {}
    for i in order:
        first.setdefault(names[i], i)
    return list(first.values())


def each(score: Callable, maps: Tensor | list[Tensor], masks: Tensor) -> ndarray:
    """The score of every image by itself, (networks, N), of one map or of several networks'."""
    runs = [maps] if torch.is_tensor(maps) else maps
    return np.array(
        [[score(m[None], k[None]) for m, k in zip(r, masks, strict=True)] for r in runs]
    )


def interval(values: ndarray, patients: Any) -> Interval:
    """Mean of (networks, N) values of images, with its interval over patients."""
    means = values.mean(0)
    return bootstrap(lambda _, v: v.mean(), np.ones(len(means)), means, groups=patients)


def told(values: ndarray, patients: Any) -> str:
    """The mean and its interval, signed; what rounds to 0 is +0.00."""
    gap = interval(values, patients)
    return f"{gap.value:+z.2f} ({gap.low:+z.2f} to {gap.high:+z.2f})"


def six(p: Tensor, labels: Any) -> Tensor:
    """Positions of two healthy images (highest p), two ill ones (p near 0.4), two (highest p)."""
    order = p.argsort(descending=True, stable=True)
    ill, well = (order[torch.as_tensor(labels)[order] == label] for label in (1, 0))
    near_by = ill[(p[ill] - 0.4).abs().argsort(stable=True)]
    return torch.stack([well[0], ill[0], near_by[0], near_by[1], well[1], ill[1]])


@cache
def _patients() -> tuple[Tensor, ...]:
    """Images, labels and masks of training patients, images and masks of ill ones of others."""
    cohort = chest_xray(360, size=32, seed=5)
    train, _, test = cohort.split(fractions=(0.6, 0.05, 0.35))
    new = test[np.flatnonzero(test.labels == 1)]
    shown = to_float(train.images), train.labels, train.masks, to_float(new.images), new.masks
    return tuple(map(torch.as_tensor, shown))


@exercise("saliency.4", MESSAGES["saliency.4"])
def rival(answer) -> Verdict:
    known, labels, outlines, x, truth = _patients()

    def made(images: Tensor, known: Tensor = known, masks: Tensor = outlines) -> Tensor:
        raw = call(answer, images.clone(), known.clone(), labels.clone(), masks.clone())
        return _maps(raw, (len(images), *x.shape[2:]))

    maps = made(x)
    if not maps.isfinite().all():
        return "nan"
    some = [7, 2, 5]
    if not near(made(x[some]), maps[some]):
        return "alone"
    told = {"hits": pointing_game(maps, truth), "got": energy_inside(maps, truth)}
    told |= {"least": SHARE}
    if told["got"] >= SHARE:
        return "right", told
    if near(maps, maps[:1].expand_as(maps)):
        return "usual", told
    if near(made(x, masks=outlines.flip(1)), maps):
        return "no place", told
    return ("no healthy" if near(made(x, known.flip(2)), maps) else "weak"), told


# --- 5: maps that mislead ---


def misled(p: Tensor, maps: Tensor, masks: Tensor, sure: float) -> list[int]:
    """Positions of ill images with p ≥ sure whose highest point is outside, surest first."""
    highest = maps.flatten(1).argmax(1)
    outside = masks.flatten(1)[torch.arange(len(p)), highest] == 0
    order = p.argsort(descending=True, stable=True).tolist()
    return [i for i in order if outside[i] and p[i] >= sure]


@cache
def _sure(seed: int) -> tuple[Tensor, Tensor, Tensor, float]:
    rng = torch.Generator().manual_seed(61 + seed)
    p = torch.randint(10, 21, (30,), generator=rng) / 20
    maps = torch.randn(30, 6, 6, generator=rng)
    masks = (torch.rand(30, 6, 6, generator=rng) < 0.45) * torch.randint(
        1, 4, (30, 1, 1), generator=rng
    )
    return p, maps, masks.to(torch.uint8), (0.8, 0.65)[seed]


@exercise("saliency.5", MESSAGES["saliency.5"])
def misleading(answer) -> Verdict:
    for seed in (0, 1):
        p, maps, masks, sure = _sure(seed)
        raw = call(answer, p.clone(), maps.clone(), masks.clone(), sure)
        want = misled(p, maps, masks, sure)
        told: dict[str, Any] = {"sure": sure, "most": len(p) - 1}
        entries = raw.tolist() if hasattr(raw, "tolist") else raw
        if isinstance(entries, tuple) and len(entries) == 1:  # as np.nonzero gives them
            entries = entries[0].tolist() if hasattr(entries[0], "tolist") else entries[0]
        if not isinstance(entries, (list, tuple, range)):
            return "format", told | {"got": type(raw).__name__}
        if any(entry is ... for entry in entries):
            raise NotAttempted
        if len(entries) == len(p) and all(isinstance(e, bool) for e in entries):
            return "flags"
        try:
            found = [int(e) for e in entries]
            whole = found == [float(e) for e in entries]
        except (TypeError, ValueError):
            whole = False
        if not whole or not all(0 <= e < len(p) for e in found):
            return "format", told | {"got": str(entries)[:60]}
        if found == want:
            continue
        told |= {"expected": want, "got": found}
        every, none = torch.ones_like(p), 0.0
        rows = {
            "order": want,
            "inside": misled(p, maps, masks == 0, sure),
            "unsure": misled(p, maps, masks, none),
            "strict": misled(p, maps, masks, sure + 0.01),
            "transposed": misled(p, maps, masks.mT, sure),
            "doubt": [i for i in misled(p, maps, masks, none) if p[i] < sure],
            "lowest": misled(p, -maps, masks, sure),
            "absolute": misled(p, maps.abs(), masks, sure),
            "any": [i for i in misled(every, 0 * maps, 0 * masks, none) if p[i] >= sure],
            "above": misled(p, maps, masks == 1, sure),
        }
        key = next((k for k, row in rows.items() if set(found) == set(row)), "other")
        return key, told
    return "right"


# --- 6: a design ---


@cache
def _chests() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Small chests: training images and labels, ill test images, outlines, and the usual chest."""
    rng = torch.Generator().manual_seed(80)
    side, count = 20, 72
    row, column = torch.meshgrid(*[torch.arange(side) - 9.5] * 2, indexing="ij")
    lung = ((column.abs() - 4.5) / 3.5) ** 2 + (row / 7) ** 2 < 1
    usual = 0.75 - 0.5 * lung.float()
    images = usual + 0.04 * torch.randn(count, side, side, generator=rng)
    labels = torch.arange(count) % 3 % 2
    inside = lung.nonzero()
    masks = torch.zeros(count, side, side, dtype=torch.uint8)
    for k in labels.nonzero()[:, 0]:
        top, left = inside[torch.randint(len(inside), (1,), generator=rng)][0].tolist()
        near_by = (row + 9.5 - top).square() + (column + 9.5 - left).square() <= 9
        masks[k] = near_by & lung
        images[k] += 0.3 * masks[k]
    order = torch.arange(count)
    test = (order >= 48) & (labels == 1)
    return images[:48, None], labels[:48], images[test][:, None], masks[test], usual


def _elsewhere(images: Tensor) -> Tensor:
    """A network that looks between the lungs, where no lesion is."""
    return images[:, 0, 3:17, 8:12].square().mean((1, 2))


def _unusual(images: Tensor) -> Tensor:
    """A network that notices whatever differs from the usual chest, brighter or darker."""
    usual = _chests()[4].to(images)
    blurred = F.avg_pool2d(images - usual, 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    return (blurred.abs() - 0.1).relu().sum((1, 2))


@exercise("saliency.6", MESSAGES["saliency.6"])
def design(answer) -> Verdict:
    train, labels, x, masks, _ = _chests()
    shape = (len(x), *x.shape[2:])

    def made(f: Score, images: Tensor) -> Tensor:
        raw = call(answer, f, images.clone(), train.clone(), labels.clone())
        return _maps(raw, (len(images), *shape[1:]))

    maps = made(_unusual, x)
    if not maps.isfinite().all():
        return "nan"
    other = made(_elsewhere, x).flatten(1)
    if F.cosine_similarity(other, maps.flatten(1)).abs().max() > 0.99:
        return "not asked"
    if made(lambda images: 0 * images.sum((1, 2, 3)), x).abs().max() > 1e-6:
        return "silent"
    if not near(made(_unusual, x[[3, 1]]), maps[[3, 1]], rel=1e-3, absolute=1e-5):
        return "ill"
    places = _grid(4, [*range(0, 17, 2)])
    plain = {"black": torch.zeros(1, 1, 1, 1), "own": x.mean((2, 3), keepdim=True)}
    told = {k: energy_inside(occlude(_unusual, x, v, places), masks) for k, v in plain.items()}
    told |= {"got": energy_inside(maps, masks), "least": LEAST}
    return ("right" if told["got"] >= LEAST else "weak"), told
