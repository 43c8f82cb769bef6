"""Number format and memory layout of training, by a rule."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Self

import torch

from medlab.errors import DataError

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """How a training step computes; weights, optimiser and loss are float32 in every case.

    `dtype` "bfloat16" or "float16" is mixed precision under autocast; `channels_last` keeps the
    channels of a pixel side by side in memory.
    """

    dtype: str = "float32"
    channels_last: bool = False

    def __str__(self) -> str:
        return self.dtype + "+channels_last" * self.channels_last

    @classmethod
    def named(cls, name: str) -> Self:
        """From a name as `str` makes it; a `DataError` for any other."""
        dtype, _, layout = str(name).partition("+")
        if dtype not in _TYPES or layout not in ("", "channels_last"):
            raise DataError(
                "precision must be 'auto', or 'float32', 'bfloat16' or 'float16', each also with "
                f"'+channels_last'; got {name!r}"
            )
        return cls(dtype, bool(layout))

    @classmethod
    def by_rule(cls, device: torch.device) -> Self:
        """What "auto" stands for on a device.

        On a GPU bfloat16, or float16 before compute capability 8 (a T4 has 7.5), which only
        emulates bfloat16. Channels last everywhere. `benchmarks/gpu.py` measures each choice.
        """
        dtype = "float32"
        if device.type == "cuda":
            modern = torch.cuda.get_device_capability(device) >= (8, 0)
            dtype = "bfloat16" if modern else "float16"
        return cls(dtype, channels_last=True)

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """The context in which the forward pass runs."""
        return torch.autocast(device.type, _TYPES[self.dtype], enabled=self.dtype != "float32")

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Scales the loss so that float16 gradients do not vanish; does nothing otherwise."""
        return torch.amp.GradScaler(device.type, enabled=self.dtype == "float16")

    def layout(self, dims: int) -> torch.memory_format:
        """The memory format of images and weights of so many dimensions."""
        last = torch.channels_last_3d if dims == 3 else torch.channels_last
        return last if self.channels_last else torch.contiguous_format
