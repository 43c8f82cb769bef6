"""Errors that speak to the user, and the one way in which medlab writes a file."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "CheckpointError",
    "ClaimError",
    "DataError",
    "DicomError",
    "DownloadError",
    "HashMismatch",
    "MedlabError",
    "atomic_write",
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


class ClaimError(AssertionError):
    """A claim that a notebook states and the computed result does not support."""


@contextmanager
def atomic_write(
    path: str | os.PathLike, *, error: type[MedlabError] = DataError
) -> Iterator[Path]:
    """Write a file whole or not at all: `with atomic_write(path) as part: part.write_bytes(…)`.

    `part` is a new, empty file beside `path`, of which no other process knows. Left without an
    error, it is flushed to the disk and renamed to `path`, which is atomic: killed at any moment,
    `path` holds the old content or the new. Left with one, it is removed and `path` is as before.
    What a killed writer of the same `path` left more than ten minutes ago is removed too.

    Args:
        path: the file to make or replace; its folder is made if need be.
        error: what to raise when the disk refuses.

    Raises:
        MedlabError: of type `error`, if the folder or the file cannot be written, with the reason.
    """
    path, part = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        yield part
        _flush(part)
        _keep_mode(part, path)
        os.replace(part, path)
        if os.name != "nt":  # Windows can neither open folders nor needs it
            _flush(path.parent)
    except OSError as reason:
        raise error(f"cannot write {path}: {reason.strerror or reason}") from reason
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        try:
            if time.time() - left.stat().st_mtime > _STALE:
                left.unlink()
        except FileNotFoundError:
            pass  # its writer has just finished


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _keep_mode(part: Path, path: Path) -> None:
    """Permissions as a plain `open` would leave them; mkstemp gives a file to its owner alone."""
    if path.exists():
        mode = path.stat().st_mode
    else:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    part.chmod(mode & 0o777)
