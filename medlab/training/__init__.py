"""Training: `fit` a model, `predict` with it, keep what was learnt."""

from medlab.training.checkpoint import load_model, save_weights
from medlab.training.loop import fit
from medlab.training.precision import Precision
from medlab.training.prediction import predict
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
    "Reconstruction",
    "Segmentation",
    "Sequence",
    "Task",
    "average_into",
    "fit",
    "load_model",
    "one_cycle",
    "predict",
    "save_weights",
]
