"""Ultrasound: speckle from unresolved scatterers, beams of a curved probe, log compression."""

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


class Probe(NamedTuple):
    """Curved probes of B images, each field (B,); the grid of samples has one size for all.

    A sample is told by its depth d, mm along the beam from the face, and the angle of its beam; a
    point by x, mm to the right, and y, mm below the middle of the face.
    """

    radius: Tensor  #: of the curved face, mm
    half_angle: Tensor  #: between the middle beam and the last one, radians
    depth: Tensor  #: imaged, mm
    samples: int  #: along a beam
    lines: int  #: beams

    @property
    def step(self) -> Tensor:
        """(B, 1, 1) mm between samples of a beam."""
        return self.depth.view(-1, 1, 1) / self.samples

    def grid(self) -> tuple[Tensor, Tensor]:
        """Depth (B, samples, 1) and angle (B, 1, lines) of the samples."""
        beam = (torch.arange(self.lines) + 0.5) * 2 / self.lines - 1
        depth = (torch.arange(self.samples) + 0.5)[:, None] * self.step
        return depth, beam * self.half_angle.view(-1, 1, 1)

    def point(self, depth: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """x and y of samples."""
        radius = self.radius.view(-1, 1, 1)
        far = radius + depth
        return far * torch.sin(angle), far * torch.cos(angle) - radius

    def sample(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Depth and angle of points: the inverse of `point`."""
        radius = self.radius.view(-1, 1, 1)
        return torch.hypot(x, y + radius) - radius, torch.atan2(x, y + radius)

    def sees(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether points (B, H, W) lie in the sector."""
        depth, angle = self.sample(x, y)
        half, deepest = self.half_angle.view(-1, 1, 1), self.depth.view(-1, 1, 1)
        return (angle.abs() <= half) & (depth >= 0) & (depth <= deepest)


def two_way_loss(attenuation: Tensor, *, frequency: Tensor, step_mm: Tensor) -> Tensor:
    """dB that an echo has lost on its way to the middle of each sample and back.

    Args:
        attenuation: (B, samples, lines), dB per cm and MHz.
        frequency: MHz, and `step_mm` between samples; both broadcast.
    """
    lost = attenuation * (2 * frequency * step_mm / 10)
    return lost.cumsum(1) - lost / 2


def received(field: Tensor, *, axial: Tensor, lateral: Tensor) -> Tensor:
    """Complex echoes of scatterers, smeared by a Gaussian pulse and beam of unit energy.

    Where neighbouring scatterers have equal variance the echo keeps it, whatever the widths. They
    are cut at 3 samples along the beam and 7 across: more than 1 and 3 are too wide.

    Args:
        field: (B, 2, samples, lines) real and imaginary part.
        axial: standard deviation of the pulse in samples, broadcast to the field.
        lateral: of the beam, in lines; it may differ from depth to depth.
    """
    for axis, sigma, reach in ((2, axial, 3), (3, lateral, 7)):
        offsets = range(-reach, reach + 1)
        taps = [torch.exp(-0.5 * (k / sigma) ** 2) for k in offsets]
        energy = sum(tap**2 for tap in taps)
        sides = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        padded = functional.pad(field, sides, mode="reflect")
        smeared = torch.zeros_like(field)
        for k, tap in enumerate(taps):
            smeared.addcmul_(tap.expand_as(field), padded.narrow(axis, k, field.shape[axis]))
        field = smeared / energy**0.5
    return field


def scan_convert(beams: Tensor, probe: Probe, x: Tensor, y: Tensor) -> Tensor:
    """Samples (B, samples, lines) at the points x, y (B, H, W): linear between them, 0 outside."""
    depth, angle = probe.sample(x, y)
    u, v = angle / probe.half_angle.view(-1, 1, 1), 2 * depth / probe.depth.view(-1, 1, 1) - 1
    where = torch.stack([u, v], -1)
    picture = functional.grid_sample(
        beams[:, None], where, padding_mode="border", align_corners=False
    )
    return picture[:, 0] * probe.sees(x, y)
