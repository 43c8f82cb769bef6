"""The checks of little data, fed with right, untouched and typically wrong answers."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from medlab.exercises import check, material
from medlab.exercises.little import MESSAGES
from medlab.models import SmallCNN
from tests.learners import broken, gap, hasty, stub, unheard
from tests.mutants import ticked

given = material("little")

# ------------------------------------------------------------------------ 1: drawing patients


def by_loop(patients, labels, sizes, rng):
    label = dict(zip(patients.tolist(), labels.tolist(), strict=True))
    orders = [[p for p in sorted(label) if label[p] == c] for c in (0, 1)]
    for order in orders:
        rng.shuffle(order)
    sets = [{p for order in orders for p in order[: k // 2]} for k in sizes]
    return [[i for i, p in enumerate(patients) if p in s] for s in sets]


def as_masks(patients, labels, sizes, rng):
    rows = given.draw(patients, labels, sizes, rng)
    return tuple(torch.from_numpy(np.isin(np.arange(len(labels)), r)) for r in rows)


def images(patients, labels, sizes, rng):
    rows = [rng.permutation(np.flatnonzero(labels == c)) for c in (0, 1)]
    return [np.concatenate([r[: k // 2] for r in rows]) for k in sizes]


def by_image(patients, labels, sizes, rng):
    """Names are not made unique: who has many images comes early in the order."""
    orders = []
    for c in (0, 1):
        names = rng.permutation(patients[labels == c])
        _, first = np.unique(names, return_index=True)
        orders.append(names[np.sort(first)])
    return [
        np.flatnonzero(np.isin(patients, [n for o in orders for n in o[: k // 2]])) for k in sizes
    ]


def draw(patients, labels, sizes, rng, *, half=lambda k: (k // 2, k // 2), anew=False, turn=None):
    turn = turn or (lambda names: rng.permutation(names))

    def order():
        return [turn(np.unique(patients[labels == c])) for c in (1, 0)]

    orders, found = order(), []
    for k in sizes:
        orders = order() if anew else orders
        names = np.concatenate([o[:h] for o, h in zip(orders, half(k), strict=True)])
        found.append(np.flatnonzero(np.isin(patients, names)))
    return found


def unsorted_turn(names):
    return np.random.permutation(names)


def skips_first(patients, labels, sizes, rng):
    """The first patient of a class never comes."""
    orders = [rng.permutation(np.unique(patients[labels == c])[1:]) for c in (0, 1)]
    return [
        np.flatnonzero(np.isin(patients, [n for o in orders for n in o[: k // 2]])) for k in sizes
    ]


def changed(change, patients, labels, sizes, rng):
    return [change(rows, patients) for rows in given.draw(patients, labels, sizes, rng)]


def torn(rows, patients):
    names, count = np.unique(patients[rows], return_counts=True)
    return rows[rows != np.flatnonzero(patients == names[count > 1][0])[0]]


# ------------------------------------------------------------------------ 2: gains


def gain(a, b, *, rows=None, columns=None, mean=None):
    d = np.asarray(a) - np.asarray(b)
    right = given.gain(a, b)
    return (
        d.mean() if mean is None else mean(d),
        right[1] if rows is None else rows(d),
        right[2] if columns is None else columns(d),
    )


def by_tensor(a, b):
    d = torch.as_tensor(a) - torch.as_tensor(b)
    return torch.stack([d.mean(), d.mean(1).std() / len(d) ** 0.5, d.mean(0).std(correction=0)])


def summary(d):
    """As the notebook's summary writes it."""
    return d.mean(), np.std(np.mean(d, 1), ddof=1) / len(d) ** 0.5, d.mean(0).std(ddof=1)


def unpaired(a, b, place):
    p, q = given.gain(a, 0), given.gain(b, 0)
    found = list(given.gain(a, b))
    found[place] = np.hypot(p[place], q[place])
    return found


# ------------------------------------------------------------------------ 3: modes

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def modes(model, *, start=True, when=lambda p: not p, kinds=NORMS, mode=False):
    if start:
        model.train()
    for layer in model.modules():
        if isinstance(layer, kinds) and when(layer.weight.requires_grad):
            layer.train(mode)


