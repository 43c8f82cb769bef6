"""What happened during training, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from medlab.errors import DataError


@dataclass
class History:
    """One row an epoch; `history["val_auc"]` gives a column.

    Columns: epoch (from 1), lr (at the end of the epoch), train_loss (as optimised: with label
    smoothing, class weights and augmentation), and with a validation set val_loss (plain
    cross-entropy), val_auc (nan where a class is missing) and val_accuracy. Validation scores are
    those of the averaged weights, which are the ones that `fit` leaves in the model.

    Attributes:
        rows: one dictionary an epoch.
        config: everything that decided the result: learning rate, seed, precision, …
        kept: the epoch whose weights the model holds now.
        seconds: wall time of the training, without loading and probing.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    config: dict = field(default_factory=dict)
    kept: int = 0
    seconds: float = 0.0

    def __getitem__(self, column: str) -> list[float]:
        if not self.rows:
            raise DataError("the history is empty: no epoch has been trained")
        if column not in self.rows[0]:
            have = ", ".join(self.rows[0])
            hint = "; pass a validation set to fit for the others" * column.startswith("val")
            raise DataError(f"the history has no {column!r}; it has {have}{hint}")
        return [row[column] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    def __repr__(self) -> str:
        if not self.rows:
            return "<History: no epoch yet>"
        lines = ["  ".join(f"{name:>12}" for name in self.columns)]
        for row in self.rows:
            lines.append("  ".join(_cell(row[name]) for name in self.columns))
        return "\n".join(lines)


def _cell(value: float) -> str:
    if isinstance(value, int):
        return f"{value:>12}"
    return f"{value:>12.4f}" if math.isnan(value) or value >= 0.001 else f"{value:>12.1e}"
