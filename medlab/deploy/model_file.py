"""A model with its indications in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from medlab.deploy.indications import Indications, require_text
from medlab.errors import CheckpointError, DataError
from medlab.training import save_weights
from medlab.training.checkpoint import built, content_of, parsed


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A model, ready to use: in evaluation mode, on the CPU.

    Attributes:
        model: from `medlab.models`.
        classes: names of its outputs.
        indications: what it was trained for.
        digest: SHA-256 of its file, hexadecimal.
    """

    model: nn.Module
    classes: tuple[str, ...]
    indications: Indications
    digest: str


def save(
    model: nn.Module,
    path: str | os.PathLike,
    *,
    classes: Sequence[str],
    indications: Indications,
) -> None:
    """Write a model with what it needs to be used on a study.

    Args:
        model: a `UNet` of CT or MR, whose first class is the background; a `SmallCNN` or `ResNet`
            of radiographs, or of whole volumes (`dims=3`). One input channel.
        path: usually ending in .safetensors.
        classes: a name for each output; in a segmentation they count as anatomical structures.
        indications: what it was trained for.

    Raises:
        DataError: a model that no study can be given to.
        CheckpointError: a place that cannot be written.
    """
    arguments: dict[str, Any] = getattr(model, "arguments", {})
    dims, maps = indications.dims, type(model).__name__ == "UNet"
    ours = type(model).__name__ in ("UNet", "SmallCNN", "ResNet")
    if not ours or arguments["in_channels"] != 1 or arguments["dims"] != dims:
        told = f"a UNet, SmallCNN or ResNet of one channel with dims={dims}, as indicated"
        raise DataError(f"deploy.save takes {told}; got {type(model).__name__} of {arguments}")
    flat = indications.modality == "DX"
    if (maps and flat) or not (maps or flat or dims == 3):
        told = "a UNet needs CT or MR; a classifier radiographs, or volumes with dims=3"
        raise DataError(f"{told}; got {type(model).__name__} for {indications.modality}")
    if (
        len(classes) != arguments["num_classes"]
        or len(classes) < 2
        or len({*classes}) < len(classes)
    ):
        raise DataError(f"classes must be {arguments['num_classes']} names; got {list(classes)}")
    for name in classes:
        require_text("a class", name)
    if unknown := set(indications.codes or ()) - {*classes}:
        raise DataError(f"codes name {sorted(unknown)}, which are no classes: {list(classes)}")
    save_weights(
        model, path, classes=classes, about={"indications": json.dumps(asdict(indications))}
    )


def load(path: str | os.PathLike) -> Packed:
    """Read what `save` wrote; nothing in the file is executed.

    Raises:
        CheckpointError: a damaged file, a pickle, or weights without indications.
    """
    content = content_of(path)
    tensors, about = parsed(content, path)
    if "indications" not in about:
        raise CheckpointError(f"{path} has no indications: write it with medlab.deploy.save")
    model, classes = built(tensors, about, source=str(path))
    facts = {k: _tuples(v) for k, v in json.loads(about["indications"]).items()}
    digest = hashlib.sha256(content).hexdigest()
    return Packed(model=model, classes=classes, indications=Indications(**facts), digest=digest)


def _tuples(value: Any) -> Any:
    """JSON knows no tuples."""
    if isinstance(value, dict):
        return {name: _tuples(one) for name, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
