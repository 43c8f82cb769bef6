"""Segmentation of the hippocampus: one `medlab.fit` call, and MONAI's plain loop beside it.

    python benchmarks/hippocampus.py [--root TRAIN] [--test-root TEST] [--seed 0] [--rival]

TRAIN and TEST are folders with imagesTr and labelsTr, as the Medical Segmentation Decathlon gives
its fourth task; without TRAIN the set is looked for, or fetched, by its name. All of TRAIN is
trained on, a validation part of it included; the test is TEST, or where none is given one patient
in five of TRAIN, which then is left out of training. The last line printed is one JSON object:
Dice of the anterior and posterior hippocampus (mean over test volumes), volumes trained on and
tested, seconds from the first step to the last prediction.

With --rival the same volumes are given to MONAI's Dataset, DataLoader, UNet and DiceCELoss in the
same run, which trains until it reaches our Dice on the same test volumes or has taken four times
as long; the JSON then holds its Dice and seconds too. nnU-Net reports 0.90 and 0.89 in five-fold
cross-validation on all 260 training volumes (Isensee et al., doi:10.1038/s41592-020-01008-z).
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
from medlab.datasets import from_decathlon

CLASSES = ("background", "anterior", "posterior")
VISITS = 1200  # volumes seen in training, however many there are: fewer than five minutes' worth
MOVES = Augment(brightness=0.3, contrast=0.3, gamma=0.3, noise=0.1, blur=0.5, share=0.7)
CROP, JITTER = (32, 48, 32), 4  # voxels: what a step sees of a volume, and how far off its centre


def parts(root: str | None, test_root: str | None, seed: int) -> tuple[Cohort, Cohort]:
    """What is trained on, and what is tested."""
    cohort = from_decathlon(root, classes=CLASSES) if root else medlab.load("hippocampus")
    if test_root is not None:
        return cohort, from_decathlon(test_root, classes=CLASSES)
    order = np.random.default_rng(seed).permutation(len(cohort))
    cut = len(cohort) // 5
    return cohort[order[cut:]], cohort[order[:cut]]


def cropped(images: Tensor, masks: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The middle of each volume, moved a little, then turned, shifted and scaled as usual."""
    pieces = []
    for image, mask in zip(images, masks, strict=True):
        moves = torch.randint(
            -JITTER, JITTER + 1, (3,), generator=generator, device=generator.device
        ).tolist()
        starts = [
            min(max(0, (side - size) // 2 + move), side - size)
            for side, size, move in zip(mask.shape, CROP, moves, strict=True)
        ]
        window = tuple(slice(at, at + size) for at, size in zip(starts, CROP, strict=True))
        pieces.append((image[:, *window], mask[window]))
    parts = (torch.stack(part) for part in zip(*pieces, strict=True))
    return MOVES(*parts, generator=generator)


def ours(train: Cohort, test: Cohort, seed: int) -> tuple[Tensor, float]:
    """Dice of each structure in each test volume, (N, 2), and the seconds it took."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    model = medlab.models.UNet(1, len(CLASSES), width=16, depth=3, dims=3)
    medlab.fit(
        model,
        train,
        epochs=max(1, round(VISITS / len(train))),
        lr=1e-2,
        batch_size=2,
        augment=cropped,
        seed=seed,
        progress=False,
    )
    predicted = medlab.predict(model, test, batch_size=8).argmax(1)
    took = time.perf_counter() - start
    return metrics.dice(test.masks, predicted, num_classes=len(CLASSES)), took


def monais(
    train: Cohort, test: Cohort, seed: int, *, goal: Tensor, limit: float
) -> tuple[Tensor, float, bool]:
    """MONAI's loop, with the network and the settings of its tutorials but a tenfold learning rate.

    Scoring the test volumes after each epoch is not counted.

    Args:
        train, test: as for `ours`.
        seed: of weights, order and augmentation.
        goal: (2,) the Dice to reach.
        limit: seconds after which it is stopped.

    Returns:
        Mean Dice of both structures, training seconds, and whether the goal was reached.
    """
    from monai.data import DataLoader, Dataset
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet
    from monai.transforms import RandAffined
    from monai.utils import set_determinism

    set_determinism(seed)
    pairs = zip(train.images, train.masks[:, None].float(), strict=True)
    move = RandAffined(
        keys=("image", "label"),
        prob=0.7,
        rotate_range=[np.pi / 18] * 3,
        translate_range=[0.05 * side for side in train.images.shape[2:]],
        scale_range=[0.1] * 3,
        mode=("bilinear", "nearest"),
        padding_mode="border",
    )
    data = Dataset([{"image": image, "label": label} for image, label in pairs], transform=move)
    loader = DataLoader(data, batch_size=2, shuffle=True, num_workers=0)
    model = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=len(CLASSES),
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    )
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds = 0.0
    while True:
        start = time.perf_counter()
        model.train()
        for batch in loader:
            optimiser.zero_grad()
            value = loss(model(batch["image"].as_tensor()), batch["label"].as_tensor())
            value.backward()
            optimiser.step()
        seconds += time.perf_counter() - start
        predicted = medlab.predict(model, test, batch_size=8).argmax(1)
        reached = metrics.dice(test.masks, predicted, num_classes=len(CLASSES)).nanmean(0)
        print(f"MONAI after {seconds:.0f} s: {reached.tolist()}", flush=True)
        if bool((reached >= goal).all()) or seconds > limit:
            return reached, seconds, bool((reached >= goal).all())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder with imagesTr and labelsTr; default: by name")
    parser.add_argument("--test-root", help="another such folder, to test on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rival", action="store_true", help="also run MONAI's loop on the same data"
    )
    options = parser.parse_args()
    train, test = parts(options.root, options.test_root, options.seed)
    scores, took = ours(train, test, options.seed)
    dice = scores.nanmean(0)
    result = {
        "dice_anterior": round(dice[0].item(), 4),
        "dice_posterior": round(dice[1].item(), 4),
        "volumes_trained": len(train),
        "volumes_tested": len(test),
        "seconds": round(took, 1),
        "threads": torch.get_num_threads(),
        "seed": options.seed,
    }
    if options.rival:
        theirs, seconds, reached = monais(train, test, options.seed, goal=dice, limit=4 * took)
        result["monai"] = {
            "dice_anterior": round(theirs[0].item(), 4),
            "dice_posterior": round(theirs[1].item(), 4),
            "seconds": round(seconds, 1),
            "reached_our_dice": reached,
            "times_as_long": round(seconds / took, 2),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
