"""Simulated cohorts on disk: made once, one file each, never half and never stale."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import warnings
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medlab.cohort import Cohort, DataCard
from medlab.datasets.npz import Npz
from medlab.errors import DataError, atomic_write

if TYPE_CHECKING:
    from medlab.simulate import Simulated


def load_simulated(name: str, simulated: Simulated, root: Path, options: dict[str, Any]) -> Cohort:
    """The simulated cohort `name`, from the cache under `root` or made now and put there.

    The file's name holds a hash of all options and of the simulators' source, so that a cohort is
    never read back after the code that made it changed. Where nothing can be written it is used
    from memory. A DataError tells of an option that it does not have.
    """
    known = {key: p.default for key, p in inspect.signature(simulated.make).parameters.items()}
    for key, value in options.items():
        if key not in known or not isinstance(value, bool | int | float | str | None):
            kind, has = type(value).__name__, ", ".join(known)
            raise DataError(f"{name} has no option {key!r} of type {kind}; it has {has}")
    options = known | simulated.defaults | options
    path = root / "simulated" / f"{_key(name, simulated.version, options)}.npz"
    if path.exists():
        try:
            return read_cohort(path)
        except DataError as error:
            warnings.warn(f"a cached cohort is damaged and made again: {error}", stacklevel=3)
    cohort = simulated.make(**options)
    try:
        write_cohort(cohort, path)
    except DataError as error:
        warnings.warn(f"{name} is not kept and will be made again: {error}", stacklevel=3)
    return cohort


def write_cohort(cohort: Cohort, path: Path) -> None:
    """Write a cohort as one .npz file, whole or not at all; a DataError if it cannot be."""
    values = vars(cohort) | {f"extras/{key}": value for key, value in cohort.extras.items()}
    if cohort.boxes is not None:
        values["boxes"] = torch.cat([*cohort.boxes, torch.zeros(0, 4)])
        values["boxes_per_image"] = torch.tensor([len(b) for b in cohort.boxes], dtype=torch.int64)
    kinds = (Tensor, np.ndarray)
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in values.items() if isinstance(v, kinds)}
    tensors = [key for key in arrays if isinstance(values[key], Tensor)]
    facts = {"card": dataclasses.asdict(cohort.card), "spacing": cohort.spacing, "tensors": tensors}
    with atomic_write(path) as part, open(part, "wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)


def read_cohort(path: Path) -> Cohort:
    """The cohort that `write_cohort` wrote, equal in every byte; a DataError if it is damaged."""
    npz = Npz(path)
    facts = json.loads(str(npz.read("facts")))
    arrays: dict[str, Any] = {name: npz.read(name) for name in npz.names if name != "facts"}
    arrays |= {key: torch.from_numpy(arrays[key]) for key in facts["tensors"]}
    if "boxes" in arrays:
        arrays["boxes"] = list(arrays["boxes"].split(arrays.pop("boxes_per_image").tolist()))
    extras = {key[7:]: arrays.pop(key) for key in list(arrays) if key.startswith("extras/")}
    spacing = facts["spacing"] and tuple(facts["spacing"])
    return Cohort(card=DataCard(**facts["card"]), extras=extras, spacing=spacing, **arrays)


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
