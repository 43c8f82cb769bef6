"""Write a simulated cohort to disk: as pictures and a table, as NIfTI, or as DICOM studies.

    python data_scripts/simulate_cohort.py kidney_us --n 200 --seed 0 --out my_hospital
    python data_scripts/simulate_cohort.py kidney_us --format nifti --out my_volumes
    python data_scripts/simulate_cohort.py lung_ct --option stack=5 --format dicom --out my_archive

Every format has labels.csv (file, patient, site, label, pixel size in mm, age, …), boxes.csv where
the cohort has boxes (pixels; one row a box, with what is known of it), and card.json, which names
the values of the masks.

pictures   images/ (8-bit PNG; 32-bit TIFF where values are not 0…255; an .npy file for each
           volume), and masks/. `medlab.from_folder` reads them back:

    medlab.from_folder("my_hospital/images", labels="my_hospital/labels.csv",
                       patient="patient", site="site")

nifti      imagesTr/ and labelsTr/ with dataset.json, as in the Medical Segmentation Decathlon. CT
           and MR have their place in the patient; ultrasound has none, there mm count from the
           first pixel. A stack of slices is outlined in its middle slice, and its label file holds
           that one. `medlab.datasets.from_decathlon` reads single slices back. A cine (csf_flow)
           is 4-D, its last axis time in ms; its channels are files NAME_0000, NAME_0001, its label
           NAME.

dicom      PATIENT/CT_1/, MR_1/ or US_1/ with one file a slice or picture (each stack of slices is a
           series), and PATIENT/SEG_1000/ with one segmentation of all outlined images. For CT, MR
           and ultrasound cohorts that have masks.

The folder must be new or empty: nothing is overwritten. A smaller --n writes the beginning of what
a larger one writes.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import torch
from PIL import Image

import medlab
from medlab.errors import DataError

FORMATS = ("pictures", "nifti", "dicom")


def write(cohort: medlab.Cohort, out: Path, *, form: str = "pictures", key: str = "") -> None:
    """Write a cohort into a folder that does not exist yet, or is empty.

    Args:
        cohort: any cohort; for "nifti" with spacing, for "dicom" CT, MR, ultrasound with masks.
        out: the folder.
        form: one of `FORMATS`.
        key: what the cohort was made from; with another one, DICOM UIDs are others.

    Raises:
        DataError: the folder holds something, or the cohort cannot be written in this format.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: name another folder with --out")
    if form == "dicom":
        from dicom_study import write_studies  # stands beside this file

        files = write_studies(cohort, out, structures(cohort), key=key)
    else:
        cine = cohort.images.ndim == 5 and "frame_ms" in cohort.extras
        files = (_pictures if form == "pictures" else _cines if cine else _volumes)(cohort, out)
    pd.DataFrame({"file": files, **_columns(cohort)}).to_csv(out / "labels.csv", index=False)
    if cohort.boxes is not None:
        _boxes(cohort, files).to_csv(out / "boxes.csv", index=False)
    card = dataclasses.asdict(cohort.card) | {"spacing_mm": cohort.spacing}
    if cohort.masks is not None:
        card["mask_values"] = dict(enumerate(structures(cohort)))
    _json(card, out / "card.json")


def structures(cohort: medlab.Cohort) -> list[str]:
    """Names of the values 0, 1, 2 … of the masks."""
    named = {"segmentation": cohort.classes, "detection": ("background", *cohort.classes)}
    highest = 0 if cohort.masks is None else int(cohort.masks.max())
    others = ["background", *(f"structure {k}" for k in range(1, highest + 1))]
    return list(named.get(cohort.card.task, ())) or others


def _names(cohort: medlab.Cohort) -> list[str]:
    return [f"image_{i:05d}" for i in range(len(cohort))]


