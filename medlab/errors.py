"""What every room shares: errors that speak to the user, progress, files read and written."""

import glob
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

__all__ = [
    "CheckpointError",
    "DataError",
    "DicomError",
    "DownloadError",
    "HashMismatch",
    "Interrupted",
    "MedlabError",
    "atomic_write",
    "progress",
]

_STALE = 600  # seconds after which a half-written file belongs to a writer that was killed


class MedlabError(ValueError):
    """Base of every error that medlab raises on bad input."""


class DataError(MedlabError):
    """Images, labels or tables that do not fit together or cannot be read."""


class DicomError(DataError):
    """A DICOM file or series that cannot be read as asked; the message names the file."""


class HashMismatch(DataError):
    """A file whose hash differs from its data card; the message shows both hashes."""


class DownloadError(DataError):
    """A download that failed; the message names the address, the reason and the way round it."""


class CheckpointError(MedlabError):
    """Weights or a checkpoint that cannot be read or does not fit the model."""


class Interrupted(KeyboardInterrupt):
    """Training that was stopped by hand; a notebook shows its one line and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


def progress(items: Iterable | None = None, **options: Any) -> Any:
    """Items under a progress bar: a widget in notebooks, text elsewhere, gone when all are done.

    The environment variable MEDLAB_PROGRESS=0 hides it, as `disable=True` does. Options are those
    of `tqdm`, as `desc`, `total` and `delay`; without items, the bar itself is returned.
    """
    from tqdm.auto import tqdm  # it imports IPython, so not before it is due

    hidden = options.pop("disable", False) or os.environ.get("MEDLAB_PROGRESS") == "0"
    return tqdm(items, disable=hidden, **{"leave": False, **options})


def read_facts(name: str) -> Any:
    """What is data and not code: the JSON file of that name in its room, as "dicom/profile"."""
    return json.loads((files("medlab") / f"{name}.json").read_text(encoding="utf-8"))


@contextmanager
def atomic_write(
    path: str | os.PathLike, *, error: type[MedlabError] = DataError, folder: bool = False
) -> Iterator[Path]:
    """Write a file whole or not at all: `with atomic_write(path) as part: part.write_bytes(…)`.

    `part` is a new, empty file beside `path`, of which no other process knows. Left without an
    error, it is flushed to the disk and renamed to `path`, which is atomic: killed at any moment,
    `path` holds the old content or the new. Left with one, it is removed and `path` is as before.
    What a killed writer of the same `path` left more than ten minutes ago is removed too.

    Args:
        path: the file to make or replace, which keeps its permissions; its folder is made too.
        error: what to raise when the disk refuses.
        folder: `part` is a folder for files; `path` must not be there, or be an empty folder.

    Raises:
        MedlabError: of type `error`, if the folder or the file cannot be written, with the reason.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            with suppress(FileNotFoundError):  # its writer may just have finished
                if time.time() - left.stat().st_mtime > _STALE:
                    _remove(left)
        if folder:
            part.mkdir()
        else:
            part.touch(0o600 if path.exists() else 0o666, exist_ok=False)
        try:
            yield part
            for file in part.iterdir() if folder else [part]:
                with file.open("r+b") as written:
                    os.fsync(written.fileno())
            if path.exists():
                shutil.copymode(path, part)
            if folder and path.exists():  # Windows replaces no folder, not even an empty one
                path.rmdir()
            os.replace(part, path)
        finally:
            _remove(part)
    except OSError as reason:
        raise error(f"cannot write {path}: {reason.strerror or reason}") from reason


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
