"""Exercises of notebook 21: principal angles, bottlenecks, what an error hears, the ELBO."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlab.exercises import Verdict, Wrong, call, exercise, near, number, numbers

MESSAGES = {
    "autoencoders.1": {
        "right": "nothing but going down the error, and it arrives where PCA is. (At the end the "
        "first layer's weights span that plane too, and so do those of a network that draws −X.)",
        "format": "I expected the weights of the last layer, of shape ({dims}, {k}); got {got}.",
        "encoder": "the shape ({k}, {dims}) is that of the first layer's weights, or of the "
        "last's, transposed. Return those of the last, ({dims}, {k}).",
        "untrained": "after {steps} steps the plane is no better than one drawn at random: error "
        "{error:.3g}, that of PCA is {least:.3g}. Does each step "
        "change the weights, with gradients that were set to 0 before? Does Adam hold both layers?",
        "steps": "with 0 steps I expected weights that are not trained, and got the plane of PCA: "
        "take as many steps as `steps` says.",
        "not there": "after {steps} steps the error is {error:.4g}, that of PCA {least:.4g}: it "
        "goes down and does not arrive. Does Adam hold both layers, are the gradients set to 0 "
        "before each backward pass, is the rate 0.01, is there no activation function and no bias?",
    },
    "autoencoders.2": {
        "right": "two bases of one subspace have angles of 0, however different they look.",
        "format": "of bases with {a} and {b} columns I expected {count} angles; got {got}.",
        "nan": "an angle is nan. Rounding makes a cosine of 1 a little larger: clamp it to 1.",
        "not orthonormal": "your cosines are singular values of aᵀb, but the columns of a and b "
        "are no orthonormal bases. Make them so first (torch.linalg.qr).",
        "columns": "you gave the columns length 1 and left them oblique: the angles depend on the "
        "basis then. Columns must be perpendicular too (torch.linalg.qr).",
        "one": "only one of the two bases is orthonormal.",
        "cosines": "these are the cosines. Take the arccosine.",
        "radians": "these are radians. I asked for degrees.",
        "sines": "you took the arcsine of the cosines: 90° too far.",
        "pairs": "you compared columns one by one. Angles of subspaces do not depend on how a "
        "basis happens to be chosen: take singular values.",
        "other": "for bases with {a} and {b} columns in {dims} dimensions I expected {expected} "
        "degrees, and got {got}.",
    },
    "autoencoders.3": {
        "right": "each of these codes has the same size, and what it can say differs very much.",
        "format": "I expected a list of pairs (depth, code) such as [(3, 1), (4, 4)]; got {got}.",
        "swapped": "your pairs are (code, depth). I asked for (depth, code).",
        "odd": "depth {depth} is in your list, but sides {height} × {width} cannot be halved so "
        "often without a remainder.",
        "depth 0": "depth 0 halves nothing: that is no bottleneck. Begin with 1.",
        "rounded": "at depth {depth} the code has {places} places, and {values} values cannot be "
        "shared out evenly: leave it out.",
        "square": "the image is {height} × {width}, not square: height and width are halved, each "
        "of them, so a place count is (height / 2^depth) · (width / 2^depth).",
        "once": "you divided the pixels by 2^depth once. Both sides are halved: by 4^depth.",
        "short": "a depth is missing: sides of {height} × {width} can be halved until one of them "
        "is odd.",
        "other": "of {height} × {width} and {values} values I expected {expected}, and got {got}.",
    },
    "autoencoders.4": {
        "right": "one number for a whole image hears little of what is small.",
        "format": "I expected one whole number for each of {count} images; got {got}.",
        "one": "that is one number. Each image has an error of its own, and needs its own spot.",
        "no mean": "the errors are means over {pixels} pixels, so n pixels add n · contrast² / "
        "{pixels}: you left the number of pixels out.",
        "contrast": "a pixel that is wrong by contrast adds contrast² to the squares; you did not "
        "square it.",
        "roots": "you subtracted roots. Squares add up, their roots do not.",
        "alarm twice": "you squared `alarm`. It is a mean squared error already, in HU².",
        "abs": "an image whose error is above the alarm needs 0 pixels: `abs` makes some of what "
        "is too much. Use clamp(min=0).",
        "sign": "your difference is the wrong way round: how much is missing to the alarm?",
        "negative": "an image whose error is at the alarm without a spot needs 0 pixels, not "
        "fewer.",
        "at least one": "an image whose error is at the alarm without a spot needs none: 0, not 1.",
        "down": "you rounded down, and the error stays below the alarm. Round up.",
        "nearest": "you rounded to the nearest number, and below it the error may stay under the "
        "alarm. Round up.",
        "one more": "your spots are a pixel too large where the alarm is reached exactly: reaching "
        "it is enough.",
        "not whole": "pixels are counted: round up to a whole number.",
        "other": "for an error of {error:g} HU², an alarm at {alarm:g} HU², a contrast of "
        "{contrast:g} HU and {pixels} pixels I expected {expected:g}, and got {got:g}.",
    },
    "autoencoders.5": {
        "right": "an honest draw, two terms, and a gradient through both.",
        "shape": "I expected one number, the mean over images; got {got}.",
        "nan": "your answer is {got}. `log_var` is a logarithm already, and may be negative: its "
        "exp() is the variance.",
        "random": "your answer differs from call to call. Use the `noise` that is given, so that "
        "the same draw can be made again.",
        "no draw": "you decode the mean. The code has to be drawn: mean + standard deviation · "
        "noise.",
        "variance": "you drew with the variance, exp(log_var), where the standard deviation "
        "belongs: its root, exp(log_var / 2).",
        "log": "you drew with log_var itself. The standard deviation is exp(log_var / 2).",
        "log sigma": "you read log_var as log σ. It is the logarithm of the variance, log σ² = "
        "2 log σ.",
        "kl exp": "in the divergence log_var stands where the variance belongs: its exp().",
        "kl root": "in the divergence the standard deviation stands where the variance belongs.",
        "kl half": "in the divergence log_var / 2 stands where log σ² belongs: that is log_var.",
        "kl halves": "your divergence is made of σ and log σ where σ² and log σ² belong.",
        "kl log": "the divergence is not right: its last term is − log σ², that is − log_var.",
        "no kl": "the reconstruction is right, and the divergence from the prior is missing.",
        "kl only": "the divergence is right, and the reconstruction is missing.",
        "kl sign": "the divergence enters with the wrong sign: it is a price.",
        "kl mean": "you averaged the divergence over the code. Its entries add up.",
        "kl sum": "you added up the divergence over the images. Like the squared error it is "
        "averaged over them.",
        "both means": "you averaged the squared error over pixels and the divergence over the "
        "code. Within an image both are sums; the mean is over images alone.",
        "negative": "that is the bound itself, which grows in training. The loss is its negative.",
        "kl twice": "your divergence is twice as large: mind the ½.",
        "pixels": "you averaged the squared error over pixels. The log-likelihood of an image is a "
        "sum over its pixels; averaged, the divergence outweighs it hundreds of times.",
        "spread": "the squared error is not divided by 2 · spread².",
        "spread once": "you divided the squared error by 2 · spread. The spread is squared.",
        "half": "the squared error is divided by spread², and the 2 is missing.",
        "sum": "you added up the images. Take their mean.",
        "no gradient": "the number is right, but no gradient reaches {what}. Draw with tensors "
        "that know where they come from: no detach, no item, no torch.normal.",
        "other": "I expected {expected:.4g}, and got {got:.4g}.",
    },
}


# --- 1: going down to the plane ---


def _cloud(seed: int, dims: int) -> Tensor:
    """(40, dims) centred rows with a few large directions, oblique to the axes."""
    rng = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(dims, dims, generator=rng)).Q
    sizes = torch.tensor([3.0, 2.2, 1.6] + [0.3] * (dims - 3))
    cloud = torch.randn(40, dims, generator=rng) * sizes @ turn.T
    return cloud - cloud.mean(0)


def _lost(cloud: Tensor, basis: Tensor) -> float:
    """Mean squared distance of the rows from the span of the columns."""
    q = torch.linalg.qr(basis.double()).Q
    return (cloud.double() - cloud.double() @ q @ q.T).square().sum(1).mean().item()


@exercise("autoencoders.1", MESSAGES["autoencoders.1"])
def trained_plane(answer) -> Verdict:
    for seed, (dims, k, steps) in enumerate(((9, 2, 1200), (14, 3, 1200), (14, 3, 0))):
        cloud = _cloud(seed, dims)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            got = call(answer, cloud.clone(), k, steps)
        told: dict[str, Any] = {"dims": dims, "k": k, "steps": steps}
        try:
            basis = torch.as_tensor(np.asarray(got.detach() if torch.is_tensor(got) else got))
            basis = basis.float()
        except (TypeError, ValueError):
            return "format", told | {"got": type(got).__name__}
        if basis.shape == (k, dims):
            return "encoder", told
        if basis.shape != (dims, k) or not basis.isfinite().all():
            return "format", told | {"got": f"{tuple(basis.shape)}"}
        least = _lost(cloud, torch.linalg.svd(cloud).Vh[:k].T)
        told |= {"error": _lost(cloud, basis), "least": least}
        if not steps:
            return "right" if told["error"] > 1.01 * least else "steps"
        if told["error"] > 0.6 * cloud.square().sum(1).mean().item():
            return "untrained", told
        if told["error"] > 1.001 * least:
            return "not there", told
    return "right"


# --- 2: principal angles ---


def _bases() -> list[tuple[Tensor, Tensor]]:
    """Pairs of bases, oblique, of unequal lengths and numbers; the last two span the same."""
    rng = torch.Generator().manual_seed(0)
    pairs = []
    for dims, a, b in ((7, 2, 2), (9, 3, 2), (30, 2, 4), (12, 3, 3)):
        mine = 0.1 * torch.randn(dims, a, generator=rng).double()
        mine *= torch.tensor([3.0, 0.5, 1])[:a]
        mine[:, 1] += 0.7 * mine[:, 0]
        other = 0.06 * torch.randn(dims, b, generator=rng).double()
        other[:, :2] += mine[:, :2]
        pairs.append((mine, other))
    mixed = torch.randn(3, 3, generator=rng).double()
    return [*pairs, (pairs[-1][0], pairs[-1][0] @ mixed)]


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.svdvals(torch.linalg.qr(a).Q.T @ torch.linalg.qr(b).Q).clamp(max=1)


@exercise("autoencoders.2", MESSAGES["autoencoders.2"])
def principal_angles(answer) -> Verdict:
    for a, b in _bases():
        told = {"a": a.shape[1], "b": b.shape[1], "dims": len(a)}
        count = min(told["a"], told["b"])
        raw = call(answer, a.clone(), b.clone())
        try:
            got = numbers(raw).detach().double().flatten().sort().values
        except Wrong:
            return "format", told | {"count": count, "got": type(raw).__name__}
        want = _cosines(a, b).arccos().rad2deg().sort().values
        if got.isnan().any():
            return "nan"
        if near(got, want, absolute=0.01):
            continue
        unit = [x / x.norm(dim=0) for x in (a, b)]
        q = [torch.linalg.qr(x).Q for x in (a, b)]
        known = {
            "not orthonormal": torch.linalg.svdvals(a.T @ b),
            "columns": torch.linalg.svdvals(unit[0].T @ unit[1]),
            "one": torch.linalg.svdvals(q[0].T @ b),
        }
        known = {key: [v.clamp(max=1).arccos().rad2deg()] for key, v in known.items()}
        known["one"].append(torch.linalg.svdvals(a.T @ q[1]).clamp(max=1).arccos().rad2deg())
        known["cosines"] = [want.deg2rad().cos()]
        known["radians"] = [want.deg2rad()]
        known["sines"] = [90 - want]
        if told["a"] == told["b"]:
            known["pairs"] = [(x[0] * x[1]).sum(0).arccos().rad2deg() for x in (unit, q)]
        for key, values in known.items():
            if any(near(got, v.sort().values, absolute=0.01) for v in values):
                return key
        if got.shape != want.shape:
            return "format", told | {"count": count, "got": len(got)}
        shown = {"expected": want.numpy().round(2).tolist(), "got": got.numpy().round(2).tolist()}
        return "other", told | shown
    return "right"


# --- 3: bottlenecks ---

_SHAPES = (
    *((64, 64, 64), (96, 128, 72), (128, 48, 96), (50, 50, 625), (40, 24, 30), (4, 64, 32)),
    *((64, 64, 100), (8, 8, 128), (24, 96, 18)),
)


def _designs(height: int, width: int, values: int) -> list[tuple[int, int]]:
    found, depth = [], 1
    while height % 2**depth == 0 and width % 2**depth == 0:
        places = height * width // 4**depth
        if values % places == 0:
            found.append((depth, values // places))
        depth += 1
    return found


@exercise("autoencoders.3", MESSAGES["autoencoders.3"])
def bottlenecks(answer) -> Verdict:
    for height, width, values in _SHAPES:
        got = call(answer, height, width, values)
        told = {"height": height, "width": width, "values": values}
        try:
            pairs = [tuple(float(v) for v in pair) for pair in got]
        except (TypeError, ValueError):
            pairs = [()]
        if any(len(pair) != 2 for pair in pairs):
            return "format", {"got": str(got)[:60]}
        want = [(float(d), float(c)) for d, c in _designs(height, width, values)]
        if sorted(pairs) == want:
            continue
        if sorted(pair[::-1] for pair in pairs) == want:
            return "swapped"
        if any(depth == 0 for depth, _ in pairs):
            return "depth 0"
        for depth, _ in pairs:
            if height % 2**depth or width % 2**depth:
                return "odd", told | {"depth": int(depth)}
        sides = {"h": height * height, "w": width * width}
        squares = [(d, values / (sides[s] // 4**d)) for d, _ in pairs for s in sides if d < 7]
        if height != width and pairs and set(pairs) <= {*squares, *want}:
            return "square", told
        for depth, code in pairs:
            step = 2**depth
            if code == values / (height * width // step):
                return "once"
            places = height * width / 4**depth
            if values % places:
                return "rounded", told | {"depth": int(depth), "places": int(places)}
        if set(pairs) < set(want):
            return "short", told
        return "other", told | {"expected": _designs(height, width, values), "got": str(got)[:60]}
    return "right"


# --- 4: what one number hears ---

# Mean squared errors of images, alarm, contrast and pixels; exact in binary where a tie is meant.
_SPOTS = (
    ((900.0, 5000, 1024, 4096, 4093.5, 4095), 4096.0, 64.0, 1024),
    ((22000.5, 40012, 18011, 51000, 25000), 40000.0, 300.0, 4800),
)


@exercise("autoencoders.4", MESSAGES["autoencoders.4"])
def smallest_spots(answer) -> Verdict:
    for values, alarm, contrast, pixels in _SPOTS:
        errors = torch.tensor(values).double()
        raw = call(answer, errors.clone(), alarm, contrast, pixels)
        try:
            got = numbers(raw).detach().double().flatten()
        except Wrong:
            return "format", {"count": len(errors), "got": type(raw).__name__}
        missing = (alarm - errors) * pixels / contrast**2
        want = missing.ceil().clamp(min=0)
        if got.equal(want):
            continue
        if got.numel() == 1:
            return "one"
        if got.shape != want.shape or not got.isfinite().all():
            return "format", {"count": len(want), "got": f"{got.tolist()}"[:60]}
        roots = (alarm**0.5 - errors.sqrt()) * pixels
        off = (
            ("no mean", missing / pixels),
            ("contrast", missing * contrast),
            ("roots", (alarm**0.5 - errors.sqrt()) * roots / contrast**2),
            ("roots", roots / contrast),
            ("roots", roots / contrast**2),
            ("alarm twice", (alarm**2 - errors) * pixels / contrast**2),
            ("sign", -missing),
        )
        for key, value in off:
            forms = (value, value.ceil(), value.floor(), value.floor() + 1)
            shown = [form.clamp(min=0) for form in forms if (form > 0).any()]
            if any(near(got.clamp(min=0), form) for form in shown):
                return key, {"pixels": pixels}
        rounded = {
            "negative": missing.ceil(),
            "abs": missing.ceil().abs(),
            "at least one": want.clamp(min=1),
            "down": missing.floor(),
            "nearest": missing.round(),
            "one more": missing.floor() + 1,
            "not whole": missing,
        }
        for key, value in rounded.items():
            if near(got, value) or (key != "negative" and near(got, value.clamp(min=0))):
                return key
        i = int((got - want).abs().argmax())
        told = {"error": errors[i].item(), "alarm": alarm, "contrast": contrast, "pixels": pixels}
        return "other", told | {"expected": want[i].item(), "got": got[i].item()}
    return "right"


# --- 5: the variational bound ---


class _Coder:
    """An encoder and a decoder of images (4, 1, 3, 5) by a code of three numbers."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        self.images = torch.randn(4, 1, 3, 5, generator=rng).double()
        self.noise = torch.randn(4, 3, generator=rng).double()
        shapes = {"mean": (15, 3), "log_var": (15, 3), "decoder": (3, 15)}
        self.weights = {
            name: (0.3 * torch.randn(shape, generator=rng)).double().requires_grad_()
            for name, shape in shapes.items()
        }

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1)
        return flat @ self.weights["mean"], flat @ self.weights["log_var"] - 0.6

    def decode(self, code: Tensor) -> Tensor:
        return (code @ self.weights["decoder"]).view(-1, 1, 3, 5)

    def terms(self, how: str = "") -> tuple[Tensor, Tensor]:
        """Squared error (4,) and divergence (4,) of each image."""
        mean, log_var = self.encode(self.images)
        spread = {"no draw": 0 * log_var, "log": log_var}
        spread |= dict.fromkeys(("variance", "log sigma"), log_var.exp())
        code = mean + spread.get(how, (log_var / 2).exp()) * self.noise
        error = (self.decode(code) - self.images).square().flatten(1).sum(1)
        price = {
            "log sigma": (2 * log_var).exp() - 1 - 2 * log_var,
            "kl exp": log_var - 1 - log_var,
            "kl root": (log_var / 2).exp() - 1 - log_var,
            "kl half": log_var.exp() - 1 - log_var / 2,
            "kl halves": (log_var / 2).exp() - 1 - log_var / 2,
            "kl log": log_var.exp() - 1 + log_var,
        }
        return error, 0.5 * (mean**2 + price.get(how, log_var.exp() - 1 - log_var)).sum(1)