def _pictures(cohort: medlab.Cohort, out: Path) -> list[str]:
    """The images' file names, and masks under the same ones."""
    many = cohort.images.ndim == 4 and cohort.images.shape[1] > 1
    if many and cohort.images.dtype != torch.uint8:
        raise DataError(
            "channels must be 8-bit colours to be written as pictures; a stack of slices goes to "
            "--format nifti or dicom"
        )
    (out / "images").mkdir(parents=True, exist_ok=True)
    names = _names(cohort)
    if cohort.masks is not None:
        (out / "masks").mkdir()
        for mask, name in zip(cohort.masks, names, strict=True):
            _write_image(mask.numpy()[None], out / "masks" / name)
    pairs = zip(cohort.images, names, strict=True)
    return [_write_image(image.numpy(), out / "images" / name) for image, name in pairs]


def _volumes(cohort: medlab.Cohort, out: Path) -> list[str]:
    """Files below `out` of the images in NIfTI; labels under the same names."""
    # With these, channels are neighbouring slices.
    height_of = "height_mm" if "height_mm" in cohort.extras else "height"
    slices = {"thickness", height_of} <= cohort.extras.keys()
    if cohort.spacing is None or cohort.images.ndim != 4:
        raise DataError(f"{cohort.card.name}: NIfTI needs 2-D images with one spacing in mm")
    if cohort.images.shape[1] > 1 and not slices:
        raise DataError(f"{cohort.card.name}: colours have no place in NIfTI; write pictures")
    names = [f"{name}.nii.gz" for name in _names(cohort)]
    depth, rows, columns = cohort.images.shape[1:]
    high, wide = cohort.spacing
    (out / "imagesTr").mkdir(parents=True, exist_ok=True)
    if cohort.masks is not None:
        (out / "labelsTr").mkdir()
    for i, name in enumerate(names):
        # NIfTI's x and y grow to the right and to the front of the patient, columns and rows of a
        # CT slice to his left and back, slices to his head.
        affine = np.diag([-wide, -high, 1.0, 1.0])
        if slices:
            thick, height = (float(cohort.extras[key][i]) for key in ("thickness", height_of))
            affine[2, 2] = thick
            affine[:3, 3] = wide * (columns - 1) / 2, high * (rows - 1) / 2, height
        if cohort.masks is not None:
            _nifti(cohort.masks[i].numpy()[None], affine, out / "labelsTr" / name)
        affine[2, 3] -= affine[2, 2] * (depth // 2)
        _nifti(cohort.images[i].numpy(), affine, out / "imagesTr" / name)
    pairs = [{part: f"./{part}sTr/{name}" for part in ("image", "label")} for name in names]
    _dataset(cohort, pairs, "3D", out)
    return [f"imagesTr/{name}" for name in names]


def _cines(cohort: medlab.Cohort, out: Path) -> list[str]:
    """Files below `out` of the first channel of each cine; masks, the same in all frames, 3-D."""
    affine = np.diag([-cohort.spacing[1], -cohort.spacing[0], 1.0, 1.0])
    for folder in ("imagesTr", "labelsTr"):
        (out / folder).mkdir(parents=True)
    names = _names(cohort)
    for i, name in enumerate(names):
        for channel, frames in enumerate(cohort.images[i].numpy()):
            path = out / "imagesTr" / f"{name}_{channel:04d}.nii.gz"
            _nifti(frames[:, None], affine, path, float(cohort.extras["frame_ms"][i]))
        _nifti(cohort.masks[i, :1].numpy(), affine, out / "labelsTr" / f"{name}.nii.gz")
    pairs = [{"image": f"./imagesTr/{k}.nii.gz", "label": f"./labelsTr/{k}.nii.gz"} for k in names]
    _dataset(cohort, pairs, "4D", out)
    return [f"imagesTr/{name}_0000.nii.gz" for name in names]


def _dataset(cohort: medlab.Cohort, pairs: list[dict[str, str]], size: str, out: Path) -> None:
    """dataset.json as the Medical Segmentation Decathlon has it."""
    channels = cohort.images.shape[1] if size == "4D" else 1
    facts: dict[str, Any] = {
        "name": cohort.card.name,
        "description": cohort.card.title,
        "licence": cohort.card.licence,
        "tensorImageSize": size,
        "modality": {str(channel): cohort.card.modality for channel in range(channels)},
        "numTraining": len(pairs),
        "numTest": 0,
        "test": [],
    }
    if cohort.masks is not None:
        facts |= {"labels": dict(enumerate(structures(cohort))), "training": pairs}
    _json(facts, out / "dataset.json")


def _nifti(voxels: np.ndarray, affine: np.ndarray, path: Path, step: float | None = None) -> None:
    """(D, H, W) or (T, D, H, W) voxels; the affine is that of (W, H, D); `step` of T in ms."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(voxels.T), affine)
    image.header.set_xyzt_units("mm", None if step is None else "msec")
    if step is not None:
        image.header["pixdim"][4] = step
    image.set_qform(affine, code="scanner")  # some readers take the one, some the other
    image.set_sform(affine, code="scanner")
    nibabel.save(image, path)


def _json(facts: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _boxes(cohort: medlab.Cohort, files: list[str]) -> pd.DataFrame:
    """One row a box, with the extras that have a column for each box of an image."""
    most = max(map(len, cohort.boxes))
    each = {
        name: values
        for name, values in cohort.extras.items()
        if values.ndim == 2 and values.shape[1] >= most
    }
    rows = [
        [name, *box, *(values[i, k].item() for values in each.values())]
        for i, name in enumerate(files)
        for k, box in enumerate(cohort.boxes[i].tolist())
    ]
    return pd.DataFrame(rows, columns=["file", "x0", "y0", "x1", "y1", *each])


def _write_image(image: np.ndarray, stem: Path) -> str:
    """(C, H, W) or (C, D, H, W); returns the file's name."""
    if image.ndim == 4:
        path = stem.with_suffix(".npy")
        np.save(path, image, allow_pickle=False)
        return path.name
    plane = image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, -1))
    if image.dtype == np.uint8:
        path = stem.with_suffix(".png")
        Image.fromarray(plane).save(path)
    else:
        path = stem.with_suffix(".tif")
        Image.fromarray(plane.astype(np.float32)).save(path)
    return path.name


