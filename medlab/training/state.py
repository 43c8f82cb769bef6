"""All that changes during training, in memory and in a checkpoint."""

import copy
import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medlab.cohort import Cohort
from medlab.errors import CheckpointError, DataError
from medlab.training.checkpoint import put_into, read_file, write_file
from medlab.training.precision import Precision
from medlab.training.processes import Team
from medlab.training.recipe import average_into, parameter_groups


@dataclass
class History:
    """What happened during training, one row an epoch; `history["val_auc"]` gives a column.

    Columns: epoch (from 1), lr (at its end), train_loss (with class weights and augmentation), and
    with a validation set val_loss (plain) and the task's scores, such as val_auc (nan where a class
    is missing), all of the averaged weights. `config` is what decided the result (seed, precision,
    …), `kept` the epoch whose weights the model holds, `seconds` the wall time of the training.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    config: dict = field(default_factory=dict)
    kept: int = 0
    seconds: float = 0.0

    def __getitem__(self, column: str) -> list[float]:
        columns = list(self.rows[0]) if self.rows else ["no epoch"]
        if column not in columns:
            told = f"the history has no {column!r}; it has {', '.join(columns)}"
            raise DataError(f"{told}. For validation scores pass a validation set to fit")
        return [row[column] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        import pandas as pd

        return pd.DataFrame(self.rows).to_string(index=False)


class Run:
    """A model under training, with its optimiser, its average, its best epoch and its history.

    `config` is the recipe, as plain values: what a checkpoint must agree with.
    """

    def __init__(
        self, model: nn.Module, config: dict, precision: Precision, images: Tensor, team: Team
    ):
        self.team = team
        self.history = History(config=config)
        copies = {"average": config["average"], "best": config["keep"] == "best"}
        copied = {name: copy.deepcopy(model) for name, wanted in copies.items() if wanted}
        self.models = nn.ModuleDict({"model": model, **copied})
        # Convolutions of a sequence (N, C, T, H, W) have two dimensions, those of a volume three.
        flat = any(weight.ndim == 4 for weight in model.parameters())
        self.models.to(memory_format=precision.layout(2 if flat else images.ndim - 2))
        groups = parameter_groups(model, config["weight_decay"])
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=config["lr"])
        self.scaler = precision.scaler(images.device)

    @property
    def evaluated(self) -> nn.Module:
        """The model whose scores are reported: the averaged one if there is one."""
        return self.models["average" if "average" in self.models else "model"]

    def step(self, loss: Tensor, *, rate: float, weight: float) -> None:
        """One step down the gradient of `loss`; the average takes the result in with `weight`."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.team.add_gradients(self.models["model"])
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if "average" in self.models:
            average_into(self.evaluated, self.models["model"], weight)

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Note the scores of an epoch and, if the best epoch is wanted, whether it was that."""
        history = self.history
        best = history.rows[history.kept - 1] if history.kept else {"val_loss": math.inf}
        history.rows.append(row)
        if "best" not in self.models:
            history.kept = len(history)
        elif row["val_loss"] < best["val_loss"]:
            history.kept = len(history)
            self.models["best"].load_state_dict(self.evaluated.state_dict())

    def finish(self) -> None:
        """Leave the weights to keep in the model, laid out plainly."""
        best = self.history.kept and "best" in self.models
        final = self.models["best"] if best else self.evaluated
        self.models["model"].load_state_dict(final.state_dict())
        self.models.to(memory_format=torch.contiguous_format)

    def store(self, path: str | os.PathLike) -> None:
        """Write the state after an epoch."""
        tensors = self.models.state_dict()
        for position, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{position}.{name}": value for name, value in state.items()}
        facts = asdict(self.history) | {"scaler": self.scaler.state_dict()}
        self.team.by_first(lambda: write_file(path, tensors, {"facts": json.dumps(facts)}))

    def restore(self, path: str | os.PathLike) -> None:
        """Take up where a checkpoint of the same model, data and recipe stopped."""
        tensors, metadata = self.team.by_first(lambda: read_file(path))
        if "facts" not in metadata:
            raise CheckpointError(f"{path} is no checkpoint of fit")
        facts = json.loads(metadata["facts"])
        scaler, history = facts.pop("scaler"), History(**facts)
        different = [
            f"\n  {key}: checkpoint {history.config.get(key)!r}, now {value!r}"
            for key, value in self.history.config.items()
            if history.config.get(key) != value
        ]
        if different:
            raise CheckpointError(
                f"{path} was written by another training run, so it cannot be continued. Call fit "
                f"as before, name another file, or pass resume=False.{''.join(different)}"
            )
        state: dict[int, dict[str, Tensor]] = {}
        for key in [key for key in tensors if key.startswith("optimiser.")]:
            _, position, name = key.split(".")
            state.setdefault(int(position), {})[name] = tensors.pop(key)
        put_into(self.models, tensors, source=str(path))
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.scaler.load_state_dict(scaler)
        self.history = history


def fingerprint(thing: Any) -> str:
    """A short text that differs when a model's structure, a data set, a task or an option does."""
    digest = hashlib.sha256()
    if isinstance(thing, nn.Module):
        shapes = [(name, tuple(value.shape)) for name, value in thing.state_dict().items()]
        digest.update(f"{thing!r}{shapes!r}".encode())
        return f"{type(thing).__name__} {digest.hexdigest()[:16]}"
    if isinstance(thing, Cohort):
        known = (thing.images, thing.labels, thing.masks, thing.extras.get("target"))
        for tensor in (*known, *(thing.boxes or [])):
            if isinstance(tensor, Tensor):
                digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return f"{len(thing)} images {digest.hexdigest()[:16]}"
    if thing is None or is_dataclass(thing):
        return repr(thing)
    return getattr(thing, "__qualname__", type(thing).__qualname__)
