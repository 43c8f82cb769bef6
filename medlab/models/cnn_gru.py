"""A network for sequences of images: what is in each frame, then what the order tells."""

from __future__ import annotations

from torch import Tensor, nn

from medlab.errors import DataError
from medlab.models._blocks import convolution
from medlab.models.standardise import Standardise


class CNNGRU(nn.Module):
    """A small CNN looks at each frame, a GRU in both directions reads what it found in order.

    Every frame passes the same two convolutions and becomes a map of 4 × 4 cells, so that the GRU
    knows where something is as well as when.

    Sequences (N, in_channels, T, H, W), float32, of any T ≥ 1 and sides of at least 8 give logits
    (N, num_classes), from the mean of the GRU's states over the T frames; with `per_step=True` they
    give one logit a frame, (N, T), of "this is the moment". `features` maps frames (M, in_channels,
    H, W) to (M, 2·width, 4, 4). Other axes or channels are a `DataError`.

    Args:
        in_channels: image channels of a frame.
        num_classes: number of outputs K; not used with `per_step`.
        width: channels after the first convolution.
        hidden: values of the GRU's state in each direction.
        per_step: whether the answer is a moment.

    Source: Donahue et al., Long-term recurrent convolutional networks (2015), arXiv:1411.4389;
    here with the GRU of Cho et al. (2014), arXiv:1406.1078.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 16,
        hidden: int = 32,
        *,
        per_step: bool = False,
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "num_classes": num_classes, "width": width}
        self.arguments = {**sizes, "hidden": hidden, "per_step": per_step}
        self.standardise = Standardise(in_channels)
        self.features = nn.Sequential(
            *convolution(in_channels, width, 2),
            nn.MaxPool2d(2),
            *convolution(width, 2 * width, 2),
            nn.AdaptiveAvgPool2d(4),
        )
        self.gru = nn.GRU(16 * 2 * width, hidden, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * hidden, 1 if per_step else num_classes)

    def forward(self, sequences: Tensor) -> Tensor:
        channels = self.arguments["in_channels"]
        if sequences.ndim != 5 or sequences.shape[1] != channels or min(sequences.shape[3:]) < 8:
            raise DataError(
                f"this CNNGRU takes sequences (N, {channels}, T, H, W) with sides of at least 8 "
                f"pixels; got {tuple(sequences.shape)}"
            )
        frames = self.standardise(sequences).transpose(1, 2)  # (N, T, C, H, W)
        found = self.features(frames.flatten(0, 1)).flatten(1).unflatten(0, frames.shape[:2])
        states, _ = self.gru(found)
        if self.arguments["per_step"]:
            return self.classifier(states)[..., 0]
        return self.classifier(states.mean(1))
