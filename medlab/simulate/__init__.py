"""Physics and anatomy that make medical images, and the named cohorts made of them.

`xray`, `ct`, `mri` and `ultrasound` hold one modality each as functions on tensors; `thorax` the
anatomy, `rays` its geometry, `cohorts` the named cohorts that `medlab.load` serves.
"""

from importlib import import_module

from medlab.simulate.cohorts import COHORTS, Simulated, chest_xray

_FILES = ("cohorts", "ct", "mri", "rays", "thorax", "ultrasound", "xray")

__all__ = ["COHORTS", "Simulated", "chest_xray", "chest_ct_volume", *_FILES]


def __getattr__(name: str):
    if name in _FILES:
        return import_module(f"medlab.simulate.{name}")
    if name == "chest_ct_volume":
        return import_module("medlab.simulate.ct").chest_ct_volume
    raise AttributeError(f"medlab.simulate has no {name!r}; it has {', '.join(__all__)}")
