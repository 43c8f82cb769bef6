"""Ultrasound: speckle from unresolved scatterers, beams of a curved probe, log compression."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from medlab.simulate._streams import positive


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
    """A curved (convex) probe and the samples along its beams.

    A sample is told by its depth d, mm along the beam from the face, and the angle of its beam; a
    point by x, mm to the right, and y, mm below the middle of the face.
    """

    radius: float  #: of the curved face, mm
    half_angle: float  #: between the middle beam and the last one, radians
    depth: float  #: imaged, mm
    samples: int  #: along a beam
    lines: int  #: beams

    def grid(self) -> tuple[Tensor, Tensor]:
        """Depth (samples, lines) and angle (samples, lines) of the samples."""
        depth = (torch.arange(self.samples) + 0.5) * (self.depth / self.samples)
        angle = ((torch.arange(self.lines) + 0.5) * 2 / self.lines - 1) * self.half_angle
        rows, columns = torch.meshgrid(depth, angle, indexing="ij")
        return rows, columns

    def point(self, depth: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """x and y of samples."""
        far = self.radius + depth
        return far * torch.sin(angle), far * torch.cos(angle) - self.radius

    def sample(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Depth and angle of points, the inverse of `point`, and whether they lie in the sector."""
        below = y + self.radius
        depth, angle = torch.hypot(x, below) - self.radius, torch.atan2(x, below)
        return depth, angle, (angle.abs() <= self.half_angle) & (depth >= 0) & (depth <= self.depth)


def two_way_loss(attenuation: Tensor, *, frequency: float, step_mm: float) -> Tensor:
    """dB that an echo has lost on its way to the middle of each sample and back.

    Args:
        attenuation: (samples, lines), dB per cm and MHz.
        frequency: MHz.
        step_mm: between samples.
    """
    positive(frequency=frequency, step_mm=step_mm)
    lost = attenuation * (2 * frequency * step_mm / 10)
    return lost.cumsum(0) - lost / 2


def received(field: Tensor, *, axial: float, lateral: Tensor) -> Tensor:
    """Complex echoes of scatterers, smeared by a Gaussian pulse and beam of unit energy.

    A sample stands for many scatterers of random phase, so real and imaginary part are normal
    numbers. Where their variance is uniform the echo keeps it, whatever the widths, and its length
    is Rayleigh: mean over standard deviation 1.91.

    Args:
        field: (2, samples, lines) real and imaginary part.
        axial: standard deviation of the pulse, samples; up to 1.3, as it is cut at 4.
        lateral: (samples,) of the beam at each depth, lines; up to 2.7, as it is cut at 8.

    Source: Burckhardt, IEEE Trans Sonics Ultrason 25 (1978) 1; Wagner et al., ibid. 30 (1983) 156.
    """
    positive(axial=axial, lateral=float(lateral.min()))
    widths = ((1, torch.tensor(axial), 4), (2, lateral[:, None], 8))
    for axis, sigma, reach in widths:
        taps = [torch.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)]
        sides = (0, 0, reach, reach) if axis == 1 else (reach, reach)
        padded = functional.pad(field, sides, mode="reflect")
        smeared = torch.zeros_like(field)
        for k, tap in enumerate(taps):
            smeared.addcmul_(tap.expand_as(field), padded.narrow(axis, k, field.shape[axis]))
        field = smeared / torch.stack(taps).square().sum(0).sqrt()
    return field


def scan_convert(beams: Tensor, probe: Probe, x: Tensor, y: Tensor) -> Tensor:
    """Samples (samples, lines) at points x, y (H, W): linear between them, 0 outside the sector."""
    depth, angle, seen = probe.sample(x, y)
    where = torch.stack([angle / probe.half_angle, 2 * depth / probe.depth - 1], -1)
    picture = functional.grid_sample(
        beams[None, None], where[None], padding_mode="border", align_corners=False
    )
    return picture[0, 0] * seen
