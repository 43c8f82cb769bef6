"""Ultrasound: speckle from unresolved scatterers, log compression, a kidney."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medlab.errors import DataError
from medlab.simulate._streams import positive


def envelope(
    echogenicity: Tensor, *, pixel_mm: float, axial_mm: float, lateral_mm: float, seed: int
) -> Tensor:
    """Echo amplitude of tissue that holds many scatterers in each resolution cell.

    Each pixel scatters a complex Gaussian echo of variance `echogenicity`, the sum of many small
    echoes of random phase, convolved with the pulse, a Gaussian of unit energy. Where echogenicity
    e is uniform, the envelope is Rayleigh: mean √(πe)/2, mean over standard deviation 1.91.

    Args:
        echogenicity: (H, W) mean echo power, ≥ 0 and not in dB; rows are depth.
        pixel_mm: pixel size, mm.
        axial_mm: standard deviation of the pulse along depth, mm.
        lateral_mm: standard deviation of the pulse across, mm.
        seed: of the scatterers.

    Source: Burckhardt, IEEE Trans Sonics Ultrason 25 (1978) 1; Wagner et al., ibid. 30 (1983) 156.
    """
    positive(pixel_mm=pixel_mm, axial_mm=axial_mm, lateral_mm=lateral_mm)
    if (echogenicity < 0).any():
        raise DataError("echogenicity is an echo power and must not be negative; is it in dB?")
    rng = np.random.default_rng(seed)
    white = torch.from_numpy(rng.standard_normal((2, *echogenicity.shape))).float()
    field = white * (echogenicity / 2).sqrt()
    for sigma in (axial_mm / pixel_mm, lateral_mm / pixel_mm):  # along columns, then along rows
        field = field.mT
        reach = max(1, int(np.ceil(4 * sigma)))
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        taps = taps / (taps**2).sum().sqrt()
        lines = field.reshape(-1, 1, field.shape[-1])
        padded = functional.pad(lines, (reach, reach), mode="circular")
        field = functional.conv1d(padded, taps[None, None]).reshape(field.shape)
    return (field[0] ** 2 + field[1] ** 2).sqrt()


def log_compress(amplitude: Tensor, *, dynamic_range: float, reference: float | Tensor) -> Tensor:
    """Grey level 0 … 1 of echo amplitudes: 1 + 20 log₁₀(A / reference) / dynamic_range, clipped.

    Args:
        amplitude: ≥ 0.
        dynamic_range: dB from black to white.
        reference: amplitude shown white.
    """
    positive(dynamic_range=dynamic_range)
    level = 20 * torch.log10((amplitude / reference).clamp_min(1e-12))
    return (1 + level / dynamic_range).clamp(0, 1)


class Kidney(NamedTuple):
    """A long-axis section: `level` (H, W), echogenicity in dB relative to liver, and its truth.

    `mask` (H, W) uint8 is 1 in the kidney, 2 in its cyst.
    """

    level: Tensor
    mask: Tensor


def kidney(height: int, width: int, *, pixel_mm: float, seed: int) -> Kidney:
    """Echogenicity of a kidney beneath skin, muscle and liver, drawn from `seed`.

    Cortex a little darker than liver, darker pyramids around a bright sinus, and a cyst: free of
    echoes, with a bright band beneath it, since fluid takes nothing from the sound.
    """
    positive(height=height, width=width, pixel_mm=pixel_mm)
    rng = np.random.default_rng(seed)
    rows, cols = (torch.arange(n) * pixel_mm for n in (height, width))
    rows, cols = torch.meshgrid(rows, cols, indexing="ij")
    extent = torch.tensor([height, width]) * pixel_mm
    centre = extent * torch.from_numpy(rng.uniform([0.48, 0.46], [0.58, 0.54])).float()
    half = extent * torch.from_numpy(rng.uniform([0.18, 0.34], [0.24, 0.41])).float()
    tilt = np.deg2rad(rng.uniform(-18, 18))
    level = torch.zeros(height, width)
    skin = rows < rng.uniform(3, 5)
    muscle = (rows < rng.uniform(9, 16)) & ~skin
    fascia = (torch.sin(rows * 2.4 + 0.4 * torch.sin(cols / 7)) > 0.7) & muscle
    level[skin], level[muscle], level[fascia] = 8.0, -5.0, 3.0

    dy, dx = rows - centre[0], cols - centre[1]
    u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / half[1]
    v = (dy * np.cos(tilt) - dx * np.sin(tilt)) / half[0]
    r, angle = (u**2 + v**2).sqrt(), torch.atan2(v, u)
    level[(r > 1) & (r < 1.07)] = 9.0  # capsule and the fat around it
    level[r <= 1] = -4.0
    pyramids = (torch.cos(angle * 9 + rng.uniform(0, 6)) > 0.1) & (r > 0.52) & (r < 0.8)
    level[pyramids] = -8.0
    level[r < 0.42 + 0.07 * torch.cos(5 * angle + rng.uniform(0, 6))] = 7.0
    mask = (r <= 1).to(torch.uint8)

    where, size = rng.uniform(0.5, 2.6), rng.uniform(0.18, 0.34) * float(half[0])
    cy = centre[0] + 0.68 * half[0] * np.sin(where + np.pi)
    cx = centre[1] + 0.68 * half[1] * np.cos(where)
    wide = size * rng.uniform(1.0, 1.3)
    cyst = (((cols - cx) / wide) ** 2 + ((rows - cy) / size) ** 2).sqrt()
    level[(rows > cy) & ((cols - cx).abs() < 0.8 * size) & (cyst > 1)] += 5.0
    level[(cyst > 1) & (cyst < 1.12)] = 6.0
    level[cyst <= 1] = -45.0
    mask[cyst <= 1] = 2
    return Kidney(level, mask)