@exercise("autoencoders.5", MESSAGES["autoencoders.5"])
def evidence_bound(answer) -> Verdict:
    spread = 0.7
    coder = _Coder()

    def asked() -> Any:
        images, noise = coder.images.clone(), coder.noise.clone()
        return call(answer, images, coder.encode, coder.decode, noise, spread)

    raw, again = asked(), asked()
    shape = tuple(raw.shape) if torch.is_tensor(raw) else np.shape(raw)
    if math.prod(shape) != 1:
        return "shape", {"got": f"shape {shape}"}
    got = number(raw)
    if not math.isfinite(got):
        return "nan", {"got": got}
    if not math.isclose(got, number(again), rel_tol=1e-9):
        return "random"
    error, kl = coder.terms()
    fits = error / (2 * spread**2)
    expected = (fits + kl).mean()
    if not math.isclose(got, expected.item(), rel_tol=1e-4):
        known: dict[str, Tensor] = {
            "no kl": fits.mean(),
            "kl only": kl.mean(),
            "kl sign": (fits - kl).mean(),
            "kl mean": (fits + kl / 3).mean(),
            "kl sum": fits.mean() + kl.sum(),
            "both means": (fits / 15 + kl / 3).mean(),
            "negative": -expected,
            "kl twice": (fits + 2 * kl).mean(),
            "pixels": (fits / 15 + kl).mean(),
            "spread": (error + kl).mean(),
            "spread once": (error / (2 * spread) + kl).mean(),
            "half": (2 * fits + kl).mean(),
            "sum": (fits + kl).sum(),
        }
        hows = ("no draw", "variance", "log", "log sigma")
        for how in (*hows, "kl exp", "kl root", "kl half", "kl halves", "kl log"):
            other, price = coder.terms(how)
            known[how] = (other / (2 * spread**2) + price).mean()
        for key, value in known.items():
            if math.isclose(got, value.item(), rel_tol=1e-4):
                return key
        return "other", {"expected": expected.item(), "got": got}
    wanted = torch.autograd.grad(expected, list(coder.weights.values()))
    if not (torch.is_tensor(raw) and raw.requires_grad):
        return "no gradient", {"what": "the encoder and the decoder"}
    found = torch.autograd.grad(raw.sum(), list(coder.weights.values()), allow_unused=True)
    for name, mine, right in zip(coder.weights, found, wanted, strict=True):
        if mine is None or not near(mine, right, rel=1e-3, absolute=1e-6):
            whole = {"decoder": "the decoder"}.get(name, f"{name} by way of the draw")
            return "no gradient", {"what": whole}
    return "right"
