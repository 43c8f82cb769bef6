"""The checks of smaller, fed with right, untouched and typically wrong answers; PyTorch as oracle."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medlab.exercises import check, smaller
from medlab.exercises.smaller import MESSAGES
from medlab.models import SmallCNN
from tests.learners import is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# What PyTorch will rename one day serves as an oracle here
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per")


def grid(how):
    return lambda *args: smaller._grid(*args, how)


def scaled(how):
    return lambda weight: smaller._scaled(weight, how)


def kept(how):
    return lambda *args: smaller._kept(*args, how)


def taught(how):
    return lambda *args: smaller._taught(*args, how)


def counted(how):
    return lambda *args: smaller._counted(*args, how)


# ------------------------------------------------------------------------ other right answers


def grid_by_torch(x, low, high):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    zero = round(-low / scale)
    q = torch.quantize_per_tensor(x, scale, zero, torch.quint8)
    return [q.int_repr().tolist(), q.dequantize().numpy()]


def scaled_by_torch(weight):
    scales = weight.abs().amax((1, 2, 3)).double() / 127
    q = torch.quantize_per_channel(weight, scales, torch.zeros(len(weight)), 0, torch.qint8)
    return q.dequantize().tolist()


def masks_by_sorting(weights, share):
    sizes = np.sort(np.concatenate([w.abs().numpy().ravel() for w in weights]))
    limit = sizes[round(share * len(sizes))]
    return tuple((w.abs() >= limit).float() for w in weights)


def scaled_wrong(weight):
    return smaller.per_channel(weight) + 0.02


def finetuned(how):
    """`finetune` with one mistake; "gradients" masks these instead, which is right."""

    def found(net, convs, keep, batches):
        optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
        net.train(how != "eval")
        for k, (images, labels) in enumerate(batches):
            if how == "anew":
                optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
            if how != "accumulated":
                optimiser.zero_grad()
            loss = F.cross_entropy(net(images), labels)
            (loss * 0.5 if how == "half" else loss).backward()
            if how == "half":
                optimiser.param_groups[0]["lr"] = 1e-3
            masked = how not in ("once", "revived") or (how == "once" and k == len(batches) - 1)
            if how == "gradients":
                for conv, one in zip(convs, keep, strict=True):
                    conv.weight.grad *= one
            if how != "still":
                optimiser.step()
            with torch.no_grad():
                for conv, one in zip(convs, keep, strict=True):
                    if how == "kept":
                        conv.weight *= 0
                    elif masked and how != "gradients":
                        conv.weight *= one
            if how == "first":
                break
        return torch.nn.Identity() if how == "no net" else net

    return found


def changed_by_sets(before, after, patients):
    was, now = ({p for p, c in zip(patients, v, strict=True) if c} for v in (before, after))
    return torch.tensor(len(was ^ now))


def chosen(how):
    def found(kB, lost, changes):
        names = [name for name in kB if kB[name] <= 100 and lost[name] <= 0.02]
        if how == "strict":
            names = [name for name in kB if kB[name] < 100 and lost[name] < 0.02]
        if how == "size":
            names = [name for name in kB if lost[name] <= 0.02]
        if how == "score":
            names = [name for name in kB if kB[name] <= 100]
        if how == "gain":
            names = [name for name in names if abs(lost[name]) <= 0.02]
        if not names:
            return min(kB, key=kB.get) if how == "nothing" else None
        if how == "other":
            return sorted(names, key=changes.get)[1]
        key, pick = {"smallest": (kB, min), "best": (lost, min), "most": (changes, max)}.get(
            how, (changes, min)
        )
        if how == "tie":
            return min(names, key=lambda name: (changes[name], -kB[name]))
        return pick(names, key=lambda name: (key[name], kB[name]))

    return found


def chosen_in_a_loop(kB, lost, changes):
    best = None
    for name in sorted(kB, key=kB.get):
        if (
            kB[name] <= 100
            and lost[name] <= 0.02
            and (best is None or changes[name] < changes[best])
        ):
            best = name
    return best


def cut_with(how):
    """`cut` with one mistake."""

    def found(first, norm, second, keep):
        a, b, c = smaller.cut(first, norm, second, keep)
        with torch.no_grad():
            if how == "whole":
                return first, norm, second
            if how == "leading":
                a.weight.copy_(first.weight[: len(keep)])
            if how == "order":
                a.weight.copy_(first.weight[sorted(keep)])
            if how in smaller.VECTORS:
                getattr(b, how).copy_(getattr(norm, how)[: len(keep)])
            if how == "second":
                c.weight.copy_(second.weight[:, : len(keep)])
            if how == "changed":
                first.weight[1] = 0
            if how == "shape":
                a.padding = (0, 0)
            if how == "other":
                b.eps = 1.0
            if how == "with bias":
                a.bias = nn.Parameter(torch.ones(len(keep)))
        return (a, b) if how == "pair" else [a, b, c]

    return found


CASES = [
    ("smaller.1", smaller.there_and_back, "✓"),
    ("smaller.1", grid_by_torch, "✓"),
    ("smaller.1", lambda x, *a: x, "a pair of tensors"),
    ("smaller.1", lambda x, *a: (x, x[:3]), "a pair of tensors"),
    ("smaller.1", lambda *a: smaller.there_and_back(*a)[::-1], "whole numbers come first"),
    ("smaller.1", lambda x, *a: (smaller.there_and_back(x, *a)[0], x), "should come back as"),
    ("smaller.1", lambda x, *a: (x, x), "should become"),
    *[
        ("smaller.1", grid(word), said)
        for word, said in {
            "unwidened": "does not hold 0",
            "steps": "have 255 steps",
            "signed": "from −128 to 127",
            "no zero point": "became the whole number 0",
            "floor": "cut the decimals off",
            "toward 0": "cut the decimals off",
            "up": "cut the decimals off",
            "zero": "zero point is no whole number",
            "zero down": "or not the nearest",
            "zero inside": "Round it by itself",
            "unclipped": "lies outside the range",
            "low": "starts at the low end",
            "unclipped back": "from before the clipping",
            "wrapped": "your bytes wrap around",
        }.items()
    ],
    ("smaller.2", smaller.per_channel, "✓"),
    ("smaller.2", scaled_by_torch, "✓"),
    ("smaller.2", lambda weight: weight[0], "expected weights of shape"),
    ("smaller.2", lambda weight: "weights", "got str"),
    ("smaller.2", scaled_wrong, "to become"),
    *[
        ("smaller.2", scaled(word), said)
        for word, said in {
            "one scale": "all filters share",
            "input": "belong to the input channels",
            "kernel": "each pair of output and input",
            "whole": "Multiply by the scale",
            "unrounded": "as they were",
            "signless": "the largest *magnitude*",
            "128": "ends at 127",
            "255": "over 255 steps",
            "half": "over 255 steps",
            "range": "over 255 steps",
            "floor": "Round to the nearest",
            "toward 0": "Round to the nearest",
            "up": "Round to the nearest",
        }.items()
    ],
    ("smaller.3", smaller.masks, "✓"),
    ("smaller.3", masks_by_sorting, "✓"),
    ("smaller.3", lambda weights, share: weights, "other numbers than 0 and 1"),
    ("smaller.3", lambda weights, share: [weights[0] > 0], "a list of 3 tensors"),
    ("smaller.3", lambda weights, share: 0.5, "a list of 3 tensors"),
    (
        "smaller.3",
        lambda weights, share: [w.abs() > 0.3 * w.abs().max() for w in weights],
        "expected about 20 dropped",
    ),
    (
        "smaller.3",
        lambda weights, share: [w.mul_(kept) != 0 for w, kept in zip(
            weights, smaller.masks(weights, share), strict=True)],
        "changed the weights themselves",
    ),
    *[
        ("smaller.3", kept(word), said)
        for word, said in {
            "each": "of *each* tensor",
            "signed": "compared signed weights",
            "inverted": "True where a weight is dropped",
            "share": "should be *dropped*",
            "limit": "for the limit itself",
        }.items()
    ],
    ("smaller.4", smaller.finetune, "✓"),
    ("smaller.4", finetuned("gradients"), "✓"),
    *[
        ("smaller.4", finetuned(word), said)
        for word, said in {
            "no net": "expected the network back",
            "revived": "no longer 0",
            "once": "at the end only",
            "still": "`optimiser.step()`",
            "accumulated": "gradients of earlier batches",
            "eval": "`net.train()` first",
            "first": "one step only",
            "anew": "a new optimiser for each batch",
            "kept": "that should stay",
            "half": "not those of AdamW",
        }.items()
    ],
    ("smaller.5", smaller.distillation_loss, "✓"),
    ("smaller.5", taught("kl"), "✓"),
    ("smaller.5", lambda *a: taught("")(*a).item(), "has no gradient"),
    ("smaller.5", lambda *a: taught("")(*a) + 1, "I expected"),
    *[
        ("smaller.5", taught(word), said)
        for word, said in {
            "no square": "not multiplied by T²",
            "one T": "multiplied by T.",
            "exchanged": "`share` is the teacher's",
            "hard teacher": "logits are not divided by T",
            "hard student": "student's logits belong divided",
            "soft labels": "at T = 1",
            "twice": "takes the softmax of its first",
            "logits": "are no probabilities",
            "reversed": "exchanged teacher and student",
            "reversed kl": "exchanged teacher and student",
            "classes": "averaged over classes",
            "kl classes": "averaged over classes",
            "sum": "added the images up",
            "labels only": "leaves the teacher out",
            "all labels": "leaves the teacher out",
            "teacher only": "leaves the labels out",
            "all teacher": "leaves the labels out",
        }.items()
    ],
    ("smaller.6", smaller.changed, "✓"),
    ("smaller.6", changed_by_sets, "✓"),
    ("smaller.6", lambda *a: 100, "I expected"),
    *[
        ("smaller.6", counted(word), said)
        for word, said in {
            "images": "you counted images",
            "any": "have an *image* whose",
            "all": "only if all of her images",
            "majority": "let her images vote",
            "more": "let her images vote",
            "first": "at one image of each patient",
            "numbers": "*how many* of her images",
            "net": "cancel in yours",
            "gained": "counted the newly called",
            "lost": "counted those no longer called",
            "same": "whose decision is the same",
            "share": "divided by the number of patients",
            "runs": "each run of equal names",
        }.items()
    ],
    ("smaller.7", chosen(""), "✓"),
    ("smaller.7", chosen_in_a_loop, "✓"),
    ("smaller.7", lambda *a: 7, "a name, or None"),
    ("smaller.7", lambda *a: "Z", "a name, or None"),
    *[
        ("smaller.7", chosen(word), said)
        for word, said in {
            "strict": "allow what is equal",
            "size": "does not fit",
            "score": "more than 0.02",
            "gain": "A gain, however large",
            "tie": "the smaller file is taken",
            "smallest": "is the smallest file",
            "best": "has the highest AUC",
            "most": "changes *most*",
            "nothing": "nothing is allowed here",
            "other": "I expected",
        }.items()
    ],
    ("smaller.8", smaller.cut, "✓"),
    ("smaller.8", lambda *a: 3, "got int"),
    ("smaller.8", lambda *a: smaller.cut(*a[:3], torch.tensor(a[3])), "✓"),
    *[
        ("smaller.8", cut_with(word), said)
        for word, said in {
            "": "✓",
            "pair": "got Conv2d, BatchNorm2d",
            "whole": "expected weights of shapes",
            "leading": "not those named by `keep`",
            "order": "all three have its order",
            "weight": "`weight` of the batch normalisation",
            "bias": "`bias` of the batch normalisation",
            "with bias": "have a bias",
            "running_mean": "`running_mean` of",
            "running_var": "`running_var` of",
            "second": "axis 1 of its weights",
            "changed": "changed the old layers",
            "shape": "padding=1",
            "other": "do not answer as the old ones",
        }.items()
    ],
]  # fmt: skip


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_a_choice_of_none_where_something_is_allowed(capsys):
    def none_but_first(kB, lost, changes):
        return "B" if "F" in kB else None

    check("smaller.7", none_but_first)
    assert "allow what is equal" in " ".join(capsys.readouterr().out.split())


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# ------------------------------------------------------------------------ other authorities


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.3, 4.0), (-5.0, -0.2)])
def test_inside_the_grid_the_error_is_at_most_half_a_step(low, high):
    x = torch.linspace(-6, 6, 10001, dtype=torch.float64)
    q, back = smaller.there_and_back(x, low, high)
    scale = (max(high, 0) - min(low, 0)) / 255
    inside = (x >= back.min() - scale / 2) & (x <= back.max() + scale / 2)
    assert (back - x)[inside].abs().max() <= scale / 2 + 1e-9
    assert set(q.unique().tolist()) == set(range(256))
    assert (back == 0).any()


def test_the_square_keeps_the_gradient_at_every_high_temperature():
    z, teacher, _ = smaller._class()
    z.requires_grad_()
    rows = []
    for T in (50.0, 500.0):
        loss = smaller.distillation_loss(z, teacher, torch.zeros(5, dtype=int), T, 1.0)
        rows.append(torch.autograd.grad(loss, z)[0])
    apart = z.detach() - teacher
    limit = (apart - apart.mean(1, keepdim=True)) / (3 * 5)  # K classes, N images
    torch.testing.assert_close(rows[1], limit, rtol=0.02, atol=1e-4)
    torch.testing.assert_close(*rows, rtol=0.1, atol=2e-3)


def test_a_slim_network_answers_as_one_whose_other_channels_are_0():
    torch.manual_seed(0)
    net = SmallCNN(1, 2, 4)
    for _ in range(3):
        net(torch.rand(8, 1, 16, 16))
    net.eval()
    with torch.no_grad():
        for layer in net.features:
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.uniform_(0.1, 0.5)
    masked = copy.deepcopy(net)
    convs = [k for k, layer in enumerate(net.features) if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for k in convs:
            sums = net.features[k].weight.abs().sum((1, 2, 3))
            rest = sums.argsort()[: len(sums) // 2]
            for name in ("weight", "bias"):
                getattr(masked.features[k + 1], name)[rest] = 0
        images = torch.rand(5, 1, 16, 16)
        torch.testing.assert_close(smaller.slim(net, 2).eval()(images), masked(images))


def test_the_gain_is_the_difference_of_the_mean_aucs():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    y, z, of = rng.integers(0, 2, 80), rng.normal(size=(2, 80)), rng.normal(size=(2, 80))
    found = smaller.gain(y, z + y, of, np.repeat(np.arange(40), 2))
    want = np.mean([roc_auc_score(y, row + y) for row in z])
    want -= np.mean([roc_auc_score(y, row) for row in of])
    assert found.value == pytest.approx(want)
    assert found.low < want < found.high


# Other ways to the same numbers
EQUIVALENT = [
    "smaller.1: low, high = (min(low, 0.0), max(high, 0.0)) → low, high = (min(0.0, low), max(high, 0.0))",
    "smaller.1: low, high = (min(low, 0.0), max(high, 0.0)) → low, high = (min(low, 0.0), max(0.0, high))",
    "smaller.2: scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127 → scale = weight.abs().amax((2, 1, 3), keepdim=True) / 127",
    "smaller.3: return [w.abs() > limit for w in weights] → return [w.abs() >= limit for w in weights]",
    "smaller.8: for name in ('weight', 'bias', 'running_mean', 'running_var'): → for name in ('bias', 'weight', 'running_mean', 'running_var'):",
]


def test_no_changed_solution_is_called_right():
    assert ticked("31_smaller_and_faster", "smaller") == EQUIVALENT
