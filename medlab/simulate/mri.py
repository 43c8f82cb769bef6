"""Magnetic resonance: relaxation, the spin-echo signal, k-space, noise and a brain."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from medlab.errors import DataError, read_facts


class Tissue(NamedTuple):
    """Relaxation times T1 and T2 in ms; proton density pd relative to water."""

    t1: float
    t2: float
    pd: float


RELAXATION: dict[float, dict[str, Tissue]] = {
    float(tesla): {name: Tissue(*numbers) for name, numbers in tissues.items()}
    for tesla, tissues in read_facts("simulate/mri")["relaxation"].items()
}
"""Tissues of the brain and its lesions by field strength in tesla.

Source: T2, and T1 at 3 tesla, from Stanisz et al., Magn Reson Med 54 (2005) 507, table 1; T1 at
1.5 tesla from Wright et al., Magn Reson Mater Phy 21 (2008) 121; fluid and proton densities are
rounded from Tofts, Quantitative MRI of the Brain (2003), and lesions are round numbers.
"""
BRAIN = ("white matter", "grey matter", "csf")


def spin_echo(tissue: Tissue, *, tr: float, te: float, ti: float | None = None) -> Tensor:
    """Spin-echo signal S = PD · (1 − exp(−TR/T1)) · exp(−TE/T2), for TE much shorter than TR.

    With `ti` the magnetisation is inverted first: S = PD · (1 − 2 exp(−TI/T1) + exp(−TR/T1)) ·
    exp(−TE/T2), below 0 while it has not yet recovered through 0. FLAIR takes the TI at which that
    of fluid passes it: TI = T1 · ln(2 / (1 + exp(−TR/T1))).

    Args:
        tissue: whose signal it is, relative to that of pure water without relaxation.
        tr: repetition time, ms.
        te: echo time, ms; 0 ≤ te < tr.
        ti: from inversion to excitation, ms; 0 ≤ ti, ti + te < tr.

    Source: Bushberg et al., The Essential Physics of Medical Imaging (3rd ed. 2012), ch. 12.
    """
    if not (te >= 0 and (ti is None or ti >= 0) and te + (ti or 0) < tr):
        said = f"0 ≤ te < tr, an inversion to 0 ≤ ti, ti + te < tr; got {te=}, {ti=}, {tr=}"
        raise DataError(f"times in ms must keep to {said}")
    t1, t2, pd = torch.tensor(tissue)
    saturated = torch.exp(-tr / t1)
    grown = 1 - saturated if ti is None else 1 - 2 * torch.exp(-ti / t1) + saturated
    return pd * grown * torch.exp(-te / t2)


@cache
def template() -> tuple[np.ndarray, tuple[float, float, float]]:
    """White matter, grey matter and the mask of the average brain, and x, y, z of the first voxel.

    float32 (3, D, H, W), along z, y and x of MNI152 in steps of 1 mm; nilearn carries it.
    """
    from nilearn import datasets

    names = ("wm_template", "gm_template", "brain_mask")
    maps = [getattr(datasets, f"load_mni152_{name}")(resolution=1) for name in names]
    x, y, z = (float(c) for c in maps[0].affine[:3, 3])
    return np.stack([np.asarray(m.dataobj, dtype=np.float32).T for m in maps]), (x, y, z)


def brain_shares(height_mm: float, *, resolution: int) -> Tensor:
    """Share of white matter, grey matter and fluid in each pixel of an axial slice, (3, H, W).

    The MNI152 average of 152 brains, which nilearn carries (no download); fluid is what its brain
    mask holds beyond white and grey matter. The front is on top, the patient's left on the right.

    Args:
        height_mm: MNI z of the slice, −60 … 80 mm.
        resolution: pixel size, 1 or more whole mm.

    Source: Fonov et al., NeuroImage 54 (2011) 313.
    """
    if not -60 <= height_mm <= 80:
        raise DataError(f"height_mm is the MNI z of an axial slice, −60 … 80 mm; got {height_mm}")
    maps, (_, _, lowest) = template()
    # Along y and x the maps run to the front and to the patient's right: turn them for display.
    white, grey, brain = maps[:, round(height_mm - lowest), ::-1, ::-1]
    shares = np.stack([white, grey, np.clip(brain - grey - white, 0, 1)])
    return avg_pool2d(torch.from_numpy(shares).clamp(0, 1), resolution)


def brain_image(shares: Tensor, *, tr: float, te: float) -> Tensor:
    """Noise-free image (H, W) at 3 tesla of `brain_shares` (3, H, W); times as for `spin_echo`."""
    if shares.shape[0] != len(BRAIN):
        raise DataError(f"shares must be (3, H, W): {', '.join(BRAIN)}; got {tuple(shares.shape)}")
    signals = torch.stack([spin_echo(RELAXATION[3.0][name], tr=tr, te=te) for name in BRAIN])
    return (signals[:, None, None] * shares).sum(0)


def keep_kspace(
    image: Tensor | np.ndarray, fraction: float, part: Literal["centre", "edge"] = "centre"
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the central rectangle of k-space, or all but it, and go back to the image.

    Args:
        image: (H, W), magnitudes ≥ 0.
        fraction: of each side of k-space that the rectangle spans, 0 (the mean alone) to 1 (all).
        part: "centre" or "edge".

    Returns:
        k-space complex (H, W), zero where dropped, the mean in the middle; and the magnitude of
        its image, float64 (H, W).
    """
    values = np.asarray(image, dtype=float)
    low = values.min()
    if values.ndim != 2 or not low >= 0:
        raise DataError(f"expected one magnitude image (H, W), ≥ 0; got {values.shape}, ≥ {low:g}")
    if not 0 <= fraction <= 1 or part not in ("centre", "edge"):
        raise DataError(f"expected 0 … 1 and 'centre' or 'edge', got {fraction} and {part!r}")
    inside = [np.abs(np.fft.fftshift(np.fft.fftfreq(n))) <= fraction / 2 for n in values.shape]
    kept = inside[0][:, None] & inside[1]
    spectrum = np.fft.fftshift(np.fft.fft2(values)) * (kept if part == "centre" else ~kept)
    return spectrum, np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))


