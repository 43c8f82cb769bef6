"""Bring one file from the network: tried again where that may help, checked, put in place whole."""

import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from medlab.cohort import DataCard
from medlab.errors import DataError, DownloadError, HashMismatch, atomic_write, progress

_ATTEMPTS = 4
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and of silence while reading
_PAUSE = 1.0  # seconds before the second attempt; doubled each time


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder that holds data sets: `root`, else MEDLAB_DATA, else the user's cache folder."""
    import pooch

    return Path(root or os.environ.get("MEDLAB_DATA") or pooch.os_cache("medlab")).expanduser()


def provide(
    path: str | os.PathLike,
    card: DataCard,
    *,
    root: str | os.PathLike | None = None,
    download: bool = True,
    verify: bool | None = None,
) -> tuple[Path, DataCard]:
    """Make sure that the file of a set is on disk, fetched from the card's url if it must be.

    Nobody ever sees half a file, or a wrong one, under `path`, which counts from the data folder.
    For the options and errors see `medlab.load`. The card gets a remark if it is not the official
    file.
    """
    path = data_root(root) / path
    if path.is_file():
        remark = _check(path, card.md5, verify, str(path))
    elif not download:
        raise DataError(
            f"{card.name} is not at {path}, and download=False. Put {card.url} there, or name "
            "another folder with root=… or MEDLAB_DATA."
        )
    else:
        mirror = os.environ.get("MEDLAB_MIRROR")
        url = f"{mirror.rstrip('/')}/{path.name}" if mirror else card.url
        with atomic_write(path, error=DownloadError) as part:
            _receive(url, part, f"put the file at {path} by hand")
            remark = _check(part, card.md5, verify, url)
    return path, replace(card, faults=(remark, *card.faults)) if remark else card


def _check(path: Path, md5: str, verify: bool | None, origin: str) -> str:
    """Nothing if the file has its card's MD5, else a warning, and a remark for the card."""
    import pooch

    got = pooch.file_hash(str(path), alg="md5")
    if got == md5:
        return ""
    fact = f"{origin} is not the official file: its MD5 is {got}, the official one is {md5}"
    if os.environ.get("MEDLAB_VERIFY", "1") != "0" if verify is None else verify:
        raise HashMismatch(
            f"{fact}. Perhaps a network's log-in page came instead: delete it and load again, or, "
            "if you know this edition, pass verify=False."
        )
    warnings.warn(f"{fact}. It is used all the same: verification is off.", stacklevel=5)
    return f"This copy is not the official file (MD5 {got}, official {md5})."


def _receive(url: str, part: Path, otherwise: str) -> None:
    """Download `url` to `part`, complete; each attempt starts from the beginning."""
    import pooch
    import requests

    headers = {"Accept-Encoding": "identity"}  # what a server compresses all the same is unpacked
    options: dict[str, Any] = {"chunk_size": 1 << 16, "timeout": _TIMEOUT, "headers": headers}
    for attempt in range(1, _ATTEMPTS + 1):
        # A bar of its own: pooch's is red text in a notebook. pooch sets its total.
        look: dict = {"unit": "B", "unit_scale": True, "desc": Path(url).name, "leave": True}
        bar = progress(total=1, **look)
        try:
            return pooch.HTTPDownloader(progressbar=bar, **options)(url, str(part), None)
        except (requests.RequestException, ValueError) as error:  # ValueError: a bad length
            reply = getattr(error, "response", None)
            refused = reply is not None and reply.status_code in (401, 403, 404, 410)
            if refused or attempt == _ATTEMPTS:
                hint = f"Check the network, and MEDLAB_MIRROR if set, or {otherwise}."
                raise DownloadError(f"{url} could not be fetched: {error}. {hint}") from error
            time.sleep(_PAUSE * 2 ** (attempt - 1))
