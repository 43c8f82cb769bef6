"""U-Net's checks, fed with right, untouched and typically wrong answers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medlab.exercises import check
from medlab.exercises.unet import MESSAGES
from medlab.losses import soft_dice
from medlab.models import UNet, feature_maps
from tests.learners import broken, gap, prints, stub, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: sizes


def output_side(n, depth, cost=4, bottom=4, up=4, odd=True, least=0):
    for _ in range(depth):
        n = n - cost
        if n % 2 and odd:
            return 0
        n = n // 2
    n = n - bottom
    for _ in range(depth):
        n = 2 * n - up
    return max(n, least)


class Original(nn.Module):
    """The network of 2015 without its channels: unpadded convolutions, pooling, doubling."""

    def __init__(self, depth):
        super().__init__()
        self.depth = depth
        self.convolve = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))

    def forward(self, x):
        for _ in range(self.depth):
            x = self.convolve(x)
            assert x.shape[-1] % 2 == 0
            x = F.max_pool2d(x, 2)
        x = self.convolve(x)
        for _ in range(self.depth):
            x = self.convolve(F.interpolate(x, scale_factor=2))
        return x


def by_network(n, depth):
    try:
        return Original(depth)(torch.zeros(1, 1, n, n)).shape[-1]
    except (AssertionError, RuntimeError):
        return 0


def test_sides_are_those_of_a_network():
    for depth, sides in ((1, range(1, 40)), (2, range(60, 80)), (3, (92, 100, 101, 108))):
        assert [by_network(n, depth) for n in sides] == [output_side(n, depth) for n in sides]
    assert output_side(572, 4) == 388  # figure 1 of the paper


def too_strict(n, depth):
    return 0 if n % 2 else output_side(n, depth)


def even_bottom(n, depth):
    at_bottom = n
    for _ in range(depth):
        at_bottom = (at_bottom - 4) // 2
    return 0 if at_bottom % 2 else output_side(n, depth)


def test_of_16_sides_in_a_row_near_that_of_the_paper_15_give_nothing():
    for first in range(540, 590):
        assert sum(output_side(n, 4) > 0 for n in range(first, first + 16)) == 1


# ------------------------------------------------------------------------ 2: the way up


def enlarge(x, w, s, add=True):
    (k, m), (rows, columns) = w.shape, x.shape
    y = torch.zeros((rows - 1) * s + k, (columns - 1) * s + m)
    for i, j in np.ndindex(rows, columns):
        window = y[s * i : s * i + k, s * j : s * j + m]
        window.copy_(window + x[i, j] * w if add else x[i, j] * w)
    return y


def by_library(x, w, s):
    return F.conv_transpose2d(x[None, None], w[None, None], stride=s)[0, 0]


def by_zeros_between(x, w, s):
    """Zeros between the pixels, a frame of zeros, and an ordinary convolution."""
    (rows, columns), (k, m) = x.shape, w.shape
    wide = torch.zeros((rows - 1) * s + 1, (columns - 1) * s + 1)
    wide[::s, ::s] = x
    framed = F.pad(wide, (m - 1, m - 1, k - 1, k - 1))
    return F.conv2d(framed[None, None], w.flip(0, 1)[None, None])[0, 0].tolist()


def averaging(x, w, s):
    return by_library(x, w, s) / by_library(torch.ones_like(x), torch.ones_like(w), s).clamp_min(1)


def without_step(x, w, s):
    """Copies one place apart, in a result as large as those s apart would need."""
    y = torch.zeros_like(by_library(x, w, s))
    for i, j in np.ndindex(*x.shape):
        y[i : i + w.shape[0], j : j + w.shape[1]] += x[i, j] * w
    return y


def tiles(x, w, s):
    return by_library(x, w, s)[: s * x.shape[0], : s * x.shape[1]]


def too_small(x, w, s):
    """As many pixels as s times the image has, where the last copy does not fit."""
    y = torch.zeros(s * x.shape[0], s * x.shape[1])
    for i, j in np.ndindex(*x.shape):
        y[s * i : s * i + w.shape[0], s * j : s * j + w.shape[1]] += x[i, j] * w
    return y


def too_small_in_numpy(x, w, s):
    y = np.zeros((s * x.shape[0], s * x.shape[1]))
    for i, j in np.ndindex(*x.shape):
        y[s * i : s * i + w.shape[0], s * j : s * j + w.shape[1]] += (x[i, j] * w).numpy()
    return y


def too_small_by_pixels(x, w, s):
    y = torch.zeros(s * x.shape[0], s * x.shape[1])
    for i, j, a, b in np.ndindex(*x.shape, *w.shape):
        y[s * i + a, s * j + b] += x[i, j] * w[a, b]
    return y


# ------------------------------------------------------------------------ 3: the network


def two(inputs, outputs):
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class Network(nn.Module):
    swapped = cut = listed = repeated = False
    pool, finish, joined = staticmethod(F.max_pool2d), staticmethod(lambda z: z), 2
    deeper = 0

    def __init__(self, in_channels, num_classes, width, depth):
        super().__init__()
        depth += self.deeper
        channels = [width * 2**level for level in range(depth + 1)]
        hold = list if self.listed else nn.ModuleList
        self.down = hold(two(a, b) for a, b in zip([in_channels, *channels], channels))  # noqa: B905
        self.up = hold(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in reversed(channels[:-1]))
        self.merge = hold(two(self.joined * c, c) for c in reversed(channels[:-1]))
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        bridges = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x, 2))
            bridges.append(x)
        bridges.pop()
        for up, block in zip(self.up, self.merge, strict=True):
            x, bridge = up(x), bridges.pop()
            bridge = x if self.repeated else 0 * bridge if self.cut else bridge
            if self.joined == 1:
                x = block(x + bridge)
            else:
                x = block(torch.cat([x, bridge] if self.swapped else [bridge, x], 1))
        return self.finish(self.classifier(x))


def changed(**names):
    return type("Changed", (Network,), names)


class Renamed(Network):
    def __init__(self, *args):
        super().__init__(*args)
        self.rising = self._modules.pop("up")

    def forward(self, x):
        self._modules["up"] = self.rising
        return super().forward(x)


class Cropped(Network):
    def forward(self, x):
        return super().forward(x)[..., 1:]


class WithBias(Network):
    def __init__(self, *args):
        super().__init__(*args)
        self.extra = nn.Linear(2, 3)


class KeepsAll(Network):
    """Its steps up keep 2c maps, and its blocks take in 3c."""

    def __init__(self, in_channels, num_classes, width, depth):
        super().__init__(in_channels, num_classes, width, depth)
        channels = [width * 2**level for level in reversed(range(depth))]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, 2 * c, 2, stride=2) for c in channels)
        self.merge = nn.ModuleList(two(3 * c, c) for c in channels)


class ListsOnTheWayUp(Network):
    def __init__(self, *args):
        super().__init__(*args)
        up, merge = list(self.up), list(self.merge)
        del self.up, self.merge
        self.up, self.merge = up, merge


class OwnBottom(Network):
    def __init__(self, *args):
        super().__init__(*args)
        self.bottom = self.down[-1]
        self.down = self.down[:-1]


class FirstInFirstOut(Network):
    def forward(self, x):
        bridges = []
        for block in self.down[:-1]:
            bridges.append(block(x))
            x = F.max_pool2d(bridges[-1], 2)
        return self.rise(self.down[-1](x), bridges)

    def rise(self, x, bridges):
        for up, block in zip(self.up, self.merge, strict=True):
            x = block(torch.cat([bridges.pop(0), up(x)], dim=1))
        return self.classifier(x)


class KeptAfterPooling(FirstInFirstOut):
    def forward(self, x):
        bridges = []
        for block in self.down[:-1]:
            x = F.max_pool2d(block(x), 2)
            bridges.insert(0, x)
        return self.rise(self.down[-1](x), bridges)


class BottomAsBridge(FirstInFirstOut):
    def rise(self, x, bridges):
        return super().rise(x, [x, *reversed(bridges)])


class NoWayUp(Network):
    def __init__(self, *args):
        super().__init__(*args)
        del self.up, self.merge
        self.up, self.merge = ..., ...


class NoForward(Network):
    def __init__(self, *args):
        super().__init__(*args)

    def forward(self, x): ...


class OpenForward(Network):
    def __init__(self, *args):
        super().__init__(*args)

    def forward(self, x):
        return ...


class NoReturn(Network):
    def forward(self, x):
        super().forward(x)


class Half(nn.Module):
    def __init__(self, *args):
        super().__init__()
        self.down, self.up = nn.ModuleList(), ...

    def forward(self, x): ...


def test_the_network_is_the_packages():
    """What the learner builds gives the logits of medlab.models.UNet, in training mode too."""
    torch.manual_seed(0)
    own, ours = Network(3, 4, 6, 3), UNet(3, 4, 6, depth=3)
    state = {k: v for k, v in ours.state_dict().items() if not k.startswith("standardise")}
    own.load_state_dict(state)
    x = torch.randn(2, 3, 24, 40)
    for mode in (True, False):
        torch.testing.assert_close(own.train(mode)(x), ours.train(mode)(x))
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in ours.parameters())


# ------------------------------------------------------------------------ 4: the loss


def dice_loss(logits, masks, first=1, above=1, below=1, times=2, p=None, axes=None):
    p = logits.softmax(1) if p is None else p
    g = F.one_hot(masks, logits.shape[1]).movedim(-1, 1)
    axes = [0, *range(2, p.ndim)] if axes is None else axes
    overlap = (times * (p * g).sum(axes) + above) / (p.sum(axes) + g.sum(axes) + below)
    return 1 - overlap[..., first:].mean()


def by_loops(logits, masks):
    p, terms = logits.softmax(1), []
    for k in range(1, logits.shape[1]):
        truth = (masks == k).float()
        terms.append((2 * (p[:, k] * truth).sum() + 1) / ((p[:, k] + truth).sum() + 1))
    return (1 - torch.stack(terms)).mean()


def squared(logits, masks):
    p, g = logits.softmax(1), F.one_hot(masks, logits.shape[1]).movedim(-1, 1)
    axes = [0, *range(2, p.ndim)]
    D = (2 * (p * g).sum(axes) + 1) / ((p**2).sum(axes) + (g**2).sum(axes) + 1)
    return 1 - D[1:].mean()


def pictures_only(logits, masks):
    p, g = logits.softmax(1), F.one_hot(masks, logits.shape[1]).movedim(-1, 1)
    D = (2 * (p * g).sum((0, 2, 3)) + 1) / ((p + g).sum((0, 2, 3)) + 1)
    return 1 - D[1:].mean()


def pooled(logits, masks):
    p, g = logits.softmax(1)[:, 1:], F.one_hot(masks, logits.shape[1]).movedim(-1, 1)[:, 1:]
    return 1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)


def hard(logits, masks):
    found = F.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).float()
    return dice_loss(logits, masks, p=found) + 0 * logits.sum()


# ------------------------------------------------------------------------ 5: memory


def feature_values(size, width, depth, up=2, bottom=2, grow=2, halved=None):
    total = 0
    for level in range(depth + 1):
        values = width * grow**level
        for axis, side in enumerate(size):
            values *= side // 2**level if halved is None or axis in halved else side
        total += values * (2 + up if level < depth else bottom)
    return total


@pytest.mark.parametrize(("size", "depth"), [((16, 24), 3), ((8, 4, 12), 2)])
def test_values_are_what_the_convolutions_give(size, depth):
    model = UNet(1, 3, 4, depth=depth, dims=len(size))
    kinds = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d)}
    maps = feature_maps(model, torch.rand(1, 1, *size))
    given = sum(maps[name].numel() for name, m in kinds.items() if m.kernel_size[0] == 3)
    assert given == feature_values(size, 4, depth)


CASES = [
    ("unet.1", output_side, "✓"),
    ("unet.1", lambda n, depth: torch.tensor(output_side(n, depth)), "✓"),
    ("unet.1", lambda n, d: output_side(n, d, 2, 2, 2), "you took off 2 pixels a level"),
    ("unet.1", lambda n, d: n, "the side that came in"),
    ("unet.1", lambda n, d: output_side(n, d, odd=False), "meets an odd side"),
    ("unet.1", too_strict, "n need not be a multiple of 2^depth"),
    ("unet.1", lambda n, d: 0 if n % 2**d else output_side(n, d), "572 becomes 568"),
    ("unet.1", even_bottom, "the bottom may be odd"),
    ("unet.1", lambda n, d: output_side(n, d, bottom=0), "convolutions at the bottom too"),
    ("unet.1", lambda n, d: output_side(n, d, up=0), "each doubling is followed"),
    ("unet.1", lambda n, d: output_side(n, d, least=-(10**6)), "and you returned -"),
    ("unet.1", lambda n, d: output_side(n, d) + 1, "the bottom has 32 and then 28"),
    ("unet.1", lambda n, d: "388", "✗"),
    ("unet.2", enlarge, "✓"),
    ("unet.2", by_library, "✓"),
    ("unet.2", by_zeros_between, "✓"),
    ("unet.2", lambda x, w, s: by_library(x, w, s).numpy(), "✓"),
    ("unet.2", lambda *a: enlarge(*a, add=False), "the last one only"),
    ("unet.2", lambda x, w, s: by_library(x, w.flip(0, 1), s), "turned by 180°"),
    (
        "unet.2",
        lambda x, w, s: by_library(x, w.T if w.shape[0] == w.shape[1] else w, s),
        "rows and columns of the kernel are exchanged",
    ),
    ("unet.2", lambda x, w, s: by_library(x, w, 1), "2 places apart, not 1"),
    ("unet.2", tiles, "s times the input"),
    (
        "unet.2",
        lambda x, w, s: F.pad(by_library(x, w, s), (0, s, 0, s)),
        "there are H − 1 steps of s",
    ),
    ("unet.2", lambda x, w, s: by_library(x, w, s)[:, :7], "have sizes of their own"),
    ("unet.2", lambda x, w, s: by_library(x, w, s)[1:], "(H − 1)·s + k"),
    ("unet.2", too_small, "Along each axis y must be (n − 1)·s + k long"),
    ("unet.2", too_small, "your code stopped with RuntimeError"),
    ("unet.2", too_small_in_numpy, "Does every copy fit into y?"),
    ("unet.2", too_small_by_pixels, "Does every copy fit into y?"),
    ("unet.2", averaging, "They add up"),
    ("unet.2", without_step, "Copies start s apart"),
    ("unet.2", lambda x, w, s: by_library(x, w, s).trunc(), "should be"),
    ("unet.3", Network, "✓"),
    ("unet.3", lambda i, k, w, d: UNet(i, k, w, depth=d), "✓"),
    ("unet.3", lambda *a: Network(*a).forward, "calling it gave method"),
    ("unet.3", changed(listed=True), "`down`, `up`, `merge` are in a Python list"),
    ("unet.3", ListsOnTheWayUp, "the layers of `up`, `merge` are in a Python list"),
    ("unet.3", changed(deeper=1), "`depth` counts the halvings."),
    ("unet.3", changed(deeper=-1), "there are depth + 1 blocks down"),
    ("unet.3", changed(joined=1), "neither left out nor added"),
    ("unet.3", KeepsAll, "I find 36,224 parameters, and expected 30,484: your steps up keep all"),
    ("unet.3", OwnBottom, "`down` lacks its last block"),
    ("unet.3", NoWayUp, "still `...`: `up`, `merge`. The rest holds"),
    ("unet.3", FirstInFirstOut, "take the bridge kept last first"),
    ("unet.3", KeptAfterPooling, "Keep the maps *before* they are halved"),
    ("unet.3", BottomAsBridge, "but not those of the bottom"),
    ("unet.3", NoForward, "Now `forward`"),
    ("unet.3", OpenForward, "Now `forward`"),
    ("unet.3", NoReturn, "Now `forward`"),
    ("unet.3", WithBias, "lists them by layer"),
    ("unet.3", Renamed, "The first that differs is up.0.weight"),
    ("unet.3", Cropped, "a logit for each class and pixel"),
    ("unet.3", changed(swapped=True), "the two halves change places"),
    ("unet.3", changed(pool=staticmethod(F.avg_pool2d)), "you halve by averages"),
    ("unet.3", changed(cut=True), "the bridges carry nothing"),
    ("unet.3", changed(repeated=True), "the bridges carry nothing"),
    ("unet.3", changed(finish=staticmethod(lambda z: z.softmax(1))), "you returned probabilities"),
    ("unet.3", changed(finish=staticmethod(torch.relu)), "a ReLU behind the classifier"),
    ("unet.3", changed(finish=staticmethod(lambda z: 2 * z)), "differs from it by up to"),
    ("unet.4", dice_loss, "✓"),
    ("unet.4", soft_dice, "✓"),
    ("unet.4", by_loops, "✓"),
    ("unet.4", lambda z, y: 1 - dice_loss(z, y), "that is the overlap"),
    ("unet.4", lambda z, y: dice_loss(z, y, first=0), "leave class 0 out"),
    ("unet.4", lambda z, y: dice_loss(z, y, axes=[*range(2, z.ndim)]), "for each image"),
    ("unet.4", lambda z, y: dice_loss(z, y, above=0, below=0), "missing above and below"),
    ("unet.4", lambda z, y: dice_loss(z, y, above=0), "above *and* below"),
    ("unet.4", lambda z, y: dice_loss(z, y, times=1), "perfect overlap would cost a half"),
    ("unet.4", hard, "it has no gradient"),
    ("unet.4", lambda z, y: dice_loss(z, y, p=z.sigmoid()), "softmax."),
    ("unet.4", lambda z, y: dice_loss(z, y, p=z.softmax(-1)), "runs over axis 1"),
    ("unet.4", lambda z, y: dice_loss(z, y, p=z), "you used the logits themselves"),
    ("unet.4", squared, "as Milletari et al. did"),
    ("unet.4", pooled, "the largest decides"),
    (
        "unet.4",
        lambda z, y: (dice_loss(z, y) - 1) * (z.shape[1] - 1) + 1,
        "added the structures up",
    ),
    (
        "unet.4",
        lambda z, y: 1 - (1 - dice_loss(z, y)) * (z.shape[1] - 1) / z.shape[1],
        "They are K − 1",
    ),
    ("unet.4", pictures_only, "volumes have one axis more"),
    ("unet.4", lambda z, y: dice_loss(z, y) + torch.zeros(3), "and got shape (3,)"),
    ("unet.4", lambda z, y: dice_loss(z, y).item(), "no gradient leads back"),
    ("unet.4", lambda z, y: dice_loss(z.detach(), y), "no gradient leads back"),
    ("unet.4", lambda z, y: dice_loss(z, y) / 3, "for logits of shape (3, 4, 5, 7)"),
    ("unet.5", feature_values, "✓"),
    ("unet.5", lambda *a: float(feature_values(*a)), "✓"),
    ("unet.5", lambda *a: feature_values(*a, up=0), "has four convolutions"),
    ("unet.5", lambda *a: feature_values(*a, bottom=4), "and has two convolutions"),
    ("unet.5", lambda *a: feature_values(*a, halved=(0,)), "*Every* side is halved"),
    ("unet.5", lambda *a: feature_values(*a, grow=1), "channels double"),
    ("unet.5", lambda size, w, d: feature_values(size, 1, d, grow=1), "not the channels at each"),
    ("unet.5", lambda *a: feature_values(*a, bottom=0), "below the last halving is missing"),
    ("unet.5", lambda size, w, d: 4 * w * int(np.prod(size)), "the first level alone"),
    ("unet.5", lambda size, w, d: feature_values(size[:2], w, d), "and you used two"),
    ("unet.5", lambda *a: feature_values(*a) + 1, "the first gives 196,608"),
]


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer)
    said = " ".join(capsys.readouterr().out.split())
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    for answer, reply in (
        (stub, f"○ {id} not attempted yet"),
        (..., f"○ {id} not attempted yet"),
        (gap, f"○ {id} not attempted yet"),
        (broken, "your code stopped with IndexError"),
        (prints, "your function returned None"),
        (3, "expected a function"),
    ):
        check(id, answer)
        assert reply in capsys.readouterr().out


def test_half_a_network_is_not_attempted(capsys):
    check("unet.3", Half)
    assert capsys.readouterr().out.startswith("○ unet.3")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# Changes that make no difference
EQUAL = [
    "unet.1: n = n // 2 → n = n / 2",
    "unet.1: return max(n, 0) → return max(0, n)",
    "unet.3: self.down, self.up = (nn.ModuleList(), nn.ModuleList()) → self.up, self.down = "
    "(nn.ModuleList(), nn.ModuleList())",
    "unet.4: axes = [0, *range(2, p.ndim)] → axes = [*range(2, p.ndim), 0]",
    "unet.5: values = values * (side // 2 ** level) → values = values * (side / 2 ** level)",
]


def test_no_changed_solution_is_called_right():
    assert ticked("17_unet", "unet", cells=("imports", "blocks")) == EQUAL
