"""A study in, a result out: checked, computed, written whole or not at all."""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch

from medlab.deploy.grid import back, prepared
from medlab.deploy.indications import StudyRefused
from medlab.deploy.model_file import Packed, load
from medlab.deploy.results import Found, dicom_result, highdicom, page
from medlab.deploy.study import Study, asked, open_study, silent
from medlab.errors import CheckpointError, DicomError, atomic_write
from medlab.training import predict

_BATCH = 8  # slices at a time: changes memory and speed, not the result


def predict_study(
    folder: Path | str, model: Path | str, out: Path | str, *, series: str | int | None = None
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

    Raises:
        StudyRefused: a study that the model was not trained for, an output that is no number, or
            an `out` that holds something or cannot be written.
        CheckpointError: a model's file that cannot be used.
        MedlabError: highdicom is not installed.
    """
    highdicom()  # its absence is told before the work, as is an `out` that `atomic_write` refuses
    out = Path(out)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        expected, came = "a new or empty folder for the result", "one that holds something"
        raise StudyRefused("out", expected, came, "Name another: nothing is deleted here")
    try:
        packed = load(model)
    except CheckpointError as error:
        reason = str(error).replace(str(model), "the model's file")
        raise CheckpointError(reason) from None
    study = open_study(folder, packed.indications, series=series)
    result = answer(study, packed)
    with silent():
        dataset = asked(lambda: dicom_result(study, result, packed), [])
        text = page(study, result, packed)
        try:
            with atomic_write(out, error=DicomError, folder=True) as part:
                dataset.save_as(part / "result.dcm", enforce_file_format=True)
                (part / "summary.html").write_text(text, encoding="utf-8")
        except DicomError as error:  # its words tell the path
            reason = getattr(error.__cause__, "strerror", None) or "the disk refuses"
            expected = "a folder that can be written"
            raise StudyRefused("out", expected, reason, "Name another") from None
    return result


def answer(study: Study, packed: Packed) -> Found:
    """What the model says of a study: a mask on the study's voxels, or probabilities."""
    parts = []
    for part in prepared(study, packed.indications).split(_BATCH):
        scores = predict(packed.model, part)
        if not scores.isfinite().all():
            do = "Do not use this model; tell who made it"
            raise StudyRefused("output", "probabilities", "what is no number from the model", do)
        if scores.ndim == 2:  # of a radiograph
            found = dict(zip(packed.classes, scores[0].tolist(), strict=True))
            return Found(found=found, unverified=study.unverified, mask=None)
        parts.append(back(scores, study, packed.indications).argmax(1).to(torch.uint8))
    mask = torch.cat(parts).flip(study.reverse)
    counts = torch.bincount(mask.flatten().long(), minlength=len(packed.classes)).tolist()
    ml = prod(study.spacing) / 1000
    found = {name: n * ml for name, n in zip(packed.classes[1:], counts[1:], strict=True)}
    return Found(found=found, unverified=study.unverified, mask=mask)
