"""Physics and anatomy that make medical images, and the named cohorts made of them.

`xray`, `ct`, `mri` and `ultrasound` hold one modality each as functions on tensors, `kinetics` the
way of a contrast agent through lesions; `COHORTS` the named cohorts that `medlab.load` serves.
Arguments out of the ranges that are told, sizes and doses that are not positive among them, raise a
DataError.
"""

from medlab.simulate import ct, kinetics, mri, ultrasound, xray
from medlab.simulate.cohorts import COHORTS, Simulated, chest_xray
from medlab.simulate.ct import chest_ct_volume
from medlab.simulate.renal import kidney_echoes
from medlab.simulate.screening import screening_study

__all__ = [
    "COHORTS",
    "Simulated",
    "chest_ct_volume",
    "chest_xray",
    "ct",
    "kidney_echoes",
    "kinetics",
    "mri",
    "screening_study",
    "ultrasound",
    "xray",
]
