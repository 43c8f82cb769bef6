"""Simulated cohorts on disk: made once, one file each, never half and never stale."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
import zipfile
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medlab.cohort import Cohort, DataCard
from medlab.datasets._files import reading
from medlab.errors import DataError, atomic_write

if TYPE_CHECKING:
    from medlab.simulate import Simulated


def load_simulated(name: str, simulated: Simulated, root: Path, options: dict[str, Any]) -> Cohort:
    """The simulated cohort `name`, from the cache under `root` or made now and put there.

    The file's name holds a hash of all options and of the simulators' source, so that a cohort is
    never read back after the code that made it changed. Where nothing can be written it is used
    from memory. A DataError names a damaged file, or an option that it does not have.
    """
    known = {k: p.default for k, p in inspect.signature(simulated.make).parameters.items()}
    if strange := ", ".join(options.keys() - known.keys()):
        raise DataError(f"{name} has no option {strange!r}; it has {', '.join(known)}")
    options = known | options
    path = root / "simulated" / f"{_key(name, simulated.card.version, options)}.pt"
    if path.exists():
        return _read(path)
    cohort = simulated.make(**options)
    fields = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(cohort).items()}
    try:
        with atomic_write(path) as part:
            torch.save(fields | {"card": dataclasses.asdict(cohort.card)}, part)
    except DataError as error:
        warnings.warn(f"{name} is not kept and will be made again: {error}", stacklevel=3)
    return cohort


def _read(path: Path) -> Cohort:
    """The cohort that was written there, equal in every byte; a DataError if it is damaged."""
    with reading(f"{path} is damaged: delete it and load again"):
        with zipfile.ZipFile(path) as archive:
            if name := archive.testzip():  # torch does not compare checksums
                raise ValueError(f"{name} has another checksum")
        fields = torch.load(path, weights_only=True)
        return Cohort(card=DataCard(**fields.pop("card")), **fields)


def _key(name: str, version: str, options: dict[str, Any]) -> str:
    # repr keeps apart what JSON would not, such as 1 and True, or 1 and 1.0.
    said = "\n".join(f"{key}={options[key]!r}" for key in sorted(options))
    tail = blake2b(f"{said}\n{_source_hash()}".encode(), digest_size=6).hexdigest()
    shown = [f"{key}{options[key]}" for key in ("n", "seed") if isinstance(options.get(key), int)]
    return "-".join([name, f"v{version}", *shown, tail])


@functools.cache
def _source_hash() -> str:
    """Hash of code and tables below: a forgotten version number must not serve old pixels."""
    package = Path(__file__).parents[1]
    made_by = ("cohort/*.py", "simulate/**/*.py", "simulate/*.json", "datasets/cache.py")
    rooms = [file for pattern in made_by for file in package.glob(pattern)]
    return blake2b(b"".join(file.read_bytes() for file in sorted(rooms)), digest_size=8).hexdigest()
