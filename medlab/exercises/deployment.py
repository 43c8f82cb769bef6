"""Exercises of notebook 32: voxels in place, a guard, whole files, logs, dates, gradients."""

from __future__ import annotations

import builtins
import hashlib
import hmac
import os
import re
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, ValuesView
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import combinations
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset
from torch import Tensor
from torch.nn import functional

from medlab.datasets import load
from medlab.dicom import Volume, write_series
from medlab.errors import DicomError
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near, number, numbers

REASONS = ("modality", "orientation", "spacing", "intensities", "body part")

MESSAGES = {
    "deployment.1": {
        "right": "each voxel was sought where it lies in the patient, whatever the order in which "
        "two files keep it.",
        "range": "a share lies between 0 and 1; got {got:.3g}.",
        "index": "you looked at the voxels of the same *index*. Mask and study are stored in "
        "different orders: go through the patient, in mm.",
        "backwards": "you went from the study's index to the mask's. Each voxel of the *mask* "
        "needs its place in the study: A leads to mm, the inverse of B back.",
        "order": "the matrices stand in the wrong order, or the wrong one is inverted. A, next to "
        "the voxel, leads to mm, the inverse of B back: inv(B) @ A @ v.",
        "transposed": "the shift between the grids is lost. With one voxel a *row*, as `nonzero` "
        "lists them, the matrix must be transposed (`voxels @ M.T`), and the fourth number is 1.",
        "axes": "the axes are in another order (x, y, z?). All three speak of (slice, row, "
        "column): the voxels from `nonzero`, the two matrices, and hu[slice, row, column].",
        "bounds": "your code stopped with IndexError: {error}. Is every index compared with the "
        "size of *hu* along its own axis, in the order (slice, row, column)?",
        "nowhere": "not one voxel of the mask came upon air. Does A lead to mm, and then the "
        "inverse of B back to voxels? Is one of the two transposed, or left out?",
        "covered": "that is the share of the study's air that the mask covers. The voxels of the "
        "*mask* were asked for.",
        "outside": "those are the voxels that are 0 in the mask. Take those that are not.",
        "whole": "you counted voxels of the whole mask array. Only those in the mask count.",
        "dropped": "voxels outside the study must count as not on air. Do not leave them out.",
        "wrapped": "an index below 0 is outside the study; Python takes it from the other end.",
        "clamped": "a voxel outside the study was moved to its edge. It lies on nothing there.",
        "cut": "indices must be rounded to the nearest voxel: 2.9999 and 3.0001 are voxel 3.",
        "at": "a voxel of exactly −500 HU is not below −500 HU.",
        "soft": "that is the share of voxels *not* on air.",
        "changed": "your function changed its arguments. Make new tensors.",
        "other": "on {case} I expected {expected:.3f}, and got {got:.3f}.",
    },
    "deployment.2": {
        "right": "all {wrong} wrong studies are refused by name, and {refused} of {right} right "
        "ones with them.",
        "format": "I expected a list of reasons, out of {reasons}; got {got}.",
        "everything": "every right study is refused, too, for {got}. A guard that says no to "
        "all is safe and useless.",
        "nothing": "no wrong study is refused.",
        "accepted": "accepted: {case}.",
        "named": "{case} is refused for {got}. The reader in the clinic needs the true reason: "
        "{expected}.",
        "refused": "a right study is refused for {got}: {case}, spacing (slice, row, column) "
        "{spacing} mm.",
        "untrue": "{case} is refused for {more} among others, which is not true of it.",
        "changed": "your function changed the study.",
    },
    "deployment.3": {
        "right": "whoever looks, at whatever moment, sees the old result or the new one.",
        "content": "the file should hold the parts, joined in their order; it holds {got}.",
        "half": "while part {part} of {parts} was being written, {name} was there and held "
        "{got} of {size} bytes.",
        "early": "{name} got its name when it held {got} of {size} bytes: the rest still waited in "
        "the open file's buffer. Close the file before you rename it.",
        "gone": "while the new result was being written, the old one was gone. Leave it until the "
        "new one is whole.",
        "replaced": "the writer stopped with an error half-way, and the old result is lost.",
        "appeared": "the writer stopped with an error half-way, and {name} is there all the same.",
        "left": "after {kind} half-way, {got} is left behind. Remove it, whatever stopped you.",
        "swallowed": "an error half-way must reach the caller: he would believe that the result is "
        "there.",
        "elsewhere": "while the parts came, no new file was in the folder of {name}. Write each "
        "part as it comes, since a result may be larger than memory, and beside the result, since "
        "a rename is atomic only within one file system.",
        "memory": "the parts were kept in memory until the last had come. Write each as it comes: "
        "a result may be larger than memory.",
        "shared": "two writers of {name} at once used the same temporary file and spoilt it. Give "
        "it a name of its own.",
        "copied": "{name} was filled piece by piece from another file. A reader may meet it half "
        "full: rename, do not copy.",
        "returned": "the function returns nothing; yours returned {got}.",
        "litter": "besides {name} the folder now holds {got}.",
    },
    "deployment.4": {
        "right": "enough to find the run, and nothing that finds the patient.",
        "format": "I expected one line of text; got {got}.",
        "lines": "the line breaks. Who can write a header can then write log lines of his own.",
        "leak": "the line holds {what}.",
        "hashed": "the line holds a hash of {what}. There are so few possible values that all can "
        "be tried: section 6.",
        "depends": "two patients gave different lines, so something of {what} is in it, however "
        "changed.",
        "run": "the line does not hold the number of the run, by which the hospital finds the "
        "study (Modality: {modality}).",
        "time": "the same call gave another line, or one with a time of day in it. The logger adds "
        "the time.",
        "outcome": "whether the run was refused, and why, cannot be told from the line: {one} and "
        "{other} gave the same (Modality: {modality}).",
        "modality": "the modality is not in the line. Of {known} it names nobody, and it explains "
        "most refusals.",
        "injected": "a header may hold anything under Modality, here {got!r}. Log it only if it is "
        "one of {known}.",
    },
    "deployment.5": {
        "right": "weeks between two scans stay weeks, and the date itself says nothing.",
        "format": "I expected a date as text, YYYYMMDD, as in 20260131; got {got}.",
        "same": "{date} came back as it was, for one of the patients.",
        "intervals": "two scans of a patient {before} days apart are now {after} apart. Shift all "
        "his dates by the same number of days.",
        "patients": "all patients are shifted alike: who knows one true date knows all.",
        "key": "another key gave the same shift. Without a secret anybody can compute it from the "
        "patient's number.",
        "added": "another key shifts all patients by the same number of days more: who knows one "
        "true date knows all. Mix key and patient before the digest.",
        "random": "the same call gave another date. Tomorrow's file of that patient must be "
        "shifted as today's.",
        "process": "another process would shift by another number of days: it knows nothing of "
        "what this one remembers, and Python's `hash` of a text differs from run to run.",
        "future": "{date} moved into the future. Shift back, not on.",
        "far": "{date} moved by {days} days; 1 to 365 were asked for.",
        "narrow": "over 2,000 patients only {kinds} different shifts occur. Use the whole year.",
    },
    "deployment.6": {
        "right": "with these factors the plain mean of the processes is the gradient of the whole "
        "batch.",
        "format": "I expected {count} numbers, one for each process; got {got}.",
        "equal": "all processes got the same factor, as DDP has it: an image in a small part then "
        "counts for more.",
        "sum": "these are shares of the batch, n_k / n. DDP still divides by the number of "
        "processes: multiply by it.",
        "sizes": "these are the numbers of images. Divide by their mean.",
        "scale": "they grow with the parts, as they should, but must add up to the number of "
        "processes, {count}. Yours add up to {got:.3g}.",
        "inverse": "a process with fewer images got the larger factor.",
        "other": "for parts of {sizes} images I expected {expected}; got {got}.",
    },
}