def add_noise(data: Tensor, sigma: float, *, seed: int | np.random.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation `sigma` to the real and to the imaginary part.

    The magnitude of the noisy image is Rician; without tissue, Rayleigh with mean σ√(π/2).

    Source: Gudbjartsson & Patz, Magn Reson Med 34 (1995) 910.
    """
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.standard_normal((2, *data.shape))).float() * sigma
    return data + torch.complex(noise[0], noise[1])


def phase_contrast(
    signal: Tensor,
    velocity: Tensor,
    *,
    venc: float,
    sigma: float,
    seed: int | np.random.Generator,
    fine: int = 1,
) -> tuple[Tensor, Tensor]:
    """Velocity and magnitude images from two acquisitions, one of them with velocity encoding.

    A spin of velocity v has the phase π · v / VENC in the second, none in the first; a voxel is the
    sum of its spins. The phase between both gives v = VENC · phase / π, wrapped to ± VENC, with a
    standard deviation of √2/π · VENC · sigma/signal where that is small; without signal, any
    velocity is as likely as another.

    Args:
        signal: magnitudes ≥ 0 without noise, (…, H, W).
        velocity: through the plane, cm/s, of the same shape, with what eddy currents add to it.
        venc: velocity that turns the phase by π, cm/s.
        sigma: standard deviation of the noise in the real and in the imaginary part.
        seed: of the noise.
        fine: points of `signal` along each side of a voxel: they divide H and W.

    Returns:
        Velocity, cm/s, within ± VENC, and the mean magnitude of both, (…, H / fine, W / fine).

    Source: Pelc et al., Magn Reson Q 7 (1991) 229; Conturo & Smith, Magn Reson Med 15 (1990) 420.
    """
    if not (venc > 0 and sigma >= 0):
        raise DataError(f"venc must be above 0 and sigma not below; got {venc} and {sigma}")
    angle = velocity * (math.pi / venc)
    parts = torch.stack([signal, signal * angle.cos(), signal * angle.sin()])
    still, real, imaginary = avg_pool2d(parts.flatten(0, -3), fine).unflatten(0, parts.shape[:-2])
    both = torch.stack(
        [torch.complex(still, torch.zeros_like(still)), torch.complex(real, imaginary)]
    )
    first, second = add_noise(both, sigma, seed=seed)
    return (second * first.conj()).angle() * (venc / math.pi), (first.abs() + second.abs()) / 2
