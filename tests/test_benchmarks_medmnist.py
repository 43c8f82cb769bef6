"""Published scores against the tables they come from, and against what a score can be."""

import pytest

from benchmarks.medmnist import PUBLISHED
from medlab.datasets.medmnist import SETS

FLAT = "ResNet-18, 28 px; ResNet-18, 224 px; ResNet-50, 28 px; ResNet-50, 224 px; auto-sklearn"
FLAT = [*FLAT.split("; "), "AutoKeras", "Google AutoML Vision"]
DEEP = [f"ResNet-{depth} + {kind}" for depth in (18, 50) for kind in ("2.5D", "3D", "ACS")]
DEEP = [*DEEP, "auto-sklearn", "AutoKeras"]
# Yang et al. (2023), tables 3 and 4, read off once more: set, one method, AUC, ACC.
TABLE = """
pathmnist ; ResNet-50, 28 px ; 0.990 ; 0.911
chestmnist ; Google AutoML Vision ; 0.778 ; 0.948
dermamnist ; AutoKeras ; 0.915 ; 0.749
octmnist ; ResNet-18, 28 px ; 0.943 ; 0.743
pneumoniamnist ; ResNet-18, 28 px ; 0.944 ; 0.854
pneumoniamnist ; ResNet-50, 224 px ; 0.962 ; 0.884
pneumoniamnist ; auto-sklearn ; 0.942 ; 0.855
pneumoniamnist ; AutoKeras ; 0.947 ; 0.878
pneumoniamnist ; Google AutoML Vision ; 0.991 ; 0.946
retinamnist ; Google AutoML Vision ; 0.750 ; 0.531
breastmnist ; ResNet-18, 28 px ; 0.901 ; 0.863
bloodmnist ; ResNet-18, 224 px ; 0.998 ; 0.963
tissuemnist ; AutoKeras ; 0.941 ; 0.703
organamnist ; ResNet-50, 224 px ; 0.998 ; 0.947
organcmnist ; auto-sklearn ; 0.976 ; 0.829
organsmnist ; ResNet-18, 28 px ; 0.972 ; 0.782
organmnist3d ; ResNet-18 + 3D ; 0.996 ; 0.907
nodulemnist3d ; auto-sklearn ; 0.914 ; 0.874
fracturemnist3d ; ResNet-50 + ACS ; 0.750 ; 0.517
adrenalmnist3d ; ResNet-18 + 2.5D ; 0.718 ; 0.772
vesselmnist3d ; ResNet-18 + ACS ; 0.930 ; 0.928
synapsemnist3d ; AutoKeras ; 0.538 ; 0.724
"""


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_a_row_of_the_table_is_found(row):
    name, method, auc, accuracy = (part.strip() for part in row.split(" ; "))
    assert PUBLISHED[name][method] == [float(auc), float(accuracy)]


def test_every_set_has_every_method_and_scores_that_can_be():
    assert list(PUBLISHED) == list(SETS)
    for name, scores in PUBLISHED.items():
        assert list(scores) == (DEEP if SETS[name]["volume"] else FLAT)
        for score in scores.values():
            assert all(0.3 < share < 1 and round(share, 3) == share for share in score)
