"""Exercises of notebook 31: fewer bits, fewer weights, a teacher, and whose decision changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor, nn

from medlab import metrics
from medlab.cohort import Cohort
from medlab.exercises import (
    Verdict,
    Wrong,
    as_array,
    call,
    exercise,
    near,
    number,
    shape_or_type,
)
from medlab.models import SmallCNN
from medlab.training import predict
from medlab.training.tasks import Task

STEPS = 255  # between the lowest and the highest number of eight bits
MOST_KB, MOST_LOST = 100, 0.02  # the rule of the notebook

MESSAGES = {
    "smaller.1": {
        "right": "whole numbers from 0 to 255, and inside the grid at most s/2 away.",
        "format": "I expected a pair of tensors, whole numbers and the way back, each of shape "
        "{want}; got {got}.",
        "swapped": "whole numbers come first, then the way back.",
        "unwidened": "the range from {low:g} to {high:g} does not hold 0. Widen it first: the grid "
        "needs a mark that is exactly 0.",
        "steps": "256 numbers have 255 steps between them: s = (high − low) / 255.",
        "unclipped": "{x:g} lies outside the range and became {got:g}. One byte ends at 0 and at "
        "255: clip.",
        "signed": "your numbers run from −128 to 127; these are bytes without a sign, 0 to 255.",
        "no zero point": "0.0 became the whole number 0. Add the zero point, which stands for 0.0.",
        "floor": "you cut the decimals off. Rounding to the *nearest* whole number halves the "
        "largest error.",
        "zero": "your zero point is no whole number, or not the nearest. Round it by itself, or "
        "0.0 has no mark of its own.",
        "low": "your way back starts at the low end of the range, and 0.0 comes back as "
        "{back:.4f}. From the zero point, s · (q − m), it is exactly 0.",
        "unclipped back": "your way back uses numbers from before the clipping, which no byte "
        "holds.",
        "wrapped": "your bytes wrap around: q − m is negative here, and a byte has no sign. "
        "Subtract as float.",
        "back": "the whole numbers are right. {x:g} should come back as {want:.4f}; got {got:.4f}.",
        "other": "with the range from {low:g} to {high:g}, {x:g} should become {want:g}; got "
        "{got:g}.",
    },
    "smaller.2": {
        "right": "each filter has a scale of its own, and no weight moves by more than half of it.",
        "format": "I expected weights of shape {want}; got {got}.",
        "one scale": "all filters share your scale. Each *output* channel has its own.",
        "input": "your scales belong to the input channels, axis 1. The filters lie along axis 0.",
        "kernel": "you took a scale for each pair of output and input channel: one for each output "
        "channel was asked for.",
        "whole": "these are the whole numbers. Multiply by the scale: I asked for the weights "
        "after rounding.",
        "unrounded": "your weights are as they were. Round to whole numbers in between.",
        "signless": "your scale comes from the largest weight, not from the largest *magnitude*: a "
        "filter of negative weights runs over.",
        "128": "the symmetric grid ends at 127, on both sides.",
        "255": "you spread the range over 255 steps. The symmetric grid has 127 on each side.",
        "floor": "you cut the decimals off, or rounded up. Round to the nearest.",
        "other": "I expected the weight {w:.4f} of filter {k} to become {want:.4f}; got {got:.4f}.",
    },
    "smaller.3": {
        "right": "one limit for all layers, and the largest magnitudes stay.",
        "format": "I expected a list of {n} tensors of True and False, in the shapes of the "
        "weights; got {got}.",
        "each": "you drop this share of *each* tensor. One limit serves all of them together: a "
        "layer with few large weights may lose most.",
        "signed": "you compared signed weights, and large negative ones are gone. The magnitude "
        "counts.",
        "inverted": "your masks are True where a weight is dropped.",
        "share": "you kept a share of {share:g}; that is what should be *dropped*.",
        "limit": "you took the share for the limit itself. The limit is a magnitude below which "
        "this share of the weights lies.",
        "changed": "you changed the weights themselves. Return masks, and leave the weights alone.",
        "other": "of {n} weights I expected about {want:.0f} dropped, those of smallest magnitude; "
        "got {got}.",
    },
    "smaller.4": {
        "right": "the survivors learn, and what was dropped stays 0 after every step.",
        "no net": "I expected the network back; got {got}.",
        "revived": "{got} dropped weights are no longer 0: every step moves all weights. Multiply "
        "by the masks after each step.",
        "once": "you set the dropped weights to 0 at the end only. In between they took part, and "
        "the others learnt to rely on them.",
        "still": "the weights are as they were: is there an `optimiser.step()`?",
        "accumulated": "gradients of earlier batches are still there: `optimiser.zero_grad()` "
        "before each `backward()`.",
        "eval": "batch normalisation was in evaluation mode: `net.train()` first.",
        "first": "you took one step only. Every batch has its step.",
        "anew": "you built a new optimiser for each batch, and its memory of gradients is lost. "
        "Build it once.",
        "kept": "you set the weights to 0 that should stay.",
        "other": "the dropped weights are 0, but the others are not those of AdamW with lr=2e-3 "
        "and a step of cross-entropy for each batch.",
    },
    "smaller.5": {
        "right": "labels and teacher each have their share, at every temperature.",
        "detached": "your loss has no gradient, so nothing can be learnt from it. Use tensors all "
        "the way.",
        "no square": "the teacher's part is not multiplied by T². At T = 4 it would count a "
        "sixteenth.",
        "one T": "the teacher's part is multiplied by T. The gradient shrinks as 1/T²: multiply by "
        "T².",
        "exchanged": "`share` is the teacher's; the labels get 1 − share.",
        "hard teacher": "the teacher's logits are not divided by T.",
        "hard student": "in the teacher's part the student's logits belong divided by T, too.",
        "soft labels": "the labels judge the student at T = 1: divide by T in the teacher's part "
        "only.",
        "twice": "`F.cross_entropy` takes the softmax of its first argument itself. Give it the "
        "student's logits / T, not probabilities.",
        "reversed": "you exchanged teacher and student: the teacher's probabilities weigh the "
        "logarithms of the student's.",
        "logits": "the teacher's logits are no probabilities. Take their softmax.",
        "classes": "you averaged over classes as well: sum over classes, mean over images "
        '(`reduction="batchmean"`).',
        "sum": "you added the images up. The mean over the batch was asked for.",
        "labels only": "your loss leaves the teacher out.",
        "teacher only": "your loss leaves the labels out.",
        "other": "with T = {T:g} and share = {share:g} I expected {want:.3f}; got {got:.3f}.",
    },
    "smaller.6": {
        "right": "decisions are counted by patient, in both directions.",
        "images": "you counted images. A patient counts once, however many images she has.",
        "any": "{got} patients have an *image* whose decision differs. What counts is whether the "
        "patient is called: any of her images, before and after.",
        "all": "you called a patient only if all of her images are.",
        "majority": "you let her images vote. A patient is called if any of them is.",
        "first": "you looked at one image of each patient. She is called if any of hers is.",
        "numbers": "you compared *how many* of her images are called. What counts is whether any "
        "is.",
        "net": "newly called and no longer called patients cancel in yours. Each of them has "
        "another answer.",
        "gained": "you counted the newly called. Those no longer called have another answer, too.",
        "lost": "you counted those no longer called. The newly called have another answer, too.",
        "same": "you counted those whose decision is the same.",
        "share": "you divided by the number of patients. I asked how many.",
        "runs": "you took each run of equal names for a patient. Her images need not stand side by "
        "side.",
        "other": "of {n} patients I expected {want} with another decision; got {got}.",
    },
    "smaller.7": {
        "right": "the rule was stated first, and you applied it as it stands.",
        "format": "I expected a name, or None; got {got}.",
        "strict": '{want} meets both limits just so. "Into 100 kB" and "at most 0.02" allow '
        "what is equal.",
        "size": "{got} has {kB:g} kB and does not fit.",
        "score": "{got} loses {lost:g} AUC, more than 0.02.",
        "gain": "{want} gains AUC. A gain, however large, is not a loss of more than 0.02.",
        "tie": "{want} and {got} change equally few decisions: then the smaller file is taken.",
        "smallest": "{got} is the smallest file that is allowed. The fewest changes come first.",
        "best": "{got} has the highest AUC of those allowed. The fewest changes come first.",
        "most": "{got} changes *most* decisions.",
        "nothing": "nothing is allowed here, and {got!r} was taken. Return None.",
        "other": "I expected {want!r}, and got {got!r}.",
    },
    "smaller.8": {
        "right": "a smaller network of ordinary layers, which needs no masks.",
        "format": "I expected a convolution, a batch normalisation and a convolution; got {got}.",
        "sizes": "with {n} channels kept I expected weights of shapes {want}; got {got}.",
        "first": "the filters of the first convolution are not those named by `keep`, in its "
        "order.",
        "order": "you sorted `keep`, or turned it into a mask, in some of the layers: all three "
        "have its order.",
        "norm": "`{name}` of the batch normalisation is not that of the kept channels.",
        "second": "the second convolution does not hold the slices that read the kept channels: "
        "axis 1 of its weights.",
        "bias": "your convolutions have a bias, which the old ones have not.",
        "shape": "the weights are right, but the maps became {got} instead of {want}: padding=1.",
        "changed": "you changed the old layers. Build new ones.",
        "other": "the weights are right, but the layers do not answer as the old ones.",
    },
}


def material() -> SimpleNamespace:
    """Finished answers of the exercises and helpers of the notebook."""
    answers = (there_and_back, per_channel, masks, finetune, distillation_loss, changed, choose)
    helpers = (kB, session, asked, gain, Patients, pruned, slim, Distil)
    return SimpleNamespace(**{one.__name__: one for one in (*answers, *helpers)})


def _of(answer: Any, *args: Any) -> Any:
    """What a learner's function makes of copies of its arguments."""
    return call(answer, *copy.deepcopy(args))