def _columns(cohort: medlab.Cohort) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for name, values in (("patient", cohort.patients), ("site", cohort.sites)):
        if values is not None:
            columns[name] = values.tolist()
    if cohort.spacing is not None:
        names = ("slice_mm", "row_mm", "column_mm")[-len(cohort.spacing) :]
        columns |= {
            name: [step] * len(cohort) for name, step in zip(names, cohort.spacing, strict=True)
        }
    if cohort.official is not None:
        columns["part"] = cohort.official.tolist()
    if cohort.labels is not None and cohort.labels.ndim == 2:
        for k, name in enumerate(cohort.classes):
            columns[name] = cohort.labels[:, k].int().tolist()
    elif cohort.labels is not None:
        # The classes of a segmentation card name mask values.
        classes = () if cohort.card.task == "segmentation" else cohort.classes
        columns["label"] = [classes[k] if classes else k for k in cohort.labels.tolist()]
    for name, values in cohort.extras.items():
        values = np.asarray(values)
        if values.ndim == 1:
            columns[name] = values.tolist()
    return columns


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"write options as name=value; got {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(medlab.simulate.COHORTS)
    parser.add_argument("name", help=f"one of: {known}")
    parser.add_argument("--n", type=int, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, help="edge length in pixels")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--format", choices=FORMATS, default="pictures", help="default: pictures")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=_option,
        metavar="NAME=VALUE",
        help="a further option of the cohort; may be given several times",
    )
    given = parser.parse_args(arguments)
    options = {"seed": given.seed, **dict(given.option)}
    sizes = {"n": given.n, "size": given.size}
    options |= {key: value for key, value in sizes.items() if value is not None}
    try:
        if given.name not in medlab.simulate.COHORTS:
            raise DataError(f"there is no simulated cohort {given.name!r}; known: {known}")
        cohort = medlab.load(given.name, **options)
        about = medlab.simulate.COHORTS[given.name]
        usual = inspect.signature(about.make).parameters
        # What an image is does not depend on how many there are.
        made = {k: options.get(k, v.default) for k, v in usual.items() if k != "n"}
        key = f"{given.name}/{about.card.version}/{sorted(made.items())}"
        write(cohort, given.out, form=given.format, key=key)
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{given.out}: {cohort.summary()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
