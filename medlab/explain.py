"""What did the model look at? Four kinds of map, and two scores for the answer.

Maps are (N, H, W), float32 on the CPU, the size of the image and in the unit of the model's output
(a gradient: of the output for one unit of a pixel); high is important. The model is left as it was
found: mode, gradients, hooks and buffers.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medlab.cohort import Cohort, images_of, to_float
from medlab.errors import DataError
from medlab.models import undisturbed

__all__ = [
    "energy_inside",
    "grad_cam",
    "gradient",
    "integrated_gradients",
    "occlusion",
    "pointing_game",
]

_BATCH = 64  # images a forward pass


def occlusion(
    model: nn.Module,
    images: Cohort | Tensor,
    target: int,
    *,
    patch: int = 8,
    stride: int | None = None,
) -> Tensor:
    """Cover one patch after another: where does the model's output for the target fall?

    A patch is covered with each channel's mean. A pixel's value is the mean fall of the output over
    all patches that cover the pixel; it is negative where covering raises the output. Costs one
    forward pass per patch and image.

    Args:
        model: maps (N, C, H, W) float32 to (N, K) outputs.
        images: a cohort, or (N, C, H, W), as `medlab.predict` takes them.
        target: class to explain.
        patch: side of the square, in pixels.
        stride: from patch to patch; half a patch if not given. The last patch ends at the border.

    A target or patch that does not fit images and model is a `DataError`.

    Source: Zeiler & Fergus, ECCV (2014), section 4.2.
    """
    images = _checked(images)
    size = images.shape[2:]
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= stride <= patch <= min(size):
        raise DataError(
            f"patch must be 1 to {min(size)} pixels and stride 1 to patch, so that every pixel is "
            f"covered; got patch {patch} and stride {stride}"
        )
    starts = ({*range(0, side - patch + 1, stride), side - patch} for side in size)
    patches = [(slice(y, y + patch), slice(x, x + patch)) for y, x in product(*starts)]
    maps, cover = torch.zeros(len(images), *size), torch.zeros(*size)
    with undisturbed(model) as device, torch.no_grad():
        for part, found in zip(images.split(_BATCH), maps.split(_BATCH), strict=True):
            part, mean = part.to(device), part.mean((2, 3), keepdim=True).to(device)
            whole = _score(model(part.clone()), target)
            for where in patches:
                covered = part.clone()
                covered[:, :, *where] = mean
                fall = whole - _score(model(covered), target)
                found[:, *where] += fall.float().cpu()[:, None, None]
    for where in patches:
        cover[where] += 1
    return maps / cover


def gradient(model: nn.Module, images: Cohort | Tensor, target: int) -> Tensor:
    """How fast does the output change with each pixel? |∂ output / ∂ pixel|, of channels the most.

    Arguments are as for `occlusion`; an output that does not depend on the image is a `DataError`.

    Source: Simonyan et al. (2014), arXiv:1312.6034, section 3.1.
    """
    return _by_batch(model, images, lambda batch: _of_pixels(model, batch, target).abs().amax(1))


def integrated_gradients(
    model: nn.Module,
    images: Cohort | Tensor,
    target: int,
    *,
    baseline: Tensor | None = None,
    steps: int = 32,
) -> Tensor:
    """What each pixel adds to the output on the straight path from a baseline image; signed.

    Map = (x − b) · mean of ∂ output / ∂ pixel along b + α (x − b), summed over channels. The sum
    over the map's pixels is output(x) − output(b), as nearly as the mean over `steps` midpoints is
    an integral: compare the two. Every step costs one pass forward and back.

    The `baseline` b is one image (C, H, W) or (1, C, H, W) of the kind of `images`; black, 0, if
    not given. The rest is as for `gradient`; a baseline or steps that do not fit are a `DataError`.

    Source: Sundararajan et al., ICML (2017), arXiv:1703.01365, eq. 1 and 3.
    """
    images = _checked(images)
    one = tuple(images.shape[1:])
    start = torch.zeros(one) if baseline is None else to_float(torch.as_tensor(baseline)).detach()
    if start.shape not in (one, (1, *one)) or steps not in range(1, 10**6):
        raise DataError(
            f"baseline must be one image {one} and steps a whole number from 1; got a baseline "
            f"{tuple(start.shape)} and {steps} steps"
        )

    def along(batch: Tensor) -> Tensor:
        first = start.to(batch.device)
        way = batch - first
        points = (first + (step + 0.5) / steps * way for step in range(steps))
        mean = sum(_of_pixels(model, point, target) for point in points) / steps
        return (way * mean).sum(1)

    return _by_batch(model, images, along)


def grad_cam(model: nn.Module, images: Cohort | Tensor, target: int) -> Tensor:
    """Grad-CAM: feature maps A_k, weighted by how much the output answers to each; ≥ 0.

    α_k = mean over positions of ∂ output / ∂ A_k; map = max(0, Σ_k α_k A_k), enlarged linearly to
    the image. It is as coarse as the layer is, and all 0 where nothing in it speaks for the target.

    Explained is what the model's `features` put out, else its last convolution. Arguments are as
    for `occlusion`; a `DataError` tells of a layer on which the output does not depend.

    Source: Selvaraju et al., ICCV (2017), eq. 1 and 2.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    layer = getattr(model, "features", convolutions[-1] if convolutions else model)
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        seen[:] = [output] if torch.is_tensor(output) and output.ndim == 4 else []
        return output.clone() if seen else output  # a later in-place ReLU must not reach it

    def weighted(batch: Tensor) -> Tensor:
        score = _score(model(batch.requires_grad_().clone()), target)
        slope = _slope(
            score,
            seen[0] if seen else None,
            "Grad-CAM needs a convolution, or `features` that put out maps (N, K, h, w), on which "
            "the output depends: is it called, and without torch.no_grad()?",
        )
        weights = slope.mean((2, 3), keepdim=True)
        coarse = (weights * seen[0].detach()).sum(1, keepdim=True).clamp_min(0).float()
        return F.interpolate(coarse, batch.shape[2:], mode="bilinear")[:, 0]

    with layer.register_forward_hook(keep):
        return _by_batch(model, images, weighted)


