"""Bring one file from the network: resumed after interruption, checked, put in place atomically."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medlab.errors import DownloadError, HashMismatch

if TYPE_CHECKING:
    import requests

__all__ = ["check_hash", "data_root", "fetch", "must_verify"]

CHUNK = 1 << 14  # when a connection breaks, a chunk not yet full is lost
_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _Again(Exception):
    """The attempt failed in a way that another attempt may cure; the text says how."""

    def __init__(self, reason: str, *, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder that holds data sets: `root`, else MEDLAB_DATA, else the user's cache folder."""
    root = root or os.environ.get("MEDLAB_DATA")
    if root:
        return Path(root).expanduser()
    import pooch

    return Path(pooch.os_cache("medlab"))


def must_verify(verify: bool | None = None) -> bool:
    """Whether a wrong hash is refused: `verify`, else True unless MEDLAB_VERIFY is 0."""
    if verify is not None:
        return verify
    return os.environ.get("MEDLAB_VERIFY", "1").strip().lower() not in ("0", "false", "no", "off")


def check_hash(path: Path, md5: str, *, verify: bool | None = None) -> str:
    """Compare a file's MD5 with its card's.

    MD5 here tells an accidental change or another edition of the file; the makers publish nothing
    stronger.

    Args:
        path: the file.
        md5: the official hash, 32 hexadecimal digits.
        verify: refuse a wrong hash; see `must_verify`. Otherwise warn.

    Returns:
        "" if the file is the official one, else a sentence that says it is not.

    Raises:
        HashMismatch: another hash, shown beside the official one.
    """
    got = _md5(path)
    if got == md5.lower():
        return ""
    fact = f"{path} is not the official file: its MD5 is {got}, the official one is {md5}."
    if must_verify(verify):
        raise HashMismatch(
            f"{fact}{_web_page(path)} Delete it and load again to fetch the official file, or, if "
            "you know where yours comes from, pass verify=False (or set MEDLAB_VERIFY=0)."
        )
    warnings.warn(f"{fact} It is used all the same: verification is off.", stacklevel=5)
    return f"This copy is not the official file (MD5 {got}, official {md5})."


def fetch(
    url: str,
    path: str | os.PathLike,
    *,
    md5: str | None = None,
    verify: bool | None = None,
    progress: bool | None = None,
    attempts: int = 4,
    timeout: tuple[float, float] = (10.0, 30.0),
    pause: float = 1.0,
) -> Path:
    """Download `url` to `path`, going on where an earlier attempt stopped.

    Bytes are collected in `path` + ".part", which survives a broken connection, an interrupt or a
    full disk. The next attempt asks for the rest (HTTP Range with If-Range, so that a file changed
    meanwhile is sent whole) and appends only what the server says it is sending. The file gets its
    final name, in one step, after its hash was found right; nobody ever sees half a file under
    that name. A second process that wants the same file waits for the first.

    pooch, whose cache folder and hashing are used, would start from zero each time.

    Args:
        url: http or https address.
        path: where the file shall stand; missing folders are made.
        md5: official hash; None takes what comes, as long as it is complete.
        verify: refuse a wrong hash (default; see `must_verify`). If off, the hash is not looked at.
        progress: show a progress bar; default yes, unless MEDLAB_PROGRESS is 0.
        attempts: failures in a row without one new byte after which to give up, ≥ 1.
        timeout: seconds to connect, and of silence while reading.
        pause: seconds before the second attempt; doubled each time, at most 30.

    Returns:
        `path`.

    Raises:
        DownloadError: the server refused, was silent or kept breaking off, the disk is full, or the
            folder cannot be written. The message names the address and what to do.
        HashMismatch: complete, but not the official file, and `verify` is on. Nothing is kept.
    """
    path = Path(path)
    if not url.lower().startswith(("http://", "https://")):
        raise DownloadError(f"only http and https addresses can be fetched; got {url}")
    if attempts < 1:
        raise DownloadError(f"attempts must be at least 1; got {attempts}")
    part = path.with_name(path.name + ".part")
    with _disk(path, url):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(part, url):
        if path.exists():  # another process brought it while this one waited
            return path
        checked = md5 is not None and must_verify(verify)
        resumed = _collect(url, part, progress, attempts, timeout, pause, blind=checked)
        if checked:
            if resumed and _md5(part) != md5.lower():
                # Appended to a file that the server had changed without notice: from the start.
                _forget(part)
                _collect(url, part, progress, attempts, timeout, pause, blind=False)
            got = _md5(part)
            if got != md5.lower():
                page = _web_page(part)
                _forget(part)
                raise HashMismatch(
                    f"{url} sent a file that is not the official one: its MD5 is {got}, the "
                    f"official one is {md5}.{page} Nothing was kept. Try again later, fetch "
                    f"{path.name} by other means and put it at {path}, or, if you know this "
                    "edition, pass verify=False."
                )
        with _disk(path, url):
            part.replace(path)
            _note(part).unlink(missing_ok=True)
    return path


