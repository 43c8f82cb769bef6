"""Metrics: how good a model is, how sure we are of it, and whether its probabilities hold.

Labels come first, scores second, as tensors or arrays: labels (N,) of classes 0, 1, … or (N, K) of
0 and 1 for K findings; scores (N,), (N, 1) or (N, 2) for two classes, else (N, K). A `DataError`
says which do not fit.
"""

from medlab.metrics._arguments import UndefinedMetric, binary_pairs
from medlab.metrics.agreement import dice, iou, psnr
from medlab.metrics.calibration import ece, expected_cost, fit_temperature
from medlab.metrics.counts import (
    Confusion,
    accuracy,
    auc,
    confusion,
    roc_curve,
    sensitivity,
    specificity,
    specificity_at_sensitivity,
)
from medlab.metrics.finding import Froc, average_precision, box_matches, centre_hits, froc
from medlab.metrics.intervals import Interval, delong, delong_test, proportion
from medlab.metrics.resampling import bootstrap, bootstrap_difference, resampled_values, resamples
from medlab.metrics.surfaces import hausdorff, surface_dice

__all__ = [
    "Confusion",
    "Froc",
    "Interval",
    "UndefinedMetric",
    "accuracy",
    "auc",
    "average_precision",
    "binary_pairs",
    "bootstrap",
    "bootstrap_difference",
    "box_matches",
    "centre_hits",
    "confusion",
    "delong",
    "delong_test",
    "dice",
    "ece",
    "expected_cost",
    "fit_temperature",
    "froc",
    "hausdorff",
    "iou",
    "proportion",
    "psnr",
    "resampled_values",
    "resamples",
    "roc_curve",
    "sensitivity",
    "specificity",
    "specificity_at_sensitivity",
    "surface_dice",
]
