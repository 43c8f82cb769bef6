"""What did the model look at? Occlusion and Grad-CAM, and a score for the answer.

Maps are (N, H, W), or (N, D, H, W) for volumes, float32 on the CPU, the size of the image and in
the unit of the model's output; high is important. The model is left as it was found: mode,
gradients, hooks and buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlab.cohort import Cohort, images_of, to_float
from medlab.errors import DataError
from medlab.models import undisturbed

__all__ = ["grad_cam", "occlusion", "pointing_game"]

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_ENLARGED = {4: "bilinear", 5: "trilinear"}


def occlusion(
    model: nn.Module,
    images: Cohort | Tensor,
    target: int | Tensor,
    *,
    patch: int = 8,
    stride: int | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Cover one patch after another: where does the model's output for the target fall?

    A patch is covered with each channel's mean. A pixel's value is the mean fall of the output over
    all patches that cover the pixel; it is negative where covering raises the output. Costs one
    forward pass per patch and image.

    Args:
        model: maps (N, C, …) float32 to (N, K), (N, 1) or (N,) outputs.
        images: a cohort, or (N, C, H, W) or (N, C, D, H, W), as `medlab.predict` takes them.
        target: class to explain, one for all images or (N,). With a single output, 1 is that
            output and 0 its negative.
        patch: side of the square or cube, in pixels.
        stride: from patch to patch; half a patch if not given. The last patch ends at the border.
        batch_size: images per forward pass.

    Returns:
        float32 (N, H, W) or (N, D, H, W).

    Raises:
        DataError: what is no images, or a target or patch that does not fit images and model.

    Source: Zeiler & Fergus, ECCV (2014), section 4.2.
    """
    images, target = _checked(images, target)
    size = images.shape[2:]
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= patch <= min(size) or not 1 <= stride <= patch:
        raise DataError(
            f"patch must be 1 to {min(size)} pixels and stride 1 to patch, so that every pixel is "
            f"covered; got patch {patch} and stride {stride}"
        )
    starts = ({*range(0, side - patch + 1, stride), side - patch} for side in size)
    patches = [tuple(slice(at, at + patch) for at in corner) for corner in product(*starts)]
    maps, cover = torch.zeros(len(images), *size), torch.zeros(*size)
    for where in patches:
        cover[where] += 1
    with undisturbed(model) as device, torch.no_grad():
        for image, wanted, falls in zip(images.to(device), target, maps, strict=True):
            mean = image.flatten(1).mean(1).view(-1, *[1] * len(size))
            whole = _score(model(image[None]), wanted[None])
            for some in _chunks(patches, batch_size):
                covered = image.repeat(len(some), *[1] * image.ndim)
                for row, where in zip(covered, some, strict=True):
                    row[:, *where] = mean
                scores = _score(model(covered), wanted.expand(len(some)))
                for fall, where in zip((whole - scores).float().tolist(), some, strict=True):
                    falls[where] += fall
    return maps / cover


def grad_cam(
    model: nn.Module,
    images: Cohort | Tensor,
    target: int | Tensor,
    layer: nn.Module | str | None = None,
    *,
    batch_size: int = 64,
) -> Tensor:
    """Grad-CAM: feature maps A_k, weighted by how much the output answers to each.

    α_k = mean over positions of ∂ output / ∂ A_k; map = max(0, Σ_k α_k A_k), enlarged linearly to
    the image. It is as coarse as the layer is.

    Args:
        model: as for `occlusion`.
        images: as for `occlusion`.
        target: as for `occlusion`.
        layer: module, or its name, whose output (N, K, h, w) or (N, K, d, h, w) is explained. If
            not given, `model.features` where there is one, else the last convolution. For a
            torchvision ResNet, "layer4".
        batch_size: images per pass.

    Returns:
        float32 (N, H, W) or (N, D, H, W), ≥ 0; all 0 where nothing in the layer speaks for the
        target.

    Raises:
        DataError: as for `occlusion`; no such layer, or one that gives no feature maps or that the
            output does not depend on.

    Source: Selvaraju et al., ICCV (2017), eq. 1 and 2.
    """
    layer = _layer(model, layer)
    images, target = _checked(images, target)
    seen: list = []

    def keep(_module: nn.Module, _inputs: tuple, output: Any) -> Any:
        seen.append(output)
        # A later in-place ReLU must not reach what was kept.
        return output.clone() if torch.is_tensor(output) else output

    found = []
    hook = layer.register_forward_hook(keep)
    try:
        # Callers may stand inside no_grad or inference_mode; gradients are needed all the same.
        with undisturbed(model) as device, torch.inference_mode(False), torch.enable_grad():
            for some in _chunks(range(len(images)), batch_size):
                part = slice(some[0], some[-1] + 1)
                # Copies, as the model may change its input and an inference tensor has no gradient.
                batch = images[part].to(device).clone().requires_grad_()
                score = _score(model(batch.clone()), target[part].clone())
                maps = seen[-1] if seen else None
                seen.clear()
                found.append(_cam(maps, score, batch.shape).cpu())
    finally:
        hook.remove()
    return torch.cat(found)