# --- Helpers of the notebook ---


def kB(path: Path) -> float:
    """Size of a file in kilobytes of 1,000 bytes."""
    return path.stat().st_size / 1000


def session(path: Path, optimised: bool = True) -> Any:
    """An ONNX Runtime session on one thread of the processor."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def asked(models: Iterable[nn.Module | Path], images: Tensor) -> ndarray:
    """(M, N) log odds of class 1 that M networks, or exported files, give N images."""
    rows = []
    for model in models:
        if isinstance(model, nn.Module):
            logits = predict(model, images, logits=True).cpu().numpy()
        else:
            (logits,) = session(model).run(None, {"images": images.numpy()})
        rows.append(logits[:, 1].astype(float) - logits[:, 0])
    return np.stack(rows)


def gain(labels: ndarray, z: ndarray, of: ndarray, patients: ndarray) -> metrics.Interval:
    """Mean AUC of the rows of `z` less that of the rows of `of`, paired, over patients."""
    draws = np.concatenate(list(metrics.resamples(labels, groups=patients, n=1000)))

    def areas(rows: ndarray) -> ndarray:  # on all images, then on each resample
        found = [
            [metrics.auc(labels, row), *metrics.resampled_values(metrics.auc, labels, row, draws)]
            for row in rows
        ]
        return np.mean(found, axis=0)

    apart = areas(z) - areas(of)
    low, high = np.nanquantile(apart[1:], [0.025, 0.975])
    return metrics.Interval(float(apart[0]), float(low), float(high), n=len(draws))


class Patients:
    """Hands images to ONNX Runtime's calibration, 64 at a time."""

    def __init__(self, images: Tensor):
        self.batches = iter(images.split(64))

    def get_next(self) -> dict[str, ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}


