"""From the grid of a study to that of a model, and back onto the study's own voxels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from medlab import preprocess
from medlab.deploy.indications import Indications
from medlab.deploy.study import Study


def prepared(study: Study, about: Indications) -> Tensor:
    """What the model sees: slices (D, 1, rows, columns), float32 from 0 to 1."""
    values = (study.voxels if about.window else about.scaled(study.voxels)).flip(study.reverse)
    x = preprocess.resample(values, spacing=(1.0, 1.0), to=_steps(study, about))
    if about.size:
        x = preprocess.crop_pad(x, about.size, value=float(values.min()))
    if about.window:
        x = preprocess.window(x, level=about.window[0], width=about.window[1])
    return x[:, None]


def back(maps: Tensor, study: Study, about: Indications) -> Tensor:
    """Maps (D, C, rows, columns) ≥ 0 of the model on the study's own pixels, linear in between.

    They are 0 where the model saw nothing, since its size cut it off. Slices keep the order in
    which the model saw them, and so do rows and columns.
    """
    height, width = study.voxels.shape[1:]
    steps = _steps(study, about)
    if about.size:
        sides = zip((height, width), steps, strict=True)
        sizes = [int((n - 1) / step + 1e-6) + 1 for n, step in sides]  # as `resample` counts
        maps = preprocess.crop_pad(maps, sizes)
    # The study may end between two pixels of the model
    maps = functional.pad(maps, (0, 1, 0, 1), mode="replicate")
    maps = preprocess.resample(maps, spacing=steps, to=1.0, antialias=False)
    return maps[..., :height, :width]


def _steps(study: Study, about: Indications) -> list[float]:
    """Distance of the model's rows and columns, in pixels of the study."""
    if about.pixel_mm is not None:
        return [about.pixel_mm / mm for mm in study.spacing[1:]]
    if about.size is None:
        return [1.0, 1.0]
    sides = zip(study.voxels.shape[1:], about.size, strict=True)
    return [max((n - 1) / max(1, m - 1) for n, m in sides)] * 2  # as large as it fits in
