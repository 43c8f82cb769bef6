"""The README promises nothing that the tree does not keep."""

import base64
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_relative_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_picture_is_the_one_that_notebook_00_stored():
    notebook = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    (cell,) = [cell for cell in notebook["cells"] if cell["id"] == "heat"]
    (picture,) = [out["data"]["image/png"] for out in cell["outputs"] if "image/png" in out["data"]]
    shown = (ROOT / "notebooks" / "overview.png").read_bytes()
    assert shown == base64.b64decode(picture), "store it again: python notebooks/execute.py 00"


def test_the_table_lists_what_is_there_and_nothing_else():
    rows = re.findall(r"^\| \d\d \| \[.+?\]\(notebooks/(.+?)\) \|", README, re.MULTILINE)
    assert rows == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("word", ["lab", "test", "bench", "robustness", "test-browser"])
def test_every_make_target_it_names_exists(word):
    assert f"make {word}" in README
    assert re.search(rf"^{word}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_example_uses_names_that_exist():
    import medlab

    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for dotted in set(re.findall(r"medlab(?:\.\w+)+", README)):
        value = medlab
        for name in dotted.split(".")[1:]:
            value = getattr(value, name)
    compile(block, "README", "exec")
