"""Look inside a network: what every layer puts out, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medlab.cohort import to_float

if TYPE_CHECKING:
    import pandas as pd


def feature_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What every layer without layers of its own makes of some images, in the order of the calls.

    The model runs once, in evaluation mode and without gradients; its modes are restored also if
    it fails. All maps are held in memory at once: pass a few images.

    Args:
        model: any module; it may stand on any device.
        images: (N, C, …), uint8 (read as 0…1) or float.

    Returns:
        name → copy of the layer's output, on the model's device; of a tuple, its first entry. Of a
        layer called again it is the last output; one never called is missing.
    """
    names = {module: name for name, module in model.named_modules() if not any(module.children())}
    maps: dict[str, Tensor] = {}

    def keep(module: nn.Module, _inputs: tuple, output: object) -> None:
        if (tensor := _tensor(output)) is not None:
            maps[names[module]] = tensor.detach().clone()  # a later in-place ReLU must not reach it

    _run(model, images, dict.fromkeys(names, keep))
    return maps


def summary(model: nn.Module, shape: tuple[int, ...]) -> pd.DataFrame:
    """Every layer's output, parameters and cost for one image, in the order of the first call.

    Counted are the multiply-adds of convolutions, n_out · k² · C_in / groups (transposed:
    n_in · k² · C_out / groups), and of products of matrices, by PyTorch; all else counts 0.

    Args:
        model: any module that takes one tensor of images.
        shape: of one image, (C, H, W) or (C, D, H, W), without the batch.

    Returns:
        A row for each module that has no submodules, or that holds parameters of its own, by its
        name in `model.named_modules()`, and the "total": kind, the module's class; output, its
        shape for one image, or "not called"; parameters, which training changes, each counted where
        it comes first; multiply_adds, multiplications, each with its addition, for one image.
    """
    import pandas as pd  # it takes its time, and few who build a network need it

    shapes: dict[nn.Module, str] = {}

    def note(module: nn.Module, _inputs: tuple, output: object) -> None:
        tensor = _tensor(output)
        shapes[module] = "" if tensor is None else "×".join(map(str, tensor.shape[1:]))

    names = {module: name for name, module in model.named_modules()}
    with FlopCounterMode(display=False) as counter:
        _run(model, torch.zeros(1, *shape), dict.fromkeys(names, note))
    costs = {key: sum(of.values()) // 2 for key, of in counter.get_flop_counts().items()}
    rows: dict[str, tuple[str, str, int, int]] = {}
    counted: set[nn.Parameter] = set()
    for module in [*shapes, *(m for m in names if m not in shapes)]:
        own = {p: p.numel() for p in module.parameters(recurse=False) if p not in counted}
        counted |= own.keys()
        inner = any(module.children())
        if own or not inner:
            path = f"{type(model).__name__}.{names[module]}".rstrip(".")
            cost = 0 if inner else costs.get(path, 0)
            output = shapes.get(module, "not called")
            rows[names[module]] = type(module).__name__, output, sum(own.values()), cost
    each = [*rows.values()]
    rows["total"] = "", "", sum(row[2] for row in each), sum(row[3] for row in each)
    columns = ["kind", "output", "parameters", "multiply_adds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[torch.device]:
    """The model in evaluation mode, on its own device; each module's mode is restored after."""
    modes = [(module, module.training) for module in model.modules()]
    device = next((p.device for p in (*model.parameters(), *model.buffers())), None)
    model.eval()
    try:
        yield device or torch.device("cpu")
    finally:
        for module, mode in modes:
            module.training = mode


def _run(model: nn.Module, images: Tensor, hooks: dict) -> None:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        with undisturbed(model) as device, torch.no_grad():
            model(to_float(images).to(device))
    finally:
        for handle in handles:
            handle.remove()


def _tensor(output: object) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if torch.is_tensor(first) else None
