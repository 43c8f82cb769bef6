"""MedMNIST test scores, 2-D or 3-D, of one recipe for all sets, beside the published ones.

    python benchmarks/medmnist.py NAME … [--root DATA] [--seeds 3] [--official-epochs 2]

One recipe for all sets: the small CNN (three-dimensional for volumes), `medlab.fit` as it is, and
the prediction averaged over shifts by a pixel. The defaults of `fit` were chosen on training and
validation images (benchmarks/README.md tells how, and of one alarm). Each seed is another start,
order and augmentation; AUC and accuracy are MedMNIST's own. In two dimensions the official recipe
can be timed for a few epochs in the same run. For each set the last line is one JSON object: scores
of every seed, their mean and spread, seconds, and the published rows (Yang et al., Scientific Data
10:41 (2023), tables 3 and 4, doi 10.1038/s41597-022-01721-8).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from medlab import metrics
from medlab.cohort import Cohort, to_float
from medlab.datasets import load
from medlab.models import SmallCNN
from medlab.training import fit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.recipe import over_shifts

# Set -> method -> test AUC and accuracy, as printed
PUBLISHED = json.loads(Path(__file__).with_name("medmnist_published.json").read_text("utf-8"))
Parts = tuple[Cohort, Cohort, Cohort]


def one_seed(parts: Parts, seed: int) -> dict[str, float]:
    """Train and test once: AUC, accuracy, and seconds from building the model to its last score."""
    train, val, test = parts
    dims = train.images.ndim - 2
    start = time.perf_counter()
    torch.manual_seed(seed)
    model = SmallCNN(
        train.images.shape[1], train.num_classes, width={2: 32, 3: 16}[dims], dims=dims
    )
    fit(model, train, val, seed=seed, progress=False)
    scores = over_shifts(model, test)
    return {
        "auc": metrics.auc(test.labels, scores),
        "accuracy": metrics.accuracy(test.labels, scores),
        "seconds": time.perf_counter() - start,
    }


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
    loss = F.binary_cross_entropy_with_logits if train.labels.ndim == 2 else F.cross_entropy
    images, labels = (to_float(train.images) - 0.5) / 0.5, train.labels
    start = time.perf_counter()
    for _ in range(epochs):
        for index in torch.randperm(len(labels)).split(batch):
            optimiser.zero_grad()
            loss(model(images[index]), labels[index]).backward()
            optimiser.step()
        schedule.step()
    return (time.perf_counter() - start) / epochs


def measure(name: str, options: argparse.Namespace) -> dict:
    """Everything about one set, as it is printed."""
    parts = load(name, root=options.root, verify=not options.no_verify).split()
    rows = []
    for seed in range(options.seeds):
        rows.append(one_seed(parts, seed))
        print(f"{name} seed {seed}: " + ", ".join(f"{k} {v:.4f}" for k, v in rows[-1].items()))
    result: dict = {"set": name, "test_images": len(parts[2]), "seeds": rows}
    for score in ("auc", "accuracy", "seconds"):
        values = torch.tensor([row[score] for row in rows], dtype=torch.float64)
        spread = values.std().item() if len(rows) > 1 else 0.0
        result[score] = {"mean": round(values.mean().item(), 4), "spread": round(spread, 4)}
    if options.official_epochs and parts[0].images.ndim == 4:
        epoch = official_seconds(parts[0], epochs=options.official_epochs)
        result["official_recipe"] = {
            "seconds": round(100 * epoch),
            "extrapolated_from_epochs": options.official_epochs,
            "times_as_long": round(100 * epoch / result["seconds"]["mean"], 1),
        }
    result["published"] = {
        method: {"auc": auc, "accuracy": accuracy}
        for method, (auc, accuracy) in PUBLISHED[name].items()
    }
    result["threads"] = torch.get_num_threads()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["pneumoniamnist", "retinamnist"])
    parser.add_argument("--root", help="data folder; default: MEDLAB_DATA, else the user's cache")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--official-epochs", type=int, default=0, help="0 leaves the recipe out")
    parser.add_argument("--no-verify", action="store_true", help="take files of another hash")
    options = parser.parse_args()
    for name in options.names:
        result = measure(name, options)
        ours = f"medlab, mean of {options.seeds}"
        print(f"| {name}, {result['test_images']} test images | AUC | accuracy |\n|---|---:|---:|")
        print(f"| **{ours}** | {result['auc']['mean']:.3f} | {result['accuracy']['mean']:.3f} |")
        for method, row in result["published"].items():
            print(f"| {method} (published) | {row['auc']:.3f} | {row['accuracy']:.3f} |")
        print(json.dumps(result))


if __name__ == "__main__":
    main()
