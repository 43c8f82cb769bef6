"""medlab: deep learning for medical images, from the first convolution to a defended model.

The four words a lesson starts with::

    cohort = medlab.load("chest_xray", n=2000, seed=0)
    train, val, test = cohort.split()
    history = medlab.fit(model, train, val, epochs=12, seed=0)
    scores = medlab.predict(model, test)

Rooms are imported on first use, so `import medlab` costs little over `import torch`.
"""

from importlib import import_module
from importlib.metadata import version

_ROOMS = (
    "augment cohort datasets deploy dicom errors exercises explain metrics models plotting "
    "preprocess report simulate training widgets"
).split()
_NAMES = {
    "Cohort": "cohort",
    "DataCard": "cohort",
    "leaks": "cohort",
    "load": "datasets",
    "from_arrays": "datasets",
    "from_folder": "datasets",
    "fit": "training",
    "predict": "training",
    "check": "exercises",
    "claim": "exercises",
    "progress": "errors",
}

__all__ = [*_NAMES, *_ROOMS]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return version("medlab")
    if name in _ROOMS:
        return import_module(f"medlab.{name}")
    if name in _NAMES:
        value = getattr(import_module(f"medlab.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"medlab has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
