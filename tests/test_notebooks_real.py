"""An untouched learner's copy, one word changed, on real images."""

from __future__ import annotations

import os

import nbformat
import pytest

from data_scripts.unpack import unpack
from notebooks import edition, execute
from tests.notebook_rules import output_text
from tests.where import NOTEBOOKS

# Number of a notebook → a real set for its DATASET line, where that lies in the data folder, and
# words that only it brings: of PneumoniaMNIST, the hash that its loader warns of.
PNEUMONIA = ("pneumoniamnist", "medmnist/pneumoniamnist.npz", "28209eda62fecd6e6a2d98b1501bb15f")
ADULTS = ("chest_xray_nih", "chest_xray_nih", "NIH ChestX-ray14")
REAL_PARTS = {"hippocampus": "hippocampus/imagesTr", "nuclei": "nuclei/images"}
REAL = {
    **dict.fromkeys(("00", "08", "09", "10", "11", "14", "16"), PNEUMONIA),
    **dict.fromkeys(("17", "18"), ("hippocampus", REAL_PARTS["hippocampus"], "posterior")),
    "19": ("nuclei", REAL_PARTS["nuclei"], "cell nuclei"),
    "20": ("lung_nodules", "lung_nodules", "patches to learn from"),
    **dict.fromkeys(("21", "21b"), ("lung_nodules", "lung_nodules", "Lung nodules: candidates")),
    "24": ("cardiac_cine", "cardiac_cine", "short-axis MRI of the heart"),
    "25": ("chest_xray_nih", "chest_xray_nih", "chest_xray_nih has no outlines"),
    "26": ADULTS,
    "28": ("chest_xray_nih", "chest_xray_nih", "This set names no sex and no age"),
    **dict.fromkeys(("27", "29", "30", "30b", "31"), PNEUMONIA),
}
# Part IV runs on both sets of radiographs; the long run tries the other one too.
OTHER = {
    **dict.fromkeys(("25", "26", "28"), PNEUMONIA),
    "27": ("chest_xray_nih", "chest_xray_nih", "no finding"),
    "29": ("chest_xray_nih", "chest_xray_nih", "743 images"),
    "30": ("chest_xray_nih", "chest_xray_nih", "chest_xray_nih names no hospitals"),
    "30b": ("chest_xray_nih", "chest_xray_nih", "355 patients"),
    "31": ("chest_xray_nih", "chest_xray_nih", "372 images of 296 patients"),
}
RUNS = [*REAL.items(), *(OTHER.items() if os.environ.get("MEDLAB_ROBUSTNESS") == "full" else ())]


def lay_out(source, root, name):
    """The real set `name` under `root`; of those in REAL_PARTS a third, for time."""
    folder = "medmnist" if name == "pneumoniamnist" else name
    if name not in REAL_PARTS:
        (root / folder).symlink_to(source / folder)
    else:
        kept = {path.name for path in sorted((source / REAL_PARTS[name]).iterdir())[::3]}
        for folder in filter(os.path.isdir, (source / name).iterdir()):
            (root / name / folder.name).mkdir(parents=True)
            for path in folder.iterdir():
                if path.name in kept:
                    (root / name / folder.name / path.name).symlink_to(path)


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("number, real", RUNS, ids=[f"{n}-{real[0]}" for n, real in RUNS])
def test_a_notebook_runs_unchanged_on_real_images(number, real, real_data, tmp_path):
    name, file, words = real
    if not (real_data / file).exists():
        pytest.skip(f"{real_data / file} does not exist")
    lay_out(real_data, tmp_path, name)
    [path] = [path for path in NOTEBOOKS if path.name.startswith(f"{number}_")]
    course = nbformat.read(path, as_version=4)
    stored = "".join(output_text(cell) for cell in course.cells if cell.cell_type == "code")
    notebook = edition.learners(course, solutions="none")
    # The file is a reassembly with a hash of its own, so the loader is told to warn, not refuse.
    settings = {"MEDLAB_DATASET": name, "MEDLAB_DATA": str(tmp_path), "MEDLAB_VERIFY": "0"}
    with execute.clean_environment(**settings):
        execute.run(notebook)  # raises with the cell's traceback if one fails
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    told = "".join(output_text(cell) for cell in code)
    assert told != stored, "nothing changed: was the real set used?"
    assert words in told, f"the outputs do not speak of {name}"


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.real
def test_deployment_runs_on_a_real_chest(real_data, tmp_path):
    archive = real_data / "dicom/chest_ct_series.tar.xz"
    if not archive.exists():
        pytest.skip(f"{archive} does not exist")
    unpack(archive, tmp_path / "study")
    [path] = [path for path in NOTEBOOKS if path.name.startswith("32_")]
    notebook = edition.learners(nbformat.read(path, as_version=4), solutions="none")
    with execute.clean_environment(MEDLAB_STUDY=str(tmp_path / "study")):
        execute.run(notebook)
    told = "".join(output_text(cell) for cell in notebook.cells if cell.cell_type == "code")
    assert "A:  95% on air" in told
    assert "Dice of right and left lung" not in told  # a real study has no known truth
