"""Throughput of training and inference on whatever accelerator there is, and its agreement.

    python benchmarks/gpu.py [--device cuda] [--seconds 1.0] [--quick] [--only NAME]
        [--no-compile] [--markdown FILE]

Networks: the small CNN, ResNet-18 and the U-Net on images of 28 to 224 pixels, the small CNN and
the U-Net on volumes of 28 and 64. Each is timed in float32 and in the half precision that suits
the device, with channels first and last, plain and compiled; a row is one combination, in images
a second: forward pass alone, and forward, backward and optimiser step together. The compared
figure is the ratio to the first row of its network. Every variant must give the scores of the
CPU: the largest difference of a probability is printed, and one beyond the tolerance of its
precision ends the run with an error.

Without an accelerator it says so, and measures the CPU on the small sizes if --device cpu asks
for it.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from medlab.models import SmallCNN, UNet
from medlab.training import Precision

TOLERANCE = {"float32": 2e-3, "bfloat16": 0.05, "float16": 0.02}  # of a probability


@dataclass(frozen=True)
class Case:
    """One network on one size of image."""

    name: str
    make: Callable[[], nn.Module]
    size: tuple[int, ...]
    batch: int


def resnet18() -> nn.Module:
    """torchvision's, for grey images."""
    model = torchvision.models.resnet18(num_classes=2)
    model.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return model


def cases(quick: bool) -> Iterator[Case]:
    """What is measured; `quick` leaves out what a CPU would take minutes for."""
    for side, batch in ((28, 256), (64, 256), (128, 64), (224, 32)):
        if quick and side > 64:
            continue
        yield Case("SmallCNN", SmallCNN, (side, side), batch)
        if side >= 64:
            yield Case("ResNet-18", resnet18, (side, side), batch)
        yield Case("UNet", UNet, (side, side), batch // 4)
    for side, batch in ((28, 32), (64, 8)):
        if quick and side > 28:
            continue
        size = (side,) * 3
        yield Case("SmallCNN 3-D", lambda: SmallCNN(width=16, dims=3), size, batch)
        yield Case("UNet 3-D", lambda: UNet(width=16, dims=3), size, batch)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def rate(step: Callable[[], object], images: int, device: torch.device, seconds: float) -> float:
    """Images a second: after three steps to warm up, the best of three spells."""
    for _ in range(3):
        step()
    best = 0.0
    for _ in range(3):
        wait(device)
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < seconds / 3:
            step()
            wait(device)
            steps += 1
        best = max(best, steps * images / (time.perf_counter() - start))
    return best


def measure(
    case: Case, precision: Precision, compiled: bool, device: torch.device, seconds: float
) -> tuple[float, float, float]:
    """Images a second forward, in training, and the largest difference of a probability."""
    dims = len(case.size)
    torch.manual_seed(0)
    reference = case.make().eval()
    images = torch.rand(case.batch, 1, *case.size)
    few = images[: max(1, 8 if dims == 2 else 2)]
    with torch.no_grad():
        expected = reference(few).softmax(1)
    layout = precision.layout(dims)
    model = copy.deepcopy(reference).to(device, memory_format=layout)
    images = images.to(device).contiguous(memory_format=layout)
    if compiled:
        # Else the many variants of one class share a cache, and soon run as they are.
        torch.compiler.reset()
        model.compile()

    def forward(batch: Tensor) -> Tensor:
        with precision.autocast(device):
            return model(batch).float()

    with torch.no_grad():
        got = forward(images[: len(few)]).softmax(1).cpu()
        inference = rate(lambda: forward(images), len(images), device, seconds)
    difference = (got - expected).abs().max().item()

    model.train()
    optimiser, scaler = torch.optim.AdamW(model.parameters()), precision.scaler(device)

    def step() -> None:
        optimiser.zero_grad()
        scaler.scale(forward(images).square().mean()).backward()
        scaler.step(optimiser)
        scaler.update()

    return inference, rate(step, len(images), device, seconds), difference


def variants(device: torch.device, compile: bool) -> list[tuple[Precision, bool]]:
    """Precision, layout and compilation in every combination; the plain one first."""
    kinds = ["float32"]
    if device.type == "cuda":
        kinds.append(Precision.by_rule(device).dtype)
    elif device.type == "mps":
        kinds.append("float16")
    return [
        (Precision(kind, last), compiled)
        for kind, last, compiled in itertools.product(
            kinds, (False, True), (False, True) if compile else (False,)
        )
    ]


def describe(device: torch.device) -> str:
    """The device's own name, and the version of PyTorch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return f"{name}, {torch.get_num_threads()} CPU threads, PyTorch {torch.__version__}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device", help="cuda, mps or cpu; default: an accelerator if there is one"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--only", default="", help="networks whose name begins so: ResNet, UNet 3")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    found = "cuda" if torch.cuda.is_available() else ""
    found = found or ("mps" if torch.backends.mps.is_available() else "")
    if not found and options.device is None:
        print("no accelerator found: nothing measured. --device cpu measures the CPU instead.")
        return 0
    device = torch.device(options.device or found)
    quick = options.quick or device.type == "cpu"
    chosen = [case for case in cases(quick) if case.name.startswith(options.only)]
    if not chosen:
        parser.error(f"no network's name begins with {options.only!r}")
    lines = [
        f"Throughput on {describe(device)}",
        "",
        "| network | size | batch | variant | forward, images/s | training, images/s | "
        "times the first | largest difference from the CPU |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    wrong = 0
    for case in chosen:
        first = 0.0
        for precision, compiled in variants(device, not options.no_compile):
            inference, training, error = measure(case, precision, compiled, device, options.seconds)
            first = first or training
            name = f"{precision}{' compiled' * compiled}"
            mark = "" if error <= TOLERANCE[precision.dtype] else " **disagrees**"
            wrong += bool(mark)
            lines.append(
                f"| {case.name} | {'×'.join(map(str, case.size))} | {case.batch} | {name} | "
                f"{inference:,.0f} | {training:,.0f} | {training / first:.2f} | {error:.1e}{mark} |"
            )
            print(lines[-1], flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if wrong:
        print(f"{wrong} variants do not give the CPU's scores", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
