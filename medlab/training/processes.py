"""Several processes that train one model: how they share a batch, and what they agree on."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medlab.errors import DataError, MedlabError

Made = TypeVar("Made")
_NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm


@dataclass
class Team:
    """The processes of one training; a `size` of 1 is the usual one, and changes nothing.

    Each holds all images and the whole model, and puts every batch together and augments it as
    the others do. Then it computes the outputs of its own images and gets those of the others, so
    that each has the loss of the whole batch, whatever the loss: the gradients of the processes
    are parts of one sum. `idle` says that a batch was too small to have an image for this process.
    """

    rank: int = 0
    size: int = 1
    idle: bool = False

    @classmethod
    def join(cls) -> Self:
        """The team of the process group, which is started where torchrun wants it; or a lone one.

        The group stays until the process ends. Messages go by NCCL where each process of a machine
        has a GPU of its own, else by gloo.
        """
        if not dist.is_available():
            return cls()
        here = {name: int(os.environ.get(name, 0)) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")}
        if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
            gpus = torch.cuda.device_count()
            if gpus:
                torch.cuda.set_device(here["LOCAL_RANK"] % gpus)
            dist.init_process_group(None if gpus >= max(1, here["LOCAL_WORLD_SIZE"]) else "gloo")
            atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def by_first(self, work: Callable[[], Made]) -> Made:
        """What the first process makes of `work`, or the `MedlabError` it ends with, on all."""
        if self.size == 1:
            return work()
        box: list[Any] = [None, None]
        if self.rank == 0:
            try:
                box[0] = work()
            except MedlabError as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        return box[0]

    def agree(self, model: nn.Module, config: dict) -> None:
        """Refuse processes that were given different things, and start from the first's weights."""
        if self.size == 1:
            return
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, config)
        if different := [key for key in config if any(one[key] != config[key] for one in told)]:
            raise DataError(
                f"the {self.size} processes differ in {', '.join(different)}. Give each of them "
                "the same model, images and options: fit itself shares out every batch."
            )
        model.load_state_dict(
            self.by_first(lambda: {name: value.cpu() for name, value in model.state_dict().items()})
        )

    def share(self, forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """forward(images), of which each process computes a share; gradients go to its own."""
        if self.size == 1:
            return forward(images)
        own = torch.arange(self.rank, len(images), self.size, device=images.device)
        self.idle = len(own) == 0
        # Who has no image takes one that counts nowhere, to be there when the others exchange.
        outputs = self._whole(forward(images[:1] if self.idle else images[own]), own, len(images))
        pixels = images.flatten(1).double()  # weighted by place: a mirrored image is another one
        marks = pixels @ torch.linspace(0.5, 1.5, pixels.shape[1]).to(pixels)
        if not torch.allclose(self._whole(marks[own], own, len(marks)), marks, equal_nan=True):
            raise DataError(
                "augment made different images on different processes: let it draw from the "
                "generator that it is given, and from nothing else"
            )
        return outputs

    @staticmethod
    def _whole(part: Tensor, own: Tensor, count: int) -> Tensor:
        """The rows of all processes, of which `part` are those numbered `own`."""
        part = part[: len(own)]
        whole = part.new_zeros(count, *part.shape[1:])
        whole[own] = part.detach()
        dist.all_reduce(whole)
        return whole.index_copy(0, own, part)

    def add_gradients(self, model: nn.Module) -> None:
        """Give each parameter the sum of its gradients; one that no process used stays without."""
        if self.size == 1:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        whole = torch.cat([used, *(gradient.flatten() for gradient in own)])
        dist.all_reduce(whole)
        used, *sums = whole.split([len(own), *(gradient.numel() for gradient in own)])
        for parameter, gradient, by, total in zip(trained, own, used.tolist(), sums, strict=True):
            parameter.grad = gradient.copy_(total.view_as(gradient)) if by else None

    @contextmanager
    def synchronised(self, model: nn.Module) -> Iterator[None]:
        """Batch normalisation by mean and variance of the whole batch, on a CPU as on a GPU."""
        layers = [layer for layer in model.modules() if isinstance(layer, _NORMS)]
        for layer in layers if self.size > 1 else []:
            vars(layer)["forward"] = partial(self._normalise, layer)
        try:
            yield
        finally:
            for layer in layers:
                vars(layer).pop("forward", None)

    @torch.compiler.disable
    def _normalise(self, layer: Any, images: Tensor) -> Tensor:
        if not layer.training:
            return type(layer).forward(layer, images)
        exact = images.to(torch.promote_types(images.dtype, torch.float32))
        counts = exact[:0] if self.idle else exact
        axes, column = [0, *range(2, images.ndim)], (-1, *[1] * (images.ndim - 2))
        total = _Sum.apply(exact.new_tensor(counts[:, 0].numel()))
        mean = _Sum.apply(counts.sum(axes)) / total
        var = _Sum.apply((counts - mean.view(column)).square().sum(axes)) / total
        if layer.running_mean is not None:
            layer.num_batches_tracked.add_(1)
            seen, rate = layer.num_batches_tracked.item(), layer.momentum
            rate = 1 / seen if rate is None else rate
            layer.running_mean.lerp_(mean.detach(), rate)
            layer.running_var.lerp_((var * total / (total - 1)).detach(), rate)
        exact = (exact - mean.view(column)) * (var + layer.eps).rsqrt().view(column)
        if layer.affine:
            exact = exact * layer.weight.view(column) + layer.bias.view(column)
        return exact.to(images.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; what depends on it in any of them counts for each part of it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.apply(*gradients)
