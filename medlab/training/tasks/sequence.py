"""Which moment: one logit for each step of a sequence."""

from __future__ import annotations

from torch import Tensor

from medlab.training.tasks.classification import Classification


class Sequence(Classification):
    """Cross-entropy over the T steps of each sequence; the label is the number of a step.

    A model maps sequences (N, C, T, H, W) to logits (N, T), as `models.CNNGRU` does with
    `per_step=True`. Scored by the mean distance between the step called and the true one, in
    steps, and by the share called exactly. Steps have no weights: each label occurs when it does.
    """

    kinds = ("sequence",)
    class_weights = None

    def scores(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        off = (outputs.argmax(1) - target).abs().float()
        return {
            "val_steps_off": off.mean().item(),
            "val_accuracy": (off == 0).float().mean().item(),
        }
