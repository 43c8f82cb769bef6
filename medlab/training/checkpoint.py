"""Weights and checkpoints on disk: safetensors only, written whole or not at all.

A safetensors file is a JSON header and raw numbers. Nothing in it can be executed, unlike a pickle
(`torch.save`), which runs whatever code it names while it is being read.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from medlab import models
from medlab.errors import CheckpointError, atomic_write


def save_weights(
    model: nn.Module,
    path: str | os.PathLike,
    *,
    classes: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> None:
    """Write the model's weights and buffers as safetensors, with what it takes to use them.

    Args:
        model: any module; of one from `medlab.models` the arguments are kept too.
        path: usually ending in .safetensors.
        classes: names of the model's outputs, in order: `cohort.classes`.
        about: more texts to keep beside the weights, by name.

    Raises:
        CheckpointError: a place that cannot be written.
    """
    texts = {**(about or {}), "classes": json.dumps(list(classes))}
    if hasattr(model, "arguments"):
        texts |= {"model": type(model).__name__, "arguments": json.dumps(model.arguments)}
    write_file(path, model.state_dict(), texts)


def load_model(path: str | os.PathLike) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the model that `save_weights` wrote, from `medlab.models`, and name its outputs.

    Returns:
        The model in evaluation mode, on the CPU, and its class names (empty if none were saved).

    Raises:
        CheckpointError: an unreadable file, or one that does not say which model it belongs to.
    """
    return built(*read_file(path), source=str(path))


def built(
    tensors: dict[str, Tensor], about: dict[str, str], *, source: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model of a file's tensors and texts, as `load_model` returns it."""
    if about.get("model") not in models.__all__ or "arguments" not in about:
        told = (
            "names no network of medlab.models: build the model, then safetensors.torch.load_model"
        )
        raise CheckpointError(f"{source} {told}")
    model = getattr(models, about["model"])(**json.loads(about["arguments"]))
    put_into(model, tensors, source=source)
    return model.eval(), tuple(json.loads(about.get("classes", "[]")))


def put_into(model: nn.Module, tensors: dict[str, Tensor], *, source: str) -> None:
    """Copy tensors into a model whose names and shapes they have."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:  # PyTorch names every weight that is missing or does not fit
        raise CheckpointError(f"{source} does not fit: {error}") from error


def write_file(
    path: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    """Write named tensors and texts, with a checksum over both, wholly or not at all."""
    # Cloned, since safetensors refuses tensors that share memory (tied weights).
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    content = save(plain, metadata | {"sha256": _digest(plain, metadata)})
    with atomic_write(path, error=CheckpointError) as part:
        part.write_bytes(content)


def read_file(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a safetensors file; the checksum is verified where there is one."""
    # Read once: safetensors' safe_open opens the path a second time for PyTorch, and a training
    # that goes on may have replaced the file in between (header of one, numbers of the other).
    return parsed(content_of(path), path)


def content_of(path: str | os.PathLike) -> bytes:
    """The bytes of a file of weights."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path} is not there or not a file")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def parsed(content: bytes, path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As `read_file`, of what `content_of` read."""
    try:
        tensors = load(content)
        end = 8 + int.from_bytes(content[:8], "little")
        metadata = dict(json.loads(content[8:end]).get("__metadata__", {}))
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file ({error}): use an older copy, or train "
            "again. A pickle (torch.save) can run any code hidden in it, so medlab reads none."
        ) from error
    digest = metadata.pop("sha256", None)  # files from elsewhere have none
    if (digest or "facts" in metadata) and digest != _digest(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: its checksum is wrong. Use an older copy.")
    return tensors, metadata


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
