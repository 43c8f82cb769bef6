"""Training: `fit` a model, `predict` with it, keep what was learnt."""

from medlab.training.bowl import descent_path
from medlab.training.checkpoint import load_model, load_weights, save_weights
from medlab.training.loop import fit
from medlab.training.precision import Precision
from medlab.training.prediction import predict
from medlab.training.range_test import RangeTest, lr_range_test
from medlab.training.recipe import average_into, one_cycle
from medlab.training.state import History
from medlab.training.tasks import Task
from medlab.training.tasks.classification import Classification, Multilabel
from medlab.training.tasks.detection import Detection
from medlab.training.tasks.reconstruction import Reconstruction
from medlab.training.tasks.segmentation import Segmentation
from medlab.training.tasks.sequence import Sequence

__all__ = [
    "Classification",
    "Detection",
    "History",
    "Multilabel",
    "Precision",
    "RangeTest",
    "Reconstruction",
    "Segmentation",
    "Sequence",
    "Task",
    "average_into",
    "descent_path",
    "fit",
    "load_model",
    "load_weights",
    "lr_range_test",
    "one_cycle",
    "predict",
    "save_weights",
]