def _md5(path: Path) -> str:
    import pooch

    return pooch.file_hash(str(path), alg="md5")


def _web_page(path: Path) -> str:
    with open(path, "rb") as file:
        if file.read(64).lstrip().startswith(b"<"):
            return " It begins like a web page, perhaps the log-in page of a network."
    return ""


def _note(part: Path) -> Path:
    """Beside a partial file: which edition its bytes belong to."""
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


@contextlib.contextmanager
def _disk(path: Path, url: str) -> Iterator[None]:
    """Turn what can go wrong on the disk into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"the disk is full: {path.name} does not fit into {path.parent}. What came so far "
                "is kept; free some space and load again to go on from there, or name another "
                "folder with root=… or MEDLAB_DATA."
            ) from error
        raise DownloadError(
            f"{path.parent} cannot be written ({error.strerror}), so {url} was not fetched. Name "
            "another folder with root=… or MEDLAB_DATA."
        ) from error


@contextlib.contextmanager
def _alone(part: Path, url: str) -> Iterator[None]:
    """Hold the lock of a partial file; freed by the system if this process dies."""
    lock = part.with_name(part.name + ".lock")
    told = False
    while True:
        with _disk(part, url):
            file = open(lock, "ab")  # noqa: SIM115 (closed below, after the caller's work)
        if _try_lock(file) and _same_file(file, lock):
            break
        file.close()
        if not told:
            print(f"waiting: another process is fetching {part.stem}", file=sys.stderr)
            told = True
        time.sleep(0.1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps an open file; it is empty and harmless
            lock.unlink()
        file.close()


def _try_lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks (some network drives) must not stop the lesson.
        return error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
    return True


def _same_file(file, path: Path) -> bool:
    """False if `path` was removed, or made anew, between opening and locking it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _collect(
    url: str,
    part: Path,
    progress: bool | None,
    attempts: int,
    timeout: tuple[float, float],
    pause: float,
    *,
    blind: bool,
) -> bool:
    """Attempt until `part` is complete. True if bytes of different attempts were joined.

    `blind`: also go on where the server names no edition, so that nothing but the hash can tell
    whether the file has changed in between.
    """
    import requests

    failures = 0
    for _ in range(20 * attempts):  # even a server that sends one byte at a time comes to an end
        before = part.stat().st_size if part.exists() else 0
        try:
            with requests.Session() as session:
                return _attempt(session, url, part, progress, timeout, blind)
        except _Again as error:
            cause, reason, wait = error, str(error), error.wait
        except requests.ConnectTimeout as error:
            cause, reason, wait = error, f"no answer within {timeout[0]:g} s", None
        except requests.ReadTimeout as error:
            cause, reason, wait = error, f"the server was silent for {timeout[1]:g} s", None
        except requests.ConnectionError as error:
            cause, reason, wait = error, "no connection to the server", None
        except requests.RequestException as error:
            raise DownloadError(f"{url} cannot be fetched: {error}") from error
        grown = part.exists() and part.stat().st_size > before
        failures = 1 if grown else failures + 1
        if failures >= attempts:
            break
        time.sleep(min(30.0, pause * 2 ** (failures - 1) if wait is None else wait))
    kept = part.stat().st_size if part.exists() else 0
    raise DownloadError(
        f"{url} could not be fetched: {reason}. {failures} attempts in a row brought nothing new. "
        + (f"{_size(kept)} are kept, and loading again goes on from there. " if kept else "")
        + "Check the network, or put the file into the folder by hand (see the card's url)."
    ) from cause


