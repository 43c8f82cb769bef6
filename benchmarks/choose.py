"""How the PneumoniaMNIST recipe was chosen: without its test set, on images that look different.

    python benchmarks/choose.py "mild + grey levels" "strong + grey levels" …

An ordinary validation set, cut from the training images, is nearly solved (AUC above 0.99) and
cannot rank recipes. So the training and validation images are grouped by appearance (k-means on
principal components of a 7×7 thumbnail and of grey-level quantiles), a model learns from three
groups and is scored on the fourth: as it is, and changed in eight fixed ways that another hospital
might bring. Test images are never read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from medlab import metrics
from medlab.augment import Augment, affine_matrices, warp
from medlab.cohort import to_float
from medlab.datasets import load
from medlab.models import SmallCNN
from medlab.training import fit, predict

MILD = {"rotate": 10, "translate": 0.05, "scale": 0.1}
STRONG = {"rotate": 15, "translate": 0.1, "scale": 0.2, "shear": 5}
GREY = {"brightness": 0.5, "contrast": 0.3, "gamma": 0.3}
SHARPNESS = {"noise": 0.2, "blur": 0.7}

CANDIDATES = {
    "mild": {"augment": Augment(**MILD)},
    "mild + grey levels": {"augment": Augment(**MILD, **GREY)},
    "strong + grey levels": {"augment": Augment(**STRONG, **GREY)},
    "mild + grey levels + sharpness": {"augment": Augment(**MILD, **GREY, **SHARPNESS)},
    "mild + grey levels, 24 epochs": {"augment": Augment(**MILD, **GREY), "epochs": 24},
    "mild + grey levels, smoothing": {
        "augment": Augment(**MILD, **GREY),
        "label_smoothing": 0.1,
    },
}
COMMON = {"epochs": 12, "class_weights": "balanced", "progress": False}


def groups_by_appearance(images: Tensor, *, groups: int = 4) -> np.ndarray:
    """(N,) group of each (N, 1, H, W) image; similar exposure and framing fall together."""
    pixels = to_float(images)
    thumbnails = F.adaptive_avg_pool2d(pixels, 7).flatten(1)
    levels = torch.quantile(pixels.flatten(1), torch.linspace(0.05, 0.95, 7), dim=1).T
    looks = PCA(8, random_state=0).fit_transform(torch.cat([thumbnails, 3 * levels], 1).numpy())
    return KMeans(groups, n_init=10, random_state=0).fit(looks).labels_


def disturbed(images: Tensor) -> Iterator[Tensor]:
    """The same float images (N, 1, H, W) as eight other devices might have made them."""
    n, _, height, width = images.shape

    def moved(*, angle: float = 0.0, shift: tuple = (0.0, 0.0), scale: float = 1.0) -> Tensor:
        matrices = affine_matrices(
            height=height,
            width=width,
            angle=torch.full((n,), angle),
            translate=torch.tensor([shift] * n),
            scale=torch.full((n,), scale),
            shear=torch.zeros(n, 2),
        )
        return warp(images, matrices)

    yield images**1.6
    yield images**0.6
    yield 0.2 + 0.6 * images
    yield moved(scale=1.15)
    yield moved(scale=0.88)
    yield moved(angle=8.0, shift=(2.0, -1.5))
    yield F.avg_pool2d(F.pad(images, [1] * 4, mode="replicate"), 3, stride=1)
    yield images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def score(name: str, images: Tensor, labels: Tensor, groups: np.ndarray, folds: int) -> None:
    rows = []
    for fold in range(folds):
        train, held = groups != fold, groups == fold
        torch.manual_seed(0)
        model = SmallCNN()
        fit(model, (images[train], labels[train]), **(COMMON | CANDIDATES[name]))
        truth, pixels = labels[held], to_float(images[held])
        other = [metrics.auc(truth, predict(model, view)) for view in disturbed(pixels)]
        plain, shifted = predict(model, pixels), predict(model, pixels, tta=True)
        rows.append(
            [
                metrics.auc(truth, plain),
                metrics.auc(truth, shifted),
                np.mean(other),
                metrics.balanced_accuracy(truth, plain),
            ]
        )
    values = " | ".join(f"{value:.4f}" for value in np.mean(rows, axis=0))
    print(f"| {name} | {values} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--folds", type=int, default=2, help="of the four groups, hold out so many")
    options = parser.parse_args()
    train, val, _ = load("pneumoniamnist").split()
    images, labels = torch.cat([train.images, val.images]), torch.cat([train.labels, val.labels])
    groups = groups_by_appearance(images)
    print("| candidate | AUC | with shifts averaged | disturbed | balanced accuracy |")
    print("|---|---:|---:|---:|---:|")
    for name in options.names:
        score(name, images, labels, groups, options.folds)


if __name__ == "__main__":
    main()
