"""Number format and memory layout of training, chosen by trying them."""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medlab.cohort import to_float
from medlab.errors import DataError

__all__ = ["Precision", "probe"]

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CACHE: dict[tuple, Precision] = {}


@dataclass(frozen=True)
class Precision:
    """How a training step computes. Weights, optimiser and loss are float32 in every case.

    Attributes:
        dtype: "float32", or "bfloat16"/"float16" for mixed precision under autocast.
        channels_last: keep the channels of a pixel side by side in memory.
    """

    dtype: str = "float32"
    channels_last: bool = False

    def __str__(self) -> str:
        return self.dtype + "+channels_last" * self.channels_last

    @classmethod
    def named(cls, name: str) -> Precision:
        """From "float32", "bfloat16" or "float16", with or without "+channels_last"."""
        dtype, _, layout = name.partition("+")
        if dtype not in _TYPES or layout not in ("", "channels_last"):
            raise DataError(
                "precision must be 'auto', or 'float32', 'bfloat16' or 'float16', each also with "
                f"'+channels_last'; got {name!r}"
            )
        return cls(dtype, bool(layout))

    def autocast(self, device: torch.device) -> AbstractContextManager:
        return torch.autocast(device.type, _TYPES[self.dtype], enabled=self.dtype != "float32")

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Scales the loss so that float16 gradients do not vanish; does nothing otherwise."""
        return torch.amp.GradScaler(device.type, enabled=self.dtype == "float16")

    def layout(self, dimensions: int) -> torch.memory_format:
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last_3d if dimensions == 5 else torch.channels_last


def probe(model: nn.Module, images: Tensor, *, repeats: int = 2, cache: bool = True) -> Precision:
    """Time one training step in each candidate precision and return the fastest worth having.

    The layout must be 10 % faster to replace the plain one, and mixed precision another 20 %, so
    that a tie does not fall one way today and the other tomorrow. Mixed precision must also give
    the float32 outputs within 5 %. Model, running statistics and random state stay as they are.

    Args:
        model: any model with float32 weights.
        images: one batch, as large as in training, on the model's device.
        repeats: timed steps per candidate after one that warms up; the fastest counts.
        cache: remember the choice for this model structure, batch shape, device and thread count.
    """
    key = (repr(model), tuple(images.shape), str(images.device), torch.get_num_threads())
    if cache and key in _CACHE:
        return _CACHE[key]
    with torch.random.fork_rng(devices=_cuda(images)):
        best = Precision()
        seconds, reference = _time(model, images, best, repeats)
        for candidate in (
            Precision("float32", channels_last=True),
            Precision(_half(images.device), channels_last=best.channels_last),
            Precision(_half(images.device), channels_last=True),
        ):
            took, outputs = _time(model, images, candidate, repeats)
            same_type = candidate.dtype == best.dtype
            error = (outputs - reference).norm() / reference.norm().clamp_min(1e-12)
            if took * (1.1 if same_type else 1.2) < seconds and error < 0.05:
                best, seconds = candidate, took
    _CACHE[key] = best
    return best


def _half(device: torch.device) -> str:
    """bfloat16, except on GPUs before compute capability 8 (T4: 7.5), which only emulate it."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "float16"
    return "bfloat16"


def _time(
    model: nn.Module, images: Tensor, precision: Precision, repeats: int
) -> tuple[float, Tensor]:
    """Seconds of one forward and backward pass, and the outputs in float32."""
    trial = copy.deepcopy(model).train()
    trial.to(memory_format=precision.layout(images.ndim))
    images = to_float(images).contiguous(memory_format=precision.layout(images.ndim))
    times = []
    for _ in range(1 + repeats):
        _wait(images.device)
        start = time.perf_counter()
        with precision.autocast(images.device):
            outputs = trial(images)
        outputs = outputs.float()
        # Any smooth function of the outputs costs the same as the true loss.
        outputs.square().mean().backward()
        _wait(images.device)
        times.append(time.perf_counter() - start)
    return min(times[1:]), outputs.detach()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cuda(images: Tensor) -> list[torch.device]:
    return [images.device] if images.is_cuda else []
