"""Unpack archives that someone else made, each whole into a folder of its own or not at all.

    python data_scripts/unpack.py images.zip
    python data_scripts/unpack.py Task04_Hippocampus.tar other.tar.gz --out ~/data
    python data_scripts/unpack.py huge.tar.xz --max-gb 500

Each lands in a new folder called as the archive, without its ending, in --out or where you are.
What leads outside that folder, holds links, unpacks to far more than its size or is damaged is
refused, and nothing is left of it: see `unpack`.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from unicodedata import normalize

from medlab.errors import DataError

_LEAST, _RATIO = 2**28, 200  # bytes that are always allowed; above, so many times the archive's
_BLOCK = 2**12  # bytes that a member takes on a disk, however short
_MEMBERS = 1_000_000
_DEPTH, _LONGEST = 32, 1000  # of a name: parts, and bytes in UTF-8
_HEADERS, _HEADER = 2**16, 2**12  # bytes of a tar that are none of a file: in a row, a member
_FIELDS = 64  # in the PAX headers of one member
_PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zX": lzma.open}
# What no part of a name may have: control characters, invisible ones, halves of characters,
# what Windows keeps for itself. Dots at the end take ".." with them.
_UNFIT = re.compile(
    r'[\0-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff"*/:<>?\\|]|[. ]\Z'
    r"|\A(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|\Z)",
    re.IGNORECASE,
)
_Member = tuple[str, bool, int, Callable]  # name, whether a folder, bytes, what extracts it


def unpack(
    archive: str | os.PathLike, folder: str | os.PathLike, *, max_bytes: int | None = None
) -> Path:
    """Unpack a .zip or .tar (also .tar.gz, .tar.bz2, .tar.xz) into a new or empty folder.

    All members come out under the names that the archive gives them, or nothing does. Refused is
    what leads outside the folder, is neither file nor folder (links too), has a name that some
    system does not hold or confuses with another member's, overlaps another, unpacks to more than
    allowed, or is damaged; tar archives are read to their last byte. Permissions are those that
    Python's `data` filter leaves. Archives inside are left packed. The same archive is refused or
    not on every system.

    Args:
        archive: the file; what it holds counts, not how it is called.
        folder: made if it is not there.
        max_bytes: that all may take together, each member 4 KiB at least. Default: 200 times what
            the archive has, or 256 MiB if that is more. Never more than the disk has free.

    Returns:
        The folder.

    Raises:
        DataError: naming the archive and the member; the folder is as before.
    """
    archive, folder = Path(archive).expanduser(), Path(folder).expanduser().resolve()
    with _reading(f"{archive} cannot be unpacked as .zip or .tar"), archive.open("rb") as file:
        if not hasattr(tarfile, "data_filter"):
            raise DataError("this needs Python 3.11.4 or newer, whose tarfile has safe filters")
        start = file.read(4)
        file.seek(0)
        members = _zip_members if start in (b"PK\3\4", b"PK\5\6") else _tar_members
        source = next(
            (via(file) for magic, via in _PACKED.items() if start.startswith(magic)), file
        )
        _require_empty(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        limit = min(
            max(_LEAST, _RATIO * os.fstat(file.fileno()).st_size)
            if max_bytes is None
            else max_bytes,
            shutil.disk_usage(folder.parent).free,
        )
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as draft:
            whole = Path(draft) / "whole"
            whole.mkdir()
            _extract(members(source), whole, limit)
            _require_empty(folder)
            if folder.is_dir():  # the user's, with permissions of its own
                for child in list(whole.iterdir()):
                    child.rename(folder / child.name)
            else:
                whole.rename(folder)
    return folder


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Make whatever a library raises on damaged input a DataError: `what`, then the reason."""
    try:
        yield
    except Exception as error:
        raise DataError(f"{what}: {error or 'it ends too early'}") from error


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already: name a new folder or an empty one")


