"""Where things are: a heat map of centres, and the place and size of each box."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.cohort import Cohort
from medlab.errors import DataError
from medlab.losses import focal
from medlab.metrics import UndefinedMetric, average_precision, froc
from medlab.models import Detector, found_boxes
from medlab.training.tasks import Task

_SPREAD = 0.1  # σ of a centre, as a share of the box's side
_LEAST = 0.7  # the smallest σ, cells


class Detection(Task):
    """Focal loss of the heat map, L1 of place and log size; the target is a list of boxes.

    Each box puts a Gaussian of height 1 on the cell with its centre. With Y the largest of them, a
    cell next to a centre is punished (1 − Y)⁴ as much for being warm, and place and size are asked
    of it with weight Y. `predict` returns the outputs with probabilities in the heat map, for
    `models.found_boxes`. Scored by average precision at IoU 0.5 and by the mean sensitivity at ⅛ …
    8 false positives an image (`metrics.froc`). Classes have no weights: boxes carry no class.

    Source: Zhou et al., Objects as points (2019), arXiv:1904.07850, eq. 1 to 4; size and place of
    neighbours as in Liu et al., Training-time-friendly network (2020), arXiv:1909.00700.
    """

    kinds = ("detection",)
    field = "boxes"

    def target(self, data: Cohort, index: Tensor | slice) -> list[Tensor]:
        boxes = data.boxes
        assert boxes is not None  # `check` saw to it
        return boxes[index] if isinstance(index, slice) else [boxes[i] for i in index.tolist()]

    def loss(self, weight: Tensor | None) -> Callable[[Tensor, list[Tensor]], Tensor]:
        return _heat_and_boxes

    def finish(self, outputs: Tensor) -> Tensor:
        return torch.cat([outputs[:, :1].sigmoid(), outputs[:, 1:]], dim=1)

    def scores(self, outputs: Tensor, target: list[Tensor]) -> dict[str, float]:
        found = found_boxes(self.finish(outputs))
        try:
            return {"val_ap": average_precision(target, found), "val_froc": froc(target, found).cpm}
        except UndefinedMetric:  # there is nothing to find
            return {"val_ap": math.nan, "val_froc": math.nan}

    def check(self, data: Cohort, outputs: Tensor, name: str) -> None:
        if data.boxes is None:
            raise DataError(f"the {name} set {data.card.name!r} has no boxes to learn from")
        wanted = (5, *(-(-side // Detector.stride) for side in data.images.shape[2:]))
        if outputs.shape[1:] != wanted:
            raise DataError(
                f"to find boxes in these images a model must put out {('N', *wanted)}, as "
                f"models.Detector does; it made {('N', *outputs.shape[1:])}"
            )
        if name == "train" and not any(len(boxes) for boxes in data.boxes):
            raise DataError("no image of the training set has a box: there is nothing to find")


def _heat_and_boxes(outputs: Tensor, boxes: list[Tensor]) -> Tensor:
    """The loss of outputs (N, 5, h, w) against one (M, 4) tensor of boxes an image."""
    n, _, height, width = outputs.shape
    counts = torch.tensor([len(b) for b in boxes], device=outputs.device)
    image = torch.arange(n, device=outputs.device).repeat_interleave(counts)[:, None]
    corners = torch.cat(boxes).to(outputs.device).view(-1, 2, 2)
    sides, centre = corners[:, 1] - corners[:, 0], corners.mean(1) / Detector.stride
    sigma = (_SPREAD * sides / Detector.stride).clamp_min(_LEAST)
    radius = math.ceil(3 * sigma.max().item()) if len(sigma) else 0
    steps = torch.arange(-radius, radius + 1, device=outputs.device)
    around = torch.cartesian_prod(steps, steps)  # x and y of each cell of a window, from its middle
    last = torch.tensor([width, height], device=outputs.device) - 1
    cells = centre.long().clamp_min(0).minimum(last)[:, None] + around
    near = (-0.5 * (around / sigma[:, None]).square().sum(2)).exp()
    near = torch.where(((cells >= 0) & (cells <= last)).all(2), near, 0.0)
    x, y = cells.clamp_min(0).minimum(last).unbind(2)
    truth = outputs.new_zeros(n * height * width)
    places = ((image * height + y) * width + x).flatten()
    truth = truth.scatter_reduce(0, places, near.flatten(), "amax").view(n, height, width)
    positive = (truth == 1).float()
    weight = torch.where(truth == 1, 1.0, (1 - truth) ** 4)
    heat = (focal(outputs[:, 0], positive) * weight).sum() / positive.sum().clamp_min(1)
    answer = outputs[image, 1:, y, x]  # (boxes, cells of a window, 4)
    offset, size = centre[:, None] - cells - 0.5, sides.log()[:, None].expand(-1, len(around), -1)
    wrong = F.l1_loss(answer, torch.cat([offset, size], 2), reduction="none").sum(2)
    return heat + (near * wrong).sum() / near.sum().clamp_min(1)
