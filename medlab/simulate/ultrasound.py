"""Ultrasound: speckle from unresolved scatterers, log compression, a kidney."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError


def envelope(
    echogenicity: Tensor, *, pixel_mm: float, axial_mm: float, lateral_mm: float, seed: int
) -> Tensor:
    """Echo amplitude of tissue that holds many scatterers in each resolution cell.

    Each pixel scatters a complex Gaussian echo of variance `echogenicity`: the sum of many small
    echoes of random phase. The echoes are convolved with the pulse, a Gaussian in both directions,
    of unit energy. Where echogenicity e is uniform, the envelope is Rayleigh: its mean is √(πe)/2
    and mean over standard deviation is √(π / (4 − π)) = 1.91, whatever e.

    Args:
        echogenicity: (H, W) or (B, H, W) mean echo power, ≥ 0; rows are depth.
        pixel_mm: pixel size, mm.
        axial_mm: standard deviation of the pulse along depth, mm, > 0.
        lateral_mm: standard deviation of the pulse across, mm, > 0.
        seed: of the scatterers.

    Returns:
        Amplitude, float32 ≥ 0, same shape.

    Raises:
        DataError: a negative echogenicity or a size that is not positive.

    Source: Burckhardt, IEEE Trans Sonics Ultrason 25 (1978) 1; Wagner et al., ibid. 30 (1983) 156.
    """
    echogenicity = torch.as_tensor(echogenicity, dtype=torch.float32)
    if not min(pixel_mm, axial_mm, lateral_mm) > 0:
        raise DataError(
            "pixel_mm, axial_mm and lateral_mm are lengths and must be positive; got "
            f"{pixel_mm}, {axial_mm}, {lateral_mm}"
        )
    if (echogenicity < 0).any():
        raise DataError("echogenicity is an echo power and must not be negative; is it in dB?")
    rng = np.random.default_rng(seed)
    white = torch.from_numpy(rng.standard_normal((2, *echogenicity.shape))).float()
    field = white * (echogenicity / 2).sqrt()
    for axis, width in ((-2, axial_mm / pixel_mm), (-1, lateral_mm / pixel_mm)):
        field = _pulse(field, width, axis)
    return (field[0] ** 2 + field[1] ** 2).sqrt()


def _pulse(field: Tensor, sigma: float, axis: int) -> Tensor:
    reach = max(1, int(np.ceil(4 * sigma)))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    taps = taps / (taps**2).sum().sqrt()
    lines = field.movedim(axis, -1)
    shape = lines.shape
    padded = functional.pad(lines.reshape(-1, 1, shape[-1]), (reach, reach), mode="circular")
    return functional.conv1d(padded, taps[None, None]).reshape(shape).movedim(-1, axis)


def log_compress(amplitude: Tensor, *, dynamic_range: float, reference: float | Tensor) -> Tensor:
    """Grey level 0 … 1 of echo amplitudes: 1 + 20 log₁₀(A / reference) / dynamic_range, clipped.

    Args:
        amplitude: ≥ 0.
        dynamic_range: dB from black to white, > 0.
        reference: amplitude shown white.

    Raises:
        DataError: a dynamic range that is not positive.
    """
    if not dynamic_range > 0:
        raise DataError(f"dynamic_range is in dB and must be positive; got {dynamic_range}")
    level = 20 * torch.log10((amplitude / max(reference, 1e-12)).clamp_min(1e-12))
    return (1 + level / dynamic_range).clamp(0, 1)


@dataclass(frozen=True)
class Kidney:
    """A long-axis section of a kidney.

    Attributes:
        level: (H, W) echogenicity in dB relative to liver.
        mask: (H, W) uint8: 1 kidney, 2 cyst.
        pixel_mm: pixel size.
    """

    level: Tensor
    mask: Tensor
    pixel_mm: float


def kidney(height: int = 192, width: int = 192, *, pixel_mm: float = 0.6, seed: int = 0) -> Kidney:
    """Echogenicity of a kidney beneath skin, muscle and liver, drawn from `seed`.

    An ellipse of cortex a little darker than liver, darker pyramids around a bright central sinus,
    and a cyst: free of echoes, with a bright band beneath it, since fluid takes nothing from the
    sound.

    Raises:
        DataError: a picture under 64 pixels or a pixel size that is not positive.
    """
    if min(height, width) < 64 or not pixel_mm > 0:
        raise DataError(
            "a kidney needs at least 64×64 pixels of positive size; "
            f"got {height}×{width} of {pixel_mm} mm"
        )
    rng = np.random.default_rng(seed)
    rows, cols = torch.meshgrid(
        torch.arange(height) * pixel_mm, torch.arange(width) * pixel_mm, indexing="ij"
    )
    extent = torch.tensor([height, width]) * pixel_mm
    centre = extent * torch.from_numpy(rng.uniform([0.48, 0.46], [0.58, 0.54])).float()
    half = extent * torch.from_numpy(rng.uniform([0.18, 0.34], [0.24, 0.41])).float()
    tilt = np.deg2rad(rng.uniform(-18, 18))

    def ellipse(angle: float, cy: Any, cx: Any, ay: Any, ax: Any) -> tuple[Tensor, ...]:
        dy, dx = rows - cy, cols - cx
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / ax
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / ay
        return u, v, (u**2 + v**2).sqrt()

    level = torch.zeros(height, width)
    skin = rows < rng.uniform(3, 5)
    muscle = (rows < rng.uniform(9, 16)) & ~skin
    fascia = (torch.sin(rows * 2.4 + 0.4 * torch.sin(cols / 7)) > 0.7) & muscle
    level[skin], level[muscle], level[fascia] = 8.0, -5.0, 3.0
    u, v, r = ellipse(tilt, *centre, *half)
    level[(r > 1) & (r < 1.07)] = 9.0  # capsule and the fat around it
    level[r <= 1] = -4.0
    angle = torch.atan2(v, u)
    pyramids = (torch.cos(angle * 9 + rng.uniform(0, 6)) > 0.1) & (r > 0.52) & (r < 0.8)
    level[pyramids] = -8.0
    ripple = 0.42 + 0.07 * torch.cos(5 * angle + rng.uniform(0, 6))
    level[r < ripple] = 7.0
    mask = (r <= 1).to(torch.uint8)
    where, size = rng.uniform(0.5, 2.6), rng.uniform(0.18, 0.34) * float(half[0])
    far = 0.68
    cy = centre[0] + far * half[0] * np.sin(where + np.pi)
    cx = centre[1] + far * half[1] * np.cos(where)
    inside = ellipse(0.0, cy, cx, size, size * rng.uniform(1.0, 1.3))[2]
    behind = (rows > cy) & ((cols - cx).abs() < 0.8 * size) & (inside > 1)
    level[behind] += 5.0
    level[(inside > 1) & (inside < 1.12)] = 6.0
    level[inside <= 1] = -45.0
    mask[inside <= 1] = 2
    return Kidney(level, mask, pixel_mm)
