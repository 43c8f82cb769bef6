"""Read the arrays of an .npz file that may be broken, foreign or hostile."""

import os
import zipfile
from pathlib import Path

import numpy as np

from medlab.datasets._files import reading


class Npz:
    """The .npz file at `path`, of which nothing is ever unpickled; `names` are its arrays.

    Raises:
        DataError: not a zip archive, cut short, a damaged index, or a file that is not there.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        what = f"{path} is no .npz file, or was cut short; delete it and load again"
        with reading(what), zipfile.ZipFile(path) as archive:
            self.names = tuple(name.removesuffix(".npy") for name in archive.namelist())

    def read(self, name: str) -> np.ndarray:
        """Array `name`, every byte checked by its checksum.

        Raises:
            DataError: no such array, one of Python objects, or damaged.
        """
        what = f"{self.path}: array {name!r} cannot be read; it has {', '.join(self.names)}"
        with reading(what), zipfile.ZipFile(self.path) as zip_, zip_.open(f"{name}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            if stream.read(1):  # the checksum is compared at the end of what is stored
                raise ValueError("more bytes are stored than its header claims")
            return array