def _attempt(
    session: requests.Session,
    url: str,
    part: Path,
    progress: bool | None,
    timeout: tuple[float, float],
    blind: bool,
) -> bool:
    """One request. Returns True if it continued an earlier one; raises `_Again` to be retried."""
    have = part.stat().st_size if part.exists() else 0
    note = _read_note(part, url)
    # Compression in transit would make byte positions meaningless.
    headers = {"Accept-Encoding": "identity"}
    if have and note is not None and (note["edition"] or blind):
        headers["Range"] = f"bytes={have}-"
        if note["edition"]:
            headers["If-Range"] = note["edition"]
    else:
        have = 0
    with session.get(url, headers=headers, stream=True, timeout=timeout) as reply:
        if reply.status_code == 416 and have:
            if _total(reply) == have:
                return True
            _forget(part)
            raise _Again("the partial file did not fit the server's file")
        _refuse_status(reply, url)
        if reply.status_code == 206:
            start, total = _content_range(reply)
            if start != have:
                _forget(part)
                raise _Again("the server sent another range than asked for")
        else:
            have, total = 0, _length(reply)
        with _disk(part, url):
            if total is not None and shutil.disk_usage(part.parent).free < total - have:
                raise OSError(errno.ENOSPC, "No space left on device")
            _note(part).write_text(json.dumps({"url": url, "edition": _edition(reply)}))
        _write(reply, part, have, total, progress, url, silence=timeout[1])
    return have > 0


def _write(
    reply, part: Path, have: int, total: int | None, progress, url: str, *, silence: float
) -> None:
    from tqdm import tqdm

    shown = os.environ.get("MEDLAB_PROGRESS", "1") != "0" if progress is None else progress
    with (
        _disk(part, url),
        open(part, "r+b" if have else "wb") as file,
        tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=not shown,
        ) as bar,
    ):
        file.seek(have)
        for chunk in _chunks(reply, silence):
            file.write(chunk)
            bar.update(len(chunk))
            if total is not None and file.tell() > total:
                raise _Again("the server sent more than it had announced")
        file.flush()
        os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and size != total:
        if size > total:
            _forget(part)
        raise _Again(f"the connection ended after {_size(size)} of {_size(total)}")


def _chunks(reply, silence: float) -> Iterator[bytes]:
    # Kept apart so that a broken connection (an OSError in requests) is not taken for the disk's.
    import requests
    from urllib3.exceptions import ReadTimeoutError

    try:
        yield from reply.iter_content(CHUNK)
    except requests.RequestException as error:
        if error.args and isinstance(error.args[0], ReadTimeoutError):
            raise _Again(f"the server was silent for {silence:g} s") from error
        raise _Again("the connection broke off") from error


def _refuse_status(reply, url: str) -> None:
    status = reply.status_code
    if status in (200, 206):
        return
    if status in _RETRY_STATUS:
        wait = reply.headers.get("Retry-After", "")
        raise _Again(
            f"the server answered {status} {reply.reason}",
            wait=float(wait) if wait.isdigit() else None,
        )
    reason = "there is no such file" if status in (404, 410) else "the server refuses to send it"
    raise DownloadError(
        f"{url}: {reason} (answer {status} {reply.reason}). If MEDLAB_MIRROR is set, check it; "
        "otherwise look at the card's url for where the file is now."
    )


def _read_note(part: Path, url: str) -> dict | None:
    """The note of a partial file if it belongs to this address, else None."""
    try:
        note = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return None
    good = isinstance(note, dict) and note.get("url") == url and "edition" in note
    return note if good else None


def _edition(reply) -> str:
    """What names this edition of the file for If-Range; a weak ETag may not be used for that."""
    tag = reply.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else reply.headers.get("Last-Modified", "")


def _content_range(reply) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _total(reply) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", reply.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _length(reply) -> int | None:
    length = reply.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e5 else f"{n} bytes"