def pointing_game(maps: Tensor, masks: Tensor) -> float:
    """Hit rate, 0 to 1, of the highest point: the share of images where it lies inside the mask.

    Where several pixels share the highest value, the hit counts as the share of them that lies
    inside, so a constant map scores what a blind guess would. Images whose mask is empty are left
    out: there is nothing to point at.

    Args:
        maps: (N, H, W).
        masks: of the same shape, else `DataError`; inside is every value above 0.

    Source: Zhang et al., IJCV 126:1084 (2018), section 4.1, without its margin of 15 pixels.
    """
    maps, inside = _inside(maps, masks)
    highest = maps == maps.amax(1, keepdim=True)
    return float(((highest & inside).sum(1) / highest.sum(1)).double().mean())


def energy_inside(maps: Tensor, masks: Tensor) -> float:
    """Share, 0 to 1, of a map's positive sum that lies inside the mask; mean over images.

    What is negative counts 0. A map without anything positive counts as a constant one does: the
    mask's share of the image. Arguments, errors and images left out are those of `pointing_game`.

    Source: Wang et al., CVPR Workshops (2020), arXiv:1910.01279, there with boxes for masks.
    """
    maps, inside = _inside(maps, masks)
    positive = maps.double().clamp_min(0)
    positive[positive.sum(1) == 0] = 1
    return float(((positive * inside).sum(1) / positive.sum(1)).mean())


def _inside(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and what lies inside their masks, both (n, H·W), of the images with a lesion."""
    maps, masks = torch.as_tensor(maps).cpu(), torch.as_tensor(masks).cpu()
    if maps.shape != masks.shape or maps.isnan().any() or not (masks > 0).any():
        raise DataError(
            f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must be of one shape, "
            "without NaN, and some mask must hold a lesion"
        )
    inside = masks.flatten(1) > 0
    return maps.flatten(1)[inside.any(1)], inside[inside.any(1)]


def _checked(data: Cohort | Tensor) -> Tensor:
    """Images (N, C, H, W) as float32."""
    images = images_of(data)
    if images.ndim != 4 or not images.numel():
        raise DataError(f"expected one image (N, C, H, W) or more, got {tuple(images.shape)}")
    return to_float(images).detach()


def _score(outputs: Tensor, target: int) -> Tensor:
    """The output of each image for the target class, (N,)."""
    if not torch.is_tensor(outputs) or outputs.ndim != 2:
        raise DataError(f"the model must return one row of outputs per image, got {outputs}")
    if target not in range(outputs.shape[1]):
        raise DataError(
            f"target must be 0 to {outputs.shape[1] - 1}, one of the model's classes; got {target}"
        )
    return outputs[:, target]


def _by_batch(model: nn.Module, data: Cohort | Tensor, maps: Callable[[Tensor], Tensor]) -> Tensor:
    """All maps, where `maps` gives those of a batch (n, C, H, W) on the model's device."""
    # Callers may stand inside no_grad or inference_mode; gradients are needed all the same.
    with undisturbed(model) as device, torch.inference_mode(False), torch.enable_grad():
        # Copies, as the model may change its input and an inference tensor has no gradient.
        batches = (part.clone().to(device) for part in _checked(data).split(_BATCH))
        return torch.cat([maps(batch).float().cpu() for batch in batches])


def _of_pixels(model: nn.Module, batch: Tensor, target: int) -> Tensor:
    """∂ output / ∂ pixel of each image of a batch, in its shape."""
    batch = batch.detach().clone().requires_grad_()
    told = "the output does not depend on the image: is it computed without torch.no_grad()?"
    return _slope(_score(model(batch.clone()), target), batch, told)


def _slope(score: Tensor, of: Tensor | None, told: str) -> Tensor:
    """∂ score / ∂ `of`, in its shape; a `DataError` tells if the score does not depend on it."""
    slope = None
    if of is not None and score.requires_grad:
        # In evaluation mode images do not influence each other: the sum's gradient is each one's.
        (slope,) = torch.autograd.grad(score.sum(), of, allow_unused=True)
    if slope is None:
        raise DataError(told)
    return slope