def pruned(net: nn.Module, share: float) -> tuple[nn.Module, list, list]:
    """A copy of a network with this share of its convolutions' weights at 0; these; the masks."""
    net = copy.deepcopy(net)
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    keep = masks([conv.weight.detach() for conv in convs], share)
    with torch.no_grad():
        for conv, kept in zip(convs, keep, strict=True):
            conv.weight *= kept
    return net, convs, keep


class Distil(Task):
    """What `fit` must know of `distillation_loss`; the teacher's logits are an extra, "teacher"."""

    def __init__(self, T: float, share: float):
        self.T, self.share = T, share

    def target(self, data: Cohort, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        device = data.images.device
        teacher, labels = torch.as_tensor(data.extras["teacher"]), data.labels
        return teacher.to(device)[index], torch.as_tensor(labels).to(device)[index].long()

    def loss(self, weight: Tensor | None) -> Callable[[Tensor, Any], Tensor]:
        return lambda logits, target: distillation_loss(
            logits, target[0], target[1], self.T, self.share
        )

    def scores(self, outputs: Tensor, target: Any) -> dict[str, float]:
        return {}

    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        pass


def slim(net: SmallCNN, width: int) -> SmallCNN:
    """A `SmallCNN` of this width made of the filters of `net` whose weights are largest in sum."""
    small = SmallCNN(**(net.arguments | {"width": width}))
    ours: list[Any] = list(net.features)
    theirs: list[Any] = list(small.features)
    keep = torch.arange(net.arguments["in_channels"])
    with torch.no_grad():
        theirs[0].load_state_dict(ours[0].state_dict())
        for k, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if isinstance(one, nn.Conv2d):
                sums = one.weight.abs().sum((1, 2, 3))
                kept = sums.topk(other.out_channels).indices.sort().values
                other.weight.copy_(one.weight[kept][:, keep])
                for name in ("weight", "bias", "running_mean", "running_var"):
                    getattr(theirs[k + 1], name).copy_(getattr(ours[k + 1], name)[kept])
                keep = kept
        small.classifier.weight.copy_(net.classifier.weight[:, keep])
        small.classifier.bias.copy_(net.classifier.bias)
    return small


# --- 1: eight bits and back ---


def there_and_back(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Whole numbers 0 … 255 for `x`, on a grid from `low` to `high` that holds 0; and the way back.

    The scale is (high − low) / 255, the zero point the whole number that stands for 0. What lies
    outside the grid gets its nearest end.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / STEPS
    zero = round(-low / scale)
    q = ((x / scale).round() + zero).clamp(0, STEPS)
    return q, scale * (q - zero)


X = torch.tensor([0.33, -1.31, 2.96, 0.0, -0.62, 1.07, 0.011, -5.2, 4.4, 1.9])
# A zero point that rounds down, and up; two ranges that do not hold 0
RANGES = [(-0.7, 2.0), (-1.0, 2.5), (0.5, 3.0), (-4.0, -1.0)]


def _grid(x: Tensor, low: float, high: float, how: str = "") -> tuple[Tensor, Tensor]:
    """`there_and_back` with one mistake."""
    if how != "unwidened":
        low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (256 if how == "steps" else STEPS)
    zero = -low / scale
    zero = {"zero": zero, "zero down": float(int(zero))}.get(how, float(round(zero)))
    zero = {"no zero point": 0.0, "signed": zero - 128}.get(how, zero)
    whole = x / scale
    if how == "zero inside":
        q = (whole - low / scale).round().clamp(0, STEPS)
        return q, scale * (q - zero)
    whole = {"floor": whole.floor, "toward 0": whole.trunc, "up": whole.ceil}.get(
        how, whole.round
    )()
    ends = (-128, 127) if how == "signed" else (0, STEPS)
    free = whole + zero
    q = free if how == "unclipped" else free.clamp(*ends)
    back = scale * ((free if how == "unclipped back" else q) - zero)
    if how == "wrapped":
        return q, scale * ((q - zero) % 256)
    return q, scale * q + low if how == "low" else back


LIKE = {"toward 0": "floor", "up": "floor", "zero down": "zero", "zero inside": "zero"}
GRID = (
    "unwidened, steps, signed, no zero point, floor, toward 0, up, zero, zero down, zero inside, "
    "unclipped"
).split(", ")


@exercise("smaller.1", MESSAGES["smaller.1"])
def _there_and_back(answer) -> Verdict:
    for low, high in RANGES:
        pair = _of(answer, X, low, high)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            return "format", {"want": tuple(X.shape), "got": shape_or_type(pair)}
        q, back = map(as_array, pair)
        if q.shape != X.shape or back.shape != X.shape:
            got = f"{shape_or_type(pair[0])} and {shape_or_type(pair[1])}"
            return "format", {"want": tuple(X.shape), "got": got}
        want_q, want = map(as_array, there_and_back(X, low, high))
        if near(q, want_q) and near(back, want):
            continue
        if near(q, want) and near(back, want_q):
            return "swapped"
        told: dict[str, Any] = {"low": low, "high": high}
        if near(q, want_q):
            return _back_fault(back, want, low, high)
        k = int(np.abs(q - want_q).argmax())
        told |= {"x": X[k].item(), "want": want_q[k], "got": q[k]}
        found = next((how for how in GRID if near(q, _grid(X, low, high, how)[0])), "other")
        return LIKE.get(found, found), told
    return "right"


def _back_fault(back: ndarray, want: ndarray, low: float, high: float) -> Verdict:
    k = int(np.abs(back - want).argmax())
    told = {"x": X[k].item(), "want": want[k], "got": back[k], "back": back[X == 0][0]}
    for how in ("low", "unclipped back", "wrapped"):
        if near(back, _grid(X, low, high, how)[1]):
            return how, told
    return "back", told


# --- 2: a scale for each output channel ---


def per_channel(weight: Tensor) -> Tensor:
    """(O, I, k, k) weights after rounding to −127 … 127 of a scale for each output channel."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    return (weight / scale).round() * scale


def _filters() -> Tensor:
    """(3, 2, 3, 3) weights of unlike filters, one with its largest magnitude below 0."""
    weight = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(4))
    weight *= torch.tensor([1.0, 0.1, 0.3]).view(3, 1, 1, 1)
    weight[1, 0] *= 2
    weight[2, 1, 0, 0] = -1.3
    return weight


def _scaled(weight: Tensor, how: str) -> Tensor:
    """`per_channel` with one mistake."""
    axes = {"one scale": (0, 1, 2, 3), "input": (0, 2, 3), "kernel": (2, 3)}.get(how, (1, 2, 3))
    largest = (weight if how == "signless" else weight.abs()).amax(axes, keepdim=True)
    scale = largest / {"128": 128, "255": 255, "half": 127.5}.get(how, 127)
    if how == "range":
        scale = (weight.amax(axes, keepdim=True) - weight.amin(axes, keepdim=True)) / 255
    whole = weight / scale
    whole = {"floor": whole.floor, "toward 0": whole.trunc, "up": whole.ceil}.get(
        how, whole.round
    )()
    return {"whole": whole, "unrounded": weight}.get(how, scale * whole)


SCALED = (
    "one scale, input, kernel, whole, unrounded, signless, 128, 255, half, range, floor, "
    "toward 0, up"
).split(", ")
SAME = {"toward 0": "floor", "up": "floor", "half": "255", "range": "255"}


@exercise("smaller.2", MESSAGES["smaller.2"])
def _per_channel(answer) -> Verdict:
    weight = _filters()
    raw = _of(answer, weight)
    got, want = as_array(raw), as_array(per_channel(weight))
    if got.shape != want.shape:
        return "format", {"want": tuple(weight.shape), "got": shape_or_type(raw)}
    if near(got, want):
        return "right"
    found = next((how for how in SCALED if near(got, _scaled(weight, how))), "other")
    worst = np.unravel_index(np.abs(got - want).argmax(), want.shape)
    told = {"w": weight[worst].item(), "k": worst[0], "want": want[worst], "got": got[worst]}
    return SAME.get(found, found), told


# --- 3: which weights stay ---


def masks(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """True where a weight stays: this share, the smallest of all tensors together, is dropped."""
    limit = torch.cat([w.abs().flatten() for w in weights]).quantile(share)
    return [w.abs() > limit for w in weights]


def _layers() -> list[Tensor]:
    """Three tensors of unlike sizes and spreads, 80 weights together, of both signs."""
    rng = torch.Generator().manual_seed(1)
    sizes = (((4, 3, 2, 2), 1.0), ((2, 12), 0.3), ((8,), 2.0))
    return [torch.randn(size, generator=rng) * spread for size, spread in sizes]


def _kept(weights: list[Tensor], share: float, how: str) -> list[Tensor]:
    """`masks` with one mistake."""
    if how == "each":
        return [masks([w], share)[0] for w in weights]
    if how == "share":
        return masks(weights, 1 - share)
    if how == "limit":
        return [w.abs() > share for w in weights]
    if how == "signed":
        limit = torch.cat([w.flatten() for w in weights]).quantile(share)
        return [w > limit for w in weights]
    return [~kept for kept in masks(weights, share)]


@exercise("smaller.3", MESSAGES["smaller.3"])
def _masks(answer) -> Verdict:
    for share in (0.25, 0.8):
        weights = _layers()
        raw = call(answer, weights, share)
        told: dict[str, Any] = {"n": len(weights), "share": share}
        found = list(map(as_array, raw)) if isinstance(raw, (tuple, list)) else []
        if [one.shape for one in found] != [tuple(w.shape) for w in weights]:
            return "format", told | {"got": shape_or_type(raw) if not found else "other shapes"}
        if not all(np.isin(one, (0, 1)).all() for one in found):
            return "format", told | {"got": "other numbers than 0 and 1"}
        if not all(torch.equal(a, b) for a, b in zip(weights, _layers(), strict=True)):
            return "changed"
        kept = np.concatenate([one.ravel() for one in found]).astype(bool)
        size = torch.cat([w.abs().flatten() for w in weights]).numpy()
        dropped, want = int((~kept).sum()), share * len(size)
        if abs(dropped - want) <= 1 and (~kept[np.argsort(size)[:dropped]]).all():
            continue
        for how in ("each", "signed", "share", "inverted", "limit"):
            wrong = _kept(weights, share, how)
            if all(near(a, b) for a, b in zip(found, wrong, strict=True)):
                return how, told
        return "other", {"n": len(size), "want": want, "got": dropped}
    return "right"


# --- 4: training what is left ---


def finetune(
    net: nn.Module,
    convs: Sequence[nn.Conv2d],
    keep: Sequence[Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> nn.Module:
    """A step of AdamW a batch, after each of which the dropped weights are 0 again."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    net.train()
    for images, labels in batches:
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
        with torch.no_grad():
            for conv, kept in zip(convs, keep, strict=True):
                conv.weight *= kept
    return net


def _patient() -> tuple[nn.Module, list[nn.Conv2d], list[Tensor], list]:
    """A small network, some of whose weights are 0, and three batches."""
    state = torch.random.get_rng_state()
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(),
        nn.Conv2d(2, 3, 3, bias=False), nn.Flatten(), nn.Linear(12, 2),
    )  # fmt: skip
    images = torch.randn(3, 6, 1, 6, 6) * torch.tensor([1.0, 3.0, 0.5]).view(3, 1, 1, 1, 1)
    torch.random.set_rng_state(state)
    layers: list[Any] = list(net)
    convs = [layers[0], layers[3]]
    keep = masks([conv.weight.detach() for conv in convs], 0.5)
    with torch.no_grad():
        for conv, kept in zip(convs, keep, strict=True):
            conv.weight *= kept
    labels = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1]])
    return net.eval(), convs, keep, list(zip(images, labels, strict=True))


