"""Magnetic resonance: relaxation, the spin-echo signal, k-space, noise and shading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medlab.errors import DataError


@dataclass(frozen=True)
class Tissue:
    """Relaxation times T1 and T2 in ms; proton density pd relative to water."""

    t1: float
    t2: float
    pd: float


BRAIN = ("white matter", "grey matter", "csf")

RELAXATION: dict[float, dict[str, Tissue]] = {
    3.0: {
        "white matter": Tissue(1084, 69, 0.70),
        "grey matter": Tissue(1820, 99, 0.82),
        "csf": Tissue(4300, 2000, 1.00),
    },
}
"""Tissues of the brain by field strength in tesla.

Source: T1 and T2 from Stanisz et al., Magn Reson Med 54 (2005) 507, table 1. Cerebrospinal fluid,
which varies most between studies, and the proton densities are rounded textbook values (Tofts,
Quantitative MRI of the Brain, 2003).
"""


def spin_echo(
    pd: Tensor | float, t1: Tensor | float, t2: Tensor | float, *, tr: float, te: float
) -> Tensor:
    """Spin-echo signal S = PD · (1 − exp(−TR/T1)) · exp(−TE/T2).

    The formula assumes TE much shorter than TR.

    Args:
        pd: proton density; a number, or a map that broadcasts with the others.
        t1: longitudinal relaxation time, ms.
        t2: transverse relaxation time, ms.
        tr: repetition time, ms.
        te: echo time, ms; 0 ≤ te < tr.

    Returns:
        Signal relative to that of pure water without relaxation.

    Raises:
        DataError: times that are not positive, or te ≥ tr.

    Source: Bushberg et al., The Essential Physics of Medical Imaging (3rd ed. 2012), ch. 12.
    """
    if not 0 <= te < tr:
        raise DataError(
            "the echo must come before the next repetition: 0 ≤ te < tr in ms; "
            f"got te={te}, tr={tr}"
        )
    pd, t1, t2 = (torch.as_tensor(v, dtype=torch.float32) for v in (pd, t1, t2))
    if (t1 <= 0).any() or (t2 <= 0).any():
        raise DataError("relaxation times t1 and t2 are in ms and must be positive")
    return pd * (1 - torch.exp(-tr / t1)) * torch.exp(-te / t2)


def brain_shares(height_mm: float = 18.0, *, resolution: int = 2) -> Tensor:
    """Share of white matter, grey matter and fluid in each pixel of an axial slice, (3, H, W).

    The anatomy is the MNI152 average of 152 brains, which nilearn carries (no download). White and
    grey matter are its probability maps; what the brain mask holds beyond them is fluid. The front
    is on top and the patient's left on the right, as radiologists look at it.

    Args:
        height_mm: MNI z of the slice, −60 … 80 mm.
        resolution: pixel size, 1 or more whole mm.

    Raises:
        DataError: a slice outside the brain.

    Source: Fonov et al., NeuroImage 54 (2011) 313.
    """
    from nilearn.datasets import (
        load_mni152_brain_mask,
        load_mni152_gm_template,
        load_mni152_wm_template,
    )

    if not -60 <= height_mm <= 80:
        raise DataError(f"height_mm is the MNI z of an axial slice, −60 … 80 mm; got {height_mm}")
    if resolution < 1 or resolution != int(resolution):
        raise DataError(f"resolution is a pixel size in whole mm, ≥ 1; got {resolution}")
    # The template as it is stored, 1 mm: asking nilearn for another size would resample all of it.
    grey, white = load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1)
    mask = load_mni152_brain_mask(resolution=1)
    k = round((height_mm - grey.affine[2, 3]) / grey.affine[2, 2])
    gm, wm, brain = (np.asarray(i.dataobj[:, :, k], dtype=np.float32) for i in (grey, white, mask))
    if grey.affine[0, 0] > 0:  # the first axis runs to the patient's right: mirror it for display
        gm, wm, brain = gm[::-1], wm[::-1], brain[::-1]
    fluid = np.clip(brain - gm - wm, 0, 1)
    stack = np.stack([wm, gm, fluid])[:, :, ::-1].transpose(0, 2, 1)
    shares = torch.from_numpy(np.ascontiguousarray(stack)).clamp(0, 1)
    return torch.nn.functional.avg_pool2d(shares, int(resolution))


def brain_image(shares: Tensor, *, tr: float, te: float) -> Tensor:
    """Noise-free spin-echo image (H, W) at 3 tesla of a slice given as tissue shares (3, H, W).

    Args:
        shares: white matter, grey matter, fluid, as `brain_shares` returns them.
        tr: repetition time, ms.
        te: echo time, ms.

    Raises:
        DataError: another number of tissues, or times that `spin_echo` refuses.
    """
    if shares.shape[0] != len(BRAIN):
        raise DataError(f"shares must be (3, H, W): {', '.join(BRAIN)}; got {tuple(shares.shape)}")
    tissues = [RELAXATION[3.0][name] for name in BRAIN]
    signals = torch.stack([spin_echo(t.pd, t.t1, t.t2, tr=tr, te=te) for t in tissues])
    return (signals[:, None, None] * shares).sum(0)


def keep_kspace(
    image: Tensor | np.ndarray, fraction: float, part: Literal["centre", "edge"] = "centre"
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the central rectangle of k-space, or all but it, and go back to the image.

    Args:
        image: (H, W) or (1, H, W), ≥ 0.
        fraction: of each side of k-space that the rectangle spans, 0 (the mean alone) to 1 (all).
        part: "centre" or "edge".

    Returns:
        k-space complex (H, W), zero where dropped, with the mean in the middle; and the magnitude
        of the image that it gives, float64 (H, W).

    Raises:
        DataError: not one image, negative or missing values, a fraction outside 0…1, or an unknown
            part.
    """
    values = image.detach().cpu().numpy() if torch.is_tensor(image) else np.asarray(image)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or not values.size:
        raise DataError(f"expected one grey image (H, W) or (1, H, W), got {values.shape}")
    values = values.astype(float)
    if not values.min() >= 0:
        raise DataError(
            f"k-space is shown for magnitude images, which are ≥ 0; this one goes down to "
            f"{values.min():.4g}: pass an MR image, or subtract the minimum"
        )
    if not 0 <= fraction <= 1 or part not in ("centre", "edge"):
        raise DataError(
            f"fraction must be 0 to 1 and part 'centre' or 'edge', got {fraction} and {part!r}"
        )
    inside = [np.abs(np.fft.fftshift(np.fft.fftfreq(n))) <= fraction / 2 for n in values.shape]
    kept = inside[0][:, None] & inside[1]
    spectrum = np.fft.fftshift(np.fft.fft2(values)) * (kept if part == "centre" else ~kept)
    return spectrum, np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))


def add_noise(data: Tensor, sigma: float, *, seed: int) -> Tensor:
    """Add complex Gaussian noise: standard deviation `sigma` in the real and in the imaginary part.

    As the transform is unitary, noise of σ in k-space is noise of σ in the image. The magnitude of
    the noisy image is Rician; where there is no tissue, Rayleigh with mean σ√(π/2).

    Source: Gudbjartsson & Patz, Magn Reson Med 34 (1995) 910.
    """
    if not sigma >= 0:
        raise DataError(f"sigma is a standard deviation and must not be negative; got {sigma}")
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.standard_normal((2, *data.shape))).float() * sigma
    return data + torch.complex(noise[0], noise[1])
