"""A cohort: images of many patients in one tensor, with all that is known about each image.

What one must know of a set (`DataCard`), parts that share no patient (`split_patients`), and what
crosses them all the same (`leaks`).
"""

from medlab.cohort._fields import images_of, to_float
from medlab.cohort.card import PARTS as PARTS
from medlab.cohort.card import DataCard
from medlab.cohort.container import Cohort
from medlab.cohort.duplicates import Leaks, leaks
from medlab.cohort.patients import identifiers as identifiers
from medlab.cohort.patients import split_patients
from medlab.cohort.patients import text as text

__all__ = ["Cohort", "DataCard", "Leaks", "images_of", "leaks", "split_patients", "to_float"]
