"""What a reader found out about images that their user should know."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pandas as pd

from medlab.datasets._files import some

UNKNOWN_PATIENTS = (
    "Patients are unknown: each image counts as another patient, so that a patient on both sides "
    "of a split cannot be excluded."
)


def faults(
    pixels: np.ndarray, target: np.ndarray | None, patients: np.ndarray, known: bool
) -> list[str]:
    """Patients in several classes (if patients are known), and images that stand there twice."""
    notes = []
    frame = pd.DataFrame({"patient": patients})
    frame["hash"] = [blake2b(image.tobytes(), digest_size=16).digest() for image in pixels]
    single = target is not None and target.ndim == 1
    frame["label"] = target if single else 0
    kinds = frame.groupby("patient")["label"].nunique()
    both = kinds.index[kinds > 1]
    if known and len(both):
        notes.append(
            f"{len(both)} of {len(kinds)} patients have images in more than one class: "
            f"{some(both)}."
        )
    twins = frame.groupby("hash")["label"].agg(["size", "nunique"])
    copies = int((twins["size"] - 1).sum())
    if copies:
        fact = f"{copies} images are exact copies" if copies > 1 else "1 image is an exact copy"
        clash = int((twins["nunique"] > 1).sum())
        extra = f", {clash} of them with another label" if clash else ""
        notes.append(f"{fact} of another{extra}.")
    return notes
