"""Every notebook of the course keeps to the rules of tests/notebook_rules.py."""

from __future__ import annotations

import re

import pytest

from tests.notebook_rules import RULES, Page
from tests.where import NOTEBOOKS

PRIMER = "primer.ipynb"  # the one without a number


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES)
def test_notebook_keeps_the_rule(path, rule):
    found = RULES[rule](Page.read(path))
    assert not found, f"{path.name}:\n" + "\n".join(found)


def test_notebooks_are_numbered_once():
    numbers = [path.name.partition("_")[0] for path in NOTEBOOKS if path.name != PRIMER]
    assert len(numbers) == len(NOTEBOOKS) - 1, f"{PRIMER}, which comes before 00, is missing"
    assert numbers == sorted(set(numbers)) and numbers[0] == "00"
    assert all(re.fullmatch(r"[0-3]\db?", number) for number in numbers)