def all_frozen_leaves(model):
    """Whatever holds frozen weights, convolutions too."""
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        layer.training = not own or any(p.requires_grad for p in own)
    return model


def body_in_eval(model):
    model.train()
    model[0].eval()


def no_head(model):
    modes(model)
    model[3].eval()


def grads(model):
    modes(model)
    model[0][0].requires_grad_(True)


def reset(model):
    modes(model)
    model[0][1].reset_running_stats()


def last_dropout(model):
    modes(model)
    model[2].eval()


def without_train(model):
    """Turns on what learns, and never off again what was turned off."""
    for layer in model.modules():
        if not isinstance(layer, NORMS):
            layer.training = True
    model[1][1].train()
    model[3].train()
    model[4][2].train()


# ------------------------------------------------------------------------ 4: fine-tuning


def fine_tune(
    model,
    images,
    labels,
    lr,
    slower,
    steps,
    rng,
    *,
    left=lambda name: False,
    more=0,
    size=16,
    rates=lambda lr, slower: (lr, lr / slower),
    draw=None,
    batch=True,
):
    """Written otherwise: one group a weight, and a rate set by hand."""
    head, body = rates(lr, slower)
    groups = [
        {"params": [p], "lr": head if "classifier" in n else body}
        for n, p in model.named_parameters()
        if not left(n)
    ]
    descent = torch.optim.AdamW(groups)
    first = [g["lr"] for g in groups]
    model.train()
    for step in range(steps + more):
        for group, rate in zip(descent.param_groups, first, strict=True):
            group["lr"] = rate * (1 - step / steps)
        rows = torch.randint(len(images), (size,), generator=draw(rng) if draw else rng)
        rows = rows if batch else torch.arange(len(images))
        descent.zero_grad()
        nn.CrossEntropyLoss()(model(images[rows]), labels[rows]).backward()
        descent.step()
    return model


def without(fault):
    return partial(given.fine_tune, fault=fault)


def mirrored(model, images, labels, *rest):
    return given.fine_tune(model, images.flip(3), labels, *rest)


def no_steps(model, *rest):
    return model


# ------------------------------------------------------------------------ 5: shuffled


def shuffled(model, rng, *, new=None, inplace=False, of=lambda m: list(m.parameters())):
    """Written otherwise; `new` makes the new values of a tensor."""
    new = new or (
        lambda v: v.reshape(-1)[torch.randperm(v.numel(), generator=rng)].reshape(v.shape)
    )
    found = model if inplace else copy.deepcopy(model)
    with torch.no_grad():
        for p in of(found):
            p.copy_(new(p.clone()))
    return found


def memories(model):
    return [v for v in model.state_dict().values() if v.is_floating_point()]


