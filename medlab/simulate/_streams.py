"""Random streams that depend on what they are for, not on the order in which they are drawn."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["stream"]


def stream(name: str, version: str, seed: int, *position: int) -> np.random.Generator:
    """The generator of one patient or image of a named cohort.

    Patient k of a cohort draws from `stream(name, version, seed, k)`, whatever the cohort's size.
    """
    key = zlib.crc32(f"{name}/{version}".encode())
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([key, seed, *position])))
