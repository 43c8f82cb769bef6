"""What one must know of a data set before using it."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill

from medlab.errors import DataError

PARTS = ("train", "val", "test")
TASKS = ("binary", "multiclass", "ordinal", "multilabel", "segmentation", "detection", "none")


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What one must know of a data set before using it.

    Attributes:
        name: the name that `medlab.load` takes.
        title: one line for a reader.
        task: binary, multiclass, ordinal, multilabel, segmentation, detection or none.
        classes: class names; position = label.
        modality: "X-ray", "CT", "MR", "ultrasound", …
        description: what was imaged, in whom, how labelled, and what the set is not good for.
        source: who made it: paper, year, DOI.
        licence: SPDX name or the words of the source.
        url: where the file comes from; empty for simulated sets.
        citation: what to cite when a result is published.
        md5: hash of the official file; empty for simulated sets.
        faults: known faults, each one sentence with its source.
        simulated: True if no patient was ever imaged.
        units: unit of a pixel value ("HU", "display grey level", …).
        value_range: smallest and largest possible pixel value.
        version: changes whenever the bytes change.
    """

    name: str
    title: str
    task: str
    classes: tuple[str, ...] = ()
    modality: str = ""
    description: str = ""
    source: str = ""
    licence: str = ""
    url: str = ""
    citation: str = ""
    md5: str = ""
    faults: tuple[str, ...] = ()
    simulated: bool = False
    units: str = ""
    value_range: tuple[float, float] | None = None
    version: str = "1"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise DataError(f"task must be one of {', '.join(TASKS)}; got {self.task!r}")

    def __str__(self) -> str:
        rows = [
            ("task", f"{self.task}: {', '.join(self.classes)}" if self.classes else self.task),
            ("modality", self.modality),
            ("what", self.description),
            ("pixel values", self.units),
            ("source", "simulated, no patient was imaged" if self.simulated else self.source),
            ("licence", self.licence),
            *(("known fault", fault) for fault in self.faults),
        ]
        indent = " " * 15
        lines = (
            fill(f"{key:>13}  {value}", 88, subsequent_indent=indent, break_long_words=False)
            for key, value in rows
            if value
        )
        return "\n".join([f"{self.title} ({self.name})", *lines])
