"""A model card: what a model is for, how it was judged, and where it should not be used."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from math import prod
from numbers import Integral, Real
from string import Formatter
from typing import Any

from medlab.cohort import DataCard
from medlab.errors import MedlabError
from medlab.metrics import Interval
from medlab.report.envelope import Sealed

SIMULATED = "**Simulated, not clinical evidence:** no patient was imaged for what follows."

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

    No result is typed by hand. Figures come in as the run computed them, and the sentences name
    them in braces: "small consolidations are missed: sensitivity {small}" shows the figure `small`.

    Attributes:
        title: name of the model.
        details: what it is: architecture, inputs, output, training; name -> text or number.
        intended_use: what it is for, in whom, what follows from a call.
        out_of_scope: what it is not for.
        factors: what may change its performance, and was therefore looked at (or could not be).
        protocol: what was fixed before the test set was opened; name -> text. Its numbers are
            decisions, not results, and may be typed.
        data: card of the data it was trained and tested on.
        test: the sealed test set, whose openings are listed.
        results: name -> `Interval`, number or text; shown in one table.
        subgroups: name -> `Interval`.
        calibration: name -> `Interval` or number.
        threshold: how calls are made: name -> `Interval`, number or text.
        figures: further computed figures that sentences name.
        ethics: who may be harmed by an error or by unequal performance, and how.
        limits: what this evaluation cannot show.
        seed: of the run.

    Raises:
        MedlabError: a section without content, a result typed into a sentence, a sentence that
            names a figure which was not passed, or a test set that was never opened.

    Example:
        >>> import torch
        >>> from medlab import metrics
        >>> from medlab.cohort import Cohort
        >>> data = DataCard(name="films", title="Forty films", task="binary", source="our archive",
        ...                 licence="not to be passed on", description="Chest films of adults.")
        >>> films = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> test = Sealed(Cohort(images=films, labels=torch.arange(40) % 2, card=data))
        >>> final = test.open("final evaluation, protocol of 3 May")
        test set opened for the first time: final evaluation, protocol of 3 May (40 images)
        >>> scores = final.labels * 0.03 + films.mean((1, 2, 3))  # as medlab.predict gives them
        >>> area = metrics.bootstrap(metrics.auc, final.labels, scores, n=200)
        >>> early = torch.arange(40) < 20
        >>> card = ModelCard(
        ...     title="Which film first?", seed=0, data=data, test=test,
        ...     details={"architecture": "SmallCNN of width 8"},
        ...     intended_use=["Sorts the films of adults that wait to be read."],
        ...     out_of_scope=["Children: there was none among them."],
        ...     factors=["The year in which the film was taken."],
        ...     protocol={"success": "the interval of the AUC lies above 0.8"},
        ...     results={"AUC": area},
        ...     subgroups={"early films": metrics.bootstrap(
        ...         metrics.auc, final.labels[early], scores[early], n=200)},
        ...     calibration={"Brier score": metrics.brier(final.labels, scores)},
        ...     threshold={"threshold": 0.52, "chosen": "on validation films"},
        ...     figures={"ill": int(final.labels.sum())},
        ...     ethics=["Whoever is ill and sorted last waits longer."],
        ...     limits=["Only {ill} ill patients, all of one hospital."],
        ... )
        >>> print(card.to_markdown().splitlines()[-1])
        - Only 20 ill patients, all of one hospital.

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
    results: Mapping[str, Interval | float | str]
    subgroups: Mapping[str, Interval]
    calibration: Mapping[str, Interval | float]
    threshold: Mapping[str, Interval | float | str]
    figures: Mapping[str, Interval | float]
    ethics: Sequence[str]
    limits: Sequence[str]
    seed: int

    def __post_init__(self) -> None:
        for name in _PROSE:
            value = getattr(self, name)
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))  # a generator can be read only once
        may_be_empty = ("seed", "figures")
        empty = [
            field.name.replace("_", " ")
            for field in fields(self)
            if field.name not in may_be_empty and _is_empty(getattr(self, field.name))
        ]
        if empty:
            raise MedlabError(
                f"the model card has nothing under: {', '.join(empty)}. If there is nothing to "
                "report, say why in a sentence: a missing section reads as 'no problem'"
            )
        for name in _PROSE:
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(line, str) for line in value):
                raise MedlabError(f"{name} must be a list of sentences")
            for sentence in value:
                self._filled(name, sentence)
        if not self.test.openings:
            raise MedlabError(
                f"the {self.test.name} set was never opened, so there is nothing to report on it"
            )

    def to_markdown(self) -> str:
        """The card as one page of Markdown."""
        parts = [f"# Model card: {self.title}"]
        if self.data.simulated:
            parts.append(SIMULATED)
        sections = {
            "Model details": _pairs({**self.details, "seed": self.seed} | versions()),
            "Intended use": self._bullets("intended_use"),
            "Not intended for": self._bullets("out_of_scope"),
            "Factors": self._bullets("factors"),
            "Protocol, fixed before the test set was opened": _pairs(self.protocol),
            "Data": self._data(),
            "Openings of the test set": "```\n" + self.test.log() + "\n```",
            "Results on the test set": _table("measure", self.results),
            "By subgroup": _table("subgroup", self.subgroups),
            "Calibration": _table("measure", self.calibration),
            "Threshold": _table("what", self.threshold),
            "Who may be harmed": self._bullets("ethics"),
            "Limits": self._bullets("limits"),
        }
        for heading, body in sections.items():
            parts += [f"## {heading}", body]
        return "\n\n".join(parts) + "\n"

    def _bullets(self, name: str) -> str:
        return "\n".join(f"- {self._filled(name, line)}" for line in getattr(self, name))

    def _filled(self, name: str, sentence: str) -> str:
        try:
            return fill(sentence, self.figures)
        except MedlabError as error:
            raise MedlabError(f"{name.replace('_', ' ')}: {error}") from None

    def _data(self) -> str:
        lines = [f"**{self.data.title}** (`{self.data.name}`). {self.data.description}"]
        lines.append("Source: " + ("simulated." if self.data.simulated else self.data.source))
        lines[1] += f"\n\nLicence: {self.data.licence or 'not stated'}."
        lines += [f"- known fault: {fault}" for fault in self.data.faults]
        return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:] or ["- no known fault"])


_PROSE = ("intended_use", "out_of_scope", "factors", "ethics", "limits")


def fill(sentence: str, figures: Mapping[str, Interval | float]) -> str:
    """The sentence with each {name} replaced by the figure of that name.

    Raises:
        MedlabError: a result typed into the sentence, or a name that no figure has.
    """
    typed = _RESULT.search(_NO_RESULT.sub("", sentence))
    if typed:
        raise MedlabError(
            f"{typed[0]!r} is typed by hand in {sentence!r}. Pass it under `figures`, as the run "
            "computed it, and write its name in braces"
        )
    try:
        for _, name, _, _ in Formatter().parse(sentence):
            if name is not None and name not in figures:
                raise KeyError(name)
        return sentence.format_map({name: _shown(value) for name, value in figures.items()})
    except (KeyError, ValueError) as error:
        known = ", ".join(figures) or "none"
        raise MedlabError(
            f"there is no figure {error} for {sentence!r}; those passed are: {known}"
        ) from None


def versions() -> dict[str, str]:
    """Versions of what computed the figures: Python and the packages below medlab."""
    found = {"Python": platform.python_version()}
    for name in ("medlab", "torch", "numpy", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _is_empty(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, (Mapping, Sequence)):
        entries = list(value.values()) if isinstance(value, Mapping) else list(value)
        return not entries or any(one is ... or one is None or one == "" for one in entries)
    return value is None or value is ...


def _shown(value: Any) -> str:
    """A value as the card prints it: three decimals, or two digits where they would be zeros."""
    if hasattr(value, "item") and prod(value.shape) == 1:  # a tensor, or NumPy's number
        value = value.item()
    if isinstance(value, bool | Integral) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    return f"{number:.2g}" if 0 < abs(number) < 0.0005 else f"{number:.3f}"


def _pairs(entries: Mapping) -> str:
    return "\n".join(f"- **{name}**: {_shown(value)}" for name, value in entries.items())


def _table(head: str, entries: Mapping) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in entries.items()]
    return "\n".join([f"| {head} | value |", "|---|---|", *rows])


def _cell(value: object) -> str:
    """Text that stays in its cell."""
    return " ".join(_shown(value).replace("|", "\\|").split())
