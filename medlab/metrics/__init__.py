"""Metrics: how good a model is, how sure we are of it, and whether its probabilities hold.

Labels come first, scores second, as tensors or arrays.
"""

from medlab.metrics._arguments import UndefinedMetric, binary_pairs
from medlab.metrics.calibration import brier, ece, reliability
from medlab.metrics.counts import (
    Confusion,
    accuracy,
    balanced_accuracy,
    confusion,
    f1,
    npv,
    per_class,
    ppv,
    sensitivity,
    specificity,
)
from medlab.metrics.curves import (
    auc,
    average_precision,
    precision_recall_curve,
    roc_curve,
    specificity_at_sensitivity,
)
from medlab.metrics.decision import decision_curve, expected_cost, net_benefit
from medlab.metrics.intervals import Interval, delong, delong_test, proportion
from medlab.metrics.overlap import dice
from medlab.metrics.resampling import bootstrap, bootstrap_difference, resampled_values, resamples
from medlab.metrics.temperature import fit_temperature

__all__ = [
    "Confusion",
    "Interval",
    "UndefinedMetric",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "binary_pairs",
    "bootstrap",
    "bootstrap_difference",
    "brier",
    "confusion",
    "decision_curve",
    "delong",
    "delong_test",
    "dice",
    "ece",
    "expected_cost",
    "f1",
    "fit_temperature",
    "net_benefit",
    "npv",
    "per_class",
    "ppv",
    "precision_recall_curve",
    "proportion",
    "reliability",
    "resampled_values",
    "resamples",
    "roc_curve",
    "sensitivity",
    "specificity",
    "specificity_at_sensitivity",
]
