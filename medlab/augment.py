"""Random changes to images and volumes, in batches, on their device; masks and boxes move along.

Pixel geometry: the centre of pixel (row i, column j) lies at x = j + ½, y = i + ½, and the image
covers 0 ≤ x ≤ W, 0 ≤ y ≤ H; in a volume the slices add z. Rotations and scalings are about the
image centre (W/2, H/2) and in pixels, so a circle stays a circle also where H ≠ W.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medlab.errors import DataError

__all__ = ["Augment", "warp"]


_MIRRORS = ("horizontal", "vertical", "depth")  # of x, y and z


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random affine map, flips, grey-level changes, blur, noise and cutout, drawn per image.

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
        flip: "horizontal", "vertical", "depth" (slices), several in a tuple, or () for none; each
            half of the time.
        brightness: largest shift of grey levels, in standard deviations of the image.
        contrast: largest change about the mean: factors in 1/(1 + contrast) … 1 + contrast.
        gamma: exponents in 1/(1 + gamma) … 1 + gamma, on the image scaled to 0 … 1.
        noise: largest sigma of added Gaussian noise, in standard deviations of the image.
        blur: largest sigma of a Gaussian blur, pixels.
        cutout: largest side of an erased rectangle, as a fraction; it is filled with the mean.
        padding: what lies beyond the edge: "border" (edge repeated), "zeros" or "reflection".
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
    cutout: float = 0.0
    padding: str = "border"
    share: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("flip", "padding") and not (value >= 0 and math.isfinite(value)):
                raise DataError(f"{field.name} must be a number of at least 0; got {value!r}")
        if self.share > 1:
            raise DataError(f"share is a share of the images, at most 1; got {self.share!r}")
        if self.cutout > 1 or self.shear >= 90:
            raise DataError("cutout must be at most 1 (the whole side) and shear below 90 degrees")
        if self.padding not in ("border", "zeros", "reflection"):
            raise DataError(f"padding must be border, zeros or reflection; got {self.padding!r}")
        flips = (self.flip,) if isinstance(self.flip, str) else tuple(self.flip)
        if not set(flips) <= set(_MIRRORS):
            raise DataError(f"flip must be of {', '.join(_MIRRORS)}; got {self.flip!r}")
        object.__setattr__(self, "flip", flips)

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
        self._check(images, masks, boxes, generator)
        draw = _Draw(len(images), images.device, generator)
        untouched = draw.chosen(1 - self.share) if self.share < 1 else None
        before = images, masks, boxes
        if self._moves:
            size = tuple(images.shape[:1:-1])
            matrices = self._matrices(draw, size)
            images = warp(images, matrices, padding=self.padding)
            if masks is not None:
                # As float64, which holds every integer label and float value exactly.
                moved = warp(
                    masks[:, None].double(), matrices, mode="nearest", padding=self.padding
                )
                masks = moved[:, 0].to(masks.dtype)
            if boxes is not None:
                boxes = _move_boxes(boxes, matrices, size)
        images = self._change_grey_levels(images, draw)
        if untouched is not None:
            keep = untouched.tolist()
            images = torch.where(_column(untouched, images), before[0], images)
            if masks is not None and before[1] is not None:
                masks = torch.where(_column(untouched, masks), before[1], masks)
            if boxes is not None and before[2] is not None:
                pairs = zip(keep, before[2], boxes, strict=True)
                boxes = [old if k else new for k, old, new in pairs]
        given = [images] + [extra for extra in (masks, boxes) if extra is not None]
        return given[0] if len(given) == 1 else tuple(given)

    @property
    def _moves(self) -> bool:
        return bool(self.rotate or self.translate or self.scale or self.shear or self.flip)

    def _matrices(self, draw: _Draw, size: tuple[int, ...]) -> Tensor:
        """Random affine maps of this augmentation for images of (width, height[, depth])."""
        mirrors = [
            1 - 2 * draw.coin() if name in self.flip else None for name in _MIRRORS[: len(size)]
        ]
        turns = 1 if len(size) == 2 else 3
        return _affine(
            size=size,
            angles=torch.stack([draw.uniform(self.rotate) for _ in range(turns)], dim=1),
            translate=torch.stack([draw.uniform(self.translate * s) for s in size], dim=1),
            scale=draw.factor(self.scale),
            shear=torch.stack([draw.uniform(self.shear), draw.uniform(self.shear)], dim=1),
            mirrors=mirrors,
        )

    def _change_grey_levels(self, images: Tensor, draw: _Draw) -> Tensor:
        if self.gamma:
            axes = tuple(range(1, images.ndim))
            low, high = images.amin(axes, True), images.amax(axes, True)
            span = (high - low).clamp_min(torch.finfo(images.dtype).tiny)
            images = low + span * ((images - low) / span).pow(draw.factor(self.gamma, images))
        if self.contrast or self.brightness or self.noise:
            mean, spread = _mean_and_std(images)
            factor = draw.factor(self.contrast, images)
            shift = mean - factor * mean + draw.uniform(self.brightness, images) * spread
            images = images * factor + shift
        if self.blur:
            images = _blur(images, draw.uniform(self.blur).abs())
        if self.noise:
            sigma = draw.uniform(self.noise, images).abs() * spread
            images = images + sigma * draw.normal(images)
        if self.cutout:
            images = _erase(images, draw, self.cutout)
        return images

    def _check(
        self,
        images: Tensor,
        masks: Tensor | None,
        boxes: list[Tensor] | None,
        generator: torch.Generator,
    ) -> None:
        if images.ndim not in (4, 5):
            raise DataError(
                f"images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
                f"{tuple(images.shape)}"
            )
        if images.ndim == 5 and (self.shear or boxes is not None):
            raise DataError("shear and boxes are for images (N, C, H, W), not for volumes")
        if images.ndim == 4 and "depth" in self.flip:
            raise DataError("flip='depth' is for volumes (N, C, D, H, W): images have no slices")
        if not images.is_floating_point():
            raise DataError(
                f"images must be floating point to be augmented; got {images.dtype}. Convert them "
                "first: medlab.cohort.to_float(images)."
            )
        expected = (len(images), *images.shape[2:])
        if masks is not None and tuple(masks.shape) != expected:
            raise DataError(f"masks must be {expected} to fit the images; got {tuple(masks.shape)}")
        if boxes is not None and len(boxes) != len(images):
            raise DataError(f"boxes must be one tensor an image: {len(images)}; got {len(boxes)}")
        for position, box in enumerate(boxes or []):
            if box.ndim != 2 or box.shape[1] != 4:
                raise DataError(
                    f"boxes of image {position} must be (M, 4): x0, y0, x1, y1; got "
                    f"{tuple(box.shape)}"
                )
        if generator.device.type != images.device.type:
            raise DataError(
                f"the generator is on {generator.device.type} and the images are on "
                f"{images.device.type}: make it with torch.Generator({str(images.device)!r})"
            )


def _affine(
    *,
    size: tuple[int, ...],
    angles: Tensor,
    translate: Tensor,
    scale: Tensor,
    shear: Tensor,
    mirrors: Sequence[Tensor | None] = (),
) -> Tensor:
    """Affine maps of pixel coordinates (x, y[, z]) from input to output, about the centre c.

    p' = c + t + R(angles) · s · K(shear) · M · (p − c). In an image, with
    R(a) = [[cos a, sin a], [−sin a, cos a]] (counter-clockwise on a screen, y pointing down) and
    K = [[1, tan k_x], [tan k_y, 1]]; in a volume R is the product of such turns in the planes
    (x, y), (x, z) and (y, z), and K is the identity. M is the mirror.

    Args:
        size: of the image, pixels: width, height and, of a volume, depth.
        angles: (N, 1) or, for volumes, (N, 3) degrees.
        translate: (N, dims) pixels.
        scale: (N,) factors.
        shear: (N, 2) degrees along x and y.
        mirrors: for each axis (N,) of 1, or −1 to mirror it; None mirrors nothing.

    Returns:
        (N, dims, dims + 1) float64: p' = matrix[:, :, :-1] @ p + matrix[:, :, -1].
    """
    angles, scale, shear = angles.double().deg2rad(), scale.double(), shear.double().deg2rad()
    one = torch.ones_like(scale)
    planes = [(0, 1), (0, 2), (1, 2)][: angles.shape[1]]
    linear = _turn(angles[:, 0], planes[0], len(size))
    if len(size) == 2:
        linear = linear @ _two_by_two(one, shear[:, 0].tan(), shear[:, 1].tan(), one)
    for angle, plane in zip(angles.T[1:], planes[1:], strict=True):
        linear = linear @ _turn(angle, plane, len(size))
    linear = scale[:, None, None] * linear
    factors = [one if mirror is None else mirror.double() for mirror in mirrors] or [one] * len(
        size
    )
    linear = linear * torch.stack(factors, dim=1)[:, None, :]
    centre = torch.tensor(size, dtype=torch.float64, device=scale.device) / 2
    offset = centre + translate.double() - linear @ centre
    return torch.cat([linear, offset[:, :, None]], dim=2)


def _turn(angle: Tensor, plane: tuple[int, int], dims: int) -> Tensor:
    """(N, dims, dims): the rotation by `angle` in the plane of two axes."""
    a, b = plane
    matrix = torch.eye(dims, dtype=angle.dtype, device=angle.device).repeat(len(angle), 1, 1)
    matrix[:, a, a] = matrix[:, b, b] = angle.cos()
    matrix[:, a, b], matrix[:, b, a] = angle.sin(), -angle.sin()
    return matrix


def warp(
    images: Tensor, matrices: Tensor, *, mode: str = "bilinear", padding: str = "border"
) -> Tensor:
    """Move each image by its affine map, with one `grid_sample` for the batch.

    Args:
        images: (N, C, H, W) or (N, C, D, H, W), floating point.
        matrices: (N, 2, 3), or (N, 3, 4) for volumes: from input to output, in pixel coordinates
            (x, y[, z]) that start at the corner of the image.
        mode: "bilinear" or "nearest".
        padding: "border", "zeros" or "reflection".

    Returns:
        The moved images, of the shape and type of `images`.
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
    dims = len(size)
    grid = torch.empty(len(theta), *size[::-1], dims, dtype=dtype, device=theta.device)
    steps = [
        (torch.arange(s, dtype=theta.dtype, device=theta.device) * 2 + 1) / s - 1 for s in size
    ]
    for axis in range(dims):
        total: Tensor | float = 0.0
        for along, step in enumerate(steps):
            part = theta[:, axis, along, None] * step
            if along == dims - 1:
                part = part + theta[:, axis, dims, None]
            shape = [len(theta), *(1,) * dims]
            shape[dims - along] = -1
            total = total + part.to(dtype).view(shape)
        grid[..., axis] = total
    return grid


