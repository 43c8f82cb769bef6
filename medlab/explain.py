"""What did the model look at? Occlusion and Grad-CAM, and a score for the answer.

Maps are (N, H, W), or (N, D, H, W) for volumes, float32 on the CPU, the size of the image and in
the unit of the model's output; high is important. The model is left as it was found: mode,
gradients, hooks and buffers.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlab.cohort import Cohort, images_of, to_float
from medlab.errors import DataError
from medlab.models import undisturbed

__all__ = ["grad_cam", "occlusion", "pointing_game"]


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

    A target or patch that does not fit images and model is a `DataError`.

    Source: Zeiler & Fergus, ECCV (2014), section 4.2.
    """
    images, target = _checked(images, target)
    size = images.shape[2:]
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= stride <= patch <= min(size):
        raise DataError(
            f"patch must be 1 to {min(size)} pixels and stride 1 to patch, so that every pixel is "
            f"covered; got patch {patch} and stride {stride}"
        )
    starts = ({*range(0, side - patch + 1, stride), side - patch} for side in size)
    patches = [tuple(slice(at, at + patch) for at in corner) for corner in product(*starts)]
    maps, cover = torch.zeros(len(images), *size), torch.zeros(*size)
    for where in patches:
        cover[where] += 1
    batches = [patches[i : i + batch_size] for i in range(0, len(patches), batch_size)]
    with undisturbed(model) as device, torch.no_grad():
        for image, wanted, falls in zip(images.to(device), target, maps, strict=True):
            mean = image.flatten(1).mean(1).view(-1, *[1] * len(size))
            whole = _score(model(image[None]), wanted[None])
            for some in batches:
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
    layer: str | None = None,
    *,
    batch_size: int = 64,
) -> Tensor:
    """Grad-CAM: feature maps A_k, weighted by how much the output answers to each; ≥ 0.

    α_k = mean over positions of ∂ output / ∂ A_k; map = max(0, Σ_k α_k A_k), enlarged linearly to
    the image. It is as coarse as the layer is, and all 0 where nothing in it speaks for the target.

    The layer is the name of the module whose output (N, K, h, w) or (N, K, d, h, w) is explained;
    if not given, "features" where there is one, else the last convolution. For a torchvision ResNet
    name "layer4". All else is as for `occlusion`, and a `DataError` tells of a layer that is not
    there, gives no feature maps, or that the output does not depend on.

    Source: Selvaraju et al., ICCV (2017), eq. 1 and 2.
    """
    images, target = _checked(images, target)
    seen, found = [], []

    def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        seen.append(output)
        # A later in-place ReLU must not reach what was kept.
        return output.clone() if torch.is_tensor(output) else output

    hook = _layer(model, layer).register_forward_hook(keep)
    try:
        # Callers may stand inside no_grad or inference_mode; gradients are needed all the same.
        with undisturbed(model) as device, torch.inference_mode(False), torch.enable_grad():
            for part in torch.arange(len(images)).split(batch_size):
                # Copies, as the model may change its input and an inference tensor has no gradient.
                batch = images[part].to(device).requires_grad_()
                score = _score(model(batch.clone()), target[part])
                found.append(_cam(seen[-1] if seen else None, score, batch).cpu())
                seen.clear()
    finally:
        hook.remove()
    return torch.cat(found)


def pointing_game(maps: Tensor, masks: Tensor) -> float:
    """Hit rate, 0 to 1, of the highest point: the share of images where it lies inside the mask.

    Where several pixels share the highest value, the hit counts as the share of them that lies
    inside, so a constant map scores what a blind guess would. Images whose mask is empty are left
    out: there is nothing to point at.

    Args:
        maps: (N, H, W) or (N, D, H, W).
        masks: of the same shape, else `DataError`; inside is every value above 0.

    Source: Zhang et al., IJCV 126:1084 (2018), section 4.1, without its margin of 15 pixels.
    """
    maps, masks = torch.as_tensor(maps).cpu(), torch.as_tensor(masks).cpu()
    if maps.shape != masks.shape or maps.isnan().any() or not (masks > 0).any():
        raise DataError(
            f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must be of one shape, "
            "without NaN, and some mask must hold a lesion"
        )
    inside, flat = masks.flatten(1) > 0, maps.flatten(1)
    highest = flat == flat.amax(1, keepdim=True)
    hits = (highest & inside).sum(1) / highest.sum(1)
    return float(hits[inside.any(1)].double().mean())


def _checked(data: Cohort | Tensor, target: int | Tensor) -> tuple[Tensor, Tensor]:
    """Images as float32, and a class for each."""
    images, target = images_of(data), torch.as_tensor(target)
    wrong = target.is_floating_point() or target.shape not in ((), (len(images),))
    if images.numel() == 0 or wrong:
        raise DataError(
            f"target must be a class number or one per image, got {target.dtype} of shape "
            f"{tuple(target.shape)} for images {tuple(images.shape)}"
        )
    return to_float(images).detach(), target.long().expand(len(images))


def _score(outputs: Tensor, target: Tensor) -> Tensor:
    """The output for each image's target class, (N,)."""
    if not torch.is_tensor(outputs) or outputs.ndim not in (1, 2):
        raise DataError(f"the model must return one row of outputs per image, got {outputs}")
    outputs = outputs.reshape(len(outputs), -1)
    if outputs.shape[1] == 1:
        outputs = torch.cat([-outputs, outputs], 1)
    target = target.to(outputs.device)
    if target.min() < 0 or target.max() >= outputs.shape[1]:
        raise DataError(
            f"target must be 0 to {outputs.shape[1] - 1}, one of the model's classes; got "
            f"{target.min()} to {target.max()}"
        )
    return outputs.gather(1, target[:, None])[:, 0]


def _cam(maps: Tensor | None, score: Tensor, batch: Tensor) -> Tensor:
    """The map of a batch, from what the layer gave and the outputs that followed."""
    slope = None
    if isinstance(maps, Tensor) and maps.ndim == batch.ndim and score.requires_grad:
        # In evaluation mode images do not influence each other: the sum's gradient is each one's.
        (slope,) = torch.autograd.grad(score.sum(), maps, allow_unused=True)
    if maps is None or slope is None:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise DataError(
            f"Grad-CAM needs a layer that gives maps (N, K, …) with {batch.ndim} axes, on which "
            f"the output depends; this one gave {got}. Is it called, and without torch.no_grad()?"
        )
    weights = slope.flatten(2).mean(2).view(*slope.shape[:2], *[1] * (maps.ndim - 2))
    coarse = (weights * maps.detach()).sum(1, keepdim=True).clamp_min(0).float()
    mode = "bilinear" if batch.ndim == 4 else "trilinear"
    return F.interpolate(coarse, batch.shape[2:], mode=mode)[:, 0]


def _layer(model: nn.Module, name: str | None) -> nn.Module:
    named = dict(model.named_modules())
    convolutions = [k for k, m in named.items() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    name = name or ("features" if "features" in named else (convolutions or [""])[-1])
    if not name or name not in named:
        raise DataError(f"no convolution or no layer {name!r}; name one of {', '.join(named)}")
    return named[name]
