"""Published scores against the table they come from, and against what a score can be."""

import pytest

from medlab import datasets
from medlab.datasets.published import PUBLISHED

# Yang et al. (2023), table 3: set, method, AUC, ACC.
TABLE = """
pneumoniamnist ; ResNet-18, 28 px ; 0.944 ; 0.854
pneumoniamnist ; ResNet-50, 224 px ; 0.962 ; 0.884
pneumoniamnist ; auto-sklearn ; 0.942 ; 0.855
pneumoniamnist ; AutoKeras ; 0.947 ; 0.878
pneumoniamnist ; Google AutoML Vision ; 0.991 ; 0.946
retinamnist ; Google AutoML Vision ; 0.750 ; 0.531
"""


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_a_row_of_the_table_is_found(row):
    name, method, auc, accuracy = (part.strip() for part in row.split(" ; "))
    found = PUBLISHED[name][method]
    assert (found.auc, found.accuracy) == (float(auc), float(accuracy))


def test_nothing_else_is_claimed_and_every_set_can_be_loaded():
    rows = [row.split(" ; ")[:2] for row in TABLE.strip().splitlines()]
    assert [[name, method] for name, methods in PUBLISHED.items() for method in methods] == rows
    for name in PUBLISHED:
        assert datasets.card(name).name == name