def _tuned(how: str) -> list[ndarray]:
    """Parameters after `finetune` with one mistake."""
    net, convs, keep, batches = _patient()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    net.train(how != "eval")
    for k, (images, labels) in enumerate(batches):
        if how == "anew":
            optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
        if how != "accumulated":
            optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        if how != "still":
            optimiser.step()
        if how != "once" or k == len(batches) - 1:
            with torch.no_grad():
                for conv, kept in zip(convs, keep, strict=True):
                    conv.weight *= kept
        if how == "first":
            break
    return [p.detach().numpy() for p in net.parameters()]


@exercise("smaller.4", MESSAGES["smaller.4"])
def _finetune(answer) -> Verdict:
    net, convs, keep, batches = _patient()
    got = call(answer, net, convs, keep, batches)
    if not isinstance(got, nn.Module) or len(list(got.parameters())) != len(list(net.parameters())):
        return "no net", {"got": type(got).__name__}
    found = [p.detach().numpy() for p in got.parameters()]
    ours = [found[k] for k, p in enumerate(net.parameters()) if p.ndim == 4]
    alive = sum(int((w[~kept.numpy()] != 0).sum()) for w, kept in zip(ours, keep, strict=True))
    if alive:
        return "revived", {"got": alive}
    if any((w[kept.numpy()] == 0).any() for w, kept in zip(ours, keep, strict=True)):
        return "kept"

    def same(wanted: list[ndarray]) -> bool:
        return all(near(a, b, rel=1e-4) for a, b in zip(found, wanted, strict=True))

    if same(_tuned("")):
        return "right"
    hows = ("still", "once", "accumulated", "eval", "first", "anew")
    return next((how for how in hows if same(_tuned(how))), "other")


