"""Probabilities from a trained model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlab.cohort import Cohort, to_float
from medlab.errors import DataError

__all__ = ["logits_of", "predict"]


def predict(
    model: nn.Module,
    data: Cohort | Tensor,
    *,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    tta: bool = False,
    multilabel: bool | None = None,
) -> Tensor:
    """Probability of each class for each image.

    The model is put in evaluation mode and left in the mode, and on the device, it had.

    Args:
        model: maps (N, C, …) float32 images to (N, K) logits.
        data: a cohort, or images of shape (N, C, …), uint8 or float.
        batch_size: images at a time; changes memory and speed, not the result.
        device: where to compute; default: where the model is.
        tta: test-time augmentation: the mean probability over the image and its four shifts by one
            pixel (2-D images only). Five times the work for a somewhat steadier answer.
        multilabel: sigmoid for each output instead of a softmax over them; default: what the
            cohort's card says, and softmax for a tensor.

    Returns:
        (N, K) float32 on the CPU. Rows sum to 1 unless multilabel.

    Raises:
        DataError: images that are not (N, C, …), or a model that does not return (N, K).
    """
    if isinstance(data, Cohort):
        images = data.images
        multilabel = data.card.task == "multilabel" if multilabel is None else multilabel
    else:
        # Asked for its images, a sealed cohort says how to open it.
        images = torch.as_tensor(getattr(data, "images", data))
    if images.ndim not in (4, 5):
        raise DataError(
            f"images must be (N, C, H, W), or (N, C, D, H, W) for volumes; got "
            f"{tuple(images.shape)}. For one image pass image[None]."
        )
    if tta and images.ndim != 4:
        raise DataError("tta shifts 2-D images (N, C, H, W); pass tta=False for volumes")
    squash = torch.sigmoid if multilabel else lambda logits: logits.softmax(1)
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)] if tta else [(0, 0)]
    views = (
        squash(logits_of(model, images, batch_size=batch_size, device=device, shift=shift))
        for shift in shifts
    )
    return (sum(views) / len(shifts)).cpu()


@torch.inference_mode()
def logits_of(
    model: nn.Module,
    images: Tensor,
    *,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    shift: tuple[int, int] = (0, 0),
) -> Tensor:
    """Raw outputs (N, K), float32, of the model in evaluation mode; `shift` rolls rows, columns."""
    home = next(model.parameters(), torch.empty(0)).device
    device = home if device is None else torch.device(device)
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    try:
        parts = [
            model(_shifted(to_float(part.to(device)), shift)).float()
            for part in images.split(batch_size)
        ]
    finally:
        for module, mode in modes.items():
            module.training = mode
        model.to(home)
    logits = torch.cat(parts) if parts else torch.empty(0, 0)
    if logits.ndim != 2:
        raise DataError(
            f"the model must return logits of shape (N, classes); it returned {tuple(logits.shape)}"
        )
    return logits


def _shifted(images: Tensor, shift: tuple[int, int]) -> Tensor:
    """Move the picture by whole pixels and repeat the edge."""
    rows, columns = shift
    if not (rows or columns):
        return images
    height, width = images.shape[-2:]
    r, c = abs(rows), abs(columns)
    padded = F.pad(images, [c, c, r, r], mode="replicate")
    return padded[..., r - rows : r - rows + height, c - columns : c - columns + width]
