"""The network that says where things are, and how large: a heat map of centres."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.errors import DataError
from medlab.models._blocks import convolution, need_sides, padded
from medlab.models.boxes import nms
from medlab.models.standardise import Standardise

_PRIOR = 0.01  # probability of a centre before training
_SIDE = 10.0  # of a box before training, pixels
_MOST = 200  # peaks of an image that are looked at
_ALIKE = 0.3  # IoU above which two boxes are one find


class Detector(nn.Module):
    """A heat map of centres; at each of its cells also the place and the size of the box around.

    A U-Net that stops at half the image's resolution: a cell of the map covers `stride` = 2 pixels.
    The bias of the heat map starts at log(π / (1 − π)) with π = 0.01, so that the thousands of
    cells without a centre do not drown the few with one in the first steps.

    Args:
        in_channels: image channels: 1 for grey, k for k neighbouring slices.
        width: channels at full and at half resolution; they double from there on.
        depth: how often the image is halved, at least 1.

    Shape:
        images (N, in_channels, H, W) float32 → (N, 5, ⌈H/2⌉, ⌈W/2⌉): the logit of a centre; where
        it lies, x and y from the middle of the cell, in cells; log of width and height in pixels.

    Raises:
        DataError: images with another number of channels or axes.

    Source: Zhou et al., Objects as points (2019), arXiv:1904.07850; the bias: Lin et al., Focal
    loss (2017), arXiv:1708.02002, section 4.1.
    """

    stride = 2

    def __init__(self, in_channels: int = 1, *, width: int = 16, depth: int = 3):
        super().__init__()
        self.arguments = {"in_channels": in_channels, "width": width, "depth": depth}
        channels = [width * 2**level for level in range(depth)]
        self.standardise = Standardise(in_channels)
        halve = nn.Conv2d(in_channels, width, kernel_size=5, stride=2, padding=2, bias=False)
        self.stem = nn.Sequential(
            halve, nn.BatchNorm2d(width), nn.ReLU(), *convolution(width, width, 2)
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *convolution(a, b, 2), *convolution(b, b, 2))
            for a, b in pairwise(channels)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, kernel_size=2, stride=2)
            for a, b in reversed([*pairwise(channels)])
        )
        self.merge = nn.ModuleList(
            nn.Sequential(*convolution(2 * a, a, 2)) for a in reversed(channels[:-1])
        )
        answer = nn.Conv2d(width, 5, kernel_size=1)
        start = [math.log(_PRIOR / (1 - _PRIOR)), 0, 0, math.log(_SIDE), math.log(_SIDE)]
        answer.bias = nn.Parameter(torch.tensor(start))
        self.head = nn.Sequential(*convolution(width, width, 2), answer)

    def forward(self, images: Tensor) -> Tensor:
        need_sides(self, images, 2)
        height, width = images.shape[2:]
        maps = padded(self.standardise(images), 2 ** (len(self.down) + 1))
        maps, bridges = self.stem(maps), []
        for down in self.down:
            bridges.append(maps)
            maps = down(maps)
        for enlarge, merge in zip(self.up, self.merge, strict=True):
            maps = merge(torch.cat([bridges.pop(), enlarge(maps)], dim=1))
        return self.head(maps)[:, :, : -(-height // self.stride), : -(-width // self.stride)]


def found_boxes(outputs: Tensor, *, threshold: float = 0.05) -> list[tuple[Tensor, Tensor]]:
    """The boxes that a `Detector` found, from what `medlab.predict` returns of it.

    A box stands where the heat map is above `threshold` and nowhere higher among the eight
    neighbours; of the 200 best peaks, boxes are cut at the image's edge, and `nms` removes doubles,
    those with an IoU above 0.3.

    >>> outputs = torch.zeros(1, 5, 8, 8)
    >>> outputs[0, :, 2, 3] = torch.tensor([0.9, 0, 0, math.log(4), math.log(6)])
    >>> found_boxes(outputs)
    [(tensor([[5., 2., 9., 8.]]), tensor([0.9000]))]

    Args:
        outputs: (N, 5, h, w) as of `Detector`, but with probabilities in the first channel.
        threshold: lowest score of a box, 0 … 1.

    Returns:
        For each image boxes (M, 4) in pixels of the image and their scores (M,), best first.

    Raises:
        DataError: another shape, or logits in place of probabilities.
    """
    if outputs.ndim != 4 or outputs.shape[1] != 5:
        raise DataError(f"expected outputs of a Detector (N, 5, h, w); got {tuple(outputs.shape)}")
    heat, rest = outputs[:, 0], outputs[:, 1:]
    if heat.numel() and not (heat.min() >= 0 and heat.max() <= 1):
        raise DataError(
            f"the heat map must hold probabilities 0 … 1, it holds {heat.min():.3g} to "
            f"{heat.max():.3g}: take medlab.predict without logits=True"
        )
    highest = F.max_pool2d(heat[:, None], 3, stride=1, padding=1)[:, 0]
    edge = torch.tensor(heat.shape[:0:-1], device=heat.device).repeat(2) * Detector.stride
    found = []
    peaks = (heat == highest) & (heat > threshold)
    for peak, scores, values in zip(peaks, heat, rest, strict=True):
        rows, columns = peak.nonzero(as_tuple=True)
        best = scores[rows, columns].argsort(descending=True, stable=True)[:_MOST]
        rows, columns = rows[best], columns[best]
        dx, dy, log_w, log_h = values[:, rows, columns]
        centre = torch.stack([columns + 0.5 + dx, rows + 0.5 + dy], 1) * Detector.stride
        half = torch.stack([log_w, log_h], 1).exp() / 2
        boxes = torch.cat([centre - half, centre + half], 1).clamp_min(0).minimum(edge)
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, values = boxes[real], scores[rows, columns][real]
        kept = nms(boxes, values, _ALIKE)
        found.append((boxes[kept], values[kept]))
    return found
