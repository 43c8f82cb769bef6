"""From a run in memory to a checkpoint on disk and back."""

from __future__ import annotations

import hashlib
import os
from dataclasses import is_dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from medlab.errors import CheckpointError
from medlab.training.checkpoint import Checkpoint, put_into
from medlab.training.data import Labelled

if TYPE_CHECKING:
    from medlab.training.loop import _Run

__all__ = ["fingerprint", "restore", "store"]


def fingerprint(thing) -> str:
    """A short text that differs when a model's structure, a data set or an augmentation does."""
    if isinstance(thing, nn.Module):
        shapes = [(name, tuple(value.shape)) for name, value in thing.state_dict().items()]
        return f"{type(thing).__name__} {_hash(repr(thing).encode(), repr(shapes).encode())}"
    if isinstance(thing, Labelled):
        arrays = (thing.images, thing.labels)
        content = (a.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data for a in arrays)
        return f"{len(thing)} images {_hash(*content)}"
    if thing is None or is_dataclass(thing):
        return repr(thing)
    return getattr(thing, "__qualname__", type(thing).__qualname__)


def _hash(*parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def store(path: str | os.PathLike, run: _Run) -> None:
    """Write the state of a run after an epoch."""
    states = {"model": run.model.state_dict()}
    if run.averaged is not None:
        states["average"] = run.averaged.state_dict()
    if run.best:
        states["best"] = run.best
    for position, state in run.optimiser.state_dict()["state"].items():
        states[f"optimiser.{position}"] = state
    history = run.history
    Checkpoint(
        tensors={f"{part}.{k}": v for part, state in states.items() for k, v in state.items()},
        facts={
            "config": history.config,
            "asked": run.asked,
            "rows": history.rows,
            "kept": history.kept,
            "lowest": run.lowest,
            "seconds": history.seconds,
            "scaler": run.scaler.state_dict(),
        },
    ).save(path)


def restore(path: str | os.PathLike, run: _Run) -> int:
    """Put a checkpoint into a fresh run.

    Returns:
        The number of epochs already trained.

    Raises:
        CheckpointError: unreadable, or made with another model, data set or recipe.
    """
    saved = Checkpoint.load(path)
    facts = saved.facts
    _compare(path, facts["asked"], run.asked)

    def part(name: str) -> dict:
        start = f"{name}."
        return {k[len(start) :]: v for k, v in saved.tensors.items() if k.startswith(start)}

    put_into(run.model, part("model"), source=str(path))
    if run.averaged is not None:
        put_into(run.averaged, part("average"), source=str(path))
    if run.best is not None:
        run.best = part("best")
    state = {}
    for key, value in part("optimiser").items():
        position, _, name = key.partition(".")
        state.setdefault(int(position), {})[name] = value
    groups = run.optimiser.state_dict()["param_groups"]
    run.optimiser.load_state_dict({"state": state, "param_groups": groups})
    run.scaler_state = facts["scaler"]
    run.lowest = facts["lowest"]
    history = run.history
    history.rows, history.kept = facts["rows"], facts["kept"]
    history.config, history.seconds = facts["config"], facts["seconds"]
    return len(history)


def _compare(path: str | os.PathLike, saved: dict, asked: dict) -> None:
    different = [
        f"{key}: checkpoint {saved.get(key)!r}, now {asked.get(key)!r}"
        for key in asked
        if saved.get(key) != asked.get(key)
    ]
    if different:
        raise CheckpointError(
            f"{path} was written by another training run, so it cannot be continued:\n  "
            + "\n  ".join(different)
            + "\nCall fit as before, or name another file, or pass resume=False to start afresh."
        )
