"""MedMNIST test scores of one `medlab.fit` call, beside the published ones.

    python benchmarks/medmnist.py [pneumoniamnist] [retinamnist] [--seeds 10] [--official-epochs 2]

Ten seeds: another start, another order, another augmentation each; mean and standard deviation of
test AUC and accuracy (at probability 0.5, or the most probable class), as MedMNIST evaluates. In
the same run the official recipe is timed for a few epochs and extrapolated to its hundred. How the
recipe was chosen, without the test set, stands in benchmarks/README.md. A set that is neither in
MEDLAB_DATA nor in the cache is downloaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from medlab import metrics
from medlab.augment import Augment
from medlab.cohort import Cohort, to_float
from medlab.datasets import load, published
from medlab.models import SmallCNN
from medlab.training import fit, predict

RECIPE = {
    "epochs": 20,
    "class_weights": "balanced",
    "augment": Augment(
        rotate=10,
        translate=0.05,
        scale=0.1,
        brightness=0.5,
        contrast=0.3,
        gamma=0.3,
        noise=0.2,
        blur=0.7,
    ),
}


def one_seed(cohorts: tuple[Cohort, Cohort, Cohort], seed: int) -> tuple[float, float, float]:
    """Train and test once.

    Returns:
        Test AUC, test accuracy, and seconds from building the model to its last prediction.
    """
    train, val, test = cohorts
    start = time.perf_counter()
    torch.manual_seed(seed)
    model = SmallCNN(in_channels=train.images.shape[1], num_classes=train.num_classes)
    fit(model, train, val, seed=seed, progress=False, **RECIPE)
    scores = predict(model, test, tta=True)
    took = time.perf_counter() - start
    return metrics.auc(test.labels, scores), metrics.accuracy(test.labels, scores), took


def official_seconds(train: Cohort, *, epochs: int, batch: int = 128) -> float:
    """Seconds an epoch of the official recipe takes on this machine.

    ResNet-18 with a 3×3 first convolution and no pooling after it, Adam at 0.001 (divided by ten
    after 50 and 75 of 100 epochs), batches of 128, no augmentation. Images come from one tensor
    instead of the official PIL loader, and the official evaluation after each epoch is left out, so
    the real recipe takes longer than this.
    """
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=train.num_classes)
    model.conv1 = nn.Conv2d(train.images.shape[1], 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.001)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [50, 75], gamma=0.1)
    images, labels = (to_float(train.images) - 0.5) / 0.5, train.labels
    start = time.perf_counter()
    for _ in range(epochs):
        for index in torch.randperm(len(labels)).split(batch):
            optimiser.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            optimiser.step()
        schedule.step()
    return (time.perf_counter() - start) / epochs


def measure(name: str, *, seeds: int, official_epochs: int) -> list[str]:
    cohorts = load(name).split()
    rows = []
    for seed in range(seeds):
        rows.append(one_seed(cohorts, seed))
        print("{} seed {}: AUC {:.4f}, accuracy {:.4f}, {:.1f} s".format(name, seed, *rows[-1]))
    auc, accuracy, took = torch.tensor(rows, dtype=torch.float64).T
    lines = [
        f"### {name}, test set of {len(cohorts[2])} images",
        "",
        "| method | AUC | accuracy | training time |",
        "|---|---:|---:|---:|",
        f"| **medlab, mean of {seeds} seeds** | **{auc.mean():.3f}** ± {_std(auc):.3f} "
        f"| **{accuracy.mean():.3f}** ± {_std(accuracy):.3f} | {took.mean():.0f} s "
        f"(slowest {took.max():.0f} s) |",
    ]
    if official_epochs:
        epoch = official_seconds(cohorts[0], epochs=official_epochs)
        lines.append(
            f"| official recipe, extrapolated from {official_epochs} epochs of {epoch:.0f} s | | | "
            f"{100 * epoch:,.0f} s, {100 * epoch / took.mean():.0f} times as long |"
        )
    for method, (their_auc, their_accuracy) in published(name).items():
        lines.append(f"| {method} (published) | {their_auc:.3f} | {their_accuracy:.3f} | |")
    lines.append("")
    lines.append(
        f"Smallest and largest of the seeds: AUC {auc.min():.3f} and {auc.max():.3f}, accuracy "
        f"{accuracy.min():.3f} and {accuracy.max():.3f}. {torch.get_num_threads()} CPU threads."
    )
    return lines


def _std(values: torch.Tensor) -> float:
    return values.std().item() if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["pneumoniamnist", "retinamnist"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--official-epochs", type=int, default=2, help="0 leaves the recipe out")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    tables = []
    for name in options.names:
        lines = measure(name, seeds=options.seeds, official_epochs=options.official_epochs)
        tables.append("\n".join(lines))
        print("\n" + tables[-1] + "\n")
    if options.markdown:
        options.markdown.write_text("\n\n".join(tables) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
