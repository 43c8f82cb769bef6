"""Look inside a network: what every layer puts out, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medlab.cohort import to_float
from medlab.errors import DataError

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)


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

    Raises:
        DataError: images that are no tensor.
    """
    if not torch.is_tensor(images):
        raise DataError(f"images must be a tensor (N, C, …); got {type(images).__name__}")
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
    """One line of a summary.

    Attributes:
        name: as in `model.named_modules()`; empty for the model itself.
        kind: class of the layer.
        shape: of its output for one image, without the batch; None if it was never called.
        parameters: numbers that training changes, its own and not counted in a line above.
        multiply_adds: multiplications, each with its addition, for one image.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int


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
    n_in · k² · C_out / groups), and of linear layers, n_out · n_in; all else counts 0, as is usual.

    Args:
        model: any module that takes one tensor of images.
        shape: of one image, (C, H, W) or (C, D, H, W), without the batch.

    Returns:
        One `Layer` for each module that has no submodules, or that holds parameters of its own.

    Raises:
        DataError: a shape that is not made of positive whole numbers.
    """
    sides = shape if isinstance(shape, Sequence) else ()
    if not sides or not all(isinstance(side, Integral) and side >= 1 for side in sides):
        raise DataError(f"shape is that of one image, such as (1, 64, 64); got {shape!r}")
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    costs: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: tuple, output: object) -> None:
        tensor = _tensor(output)
        shapes[module] = () if tensor is None else tuple(tensor.shape[1:])
        cost = _multiply_adds(module, inputs[0], tensor) if inputs and tensor is not None else 0
        costs[module] = costs.get(module, 0) + cost

    names = {module: name for name, module in model.named_modules()}
    _run(model, torch.zeros(1, *shape), dict.fromkeys(names, note))
    rows, counted = [], set[nn.Parameter]()
    for module in [*shapes, *(m for m in names if m not in shapes)]:
        own = {p: p.numel() for p in module.parameters(recurse=False) if p not in counted}
        counted |= own.keys()
        if own or not any(module.children()):
            kind, shape_out = type(module).__name__, shapes.get(module)
            cost = costs.get(module, 0)
            rows.append(Layer(names[module], kind, shape_out, sum(own.values()), cost))
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


def _multiply_adds(module: nn.Module, given: Tensor, output: Tensor) -> int:
    """Places at which the weights are applied, times their number."""
    if not isinstance(module, _COUNTED):
        return 0
    places = (given if isinstance(module, _TRANSPOSED) else output).numel() // len(module.weight)
    return places * module.weight.numel()