# --- 5: learning from a teacher ---


def distillation_loss(
    logits: Tensor, teacher: Tensor, labels: Tensor, T: float, share: float
) -> Tensor:
    """Cross-entropy with the labels and, at temperature T and times T², with the teacher."""
    soft = F.cross_entropy(logits / T, (teacher / T).softmax(1))
    hard = F.cross_entropy(logits, labels)
    return share * T**2 * soft + (1 - share) * hard


def _class() -> tuple[Tensor, Tensor, Tensor]:
    """Five images of three classes: a student's logits, a teacher's, labels."""
    rng = torch.Generator().manual_seed(2)
    logits, teacher = torch.randn(2, 5, 3, generator=rng) * 2
    return logits, teacher, torch.tensor([2, 0, 1, 1, 0])


def _taught(logits: Tensor, teacher: Tensor, labels: Tensor, T: float, share: float, how: str):
    """`distillation_loss` with one mistake, or in another form that is right."""
    p, z = (teacher / T).softmax(1), logits / T
    if how == "hard teacher":
        p = teacher.softmax(1)
    if how == "hard student":
        z = logits
    soft = -(p * z.log_softmax(1)).sum(1)
    entropy = -(p * p.log()).sum(1)
    if how == "twice":
        soft = F.cross_entropy(z.softmax(1), p, reduction="none")
    if how == "logits":
        soft = F.cross_entropy(z, teacher / T, reduction="none")
    if how in ("reversed", "reversed kl"):
        q = z.softmax(1)
        soft = -(q * p.log()).sum(1) + (how == "reversed kl") * (q * q.log()).sum(1)
    if how in ("kl", "kl classes"):
        soft = soft - entropy
    if how.endswith("classes"):
        soft = soft / logits.shape[1]
    hard = F.cross_entropy(z if how == "soft labels" else logits, labels, reduction="none")
    soft = soft * {"no square": 1.0, "one T": T}.get(how, T**2)
    a, b = {"exchanged": (1 - share, share), "labels only": (0, 1 - share),
            "all labels": (0, 1), "teacher only": (share, 0), "all teacher": (1, 0)}.get(
        how, (share, 1 - share)
    )  # fmt: skip
    each = a * soft + b * hard
    return each.sum() if how == "sum" else each.mean()


