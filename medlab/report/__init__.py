"""What is written down of an evaluation: the openings of the test set, and the model card."""

from medlab.report.envelope import Sealed
from medlab.report.page import ModelCard, fill

__all__ = ["ModelCard", "Sealed", "fill"]
