"""Throughput of training and inference on whatever accelerator there is, and its agreement.

    python benchmarks/gpu.py [--device cuda] [--seconds 1.0] [--quick] [--only NAME]
        [--no-compile] [--tables variants,onnx,processes] [--markdown FILE]

Networks: the small CNN, ResNet-18 and the U-Net on images of 28 to 224 pixels, the small CNN and
the U-Net on volumes of 28 and 64. Each is timed in float32 and in the half precision that suits
the device, with channels first and last, plain and compiled; a row is one combination, in images
a second: forward pass alone, and forward, backward and optimiser step together. The compared
figure is the ratio to the first row of its network. Every variant must give the scores of the
CPU: the largest difference of a probability is printed, and one beyond the tolerance of its
precision ends the run with an error.

Two more tables: the same network in ONNX Runtime beside PyTorch as it is, on the CPU and, where it
has a CUDA provider, on the GPU; and `fit` in two processes (torchrun, gloo where they share a GPU)
beside one, which on a CPU has the threads of both. What cannot run is named with its reason.

Without an accelerator it says so, and measures the CPU on the small sizes if --device cpu asks
for it.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from medlab.models import SmallCNN, UNet
from medlab.training import Precision, fit, predict

TOLERANCE = {"float32": 2e-3, "bfloat16": 0.05, "float16": 0.02}  # of a probability
EXACT = 1e-5  # of a logit in ONNX Runtime on the CPU, which has no TF32


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


def beside_onnx(case: Case, device: torch.device, seconds: float) -> Iterator[tuple]:
    """Rows of ONNX Runtime: what, images a second, times PyTorch's, difference, tolerance."""
    import onnxruntime

    torch.manual_seed(0)
    model, images = case.make().eval(), torch.rand(case.batch, 1, *case.size)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = f"{folder}/model.onnx"
        torch.onnx.export(model, (images,), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        for place in dict.fromkeys(("cpu", device.type)):
            where, provider = torch.device(place), f"{place.upper()}ExecutionProvider"
            name = f"ONNX Runtime, {place}"
            if provider not in onnxruntime.get_available_providers():
                yield name, f"skipped: this onnxruntime has no {provider}"
                continue
            model, batch = model.to(where), images.to(where)
            plain = rate(lambda m=model, b=batch: m(b), len(images), where, seconds)
            session = onnxruntime.InferenceSession(path, options, providers=[provider])
            given = {session.get_inputs()[0].name: images.numpy()}
            got = torch.from_numpy(session.run(None, given)[0])
            fast = rate(lambda s=session, g=given: s.run(None, g), len(images), where, seconds)
            error = (got - model(batch).cpu()).abs().max().item()
            yield name, fast, fast / plain, error, EXACT if place == "cpu" else TOLERANCE["float32"]


def trained(case: Case, device: str) -> tuple[float, Tensor]:
    """Images a second in `fit`, the better of two runs, and the probabilities after it."""
    draw, best = torch.Generator().manual_seed(0), 0.0
    images = torch.rand(4 * case.batch, 1, *case.size, generator=draw)
    targets = (images[:, 0] > 0.5).long() if "UNet" in case.name else torch.arange(len(images)) % 2
    for _ in range(2):
        torch.manual_seed(0)
        model = case.make()
        recipe = {"epochs": 2, "lr": 1e-4, "batch_size": case.batch, "precision": "float32"}
        history = fit(
            model, (images, targets), augment=None, device=device, progress=False, **recipe
        )
        best = max(best, 2 * len(images) / history.seconds)
    return best, predict(model, images[:8])


def beside_processes(case: Case, device: torch.device) -> Iterator[tuple]:
    """Rows of `fit` in one process and in two: what, images a second, ratio, difference."""
    cores, rows = os.cpu_count() or 1, []
    for count in (1, 2):
        name = f"fit, {count} process{'es' * (count > 1)}"
        if device.type == "mps":
            yield name, "skipped: gloo does not know MPS"
            continue
        if device.type == "cpu":
            name += f" × {max(1, cores // count)} threads"
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, *launch * (count == 2), __file__, "--device", device.type]
            environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // count))}
            worker = ["--worker", f"{case.name}:{case.size[0]}", "--into", f"{folder}/result"]
            subprocess.run(command + worker, env=environment, check=True)
            rows.append(torch.load(f"{folder}/result", weights_only=True))
        speed, scores = rows[-1]
        error = (scores - rows[0][1]).abs().max().item()
        yield name, speed, speed / rows[0][0], error, TOLERANCE["float32"]


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
    parser.add_argument("--tables", default="variants,onnx,processes", help="which of the three")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # what a process of `fit` is told
    parser.add_argument("--into", help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    if options.worker:
        name, side = options.worker.split(":")
        every = cases(quick=False)
        case = next(one for one in every if one.name == name and one.size[0] == int(side))
        result = trained(case, options.device)
        if os.environ.get("RANK", "0") == "0":
            torch.save(result, options.into)
        return 0
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
    for case in chosen if "variants" in options.tables else []:
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
    head = "| network | size | batch | what | images/s | times the plain one | largest difference |"
    lines += ["", head, "|---|---|---:|---|---:|---:|---:|"]
    print("\n".join(lines[-3:]), flush=True)
    missing = [m for m in ("onnx", "onnxruntime", "onnxscript") if not importlib.util.find_spec(m)]
    for case in chosen:
        rows: list = []
        if "onnx" in options.tables and not missing:
            rows.append(beside_onnx(case, device, options.seconds))
        elif "onnx" in options.tables:
            why = f"skipped: no {missing[0]} here; pip install {missing[0]}"
            rows.append([("ONNX Runtime", why)])
        if "processes" in options.tables:
            rows.append(beside_processes(case, device))
        for what, *figures in itertools.chain(*rows):
            told = f"{figures[0]} | | |"
            if len(figures) > 1:
                speed, ratio, error, most = figures
                mark = "" if error <= most else " **disagrees**"
                wrong += bool(mark)
                told = f"{speed:,.0f} | {ratio:.2f} | {error:.1e}{mark} |"
            size = "×".join(map(str, case.size))
            lines.append(f"| {case.name} | {size} | {case.batch} | {what} | {told}")
            print(lines[-1], flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if wrong:
        print(f"{wrong} variants do not give the CPU's scores", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
