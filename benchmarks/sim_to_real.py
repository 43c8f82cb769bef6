"""Realism measured by transfer: train on simulated patients only, test on real ones.

    python benchmarks/sim_to_real.py [TASK …] [--root DATA] [--seeds 3] [--images 4000]
                                     [--networks 1] [--quick]

Tasks: "children" (chest radiographs → PneumoniaMNIST test), "adults" (chest radiographs → a subset
of NIH ChestX-ray14, labels mined from reports), "nodules" (CT patches → candidates of LUNA16).
No real image is used in training or in choosing anything, except where a row says how many: with
--few, 20, 50 and 100 images of the real set's training part are learnt from, going on from the
simulated weights or from scratch. Another seed gives other simulated patients, another start, and
other real images to go on with. With --networks several networks, each with patients and a start
of its own, answer together by their mean. The interval is a bootstrap over patients (over images
where a set does not know its patients). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from skimage.feature import peak_local_max
from skimage.filters import gaussian
from torch import Tensor

import medlab
from medlab import metrics
from medlab.augment import Augment
from medlab.cohort import Cohort
from medlab.datasets import from_arrays
from medlab.models import SmallCNN

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.recipe import over_shifts

STRONG = Augment(
    rotate=12,
    translate=0.1,
    scale=0.25,
    shear=5,
    brightness=0.5,
    contrast=0.5,
    gamma=1.0,
    noise=0.25,
    blur=1.0,
    share=0.9,
)
FEW = (20, 50, 100)
# Devices on adults' films: (share of films, share of those mirrored, strokes), each stroke as
# (radius in mm, opacity, wander, control points of a Bézier curve), points and wander in sides of
# the picture: x to the patient's left, y downwards. They lie where they usually do, ill or not.
DEVICES = (
    # tracheal tube; gastric tube
    (0.25, 0.5, ((3.0, 0.35, 0.04, ((0.5, 0.0), (0.5, 0.15), (0.49, 0.3))),)),
    (0.25, 0.1, ((2.5, 0.4, 0.05, ((0.5, 0.0), (0.52, 0.5), (0.56, 0.85), (0.7, 0.95))),)),
    # venous lines from the neck, below the clavicle, from the arm
    (0.25, 0.3, ((1.5, 0.5, 0.05, ((0.4, 0.03), (0.42, 0.2), (0.45, 0.42))),)),
    (0.15, 0.3, ((1.5, 0.5, 0.06, ((0.8, 0.22), (0.55, 0.1), (0.45, 0.42))),)),
    (0.2, 0.5, ((1.2, 0.5, 0.06, ((0.0, 0.35), (0.2, 0.15), (0.42, 0.15), (0.45, 0.42))),)),
    # port with its line; pacemaker with its lead
    (
        0.1,
        0.3,
        (
            (11.0, 0.8, 0.06, ((0.28, 0.32),)),
            (1.2, 0.5, 0.05, ((0.28, 0.32), (0.35, 0.1), (0.45, 0.42))),
        ),
    ),
    (
        0.12,
        0.2,
        (
            (22.0, 0.9, 0.05, ((0.75, 0.27),)),
            (1.5, 0.8, 0.04, ((0.75, 0.27), (0.45, 0.1), (0.4, 0.6), (0.6, 0.7))),
        ),
    ),
    # drain of the pleura; a hose on top of the chest
    (0.1, 0.5, ((4.0, 0.4, 0.08, ((0.03, 0.75), (0.2, 0.7), (0.3, 0.3))),)),
    (0.25, 0.5, ((5.0, 0.3, 0.25, ((0.2, 0.1), (0.4, 0.5), (0.7, 0.9))),)),
    # electrodes, each with its cable
    (
        0.5,
        0.5,
        tuple(
            stroke
            for first, last in (
                ((0.25, 0.22), (0.4, 1.0)),
                ((0.75, 0.22), (0.6, 1.0)),
                ((0.8, 0.7), (0.5, 1.0)),
            )
            for stroke in (
                (6.0, 0.7, 0.06, (first,)),
                (1.2, 0.5, 0.08, (first, (first[0], 0.6), last)),
            )
        ),
    ),
    # wires of the breast bone; clips and buttons; letters in a corner
    (0.1, 0.5, tuple((2.5, 0.9, 0.015, ((0.49, 0.3 + 0.09 * k),)) for k in range(5))),
    (0.25, 0.5, ((2.5, 0.8, 0.3, ((0.5, 0.5),)),) * 4),
    (0.5, 0.5, tuple((3.0, 0.9, 0.02, ((0.05 + 0.03 * k, 0.06),)) for k in range(4))),
)


class Variant(NamedTuple):
    """A way to simulate and to disturb: options of the cohort, `augment` of `fit`.

    With `devices` the simulated images get tubes, lines and electrodes; with `own_levels` every
    image, also a real one, is brought to mean 0 and spread 1 of its middle.
    """

    name: str
    options: dict[str, Any]
    augment: str | Augment
    devices: bool = False
    own_levels: bool = False


class Task(NamedTuple):
    """What simulates, the real set it is to stand for, the edge of the images learnt from."""

    simulated: Callable[..., Cohort]
    real: Callable[[str | None], tuple[Cohort, Cohort]]
    size: int
    variants: tuple[Variant, ...]


def children(root: str | None) -> tuple[Cohort, Cohort]:
    """PneumoniaMNIST's training and test parts: children of one to five years, 28 pixels."""
    train, _, test = medlab.load("pneumoniamnist", root=root, verify=False).split()
    return train, test