def _move_boxes(boxes: list[Tensor], matrices: Tensor, size: tuple[int, ...]) -> list[Tensor]:
    """Upright boxes around the four moved corners, cut at the image's edge; empty ones dropped.

    Args:
        boxes: per image (M, 4): x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
        matrices: (N, 2, 3), input → output, as from `_affine`.
        size: width and height of the image, pixels.
    """
    moved = []
    for box, matrix in zip(boxes, matrices.double(), strict=True):
        corners = box.to(matrix)[:, [0, 1, 2, 1, 0, 3, 2, 3]].view(-1, 4, 2)
        corners = corners @ matrix[:, :2].T + matrix[:, 2]
        upright = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
        upright[:, 0::2] = upright[:, 0::2].clamp(0, size[0])
        upright[:, 1::2] = upright[:, 1::2].clamp(0, size[1])
        seen = (upright[:, 2] > upright[:, 0]) & (upright[:, 3] > upright[:, 1])
        moved.append(upright[seen].to(box))
    return moved


@dataclass(frozen=True)
class _Draw:
    """Random numbers for one batch, all from one generator."""

    n: int
    device: torch.device
    generator: torch.Generator

    def _rand(self) -> Tensor:
        return torch.rand(self.n, device=self.device, generator=self.generator)

    def uniform(self, limit: float, like: Tensor | None = None) -> Tensor:
        """−limit … limit, (N,), or shaped to multiply `like`."""
        return self._shaped((2 * self._rand() - 1) * limit, like)

    def factor(self, limit: float, like: Tensor | None = None) -> Tensor:
        """1/(1 + limit) … 1 + limit, evenly in the logarithm."""
        return self._shaped(((2 * self._rand() - 1) * math.log1p(limit)).exp(), like)

    def coin(self) -> Tensor:
        return self.chosen(0.5).float()

    def chosen(self, share: float) -> Tensor:
        """True for about this share of the images, (N,)."""
        return self._rand() < share

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(
            like.shape, dtype=like.dtype, device=self.device, generator=self.generator
        )

    def _shaped(self, values: Tensor, like: Tensor | None) -> Tensor:
        return values if like is None else _column(values.to(like.dtype), like)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(N,) as (N, 1, …), to go with each of the images `like`."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def _mean_and_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image, (N, 1, …); in two passes, which is faster here than torch.std."""
    flat = images.flatten(1)
    mean = flat.mean(1, keepdim=True)
    spread = torch.linalg.vector_norm(flat - mean, dim=1) / math.sqrt(flat.shape[1])
    return _column(mean[:, 0], images), _column(spread, images)


def _two_by_two(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], dim=1), torch.stack([c, d], dim=1)], dim=1)


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


def _erase(images: Tensor, draw: _Draw, largest: float) -> Tensor:
    """One random rectangle an image, filled with the image's channel means."""
    inside = torch.ones_like(images[:, :1], dtype=torch.bool)
    axes = range(2, images.ndim)
    for axis in axes:
        size = images.shape[axis]
        side = draw.uniform(largest / 2).add(largest / 2) * size
        centre = draw.uniform(0.5).add(0.5) * size
        position = torch.arange(size, device=images.device) + 0.5
        near = (position[None, :] - centre[:, None]).abs() < side[:, None] / 2
        inside &= near.view(-1, 1, *(size if axis == k else 1 for k in axes))
    return torch.where(inside, images.mean(tuple(axes), keepdim=True), images)
