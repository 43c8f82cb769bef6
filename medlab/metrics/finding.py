"""Were the lesions found, and at what price: average precision, and the free-response curve.

Truth is one (M, 4) tensor of boxes an image, x0, y0, x1, y1 in pixels, as a cohort holds them; what
was found is one pair (boxes (D, 4), scores (D,)) an image, as `models.found_boxes` gives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medlab.cohort import identifiers
from medlab.errors import DataError
from medlab.metrics._arguments import UndefinedMetric
from medlab.models import box_iou

_Found = Sequence[tuple[Tensor, Tensor]]
_RATES = 2.0 ** np.arange(-3, 4)  # ⅛ … 8 false positives a scan


def box_matches(truth: Tensor, boxes: Tensor, scores: Tensor, *, iou: float = 0.5) -> Tensor:
    """Which true box of one image each found box claims: int64 (D,), −1 where none is left for it.

    The best score chooses first, and takes the box with the highest IoU among those that nobody has
    taken, if that is at least `iou`. A lesion found twice is one hit and one false positive.

    Source: COCO (Lin et al. 2014, arXiv:1405.0312), as its evaluation code does it.
    """
    overlap = box_iou(boxes, truth).double().nan_to_num(0.0)
    claims = torch.full((len(boxes),), -1)
    for i in scores.argsort(descending=True, stable=True).tolist() if len(truth) else ():
        best, box = overlap[i].max(0)
        if best >= iou:
            claims[i] = box
            overlap[:, box] = -1
    return claims


def centre_hits(truth: Tensor, boxes: Tensor) -> Tensor:
    """Whether the centre of each found box lies within each true one's radius: bool (D, M).

    The radius is a quarter of width + height. For small lesions, where one pixel of difference
    spoils the IoU, and for marks that have no outline.

    Source: Setio et al., LUNA16 (2017), doi:10.1016/j.media.2017.06.015.
    """
    true, found = ((b[:, :2] + b[:, 2:]).double() / 2 for b in (truth, boxes))
    radius = (truth[:, 2:] - truth[:, :2]).double().sum(1) / 4
    return (found[:, None] - true).square().sum(2) < radius**2


def average_precision(truth: Sequence[Tensor], found: _Found, *, iou: float = 0.5) -> float:
    """Area under precision against recall, 0 … 1: are the boxes right, best scores first?

    Of all boxes down to each score, precision is the share that claims a true one (`box_matches`)
    and recall the share of true ones claimed. Precision is raised to the highest at any greater
    recall, and averaged at recalls 0, 0.01 … 1, being 0 where no recall reaches: COCO's definition,
    for one class and all sizes. Boxes of equal score count together, so that the order of images is
    of no account.

    StarDist and the 2018 Data Science Bowl call another figure by this name: hits / (hits + misses
    + false alarms) at one threshold.

    Raises:
        UndefinedMetric: no image holds a true box.
        DataError: lists of different lengths, or scores that are not one a box.

    Source: Lin et al., COCO (2014), arXiv:1405.0312.
    """
    _check(truth, found)
    hits = [box_matches(t, b, s, iou=iou) >= 0 for t, (b, s) in zip(truth, found, strict=True)]
    scores = torch.cat([s for _, s in found]).cpu().numpy()
    _, counts = _running(scores, np.stack([torch.cat(hits).numpy(), np.ones(len(scores))], 1))
    recall = counts[:, 0] / sum(len(boxes) for boxes in truth)
    precision = np.maximum.accumulate((counts[:, 0] / counts[:, 1])[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.append(precision, 0.0)[at].mean())


@dataclass(frozen=True)
class Froc:
    """Free-response operating characteristic: an entry a threshold, from the highest, float64 (T,).

    `false_positives` are per scan, `sensitivity` is the share of lesions found; the first entry, at
    threshold ∞, is 0 and 0. With weights of many draws both are (B, T), a curve in each row.
    """

    thresholds: np.ndarray
    false_positives: np.ndarray
    sensitivity: np.ndarray

    def at(self, rates: ArrayLike) -> np.ndarray:
        """Sensitivity at so many false positives a scan, (R,) or (B, R), by straight lines."""
        at = np.asarray(rates, dtype=float)
        rows = zip(*map(np.atleast_2d, (self.false_positives, self.sensitivity)), strict=True)
        found = np.stack([np.interp(at, x, y) for x, y in rows])
        return found if self.sensitivity.ndim == 2 else found[0]

    @property
    def cpm(self) -> Any:
        """LUNA16's score: mean sensitivity at ⅛, ¼, ½, 1, 2, 4 and 8 false positives a scan.

        One number, or (B,) with weights of B draws.
        """
        mean = self.at(_RATES).mean(-1)
        return mean if mean.ndim else float(mean)


def froc(
    truth: Sequence[Tensor],
    found: _Found,
    *,
    groups: Any = None,
    weights: ArrayLike | None = None,
) -> Froc:
    """Sensitivity against false positives per scan, over all thresholds, by LUNA16's rules.

    A lesion is found at the highest score of any box whose centre lies within its radius
    (`centre_hits`); its other hits are neither hits nor false positives, and a box that hits no
    lesion is a false positive. Every box of every slice counts as a lesion.

    Args:
        truth: boxes of each image.
        found: boxes and scores of each image.
        groups: (N,) the scan of each image, as `cohort.patients`; None if each is its own.
        weights: (N,) or (B, N) how often each image counts, the same for all of a scan: what
            `metrics.resamples` draws, for a bootstrap over patients.

    Raises:
        UndefinedMetric: no image (that counts) holds a box.
        DataError: lists of different lengths, or scores that are not one a box.

    Source: Setio et al., LUNA16 (2017), doi:10.1016/j.media.2017.06.015, section 3.3.
    """
    times = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=float)
    scans = np.arange(len(truth)) if groups is None else identifiers(groups, "groups")
    _check(truth, found, scans, times.T)
    rows = []  # a score, its image, and whether it is a lesion's best or a false positive's
    for i, (boxes, (marks, values)) in enumerate(zip(truth, found, strict=True)):
        hits, values = centre_hits(boxes, marks).cpu(), values.double().cpu()
        rows += [(score, i, False) for score in values[~hits.any(1)].tolist()]
        rows += [(values[hit].max().item(), i, True) for hit in hits.T if hit.any()]
    scores, image, hit = np.array(rows, dtype=float).reshape(-1, 3).T
    each = np.atleast_2d(times).T  # (N, B)
    first = np.unique(scans, return_index=True)[1]
    lesions = np.array([len(boxes) for boxes in truth]) @ each
    if not lesions.all():
        raise UndefinedMetric("no image that counts holds a lesion: there is nothing to find")
    curves = []
    for kind, total in ((False, each[first].sum(0)), (True, lesions)):
        thresholds, counts = _running(scores, each[image.astype(int)] * (hit == kind)[:, None])
        curve = np.concatenate([np.zeros((1, len(total))), counts]) / total
        curves.append(curve.T.reshape(*times.shape[:-1], -1))
    return Froc(np.append(np.inf, thresholds), *curves)


def _running(scores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each score once, from the highest, and the sums of the rows (T, C) of scores down to it."""
    order = np.argsort(-scores, kind="stable")
    thresholds, first = np.unique(-scores[order], return_index=True)
    last = np.append(first[1:], len(scores))[: len(first)] - 1
    return -thresholds, rows[order].cumsum(0)[last]


def _check(truth: Sequence[Tensor], found: _Found, *each: Any) -> None:
    if len({len(truth), len(found), *map(len, each)}) != 1:
        sizes = ", ".join(str(len(x)) for x in (truth, found, *each))
        raise DataError(f"truth, found (and groups, weights) must have one entry an image: {sizes}")
    for boxes, scores in found:
        if scores.shape != boxes.shape[:1] or not scores.isfinite().all():
            raise DataError(
                f"each image needs boxes (D, 4) and finite scores (D,); got {tuple(boxes.shape)} "
                f"and {tuple(scores.shape)}"
            )
    if not any(len(boxes) for boxes in truth):
        raise UndefinedMetric("no image holds a lesion: there is nothing to find")
