"""Simulated cohorts on disk: made once, read back memory-mapped, never half and never stale."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import inspect
import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError

__all__ = ["load_simulated", "read_cohort", "write_cohort"]

_LAYOUT = 1
_FIELDS = ("images", "labels", "masks", "patients", "sites", "files", "official")
_TENSORS = ("images", "labels", "masks")
_CARD = "cohort.json"


class Simulated(Protocol):
    """What the cache needs to know of a simulated cohort."""

    make: Callable[..., Cohort]
    version: str
    defaults: Mapping[str, Any]
    card: DataCard


def load_simulated(
    name: str, simulated: Simulated, *, root: Path, options: Mapping[str, Any]
) -> Cohort:
    """The simulated cohort `name`, from the cache under `root` or made now and put there.

    The folder's name holds name, version, n and seed, and a hash of all options and of the
    simulators' source, so that a cohort is never read back after the code that made it changed.

    Args:
        name: its name in the registry.
        simulated: how to make it.
        root: data folder; if nothing can be written there the cohort is made in memory.
        options: options of `simulated.make` other than its defaults.

    Raises:
        DataError: an option that the cohort does not have.
    """
    options = _checked_options(name, simulated, options)
    if not all(map(_is_plain, options.values())):
        return simulated.make(**options)  # a tensor, say, whose value no folder name can hold
    folder = root / "simulated" / _key(name, simulated.version, options)
    if os.path.lexists(folder):
        try:
            return read_cohort(folder)
        except DataError as error:
            warnings.warn(f"{error} It is made again.", stacklevel=4)
            with contextlib.suppress(OSError):
                _remove(folder)
    cohort = simulated.make(**options)
    try:
        write_cohort(cohort, folder)
        return read_cohort(folder)
    except DataError as error:
        warnings.warn(f"{error} It is used from memory.", stacklevel=4)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            warnings.warn(
                f"the disk is full, so {name} is not kept in {root} and will be made again next "
                "time.",
                stacklevel=4,
            )
    return cohort


def write_cohort(cohort: Cohort, folder: Path) -> None:
    """Write a cohort as .npy files beside a manifest, in one step.

    Everything is written into a temporary folder, which then gets its name; if another process was
    quicker, its folder stays.

    Args:
        cohort: any cohort.
        folder: does not exist yet.

    Raises:
        OSError: the folder cannot be written.
    """
    arrays, tensors = _arrays(cohort)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        table = {}
        for key, array in arrays.items():
            file = f"{key.replace('/', '-')}.npy"
            array = np.ascontiguousarray(array)
            with open(draft / file, "wb") as stream:
                np.save(stream, array, allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
            table[key] = {
                "file": file,
                "bytes": (draft / file).stat().st_size,
                "crc32": _checksum(draft / file),
                "tensor": key in tensors,
            }
        manifest = {
            "layout": _LAYOUT,
            "card": dataclasses.asdict(cohort.card),
            "spacing": cohort.spacing,
            "arrays": table,
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        seal = blake2b(text.encode(), digest_size=16).hexdigest()
        (draft / _CARD).write_text(f"{text}\n{seal}\n", encoding="utf-8")
        draft.chmod(0o755)
        try:
            os.rename(draft, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read_cohort(folder: Path) -> Cohort:
    """Read what `write_cohort` wrote; arrays are memory-mapped, changes stay in memory.

    Args:
        folder: the folder.

    Returns:
        The cohort, equal in every byte to the one written.

    Raises:
        DataError: a file is missing, of another size, or its checksum is wrong; named.
    """
    manifest = _manifest(folder / _CARD)
    arrays = {
        key: _array(folder / entry["file"], entry) for key, entry in manifest["arrays"].items()
    }
    arrays = {
        key: torch.from_numpy(value) if manifest["arrays"][key]["tensor"] else value
        for key, value in arrays.items()
    }
    card = manifest["card"]
    for field in ("classes", "faults"):
        card[field] = tuple(card[field])
    if card["value_range"] is not None:
        card["value_range"] = tuple(card["value_range"])
    boxes = None
    if "boxes" in arrays:
        boxes = list(arrays.pop("boxes").split(arrays.pop("boxes_per_image").tolist()))
    extras = {key[7:]: arrays.pop(key) for key in list(arrays) if key.startswith("extras/")}
    return Cohort(
        card=DataCard(**card),
        boxes=boxes,
        extras=extras,
        spacing=None if manifest["spacing"] is None else tuple(manifest["spacing"]),
        **arrays,
    )


def _checked_options(name: str, simulated: Simulated, options: Mapping) -> dict[str, Any]:
    parameters = inspect.signature(simulated.make).parameters
    known = dict.fromkeys(simulated.defaults)
    known |= {key: None for key, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    if strange := [key for key in options if key not in known]:
        raise DataError(
            f"{name} has no option {', '.join(map(repr, strange))}; it has {', '.join(known)}"
        )
    written = {
        key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty
    }
    return {**written, **simulated.defaults, **options}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _key(name: str, version: str, options: Mapping[str, Any]) -> str:
    # repr keeps apart what JSON would not, such as 1 and True, or 1 and 1.0.
    text = "\n".join(f"{key}={options[key]!r}" for key in sorted(options))
    tail = blake2b(f"{_LAYOUT}\n{text}\n{_source_hash()}".encode(), digest_size=6).hexdigest()
    shown = [f"{key}{options[key]}" for key in ("n", "seed") if isinstance(options.get(key), int)]
    return "-".join([name, f"v{version}", *shown, tail])


def _source_hash() -> str:
    """Hash of the simulators' code: a forgotten version number must not serve old pixels."""
    package = Path(__file__).parents[1]
    seen = blake2b(digest_size=8)
    for file in [package / "cohort.py", *sorted((package / "simulate").rglob("*.py"))]:
        seen.update(file.name.encode() + file.read_bytes())
    return seen.hexdigest()


