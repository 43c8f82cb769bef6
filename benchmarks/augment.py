"""Batched augmentation against a torchvision DataLoader that does the same, image by image.

    python benchmarks/augment.py [--images 2000] [--markdown FILE]

Both sides make float batches of 128 from the same uint8 images, with the same random operations:
rotation, shift, zoom and shear in one bilinear resampling, then brightness and contrast. The
DataLoader works as most tutorials write it: PIL images, `torchvision.transforms`, with no and with
two workers (started before the clock). All figures are from one run, the fastest of three passes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from medlab.augment import Augment
from medlab.cohort import to_float

BATCH = 128


class PerImage(Dataset):
    """One PIL image at a time through torchvision's transforms."""

    def __init__(self, images: Tensor):
        self.images = images.numpy()
        self.change = transforms.Compose(
            [
                transforms.RandomAffine(
                    degrees=10,
                    translate=(0.05, 0.05),
                    scale=(0.9, 1.1),
                    shear=(-5, 5, -5, 5),
                    interpolation=transforms.InterpolationMode.BILINEAR,
                ),
                transforms.ColorJitter(brightness=0.2, contrast=0.2),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.change(Image.fromarray(self.images[i, 0]))


def batched(images: Tensor) -> Iterable[Tensor]:
    """The same operations, a batch at a time."""
    augment = Augment(rotate=10, translate=0.05, scale=0.1, shear=5, brightness=0.2, contrast=0.2)
    generator = torch.Generator().manual_seed(0)
    for index in torch.randperm(len(images), generator=generator).split(BATCH):
        yield augment(to_float(images[index]), generator=generator)


def seconds(passes: Callable[[], Iterable[Tensor]], *, repeats: int = 3) -> float:
    """Fastest of some passes over all images, counted from the first batch to the last.

    The first batch is not timed: it pays for starting workers and for caches.
    """
    times = []
    for _ in range(repeats):
        batches = iter(passes())
        next(batches)
        start = time.perf_counter()
        for _ in batches:
            pass
        times.append(time.perf_counter() - start)
    return min(times)


def measure(size: int, images: int) -> list[str]:
    data = torch.randint(0, 256, (images, 1, size, size), dtype=torch.uint8)
    dataset = PerImage(data)
    timed = images - BATCH
    ours = seconds(lambda: batched(data))
    rows = [f"| {size} px | medlab, batched | {timed / ours:,.0f} | 1 |"]
    for workers in (0, 2):
        loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)
        theirs = seconds(lambda loader=loader: loader)
        rows.append(
            f"| {size} px | DataLoader, {workers} workers | {timed / theirs:,.0f} "
            f"| {theirs / ours:.0f} times slower |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[28, 64, 128])
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = [
        f"Augmentation, {options.images} grey images, {torch.get_num_threads()} threads, CPU.",
        "",
        "| image | how | images a second | beside medlab |",
        "|---|---|---:|---|",
    ]
    for size in options.sizes:
        lines += measure(size, options.images)
    text = "\n".join(lines)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
