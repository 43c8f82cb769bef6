"""Contrast agent in a breast lesion: blood, tissue, and the curves that a scanner measures."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from medlab.errors import DataError, read_facts
from medlab.simulate._streams import positive, stream

_FACTS = read_facts("simulate/kinetics")
SITES: dict[str, list[float]] = _FACTS["sites"]
KINDS: list[dict[str, Any]] = list(_FACTS["kinds"].values())
STEP, LONGEST = 0.01, 15.0  # minutes: grid of the integration, and its end
HAEMATOCRIT = 0.42
MALIGNANT = 101 / 266  # of the lesions of Kuhl et al. (1999)
ENHANCEMENT = 300.0  # % of the signal before contrast, per mM; real signals saturate


class Curves(NamedTuple):
    """Lesions (N), their measured curves padded with zeros to the longest, T images.

    Attributes:
        enhancement: float32 (N, T), % of the signal before contrast; the first image is before it.
        minutes: float32 (N, T), since the injection; 0 of the first image.
        lengths: int64 (N,), images that were taken.
        labels: int64 (N,), 1 if malignant.
        kinds: int64 (N,), 1 persistent, 2 plateau, 3 washout, as drawn, before noise.
        patients: int64 (N,).
    """

    enhancement: Tensor
    minutes: Tensor
    lengths: Tensor
    labels: Tensor
    kinds: Tensor
    patients: np.ndarray


def plasma(minutes: ArrayLike) -> np.ndarray:
    """Contrast agent in arterial plasma, mM, after a bolus of 0.1 mmol/kg at 0 minutes.

    Source: Parker et al., Magn Reson Med 56 (2006) 993, for whole blood; divided by
    1 − 0.42, the share of plasma.
    """
    t = np.asarray(minutes, dtype=float)
    blood = 1.050 * np.exp(-0.1685 * t) / (1 + np.exp(-38.078 * (t - 0.483)))
    for area, at, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132)):
        height = area / (width * np.sqrt(2 * np.pi))
        blood = blood + height * np.exp(-((t - at) ** 2) / (2 * width**2))
    return np.where(t >= 0, blood, 0) / (1 - HAEMATOCRIT)


def tofts(minutes: ArrayLike, *, k_trans: float, k_ep: float) -> np.ndarray:
    """Contrast agent in tissue, mM: what comes in from the plasma, less what flows back.

    C(t) = K_trans · ∫₀ᵗ c_p(u) · exp(−k_ep (t − u)) du, with the `plasma` concentration c_p.

    Args:
        minutes: any shape, 0 … 15.
        k_trans: transfer constant, 1/min, > 0.
        k_ep: rate constant of the way back, 1/min, 0 < k_ep ≤ 20; K_trans / k_ep is v_e, the share
            of space outside cells and vessels.

    Source: Tofts et al., J Magn Reson Imaging 10 (1999) 223.
    """
    positive(k_trans=k_trans, k_ep=k_ep)
    t = np.asarray(minutes, dtype=float)
    if t.size and not (t.min() >= 0 and t.max() <= LONGEST and k_ep <= 20):
        raise DataError(
            f"expected 0 … {LONGEST:g} minutes and k_ep up to 20 per minute; got "
            f"{t.min():g} … {t.max():g} and {k_ep:g}"
        )
    grid = np.arange(0, LONGEST + STEP / 2, STEP)
    grown = plasma(grid) * np.exp(k_ep * grid)
    area = np.concatenate([[0], np.cumsum((grown[1:] + grown[:-1]) / 2 * STEP)])
    return k_trans * np.interp(t, grid, np.exp(-k_ep * grid) * area)


def breast_curves(
    patients: int, *, seed: int = 0, late: Literal["any", "suspicious"] = "any"
) -> Curves:
    """Simulated dynamic contrast-enhanced MRI of breast lesions at three sites.

    A lesion is malignant or benign; its kind is drawn from the published shares, its k_ep and v_e
    from ranges of that kind, so beyond its kind a curve tells nothing about the diagnosis. A
    patient has one lesion or two, and her own gain and bolus. Sites take their images at intervals
    of their own, and stop after 5 to 9 minutes. Noise is Gaussian, 8 % of the signal before
    contrast; in one lesion of seven the patient moves, and one image shows less of it.

    Args:
        patients: number ≥ 1; patient k is the same whatever it is.
        seed: ≥ 0.
        late: who gets late images: "any" patient, or the "suspicious": those with a malignant
            lesion go on for 8 or 9 minutes in nine of ten cases, the others in one of ten.

    Source: shares of the kinds from Kuhl et al., Radiology 211 (1999) 101.
    """
    if patients < 1 or late not in ("any", "suspicious"):
        said = f"patients={patients!r}, late={late!r}"
        raise DataError(f"expected patients ≥ 1 and late 'any' or 'suspicious'; got {said}")
    rows = [row for k in range(patients) for row in _patient(k, seed, late)]
    values, times, labels, kinds, who = zip(*rows, strict=True)
    return Curves(
        enhancement=pad_sequence(list(values), batch_first=True),
        minutes=pad_sequence(list(times), batch_first=True),
        lengths=torch.tensor([len(t) for t in times]),
        labels=torch.tensor(labels),
        kinds=torch.tensor(kinds),
        patients=np.array(who),
    )


def _patient(k: int, seed: int, late: str) -> list[tuple]:
    """Rows of a patient's lesions: values, minutes, label, kind, patient."""
    rng = stream("breast_curves", "1", seed, k)
    interval, first = list(SITES.values())[rng.integers(3)]
    gain = rng.lognormal(0, 0.25)
    labels = (rng.random(1 + (rng.random() < 0.25)) < MALIGNANT).astype(int)
    is_late = rng.random() < ({1: 0.9, 0: 0.1}[labels.max()] if late == "suspicious" else 0.4)
    end = rng.uniform(8, 9) if is_late else rng.uniform(5, 7.5)
    after = first + interval * np.arange(int((end - first) / interval) + 1)
    minutes = np.concatenate([[0], after])
    rows = []
    for label in labels.tolist():
        kind = int(rng.choice(3, p=[one["share"][label] for one in KINDS]))
        k_ep, space = (rng.uniform(*KINDS[kind][name]) for name in ("k_ep", "v_e"))
        values = ENHANCEMENT * gain * tofts(minutes, k_trans=k_ep * space, k_ep=k_ep)
        moved = rng.random() < 1 / 7
        place, lost = rng.integers(1, len(minutes)), rng.uniform(0.3, 0.6)
        if moved:
            values[place] *= 1 - lost
        values = values + rng.normal(0, 8, len(minutes))
        curve = (torch.from_numpy(one).float() for one in (values, minutes))
        rows.append((*curve, label, kind + 1, k))
    return rows
