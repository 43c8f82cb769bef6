"""Segmented volumes in NIfTI files, laid out as in the Medical Segmentation Decathlon."""

import os
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from medlab.cohort import Cohort, DataCard
from medlab.datasets._download import data_root, provide
from medlab.datasets._files import reading, some
from medlab.errors import DataError, read_facts

_MULTIPLE = 8  # of which edges are, so that a U-Net can halve them three times
HIPPOCAMPUS = DataCard(**read_facts("datasets/hippocampus"))


def load_hippocampus(root: str | os.PathLike | None, download: bool, verify: bool | None) -> Cohort:
    """The volumes at `root`/hippocampus, fetched and put there whole; see `medlab.load`."""
    folder, card = data_root(root) / HIPPOCAMPUS.name, HIPPOCAMPUS
    by_hand = f"Unpack {card.url} there, or name another folder with root=… or MEDLAB_DATA"
    if not folder.is_dir():
        if not download:
            raise DataError(f"hippocampus is not at {folder}, and download=False. {by_hand}.")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".hippocampus-", dir=folder.parent) as draft:
                path = Path(draft).absolute() / card.url.rpartition("/")[2]
                path, card = provide(path, card, verify=verify)
                with reading(f"{path} cannot be unpacked"), tarfile.open(path) as archive:
                    archive.extractall(draft, filter="data")
                    if any(path.read_bytes()[-512:]):  # an archive's end is a block of zeros
                        raise DataError("its end is missing")
                os.rename(Path(draft) / path.stem, folder)
        except OSError as error:
            raise DataError(f"{folder} cannot be unpacked ({error}). {by_hand}.") from error
    return replace(from_decathlon(folder, classes=card.classes), card=card)


def from_decathlon(folder: str | os.PathLike, *, classes: Sequence[str] = ()) -> Cohort:
    """Read NIfTI volumes in `imagesTr`, and their labels under the same names in `labelsTr`.

    >>> from_decathlon("Task04_Hippocampus", classes=("background", "anterior", "posterior"))
    ... # doctest: +SKIP

    Every volume is turned to the nearest RAS orientation and normalised by itself: clipped to its
    0.5th and 99.5th percentile, mean subtracted, divided by the standard deviation. All are padded
    evenly with 0 to one size, edges a multiple of 8. Nothing is resampled, no voxel is lost.

    Args:
        folder: the folder that holds both.
        classes: names of the label values 0, 1, 2 …, background first. Default: the numbers.

    Returns:
        Cohort; images float32 (N, 1, D, H, W), masks uint8 (N, D, H, W), patients the names. D runs
        from inferior to superior, H from posterior to anterior, W from left to right. `spacing` is
        (D, H, W) in millimetres, or None where files differ.

    Raises:
        DataError: a file that cannot be read, has no partner, or another shape or place than its
            partner; a volume of one value; label values without a class.

    Source: Antonelli et al., Nat Commun 13:4128 (2022).
    """
    home = Path(folder).expanduser()
    images, labels = (  # name without ending -> file; those that macOS adds begin with a dot
        {path.name.split(".nii")[0]: path for path in sorted((home / part).glob("[!.]*.nii*"))}
        for part in ("imagesTr", "labelsTr")
    )
    if images.keys() != labels.keys() or not images:
        raise DataError(
            f"{home} must hold volumes in imagesTr and labelsTr, under the same names; it holds "
            f"{len(images)} and {len(labels)}, alone: {some(sorted(images.keys() ^ labels.keys()))}"
        )
    volumes, masks, spacings = [], [], set()
    for name, image in images.items():
        (volume, affine), (mask, place) = _volume(image), _volume(labels[name])
        if mask.shape != volume.shape or not np.allclose(affine, place, atol=1e-2):
            what = "has another shape than its image or lies elsewhere in space"
            raise DataError(f"{labels[name]} {what}")
        if not np.isin(mask, np.arange(256)).all():
            raise DataError(f"{labels[name]} must hold whole numbers from 0 to 255")
        volume = np.clip(volume, *np.percentile(volume, (0.5, 99.5)))
        if not volume.std() > 0:
            raise DataError(f"{image} has one value almost everywhere")
        volumes.append(((volume - volume.mean()) / volume.std()).astype(np.float32))
        masks.append(mask.astype(np.uint8))
        spacings.add(tuple(nibabel.affines.voxel_sizes(affine)[::-1].round(4).tolist()))
    names = classes or [str(k) for k in range(1 + max(int(mask.max()) for mask in masks))]
    edges = -(-np.max([mask.shape for mask in masks], axis=0) // _MULTIPLE) * _MULTIPLE

    def padded(array: np.ndarray) -> torch.Tensor:
        spare = edges - array.shape
        margins = np.stack([spare // 2, spare - spare // 2], axis=-1)
        return torch.from_numpy(np.pad(array, margins))

    return Cohort(
        images=torch.stack([padded(volume) for volume in volumes])[:, None],
        masks=torch.stack([padded(mask) for mask in masks]),
        patients=np.array(list(images)),
        files=np.array([path.name for path in images.values()]),
        spacing=spacings.pop() if len(spacings) == 1 else None,
        card=DataCard(
            name="my_volumes",
            title=f"Volumes of {home.absolute().name}",
            task="segmentation",
            classes=tuple(names),
            units=HIPPOCAMPUS.units,
        ),
    )


def _volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(D, H, W) values in nearest RAS orientation, and the affine of (W, H, D)."""
    with reading(f"{path} cannot be read as a NIfTI volume"):
        image: Any = nibabel.load(path)
        if len(image.shape) != 3 or 0 in image.shape:
            raise ValueError(f"not one volume, but {image.shape}")
        image = nibabel.as_closest_canonical(image)
        values = np.asarray(image.dataobj)
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError("some values are not finite numbers")
    return values.T.astype(np.float64), image.affine
