"""Hostile and damaged archives: what medlab and other unpackers make of each.

    python benchmarks/archives.py [--kinds TEXT] [--each]

The archives are those of tests/hostile_archives.py. Each is given to each unpacker in a process of
its own, with an empty target in a fresh folder whose other files are compared afterwards, content
and metadata. A process may take 20 s of processor, 1 GiB more memory than it started
with, 400 MiB of disk.

    refused      an error, and the target is still empty
    as listed    exactly the files that a careful reader takes from it (of a harmless archive)
    left half    an error, and some files lie in the target
    otherwise    done without a word, but the target holds other files than listed, links, devices
    outside      something beside the target was changed
    exploded     too much time, memory or disk

The last two are what hurts most, "otherwise" is wrong data. --each prints every archive. Needs
Linux. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pooch
import torchvision
from torchvision.datasets.utils import extract_archive

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_scripts.unpack import unpack
from tests.hostile_archives import KINDS, Kind, sandbox, surroundings, verdict

SECONDS, PATIENCE, MEMORY, DISK = 20, 200, 2**30, 400 * 2**20
HURTS = ("refused", "as listed", "left half", "otherwise", "outside", "exploded")


def library(archive: Path, target: Path) -> None:
    """Python's own: the `data` filter for tar, `extractall` for zip."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as box:
            box.extractall(target)
    else:
        with tarfile.open(archive) as box:
            box.extractall(target, filter="data")


def by_pooch(archive: Path, target: Path) -> None:
    """As a file that has just been fetched."""
    kind = pooch.Unzip if archive.suffix == ".zip" else pooch.Untar
    shown = os.path.relpath(target, archive.parent)
    kind(extract_dir=shown)(str(archive), "download", None)


TOOLS: dict[str, Callable[[Path, Path], object]] = {
    "data_scripts/unpack.py": unpack,
    "Python, data filter": library,
    "shutil.unpack_archive": shutil.unpack_archive,
    f"torchvision {torchvision.__version__.partition('+')[0]}": extract_archive,
    f"pooch {pooch.__version__.lstrip('v')}": by_pooch,
}


def tried(tool: Callable[[Path, Path], object], kind: Kind, root: Path) -> str:
    """What one unpacker did with one archive, in a sandbox at `root`."""
    target = sandbox(root)
    target.mkdir()
    archive = root / f"archive{kind.suffix}"
    archive.write_bytes(kind.build(root))
    before = surroundings(root)
    child = os.fork()
    if not child:
        _limited(tool, archive, target)
    status, start = None, time.monotonic()
    while status is None:
        time.sleep(0.02)
        done, how = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(how)
        elif time.monotonic() - start > PATIENCE or _taken(root) > DISK:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            status = -signal.SIGKILL
    if surroundings(root) != before:
        return "outside"
    if status not in (0, 1):
        return "exploded"
    return verdict(root, before, kind, raised=status == 1)


def _limited(tool: Callable[[Path, Path], object], archive: Path, target: Path) -> None:
    """Run it in this process, which ends: 0 done, 1 an error, 2 out of memory or disk."""
    status = 0
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (DISK, DISK))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.chdir(target.parent)
        warnings.simplefilter("ignore")
        tool(archive, target)
    except MemoryError:
        status = 2
    except Exception as error:  # noqa: BLE001 - whatever a library raises is a refusal
        cause: BaseException | None = error
        while cause:
            full = isinstance(cause, OSError) and cause.errno in (27, 28)
            status = max(status, 2 if full or isinstance(cause, MemoryError) else 1)
            cause = cause.__cause__ or cause.__context__
    os._exit(status)


def _taken(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root / "home"):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:  # it may just have gone, or lie too deep
                continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", default="", help="only those whose name holds this text")
    parser.add_argument("--each", action="store_true", help="show every archive")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.kinds in kind.name]
    shape = "zip and tar archives" if not options.kinds else f"archives with {options.kinds!r}"
    print(f"{len(kinds)} {shape}, Python {platform.python_version()}")
    rows = {}
    for kind in kinds:
        rows[kind.name] = {}
        for name, tool in TOOLS.items():
            with tempfile.TemporaryDirectory(prefix="archives-") as folder:
                rows[kind.name][name] = tried(tool, kind, Path(folder).resolve())
        if options.each:
            print(f"{kind.name!r:60}", *(f"{v:10}" for v in rows[kind.name].values()), flush=True)
    hostile = [kind.name for kind in kinds if kind.safe is None]
    result = {}
    for title, names in (("to be refused", hostile), ("all", list(rows))):
        counts = {tool: Counter(rows[name][tool] for name in names) for tool in TOOLS}
        table = pd.DataFrame(counts).T.reindex(columns=HURTS).fillna(0).astype(int)
        print(f"\n{len(names)} archives, {title}\n{table.to_string()}")
        result[title] = {tool: dict(found) for tool, found in counts.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
