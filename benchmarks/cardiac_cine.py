"""End-systole in cine MRI of the heart: a CNN whose frames a GRU reads, beside rules.

    python benchmarks/cardiac_cine.py [--root DATA] [--seeds 3]

Each patient is held out in turn. A cine begins with the beat, so that in this set "frame 6" is
never wrong by more than one; therefore cines are also scored, and the network is trained, with
frames rolled by a random start. It must then find the moment. Training shows every cine from each
of its starts in another order; the test shows every cine from STARTS random ones, the same to all.

Rivals, scored on the same rolled cines: always the frame that is commonest in training, on cines
as recorded and on rolled ones; and on rolled ones two rules that learn nothing, and take the frame
- that is least correlated with end-diastole in a central window (they are told which frame is
  end-diastole: a help that the network does not get),
- or in which the fewest pixels of a central window are bright, as blood is.

Errors are the short way round the cycle: frames, and ms by the cine's own interval of frames. With
three patients there is no interval over patients: each patient's mean is printed. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

import medlab
from medlab.cohort import Cohort
from medlab.models import CNNGRU
from medlab.training import Sequence

SIDE = 32  # pixels of the picture that the network gets
STARTS = 10  # of each cine in the test
EPOCHS, WIDTH, LR, BATCH = 12, 8, 5e-3, 16
WINDOW = 48  # pixels, side of the central window of the rules


def rolled(cines: Tensor, moments: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Cines (N, C, T, H, W) that begin with their frame `starts` (N,), and where the moment is."""
    frames = cines.shape[2]
    order = (torch.arange(frames) + starts[:, None]) % frames
    moved = cines.transpose(1, 2)[torch.arange(len(cines))[:, None], order].transpose(1, 2)
    return moved, (moments - starts) % frames


def off(called: Tensor, moments: Tensor, frames: int) -> Tensor:
    """Distance in frames, the short way round a cycle of so many."""
    gap = (called - moments) % frames
    return torch.minimum(gap, frames - gap).float()


def window(cines: Tensor) -> Tensor:
    """The middle of each frame, (N, T, pixels)."""
    first = (cines.shape[-1] - WINDOW) // 2
    middle = slice(first, first + WINDOW)
    return cines[:, 0, :, middle, middle].flatten(2)


def least_like(cines: Tensor, diastole: Tensor) -> Tensor:
    """The frame (N,) that is least correlated with the frame `diastole` (N,)."""
    pixels = window(cines)
    pixels = pixels - pixels.mean(2, keepdim=True)
    pixels = pixels / pixels.norm(dim=2, keepdim=True)
    full = pixels[torch.arange(len(pixels)), diastole]
    return (pixels @ full[:, :, None])[..., 0].argmin(1)


def smallest_pool(cines: Tensor) -> Tensor:
    """The frame (N,) with the fewest bright pixels: above the mean of the window's extremes."""
    pixels = window(cines)
    low, high = (pixels.flatten(1).quantile(q, dim=1) for q in (0.02, 0.98))
    return (pixels > ((low + high) / 2)[:, None, None]).sum(2).argmin(1)


def shrunk(cines: Tensor) -> Tensor:
    """Each cine (1, T, H, W) with mean 0 and spread 1, in SIDE × SIDE pixels."""
    small = avg_pool2d(cines[:, 0], cines.shape[-1] // SIDE)[:, None]
    flat = small.flatten(1)
    mean, spread = (v.view(-1, 1, 1, 1, 1) for v in (flat.mean(1), flat.std(1)))
    return (small - mean) / spread


def network(train: Cohort, cines: Tensor, seed: int) -> Tensor:
    """The frame (N,) that a network calls which has learnt from the cohort `train`."""
    frames = train.images.shape[2]
    shown = [
        rolled(shrunk(train.images), train.labels, torch.full((len(train),), start))
        for start in range(frames)
    ]
    images, labels = (torch.cat(parts) for parts in zip(*shown, strict=True))
    torch.manual_seed(seed)
    model = CNNGRU(1, width=WIDTH, per_step=True)
    options: dict = {"lr": LR, "batch_size": BATCH, "augment": None, "seed": seed}
    medlab.fit(model, (images, labels), task=Sequence(), epochs=EPOCHS, progress=False, **options)
    return medlab.predict(model, shrunk(cines)).argmax(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="data folder; default: MEDLAB_DATA, else the user's cache")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cohort, start = medlab.load("cardiac_cine", root=options.root), time.process_time()
    frames = cohort.images.shape[2]
    interval = (cohort.extras["trigger_ms"][:, 1:] - cohort.extras["trigger_ms"][:, :-1]).mean(1)
    table: dict[str, list[float]] = {}
    in_ms: dict[str, list[float]] = {}

    def score(name: str, called: Tensor, moments: Tensor, ms: Tensor) -> None:
        gap = off(called, moments, frames)
        table.setdefault(name, []).append(gap.mean().item())
        in_ms.setdefault(name, []).append((gap * ms).mean().item())

    names = sorted(set(cohort.patients))
    for name in names:
        out = cohort.patients == name
        train, test = cohort[~out], cohort[out]
        here = interval[torch.from_numpy(out)]
        common = train.labels.mode().values.expand(len(test))
        score("always the commonest frame, as recorded", common, test.labels, here)
        rng = torch.Generator().manual_seed(0)
        starts = torch.randint(frames, (len(test) * STARTS,), generator=rng)
        again = test.images.repeat(STARTS, 1, 1, 1, 1), test.labels.repeat(STARTS)
        cines, moments = rolled(*again, starts)
        ms = here.repeat(STARTS)
        diastole = (test.extras["end_diastole"].repeat(STARTS) - starts) % frames
        score("always the commonest frame", common.repeat(STARTS), moments, ms)
        score("least like end-diastole (told)", least_like(cines, diastole), moments, ms)
        score("fewest bright pixels", smallest_pool(cines), moments, ms)
        for seed in range(options.seeds):
            score(f"CNN and GRU, seed {seed}", network(train, cines, seed), moments, ms)
        print(f"{name}: {len(test)} slices", flush=True)
    print(f"| off, frames (ms) | {' | '.join(names)} | mean |")
    print("|---|" + "---:|" * (len(names) + 1))
    for name, each in table.items():
        pairs = [*zip(each, in_ms[name], strict=True), (np.mean(each), np.mean(in_ms[name]))]
        print(f"| {name} | " + " | ".join(f"{f:.2f} ({ms:.0f})" for f, ms in pairs) + " |")
    rows = {k: [round(v, 3) for v in each] for k, each in table.items()}
    seconds = round(time.process_time() - start, 1)
    print(json.dumps({"patients": names, "off": rows, "processor_seconds": seconds}))


if __name__ == "__main__":
    main()
