"""Physics and anatomy that make medical images, and the named cohorts made of them.

`xray`, `ct`, `mri` and `ultrasound` hold one modality each as functions on tensors; `COHORTS` the
named cohorts that `medlab.load` serves.
"""

from importlib import import_module

from medlab.simulate.cohorts import COHORTS, Simulated, chest_xray

_MODALITIES = ("ct", "mri", "ultrasound", "xray")

__all__ = ["COHORTS", "Simulated", "chest_ct_volume", "chest_xray", *_MODALITIES]


def __getattr__(name: str) -> object:
    if name in _MODALITIES:
        return import_module(f"medlab.simulate.{name}")
    if name == "chest_ct_volume":
        return import_module("medlab.simulate.ct").chest_ct_volume
    raise AttributeError(f"medlab.simulate has no {name!r}; it has {', '.join(__all__)}")