def _extract(members: Iterator[_Member], whole: Path, limit: int) -> None:
    """Extract all into an empty folder; a ValueError names the member that is refused."""
    total = 0
    seen: dict[str, tuple[str, int]] = {}  # as the most forgiving system sees it -> spelling, which
    for count, (name, is_folder, size, extract) in enumerate(members, start=1):
        parts, total = PurePosixPath(name).parts, total + max(size, _BLOCK)
        if total > limit or count > _MEMBERS:
            raise ValueError(
                f"at {name!r} it takes more than {limit:,} bytes or has more than {_MEMBERS:,} "
                "members; if you trust it and the disk has room for more, pass max_bytes="
            )
        if any(map(_UNFIT.search, parts)):
            raise ValueError(f"{name!r} leads outside or is a name that some systems do not have")
        if len(parts) > _DEPTH or len(name.encode()) > _LONGEST:
            raise ValueError(f"{name[:60]!r}… has more than {_DEPTH} parts or {_LONGEST} bytes")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            one = path, 0 if depth < len(parts) or is_folder else count
            key = normalize("NFC", path.casefold())
            if (other := seen.setdefault(key, one)) != one:
                raise ValueError(f"{name!r} and {other[0]!r} are one file on some systems")
        made = whole.joinpath(*parts)
        if is_folder:
            made.mkdir(parents=True, exist_ok=True)
            continue
        with _reading(repr(name)):
            extract(path=whole)
            if made.stat().st_size != size:
                raise ValueError(f"it has not the {size:,} bytes that its header says")


def _zip_members(file: BinaryIO) -> Iterator[_Member]:
    end = 0
    with zipfile.ZipFile(file) as box:
        for info in sorted(box.infolist(), key=lambda info: info.header_offset):
            name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
            is_folder = name.endswith("/")
            if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
                raise ValueError(f"{name!r} is a link or another thing that is no file")
            if info.header_offset < end:
                raise ValueError(f"{name!r} overlaps another member")
            end = info.header_offset + 30 + info.compress_size  # its own header has 30 at least
            yield name, is_folder, info.file_size, partial(box.extract, info)


def _tar_members(file: BinaryIO) -> Iterator[_Member]:
    box: Any  # since its list of members is not in the type stubs
    stream: Any = _Watched(file)
    with tarfile.open(fileobj=stream, mode="r:") as box:
        while member := box.next():
            name, box.members = member.name, []  # which would keep them all
            if len(member.pax_headers) > _FIELDS:
                raise ValueError(f"{name!r} has {len(member.pax_headers):,} fields in its headers")
            if not (member.isreg() or member.isdir()):
                raise ValueError(f"{name!r} is a link or another thing that is no file")
            stream.left = min(stream.left, _HEADERS) + member.size + _HEADER
            yield name, member.isdir(), member.size, partial(box.extract, member, filter="data")
        file.seek(box.offset)  # tarfile takes a damaged header for the end, and stops there
        blank = 0
        while rest := file.read(2**20):
            blank += len(rest)
            if rest.strip(b"\0") or blank > _LEAST:
                raise ValueError(f"after byte {box.offset:,} it is damaged, or something follows")
        if blank < tarfile.BLOCKSIZE:
            raise ValueError("it ends without a mark, as if cut short")


class _Watched:
    """A stream that gives no more than `left`, since headers may ask tarfile to read gigabytes."""

    def __init__(self, stream: BinaryIO):
        self.stream, self.tell, self.left = stream, stream.tell, _HEADERS

    def read(self, size: int) -> bytes:
        self._spend(size)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        self._spend(max(0, position - self.tell()))
        return self.stream.seek(position)

    def _spend(self, size: int) -> None:
        if not 0 <= size <= self.left:
            raise ValueError(f"headers are damaged or endless at byte {self.tell():,}")
        self.left -= size


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs="+", type=Path, help=".zip, .tar, .tar.gz, .bz2 or .xz")
    parser.add_argument("--out", type=Path, default=Path(), help="where the folders are made")
    parser.add_argument("--max-gb", type=float, help="of each unpacked, if the default is too low")
    options = parser.parse_args(arguments)
    most = None if options.max_gb is None else int(options.max_gb * 1e9)
    failed = 0
    for archive in options.archives:
        stem = re.sub(r"(\.tar)?\.\w+$", "", archive.name, flags=re.IGNORECASE)
        try:
            folder = unpack(archive, options.out / (stem or archive.name), max_bytes=most)
        except DataError as error:
            print(error, file=sys.stderr)
            failed += 1
        else:
            count = sum(path.is_file() for path in folder.rglob("*"))
            print(f"{archive}: {count:,} files in {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