TAUGHT = (
    "no square, one T, exchanged, hard teacher, hard student, soft labels, twice, logits, "
    "reversed, reversed kl, classes, kl classes, sum, labels only, all labels, teacher only, "
    "all teacher"
).split(", ")


@exercise("smaller.5", MESSAGES["smaller.5"])
def _distillation_loss(answer) -> Verdict:
    for T, share in ((2.5, 0.3), (5.0, 0.9)):
        logits, teacher, labels = _class()
        logits.requires_grad_()
        loss = call(answer, logits, teacher, labels, T, share)
        got = number(loss)

        def value(how: str, T: float = T, share: float = share) -> float:
            return _taught(*_class(), T, share, how).item()

        if not any(near(got, value(how)) for how in ("", "kl")):
            found = next((how for how in TAUGHT if near(got, value(how))), "other")
            told = {"T": T, "share": share, "want": value(""), "got": got}
            return {"reversed kl": "reversed", "kl classes": "classes", "all labels": "labels only",
                    "all teacher": "teacher only"}.get(found, found), told  # fmt: skip
        if not torch.is_tensor(loss) or not loss.requires_grad:
            return "detached"
    return "right"


# --- 6: whose decision changes ---


def changed(before: ndarray, after: ndarray, patients: ndarray) -> int:
    """How many patients have another answer; a patient is called if any of her images is."""
    found = 0
    for one in np.unique(patients):
        hers = patients == one
        found += bool(before[hers].any() != after[hers].any())
    return found


