"""Random changes to images and volumes, in batches, on their device; masks and boxes move along.

Pixel geometry: the centre of pixel (row i, column j) lies at x = j + ½, y = i + ½, and the image
covers 0 ≤ x ≤ W, 0 ≤ y ≤ H; in a volume the slices add z. Rotations and scalings are about the
image centre (W/2, H/2) and in pixels, so a circle stays a circle also where H ≠ W.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.errors import DataError

__all__ = ["Augment"]

_MIRRORS = ("horizontal", "vertical", "depth")  # of x, y and z


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random affine map, flips, grey-level changes, blur and noise, drawn per image.

    >>> images, masks = torch.rand(8, 1, 64, 64), torch.zeros(8, 64, 64, dtype=torch.uint8)
    >>> augment, rng = Augment(rotate=10, noise=0.1), torch.Generator().manual_seed(0)
    >>> images, masks = augment(images, masks, generator=rng)

    The same generator state gives the same result, and no other random state is read or changed.
    Flips are off unless asked for: a left–right flip puts the heart on the right, which in a
    patient is a finding.

    Attributes:
        rotate: largest angle, degrees, either direction; of a volume about each of its axes.
        translate: largest shift along each axis, as a fraction of the image's side.
        scale: largest zoom: factors lie in 1/(1 + scale) … 1 + scale.
        shear: largest shear angle, degrees, along x and along y; images only.
        flip: "horizontal", "vertical", "depth", or several in a tuple; each half of the time.
        brightness: largest shift of grey levels, in standard deviations of the image.
        contrast: largest change about the mean: factors in 1/(1 + contrast) … 1 + contrast.
        gamma: exponents in 1/(1 + gamma) … 1 + gamma, on the image scaled to 0 … 1.
        noise: largest sigma of added Gaussian noise, in standard deviations of the image.
        blur: largest sigma of a Gaussian blur, pixels.
        padding: what lies beyond the edge: "border" (edge repeated), "zeros" or "reflection".
        frames: of images (N, C, T, H, W) the third axis is time: all frames of one are moved alike.
        share: share of the images that are changed at all, 0 … 1. Moving an image interpolates it,
            which takes away some of its noise; a network that never saw an untouched image finds
            those it is tested on grainier than any it knows, and its probabilities drift.
    """

    rotate: float = 10.0
    translate: float = 0.05
    scale: float = 0.1
    shear: float = 0.0
    flip: str | tuple[str, ...] = ()
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    padding: str = "border"
    frames: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        flips = (self.flip,) if isinstance(self.flip, str) else tuple(self.flip)
        if not set(flips) <= set(_MIRRORS):
            raise DataError(f"flip must be of {', '.join(_MIRRORS)}; got {self.flip!r}")
        object.__setattr__(self, "flip", flips)
        for name, value in vars(self).items():
            most = {"share": 1, "shear": 89}.get(name, 1e6)
            if name not in ("flip", "padding", "frames") and not 0 <= value <= most:
                raise DataError(f"{name} must be a number from 0 to {most:g}; got {value!r}")

    def __call__(
        self,
        images: Tensor,
        masks: Tensor | None = None,
        boxes: list[Tensor] | None = None,
        *,
        generator: torch.Generator,
    ) -> Any:
        """Augment one batch.

        Args:
            images: (N, C, H, W) or (N, C, D, H, W), floating point, any range.
            masks: (N, H, W) or (N, D, H, W), any type; moved with nearest-neighbour sampling.
            boxes: one (M, 4) tensor an image: x0, y0, x1, y1 in pixels, x1 and y1 exclusive. A
                turned box becomes the smallest upright box around it, cut at the image's edge; one
                that leaves the image wholly is dropped.
            generator: source of all randomness, on the device of the images.

        Returns:
            What was given, in that order: images alone, or a tuple with the masks and/or boxes.

        Raises:
            DataError: integer images, shapes that do not fit together, or boxes in volumes.
        """
        if self.frames:
            if images.ndim != 5 or masks is not None or boxes is not None:
                told = "frames=True moves sequences (N, C, T, H, W), without masks or boxes"
                raise DataError(f"{told}; the images are {tuple(images.shape)}")
            still = replace(self, frames=False)
            return still(images.flatten(1, 2), generator=generator).view(images.shape)
        self._check(images, masks, boxes)
        before = images, masks, boxes
        draw = _Draw(len(images), images.device, generator)
        untouched = draw.unit() < 1 - self.share if self.share < 1 else None
        if self.rotate or self.translate or self.scale or self.shear or self.flip:
            size = tuple(images.shape[:1:-1])
            matrices = self._matrices(draw, size)
            images = warp(images, matrices, padding=self.padding)
            if masks is not None:
                # As float64, which holds every integer label and float value exactly.
                exact = masks[:, None].double()
                moved = warp(exact, matrices, mode="nearest", padding=self.padding)
                masks = moved[:, 0].to(masks.dtype)
            if boxes is not None:
                boxes = _move_boxes(boxes, matrices, size)
        images = self._change_grey_levels(images, draw)
        pairs = zip(before, (images, masks, boxes), strict=True)
        out = [_mixed(untouched, old, new) for old, new in pairs if old is not None]
        return out[0] if len(out) == 1 else tuple(out)

    def _matrices(self, draw: _Draw, size: tuple[int, ...]) -> Tensor:
        """Random affine maps of this augmentation for images of (width, height[, depth])."""
        signs = torch.ones(draw.n, len(size), device=draw.device)
        for axis, name in enumerate(_MIRRORS[: len(size)]):
            if name in self.flip:
                signs[:, axis] -= 2 * (draw.unit() < 0.5).float()
        turns = 1 if len(size) == 2 else 3
        angles = torch.stack([draw.uniform(self.rotate) for _ in range(turns)], dim=1)
        shift = torch.stack([draw.uniform(self.translate * side) for side in size], dim=1)
        scale = draw.factor(self.scale)
        shear = torch.stack([draw.uniform(self.shear) for _ in range(2)], dim=1)
        return _affine(size, angles, shift, scale, shear, signs)

    def _change_grey_levels(self, images: Tensor, draw: _Draw) -> Tensor:
        if self.gamma:
            low, high = (_column(bound, images) for bound in images.flatten(1).aminmax(dim=1))
            span = (high - low).clamp_min(torch.finfo(images.dtype).tiny)
            exponent = _column(draw.factor(self.gamma), images)
            images = low + span * ((images - low) / span).pow(exponent)
        if self.contrast or self.brightness or self.noise:
            flat = images.flatten(1)
            mean = _column(flat.mean(1), images)
            # In two passes, which is faster here than torch.std.
            norm = torch.linalg.vector_norm((images - mean).flatten(1), dim=1)
            spread = _column(norm / math.sqrt(flat.shape[1]), images)
            factor = _column(draw.factor(self.contrast), images)
            shift = mean - factor * mean + _column(draw.uniform(self.brightness), images) * spread
            images = images * factor + shift
        if self.blur:
            images = _blur(images, draw.uniform(self.blur).abs())
        if self.noise:
            sigma = _column(draw.uniform(self.noise), images).abs() * spread
            grain = torch.empty_like(images, memory_format=torch.contiguous_format)
            images = images + sigma * grain.normal_(generator=draw.generator)
        return images

    def _check(self, images: Tensor, masks: Tensor | None, boxes: list[Tensor] | None) -> None:
        if images.ndim not in (4, 5) or not images.is_floating_point():
            raise DataError(
                "images must be floating point (medlab.cohort.to_float makes them so) and (N, C, "
                f"H, W), or (N, C, D, H, W) for volumes; got {images.dtype} {tuple(images.shape)}"
            )
        if images.ndim == 5 and (self.shear or boxes is not None):
            raise DataError("shear and boxes are for images (N, C, H, W), not for volumes")
        if images.ndim == 4 and "depth" in self.flip:
            raise DataError("flip='depth' is for volumes: images have no slices")
        expected = (len(images), *images.shape[2:])
        if masks is not None and masks.shape != expected:
            raise DataError(f"masks must be {expected} to fit the images; got {tuple(masks.shape)}")
        if boxes is not None and [box.shape[1:] for box in boxes] != [(4,)] * len(images):
            shapes = [tuple(box.shape) for box in boxes]
            raise DataError(f"boxes must be one tensor an image, each of (M, 4); got {shapes}")


