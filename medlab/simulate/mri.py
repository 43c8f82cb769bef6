"""Magnetic resonance: tissues, spin echo, k-space, receiver noise, bias field."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medlab.errors import DataError

__all__ = [
    "TISSUES",
    "Tissue",
    "bias_field",
    "brain_slice",
    "from_kspace",
    "rician",
    "spin_echo",
    "to_kspace",
    "undersample",
]


class Tissue(NamedTuple):
    """Proton density relative to water, and relaxation times in ms."""

    pd: float
    t1: float
    t2: float


TISSUES: dict[float, dict[str, Tissue]] = {
    1.5: {
        "white matter": Tissue(0.70, 884, 72),
        "grey matter": Tissue(0.82, 1124, 95),
        "CSF": Tissue(1.00, 4300, 2000),
    },
    3.0: {
        "white matter": Tissue(0.70, 1084, 69),
        "grey matter": Tissue(0.82, 1820, 99),
        "CSF": Tissue(1.00, 4300, 2000),
    },
}
"""Field strength in tesla → tissue → values at body temperature.

T1 and T2 of white and grey matter: Stanisz et al., Magn. Reson. Med. 54, 507 (2005), table 1.
CSF and proton densities are round textbook values; CSF relaxes almost as free water does.
"""


def spin_echo(tissue: Tissue, *, tr: float, te: float) -> float:
    """Signal of a spin echo, S = PD (1 − exp(−TR/T1)) exp(−TE/T2), relative to pure water at rest.

    Valid for TE much shorter than TR; without flow and without an inversion.

    Args:
        tissue: proton density and relaxation times, ms.
        tr, te: repetition and echo time, ms, 0 ≤ te < tr.

    Returns:
        Signal, 0 … PD.

    Raises:
        DataError: times that are negative, or an echo after the repetition.

    Source: Hendrick, The AAPM/RSNA physics tutorial for residents, RadioGraphics 14, 829 (1994).
    """
    if not 0 <= te < tr:
        raise DataError(f"need 0 ≤ TE < TR in ms; got TE {te} and TR {tr}")
    tr, te = torch.tensor(float(tr)), torch.tensor(float(te))
    return float(tissue.pd * (1 - torch.exp(-tr / tissue.t1)) * torch.exp(-te / tissue.t2))


def brain_slice(z: float = 8.0) -> dict[str, Tensor]:
    """Share of white matter, grey matter and CSF in every pixel of one axial slice of MNI152.

    The anatomy is the average of 152 people that nilearn carries (its tissue maps, no download), so
    folds are smoother than in any one of them; what is in the brain mask and neither white nor grey
    counts as CSF.

    Args:
        z: height of the slice in MNI space, mm, −60 … 78.

    Returns:
        Maps (233, 197) of 1 mm pixels, 0 … 1, which sum to at most 1. The front is at the top and
        the person's left at the left of the picture (neurological order).

    Raises:
        DataError: a height outside the brain.
    """
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template
    from nilearn.datasets import load_mni152_wm_template as load_wm

    planes = []
    for load in (load_wm, load_mni152_gm_template, load_mni152_brain_mask):
        image = load(resolution=1)
        k = round(z - float(image.affine[2, 3]))
        if not 0 <= k < image.shape[2]:
            raise DataError(f"z is a height in MNI space between −60 and 78 mm; got {z}")
        plane = torch.from_numpy(image.get_fdata()[:, :, k]).float()
        planes.append(plane.T.flip(0).contiguous())
    white, grey, inside = planes
    if not inside.any():
        raise DataError(f"there is no brain at z = {z} mm; it reaches from about −60 to 78")
    white, grey = white.clamp(0, 1), grey.clamp(0, 1)
    csf = (inside - white - grey).clamp(0, 1)
    total = (white + grey + csf).clamp_min(1)
    return {"white matter": white / total, "grey matter": grey / total, "CSF": csf / total}


def to_kspace(image: Tensor) -> Tensor:
    """Image (…, H, W) → k-space (…, H, W), complex, zero frequency in the centre, unitary."""
    shifted = torch.fft.ifftshift(image, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))


def from_kspace(kspace: Tensor) -> Tensor:
    """The inverse of `to_kspace`: complex image (…, H, W); take `.abs()` for the magnitude."""
    shifted = torch.fft.ifftshift(kspace, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))


def undersample(lines: int, *, factor: int, centre: int = 16) -> Tensor:
    """Which phase-encoding lines an accelerated scan measures: every `factor`-th and the centre.

    Args:
        lines: number of lines of k-space, ≥ 1.
        factor: keep every such line, ≥ 1.
        centre: lines around the zero frequency that are always kept, ≥ 0.

    Returns:
        (lines, 1) boolean, to be multiplied with k-space (…, lines, W).

    Raises:
        DataError: numbers out of range.
    """
    if lines < 1 or factor < 1 or not 0 <= centre <= lines:
        raise DataError(
            f"need lines ≥ 1, factor ≥ 1 and 0 ≤ centre ≤ lines; got {lines}, {factor} and {centre}"
        )
    position = torch.arange(lines) - lines // 2
    inner = (position >= -(centre // 2)) & (position < centre - centre // 2)
    return ((position % factor == 0) | inner)[:, None]


def rician(image: Tensor, *, sigma: float, seed: int) -> Tensor:
    """The magnitude image that a receiver with noise in both channels yields.

    A = |S + n|, n = n₁ + i n₂, each normal with standard deviation σ. Where there is no signal the
    result is Rayleigh distributed with mean σ √(π/2); where the signal is strong the noise is
    nearly normal with deviation σ.

    Args:
        image: real or complex signal, any shape.
        sigma: noise of one channel, in units of the image, ≥ 0.
        seed: same seed, same noise.

    Returns:
        Magnitude ≥ 0, float32, same shape.

    Raises:
        DataError: a negative sigma.

    Source: Gudbjartsson & Patz, Magn. Reson. Med. 34, 910 (1995), eq. 1–3.
    """
    if not sigma >= 0:
        raise DataError(f"sigma is a standard deviation and must not be negative; got {sigma}")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, *image.shape, generator=generator) * sigma
    signal = image.to(torch.complex64)
    return torch.hypot(signal.real + noise[0], signal.imag + noise[1])


def bias_field(
    shape: tuple[int, int], *, strength: float = 0.3, order: int = 3, seed: int = 0
) -> Tensor:
    """A smooth uneven brightness as surface coils cause it: multiply the image by it.

    The logarithm is a random polynomial of the two coordinates, scaled to reach ±log(1 + strength)
    about a mean of zero.

    Args:
        shape: (H, W).
        strength: the field's range is at most 1/(1 + strength) … 1 + strength, ≥ 0.
        order: degree of the polynomial, ≥ 1.
        seed: same seed, same field.

    Returns:
        (H, W) float32, > 0, geometric mean 1.

    Raises:
        DataError: a negative strength or an order below 1.

    Source: Sled, Zijdenbos & Evans, IEEE Trans. Med. Imaging 17, 87 (1998), for the model.
    """
    if not strength >= 0 or order < 1:
        raise DataError(f"need strength ≥ 0 and order ≥ 1; got {strength} and {order}")
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    log = torch.zeros(shape)
    for i in range(order + 1):
        for j in range(order + 1 - i):
            if i + j:
                log += torch.randn((), generator=generator) * y**i * x**j
    log -= log.mean()
    limit = torch.log1p(torch.tensor(strength))
    return torch.exp(log / log.abs().max() * limit)
