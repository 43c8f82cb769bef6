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
        model: a `UNet` of the slices of CT or MR, whose first class is the background; a `SmallCNN`
            or `ResNet` of radiographs. One input channel.
        path: usually ending in .safetensors.
        classes: a name for each output; in a segmentation they count as anatomical structures.
        indications: what it was trained for.

    Raises:
        DataError: a model that no study can be given to.
        CheckpointError: a place that cannot be written.
    """
    kind, arguments = type(model).__name__, getattr(model, "arguments", {})
    kinds = ("SmallCNN", "ResNet") if indications.modality == "DX" else ("UNet",)
    if kind not in kinds or arguments.get("in_channels") != 1 or arguments.get("dims", 2) != 2:
        told = f"a {' or '.join(kinds)} of one channel with dims=2 for {indications.modality}"
        raise DataError(f"deploy.save takes {told}; got {kind} of {arguments}")
    count = arguments["num_classes"]
    if not 2 <= len({*classes}) == len(classes) == count:
        told = f"{count} different names, and at least two"
        raise DataError(f"classes must be {told}; got {list(classes)}")
    for name in classes:
        require_text("a class", name)
    save_weights(
        model, path, classes=classes, about={"indications": json.dumps(asdict(indications))}
    )


def load(path: str | os.PathLike) -> Packed:
    """Read what `save` wrote; nothing in the file is executed.

    Raises:
        CheckpointError: a damaged file, a pickle, or weights without indications.
    """
    content = content_of(path)
    tensors, texts = parsed(content, path)
    if "indications" not in texts:
        raise CheckpointError(f"{path} has no indications: write it with medlab.deploy.save")
    model, classes = built(tensors, texts, source=str(path))
    facts = {name: _tuples(value) for name, value in json.loads(texts["indications"]).items()}
    try:
        about = Indications(**facts)
    except TypeError as error:
        told = "indications of another edition of medlab: write it anew with medlab.deploy.save"
        raise CheckpointError(f"{path} has {told}") from error
    digest = hashlib.sha256(content).hexdigest()
    return Packed(model=model, classes=classes, indications=about, digest=digest)


def _tuples(value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
