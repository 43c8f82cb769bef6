"""Training: `fit` a model, `predict` with it, keep what was learnt."""

from medlab.training.checkpoint import Checkpoint, load_weights, save_weights
from medlab.training.history import History
from medlab.training.loop import fit
from medlab.training.precision import Precision, probe
from medlab.training.prediction import predict
from medlab.training.range_test import RangeTest, lr_range_test
from medlab.training.recipe import average_into, one_cycle

__all__ = [
    "Checkpoint",
    "History",
    "Precision",
    "RangeTest",
    "average_into",
    "fit",
    "load_weights",
    "lr_range_test",
    "one_cycle",
    "predict",
    "probe",
    "save_weights",
]
