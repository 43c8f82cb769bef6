"""How hard the simulated chest X-rays are: logistic regression on pixels beside the small CNN.

    python benchmarks/chest_xray.py [--seeds 3] [--epochs 8] [--width 16]

Another seed gives other patients, another split and another start. The strength of the logistic
regression's penalty is chosen on the validation patients; nothing is chosen on the test patients.
All scores are simulated scores.
"""

from __future__ import annotations

import argparse
import time

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medlab
from medlab import metrics
from medlab.cohort import Cohort, to_float

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)


def linear_auc(train: Cohort, val: Cohort, test: Cohort) -> float:
    """Test AUC of logistic regression on standardised pixels."""

    def pixels(part: Cohort):
        return to_float(part.images).flatten(1).numpy()

    tried = []
    for c in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300))
        model.fit(pixels(train), train.labels)
        chosen_by = metrics.auc(val.labels, model.predict_proba(pixels(val))[:, 1])
        tried.append((chosen_by, metrics.auc(test.labels, model.predict_proba(pixels(test))[:, 1])))
    return max(tried)[1]


def main() -> None:
    """Print one row a seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    print("seed  made (s)  linear AUC  CNN AUC  CNN accuracy  training (s)")
    for seed in range(options.seeds):
        start = time.perf_counter()
        cohort = medlab.simulate.chest_xray(n=2000, seed=seed)
        made = time.perf_counter() - start
        train, val, test = cohort.split(seed=seed)
        torch.manual_seed(seed)
        model = medlab.models.SmallCNN(in_channels=1, num_classes=2, width=options.width)
        history = medlab.fit(model, train, epochs=options.epochs, seed=seed, progress=False)
        scores = medlab.predict(model, test)
        print(
            f"{seed:4}  {made:8.1f}  {linear_auc(train, val, test):10.3f}  "
            f"{metrics.auc(test.labels, scores):7.3f}  "
            f"{metrics.accuracy(test.labels, scores):12.3f}  {history.seconds:12.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
