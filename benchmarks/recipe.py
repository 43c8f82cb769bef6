"""What `medlab.fit` does by default beside variants of it, on few images; no test set is read.

    python benchmarks/recipe.py [NAME …] [--root DATA] [--images 546] [--seeds 1]

Of the training part of each MedMNIST set (and of the simulated radiographs, "chest_xray") a few
images are drawn to learn from, 546 as in BreastMNIST, and up to 1,500 others to judge by. The table
shows AUC and accuracy, plain and with the prediction averaged over shifts by one pixel
(`over_shifts`); the last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import medlab
from medlab import metrics
from medlab.augment import Augment
from medlab.cohort import Cohort
from medlab.models import SmallCNN

MILD = Augment(share=0.7)
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "geometry alone": {"augment": MILD},
    "classes as they are": {"class_weights": None},
    "geometry alone, classes as they are": {"augment": MILD, "class_weights": None},
    "20 epochs": {"epochs": 20},
    "75 epochs": {"epochs": 75},
}


def parts(name: str, root: str | None, images: int) -> tuple[Cohort, Cohort]:
    """What is learnt from and what judges, both of the official training part."""
    if name == "chest_xray":
        train = medlab.load(name, n=1600).split()[0]
        small = F.interpolate(train.images.float(), size=(28, 28), mode="area")
        train = Cohort(images=small.round().byte(), labels=train.labels, card=train.card)
    else:
        train = medlab.load(name, root=root).split()[0]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).numpy()
    return train[order[:images]], train[order[images : images + 1500]]


def over_shifts(model: nn.Module, data: Cohort) -> Tensor:
    """Mean of what `predict` gives of images and of their shifts by one pixel along each axis."""
    views = [data.images]
    for axis in range(2, data.images.ndim):
        last = data.images.shape[axis] - 1
        for step in (1, -1):  # the edge is repeated
            source = (torch.arange(last + 1) - step).clamp(0, last)
            views.append(data.images.index_select(axis, source))
    answers = [medlab.predict(model, replace(data, images=images)) for images in views]
    return sum(answers[1:], answers[0]) / len(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["pneumoniamnist", "retinamnist", "chest_xray"])
    parser.add_argument("--root", help="data folder; default: MEDLAB_DATA, else the user's cache")
    parser.add_argument("--images", type=int, default=546, help="to learn from")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    rows = []
    print(
        "| set | variant | AUC | accuracy | AUC, shifts | accuracy, shifts |\n|---|---|"
        + "---:|" * 4
    )
    for name in options.names:
        few, others = parts(name, options.root, options.images)
        for variant, changes in VARIANTS.items():
            scores = []
            for seed in range(options.seeds):
                torch.manual_seed(seed)
                model = SmallCNN(few.images.shape[1], few.num_classes)
                medlab.fit(model, few, seed=seed, progress=False, **changes)
                answers = [medlab.predict(model, others), over_shifts(model, others)]
                scores.append(
                    [
                        measure(others.labels, answer)
                        for answer in answers
                        for measure in (metrics.auc, metrics.accuracy)
                    ]
                )
            means = [fmean(column) for column in zip(*scores, strict=True)]
            rows.append({"set": name, "variant": variant, "scores": scores})
            print(f"| {name} | {variant} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    print(json.dumps({"images": options.images, "rows": rows}))


if __name__ == "__main__":
    main()
