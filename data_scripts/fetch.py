"""Bring real data sets onto this computer, before a class or a journey without network.

    python data_scripts/fetch.py --list
    python data_scripts/fetch.py pneumoniamnist breastmnist
    python data_scripts/fetch.py pathmnist --size 64 --root ~/data
    python data_scripts/fetch.py hippocampus

Files land where `medlab.load` looks for them: in --root, else in MEDLAB_DATA, else in the user's
cache. Every file is checked against its official hash, and a download that breaks off leaves
nothing. MEDLAB_MIRROR names another web folder that holds the files. Sets that nobody offers with a
hash (nuclei, lung_nodules) are not fetched: named here, they are found, or it is said how to get
them and where to put them.
"""

from __future__ import annotations

import argparse
import sys

from medlab.datasets import bring, card, cards, load
from medlab.errors import DataError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="names of sets, or 'all' that are fetched")
    parser.add_argument("--list", action="store_true", help="show all sets and stop")
    parser.add_argument("--size", type=int, default=28, help="edge length in pixels; default 28")
    parser.add_argument("--root", help="data folder")
    parser.add_argument("--no-verify", action="store_true", help="accept unofficial files")
    options = parser.parse_args(arguments)
    if options.list:
        print(cards().to_string(index=False))
        return 0
    if not options.names:
        parser.error("name at least one set, or --list")
    where = {"root": options.root, "verify": False if options.no_verify else None}
    everything = [name for name in cards()["name"] if card(name).md5]
    names = everything if options.names == ["all"] else options.names
    failed = 0
    for name in names:
        try:
            about = card(name)
            if about.simulated:
                raise DataError(
                    f"{name} is simulated, nothing to fetch: see data_scripts/simulate_cohort.py"
                )
            if ".npz" in about.url:  # a file of MedMNIST
                path, about = bring(about.name, size=options.size, **where)
                got = f"{path} ({path.stat().st_size / 1e6:.1f} MB, {about.licence})"
            else:
                got = f"{len(load(about.name, **where))} images ({about.licence})"
        except DataError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed += 1
        else:
            print(f"{name}: {got}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