def pointing_game(maps: Tensor, masks: Tensor) -> float:
    """Hit rate of the highest point: the share of images where it lies inside the mask.

    Where several pixels share the highest value, the hit counts as the share of them that lies
    inside, so a constant map scores what a blind guess would. Images whose mask is empty are left
    out: there is nothing to point at.

    Args:
        maps: (N, H, W) or (N, D, H, W).
        masks: of the same shape; inside is every value above 0.

    Returns:
        0 to 1.

    Raises:
        DataError: different shapes, NaN, or no mask with a pixel in it.

    Source: Zhang et al., IJCV 126:1084 (2018), section 4.1, without its margin of 15 pixels.
    """
    maps, masks = torch.as_tensor(maps).cpu(), torch.as_tensor(masks).cpu()
    if maps.ndim not in (3, 4) or maps.shape != masks.shape:
        raise DataError(
            f"maps and masks must both be (N, H, W) or (N, D, H, W), got {tuple(maps.shape)} and "
            f"{tuple(masks.shape)}"
        )
    if maps.isnan().any():
        raise DataError("a map holds NaN: there is no highest point")
    inside = masks.flatten(1) > 0
    there = inside.any(1)
    if not there.any():
        raise DataError("all masks are empty: choose images that have a lesion")
    flat = maps.flatten(1)[there]
    highest = flat == flat.amax(1, keepdim=True)
    hits = (highest & inside[there]).sum(1) / highest.sum(1)
    return float(hits.double().mean())


def _checked(data: Cohort | Tensor, target: int | Tensor) -> tuple[Tensor, Tensor]:
    """Images as float32, and a class for each."""
    images, target = images_of(data), torch.as_tensor(target)
    if images.numel() == 0:
        raise DataError(f"there is no image to explain: got {tuple(images.shape)}")
    if target.is_floating_point() or target.shape not in ((), (len(images),)):
        raise DataError(
            f"target must be a class number or one per image ({len(images)}), got {target.dtype} "
            f"of shape {tuple(target.shape)}"
        )
    return to_float(images).detach(), target.long().expand(len(images))


def _score(outputs: Tensor, target: Tensor) -> Tensor:
    """The output for each image's target class, (N,)."""
    if not torch.is_tensor(outputs) or outputs.ndim not in (1, 2):
        got = tuple(outputs.shape) if torch.is_tensor(outputs) else type(outputs).__name__
        raise DataError(f"the model must return one row of outputs per image, got {got}")
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.shape[1] == 1:
        outputs = torch.cat([-outputs, outputs], 1)
    target = target.to(outputs.device)
    if target.min() < 0 or target.max() >= outputs.shape[1]:
        raise DataError(
            f"target must be 0 to {outputs.shape[1] - 1}, as the model has {outputs.shape[1]} "
            f"classes; got {target.min()} to {target.max()}"
        )
    return outputs.gather(1, target[:, None])[:, 0]


def _cam(maps: Tensor | None, score: Tensor, shape: torch.Size) -> Tensor:
    """The map of a batch of this shape, from what the layer gave and the outputs that followed."""
    if maps is None:
        raise DataError("the model never called this layer: name one that its forward uses")
    if not torch.is_tensor(maps) or maps.ndim != len(shape):
        got = tuple(maps.shape) if torch.is_tensor(maps) else type(maps).__name__
        raise DataError(
            f"Grad-CAM needs a layer that gives maps (N, K, …) with {len(shape)} axes, as the "
            f"images have; this one gave {got}"
        )
    slope = None
    if score.requires_grad and maps.requires_grad:
        # In evaluation mode images do not influence each other: the sum's gradient is each one's.
        (slope,) = torch.autograd.grad(score.sum(), maps, allow_unused=True)
    if slope is None:
        raise DataError(
            "the output does not depend on this layer in a differentiable way: does the model "
            "detach, use torch.no_grad() or bypass the layer?"
        )
    weights = slope.flatten(2).mean(2).view(*slope.shape[:2], *[1] * (maps.ndim - 2))
    coarse = (weights * maps.detach()).sum(1, keepdim=True).clamp_min(0).float()
    mode = _ENLARGED[len(shape)]
    return F.interpolate(coarse, shape[2:], mode=mode, align_corners=False)[:, 0]


def _layer(model: nn.Module, layer: nn.Module | str | None) -> nn.Module:
    if isinstance(layer, str):
        names = dict(model.named_modules())
        if layer not in names:
            raise DataError(
                f"the model has no layer {layer!r}; it has {', '.join(n for n in names if n)}"
            )
        return names[layer]
    if layer is not None:
        if not any(layer is module for module in model.modules()):
            raise DataError("this layer is not part of the model: pass one of model.modules()")
        return layer
    features = getattr(model, "features", None)
    if isinstance(features, nn.Module):
        return features
    convolutions = [m for m in model.modules() if isinstance(m, _CONVOLUTIONS)]
    if not convolutions:
        raise DataError("the model has no convolution: name the layer whose maps to explain")
    return convolutions[-1]


def _chunks(items: Any, size: int) -> Iterator:
    if size < 1:
        raise DataError(f"batch_size must be at least 1, got {size}")
    return (items[start : start + size] for start in range(0, len(items), size))