def adults(root: str | None) -> tuple[Cohort, Cohort]:
    """NIH subset: a quarter of the patients to go on with, the others to test, by patient."""
    cohort = medlab.load("chest_xray_nih", root=root)
    train, _, test = cohort.split(fractions=(0.2, 0.05, 0.75))
    return train, test


def nodules(root: str | None) -> tuple[Cohort, Cohort]:
    """Candidate patches of LUNA16: training and test blocks of scans."""
    train, _, test = medlab.load("lung_nodules", root=root).split()
    return train, test


def patches(n: int, seed: int, root: str | None) -> Cohort:
    """About n windows of 31 mm from slices of simulated CT, −1000 … 400 HU; they are not kept.

    From each slice its nodules, and two other bright spots at the edge of lung or within.
    """
    made = medlab.simulate.COHORTS["lung_ct"].make(n=max(2, n // 3), seed=seed, size=512)
    rng, half, rows = np.random.default_rng(seed), 25, []
    for image, boxes, patient in zip(made.images[:, 0], made.boxes, made.patients, strict=True):
        hu = np.pad(image.numpy(), half, constant_values=-1000)
        places = [(round((y0 + y1) / 2), round((x0 + x1) / 2)) for x0, y0, x1, y1 in boxes.tolist()]
        nodules = [place + rng.integers(-4, 5, 2) + half for place in np.array(places, int)]
        spots = peak_local_max(gaussian(hu.astype(np.float32), 1.5), threshold_abs=-700)
        free = gaussian(((hu < -700) & (hu > -970)).astype(np.float32), 8)[tuple(spots.T)] > 0.3
        spots = [spot for spot in rng.permutation(spots[free]) if half <= spot.min()]
        apart = [all(np.hypot(*(spot - one)) > half for one in nodules) for spot in spots]
        others = [spot for spot, far in zip(spots, apart, strict=True) if far][:2]
        for label, found in ((1, nodules), (0, others)):
            windows = [hu[r - half : r + half, c - half : c + half] for r, c in found]
            rows += [(w, label, patient) for w in windows if w.shape == (2 * half, 2 * half)]
    images, labels, patients = (np.array(column) for column in zip(*rows, strict=True))
    grey = ((images + 1000.0) / 1400 * 255).round().clip(0, 255).astype(np.uint8)
    return from_arrays(grey, labels=labels, patient=patients, classes=("other", "nodule"))


chest_xray = partial(medlab.load, "chest_xray")
# Radiographs are simulated at their usual 64 pixels and brought to the size of the real ones.
USUAL = Variant("three hospitals", {}, "auto")
DISTURBED = Variant("three hospitals, strong augmentation", {}, STRONG)
WIDE = Variant("wide variety, strong augmentation", {"variety": "wide"}, STRONG)
EQUIPPED = WIDE._replace(name="wide variety, strong augmentation, devices", devices=True)
LEVELLED = EQUIPPED._replace(name=f"{EQUIPPED.name}, own grey levels", own_levels=True)
TASKS = {
    "children": Task(chest_xray, children, 28, (USUAL, DISTURBED, WIDE)),
    "adults": Task(chest_xray, adults, 48, (USUAL, DISTURBED, EQUIPPED, LEVELLED, WIDE)),
    "nodules": Task(
        patches,
        nodules,
        50,
        (Variant("as simulated", {}, "auto"), Variant("strong augmentation", {}, STRONG)),
    ),
}


def resized(cohort: Cohort, size: int) -> Cohort:
    """The images brought to size × size pixels without aliasing; labels and patients."""
    if cohort.images.shape[-2:] == (size, size):
        images = cohort.images
    else:
        # In parts: float images of a whole cohort would take four times its memory.
        parts = [
            F.interpolate(part.float(), (size, size), mode="bicubic", antialias=True)
            for part in cohort.images.split(512)
        ]
        images = torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])
    return Cohort(images=images, labels=cohort.labels, patients=cohort.patients, card=cohort.card)


