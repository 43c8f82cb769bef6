"""A study in, a result out: checked, computed, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from medlab.deploy.grid import grid_of, prepared
from medlab.deploy.indications import refuse
from medlab.deploy.model_file import Packed, load
from medlab.deploy.results import highdicom, page, report, segmentation
from medlab.deploy.study import Study, open_study, silent
from medlab.errors import CheckpointError, DataError
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
        files: what was written.
    """

    found: dict[str, float]
    unverified: tuple[str, ...]
    mask: Tensor | None = field(repr=False)
    files: tuple[Path, ...]


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
        told = str(error).replace(str(model), "the model's file")
        raise CheckpointError(told) from None
    out = Path(out)
    _require_free(out)
    study = open_study(folder, packed.indications, series=series)
    packed.model.to(device)
    mask, found = _answer(study, packed)
    with silent():
        if mask is None:
            dataset = report(study, found, packed)
        else:
            dataset = segmentation(study, mask, packed)
        text = page(study, packed, found, mask)
        with _whole(out) as part:
            dataset.save_as(part / "result.dcm", enforce_file_format=True)
            (part / "summary.html").write_text(text, encoding="utf-8")
    files = (out / "result.dcm", out / "summary.html")
    return Found(found=found, unverified=study.unverified, mask=mask, files=files)


def _answer(study: Study, packed: Packed) -> tuple[Tensor | None, dict[str, float]]:
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


def _require_free(out: Path) -> None:
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError:
        taken = True
    if taken:
        refuse(
            "out",
            "a new or empty folder for the result",
            "one that holds something",
            "Name another; nothing is deleted here",
        )


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, renamed to it at the end, or gone."""
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        yield part
        for path in part.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
        os.rename(part, out)  # takes the place of an empty folder, never of a full one
    except OSError as error:
        reason = error.strerror
        refused = True
    else:
        refused = False
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if refused:
        refuse("out", "a folder that can be written", f"{reason}", "Name another")
