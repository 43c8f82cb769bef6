"""The checks of deeper networks, fed with right, untouched and typically wrong answers."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from medlab.exercises import check, material
from medlab.exercises.deeper import MESSAGES
from medlab.models import ResNet
from tests.learners import broken, gap, stub, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: the way back


def send_back(
    weights,
    x,
    y_bar,
    residual,
    *,
    mask="z",
    w_t=True,
    add=None,
    end=None,
    forward=True,
    size=torch.Tensor.norm,
):
    h, kept, sizes = x, [], [x.norm()]
    for w in weights:
        z, before = w @ h, h
        h = h * (residual and forward) + z.relu()
        kept.append({"h": h, "input": before}.get(mask, z))
        sizes.append(h.norm())
    if mask == "forward":
        return sizes
    norms = [size(y_bar)]
    for w, z in zip(weights[::-1], kept[::-1], strict=True):
        slope = z.relu() if mask == "relu" else z > 0
        back = (w.T if w_t else w) @ (y_bar * (1 if mask in (None, "late") else slope))
        back = back * slope if mask == "late" else back
        around = y_bar * (z > 0) if mask == "all" else y_bar
        y_bar = back + around * (residual if add is None else add)
        norms.append(size(y_bar))
    return end(norms[::-1]) if end else norms[::-1]


def walk_wrongly(weights, x, y_bar, residual, *, w_turned=False, z_turned=False, list_turned=True):
    h, kept = x, []
    for w in weights:
        kept.append(w @ h)
        h = h * residual + kept[-1].relu()
    norms = [y_bar.norm()]
    order = weights[::-1] if w_turned else weights
    for w, z in zip(order, kept[::-1] if z_turned else kept, strict=True):
        y_bar = y_bar * residual + w.T @ (y_bar * (z > 0))
        norms.append(y_bar.norm())
    return norms[::-1] if list_turned else norms


def by_autograd(weights, x, y_bar, residual):
    states = [x.requires_grad_()]
    for w in weights:
        states.append(states[-1] * residual + (w @ states[-1]).relu())
    gradients = torch.autograd.grad(states[-1], states, y_bar)
    return np.array([g.norm().item() for g in gradients])


# ------------------------------------------------------------------------ 2: both modes


def batch_norm(
    x,
    gamma,
    beta,
    mean,
    var,
    training,
    momentum=0.1,
    eps=1e-5,
    *,
    over=(0, 2, 3),
    correction=0,
    remembered=1,
    root=True,
    outside=False,
    affine=True,
    batch="training",
    update="training",
    kept=None,
    turned=(),
    means=None,
    spreads=None,
    moved=False,
    scaled=True,
    shifted=True,
    factor=lambda x: 1,
):
    mu, v = mean[:, None, None], var[:, None, None]
    if (training and batch != "never") or batch == "always":
        mu = x.mean(means or over, keepdim=True)
        v = x.var(spreads or over, correction=correction, keepdim=True)
    if (training and update != "never") or update == "always":
        a = b = momentum if kept is None else 1 - kept
        a = 1 - a if "mean" in turned else a
        b = 1 - b if "var" in turned else b
        mean = (1 - a) * mean + a * x.mean((0, 2, 3))
        var = (1 - b) * var + b * x.var((0, 2, 3), correction=remembered) * factor(x)
    if moved and training:
        mu, v = mean[:, None, None], var[:, None, None]
    scale = v.sqrt() + eps if outside else (v + eps).sqrt()
    hat = (x - mu) / (scale if root else v + eps)
    hat = gamma[:, None, None] * hat if affine and scaled else hat
    return (hat + beta[:, None, None] if affine and shifted else hat), mean, var


def without_eps(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    return batch_norm(x, gamma, beta, mean, var, training, momentum, 0)


def own_eps(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    return batch_norm(x, gamma, beta, mean, var, training)


def own_momentum(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    return batch_norm(x, gamma, beta, mean, var, training, eps=eps)


def exchanged(*args, **kwargs):
    y, mean, var = batch_norm(*args, **kwargs)
    return y, var, mean


def only_once_right(*args, fault, **kwargs):
    """Right in training, and with a fault in evaluation."""
    return batch_norm(*args, **kwargs, **({} if kwargs["training"] else fault))


def without_axes(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    mu, v = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    return gamma * (x - mu) / (v + eps).sqrt() + beta, mean, var


def without_images(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    mu = x.mean((2, 3))
    return x - mu[:, None, None], mean, var


def by_numpy(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    x, gamma, beta, mean, var = (v.numpy() for v in (x, gamma, beta, mean, var))
    mu, v = mean, var
    if training:
        flat = x.transpose(1, 0, 2, 3).reshape(len(mean), -1)
        mu, v = flat.mean(1), flat.var(1)
        mean = mean + momentum * (mu - mean)
        var = var + momentum * (flat.var(1, ddof=1) - var)
    hat = (x - mu[:, None, None]) / np.sqrt(v + eps)[:, None, None]
    return gamma[:, None, None] * hat + beta[:, None, None], mean, var


def numpy_without_axes(x, *rest, **options):
    x = x.numpy()
    return x - x.mean((0, 2, 3)), *rest[2:4]


def by_layer(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    layer = nn.BatchNorm2d(len(mean), eps, momentum).train(training)
    layer.load_state_dict(
        {
            "weight": gamma,
            "bias": beta,
            "running_mean": mean,
            "running_var": var,
            "num_batches_tracked": torch.tensor(0),
        }
    )
    return layer(x).detach(), layer.running_mean, layer.running_var


def by_library(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
    y = nn.functional.batch_norm(x, mean, var, gamma, beta, training, momentum, eps)
    return [y.numpy(), mean.tolist(), var]


def only_var(*args, **kwargs):
    y, _, var = batch_norm(*args, **kwargs)
    return y, args[3], var


# ------------------------------------------------------------------------ 3: the block


class Block(nn.Module):
    """Right as it stands; subclasses have one fault."""

    bias, second_stride, kernel, everywhere, projects, normalised = False, False, 1, False, True, 1
    narrow, strides, pads = False, ("conv1", "shortcut"), (1, 1)

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        step = stride if self.second_stride else 1
        first, way = (stride if name in self.strides else 1 for name in ("conv1", "shortcut"))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, first, padding=self.pads[0], bias=self.bias)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, step, padding=self.pads[1], bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        if self.narrow:
            self.norm2 = nn.BatchNorm2d(outputs + 1)
        self.shortcut = nn.Identity()
        if self.everywhere or (self.projects and (stride > 1 or inputs != outputs)):
            k = self.kernel
            conv = nn.Conv2d(inputs, outputs, k, way, padding=k // 2, bias=self.normalised == 2)
            norms = [nn.BatchNorm2d(outputs)] if self.normalised else []
            self.shortcut = nn.Sequential(conv, *norms)

    def f(self, x):
        return self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))

    def forward(self, x):
        return (self.shortcut(x) + self.f(x)).relu()


def faulty(forward=None, **fault):
    return type("Block", (Block,), {**fault, **({"forward": forward} if forward else {})})


def no_first_relu(self, x):
    return (self.shortcut(x) + self.norm2(self.conv2(self.norm1(self.conv1(x))))).relu()


def no_second_norm(self, x):
    return (self.shortcut(x) + self.conv2(self.norm1(self.conv1(x)).relu())).relu()


def norm_last(self, x):
    total = self.shortcut(x) + self.conv2(self.norm1(self.conv1(x)).relu())
    return self.norm2(total).relu()


def of_the_inside(self, x):
    return (self.norm1(self.conv1(x)) + self.f(x)).relu()


class Lazy(Block):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__(inputs, outputs, stride)
        self.conv1 = nn.LazyConv2d(outputs, 3, stride, padding=1, bias=False)


class Strideless(Block):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__(inputs, outputs)


class Named(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1)


class Half(Block):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__(inputs, outputs, stride)
        del self.shortcut
        self.shortcut = ...


class Unwritten(Block):
    def forward(self, x): ...


# ------------------------------------------------------------------------ 4: the network


def resnet(
    blocks,
    width,
    classes,
    *,
    block=None,
    less=0,
    grow=lambda stage: 2**stage,
    stride=lambda stage, k: 2 if stage and not k else 1,
    stem=(nn.BatchNorm2d, nn.ReLU),
    first=lambda width: nn.Conv2d(1, width, 3, padding=1, bias=False),
    head=lambda inputs, classes: [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, classes),
    ],
):
    make = block or material("deeper")
    layers = [first(width)]
    layers += [kind(width) if kind is nn.BatchNorm2d else kind() for kind in stem]
    inputs = width
    for stage, count in enumerate(blocks):
        for k in range(count - less):
            outputs = width * grow(stage)
            layers.append(make(inputs, outputs, stride(stage, k)))
            inputs = outputs
    return nn.Sequential(*layers, *head(inputs, classes))


class Mine(nn.Module):
    def __init__(self, blocks, width, classes):
        super().__init__()
        self.inner = resnet(blocks, width, classes, block=Block)

    def forward(self, images):
        return self.inner[-1](self.inner[:-3](images).mean((2, 3)))


def head(*layers, linear=True):
    return lambda i, k: [*layers, nn.Flatten(), *([nn.Linear(i, k)] if linear else [])]


def softened(inputs, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes), nn.Softmax(1)]


def twice_bent(inputs, classes):
    return [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, classes),
        nn.ReLU(),
    ]


def wide(inputs, classes):
    return [nn.Flatten(), nn.Linear(inputs * 6, classes)]


def lazy(inputs, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(classes)]


def lazy_without_average(inputs, classes):
    return [nn.Flatten(), nn.LazyLinear(classes)]


def lazy_without_flatten(inputs, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.LazyLinear(classes)]


def unbiased_head(inputs, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes, bias=False)]


def unflattened(inputs, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, classes)]


def unaveraged(inputs, classes):
    return [nn.Linear(inputs, classes)]


def of_eight(inputs, classes):
    return [nn.AvgPool2d(8), nn.Flatten(), nn.Linear(inputs, classes)]


def fixed_blocks(blocks, width, classes):
    return resnet((2, 2, 2), width, classes)


def fixed_head(blocks, width, classes):
    return resnet(
        blocks, width, classes, head=lambda i, k: head(nn.AdaptiveAvgPool2d(1))(width * 4, k)
    )


def stem_of(**options):
    return partial(resnet, first=lambda w: nn.Conv2d(1, w, 3, bias=False, **options))


def stops(*layers):
    """A network that stops in a layer of its own."""

    class Stops(nn.Module):
        def forward(self, maps):
            raise KeyError("mine")

    return partial(resnet, head=lambda i, k: [*softened(i, k)[:3], Stops()])


def as_pixels(inputs, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, classes, 1)]


def sequence(inputs, classes):
    return [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, classes),
        nn.Unflatten(1, (1, -1)),
    ]


def pooled(inputs, classes):
    return [_Fixed(), nn.Flatten(), nn.Linear(inputs, classes)]


class _Fixed(nn.Module):
    """An average that knows the size of the first images."""

    def forward(self, maps):
        if maps.shape[2:] not in ((2, 3), (4, 6), (8, 12)):
            raise ValueError("another size")
        return maps.mean((2, 3), keepdim=True)


# ------------------------------------------------------------------------ 5: frozen


def repeated(blocks, width, classes):
    one = material("deeper")(width, width, 1)
    stem = [nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*stem, *[one] * sum(blocks))


def norms(model, kinds=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
    return [layer for layer in model.modules() if isinstance(layer, kinds)]


def freeze(model, *, mode=True, grad=True, layers=norms):
    for layer in layers(model):
        if mode:
            layer.eval()
        if grad:
            layer.requires_grad_(False)


def every_norm(model):
    return norms(
        model, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)
    )


def freeze_all_modes(model):
    freeze(model)
    return model.eval()


def freeze_dropout(model):
    freeze(model)
    next(m for m in model.modules() if isinstance(m, nn.Dropout)).eval()


def freeze_self(model):
    freeze(model)
    model.training = False


def freeze_everything(model):
    freeze(model)
    model.requires_grad_(False)


def reset(model):
    freeze(model)
    for layer in norms(model):
        layer.reset_running_stats()


def one_scale_left(model):
    freeze(model)
    norms(model)[0].weight.requires_grad_(True)


def with_the_root(model):
    for layer in norms(model):
        layer.training = False
        layer.weight.requires_grad = layer.bias.requires_grad = False
    return model


CASES = [
    ("deeper.1", send_back, "✓"),
    ("deeper.1", by_autograd, "asked PyTorch for the gradient"),
    ("deeper.1", partial(send_back, forward=False), "the way forward has none"),
    ("deeper.1", partial(send_back, mask="all"), "passes untouched"),
    ("deeper.1", partial(send_back, end=tuple), "✓"),
    (
        "deeper.1",
        partial(send_back, end=lambda n: n[1:]),
        "norms for 3 layers",
    ),
    ("deeper.1", lambda *a: 3, "no list of"),
    ("deeper.1", partial(send_back, end=lambda n: n[::-1]), "order of the way back"),
    ("deeper.1", partial(send_back, end=lambda n: [v**2 for v in n]), "squared norms"),
    ("deeper.1", partial(send_back, mask=None), "and you pass all"),
    ("deeper.1", partial(send_back, mask="h"), "The mask is z > 0"),
    ("deeper.1", partial(send_back, w_t=False), "transposed"),
    ("deeper.1", partial(send_back, add=0), "kept only the one through W"),
    ("deeper.1", partial(send_back, add=1), "also where residual is False"),
    ("deeper.1", partial(send_back, end=lambda n: [v + 1 for v in n]), "norm at place 0"),
    ("deeper.1", partial(send_back, mask="late"), "W transposed and mask afterwards"),
    ("deeper.1", partial(send_back, mask="late", w_t=False), "so W has to be transposed"),
    ("deeper.1", partial(send_back, mask="input"), "ReLU gets z = W h"),
    ("deeper.1", partial(send_back, mask="relu"), "multiply the gradient by ReLU(z)"),
    ("deeper.1", partial(send_back, mask="forward"), "norms of h, on the way forward"),
    ("deeper.1", walk_wrongly, "in reversed order"),
    ("deeper.1", partial(walk_wrongly, list_turned=False), "in reversed order"),
    ("deeper.1", partial(walk_wrongly, w_turned=True), "in reversed order"),
    ("deeper.1", partial(walk_wrongly, z_turned=True), "in reversed order"),
    ("deeper.1", partial(walk_wrongly, w_turned=True, z_turned=True), "✓"),
    ("deeper.1", partial(send_back, size=lambda v: v), "take .norm() of each"),
    ("deeper.1", partial(send_back, size=torch.Tensor.tolist), "take .norm() of each"),
    ("deeper.1", partial(send_back, size=lambda v: v, end=torch.stack), "take .norm() of each"),
    ("deeper.1", partial(send_back, size=lambda v: v.norm(keepdim=True)), "✓"),
    ("deeper.1", partial(send_back, end=torch.stack), "✓"),
    ("deeper.1", lambda *a: torch.tensor(3.0), "no list of"),
    ("deeper.2", batch_norm, "✓"),
    ("deeper.2", by_numpy, "✓"),
    ("deeper.2", by_library, "PyTorch's own batch normalisation"),
    ("deeper.2", by_layer, "PyTorch's own batch normalisation"),
    ("deeper.2", without_axes, "stands as mu[:, None, None]"),
    ("deeper.2", without_images, "run over (0, 2, 3)"),
    ("deeper.2", numpy_without_axes, "stands as mu[:, None, None]"),
    ("deeper.2", without_eps, "eps=0.3 was given"),
    ("deeper.2", own_eps, "eps=0.3 was given"),
    ("deeper.2", own_momentum, "the remembered mean moved a part 0.1 of the way, and momentum=0.3"),
    ("deeper.2", partial(batch_norm, shifted=False), "β is missing"),
    ("deeper.2", partial(batch_norm, scaled=False), "γ is missing"),
    ("deeper.2", partial(only_once_right, fault={"shifted": False}), "β is missing"),
    ("deeper.2", partial(only_once_right, fault={"outside": True}), "under the root: sqrt"),
    ("deeper.2", partial(only_once_right, fault={"root": False}), "divided by the variance"),
    ("deeper.2", partial(batch_norm, means=(2, 3)), "each image by itself"),
    ("deeper.2", partial(batch_norm, spreads=(2, 3)), "each image by itself"),
    ("deeper.2", partial(batch_norm, moved=True), "after moving it"),
    ("deeper.2", partial(batch_norm, moved=True, remembered=0), "after moving it"),
    (
        "deeper.2",
        partial(batch_norm, remembered=0, factor=lambda x: len(x) / (len(x) - 1)),
        "your n is the number of images. It counts",
    ),
    (
        "deeper.2",
        partial(batch_norm, remembered=0, factor=lambda x: x[0, 0].numel() / (x[0, 0].numel() - 1)),
        "your n is that of one map. It counts",
    ),
    (
        "deeper.2",
        partial(batch_norm, factor=lambda x: x[:, 0].numel() / (x[:, 0].numel() - 1)),
        "n/(n − 1) too large",
    ),
    ("deeper.2", exchanged, "before the remembered mean"),
    ("deeper.2", lambda *a, **k: batch_norm(*a, **k)[0], "expected three results"),
    ("deeper.2", lambda *a, **k: batch_norm(*a, **k)[:2], "; got 2"),
    ("deeper.2", lambda *a, **k: (*batch_norm(*a, **k)[:2], None), "returned None"),
    ("deeper.2", lambda *a, **k: (a[0][0], *batch_norm(*a, **k)[1:]), "y has the shape (4, 5, 2)"),
    ("deeper.2", partial(batch_norm, over=(2, 3)), "each image by itself"),
    ("deeper.2", partial(batch_norm, over=(0, 1, 2, 3)), "one variance over everything"),
    ("deeper.2", partial(batch_norm, over=0), "over the images alone"),
    ("deeper.2", partial(batch_norm, correction=1), "n − 1 is for the remembered"),
    ("deeper.2", partial(batch_norm, root=False), "divided by the variance"),
    ("deeper.2", partial(batch_norm, outside=True), "under the root"),
    ("deeper.2", partial(batch_norm, affine=False), "γ and β are missing"),
    ("deeper.2", partial(batch_norm, batch="never"), "They are for evaluation"),
    ("deeper.2", partial(batch_norm, batch="always"), "who else is in the batch"),
    ("deeper.2", partial(batch_norm, update="always"), "Nothing is learnt there"),
    ("deeper.2", partial(batch_norm, update="never"), "stays what it was"),
    ("deeper.2", partial(batch_norm, turned=["mean"]), "in the remembered mean the two"),
    ("deeper.2", partial(batch_norm, turned=["var"]), "in the remembered variance the two"),
    ("deeper.2", partial(batch_norm, kept=0), "was replaced by the batch's"),
    ("deeper.2", partial(batch_norm, remembered=0), "n/(n − 1) too small"),
    ("deeper.2", only_var, "the remembered mean stays"),
    ("deeper.2", lambda *a, **k: (a[0], *batch_norm(*a, **k)[1:]), "in training: y should be"),
    ("deeper.3", Block, "✓"),
    ("deeper.3", material("deeper"), "✓"),
    ("deeper.3", Block(1, 1), "expected the class Block"),
    ("deeper.3", lambda *a: 1, "expected the class Block"),
    ("deeper.3", Named, "no layer conv1"),
    ("deeper.3", Strideless, "conv1 turns maps of 7×10 into 7×10, and 4×5 were asked for"),
    ("deeper.3", faulty(strides=["shortcut"]), "conv1 turns maps of 7×10 into 7×10, and 4×5"),
    ("deeper.3", faulty(strides=["conv1"]), "shortcut turns maps of 7×10 into 7×10, and 4×5"),
    ("deeper.3", faulty(pads=(0, 1)), "conv1 turns maps of 7×10 into 5×8, and 7×10"),
    ("deeper.3", faulty(pads=(1, 0)), "conv2 turns maps of 7×10 into 5×8, and 7×10"),
    ("deeper.3", faulty(lambda s, x: Block.forward(s, x)[..., 1:]), "block turns maps of 7×10"),
    ("deeper.3", faulty(lambda s, x: broken()), "stopped with IndexError"),
    ("deeper.3", faulty(second_stride=True), "It belongs to conv1"),
    ("deeper.3", faulty(narrow=True), "wrong number of channels"),
    ("deeper.3", faulty(bias=True), "conv1 has a bias"),
    ("deeper.3", faulty(normalised=2), "shortcut's convolution has a bias"),
    ("deeper.3", faulty(everywhere=True), "nn.Identity()"),
    ("deeper.3", faulty(projects=False), "no 1×1 convolution to mend that"),
    ("deeper.3", faulty(kernel=3), "kernel of 3×3"),
    ("deeper.3", faulty(normalised=0), "is not normalised"),
    ("deeper.3", faulty(lambda s, x: s.f(x).relu()), "a plain block"),
    ("deeper.3", faulty(lambda s, x: s.shortcut(x) + s.f(x).relu()), "before the sum"),
    ("deeper.3", faulty(lambda s, x: s.shortcut(x) + s.f(x)), "last ReLU is missing"),
    ("deeper.3", faulty(no_first_relu), "are one"),
    ("deeper.3", faulty(no_second_norm), "f ends with it"),
    ("deeper.3", faulty(norm_last), "f ends with it"),
    ("deeper.3", faulty(of_the_inside), "Both ways start from x"),
    ("deeper.3", faulty(lambda s, x: (s.shortcut(x) - s.f(x)).relu()), "Follow the drawing"),
    ("deeper.4", resnet, "✓"),
    ("deeper.4", partial(resnet, block=Block), "✓"),
    ("deeper.4", Mine, "✓"),
    ("deeper.3", Lazy, "✓"),
    ("deeper.4", partial(resnet, head=lazy), "✓"),
    ("deeper.4", partial(resnet, block=Lazy), "✓"),
    ("deeper.4", lambda b, w, c: resnet(b, w, 10), "from 16 channels to 3 classes"),
    ("deeper.4", partial(resnet, first=lambda w: nn.LazyConv2d(w, 3, padding=1, bias=False)), "✓"),
    ("deeper.4", partial(resnet, head=lazy_without_average), "from 16 channels"),
    ("deeper.4", partial(resnet, head=lazy_without_flatten), "from 16 channels"),
    ("deeper.4", partial(resnet, head=unbiased_head), "linear layer has no bias"),
    ("deeper.4", partial(resnet, head=unflattened), "shape (3, 16, 1, 1)"),
    ("deeper.4", partial(resnet, head=unaveraged), "some image sizes only"),
    ("deeper.4", partial(resnet, head=of_eight), "some image sizes only"),
    ("deeper.4", fixed_blocks, "have (2, 2, 2) blocks"),
    ("deeper.4", fixed_head, "for blocks=(1, 2) and width=3 the last block"),
    ("deeper.4", stem_of(stride=2, padding=1), "maps of 4×6 for images of 8×12"),
    ("deeper.4", stem_of(), "maps of 6×10 for images of 8×12"),
    (
        "deeper.4",
        partial(resnet, stem=[nn.BatchNorm2d, nn.ReLU, partial(nn.MaxPool2d, 2)]),
        "maps of 4×6 for images of 8×12",
    ),
    ("deeper.4", stops(), "stopped with KeyError"),
    ("deeper.4", lambda *a: 3, "such as nn.Sequential"),
    ("deeper.4", repeated, "shares its weights"),
    ("deeper.4", partial(resnet, less=1), "one for each that"),
    ("deeper.4", partial(resnet, grow=lambda s: 1), "double where a stage begins"),
    ("deeper.4", partial(resnet, stride=lambda s, k: 1 + (k == 0)), "first stage halves"),
    ("deeper.4", partial(resnet, stride=lambda s, k: 1 + (s > 0)), "Only the first of it"),
    ("deeper.4", partial(resnet, stride=lambda s, k: 1), "no block has a stride"),
    ("deeper.4", partial(resnet, stride=lambda s, k: 1 + (k == 1)), "have the strides"),
    ("deeper.4", partial(resnet, stem=()), "before the first block"),
    ("deeper.4", partial(resnet, stem=[nn.BatchNorm2d]), "ReLU between the first"),
    ("deeper.4", partial(resnet, head=wide), "average over all places"),
    ("deeper.4", partial(resnet, head=pooled), "some image sizes only"),
    ("deeper.4", partial(resnet, head=head(nn.AdaptiveMaxPool2d(1))), "maximum over all"),
    ("deeper.4", partial(resnet, head=sequence), "logits have the shape (3, 1, 3)"),
    ("deeper.4", partial(resnet, head=softened), "The loss wants logits"),
    ("deeper.4", partial(resnet, head=twice_bent), "a ReLU too many"),
    ("deeper.5", freeze, "✓"),
    ("deeper.5", with_the_root, "✓"),
    ("deeper.5", lambda model: model, "no layer has changed"),
    ("deeper.5", partial(freeze, mode=False), "no longer learn, but"),
    ("deeper.5", partial(freeze, grad=False), "still learn: requires_grad_"),
    ("deeper.5", freeze_all_modes, "other layers are in evaluation mode"),
    ("deeper.5", freeze_dropout, "1.2 for one"),
    ("deeper.5", freeze_self, "the model itself"),
    ("deeper.5", freeze_everything, "Only what batch normalisation learns"),
    ("deeper.5", partial(freeze, layers=lambda m: norms(m, nn.BatchNorm2d)), "1.4 is not frozen"),
    ("deeper.5", partial(freeze, layers=lambda m: list(m[1].children())[1:2]), "is not frozen"),
    ("deeper.5", partial(freeze, layers=every_norm), "1.5.weight no longer learns"),
    ("deeper.5", one_scale_left, "γ or β of"),
    ("deeper.5", reset, "other numbers than before"),
]


@pytest.mark.parametrize(("id", "answer", "text"), CASES)
def test_every_answer_is_answered(id, answer, text, capsys):
    check(id, answer)
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("✓" if text == "✓" else "✗")
    assert text in said


UNTOUCHED = {"deeper.3": [Unwritten, Half]}


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    for answer in UNTOUCHED.get(id, [stub, gap, ...]):
        check(id, answer)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if id != "deeper.3":
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_half_an_answer_is_not_attempted(capsys):
    check("deeper.1", lambda *args: [..., 1])
    check("deeper.2", lambda *args, **kwargs: (1, ..., 1))
    assert capsys.readouterr().out.count("not attempted yet") == 2


def test_blocks_and_network_are_those_of_the_package():
    made, right = resnet((1, 2), 4, 3), ResNet(1, 3, 4, (1, 2))
    state = dict(zip(made.state_dict(), list(right.state_dict().values())[2:], strict=True))
    made.load_state_dict(state)
    images = torch.rand(2, 1, 9, 12)
    assert torch.allclose(made.eval()(images), right.eval()(images), atol=1e-6)


def test_a_check_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    lazily = partial(resnet, head=lazy)
    answers = ("deeper.3", Block), ("deeper.4", resnet), ("deeper.4", lazily), ("deeper.5", freeze)
    for id, answer in answers:
        check(id, answer)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


X_AXES = "mu, v = (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0))"
REMEMBERED = "var = (1 - momentum) * var + momentum * x.var((0, 2, 3), correction=1)"
# No z is 0; axes have no order; `correction` is 1 by default
EQUIVALENT = [
    "deeper.1: through = W.T @ (y_bar * (z > 0)) → through = W.T @ (y_bar * (z >= 0))",
    f"deeper.2: {X_AXES} → mu, v = (x.mean((0, 2, 3)), x.var((2, 0, 3), correction=0))",
    f"deeper.2: {X_AXES} → mu, v = (x.mean((2, 0, 3)), x.var((0, 2, 3), correction=0))",
    f"deeper.2: {REMEMBERED} → {REMEMBERED.replace(', correction=1', '')}",
    f"deeper.2: {REMEMBERED} → {REMEMBERED.replace('0, 2', '2, 0')}",
    "deeper.5: kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) → "
    "kinds = (nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d)",
]


def test_no_changed_solution_is_called_right():
    assert ticked("15_deeper_networks", "deeper") == sorted(EQUIVALENT)