def _affine(
    size: tuple[int, ...],
    angles: Tensor,
    shift: Tensor,
    scale: Tensor,
    shear: Tensor,
    signs: Tensor,
) -> Tensor:
    """Affine maps of pixel coordinates (x, y[, z]) from input to output, about the centre c.

    p' = c + t + R(angles) · s · K(shear) · M · (p − c). In an image, with
    R(a) = [[cos a, sin a], [−sin a, cos a]] (counter-clockwise on a screen, y pointing down) and
    K = [[1, tan k_x], [tan k_y, 1]]; in a volume R is the product of such turns in the planes
    (x, y), (x, z) and (y, z), and K is the identity. M mirrors the axes whose sign is −1.

    Size is (width, height[, depth]) in pixels, angles (N, 1 or 3) and shear (N, 2) in degrees,
    shift t (N, dims) in pixels, scale (N,); the result is float64 (N, dims, dims + 1):
    p' = matrix[:, :, :-1] @ p + matrix[:, :, -1].
    """
    dims, start = len(size), torch.eye(len(size), dtype=torch.float64, device=scale.device)
    factors = []
    planes = [(0, 1), (0, 2), (1, 2)][: angles.shape[1]]
    for (a, b), angle in zip(planes, angles.double().deg2rad().T, strict=True):
        turn = start.repeat(len(angle), 1, 1)
        turn[:, a, a] = turn[:, b, b] = angle.cos()
        turn[:, a, b], turn[:, b, a] = angle.sin(), -angle.sin()
        factors.append(turn)
    if dims == 2:
        slant = start.repeat(len(shear), 1, 1)
        slant[:, 0, 1], slant[:, 1, 0] = shear.double().deg2rad().tan().T
        factors.append(slant)
    linear = scale.double()[:, None, None] * functools.reduce(torch.matmul, factors)
    linear = linear * signs.double()[:, None, :]
    centre = torch.tensor(size, dtype=torch.float64, device=scale.device) / 2
    offset = centre + shift.double() - linear @ centre
    return torch.cat([linear, offset[:, :, None]], dim=2)


