"""Metrics: how good a model is, how sure we are of it, and whether its probabilities hold.

Labels come first, scores second, as tensors or arrays.
"""

from medlab.metrics.calibration import Reliability, brier, ece, reliability
from medlab.metrics.classification import (
    Confusion,
    OperatingPoint,
    PrecisionRecallCurve,
    PredictiveValues,
    RocCurve,
    accuracy,
    auc,
    average_precision,
    balanced_accuracy,
    confusion,
    confusion_matrix,
    f1,
    npv,
    ppv,
    precision_recall_curve,
    roc_curve,
    sensitivity,
    sensitivity_at_specificity,
    specificity,
    specificity_at_sensitivity,
)
from medlab.metrics.decision import DecisionCurve, decision_curve, expected_cost, net_benefit
from medlab.metrics.inputs import UndefinedMetric, binary_pairs
from medlab.metrics.intervals import (
    DeLongTest,
    Interval,
    bootstrap,
    bootstrap_difference,
    delong,
    delong_test,
    proportion,
    resampled_values,
    resamples,
)
from medlab.metrics.overlap import dice
from medlab.metrics.temperature import fit_temperature

__all__ = [
    "dice",
    "Confusion",
    "DeLongTest",
    "DecisionCurve",
    "Interval",
    "OperatingPoint",
    "PrecisionRecallCurve",
    "PredictiveValues",
    "Reliability",
    "RocCurve",
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
    "confusion_matrix",
    "decision_curve",
    "delong",
    "delong_test",
    "ece",
    "expected_cost",
    "f1",
    "fit_temperature",
    "net_benefit",
    "npv",
    "ppv",
    "precision_recall_curve",
    "proportion",
    "reliability",
    "resampled_values",
    "resamples",
    "roc_curve",
    "sensitivity",
    "sensitivity_at_specificity",
    "specificity",
    "specificity_at_sensitivity",
]
