"""Unpack archives that someone else made, each whole into a folder of its own or not at all.

    python data_scripts/unpack.py images.zip
    python data_scripts/unpack.py Task04_Hippocampus.tar other.tar.gz --out ~/data
    python data_scripts/unpack.py huge.tar.xz --max-gb 500

Each lands in a new folder called as the archive, without its ending, in --out or where you are.
What leads outside that folder, holds links, unpacks to far more than its size or is damaged is
refused, and nothing is left of it: see `medlab.datasets.unpack`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from medlab.datasets import unpack
from medlab.errors import DataError


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
