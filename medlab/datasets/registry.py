"""What sets there are: one card each, real and simulated, and what others have scored on them."""

from __future__ import annotations

import pandas as pd

from medlab.cohort import DataCard
from medlab.datasets import medmnist
from medlab.datasets.decathlon import HIPPOCAMPUS
from medlab.datasets.medmnist import SETS, Published
from medlab.errors import DataError


def simulated() -> dict:
    """The registry of simulated cohorts, by name."""
    from medlab import simulate

    return simulate.COHORTS


def cards() -> pd.DataFrame:
    """What every set is that `medlab.load` knows, one row each, simulated ones first.

    Returns:
        Table with name, title, task, number of classes and of images, and licence; the card of a
        set says more (`medlab.datasets.card(name)`).
    """
    images = dict.fromkeys(simulated(), "any number")
    images |= {name: f"{sum(facts['samples']):,}" for name, facts in SETS.items()}
    images[HIPPOCAMPUS.name] = "260"
    about = list(map(card, images))
    return pd.DataFrame(
        {
            "name": list(images),
            "title": [c.title for c in about],
            "task": [c.task for c in about],
            "classes": [len(c.classes) for c in about],
            "images": list(images.values()),
            "licence": ["simulated" if c.simulated else c.licence for c in about],
        }
    )


def card(name: str, *, size: int = 28) -> DataCard:
    """The card of one set.

    Args:
        name: as `medlab.load` takes it.
        size: edge length in pixels of a MedMNIST set; it decides on url and hash.

    Raises:
        DataError: unknown name, or a size that is not published.
    """
    name = find(name)
    if name in SETS:
        return medmnist.card(name, size=size)
    return HIPPOCAMPUS if name == HIPPOCAMPUS.name else simulated()[name].card


def published(name: str) -> dict[str, Published]:
    """What others have scored on the test part of a set, as they printed it.

    >>> published("pneumoniamnist")["Google AutoML Vision"]
    Published(auc=0.991, accuracy=0.946)

    Args:
        name: as `medlab.load` takes it.

    Returns:
        Method -> (AUC, accuracy), shares from 0 to 1; empty where nothing was published.

    Source: Yang et al., Scientific Data 10:41 (2023), tables 3 and 4, doi
    10.1038/s41597-022-01721-8.
    """
    name = find(name)
    scores = SETS.get(name, {}).get("published", {})
    return {method: Published(*both) for method, both in scores.items()}


def find(name: str) -> str:
    """The registered spelling of a name.

    Raises:
        DataError: unknown; the message lists what there is.
    """
    known = [*simulated(), *SETS, HIPPOCAMPUS.name]
    spelt = str(name).strip().lower()
    if spelt not in known:
        raise DataError(
            f"there is no set {name!r}; there are {', '.join(known)}. For your own images use "
            "medlab.from_folder."
        )
    return spelt
