"""All that changes during training, in memory and in a checkpoint."""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medlab.cohort import Cohort
from medlab.errors import CheckpointError
from medlab.training.checkpoint import Checkpoint, put_into
from medlab.training.history import History
from medlab.training.precision import Precision
from medlab.training.recipe import average_into, parameter_groups


class Run:
    """A model under training, with its optimiser, its average and its history.

    Args:
        model: trained in place.
        config: the recipe, as plain values; what a checkpoint must agree with.
        precision: number format and layout.
        images: the training images, for their device and dimensions.
    """

    def __init__(self, model: nn.Module, config: dict, precision: Precision, images: Tensor):
        self.model = model
        self.history = History(config=config)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(model, config["weight_decay"]), lr=config["lr"]
        )
        self.averaged: nn.Module | None = copy.deepcopy(model) if config["average"] else None
        self.best: dict[str, Tensor] | None = {} if config["keep"] == "best" else None
        self.lowest = math.inf
        self.scaler = precision.scaler(images.device)
        for module in (self.model, self.averaged):
            if module is not None:
                module.to(memory_format=precision.layout(images.ndim - 2))

    @property
    def evaluated(self) -> nn.Module:
        """The model whose scores are reported: the averaged one if there is one."""
        return self.model if self.averaged is None else self.averaged

    def step(self, loss: Tensor, *, rate: float, weight: float) -> None:
        """One step down the gradient of `loss`; the average takes the result in with `weight`."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averaged is not None:
            average_into(self.averaged, self.model, weight)

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Note the scores of an epoch and, if the best epoch is wanted, whether it was that."""
        self.history.rows.append(row)
        if self.best is None:
            self.history.kept = int(row["epoch"])
        elif row["val_loss"] < self.lowest:
            self.lowest, self.history.kept = row["val_loss"], int(row["epoch"])
            self.best = {k: v.clone() for k, v in self.evaluated.state_dict().items()}

    def finish(self) -> None:
        """Leave the weights to keep in the model, laid out plainly."""
        self.model.load_state_dict(self.best or self.evaluated.state_dict())
        self.model.to(memory_format=torch.contiguous_format)

    def store(self, path: str | os.PathLike) -> None:
        """Write the state after an epoch."""
        states: dict[str, Mapping] = {"model": self.model.state_dict()}
        if self.averaged is not None:
            states["average"] = self.averaged.state_dict()
        if self.best:
            states["best"] = self.best
        for position, state in self.optimiser.state_dict()["state"].items():
            states[f"optimiser.{position}"] = state
        history = self.history
        Checkpoint(
            tensors={f"{part}.{k}": v for part, state in states.items() for k, v in state.items()},
            facts={
                "config": history.config,
                "rows": history.rows,
                "kept": history.kept,
                "lowest": self.lowest,
                "seconds": history.seconds,
                "scaler": self.scaler.state_dict(),
            },
        ).save(path)

    def restore(self, path: str | os.PathLike) -> int:
        """Take up where a checkpoint stopped.

        Returns:
            The number of epochs already trained.

        Raises:
            CheckpointError: unreadable, or made with another model, data set or recipe.
        """
        saved = Checkpoint.load(path)
        facts, history = saved.facts, self.history
        _compare(path, facts.get("config", {}), history.config)

        def part(name: str) -> dict[str, Tensor]:
            start = f"{name}."
            return {k[len(start) :]: v for k, v in saved.tensors.items() if k.startswith(start)}

        put_into(self.model, part("model"), source=str(path))
        if self.averaged is not None:
            put_into(self.averaged, part("average"), source=str(path))
        if self.best is not None:
            self.best = part("best")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimiser").items():
            position, _, name = key.partition(".")
            state.setdefault(int(position), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        if facts["scaler"]:
            self.scaler.load_state_dict(facts["scaler"])
        self.lowest, history.rows, history.kept = facts["lowest"], facts["rows"], facts["kept"]
        history.seconds = facts["seconds"]
        return len(history)


def fingerprint(thing: Any) -> str:
    """A short text that differs when a model's structure, a data set or an augmentation does."""
    if isinstance(thing, nn.Module):
        shapes = [(name, tuple(value.shape)) for name, value in thing.state_dict().items()]
        return f"{type(thing).__name__} {_hash(repr(thing).encode(), repr(shapes).encode())}"
    if isinstance(thing, Cohort):
        tensors = [thing.images, thing.labels, thing.masks, *(thing.boxes or [])]
        content = [
            tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            for tensor in tensors
            if tensor is not None
        ]
        return f"{len(thing)} images {_hash(*content)}"
    if thing is None or is_dataclass(thing):
        return repr(thing)
    return getattr(thing, "__qualname__", type(thing).__qualname__)


def _hash(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _compare(path: str | os.PathLike, saved: dict, asked: dict) -> None:
    different = [
        f"{key}: checkpoint {saved.get(key)!r}, now {asked[key]!r}"
        for key in asked
        if saved.get(key) != asked[key]
    ]
    if different:
        raise CheckpointError(
            f"{path} was written by another training run, so it cannot be continued:\n  "
            + "\n  ".join(different)
            + "\nCall fit as before, or name another file, or pass resume=False to start afresh."
        )
