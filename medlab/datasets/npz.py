"""Read the arrays of an .npz file that may be broken, foreign or hostile."""

from __future__ import annotations

import contextlib
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlab.errors import DataError

__all__ = ["Member", "Npz"]

_TYPES = {
    f"{order}{kind}{size}"
    for kinds, sizes, orders in (("iuf", (2, 4, 8), "<>"), ("iu", (1,), "|"), ("b", (1,), "|"))
    for kind in kinds
    for size in sizes
    for order in orders
}
_HEADER = re.compile(
    r"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': "
    r"\(((?:\d{1,15}, ?)*(?:\d{1,15})?)\)(?:, ?)?\} *\n"
)


@dataclass(frozen=True)
class Member:
    """What the header of one array claims, checked against the bytes that are there."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool


class Npz:
    """An .npz file whose headers are read, and distrusted, before any array is.

    Nothing is ever unpickled; an array is read only if its header, the archive's index and the
    bytes agree, so a file cannot make the reader take more memory than its own size promises.

    Args:
        path: the file.

    Raises:
        DataError: not a zip archive, cut short, a damaged index, or a file that is not there.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path} is not a file")
        with self._damage():
            self._zip = zipfile.ZipFile(self.path)
        self.names = tuple(
            name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")
        )

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()

    def member(self, name: str) -> Member:
        """Shape and type of array `name`.

        Raises:
            DataError: no such array, Python objects instead of numbers, or a size that is a lie.
        """
        if name not in self.names:
            there = ", ".join(self.names[:12]) or "no arrays at all"
            raise DataError(f"{self.path} has no array {name!r}; it has {there}")
        with self._damage(name), self._zip.open(f"{name}.npy") as stream:
            member, start = self._header(stream, name)
        claimed = start + math.prod(member.shape) * member.dtype.itemsize
        stored = self._zip.getinfo(f"{name}.npy").file_size
        if claimed != stored:
            raise DataError(
                f"{self.path}: array {name!r} claims shape {member.shape} of {member.dtype} "
                f"({claimed} bytes), but {stored} bytes are stored. The file is damaged."
            )
        return member

    def read(self, name: str) -> np.ndarray:
        """Array `name`, every byte checked against the archive's checksum.

        Raises:
            DataError: as `member`; or cut short, or a wrong checksum.
        """
        member = self.member(name)
        try:
            array = np.empty(member.shape, member.dtype, order="F" if member.fortran else "C")
        except MemoryError as error:
            size = math.prod(member.shape) * member.dtype.itemsize / 1e9
            raise DataError(
                f"{self.path}: array {name!r} needs {size:.1f} GB of memory, more than this "
                "machine gives. Take a smaller image size."
            ) from error
        flat = memoryview(array.reshape(-1, order="A").view(np.uint8))
        with self._damage(name), self._zip.open(f"{name}.npy") as stream:
            self._header(stream, name)
            done = 0
            while done < len(flat):
                # At the last byte zipfile compares the checksum.
                got = stream.readinto(flat[done : done + (1 << 20)])
                if not got:
                    raise EOFError
                done += got
        return array

    def _header(self, stream, name: str) -> tuple[Member, int]:
        # numpy's own parser raises whatever its tokenizer raises, and format 2 lets a header claim
        # 4 GB; what numpy writes for plain numbers has one form.
        start = stream.read(10)
        if len(start) < 10 or start[:8] != b"\x93NUMPY\x01\x00":
            raise DataError(f"{self.path}: {name!r} is not a numpy array (format 1.0)")
        header = stream.read(int.from_bytes(start[8:], "little")).decode("latin-1")
        found = _HEADER.fullmatch(header)
        if found is None:
            raise DataError(f"{self.path}: {name!r} is not a numpy array, or its header is damaged")
        descr, fortran, shape = found.groups()
        if "O" in descr:
            raise DataError(
                f"{self.path}: array {name!r} holds pickled Python objects, which could run any "
                "program when read. It is refused; an official file has numbers only."
            )
        if descr not in _TYPES:
            raise DataError(
                f"{self.path}: array {name!r} must hold plain numbers; got type {descr!r}"
            )
        axes = tuple(int(axis) for axis in re.findall(r"\d+", shape))
        return Member(axes, np.dtype(descr), fortran == "True"), 10 + len(header)

    @contextlib.contextmanager
    def _damage(self, name: str = "") -> Iterator[None]:
        where = f"{self.path}: array {name!r}" if name else f"{self.path}"
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            kind = "cannot be read" if name else "is not an .npz file, or one that was cut short"
            raise DataError(
                f"{where} {kind} ({error or 'it ends too early'}). Delete it and load it again."
            ) from error
        except (NotImplementedError, RuntimeError) as error:  # odd compression, encryption
            raise DataError(f"{where} cannot be read: {error}") from error
        except OSError as error:
            raise DataError(f"{where} cannot be read: {error.strerror or error}") from error
