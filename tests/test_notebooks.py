"""Every notebook of the course keeps to the rules of tests/notebook_rules.py."""

from __future__ import annotations

import pytest

from tests.notebook_rules import RULES, Page
from tests.where import NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES)
def test_notebook_keeps_the_rule(path, rule):
    found = RULES[rule](Page.read(path))
    assert not found, f"{path.name}:\n" + "\n".join(found)


def test_notebooks_are_numbered_without_a_gap():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{k:02d}_" for k in range(len(NOTEBOOKS))]
    assert NOTEBOOKS, "no notebook found"
