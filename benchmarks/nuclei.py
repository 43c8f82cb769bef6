"""Nuclei one by one: U-Net and watershed by one call of `medlab.fit`, scored as the Bowl does.

    python benchmarks/nuclei.py [--root DATA] [--seeds 3] [--choose] [--divide fields]

A U-Net says of every pixel whether it is background, the rim of a nucleus, its core (the pixels
whose depth is more than half the nucleus's own greatest depth), or contact: 2.5 pixels or less from
two nuclei. So even nuclei that touch have cores apart. Connected cores are the seeds of a watershed
over all that is not background.

A found nucleus hits a true one if their masks have an intersection over union above 0.5, which can
be so for one pair only. AP = TP / (TP + FP + FN), as the 2018 Data Science Bowl and StarDist define
it at one threshold; printed are its mean over images and that of all nuclei pooled, with a 95 %
interval from a bootstrap over fields of view.

The test is a fifth of the images, always the same: whole fields of view, of which images are often
quarters (`cohort.patients`). With --choose the rest is scored, in four folds of whole fields, which
is how a recipe should be chosen: a single part of 50 images misled.

`--divide images` divides one by one instead, so that quarters of a field may stand on both sides,
and tells whether that flatters: the Bowl does not record fields, and who takes its images as they
come divides them so. StarDist reports 0.864 (Schmidt et al. 2018, arXiv:1806.03535) on 50 test
images of a split of its own, of the fluorescence images of the same Bowl, of several sizes: other
images, so the figures stand side by side and neither beats the other. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from skimage.segmentation import watershed
from sklearn.model_selection import GroupKFold
from torch import Tensor

import medlab
from medlab import metrics
from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard

PIXELS = DataCard(
    name="nuclei_pixels",
    title="Rim, core and contact of nuclei",
    task="segmentation",
    classes=("background", "rim", "core", "contact"),
)
VISITS = 5400  # crops seen in training
BATCH = 4  # crops a step
CROP = 128  # pixels
WIDTH, DEPTH = 12, 4
CLOSE = 2.5  # pixels: within this distance of two nuclei is contact
CORE, OUTSIDE = 0.6, 0.4  # probabilities above which a pixel starts a nucleus, or is background
SMALLEST = 8  # pixels: what is smaller is no nucleus
FOLDS = 4  # with --choose
MOVES = Augment(
    rotate=180,
    translate=0,
    scale=0.25,
    flip="horizontal",
    brightness=0.3,
    contrast=0.3,
    gamma=0.3,
    noise=0.1,
    blur=0.5,
    padding="reflection",
)


def parts(instances: np.ndarray) -> np.ndarray:
    """0 background, 1 rim, 2 core, 3 contact, uint8, of instances numbered from 1, both (H, W)."""
    border = math.ceil(CLOSE)
    padded = np.pad(instances, border)
    classes, near = np.zeros((2, *padded.shape), np.uint8)
    for k, box in enumerate(ndimage.find_objects(padded), start=1):
        where = tuple(slice(side.start - border, side.stop + border) for side in box)
        own = padded[where] == k
        depth = ndimage.distance_transform_edt(own)
        classes[where][own] = 1
        classes[where][depth > depth.max() / 2] = 2
        near[where] += ndimage.distance_transform_edt(~own) <= CLOSE
    classes[near > 1] = 3
    return classes[border:-border, border:-border]


def pixels(cohort: Cohort) -> Cohort:
    """The same images, each from its own 1st to its 99.8th percentile, with their parts."""
    grey = cohort.images.float()
    low, high = (grey.flatten(1).quantile(q, dim=1)[:, None, None, None] for q in (0.01, 0.998))
    return Cohort(
        images=(grey - low) / (high - low).clamp_min(1),
        masks=np.stack([parts(one) for one in cohort.extras["instances"].numpy()]),
        patients=cohort.patients,
        card=PIXELS,
    )


def cropped(images: Tensor, masks: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A piece of each image from anywhere, turned, mirrored and changed."""
    room = images.shape[-1] - CROP + 1
    tops = torch.randint(room, (len(images), 2), generator=generator, device=images.device)
    where = [(..., slice(y, y + CROP), slice(x, x + CROP)) for y, x in tops.tolist()]
    pieces = [
        torch.stack([one[w] for one, w in zip(part, where, strict=True)])
        for part in (images, masks)
    ]
    return MOVES(*pieces, generator=generator)


def nuclei(probability: np.ndarray) -> np.ndarray:
    """Instances numbered from 1 (H, W), of the probabilities of the four classes."""
    background, _, core, _ = probability
    seeds, _ = ndimage.label(core > CORE)
    found = watershed(-core, seeds, mask=(background < OUTSIDE) | (seeds > 0))
    found[np.bincount(found.ravel())[found] < SMALLEST] = 0
    return found


