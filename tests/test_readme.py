"""The README promises nothing that the tree does not keep."""

import base64
import csv
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
FIGURE = re.compile(r"0\.\d{3}")
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


ROW = r"^\| (?:\d\db? )?\| \[.+?\]"  # the primer has no number


def test_the_table_lists_what_is_there_and_nothing_else():
    rows = re.findall(rf"{ROW}\(notebooks/(.+?)\) \|", README, re.MULTILINE)
    numbered = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert rows == ["primer.ipynb", *numbered]


def test_the_table_says_what_each_notebook_says_of_its_time():
    time = r"\| (\d+(?: \+ \d+)?) min"
    rows = re.findall(rf"{ROW}\((.+?)\) \|.*?{time}", README, re.MULTILINE)
    own = {}
    for name, _ in rows:
        (head, *_) = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
        table = "".join(head["source"])
        said = re.search(r"^\|(?: about)? (\d+(?: and \d+)?) min", table, re.MULTILINE)[1]
        own[name] = said.replace(" and ", " + ")
    assert dict(rows) == own


@pytest.mark.parametrize("word", ["lab", "test", "bench", "robustness", "test-browser"])
def test_every_make_target_it_names_exists(word):
    assert f"make {word}" in README
    assert re.search(rf"^{word}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_example_uses_names_that_exist():
    import medlab

    block, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for dotted in set(re.findall(r"medlab(?:\.\w+)+", README)):
        value = medlab
        for name in dotted.split(".")[1:]:
            value = getattr(value, name)
    compile(block, "README", "exec")


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """What a reader of "Your own data" has: pictures, tables, annotations, arrays and volumes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")
    rng = np.random.default_rng(0)

    def picture(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60), dtype=np.uint8)).save(path)

    rows = []
    for i in range(12):
        picture(f"scans/{i}.png")
        rows.append({"file": f"{i}.png", "patient": i // 2, "diagnosis": ["fit", "ill"][i % 2]})
    with open("labels.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for kind in ("benign", "malignant", "normal"):
        picture(f"sorted/train/{kind}/p_{kind}_1.png")
        if kind != "malignant":
            picture(f"sorted/test/{kind}/p_{kind}_2.png")
    np.savez(
        "cells.npz",
        images=rng.integers(0, 256, (6, 28, 28, 3), dtype=np.uint8),
        labels=np.arange(6)[:, None] % 2,
        patient=np.arange(6),
    )
    for part, top, dtype in (("imagesTr", 900, np.float32), ("labelsTr", 3, np.uint8)):
        folder = Path("Task04_Hippocampus") / part
        folder.mkdir(parents=True)
        for k in range(3):
            values = rng.integers(0, top, (10 + k, 12, 9)).astype(dtype)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"{k}.nii.gz")


def test_your_own_data_runs(own_data):
    (section,) = re.findall(r"### Your own data\n(.*?)\n##", README, re.DOTALL)
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = {}
    for block in blocks:
        exec(compile(block, "README, Your own data", "exec"), names)
    assert names["cohort"].images.shape == (12, 1, 64, 64)
    assert names["cells"].images.shape == (6, 3, 28, 28)
    assert names["volumes"].num_classes == 3
    assert len(blocks) == 4


def test_what_was_measured_is_printed_from_the_cards():
    from benchmarks.medmnist import PUBLISHED
    from medlab import datasets

    (section,) = re.findall(r"### Measured\n(.*?)\n##", README, re.DOTALL)
    published = [both for rows in PUBLISHED.values() for both in rows.values()]
    known = {f"{score:.3f}" for both in published for score in both}
    for name in datasets.cards()["name"]:
        known |= {figure for row in datasets.card(name).measured for figure in FIGURE.findall(row)}
    said = set(FIGURE.findall(section))
    assert {"0.985", "0.895"} <= said
    assert said - known == set(), "no card holds it"
