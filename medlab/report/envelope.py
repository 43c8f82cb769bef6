"""A test set in an envelope: it opens whenever you ask, and counts how often you asked."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NoReturn

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, MedlabError

_OPENED: list[Opening] = []  # of this session; a seal made anew looks here for its own pictures


class SealedError(MedlabError):
    """A look into a sealed cohort that did not go through `Sealed.open`."""


@dataclasses.dataclass(frozen=True)
class Opening:
    """One entry of the log: the how-manieth opening, why, of how many images, of which seen before.

    By the hashes in `pictures` a seal made anew knows its contents again.
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
    sealing them again, or a part of them, or a split that shares some, finds the earlier openings.
    It is a memory, not a lock: who wants to cheat can.

    Drop other names for the cohort: they would be a back door. `record` is a file of openings, one
    JSON line each, read anew each time, so it survives a restart and two notebooks may share it;
    without it the openings of this session are known. A `DataError` tells of no images, and of a
    record that cannot be read or written.
    """

    def __init__(
        self, cohort: Cohort, *, name: str = "test", record: str | os.PathLike | None = None
    ):
        if not isinstance(cohort, Cohort) or not len(cohort):
            raise DataError(f"only a Cohort with images can be sealed, got {type(cohort).__name__}")
        self.name = name
        self._inside = cohort
        self._hashes = [
            blake2b(image.tobytes(), digest_size=12).hexdigest()
            for image in cohort.images.detach().cpu().contiguous().numpy()
        ]
        self._record = None if record is None else Path(record)
        _ = self.openings  # a record that cannot be read is told now

    @property
    def card(self) -> DataCard:
        """The data card, which one may read at any time."""
        return self._inside.card

    @property
    def openings(self) -> tuple[Opening, ...]:
        """Every opening of any of these pictures so far, oldest first."""
        earlier = _read(self._record) if self._record and self._record.exists() else []
        known = [*earlier, *(one for one in _OPENED if one not in earlier)]
        return tuple(one for one in known if not one.pictures.isdisjoint(self._hashes))

    def open(self, reason: str) -> Cohort:
        """The cohort; the opening is written down, and from the second one on said plainly.

        Without a reason of at least two words, or a record that can be written: `DataError`.
        """
        words = reason.split() if isinstance(reason, str) else []
        if len(words) < 2:
            raise DataError("give a reason of a few words, such as open('final evaluation')")
        reason = " ".join(words)
        # Whoever opens at the same time waits here, so that one of the two is the second.
        with _locked(self._record) as file:
            before = self.openings
            known = frozenset().union(*(one.pictures for one in before))
            seen = sum(one in known for one in self._hashes)
            opening = Opening(len(before) + 1, reason, len(self), seen, frozenset(self._hashes))
            if file:
                row = dataclasses.asdict(opening) | {"pictures": sorted(opening.pictures)}
                file.seek(0)
                # An editor may have taken the end of the last line.
                begin = "" if file.read()[-1:] in (b"", b"\n") else "\n"
                file.write(f"{begin}{json.dumps(row, ensure_ascii=False)}\n".encode())
        _OPENED.append(opening)
        if not before:
            print(f"{self.name} set opened for the first time: {reason} ({len(self)} images)")
            return self._inside
        print(
            f"⚠ {self.name} set opened again, for the {_ordinal(opening.number)} time: {reason}\n"
            f"  {seen} of its {len(self)} images have been looked at before; the first time for: "
            f"{before[0].reason}\n"
            "  Ran the same cell twice and changed nothing? Then nothing is lost. Changed the\n"
            "  model, the threshold or the data in between? Then these images now validate,\n"
            "  and a test needs new patients. Either way the log and the model card say so."
        )
        return self._inside

    def log(self) -> str:
        """The openings, one a line, as they go into the model card."""
        found = self.openings
        if not found:
            return f"{self.name} set: never opened"
        times = {1: "once", 2: "twice"}.get(len(found), f"{len(found)} times")
        return "\n".join([f"{self.name} set: opened {times}", *map(str, found)])

    def __len__(self) -> int:
        return len(self._inside)

    def __repr__(self) -> str:
        state = self.log().split(": ", 1)[1].split("\n")[0]
        return f"<{self.name} set, sealed: {len(self)} images, {state}>"

    def __getattr__(self, name: str) -> NoReturn:
        if not name.startswith("_") and name in {*dir(Cohort), *Cohort.__dataclass_fields__}:
            self._refuse(what=f".{name}")
        raise AttributeError(f"a sealed cohort has no {name!r}; it has card, open, openings, log")

    def _refuse(self, *_: object, what: str = "", **__: object) -> NoReturn:
        raise SealedError(
            f"the {self.name} set is sealed, so {self.name}{what} cannot be looked at. When every "
            f"choice is made and written down: cohort = {self.name}.open('why')"
        )

    __getitem__ = __iter__ = __array__ = _refuse


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _read(path: Path) -> list[Opening]:
    """The openings of a record."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        return [Opening(**{**row, "pictures": frozenset(row["pictures"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is no record of openings ({error}): name another file, or move this one away"
        ) from error


@contextmanager
def _locked(path: Path | None) -> Iterator[BinaryIO | None]:
    """The record, open for reading and appending, held by one process at a time; or no record."""
    if path is None:
        yield None
        return
    try:
        with path.open("a+b") as file:
            if sys.platform == "win32":
                import msvcrt

                file.seek(2**30)  # a byte that no record reaches: others may still read
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            yield file  # closing the file writes it and lets go
    except OSError as error:
        raise DataError(
            f"the opening cannot be written to {path} ({error.strerror}), and nothing was opened"
        ) from error