def hits(truth: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """Nuclei that are found (IoU of masks above 0.5), false alarms, and nuclei that are missed."""
    sizes = [np.bincount(one.ravel()) for one in (truth, found)]
    both = np.zeros([len(one) for one in sizes], int)
    np.add.at(both, (truth.ravel(), found.ravel()), 1)
    either = sizes[0][1:, None] + sizes[1][None, 1:] - both[1:, 1:]
    hit = int((both[1:, 1:] > 0.5 * either).sum())
    true, said = (int((one[1:] > 0).sum()) for one in sizes)
    return hit, said - hit, true - hit


def predict(model: torch.nn.Module, images: Tensor) -> np.ndarray:
    """Mean probabilities (N, 4, H, W) over the eight ways to turn and mirror a square image."""
    total = 0
    for axes in ((), (2,), (3,), (2, 3)):
        for turned in (False, True):
            shown = images.flip(axes)
            found = medlab.predict(model, shown.mT.contiguous() if turned else shown, batch_size=8)
            total = total + (found.mT if turned else found).flip(axes)
    return (total / 8).numpy()


def one_seed(train: Cohort, test: Cohort, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Hits, false alarms and misses of each test image, (N, 3), and the seconds it took.

    Those of the processor are the sum over its cores; they hardly depend on what else runs.
    """
    start = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    model = medlab.models.UNet(1, len(PIXELS.classes), width=WIDTH, depth=DEPTH)
    data, tested = pixels(train), pixels(test).images
    epochs = max(1, round(VISITS / len(data)))
    medlab.fit(
        model, data, epochs=epochs, batch_size=BATCH, augment=cropped, seed=seed, progress=False
    )
    found = map(nuclei, predict(model, tested))
    pairs = zip(test.extras["instances"].numpy(), found, strict=True)
    counts = np.array([hits(*pair) for pair in pairs])
    took = time.perf_counter() - start[0], time.process_time() - start[1]
    return counts, {"seconds": round(took[0], 1), "processor_seconds": round(took[1], 1)}


def scores(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AP as a mean over images, and pooled, of (N, 3) counts, with weights (R, N): (R, 2)."""
    pooled = weights @ counts
    each = counts[:, 0] / counts.sum(1)
    mean = (weights @ each) / weights.sum(1)
    return np.stack([mean, pooled[:, 0] / pooled.sum(1)], axis=1)


def divided(cohort: Cohort, by: str, choose: bool) -> list[tuple[Cohort, Cohort]]:
    """Parts to learn from and to test on: one pair, or a pair for each fold of what is not test."""
    if by == "images":
        cohort = replace(cohort, patients=np.arange(len(cohort)).astype(str))
    *_, test = cohort.split(fractions=(0.65, 0.15, 0.2))
    rest = cohort[~np.isin(cohort.patients, test.patients)]
    if not choose:
        return [(rest, test)]
    folds = GroupKFold(FOLDS).split(rest.patients, groups=rest.patients)
    return [(rest[learn], rest[scored]) for learn, scored in folds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="data folder; default: MEDLAB_DATA, else the user's cache")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="score folds of the rest instead")
    parser.add_argument(
        "--divide",
        choices=("fields", "images"),
        default="fields",
        help="what stays together (default: %(default)s)",
    )
    options = parser.parse_args()
    cohort = medlab.load("nuclei", root=options.root)
    parts = divided(cohort, options.divide, options.choose)
    scored = np.concatenate([test.patients for _, test in parts])
    what = f"{FOLDS} folds of the rest" if options.choose else "test part"
    result: dict = {
        "scored": f"{what}, divided by {options.divide}",
        "images": [[len(part) for part in pair] for pair in parts],
        "nuclei": sum(len(boxes) for _, test in parts for boxes in test.boxes),
        "threads": torch.get_num_threads(),
        "seeds": [],
    }
    print(json.dumps(result))
    for seed in range(options.seeds):
        each, seconds = zip(*(one_seed(*pair, seed) for pair in parts), strict=True)
        counts = np.concatenate(each)
        value = scores(counts, np.ones((1, len(scored))))[0]
        draws = metrics.resamples(np.zeros(len(scored)), groups=scored)
        many = np.concatenate([scores(counts, block) for block in draws])
        low, high = np.percentile(many, (2.5, 97.5), axis=0)
        row = {"ap": value, "low": low, "high": high}
        row = {key: [round(float(v), 4) for v in pair] for key, pair in row.items()}
        row |= {"tp_fp_fn": counts.sum(0).tolist(), "took": seconds}
        result["seeds"].append(row)
        print(f"seed {seed}: {json.dumps(row)}", flush=True)
    ap = np.array([row["ap"] for row in result["seeds"]])
    spread = ap.std(0, ddof=1) if len(ap) > 1 else np.zeros(2)
    print("| AP at IoU 0.5 | mean over images | pooled |\n|---|---:|---:|")
    told = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(ap.mean(0), spread, strict=True))
    print(f"| medlab, {len(scored)} images, {result['scored']} | {told} |")
    print("| StarDist, 50 images of its own split (published) | 0.864 | |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