def equipped(cohort: Cohort, seed: int) -> Cohort:
    """The same uint8 images (N, 1, H, W) with devices drawn on them, ill or not."""
    rng, side = np.random.default_rng(seed), cohort.images.shape[-1]
    fine, mm = 2 * side, 344.0  # as much of a chest as a simulated picture usually shows

    def drawn(image: np.ndarray) -> np.ndarray:
        for share, mirrored, strokes in DEVICES:
            if rng.random() > share:
                continue
            flip, size, strength = rng.random() < mirrored, *rng.uniform(0.7, 1.3, 2)
            for radius, opacity, wander, points in strokes:
                curve = np.array(points) + rng.uniform(-wander, wander, (len(points), 2))
                along = np.linspace(0, 1, 2 * fine)[:, None, None]
                curve = np.broadcast_to(curve, (len(along), *curve.shape))
                while curve.shape[1] > 1:  # de Casteljau
                    curve = curve[:, :-1] * (1 - along) + curve[:, 1:] * along
                x, y = np.clip((curve[:, 0] * fine).astype(int), 0, fine - 1).T
                free = np.ones((fine, fine), bool)
                free[y, fine - 1 - x if flip else x] = False
                # In pixels of the fine grid: what is thinner than one covers only a part of it.
                reach = radius * size * fine / mm
                cover = np.clip(reach + 0.5 - distance_transform_edt(free), 0, min(1, 2 * reach))
                cover = cover.reshape(side, 2, side, 2).mean((1, 3)) * min(1, opacity * strength)
                image = image + (255 - image) * cover
        return image

    pictures = [drawn(one) for one in cohort.images[:, 0].numpy().astype(np.float32)]
    images = torch.from_numpy(np.stack(pictures)).round().to(torch.uint8)[:, None]
    return Cohort(images=images, labels=cohort.labels, patients=cohort.patients, card=cohort.card)


def levelled(cohort: Cohort) -> Cohort:
    """Each image with mean 0 and spread 1 in its middle, where no collimator reaches."""
    images, cut = cohort.images.float(), cohort.images.shape[-1] // 8
    middle = images[..., cut:-cut, cut:-cut].flatten(1)
    mean, spread = (v.view(-1, 1, 1, 1) for v in (middle.mean(1), middle.std(1).clamp_min(1)))
    images = (images - mean) / spread
    return Cohort(images=images, labels=cohort.labels, patients=cohort.patients, card=cohort.card)


def seen(cohort: Cohort, task: Task, variant: Variant) -> Cohort:
    """A cohort, simulated or real, as the networks of a variant see it."""
    cohort = resized(cohort, task.size)
    return levelled(cohort) if variant.own_levels else cohort


def trained(task: Task, variant: Variant, options: argparse.Namespace, seed: int) -> SmallCNN:
    """A network that has seen simulated images only."""
    made = task.simulated(n=options.images, seed=seed, root=options.cache, **variant.options)
    if variant.devices:
        made = equipped(made, seed)
    torch.manual_seed(seed)
    model = SmallCNN(1, 2)
    medlab.fit(
        model,
        seen(made, task, variant),
        augment=variant.augment,
        epochs=options.epochs,
        seed=seed,
        progress=False,
    )
    return model