def _decisions() -> list[tuple[ndarray, ndarray, ndarray]]:
    """Decisions before and after of patients with one to four images, not side by side."""
    trials = []
    for seed, n, often in ((1435, 60, 0.45), (1904, 44, 0.6)):
        rng = np.random.default_rng(seed)
        names = np.array([f"P{k:02}" for k in rng.integers(0, n // 2, n)])
        before = rng.random(n) < often
        after = np.where(rng.random(n) < 0.5, rng.random(n) < often * 0.7, before)
        trials.append((before, after, names))
    return trials


def _counted(before: ndarray, after: ndarray, patients: ndarray, how: str) -> float:
    """`changed` with one mistake."""
    if how == "images":
        return (before != after).sum()
    names = np.unique(patients)
    runs = np.cumsum(np.r_[True, patients[1:] != patients[:-1]])
    groups = [runs == k for k in np.unique(runs)] if how == "runs" else [
        patients == one for one in names
    ]  # fmt: skip
    any_of: Any = {
        "all": np.all,
        "majority": lambda v: np.mean(v) >= 0.5,
        "more": lambda v: np.mean(v) > 0.5,
        "first": lambda v: v[0],
    }.get(how, np.any)
    was, now = (np.array([bool(any_of(v[g])) for g in groups]) for v in (before, after))
    found = {
        "any": sum(bool((before[g] != after[g]).any()) for g in groups),
        "net": abs(int(was.sum()) - int(now.sum())),
        "gained": int((now & ~was).sum()),
        "lost": int((was & ~now).sum()),
        "same": int((was == now).sum()),
        "share": (was != now).mean(),
        "numbers": sum(before[g].sum() != after[g].sum() for g in groups),
    }
    return found.get(how, int((was != now).sum()))


COUNTED = (
    "images, any, all, majority, more, first, numbers, net, gained, lost, same, share, runs"
).split(", ")


@exercise("smaller.6", MESSAGES["smaller.6"])
def _changed(answer) -> Verdict:
    for trial in _decisions():
        got, want = number(_of(answer, *trial)), changed(*trial)
        if near(got, want):
            continue
        found = next((how for how in COUNTED if near(got, _counted(*trial, how))), "other")
        told = {"n": len(np.unique(trial[2])), "want": want, "got": f"{got:g}"}
        return {"more": "majority"}.get(found, found), told
    return "right"


# --- 7: the rule ---


def choose(
    kB: Mapping[str, float], lost: Mapping[str, float], changes: Mapping[str, float]
) -> str | None:
    """Of what fits and loses at most 0.02 AUC, what changes fewest decisions; then the smallest."""
    allowed = [name for name in kB if kB[name] <= MOST_KB and lost[name] <= MOST_LOST]
    return min(allowed, key=lambda name: (changes[name], kB[name]), default=None)


# Size, AUC lost, decisions changed
OFFERS: list[dict[str, tuple[float, float, float]]] = [
    {"A": (280, 0.0, 0.0), "B": (99, 0.003, 7.0), "C": (40, 0.012, 11.5), "D": (70, 0.03, 2.0),
     "E": (80, -0.004, 9.0), "F": (20, 0.2, 40.0), "G": (90, 0.015, 20.0), "H": (95, 0.01, 8.0)},
    {"A": (282, 0.0, 0.0), "B": (100, 0.02, 3.0), "C": (60, 0.01, 8.0), "D": (30, 0.015, 16.0)},
    {"A": (90, 0.001, 12.0), "B": (95, 0.0, 5.0), "C": (75, 0.006, 5.0), "D": (50, 0.01, 6.0)},
    {"A": (150, 0.0, 0.0), "B": (50, 0.021, 1.0), "C": (101, 0.01, 2.0)},
    {"A": (90, -0.03, 2.0), "B": (95, 0.0, 5.0), "C": (85, 0.01, 9.0)},
]  # fmt: skip


@exercise("smaller.7", MESSAGES["smaller.7"])
def _choose(answer) -> Verdict:
    for offers in OFFERS:
        tables = [{name: one[k] for name, one in offers.items()} for k in range(3)]
        want = choose(*tables)
        try:
            got = _of(answer, *tables)
        except Wrong as wrong:
            if wrong.key != "returned nothing" or offers is OFFERS[0]:
                raise
            got = None
        if got == want:
            continue
        if got is not None and (not isinstance(got, str) or got not in offers):
            return "format", {"got": repr(got)}
        return _choice_fault(got, want, *tables)
    return "right"


def _choice_fault(got: str | None, want: str | None, size: dict, lost: dict, changes: dict):
    told: dict[str, Any] = {"want": want, "got": got}
    if got is None:
        return "strict" if size[want] == MOST_KB else "other", told
    if want is not None and lost[want] < -MOST_LOST:
        return "gain", told
    told |= {"kB": size[got], "lost": lost[got]}
    allowed = [name for name in size if size[name] <= MOST_KB and lost[name] <= MOST_LOST]
    if not allowed:
        return "nothing", told
    if size[got] > MOST_KB:
        return "size", told
    if lost[got] > MOST_LOST:
        return "score", told
    if changes[got] == changes[want]:
        return "tie", told
    strictly = [name for name in allowed if size[name] < MOST_KB and lost[name] < MOST_LOST]
    if len(strictly) < len(allowed) and got == min(strictly, key=lambda name: changes[name]):
        return "strict", told
    for key, table, pick in (("most", changes, max), ("smallest", size, min), ("best", lost, min)):
        if got == pick(allowed, key=lambda name: table[name]):
            return key, told
    return "other", told


# --- 8: channels cut out ---


def cut(
    first: nn.Conv2d, norm: nn.BatchNorm2d, second: nn.Conv2d, keep: Any
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
    """Smaller layers: of what `first` makes, only the channels `keep` are left, in that order."""
    a = nn.Conv2d(first.in_channels, len(keep), 3, padding=1, bias=False)
    b = nn.BatchNorm2d(len(keep))
    c = nn.Conv2d(len(keep), second.out_channels, 3, padding=1, bias=False)
    with torch.no_grad():
        a.weight.copy_(first.weight[keep])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(b, name).copy_(getattr(norm, name)[keep])
        c.weight.copy_(second.weight[:, keep])
    return a, b, c


VECTORS = ("weight", "bias", "running_mean", "running_var")


def _three() -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
    """Two convolutions and a batch normalisation that remembers other patients."""
    rng = torch.Generator().manual_seed(6)
    first, norm = nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
    second = nn.Conv2d(5, 4, 3, padding=1, bias=False)
    with torch.no_grad():
        for conv in (first, second):
            conv.weight.copy_(torch.randn(conv.weight.shape, generator=rng))
        for name in VECTORS:
            getattr(norm, name).copy_(0.5 + torch.rand(5, generator=rng))
    return first.eval(), norm.eval(), second.eval()


@exercise("smaller.8", MESSAGES["smaller.8"])
def _cut(answer) -> Verdict:
    for keep in ([3, 0, 4], [1, 2]):
        old = _three()
        layers = call(answer, *old, list(keep))
        kinds = [type(one) for one in layers] if isinstance(layers, (tuple, list)) else []
        if kinds != [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
            got = ", ".join(kind.__name__ for kind in kinds) or type(layers).__name__
            return "format", {"got": got}
        fresh = _three()
        for one, other in zip(old, fresh, strict=True):
            if any(not torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items()):
                return "changed"
        found = _cut_fault(layers, fresh, keep)
        if found != "right":
            return found
    return "right"


def _cut_fault(layers: Any, old: tuple, keep: list[int]) -> Verdict:
    a, b, c = (layer.eval() for layer in layers)
    first, norm, second = old
    want = cut(first, norm, second, keep)
    shapes = [tuple(layer.weight.shape) for layer in (a, b, c)]
    wanted = [tuple(layer.weight.shape) for layer in want]
    if shapes != wanted:
        return "sizes", {"n": len(keep), "want": wanted, "got": shapes}
    ordered = cut(first, norm, second, sorted(keep))
    if keep != sorted(keep) and any(
        near(one.weight, other.weight) for one, other in zip((a, b, c), ordered, strict=True)
    ):
        return "order"
    if not near(a.weight, want[0].weight):
        return "first"
    for name in VECTORS:
        if not near(getattr(b, name), getattr(want[1], name)):
            return "norm", {"name": name}
    if not near(c.weight, want[2].weight):
        return "second"
    if a.bias is not None or c.bias is not None:
        return "bias"
    images = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = c(b(a(images)).relu())
        expected = want[2](want[1].eval()(want[0](images)).relu())
    if got.shape != expected.shape:
        return "shape", {"got": tuple(got.shape), "want": tuple(expected.shape)}
    return "right" if near(got, expected, absolute=1e-4) else "other"
