"""Weights and checkpoints on disk: safetensors only, written whole or not at all.

A safetensors file is a JSON header and raw numbers. Nothing in it can be executed, unlike a pickle
(`torch.save`), which runs whatever code it names while it is being read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from medlab import models
from medlab.errors import CheckpointError, atomic_write

_FORMAT = "medlab checkpoint 1"


@dataclass
class Checkpoint:
    """Named tensors and plain facts (whatever JSON holds), in one file.

    Attributes:
        tensors: name → tensor.
        facts: name → number, text, list or dictionary. Floats come back to the last bit.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)

    def save(self, path: str | os.PathLike) -> None:
        """Write to a temporary file beside `path`, flush it to disk, then rename it.

        The rename is atomic: killed at any moment, `path` holds the old checkpoint or the new one.
        """
        metadata = {"format": _FORMAT, "facts": json.dumps(self.facts)}
        _write(Path(path), self.tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            CheckpointError: no such file, not a checkpoint, or damaged.
        """
        tensors, metadata, checked = _read(Path(path))
        if metadata.get("format") != _FORMAT or not checked:
            raise CheckpointError(
                f"{path} holds weights but is no medlab checkpoint: read it with load_weights"
            )
        return cls(tensors, json.loads(metadata["facts"]))


def save_weights(
    model: nn.Module,
    path: str | os.PathLike,
    metadata: dict[str, str] | None = None,
    *,
    classes: Sequence[str] = (),
) -> None:
    """Write the model's weights and buffers as safetensors, with what it takes to use them.

    Args:
        model: any module; of one from `medlab.models` the arguments are kept too.
        path: usually ending in .safetensors.
        metadata: texts kept in the file's header, such as {"cohort": "chest_xray"}.
        classes: names of the model's outputs, in order: `cohort.classes`.

    Raises:
        CheckpointError: metadata that are no texts, or a place that cannot be written.
    """
    about = {"classes": json.dumps(list(classes))} if classes else {}
    if hasattr(model, "arguments"):
        about |= {"model": type(model).__name__, "arguments": json.dumps(model.arguments)}
    metadata = about | dict(metadata or {})
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise CheckpointError(f"metadata must map text to text; got {key!r}: {value!r}")
    _write(Path(path), model.state_dict(), metadata)


def load_weights(model: nn.Module, path: str | os.PathLike) -> dict[str, str]:
    """Load weights into a model of the same structure: all of them, or none.

    Args:
        model: a module with the same parameter names and shapes as the one saved.
        path: a safetensors file, from `save_weights` or elsewhere.

    Returns:
        The metadata of the file.

    Raises:
        CheckpointError: an unreadable file, or weights that do not fit; the model is unchanged.
    """
    tensors, metadata, _ = _read(Path(path))
    put_into(model, tensors, source=str(path))
    return metadata


def load_model(path: str | os.PathLike) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the model that `save_weights` wrote, from `medlab.models`, and name its outputs.

    Args:
        path: a file written by `save_weights`.

    Returns:
        The model in evaluation mode, on the CPU, and its class names (empty if none were saved).

    Raises:
        CheckpointError: an unreadable file, or one that does not say which model it belongs to.
    """
    tensors, metadata, _ = _read(Path(path))
    name = metadata.get("model", "")
    if name not in models.__all__ or "arguments" not in metadata:
        raise CheckpointError(
            f"{path} does not name a network of medlab.models: build the model yourself and call "
            "load_weights(model, path)"
        )
    model = getattr(models, name)(**json.loads(metadata["arguments"]))
    put_into(model, tensors, source=str(path))
    return model.eval(), tuple(json.loads(metadata.get("classes", "[]")))


def put_into(model: nn.Module, tensors: dict[str, Tensor], *, source: str) -> None:
    """Copy tensors into a model after checking that every name, shape and type fits."""
    wanted = model.state_dict()
    faults = [f"missing: {name}" for name in wanted if name not in tensors]
    faults += [f"unexpected: {name}" for name in tensors if name not in wanted]
    faults += [
        f"{name}: file has {tuple(tensors[name].shape)} {tensors[name].dtype}, model has "
        f"{tuple(value.shape)} {value.dtype}"
        for name, value in wanted.items()
        if name in tensors
        and (tensors[name].shape != value.shape or tensors[name].dtype != value.dtype)
    ]
    if faults:
        shown = "\n  ".join(faults[:8]) + (
            f"\n  … {len(faults) - 8} more" if len(faults) > 8 else ""
        )
        raise CheckpointError(
            f"{source} does not fit this {type(model).__name__}; nothing was loaded.\n  {shown}\n"
            "Build the model with the same arguments as the one that was saved."
        )
    model.load_state_dict(tensors)


def check_writable(path: str | os.PathLike) -> None:
    """Refuse a checkpoint that could not be written, before the first epoch instead of after it.

    Raises:
        CheckpointError: a folder, or a place where no file can be made.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"cannot write {path}: it is a folder; name a file in it")
    with suppress(_NothingWritten), atomic_write(path, error=CheckpointError):
        raise _NothingWritten  # so that what is at `path` stays as it is


class _NothingWritten(Exception):
    pass


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    # Cloned, since safetensors refuses tensors that share memory (tied weights).
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    content = save(plain, metadata | {"sha256": _digest(plain, metadata)})
    with atomic_write(path, error=CheckpointError) as part:
        part.write_bytes(content)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str], bool]:
    """Tensors, metadata, and whether a checksum vouched for them (foreign files have none)."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not there or not a file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} {_why_not(path, error)}") from error
    digest = metadata.pop("sha256", None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise CheckpointError(
            f"{path} is damaged: its content does not match its own checksum. Use an older copy."
        )
    return tensors, metadata, digest is not None


def _why_not(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK" or start[:1] == b"\x80":
        return (
            "is no safetensors file but looks like a pickle (torch.save). Reading a pickle can run "
            "any code hidden in it, so medlab never does. Where you trust it, convert it with "
            "safetensors.torch.save_file."
        )
    return f"is damaged or not a safetensors file ({error}): use an older copy, or train again"


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
