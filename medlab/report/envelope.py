"""A test set in an envelope: it opens whenever you ask, and counts how often you asked."""

import dataclasses
import json
import os
from contextlib import nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn

from filelock import FileLock

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, MedlabError

_OPENED: list["Opening"] = []  # of this session; a seal made anew looks here for its own pictures


@dataclasses.dataclass(frozen=True)
class Opening:
    """Its number, the reason, the images, how many seen before, and their hashes, `pictures`."""

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

    def __init__(self, cohort: Cohort, *, record: str | os.PathLike | None = None):
        if not isinstance(cohort, Cohort) or not len(cohort):
            raise DataError(f"only a Cohort with images can be sealed, got {type(cohort).__name__}")
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
        try:
            if self._record:
                self._record.touch()
            # Whoever opens at the same time waits here, so that one of the two is the second.
            with FileLock(f"{self._record}.lock") if self._record else nullcontext():
                before = self.openings
                known = frozenset().union(*(one.pictures for one in before))
                seen = sum(one in known for one in self._hashes)
                opening = Opening(len(before) + 1, reason, len(self), seen, frozenset(self._hashes))
                if self._record:
                    row = dataclasses.asdict(opening) | {"pictures": sorted(opening.pictures)}
                    with self._record.open("a+b") as file:
                        file.seek(0)  # an editor may have cut the end of the last line
                        begin = "" if file.read()[-1:] in (b"", b"\n") else "\n"
                        file.write(f"{begin}{json.dumps(row, ensure_ascii=False)}\n".encode())
                _OPENED.append(opening)
        except OSError as error:
            raise DataError(f"nothing was opened: cannot write the record, {error}") from error
        if not before:
            print(f"test set opened for the first time: {reason} ({len(self)} images)")
            return self._inside
        print(
            f"⚠ test set opened again, {opening.number} times now: {reason}\n"
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
        often = {0: "never opened", 1: "opened once", 2: "opened twice"}
        said = often.get(len(found), f"opened {len(found)} times")
        return "\n".join([f"test set: {said}", *map(str, found)])

    def __len__(self) -> int:
        return len(self._inside)

    def __repr__(self) -> str:
        state = self.log().split(": ", 1)[1].split("\n")[0]
        return f"<test set, sealed: {len(self)} images, {state}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or name not in {*dir(Cohort), *Cohort.__dataclass_fields__}:
            raise AttributeError(f"a sealed cohort has card, open, openings and log, no {name!r}")
        self._refuse(what=f".{name}")

    def _refuse(self, *_: object, what: str = "", **__: object) -> NoReturn:
        raise MedlabError(
            f"the test set is sealed, so test{what} cannot be looked at. When every choice is made "
            "and written down: cohort = test.open('why')"
        )

    __getitem__ = __iter__ = __array__ = _refuse


def _read(path: Path) -> list[Opening]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        return [Opening(**{**row, "pictures": frozenset(row["pictures"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is no record of openings: name another, or move it") from error
