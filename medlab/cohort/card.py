"""What one must know of a data set before using it."""

from dataclasses import dataclass
from textwrap import fill

from medlab.errors import DataError

PARTS = ("train", "val", "test")
TASKS = (
    *("binary", "multiclass", "ordinal", "multilabel", "segmentation", "detection"),
    *("sequence", "reconstruction", "none"),
)


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What one must know of a data set before using it; every field is told where it stands."""

    name: str  #: that `medlab.load` takes
    title: str  #: one line for a reader
    task: str  #: one of `TASKS`; "none" if nothing is to be learnt
    classes: tuple[str, ...] = ()  #: class names; position = label
    modality: str = ""  #: "X-ray", "CT", "MR", "ultrasound", …
    description: str = ""  #: what was imaged, in whom, how labelled, and what it is not good for
    source: str = ""  #: who made it: paper, year, DOI
    licence: str = ""  #: SPDX name or the words of the source
    url: str = ""  #: where the file comes from; empty for simulated sets
    citation: str = ""  #: what to cite when a result is published
    md5: str = ""  #: hash of the official file; empty for simulated sets
    obtain: str = ""  #: how to get it and where to put it, where nothing downloads it
    faults: tuple[str, ...] = ()  #: known faults, each one sentence with its source
    measured: tuple[str, ...] = ()  #: what was measured on it: value, spread, command, date
    simulated: bool = False  #: True if no patient was ever imaged
    units: str = ""  #: of a pixel value: "HU", "display grey level", …
    frames: bool = False  #: True if images are (N, C, T, H, W), with time before rows and columns
    value_range: tuple[float, float] | None = None  #: smallest and largest possible pixel value
    version: str = "1"  #: changes whenever the bytes change

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise DataError(f"task must be one of {', '.join(TASKS)}; got {self.task!r}")
        for name, value in vars(self).items():
            if isinstance(value, list):  # as JSON has it
                object.__setattr__(self, name, tuple(value))

    def __str__(self) -> str:
        rows = {
            "task": f"{self.task}: {', '.join(self.classes)}" if self.classes else self.task,
            "modality": self.modality,
            "what": self.description,
            "pixel values": self.units,
            "source": "simulated, no patient was imaged" if self.simulated else self.source,
            "licence": self.licence,
            "to get it": self.obtain,
        }
        told = [f"{key:>13}  {value}" for key, value in rows.items() if value]
        told += [f"  known fault  {fault}" for fault in self.faults]
        told += [f"     measured  {figure}" for figure in self.measured]
        indent = " " * 15
        lines = [fill(row, 88, subsequent_indent=indent, break_long_words=False) for row in told]
        return "\n".join([f"{self.title} ({self.name})", *lines])
