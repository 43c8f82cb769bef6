"""A model card: what a model is for, how it was judged, and where it should not be used."""

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from numbers import Integral, Real
from typing import Any

from medlab.cohort import DataCard
from medlab.errors import MedlabError
from medlab.metrics import Interval
from medlab.report.envelope import Sealed

Shown = Interval | float | str
SIMULATED = "**Simulated, not clinical evidence:** no patient was imaged for what follows."
_PROSE = ("intended_use", "out_of_scope", "factors", "ethics", "limits")
_NAME = re.compile(r"\{([^}]*)\}?")
# 0.93, 93 %, 93 of 100: a result. "30 minutes", "28 pixels" and "2018" may stand as they are.
_RESULT = re.compile(
    r"(?<![\w.])(?:[01]?\.\d+|\d+(?:\.\d+)? ?(?:%|per ?cent)|\d+ (?:out )?of \d+)(?![\w.]*\d)"
)
# What looks like one and is none: an address, a size with its unit, a version, "3 of 5 sites".
_NO_RESULT = re.compile(
    r"https?://\S+|\b(?:doi[: ]*)?10\.\d{4,9}/\S+|\{[^}]*\}|\bversions? v?\d[\d.]*"
    r"|\d*\.\d+(?: ?[×x–-] ?\d*\.?\d+)*[ -]?(?:[mcµn]?m|mm[²³2-3]|teslas?|T|[mµ]?Gy|[mµ]?Sv|kVp?|"
    r"mAs?|m?s|min|h|hours?|days?|weeks?|months?|years?|[kmµ]?g|m?l|[kM]?Hz|[MG]i?B)\b"
    r"|\d+ (?:out )?of \d+ (?:sites|hospitals|cent(?:re|er)s|clinics|countries|scanners|vendors|"
    r"manufacturers|readers|folds|seeds|classes|sequences|views)\b"
)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything that a reader must know before trusting a model, in the order of Mitchell et al.

    `details` (architecture, inputs, training), `threshold`, and the tables `results`, `subgroups`
    and `calibration` are name -> `Interval`, number or text. So is `protocol`, what was fixed
    before `test` was opened: its numbers are decisions and may be typed. No result is: sentences
    name one of `figures`, as the run computed it, in braces, "its sensitivity was {found}". They
    say what the model is for (`intended_use`) and what not (`out_of_scope`), what may change its
    performance (`factors`), who may be harmed by an error or by unequal performance (`ethics`), and
    what this evaluation cannot show (`limits`).

    A section without content, a result typed into a sentence, a figure named but not passed, and a
    test set that was never opened are a `MedlabError`.

    >>> import torch
    >>> from medlab.cohort import Cohort
    >>> from medlab.metrics import proportion
    >>> data = DataCard(name="films", title="Films", task="binary", source="our archive")
    >>> test = Sealed(Cohort(images=torch.rand(40, 1, 8, 8), card=data))
    >>> _ = test.open("final evaluation, protocol of 3 May")
    test set opened for the first time: final evaluation, protocol of 3 May (40 images)
    >>> found = proportion(17, 20)  # as the run counts them
    >>> card = ModelCard(
    ...     title="Which film first?", details={"architecture": "SmallCNN of width 8"}, seed=0,
    ...     intended_use=["Sorts films that wait."], out_of_scope=["Children."],
    ...     factors=["Year."], protocol={"success": "sensitivity above 0.7"}, data=data, test=test,
    ...     results={"sensitivity": found}, subgroups={"all adults": found},
    ...     calibration={"Brier score": 0.12}, threshold={"threshold": 0.52}, figures={"ill": 20},
    ...     ethics=["Who is sorted last waits."], limits=["Only {ill} ill patients."])
    >>> print(card.to_markdown().splitlines()[-1])
    - Only 20 ill patients.

    Source: Mitchell et al., FAT* (2019), doi 10.1145/3287560.3287596.
    """

    title: str
    details: Mapping[str, object]
    intended_use: Sequence[str]
    out_of_scope: Sequence[str]
    factors: Sequence[str]
    protocol: Mapping[str, str]
    data: DataCard
    test: Sealed
    results: Mapping[str, Shown]
    subgroups: Mapping[str, Shown]
    calibration: Mapping[str, Shown]
    threshold: Mapping[str, Shown]
    figures: Mapping[str, Interval | float]
    ethics: Sequence[str]
    limits: Sequence[str]
    seed: int

    def __post_init__(self) -> None:
        for name in _PROSE:
            value = getattr(self, name)
            if isinstance(value, str):
                raise MedlabError(f"{name} must be a list of sentences")
            if isinstance(value, Iterable):
                object.__setattr__(self, name, tuple(value))  # a generator can be read only once
        empty = [
            name.replace("_", " ")
            for name, value in vars(self).items()
            if name not in ("seed", "figures") and _is_empty(value)
        ]
        if empty:
            raise MedlabError(
                f"the model card has nothing under: {', '.join(empty)}. If there is nothing to "
                "report, say why in a sentence: a missing section reads as 'no problem'"
            )
        if not self.test.openings:
            raise MedlabError("the test set was never opened: nothing to report on it")
        self.to_markdown()  # refuses what is typed by hand

    def to_markdown(self) -> str:
        """The card as one page of Markdown."""
        data = self.data
        source = "simulated." if data.simulated else data.source
        sections = {
            f"# Model card: {self.title}": SIMULATED if data.simulated else "",
            "## Model details": _items({**self.details, "seed": self.seed, **versions()}),
            "## Intended use": self._sentences("intended_use"),
            "## Not intended for": self._sentences("out_of_scope"),
            "## Factors": self._sentences("factors"),
            "## Protocol, fixed before the test set was opened": _items(self.protocol),
            "## Data": f"**{data.title}** (`{data.name}`). {data.description}\n\nSource: {source}"
            f"\n\nLicence: {data.licence or 'not stated'}.\n\n"
            + "\n".join([f"- known fault: {one}" for one in data.faults] or ["- no known fault"]),
            "## Openings of the test set": f"```\n{self.test.log()}\n```",
            "## Results on the test set": _table("measure", self.results),
            "## By subgroup": _table("subgroup", self.subgroups),
            "## Calibration": _table("measure", self.calibration),
            "## Threshold": _table("what", self.threshold),
            "## Who may be harmed": self._sentences("ethics"),
            "## Limits": self._sentences("limits"),
        }
        return "\n\n".join(part for pair in sections.items() for part in pair if part) + "\n"

    def _sentences(self, name: str) -> str:
        return "\n".join(f"- {fill(line, self.figures)}" for line in getattr(self, name))


def fill(sentence: str, figures: Mapping[str, Interval | float]) -> str:
    """The sentence with each {name} replaced by the figure of that name.

    A result typed into the sentence, or a name that no figure has, is a `MedlabError`.
    """
    if not isinstance(sentence, str):
        raise MedlabError(f"expected a list of sentences, and {sentence!r} is none")
    typed = _RESULT.search(_NO_RESULT.sub("", sentence))
    if typed:
        raise MedlabError(
            f"{typed[0]!r} is typed by hand in {sentence!r}. Pass it under `figures`, as the run "
            "computed it, and write its name in braces"
        )
    known = ", ".join(figures) or "none"
    for name in _NAME.findall(sentence):
        if name not in figures:
            raise MedlabError(f"there is no figure {name!r} for {sentence!r}; passed are: {known}")
    return _NAME.sub(lambda name: _shown(figures[name[1]]), sentence)


def versions() -> dict[str, str]:
    """Versions of what computed the figures: Python and the packages below medlab."""
    return {"Python": platform.python_version()} | {
        name: next((one.version for one in distributions(name=name)), "not installed")
        for name in ("medlab", "torch", "numpy", "scikit-learn")
    }


def _is_empty(value: object) -> bool:
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        entries = list(value.values() if isinstance(value, Mapping) else value)
        return not entries or any(_is_empty(one) for one in entries)
    return value is None or value is ... or (isinstance(value, str) and not value.strip())


def _shown(value: Any) -> str:
    """A value as the card prints it: three decimals, or two digits where they would be zeros."""
    value = value.item() if hasattr(value, "item") else value  # a tensor, or NumPy's number
    if isinstance(value, bool | Integral) or not isinstance(value, Real):
        return str(value)
    return f"{value:.2g}" if 0 < abs(float(value)) < 0.0005 else f"{value:.3f}"


def _items(entries: Mapping) -> str:
    return "\n".join(f"- **{name}**: {_shown(value)}" for name, value in entries.items())


def _table(head: str, entries: Mapping) -> str:
    """A table of two columns, the text of each cell kept in it."""
    cells = [[_shown(one).replace("|", "\\|").split() for one in row] for row in entries.items()]
    rows = [f"| {' '.join(name)} | {' '.join(value)} |" for name, value in cells]
    return "\n".join([f"| {head} | value |", "|---|---|", *rows])