def few_of(pool: Cohort, count: int, seed: int) -> Cohort:
    """`count` real images, as many of either class."""
    rng = np.random.default_rng(seed)
    rows = [
        rng.choice(np.flatnonzero(pool.labels.numpy() == label), count // 2, replace=False)
        for label in (0, 1)
    ]
    return pool[np.concatenate(rows)]


def starts(seed: int, networks: int) -> list[int]:
    """A seed for each of the networks that answer together; the first is `seed` itself."""
    return [seed + 1000 * k for k in range(networks)]


def together(models: list[SmallCNN], shown: Cohort) -> Tensor:
    """Mean probabilities (N, 2) of several networks."""
    return torch.stack([over_shifts(model, shown) for model in models]).mean(0)


def measure(name: str, options: argparse.Namespace) -> list[dict]:
    """All rows of one task, printed as they come."""
    task = TASKS[name]
    pool, test = task.real(options.root)
    rows: list[dict] = []

    def score(models: list[SmallCNN], variant: Variant, taught: str, real: int, seed: int) -> None:
        answers = together(models, seen(test, task, variant))
        found = metrics.bootstrap(metrics.auc, test.labels, answers, groups=test.patients)
        rows.append(
            {
                "task": name,
                "variant": taught,
                "networks": len(models),
                "real": real,
                "seed": seed,
                "auc": round(found.value, 4),
                "low": round(found.low, 4),
                "high": round(found.high, 4),
            }
        )
        print(f"{name}, {taught}, {real} real images, seed {seed}: {found}", flush=True)

    chosen = [v for v in task.variants if not options.only or options.only in v.name]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        each = starts(seed, options.networks)
        for variant in chosen:
            start = time.perf_counter()
            models = [trained(task, variant, options, one) for one in each]
            print(f"({time.perf_counter() - start:.0f} s)", end=" ")
            score(models, variant, variant.name, 0, seed)
        for count in FEW if options.few else ():
            few = seen(few_of(pool, count, seed), task, variant)
            scratch, further = [], deepcopy(models)
            for one, again in zip(each, further, strict=True):
                torch.manual_seed(one)
                scratch.append(SmallCNN(1, 2))
                how = {"epochs": options.epochs, "seed": one, "progress": False}
                medlab.fit(scratch[-1], few, **how)
                # A tenth of the usual rate: what the simulated patients taught is not to be lost.
                medlab.fit(again, few, lr=3e-4, **how)
            score(scratch, variant, "from scratch", count, seed)
            score(further, variant, "from simulated weights", count, seed)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=["children", "adults", "nodules"])
    parser.add_argument("--root", help="folder of the real sets; default: MEDLAB_DATA")
    parser.add_argument("--cache", help="folder for simulated cohorts; default: the user's cache")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=4000, help="simulated, to learn from")
    parser.add_argument("--networks", type=int, default=1, help="that answer together by a mean")
    parser.add_argument("--epochs", type=int, help="default: what `fit` takes")
    parser.add_argument("--only", help="variants whose name holds this")
    parser.add_argument("--few", action="store_true", help="go on with 20, 50 and 100 real images")
    parser.add_argument("--quick", action="store_true", help="one seed, 200 images, two epochs")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.images, options.epochs = 1, 200, 2
    rows = [row for name in options.tasks for row in measure(name, options)]
    print("\n| task | learnt from | real images | AUC, mean | seeds |\n|---|---|---:|---:|---|")
    for key, group in pd.DataFrame(rows).groupby(["task", "variant", "real"], sort=False):
        each = ", ".join(f"{r.auc:.3f} ({r.low:.3f}–{r.high:.3f})" for r in group.itertuples())
        print(f"| {key[0]} | {key[1]} | {key[2]} | {fmean(group['auc']):.3f} | {each} |")
    print(json.dumps({"images": options.images, "networks": options.networks, "rows": rows}))


if __name__ == "__main__":
    main()