def material() -> SimpleNamespace:
    """Finished answers of the exercises, and what the notebook uses without reading it."""
    answers = {"on_air": on_air, "guard": guard, "write_whole": write_whole}
    answers |= {"log_line": log_line, "shifted": shifted, "factors": factors}
    tools = {"header_only": header_only, "pixels_only": pixels_only, "clinic": clinic}
    tools |= {"right_studies": right_studies, "wrong_studies": wrong_studies, "header": header}
    tools |= {"four": four, "left_to_right": left_to_right, "fitted": fitted, "strange": strange}
    tools |= {"wrong_folders": wrong_folders, "planted": planted}
    return SimpleNamespace(**answers, **tools)


def four(mask: Tensor, A: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """A mask (D, H, W) and its affine as four programs return them: A and C right, B and D not."""
    width = mask.shape[2] - 1
    mirrored = mask.flip(2)
    return {
        "A": (mask, A),
        "B": (mirrored, A),
        "C": (mirrored, A @ _moved(width, 2, -1)),
        "D": (mask.flip(0), A),
    }


def left_to_right(volume: Volume) -> Volume:
    """The same axial volume, stored with rows that run from the patient's left to his right."""
    last = volume.affine @ torch.tensor([0, 0, volume.voxels.shape[2] - 1, 1.0]).double()
    x, y, z = last[:3].tolist()
    direction = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
    voxels = volume.voxels.flip(2)
    return replace(volume, voxels=voxels, origin=(x, y, z), direction=direction)


def fitted(slices: Tensor) -> Tensor:
    """Slices (D, H, W) as the network of the notebook takes them, (D, 1, 64, 64)."""
    return functional.interpolate(slices[:, None], (64, 64), mode="bilinear", antialias=True)


def strange(voxels: Tensor) -> dict[str, Tensor]:
    """What the notebook's network was not made for, each (D, H, W); `voxels` are a chest in HU."""
    mri, kidney = (load(name, n=8, size=64).images[:, 0].float() for name in _ELSEWHERE)
    abdomen = _chest(np.random.default_rng(3), lungs=False)
    return {
        "rescale forgotten": voxels + 1024,
        "an abdomen (drawn)": torch.from_numpy(abdomen).float(),
        "an MRI of the head": mri,
        "a kidney, stretched": kidney / 255 * 1500 - 1350,
        "chest, coronal": voxels.permute(1, 0, 2).flip(1)[24:72:4],
    }


_ELSEWHERE = ("brain_mri", "kidney_us")


def wrong_folders(volume: Volume, folder: Path) -> dict[str, Path]:
    """Studies on disk that a model for axial chest CT must refuse; `volume` is a right one."""
    voxels, (x, y, z), step = volume.voxels, volume.origin, volume.spacing
    coronal: dict[str, Any] = {"direction": CORONAL, "spacing": (step[1], step[0], step[2])}
    coronal |= {"origin": (x, y, z + (len(voxels) - 1) * step[0])}
    sparse: dict[str, Any] = {"voxels": voxels[::2], "spacing": (2 * step[0], *step[1:])}
    studies = {
        "an MRI": replace(volume, modality="MR", units="stored"),
        "a coronal CT": replace(volume, voxels=voxels.permute(1, 0, 2).flip(1), **coronal),
        "slices far apart": replace(volume, **sparse),
        "the lungs' bases": replace(volume, voxels=voxels[:8]),
        "values 1024 too high": replace(volume, voxels=voxels + 1024),
        "an abdomen": volume,
        "two patients": volume,
    }
    found = {}
    for k, (name, study) in enumerate(studies.items()):
        found[name] = folder / f"wrong {k}"
        files = write_series(study, found[name], seed=k)
        for path in files if name == "an abdomen" else ():
            data = dcmread(path)
            data.BodyPartExamined = "ABDOMEN"
            data.save_as(path)
    write_series(volume, found["two patients"] / "more", patient_id="SIM-0002")
    found["its own result"] = folder / "out"
    return found


def planted(path: Path) -> tuple[Path, list[str]]:
    """A DICOM file with an invented word in each of twelve places, and the words."""
    names = "name number place nested private uid person overlay meta before behind curve".split()
    words = dict(zip(names, (f"WORD{k:02}OF12" for k in range(12)), strict=True))
    words["uid"] = "77001234567"
    with tempfile.TemporaryDirectory() as folder:
        data = dcmread(
            write_series(Volume(voxels=torch.zeros(2, 8, 8), spacing=(1, 1, 1)), folder)[0]
        )
    data.PatientName, data.PatientID = words["name"], words["number"]
    data.InstitutionName, data.PersonName = words["place"], words["person"]
    step = Dataset()
    step.ScheduledProcedureStepDescription = words["nested"]
    data.RequestAttributesSequence = [step]
    data.private_block(0x0029, "INVENTED", create=True).add_new(1, "LO", words["private"])
    data.StudyInstanceUID = f"2.25.{words['uid']}"
    data.add_new((0x6000, 0x3000), "OB", words["overlay"].encode() + b" ")
    data.add_new((0x5000, 0x3000), "OB", words["curve"].encode() + b" ")
    data.add_new((0xFFFC, 0xFFFC), "OB", words["behind"].encode() + b" ")
    data.file_meta.SourceApplicationEntityTitle = words["meta"]
    data.preamble = words["before"].encode().ljust(128, b"\0")
    data.save_as(path, enforce_file_format=True)
    return path, list(words.values())


# ------------------------------------------------------------------------------------ 1


AIR = -500.0  # HU; below it a voxel is lung or air


def on_air(mask: Tensor, A: Tensor, hu: Tensor, B: Tensor) -> float:
    """The share of a mask's voxels that lie on air of a study.

    Args:
        mask: (D, H, W), not 0 inside.
        A: 4×4 float64, the mask's (slice, row, column, 1) → mm.
        hu: (d, h, w) of the study.
        B: the study's matrix.
    """
    voxels = mask.nonzero().double()
    index = torch.cat([voxels, torch.ones(len(voxels), 1, dtype=torch.float64)], 1)
    k = (torch.linalg.inv(B) @ A @ index.T)[:3].round().long()
    size = torch.tensor(hu.shape)[:, None]
    inside = ((k >= 0) & (k < size)).all(0)
    i, j, m = k[:, inside]
    return (hu[i, j, m] < AIR).sum().item() / len(voxels)


def _places() -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """Fixtures: a study and a mask of it, the mask stored in other orders or on other grids."""
    for seed, (d, h, w) in enumerate([(7, 9, 11), (8, 6, 10), (5, 12, 9), (6, 8, 7)]):
        rng = torch.Generator().manual_seed(seed)
        draw = torch.rand(d, h, w, generator=rng)
        hu = torch.where(draw < 0.45, -850.0, torch.where(draw > 0.9, AIR, 40.0))
        mask = (torch.rand(d, h, w, generator=rng) < 0.25) | (hu < AIR)
        mask[:, : h // 3] = False
        B = torch.eye(4, dtype=torch.float64)
        B[:3, :3] = torch.tensor([[0, 0, 0.7], [0, 0.9, 0], [2.5, 0, 0]], dtype=torch.float64)
        B[:3, 3] = torch.tensor([-12.3, 4.1, -250.7], dtype=torch.float64)
        name = ("a mask stored like the study", "a mask stored from left to right")[seed % 2]
        if seed % 2:
            mask, A = mask.flip(2), B @ _moved(w - 1, 2, -1)
        else:
            A = B.clone()  # some way off the study's voxels, so that there is something to round
            A[:3, 3] += B[:3, :3] @ torch.tensor([-0.3, 0.2, -0.4], dtype=torch.float64)
        if seed == 2:
            name = "a mask that begins below the study and reaches behind it"
            mask = functional.pad(mask.byte(), (0, 0, 1, 3, 2, 0), value=1).bool()
            mask[:, 1 : 1 + h // 3] = False
            A = B @ _moved(-2, 0, 1) @ _moved(-1, 1, 1)
        if seed == 3:
            name = "a mask stored from head to feet and from left to right"
            mask, A = mask.flip(0), A @ _moved(d - 1, 0, -1)
        yield name, (mask.to(torch.uint8), A, hu, B)


def _moved(start: int, axis: int, sign: int) -> Tensor:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[axis, axis], matrix[axis, 3] = sign, start
    return matrix


def _place_mistakes(mask: Tensor, A: Tensor, hu: Tensor, B: Tensor) -> list[tuple[str, float]]:
    voxels = mask.nonzero()
    ones = torch.ones(len(voxels), 1, dtype=torch.float64)
    index = torch.cat([voxels.double(), ones], 1).T
    exact = (torch.linalg.inv(B) @ A @ index)[:3]
    k, size = exact.round().long(), torch.tensor(hu.shape)[:, None]
    inside, above = ((k >= 0) & (k < size)).all(0), (k < size).all(0)
    air, inv = hu < AIR, torch.linalg.inv

    def share(index: Tensor, of: int, hit: Tensor = air) -> float:
        return hit[tuple(index)].sum().item() / of

    def within(index: Tensor, hit: Tensor = air) -> float:
        keep = ((index >= 0) & (index < size)).all(0)
        return share(index[:, keep], index.shape[1], hit)

    def by(matrix: Tensor, index: Tensor = index) -> Tensor:
        return (matrix @ index)[:3].round().long()

    right = share(k[:, inside], len(voxels))
    wrapped, M = k[:, above & (k >= -size).all(0)], inv(B) @ A
    other = (mask == 0).nonzero().double()
    other = torch.cat([other, torch.ones(len(other), 1)], 1).T
    turned = index[[2, 1, 0, 3]]
    orders = (B @ inv(A), A @ inv(B), (inv(A) @ B).T, (B @ inv(A)).T, (A @ inv(B)).T)
    return [
        ("index", within(voxels.T)),
        ("backwards", within(by(inv(A) @ B))),
        ("transposed", within(by(M.T))),
        *[("order", within(by(matrix))) for matrix in orders],
        *[("axes", within(one)) for one in (by(M, turned), k.flip(0), by(M, turned).flip(0))],
        ("covered", right * len(voxels) / int(air.sum())),
        ("outside", within(by(M, other))),
        ("whole", right * len(voxels) / mask.numel()),
        ("dropped", share(k[:, inside], int(inside.sum()))),
        ("wrapped", share(wrapped, len(voxels))),
        ("wrapped", share(k % size, len(voxels))),
        ("clamped", share(torch.minimum(k.clamp_min(0), size - 1), len(voxels))),
        ("cut", within(exact.long())),
        ("cut", within(exact.floor().long())),
        ("cut", within(exact.ceil().long())),
        ("at", within(k, hu <= AIR)),
        ("soft", 1 - right),
        *[("soft", within(k, more)) for more in (hu > AIR, hu >= AIR)],
        ("nowhere", 0.0),
    ]


@exercise("deployment.1", MESSAGES["deployment.1"])
def voxels_in_place(answer) -> Verdict:
    for case, given in _places():
        copies = [part.clone() for part in given]
        try:
            got = number(call(answer, *copies))
        except Wrong as wrong:
            if "out of bounds for dim" in str(wrong.values.get("error")):
                return "bounds", {"error": wrong.values["error"]}
            raise
        if not all(map(torch.equal, copies, given)):
            return "changed"
        expected = on_air(*given)
        if near(got, expected, absolute=1e-4):
            continue
        if not -1e-6 <= got <= 1 + 1e-6:
            return "range", {"got": got}
        for key, value in _place_mistakes(*given):
            if near(got, value, absolute=1e-4) and not near(value, expected, absolute=1e-4):
                return key
        return "other", {"case": case, "expected": expected, "got": got}
    return "right"


# ------------------------------------------------------------------------------------ 2


class Case(NamedTuple):
    """A study, what is to be known of it, and the reasons of which one must be named (or none)."""

    study: Volume
    told: str
    reasons: tuple[str, ...] = ()


def guard(study: Volume) -> list[str]:
    """Reasons to refuse a study to a network for lungs in axial chest CT; an empty list accepts."""
    return header_only(study) + pixels_only(study)


def header_only(study: Volume) -> list[str]:
    """A guard that believes the header."""
    found = []
    if study.modality != "CT":
        found.append("modality")
    if abs(study.direction[0][2]) < 0.9:
        found.append("orientation")
    slices, rows, columns = study.spacing
    if not (0.5 <= slices <= 12 and 0.3 <= rows <= 8 and 0.3 <= columns <= 8):
        found.append("spacing")
    word = str((study.header or Dataset()).get("BodyPartExamined", "")).strip().upper()
    if word and not any(part in word for part in ("CHEST", "THORAX", "LUNG")):
        found.append("body part")
    return found


def pixels_only(study: Volume) -> list[str]:
    """A guard that looks at the values alone."""
    h, w = (side // 3 for side in study.voxels.shape[1:])
    mean = study.voxels[:, h:-h, w:-w].mean()
    return [] if study.units == "HU" and -600 < mean < -100 else ["intensities"]


def header(**more: str) -> Dataset:
    """A header whose identifiers are invented words, as a scanner of a hospital writes them."""
    about = Dataset()
    for keyword, value in {**PLANTED, "Modality": "CT", **more}.items():
        setattr(about, keyword, value)
    return about


def _chest(rng: np.random.Generator, *, lungs: bool = True, head: bool = False) -> np.ndarray:
    """HU (24, 56, 56) of a drawn body, or of a head that fills the field; not like a person's."""
    scale = rng.uniform(0.78, 1.0)
    z, y, x = np.meshgrid(
        np.linspace(-1, 1, 24), *[np.linspace(-196, 196, 56) / scale] * 2, indexing="ij"
    )
    x = x + rng.uniform(-12, 12)
    a, b = (150, 185) if head else (175, 115)
    body = (x / a) ** 2 + (y / b) ** 2 < 1
    hu = np.where(body, rng.uniform(20, 60), -1000.0)
    if head:
        skull = body & ((x / (a - 18)) ** 2 + (y / (b - 18)) ** 2 > 1)
        hu[skull] = rng.uniform(700, 1100)
    else:
        hu[x**2 + (y - 75) ** 2 < 18**2] = rng.uniform(200, 350)
        fat = body & ((x / (a - 14)) ** 2 + (y / (b - 14)) ** 2 > 1)
        hu[fat] = -95.0
    if lungs and not head:
        grown = np.sqrt(np.clip(1.08 - np.abs(z) ** 3, 0, None))
        for side in (-1, 1):
            wide = (60 if side < 0 else 52) * grown
            lung = ((x - side * 84) / wide) ** 2 + (y / (82 * grown)) ** 2 < 1
            hu[lung & body] = rng.uniform(-900, -650)
    elif not head:
        gas = (x + rng.uniform(-60, 60)) ** 2 + (y + 55) ** 2 < rng.uniform(12, 25) ** 2
        hu[gas & body] = -950.0
    hu = hu + rng.normal(0, rng.uniform(10, 55), hu.shape)
    if rng.random() < 0.3:  # what lies outside the scanner's circle
        hu[x**2 + y**2 > 230**2] = -2000.0
    if not head and rng.random() < 0.2:  # a metal implant
        hu[10:12, 26:29, 20:23] = 3071.0
    return hu.clip(-2000, 3071)


def _study(hu: np.ndarray, word: str | None = "CHEST", **about: Any) -> Volume:
    options = {"spacing": (10.0, 7.0, 7.0), "origin": (-196.0, -196.0, -115.0), **about}
    header = Dataset()
    header.Modality = options.get("modality", "CT")
    if word is not None:
        header.BodyPartExamined = word
    return Volume(voxels=torch.from_numpy(hu).float(), header=header, **options)


def _turned(degrees: float) -> tuple[tuple[float, ...], ...]:
    """Axes of axial slices turned about the axis from right to left, as by a tilted gantry."""
    s, c = float(np.sin(np.radians(degrees))), float(np.cos(np.radians(degrees)))
    return ((0.0, -s, c), (0.0, c, s), (1.0, 0.0, 0.0))


DOWN = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
CORONAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
SAGITTAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))


def right_studies(n: int = 40, seed: int = 0) -> list[Case]:
    """Axial CT of the chest as clinics make it, drawn; the body part is right, or not told."""
    found = []
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        hu, told = _chest(rng), "axial chest CT"
        about: dict[str, Any] = {}
        word = ("CHEST", "CHEST", "CHEST", None, "", "THORAX", "LUNG", "CHESTABDPELVIS")[k % 8]
        if word != "CHEST":
            said = "without" if word is None else "an empty" if not word else f"{word!r} as"
            told += f", {said} BodyPartExamined"
        match k % 5:
            case 1:
                about["direction"], told = DOWN, f"{told}, slices from head to feet"
            case 2:
                degrees = float(rng.uniform(-15, 15))
                about["direction"], told = _turned(degrees), f"{told}, gantry tilted"
            case 3:
                about["spacing"], told = (1.0, 0.7, 0.7), f"{told}, fine spacing"
        found.append(Case(_study(hu, word, **about), told))
    return found


def wrong_studies(n: int = 60, seed: int = 0) -> list[Case]:
    """Studies for which the network was not trained, drawn, of fifteen kinds in turn."""
    found = []
    for k in range(n):
        rng = np.random.default_rng([seed, k, 1])
        found.append(_wrong(k % 15, rng))
    return found


def _wrong(kind: int, rng: np.random.Generator) -> Case:
    hu = _chest(rng)
    modality, either = ("modality",), ("body part", "intensities")
    values_off = ("intensities",)
    match kind:
        case 0:
            values = np.abs(_chest(rng, head=True) + 1000) * 0.4
            about = {"modality": "MR", "units": "stored", "spacing": (5.0, 4.0, 4.0)}
            return Case(_study(values, "HEAD", **about), "a head MRI", modality)
        case 1:
            values = rng.gamma(2.0, 30.0, hu.shape).clip(0, 255)
            return Case(
                _study(values, "KIDNEY", modality="US", units="stored"), "an ultrasound", modality
            )
        case 2:
            values = (hu + 1024).clip(0) * 4
            return Case(
                _study(values, modality="PT", units="stored"), "a PET, told to be CHEST", modality
            )
        case 3:
            return Case(_study(hu, direction=CORONAL), "a coronal CT", ("orientation",))
        case 4:
            return Case(_study(hu, direction=SAGITTAL), "a sagittal CT", ("orientation",))
        case 5:
            tilt = float(rng.choice([-1, 1]) * rng.uniform(40, 60))
            return Case(_study(hu, direction=_turned(tilt)), "an oblique CT", ("orientation",))
        case 6:
            gap = float(rng.uniform(15, 40))
            told = "a CT whose slices lie more than 12 mm apart"
            return Case(_study(hu[:8], spacing=(gap, 7.0, 7.0)), told, ("spacing",))
        case 7:
            fine, told = float(rng.uniform(0.01, 0.1)), "a micro-CT, pixels below 0.3 mm"
            spacing = (1.0, fine, fine)
            if rng.random() < 0.6:
                spacing, told = (10.0, *rng.permutation([7.0, 14.0])), "a CT, pixels of 7 × 14 mm"
            elif fine > 0.07:
                spacing, told = (fine, 0.7, 0.7), "a CT whose slices lie less than 0.5 mm apart"
            return Case(_study(hu, spacing=spacing), told, ("spacing",))
        case 8:
            values = (hu + 1024).clip(0)
            return Case(_study(values, units="stored"), "stored values, no rescale", values_off)
        case 9:
            told = "values 1024 too high, units called HU"
            return Case(_study((hu + 1024).clip(0)), told, values_off)
        case 10:
            values = ((hu + 1000) / 1600 * 255).clip(0, 255).round()
            return Case(_study(values), "grey values 0 to 255, units called HU", values_off)
        case 11:
            return Case(_study(np.full_like(hu, np.nan)), "values that are all NaN", values_off)
        case 12:
            values = _chest(rng, lungs=False)
            return Case(_study(values, "ABDOMEN"), "a CT of the abdomen", ("body part",))
        case 13:
            values, told = _chest(rng, lungs=False), "a CT of the abdomen, told to be CHEST"
            return Case(_study(values), told, either)
        case _:
            values, told = _chest(rng, head=True), "a CT of the head, no BodyPartExamined"
            study = _study(values, None, spacing=(5.0, 4.0, 4.0))
            return Case(study, told, either)


def clinic(n: int = 300, seed: int = 1, false: float = 0.15) -> list[Case]:
    """Right studies of which a share has another body part in the header, as protocols leave it."""
    found = []
    for k, case in enumerate(right_studies(n, seed)):
        rng = np.random.default_rng([seed, k, 2])
        if rng.random() < false:
            other = Dataset()
            other.BodyPartExamined = str(rng.choice(["ABDOMEN", "HEAD", "NECK"]))
            told = "axial chest CT, another body part in its header"
            case = Case(replace(case.study, header=other), told)
        found.append(case)
    return found


def _reasons(answer: Callable, case: Case) -> set[str]:
    before = case.study
    study = replace(before, voxels=before.voxels.clone(), header=deepcopy(before.header))
    got = call(answer, study)
    one = isinstance(got, str | dict) or not isinstance(got, Iterable)
    listed = [got] if one else call(list, got)  # a generator runs only now
    same = np.array_equal(before.voxels, study.voxels, equal_nan=True)
    if not same or study.header != before.header:
        raise Wrong("changed")
    if any(reason is ... for reason in listed):
        raise NotAttempted
    odd = [one for one in listed if not (isinstance(one, str) and one in REASONS)]
    if odd or isinstance(got, str):
        raise Wrong("format", reasons=", ".join(REASONS), got=repr((odd or [got])[0]))
    return set(listed)


@cache
def _scored() -> tuple[list[Case], list[Case]]:
    """The wrong and the right studies on which a guard is scored; it gets copies."""
    return wrong_studies(seed=7), right_studies(seed=7)


@exercise("deployment.2", MESSAGES["deployment.2"])
def refuses(answer) -> Verdict:
    wrong, right = _scored()
    said = [(case, _reasons(answer, case)) for case in wrong]
    kept = [(case, _reasons(answer, case)) for case in right]
    refused = [(case, got) for case, got in kept if got]
    if not any(got for _, got in said):
        return "nothing"
    if len(refused) == len(kept):
        shared = set.intersection(*[got for _, got in kept]) or kept[0][1]
        return "everything", {"got": _list(shared)}
    for case, got in said:
        if not got:
            return "accepted", {"case": case.told}
    for case, got in said:
        if not got & set(case.reasons):
            expected = " or ".join(case.reasons)
            return "named", {"case": case.told, "got": _list(got), "expected": expected}
    for case, got in refused:
        if len(refused) > 2 or got - {"intensities"}:
            told = {"case": case.told, "got": _list(got), "spacing": case.study.spacing}
            return "refused", told
    for case, got in said:
        true = {*header_only(case.study), *case.reasons, "intensities"}
        if more := got - true:
            return "untrue", {"case": case.told, "more": _list(more)}
    counts = {"wrong": len(wrong), "refused": len(refused), "right": len(right)}
    return "right", counts


def _list(reasons: set[str]) -> str:
    return " and ".join(reason for reason in REASONS if reason in reasons)


# ------------------------------------------------------------------------------------ 3


def write_whole(path: Path | str, parts: Iterable[bytes]) -> None:
    """Write parts to a file that is seen whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            for piece in parts:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class _Watched:
    """A folder in which a learner's writer works, and what may be seen there meanwhile."""

    def __init__(self, folder: Path, old: bytes | None) -> None:
        self.path, self.old = folder / "lungs.dcm", old
        if old is not None:
            self.path.write_bytes(old)
        self.before, self.beside = self.files(), set[int]()
        self.early: dict[str, Any] = {}
        self.streamed = False

    def files(self) -> set[str]:
        return {str(one.relative_to(self.path.parent)) for one in self.path.parent.rglob("*")}

    def content(self) -> bytes | None:
        return self.path.read_bytes() if self.path.is_file() else None

    def parts(self, pieces: list[bytes], stop: BaseException | None = None) -> Iterator[bytes]:
        """The pieces, with a look at the folder before each; `stop` comes in place of the last."""
        for k, piece in enumerate(pieces):
            found, new = self.content(), self.files() - self.before - {self.path.name}
            # a file keeps this number when it is renamed
            stats = [(self.path.parent / name).stat() for name in new]
            self.beside |= {one.st_ino for one in stats}
            # PIECES hold more than what waits in a file's buffer
            self.streamed = sum(one.st_size for one in stats) > len(b"".join(pieces[:k])) / 2
            if found is None and self.old is not None:
                raise _Seen("gone")
            if found is not None and found != self.old:
                told = {"part": k + 1, "parts": len(pieces), "name": self.path.name}
                raise _Seen("half", got=len(found), size=len(b"".join(pieces)), **told)
            if stop is not None and k == len(pieces) - 1:
                raise stop
            yield piece

    @contextmanager
    def renames(self) -> Iterator[None]:
        """A look at the result right after each renaming."""

        def looking(rename: Callable) -> Callable:
            def renamed(*names: Any, **options: Any) -> None:
                if self.old is not None and self.content() is None:
                    raise _Seen("gone")
                rename(*names, **options)
                found, size = self.content(), len(b"".join(PIECES))
                if found is not None and found != self.old and len(found) < size:
                    self.early = {"name": self.path.name, "got": len(found), "size": size}

            return renamed

        with (
            patch.object(os, "replace", looking(os.replace)),
            patch.object(os, "rename", looking(os.rename)),
        ):
            yield


class _Seen(BaseException):
    """Something that nobody should see was seen."""

    def __init__(self, key: str, **values: Any) -> None:
        super().__init__(key)
        self.verdict = (key, values)


PIECES = [b"DICM", b"first half, " * 40_000, b"second half" * 20, b"end"]


@exercise("deployment.3", MESSAGES["deployment.3"])
def written_whole(answer) -> Verdict:
    if not callable(answer):
        raise Wrong("not a function", kind=type(answer).__name__)
    for old in (b"the old result", None):
        with tempfile.TemporaryDirectory() as folder:
            verdict = _undisturbed(answer, _Watched(Path(folder), old))
        if verdict != "right":
            return verdict
        for stop in (OSError("the disk is full"), KeyboardInterrupt()):
            with tempfile.TemporaryDirectory() as folder:
                verdict = _stopped(answer, _Watched(Path(folder), old), stop)
            if verdict != "right":
                return verdict
    with tempfile.TemporaryDirectory() as folder:
        return _two_at_once(answer, _Watched(Path(folder), None))


def _undisturbed(answer: Callable, seen: _Watched) -> Verdict:
    name = seen.path.name
    try:
        with seen.renames():
            got = answer(seen.path, seen.parts(PIECES))
    except _Seen as fault:
        return fault.verdict
    except Exception as error:  # whatever a learner's code raises is told
        raise Wrong("raised", kind=type(error).__name__, error=error) from error
    if got is ...:
        raise NotAttempted
    content, whole = seen.content(), b"".join(PIECES)
    if content != whole:
        if content is None:
            return "content", {"got": "nothing, as it is not there"}
        held = f"{len(content)} bytes for {len(whole)}"
        return "content", {"got": "the old result" if content == seen.old else held}
    if seen.early:
        return "early", seen.early
    if got is not None:
        return "returned", {"got": type(got).__name__}
    if not seen.beside:
        return "elsewhere", {"name": name}
    if seen.path.stat().st_ino not in seen.beside:
        return "copied", {"name": name}
    if not seen.streamed:
        return "memory"
    if litter := seen.files() - seen.before - {name}:
        return "litter", {"name": name, "got": ", ".join(sorted(litter))}
    return "right"


def _stopped(answer: Callable, seen: _Watched, stop: BaseException) -> Verdict:
    try:
        answer(seen.path, seen.parts(PIECES, stop))
    except _Seen as fault:
        return fault.verdict
    except BaseException as error:
        reached = error is stop or error.__cause__ is stop or error.__context__ is stop
        if not reached:
            raise Wrong("raised", kind=type(error).__name__, error=error) from error
    else:
        return "swallowed"
    if seen.content() != seen.old:
        return "appeared" if seen.old is None else "replaced", {"name": seen.path.name}
    if left := seen.files() - seen.before:
        return "left", {"got": ", ".join(sorted(left)), "kind": type(stop).__name__}
    return "right"


def _two_at_once(answer: Callable, seen: _Watched) -> Verdict:
    """A second writer of the same result comes and goes while the first is half-way."""
    name, other = seen.path.name, [b"another result, ", b"longer than the first" * 50]

    def pieces() -> Iterator[bytes]:
        yield PIECES[0]
        answer(seen.path, iter(other))
        if seen.content() != b"".join(other):
            raise _Seen("shared", name=name)
        yield from PIECES[1:]

    try:
        answer(seen.path, pieces())
    except (_Seen, OSError, ValueError):
        return "shared", {"name": name}
    whole = seen.content() == b"".join(PIECES) and not seen.files() - {name}
    return "right" if whole else ("shared", {"name": name})


# ------------------------------------------------------------------------------------ 4

MODALITIES = ("CT", "MR", "US", "PT", "CR", "DX")
# Invented words, each of which a log must not hold.
PLANTED = {
    "PatientName": "SIMULATED^ONE",
    "PatientID": "SIM-004217",
    "PatientBirthDate": "19000317",
    "AccessionNumber": "INVENTED77",
    "StudyDate": "20000101",
    "StudyDescription": "Follow-up of Simulated One",
    "SeriesDescription": "Lung 1.5 mm SIMULATED",
    "ReferringPhysicianName": "SIMULATED^DOCTOR",
    "InstitutionName": "Hospital of Nowhere",
    "StationName": "NOWHERE1",
    "StudyInstanceUID": "2.25.1122334455667788",
    "SOPInstanceUID": "2.25.8877665544332211",
    "BodyPartExamined": "CHEST",
}
OTHER = {
    "PatientName": "INVENTED^TWO",
    "PatientID": "SIM-980031",
    "PatientBirthDate": "19011129",
    "AccessionNumber": "PLANTED12345",
    "StudyDate": "20000220",
    "StudyDescription": "Second look at Invented Two",
    "SeriesDescription": "Soft tissue 5 mm INVENTED",
    "ReferringPhysicianName": "INVENTED^COLLEAGUE",
    "InstitutionName": "Clinic of Elsewhere",
    "StationName": "ELSEWHERE22",
    "StudyInstanceUID": "2.25.99887766554433221100",
    "SOPInstanceUID": "2.25.1020304050607080900",
    "BodyPartExamined": "HEAD",
    "PatientSex": "F",
}


def log_line(run: str, header: Dataset, error: Exception | None) -> str:
    """A line of a log: the run, the modality, and what came of it."""
    modality = header.get("Modality")
    if modality not in MODALITIES:
        modality = "other"
    outcome = "done" if error is None else f"refused: {type(error).__name__}"
    return f"run {run} {modality} {outcome}"


def _line(answer: Callable, run: str, about: Dataset, error: Exception | None) -> str:
    got = call(answer, run, about, error)
    if not isinstance(got, str):
        raise Wrong("format", got=type(got).__name__)
    return got


def _refusal(who: str) -> DicomError:
    return DicomError(f"archive/{who}/IM0001.dcm: slices are missing, of {who}")


RUN = "7f3a91c2"


@exercise("deployment.4", MESSAGES["deployment.4"])
def logs(answer) -> Verdict:
    one, known = header(), ", ".join(MODALITIES)
    text = "004217 of SIMULATED^ONE"
    errors = (None, _refusal("SIMULATED_ONE_004217"), MemoryError(text), OSError(text))
    lines = [_line(answer, RUN, one, error) for error in errors]
    for line in lines:
        if len(line.splitlines()) != 1:
            return "lines"
        if verdict := _leak(line):
            return verdict
        if RUN not in line:
            return "run", {"modality": "CT"}
    again = [_line(answer, RUN, one, error) for error in errors]
    if again != lines or any(re.search(r"\d\d:\d\d", line) for line in lines):
        return "time"
    for keyword in OTHER:
        for error, line in zip(errors, lines, strict=True):
            if _line(answer, RUN, header(**{keyword: OTHER[keyword]}), error) != line:
                return "depends", {"what": keyword}
    if _line(answer, RUN, one, _refusal("INVENTED_TWO")) != lines[1]:
        return "depends", {"what": "the error's text"}
    told = ["no error", "a DicomError", "a MemoryError", "an OSError"]
    for a, b in combinations(range(len(told)), 2):
        if lines[a] == lines[b]:
            return "outcome", {"one": told[a], "other": told[b], "modality": "CT"}
    named = [_line(answer, RUN, header(Modality=kind), None) for kind in MODALITIES]
    missed = any(a.lower() not in b.lower() for a, b in zip(MODALITIES, named, strict=True))
    if missed or len(set(named)) < len(named):
        return "modality", {"known": known}
    return _injected(answer, known)


def _leak(line: str) -> Verdict | None:
    low = line.lower()
    values = {k: v for k, v in PLANTED.items() if k != "BodyPartExamined"}
    whole = [(keyword, [value]) for keyword, value in values.items()]
    split = [(k, v.replace("^", " ").replace("-", " ").split()) for k, v in values.items()]
    for keyword, pieces in whole + split:
        if any(len(piece) > 3 and piece.lower() in low for piece in pieces):
            return "leak", {"what": keyword}
    for keyword, value in values.items():
        for name in ("sha256", "sha1", "md5", "sha512", "blake2b"):
            digest = hashlib.new(name, value.encode()).hexdigest()
            if digest[:8] in low or str(int(digest, 16)) in low:
                return "hashed", {"what": keyword}
        if str(abs(hash(value))) in low:
            return "hashed", {"what": keyword}
    return None


def _injected(answer: Callable, known: str) -> Verdict:
    """Headers that hold anything under Modality, or none."""
    unknown = []
    for text in ("SIMULATED ONE", "INVENTED", "MG", "CT run 9 done", "CT\nrun 9 done", None):
        about = header()
        if text is None:
            del about.Modality
        else:
            with warnings.catch_warnings():  # what it is to be: not valid
                warnings.simplefilter("ignore")
                about.Modality = text
        line, refused = (_line(answer, RUN, about, error) for error in (None, _refusal("ONE")))
        if RUN not in line:
            return "run", {"modality": repr(text)}
        if line == refused:
            told = {"one": "no error", "other": "a DicomError", "modality": repr(text)}
            return "outcome", told
        if text and not text.startswith("CT"):
            unknown.append(line)
        held = text is not None and text.split("\n")[-1].lower() in line.lower()
        if held or len(line.splitlines()) != 1 or len(set(unknown)) > 1:
            return "injected", {"got": text, "known": known}
    return "right"


# ------------------------------------------------------------------------------------ 5


def shifted(day: str, patient: str, key: str) -> str:
    """A date (YYYYMMDD) moved back by 1 to 365 days, the same number for all of a patient's."""
    digest = hmac.new(key.encode(), patient.encode(), hashlib.sha256).digest()
    days = 1 + int.from_bytes(digest, "big") % 365
    return (datetime.strptime(day, "%Y%m%d") - timedelta(days)).strftime("%Y%m%d")


def _day(answer: Callable, day: str, patient: str = "SIM-1", key: str = "a secret") -> date:
    got = call(answer, day, patient, key)
    if not (isinstance(got, str) and len(got) == 8 and got.isdigit()):
        raise Wrong("format", got=repr(got))
    try:
        return datetime.strptime(got, "%Y%m%d").date()
    except ValueError:
        raise Wrong("format", got=repr(got)) from None


DAYS = ("20260131", "20260228", "20240229", "20251231", "20260101", "20260704")


@exercise("deployment.5", MESSAGES["deployment.5"])
def dates(answer) -> Verdict:
    truth = [datetime.strptime(day, "%Y%m%d").date() for day in DAYS]
    kinds, twin = set(), _forgetful(answer)
    for k in range(2000):
        moved = (truth[0] - _day(answer, DAYS[0], f"SIM-{k}")).days
        if moved == 0:
            return "same", {"date": DAYS[0]}
        if moved < 0:
            return "future", {"date": DAYS[0]}
        if moved > 365:
            return "far", {"date": DAYS[0], "days": moved}
        kinds.add(moved)
    for patient in ("SIM-1", "SIM-2"):
        first = _day(answer, DAYS[0], patient)
        if _day(answer, DAYS[0], patient) != first:
            return "random"
        for day, true in zip(DAYS, truth, strict=True):
            before, after = (true - truth[0]).days, (_day(answer, day, patient) - first).days
            if before != after:
                return "intervals", {"before": abs(before), "after": abs(after)}
    if len(kinds) == 1:
        return "patients"
    several = [f"SIM-{k}" for k in range(8)]
    for key in ("another", "b secret"):  # of another length, and of the same
        days = [_day(answer, DAYS[0], p) - _day(answer, DAYS[0], p, key) for p in several]
        if not any(days):
            return "key"
        if len({day.days % 365 for day in days}) == 1:
            return "added"
    if _salted(twin) != [_day(answer, DAYS[0], patient) for patient in several]:
        return "process"
    if len(kinds) < 150:
        return "narrow", {"kinds": len(kinds)}
    return "right"


def _forgetful(answer: Any) -> Any:
    """The same function, with copies of the tables that its calls may fill."""
    plain = answer.__wrapped__ if hasattr(answer, "cache_info") else answer
    if not isinstance(plain, FunctionType):
        return answer
    world = plain.__globals__
    used = [name for name in plain.__code__.co_names if isinstance(world.get(name), dict | list)]
    world = {**world, **{name: world[name].copy() for name in used}}
    defaults = deepcopy(plain.__defaults__)
    twin = FunctionType(plain.__code__, world, plain.__name__, defaults, plain.__closure__)
    twin.__kwdefaults__ = deepcopy(plain.__kwdefaults__)
    return twin


def _salted(answer: Callable) -> list[date]:
    """Dates of eight patients where Python's `hash` gives other numbers, as in another process."""
    plain = builtins.hash
    builtins.hash = lambda value: plain((value, "salt"))
    try:
        return [_day(answer, DAYS[0], f"SIM-{k}") for k in reversed(range(8))][::-1]
    finally:
        builtins.hash = plain


# ------------------------------------------------------------------------------------ 6


def factors(sizes: list[int]) -> list[float]:
    """What each process multiplies its mean loss by, so that the plain mean is the batch's."""
    return [len(sizes) * n / sum(sizes) for n in sizes]


@exercise("deployment.6", MESSAGES["deployment.6"])
def uneven_parts(answer) -> Verdict:
    for sizes in ([6, 2], [5, 1, 3, 8], [3, 3, 3]):
        said, want = call(answer, list(sizes)), factors(sizes)
        if isinstance(said, Iterator | ValuesView):
            said = call(list, said)  # a generator runs only now
        try:
            got = numbers(said)
        except Wrong as odd:
            raise Wrong(odd.key, **odd.values, count=len(sizes)) from None
        if tuple(got.shape) != (len(sizes),):
            return "format", {"count": len(sizes), "got": f"shape {tuple(got.shape)}"}
        if near(got, want):
            continue
        total, inverse = sum(sizes), [1 / n for n in sizes]
        wrong = {
            "sum": [n / total for n in sizes],
            "sizes": sizes,
        }
        for key, value in wrong.items():
            if near(got, value):
                return key
        if near(got / got[0], [1.0] * len(sizes)):
            return "equal"
        if near(got / got.sum(), wrong["sum"]):
            return "scale", {"count": len(sizes), "got": got.sum().item()}
        if near(got / got.sum(), np.array(inverse) / sum(inverse)):
            return "inverse"
        shown = [", ".join(f"{v:.3g}" for v in values) for values in (want, got.tolist())]
        told = {"sizes": ", ".join(map(str, sizes)), "expected": shown[0], "got": shown[1]}
        return "other", told
    return "right"
