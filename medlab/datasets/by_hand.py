"""Real sets that a user puts on disk: nuclei, lung nodules, beating hearts, radiographs."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from medlab.cohort import Cohort, DataCard
from medlab.datasets._download import data_root
from medlab.datasets._files import reading, some
from medlab.datasets._pictures import decode, fit
from medlab.datasets._tables import read_table
from medlab.errors import DataError, read_facts

_NAMES = ("nuclei", "lung_nodules", "cardiac_cine", "chest_xray_nih")
_FACTS = [read_facts(f"datasets/{name}") for name in _NAMES]
_FIELDS = {name: names[0] for names in _FACTS[0].pop("fields") for name in names}
NUCLEI, LUNG_NODULES, CARDIAC_CINE, CHEST_XRAY_NIH = (DataCard(**facts) for facts in _FACTS)
_FIELD = (256, 256)  # pixels: the size of which this set holds all images
_PATCH = 50  # pixels
_LAST = 450_000  # the set ends before this candidate
_NIH = {"Image Index": "file", "Patient ID": "patient_id", "Finding Labels": "label"}
_APART = 1240  # candidates of two scans of mean length: 2 × 551,065 / 888


def load_by_hand(name: str, root: str | os.PathLike | None, options: dict[str, Any]) -> Cohort:
    """The set `name` in its folder at `root`; a DataError that says how to bring it if need be."""
    card, read = BY_HAND[name]
    folder = data_root(root) / name
    if not folder.is_dir():
        raise DataError(f"{name} is not at {folder}. {card.obtain}")
    return read(folder, **options)


def _nuclei(home: Path) -> Cohort:
    """All images of 256 × 256 pixels in a folder, and the outline of every nucleus.

    Read is what the publisher's archive holds, a folder an image with one picture in `images` and
    one a nucleus in `masks`; or pictures in `images` and, under the same names in `labels`, their
    nuclei numbered from 1 on 0. Where nuclei overlap, the later has the pixels. Images come as
    uint8 (N, 1, 256, 256), masks as uint8 with 1 in every nucleus, and in `extras` the `instances`
    as int32 (N, 256, 256): `boxes[i][k]` encloses the pixels k + 1 of image i. `patients` are
    fields of view, of which an image may be a quarter; `files` name the images.
    """
    images, drawn = {}, []
    for path in sorted(home.glob("**/images/[!.]*.png")):
        pixels, name = decode(path), path.stem[:16]
        if pixels.shape[1:] == _FIELD:
            if name in images or (pixels != pixels[:1]).any():
                raise DataError(f"{path} is coloured or there twice: keep one edition of the set")
            images[name] = torch.tensor(pixels[:1])
            drawn.append(_numbered(path))
    if not images:
        raise DataError(f"{home} holds no image of 256 × 256 pixels. {NUCLEI.obtain}")
    instances = torch.from_numpy(np.stack(drawn))
    return Cohort(
        images=torch.stack(list(images.values())),
        masks=(instances > 0).byte(),
        boxes=[
            torch.tensor([[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(one)])
            for one in drawn
        ],
        patients=np.array([_FIELDS.get(name, name) for name in images]),
        files=np.array([f"{name}.png" for name in images]),
        extras={"instances": instances},
        card=NUCLEI,
    )


def _numbered(image: Path) -> np.ndarray:
    """The nuclei of one image as int32 (256, 256), numbered from 1 without a gap."""
    home = image.parents[1]
    whole = (home / "labels").is_dir()
    paths = [home / "labels" / image.name] if whole else sorted((home / "masks").glob("[!.]*.png"))
    drawn = np.zeros(_FIELD)
    for k, path in enumerate(paths, start=1):
        mask = decode(path)
        if mask.shape != (1, *_FIELD):
            raise DataError(f"{path} must be grey, 256 × 256 as its image; got {mask.shape}")
        drawn = mask[0] if whole else np.where(mask[0] > 0, k, drawn)
    present = np.unique(drawn[drawn > 0])
    if not present.size:
        raise DataError(f"{image} has no nuclei beside it. {NUCLEI.obtain}")
    return np.searchsorted(present, drawn, side="right").astype(np.int32)


def _lung_nodules(home: Path) -> Cohort:
    """The first 450,000 candidates of LUNA16 that have a patch in a folder.

    Read are files `*datalabels.txt` with a path and a label a line, or `labels.csv` with columns
    `file` and `label` beside `patches.zip`. A file is named after its row, image_<row>.jpg. A patch
    that ended at the edge of its slice is filled up with air. They come in the order of rows:
    images uint8 (N, 1, 50, 50), labels 1 for a nodule, and `candidate_row` in `extras`. Since
    neighbouring rows are one patient's, `patients` are blocks of rows, each cut in the middle of
    1,240 rows or more without a nodule.
    """
    with reading(f"{home} must hold labels.csv and patches.zip, or *datalabels.txt"):
        lists = sorted(home.glob("*datalabels.txt"))
        texts = [pd.read_csv(path, sep=" ", names=["file", "label"], dtype=str) for path in lists]
        table = pd.concat(texts) if texts else read_table(home / "labels.csv", label="label")
        source = home if texts else zipfile.Path(home / "patches.zip")
        table["row"] = table["file"].str.extract(r"image_(\d+)\.jpg$")[0].astype(int)
        table = table[table["row"] < _LAST].sort_values("row")[["file", "label", "row"]]
    bad = table["row"].duplicated() | ~table["label"].isin(["0", "1"])
    if bad.any():
        raise DataError(f"{home} needs one label 0 or 1 a row; not so: {some(table['file'][bad])}")
    images = np.zeros((len(table), 1, _PATCH, _PATCH), np.uint8)
    for image, name in zip(images, table["file"], strict=True):
        with reading(f"{source / name} must be grey, of 50 × 50 pixels at most"):
            patch = decode(source / name)
            np.copyto(image[:, : patch.shape[1], : patch.shape[2]], patch)
    rows = table["row"].to_numpy()
    nodules = rows[table["label"] == "1"]
    cuts = (nodules[1:] + nodules[:-1])[np.diff(nodules) >= _APART] // 2
    return Cohort(
        images=torch.from_numpy(images),
        labels=torch.tensor(table["label"].astype(int).to_numpy()),
        patients=np.array([f"block {k}" for k in np.searchsorted(cuts, rows)]),
        files=table["file"].to_numpy(),
        extras={"candidate_row": torch.tensor(rows)},
        card=LUNG_NODULES,
    )


def _cardiac_cine(home: Path) -> Cohort:
    """Short-axis slices of the heart over one beat, a file a patient in a folder.

    Images float32 (N, 1, T, H, W), N slices of all patients, the third axis time. `labels`: the
    end-systolic frame, from 0: of the two in which a patient's cavity is outlined, the one where it
    is smaller in sum over the slices that are outlined in both; slices without an outline have
    their patient's too. `masks`, frame by frame: 1 cavity of the left ventricle, 0 elsewhere and
    wherever nothing is outlined. `extras`: trigger_ms (N, T) after the trigger; outlined (N, T), in
    which frames; end_diastole, the other frame.
    """
    paths = sorted(home.glob("[!.]*.npz"))
    if not paths:
        raise DataError(f"{home} holds no .npz file. {CARDIAC_CINE.obtain}")
    parts = [_heart(path) for path in paths]
    if len(shapes := {part["images"].shape[2:] for part in parts}) > 1:
        raise DataError(f"{home}: all cines must have one shape (T, H, W); got {sorted(shapes)}")
    merged: dict[str, Any] = {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
    names = [path.stem for path, part in zip(paths, parts, strict=True) for _ in part["images"]]
    return Cohort(
        images=merged.pop("images"),
        labels=merged.pop("labels"),
        masks=merged.pop("masks"),
        patients=np.array(names),
        files=np.array([f"{name}.npz" for name in names]),
        extras=merged,
        card=CARDIAC_CINE,
    )


def _heart(path: Path) -> dict[str, torch.Tensor]:
    """The fields of one patient's slices, by the names of the cohort's."""
    with reading(f"{path} must hold one patient as the card of cardiac_cine says"):
        with np.load(path, allow_pickle=False) as stored:
            cine, drawn = stored["cine"].astype(np.float32), stored["endo"] > 0
            known, times = stored["endo_known"].astype(bool), stored["trigger_ms"]
        flat = known.shape == times.shape == cine.shape[:2]
        if cine.ndim != 4 or drawn.shape != cine.shape or not flat:
            raise ValueError(f"shapes do not fit together: cine is {cine.shape}")
        frames = np.nonzero(known.any(0))[0]
        both = known[:, frames].all(1)
        if len(frames) != 2 or not both.any():
            raise ValueError(f"the cavity must be outlined in two frames, not in {frames.tolist()}")
    area = drawn[both][:, frames].sum((0, 2, 3))
    systole, diastole = frames[np.argsort(area)].tolist()
    n = len(cine)
    return {
        "images": torch.from_numpy(cine)[:, None],
        "labels": torch.full((n,), systole),
        "masks": torch.from_numpy(drawn).byte(),
        "trigger_ms": torch.from_numpy(times.astype(np.float32)),
        "outlined": torch.from_numpy(known),
        "end_diastole": torch.full((n,), diastole),
    }


def _chest_xray_nih(home: Path, *, size: int = 128) -> Cohort:
    """The radiographs in a folder whose label is pneumonia, or that nothing was found.

    Read are the publisher's Data_Entry_2017*.csv, of which other findings and pictures that are not
    there are left out, or labels.csv with columns `file`, `patient_id` and `label`, all of whose
    pictures must be there; in images.zip or the folder images. Images uint8 (N, 1, size, size), in
    the order of the table, `size` from 16 to 1024 pixels; labels 1 for pneumonia, whatever else was
    found with it.
    """
    if not 16 <= size <= 1024:
        raise DataError(f"size is a picture's side in pixels, 16 to 1024; got {size}")
    packed, publishers = home / "images.zip", sorted(home.glob("Data_Entry_2017*.csv"))
    with reading(f"{home} must hold a table and pictures. {CHEST_XRAY_NIH.obtain}"):
        source = zipfile.Path(packed) if packed.exists() else home / "images"
        rows = pd.read_csv((*publishers, home / "labels.csv")[0], dtype=str, keep_default_na=False)
        table = rows.rename(columns=_NIH)[["file", "patient_id", "label"]]
        if publishers:
            there = table["file"].isin([path.name for path in source.iterdir()])
            table = table[there & table["label"].str.contains("No Finding|Pneumonia")]
        findings = table["label"].str.replace("No_findings", "No Finding").str.split("|")
        ill = findings.apply(lambda found: "Pneumonia" in found)
        healthy = findings.apply(lambda found: found == ["No Finding"])
    bad = table["file"].duplicated() | ~(ill | healthy)
    if bad.any() or table.empty:
        raise DataError(
            f"{home} needs each picture once, as pneumonia or no finding; not so: "
            f"{some(table['file'][bad]) or 'no picture of the table is there'}"
        )
    images = np.zeros((len(table), 1, size, size), np.uint8)
    for image, name in zip(images, table["file"], strict=True):
        with reading(f"{source / name} must be a grey picture"):
            pixels = decode(source / name)
            if (pixels != pixels[:1]).any():
                raise ValueError("it is coloured")
            image[:] = fit(pixels[:1], size)
    return Cohort(
        images=torch.from_numpy(images),
        labels=torch.tensor(ill.to_numpy().astype(int)),
        patients=table["patient_id"].to_numpy(),
        files=table["file"].to_numpy(),
        card=CHEST_XRAY_NIH,
    )


BY_HAND = {  # name -> card, and what reads its folder
    CARDIAC_CINE.name: (CARDIAC_CINE, _cardiac_cine),
    CHEST_XRAY_NIH.name: (CHEST_XRAY_NIH, _chest_xray_nih),
    LUNG_NODULES.name: (LUNG_NODULES, _lung_nodules),
    NUCLEI.name: (NUCLEI, _nuclei),
}
