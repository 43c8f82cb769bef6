"""Bring one file from the network: tried again where that may help, checked, put in place whole."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from pathlib import Path

from medlab.cohort import DataCard
from medlab.errors import DataError, DownloadError, HashMismatch, atomic_write

_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _Again(Exception):
    """The attempt failed in a way that another attempt may cure; the text says how."""


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder that holds data sets: `root`, else MEDLAB_DATA, else the user's cache folder."""
    root = root or os.environ.get("MEDLAB_DATA")
    if root:
        return Path(root).expanduser()
    import pooch

    return Path(pooch.os_cache("medlab"))


def shows_progress(progress: bool | None) -> bool:
    """Whether to show a progress bar: as asked, else yes unless MEDLAB_PROGRESS is 0."""
    return os.environ.get("MEDLAB_PROGRESS", "1") != "0" if progress is None else progress


def must_verify(verify: bool | None = None) -> bool:
    """Whether a wrong hash is refused: `verify`, else True unless MEDLAB_VERIFY is 0."""
    if verify is not None:
        return verify
    return os.environ.get("MEDLAB_VERIFY", "1").strip().lower() not in ("0", "false", "no", "off")


def check_hash(path: Path, md5: str, *, verify: bool | None = None) -> str:
    """Nothing if the file has its card's MD5, else a sentence that says it has not, and a warning.

    MD5 tells an accidental change or another edition; the makers publish nothing stronger.

    Raises:
        HashMismatch: another hash, unless `verify` says no; both are shown.
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
    warnings.warn(f"{fact} It is used all the same: verification is off.", stacklevel=6)
    return f"This copy is not the official file (MD5 {got}, official {md5})."


def provide(path: Path, card: DataCard, *, download: bool, verify: bool | None) -> DataCard:
    """Make sure that the file of a set is at `path`, fetched from the card's url if it must be.

    MEDLAB_MIRROR names another folder on the web. Returns the card, with a remark among its faults
    if the file is not the official one.

    Raises:
        DataError: not there and not to be fetched; as `fetch` and `check_hash`.
    """
    if not path.is_file():
        if not download:
            raise DataError(
                f"{card.name} is not at {path}, and download=False. Put {path.name} there (from "
                f"{card.url}), name another folder with root=… or MEDLAB_DATA, or allow the "
                "download."
            )
        mirror = os.environ.get("MEDLAB_MIRROR")
        url = f"{mirror.rstrip('/')}/{path.name}" if mirror else card.url
        fetch(url, path, md5=card.md5, verify=verify)
    remark = check_hash(path, card.md5, verify=verify)
    return dataclasses.replace(card, faults=(remark, *card.faults)) if remark else card


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
    """Download `url` to `path`; nobody ever sees half a file, or a wrong one, under that name.

    Args:
        url: http or https address.
        path: where the file shall stand; missing folders are made.
        md5: official hash; None takes what comes, as long as it is complete.
        verify: refuse a wrong hash (default; see `must_verify`). If off, the hash is not looked at.
        progress: show a progress bar; default yes, unless MEDLAB_PROGRESS is 0.
        attempts: how often to try, ≥ 1; each starts from the beginning.
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
    for attempt in range(max(1, attempts)):
        time.sleep(min(30.0, pause * 2 ** (attempt - 1)) if attempt else 0)
        try:
            with atomic_write(path, error=DownloadError) as part:
                _receive(url, part, timeout, shows_progress(progress))
                if md5 is not None and must_verify(verify) and _md5(part) != md5.lower():
                    raise HashMismatch(
                        f"{url} sent a file that is not the official one: its MD5 is {_md5(part)}, "
                        f"the official one is {md5}.{_web_page(part)} Nothing was kept. Fetch "
                        f"{path.name} by other means and put it at {path}, or, if you know this "
                        "edition, pass verify=False."
                    )
            return path
        except _Again as error:
            reason = error
    raise DownloadError(
        f"{url} could not be fetched in {attempts} attempts: {reason}. Check the network, or put "
        f"the file at {path} by hand (see the card's url)."
    ) from reason


def _receive(url: str, part: Path, timeout: tuple[float, float], progress: bool) -> None:
    """One attempt; raises `_Again` where another may do better. Disk errors stay OSError."""
    import pooch
    import requests

    # Uncompressed, please; what a server compresses all the same is unpacked.
    bring = pooch.HTTPDownloader(
        progressbar=progress,
        chunk_size=1 << 16,
        timeout=timeout,
        headers={"Accept-Encoding": "identity"},
    )
    try:
        bring(url, str(part), None)
    except (requests.RequestException, ValueError) as error:  # ValueError: a length of no number
        reply = getattr(error, "response", None)
        if reply is not None and reply.status_code in _RETRY_STATUS:
            raise _Again(str(error)) from error
        if "timed out" in str(error):
            raise _Again(f"no answer, or silence for {timeout[1]:g} s") from error
        exceptions = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
        if isinstance(error, exceptions):
            raise _Again("no connection to the server, or it broke off") from error
        raise DownloadError(
            f"{url} cannot be fetched: {error}. If MEDLAB_MIRROR is set, check it; otherwise look "
            "at the card's url for where the file is now."
        ) from error


def _md5(path: Path) -> str:
    import pooch

    return pooch.file_hash(str(path), alg="md5")


def _web_page(path: Path) -> str:
    with open(path, "rb") as file:
        if file.read(64).lstrip().startswith(b"<"):
            return " It begins like a web page, perhaps the log-in page of a network."
    return ""