def _arrays(cohort: Cohort) -> tuple[dict[str, np.ndarray], set[str]]:
    """The cohort's arrays by name, and which of them were tensors."""
    found: dict[str, Any] = {
        key: getattr(cohort, key) for key in _FIELDS if getattr(cohort, key) is not None
    }
    if cohort.boxes is not None:
        found["boxes"] = torch.cat([*cohort.boxes, torch.zeros(0, 4)])
        found["boxes_per_image"] = torch.tensor([len(b) for b in cohort.boxes], dtype=torch.int64)
    found |= {f"extras/{key}": value for key, value in cohort.extras.items()}
    tensors = {key for key, value in found.items() if isinstance(value, Tensor)}
    arrays = {
        key: value.detach().cpu().numpy() if key in tensors else np.asarray(value)
        for key, value in found.items()
    }
    return arrays, tensors


def _manifest(path: Path) -> dict:
    try:
        text, _, seal = path.read_text(encoding="utf-8").rstrip("\n").rpartition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} of a cached cohort cannot be read: {error}.") from error
    if blake2b(text.encode(), digest_size=16).hexdigest() != seal:
        raise DataError(f"{path} of a cached cohort is damaged.")
    manifest = json.loads(text)
    if manifest["layout"] != _LAYOUT:
        raise DataError(f"{path} was written in another layout ({manifest['layout']}).")
    return manifest


def _array(path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    try:
        if path.stat().st_size != entry["bytes"]:
            raise DataError(f"{path} of a cached cohort is damaged: its size is wrong.")
        if _checksum(path) != entry["crc32"]:
            raise DataError(f"{path} of a cached cohort is damaged: its checksum is wrong.")
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} of a cached cohort cannot be read: {error}.") from error


def _checksum(path: Path) -> int:
    """Of the whole file, header included; 1 GB takes about a second."""
    return zlib.crc32(np.memmap(path, dtype=np.uint8, mode="r"))


def _remove(folder: Path) -> None:
    """Take a folder out of sight at once, so that nobody reads it while it is being deleted."""
    grave = Path(tempfile.mkdtemp(prefix=".broken-", dir=folder.parent))
    try:
        os.rename(folder, grave / folder.name)
    finally:
        shutil.rmtree(grave, ignore_errors=True)
