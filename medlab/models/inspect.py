"""Look inside a network: what every layer puts out, and what it costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medlab.cohort import to_float


def feature_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What every layer without layers of its own makes of some images, in the order of the calls.

    The model runs once, in evaluation mode and without gradients; its modes are restored also if
    it fails. All maps are held in memory at once: pass a few images.

    Args:
        model: any module; it may stand on any device.
        images: (N, C, …), uint8 (read as 0…1) or float.

    Returns:
        name → copy of the layer's output, on the model's device; of a tuple, its first entry. A
        layer called again is added as "name (2)" and so on; one never called is missing.
    """
    names = {module: name for name, module in model.named_modules() if not any(module.children())}
    maps: dict[str, Tensor] = {}

    def keep(module: nn.Module, _inputs: tuple, output: object) -> None:
        if (tensor := _tensor(output)) is not None:
            name, calls = names[module], 1
            while (key := name if calls == 1 else f"{name} ({calls})") in maps:
                calls += 1
            maps[key] = tensor.detach().clone()  # a later in-place ReLU must not reach it

    _run(model, images, dict.fromkeys(names, keep))
    return maps


class Layer(NamedTuple):
    """One line of a summary, of one layer."""

    name: str  # as in `model.named_modules()`; empty for the model itself
    kind: str  # its class
    shape: tuple[int, ...] | None  # of its output for one image; None if it was never called
    parameters: int  # numbers that training changes, its own and not counted in a line above
    multiply_adds: int  # multiplications, each with its addition, for one image


class Summary(tuple):
    """The layers of a model with their sums; `print` shows a table."""

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self)

    def __str__(self) -> str:
        rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
        for name, kind, shape, parameters, cost in self:
            output = "not called" if shape is None else "×".join(map(str, shape))
            rows.append((name or "(model)", kind, output, f"{parameters:,}", f"{cost:,}"))
        rows.append(("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}"))
        wide = [max(len(row[k]) for row in rows) for k in range(5)]
        return "\n".join(
            f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:<{wide[2]}}  {d:>{wide[3]}}  {e:>{wide[4]}}"
            for a, b, c, d, e in rows
        )

    __repr__ = __str__


def summary(model: nn.Module, shape: tuple[int, ...]) -> Summary:
    """Every layer's output, parameters and cost for one image, in the order of the first call.

    Counted are the multiply-adds of convolutions, n_out · k² · C_in / groups (transposed:
    n_in · k² · C_out / groups), and of products of matrices, by PyTorch; all else counts 0.

    Args:
        model: any module that takes one tensor of images.
        shape: of one image, (C, H, W) or (C, D, H, W), without the batch.

    Returns:
        One `Layer` for each module that has no submodules, or that holds parameters of its own.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, _inputs: tuple, output: object) -> None:
        tensor = _tensor(output)
        shapes[module] = () if tensor is None else tuple(tensor.shape[1:])

    names = {module: name for name, module in model.named_modules()}
    with FlopCounterMode(display=False) as counter:
        _run(model, torch.zeros(1, *shape), dict.fromkeys(names, note))
    costs = {key: sum(of.values()) // 2 for key, of in counter.get_flop_counts().items()}
    rows, counted = [], set[nn.Parameter]()
    for module in [*shapes, *(m for m in names if m not in shapes)]:
        own = {p: p.numel() for p in module.parameters(recurse=False) if p not in counted}
        counted |= own.keys()
        inner = any(module.children())
        if own or not inner:
            name, kind = names[module], type(module).__name__
            path = f"{type(model).__name__}.{name}".rstrip(".")
            cost = 0 if inner else costs.get(path, 0)
            rows.append(Layer(name, kind, shapes.get(module), sum(own.values()), cost))
    return Summary(rows)


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
