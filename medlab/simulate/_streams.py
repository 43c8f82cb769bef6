"""What named cohorts share: checks, random numbers, work over the cores, the cohort made of it."""

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any

import numpy as np
import torch

from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, progress

Numbers = dict[str, Any]


def positive(**sizes: float) -> None:
    """Refuse lengths, doses and ranges that are not above 0, by their names."""
    for name, value in sizes.items():
        if not value > 0:
            raise DataError(f"{name} must be positive; got {value}")


def check_images(n: int, size: int, *, least: int, even: bool = True) -> None:
    """Refuse a number of images below 1, and a side not `least` … 512 pixels, or odd if `even`."""
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"n is the number of images and must be a whole number ≥ 1; got {n!r}")
    if not isinstance(size, Integral) or not least <= size <= 512 or (even and size % 2):
        kind = "an even" if even else "a whole"
        said = f"size is the side in pixels, {kind} number from {least} to 512; got {size!r}"
        raise DataError(said)


def stream(name: str, version: str, seed: int, *position: int) -> np.random.Generator:
    """The generator of one patient or image of a named cohort, whatever the cohort's size."""
    if not isinstance(seed, Integral) or seed < 0:
        raise DataError(f"seed must be a whole number ≥ 0; got {seed!r}")
    key = zlib.crc32(f"{name}/{version}".encode())
    # A position among the entropy would not do: there, numpy takes [k] and [k, 0] for the same.
    sequence = np.random.SeedSequence([key, seed], spawn_key=position)
    return np.random.Generator(np.random.Philox(sequence))


def drawn(rng: np.random.Generator, ranges: dict[str, list]) -> Numbers:
    """A uniform number for each range [low, high], or as many as a third number says."""
    return {name: rng.uniform(*limits) for name, limits in ranges.items()}


def drawn_site(rng: np.random.Generator, sites: dict[str, dict]) -> int:
    """Position in `sites`, each as likely as its share."""
    return int(rng.choice(len(sites), p=[site["share"] for site in sites.values()]))


def side_by_side(function: Callable, items: Sequence) -> list:
    """[function(i) for i in items], one single-threaded worker a core: the same on any number.

    A progress bar appears after a second, unless the environment variable MEDLAB_PROGRESS is 0.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            done = pool.map(function, items)
            return list(progress(done, desc="simulating", delay=1, total=len(items)))
    finally:
        torch.set_num_threads(threads)


def assembled(
    patient: Callable[[int], Numbers], n: int, *, each: int, card: DataCard, sites: dict, mm: float
) -> Cohort:
    """The first n images, of pixels mm wide, of patients who have `each` of them.

    `patient` tells of patient k images, masks, labels if he has any, site (position in `sites`) and
    the extras: tensors whose first axis counts images, or one value for all of them.
    """
    rows = side_by_side(patient, range(-(-n // each)))
    fields: Numbers = {}
    for name in rows[0]:
        told = [torch.as_tensor(row[name]) for row in rows]
        fields[name] = torch.cat([one if one.ndim else one.repeat(each) for one in told])[:n]
    return Cohort(
        images=fields.pop("images"),
        card=card,
        labels=fields.pop("labels", None),
        masks=fields.pop("masks"),
        patients=np.array([f"P{k // each:05d}" for k in range(n)]),
        sites=np.array(list(sites))[fields.pop("site").numpy()],
        spacing=(mm, mm),
        extras=fields,
    )
