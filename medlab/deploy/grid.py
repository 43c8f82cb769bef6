"""From the grid of a study to that of a model, and back onto the study's own voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medlab import preprocess
from medlab.deploy.indications import Indications
from medlab.deploy.study import Study


@dataclass(frozen=True)
class Grid:
    """The way of a study's voxels to a model, which `back` takes in reverse.

    Attributes:
        axes: for each of the model's axes the study's axis, and whether it runs the other way.
        steps: distance of the model's voxels along its last axes, in voxels of the study.
        size: of the model's grid along these axes, or None for what comes.
    """

    axes: tuple[tuple[int, bool], ...]
    steps: tuple[float, ...]
    size: tuple[int, ...] | None

    def turned(self, voxels: Tensor) -> Tensor:
        """(D, H, W) of the study, along the model's axes."""
        voxels = voxels.permute([axis for axis, _ in self.axes])
        return voxels.flip([k for k, (_, reverse) in enumerate(self.axes) if reverse])

    def turned_back(self, voxels: Tensor) -> Tensor:
        """(D, H, W) along the model's axes, as the study has it."""
        voxels = voxels.flip([k for k, (_, reverse) in enumerate(self.axes) if reverse])
        return voxels.permute([axis for axis, _ in self.axes])  # a swap at most: its own inverse

    def onto(self, turned: Tensor, *, fill: float) -> Tensor:
        """Turned voxels on the model's grid."""
        x = preprocess.resample(turned, spacing=[1.0] * len(self.steps), to=self.steps)
        return preprocess.crop_pad(x, self.size, value=fill) if self.size else x

    def back(self, maps: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Maps (…, *size) ≥ 0 of the model on turned voxels (…, *shape), linear in between.

        They are 0 where the model saw nothing, since its size cut it off.
        """
        sides = zip(shape, self.steps, strict=True)
        if self.size:
            sizes = [int((n - 1) / step + 1e-6) + 1 for n, step in sides]  # as `resample` counts
            maps = preprocess.crop_pad(maps, sizes)
        first = maps.ndim - len(shape)
        for axis in range(first, maps.ndim):  # the study may end between two voxels of the model
            maps = torch.cat([maps, maps.narrow(axis, -1, 1)], axis)
        maps = preprocess.resample(
            maps, spacing=self.steps, to=[1.0] * len(shape), order=1, antialias=False
        )
        for axis, n in enumerate(shape, first):
            maps = maps.narrow(axis, 0, n)
        return maps


def grid_of(study: Study, about: Indications) -> Grid:
    """The model's grid for a study."""
    axes = [axis for axis, _ in study.axes][-about.dims :]
    steps = [1.0] * about.dims
    if about.pixel_mm is not None:
        wanted = np.broadcast_to(about.pixel_mm, about.dims).tolist()
        steps = [mm / study.spacing[axis] for mm, axis in zip(wanted, axes, strict=True)]
    elif about.size is not None:  # the picture as large as it fits in
        sides = zip((study.voxels.shape[axis] for axis in axes), about.size, strict=True)
        steps = [max((n - 1) / max(1, m - 1) for n, m in sides)] * about.dims
    return Grid(study.axes, tuple(steps), about.size)


def prepared(study: Study, about: Indications) -> Tensor:
    """What the model sees: (N, 1, H, W) slices, or (1, 1, D, H, W), float32 from 0 to 1."""
    grid = grid_of(study, about)
    values = study.voxels if about.window else about.scaled(study.voxels)
    x = grid.onto(grid.turned(values), fill=float(values.min()))
    if about.window:
        x = preprocess.window(x, level=about.window[0], width=about.window[1])
    return x[:, None] if about.dims == 2 else x[None, None]
