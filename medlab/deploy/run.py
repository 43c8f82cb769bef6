"""A study in, a result out: checked, computed, written whole or not at all."""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from medlab import preprocess
from medlab.deploy.indications import Indications, StudyRefused
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
