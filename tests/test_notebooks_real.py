"""An untouched learner's copy, one word changed, on real images."""

from __future__ import annotations

import nbformat
import pytest

from notebooks import edition, execute
from tests.notebook_rules import output_text
from tests.where import NOTEBOOKS

# Number of a notebook → a real set for its DATASET line, where that lies in the data folder, and
# words that only it brings: of PneumoniaMNIST, the hash that its loader warns of.
PNEUMONIA = ("pneumoniamnist", "medmnist/pneumoniamnist.npz", "28209eda62fecd6e6a2d98b1501bb15f")
REAL = {
    **dict.fromkeys(("00", "08", "09", "11", "14", "16"), PNEUMONIA),
    "17": ("hippocampus", "hippocampus/imagesTr", "posterior"),
    "18": ("hippocampus", "hippocampus/imagesTr", "posterior"),
    "19": ("nuclei", "nuclei/images", "cell nuclei"),
    "20": ("lung_nodules", "lung_nodules", "patches to learn from"),
    "21": ("lung_nodules", "lung_nodules", "Lung nodules: candidates"),
}


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("number", REAL)
def test_a_notebook_runs_unchanged_on_real_images(number, real_data):
    name, file, words = REAL[number]
    if not (real_data / file).exists():
        pytest.skip(f"{real_data / file} does not exist")
    [path] = [path for path in NOTEBOOKS if path.name.startswith(number)]
    course = nbformat.read(path, as_version=4)
    stored = "".join(output_text(cell) for cell in course.cells if cell.cell_type == "code")
    notebook = edition.learners(course, solutions="none")
    # The file is a reassembly with a hash of its own, so the loader is told to warn, not refuse.
    settings = {"MEDLAB_DATASET": name, "MEDLAB_DATA": str(real_data), "MEDLAB_VERIFY": "0"}
    with execute.clean_environment(**settings):
        execute.run(notebook)  # raises with the cell's traceback if one fails
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    told = "".join(output_text(cell) for cell in code)
    assert told != stored, "nothing changed: was the real set used?"
    assert words in told, f"the outputs do not speak of {name}"
