"""A test set in an envelope: it opens whenever you ask, and counts how often you asked."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NoReturn

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, MedlabError

_FIELDS = {field.name for field in dataclasses.fields(Cohort)} - {"card"}
_OPENED: list[Opening] = []  # of this session; a seal made anew looks here for its own pictures


class SealedError(MedlabError):
    """A look into a sealed cohort that did not go through `Sealed.open`."""


@dataclass(frozen=True)
class Opening:
    """One entry of the log.

    Attributes:
        number: 1 for the first opening of these images, 2 for the second, …
        reason: why, in the words of who opened.
        images: how many images lay inside.
        seen: how many of them had been looked at before.
        pictures: hashes of the images, by which a seal made anew knows its contents again.
    """

    number: int
    reason: str
    images: int
    seen: int
    pictures: frozenset[str] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        known = f", {self.seen} of them seen before" if self.seen else ""
        return f"{self.number}. {self.reason} ({self.images} images{known})"


class Sealed:
    """A cohort that shows nothing but its size and its card until it is opened.

    Every opening is counted and kept with its reason, because a test set that has been looked at
    while choices were still open has become a validation set. The count belongs to the *pictures*:
    sealing the same images again, or a part of them, or a split that shares some, finds the earlier
    openings of this session, and with `record` those of earlier sessions too.

    It is a memory, not a lock: who wants to cheat can. It helps those who want to know.

    Args:
        cohort: what to seal; drop other names for it, they would be a back door.
        name: what to call it in messages.
        record: file to which openings are appended, one JSON line each, and from which earlier
            ones are read, anew each time: it survives a restart, and two notebooks that share it
            know of each other. None keeps them for this session alone.

    Raises:
        DataError: no cohort, no images, or a record that cannot be read or written.
    """

    def __init__(
        self, cohort: Cohort, *, name: str = "test", record: str | os.PathLike | None = None
    ):
        if not isinstance(cohort, Cohort):
            raise DataError(f"only a Cohort can be sealed; got {type(cohort).__name__}")
        if not len(cohort):
            raise DataError("an empty cohort cannot test anything: it has no images")
        self.name = name
        self._inside = cohort
        self._hashes = [
            blake2b(image.tobytes(), digest_size=12).hexdigest()
            for image in cohort.images.detach().cpu().contiguous().numpy()
        ]
        self._pictures = frozenset(self._hashes)
        self._record = None if record is None else Path(record)
        _read(self._record)

    @property
    def card(self) -> DataCard:
        """The data card, which one may read at any time."""
        return self._inside.card

    @property
    def openings(self) -> tuple[Opening, ...]:
        """Every opening of any of these pictures so far, oldest first."""
        earlier = _read(self._record)
        known = [*earlier, *(one for one in _OPENED if one not in earlier)]
        return tuple(one for one in known if one.pictures & self._pictures)

    def open(self, reason: str) -> Cohort:
        """The cohort; the opening is written down, and from the second one on said plainly.

        Args:
            reason: what the look is for; it goes into the log.

        Raises:
            DataError: no reason, or a record that cannot be written.
        """
        if not isinstance(reason, str) or len(reason.split()) < 2:
            raise DataError(
                "give a reason of a few words, such as open('final evaluation, protocol of 3 May'):"
                " it goes into the log"
            )
        reason = " ".join(reason.split())
        # Whoever opens at the same time waits here, so that one of the two is the second.
        with nullcontext() if self._record is None else _locked(self._record) as file:
            before = self.openings
            known = frozenset().union(*(one.pictures for one in before))
            seen = sum(one in known for one in self._hashes)
            opening = Opening(len(before) + 1, reason, len(self), seen, self._pictures)
            if file is not None:
                _append(file, opening)
        _OPENED.append(opening)
        if before:
            print(
                f"⚠ {self.name} set opened again, for the {_ordinal(opening.number)} time: {reason}"
                f"\n  {seen} of its {len(self)} images have been looked at before; the first"
                f" time for: {before[0].reason}"
                "\n  Ran the same cell twice and changed nothing? Then nothing is lost. Changed the"
                "\n  model, the threshold or the data in between? Then these images now validate,"
                "\n  and a test needs new patients. Either way the log and the model card say so."
            )
        else:
            print(f"{self.name} set opened for the first time: {reason} ({len(self)} images)")
        return self._inside

    def log(self) -> str:
        """The openings, one a line, as they go into the model card."""
        if not self.openings:
            return f"{self.name} set: never opened"
        times = {1: "once", 2: "twice"}.get(len(self.openings), f"{len(self.openings)} times")
        return "\n".join([f"{self.name} set: opened {times}", *map(str, self.openings)])

    def __len__(self) -> int:
        return len(self._inside)

    def __repr__(self) -> str:
        state = self.log().split(": ", 1)[1].split("\n")[0]
        return f"<{self.name} set, sealed: {len(self)} images, {state}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name in _FIELDS or (not name.startswith("_") and hasattr(Cohort, name)):
            raise SealedError(self._refusal(f".{name}"))
        raise AttributeError(f"a sealed cohort has no {name!r}; it has card, open, openings, log")

    def __getitem__(self, index: object) -> NoReturn:
        raise SealedError(self._refusal("[…]"))

    def __iter__(self) -> NoReturn:
        raise SealedError(self._refusal(""))

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        raise SealedError(self._refusal(""))

    def _refusal(self, what: str) -> str:
        return (
            f"the {self.name} set is sealed, so {self.name}{what} cannot be looked at. When every "
            f"choice is made and written down: cohort = {self.name}.open('why')"
        )


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _read(path: Path | None) -> list[Opening]:
    """The openings of a record; none if there is no file. What stands between them is space."""
    if path is None or not path.exists():
        return []
    found, decoder = [], json.JSONDecoder()
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        while text:
            row, end = decoder.raw_decode(text)
            found.append(Opening(**{**row, "pictures": frozenset(row["pictures"])}))
            text = text[end:].lstrip()
    except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is no record of openings ({error}): name another file, or move this one away "
            "and say in the report that the record was lost"
        ) from error
    return found


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The record, open for reading and appending, held by one process at a time."""
    try:
        with path.open("a+b") as file:
            if sys.platform == "win32":
                import msvcrt

                file.seek(2**30)  # a byte that no record reaches: others may still read
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            yield file  # closing the file lets go
    except OSError as error:
        raise DataError(
            f"the opening cannot be written to {path} ({error.strerror}): name a file in a folder "
            "that exists and can be written to; nothing was opened"
        ) from error


def _append(file: BinaryIO, opening: Opening) -> None:
    """One line; on a line of its own even where an editor took the end of the last one."""
    row = dataclasses.asdict(opening) | {"pictures": sorted(opening.pictures)}
    file.seek(0, os.SEEK_END)
    begin = b""
    if file.tell():
        file.seek(-1, os.SEEK_END)
        begin = b"" if file.read(1) == b"\n" else b"\n"
    file.write(begin + json.dumps(row, ensure_ascii=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