CASES = [
    ("little.1", given.draw, "✓"),
    ("little.1", by_loop, "✓"),
    ("little.1", as_masks, "✓"),
    ("little.1", hasty(given.draw), "✓"),
    ("little.1", lambda *a: given.draw(*a)[0], "expected a list of positions"),
    ("little.1", lambda *a: given.draw(*a)[1:], "expected a list of positions"),
    ("little.1", partial(changed, lambda r, p: p[r]), "I expected positions of images"),
    ("little.1", partial(changed, lambda r, p: r + len(p)), "I expected positions of images"),
    ("little.1", partial(changed, lambda r, p: np.append(r, r[0])), "stands twice"),
    ("little.1", images, "you drew 4 images"),
    ("little.1", partial(changed, torn), "are in and some are not"),
    ("little.1", partial(draw, half=lambda k: (k, k)), "k patients of each class"),
    ("little.1", partial(draw, half=lambda k: (k // 2, k // 2 - 1)), "there are 3 patients"),
    ("little.1", partial(draw, half=lambda k: (k // 2 + 1, k // 2 - 1)), "3 ill and 1 healthy"),
    ("little.1", partial(draw, anew=True), "are not all among those"),
    ("little.1", partial(draw, turn=lambda names: names), "two generators gave the same"),
    ("little.1", partial(draw, turn=unsorted_turn), "gave two choices"),
    ("little.1", by_image, "drawn too often"),
    ("little.1", skips_first, "is drawn in 0%"),
    ("little.2", given.gain, "✓"),
    ("little.2", by_tensor, "✓"),
    ("little.2", lambda a, b: summary(a - b), "✓"),
    ("little.2", hasty(given.gain), "✓"),
    ("little.2", lambda a, b: given.gain(a, b)[:2], "expected three numbers"),
    ("little.2", lambda a, b: 0.3, "expected three numbers"),
    ("little.2", partial(gain, mean=np.max), "the mean gain should be"),
    ("little.2", lambda a, b: given.gain(b, a), "wrong sign"),
    ("little.2", partial(unpaired, place=1), "subtract first"),
    ("little.2", partial(unpaired, place=2), "subtract first"),
    ("little.2", partial(gain, rows=lambda d: d.mean(0).std(ddof=1)), "other way round"),
    ("little.2", partial(gain, columns=lambda d: d.mean(1).std(ddof=1)), "other way round"),
    ("little.2", partial(gain, rows=np.std), "mixes the two reasons"),
    ("little.2", partial(gain, columns=np.std), "mixes the two reasons"),
    ("little.2", partial(gain, columns=lambda d: d.std(1).mean()), "Average first"),
    (
        "little.2",
        partial(gain, rows=lambda d: d.std(1, ddof=1).mean() / len(d) ** 0.5),
        "Average first",
    ),
    ("little.2", partial(gain, rows=lambda d: d.mean(1).std(ddof=1)), "divide by √R"),
    ("little.2", partial(gain, rows=lambda d: d.mean(1).std() / len(d) ** 0.5), "not R: ddof=1"),
    (
        "little.2",
        partial(gain, columns=lambda d: d.mean(0).std(ddof=1) / d.shape[1] ** 0.5),
        "resamples are no new",
    ),
    ("little.2", partial(gain, columns=lambda d: d.mean(0).var(ddof=1)), "take its root"),
    ("little.2", partial(gain, columns=lambda d: 1.0), "error over test patients should"),
    ("little.3", modes, "✓"),
    ("little.3", given.training_mode, "✓"),
    ("little.3", lambda model: model, "in evaluation mode as before"),
    ("little.3", nn.Module.train, "layer 0.1 (BatchNorm2d) of the network tried here"),
    ("little.3", partial(modes, kinds=nn.BatchNorm1d), "take each batch's statistics"),
    ("little.3", partial(modes, kinds=nn.BatchNorm2d), "take each batch's statistics"),
    ("little.3", lambda model: modes(copy.deepcopy(model)), "not a copy"),
    ("little.3", partial(modes, when=lambda p: True), "layer 1.1 (BatchNorm2d) of the"),
    ("little.3", no_head, "here learns, and after"),
    ("little.3", all_frozen_leaves, "✓"),
    ("little.3", body_in_eval, "layer 0.3.2 (Dropout) of the"),
    ("little.3", last_dropout, "here holds no weights"),
    ("little.3", without_train, "set free"),
    ("little.3", grads, "another requires_grad"),
    ("little.3", reset, "has other numbers"),
    ("little.4", fine_tune, "✓"),
    ("little.4", given.fine_tune, "✓"),
    ("little.4", lambda *a: 3, "expected the model back"),
    ("little.4", no_steps, "no weight has moved"),
    ("little.4", partial(fine_tune, left=lambda n: "classifier" in n), "the head has not"),
    ("little.4", partial(fine_tune, left=lambda n: "bias" in n), "the head has not"),
    ("little.4", partial(fine_tune, left=lambda n: n == "offset"), "offset has not moved"),
    ("little.4", partial(fine_tune, rates=lambda lr, s: (lr / s, lr)), "exchanged the two"),
    ("little.4", without("times"), "you multiplied"),
    ("little.4", without("one rate"), "learn at one rate"),
    ("little.4", without("sum"), "pile up"),
    ("little.4", without("no fall"), "do not fall"),
    ("little.4", without("slow fall"), "do not end at 0"),
    ("little.4", without("eval"), "in evaluation mode: start"),
    ("little.4", without("softmax"), "takes logits"),
    ("little.4", without("plain"), "another optimiser"),
    ("little.4", partial(fine_tune, batch=False), "all images in each step"),
    ("little.4", partial(fine_tune, more=1), "you made 8 steps"),
    ("little.4", partial(fine_tune, size=32), "have 32 images"),
    ("little.4", partial(fine_tune, draw=lambda rng: None), "draw with `rng` alone"),
    ("little.4", mirrored, "your weights differ"),
    ("little.5", shuffled, "✓"),
    ("little.5", given.shuffled, "✓"),
    ("little.5", lambda model, rng: 3, "like the one given"),
    ("little.5", partial(shuffled, inplace=True), "Shuffle a copy"),
    ("little.5", lambda model, rng: copy.deepcopy(model), "is as it was"),
    ("little.5", partial(shuffled, of=lambda m: list(m.parameters())[:-1]), "1.bias is as it"),
    ("little.5", partial(shuffled, new=torch.randn_like), "has other numbers"),
    ("little.5", partial(shuffled, new=lambda v: v.flip(0)), "whole rows"),
    (
        "little.5",
        partial(shuffled, new=lambda v: v.flip(int(v.ndim > 1))),
        "within their row",
    ),
    ("little.5", partial(shuffled, of=memories), "is a memory"),
    ("little.5", lambda m, rng: shuffled(m, torch.default_generator), "draw with `rng`"),
    ("little.5", lambda m, rng: shuffled(m, torch.Generator().manual_seed(4)), "same result"),
]


@pytest.mark.parametrize(("id", "answer", "text"), CASES)
def test_every_answer_is_answered(id, answer, text, capsys):
    check(id, answer)
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("✓" if text == "✓" else "✗")
    assert text in said


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    for answer in (stub, gap, ...):
        check(id, answer)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    check(id, broken)
    assert "your code stopped with IndexError" in capsys.readouterr().out


def test_half_an_answer_is_not_attempted(capsys):
    check("little.1", lambda patients, labels, sizes, rng: [..., *sizes[1:]])
    check("little.2", lambda a, b: (..., 1, 2))
    assert capsys.readouterr().out.count("not attempted yet") == 2


def test_a_gain_over_nothing_is_a_score():
    table = np.array([[0.7, 0.8], [0.5, 0.9]])
    mean, draws, patients = given.gain(table, 0)
    assert (mean, draws) == pytest.approx((0.725, 0.025))  # of 0.75 and 0.7, over √2
    assert patients == pytest.approx(0.25 / 2**0.5)  # of 0.6 and 0.85


def test_the_given_functions_fit_the_package():
    model = SmallCNN(1, 2, width=2)
    model.features.requires_grad_(False)
    given.training_mode(model.eval())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert model.training and not any(m.training for m in norms)


def test_a_check_leaves_the_global_random_states_alone():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    for id, answer in (("little.1", given.draw), ("little.3", modes), ("little.4", fine_tune)):
        check(id, answer)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


NAMES = "names = np.concatenate([ill[:k // 2], healthy[:k // 2]])"
PATIENTS = "patients = d.mean(0).std(ddof=1)"
GROUPS = "groups = [{'params': head, 'lr': lr}, {'params': rest, 'lr': lr / slower}]"
# Sets have no order; of 60 resamples and more the divisor hardly matters; both groups move on
EQUIVALENT = [
    f"little.1: {NAMES} → names = np.concatenate([healthy[:k // 2], ill[:k // 2]])",
    f"little.2: {PATIENTS} → patients = d.mean(0).std()",
    f"little.2: {PATIENTS} → patients = d.mean(0).std(ddof=0)",
    f"little.2: {PATIENTS} → patients = d.mean(0).std(ddof=2)",
    "little.3: kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) → "
    "kinds = (nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d)",
    f"little.4: {GROUPS} → "
    "groups = [{'params': rest, 'lr': lr / slower}, {'params': head, 'lr': lr}]",
    "little.4: head, rest = ([], []) → rest, head = ([], [])",
    "little.5: p.data = p.data.flatten()[order].view_as(p) → "
    "p.data = p.data.flatten()[order - 1].view_as(p)",  # -1 is the last place
]


def test_no_changed_solution_is_called_right():
    assert ticked("16_little_data", "little") == sorted(EQUIVALENT)
