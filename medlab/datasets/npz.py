"""Read the arrays of an .npz file that may be broken, foreign or hostile."""

from __future__ import annotations

import contextlib
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medlab.errors import DataError

# What zipfile, its decompressors, numpy, Pillow and nibabel raise on damaged input. ValueError
# includes bad UTF-8 in a name; RuntimeError encryption and unknown methods of compression.
BROKEN = (
    *(OSError, EOFError, ValueError, RuntimeError, TypeError, LookupError, AttributeError),
    *(SyntaxError, OverflowError, MemoryError, AssertionError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
_LARGEST = 1 << 34  # bytes that one array may unpack to; the largest official one has half of it


class Npz:
    """An .npz file, of which nothing is ever unpickled and every byte checked by its checksum.

    Args:
        path: the file.

    Raises:
        DataError: not a zip archive, cut short, a damaged index, or a file that is not there.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        with self._named("is not an .npz file, or one that was cut short"):
            self._zip = zipfile.ZipFile(self.path)
        self.names = tuple(
            name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")
        )

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """Array `name`.

        Raises:
            DataError: no such array, one of Python objects, damaged, or larger than 16 GiB.
        """
        if name not in self.names:
            there = ", ".join(self.names[:12]) or "no arrays at all"
            raise DataError(f"{self.path} has no array {name!r}; it has {there}")
        with self._named(f"array {name!r} cannot be read"):
            if self._zip.getinfo(f"{name}.npy").file_size > _LARGEST:
                raise ValueError("it claims more than 16 GiB")
            with self._zip.open(f"{name}.npy") as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # the checksum is compared at the end of what is stored
                    raise ValueError("more bytes are stored than its header claims")
                return array

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            reason = error or "it ends too early"
            raise DataError(
                f"{self.path}: {what} ({reason}). If it should be sound, delete it and load again."
            ) from error
