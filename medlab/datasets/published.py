"""Test scores that others have published on the MedMNIST sets, for comparison."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PUBLISHED", "Published"]


class Published(NamedTuple):
    """Test AUC and accuracy of one method, each a share from 0 to 1, as printed: three digits."""

    auc: float
    accuracy: float


# Set -> method -> figures.
# Yang et al., Scientific Data 10:41 (2023), table 3, doi 10.1038/s41597-022-01721-8.
PUBLISHED: dict[str, dict[str, Published]] = {
    "pneumoniamnist": {
        "ResNet-18, 28 px": Published(0.944, 0.854),
        "ResNet-50, 224 px": Published(0.962, 0.884),
        "auto-sklearn": Published(0.942, 0.855),
        "AutoKeras": Published(0.947, 0.878),
        "Google AutoML Vision": Published(0.991, 0.946),
    },
    "retinamnist": {"Google AutoML Vision": Published(0.750, 0.531)},
}
