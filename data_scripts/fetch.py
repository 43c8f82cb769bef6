"""Bring real data sets onto this computer, before a class or a journey without network.

    python data_scripts/fetch.py --list
    python data_scripts/fetch.py pneumoniamnist breastmnist
    python data_scripts/fetch.py pathmnist --size 64 --root ~/data

Files land where `medlab.load` looks for them: in --root, else in MEDLAB_DATA, else in the user's
cache. An interrupted download goes on where it stopped; every file is checked against its official
hash. MEDLAB_MIRROR names another web folder that holds the .npz files.
"""

from __future__ import annotations

import argparse
import sys

from medlab.datasets import cards, medmnist
from medlab.datasets.medmnist_table import SETS
from medlab.datasets.registry import find
from medlab.errors import DataError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="names of sets, or 'all'")
    parser.add_argument("--list", action="store_true", help="show all sets and stop")
    parser.add_argument("--size", type=int, help="edge length in pixels; default 28")
    parser.add_argument("--root", help="data folder")
    parser.add_argument("--no-verify", action="store_true", help="accept unofficial files")
    options = parser.parse_args(arguments)
    if options.list:
        print(cards())
        return 0
    if not options.names:
        parser.error("name at least one set, or --list")
    failed = 0
    for name in list(SETS) if options.names == ["all"] else options.names:
        try:
            name = find(name)
            if name not in SETS:
                raise DataError(
                    f"{name} is simulated, nothing to fetch: see data_scripts/simulate_cohort.py"
                )
            path, card = medmnist.bring(
                name,
                root=options.root,
                size=options.size or min(medmnist.sizes(name)),
                verify=False if options.no_verify else None,
            )
        except DataError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed += 1
        else:
            print(f"{name}: {path} ({path.stat().st_size / 1e6:.1f} MB, {card.licence})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
