"""Write a simulated chest CT study as a DICOM series, to practise reading one.

    python data_scripts/simulated_study.py my_study --number 104

The folder then holds one file a slice, named out of order as archives do, and my_study.json beside
it says who was simulated, and with which nodules. `medlab.dicom.read_series("my_study")` gives the
volume back. The participants are those of `medlab.simulate.screening_study`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medlab.dicom import Volume


def chest_study(
    number: int = 0, seed: int = 0, *, size: int = 256, slice_mm: float = 5.0, **scanner: float
) -> tuple[Volume, dict]:
    """The low-dose CT of a simulated screening participant, and what is known of it.

    Args:
        number: which participant.
        seed: another seed, other participants.
        size: rows and columns of a field of 320 mm.
        slice_mm: distance and thickness of slices.
        **scanner: as for `screening_study`.

    Returns:
        The volume, and {"number", "seed", "facts", "nodules"}: what Brock's model asks of the
        participant, and a dict a nodule, its centre in patient coordinates, mm.
    """
    # Imported here, so that --help and a wrong option answer at once.
    from medlab.simulate import screening_study

    study = screening_study(number, seed, size=size, slice_mm=slice_mm, **scanner)
    columns = {key: values.tolist() for key, values in study.nodules.items()}
    nodules = [dict(zip(columns, one, strict=True)) for one in zip(*columns.values(), strict=True)]
    truth = {"number": number, "seed": seed, "facts": study.facts, "nodules": nodules}
    return study.volume, truth


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Write a simulated chest CT study as a DICOM series.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where to write; must hold no DICOM files yet")
    parser.add_argument("--number", type=int, default=0, help="which participant")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other participants")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a slice")
    parser.add_argument("--slice-mm", type=float, default=5.0, help="distance of slices, mm")
    parser.add_argument("--photons", type=float, help="dose; the hospital's own if not given")
    parser.add_argument("--patient", help="PatientID; SIM- and the number if not given")
    options = parser.parse_args(arguments)
    if options.folder.exists() and not options.folder.is_dir():
        parser.error(f"{options.folder} is a file, a folder is needed")
    from medlab.dicom import write_series
    from medlab.errors import MedlabError

    scanner = {} if options.photons is None else {"photons": options.photons}
    try:
        volume, truth = chest_study(
            options.number, options.seed, size=options.size, slice_mm=options.slice_mm, **scanner
        )
        patient = f"SIM-{options.number:04d}" if options.patient is None else options.patient
        files = write_series(volume, options.folder, patient_id=patient, seed=options.seed)
        text = json.dumps(truth, indent=1)
        beside = options.folder.with_name(options.folder.name + ".json")
        beside.write_text(text + "\n", encoding="utf-8")
    except (MedlabError, OSError) as error:
        print(f"simulated_study: {error}", file=sys.stderr)
        return 1
    print(f"{len(files)} slices of {volume!r} written to {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