def warp(
    images: Tensor, matrices: Tensor, *, mode: str = "bilinear", padding: str = "border"
) -> Tensor:
    """Move each image by its affine map, with one `grid_sample` for the batch.

    Args:
        images: (N, C, H, W) or (N, C, D, H, W), floating point, as the result is.
        matrices: (N, 2, 3), or (N, 3, 4) for volumes: from input to output, in pixel coordinates
            (x, y[, z]) that start at the corner of the image.
        mode: "bilinear" or "nearest".
        padding: "border", "zeros" or "reflection".
    """
    size = images.shape[:1:-1]
    matrices = matrices.double()
    inverse = torch.linalg.inv(matrices[:, :, :-1])
    # grid_sample asks where each output pixel comes from, in coordinates −1 … 1 from edge to edge
    # (align_corners=False), so the map is inverted and measured from the centre in half-sizes.
    half = torch.tensor(size, dtype=torch.float64, device=images.device) / 2
    offset = inverse @ (half - matrices[:, :, -1])[:, :, None] - half[:, None]
    theta = torch.cat([inverse * half[None, None, :], offset], dim=2) / half[None, :, None]
    grid = _grid(theta, tuple(size), dtype=images.dtype)
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def _grid(theta: Tensor, size: tuple[int, ...], *, dtype: torch.dtype) -> Tensor:
    """Equal to F.affine_grid(theta, …, align_corners=False), and several times as fast on a CPU.

    Each coordinate is a sum of parts, each of which depends on one axis only.
    """
    along = [
        (torch.arange(n, dtype=theta.dtype, device=theta.device) * 2 + 1) / n - 1 for n in size
    ]
    coordinates = []
    for row in theta.view(*theta.shape, *(1,) * len(size)).unbind(1):
        parts = [row[:, k] * x.view(-1, *(1,) * k) for k, x in enumerate(along)]
        parts[-1] = parts[-1] + row[:, -1]
        coordinates.append(functools.reduce(torch.add, (part.to(dtype) for part in parts)))
    return torch.stack(coordinates, dim=-1)


def _move_boxes(boxes: list[Tensor], matrices: Tensor, size: tuple[int, ...]) -> list[Tensor]:
    """Upright boxes around the four moved corners, cut at the image's edge; empty ones dropped."""
    moved, limits = [], torch.tensor(size, device=matrices.device).double()
    for box, matrix in zip(boxes, matrices.double(), strict=True):
        corners = box.to(matrix)[:, [0, 1, 2, 1, 0, 3, 2, 3]].view(-1, 4, 2)
        corners = (corners @ matrix[:, :2].T + matrix[:, 2]).clamp_min(0).minimum(limits)
        upright = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
        seen = (upright[:, 2] > upright[:, 0]) & (upright[:, 3] > upright[:, 1])
        moved.append(upright[seen].to(box))
    return moved


@dataclass(frozen=True)
class _Draw:
    """Random numbers for one batch, one an image, all from one generator."""

    n: int
    device: torch.device
    generator: torch.Generator

    def unit(self) -> Tensor:
        """0 … 1."""
        return torch.rand(self.n, device=self.device, generator=self.generator)

    def uniform(self, limit: float) -> Tensor:
        """−limit … limit."""
        return (2 * self.unit() - 1) * limit

    def factor(self, limit: float) -> Tensor:
        """1/(1 + limit) … 1 + limit, evenly in the logarithm."""
        return self.uniform(math.log1p(limit)).exp()


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(N,) as (N, 1, …), to go with each of the images `like`, in their type."""
    return values.to(like.dtype).view(-1, *(1,) * (like.ndim - 1))


def _mixed(untouched: Tensor | None, old: Any, new: Any) -> Any:
    """Of each image what was before, where it is to stay untouched, or else what was made of it."""
    if untouched is None:
        return new
    if isinstance(new, list):
        return [a if k else b for k, a, b in zip(untouched.tolist(), old, new, strict=True)]
    return torch.where(_column(untouched, new).bool(), old, new)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, each image with its own σ in pixels: one convolution along each axis."""
    n, channels, *size = images.shape
    radius = min(max(1, math.ceil(3 * sigma.max().item())), min(size) - 1)
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (x / sigma.to(images.dtype).clamp_min(1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)
    convolve = F.conv2d if len(size) == 2 else F.conv3d
    flat = F.pad(images, [radius] * (2 * len(size)), mode="replicate")
    flat = flat.reshape(1, n * channels, *flat.shape[2:])
    for axis in reversed(range(len(size))):
        shape = [n * channels, 1] + [1] * len(size)
        shape[2 + axis] = -1
        flat = convolve(flat, kernel.view(shape), groups=n * channels)
    return flat.view(images.shape)
