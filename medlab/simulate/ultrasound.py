"""Ultrasound: scatterers, interference, envelope, log compression."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medlab.errors import DataError

__all__ = ["RAYLEIGH_SNR", "b_mode", "envelope", "kidney", "log_compress", "resolution_cell"]

RAYLEIGH_SNR = math.sqrt(math.pi / (4 - math.pi))
"""Mean over standard deviation of fully developed speckle, 1.913.

Source: Burckhardt, IEEE Trans. Sonics Ultrason. 25, 1 (1978).
"""


def resolution_cell(
    shape: tuple[int, int], *, spacing: tuple[float, float], axial: float, lateral: float
) -> Tensor:
    """Point-spread function of the complex echo: a Gaussian, centred at pixel (0, 0), energy 1.

    Args:
        shape: (H, W), depth by width.
        spacing: pixel size, mm (axial, lateral).
        axial, lateral: full width at half maximum of the amplitude, mm, > 0.

    Returns:
        (H, W), wrapped around the corner for use with the discrete Fourier transform.

    Raises:
        DataError: a width that is not positive, or finer than a pixel.
    """
    axes = []
    for n, step, width in zip(shape, spacing, (axial, lateral), strict=True):
        if not width >= step:
            raise DataError(
                f"a resolution cell of {width} mm cannot be shown with pixels of {step} mm: choose "
                "a larger width or a finer spacing"
            )
        distance = torch.fft.fftfreq(n, 1 / n) * step
        axes.append(torch.exp(-4 * math.log(2) * (distance / width) ** 2))
    cell = axes[0][:, None] * axes[1]
    return cell / cell.square().sum().sqrt()


def envelope(
    echogenicity: Tensor,
    *,
    spacing: tuple[float, float],
    axial: float = 0.4,
    lateral: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Amplitude of the echo of many small scatterers: fully developed speckle.

    Each pixel holds so many scatterers that its sum of phasors is complex normal with a standard
    deviation given by `echogenicity`. Blurred by the resolution cell, its magnitude is Rayleigh
    distributed: mean over deviation is √(π/(4−π)) ≈ 1.91 whatever the brightness.

    Args:
        echogenicity: (…, H, W) local scattering amplitude, ≥ 0; depth runs down.
        spacing: pixel size, mm (axial, lateral).
        axial, lateral: size of the resolution cell, full width at half maximum, mm.
        seed: same seed, same scatterers.

    Returns:
        (…, H, W) amplitude ≥ 0; where echogenicity is 1 its mean square is 1.

    Raises:
        DataError: negative echogenicity, or a cell finer than a pixel.

    Source: Wagner et al., Statistics of speckle in ultrasound B-scans, IEEE Trans. Sonics
    Ultrason. 30, 156 (1983).
    """
    if (echogenicity < 0).any():
        raise DataError(
            f"echogenicity is an amplitude and must not be negative; got {echogenicity.min():.3g}"
        )
    generator = torch.Generator().manual_seed(seed)
    real, imaginary = torch.randn(2, *echogenicity.shape, generator=generator) * math.sqrt(0.5)
    cell = resolution_cell(echogenicity.shape[-2:], spacing=spacing, axial=axial, lateral=lateral)
    field = torch.fft.fft2(torch.complex(real, imaginary) * echogenicity)
    return torch.fft.ifft2(field * torch.fft.fft2(cell)).abs()


def log_compress(amplitude: Tensor, *, dynamic_range: float = 60.0) -> Tensor:
    """Decibels below the maximum, mapped to 0 … 1: 1 + 20 log₁₀(A / A_max) / range, cut at 0.

    Args:
        amplitude: (…, H, W) ≥ 0; the maximum is taken per image.
        dynamic_range: decibels shown, > 0.

    Raises:
        DataError: a dynamic range that is not positive, or an image without any echo.
    """
    if not dynamic_range > 0:
        raise DataError(f"dynamic_range is in decibels and must be positive; got {dynamic_range}")
    top = amplitude.amax((-2, -1), keepdim=True)
    if not (top > 0).all():
        raise DataError("an image is 0 everywhere: there is no echo to compress")
    decibels = 20 * torch.log10((amplitude / top).clamp_min(1e-12))
    return (1 + decibels / dynamic_range).clamp(0, 1)


def kidney(
    shape: tuple[int, int] = (256, 256),
    *,
    spacing: tuple[float, float] = (0.5, 0.5),
    cyst: float = 0,
) -> tuple[Tensor, Tensor]:
    """A kidney in long section: which tissue stands where, and how strongly it scatters.

    Liver above, the capsule, the darker cortex, the bright central sinus fat, and on request a
    round cyst, which holds fluid and scatters almost nothing. A drawing with typical proportions
    (11 cm by 5 cm), not a measured anatomy.

    Args:
        shape: (H, W); spacing: mm (axial, lateral).
        cyst: diameter in mm, 0 for none.

    Returns:
        Echogenicity (H, W) float32, and mask (H, W) uint8: 0 outside, 1 kidney, 2 cyst.
    """
    rows, cols = (
        (torch.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)
    )
    y, x = torch.meshgrid(rows, cols, indexing="ij")

    def inside(half_height, half_width, y0=0.0, x0=0.0):
        return ((y - y0) / half_height) ** 2 + ((x - x0) / half_width) ** 2 <= 1

    echo = torch.full(shape, 0.5)
    capsule, organ, sinus = inside(26.5, 56.5), inside(25, 55), inside(9, 32)
    echo[capsule] = 1.5
    echo[organ] = 0.3
    echo[sinus] = 1.2
    mask = organ.to(torch.uint8)
    if cyst:
        hole = inside(cyst / 2, cyst / 2, -8.0, 30.0)
        echo[hole], mask[hole] = 0.01, 2
    return echo, mask


def b_mode(
    echogenicity: Tensor,
    *,
    spacing: tuple[float, float],
    frequency: float = 3.5,
    attenuation: float = 0.5,
    gain: float | None = None,
    dynamic_range: float = 60.0,
    noise: float = 1e-3,
    seed: int = 0,
    **cell,
) -> Tensor:
    """A B-mode picture: speckle, loss with depth, time gain compensation, log compression.

    The echo from depth z has travelled 2z and lost 2 α f z decibels. The scanner amplifies by the
    same amount as it believes was lost (`gain`), and amplifies the electronic noise with it.

    Args:
        echogenicity: (…, H, W) as for `envelope`; depth runs down.
        spacing: pixel size, mm (axial, lateral).
        frequency: f, MHz.
        attenuation: α of the tissue, dB/(cm·MHz), about 0.5 in soft tissue.
        gain: α that the scanner assumes; the true one if not given.
        dynamic_range: decibels shown.
        noise: electronic noise, amplitude relative to an echogenicity of 1.
        seed: same seed, same picture.
        cell: `axial` and `lateral` for `envelope`.

    Returns:
        (…, H, W) display values 0 … 1.
    """
    depth = torch.arange(echogenicity.shape[-2])[:, None] * spacing[0] / 10  # cm
    loss = 10 ** (-2 * attenuation * frequency * depth / 20)
    gain = attenuation if gain is None else gain
    amplify = 10 ** (2 * gain * frequency * depth / 20)
    echo = envelope(echogenicity, spacing=spacing, seed=seed, **cell) * loss
    generator = torch.Generator().manual_seed(seed + 1)
    real, imaginary = torch.randn(2, *echo.shape, generator=generator) * noise * math.sqrt(0.5)
    return log_compress(torch.hypot(echo + real, imaginary) * amplify, dynamic_range=dynamic_range)
