"""Bootstrap of the AUC: medlab against a loop over scikit-learn, on the same resamples.

    python benchmarks/bootstrap.py [--images 624] [--resamples 10000]

Both sides see the same draws; the loop is timed on as many resamples as --loop says and its time
scaled up, since all of them cost the same. The largest difference of the AUCs is printed, too.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from medlab import metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 624, 5000])
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument(
        "--loop", type=int, default=1000, help="resamples that the loop is timed on"
    )
    options = parser.parse_args()
    print(f"{'images':>7} {'medlab s':>9} {'loop s':>9} {'ratio':>7} {'max difference':>15}")
    for images in options.images:
        rng = np.random.default_rng(1)
        labels = (rng.random(images) < 0.6).astype(int)
        scores = np.round(rng.normal(size=images) + 1.5 * labels, 2)  # rounded: some are tied
        fast = min(_timed(labels, scores, options.resamples) for _ in range(3))
        loop, difference = _loop(labels, scores, options.loop, options.resamples)
        print(f"{images:7} {fast:9.3f} {loop:9.2f} {loop / fast:7.0f} {difference:15.1e}")


def _timed(labels, scores, n: int) -> float:
    start = time.perf_counter()
    metrics.bootstrap(metrics.auc, labels, scores, n=n)
    return time.perf_counter() - start


def _loop(labels, scores, some: int, n: int) -> tuple[float, float]:
    rows = np.concatenate(list(metrics.resamples(labels, n=n)))[:some]
    ours = metrics.resampled_values(metrics.auc, labels, scores, rows)
    chosen = [np.repeat(np.arange(len(row)), row) for row in rows]
    start = time.perf_counter()
    theirs = [roc_auc_score(labels[pick], scores[pick]) for pick in chosen]
    return (time.perf_counter() - start) * n / some, float(np.abs(ours - theirs).max())


if __name__ == "__main__":
    main()
