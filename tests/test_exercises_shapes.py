"""Checks of layers and shapes, fed with right, untouched and typically wrong answers."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medlab.exercises import check
from medlab.exercises.shapes import MESSAGES
from tests.learners import gap, is_told, is_told_what_is_no_answer, stub, unheard
from tests.mutants import ticked


def backward(X, W, b, H_bar, *, gate=lambda z, bias, g: g * (z > 0)):
    Z_bar = gate(X @ W.T + b, b, H_bar)
    return Z_bar @ W, Z_bar.T @ X, Z_bar.sum(0)


def by_autograd(X, W, b, H_bar):
    leaves = [t.clone().requires_grad_() for t in (X, W, b)]
    return torch.autograd.grad((F.linear(*leaves).relu() * H_bar).sum(), leaves)


def gated(gate):
    return lambda *given: backward(*given, gate=gate)


def changed(at, change):
    def answer(*given):
        back = list(backward(*given))
        back[at] = change(back[at], *given)
        return back

    return answer


def dead(h):
    return ((h == 0).transpose(0, 1).flatten(1).all(1)).float().mean()


def dead_in_loops(h):
    silent = [float((h[:, c] > 0).sum()) == 0 for c in range(h.shape[1])]
    return sum(silent) / len(silent)


def share(h, places):
    return (h == 0).flatten(2).all(2).float().mean() if h.ndim == 4 and places else 0


def sizes(m, layers, *, left=1, sides=2, steps=1, kernel=1):
    low = high = m
    for k, s, p in reversed(layers):
        low = (low - steps) * s + kernel * k - sides * p
        high = (high - steps) * s + kernel * k - sides * p + s - left
    return low, high


def forward(n, layers):
    for k, s, p in layers:
        n = (n + 2 * p - k) // s + 1
    return n


def tried(m, layers):
    return [n for n in range(1, 300) if forward(n, layers) == m]


def features(height, width, up=0, again=0):
    return 32 * math.prod(((n - 2 + up) // 2 - 2 + again) // 2 for n in (height, width))


def through_layers(height, width):
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.MaxPool2d(2))
    )
    return torch.tensor(net(torch.zeros(1, 1, height, width)).flatten().shape[0])


def batch(net, image, budget, *, copies=4, own=True, every=True, number=4, up=0):
    x, outputs = image[None], []
    for layer in net:
        x = layer(x)
        outputs.append(x.numel())
    each = (image.numel() if own else 0) + (sum(outputs) if every else outputs[-1])
    room = budget // number - copies * sum(p.numel() for p in net.parameters())
    return room // each + up


def shared_by_each(net, image, budget):
    held = 4 * sum(p.numel() for p in net.parameters())
    x, each = image[None], image.numel()
    for layer in net:
        x = layer(x)
        each += x.numel()
    return budget // 4 // (each + held)


def who(model, images, *, fresh=True, moves=lambda d: d.any(1), other=None):
    before, n = model(images), len(images)
    moved = torch.zeros(n, n, dtype=torch.bool)
    changed = images.clone()
    rng = torch.Generator().manual_seed(0)
    for m in range(n):
        changed = images.clone() if fresh else changed
        new = torch.randn(changed[m].shape, generator=rng)
        changed[m] = other(changed[m]) if other else new
        moved[:, m] = moves(model(changed) != before)
    return moved


def who_by_autograd(model, images):
    images.requires_grad_()
    rows = []
    for scores in model(images):
        each = [torch.autograd.grad(s, images, retain_graph=True)[0] for s in scores]
        rows.append(torch.stack(each).abs().sum((0, 2, 3, 4)) > 0)
    return torch.stack(rows)


def who_in_lists(model, images):
    return [[bool(v) for v in row] for row in who(model, images)]


def who_alone(model, images):
    moved = torch.zeros(len(images), len(images))
    for m in range(len(images)):
        one = images[m : m + 1]
        moved[m, m] = bool((model(one) != model(one + 1)).any())
    return moved


def network(*, hold=nn.ModuleList, keep="buffer", start=True, relu=True, last=False, scale=True):
    """The class of exercise 7, with one thing done differently."""

    class Net(nn.Module):
        def __init__(self, sizes, mean, spread):
            if start:
                super().__init__()
            for name, value in (("mean", mean), ("spread", spread)):
                if keep in ("parameter", "frozen"):
                    setattr(self, name, nn.Parameter(value, requires_grad=keep == "parameter"))
                elif keep == "plain":
                    setattr(self, name, value)
                else:
                    self.register_buffer(name, value, persistent=keep == "buffer")
            self.layers = hold([nn.Linear(a, b) for a, b in pairwise(sizes)])

        def forward(self, x):
            h = (x - self.mean) / self.spread if scale else x
            for layer in self.layers[:-1]:
                h = layer(h).relu() if relu else layer(h)
            h = self.layers[-1](h)
            return h.relu() if last else h

    return Net


class Sequential(network()):
    """The same, its layers in an nn.Sequential."""

    def __init__(self, sizes, mean, spread):
        super().__init__(sizes, mean, spread)
        stack = [f for layer in self.layers for f in (layer, nn.ReLU())]
        self.layers = nn.Sequential(*stack[:-1])

    def forward(self, x):
        return self.layers((x - self.mean) / self.spread)


class Both(network()):
    """The same, with mean and spread in one buffer."""

    def __init__(self, sizes, mean, spread):
        super().__init__(sizes, mean, spread)
        del self.mean, self.spread
        self.register_buffer("both", torch.stack([mean, spread]))

    def forward(self, x):
        mean, spread = self.both
        h = (x - mean) / spread
        for layer in self.layers[:-1]:
            h = layer(h).relu()
        return self.layers[-1](h)


class Short(network()):
    def __init__(self, sizes, mean, spread):
        super().__init__([*sizes[:2], 6, 6, sizes[-1]], mean, spread)


class Flat(network()):
    def forward(self, x):
        return super().forward(x)[0]


class Silent(network()):
    def forward(self, x):
        super().forward(x)


class Turned(network()):
    def forward(self, x):
        return -super().forward(x)


CASES = [
    ("shapes.1", backward, "✓"),
    ("shapes.1", by_autograd, "✓"),
    ("shapes.1", lambda *a: [g.numpy().tolist() for g in backward(*a)], "✓"),
    ("shapes.1", lambda *a: backward(*a)[0], "and got Tensor"),
    ("shapes.1", lambda *a: backward(*a)[:2], "and got 2 values"),
    ("shapes.1", lambda *a: (*backward(*a)[:2], "b"), "expected a number"),
    ("shapes.1", changed(1, lambda g, *_: g.T), "W_bar has shape (5, 3)"),
    ("shapes.1", changed(2, lambda g, *_: g[None]), "b_bar has shape (1, 3)"),
    ("shapes.1", gated(lambda z, b, g: g), "right for a layer without ReLU"),
    (
        "shapes.1",
        changed(2, lambda g, X, W, b, H_bar: H_bar.sum(0)),
        "b_bar is right for a layer without ReLU",
    ),
    ("shapes.1", gated(lambda z, b, g: g.relu()), "negative *gradients* to 0"),
    ("shapes.1", gated(lambda z, b, g: g * (z - b > 0)), "you left the bias out"),
    ("shapes.1", gated(lambda z, b, g: g * z.relu()), "you multiplied by h"),
    ("shapes.1", gated(lambda z, b, g: g * (z >= 0)), "but where z is exactly 0"),
    ("shapes.1", changed(1, lambda g, X, *_: g / len(X)), "W_bar is a mean over the images"),
    ("shapes.1", changed(2, lambda g, X, *_: g / len(X)), "b_bar is a mean over the images"),
    ("shapes.1", changed(0, lambda g, *_: -g), "X_bar["),
    ("shapes.2", dead, "✓"),
    ("shapes.2", dead_in_loops, "✓"),
    ("shapes.2", lambda h: dead(h).numpy(), "✓"),
    ("shapes.2", lambda h: (h == 0).float().mean(), "the share of zeros"),
    ("shapes.2", lambda h: 1 - dead(h), "units that live"),
    (
        "shapes.2",
        lambda h: (h == 0).transpose(0, 1).flatten(1).any(1).float().mean(),
        "silent at least once",
    ),
    (
        "shapes.2",
        lambda h: (h == 0).all(1).float().mean(),
        "you counted over units within an image",
    ),
    ("shapes.2", lambda h: (h == 0).all(0).float().mean(), "each place of a map for a unit"),
    (
        "shapes.2",
        lambda h: (h.transpose(0, 1).flatten(1).mean(1) < 1e-3).float().mean(),
        "value by value",
    ),
    ("shapes.2", lambda h: dead(h) * h.shape[1], "a share, from 0 to 1, and got 3"),
    ("shapes.2", lambda h: 0.77, "I expected 0.300 and got 0.770"),
    ("shapes.2", lambda h: (h == 0).all(0), "expected a number"),
    ("shapes.3", sizes, "✓"),
    ("shapes.3", tried, "✓"),
    ("shapes.3", lambda m, layers: (tried(m, layers)[0], tried(m, layers)[-1]), "✓"),
    ("shapes.3", lambda m, layers: range(sizes(m, layers)[0], sizes(m, layers)[1] + 1), "✓"),
    ("shapes.3", lambda *a: torch.tensor(sizes(*a)), "✓"),
    ("shapes.3", lambda *a: sizes(*a)[0], "all sizes, and got int"),
    ("shapes.3", lambda *a: "from 9 to 10", "all sizes, and got str"),
    ("shapes.3", lambda *a: (sizes(*a)[0],) * 2, "your two sizes are the same"),
    ("shapes.3", lambda *a: sizes(*a)[::-1], "the smallest size comes first"),
    ("shapes.3", lambda m, layers: sizes(m, layers[::-1]), "take the layers in reverse"),
    (
        "shapes.3",
        lambda m, layers: (sizes(m, layers)[0], sizes(m, layers)[0] + layers[0][1] - 1),
        "s − 1 in *each* layer",
    ),
    ("shapes.3", lambda *a: sizes(*a, sides=-2), "take 2p *off* the input"),
    ("shapes.3", lambda *a: sizes(*a, sides=1), "Padding lies on both sides"),
    ("shapes.3", lambda *a: sizes(*a, sides=0), "the padding is missing"),
    ("shapes.3", lambda *a: sizes(*a, steps=0), "m windows have m − 1 steps"),
    ("shapes.3", lambda *a: sizes(*a, kernel=0), "m windows have m − 1 steps"),
    ("shapes.3", lambda *a: sizes(*a, left=0), "another window would fit"),
    ("shapes.3", lambda *a: (1, 2), "I expected (15, 17) and got (1, 2)"),
    ("shapes.4", features, "✓"),
    ("shapes.4", through_layers, "✓"),
    ("shapes.4", lambda h, w: 32 * (h // 4) * (w // 4), "have no padding"),
    ("shapes.4", lambda h, w: features(h, w) // 32, "lines up the 32 channels"),
    ("shapes.4", lambda h, w: features(h, w) // 2, "first convolution's number"),
    ("shapes.4", lambda h, w: features(h, h), "not square"),
    ("shapes.4", lambda h, w: features(w, w), "not square"),
    ("shapes.4", lambda h, w: 32 * ((h - 6) / 4) * ((w - 6) / 4), "rounds down at each step"),
    ("shapes.4", lambda h, w: int(32 * ((h - 6) / 4) * ((w - 6) / 4)), "rounds down at each step"),
    ("shapes.4", lambda h, w: features(h, w, 1, 1), "pools that round up"),
    ("shapes.4", lambda h, w: features(h, w, 1), "You rounded up in the first pool"),
    ("shapes.4", lambda h, w: features(h, w, 0, 1), "did you round up in the second pool"),
    ("shapes.4", lambda h, w: 32 * ((h - 4) // 2) * ((w - 4) // 2), "the second halves again"),
    ("shapes.4", lambda h, w: 32 * ((h - 4) // 4) * ((w - 4) // 4), "Order matters"),
    (
        "shapes.4",
        lambda h, w: 32 * (((h - 1) // 2 - 1) // 2) * (((w - 1) // 2 - 1) // 2),
        "takes two.",
    ),
    ("shapes.4", lambda h, w: 6272, "for 101 × 76 I expected 12512 and got 6272"),
    ("shapes.4", lambda h, w: "flat", "expected a number"),
    ("shapes.5", batch, "✓"),
    ("shapes.5", lambda *a: torch.tensor(float(batch(*a))), "✓"),
    ("shapes.5", lambda *a: batch(*a) + 0.5, "expected a whole number of images"),
    ("shapes.5", lambda *a: batch(*a, copies=0), "two means take memory as well"),
    ("shapes.5", lambda *a: batch(*a, copies=1), "is held four times"),
    ("shapes.5", shared_by_each, "they count once"),
    ("shapes.5", lambda *a: batch(*a, number=1), "a number takes four"),
    ("shapes.5", lambda *a: batch(*a, own=False), "The image itself is held too"),
    ("shapes.5", lambda *a: batch(*a, own=False, every=False), "*Every* layer's output"),
    ("shapes.5", lambda *a: batch(*a, up=1), "does not fit: round down"),
    ("shapes.5", lambda *a: 32, "and got 32."),
    ("shapes.5", lambda *a: "all", "expected a number"),
    ("shapes.6", who, "✓"),
    ("shapes.6", who_by_autograd, "✓"),
    ("shapes.6", who_in_lists, "✓"),
    ("shapes.6", lambda *a: who(*a).double().numpy(), "✓"),
    ("shapes.6", lambda *a: who(*a).T, "yours is the other way round"),
    ("shapes.6", lambda *a: ~who(*a), "true and false are exchanged"),
    ("shapes.6", lambda *a: who(*a).fill_diagonal_(False), "you left out the diagonal"),
    ("shapes.6", who_alone, "one image at a time"),
    ("shapes.6", lambda *a: who(*a, fresh=False), "changed image m and left it so"),
    ("shapes.6", lambda *a: who(*a, moves=lambda d: d[:, 0]), "one of the 3 scores"),
    ("shapes.6", lambda *a: who(*a, moves=lambda d: d.all(1)), "One is enough"),
    ("shapes.6", lambda *a: who(*a, other=lambda image: image + 1), "does not see that"),
    ("shapes.6", lambda *a: who(*a, other=lambda image: 3 * image), "does not see that"),
    ("shapes.6", lambda *a: who(*a)[0], "6 × 6 pairs, and got shape (6,)"),
    ("shapes.6", lambda *a: 3 * who(*a), "pairs, and got other values"),
    ("shapes.6", lambda *a: "nobody", "pairs, and got str"),
    ("shapes.6", lambda *a: np.ones((6, 6)), "for a network that keeps patients apart"),
    ("shapes.7", network(), "✓"),
    ("shapes.7", Sequential, "✓"),
    ("shapes.7", network(hold=lambda layers: nn.Sequential(*layers)), "✓"),
    ("shapes.7", network(keep="frozen"), "✓"),
    ("shapes.7", Both, "✓"),
    ("shapes.7", lambda *a: 3, "inherits from nn.Module, and got <lambda>"),
    ("shapes.7", 3, "inherits from nn.Module, and got int"),
    ("shapes.7", dict, "inherits from nn.Module, and got dict"),
    ("shapes.7", network(start=False), "does not begin with super().__init__()"),
    ("shapes.7", network(hold=list), "knows 0 of its 6 weights and biases"),
    ("shapes.7", network(keep="parameter"), "the optimiser would change them"),
    ("shapes.7", network(keep="plain"), "after `.to(…)` the weights are on the new device"),
    ("shapes.7", network(keep="volatile"), "missing from the state_dict"),
    ("shapes.7", network(last=True), "stands after the last layer"),
    ("shapes.7", network(relu=False), "together they are one linear layer"),
    ("shapes.7", network(scale=False), "did not standardise x"),
    ("shapes.7", Short, "for sizes [5, 7, 4, 3] I expected weights"),
    ("shapes.7", Flat, "you returned (3,)"),
    ("shapes.7", Silent, "Does it end in `return …`?"),
    ("shapes.7", Turned, "and the output differs"),
]

# Any other change of an image is as good, and sizes are positive
EQUIVALENT = [
    "shapes.2: h = h.amax((2, 3)) → h = h.amax((3, 2))",
    "shapes.4: for n in (height, width): → for n in (width, height):",
    "shapes.4: places *= ((n - 2) // 2 - 2) // 2 → places *= ((n - 2) / 2 - 2) // 2",
    "shapes.5: return (budget // 4 - fixed) // each → return (budget / 4 - fixed) // each",
    "shapes.6: changed[m] = torch.randn_like(changed[m]) "
    "→ changed[m] = torch.randn_like(changed[m - 1])",
    "shapes.6: moved = torch.zeros(len(images), len(images), dtype=torch.bool) "
    "→ moved = torch.ones(len(images), len(images), dtype=torch.bool)",
    "shapes.6: moved = torch.zeros(len(images), len(images), dtype=torch.bool) "
    "→ moved = torch.zeros(len(images), len(images))",
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_the_check_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES.keys() - {"shapes.7"}))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


def test_a_class_that_is_not_written_is_not_attempted(capsys):
    class Empty(nn.Module):
        __init__, forward = stub, stub

    class Half(network()):
        forward = gap

    for answer in (Empty, Half, ...):
        check("shapes.7", answer)
        assert capsys.readouterr().out.startswith("○ shapes.7 not attempted yet")


def test_a_class_that_breaks_is_told(capsys):
    class Broken(network()):
        def forward(self, x):
            return x[99]

    check("shapes.7", Broken)
    assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


def test_a_changed_solution_is_not_ticked():
    assert ticked("05_layers_and_shapes", "shapes") == EQUIVALENT
