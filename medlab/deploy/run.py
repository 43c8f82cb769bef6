"""A study in, a result out: checked, computed, written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from pydicom.dataset import Dataset
from torch import Tensor

from medlab.deploy.grid import grid_of, prepared
from medlab.deploy.indications import refuse
from medlab.deploy.model_file import Packed, load
from medlab.deploy.results import highdicom, page, report, segmentation, told
from medlab.deploy.study import Study, asked, open_study, silent
from medlab.dicom.source import refusing
from medlab.errors import CheckpointError, DicomError, atomic_write
from medlab.training import predict

_BATCH = 8  # slices at a time: changes memory and speed, not the result


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a model found in a study.

    Attributes:
        found: ml of each class but the background, or each class's probability.
        unverified: what the study's headers do not tell, so that it was not checked.
        mask: uint8 (D, H, W), the class of each voxel in the order of `read_series`; None for a
            classifier.
    """

    found: dict[str, float]
    unverified: tuple[str, ...]
    mask: Tensor | None = field(repr=False)

    def __str__(self) -> str:
        return "\n".join(
            [*told(self.found, self.mask), *(f"not verified: {one}" for one in self.unverified)]
        )


def predict_study(
    folder: Path | str,
    model: Path | str,
    out: Path | str,
    *,
    series: str | int | None = None,
    device: str = "cpu",
) -> Found:
    """Use a model on a study of DICOM files, and write what it found.

    `out` gets result.dcm, a DICOM segmentation or a structured report that belongs to the patient
    and the study, and summary.html, which names nobody. Killed at any moment, `out` holds both or
    is as before. Again with the same study, both say the same but for UIDs and the time of writing.

    Args:
        folder: one study of one patient, or one file.
        model: what `save` wrote.
        out: a folder that is not there yet, or empty.
        series: SeriesNumber or SeriesInstanceUID, where several fit.
        device: "cpu" or "cuda".

    Raises:
        StudyRefused: a study that the model was not trained for, an output that is no number, or
            an `out` that holds something or cannot be written.
        CheckpointError: a model's file that cannot be used.
        MedlabError: highdicom is not installed.
    """
    highdicom()  # its absence is told before the work
    try:
        packed = load(model)
    except CheckpointError as error:
        reason = str(error).replace(str(model), "the model's file")
        raise CheckpointError(reason) from None
    out = Path(out)
    _require_free(out)
    study = open_study(folder, packed.indications, series=series)
    packed.model.to(device)
    mask, found = answer(study, packed)
    with silent():
        dataset = asked(lambda: _result(study, mask, found, packed), [])
        text = page(study, packed, found, mask)
        _write(out, dataset, text)
    return Found(found=found, unverified=study.unverified, mask=mask)


def answer(study: Study, packed: Packed) -> tuple[Tensor | None, dict[str, float]]:
    """The mask on the study's voxels, if the model makes one, and what is found."""
    about = packed.indications
    x, grid = prepared(study, about), grid_of(study, about)
    shape = tuple(study.voxels.shape[axis] for axis, _ in grid.axes)
    parts = []
    for part in x.split(_BATCH):
        scores = predict(packed.model, part)
        if not scores.isfinite().all():
            do = "Do not use this model; tell who made it"
            refuse("output", "probabilities", "what is no number from the model", do)
        if scores.ndim == 2:
            return None, dict(zip(packed.classes, scores[0].tolist(), strict=True))
        maps = grid.back(scores, shape[-about.dims :])
        parts.append(maps.argmax(1).to(torch.uint8))
    mask = grid.turned_back(torch.cat(parts).reshape(shape)).contiguous()
    ml = prod(study.spacing) / 1000
    counts = torch.bincount(mask.flatten().long(), minlength=len(packed.classes)).tolist()
    return mask, {name: n * ml for name, n in zip(packed.classes[1:], counts[1:], strict=True)}


def _result(study: Study, mask: Tensor | None, found: dict[str, float], packed: Packed) -> Dataset:
    with refusing("the header", "write a result"):  # highdicom asks much of a header
        if len({source.SOPInstanceUID for source in study.sources}) < len(study.sources):
            raise DicomError("the header: cannot write a result: images share one SOPInstanceUID")
        if mask is None:
            return report(study, found, packed)
        return segmentation(study, mask, packed)


def _require_free(out: Path) -> None:
    """Refuse a place that holds something; `atomic_write` would too, but after the work."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        do = "Name another: nothing is deleted here"
        refuse("out", "a new or empty folder for the result", "one that holds something", do)


def _write(out: Path, dataset: Dataset, text: str) -> None:
    """Both files of a result, or none."""
    try:
        with atomic_write(out, error=DicomError, folder=True) as part:
            dataset.save_as(part / "result.dcm", enforce_file_format=True)
            (part / "summary.html").write_text(text, encoding="utf-8")
        return
    except DicomError as error:
        reason = getattr(error.__cause__, "strerror", None) or "the disk refuses"
    refuse("out", "a folder that can be written", reason, "Name another")
