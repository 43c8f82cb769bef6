"""Nodule or not, on patches of chest CT: one call of `medlab.fit`, plain and for patches.

    python benchmarks/lung_nodules.py [--root DATA] [--seeds 3] [--only plain] [--choose 0]

Candidates stand in the order of scans, so the test is the last 15 % of rows; nothing is trained on
within 1,240 rows of it (twice a scan's mean), and so no scan of usual length stands on both sides.
Beside the plain default (small CNN, `fit` as it is) stands what patches allow: a patch has no left
and right, so it is turned and mirrored in its eight ways, in training, which is longer, and for the
answer. With --choose 0 … 4 that fifth of the training rows is scored in place of the test,
which is how the recipe was chosen: the test rows are then not looked at.

Printed are the AUC of each seed, and of the mean answer of all seeds with a 95 % interval from a
bootstrap over blocks of rows (`cohort.patients`). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from torch import Tensor

import medlab
from medlab import metrics
from medlab.augment import Augment
from medlab.cohort import Cohort
from medlab.models import SmallCNN

APART = 1240  # candidates: twice the mean of a scan
EPOCHS = 80
MOVES = Augment(brightness=0.5, contrast=0.3, gamma=0.3, noise=0.2, blur=0.7)


def eight_ways(images: Tensor) -> list[Tensor]:
    """Quarter turns of the images (N, C, S, S) and of their mirror images."""
    return [way.rot90(k, (2, 3)) for way in (images, images.flip(3)) for k in range(4)]


def turned(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Each image in one of its eight ways, then moved and changed as by default."""
    chosen = torch.randint(8, (len(images),), generator=generator, device=images.device)
    ways = torch.stack(eight_ways(images))
    return MOVES(ways[chosen, torch.arange(len(images), device=images.device)], generator=generator)


def parts(cohort: Cohort, *, choose: int | None) -> tuple[Cohort, Cohort]:
    """What is trained on, and the rows scored: the last 15 %, or a fifth of those before."""
    rows = cohort.extras["candidate_row"].numpy()
    edges = np.quantile(rows, [0, 0.17, 0.34, 0.51, 0.68, 0.85, 1]).round()
    low, high = edges[-2:] if choose is None else edges[choose : choose + 2]
    far = (rows < low - APART) | (rows > high + APART)
    return cohort[far & (rows < edges[-2] - APART)], cohort[(rows >= low) & (rows <= high)]


def plain(train: Cohort, test: Cohort, seed: int) -> Tensor:
    """The default: probability of a nodule, (N,)."""
    torch.manual_seed(seed)
    model = SmallCNN(1, 2)
    medlab.fit(model, train, seed=seed, progress=False)
    return medlab.predict(model, test)[:, 1]


def for_patches(train: Cohort, test: Cohort, seed: int) -> Tensor:
    """The mean probability of a nodule over the eight ways, (N,)."""
    torch.manual_seed(seed)
    model = SmallCNN(1, 2)
    medlab.fit(model, train, epochs=EPOCHS, augment=turned, seed=seed, progress=False)
    answers = [medlab.predict(model, way)[:, 1] for way in eight_ways(test.images)]
    return torch.stack(answers).mean(0)


RECIPES = (plain, for_patches)


def measure(recipe, train: Cohort, test: Cohort, seeds: int) -> dict:
    """AUC of each seed, of their mean answer with its interval, and seconds a seed."""
    answers, areas, start = [], [], time.perf_counter()
    for seed in range(seeds):
        answers.append(recipe(train, test, seed))
        areas.append(metrics.auc(test.labels, answers[-1]))
        print(f"{recipe.__name__}, seed {seed}: AUC {areas[-1]:.4f}", flush=True)
    seconds = (time.perf_counter() - start) / seeds
    mean = torch.stack(answers).mean(0)
    interval = metrics.bootstrap(metrics.auc, test.labels, mean, groups=test.patients)
    return {
        "auc": [round(area, 4) for area in areas],
        "mean": round(float(np.mean(areas)), 4),
        "spread": round(float(np.std(areas, ddof=1)), 4) if seeds > 1 else 0.0,
        "together": [round(v, 4) for v in (interval.value, interval.low, interval.high)],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="data folder; default: MEDLAB_DATA, else the user's cache")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", type=int, choices=range(5), help="score this fifth instead")
    names = [recipe.__name__ for recipe in RECIPES]
    parser.add_argument("--only", choices=names, help="one of the two recipes; default: both")
    options = parser.parse_args()
    cohort = medlab.load("lung_nodules", root=options.root)
    train, test = parts(cohort, choose=options.choose)
    result: dict = {
        "scored": "last 15 % of rows" if options.choose is None else "training rows",
        "patches": [len(train), len(test)],
        "nodules": [int(part.labels.sum()) for part in (train, test)],
        "blocks": [len(set(part.patients)) for part in (train, test)],
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))
    told = [options.only] if options.only else names
    for recipe in (one for one in RECIPES if one.__name__ in told):
        result[recipe.__name__] = measure(recipe, train, test, options.seeds)
    print(f"| AUC, {result['scored']} | mean ± s. d. | mean answer (95 % CI) | s a seed |")
    print("|---|---:|---:|---:|")
    for name in told:
        row = result[name]
        value, low, high = row["together"]
        text = f"{row['mean']:.3f} ± {row['spread']:.3f} | {value:.3f} ({low:.3f} to {high:.3f})"
        print(f"| {name.replace('_', ' ')} | {text} | {row['seconds']:.0f} |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
