"""Random streams that depend on what they are for, work shared over the cores, a check."""

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import numpy as np
import torch

from medlab.errors import DataError, progress


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
