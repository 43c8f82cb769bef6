"""Write a simulated cohort as ordinary image files, to look at or to practise with.

    python data_scripts/simulate_cohort.py chest_xray --n 200 --seed 0 --out my_hospital

The folder then holds images/ (8-bit PNG; 32-bit TIFF where values are not 0…255; an .npy file for
each volume), labels.csv (file, patient, site, label, …), masks/ and boxes.csv where the cohort has
them, and card.json. `medlab.from_folder` reads it back:

    medlab.from_folder("my_hospital/images", labels="my_hospital/labels.csv",
                       patient="patient", site="site")
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

import medlab
from medlab.errors import DataError


def write(cohort: medlab.Cohort, out: Path) -> None:
    """Write a cohort into a folder that does not exist yet, or is empty.

    Args:
        cohort: any cohort.
        out: the folder.

    Raises:
        DataError: the folder holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: name another folder with --out")
    (out / "images").mkdir(parents=True, exist_ok=True)
    digits = len(str(len(cohort) - 1))
    names = [f"image_{i:0{digits}d}" for i in range(len(cohort))]
    files = [
        _write_image(image.numpy(), out / "images" / name)
        for image, name in zip(cohort.images, names, strict=True)
    ]
    columns = _columns(cohort)
    pd.DataFrame({"file": files, **columns}).to_csv(out / "labels.csv", index=False)
    if cohort.masks is not None:
        (out / "masks").mkdir()
        for mask, name in zip(cohort.masks, names, strict=True):
            _write_image(mask.numpy()[None], out / "masks" / name)
    if cohort.boxes is not None:
        rows = zip(files, cohort.boxes, strict=True)
        boxes = [[name, *box] for name, boxes in rows for box in boxes.tolist()]
        table = pd.DataFrame(boxes, columns=["file", "x0", "y0", "x1", "y1"])
        table.to_csv(out / "boxes.csv", index=False)
    card = dataclasses.asdict(cohort.card) | {"spacing_mm": cohort.spacing}
    text = json.dumps(card, indent=1, ensure_ascii=False)
    (out / "card.json").write_text(text + "\n", encoding="utf-8")


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
    elif len(image) == 1:
        path = stem.with_suffix(".tif")
        Image.fromarray(plane.astype(np.float32)).save(path)
    else:
        raise DataError("colour images must be 8-bit to be written as files")
    return path.name


def _columns(cohort: medlab.Cohort) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for name, values in (("patient", cohort.patients), ("site", cohort.sites)):
        if values is not None:
            columns[name] = values.tolist()
    if cohort.official is not None:
        columns["part"] = cohort.official.tolist()
    if cohort.labels is not None and cohort.labels.ndim == 2:
        for k, name in enumerate(cohort.classes):
            columns[name] = cohort.labels[:, k].int().tolist()
    elif cohort.labels is not None:
        columns["label"] = [
            cohort.classes[k] if cohort.classes else k for k in cohort.labels.tolist()
        ]
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
        write(cohort, given.out)
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{given.out}: {cohort.summary()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
