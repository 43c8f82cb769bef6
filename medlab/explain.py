"""What did the model look at? Occlusion, gradients and Grad-CAM, and a score for the answer.

All three maps are (N, H, W), float32 on the CPU, the size of the image; high is important. They
leave the model as they found it: mode, gradients, hooks and buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlab.cohort import to_float
from medlab.errors import DataError
from medlab.models.inspect import undisturbed

__all__ = ["grad_cam", "gradients", "occlusion", "pointing_game"]


def occlusion(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    *,
    patch: int = 8,
    stride: int | None = None,
    fill: float | str = "mean",
    scale: bool = True,
    signed: bool = False,
    batch_size: int = 64,
) -> Tensor:
    """Cover one patch after another: where does the model's output for the target fall?

    A pixel's value is the mean fall of the output over all patches that cover the pixel. Costs one
    forward pass per patch and image.

    Args:
        model: maps (N, C, H, W) float32 to (N, K), (N, 1) or (N,) outputs.
        images: (N, C, H, W); uint8 is read as 0…1.
        target: class to explain, one for all images or (N,). With a single output, 1 is that
            output and 0 its negative.
        patch: side of the square, in pixels.
        stride: from patch to patch; half a patch if not given. The last patch ends at the border.
        fill: what a patch is covered with: "mean" (of each channel of each image) or a value.
        scale: divide each map by its largest absolute value, so that it runs to 1; otherwise the
            unit is that of the model's output.
        signed: keep negative values, where covering raises the output; otherwise they become 0.
        batch_size: images per forward pass.

    Returns:
        float32 (N, H, W).

    Raises:
        DataError: shapes, target or patch that do not fit the images and the model.

    Source: Zeiler & Fergus, ECCV (2014), section 4.2.
    """
    stride = max(1, patch // 2) if stride is None else stride
    images, target = _checked(images, target)
    height, width = images.shape[-2:]
    if not 1 <= patch <= min(height, width) or not 1 <= stride <= patch:
        raise DataError(
            f"patch must be 1 to {min(height, width)} pixels and stride 1 to patch, so that every "
            f"pixel is covered; got patch {patch} and stride {stride}"
        )
    if fill != "mean" and not isinstance(fill, int | float):
        raise DataError(f"fill must be 'mean' or a number, got {fill!r}")
    corners = [
        (y, x) for y in _starts(height, patch, stride) for x in _starts(width, patch, stride)
    ]
    cover = torch.zeros(height, width)
    for y, x in corners:
        cover[y : y + patch, x : x + patch] += 1
    maps = torch.zeros(len(images), height, width)
    with undisturbed(model) as device, torch.no_grad():
        for i, image in enumerate(images.to(device)):
            paint = image.mean((1, 2))[:, None, None] if fill == "mean" else fill
            whole = _score(model(image[None]), target[i : i + 1])
            for some in _chunks(corners, batch_size):
                covered = image.repeat(len(some), 1, 1, 1)
                for row, (y, x) in zip(covered, some, strict=True):
                    row[:, y : y + patch, x : x + patch] = paint
                falls = whole - _score(model(covered), target[i].expand(len(some)))
                for fall, (y, x) in zip(falls.float().tolist(), some, strict=True):
                    maps[i, y : y + patch, x : x + patch] += fall
    maps /= cover
    return _finished(maps if signed else maps.clamp_min(0), scale)


def gradients(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    *,
    scale: bool = True,
    batch_size: int = 64,
) -> Tensor:
    """How strongly the output answers to each pixel: max over channels of |∂ output / ∂ pixel|.

    Args:
        model, images, target, scale, batch_size: as for `occlusion`; images are differentiated as
            the float32 that the model sees.

    Returns:
        float32 (N, H, W), ≥ 0.

    Raises:
        DataError: shapes or target that do not fit, or an output that does not depend on the image
            by differentiable steps.

    Source: Simonyan, Vedaldi & Zisserman, ICLR workshop (2014), section 3.1.
    """

    def saliency(batch: Tensor, wanted: Tensor) -> Tensor:
        score = _score(model(batch.clone()), wanted)  # the model may change its input in place
        return _derivative(score, batch).abs().amax(1)

    return _finished(_in_batches(model, images, target, batch_size, saliency), scale)


def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: nn.Module | str | None = None,
    *,
    scale: bool = True,
    batch_size: int = 64,
) -> Tensor:
    """Grad-CAM: feature maps A_k, weighted by how much the output answers to each.

    α_k = mean over positions of ∂ output / ∂ A_k; map = max(0, Σ_k α_k A_k), enlarged bilinearly
    to the image. It is as coarse as the layer is.

    Args:
        model, images, target, scale, batch_size: as for `occlusion`.
        layer: module, or its name, whose output (N, K, h, w) is explained. If not given,
            `model.features` where there is one, else the last convolution. For a torchvision
            ResNet, "layer4".

    Returns:
        float32 (N, H, W), ≥ 0; all 0 where nothing in the layer speaks for the target.

    Raises:
        DataError: no such layer, a layer that gives no feature maps or that the output does not
            depend on.

    Source: Selvaraju et al., ICCV (2017), eq. 1 and 2.
    """
    layer = _layer(model, layer)

    def cam(batch: Tensor, wanted: Tensor) -> Tensor:
        seen: list = []

        def keep(_module, _inputs, output):
            seen.append(output)
            # A later in-place ReLU must not reach what was kept.
            return output.clone() if torch.is_tensor(output) else output

        hook = layer.register_forward_hook(keep)
        try:
            score = _score(model(batch.clone()), wanted)
        finally:
            hook.remove()
        if not seen:
            raise DataError("the model never called this layer: name one that its forward uses")
        maps = seen[-1]
        if not torch.is_tensor(maps) or maps.ndim != 4:
            got = tuple(maps.shape) if torch.is_tensor(maps) else type(maps).__name__
            raise DataError(f"Grad-CAM needs a layer that gives (N, K, h, w), this one gave {got}")
        weights = _derivative(score, maps).mean((2, 3), keepdim=True)
        coarse = (weights * maps.detach()).sum(1, keepdim=True).clamp_min(0).float()
        return F.interpolate(coarse, batch.shape[-2:], mode="bilinear", align_corners=False)[:, 0]

    return _finished(_in_batches(model, images, target, batch_size, cam), scale)


def pointing_game(maps: Tensor, masks: Tensor) -> float:
    """Hit rate of the highest point: the share of images where it lies inside the mask.

    Where several pixels share the highest value, the hit counts as the share of them that lies
    inside, so a constant map scores what a blind guess would. Images whose mask is empty are left
    out: there is nothing to point at.

    Args:
        maps: (N, H, W).
        masks: (N, H, W); inside is every value above 0.

    Returns:
        0 to 1.

    Raises:
        DataError: different shapes, NaN, or no mask with a pixel in it.

    Source: Zhang et al., IJCV 126:1084 (2018), section 4.1, without its margin of 15 pixels.
    """
    maps, masks = torch.as_tensor(maps).cpu(), torch.as_tensor(masks).cpu()
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise DataError(
            f"maps and masks must both be (N, H, W), got {tuple(maps.shape)} and "
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


def _checked(images: Tensor, target: int | Tensor) -> tuple[Tensor, Tensor]:
    images = torch.as_tensor(images)
    if images.ndim != 4 or images.numel() == 0:
        raise DataError(
            f"images must be (N, C, H, W), got {tuple(images.shape)}; for one image of a cohort "
            "write cohort.images[i : i + 1]"
        )
    target = torch.as_tensor(target)
    if target.is_floating_point() or target.shape not in ((), (len(images),)):
        raise DataError(
            f"target must be a class number or one per image ({len(images)}), got {target.dtype} "
            f"of shape {tuple(target.shape)}"
        )
    return to_float(images), target.long().expand(len(images))


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


def _derivative(score: Tensor, by: Tensor) -> Tensor:
    found = None
    if score.requires_grad and by.requires_grad:
        # In evaluation mode images do not influence each other: the sum's gradient is each one's.
        (found,) = torch.autograd.grad(score.sum(), by, allow_unused=True)
    if found is None:
        raise DataError(
            "the output does not depend on this layer or image in a differentiable way: does the "
            "model detach, use torch.no_grad() or bypass the layer?"
        )
    return found.detach()


def _in_batches(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    batch_size: int,
    explain: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    images, target = _checked(images, target)
    maps = []
    # Callers may stand inside no_grad or inference_mode; gradients are needed all the same.
    with undisturbed(model) as device, torch.inference_mode(False), torch.enable_grad():
        for some in _chunks(range(len(images)), batch_size):
            batch = images[some[0] : some[-1] + 1].to(device).detach().clone().requires_grad_()
            maps.append(explain(batch, target[some[0] : some[-1] + 1].clone()).cpu())
    return torch.cat(maps)


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
    if isinstance(getattr(model, "features", None), nn.Module):
        return model.features
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        raise DataError("the model has no convolution: name the layer whose maps to explain")
    return convolutions[-1]


def _starts(length: int, patch: int, stride: int) -> list[int]:
    """First pixels of patches that cover a side; the last patch ends at the border."""
    return sorted({*range(0, length - patch + 1, stride), length - patch})


def _chunks(items, size: int) -> Iterator:
    if size < 1:
        raise DataError(f"batch_size must be at least 1, got {size}")
    return (items[start : start + size] for start in range(0, len(items), size))


def _finished(maps: Tensor, scale: bool) -> Tensor:
    if scale:
        maps = maps / maps.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    return maps
