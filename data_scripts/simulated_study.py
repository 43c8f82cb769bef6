"""Write a simulated chest CT study as a DICOM series, to practise reading one.

    python data_scripts/simulated_study.py my_study --seed 3 --nodule 12

The folder then holds one file a slice, named out of order as archives do, and my_study.json beside
it says what was simulated. `medlab.dicom.read_series("my_study")` gives the volume back.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medlab.dicom import Volume

KERNELS = ("ramp", "sharp", "soft", "standard")


def chest_study(
    seed: int = 0,
    *,
    slices: int = 60,
    size: int = 256,
    field_mm: float = 400.0,
    slice_mm: float = 5.0,
    nodule_mm: float = 0.0,
    photons: float = 2e5,
    kernel: str = "standard",
) -> tuple[Volume, dict]:
    """A simulated chest CT as a volume in patient coordinates, and what is known of it.

    Args:
        seed: another seed, another patient.
        slices: how many, from feet to head.
        size: rows and columns.
        field_mm: side of the square field of view.
        slice_mm: distance of slices.
        nodule_mm: diameter of a nodule in the lung, 0 for none.
        photons: dose, photons per detector element and view.
        kernel: reconstruction kernel, one of `medlab.simulate.ct.KERNELS`.

    Returns:
        The volume, and {"seed", "kernel", "photons", "nodule_mm", "nodule_lps_mm"}: the nodule's
        centre in patient coordinates, None without one.
    """
    # Imported here, so that --help and a wrong option answer at once.
    from medlab.dicom import Volume
    from medlab.simulate.ct import chest_ct_volume

    pixel = field_mm / size
    ct = chest_ct_volume(
        seed,
        shape=(slices, size, size),
        spacing=(slice_mm, pixel, pixel),
        nodule_mm=nodule_mm,
        photons=photons,
        kernel=kernel,
    )
    volume = Volume(voxels=ct.hu.clamp(-1024, 3071), spacing=ct.spacing, origin=ct.origin)
    centre = None
    if ct.nodule is not None:
        steps = zip(ct.origin, ct.nodule[::-1], ct.spacing[::-1], strict=True)
        centre = [round(start + index * step, 3) for start, index, step in steps]
    truth = {"seed": seed, "kernel": kernel, "photons": photons, "nodule_mm": nodule_mm}
    return volume, {**truth, "nodule_lps_mm": centre}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Write a simulated chest CT study as a DICOM series.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where to write; must hold no DICOM files yet")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another patient")
    parser.add_argument("--slices", type=int, default=60, help="number of slices")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a slice")
    parser.add_argument("--field", type=float, default=400.0, help="field of view, mm")
    parser.add_argument("--slice-mm", type=float, default=5.0, help="distance of slices, mm")
    parser.add_argument("--nodule", type=float, default=0.0, help="nodule diameter, mm; 0 none")
    parser.add_argument("--photons", type=float, default=2e5, help="dose per detector element")
    parser.add_argument("--kernel", choices=KERNELS, default="standard")
    parser.add_argument("--patient", default=None, help="PatientID; SIM- and the seed if not given")
    options = parser.parse_args(arguments)
    if options.folder.exists() and not options.folder.is_dir():
        parser.error(f"{options.folder} is a file, a folder is needed")
    if not options.field > 0:
        parser.error(f"--field must be positive, got {options.field:g}")
    if options.size < 8 or options.slices < 8:
        parser.error("--size and --slices must be at least 8")
    if options.size > 1024 or options.slices > 1000:
        parser.error("--size up to 1024 and --slices up to 1000: more would not fit into memory")
    from medlab.dicom import write_series
    from medlab.errors import MedlabError

    try:
        volume, truth = chest_study(
            options.seed,
            slices=options.slices,
            size=options.size,
            field_mm=options.field,
            slice_mm=options.slice_mm,
            nodule_mm=options.nodule,
            photons=options.photons,
            kernel=options.kernel,
        )
        files = write_series(
            volume,
            options.folder,
            patient_id=f"SIM-{options.seed:04d}" if options.patient is None else options.patient,
            seed=options.seed,
        )
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
